"""The studies E0 to E10 as data: which runs each asks for, and the rule that chooses.

A study is a function of what is known so far, `known`: the step T_gen at which each
recorded run generalises, inf for never. It returns the runs that it asks for, in the order
of their worth. What depends on a choice by tuning runs comes only when these are known; so
a study is run by asking again until nothing is missing, and goes on from any store:

    configs = STUDIES["E1"].configs(known)

Strength is t, per step; lambda = t / lr (mode "decoupled"). Tuning seeds never judge. The
rules were written before the runs; what has been changed since is in CHANGES.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrdlib._check import check_choice
from lrdlib.evidence.grids import published
from lrdlib.evidence.survival import CONFIRMED, GENERALISED, confirmed_step
from lrdlib.training.config import TrainConfig
from lrdlib.training.packs import load_runs
from lrdlib.training.runs import Run
from lrdlib.training.store import checked_path
from lrdlib.training.sweep import expand

Known = Mapping[TrainConfig, float]

STEPS = 3000
BASE: dict[str, Any] = {"steps": STEPS, "eval_every": 50, "mode": "decoupled"}
OUTCOME = "orbit_clean_accuracy"
JUDGED_BY = {OUTCOME, "qk_stable_rank", "vo_stable_rank"}  # metrics of a study's runs
TUNING, MORE_TUNING = (500, 501), (502, 503)
SEEDS = tuple(range(1000, 1020))
FRACTIONS = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
TUNED_AT = (0.25, 0.4)  # the fractions of tuning runs
RATES = (1e-3, 3e-3, 1e-2)
STRENGTHS = (3e-3, 6e-3, 1.2e-2, 2.5e-2, 5e-2, 1e-1)
FURTHER = (0.2, 0.4)  # strengths added when a choice lay at the grid's edge
LEADING = 4  # trials of each arm that get MORE_TUNING
TIE = 1.05  # RMSTs within this ratio are equal; the smaller strength is taken
ARMS = {
    "A1": "L2 on all",
    "A2": "L2 on the blocks",
    "A3": "L2 on all but the blocks",
    "A4": "LRD on the blocks",
    "A5": "LRD on the blocks, L2 on the rest",
    "A6": "elastic, half each",
}
CHANGES = (
    "2026-11-27: E1's grid got strengths 0.2 and 0.4 at learning rates 1e-3 and 3e-3 for "
    "all arms, after A4's choice lay at its edge; the four leading trials of each arm got "
    "seeds 502 and 503, after two seeds had chosen noisily; a choice per fraction is "
    "reported beside the common one.",
    "2026-11-28: E2's parts of which no tuning run generalises are judged at strength 0.005 "
    "too, at which their tuning runs came furthest: among failures the rule for ties had "
    "taken the smallest strength, which is no choice.",
    "2026-11-28: an arm whose later choice is its first one is judged on all seeds that it "
    "shares with the other arms, not on eight; written before any such choice was known.",
    "2026-11-28: E1 judges L2 on all and on the blocks also at what the first tuning runs "
    "choose if accuracy has to stay for four records in a row (LRD's choice is the same), at "
    "the fractions of tuning, on eight seeds: written after the verdicts had been seen to "
    "turn with that number, before any judging run of these.",
)


class Trial(NamedTuple):
    """An arm at a learning rate and a strength."""

    arm: str
    lr: float
    t: float


Wanted = dict[Trial, list[TrainConfig]]  # trials, and the runs that choose among them


def made(fields: Mapping[str, Any]) -> TrainConfig:
    """The config of these fields. Each is made once: a study is asked again and again."""
    return _made(tuple(fields.items()))


@cache
def _made(fields: tuple[tuple[str, Any], ...]) -> TrainConfig:
    return TrainConfig(**dict(fields))


def arm(trial: Trial, **fields: Any) -> TrainConfig:
    """The config of a trial.

    >>> arm(Trial("A1", 1e-3, 3e-3), fraction=0.4).weight_decay
    3.0
    """
    check_choice("arm", trial.arm, ARMS)
    strength = weight_decay(trial.t, trial.lr)
    rest = {
        "A1": {"rule": "l2", "weight_decay": strength},
        "A2": {"rule": "l2", "weight_decay": strength, "l2_on": "selected"},
        "A3": {"rule": "lrd", "weight_decay": 0.0, "l2": strength},
        "A4": {"rule": "lrd", "weight_decay": strength},
        "A5": {"rule": "lrd", "weight_decay": strength, "l2": strength},
        "A6": {"rule": "elastic", "weight_decay": strength / 2, "l2": strength / 2},
    }[trial.arm]
    return made(BASE | rest | {"lr": trial.lr} | fields)


def weight_decay(t: float, lr: float) -> float:
    """lambda = t / lr, to six digits.

    >>> weight_decay(0.0025, 1e-3)
    2.5
    """
    return float(f"{t / lr:.6g}")


def studied(folder: str | Path) -> dict[TrainConfig, Run]:
    """All runs of the studies in the files of the folder; none if there is no such folder.
    Raises TypeError for anything but a path, and as `packed`."""
    found: dict[TrainConfig, Run] = {}
    for path in sorted(checked_path("folder", folder).glob("*.npz")):
        found |= packed(path)
    return found


def packed(path: Path) -> dict[TrainConfig, Run]:
    """The runs of a file by their configs. Raises as load_runs, and ValueError for runs
    that no study can judge."""
    runs = load_runs(path)
    if lacking := JUDGED_BY - runs[0].history.keys():
        raise ValueError(
            f"{str(path)!r} must hold runs of a study, got some without "
            f"{', '.join(sorted(lacking))}"
        )
    return {TrainConfig(**run.config): run for run in runs}


def generalised(run: Run, records: int = CONFIRMED) -> float:
    """T_gen of a run: the first record with OUTCOME above GENERALISED that the next record
    confirms, or so many `records` in a row; inf for never."""
    history = run.history
    return confirmed_step(history["step"], history[OUTCOME], GENERALISED, records)


def mean_time(configs: Iterable[TrainConfig], known: Known) -> float:
    """RMST: the mean of min(T_gen, steps) over the runs, all of which are known."""
    return float(np.mean([min(known[c], c.steps) for c in configs]))


def smallest(scores: Mapping[Trial, float]) -> Trial:
    """The trial of the smallest score; of those within TIE, the one of the smallest
    strength, and of these the best.

    >>> smallest({Trial("A1", 1e-3, 0.1): 100.0, Trial("A1", 1e-3, 0.05): 104.0}).t
    0.05
    """
    best = min(scores.values())
    ties = [trial for trial, score in scores.items() if score <= TIE * best]
    return min(ties, key=lambda trial: (trial.t, scores[trial]))


def best(wanted: Wanted | None, known: Known) -> Trial | None:
    """The trial of the smallest mean_time over its runs, as `smallest` has it; None until
    all of them are known."""
    if wanted is None or not all(c in known for c in runs_in(wanted)):
        return None
    return smallest({trial: mean_time(configs, known) for trial, configs in wanted.items()})


def runs_in(wanted: Wanted) -> list[TrainConfig]:
    """The runs of all trials."""
    return [config for configs in wanted.values() for config in configs]


# ---- E1: tuned against tuned


def trials(name: str, *, further: bool) -> list[Trial]:
    """All trials of an arm, of the first grid or with what was added to it."""
    first = [Trial(name, lr, t) for lr, t in product(RATES, STRENGTHS)]
    added = [Trial(name, lr, t) for lr, t in product(RATES[:2], FURTHER)]
    return first + added if further else first


def tuning(trial: Trial, seeds: Sequence[int]) -> list[TrainConfig]:
    """The tuning runs of a trial over these seeds."""
    return [arm(trial, fraction=f, seed=s) for f, s in product(TUNED_AT, seeds)]


def first_trials(name: str, *, further: bool = False) -> Wanted:
    """An arm's trials, and their runs of the first tuning seeds."""
    return {trial: tuning(trial, TUNING) for trial in trials(name, further=further)}


def leading(name: str, known: Known) -> list[Trial] | None:
    """The LEADING trials of an arm over the first tuning seeds; None until all are known."""
    wanted = first_trials(name, further=True)
    if not all(c in known for c in runs_in(wanted)):
        return None
    return sorted(wanted, key=lambda t: (mean_time(wanted[t], known), t.t))[:LEADING]


def later_trials(name: str, known: Known, fraction: float | None = None) -> Wanted | None:
    """An arm's leading trials, and their runs of all tuning seeds, at one fraction or both;
    None until it is known which lead."""
    ahead = leading(name, known)
    if ahead is None:
        return None
    asked = {trial: tuning(trial, TUNING + MORE_TUNING) for trial in ahead}
    return {
        trial: [c for c in configs if fraction in (None, c.fraction)]
        for trial, configs in asked.items()
    }


def first_choice(name: str, known: Known) -> Trial | None:
    """What the first grid chose over the first tuning seeds; None until all are known."""
    return best(first_trials(name), known)


def choice(name: str, known: Known, fraction: float | None = None) -> Trial | None:
    """The arm's choice among the trials that lead, over all tuning seeds and both
    fractions, or at one fraction; None until what it rests on is known."""
    return best(later_trials(name, known, fraction), known)


def tuned_against_tuned(known: Known) -> list[TrainConfig]:
    """E1: tuning, then the first choice over all of SEEDS, then the later choice over
    eight, the choice per fraction, and what is tuned to stay."""
    asked = [
        c for name in ARMS for t in trials(name, further=True) for c in tuning(t, TUNING)
    ]
    confirming: list[TrainConfig] = []
    for name in ARMS:
        for trial in leading(name, known) or ():
            asked += tuning(trial, MORE_TUNING)
        first, later = first_choice(name, known), choice(name, known)
        for chosen, seeds in ((first, SEEDS), (later, SEEDS[:8])):
            if chosen is not None:
                confirming += [
                    arm(chosen, fraction=f, seed=s) for s, f in product(seeds, FRACTIONS)
                ]
        for f in TUNED_AT:
            if (own := choice(name, known, f)) is not None:
                confirming += [arm(own, fraction=f, seed=s) for s in SEEDS[:8]]
    return asked + sorted(confirming, key=lambda c: c.seed) + tuned_to_stay(known)


STAYING = 4  # records in a row that LASTING asks for
LASTING = (Trial("A1", 1e-2, 6e-3), Trial("A2", 1e-2, 1.2e-2), Trial("A4", 3e-3, 0.1))


def tuned_to_stay(known: Known) -> list[TrainConfig]:
    """What the first tuning runs choose, of all trials, if accuracy has to stay for STAYING
    records in a row: at the fractions of tuning, on eight seeds; none of an arm until its
    first choice is known.

    `known` has T_gen by two records, so that LASTING stands as data; a test holds it
    against the recorded runs.
    """
    return [
        arm(trial, fraction=f, seed=s)
        for trial, s, f in product(LASTING, SEEDS[:8], TUNED_AT)
        if first_choice(trial.arm, known) is not None
    ]


# ---- E2: which part of the step acts

PARTS: dict[str, dict[str, Any]] = {
    "R+T": {"rule": "lrd"},
    "R": {"rule": "lrd", "part": "radial"},
    "T": {"rule": "lrd", "part": "tangential"},
    "T-held": {"rule": "lrd", "part": "tangential", "hold": "norm"},
    "R+T-held": {"rule": "lrd", "hold": "norm"},
    "L2b": {"rule": "l2", "l2_on": "selected"},
}
PART_STRENGTHS = (2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2)
PART_AT = (0.3, 0.4, 0.5)  # fractions at which the parts are judged
AGAIN = 5e-3  # at which the tuning runs of T, T-held and R+T-held came furthest


def part(name: str, t: float, **fields: Any) -> TrainConfig:
    """The config of one of PARTS at strength t, lr 1e-3."""
    own = {"weight_decay": weight_decay(t, 1e-3), "lr": 1e-3}
    return made(BASE | PARTS[name] | own | fields)


def part_trials(name: str) -> Wanted:
    """The trials of one of PARTS, and their tuning runs."""
    return {
        Trial(name, 1e-3, t): [part(name, t, fraction=0.4, seed=s) for s in TUNING]
        for t in PART_STRENGTHS
    }


def part_choice(name: str, known: Known) -> float | None:
    """The strength chosen for one of PARTS; None until its tuning runs are known."""
    trial = best(part_trials(name), known)
    return None if trial is None else trial.t


def none(**fields: Any) -> TrainConfig:
    """AdamW alone."""
    return made(BASE | {"rule": "none", "weight_decay": 0.0} | fields)


def parts_of_the_step(known: Known) -> list[TrainConfig]:
    """E2: each part at the strength that tuning chose, and norms held without decay; then
    at AGAIN what no tuning run generalises with."""
    asked = [
        part(name, t, fraction=0.4, seed=s)
        for name, t, s in product(PARTS, PART_STRENGTHS, TUNING)
    ]
    cells = list(product(SEEDS[:8], PART_AT))
    for s, f in cells:
        chosen = {name: part_choice(name, known) for name in PARTS}
        asked += [
            part(name, t, fraction=f, seed=s) for name, t in chosen.items() if t is not None
        ]
        asked.append(none(hold="norm", fraction=f, seed=s))
    failing = [
        name
        for name in PARTS
        if all(known.get(c, 0) == math.inf for c in runs_in(part_trials(name)))
    ]
    return asked + [
        part(name, AGAIN, fraction=f, seed=s) for (s, f), name in product(cells, failing)
    ]


# ---- E3 to E6


CAPS = (1, 2, 4, 16)  # ranks of queries and keys


def queries_and_keys(known: Known) -> list[TrainConfig]:
    """E3: attention uniform, or frozen at the start, or queries and keys kept flat, then
    cut to each of CAPS; no decay, and A1 and A4 at E1's first choice."""
    changes: list[dict[str, Any]] = [
        {"attention": "uniform"},
        {"attention": "frozen"},
        {"rank": "flat"},
    ]
    trials = [first_choice(name, known) for name in ("A1", "A4")]
    asked = [none(fraction=0.4, seed=s) for s in SEEDS[:8]]
    for several in (changes, [{"rank": r} for r in CAPS]):
        asked += [
            none(fraction=0.4, seed=s, **change) for change in several for s in SEEDS[:8]
        ]
        asked += [
            arm(trial, fraction=0.4, seed=s, **change)
            for trial, change, s in product(trials, several, SEEDS[:8])
            if trial is not None
        ]
    return asked


LONG_AT = (0.4, 0.6)  # fractions of E4


def trapped_or_late(known: Known) -> list[TrainConfig]:
    """E4: weak L2 over 30,000 steps."""
    long = {"steps": 30_000, "eval_every": 250}
    rules = [{"rule": "l2", "weight_decay": w} for w in (1.0, 0.3, 0.1, 0.05, 0.01, 0.001)]
    rules.append({"rule": "none", "weight_decay": 0.0})
    return [
        made(BASE | long | rule | {"fraction": f, "seed": s})
        for s, f, rule in product(SEEDS[:3], LONG_AT, rules)
    ]


def after_memorisation(known: Known) -> list[TrainConfig]:
    """E5: decay from 500 steps after memorising, the optimiser's step scaled from then."""
    asked = []
    for late, s in product((1.0, 0.1, 0.0), SEEDS[:6]):
        fields = {"fraction": 0.4, "seed": s, "decay_after": 500, "late_gradient": late}
        asked.append(none(**fields))
        for name in ("A1", "A2", "A4", "A5"):
            if (trial := choice(name, known)) is not None:
                asked.append(arm(trial, **fields))
                if name == "A4":
                    asked.append(arm(trial, select="qk", **fields))
    return asked


PLACES = ("qk", "mlp", "vo", "embedding+head", "vo+mlp", "qk+vo")


def where_it_must_act(known: Known) -> list[TrainConfig]:
    """E6: L2 and LRD on some of the matrices alone, lr 1e-3."""

    def one(place: str, rule: str, t: float, s: int) -> TrainConfig:
        fields: dict[str, Any] = {"fraction": 0.4, "seed": s, "select": place}
        fields |= {"rule": rule, "weight_decay": weight_decay(t, 1e-3)}
        fields |= {"l2_on": "selected"} if rule == "l2" else {}
        return made(BASE | fields)

    single = product(PLACES[:3], ("l2", "lrd"), (1e-2, 3e-2), SEEDS[:6])
    pairs = product(PLACES[3:], ("l2", "lrd"), (3e-2,), SEEDS[:6])
    return [one(*point) for point in (*single, *pairs)]


# ---- E7: the effective learning rate

# A1's first choice, and |W_0| / |W| of all its queries and keys together at each record:
# the geometric mean over the eight runs recorded of it at f = 0.4. AdamW's steps are of one
# length, so that a scale-invariant W turns by lr / |W|: at the norm |W_0| these factors of
# lr turn it as decay's falling norms do. Written on 2026-11-28, before any run of E7.
RATED = Trial("A1", 1e-2, 1.2e-2)
QK_RATES = (
    *(1.0, 1.35, 1.4, 1.28, 1.37, 1.59, 1.89, 2.15, 2.18, 2.54, 3.17, 2.18, 2.43, 2.56),
    *(2.85, 2.49, 2.62, 2.37, 2.47, 2.49, 2.49, 2.36, 2.39, 2.4, 2.33, 2.51, 2.46, 2.4),
    *(2.26, 2.24, 2.29, 2.28, 2.33, 2.25, 2.18, 2.28, 2.35, 2.2, 2.38, 2.28, 2.23, 2.12),
    *(2.21, 2.24, 2.27, 2.18, 2.24, 2.18, 2.19, 2.15, 2.12, 2.08, 2.07, 2.08, 2.09, 2.09),
    *(2.07, 2.01, 2.04, 2.03, 2.02),
)


def effective_rate(known: Known) -> list[TrainConfig]:
    """E7: A1's first choice with queries and keys held at their first norm, lr constant,
    then lr by QK_RATES. Without either it is in E1."""
    schedules: list[dict[str, Any]] = [{}, {"qk_rates": QK_RATES}]
    return [
        arm(RATED, fraction=0.4, seed=s, hold="qk", **rates)
        for rates, s in product(schedules, SEEDS[:8])
    ]


# ---- E8 to E10

OTHER_TASKS = ("mul", "sub")
OTHER_ARMS = ("A1", "A2", "A4", "A5")
OTHER_STRENGTHS = (1.2e-2, 2.5e-2, 1e-1)


def task_trials(task: str, name: str) -> Wanted:
    """The trials of an arm on another task, lr 3e-3, and their tuning runs."""
    seeds = (*TUNING, MORE_TUNING[0])
    several = [Trial(name, 3e-3, t) for t in OTHER_STRENGTHS]
    return {
        trial: [arm(trial, task=task, fraction=0.4, seed=s) for s in seeds]
        for trial in several
    }


def elsewhere(known: Known) -> list[TrainConfig]:
    """E8: other tasks: three strengths on three tuning seeds, then three seeds at the
    best."""
    asked, confirming = [], []
    for task, name in product(OTHER_TASKS, OTHER_ARMS):
        wanted = task_trials(task, name)
        asked += runs_in(wanted)
        if (trial := best(wanted, known)) is not None:
            confirming += [arm(trial, task=task, fraction=0.4, seed=s) for s in SEEDS[:3]]
    return asked + confirming


OPTIMISERS = {"sgd": (0.03, 0.1, 0.3), "muon": (1e-3, 3e-3)}  # and their learning rates
OPTIMISED = ("none", "A1", "A4")
OPTIMISER_STRENGTHS = (6e-3, 2.5e-2, 1e-1)


def optimiser_trials(optimizer: str, name: str) -> Wanted:
    """The trials of one of OPTIMISED with another optimiser, and their tuning runs."""
    strengths = OPTIMISER_STRENGTHS if name != "none" else (0.0,)
    several = [Trial(name, *point) for point in product(OPTIMISERS[optimizer], strengths)]
    return {trial: [_optimised(trial, optimizer, s) for s in TUNING] for trial in several}


def other_optimisers(known: Known) -> list[TrainConfig]:
    """E9: SGD with momentum and Muon; none, L2 on all and LRD, each tuned on two seeds."""
    asked, confirming = [], []
    for optimizer, name in product(OPTIMISERS, OPTIMISED):
        wanted = optimiser_trials(optimizer, name)
        asked += runs_in(wanted)
        if (trial := best(wanted, known)) is not None:
            confirming += [_optimised(trial, optimizer, s) for s in SEEDS[:4]]
    return asked + confirming


def _optimised(trial: Trial, optimizer: str, seed: int) -> TrainConfig:
    """A trial of E9, with arm "none" for no decay."""
    fields = {"fraction": 0.4, "seed": seed, "optimizer": optimizer}
    if trial.arm == "none":
        return none(lr=trial.lr, **fields)
    return arm(trial, **fields)


def heads_by_themselves(known: Known) -> list[TrainConfig]:
    """E10: LRD per head, at E2's setting and at A4's choice; whole matrices are in E1 and
    E2."""
    asked = [
        part("R+T", 2e-2, fraction=f, seed=s, per_head=True)
        for s, f in product(SEEDS[:8], (0.3, 0.4, 0.5))
    ]
    if (trial := choice("A4", known)) is not None:
        asked += [
            arm(trial, fraction=f, seed=s, per_head=True)
            for s, f in product(SEEDS[:8], TUNED_AT)
        ]
    return asked


# ---- E0: the first public code's own setting


def the_first_code(known: Known) -> list[TrainConfig]:
    """E0: its 6 x 6 grid for L2 and LRD, with its initial scale and its decay of gains, as
    lrdlib.evidence.grids.published has it; L2 and LRD of one height side by side."""
    lrd, l2 = (
        sorted(expand(block), key=lambda c: (c.seed, c.fraction, c.weight_decay))
        for block in published()
    )
    return [config for pair in zip(l2, lrd, strict=True) for config in pair]


# ---- all of them


class Choice(NamedTuple):
    """What tuning has chosen, the tuning runs that this rests on, all trials that there
    were, and whether any of the runs generalises. If none does all trials tie, and the
    smallest strength is taken, by the rule; nothing has been chosen then."""

    trial: Trial
    runs: list[TrainConfig]
    tried: list[Trial]
    any_generalises: bool = True

    def edges(self) -> list[str]:
        """At which edges of what was tried the choice lies: a strength beside those tried
        at its learning rate, a learning rate beside all. What has one value has no edge,
        nor has a tie of trials of which no run generalises.

        >>> tried = [Trial("A1", 1e-3, t) for t in (0.1, 0.2, 0.4)]
        >>> Choice(tried[0], [], tried).edges(), Choice(tried[1], [], tried).edges()
        (['smallest strength'], [])
        """
        if not self.any_generalises:
            return []
        beside = {
            "strength": (self.trial.t, {x.t for x in self.tried if x.lr == self.trial.lr}),
            "learning rate": (self.trial.lr, {x.lr for x in self.tried}),
        }
        return [
            f"{word} {what}"
            for what, (value, values) in beside.items()
            for word, end in (("smallest", min(values)), ("largest", max(values)))
            if len(values) > 1 and value == end
        ]


def choices(known: Known) -> dict[str, Choice]:
    """All that tuning has chosen so far, by the study and the arm."""
    rules: dict[str, Wanted | None] = {}
    for name in ARMS:
        rules[f"E1 first {name}"] = first_trials(name)
        rules[f"E1 {name}"] = later_trials(name, known)
        rules |= {f"E1 {name} f={f:g}": later_trials(name, known, f) for f in TUNED_AT}
    rules |= {f"E2 {name}": part_trials(name) for name in PARTS}
    for task, name in product(OTHER_TASKS, OTHER_ARMS):
        rules[f"E8 {task} {name}"] = task_trials(task, name)
    for optimizer, name in product(OPTIMISERS, OPTIMISED):
        rules[f"E9 {optimizer} {name}"] = optimiser_trials(optimizer, name)
    found = {}
    for key, wanted in rules.items():
        if wanted is not None and (trial := best(wanted, known)) is not None:
            rest, tried = runs_in(wanted), list(wanted)
            if key.startswith("E1 A"):  # and which trials lead
                first = first_trials(trial.arm, further=True)
                rest, tried = rest + runs_in(first), list(first)
            some = any(known[c] < c.steps for c in rest)
            found[key] = Choice(trial, list(dict.fromkeys(rest)), tried, some)
    return found


@dataclass(frozen=True)
class Study:
    """A question, and the runs that it asks for given what is known."""

    question: str
    configs: Callable[[Known], list[TrainConfig]]


STUDIES = {
    "E0": Study("is `published` the first code's setting?", the_first_code),
    "E1": Study("tuned against tuned: less data, or faster?", tuned_against_tuned),
    "E2": Study("which part of the step acts?", parts_of_the_step),
    "E3": Study("are queries and keys the cause?", queries_and_keys),
    "E4": Study("is weak L2 trapped, or late?", trapped_or_late),
    "E5": Study("what does decay do after memorisation?", after_memorisation),
    "E6": Study("where must decay act?", where_it_must_act),
    "E7": Study("is it the effective learning rate of Q and K?", effective_rate),
    "E8": Study("does it hold on other tasks?", elsewhere),
    "E9": Study("does it hold with other optimisers?", other_optimisers),
    "E10": Study("per head, or whole matrices?", heads_by_themselves),
}
# what to run first
WORTH = ("E1", "E6", "E5", "E10", "E8", "E9", "E4", "E7", "E2", "E3", "E0")


def asked_by(names: Iterable[str], known: Known) -> list[TrainConfig]:
    """What these studies ask for so far, each run once."""
    every: dict[TrainConfig, None] = {}
    for name in names:
        check_choice("study", name, STUDIES)
        every |= dict.fromkeys(STUDIES[name].configs(known))
    return list(every)


def missing(names: Iterable[str], known: Known) -> list[TrainConfig]:
    """What these studies ask for and is not known, each run once."""
    return [config for config in asked_by(names, known) if config not in known]
