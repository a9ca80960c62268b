"""The polar factor U Vᵀ of W = U S Vᵀ: by SVD, or by odd polynomials that need nothing but
matrix products.

An odd polynomial p(x) = a x + b x³ + c x⁵ acts on the singular values and leaves the
singular vectors alone:

    p(X) = X (a I + b G + c G²) = U p(S) Vᵀ,        G = Xᵀ X.

So the polar factor of W is reached by composing polynomials that send every singular value
to 1. The methods differ in the polynomials only:

=============  ===========================================================  ==========
method         polynomials                                                  products
=============  ===========================================================  ==========
svd            none; `torch.linalg.svd`, the reference                      -
cubic          (3 x - x³) / 2, equation (9) of the paper [1]                2 a step
quintic        one fixed (a, b, c), Keller Jordan's Muon [2]                3 a step
polar_express  the best one for the interval that each step starts from,    3 a step
               Polar Express [3]
=============  ===========================================================  ==========

[1] Low-Rank Decay, arXiv 2606.04405.  [2] kellerjordan.github.io/posts/muon.
[3] Amsel, Persson, Musco, Gower, "The Polar Express", arXiv 2505.16932.

Largest |σ_i(P) - 1| against the float64 SVD, 128x128 float32 matrices with singular values
spread evenly on a log scale down to σ₁ / condition number (remake: python
benchmarks/polar.py; held as bounds by tests/test_polar.py):

=================  ======  ======  ======  ======
condition number      1e1     1e2     1e3     1e4
=================  ======  ======  ======  ======
svd                  2e-6    2e-6    2e-6    2e-6
cubic, 5 steps        .86     .98    1.00    1.00
cubic, 30 steps      3e-7    3e-7    3e-7    3e-7
quintic, 5 steps      .32     .32     .84     .98
polar_express, 4     1e-3     .25     .91     .99
polar_express, 5     1e-3    1e-3     .62     .96
polar_express, 6   1.4e-3  1.4e-3  1.4e-2     .83
polar_express, 8     4e-7    4e-7    5e-7     .45
=================  ======  ======  ======  ======
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lrdlib._check import (
    check_choice,
    check_finite,
    check_float,
    check_integer,
    check_matrix,
    check_real,
    shown,
)

Quintic = tuple[float, float, float]

METHODS = ("svd", "cubic", "quintic", "polar_express")
# The paper's cubic (9) has no stated number of steps and its first code takes five; Muon
# takes five.
DEFAULT_STEPS = {"cubic": 5, "quintic": 5, "polar_express": 6}
CUBIC: Quintic = (1.5, -0.5, 0.0)  # arXiv 2606.04405, equation (9)
# Keller Jordan's Muon: steep at 0, and content with [0.7, 1.2].
MUON: Quintic = (3.4445, -4.7750, 2.0315)
# Polar Express: the smallest fraction of the starting norm that is sent to 1 (arXiv
# 2505.16932's choice). With fewer steps than LOWER needs, reach is given up and not ACCURACY.
LOWER = 1e-3
ACCURACY = 1e-3
# Each interval's upper end is taken 1% larger, as arXiv 2505.16932 also does: rounding steps
# over it.
MARGIN = 0.01
# Most steps on one Gram matrix: its rounding grows with the square of the slope, and 4 keep
# it below 1e-3.
SEGMENT = 4
MAX_STEPS = 1000  # 220 steps of the slowest, "cubic", already send 1e-38 to 1
UPPER = 1e50  # minimax_quintic: its c is of the order upper^-5, within float64
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def polar_factor(
    W: Tensor, *, method: str = "polar_express", steps: int | None = None
) -> Tensor:
    """Polar factor U Vᵀ of W = U S Vᵀ (reduced SVD), the (sub)gradient of the nuclear norm.

    Shapes: (..., m, n) to (..., m, n), any orientation, same dtype. float32 and float64 are
    computed as they are, bfloat16 in float32: a first step sends some large singular values
    down to 0.008, which 8 bits cannot hold.

    Where W has rank r < min(m, n) the answer is the partial isometry U_r V_rᵀ, zero on the
    null space, and the polar factor of 0 is 0. "svd" drops singular values up to max(m, n)
    eps σ₁, as `torch.linalg.matrix_rank` does. A polynomial cannot have a threshold: a
    singular value that is a fraction x of the starting norm becomes `response(x)`, which is
    1 to within 1.4e-3 down to x = 1e-3 for the default, and below that about slope times x,
    with slope 2e3 for the default, 7.6 for "cubic" and 485 for "quintic". Rounding counts
    as such an x.

    Scale: polar_factor(c W) = polar_factor(W) for c > 0, to the last bit where c is a power
    of 2 and c W is normal.

    Start: "cubic" and "quintic" divide by the Frobenius norm, as their sources do.
    "polar_express" divides by the Schatten-8 norm, a smaller bound on the spectral norm
    that its first step's products give for nothing. For a Gaussian 128x128 matrix σ₁ is
    then 0.78 of the norm and not 0.18, which is worth one step: 5 steps reach down to the
    6e-3 σ₁ that takes 6 steps from the Frobenius norm.

    Steps buy reach: K steps of "polar_express" are the ones for [polar_express_reach(K),
    1]. Default steps: "cubic" 5, as the paper's first code; "quintic" 5, as Muon;
    "polar_express" 6, enough for an error of 1.4e-3 on [1e-3, 1].

    Precision: autocast is switched off inside. TF32 (torch.backends.cuda.matmul,
    set_float32_matmul_precision) is yours to choose, and has too few bits for small
    singular values. Gradients pass through, as through any torch code.

    Raises TypeError or ValueError, before any work, for a W that is not a finite dense
    (stack of) float32, float64 or bfloat16 matrices, an unknown method, steps that is not
    an integer in 1 .. 1000, and steps given with "svd".

    >>> polar_factor(torch.tensor([[3.0, 0.0], [0.0, -0.1]]), method="svd")
    tensor([[ 1.,  0.],
            [ 0., -1.]])
    """
    check_matrix("W", W)
    if W.dtype not in DTYPES:
        raise TypeError(f"W must be float32, float64 or bfloat16, got dtype {W.dtype}")
    return polar_iteration(W, method=method, steps=check_polar(method, steps))


def polar_iteration(W: Tensor, *, method: str, steps: int | None = None) -> Tensor:
    """`polar_factor` without its checks: W (..., m, n) to (..., m, n).

    For method other than "svd" nothing in it depends on the values in W, so make_fx can
    trace it and a CUDA graph can hold it. Autocast is off inside: bfloat16 products would
    give small singular values the wrong sign.
    """
    return polar_of_rescaled(rescale(W)[0], method=method, steps=steps).to(W.dtype)


def rescale(W: Tensor) -> tuple[Tensor, Tensor]:
    """W / c and c = max|W_ij| (..., 1, 1) of each matrix, in float32 at least: then no
    square over- or underflows. Without checks, as `polar_iteration`."""
    X = W.float() if W.dtype == torch.bfloat16 else W
    largest = X.abs().amax(dim=(-2, -1), keepdim=True)  # 20 times as fast as norm(inf)
    largest = largest.clamp_min(torch.finfo(X.dtype).tiny)
    return X / largest, largest


def polar_of_rescaled(X: Tensor, *, method: str, steps: int | None = None) -> Tensor:
    """`polar_iteration` for an X that `rescale` returned, or one that is not far from 1 in
    any other way."""
    with torch.autocast(X.device.type, enabled=False):
        if method == "svd":
            return _polar_svd(X)
        stack = X.reshape(math.prod(X.shape[:-2]), *X.shape[-2:])  # (N, m, n)
        coefficients = _coefficients(method, steps or DEFAULT_STEPS[method])
        P = _compose(stack, coefficients, tight=method == "polar_express")
        return P.reshape(X.shape)


def response(
    sigma: Tensor | np.ndarray, *, method: str, steps: int | None = None
) -> Tensor | np.ndarray:
    """What the iteration makes of singular values: p_K(... p_1(sigma)), elementwise, in the
    type of `sigma`.

    sigma is a fraction of the starting norm, in [0, 1]: of the Frobenius norm |W|_F for
    "cubic" and "quintic", of the Schatten-8 norm (Σ σ⁸)^(1/8) for "polar_express". For
    "svd" it is 1 above 0. Raises TypeError or ValueError for a sigma that is not a finite
    tensor, array or number of floating point, and as `polar_factor` for method and steps.

    >>> response(np.array([0.0, 0.5, 1.0]), method="cubic", steps=1)
    array([0.    , 0.6875, 1.    ])
    """
    steps = check_polar(method, steps)
    if isinstance(sigma, Tensor):
        check_float("sigma", sigma)
        check_finite("sigma", sigma)
    elif isinstance(sigma, np.ndarray):
        if not np.issubdtype(sigma.dtype, np.floating):
            raise TypeError(f"sigma must be floating-point, got dtype {sigma.dtype}")
        if not np.isfinite(sigma).all():
            raise ValueError(
                f"sigma must be finite, got {np.count_nonzero(~np.isfinite(sigma))} entries "
                f"of {sigma.size} that are not"
            )
    else:
        check_real("sigma", sigma)
    if method == "svd":
        return (sigma > 0) * (0 * sigma + 1)
    for a, b, c in _coefficients(method, steps):
        square = sigma * sigma
        sigma = sigma * (a + square * (b + square * c))
    return sigma


def minimax_quintic(lower: float, upper: float) -> tuple[Quintic, float]:
    """The odd quintic closest to 1 on [lower, upper], 0 < lower < upper, and its largest
    error E. Raises TypeError or ValueError for another interval, or an upper outside 1e-50
    .. 1e50, whose coefficients are not float64 numbers.

    Best approximation from a 3-dimensional Haar space: the error is +E, -E, +E, -E at four
    points, the two ends and the two extrema between them (Chebyshev). Remez: solve the 4x4
    system for (a, b, c, E) at four points, move the inner two to the roots of p', repeat;
    it converges quadratically, in five rounds down to lower/upper = 1e-8.

    >>> (a, b, c), error = minimax_quintic(1e-3, 1.0)
    >>> round(a, 4), round(b, 4), round(c, 4), round(error, 4)
    (8.4703, -25.1081, 18.6293, 0.9915)
    """
    check_real("upper", upper, at_least=1 / UPPER, below=UPPER)
    check_real("lower", lower, above=0, below=upper)
    return _minimax_quintic(float(lower), float(upper))  # numpy's integers would wrap


@lru_cache(maxsize=256)
def _minimax_quintic(lower: float, upper: float) -> tuple[Quintic, float]:
    x = lower / upper
    if x > 1 - 1e-4:
        # the limit x -> 1, Padé's (Björck and Bowie 1971) about the middle:
        # E ~ 5/2 (1 - x)³/8 < 4e-13
        a, b, c, error = 15 / 8, -10 / 8, 3 / 8, 5 / 2 * ((1 - x) / 2) ** 3
        upper = (lower + upper) / 2
    else:
        inner = np.array([(3 * x + 1) / 4, (x + 3) / 4])
        for _ in range(10):
            points = np.array([x, *inner, 1.0])
            signs = np.array([1.0, -1.0, 1.0, -1.0])
            system = np.stack([points, points**3, points**5, signs], axis=1)
            a, b, c, error = np.linalg.solve(system, np.ones(4)).tolist()
            # the larger root of p' in x²; the product of the two is a / 5c
            largest = (-3 * b + np.sqrt(9 * b * b - 20 * a * c)) / (10 * c)
            inner = np.sqrt([a / (5 * c) / largest, largest])
    return (a / upper, b / upper**3, c / upper**5), error


def polar_express_coefficients(steps: int, *, lower: float = LOWER) -> tuple[Quintic, ...]:
    """The (a, b, c) of each step of Polar Express for singular values in [lower, 1].

    Each step is the minimax quintic on the interval that the steps before it leave, [1 - E,
    1 + E]; no other composition of as many odd quintics has a smaller error (arXiv
    2505.16932). Upper ends are taken 1% larger (`MARGIN`): there the composition is steep
    (2e4 times, for 6 steps), and rounding would be magnified. That raises the error of 6
    steps on [1e-3, 1] from 9e-4 to 1.4e-3.

    Raises TypeError or ValueError unless 1 <= steps <= 1000 and 0 < lower < 1.

    >>> len(polar_express_coefficients(6))
    6
    """
    check_integer("steps", steps, at_most=MAX_STEPS)
    check_real("lower", lower, above=0, below=1)
    return _greedy(int(steps), float(lower))[0]


@lru_cache(maxsize=256)
def _greedy(steps: int, lower: float) -> tuple[tuple[Quintic, ...], float]:
    """The coefficients of polar_express_coefficients, and the error of their composition on
    [lower, 1]."""
    coefficients, upper, error = [], 1.0, 1.0
    for _ in range(steps):
        quintic, error = _minimax_quintic(lower, upper * (1 + MARGIN))
        coefficients.append(quintic)
        lower, upper = 1 - error, 1 + error
    return tuple(coefficients), error


def polar_express_reach(steps: int) -> float:
    """Smallest fraction of the starting norm that `steps` steps send to 1 within 1e-3; at
    least LOWER = 1e-3. Raises TypeError or ValueError unless 1 <= steps <= 1000.

    >>> [round(polar_express_reach(steps), 4) for steps in (3, 4, 5, 6)]
    [0.0776, 0.0188, 0.0045, 0.001]
    """
    check_integer("steps", steps, at_most=MAX_STEPS)
    return LOWER if steps >= DEFAULT_STEPS["polar_express"] else _reach(int(steps))


@lru_cache(maxsize=256)
def _reach(steps: int) -> float:
    """polar_express_reach for fewer steps than LOWER needs, by bisection."""
    low, high = LOWER, 0.9
    for _ in range(40):
        middle = (low * high) ** 0.5
        if _greedy(steps, middle)[1] < ACCURACY:
            high = middle
        else:
            low = middle
    return high


def check_polar(method: str, steps: int | None, *, name: str = "steps") -> int:
    """The number of steps that `steps`, or its default, means for `method`; 0 for "svd".
    `name` is for messages.

    Raises TypeError or ValueError for an unknown method, steps that is not an integer in 1
    .. 1000, and steps with "svd".

    >>> check_polar("cubic", None)
    5
    """
    check_choice("method", method, METHODS)
    if method == "svd":
        if steps is not None:
            raise ValueError(
                f"{name} must be None for method 'svd', which does not iterate, got "
                f"{shown(steps)}"
            )
        return 0
    if steps is None:
        return DEFAULT_STEPS[method]
    check_integer(name, steps, at_most=MAX_STEPS)
    return int(steps)


def _coefficients(method: str, steps: int) -> tuple[Quintic, ...]:
    """The (a, b, c) of each of the steps."""
    if method == "polar_express":
        return polar_express_coefficients(steps, lower=polar_express_reach(steps))
    return ({"cubic": CUBIC, "quintic": MUON}[method],) * steps


def _polar_svd(X: Tensor) -> Tensor:
    """The polar factor of X (..., m, n) by its SVD, NaN for a matrix that is not finite."""
    # (..., 1, 1): a NaN stays in its own matrix
    finite = torch.isfinite(X).all(-1, keepdim=True).all(-2, keepdim=True)
    U, S, Vh = torch.linalg.svd(torch.where(finite, X, 0.0), full_matrices=False)
    noise = max(X.shape[-2:]) * torch.finfo(S.dtype).eps * S[..., :1]
    return torch.where(finite, (U * S.gt(noise).unsqueeze(-2)) @ Vh, torch.nan)


def _compose(X: Tensor, coefficients: tuple[Quintic, ...], *, tight: bool) -> Tensor:
    """Apply the polynomials in turn to X (N, m, n), first divided by its Frobenius (tight:
    Schatten-8) norm.

    A segment of steps runs on one Gram matrix G: with H = a I + b G + c G², X becomes X H
    and G becomes H G H.
    """
    long, short = max(X.shape[-2:]), min(X.shape[-2:])
    tall = X.shape[-2] == long
    stride = SEGMENT if 2 * long > 3 * short else 1
    for start in range(0, len(coefficients), stride):
        if start == 0:
            G, G2, scale = _normalised_gram(X, tight=tight)  # G (N, k, k), k = min(m, n)
            H = _polynomial(G, coefficients[0], G2)
            del G2
            Q = H / scale
        else:
            G = _gram(X)
            H = Q = _polynomial(G, coefficients[start])
        for quintic in coefficients[start + 1 : start + stride]:
            G = H @ G @ H
            H = _polynomial(G, quintic)
            # in the order in which X meets them: rounding makes it matter
            Q = Q @ H if tall else H @ Q
        del G, H
        X = X @ Q if tall else Q @ X
        del Q
    return X


def _gram(X: Tensor) -> Tensor:
    """X^T X or X X^T, whichever is smaller."""
    return X.mT @ X if X.shape[-2] >= X.shape[-1] else X @ X.mT


def _normalised_gram(X: Tensor, *, tight: bool) -> tuple[Tensor, Tensor | None, Tensor]:
    """G / s², its square where it was needed, and s: the Frobenius or Schatten-8 norm of
    the X with Gram matrix G.

    Both bound the spectral norm from above, |X|₂ <= |X|_S8 <= |X|_F, and come with the
    first step's own products: |X|_F² = tr G and |X|_S8⁴ = |G²|_F. The answer for X = 0 is
    finite, so that 0 stays 0. G (N, k, k), s (N, 1, 1).
    """
    G, tiny = _gram(X), torch.finfo(X.dtype).tiny
    square = G.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None].clamp_min(tiny)
    G = G / square
    if not tight:
        return G, None, square.sqrt()
    G2 = G @ G
    fourth = torch.linalg.matrix_norm(G2, keepdim=True).clamp_min(tiny)
    G = G / fourth.sqrt()
    G2 = G2 / fourth
    return G, G2, square.sqrt() * fourth**0.25


def _polynomial(G: Tensor, quintic: Quintic, G2: Tensor | None = None) -> Tensor:
    """a I + b G + c G² for G (N, k, k), G² computed unless given."""
    a, b, c = quintic
    if c == 0.0:
        H = b * G
    elif G2 is None:
        H = torch.baddbmm(G, G, G, beta=b, alpha=c)
    else:
        H = b * G
        H += c * G2
    H.diagonal(dim1=-2, dim2=-1).add_(a)
    return H
