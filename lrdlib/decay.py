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
as (runs, 1, 1). `stochastically_rounded` is for steps too small for bfloat16.

There is no cautious variant, which would decay only the entries that the optimiser's update
moves towards 0 too (Chen et al. 2025, arXiv 2510.12402). So masked, polar(W) still keeps the
stationary points of the loss, as masked weight decay does. But it is no longer taken off the
singular values: a masked step of a matrix of low rank fills the rank and, where the signs of
the update are random, raises the nuclear norm; and it depends on the coordinates.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lrdlib._check import check_choice, check_matrix, check_real, check_reals
from lrdlib.polar import DTYPES, check_polar, polar_of_rescaled, rescale
from lrdlib.spectral import numerical_rank, soft_threshold

Mode = Literal["decoupled", "independent"]
Scale = Literal["norm"] | None
Part = Literal["both", "radial", "tangential"]
MODES = ("decoupled", "independent")
SCALES = ("norm", None)
# coefficients of the radial and of the tangential part of a low-rank step
PARTS = {"both": (1.0, 1.0), "radial": (1.0, 0.0), "tangential": (0.0, 1.0)}


def strength(weight_decay: float | Tensor, lr: float | Tensor, mode: str) -> float | Tensor:
    """t = lr * weight_decay if `mode` is "decoupled", weight_decay if it is "independent".

    >>> strength(0.1, 1e-3, "decoupled"), strength(0.1, 1e-3, "independent")
    (0.0001, 0.1)
    """
    if not isinstance(weight_decay, Tensor):
        weight_decay = float(weight_decay)  # torch takes no integer beyond 64 bits
    elif not weight_decay.is_floating_point():  # whose products would wrap around
        weight_decay = weight_decay.to(torch.get_default_dtype())
    return lr * weight_decay if mode == "decoupled" else weight_decay


def weight_decay_to_halve(steps: float, lr: float, *, h: float = 1.0) -> float:
    """The weight_decay at which decay alone, of mode "decoupled", needs so many steps at
    the learning rate lr to halve a matrix: h / (lr steps).

    h: for proximal decay with the adaptive scale, which takes half of the singular values,
    `spectral.half_time` of them; about 1 for a random square matrix. Low-rank decay
    steps over zero, and then needs more steps, by up to a factor of sqrt 2 (see there). For
    Frobenius decay (L2), which halves each, ln 2. For grokking a hundredth to a tenth of
    the run's steps worked; elsewhere start far lower. Under a schedule lr is the mean rate.
    Any of the three may be a tensor of one number. Raises TypeError or ValueError unless
    all are > 0.

    >>> weight_decay_to_halve(500, lr=1e-3)
    2.0
    >>> from lrdlib import half_time
    >>> round(weight_decay_to_halve(500, 1e-3, h=half_time(torch.tensor([2.0, 1.0]))), 2)
    1.87
    """
    steps, lr, h = (
        x.item() if isinstance(x, Tensor) and x.numel() == 1 else x for x in (steps, lr, h)
    )
    check_real("steps", steps, above=0)
    check_real("lr", lr, above=0)
    check_real("h", h, above=0)
    return float(h) / float(lr) / float(steps)


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


# what a rule of LowRankDecay does to W at strength t, by the settings of its group
UPDATES: dict[str, Callable[[Tensor, float | Tensor, Mapping[str, Any]], Tensor]] = {
    "low_rank": lambda W, t, group: low_rank_update_(
        W,
        t,
        scale=group["scale"],
        method=group["method"],
        steps=group["steps"],
        part=PARTS[group["part"]],
    ),
    "proximal": lambda W, t, group: proximal_update_(W, t, scale=group["scale"]),
}


def frobenius_norm(W: Tensor) -> Tensor:
    """|W|_F of each matrix of a stack (..., m, n), as (..., 1, 1), without overflow or
    underflow of squares."""
    X, largest = rescale(W)
    return largest * frobenius_norms(X)


def tall(W: Tensor) -> Tensor:
    """W or W^T (..., m, n), a view with m >= n; polar(W^T) = polar(W)^T.

    >>> tall(torch.ones(2, 3)).shape
    torch.Size([3, 2])
    """
    return W if W.shape[-2] >= W.shape[-1] else W.mT


def check_strength(weight_decay: float | Tensor, mode: str) -> None:
    """weight_decay is a number >= 0, or a tensor of them."""
    check_choice("mode", mode, MODES)
    if not isinstance(weight_decay, Tensor):
        return check_real("weight_decay", weight_decay, at_least=0)
    check_reals("weight_decay", weight_decay)


def check_fit(weight_decay: float | Tensor, name: str, W: Tensor) -> None:
    """A tensor weight_decay has one number per matrix of the stack W, called `name`: it
    broadcasts to (..., 1, 1)."""
    if not isinstance(weight_decay, Tensor):
        return
    expected = (*W.shape[:-2], 1, 1)
    sizes = zip(reversed(weight_decay.shape), reversed(expected), strict=False)
    if weight_decay.ndim > len(expected) or any(
        given not in (1, wanted) for given, wanted in sizes
    ):
        raise ValueError(
            f"weight_decay must be a number or a tensor that broadcasts to {expected}, one "
            f"number per matrix of {name}, got shape {tuple(weight_decay.shape)}"
        )


def _checked_strength(
    W: Tensor, weight_decay: float | Tensor, lr: float, mode: str
) -> float | Tensor:
    """`strength` for the matrices W; raises unless they can be decayed by it in place."""
    check_matrix("W", W)
    check_writable("W", W)
    check_real("lr", lr, at_least=0)
    check_strength(weight_decay, mode)
    check_fit(weight_decay, "W", W)
    t = strength(weight_decay, float(lr), mode)
    if not isinstance(t, Tensor):
        check_real("weight_decay * lr", t)
    return t


def check_writable(name: str, W: Tensor) -> None:
    """Raise unless W can be changed in place: not an inference tensor, nor one of entries
    that share their memory, whether torch would see it or not."""
    if W.is_inference() and not torch.is_inference_mode_enabled():
        raise TypeError(
            f"{name} must be a tensor that can be changed in place, got one that was made "
            "in inference mode"
        )
    if _shares_entries(W):
        raise ValueError(
            f"{name} must have memory for each entry, got shape {tuple(W.shape)} with "
            f"strides {W.stride()} (clone it)"
        )


def _shares_entries(W: Tensor) -> bool:
    """Whether two entries of W lie in one place."""
    sides = sorted((step, n) for step, n in zip(W.stride(), W.shape, strict=True) if n > 1)
    reach = 0  # of the sides before; a longer step than that passes them all
    for step, n in sides:
        if step <= reach:
            return step == 0 or int(_marks(W, _end(W)).sum()) < W.numel()
        reach += step * (n - 1)
    return False


def overlap(W: Tensor, V: Tensor) -> bool:
    """Whether an entry of W is one of V, for two views of one storage and one dtype.

    >>> X = torch.ones(4, 4)
    >>> overlap(X[:2], X[1:].mT), overlap(X[:, ::2], X[:, 1::2])
    (True, False)
    """
    end = min(_end(W), _end(V))
    if not (W.numel() and V.numel()) or end <= max(W.storage_offset(), V.storage_offset()):
        return False
    size = max(_end(W), _end(V))
    return bool((_marks(W, size) & _marks(V, size)).any())


def _end(W: Tensor) -> int:
    """The place in its storage after the last entry of W."""
    steps = zip(W.stride(), W.shape, strict=True)
    return int(W.storage_offset()) + sum(step * (n - 1) for step, n in steps) + 1


def _marks(W: Tensor, size: int) -> Tensor:
    """Which of the first places of its storage W has, (size,): the slow, exact way."""
    marks = torch.zeros(size, dtype=torch.bool)
    marks.as_strided(W.shape, W.stride(), W.storage_offset()).fill_(True)
    return marks


def _check_settings(W: Tensor, scale: str | None, method: str, steps: int | None) -> None:
    check_choice("scale", scale, SCALES)
    check_polar(method, steps)
    check_dtype("W", W)


def check_dtype(name: str, W: Tensor) -> None:
    """W has a dtype in which a polar factor is computed."""
    if W.dtype not in DTYPES:
        raise TypeError(f"{name} must be float32, float64 or bfloat16, got dtype {W.dtype}")


def generator_of(device: torch.device, seed: int, *key: int) -> torch.Generator:
    """Random numbers that are told by the seed and the key alone, independent of those of
    any other."""
    mixed = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(mixed[0]))


def stochastically_rounded(x: Tensor, generator: torch.Generator) -> Tensor:
    """x, float32, in bfloat16: up or down at random, such that the mean is x.

    bfloat16 has the upper 16 bits of float32; what a uniform number of 16 bits carries into
    them is one more of their last place, with the probability that the lower bits say.

    >>> x = torch.full((99,), 1 + 2**-9)
    >>> sorted(set(stochastically_rounded(x, torch.Generator().manual_seed(0)).tolist()))
    [1.0, 1.0078125]
    """
    noise = torch.randint(
        1 << 16, x.shape, dtype=torch.int32, device=x.device, generator=generator
    )
    rounded = ((x.view(torch.int32) + noise) & -(1 << 16)).view(torch.float32)
    return torch.where(torch.isfinite(x), rounded, x).to(torch.bfloat16)
