"""Which plotly figures a still (lrdlib/figures/still.py) can show. What is not known here is
refused: nothing is left out of a still.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lrdlib.figures.marks import ORDER, SHAPES, SYMBOLS, sayable, scale_of
from lrdlib.figures.panels import Trace
from lrdlib.figures.widths import axis_names, read

CELLS = 1500  # of one heatmap
# All settings that are drawn here, or that change nothing of a picture at rest.
KNOWN = {
    "layout": {
        *("annotations", "bargap", "coloraxis", "dragmode", "font", "height", "hoverlabel"),
        *(
            "hovermode",
            "legend",
            "margin",
            "meta",
            "paper_bgcolor",
            "plot_bgcolor",
            "shapes",
        ),
        *("showlegend", "sliders", "template", "updatemenus"),
    },
    "axis": {
        *(
            "anchor",
            "automargin",
            "autorange",
            "constrain",
            "domain",
            "dtick",
            "fixedrange",
        ),
        *("exponentformat", "gridcolor", "linecolor", "matches", "nticks", "range"),
        *("rangemode", "scaleanchor", "showgrid", "showline", "showticklabels", "tick0"),
        *("tickangle", "tickfont", "tickformat", "ticks", "ticktext", "tickvals", "title"),
        *("type", "visible", "zeroline"),
    },
    "trace": {
        *("customdata", "hoverinfo", "hoverlabel", "hovertemplate", "hovertext"),
        *(
            "legendgroup",
            "name",
            "showlegend",
            "type",
            "visible",
            "x",
            "xaxis",
            "y",
            "yaxis",
        ),
    },
    "scatter": {
        *("cliponaxis", "fill", "fillcolor", "line", "marker", "mode", "opacity", "text"),
        *("textfont", "textposition"),
    },
    "bar": {"cliponaxis", "marker", "opacity"},
    "heatmap": {
        *("coloraxis", "colorscale", "reversescale", "showscale", "xgap", "ygap", "z"),
        *("zmax", "zmin"),
    },
    "line": {"color", "dash", "shape", "width"},
    "marker": {"color", "line", "opacity", "size", "symbol"},
    "annotation": {
        *("align", "font", "showarrow", "text", "x", "xanchor", "xref", "y", "yanchor"),
        *("yref", "yshift"),
    },
    "shape": {
        *("fillcolor", "layer", "line", "opacity", "type", "x0", "x1", "xref", "y0", "y1"),
        "yref",
    },
}


def drawable(figure: Mapping[str, Any]) -> bool:
    """Whether a figure, as plotly's JSON has it, holds only what a still can show."""
    layout, data = figure["layout"], figure["data"]
    names = axis_names(layout)
    kinds = [
        (t.get("type", "scatter"), t.get("xaxis", "x"), t.get("yaxis", "y")) for t in data
    ]
    upright = [kind for kind in kinds if kind[0] == "bar"]
    notes, shapes = layout.get("annotations", []), layout.get("shapes", [])
    return (
        bool(layout.get("height"))
        and layout.keys() - {*names} <= KNOWN["layout"]
        and not read(layout, "template.layout")  # a look that is not the book's
        and all(_drawable_trace(trace, layout) for trace in data)
        and len(upright) == len(set(upright))  # bars side by side are placed by plotly
        and {(x, y) for _, x, y in kinds} <= _panel_names(layout)
        and all(_drawable_axis(layout.get(name, {})) for name in names)
        and all(note.keys() <= KNOWN["annotation"] for note in notes)
        and not any(note.get("showarrow", True) for note in notes)
        and all(shape.keys() <= KNOWN["shape"] for shape in shapes)
        and all(shape["type"] in ("line", "rect") for shape in shapes)
        and _drawable_bar(layout)
        and all(sayable(words) for words in _words(figure))
    )


def _panel_names(layout: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The axes of each panel, as ("x", "y")."""
    names = [name.replace("axis", "") for name in axis_names(layout) if name[0] == "x"]
    return {(x, read(layout, f"xaxis{x[1:]}.anchor") or "y") for x in names}


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
    if kind not in ORDER or not trace.keys() <= KNOWN["trace"] | KNOWN[kind]:
        return False
    if not all(isinstance(trace.get(key, []), list) for key in "xyz"):
        return False  # numbers in base 64
    names = (v for key in "xy" for v in trace.get(key, []) if isinstance(v, str))
    if any(re.fullmatch(r"[\d\s.:eE/+-]+", name) for name in names):
        return False  # which plotly reads as dates or numbers
    if trace.get("visible") == "legendonly":
        return False
    if kind == "heatmap":
        cells = sum(len(row) for row in trace["z"])
        shared = "coloraxis" in trace
        scale = scale_of(layout.get("coloraxis", {}) if shared else trace)
        return (
            cells <= CELLS and bool(scale) and (shared or trace.get("showscale") is False)
        )
    marker, line = trace.get("marker", {}), trace.get("line", {})
    if not (marker.keys() <= KNOWN["marker"] and line.keys() <= KNOWN["line"]):
        return False
    if kind == "bar":
        return isinstance(marker.get("color"), str) and not read(marker, "line.width")
    colours, symbols = (
        set(said if isinstance(said, list) else [said])
        for said in (marker.get("color", ""), marker.get("symbol", "circle"))
    )
    return (
        "mode" in trace
        and trace.get("fill", "none") in ("none", "tozeroy")
        and line.get("shape", "linear") in SHAPES
        and all(isinstance(colour, str) for colour in colours)
        and {s.removesuffix("-open") for s in symbols} <= SYMBOLS.keys() | {"circle"}
        and (trace["mode"] == "text" or "color" in line or "color" in marker)
    )


def _drawable_axis(axis: Mapping[str, Any]) -> bool:
    return (
        axis.keys() <= KNOWN["axis"]
        and axis.get("type", "linear") in ("linear", "log")
        and not axis.get("tickangle")
        and bool(re.fullmatch(r"(\.\d[f%])?", axis.get("tickformat", "")))
        and axis.get("autorange", "reversed") == "reversed"
    )


def _drawable_bar(layout: Mapping[str, Any]) -> bool:
    """Whether the bar of colours, if there is one, lies, has its name above it and says
    where its colours begin and end."""
    axis, bar = layout.get("coloraxis", {}), read(layout, "coloraxis.colorbar")
    return not axis or (
        {"cmin", "cmax"} <= axis.keys()
        and bar is not None
        and bar.get("orientation") == "h"
        and bar["title"]["side"] == "top"
    )
