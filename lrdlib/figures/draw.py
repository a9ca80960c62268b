"""Figures of a chapter's own numbers, said in few lines: panels, lines and marks, and what a
slider moves.

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

from lrdlib._check import check_integer, shown
from lrdlib.figures.canvas import INK, axes, canvas, finish, movable

DIGITS = 4  # significant, of what is drawn
Trace = dict[str, Any]  # of plotly


class Panel(NamedTuple):
    """A panel: its height in pixels, the titles of its axes, and what else these are given,
    `across` and `up`, as plotly has it."""

    height: int
    x: str
    y: str
    across: Mapping[str, Any] = {}
    up: Mapping[str, Any] = {}


def numbers(values: ArrayLike) -> list[float | None]:
    """Values (n,) for a figure: to DIGITS significant digits, a gap where not finite.

    >>> numbers([0.123456, float("nan"), 2])
    [0.1235, None, 2.0]
    """
    array = np.asarray(values, float)
    if array.ndim != 1:
        raise ValueError(f"values must be of one dimension, got shape {array.shape}")
    return [float(f"{v:.{DIGITS}g}") if np.isfinite(v) else None for v in array]


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


def tail(
    x: ArrayLike, y: ArrayLike, name: str, colour: str, *, row: int = 1, **style: Any
) -> Trace:
    """A line with a dot at its last point: where something stands, and how it came
    there."""
    n = len(numbers(x))
    marks = {"color": colour, "size": [0] * (n - 1) + [14], "opacity": 1}
    marks |= {"line": {"width": 0}}
    way = {"mode": "lines+markers", "marker": marks} | style
    return line(x, y, name, colour, row=row, **way)


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
    fig = canvas([panel.height for panel in panels], shared=shared)
    if stops:
        first = next(iter(stops)) if start is None else start
        fig.add_traces(list(stops.get(first, ())))
    fig.add_traces(list(still))
    for row, panel in enumerate(panels, 1):
        axes(fig, panel.x, panel.y, row=row)
        fig.update_xaxes(**panel.across, row=row, col=1)
        fig.update_yaxes(**panel.up, row=row, col=1)
    if stops:
        movable(fig, stops, prefix=prefix, start=start, play=play)
    return finish(fig, alt)
