"""The numbers of a phase diagram, against slow obvious ones; nothing is made up where
nothing is recorded."""

import json
from itertools import product
from math import inf, isfinite, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrdlib.evidence.phase import (
    bootstrap,
    effective_strength,
    four_digits,
    frontier,
    frontiers,
    outcome,
    panels,
    success,
)
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import Run

FRACTIONS, STRENGTHS, SEEDS = (0.3, 0.4, 0.5), (0.001, 0.01), (0, 1, 2)


def run_of(config, best, final=None, *, metric="test_accuracy", loss=0.0):
    history = {"step": np.array([0, 100, 200]), "train_loss": np.array([1.0, 1.0, loss])}
    history |= {
        name: np.array([0.0, 0.1, 0.1])
        for name in ("test_accuracy", "orbit_clean_accuracy")
    }
    history[metric] = np.array([0.0, best, best if final is None else final])
    return Run(plain(config), history, {}, {}, {})


def configs(rules=("lrd",), **fields):
    grid = product(rules, STRENGTHS, FRACTIONS, SEEDS)
    return [
        TrainConfig(rule=r, weight_decay=s, fraction=f, seed=seed, **fields)
        for r, s, f, seed in grid
    ]


WANTED = configs()
# success seed by seed from fraction 0.3, 0.4 and 0.5 on
BY_SEED = [c.fraction > 0.25 + 0.1 * c.seed for c in WANTED]
# for each wanted run: not recorded (None), failed or succeeded
outcomes = st.lists(
    st.sampled_from([None, False, True]), min_size=len(WANTED), max_size=len(WANTED)
)


def runs_of(found):
    return [
        run_of(c, 0.99 if won else 0.5)
        for c, won in zip(WANTED, found, strict=True)
        if won is not None
    ]


def slow_bounds(found, seeds=SEEDS, strengths=STRENGTHS):
    """The frontier by its definition: cell by cell, seed by seed; a seed may be listed more
    than once."""
    by = {
        (c.weight_decay, c.fraction, c.seed): won
        for c, won in zip(WANTED, found, strict=True)
    }
    low = high = inf
    for fraction in reversed(FRACTIONS):
        for strength in strengths:
            known = [
                by[strength, fraction, seed]
                for seed in seeds
                if by[strength, fraction, seed] is not None
            ]
            if sum(known) > len(known) / 2:
                high = fraction
            if not known or sum(known) > len(known) / 2:
                low = fraction
    return low, high


@given(outcomes)
@settings(deadline=None, max_examples=40)
def test_frontiers_are_what_counting_by_hand_gives(found):
    (panel,) = panels(runs_of(found), WANTED)
    rows = frontiers(panel, np.random.default_rng(0), resamples=50)
    assert [row.strength for row in rows] == [*STRENGTHS, None]
    for row, strengths in zip(
        rows, ([STRENGTHS[0]], [STRENGTHS[1]], STRENGTHS), strict=True
    ):
        assert (row.low, row.high) == slow_bounds(found, strengths=strengths)
        assert row.low <= row.high and row.settled == (row.low == row.high)
        for seed, bounds in row.by_seed.items():
            assert bounds == slow_bounds(found, [seed], strengths)
        assert (row.interval is None) == (len(row.by_seed) < 2)


@given(outcomes, st.randoms())
@settings(deadline=None, max_examples=40)
def test_the_order_of_runs_and_of_wishes_does_not_matter(found, random):
    runs, wanted = runs_of(found), list(WANTED)
    before = frontiers(*panels(runs, wanted), np.random.default_rng(1), resamples=50)
    random.shuffle(runs)
    random.shuffle(wanted)
    assert (
        frontiers(*panels(runs, wanted), np.random.default_rng(1), resamples=50) == before
    )


@given(outcomes, st.integers(0, len(WANTED) - 1))
@settings(deadline=None, max_examples=40)
def test_one_more_failure_never_lowers_a_frontier(found, at):
    found[at] = None
    with_failure = [False if i == at else won for i, won in enumerate(found)]
    before, after = (
        frontiers(*panels(runs_of(f), WANTED), np.random.default_rng(0), resamples=1)
        for f in (found, with_failure)
    )
    assert all(
        b.low <= a.low and b.high <= a.high for b, a in zip(before, after, strict=True)
    )


@given(outcomes)
@settings(deadline=None, max_examples=40)
def test_of_identical_seeds_the_interval_is_the_frontier(found):
    same = [found[i - i % len(SEEDS)] for i in range(len(found))]
    for row in frontiers(
        *panels(runs_of(same), WANTED), np.random.default_rng(0), resamples=50
    ):
        assert row.interval is None or row.interval == (row.low, row.high)


@given(outcomes)
@settings(deadline=None, max_examples=40)
def test_cells_hold_what_is_recorded_and_nothing_else(found):
    (panel,) = panels(runs_of(found), WANTED)
    by = {
        (c.weight_decay, c.fraction, c.seed): won
        for c, won in zip(WANTED, found, strict=True)
    }
    assert len(panel.cells) == len(STRENGTHS) * len(FRACTIONS)
    for cell in panel.cells:
        known = [
            won
            for seed in SEEDS
            if (won := by[cell.strength, cell.fraction, seed]) is not None
        ]
        assert [c.seed for c in cell.configs] == list(SEEDS)
        assert cell.agreement() == (sum(known), len(known))
        assert len(cell.recorded) == len(known)
    seeds, S = success(panel)
    for i, seed in enumerate(seeds):
        for j, strength in enumerate(STRENGTHS):
            expected = [
                nan if (won := by[strength, f, seed]) is None else float(won)
                for f in FRACTIONS
            ]
            np.testing.assert_equal(S[i, j], expected)


def test_the_bootstrap_is_the_quantiles_of_all_ways_to_draw_seeds():
    found = [bool((i * 7 + i // 5) % 3) for i in range(len(WANTED))]
    (panel,) = panels(runs_of(found), WANTED)
    _, S = success(panel)
    grid = np.array(FRACTIONS), np.ones(S.shape[1:], bool)
    draws = sorted(slow_bounds(found, drawn)[0] for drawn in product(SEEDS, repeat=3))
    low, high = bootstrap(S, *grid, np.random.default_rng(0), resamples=20_000, level=0.5)
    assert low == draws[int(0.25 * 27)] and high == draws[int(0.75 * 27)]
    assert bootstrap(S, *grid, np.random.default_rng(0), level=1.0) == (draws[0], draws[-1])
    with pytest.raises(ValueError, match="S must hold at least 2 seeds, got 1"):
        bootstrap(S[:1], *grid, np.random.default_rng(0))


def test_seeds_in_part_of_the_grid_count_there():
    # as a sweep goes: one seed everywhere, two more at small fractions only
    some = [i for i, c in enumerate(WANTED) if c.seed == 0 or c.fraction < 0.45]
    found = [(c.fraction > 0.35 if i in some else None) for i, c in enumerate(WANTED)]
    row = frontiers(*panels(runs_of(found), WANTED), np.random.default_rng(0))[-1]
    assert row.settled and (row.high, row.interval) == (0.4, (0.4, 0.4))
    assert len(row.by_seed) == 3
    assert row.cells == (6, 6) and not row.complete
    never = [None if won is None else False for won in found]
    row = frontiers(*panels(runs_of(never), WANTED), np.random.default_rng(0))[-1]
    assert row.settled and (row.high, row.interval) == (inf, (0.5, inf))
    assert row.by_seed[1] == (0.5, inf)


def test_the_level_of_an_interval_is_the_one_that_is_asked_for():
    (panel,) = panels(runs_of(BY_SEED), WANTED)
    for level, interval in ((0.0, (0.4, 0.4)), (1.0, (0.3, 0.5))):
        rows = frontiers(panel, np.random.default_rng(0), level=level)
        assert [row.interval for row in rows] == [interval] * 3


def test_a_frontier_counts_the_wanted_cells_of_its_own_strength():
    some = [
        won if c.fraction < 0.45 else None for c, won in zip(WANTED, BY_SEED, strict=True)
    ]
    rows = frontiers(*panels(runs_of(some), WANTED), np.random.default_rng(0))
    assert [(row.cells, row.complete) for row in rows] == [
        ((2, 3), False), ((2, 3), False), ((4, 6), False),
    ]  # fmt: skip
    corner = (STRENGTHS[0], FRACTIONS[0])
    fewer = [c for c in WANTED if (c.weight_decay, c.fraction) != corner]
    runs = [run_of(c, 0.99) for c in fewer]
    rows = frontiers(*panels(runs, fewer), np.random.default_rng(0))
    assert [(row.cells, row.complete) for row in rows] == [
        ((2, 2), True), ((3, 3), True), ((5, 5), True),
    ]  # fmt: skip


def test_a_frontier_has_the_effective_strength_of_its_rule():
    (panel,) = panels([], configs(mode="decoupled", lr=1e-2))
    rows = frontiers(panel, np.random.default_rng(0))
    *single, best = (row.effective for row in rows)
    assert single == pytest.approx([1e-2 * s for s in STRENGTHS]) and best is None


def test_nothing_recorded_is_no_frontier():
    for row in frontiers(*panels([], WANTED), np.random.default_rng(0)):
        assert (row.low, row.high) == (FRACTIONS[0], inf)
        assert (row.interval, row.by_seed) == (None, {})


def test_a_run_that_dips_has_succeeded_and_one_that_diverged_has_not():
    config = WANTED[0]
    dips = outcome(run_of(config, 0.99, 0.4))
    assert (dips.step, dips.best, dips.final, dips.diverged) == (100, 0.99, 0.4, False)
    for run in (run_of(config, 0.99, nan), run_of(config, 0.99, 0.01, loss=nan)):
        lost = outcome(run)
        assert (lost.step, lost.best, lost.diverged) == (None, 0.99, True)
        assert np.isnan(lost.final)
    assert outcome(run_of(config, 0.95)).step is None  # exceeds, not reaches
    clean = run_of(config, 0.99, metric="orbit_clean_accuracy")
    assert outcome(clean).step is None
    assert outcome(clean, "orbit_clean_accuracy").step == 100
    nowhere = run_of(config, 0.99)
    nowhere.history["orbit_clean_accuracy"][:] = nan  # no such pair is left to test on
    of = outcome(nowhere, "orbit_clean_accuracy")
    assert of.step is None and not of.diverged and np.isnan([of.best, of.final]).all()
    with pytest.raises(
        ValueError, match=r"metric must be one of .*'test_accuracy'.*got 'accuracy'"
    ):
        outcome(run_of(config, 0.9), "accuracy")


@pytest.mark.parametrize(("above", "step"), [(0.05, 100), (0.5, 100), (0.6, None)])
def test_a_threshold_is_the_one_that_is_asked_for(above, step):
    assert outcome(run_of(WANTED[0], 0.6), above=above).step == step


def test_a_run_has_diverged_whose_rank_is_no_number_at_the_end():
    run = run_of(WANTED[0], 0.99)
    for ranks, step in (([30.0, nan, 2.0], 100), ([30.0, 9.0, nan], None)):
        run.history["qk_stable_rank"] = np.array(ranks)
        assert (outcome(run).step, outcome(run).diverged) == (step, step is None)


@pytest.mark.parametrize(
    "fields, strength",
    [
        (dict(rule="none"), 0.0),
        (dict(rule="l2"), 0.002),
        (dict(rule="l2", mode="decoupled"), 0.002),
        (dict(rule="lrd"), 2.0),
        (dict(rule="lrd", mode="decoupled"), 0.002),
        (dict(rule="lrd", l2=5.0), 2.0),  # of the other weights
        (dict(rule="elastic", l2=5.0), 2.005),
        (dict(rule="elastic", l2=5.0, mode="decoupled"), 0.007),
        (dict(rule="proximal"), 2.0),
    ],
)
def test_effective_strength(fields, strength):
    assert effective_strength(
        TrainConfig(weight_decay=2.0, lr=1e-3, **fields)
    ) == pytest.approx(strength)


def test_panels_are_the_settings_by_rule():
    wanted = (
        configs(["elastic"], l2=0.1)
        + configs(["lrd"], mode="decoupled")
        + configs(["lrd"])
        + configs(["l2"])
    )
    names = [panel.name for panel in panels([], wanted)]
    assert names == [
        "L2",
        "LRD, decoupled",
        "LRD, independent",
        "elastic, independent + L2 0.1",
    ]
    rates = [c for lr in (1e-2, 1e-3) for c in configs(["lrd", "l2"], lr=lr)]
    parts = panels([], rates)
    assert [part.name for part in parts] == [
        "L2, lr 0.001",
        "L2, lr 0.01",
        "LRD, lr 0.001",
        "LRD, lr 0.01",
    ]
    assert [part.setting for part in parts] == ["lr 0.001", "lr 0.01"] * 2


def test_a_second_strength_that_goes_with_the_first_is_no_panel():
    tied = [
        TrainConfig(rule="elastic", weight_decay=s, l2=s, fraction=f)
        for s in STRENGTHS
        for f in FRACTIONS
    ]
    assert [panel.name for panel in panels([], tied)] == ["elastic"]
    free = tied + [
        TrainConfig(rule="elastic", weight_decay=STRENGTHS[0], l2=0.5, fraction=f)
        for f in FRACTIONS
    ]
    assert [len(panel.cells) for panel in panels([], free)] == [3, 3, 3]


def test_runs_that_nobody_wants_are_left_out_and_two_of_one_are_an_error():
    run = run_of(WANTED[0], 0.99)
    (panel,) = panels([run, run_of(TrainConfig(p=23), 0.99)], WANTED * 2)
    assert sum(len(cell.recorded) for cell in panel.cells) == 1
    with pytest.raises(
        ValueError, match=r"one run per config, got two of LRD λ=0\.001, seed 0"
    ):
        panels([run, run], WANTED)
    with pytest.raises(ValueError, match="at least one TrainConfig"):
        panels([run], [])
    with pytest.raises(TypeError, match="runs must be Runs, got str"):
        panels(["run.npz"], WANTED)
    with pytest.raises(TypeError, match="TrainConfigs, got dict"):
        panels([], [{"rule": "l2"}])


def test_cells_that_are_not_wanted_leave_a_frontier_settled():
    S, fractions = np.array([[[nan, 1.0]]]), np.array([0.3, 0.4])
    assert frontier(S, fractions, np.array([[True, True]])) == (0.3, 0.4)
    assert frontier(S, fractions, np.array([[False, True]])) == (0.4, 0.4)


S3, F3, ALL3 = np.ones((2, 1, 3)), np.array(FRACTIONS), np.ones((1, 3), bool)
RNG = np.random.default_rng(0)


def alien():
    """A Run that is of no TrainConfig."""
    return Run({"rule": "lrd", "depth": 3}, {"step": np.array([0])}, {}, {}, {})


def empty():
    """A Run without a record."""
    history = {"step": np.array([], int), "test_accuracy": np.array([])}
    return Run(plain(WANTED[0]), history, {}, {}, {})


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: effective_strength(None), TypeError, "config must .*got NoneType"),
        (lambda: outcome(None), TypeError, "run must be a Run, got NoneType"),
        (lambda: outcome(empty()), ValueError, "run must have at least one record"),
        (lambda: outcome(run_of(WANTED[0], 1.0), above=nan), ValueError, "above .*got nan"),
        (lambda: panels(None, WANTED), TypeError, "runs must be Runs, got NoneType"),
        (lambda: panels([], None), TypeError, "wanted must hold .*got NoneType"),
        (lambda: panels([alien()], WANTED), ValueError, "runs must be of TrainConfigs"),
        (lambda: success(None), TypeError, "panel must be a Panel, got NoneType"),
        (lambda: frontiers(None, RNG), TypeError, "panel must be a Panel, got NoneType"),
        (lambda: frontiers(*panels([], WANTED), 0), TypeError, "rng must .*got int"),
        (lambda: frontier(S3[0], F3, ALL3), ValueError, r"S must be .*got \(1, 3\)"),
        (lambda: frontier(S3, F3[:2], ALL3), ValueError, "fractions must be 3 ascending"),
        (lambda: frontier(S3, F3[::-1], ALL3), ValueError, "fractions must .*ascending"),
        (lambda: frontier(S3, F3, ALL3.T), ValueError, r"wanted must be \(1, 3\) booleans"),
        (lambda: bootstrap(S3, F3, ALL3, None), TypeError, "rng must .*got NoneType"),
        (
            lambda: bootstrap(S3, F3, ALL3, RNG, resamples=0),
            ValueError,
            "resamples must be .*got 0",
        ),
        (lambda: bootstrap(S3, F3, ALL3, RNG, level=1.5), ValueError, "level .*got 1.5"),
        (lambda: bootstrap(S3, F3, ALL3, RNG, level=nan), ValueError, "level .*got nan"),
    ],
)
def test_bad_input_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()


@given(st.floats(-1e300, 1e300) | st.sampled_from([inf, -inf, nan]))
def test_a_number_is_within_half_of_its_fourth_digit_or_there_is_none(value):
    short = four_digits(value)
    assert json.loads(json.dumps(short, allow_nan=False)) == short
    if not isfinite(value):
        assert short is None
        return
    assert short == float(f"{short:.3e}")  # no digit beyond the fourth
    assert abs(short - value) <= 0.5001e-3 * abs(value) or abs(value) < 1e-300


def test_a_float32_is_read_for_what_it_is():
    assert four_digits(np.float32(0.1)) == 0.1
    assert four_digits(np.float32("inf")) is None
