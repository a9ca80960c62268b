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
import zlib
from collections.abc import Mapping
from typing import Any

from lrdlib.figures.drawable import drawable
from lrdlib.figures.marks import (
    ORDER,
    area_look,
    attributes,
    bars,
    heatmap,
    line_look,
    markers,
    number,
    scale_of,
    scatter,
    share,
    text,
)
from lrdlib.figures.panels import (
    CLEAR,
    LINE,
    WIDTHS,
    Panel,
    Plot,
    beside,
    labels,
    laid_out,
    letters_of,
    mark,
)
from lrdlib.figures.scale import Axis
from lrdlib.figures.widths import named, read

LIMIT = 40_000  # bytes of a still, compressed


# ---- what is around a panel


def _segment(x1: str, x2: str, y1: str, y2: str, look: str = "") -> str:
    return f'<line x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"{look}/>'


def _grid(panel: Panel) -> str:
    """The lines of a panel's axes, and those at their ticks."""
    made, low = [], number(panel.height)
    for axis, upright in ((panel.x, True), (panel.y, False)):
        spec, long = axis.spec, mark(axis)
        if not spec.get("visible", True):
            continue
        across = spec.get("showgrid", True)
        at = [_unit(panel, axis, place) for place, _ in axis.ticks()]
        if upright:
            start, end = "0" if across else low, number(panel.height + long)
            made += [_segment(x, x, start, end) for x in at]
        else:
            start, end = number(-long), "100%" if across else "0"
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
    letters = letters_of(x, size)
    for place, label in labels(x):
        top = panel.height + mark(x) + CLEAR
        made.append(text(label, _unit(panel, x, place), top, letters, "middle"))
    under = panel.height + mark(x) + (CLEAR + 1.15 * letters if labels(x) else 0)
    letters = letters_of(y, size)
    for place, label in labels(y):
        top = float(_unit(panel, y, place)) - 0.65 * letters
        made.append(text(label, number(-mark(y) - CLEAR), top, letters, "end"))
    for axis in (x, y):
        name = read(axis.spec, "title.text")
        if not name or not axis.spec.get("visible", True):
            continue
        own = read(axis.spec, "title.font.size") or 1.2 * size
        room = axis.spec["title"].get("standoff", 15)
        if axis is x:
            made.append(text(name, "50%", under + room - 0.2 * own, own, "middle"))
        else:
            left = -beside(y, size) - room - 1.3 * own
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


def _colour_bar(plot: Plot, name: str) -> str:
    """The bar of colours that the heatmaps of a figure share, with its name above it."""
    axis = plot.layout.get("coloraxis")
    if not axis:
        return ""
    bar, own = axis["colorbar"], read(axis, "colorbar.title.font.size") or plot.size
    stops = "".join(
        f'<stop offset="{number(at, 3)}"{attributes(stop_color=c)}/>'
        for at, c in scale_of(axis)
    )
    spec = {"anchor": "y"} | {
        key: bar[key] for key in ("nticks", "tickformat", "tickvals") if key in bar
    }
    wide = bar["len"] * plot.width
    ticks = Axis(spec, 0, wide, (axis["cmin"], axis["cmax"]))
    top, thick = LINE * own + 2, bar["thickness"]
    said = "".join(
        text(
            label,
            share(ticks.pixel(place) / wide),
            top + thick + CLEAR,
            plot.size,
            "middle",
        )
        for place, label in ticks.ticks()
    )
    title = text(bar["title"]["text"], "50%", 0, own, "middle")
    return (
        f'<svg x="{share(bar["x"])}" y="{number((1 - bar["y"]) * plot.height)}" '
        f'width="{share(bar["len"])}" overflow="visible"><linearGradient id="{name}">{stops}'
        f'</linearGradient><rect y="{number(top)}" width="100%" height="{thick}" '
        f'fill="url(#{name})"/>{said}{title}</svg>'
    )


def _key(plot: Plot) -> str:
    """The legend, as HTML: a sample of each trace that has a name, and the name."""
    entries = [t for t in named(plot.data, plot.layout) if t.get("visible", True)]
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


def _picture(plot: Plot, width: str, name: str) -> str:
    """One width of a still."""
    sides = " ".join(f"{number(plot.margin[side])}px" for side in "trbl")
    layers = [
        *(_drawn(panel, plot) for panel in plot.panels),
        *(_shape(shape, plot) for shape in plot.layout.get("shapes", [])),
        *(_note(note, plot) for note in plot.layout.get("annotations", [])),
        _colour_bar(plot, f"{name}-{width}"),
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
    if not drawable(figure):
        return None
    name = f"lrd-{zlib.crc32(json.dumps(figure['layout'], sort_keys=True).encode()):x}"
    made = "".join(_picture(laid_out(figure, width), width, name) for width in WIDTHS)
    return made if len(gzip.compress(made.encode())) <= LIMIT else None
