"""When a rank falls and a network learns: each point against a count that is obviously
right, on made-up runs."""

import json
import math

import numpy as np
import pytest

from lrdlib.figures.rank import (
    PARTS,
    alive,
    fall,
    fall_figure,
    learnt,
    medians,
    order,
    saw_figure,
)
from lrdlib.figures.sphinx import problems
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import Run

STEPS = np.arange(0, 1001, 100)


def run_of(halved, eighth, right, *, fraction=0.4, seed=0):
    """A run whose rank is 32, 15 from step `halved` on and 3 from `eighth`, and that has the
    orbit-clean pairs right from `right`."""
    rank = np.where(halved <= STEPS, 15.0, 32.0)
    history = {
        "step": STEPS,
        "qk_stable_rank": np.where(eighth <= STEPS, 3.0, rank),
        "orbit_clean_accuracy": np.where(right <= STEPS, 0.8, 0.1),
    }
    return Run(plain(TrainConfig(fraction=fraction, seed=seed)), history, {}, {}, {})


RUNS = [
    run_of(200, 700, 500),
    run_of(200, 400, 600, seed=1),
    run_of(200, 500, 500, fraction=0.6),
    run_of(300, math.inf, 900, fraction=0.6, seed=1),
    run_of(300, math.inf, math.inf, fraction=0.3),
]
CLOCKS = {"LRD": {"1/2": 150, "1/4": 300, "1/8": 600}}


def test_first_records():
    assert [fall(run, 1 / 2) for run in RUNS] == [200, 200, 200, 300, 300]
    assert [fall(run, 1 / 8) for run in RUNS] == [700, 400, 500, math.inf, math.inf]
    assert [learnt(run) for run in RUNS] == [500, 600, 500, 900, math.inf]
    assert [learnt(run, 0.9) for run in RUNS] == [math.inf] * 5


def test_a_rank_at_the_part_has_not_fallen_below_it():
    run = run_of(200, 400, 600)
    assert fall(run, 15 / 32) == 400
    assert fall(run, 15.001 / 32) == 200


def run_with(ranks, right):
    """A run of these ranks and orbit-clean accuracies, record by record."""
    history = {
        "step": 100 * np.arange(len(ranks)),
        "qk_stable_rank": np.array(ranks),
        "orbit_clean_accuracy": np.array(right),
    }
    return Run(plain(TrainConfig()), history, {}, {}, {})


def test_a_rank_that_rises_first_is_measured_from_its_start():
    run = run_with([10.0, 40.0, 12.0, 6.0, 4.0], [0.0] * 5)
    assert [fall(run, part) for part in (1 / 2, 1 / 4)] == [400, math.inf]


def test_half_of_the_pairs_is_not_more_than_half():
    run = run_with([10.0] * 3, [0.1, 0.5, 0.51])
    assert learnt(run) == 200 and learnt(run, 0.1) == 100


def test_order_counts_only_runs_that_learn():
    assert order(RUNS, 1 / 2) == (4, 0, 0)
    assert order(RUNS, 1 / 8) == (1, 1, 2)
    assert order(RUNS, 1 / 8, 0.9) == (0, 0, 0)


def test_medians_leave_out_what_more_than_half_never_do():
    assert medians(RUNS, learnt) == {0.4: 550, 0.6: 700}
    assert medians(RUNS, lambda run: fall(run, 1 / 8)) == {0.4: 550}


@pytest.mark.parametrize("last", [1000, math.inf])
def test_a_median_is_the_run_in_the_middle(last):
    runs = [run_of(200, 400, step) for step in (300, 400, last)]
    assert medians(runs, learnt) == {0.4: 400}


def test_the_figure_draws_these_steps_at_every_stop():
    fig = fall_figure({"LRD": RUNS, "L2": RUNS[:1]}, CLOCKS, start="1/4")
    assert not problems(json.loads(fig.to_json()))
    assert [frame.name for frame in fig.frames] == list(PARTS)
    for frame, part in zip(fig.frames, PARTS, strict=True):
        falls, right, clock, runs, other = frame.data
        median = medians(RUNS, lambda run, part=part: fall(run, PARTS[part]))
        assert dict(zip(falls.x, falls.y, strict=True)) == median
        assert dict(zip(right.x, right.y, strict=True)) == medians(RUNS, learnt)
        assert (clock.x, set(clock.y)) == ((0.3, 0.6), {CLOCKS["LRD"][part]})
        both = [(fall(run, PARTS[part]), learnt(run)) for run in RUNS]
        finite = [pair for pair in both if math.inf not in pair]
        assert list(zip(runs.x, runs.y, strict=True)) == finite
        assert list(zip(other.x, other.y, strict=True)) == finite[:1]
    for drawn, trace in zip(fig.data, fig.frames[1].data, strict=False):
        assert (drawn.x, drawn.y) == (trace.x, trace.y)


def test_the_axes_of_steps_hold_the_longest_run():
    short = run_with([10.0, 4.0, 4.0], [0.0, 1.0, 1.0])
    layout = fall_figure({"LRD": RUNS, "L2": [short]}, CLOCKS).layout
    for axis in (layout.xaxis2, layout.yaxis2):
        assert axis.range[1] == pytest.approx(1.03 * STEPS[-1])


def test_its_words_are_its_data():
    alt = fall_figure({"LRD": RUNS}, CLOCKS).layout.meta["alt"]
    assert "LRD, 4 runs that learn: 4 below 1/2, 1 below 1/4, 1 below 1/8" in alt


@pytest.mark.parametrize(
    ("groups", "clocks", "error", "words"),
    [
        ({}, {}, ValueError, "groups must"),
        ({"LRD": []}, {}, ValueError, "groups must"),
        ({"LRD": [1]}, {}, TypeError, "groups"),
        ([RUNS], {}, TypeError, "groups must"),
        ({"LRD": RUNS}, {"L2": CLOCKS["LRD"]}, ValueError, "clocks must"),
        ({"LRD": RUNS}, {"LRD": {"1/2": 3}}, ValueError, "clocks must"),
        ({str(i): RUNS for i in range(6)}, {}, ValueError, "groups must"),
    ],
)
def test_what_it_refuses(groups, clocks, error, words):
    with pytest.raises(error, match=words):
        fall_figure(groups, clocks)


def test_other_refusals():
    with pytest.raises(ValueError, match="start"):
        fall_figure({"LRD": RUNS}, CLOCKS, start="1/3")
    with pytest.raises(TypeError, match="run must"):
        fall("run", 0.5)
    with pytest.raises(ValueError, match="part must"):
        fall(RUNS[0], 0.0)
    with pytest.raises(ValueError, match="share must"):
        learnt(RUNS[0], 1.0)


def test_alive_counts_what_is_above_a_part_of_the_largest():
    spectra = {"0.query": np.array([[2.0, 0.02, 0.03], [1.0, 0.011, 0.009]])}
    history = {"step": np.array([0, 100]), "test_accuracy": np.array([0.1, 0.9])}
    run = Run(plain(TrainConfig()), history, spectra, {}, {})
    assert alive(run, "0.query").tolist() == [2, 2]
    assert alive(run, "0.query", part=0.5).tolist() == [1, 1]
    fig = saw_figure(run, "0.query")
    assert [list(trace.y) for trace in fig.data] == [[2, 2], [0.1, 0.9]]
    assert "2 at the start and 2 at the least" in fig.layout.meta["alt"]
    assert not problems(json.loads(fig.to_json()))
    with pytest.raises(KeyError):
        alive(run, "1.query")
