"""Training a stack of runs at once: one batched model, one torch.optim.AdamW, one decay
rule with a strength per run.

A run is a stack of one. Everything random (data split, initial weights, batches) is drawn
per run from its own seed, so a run is the same computation alone and in a stack. (The
rounding differs, and long training amplifies it.)

    for record in train(TrainConfig(fraction=0.4, weight_decay=1e-2)):
        print(record.step, record.metrics["test_accuracy"])
"""

import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lrdlib._check import check_bool, check_choice, check_integer, shown
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
from lrdlib.training.config import (
    LOW_RANK,
    TrainConfig,
    check_stack,
    config_list,
    plain,
)
from lrdlib.training.records import (
    PARTS,
    Record,
    rank,
    record_arrays,
    records_from,
    spectrum,
    unless_diverged,
)
from lrdlib.training.store import checked_path, read_arrays, read_header, write_arrays

CHECKPOINT = "lrdlib-checkpoint/1"
SETTABLE = ("rule", "weight_decay", "l2", "lr")  # what may change while a stack trains
MASKS = ("train", "test", "orbit_clean")  # the parts of the table with a loss of their own
METRICS = (
    *("weight_norm", "grad_norm"),
    *(f"{part}_{what}" for part in MASKS for what in ("loss", "accuracy")),
    *("qk_stable_rank", "qk_effective_rank"),
)
EVAL_ROWS = 2048  # sequences per evaluation chunk: its activations stay in the cache
COUNTED = 2**24  # AdamW counts its steps in float32, which ends here
_noted: list[int] | None = None  # within interrupts_held: the signals that wait


def train(
    configs: TrainConfig | Iterable[TrainConfig],
    *,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "cpu",
    compile: bool = False,
) -> "Training":
    """Train a stack of runs and yield a Record at step 0, every `eval_every` steps, and at
    the end.

    With `checkpoint`, a path, the whole state is written there after each record; if the
    file exists, its records come first and training goes on from it, with a history
    bit-identical to an unbroken run (same machine, torch and number of threads). So does a
    training that was interrupted (Ctrl-C) and is iterated over again. compile: hand the
    forward pass of a step to torch.compile, which takes 15 to 30 seconds once per process
    and makes a step about 1.4 times as fast on a CPU (benchmarks/sweep.py); it needs a C++
    compiler, and rounds otherwise than without. Metrics over no pairs are NaN, such as the
    orbit-clean ones where hardly a pair is left to test on.

    Raises TypeError or ValueError if configs are empty, or differ in more than fraction,
    seed, rule, weight_decay and l2, or if torch cannot use the device here; and as
    `Training.load` for the checkpoint.
    """
    path = None if checkpoint is None else checked_path("checkpoint", checkpoint)
    stack = [configs] if isinstance(configs, TrainConfig) else config_list(configs)
    training = Training(stack, device=device, compile=compile)
    training.checkpoint = path
    if path is not None and path.exists():
        training.load(path)
    return training


class Training(Iterator[Record]):
    """A stack of runs in training: an iterator of Records. See `train`.

    configs (what it started from), params (with a runs axis), optimizer, step (done so
    far), records (made so far), live (the configs as `set` has changed them) and changes
    (what was set, and before which step).

    It may be interrupted anywhere, and goes on when it is iterated over again: records are
    where they would have been, and equal to the bit. Ctrl-C waits for the end of the step
    (or of `set` or `load`). Another exception in the middle of a change of state, such as
    AdamW's update and the decay, leaves one that is that of no step; then `params`, and all
    that needs them, raise RuntimeError, which says what to load.
    """

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        *,
        device: str | torch.device = "cpu",
        compile: bool = False,
    ) -> None:
        check_stack(configs)
        _check_device(device)
        check_bool("compile", compile)
        first = configs[0]
        self.configs, self.live = list(configs), list(configs)
        self.changes: list[dict[str, Any]] = []
        self.device = device
        self.compiled, self.forward = compile, _compiled_forward() if compile else forward
        self.task = first.data()
        self.model = first.model(self.task)
        self.splits = [split(self.task, c.fraction, c.seed) for c in configs]
        models = [
            init_params(self.model, torch.Generator().manual_seed(c.seed)) for c in configs
        ]
        self._params: Params = {
            name: W.to(device).requires_grad_() for name, W in stack_params(models).items()
        }
        self.optimizer = torch.optim.AdamW(
            self._params.values(),
            lr=first.lr,
            betas=first.betas,
            weight_decay=0.0,
            fused=True,
        )
        self.l2 = _frobenius_strengths(self._params, configs)
        self.decay = _low_rank_decay(self._params, configs)
        self._attached = None if self.decay is None else self.decay.attach(self.optimizer)
        self.tokens = self.task.tokens.to(device)  # (N, T)
        self.labels = self.task.labels.to(device)  # (N,)
        self.masks = {  # (runs, N) each
            name: _mask([getattr(s, name) for s in self.splits], len(self.task)).to(device)
            for name in MASKS
        }
        self.step = 0
        self.records: list[Record] = []
        self.checkpoint: Path | None = None
        self._given = 0  # records that were handed out
        self._grad_norm = torch.full((len(configs),), torch.nan, device=device)  # of `due`
        self._saved: tuple[Path | None, int, int] = (None, 0, 0)  # where; step, records
        self._broken = ""  # the change of state that was left in the middle

    @property
    def params(self) -> Params:
        """The weights by name, each with a runs axis. Raises RuntimeError if an exception
        has left them in the middle of a step."""
        if self._broken:
            path, step, _ = self._saved
            source = (
                f"its checkpoint {str(path)!r} (step {step})" if path else "a checkpoint"
            )
            raise RuntimeError(
                f"training must be whole, but was broken off within {self._broken}, and its "
                f"state is that of no step: load {source}, or start anew"
            )
        return self._params

    @property
    def due(self) -> int | None:
        """The step of the next record: this one for the first, then the next multiple of
        `eval_every` that has none yet, or the end; None after that."""
        if not self.records:
            return self.step
        every, steps = self.configs[0].eval_every, self.configs[0].steps
        least = max(self.step, self.records[-1].step + 1)
        due = min(-(-least // every) * every, steps)
        return due if due >= least else None

    def __next__(self) -> Record:
        if self._given == len(self.records):
            due = self.due
            if due is None:
                raise StopIteration
            while self.step < due:
                with interrupts_held() as noted:  # once for many steps: it takes 0.1 ms
                    while self.step < due and not noted:
                        self.update()
            self.records.append(self.measure(self._grad_norm))
        if self.checkpoint is not None:
            path, _, records = self._saved
            if (path, records) != (Path(self.checkpoint), len(self.records)):
                self.save(self.checkpoint)
        self._given += 1  # at last: what an interruption kept back is handed out then
        return self.records[self._given - 1]

    def update(self) -> None:
        """One step: batch, gradient, AdamW, decay. It happens whole or not at all."""
        params = self.params
        rows = torch.stack(  # (runs, B)
            [
                batch(s.train, seed=c.seed, step=self.step, size=c.batch_size)
                for s, c in zip(self.splits, self.configs, strict=True)
            ]
        ).to(self.device)
        self.optimizer.zero_grad()
        with torch.enable_grad():
            # (runs, B, classes)
            logits = self.forward(params, self.tokens[rows], self.model)
            # the sum over runs of each run's mean loss: runs do not share a parameter, so
            # their gradients stay apart
            total = F.cross_entropy(
                logits.flatten(0, -2), self.labels[rows].flatten(), reduction="sum"
            )
            (total / rows.shape[-1]).backward()
        with interrupts_held():  # as self._whole, which costs a small model half a percent
            self._broken = f"step {self.step + 1}"
            self.optimizer.step()  # and the low-rank decay, which is attached to it
            with torch.no_grad():
                for name, weight_decay in self.l2.items():
                    frobenius_update_(params[name], self.live[0].lr * weight_decay)
            self.step += 1
            if self.records and self.step == self.due:
                gradients = [W.grad for W in params.values() if W.grad is not None]
                self._grad_norm = _norm(gradients)
            self._broken = ""

    @contextmanager
    def _whole(self, change: str) -> Iterator[None]:
        """A change of state: Ctrl-C waits for its end, and after any other exception
        `params` says that it was left in the middle."""
        with interrupts_held():
            self._broken = change
            yield
            self._broken = ""

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
        check_stack(live)
        news = {
            name: getattr(live[0], name)
            for name in values
            if any(getattr(c, name) != values[name] for c in self.live)
        }
        if not news:
            return
        changes = list(self.changes)
        if changes and changes[-1]["step"] == self.step:
            news = changes.pop() | news
        decays = _frobenius_strengths(self.params, live), _low_rank_decay(self.params, live)
        with self._whole("set"):
            self._use(live, *decays)
            self.changes = [*changes, {"step": self.step} | news]

    def _use(
        self, live: list[TrainConfig], l2: dict[str, Tensor], decay: LowRankDecay | None
    ) -> None:
        """Take the next step with the learning rate of `live` and these decays, which are
        those of `live` too."""
        if self._attached is not None:
            self._attached.remove()
        self.live, self.l2, self.decay = live, l2, decay
        self._attached = None if decay is None else decay.attach(self.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = live[0].lr

    @torch.no_grad()
    def measure(self, grad_norm: Tensor) -> Record:
        """Evaluate the stack as it stands, over the task's whole table.

        grad_norm (runs,) is passed on into the record. Raises TypeError or ValueError for
        another.
        """
        if not isinstance(grad_norm, Tensor):
            raise TypeError(
                f"grad_norm must be a torch.Tensor, got {type(grad_norm).__name__}"
            )
        if grad_norm.shape != (runs := len(self.configs),):
            raise ValueError(
                f"grad_norm must be of shape ({runs},), got {tuple(grad_norm.shape)}"
            )
        losses, hits = self._evaluate()  # (runs, N)
        metrics = {"weight_norm": _norm(list(self.params.values())), "grad_norm": grad_norm}
        for name, mask in self.masks.items():
            count = mask.sum(-1)  # (runs,)
            metrics[f"{name}_loss"] = (losses * mask).sum(-1) / count
            metrics[f"{name}_accuracy"] = (hits * mask).sum(-1) / count
        blocks = {name: W for name, W in self.params.items() if role(name) in MATRIX_ROLES}
        spectra = {name: spectrum(W) for name, W in blocks.items()}  # (runs, k)
        qk = [S for name, S in spectra.items() if role(name) in ("query", "key")]
        for name, of in (("stable", stable_rank), ("effective", effective_rank)):
            # the mean over matrices of (matrices, runs)
            metrics[f"qk_{name}_rank"] = torch.stack([rank(of, S) for S in qk]).mean(0)
        fourier = {}  # (runs, p // 2)
        if self.task.modular:
            numbers = self.params["embedding"][..., : self.task.p, :]  # (runs, p, d)
            fourier["embedding"] = unless_diverged(fourier_power, numbers)
        parts = (metrics, spectra, fourier)
        return Record(self.step, *({k: v.cpu() for k, v in part.items()} for part in parts))

    def _evaluate(self) -> tuple[Tensor, Tensor]:
        """Loss and correctness of every run on every row of the table: two (runs, N)
        tensors."""
        losses, hits = [], []
        for tokens, labels in zip(
            self.tokens.split(EVAL_ROWS), self.labels.split(EVAL_ROWS), strict=True
        ):
            logits = forward(self.params, tokens, self.model)  # (runs, rows, classes)
            labels = labels.expand(logits.shape[:-1])  # (runs, rows)
            flat = logits.flatten(0, 1)  # (runs rows, classes)
            loss = F.cross_entropy(flat, labels.flatten(), reduction="none")
            losses.append(loss.view_as(labels))
            hits.append(logits.argmax(-1) == labels)
        return torch.cat(losses, -1), torch.cat(hits, -1)

    def save(self, path: str | Path) -> None:
        """Write the whole state to `path`, replacing the file at once or not at all.

        Raises ValueError if there is no record yet, and OSError if the disk refuses.
        """
        path = checked_path("path", path)
        arrays = {
            f"param/{name}": W.detach().cpu().numpy() for name, W in self.params.items()
        }
        for name, W in self.params.items():
            for key in ("exp_avg", "exp_avg_sq", "step"):
                if W in self.optimizer.state:
                    arrays[f"{key}/{name}"] = self.optimizer.state[W][key].cpu().numpy()
        arrays["grad_norm"] = self._grad_norm.cpu().numpy()
        arrays |= record_arrays(self.records)
        header = {
            "step": self.step,
            "configs": [plain(c) for c in self.configs],
            "changes": self.changes,
            "torch": torch.__version__,
        }
        write_arrays(path, CHECKPOINT, header, arrays, compress=False)
        self._saved = path, self.step, len(self.records)

    def load(self, path: str | Path) -> None:
        """Take the whole state from `path`; its records come first from now on. Mends a
        training that was broken off.

        Raises FileNotFoundError if there is no file, OSError if it cannot be read, and
        ValueError, which names it, if it is damaged, or does not hold a state of this
        training, as other configs have; nothing is changed then. Weights and metrics may be
        NaN or infinite: a run may have diverged.
        """
        path = checked_path("path", path)
        header, arrays = read_arrays(path, CHECKPOINT)
        try:
            step = self._checked_step(header)
            live = self._changed(header.get("changes", []), step)
            self._check_arrays(arrays, step)
            records = self._checked_records(arrays, step)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"checkpoint {str(path)!r} must hold a state of this training: {error}"
            ) from error
        if header["torch"] != torch.__version__:
            warnings.warn(
                f"{path} was written by torch {header['torch']}: not bit-identical from here",
                stacklevel=2,
            )
        tensors = {
            name: torch.from_numpy(array)
            for name, array in arrays.items()
            if name.partition("/")[0] not in ("record", *PARTS)
        }
        params = self._params
        state = {
            i: {key: tensors[f"{key}/{name}"] for key in ("exp_avg", "exp_avg_sq", "step")}
            for i, name in enumerate(params if step else ())
        }
        decays = _frobenius_strengths(params, live), _low_rank_decay(params, live)
        grad_norm = tensors.get("grad_norm", torch.full((len(live),), torch.nan))
        with self._whole("load"):
            with torch.no_grad():
                for name, W in params.items():
                    W.copy_(tensors[f"param/{name}"])
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
            self._use(live, *decays)
            self.step, self.records, self._given = step, records, 0
            self.changes = header.get("changes", [])
            self._grad_norm = grad_norm.to(self.device)
            self._saved = path, step, len(records)

    def _checked_step(self, header: dict[str, Any]) -> int:
        """The step of a checkpoint of these configs. Raises TypeError or ValueError for a
        header of another."""
        expected, found = [plain(c) for c in self.configs], header.get("configs")
        if found != expected:
            raise ValueError(f"configs must be its own, got {_difference(expected, found)}")
        if not isinstance(header.get("torch"), str):
            raise TypeError(f"torch must be its version, got {shown(header.get('torch'))}")
        check_integer("step", header.get("step"), at_least=0)
        return header["step"]

    def _changed(self, changes: Any, step: int) -> list[TrainConfig]:
        """The configs after all `changes` of `set`, in turn, by `step`. Raises TypeError or
        ValueError for what `set` does not write."""
        if not isinstance(changes, list) or not all(isinstance(c, dict) for c in changes):
            raise TypeError(f"changes must be a list of what was set, got {shown(changes)}")
        live, last = self.configs, -1
        for change in changes:
            check_integer("step of a change", change.get("step"), at_least=0)
            if not last < change["step"] <= step:
                raise ValueError(
                    f"steps of changes must increase up to {step}, got {change['step']} "
                    f"after {last}"
                )
            last, values = change["step"], {k: change[k] for k in change if k != "step"}
            for name in values:
                check_choice("what was set", name, SETTABLE)
            live = [replace(c, **values) for c in live]
            check_stack(live)
        return list(live)

    def _check_arrays(self, arrays: dict[str, np.ndarray], step: int) -> None:
        """Raise ValueError unless a checkpoint at `step` holds the arrays that `save`
        writes: all, no others, and each of its shape and type."""
        records = len(np.atleast_1d(arrays.get("record/step", ())))
        expected = self._layout(records, moments=step > 0)
        if "grad_norm" not in arrays:  # which older checkpoints do not have
            del expected["grad_norm"]
        for name in sorted(arrays.keys() ^ expected.keys()):
            wrong = "got one more" if name in arrays else "got none"
            raise ValueError(f"arrays must be those of its state, {wrong}: {name!r}")
        for name, (shape, dtype) in expected.items():
            if (arrays[name].shape, arrays[name].dtype) != (shape, np.dtype(dtype)):
                raise ValueError(
                    f"{name!r} must be of shape {shape} and type {dtype}, got "
                    f"{arrays[name].shape} and {arrays[name].dtype}"
                )
        for name in self._params if step else ():
            if arrays[f"step/{name}"] != min(step, COUNTED):
                raise ValueError(
                    f"step must be AdamW's, {arrays[f'step/{name}']:g} for {name!r}, got {step}"
                )

    def _layout(
        self, records: int, *, moments: bool
    ) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and type of every array of a checkpoint with so many records; without
        AdamW's state if no step has been taken."""
        runs, params = len(self.configs), self._params
        number = str(params["head"].dtype).removeprefix("torch.")
        blocks = {name: W for name, W in params.items() if role(name) in MATRIX_ROLES}
        measured = {f"metric/{name}": (runs,) for name in METRICS} | {
            f"spectrum/{name}": (runs, min(W.shape[-2:])) for name, W in blocks.items()
        }
        if self.task.modular:
            measured["fourier/embedding"] = (runs, self.task.p // 2)
        own = ("param", "exp_avg", "exp_avg_sq") if moments else ("param",)
        counts = [f"step/{name}" for name in params] if moments else []
        return {
            "record/step": ((records,), "int64"),
            "grad_norm": ((runs,), number),
            **{name: ((records, *shape), number) for name, shape in measured.items()},
            **{
                f"{k}/{name}": (tuple(W.shape), number)
                for k in own
                for name, W in params.items()
            },
            **{name: ((), "float32") for name in counts},
        }

    def _checked_records(self, arrays: dict[str, np.ndarray], step: int) -> list[Record]:
        """The records of a checkpoint at `step`. Raises ValueError if there are none, or
        one at another step than those of a training (where the first may be anywhere)."""
        records, first = records_from(arrays), self.configs[0]
        if not records:
            raise ValueError("records must hold at least one, got none")
        for before, at in pairwise([-1, *(record.step for record in records)]):
            multiple = at % first.eval_every == 0 and at <= first.steps
            on_grid = before < 0 or multiple or at == first.steps
            if not (before < at <= step and on_grid):
                raise ValueError(
                    f"records must be every {first.eval_every} steps up to {step}, got one at "
                    f"{at}, after {before}"
                )
        return records


@contextmanager
def interrupts_held() -> Iterator[list[int]]:
    """A block in which Ctrl-C (SIGINT) only takes note, in the list that it yields, to act
    at the end; within another such block, at the end of that one.

    Python handles signals in the main thread alone, so elsewhere there is nothing to hold.
    """
    global _noted
    if threading.current_thread() is not threading.main_thread():
        yield []
    elif _noted is not None:
        yield _noted
    elif not callable(handler := signal.getsignal(signal.SIGINT)):  # not Python's to hold
        yield []
    else:
        noted: list[int] = []
        signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
        _noted = noted
        try:
            yield noted
        finally:
            _noted = None
            signal.signal(signal.SIGINT, handler)
            if noted:
                signal.raise_signal(signal.SIGINT)


def batch(train: Tensor, *, seed: int, step: int, size: int) -> Tensor:
    """Rows (size,) of the `step`-th batch: the next `size` of an endless row of shuffles of
    the training set.

    A pure function of its arguments (shuffle number e comes from the generator seeded with
    (seed, e)), so there is no state to save, and the batches are the same on every machine.
    Raises TypeError or ValueError for no rows, a step below 0, a size below 1, or a seed
    that is not in 0 ... 2^32 - 1.

    >>> batch(torch.arange(4), seed=0, step=0, size=6).shape
    torch.Size([6])
    """
    if not isinstance(train, Tensor):
        raise TypeError(f"train must be a torch.Tensor, got {type(train).__name__}")
    if train.ndim != 1 or not len(train):
        raise ValueError(f"train must be at least one row (n,), got {tuple(train.shape)}")
    check_integer("seed", seed, at_least=0)
    check_integer("step", step, at_least=0)
    check_integer("size", size)
    if seed >= 2**32:
        raise ValueError(f"seed must be < 2**32, got {seed}")
    n, start = len(train), step * size
    epochs = range(start // n, (start + size - 1) // n + 1)
    order = np.concatenate([_shuffle(n, seed, epoch) for epoch in epochs])  # (epochs n,)
    start -= epochs[0] * n
    return train[torch.from_numpy(order[start : start + size])]


@lru_cache(maxsize=1)
def _compiled_forward() -> Callable[..., Tensor]:
    """One per process, so that every training of the same shape shares what has been
    compiled."""
    return torch.compile(forward, dynamic=False)


@lru_cache(maxsize=1024)
def _shuffle(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.RandomState([seed, epoch]).permutation(n)  # frozen by NEP 19


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
    squares = [W.detach().flatten(1).square().sum(-1) for W in stacks]  # (runs,) each
    return torch.stack(squares).sum(0).sqrt()


def _check_device(device: object) -> None:
    """Raise TypeError unless `device` is the name of one, ValueError if tensors cannot live
    on it here."""
    if not isinstance(device, (str, torch.device)):
        raise TypeError(
            f"device must be one that torch can use here, such as 'cpu', got {shown(device)}"
        )
    try:
        torch.empty(0, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device must be one that torch can use here, got {str(device)!r}: {error}"
        ) from error


def checkpoint_configs(path: str | Path) -> list[TrainConfig]:
    """The configs of the stack in a checkpoint; its arrays are not looked at.

    Raises FileNotFoundError if there is no file, OSError if it cannot be read, and
    ValueError, which names it, if it is damaged, foreign, of another version, or holds
    configs that cannot be trained as one stack.
    """
    path = checked_path("path", path)
    found = read_header(path, CHECKPOINT).get("configs")
    try:
        if not isinstance(found, list) or not all(isinstance(c, dict) for c in found):
            raise TypeError(f"configs must be a list of fields, got {shown(found)}")
        configs = [TrainConfig(**fields) for fields in found]
        check_stack(configs)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"checkpoint {str(path)!r} must hold the configs of a stack: {error}"
        ) from error
    return configs


def _difference(expected: list[dict[str, Any]], found: object) -> str:
    """The first way in which a checkpoint's configs are not the expected ones."""
    if not isinstance(found, list) or len(found) != len(expected):
        number = len(found) if isinstance(found, list) else "no"
        return f"{number} configs, not {len(expected)}"
    for i, (wanted, given) in enumerate(zip(expected, found, strict=True)):
        if not isinstance(given, dict):
            return f"{given!r}, not the fields of a config (run {i})"
        for key, value in wanted.items():
            if given.get(key) != value:
                return f"{key} = {given.get(key)!r}, not {shown(value)} (run {i})"
    return "configs with unknown fields"
