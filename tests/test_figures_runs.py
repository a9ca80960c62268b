"""Figures: what they draw is what the runs hold; they can be read on any page, and by those
who cannot see them."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from lrdlib.figures.canvas import INK, PALETTE, axes, canvas, controls, finish, movable
from lrdlib.figures.runs import (
    mechanism_figure,
    spectrum_figure,
    spectrum_player,
    timeline_figure,
)
from lrdlib.training.runs import Run, compact

STEPS = np.arange(0, 350, 50)
D = 8  # width of the query and key matrices


def run_of(rule="lrd", weight_decay=0.01, *, seed=0, steps=STEPS, **config):
    rng = np.random.default_rng(seed)
    n = len(steps)
    rise = np.linspace(0, 1, n)
    history = {
        "step": steps,
        "train_accuracy": np.minimum(2 * rise, 1),
        "test_accuracy": rise,
        "orbit_clean_accuracy": rise**2,
        "grad_norm": np.r_[np.nan, rng.random(n - 1)],
        "qk_stable_rank": 8 - 6 * rise,
    }
    names = [f"{layer}.{role}" for layer in (0, 1) for role in ("query", "key", "up")]
    spectra = {
        name: -np.sort(-rng.random((n, D)).astype(np.float32), axis=1) for name in names
    }
    weights = {
        name: rng.normal(size=(D, D)).astype(np.float32)
        for name in names
        if "up" not in name
    }
    base = {"rule": rule, "weight_decay": weight_decay, "l2": 0.0, "seed": seed}
    return Run(base | config, history, spectra, weights, {"command": ""})


def without(name):
    """A run that lacks one of its histories."""
    run = run_of()
    del run.history[name]
    return run


def unrecorded():
    """A run without a record."""
    run = run_of()
    history, spectra = (
        {name: values[:0] for name, values in part.items()}
        for part in (run.history, run.spectra)
    )
    return Run(run.config, history, spectra, run.weights, {})


def diverged():
    run = run_of(seed=3)
    for values in (*run.history.values(), *run.spectra.values()):
        if values.dtype.kind == "f":
            values[4:] = np.nan
    for W in run.weights.values():
        W[:] = np.nan
    return run


TWO = [run_of("l2", 0.1), run_of("lrd", 0.01, seed=1)]
FIGURES = {
    "mechanism": lambda runs=TWO: mechanism_figure(runs),
    "narrow": lambda runs=TWO: mechanism_figure(runs, narrow=True),
    "timeline": lambda runs=TWO: timeline_figure(runs),
    "player": lambda runs=TWO: spectrum_player(runs),
    "spectrum": lambda runs=TWO: spectrum_figure(runs[-1]),
}


def as_json(fig):
    """The figure as a browser gets it; NaN and Infinity are no JSON."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(fig.to_json(), parse_constant=refuse)


def traces(fig, panel):
    """Curves of the panel whose y axis is `panel`, such as "y2", by name, in drawing
    order."""
    return [t for t in fig.data if t.type == "scatter" and (t.yaxis or "y") == panel]


def luminance(colour):
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(a, b):
    """WCAG 2.1."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_can_be_told_from_a_light_and_from_a_dark_page():
    for page in ("#ffffff", "#121212"):
        assert all(contrast(c, page) >= 3 for c in PALETTE)  # WCAG 1.4.11 for graphics
        # 4.5 on both is not possible: the product of the two is below 4.5^2
        assert contrast(INK, page) >= 4.3
    assert contrast("#ffffff", "#121212") < 4.5**2


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_json_with_words_for_it_and_nothing_behind_it(name):
    fig = FIGURES[name]()
    layout = as_json(fig)["layout"]
    assert len(layout["meta"]["alt"]) > 60
    assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"
    assert "$" not in fig.to_json()  # no LaTeX: the book's figures cannot draw it
    for key, axis in layout.items():
        if key.startswith(("xaxis", "yaxis")) and not axis.get("matches"):
            assert "title" in axis, key


@pytest.mark.parametrize("name", FIGURES)
def test_a_diverged_run_is_a_gap_not_an_error(name):
    fig = FIGURES[name]([run_of(), diverged()])
    assert "diverged" in as_json(fig)["layout"]["meta"]["alt"]


def test_the_mechanism_figure_draws_what_the_runs_hold():
    fig = mechanism_figure(TWO)
    accuracy = [t for t in traces(fig, "y") if t.x[0] is not None]
    for i, run in enumerate(TWO):
        drawn = [t for t in accuracy if t.legendgroup == run.label()]
        expected = [run.history["orbit_clean_accuracy"], run.history["test_accuracy"]]
        for trace, values in zip(drawn, expected, strict=True):
            np.testing.assert_allclose(trace.y, values, rtol=1e-3)  # drawn to 4 digits
            assert list(trace.x) == STEPS.tolist()
        np.testing.assert_allclose(
            traces(fig, "y2")[i].y, run.history["qk_stable_rank"], rtol=1e-3
        )
        qk = [S[-1] / S[-1, 0] for name, S in run.spectra.items() if "up" not in name]
        np.testing.assert_allclose(traces(fig, "y3")[i].y, np.mean(qk, axis=0), rtol=1e-3)
        pattern = np.abs(run.weights["0.query"].T @ run.weights["0.key"])
        heat = [t for t in fig.data if t.type == "heatmap"][i]
        np.testing.assert_allclose(
            np.array(heat.z), 100 * pattern / pattern.max(), atol=0.501
        )  # whole percents
    assert fig.layout.yaxis3.type == "log"


def test_a_phone_shows_the_mechanism_in_one_column_as_narrow_does():
    wide, slim = mechanism_figure(TWO), mechanism_figure(TWO, narrow=True)
    for path, value in wide.layout.meta["narrow"].items():
        wide.layout[path] = value
    assert (
        wide.layout.height == slim.layout.height
        and wide.layout.coloraxis == slim.layout.coloraxis
    )
    for axis in (f"{side}axis{i}" for side in "xy" for i in range(1, 6)):
        assert wide.layout[axis].domain == slim.layout[axis].domain


def test_a_run_has_one_colour_and_one_entry_in_the_legend():
    fig = mechanism_figure([*TWO, run_of("elastic", 0.02, seed=2)])
    named = [t for t in fig.data if t.type == "scatter" and t.legendgroup]
    colours = {
        group: {t.line.color for t in named if t.legendgroup == group}
        for group in {t.legendgroup for t in named}
    }
    assert len(colours) == 3 and all(len(found) == 1 for found in colours.values())
    assert len(set.union(*colours.values())) == 3
    assert sorted(t.name for t in named if t.showlegend) == sorted(colours)


def test_runs_of_one_rule_are_told_apart_by_what_differs():
    fig = timeline_figure([run_of(seed=0), run_of(seed=1)])
    names = {t.name for t in fig.data if t.showlegend}
    assert names == {"LRD λ=0.01, seed 0", "LRD λ=0.01, seed 1"}


def test_the_timeline_marks_the_step_of_grokking():
    fig = timeline_figure(TWO)
    step = TWO[0].first_step()
    assert {shape.x0 for shape in fig.layout.shapes} == {step}
    assert any(str(step) in note.text for note in fig.layout.annotations)
    never = run_of()
    never.history["test_accuracy"][:] = 0.5
    assert not timeline_figure(never).layout.shapes
    assert "never above 0.95" in timeline_figure(never).layout.meta["alt"]


def test_the_heatmap_shows_the_logarithm_of_every_singular_value():
    heat = spectrum_figure(TWO[0], "1.key").data[0]
    np.testing.assert_allclose(
        np.array(heat.z).T, np.log10(TWO[0].spectra["1.key"]), rtol=1e-3, atol=1e-4
    )
    assert list(heat.x) == STEPS.tolist() and list(heat.y) == list(range(1, D + 1))


def test_one_tiny_singular_value_does_not_take_all_the_colours():
    run = run_of(steps=np.arange(50))
    run.spectra["0.query"][-1, -1] = 1e-7
    axis = spectrum_figure(run).layout.coloraxis
    Z = np.log10(run.spectra["0.query"])
    assert Z.min() < axis.cmin <= np.quantile(Z, 0.02) and axis.cmax == pytest.approx(
        Z.max(), rel=1e-6
    )


def test_what_is_drawn_on_a_log_axis_is_positive_even_for_a_singular_matrix():
    run = run_of()
    run.spectra["0.query"][:, 3:] = 0
    for fig, panel in (
        (spectrum_player([run]), "y"),
        (mechanism_figure([run, TWO[0]]), "y3"),
    ):
        assert all(y > 0 for t in traces(fig, panel) for y in t.y)
    assert all(y > 0 for frame in spectrum_player([run]).frames for y in frame.data[0].y)


def test_a_hundred_and_twenty_eight_wide_mechanism_figure_stays_small():
    wide = [run_of(seed=seed) for seed in (0, 1)]
    W = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
    for run in wide:
        run.weights.update(dict.fromkeys(run.weights, W))
    # 16384 whole percents of 1 to 3 digits each, per run
    assert len(mechanism_figure(wide).to_json()) < 150_000


def test_the_player_has_a_frame_for_each_stop_and_shows_that_step():
    fig = spectrum_player(TWO, "0.key")
    stops = [step.label for step in fig.layout.sliders[0].steps]
    assert stops == [frame.name for frame in fig.frames] == [str(step) for step in STEPS]
    for t, frame in enumerate(fig.frames):
        for i, run in enumerate(TWO):
            S = run.spectra["0.key"][t]
            np.testing.assert_allclose(frame.data[i].y, S / S[0], rtol=1e-3)
            assert frame.data[len(TWO) + i].x == (STEPS[t],)
            np.testing.assert_allclose(
                frame.data[len(TWO) + i].y,
                run.history["orbit_clean_accuracy"][t : t + 1],
                rtol=1e-3,
            )
        assert max(frame.traces) < len(fig.data)


def test_the_player_starts_where_it_is_told():
    fig = spectrum_player(TWO, "0.key", start=190)
    assert fig.layout.sliders[0].active == 4 and fig.frames[4].name == "200"
    for i, trace in enumerate(traces(fig, "y")):
        assert trace.y == fig.frames[4].data[i].y
    dots = [t for t in traces(fig, "y2") if t.mode == "markers"]
    assert [dot.x for dot in dots] == [(200,), (200,)]


def test_long_runs_stay_small():
    steps = np.arange(0, 40000, 50)
    long = [run_of(seed=seed, steps=steps) for seed in (0, 1)]
    assert len(spectrum_player(long).frames) == 60
    assert len(spectrum_player(long).to_json()) < 300_000
    assert len(spectrum_figure(long[0]).data[0].x) <= 120


@pytest.mark.parametrize(
    "draw, error, word",
    [
        (lambda: mechanism_figure(TWO[:1]), ValueError, "2 to 5 Runs, got 1"),
        (lambda: mechanism_figure(TWO * 3), ValueError, "2 to 5 Runs, got 6"),
        (lambda: mechanism_figure([TWO[0], "run.npz"]), TypeError, "str"),
        (lambda: timeline_figure(3), TypeError, "int"),
        (lambda: timeline_figure([]), ValueError, "1 to 5 Runs, got 0"),
        (lambda: spectrum_figure(TWO[0], "2.query"), ValueError, "'2.query'"),
        (
            lambda: spectrum_player([TWO[0], run_of(steps=STEPS[:-1])]),
            ValueError,
            "same steps",
        ),
        (lambda: timeline_figure(None), TypeError, "runs must be Runs, got NoneType"),
        (lambda: timeline_figure(without("train_accuracy")), ValueError, "runs must hold"),
        (lambda: timeline_figure(unrecorded()), ValueError, "runs .*one record"),
        (lambda: mechanism_figure([compact(run) for run in TWO]), ValueError, "runs must"),
        (lambda: mechanism_figure(TWO, narrow=1), TypeError, "narrow must be .*got 1"),
        (lambda: spectrum_figure(None), TypeError, "run must be a Run, got NoneType"),
        (lambda: spectrum_figure(TWO[0], None), ValueError, "matrix must .*got None"),
        (lambda: spectrum_player(TWO, start=np.nan), TypeError, "start must .*got nan"),
        (lambda: canvas([]), ValueError, "heights must hold .*at least one"),
        (lambda: canvas([100, np.nan]), ValueError, r"heights\[1\] must be .*got nan"),
        (lambda: canvas([100], 2, panels=3), ValueError, "panels must be at most 2, got 3"),
        (lambda: finish(canvas(), None), TypeError, "alt must be a text, got NoneType"),
        (lambda: finish(canvas(), " "), ValueError, "alt must say what .*got ' '"),
        (lambda: movable(canvas(), None, prefix=""), TypeError, "frames .*got NoneType"),
        (lambda: movable(canvas(), {}, prefix=""), ValueError, "number of traces"),
        (
            lambda: movable(canvas(), {"1": [go.Scatter()], "2": []}, prefix=""),
            ValueError,
            "number of traces",
        ),
        (
            lambda: movable(canvas(), {"1": [go.Scatter()]}, prefix="", start="2"),
            ValueError,
            "'2'",
        ),
    ],
)
def test_bad_input_is_one_clear_error(draw, error, word):
    with pytest.raises(error, match=word):
        draw()


def test_an_unknown_matrix_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'0.query'.*got 'query'"):
        spectrum_player(TWO, "query")


def test_a_canvas_moves():
    fig = canvas((200, 100), 2, panels=3)
    fig.add_scatter(x=[0], y=[0])
    axes(fig, "x", "y", row=2, col=1)
    movable(
        fig,
        {"a": [go.Scatter(y=[1])], "b": [go.Scatter(y=[2])]},
        prefix="stop ",
        start="b",
        play=True,
    )
    finish(fig, "a dot")
    assert [frame.traces for frame in fig.frames] == [(0,), (0,)]
    assert fig.layout.sliders[0].active == 1 and len(fig.layout.updatemenus[0].buttons) == 2
    assert (
        fig.layout.sliders[0].steps[0].args[0] == ("a",)
        and fig.layout.meta["alt"] == "a dot"
    )
    assert not controls(["a"], prefix="", play=False)["updatemenus"]
