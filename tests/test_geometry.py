"""The geometry against the definitions: convexity, nearest points by sampling, and
autograd."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lrdlib.decay import proximal_decay_
from lrdlib.geometry import (
    SCALES,
    euler_defect,
    fan_dimension,
    in_subdifferential,
    project_subdifferential,
    radial_tangential,
    scale_defect,
    scale_defects,
    scaled_nuclear_norm,
)
from lrdlib.polar import polar_factor
from lrdlib.spectral import numerical_rank, polar_alignment, singular_values

# float64 (eps 2e-16) on matrices up to 6 x 6, singular values of order 1, condition < 1e4
ROUNDING = 1e-10


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(
        shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def matrix_of_rank(m: int, n: int, rank: int, seed: int) -> Tensor:
    """m x n with `rank` singular values in [0.5, 2] and the others zero, up to rounding."""
    U, V = (
        torch.linalg.qr(randn(m, m, seed=seed))[0],
        torch.linalg.qr(randn(n, n, seed=seed + 1))[0],
    )
    S = 0.5 + 1.5 * torch.sigmoid(randn(rank, seed=seed + 2))
    return (U[:, :rank] * S) @ V[:, :rank].T


def random_member(W: Tensor, rank: int, seed: int) -> Tensor:
    """U_r V_r^T + U_0 B V_0^T with bases U_0, V_0 of the null spaces and |B|_2 <= 1:
    equation (10) spelled out."""
    U, _, Vh = torch.linalg.svd(W, full_matrices=True)
    member = U[:, :rank] @ Vh[:rank]
    if rank < min(W.shape):
        B = randn(W.shape[0] - rank, W.shape[1] - rank, seed=seed)
        member = (
            member
            + U[:, rank:]
            @ (B / max(1.0, float(torch.linalg.matrix_norm(B, 2))))
            @ Vh[rank:]
        )
    return member


def nuclear(X: Tensor) -> float:
    return float(torch.linalg.matrix_norm(X, "nuc"))


def normalised_map(W: Tensor) -> Tensor:
    """RMSNorm(X W^T) without epsilon, read by a fixed vector: scale-invariant in W, as
    queries and keys are."""
    Y = randn(7, W.shape[1], seed=99).to(W) @ W.T
    return Y / Y.square().mean(-1, keepdim=True).sqrt()


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, int, Tensor, int]:
    """W of a known rank (0 included), its rank, any G of any size, and a seed for the
    rest."""
    m, n, seed = (
        draw(st.integers(1, 6)),
        draw(st.integers(1, 6)),
        draw(st.integers(0, 10**6)),
    )
    rank = draw(st.integers(0, min(m, n)))
    G = draw(st.sampled_from([0.1, 1.0, 10.0])) * randn(m, n, seed=seed + 10)
    return matrix_of_rank(m, n, rank, seed), rank, G, seed + 20


# --- the radial and the tangential part


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6), st.floats(-30, 30))
@settings(deadline=None)
def test_radial_and_tangential_are_an_orthogonal_split(m, n, seed, exponent):
    G, W = randn(m, n, seed=seed), 10**exponent * randn(m, n, seed=seed + 1)
    radial, tangential = radial_tangential(G, W)
    Theta = W / W.norm()
    torch.testing.assert_close(radial + tangential, G, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(radial, (G * Theta).sum() * Theta, rtol=0, atol=ROUNDING)
    assert abs(float((tangential * Theta).sum())) < ROUNDING
    # Pythagoras
    assert float(radial.norm() ** 2 + tangential.norm() ** 2) == pytest.approx(
        float(G.norm() ** 2)
    )


@given(cases())
@settings(deadline=None)
def test_l2_is_radial_and_the_polar_factor_is_not(case):
    W, rank, _, _ = case
    if rank == 0:
        return
    _, tangential = radial_tangential(W, W)
    assert float(tangential.norm()) < ROUNDING
    polar = project_subdifferential(0 * W, W)  # U_r V_r^T
    _, tangential = radial_tangential(polar, W)
    share = float(tangential.norm() / polar.norm())
    alignment = float(polar_alignment(singular_values(W)))
    # Compared as squares: near alignment 1 the root would turn rounding of 1e-16 into 1e-8.
    assert share**2 == pytest.approx(1 - alignment**2, abs=ROUNDING)


# --- what low-rank decay with the adaptive scale goes down on


def invariant_loss(W: Tensor) -> Tensor:
    """A smooth scale-invariant loss."""
    return (normalised_map(W) * randn(7, W.shape[0], seed=98)).sum().tanh()


@st.composite
def full_rank(draw: st.DrawFn) -> Tensor:
    m, n, seed = (
        draw(st.integers(1, 5)),
        draw(st.integers(1, 5)),
        draw(st.integers(0, 10**6)),
    )
    return draw(st.sampled_from([0.3, 1.0, 4.0])) * matrix_of_rank(m, n, min(m, n), seed)


def gradient(f, W: Tensor) -> Tensor:
    W = W.clone().requires_grad_()
    return torch.autograd.grad(f(W), W)[0]


def flow(W: Tensor, decay: float) -> Tensor:
    """W' of the loss and low-rank decay with the adaptive scale."""
    P = polar_factor(W, method="svd")
    return -gradient(invariant_loss, W) - decay * W.norm() / P.norm() * P


@given(full_rank(), st.floats(0.01, 3))
@settings(deadline=None)
def test_the_adaptive_scale_follows_a_gradient_with_half_of_its_radial_part(W, decay):
    r = min(W.shape)
    E = gradient(lambda V: invariant_loss(V) + decay * scaled_nuclear_norm(V), W)
    radial, tangential = radial_tangential(E, W)
    dW = flow(W, decay)
    torch.testing.assert_close(dW, -tangential - radial / 2, rtol=1e-8, atol=1e-8)
    # and so E falls at this rate
    rate = float((E * dW).sum())
    predicted = -float(dW.norm() ** 2) - decay**2 * nuclear(W) ** 2 / r
    assert rate == pytest.approx(predicted, rel=1e-8, abs=1e-8)


@given(full_rank(), st.floats(0.01, 3))
@settings(deadline=None)
def test_on_the_sphere_it_is_the_flow_of_loss_and_nuclear_norm(W, decay):
    rho, r = W.norm(), min(W.shape)
    Theta = W / rho
    dW = flow(W, decay)
    rho_dot = (dW * Theta).sum()
    Theta_dot = (dW - rho_dot * Theta) / rho

    def potential(V: Tensor) -> Tensor:
        nuclear_norm = torch.linalg.matrix_norm(V, "nuc")
        return invariant_loss(V) + decay * rho**2 * nuclear_norm / r**0.5

    tangential = radial_tangential(gradient(potential, Theta), Theta)[1]
    torch.testing.assert_close(Theta_dot, -tangential / rho**2, rtol=1e-8, atol=1e-8)
    # the norm falls by the radial part alone
    alignment = float(polar_alignment(singular_values(W)))
    assert float(rho_dot) == pytest.approx(-decay * alignment * float(rho), rel=1e-8)


def test_scaled_nuclear_norm_at_any_rank():
    W = matrix_of_rank(5, 4, 2, seed=3)
    expected = float(W.norm()) * nuclear(W) / 2**0.5
    assert float(scaled_nuclear_norm(W)) == pytest.approx(expected)
    stack = torch.stack([W, 3 * W, 0 * W])
    found = scaled_nuclear_norm(stack)
    torch.testing.assert_close(found, expected * torch.tensor([1.0, 9.0, 0.0]).double())
    assert scaled_nuclear_norm(W.bfloat16()).dtype == torch.float32
    assert float(scaled_nuclear_norm(torch.diag(torch.tensor([1.0, 0.1])), rtol=0.5)) == (
        pytest.approx(1.01**0.5 * 1.1)
    )
    with pytest.raises(ValueError, match="rtol must be"):
        scaled_nuclear_norm(W, rtol=2)
    with pytest.raises(ValueError, match="W must be a matrix"):
        scaled_nuclear_norm(W[0])


@pytest.mark.parametrize("r", [2, 3, 5])
def test_scaled_nuclear_norm_jumps_up_where_a_rank_is_lost(r):
    S = torch.linspace(2, 1, r, dtype=torch.float64)
    S[-1] = 1e-9
    before = float(scaled_nuclear_norm(torch.diag(S)))
    S[-1] = 0
    after = float(scaled_nuclear_norm(torch.diag(S)))
    assert after / before == pytest.approx((r / (r - 1)) ** 0.5, rel=1e-8)


def test_scaled_nuclear_norm_falls_between_losses_of_rank_only():
    W, path = torch.diag(torch.tensor([1.0, 0.05], dtype=torch.float64)), []
    for _ in range(20):
        path.append((numerical_rank(singular_values(W)), scaled_nuclear_norm(W)))
        proximal_decay_(W, weight_decay=0.01)
    falls = [bool(new[1] < old[1]) for old, new in pairwise(path)]
    assert falls == [bool(new[0] == old[0]) for old, new in pairwise(path)]
    assert falls.count(False) == 1


def test_split_of_a_stack_and_of_other_precisions():
    G, W = randn(2, 3, 4, 5, seed=0), randn(2, 3, 4, 5, seed=1)
    radial, tangential = radial_tangential(G, W)
    one = radial_tangential(G[1, 2], W[1, 2])
    torch.testing.assert_close((radial[1, 2], tangential[1, 2]), one)
    half = radial_tangential(G.bfloat16(), W.bfloat16())
    assert half[0].dtype == half[1].dtype == torch.float32
    for s in (1e-30, 1e30):  # |W|_F^2 would be 0 or inf in float32
        torch.testing.assert_close(
            radial_tangential(G.float(), s * W.float())[0], radial.float()
        )


# --- the two defects


def test_a_normalised_map_is_scale_invariant():
    W = randn(4, 3, seed=5)
    # float64 rounding of one division, about 1e-16
    assert scale_defect(normalised_map, W) < 1e-14
    assert (
        abs(euler_defect(lambda W: (normalised_map(W) * randn(7, 4, seed=6)).sum(), W))
        < 1e-14
    )
    assert scale_defect(normalised_map, W.float()) < 1e-5  # float32 rounding, about 1e-7


def test_an_epsilon_in_the_norm_shows():
    def f(W: Tensor) -> Tensor:
        Y = randn(7, 3, seed=99) @ W.T
        return Y / (Y.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    # At scale 1e-2 the mean square is of order 1e-4, so that 1e-6 changes the norm by about
    # half a percent.
    assert 1e-3 < scale_defect(f, randn(4, 3, seed=5)) < 0.5


@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6), st.sampled_from([1, 2, 3])
)
@settings(deadline=None)
def test_defects_of_a_homogeneous_function_of_degree_d(m, n, seed, d):
    W = randn(m, n, seed=seed)
    # at the largest scale, a = 100
    assert scale_defect(lambda W: W**d, W) == pytest.approx(100**d - 1)
    assert euler_defect(lambda W: (W**2).sum() ** (d / 2), W) == pytest.approx(1)
    assert euler_defect(lambda W: -W.norm(), W) == pytest.approx(-1)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6), st.floats(-20, 20))
@settings(deadline=None)
def test_euler_defect_is_the_cosine_with_the_gradient(m, n, seed, exponent):
    W, A = 10**exponent * randn(m, n, seed=seed), randn(m, n, seed=seed + 1)
    expected = float((W * A).sum() / (W.norm() * A.norm()))
    assert euler_defect(lambda W: 1e-20 * (W * A).sum(), W) == pytest.approx(
        expected, abs=ROUNDING
    )


def test_scales_and_a_value_of_zero():
    assert (
        SCALES[0] == pytest.approx(1e-2)
        and SCALES[-1] == pytest.approx(1e2)
        and 1.0 in SCALES
    )
    assert scale_defect(lambda W: 0 * W, torch.ones(2, 2)) == 0
    assert scale_defect(lambda W: W - 1, torch.ones(2, 2)) == math.inf
    assert scale_defect(lambda W: W.argmax(), torch.ones(2, 2)) == 0  # integer values too


def test_euler_defect_of_a_zero_gradient_and_of_a_stack():
    assert euler_defect(lambda W: torch.relu(-W).sum(), torch.ones(2, 2)) == 0.0
    assert euler_defect(lambda W: W.square().sum(), torch.ones(3, 2, 2)) == pytest.approx(1)
    W = torch.ones(2, 2)
    with torch.no_grad():
        assert euler_defect(lambda W: W.sum(), W) == 1.0
    assert not W.requires_grad and W.grad is None


# --- the subdifferential of the nuclear norm


@given(cases())
@settings(deadline=None, max_examples=200)
def test_a_projected_direction_is_a_subgradient(case):
    """Convexity: |X|_* >= |W|_* + <P, X - W> for every X, near and far."""
    W, _, G, seed = case
    P = project_subdifferential(G, W)
    for X in (
        randn(*W.shape, seed=seed),
        0 * W,
        W - 0.1 * P,
        W + 1e-3 * randn(*W.shape, seed=seed + 1),
    ):
        assert nuclear(X) >= nuclear(W) + float((P * (X - W)).sum()) - ROUNDING


@given(cases())
@settings(deadline=None)
def test_projection_is_idempotent_and_fixes_members(case):
    W, rank, G, seed = case
    P, member = project_subdifferential(G, W), random_member(W, rank, seed)
    torch.testing.assert_close(project_subdifferential(P, W), P, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(
        project_subdifferential(member, W), member, rtol=0, atol=ROUNDING
    )
    assert in_subdifferential(P, W) and in_subdifferential(member, W)


@given(cases())
@settings(deadline=None, max_examples=200)
def test_no_member_is_nearer_than_the_projection(case):
    W, rank, G, seed = case
    P = project_subdifferential(G, W)
    for i in range(10):
        Q = random_member(W, rank, seed + i)
        assert float((G - P).norm()) <= float((G - Q).norm()) + ROUNDING
        # the angle that characterises a projection
        assert float(((G - P) * (Q - P)).sum()) <= ROUNDING


@given(cases())
@settings(deadline=None, max_examples=200)
def test_membership_is_unit_spectral_norm_and_equality_in_the_duality(case):
    """G is a subgradient at W exactly if |G|_2 <= 1 and <G, W> = |W|_*: nothing of the
    SVD's bases in it."""
    W, rank, G, seed = case
    for X in (
        G,
        random_member(W, rank, seed),
        random_member(W, rank, seed) + 0.01 * G,
        torch.zeros_like(W),
    ):
        gap = max(
            float(torch.linalg.matrix_norm(X, 2)) - 1, nuclear(W) - float((X * W).sum())
        )
        # Either way with room: the distance is of the order of the gap or of its root, and
        # the tolerance is 1e-6.
        if gap < 1e-14 * 100 or gap > 1e-3:
            assert bool(in_subdifferential(X, W, tol=1e-6)) == (gap < 1e-3)


@pytest.mark.parametrize(("m", "n"), [(4, 4), (5, 3), (3, 5)])
def test_at_full_rank_the_only_subgradient_is_the_polar_factor(m, n):
    W = matrix_of_rank(m, n, min(m, n), seed=0)
    U, _, Vh = torch.linalg.svd(W, full_matrices=False)
    torch.testing.assert_close(
        project_subdifferential(9 * randn(m, n, seed=3), W), U @ Vh, rtol=0, atol=ROUNDING
    )
    W = W.requires_grad_()
    torch.linalg.matrix_norm(W, "nuc").backward()
    assert in_subdifferential(W.grad, W.detach())  # autograd agrees


def test_at_zero_the_set_is_the_spectral_unit_ball():
    W, G = torch.zeros(4, 3, dtype=torch.float64), randn(4, 3, seed=1)
    U, S, Vh = torch.linalg.svd(G, full_matrices=False)
    torch.testing.assert_close(project_subdifferential(G, W), (U * S.clamp(max=1)) @ Vh)
    assert in_subdifferential(0.99 * G / S[0], W) and not in_subdifferential(
        1.01 * G / S[0], W
    )


@pytest.mark.parametrize(
    ("m", "n", "rank"), [(4, 4, 4), (4, 4, 3), (4, 4, 1), (5, 3, 3), (5, 3, 2), (3, 4, 0)]
)
def test_fan_dimension_is_the_dimension_of_the_sampled_set(m, n, rank):
    W = matrix_of_rank(m, n, rank, seed=7)
    directions = 0.1 * randn(m * n + 3, m, n, seed=8)
    members = project_subdifferential(directions, W.expand_as(directions))
    differences = (members[1:] - members[0]).flatten(1)
    dimension = int(torch.linalg.matrix_rank(differences, atol=1e-8, rtol=0.0))
    assert dimension == fan_dimension(m, n, rank)


def test_stacks_of_different_ranks_and_lower_precision():
    W = torch.stack([matrix_of_rank(5, 4, rank, seed=rank) for rank in (0, 2, 4)])
    G = randn(3, 5, 4, seed=2)
    P = project_subdifferential(G, W)
    torch.testing.assert_close(
        P, torch.stack([project_subdifferential(g, w) for g, w in zip(G, W, strict=True)])
    )
    assert in_subdifferential(torch.stack([P[0], G[1], P[2]]), W).tolist() == [
        True,
        False,
        True,
    ]
    single = project_subdifferential(G.float(), W.float())
    assert single.dtype == torch.float32
    # float32 eps times the condition number of 4
    torch.testing.assert_close(single, P.float(), rtol=0, atol=1e-5)
    assert bool(in_subdifferential(single, W.float()).all())


def test_autocast_around_a_projection_changes_nothing():
    G, W = randn(5, 4, seed=2).float(), matrix_of_rank(5, 4, 2, seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = project_subdifferential(G, W)
    assert torch.equal(inside, project_subdifferential(G, W))


def test_rtol_decides_what_is_zero():
    W = torch.diag(torch.tensor([1.0, 0.1]))
    G = torch.diag(torch.tensor([1.0, 0.5]))
    assert not in_subdifferential(G, W) and in_subdifferential(G, W, rtol=0.2)
    assert in_subdifferential(G, W, tol=0.5)  # the distance is 0.5, below 0.5 * sqrt(2)


# --- errors

ONES = torch.ones(2, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: radial_tangential(ONES, torch.zeros(2, 2)),
            ValueError,
            "W must not be zero",
        ),
        (
            lambda: radial_tangential(ONES.expand(2, 2, 2), torch.stack([ONES, 0 * ONES])),
            ValueError,
            "W must not be",
        ),
        (
            lambda: radial_tangential(torch.ones(3, 2), ONES),
            ValueError,
            r"G must have the shape of W, \(2, 2\), got",
        ),
        (
            lambda: radial_tangential([1.0], ONES),
            TypeError,
            "G must be a torch.Tensor, got list",
        ),
        (lambda: project_subdifferential(ONES, ONES / 0), ValueError, "W must be finite"),
        (lambda: project_subdifferential(ONES, ONES, rtol=1), ValueError, "rtol must be"),
        (
            lambda: in_subdifferential(ONES, ONES, tol=-1.0),
            ValueError,
            "tol must be a finite number >= 0, got -1.0",
        ),
        (
            lambda: scale_defect(lambda W: W, ONES, scales=()),
            ValueError,
            "scales must hold at least one number",
        ),
        (
            lambda: scale_defect(lambda W: W, ONES, scales=(1.0, -1.0)),
            ValueError,
            "scales must be .* > 0, got -1.0",
        ),
        (
            lambda: scale_defect(lambda W: 1 / (W - W), ONES),
            ValueError,
            r"f\(1 W\) must be finite",
        ),
        (
            lambda: scale_defect(lambda W: 1.0, ONES),
            TypeError,
            "f must return a torch.Tensor, got float",
        ),
        (
            lambda: scale_defect(lambda W: W, torch.ones(2)),
            ValueError,
            "W must be a matrix",
        ),
        (
            lambda: euler_defect(lambda W: W, ONES),
            ValueError,
            r"f must return a scalar, got shape \(2, 2\)",
        ),
        (
            lambda: euler_defect(lambda W: W.detach().sum(), ONES),
            ValueError,
            "f must depend on W",
        ),
        (
            lambda: euler_defect(lambda W: W.sum(), 0 * ONES),
            ValueError,
            "W must not be zero",
        ),
        (
            lambda: euler_defect(lambda W: (W - 1).abs().sqrt().sum(), ONES),
            ValueError,
            r"grad f\(W\) must be finite",
        ),
        (lambda: fan_dimension(0, 2, 0), ValueError, "m must be an integer >= 1, got 0"),
        (lambda: fan_dimension(2, 2.0, 0), TypeError, "n must be an integer"),
        (
            lambda: fan_dimension(3, 2, -1),
            ValueError,
            "rank must be an integer >= 0, got -1",
        ),
        (
            lambda: fan_dimension(3, 2, 3),
            ValueError,
            r"rank must be an integer <= min\(m, n\) = 2, got 3",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_matrix_made_in_inference_mode_has_a_gradient_too():
    with torch.inference_mode():
        W = torch.ones(2, 2)
        assert euler_defect(lambda W: W.sum(), W) == pytest.approx(1)
    assert euler_defect(lambda W: W.sum(), W) == pytest.approx(1)


@pytest.mark.parametrize(
    "scales", ["ab", 3, None, iter([1.0]), np.array(1.0), np.ones((2, 1))]
)
def test_what_are_no_scales(scales):
    with pytest.raises(TypeError, match=r"^scales must be a list of numbers > 0"):
        scale_defect(lambda W: W, ONES, scales=scales)


def test_scales_may_be_an_array_or_whole_numbers_beyond_64_bits():
    assert scale_defect(lambda W: W, ONES, scales=np.array([1.0, 3.0])) == 2
    assert scale_defect(lambda W: W / W.norm(), ONES.double(), scales=(10**20,)) < 1e-12


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (None, TypeError, "f must be a function, got NoneType"),
        (lambda W: W.cfloat(), TypeError, "f must return real numbers"),
        (lambda W: W.to("meta"), TypeError, r"f\(W\) must hold data"),
        (lambda W: W.to_sparse(), TypeError, r"f\(W\) must be a dense tensor"),
    ],
)
@pytest.mark.parametrize("defect", [scale_defect, euler_defect])
def test_functions_that_are_none(defect, f, error, message):
    with pytest.raises(error, match="^" + message):
        defect(f, ONES)


def test_a_function_must_keep_its_shape():
    with pytest.raises(ValueError, match=r"^f must return one shape"):
        scale_defect(lambda W: W[W > 1], ONES, scales=(1.0, 2.0))


def test_tol_is_checked_before_the_work():
    with pytest.raises(ValueError, match=r"^tol must be"):
        in_subdifferential(ONES, ONES, tol=10**400)


def test_the_dimension_of_numpy_sizes_does_not_wrap_around():
    assert fan_dimension(np.int8(100), np.int8(100), np.int8(0)) == 10_000
    with pytest.raises(
        ValueError, match=r"^rank must .* got an integer of about 401 digits"
    ):
        fan_dimension(2, 2, 10**400)


# ---- the matrices of a model


class OneLayer(nn.Module):
    """Attention with QK-Norm and values behind no norm, with dropout."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(8, 8, bias=False) for name in "qkvo"})
            for _ in range(2)
        )
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(8, 7)

    def forward(self, tokens, scale=1.0):
        x = self.embedding(tokens)
        for block in self.blocks:
            q, k = (F.rms_norm(block[name](x), (8,), eps=0.0) for name in "qk")
            x = x + block["o"](F.scaled_dot_product_attention(q, k, block["v"](x)))
        return scale * self.head(self.dropout(x))


def by_hand(model, name, tokens, a):
    """|f(a W) - f(W)| / |f(W)|, with the weight changed in place and put back."""
    W = model.get_parameter(name)
    with torch.no_grad():
        before, held = model(tokens), W.detach().clone()
        W.mul_(a)
        after = model(tokens)
        W.copy_(held)
    return float((after - before).norm() / before.norm())


def test_scale_defects_are_those_of_each_matrix_changed_by_hand():
    torch.manual_seed(0)
    model, tokens = OneLayer().double(), torch.randint(7, (3, 5))
    before = {name: W.clone() for name, W in model.state_dict().items()}
    found = scale_defects(model, tokens)
    assert model.training and model.dropout.training
    assert all(torch.equal(W, before[name]) for name, W in model.state_dict().items())
    assert set(found) == {n for n, W in model.named_parameters() if W.ndim > 1}
    model.eval()
    for name, defect in found.items():
        expected = max(by_hand(model, name, tokens, a) for a in (0.5, 2.0))
        if name.endswith(("q.weight", "k.weight")):
            assert defect < 1e-12
        else:
            assert defect > 0.01
        assert defect == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_scale_defects_take_what_a_model_takes():
    torch.manual_seed(0)
    model, tokens = OneLayer().eval(), torch.randint(7, (3, 5))
    chosen = dict(list(model.named_parameters())[1:2])
    found = scale_defects(model, tokens, chosen)
    assert list(found) == list(chosen)
    assert scale_defects(model, (tokens, 2.0), chosen).keys() == found.keys()
    assert scale_defects(model, {"tokens": tokens, "scale": 1.0}, chosen) == found
    assert scale_defects(model, [tokens, 1.0], chosen) == found
    wrapped = nn.DataParallel(model)
    (W,) = chosen.values()
    named = {name: V for name, V in wrapped.named_parameters() if V is W}
    assert list(scale_defects(wrapped, tokens, named).values()) == list(found.values())
    model.forward = lambda tokens, own=model.forward: {"logits": own(tokens)}
    assert scale_defects(model, tokens, chosen) == found


class Experts(nn.Module):
    """A stack of experts, of which the answer is the sum."""

    def __init__(self):
        super().__init__()
        self.stack = nn.Parameter(torch.ones(3, 2, 4))
        self.gain = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.gain * (x @ self.stack.mT).sum(0)


def test_a_stack_of_matrices_is_measured_as_one():
    assert scale_defects(Experts(), torch.ones(5, 4)) == {"stack": 1.0}


def test_parts_of_a_model_stay_in_evaluation_where_they_were():
    model = OneLayer()
    model.dropout.eval()
    before = {name: module.training for name, module in model.named_modules()}
    scale_defects(model, torch.zeros(1, 2).long())
    assert {name: module.training for name, module in model.named_modules()} == before


def test_of_logits_and_hidden_states_the_logits_are_the_answer():
    model, tokens = OneLayer().eval(), torch.randint(7, (3, 5))
    expected = scale_defects(model, tokens)
    model.forward = lambda tokens, own=model.forward: {
        "last_hidden_state": torch.ones(2), "logits": own(tokens),
    }  # fmt: skip
    assert scale_defects(model, tokens) == expected


@pytest.mark.parametrize(
    ("matrices", "scales", "message"),
    [
        ({"nobody": torch.ones(2, 2)}, (2.0,), r"matrices must be parameters .*nobody"),
        ([torch.ones(2, 2)], (2.0,), "matrices must be of type Mapping"),
        (None, (0.0,), "scales must be"),
    ],
)
def test_scale_defects_refuse(matrices, scales, message):
    model = OneLayer()
    with pytest.raises((TypeError, ValueError), match=message):
        scale_defects(model, torch.zeros(1, 2).long(), matrices, scales=scales)
    assert model.training
    with pytest.raises(TypeError, match="model must be of type Module"):
        scale_defects(torch.ones(2, 2), torch.ones(2))


def test_scale_defects_of_a_model_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen3Config(
        vocab_size=11, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, use_cache=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.Qwen3ForCausalLM(config)
    with torch.no_grad():
        for W in model.parameters():
            W.mul_(50 if W.ndim > 1 else 1)  # far above the epsilon of the norms
    found = scale_defects(model, {"input_ids": torch.randint(11, (2, 6))})
    free = {name for name, defect in found.items() if defect < 1e-3}
    assert {name.split(".")[-2] for name in free} == {"q_proj", "k_proj"}
