"""Phase diagrams in words: what a cell says when pointed at, and the text alternatives of
the figures."""

import textwrap
from collections.abc import Sequence
from math import isfinite
from typing import Any

from lrdlib.evidence.phase import Cell, Frontier, Outcome, effective_strength
from lrdlib.figures.phase_layout import ROWS, Grid, Place
from lrdlib.training.runs import GROKKED

METRICS = {"test_accuracy": "test accuracy", "orbit_clean_accuracy": "orbit-clean accuracy"}
SHORT = {"test_accuracy": "test", "orbit_clean_accuracy": "orbit-clean"}


def hover(
    grid: Grid, p: int, place: Place, cell: Cell, metric: str, above: float = GROKKED
) -> str:
    """All about a cell: its seeds, when each succeeds, and its best and last accuracy on
    both sets of pairs."""
    lines = [f"<b>{grid.label(p, place)}</b>", *_second(grid, cell)]
    lines += (
        [f"{len(cell.recorded)} of {len(cell.configs)} seeds recorded"]
        if len(cell.configs) > 1
        else []
    )
    names = [metric] + [
        n for n in METRICS if n != metric and all(n in run.history for run in cell.recorded)
    ]
    found = {name: {one.seed: one for one in cell.outcomes(name, above)} for name in names}
    for seed in (config.seed for config in cell.configs):
        if seed in found[metric]:
            numbers = [
                f"{SHORT[n]} {_number(of[seed].best)}, {_number(of[seed].final)}"
                for n, of in found.items()
            ]
            lines.append(f"seed {seed}: {when(found[metric][seed], above)}")
            lines.append(f"   best, last: {'; '.join(numbers)}")
        else:
            lines.append(f"seed {seed}: not recorded yet")
    return "<br>".join(lines)


def _second(grid: Grid, cell: Cell) -> list[str]:
    """What the axis does not say of a cell's strength: lambda, or the effective one, and a
    second strength."""
    config = cell.configs[0]
    effective = effective_strength(config)
    parts = (
        [f"λ = {cell.strength:.4g}"]
        if grid.axis == "effective"
        else [f"effective strength {effective:.3g}"]
    )
    parts += [f"L2 {config.l2:.4g}"] if config.l2 else []
    return (
        []
        if grid.axis != "effective" and effective == cell.strength
        else [", ".join(parts)]
    )


def _number(value: float) -> str:
    """Three digits, or none for a run that diverged, or of which there is nothing to
    test."""
    return f"{value:.3g}" if isfinite(value) else "none"


def when(one: Outcome, above: float) -> str:
    """When a run succeeds."""
    if one.diverged:
        return "diverged"
    return (
        f"first above {above:g} at step {one.step}"
        if one.step is not None
        else f"never above {above:g}"
    )


def outcomes_text(cell: Cell, metric: str, above: float) -> str:
    """The outcomes of a cell in one sentence."""
    found = cell.outcomes(metric, above)
    return (
        "; ".join(f"seed {o.seed} {when(o, above)}, best {_number(o.best)}" for o in found)
        or "not recorded yet"
    )


def axes_text(grid: Grid) -> str:
    """What is across and what is up."""
    return f"by fraction ({span(grid.columns)}) and {ROWS[grid.axis]} ({span(grid.rows)}), one panel per rule"


def counts_text(grid: Grid, metric: str, above: float) -> str:
    """Of each panel: what is recorded, where most seeds succeed, and the smallest such
    fraction."""
    texts = []
    for panel, cells in zip(grid.panels, grid.cells, strict=True):
        there = [cell for cell in cells.values() if cell.recorded]
        won = [
            cell
            for cell in there
            if 2 * cell.agreement(metric, above)[0] > len(cell.recorded)
        ]
        text = f"{panel.name}: {len(there)} of {len(cells)} cells recorded"
        if there:
            least = min(won, key=lambda cell: cell.fraction, default=None)
            best = (
                f", at the smallest fraction {least.fraction:g} (λ = {least.strength:g})"
                if least
                else ""
            )
            text += f", most seeds succeed in {len(won)}{best}"
        texts.append(text)
    return f"{'; '.join(texts)}."


def frontier_text(one: Frontier) -> str:
    """Where a frontier is, or between what it is, with its interval over seeds."""
    seeds = len(one.by_seed)
    if not seeds:
        return "not recorded yet"
    text = (
        fraction_text(one.low)
        if one.settled
        else f"{fraction_text(one.low)} to {fraction_text(one.high)}"
    )
    low, high = one.interval or (one.low, one.high)
    if one.interval is None:
        text += " (one seed: no interval)"
    else:
        wider = "" if one.complete else ", wider for missing runs"
        text += f" (bootstrap over {seeds} seeds {fraction_text(low)} to {fraction_text(high)}{wider})"
    missing = one.cells[1] - one.cells[0]
    return (
        text
        if one.settled or not missing
        else f"{text}, as {missing} of {one.cells[1]} cells have no run"
    )


def fraction_text(fraction: float) -> str:
    """A fraction, or that there is none.

    >>> fraction_text(0.35), fraction_text(float("inf"))
    ('0.35', 'never')
    """
    return "never" if fraction == float("inf") else f"{fraction:g}"


def wrapped(command: str) -> str:
    """A command on the lines of a hover label."""
    return "<br>".join(
        textwrap.wrap(command, 72, break_long_words=False, break_on_hyphens=False)
    )


def span(values: Sequence[Any]) -> str:
    """From the first to the last."""
    return f"{values[0]} to {values[-1]}" if len(values) > 1 else str(values[0])
