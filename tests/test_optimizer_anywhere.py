"""LowRankDecay under other people's training: wrapped optimizers, frozen, fused and bfloat16
matrices."""

import copy
import io
import pickle
import warnings
import weakref

import numpy as np
import oracles
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from weights import copies, parameters

import lrdlib.optimizer
from lrdlib.decay import UPDATES, low_rank_decay_, stochastically_rounded
from lrdlib.optimizer import LowRankDecay
from lrdlib.spectral import effective_rank, stable_rank

aten = torch.ops.aten


class Wrapped:
    """An optimizer as accelerate and Lightning hand it out."""

    def __init__(self, optimizer):
        self.optimizer = optimizer


def test_attach_finds_the_optimizer_in_its_wrappers():
    A, B = parameters((4, 4), (4, 4))
    B.data.copy_(A)
    inner, bare = torch.optim.SGD([A], lr=0.1), torch.optim.SGD([B], lr=0.1)
    LowRankDecay([A], weight_decay=0.5).attach(Wrapped(Wrapped(inner)))
    LowRankDecay([B], weight_decay=0.5).attach(bare)
    inner.step(), bare.step()
    assert torch.equal(A, B)
    for wrong in (Wrapped(None), [inner], Wrapped([inner])):
        with pytest.raises(TypeError, match=r"optimizer must be .* or a wrapper"):
            LowRankDecay([A], weight_decay=0.5).attach(wrong)


class WithHooks(torch.optim.SGD):
    """An optimizer that, unlike torch's, keeps its hooks in a copy."""

    def __getstate__(self):
        return self.__dict__.copy()


def pickled(x):
    return pickle.loads(pickle.dumps(x))


@pytest.mark.parametrize("kind", [torch.optim.SGD, WithHooks])
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copied_optimizer_is_attached_again_and_decays_once(kind, copied):
    (W,) = parameters((4, 4))
    optimizer, decay = kind([W], lr=0.1), LowRankDecay([W], weight_decay=0.5)
    decay.attach(optimizer)
    start = W.detach().clone()
    twin, twins_decay = copied((optimizer, decay))
    (X,) = twin.param_groups[0]["params"]
    if kind is torch.optim.SGD:  # its copy does not decay, as documented
        twin.step()
        assert torch.equal(X, start)
    handle = twins_decay.attach(twin)
    twin.step()
    expected = low_rank_decay_(start.clone(), weight_decay=0.5, lr=0.1)
    torch.testing.assert_close(X.detach(), expected)
    assert torch.equal(W, start)
    handle.remove()
    twin.step()
    torch.testing.assert_close(X.detach(), expected)
    optimizer.step()  # the first one goes on
    torch.testing.assert_close(W.detach(), expected)


def test_a_decay_is_not_attached_to_a_decay():
    (W,) = parameters((4, 4))
    decay = LowRankDecay([W], weight_decay=0.5)
    with pytest.raises(TypeError, match=r"optimizer must be .* got a LowRankDecay"):
        decay.attach(LowRankDecay([W], weight_decay=0.5))


def test_a_step_by_hand_takes_a_tensor_s_lr():
    A, B = parameters((4, 4), (4, 4))
    B.data.copy_(A)
    LowRankDecay([A], weight_decay=0.5).step(lr=torch.tensor(0.25))
    LowRankDecay([B], weight_decay=0.5).step(lr=0.25)
    assert torch.equal(A, B)


def test_stochastic_rounding_keeps_what_is_not_finite():
    bits = torch.tensor([0x7FFFFFFF, 0x7FC00000, 0x7F800000], dtype=torch.int32)
    rounded = stochastically_rounded(bits.view(torch.float32), torch.Generator())
    assert rounded[:2].isnan().all() and rounded[2] == float("inf")


SCHEDULERS = {
    "StepLR": lambda it: torch.optim.lr_scheduler.StepLR(it, 3),
    "LambdaLR": lambda it: torch.optim.lr_scheduler.LambdaLR(it, lambda step: 0.5),
    "OneCycleLR": lambda it: torch.optim.lr_scheduler.OneCycleLR(it, 0.1, 9),
    "CyclicLR": lambda it: torch.optim.lr_scheduler.CyclicLR(it, 0.1, 0.2),
    "ReduceLROnPlateau": lambda it: torch.optim.lr_scheduler.ReduceLROnPlateau(it),
    "SWALR": lambda it: torch.optim.swa_utils.SWALR(it, 0.1),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("loaded", [False, True])
def test_a_scheduler_of_a_decay_is_refused(name, loaded):
    """It has no lr of its own; the optimizer's scheduler drives it."""
    (W,) = parameters((4, 4))
    decay = LowRankDecay([W], weight_decay=0.1)
    if loaded:
        decay.load_state_dict(decay.state_dict())
    before = decay.state_dict()
    with pytest.raises(ValueError, match=r"^a LowRankDecay has no \w*lr to schedule"):
        SCHEDULERS[name](decay)
    assert decay.state_dict() == before


def test_a_slip_in_the_name_of_a_setting_is_refused():
    (W,) = parameters((4, 4))
    group = LowRankDecay([W], weight_decay=0.1).param_groups[0]
    with pytest.raises(ValueError, match=r"must hold only .* got \['weigth_decay'\]"):
        group["weigth_decay"] = 0.2
    with pytest.raises(ValueError, match=r"must hold only .* got \['weigth_decay'\]"):
        group["weigth_decay"]
    group["weight_decay"] = 0.2
    assert "lr" not in group and group.get("lr") is None


@pytest.mark.parametrize("mode", ["decoupled", "independent"])
def test_a_step_evaluates_no_closure(mode):
    (W,) = parameters((4, 4))
    decay, start = LowRankDecay([W], weight_decay=0.1, mode=mode), W.detach().clone()
    with pytest.raises(TypeError, match=r"^lr must be a number: .* evaluates no closure"):
        decay.step(lambda: W.sum())
    with pytest.raises(TypeError, match="closure"):  # as torch.distributed.checkpoint calls
        decay.step(closure=None)
    assert torch.equal(W, start)


@pytest.mark.parametrize(
    "W",
    [
        torch.ones(2, 2, device="meta"),
        torch.ones(2, 2).to(torch.float8_e4m3fn),
        torch.ones(2, 2).half(),
        torch.ones(2, 2).to_sparse(),
        torch.nested.nested_tensor([torch.ones(2, 2)], layout=torch.jagged),
        torch.ones(2, 2, dtype=torch.complex64),
        torch.ones(2, 2, dtype=torch.int8),
    ],
    ids=lambda W: f"{W.dtype} {W.layout} {W.device}",
)
def test_tensors_that_no_decay_can_change_are_refused(W):
    with pytest.raises(TypeError, match=r"w.* must be|w.* must hold data"):
        LowRankDecay({"w": W}, weight_decay=0.1)


def test_attached_twice_it_decays_once():
    A, B = parameters((4, 4), (4, 4))
    B.data.copy_(A)
    optimizer, other = torch.optim.SGD([A], lr=0.1), torch.optim.SGD([B], lr=0.1)
    decay = LowRankDecay([A], weight_decay=0.5)
    handle = decay.attach(optimizer)
    assert decay.attach(Wrapped(optimizer)) is handle
    LowRankDecay([B], weight_decay=0.5).attach(other)
    optimizer.step(), other.step()
    assert torch.equal(A, B)
    handle.remove()
    optimizer.step()
    assert torch.equal(A, B)
    decay.attach(optimizer)  # again, and so again decayed
    optimizer.step(), other.step()
    assert torch.equal(A, B)


@pytest.mark.parametrize("mode", ["decoupled", "independent"])
@pytest.mark.parametrize("held", [True, False])
def test_a_frozen_matrix_is_left_alone_by_whoever_holds_it(mode, held):
    A, B = parameters((4, 4), (4, 4))
    B.requires_grad_(False)
    optimizer = torch.optim.SGD([A, B] if held else [A], lr=0.1)
    LowRankDecay({"a": A, "b": B}, weight_decay=0.5, mode=mode).attach(optimizer)
    start = copies([A, B])
    optimizer.step()
    assert not torch.equal(A, start[0]) and torch.equal(B, start[1])


@pytest.mark.parametrize("mode", ["decoupled", "independent"])
def test_an_optimizer_that_holds_nothing_but_frozen_others_is_refused(mode):
    """All matrices frozen and none held: the decay would never do anything."""
    A, *others = parameters(*[(4, 4)] * 6)
    names = {f"m{i}": W.requires_grad_(False) for i, W in enumerate(others)}
    with pytest.raises(ValueError, match=r"none of m0 \(4, 4\), m1 .*, m2 .*, 2 more$"):
        LowRankDecay(names, weight_decay=0.5, mode=mode).attach(torch.optim.SGD([A]))


def test_an_optimizer_without_an_lr_serves_the_mode_that_needs_none():
    """Such as transformers' Adafactor, whose lr is None, or one of its user's own."""
    (W,) = parameters((4, 4))
    optimizer = torch.optim.SGD([W], lr=0.1)
    for group in ({"lr": None}, {"lr": "fast"}, {"lr": -1.0}, {}):
        optimizer.param_groups[0].pop("lr", None)
        optimizer.param_groups[0].update(group)
        with pytest.raises((TypeError, ValueError), match=r"^the optimizer's lr of w must"):
            LowRankDecay({"w": W}, weight_decay=0.5).attach(optimizer)
        LowRankDecay({"w": W}, weight_decay=0.5, mode="independent").attach(optimizer)
    optimizer.param_groups[0]["lr"] = 0.1
    start = W.detach().clone()
    optimizer.step()
    assert not torch.equal(W, start)


def test_messages_name_the_matrix():
    A, B = parameters((4, 4), (4, 4))
    optimizer = torch.optim.SGD([A], lr=0.1)
    for params in ({"a.weight": A, "b.weight": B}, [("a.weight", A), ("b.weight", B)]):
        with pytest.raises(ValueError, match=r"but not b\.weight \(4, 4\)"):
            LowRankDecay(params, weight_decay=0.5).attach(optimizer)
    with pytest.raises(ValueError, match=r"^params\['b\.weight'\] must be a matrix"):
        LowRankDecay({"a.weight": A, "b.weight": torch.ones(3)}, weight_decay=0.5)
    group = {"params": [A, B], "param_names": ["a.weight"]}
    with pytest.raises(ValueError, match="param_names must be one per matrix, got 1 for 2"):
        LowRankDecay([group], weight_decay=0.5)
    strengths = torch.tensor([0.1, 0.2]).view(2, 1, 1)
    with pytest.raises(
        ValueError, match=r"one number per matrix of b, got shape \(2, 1, 1"
    ):
        LowRankDecay({"a": torch.ones(2, 3, 3), "b": A}, weight_decay=strengths)
    with pytest.raises(TypeError, match=r"^b must be float32, .* got dtype torch\.float16"):
        LowRankDecay({"a": A, "b": B.detach().half()}, weight_decay=0.5)


class NoLook(TorchDispatchMode):
    """Where no value may be asked of a tensor, as a GPU would have to be waited for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (aten._local_scalar_dense.default, aten.nonzero.default):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "settings",
    [
        dict(weight_decay=0.1),
        dict(weight_decay=torch.tensor([0.1, 0.2]).view(2, 1, 1), part="radial"),
        dict(weight_decay=0.1, scale=None, parts=2, every=1, max_batch=1),
    ],
)
@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5), torch.tensor([0.5])])
def test_an_attached_decay_asks_no_value_of_the_device_without_the_check(settings, lr):
    params = parameters((2, 4, 4), (2, 4, 6))
    twins = [nn.Parameter(W.detach().clone()) for W in params]
    for Ws, look in ((params, False), (twins, True)):
        optimizer = torch.optim.SGD(Ws, lr=0.1)
        optimizer.param_groups[0]["lr"] = lr
        LowRankDecay(Ws, **settings, check_finite=look).attach(optimizer)
        if look:
            with NoLook(), pytest.raises(AssertionError, match="waits for the device"):
                optimizer.step()
            optimizer.step()
        else:
            with NoLook():
                optimizer.step()
    for W, twin in zip(params, twins, strict=True):
        torch.testing.assert_close(W, twin)


def test_a_tensor_lr_that_is_no_number_is_refused():
    (W,) = parameters((4, 4))
    optimizer = torch.optim.SGD([W], lr=0.1)
    decay = LowRankDecay({"w": W}, weight_decay=0.5)
    for lr in (torch.tensor(-1.0), torch.tensor(float("nan")), torch.ones(2)):
        optimizer.param_groups[0]["lr"] = lr
        with pytest.raises((TypeError, ValueError), match=r"^the optimizer's lr of w must"):
            decay.attach(optimizer)


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda W: W.fill_(float("nan")),
            "^b must be finite, got 16 NaN and 0 infinite of 16",
        ),
        (lambda W: W.half(), r"^b must be float32, .* got dtype torch\.float16"),
        (lambda W: W.flatten(), r"^b must be a matrix .* got shape \(16,\)"),
        (lambda W: W.new_empty(0, 0), r"^b must be a matrix .* got shape \(0, 0\)"),
        (lambda W: W[:3], "^parts must divide the 3 rows of b, got 2"),
    ],
    ids=["nan", "cast", "flat", "empty", "cut"],
)
def test_a_matrix_that_went_wrong_later_is_named_before_anything_changes(change, words):
    """As by a cast, or by an engine that keeps shards of the weights."""
    A, B = parameters((4, 4), (4, 4))
    decay = LowRankDecay([("a", A), ("b", B)], weight_decay=0.1, parts=2)
    start, B.data = A.detach().clone(), change(B.data)
    with pytest.raises((TypeError, ValueError), match=words):
        decay.step(lr=1.0)
    assert torch.equal(A, start)


def test_names_may_be_left_out_or_kept_in_a_parameter_dict():
    A, B, C, D = parameters((4, 4), (4, 4), (4, 4), (4, 4))
    decay = LowRankDecay([{"params": [A, B], "param_names": None}], weight_decay=0.1)
    decay.add_param_group({"params": nn.ParameterDict({"c": C})})
    decay.add_param_group({"params": D})
    names = ["params[0]", "params[1]", "c", "param_groups[2]['params'][0]"]
    assert list(decay.ranks()) == names
    assert list(LowRankDecay(nn.ParameterDict({"c": C}), weight_decay=0.1).ranks()) == ["c"]


def test_torch_is_given_tensors_and_no_names(monkeypatch):
    """A torch before 2.6 refuses pairs (name, tensor)."""
    given, add = [], torch.optim.Optimizer.add_param_group

    def adding(self, group):
        given.extend(map(type, group["params"]))
        add(self, group)

    monkeypatch.setattr(torch.optim.Optimizer, "add_param_group", adding)
    LowRankDecay(nn.Linear(3, 3, bias=False).named_parameters(), weight_decay=0.1)
    assert given == [nn.Parameter]


@pytest.mark.parametrize(
    "group, error, words",
    [
        (
            {"param_names": "ab"},
            TypeError,
            "param_names must be a list of strings, got 'ab'",
        ),
        ({"param_names": [0, 1]}, TypeError, "param_names must be a list of strings"),
        ({"param_names": ["a", "a"]}, ValueError, "must be different, got 'a' twice"),
        ({"param_names": ["a", "w"]}, ValueError, "must be different, got 'w' twice"),
        (
            {"params": {torch.ones(2, 2)}},
            TypeError,
            "params must be .* in an order, got set",
        ),
    ],
)
def test_names_that_name_nothing_are_refused(group, error, words):
    A, B, W = parameters((4, 4), (4, 4), (4, 4))
    decay = LowRankDecay({"w": W}, weight_decay=0.1)
    with pytest.raises(error, match=words):
        decay.add_param_group({"params": [A, B]} | group)
    assert len(decay.param_groups) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_compiled_step_decays_as_an_eager_one_does():
    def trained(compiled):
        params = parameters((6, 6), (6, 6), (3, 5))
        optimizer = torch.optim.SGD(params, lr=0.1)
        LowRankDecay(params, weight_decay=0.5).attach(optimizer)
        step = (
            torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        )
        for _ in range(3):
            for W in params:
                W.grad = torch.ones_like(W)
            step()
        return copies(params)

    for ours, eager in zip(trained(True), trained(False), strict=True):
        assert torch.equal(ours, eager)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_step_by_hand_inside_a_compiled_function_is_the_eager_one():
    def trained(compiled):
        A, B = parameters((6, 6), (3, 5))
        decay = LowRankDecay([A, B], weight_decay=0.5)

        def scaled_and_decayed(W):
            with torch.no_grad():
                W.mul_(0.75)
            decay.step(lr=0.1)
            return W.detach().sum() * 2

        if compiled:
            scaled_and_decayed = torch.compile(scaled_and_decayed, backend="eager")
        sums = [float(scaled_and_decayed(A)) for _ in range(3)]
        return copies([A, B]), sums

    (ours, sums), (eager, eager_sums) = trained(True), trained(False)
    assert all(map(torch.equal, ours, eager)) and sums == eager_sums


def test_a_whole_strength_over_many_steps_does_not_wrap_around():
    W = torch.diag(torch.tensor([900.0, 600.0]))
    strength = torch.tensor(1, dtype=torch.uint8)
    settings = dict(mode="independent", scale=None, method="svd", every=300)
    decay = LowRankDecay([W], weight_decay=strength, **settings)
    for _ in range(300):
        decay.step()
    torch.testing.assert_close(W, torch.diag(torch.tensor([600.0, 300.0])))


def test_a_kernel_of_a_convolution_is_refused():
    with pytest.raises(ValueError, match=r"params\[0\] must be a matrix .*\(8, 4, 3, 3\)"):
        LowRankDecay([nn.Conv2d(4, 8, 3).weight], weight_decay=0.1)


@pytest.mark.parametrize(
    "shape, parts, dim",
    [
        ((12, 4), 3, 0),
        ((4, 12), 3, 1),  # GPT-2's Conv1D (in, out)
        ((16, 8), (8, 4, 4), 0),  # fewer heads for keys and values
        ((8, 16), [8, 4, 4], 1),
        ((2, 6, 4), (4, 2), 0),
    ],
)
def test_the_parts_of_a_fused_matrix_are_decayed_each_by_itself(shape, parts, dim):
    (W,) = parameters(shape, dtype=torch.float64)
    sizes = [shape[dim - 2] // parts] * parts if isinstance(parts, int) else list(parts)
    expected = [part.clone() for part in W.detach().split(sizes, dim - 2)]
    LowRankDecay([W], weight_decay=0.1, parts=parts, dim=dim, method="svd").step(1.0)
    for part, alone in zip(W.detach().split(sizes, dim - 2), expected, strict=True):
        oracle = oracles.decayed_stack(alone, 0.1, rule="low_rank", scale="norm")
        torch.testing.assert_close(part, oracle, rtol=1e-10, atol=1e-10)


def stack_of(W):
    """A matrix as a stack of one."""
    return W.reshape(-1, *W.shape[-2:])


def by_head(W, heads):
    """The matrix of each head: so many equal blocks of rows."""
    return list(W.chunk(heads))


def neox(W, heads):
    """Queries, keys and values of GPT-NeoX: rows (heads, 3, head_dim)."""
    d = len(W) // heads // 3
    rows = torch.arange(len(W))
    return [W[rows // d % 3 == which] for which in range(3)]


def grouped(W, heads):
    """Of InternLM2 and Falcon: rows (heads of keys, two queries, a key and a value, d)."""
    d = len(W) // heads // 4
    which = torch.arange(len(W)) // d % 4
    return [W[which < 2], W[which == 2], W[which == 3]]


def alternating(W, _):
    """Gates and inputs of an MLP, row by row, as in gpt-oss."""
    return [W[0::2], W[1::2]]


@pytest.mark.parametrize("rule", ["low_rank", "proximal"])
@pytest.mark.parametrize(
    "shape, settings, by_hand, heads",
    [
        ((12, 5), dict(parts=4), by_head, 4),
        ((5, 12), dict(parts=4, dim=1), by_head, 4),
        ((24, 5), dict(parts=3, interleaved=4), neox, 4),
        ((24, 9), dict(parts=3, interleaved=4), neox, 4),  # wide parts
        ((7, 24), dict(parts=3, interleaved=4, dim=1), neox, 4),
        ((24, 5), dict(parts=12), by_head, 12),  # each head's query, key and value
        ((24, 5), dict(parts=(4, 2, 2), interleaved=3), grouped, 3),
        ((4, 12), dict(parts=2, interleaved=6, dim=1), alternating, 0),
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_every_layout_of_heads_is_what_cutting_by_hand_gives(
    shape, settings, by_hand, heads, stacked, rule
):
    """Each matrix that is cut out by hand is decayed by itself; together they are all."""
    (W,) = parameters((2, *shape) if stacked else shape, dtype=torch.float64)
    start = W.detach().clone()
    decay = LowRankDecay([W], weight_decay=0.1, method="svd", rule=rule, **settings)
    decay.step(1.0)
    if settings.get("dim"):
        W, start = W.mT, start.mT
    cuts = [
        pair
        for after, before in zip(stack_of(W.detach()), stack_of(start), strict=True)
        for pair in zip(by_hand(after, heads), by_hand(before, heads), strict=True)
    ]
    for part, alone in cuts:
        oracle = oracles.decayed(alone, 0.1, rule=rule, scale="norm")
        torch.testing.assert_close(part, oracle, rtol=1e-10, atol=1e-10)
    assert sum(part.numel() for part, _ in cuts) == W.numel()
    assert len(decay.ranks()) == len(cuts)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"parts": (8, 4)}, r"parts must add up to the 16 rows of w, got \(8, 4\)"),
        ({"parts": (8, 8), "dim": 1}, r"parts must add up to the 8 columns of w"),
        ({"parts": 3}, "parts must divide the 16 rows of w"),
        ({"parts": ()}, "parts must be"),
        ({"parts": (16, 0)}, r"parts\[1\] must be"),
        ({"dim": 2}, "dim must be an integer <= 1, got 2"),
        ({"dim": True}, "dim must be an integer >= 0, got True"),
        ({"interleaved": 3}, "interleaved must divide the 16 rows of w, got 3"),
        ({"interleaved": 0}, "interleaved must be an integer >= 1"),
        ({"interleaved": 4, "parts": 3}, "parts must divide each 4 of the 16 rows of w"),
        ({"interleaved": 4, "parts": (8, 8)}, "parts must add up to each 4 of the 16 rows"),
        ({"rounding": "up"}, "rounding must be one of"),
        ({"seed": -1}, "seed must be an integer >= 0"),
        ({"seed": None}, "seed must be an integer >= 0"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(options, words):
    (W,) = parameters((16, 8))
    with pytest.raises((ValueError, TypeError), match=words):
        LowRankDecay({"w": W}, weight_decay=0.1, **options)


def test_stochastic_rounding_is_right_on_average():
    x = torch.linspace(-3, 3, 7).add(1e-3).repeat(40_000, 1)
    generator = torch.Generator().manual_seed(0)
    rounded = stochastically_rounded(x, generator)
    below, above = (
        torch.nextafter(x.bfloat16(), torch.tensor(v).bfloat16()) for v in (-9, 9)
    )
    assert ((below <= rounded) & (rounded <= above)).all()
    # five standard errors of a mean of values at most one last place, 2^-6 at 3, apart
    torch.testing.assert_close(
        rounded.float().mean(0), x[0], rtol=0, atol=5 * 2**-6 / 2 / 200
    )
    exact = torch.tensor([1.0, -2.5, 0.0])
    assert torch.equal(stochastically_rounded(exact, generator).float(), exact)


def test_a_small_decay_moves_bfloat16_weights_if_rounded_stochastically():
    """500 steps at t = 1e-3: in float32 the norm falls to exp(-1/2) and a little more,
    rounded to the nearest it stays.

    Rounded stochastically it falls 0.9 to 1.5% less, over 12 seeds and whether one
    generator draws for all steps or each step has its own: 500 roundings add noise of 4.5%
    of the norm, and the polar factor of a noisy matrix points less along the matrix. The
    same noise at each step would leave it 40% too large.
    """
    (start,) = parameters((64, 64))
    norms = {}
    for name, dtype, rounding in (
        ("float32", torch.float32, "nearest"),
        ("nearest", torch.bfloat16, "nearest"),
        ("stochastic", torch.bfloat16, "stochastic"),
    ):
        W = start.detach().clone().to(dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            decay = LowRankDecay([W], weight_decay=1e-3, rounding=rounding)
        for _ in range(500):
            decay.step(lr=1.0)
        norms[name] = float(W.float().norm() / start.detach().norm())
    assert norms["nearest"] > 0.9
    assert norms["float32"] < 0.7
    assert norms["stochastic"] == pytest.approx(norms["float32"], rel=0.02)


NUMPY = dict(
    weight_decay=np.float64(0.25),
    mode=np.str_("independent"),
    steps=np.int64(5),
    parts=[np.int64(4), np.int32(2)],
    dim=np.int64(1),
    seed=np.uint8(3),
    every=np.int64(2),
    max_batch=np.int64(7),
)


@pytest.mark.parametrize("name", NUMPY)
def test_a_state_with_numpy_s_numbers_can_be_loaded_without_pickle(name):
    """Given to the constructor, in a group, or set later."""
    plain = dict(weight_decay=0.25, mode="independent", steps=5, parts=(4, 2), dim=1)
    plain |= dict(seed=3, every=2, max_batch=7)
    A, B, C = parameters((4, 6), (4, 6), (4, 6))
    decay = LowRankDecay([A], **plain | {name: NUMPY[name]})
    decay.add_param_group({"params": [B], name: NUMPY[name]})
    decay.add_param_group({"params": [C]})
    decay.param_groups[2][name] = NUMPY[name]
    decay.step()
    file = io.BytesIO()
    torch.save(decay.state_dict(), file)
    state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    assert [group[name] for group in state["param_groups"]] == [plain[name]] * 3


def rounded_decay(start, **settings):
    """A decay of bfloat16 copies of `start`, rounded stochastically, and the copies."""
    params = [W.detach().bfloat16() for W in start]
    settings = dict(weight_decay=1e-3, mode="independent", rounding="stochastic") | settings
    return LowRankDecay(params, **settings), params


def test_replicas_that_are_rounded_stochastically_stay_equal():
    """As under DDP: each process has a generator of its own, in whatever state, and none is
    touched."""
    start = parameters((8, 6), (8, 6), (5, 5))
    replicas = []
    for process in range(2):
        torch.manual_seed(process)
        before = torch.get_rng_state()
        decay, params = rounded_decay(start)
        for _ in range(20):
            decay.step()
        assert torch.equal(torch.get_rng_state(), before)
        replicas.append(params)
    assert all(map(torch.equal, *replicas))
    assert not torch.equal(replicas[0][0], start[0].bfloat16())


def test_seeds_steps_and_matrices_are_rounded_independently():
    """Equal matrices part, whether in one batch or in two; so do two seeds and two steps."""
    (W,) = parameters((16, 16))
    decay, (A, B, C) = rounded_decay([W, W, W.T])
    other, (D, _, _) = rounded_decay([W, W, W.T], seed=1)
    decay.step(), other.step()
    assert len({tuple(X.flatten().tolist()) for X in (A, B, C.T, D)}) == 4
    first = A.clone()
    A.copy_(W.bfloat16())
    decay.step()
    assert not torch.equal(A, first)


def test_what_a_matrix_draws_does_not_depend_on_the_others_of_its_step():
    """Not on one that is frozen, on batches, on another's lr, nor on what is due."""
    start = [*parameters((16, 16), (16, 16)), parameters((3, 16, 16))[0]]
    lrs = (0.1, 0.1, 0.1)
    every = [{"every": 2}, {}, {}]

    def trained(frozen=False, max_batch=None, lrs=lrs, groups=({}, {}, {})):
        params = [nn.Parameter(W.detach().bfloat16()) for W in start]
        params[0].requires_grad_(not frozen)
        optimizer = torch.optim.SGD(
            [{"params": [W], "lr": lr} for W, lr in zip(params, lrs, strict=True)]
        )
        settings = dict(weight_decay=0.01, rounding="stochastic", max_batch=max_batch)
        decay = LowRankDecay(
            [{"params": [W]} | g for W, g in zip(params, groups, strict=True)], **settings
        )
        decay.attach(optimizer)
        for _ in range(3):
            optimizer.step()
        return params[1:]

    alone = trained()
    assert not torch.equal(alone[0], start[1].bfloat16())
    others = [
        {"frozen": True},
        {"max_batch": 1},
        {"max_batch": 2},
        {"lrs": (0.2, 0.1, 0.1)},
    ]
    for other in [*others, {"groups": every}]:
        assert all(map(torch.equal, trained(**other), alone)), other


def test_a_resumed_run_is_rounded_to_the_same_bit():
    start = parameters((8, 6), (5, 5))
    decay, through = rounded_decay(start, seed=3)
    for _ in range(5):
        decay.step()
    halfway = [W.clone() for W in through]
    file = io.BytesIO()
    torch.save(decay.state_dict(), file)
    for _ in range(5):
        decay.step()
    resumed, params = rounded_decay(halfway)
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    torch.manual_seed(17)
    for _ in range(5):
        resumed.step()
    assert all(map(torch.equal, params, through))


@pytest.mark.parametrize("rule", ["low_rank", "proximal"])
def test_every_fourth_step_with_four_times_the_strength(rule):
    A, B = parameters((6, 4), (6, 4), dtype=torch.float64)
    B.data.copy_(A)
    seldom = LowRankDecay([A], weight_decay=0.01, rule=rule, every=4)
    strong = LowRankDecay([B], weight_decay=0.04, rule=rule)
    for step in range(1, 13):
        before = A.detach().clone()
        seldom.step(lr=0.5)
        if step % 4:
            assert torch.equal(A, before)
        else:
            strong.step(lr=0.5)
            assert torch.equal(A, B)
        if step == 6:  # the count is in the state
            seldom, saved = LowRankDecay([A], weight_decay=0.0), seldom.state_dict()
            seldom.load_state_dict(saved)


def test_a_step_that_failed_does_not_count():
    (W,) = parameters((4, 4))
    decay = LowRankDecay([W], weight_decay=0.1, every=2)
    sound = W.detach().clone()
    W.data[0, 0] = float("nan")
    decay.step(lr=1.0)  # between: nothing to do, nothing to look at
    with pytest.raises(ValueError, match="must be finite"):
        decay.step(lr=1.0)
    W.data.copy_(sound)
    decay.step(lr=1.0)
    assert not torch.equal(W, sound)


@pytest.mark.parametrize("rule", ["low_rank", "proximal"])
@pytest.mark.parametrize("most", [1, 2, 5, 100])
@pytest.mark.parametrize("weight_decay", [0.1, torch.tensor([0.1, 0.2, 0.0]).view(3, 1, 1)])
def test_small_batches_are_the_same_decay(rule, most, weight_decay, monkeypatch):
    """And hold no more matrices than they may, those of a stack counted one by one."""
    params = parameters(*[(3, 6, 4), (3, 4, 6)] * 3, dtype=torch.float64)
    others = [nn.Parameter(W.detach().clone()) for W in params]
    settings = dict(weight_decay=weight_decay, rule=rule)
    LowRankDecay(params, **settings).step(lr=1.0)
    sizes, update_ = [], UPDATES[rule]
    monkeypatch.setitem(
        UPDATES,
        rule,
        lambda W, t, group: (sizes.append(W.shape[:-2].numel()), update_(W, t, group)),
    )
    LowRankDecay(others, **settings, max_batch=most).step(lr=1.0)
    assert sum(sizes) == 18 and max(sizes) == min(most, 18)
    for W, other in zip(params, others, strict=True):
        # batched products of another size may sum in another order
        torch.testing.assert_close(other, W, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stack_of_experts_is_computed_a_few_at_a_time(dtype, monkeypatch):
    """By default, as many at once as have BATCH entries together."""
    monkeypatch.setattr(lrdlib.optimizer, "BATCH", 50)
    sizes, update_ = [], UPDATES["low_rank"]
    monkeypatch.setitem(
        UPDATES,
        "low_rank",
        lambda W, t, group: (sizes.append(W.numel()), update_(W, t, group)),
    )
    (experts,) = parameters((64, 4, 4), dtype=dtype)
    LowRankDecay([experts], weight_decay=0.1, rounding="stochastic").step(lr=1.0)
    assert sum(sizes) == experts.numel() and max(sizes) == 48


class Held(TorchDispatchMode):
    """The most bytes that are held at once beside these tensors."""

    def __init__(self, *given):
        super().__init__()
        self.given = {x.untyped_storage()._cdata for x in given}
        self.sizes, self.most = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for x in made if isinstance(made, (list, tuple)) else [made]:
            storage = x.untyped_storage() if isinstance(x, torch.Tensor) else None
            if storage is not None and storage._cdata not in self.given:
                self.sizes[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.sizes.pop, storage._cdata, None)
        self.most = max(self.most, sum(self.sizes.values()))
        return made


def most_held(matrices, **settings):
    """By a step of square matrices, in units of one of them."""
    params = parameters(*[(64, 64)] * matrices)
    decay = LowRankDecay(params, weight_decay=0.1, **settings)
    with Held(*params) as held:
        decay.step(lr=1.0)
    return held.most / params[0].nbytes


@pytest.mark.parametrize("method", ["polar_express", "cubic", "svd"])
def test_max_batch_bounds_what_a_step_holds(method):
    """Of the others it holds nothing; by SVD, a copy, as the last of them may fail."""
    one, eight = most_held(1, method=method), most_held(8, method=method)
    few = most_held(8, method=method, max_batch=1)
    others = 7 if method == "svd" else 0
    assert one <= 6.1 and eight > 7 * one
    assert others <= few <= one + others + 0.1


@pytest.mark.parametrize("settings", [{"rule": "proximal"}, {"method": "svd"}])
def test_an_svd_that_fails_leaves_every_matrix_as_it_is(settings, monkeypatch):
    params = parameters((4, 4), (4, 4), (5, 3))
    start, taken, svd = copies(params), [], torch.linalg.svd

    def failing(X, **kwargs):
        taken.append(X)
        if len(taken) == 3:
            raise torch.linalg.LinAlgError("it did not converge")
        return svd(X, **kwargs)

    monkeypatch.setattr(torch.linalg, "svd", failing)
    groups = [{"params": params[:2], **settings}, {"params": params[2:], **settings}]
    decay = LowRankDecay(groups, weight_decay=0.1, max_batch=1)
    with pytest.raises(torch.linalg.LinAlgError):
        decay.step(lr=1.0)
    assert all(map(torch.equal, params, start))
    assert {group["steps_taken"] for group in decay.param_groups} == {0}


def test_a_stack_of_no_matrices_has_nothing_to_decay():
    LowRankDecay([torch.ones(0, 3, 3)], weight_decay=0.1).step(lr=1.0)


@pytest.mark.parametrize(
    "options", [{"every": 0}, {"every": 1.5}, {"max_batch": 0}, {"max_batch": "all"}]
)
def test_how_often_and_how_many_are_whole_numbers(options):
    (W,) = parameters((4, 4))
    with pytest.raises((ValueError, TypeError), match=next(iter(options))):
        LowRankDecay([W], weight_decay=0.1, **options)


def test_ranks_are_those_of_each_matrix_part_and_expert():
    q, fused, experts = parameters((6, 4), (9, 3), (2, 5, 5))
    decay = LowRankDecay(
        [
            {"params": [("q", q)]},
            {"params": [("fused", fused)], "parts": 3},
            {
                "params": [("experts", experts.to(torch.bfloat16).detach())],
                "rounding": "stochastic",
            },
        ],
        weight_decay=0.1,
    )
    expected = {"q": q} | {f"fused[{i}]": W for i, W in enumerate(fused.chunk(3))}
    expected |= {f"experts[{i}]": W.bfloat16() for i, W in enumerate(experts)}
    for measure in (stable_rank, effective_rank):
        found = decay.ranks(measure)
        assert found.keys() == expected.keys()
        for name, W in expected.items():
            S = torch.linalg.svdvals(W.detach().double())
            assert found[name] == pytest.approx(float(measure(S)), rel=1e-5)


def test_a_decay_of_frozen_matrices_alone_says_so():
    W = nn.Parameter(torch.randn(4, 4), requires_grad=False)
    with pytest.warns(UserWarning, match="frozen, and so are all matrices"):
        LowRankDecay({"query": W}, weight_decay=0.1).attach(torch.optim.SGD([W], lr=0.1))


def test_a_step_that_overshoots_says_so():
    W = nn.Parameter(torch.randn(4, 4))
    decay = LowRankDecay([W], weight_decay=0.5, every=3)
    with pytest.warns(UserWarning, match="a step of strength 1.5 .* overshoots"):
        for _ in range(3):
            decay.step(lr=1.0)


@pytest.mark.parametrize("attached", [False, True])
def test_a_schedule_that_overshoots_is_told_of_once_where_it_is_called(attached):
    W = nn.Parameter(torch.randn(4, 4))
    optimizer = torch.optim.SGD([W], lr=1.0)
    decay = LowRankDecay([W], weight_decay=3.0)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    if attached:
        decay.attach(optimizer)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            optimizer.step()
            if not attached:
                decay.step(lr=schedule.get_last_lr()[0])
            schedule.step()
    assert [str(w.message)[:20] for w in told] == ["a step of strength 3"]
    assert told[0].filename == __file__


def test_the_warning_of_bfloat16_names_the_line_that_made_the_decay():
    with pytest.warns(UserWarning, match="bfloat16") as told:
        LowRankDecay([torch.ones(2, 2).bfloat16()], weight_decay=0.1)
    assert told[0].filename == __file__


def test_ranks_of_what_is_not_finite_are_nan():
    W, stack = torch.eye(3), torch.ones(2, 3, 3)
    decay = LowRankDecay({"W": W, "experts": stack}, weight_decay=0.1, check_finite=False)
    W[0, 0], stack[1, 2, 2] = torch.nan, torch.inf
    ranks = decay.ranks()
    assert list(ranks) == ["W", "experts[0]", "experts[1]"]
    assert np.isnan([ranks["W"], ranks["experts[1]"]]).all()
    assert ranks["experts[0]"] == pytest.approx(1.0)
    with pytest.raises(TypeError, match="measure must be a function, got NoneType"):
        decay.ranks(None)
