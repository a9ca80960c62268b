"""What claims are judged with: the recorded runs beside those that are wanted, what is
counted of them, and a finding.

Runs of a grid *succeed* as lrdlib.evidence.phase has it; runs of a study *generalise* as
lrdlib.evidence.studies has it. Two rules are compared over pairs of runs, one of either
rule, so that neither has the luckier seeds, and strengths in *decay times*: what decay
adds up to over a run. Nothing here trains.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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
from lrdlib.evidence.studies import Choice, choices, generalised
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import Run

VERDICTS = ("holds", "holds in part", "does not hold", "undecided", "not recorded yet")
SEEDS_ENOUGH = 3  # a verdict on fewer is provisional
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
    of them; the recorded runs of the studies E0 to E10, `studied`; and runs that are kept
    `whole`, with the final query and key matrices.

    Raises TypeError for anything else, ValueError for a preset without configs or a run
    without one of HISTORIES.
    """

    wanted: dict[str, list[TrainConfig]]
    runs: dict[TrainConfig, Run]
    studied: dict[TrainConfig, Run] = field(default_factory=dict)
    whole: dict[TrainConfig, Run] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = {"runs": self.runs, "studied": self.studied, "whole": self.whole}
        for name, mapping in ({"wanted": self.wanted} | found).items():
            if not isinstance(mapping, dict):
                raise TypeError(f"{name} must be a dict, got {type(mapping).__name__}")
        for preset, configs in self.wanted.items():
            if not isinstance(configs, list) or not configs:
                raise ValueError(
                    f"wanted[{preset!r}] must list configs, got {shown(configs)}"
                )
        for name, config in (
            (name, config)
            for name, some in (
                *found.items(),
                *(("wanted", v) for v in self.wanted.values()),
            )
            for config in some
        ):
            if not isinstance(config, TrainConfig):
                raise TypeError(f"{name} must hold TrainConfigs, got {shown(config)}")
        for name, run in ((name, run) for name, m in found.items() for run in m.values()):
            if not isinstance(run, Run):
                raise TypeError(f"{name} must hold Runs, got {type(run).__name__}")
            if missing := HISTORIES - run.history.keys():
                raise ValueError(
                    f"{name} must hold {sorted(HISTORIES)}, got a Run without "
                    f"{sorted(missing)}"
                )

    @cached_property
    def known(self) -> dict[TrainConfig, float]:
        """T_gen of every run of a study."""
        return {config: generalised(run) for config, run in self.studied.items()}

    @cached_property
    def choices(self) -> dict[str, Choice]:
        """All that tuning has chosen so far, by the study and the arm."""
        return choices(self.known)

    def of(self, preset: str, **fields: Any) -> Part:
        """The configs of a preset whose fields have these values (or one of a list of
        them), and their runs. Raises ValueError for an unknown preset or field."""
        check_choice("preset", preset, tuple(self.wanted))
        return self._part(self.wanted[preset], fields)

    def those(self, configs: Iterable[TrainConfig]) -> Part:
        """These configs of studies, each once, and their runs."""
        wanted = list(dict.fromkeys(configs))
        return Part(wanted, [self.studied[c] for c in wanted if c in self.studied])

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


class Curve(NamedTuple):
    """How a verdict depends on a threshold: of each of the lines, the share of runs at each
    value of `at`. used: the value that the verdict takes; `of`: what it is a value of."""

    of: str
    at: tuple[float, ...]
    lines: dict[str, tuple[float, ...]]
    used: float


@dataclass(frozen=True)
class Finding:
    """A verdict, one of VERDICTS; the effect in words and computed numbers; the runs; the
    command that remakes them.

    note: what goes with the verdict, as "in unequal units". provisional: why the verdict
    may change when more is recorded, "" if it stands. curve: of a verdict that depends on
    a threshold.
    """

    verdict: str
    effect: str
    basis: str
    command: str
    note: str = ""
    provisional: str = ""
    curve: Curve | None = None

    def __post_init__(self) -> None:
        check_choice("verdict", self.verdict, VERDICTS)


def finding(
    verdict: str,
    effect: str,
    used: Iterable[Part],
    command: str,
    *,
    note: str = "",
    provisional: str = "",
    curve: Curve | None = None,
) -> Finding:
    """The Finding whose basis says how many of the wanted runs are recorded, over how many
    seeds.

    It is provisional too where some setting, all but the seed, has runs of fewer than
    SEEDS_ENOUGH seeds, and until all of the wanted runs are recorded: who looks after each
    run finds a difference sooner or later.
    """
    parts = list(used)
    runs = list({id(run): run for part in parts for run in part.runs}.values())
    wanted = len({config for part in parts for config in part.wanted})
    why = [provisional] if provisional else []
    if verdict != "not recorded yet":
        if (few := fewest_seeds(runs)) < SEEDS_ENOUGH:
            whole = few == len({run.config["seed"] for run in runs})
            why.append(f"{counted(few, 'seed')}{'' if whole else ' in some cells'}")
        if len(runs) < wanted:
            why.append(f"{wanted - len(runs)} of its runs are not recorded")
    basis = f"{len(runs)} of {wanted} runs, {seeds_text(runs)}"
    return Finding(verdict, effect, basis, command, note, "; ".join(why), curve)


def fewest_seeds(runs: Iterable[Run]) -> int:
    """The smallest number of seeds that any setting has, all but the seed; 0 without
    runs."""
    seeds: dict[str, set[int]] = {}
    for run in runs:
        setting = repr({name: v for name, v in run.config.items() if name != "seed"})
        seeds.setdefault(setting, set()).add(run.config["seed"])
    return min(map(len, seeds.values()), default=0)


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


def by_strength(runs: Iterable[Run]) -> dict[float, list[Run]]:
    """The runs of each strength, weakest first."""
    groups: dict[float, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.config["weight_decay"]):
        groups.setdefault(run.config["weight_decay"], []).append(run)
    return groups


# ---- what is counted of them


def succeeds(run: Run) -> bool:
    """Whether a run succeeds, as the phase diagrams count it."""
    return outcome(run, TEST).step is not None


def successes(runs: Iterable[Run]) -> int:
    """How many runs succeed."""
    return sum(succeeds(run) for run in runs)


def cells_that_succeed(part: Part) -> tuple[int, int]:
    """How many cells succeed, those of which more than half of the seeds do, and how many
    have a run."""
    (panel,) = panels(part.runs, part.wanted)
    agreements = [cell.agreement() for cell in panel.cells if cell.recorded]
    return sum(2 * won > of for won, of in agreements), len(agreements)


def best_frontier(part: Part) -> Frontier:
    """The frontier of the best strength per fraction."""
    (panel,) = panels(part.runs, part.wanted)
    return frontiers(panel, np.random.default_rng(0), metric=TEST)[-1]


def rank_shares(run: Run) -> np.ndarray:
    """The mean stable rank of the query and key matrices at each record (T,), as a share of
    the first."""
    rank = run.history["qk_stable_rank"]
    return rank / rank[0]


def decay_times(config: TrainConfig) -> float:
    """The decay times N t in a run, steps x the strength of one step: L2 alone takes a
    weight to exp(-N t) of itself."""
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
        f"{sum(some)} of {len(some)} {name} runs ({100 * np.mean(some):.3g}%)"
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
