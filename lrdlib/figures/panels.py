"""A figure laid out: its panels, their axes and the room around them, in CSS pixels, for a
desktop or for a phone. Stills (lrdlib/figures/still.py) are drawn on it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from lrdlib.figures.scale import Axis, Point, Tick, placed, shown_range
from lrdlib.figures.widths import axis_names, least_width, read, update_for, updated

WIDTHS = {"wide": 672, "narrow": 342}  # of a figure on a desktop and on a phone, CSS pixels
TICK = 5  # the length of the mark of a tick, in CSS pixels
CLEAR = 3  # what is left free between it and the label
LETTER = 0.56  # the width of a letter of system-ui, as a share of its size
LINE = 1.3  # from one line of words to the next, as a share of their size

Trace = Mapping[str, Any]


@dataclass(frozen=True)
class Panel:
    """Two axes and what lies between them; shares along x, CSS pixels along y."""

    x: Axis
    y: Axis

    @property
    def width(self) -> float:
        return self.x.end - self.x.start

    @property
    def height(self) -> float:
        return self.y.start - self.y.end

    def across(self, value: Any) -> float | None:
        """The share of the width at which a value of x lies; None for no place."""
        place = self.x.place(value)
        return None if place is None else (self.x.pixel(place) - self.x.start) / self.width

    def down(self, value: Any) -> float | None:
        """CSS pixels below the panel's top at which a value of y lies; None for no
        place."""
        place = self.y.place(value)
        return None if place is None else self.y.pixel(place) - self.y.end

    def points(self, trace: Trace) -> list[tuple[float, float] | None]:
        """(share, pixels) of each point of a trace, None where a line breaks."""
        xs, ys = values(trace, "x"), values(trace, "y")
        found = [(self.across(x), self.down(y)) for x, y in zip(xs, ys, strict=False)]
        return [None if a is None or b is None else (a, b) for a, b in found]


def values(trace: Trace, key: str) -> list[Any]:
    """The values of a trace along x or y; places where it has none."""
    if key in trace:
        return trace[key]
    table = trace.get("z") or [trace["y" if key == "x" else "x"]]
    return list(range(len(table[0]) if key == "x" else len(table)))


def edges(places: Sequence[float]) -> list[float]:
    """The edges of cells around these places, midway between two of them.

    >>> edges([0, 1, 3])
    [-0.5, 0.5, 2.0, 4.0]
    """
    middles = [(a + b) / 2 for a, b in pairwise(places)]
    if not middles:
        return [places[0] - 0.5, places[0] + 0.5]
    return [2 * places[0] - middles[0], *middles, 2 * places[-1] - middles[-1]]


@dataclass(frozen=True)
class Plot:
    """A figure that is laid out: what is inside its margins is width x height CSS pixels,
    letters are `size` of them high."""

    layout: Mapping[str, Any]
    data: Sequence[Trace]
    margin: Mapping[str, float]
    width: float
    height: float
    size: float
    panels: Sequence[Panel]


def laid_out(figure: Mapping[str, Any], width: str) -> Plot:
    """A figure laid out for "wide" or "narrow"."""
    layout = updated(figure["layout"], update_for(figure, narrow=width == "narrow"))
    margin, size = dict(layout["margin"]), read(layout, "font.size") or 13
    wide = WIDTHS[width]
    if width == "narrow":
        wide = max(wide, least_width(layout))
    height = layout["height"] - margin["t"] - margin["b"]
    for panel in _panels(layout, figure["data"], (wide, height)):
        name, y = panel.y.spec.get("title") or {}, panel.y
        if panel.x.start == 0 and y.spec.get("automargin"):
            # plotly's automargin: labels, distance, the height of capitals, 12 pixels
            own = read(name, "font.size") or 1.2 * size
            needed = beside(y, size) + name.get("standoff", 15) + 0.7 * own + 12
            margin["l"] = max(margin["l"], needed)
    inner = wide - margin["l"] - margin["r"]
    panels = _panels(layout, figure["data"], (inner, height))
    return Plot(layout, figure["data"], margin, inner, height, size, panels)


def _extremes(
    trace: Trace, letter: str, spec: Mapping[str, Any], names: Mapping[str, int], px: float
) -> list[Point]:
    """What a trace asks of the range of an axis of `px` pixels: values and the pixels that
    they keep clear."""
    places = [placed(value, spec, names) for value in values(trace, letter)]
    known = [place for place in places if place is not None]
    if not known or trace.get("visible", True) is not True:
        return []
    kind, ends = trace.get("type", "scatter"), (min(known), max(known))
    if kind == "heatmap":
        return [(edge, 0.0) for edge in edges(known)]
    if kind == "bar" and letter == "x":
        half = min((b - a for a, b in pairwise(known)), default=1) / 2
        return [(ends[0] - half, 0.0), (ends[1] + half, 0.0)]
    clear = 0.05 * px
    marks = "markers" in trace.get("mode", "")
    if marks:
        size = read(trace, "marker.size") or 6
        clear += max((max(size) if isinstance(size, list) else size) / 1.6, 3)
    if letter == "x" and kind == "scatter" and not marks and "text" not in trace["mode"]:
        clear = 0.0
    from_zero = letter == "y" and (kind == "bar" or trace.get("fill") == "tozeroy")
    found = [(end, 0.0 if from_zero and end == 0 else clear) for end in ends]
    return [*found, (0.0, 0.0)] if from_zero else found


def _axis(layout: Mapping[str, Any], data: Sequence[Trace], name: str, size: float) -> Axis:
    """One axis of a figure, on a plot that is `size` CSS pixels wide or high."""
    letter, spec = name[0], layout.get(name, {})
    shared = spec.get("matches", name.replace("axis", ""))
    group = {
        other.replace("axis", "")
        for other in axis_names(layout)
        if layout.get(other, {}).get("matches", other.replace("axis", "")) == shared
    }
    ends = spec.get("domain", [0, 1])
    start, end = (size * (end if letter == "x" else 1 - end) for end in ends)
    on_it = [trace for trace in data if trace.get(f"{letter}axis", letter) in group]
    words = dict.fromkeys(
        v for trace in on_it for v in values(trace, letter) if isinstance(v, str)
    )
    names = {word: place for place, word in enumerate(words)}
    points = [
        point
        for trace in on_it
        for point in _extremes(trace, letter, spec, names, abs(end - start))
    ]
    span = shown_range(spec, points, abs(end - start))
    return Axis(spec | {"id": name.replace("axis", "")}, start, end, span, names)


def _fitted(panel: Panel, squared: bool) -> Panel:
    """The panel with one scale on both axes, if it must have one: the axis that has too
    much room is drawn on the middle of it."""
    if not squared:
        return panel
    x, y = panel.x, panel.y
    scale = min(
        panel.width / abs(x.range[1] - x.range[0]),
        panel.height / abs(y.range[1] - y.range[0]),
    )
    spare = [
        (room - scale * abs(axis.range[1] - axis.range[0])) / 2
        for axis, room in ((x, panel.width), (y, panel.height))
    ]
    return Panel(
        replace(x, start=x.start + spare[0], end=x.end - spare[0]),
        replace(y, start=y.start - spare[1], end=y.end + spare[1]),
    )


def _panels(
    layout: Mapping[str, Any], data: Sequence[Trace], size: tuple[float, float]
) -> list[Panel]:
    """The panels of a figure on a plot of (width, height) CSS pixels."""
    made = []
    for name in axis_names(layout):
        if name[0] == "x":
            other = "yaxis" + (read(layout, f"{name}.anchor") or "y").removeprefix("y")
            x, y = (
                _axis(layout, data, axis, px)
                for axis, px in zip((name, other), size, strict=True)
            )
            made.append(_fitted(Panel(x, y), "scaleanchor" in y.spec))
    return made


# ---- labels


def letters_of(axis: Axis, size: float) -> float:
    """The size of an axis' labels."""
    own = read(axis.spec, "tickfont.size") or size
    power = axis.spec.get("type") == "log" and axis.spec.get("exponentformat") == "power"
    return own * 1.25 if power else own


def labels(axis: Axis) -> list[Tick]:
    """The ticks of an axis that shows its labels."""
    shown = axis.spec.get("showticklabels", True) and axis.spec.get("visible", True)
    return axis.ticks() if shown else []


def mark(axis: Axis) -> float:
    """How long the marks of an axis' ticks are, in CSS pixels."""
    return 0 if axis.spec.get("ticks") == "" or not axis.spec.get("visible", True) else TICK


def beside(y: Axis, size: float) -> float:
    """How far an axis' labels reach to its left, in CSS pixels."""
    letters = letters_of(y, size)
    reach = max((length(label, letters) for _, label in labels(y)), default=0)
    return mark(y) + CLEAR + reach


def length(words: str, size: float) -> float:
    """About how long a text is, in CSS pixels."""
    return LETTER * size * len(re.sub(r"<[^>]+>", "", words))
