"""How frontiers are drawn: for each rule the smallest fraction at which it succeeds, by
strength."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from lrdlib.evidence.phase import Frontier, Panel
from lrdlib.figures.canvas import GRID, INK, PALETTE, axes
from lrdlib.figures.phase_layout import ROWS, Grid
from lrdlib.figures.phase_words import fraction_text, frontier_text

FRONTIER = "smallest fraction that succeeds"
SEED: dict[str, Any] = {"size": 5, "opacity": 0.55}  # the mark of one seed


def panels_by_facet(panels: Sequence[Panel]) -> dict[str, list[int]]:
    """Which panels are drawn into one facet: all, or if they are more than the colours,
    those of one setting."""
    if len(panels) <= len(PALETTE):
        return {"": list(range(len(panels)))}
    facets: dict[str, list[int]] = {}
    for p, panel in enumerate(panels):
        facets.setdefault(panel.setting, []).append(p)
    return facets


def draw_axes(fig: go.Figure, grid: Grid, f: int, *, left: bool) -> None:
    """The axes of facet f: strengths and "best" across, one unit each; fractions and "never"
    up."""
    rows, columns, never = grid.rows, grid.columns, _height_of_never(grid)
    axes(fig, ROWS[grid.axis], FRONTIER if left else "", row=f + 1)
    fig.update_xaxes(
        tickvals=list(range(len(rows) + 1)),
        ticktext=[*rows, "best"],
        tickangle=0,
        tickfont_size=11,
        range=[-0.6, len(rows) + 0.6],
        showgrid=False,
        row=f + 1,
    )
    ticks = columns[:: -(-len(columns) // 12)]
    around = (never - columns[0]) * 0.06
    fig.update_yaxes(
        tickvals=[*ticks, never],
        ticktext=[*(f"{fraction:g}" for fraction in ticks), "never"],
        showticklabels=left,
        range=[columns[0] - around, never + around],
        row=f + 1,
    )
    fig.add_vline(len(rows) - 0.5, line={"color": GRID, "width": 1}, row=f + 1, col=1)


def draw_frontier(
    fig: go.Figure,
    grid: Grid,
    f: int,
    p: int,
    frontiers: Sequence[Frontier],
    name: str,
    colour: str,
    dodge: float,
) -> None:
    """The frontiers of panel p in facet f: bounds dotted, single seeds as small dots, then
    the frontier with its intervals; nothing unrecorded.

    dodge: how far to the right of its strength, so that rules do not hide each other.
    """
    never = _height_of_never(grid)
    rows: dict[float | None, int] = {
        cell.strength: row for (row, _), cell in grid.cells[p].items()
    }
    known = [
        (rows.get(one.strength, len(grid.rows)) + dodge, one)
        for one in frontiers
        if one.by_seed
    ]
    group: dict[str, Any] = {"legendgroup": name, "row": f + 1, "col": 1}
    still = group | {"hoverinfo": "skip", "showlegend": False}
    thin = {"color": colour, "width": 1.25}

    def at(points: Sequence[tuple[float, float | None]]) -> dict[str, list]:
        """x and y, with inf where "never" is, and None as a gap."""
        heights = [None if y is None else min(y, never) for _, y in points]
        return {"x": [x for x, _ in points], "y": heights}

    bounds = [
        (x, end) for x, one in known if not one.settled for end in (one.low, one.high, None)
    ]
    dotted = {"color": colour, "dash": "dot"}
    fig.add_scatter(**at(bounds), mode="lines", line=dotted, **still)

    single = [
        (x + 0.06, high)
        for x, one in known
        if len(one.by_seed) > 1
        for low, high in one.by_seed.values()
        if low == high
    ]
    dots = SEED | {"color": colour}
    fig.add_scatter(**at(single), mode="markers", marker=dots, **still)

    joined = [(x, one.high) for x, one in known if one.settled and one.strength is not None]
    fig.add_scatter(**at(joined), mode="lines", line=thin, **still)

    for complete in (True, False):
        bars = [
            (x, min(one.high, never), one.interval)
            for x, one in known
            if one.complete == complete and one.interval
        ]
        error: dict[str, Any] = {"type": "data", "symmetric": False, "color": colour}
        error |= {
            "width": 4,
            "thickness": 1.5,
            "array": [max(min(high, never) - y, 0) for _, y, (_, high) in bars],
            "arrayminus": [max(y - min(low, never), 0) for _, y, (low, _) in bars],
        }
        fig.add_scatter(
            **at([(x, y) for x, y, _ in bars]),
            mode="markers",
            marker={"size": 1, "color": colour},
            error_y=error,
            opacity=1 if complete else 0.4,
            **still,
        )

    symbols = ["circle" if one.settled else "circle-open" for _, one in known]
    border = {"width": 2, "color": colour}
    fig.add_scatter(
        **at([(x, one.high) for x, one in known]),
        mode="markers",
        marker={"size": 9, "color": colour, "symbol": symbols, "line": border},
        name=name,
        showlegend=False,
        hovertext=[_hover(grid, p, x, one) for x, one in known],
        hovertemplate="%{hovertext}<extra></extra>",
        **group,
    )
    if f == 0:
        key = {"mode": "lines+markers", "line": thin, "hoverinfo": "skip"}
        mark = {"size": 8, "color": colour}
        fig.add_scatter(x=[None], y=[None], name=name, marker=mark, **key, **group)


def draw_legend(fig: go.Figure) -> None:
    """What a hollow mark and a small dot mean."""
    hollow: dict[str, Any] = {"symbol": "circle-open", "size": 9, "line": {"width": 2}}
    for name, mark in (("cells missing: upper bound", hollow), ("one seed", SEED)):
        key = {"name": name, "mode": "markers", "marker": {"color": INK} | mark}
        fig.add_scatter(x=[None], y=[None], **key, hoverinfo="skip", row=1, col=1)


def _height_of_never(grid: Grid) -> float:
    """Where "at no fraction" is drawn: above them all."""
    return grid.columns[-1] + (grid.columns[-1] - grid.columns[0] or 0.1) / 10


def _hover(grid: Grid, p: int, x: float, one: Frontier) -> str:
    """What a frontier says when pointed at: of which rule, where from, and seed by seed."""
    strength = f"{grid.prefix}{grid.rows[round(x)]}" if one.strength is not None else ""
    lines = [
        f"<b>{grid.panels[p].name}, {strength or 'best strength per fraction'}</b>",
        f"succeeds from {frontier_text(one)}",
    ]
    for seed, (low, high) in one.by_seed.items():
        upper = "" if low == high else f" to {fraction_text(high)}"
        lines.append(f"seed {seed}: {fraction_text(low)}{upper}")
    return "<br>".join(lines)
