"""Everything that determines a run, and what the runs of one stack must share."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from torch import Tensor

from lrdlib._check import (
    amount,
    check_bool,
    check_bytes,
    check_choice,
    check_instance,
    check_integer,
    check_real,
    shown,
)
from lrdlib.decay import MODES, PARTS, SCALES, Mode, Part, Scale
from lrdlib.matrices import PLACES, places
from lrdlib.model import ModelConfig
from lrdlib.polar import check_polar
from lrdlib.tasks import TASKS, TableSize, Task, table_size, task

RULES = ("none", "l2", "lrd", "elastic", "proximal")
LOW_RANK = ("lrd", "elastic", "proximal")  # those with a low-rank decay
STEP_BYTES = 16 * 2**30  # of the largest tensor in one step of one run
RECORD_BYTES = 16 * 2**30  # of all records of one run
MEMORISED = 0.99  # the train accuracy that counts as memorising
# what the runs of a stack share: the model's shape, the task, the batches' size, the steps,
# and how a polar factor is computed; all else may differ
SHARED = (
    *("task", "p", "bits", "scale", "method", "ns_steps", "batch_size", "steps"),
    *("eval_every", "d_model", "heads", "layers", "qk_norm", "gains", "per_head"),
    "optimizer",
)
OPTIMIZERS = ("adamw", "sgd", "muon")
# what may change while a stack trains
SETTABLE = ("rule", "weight_decay", "l2", "lr", "part", "select", "l2_on", "attention")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a run.

    task, p, bits: the table (see lrdlib.tasks). fraction: part of it to train on. seed: of
    split, weights and batches.

    rule: which decay the run uses, with strength `weight_decay`:
        "none"      AdamW alone
        "l2"        Frobenius decay of every weight but the gains
        "lrd"       low-rank decay of the selected matrices, Frobenius decay `l2` of the
                    other weights
        "proximal"  as "lrd", with the exact proximal step
        "elastic"   low-rank decay of the selected matrices, then Frobenius decay `l2` of
                    every weight but the gains
    mode, scale, method, ns_steps, select, part: of the low-rank decay (see lrdlib.decay).
    **Low-rank decay is not multiplied by the learning rate here** (mode "independent", the
    first public code's meaning of lambda), unlike LowRankDecay's default; Frobenius decay
    always is, as in AdamW. The other defaults are the paper's setting, section 5.

    lr, betas: AdamW's. batch_size pairs a step, `steps` steps, a record every `eval_every`.
    d_model, heads, layers, qk_norm, gains: the model's (see lrdlib.model.ModelConfig).

    What an experiment may change besides:
    l2_on: where rule "l2" acts: on "all" weights but the gains, or on those that `select`
        names, "selected".
    decay_gains: Frobenius decay of the gains too, as torch's AdamW has it.
    hold: "norm" puts every block matrix back to its first Frobenius norm after each step,
        "qk" each query and key matrix.
    qk_rates: factors of lr for query and key matrices, the k-th from the k-th record on and
        the last from then on; none for 1.
    attention: "learned"; "frozen", with queries, keys and their gains as they begin; or
        "uniform", with all scores 0.
    rank: None; "flat": after AdamW's step each query and key matrix becomes
        |W|_F polar(W) / |polar(W)|_F, of full rank, in place of its low-rank decay; or an
        integer r: after all else of a step, decay too, each of them is cut to its best
        approximation of rank r, with the norm that this leaves (their scale is nothing to
        the network under QK-Norm), or, where they are held, with the first.
    init_scale: a factor of the block matrices and the head at the start; 3^-1/2 for the
        standard deviation of torch's nn.Linear.
    per_head: the low-rank decay of attention matrices acts on each head by itself (rows of
        W_Q, W_K, W_V, columns of W_O).
    decay_after: None, or k: no decay until k steps after the run has memorised, which it
        has at the first record with a train accuracy above MEMORISED that the next record
        confirms; late_gradient: a factor of the optimiser's step from then on.
    optimizer: "adamw"; "sgd", with momentum betas[0]; or "muon", which is AdamW outside the
        blocks and takes W <- W - 0.2 lr sqrt(max(m, n)) polar(M) in them, with momentum M.

    numpy scalars become Python numbers. Raises TypeError or ValueError for a value outside
    its range, and for sizes that no one can mean: a table of more than 1 GiB, a model of
    more than 64 GiB, a tensor in one step or records of one run of more than 16 GiB.
    Nothing is allocated to find that out.
    """

    task: str = "add"
    p: int = 97
    bits: int = 10
    fraction: float = 0.4
    seed: int = 0
    rule: str = "lrd"
    weight_decay: float = 1e-2
    l2: float = 0.0
    mode: Mode = "independent"
    scale: Scale = "norm"
    select: str = "attention+mlp"
    method: str = "polar_express"
    ns_steps: int | None = None
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    batch_size: int = 512
    steps: int = 3000
    eval_every: int = 50
    d_model: int = 128
    heads: int = 4
    layers: int = 2
    qk_norm: str = "head"
    gains: bool = True
    part: Part = "both"
    l2_on: str = "all"
    decay_gains: bool = False
    hold: str = "none"
    attention: str = "learned"
    rank: str | int | None = None
    init_scale: float = 1.0
    per_head: bool = False
    decay_after: int | None = None
    late_gradient: float = 1.0
    optimizer: str = "adamw"
    qk_rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for f in fields(self):
            if isinstance(value := getattr(self, f.name), np.generic):
                object.__setattr__(self, f.name, value.item())
        for name, known in CHOICES.items():
            check_choice(name, getattr(self, name), known)
        if not (isinstance(self.select, str) and places(self.select)):
            check_choice("select", self.select, ("attention+mlp", *PLACES))
        self._check_numbers()
        self._check_together()
        self._check_sizes()
        self._check_rank()

    def _check_numbers(self) -> None:
        """Raise TypeError or ValueError for a number outside its range."""
        check_real("fraction", self.fraction, above=0, below=1)
        check_integer("seed", self.seed, at_least=0, at_most=2**32 - 1)
        for name in ("weight_decay", "l2"):
            check_real(name, getattr(self, name), at_least=0)
        check_real("lr", self.lr, above=0)
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, got {shown(self.betas)}")
        for i, beta in enumerate(self.betas):
            check_real(f"betas[{i}]", beta, at_least=0, below=1)
        # JSON has no tuples, and none of NumPy's numbers
        object.__setattr__(self, "betas", tuple(map(float, self.betas)))
        if not isinstance(self.qk_rates, (tuple, list)):
            raise TypeError(f"qk_rates must be numbers, got {shown(self.qk_rates)}")
        for i, rate in enumerate(self.qk_rates):
            check_real(f"qk_rates[{i}]", rate, above=0)
        object.__setattr__(self, "qk_rates", tuple(map(float, self.qk_rates)))
        for name in ("batch_size", "steps", "eval_every"):
            check_integer(name, getattr(self, name), at_most=2**63 - 1)
        check_polar(self.method, self.ns_steps, name="ns_steps")
        for name in ("decay_gains", "per_head"):
            check_bool(name, getattr(self, name))
        check_real("init_scale", self.init_scale, above=0)
        check_real("late_gradient", self.late_gradient, at_least=0)
        if self.decay_after is not None:
            check_integer("decay_after", self.decay_after, at_least=0, at_most=2**63 - 1)

    def _check_together(self) -> None:
        """Raise ValueError for values that each are right and mean nothing together."""
        if self.l2 and self.rule in ("none", "l2"):
            raise ValueError(
                f"l2 must be 0 for rule {self.rule!r} (its strength is weight_decay), got "
                f"{self.l2}"
            )
        if self.l2_on != "all" and self.rule != "l2":
            raise ValueError(
                f"l2_on must be 'all' for rule {self.rule!r}, got {shown(self.l2_on)}"
            )
        if self.part != "both" and self.rule == "proximal":
            raise ValueError(
                f"part must be 'both' for rule 'proximal', got {shown(self.part)}"
            )
        if self.late_gradient != 1 and self.decay_after is None:
            raise ValueError(
                "late_gradient must be 1 without decay_after, got "
                f"{shown(self.late_gradient)}"
            )
        if self.qk_rates and self.optimizer != "adamw":
            raise ValueError(
                f"qk_rates must be () for optimizer {self.optimizer!r}, got "
                f"{shown(self.qk_rates)}"
            )
        for name, none in (("rank", None), ("qk_rates", ())):
            if self.attention != "learned" and (value := getattr(self, name)) != none:
                raise ValueError(
                    f"{name} must be {none} for attention {self.attention!r}, got "
                    f"{shown(value)}"
                )

    def _check_sizes(self) -> None:
        """Raise ValueError for a table, a model, a batch or records too large to be
        meant."""
        size = table_size(self.task, p=self.p, bits=self.bits)
        model = self.model(size)
        T, d = size.seq_len, self.d_model
        # the largest tensor of a step: one-hot tokens, Q K^T before its sum, or the MLP
        numbers = self.batch_size * T * max(2 * size.vocab, T * d, model.mlp_ratio * d)
        asked = f"a tensor of {amount(numbers)} numbers in each step"
        check_bytes(f"batch_size = {self.batch_size}", asked, 4 * numbers, STEP_BYTES)
        records = self.steps // self.eval_every + 2
        tensors = 6 * self.layers + 15  # spectra of the block matrices, and metrics
        each = 4 * (6 * self.layers * d + self.p // 2) + 512 * tensors
        given = f"steps = {self.steps} with eval_every = {self.eval_every}"
        check_bytes(given, f"{amount(records)} records", records * each, RECORD_BYTES)

    def _check_rank(self) -> None:
        """Raise TypeError or ValueError for a rank that queries and keys cannot have."""
        if self.rank is None or (isinstance(self.rank, str) and self.rank == "flat"):
            return
        most = f"an integer from 1 to d_model = {self.d_model}"
        said = f"rank must be None, 'flat' or {most}, got {shown(self.rank)}"
        if isinstance(self.rank, bool) or not isinstance(self.rank, (int, str)):
            raise TypeError(said)
        if isinstance(self.rank, str) or not 1 <= self.rank <= self.d_model:
            raise ValueError(said)

    @property
    def capped(self) -> bool:
        """Whether each step ends with a cut of queries and keys to a rank."""
        return isinstance(self.rank, int)

    @property
    def low_rank(self) -> bool:
        """Whether a step computes a polar factor for its decay, or the proximal step."""
        return (self.rule in LOW_RANK and self.weight_decay > 0) or self.rank == "flat"

    def data(self) -> Task:
        """The task's whole table, of which `fraction` is trained on.

        >>> TrainConfig(p=5).data().tokens.shape
        torch.Size([25, 3])
        """
        return task(self.task, p=self.p, bits=self.bits)

    def model(self, data: Task | TableSize) -> ModelConfig:
        """The model's shape for the task `data`, of which only the size matters."""
        if not isinstance(data, (Task, TableSize)):
            raise TypeError(f"data must be a Task or TableSize, got {type(data).__name__}")
        return ModelConfig(
            vocab=data.vocab,
            seq_len=data.seq_len,
            classes=data.classes,
            d_model=self.d_model,
            heads=self.heads,
            layers=self.layers,
            qk_norm=self.qk_norm,
            gains=self.gains,
        )


CHOICES: dict[str, tuple[Any, ...]] = {
    "task": TASKS,
    "rule": RULES,
    "mode": MODES,
    "scale": SCALES,
    "part": tuple(PARTS),
    "l2_on": ("all", "selected"),
    "hold": ("none", "norm", "qk"),
    "attention": ("learned", "frozen", "uniform"),
    "optimizer": OPTIMIZERS,
}


def plain(config: TrainConfig) -> dict[str, Any]:
    """The fields as JSON gives them back, with lists for tuples;
    TrainConfig(**plain(config)) == config.

    >>> plain(TrainConfig())["betas"]
    [0.9, 0.98]
    """
    check_instance("config", config, TrainConfig)
    return json.loads(json.dumps(asdict(config)))


def config_list(configs: Iterable[TrainConfig]) -> list[TrainConfig]:
    """The configs of any iterable, as a list. Raises TypeError for anything else."""
    several = not isinstance(configs, (str, bytes, Tensor, np.ndarray))
    if not (several and isinstance(configs, Iterable)):
        raise TypeError(
            f"configs must hold TrainConfigs, got one {type(configs).__name__} alone"
        )
    found = list(configs)
    for c in found:
        if not isinstance(c, TrainConfig):
            raise TypeError(f"configs must hold TrainConfigs, got {type(c).__name__}")
    return found


def check_stack(configs: Sequence[TrainConfig]) -> None:
    """Raise TypeError or ValueError unless the configs can train as one stack."""
    if not isinstance(configs, Sequence) or isinstance(configs, (str, bytes)):
        raise TypeError(
            f"configs must be a sequence of TrainConfigs, got {type(configs).__name__}"
        )
    if not config_list(configs):
        raise ValueError("configs must hold at least one TrainConfig, got none")
    first = configs[0]
    for name in SHARED:
        values = {getattr(c, name) for c in configs}
        if len(values) > 1:
            raise ValueError(
                f"configs of one stack must agree in {name}, got "
                f"{sorted(map(repr, values))}"
            )
    rules = {c.rule for c in configs}
    if "proximal" in rules and rules & {"lrd", "elastic"}:
        raise ValueError(
            "configs of one stack must not mix the proximal step with another, got "
            f"{first.rule!r} first"
        )


def check_settable(names: Iterable[str]) -> None:
    """Raise ValueError unless all are in SETTABLE, what `Training.set` can change."""
    for name in names:
        if name not in SETTABLE:
            raise ValueError(
                f"only {', '.join(SETTABLE)} can be set while it trains, got {name!r}"
            )
