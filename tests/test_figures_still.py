"""Stills of plotly figures: what is drawn is read back from the SVG and held against the
figure's own numbers. That the axes are plotly's, tests/test_book.py asks plotly."""

import json
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import plotly.graph_objects as go
import pytest

from lrdlib.figures.canvas import axes, canvas, finish
from lrdlib.figures.marks import ACROSS
from lrdlib.figures.panels import laid_out
from lrdlib.figures.scale import Axis, shown_range
from lrdlib.figures.sphinx import to_html
from lrdlib.figures.still import LIMIT, still
from lrdlib.figures.widths import update_for, updated

LINE = {"color": "#378eca", "dash": "dot", "width": 2}


def plain(fig: go.Figure) -> dict:
    """A figure as a page has it."""
    return json.loads(finish(fig, "A figure.").to_json())


def figure(*traces, heights=(192,), columns=1, x=None, y=None) -> dict:
    """A figure of one panel, 200 pixels high between its margins, or of several, each with
    the next of the traces."""
    fig = canvas(heights, columns)
    panels = [(row + 1, col + 1) for row in range(len(heights)) for col in range(columns)]
    for n, trace in enumerate(traces):
        row, col = panels[min(n, len(panels) - 1)]
        fig.add_trace(trace, row=row, col=col)
    for row, col in panels:
        axes(fig, "step", "accuracy", row=row, col=col)
    fig.update_xaxes(x or {})
    fig.update_yaxes(y or {})
    return plain(fig)


def drawing(fig: dict, width="wide") -> ET.Element:
    """The <svg> of one width of a still, in which all tags and attributes are well
    formed."""
    made = still(fig)
    assert made is not None
    whole = ET.fromstring(f"<r>{made}</r>")
    assert [part.get("aria-hidden") for part in whole] == ["true", "true"]
    (found,) = (part for part in whole if f"lrd-{width}" in part.get("class"))
    return found


def paths(root: ET.Element) -> list[tuple[ET.Element, float]]:
    """Each path of a drawing that is stretched to its panel, and the panel's height."""
    found = []
    for svg in root.iter("svg"):
        if svg.get("preserveAspectRatio") == "none":
            left, top, wide, high = map(float, svg.get("viewBox").split())
            assert (left, top, wide, high) == (0, 0, ACROSS, float(svg.get("height")))
            found += [(path, high) for path in svg.iter("path")]
    return found


def corners(path: ET.Element) -> np.ndarray:
    """The points of a path of M (a place) and l (a step)."""
    at, found = np.zeros(2), []
    for letter, x, y in re.findall(r"([Ml])(\S+?) ([^Ml]+)", path.get("d")):
        at = np.array([float(x), float(y)]) + (at if letter == "l" else 0)
        found.append(at)
    return np.array(found)


def read_back(path: ET.Element, high: float, x: tuple, y: tuple) -> np.ndarray:
    """The points of a path, on axes of these ranges."""
    across, down = (corners(path) / (ACROSS, high)).T
    return np.stack([x[0] + across * (x[1] - x[0]), y[1] - down * (y[1] - y[0])], 1)


@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_the_points_of_a_line_lie_where_the_axes_say(width):
    rng = np.random.default_rng(0)
    xs, ys = np.sort(rng.uniform(0, 5, 40)).tolist(), rng.uniform(-1, 3, 40).tolist()
    line = go.Scatter(x=xs, y=ys, mode="lines", line=LINE)
    root = drawing(figure(line, x={"range": [-1, 6]}, y={"range": [4, -2]}), width)
    ((path, high),) = paths(root)
    assert high == 200  # what is between the margins is as high at any width
    found = read_back(path, high, (-1, 6), (-2, 4)[::-1])
    np.testing.assert_allclose(found[:, 0], xs, atol=7 / ACROSS)
    np.testing.assert_allclose(found[:, 1], ys, atol=6 / high / 10)
    assert path.get("stroke") == "#378eca" and path.get("stroke-dasharray") == "3 3"


def test_a_log_axis_is_in_powers_of_ten_and_what_has_none_breaks_the_line():
    xs, ys = [1e-3, 1e-2, 1e-1, 1, 10], [1.0, 0.0, 0.01, None, 100.0]
    line = go.Scatter(x=xs, y=ys, mode="lines", line=LINE)
    log = {"type": "log", "range": [-3, 2], "dtick": 1, "exponentformat": "power"}
    root = drawing(figure(line, x=log, y=log))
    ((path, high),) = paths(root)
    found = read_back(path, high, (-3, 2), (-3, 2))
    expected = [[-3, 0], [-1, -2], [1, 2]]  # each begins anew: zero and None have no place
    np.testing.assert_allclose(found, expected, atol=5 / high / 10)
    assert path.get("d").count("M") == 3
    said = [text.text for text in root.iter("text")]
    assert said[:6] == ["10⁻³", "10⁻²", "10⁻¹", "1", "10", "10²"]


def test_steps_keep_their_corners_and_an_area_goes_down_to_zero():
    trace = go.Scatter(x=[0, 1, 2], y=[1, 3, 2], mode="lines", line=LINE)
    trace.update(line_shape="hv", fill="tozeroy")
    area, line = paths(drawing(figure(trace, x={"range": [0, 2]}, y={"range": [0, 4]})))
    assert line[0].get("d") == "M0 150H1000V50H2000V100"
    assert area[0].get("d") == "M0 150H1000V50H2000V100V200H0Z"
    assert area[0].get("fill") == "#378eca" and area[0].get("fill-opacity") == "0.5"


def test_markers_lie_in_shares_of_the_width_with_their_own_looks():
    marks = go.Scatter(x=[1, 3], y=[0, 5], mode="markers")
    marks.update(marker={"color": ["#111111", "#222222"], "size": [8, 10]})
    marks.update(marker_symbol=["circle", "diamond-open"], opacity=0.5)
    root = drawing(figure(marks, x={"range": [0, 4]}, y={"range": [0, 10]}))
    (circle,) = (c for c in root.iter("circle"))
    assert (circle.get("cx"), circle.get("cy"), circle.get("r")) == ("25%", "200", "4")
    (place,) = (s for s in root.iter("svg") if s.get("x") == "75%")
    assert place.get("y") == "100" and place[0].get("d").startswith("M6.5 0")
    groups = [g for g in root.iter("g") if g.get("fill")]
    assert [g.get("fill") for g in groups] == ["#111111", "none"]
    assert groups[1].get("stroke") == "#222222"
    assert any(g.get("opacity") == "0.5" for g in root.iter("g"))


def test_each_bar_is_as_high_as_its_value():
    bars = go.Bar(x=[1, 2, 3], y=[4, 0, -2], marker_color="#cc7518")
    root = drawing(figure(bars, x={"range": [0.5, 3.5]}, y={"range": [-2, 4]}))
    ((path, high),) = paths(root)
    found = re.findall(r"M(\S+) (\S+)V(\S+)H(\S+)V(\S+)Z", path.get("d"))
    for (left, zero, end, right, back), x, y in zip(
        found, (1, 2, 3), (4, 0, -2), strict=True
    ):
        assert zero == back and float(zero) == pytest.approx(high * 4 / 6, abs=0.05)
        assert float(zero) - float(end) == pytest.approx(high * y / 6, abs=0.1)
        assert float(left) == pytest.approx(ACROSS * (x - 0.9) / 3, abs=0.5)
        assert float(right) == pytest.approx(ACROSS * (x - 0.1) / 3, abs=0.5)


def test_each_cell_of_a_heatmap_has_its_place_and_its_colour():
    z = [[0, 1, 2], [3, None, 4]]
    cells = go.Heatmap(z=z, xgap=2, ygap=2, showscale=False)
    cells.update(colorscale=[[0, "#000000"], [1, "rgba(200, 100, 0, 0.5)"]])
    root = drawing(figure(cells, y={"autorange": "reversed"}))
    found = {}
    for path, high in paths(root):
        for cell in re.findall(r"M(\S+) (\S+)h(\S+)v(\S+)h-\S+z", path.get("d")):
            x, y, wide, tall = map(float, cell)
            at = int((y + tall / 2) / (high / 2)), int((x + wide / 2) / (ACROSS / 3))
            found[at] = path.get("fill")
            assert tall == pytest.approx(high / 2 - 2, abs=0.1)
            assert ACROSS / 3 - 10 < wide < ACROSS / 3 - 4  # 2 of about 590 pixels are 7
    assert found == {
        (i, j): f"rgb({50 * v:.0f} {25 * v:.0f} 0/{1 - v / 8:.2f}".rstrip("0") + ")"
        if v
        else "rgb(0 0 0)"
        for i, row in enumerate(z)
        for j, v in enumerate(row)
        if v is not None
    }


def test_panels_lie_in_their_domains():
    traces = [go.Scatter(x=[0, 1], y=[0, n], mode="lines", line=LINE) for n in (1, 2, 3, 4)]
    fig = figure(*traces, heights=(100, 200), columns=2)
    root = drawing(fig)
    panels = [p for p in root[0] if p.tag == "svg"]
    layout, inner = fig["layout"], float(root[0].get("height"))
    for n, panel in enumerate(panels, 1):
        x, y = (layout[f"{a}axis{n if n > 1 else ''}"]["domain"] for a in "xy")
        left, wide = (float(panel.get(key).rstrip("%")) / 100 for key in ("x", "width"))
        top, high = (float(panel.get(key)) for key in ("y", "height"))
        assert (left, left + wide) == pytest.approx(x, abs=1e-3)
        assert (1 - (top + high) / inner, 1 - top / inner) == pytest.approx(y, abs=1e-3)


def test_the_room_of_a_still_is_that_of_its_figure():
    line = go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=LINE, name="a")
    fig = figure(line, line)
    page = ET.fromstring(to_html(fig))
    plot = page[0]
    for part, width in zip(plot, ("wide", "narrow"), strict=True):
        top, _right, bottom, _left = re.findall(r"([\d.]+)px", part.get("style"))
        high = float(part[0].get("height")) + float(top) + float(bottom)
        assert f"--lrd-{width}: {high:g}px" in plot.get("style")
        assert "".join(part[1].itertext()) == "aa"  # the legend


def test_notes_shapes_and_the_bar_of_colours_lie_where_they_are_said_to():
    cells = go.Heatmap(z=[[0, 1], [2, 3]], coloraxis="coloraxis")
    fig = figure(cells)
    bar = {"orientation": "h", "title": {"text": "share", "side": "top"}, "thickness": 10}
    bar |= {"x": 0.25, "y": 1, "len": 0.5, "tickvals": [0, 4], "tickformat": ".1f"}
    scale = {
        "colorscale": GREYS,
        "cmin": 0,
        "cmax": 4,
        "colorbar": bar,
        "reversescale": True,
    }
    note = {"text": "<b>here</b>", "xref": "x domain", "x": 0, "yref": "y", "y": 1.5}
    note |= {"showarrow": False, "xanchor": "left", "yanchor": "top", "font": {"size": 10}}
    box = {
        "type": "rect",
        "xref": "x",
        "x0": 0.5,
        "x1": 1.5,
        "yref": "y domain",
        "y0": 0,
        "y1": 1,
    }
    dash = {"type": "line", "x0": 0, "x1": 1, "y0": 0.25, "y1": 0.25, "line": LINE}
    box["line"] = LINE
    fig["layout"] |= {"coloraxis": scale, "annotations": [note], "shapes": [box, dash]}
    root = drawing(fig)
    (said,) = (t for t in root.iter("text") if "".join(t.itertext()) == "here")
    assert (said.get("x"), said.get("y"), said.get("text-anchor")) == ("0%", "10", "start")
    assert said[0].get("font-weight") == "bold"
    drawn, colours = (r for r in root.iter("rect"))
    assert [drawn.get(k) for k in ("x", "y", "width", "height")] == [
        "50%",
        "0",
        "50%",
        "200",
    ]
    line = root[0].findall("line")[-1]
    assert (line.get("x2"), line.get("y1"), line.get("stroke")) == (
        "100%",
        "150",
        "#378eca",
    )
    stops = [stop.get("stop-color") for stop in root.iter("stop")]
    assert stops == ["#ffffff", "#000000"]
    (scale,) = (s for s in root[0] if s.get("x") == "25%")
    assert scale.get("width") == "50%" and scale[0].get("id") in colours.get("fill")
    assert ["".join(t.itertext()) for t in scale.iter("text")] == ["0.0", "4.0", "share"]
    fills = {path.get("fill") for path, _ in paths(root)}
    assert fills == {f"rgb({v} {v} {v})" for v in (255, 191, 128, 64)}


def test_the_ticks_of_the_bar_of_colours_lie_at_their_values():
    fig = figure(go.Heatmap(z=[[2, 3], [4, 2]], coloraxis="coloraxis"))
    bar = {"orientation": "h", "title": {"text": "share", "side": "top"}, "thickness": 10}
    bar |= {"x": 0.25, "y": 1, "len": 0.5, "tickvals": [2, 3, 4]}
    scale = {"colorscale": GREYS, "cmin": 2, "cmax": 4, "colorbar": bar}
    fig["layout"]["coloraxis"] = scale
    (drawn,) = (s for s in drawing(fig)[0] if s.get("x") == "25%")
    said = {"".join(t.itertext()): t.get("x") for t in drawn.iter("text")}
    assert said == {"2": "0%", "3": "50%", "4": "100%", "share": "50%"}


def test_a_trace_that_is_not_shown_is_not_drawn():
    line = go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=LINE)
    hidden = go.Scatter(x=[0, 1], y=[1, 0], mode="lines", line=LINE, visible=False)
    assert len(paths(drawing(figure(line, hidden)))) == 1


def test_the_line_at_zero_is_drawn_where_zero_is():
    def lines(span):
        """How many lines of the grid a panel has from one tick, at the end of its y."""
        trace = go.Scatter(x=[1, 2], y=[1, 2], mode="lines", line=LINE)
        y = {"range": span, "tickvals": [span[1]], "zeroline": True}
        root = drawing(figure(trace, x={"tickvals": []}, y=y))
        (grid,) = (g for g in root.iter("g") if g.get("class") == "grid")
        return len(grid)

    assert lines([-1, 2]) == lines([1, 2]) + 1


def test_one_scale_on_both_axes():
    cells = go.Heatmap(
        z=[[0, 1], [1, 0]], showscale=False, colorscale=[[0, "#000000"], [1, "#ffffff"]]
    )
    fig = figure(
        cells, x={"constrain": "domain"}, y={"scaleanchor": "x", "constrain": "domain"}
    )
    for width in ("wide", "narrow"):
        (panel,) = laid_out(fig, width).panels
        assert panel.width == panel.height == 200


# ---- axes


def test_a_range_that_is_not_given_holds_the_data():
    assert shown_range({"range": [3, 1]}, [(9.0, 0.0)], 100) == (3, 1)
    assert shown_range({}, [(2.0, 0.0), (7.0, 0.0)], 100) == (2, 7)
    low, high = shown_range({}, [(2.0, 5.0), (7.0, 5.0)], 100)
    assert ((2 - low), (high - 7)) == pytest.approx((5 * 5 / 90,) * 2)  # 5 of 100 pixels
    assert shown_range({"autorange": "reversed"}, [(2.0, 0.0), (7.0, 0.0)], 9) == (7, 2)
    assert shown_range({"rangemode": "tozero"}, [(2.0, 5.0), (9.0, 0.0)], 9) == (0, 9)
    assert shown_range({"rangemode": "tozero"}, [(-9.0, 0.0), (-2.0, 5.0)], 9) == (-9, 0)


@pytest.mark.parametrize(
    ("spec", "span", "labels"),
    [
        ({"anchor": "y"}, (0, 3000), ["0", "500", "1000", "1500", "2000", "2500", "3000"]),
        ({"anchor": "y"}, (0, 20000), ["0", "5k", "10k", "15k", "20k"]),
        ({"anchor": "y", "dtick": 0.25}, (-0.3, 0.6), ["−0.25", "0", "0.25", "0.5"]),
        # three times 0.1 is a little more than 0.3
        ({"anchor": "y", "dtick": 0.1}, (0, 0.3), ["0", "0.1", "0.2", "0.3"]),
        ({"tickvals": [0, 0.5, 1, 9], "tickformat": ".0%"}, (0, 1), ["0%", "50%", "100%"]),
        ({"tickvals": [1, 2], "ticktext": ["a", "b"]}, (0, 3), ["a", "b"]),
        ({"type": "log", "dtick": 2}, (-5, 4), ["100μ", "0.01", "1", "100", "10k"]),
    ],
)
def test_ticks_are_said_as_plotly_says_them(spec, span, labels):
    assert [label for _, label in Axis(spec, 0, 580, span).ticks()] == labels


def test_a_tick_lies_at_its_value():
    ticks = Axis({"anchor": "y", "dtick": 0.1}, 0, 500, (0.05, 0.75)).ticks()
    assert [place for place, _ in ticks] == pytest.approx(
        [float(label) for _, label in ticks]
    )
    assert len(ticks) == 7


def test_between_two_powers_of_ten_two_and_five_have_ticks():
    ticks = Axis({"type": "log"}, 0, 500, (0, 1)).ticks()
    places = {math.log10(n): f"{n}" for n in (1, 2, 5, 10)}
    assert sorted(ticks) == sorted(places.items())


# ---- what is refused, and what is bounded

GREYS = [[0, "#000000"], [1, "#ffffff"]]
SPEC = {"color": "#378eca"}
UNDRAWN = {
    "a pie": [go.Pie(values=[1, 2])],
    "3-D traces": [go.Scatter3d(x=[0], y=[0], z=[0])],
    "a contour": [go.Contour(z=[[0, 1], [1, 2]])],
    "bars side by side": [go.Bar(y=[1], marker=SPEC), go.Bar(y=[2], marker=SPEC)],
    "bars that lie": [go.Bar(x=[1], orientation="h", marker=SPEC)],
    "error bars": [go.Scatter(y=[1], mode="markers", marker=SPEC, error_y={"array": [1]})],
    "stacked areas": [go.Scatter(y=[1, 2], mode="lines", line=SPEC, stackgroup="a")],
    "smoothed lines": [
        go.Scatter(y=[1, 2], mode="lines", line={**SPEC, "shape": "spline"})
    ],
    "an unknown symbol": [
        go.Scatter(y=[1], mode="markers", marker={**SPEC, "symbol": "star"})
    ],
    "plotly's own colours": [go.Scatter(y=[1, 2], mode="lines")],
    "numbers in base 64": [go.Scatter(y=np.arange(3.0), mode="lines", line=SPEC)],
    "named colours": [
        go.Heatmap(z=[[1]], colorscale=[[0, "red"], [1, "blue"]], showscale=False)
    ],
    "dates": [
        go.Scatter(x=["2026-01-01", "2026-02-01"], y=[1, 2], mode="lines", line=SPEC)
    ],
    "two axes in one place": [go.Scatter(y=[1, 2], yaxis="y2", mode="lines", line=SPEC)],
    "many cells": [go.Heatmap(z=np.eye(60).tolist(), colorscale=GREYS, showscale=False)],
}


@pytest.mark.parametrize("traces", UNDRAWN.values(), ids=UNDRAWN)
def test_what_cannot_be_drawn_has_no_still(traces):
    fig = plain(go.Figure(traces).update_layout(template="none", height=300))
    line = go.Scatter(y=[1, 2], x=[1, 2], mode="lines", line=SPEC)
    beside = plain(go.Figure(line).update_layout(template="none", height=300))
    assert still(beside) is not None
    assert still(fig) is None
    page = to_html(fig)
    assert "lrd-still" not in page and "<noscript>" in page


def test_words_that_cannot_be_said_have_no_still():
    line = go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=LINE, name="a < b & c")
    assert "a &lt; b &amp; c" in still(figure(line, line))
    for words in ("W<sub>Q</sub>", "<i>x</i>", '<a href="x">x</a>'):
        assert still(figure(line, x={"title": {"text": words}})) is None


def test_a_still_is_small_or_there_is_none():
    rng = np.random.default_rng(0)

    def noise(points: int) -> dict:
        ys = rng.uniform(size=points).tolist()
        return figure(go.Scatter(x=list(range(points)), y=ys, mode="lines", line=LINE))

    assert len(still(noise(300))) < LIMIT  # whole, so compressed all the more
    assert still(noise(20_000)) is None


# ---- widths


def test_the_layouts_of_both_widths_undo_each_other():
    line = go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=LINE, name="a")
    fig = figure(line, line, columns=2)
    fig["layout"]["meta"]["narrow"] = {
        "height": 900,
        "xaxis2.domain": [0, 1],
        "xaxis.domain": [0, 1],
    }
    wide, narrow = (update_for(fig, narrow=narrow) for narrow in (False, True))
    there = updated(fig["layout"], wide)
    assert updated(updated(there, narrow), wide) == there
    phone = updated(fig["layout"], narrow)
    assert phone["xaxis2"]["domain"] == [0, 1] and phone["font"]["size"] == 11
    assert phone["height"] == 900 - 60 - 52 + phone["margin"]["t"] + phone["margin"]["b"]
    assert fig["layout"]["xaxis2"]["domain"] != [0, 1]  # not changed itself


@pytest.mark.parametrize(("names", "rows"), [(3, 1), (4, 2), (6, 2), (7, 3)])
def test_the_legend_of_a_phone_has_room_for_its_last_row(names, rows):
    line = go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=LINE, name="letter")
    fig = figure(*[line] * names)
    assert update_for(fig, narrow=True)["margin"]["b"] == 50 + 20 * rows + 8


def test_a_still_is_as_wide_as_its_panels_ask():
    line = go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=LINE)
    page = to_html(figure(line, line, columns=2))
    assert "--lrd-least: 520px" in page
    assert "--lrd-least: 0px" in to_html(figure(line))
    assert math.isclose(laid_out(figure(line, line, columns=2), "narrow").width, 520 - 84)
