"""Figures of a chapter's own numbers: what is drawn is what was given, in the panel and at
the stop that was named."""

import json
import re

import numpy as np
import pytest

from lrdlib.figures.canvas import INK
from lrdlib.figures.draw import (
    Panel,
    bars,
    decades,
    dots,
    figure,
    folded,
    line,
    numbers,
    pick,
    sliders,
    tail,
)
from lrdlib.figures.sphinx import problems

X, Y = [0, 1, 2], [0.123456, np.nan, 1e-9]
PANELS = [Panel(200, "step", "accuracy"), Panel(100, "step", "rank", up={"range": [0, 3]})]
ALT = "Accuracy above and rank below, over three steps, of two made-up runs."


def stops():
    return {str(k): [line(X, [k, k, k], "a", "#378eca")] for k in (1, 2)}


def test_numbers_are_short_and_gaps_are_gaps():
    assert numbers(Y) == [0.1235, None, 1e-9]
    assert numbers(np.array([1, 2])) == [1.0, 2.0]


def test_a_line_and_dots_in_a_row():
    one = line(X, Y, "a", "#378eca", row=2, dash="dot", line={"shape": "hv"})
    assert (one["xaxis"], one["yaxis"], one["mode"]) == ("x2", "y2", "lines")
    assert one["line"] == {"color": "#378eca", "width": 2.5, "dash": "dot", "shape": "hv"}
    two = dots(X, Y, "a", symbol="square-open")
    assert "xaxis" not in two and two["marker"]["line"]["width"] == 2
    assert two["marker"]["color"] == INK
    assert dots(X, Y)["marker"]["line"]["width"] == 0


def test_the_legend_has_what_is_named():
    assert line(X, Y, "a")["showlegend"] is True
    assert line(X, Y)["showlegend"] is line(X, Y, "a", key=False)["showlegend"] is False


def test_a_tail_ends_in_a_dot():
    way = tail(X, Y, "a", "#378eca")
    assert way["marker"]["size"] == [0, 0, 14] and way["mode"] == "lines+markers"
    way = tail(X, Y, "a", "#378eca", size=9, width=1)
    assert way["marker"]["size"] == [0, 0, 9] and way["line"]["width"] == 1


def test_bars_in_a_row():
    one = bars(X, Y, "a", "#378eca", row=2)
    assert (one["type"], one["xaxis"], one["y"]) == ("bar", "x2", [0.1235, None, 1e-9])
    assert one["marker"] == {"color": "#378eca"} and "mode" not in one


def test_an_axis_in_decades():
    fig = figure([Panel(200, "x", "y", decades(), decades(-4, 1, 2))], ALT, [line(X, X)])
    across, up = fig.layout.xaxis, fig.layout.yaxis
    assert (across.type, across.dtick, across.range) == ("log", 1, None)
    assert (up.type, up.dtick, up.range, up.exponentformat) == ("log", 2, (-4, 1), "power")


def test_a_stop_says_only_what_it_changes():
    fig = figure(PANELS, ALT, stops=stops(), prefix="k = ")
    assert list(fig.data[0].x) == X and fig.data[0].name == "a"
    for frame in fig.frames:
        assert set(frame.data[0].to_plotly_json()) == {"type", "y"}


def test_what_one_stop_changes_stands_at_every_stop():
    """The first two are alike, and yet both say it: one may come to them from the third."""
    names = {"1": "a", "2": "a", "3": "b"}
    at = {stop: [line(X, X, name)] for stop, name in names.items()}
    fig = figure(PANELS, ALT, stops=at, prefix="k = ")
    assert [frame.data[0].name for frame in fig.frames] == ["a", "a", "b"]


def two_sliders(start="2"):
    fig = figure(PANELS, ALT, [line(X, X, "a"), line(X, X, "b"), dots([1], [1])])
    moves = {
        "a": {"1": {0: {"y": [1, 1, 1]}, 2: {"x": [1]}}, "2": {0: {"y": X}, 2: {"x": [2]}}},
        "b": {"-1": {1: {"y": [3, 3, 3]}}, "2": {1: {"y": X}}},
    }
    return sliders(fig, moves, start={"a": start, "b": "-1"})


def test_each_slider_moves_its_own_traces():
    fig = two_sliders()
    assert [slider.active for slider in fig.layout.sliders] == [1, 0]
    assert [frame.traces for frame in fig.frames] == [(0, 2), (0, 2), (1,), (1,)]
    steps = [step for slider in fig.layout.sliders for step in slider.steps]
    assert [step.label for step in steps] == ["1", "2", "−1", "2"]
    assert [step.args[0][0] for step in steps] == [frame.name for frame in fig.frames]
    assert len({frame.name for frame in fig.frames}) == 4
    assert list(fig.frames[0].data[0].y) == [1, 1, 1] and fig.frames[0].data[1].x == (1,)
    assert not problems(json.loads(fig.to_json()))


def test_a_menu_shows_the_traces_of_what_is_picked():
    fig = figure(PANELS, ALT, [line(X, X, name) for name in "abc"])
    pick(fig, "letter", {"first": [0, 2], "second": [1]})
    assert [trace.visible for trace in fig.data] == [True, False, True]
    (menu,) = fig.layout.updatemenus
    assert menu.name == "letter" and [b.label for b in menu.buttons] == ["first", "second"]
    (change,) = menu.buttons[1].args
    assert list(change["visible"]) == list(change["showlegend"]) == [False, True, False]


def test_the_figure_holds_still_and_moving_traces_and_opens_at_its_start():
    fig = figure(PANELS, ALT, [dots(X, Y, row=2)], stops=stops(), prefix="k = ", start="2")
    assert list(fig.data[0].y) == [2, 2, 2] and fig.data[1].yaxis == "y2"
    assert [list(f.data[0].y) for f in fig.frames] == [[1, 1, 1], [2, 2, 2]]
    assert fig.layout.sliders[0].active == 1
    assert tuple(fig.layout.yaxis2.range) == (0, 3)
    assert (fig.layout.yaxis.title.text, fig.layout.yaxis2.title.text) == (
        "accuracy",
        "rank",
    )
    assert not problems(json.loads(fig.to_json()))


def test_a_title_stands_over_its_panel():
    fig = figure([PANELS[0], PANELS[1]._replace(over="below")], ALT, [line(X, X)])
    (title,) = fig.layout.annotations
    assert title.text == "below"
    assert title.y == pytest.approx(fig.layout.yaxis2.domain[1])
    assert not figure(PANELS, ALT, [line(X, X)]).layout.annotations


def test_a_table_unfolds_under_its_summary():
    text = folded("Two <b>runs</b>", ["λ", "step"], [["1", "20"], ["2", "<i>-</i>"]])
    summary, table = re.fullmatch(
        r"<details><summary>(.*)</summary><div .*><table>(.*)</table></div></details>", text
    ).groups()
    assert summary == "Two <b>runs</b>"
    rows = re.findall("<tr>(.*?)</tr>", table)
    assert re.findall("<th>(.*?)</th>", rows[0]) == ["λ", "step"]
    cells = [re.findall("<td>(.*?)</td>", row) for row in rows[1:]]
    assert cells == [["1", "20"], ["2", "<i>-</i>"]]


def test_without_stops_nothing_moves():
    fig = figure(PANELS[:1], ALT, [line(X, Y, "a")])
    assert not fig.frames and not fig.layout.sliders
    assert fig.layout.meta["alt"] == ALT


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: line(X, [1]), "x and y must be of one length, got 3 and 1"),
        (lambda: line(X, Y, row=0), "row must be .*got 0"),
        (lambda: numbers([[1.0]]), r"values must be of one dimension, got shape \(1, 1\)"),
        (lambda: figure([], ALT), "panels must hold at least one Panel"),
        (lambda: figure(PANELS, ALT, stops=stops(), prefix="", start="3"), "start must be"),
        (lambda: figure(PANELS, " "), "alt must say"),
        (lambda: folded("", ["a"], [["1"], ["1", "2"]]), r"rows\[1\] must .*got 2"),
        (lambda: two_sliders("3"), r"start\['a'\] must be"),
    ],
)
def test_bad_input_is_one_clear_error(call, words):
    with pytest.raises(ValueError, match=words):
        call()
