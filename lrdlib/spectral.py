"""What the singular values of a matrix say about it: singular values in, numbers out; and
the cut that keeps the largest.

S (..., k) holds the k = min(m, n) singular values s_1 >= ... >= s_k >= 0 of each matrix of
a stack; a measure returns one number per matrix, shape (...), in float64 for a float64
S and in float32 otherwise. All but the nuclear norm depend on the ratios s_i / s_1 only,
and are computed from them, so that no square over- or underflows. They are ordered:

    1 <= stable_rank <= participation_ratio <= effective_rank <= rank,
    stable_rank <= r alignment^2 <= effective_rank

Every measure raises TypeError or ValueError for an S that no matrix has: not finite,
negative, or not descending.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from lrdlib._check import (
    check_float,
    check_integer,
    check_matrix,
    check_real,
    check_reals,
)
from lrdlib.polar import rescale


def singular_values(W: Tensor) -> Tensor:
    """Singular values of each matrix, descending: (..., m, n) -> (..., min(m, n)).

    Computed and returned in float64 if W is float64, otherwise in float32 (half precision
    has no SVD). Raises TypeError or ValueError unless W is a finite floating-point matrix
    or a stack of them.

    >>> singular_values(torch.tensor([[0.0, 3.0], [-4.0, 0.0]]))
    tensor([4., 3.])
    """
    check_matrix("W", W)
    return torch.linalg.svdvals(_single_or_double(W))


def cut(W: Tensor, k: int) -> Tensor:
    """The best approximation of rank k of each matrix: (..., m, n) -> (..., m, n), of W's
    dtype. W itself where k is min(m, n) or more, zeros where it is 0.

    W_k = sum_{i <= k} s_i u_i v_i^T, of W = U diag(s) V^T (Eckart and Young 1936). Raises
    TypeError or ValueError unless W is a finite floating-point matrix or a stack of them,
    and k an integer >= 0.

    >>> cut(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), 1)
    tensor([[3., 0.],
            [0., 0.]])
    """
    check_matrix("W", W)
    check_integer("k", k, at_least=0)
    return W if k >= min(W.shape[-2:]) else truncated(W, torch.tensor(k))


def truncated(W: Tensor, k: Tensor) -> Tensor:
    """`cut` without checks, W_k = W V_k V_k^T; k holds an integer per matrix, () or (...,
    1, 1). A matrix that is not finite becomes NaN.

    V_k: eigenvectors of W^T W in float64, in half the time of an SVD. Singular values that
    are within 1e-8 of the largest from one another are not told apart: what is lost is
    then larger than the least by no more than that.
    """
    finite = torch.isfinite(W).all(-1, keepdim=True).all(-2, keepdim=True)
    X, largest = rescale(torch.where(finite, W, 0.0).double())
    X = X if X.shape[-2] >= X.shape[-1] else X.mT  # (..., m, n), m >= n
    n = X.shape[-1]
    V = _eigenvectors(X.mT @ X)  # (..., n, n), of ascending eigenvalues
    kept = torch.arange(n - 1, -1, -1, device=W.device) < k.to(W.device)  # (..., 1, n)
    low = largest * ((X @ (V * kept)) @ V.mT)
    low = low if low.shape == W.shape else low.mT
    return torch.where(finite, low, torch.nan).to(W.dtype)


def _eigenvectors(G: Tensor) -> Tensor:
    """The eigenvectors of each symmetric matrix G (..., n, n), of ascending eigenvalues.

    On a GPU torch's eigh may take one matrix after the other, 2 ms each (issue 174674 of
    pytorch), so that they go to the cores of the CPU.
    """
    if G.device.type == "cpu":
        return torch.linalg.eigh(G).eigenvectors
    return by_cores(G).to(G.device)


def cores() -> int:
    """How many threads are worth their while: the cores that this process may use, 32 at
    most, as a container may show all of a large machine's."""
    own = getattr(os, "sched_getaffinity", None)  # not on every system
    return min(32, len(own(0)) if own else os.cpu_count() or 1)


def by_cores(G: Tensor) -> Tensor:
    """The eigenvectors of `_eigenvectors` on the CPU, a share of the matrices on each of
    its cores."""
    shares = G.cpu().reshape(-1, *G.shape[-2:]).chunk(cores())  # (matrices, n, n) each
    with ThreadPoolExecutor(cores()) as pool:
        found = list(pool.map(torch.linalg.eigh, shares))
    return torch.cat([share.eigenvectors for share in found]).reshape(G.shape)


def soft_threshold(S: Tensor, threshold: float | Tensor) -> Tensor:
    """max(s_i - threshold, 0), of the shape and dtype of S.

    Put back between the singular vectors it is the proximal map of the nuclear norm, U
    diag(soft_threshold(S, t)) V^T = argmin_X t |X|_* + |X - W|_F^2 / 2 (Cai, Candès and
    Shen 2010, theorem 2.1).

    threshold: a number >= 0, or a tensor with one number per matrix, of shape () or (...,
    1). Raises TypeError or ValueError for a threshold that is negative, not finite, or of
    another shape.

    >>> soft_threshold(torch.tensor([3.0, 1.0, 0.5]), 1.0)
    tensor([2., 0., 0.])
    """
    check_singular_values(S)
    _check_threshold(threshold, S)
    t = threshold.to(S) if isinstance(threshold, Tensor) else float(threshold)
    return (S - t).clamp(min=0)


def nuclear_norm(S: Tensor) -> Tensor:
    """|W|_* = sum_i s_i; 0 for the zero matrix.

    >>> nuclear_norm(torch.tensor([3.0, 1.0]))
    tensor(4.)
    """
    check_singular_values(S)
    return _single_or_double(S).sum(-1)


def stable_rank(S: Tensor) -> Tensor:
    """|W|_F^2 / |W|_2^2 = sum_i s_i^2 / s_1^2, between 1 and the rank; 0 for the zero
    matrix.

    Source: Rudelson and Vershynin 2007, and the paper's equation (12).

    >>> stable_rank(torch.tensor([2.0, 1.0]))
    tensor(1.2500)
    """
    return _relative(S).square().sum(-1)


def effective_rank(S: Tensor) -> Tensor:
    """exp(-sum_i p_i log p_i) with p_i = s_i / |W|_*, between 1 and the rank; 0 for the
    zero matrix.

    The number of equal singular values that would have the same entropy. Source: Roy and
    Vetterli 2007.

    >>> effective_rank(torch.tensor([1.0, 1.0, 0.0]))
    tensor(2.)
    """
    X = _relative(S)
    total = X.sum(-1, keepdim=True)  # (..., 1)
    P = X / total.clamp(min=1)  # total >= x_1 = 1 unless W = 0
    return torch.where(total.squeeze(-1) > 0, torch.special.entr(P).sum(-1).exp(), 0)


def participation_ratio(S: Tensor) -> Tensor:
    """(sum_i s_i^2)^2 / sum_i s_i^4, between 1 and the rank; 0 for the zero matrix.

    The participation ratio (sum_i l_i)^2 / sum_i l_i^2 of the eigenvalues l_i = s_i^2 of
    W^T W, not of the s_i themselves (Gao et al. 2017, where W^T W is a covariance).

    >>> participation_ratio(torch.tensor([1.0, 1.0, 0.0]))
    tensor(2.)
    """
    L = _relative(S).square()
    # the sum below is >= 1 unless W = 0
    return L.sum(-1).square() / L.square().sum(-1).clamp(min=1)


def numerical_rank(S: Tensor, *, rtol: float | None = None) -> Tensor:
    """How many s_i exceed rtol * s_1, int64; 0 for the zero matrix.

    rtol: by default 10 k eps, for the precision eps of the computation. This is the usual
    max(m, n) eps (Golub and Van Loan 2013, section 5.4) for the sides that S does not tell:
    it covers every shape up to 10 : 1. Raises TypeError or ValueError unless 0 <= rtol < 1.

    >>> numerical_rank(torch.tensor([3.0, 1.0, 1e-9]))
    tensor(2)
    """
    X = _relative(S)
    if rtol is None:
        rtol = 10 * X.shape[-1] * torch.finfo(X.dtype).eps
    check_real("rtol", rtol, at_least=0, below=1)
    return X.gt(rtol).sum(-1)


def polar_alignment(S: Tensor, *, rtol: float | None = None) -> Tensor:
    """cos(W, U_r V_r^T) = sum_{i <= r} s_i / (sqrt(r) |W|_F), with r = numerical_rank(S,
    rtol=rtol).

    1 / sqrt(r) <= alignment <= 1, and 1 exactly if the nonzero singular values are equal:
    the polar factor is then parallel to W, and decay along it is plain shrinkage. In
    general a share 1 - alignment^2 of its squared length is tangential, and reshapes the
    spectrum. 0 for the zero matrix: its polar factor of rank 0 is itself zero, so there is
    no direction for W to have a part of.

    >>> polar_alignment(torch.tensor([4.0, 3.0]))
    tensor(0.9899)
    """
    X = _relative(S)
    r = numerical_rank(S, rtol=rtol)  # (...)
    kept = torch.arange(X.shape[-1], device=X.device) < r.unsqueeze(-1)
    norm = X.square().sum(-1).sqrt().clamp(min=1)  # |W|_F / s_1 >= 1 unless W = 0
    return (X * kept).sum(-1) / (r.clamp(min=1).to(X.dtype).sqrt() * norm)


def half_time(S: Tensor) -> Tensor:
    """The h of: proximal decay of strength t with the adaptive scale, alone, removes half
    of the singular values in h / t steps, in the limit of small t.

    Each step takes t rms off all values that are left, so that with u the sum of what has
    been taken h = int_0^s du / rms(u), where rms(u)^2 is the mean of (s_i - u)^2 over s_i >
    u, and s is the lower median of S. Between two singular values rms(u)^2 is (u - mean)^2
    + variance of those that are left, of which the integral is an arcsinh. About 1 for a
    random square matrix; 0 for a zero matrix; infinite for an orthogonal one, whose values
    are equal and only shrink (rounding makes that some dozens: take 1 there).
    (Weight decay of strength t halves a matrix in ln 2 / t.)

    Low-rank decay steps over zero instead, and its k - r values that jitter there still
    count in |polar(W)|_F: its scale is sqrt(r / k) times that of the proximal rule, however
    small t is. So to bring half of the values down to about one step it needs more than h /
    t steps, at most sqrt 2 times as many, and 1.2 times for a random square matrix. With
    Polar Express that ends where t is so small that its curve takes small values to zero
    without a jump.

    >>> half_time(torch.tensor([5.0, 3.0, 1.0, 0.0]))
    tensor(0.3366)
    """
    check_singular_values(S)
    X = _relative(S).double().flip(-1)  # (..., k), ascending
    k = X.shape[-1]
    gone = (k + 1) // 2
    left = torch.arange(k, 0, -1, dtype=X.dtype, device=X.device)  # at the j-th interval

    def mean_of_rest(Y: Tensor) -> Tensor:  # (..., gone): of all but the first j
        return (Y.flip(-1).cumsum(-1).flip(-1) / left)[..., :gone]

    end = X[..., :gone]
    begin = torch.cat([torch.zeros_like(end[..., :1]), end[..., :-1]], -1)
    mean = mean_of_rest(X)
    variance = mean_of_rest(X.square()) - mean.square()
    deviation = variance.clamp_min(1e-30).sqrt()
    bent = torch.asinh((end - mean) / deviation) - torch.asinh((begin - mean) / deviation)
    straight = torch.log((mean - begin) / (mean - end).clamp_min(0))  # where all are equal
    each = torch.where(variance > 1e-15 * mean.square(), bent, straight)
    return torch.where(end > begin, each, 0.0).sum(-1).to(_single_or_double(S).dtype)


def check_singular_values(S: Tensor) -> None:
    """Raise unless S (..., k), k >= 1, is finite, >= 0 and descending along its last axis,
    exactly.

    >>> check_singular_values(torch.ones(0))
    Traceback (most recent call last):
    ...
    ValueError: S must have shape (..., k) with k >= 1, got (0,)
    """
    check_float("S", S)
    if S.ndim < 1 or S.shape[-1] < 1:
        raise ValueError(f"S must have shape (..., k) with k >= 1, got {tuple(S.shape)}")
    # Between a finite first and a last >= 0, a descending row holds nothing else; comparing
    # with NaN gives False.
    descending = (S[..., 1:] <= S[..., :-1]).all()
    if not bool(descending & (S[..., -1] >= 0).all() & torch.isfinite(S[..., 0]).all()):
        raise ValueError(
            "S must hold singular values, finite, >= 0 and descending along the last axis: "
            f"pass singular_values(W), not W; got shape {tuple(S.shape)}"
        )


def _check_threshold(threshold: object, S: Tensor) -> None:
    """Raise unless `threshold` is a number >= 0, or a tensor of such numbers of shape () or
    (..., 1) to match S."""
    if not isinstance(threshold, Tensor):
        return check_real("threshold", threshold, at_least=0)
    check_reals("threshold", threshold)
    one_each = threshold.ndim == 0 or (
        threshold.ndim <= S.ndim
        and threshold.shape[-1] == 1
        and all(
            t in (1, s) for t, s in zip(threshold.shape[::-1], S.shape[::-1], strict=False)
        )
    )
    if not one_each:
        raise ValueError(
            f"threshold must have shape () or {(*S.shape[:-1], 1)}, one number per matrix, "
            f"got {tuple(threshold.shape)}"
        )


def _single_or_double(X: Tensor) -> Tensor:
    """X in float64 if it is float64, otherwise in float32."""
    return X if X.dtype == torch.float64 else X.float()


def _relative(S: Tensor) -> Tensor:
    """s_i / s_1 in float32 or float64, all zero where s_1 = 0: X (..., k)."""
    check_singular_values(S)
    X = _single_or_double(S)
    return X / X[..., :1].where(X[..., :1] > 0, torch.ones_like(X[..., :1]))
