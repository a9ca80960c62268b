"""The decay rules against float64 SVDs."""

import math

import oracles
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from weights import NO_STRENGTHS, conditioned, gaussian, rtol_of, svdvals

from lrdlib.decay import (
    PARTS,
    frobenius_decay_,
    low_rank_decay_,
    low_rank_update_,
    proximal_decay_,
    strength,
    weight_decay_to_halve,
)
from lrdlib.geometry import radial_tangential
from lrdlib.spectral import half_time

RULES = {
    "frobenius": frobenius_decay_,
    "low_rank": low_rank_decay_,
    "proximal": proximal_decay_,
}
NAN, INF = float("nan"), float("inf")
# Polar Express sends singular values above 1e-3 of the starting norm to 1 within 1.4e-3
# (polar_factor's docstring)
POLAR_ERROR = 1.5e-3
fast = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
shapes_of_stacks = st.tuples(
    st.lists(st.integers(1, 3), max_size=2),
    st.integers(1, 9),
    st.integers(1, 9),
    st.booleans(),
).map(
    lambda drawn: (*drawn[0], *((drawn[1], drawn[2]) if drawn[3] else (drawn[2], drawn[1])))
)


# --- the three rules on one matrix or a stack


@fast
@given(
    shape=shapes_of_stacks,
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    rule=st.sampled_from(list(RULES)),
    mode=st.sampled_from(["decoupled", "independent"]),
    scale=st.sampled_from(["norm", None]),
    weight_decay=st.floats(0, 2),
)
def test_each_rule_is_what_the_svd_says(
    shape, seed, dtype, rule, mode, scale, weight_decay
):
    W = gaussian(*shape, seed=seed, dtype=dtype)
    t = weight_decay * (0.25 if mode == "decoupled" else 1.0)
    expected = oracles.decayed_stack(W, t, rule=rule, scale=scale)
    options = {
        "frobenius": {},
        "low_rank": {"scale": scale, "method": "svd"},
        "proximal": {"scale": scale},
    }[rule]
    out = RULES[rule](W, weight_decay=weight_decay, lr=0.25, mode=mode, **options)
    assert out is W and W.shape == shape and W.dtype == dtype
    # Absolute: an error of eps |W| in singular vectors and values, times 1 + t s / |W| <=
    # 3. Random Gaussians this small have gaps and smallest singular values far above eps,
    # or (rank 1 of a tiny draw) count as exact zeros.
    size = float(expected.norm() + W.double().norm() + 1)
    torch.testing.assert_close(
        W.double(), expected, rtol=0, atol=100 * torch.finfo(dtype).eps * 9 * size
    )


@fast
@given(
    shape=shapes_of_stacks, seed=st.integers(0, 1000), scale=st.sampled_from(["norm", None])
)
def test_polar_express_is_the_svd_to_its_documented_error(shape, seed, scale):
    W = conditioned(*shape, seed=seed)
    t = 0.3
    expected = oracles.decayed_stack(W, t, rule="low_rank", scale=scale)
    low_rank_decay_(W, weight_decay=t, scale=scale)
    # each singular value moves by t s, s <= 1 here, times (1 +- error), and |polar|_F is
    # off by as much
    assert float((W - expected).norm(dim=(-2, -1)).max()) < 2 * t * POLAR_ERROR * 9**0.5


@pytest.mark.parametrize("method, steps", [("cubic", 40), ("polar_express", 12)])
def test_other_methods_and_steps_reach_the_svd(method, steps):
    W, exact = conditioned(6, 4), conditioned(6, 4)
    low_rank_decay_(W, weight_decay=0.3, method=method, steps=steps)
    low_rank_decay_(exact, weight_decay=0.3, method="svd")
    # both have converged quadratically
    torch.testing.assert_close(W, exact, rtol=0, atol=1e-9)


def test_few_cubic_steps_are_nearly_plain_shrinkage():
    """The first public code's five cubic steps move a small singular value by 7.6 x, not to
    1."""
    W = torch.diag(torch.tensor([1.0, 1e-4], dtype=torch.float64))
    low_rank_decay_(W, weight_decay=1e-2, scale=None, method="cubic", steps=5)
    assert float(W[1, 1]) == pytest.approx(1e-4 * (1 - 7.6e-2), rel=1e-3)


@pytest.mark.parametrize("rule", list(RULES))
def test_decoupled_is_independent_times_lr(rule):
    A, B = gaussian(5, 3, dtype=torch.float64), gaussian(5, 3, dtype=torch.float64)
    RULES[rule](A, weight_decay=0.5, lr=0.2, mode="decoupled")
    RULES[rule](B, weight_decay=0.1, lr=123.0, mode="independent")  # lr is not used
    torch.testing.assert_close(A, B, rtol=1e-14, atol=0)  # 0.5 * 0.2 is 0.1 to one rounding
    assert (
        strength(0.5, 0.2, "decoupled") == 0.5 * 0.2
        and strength(0.5, 0.2, "independent") == 0.5
    )


def test_lr_defaults_to_one_and_mode_to_decoupled():
    for decay in RULES.values():
        torch.testing.assert_close(
            decay(gaussian(4, 4), weight_decay=0.1),
            decay(gaussian(4, 4), weight_decay=0.1, lr=1.0, mode="decoupled"),
            rtol=0,
            atol=0,
        )


@pytest.mark.parametrize("rule", ["low_rank", "proximal"])
def test_scale_norm_makes_the_decay_relative(rule):
    """With scale "norm" decay commutes with scaling W; with None it takes off the same
    absolute amount."""
    W, big = conditioned(5, 5), 100 * conditioned(5, 5)
    RULES[rule](W, weight_decay=0.1, scale="norm")
    RULES[rule](big, weight_decay=0.1, scale="norm")
    torch.testing.assert_close(big, 100 * W, rtol=1e-9, atol=1e-9)
    W, big = conditioned(5, 5), 100 * conditioned(5, 5)
    RULES[rule](big, weight_decay=0.1, scale=None)
    loss = svdvals(100 * W) - svdvals(big)
    torch.testing.assert_close(
        loss, torch.full_like(loss, 0.1), rtol=2 * POLAR_ERROR, atol=0
    )


@pytest.mark.parametrize("rule", ["low_rank", "proximal"])
def test_scale_norm_takes_t_times_the_norm_off(rule):
    """|t s polar(W)|_F = t |W|_F: the paper's adaptive factor, equal to the length that
    Frobenius decay takes off."""
    W = conditioned(6, 4)
    before = W.clone()
    RULES[rule](W, weight_decay=0.01)
    torch.testing.assert_close((W - before).norm(), 0.01 * before.norm(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 6, 2), (3, 2, 6)])
def test_weight_decay_may_be_one_number_per_run(rule, shape):
    strengths = [0.0, 0.1, 0.7]
    W = conditioned(*shape)
    alone = torch.stack(
        [RULES[rule](w.clone(), weight_decay=t) for w, t in zip(W, strengths, strict=True)]
    )
    expected = oracles.decayed_stack(W, strengths, rule=rule, scale="norm")
    RULES[rule](W, weight_decay=torch.tensor(strengths).view(3, 1, 1))
    # strengths are float32 tensors here and Python floats there
    torch.testing.assert_close(W, alone, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(W, expected, rtol=0, atol=0.7 * 4 * POLAR_ERROR)


@pytest.mark.parametrize("rule", list(RULES))
def test_weight_decay_may_be_a_zero_dimensional_tensor(rule):
    A = RULES[rule](conditioned(4, 3), weight_decay=torch.tensor(0.25, dtype=torch.float64))
    torch.testing.assert_close(
        A, RULES[rule](conditioned(4, 3), weight_decay=0.25), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("rule", ["low_rank", "proximal"])
def test_a_weight_decay_per_column_is_no_spectral_decay_and_refused(rule):
    """A tensor of shape (n,), such as a (runs,) that forgot its two axes, would scale
    columns."""
    W = gaussian(3, 3)
    before = W.clone()
    with pytest.raises((TypeError, ValueError), match="weight_decay"):
        RULES[rule](W, weight_decay=torch.tensor([0.1, 0.2, 0.3]))
    assert torch.equal(W, before)


@pytest.mark.parametrize("rule", list(RULES))
def test_a_weight_decay_for_another_number_of_runs_is_refused(rule):
    W = gaussian(2, 3, 3)
    before = W.clone()
    with pytest.raises((TypeError, ValueError), match="weight_decay"):
        RULES[rule](W, weight_decay=torch.ones(5, 1, 1))
    assert torch.equal(W, before)


@fast
@given(shape=shapes_of_stacks, seed=st.integers(0, 1000), t=st.floats(0, 3))
def test_singular_values_after_low_rank_decay(shape, seed, t):
    """|sigma - t|: a singular value below t overshoots 0 and comes back with its left
    vector flipped."""
    W = gaussian(*shape, seed=seed, dtype=torch.float64)
    S = svdvals(W)
    low_rank_decay_(W, weight_decay=t, scale=None, method="svd")
    torch.testing.assert_close(
        svdvals(W), (S - t).abs().sort(descending=True).values, rtol=1e-10, atol=1e-10
    )


@fast
@given(shape=shapes_of_stacks, seed=st.integers(0, 1000), t=st.floats(0, 3))
def test_singular_values_after_the_proximal_step(shape, seed, t):
    W = gaussian(*shape, seed=seed, dtype=torch.float64)
    S = svdvals(W)
    proximal_decay_(W, weight_decay=t, scale=None)
    torch.testing.assert_close(svdvals(W), (S - t).clamp(min=0), rtol=1e-10, atol=1e-10)


@fast
@given(shape=shapes_of_stacks, seed=st.integers(0, 1000), t=st.floats(1e-3, 1))
def test_the_parts_of_a_step_are_the_split_of_geometry(shape, seed, t):
    """Radial and tangential, with the adaptive scale or without; together the whole step."""
    for scale in (None, "norm"):
        W = conditioned(*shape, seed=seed)
        how = dict(weight_decay=t, mode="independent", scale=scale, method="svd")
        step = {part: W - low_rank_decay_(W.clone(), part=part, **how) for part in PARTS}
        radial, tangential = radial_tangential(step["both"], W)
        for part, expected in {"radial": radial, "tangential": tangential}.items():
            torch.testing.assert_close(step[part], expected, rtol=0, atol=1e-12)
        norms = torch.linalg.matrix_norm(W + 1e-6 * step["tangential"])
        torch.testing.assert_close(norms, torch.linalg.matrix_norm(W), rtol=1e-11, atol=0)


def test_a_part_may_be_a_number_per_run():
    W, t = conditioned(3, 5, 4), torch.tensor(0.1, dtype=torch.float64)
    radial = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64).view(3, 1, 1)
    tangential = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64).view(3, 1, 1)
    mixed = low_rank_update_(W.clone(), t, method="svd", part=(radial, tangential))
    for r, part in enumerate(("both", "radial", "tangential")):
        alone = low_rank_update_(W[r].clone(), t, method="svd", part=PARTS[part])
        torch.testing.assert_close(mixed[r], alone, rtol=0, atol=1e-12)


def test_overshoot_flips_the_sign_where_the_proximal_step_stops_at_zero():
    low, prox = (torch.diag(torch.tensor([2.0, 0.5])) for _ in range(2))
    low_rank_decay_(low, weight_decay=1.0, scale=None, method="svd")
    proximal_decay_(prox, weight_decay=1.0, scale=None)
    torch.testing.assert_close(low, torch.diag(torch.tensor([1.0, -0.5])))
    torch.testing.assert_close(prox, torch.diag(torch.tensor([1.0, 0.0])))
    for _ in range(
        5
    ):  # zero is a fixed point of the proximal step, a 2-cycle of the other: |0.5 - 1| = 0.5
        before = low.clone()
        low_rank_decay_(low, weight_decay=1.0, scale=None, method="svd")
    assert not torch.allclose(low, before)
    proximal_decay_(prox, weight_decay=1.0, scale=None)
    assert torch.equal(prox, torch.zeros(2, 2))
    assert torch.equal(proximal_decay_(prox, weight_decay=1.0), torch.zeros(2, 2))


@fast
@given(
    m=st.integers(1, 6),
    n=st.integers(1, 6),
    seed=st.integers(0, 1000),
    t=st.floats(0.01, 2),
    size=st.floats(-6, 0.5),
)
def test_the_proximal_step_is_the_minimum(m, n, seed, t, size):
    """argmin_X |X - W|_F^2 / 2 + t |X|_*: the objective is 1-strongly convex, so a change D
    costs |D|_F^2 / 2."""
    W = gaussian(m, n, seed=seed, dtype=torch.float64)
    X = proximal_decay_(W.clone(), weight_decay=t, scale=None)
    D = gaussian(m, n, seed=seed + 1, dtype=torch.float64) * 10**size

    def objective(Y):
        return float(((Y - W).square().sum() / 2) + t * svdvals(Y).sum())

    rounding = 1e-11 * (1 + objective(X + D))
    assert objective(X + D) >= objective(X) + float(D.square().sum()) / 2 - rounding
    assert objective(X) <= objective(W) + rounding


@pytest.mark.parametrize("rule", list(RULES))
def test_rank_one_and_zero_matrices(rule):
    zero = torch.zeros(3, 4, 2)
    assert torch.equal(RULES[rule](zero, weight_decay=0.5), torch.zeros(3, 4, 2))
    u, v = conditioned(4, 1), conditioned(1, 3)
    W = 5 * u @ v
    options = {"method": "svd"} if rule == "low_rank" else {}
    out = RULES[rule](W.clone(), weight_decay=0.5, **options)
    # a matrix of rank 1 is parallel to its polar factor: all three rules are plain
    # shrinkage
    torch.testing.assert_close(out, W / 2, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_no_decay_changes_nothing(rule, dtype):
    W = gaussian(5, 3, dtype=dtype)
    out = RULES[rule](W.clone(), weight_decay=0.0)
    # the proximal step puts an SVD together again
    torch.testing.assert_close(out, W, rtol=rtol_of(dtype), atol=1e-5)
    if rule != "proximal":
        assert torch.equal(out, W)


@pytest.mark.parametrize("rule", list(RULES))
def test_bfloat16_is_decayed_in_place(rule):
    W = conditioned(6, 4, dtype=torch.bfloat16)
    expected = oracles.decayed(W, 0.2, rule=rule, scale="norm")
    out = RULES[rule](W, weight_decay=0.2)
    assert out is W and W.dtype == torch.bfloat16
    # three decimal digits: 2^-8 for W itself, and a polar factor computed in the same
    # precision
    torch.testing.assert_close(W.double(), expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("rule", list(RULES))
def test_views_and_transposes_are_decayed_in_place(rule):
    base = conditioned(4, 6)
    expected = oracles.decayed(base, 0.2, rule=rule, scale="norm")
    view = base.clone()
    RULES[rule](view.mT, weight_decay=0.2)
    torch.testing.assert_close(view, expected, rtol=0, atol=0.2 * 4 * POLAR_ERROR)
    storage = torch.zeros(8, 12, dtype=torch.float64)
    storage[::2, ::2] = base
    RULES[rule](storage[::2, ::2], weight_decay=0.2)
    torch.testing.assert_close(
        storage[::2, ::2], expected, rtol=0, atol=0.2 * 4 * POLAR_ERROR
    )
    assert not storage[1::2].any() and not storage[:, 1::2].any()


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_very_small_and_very_large_weights(rule, size):
    """Inside float32's range of squares, a decay with scale "norm" is the same at every
    size."""
    W = (conditioned(4, 4) * size).float()
    expected = oracles.decayed(W, 0.2, rule=rule, scale="norm") / size
    RULES[rule](W, weight_decay=0.2)
    torch.testing.assert_close(
        W.double() / size, expected, rtol=0, atol=0.2 * 4 * POLAR_ERROR
    )


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize(
    "W, error",
    [
        (torch.ones(3), ValueError),
        (torch.tensor(1.0), ValueError),
        (torch.ones(0, 3), ValueError),
        (torch.ones(3, 3, dtype=torch.int64), TypeError),
        (torch.ones(3, 3, dtype=torch.complex64), TypeError),
        (torch.eye(3).to_sparse(), TypeError),
        (torch.tensor([[1.0, NAN]]), ValueError),
        (torch.tensor([[1.0, INF]]), ValueError),
        ([[1.0]], TypeError),
        (None, TypeError),
    ],
    ids=[
        "vector",
        "number",
        "empty",
        "integer",
        "complex",
        "sparse",
        "nan",
        "inf",
        "list",
        "none",
    ],
)
def test_what_is_no_matrix_is_refused(rule, W, error):
    with pytest.raises(error, match=r"^W must be"):
        RULES[rule](W, weight_decay=0.1)


BAD_SETTINGS = [
    ({"weight_decay": -0.1}, ValueError, "weight_decay"),
    ({"weight_decay": NAN}, ValueError, "weight_decay"),
    ({"weight_decay": INF}, ValueError, "weight_decay"),
    ({"weight_decay": "1"}, TypeError, "weight_decay"),
    ({"weight_decay": None}, TypeError, "weight_decay"),
    ({"weight_decay": torch.tensor([[[0.1]], [[-0.1]]])}, ValueError, "weight_decay"),
    ({"weight_decay": torch.tensor(NAN)}, ValueError, "weight_decay"),
    ({"lr": -1.0}, ValueError, "lr"),
    ({"lr": NAN}, ValueError, "lr"),
    ({"lr": "fast"}, TypeError, "lr"),
    (
        {"mode": "coupled"},
        ValueError,
        "mode must be one of 'decoupled', 'independent', got 'coupled'",
    ),
    ({"mode": None}, ValueError, "mode"),
    ({"scale": "norms"}, ValueError, "scale must be one of 'norm', None, got 'norms'"),
    ({"method": "newton"}, ValueError, "method"),
    ({"steps": 0}, ValueError, "steps"),
    ({"steps": 2.0}, TypeError, "steps"),
    ({"method": "svd", "steps": 3}, ValueError, "steps"),  # as polar_factor says
]
OWN_SETTINGS = {
    "frobenius": set(),
    "low_rank": {"scale", "method", "steps"},
    "proximal": {"scale"},
}


@pytest.mark.parametrize(
    "rule, options, error, word",
    [
        (rule, *case)
        for rule in RULES
        for case in BAD_SETTINGS
        if set(case[0]) <= OWN_SETTINGS[rule] | {"weight_decay", "lr", "mode"}
    ],
)
def test_bad_settings_are_refused_and_change_nothing(rule, options, error, word):
    W = gaussian(2, 3, 3)
    before = W.clone()
    with pytest.raises(error, match=f"^{word}"):
        RULES[rule](W, **({"weight_decay": 0.1} | options))
    assert torch.equal(W, before)


@pytest.mark.parametrize("method", ["svd", "polar_express"])
def test_half_precision_works_or_is_one_clear_error(method):
    W = gaussian(4, 3, dtype=torch.float16)
    before = W.clone()
    try:
        low_rank_decay_(W, weight_decay=0.1, method=method)
    except TypeError as error:
        assert "W must be" in str(error) and torch.equal(W, before)
    else:
        # float16 has 11 bits
        expected = oracles.decayed(before, 0.1, rule="low_rank", scale="norm")
        torch.testing.assert_close(W.double(), expected, rtol=0, atol=0.02)


def test_a_parameter_that_requires_grad_is_decayed_outside_autograd():
    for decay in RULES.values():
        W = nn.Parameter(gaussian(3, 3))
        assert decay(W, weight_decay=0.1) is W
        assert W.requires_grad and W.is_leaf and W.grad_fn is None


def test_autocast_around_the_step_changes_nothing():
    """bfloat16 products would give the smallest singular directions the wrong sign (arXiv
    2505.16932, section 4)."""
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(50, 16, 16, generator=generator)
    for decay_ in (low_rank_decay_, proximal_decay_):
        plain = decay_(W.clone(), weight_decay=0.1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = decay_(W.clone(), weight_decay=0.1)
        assert torch.equal(plain, inside)


# --- arguments at the edge of what can be


@pytest.mark.parametrize("rule", RULES.values())
def test_a_whole_number_beyond_64_bits_is_a_strength(rule):
    W = conditioned(3, 3)
    expected = rule(W.clone(), weight_decay=1e20, lr=1e-20)
    assert torch.equal(rule(W.clone(), weight_decay=10**20, lr=1e-20), expected)
    with pytest.raises(ValueError, match=r"^weight_decay \* lr must be a finite number"):
        rule(W, weight_decay=1e200, lr=1e200)


@pytest.mark.parametrize("strength", [1e300, torch.tensor(1e300, dtype=torch.float64)])
@pytest.mark.parametrize("scale", ["norm", None])
def test_a_proximal_step_beyond_float32_leaves_zero(scale, strength):
    W = torch.stack([gaussian(3, 2), torch.zeros(3, 2)])
    proximal_decay_(W, weight_decay=strength, scale=scale)
    assert torch.equal(W, torch.zeros(2, 3, 2))


@pytest.mark.parametrize("rule", RULES.values())
def test_what_cannot_be_changed_in_place_is_refused(rule):
    with torch.inference_mode():
        W = torch.ones(2, 2)
        rule(W, weight_decay=0.1)  # here it can
    with pytest.raises(
        TypeError, match=r"^W must be .* in place, got one .* inference mode"
    ):
        rule(W, weight_decay=0.1)
    W = torch.ones(1, 2).expand(2, 2)
    with pytest.raises(ValueError, match=r"^W must have memory for each entry"):
        rule(W, weight_decay=0.1)


@pytest.mark.parametrize("made", NO_STRENGTHS.values(), ids=NO_STRENGTHS)
def test_tensors_that_are_no_strength(made):
    with pytest.raises(TypeError, match=r"^weight_decay must"):
        frobenius_decay_(torch.ones(2, 2), weight_decay=made())


def test_whole_numbers_may_be_strengths():
    W = frobenius_decay_(torch.ones(2, 1, 1), weight_decay=torch.tensor([[[0]], [[1]]]))
    assert W.flatten().tolist() == [1, 0]


# ---- a strength from a plan


@pytest.mark.parametrize("steps", [40, 200])
def test_the_weight_decay_to_halve_takes_so_many_steps(steps):
    """Proximal decay takes half of the singular values, L2 half of each."""
    lr, W = 1e-2, torch.randn(24, 24, generator=torch.Generator().manual_seed(3)).double()
    S = torch.linalg.svdvals(W)
    wd = weight_decay_to_halve(steps, lr, h=float(half_time(S)))
    taken = 0
    while (torch.linalg.svdvals(W) > 1e-12 * S[0]).sum() > 12:
        proximal_decay_(W, weight_decay=wd, lr=lr)
        taken += 1
    assert abs(taken / steps - 1) < 0.05
    W = torch.eye(2, dtype=torch.float64)
    for _ in range(steps):
        frobenius_decay_(
            W, weight_decay=weight_decay_to_halve(steps, lr, h=math.log(2)), lr=lr
        )
    assert abs(float(W[0, 0]) / 0.5 - 1) < 0.01


def test_half_of_the_rest_goes_in_each_half_time():
    """What the solution of after-ex-scale says of this seed."""
    W = torch.diag(
        torch.linalg.svdvals(
            torch.randn(
                64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64
            )
        )
    )
    alive = []
    for _ in range(109):
        alive.append(int((W.diagonal() > 0).sum()))
        proximal_decay_(W, weight_decay=0.02)
    assert next(n for n, left in enumerate(alive) if left <= 32) == 54
    assert alive[54] - alive[108] == 17


@pytest.mark.parametrize("rule", [low_rank_decay_, proximal_decay_])
def test_decay_of_a_block_diagonal_matrix_is_that_of_its_blocks_without_the_scale(rule):
    blocks = [
        size * torch.randn(n, n, generator=torch.Generator().manual_seed(n)).double()
        for n, size in ((4, 1.0), (3, 5.0))
    ]
    settings = {"method": "svd"} if rule is low_rank_decay_ else {}
    for scale in (None, "norm"):
        apart = [rule(W.clone(), weight_decay=0.1, scale=scale, **settings) for W in blocks]
        whole = rule(torch.block_diag(*blocks), weight_decay=0.1, scale=scale, **settings)
        same = torch.allclose(whole, torch.block_diag(*apart), atol=1e-10)
        assert same == (scale is None)


def test_the_weight_decay_to_halve_takes_the_half_time_as_it_comes():
    h = half_time(torch.tensor([2.0, 1.0]))
    given = weight_decay_to_halve(500, torch.tensor(1e-3), h=h)
    assert isinstance(given, float)
    assert given == pytest.approx(weight_decay_to_halve(500, 1e-3, h=float(h)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int64])
def test_whole_numbers_do_not_wrap_around(dtype):
    strength, kept = torch.tensor(2, dtype=dtype), {"mode": "independent"}
    W = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    assert torch.equal(frobenius_decay_(W.clone(), weight_decay=strength, **kept), -W)
    decayed = low_rank_decay_(
        W.clone(), weight_decay=strength, scale=None, method="svd", **kept
    )
    torch.testing.assert_close(decayed, torch.diag(torch.tensor([1.0, 0.0, -1.0])))


def test_entries_that_share_their_memory_are_refused():
    for strides in [(1, 1), (2, 1), (1, 2), (4, 2)]:
        W = torch.arange(25.0).as_strided((3, 3), strides)
        before = W.clone()
        places = {strides[0] * i + strides[1] * j for i in range(3) for j in range(3)}
        assert len(places) < 9  # some are written twice
        with pytest.raises(
            ValueError, match=r"^W must have memory for each entry, got shape"
        ):
            frobenius_decay_(W, weight_decay=0.5)
        assert torch.equal(W, before)


def test_entries_that_lie_between_others_are_decayed():
    """No longer side passes all of the shorter, and still no place is met twice."""
    W = torch.arange(1.0, 9.0).as_strided((2, 3), (3, 2))  # places 0 2 4, 3 5 7
    expected = W / 2
    assert torch.equal(frobenius_decay_(W, weight_decay=0.5), expected)
