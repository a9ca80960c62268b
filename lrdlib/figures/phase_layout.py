"""Panels of cells: a grid of runs on common axes, and how it is drawn, laid out for a page
and for a phone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from lrdlib._check import check_choice
from lrdlib.evidence.phase import Cell, Panel, effective_strength, panels
from lrdlib.figures.canvas import GRID, INK, axes, canvas
from lrdlib.figures.canvas import finish as described
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import Run

# Viridis without its darkest third, which is lost on a dark page.
SCALE = (
    *("#3e4989", "#31688e", "#26828e", "#1f9e89"),
    *("#35b779", "#6ece58", "#b5de2b", "#fde725"),
)
ROWS = {"weight_decay": "λ", "effective": "effective strength"}
COLUMNS = 3  # panels side by side
MAX_TICKS = 7

Place = tuple[int, int]  # row (strength) and column (fraction) of a cell
Row = tuple[
    list[tuple[int, float, float]], int
]  # panels: index, from, to; height in pixels


@dataclass(frozen=True, eq=False)
class Grid:
    """Panels on common axes: `rows` are strengths as text, weakest first, `columns`
    fractions; cells by place."""

    panels: list[Panel]
    axis: str
    rows: list[str]
    columns: list[float]
    cells: list[dict[Place, Cell]]

    @property
    def prefix(self) -> str:
        """What a row's label is the value of."""
        return f"{ROWS[self.axis]} = "

    def label(self, panel: int, place: Place) -> str:
        """A cell's name."""
        row, column = place
        fraction, strength = self.columns[column], self.rows[row]
        return f"{self.panels[panel].name}, fraction {fraction:g}, {self.prefix}{strength}"

    def table(self, values: Mapping[Place, Any]) -> list[list]:
        """Rows of columns, None where there is no value."""
        return [
            [values.get((row, column)) for column in range(len(self.columns))]
            for row in range(len(self.rows))
        ]

    def each(self, panel: int, text: Callable[[int, Place, Cell], str]) -> list[list]:
        """The table of a text about each cell of a panel."""
        return self.table(
            {place: text(panel, place, cell) for place, cell in self.cells[panel].items()}
        )


def grid_of(runs: Iterable[Run], wanted: Iterable[TrainConfig], axis: str) -> Grid:
    """Raises as `panels`, and ValueError for an unknown axis or one that cannot tell two
    cells of a panel apart."""
    check_choice("axis", axis, tuple(ROWS))
    parts = panels(runs, wanted)

    def row(cell: Cell) -> str:
        effective = axis == "effective"
        return short(effective_strength(cell.configs[0]) if effective else cell.strength)

    rows = sorted({row(cell) for panel in parts for cell in panel.cells}, key=float)
    columns = sorted({cell.fraction for panel in parts for cell in panel.cells})
    cells = [
        {(rows.index(row(c)), columns.index(c.fraction)): c for c in panel.cells}
        for panel in parts
    ]
    for panel, placed in zip(parts, cells, strict=True):
        if len(placed) < len(panel.cells):
            raise ValueError(
                f"axis must tell the cells of {panel.name} apart, got {axis!r}, in which "
                "some are equal"
            )
    return Grid(parts, axis, rows, columns, cells)


def short(value: float) -> str:
    """Three digits, the shorter way of the usual two.

    >>> short(0.0005), short(0.05), short(3.0)
    ('5e-4', '0.05', '3')
    """
    plain, power = f"{value:.3g}", f"{value:.2e}"
    digits, exponent = power.split("e")
    return min(plain, f"{float(digits):g}e{int(exponent)}", key=len)


# ---- layout


def empty_panels(
    grid: Grid, *, below: tuple[int, float] | None = None
) -> tuple[go.Figure, dict[str, Any], dict[str, Any]]:
    """A figure with an axis pair per panel of the grid, and its layout when wide and when
    narrow.

    below: the height in pixels of two more panels, side by side when wide, and where the
    first of them ends.
    """
    n = len(grid.panels)
    fig = canvas([100] * (n + 2 * bool(below)))
    columns, tall = min(n, COLUMNS), min(300, max(150, 38 * len(grid.rows)))
    wide, slim = side_by_side(n, tall), stacked(n, min(tall, 230))
    if below:
        height, end = below
        wide.append(([(n, 0.0, end), (n + 1, end + 0.1, 1.0)], height))
        slim += [([(n, 0.0, 1.0)], height), ([(n + 1, 0.0, 1.0)], height - 60)]
    narrow: dict[str, Any] = {"coloraxis.colorbar.len": 1.0}
    for p, panel in enumerate(grid.panels):
        _cell_axes(fig, grid, p, left=p % columns == 0, bottom=p + columns >= n)
        headline(fig, p, f"<b>{panel.name}</b>", x=0.5)
        narrow[f"yaxis{nth(p)}.showticklabels"] = True
        narrow[f"yaxis{nth(p)}.title.text"] = ROWS[grid.axis]
        narrow[f"xaxis{nth(p)}.title.text"] = "fraction"
    fig.update_layout(coloraxis=_colours(), margin={"t": 16, "l": 64}, hovermode="closest")
    margin = fig.layout.margin.t + fig.layout.margin.b
    legend = n if below else None
    wide_layout = placed(wide, legend=legend, margin=margin)
    return fig, wide_layout, placed(slim, legend=legend, margin=margin) | narrow


def side_by_side(n: int, height: int) -> list[Row]:
    """Rows of n panels, COLUMNS to a row."""
    columns, gap = min(n, COLUMNS), 0.04
    width = (1 - gap * (columns - 1)) / columns
    starts = [(p, p % columns * (width + gap)) for p in range(n)]
    return [
        ([(p, x, x + width) for p, x in starts[at : at + columns]], height)
        for at in range(0, n, columns)
    ]


def stacked(n: int, height: int) -> list[Row]:
    """n panels, one to a row."""
    return [([(p, 0.0, 1.0)], height) for p in range(n)]


def placed(
    rows: Sequence[Row],
    *,
    legend: int | None = None,
    margin: int,
    top: int = 86,
    gap: int = 76,
) -> dict[str, Any]:
    """Rows of panels as a flat update of the layout: the domain of each axis, and the
    height of the figure.

    top: pixels above the first row, for a colour bar. legend: the panel above which there
    is room for the legend.
    """
    tops, y = [], 0
    for k, (members, height) in enumerate(rows):
        above = gap + 44 if members[0][0] == legend else gap
        y += top if k == 0 else above
        tops.append(y)
        y += height
    update: dict[str, Any] = {"height": y + margin}
    for start, (members, height) in zip(tops, rows, strict=True):
        for p, left, right in members:
            update[f"xaxis{nth(p)}.domain"] = [round(left, 6), round(min(right, 1), 6)]
            low, high = max(1 - (start + height) / y, 0), 1 - start / y
            update[f"yaxis{nth(p)}.domain"] = [round(low, 6), round(high, 6)]
            if p == legend:
                update["legend.y"] = round(1 - (start - 6) / y, 6)
    return update


def finish(
    fig: go.Figure,
    alt: str,
    layout: Mapping[str, Any],
    slim: Mapping[str, Any],
    **meta: Any,
) -> go.Figure:
    """Lay the figure out, and attach its text alternative and what the scripts need, as
    `canvas.finish`."""
    for path, setting in layout.items():
        fig.layout[path] = setting
    return described(fig, alt, narrow=dict(slim), **meta)


def nth(panel: int) -> str:
    """What plotly appends to the name of an axis: "" for the first panel, then "2", "3"
    ..."""
    return str(panel + 1) if panel else ""


def headline(fig: go.Figure, panel: int, text: str, *, x: float = 0.0, up: int = 0) -> None:
    """Words above a panel, from its left edge or (x = 0.5) in its middle, `up` pixels
    higher than it needs."""
    side = "center" if x else "left"
    frame = {"xref": f"x{nth(panel)} domain", "yref": f"y{nth(panel)} domain"}
    place = {"x": x, "y": 1, "yshift": up, "xanchor": side, "yanchor": "bottom"}
    fig.add_annotation(
        text=text, align=side, showarrow=False, font_size=13, **frame, **place
    )


def _cell_axes(fig: go.Figure, grid: Grid, p: int, *, left: bool, bottom: bool) -> None:
    """Cell (row, column) is the unit square around (column, row); outer panels have the
    titles and labels."""
    across, up = "fraction" if bottom else "", ROWS[grid.axis] if left else ""
    bare: dict[str, Any] = {"showgrid": False, "showline": False, "ticks": ""}
    axes(fig, across, up, row=p + 1, fixedrange=True, **bare)
    every = -(-len(grid.columns) // MAX_TICKS)
    shown = range(0, len(grid.columns), every)
    fig.update_xaxes(
        tickvals=list(shown),
        ticktext=[f"{grid.columns[i]:g}" for i in shown],
        tickangle=0,
        range=[-0.5, len(grid.columns) - 0.5],
        row=p + 1,
    )
    fig.update_yaxes(
        tickvals=list(range(len(grid.rows))),
        ticktext=grid.rows,
        showticklabels=left,
        range=[-0.5, len(grid.rows) - 0.5],
        row=p + 1,
    )


def _colours() -> dict[str, Any]:
    """The colour axis, and its bar in the upper left corner."""
    bar: dict[str, Any] = {"orientation": "h", "len": 0.5, "nticks": 6}
    bar |= {"thickness": 10, "outlinewidth": 0}
    bar |= {"x": 0, "xanchor": "left", "xpad": 0, "y": 1, "yanchor": "top", "ypad": 0}
    bar |= {"title": {"side": "top", "font": {"size": 13}}}
    return {
        "colorscale": [[i / (len(SCALE) - 1), colour] for i, colour in enumerate(SCALE)],
        "colorbar": bar,
    }


# ---- cells


def draw_empty(fig: go.Figure, grid: Grid, p: int) -> None:
    """An outline, and nothing in it, for every wanted cell that has no run."""
    x: list[float | None] = []
    y: list[float | None] = []
    for (row, column), cell in grid.cells[p].items():
        if not cell.recorded:
            a, b, c, d = column - 0.42, column + 0.42, row - 0.44, row + 0.44
            x += [a, b, b, a, a, None]
            y += [c, c, d, d, c, None]
    line = {"mode": "lines", "line": {"color": GRID, "width": 1}, "hoverinfo": "skip"}
    fig.add_scatter(x=x, y=y, **line, showlegend=False, row=p + 1, col=1)


def draw_heat(
    fig: go.Figure, grid: Grid, p: int, z: list[list], **texts: list[list]
) -> None:
    """The colours of a panel; hovertext, and customdata below it, are what a cell says when
    pointed at."""
    below = "<br>%{customdata}" if "customdata" in texts else ""
    fig.add_heatmap(
        x=list(range(len(grid.columns))),
        y=list(range(len(grid.rows))),
        z=z,
        xgap=2,
        ygap=2,
        coloraxis="coloraxis",
        hovertemplate=f"%{{hovertext}}{below}<extra></extra>",
        hoverlabel={"align": "left"},
        **texts,
        row=p + 1,
        col=1,
    )


def draw_texts(fig: go.Figure, p: int, texts: Mapping[Place, str], **style: Any) -> None:
    """A text, and with a mode that has markers a mark, in the middle of each of these
    cells."""
    places = {"x": [column for _, column in texts], "y": [row for row, _ in texts]}
    still = {"hoverinfo": "skip", "showlegend": False, "cliponaxis": False}
    style = {"mode": "text", "text": list(texts.values()), **still, **style}
    fig.add_scatter(**places, **style, row=p + 1, col=1)


def draw_frame(fig: go.Figure, p: int, place: Place, colour: str) -> None:
    """A frame around a cell."""
    row, column = place
    box = {"x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
    line = {"color": colour, "width": 2.5}
    fig.add_shape(type="rect", **box, line=line, xref=f"x{nth(p)}", yref=f"y{nth(p)}")


def ink_on(share: float | None) -> str:
    """What can be read on the colour at this part of the scale, or on a page (None).

    >>> ink_on(0.1), ink_on(1.0), ink_on(None)
    ('#fff', '#111', '#797979')
    """
    if share is None:
        return INK
    return "#fff" if share < 0.4 else "#111"
