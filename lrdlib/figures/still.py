"""A still of a plotly figure: a small SVG, drawn while the book is built, that stands in the
figure's place until the reader goes for it. plotly.js is half a megabyte; who only reads
does not load it.

The still has the data, the ranges and the ticks that plotly would show (scale.py) in the
layout that it would have (widths.py), on a desktop and on a phone. Along x all lengths are
shares of the width, so that it fits any window; heights are CSS pixels. It takes the page's
font and colours. What it cannot draw, `still` refuses as a whole: nothing is left out.
"""

import gzip
import html
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lrdlib.figures.marks import (
    LINE,
    SHAPES,
    SYMBOLS,
    Panel,
    Trace,
    area_look,
    attributes,
    bars,
    edges,
    heatmap,
    length,
    line_look,
    markers,
    number,
    sayable,
    scatter,
    share,
    text,
    values,
)
from lrdlib.figures.scale import Axis, Point, placed, shown_range
from lrdlib.figures.widths import axis_names, least_width, named, read, update_for, updated

WIDTHS = {"wide": 672, "narrow": 342}  # of a figure on a desktop and on a phone, CSS pixels
CELLS = 1500  # of one heatmap
LIMIT = 40_000  # bytes of a still, compressed
ORDER = ("heatmap", "bar", "scatter")  # from the ground up
TICK = 5  # the length of the mark of a tick, in CSS pixels
CLEAR = 3  # what is left free between it and the label


# ---- what can be drawn


def drawable(figure: Mapping[str, Any]) -> bool:
    """Whether a figure, as plotly's JSON has it, holds only what a still can show."""
    layout, data = figure["layout"], figure["data"]
    bars = [(t.get("xaxis"), t.get("yaxis")) for t in data if t.get("type") == "bar"]
    return (
        all(_drawable_trace(trace, layout) for trace in data)
        and len(bars) == len(set(bars))  # bars side by side are placed by plotly
        and all(_drawable_axis(layout.get(name, {})) for name in axis_names(layout))
        and not any(note.get("showarrow", True) for note in layout.get("annotations", []))
        and all(s.get("type") in ("line", "rect") for s in layout.get("shapes", []))
        and not layout.get("title")
        and _drawable_bar(layout)
        and all(sayable(words) for words in _words(figure))
    )


def _words(figure: Mapping[str, Any]) -> Iterator[str]:
    """All that a figure says."""
    layout = figure["layout"]
    for trace in figure["data"]:
        said = trace.get("text", [])
        yield trace.get("name") or ""
        yield from (str(words) for words in (said if isinstance(said, list) else [said]))
    for name in axis_names(layout):
        yield read(layout, f"{name}.title.text") or ""
        yield from layout.get(name, {}).get("ticktext", [])
    yield from (note["text"] for note in layout.get("annotations", []))
    yield read(layout, "coloraxis.colorbar.title.text") or ""


def _drawable_trace(trace: Trace, layout: Mapping[str, Any]) -> bool:
    kind = trace.get("type", "scatter")
    marker, line = trace.get("marker", {}), trace.get("line", {})
    if not all(isinstance(trace.get(key, []), list) for key in "xyz"):
        return False  # numbers in base 64
    if kind == "heatmap":
        cells = sum(len(row) for row in trace["z"])
        return cells <= CELLS and ("coloraxis" in trace or trace.get("showscale") is False)
    if kind == "bar":
        return isinstance(marker.get("color"), str) and not (
            {"orientation", "text", "base", "width", "error_y"} & trace.keys()
        )
    symbols = marker.get("symbol", "circle")
    symbols = set(symbols if isinstance(symbols, list) else [symbols])
    return (
        kind == "scatter"
        and "mode" in trace
        and not {"stackgroup", "error_x", "error_y", "orientation"} & trace.keys()
        and trace.get("fill", "none") in ("none", "tozeroy")
        and line.get("shape", "linear") in SHAPES
        and {s.removesuffix("-open") for s in symbols} <= SYMBOLS.keys() | {"circle"}
        and (trace["mode"] == "text" or "color" in line or "color" in marker)
    )


def _drawable_axis(axis: Mapping[str, Any]) -> bool:
    return (
        axis.get("type", "linear") in ("linear", "log")
        and bool(re.fullmatch(r"(\.\d[f%])?", axis.get("tickformat", "")))
        and axis.get("autorange", "reversed") == "reversed"
        and axis.get("side") in (None, "left", "bottom")
    )


def _drawable_bar(layout: Mapping[str, Any]) -> bool:
    """Whether the bar of colours, if there is one, lies and has its name above it."""
    bar = read(layout, "coloraxis.colorbar")
    return "coloraxis" not in layout or (
        bar is not None and bar.get("orientation") == "h" and bar["title"]["side"] == "top"
    )


# ---- axes


def _extremes(
    trace: Trace, letter: str, spec: Mapping[str, Any], names: Mapping[str, int], px: float
) -> list[Point]:
    """What a trace asks of the range of an axis of `px` pixels: values and the pixels that
    they keep clear."""
    places = [placed(value, spec, names) for value in values(trace, letter)]
    known = [place for place in places if place is not None]
    if not known or trace.get("visible") is False:
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


def _axis(layout: dict[str, Any], data: Sequence[Trace], name: str, size: float) -> Axis:
    """One axis of a figure, on a plot that is `size` CSS pixels wide or high."""
    letter, spec = name[0], layout.get(name, {})
    shared = spec.get("matches", name.replace("axis", ""))
    group = {
        other.replace("axis", "")
        for other in axis_names(layout)
        if layout.get(other, {}).get("matches", other.replace("axis", "")) == shared
    }
    first, last = spec.get("domain", [0, 1])
    start, end = (first * size, last * size) if letter == "x" else (
        (1 - first) * size, (1 - last) * size
    )  # fmt: skip
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
        Axis(x.spec, x.start + spare[0], x.end - spare[0], x.range, x.names),
        Axis(y.spec, y.start - spare[1], y.end + spare[1], y.range, y.names),
    )


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


def _panels(
    layout: Mapping[str, Any], data: Sequence[Trace], size: tuple[float, float]
) -> list[Panel]:
    """The panels of a figure on a plot of (width, height) CSS pixels."""
    made = []
    for name in axis_names(layout):
        if name[0] == "x":
            other = "yaxis" + read(layout, f"{name}.anchor").removeprefix("y")
            x, y = (
                _axis(layout, data, axis, px)
                for axis, px in zip((name, other), size, strict=True)
            )
            made.append(_fitted(Panel(x, y), "scaleanchor" in y.spec))
    return made


# ---- what is around a panel


def _letters(axis: Axis, size: float) -> float:
    """The size of an axis' labels."""
    own = read(axis.spec, "tickfont.size") or size
    power = axis.spec.get("type") == "log" and axis.spec.get("exponentformat") == "power"
    return own * 1.25 if power else own


def _labels(axis: Axis) -> list[tuple[float, str]]:
    shown = axis.spec.get("showticklabels", True) and axis.spec.get("visible", True)
    return axis.ticks() if shown else []


def _mark(axis: Axis) -> float:
    """How long the marks of an axis' ticks are, in CSS pixels."""
    return 0 if axis.spec.get("ticks") == "" or not axis.spec.get("visible", True) else TICK


def _beside(y: Axis, size: float) -> float:
    """How far an axis' labels reach to its left, in CSS pixels."""
    letters = _letters(y, size)
    reach = max((length(label, letters) for _, label in _labels(y)), default=0)
    return _mark(y) + CLEAR + reach


def _segment(x1: str, x2: str, y1: str, y2: str, look: str = "") -> str:
    return f'<line x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"{look}/>'


def _grid(panel: Panel) -> str:
    """The lines of a panel's axes, and those at their ticks."""
    made, low = [], number(panel.height)
    for axis, upright in ((panel.x, True), (panel.y, False)):
        spec, mark = axis.spec, _mark(axis)
        if not spec.get("visible", True):
            continue
        across = spec.get("showgrid", True)
        at = [_unit(panel, axis, place) for place, _ in axis.ticks()]
        if upright:
            start, end = "0" if across else low, number(panel.height + mark)
            made += [_segment(x, x, start, end) for x in at]
        else:
            start, end = number(-mark), "100%" if across else "0"
            made += [_segment(start, end, y, y) for y in at]
        if spec.get("zeroline") and min(axis.range) <= 0 <= max(axis.range):
            zero = _unit(panel, axis, 0)
            ends = (zero, zero, "0", low) if upright else ("0", "100%", zero, zero)
            made.append(_segment(*ends))
        if spec.get("showline"):
            ends = ("0", "100%", low, low) if upright else ("0", "0", "0", low)
            made.append(_segment(*ends))
    return f'<g class="grid">{"".join(made)}</g>'


def _unit(panel: Panel, axis: Axis, place: float) -> str:
    """A place on an axis of a panel, as SVG has it."""
    if axis is panel.x:
        return share((panel.x.pixel(place) - panel.x.start) / panel.width)
    return number(panel.y.pixel(place) - panel.y.end)


def _around(panel: Panel, size: float) -> str:
    """Labels and names of both axes."""
    x, y, made = panel.x, panel.y, []
    letters = _letters(x, size)
    for place, label in _labels(x):
        top = panel.height + _mark(x) + CLEAR
        made.append(text(label, _unit(panel, x, place), top, letters, "middle"))
    under = panel.height + _mark(x) + (CLEAR + 1.15 * letters if _labels(x) else 0)
    letters = _letters(y, size)
    for place, label in _labels(y):
        top = float(_unit(panel, y, place)) - 0.65 * letters
        made.append(text(label, number(-_mark(y) - CLEAR), top, letters, "end"))
    for axis in (x, y):
        name = read(axis.spec, "title.text")
        if not name or not axis.spec.get("visible", True):
            continue
        own = read(axis.spec, "title.font.size") or 1.2 * size
        room = axis.spec["title"].get("standoff", 15)
        if axis is x:
            made.append(text(name, "50%", under + room - 0.2 * own, own, "middle"))
        else:
            left = -_beside(y, size) - room - 1.3 * own
            turn = f"translate({number(left)} {number(panel.height / 2)}) rotate(-90)"
            made.append(f'<g transform="{turn}">{text(name, "0", 0, own, "middle")}</g>')
    return "".join(made)


def _drawn(panel: Panel, plot: Plot) -> str:
    """One panel with all that is on it and around it."""
    axes = [axis.spec["id"] for axis in (panel.x, panel.y)]
    on_it = [
        trace
        for trace in plot.data
        if [trace.get("xaxis", "x"), trace.get("yaxis", "y")] == axes
        and trace.get("visible", True) is True
    ]
    made = []
    for trace in sorted(on_it, key=lambda t: ORDER.index(t.get("type", "scatter"))):
        if trace.get("type") == "heatmap":
            drawn = heatmap(trace, panel, plot.layout)
        elif trace.get("type") == "bar":
            drawn = bars(trace, panel, plot.layout.get("bargap", 0.2))
        else:
            drawn = scatter(trace, panel, plot.size)
        clip = "visible" if trace.get("cliponaxis") is False else None
        made.append(
            f'<svg height="{number(panel.height)}"{attributes(overflow=clip)}>{drawn}</svg>'
        )
    return (
        f'<svg x="{share(panel.x.start / plot.width)}" y="{number(panel.y.end)}" '
        f'width="{share(panel.width / plot.width)}" height="{number(panel.height)}" '
        f'overflow="visible">{_grid(panel)}{"".join(made)}{_around(panel, plot.size)}</svg>'
    )


# ---- what lies over the plot: notes, shapes, the bar of colours, the legend


def _spot(said: Mapping[str, Any], key: str, plot: Plot) -> float:
    """Where "x0", "y", ... of a note or a shape lies, in CSS pixels of the plot."""
    letter = key[0]
    ref = said.get(f"{letter}ref", "paper")
    if ref == "paper":
        return plot.width * said[key] if letter == "x" else plot.height * (1 - said[key])
    axis = next(
        axis
        for panel in plot.panels
        for axis in (panel.x, panel.y)
        if axis.spec["id"] == ref.removesuffix(" domain")
    )
    if ref.endswith("domain"):
        return axis.start + said[key] * (axis.end - axis.start)
    place = axis.place(said[key])
    return axis.pixel(0 if place is None else place)


def _note(note: Mapping[str, Any], plot: Plot) -> str:
    x = _spot(note, "x", plot) / plot.width
    y = _spot(note, "y", plot) - note.get("yshift", 0)
    size = read(note, "font.size") or plot.size
    high = LINE * size * (1 + note["text"].count("<br>"))
    auto = "left" if x < 1 / 3 else "right" if x > 2 / 3 else "center"
    side = note.get("xanchor", auto)
    auto = (
        "top" if y < plot.height / 3 else "bottom" if y > 2 * plot.height / 3 else "middle"
    )
    top = y - {"top": 0, "middle": high / 2, "bottom": high}[note.get("yanchor", auto)]
    anchor = {"left": "start", "center": "middle", "right": "end"}[side]
    return text(note["text"], share(x), top, size, anchor, fill=read(note, "font.color"))


def _shape(shape: Mapping[str, Any], plot: Plot) -> str:
    x0, x1 = (_spot(shape, key, plot) / plot.width for key in ("x0", "x1"))
    y0, y1 = (_spot(shape, key, plot) for key in ("y0", "y1"))
    look = line_look(shape) + attributes(
        opacity=shape.get("opacity"), fill=shape.get("fillcolor", "none")
    )
    if shape["type"] == "line":
        return _segment(share(x0), share(x1), number(y0), number(y1), look)
    box = attributes(
        x=share(min(x0, x1)),
        y=number(min(y0, y1)),
        width=share(abs(x1 - x0)),
        height=number(abs(y1 - y0)),
    )
    return f"<rect{box}{look}/>"


def _colour_bar(plot: Plot, mark: str) -> str:
    """The bar of colours that the heatmaps of a figure share, with its name above it."""
    axis = plot.layout.get("coloraxis")
    if not axis:
        return ""
    bar, own = axis["colorbar"], read(axis, "colorbar.title.font.size") or plot.size
    scale = axis["colorscale"]
    if axis.get("reversescale"):
        scale = [[1 - at, colour] for at, colour in reversed(scale)]
    stops = "".join(f'<stop offset="{number(at, 3)}" stop-color="{c}"/>' for at, c in scale)
    spec = {"anchor": "y"} | {
        key: bar[key] for key in ("nticks", "tickformat", "tickvals") if key in bar
    }
    wide = bar["len"] * plot.width
    ticks = Axis(spec, 0, wide, (axis["cmin"], axis["cmax"]))
    top, thick = LINE * own + 2, bar["thickness"]
    labels = "".join(
        text(
            label,
            share(ticks.pixel(place) / wide),
            top + thick + CLEAR,
            plot.size,
            "middle",
        )
        for place, label in ticks.ticks()
    )
    name = text(bar["title"]["text"], "50%", 0, own, "middle")
    return (
        f'<svg x="{share(bar["x"])}" y="{number((1 - bar["y"]) * plot.height)}" '
        f'width="{share(bar["len"])}" overflow="visible"><linearGradient id="{mark}">{stops}'
        f'</linearGradient><rect y="{number(top)}" width="100%" height="{thick}" '
        f'fill="url(#{mark})"/>{labels}{name}</svg>'
    )


def _key(plot: Plot) -> str:
    """The legend, as HTML: a sample of each trace that has a name, and the name."""
    entries = named(plot.data, plot.layout)
    if not entries:
        return ""
    made = []
    for trace in entries:
        mode, sample = trace.get("mode", "markers"), ""
        if trace.get("fill") == "tozeroy":
            sample += f'<rect y="6" width="30" height="6"{area_look(trace)}/>'
        if "lines" in mode:
            sample += f'<line x2="30" y1="6" y2="6"{line_look(trace)}/>'
        if trace.get("type") == "bar":
            trace = trace | {"marker": trace["marker"] | {"symbol": "square", "size": 11}}
        if "markers" in mode:
            sample += markers(trace, [(0.5, 6)])
        made.append(
            f'<span><svg width="30" height="12">{sample}</svg>{html.escape(trace["name"])}</span>'
        )
    legend = plot.layout.get("legend", {})
    if legend.get("yref") == "container":
        at = "top: 0" if legend.get("y", 1) > 0.5 else "bottom: 0"
    else:
        at = f"bottom: {number(plot.margin['b'] + legend.get('y', 1) * plot.height)}px"
    return f'<div style="{at}">{"".join(made)}</div>'


# ---- the still


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
            needed = _beside(y, size) + name.get("standoff", 15) + 0.7 * own + 12
            margin["l"] = max(margin["l"], needed)
    inner = wide - margin["l"] - margin["r"]
    panels = _panels(layout, figure["data"], (inner, height))
    return Plot(layout, figure["data"], margin, inner, height, size, panels)


def _picture(plot: Plot, width: str, mark: str) -> str:
    """One width of a still."""
    sides = " ".join(f"{number(plot.margin[side])}px" for side in "trbl")
    layers = [
        *(_drawn(panel, plot) for panel in plot.panels),
        *(_shape(shape, plot) for shape in plot.layout.get("shapes", [])),
        *(_note(note, plot) for note in plot.layout.get("annotations", [])),
        _colour_bar(plot, f"{mark}-{width}"),
    ]
    return (
        f'<div class="lrd-still lrd-{width}" style="padding: {sides}" aria-hidden="true">'
        f'<svg height="{number(plot.height)}">{"".join(layers)}</svg>{_key(plot)}</div>'
    )


def still(figure: Mapping[str, Any]) -> str | None:
    """The HTML of a figure's still, as plotly's JSON has the figure: one drawing for a
    desktop and one for a phone, of which the page shows one. None if it holds anything that
    is not drawn here, or would be above LIMIT.

    >>> still({"data": [{"type": "pie"}], "layout": {"height": 300}}) is None
    True
    """
    if not figure["layout"].get("height") or not drawable(figure):
        return None
    mark = f"lrd-{zlib.crc32(json.dumps(figure['layout'], sort_keys=True).encode()):x}"
    made = "".join(_picture(laid_out(figure, width), width, mark) for width in WIDTHS)
    return made if len(gzip.compress(made.encode())) <= LIMIT else None
