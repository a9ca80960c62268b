"""What may be shown on the book's pages: lrdlib.figures.sphinx.problems, for figures of 3-D
traces."""

import json

import plotly.graph_objects as go
import pytest

from lrdlib.figures.sphinx import problems, to_html


def solid(**changes) -> dict:
    """A small figure of 3-D traces that the pages can show, with some of its layout
    changed."""
    fig = go.Figure(go.Scatter3d(x=[0, 1], y=[0, 1], z=[0, 1]))
    fig.add_trace(
        go.Mesh3d(
            x=[0, 1, 0], y=[0, 0, 1], z=[0, 0, 0], i=[0], j=[1], k=[2], color="#378eca"
        )
    )
    axis = {"range": [-1, 1]}
    scene = {
        "xaxis": axis,
        "yaxis": axis,
        "zaxis": axis,
        "camera": {"eye": {"x": 1, "y": 1, "z": 1}},
    }
    fig.update_layout(scene=scene, meta={"alt": "A line and a triangle."})
    return json.loads(fig.update_layout(changes).to_json())


def test_a_figure_of_lines_and_meshes_is_shown():
    assert problems(solid()) == []
    assert "scatter3d" in to_html(solid())


@pytest.mark.parametrize("axis", ["xaxis", "yaxis", "zaxis"])
def test_all_axes_have_one_range_around_zero(axis):
    (problem,) = problems(solid(scene={axis: {"range": [0, 2]}}))
    assert "range" in problem


def test_a_view_and_plain_colours_are_asked_for():
    figure = solid()
    del figure["layout"]["scene"]["camera"]
    figure["data"][1]["color"] = "blue"
    view, colour = problems(figure)
    assert "camera" in view and "#378eca" in colour


def test_flat_traces_beside_solid_ones_are_refused():
    figure = solid()
    figure["data"].append({"type": "bar", "y": [1]})
    (problem,) = problems(figure)
    assert "bar" in problem


def test_what_cannot_be_shown_is_one_clear_error():
    with pytest.raises(TypeError, match="figure must be a dict, got NoneType"):
        problems(None)
    for bare in ({}, {"layout": {"meta": {"alt": " "}}}):
        with pytest.raises(ValueError, match="figure must have a text alternative"):
            to_html(bare)


def test_traces_that_need_webgl_are_refused():
    for kind in ("surface", "cone", "scattergl"):
        (problem,) = problems(
            {"data": [{"type": kind}], "layout": {"meta": {"alt": "A surface."}}}
        )
        assert kind in problem
