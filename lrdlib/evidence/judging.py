"""What claims are judged with: the recorded runs beside those that are wanted, what is
counted of them, and a finding.

Runs *succeed* as lrdlib.evidence.phase has it. Two rules are compared over pairs of runs,
one of either rule, so that neither has the luckier seeds, and strengths in *decay times*:
what decay adds up to over a run. Nothing here trains.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lrdlib._check import check_choice, shown
from lrdlib.evidence.phase import (
    Frontier,
    effective_strength,
    frontiers,
    outcome,
    panels,
)
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import NAMES, Run

VERDICTS = ("holds", "holds in part", "does not hold", "not settled")
TEST, CLEAN = "test_accuracy", "orbit_clean_accuracy"
HISTORIES = {TEST, CLEAN, "train_accuracy", "qk_stable_rank"}  # what claims are judged by


class Part(NamedTuple):
    """A part of a grid: the configs that are wanted, and those of their runs that are
    recorded."""

    wanted: list[TrainConfig]
    runs: list[Run]


Rules = dict[str, Part]  # by the rule's name: "LRD", "L2"


@dataclass(frozen=True)
class Evidence:
    """The wanted configs of each preset of the phase diagram, and the recorded runs of any
    of them.

    Raises TypeError for anything else, ValueError for a preset without configs or a run
    without one of HISTORIES.
    """

    wanted: dict[str, list[TrainConfig]]
    runs: dict[TrainConfig, Run]

    def __post_init__(self) -> None:
        for name, mapping in (("wanted", self.wanted), ("runs", self.runs)):
            if not isinstance(mapping, dict):
                raise TypeError(f"{name} must be a dict, got {type(mapping).__name__}")
        for preset, configs in self.wanted.items():
            if not isinstance(configs, list) or not configs:
                raise ValueError(
                    f"wanted[{preset!r}] must list configs, got {shown(configs)}"
                )
        for config in (c for some in (*self.wanted.values(), self.runs) for c in some):
            if not isinstance(config, TrainConfig):
                raise TypeError(
                    f"wanted and runs must hold TrainConfigs, got {shown(config)}"
                )
        for run in self.runs.values():
            if not isinstance(run, Run):
                raise TypeError(f"runs must hold Runs, got {type(run).__name__}")
            if missing := HISTORIES - run.history.keys():
                raise ValueError(
                    f"runs must hold {sorted(HISTORIES)}, got a Run without {sorted(missing)}"
                )

    def of(self, preset: str, **fields: Any) -> Part:
        """The configs of a preset whose fields have these values (or one of a list of
        them), and their runs. Raises ValueError for an unknown preset or field."""
        check_choice("preset", preset, tuple(self.wanted))
        return self._part(self.wanted[preset], fields)

    def of_all(self, **fields: Any) -> Part:
        """The same over all presets, each config once."""
        every = (config for configs in self.wanted.values() for config in configs)
        return self._part(dict.fromkeys(every), fields)

    def _part(self, configs: Iterable[TrainConfig], fields: Mapping[str, Any]) -> Part:
        for name in fields:
            check_choice("fields", name, TrainConfig.__dataclass_fields__)
        values = {name: v if isinstance(v, list) else [v] for name, v in fields.items()}
        wanted = [
            config
            for config in configs
            if all(getattr(config, name) in some for name, some in values.items())
        ]
        return Part(wanted, [self.runs[config] for config in wanted if config in self.runs])


@dataclass(frozen=True)
class Finding:
    """A verdict, one of VERDICTS; the effect in words and computed numbers; the runs; the
    command that remakes them."""

    verdict: str
    effect: str
    basis: str
    command: str

    def __post_init__(self) -> None:
        check_choice("verdict", self.verdict, VERDICTS)


def finding(verdict: str, effect: str, used: Iterable[Part], command: str) -> Finding:
    """The Finding whose basis says how many of the wanted runs are recorded, over how many
    seeds."""
    parts = list(used)
    runs = [run for part in parts for run in part.runs]
    wanted = sum(len(part.wanted) for part in parts)
    return Finding(
        verdict, effect, f"{len(runs)} of {wanted} runs, {seeds_text(runs)}", command
    )


def verdict(*, holds: bool, in_part: bool) -> str:
    """The verdict of a claim that is settled.

    >>> verdict(holds=False, in_part=True)
    'holds in part'
    """
    return "holds" if holds else "holds in part" if in_part else "does not hold"


def remade_by(preset: str, *only: str) -> str:
    """The command that remakes these parts of a preset.

    >>> remade_by("paper", "rule=l2 seed=0")
    'python -m lrdlib phase-diagram --preset paper --only rule=l2 seed=0'
    """
    return " && ".join(
        f"python -m lrdlib phase-diagram --preset {preset} --only {part}" for part in only
    )


# ---- which runs count


def covered(part: Part, share: float = 0.5) -> bool:
    """Whether at least this share of the cells has a run; seeds beyond the first do not
    count."""
    wanted = {(config.fraction, config.weight_decay) for config in part.wanted}
    there = {(run.config["fraction"], run.config["weight_decay"]) for run in part.runs}
    return len(there) >= share * len(wanted)


def paired(rules: Rules) -> Rules:
    """The same without the runs whose counterpart of the other rule is not recorded.

    Counterparts have one fraction, seed and height in the diagram: the first code's L2 has
    ten times the strength of the LRD run at its height.
    """
    heights = {
        name: sorted({config.weight_decay for config in part.wanted})
        for name, part in rules.items()
    }

    def place(name: str, run: Run) -> tuple[float, int, int]:
        height = heights[name].index(run.config["weight_decay"])
        return run.config["fraction"], run.config["seed"], height

    both = set.intersection(
        *({place(name, run) for run in part.runs} for name, part in rules.items())
    )
    return {
        name: Part(part.wanted, [run for run in part.runs if place(name, run) in both])
        for name, part in rules.items()
    }


def tuned_pairs(evidence: Evidence, **fields: Any) -> Rules:
    """The pairs of runs of LRD and L2 in a part of the fair grid."""
    return paired(
        {NAMES[rule]: evidence.of("fair", rule=rule, **fields) for rule in ("lrd", "l2")}
    )


def by_strength(runs: Iterable[Run]) -> dict[float, list[Run]]:
    """The runs of each strength, weakest first."""
    groups: dict[float, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.config["weight_decay"]):
        groups.setdefault(run.config["weight_decay"], []).append(run)
    return groups


# ---- what is counted of them


def succeeds(run: Run, metric: str = TEST) -> bool:
    """Whether a run succeeds, as the phase diagrams count it."""
    return outcome(run, metric).step is not None


def successes(runs: Iterable[Run], metric: str = TEST) -> int:
    """How many runs succeed."""
    return sum(succeeds(run, metric) for run in runs)


def cells_that_succeed(part: Part) -> tuple[int, int]:
    """How many cells succeed, those of which more than half of the seeds do, and how many
    have a run."""
    (panel,) = panels(part.runs, part.wanted)
    agreements = [cell.agreement() for cell in panel.cells if cell.recorded]
    return sum(2 * won > of for won, of in agreements), len(agreements)


def best_frontier(part: Part, metric: str = TEST) -> Frontier:
    """The frontier of the best strength per fraction."""
    (panel,) = panels(part.runs, part.wanted)
    return frontiers(panel, np.random.default_rng(0), metric=metric)[-1]


def fewest_steps(runs: Iterable[Run]) -> float:
    """The smallest, over strengths, median over seeds of the step at which a run succeeds on
    orbit-clean pairs; inf for never."""
    medians = []
    for group in by_strength(runs).values():
        steps = [outcome(run, CLEAN).step for run in group]
        medians.append(np.median([np.inf if step is None else step for step in steps]))
    return float(min(medians, default=np.inf))


def rank_shares(run: Run) -> np.ndarray:
    """The mean stable rank of the query and key matrices at each record (T,), as a share of
    the first."""
    rank = run.history["qk_stable_rank"]
    return rank / rank[0]


def decay_times(config: TrainConfig) -> float:
    """What decay adds up to over a run: of L2, steps x lr x lambda, in which it takes a
    weight to exp(-that)."""
    return effective_strength(config) * config.steps


# ---- in words


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "run"), counted(0, "run")
    ('1 run', '0 runs')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def seeds_text(runs: Iterable[Run]) -> str:
    """How many seeds the runs have."""
    return counted(len({run.config["seed"] for run in runs}), "seed")


def recorded_text(rules: Rules) -> str:
    """How much of each rule is recorded."""
    return "; ".join(
        f"{name}: {len(part.runs)} of {len(part.wanted)} recorded"
        for name, part in rules.items()
    )


def shares_text(flags: Mapping[str, Sequence[bool]]) -> str:
    """Of how many runs of each rule something is true; nothing of a rule without any."""
    return " and ".join(
        f"{sum(some)} of {len(some)} {name} runs ({np.mean(some):.0%})"
        for name, some in flags.items()
        if some
    )


def strengths_text(runs: Iterable[Run]) -> str:
    """At which strengths the successes are, and of how many runs there; "" without any."""
    groups = {s: (successes(group), len(group)) for s, group in by_strength(runs).items()}
    parts = [f"{s:g} ({won} of {of})" for s, (won, of) in groups.items() if won]
    if not parts:
        return ""
    several = sum(won for won, _ in groups.values()) > 1
    return f", {'all ' * (len(parts) == 1 and several)}at lambda = {', '.join(parts)}"


def frontier_text(frontier: Frontier, wanted: Iterable[TrainConfig]) -> str:
    """From which fraction on a rule succeeds, with the interval over seeds if there is
    one."""
    low, high = frontier.low, frontier.high
    if low == np.inf:
        return "at no fraction"
    if high == np.inf:  # while runs are missing
        return "at no fraction recorded so far"
    bounds = f"{low:g}" if frontier.settled else f"{low:g} to {high:g}"
    if high == min(config.fraction for config in wanted):
        bounds += ", the smallest tried"
    if frontier.interval is None:
        return f"from f = {bounds} (one seed)"
    first, last = ("never" if end == np.inf else f"{end:g}" for end in frontier.interval)
    interval = f", {first} to {last}" if first != last else ""
    up_to = "" if frontier.complete else "up to "
    return f"from f = {bounds} ({up_to}{len(frontier.by_seed)} seeds{interval})"


def shortfall_text(used: Sequence[Part], grid: Collection[TrainConfig]) -> str:
    """Of how much less than a grid a verdict is; "" if of all its learning rates and
    seeds."""
    wanted = [config for part in used for config in part.wanted]
    runs = [run for part in used for run in part.runs]
    rates, of = (len({config.lr for config in some}) for some in (wanted, grid))
    if rates == of and len(runs) == len(wanted):
        return ""
    return f"; this rests on {rates} of {of} learning rates and {seeds_text(runs)}"
