"""What the paper and the first public code's README say about their experiments, each
judged from recorded runs.

A Claim is a statement, its source, and a function that reads runs and returns a Finding: a
verdict, the numbers behind it, how many runs and seeds they are, and the command that
remakes those runs. The rule of each verdict is written in the function that applies it.
Nothing here trains, and no number is typed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lrdlib.evidence.grids import GRIDS
from lrdlib.evidence.phase import (
    Frontier,
    Panel,
    effective_strength,
    frontiers,
    outcome,
    panels,
)
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import NAMES, Run
from lrdlib.training.sweep import expand, recorded

Rules = dict[
    str, tuple[list[TrainConfig], list[Run]]
]  # name -> what is wanted of a rule, and what is recorded
VERDICTS = ("holds", "holds in part", "does not hold", "not settled")
CLEAN = "orbit_clean_accuracy"
SETTING = (
    "task",
    "p",
    "lr",
    "betas",
    "steps",
    "qk_norm",
)  # what two L2 runs share whose strengths are compared


@dataclass(frozen=True)
class Evidence:
    """The wanted configs of each preset of the phase diagram, and the recorded runs of any
    of them."""

    wanted: dict[str, list[TrainConfig]]
    runs: dict[TrainConfig, Run]

    def of(self, preset: str, **fields: object) -> tuple[list[TrainConfig], list[Run]]:
        """The wanted configs of a preset whose fields have these values (or one of a list
        of them), and their runs."""

        def meets(config: TrainConfig) -> bool:
            return all(
                getattr(config, name) in (value if isinstance(value, list) else [value])
                for name, value in fields.items()
            )

        wanted = [config for config in self.wanted[preset] if meets(config)]
        return wanted, [self.runs[config] for config in wanted if config in self.runs]

    def of_all(self, **fields: object) -> tuple[list[TrainConfig], list[Run]]:
        """The same over all presets, each config once."""
        every = [
            config for preset in self.wanted for config in self.of(preset, **fields)[0]
        ]
        wanted = list(dict.fromkeys(every))
        return wanted, [self.runs[config] for config in wanted if config in self.runs]


@dataclass(frozen=True)
class Finding:
    """A verdict, one of VERDICTS; the effect in words and computed numbers; the runs; the
    command that remakes them."""

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
    """The presets, and what `store` holds of them. Raises as
    lrdlib.training.sweep.recorded."""
    wanted = {name: expand(*GRIDS[name]()) for name in ("paper", "published", "fair")}
    every = dict.fromkeys(config for configs in wanted.values() for config in configs)
    return Evidence(wanted, recorded(every, store))


def findings(evidence: Evidence) -> list[tuple[Claim, Finding]]:
    """Every claim with its finding, in the order of CLAIMS."""
    return [(claim, claim.judge(evidence)) for claim in CLAIMS]


# ---- the phase diagram


def wider(preset: str, mode: str) -> Callable[[Evidence], Finding]:
    """LRD succeeds in more cells than L2 and from a smaller fraction on, over one grid.

    Only runs count whose counterpart of the other rule is recorded too. Holds if both do;
    in part if one does. Not settled while less than half of the cells have such a pair, or
    while missing ones could still decide which frontier is lower.
    """

    def judge(evidence: Evidence) -> Finding:
        command = f"python -m lrdlib phase-diagram --preset {preset} --only rule=lrd mode={mode} && "
        command += f"python -m lrdlib phase-diagram --preset {preset} --only rule=l2"
        every = {
            "LRD": evidence.of(preset, rule="lrd", mode=mode),
            "L2": evidence.of(preset, rule="l2"),
        }
        rules = _paired(every)
        if any(not _covered(*rule) for rule in rules.values()):
            return Finding("not settled", _counted(every), _basis(every), command)
        cells = {name: _cells(*rule) for name, rule in rules.items()}
        best = {name: _best(*rule) for name, rule in rules.items()}
        lower = best["LRD"].high < best["L2"].low
        open_yet = not lower and best["LRD"].low < best["L2"].high
        more = cells["LRD"][0] > cells["L2"][0]
        words = "; ".join(
            f"{name} succeeds in {cells[name][0]} of {cells[name][1]} cells, "
            f"{_from(best[name], wanted)}"
            for name, (wanted, _) in rules.items()
        )
        words += f". {_amounts(every, _enough(evidence, every['L2'][0][0]))}"
        return Finding(
            "not settled" if open_yet else _verdict([lower, more]),
            words,
            _basis(rules),
            command,
        )

    return judge


def upper_right(evidence: Evidence) -> Finding:
    """L2 succeeds only at large fractions with strong decay: holds if it succeeds there and
    nowhere else.

    There: f >= 0.6 and lambda >= 5e-3. In part if it succeeds elsewhere too; does not hold
    if nowhere at all.
    """
    wanted, runs = evidence.of("paper", rule="l2")
    corner = [c for c in wanted if c.fraction >= 0.6 and c.weight_decay >= 5e-3]
    there = [evidence.runs[c] for c in corner if c in evidence.runs]
    command = "python -m lrdlib phase-diagram --preset paper --only rule=l2"
    basis = _basis({"L2": (wanted, runs)})
    if not (_covered(wanted, runs) and _covered(corner, there)):
        return Finding("not settled", _counted({"L2": (wanted, runs)}), basis, command)
    inside, outside = _successes(there), _successes(runs) - _successes(there)
    best = max(float(np.nanmax(r.history[CLEAN])) for r in runs)
    words = "L2 succeeds in" if inside + outside else "no L2 run succeeds:"
    words += f" {inside} of {_runs(len(there))} there (f of {min(c.fraction for c in corner):g} and more, lambda of "
    words += f"{min(c.weight_decay for c in corner):g} and more), {outside} of {len(runs) - len(there)} elsewhere; "
    words += f"the best accuracy on orbit-clean pairs is {best:.0%}"
    return Finding(
        _verdict([inside > 0, inside > 0 and outside == 0]), words, basis, command
    )


def sweet_spot(evidence: Evidence) -> Finding:
    """LRD is ahead of L2 at f = 0.4 to 0.6 and lambda = 5e-4 to 5e-3: holds if most of its
    runs there succeed.

    In part if some do and more than L2's. Only runs count whose counterpart of the other
    rule is recorded too.
    """
    box = {
        "fraction": [0.4, 0.45, 0.5, 0.55, 0.6],
        "weight_decay": [5e-4, 1e-3, 5e-3],
        "mode": "independent",
    }
    every = {
        name: evidence.of("paper", rule=rule, **box)
        for rule, name in (("lrd", "LRD"), ("l2", "L2"))
    }
    command = (
        "python -m lrdlib phase-diagram --preset paper --only rule=lrd,l2 mode=independent"
    )
    command += " fraction=0.4,0.45,0.5,0.55,0.6 weight_decay=0.0005,0.001,0.005"
    rules = _paired(every)
    if not all(_covered(*rule, share=1) for rule in rules.values()):
        return Finding("not settled", _counted(every), _basis(every), command)
    share = {name: _share(runs) for name, (_, runs) in rules.items()}
    words = "; ".join(
        f"{name} succeeds in {_successes(runs)} of {_runs(len(runs))}{_strengths(runs)}"
        for name, (_, runs) in rules.items()
    )
    verdict = "holds" if share["LRD"] > 0.5 and share["LRD"] > share["L2"] else None
    return Finding(
        verdict or _verdict([share["LRD"] > share["L2"], False]),
        words,
        _basis(rules),
        command,
    )


def against_tuned(evidence: Evidence) -> Finding:
    """LRD needs less data than an L2 tuned as well: over one range of effective strength,
    at each learning rate.

    Judged on orbit-clean pairs, of runs whose counterpart of the other rule is recorded
    too. Holds if LRD's frontier is below L2's at every learning rate that is recorded, in
    part at some; not settled while no learning rate has both.
    """
    command = "python -m lrdlib phase-diagram --preset fair --only rule=lrd,l2"
    won, words, used = [], [], Rules()
    for lr in sorted({config.lr for config in evidence.wanted["fair"]}):
        rules = _tuned(evidence, lr=lr)
        best = {
            name: _best(wanted, runs, CLEAN)
            for name, (wanted, runs) in rules.items()
            if runs
        }
        if len(best) < 2 or not all(one.settled for one in best.values()):
            continue
        won.append(best["LRD"].high < best["L2"].low)
        parts = [f"{name} {_from(one, rules[name][0])}" for name, one in best.items()]
        words.append(f"at learning rate {lr:g}: " + ", ".join(parts))
        used |= {f"{name}, lr {lr:g}": rule for name, rule in rules.items()}
    if not won:
        basis = _basis({"": evidence.of("fair", rule=["lrd", "l2"])})
        return Finding(
            "not settled", "no learning rate is recorded far enough", basis, command
        )
    return Finding(
        _verdict(won), "; ".join(words) + _rests(evidence, used), _basis(used), command
    )


def faster(factor: float) -> Callable[[Evidence], Finding]:
    """LRD generalises in more than `factor` times fewer steps than an L2 tuned as well.

    Per fraction and learning rate of the fair grid, each rule at the strength whose median
    over seeds is smallest. Holds if the ratio of steps is above `factor` wherever either
    succeeds, in part if the median is. A rule that never succeeds takes for ever. Settings
    count once every strength has a pair of runs, one of either rule.
    """

    def judge(evidence: Evidence) -> Finding:
        command = "python -m lrdlib phase-diagram --preset fair --only rule=lrd,l2"
        ratios, used = [], Rules()
        for lr in sorted({config.lr for config in evidence.wanted["fair"]}):
            for fraction in sorted({config.fraction for config in evidence.wanted["fair"]}):
                rules = _tuned(evidence, lr=lr, fraction=fraction)
                steps = {name: _steps(runs) for name, (_, runs) in rules.items()}
                if (
                    all(_covered(*rule, share=1) for rule in rules.values())
                    and np.isfinite(list(steps.values())).any()
                ):
                    ratios.append(steps["L2"] / steps["LRD"])
                    used |= {
                        f"{name}, f {fraction:g}, lr {lr:g}": rule
                        for name, rule in rules.items()
                    }
        if not ratios:
            words = "no setting has all strengths recorded and a success"
            return Finding(
                "not settled",
                words,
                _basis({"": evidence.of("fair", rule=["lrd", "l2"])}),
                command,
            )
        parts = [all(r > factor for r in ratios), bool(np.median(ratios) > factor)]
        return Finding(
            _verdict(parts),
            _speed(ratios, factor) + _rests(evidence, used),
            _basis(used),
            command,
        )

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
    for preset, place in (("published", "the first code's"), ("paper", "the paper's")):
        wanted, runs = evidence.of(preset, **strong)
        command = f"python -m lrdlib phase-diagram --preset {preset} --only rule=lrd mode=independent"
        command += " weight_decay=0.005,0.01,0.05"
        if _covered(wanted, runs):
            early = [_rank_at(run, 500) for run in runs]
            start = float(np.median([run.history["qk_stable_rank"][0] for run in runs]))
            middle = float(np.median(early))
            words = f"on {place} grid, lambda of {min(c.weight_decay for c in wanted):g} and more: QK stable rank at step "
            words += f"500 of {middle:.1f} in the median, from {start:.0f} at the start; "
            words += f"{min(early):.1f} to {max(early):.1f} over runs, "
            words += f"below 2 in {sum(r < 2 for r in early)} of {len(early)}"
            strengths = {run.config["weight_decay"] for run in runs}
            medians = [
                np.median(
                    [
                        r
                        for run, r in zip(runs, early, strict=True)
                        if run.config["weight_decay"] == s
                    ]
                )
                for s in strengths
            ]
            verdict = "holds" if middle < 2 else _verdict([bool(min(medians) < 2), False])
            return Finding(verdict, words, _basis({"": (wanted, runs)}), command)
    return Finding(
        "not settled",
        "too few runs of either grid are recorded",
        _basis({"": (wanted, runs)}),
        command,
    )


def precedes(evidence: Evidence) -> Finding:
    """In runs that generalise, the QK rank has halved before half of the unseen pairs are
    right.

    Holds if it has in nine of ten runs of LRD and of L2, in part if for one of the two. The
    words say beside it in how many of the runs that never generalise it halves as well, at
    any record: what comes first need not be a cause.
    """
    rules = {NAMES[rule]: evidence.of_all(rule=rule) for rule in ("lrd", "l2")}
    first = {
        name: [_rank_first(r) for r in runs if _reached(r, CLEAN) is not None]
        for name, (_, runs) in rules.items()
    }
    never = {
        name: [_halves(r) for r in runs if _reached(r, CLEAN) is None]
        for name, (_, runs) in rules.items()
    }
    presets = ("paper", "published", "fair")
    command = " && ".join(
        f"python -m lrdlib phase-diagram --preset {name} --only rule=lrd,l2"
        for name in presets
    )
    if not all(first.values()):
        words = f"runs that generalise are recorded of {' and '.join(n for n in first if first[n]) or 'neither rule'}"
        return Finding(
            "not settled", words + " only" * any(first.values()), _basis(rules), command
        )
    words = "in runs that generalise, the QK stable rank is below half of its start at the last record before half of the "
    words += f"orbit-clean pairs are right, in {_parts(first)}"
    words += (
        f"; in runs that never do, it is so at some record in {_parts(never)}"
        if any(never.values())
        else ""
    )
    return Finding(
        _verdict([bool(np.mean(part) >= 0.9) for part in first.values()]),
        words,
        _basis(rules),
        command,
    )


def sufficient(evidence: Evidence) -> Finding:
    """Low QK rank makes a network generalise: judged where low-rank decay is on queries and
    keys alone.

    Holds if nine of ten such runs that end below a quarter of their first rank generalise,
    in part if half do. Not settled while less than half of the cells have a run, or if none
    ends there.
    """
    wanted, runs = evidence.of_all(rule="lrd", select="qk")
    basis = _basis({"": (wanted, runs)})
    command = "python -m lrdlib phase-diagram --preset published --only rule=lrd"
    low = [
        run
        for run in runs
        if run.history["qk_stable_rank"][-1] < run.history["qk_stable_rank"][0] / 4
    ]
    others = [run for run in runs if run not in low]
    if not _covered(wanted, runs):
        return Finding(
            "not settled",
            f"{len(runs)} of this grid's {len(wanted)} runs recorded",
            basis,
            command,
        )
    if not low:
        words = f"none of the {len(runs)} recorded runs ends below a quarter of its first QK stable rank"
        return Finding("not settled", words, basis, command)
    words = f"of the runs that end below a quarter of their first QK stable rank, {_successes(low, CLEAN)} of {len(low)} "
    words += f"generalise{'s' * (_successes(low, CLEAN) == 1)}"
    words += (
        f"; of the others, {_successes(others, CLEAN)} of {len(others)}" if others else ""
    )
    share = _share(low, CLEAN)
    verdict = "holds" if share >= 0.9 else _verdict([share > 0.5, False])
    return Finding(verdict, words, basis, command)


def inert(evidence: Evidence) -> Finding:
    """L2 leaves the spectrum of query and key matrices alone: holds if no fair-grid run
    halves their stable rank.

    In part if only runs do that learn nothing (train accuracy below 50%). The control is
    the paper's grid, where L2 has little time to act.
    """
    wanted, runs = evidence.of("fair", rule="l2")
    command = "python -m lrdlib phase-diagram --preset fair --only rule=l2"
    if len({run.config["weight_decay"] for run in runs}) < 2:
        return Finding(
            "not settled",
            "fewer than two strengths are recorded",
            _basis({"L2": (wanted, runs)}),
            command,
        )
    fell = [
        r
        for r in runs
        if r.history["qk_stable_rank"][-1] < r.history["qk_stable_rank"][0] / 2
    ]
    learnt = [r for r in fell if np.nanmax(r.history["train_accuracy"]) > 0.5]
    words = f"the QK stable rank ends below half of its start in {len(fell)} of {len(runs)} runs"
    words += (
        f", {len(learnt)} of which learn{'s' * (len(learnt) == 1)} more than half of the "
        "training set"
        if fell
        else ""
    )
    words += _weak(*evidence.of("paper", rule="l2"))
    return Finding(
        _verdict([not learnt, not fell]), words, _basis({"L2": (wanted, runs)}), command
    )


# ---- words and counts


def _verdict(parts: Sequence[bool]) -> str:
    """All: holds; some: in part; none: does not."""
    return VERDICTS[0] if all(parts) else VERDICTS[1] if any(parts) else VERDICTS[2]


def _covered(
    wanted: Sequence[TrainConfig], runs: Sequence[Run], share: float = 0.5
) -> bool:
    """Whether at least this share of the cells has a run: seeds beyond the first do not
    count."""
    there = {(run.config["fraction"], run.config["weight_decay"]) for run in runs}
    return len(there) >= share * len(
        {(config.fraction, config.weight_decay) for config in wanted}
    )


def _paired(rules: Rules) -> Rules:
    """The same without the runs whose counterpart of the other rule is not recorded: so
    none has the luckier seeds.

    Counterparts have one fraction, seed and height in the diagram: the first code's L2 has
    ten times the strength of the LRD run at its height.
    """
    heights = {
        name: sorted({config.weight_decay for config in wanted})
        for name, (wanted, _) in rules.items()
    }

    def place(name: str, run: Run) -> tuple[float, int, int]:
        return (
            run.config["fraction"],
            run.config["seed"],
            heights[name].index(run.config["weight_decay"]),
        )

    both = set.intersection(
        *({place(name, run) for run in runs} for name, (_, runs) in rules.items())
    )
    return {
        name: (wanted, [r for r in runs if place(name, r) in both])
        for name, (wanted, runs) in rules.items()
    }


def _tuned(evidence: Evidence, **fields: object) -> Rules:
    """The pairs of runs of LRD and L2 in a part of the fair grid."""
    return _paired(
        {NAMES[rule]: evidence.of("fair", rule=rule, **fields) for rule in ("lrd", "l2")}
    )


def _reached(run: Run, metric: str = "test_accuracy") -> int | None:
    """The step of success, as the phase diagrams count it."""
    return outcome(run, metric).step


def _successes(runs: Iterable[Run], metric: str = "test_accuracy") -> int:
    return sum(_reached(run, metric) is not None for run in runs)


def _share(runs: Sequence[Run], metric: str = "test_accuracy") -> float:
    return _successes(runs, metric) / len(runs)


def _panel(wanted: Sequence[TrainConfig], runs: Sequence[Run]) -> Panel:
    (panel,) = panels(runs, wanted)
    return panel


def _cells(wanted: Sequence[TrainConfig], runs: Sequence[Run]) -> tuple[int, int]:
    """How many cells succeed, those of which more than half of the seeds do, and how many
    have a run."""
    seeds = [cell.agreement() for cell in _panel(wanted, runs).cells if cell.recorded]
    return sum(2 * won > of for won, of in seeds), len(seeds)


def _best(
    wanted: Sequence[TrainConfig], runs: Sequence[Run], metric: str = "test_accuracy"
) -> Frontier:
    """The frontier of the best strength per fraction, of one panel."""
    return frontiers(_panel(wanted, runs), np.random.default_rng(0), metric=metric)[-1]


def _steps(runs: Sequence[Run]) -> float:
    """The smallest, over strengths, median over seeds of the first step above the
    threshold; inf for never."""
    by_strength: dict[float, list[float]] = {}
    for run in runs:
        step = _reached(run, CLEAN)
        by_strength.setdefault(run.config["weight_decay"], []).append(
            np.inf if step is None else step
        )
    return min((float(np.median(steps)) for steps in by_strength.values()), default=np.inf)


def _decay_times(config: TrainConfig) -> float:
    """What decay adds up to over a run: of L2, steps x lr x lambda, in which it takes a
    weight to exp(-that)."""
    return effective_strength(config) * config.steps


def _rank_at(run: Run, step: int) -> float:
    steps = run.history["step"]
    return float(run.history["qk_stable_rank"][int(np.abs(steps - step).argmin())])


def _rank_first(run: Run) -> bool:
    """Whether the QK rank has halved by the last record before half of the unseen pairs are
    right."""
    rank, clean = run.history["qk_stable_rank"], run.history[CLEAN]
    before = max(int((clean > 0.5).argmax()) - 1, 0)
    return bool(rank[before] < rank[0] / 2)


def _halves(run: Run) -> bool:
    """Whether the QK rank is below half of its start at any record."""
    rank = run.history["qk_stable_rank"]
    return bool((rank < rank[0] / 2).any())


# ---- in words


def _from(frontier: Frontier, wanted: Sequence[TrainConfig]) -> str:
    """The frontier in words, with its interval over seeds if there is one."""
    if frontier.low == np.inf:
        return "at no fraction"
    if not frontier.settled and frontier.high == np.inf:  # runs are missing
        return "at no fraction recorded so far"
    bounds = (
        f"{frontier.low:g}"
        if frontier.settled
        else f"{frontier.low:g} to {frontier.high:g}"
    )
    if frontier.high == min(config.fraction for config in wanted):
        bounds += ", the smallest tried"
    if frontier.interval is None:
        return f"from f = {bounds} (one seed)"
    low, high = ("never" if end == np.inf else f"{end:g}" for end in frontier.interval)
    seeds = f"{'' if frontier.complete else 'up to '}{len(frontier.by_seed)} seeds"
    return f"from f = {bounds} ({seeds}{f', {low} to {high}' if low != high else ''})"


def _amounts(rules: Rules, enough: str) -> str:
    """What the strongest decay of either rule adds up to over a run: why one grid may be
    two very different ones."""
    l2, lrd = (max(rules[name][0], key=_decay_times) for name in ("L2", "LRD"))
    words = f"L2's lambda is times the learning rate, so in {l2.steps} steps it has at most {_decay_times(l2):.3g} decay "
    words += f"times (steps × learning rate × lambda){enough}; LRD's is "
    words += (
        "too, so it has"
        if lrd.mode == "decoupled"
        else "not, so it takes"
        if lrd.scale is None
        else "not: it has"
    )
    return (
        words
        + f" at most {_decay_times(lrd):.3g}{' off each singular value' if lrd.scale is None else ''}"
    )


def _enough(evidence: Evidence, like: TrainConfig) -> str:
    """The fewest decay times with which L2 succeeds in the fair grid, at a config's
    setting; empty if with none."""
    runs = evidence.of(
        "fair", rule="l2", **{name: getattr(like, name) for name in SETTING}
    )[1]
    times = [
        _decay_times(TrainConfig(**run.config)) for run in runs if _reached(run) is not None
    ]
    return (
        f", and the fewest with which it succeeds in the fair grid are {min(times):.3g}"
        if times
        else ""
    )


def _strengths(runs: Sequence[Run]) -> str:
    """At which strengths the successes are, and how many of the runs there."""
    by = {
        s: [run for run in runs if run.config["weight_decay"] == s]
        for s in {r.config["weight_decay"] for r in runs}
    }
    parts = [
        f"{s:g} ({_successes(by[s])} of {len(by[s])})"
        for s in sorted(by)
        if _successes(by[s])
    ]
    every = "all " if len(parts) == 1 and _successes(runs) > 1 else ""
    return f", {every}at lambda = {', '.join(parts)}" if parts else ""


def _rests(evidence: Evidence, used: Rules) -> str:
    """Of how much less than the fair grid a verdict is; empty if of all its learning rates
    and seeds."""
    every = [config for wanted, _ in used.values() for config in wanted]
    rates, of = (
        len({config.lr for config in configs})
        for configs in (every, evidence.wanted["fair"])
    )
    runs = [run for _, part in used.values() for run in part]
    if rates == of and len(runs) == len(every):
        return ""
    return f"; this rests on {rates} of {of} learning rates and {_seeds(runs)}"


def _weak(wanted: Sequence[TrainConfig], runs: Sequence[Run]) -> str:
    """The control of `inert`: between which shares of its start the rank stays where L2 is
    weak; empty without runs."""
    if not runs:
        return ""
    shares = np.concatenate(
        [run.history["qk_stable_rank"] / run.history["qk_stable_rank"][0] for run in runs]
    )
    words = f"; on the paper's grid, at {max(map(_decay_times, wanted)):.3g} decay times and fewer, it stays at "
    return (
        words
        + f"{np.nanmin(shares):.0%} to {np.nanmax(shares):.0%} of its start ({_runs(len(runs))})"
    )


def _speed(ratios: Sequence[float], factor: float) -> str:
    """Over how many settings LRD is that much faster, and the ratios of steps."""
    words = (
        f"LRD is {'faster' if factor == 1 else f'more than {factor:g} times as fast'} in "
    )
    words += f"{sum(r > factor for r in ratios)} of {len(ratios)} setting{'s' * (len(ratios) != 1)}; "
    words += f"steps of L2 over steps of LRD: median {np.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
    words += " (0: LRD never succeeds)" if min(ratios) == 0 else ""
    return words + (" (inf: L2 never succeeds)" if max(ratios) == np.inf else "")


def _parts(true: dict[str, list[bool]]) -> str:
    """How many are true of each that has any."""
    parts = (
        f"{sum(part)} of {len(part)} {name} runs ({np.mean(part):.0%})"
        for name, part in true.items()
        if part
    )
    return " and ".join(parts)


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _seeds(runs: Iterable[Run]) -> str:
    seeds = len({run.config["seed"] for run in runs})
    return f"{seeds} seed{'s' * (seeds != 1)}"


def _basis(rules: Rules) -> str:
    """How many of the wanted runs are recorded, over how many seeds."""
    runs = [run for _, part in rules.values() for run in part]
    return f"{len(runs)} of {sum(len(wanted) for wanted, _ in rules.values())} runs, {_seeds(runs)}"


def _counted(rules: Rules) -> str:
    return "; ".join(
        f"{name}: {len(runs)} of {len(wanted)} recorded"
        for name, (wanted, runs) in rules.items()
    )


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


def table(evidence: Evidence) -> str:
    """All claims as a Markdown table: claim, source, verdict, effect, basis, and the
    command that remakes the runs."""
    rows = [
        ["claim", "source", "verdict", "what we measured", "runs", "remake with"],
        ["---"] * 6,
    ]
    for claim, found in findings(evidence):
        verdict, command = f"**{found.verdict}**", f"`{found.command}`"
        rows.append(
            [claim.statement, claim.source, verdict, found.effect, found.basis, command]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cards(evidence: Evidence) -> str:
    """The same as HTML, a block per claim, which fits a phone; the command is folded."""
    blocks = []
    for claim, found in findings(evidence):
        kind = found.verdict.replace(" ", "-")
        blocks.append(
            f'<div class="lrd-claim lrd-{kind}"><p><strong>{found.verdict}</strong> {claim.statement} '
            f"<small>({claim.source})</small></p><p>{found.effect[:1].upper()}{found.effect[1:]}. <small>{found.basis}.</small></p><details><summary>Remake these runs</summary><code>{found.command}</code></details></div>"
        )
    return "\n".join(blocks)
