"""The marks of a still (lrdlib/figures/still.py): lines, markers, words, bars and cells of a
plotly trace as SVG, on a panel of two axes.

A panel is as wide as its window lets it be: along x all lengths are shares of its width, or
units of a drawing that is stretched to it; along y they are CSS pixels below its top.
"""

import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from lrdlib.figures.panels import LINE, Panel, Trace, edges, values
from lrdlib.figures.widths import read

ACROSS = 2000  # units along x of a drawing that is stretched to its panel

DASHES = {"dot": (1, 1), "dash": (3, 3), "longdash": (5, 5), "dashdot": (3, 1, 1, 1)}
# The outline of each symbol by half its size, as plotly has it.
SYMBOLS: dict[str, Callable[[float], str]] = {
    "square": lambda r: f"M{-r:g} {-r:g}H{r:g}V{r:g}H{-r:g}Z",
    "diamond": lambda r: f"M{1.3 * r:g} 0L0 {1.3 * r:g} {-1.3 * r:g} 0 0 {-1.3 * r:g}Z",
    "triangle-up": lambda r: f"M{-1.155 * r:g} {r / 2:g}H{1.155 * r:g}L0 {-r:g}Z",
    "line-ew": lambda r: f"M{-1.4 * r:g} 0H{1.4 * r:g}",
    "x-thin": lambda r: f"M{-r:g} {-r:g}L{r:g} {r:g}M{-r:g} {r:g}L{r:g} {-r:g}",
}
ORDER = ("heatmap", "bar", "scatter")  # the kinds of traces, from the ground up
SHAPES = ("linear", "hv", "hvh")  # of lines
RAISED = str.maketrans("0123456789−-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻")
LOWERED = str.maketrans("0123456789i", "₀₁₂₃₄₅₆₇₈₉ᵢ")


def number(value: float, digits: int = 1) -> str:
    """A number as short as it can be written.

    >>> number(12.04), number(-0.04), number(0.26)
    ('12', '0', '0.3')
    """
    text = f"{value:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def share(value: float) -> str:
    return number(100 * value, 2) + "%"


def attributes(**said: Any) -> str:
    """SVG attributes, those that are None left out."""
    return "".join(
        f' {key.replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in said.items()
        if value is not None
    )


def _path(points: Sequence[tuple[float, float]], shape: str) -> str:
    """The path of a line through these points, to a tenth of a pixel along y; each step of
    a straight one is said from the point before, which compresses best."""
    at = [(round(ACROSS * x), round(10 * y)) for x, y in points]
    made = [f"M{at[0][0]} {number(at[0][1] / 10)}"]
    for (x0, y0), (x1, y1) in pairwise(at):
        if (x0, y0) == (x1, y1):
            continue
        if shape == "linear":
            made.append(f"l{x1 - x0} {number((y1 - y0) / 10)}")
        else:
            turn = x1 if shape == "hv" else (x0 + x1) // 2
            made.append(f"H{turn}V{number(y1 / 10)}" + (f"H{x1}" if shape == "hvh" else ""))
    return "".join(made)


def _runs(points: Sequence[Any]) -> Iterator[list[tuple[float, float]]]:
    """The points between the gaps of a line."""
    run: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
        elif run:
            yield run
            run = []


def line_look(trace: Trace) -> str:
    """How the line of a trace is drawn, as attributes."""
    line = trace.get("line", {})
    colour = line.get("color") or read(trace, "marker.color")
    width = line.get("width", 2)
    dash = DASHES.get(line.get("dash", "solid"))
    lengths = dash and " ".join(number(part * max(width, 3)) for part in dash)
    return attributes(stroke=colour, stroke_width=width, stroke_dasharray=lengths)


def area_look(trace: Trace) -> str:
    """How the area between a line and zero is drawn, as attributes."""
    if colour := trace.get("fillcolor"):
        return attributes(fill=colour)
    return attributes(fill=trace["line"]["color"], fill_opacity=0.5)


def _stretched(drawn: str, height: float) -> str:
    """Paths of ACROSS units along x over the whole width of a panel."""
    return (
        f'<svg width="100%" height="{number(height)}" viewBox="0 0 {ACROSS} {number(height)}" '
        f'preserveAspectRatio="none">{drawn}</svg>'
    )


def _each(value: Any, n: int) -> Any:
    return value[n] if isinstance(value, list) else value


def _symbol(kind: str, size: float, x: str, y: str) -> str:
    """One marker at x (with its unit) and y."""
    kind = kind.removesuffix("-open")
    if kind == "circle":
        return f'<circle cx="{x}" cy="{y}" r="{number(size / 2)}"/>'
    return f'<svg x="{x}" y="{y}" overflow="visible"><path d="{SYMBOLS[kind](size / 2)}"/></svg>'


def markers(trace: Trace, points: Sequence[Any]) -> str:
    """The markers of a trace, in groups of one look."""
    marker, line = trace.get("marker", {}), read(trace, "marker.line") or {}
    colour = marker.get("color") or read(trace, "line.color")
    groups: dict[str, list[str]] = {}
    for n, point in enumerate(points):
        if point is None:
            continue
        kind = _each(marker.get("symbol", "circle"), n)
        size = _each(marker.get("size", 6), n)
        thick, own = _each(line.get("width", 0), n), _each(colour, n)
        hollow = kind.endswith("-open")
        edge = own if hollow else _each(line.get("color", "#444"), n)
        look = attributes(
            fill="none" if hollow else own,
            stroke=edge if thick or hollow else None,
            stroke_width=(thick or 1) if thick or hollow else None,
            opacity=_each(marker.get("opacity"), n),
        )
        drawn = _symbol(kind, size, share(point[0]), number(point[1]))
        groups.setdefault(look, []).append(drawn)
    return "".join(f"<g{look}>{''.join(drawn)}</g>" for look, drawn in groups.items())


def scatter(trace: Trace, panel: Panel, size: float) -> str:
    points, mode, made = panel.points(trace), trace["mode"], ""
    shape = read(trace, "line.shape") or "linear"
    if "lines" in mode:
        paths = [_path(run, shape) for run in _runs(points)]
        if trace.get("fill") == "tozeroy" and paths:
            zero, ends = number(panel.down(0) or 0), [run for run in _runs(points)]
            areas = "".join(
                f"{path}V{zero}H{number(ACROSS * run[0][0], 0)}Z"
                for path, run in zip(paths, ends, strict=True)
            )
            made += f'<path d="{areas}"{area_look(trace)}/>'
        if paths:
            made += f'<path d="{"".join(paths)}" fill="none"{line_look(trace)}/>'
        made = made and _stretched(made, panel.height)
    if "markers" in mode:
        made += markers(trace, points)
    if "text" in mode:
        made += _texts(trace, points, size)
    if trace.get("opacity") is not None:
        made = f"<g{attributes(opacity=trace['opacity'])}>{made}</g>"
    return made


def _texts(trace: Trace, points: Sequence[Any], size: float) -> str:
    """The words of a trace, beside their points."""
    font, made = trace.get("textfont", {}), []
    for n, point in enumerate(points):
        words = _each(trace.get("text", ""), n)
        if point is None or not words:
            continue
        upright, side = _each(trace.get("textposition", "middle center"), n).split()
        room = 1.0
        if "markers" in trace["mode"]:
            room += _each(read(trace, "marker.size") or 6, n) / 1.6
        x, y = share(point[0]), point[1]
        own = _each(font.get("size", size), n)
        high = LINE * own * (1 + words.count("<br>"))
        top = {"top": y - room - high, "middle": y - high / 2, "bottom": y + room}[upright]
        shift = {"left": -room, "center": 0, "right": room}[side]
        anchor = {"left": "end", "center": "middle", "right": "start"}[side]
        look = {"dx": number(shift), "fill": _each(font.get("color"), n)}
        made.append(text(words, x, top, own, anchor, **look))
    return "".join(made)


def bars(trace: Trace, panel: Panel, gap: float) -> str:
    xs, zero = values(trace, "x"), panel.down(0) or 0
    half = min((b - a for a, b in pairwise(xs)), default=1) * (1 - gap) / 2
    made = []
    for x, y in zip(xs, trace["y"], strict=True):
        left, right, end = panel.across(x - half), panel.across(x + half), panel.down(y)
        if left is not None and right is not None and end is not None:
            a, b = number(ACROSS * left, 0), number(ACROSS * right, 0)
            made.append(f"M{a} {number(zero)}V{number(end)}H{b}V{number(zero)}Z")
    look = attributes(fill=trace["marker"]["color"], opacity=trace.get("opacity"))
    return _stretched(f'<path d="{"".join(made)}"{look}/>', panel.height)


def heatmap(trace: Trace, panel: Panel, layout: Mapping[str, Any]) -> str:
    """Cells in groups of one colour, with the gaps that the trace asks for."""
    colour_of = colours(trace, layout)
    xs = [panel.x.place(value) for value in values(trace, "x")]
    ys = [panel.y.place(value) for value in values(trace, "y")]
    left, top = (
        [(axis.pixel(edge) - start) for edge in edges([p for p in places if p is not None])]
        for axis, places, start in (
            (panel.x, xs, panel.x.start), (panel.y, ys, panel.y.end)
        )
    )  # fmt: skip
    gap_x, gap_y = trace.get("xgap", 0) / 2, trace.get("ygap", 0) / 2
    groups: dict[str, list[str]] = {}
    for row, down in zip(trace["z"], pairwise(top), strict=True):
        for value, along in zip(row, pairwise(left), strict=True):
            if value is None:
                continue
            (a, b), (c, d) = sorted(along), sorted(down)
            a, b = ((px * ACROSS / panel.width) for px in (a + gap_x, b - gap_x))
            wide, high = number(b - a, 0), number(d - c - 2 * gap_y)
            cell = f"M{number(a, 0)} {number(c + gap_y)}h{wide}v{high}h-{wide}z"
            groups.setdefault(colour_of(value), []).append(cell)
    drawn = "".join(
        f'<path d="{"".join(cells)}" fill="{colour}"/>' for colour, cells in groups.items()
    )
    return _stretched(f'<g shape-rendering="crispEdges">{drawn}</g>', panel.height)


def colours(trace: Trace, layout: Mapping[str, Any]) -> Callable[[float], str]:
    """The colour of a value of a heatmap."""
    shared: Mapping[str, Any] = layout.get("coloraxis", {}) if "coloraxis" in trace else {}
    known = [value for row in trace["z"] for value in row if value is not None]
    low = shared.get("cmin", trace.get("zmin", min(known, default=0)))
    high = shared.get("cmax", trace.get("zmax", max(known, default=1)))
    said = shared if "coloraxis" in trace else trace
    stops = [(at, rgba(colour)) for at, colour in scale_of(said)]

    def colour_of(value: float) -> str:
        share = min(max((value - low) / ((high - low) or 1), 0), 1)
        for (a, first), (b, last) in pairwise(stops):
            if share <= b:
                t = (share - a) / (b - a) if b > a else 0.0
                r, g, blue, alpha = (
                    p + t * (q - p) for p, q in zip(first, last, strict=True)
                )
                whole = f"{r:.0f} {g:.0f} {blue:.0f}"
                return f"rgb({whole})" if alpha == 1 else f"rgb({whole}/{number(alpha, 2)})"
        raise ValueError(f"colorscale must end at 1, got {stops}")

    return colour_of


def scale_of(said: Mapping[str, Any]) -> list[tuple[float, str]]:
    """The colours of a heatmap or of a shared axis of colours, and where from 0 to 1 each
    stands; none if they are only named, or in a form that `rgba` does not read.

    >>> scale_of({"colorscale": [[0, "#000000"], [1, "#ffffff"]], "reversescale": True})
    [(0, '#ffffff'), (1, '#000000')]
    """
    scale = said.get("colorscale")
    if not isinstance(scale, list):
        return []
    if not all(
        re.fullmatch(r"#[0-9a-f]{6}|rgba?\([\d., ]+\)", colour) for _, colour in scale
    ):
        return []
    if said.get("reversescale"):
        return [(1 - at, colour) for at, colour in reversed(scale)]
    return [(at, colour) for at, colour in scale]


def rgba(colour: str) -> tuple[float, ...]:
    """Red, green, blue (0 to 255) and alpha (0 to 1).

    >>> rgba("#378eca"), rgba("rgba(128, 128, 128, 0.25)")
    ((55, 142, 202, 1.0), (128.0, 128.0, 128.0, 0.25))
    """
    if colour.startswith("#"):
        return (*(int(colour[i : i + 2], 16) for i in (1, 3, 5)), 1.0)
    parts = [float(part) for part in re.findall(r"[\d.]+", colour)]
    return (*parts, 1.0)[:4]


# ---- words


def sayable(words: str) -> bool:
    """Whether plotly's HTML holds nothing but lines, bold words, and powers and indices
    that have letters of their own.

    >>> sayable("σ<sub>1</sub>"), sayable("W<sub>Q</sub>")
    (True, False)
    """
    rest = re.sub(r"</?b>|<br */?>|<sub>[0-9i]+</sub>|<sup>[0-9−-]+</sup>", "", words)
    return not re.search(r"<\w|</", rest)


def _plain(words: str) -> str:
    """Words in plotly's HTML, with letters for powers and indices, as SVG."""
    words = re.sub("<sub>(.*?)</sub>", lambda m: m[1].translate(LOWERED), words)
    words = re.sub("<sup>(.*?)</sup>", lambda m: m[1].translate(RAISED), words)
    words = html.escape(html.unescape(words))
    words = words.replace("&lt;b&gt;", '<tspan font-weight="bold">')
    return words.replace("&lt;/b&gt;", "</tspan>")


def text(words: str, x: str, top: float, size: float, anchor: str, **look: Any) -> str:
    """Words in plotly's HTML, line below line from the height `top` on, at x (with its
    unit)."""
    return "".join(
        f'<text x="{x}" y="{number(top + size * (1 + LINE * n))}"'
        f"{attributes(text_anchor=anchor, font_size=number(size), **look)}>{_plain(line)}</text>"
        for n, line in enumerate(re.split(r"<br */?>", words))
    )
