"""What the paper and the first public code's README say about their experiments, each judged from recorded runs.

A Claim is a statement, its source, and a function that reads runs and returns a Finding: a verdict, the numbers behind
it, how many runs and seeds they are, and the command that remakes those runs. The rule of each verdict is written in
the function that applies it. Nothing here trains, and no number is typed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lrdlib.config import TrainConfig
from lrdlib.grids import GRIDS
from lrdlib.phase import Frontier, Panel, frontiers, panels
from lrdlib.runs import NAMES, Run
from lrdlib.sweep import expand, recorded

Rules = dict[str, tuple[list[TrainConfig], list[Run]]]  # name -> what is wanted of a rule, and what is recorded
VERDICTS = ("holds", "holds in part", "does not hold", "not settled")
CLEAN = "orbit_clean_accuracy"


@dataclass(frozen=True)
class Evidence:
    """The wanted configs of each preset of the phase diagram, and the recorded runs of any of them."""

    wanted: dict[str, list[TrainConfig]]
    runs: dict[TrainConfig, Run]

    def of(self, preset: str, **fields: object) -> tuple[list[TrainConfig], list[Run]]:
        """The wanted configs of a preset whose fields have these values (or one of a list of them), and their runs."""

        def meets(config: TrainConfig) -> bool:
            return all(
                getattr(config, name) in (value if isinstance(value, list) else [value])
                for name, value in fields.items()
            )

        wanted = [config for config in self.wanted[preset] if meets(config)]
        return wanted, [self.runs[config] for config in wanted if config in self.runs]

    def of_all(self, **fields: object) -> tuple[list[TrainConfig], list[Run]]:
        """The same over all presets, each config once."""
        every = [config for preset in self.wanted for config in self.of(preset, **fields)[0]]
        wanted = list(dict.fromkeys(every))
        return wanted, [self.runs[config] for config in wanted if config in self.runs]


@dataclass(frozen=True)
class Finding:
    """A verdict, one of VERDICTS; the effect in words and computed numbers; the runs; the command that remakes them."""

    verdict: str
    effect: str
    basis: str
    command: str


@dataclass(frozen=True)
class Claim:
    """A statement, where it is made, and how it is judged."""

    name: str
    statement: str
    source: str
    judge: Callable[[Evidence], Finding]


def load_evidence(store: str | Path) -> Evidence:
    """The presets, and what `store` holds of them. Raises as lrdlib.sweep.recorded."""
    wanted = {name: expand(*GRIDS[name]()) for name in ("paper", "published", "fair")}
    every = dict.fromkeys(config for configs in wanted.values() for config in configs)
    return Evidence(wanted, recorded(every, store))


def findings(evidence: Evidence) -> list[tuple[Claim, Finding]]:
    """Every claim with its finding, in the order of CLAIMS."""
    return [(claim, claim.judge(evidence)) for claim in CLAIMS]


# ---- the phase diagram


def wider(preset: str, mode: str) -> Callable[[Evidence], Finding]:
    """LRD succeeds in more cells than L2 and from a smaller fraction on, over the same strengths.

    Holds if both do; in part if one does. Not settled while less than half of either rule's cells have a run, or while
    missing ones could still decide which frontier is lower.
    """

    def judge(evidence: Evidence) -> Finding:
        command = f"python -m lrdlib phase-diagram --preset {preset} --only rule=lrd mode={mode} && "
        command += f"python -m lrdlib phase-diagram --preset {preset} --only rule=l2"
        rules = {"LRD": evidence.of(preset, rule="lrd", mode=mode), "L2": evidence.of(preset, rule="l2")}
        basis = _basis(rules)
        if any(not _covered(*rule) for rule in rules.values()):
            return Finding("not settled", _counted(rules), basis, command)
        counts = {name: _share(runs) for name, (_, runs) in rules.items()}
        best = {name: _best(wanted, runs) for name, (wanted, runs) in rules.items()}
        lower = best["LRD"].high < best["L2"].low
        open_yet = not lower and best["LRD"].low < best["L2"].high
        more = counts["LRD"] > counts["L2"]
        words = "; ".join(f"{name}: {counts[name]:.0%} of runs, {_from(best[name])}" for name in rules)
        return Finding("not settled" if open_yet else _verdict([lower, more]), words, basis, command)

    return judge


def upper_right(evidence: Evidence) -> Finding:
    """L2 succeeds only at large fractions with strong decay: holds if it succeeds there and nowhere else.

    There: f >= 0.6 and lambda >= 5e-3. In part if it succeeds elsewhere too; does not hold if nowhere at all.
    """
    wanted, runs = evidence.of("paper", rule="l2")
    command = "python -m lrdlib phase-diagram --preset paper --only rule=l2"
    basis = _basis({"L2": (wanted, runs)})
    if not _covered(wanted, runs):
        return Finding("not settled", _counted({"L2": (wanted, runs)}), basis, command)
    corner = [r for r in runs if r.config["fraction"] >= 0.6 and r.config["weight_decay"] >= 5e-3]
    inside, outside = _successes(corner), _successes(runs) - _successes(corner)
    best = max(float(np.nanmax(r.history[CLEAN])) for r in runs)
    words = f"{inside} of {len(corner)} runs succeed there and {outside} of {len(runs) - len(corner)} elsewhere; "
    words += f"the best accuracy on orbit-clean pairs is {best:.0%}"
    return Finding(_verdict([inside > 0, inside > 0 and outside == 0]), words, basis, command)


def sweet_spot(evidence: Evidence) -> Finding:
    """LRD is ahead of L2 at f = 0.4 to 0.6 and lambda = 5e-4 to 5e-3: holds if most of its runs there succeed.

    In part if some do and more than L2's.
    """
    box = {"fraction": [0.4, 0.45, 0.5, 0.55, 0.6], "weight_decay": [5e-4, 1e-3, 5e-3], "mode": "independent"}
    rules = {name: evidence.of("paper", rule=rule, **box) for rule, name in (("lrd", "LRD"), ("l2", "L2"))}
    command = "python -m lrdlib phase-diagram --preset paper --only rule=lrd,l2 mode=independent"
    command += " fraction=0.4,0.45,0.5,0.55,0.6 weight_decay=0.0005,0.001,0.005"
    basis = _basis(rules)
    if not all(_covered(*rule, share=1) for rule in rules.values()):
        return Finding("not settled", _counted(rules), basis, command)
    share = {name: _share(runs) for name, (_, runs) in rules.items()}
    words = "; ".join(f"{name}: {_successes(runs)} of {len(runs)} runs succeed" for name, (_, runs) in rules.items())
    verdict = "holds" if share["LRD"] > 0.5 and share["LRD"] > share["L2"] else None
    return Finding(verdict or _verdict([share["LRD"] > share["L2"], False]), words, basis, command)


def against_tuned(evidence: Evidence) -> Finding:
    """LRD needs less data than an L2 tuned as well: over one range of effective strength, at each learning rate.

    Judged on orbit-clean pairs. Holds if LRD's frontier is below L2's at every learning rate that is
    recorded, in part at some; not settled while no learning rate has both.
    """
    command = "python -m lrdlib phase-diagram --preset fair --only rule=lrd,l2"
    won, words, used = [], [], Rules()
    for lr in sorted({config.lr for config in evidence.wanted["fair"]}):
        rules = {name: evidence.of("fair", rule=rule, lr=lr) for rule, name in (("lrd", "LRD"), ("l2", "L2"))}
        best = {name: _best(wanted, runs, CLEAN) for name, (wanted, runs) in rules.items() if runs}
        if len(best) < 2 or not all(one.settled for one in best.values()):
            continue
        won.append(best["LRD"].high < best["L2"].low)
        words.append(f"at learning rate {lr:g}: " + ", ".join(f"{name} {_from(one)}" for name, one in best.items()))
        used |= {f"{name}, lr {lr:g}": rule for name, rule in rules.items()}
    if not won:
        return Finding("not settled", "no learning rate is recorded far enough", _basis(used), command)
    return Finding(_verdict(won), "; ".join(words), _basis(used), command)


def faster(factor: float) -> Callable[[Evidence], Finding]:
    """LRD generalises in `factor` times fewer steps than an L2 tuned as well.

    Per fraction and learning rate of the fair grid, each rule at the strength whose median over seeds is smallest.
    Holds if the ratio of steps is at least `factor` wherever either succeeds, in part if the median is. A rule that
    never succeeds takes for ever. Settings count once every strength of both rules has a run.
    """

    def judge(evidence: Evidence) -> Finding:
        command = "python -m lrdlib phase-diagram --preset fair --only rule=lrd,l2"
        ratios, used = [], Rules()
        for lr in sorted({config.lr for config in evidence.wanted["fair"]}):
            for fraction in sorted({config.fraction for config in evidence.wanted["fair"]}):
                rules = {
                    n: evidence.of("fair", rule=r, lr=lr, fraction=fraction) for r, n in (("lrd", "LRD"), ("l2", "L2"))
                }
                steps = {name: _steps(runs) for name, (_, runs) in rules.items()}
                if all(_covered(*rule, share=1) for rule in rules.values()) and np.isfinite(list(steps.values())).any():
                    ratios.append(steps["L2"] / steps["LRD"])
                    used |= {f"{name}, f {fraction:g}, lr {lr:g}": rule for name, rule in rules.items()}
        if not ratios:
            return Finding("not settled", "no setting is complete over all strengths", _basis(used), command)
        words = f"steps of L2 over steps of LRD: median {np.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
        words += (
            f" over {len(ratios)} settings (0: LRD never succeeds)"
            if min(ratios) == 0
            else f" over {len(ratios)} settings"
        )
        parts = [all(r >= factor for r in ratios), bool(np.median(ratios) >= factor)]
        return Finding(_verdict(parts), words, _basis(used), command)

    return judge


# ---- the rank


def collapse(evidence: Evidence) -> Finding:
    """LRD brings the QK rank to near one by step 500: holds if the median stable rank there is below 2.

    In part if it is at some strength. At the first code's setting and, where that is not recorded, at the paper's;
    lambda of 5e-3 (the first code's choice) and more.
    """
    strong = {"rule": "lrd", "mode": "independent", "weight_decay": [5e-3, 1e-2, 5e-2]}
    for preset in ("published", "paper"):
        wanted, runs = evidence.of(preset, **strong)
        command = f"python -m lrdlib phase-diagram --preset {preset} --only rule=lrd mode=independent"
        command += " weight_decay=0.005,0.01,0.05"
        if runs:
            early = [_rank_at(run, 500) for run in runs]
            start = float(np.median([run.history["qk_stable_rank"][0] for run in runs]))
            middle = float(np.median(early))
            words = f"QK stable rank at step 500: median {middle:.1f}, from {start:.0f} at the start; "
            words += f"{min(early):.1f} to {max(early):.1f} over runs, "
            words += f"below 2 in {sum(r < 2 for r in early)} of {len(early)}"
            strengths = {run.config["weight_decay"] for run in runs}
            medians = [
                np.median([r for run, r in zip(runs, early, strict=True) if run.config["weight_decay"] == s])
                for s in strengths
            ]
            verdict = "holds" if middle < 2 else _verdict([bool(min(medians) < 2), False])
            return Finding(verdict, words, _basis({f"LRD, {preset} grid": (wanted, runs)}), command)
    return Finding("not settled", "no run is recorded", "0 runs", command)


def precedes(evidence: Evidence) -> Finding:
    """In runs that generalise, the QK rank has halved before half of the unseen pairs are right.

    Holds if it has in nine of ten runs of LRD and of L2, in part if for one of the two.
    """
    shares, used = {}, Rules()
    for rule in ("lrd", "l2"):
        wanted, runs = evidence.of_all(rule=rule)
        there = [run for run in runs if run.first_step(CLEAN) is not None]
        used[NAMES[rule]] = (wanted, there)
        if there:
            shares[NAMES[rule]] = float(np.mean([_rank_first(run) for run in there]))
    words = "; ".join(f"{name}: in {share:.0%} of {len(used[name][1])}" for name, share in shares.items())
    command = "python -m lrdlib phase-diagram --preset paper --only rule=lrd,l2 && "
    command += "python -m lrdlib phase-diagram --preset fair --only rule=lrd,l2"
    if len(shares) < 2:
        return Finding("not settled", words or "no run that generalises is recorded", _basis(used), command)
    return Finding(_verdict([share >= 0.9 for share in shares.values()]), words, _basis(used), command)


def sufficient(evidence: Evidence) -> Finding:
    """Low QK rank makes a network generalise: judged where queries and keys alone are decayed, and the rank falls.

    Holds if nine of ten such runs that end below a quarter of their first rank generalise, in part if half do.
    """
    wanted, runs = evidence.of_all(rule="lrd", select="qk")
    low = [run for run in runs if run.history["qk_stable_rank"][-1] < run.history["qk_stable_rank"][0] / 4]
    command = "python -m lrdlib phase-diagram --preset published --only rule=lrd"
    if not low:
        return Finding(
            "not settled", "none of this grid's runs of low rank is recorded", _basis({"": (wanted, runs)}), command
        )
    share = _share(low, CLEAN)
    words = f"{_successes(low, CLEAN)} of the {len(low)} runs that end below a quarter of their first rank generalise"
    verdict = "holds" if share >= 0.9 else _verdict([share > 0.5, False])
    return Finding(verdict, words, _basis({"": (wanted, low)}), command)


def inert(evidence: Evidence) -> Finding:
    """L2 leaves the spectrum of query and key matrices alone: holds if no fair-grid run halves their stable rank.

    In part if only runs do that learn nothing (train accuracy below 50%).
    """
    wanted, runs = evidence.of("fair", rule="l2")
    command = "python -m lrdlib phase-diagram --preset fair --only rule=l2"
    if len({run.config["weight_decay"] for run in runs}) < 2:
        return Finding("not settled", "fewer than two strengths are recorded", _basis({"L2": (wanted, runs)}), command)
    fell = [r for r in runs if r.history["qk_stable_rank"][-1] < r.history["qk_stable_rank"][0] / 2]
    learnt = [r for r in fell if np.nanmax(r.history["train_accuracy"]) > 0.5]
    words = f"the stable rank ends below half of its start in {len(fell)} of {len(runs)} runs, "
    words += f"{len(learnt)} of which learn their training set"
    return Finding(_verdict([not learnt, not fell]), words, _basis({"L2": (wanted, runs)}), command)


# ---- words and counts


def _verdict(parts: Sequence[bool]) -> str:
    """All: holds; some: in part; none: does not."""
    return VERDICTS[0] if all(parts) else VERDICTS[1] if any(parts) else VERDICTS[2]


def _covered(wanted: Sequence[TrainConfig], runs: Sequence[Run], share: float = 0.5) -> bool:
    """Whether at least this share of the cells has a run: seeds beyond the first do not count."""
    there = {(run.config["fraction"], run.config["weight_decay"]) for run in runs}
    return len(there) >= share * len({(config.fraction, config.weight_decay) for config in wanted})


def _successes(runs: Iterable[Run], metric: str = "test_accuracy") -> int:
    return sum(run.first_step(metric) is not None for run in runs)


def _share(runs: Sequence[Run], metric: str = "test_accuracy") -> float:
    return _successes(runs, metric) / len(runs)


def _best(wanted: Sequence[TrainConfig], runs: Sequence[Run], metric: str = "test_accuracy") -> Frontier:
    """The frontier of the best strength per fraction, of one panel."""
    panel: Panel
    (panel,) = panels(runs, wanted)
    return frontiers(panel, np.random.default_rng(0), metric=metric)[-1]


def _from(frontier: Frontier) -> str:
    """The frontier in words, with its interval over seeds if there is one."""
    if frontier.low == np.inf:
        return "at no fraction"
    bounds = f"{frontier.low:g}"
    if not frontier.settled:  # runs are missing
        if frontier.high == np.inf:
            return "at no fraction recorded so far"
        bounds += f" to {frontier.high:g}"
    seeds = f" (seeds {frontier.interval[0]:g} to {frontier.interval[1]:g})" if frontier.interval else " (one seed)"
    return f"from f = {bounds}{seeds}"


def _steps(runs: Sequence[Run]) -> float:
    """The smallest, over strengths, median over seeds of the first step above the threshold; inf for never."""
    by_strength: dict[float, list[float]] = {}
    for run in runs:
        step = run.first_step(CLEAN)
        by_strength.setdefault(run.config["weight_decay"], []).append(np.inf if step is None else step)
    return min((float(np.median(steps)) for steps in by_strength.values()), default=np.inf)


def _rank_at(run: Run, step: int) -> float:
    steps = run.history["step"]
    return float(run.history["qk_stable_rank"][int(np.abs(steps - step).argmin())])


def _rank_first(run: Run) -> bool:
    """Whether the QK rank has halved by the last record before half of the unseen pairs are right."""
    rank, clean = run.history["qk_stable_rank"], run.history[CLEAN]
    before = max(int((clean > 0.5).argmax()) - 1, 0)
    return bool(rank[before] < rank[0] / 2)


def _seeds(runs: Iterable[Run]) -> str:
    seeds = len({run.config["seed"] for run in runs})
    return f"{seeds} seed{'s' * (seeds != 1)}"


def _basis(rules: Rules) -> str:
    """How many of the wanted runs are recorded, over how many seeds."""
    runs = [run for _, part in rules.values() for run in part]
    return f"{len(runs)} of {sum(len(wanted) for wanted, _ in rules.values())} runs, {_seeds(runs)}"


def _counted(rules: Rules) -> str:
    return "; ".join(f"{name}: {len(runs)} of {len(wanted)} recorded" for name, (wanted, runs) in rules.items())


# ---- the claims

CLAIMS = (
    Claim(
        "wider-independent",
        "LRD expands the region of grokking: more cells than L2, from less data (Figure 1; lambda as the code has it)",
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
        "The same at the first code's own setting: queries and keys only, L2 at ten times the strength shown",
        "README",
        wider("published", "independent"),
    ),
    Claim("sweet-spot", "LRD is ahead at f = 0.4 to 0.6 and lambda = 5e-4 to 5e-3", "paper, 6.1", sweet_spot),
    Claim("upper-right", "L2 succeeds only with much data and strong decay", "paper, 6.1", upper_right),
    Claim("tuned", "LRD needs less data than L2", "paper, abstract; judged against an L2 tuned as well", against_tuned),
    Claim("faster", "LRD accelerates grokking", "paper, 8; judged against an L2 tuned as well", faster(1.0)),
    Claim("much-faster", "LRD accelerates grokking by orders of magnitude", "README", faster(10.0)),
    Claim("collapse", "LRD brings the rank of queries and keys to near one within 500 steps", "README", collapse),
    Claim("precedes", "The rank collapses before the network generalises", "paper, 6.2; README", precedes),
    Claim("sufficient", "Low rank of queries and keys makes the network generalise", "paper, 6.3; README", sufficient),
    Claim("inert", "L2 does not change the spectrum of queries and keys", "paper, 3 and 6.3", inert),
)


def table(evidence: Evidence) -> str:
    """All claims as a Markdown table: claim, source, verdict, effect, basis, and the command that remakes the runs."""
    rows = [["claim", "source", "verdict", "what we measured", "runs", "remake with"], ["---"] * 6]
    for claim, found in findings(evidence):
        verdict, command = f"**{found.verdict}**", f"`{found.command}`"
        rows.append([claim.statement, claim.source, verdict, found.effect, found.basis, command])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cards(evidence: Evidence) -> str:
    """The same as HTML, a block per claim, which fits a phone; the command is folded."""
    blocks = []
    for claim, found in findings(evidence):
        kind = found.verdict.replace(" ", "-")
        blocks.append(
            f'<div class="lrd-claim lrd-{kind}"><p><strong>{found.verdict}</strong> {claim.statement} '
            f"<small>({claim.source})</small></p><p>{found.effect[:1].upper()}{found.effect[1:]}. "
            f"<small>{found.basis}.</small></p>"
            f"<details><summary>Remake these runs</summary><code>{found.command}</code></details></div>"
        )
    return "\n".join(blocks)
