"""LowRankDecay under torch's own optimisers, schedulers and modules."""

import copy
import io
import pickle

import numpy as np
import oracles
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from weights import (
    NO_STRENGTHS,
    conditioned,
    copies,
    gaussian,
    loss_of,
    net,
    parameters,
    rtol_of,
    svdvals,
)

from lrdlib.decay import PARTS, frobenius_decay_, low_rank_decay_, proximal_decay_
from lrdlib.matrices import select
from lrdlib.optimizer import LowRankDecay

NAN, INF = float("nan"), float("inf")
fast = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


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


@pytest.mark.parametrize("later", ["parts", "check_finite", "part", "rule", "seed"])
def test_a_state_from_before_a_setting_existed_has_its_default(later):
    W = nn.Parameter(conditioned(4, 4, dtype=torch.float32))
    decay = LowRankDecay([W], weight_decay=0.1, mode="independent")
    state = decay.state_dict()
    expected = state["param_groups"][0].pop(later)
    decay.load_state_dict(state)
    decay.step()
    assert decay.param_groups[0][later] == expected
    # and as a whole, pickled by a version without it
    del decay.defaults[later], decay.param_groups[0][later]
    old = pickle.loads(pickle.dumps(decay))
    assert old.param_groups[0][later] == expected
    old.add_param_group({"params": [torch.ones(3, 3)]})
    old.step()


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


@pytest.mark.parametrize("mode", ["decoupled", "independent"])
def test_attach_wants_an_optimizer_that_trains_the_matrices(mode):
    A, B = parameters((4, 4), (3, 2))
    optimizer = torch.optim.SGD([A], lr=0.1)
    for params, words in (
        ({"a": A, "b": B}, r"every decayed matrix .* but not b \(3, 2\)$"),
        ({"b": B}, r"some of the decayed matrices, got one with none of b \(3, 2\)$"),
    ):
        with pytest.raises(ValueError, match=f"^optimizer must train {words}"):
            LowRankDecay(params, weight_decay=0.5, mode=mode).attach(optimizer)
    start = copies([A, B])
    optimizer.step()
    assert torch.equal(A, start[0])  # nothing stayed attached
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
    with pytest.raises(ValueError, match=r"^param_groups\[1\]\['params'\]\[0\] must be f"):
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


def state_of(**changes):
    """The state of a decay of two matrices (4, 4), changed."""
    state = LowRankDecay(parameters((4, 4), (4, 4)), weight_decay=0.5).state_dict()
    group = state["param_groups"][0] | changes
    return state | {"param_groups": [{k: v for k, v in group.items() if v is not ...}]}


@pytest.mark.parametrize(
    "state, words",
    [
        (
            torch.optim.AdamW(parameters((4, 4), (4, 4))).state_dict(),
            r"must hold only .*'lr'",
        ),
        (torch.optim.SGD(parameters((4, 4), (4, 4)), lr=1).state_dict(), "must hold only"),
        ({"state": {0: {"step": 1}}, "param_groups": []}, "must have no state beside"),
        (None, "state_dict must be of type dict"),
        ({}, r"state_dict must be what state_dict\(\) of a LowRankDecay gave, got {}"),
        ({"param_groups": [3]}, "state_dict must be what"),
        ({"param_groups": []}, "number of parameter groups"),
        (state_of(weight_decay=...), "must hold weight_decay"),
        (state_of(params=[0]), "param_names .* must be a list of 1"),
        (
            state_of(params=[0], param_names=["params[0]"], shapes=[[4, 4]]),
            "parameter group",
        ),
        (state_of(params=...), "params .* must be of type list, got NoneType"),
        (
            state_of(rule="nonsense"),
            "rule must be one of 'low_rank', 'proximal', got 'nons",
        ),
        (
            state_of(weight_decay=-1.0),
            "weight_decay must be a finite number >= 0, got -1.0",
        ),
        (
            state_of(weight_decay=torch.ones(3, 1, 1)),
            r"weight_decay must .* of params\[0\]",
        ),
        (state_of(parts=3), r"parts must divide the 4 rows of params\[0\], got 3"),
        (state_of(steps_taken=-1), "steps_taken must be an integer >= 0"),
        (state_of(every=0), "every must be"),
        (state_of(seed="a"), "seed must be"),
        (
            state_of(shapes=[[4, 4], [3, 4]]),
            r"with params\[1\] \(4, 4\) .* got that of .*3",
        ),
        (
            state_of(shapes=[[4, 4], 4]),
            r"with params\[1\] \(4, 4\) at place .* got that of",
        ),
        (state_of(shapes=3), "shapes of a group of state_dict must be a list of 2, got 3"),
        (state_of(shapes=[[4, 4]]), "shapes .* must be a list of 2"),
        (state_of(param_names=...), "param_names .* must be a list of 2, got None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_state_that_is_not_its_own_is_refused_before_anything_changes(state, words):
    decay = LowRankDecay(parameters((4, 4), (4, 4)), weight_decay=0.1)
    decay.step(lr=1.0)
    before = copy.deepcopy(decay.state_dict())
    with pytest.raises((TypeError, ValueError), match=words):
        decay.load_state_dict(state)
    assert decay.state_dict() == before


def named(*names, shape=(4, 4)):
    """A decay of matrices of these names."""
    matrices = parameters(*[shape] * len(names))
    return LowRankDecay(zip(names, matrices, strict=True), weight_decay=0.1, every=2)


@pytest.mark.parametrize(
    "saved, own",
    [
        (named("a", "b"), named("b", "a")),
        (named("enc.0.w", "enc.1.w"), named("dec.0.w", "dec.1.w")),
        (named("blocks.0.w", "blocks.1.w"), named("blocks.0.w", "blocks.2.w")),
        (named("xa", "b"), named("a", "b")),  # no module around a
        (named("a", "b"), named("a", "b", shape=(2, 8))),
        (named("a", "b"), LowRankDecay(parameters((4, 4), (4, 5)), weight_decay=0.1)),
    ],
)
def test_the_state_of_other_matrices_is_refused_before_anything_changes(saved, own):
    before = own.state_dict()
    with pytest.raises(
        ValueError, match=r"^state_dict must be that of these matrices, with"
    ):
        own.load_state_dict(saved.state_dict())
    assert own.state_dict() == before


def test_the_first_matrix_that_is_another_is_told():
    saved, own = named("a", "b", "c"), named("a", "d", "e", shape=(4, 4))
    words = r"with d \(4, 4\) at place params\[1\], got that of 'b' \[4, 4\] \("
    with pytest.raises(ValueError, match=words):
        own.load_state_dict(saved.state_dict())


RENAMED = {
    "DataParallel": lambda name: f"module.{name}",
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "both": lambda name: f"_orig_mod.module.{name}",
    "FSDP": lambda name: (
        f"_fsdp_wrapped_module.{name.replace('.', '._fsdp_wrapped_module.')}"
    ),
    "compiled in part": lambda name: name.replace("0.", "0._orig_mod."),
    "checkpointing": lambda name: name.replace("0.", "0._checkpoint_wrapped_module."),
    "Lightning": lambda name: f"net.{name}",
    "no names": lambda name: None,
}


@pytest.mark.parametrize("kind", RENAMED)
@pytest.mark.parametrize("wrapped_later", [False, True])
def test_a_wrapper_s_names_are_those_of_the_same_matrices(kind, wrapped_later):
    names = ["blocks.0.attn.w", "blocks.1.attn.w"]
    plain, renamed = named(*names), [RENAMED[kind](name) for name in names]
    if kind == "no names":
        wrapped = LowRankDecay(parameters((4, 4), (4, 4)), weight_decay=0.1, every=2)
    else:
        wrapped = named(*renamed)
    saved, own = (plain, wrapped) if wrapped_later else (wrapped, plain)
    saved.step(lr=1.0)
    own.load_state_dict(saved.state_dict())
    assert own.param_groups[0]["steps_taken"] == 1


@pytest.mark.parametrize("gone", [("shapes",), ("shapes", "param_names")])
def test_a_state_of_a_version_that_did_not_say_whose_it_is_is_taken(gone):
    saved, own = named("a", "b"), named("c", "d", shape=(3, 5))
    saved.step(lr=1.0)
    state = saved.state_dict()
    for key in gone:
        del state["param_groups"][0][key]
    own.load_state_dict(state)
    assert own.param_groups[0]["steps_taken"] == 1
    assert own.param_groups[0]["param_names"] == ["c", "d"]


def test_a_loaded_state_is_the_state_and_leaves_the_names():
    A, B, C = parameters((4, 4), (4, 4), (2, 4, 4))
    strengths = torch.tensor([0.1, 0.2]).view(2, 1, 1)
    groups = [
        {"params": [A, B], "parts": (1, 3), "seed": 5},
        {"params": [C], "weight_decay": strengths, "every": 2},
    ]
    decay = LowRankDecay(groups, weight_decay=0.25)
    decay.step(lr=1.0)
    twin = LowRankDecay(
        [{"params": {"a": A, "b": B}}, {"params": {"c": C}}], weight_decay=0
    )
    twin.load_state_dict(decay.state_dict())
    for group, own in zip(twin.param_groups, (["a", "b"], ["c"]), strict=True):
        assert group["param_names"] == own
    named, unnamed = twin.state_dict(), decay.state_dict()
    for state in (named, unnamed):
        assert torch.equal(state["param_groups"][1].pop("weight_decay"), strengths)
        assert [group["shapes"] for group in state["param_groups"]] == [
            [[4, 4], [4, 4]],
            [[2, 4, 4]],
        ]
        for group in state["param_groups"]:
            del group["param_names"]
    assert named == unnamed
    # and goes on as one does that was never saved
    twin.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))]})
    assert twin.state_dict()["param_groups"][2].keys() == groups_of(decay)[0].keys()


def groups_of(decay):
    return decay.state_dict()["param_groups"]


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
    second = r"params\[0\] and param_groups\[1\]\['params'\]\[0\], which share memory"
    with pytest.raises(ValueError, match=second):
        LowRankDecay([{"params": [W]}, {"params": [W]}], weight_decay=0.1)
    for again in (W, W.detach(), W.T, W.detach()[1:], W.detach()[:, ::2]):
        with pytest.raises(ValueError, match=r"got wq and wk, which share memory"):
            LowRankDecay({"wq": W, "wk": again}, weight_decay=0.1)


def test_matrices_that_share_one_entry_are_refused_and_neighbours_are_not():
    x = torch.ones(5)
    first, second, last = x[:2].view(1, 2), x[:3].view(1, 3), x[2:].view(1, 3)
    LowRankDecay([first, last], weight_decay=0.1)
    for pair in ([second, last], [last, second]):
        with pytest.raises(ValueError, match="share memory"):
            LowRankDecay(pair, weight_decay=0.1)


def test_matrices_beside_each_other_in_one_storage_are_decayed_each_by_itself():
    """Slices of a fused matrix, and a stack whose matrices lie between another's."""
    fused, flat = (W.detach() for W in parameters((6, 4), (2, 24)))
    left, right = flat[:, :12].view(2, 3, 4), flat[:, 12:].view(2, 3, 4)
    views = [fused[:3], fused[3:, ::2], fused[3:, 1::2], left, right]
    expected = [low_rank_decay_(W.clone(), weight_decay=0.1) for W in views]
    LowRankDecay(views, weight_decay=0.1).step(lr=1.0)
    for W, wanted in zip(views, expected, strict=True):
        torch.testing.assert_close(W, wanted)


def test_a_generator_a_mapping_and_groups_are_the_same():
    model = net()
    matrices = dict(select(model, "attention+mlp"))
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
    held = {id(W): g for g in decay.param_groups for W in g["params"]}
    assert held.keys() == {id(W) for W in matrices.values()}
    assert all(g["scale"] is None for g in held.values())
    layouts = {name: layout or {} for name, layout in matrices.layouts.items()}
    for name, W in matrices.items():
        assert held[id(W)]["parts"] == layouts.get(name, {}).get("parts", 1)


def test_an_empty_selection_is_refused_wherever_it_stands():
    none = select(net(), "attention+mlp").only(lambda name, W: False)
    for params in (none, [{"params": none}]):
        with pytest.raises(ValueError, match="params must hold at least one matrix"):
            LowRankDecay(params, weight_decay=0.1)


def test_named_parameters_keep_their_names():
    """As torch's own optimizers, it takes model.named_parameters()."""
    layer = nn.Linear(3, 3, bias=False)
    decay = LowRankDecay(layer.named_parameters(), weight_decay=0.1)
    (group,) = decay.param_groups
    assert group["param_names"] == ["weight"]
    assert len(group["params"]) == 1 and group["params"][0] is layer.weight


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


def test_a_selection_of_several_layouts_is_added_whole_or_not_at_all():
    block = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2)})
    selection = select(nn.ModuleList([block]), "attention")
    fused, plain = selection.groups()
    assert fused["parts"] == 3 and "parts" not in plain  # two groups
    decay = LowRankDecay({"W": torch.ones(2, 2)}, weight_decay=0.1)
    with torch.no_grad():
        plain["params"][0][1][0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"out_proj.weight'\] must be finite"):
        decay.add_param_group({"params": selection})
    assert [group["param_names"] for group in decay.param_groups] == [["W"]]


def test_adding_a_group_leaves_the_callers_dictionary_alone():
    A, B = parameters((3, 3), (3, 3))
    decay, group = LowRankDecay([A], weight_decay=0.1), {"params": B}
    decay.add_param_group(group)
    assert list(group) == ["params"] and group["params"] is B


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


NONSENSE = [
    ({"wd": 3}, "a parameter group must hold only .* got .'wd'."),
    ({"weight_dacay": 0.2}, "a parameter group must hold only .* got .'weight_dacay'."),
    ({"lr": 0.1}, "^a LowRankDecay has no lr to schedule"),
    ({"initial_lr": 0.1}, "^a LowRankDecay has no initial_lr to schedule"),
    ({"steps_taken": "one"}, "steps_taken must be"),
    ({"every": -1}, "every must be"),
    (
        {"param_names": ["a", "b"]},
        r"param_names must be one per matrix, got \['a', 'b'\] for 1",
    ),
    ({"param_names": None}, "param_names must be one per matrix, got None for 1"),
    ({"check_finite": None}, "check_finite must be"),
]


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("given, words", NONSENSE)
def test_what_was_put_past_the_group_s_own_check_is_refused_at_the_step(
    given, words, attached
):
    """update, setdefault and |= of a dict ask no one."""
    A, B = parameters((4, 4), (4, 4))
    decay = LowRankDecay([{"params": [A]}, {"params": [B]}], weight_decay=0.1)
    optimizer = torch.optim.SGD([A, B], lr=0.1)
    decay.attach(optimizer)
    decay.param_groups[1].update(given)
    start = copies([A, B])
    with pytest.raises((TypeError, ValueError), match=words):
        optimizer.step() if attached else decay.step(lr=0.1)
    assert torch.equal(A, start[0]) and torch.equal(B, start[1])
    assert decay.param_groups[0]["steps_taken"] == 0


def test_a_setting_that_was_taken_out_is_missed_at_the_step():
    (W,) = parameters((4, 4))
    decay = LowRankDecay([W], weight_decay=0.1)
    del decay.param_groups[0]["rule"], decay.param_groups[0]["every"]
    start = W.detach().clone()
    with pytest.raises(ValueError, match="must hold every, rule, got one without"):
        decay.step(lr=0.1)
    assert torch.equal(W, start)


def test_a_group_that_is_none():
    optimizer = LowRankDecay([torch.ones(2, 2)], weight_decay=0.1)
    with pytest.raises(TypeError, match=r"^param_group must be of type dict, got Tensor"):
        optimizer.add_param_group(torch.ones(2, 2))
    with pytest.raises(TypeError, match=r"^params must be tensors, .* got ndarray"):
        LowRankDecay(np.ones((2, 2)), weight_decay=0.1)


def test_a_whole_number_beyond_64_bits_is_a_strength():
    for mode in ("independent", "decoupled"):
        W = conditioned(3, 3)
        with pytest.warns(UserWarning, match="overshoots"):
            LowRankDecay([W], weight_decay=10**20, mode=mode).step(lr=10**20)
        assert bool(W.isfinite().all())
    before = W.clone()
    with pytest.raises(ValueError, match=r"^weight_decay \* lr must be a finite number"):
        LowRankDecay([W], weight_decay=1e200).step(lr=1e200)
    assert torch.equal(W, before)


def test_what_cannot_be_changed_in_place_is_refused():
    with torch.inference_mode():
        W = torch.ones(2, 2)
    with pytest.raises(
        TypeError, match=r"^params\[0\] must be a tensor that can be changed"
    ):
        LowRankDecay([W], weight_decay=0.1)
    with pytest.raises(ValueError, match=r"^params\[0\] must have memory for each entry"):
        LowRankDecay([torch.ones(1, 2).expand(2, 2)], weight_decay=0.1)


@pytest.mark.parametrize("made", NO_STRENGTHS.values(), ids=NO_STRENGTHS)
def test_tensors_that_are_no_strength(made):
    with pytest.raises(TypeError, match=r"^weight_decay must"):
        LowRankDecay([torch.ones(2, 2)], weight_decay=made())
