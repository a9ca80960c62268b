"""`LowRankDecay`: the decay under anyone's training, after the step of any optimizer.

The rules are those of `lrdlib.decay`; here is which matrices they act on, when, and in what
batches: parts of fused matrices, frozen, sharded and bfloat16 ones. First the class, then a
step of one batch, the optimizers that it is attached to, and what a parameter group holds:
its settings, whose state is whose, and its matrices by name.
"""

import inspect
import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lrdlib._check import (
    check_bool,
    check_callable,
    check_choice,
    check_dense,
    check_finite,
    check_instance,
    check_integer,
    check_matrix,
    check_real,
    shown,
)
from lrdlib.decay import (
    PARTS,
    SCALES,
    UPDATES,
    Mode,
    Part,
    Scale,
    check_dtype,
    check_fit,
    check_strength,
    check_writable,
    generator_of,
    overlap,
    stochastically_rounded,
    strength,
    tall,
)
from lrdlib.matrices import (
    UNCUT,
    Selection,
    check_cut,
    cut,
    like,
    matrix_of,
    same_parameter,
)
from lrdlib.polar import check_polar
from lrdlib.spectral import stable_rank

Rounding = Literal["nearest", "stochastic"]
ROUNDINGS = ("nearest", "stochastic")
CUT = UNCUT.keys()  # settings that cut a fused matrix
# entries of the matrices that are computed at once; a step needs 6 such copies at most
BATCH = 2**24
# torch.compiler.disable imports the compiler at once, more than half of what torch itself
# takes to import; torch's own optimizers use the other, which waits for the first call.
outside_compiler = getattr(torch, "_disable_dynamo", torch.compiler.disable)


class Wrapper(Protocol):
    """What keeps an optimizer as `.optimizer`, as accelerate's and Lightning's do."""

    @property
    def optimizer(self) -> Any: ...


class _Kind(NamedTuple):
    """What the matrices of a batch have in common."""

    group: int
    shape: tuple[int, ...]  # (..., m, n), m >= n
    dtype: torch.dtype
    device: torch.device
    lr: float | Tensor


class _Part(NamedTuple):
    """Part j of a matrix of this name, the i-th of its group; of a sharded one, `view` has
    no more than the shape."""

    name: str
    W: Tensor
    i: int
    j: int
    view: Tensor  # (..., repetitions, rows, columns)


class _Batch(NamedTuple):
    """Matrices that are decayed at once: views (matrices, repetitions, rows, columns), what
    tells each matrix (its place in the group, the part, and the place in a stack), and each
    sharded matrix with the whole that views are of."""

    views: list[Tensor]
    keys: list[tuple[int, int, int]]
    sharded: list[tuple[Tensor, Tensor]]


class LowRankDecay(torch.optim.Optimizer):
    """Low-rank (or proximal) decay of a set of weight matrices, to run after any
    optimiser's step.

        decay = LowRankDecay(select(model, "attention+mlp"), weight_decay=0.1)
        handle = decay.attach(optimizer)  # after each optimizer.step(), with the live lr

        decay.step(lr=1e-3)               # or by hand

    It is a torch Optimizer that needs no gradient: `param_groups`, `state_dict`,
    `load_state_dict` and `add_param_group` are torch's. It has no lr to schedule: that of
    the optimizer counts.

    **What is taken off.** weight_decay, mode, scale, method and steps are those of
    `low_rank_decay_`; *by default weight_decay is multiplied by the learning rate* (mode
    "decoupled", as in AdamW). weight_decay may be a tensor with one strength per matrix of
    a stack, (k, 1, 1).

    rule: "low_rank", or "proximal" (exact, by SVD).
    part: "both", or the "radial" or "tangential" part of the low-rank step alone.

    **Of which matrices.** A fused matrix is cut into parts that are decayed each by itself,
    as they would otherwise share one spectrum.

    params: what `select` returns, with the cut that it knows of each fused matrix (in a
        parameter group the group's settings hold instead); a mapping name -> tensor, pairs
        (name, tensor) as of `model.named_parameters()`, tensors, or torch's parameter
        groups, each with settings of its own. A tensor is a matrix (m, n) or a stack of
        them (k, m, n).
        Messages and `ranks` tell a matrix by its name; without one, by its place: params[0],
        and param_groups[1]['params'][0] in a later group.
    parts: a number of equal blocks, or their sizes. 3 for nn.MultiheadAttention's queries,
        keys and values; (32 * 128, 8 * 128, 8 * 128) where fewer heads share keys and
        values. Head by head: the number of heads, or three times that for all of
        in_proj_weight.
    dim: what is cut: 0 for rows, as in nn.Linear (out, in); 1 for columns, as in GPT-2's
        Conv1D (in, out), or for the heads of an output projection.
    interleaved: how often the parts repeat along dim; a part is then the union of its
        repetitions. With parts 3, the number of heads where each head's query, key and
        value lie side by side, as in GPT-NeoX and BLOOM.

    **In bfloat16** a step below 2^-9 of an entry is rounded away, which is most of them.
    Keep float32 master weights, or round stochastically; then the step is computed in
    float32. Decay the master weights themselves: they must be what the optimizer has in its
    parameter groups (`select(model, ...) | {name: master, ...}` keeps the cut of fused
    ones); an optimizer that keeps them in its state writes them over the decayed weights at
    its next step. A warning says so when a bfloat16 matrix is added, and not of one that is cast
    later; one that is cast to float16 is an error at the next step.

    rounding: "nearest", or "stochastic", which is right on average.
    seed: of stochastic rounding. What a step draws for a matrix depends on the seed, on
        `steps_taken` and on the matrix's place in the decay, and on nothing else: torch's
        generators are left alone, replicas of a matrix (as under DDP) stay equal, and a run
        that is resumed from its state goes on to the same bit on the same kind of device.

    **What a step costs.** Matrices of one shape (up to transposition), one group and one lr
    are decayed together, in batches as large as `max_batch` allows.

    every: decay at each k-th step alone, with k times the strength; `steps_taken` of the
        group counts, and is in the state. As long as k times the strength is small this is
        nearly the same decay at a k-th of its cost.
    max_batch: the largest number of matrices, those of a stack counted one by one, that are
        computed at once; None for as many as have 2^24 entries together. It bounds the
        memory of a step. An SVD may fail, so with one (method "svd", rule "proximal") a copy
        of all matrices comes on top (of sharded ones two, each of whole matrices), and they
        change after the last of them.
    check_finite: look for NaN before each step, and at the value of an lr or a weight_decay
        that is a tensor, and change nothing if one is wrong. On a GPU the look waits for
        the device. Without it a NaN stays in its own matrix, and an attached low-rank decay
        by a polynomial waits for nothing, if such tensors lie where the matrices do.

    **Over processes.** A sharded matrix (torch's DTensor, as FSDP2 and tensor parallelism
    make it) is gathered in its batch; each process decays the whole and keeps its shard.

    Raises TypeError or ValueError, before anything is changed, for a parameter that is not
    a finite dense float32, float64 or bfloat16 matrix or stack (k, m, n), no parameter at
    all, a bad setting, two matrices of one name, or (in `step`) a NaN or infinite weight. A
    kernel of a convolution (out, in, h, w) is refused: its matrix (out, in * h * w) is a
    view that can be decayed by hand, by `low_rank_decay_`. One of a Conv1d (out, in, k) is
    told from a stack by `select` alone: leave it out.

    >>> W = torch.nn.Parameter(torch.diag(torch.tensor([3.0, 1.0])))
    >>> LowRankDecay([W], weight_decay=0.5, mode="independent", scale=None, method="svd").step()
    >>> torch.linalg.svdvals(W.detach())
    tensor([2.5000, 0.5000])
    """

    def __init__(
        self,
        params: Iterable[Tensor]
        | Iterable[tuple[str, Tensor]]
        | Iterable[dict[str, Any]]
        | Mapping[str, Tensor]
        | nn.ParameterDict,
        *,
        weight_decay: float | Tensor,
        mode: Mode = "decoupled",
        scale: Scale = "norm",
        method: str = "polar_express",
        steps: int | None = None,
        rule: str = "low_rank",
        part: Part = "both",
        parts: int | Sequence[int] = 1,
        dim: int = 0,
        interleaved: int = 1,
        rounding: Rounding = "nearest",
        seed: int = 0,
        every: int = 1,
        max_batch: int | None = None,
        check_finite: bool = True,
    ) -> None:
        self._handles: WeakKeyDictionary[torch.optim.Optimizer, RemovableHandle]
        self._handles = WeakKeyDictionary()  # of what it is attached to
        self._overshot = False  # and said so
        super().__init__(
            _listed([{"params": params}] if isinstance(params, Selection) else params),
            dict(weight_decay=weight_decay, mode=mode, scale=scale, method=method)
            | dict(steps=steps, rule=rule, part=part)
            | dict(parts=parts, dim=dim, interleaved=interleaved)
            | dict(rounding=rounding, seed=seed)
            | dict(every=every, max_batch=max_batch, check_finite=check_finite),
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group {"params": matrices, setting: value, ...}; checked before it is
        added."""
        check_instance("param_group", param_group, dict)
        _check_keys("a parameter group", param_group)
        chosen = param_group.get("params")
        if isinstance(chosen, Selection) and chosen and not param_group.keys() & CUT:
            settings = {name: x for name, x in param_group.items() if name != "params"}
            before = len(self.param_groups)
            try:
                of_plain = {name: self.defaults[name] for name in CUT}
                for group in chosen.groups(**of_plain, **settings):
                    self.add_param_group(group)
            except BaseException:
                del self.param_groups[before:]
                raise
            return
        named = _named_entries(param_group, self.param_groups)
        group = {**self.defaults, **param_group, "params": [W for _, W in named]}
        group |= {"param_names": [name for name, _ in named], "steps_taken": 0}
        _settle(group)
        rounded = [n for n, W in named if W.dtype == torch.bfloat16]
        if rounded and group["rounding"] == "nearest":
            warnings.warn(
                f"{rounded[0]} is bfloat16, where most steps of a decay are rounded away: "
                'keep float32 master weights, or give rounding="stochastic"',
                stacklevel=_caller(),
            )
        super().add_param_group(_Group(group))

    def state_dict(self) -> dict[str, Any]:
        """The settings and the count of steps of each group, with the names and the shapes
        of its matrices, by which `load_state_dict` knows whose state it is.

        >>> decay = LowRankDecay({"query": torch.ones(2, 3)}, weight_decay=0.1)
        >>> [group] = decay.state_dict()["param_groups"]
        >>> group["param_names"], group["shapes"]
        (['query'], [[2, 3]])
        """
        state = super().state_dict()
        for saved, group in zip(state["param_groups"], self.param_groups, strict=True):
            saved["shapes"] = [list(W.shape) for W in group["params"]]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the settings and the counts of steps that `state_dict` of a decay of
        these matrices gave; a setting that its version did not have stays as it is. The
        names of the matrices stay this decay's.

        These matrices: as many in each group, of the same shapes, in the same order; and of
        the same names where both decays were given names. What wrappers add to a name
        (`module.`, `_orig_mod.`), or a module around all of the model, is no difference. A
        state without shapes, of an older version or with `shapes` deleted from its groups,
        is taken if the numbers agree.

        Raises TypeError or ValueError, before anything is changed, for another optimizer's
        state, for that of other matrices, for a bad setting, and for one that does not fit
        these matrices.
        """
        check_instance("state_dict", state_dict, dict)
        groups = state_dict.get("param_groups")
        if not isinstance(groups, list) or not all(isinstance(g, dict) for g in groups):
            raise ValueError(
                "state_dict must be what state_dict() of a LowRankDecay gave, got "
                f"{shown(state_dict)}"
            )
        if state_dict.get("state"):
            raise ValueError(
                "state_dict must have no state beside param_groups, as that of a "
                f"LowRankDecay, got {shown(state_dict['state'])}"
            )
        for group in groups:
            others = ("steps_taken", "shapes", "differentiable")
            _check_keys("a group of state_dict", group, *others)
            if "weight_decay" not in group:
                raise ValueError(
                    f"a group of state_dict must hold weight_decay, got {shown(group)}"
                )
            check_instance("params of a group of state_dict", group.get("params"), list)
        _check_owners(groups, self.param_groups)
        bare = [{k: x for k, x in group.items() if k != "shapes"} for group in groups]
        super().load_state_dict({"state": {}} | state_dict | {"param_groups": bare})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """torch's: what `load_state_dict` and unpickling hand over, checked."""
        defaults = DEFAULTS | self.__dict__.get("defaults", {}) | state.get("defaults", {})
        known = self.__dict__.get("param_groups", state["param_groups"])  # before, or older
        groups: list[dict[str, Any]] = []
        for mine, given in zip(known, state["param_groups"], strict=True):
            now = {name: mine.get(name, defaults[name]) for name in SETTINGS}
            group = now | {"steps_taken": 0} | given
            group["param_names"] = mine.get(
                "param_names", _numbered(groups, group["params"])
            )
            group.pop("differentiable", None)
            _settle(group)
            groups.append(_Group(group))
        super().__setstate__({**state, "defaults": defaults, "param_groups": groups})
        self.defaults.pop("differentiable", None)  # torch's own
        self.__dict__.setdefault("_handles", WeakKeyDictionary())
        self.__dict__.setdefault("_overshot", False)

    @torch.no_grad()
    def step(self, lr: float | Tensor | None = None) -> None:  # type: ignore[override]
        """Decay every matrix once, a frozen one too. `lr` is needed if a group is
        "decoupled".

        Raises TypeError or ValueError if it is missing, negative, not finite, or a closure,
        which a decay has no use for; and if a setting was made wrong or a weight is not
        finite. Nothing is changed then.
        """
        if callable(lr) and not isinstance(lr, Tensor):
            raise TypeError(
                "lr must be a number: a LowRankDecay evaluates no closure, got "
                f"{shown(lr)} (attach it to the optimizer that does)"
            )
        self._step_by_hand(lr)

    @outside_compiler  # as an attached one
    def _step_by_hand(self, lr: Any) -> None:
        self._settle_groups()
        if lr is None and any(group["mode"] == "decoupled" for group in self.param_groups):
            raise ValueError(
                'lr must be given to step() for mode "decoupled" (or attach an optimizer), '
                "got None"
            )
        rate = 1.0 if lr is None else _checked_lr("lr", lr)
        self._decay({id(W): rate for _, W in self._named_matrices()})

    def attach(self, optimizer: torch.optim.Optimizer | Wrapper) -> RemovableHandle:
        """Decay after every `optimizer.step()`, with the lr that the optimizer then has for
        each matrix.

        optimizer may be a wrapper that keeps torch's as `.optimizer`, as accelerate and
        Lightning hand out; then that one is meant. Left alone are a matrix that is frozen
        (requires_grad False), a step that a GradScaler skips, of which the device is asked,
        and the step of lr 0 by which torch.distributed.checkpoint makes the state of an
        optimizer that has none; a matrix that merely got no gradient is decayed. Returns
        torch's handle; `handle.remove()` detaches. The same optimizer again gives the handle
        that there is: nothing is decayed twice. torch's optimizers leave their hooks behind
        when they are copied or pickled: attach again then, the decay that was copied along
        with it.

        Raises ValueError, now or after a step, unless the optimizer trains every matrix
        that is not frozen, and has an lr for it where the mode is "decoupled". Where
        several optimizers share a model, give each a decay of its matrices: one decay for
        two of them would be taken twice in each iteration.
        """
        trained = _unwrapped(optimizer)
        if isinstance(trained, LowRankDecay):
            raise TypeError(
                "optimizer must be the one that trains the matrices, got a LowRankDecay"
            )
        held = {id(W) for group in trained.param_groups for W in group["params"]}
        if not any(id(W) in held for _, W in self._named_matrices()):
            raise ValueError(
                "optimizer must train some of the decayed matrices, got one with none of "
                + _told(self._named_matrices())
            )
        self._rates(trained)
        if not any(W.requires_grad for _, W in self._named_matrices()):
            warnings.warn(
                f"{_told(self._named_matrices())} are frozen, and so are all matrices of this "
                "decay: attached, it leaves them as they are",
                stacklevel=_caller(),
            )
        known: RemovableHandle | None = self._handles.get(trained)
        if known is None or known.id not in (known.hooks_dict_ref() or ()):
            known = trained.register_step_post_hook(self._decay_after_step)
            self._handles[trained] = known
            hooks = known.hooks_dict_ref() or {}
            for key, hook in list(hooks.items()):
                if key != known.id and getattr(hook, "__self__", None) is self:
                    del hooks[key]  # copied along with an optimizer that keeps its hooks
        return known

    @outside_compiler  # matrices are batched by what they hold: nothing to compile
    def _decay_after_step(
        self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> None:
        # set by torch.amp.GradScaler during a fused step
        overflow = getattr(optimizer, "found_inf", None)
        skipped = overflow is not None and bool(overflow)
        if not skipped and not _only_makes_state(optimizer, kwargs):
            self._settle_groups()
            matrices = self._named_matrices()
            frozen = frozenset(id(W) for _, W in matrices if not W.requires_grad)
            self._decay(self._rates(optimizer), frozen=frozen)

    def _settle_groups(self) -> None:
        """Check what may have been changed since."""
        for group in self.param_groups:
            _check_held(group)
            _settle(group, look=group["check_finite"])

    def _named_matrices(self) -> list[tuple[str, Tensor]]:
        return [
            named
            for group in self.param_groups
            for named in zip(group["param_names"], group["params"], strict=True)
        ]

    @torch.no_grad()
    def ranks(self, measure: Callable[[Tensor], Tensor] = stable_rank) -> dict[str, float]:
        """A measure of the singular values of each matrix: by name, with the part of a
        fused matrix and the place in a stack in brackets.

        measure: singular values (..., k) -> (...), such as those of lrdlib.spectral. It is
        NaN for a matrix that is not finite. Sharded matrices are gathered, so that every
        process must call it. Raises TypeError for no function.

        >>> W = torch.nn.Parameter(torch.diag(torch.tensor([2.0, 1.0])))
        >>> LowRankDecay({"query": W}, weight_decay=0.1).ranks()
        {'query': 1.25}
        """
        check_callable("measure", measure)
        found = {}
        for group in self.param_groups:
            for name, W in zip(group["param_names"], group["params"], strict=True):
                full = W.full_tensor() if _is_sharded(W) else W
                full = full.to(torch.promote_types(full.dtype, torch.float32))
                parts = cut(full, group)
                for i, part in enumerate(parts):
                    X = matrix_of(part)  # (m, n) or (stack, m, n)
                    finite = torch.isfinite(X).all(-1).all(-1)
                    S = torch.linalg.svdvals(X.where(finite[..., None, None], 0.0))
                    values = torch.where(finite, measure(S), torch.nan)  # () or (stack,)
                    label = f"{name}[{i}]" if len(parts) > 1 else name
                    if values.ndim == 0:
                        found[label] = float(values)
                    else:
                        found |= {f"{label}[{j}]": float(x) for j, x in enumerate(values)}
        return found

    def _rates(self, optimizer: torch.optim.Optimizer) -> dict[int, float | Tensor]:
        """id of each matrix -> the lr that `optimizer` has for it now; 1 where the mode
        does not ask for it."""
        lrs = {
            id(W): group.get("lr")
            for group in optimizer.param_groups
            for W in group["params"]
        }
        missing = [
            (name, W)
            for name, W in self._named_matrices()
            if W.requires_grad and id(W) not in lrs
        ]
        if missing:
            raise ValueError(
                "optimizer must train every decayed matrix that is not frozen, but not "
                + _told(missing)
            )
        rates: dict[int, float | Tensor] = {}
        for group in self.param_groups:
            for name, W in zip(group["param_names"], group["params"], strict=True):
                rates[id(W)] = 1.0
                if group["mode"] == "decoupled" and W.requires_grad:
                    rates[id(W)] = _checked_lr(
                        f"the optimizer's lr of {name}", lrs[id(W)], group["check_finite"]
                    )
        return rates

    @torch.no_grad()
    def _decay(
        self, rates: Mapping[int, float | Tensor], frozen: frozenset[int] = frozenset()
    ) -> None:
        """Decay the matrices in batches of one shape, strength and setting. What may fail
        comes before anything is changed: the checks and, where there is one, every SVD."""
        alike = self._alike(rates, frozen)
        groups = {kind: self.param_groups[kind.group] for kind in alike}
        looked_at = {
            id(part.W): (part.name, part.W)
            for kind, parts in alike.items()
            for part in parts
            if groups[kind]["check_finite"]
        }
        _check_all_finite(looked_at.values())
        strengths = {
            kind: _strength_of(kind, len(parts), groups[kind])
            for kind, parts in alike.items()
        }
        self._warn_of_overshoot(strengths)
        by_svd = any(
            group["rule"] == "proximal" or group["method"] == "svd"
            for group in groups.values()
        )
        decayed: list[tuple[_Batch, Tensor]] = []
        done = (lambda *both: decayed.append(both)) if by_svd else _write
        gathered: dict[int, Tensor] = {}
        for kind, parts in alike.items():
            group = groups[kind]
            batches = _batches(kind, parts, group, gathered, keep=by_svd)
            _decay_batches(kind, batches, strengths[kind], group, done)
        for group in self.param_groups:
            group["steps_taken"] += 1
        for batch, X in decayed:
            _write(batch, X)

    def _warn_of_overshoot(self, strengths: Mapping[_Kind, float | Tensor]) -> None:
        """Say it once if a step's strength, where it is a number, is above 1."""
        for kind, t in strengths.items():
            group = self.param_groups[kind.group]
            relative = (group["rule"], group["scale"]) == ("low_rank", "norm")
            if relative and not isinstance(t, Tensor) and t > 1 and not self._overshot:
                self._overshot = True
                warnings.warn(
                    f"a step of strength {t:g} (weight_decay, times lr in mode decoupled, "
                    "times every) overshoots: above 1 a matrix may grow by decay alone (this "
                    "decay says it once)",
                    stacklevel=_caller(),
                )

    def _alike(
        self, rates: Mapping[int, float | Tensor], frozen: frozenset[int]
    ) -> dict[_Kind, list[_Part]]:
        """The parts of all matrices that are due, by what may differ between batches."""
        alike: dict[_Kind, list[_Part]] = {}
        for g, group in enumerate(self.param_groups):
            if (group["steps_taken"] + 1) % group["every"]:
                continue
            named = zip(group["param_names"], group["params"], strict=True)
            for i, (name, W) in enumerate(named):
                if id(W) in frozen:
                    continue
                # a sharded one is cut after it has been gathered
                shaped = torch.empty(W.shape, device="meta") if _is_sharded(W) else W
                for j, view in enumerate(cut(shaped, group)):
                    *stack, times, rows, columns = view.shape
                    shape = (*stack, *sorted((times * rows, columns), reverse=True))
                    kind = _Kind(g, shape, W.dtype, W.device, rates[id(W)])
                    alike.setdefault(kind, []).append(_Part(name, W, i, j, view))
        return alike


def _caller() -> int:
    """The stacklevel of a warning for whoever called: the nearest frame that is neither
    lrdlib's nor torch's."""
    ours = tuple(os.path.join(os.path.dirname(m), "") for m in (__file__, torch.__file__))
    frames = traceback.walk_stack(sys._getframe(1))
    files = enumerate((frame.f_code.co_filename for frame, _ in frames), 1)
    return next((level for level, file in files if not file.startswith(ours)), 1)


def _check_all_finite(named: Iterable[tuple[str, Tensor]]) -> None:
    """Raise ValueError for the first matrix that holds a NaN or an infinity, in each of the
    processes that share it. Looks at all before it asks for an answer."""
    together: dict[Any, list[tuple[str, Tensor]]] = {}
    for name, W in named:
        together.setdefault(getattr(W, "device_mesh", W.device), []).append((name, W))
    for where, some in together.items():
        ends = torch.stack([end for _, W in some for end in _ends(W)])  # (2 * matrices,)
        wrong = ends.isfinite().logical_not().any()
        if not isinstance(where, torch.device):
            wrong = _added_up(wrong.int(), where)
        if bool(wrong):
            for name, W in some:
                check_finite(name, _whole(W, {}, keep=False))


def _ends(W: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest entry of W, or of this process's shard of it; both are NaN
    if one is. No copy of W is made, as by isfinite."""
    local: Tensor = getattr(W, "to_local", lambda: W)()
    if not local.numel():
        local = local.new_zeros(1)
    return local.amin(), local.amax()


def _added_up(x: Tensor, mesh: Any) -> Tensor:
    """The sum of the x of all processes of a mesh."""
    from torch.distributed.tensor import DTensor, Partial

    placements = [Partial()] * mesh.ndim
    return DTensor.from_local(x, mesh, placements, run_check=False).full_tensor()


def _strength_of(kind: _Kind, parts: int, group: Mapping[str, Any]) -> float | Tensor:
    """The strength of a step for so many parts of a kind: a number, or one for each matrix,
    (parts * ..., 1, 1)."""
    rate = kind.lr.reshape(()) if isinstance(kind.lr, Tensor) else kind.lr
    weight_decay = _on(kind.device, group["weight_decay"])
    t = strength(weight_decay, _on(kind.device, rate), group["mode"]) * group["every"]
    if not isinstance(t, Tensor):
        check_real("weight_decay * lr", t)
    elif t.ndim:
        t = t.expand(parts, *kind.shape[:-2], 1, 1).reshape(-1, 1, 1)
    return t


def _on(device: torch.device, x: float | Tensor) -> float | Tensor:
    """x on a device; one number that the CPU holds serves everywhere."""
    if not isinstance(x, Tensor) or (x.is_cpu and x.ndim == 0):
        return x
    return x.to(device)


def _batches(
    kind: _Kind,
    parts: Sequence[_Part],
    group: Mapping[str, Any],
    gathered: dict[int, Tensor],
    *,
    keep: bool,
) -> Iterator[_Batch]:
    """The matrices of parts of a kind in turn, so many at once.

    gathered: by id, the wholes of sharded matrices; of all, if they are written to later
    (`keep`), else of the last.
    """
    most = group["max_batch"] or max(1, BATCH // math.prod(kind.shape[-2:]))
    batch, room = _Batch([], [], []), most
    last: Tensor | None = None
    cuts: tuple[Tensor, ...] = ()
    for _, W, i, j, view in parts:
        if _is_sharded(W):
            if W is not last:
                last, cuts = W, ()  # which frees the whole of the last
                cuts = cut(_whole(W, gathered, keep=keep), group)
            view = cuts[j]
        view = view if view.ndim > 3 else view.unsqueeze(0)
        begun = 0
        while len(view):
            taken, view = view[:room], view[room:]
            batch.views.append(taken)
            batch.keys.extend((i, j, begun + k) for k in range(len(taken)))
            begun += len(taken)
            if id(W) in gathered and not (batch.sharded and batch.sharded[-1][0] is W):
                batch.sharded.append((W, gathered[id(W)]))
            room -= len(taken)
            if not room:
                yield batch
                batch, room = _Batch([], [], []), most
    if batch.views:
        yield batch


def _whole(W: Tensor, gathered: dict[int, Tensor], *, keep: bool) -> Tensor:
    """A sharded matrix gathered, if it has not been; any other as it is."""
    if not _is_sharded(W):
        return W
    if id(W) not in gathered:
        if not keep:
            gathered.clear()
        gathered[id(W)] = W.full_tensor()  # type: ignore[attr-defined]
    return gathered[id(W)]


def _decay_batches(
    kind: _Kind,
    batches: Iterable[_Batch],
    t: float | Tensor,
    group: Mapping[str, Any],
    done: Callable[[_Batch, Tensor], object],
) -> None:
    """Decay batches of a kind by the settings of a group of `LowRankDecay`, one by one: done
    is given each, and what becomes of it, as matrices (matrices, m, n), m >= n."""
    stochastic = kind.dtype == torch.bfloat16 and group["rounding"] == "stochastic"
    told = kind.group, group["steps_taken"]
    i = 0
    for batch in batches:
        X = torch.cat([tall(matrix_of(view)) for view in batch.views])
        X = X.float() if stochastic else X
        n = len(X)
        strengths = t[i : i + n] if isinstance(t, Tensor) and t.ndim else t
        UPDATES[group["rule"]](X, strengths, group)
        if stochastic:
            keys = [(*told, *key) for key in batch.keys]
            noise = [generator_of(kind.device, group["seed"], *key) for key in keys]
            X = torch.stack(list(map(stochastically_rounded, X, noise)))
        done(batch, X)
        i += n


def _write(batch: _Batch, X: Tensor) -> None:
    """Put matrices (matrices, m, n), m >= n, where those of a batch were."""
    rows = X.split([len(view) for view in batch.views])
    torch._foreach_copy_(batch.views, list(map(like, rows, batch.views)))
    for W, whole in batch.sharded:
        _keep_shard(W, whole)


def _keep_shard(W: Tensor, full: Tensor) -> None:
    """Write this process's part of `full`, which all of them have, into the DTensor W."""
    from torch.distributed.tensor import DTensor, Replicate

    assert isinstance(W, DTensor)
    mesh = W.device_mesh
    whole = DTensor.from_local(full, mesh, [Replicate()] * mesh.ndim, run_check=False)
    W.to_local().copy_(whole.redistribute(mesh, W.placements).to_local())


def _checked_lr(name: str, lr: Any, look: bool = True) -> float | Tensor:
    """lr as a float, from a number or a tensor of one; such a tensor itself if its value is
    not to be looked at."""
    if isinstance(lr, Tensor) and lr.numel() == 1:
        if not look:
            return lr
        lr = lr.item()
    check_real(name, lr, at_least=0)
    return float(lr)


def _told(matrices: Sequence[tuple[str, Tensor]]) -> str:
    """Names and shapes, as a message shows them: three, and how many there are beside."""
    told = [f"{name} {tuple(W.shape)}" for name, W in matrices[:3]]
    return ", ".join(told + [f"{len(matrices) - 3} more"] * (len(matrices) > 3))


def _unwrapped(optimizer: Any) -> torch.optim.Optimizer:
    """torch's optimizer inside wrappers that keep it as `.optimizer`."""
    inside: list[Any] = []
    layer = optimizer
    while layer is not None and len(inside) < 8:  # a wrapper of itself would never end
        inside.append(layer)
        layer = getattr(layer, "optimizer", None)
    found = [layer for layer in inside if isinstance(layer, torch.optim.Optimizer)]
    if not found:
        raise TypeError(
            "optimizer must be a torch.optim.Optimizer, or a wrapper that has one as "
            f".optimizer, got {type(optimizer).__name__}"
        )
    return found[-1]


def _only_makes_state(optimizer: torch.optim.Optimizer, kwargs: Any) -> bool:
    """Whether a step was that of torch.distributed.checkpoint's get_state_dict and its kin:
    at lr 0 and called as nobody else does, so that the optimizer has a state to load into.
    """
    lrs = [group["lr"] for group in optimizer.param_groups if "lr" in group]
    return kwargs == {"closure": None} and bool(lrs) and not any(lrs)


# what a group holds beside its matrices; all but the strength have a default
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(LowRankDecay).parameters.items()
    if parameter.default is not parameter.empty
}
SETTINGS = ("weight_decay", *DEFAULTS)
KEYS = frozenset({"params", "param_names", "steps_taken", *SETTINGS})  # of a live group


class _Group(dict[str, Any]):
    """A parameter group of a `LowRankDecay`: it holds nothing but its settings, so that
    neither a scheduler nor a slip in a name goes unnoticed. What `update` and its like put
    past this is told at the next step."""

    def __missing__(self, key: str) -> None:
        _check_key(key)
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        _check_key(key)
        super().__setitem__(key, value)


def _check_held(group: Mapping[str, Any]) -> None:
    """A live group holds what it should and no more: every setting, a name per matrix."""
    if group.keys() != KEYS:
        for key in group:
            _check_key(key)
        missing = ", ".join(sorted(KEYS - group.keys()))
        raise ValueError(f"a parameter group must hold {missing}, got one without")
    names, n = group["param_names"], len(group["params"])
    if not isinstance(names, (list, tuple)) or len(names) != n:
        raise ValueError(f"param_names must be one per matrix, got {shown(names)} for {n}")


def _check_key(key: str) -> None:
    """A live group may hold this key."""
    if str(key).endswith("lr"):  # initial_lr and the like are schedulers', too
        raise ValueError(
            f"a LowRankDecay has no {key} to schedule: it decays with the lr of the "
            "optimizer that it is attached to, or with that of step(lr)"
        )
    _check_keys("a parameter group", {key: None}, "steps_taken")


def _check_keys(name: str, group: dict[str, Any], *others: str) -> None:
    """A group holds nothing but matrices and their names, settings, and these others."""
    if unknown := set(group) - {"params", "param_names", *SETTINGS, *others}:
        raise ValueError(
            f"{name} must hold only params, param_names, {', '.join(SETTINGS)}, got "
            f"{shown(sorted(map(str, unknown)))}"
        )


def _settle(group: dict[str, Any], look: bool = True) -> None:
    """Check the settings of a parameter group, against its matrices, and make NumPy's
    numbers Python's: torch.load(..., weights_only=True) refuses a state with others.

    look: at the values of a tensor weight_decay, too.
    """
    for name in ("steps_taken", *SETTINGS):
        group[name] = plain(group[name])
    check_integer("steps_taken", group["steps_taken"], at_least=0)
    check_choice("rule", group["rule"], UPDATES)
    check_choice("part", group["part"], PARTS)
    if group["rule"] == "proximal" and group["part"] != "both":
        raise ValueError(
            f"part must be 'both' for rule 'proximal', got {shown(group['part'])}"
        )
    check_bool("check_finite", group["check_finite"])
    check_integer("dim", group["dim"], at_least=0, at_most=1)
    check_integer("interleaved", group["interleaved"])
    check_choice("rounding", group["rounding"], ROUNDINGS)
    check_integer("seed", group["seed"], at_least=0)
    check_integer("every", group["every"])
    if group["max_batch"] is not None:
        check_integer("max_batch", group["max_batch"])
    sizes = group["parts"]
    if isinstance(sizes, (list, tuple)) and sizes:
        for j, size in enumerate(sizes):
            check_integer(f"parts[{j}]", size)
    else:
        check_integer("parts", sizes)
    unseen = isinstance(group["weight_decay"], Tensor) and not look
    check_strength(0.0 if unseen else group["weight_decay"], group["mode"])
    check_choice("scale", group["scale"], SCALES)
    check_polar(group["method"], group["steps"])
    for name, W in zip(group["param_names"], group["params"], strict=True):
        # others are what FSDP's first version and ZeRO leave behind
        if W.ndim not in (2, 3) or 0 in W.shape[-2:]:
            raise ValueError(
                f"{name} must be a matrix (m, n) or a stack (k, m, n), got shape "
                f"{tuple(W.shape)}" + " (see the docstring on kernels)" * (W.ndim > 3)
            )
        check_fit(group["weight_decay"], name, W)
        check_dtype(name, W)
        check_cut(name, W, group)


def _check_owners(
    saved: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]
) -> None:
    """The groups of a state are of the matrices of these groups, one by one, as far as the
    state says whose it is; torch counts them."""
    for i, (state, group) in enumerate(zip(saved, groups, strict=False)):
        if "shapes" not in state:
            continue
        n = len(state["params"])
        for key in ("param_names", "shapes"):
            told = state.get(key)
            if not isinstance(told, list) or len(told) != n:
                raise ValueError(
                    f"{key} of a group of state_dict must be a list of {n}, got {shown(told)}"
                )
        names, shapes = state["param_names"], state["shapes"]
        places = _numbered(groups[:i], names)
        own = zip(group["param_names"], group["params"], strict=True)
        for place, name, shape, (known, W) in zip(places, names, shapes, own, strict=False):
            fits = isinstance(shape, (list, tuple)) and tuple(shape) == tuple(W.shape)
            nameless = place in (name, known)
            if not fits or not (nameless or same_parameter(name, known)):
                raise ValueError(
                    f"state_dict must be that of these matrices, with {known} "
                    f"{tuple(W.shape)} at place {place}, got that of {shown(name)} "
                    f"{shown(shape)} (a state without `shapes` in its groups is not asked)"
                )


def plain(setting: Any) -> Any:
    """A setting without NumPy's numbers and words; parts of a fused matrix are a tuple.

    >>> plain([np.int64(4), 2])
    (4, 2)
    """
    if isinstance(setting, (list, tuple)):
        return tuple(map(plain, setting))
    return setting.item() if isinstance(setting, (np.number, np.str_)) else setting


def _named_entries(
    group: Mapping[str, Any], before: Sequence[Mapping[str, Any]]
) -> list[tuple[str, Tensor]]:
    """The matrices of a new group and their names: what `params` or `param_names` say, or
    else their place. Checked, and against the names in the groups before."""
    given = group.get("params", ())
    entries = _listed([given] if isinstance(given, Tensor) else given)
    places, names = _numbered(before, entries), group.get("param_names")
    if names is None:
        names = places
    elif not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
        raise TypeError(f"param_names must be a list of strings, got {shown(names)}")
    if len(names) != len(entries):
        raise ValueError(
            f"param_names must be one per matrix, got {len(names)} for {len(entries)}"
        )
    named = [_named(*both) for both in zip(names, entries, strict=True)]
    known = {name for earlier in before for name in earlier["param_names"]}
    for place, (name, W) in zip(places, named, strict=True):
        _check_weight(name if name == place else f"params[{name!r}]", W)
        if name in known:
            raise ValueError(f"param_names must be different, got {name!r} twice")
        known.add(name)
    held = [
        entry
        for earlier in before
        for entry in zip(earlier["param_names"], earlier["params"], strict=True)
    ]
    _check_apart(held + named)
    return named


def _check_apart(named: Iterable[tuple[str, Tensor]]) -> None:
    """No two matrices share an entry: how often it is decayed would depend on the batches.
    (Whether shards do is not asked.)"""
    held: dict[Any, list[tuple[str, Tensor]]] = {}
    for name, W in named:
        storage = 0 if _is_sharded(W) else W.untyped_storage().data_ptr()
        near = held.setdefault((W.device, W.dtype, storage or id(W)), [])
        for other, V in near:
            if W is V or overlap(W, V):
                raise ValueError(
                    f"params must hold each matrix once, got {other} and {name}, which share "
                    "memory (of tied weights give one: it is decayed for both)"
                )
        near.append((name, W))


def _named(name: str, entry: Any) -> tuple[str, Any]:
    """A matrix and its name, from an entry of params: (its own name, matrix), or the matrix
    alone."""
    if isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str):
        return entry
    return name, entry


def _numbered(groups: Sequence[Any], matrices: Sequence[Any]) -> list[str]:
    """Where to find matrices without a name that come after these groups.

    >>> _numbered([], ["W"]), _numbered(["a group"], ["W"])
    (['params[0]'], ["param_groups[1]['params'][0]"])
    """
    group = f"param_groups[{len(groups)}]['params']" if groups else "params"
    return [f"{group}[{j}]" for j in range(len(matrices))]


def _listed(params: Any) -> list[Any]:
    """Parameters as a list: from a mapping of names, a list of tensors or groups, or any
    other iterable of these that has an order."""
    unfit = (Tensor, np.ndarray, set, frozenset)
    if isinstance(params, unfit) or not isinstance(params, Iterable):
        raise TypeError(
            "params must be tensors, a mapping of them, or parameter groups, in an order, got "
            f"{type(params).__name__}"
        )
    mapping = isinstance(params, (Mapping, nn.ParameterDict))
    listed = list(params.items() if mapping else params)  # type: ignore[attr-defined]
    if not listed:
        raise ValueError("params must hold at least one matrix, got an empty selection")
    return listed


def _check_weight(name: str, W: Any) -> None:
    """W is a matrix or a stack of them that can be changed in place; of a sharded one, that
    its shards add up to one is all that is asked of them."""
    if isinstance(W, Tensor) and _is_sharded(W):
        check_dense(name, W)
        placements = W.placements  # type: ignore[attr-defined]
        if any(placement.is_partial() for placement in placements):
            raise ValueError(
                f"{name} must be sharded or replicated, got placements {placements}"
            )
        return
    check_matrix(name, W)
    check_writable(name, W)


def _is_sharded(W: Tensor) -> bool:
    """Whether W is torch's DTensor; torch.distributed is not in every build."""
    return hasattr(W, "full_tensor")
