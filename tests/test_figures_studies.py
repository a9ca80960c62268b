"""Figures of studies: each curve and mark against a count that is obviously right, on
made-up runs; and the book's own runs, read and drawn."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest

from lrdlib.evidence import studies
from lrdlib.figures.canvas import INK, PALETTE
from lrdlib.figures.sphinx import problems
from lrdlib.figures.studies import (
    course_figure,
    outcome_figure,
    rank_figure,
    survival_figure,
    threshold_figure,
)
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import Run

STEPS = np.arange(0, 1001, 50)
N = int(STEPS[-1])
L2 = {"rule": "l2", "weight_decay": 1.0}
LRD = {"rule": "lrd", "weight_decay": 1.0}
REST = {"rule": "lrd", "weight_decay": 0.0, "l2": 1.0}  # L2 where LRD would not act
NONE = {"rule": "none", "weight_decay": 0.0}


def run_of(T, *, rank=4.0, lost=(), best=0.99, seed=0, **fields):
    """A run that generalises at step T (inf: never, with accuracy `best` at most) but is
    below the threshold at the steps `lost`; its rank falls from 32 to `rank`."""
    clean = np.where(STEPS >= T, 0.99, np.minimum(best, STEPS / N * 0.9))
    clean[np.isin(STEPS, lost)] = 0.5
    history = {
        "step": STEPS,
        "orbit_clean_accuracy": clean,
        "qk_stable_rank": np.geomspace(32, rank, len(STEPS)),
    }
    return Run(plain(TrainConfig(seed=seed, **(L2 | fields))), history, {}, {}, {})


TIMES = {
    "0.3": {"L2": [200, 700, math.inf], "LRD": [300, 300], "L2 on the rest": [math.inf]},
    "0.4": {"L2": [100, 150, 900], "LRD": [250, math.inf], "L2 on the rest": [450]},
}
FIELDS = {"L2": L2, "LRD": LRD, "L2 on the rest": REST}
STOPS = {
    stop: {
        name: [
            run_of(T, seed=i, rank=2.0 + i, lost=(950,) if T == 300 else (), **FIELDS[name])
            for i, T in enumerate(times)
        ]
        for name, times in arms.items()
    }
    for stop, arms in TIMES.items()
}
RNG = np.random.default_rng(0)
SUCCESS = RNG.random(60) < 0.4
VALUES = {"one": RNG.uniform(1, 60, 60), "other": np.where(SUCCESS, 2.0, 8.0)}
FIGURES = {
    "survival": lambda: survival_figure(STOPS, prefix="fraction ", start="0.4"),
    "threshold": lambda: threshold_figure(STOPS, prefix="fraction "),
    "rank": lambda: rank_figure(STOPS, prefix="fraction ", start="0.3"),
    "course": lambda: course_figure(
        {name: arms["L2"] for name, arms in STOPS.items()}, prefix="fraction "
    ),
    "outcome": lambda: outcome_figure(VALUES, SUCCESS, prefix="rank ", start="other"),
}


def shown(fig, stop):
    """What stands in the figure at one stop, by the trace's place."""
    (frame,) = [frame for frame in fig.frames if frame.name.startswith(stop)]
    return frame.data


def held(curve, x):
    """The value of a curve of steps ("hv") at x."""
    return [y for at, y in zip(curve.x, curve.y, strict=True) if at <= x][-1]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_one_that_the_book_can_show(name):
    fig = FIGURES[name]()
    figure = json.loads(fig.to_json(), parse_constant=lambda c: pytest.fail(f"{c}"))
    assert not problems(figure)
    assert len(figure["layout"]["sliders"][0]["steps"]) == len(fig.frames) == 2
    first = figure["layout"]["sliders"][0]["active"]
    frame = json.loads(fig.frames[first].to_json())
    for drawn, moved in zip(figure["data"], frame["data"], strict=False):
        assert {k: drawn[k] for k in ("x", "y")} == {k: moved[k] for k in ("x", "y")}


@pytest.mark.parametrize("stop", STOPS)
def test_a_survival_curve_is_the_share_that_is_still_to_come(stop):
    fig = survival_figure(STOPS, prefix="fraction ")
    for curve, T in zip(shown(fig, stop), TIMES[stop].values(), strict=False):
        assert curve.line.shape == "hv" and curve.x[-1] == N
        for step in STEPS:
            assert held(curve, step) == pytest.approx(np.mean(np.array(T) > step))


@pytest.mark.parametrize("stop", STOPS)
def test_below_stand_rmst_and_instability(stop):
    fig = survival_figure(STOPS, prefix="fraction ")
    marks = shown(fig, stop)[len(TIMES[stop]) :]
    for mark, (name, T) in zip(marks, TIMES[stop].items(), strict=True):
        assert (mark.xaxis, mark.yaxis) == ("x2", "y2")
        assert mark.x[0] == pytest.approx(np.mean(np.minimum(T, N)))
        if all(map(math.isinf, T)):
            assert mark.y[0] is None
            continue
        lost = 1 / np.sum(STEPS > 300) if (name, stop) == ("LRD", "0.3") else 0
        assert mark.y[0] == pytest.approx(lost, abs=1e-4)


def test_colour_is_the_rule_that_acts_and_dashes_tell_its_arms_apart():
    arms = STOPS["0.3"] | {"none": [run_of(math.inf, **NONE)]}
    fig = survival_figure({"0.3": arms}, prefix="fraction ")
    lines = [curve.line for curve in fig.data[: len(arms)]]
    assert [line.color for line in lines] == [PALETTE[0], PALETTE[1], PALETTE[0], INK]
    assert [line.dash for line in lines] == ["solid", "solid", "dash", "solid"]
    key = [trace for trace in fig.data if trace.showlegend is not False]
    assert [trace.name for trace in key] == list(arms)
    assert [(t.line.color, t.line.dash) for t in key] == [
        (ln.color, ln.dash) for ln in lines
    ]


def test_a_share_of_runs_passes_a_threshold_twice_in_a_row():
    runs = [run_of(math.inf, best=best, seed=i) for i, best in enumerate((0.2, 0.5, 0.5))]
    runs.append(run_of(500, seed=3))
    fig = threshold_figure({"0.3": {"L2": runs}}, prefix="fraction ")
    for x in (0.0, 0.1, 0.3, 0.49, 0.7, 0.95, 0.995):
        passed = 0
        for run in runs:
            above = run.history["orbit_clean_accuracy"] > x
            passed += any(a and b for a, b in pairwise(above))
        assert held(fig.data[0], x) == passed / len(runs), x


def test_a_mark_is_the_last_rank_and_the_step_or_above_all_steps():
    fig = rank_figure(STOPS, prefix="fraction ")
    for cloud, (name, T) in zip(shown(fig, "0.3"), TIMES["0.3"].items(), strict=True):
        runs = STOPS["0.3"][name]
        assert cloud.x == pytest.approx([r.history["qk_stable_rank"][-1] for r in runs])
        for y, t in zip(cloud.y, T, strict=True):
            assert y > 1.02 * N if math.isinf(t) else y == t
    top = fig.layout.yaxis.range[1]
    assert all(y < top for frame in fig.frames for cloud in frame.data for y in cloud.y)


def test_courses_are_the_records_of_each_run():
    runs = STOPS["0.4"]["L2"]
    fig = FIGURES["course"]()
    clean, rank = np.split(np.array(shown(fig, "0.4")), 2)
    for run, above, below in zip(runs, clean, rank, strict=True):
        assert above.y == pytest.approx(run.history["orbit_clean_accuracy"], rel=1e-3)
        assert below.y == pytest.approx(run.history["qk_stable_rank"], rel=1e-3)
        assert (above.yaxis, below.yaxis) == ("y", "y2")


def test_outcomes_are_counted_in_bins_and_the_slider_says_the_area():
    fig = FIGURES["outcome"]()
    for name, x in VALUES.items():
        won, lost = x[SUCCESS], x[~SUCCESS]
        pairs = [(a > b) + (a == b) / 2 for a in won for b in lost]
        (frame,) = [frame for frame in fig.frames if frame.name.startswith(name)]
        assert frame.name == f"{name}: area {np.mean(pairs):.2f}"
        for trace, some in zip(frame.data, (won, lost), strict=True):
            edges = np.array(trace.x)
            for i, share in enumerate(trace.y[:-1]):
                inside = np.mean((some >= edges[i]) & (some < edges[i + 1]))
                assert share == pytest.approx(100 * inside, abs=0.01)
            assert sum(trace.y) == pytest.approx(100, abs=0.2)


BAD = {
    "no stops": (lambda: survival_figure({}, prefix=""), ValueError, "stops"),
    "a list": (lambda: rank_figure([], prefix=""), TypeError, "stops"),
    "no arms": (lambda: rank_figure({"a": {}}, prefix=""), ValueError, "stops"),
    "other arms": (
        lambda: survival_figure(
            {"a": {"L2": [run_of(100)]}, "b": {"LRD": [run_of(100)]}}, prefix=""
        ),
        ValueError,
        "'LRD'",
    ),
    "no runs": (lambda: threshold_figure({"a": {"L2": []}}, prefix=""), ValueError, "L2"),
    "no Run": (lambda: rank_figure({"a": {"L2": [3]}}, prefix=""), TypeError, "L2"),
    "start": (lambda: survival_figure(STOPS, prefix="", start="9"), ValueError, "start"),
    "start of a course": (
        lambda: course_figure({"a": [run_of(100)]}, prefix="", start="b"),
        ValueError,
        "start",
    ),
    "no values": (lambda: outcome_figure({}, SUCCESS), ValueError, "values"),
    "zero": (
        lambda: outcome_figure({"one": np.zeros(60)}, SUCCESS),
        ValueError,
        "values\\['one'\\]",
    ),
    "no prefix": (lambda: survival_figure(STOPS, prefix=3), TypeError, "prefix"),
    "words": (lambda: outcome_figure({"one": ["a"] * 60}, SUCCESS), TypeError, "score"),
    "all succeed": (
        lambda: outcome_figure(VALUES, np.full(60, True)),
        ValueError,
        "success",
    ),
    "no such number": (
        lambda: outcome_figure(VALUES, SUCCESS, start="third"),
        ValueError,
        "start",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_drawn_is_one_clear_error(name):
    call, error, words = BAD[name]
    with pytest.raises(error, match=words):
        call()


def test_runs_of_other_lengths_are_not_drawn_together():
    short = run_of(100)
    cut = {key: values[:5] for key, values in short.history.items()}
    pair = [run_of(100), Run(short.config, cut, {}, {}, {})]
    with pytest.raises(ValueError, match="one length"):
        survival_figure({"a": {"L2": pair}}, prefix="")


@pytest.fixture(scope="module")
def recorded(request):
    return studies.studied(request.config.rootpath / "book" / "runs" / "sweep" / "packs")


def test_the_book_s_runs_are_read_by_their_configs(recorded):
    assert all(config == TrainConfig(**run.config) for config, run in recorded.items())
    known = {config: studies.generalised(run) for config, run in recorded.items()}
    assert not studies.missing(["E0"], known)  # every run of the first code's grid is there


def test_a_folder_that_is_not_there_holds_no_runs(tmp_path):
    assert studies.studied(tmp_path / "none") == {}
    with pytest.raises(TypeError, match="folder"):
        studies.studied(3)
