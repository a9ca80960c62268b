"""Verdicts on the paper's own grids: Figure 1, and the numbers of section 6.2.

Each function reads Evidence and gives a Finding. It is read from top to bottom: what is
wanted and recorded, when that settles nothing, the rule of the verdict, the words.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np

from lrdlib._check import check_choice
from lrdlib.decay import MODES
from lrdlib.evidence.judging import (
    CLEAN,
    TEST,
    Curve,
    Evidence,
    Finding,
    Part,
    Rules,
    best_frontier,
    by_strength,
    cells_that_succeed,
    counted,
    covered,
    decay_times,
    finding,
    frontier_text,
    paired,
    recorded_text,
    remade_by,
    strengths_text,
    succeeds,
    successes,
    verdict,
)
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import NAMES, Run

PRESETS = ("paper", "published", "fair")
# what two runs of L2 share whose strengths are compared
SETTING = ("task", "p", "lr", "betas", "steps", "qk_norm")
UNEQUAL = "in unequal units"  # LRD's strength is not times the learning rate, L2's is


# ---- the phase diagram


def wider(preset: str, mode: str) -> Callable[[Evidence], Finding]:
    """LRD succeeds in more cells than L2 and from a smaller fraction on, over one grid.

    Only runs count whose counterpart of the other rule is recorded too. Holds if both do;
    in part if one does. Not recorded yet while less than half of the cells have such a pair;
    undecided while missing ones could still decide which frontier is lower.
    """
    check_choice("preset", preset, PRESETS)
    check_choice("mode", mode, MODES)

    def judge(evidence: Evidence) -> Finding:
        every = {
            "LRD": evidence.of(preset, rule="lrd", mode=mode),
            "L2": evidence.of(preset, rule="l2"),
        }
        command = remade_by(preset, f"rule=lrd mode={mode}", "rule=l2")
        rules = paired(every)
        if not all(covered(part) for part in rules.values()):
            return finding(
                "not recorded yet", recorded_text(every), every.values(), command
            )

        cells = {name: cells_that_succeed(part) for name, part in rules.items()}
        start = {name: best_frontier(part) for name, part in rules.items()}
        more = cells["LRD"][0] > cells["L2"][0]
        lower = start["LRD"].high < start["L2"].low
        found = verdict(holds=more and lower, in_part=more or lower)
        if not lower and start["LRD"].low < start["L2"].high:  # it could still be
            found = "undecided"

        words = ", and ".join(
            f"{name} succeeds in {won} of {of} cells, "
            f"{frontier_text(start[name], rules[name].wanted)}"
            for name, (won, of) in cells.items()
        )
        words += f". {decay_text(evidence, every)}"
        note = UNEQUAL if mode == "independent" else ""
        return finding(found, words, rules.values(), command, note=note)

    return judge


def decay_text(evidence: Evidence, rules: Rules) -> str:
    """What the strongest decay of either rule adds up to over a run, which makes one grid
    two very different ones; and, if there is any, the least with which L2 succeeds in the
    fair grid at the same setting."""
    l2, lrd = (max(rules[name].wanted, key=decay_times) for name in ("L2", "LRD"))
    tuned = evidence.of("fair", rule="l2", **{name: getattr(l2, name) for name in SETTING})
    enough = [decay_times(TrainConfig(**run.config)) for run in tuned.runs if succeeds(run)]
    fewest = (
        f" (the fewest with which it succeeds in the fair grid: {min(enough):.3g})"
        if enough
        else ""
    )
    if lrd.mode == "decoupled":
        units = "Both strengths are multiplied by the learning rate"
    else:
        units = "LRD's strength is not multiplied by the learning rate; L2's is"
    amount = f"{decay_times(lrd):.3g}" + (
        " in all off each singular value, an amount" if lrd.scale is None else ""
    )
    return (
        f"{units}: over {l2.steps} steps L2 has at most {decay_times(l2):.3g} decay "
        f"times{fewest}, LRD {amount}"
    )


def upper_right(preset: str) -> Callable[[Evidence], Finding]:
    """L2 succeeds only at large fractions with strong decay: holds if it succeeds there and
    nowhere else.

    There: f >= 0.6 and lambda >= 5e-3 as the diagram shows it, the upper three strengths.
    In part if it succeeds elsewhere too; does not hold if nowhere there.
    """
    check_choice("preset", preset, PRESETS)

    def judge(evidence: Evidence) -> Finding:
        part = evidence.of(preset, rule="l2")
        strong = sorted({c.weight_decay for c in part.wanted})[-3:]
        corner = [c for c in part.wanted if c.fraction >= 0.6 and c.weight_decay in strong]
        there = Part(corner, [evidence.runs[c] for c in corner if c in evidence.runs])
        command = remade_by(preset, "rule=l2")
        if not (covered(part) and covered(there)):
            words = recorded_text({"L2": part})
            return finding("not recorded yet", words, [part], command)

        inside = successes(there.runs)
        outside = successes(part.runs) - inside
        found = verdict(holds=inside > 0 and outside == 0, in_part=inside > 0)

        best = max(float(np.nanmax(run.history[CLEAN])) for run in part.runs)
        words = (
            f"{'L2 succeeds in' if inside + outside else 'no L2 run succeeds:'} {inside} of "
            f"{counted(len(there.runs), 'run')} there (f of "
            f"{min(c.fraction for c in corner):g} and more, L2's own lambda of "
            f"{min(strong):g} and more), {outside} of "
            f"{len(part.runs) - len(there.runs)} elsewhere{strengths_text(part.runs)}; the "
            f"best accuracy on orbit-clean pairs is {best:.0%}"
        )
        return finding(found, words, [part], command)

    return judge


def sweet_spot(evidence: Evidence) -> Finding:
    """LRD is ahead of L2 at f = 0.4 to 0.6 and lambda = 5e-4 to 5e-3: holds if most of its
    runs there succeed, and more than L2's.

    In part if more than L2's do. Only runs count whose counterpart of the other rule is
    recorded too; not recorded yet until every cell has such a pair.
    """
    fractions, strengths = [0.4, 0.45, 0.5, 0.55, 0.6], [5e-4, 1e-3, 5e-3]
    box = {"fraction": fractions, "weight_decay": strengths, "mode": "independent"}
    every = {NAMES[rule]: evidence.of("paper", rule=rule, **box) for rule in ("lrd", "l2")}
    command = remade_by(
        "paper",
        "rule=lrd,l2 mode=independent fraction=0.4,0.45,0.5,0.55,0.6 "
        "weight_decay=0.0005,0.001,0.005",
    )
    rules = paired(every)
    if not all(covered(part, share=1) for part in rules.values()):
        return finding("not recorded yet", recorded_text(every), every.values(), command)

    share = {name: successes(part.runs) / len(part.runs) for name, part in rules.items()}
    ahead = share["LRD"] > share["L2"]
    found = verdict(holds=ahead and share["LRD"] > 0.5, in_part=ahead)

    words = ", and ".join(
        f"{name} succeeds in {successes(part.runs)} of {counted(len(part.runs), 'run')}"
        f"{strengths_text(part.runs)}"
        for name, part in rules.items()
    )
    return finding(found, words, rules.values(), command, note=UNEQUAL)


def as_written(evidence: Evidence) -> Finding:
    """LRD with lambda as the paper writes it, times the learning rate: judged where decay
    has most to work with, at the paper's strongest lambda and largest fraction.

    Holds if most seeds succeed, and more than L2's there; does not hold if no seed does;
    otherwise undecided. Not recorded yet while fewer than three seeds are.
    """
    easiest = {"fraction": 0.8, "weight_decay": 5e-2}
    lrd = evidence.of("paper", rule="lrd", mode="decoupled", **easiest)
    l2 = evidence.of("paper", rule="l2", **easiest)
    command = remade_by("paper", "rule=lrd mode=decoupled fraction=0.8 weight_decay=0.05")
    ahead = evidence.of("paper", rule="lrd", mode="independent", weight_decay=1e-4)
    words = (
        f"over {lrd.wanted[0].steps} steps the strongest lambda of the paper has "
        f"{decay_times(lrd.wanted[0]):.3g} decay times. With lambda as the code has it "
        f"the weakest has {decay_times(ahead.wanted[0]):.3g}, and succeeds in "
        f"{successes(ahead.runs)} of {counted(len(ahead.runs), 'run')}"
    )
    if len(lrd.runs) < 3:
        return finding("not recorded yet", words, [lrd], command)

    won, others = successes(lrd.runs), successes(l2.runs)
    share, other = won / len(lrd.runs), others / max(len(l2.runs), 1)
    if share > 0.5 and share > other:
        found = "holds"
    else:
        found = "does not hold" if won == 0 else "undecided"

    best = max(float(np.nanmax(run.history[TEST])) for run in lrd.runs)
    words = (
        f"at lambda 0.05 and f = 0.8 LRD succeeds in {won} of "
        f"{counted(len(lrd.runs), 'run')}, L2 in {others} of {len(l2.runs)}; LRD's best test "
        f"accuracy is {best:.0%}. Why: {words}"
    )
    return finding(found, words, [lrd], command)


# ---- the rank


def collapse(evidence: Evidence) -> Finding:
    """LRD brings the QK rank to near one by step 500: holds if the median stable rank there
    is below 2.

    In part if it is at some strength. At the first code's setting and, while less than half
    of its cells are recorded, at the paper's; lambda of 5e-3 (the first code's choice) and
    more.
    """
    strong = {"rule": "lrd", "mode": "independent", "weight_decay": [5e-3, 1e-2, 5e-2]}
    preset, place = "published", "the first code's"
    if not covered(evidence.of(preset, **strong)):
        preset, place = "paper", "the paper's"
    part = evidence.of(preset, **strong)
    command = remade_by(preset, "rule=lrd mode=independent weight_decay=0.005,0.01,0.05")
    if not covered(part):
        words = "too few runs of either grid are recorded"
        return finding("not recorded yet", words, [part], command)

    early = [rank_at(run, 500) for run in part.runs]
    medians = [
        float(np.median([rank_at(run, 500) for run in group]))
        for group in by_strength(part.runs).values()
    ]
    median = float(np.median(early))
    found = verdict(holds=median < 2, in_part=any(one < 2 for one in medians))

    start = float(np.median([run.history["qk_stable_rank"][0] for run in part.runs]))
    words = (
        f"on {place} grid, lambda of {min(c.weight_decay for c in part.wanted):g} and more: "
        f"QK stable rank at step 500 of {median:.1f} in the median, from {start:.0f} at the "
        f"start; {min(early):.1f} to {max(early):.1f} over runs, below 2 in "
        f"{sum(rank < 2 for rank in early)} of {len(early)}"
    )
    at = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
    lines = {
        f"λ = {strength:g}": tuple(
            float(np.mean([rank_at(run, 500) < limit for run in group])) for limit in at
        )
        for strength, group in by_strength(part.runs).items()
    }
    curve = Curve("QK stable rank at step 500 below", at, lines, 2.0)
    return finding(found, words, [part], command, curve=curve)


def rank_at(run: Run, step: int) -> float:
    """The mean stable rank of the query and key matrices at the record nearest a step."""
    nearest = int(np.abs(run.history["step"] - step).argmin())
    return float(run.history["qk_stable_rank"][nearest])


# ---- the numbers of section 6.2, at f = 0.4

Shows = Callable[[Run, Run, float], bool]  # LRD, L2 beside it, the threshold
SETTINGS = {"published": "The first code's setting", "paper": "The paper's grid"}


def beside(evidence: Evidence, preset: str) -> dict[float, list[tuple[Run, Run]]]:
    """By LRD's lambda, the pairs of an LRD and an L2 run at f = 0.4, a pair for each seed:
    the L2 run is the one at the same height of the diagram."""
    every: Rules = {
        "LRD": evidence.of(preset, rule="lrd", mode="independent", fraction=0.4),
        "L2": evidence.of(preset, rule="l2", fraction=0.4),
    }
    lrd, l2 = (  # strength -> its runs, by seed
        {
            strength: sorted(runs, key=lambda run: run.config["seed"])
            for strength, runs in by_strength(part.runs).items()
        }
        for part in paired(every).values()
    )
    return {
        strength: list(zip(runs, others, strict=True))
        for (strength, runs), others in zip(lrd.items(), l2.values(), strict=True)
    }


def section_6_2(
    shows: Shows,
    presets: Sequence[str],
    of: str,
    at: tuple[float, ...],
    used: float,
    seen: Callable[[Run, Run], float],
    unit: str,
    lacking: str = "",
    other: tuple[str, Callable[[Run, Run], bool]] | None = None,
) -> Callable[[Evidence], Finding]:
    """A statement of section 6.2, which names no lambda: so it is true of a setting if it
    is true of more than half of the seeds at *some* lambda.

    Holds if it is true at every one of the settings, in part if at one. The words say of
    how many seeds it is true at each lambda. shows(lrd, l2, threshold): whether it is true
    of a pair; at, used: thresholds of the curve, and the one of the verdict; seen: what is
    said of a pair, with its unit. lacking: a setting that is not recorded as this needs, ""
    if there is none; then what is not so is undecided. other: another statement of the same
    figure, in words, and whether it is true of a pair: the words say at which lambda both
    are true.
    """

    def judge(evidence: Evidence) -> Finding:
        pairs = {preset: beside(evidence, preset) for preset in presets}
        command = " && ".join(
            remade_by(preset, "rule=lrd,l2 mode=independent fraction=0.4")
            for preset in presets
        )
        parts = [
            evidence.of(preset, rule=rule, mode="independent", fraction=0.4)
            for preset in presets
            for rule in ("lrd", "l2")
        ]
        if not all(pairs.values()):
            why = "runs of both rules at f = 0.4 are wanted"
            return finding("not recorded yet", why, parts, command)

        def shares(preset: str, limit: float) -> dict[float, float]:
            """By lambda, of which share of the seeds it is true."""
            return {
                strength: float(np.mean([shows(*pair, limit) for pair in some]))
                for strength, some in pairs[preset].items()
            }

        true = {p: max(shares(p, used).values()) > 0.5 for p in presets}
        found = verdict(holds=all(true.values()), in_part=any(true.values()))
        if lacking and found == "does not hold":
            found = "undecided"
        places, words = [], []
        for preset, here in pairs.items():
            true_of = {s: [shows(*pair, used) for pair in some] for s, some in here.items()}
            places.append(f"at {_most(true_of)} ({SETTINGS[preset].lower()})")
            text = f"{SETTINGS[preset]}: "
            if other is not None:
                both = {
                    s: [shows(*pair, used) and other[1](*pair) for pair in some]
                    for s, some in here.items()
                }
                text += f"true together with {other[0]} at {_most(both)}; "
            numbers = {s: [seen(*pair) for pair in some] for s, some in here.items()}
            each = "; ".join(
                f"λ = {s:g}: {sum(some)} of {len(some)} "
                f"({min(numbers[s]):.3g} to {max(numbers[s]):.3g})"
                for s, some in true_of.items()
            )
            words.append(f"{text}of how many seeds it is true, and {unit}: {each}")
        lines = {
            SETTINGS[preset]: tuple(max(shares(preset, x).values()) for x in at)
            for preset in presets
        }
        curve = Curve(of, at, lines, used)
        text = ". ".join([f"true {' and '.join(places)}", *words])
        return finding(found, text, parts, command, provisional=lacking, curve=curve)

    return judge


def _most(flags: Mapping[float, Sequence[bool]]) -> str:
    """At which lambdas something is true of more than half of the seeds, in words."""
    there = [f"λ = {s:g}" for s, some in flags.items() if 2 * sum(some) > len(some)]
    return ", ".join(there) or "no λ"


def within(value: float, of: float, factor: float) -> bool:
    """Whether a value is that of the paper, up to a factor.

    >>> within(2.5, of=3, factor=1.5), within(5.0, of=3, factor=1.5)
    (True, False)
    """
    return of / factor <= value <= of * factor


def passes(lrd: Run, l2: Run, above: float = 0.95) -> bool:
    """Whether LRD's test accuracy passes a value, and L2's stays below one half."""
    return bool(np.nanmax(lrd.history[TEST]) > above and np.nanmax(l2.history[TEST]) < 0.5)


def falls(lrd: Run, l2: Run, factor: float = 1.5) -> bool:
    """Whether LRD's rank is 35 at the start and 3 at step 500, up to a factor."""
    return within(rank_at(lrd, 0), 35, factor) and within(rank_at(lrd, 500), 3, factor)


FACTORS = (1.1, 1.25, 1.5, 2.0, 3.0)
speed_6_2 = section_6_2(
    passes,
    ("published", "paper"),
    "LRD's test accuracy above",
    (0.8, 0.9, 0.95, 0.98, 0.99),
    0.95,
    lambda lrd, l2: float(np.nanmax(lrd.history[TEST])),
    "LRD's best test accuracy",
    other=("the fall of the rank from 35 to 3", falls),
)
rank_6_2 = section_6_2(
    falls,
    ("published", "paper"),
    "35 and 3, up to a factor of",
    FACTORS,
    1.5,
    lambda lrd, l2: rank_at(lrd, 500),
    "LRD's rank at step 500",
    other=("LRD above 0.95 and L2 below 0.5", passes),
)
l2_rank_6_2 = section_6_2(
    lambda lrd, l2, factor: all(
        within(float(rank), 25, factor)
        for rank in l2.history["qk_stable_rank"][l2.history["step"] >= 500]
    ),
    ("published", "paper"),
    "25 from step 500 on, up to a factor of",
    FACTORS,
    1.5,
    lambda lrd, l2: float(l2.history["qk_stable_rank"][-1]),
    "L2's rank at the end",
)


PERFECT = 0.995  # in percent this is 100
SCARCE = (0.4, 0.5)  # fractions of the data


def perfect(evidence: Evidence) -> Finding:
    """With 40% and with 50% of the data L2 fails, and LRD achieves perfect accuracy.

    True of a fraction at a setting if no strength of L2 succeeds in most seeds, and at some
    lambda most seeds of LRD have a best test accuracy above PERFECT. Holds if it is true of
    both fractions at both settings, in part if of any.
    """
    presets = ("published", "paper")
    parts, true, words, lines = [], [], [], {}
    levels = (0.9, 0.95, 0.98, 0.99, PERFECT, 0.999)
    for preset, f in product(presets, SCARCE):
        lrd = evidence.of(preset, rule="lrd", mode="independent", fraction=f)
        l2 = evidence.of(preset, rule="l2", fraction=f)
        parts += [lrd, l2]
        best = {  # by lambda, of each seed
            s: np.array([np.nanmax(run.history[TEST]) for run in some])
            for s, some in by_strength(lrd.runs).items()
        }
        won = {s: (successes(some), len(some)) for s, some in by_strength(l2.runs).items()}
        if not (best and won):
            continue
        at = max(best, key=lambda s: ((best[s] > PERFECT).mean(), best[s].mean()))
        wins, of = max(won.values(), key=lambda pair: pair[0] / pair[1])
        there = int((best[at] > PERFECT).sum())
        true.append(2 * there > len(best[at]) and 2 * wins <= of)
        place = f"{SETTINGS[preset]}, f = {f:g}"
        words.append(
            f"{place}: LRD is above {PERFECT:g} in {there} of {len(best[at])} seeds at λ = "
            f"{at:g} ({best[at].min():.3g} to {best[at].max():.3g}), L2 above 0.95 in {wins} "
            f"of {of} at its best strength"
        )
        lines[place] = tuple(
            max(float((y > x).mean()) for y in best.values()) for x in levels
        )
    command = " && ".join(
        remade_by(preset, "rule=lrd,l2 mode=independent fraction=0.4,0.5")
        for preset in presets
    )
    if len(true) < len(presets) * len(SCARCE):
        why = "runs of both rules at f = 0.4 and f = 0.5 are wanted"
        return finding("not recorded yet", why, parts, command)
    judged = verdict(holds=all(true), in_part=any(true))
    text = f"true at {sum(true)} of {len(true)}. {'. '.join(words)}"
    curve = Curve("LRD's best test accuracy above", levels, lines, PERFECT)
    return finding(judged, text, parts, command, curve=curve)


def tail(run: Run) -> float:
    """By how many orders of magnitude the singular values beyond index 10 lie below the
    largest, at the end: -log10 of their median, over all query and key matrices; NaN
    without spectra."""
    ends = [S[-1] for name, S in run.spectra.items() if name.endswith(("query", "key"))]
    if not ends:
        return float("nan")
    below = np.concatenate([S[10:] / max(float(S[0]), 1e-30) for S in ends])
    return float(-np.log10(max(float(np.median(below)), 1e-30)))


tail_6_2 = section_6_2(
    lambda lrd, l2, orders: tail(lrd) >= orders and tail(l2) <= 2,
    ("paper",),
    "LRD's tail lower by at least, in orders of magnitude",
    (1.0, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0),
    4.0,
    lambda lrd, l2: tail(lrd),
    "by how many orders of magnitude LRD's tail lies lower",
    "no spectra are kept at the first code's setting",
)


def in_heads(run: Run) -> float:
    """The largest share of the squared entries of W_Q W_K^T that lies in its diagonal
    blocks, one per head, over layers; 1 / heads if there is no pattern."""
    heads = run.config["heads"]
    shares = []
    for layer in range(run.config["layers"]):
        Q, K = (run.weights[f"{layer}.{m}"].astype(float) for m in ("query", "key"))
        A = (Q @ K.T) ** 2  # (d, d)
        blocks = np.split(np.arange(len(A)), heads)
        shares.append(float(sum(A[np.ix_(b, b)].sum() for b in blocks) / A.sum()))
    return max(shares)


def pattern(evidence: Evidence) -> Finding:
    """Under LRD |W_Q W_K^T| has block-diagonal features, under L2 none: holds if the blocks
    of the heads hold more than half of the squares under LRD, and not under L2.

    In part if they hold more under LRD than under every L2 beside it, weak as in the
    paper's figure or strong. Otherwise undecided: the paper shows a picture, and our number
    is one way to read it.
    """
    kept = [run for run in evidence.whole.values() if run.weights]
    kept.sort(key=lambda run: run.config["weight_decay"])
    groups = {rule: [r for r in kept if r.config["rule"] == rule] for rule in ("lrd", "l2")}
    used = [run for some in groups.values() for run in some]
    part = Part([TrainConfig(**run.config) for run in used], used)
    command = "python -m lrdlib mechanism"
    if not all(groups.values()):
        words = "query and key matrices of both rules are wanted"
        return finding("not recorded yet", words, [part], command)

    share = {rule: [in_heads(run) for run in runs] for rule, runs in groups.items()}
    low, high = min(share["lrd"]), max(share["l2"])
    found = verdict(holds=low > 0.5 > high, in_part=low > high)
    if found == "does not hold":
        found = "undecided"

    words = "share of squares in the blocks of the heads: " + ", ".join(
        f"{run.label()} {in_heads(run):.0%}" for run in used
    )
    more = sum(x < low for x in share["l2"])
    words += (
        f" ({1 / used[0].config['heads']:.0%} without a pattern); LRD has more of it than "
        f"{more} of {counted(len(share['l2']), 'L2 run')}, and "
        f"{'more' if low > 0.5 else 'not more'} than half"
    )
    return finding(found, words, [part], command)
