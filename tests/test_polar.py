"""The polar factor against a float64 SVD, and what the mathematics of its polynomials
promises."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from lrdlib.polar import (
    CUBIC,
    DEFAULT_STEPS,
    METHODS,
    MUON,
    minimax_quintic,
    polar_express_coefficients,
    polar_express_reach,
    polar_factor,
    polar_iteration,
    response,
)

ITERATIONS = METHODS[1:]
SHAPES = [(16, 16), (40, 16), (16, 40)]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64).to(dtype)


def factors(m: int, n: int, rank: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Orthonormal U (m, rank) and V (n, rank)."""
    return torch.linalg.qr(gaussian(m, rank, seed=seed))[0], torch.linalg.qr(
        gaussian(n, rank, seed=seed + 1)
    )[0]


def conditioned(
    m: int, n: int, condition: float, *, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """W (m, n) with geometric singular values from 1 to 1/condition, its exact polar
    factor, the singular values."""
    U, V = factors(m, n, min(m, n), seed=seed)
    S = torch.tensor(np.geomspace(1, 1 / condition, min(m, n)))
    return U * S @ V.mT, U @ V.mT, S


def start_norm(S: Tensor, method: str) -> Tensor:
    """The norm that the iteration divides by, from the singular values S (..., k)."""
    return torch.linalg.vector_norm(
        S, 8 if method == "polar_express" else 2, dim=-1, keepdim=True
    )


def svd_oracle(W: Tensor, method: str, steps: int | None) -> Tensor:
    """U response(S / norm) Vᵀ in float64: the iteration with its matrix products replaced
    by an SVD."""
    U, S, Vh = torch.linalg.svd(W.double(), full_matrices=False)
    return (
        U * response(S / start_norm(S, method), method=method, steps=steps).unsqueeze(-2)
    ) @ Vh


# --- the answer


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("condition", [1e1, 1e2, 1e3])
@pytest.mark.parametrize(
    ("method", "steps", "bound"),
    [
        ("svd", None, {1e1: 1e-12, 1e2: 1e-12, 1e3: 1e-12}),
        (
            "cubic",
            30,
            {1e1: 1e-12, 1e2: 1e-12, 1e3: 1e-12},
        ),  # 30 doublings in all: converged
        (
            "cubic",
            5,
            {1e1: 0.7, 1e2: 0.98, 1e3: 0.999},
        ),  # the paper's five steps are not the polar factor
        (
            "quintic",
            5,
            {1e1: 0.33, 1e2: 0.33, 1e3: 0.9},
        ),  # Muon's band is [0.68, 1.21]; it stays in it for ever
        ("polar_express", 3, {1e1: 2e-2, 1e2: 0.9, 1e3: 0.99}),
        ("polar_express", 5, {1e1: 1.01e-3, 1e2: 1.01e-3, 1e3: 0.8}),
        (
            "polar_express",
            6,
            {1e1: 1.5e-3, 1e2: 1.5e-3, 1e3: 2e-2},
        ),  # 1e3: σ_min is 8e-4 of the norm, out of reach
        (
            "polar_express",
            8,
            {1e1: 1e-7, 1e2: 1e-7, 1e3: 1e-7},
        ),  # what the 1% margin leaves: 5/16 0.01³ / 4
    ],
)
def test_singular_values_are_within_the_stated_error(
    shape, condition, method, steps, bound
):
    W, P, _ = conditioned(*shape, condition)
    answer = polar_factor(W, method=method, steps=steps)
    assert (torch.linalg.svdvals(answer) - 1).abs().max() <= bound[condition]
    # (P - UVᵀ) has the same singular values up to sign, since the singular vectors are kept
    assert torch.linalg.matrix_norm(answer - P, 2) <= bound[condition] + 1e-11


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 24),
    n=st.integers(1, 24),
    batch=st.lists(st.integers(0, 3), max_size=2),
    method=st.sampled_from(ITERATIONS),
    steps=st.integers(1, 9),
    seed=st.integers(0, 2**16),
)
def test_matrix_products_do_what_an_svd_would_do(m, n, batch, method, steps, seed):
    W = gaussian(*batch, m, n, seed=seed)
    # float64 rounding 1e-16, on the Gram matrix magnified by the slope squared of four
    # steps: below 1e-9
    torch.testing.assert_close(
        polar_factor(W, method=method, steps=steps),
        svd_oracle(W, method, steps),
        rtol=0,
        atol=1e-9,
    )


@pytest.mark.parametrize("method", ITERATIONS)
@pytest.mark.parametrize("steps", [1, 4, 7])
def test_response_is_what_happens_to_a_diagonal_matrix(method, steps):
    S = torch.tensor([1.0, 0.5, 0.1, 1e-2, 1e-3, 0.0], dtype=torch.float64)
    expected = response(S / start_norm(S, method), method=method, steps=steps)
    torch.testing.assert_close(
        polar_factor(S.diag(), method=method, steps=steps),
        expected.diag(),
        rtol=1e-10,
        atol=1e-12,
    )


def test_response_keeps_its_input_type_and_is_a_step_for_svd():
    sigma = np.linspace(0, 1, 5)
    for method in METHODS:
        as_array, as_tensor = (
            response(sigma, method=method),
            response(torch.tensor(sigma), method=method),
        )
        assert isinstance(as_array, np.ndarray) and as_array.dtype == np.float64
        np.testing.assert_array_equal(as_array, as_tensor.numpy())
    np.testing.assert_array_equal(response(sigma, method="svd"), [0, 1, 1, 1, 1])
    np.testing.assert_array_equal(sigma, np.linspace(0, 1, 5))  # the input is not changed


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_response_is_of_the_dtype_of_its_tensor(method, dtype):
    sigma = torch.tensor([0.0, 0.5, 1.0], dtype=dtype)
    assert response(sigma, method=method).dtype == dtype


def test_one_cubic_step_is_equation_9():
    W = gaussian(5, 3)
    X = W / torch.linalg.matrix_norm(W)
    torch.testing.assert_close(
        polar_factor(W, method="cubic", steps=1), X @ (3 * torch.eye(3) - X.mT @ X) / 2
    )


# --- symmetries


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_rotations_and_transposes_pass_through(method, shape):
    W = gaussian(*shape, seed=3)
    Q, R = (torch.linalg.qr(gaussian(k, k, seed=k))[0] for k in shape)
    P = polar_factor(W, method=method)
    # float64 rounding times the slope of the iteration (2e3 at most) stays below 1e-10
    torch.testing.assert_close(
        polar_factor(Q @ W @ R, method=method), Q @ P @ R, rtol=0, atol=1e-10
    )
    torch.testing.assert_close(polar_factor(W.mT, method=method), P.mT, rtol=0, atol=1e-10)
    torch.testing.assert_close(polar_factor(-W, method=method), -P, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_stack_is_a_loop(method, shape):
    W = gaussian(2, 3, *shape, dtype=torch.float32)
    loop = torch.stack(
        [torch.stack([polar_factor(w, method=method) for w in row]) for row in W]
    )
    # float32 rounding 6e-8 times the slope 2e3: a stack may sum in another order
    torch.testing.assert_close(polar_factor(W, method=method), loop, rtol=0, atol=1e-3)
    assert polar_factor(W[:0], method=method).shape == (0, 3, *shape)


@pytest.mark.parametrize("method", ITERATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("exponent", [-90, -1, 1, 90])
def test_a_power_of_two_changes_no_bit(method, dtype, exponent):
    # entries of a Gaussian lie within 2^-20 and 2^3, so 2^±90 stays normal in float32,
    # whose squares would not
    W = gaussian(12, 9, dtype=dtype)
    assert torch.equal(
        polar_factor(W * 2.0**exponent, method=method), polar_factor(W, method=method)
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-30, 1e30, 3e-38, 1e38])
def test_any_positive_scale_changes_nothing(method, scale):
    W = conditioned(12, 9, 10)[0].float()
    # float32 entries near 3e-38 have lost bits, so a looser bound than rounding times slope
    torch.testing.assert_close(
        polar_factor(W * scale, method=method),
        polar_factor(W, method=method),
        rtol=0,
        atol=1e-4,
    )


# --- the edges: zero, rank-deficient, vectors, scalars


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_zero_stays_exactly_zero_also_inside_a_stack(method, dtype):
    W = gaussian(3, 6, 20, dtype=dtype)
    W[1] = 0
    P = polar_factor(W, method=method)
    assert P.dtype == dtype and torch.isfinite(P).all()
    assert torch.equal(P[1], torch.zeros_like(P[1]))
    assert torch.linalg.matrix_norm(P[0].float()) > 1


@pytest.mark.parametrize("shape", [(64, 64), (160, 64), (64, 160)])
@pytest.mark.parametrize("rank", [1, 5, 32])
def test_rank_deficient_gives_the_partial_isometry(shape, rank):
    U, V = factors(*shape, rank)
    W = U * torch.linspace(1, 0.1, rank, dtype=torch.float64) @ V.mT
    torch.testing.assert_close(polar_factor(W, method="svd"), U @ V.mT, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        polar_factor(W.float(), method="svd").double(), U @ V.mT, rtol=0, atol=1e-5
    )
    # the stated 1.4e-3 above, and rounding 6e-8 times the slope 2e3 (a few times over) on
    # the null space
    P = polar_factor(W.float()).double()
    assert torch.linalg.matrix_norm(P - U @ V.mT, 2) < 2e-3
    null = P - U @ (U.mT @ P)
    assert torch.linalg.matrix_norm(null, 2) < 1e-3


@pytest.mark.parametrize("shape", [(400, 2), (2, 400)])
@pytest.mark.parametrize(("times", "kept"), [(300, 0.0), (500, 1.0)])
def test_by_svd_what_is_below_the_longer_side_times_eps_is_zero(shape, times, kept):
    W = torch.zeros(shape, dtype=torch.float64)
    W[0, 0], W[1, 1] = 1.0, times * torch.finfo(torch.float64).eps
    P = polar_factor(W, method="svd")
    assert (P[0, 0].abs(), P[1, 1].abs()) == (1.0, kept)


@pytest.mark.parametrize("steps", range(1, 13))
def test_rounding_on_the_null_space_never_grows_to_a_singular_value(steps):
    U, V = factors(160, 64, 4)
    P = polar_factor((U @ V.mT).float(), steps=steps).double()
    # slope at 12 steps: 8e4, times rounding 6e-8 = 5e-3, times a few
    assert torch.linalg.svdvals(P)[4] < 2e-2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_vectors_become_unit_vectors(method, shape):
    W = -gaussian(*shape, seed=2).abs()
    top = float(response(np.ones(1), method=method)[0])
    torch.testing.assert_close(
        polar_factor(W, method=method), top * W / torch.linalg.matrix_norm(W)
    )


@pytest.mark.parametrize("method", METHODS)
def test_smallest_float_is_not_lost(method):
    P = polar_factor(torch.tensor([[-1e-44]]), method=method)  # subnormal in float32
    assert abs(float(P) + float(response(np.ones(1), method=method)[0])) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16(shape):
    W = conditioned(*shape, 10)[0].bfloat16()
    exact = polar_factor(W.double(), method="svd")
    for method in ("svd", "polar_express"):
        P = polar_factor(W, method=method)
        assert P.dtype == torch.bfloat16
        # computed in float32 to 1.4e-3, then rounded to 8 bits, 2^-9 in each entry
        assert torch.linalg.matrix_norm(
            P.double() - exact
        ) < 4e-3 * torch.linalg.matrix_norm(exact)


@pytest.mark.parametrize("method", METHODS)
def test_the_input_is_left_alone(method):
    W = gaussian(6, 4)
    before = W.clone()
    polar_factor(W, method=method)
    assert torch.equal(W, before)


# --- the polynomials


def evaluate(quintic: tuple[float, float, float], x: np.ndarray) -> np.ndarray:
    a, b, c = quintic
    return a * x + b * x**3 + c * x**5


@settings(max_examples=80, deadline=None)
@given(
    lower=st.floats(-8, -5e-5).map(lambda e: 10**e),
    scale=st.floats(-2, 2).map(lambda e: 10**e),
)  # lower/upper from 1e-8 to 0.9999
def test_minimax_error_alternates_at_four_points(lower, scale):
    quintic, error = minimax_quintic(lower * scale, scale)
    x = scale * (lower + (1 - lower) * (1 - np.cos(np.linspace(0, np.pi, 4001))) / 2)
    difference = 1 - evaluate(quintic, x)
    assert np.abs(difference).max() <= error + 1e-10
    a, b, c = quintic
    inner = (
        np.sqrt(np.sort(np.roots([5 * c, 3 * b, a]).real))
        if lower < 0.999
        else np.array([])
    )
    at = 1 - evaluate(quintic, np.array([lower * scale, *inner, scale]))
    if inner.size:  # nearer to 1 the whole error is below 1e-10
        assert lower * scale < inner[0] < inner[1] < scale
        np.testing.assert_allclose(at, error * np.array([1, -1, 1, -1]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [1.0, 0.01, 30.0])
def test_next_to_one_the_minimax_error_is_that_of_both_ends(scale):
    lower = 1 - 0.9e-4
    quintic, error = minimax_quintic(lower * scale, scale)
    ends = 1 - evaluate(quintic, scale * np.array([lower, 1.0]))
    np.testing.assert_allclose(np.abs(ends), error, rtol=0.05)


@pytest.mark.parametrize("lower", [1e-8, 1e-3, 0.1, 0.5])
def test_no_perturbation_of_the_minimax_quintic_does_better(lower):
    quintic, error = minimax_quintic(lower, 1.0)
    x = np.array([lower, *np.geomspace(lower, 1, 2001), *np.linspace(lower, 1, 2001)])
    rng = np.random.default_rng(0)
    for size in np.geomspace(1e-6, 1, 200):
        other = tuple(np.array(quintic) + size * rng.standard_normal(3))
        # the grid misses the extrema by at most 1e-9
        assert np.abs(1 - evaluate(other, x)).max() > error - 1e-9


def test_greedy_steps_work_on_the_interval_that_is_left():
    x = np.geomspace(1e-3, 1, 20001)
    for quintic in polar_express_coefficients(6):
        x = evaluate(quintic, x)
        assert x.min() > 0
    assert np.abs(1 - x).max() < 1.5e-3


def test_coefficients_converge_to_the_pade_quintic_and_never_break():
    # the 1% margin
    np.testing.assert_allclose(
        polar_express_coefficients(40)[-1], [15 / 8, -10 / 8, 3 / 8], rtol=0.03
    )
    assert np.isfinite(polar_express_coefficients(40, lower=1e-8)).all()


@pytest.mark.parametrize("steps", range(1, 9))
def test_every_number_of_steps_is_accurate_above_its_reach(steps):
    x = np.geomspace(polar_express_reach(steps), 1, 20001)
    assert np.abs(1 - response(x, method="polar_express", steps=steps)).max() < 1.5e-3
    below = response(
        np.geomspace(1e-9, polar_express_reach(steps), 2001),
        method="polar_express",
        steps=steps,
    )
    assert (below > 0).all() and (below < 1 + 1.5e-3).all()


@pytest.mark.parametrize("cubic_steps", [5, 15, 30])
def test_polar_express_beats_the_cubic_at_the_same_products(cubic_steps):
    steps = 2 * cubic_steps // 3  # three products a step against two
    x = np.geomspace(polar_express_reach(steps), 1, 20001)
    express = np.abs(1 - response(x, method="polar_express", steps=steps)).max()
    cubic = np.abs(1 - response(x, method="cubic", steps=cubic_steps)).max()
    assert express <= max(cubic, 1e-7)  # 1e-7: both have converged, up to the margin


@pytest.mark.parametrize("seed", range(5))
def test_the_tight_start_is_worth_a_step(seed):
    S = torch.linalg.svdvals(gaussian(128, 128, seed=seed))
    from_schatten = polar_express_reach(5) * start_norm(S, "polar_express")
    from_frobenius = polar_express_reach(6) * start_norm(S, "cubic")
    # 5 steps reach as far down as 6 did, to 10%
    assert from_schatten < 1.1 * from_frobenius


def test_published_constants_and_defaults():
    assert CUBIC == (1.5, -0.5, 0.0)
    assert MUON == (3.4445, -4.7750, 2.0315)
    assert DEFAULT_STEPS == {"cubic": 5, "quintic": 5, "polar_express": 6}


# --- tracing, and bad input


@pytest.mark.parametrize("method", ITERATIONS)
@pytest.mark.parametrize("shape", [(2, 8, 8), (20, 8), (8, 20)])
def test_make_fx_traces_it_for_every_value(method, shape):
    def run(W: Tensor) -> Tensor:
        return polar_iteration(W, method=method, steps=6)

    traced = make_fx(run)(gaussian(*shape, dtype=torch.float32))
    for W in (gaussian(*shape, seed=7, dtype=torch.float32), torch.zeros(shape)):
        assert torch.equal(traced(W), run(W))
    assert not any("item" in str(node.target) for node in traced.graph.nodes)


@pytest.mark.parametrize("method", METHODS)
def test_polar_factor_is_checks_and_polar_iteration(method):
    W = gaussian(6, 4)
    assert torch.equal(polar_factor(W, method=method), polar_iteration(W, method=method))


W22 = torch.eye(2)


@pytest.mark.parametrize(
    ("W", "options", "error", "message"),
    [
        (
            torch.ones(3),
            {},
            ValueError,
            "W must be a matrix or a stack of matrices (..., m, n), got shape (3,)",
        ),
        (
            torch.ones(0, 3),
            {},
            ValueError,
            "W must be a matrix or a stack of matrices (..., m, n), got shape (0, 3)",
        ),
        (
            torch.ones(2, 2).int(),
            {},
            TypeError,
            "W must be a floating-point tensor of 16, 32 or 64 bits, got dtype torch.int32",
        ),
        (
            torch.ones(2, 2).half(),
            {},
            TypeError,
            "W must be float32, float64 or bfloat16, got dtype torch.float16",
        ),
        (
            W22.to_sparse(),
            {},
            TypeError,
            "W must be a dense tensor, got layout torch.sparse_coo",
        ),
        ([[1.0]], {}, TypeError, "W must be a torch.Tensor, got list"),
        (
            W22 * float("nan"),
            {},
            ValueError,
            "W must be finite, got 4 NaN and 0 infinite of 4 entries",
        ),
        (
            W22 / 0,
            {},
            ValueError,
            "W must be finite, got 2 NaN and 2 infinite of 4 entries",
        ),
        (W22, {"steps": 0}, ValueError, "steps must be an integer >= 1, got 0"),
        (W22, {"steps": True}, TypeError, "steps must be an integer >= 1, got True"),
        (W22, {"steps": 2.5}, TypeError, "steps must be an integer >= 1, got 2.5"),
        (
            W22,
            {"method": "newton"},
            ValueError,
            "method must be one of 'svd', 'cubic', 'quintic', 'polar_express', got "
            "'newton'",
        ),
        (
            W22,
            {"method": "svd", "steps": 3},
            ValueError,
            "steps must be None for method 'svd', which does not iterate, got 3",
        ),
    ],
)
def test_bad_input_is_one_clear_error(W, options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        polar_factor(W, **options)


@pytest.mark.parametrize("lower", [0.0, 1.0, -1e-3, float("nan")])
def test_bad_lower_end(lower):
    with pytest.raises(ValueError, match="lower must be a finite number > 0 and < 1"):
        polar_express_coefficients(3, lower=lower)


def test_response_checks_its_options():
    with pytest.raises(ValueError, match="method must be one of"):
        response(np.ones(1), method="newton")
    with pytest.raises(ValueError, match="steps must be an integer >= 1, got 0"):
        response(np.ones(1), method="cubic", steps=0)


# --- bad arguments


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", METHODS)
def test_the_response_to_what_is_not_finite_is_refused(method, bad):
    for sigma in (np.array([0.5, bad]), torch.tensor([0.5, bad]), bad):
        with pytest.raises(ValueError, match=r"^sigma must be"):
            response(sigma, method=method)


@pytest.mark.parametrize(
    "sigma", [[0.5], "x", None, np.array([1]), torch.ones(2).int(), 1j]
)
def test_the_response_to_what_is_no_number_is_refused(sigma):
    with pytest.raises(TypeError, match=r"^sigma must be"):
        response(sigma, method="cubic")


def test_a_number_has_the_response_of_its_array():
    for method in METHODS:
        assert response(0.5, method=method) == response(np.array([0.5]), method=method)[0]


@pytest.mark.parametrize("steps", [1001, 10**12, 10**5000], ids=lambda x: "")
@pytest.mark.parametrize(
    "f",
    [
        lambda steps: polar_factor(torch.eye(2), method="cubic", steps=steps),
        lambda steps: response(0.5, method="quintic", steps=steps),
        polar_express_coefficients,
        polar_express_reach,
    ],
)
def test_thousands_of_steps_are_refused_at_once(f, steps):
    with pytest.raises(ValueError, match=r"^steps must be an integer <= 1000, got"):
        f(steps)


@pytest.mark.parametrize("bad", [[], {}, None, "x", torch.ones(2)])
def test_what_cannot_be_looked_up_is_refused_like_the_rest(bad):
    for name, f in (
        ("steps", polar_express_coefficients),
        ("steps", polar_express_reach),
        ("lower", lambda lower: polar_express_coefficients(3, lower=lower)),
        ("lower", lambda lower: minimax_quintic(lower, 1.0)),
        ("upper", lambda upper: minimax_quintic(0.1, upper)),
    ):
        with pytest.raises(TypeError, match=f"^{name} must be"):
            f(bad)


@pytest.mark.parametrize(
    ("lower", "upper", "name"),
    [
        (0, 1, "lower"),
        (1, 1, "lower"),
        (2, 1, "lower"),
        (0.1, 1e51, "upper"),
        (0, 0, "upper"),
    ],
)
def test_no_interval(lower, upper, name):
    with pytest.raises(ValueError, match=f"^{name} must be a finite number"):
        minimax_quintic(lower, upper)


@pytest.mark.parametrize("scale", [1e-49, 1e49])
def test_the_widest_intervals_have_coefficients(scale):
    quintic, error = minimax_quintic(0.1 * scale, scale)
    assert np.isfinite(quintic).all() and 0 < error < 1


def test_numbers_of_numpy_s_are_numbers():
    """Their powers overflow, and an answer that is kept would be that of equal floats."""
    lower, upper = np.int64(1), np.int64(10**5)
    assert minimax_quintic(lower, upper) == minimax_quintic(1.0, 1e5)
    assert minimax_quintic(np.float32(0.5), np.float32(1e10)) == minimax_quintic(0.5, 1e10)
    half = np.float16(1e-3)
    assert polar_express_coefficients(np.int8(2), lower=half) == polar_express_coefficients(
        2, lower=float(half)
    )
    (a, b, c), error = minimax_quintic(1.0, 1e5)
    x = np.geomspace(1.0, 1e5, 4001)
    assert np.abs(1 - evaluate((a, b, c), x)).max() <= error + 1e-10
