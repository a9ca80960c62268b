"""The statistics of steps, against published worked examples, slow definitions and
simulation.

Published numbers: remission of leukaemia under 6-MP and placebo (Freireich et al. 1963), in
pairs, with the Kaplan-Meier curve, log-rank and stratified log-rank of Klein and
Moeschberger, Survival Analysis, 2nd edition (table 1.1, examples 4.1 and 7.8) and Kleinbaum
and Klein, Survival Analysis; hormone patches (Efron and Tibshirani 1993, chapter 25);
readings of scans (Hanley and McNeil 1982).
"""

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrdlib.evidence.survival import (
    Followed,
    Ratio,
    area_under_roc,
    confirmed_best,
    confirmed_step,
    equivalence,
    followed,
    holm,
    instability,
    kaplan_meier,
    logrank,
    logrank_scores,
    paired_ratio,
    permuted_logrank,
    rmst,
    rmst_ratio,
)

stats = pytest.importorskip("scipy.stats")
inf, nan = math.inf, math.nan

# Weeks in remission by pair: under placebo, under 6-MP; below 0: still in remission then.
PLACEBO = [1, 22, 3, 12, 8, 17, 2, 11, 8, 12, 2, 5, 4, 15, 8, 23, 5, 11, 4, 1, 8]
SIX_MP = [
    *(10, 7, -32, 23, 22, 6, 16, -34, -32, -25, -11, -20, -19, 6, -17, -35, 6, 13),
    *(-9, -6, -10),
]


def signed(weeks):
    weeks = np.asarray(weeks)
    return Followed(np.abs(weeks).astype(float), weeks > 0)


def rng(seed=0):
    return np.random.default_rng(seed)


# ---- one run


def test_a_step_counts_once_the_next_record_confirms_it():
    steps = [0, 50, 100, 150]
    assert confirmed_step(steps, [0, 0.96, 0.97, 0], 0.95) == 50
    assert confirmed_step(steps, [0.96, 0, 0.96, 0.96], 0.95) == 100
    assert confirmed_step(steps, [0, 0.96, 0, 0.96], 0.95) == inf  # the last alone: a spike
    assert confirmed_step(steps, [0, 0.95, 0.95, 0.95], 0.95) == inf  # above, not at
    assert confirmed_step(steps, [0.96, nan, 0.96, 0.96], 0.95) == 100
    assert confirmed_step([7], [1.0], 0.95) == inf


accuracies = st.lists(st.sampled_from([0.2, 0.95, 0.96, 1.0, nan]), min_size=1, max_size=9)


@given(accuracies, st.integers(1, 10))
def test_the_first_step_and_the_share_below_are_as_defined(values, records):
    steps = [10 * i for i in range(len(values))]
    up = [v > 0.95 for v in values]  # NaN is not

    def first_of(k):
        starts = range(len(values) - k + 1)
        return next((steps[i] for i in starts if all(up[i : i + k])), inf)

    assert confirmed_step(steps, values, 0.95, records) == first_of(records)
    T = first_of(2)
    assert confirmed_step(steps, values, 0.95) == T
    later = [v for step, v in zip(steps, values, strict=True) if step > T]
    for share, x in (
        (instability(steps, values), 0.95),
        (instability(steps, values, below=0.5), 0.5),
    ):
        if math.isinf(T):
            assert math.isnan(share)
        else:
            assert share == pytest.approx(sum(not v >= x for v in later) / len(later))


def test_the_best_value_is_one_that_the_next_record_holds():
    assert confirmed_best([0, 0.9, 0.7, 1.0]) == 0.7  # the last alone: a spike
    assert confirmed_best([0, 0.9, 0.7, 0.8, 1.0], records=3) == 0.7
    assert confirmed_best([0.3, 0.2, nan, 0.9, 0.8]) == 0.8  # a NaN reaches nothing
    for none in ([0.9], [nan, nan], [0.9, nan, 0.9]):
        assert math.isnan(confirmed_best(none))


@given(accuracies, st.integers(1, 10))
def test_the_best_value_is_above_what_a_run_passes_and_nothing_else(values, records):
    steps = [10 * i for i in range(len(values))]
    best = confirmed_best(values, records)
    for x in (-1.0, 0.2, 0.95, 0.955, 0.96, 1.0):
        assert (best > x) == math.isfinite(confirmed_step(steps, values, x, records))


# ---- curves


def test_the_published_curve_of_6_mp():
    step, share = kaplan_meier(signed(SIX_MP))
    found = dict(zip(step.tolist(), share.round(3).tolist(), strict=True))
    published = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    assert {week: found[week] for week in published} == published
    assert (found[0], found[9], found[35]) == (1.0, 0.807, 0.448)  # censored: no step down


def runs_of(rows):
    time, seen = zip(*rows, strict=True)
    return Followed(np.array(time, float), np.array(seen))


times = st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=8).map(
    runs_of
)


def slow_share(runs, u):
    """S(u): the product over event times, one by one."""
    share = 1.0
    for t in sorted({t for t, seen in zip(*runs, strict=True) if seen and t <= u}):
        at_risk = sum(time >= t for time in runs.time)
        events = sum(seen and time == t for time, seen in zip(*runs, strict=True))
        share *= 1 - events / at_risk
    return share


@given(times)
def test_the_curve_is_the_product_and_rmst_its_area(runs):
    step, share = kaplan_meier(runs)
    np.testing.assert_allclose(share, [slow_share(runs, u) for u in step], atol=1e-12)
    until = float(runs.time.max())
    # the area under a curve that moves at whole steps only
    area = sum(slow_share(runs, u) for u in range(int(until)))
    assert rmst(runs, until) == pytest.approx(area)


@given(
    st.lists(st.sampled_from([0.0, 50.0, 100.0, 150.0, 3000.0, 3100.0, inf]), min_size=1)
)
def test_where_all_runs_go_to_the_end_rmst_is_a_mean(T):
    runs = followed(T, until=3000)
    assert rmst(runs, 3000) == pytest.approx(np.minimum(T, 3000).mean())
    assert runs.seen.tolist() == [t <= 3000 for t in T]


def test_rmst_of_a_curve_that_ends_sooner_is_refused():
    runs = followed([100, inf], until=[3000, 500])
    assert rmst(runs, 500) == pytest.approx(300)
    with pytest.raises(ValueError, match="until must be <= 500, to which runs are"):
        rmst(runs, 501)
    assert rmst(followed([100, 200], until=3000), 9000) == 150  # none is left


# ---- arm against arm


def test_the_published_log_rank_of_6_mp_and_placebo():
    one = logrank([(signed(SIX_MP), signed(PLACEBO))])
    assert (one.observed, round(one.expected, 2)) == (9, 19.25)
    assert round(one.z**2, 2) == 16.79 and one.z < 0
    censored = [
        stats.CensoredData.right_censored(time, ~seen)
        for time, seen in (signed(SIX_MP), signed(PLACEBO))
    ]
    theirs = stats.logrank(*censored)
    assert one.z == pytest.approx(theirs.statistic)
    assert one.p == pytest.approx(theirs.pvalue)


def test_the_published_stratified_log_rank_of_the_21_pairs():
    pairs = [(signed([a]), signed([b])) for a, b in zip(PLACEBO, SIX_MP, strict=True)]
    test = logrank(pairs)
    assert round(test.z, 2) == 3.27  # (18 - 3) / sqrt(21)
    assert test.z == pytest.approx(15 / math.sqrt(21))
    assert test.p == pytest.approx(2 * stats.norm.sf(test.z))


def ways(first, second, events, k):
    """How many choices of `events` runs take k of the first arm."""
    return math.comb(first, k) * math.comb(second, events - k) if k <= events else 0.0


@given(st.lists(st.tuples(times, times), min_size=1, max_size=3))
@settings(max_examples=60)
def test_log_rank_is_the_sum_of_hypergeometric_draws(strata):
    observed, expected, variance = 0, 0.0, 0.0
    for a, b in strata:
        for u in sorted({*a.time[a.seen], *b.time[b.seen]}):
            risk = [int((arm.time >= u).sum()) for arm in (a, b)]
            events = [int((arm.seen & (arm.time == u)).sum()) for arm in (a, b)]
            chances = [float(ways(*risk, sum(events), k)) for k in range(risk[0] + 1)]
            chances = np.divide(chances, sum(chances))
            mean = chances @ range(risk[0] + 1)
            observed += events[0]
            expected += mean
            variance += chances @ (np.arange(risk[0] + 1) - mean) ** 2
    found = logrank(strata)
    assert found.observed == observed and found.expected == pytest.approx(expected)
    if variance > 1e-9:
        assert found.z == pytest.approx((observed - expected) / math.sqrt(variance))
    else:
        assert (found.z, found.p) == (0.0, 1.0)


@given(st.lists(st.tuples(times, times), min_size=1, max_size=1))
def test_the_scores_of_an_arm_add_up_to_observed_less_expected(strata):
    ((a, b),) = strata
    scores = logrank_scores(Followed(*map(np.concatenate, zip(a, b, strict=True))))
    found = logrank(strata)
    assert scores[: len(a.time)].sum() == pytest.approx(found.observed - found.expected)
    assert scores.sum() == pytest.approx(0)


def test_the_permuted_test_counts_all_ways_to_name_the_first_arm():
    """Three arms, four seeds: the 3^4 ways to call one run of each seed the first arm's
    (those of the other two do not matter), and both tails."""
    T = np.array([[100, 300, inf, 200], [400, inf, inf, 500], [350, 900, 800, 450]])
    arms = [followed(row, 3000) for row in T]
    scores = logrank_scores(followed(T.ravel(), 3000)).reshape(3, 4)
    sums = [sum(scores[list(way), range(4)]) for way in product(range(3), repeat=4)]
    here = scores[0].sum()
    tails = [np.mean(np.array(sums) >= here - 1e-9), np.mean(np.array(sums) <= here + 1e-9)]
    assert permuted_logrank([arms], rng()) == pytest.approx(2 * min(tails))
    # a second stratum that says the same of the same seeds tells nothing new
    assert permuted_logrank([arms, arms], rng()) == permuted_logrank([arms], rng())
    assert permuted_logrank([[arms[0], arms[0]]], rng()) == 1


def test_a_control_that_counts_once_keeps_the_rate_of_false_alarms():
    """Six arms and one control, all alike: at most 5% of such tests should be below 5%.
    With a stratum for each pair a quarter are: the control counts six times."""
    draw, once, several = rng(), 0, 0
    for _ in range(300):
        arms = [followed(draw.exponential(1000, 6), 3000) for _ in range(7)]
        once += permuted_logrank([arms], draw, resamples=199) < 0.05
        several += logrank([(arm, arms[0]) for arm in arms[1:]]).p < 0.05
    assert once / 300 < 0.08 < 0.15 < several / 300


def test_a_seed_that_is_lucky_in_two_strata_counts_once():
    """Two strata in which a run's luck is its own and the seed's, for three arms alike."""
    draw, false = rng(), 0
    for _ in range(300):
        luck = draw.exponential(1000, (3, 8))  # of an arm and a seed, in both strata
        strata = [
            [followed(arm + draw.exponential(100, 8), 3000) for arm in luck]
            for _ in range(2)
        ]
        false += permuted_logrank(strata, draw, resamples=199) < 0.05
    assert false / 300 < 0.08


@pytest.mark.parametrize("seeds, missed", [(8, 0.17), (20, 0.09)])
def test_intervals_are_too_narrow_where_some_runs_never_end(seeds, missed):
    """Arms alike, of which one run in eight never ends: how often the 95% interval of the
    ratio leaves out one, as the docstring says; the bounds are three standard errors."""
    draw, out = rng(), 0
    for _ in range(400):
        T = np.where(
            draw.random((2, seeds)) < 1 / 8, inf, draw.lognormal(6.5, 0.5, (2, seeds))
        )
        found = rmst_ratio(*T, 3000, draw, resamples=500)
        out += not (math.isnan(found.low) or found.low <= 1 <= found.high)
    assert out / 400 == pytest.approx(missed, abs=0.06)


# Efron and Tibshirani's patches: old less placebo, and new less old, of eight subjects
OLD = [8406, 2342, 8187, 8459, 4795, 3516, 4796, 10238]
NEW = [-1200, 2601, -2705, 1982, -1290, 351, -638, -2719]


def exact_bca(a, b, level):
    """Efron's BCa interval of mean(a) / mean(b) from all n^n resamples of n pairs."""
    a, b, n = np.array(a, float), np.array(b, float), len(a)
    drawn = np.array(list(product(range(n), repeat=n)))
    theta = np.sort(a[drawn].mean(1) / b[drawn].mean(1))
    value = a.mean() / b.mean()
    below = ((theta < value).mean() + (theta <= value).mean()) / 2
    z0 = stats.norm.ppf(below)
    rest = [np.delete(a, i).mean() / np.delete(b, i).mean() for i in range(n)]
    lean = np.mean(rest) - rest
    acceleration = (lean**3).sum() / (6 * (lean**2).sum() ** 1.5)
    ends = []
    for z in stats.norm.ppf([(1 - level) / 2, (1 + level) / 2]):
        moved = z0 + (z0 + z) / (1 - acceleration * (z0 + z))
        ends.append(np.quantile(theta, stats.norm.cdf(moved)))
    return value, ends


def test_the_published_ratio_and_efrons_interval():
    assert round(paired_ratio(NEW, OLD, rng()).value, 4) == -0.0713
    for level in (0.9, 0.95):
        value, ends = exact_bca(NEW[:6], OLD[:6], level)
        found = paired_ratio(NEW[:6], OLD[:6], rng(), level=level, resamples=200_000)
        assert found.value == pytest.approx(value)
        # four standard errors of these quantiles at 200,000 draws, of the interval's width
        width = ends[1] - ends[0]
        np.testing.assert_allclose([found.low, found.high], ends, atol=0.01 * width)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """1000 experiments of 20 seeds that their arms share, with runs that never get there."""
    draws, until, sims = rng(1), 3000, 1000

    def arms(n):
        shared = 0.6 * draws.normal(size=n)
        return [
            np.exp(np.log(median) + shared + 0.53 * draws.normal(size=n))
            for median in (900, 1500)
        ]

    a, b = np.minimum(arms(1_000_000), until).mean(1)
    ratios = [rmst_ratio(*arms(20), until, draws, resamples=1000) for _ in range(sims)]
    held = np.mean([one.low <= a / b <= one.high for one in ratios])
    # without pairing the intervals are half as wide again, and hold it in more than 99%
    assert abs(held - 0.95) < 4 * math.sqrt(0.95 * 0.05 / sims)


def test_a_seed_is_drawn_with_all_its_cells():
    T = rng().choice([200.0, 900.0, inf], size=(2, 12, 3))
    means = np.minimum(T, 3000).mean(2)  # (arms, seeds)
    one, other = rmst_ratio(*T, 3000, rng()), paired_ratio(*means, rng())
    assert one == other
    assert one.value == pytest.approx(means[0].mean() / means[1].mean())


def test_one_generator_state_is_one_interval_and_it_grows_with_the_level():
    T = rng().uniform(100, 3000, size=(2, 20))
    assert rmst_ratio(*T, 3000, rng(5)) == rmst_ratio(*T, 3000, rng(5))
    narrow, wide = (rmst_ratio(*T, 3000, rng(5), level=level) for level in (0.9, 0.95))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_nothing_to_resample_is_no_interval_and_decides_nothing():
    never = [inf] * 20
    one = rmst_ratio(never, never, 3000, rng(), level=0.9)
    assert one.value == 1 and math.isnan(one.low) and math.isnan(one.high)
    assert equivalence(one) == "undecided"


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.8, 1.25, "no difference"),
        (0.79, 1.1, "undecided"),
        (0.9, 1.26, "undecided"),
        (0.85, 0.95, "no difference"),  # a difference, and one that does not matter
        (nan, nan, "undecided"),
    ],
)
def test_no_difference_has_to_be_shown(low, high, word):
    assert equivalence(Ratio(1.0, low, high, 0.9)) == word


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_is_the_closed_test_of_bonferroni(p):
    """Every hypothesis is rejected with all intersections that it is in."""
    k = len(p)
    slow = [
        max(
            min(1.0, size * min(p[j] for j in some))
            for size in range(1, k + 1)
            for some in combinations(range(k), size)
            if i in some
        )
        for i in range(k)
    ]
    np.testing.assert_allclose(holm(p), slow, rtol=1e-12)


def test_the_published_area_under_the_curve_of_scans():
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)  # by rating, 1 to 5
    score = np.repeat([1, 2, 3, 4, 5] * 2, [*normal, *abnormal])
    success = np.repeat([False, True], [58, 51])
    assert round(area_under_roc(score, success), 3) == 0.893


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12))
def test_the_area_counts_pairs(rows):
    score, won = [s for s, _ in rows], [w for _, w in rows]
    pairs = [(s > t) + (s == t) / 2 for s, w in rows if w for t, v in rows if not v]
    found = area_under_roc(score, won)
    assert found == pytest.approx(np.mean(pairs)) if pairs else math.isnan(found)


def test_the_area_is_that_of_the_ranks():
    """By the sum of the ranks of the successes, ties sharing their mean rank."""
    for seed in range(20):
        score = rng(seed).integers(0, 9, 40) / 3
        won = rng(seed).random(40) < 0.4
        wins, losses = won.sum(), (~won).sum()
        above = stats.rankdata(score)[won].sum() - wins * (wins + 1) / 2
        assert area_under_roc(score, won) == pytest.approx(
            above / (wins * losses), abs=1e-12
        )
    assert area_under_roc([2, 2, 2], [True, False, True]) == 0.5  # nothing but ties
    assert math.isnan(area_under_roc([1, 2], [True, True]))


# ---- what may come in

RUNS = followed([100, inf], until=3000)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: confirmed_step([0, 0], [1, 1], 0.9), ValueError, "steps must ascend"),
        (lambda: confirmed_step([0], [1, 1], 0.9), ValueError, "steps must have the shape"),
        (lambda: confirmed_step([0], ["a"], 0.9), TypeError, "values must be an array of"),
        (
            lambda: confirmed_step([0], [1], None),
            TypeError,
            "above must be a finite number",
        ),
        (lambda: confirmed_step([0], [True], 0.9), TypeError, "values must be an array of"),
        (lambda: confirmed_step([], [], 0.9), (TypeError, ValueError), "steps must have"),
        (
            lambda: followed([nan], 3000),
            ValueError,
            "T must hold steps >= 0, inf for never",
        ),
        (lambda: followed([1], inf), ValueError, "until must hold finite steps"),
        (lambda: followed([1], [1, 2]), ValueError, "until must have the shape of T"),
        (lambda: followed([1], "3000"), TypeError, "until must be an array of real"),
        (lambda: followed([[1], [2, 3]], 9), TypeError, "T must be an array of real"),
        (lambda: kaplan_meier([1, 2]), TypeError, "runs must be Followed"),
        (
            lambda: kaplan_meier(Followed(np.ones(2), np.ones(2))),
            TypeError,
            "runs.seen must be an array .* of booleans",
        ),
        (lambda: rmst(RUNS, 0), ValueError, "until must be a finite number > 0"),
        (
            lambda: paired_ratio([1, 2], [1, 2], rng()),
            ValueError,
            "at least 3 seeds, got 2",
        ),
        (
            lambda: paired_ratio([1, 2, 3], [1, 2], rng()),
            ValueError,
            "a must have the shape",
        ),
        (
            lambda: paired_ratio([1, 2, inf], [1, 2, 3], rng()),
            ValueError,
            "a must hold fin",
        ),
        (
            lambda: paired_ratio([1, 2, 3], [0, 0, 0], rng()),
            ValueError,
            "b must have a mean",
        ),
        (lambda: paired_ratio([1, 2, 3], [1, 2, 4], 7), TypeError, "rng must be of type"),
        (
            lambda: paired_ratio([1, 2, 3], [1, 2, 4], rng(), resamples=9),
            ValueError,
            "resamples must be an integer >= 100",
        ),
        (
            lambda: paired_ratio([1, 2, 3], [1, 2, 4], rng(), level=95),
            ValueError,
            "level must be a finite number > 0 and < 1",
        ),
        (
            lambda: rmst_ratio([1, 2, nan], [1, 2, 3], 9, rng()),
            ValueError,
            "T_a must hold steps >= 0",
        ),
        (lambda: equivalence((1, 1, 1, 0.9)), TypeError, "ratio must be of type Ratio"),
        (lambda: equivalence(Ratio(1, 1, 1, 0.95)), ValueError, "of level 0.9, got 0.95"),
        (lambda: logrank([]), ValueError, "strata must list at least one"),
        (lambda: logrank([RUNS]), TypeError, r"strata\[0\] must be two arms"),
        (lambda: logrank([(RUNS, None)]), TypeError, r"strata\[0\] must be Followed"),
        (lambda: logrank_scores([1, 2]), TypeError, "runs must be Followed"),
        (lambda: permuted_logrank([], rng()), ValueError, "strata must hold one or more"),
        (lambda: permuted_logrank([[RUNS]], rng()), ValueError, "two arms or more each"),
        (
            lambda: permuted_logrank([[RUNS, followed([1], 9)]], rng()),
            ValueError,
            "of as many runs in all strata, got arms of 2, 1 runs",
        ),
        (lambda: permuted_logrank([[RUNS, RUNS]], 7), TypeError, "rng must be of type"),
        (lambda: confirmed_step([0], [1.0], 0.9, records=0), ValueError, "records must be"),
        (lambda: holm([0.1, 2]), ValueError, "p must hold numbers from 0 to 1"),
        (lambda: holm([nan]), ValueError, "p must hold finite numbers"),
        (lambda: area_under_roc([1, 2], [1, 0]), TypeError, "success must be an array"),
        (lambda: area_under_roc([1, 2], [True]), ValueError, "score must have the shape"),
    ],
)
def test_bad_input_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_without_scipy_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(ImportError, match=r"pip install 'lrdlib\[evidence\]'"):
        kaplan_meier(RUNS)
