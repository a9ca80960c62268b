"""What the width of a reader's window changes of a figure's layout.

A figure is laid out for a wide window or for a phone (at most 600 CSS pixels): a phone has
smaller letters and margins, the legend below the plot, and what layout.meta["narrow"] says.
lrdlib/figures/static/figures.js gives these updates to plotly as they are, and the still
(lrdlib/figures/still.py) is drawn by them, so that the one lies where the other did. Sliders
and buttons leave the plot, and so does the room made for them: what is left between the
margins keeps its height.
"""

import copy
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

COLUMN = 260  # the least width of one column of subplots, in CSS pixels
LETTERS = 36  # in a line of a title on a phone
PHONE = {
    "font.size": 11,
    "title.font.size": 14,
    "legend.orientation": "h",
    "legend.x": 0,
    "legend.xanchor": "left",
    "legend.yref": "container",
}


def read(layout: Any, path: str) -> Any:
    """What a flat path leads to, None if to nothing.

    >>> read({"xaxis": {"range": [0, 1]}}, "xaxis.range")
    [0, 1]
    """
    for key in path.split("."):
        layout = layout.get(key) if isinstance(layout, Mapping) else None
    return layout


def updated(layout: dict[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """The layout after a flat update; None takes a setting away. `layout` stays as it is.

    >>> updated({"height": 300}, {"xaxis.title.text": "step", "height": None})
    {'xaxis': {'title': {'text': 'step'}}}
    """
    layout = copy.deepcopy(layout)
    for path, value in update.items():
        *above, last = path.split(".")
        node = layout
        for key in above:
            node = node.setdefault(key, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return layout


def axis_names(layout: Mapping[str, Any]) -> list[str]:
    """The names of the axes that a layout holds, those of the first panel always."""
    more = [key for key in layout if re.fullmatch(r"[xy]axis\d+", key)]
    return ["xaxis", "yaxis", *more]


def least_width(layout: Mapping[str, Any]) -> int:
    """Panels side by side keep this width on a phone, in CSS pixels, and scroll inside
    their own box; 0 if there are none."""
    names = [name for name in axis_names(layout) if name[0] == "x"]
    starts = {(read(layout, f"{name}.domain") or [0])[0] for name in names}
    return COLUMN * len(starts) if len(starts) > 1 else 0


def update_for(figure: Mapping[str, Any], *, narrow: bool) -> dict[str, Any]:
    """The flat update that fits a figure, as plotly's JSON has it, to a phone or to a wide
    window: each undoes the other. The height is that of the drawing in CSS pixels, None
    where plotly is to choose it.
    """
    own, data = figure["layout"], figure["data"]
    said = read(own, "meta.narrow") or {}
    layout = updated(own, said) if narrow else own
    update = {path: read(layout, path) for path in said}
    slim = narrow and not least_width(layout)
    title = _title(layout)
    margin = _margins(layout, data, slim)
    update |= {"margin": margin, "height": _height(layout, margin)}
    update["title.text"] = _wrapped(title) if slim else title
    at = ("top", 1) if _on_top(layout) else ("bottom", 0)
    phone = PHONE | {"legend.yanchor": at[0], "legend.y": at[1]}
    update |= {path: value if slim else read(layout, path) for path, value in phone.items()}
    size = update["font.size"] or 13
    for name in axis_names(layout):
        axis = layout.get(name, {})
        if axis.get("type") == "log" and axis.get("exponentformat") == "power":
            # plotly sets powers of ten a quarter larger than all else
            update[f"{name}.tickfont.size"] = size / 1.25
    return update


def _title(layout: Mapping[str, Any]) -> str:
    title = layout.get("title") or ""
    return title if isinstance(title, str) else title.get("text") or ""


def _wrapped(text: str) -> str:
    """A text with tags, in lines of about LETTERS letters."""

    def lines(run: re.Match[str]) -> str:
        made = [""]
        for word in run[0].split(" "):
            if made[-1] and len(made[-1]) + len(word) >= LETTERS:
                made.append(word)
            else:
                made[-1] = f"{made[-1]} {word}" if made[-1] else word
        return "<br>".join(made)

    return re.sub(r"[^<>]+", lines, text)


def named(data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> list[Any]:
    """The traces that a legend holds; none where there is no legend."""
    shown = [t for t in data if t.get("name") and t.get("showlegend") is not False]
    if layout.get("showlegend") is False:
        return []
    return shown if len(shown) >= (1 if layout.get("showlegend") else 2) else []


def _legend_height(layout: Mapping[str, Any], data: Sequence[Mapping[str, Any]]) -> int:
    """How high the legend of a phone is: rows of as many entries as fit side by side."""
    entries = named(data, layout)
    if not entries:
        return 0
    longest = max(len(trace["name"]) for trace in entries)
    fit = max(1, 320 // (45 + 6 * longest))
    return 20 * math.ceil(len(entries) / fit) + 8


def _on_top(layout: Mapping[str, Any]) -> bool:
    """A figure of many panels has its legend above them on a phone too: meta.narrow says
    so."""
    return (read(layout, "meta.narrow") or {}).get("legend.yanchor") == "top"


def _margins(
    layout: Mapping[str, Any], data: Sequence[Mapping[str, Any]], slim: bool
) -> dict[str, Any]:
    title, notes = _title(layout), layout.get("annotations")
    legend = _legend_height(layout, data)
    own = {"l": 60, "r": 24, "t": 64 if title else 40 if notes else 24, "b": 56}
    own |= layout.get("margin") or {}
    if not slim:
        bare = not title and not notes and not legend
        return {**own, "t": min(own["t"], 24) if bare else own["t"], "b": min(own["b"], 60)}
    top = 40 if notes else 20
    if title:
        top = 36 + 22 * len(_wrapped(title).split("<br>"))
    over, under = (16 + legend, 50) if _on_top(layout) else (top, 50 + legend)
    return {"l": min(own["l"], 44), "r": 12, "t": over, "b": under}


def _height(layout: Mapping[str, Any], margin: Mapping[str, Any]) -> float | None:
    before = {"t": 100, "b": 80, **(layout.get("margin") or {})}
    height = layout.get("height")
    if not height:
        return None
    return height - before["t"] - before["b"] + margin["t"] + margin["b"]
