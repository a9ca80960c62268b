"""Arms of the studies compared, with the statistics of their plan.

Runs *generalise* as lrdlib.evidence.studies has it: T_gen is the first record with more
than 95% of the orbit-clean pairs right that the next record confirms. Two arms are compared
seed by seed, by the ratio of their RMST, the mean of min(T_gen, N). The five primary
hypotheses of the plan share one error rate (Holm); one without runs counts as p = 1.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrdlib.evidence import studies
from lrdlib.evidence.judging import SEEDS_ENOUGH, Curve, Evidence, Finding, finding
from lrdlib.evidence.proportions import sign_test
from lrdlib.evidence.results import final_accuracy, mean_instability
from lrdlib.evidence.studies import (
    FRACTIONS,
    LONG_AT,
    OUTCOME,
    SEEDS,
    Trial,
    arm,
    generalised,
)
from lrdlib.evidence.survival import (
    CONFIRMED,
    GENERALISED,
    Ratio,
    confirmed_best,
    equivalence,
    followed,
    holm,
    logrank,
    permuted_logrank,
    rmst_ratio,
)
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import Run

Arm = Mapping[int, Sequence[TrainConfig]]  # by seed, a config for each cell
Count = tuple[int, int]  # of runs that generalise, of so many recorded
EIGHT = SEEDS[:8]
ALPHA = 0.05
IN_A_ROW = (1, 2, 3, 4, 5, 6)  # records in a row above the threshold, of a curve
LONGER = (3, 4)  # and of what a card says beside its verdict, at CONFIRMED
COUNTED = (CONFIRMED, *LONGER)
FAR = 0.8  # an accuracy far below the threshold


def recorded_by(*names: str) -> str:
    """The command that records these studies.

    >>> recorded_by("E1", "E2")
    'python -m lrdlib study E1 E2'
    """
    return f"python -m lrdlib study {' '.join(names)}"


def absent(evidence: Evidence, wanted: Iterable[TrainConfig], name: str) -> Finding:
    """The finding of a study that is not recorded far enough."""
    part = evidence.those(wanted)
    waits = not part.wanted or len(part.runs) == len(part.wanted)
    words = f"{name} waits for {'a choice by tuning runs' if waits else 'its runs'}"
    return finding("not recorded yet", words, [part], recorded_by(name))


# ---- arm against arm


class Versus(NamedTuple):
    """Two arms on `seeds` seeds: the ratio of RMST with its 95% and its 90% interval; some:
    whether any run of theirs generalises."""

    seeds: int
    ratio: Ratio
    ratio90: Ratio
    some: bool = True


def times(
    evidence: Evidence, arm: Arm, seeds: Iterable[int], records: int = CONFIRMED
) -> np.ndarray:
    """T_gen (seeds, cells) of an arm, inf for never; records: as of `confirmed_step`."""
    of = evidence.known
    if records != CONFIRMED:
        of = {c: generalised(evidence.studied[c], records) for c in flat(arm) if c in of}
    return np.array([[of[c] for c in arm[s]] for s in seeds])


def complete(evidence: Evidence, *arms: Arm) -> list[int]:
    """The seeds of which every cell of every arm is recorded."""
    shared = set.intersection(*(set(one) for one in arms))
    return [
        seed
        for seed in sorted(shared)
        if all(config in evidence.known for one in arms for config in one[seed])
    ]


def paired_times(
    evidence: Evidence, a: Arm, b: Arm, records: int = CONFIRMED
) -> tuple[np.ndarray, np.ndarray] | None:
    """T_gen (seeds, cells) of two arms, as `times`, on the seeds that are complete; None if
    these are fewer than three."""
    seeds = complete(evidence, a, b)
    if len(seeds) < SEEDS_ENOUGH:
        return None
    return times(evidence, a, seeds, records), times(evidence, b, seeds, records)


def versus(evidence: Evidence, a: Arm, b: Arm, records: int = CONFIRMED) -> Versus | None:
    """Arm a against arm b on the seeds that are complete; None if these are fewer than
    three. records: as of `times`."""
    found = paired_times(evidence, a, b, records)
    if found is None:
        return None
    until = flat(a)[0].steps
    ratios = [
        rmst_ratio(*found, until, np.random.default_rng(0), level=level)
        for level in (0.95, 0.9)
    ]
    some = bool(np.isfinite(found).any())
    return Versus(len(found[0]), ratios[0], ratios[1], some)


def logrank_p(evidence: Evidence, a: Arm, b: Arm) -> float:
    """The p of the log-rank test of two arms, a stratum for each cell; 1 while fewer than
    three seeds are complete."""
    found = paired_times(evidence, a, b)
    if found is None:
        return 1.0
    until = flat(a)[0].steps
    pairs = zip(*(T.T for T in found), strict=True)
    return logrank([(followed(A, until), followed(B, until)) for A, B in pairs]).p


def shared_control_p(
    evidence: Evidence, strata: Iterable[tuple[Sequence[Arm], Arm]]
) -> float:
    """The p of several arms, taken together, against one, a stratum for each such pair
    (`permuted_logrank`), over the seeds that are complete in all of these. Strata of fewer
    than three complete seeds are left out; 1 if none is left."""
    kept = [
        [control, *several]
        for several, control in strata
        if len(complete(evidence, *several, control)) >= SEEDS_ENOUGH
    ]
    seeds = complete(evidence, *(arm for arms in kept for arm in arms)) if kept else ()
    if len(seeds) < SEEDS_ENOUGH:
        return 1.0
    found = [
        [followed(times(evidence, one, seeds).ravel(), flat(one)[0].steps) for one in arms]
        for arms in kept
    ]
    return permuted_logrank(found, np.random.default_rng(0))


def bounds(ratio: Ratio) -> tuple[float, float]:
    """The interval of a ratio; the ratio itself where all seeds agree."""
    if math.isnan(ratio.low):
        return ratio.value, ratio.value
    return ratio.low, ratio.high


def sooner(found: Versus, p: float | None = None, factor: float = 1.0) -> str:
    """The verdict on "arm a takes fewer than `factor` times the steps of arm b".

    Holds if the whole 95% interval of the ratio is below `factor`, does not hold if it is
    above, or if the 90% interval says that there is no difference; else undecided. p: of a
    primary hypothesis, adjusted: a difference counts only if it is below 5%.
    """
    low, high = bounds(found.ratio)
    sure = p is None or p < ALPHA
    if high < factor and sure:
        return "holds"
    if low > factor and sure:
        return "does not hold"
    return "does not hold" if factor == 1 and alike(found) else "undecided"


def alike(found: Versus) -> bool:
    """Whether there is no difference: the 90% interval of the ratio is inside 0.8 to 1.25,
    or the arms are the same in every seed. Where no run generalises nothing is compared."""
    same = found.some and found.ratio.value == 1 and math.isnan(found.ratio.low)
    return same or equivalence(found.ratio90) == "no difference"


def p_text(p: float) -> str:
    """A p-value.

    >>> p_text(0.0304), p_text(1e-9)
    ('0.03', 'below 0.001')
    """
    return "below 0.001" if p < 0.001 else f"{p:.2g}"


def ratio_text(ratio: Ratio) -> str:
    """A ratio with its interval.

    >>> ratio_text(Ratio(0.5, 0.4, 0.625, 0.95))
    '0.50 (0.40 to 0.62)'
    """
    if math.isnan(ratio.low):
        return f"{ratio.value:.2f}"
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def won(evidence: Evidence, configs: Iterable[TrainConfig]) -> Count:
    """How many of these runs generalise, of how many recorded."""
    found = [evidence.known[c] for c in configs if c in evidence.known]
    return sum(map(math.isfinite, found)), len(found)


def judged_by_counts(
    judge: Callable[[Sequence[Count]], str], counts: Sequence[Count]
) -> tuple[str, str]:
    """The verdict that counts of runs decide by `judge`, and its note: "by one run" if it
    turns with one run more, or one fewer, "" if it does not.

    >>> most = lambda counts: "holds" if 2 * counts[0][0] > counts[0][1] else "does not hold"
    >>> [judged_by_counts(most, [(wins, 8)]) for wins in (4, 6)]
    [('does not hold', 'by one run'), ('holds', '')]
    """
    others = (
        [*counts[:i], (wins + more, of), *counts[i + 1 :]]
        for i, (wins, of) in enumerate(counts)
        for more in (-1, 1)
        if 0 <= wins + more <= of
    )
    judged = judge(counts)
    return judged, "by one run" if any(judge(other) != judged for other in others) else ""


def flat(arm: Arm) -> list[TrainConfig]:
    """All configs of an arm."""
    return [config for configs in arm.values() for config in configs]


def won_text(evidence: Evidence, name: str, arm: Arm) -> str:
    """How many runs of an arm generalise, in words."""
    wins, of = won(evidence, flat(arm))
    return f"{name} {wins} of {of}"


def instability_text(evidence: Evidence, arms: Mapping[str, Arm]) -> str:
    """What RMST does not see, of each arm in words: how often accuracy falls again, a
    little or far, and where it is at the end."""
    runs = {name: evidence.those(flat(one)).runs for name, one in arms.items()}

    def said(number: Callable[[list[Run]], float]) -> str:
        of = {name: number(some) for name, some in runs.items()}
        known = [f"{name} {x:.0%}" for name, x in of.items() if not math.isnan(x)]
        return ", ".join(known) or "none is"

    far = said(lambda some: mean_instability(some, FAR))
    return (
        f"Below the threshold again, of the records after that: {said(mean_instability)}; "
        f"below {FAR:g}: {far}. Mean accuracy at the last record, of all runs at all "
        f"fractions: {said(final_accuracy)}"
    )


def accuracies_reached(evidence: Evidence, arm: Arm) -> list[float]:
    """The best orbit-clean accuracy that two records in a row reach, of each run of an
    arm."""
    return [confirmed_best(run.history[OUTCOME]) for run in evidence.those(flat(arm)).runs]


def accuracy_curve(evidence: Evidence, arms: Mapping[str, Arm]) -> Curve:
    """The share of each arm's runs that pass an accuracy twice in a row."""
    at = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, GENERALISED, 0.99)
    best = {name: np.array(accuracies_reached(evidence, one)) for name, one in arms.items()}
    lines = {name: tuple(float((y > x).mean()) for x in at) for name, y in best.items()}
    return Curve("orbit-clean accuracy, twice in a row, above", at, lines, GENERALISED)


def staying_curve(evidence: Evidence, arms: Mapping[str, Arm]) -> Curve:
    """The share of each arm's runs that generalise, by how many records in a row have to be
    above the threshold."""
    lines = {}
    for name, one in arms.items():
        runs = evidence.those(flat(one)).runs
        lines[name] = tuple(
            float(np.mean([math.isfinite(generalised(run, k)) for run in runs]))
            for k in IN_A_ROW
        )
    of = f"records in a row with an accuracy above {GENERALISED:g}, at least"
    return Curve(of, IN_A_ROW, lines, CONFIRMED)


def turns(verdicts: Mapping[int, str]) -> str:
    """What goes with a verdict that is another one if more records in a row have to be
    above the threshold; "" if none is. verdicts: by the number of records."""
    others = {k for k, judged in verdicts.items() if judged != verdicts[CONFIRMED]}
    return f"by {CONFIRMED} records in a row" if others else ""


# ---- the primary hypotheses


class Tuned(NamedTuple):
    """The arms of E1 at what tuning chose. later: whether over the wider grid."""

    arms: dict[str, Arm]
    trials: dict[str, Trial]
    later: bool


JUDGED = ("A1", "A2", "A4")  # the arms of E1 that H1 and H2 are judged with


def tuned(evidence: Evidence, *names: str) -> Tuned | None:
    """These arms of E1, JUDGED if there are no names: at the later choice, over the wider
    grid, if eight seeds of all of them are recorded; until then at the first choice; None
    if three are not. A later choice that is the first one has its twenty seeds: all that
    the arms share judge."""
    names = names or JUDGED
    for pick, enough, later in (
        (studies.choice, len(EIGHT), True),
        (studies.first_choice, SEEDS_ENOUGH, False),
    ):
        picked = {name: pick(name, evidence.known) for name in names}
        trials = {name: trial for name, trial in picked.items() if trial is not None}
        if len(trials) < len(names):
            continue
        arms: dict[str, Arm] = {
            name: {s: [arm(trial, fraction=f, seed=s) for f in FRACTIONS] for s in SEEDS}
            for name, trial in trials.items()
        }
        there = complete(evidence, *arms.values())
        if len(there) >= enough:
            if later:  # no more is asked for where a choice has changed
                arms = {n: {s: a[s] for s in there} for n, a in arms.items()}
            return Tuned(arms, trials, later)
    return None


def so_far(found: Tuned) -> tuple[str, str]:
    """What goes with a verdict on E1 until the wider grid is recorded, and why it is
    provisional."""
    if found.later:
        return "", ""
    return "so far", "the wider grid is not recorded in full yet"


PART_TITLES = {
    "T": "tangential part",
    "R": "radial part",
    "R+T": "whole step",
    "T-held": "tangential with norms held",
    "R+T-held": "whole step with norms held",
    "L2b": "L2 on the blocks",
}


def at_edges(evidence: Evidence, keys: Iterable[str]) -> str:
    """Which of these choices of tuning lie at an edge of what was tried, and which are
    none, as no tuning run generalises, in words; "" if there are no such. A verdict that
    rests on such an arm is provisional: at another strength the arm may do better.

    keys: of lrdlib.evidence.studies.choices, as "E2 T"; those not chosen yet say nothing.
    A first choice that the wider grid chooses again lies at an edge of that grid, or at
    none.
    """
    words, none = [], []
    for key in keys:
        found = evidence.choices.get(key)
        later = evidence.choices.get(key.replace("first ", ""))
        if found and later and later.trial == found.trial:
            found = later
        if found is None:
            continue
        name = {**studies.ARMS, **PART_TITLES}.get(found.trial.arm, "no decay")
        if edges := found.edges():
            words.append(f"{name} at the {' and the '.join(edges)}")
        elif not found.any_generalises:
            none.append(name)
    said = [f"tuning chose an edge of its grid, {', '.join(words)}"] if words else []
    if none:
        said.append(
            f"tuning could choose nothing for {', '.join(none)}: no run generalises, at any "
            "strength, and the smallest was taken"
        )
    return "; ".join(said)


def tuned_edges(evidence: Evidence, found: Tuned) -> str:
    """`at_edges` of arms of E1, at the choice that they are judged at."""
    first = "" if found.later else "first "
    return at_edges(evidence, [f"E1 {first}{name}" for name in found.arms])


# ---- what goes into a finding


def judged_on(
    evidence: Evidence,
    judged: str,
    words: str,
    arms: Iterable[Arm],
    *names: str,
    **rest: Any,
) -> Finding:
    """The finding on these arms, which the studies of these names record. rest: as of
    `finding`; of several reasons to be provisional those that are none are left out."""
    why = rest.pop("provisional", "")
    why = why if isinstance(why, str) else "; ".join(filter(None, why))
    used = [evidence.those(flat(one)) for one in arms]
    return finding(judged, words, used, recorded_by(*names), provisional=why, **rest)


def one_ratio(
    evidence: Evidence, found: Versus, arms: Mapping[str, Arm], where: str = ""
) -> str:
    """The ratio of RMST of two arms, by name, and how many runs of each generalise."""
    a, b = arms
    won_of = ", ".join(won_text(evidence, name, one) for name, one in arms.items())
    return (
        f"ratio of RMST, {a} to {b}{where}: {ratio_text(found.ratio)}; generalise: {won_of}"
    )


def parts(evidence: Evidence, *names: str) -> dict[str, Arm] | None:
    """These of E2's arms, each at its own strength, over three fractions; None until all
    strengths are chosen."""
    strengths = {name: studies.part_choice(name, evidence.known) for name in names}
    if None in strengths.values():
        return None
    return {
        name: {
            s: [studies.part(name, t, fraction=f, seed=s) for f in studies.PART_AT]
            for s in EIGHT
        }
        for name, t in strengths.items()
        if t is not None
    }


ALTERED: dict[str, dict[str, Any]] = {
    "frozen": {"attention": "frozen"},
    "kept flat": {"rank": "flat"},
    "uniform": {"attention": "uniform"},
}
CHANGED = ("frozen", "kept flat")  # what judges; uniform attention is a control


def altered(evidence: Evidence, name: str) -> dict[str, Arm] | None:
    """E3 under arm A1 or A4: queries and keys learned, and each of ALTERED."""
    trial = studies.first_choice(name, evidence.known)
    if trial is None:
        return None
    changes: dict[str, dict[str, Any]] = {"learned": {}} | ALTERED
    return {
        words: {s: [arm(trial, fraction=0.4, seed=s, **change)] for s in EIGHT}
        for words, change in changes.items()
    }


def long_runs() -> tuple[Arm, Arm]:
    """E4: weak L2, a cell for each fraction and lambda, and no decay, a cell for each
    fraction, by seed."""
    every = studies.trapped_or_late({})
    weak, bare = (
        {s: [c for c in every if c.seed == s and (c.rule == "l2") == l2] for s in SEEDS[:3]}
        for l2 in (True, False)
    )
    return weak, bare


def _cell(arm: Arm, fraction: float, weight_decay: float) -> Arm:
    """One cell of an arm."""
    own = fraction, weight_decay
    return {s: [c for c in arm[s] if (c.fraction, c.weight_decay) == own] for s in arm}


def smallest_fractions(
    evidence: Evidence, arm: Arm, seeds: Iterable[int], records: int = CONFIRMED
) -> np.ndarray:
    """Per seed, the smallest fraction at which its run generalises (seeds,), inf for
    none. records: as of `times`."""
    T = times(evidence, arm, seeds, records)  # (seeds, fractions)
    return np.where(np.isfinite(T), np.array(FRACTIONS), np.inf).min(axis=1)


def primary(evidence: Evidence) -> dict[str, float]:
    """Holm's adjusted p of H1 to H5; 1 of one without runs.

    H1 less data: the sign test over seeds on the smallest fraction. The others: the
    stratified log-rank test of H2 LRD against L2 on all, H3 the tangential against the
    radial part; permuted within seeds, H4 queries and keys that are frozen or kept flat
    against learned ones, a stratum for each rule, and H5 weak L2 of all strengths against
    no decay, a stratum for each fraction.
    """
    p = dict.fromkeys(("H1", "H2", "H3", "H4", "H5"), 1.0)
    if one := tuned(evidence):
        seeds = complete(evidence, *one.arms.values())
        first = {n: smallest_fractions(evidence, a, seeds) for n, a in one.arms.items()}
        less, more = (first["A4"] < first["A1"]).sum(), (first["A4"] > first["A1"]).sum()
        p["H1"] = sign_test(int(less), int(more))
        p["H2"] = logrank_p(evidence, one.arms["A4"], one.arms["A1"])
    if two := parts(evidence, "T", "R"):
        p["H3"] = logrank_p(evidence, two["T"], two["R"])
    three = [altered(evidence, name) for name in ("A1", "A4")]
    p["H4"] = shared_control_p(
        evidence,
        [([arms[w] for w in CHANGED], arms["learned"]) for arms in three if arms],
    )
    weak, bare = long_runs()
    strengths = {c.weight_decay for c in flat(weak)}
    p["H5"] = shared_control_p(
        evidence,
        [
            ([_cell(weak, f, w) for w in sorted(strengths)], _cell(bare, f, 0.0))
            for f in LONG_AT
        ],
    )
    names = list(p)
    return dict(zip(names, holm([p[name] for name in names]).tolist(), strict=True))
