"""Low-Rank Decay for scale-invariant transformers: the public names, nothing else."""

from lrdlib.decay import (
    frobenius_decay_,
    low_rank_decay_,
    proximal_decay_,
    weight_decay_to_halve,
)
from lrdlib.geometry import (
    euler_defect,
    fan_dimension,
    in_subdifferential,
    project_subdifferential,
    radial_tangential,
    scale_defect,
    scale_defects,
)
from lrdlib.matrices import select
from lrdlib.model import ModelConfig, forward, init_params, stack_params
from lrdlib.optimizer import LowRankDecay
from lrdlib.polar import polar_express_coefficients, polar_factor, response
from lrdlib.spectral import (
    effective_rank,
    half_time,
    nuclear_norm,
    numerical_rank,
    participation_ratio,
    polar_alignment,
    singular_values,
    soft_threshold,
    stable_rank,
)
from lrdlib.tasks import Split, Task, split, task
from lrdlib.training.config import TrainConfig
from lrdlib.training.records import Record
from lrdlib.training.runs import Run, load_run, runs_of, save_run
from lrdlib.training.sweep import expand, recorded, sweep
from lrdlib.training.train import Training, train

__version__ = "0.1.0"

__all__ = [
    "LowRankDecay",
    "ModelConfig",
    "Record",
    "Run",
    "Split",
    "Task",
    "TrainConfig",
    "Training",
    "effective_rank",
    "euler_defect",
    "expand",
    "fan_dimension",
    "forward",
    "frobenius_decay_",
    "half_time",
    "in_subdifferential",
    "init_params",
    "load_run",
    "low_rank_decay_",
    "nuclear_norm",
    "numerical_rank",
    "participation_ratio",
    "polar_alignment",
    "polar_express_coefficients",
    "polar_factor",
    "project_subdifferential",
    "proximal_decay_",
    "radial_tangential",
    "recorded",
    "response",
    "runs_of",
    "save_run",
    "scale_defect",
    "scale_defects",
    "select",
    "singular_values",
    "soft_threshold",
    "split",
    "stable_rank",
    "stack_params",
    "sweep",
    "task",
    "train",
    "weight_decay_to_halve",
]
