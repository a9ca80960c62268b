"""Runs that were recorded on a GPU, held against this library on this machine's CPU.

The first steps of a run must be the same to rounding (TF32 keeps 10 bits in forward and
backward). Later the training amplifies rounding until two machines differ as two seeds do;
then it is the distribution over seeds that must agree.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lrdlib._check import check_integer
from lrdlib.evidence.results import label
from lrdlib.evidence.studies import (
    MORE_TUNING,
    SEEDS,
    TUNING,
    arm,
    first_choice,
    generalised,
)
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import Run
from lrdlib.training.train import train

COMPARED = ("train_loss", "qk_stable_rank", "vo_stable_rank", "weight_norm_mlp")
EARLY, LATE = 2e-2, 0.5  # the largest relative differences at lr up to 3e-3, and above
# what is remade whole: L2 on all and on the blocks, LRD alone and with L2 on the rest
WHOLE_ARMS, WHOLE_SEEDS, WHOLE_AT = ("A1", "A2", "A4", "A5"), SEEDS[:6], 0.4


@dataclass(frozen=True)
class Agreement:
    """One run, recorded and remade: the largest relative difference of each of COMPARED
    over the records up to `steps`; NaN where one of them is NaN, as of a run that has
    diverged."""

    arm: str
    fraction: float
    seed: int
    lr: float
    steps: int
    apart: dict[str, float]

    @property
    def agrees(self) -> bool:
        """Whether all are within what TF32 and so many steps at this learning rate allow.
        NaN is within nothing."""
        limit = EARLY if self.lr <= 3e-3 else LATE
        return all(x <= limit for x in self.apart.values())


def one_of_each_arm(runs: Iterable[TrainConfig]) -> list[TrainConfig]:
    """One config of each arm that is judged: all that differ in more than seed and
    fraction."""
    arms: dict[TrainConfig, TrainConfig] = {}
    judged = [c for c in runs if c.seed not in TUNING + MORE_TUNING]
    for config in sorted(judged, key=lambda c: (c.seed, -c.fraction)):
        arms.setdefault(replace(config, seed=0, fraction=0.5), config)
    return list(arms.values())


def first_steps(config: TrainConfig, run: Run, steps: int = 100) -> Agreement:
    """Train the run's first steps again, here, and compare its records.

    Raises TypeError or ValueError unless steps is an integer of at least eval_every.
    """
    check_integer("steps", steps, at_least=config.eval_every)
    records = list(train(replace(config, steps=min(steps, config.steps))))
    at = {int(step): i for i, step in enumerate(run.history["step"])}
    both = [(record, at[record.step]) for record in records if record.step in at]
    apart = {
        name: float(  # of np.max, as max() passes over a NaN
            np.max(
                [
                    abs(float(record.metrics[name]) / float(run.history[name][i]) - 1)
                    for record, i in both
                ]
            )
        )
        for name in COMPARED
    }
    return Agreement(label(config), config.fraction, config.seed, config.lr, steps, apart)


def whole_runs(runs: Mapping[TrainConfig, Run]) -> list[TrainConfig]:
    """The runs to remake whole, seed after seed: each of WHOLE_ARMS as E1's first tuning
    chose it. Those are left out whose arm's tuning, or which themselves, `runs` lacks."""
    known = {config: generalised(run) for config, run in runs.items()}
    chosen = [first_choice(name, known) for name in WHOLE_ARMS]
    wanted = [
        arm(trial, fraction=WHOLE_AT, seed=seed)
        for seed in WHOLE_SEEDS
        for trial in chosen
        if trial is not None
    ]
    return [config for config in wanted if config in runs]


@dataclass(frozen=True)
class Distribution:
    """T_gen of an arm's runs as recorded and as remade, in the order of their seeds."""

    arm: str
    fraction: float
    recorded: list[float]
    remade: list[float]
    p: float


def distributions(
    recorded: Mapping[TrainConfig, Run], remade: Mapping[TrainConfig, Run]
) -> list[Distribution]:
    """Of each arm that has been remade: T_gen of both, cut at the last step, and the p of
    the two-sided Mann-Whitney test that they differ (scipy)."""
    from scipy.stats import mannwhitneyu

    groups: dict[TrainConfig, list[TrainConfig]] = {}
    for config in remade:
        if config in recorded:
            groups.setdefault(replace(config, seed=0), []).append(config)
    found = []
    for shared, configs in groups.items():
        configs.sort(key=lambda c: c.seed)
        pair = [
            [min(generalised(runs[c]), c.steps) for c in configs]
            for runs in (recorded, remade)
        ]
        p = 1.0 if len(set(np.ravel(pair))) == 1 else float(mannwhitneyu(*pair).pvalue)
        found.append(Distribution(label(shared), shared.fraction, pair[0], pair[1], p))
    return found
