"""Training a stack of runs at once: one batched model, one torch.optim.AdamW, one decay rule with a strength per run.

A run is a stack of one. Everything random (data split, initial weights, batches) is drawn per run from its own seed,
so a run is the same alone and in a stack, to floating-point rounding.

    for record in train(TrainConfig(fraction=0.4, weight_decay=1e-2)):
        print(record.step, record.metrics["test_accuracy"])
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lrdlib._check import check_choice, check_integer, check_real
from lrdlib.decay import MODES, SCALES, LowRankDecay, Mode, Scale, frobenius_update_, select
from lrdlib.model import GAIN_ROLES, MATRIX_ROLES, ModelConfig, Params, forward, init_params, role, stack_params
from lrdlib.polar import METHODS
from lrdlib.spectral import effective_rank, singular_values, stable_rank
from lrdlib.store import read_arrays, write_arrays
from lrdlib.tasks import TASKS, Task, split, task

RULES = ("none", "l2", "lrd", "elastic", "proximal")
PER_RUN = ("fraction", "seed", "rule", "weight_decay", "l2")  # what may differ within a stack
CHECKPOINT = "lrdlib-checkpoint/1"
EVAL_ROWS = 2048  # sequences per evaluation chunk: its activations stay in the cache


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a run.

    rule: which decay the run uses, with strength `weight_decay`:
        "none"      AdamW alone
        "l2"        Frobenius decay of every weight but the gains
        "lrd"       low-rank decay of the selected matrices, Frobenius decay `l2` of the other weights
        "proximal"  as "lrd", with the exact proximal step
        "elastic"   low-rank decay of the selected matrices and Frobenius decay `l2` of every weight
    mode, scale, method, ns_steps, select: of the low-rank decay (see lrdlib.decay). Frobenius decay is always
    decoupled (times lr), as in AdamW. The defaults are the paper's setting, section 5, with the first public code's
    meaning of lambda (mode "independent"). A record is made every `eval_every` steps.

    Raises TypeError or ValueError for a value outside its range.
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

    def __post_init__(self) -> None:
        for name, choices in (
            ("task", TASKS),
            ("rule", RULES),
            ("mode", MODES),
            ("scale", SCALES),
            ("method", METHODS),
        ):
            check_choice(name, getattr(self, name), choices)
        check_choice("select", self.select, ("attention+mlp", "qk"))
        check_real("fraction", self.fraction, above=0, below=1)
        check_integer("seed", self.seed, at_least=0)
        for name in ("weight_decay", "l2"):
            check_real(name, getattr(self, name), at_least=0)
        check_real("lr", self.lr, above=0)
        for i, beta in enumerate(self.betas):
            check_real(f"betas[{i}]", beta, at_least=0, below=1)
        for name in ("batch_size", "steps", "eval_every"):
            check_integer(name, getattr(self, name))
        if self.ns_steps is not None:
            check_integer("ns_steps", self.ns_steps)
        if self.l2 and self.rule in ("none", "l2"):
            raise ValueError(f"l2 must be 0 for rule {self.rule!r} (its strength is weight_decay), got {self.l2}")
        self.model(task(self.task, p=self.p, bits=self.bits))

    def model(self, data: Task) -> ModelConfig:
        """The model's shape for the task `data`."""
        own = {f.name: getattr(self, f.name) for f in fields(ModelConfig) if hasattr(self, f.name)}
        return ModelConfig(vocab=data.vocab, seq_len=data.seq_len, classes=data.classes, **own)


@dataclass(frozen=True, eq=False)
class Record:
    """What is measured at one step, over a stack: metrics (runs,), singular values (runs, k) of each block matrix."""

    step: int
    metrics: dict[str, Tensor]
    singular_values: dict[str, Tensor]

    def ranks(self, measure: Callable[[Tensor], Tensor] = stable_rank) -> dict[str, Tensor]:
        """A rank (runs,) of every block matrix; `measure` is a function of lrdlib.spectral."""
        return {name: measure(S) for name, S in self.singular_values.items()}


def train(
    configs: TrainConfig | Sequence[TrainConfig], *, checkpoint: str | Path | None = None, device: str = "cpu"
) -> "Training":
    """Train a stack of runs and yield a Record at step 0, every `eval_every` steps, and at the end.

    With `checkpoint`, a path, the whole state is written there after each record; if the file exists, its records
    come first and training goes on from it, with a history bit-identical to an unbroken run (same machine, torch and
    number of threads). Raises ValueError if configs are empty, differ in more than fraction, seed, rule,
    weight_decay and l2, or are not those of the checkpoint.
    """
    stack = [configs] if isinstance(configs, TrainConfig) else list(configs)
    training = Training(stack, device=device)
    if checkpoint is not None:
        training.checkpoint = Path(checkpoint)
        if training.checkpoint.exists():
            training.load(checkpoint)
    return training


class Training(Iterator[Record]):
    """A stack of runs in training: an iterator of Records. See `train`.

    configs, params (with a runs axis), optimizer, step (done so far), records (made so far).
    """

    def __init__(self, configs: Sequence[TrainConfig], *, device: str = "cpu") -> None:
        _check_stack(configs)
        self.configs, self.device, first = list(configs), device, configs[0]
        self.task = task(first.task, p=first.p, bits=first.bits)
        self.model = first.model(self.task)
        self.splits = [split(self.task, c.fraction, c.seed) for c in configs]
        models = [init_params(self.model, torch.Generator().manual_seed(c.seed)) for c in configs]
        self.params: Params = {name: W.to(device).requires_grad_() for name, W in stack_params(models).items()}
        self.optimizer = torch.optim.AdamW(
            self.params.values(), lr=first.lr, betas=first.betas, weight_decay=0.0, fused=True
        )
        self.l2 = _frobenius_strengths(self.params, configs)
        self.decay = _low_rank_decay(self.params, configs)
        if self.decay is not None:
            self.decay.attach(self.optimizer)
        self.tokens, self.labels = self.task.tokens.to(device), self.task.labels.to(device)
        self.masks = {
            name: _mask([getattr(s, name) for s in self.splits], len(self.task)).to(device)
            for name in ("train", "test", "orbit_clean")
        }
        self.step = 0
        self.records: list[Record] = []
        self.checkpoint: Path | None = None
        self._replayed = 0

    def __next__(self) -> Record:
        if self._replayed < len(self.records):
            self._replayed += 1
            return self.records[self._replayed - 1]
        if self.records and self.step >= self.configs[0].steps:
            raise StopIteration
        grad_norm = torch.full((len(self.configs),), torch.nan)
        if self.records:
            first = self.configs[0]
            for _ in range(min(first.eval_every, first.steps - self.step)):
                self.update()
            grad_norm = _norm([W.grad for W in self.params.values() if W.grad is not None])
        self.records.append(self.measure(grad_norm))
        self._replayed += 1
        if self.checkpoint is not None:
            self.save(self.checkpoint)
        return self.records[-1]

    def update(self) -> None:
        """One step: batch, gradient, AdamW, decay."""
        rows = torch.stack(
            [
                batch(s.train, seed=c.seed, step=self.step, size=c.batch_size)
                for s, c in zip(self.splits, self.configs, strict=True)
            ]
        ).to(self.device)
        logits = forward(self.params, self.tokens[rows], self.model)
        # the sum over runs of each run's mean loss: runs do not share a parameter, so their gradients stay apart
        loss = F.cross_entropy(logits.flatten(0, -2), self.labels[rows].flatten(), reduction="sum") / rows.shape[-1]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for name, weight_decay in self.l2.items():
                frobenius_update_(self.params[name], self.configs[0].lr * weight_decay)
        self.step += 1

    @torch.no_grad()
    def measure(self, grad_norm: Tensor) -> Record:
        """Evaluate the stack as it stands, over the task's whole table."""
        losses, hits = self._evaluate()
        metrics = {"weight_norm": _norm(list(self.params.values())), "grad_norm": grad_norm}
        for name, mask in self.masks.items():
            count = mask.sum(-1)
            metrics[f"{name}_loss"] = (losses * mask).sum(-1) / count
            metrics[f"{name}_accuracy"] = (hits * mask).sum(-1) / count
        blocks = {name: W for name, W in self.params.items() if role(name) in MATRIX_ROLES}
        spectra = {name: _spectrum(W) for name, W in blocks.items()}
        qk = [S for name, S in spectra.items() if role(name) in ("query", "key")]
        metrics["qk_stable_rank"] = torch.stack([stable_rank(S) for S in qk]).mean(0)
        metrics["qk_effective_rank"] = torch.stack([effective_rank(S) for S in qk]).mean(0)
        return Record(self.step, {k: v.cpu() for k, v in metrics.items()}, {k: S.cpu() for k, S in spectra.items()})

    def _evaluate(self) -> tuple[Tensor, Tensor]:
        """Loss and correctness of every run on every row of the table: two (runs, N) tensors."""
        losses, hits = [], []
        for tokens, labels in zip(self.tokens.split(EVAL_ROWS), self.labels.split(EVAL_ROWS), strict=True):
            logits = forward(self.params, tokens, self.model)  # (runs, rows, classes)
            labels = labels.expand(logits.shape[:-1])
            losses.append(F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels))
            hits.append(logits.argmax(-1) == labels)
        return torch.cat(losses, -1), torch.cat(hits, -1)

    def save(self, path: str | Path) -> None:
        """Write the whole state to `path`, replacing the file at once or not at all."""
        arrays = {f"param/{name}": W.detach().cpu().numpy() for name, W in self.params.items()}
        for name, W in self.params.items():
            for key in ("exp_avg", "exp_avg_sq", "step"):
                if W in self.optimizer.state:
                    arrays[f"{key}/{name}"] = self.optimizer.state[W][key].cpu().numpy()
        arrays["record/step"] = np.array([record.step for record in self.records])
        arrays |= record_arrays(self.records)
        header = {"step": self.step, "configs": [asdict(c) for c in self.configs], "torch": torch.__version__}
        write_arrays(path, CHECKPOINT, header, arrays)

    def load(self, path: str | Path) -> None:
        """Take over the state in `path`; a damaged file or one of other configs is a ValueError and changes nothing."""
        header, arrays = read_arrays(path, CHECKPOINT)
        expected = json.loads(json.dumps([asdict(c) for c in self.configs]))
        if header["configs"] != expected:
            raise ValueError(f"checkpoint {str(path)!r} must be of these configs, got {_difference(expected, header)}")
        with torch.no_grad():
            for name, W in self.params.items():
                W.copy_(torch.from_numpy(arrays[f"param/{name}"]))
        state = {
            i: {key: torch.from_numpy(arrays[f"{key}/{name}"]) for key in ("exp_avg", "exp_avg_sq", "step")}
            for i, name in enumerate(self.params)
            if f"step/{name}" in arrays
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.step, self.records, self._replayed = header["step"], _records_from(arrays), 0


def batch(train: Tensor, *, seed: int, step: int, size: int) -> Tensor:
    """Rows (size,) of the `step`-th batch: the next `size` of an endless row of shuffles of the training set.

    A pure function of its arguments (shuffle number e comes from the generator seeded with (seed, e)), so there is no
    state to save, and the batches are the same on every machine.

    >>> batch(torch.arange(4), seed=0, step=0, size=6).shape
    torch.Size([6])
    """
    n, start = len(train), step * size
    epochs = range(start // n, (start + size - 1) // n + 1)
    order = np.concatenate([_shuffle(n, seed, epoch) for epoch in epochs])
    start -= epochs[0] * n
    return train[torch.from_numpy(order[start : start + size])]


@lru_cache(maxsize=1024)
def _shuffle(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.RandomState([seed, epoch]).permutation(n)  # its stream is frozen (NEP 19)


def record_arrays(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Records as arrays: metric/NAME (records, runs) and spectrum/NAME (records, runs, k)."""
    first = records[0]
    arrays = {f"metric/{k}": torch.stack([r.metrics[k] for r in records]).numpy() for k in first.metrics}
    for k in first.singular_values:
        arrays[f"spectrum/{k}"] = torch.stack([r.singular_values[k] for r in records]).numpy()
    return arrays


def _records_from(arrays: dict[str, np.ndarray]) -> list[Record]:
    """The inverse of `record_arrays`, given also record/step."""

    def part(prefix: str, i: int) -> dict[str, Tensor]:
        named = ((name.removeprefix(prefix), array) for name, array in arrays.items() if name.startswith(prefix))
        return {name: torch.from_numpy(array[i].copy()) for name, array in named}

    return [Record(int(s), part("metric/", i), part("spectrum/", i)) for i, s in enumerate(arrays["record/step"])]


def _check_stack(configs: Sequence[TrainConfig]) -> None:
    if not configs:
        raise ValueError("configs must hold at least one TrainConfig, got none")
    for c in configs:
        if not isinstance(c, TrainConfig):
            raise TypeError(f"configs must hold TrainConfigs, got {type(c).__name__}")
    first = configs[0]
    for name in (f.name for f in fields(TrainConfig) if f.name not in PER_RUN):
        values = {getattr(c, name) for c in configs}
        if len(values) > 1:
            raise ValueError(f"configs of one stack must agree in {name}, got {sorted(map(repr, values))}")
    if len({c.rule for c in configs} & {"proximal", "lrd"}) > 1 or {"proximal", "elastic"} <= {c.rule for c in configs}:
        raise ValueError(f"configs of one stack must not mix the proximal step with another, got {first.rule!r} first")


def _frobenius_strengths(params: Params, configs: Sequence[TrainConfig]) -> dict[str, Tensor]:
    """The coefficient of Frobenius decay of each weight, per run (runs, 1, 1), where some run has one."""
    selected = select(params, configs[0].select)

    def of(c: TrainConfig, name: str) -> float:
        if c.rule == "l2":
            return c.weight_decay
        return c.l2 if c.rule == "elastic" or name not in selected else 0.0

    strengths = {
        name: torch.tensor([of(c, name) for c in configs], device=W.device).view(-1, 1, 1)
        for name, W in params.items()
        if role(name) not in GAIN_ROLES
    }
    return {name: t for name, t in strengths.items() if bool(t.any())}


def _low_rank_decay(params: Params, configs: Sequence[TrainConfig]) -> LowRankDecay | None:
    """The stack's low-rank decay, with a strength per run (runs, 1, 1), or None if no run has one."""
    first = configs[0]
    strengths = [c.weight_decay if c.rule in ("lrd", "elastic", "proximal") else 0.0 for c in configs]
    if not any(strengths):
        return None
    return LowRankDecay(
        select(params, first.select),
        weight_decay=torch.tensor(strengths, device=params["head"].device).view(-1, 1, 1),
        mode=first.mode,
        scale=first.scale,
        method=first.method,
        steps=first.ns_steps,
        rule="proximal" if any(c.rule == "proximal" for c in configs) else "low_rank",
        check_finite=False,  # a run that diverges must not stop the others of its stack
    )


def _mask(parts: Sequence[Tensor], n: int) -> Tensor:
    """Which of the n rows of the table are in each run's part: (runs, n) booleans."""
    mask = torch.zeros(len(parts), n, dtype=torch.bool)
    for row, part in zip(mask, parts, strict=True):
        row[part] = True
    return mask


def _norm(stacks: Sequence[Tensor]) -> Tensor:
    """Euclidean norm (runs,) of all tensors of a run together."""
    return torch.stack([W.detach().flatten(1).square().sum(-1) for W in stacks]).sum(0).sqrt()


def _spectrum(W: Tensor) -> Tensor:
    """Singular values (runs, k), NaN for a run that has diverged."""
    finite = torch.isfinite(W).all(-1).all(-1)[:, None]
    return torch.where(finite, singular_values(torch.nan_to_num(W, 0.0, 0.0, 0.0)), torch.nan)


def _difference(expected: list[dict], header: dict) -> str:
    """The first way in which a checkpoint's configs are not the expected ones."""
    found = header["configs"]
    if len(found) != len(expected):
        return f"{len(found)} configs, not {len(expected)}"
    differing = ((i, k) for i, (a, b) in enumerate(zip(expected, found, strict=True)) for k in a if a[k] != b.get(k))
    i, key = next(differing)
    return f"{key} = {found[i].get(key)!r}, not {expected[i][key]!r} (run {i})"
