"""Decay rules: what is taken off a weight matrix after the optimiser's step.

With strength t = lr * weight_decay (mode "decoupled", the paper's) or t = weight_decay
(mode "independent", the first public code's), W = U S V^T and s = |W|_F / |polar(W)|_F
(scale "norm", the paper's section 5) or 1 (scale None, its Algorithm 1):

    frobenius   W <- (1 - t) W                       sigma_i <- (1 - t) sigma_i
    low rank    W <- W - t s polar(W)                sigma_i <- sigma_i - t s
    proximal    W <- U max(S - t s, 0) V^T           sigma_i <- max(sigma_i - t s, 0)

Low-rank decay overshoots 0 where sigma_i < t s; the proximal step is exact. Elastic decay is
two of them together. The low-rank step G = s polar(W) has a radial part a W, with
a = <G, W> / |W|_F^2, which changes the norm of W, and a tangential part G - a W, which
changes its direction; either can be taken alone. The functions act in place on one matrix
or a stack (..., m, n); weight_decay may be a tensor that broadcasts against the stack, such
as (runs, 1, 1).
"""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lrdlib._check import (
    check_bool,
    check_choice,
    check_finite,
    check_instance,
    check_integer,
    check_matrix,
    check_real,
    check_reals,
    shown,
)
from lrdlib.model import role
from lrdlib.polar import DTYPES, check_polar, polar_of_rescaled, rescale
from lrdlib.spectral import numerical_rank, soft_threshold, stable_rank

Mode = Literal["decoupled", "independent"]
Scale = Literal["norm"] | None
Part = Literal["both", "radial", "tangential"]
Rounding = Literal["nearest", "stochastic"]
MODES = ("decoupled", "independent")
SCALES = ("norm", None)
UPDATES = ("low_rank", "proximal")
BATCH = (
    2**24
)  # entries of the matrices that are computed at once; a step needs 8 such copies
ROUNDINGS = ("nearest", "stochastic")
# words for parts of the model, and the roles of its parameters there
PLACES = {
    "qk": ("query", "key"),
    "vo": ("value", "output"),
    "mlp": ("up", "down"),
    "embedding": ("embedding", "position"),
    "head": ("head",),
}
# of LowRankDecay's parameter groups
SETTINGS = (
    *("weight_decay", "mode", "scale", "method", "steps"),
    *("rule", "part", "parts", "dim", "rounding", "every", "max_batch", "check_finite"),
)
# coefficients of the radial and of the tangential part of a low-rank step
PARTS = {"both": (1.0, 1.0), "radial": (1.0, 0.0), "tangential": (0.0, 1.0)}


def strength(weight_decay: float | Tensor, lr: float | Tensor, mode: str) -> float | Tensor:
    """t = lr * weight_decay if `mode` is "decoupled", weight_decay if it is "independent".

    >>> strength(0.1, 1e-3, "decoupled"), strength(0.1, 1e-3, "independent")
    (0.0001, 0.1)
    """
    if not isinstance(weight_decay, Tensor):
        weight_decay = float(weight_decay)  # torch takes no integer beyond 64 bits
    return lr * weight_decay if mode == "decoupled" else weight_decay


@torch.no_grad()
def frobenius_decay_(
    W: Tensor, *, weight_decay: float | Tensor, lr: float = 1.0, mode: Mode = "decoupled"
) -> Tensor:
    """W <- (1 - t) W, ordinary weight decay: every singular value shrinks by the same
    factor. Returns W.

    Raises TypeError or ValueError if W is not a finite dense floating-point matrix or
    stack that can be changed in place, weight_decay or lr is negative or not finite, or
    mode is unknown; W is unchanged then. Source: Loshchilov and Hutter 2019 (decoupled).

    >>> frobenius_decay_(torch.ones(1, 2), weight_decay=0.5)
    tensor([[0.5000, 0.5000]])
    """
    return frobenius_update_(W, _checked_strength(W, weight_decay, lr, mode))


def frobenius_update_(W: Tensor, t: float | Tensor) -> Tensor:
    """W <- (1 - t) W without checks."""
    return W.mul_(1 - t)


@torch.no_grad()
def low_rank_decay_(
    W: Tensor,
    *,
    weight_decay: float | Tensor,
    lr: float = 1.0,
    mode: Mode = "decoupled",
    scale: Scale = "norm",
    method: str = "polar_express",
    steps: int | None = None,
    part: Part = "both",
) -> Tensor:
    """W <- W - t s polar(W): every singular value shrinks by the same amount. Returns W.

    method and steps are those of `polar_factor`. part: take the whole step, or its "radial"
    or its "tangential" part alone. A singular value below t s changes sign (its left
    singular vector flips); `proximal_decay_` stops it at 0. Raises as `frobenius_decay_`,
    and ValueError for an unknown scale, method or part; W is unchanged then.
    Source: the paper's Algorithm 1 (scale None) and section 5 (scale "norm").

    >>> W = torch.diag(torch.tensor([3.0, 1.0]))
    >>> low_rank_decay_(W, weight_decay=0.5, scale=None, method="svd")
    tensor([[2.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    t = _checked_strength(W, weight_decay, lr, mode)
    _check_settings(W, scale, method, steps)
    check_choice("part", part, PARTS)
    return low_rank_update_(W, t, scale=scale, method=method, steps=steps, part=PARTS[part])


def low_rank_update_(
    W: Tensor,
    t: float | Tensor,
    *,
    scale: Scale = "norm",
    method: str = "polar_express",
    steps: int | None = None,
    part: tuple[float | Tensor, float | Tensor] = PARTS["both"],
) -> Tensor:
    """W <- W - t s polar(W) without checks: no branch depends on a value, so it can be
    traced or captured.

    part: coefficients of the step's radial and tangential parts, numbers or tensors that
    broadcast like t.
    """
    X, largest = rescale(W)
    P = polar_of_rescaled(X, method=method, steps=steps)
    return subtract_polar_(W, t, X, largest, P, scale=scale, part=part)


def subtract_polar_(
    W: Tensor,
    t: float | Tensor,
    X: Tensor,
    largest: Tensor,
    P: Tensor,
    *,
    scale: Scale,
    part: tuple[float | Tensor, float | Tensor],
) -> Tensor:
    """`low_rank_update_` once W = largest X is rescaled and P = polar(W) is known; P is
    overwritten."""
    if scale == "norm" or part is not PARTS["both"]:
        X_norm, P_norm = frobenius_norms(X), frobenius_norms(P)  # (..., 1, 1)
    if scale == "norm":
        t = t * largest * X_norm / P_norm.clamp_min(torch.finfo(P.dtype).tiny)
    if part is not PARTS["both"]:
        radial, tangential = part
        # a W / s = <P, X> / |X|^2 X (..., m, n)
        along = (P * X).sum((-2, -1), keepdim=True) / X_norm.square().clamp_min(
            torch.finfo(X.dtype).tiny
        )
        P.mul_(tangential).add_(along * (radial - tangential) * X)
    return W.sub_(P.mul_(t).to(W.dtype))


def frobenius_norms(X: Tensor) -> Tensor:
    """|X|_F of each matrix of X (..., m, n) of entries about 1, as (..., 1, 1)."""
    return torch.linalg.vector_norm(X, dim=(-2, -1), keepdim=True)


@torch.no_grad()
def proximal_decay_(
    W: Tensor,
    *,
    weight_decay: float | Tensor,
    lr: float = 1.0,
    mode: Mode = "decoupled",
    scale: Scale = "norm",
) -> Tensor:
    """W <- U max(S - t s, 0) V^T, the exact proximal step of t s |W|_*, by SVD. Returns W.

    With scale "norm", s = |W|_F / sqrt(rank W), the exact value of |W|_F / |polar(W)|_F.
    Raises as `low_rank_decay_`. Source: Cai, Candes and Shen 2010 (singular value
    thresholding).

    >>> proximal_decay_(torch.diag(torch.tensor([3.0, 1.0])), weight_decay=2.0, scale=None)
    tensor([[1., 0.],
            [0., 0.]])
    """
    t = _checked_strength(W, weight_decay, lr, mode)
    _check_settings(W, scale, "svd", None)
    return proximal_update_(W, t, scale=scale)


def proximal_update_(W: Tensor, t: float | Tensor, *, scale: Scale = "norm") -> Tensor:
    """W <- U max(S - t s, 0) V^T without checks of W; a matrix that is not finite becomes
    NaN."""
    finite = torch.isfinite(W).all(-1, keepdim=True).all(-2, keepdim=True)
    X = W if W.dtype in (torch.float32, torch.float64) else W.float()
    exact = torch.where(finite, X, 0.0)
    U, S, Vh = torch.linalg.svd(exact, full_matrices=False)
    most = torch.finfo(S.dtype).max  # an overflow takes all, and inf * 0 would be NaN
    if isinstance(t, Tensor):
        # (..., 1, 1) against (..., m, n) becomes (..., 1) against S (..., k)
        t = (t.squeeze(-1) if t.ndim else t).to(S.dtype).clamp_max(most)
    else:
        t = min(t, most)
    if scale == "norm":
        root = numerical_rank(S).clamp_min(1).to(S.dtype).sqrt().unsqueeze(-1)  # (..., 1)
        t = (t * frobenius_norm(exact).squeeze(-1) / root).clamp_max(most)
    with torch.autocast(W.device.type, enabled=False):
        shrunk = (U * soft_threshold(S, t).unsqueeze(-2)) @ Vh
    return W.copy_(torch.where(finite, shrunk, torch.nan))


def frobenius_norm(W: Tensor) -> Tensor:
    """|W|_F of each matrix of a stack (..., m, n), as (..., 1, 1), without overflow or
    underflow of squares."""
    X, largest = rescale(W)
    return largest * frobenius_norms(X)


class LowRankDecay(torch.optim.Optimizer):
    """Low-rank (or proximal) decay of a set of weight matrices, to run after any
    optimiser's step.

    params: tensors, a mapping name -> tensor (such as `select` returns), or torch's
    parameter groups, each with its own settings. The matrices may be stacks (..., m, n).
    weight_decay, mode, scale, method and steps are those of `low_rank_decay_`; **by default
    weight_decay is multiplied by the learning rate** (mode "decoupled", as in AdamW).
    weight_decay may be a tensor with one strength per matrix of a stack. The other
    settings:

    rule: "low_rank" or "proximal" (exact, by SVD).
    part: "both", or the "radial" or "tangential" part of the low-rank step alone.
    parts: how a fused matrix is cut into matrices that are decayed each by itself, as they
        would otherwise share one spectrum: a number of equal blocks, or their sizes. 3 for
        nn.MultiheadAttention's queries, keys and values; (32 * 128, 8 * 128, 8 * 128) where
        fewer heads share keys and values.
    dim: what is cut: 0 for rows, as in nn.Linear (out, in); 1 for columns, as in GPT-2's
        Conv1D (in, out). A matrix whose parts are interleaved head by head fits neither.
    rounding: of bfloat16 weights: "nearest", or "stochastic", which is right on average.
        It draws from torch's generator: where processes hold replicas of a matrix, as under
        DDP, give them one seed, or the replicas part.
    every: decay at each k-th step alone, with k times the strength; `steps_taken` of the
        group counts, and is in the state. As long as k times the strength is small this is
        nearly the same decay at a k-th of its cost.
    max_batch: the largest number of matrices, or of whole stacks, that are computed at
        once; None for as many as have 2^24 entries together. It bounds the memory that a
        step needs beside a copy of the matrices.
    check_finite: look for NaN before each step, and change nothing if there is one. On a
        GPU the look waits for the device. Without it a NaN stays in its own matrix.

    All matrices of one shape (up to transposition) and one setting are decayed in one
    batch. In bfloat16 a step below 2^-9 of an entry is rounded away, which is most of them:
    a warning says so. Keep float32 master weights, or round stochastically; then the step
    is computed in float32.

    A matrix that is sharded over processes (torch's DTensor, as FSDP2 and tensor
    parallelism make it) is gathered; each process decays the whole and keeps its shard.

    It is a torch Optimizer that needs no gradient: `param_groups`, `state_dict`,
    `load_state_dict` and `add_param_group` are torch's. Two ways to run it:

        decay = LowRankDecay(select(model, "attention+mlp"), weight_decay=0.1)
        handle = decay.attach(optimizer)  # after each optimizer.step(), with the live lr

        decay.step(lr=1e-3)               # or by hand

    Raises TypeError or ValueError, before anything is changed, for a parameter that is not
    a finite dense float32, float64 or bfloat16 matrix or stack (k, m, n), no parameter at
    all, a bad setting, or (in `step`) a NaN or infinite weight. A kernel of a convolution
    (out, in, h, w) is refused: its matrix (out, in * h * w) is a view that can be decayed
    by hand, by `low_rank_decay_`.

    >>> W = torch.nn.Parameter(torch.diag(torch.tensor([3.0, 1.0])))
    >>> LowRankDecay([W], weight_decay=0.5, mode="independent", scale=None, method="svd").step()
    >>> torch.linalg.svdvals(W.detach())
    tensor([2.5000, 0.5000])
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]] | Mapping[str, Tensor],
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
        rounding: Rounding = "nearest",
        every: int = 1,
        max_batch: int | None = None,
        check_finite: bool = True,
    ) -> None:
        defaults = dict(
            weight_decay=weight_decay, mode=mode, scale=scale, method=method, steps=steps
        )
        self._handles: WeakKeyDictionary[torch.optim.Optimizer, RemovableHandle]
        self._handles = WeakKeyDictionary()  # of what it is attached to
        super().__init__(
            _listed(params),
            defaults
            | dict(rule=rule, part=part, parts=parts, dim=dim, rounding=rounding)
            | dict(every=every, max_batch=max_batch, check_finite=check_finite),
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group {"params": matrices, setting: value, ...}; checked before it is
        added."""
        check_instance("param_group", param_group, dict)
        unknown = set(param_group) - set(self.defaults) - {"params", "param_names"}
        if unknown:
            raise ValueError(
                f"a parameter group must hold only params, {', '.join(self.defaults)}, got "
                f"{shown(sorted(map(str, unknown)))}"
            )
        given = param_group.get("params", ())
        listed = _listed([given] if isinstance(given, Tensor) else given)
        names = param_group.get("param_names", [f"params[{i}]" for i in range(len(listed))])
        if len(names) != len(listed):
            raise ValueError(
                f"param_names must be one per matrix, got {len(names)} for {len(listed)}"
            )
        named = [_named(*both) for both in zip(names, listed, strict=True)]
        for (name, W), entry in zip(named, listed, strict=True):
            _check_weight(f"params[{name!r}]" if entry is not W else name, W)
        group = {**self.defaults, **param_group, "params": [W for _, W in named]}
        _check_group(group)
        rounded = [n for n, W in named if getattr(W, "dtype", None) == torch.bfloat16]
        if rounded and group["rounding"] == "nearest":
            warnings.warn(
                f"{rounded[0]} is bfloat16, where most steps of a decay are rounded away: "
                'keep float32 master weights, or give rounding="stochastic"',
                stacklevel=2,
            )
        super().add_param_group({**param_group, "params": named, "steps_taken": 0})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """torch's: what `load_state_dict` and unpickling hand over. A setting that an older
        version did not have is at its default."""
        super().__setstate__(state)
        self.__dict__.setdefault("_handles", WeakKeyDictionary())
        for group in self.param_groups:
            for name in SETTINGS:
                group.setdefault(name, self.defaults[name])
            group.setdefault("steps_taken", 0)
            group.setdefault(
                "param_names", [f"params[{i}]" for i in range(len(group["params"]))]
            )

    @torch.no_grad()
    def step(self, lr: float | Tensor | None = None) -> None:  # type: ignore[override]
        """Decay every matrix once, a frozen one too. `lr` is needed if a group is
        "decoupled".

        Raises ValueError if it is missing, negative or not finite, or if a weight is not
        finite; nothing is changed then.
        """
        if lr is None and any(group["mode"] == "decoupled" for group in self.param_groups):
            raise ValueError(
                'lr must be given to step() for mode "decoupled" (or attach an optimizer), '
                "got None"
            )
        if isinstance(lr, Tensor) and lr.numel() == 1:
            lr = lr.item()
        if lr is not None:
            check_real("lr", lr, at_least=0)
        rate = 1.0 if lr is None else float(lr)
        self._decay({id(W): rate for group in self.param_groups for W in group["params"]})

    def attach(self, optimizer: torch.optim.Optimizer) -> RemovableHandle:
        """Decay after every `optimizer.step()`, with the lr that the optimizer then has for
        each matrix.

        optimizer may be a wrapper that keeps torch's as `.optimizer`, as accelerate and
        Lightning hand out; then that one is meant. Left alone are a matrix that is frozen
        (requires_grad False) and a step that a GradScaler skips; a matrix that merely got
        no gradient is decayed. Returns torch's handle; `handle.remove()` detaches. The same
        optimizer again gives the handle that there is: nothing is decayed twice. Raises
        ValueError if a "decoupled" group holds a matrix that the optimizer does not train.
        """
        trained = _unwrapped(optimizer)
        if isinstance(trained, LowRankDecay):
            raise TypeError(
                "optimizer must be the one that trains the matrices, got a LowRankDecay"
            )
        self._rates(trained)
        known: RemovableHandle | None = self._handles.get(trained)
        if known is None or known.id not in (known.hooks_dict_ref() or ()):
            known = trained.register_step_post_hook(self._decay_after_step)
            self._handles[trained] = known
        return known

    @torch.compiler.disable  # matrices are batched by what they hold: nothing to compile
    def _decay_after_step(
        self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> None:
        # set by torch.amp.GradScaler during a fused step
        overflow = getattr(optimizer, "found_inf", None)
        if overflow is None or not bool(overflow):
            self._decay(self._rates(optimizer), frozen=self._frozen())

    def _frozen(self) -> frozenset[int]:
        """id of each matrix that is not to be changed."""
        matrices = (W for group in self.param_groups for W in group["params"])
        return frozenset(id(W) for W in matrices if not W.requires_grad)

    @torch.no_grad()
    def ranks(self, measure: Callable[[Tensor], Tensor] = stable_rank) -> dict[str, float]:
        """A measure of the singular values of each matrix: by name, with the part of a
        fused matrix and the place in a stack in brackets.

        measure: singular values (..., k) -> (...), such as those of lrdlib.spectral.

        >>> W = torch.nn.Parameter(torch.diag(torch.tensor([2.0, 1.0])))
        >>> LowRankDecay({"query": W}, weight_decay=0.1).ranks()
        {'query': 1.25}
        """
        found = {}
        for group in self.param_groups:
            for name, W in zip(group["param_names"], group["params"], strict=True):
                full = W.full_tensor() if _is_sharded(W) else W
                full = full.to(torch.promote_types(full.dtype, torch.float32))
                parts = _cut(full, group["parts"], group["dim"])
                for i, part in enumerate(parts):
                    S = torch.linalg.svdvals(part)  # (k,) or (stack, k)
                    label = f"{name}[{i}]" if len(parts) > 1 else name
                    if S.ndim == 1:
                        found[label] = float(measure(S))
                    else:
                        values = measure(S).tolist()
                        found |= {f"{label}[{j}]": x for j, x in enumerate(values)}
        return found

    def _rates(self, optimizer: torch.optim.Optimizer) -> dict[int, float]:
        """id of each matrix -> the lr that `optimizer` has for it now; 1 where the mode
        does not ask for it."""
        rates = {
            id(W): float(group["lr"])
            for group in optimizer.param_groups
            for W in group["params"]
        }
        for group in self.param_groups:
            for name, W in zip(group["param_names"], group["params"], strict=True):
                known = id(W) in rates or not W.requires_grad
                if group["mode"] == "decoupled" and not known:
                    raise ValueError(
                        "optimizer must train every decayed matrix that is not frozen, but "
                        f"not {name} {tuple(W.shape)}"
                    )
                rates.setdefault(id(W), 1.0)
        return rates

    @torch.no_grad()
    def _decay(self, rates: dict[int, float], frozen: frozenset[int] = frozenset()) -> None:
        """Decay the matrices in batches of one shape, strength and setting: check all,
        compute all, then write all."""
        batches, sharded = self._batches(rates, frozen)
        # (matrices, ..., rows, columns), rows >= columns
        stacks = {key: torch.stack(matrices) for key, matrices in batches.items()}
        for (i, *_), W in stacks.items():
            if self.param_groups[i]["check_finite"]:
                check_finite(f"param_groups[{i}]['params']", W)
        for key, W in stacks.items():
            stacks[key] = _decayed(W, key[-1], self.param_groups[key[0]])
        for group in self.param_groups:
            group["steps_taken"] += 1
        for key, matrices in batches.items():
            torch._foreach_copy_(matrices, list(stacks[key]))
        for W, full in sharded:
            _keep_shard(W, full)

    def _batches(
        self, rates: dict[int, float], frozen: frozenset[int]
    ) -> tuple[dict[tuple, list[Tensor]], list[tuple[Tensor, Tensor]]]:
        """Views of the parts of all matrices, by what may differ between batches: (group,
        ..., lr); and each sharded matrix with the whole that its views are of."""
        batches: dict[tuple, list[Tensor]] = {}
        sharded = []
        for i, group in enumerate(self.param_groups):
            _check_group(group)  # settings may have been changed since
            if (group["steps_taken"] + 1) % group["every"]:
                continue
            for W in (W for W in group["params"] if id(W) not in frozen):
                full = W
                if _is_sharded(W):
                    full = W.full_tensor()
                    sharded.append((W, full))
                for part in _cut(full, group["parts"], group["dim"]):
                    key = (i, tall(part).shape, part.dtype, part.device, rates[id(W)])
                    batches.setdefault(key, []).append(tall(part))
        return batches, sharded


def _decayed(W: Tensor, lr: float, group: Mapping[str, Any]) -> Tensor:
    """A stack W (matrices, ..., m, n) after a step by the settings of a group of
    `LowRankDecay`; W itself, in place, unless it is rounded stochastically."""
    stochastic = W.dtype == torch.bfloat16 and group["rounding"] == "stochastic"
    X = W.float() if stochastic else W
    t = strength(group["weight_decay"], lr, group["mode"]) * group["every"]
    how = {name: group[name] for name in ("scale", "method", "steps")}
    for batch in X.split(group["max_batch"] or max(1, BATCH // X[0].numel())):
        if group["rule"] == "proximal":
            proximal_update_(batch, t, scale=group["scale"])
        else:
            low_rank_update_(batch, t, part=PARTS[group["part"]], **how)
    return _stochastically_rounded(X) if stochastic else X


def _cut(W: Tensor, parts: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of the parts of a fused matrix W (..., m, n): equal blocks, or blocks of these
    sizes, of its rows (dim 0) or columns (dim 1).

    >>> [tuple(part.shape) for part in _cut(torch.ones(8, 5), (4, 2, 2))]
    [(4, 5), (2, 5), (2, 5)]
    """
    sizes = W.shape[dim - 2] // parts if isinstance(parts, int) else list(parts)
    return W.split(sizes, dim=dim - 2)


def _stochastically_rounded(x: Tensor) -> Tensor:
    """x, float32, in bfloat16: up or down at random, such that the mean is x.

    bfloat16 has the upper 16 bits of float32; what a uniform number of 16 bits carries into
    them is one more of their last place, with the probability that the lower bits say.

    >>> sorted(set(_stochastically_rounded(torch.full((99,), 1 + 2**-9)).tolist()))
    [1.0, 1.0078125]
    """
    bits = x.view(torch.int32)
    bits = bits + torch.randint_like(bits, 1 << 16)
    rounded = (bits & -(1 << 16)).view(torch.float32)
    return torch.where(torch.isfinite(x), rounded, x).to(torch.bfloat16)


def _is_sharded(W: Tensor) -> bool:
    """Whether W is torch's DTensor; torch.distributed is not in every build."""
    return hasattr(W, "full_tensor")


def _keep_shard(W: Tensor, full: Tensor) -> None:
    """Write this process's part of `full`, which all of them have, into the DTensor W."""
    from torch.distributed.tensor import DTensor, Replicate

    assert isinstance(W, DTensor)
    mesh = W.device_mesh
    whole = DTensor.from_local(full, mesh, [Replicate()] * mesh.ndim, run_check=False)
    W.to_local().copy_(whole.redistribute(mesh, W.placements).to_local())


def tall(W: Tensor) -> Tensor:
    """W or W^T (..., m, n), a view with m >= n; polar(W^T) = polar(W)^T.

    >>> tall(torch.ones(2, 3)).shape
    torch.Size([3, 2])
    """
    return W if W.shape[-2] >= W.shape[-1] else W.mT


class Selection(dict[str, Tensor]):
    """Matrices by name, as `select` picks them; printed, a line each: name, shape, role."""

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        known = {name for names in PLACES.values() for name in names}
        parts = {n: role(n) if role(n) in known else _part_of(n) for n in self}
        return "\n".join(
            f"{name:{width}}  {tuple(W.shape)!s:14} {parts[name]}"
            for name, W in self.items()
        )


def select(
    model: nn.Module | Mapping[str, Tensor],
    which: str | re.Pattern[str] | Callable[[str, Tensor], bool],
    *,
    exclude: str | None = None,
) -> Selection:
    """The matrices to decay, by name, picked by what they do in the model.

    model: lrdlib parameters (whose roles `lrdlib.model` defines) or any nn.Module. which:

    "attention+mlp": the matrices inside the transformer blocks, as the paper decays them.
        In an nn.Module these are the matrices and stacks of matrices (2-D and 3-D
        parameters, no side of length 1) of the modules inside an nn.ModuleList, where
        repeated blocks live. Left out are embeddings and what is tied to one, heads (named
        lm_head), convolutions, norms, the router of a mixture of experts, what
        torch.nn.utils.parametrize keeps, what is frozen, and what is marked
        _no_weight_decay, as Mamba's A_log is. Print what it returns: it cannot know a table
        of positions inside a block, and finds no blocks that are kept in an nn.Sequential.
        A fused query-key-value matrix is one matrix here: give it a group with parts=3.
    "qk", "vo", "mlp": the query and key, the value and output, or the other matrices of the
        blocks. In an nn.Module these go by the usual names: q_proj, query, to_q, wq and
        their like; what else is in a module named attn or attention is an output.
    "embedding" (with the positions), "head": of lrdlib's own parameters. All these words
        may be joined by "+", as in "vo+mlp".
    a compiled regular expression, searched in the name, or a predicate (name, tensor) ->
        bool: of all parameters.

    exclude: a regular expression; a parameter in whose name it is found is left out.

    Raises ValueError for another word, for "qk" or "vo" where they are one matrix, and for
    an empty selection; TypeError for another kind of model.

    >>> W = torch.ones(4, 4)
    >>> params = {"embedding": W, "0.query": W, "0.up": W}
    >>> list(select(params, "attention+mlp")), list(select(params, "qk"))
    (['0.query', '0.up'], ['0.query'])
    >>> select(params, "attention+mlp")
    0.query  (4, 4)         query
    0.up     (4, 4)         up
    """
    named, parts = _parameters(model)
    if exclude is not None:
        check_instance("exclude", exclude, str)
        named = {name: W for name, W in named.items() if not re.search(exclude, name)}
    if isinstance(which, re.Pattern):
        chosen = {name: W for name, W in named.items() if which.search(name)}
    elif callable(which):
        chosen = {name: W for name, W in named.items() if which(name, W)}
    else:
        known = ("qk", "vo", "mlp") if isinstance(model, nn.Module) else tuple(PLACES)
        words = set(_words(which)) if isinstance(which, str) else set()
        if not words or not words <= set(known):
            check_choice(
                "which", which, ("attention+mlp", *known, "a predicate (name, tensor)")
            )
        of_attention = words & {"qk", "vo"}
        fused = [name for name in named if parts.get(name) == "fused"]
        if fused and len(of_attention) == 1:
            raise ValueError(
                f"which must not part {fused[0]}, in which queries, keys and values "
                f"are one matrix, got {shown(which)} (a group of its own with parts=3 "
                "decays each by itself)"
            )
        taken = words | ({"fused"} if of_attention else set())
        chosen = {name: W for name, W in named.items() if parts.get(name) in taken}
    if not chosen:
        hint = (
            " (it looks inside nn.ModuleList; a predicate (name, tensor) can choose freely)"
        )
        raise ValueError(
            f"which must select at least one of the {len(named)} parameters, got none from "
            f"{shown(which)}{'' if callable(which) else hint}"
        )
    return Selection(chosen)


def _parameters(model: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All parameters by name; and, of those that a decay may be for, the word of PLACES, or
    "fused" for queries, keys and values in one."""
    if isinstance(model, nn.Module):
        blocks = {name: _part_of(name) for name in _block_matrices(model)}
        return dict(model.named_parameters()), blocks
    if not isinstance(model, Mapping):
        raise TypeError(
            "model must be an nn.Module or a mapping of tensors, got "
            f"{type(model).__name__}"
        )
    for name, W in model.items():
        check_instance("model's names", name, str)
        check_instance(f"model[{name!r}]", W, Tensor)
    if not model:
        raise ValueError("model must hold at least one parameter, got none")
    words = {r: word for word, roles in PLACES.items() for r in roles}
    return dict(model), {n: words[role(n)] for n in model if role(n) in words}


# What a parameter's module, or the parameter itself, is called in the libraries that people
# use: transformers, timm, diffusers, torch.
OF_QUERIES_AND_KEYS = re.compile(r"(to_|w)?(q|k|query|key)(_?(proj|lin))?(_weight)?", re.I)
OF_VALUES = re.compile(r"(to_|w)?(v|value)(_?(proj|lin))?(_weight)?", re.I)
OF_ALL_THREE = re.compile(
    r"in_proj_weight|c_attn|query_key_value|(to_|w)?qkv(_proj)?", re.I
)
OF_ADAPTERS = re.compile(r"\.(base_layer|lora_[AB](\.\w+)?)(?=\.weight$|$)")  # peft
OF_ATTENTION = re.compile(r"attn|attention", re.I)


def _part_of(name: str) -> str:
    """The part of a transformer block that a parameter of this name belongs to: "qk", "vo",
    "fused" for queries, keys and values in one matrix, or "mlp" for all else.

    >>> _part_of("layers.0.self_attn.q_proj.weight"), _part_of("layers.0.self_attn.o_proj.weight")
    ('qk', 'vo')
    """
    *modules, leaf = OF_ADAPTERS.sub("", name).removesuffix(".weight").split(".")
    block = next((i for i, module in enumerate(modules) if module.isdigit()), -1)
    modules = modules[block + 1 :]  # what the blocks are kept in has a name of its own
    if OF_ALL_THREE.fullmatch(leaf):
        return "fused"
    if OF_QUERIES_AND_KEYS.fullmatch(leaf):
        return "qk"
    attention = any(OF_ATTENTION.search(module) for module in modules)
    return "vo" if OF_VALUES.fullmatch(leaf) or attention else "mlp"


def places(where: str) -> tuple[str, ...]:
    """The roles of lrdlib's parameters that `where` names, as `select` takes it; none for
    another word.

    >>> places("vo+head")
    ('value', 'output', 'head')
    """
    return tuple(role for word in _words(where) for role in PLACES[word])


def _words(where: str) -> list[str]:
    """The words of PLACES that `where` joins; none where it joins others, or one twice."""
    words = where.replace("attention", "qk+vo").split("+")
    return words if len(set(words)) == len(words) and set(words) <= PLACES.keys() else []


def _block_matrices(model: nn.Module) -> set[str]:
    """Names of the matrices of modules inside an nn.ModuleList that a decay is for."""
    modules = dict(model.named_modules())
    lists = [
        f"{name}." if name else ""
        for name, module in modules.items()
        if isinstance(module, nn.ModuleList) and "parametrizations" not in name.split(".")
    ]
    embeddings = {
        id(m.weight)
        for m in model.modules()
        if isinstance(m, (nn.Embedding, nn.EmbeddingBag))
    }
    return {
        name
        for name, W in model.named_parameters()
        if name.startswith(tuple(lists))
        and W.ndim in (2, 3)
        and 1 not in W.shape[-2:]
        and W.requires_grad
        and id(W) not in embeddings
        and not getattr(W, "_no_weight_decay", False)
        and not _is_other(modules, name)
    }


def _is_other(modules: Mapping[str, nn.Module], name: str) -> bool:
    """Whether the parameter belongs to a convolution, a norm, a parametrization, a head or
    a router: a gate beside experts."""
    path = name.split(".")[:-1]
    owner, above = modules[".".join(path)], modules[".".join(path[:-1])] if path else None
    router = path and path[-1] in ("gate", "router") and hasattr(above, "experts")
    return bool(
        isinstance(owner, nn.modules.conv._ConvNd)
        or type(owner).__name__.endswith("Norm")
        or "parametrizations" in path
        or any(module.startswith("lm_head") for module in path)
        or router
    )


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


def _named(name: str, entry: Any) -> tuple[str, Any]:
    """A matrix and its name, from an entry of params: (its own name, matrix), or the matrix
    alone."""
    if isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str):
        return entry
    return name, entry


def _listed(params: Any) -> list[Any]:
    """Parameters as a list: from a mapping of names, a list of tensors or groups, or any
    other iterable of these."""
    if isinstance(params, (Tensor, np.ndarray)) or not isinstance(params, Iterable):
        raise TypeError(
            "params must be tensors, a mapping of them, or parameter groups, got "
            f"{type(params).__name__}"
        )
    listed = list(params.items() if isinstance(params, Mapping) else params)
    if not listed:
        raise ValueError("params must hold at least one matrix, got an empty selection")
    return listed


def _check_strength(weight_decay: float | Tensor, mode: str) -> None:
    """weight_decay is a number >= 0, or a tensor of them."""
    check_choice("mode", mode, MODES)
    if not isinstance(weight_decay, Tensor):
        return check_real("weight_decay", weight_decay, at_least=0)
    check_reals("weight_decay", weight_decay)


def _check_fit(weight_decay: float | Tensor, W: Tensor) -> None:
    """A tensor weight_decay has one number per matrix of the stack W: it broadcasts to
    (..., 1, 1)."""
    if not isinstance(weight_decay, Tensor):
        return
    expected = (*W.shape[:-2], 1, 1)
    sizes = zip(reversed(weight_decay.shape), reversed(expected), strict=False)
    if weight_decay.ndim > len(expected) or any(
        given not in (1, wanted) for given, wanted in sizes
    ):
        raise ValueError(
            f"weight_decay must be a number or a tensor that broadcasts to {expected}, one "
            f"number per matrix, got shape {tuple(weight_decay.shape)}"
        )


def _check_group(group: dict[str, Any]) -> None:
    """The settings of a parameter group, against its matrices."""
    check_choice("rule", group["rule"], UPDATES)
    check_choice("part", group["part"], PARTS)
    if group["rule"] == "proximal" and group["part"] != "both":
        raise ValueError(
            f"part must be 'both' for rule 'proximal', got {shown(group['part'])}"
        )
    check_bool("check_finite", group["check_finite"])
    check_choice("dim", group["dim"], (0, 1))
    check_choice("rounding", group["rounding"], ROUNDINGS)
    check_integer("every", group["every"])
    if group["max_batch"] is not None:
        check_integer("max_batch", group["max_batch"])
    sizes = group["parts"]
    if isinstance(sizes, (list, tuple)) and sizes:
        for j, size in enumerate(sizes):
            check_integer(f"parts[{j}]", size)
    else:
        check_integer("parts", sizes)
    _check_strength(group["weight_decay"], group["mode"])
    check_choice("scale", group["scale"], SCALES)
    check_polar(group["method"], group["steps"])
    for W in group["params"]:
        _check_fit(group["weight_decay"], W)
        _check_dtype(W)
        _check_cut(W, group["parts"], group["dim"])


def _check_cut(W: Tensor, parts: int | Sequence[int], dim: int) -> None:
    """The parts of W are equal, or add up to it."""
    side, what = W.shape[dim - 2], ("rows", "columns")[dim]
    if isinstance(parts, int):
        if side % parts:
            raise ValueError(
                f"parts must divide the {side} {what} of every matrix, got {shown(parts)}"
            )
    elif sum(parts) != side:
        raise ValueError(
            f"parts must add up to the {side} {what} of every matrix, got {shown(parts)}"
        )


def _check_weight(name: str, W: Any) -> None:
    """W is a matrix or a stack of them that can be changed in place; of a sharded one, that
    its shards add up to one is all that is asked of them."""
    if isinstance(W, Tensor) and _is_sharded(W):
        placements = W.placements  # type: ignore[attr-defined]
        if any(placement.is_partial() for placement in placements):
            raise ValueError(
                f"{name} must be sharded or replicated, got placements {placements}"
            )
        if W.ndim not in (2, 3):
            raise ValueError(f"{name} must be a matrix (m, n), got shape {tuple(W.shape)}")
        return
    check_matrix(name, W)
    if W.ndim > 3:
        raise ValueError(
            f"{name} must be a matrix (m, n) or a stack (k, m, n), got shape "
            f"{tuple(W.shape)} (for a convolution's kernel see the docstring)"
        )
    _check_writable(name, W)


def _checked_strength(
    W: Tensor, weight_decay: float | Tensor, lr: float, mode: str
) -> float | Tensor:
    """`strength` for the matrices W; raises unless they can be decayed by it in place."""
    check_matrix("W", W)
    _check_writable("W", W)
    check_real("lr", lr, at_least=0)
    _check_strength(weight_decay, mode)
    _check_fit(weight_decay, W)
    t = strength(weight_decay, float(lr), mode)
    if not isinstance(t, Tensor):
        check_real("weight_decay * lr", t)
    return t


def _check_writable(name: str, W: Tensor) -> None:
    """Raise unless W can be changed in place: torch refuses it of an inference tensor, and
    of entries that share their memory."""
    if W.is_inference() and not torch.is_inference_mode_enabled():
        raise TypeError(
            f"{name} must be a tensor that can be changed in place, got one that was made "
            "in inference mode"
        )
    if any(step == 0 and n > 1 for step, n in zip(W.stride(), W.shape, strict=True)):
        raise ValueError(
            f"{name} must have memory for each entry, got an expanded tensor of strides "
            f"{W.stride()} (clone it)"
        )


def _check_settings(W: Tensor, scale: str | None, method: str, steps: int | None) -> None:
    check_choice("scale", scale, SCALES)
    check_polar(method, steps)
    _check_dtype(W)


def _check_dtype(W: Tensor) -> None:
    if W.dtype not in DTYPES:
        raise TypeError(f"W must be float32, float64 or bfloat16, got dtype {W.dtype}")
