"""When runs generalise, as times that may never come: the statistics that claims about
steps are judged by.

T_gen is the step at which a run generalises; inf stands for never. A run is followed to
step N, and a T beyond N is *censored*: all that is known is that it is later. Arms of an
experiment share their seeds (the split, the initialisation and the order of the batches),
so they are compared seed by seed.

The primary outcome is the restricted mean survival time, RMST = mean of min(T_gen, N): the
steps that a run spends, of N, before it generalises. It is the area under the Kaplan-Meier
curve up to N. Two arms are compared by the ratio of their RMST.

Curves, ranks and the bootstrap are scipy's: pip install 'lrdlib[evidence]'.
"""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from lrdlib._check import check_instance, check_integer, check_real, shown

GENERALISED = 0.95  # the accuracy that T_gen asks for
CONFIRMED = 2  # records in a row that it asks for
MARGIN = (0.8, 1.25)  # ratios that count as no difference
RESAMPLES = 10_000


# ---- one run


def confirmed_step(
    steps: ArrayLike, values: ArrayLike, above: float, records: int = CONFIRMED
) -> float:
    """T: the step of the first record above a threshold that the next record confirms, by
    being above it too; inf if there is none. records: how many in a row have to be above.

    steps, values (T,): the records. The last record of a run has no next one, so it cannot
    be the first of such a pair: a single value at the very end may be a spike. NaN is above
    nothing. Raises TypeError or ValueError for steps that do not ascend, for arrays that do
    not fit, for records < 1, and as check_real for `above`.

    >>> confirmed_step([0, 50, 100, 150], [0.2, 0.96, 0.9, 0.97], above=0.95)
    inf
    >>> confirmed_step([0, 50, 100, 150], [0.2, 0.9, 0.96, 0.97], above=0.95)
    100.0
    >>> confirmed_step([0, 50, 100, 150], [0.2, 0.9, 0.96, 0.97], above=0.95, records=3)
    inf
    """
    t, y = _records(steps, values)
    check_real("above", above)
    check_integer("records", records)
    if records > len(y):
        return math.inf
    rows = sliding_window_view(y > above, records).all(-1)  # (T - records + 1,)
    return float(t[rows.argmax()]) if rows.any() else math.inf


def confirmed_best(values: ArrayLike, records: int = CONFIRMED) -> float:
    """The best value that records in a row reach, the largest of their minima: it is above
    just those thresholds at which `confirmed_step` is finite. NaN if there is none.

    values (T,), records: as of `confirmed_step`. NaN reaches nothing, so records in a row
    with a NaN among them do not count. Raises as `confirmed_step`.

    >>> confirmed_best([0.2, 0.96, 0.9, 0.97])
    0.9
    """
    y = _numbers("values", values, axes=(1,))
    check_integer("records", records)
    if records > len(y):
        return math.nan
    least = sliding_window_view(y, records).min(-1)  # (T - records + 1,)
    known = least[~np.isnan(least)]
    return float(known.max()) if len(known) else math.nan


def instability(
    steps: ArrayLike, values: ArrayLike, *, below: float = GENERALISED
) -> float:
    """The share of the records later than T_gen that are below GENERALISED again, or below
    another threshold; NaN if T_gen is inf.

    The record that confirms T_gen is one of them, so there is always one. A NaN counts as
    below. Raises as `confirmed_step`.

    >>> records = [0, 50, 100, 150, 200], [0.96, 0.97, 0.2, 0.95, 0.94]
    >>> instability(*records), instability(*records, below=0.9)
    (0.5, 0.25)
    """
    T = confirmed_step(steps, values, GENERALISED)
    check_real("below", below)
    t, y = _records(steps, values)
    return math.nan if math.isinf(T) else float(np.mean(~(y[t > T] >= below)))


# ---- the runs of an arm


class Followed(NamedTuple):
    """The runs of an arm. time (n,): when it happened, or for how long a run was followed
    without it; seen (n,): whether it happened."""

    time: np.ndarray
    seen: np.ndarray


def followed(T: ArrayLike, until: ArrayLike) -> Followed:
    """Times T (n,), inf for never, censored at `until`, a number or (n,): min(T, until), and
    whether T <= until.

    Raises TypeError or ValueError for other things than steps >= 0 and a finite until.

    >>> time, seen = followed([200, np.inf, 3100], until=3000)
    >>> time.tolist(), seen.tolist()
    ([200.0, 3000.0, 3000.0], [True, False, False])
    """
    t = _steps("T", T)
    end = _numbers("until", until, axes=(0, 1))
    if not np.isfinite(end).all() or (end < 0).any():
        raise ValueError(f"until must hold finite steps >= 0, got {shown(until)}")
    if end.ndim:
        _check_fit("until", end, "T", t)
    return Followed(np.minimum(t, end), t <= end)


class Curve(NamedTuple):
    """A curve of steps down: from step[i] on (m,), a `share` of the runs, share[i] (m,), has
    not got there."""

    step: np.ndarray
    share: np.ndarray


def kaplan_meier(runs: Followed) -> Curve:
    """The Kaplan-Meier curve, S(t) = product over event times u <= t of 1 - d_u / n_u: d_u
    of the n_u runs that are followed to u have their event then.

    It begins with S = 1 at step 0; then each time that occurs, censored ones too. Runs that
    are censored at an event's time count as followed to it. Raises TypeError or ValueError
    unless `runs` are Followed, and ImportError without scipy.

    >>> curve = kaplan_meier(followed([100, 200, np.inf, 200], until=[400, 400, 150, 400]))
    >>> curve.step.tolist(), curve.share.tolist()
    ([0.0, 100.0, 150.0, 200.0], [1.0, 0.75, 0.75, 0.0])
    """
    stats = scipy_stats()
    time, seen = _checked("runs", runs)
    data = stats.CensoredData.right_censored(time, ~seen)
    sf = stats.ecdf(data).sf
    return Curve(np.append(0.0, sf.quantiles), np.append(1.0, sf.probabilities))


def rmst(runs: Followed, until: float) -> float:
    """The restricted mean survival time: the area under the Kaplan-Meier curve from 0 to
    `until`. It is the mean of min(T, until) where every run is followed that far.

    Raises as `kaplan_meier`, and ValueError unless 0 < until and the curve is known up to
    there: some run is followed to it, or none is left.

    >>> rmst(followed([100, 200, np.inf], until=3000), until=3000)
    1100.0
    """
    check_real("until", until, above=0)
    step, share = kaplan_meier(runs)
    if until > step[-1] and share[-1] > 0:
        raise ValueError(
            f"until must be <= {step[-1]:g}, to which runs are followed, got {until:g}"
        )
    widths = np.diff(np.append(np.minimum(step, until), until))
    return float(widths @ share)


# ---- arm against arm


class Ratio(NamedTuple):
    """A ratio of means, and its confidence interval of a level: NaN to NaN if resampling
    never changes it."""

    value: float
    low: float
    high: float
    level: float


def paired_ratio(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Ratio:
    """mean(a) / mean(b), with the interval of the paired bootstrap: seeds are drawn again
    with replacement, each with its values of both arms (BCa, scipy.stats.bootstrap).

    a, b: (seeds,), or (seeds, cells) if each seed has a run in several cells, such as
    fractions; a seed is drawn with all its cells. Where all seeds agree there is nothing to
    resample, and no interval.

    BCa (bias-corrected and accelerated; Efron 1987) shifts the quantiles of the resamples
    by the share of them below the ratio and by the skew of the ratios that leave one seed
    out. It needs a fair number of seeds: in simulations with log-normal times, its 95%
    interval of 20 seeds held the truth 94 times in 100, that of 8 seeds 88 times, that of 3
    seeds 77 times. Where one run in eight never ended, in both arms, that of 20 seeds
    held it 91 times, that of 8 seeds 83 times.

    Raises TypeError or ValueError for arrays that are not finite or do not fit, fewer than
    3 seeds, a mean of b that is not above 0, an rng that is no Generator, resamples below
    100 and a level outside 0 to 1; ImportError without scipy.
    """
    stats = scipy_stats()
    A, B = _finite("a", a), _finite("b", b)
    _check_fit("a", A, "b", B)
    if len(A) < 3:
        raise ValueError(f"a must hold at least 3 seeds, got {len(A)}")
    if not B.mean() > 0:
        raise ValueError(f"b must have a mean > 0, got {B.mean():g}")
    check_instance("rng", rng, np.random.Generator)
    check_integer("resamples", resamples, at_least=100)
    check_real("level", level, above=0, below=1)
    A, B = (X.reshape(len(X), -1).mean(1) for X in (A, B))  # (seeds,)
    value = float(A.mean() / B.mean())
    if np.allclose(A * B.mean(), B * A.mean(), rtol=1e-12, atol=0):  # of every resample
        return Ratio(value, math.nan, math.nan, level)
    low, high = stats.bootstrap(
        (A, B),
        lambda A, B, axis: A.mean(axis) / B.mean(axis),
        paired=True,
        vectorized=True,
        method="BCa",
        n_resamples=resamples,
        confidence_level=level,
        rng=rng,
    ).confidence_interval
    return Ratio(value, float(low), float(high), level)


def rmst_ratio(
    T_a: ArrayLike,
    T_b: ArrayLike,
    until: float,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Ratio:
    """RMST of arm a over RMST of arm b, mean min(T_a, until) / mean min(T_b, until), with
    `paired_ratio`'s interval; below 1, a is the faster.

    T_a, T_b: (seeds,) or (seeds, cells), inf for never; all runs are followed to `until`.
    If no run of either arm gets there by then, the ratio is 1 and has no interval. Raises
    as `paired_ratio`, and for other things than steps >= 0.
    """
    check_real("until", until, above=0)
    a, b = _steps("T_a", T_a, axes=(1, 2)), _steps("T_b", T_b, axes=(1, 2))
    _check_fit("T_a", a, "T_b", b)
    a, b = np.minimum(a, until), np.minimum(b, until)
    return paired_ratio(a, b, rng, level=level, resamples=resamples)


def equivalence(ratio: Ratio) -> str:
    """ "no difference" if the 90% interval of a ratio lies inside MARGIN, 0.8 to 1.25, else
    "undecided": that no difference was found does not make two arms alike.

    A 90% interval inside the margin is two one-sided tests at 5% (Schuirmann 1987). Raises
    TypeError for anything but a Ratio, ValueError if its level is another.

    >>> equivalence(Ratio(1.0, 0.9, 1.1, 0.9)), equivalence(Ratio(1.0, 0.7, 1.3, 0.9))
    ('no difference', 'undecided')
    """
    check_instance("ratio", ratio, Ratio)
    if ratio.level != 0.9:
        raise ValueError(f"ratio must be of level 0.9, got {shown(ratio.level)}")
    inside = MARGIN[0] <= ratio.low and ratio.high <= MARGIN[1]
    return "no difference" if inside else "undecided"


class LogRank(NamedTuple):
    """Events of the first arm, and as many as are expected if the arms are alike; z, above
    0 where the first is sooner; p, of both sides."""

    observed: int
    expected: float
    z: float
    p: float


def logrank(strata: Sequence[tuple[Followed, Followed]]) -> LogRank:
    """The log-rank test of two arms, stratified: in each stratum (a fraction, say) runs are
    compared with one another only.

    At each time u with d events among n runs still followed, n_1 of them of the first arm,
    the first arm's share of the events is hypergeometric: mean d n_1 / n, variance d n_1
    (n - n_1) (n - d) / (n² (n - 1)). With sums over times and strata,

        z = (observed - expected) / sqrt(variance),   p = P(|N(0, 1)| >= |z|)

    (Mantel 1966). Without any time that could tell the arms apart, z = 0 and p = 1. scipy
    has the test without strata only. Raises TypeError or ValueError unless there is at
    least one stratum, of two Followed each.

    >>> first, second = followed([1, 2], until=9), followed([3, 4], until=9)
    >>> logrank([(first, second)]).observed
    2
    """
    if not isinstance(strata, Sequence) or not strata:
        raise ValueError(f"strata must list at least one stratum, got {shown(strata)}")
    observed, expected, variance = 0, 0.0, 0.0
    for i, arms in enumerate(strata):
        if not isinstance(arms, tuple) or len(arms) != 2 or isinstance(arms, Followed):
            raise TypeError(f"strata[{i}] must be two arms, got {shown(arms)}")
        (t1, seen1), (t2, seen2) = (_checked(f"strata[{i}]", arm) for arm in arms)
        for u in np.unique(np.append(t1[seen1], t2[seen2])):
            n1, n = np.sum(t1 >= u), np.sum(t1 >= u) + np.sum(t2 >= u)
            d1 = np.sum(seen1 & (t1 == u))
            d = d1 + np.sum(seen2 & (t2 == u))
            observed += int(d1)
            expected += d * n1 / n
            variance += d * n1 * (n - n1) * (n - d) / (n**2 * max(n - 1, 1))
    z = (observed - expected) / math.sqrt(variance) if variance else 0.0
    return LogRank(observed, float(expected), float(z), math.erfc(abs(z) / math.sqrt(2)))


def logrank_scores(runs: Followed) -> np.ndarray:
    """What each run adds to observed - expected of its arm in a log-rank test over all of
    these runs (n,): whether it happened, less the cumulative hazard up to its time, the sum
    of d_u / n_u over event times u <= time (Nelson and Aalen). Their sum is 0. Raises as
    `kaplan_meier`.

    >>> logrank_scores(followed([100, 200, np.inf], until=300)).round(2).tolist()
    [0.67, 0.17, -0.83]
    """
    time, seen = _checked("runs", runs)
    times = np.unique(time)
    hazard = [seen[time == u].sum() / (time >= u).sum() for u in times]
    return seen - np.cumsum(hazard)[np.searchsorted(times, time)]


def permuted_logrank(
    strata: Sequence[Sequence[Followed]],
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> float:
    """p of the log-rank test of one arm, the first of each stratum, against the others of
    the stratum together, two-sided, where the runs of an index have one seed.

    A permutation test (scipy.stats.permutation_test): if the arms are alike, any run of a
    seed may as well be the first arm's; it is so in all strata at once, since a seed that
    is lucky in one may be lucky in the others. So each run counts once, and the p holds for
    few seeds, of which some are luckier than others, in all arms. A log-rank test with a
    stratum for each pair of arms takes the first arm's runs for several independent ones.

    Raises TypeError or ValueError for strata without two arms, or whose numbers of arms or
    of runs differ, an rng that is no Generator and resamples below 100; ImportError without
    scipy.
    """
    stats = scipy_stats()
    check_instance("rng", rng, np.random.Generator)
    check_integer("resamples", resamples, at_least=100)
    scores = []  # of each stratum (arms, n)
    for arms in strata:
        sizes = [len(_checked("strata", arm).time) for arm in arms]
        if len(arms) < 2 or len(arms) != len(strata[0]) or len({*sizes}) > 1:
            raise ValueError(
                "strata must hold two arms or more each, of as many runs in all strata, got "
                f"arms of {', '.join(map(str, sizes)) or 'none'} runs"
            )
        pooled = Followed(*(np.concatenate(part) for part in zip(*arms, strict=True)))
        scores.append(logrank_scores(pooled).reshape(len(arms), -1))
    if not scores:
        raise ValueError("strata must hold one or more, got none")
    return float(
        stats.permutation_test(
            tuple(np.sum(scores, axis=0)),
            lambda first, *others, axis: first.sum(axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=resamples,
            rng=rng,
        ).pvalue
    )


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's adjusted p-values (k,) of k hypotheses, in their order: those below alpha are
    rejected, and the chance to reject any true one is at most alpha (Holm 1979).

    The i-th smallest p (i from 0) is multiplied by k - i, then raised to the one before it,
    and cut at 1. Raises TypeError or ValueError unless p holds at least one number from 0
    to 1.

    >>> holm([0.01, 0.04, 0.03, 0.005]).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    values = _finite("p", p, axes=(1,))
    if (values < 0).any() or (values > 1).any():
        raise ValueError(f"p must hold numbers from 0 to 1, got {shown(p)}")
    order = np.argsort(values, kind="stable")
    times = np.arange(len(values), 0, -1)  # k .. 1
    adjusted = np.minimum(np.maximum.accumulate(values[order] * times), 1.0)
    return adjusted[np.argsort(order, kind="stable")]


def area_under_roc(score: ArrayLike, success: ArrayLike) -> float:
    """P(the score of a success > that of a failure) + P(they are equal) / 2, the area under
    the receiver operating characteristic: 0.5 tells nothing, 1 all; below 0.5, small scores
    go with success.

    score (n,) finite, success (n,) booleans; NaN unless there are both successes and
    failures. Raises TypeError or ValueError for others, ImportError without scipy.

    >>> area_under_roc([3, 1, 2, 2], [True, False, True, False])
    0.875
    """
    stats = scipy_stats()
    x = _finite("score", score, axes=(1,))
    won = _booleans("success", success)
    _check_fit("score", x, "success", won)
    wins, losses = int(won.sum()), int((~won).sum())
    if not wins * losses:
        return math.nan
    return float(stats.mannwhitneyu(x[won], x[~won]).statistic / (wins * losses))


# ---- what may come in


def scipy_stats() -> ModuleType:
    """scipy.stats, or an error that says how to get it."""
    try:
        from scipy import stats
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "scipy is missing; pip install 'lrdlib[evidence]'", name=error.name
        ) from error
    return stats


def _numbers(name: str, x: ArrayLike, axes: tuple[int, ...]) -> np.ndarray:
    """x as a float64 array; raises unless it holds at least one real number, in one of
    these numbers of axes."""
    try:
        array = np.asarray(x)
    except ValueError:  # lists of unequal length
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be an array of real numbers, got {shown(x)}")
    if array.ndim not in axes or not array.size:
        words = " or ".join(("()", "(n,)", "(n, m)")[k] for k in axes)
        raise ValueError(f"{name} must have shape {words}, got shape {array.shape}")
    return array.astype(float)


def _finite(name: str, x: ArrayLike, axes: tuple[int, ...] = (1, 2)) -> np.ndarray:
    array = _numbers(name, x, axes)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must hold finite numbers, got {shown(x)}")
    return array


def _steps(name: str, x: ArrayLike, axes: tuple[int, ...] = (1,)) -> np.ndarray:
    """x as float64; raises unless all are >= 0, inf allowed."""
    array = _numbers(name, x, axes)
    if not (array >= 0).all():  # NaN is not
        raise ValueError(f"{name} must hold steps >= 0, inf for never, got {shown(x)}")
    return array


def _records(steps: ArrayLike, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    t, y = _finite("steps", steps, axes=(1,)), _numbers("values", values, axes=(1,))
    _check_fit("steps", t, "values", y)
    if (np.diff(t) <= 0).any():
        raise ValueError(f"steps must ascend, got {shown(steps)}")
    return t, y


def _booleans(name: str, x: ArrayLike) -> np.ndarray:
    array = np.asarray(x)
    if array.dtype != bool or array.ndim != 1:
        raise TypeError(f"{name} must be an array (n,) of booleans, got {shown(x)}")
    return array


def _checked(name: str, runs: object) -> Followed:
    if not isinstance(runs, Followed):
        raise TypeError(f"{name} must be Followed, got {shown(runs)}")
    time = _finite(f"{name}.time", runs.time, axes=(1,))
    seen = _booleans(f"{name}.seen", runs.seen)
    _check_fit(f"{name}.time", time, f"{name}.seen", seen)
    if (time < 0).any():
        raise ValueError(f"{name}.time must hold steps >= 0, got {shown(runs.time)}")
    return Followed(time, seen)


def _check_fit(name: str, x: np.ndarray, other: str, y: np.ndarray) -> None:
    if x.shape != y.shape:
        raise ValueError(f"{name} must have the shape of {other}, {y.shape}, got {x.shape}")
