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

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

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
from lrdlib.spectral import numerical_rank, soft_threshold

Mode = Literal["decoupled", "independent"]
Scale = Literal["norm"] | None
Part = Literal["both", "radial", "tangential"]
MODES = ("decoupled", "independent")
SCALES = ("norm", None)
UPDATES = ("low_rank", "proximal")
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
    *("rule", "part", "parts", "check_finite"),
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
    parts: the matrices are decayed in this many equal row blocks, each by itself: 3 for a
        fused query-key-value matrix such as nn.MultiheadAttention's, whose three parts
        would otherwise share one spectrum.
    check_finite: look for NaN before each step, and change nothing if there is one. On a
        GPU the look waits for the device. Without it a NaN stays in its own matrix.

    All matrices of one shape (up to transposition) and one setting are decayed in one
    batch. bfloat16 weights are decayed in bfloat16, where a step below 2^-9 of an entry is
    rounded away: keep float32 master weights.

    It is a torch Optimizer that needs no gradient: `param_groups`, `state_dict`,
    `load_state_dict` and `add_param_group` are torch's. Two ways to run it:

        decay = LowRankDecay(select(model, "attention+mlp"), weight_decay=0.1)
        handle = decay.attach(optimizer)  # after each optimizer.step(), with the live lr

        decay.step(lr=1e-3)               # or by hand

    Raises TypeError or ValueError, before anything is changed, for a parameter that is not
    a finite dense float32, float64 or bfloat16 matrix, no parameter at all, a bad setting,
    or (in `step`) a NaN or infinite weight.

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
        parts: int = 1,
        check_finite: bool = True,
    ) -> None:
        defaults = dict(
            weight_decay=weight_decay, mode=mode, scale=scale, method=method, steps=steps
        )
        super().__init__(
            _listed(params),
            defaults | dict(rule=rule, part=part, parts=parts, check_finite=check_finite),
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
        matrices = _listed([given] if isinstance(given, Tensor) else given)
        for i, W in enumerate(matrices):
            check_matrix(f"params[{i}]", W)
            _check_writable(f"params[{i}]", W)
        _check_group({**self.defaults, **param_group, "params": matrices})
        super().add_param_group({**param_group, "params": matrices})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """torch's: what `load_state_dict` and unpickling hand over. A setting that an older
        version did not have is at its default."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name in SETTINGS:
                group.setdefault(name, self.defaults[name])

    @torch.no_grad()
    def step(self, lr: float | None = None) -> None:  # type: ignore[override]
        """Decay every matrix once. `lr` is needed if a group is "decoupled".

        Raises ValueError if it is missing, negative or not finite, or if a weight is not
        finite; nothing is changed then.
        """
        if lr is None and any(group["mode"] == "decoupled" for group in self.param_groups):
            raise ValueError(
                'lr must be given to step() for mode "decoupled" (or attach an optimizer), '
                "got None"
            )
        if lr is not None:
            check_real("lr", lr, at_least=0)
        rate = 1.0 if lr is None else float(lr)
        self._decay({id(W): rate for group in self.param_groups for W in group["params"]})

    def attach(self, optimizer: torch.optim.Optimizer) -> RemovableHandle:
        """Decay after every `optimizer.step()`, with the lr that the optimizer then has for
        each matrix.

        Leaves alone a matrix of the optimizer that is frozen (requires_grad False), and a
        step that a GradScaler skips; a matrix that merely got no gradient is decayed. Each
        call attaches once more. Returns torch's handle; `handle.remove()` detaches. Raises
        ValueError if a "decoupled" group holds a matrix that the optimizer does not train.
        """
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}"
            )
        self._rates(optimizer)

        def decay_after_step(
            optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
        ) -> None:
            # set by torch.amp.GradScaler during a fused step
            overflow = getattr(optimizer, "found_inf", None)
            if overflow is None or not bool(overflow):
                self._decay(self._rates(optimizer), frozen=_frozen(optimizer))

        return optimizer.register_step_post_hook(decay_after_step)

    def _rates(self, optimizer: torch.optim.Optimizer) -> dict[int, float]:
        """id of each matrix -> the lr that `optimizer` has for it now; 1 where the mode
        does not ask for it."""
        rates = {
            id(W): float(group["lr"])
            for group in optimizer.param_groups
            for W in group["params"]
        }
        for group in self.param_groups:
            for W in group["params"]:
                if group["mode"] == "decoupled" and id(W) not in rates:
                    raise ValueError(
                        "optimizer must train every decayed matrix, got none of shape "
                        f"{tuple(W.shape)}"
                    )
                rates.setdefault(id(W), 1.0)
        return rates

    @torch.no_grad()
    def _decay(self, rates: dict[int, float], frozen: frozenset[int] = frozenset()) -> None:
        """Decay the matrices in batches of one shape, strength and setting: check all,
        compute all, then write all."""
        batches: dict[tuple, list[Tensor]] = {}
        for i, group in enumerate(self.param_groups):
            _check_group(group)  # settings may have been changed since
            for W in (W for W in group["params"] if id(W) not in frozen):
                for part in W.chunk(group["parts"], dim=-2):
                    key = (i, tall(part).shape, part.dtype, part.device, rates[id(W)])
                    batches.setdefault(key, []).append(tall(part))
        # (matrices, ..., rows, columns), rows >= columns
        stacks = {key: torch.stack(matrices) for key, matrices in batches.items()}
        for (i, *_), W in stacks.items():
            if self.param_groups[i]["check_finite"]:
                check_finite(f"param_groups[{i}]['params']", W)
        for (i, *_, lr), W in stacks.items():
            group = self.param_groups[i]
            t = strength(group["weight_decay"], lr, group["mode"])
            if group["rule"] == "proximal":
                proximal_update_(W, t, scale=group["scale"])
            else:
                low_rank_update_(
                    W,
                    t,
                    scale=group["scale"],
                    method=group["method"],
                    steps=group["steps"],
                    part=PARTS[group["part"]],
                )
        for key, matrices in batches.items():
            torch._foreach_copy_(matrices, list(stacks[key]))


def tall(W: Tensor) -> Tensor:
    """W or W^T (..., m, n), a view with m >= n; polar(W^T) = polar(W)^T.

    >>> tall(torch.ones(2, 3)).shape
    torch.Size([3, 2])
    """
    return W if W.shape[-2] >= W.shape[-1] else W.mT


def select(
    model: nn.Module | Mapping[str, Tensor], which: str | Callable[[str, Tensor], bool]
) -> dict[str, Tensor]:
    """The matrices to decay, by name, picked by what they do in the model.

    model: lrdlib parameters (whose roles `lrdlib.model` defines) or any nn.Module. which:

    "attention+mlp": the matrices inside the transformer blocks, as the paper decays them.
        In an nn.Module these are the matrices and stacks of matrices (2-D and 3-D
        parameters, no side of length 1) of the modules inside an nn.ModuleList, where
        repeated blocks live; not embeddings, nor what is tied to one. Look at what it
        returns: it cannot know a table of positions inside a block, and finds no blocks
        that are kept in an nn.Sequential. A fused query-key-value matrix is one matrix
        here: give it a group with parts=3.
    "qk", "vo", "mlp": the query and key, the value and output, or the MLP's matrices;
    "embedding" (with the positions), "head"; or several of these, joined by "+", as in
        "vo+mlp". torch does not say which of a module's matrices is a query, so for an
        nn.Module these raise ValueError; give a predicate.
    a predicate (name, tensor) -> bool.

    Raises ValueError for another word and for an empty selection, TypeError for another
    kind of model.

    >>> W = torch.ones(4, 4)
    >>> params = {"embedding": W, "0.query": W, "0.up": W}
    >>> list(select(params, "attention+mlp")), list(select(params, "qk"))
    (['0.query', '0.up'], ['0.query'])
    """
    named: dict[str, Tensor]
    if isinstance(model, nn.Module):
        named = dict(model.named_parameters())
        roles = {"attention+mlp": _block_matrices(model)}
    elif isinstance(model, Mapping):
        for name, W in model.items():
            check_instance("model's names", name, str)
            check_instance(f"model[{name!r}]", W, Tensor)
        if not model:
            raise ValueError("model must hold at least one parameter, got none")
        named = dict(model)
        roles = {
            word: {name for name in model if role(name) in places(word)}
            for word in ("attention+mlp", *PLACES, which)
            if isinstance(word, str) and places(word)
        }
    else:
        raise TypeError(
            "model must be an nn.Module or a mapping of tensors, got "
            f"{type(model).__name__}"
        )
    if callable(which):
        chosen = {name: W for name, W in named.items() if which(name, W)}
    else:
        check_choice("which", which, (*roles, "a predicate (name, tensor)"))
        chosen = {name: W for name, W in named.items() if name in roles.get(which, ())}
    if not chosen:
        hint = (
            " (it looks inside nn.ModuleList; a predicate (name, tensor) can choose freely)"
        )
        raise ValueError(
            f"which must select at least one of the {len(named)} parameters, got none from "
            f"{shown(which)}{'' if callable(which) else hint}"
        )
    return chosen


def places(where: str) -> tuple[str, ...]:
    """The roles of lrdlib's parameters that `where` names, as `select` takes it; none for
    another word.

    >>> places("vo+head")
    ('value', 'output', 'head')
    """
    words = where.replace("attention", "qk+vo").split("+")
    if len(set(words)) < len(words) or not set(words) <= PLACES.keys():
        return ()
    return tuple(role for word in words for role in PLACES[word])


def _block_matrices(model: nn.Module) -> set[str]:
    """Names of the matrices of modules inside an nn.ModuleList, embeddings and what is tied
    to them aside."""
    lists = [
        f"{name}." if name else ""
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
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
        and id(W) not in embeddings
    }


def _frozen(optimizer: torch.optim.Optimizer) -> frozenset[int]:
    """id of each matrix that the optimizer holds but does not train."""
    return frozenset(
        id(W)
        for group in optimizer.param_groups
        for W in group["params"]
        if not W.requires_grad
    )


def _listed(params: Any) -> list[Any]:
    """Parameters as a list: from a mapping of names, a list of tensors or groups, or any
    other iterable of these."""
    if isinstance(params, (Tensor, np.ndarray)) or not isinstance(params, Iterable):
        raise TypeError(
            "params must be tensors, a mapping of them, or parameter groups, got "
            f"{type(params).__name__}"
        )
    listed = list(params.values() if isinstance(params, Mapping) else params)
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
    check_integer("parts", group["parts"])
    _check_strength(group["weight_decay"], group["mode"])
    check_choice("scale", group["scale"], SCALES)
    check_polar(group["method"], group["steps"])
    for W in group["params"]:
        _check_fit(group["weight_decay"], W)
        _check_dtype(W)
        if W.shape[-2] % group["parts"]:
            raise ValueError(
                f"parts must divide the {W.shape[-2]} rows of every matrix, got "
                f"{shown(group['parts'])}"
            )


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
