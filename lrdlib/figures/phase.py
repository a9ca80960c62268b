"""Phase diagrams: runs and the grid that they are of in, plotly figure out. Never trains,
never reads a file.

A cell without a run is an empty outline; one with only some of its seeds says so. What the
figures show is counted by lrdlib.evidence.phase. Their layout for a phone travels in
layout.meta["narrow"], which the book's scripts use; without the scripts there is
`narrow=True`. A click on a cell is answered by lrdlib/figures/static/phase.js, in the book
and on a page of lrdlib.figures.page.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lrdlib._check import check_bool, check_choice, check_integer, check_real, shown
from lrdlib.evidence.phase import Cell, Outcome, four_digits, frontiers
from lrdlib.figures.canvas import (
    GRID,
    INK,
    PALETTE,
    RULE_COLOURS,
    axes,
    canvas,
    rule_colours,
)
from lrdlib.figures.draw import numbers
from lrdlib.figures.phase_frontiers import (
    FRONTIER,
    draw_axes,
    draw_frontier,
    draw_legend,
    panels_by_facet,
)
from lrdlib.figures.phase_layout import (
    COLUMNS,
    ROWS,
    Grid,
    Place,
    draw_empty,
    draw_frame,
    draw_heat,
    draw_texts,
    empty_panels,
    finish,
    grid_of,
    headline,
    ink_on,
    nth,
    placed,
    side_by_side,
    stacked,
)
from lrdlib.figures.phase_words import (
    METRICS,
    axes_text,
    counts_text,
    frontier_text,
    hover,
    outcomes_text,
    wrapped,
)
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import GROKKED, NAMES, Run

RECORDED = "rgba(128, 128, 128, 0.3)"  # a cell with a run but without a number to colour it
SELECTED = PALETTE[3]
VALUES = ("best", "final", "step")
CURVES: dict[str, dict[str, Any]] = {  # what is drawn of a run, and how
    "test_accuracy": {"width": 1.25, "dash": "dash"},
    "orbit_clean_accuracy": {"width": 2.25},
    "train_accuracy": {"width": 1.25, "dash": "dot"},
    "qk_stable_rank": {"width": 2.25},
}
STYLES = {
    "orbit-clean": "orbit_clean_accuracy",
    "test": "test_accuracy",
    "train": "train_accuracy",
}
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
# Records of a run; fewer where there are many runs, so that the figure stays below half a
# megabyte.
MAX_RECORDS = 61

Command = Callable[[dict[str, Any]], str | None]


def phase_figure(
    runs: Iterable[Run],
    wanted: Iterable[TrainConfig],
    *,
    metric: str = "test_accuracy",
    above: float = GROKKED,
    value: str = "best",
    axis: str = "weight_decay",
    selected: Mapping[str, Any] | None = None,
    command: Command | None = None,
    narrow: bool = False,
) -> go.Figure:
    """The paper's figure 1: fraction across, strength up, one panel per rule, and the
    curves of one cell below.

    Colour is the mean over recorded seeds of the best value of `metric` ("best"), of the
    last ("final"), or, over the seeds that succeed, of the first step above `above`
    ("step"); `value` is where the menu of these starts. A dot is a cell all of whose
    recorded seeds succeed, a ring one where some do, a cross one where all diverged; 1/3
    says that one of three wanted seeds is recorded, an empty outline that none is.

    axis: "weight_decay", or "effective" for strengths that compare between rules. selected:
    fields of a config, such as {"rule": "lrd", "fraction": 0.5}; the curves are those of
    the first cell that has them (default: a success at the smallest fraction). command:
    what would remake a cell, from the config of its first seed. narrow: one panel per row.
    Raises as `panels`; ValueError for an unknown metric, value, axis or selection, or an
    `above` that is not finite; TypeError for an argument of another kind.
    """
    check_choice("value", value, VALUES)
    _check_view(metric, above, narrow)
    if command is not None and not callable(command):
        raise TypeError(f"command must be a function, got {shown(command)}")
    grid = grid_of(runs, wanted, axis)
    recorded = (
        run for panel in grid.panels for cell in panel.cells for run in cell.recorded
    )
    for run in recorded:
        if not CURVES.keys() <= run.history.keys():
            raise ValueError(
                f"runs must hold the histories {', '.join(CURVES)}, got a Run with "
                f"{', '.join(run.history)}"
            )
    fig, wide, slim = empty_panels(grid, below=(250, 0.58))
    views = {name: _view(grid, name, metric, above) for name in VALUES}

    def remake(p: int, place: Place, cell: Cell) -> str:
        return wrapped(command(plain(cell.configs[0])) or "") if command else ""

    heat, marks = [], []
    for p, z in enumerate(views[value].z):
        draw_empty(fig, grid, p)
        # a run without a number (diverged, never there) does not look like no run
        there = {place: 1 for place, cell in grid.cells[p].items() if cell.recorded}
        grey = {"colorscale": [[0, RECORDED], [1, RECORDED]], "showscale": False}
        style = {"xgap": 2, "ygap": 2, "hoverinfo": "skip", **grey}
        fig.add_heatmap(z=grid.table(there), **style, row=p + 1, col=1)
        heat.append(len(fig.data))
        hovers, remakes = _hovers(grid, p, metric, above), grid.each(p, remake)
        draw_heat(fig, grid, p, z, hovertext=hovers, customdata=remakes)
        marks.append(len(fig.data))
        _draw_marks(fig, grid, p, metric, above, views[value].ink[p])
    _draw_menu(fig, views, heat, marks, value)
    start = _first_cell(grid, selected, metric, above)
    meta = _draw_curve_panels(fig, grid, start)
    meta |= {
        "heat": heat,
        "panels": [panel.name for panel in grid.panels],
        "rows": grid.rows,
        "prefix": grid.prefix,
        "columns": [f"{fraction:g}" for fraction in grid.columns],
        "selected": [start[0], *start[1]],
    }
    alt = (
        f"Phase diagram: {views[value].title} {axes_text(grid)}. "
        f"{counts_text(grid, metric, above)} Below, the curves of {grid.label(*start)}: "
        f"{outcomes_text(grid.cells[start[0]][start[1]], metric, above)}."
    )
    return finish(fig, alt, slim if narrow else wide, slim, phase=meta)


def agreement_figure(
    runs: Iterable[Run],
    wanted: Iterable[TrainConfig],
    *,
    metric: str = "test_accuracy",
    above: float = GROKKED,
    axis: str = "weight_decay",
    narrow: bool = False,
) -> go.Figure:
    """How many of the recorded seeds succeed, cell by cell: 2/3, framed where they
    disagree.

    Raises as `phase_figure`.
    """
    _check_view(metric, above, narrow)
    grid = grid_of(runs, wanted, axis)
    fig, wide, slim = empty_panels(grid)
    split = several = 0
    for p, cells in enumerate(grid.cells):
        counts = {
            place: cell.agreement(metric, above)
            for place, cell in cells.items()
            if cell.recorded
        }
        share = {place: won / n for place, (won, n) in counts.items()}
        texts = {place: f"{won}/{n}" for place, (won, n) in counts.items()}
        font = {"size": 11, "color": [ink_on(part) for part in share.values()]}
        hovers = _hovers(grid, p, metric, above)
        draw_empty(fig, grid, p)
        draw_heat(fig, grid, p, grid.table(share), hovertext=hovers)
        draw_texts(fig, p, texts, textfont=font)
        for place, part in share.items():
            if 0 < part < 1:
                draw_frame(fig, p, place, SELECTED)
        split += sum(0 < part < 1 for part in share.values())
        several += sum(n > 1 for _, n in counts.values())
    bar = {"title_text": "share of the recorded seeds that succeed", "tickformat": ".0%"}
    fig.update_layout(coloraxis={"cmin": 0, "cmax": 1, "colorbar": bar})
    alt = (
        f"Seeds whose {METRICS[metric]} exceeds {above:g} at some record, of those "
        f"recorded, {axes_text(grid)}. {counts_text(grid, metric, above)} Seeds disagree "
        f"in {split} of the {several} cells with at least two."
    )
    return finish(fig, alt, slim if narrow else wide, slim)


def frontier_figure(
    runs: Iterable[Run],
    wanted: Iterable[TrainConfig],
    *,
    metric: str = "test_accuracy",
    above: float = GROKKED,
    axis: str = "weight_decay",
    seed: int = 0,
    narrow: bool = False,
) -> go.Figure:
    """The smallest fraction at which each rule succeeds, by strength, and last at the best
    strength per fraction.

    A cell succeeds if more than half of its recorded seeds do. A full mark is a frontier
    that no empty cell can change, a hollow one the upper of two bounds, with a dotted line
    to the lower. Bars are 95% bootstrap intervals over seeds (of 2 or 3 seeds their range;
    one seed has none; see lrdlib.evidence.phase.bootstrap), pale where missing runs widen
    them; small dots are single seeds. More than five panels are split by their setting.
    seed: of the resampling. Raises as `phase_figure`.
    """
    _check_view(metric, above, narrow)
    check_integer("seed", seed, at_least=0)
    grid = grid_of(runs, wanted, axis)
    found = [
        frontiers(panel, np.random.default_rng(seed), metric=metric, above=above)
        for panel in grid.panels
    ]
    facets = panels_by_facet(grid.panels)
    fig = canvas([100] * len(facets))
    for f, (setting, members) in enumerate(facets.items()):
        draw_axes(fig, grid, f, left=f % COLUMNS == 0)
        headline(fig, f, f"<b>{setting}</b>", x=0.5)
        # of what acts at any strength: a panel may begin at none
        colours = rule_colours(
            [
                plain(grid.panels[p].cells[0].configs[0]) | {"weight_decay": 1.0}
                for p in members
            ]
        )
        for k, p in enumerate(members):
            panel = grid.panels[p]
            colour, name = colours[k], panel.name
            if len(facets) > 1:  # of one rule in all of them
                colour, name = RULE_COLOURS[panel.rule], NAMES[panel.rule]
            dodge = 0.2 * (k - (len(members) - 1) / 2)
            draw_frontier(fig, grid, f, p, found[p], name, colour, dodge)
    draw_legend(fig)
    margin = fig.layout.margin.t + fig.layout.margin.b
    options = {"margin": margin, "top": 24 if len(facets) > 1 else 1, "gap": 110}
    wide = placed(side_by_side(len(facets), 330), **options)
    slim = placed(stacked(len(facets), 300), **options)
    for f in range(len(facets)):
        slim[f"yaxis{nth(f)}.showticklabels"] = True
        slim[f"yaxis{nth(f)}.title.text"] = FRONTIER
    texts = [
        f"{panel.name} {frontier_text(rows[-1])}"
        for panel, rows in zip(grid.panels, found, strict=True)
    ]
    alt = (
        f"Smallest fraction at which {METRICS[metric]} exceeds {above:g} for more than "
        f"half of the seeds, by {ROWS[axis]}. At the best strength per fraction: "
        f"{'; '.join(texts)}."
    )
    return finish(fig, alt, slim if narrow else wide, slim)


def _check_view(metric: str, above: float, narrow: bool) -> None:
    """Raise as the figures promise for the arguments that they share."""
    check_choice("metric", metric, tuple(METRICS))
    check_real("above", above)
    check_bool("narrow", narrow)


# ---- cells


def _hovers(grid: Grid, p: int, metric: str, above: float) -> list[list]:
    """What each cell says when pointed at."""
    return grid.each(p, lambda p, place, cell: hover(grid, p, place, cell, metric, above))


def _draw_marks(
    fig: go.Figure, grid: Grid, p: int, metric: str, above: float, ink: list[str]
) -> None:
    """In each cell: a dot or a ring if it succeeds, a cross if it diverged, 1/3 if seeds
    are missing."""
    texts: dict[Place, str] = {}
    symbols, sizes = [], []
    for place, cell in grid.cells[p].items():
        found, of = cell.outcomes(metric, above), len(cell.configs)
        won = sum(one.step is not None for one in found)
        lost = all(one.diverged for one in found)
        succeeded = "circle" if won == len(found) else "circle-open"
        symbols.append("x-thin-open" if lost else succeeded)
        sizes.append(7 if found and (won or lost) else 0)
        texts[place] = f"{len(found)}/{of}" if 0 < len(found) < of else ""
    lines = {"width": [1.5 if symbol.endswith("open") else 0 for symbol in symbols]}
    marker = {"symbol": symbols, "size": sizes, "color": ink, "opacity": 1, "line": lines}
    where = ["bottom center" if size else "middle center" for size in sizes]
    font = {"size": 9, "color": ink}
    draw_texts(
        fig, p, texts, mode="markers+text", marker=marker, textposition=where, textfont=font
    )


# ---- what colour means


@dataclass(frozen=True)
class View:
    """One choice of what colour means: z per panel, the ink of its marks, and the colour
    axis."""

    name: str  # in the menu
    title: str
    z: list[list[list]]
    ink: list[list[str]]
    colours: dict[str, Any]


def _view(grid: Grid, name: str, metric: str, above: float) -> View:
    """The view of one of VALUES."""
    means = [
        {
            place: _seed_mean(cell.outcomes(metric, above), name)
            for place, cell in cells.items()
        }
        for cells in grid.cells
    ]
    early = name == "step"  # is bright
    if early:
        words = f"first step above {above:g}"
        title = f"first step with {METRICS[metric]} > {above:g}"
        known = (v for values in means for v in values.values() if v is not None)
        high = max(known, default=1.0)
    else:
        words = f"{'best' if name == 'best' else 'last'} {METRICS[metric]}"
        title, high = f"{words}, mean over seeds", 1.0

    def ink(v: float | None) -> str:
        return ink_on(None if v is None else 1 - v / high if early else v)

    return View(
        words,
        title,
        z=[grid.table(values) for values in means],
        ink=[[ink(v) for v in values.values()] for values in means],
        colours={
            "cmin": 0,
            "cmax": high,
            "reversescale": early,
            "colorbar.tickformat": "" if early else ".1f",
        },
    )


def _seed_mean(outcomes: Sequence[Outcome], name: str) -> float | None:
    """The mean of one number of the outcomes, over the seeds that have it."""
    known = [getattr(one, name) for one in outcomes]
    finite = [v for v in known if v is not None and np.isfinite(v)]
    return four_digits(float(np.mean(finite))) if finite else None


def _draw_menu(
    fig: go.Figure, views: Mapping[str, View], heat: list[int], marks: list[int], value: str
) -> None:
    """The choice of what colour means: each changes the numbers of the heatmaps and the ink
    of the marks on them."""
    nothing = [None] * len(heat)
    buttons: list[dict[str, Any]] = []
    for view in views.values():
        traces: dict[str, list] = {"z": [*view.z, *nothing]}
        for part in ("marker.color", "textfont.color"):
            traces[part] = [*nothing, *view.ink]
        layout = {f"coloraxis.{key}": v for key, v in view.colours.items()}
        layout["coloraxis.colorbar.title.text"] = view.title
        args = [traces, layout, heat + marks]
        buttons.append({"label": view.name, "method": "update", "args": args})
    active = VALUES.index(value)
    menu: dict[str, Any] = {"name": "what colour means", "type": "dropdown"}
    menu |= {"buttons": buttons, "active": active}
    menu |= {"bordercolor": GRID, "bgcolor": "rgba(128, 128, 128, 0.15)"}
    place = {"x": 1, "xanchor": "right", "y": 1, "yanchor": "top", "pad": {"t": 0}}
    fig.update_layout(updatemenus=[menu | place])
    for path, setting in buttons[active]["args"][1].items():
        fig.layout[path] = setting


# ---- curves of a cell


def _draw_curve_panels(
    fig: go.Figure, grid: Grid, start: tuple[int, Place]
) -> dict[str, Any]:
    """Draw the curves of one cell below the grid; returns those of all cells, and where
    they go, for phase.js."""
    n = len(grid.panels)
    cells = {
        (p, place): cell
        for p, placed in enumerate(grid.cells)
        for place, cell in placed.items()
    }
    seeds = sorted({config.seed for cell in cells.values() for config in cell.configs})
    meta = {"first": len(fig.data), "seeds": seeds} | _packed_curves(cells, seeds)
    shown = {run.config["seed"]: run for run in cells[start].recorded}
    colours = [_seed_colours(placed, len(seeds)) for placed in grid.cells]
    meta |= {"colours": colours}
    for seed, colour in zip(seeds, colours[start[0]], strict=True):
        _draw_curves(fig, n, f"seed {seed}", colour, shown.get(seed))
    for words, name in STYLES.items():
        key = {"name": words, "mode": "lines", "line": {"color": INK, **CURVES[name]}}
        fig.add_scatter(x=[None], y=[None], **key, hoverinfo="skip", row=n + 1, col=1)
    axes(fig, "step", "accuracy", row=n + 1)
    fig.update_yaxes(range=[-0.03, 1.03], tickvals=[0, 0.25, 0.5, 0.75, 1], row=n + 1)
    axes(fig, "step", "QK stable rank", row=n + 2)
    fig.update_yaxes(rangemode="tozero", row=n + 2)
    meta |= {"note": len(fig.layout.annotations), "frame": len(fig.layout.shapes)}
    p, (row, column) = start
    rule = f"<b>{grid.panels[p].name}</b>{'' if shown else ' — not recorded yet'}"
    cell = f"fraction {grid.columns[column]:g}, {grid.prefix}{grid.rows[row]}"
    headline(fig, n, f"{rule}<br>{cell}", up=32)
    draw_frame(fig, *start, SELECTED)
    fig.update_layout(legend={"yref": "paper", "yanchor": "bottom"})
    return meta


def _seed_colours(cells: Mapping[Place, Cell], count: int) -> list[str]:
    """Shades of the colour of a panel's rule, one for each of `count` seeds."""
    configs = [config for cell in cells.values() for config in cell.configs]
    # a panel may begin at strength 0, where no rule acts
    acting = next((one for one in configs if one.weight_decay or one.l2), configs[0])
    return rule_colours([plain(acting)] * count)


def _draw_curves(fig: go.Figure, n: int, name: str, colour: str, run: Run | None) -> None:
    """The curves of one seed, empty if it has no run: accuracies in panel n, rank in the
    next."""
    for metric, line in CURVES.items():
        y = _curve(run, metric) if run else None
        x: list[int] = []
        values: list[float | None] = []
        if run and y is not None:
            x = run.history["step"].tolist()
            values = numbers(y)
        words = METRICS.get(metric, metric.replace("_", " ").replace("qk", "QK"))
        fig.add_scatter(
            x=x,
            y=values,
            mode="lines",
            line={"color": colour, **line},
            name=name,
            legendgroup=name,
            hovertemplate=f"{name}, step %{{x}}<br>{words} %{{y:.3~g}}<extra></extra>",
            showlegend=run is not None and metric == "orbit_clean_accuracy",
            row=n + 1 + (metric == "qk_stable_rank"),
            col=1,
        )


def _curve(run: Run, metric: str) -> np.ndarray | None:
    """One curve of a run (T,); none of the test accuracy where it is no other than that on
    orbit-clean pairs, as the task does not commute."""
    y, clean = run.history[metric], run.history["orbit_clean_accuracy"]
    if metric == "test_accuracy" and np.array_equal(y, clean, equal_nan=True):
        return None
    return y


def _packed_curves(
    cells: Mapping[tuple[int, Place], Cell], seeds: Sequence[int]
) -> dict[str, Any]:
    """The curves of all cells in few characters: two a number.

    "curves": "panel,row,column" -> per run the slot of its seed, the index of its steps in
    "steps", and one text for each of CURVES. Two characters are the digits, in base 64, of
    a number times its "units"; "~~" is no number.
    """
    runs = [run for cell in cells.values() for run in cell.recorded]
    most = min(MAX_RECORDS, max(16, 30_000 // max(len(runs), 1)))
    ranks = [
        rank for run in runs for rank in run.history["qk_stable_rank"] if np.isfinite(rank)
    ]
    highest = max(max(ranks, default=1.0), 1.0)
    units = [4000.0, 4000.0, 4000.0, float(f"{4000 / highest:.4g}")]
    steps: list[list[int]] = []

    def packed(run: Run) -> list[Any]:
        n = len(run.history["step"])
        keep = np.linspace(0, n - 1, min(n, most)).round().astype(int)
        at = run.history["step"][keep].tolist()
        if at not in steps:
            steps.append(at)
        texts = [
            "" if (y := _curve(run, metric)) is None else _digits(y[keep] * unit)
            for metric, unit in zip(CURVES, units, strict=True)
        ]
        return [seeds.index(run.config["seed"]), steps.index(at), *texts]

    curves = {
        f"{p},{row},{column}": [packed(run) for run in cell.recorded]
        for (p, (row, column)), cell in cells.items()
        if cell.recorded
    }
    return {"units": units, "digits": DIGITS, "steps": steps, "curves": curves}


def _digits(values: np.ndarray) -> str:
    """Numbers from 0 to 4095 as two digits each.

    >>> _digits(np.array([0.0, 63.9, 4000.0, np.nan]))
    '0010-W~~'
    """
    text = ""
    for value in values:
        if np.isfinite(value):
            high, low = divmod(min(max(round(float(value)), 0), 4095), 64)
            text += DIGITS[high] + DIGITS[low]
        else:
            text += "~~"
    return text


def _first_cell(
    grid: Grid, wish: Mapping[str, Any] | None, metric: str, above: float
) -> tuple[int, Place]:
    """The cell that the curves are of: the first that has the wished fields, or a success
    at the smallest fraction."""
    places = [
        (p, place, cell)
        for p, cells in enumerate(grid.cells)
        for place, cell in cells.items()
    ]
    if wish is not None and not isinstance(wish, Mapping):
        raise TypeError(f"selected must be a dict of fields, got {shown(wish)}")
    if wish is not None:
        for p, place, cell in places:
            if wish.items() <= plain(cell.configs[0]).items():
                return p, place
        raise ValueError(f"selected must be fields of a wanted config, got {dict(wish)!r}")

    def worth(entry: tuple[int, Place, Cell]) -> tuple:
        p, place, cell = entry
        won, n = cell.agreement(metric, above)
        best = _seed_mean(cell.outcomes(metric, above), "best") or -1.0
        return 2 * won > n, won > 0, -place[1] if won else 0, best, p

    return max(places, key=worth)[:2]
