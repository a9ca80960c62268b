"""Numbers read off singular values against matrix norms in float64, and the inequalities
that order them."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lrdlib.decay import low_rank_decay_
from lrdlib.geometry import in_subdifferential
from lrdlib.spectral import (
    effective_rank,
    half_time,
    nuclear_norm,
    numerical_rank,
    participation_ratio,
    polar_alignment,
    singular_values,
    soft_threshold,
    stable_rank,
)

# Up to 12 values whose ratios are at least 2^-10: far above the default rtol of 10 k eps =
# 1.4e-5 in float32.
spectra = st.lists(
    st.floats(2**-10, 1, width=32) | st.just(0.0), min_size=1, max_size=12
).map(lambda values: torch.tensor(sorted(values, reverse=True)))
RATIOS = (stable_rank, effective_rank, participation_ratio, numerical_rank, polar_alignment)
EVERY = (nuclear_norm, *RATIOS)
# float32 sums of at most 12 terms: a few of eps = 1.2e-7, raised by exp and log
ROUNDING = 1 + 1e-5


def matrix(
    m: int, n: int, rank: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.randn(shape, dtype=dtype, generator=generator)
        for shape in ((m, rank), (rank, n))
    )
    return left @ right


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (1, 4), (2, 3, 4, 6)])
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16]
)
def test_singular_values(shape, dtype):
    W = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    S = singular_values(W)
    assert S.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert S.shape == (*shape[:-2], min(shape[-2:]))
    gram = (
        W.double() @ W.double().mT if shape[-2] <= shape[-1] else W.double().mT @ W.double()
    )
    expected = torch.linalg.eigvalsh(gram).flip(-1).clamp(min=0)  # s_i^2
    # Absolute, relative to s_1^2: a backward-stable SVD in float32 errs by a few eps =
    # 1.2e-7 times s_1.
    torch.testing.assert_close(
        S.double().square(), expected, rtol=0, atol=1e-5 * float(expected.max())
    )


@pytest.mark.parametrize(
    ("m", "n", "rank"), [(6, 6, 6), (9, 4, 4), (4, 9, 4), (6, 6, 2), (9, 5, 1)]
)
def test_against_matrix_norms_and_the_polar_factor(m, n, rank):
    W = matrix(m, n, rank)
    S = singular_values(W)
    U, _, Vh = torch.linalg.svd(W, full_matrices=False)
    polar = U[:, :rank] @ Vh[:rank]

    def near(x: float) -> object:
        # float64, eps 2e-16, sums of at most 9 terms: a slip into float32 shows
        return pytest.approx(x, rel=1e-12)

    assert numerical_rank(S).item() == rank == torch.linalg.matrix_rank(W).item()
    assert nuclear_norm(S).item() == near(torch.linalg.matrix_norm(W, "nuc").item())
    assert stable_rank(S).item() == near(
        (torch.linalg.norm(W) / torch.linalg.matrix_norm(W, 2)).item() ** 2
    )
    assert polar_alignment(S).item() == near(
        (W.flatten() @ polar.flatten() / (W.norm() * polar.norm())).item()
    )
    gram = W @ W.T
    assert participation_ratio(S).item() == near(
        (gram.trace() ** 2 / (gram @ gram).trace()).item()
    )
    p = [s / sum(S.tolist()) for s in S.tolist() if s > 0]
    assert effective_rank(S).item() == near(math.exp(-sum(x * math.log(x) for x in p)))


@given(spectra)
@settings(deadline=None)
def test_the_order_of_the_ranks(S):
    assume(S[0] > 0)
    r = int((S > 0).sum())
    assert numerical_rank(S).item() == r
    stable, ratio, effective = (
        f(S).item() for f in (stable_rank, participation_ratio, effective_rank)
    )
    alignment = polar_alignment(S).item()
    for chain in (
        (1, stable, ratio, effective, r),
        (1, stable, r * alignment**2, effective, r),
    ):
        assert all(a <= b * ROUNDING for a, b in pairwise(chain)), chain
    # exact: sums of terms in [0, 1], one of which is 1, round monotonically
    assert 1 <= stable <= r


@given(spectra, st.integers(-100, 100))
@settings(deadline=None)
def test_scale_invariance_is_exact_for_powers_of_two(S, e):
    for f in RATIOS:
        assert torch.equal(f(S), f(S * 2.0**e)), f.__name__
    torch.testing.assert_close(nuclear_norm(S * 2.0**e), nuclear_norm(S) * 2.0**e)


@given(st.integers(1, 12), st.integers(0, 12), st.floats(2**-100, 2**100, width=32))
@settings(deadline=None)
def test_equal_singular_values_give_the_rank(r, zeros, s):
    S = torch.tensor([s] * r + [0.0] * zeros)
    for f in (stable_rank, effective_rank, participation_ratio, numerical_rank):
        assert f(S).item() == pytest.approx(r, rel=1e-5)
    assert polar_alignment(S).item() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("s", [1e-45, 1e-30, 1e30, 3e38])
def test_no_square_overflows_or_underflows(s):
    S = torch.tensor([s, s, 0.0])
    assert [f(S).item() for f in RATIOS] == pytest.approx([2, 2, 2, 2, 1])
    W = torch.full((3, 3), s if s < 1e38 else s / 4)
    assert stable_rank(singular_values(W)).item() == pytest.approx(1)


def test_a_spectrum_wider_than_the_precision():
    S = torch.tensor([1e30, 1e-30])
    assert [f(S).item() for f in RATIOS] == pytest.approx([1, 1, 1, 1, 1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_zero_matrix_is_zero_everywhere(dtype):
    S = singular_values(torch.zeros(2, 3, 4, dtype=dtype))
    for f in EVERY:
        assert f(S).tolist() == [0, 0], f.__name__
    assert soft_threshold(S, 0.5).tolist() == [[0, 0, 0]] * 2


def test_stacks_are_their_matrices_one_by_one():
    stack = torch.stack(
        [matrix(5, 4, rank, seed=rank) for rank in (1, 2, 4)] + [torch.zeros(5, 4).double()]
    )
    S = singular_values(stack.view(2, 2, 5, 4))
    for f in EVERY:
        # Same arithmetic in another order of summation: a few eps of float64.
        torch.testing.assert_close(
            f(S), torch.stack([f(s) for s in S.view(4, 4)]).view(2, 2), rtol=1e-14, atol=0
        )
    assert numerical_rank(S).dtype == torch.int64
    assert stable_rank(S[:0]).shape == (0, 2)


def test_half_precision_is_computed_in_float32():
    S = torch.tensor([3.0, 1.0, 0.5], dtype=torch.bfloat16)
    for f in EVERY:
        assert torch.equal(f(S), f(S.float()))


def test_rank_and_alignment_see_only_values_above_rtol():
    S = torch.tensor([1.0, 0.5, 1e-9])
    assert numerical_rank(S).item() == 2 and numerical_rank(S, rtol=0).item() == 3
    assert numerical_rank(S, rtol=0.5).item() == 1
    assert polar_alignment(S).item() == pytest.approx(1.5 / math.sqrt(2 * 1.25))
    assert polar_alignment(S, rtol=0).item() == pytest.approx(1.5 / math.sqrt(3 * 1.25))
    # rounding noise of a float32 product is not rank, up to the 10 : 1 that the default
    # allows for
    for m, n in ((128, 128), (512, 128), (10, 100)):
        assert (
            numerical_rank(singular_values(matrix(m, n, 5, dtype=torch.float32))).item()
            == 5
        )


@given(spectra, st.floats(0, 2, width=32))
@settings(deadline=None)
def test_soft_threshold(S, t):
    assert soft_threshold(S, t).tolist() == [
        max(s - torch.tensor(t), torch.tensor(0.0)).item() for s in S
    ]
    assert torch.equal(soft_threshold(S, 0), S)


@given(st.integers(0, 10_000), st.floats(1e-3, 3))
@settings(deadline=None)
def test_soft_threshold_is_the_proximal_map_of_the_nuclear_norm(seed, t):
    W = matrix(5, 4, 4, seed)
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    X = (U * soft_threshold(S, t)) @ Vh
    # X minimises t |X|_* + |X - W|^2 / 2 exactly if (W - X) / t is a subgradient at X. A
    # singular value that t nearly removes leaves X's null space known to ~1e-16 / s:
    # compare to 1e-6.
    assume((S - t).abs().min() > 1e-6)
    assert in_subdifferential((W - X) / t, X, rtol=1e-9, tol=1e-6)


def test_soft_threshold_takes_one_threshold_per_matrix():
    S = torch.tensor([[3.0, 1.0], [3.0, 1.0]])
    t = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    assert (
        soft_threshold(S, t).tolist() == [[2.5, 0.5], [1.0, 0.0]]
        and soft_threshold(S, t).dtype == S.dtype
    )
    assert soft_threshold(S, torch.tensor(1.0)).tolist() == [[2, 0], [2, 0]]
    assert soft_threshold(S.bfloat16(), 0.5).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("threshold", "error", "message"),
    [
        (-1.0, ValueError, "threshold must be a finite number >= 0, got -1.0"),
        (float("nan"), ValueError, "threshold must be"),
        ("1", TypeError, "threshold must be"),
        (
            torch.tensor(-1.0),
            ValueError,
            "threshold must be >= 0, got a tensor with minimum -1.0",
        ),
        (torch.tensor([[1.0], [float("inf")]]), ValueError, "threshold must be finite"),
        (
            torch.ones(2),
            ValueError,
            r"threshold must have shape \(\) or \(2, 1\), one number per matrix, got "
            r"\(2,\)",
        ),
        (torch.ones(2, 1, 1), ValueError, "threshold must have shape"),
        (torch.ones(3, 1), ValueError, "threshold must have shape"),
    ],
)
def test_soft_threshold_errors(threshold, error, message):
    with pytest.raises(error, match=message):
        soft_threshold(torch.tensor([[3.0, 1.0], [2.0, 1.0]]), threshold)


@pytest.mark.parametrize(
    ("S", "error", "message"),
    [
        (
            matrix(4, 4, 4),
            ValueError,
            r"pass singular_values\(W\), not W; got shape \(4, 4\)",
        ),
        (torch.eye(3), ValueError, "pass singular_values"),
        (torch.tensor([1.0, 2.0]), ValueError, "descending"),
        (torch.tensor([1.0, -1.0]), ValueError, ">= 0"),
        (torch.tensor([float("inf"), 1.0]), ValueError, "finite"),
        (torch.tensor([2.0, float("nan"), 1.0]), ValueError, "finite"),
        (torch.tensor([float("nan")]), ValueError, "finite"),
        (torch.tensor([[2.0, 1.0], [1.0, 2.0]]), ValueError, "descending"),
        (
            torch.tensor(1.0),
            ValueError,
            r"S must have shape \(\.\.\., k\) with k >= 1, got \(\)",
        ),
        (torch.ones(2, 0), ValueError, "S must have shape"),
        (
            torch.tensor([2, 1]),
            TypeError,
            "S must be a floating-point tensor of 16, 32 or 64 bits, got dtype torch.int64",
        ),
        ([2.0, 1.0], TypeError, "S must be a torch.Tensor, got list"),
    ],
)
@pytest.mark.parametrize("f", [*EVERY, lambda S: soft_threshold(S, 1.0)])
def test_what_no_matrix_has_is_an_error(f, S, error, message):
    with pytest.raises(error, match=message):
        f(S)


@pytest.mark.parametrize("f", [numerical_rank, polar_alignment])
@pytest.mark.parametrize(
    ("rtol", "error"), [(-1e-3, ValueError), (1.0, ValueError), ("0", TypeError)]
)
def test_rtol_errors(f, rtol, error):
    with pytest.raises(error, match="rtol must be a finite number >= 0 and < 1"):
        f(torch.tensor([1.0]), rtol=rtol)


@pytest.mark.parametrize(
    "W", [torch.ones(3), torch.ones(2, 2).long(), torch.full((2, 2), float("nan")), [[1.0]]]
)
def test_singular_values_errors(W):
    with pytest.raises((TypeError, ValueError), match="W must be"):
        singular_values(W)


@pytest.mark.parametrize(
    "S",
    [
        torch.zeros(2, dtype=torch.float8_e4m3fn),
        torch.ones(2, device="meta"),
        torch.ones(2).to_sparse(),
        torch.ones(2).cfloat(),
        None,
    ],
    ids=str,
)
@pytest.mark.parametrize("f", [*EVERY, lambda S: soft_threshold(S, 1.0)])
def test_tensors_that_hold_no_singular_values(f, S):
    with pytest.raises(TypeError, match=r"^S must"):
        f(S)


def test_a_threshold_beyond_64_bits_leaves_nothing():
    S = torch.tensor([3.0, 1.0])
    for threshold in (10**20, 10**300, 1e300, torch.tensor(10**18)):
        assert soft_threshold(S, threshold).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"^threshold must be .* about 401 digits$"):
        soft_threshold(S, 10**400)


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64, torch.float8_e5m2])
def test_a_threshold_of_no_real_numbers(dtype):
    with pytest.raises(TypeError, match=rf"^threshold must hold real numbers, .* {dtype}$"):
        soft_threshold(torch.tensor([3.0, 1.0]), torch.zeros((), dtype=dtype))


# ---- the half-time of low-rank decay


def by_steps(S, t=2e-4):
    """t times the steps of proximal decay with the adaptive scale until half of the
    singular values are gone."""
    S, steps = S.double(), 0
    while (S > 0).sum() > len(S) // 2:
        alive = S > 0
        S = (S - t * S[alive].square().mean().sqrt()).clamp(min=0)
        steps += 1
    return t * steps


@pytest.mark.parametrize("shape", [(32, 32), (64, 16), (7, 5), (2, 2), (9, 1)], ids=str)
def test_half_time_is_that_of_many_small_steps(shape):
    W = torch.randn(*shape, generator=torch.Generator().manual_seed(1)).double()
    S = singular_values(W)
    h = float(half_time(S))
    if len(S) == 1:
        assert h == float("inf")  # a value alone shrinks by a share, and never goes
    else:
        assert abs(by_steps(S) / h - 1) < 5e-3  # first order in t
    assert abs(float(half_time(7 * S)) - h) < 1e-9 or h == float("inf")


@pytest.mark.parametrize(
    ("method", "t", "jitters"),
    [
        ("svd", 5e-3, True),
        ("svd", 1e-3, True),
        ("polar_express", 5e-3, True),
        ("polar_express", 1e-3, False),
    ],
)
def test_half_time_of_a_rule_that_steps_over_zero(method, t, jitters):
    """Those of its values that jitter count in |polar(W)|_F, which slows the rest down."""
    W = torch.randn(32, 32, generator=torch.Generator().manual_seed(1)).double()
    S = singular_values(W)
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000 * S[16]
    gap = (S - u[:, None]).clamp(min=0)
    left = (gap > 0).sum(1)
    rms = (gap.square().sum(1) / left).sqrt()
    slower = float(((32 / left).sqrt() / rms).sum() / (1 / rms).sum())
    assert 1.15 < slower < 2**0.5
    steps = 0
    while (singular_values(W) < 1.5 * t * W.norm() / 32**0.5).sum() < 16:
        low_rank_decay_(W, weight_decay=t, method=method)
        steps += 1
    expected = slower if jitters else 1.0
    # a value counts from a step and a half on, that is so many steps too early, or one more
    h = float(half_time(S))
    assert abs(steps * t / h - expected) < 2.5 * t / h


def test_half_time_by_the_midpoint_rule_and_at_its_ends():
    S = torch.tensor([5.0, 4.0, 2.5, 2.0, 0.5, 0.1], dtype=torch.float64)
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000 * 2.0
    gap = (S - u[:, None]).clamp(min=0)
    rms = (gap.square().sum(1) / (gap > 0).sum(1)).sqrt()
    assert abs(float(half_time(S)) / float((2.0 / 200_000 / rms).sum()) - 1) < 1e-6
    assert half_time(torch.full((6,), 3.0)) == float("inf")
    assert half_time(torch.zeros(6)) == 0 == half_time(torch.tensor([1.0, 0.0, 0.0]))
    stack = torch.stack([S, 2 * S, torch.ones(6).double()])
    assert half_time(stack).tolist() == [float(half_time(row)) for row in stack]
    assert half_time(S.float()).dtype == torch.float32
