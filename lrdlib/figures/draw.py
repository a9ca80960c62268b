"""Figures of a chapter's own numbers, said in few lines: panels, lines and marks, what a
slider moves; and tables that unfold.

    panels = [Panel(200, "step", "accuracy", up={"range": [0, 1]})]
    stops = {"0.1": [line(steps, y, "LRD", RULE_COLOURS["lrd"])], ...}
    figure(panels, alt, stops=stops, prefix="λ = ", start="0.1")

What is drawn of recorded runs is in `runs`, `rank` and `studies`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from lrdlib._check import check_choice, check_integer, shown
from lrdlib.evidence.phase import four_digits
from lrdlib.figures.canvas import INK, axes, canvas, controls, finish, movable

Trace = dict[str, Any]  # of plotly


class Panel(NamedTuple):
    """A panel: its height in pixels, the titles of its axes, what else these are given,
    `across` and `up`, as plotly has it, and a title `over` it."""

    height: int
    x: str
    y: str
    across: Mapping[str, Any] = {}
    up: Mapping[str, Any] = {}
    over: str = ""


def numbers(values: ArrayLike) -> list[float | None]:
    """Values (n,) for a figure: to 4 significant digits, a gap where not finite.

    >>> numbers([0.123456, float("nan"), 2])
    [0.1235, None, 2.0]
    """
    array = np.asarray(values, float)
    if array.ndim != 1:
        raise ValueError(f"values must be of one dimension, got shape {array.shape}")
    return [four_digits(v) for v in array]


def decades(
    low: float | None = None, high: float | None = None, every: int = 1
) -> dict[str, Any]:
    """An axis in powers of ten, for a Panel: from 10^low to 10^high, or as far as what is
    drawn goes, with a tick at each `every` of them.

    >>> decades(-4, 0)["range"]
    [-4, 0]
    """
    ends = {} if low is None or high is None else {"range": [low, high]}
    return {"type": "log", "dtick": every, "exponentformat": "power"} | ends


def line(
    x: ArrayLike,
    y: ArrayLike,
    name: str = "",
    colour: str = INK,
    *,
    row: int = 1,
    dash: str = "solid",
    width: float = 2.5,
    key: bool = True,
    **style: Any,
) -> Trace:
    """A line in the panel of a row; key: whether the legend has it, which it never does
    without a name. style: goes to plotly's Scatter, what it says of its line beside colour,
    dash and width."""
    look = {"color": colour, "width": width, "dash": dash} | style.pop("line", {})
    return _trace(x, y, name, row, key, {"mode": "lines", "line": look} | style)


def dots(
    x: ArrayLike,
    y: ArrayLike,
    name: str = "",
    colour: str = INK,
    *,
    row: int = 1,
    symbol: str = "circle",
    size: float | Sequence[float] = 11,
    key: bool = True,
    **style: Any,
) -> Trace:
    """Marks in the panel of a row, as `line`; those that are open are drawn 2 wide."""
    look = {"color": colour, "symbol": symbol, "size": size} | style.pop("marker", {})
    look |= {"line": {"width": 2 if symbol.endswith("-open") else 0}}
    return _trace(x, y, name, row, key, {"mode": "markers", "marker": look} | style)


def bars(
    x: ArrayLike,
    y: ArrayLike,
    name: str = "",
    colour: str = INK,
    *,
    row: int = 1,
    key: bool = True,
    **style: Any,
) -> Trace:
    """Bars in the panel of a row, as `line`."""
    return _trace(
        x, y, name, row, key, {"type": "bar", "marker": {"color": colour}} | style
    )


def tail(
    x: ArrayLike,
    y: ArrayLike,
    name: str,
    colour: str,
    *,
    size: float = 14,
    **style: Any,
) -> Trace:
    """A line with a dot of a size at its last point: where something stands, and how it
    came there."""
    n = len(numbers(x))
    marks = {"color": colour, "size": [0] * (n - 1) + [size], "opacity": 1}
    marks |= {"line": {"width": 0}}
    way = {"mode": "lines+markers", "marker": marks} | style
    return line(x, y, name, colour, **way)


def _trace(
    x: ArrayLike, y: ArrayLike, name: str, row: int, key: bool, style: Mapping[str, Any]
) -> Trace:
    check_integer("row", row)
    if len(numbers(x)) != len(numbers(y)):
        raise ValueError(
            f"x and y must be of one length, got {len(numbers(x))} and {len(numbers(y))}"
        )
    place = {"xaxis": f"x{row}", "yaxis": f"y{row}"} if row > 1 else {}
    named = {"name": name, "showlegend": key and bool(name)}
    drawn = {"type": "scatter", "x": numbers(x), "y": numbers(y)}
    return drawn | named | place | dict(style)


def figure(
    panels: Sequence[Panel],
    alt: str,
    still: Iterable[Any] = (),
    *,
    stops: Mapping[str, Sequence[Any]] | None = None,
    prefix: str = "",
    start: str | None = None,
    play: bool = False,
    shared: bool = False,
) -> go.Figure:
    """Panels one below the other with traces, as of `line` and `dots`; alt says what they
    show.

    stops: stop of the slider -> the traces that it moves, the same number at each; still:
    those that stay. prefix, start, play: as `canvas.movable`; shared: as `canvas.canvas`.
    Raises ValueError without panels, and as these two.
    """
    if not panels:
        raise ValueError(f"panels must hold at least one Panel, got {shown(panels)}")
    over = [panel.over for panel in panels]
    titles: dict[str, Any] = {"subplot_titles": over} if any(over) else {}
    fig = canvas([panel.height for panel in panels], shared=shared, **titles)
    if stops:
        first = next(iter(stops)) if start is None else start
        fig.add_traces(list(stops.get(first, ())))
    fig.add_traces(list(still))
    for row, panel in enumerate(panels, 1):
        axes(fig, panel.x, panel.y, row=row)
        fig.update_xaxes(**panel.across, row=row, col=1)
        fig.update_yaxes(**panel.up, row=row, col=1)
    if stops:
        movable(fig, _what_moves(stops), prefix=prefix, start=start, play=play)
    return finish(fig, alt)


def _what_moves(stops: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The stops without what a trace has alike at all of them: a page carries that once."""
    many = [list(traces) for traces in stops.values()]
    if len(many) < 2 or len({len(traces) for traces in many}) > 1:
        return dict(zip(stops, many, strict=True))
    same = [
        {
            key
            for key in column[0]
            if key != "type"
            and all(key in trace and trace[key] == column[0][key] for trace in column)
        }
        for column in zip(*many, strict=True)
    ]
    return {
        name: [
            {key: value for key, value in trace.items() if key not in alike}
            for trace, alike in zip(traces, same, strict=True)
        ]
        for name, traces in zip(stops, many, strict=True)
    }


def sliders(
    fig: go.Figure,
    moves: Mapping[str, Mapping[str, Mapping[int, Any]]],
    start: Mapping[str, str],
) -> go.Figure:
    """Several sliders below a figure that has none, each of which moves traces of its own.

    moves: what the slider is called -> stop -> index of a trace -> what changes of it;
    start: what it is called -> the stop that the figure shows before it is moved.
    Raises ValueError if a start is not a stop of its slider.
    """
    made, frames = [], []
    for k, (name, stops) in enumerate(moves.items()):
        check_choice(f"start[{name!r}]", start.get(name), tuple(stops))
        place = list(stops).index(start[name])
        called = [f"{name} {stop}" for stop in stops]  # the names of frames are all unlike
        (slider,) = controls(called, prefix=f"{name} = ", active=place)["sliders"]
        for step, stop in zip(slider["steps"], stops, strict=True):
            step["label"] = stop.replace("-", "−")
        made.append(slider | {"pad": {"t": 56 + 80 * k}})
        frames += [
            go.Frame(name=frame, data=list(change.values()), traces=list(change))
            for frame, change in zip(called, stops.values(), strict=True)
        ]
    fig.frames = frames
    room = 20 + 80 * len(made)
    height, below = fig.layout.height + room, fig.layout.margin.b + room
    return fig.update_layout(sliders=made, height=height, margin_b=below)


def pick(fig: go.Figure, name: str, choices: Mapping[str, Iterable[int]]) -> go.Figure:
    """A menu above a figure, called `name` to those who cannot see it: what is chosen ->
    the indices of the traces that are shown then. The first is shown at the start."""
    sets = {label: set(indices) for label, indices in choices.items()}
    shown_by = {label: [i in s for i in range(len(fig.data))] for label, s in sets.items()}
    buttons = [
        {
            "label": label,
            "method": "restyle",
            "args": [{"visible": which, "showlegend": which}],
        }
        for label, which in shown_by.items()
    ]
    for trace, seen in zip(fig.data, next(iter(shown_by.values())), strict=True):
        trace.update(visible=seen, showlegend=seen)
    place = {"x": 1, "y": 1.02, "yanchor": "bottom"}
    return fig.update_layout(updatemenus=[{"buttons": buttons, "name": name} | place])


def folded(summary: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as HTML that unfolds under its summary, and is moved to and fro where it is
    too wide for a page. All texts may hold HTML, as code and what unfolds in its turn.

    Raises ValueError for a row that has not as many cells as there are heads.

    >>> folded("One", ["n"], [["1"]]).count("<tr>")
    2
    """
    lines = [f"<tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"]
    for i, cells in enumerate(rows):
        if len(cells) != len(heads):
            raise ValueError(
                f"rows[{i}] must have {len(heads)} cells, one for each head, "
                f"got {len(cells)}"
            )
        lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return (
        f"<details><summary>{summary}</summary>"
        f'<div style="overflow-x: auto"><table>{"".join(lines)}</table></div></details>'
    )
