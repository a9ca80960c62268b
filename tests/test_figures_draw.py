"""Figures of a chapter's own numbers: what is drawn is what was given, in the panel and at
the stop that was named."""

import json

import numpy as np
import pytest

from lrdlib.figures.canvas import INK
from lrdlib.figures.draw import Panel, dots, figure, line, numbers, tail
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
    ],
)
def test_bad_input_is_one_clear_error(call, words):
    with pytest.raises(ValueError, match=words):
        call()
