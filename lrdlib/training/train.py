"""Training a stack of runs at once: one batched model, one step, whose coefficients say
which optimiser, decay and strengths each run has (lrdlib.training.step).

A run is a stack of one. Everything random (data split, initial weights, batches) is drawn
per run from its own seed, so a run is the same computation alone and in a stack. (The
rounding differs, and long training amplifies it.)

    for record in train(TrainConfig(fraction=0.4, weight_decay=1e-2)):
        print(record.step, record.metrics["test_accuracy"])
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

from lrdlib._check import check_bool, check_choice, shown
from lrdlib.decay import frobenius_norm
from lrdlib.fourier import fourier_power
from lrdlib.matrices import PLACES
from lrdlib.model import MATRIX_ROLES, ModelConfig, Params, forward, init_params, role
from lrdlib.tasks import split
from lrdlib.training.backend import denormals_flushed
from lrdlib.training.batches import batches
from lrdlib.training.checkpoint import (
    CHECKPOINT,
    Layout,
    check_arrays,
    checked_records,
    checked_step,
    configs_after,
    layout,
)
from lrdlib.training.config import (
    MEMORISED,
    TrainConfig,
    check_settable,
    check_stack,
    config_list,
    plain,
)
from lrdlib.training.interrupts import interrupts_held
from lrdlib.training.records import (
    MASKS,
    PARTS,
    Record,
    Snapshot,
    gram,
    record_arrays,
    unless_diverged,
)
from lrdlib.training.step import (
    Coefficients,
    adamw_update_,
    cap_,
    coefficients,
    decay_,
    flat,
    muon_update_,
    named,
    sgd_update_,
    summed_loss,
)
from lrdlib.training.store import checked_path, read_arrays, write_arrays

PRECISIONS = ("float32", "tf32")
EVAL_ROWS = 2048  # sequences per evaluation chunk: its activations stay in the cache
AHEAD = 64  # batches that are drawn at once
Memorised = tuple[int, list[bool]]  # the step of a record, and of each run whether it had


def train(
    configs: TrainConfig | Iterable[TrainConfig],
    *,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "cpu",
    compile: bool = False,
    precision: str = "float32",
) -> "Training":
    """Train a stack of runs and yield a Record at step 0, every `eval_every` steps, and at
    the end.

    With `checkpoint`, a path, the whole state is written there after each record; if the
    file exists, its records come first and training goes on from it, with a history
    bit-identical to an unbroken run (same machine, torch and number of threads). So does a
    training that was interrupted (Ctrl-C) and is iterated over again. compile: hand the
    forward pass of a step and AdamW to torch.compile, which takes 15 to 30 seconds once per
    process and makes a step about 1.4 times as fast on a CPU (benchmarks/sweep.py); it
    needs a C++ compiler, and rounds otherwise than without. precision: "float32", or "tf32"
    to multiply in TF32 in the forward and backward passes, on a GPU that has it (polar
    factors and spectra never are). On a GPU a step is captured once, as a CUDA graph.
    Metrics over no pairs are NaN, such as the orbit-clean ones where hardly a pair is left
    to test on.

    Raises TypeError or ValueError if configs are empty, or differ in what the runs of a
    stack share (lrdlib.training.config.SHARED), or if torch cannot use the device here; and
    as `Training.load` for the checkpoint.
    """
    path = None if checkpoint is None else checked_path("checkpoint", checkpoint)
    stack = [configs] if isinstance(configs, TrainConfig) else config_list(configs)
    training = Training(stack, device=device, compile=compile, precision=precision)
    training.checkpoint = path
    if path is not None and path.exists():
        training.load(path)
    return training


class Training(Iterator[Record]):
    """A stack of runs in training: an iterator of Records. See `train`.

    configs (what it started from), params (with a runs axis), step (done so far), records
    (made so far), live (the configs as `set` has changed them) and changes (what was set,
    and before which step).

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
        precision: str = "float32",
    ) -> None:
        check_stack(configs)
        _check_device(device)
        check_bool("compile", compile)
        check_choice("precision", precision, PRECISIONS)
        first = configs[0]
        self.configs, self.live = list(configs), list(configs)
        self.changes: list[dict[str, Any]] = []
        self.device, self.precision = torch.device(device), precision
        self.compiled = compile
        self.forward = compiled(forward) if compile else forward
        self._adamw = compiled(adamw_update_) if compile else adamw_update_
        self.task = first.data()
        self.model = first.model(self.task)
        self.splits = [split(self.task, c.fraction, c.seed) for c in configs]
        weights = torch.stack([_start(c, self.model) for c in configs])  # (runs, n)
        self._hold(weights.to(device))
        self._norms = {  # (runs, 1, 1), to which some runs go back after each step
            name: frobenius_norm(W.detach())
            for name, W in self._params.items()
            if role(name) in MATRIX_ROLES and any(c.hold != "none" for c in configs)
        }
        self.tokens = self.task.tokens.to(device)  # (N, T)
        self.labels = self.task.labels.to(device)  # (N,)
        self.masks = {  # (runs, N) each
            name: _mask([getattr(s, name) for s in self.splits], len(self.task)).to(device)
            for name in MASKS
        }
        # runs of one seed and fraction share their batches; each is drawn once
        owners = {(c.fraction, c.seed): i for i, c in enumerate(configs)}
        places = {key: i for i, key in enumerate(owners)}
        self._drawers = list(owners.values())
        self._drawer = torch.tensor(
            [places[c.fraction, c.seed] for c in configs], device=device
        )
        ahead = max(1, min(AHEAD, 2**22 // first.batch_size))
        self._rows = torch.zeros(  # of the table, for the steps from `_drawn` on
            (ahead, len(configs), first.batch_size), dtype=torch.int32, device=device
        )
        self._drawn = -ahead
        self._cursor = torch.zeros(1, dtype=torch.int64, device=device)  # into `_rows`
        self._count = torch.zeros(1, dtype=torch.float64, device=device)  # AdamW's
        self.step = 0
        self.records: list[Record] = []
        self.checkpoint: Path | None = None
        self._given = 0  # records that were handed out
        # steps of the records, and who had memorised (runs,)
        self._memorised: list[Memorised] = []
        self._grad_norm = torch.full((len(configs),), torch.nan, device=device)  # of `due`
        self._saved: tuple[Path | None, int, int] = (None, 0, 0)  # where; step, records
        self._broken = ""  # the change of state that was left in the middle
        self._graph: Any = None  # a captured step
        self._captures = self.device.type == "cuda"  # whether one is to be captured
        self._outside = torch.cat(  # 1 for each weight (n,) that is in no block matrix
            [
                torch.full(W[0].shape, role(name) not in MATRIX_ROLES).flatten()
                for name, W in self._params.items()
            ]
        ).to(weights.to(device))
        self.coefficients = self._coefficients(self.live, [])

    def _hold(self, weights: Tensor) -> None:
        """Take these weights (runs, n), with AdamW's moments 0."""
        self._weights = weights
        self._params: Params = {
            name: W.detach().requires_grad_()
            for name, W in named(weights, self.model).items()
        }
        self._moments = torch.zeros_like(weights), torch.zeros_like(weights)
        self._gradient = torch.zeros_like(weights)  # of the last step
        for name, gradient in named(self._gradient, self.model).items():
            self._params[name].grad = gradient

    def _coefficients(
        self, live: Sequence[TrainConfig], memorised: Sequence[Memorised]
    ) -> Coefficients:
        """Those of the next step, after records at which so many had memorised."""
        awake = [_begun(run, c.decay_after, memorised) for run, c in enumerate(live)]
        record = memorised[-1][0] // live[0].eval_every if memorised else 0
        return coefficients(self._params, live, self._norms, awake, record)

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
        if not self._memorised:
            return self.step
        every, steps = self.configs[0].eval_every, self.configs[0].steps
        least = max(self.step, self._memorised[-1][0] + 1)
        due = min(-(-least // every) * every, steps)
        return due if due >= least else None

    def __next__(self) -> Record:
        if self._given == len(self.records):
            if self.due is None:
                raise StopIteration
            snapshot = self._snapshot_when_due()
            record = snapshot.record()
            with interrupts_held():
                self.records.append(record)
                self._note(snapshot)
        if self.checkpoint is not None:
            path, _, records = self._saved
            if (path, records) != (Path(self.checkpoint), len(self.records)):
                self.save(self.checkpoint)
        self._given += 1  # at last: what an interruption kept back is handed out then
        return self.records[self._given - 1]

    def snapshots(self) -> Iterator[Snapshot]:
        """As iteration, but what takes time on a CPU is left to `Snapshot.record`, which
        another thread may call while this goes on. Nothing goes into `records` or a
        checkpoint."""
        while self.due is not None:
            snapshot = self._snapshot_when_due()
            self._note(snapshot)
            yield snapshot

    def _snapshot_when_due(self) -> Snapshot:
        due = self.due
        assert due is not None
        while self.step < due:
            # once for many steps: it takes 0.1 ms
            with interrupts_held() as noted, denormals_flushed():
                while self.step < due and not noted:
                    self.update()
        return self.snapshot(self._grad_norm)

    def _note(self, snapshot: Snapshot) -> None:
        """Remember that a record has been made, and begin the decays and the learning
        rates that it starts."""
        self._memorised.append(_memorised(snapshot.step, snapshot.metrics))
        if any(c.decay_after is not None or len(c.qk_rates) > 1 for c in self.live):
            changed = self._coefficients(self.live, self._memorised).tensors()
            for old, new in zip(self.coefficients.tensors(), changed, strict=True):
                old.copy_(new)  # in place: a captured step reads them there

    def update(self) -> None:
        """One step: batch, gradient, AdamW, decay, cut. It happens whole or not at all."""
        assert self.params
        self._draw()
        if self._captures and self._graph is None and not self.coefficients.proximal:
            self._capture()  # the proximal step waits for its SVD
        if self._graph is None:
            self._differentiate()
        with interrupts_held():  # as self._whole, which costs a small model half a percent
            self._broken = f"step {self.step + 1}"
            if self._graph is None:
                self._apply()
            else:
                self._graph.replay()
            with torch.no_grad():
                cap_(self._params, self.coefficients)
            self.step += 1
            if self._memorised and self.step == self.due:
                self._grad_norm = torch.linalg.vector_norm(self._gradient, dim=-1)
            self._broken = ""

    def _draw(self) -> None:
        """See to it that `_rows` holds this step's batch, and say where."""
        first, ahead = self.configs[0], len(self._rows)
        if not self._drawn <= self.step < self._drawn + ahead:
            rows = [
                batches(
                    self.splits[i].train,
                    seed=self.configs[i].seed,
                    start=self.step,
                    count=ahead,
                    size=first.batch_size,
                )
                for i in self._drawers
            ]
            drawn = torch.stack(rows, 1).int().to(self.device)  # (ahead, drawers, B)
            self._rows.copy_(drawn[:, self._drawer])
            self._drawn = self.step
        self._cursor.fill_(self.step - self._drawn)
        self._count.fill_(self.step + 1)

    def _differentiate(self) -> None:
        """The gradient (runs, n) of the batch at `_cursor`."""
        rows = self._rows.index_select(0, self._cursor)[0].long()  # (runs, B)
        with torch.enable_grad(), _multiplying(self.precision):
            loss = summed_loss(
                self._params,
                self.tokens[rows],
                self.labels[rows],
                self.model,
                self.coefficients.temper,
                self.forward,
            )
            # not backward(), which waits for another stream while a graph is captured
            gradients = torch.autograd.grad(loss, list(self._params.values()))
        views = named(self._gradient, self.model)
        torch._foreach_copy_(list(views.values()), list(gradients))

    @torch.no_grad()
    def _apply(self) -> None:
        """Optimiser and decay, with the gradient as it stands."""
        c, first = self.coefficients, self.configs[0]
        gradients = named(self._gradient, self.model)
        for name, trained in c.trained.items():
            gradients[name].mul_(trained)
        m, v = self._moments
        state = self._weights, self._gradient, m
        lr, (beta1, _) = c.lr, c.betas
        with _multiplying("float32"):  # polar factors, whatever this process has chosen
            if not isinstance(lr, Tensor):
                adamw_update_(*state, v, self._count, lr, c.betas)
            elif first.optimizer == "adamw":
                self._adamw(*state, v, self._count, lr, c.betas)
            elif first.optimizer == "sgd":
                sgd_update_(*state, lr, torch.as_tensor(beta1).to(lr))
            else:
                self._adamw(*state, v, self._count, lr * self._outside, c.betas)
                moments, momentum = named(m, self.model), torch.as_tensor(beta1).to(lr)
                muon_update_(self._params, gradients, moments, lr, momentum, first)
            decay_(self._params, c, first)

    def _capture(self) -> None:
        """Capture a step as a CUDA graph, or say why there is none. The state stays, also
        where this is interrupted."""
        kept = [self._weights, *self._moments]
        before = [x.clone() for x in kept]

        def step() -> None:
            self._differentiate()
            self._apply()

        current = torch.cuda.current_stream(self.device)
        side = torch.cuda.Stream(self.device)
        why = ""
        try:
            # a capture that fails leaves torch on its stream: this block takes it back
            with torch.cuda.stream(current):
                side.wait_stream(current)
                with torch.cuda.stream(side):
                    for _ in range(2):  # what compiles and allocates does so now
                        step()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=side):  # which runs nothing
                    step()
                self._graph = graph
        except Exception as error:
            self._captures = False
            why = f"{type(error).__name__}: {error!s:.300}"
        finally:
            current.wait_stream(side)
            with torch.no_grad():
                for x, old in zip(kept, before, strict=True):
                    x.copy_(old)
        if why:
            warnings.warn(f"the step runs uncaptured, slower: {why}", stacklevel=2)

    @contextmanager
    def _whole(self, change: str) -> Iterator[None]:
        """A change of state: Ctrl-C waits for its end, and after any other exception
        `params` says that it was left in the middle."""
        with interrupts_held():
            self._broken = change
            yield
            self._broken = ""

    def set(self, **values: Any) -> None:
        """From the next step on, train every run with these values, of SETTABLE: rule,
        weight_decay, l2, lr, part, select, l2_on or attention.

        Batches, weights and AdamW's moments stay as they are. `configs` and the histories
        made so far stay too; what differs from before goes into `changes`, as {"step":
        steps done, name: value, ...}. Raises TypeError or ValueError for another name or a
        value that TrainConfig refuses; nothing is changed then.
        """
        check_settable(values)
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
        assert self.params
        changed = self._coefficients(live, self._memorised)
        with self._whole("set"):
            self._use(live, changed)
            self.changes = [*changes, {"step": self.step} | news]

    def take_over(self, other: "Training") -> None:
        """Go on from where another training stands: its weights, AdamW's moments, and its
        step. Configs, and so batches and decays, stay one's own.

        Raises TypeError for anything but a Training, and ValueError for one of another
        model or number of runs, or if this one has made a record; nothing is changed then.
        """
        if not isinstance(other, Training):
            raise TypeError(f"other must be a Training, got {type(other).__name__}")
        if self._memorised:
            raise ValueError("a training must take over before its first record")
        assert other.params
        if (self.model, len(self.configs)) != (other.model, len(other.configs)):
            raise ValueError(
                f"other must train {len(self.configs)} runs of {self.model}, got "
                f"{len(other.configs)} of {other.model}"
            )
        with self._whole("take_over"), torch.no_grad():
            for name, state in self._state().items():
                state.copy_(other._state()[name])
            self.step = other.step

    def _use(self, live: list[TrainConfig], changed: Coefficients) -> None:
        """Take the next step with these coefficients, which are those of `live`."""
        self.live, self.coefficients, self._graph = live, changed, None

    def measure(self, grad_norm: Tensor) -> Record:
        """Evaluate the stack as it stands, over the task's whole table.

        grad_norm (runs,) is passed on into the record. Raises TypeError or ValueError for
        another.
        """
        return self.snapshot(grad_norm).record()

    @torch.no_grad()
    def snapshot(self, grad_norm: Tensor) -> Snapshot:
        """What `measure` needs of the weights as they stand, on the CPU. Raises as it
        does."""
        if not isinstance(grad_norm, Tensor):
            raise TypeError(
                f"grad_norm must be a torch.Tensor, got {type(grad_norm).__name__}"
            )
        if grad_norm.shape != (runs := len(self.configs),):
            raise ValueError(
                f"grad_norm must be of shape ({runs},), got {tuple(grad_norm.shape)}"
            )
        params = self.params
        losses, hits, squares = self._evaluate()  # (runs, N)
        metrics = {"weight_norm": _norm(list(params.values())), "grad_norm": grad_norm}
        metrics["logit_rms"] = squares.mean(-1).sqrt()
        for name, mask in self.masks.items():
            count = mask.sum(-1)  # (runs,)
            metrics[f"{name}_loss"] = (losses * mask).sum(-1) / count
            metrics[f"{name}_accuracy"] = (hits * mask).sum(-1) / count
        for place, roles in PLACES.items():
            there = [W for name, W in params.items() if role(name) in roles]
            metrics[f"weight_norm_{place}"] = _norm(there)
        grams = {  # (runs, k, k)
            name: gram(W).cpu() for name, W in params.items() if role(name) in MATRIX_ROLES
        }
        fourier = {}  # (runs, p // 2)
        if self.task.modular:
            numbers = params["embedding"][..., : self.task.p, :]  # (runs, p, d)
            fourier["embedding"] = unless_diverged(fourier_power, numbers).cpu()
        measured = {name: x.cpu() for name, x in metrics.items()}
        return Snapshot(self.step, measured, grams, fourier)

    def _evaluate(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of every run on every row of the table: loss, correctness, and the mean square of
        the logits; three tensors (runs, N)."""
        losses, hits, squares = [], [], []
        tokens, labels, size = self.tokens, self.labels, EVAL_ROWS
        forward_ = forward
        if self.device.type == "cuda":  # compiled once: chunks of one size
            chunks = -(-len(tokens) // EVAL_ROWS)
            size, forward_ = -(-len(tokens) // chunks), self.forward
            rows = torch.arange(chunks * size, device=self.device) % len(tokens)
            tokens, labels = tokens[rows], labels[rows]
        with _multiplying(self.precision):
            for some, right in zip(tokens.split(size), labels.split(size), strict=True):
                # (runs, rows, classes)
                logits = forward_(self.params, some, self.model, self.coefficients.temper)
                right = right.expand(logits.shape[:-1])  # (runs, rows)
                flat = logits.flatten(0, 1)  # (runs rows, classes)
                loss = F.cross_entropy(flat, right.flatten(), reduction="none")
                losses.append(loss.view_as(right))
                hits.append(logits.argmax(-1) == right)
                squares.append(logits.square().mean(-1))
        n = len(self.tokens)
        loss, hit, square = (torch.cat(x, -1)[:, :n] for x in (losses, hits, squares))
        return loss, hit, square

    def save(self, path: str | Path) -> None:
        """Write the whole state to `path`, replacing the file at once or not at all.

        Raises ValueError if there is no record yet, and OSError if the disk refuses.
        """
        path = checked_path("path", path)
        assert self.params
        arrays = {
            f"{kind}/{name}": W.detach().cpu().numpy()
            for kind, state in self._state().items()
            for name, W in named(state, self.model).items()
        }
        arrays["grad_norm"] = self._grad_norm.cpu().numpy()
        arrays["count"] = np.array(self.step)
        arrays |= record_arrays(self.records)
        header = {
            "step": self.step,
            "configs": [plain(c) for c in self.configs],
            "changes": self.changes,
            "torch": torch.__version__,
        }
        write_arrays(path, CHECKPOINT, header, arrays, compress=False)
        self._saved = path, self.step, len(self.records)

    def _state(self) -> dict[str, Tensor]:
        """What a step changes, by its name in a checkpoint: (runs, n) each."""
        m, v = self._moments
        return {"param": self._weights, "exp_avg": m, "exp_avg_sq": v}

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
            step = checked_step(header, self.configs)
            live = configs_after(self.configs, header.get("changes", []), step)
            check_arrays(arrays, self._layout(arrays), step)
            records = checked_records(arrays, self.configs[0], step)
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
        memorised = [_memorised(r.step, r.metrics) for r in records]
        new = self._coefficients(live, memorised)
        with self._whole("load"):
            for kind, state in self._state().items():
                for name, W in named(state, self.model).items():
                    W.copy_(tensors[f"{kind}/{name}"])
            self._use(live, new)
            self.step, self.records, self._given = step, records, 0
            self._memorised = memorised
            self.changes = header.get("changes", [])
            self._grad_norm = tensors["grad_norm"].to(self.device)
            self._saved = path, step, len(records)

    def _layout(self, arrays: Mapping[str, np.ndarray]) -> Layout:
        """The arrays that a checkpoint of this training holds, with as many records as
        these have."""
        records = len(np.atleast_1d(arrays.get("record/step", ())))
        modes = self.task.p // 2 if self.task.modular else 0
        return layout(self._params, self._state(), modes, records)


@lru_cache(maxsize=2)
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """One per process, so that every training of the same shape shares what has been
    compiled."""
    for name in ("recompile_limit", "cache_size_limit"):  # its name differs by version
        if hasattr(torch._dynamo.config, name):
            setattr(torch._dynamo.config, name, 64)
    return torch.compile(function, dynamic=False)


@contextmanager
def _multiplying(precision: str) -> Iterator[None]:
    """Within, float32 matrices are multiplied on a GPU in this precision."""
    matmul = torch.backends.cuda.matmul
    try:
        name, before = "allow_tf32", matmul.allow_tf32
    except RuntimeError:  # after torch's newer switch was used, the old one cannot be read
        name, before = "fp32_precision", matmul.fp32_precision
    matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        setattr(matmul, name, before)


def _memorised(step: int, metrics: Mapping[str, Tensor]) -> Memorised:
    """Who had memorised at a record."""
    return step, (metrics["train_accuracy"] > MEMORISED).tolist()


def _begun(run: int, decay_after: int | None, memorised: Sequence[Memorised]) -> bool:
    """Whether a run's decay has begun by the last of the records; see
    TrainConfig.decay_after."""
    if decay_after is None:
        return True
    for (step, now), (_, then) in pairwise(memorised):
        if now[run] and then[run]:
            return memorised[-1][0] >= step + decay_after
    return False


def _start(c: TrainConfig, model: ModelConfig) -> Tensor:
    """The initial weights (n,) of a run."""
    params = init_params(model, torch.Generator().manual_seed(c.seed))
    scaled = {
        name: W * c.init_scale if role(name) in (*MATRIX_ROLES, "head") else W
        for name, W in params.items()
    }
    return flat(scaled)


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
