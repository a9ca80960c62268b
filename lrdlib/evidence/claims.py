"""What the paper and the first public code's README say about their experiments, each
judged from recorded runs.

A Claim is a statement, its source, and a function that reads runs and returns a Finding: a
verdict, the numbers behind it, how many runs and seeds they are, and the command that
remakes those runs. Each function is read from top to bottom: what is wanted and recorded,
when that settles nothing, the rule of the verdict, the words. A new claim is one function
and one entry of CLAIMS. Nothing here trains, and no number is typed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lrdlib._check import check_choice, check_real
from lrdlib.decay import MODES
from lrdlib.evidence.grids import GRIDS
from lrdlib.evidence.judging import (
    CLEAN,
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
    fewest_steps,
    finding,
    frontier_text,
    paired,
    rank_shares,
    recorded_text,
    remade_by,
    shares_text,
    shortfall_text,
    strengths_text,
    succeeds,
    successes,
    tuned_pairs,
    verdict,
)
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import NAMES, Run
from lrdlib.training.store import checked_path
from lrdlib.training.sweep import expand, recorded

PRESETS = ("paper", "published", "fair")
# what two runs of L2 share whose strengths are compared
SETTING = ("task", "p", "lr", "betas", "steps", "qk_norm")


@dataclass(frozen=True)
class Claim:
    """A statement, where it is made, and how it is judged."""

    name: str
    statement: str
    source: str
    judge: Callable[[Evidence], Finding]


def load_evidence(store: str | Path) -> Evidence:
    """The presets, and what `store` holds of them. Raises TypeError for anything but a
    path, and as lrdlib.training.sweep.recorded."""
    store = checked_path("store", store)
    wanted = {name: expand(*GRIDS[name]()) for name in PRESETS}
    every = dict.fromkeys(config for configs in wanted.values() for config in configs)
    return Evidence(wanted, recorded(every, store))


def findings(evidence: Evidence) -> list[tuple[Claim, Finding]]:
    """Every claim with its finding, in the order of CLAIMS."""
    if not isinstance(evidence, Evidence):
        raise TypeError(f"evidence must be an Evidence, got {type(evidence).__name__}")
    return [(claim, claim.judge(evidence)) for claim in CLAIMS]


# ---- the phase diagram


def wider(preset: str, mode: str) -> Callable[[Evidence], Finding]:
    """LRD succeeds in more cells than L2 and from a smaller fraction on, over one grid.

    Only runs count whose counterpart of the other rule is recorded too. Holds if both do;
    in part if one does. Not settled while less than half of the cells have such a pair, or
    while missing ones could still decide which frontier is lower.
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
            return finding("not settled", recorded_text(every), every.values(), command)

        cells = {name: cells_that_succeed(part) for name, part in rules.items()}
        start = {name: best_frontier(part) for name, part in rules.items()}
        more = cells["LRD"][0] > cells["L2"][0]
        lower = start["LRD"].high < start["L2"].low
        found = verdict(holds=more and lower, in_part=more or lower)
        if not lower and start["LRD"].low < start["L2"].high:  # it could still be
            found = "not settled"

        words = "; ".join(
            f"{name} succeeds in {won} of {of} cells, "
            f"{frontier_text(start[name], rules[name].wanted)}"
            for name, (won, of) in cells.items()
        )
        words += f". {decay_text(evidence, every)}"
        return finding(found, words, rules.values(), command)

    return judge


def decay_text(evidence: Evidence, rules: Rules) -> str:
    """What the strongest decay of either rule adds up to over a run, which makes one grid
    two very different ones; and, if there is any, the least with which L2 succeeds in the
    fair grid at the same setting."""
    l2, lrd = (max(rules[name].wanted, key=decay_times) for name in ("L2", "LRD"))
    tuned = evidence.of("fair", rule="l2", **{name: getattr(l2, name) for name in SETTING})
    enough = [decay_times(TrainConfig(**run.config)) for run in tuned.runs if succeeds(run)]
    fewest = (
        f", and the fewest with which it succeeds in the fair grid are {min(enough):.3g}"
        if enough
        else ""
    )
    if lrd.mode == "decoupled":
        verb = "too, so it has"
    else:
        verb = "not, so it takes" if lrd.scale is None else "not: it has"
    return (
        f"L2's lambda is times the learning rate, so in {l2.steps} steps it has at most "
        f"{decay_times(l2):.3g} decay times (steps × learning rate × lambda){fewest}; "
        f"LRD's is {verb} at most {decay_times(lrd):.3g}"
        f"{' off each singular value' if lrd.scale is None else ''}"
    )


def upper_right(evidence: Evidence) -> Finding:
    """L2 succeeds only at large fractions with strong decay: holds if it succeeds there and
    nowhere else.

    There: f >= 0.6 and lambda >= 5e-3. In part if it succeeds elsewhere too; does not hold
    if nowhere there.
    """
    part = evidence.of("paper", rule="l2")
    corner = [c for c in part.wanted if c.fraction >= 0.6 and c.weight_decay >= 5e-3]
    there = Part(corner, [evidence.runs[c] for c in corner if c in evidence.runs])
    command = remade_by("paper", "rule=l2")
    if not (covered(part) and covered(there)):
        return finding("not settled", recorded_text({"L2": part}), [part], command)

    inside = successes(there.runs)
    outside = successes(part.runs) - inside
    found = verdict(holds=inside > 0 and outside == 0, in_part=inside > 0)

    best = max(float(np.nanmax(run.history[CLEAN])) for run in part.runs)
    words = (
        f"{'L2 succeeds in' if inside + outside else 'no L2 run succeeds:'} {inside} of "
        f"{counted(len(there.runs), 'run')} there (f of "
        f"{min(c.fraction for c in corner):g} and more, lambda of "
        f"{min(c.weight_decay for c in corner):g} and more), {outside} of "
        f"{len(part.runs) - len(there.runs)} elsewhere; the best accuracy on orbit-clean "
        f"pairs is {best:.0%}"
    )
    return finding(found, words, [part], command)


def sweet_spot(evidence: Evidence) -> Finding:
    """LRD is ahead of L2 at f = 0.4 to 0.6 and lambda = 5e-4 to 5e-3: holds if most of its
    runs there succeed, and more than L2's.

    In part if more than L2's do. Only runs count whose counterpart of the other rule is
    recorded too; not settled until every cell has such a pair.
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
        return finding("not settled", recorded_text(every), every.values(), command)

    share = {name: successes(part.runs) / len(part.runs) for name, part in rules.items()}
    ahead = share["LRD"] > share["L2"]
    found = verdict(holds=ahead and share["LRD"] > 0.5, in_part=ahead)

    words = "; ".join(
        f"{name} succeeds in {successes(part.runs)} of {counted(len(part.runs), 'run')}"
        f"{strengths_text(part.runs)}"
        for name, part in rules.items()
    )
    return finding(found, words, rules.values(), command)


def against_tuned(evidence: Evidence) -> Finding:
    """LRD needs less data than an L2 tuned as well: over one range of effective strength,
    at each learning rate.

    Judged on orbit-clean pairs, of runs whose counterpart of the other rule is recorded
    too. Holds if LRD's frontier is below L2's at every learning rate at which both are
    known, in part at some; not settled while there is none.
    """
    fair = evidence.of("fair", rule=["lrd", "l2"])
    command = remade_by("fair", "rule=lrd,l2")
    below: list[bool] = []
    words: list[str] = []
    used: list[Part] = []
    for lr in sorted({config.lr for config in fair.wanted}):
        rules = tuned_pairs(evidence, lr=lr)
        if not all(part.runs for part in rules.values()):
            continue
        start = {name: best_frontier(part, CLEAN) for name, part in rules.items()}
        if not all(frontier.settled for frontier in start.values()):
            continue
        below.append(start["LRD"].high < start["L2"].low)
        starts = ", ".join(
            f"{name} {frontier_text(frontier, rules[name].wanted)}"
            for name, frontier in start.items()
        )
        words.append(f"at learning rate {lr:g}: {starts}")
        used += rules.values()
    if not below:
        reason = "no learning rate is recorded far enough"
        return finding("not settled", reason, [fair], command)

    found = verdict(holds=all(below), in_part=any(below))
    words[-1] += shortfall_text(used, fair.wanted)
    return finding(found, "; ".join(words), used, command)


def faster(factor: float) -> Callable[[Evidence], Finding]:
    """LRD generalises in more than `factor` times fewer steps than an L2 tuned as well.

    Per fraction and learning rate of the fair grid, each rule at the strength whose median
    over seeds is smallest. Holds if the ratio of steps is above `factor` wherever either
    succeeds, in part if the median is. A rule that never succeeds takes for ever. Settings
    count once every strength has a pair of runs, one of either rule.
    """
    check_real("factor", factor, above=0)

    def judge(evidence: Evidence) -> Finding:
        fair = evidence.of("fair", rule=["lrd", "l2"])
        command = remade_by("fair", "rule=lrd,l2")
        ratios: list[float] = []
        used: list[Part] = []
        for lr, fraction in sorted({(c.lr, c.fraction) for c in fair.wanted}):
            rules = tuned_pairs(evidence, lr=lr, fraction=fraction)
            steps = {name: fewest_steps(part.runs) for name, part in rules.items()}
            complete = all(covered(part, share=1) for part in rules.values())
            if complete and np.isfinite(list(steps.values())).any():
                ratios.append(steps["L2"] / steps["LRD"])
                used += rules.values()
        if not ratios:
            words = "no setting has all strengths recorded and a success"
            return finding("not settled", words, [fair], command)

        above = [ratio > factor for ratio in ratios]
        median = float(np.median(ratios))
        found = verdict(holds=all(above), in_part=median > factor)

        speed = "faster" if factor == 1 else f"more than {factor:g} times as fast"
        words = (
            f"LRD is {speed} in {sum(above)} of {counted(len(ratios), 'setting')}; steps of "
            f"L2 over steps of LRD: median {median:.2f}, "
            f"{min(ratios):.2f} to {max(ratios):.2f}"
        )
        words += " (0: LRD never succeeds)" if min(ratios) == 0 else ""
        words += " (inf: L2 never succeeds)" if max(ratios) == np.inf else ""
        return finding(found, words + shortfall_text(used, fair.wanted), used, command)

    return judge


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
        return finding("not settled", words, [part], command)

    def rank_at_500(run: Run) -> float:
        nearest = int(np.abs(run.history["step"] - 500).argmin())
        return float(run.history["qk_stable_rank"][nearest])

    early = [rank_at_500(run) for run in part.runs]
    medians = [
        float(np.median([rank_at_500(run) for run in group]))
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
    return finding(found, words, [part], command)


def precedes(evidence: Evidence) -> Finding:
    """In runs that generalise, the QK rank has halved before half of the unseen pairs are
    right.

    Holds if it has in nine of ten runs of LRD and of L2, in part if for one of the two. The
    words say beside it in how many of the runs that never generalise it halves as well, at
    any record: what comes first need not be a cause.
    """
    rules = {NAMES[rule]: evidence.of_all(rule=rule) for rule in ("lrd", "l2")}
    command = " && ".join(remade_by(preset, "rule=lrd,l2") for preset in PRESETS)

    def halved_first(run: Run) -> bool:
        half_right = int((run.history[CLEAN] > 0.5).argmax())  # the first such record
        return bool(rank_shares(run)[max(half_right - 1, 0)] < 0.5)

    first = {
        name: [halved_first(run) for run in part.runs if succeeds(run, CLEAN)]
        for name, part in rules.items()
    }
    if not all(first.values()):
        only = [f"{name} only" for name, flags in first.items() if flags]
        words = f"runs that generalise are recorded of {' '.join(only) or 'neither rule'}"
        return finding("not settled", words, rules.values(), command)

    most = [bool(np.mean(flags) >= 0.9) for flags in first.values()]
    found = verdict(holds=all(most), in_part=any(most))

    never = {
        name: [
            bool((rank_shares(run) < 0.5).any())
            for run in part.runs
            if not succeeds(run, CLEAN)
        ]
        for name, part in rules.items()
    }
    words = (
        "in runs that generalise, the QK stable rank is below half of its start at the last "
        "record before half of the orbit-clean pairs are right, in "
    )
    words += shares_text(first)
    if any(never.values()):
        words += f"; in runs that never do, it is so at some record in {shares_text(never)}"
    return finding(found, words, rules.values(), command)


def sufficient(evidence: Evidence) -> Finding:
    """Low QK rank makes a network generalise: judged where low-rank decay is on queries and
    keys alone.

    Holds if nine of ten such runs that end below a quarter of their first rank generalise,
    in part if more than half do. Not settled while less than half of the cells have a run,
    or if none ends there.
    """
    part = evidence.of_all(rule="lrd", select="qk")
    command = remade_by("published", "rule=lrd")
    if not covered(part):
        words = f"{len(part.runs)} of this grid's {len(part.wanted)} runs recorded"
        return finding("not settled", words, [part], command)
    low = [run for run in part.runs if rank_shares(run)[-1] < 1 / 4]
    others = [run for run in part.runs if not rank_shares(run)[-1] < 1 / 4]
    if not low:
        words = (
            f"none of the {len(others)} recorded runs ends below a quarter of its first QK "
            "stable rank"
        )
        return finding("not settled", words, [part], command)

    won = successes(low, CLEAN)
    found = verdict(holds=won / len(low) >= 0.9, in_part=won / len(low) > 0.5)

    words = (
        "of the runs that end below a quarter of their first QK stable rank, "
        f"{won} of {len(low)} generalise{'s' * (won == 1)}"
    )
    if others:
        words += f"; of the others, {successes(others, CLEAN)} of {len(others)}"
    return finding(found, words, [part], command)


def inert(evidence: Evidence) -> Finding:
    """L2 leaves the spectrum of query and key matrices alone: holds if no fair-grid run
    halves their stable rank.

    In part if only runs do that learn nothing (train accuracy below 50%). Not settled while
    fewer than two strengths are recorded. The control is the paper's grid, where L2 has
    little time to act.
    """
    fair, paper = evidence.of("fair", rule="l2"), evidence.of("paper", rule="l2")
    command = remade_by("fair", "rule=l2")
    if len(by_strength(fair.runs)) < 2:
        words = "fewer than two strengths are recorded"
        return finding("not settled", words, [fair], command)

    fell = [run for run in fair.runs if rank_shares(run)[-1] < 1 / 2]
    learnt = [run for run in fell if np.nanmax(run.history["train_accuracy"]) > 0.5]
    found = verdict(holds=not fell, in_part=not learnt)

    words = (
        f"the QK stable rank ends below half of its start in {len(fell)} of "
        f"{len(fair.runs)} runs"
    )
    if fell:
        words += (
            f", {len(learnt)} of which learn{'s' * (len(learnt) == 1)} more than half of the "
            "training set"
        )
    if paper.runs:
        shares = np.concatenate([rank_shares(run) for run in paper.runs])
        words += (
            f"; on the paper's grid, at {max(map(decay_times, paper.wanted)):.3g} decay times "
            f"and fewer, it stays at {np.nanmin(shares):.0%} to {np.nanmax(shares):.0%} of "
            f"its start ({counted(len(paper.runs), 'run')})"
        )
    return finding(found, words, [fair], command)


# ---- the claims

CLAIMS = (
    Claim(
        "wider-independent",
        "LRD expands the region of grokking: more cells than L2, from less data (Figure 1; "
        "lambda as the code has it)",
        "paper, 6.1; README",
        wider("paper", "independent"),
    ),
    Claim(
        "wider-decoupled",
        "The same with lambda as the paper writes it, times the learning rate",
        "paper, 5 and 6.1",
        wider("paper", "decoupled"),
    ),
    Claim(
        "wider-published",
        "The same at the first code's own setting: queries and keys only, L2 at ten times "
        "the strength shown",
        "README",
        wider("published", "independent"),
    ),
    Claim(
        "sweet-spot",
        "LRD is ahead at f = 0.4 to 0.6 and lambda = 5e-4 to 5e-3",
        "paper, 6.1",
        sweet_spot,
    ),
    Claim(
        "upper-right",
        "L2 succeeds only with much data and strong decay",
        "paper, 6.1",
        upper_right,
    ),
    Claim(
        "tuned",
        "LRD needs less data than L2",
        "paper, abstract; judged against an L2 tuned as well",
        against_tuned,
    ),
    Claim(
        "faster",
        "LRD accelerates grokking",
        "paper, 8; judged against an L2 tuned as well",
        faster(1.0),
    ),
    Claim(
        "much-faster",
        "LRD accelerates grokking by orders of magnitude",
        "README",
        faster(10.0),
    ),
    Claim(
        "collapse",
        "LRD brings the rank of queries and keys to near one within 500 steps",
        "README",
        collapse,
    ),
    Claim(
        "precedes",
        "The rank collapses before the network generalises",
        "paper, 6.2; README",
        precedes,
    ),
    Claim(
        "sufficient",
        "Low rank of queries and keys makes the network generalise",
        "paper, 6.3; README",
        sufficient,
    ),
    Claim(
        "inert",
        "L2 does not change the spectrum of queries and keys",
        "paper, 3 and 6.3",
        inert,
    ),
)


# ---- to be read


def table(evidence: Evidence) -> str:
    """All claims as a Markdown table: claim, source, verdict, effect, basis, and the
    command that remakes the runs."""
    rows = [
        ["claim", "source", "verdict", "what we measured", "runs", "remake with"],
        ["---"] * 6,
    ]
    for claim, found in findings(evidence):
        marked = [f"**{found.verdict}**", found.effect, found.basis, f"`{found.command}`"]
        rows.append([claim.statement, claim.source, *marked])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cards(evidence: Evidence) -> str:
    """The same as HTML, a block per claim, which fits a phone; the command is folded."""
    return "\n".join(
        f'<div class="lrd-claim lrd-{found.verdict.replace(" ", "-")}">'
        f"<p><strong>{found.verdict}</strong> {claim.statement} "
        f"<small>({claim.source})</small></p>"
        f"<p>{found.effect[:1].upper()}{found.effect[1:]}. <small>{found.basis}.</small></p>"
        f"<details><summary>Remake these runs</summary><code>{found.command}</code></details>"
        "</div>"
        for claim, found in findings(evidence)
    )
