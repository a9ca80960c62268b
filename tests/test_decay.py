"""The decay rules against float64 SVDs, and LowRankDecay under torch's own optimisers,
schedulers and modules."""

import copy
import io

import numpy as np
import oracles
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from lrdlib.decay import (
    PARTS,
    frobenius_decay_,
    low_rank_decay_,
    low_rank_update_,
    proximal_decay_,
    strength,
)
from lrdlib.geometry import radial_tangential
from lrdlib.matrices import select
from lrdlib.model import ModelConfig, init_params, role, stack_params
from lrdlib.optimizer import LowRankDecay

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


def gaussian(*shape, seed=0, dtype=torch.float32):
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


def conditioned(*shape, seed=0, dtype=torch.float64):
    """A stack of matrices with singular values in [0.1, 1], where every polar method is
    accurate."""
    U, S, Vh = torch.linalg.svd(
        gaussian(*shape, seed=seed, dtype=torch.float64), full_matrices=False
    )
    S = torch.linspace(1.0, 0.1, S.shape[-1], dtype=torch.float64).expand_as(S)
    return ((U * S.unsqueeze(-2)) @ Vh).to(dtype)


def rtol_of(dtype):
    """Rounding of an SVD and two products in this precision, with room for small
    matrices."""
    return {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 3e-2}[dtype]


def svdvals(W):
    return torch.linalg.svdvals(W.detach().double())


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


@pytest.mark.parametrize("part", list(PARTS))
def test_part_is_a_setting(part):
    W = nn.Parameter(conditioned(6, 4))
    how = dict(weight_decay=0.1, mode="independent", part=part)
    expected = low_rank_decay_(W.detach().clone(), **how)
    LowRankDecay([W], **how).step()
    torch.testing.assert_close(W.detach(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options", [{"part": "up"}, {"part": "radial", "rule": "proximal"}]
)
def test_a_part_that_there_is_not_is_refused(options):
    with pytest.raises(ValueError, match="part must be"):
        LowRankDecay([torch.ones(2, 2)], weight_decay=0.1, **options)


@pytest.mark.parametrize("later", ["parts", "check_finite", "part", "rule"])
def test_a_state_from_before_a_setting_existed_has_its_default(later):
    W = nn.Parameter(conditioned(4, 4, dtype=torch.float32))
    decay = LowRankDecay([W], weight_decay=0.1, mode="independent")
    state = decay.state_dict()
    expected = state["param_groups"][0].pop(later)
    decay.load_state_dict(state)
    decay.step()
    assert decay.param_groups[0][later] == expected


@pytest.mark.parametrize(
    "where, roles",
    [
        ("vo+mlp", ("value", "output", "up", "down")),
        ("embedding+head", ("embedding", "position", "head")),
        ("attention", ("query", "key", "value", "output")),
    ],
)
def test_select_takes_several_places(where, roles):
    config = ModelConfig(vocab=5, seq_len=3, classes=4, d_model=8, heads=2)
    params = init_params(config, torch.Generator().manual_seed(0))
    assert {role(name) for name in select(params, where)} == {*roles}


@pytest.mark.parametrize("where", ["qk+qk", "vo+", "", "qk+tail"])
def test_select_refuses_other_places(where):
    with pytest.raises(ValueError, match="which must be"):
        select({"0.query": torch.ones(2, 2)}, where)


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


# --- LowRankDecay


class Net(nn.Module):
    """Two blocks in a ModuleList, an embedding, a position table, norms with bias, and a
    head tied to the embedding."""

    def __init__(self, *, tied=True):
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.positions = nn.Parameter(gaussian(3, 8))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "attention": nn.MultiheadAttention(8, 2),
                    "norm": nn.LayerNorm(8),
                    "mlp": nn.Linear(8, 8),
                }
            )
            for _ in range(2)
        )
        self.head = nn.Linear(8, 7, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens):
        x = self.embedding(tokens) + self.positions
        for block in self.blocks:
            x = x + block["attention"](x, x, x, need_weights=False)[0]
            x = x + torch.tanh(block["mlp"](block["norm"](x)))
        return self.head(x)


def net(seed=0, **options):
    torch.manual_seed(seed)
    return Net(**options)


def loss_of(model):
    return model(torch.tensor([[0, 1, 2], [3, 4, 5]])).square().mean()


def parameters(*shapes, dtype=torch.float32):
    return [
        nn.Parameter(gaussian(*shape, seed=i, dtype=dtype))
        for i, shape in enumerate(shapes)
    ]


def copies(params):
    return [W.detach().clone() for W in params]


OPTIMIZERS = {
    "adamw": lambda params: torch.optim.AdamW(params, lr=1e-2, weight_decay=0.0),
    "sgd": lambda params: torch.optim.SGD(params, lr=1e-2, momentum=0.9),
    "muon": lambda params: torch.optim.Muon(params, lr=1e-2, weight_decay=0.0),
}


@pytest.mark.parametrize("mode", ["decoupled", "independent"])
@pytest.mark.parametrize("rule", ["low_rank", "proximal"])
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_attach_is_the_same_as_stepping_by_hand(name, rule, mode):
    by_hand, attached = net(), net()
    for model, attach in ((by_hand, False), (attached, True)):
        matrices = select(model, "attention+mlp")
        optimizer = OPTIMIZERS[name](list(matrices.values()))
        decay = LowRankDecay(matrices, weight_decay=0.05, rule=rule, mode=mode)
        if attach:
            decay.attach(optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
            if not attach:
                decay.step(lr=1e-2)
    for (name, W), other in zip(
        by_hand.named_parameters(), attached.parameters(), strict=True
    ):
        assert torch.equal(W, other), name
    start = dict(net().named_parameters())
    assert not torch.equal(start["blocks.0.mlp.weight"], attached.blocks[0]["mlp"].weight)


@pytest.mark.parametrize("rule", ["low_rank", "proximal"])
def test_a_step_is_the_function_on_each_matrix(rule):
    shapes = [
        (4, 4),
        (6, 3),
        (3, 6),
        (4, 4),
        (3, 6),
        (1, 5),
        (2, 6, 3),
        (2, 3, 6),
    ]
    params = parameters(*shapes, dtype=torch.float64)
    before = copies(params)
    LowRankDecay(params, weight_decay=0.3, rule=rule).step(lr=0.5)
    for W, start in zip(params, before, strict=True):
        alone = {"low_rank": low_rank_decay_, "proximal": proximal_decay_}[rule](
            start, weight_decay=0.3, lr=0.5
        )
        # batched and transposed, sums run in another order; steep polynomials magnify
        # rounding about 2e3 times
        torch.testing.assert_close(W.detach(), alone, rtol=1e-10, atol=1e-10)


@fast
@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=5
    ),
    scale=st.sampled_from(["norm", None]),
    rule=st.sampled_from(["low_rank", "proximal"]),
    lr=st.floats(0, 2),
)
def test_a_step_of_any_set_of_matrices_is_the_svd_of_each(shapes, scale, rule, lr):
    params = parameters(*shapes, dtype=torch.float64)
    before = copies(params)
    LowRankDecay(params, weight_decay=0.3, rule=rule, scale=scale, method="svd").step(lr=lr)
    for W, start in zip(params, before, strict=True):
        expected = oracles.decayed(start, lr * 0.3, rule=rule, scale=scale)
        torch.testing.assert_close(W.detach(), expected, rtol=1e-10, atol=1e-10)


def test_mixed_dtypes_in_one_decay():
    params = [
        *parameters((4, 4), dtype=torch.float64),
        *parameters((4, 4)),
        *parameters((4, 4), dtype=torch.bfloat16),
    ]
    before = copies(params)
    with pytest.warns(UserWarning, match=r"params\[2\] is bfloat16"):
        decay = LowRankDecay(params, weight_decay=0.1)
    decay.step(lr=1.0)
    for W, start in zip(params, before, strict=True):
        low_rank_decay_(start, weight_decay=0.1)
        torch.testing.assert_close(
            W.detach(), start, rtol=rtol_of(W.dtype), atol=rtol_of(W.dtype)
        )


def test_groups_have_their_own_settings():
    A, B, C, D = parameters((4, 4), (4, 4), (3, 5), (3, 5), dtype=torch.float64)
    before = copies([A, B, C, D])
    groups = [
        {"params": [A], "weight_decay": 0.2},
        {"params": B, "mode": "independent"},
        {"params": [C], "scale": None, "method": "svd"},
    ]
    decay = LowRankDecay(groups, weight_decay=0.1)
    decay.add_param_group({"params": [D], "rule": "proximal"})
    assert [group["weight_decay"] for group in decay.param_groups] == [0.2, 0.1, 0.1, 0.1]
    decay.step(lr=0.5)
    expected = [
        low_rank_decay_(before[0], weight_decay=0.1),
        low_rank_decay_(before[1], weight_decay=0.1),
        low_rank_decay_(before[2], weight_decay=0.05, scale=None, method="svd"),
        proximal_decay_(before[3], weight_decay=0.05),
    ]
    for W, other in zip((A, B, C, D), expected, strict=True):
        torch.testing.assert_close(W.detach(), other, rtol=1e-10, atol=1e-10)


def test_groups_of_the_optimizer_give_each_matrix_its_live_lr():
    A, B = parameters((4, 4), (4, 4), dtype=torch.float64)
    before = copies([A, B])
    optimizer = torch.optim.SGD([{"params": [A], "lr": 0.1}, {"params": [B], "lr": 0.4}])
    LowRankDecay([A, B], weight_decay=0.5).attach(optimizer)
    optimizer.step()  # no gradient: the optimiser itself moves nothing
    for W, start, lr in ((A, before[0], 0.1), (B, before[1], 0.4)):
        torch.testing.assert_close(
            W.detach(),
            low_rank_decay_(start, weight_decay=0.5, lr=lr),
            rtol=1e-10,
            atol=1e-10,
        )


def test_a_scheduler_drives_the_decay():
    A, B = parameters((4, 4), (3, 3), dtype=torch.float64)
    expected = copies([A, B])
    optimizer = torch.optim.AdamW(
        [{"params": [A]}, {"params": [B]}], lr=0.4, weight_decay=0.0
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, [lambda step: 0.5**step, lambda step: 1.0 / (1 + step)]
    )
    LowRankDecay([A, B], weight_decay=0.5).attach(optimizer)
    for step in range(4):
        optimizer.step()
        scheduler.step()
        low_rank_decay_(expected[0], weight_decay=0.5, lr=0.4 * 0.5**step)
        low_rank_decay_(expected[1], weight_decay=0.5, lr=0.4 / (1 + step))
        for W, other in zip((A, B), expected, strict=True):
            torch.testing.assert_close(W.detach(), other, rtol=1e-9, atol=1e-9)


def test_a_tensor_lr_is_live_too():
    (W,) = parameters((3, 3), dtype=torch.float64)
    start = W.detach().clone()
    optimizer = torch.optim.AdamW(
        [W], lr=torch.tensor(0.1, dtype=torch.float64), weight_decay=0.0
    )
    LowRankDecay([W], weight_decay=0.5).attach(optimizer)
    optimizer.param_groups[0]["lr"].fill_(0.3)
    optimizer.step()
    torch.testing.assert_close(
        W.detach(), low_rank_decay_(start, weight_decay=0.5, lr=0.3), rtol=1e-10, atol=1e-10
    )


def test_the_live_lr_survives_loading_an_optimizer_state():
    (W,) = parameters((3, 3), dtype=torch.float64)
    optimizer = torch.optim.SGD([W], lr=0.1)
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = 0.7
    LowRankDecay([W], weight_decay=0.5).attach(optimizer)
    optimizer.load_state_dict(state)
    start = W.detach().clone()
    optimizer.step()
    torch.testing.assert_close(
        W.detach(), low_rank_decay_(start, weight_decay=0.5, lr=0.7), rtol=1e-10, atol=1e-10
    )


def test_a_removed_handle_decays_no_more():
    (W,) = parameters((3, 3))
    optimizer = torch.optim.SGD([W], lr=0.1)
    handle = LowRankDecay([W], weight_decay=0.5).attach(optimizer)
    optimizer.step()
    handle.remove()
    start = W.detach().clone()
    optimizer.step()
    assert torch.equal(W, start)


def test_two_attached_are_elastic_decay_in_order():
    (W,) = parameters((4, 4), dtype=torch.float64)
    start = W.detach().clone()
    optimizer = torch.optim.SGD([W], lr=0.1)
    LowRankDecay([W], weight_decay=0.5).attach(optimizer)
    LowRankDecay([W], weight_decay=0.2, mode="independent", rule="proximal").attach(
        optimizer
    )
    optimizer.step()
    low_rank_decay_(start, weight_decay=0.5, lr=0.1)
    proximal_decay_(start, weight_decay=0.2)
    torch.testing.assert_close(W.detach(), start, rtol=1e-10, atol=1e-10)


def test_low_rank_decay_beside_the_optimizers_own_weight_decay():
    (W,) = parameters((4, 4), dtype=torch.float64)
    start = W.detach().clone()
    optimizer = torch.optim.AdamW([W], lr=0.1, weight_decay=0.3)
    LowRankDecay([W], weight_decay=0.5).attach(optimizer)
    # AdamW skips a parameter without gradient, its weight decay too
    W.grad = torch.zeros_like(W)
    optimizer.step()
    frobenius_decay_(start, weight_decay=0.3, lr=0.1)
    low_rank_decay_(start, weight_decay=0.5, lr=0.1)
    torch.testing.assert_close(W.detach(), start, rtol=1e-10, atol=1e-10)


def test_attach_wants_an_optimizer_that_trains_the_matrices():
    A, B = parameters((4, 4), (3, 2))
    optimizer = torch.optim.SGD([A], lr=0.1)
    with pytest.raises(
        ValueError, match=r"optimizer must train every decayed matrix.*\(3, 2\)"
    ):
        LowRankDecay([A, B], weight_decay=0.5).attach(optimizer)
    start = copies([A, B])
    optimizer.step()
    assert torch.equal(A, start[0])  # nothing stayed attached
    # needs no lr
    LowRankDecay([A, B], weight_decay=0.5, mode="independent").attach(optimizer)
    optimizer.step()
    assert not torch.equal(B, start[1])
    for wrong in (None, A, "adamw"):
        with pytest.raises(TypeError, match="optimizer must be"):
            LowRankDecay([A], weight_decay=0.5).attach(wrong)


def test_a_decoupled_matrix_added_after_attach_is_not_decayed_with_a_made_up_lr():
    A, B = parameters((4, 4), (4, 4))
    optimizer = torch.optim.SGD([A], lr=0.1)
    decay = LowRankDecay([A], weight_decay=0.5)
    decay.attach(optimizer)
    decay.add_param_group({"params": [B]})
    start = copies([A, B])
    with pytest.raises(ValueError, match="optimizer must train"):
        optimizer.step()
    assert torch.equal(A, start[0]) and torch.equal(B, start[1])


@pytest.mark.parametrize("lr", [None, -1.0, NAN, INF])
def test_a_decoupled_step_needs_a_sound_lr(lr):
    (W,) = parameters((3, 3))
    start = W.detach().clone()
    with pytest.raises(ValueError, match="lr must be"):
        LowRankDecay([W], weight_decay=0.1).step(lr)
    with pytest.raises(TypeError, match="lr must be"):
        LowRankDecay([W], weight_decay=0.1).step("1")
    assert torch.equal(W, start)
    LowRankDecay([W], weight_decay=0.1, mode="independent").step()
    assert not torch.equal(W, start)


@pytest.mark.parametrize("rule", ["low_rank", "proximal"])
@pytest.mark.parametrize("poison", [NAN, INF, -INF])
def test_a_nan_anywhere_stops_the_step_before_anything_changes(rule, poison):
    params = parameters((4, 4), (3, 5), (2, 2))
    decay = LowRankDecay(
        [{"params": params[:2]}, {"params": params[2:]}], weight_decay=0.5, rule=rule
    )
    with torch.no_grad():
        params[2][0, 1] = poison
    start = copies(params)
    with pytest.raises(ValueError, match=r"param_groups\[1\].*must be finite"):
        decay.step(lr=1.0)
    for W, other in zip(params, start, strict=True):
        assert torch.equal(torch.nan_to_num(W, 7.0), torch.nan_to_num(other, 7.0))


@pytest.mark.parametrize("rule", ["low_rank", "proximal"])
def test_without_the_check_a_nan_stays_in_its_own_matrix(rule):
    """As documented for check_finite=False: neither spread to its neighbours nor healed."""
    params = parameters((4, 4), (4, 4), dtype=torch.float64)
    healthy = params[0].detach().clone()
    decay = LowRankDecay(params, weight_decay=0.5, rule=rule, check_finite=False)
    with torch.no_grad():
        params[1][2, 1] = NAN
    decay.step(lr=1.0)
    alone = {"low_rank": low_rank_decay_, "proximal": proximal_decay_}[rule](
        healthy, weight_decay=0.5
    )
    torch.testing.assert_close(params[0].detach(), alone, rtol=1e-10, atol=1e-10)
    assert params[1].isnan().any()


@pytest.mark.parametrize("rule", ["low_rank", "proximal"])
def test_a_huge_finite_weight_is_an_error_or_an_answer_never_half_a_step(rule):
    """Squares of 1e30 overflow float32: either way no other matrix may be left half
    decayed, nor a weight made inf."""
    params = parameters((3, 3), (5, 5))
    with torch.no_grad():
        params[1].fill_(1e30)
    start = copies(params)
    try:
        LowRankDecay(params, weight_decay=0.5, rule=rule).step(lr=1.0)
    except ValueError:
        assert torch.equal(params[0], start[0]) and torch.equal(params[1], start[1])
    else:
        assert all(torch.isfinite(W).all() for W in params)


def test_a_weight_decay_that_does_not_fit_is_refused_before_anything_changes():
    small, stack = parameters((3, 3), (2, 4, 4))
    start = copies([small, stack])
    groups = [{"params": [small]}, {"params": [stack], "weight_decay": torch.ones(5, 1, 1)}]
    with pytest.raises((TypeError, ValueError), match="weight_decay"):
        LowRankDecay(groups, weight_decay=0.1).step(lr=1.0)
    assert torch.equal(small, start[0]) and torch.equal(stack, start[1])


def test_strengths_per_run_are_not_spread_over_separate_matrices():
    """(runs, 1, 1) fits a stack of runs; for three separate (m, n) matrices it must not
    become one strength each."""
    params = parameters((4, 4), (4, 4), (4, 4))
    start = copies(params)
    with pytest.raises((TypeError, ValueError), match="weight_decay"):
        LowRankDecay(params, weight_decay=torch.tensor([0.0, 0.1, 0.5]).view(3, 1, 1)).step(
            lr=1.0
        )
    assert all(torch.equal(W, other) for W, other in zip(params, start, strict=True))


def test_strengths_per_run_on_stacks_of_both_orientations():
    params = parameters((3, 4, 2), (3, 2, 4), (3, 4, 2), dtype=torch.float64)
    start, strengths = (
        copies(params),
        torch.tensor([0.0, 0.1, 0.5], dtype=torch.float64).view(3, 1, 1),
    )
    LowRankDecay(params, weight_decay=strengths).step(lr=1.0)
    for W, other in zip(params, start, strict=True):
        torch.testing.assert_close(
            W.detach(),
            low_rank_decay_(other.clone(), weight_decay=strengths),
            rtol=1e-10,
            atol=1e-10,
        )
        assert torch.equal(W[0], other[0])


def test_training_goes_on_after_a_step():
    """Gradients are neither needed nor touched; requires_grad and the graph of the next
    loss are as before."""
    model = net()
    matrices = select(model, "attention+mlp")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    LowRankDecay(matrices, weight_decay=0.1).attach(optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(model).backward()
        grads = {name: W.grad.clone() for name, W in matrices.items()}
        optimizer.step()
        for name, W in matrices.items():
            assert W.requires_grad and W.is_leaf
            assert torch.equal(W.grad, grads[name])


def test_decay_between_forward_and_backward_is_caught_by_autograd():
    W = nn.Parameter(gaussian(3, 3))
    loss = (W @ W).square().sum()
    LowRankDecay([W], weight_decay=0.1).step(lr=1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_parameters_without_gradients_and_frozen_parameters_are_decayed():
    W = gaussian(3, 3)
    start = W.clone()
    LowRankDecay([W], weight_decay=0.1).step(lr=1.0)
    torch.testing.assert_close(
        W, low_rank_decay_(start, weight_decay=0.1), rtol=1e-5, atol=1e-6
    )
    assert not W.requires_grad and W.grad is None


def test_state_dict_round_trip_through_a_file_without_pickle_of_our_own():
    params = parameters((4, 4), (3, 2))
    decay = LowRankDecay(
        [{"params": params[:1], "scale": None}, {"params": params[1:]}], weight_decay=0.25
    )
    file = io.BytesIO()
    torch.save(decay.state_dict(), file)
    file.seek(0)
    other = LowRankDecay(
        [{"params": params[:1]}, {"params": params[1:]}],
        weight_decay=0.0,
        mode="independent",
    )
    other.load_state_dict(torch.load(file, weights_only=True))
    for mine, theirs in zip(decay.param_groups, other.param_groups, strict=True):
        assert {k: v for k, v in mine.items() if k != "params"} == {
            k: v for k, v in theirs.items() if k != "params"
        }
    start = copies(params)
    other.step(lr=1.0)
    low_rank_decay_(start[0], weight_decay=0.25, scale=None)
    # float32
    torch.testing.assert_close(params[0].detach(), start[0], rtol=1e-5, atol=1e-6)


def test_state_dict_keeps_a_strength_per_run():
    (W,) = parameters((2, 3, 3))
    decay = LowRankDecay([W], weight_decay=torch.tensor([0.1, 0.2]).view(2, 1, 1))
    other = LowRankDecay([W], weight_decay=0.0)
    other.load_state_dict(copy.deepcopy(decay.state_dict()))
    assert torch.equal(
        other.param_groups[0]["weight_decay"], torch.tensor([0.1, 0.2]).view(2, 1, 1)
    )


def test_a_deep_copy_decays_its_own_copy():
    (W,) = parameters((3, 3))
    start = W.detach().clone()
    twin = copy.deepcopy(LowRankDecay([W], weight_decay=0.5))
    twin.step(lr=1.0)
    assert torch.equal(W, start)
    expected = low_rank_decay_(start, weight_decay=0.5)
    torch.testing.assert_close(
        twin.param_groups[0]["params"][0].detach(), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "params, error",
    [
        ([], ValueError),
        ({}, ValueError),
        (iter([]), ValueError),
        ([{"params": []}], ValueError),
        ([torch.ones(3)], ValueError),
        ([torch.ones(3, 3), torch.ones(3)], ValueError),
        ([torch.ones(3, 3, dtype=torch.int32)], TypeError),
        ([torch.eye(3).to_sparse()], TypeError),
        ([torch.tensor([[NAN]])], ValueError),
        ([None], TypeError),
        (None, TypeError),
        (5, TypeError),
        (
            torch.ones(2, 3, 3),
            TypeError,
        ),  # torch's optimizers refuse a bare tensor: its rows are not parameters
    ],
    ids=lambda value: str(value).replace("\n", "")[:24],
)
def test_what_cannot_be_decayed_is_refused(params, error):
    with pytest.raises(error, match=r"params(\[\d\])? must"):
        LowRankDecay(params, weight_decay=0.1)


def test_a_matrix_given_twice_is_refused():
    (W,) = parameters((3, 3))
    with pytest.raises(ValueError, match="more than one"):
        LowRankDecay([{"params": [W]}, {"params": [W]}], weight_decay=0.1)
    with pytest.raises(
        (ValueError, UserWarning), match="duplicate"
    ):  # torch warns, and pytest raises
        LowRankDecay([W, W], weight_decay=0.1)


def test_a_generator_a_mapping_and_groups_are_the_same():
    model = net()
    matrices = select(model, "attention+mlp")
    kinds = [
        matrices,
        list(matrices.values()),
        iter(matrices.values()),
        [{"params": list(matrices.values())}],
        [{"params": iter(matrices.values())}],
    ]
    for kind in kinds:
        decay = LowRankDecay(kind, weight_decay=0.1)
        assert [id(W) for W in decay.param_groups[0]["params"]] == [
            id(W) for W in matrices.values()
        ]


def test_a_group_may_hold_a_selection():
    """What `select` returns goes into a group as it goes into the constructor."""
    model = net()
    matrices = select(model, "attention+mlp")
    decay = LowRankDecay([{"params": matrices, "scale": None}], weight_decay=0.1)
    assert [id(W) for W in decay.param_groups[0]["params"]] == [
        id(W) for W in matrices.values()
    ]


def test_named_parameters_work_or_are_one_clear_error():
    """torch's own optimizers take model.named_parameters()."""
    layer = nn.Linear(3, 3, bias=False)
    try:
        decay = LowRankDecay(layer.named_parameters(), weight_decay=0.1)
    except TypeError as error:
        assert "params[0] must be a torch.Tensor, got tuple" in str(error)
    else:
        assert decay.param_groups[0]["params"][0] is layer.weight


@pytest.mark.parametrize(
    "options, error, word",
    [
        ({"weight_decay": -0.1}, ValueError, "weight_decay"),
        ({"weight_decay": NAN}, ValueError, "weight_decay"),
        ({"weight_decay": "0.1"}, TypeError, "weight_decay"),
        ({"weight_decay": torch.tensor(-1.0)}, ValueError, "weight_decay"),
        ({"mode": "coupled"}, ValueError, "mode"),
        ({"scale": "fro"}, ValueError, "scale"),
        ({"method": "qr"}, ValueError, "method"),
        ({"rule": "lrd"}, ValueError, "rule"),
        ({"check_finite": "no"}, TypeError, "check_finite"),
        ({"steps": 0}, ValueError, "steps"),
        ({"method": "svd", "steps": 5}, ValueError, "steps"),
    ],
)
def test_bad_settings_are_refused_in_the_constructor_and_in_groups(options, error, word):
    A, B = parameters((3, 3), (3, 3))
    with pytest.raises(error, match=word):
        LowRankDecay([A], **({"weight_decay": 0.1} | options))
    with pytest.raises(error, match=word):
        LowRankDecay([{"params": [A], **options}], weight_decay=0.1)
    decay = LowRankDecay([A], weight_decay=0.1)
    with pytest.raises(error, match=word):
        decay.add_param_group({"params": [B], **options})
    assert len(decay.param_groups) == 1


def test_an_unknown_key_in_a_group_is_refused():
    A, B = parameters((3, 3), (3, 3))
    with pytest.raises(ValueError, match="lr"):
        LowRankDecay([{"params": [A], "lr": 0.1}], weight_decay=0.1)
    decay = LowRankDecay([A], weight_decay=0.1)
    with pytest.raises(ValueError, match="wd"):
        decay.add_param_group({"params": [B], "wd": 0.1})
    assert len(decay.param_groups) == 1


def test_adding_a_group_leaves_the_callers_dictionary_alone():
    A, B = parameters((3, 3), (3, 3))
    decay, group = LowRankDecay([A], weight_decay=0.1), {"params": B}
    decay.add_param_group(group)
    assert list(group) == ["params"] and group["params"] is B


# --- select

BLOCK = {"query", "key", "value", "output", "up", "down"}


@pytest.mark.parametrize("stacked", [False, True])
def test_select_on_lrdlib_parameters(stacked):
    config = ModelConfig(vocab=7, seq_len=3, classes=7, d_model=8, heads=2, layers=2)
    params = init_params(config, torch.Generator().manual_seed(0))
    params = stack_params([params] * 2) if stacked else params
    assert set(select(params, "attention+mlp")) == {
        f"{layer}.{name}" for layer in (0, 1) for name in BLOCK
    }
    assert set(select(params, "qk")) == {"0.query", "0.key", "1.query", "1.key"}
    assert set(select(params, lambda name, W: role(name) == "head")) == {"head"}
    assert all(W is params[name] for name, W in select(params, "attention+mlp").items())


def test_select_on_a_transformer_encoder():
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    names = {
        "self_attn.in_proj_weight",
        "self_attn.out_proj.weight",
        "linear1.weight",
        "linear2.weight",
    }
    assert set(select(encoder, "attention+mlp")) == {
        f"layers.{i}.{name}" for i in (0, 1) for name in names
    }
    outer = nn.Sequential(nn.Embedding(5, 8), encoder, nn.Linear(8, 5))
    assert set(select(outer, "attention+mlp")) == {
        f"1.layers.{i}.{name}" for i in (0, 1) for name in names
    }


def test_select_on_a_gpt_like_module_leaves_embedding_positions_and_head():
    names = {"attention.in_proj_weight", "attention.out_proj.weight", "mlp.weight"}
    for tied in (True, False):
        model = net(tied=tied)
        assert set(select(model, "attention+mlp")) == {
            f"blocks.{i}.{name}" for i in (0, 1) for name in names
        }


def test_select_when_the_model_is_itself_a_module_list():
    assert set(
        select(nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)]), "attention+mlp")
    ) == {"0.weight", "1.weight"}


def test_select_leaves_a_tied_embedding_inside_a_list_alone():
    """A matrix shared by an embedding and a block is named once, as torch names it, and is
    an embedding."""
    model = nn.Module()
    model.tables = nn.ModuleList([nn.Embedding(5, 3)])
    model.blocks = nn.ModuleList([nn.Linear(3, 5, bias=False), nn.Linear(3, 3, bias=False)])
    model.blocks[0].weight = model.tables[0].weight
    assert set(select(model, "attention+mlp")) == {"blocks.1.weight"}


def test_select_by_predicate_on_a_module():
    model = net()
    chosen = select(model, lambda name, W: name.endswith("in_proj_weight"))
    assert set(chosen) == {
        "blocks.0.attention.in_proj_weight",
        "blocks.1.attention.in_proj_weight",
    }
    assert all(W is dict(model.named_parameters())[name] for name, W in chosen.items())


@pytest.mark.parametrize(
    "which, words",
    [
        ("qk", r"which must not part blocks\.0\.attention\.in_proj_weight.*got 'qk'"),
        ("embedding", "which must be one of 'attention\\+mlp'.*got 'embedding'"),
        (None, "which must be one of.*got None"),
        (lambda name, W: False, "which must select at least one"),
    ],
    ids=["qk", "word", "none", "empty"],
)
def test_select_refuses_what_it_cannot_find_in_a_module(which, words):
    with pytest.raises(ValueError, match=words):
        select(net(), which)


def test_select_refuses_an_empty_selection_and_another_model():
    with pytest.raises(ValueError, match="at least one of the 2 parameters"):
        select(nn.Linear(3, 3), "attention+mlp")
    with pytest.raises(ValueError, match="at least one of the 1 parameters"):
        select({"embedding": torch.ones(3, 3)}, "qk")
    for wrong in (None, [torch.ones(3, 3)], "model"):
        with pytest.raises(TypeError, match="model must be"):
            select(wrong, "attention+mlp")


def test_the_readme_promise_end_to_end():
    """LRD under a real module and AdamW lowers the rank of what it decays and leaves the
    rest to the optimiser."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    before = svdvals(model.blocks[0]["mlp"].weight)
    embedding = model.embedding.weight.detach().clone()
    LowRankDecay(
        select(model, "attention+mlp"),
        weight_decay=0.02,
        mode="independent",
        rule="proximal",
    ).attach(optimizer)
    for _ in range(30):
        optimizer.zero_grad(set_to_none=True)
        optimizer.step()
    after = svdvals(model.blocks[0]["mlp"].weight)
    assert int((after > 1e-6 * after[0]).sum()) < int((before > 1e-6 * before[0]).sum())
    assert torch.equal(model.embedding.weight, embedding)


# ---- what a user's own loop does to it


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


def test_a_frozen_matrix_is_left_alone():
    A, B = parameters((4, 4), (4, 4))
    optimizer = torch.optim.AdamW([A, B], lr=0.1, weight_decay=0.0)
    LowRankDecay([A, B], weight_decay=0.5, mode="independent").attach(optimizer)
    B.requires_grad_(False)
    start = copies([A, B])
    optimizer.step()
    assert not torch.equal(A, start[0]) and torch.equal(B, start[1])


def test_a_step_that_a_scaler_skips_is_no_decay():
    (W,) = parameters((4, 4))
    W.grad = torch.zeros_like(W)
    optimizer = torch.optim.AdamW([W], lr=0.1, weight_decay=0.0, fused=True)
    LowRankDecay([W], weight_decay=0.5).attach(optimizer)
    start = W.detach().clone()
    # as torch.amp.GradScaler tells a fused optimizer
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert torch.equal(W, start)
    optimizer.found_inf = torch.tensor(0.0)
    optimizer.step()
    assert not torch.equal(W, start)


def test_a_fused_matrix_is_decayed_in_parts():
    (fused,) = parameters((12, 4))
    fused.data[:4] /= 20  # the queries are small
    separate = [part.clone() for part in fused.detach().chunk(3)]
    LowRankDecay([fused], weight_decay=0.1, parts=3).step(1.0)
    for part, expected in zip(fused.detach().chunk(3), separate, strict=True):
        torch.testing.assert_close(part, low_rank_decay_(expected, weight_decay=0.1))
    for parts, error in ((5, ValueError), (0, ValueError), ("3", TypeError)):
        with pytest.raises(error, match="parts"):
            LowRankDecay([fused], weight_decay=0.1, parts=parts)


@pytest.mark.parametrize(
    "setting, value",
    [("mode", "typo"), ("weight_decay", -5.0), ("weight_decay", "x"), ("parts", 7)],
)
def test_settings_that_went_wrong_later_are_refused_before_anything_changes(setting, value):
    A, B = parameters((4, 4), (4, 4))
    decay = LowRankDecay([{"params": [A]}, {"params": [B]}], weight_decay=0.1)
    decay.param_groups[1][setting] = value
    start = copies([A, B])
    with pytest.raises((ValueError, TypeError), match=setting):
        decay.step(0.1)
    assert torch.equal(A, start[0]) and torch.equal(B, start[1])


def test_select_takes_matrices_only_and_stacks_of_experts():
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(4, 6)
            self.experts = torch.nn.Parameter(torch.randn(3, 4, 5))
            self.gain = torch.nn.Parameter(torch.randn(4, 1))
            self.tied = torch.nn.Linear(4, 7, bias=False)

    model = torch.nn.Module()
    model.blocks = torch.nn.ModuleList([Block()])
    model.embedding = torch.nn.Embedding(7, 4)
    model.embedding.weight = model.blocks[0].tied.weight
    assert sorted(select(model, "attention+mlp")) == [
        "blocks.0.experts",
        "blocks.0.linear.weight",
    ]


def test_the_same_matrix_twice_is_decayed_once():
    (W,) = parameters((4, 4))
    expected = low_rank_decay_(W.detach().clone(), weight_decay=0.1)
    with pytest.warns(UserWarning, match="duplicate"):  # torch's own
        decay = LowRankDecay([W, W], weight_decay=0.1)
    decay.step(1.0)
    torch.testing.assert_close(W.detach(), expected)


# --- arguments at the edge of what can be


@pytest.mark.parametrize("rule", RULES.values())
def test_a_whole_number_beyond_64_bits_is_a_strength(rule):
    W = conditioned(3, 3)
    expected = rule(W.clone(), weight_decay=1e20, lr=1e-20)
    assert torch.equal(rule(W.clone(), weight_decay=10**20, lr=1e-20), expected)
    for mode in ("independent", "decoupled"):
        LowRankDecay([V := W.clone()], weight_decay=10**20, mode=mode).step(lr=10**20)
        assert bool(V.isfinite().all())
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
    with pytest.raises(
        TypeError, match=r"^params\[0\] must be a tensor that can be changed"
    ):
        LowRankDecay([W], weight_decay=0.1)
    W = torch.ones(1, 2).expand(2, 2)
    with pytest.raises(ValueError, match=r"^W must have memory for each entry"):
        rule(W, weight_decay=0.1)


@pytest.mark.parametrize(
    "weight_decay",
    [
        torch.ones(1, 1).bool(),
        torch.ones(1, 1).cfloat(),
        torch.zeros(1, 1, dtype=torch.float8_e5m2),
        torch.ones(1, 1, device="meta"),
        torch.eye(1).to_sparse(),
    ],
    ids=str,
)
def test_tensors_that_are_no_strength(weight_decay):
    with pytest.raises(TypeError, match=r"^weight_decay must"):
        frobenius_decay_(torch.ones(2, 2), weight_decay=weight_decay)
    with pytest.raises(TypeError, match=r"^weight_decay must"):
        LowRankDecay([torch.ones(2, 2)], weight_decay=weight_decay)


def test_whole_numbers_may_be_strengths():
    W = frobenius_decay_(torch.ones(2, 1, 1), weight_decay=torch.tensor([[[0]], [[1]]]))
    assert W.flatten().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("model", "error"),
    [({}, ValueError), ({1: torch.ones(2, 2)}, TypeError), ({"0.query": None}, TypeError)],
)
def test_select_from_no_model(model, error):
    with pytest.raises(error, match=r"^model"):
        select(model, "qk")


def test_a_group_that_is_none():
    optimizer = LowRankDecay([torch.ones(2, 2)], weight_decay=0.1)
    with pytest.raises(TypeError, match=r"^param_group must be of type dict, got Tensor"):
        optimizer.add_param_group(torch.ones(2, 2))
    with pytest.raises(TypeError, match=r"^params must be tensors, .* got ndarray"):
        LowRankDecay(np.ones((2, 2)), weight_decay=0.1)
