"""Verdicts on what the studies E0 to E10 recorded.

Seeds that tuned never judge. Each function is read from top to bottom: what is wanted and
recorded, when that settles nothing, the rule of the verdict, the words.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from lrdlib._check import check_choice, check_real
from lrdlib.evidence import studies
from lrdlib.evidence.comparing import (
    ALPHA,
    CHANGED,
    COUNTED,
    EIGHT,
    JUDGED,
    LONGER,
    PART_TITLES,
    Arm,
    Count,
    Tuned,
    Versus,
    absent,
    accuracies_reached,
    accuracy_curve,
    alike,
    altered,
    at_edges,
    bounds,
    complete,
    flat,
    instability_text,
    judged_by_counts,
    judged_on,
    long_runs,
    one_ratio,
    p_text,
    parts,
    primary,
    ratio_text,
    recorded_by,
    shared_control_p,
    smallest_fractions,
    so_far,
    sooner,
    staying_curve,
    times,
    tuned,
    tuned_edges,
    turns,
    versus,
    won,
    won_text,
)
from lrdlib.evidence.judging import (
    SEEDS_ENOUGH,
    Evidence,
    Finding,
    finding,
    verdict,
)
from lrdlib.evidence.proportions import binomial_interval, sign_test
from lrdlib.evidence.studies import ARMS, FRACTIONS, SEEDS, STEPS, arm, none
from lrdlib.evidence.survival import CONFIRMED
from lrdlib.evidence.verdicts_grids import UNEQUAL
from lrdlib.training.config import TrainConfig

# ---- E1: tuned against tuned


def less_data(evidence: Evidence) -> Finding:
    """LRD generalises from less data than L2 on all, both tuned (H1).

    Per seed, the smallest of six fractions at which the run generalises. Holds if LRD's is
    smaller in more seeds than it is larger, does not hold the other way round; either only
    if the sign test has p < 5% after Holm. Otherwise undecided.
    """
    found = tuned(evidence)
    if found is None:
        return absent(evidence, studies.tuned_against_tuned(evidence.known), "E1")
    seeds = complete(evidence, *found.arms.values())
    first, counts = {}, {}  # by how many records in a row have to be above
    for k in COUNTED:
        by_arm = {
            n: smallest_fractions(evidence, a, seeds, k) for n, a in found.arms.items()
        }
        lrd, l2 = by_arm["A4"], by_arm["A1"]
        first[k], counts[k] = by_arm, (int((lrd < l2).sum()), int((lrd > l2).sum()))
    p = {k: sign_test(*counts[k]) for k in LONGER} | {CONFIRMED: primary(evidence)["H1"]}
    judged = {k: _more_often(*counts[k], p[k]) for k in counts}
    less, more = counts[CONFIRMED]

    low, high = binomial_interval(less, len(seeds))
    words = (
        f"LRD's smallest fraction is the smaller one in {less} of {len(seeds)} seeds (95% "
        f"interval {low:.0%} to {high:.0%}), the larger one in {more}; adjusted p "
        f"{p_text(p[CONFIRMED])}. Median smallest fraction: "
    )
    words += ", ".join(f"{ARMS[n]} {np.median(x):g}" for n, x in first[CONFIRMED].items())
    words += ". " + _if_longer(
        {k: "smaller in {}, larger in {}".format(*counts[k]) for k in LONGER}
    )
    return _on_the_first_study(evidence, found, judged, words)


def _more_often(less: int, more: int, p: float) -> str:
    """The verdict on "smaller in more seeds than larger", which counts only if p is below
    5%."""
    if p >= ALPHA or less == more:
        return "undecided"
    return "holds" if less > more else "does not hold"


def _if_longer(said: Mapping[int, str]) -> str:
    """What would be said if more records in a row had to be above the threshold."""
    return "If more records in a row have to be above the threshold: " + "; ".join(
        f"for {k}, {words}" for k, words in said.items()
    )


def _on_the_first_study(
    evidence: Evidence, found: Tuned, judged: Mapping[int, str], words: str
) -> Finding:
    """The finding on arms of E1. judged: the verdict, by how many records in a row have to
    be above the threshold."""
    note, why = so_far(found)
    arms = _titled(found.arms)
    return judged_on(
        evidence,
        judged[CONFIRMED],
        f"{words}. {instability_text(evidence, arms)}",
        found.arms.values(),
        "E1",
        note=", ".join(filter(None, [note, turns(judged)])),
        provisional=(why, tuned_edges(evidence, found)),
        curve=staying_curve(evidence, arms),
    )


def faster(factor: float) -> Callable[[Evidence], Finding]:
    """LRD takes fewer than 1 / `factor` of the steps of L2 on all, both tuned (H2): as
    `sooner`, of the RMST over six fractions.

    At factor 1 a difference counts only if the stratified log-rank test has p < 5% after
    Holm.
    """
    check_real("factor", factor, above=0)

    def judge(evidence: Evidence) -> Finding:
        found = tuned(evidence)
        if found is None:
            return absent(evidence, studies.tuned_against_tuned(evidence.known), "E1")
        lrd, l2, blocks = (found.arms[n] for n in ("A4", "A1", "A2"))
        to, to_blocks = (_by_records(evidence, lrd, one) for one in (l2, blocks))
        p = primary(evidence)["H2"] if factor == 1 else None
        judged = {
            k: sooner(one, p if k == CONFIRMED else None, 1 / factor)
            for k, one in to.items()
        }

        words = (
            f"ratio of RMST, LRD to L2 on all: {ratio_text(to[CONFIRMED].ratio)}"
            f"{'' if p is None else f', adjusted p {p_text(p)}'}; to L2 on the blocks: "
            f"{ratio_text(to_blocks[CONFIRMED].ratio)}. Below {1 / factor:g} would be "
            f"{'faster' if factor == 1 else f'{factor:g} times as fast'}. Runs that "
            f"generalise: "
        )
        arms = _titled(found.arms)
        words += ", ".join(won_text(evidence, name, one) for name, one in arms.items())
        longer = {
            k: f"{ratio_text(to[k].ratio)} to L2 on all, {ratio_text(to_blocks[k].ratio)} "
            "to L2 on the blocks"
            for k in LONGER
        }
        words += f"{_at_own_choices(evidence)}. {_if_longer(longer)}"
        words += _tuned_to_stay(evidence)
        return _on_the_first_study(evidence, found, judged, words)

    return judge


def _at_own_choices(evidence: Evidence) -> str:
    """The ratios of RMST at each fraction for which tuning, among the trials that lead over
    both, chooses another setting than the common one for some of the arms, with each arm
    at its own; "" if there is no such, or if it is not recorded on eight seeds."""
    common = {name: studies.choice(name, evidence.known) for name in JUDGED}
    said = ""
    for f in studies.TUNED_AT:
        own = {name: studies.choice(name, evidence.known, f) for name in JUDGED}
        trials = [trial for trial in own.values() if trial is not None]
        if own == common or len(trials) < len(JUDGED):
            continue
        if ratios := _ratios_of(evidence, trials, (f,), CONFIRMED):
            said += f". At f = {f:g}, each arm at what tuning chooses for it there, "
            said += f"on eight seeds: {ratios}"
    return said


def _ratios_of(
    evidence: Evidence,
    trials: Iterable[studies.Trial],
    fractions: Sequence[float],
    records: int,
) -> str:
    """The ratios of RMST of LRD to both arms of L2, in words, at these trials of JUDGED and
    fractions; "" if they are not recorded on eight seeds."""
    arms: dict[str, Arm] = {
        trial.arm: {s: [arm(trial, fraction=f, seed=s) for f in fractions] for s in EIGHT}
        for trial in trials
    }
    if len(complete(evidence, *arms.values())) < len(EIGHT):
        return ""
    return ", ".join(
        f"{ratio_text(found.ratio)} to {ARMS[name]}"
        for name in ("A1", "A2")
        if (found := versus(evidence, arms["A4"], arms[name], records))
    )


def _tuned_to_stay(evidence: Evidence) -> str:
    """The ratios of RMST by as many records as LASTING is tuned for, each arm at that
    setting; "" if it is not recorded on eight seeds."""
    at = studies.TUNED_AT
    ratios = _ratios_of(evidence, studies.LASTING, at, studies.STAYING)
    if not ratios:
        return ""
    where = _listed(at, "f = ")
    return f". Each tuned for {studies.STAYING}, on eight seeds at {where}: {ratios}"


def _titled(arms: Mapping[str, Arm]) -> dict[str, Arm]:
    """The arms by what a card calls them, LRD first."""
    return {"LRD" if n == "A4" else ARMS[n]: arms[n] for n in sorted(arms, reverse=True)}


def no_superiority(evidence: Evidence) -> Finding:
    """LRD has no absolute superiority over L2: holds if there is a fraction at which L2 on
    all is sooner, by the whole 95% interval of the ratio of RMST.

    Does not hold if LRD is, at every fraction; otherwise undecided.
    """
    found = tuned(evidence)
    if found is None:
        return absent(evidence, studies.tuned_against_tuned(evidence.known), "E1")
    judged, said = {}, {}  # by how many records in a row have to be above the threshold
    for k in COUNTED:
        behind, ahead = _by_fraction(evidence, found.arms["A4"], found.arms["A1"], k)
        never = len(ahead) == len(FRACTIONS)
        judged[k] = "holds" if behind else "does not hold" if never else "undecided"
        said[k] = (
            f"L2 on all is sooner at {_listed(behind, 'f = ')}, LRD at "
            f"{_listed(ahead, 'f = ')}"
        )
    words = f"{said[CONFIRMED]}, of {len(FRACTIONS)} fractions{_at_own_choices(evidence)}. "
    words += _if_longer({k: said[k] for k in LONGER}) + _tuned_to_stay(evidence)
    return _on_the_first_study(evidence, found, judged, words)


def _by_records(evidence: Evidence, a: Arm, b: Arm) -> dict[int, Versus]:
    """Arm a against arm b, which have three seeds in common, by how many records in a row
    have to be above the threshold."""
    found = {k: versus(evidence, a, b, k) for k in COUNTED}
    return {k: one for k, one in found.items() if one is not None}


def _by_fraction(
    evidence: Evidence, a: Arm, b: Arm, records: int
) -> tuple[list[float], list[float]]:
    """The fractions at which arm a is later than arm b, by the whole 95% interval of the
    ratio of RMST, and those at which it is sooner."""
    at = {}
    for i, f in enumerate(FRACTIONS):
        here, there = ({s: [one[s][i]] for s in one} for one in (a, b))
        if found := versus(evidence, here, there, records):
            at[f] = bounds(found.ratio)
    return [f for f, (low, _) in at.items() if low > 1], [
        f for f, (_, high) in at.items() if high < 1
    ]


def _listed(numbers: Sequence[float], before: str = "") -> str:
    return before + ", ".join(f"{x:g}" for x in numbers) if numbers else "none"


# ---- E0: the first code's own setting


def code_arms(rule: str) -> dict[float, Arm]:
    """E0's arms of a rule, a cell for each fraction, by the lambda at which the diagram
    shows them: a tenth of L2's own."""
    arms: dict[float, dict[int, list[TrainConfig]]] = {}
    for c in studies.the_first_code({}):
        if c.rule == rule:
            drawn = float(f"{c.weight_decay / (10 if rule == 'l2' else 1):.6g}")
            arms.setdefault(drawn, {}).setdefault(c.seed, []).append(c)
    return {drawn: dict(arm) for drawn, arm in arms.items()}


def faster_there(factor: float) -> Callable[[Evidence], Finding]:
    """At the first code's setting LRD takes fewer than 1 / `factor` of the steps of the L2
    that is drawn at its height.

    Judged over the fractions of half the data and more, at each lambda at which LRD
    generalises in most runs, by the 95% interval of the ratio of RMST. Holds if it is below
    1 / factor at every such lambda, in part if at one. Does not hold if it is above at each
    of them and L2 generalises in most runs too. Otherwise undecided: where L2 never
    generalises, 2500 steps cannot tell how much later it would.
    """
    check_real("factor", factor, above=0)

    def judge(evidence: Evidence) -> Finding:
        lrd, l2 = (
            {
                drawn: {s: [c for c in cs if c.fraction >= 0.5] for s, cs in one.items()}
                for drawn, one in code_arms(rule).items()
            }
            for rule in ("lrd", "l2")
        )
        below, above, words = [], [], []
        settled: list[float] = []  # where both generalise, and the ratio is too large
        for drawn in lrd:
            found = versus(evidence, lrd[drawn], l2[drawn])
            wins, of = won(evidence, flat(lrd[drawn]))
            others, _ = won(evidence, flat(l2[drawn]))
            if found is None or 2 * wins <= of:
                continue
            low, high = bounds(found.ratio)
            below.append(high < 1 / factor)
            above.append(low > 1 / factor and 2 * others > of)
            settled += [drawn] if above[-1] else []
            words.append(
                f"λ = {drawn:g}: LRD {wins} of {of}, L2 {others} of {of}, ratio of RMST "
                f"{ratio_text(found.ratio)}"
            )
        every = [c for arms in (lrd, l2) for one in arms.values() for c in flat(one)]
        if not words:
            return absent(evidence, every, "E0")
        if any(below):
            judged = verdict(holds=all(below), in_part=True)
        else:
            judged = "does not hold" if all(above) else "undecided"
        text = "; ".join(words) + (
            ". A run that never generalises counts as 2500 steps: where L2 fails, the true "
            "ratio may be smaller"
        )
        if len(complete(evidence, *lrd.values())) < len(EIGHT):
            text += (
                ". Intervals of three seeds are too narrow: of 95% they hold the truth in "
                "about three of four cases"
            )
        if judged == "undecided" and settled:
            text += (
                f". At λ = {_listed(settled)} most L2 runs generalise, and the ratio is not "
                "that small"
            )
        used = [evidence.those(every)]
        return finding(judged, text, used, recorded_by("E0"), note=UNEQUAL)

    return judge


# ---- E2: the mechanism


def mechanism(evidence: Evidence) -> Finding:
    """The tangential part of LRD's step is what acts, not the radial one (H3): as `sooner`,
    of the tangential part alone against the radial part alone, each at the strength that
    tuning chose (the smallest, where no tuning run generalises), with Holm."""
    names = ("T", "R", "R+T", "T-held", "R+T-held")
    arms = parts(evidence, *names)
    found = versus(evidence, arms["T"], arms["R"]) if arms else None
    if arms is None or found is None:
        return absent(evidence, studies.parts_of_the_step(evidence.known), "E2")
    p = primary(evidence)["H3"]
    judged = sooner(found, p)

    best = accuracies_reached(evidence, arms["T"])
    tuned_of = {
        n: won(evidence, studies.runs_in(studies.part_trials(n)))
        for n in names
        if not evidence.choices[f"E2 {n}"].any_generalises
    }
    words = (
        "runs that generalise: "
        + ", ".join(won_text(evidence, PART_TITLES[n], arms[n]) for n in names)
        + "".join(
            f"; of the tuning runs of {PART_TITLES[n]}, at all strengths, {wins} of {of}"
            f"{_again(evidence, n)}"
            for n, (wins, of) in tuned_of.items()
        )
        + f". Ratio of RMST, tangential to radial: {ratio_text(found.ratio)}, adjusted p "
        f"{p_text(p)} (of runs; of {found.seeds} seeds no p can be below "
        f"{2 / 2**found.seeds:.2g}). The tangential part alone does reach an accuracy of "
        f"{min(best):.2f} to {max(best):.2f}"
    )
    why = at_edges(evidence, [f"E2 {n}" for n in names])
    curve = accuracy_curve(evidence, {PART_TITLES[n]: arms[n] for n in ("T", "R", "R+T")})
    return judged_on(
        evidence, judged, words, arms.values(), "E2", curve=curve, provisional=why
    )


def _again(evidence: Evidence, name: str) -> str:
    """How many runs of a part generalise at the strength at which its tuning runs came
    furthest, in words; "" without any."""
    wins, of = won(
        evidence,
        [
            studies.part(name, studies.AGAIN, fraction=f, seed=seed)
            for f, seed in product(studies.PART_AT, EIGHT)
        ],
    )
    return f", at {studies.AGAIN:g} on judging seeds {wins} of {of}" if of else ""


def tangential_adds(evidence: Evidence) -> Finding:
    """The tangential part makes the step better: as `sooner`, of LRD's whole step against
    its radial part alone, each at its own best strength."""
    arms = parts(evidence, "R+T", "R")
    found = versus(evidence, arms["R+T"], arms["R"]) if arms else None
    if arms is None or found is None:
        return absent(evidence, studies.parts_of_the_step(evidence.known), "E2")
    words = one_ratio(evidence, found, {PART_TITLES[n]: one for n, one in arms.items()})
    why = at_edges(evidence, [f"E2 {n}" for n in arms])
    return judged_on(evidence, sooner(found), words, arms.values(), "E2", provisional=why)


def sooner_on_the_blocks(evidence: Evidence) -> Finding:
    """LRD's whole step takes fewer steps than L2 on the same matrices, at one learning
    rate, each at its own best strength: fraction by fraction, by the 95% interval of the
    ratio of RMST.

    Holds if it is below 1 at every fraction, in part if at one. Does not hold if it is at
    none, and above 1 at one; otherwise undecided. The intervals are not corrected for there
    being several.
    """
    arms = parts(evidence, "R+T", "L2b")
    if arms is None or len(complete(evidence, *arms.values())) < SEEDS_ENOUGH:
        return absent(evidence, studies.parts_of_the_step(evidence.known), "E2")
    below, above, words = [], [], []
    for i, config in enumerate(arms["R+T"][EIGHT[0]]):
        lrd, l2 = ({s: [a[s][i]] for s in a} for a in arms.values())
        found = versus(evidence, lrd, l2)
        assert found is not None  # three seeds are complete
        low, high = bounds(found.ratio)
        below.append(high < 1)
        above.append(low > 1)
        words.append(
            f"f = {config.fraction:g}: {ratio_text(found.ratio)}, generalise "
            f"{won_text(evidence, 'LRD', lrd)}, {won_text(evidence, 'L2', l2)}"
        )
    if any(below):
        judged = verdict(holds=all(below), in_part=True)
    else:
        judged = "does not hold" if any(above) else "undecided"
    at = [c.fraction for c in arms["R+T"][EIGHT[0]]]
    ahead, behind = ([f for f, x in zip(at, xs, strict=True) if x] for xs in (below, above))
    text = (
        f"LRD is ahead at {_listed(ahead, 'f = ')}, L2 at {_listed(behind, 'f = ')}, of "
        f"{len(at)} fractions; ratio of RMST, whole step to L2 on the blocks, at "
        f"{'; '.join(words)}"
    )
    why = at_edges(evidence, [f"E2 {n}" for n in arms])
    return judged_on(evidence, judged, text, arms.values(), "E2", provisional=why)


# ---- E3 and E6: queries and keys


def low_rank_needed(name: str) -> Callable[[Evidence], Finding]:
    """Decay works through a low rank of queries and keys (H4), under arm A4, LRD, or A1,
    L2: so it fails where these stay frozen at their start, or are kept flat, at the highest
    rank there is.

    Holds if both changed networks generalise in less than half of the seeds; does not hold
    if both do in half of them or more; in part otherwise. Uniform attention, with no
    queries and keys at all, is the control. The plan's p of H4 is of both arms together;
    beside it stands that of this arm alone, not corrected.
    """
    check_choice("name", name, ("A1", "A4"))

    def judge(evidence: Evidence) -> Finding:
        arms = altered(evidence, name)
        every = studies.queries_and_keys(evidence.known)
        if arms is None or len(complete(evidence, *arms.values())) < SEEDS_ENOUGH:
            return absent(evidence, every, "E3")
        counts = [won(evidence, flat(arms[words])) for words in CHANGED]
        judged, note = judged_by_counts(_low_rank, counts)

        wins, of = won(evidence, [c for c in every if c.rule == "none"])
        slower = {w: versus(evidence, arms[w], arms["learned"]) for w in CHANGED}
        changed = [arms[w] for w in CHANGED]
        p = shared_control_p(evidence, [(changed, arms["learned"])])
        text = (
            f"under {ARMS[name]}: "
            + ", ".join(won_text(evidence, w, one) for w, one in arms.items())
            + f"; without decay {wins} of {of}. Ratio of RMST to learned, above 1 if the "
            "change makes it later: "
            + ", ".join(f"{w} {ratio_text(one.ratio)}" for w, one in slower.items() if one)
            + f"; p {p_text(p)} of both here, not corrected; H4, over LRD and L2 together, "
            f"adjusted p {p_text(primary(evidence)['H4'])}"
        )
        why = at_edges(evidence, [f"E1 first {name}"])
        return judged_on(
            evidence, judged, text, arms.values(), "E3", note=note, provisional=why
        )

    return judge


def _low_rank(counts: Sequence[Count]) -> str:
    """The verdict of `low_rank_needed` on the runs that generalise with CHANGED."""
    still = [2 * wins >= of for wins, of in counts]
    return "does not hold" if all(still) else "holds in part" if any(still) else "holds"


def queries_and_keys_alone(evidence: Evidence) -> Finding:
    """LRD on queries and keys alone makes the network generalise: holds if it does so in
    most runs at the first code's setting (half of the data and more, lambda of 5e-3 and
    more) and at the base setting (E6, f = 0.4); in part if at one of the two."""
    there = [
        c
        for drawn, one in code_arms("lrd").items()
        for c in flat(one)
        if drawn >= 5e-3 and c.fraction >= 0.5
    ]
    e6 = studies.where_it_must_act({})

    def placed(rule: str, place: str) -> list[TrainConfig]:
        return [c for c in e6 if (c.rule, c.select) == (rule, place)]

    here = placed("lrd", "qk")
    parts_ = [evidence.those(there), evidence.those(here)]
    if (
        min(len({c.seed for c in some if c in evidence.known}) for some in (there, here))
        < 3
    ):
        return finding(
            "not recorded yet",
            "runs of E0 and of E6 are wanted",
            parts_,
            recorded_by("E0", "E6"),
        )
    counts = [won(evidence, some) for some in (there, here)]
    judged, note = judged_by_counts(_in_most, counts)

    words = (
        f"at the first code's setting {counts[0][0]} of {counts[0][1]} generalise, with L2 "
        f"0.1 on the rest; at the base setting {counts[1][0]} of {counts[1][1]}. There, of "
        "decay on one kind of matrix alone: "
    )
    kinds = {"qk": "queries and keys", "vo": "values and outputs", "mlp": "the MLP"}
    words += "; ".join(
        f"{name} "
        + ", ".join(
            "{}: {} of {}".format(rule, *won(evidence, placed(rule.lower(), place)))
            for rule in ("L2", "LRD")
        )
        for place, name in kinds.items()
    )
    return finding(judged, words, parts_, recorded_by("E0", "E6"), note=note)


def _in_most(counts: Sequence[Count]) -> str:
    """The verdict of `queries_and_keys_alone`."""
    most = [2 * wins > of for wins, of in counts]
    return verdict(holds=all(most), in_part=any(most))


# ---- E5: after memorisation


def late(evidence: Evidence, name: str, gradient: float, **fields: Any) -> Arm | None:
    """E5: an arm's decay from 500 steps after memorising, the optimiser's step times
    `gradient` from then on; None until the arm is chosen."""
    shared = {"fraction": 0.4, "decay_after": 500, "late_gradient": gradient} | fields
    if name == "none":
        return {s: [none(seed=s, **shared)] for s in SEEDS[:6]}
    trial = studies.choice(name, evidence.known)
    if trial is None:
        return None
    return {s: [arm(trial, seed=s, **shared)] for s in SEEDS[:6]}


def stalls(evidence: Evidence) -> Finding:
    """Once a network has memorised, L2 leaves it there and LRD does not (section 6.3): decay
    begins 500 steps after memorising.

    Two halves: L2 on all generalises in less than half of the seeds; LRD in more than half.
    Holds if both are so, in part if one is, does not hold if neither.
    """
    arms = {n: late(evidence, n, 1.0) for n in ("none", "A1", "A2", "A4", "A5")}
    there = {n: one for n, one in arms.items() if one is not None}
    wanted = studies.after_memorisation(evidence.known)
    enough = all(
        n in there and len(complete(evidence, there[n])) >= SEEDS_ENOUGH
        for n in ("none", "A1", "A4")
    )
    if not enough:
        return absent(evidence, wanted, "E5")
    counts = [won(evidence, flat(there[n])) for n in ("A1", "A4")]
    words = "generalise: " + ", ".join(
        won_text(evidence, ARMS.get(n, "no decay"), one) for n, one in there.items()
    )
    judged, note = judged_by_counts(_stuck_and_free, counts)
    why = at_edges(evidence, [f"E1 {n}" for n in there])
    return judged_on(
        evidence, judged, words, there.values(), "E5", note=note, provisional=why
    )


def _stuck_and_free(counts: Sequence[Count]) -> str:
    """The verdict of `stalls` on the runs of L2 and of LRD that generalise."""
    (l2, of_l2), (lrd, of_lrd) = counts
    halves = [2 * l2 < of_l2, 2 * lrd > of_lrd]
    return verdict(holds=all(halves), in_part=any(halves))


def without_gradient(evidence: Evidence) -> Finding:
    """Without any gradient, LRD alone drives a network that has memorised to a solution that
    generalises (section 6.3): holds if it does in more than half of the seeds, on the blocks
    or on queries and keys; does not hold if no run does; otherwise undecided."""
    arms = {
        "on the blocks": late(evidence, "A4", 0.0),
        "on queries and keys": late(evidence, "A4", 0.0, select="qk"),
    }
    there = {n: one for n, one in arms.items() if one is not None}
    if len(there) < 2 or any(
        len(complete(evidence, one)) < SEEDS_ENOUGH for one in there.values()
    ):
        return absent(evidence, studies.after_memorisation(evidence.known), "E5")
    counts = [won(evidence, flat(one)) for one in there.values()]
    if any(2 * wins > of for wins, of in counts):
        judged = "holds"
    else:
        judged = "undecided" if any(wins for wins, _ in counts) else "does not hold"
    words = "LRD without gradient, generalise: " + ", ".join(
        won_text(evidence, n, one) for n, one in there.items()
    )
    curve, why = accuracy_curve(evidence, there), at_edges(evidence, ["E1 A4"])
    return judged_on(
        evidence, judged, words, there.values(), "E5", curve=curve, provisional=why
    )


# ---- E4: weak L2 for longer


def trapped(evidence: Evidence) -> Finding:
    """Under weak L2 the network remains trapped in what it has memorised (H5): of the runs
    that have not generalised by step 3000, none does by step 30,000.

    Holds if none does, does not hold if at least half do, in part otherwise.
    """
    weak, bare = long_runs()
    seeds = complete(evidence, weak)
    if len(seeds) < SEEDS_ENOUGH:
        return absent(evidence, flat(weak) + flat(bare), "E4")
    T = times(evidence, weak, seeds)
    still = T > STEPS
    if not still.any():
        words = f"every run of weak L2 generalises by step {STEPS}"
        return judged_on(evidence, "does not hold", words, [weak], "E4")
    freed = float(np.isfinite(T[still]).mean())
    judged = "holds" if freed == 0 else "does not hold" if freed >= 0.5 else "holds in part"
    p = primary(evidence)["H5"]
    words = (
        f"of {still.sum()} runs that have not generalised by step {STEPS}, "
        f"{np.isfinite(T[still]).sum()} do by step {weak[seeds[0]][0].steps}: "
    )
    cells = [(c.fraction, c.weight_decay) for c in weak[seeds[0]]]
    words += ", ".join(
        f"f = {f:g}, λ = {w:g}: {int(np.isfinite(T[:, i]).sum())} of {len(seeds)}"
        for i, (f, w) in enumerate(cells)
        if np.isfinite(T[:, i]).any()
    )
    words += f"; {won_text(evidence, 'no decay', bare)}; adjusted p {p_text(p)}"
    return judged_on(evidence, judged, words, (weak, bare), "E4")


# ---- E8 to E10: elsewhere


def other_tasks(evidence: Evidence) -> Finding:
    """LRD is ahead on other tasks of modular arithmetic too, multiplication and subtraction:
    as `sooner`, LRD against L2 on all, each tuned on each task."""
    arms: dict[str, dict[int, list[TrainConfig]]] = {}
    for name in ("A1", "A4"):
        for task in studies.OTHER_TASKS:
            trial = studies.best(studies.task_trials(task, name), evidence.known)
            if trial is None:
                return absent(evidence, studies.elsewhere(evidence.known), "E8")
            for s in SEEDS[:3]:
                config = arm(trial, task=task, fraction=0.4, seed=s)
                arms.setdefault(name, {}).setdefault(s, []).append(config)
    found = versus(evidence, arms["A4"], arms["A1"])
    if found is None:
        return absent(evidence, studies.elsewhere(evidence.known), "E8")
    over = f", over {' and '.join(studies.OTHER_TASKS)}"
    pair = {"LRD": arms["A4"], "L2 on all": arms["A1"]}
    words = one_ratio(evidence, found, pair, over)
    why = (
        at_edges(evidence, [f"E8 {t} {n}" for t in studies.OTHER_TASKS for n in arms]),
        "intervals of three seeds are too narrow",
    )
    return judged_on(evidence, sooner(found), words, arms.values(), "E8", provisional=why)


def other_optimisers(evidence: Evidence) -> Finding:
    """LRD works beside other optimisers too, SGD with momentum and Muon: holds if with each
    more than half of LRD's seeds generalise, and more than without decay; in part if with
    one of them."""
    every = studies.other_optimisers(evidence.known)
    works: list[bool] = []
    words: list[str] = []
    used: list[Arm] = []
    keys: list[str] = []
    for optimizer in studies.OPTIMISERS:
        arms: dict[str, dict[int, list[TrainConfig]]] = {"none": {}, "A1": {}, "A4": {}}
        for c in every:
            if c.optimizer == optimizer and c.seed in SEEDS:
                name = {"none": "none", "l2": "A1", "lrd": "A4"}[c.rule]
                arms[name].setdefault(c.seed, []).append(c)
        if len(complete(evidence, *arms.values())) < SEEDS_ENOUGH:
            return absent(evidence, every, "E9")
        counts = {name: won(evidence, flat(one)) for name, one in arms.items()}
        wins, of = counts["A4"]
        works.append(2 * wins > of and wins > counts["none"][0])
        words.append(
            f"{optimizer}: "
            + ", ".join(
                won_text(evidence, ARMS.get(n, "no decay"), one) for n, one in arms.items()
            )
        )
        used += arms.values()
        keys += [f"E9 {optimizer} {name}" for name in arms]
    judged = verdict(holds=all(works), in_part=any(works))
    why = at_edges(evidence, keys)
    return judged_on(evidence, judged, "; ".join(words), used, "E9", provisional=why)


def whole_matrices(evidence: Evidence) -> Finding:
    """LRD on whole query and key matrices does what LRD on each head does, for which QK-Norm
    makes them scale-invariant: holds if the ratio of RMST says that there is no difference
    (its 90% interval inside 0.8 to 1.25).

    Does not hold if its 95% interval lies outside that range, otherwise undecided.
    """
    heads, whole = (
        {
            s: [
                studies.part("R+T", 2e-2, fraction=f, seed=s, **fields)
                for f in (0.3, 0.4, 0.5)
            ]
            for s in EIGHT
        }
        for fields in ({"per_head": True}, {})
    )
    found = versus(evidence, heads, whole)
    if found is None:
        return absent(evidence, studies.heads_by_themselves(evidence.known), "E10")
    low, high = bounds(found.ratio)
    if alike(found):
        judged = "holds"
    else:
        judged = "does not hold" if high < 0.8 or low > 1.25 else "undecided"
    pair = {"heads": heads, "whole matrices": whole}
    words = one_ratio(evidence, found, pair)
    return judged_on(evidence, judged, words, pair.values(), "E10", "E2")
