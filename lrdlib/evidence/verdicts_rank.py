"""Verdicts on the rank of queries and keys and when it falls, from E0 and E1.

Each function is read from top to bottom: what is wanted and recorded, when that settles
nothing, the rule of the verdict, the words.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lrdlib.evidence import studies
from lrdlib.evidence.comparing import (
    Count,
    absent,
    at_edges,
    bounds,
    complete,
    flat,
    judged_by_counts,
    judged_on,
    recorded_by,
    tuned,
    tuned_edges,
)
from lrdlib.evidence.judging import (
    Curve,
    Evidence,
    Finding,
    counted,
    finding,
    rank_shares,
    shares_text,
    verdict,
)
from lrdlib.evidence.proportions import binomial_interval
from lrdlib.evidence.studies import ARMS, FRACTIONS, OUTCOME, SEEDS, arm
from lrdlib.evidence.survival import paired_ratio
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import Run

SHARES = (0.75, 0.5, 0.25, 0.125, 0.0625)  # of the first rank: thresholds of collapse
FIRST = ("A4", "A1", "A2")  # arms of E1 at its first choice, beside E0


def lowest_before(evidence: Evidence, config: TrainConfig) -> float:
    """The lowest share of its first QK stable rank that a run has by T_gen."""
    run = evidence.studied[config]
    until = run.history["step"] <= evidence.known[config]
    return float(rank_shares(run)[until].min())


def share_before_half(run: Run) -> float:
    """The share of its first QK stable rank that a run has at the last record before half
    of the orbit-clean pairs are right; at its last record if they never are. Records
    without a finite rank do not count."""
    right = run.history[OUTCOME] > 0.5
    until = max(int(right.argmax()), 1) if right.any() else len(right)
    shares = rank_shares(run)[:until]
    return float(shares[np.isfinite(shares)][-1])


def pre_condition(evidence: Evidence) -> Finding:
    """A fall of the QK stable rank is a pre-condition: no run generalises before its rank
    has been below half of its start at some record.

    By seed, over the six arms of E1: does not hold if in most seeds (the 95% interval of
    their share lies above one half) some run generalises without; holds if in none, over
    ten seeds or more; otherwise undecided. A stricter threshold leaves fewer runs that
    meet it.
    """
    found = tuned(evidence, *ARMS)
    if found is None:
        return absent(evidence, studies.tuned_against_tuned(evidence.known), "E1")
    lows = {
        name: {
            c: lowest_before(evidence, c)
            for c in flat(one)
            if math.isfinite(evidence.known.get(c, math.inf))
        }
        for name, one in found.arms.items()
    }
    every = {c: x for some in lows.values() for c, x in some.items()}
    seeds = complete(evidence, *found.arms.values())
    against = {c.seed for c, x in every.items() if x >= 0.5} & set(seeds)
    low, high = binomial_interval(len(against), len(seeds))
    held = [x for name, some in lows.items() if name != "A3" for x in some.values()]
    if low > 0.5:
        judged = "does not hold"
    else:
        judged = "holds" if not against and len(seeds) >= 10 else "undecided"

    words = "runs that generalise with more than half of their rank: " + ", ".join(
        f"{words_} {sum(x >= 0.5 for x in some)} of {len(some)}"
        for words_, some in (
            ("where the blocks decay", held),
            (ARMS["A3"], list(lows["A3"].values())),
        )
    )
    words += (
        f"; so some run of {len(against)} of {len(seeds)} seeds (95% interval {low:.0%} to "
        f"{high:.0%})"
    )
    lines = {
        ARMS[name]: tuple(float(np.mean([x < at for x in some.values()])) for at in SHARES)
        for name, some in lows.items()
        if some and name in ("A1", "A2", "A3", "A4")
    }
    curve = Curve(
        "lowest QK rank by T_gen, as a share of the start, below", SHARES, lines, 0.5
    )
    why = tuned_edges(evidence, found)
    return judged_on(
        evidence, judged, words, found.arms.values(), "E1", curve=curve, provisional=why
    )


def _of_rules(evidence: Evidence) -> dict[str, list[TrainConfig]]:
    """The judging runs of E1's A4, A1 and A2 at the first choice, and E0's, by rule."""
    arms: dict[str, list[TrainConfig]] = {"LRD": [], "L2": []}
    for name in FIRST:
        if (trial := studies.first_choice(name, evidence.known)) is not None:
            arms["LRD" if name == "A4" else "L2"] += [
                arm(trial, fraction=f, seed=s) for s in SEEDS for f in FRACTIONS
            ]
    for c in studies.the_first_code({}):
        arms["LRD" if c.rule == "lrd" else "L2"].append(c)
    return {n: [c for c in some if c in evidence.known] for n, some in arms.items()}


def ranks_by_outcome(
    evidence: Evidence,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """By rule, `share_before_half` of each run that generalises, and of each that never
    does."""
    left: dict[str, list[float]] = {}
    never: dict[str, list[float]] = {}
    for name, some in _of_rules(evidence).items():
        left[name], never[name] = [], []
        for c in some:
            group = left if math.isfinite(evidence.known[c]) else never
            group[name].append(share_before_half(evidence.studied[c]))
    return left, never


def _by_study(evidence: Evidence, rules: Mapping[str, Sequence[TrainConfig]]) -> str:
    """Of how many runs that generalise the rank halves first, for each study by itself."""
    code = set(studies.the_first_code({}))
    said = []
    for study, within in (("E1", False), ("E0", True)):
        flags = {
            name: [
                share_before_half(evidence.studied[c]) < 0.5
                for c in some
                if (c in code) == within and math.isfinite(evidence.known[c])
            ]
            for name, some in rules.items()
        }
        counts = (f"{sum(some)} of {len(some)} {name}" for name, some in flags.items())
        said.append(f"{study} {', '.join(counts)}")
    return "; ".join(said)


def precedes(evidence: Evidence) -> Finding:
    """In runs that generalise, the QK rank has halved before half of the orbit-clean pairs
    are right.

    Holds if it has in nine of ten runs of LRD and of L2, in part if for one of the two. The
    words say beside it in how many of the runs that never generalise it has as well, at the
    same record, or at the last one where half of the pairs are never right: what comes
    first need not be a cause.
    """
    left, never = ranks_by_outcome(evidence)
    rules = _of_rules(evidence)
    used = [evidence.those(some) for some in rules.values()]
    command = recorded_by("E0", "E1")
    if not all(left.values()):
        only = " and ".join(name for name, some in left.items() if some) or "neither rule"
        words = f"runs that generalise are recorded of {only}"
        return finding("not recorded yet", words, used, command)

    flags = {name: [x < 0.5 for x in some] for name, some in left.items()}
    judged, note = judged_by_counts(_nine_of_ten, _counts(flags))
    words = (
        "in runs that generalise, the QK stable rank is below half of its start at the last "
        f"record before half of the orbit-clean pairs are right, in {shares_text(flags)}"
    )
    words += f" ({_by_study(evidence, rules)})"
    if above := sum(x > 1 for x in left["LRD"]):
        words += f"; in {counted(above, 'LRD run')} it is above its start then"
    halves = {name: [x < 0.5 for x in some] for name, some in never.items()}
    if any(halves.values()):
        words += (
            f"; counted alike, it is so in {shares_text(halves)} that never generalise: if "
            "half of their pairs are never right, at their last record, as every record is "
            "before then (they have more steps to fall in)"
        )
    lines = {
        f"{name} {what}": tuple(float(np.mean([x < at for x in some])) for at in SHARES)
        for what, by_rule in (("that generalise", left), ("that never do", never))
        for name, some in by_rule.items()
        if some
    }
    curve = Curve("QK rank, as a share of the start, below", SHARES, lines, 0.5)
    why = at_edges(evidence, [f"E1 first {name}" for name in FIRST])
    return finding(judged, words, used, command, note=note, provisional=why, curve=curve)


def _counts(flags: Mapping[str, Sequence[bool]]) -> list[Count]:
    """Of each rule, of how many runs it is true."""
    return [(sum(some), len(some)) for some in flags.values()]


def _nine_of_ten(counts: Sequence[Count]) -> str:
    """The verdict of `precedes` and `accompanies` on the runs whose rank has halved."""
    most = [10 * there >= 9 * of for there, of in counts]
    return verdict(holds=all(most), in_part=any(most))


def accompanies(evidence: Evidence) -> Finding:
    """A collapse of the rank accompanies generalisation: at the end of the runs that
    generalise the QK stable rank is below half of its start.

    Holds if it is in nine of ten runs of LRD and of L2, in part if for one of the two.
    """
    rules = _of_rules(evidence)
    # by whether a run generalises: the share of the rank at its end
    ends: dict[str, dict[bool, list[float]]] = {n: {True: [], False: []} for n in rules}
    for name, some in rules.items():
        for c in some:
            ends[name][math.isfinite(evidence.known[c])].append(
                float(rank_shares(evidence.studied[c])[-1])
            )
    used = [evidence.those(some) for some in rules.values()]
    command = recorded_by("E0", "E1")
    if not all(by[True] for by in ends.values()):
        words = "runs that generalise are wanted of both rules"
        return finding("not recorded yet", words, used, command)
    flags = {
        there: {name: [x < 0.5 for x in by[there]] for name, by in ends.items()}
        for there in (True, False)
    }
    words = (
        "the QK stable rank ends below half of its start in "
        f"{shares_text(flags[True])} that generalise"
    )
    if any(flags[False].values()):
        words += f", and in {shares_text(flags[False])} that do not"
    lines = {
        name: tuple(float(np.mean([x < at for x in by[True]])) for at in SHARES)
        for name, by in ends.items()
    }
    curve = Curve("QK rank at the end, as a share of the start, below", SHARES, lines, 0.5)
    judged = _nine_of_ten(_counts(flags[True]))
    why = at_edges(evidence, [f"E1 first {name}" for name in FIRST])
    return finding(judged, words, used, command, curve=curve, provisional=why)


def rank_unchanged(evidence: Evidence) -> Finding:
    """Under L2 the QK stable rank stays as it is: holds if the mean of its last value over
    its first lies in 0.8 to 1.25, by the whole 95% interval over seeds, under the tuned L2
    of E1, on all and on the blocks.

    In part if only on the paper's own grid, where L2 is weak. Undecided where an interval
    holds an end of that range.
    """
    found = tuned(evidence, "A1", "A2")
    weak = evidence.of("paper", rule="l2")
    if found is None:
        return absent(evidence, studies.tuned_against_tuned(evidence.known), "E1")
    seeds = complete(evidence, *found.arms.values())
    means = {
        name: np.array(
            [np.mean([rank_shares(evidence.studied[c])[-1] for c in one[s]]) for s in seeds]
        )
        for name, one in found.arms.items()
    }  # by arm, (seeds,)
    intervals = {name: _mean_interval(x) for name, x in means.items()}
    inside = [low >= 0.8 and high <= 1.25 for low, high in intervals.values()]
    outside = [high < 0.8 or low > 1.25 for low, high in intervals.values()]
    ends = [float(rank_shares(run)[-1]) for run in weak.runs]
    there = bool(ends) and 0.8 <= float(np.mean(ends)) <= 1.25
    if all(inside):
        judged = "holds"
    elif any(outside):
        judged = "holds in part" if there else "does not hold"
    else:
        judged = "undecided"

    words = "share of the QK stable rank at the end: " + ", ".join(
        f"tuned {ARMS[name]} {means[name].mean():.2f} ({low:.2f} to {high:.2f})"
        for name, (low, high) in intervals.items()
    )
    if ends:
        words += (
            f"; on the paper's grid {np.mean(ends):.2f} in the mean, {min(ends):.2f} to "
            f"{max(ends):.2f} over {counted(len(ends), 'run')}"
        )
    why = tuned_edges(evidence, found)
    return judged_on(evidence, judged, words, found.arms.values(), "E1", provisional=why)


def _mean_interval(x: np.ndarray) -> tuple[float, float]:
    """The 95% interval of a mean over seeds."""
    return bounds(paired_ratio(x, np.ones_like(x), np.random.default_rng(0)))
