"""The geometry behind the decay rules: radial and tangential directions, scale invariance,
and the nuclear norm's fan.

A function of a matrix is scale-invariant if f(a W) = f(W) for all a > 0: it depends on the
direction W / |W|_F only. A step along W then changes nothing; a step tangential to the
sphere |W|_F = const does. These functions measure both, and compute with the
subdifferential of the nuclear norm, the paper's equation (10). They work in float64 if an
argument is float64, otherwise in float32.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrdlib._check import (
    check_callable,
    check_dense,
    check_finite,
    check_instance,
    check_integer,
    check_matrix,
    check_real,
    shown,
)
from lrdlib.spectral import numerical_rank

SCALES = tuple(10 ** (k / 4) for k in range(-8, 9))  # 1e-2 ... 1e2, four to the decade


def radial_tangential(G: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    """Split the direction G at W: G = radial + tangential with radial = <G, Theta> Theta,
    Theta = W / |W|_F.

    G and W (..., m, n), one split per matrix. <tangential, W> = 0, so |G|_F^2 =
    |radial|_F^2 + |tangential|_F^2. L2 decay, G = W, is all radial. Of the polar factor of
    W the tangential part has the share |tangential|_F / |G|_F = sqrt(1 - alignment^2), with
    alignment = spectral.polar_alignment. Raises TypeError or ValueError for tensors that
    are not matrices, differ in shape, or a W with a zero matrix in it. Source: the paper,
    section 3.

    >>> radial, tangential = radial_tangential(torch.eye(2), torch.tensor([[2.0, 0.0], [0.0, 0.0]]))
    >>> radial.tolist(), tangential.tolist()
    ([[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]])
    """
    G, W = _same_shape(G, W)
    Theta = _direction(W)  # (..., m, n)
    radial = (G * Theta).sum((-2, -1), keepdim=True) * Theta
    return radial, G - radial


def scaled_nuclear_norm(W: Tensor, *, rtol: float | None = None) -> Tensor:
    """|W|_F |W|_* / sqrt r (...), r the rank of W: what low-rank decay with the adaptive
    scale goes down on while the rank stays.

    Why: with P = polar(W), rank r and Theta = W / |W|_F its gradient, at constant rank, is

        F = |W|_F P / sqrt r + (|W|_* / sqrt r) Theta,

    which is the step |W|_F P / |P|_F and a radial rest. So of a scale-invariant loss L, W'
    = -grad L - lambda |W|_F P / sqrt r is -(I - Theta Theta^T / 2) grad E for E = L +
    lambda |W|_F |W|_* / sqrt r: while the rank stays r, E falls at the rate |W'|_F^2 +
    lambda^2 |W|_*^2 / r. It has degree 2, as |W|_F^2 has, and lies between |W|_F^2 / sqrt r
    and |W|_F^2.

    It is not continuous: where a singular value reaches zero, r falls to r - 1 >= 1 and it
    jumps up, times sqrt(r / (r - 1)). So E falls while the rank stays, not across
    a loss of it.

    W (..., m, n); autograd follows it where r = min(m, n). rtol: as in
    spectral.numerical_rank. A zero matrix has 0. Raises TypeError or ValueError for a
    tensor that is not a matrix, and for a bad rtol.

    >>> scaled_nuclear_norm(torch.diag(torch.tensor([2.0, 2.0])))
    tensor(8.)
    >>> scaled_nuclear_norm(torch.tensor([[3.0, 4.0]]))
    tensor(25.)
    """
    check_matrix("W", W)
    W = W if W.dtype == torch.float64 else W.float()
    S = torch.linalg.svdvals(W)  # (..., k)
    r = numerical_rank(S.detach(), rtol=rtol).clamp_min(1).to(S.dtype)  # (...)
    return torch.linalg.vector_norm(S, dim=-1) * S.sum(-1) / r.sqrt()


def scale_defect(
    f: Callable[[Tensor], Tensor], W: Tensor, *, scales: Sequence[float] = SCALES
) -> float:
    """max over a in `scales` of |f(a W) - f(W)| / |f(W)|, in the Euclidean norm over all
    entries of f: 0 if invariant.

    f: any function from W (..., m, n) to a tensor of a fixed shape, say the logits. If f(W)
    = 0 the defect is 0 when every f(a W) is 0 too, otherwise infinite. Raises TypeError or
    ValueError for a W that is not a matrix, a scale that is not a number > 0, no scales at
    all, or a value of f that is not finite.

    >>> scale_defect(lambda W: W / W.sum(), torch.ones(2, 2), scales=(0.5, 4.0))
    0.0
    >>> scale_defect(lambda W: W, torch.ones(2, 2), scales=(0.5, 4.0))
    3.0
    """
    check_callable("f", f)
    check_matrix("W", W)
    row = (
        scales.ndim == 1 if isinstance(scales, np.ndarray) else isinstance(scales, Sequence)
    )
    if not row or isinstance(scales, (str, bytes)):
        raise TypeError(f"scales must be a list of numbers > 0, got {shown(scales)}")
    if not len(scales):
        raise ValueError("scales must hold at least one number > 0, got none")
    for a in scales:
        check_real("scales", a, above=0)

    def value(a: float) -> Tensor:
        y = _value(f, a * W).double()
        check_finite(f"f({a:g} W)", y)
        return y

    with torch.no_grad():
        y = value(1.0)
        values = [value(float(a)) for a in scales]
        if any(moved.shape != y.shape for moved in values):
            raise ValueError(
                f"f must return one shape for every a W, got {tuple(y.shape)} "
                f"and {[tuple(moved.shape) for moved in values]}"
            )
        change = max(float((moved - y).norm()) for moved in values)
    return change and (change / float(y.norm()) if y.any() else float("inf"))


def scale_defects(
    model: nn.Module,
    batch: Any,
    matrices: Mapping[str, Tensor] | None = None,
    *,
    scales: Sequence[float] = (0.5, 2.0),
) -> dict[str, float]:
    """`scale_defect` of what a model answers, for each of its matrices alone: by name.

    About 0 (the epsilon of the norms is left): the model does not feel the length of this
    matrix, and weight decay on it changes only how far later steps turn it. Of several
    matrices that are free only together none shows it.

    It is about 0 too for a matrix on which the answer hardly depends yet, such as queries of
    a fresh model, or LoRA's factors at their start: ask a trained one.

    batch: what the model is called with: a mapping of its arguments, a tuple or list of
    them, or one tensor. The answer is a tensor, or has one as `logits` or
    `last_hidden_state`, or as the first of a tuple. matrices: parameters by name, as
    `select` returns; by default all of two dimensions and more. The model is asked as in
    evaluation, len(scales) + 1 times for each matrix, and is left as it was.

    Raises TypeError or ValueError for another kind of model or answer, for a name that the
    model does not have, and as `scale_defect` does.

    >>> block = nn.Sequential(nn.Linear(4, 4, bias=False), nn.RMSNorm(4, eps=0.0), nn.Linear(4, 2))
    >>> {name: round(d, 4) for name, d in scale_defects(block, torch.ones(1, 4)).items()
    ...  if d < 1e-6}
    {'0.weight': 0.0}
    """
    check_instance("model", model, nn.Module)
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(model, wrappers) or hasattr(model, "_orig_mod"):
        inside = "module" if isinstance(model, wrappers) else "_orig_mod"
        model = model.get_submodule(inside)
    known = dict(model.named_parameters())
    chosen = (
        {n: W for n, W in known.items() if W.ndim > 1} if matrices is None else matrices
    )
    check_instance("matrices", chosen, Mapping)
    own = {id(W): name for name, W in known.items()}  # a wrapper's names are longer
    if strangers := [name for name, W in chosen.items() if id(W) not in own]:
        raise ValueError(
            "matrices must be parameters of the model by their names, got "
            f"{shown(sorted(map(str, strangers)))}"
        )
    kwargs = dict(batch) if isinstance(batch, Mapping) else {}
    args = tuple(batch) if isinstance(batch, (tuple, list)) else () if kwargs else (batch,)
    in_training = [module for module in model.modules() if module.training]

    def answer(name: str, W: Tensor) -> Tensor:
        return _tensor_of(torch.func.functional_call(model, {name: W}, args, kwargs))

    try:
        model.eval()
        return {
            name: scale_defect(partial(answer, own[id(W)]), W.detach(), scales=scales)
            for name, W in chosen.items()
        }
    finally:
        for module in in_training:
            module.training = True


def _tensor_of(answer: Any) -> Tensor:
    """The tensor in what a model answers."""
    for name in ("logits", "last_hidden_state"):
        found = (
            answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None)
        )
        if isinstance(found, Tensor):
            return found
    return answer[0] if isinstance(answer, tuple) and answer else answer


def euler_defect(f: Callable[[Tensor], Tensor], W: Tensor) -> float:
    """cos(W, grad f(W)) = <W, grad f(W)> / (|W|_F |grad f(W)|_F), in [-1, 1]: 0 if f is
    scale-invariant.

    Why: differentiate f(a W) at a = 1. The chain rule gives <W, grad f(W)>, which is the
    derivative of a constant if f is homogeneous of degree 0 (for degree d it is d f(W):
    Euler's theorem, the paper's equation (5)). So the gradient of a scale-invariant loss is
    tangential, and training by it never shrinks W. A zero gradient is tangential too, and
    gives 0.

    f: a function from W (..., m, n), here one vector, to a scalar tensor that autograd can
    follow. Raises TypeError or ValueError for a W that is not a matrix or is zero, a value
    that is not a scalar, a value that autograd cannot trace to W, or a gradient that is not
    finite.

    >>> W = torch.ones(2, 2)
    >>> euler_defect(lambda W: -W.sum(), W), euler_defect(lambda W: W[0, 0] / W[0, 1], W)
    (-1.0, 0.0)
    """
    check_callable("f", f)
    check_matrix("W", W)
    # a copy: autograd cannot follow a tensor that was made in inference mode
    with torch.inference_mode(False), torch.enable_grad():
        W = W.detach().clone().requires_grad_()
        y = _value(f, W).squeeze()
    if y.numel() != 1:
        raise ValueError(f"f must return a scalar, got shape {tuple(y.shape)}")
    grad = torch.autograd.grad(y, W, allow_unused=True)[0] if y.requires_grad else None
    if grad is None:
        raise ValueError(
            "f must depend on W in a way that autograd can follow, got a value without a "
            "gradient in W"
        )
    check_finite("grad f(W)", grad)
    if not grad.any():
        return 0.0
    W, grad = W.detach().double().flatten(0, -2), grad.double().flatten(0, -2)
    return float((_direction(W) * _direction(grad, "grad f(W)")).sum())


def project_subdifferential(G: Tensor, W: Tensor, *, rtol: float | None = None) -> Tensor:
    """The element nearest to G, in the Frobenius norm, of the subdifferential of the
    nuclear norm at W.

    The set is the paper's equation (10), with W = U_r Sigma_r V_r^T the compact SVD:

        {U_r V_r^T + Z : U_r^T Z = 0, Z V_r = 0, |Z|_2 <= 1}.

    Against U_r, V_r and their complements G has four orthogonal blocks and the set
    prescribes three of them. In the fourth, (I - U_r U_r^T) G (I - V_r V_r^T), the nearest
    point of the spectral unit ball has the singular values clipped to 1. So the "fan" lets
    through whatever G asks for in the null spaces of W, up to length 1.

    G, W (..., m, n). rtol: singular values up to rtol s_1 count as zero; default as in
    spectral.numerical_rank. W = 0 has rank 0: the set is the whole ball |Z|_2 <= 1. Raises
    TypeError or ValueError for tensors that are not matrices or differ in shape, and for a
    bad rtol. Source: Watson 1992 for the set.

    >>> G, W = torch.tensor([[5.0, 5.0], [5.0, 0.5]]), torch.diag(torch.tensor([2.0, 0.0]))
    >>> project_subdifferential(G, W).tolist()
    [[1.0, 0.0], [0.0, 0.5]]
    """
    G, W = _same_shape(G, W)
    if rtol is not None:
        check_real("rtol", rtol, at_least=0, below=1)
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)  # (.., m, k), (.., k), (.., k, n)
    r = numerical_rank(S, rtol=rtol)  # (...)
    kept = torch.arange(S.shape[-1], device=S.device) < r.unsqueeze(-1)  # (..., k)
    U, Vh = U * kept.unsqueeze(-2), Vh * kept.unsqueeze(-1)  # U_r, V_r^T, zeros after
    with torch.autocast(W.device.type, enabled=False):
        Z = G - U @ (U.mT @ G)
        Z = Z - (Z @ Vh.mT) @ Vh
        P, T, Qh = torch.linalg.svd(Z, full_matrices=False)
        return U @ Vh + (P * T.clamp(max=1).unsqueeze(-2)) @ Qh


def in_subdifferential(
    G: Tensor, W: Tensor, *, rtol: float | None = None, tol: float | None = None
) -> Tensor:
    """Whether G is in the subdifferential of the nuclear norm at W, the paper's equation
    (10): bool tensor (...).

    True where the distance from G to the set is at most tol * sqrt(min(m, n)), the length
    of its longest elements. tol: by default sqrt(eps), half of the digits; U_r V_r^T itself
    is only known to eps s_1 / s_r. rtol, shapes and errors: as
    project_subdifferential; tol must be a number >= 0.

    >>> W = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    >>> in_subdifferential(torch.eye(2), W), in_subdifferential(torch.zeros(2, 2), W)
    (tensor(True), tensor(False))
    """
    if tol is not None:
        check_real("tol", tol, at_least=0)
    nearest = project_subdifferential(G, W, rtol=rtol)
    if tol is None:
        tol = torch.finfo(nearest.dtype).eps ** 0.5
    return torch.linalg.matrix_norm(G - nearest) <= tol * min(nearest.shape[-2:]) ** 0.5


def fan_dimension(m: int, n: int, rank: int) -> int:
    """(m - r)(n - r), the dimension of the subdifferential of the nuclear norm at an m x n
    matrix of rank r.

    It is the dimension of the Z in equation (10), which the bound |Z|_2 <= 1 leaves a ball
    of. At full rank r = min(m, n) it is 0, square or not: the set is the single point U
    V^T, the paper's needle. It grows to m n at W = 0. Raises TypeError or ValueError unless
    m, n >= 1 and 0 <= rank <= min(m, n), all ints.

    >>> fan_dimension(128, 128, 128), fan_dimension(128, 128, 5), fan_dimension(8, 4, 4)
    (0, 15129, 0)
    """
    check_integer("m", m)
    check_integer("n", n)
    check_integer("rank", rank, at_least=0)
    m, n, rank = int(m), int(n), int(rank)  # numpy's integers would wrap around
    if rank > min(m, n):
        raise ValueError(
            f"rank must be an integer <= min(m, n) = {shown(min(m, n))}, got {shown(rank)}"
        )
    return (m - rank) * (n - rank)


def _value(f: Callable[[Tensor], Tensor], W: Tensor) -> Tensor:
    """f(W). Raise TypeError unless it is a dense real tensor."""
    y = f(W)
    if not isinstance(y, Tensor):
        raise TypeError(f"f must return a torch.Tensor, got {type(y).__name__}")
    check_dense("f(W)", y)
    if y.is_complex():
        raise TypeError(f"f must return real numbers, got dtype {y.dtype}")
    return y


def _same_shape(G: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    """G and W in one dtype, float64 or float32. Raise unless they are matrices of the same
    shape."""
    check_matrix("G", G)
    check_matrix("W", W)
    if G.shape != W.shape:
        raise ValueError(
            f"G must have the shape of W, {tuple(W.shape)}, got {tuple(G.shape)}"
        )
    dtype = torch.float64 if torch.float64 in (G.dtype, W.dtype) else torch.float32
    return G.to(dtype), W.to(dtype)


def _direction(W: Tensor, name: str = "W") -> Tensor:
    """W / |W|_F, first over its largest entry so that no square over- or underflows. Raise
    if a matrix is zero."""
    largest = W.abs().amax((-2, -1), keepdim=True)  # (..., 1, 1)
    if not bool((largest > 0).all()):
        raise ValueError(
            f"{name} must not be zero, which has no direction, got a zero matrix"
        )
    W = W / largest
    return W / torch.linalg.matrix_norm(W, keepdim=True)
