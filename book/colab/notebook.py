"""The copy of a whole notebook: its cells, and the files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from .address import ROOT, Book
from .parse import Unknown
from .render import Copy

PLOTLY = "application/vnd.plotly.v1+json"
# The tags of cells that are shown with their code, and of those that are folded.
SHOWN = {"remove-cell", "hide-output", "remove-output", "raises-exception"}
SHOWN |= {"nbval-ignore-output", "nbval-skip"}
FOLDED = {"hide-input", "hide-cell", "remove-input"}
# a widget that a page without a kernel cannot show, and a notebook can
HASHED = re.compile(r"^# (\w+)  # take the first hash away: ", re.MULTILINE)
METADATA = {
    "colab": {"provenance": []},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def title_of(cell: Any, solution: str) -> str | None:
    """What stands for the code of a folded cell; None if the code is shown."""
    tags = set(cell.metadata.get("tags", []))
    if unknown := tags - SHOWN - FOLDED:
        raise Unknown(f"the cell tags {sorted(unknown)}")
    if solution:
        return f"{solution}: code"
    if not tags & FOLDED:
        return None
    drawn = any(PLOTLY in output.get("data", {}) for output in cell.get("outputs", []))
    return "Figure" if drawn else "Setup" if "hide-cell" in tags else "Result"


def code(cell: Any, title: str | None, addresses: tuple[str, str]) -> Any:
    """A code cell without outputs, with the second address for the first; folded under
    `title`, which Colab shows in its place."""
    source = HASHED.sub(r"\1  # ", cell.source.replace(*addresses))
    if title is None:
        return nbformat.v4.new_code_cell(source, id=cell.id)
    if source.startswith("%%"):
        raise Unknown(
            "a folded cell that starts with a cell magic: Colab's title has to be the "
            "first line"
        )
    source = f"#@title {title}\n{source}"
    return nbformat.v4.new_code_cell(source, metadata={"cellView": "form"}, id=cell.id)


def convert(notebook: Any, page: str, book: Book) -> Any:
    """The copy of a page's notebook. Nothing is read but the arguments, and none of them
    changes.

    Outputs are dropped. Colab does not draw the figures as they are stored, each of them is
    large, and a reader who opens a chapter there has come to run it.
    """
    copy = Copy(book, page)
    title = copy.plain(book.place("page", page).text)
    note = (
        f"*This is the notebook of [{title}]({book.site(page)}), a page of "
        f"[{book.title}]({book.site()}). The page has all figures drawn. Here nothing is "
        "drawn until you run it: **Runtime → Run all**. Where only the title of a cell is "
        "shown, a double click on the title shows its code.*"
    )
    cells = [nbformat.v4.new_markdown_cell(note, id="about-this-copy")]
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    installed = re.search(r"%pip install .*git\+(https://\S+)", first)
    if not installed or not first.startswith("try:\n    import lrdlib\n"):
        raise Unknown(
            f"{page}: the first code cell has to install lrdlib where it is missing"
        )
    addresses = installed[1], book.repository
    for index, cell in enumerate(notebook.cells):
        try:
            if cell.cell_type == "code":
                cells.append(code(cell, title_of(cell, copy.solution), addresses))
            elif text := copy.cell(cell.source):
                cells.append(nbformat.v4.new_markdown_cell(text, id=cell.id))
        except Unknown as error:
            raise Unknown(f"{page}, cell {index}: {error}") from error
    if copy.solution or copy.exercise:
        raise Unknown(f"{page}: {copy.solution or copy.exercise} does not end")
    made = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
    nbformat.validate(made)
    return made


def notebooks(book: Book, root: Path = ROOT) -> Iterator[tuple[str, Path]]:
    """The pages that are notebooks, and so have a copy."""
    for page in book.pages:
        if (path := root / book.folder / f"{page}.ipynb").exists():
            yield page, path


def write(book: Book, folder: Path, root: Path = ROOT) -> list[Path]:
    """Every copy into `folder`; returns the files. Raises Unknown, and writes none, if one
    cannot be made."""
    made, wrong = {}, []
    for page, path in notebooks(book, root):
        try:
            made[folder / path.name] = convert(
                nbformat.read(path, as_version=4), page, book
            )
        except Unknown as error:
            wrong.append(str(error))
    if wrong:
        raise Unknown("\n".join(wrong))
    folder.mkdir(parents=True, exist_ok=True)
    for path, notebook in made.items():
        nbformat.write(notebook, path)
    return list(made)
