"""Training a stack of runs at once: one batched model, one torch.optim.AdamW, one decay
rule with a strength per run.

A run is a stack of one. Everything random (data split, initial weights, batches) is drawn
per run from its own seed, so a run is the same computation alone and in a stack. (The
rounding differs, and long training amplifies it.)

    for record in train(TrainConfig(fraction=0.4, weight_decay=1e-2)):
        print(record.step, record.metrics["test_accuracy"])
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lrdlib._check import check_bool
from lrdlib.decay import LowRankDecay, frobenius_update_, select
from lrdlib.fourier import fourier_power
from lrdlib.model import (
    GAIN_ROLES,
    MATRIX_ROLES,
    Params,
    forward,
    init_params,
    role,
    stack_params,
)
from lrdlib.spectral import effective_rank, stable_rank
from lrdlib.tasks import split
from lrdlib.training.config import LOW_RANK, TrainConfig, check_stack, plain
from lrdlib.training.records import (
    Record,
    rank,
    record_arrays,
    records_from,
    spectrum,
    unless_diverged,
)
from lrdlib.training.store import read_arrays, read_header, write_arrays

CHECKPOINT = "lrdlib-checkpoint/1"
SETTABLE = ("rule", "weight_decay", "l2", "lr")  # what may change while a stack trains
EVAL_ROWS = 2048  # sequences per evaluation chunk: its activations stay in the cache


def train(
    configs: TrainConfig | Iterable[TrainConfig],
    *,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    compile: bool = False,
) -> "Training":
    """Train a stack of runs and yield a Record at step 0, every `eval_every` steps, and at
    the end.

    With `checkpoint`, a path, the whole state is written there after each record; if the
    file exists, its records come first and training goes on from it, with a history
    bit-identical to an unbroken run (same machine, torch and number of threads). compile:
    hand the forward pass of a step to torch.compile, which takes 15 to 30 seconds once per
    process and makes a step about 1.4 times as fast on a CPU (benchmarks/sweep.py); it
    needs a C++ compiler, and rounds otherwise than without. Raises ValueError if configs
    are empty, differ in more than fraction, seed, rule, weight_decay and l2, or are not
    those of the checkpoint, or if torch cannot use the device here. Metrics over no pairs
    are NaN, such as the orbit-clean ones where hardly a pair is left to test on.
    """
    if not isinstance(configs, (TrainConfig, Iterable)):
        raise TypeError(
            f"configs must be a TrainConfig or several, got {type(configs).__name__}"
        )
    stack = [configs] if isinstance(configs, TrainConfig) else list(configs)
    training = Training(stack, device=device, compile=compile)
    if checkpoint is not None:
        training.checkpoint = Path(checkpoint)
        if training.checkpoint.exists():
            training.load(checkpoint)
    return training


class Training(Iterator[Record]):
    """A stack of runs in training: an iterator of Records. See `train`.

    configs (what it started from), params (with a runs axis), optimizer, step (done so
    far), records (made so far), live (the configs as `set` has changed them) and changes
    (what was set, and before which step).
    """

    def __init__(
        self, configs: Sequence[TrainConfig], *, device: str = "cpu", compile: bool = False
    ) -> None:
        check_stack(configs)
        _check_device(device)
        check_bool("compile", compile)
        self.configs, self.live, self.device, first = (
            list(configs),
            list(configs),
            device,
            configs[0],
        )
        self.changes: list[dict[str, Any]] = []
        self.compiled, self.forward = compile, _compiled_forward() if compile else forward
        self.task = first.data()
        self.model = first.model(self.task)
        self.splits = [split(self.task, c.fraction, c.seed) for c in configs]
        models = [
            init_params(self.model, torch.Generator().manual_seed(c.seed)) for c in configs
        ]
        self.params: Params = {
            name: W.to(device).requires_grad_() for name, W in stack_params(models).items()
        }
        self.optimizer = torch.optim.AdamW(
            self.params.values(),
            lr=first.lr,
            betas=first.betas,
            weight_decay=0.0,
            fused=True,
        )
        self.l2 = _frobenius_strengths(self.params, configs)
        self.decay = _low_rank_decay(self.params, configs)
        self._attached = None if self.decay is None else self.decay.attach(self.optimizer)
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
            until = min((self.step // first.eval_every + 1) * first.eval_every, first.steps)
            while (
                self.step < until
            ):  # a multiple of eval_every, also after an interruption between records
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
        logits = self.forward(self.params, self.tokens[rows], self.model)
        # the sum over runs of each run's mean loss: runs do not share a parameter, so their
        # gradients stay apart
        loss = (
            F.cross_entropy(
                logits.flatten(0, -2), self.labels[rows].flatten(), reduction="sum"
            )
            / rows.shape[-1]
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for name, weight_decay in self.l2.items():
                frobenius_update_(self.params[name], self.live[0].lr * weight_decay)
        self.step += 1

    def set(self, **values: Any) -> None:
        """From the next step on, train every run with these values of rule, weight_decay,
        l2 or lr.

        Batches, weights and AdamW's moments stay as they are. `configs` and the histories
        made so far stay too; what differs from before goes into `changes`, as {"step":
        steps done, name: value, ...}. Raises TypeError or ValueError for another name or a
        value that TrainConfig refuses; nothing is changed then.
        """
        unknown = [name for name in values if name not in SETTABLE]
        if unknown:
            raise ValueError(
                f"only {', '.join(SETTABLE)} can be set while a stack trains, got "
                f"{unknown[0]!r}"
            )
        live = [replace(c, **values) for c in self.live]
        news = {
            name: getattr(live[0], name)
            for name in values
            if any(getattr(c, name) != values[name] for c in self.live)
        }
        if not news:
            return
        self._use(live)
        if self.changes and self.changes[-1]["step"] == self.step:
            news = self.changes.pop() | news
        self.changes.append({"step": self.step} | news)

    def _use(self, live: list[TrainConfig]) -> None:
        """Take rule, strengths and learning rate of the next step from `live`."""
        check_stack(live)
        l2, decay = (
            _frobenius_strengths(self.params, live),
            _low_rank_decay(self.params, live),
        )
        if self._attached is not None:
            self._attached.remove()
        self.live, self.l2, self.decay = live, l2, decay
        self._attached = None if decay is None else decay.attach(self.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = live[0].lr

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
        spectra = {name: spectrum(W) for name, W in blocks.items()}
        qk = [S for name, S in spectra.items() if role(name) in ("query", "key")]
        metrics["qk_stable_rank"] = torch.stack([rank(stable_rank, S) for S in qk]).mean(0)
        metrics["qk_effective_rank"] = torch.stack(
            [rank(effective_rank, S) for S in qk]
        ).mean(0)
        numbers = self.params["embedding"][..., : self.task.p, :]
        fourier = (
            {"embedding": unless_diverged(fourier_power, numbers)}
            if self.task.modular
            else {}
        )
        return Record(
            self.step,
            *(
                {k: v.cpu() for k, v in part.items()}
                for part in (metrics, spectra, fourier)
            ),
        )

    def _evaluate(self) -> tuple[Tensor, Tensor]:
        """Loss and correctness of every run on every row of the table: two (runs, N)
        tensors."""
        losses, hits = [], []
        for tokens, labels in zip(
            self.tokens.split(EVAL_ROWS), self.labels.split(EVAL_ROWS), strict=True
        ):
            logits = forward(self.params, tokens, self.model)  # (runs, rows, classes)
            labels = labels.expand(logits.shape[:-1])
            losses.append(
                F.cross_entropy(
                    logits.flatten(0, 1), labels.flatten(), reduction="none"
                ).view_as(labels)
            )
            hits.append(logits.argmax(-1) == labels)
        return torch.cat(losses, -1), torch.cat(hits, -1)

    def save(self, path: str | Path) -> None:
        """Write the whole state to `path`, replacing the file at once or not at all."""
        arrays = {
            f"param/{name}": W.detach().cpu().numpy() for name, W in self.params.items()
        }
        for name, W in self.params.items():
            for key in ("exp_avg", "exp_avg_sq", "step"):
                if W in self.optimizer.state:
                    arrays[f"{key}/{name}"] = self.optimizer.state[W][key].cpu().numpy()
        arrays |= record_arrays(self.records)
        header = {
            "step": self.step,
            "configs": [plain(c) for c in self.configs],
            "torch": torch.__version__,
        }
        header["changes"] = self.changes
        write_arrays(path, CHECKPOINT, header, arrays, compress=False)

    def load(self, path: str | Path) -> None:
        """Take over the state in `path`.

        Raises FileNotFoundError, or ValueError for a damaged file or one of other configs;
        nothing is changed then.
        """
        header, arrays = read_arrays(path, CHECKPOINT)
        expected = [plain(c) for c in self.configs]
        if header.get("configs") != expected:
            difference = _difference(expected, header.get("configs"))
            raise ValueError(
                f"checkpoint {str(path)!r} must be of these configs, got {difference}"
            )
        if header.get("torch") != torch.__version__:
            warnings.warn(
                f"{path} was written by torch {header.get('torch')}: not bit-identical "
                "from here",
                stacklevel=2,
            )
        try:
            step, records, changes = (
                int(header["step"]),
                records_from(arrays),
                header.get("changes", []),
            )
            live = [_changed(c, changes) for c in self.configs]
            params = {
                name: _like(W, arrays[f"param/{name}"]) for name, W in self.params.items()
            }
            state = (
                {}
                if step == 0
                else {i: self._moments(name, arrays) for i, name in enumerate(self.params)}
            )
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"checkpoint {str(path)!r} must hold the whole state, got one without "
                f"{error}"
            ) from error
        with torch.no_grad():
            for name, W in self.params.items():
                W.copy_(params[name])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self._use(live)
        self.step, self.records, self.changes, self._replayed = step, records, changes, 0

    def _moments(self, name: str, arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
        """AdamW's state of one parameter."""
        moments = {
            key: _like(self.params[name], arrays[f"{key}/{name}"])
            for key in ("exp_avg", "exp_avg_sq")
        }
        return moments | {"step": torch.from_numpy(arrays[f"step/{name}"])}


def batch(train: Tensor, *, seed: int, step: int, size: int) -> Tensor:
    """Rows (size,) of the `step`-th batch: the next `size` of an endless row of shuffles of
    the training set.

    A pure function of its arguments (shuffle number e comes from the generator seeded with
    (seed, e)), so there is no state to save, and the batches are the same on every machine.

    >>> batch(torch.arange(4), seed=0, step=0, size=6).shape
    torch.Size([6])
    """
    n, start = len(train), step * size
    epochs = range(start // n, (start + size - 1) // n + 1)
    order = np.concatenate([_shuffle(n, seed, epoch) for epoch in epochs])
    start -= epochs[0] * n
    return train[torch.from_numpy(order[start : start + size])]


@lru_cache(maxsize=1)
def _compiled_forward() -> Callable[..., Tensor]:
    """One per process, so that every training of the same shape shares what has been
    compiled."""
    return torch.compile(forward, dynamic=False)


@lru_cache(maxsize=1024)
def _shuffle(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.RandomState([seed, epoch]).permutation(
        n
    )  # its stream is frozen (NEP 19)


def _frobenius_strengths(
    params: Params, configs: Sequence[TrainConfig]
) -> dict[str, Tensor]:
    """The coefficient of Frobenius decay of each weight, per run (runs, 1, 1), where some
    run has one."""
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
    """The stack's low-rank decay, with a strength per run (runs, 1, 1), or None if no run
    has one."""
    first = configs[0]
    strengths = [c.weight_decay if c.rule in LOW_RANK else 0.0 for c in configs]
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
    return (
        torch.stack([W.detach().flatten(1).square().sum(-1) for W in stacks]).sum(0).sqrt()
    )


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device must be one that torch can use here, got {device!r}: {error}"
        ) from error


def _changed(config: TrainConfig, changes: Sequence[dict[str, Any]]) -> TrainConfig:
    """The config after all `changes` of `Training.set`, in turn."""
    for change in changes:
        config = replace(
            config, **{name: value for name, value in change.items() if name != "step"}
        )
    return config


def _like(W: Tensor, array: np.ndarray) -> Tensor:
    """The array as a tensor of W's shape; broadcasting would hide a foreign one."""
    if tuple(W.shape) != array.shape:
        raise ValueError(f"shape {tuple(W.shape)} (it has {array.shape})")
    return torch.from_numpy(array)


def checkpoint_configs(path: str | Path) -> list[TrainConfig]:
    """The configs of the stack in a checkpoint, without reading its arrays; none if it is
    not there, or of no use."""
    try:
        return [
            TrainConfig(**config) for config in read_header(path, CHECKPOINT)["configs"]
        ]
    except (OSError, KeyError, TypeError, ValueError):
        return []


def _difference(expected: list[dict], found: object) -> str:
    """The first way in which a checkpoint's configs are not the expected ones."""
    if not isinstance(found, list) or len(found) != len(expected):
        return f"{len(found) if isinstance(found, list) else 'no'} configs, not {len(expected)}"
    for i, (wanted, given) in enumerate(zip(expected, found, strict=True)):
        for key, value in wanted.items():
            if given.get(key) != value:
                return f"{key} = {given.get(key)!r}, not {value!r} (run {i})"
    return "configs with unknown fields"
