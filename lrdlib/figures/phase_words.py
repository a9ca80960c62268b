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
    lines = [f"<b>{grid.label(p, place)}</b>", *_strength_lines(grid, cell)]
    if len(cell.configs) > 1:
        lines.append(f"{len(cell.recorded)} of {len(cell.configs)} seeds recorded")
    names = [metric]
    for name in METRICS:
        if name != metric and all(name in run.history for run in cell.recorded):
            names.append(name)
    found = {name: {one.seed: one for one in cell.outcomes(name, above)} for name in names}
    for seed in (config.seed for config in cell.configs):
        if seed in found[metric]:
            numbers = [
                f"{SHORT[name]} {_number(of[seed].best)}, {_number(of[seed].final)}"
                for name, of in found.items()
            ]
            lines.append(f"seed {seed}: {when(found[metric][seed], above)}")
            lines.append(f"   best, last: {'; '.join(numbers)}")
        else:
            lines.append(f"seed {seed}: not recorded yet")
    return "<br>".join(lines)


def _strength_lines(grid: Grid, cell: Cell) -> list[str]:
    """What the axis does not say of a cell's strength, if there is anything: lambda, or the
    effective one, and a second strength."""
    config = cell.configs[0]
    effective = effective_strength(config)
    second = f", L2 {config.l2:.4g}" if config.l2 else ""
    if grid.axis == "effective":
        return [f"λ = {cell.strength:.4g}{second}"]
    if effective == cell.strength:
        return []
    return [f"effective strength {effective:.3g}{second}"]


def _number(value: float) -> str:
    """Three digits, or none for a run that diverged, or of which there is nothing to
    test."""
    return f"{value:.3g}" if isfinite(value) else "none"


def when(one: Outcome, above: float) -> str:
    """When a run succeeds."""
    if one.diverged:
        return "diverged"
    if one.step is None:
        return f"never above {above:g}"
    return f"first above {above:g} at step {one.step}"


def outcomes_text(cell: Cell, metric: str, above: float) -> str:
    """The outcomes of a cell in one sentence."""
    texts = [
        f"seed {one.seed} {when(one, above)}, best {_number(one.best)}"
        for one in cell.outcomes(metric, above)
    ]
    return "; ".join(texts) or "not recorded yet"


def axes_text(grid: Grid) -> str:
    """What is across and what is up."""
    across, up = (
        f"fraction ({span(grid.columns)})",
        f"{ROWS[grid.axis]} ({span(grid.rows)})",
    )
    return f"by {across} and {up}, one panel per rule"


def counts_text(grid: Grid, metric: str, above: float) -> str:
    """Of each panel: what is recorded, where most seeds succeed, and the smallest such
    fraction."""
    texts = []
    for panel, cells in zip(grid.panels, grid.cells, strict=True):
        there = [cell for cell in cells.values() if cell.recorded]
        agreements = [(cell, *cell.agreement(metric, above)) for cell in there]
        won = [cell for cell, successes, of in agreements if 2 * successes > of]
        text = f"{panel.name}: {len(there)} of {len(cells)} cells recorded"
        if there:
            text += f", most seeds succeed in {len(won)}"
        if won:
            least = min(won, key=lambda cell: cell.fraction)
            text += (
                f", at the smallest fraction {least.fraction:g} (λ = {least.strength:g})"
            )
        texts.append(text)
    return f"{'; '.join(texts)}."


def frontier_text(one: Frontier) -> str:
    """Where a frontier is, or between what it is, with its interval over seeds."""
    seeds = len(one.by_seed)
    if not seeds:
        return "not recorded yet"
    text = fraction_text(one.low)
    if not one.settled:
        text += f" to {fraction_text(one.high)}"
    if one.interval is None:
        text += " (one seed: no interval)"
    else:
        low, high = map(fraction_text, one.interval)
        wider = "" if one.complete else ", wider for missing runs"
        text += f" (bootstrap over {seeds} seeds {low} to {high}{wider})"
    recorded, wanted = one.cells
    if not one.settled and recorded < wanted:
        text += f", as {wanted - recorded} of {wanted} cells have no run"
    return text


def fraction_text(fraction: float) -> str:
    """A fraction, or that there is none.

    >>> fraction_text(0.35), fraction_text(float("inf"))
    ('0.35', 'never')
    """
    return "never" if fraction == float("inf") else f"{fraction:g}"


def wrapped(command: str) -> str:
    """A command on the lines of a hover label."""
    wrapper = textwrap.TextWrapper(72, break_long_words=False, break_on_hyphens=False)
    return "<br>".join(wrapper.wrap(command))


def span(values: Sequence[Any]) -> str:
    """From the first to the last."""
    return f"{values[0]} to {values[-1]}" if len(values) > 1 else str(values[0])
