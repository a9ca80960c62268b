"""How numbers and tables are written: in figures, on pages, in the terminal."""

import math
from collections.abc import Iterable, Sequence

from lrdlib._check import shown


def four_digits(value: float) -> float | None:
    """A number to 4 significant digits, so that a file stays small; None if it is not
    finite, which JSON has no word for and a figure leaves out.

    >>> four_digits(0.123456), four_digits(float("nan"))
    (0.1235, None)
    """
    return float(f"{value:.4g}") if math.isfinite(value) else None


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""A table in Markdown, without a line's end at its end; a | in a text is no border.

    Raises ValueError for a row that has not as many cells as the head.

    >>> print(markdown_table(["n", "size"], [["1", "|x|"]]))
    | n | size |
    | --- | --- |
    | 1 | \|x\| |
    """
    lines = [head, ["---"] * len(head), *rows]
    for cells in lines:
        if len(cells) != len(head):
            raise ValueError(
                f"rows must have {len(head)} cells each, got {len(cells)} in {shown(cells)}"
            )
    escaped = ([cell.replace("|", "\\|") for cell in cells] for cells in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)
