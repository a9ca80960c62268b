"""The model against a one-sequence-at-a-time oracle, and the symmetries that the paper's
argument rests on."""

import numpy as np
import oracles
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from lrdlib import model
from lrdlib.model import (
    GAIN_ROLES,
    ModelConfig,
    forward,
    init_params,
    role,
    shapes,
    stack_params,
)

TOKENS = torch.tensor([[0, 3, 6], [5, 1, 6], [2, 2, 6], [4, 0, 6], [3, 5, 6]])


def config_of(**options):
    return ModelConfig(
        **({"vocab": 7, "seq_len": 3, "classes": 6, "d_model": 16, "heads": 4} | options)
    )


def model_of(config, seed=0, dtype=torch.float64):
    """Random parameters in which also the gains and positions are far from their initial
    values."""
    generator = torch.Generator().manual_seed(seed)
    params = {name: W.to(dtype) for name, W in init_params(config, generator).items()}
    for name, W in params.items():
        if W.ndim == 1:
            params[name] = 1 + 0.3 * torch.randn(W.shape, generator=generator, dtype=dtype)
        elif role(name) == "position":
            params[name] = torch.randn(W.shape, generator=generator, dtype=dtype)
    return params


def scaled(params, which, alpha):
    """params with the matrices of role `which` multiplied by alpha."""
    return {name: W * alpha if role(name) == which else W for name, W in params.items()}


def rescale_heads(params, which, factors):
    """params with each head's rows of the matrices of role `which` multiplied by its own
    factor."""

    def per_head(W):
        return (
            W.unflatten(0, (len(factors), -1)) * torch.tensor(factors).to(W)[:, None, None]
        ).flatten(0, 1)

    return {name: per_head(W) if role(name) == which else W for name, W in params.items()}


def oracle(params, tokens, config):
    return oracles.forward(
        params, tokens, heads=config.heads, layers=config.layers, qk_norm=config.qk_norm
    )


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("gains", [True, False])
@pytest.mark.parametrize("qk_norm", model.QK_NORMS)
def test_forward_is_the_equations_written_out(qk_norm, gains, layers):
    config = config_of(qk_norm=qk_norm, gains=gains, layers=layers)
    params = model_of(config)
    # float64 against float64: only the order of the sums differs
    torch.testing.assert_close(
        forward(params, TOKENS, config),
        oracle(params, TOKENS, config),
        rtol=1e-10,
        atol=1e-10,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"heads": 1},
        {"heads": 16},
        {"mlp_ratio": 1},
        {"seq_len": 1},
        {"seq_len": 6},
        {"classes": 1},
        {"d_model": 6, "heads": 3},
        {"layers": 11},  # "1." is not a prefix of "10."
    ],
)
def test_forward_for_other_shapes(options):
    config = config_of(**options)
    tokens = torch.randint(
        7, (4, config.seq_len), generator=torch.Generator().manual_seed(1)
    )
    params = model_of(config)
    torch.testing.assert_close(
        forward(params, tokens, config),
        oracle(params, tokens, config),
        rtol=1e-9,
        atol=1e-9,
    )


def test_forward_in_float32_is_the_float64_forward_to_rounding():
    config = config_of()
    params = model_of(config, dtype=torch.float32)
    # logits are O(1), a few hundred roundings of 6e-8
    torch.testing.assert_close(
        forward(params, TOKENS, config).double(),
        oracle(params, TOKENS, config),
        rtol=1e-4,
        atol=1e-4,
    )
    assert forward(params, TOKENS, config).dtype == torch.float32


@pytest.mark.parametrize("qk_norm", model.QK_NORMS)
@pytest.mark.parametrize("gains", [True, False])
def test_a_stack_is_each_model_alone(qk_norm, gains):
    config = config_of(qk_norm=qk_norm, gains=gains)
    models = [model_of(config, seed) for seed in range(3)]
    shared = forward(stack_params(models), TOKENS, config)
    own = torch.stack([TOKENS, TOKENS.flip(0), TOKENS.roll(1, 0)])
    separate = forward(stack_params(models), own, config)
    assert shared.shape == separate.shape == (3, 5, 6)
    for r, params in enumerate(models):
        # a batched matmul may sum in another order than a single one: float64 rounding
        torch.testing.assert_close(
            shared[r], forward(params, TOKENS, config), rtol=1e-10, atol=1e-10
        )
        torch.testing.assert_close(
            separate[r], forward(params, own[r], config), rtol=1e-10, atol=1e-10
        )


def test_a_stack_of_one_and_a_batch_of_one():
    config = config_of()
    params = model_of(config)
    alone = forward(params, TOKENS[:1], config)
    assert alone.shape == (1, 6)
    torch.testing.assert_close(
        forward(stack_params([params]), TOKENS[:1], config)[0],
        alone,
        rtol=1e-10,
        atol=1e-10,
    )


def test_the_gradient_of_a_stack_is_each_models_own():
    config = config_of()
    models = [model_of(config, seed) for seed in range(2)]
    labels = torch.tensor([0, 1, 2, 3, 4])

    def loss(params):
        logits = forward(params, TOKENS, config)
        return F.cross_entropy(
            logits.flatten(0, -2), labels.repeat(logits.shape[:-2].numel()), reduction="sum"
        )

    stack = {name: W.requires_grad_() for name, W in stack_params(models).items()}
    loss(stack).backward()
    for r, params in enumerate(models):
        params = {name: W.requires_grad_() for name, W in params.items()}
        loss(params).backward()
        for name, W in params.items():
            torch.testing.assert_close(stack[name].grad[r], W.grad, rtol=1e-9, atol=1e-10)


def test_gradients_are_those_of_finite_differences():
    config = config_of(d_model=4, heads=2, layers=1, mlp_ratio=1)
    params = {name: W.requires_grad_() for name, W in model_of(config).items()}
    names = list(params)

    def logits(*values):
        return forward(dict(zip(names, values, strict=True)), TOKENS[:2], config)

    assert torch.autograd.gradcheck(logits, tuple(params.values()))


def test_permuting_the_batch_permutes_the_logits():
    config = config_of()
    params, order = model_of(config), torch.tensor([3, 0, 4, 1, 2])
    # rows of one matmul may be blocked differently: float64 rounding
    torch.testing.assert_close(
        forward(params, TOKENS[order], config),
        forward(params, TOKENS, config)[order],
        rtol=1e-11,
        atol=1e-11,
    )


def test_there_is_no_causal_mask():
    """The position that is read sees the others, and in a deeper model they see each other
    whatever their order."""
    config = config_of(layers=2)
    params = model_of(config)
    params["position"] = torch.zeros_like(params["position"])
    swapped = TOKENS[:, [1, 0, 2]]
    # without positions, attention is a sum over a set; a causal mask would tell the first
    # token from the second
    torch.testing.assert_close(
        forward(params, swapped, config),
        forward(params, TOKENS, config),
        rtol=1e-11,
        atol=1e-11,
    )


# --- scale invariance: the paper's definition 1 and equation (5)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("which", ["query", "key"])
@pytest.mark.parametrize("qk_norm", ["head", "width"])
@pytest.mark.parametrize("gains", [True, False])
def test_queries_and_keys_are_scale_invariant(monkeypatch, qk_norm, which, alpha, gains):
    monkeypatch.setattr(model, "EPS", 0.0)  # the statement is exact in this limit
    config = config_of(qk_norm=qk_norm, gains=gains)
    params = model_of(config)
    logits = forward(params, TOKENS, config)
    torch.testing.assert_close(
        forward(scaled(params, which, alpha), TOKENS, config),
        logits,
        rtol=1e-11,
        atol=1e-11,
    )


@pytest.mark.parametrize("alpha", [0.1, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("qk_norm", ["head", "width"])
def test_eps_breaks_the_invariance_only_by_its_size(qk_norm, alpha):
    config = config_of(qk_norm=qk_norm)
    params = model_of(config)
    logits = forward(params, TOKENS, config)
    change = (forward(scaled(params, "query", alpha), TOKENS, config) - logits).abs().max()
    # A query of mean square m scales by 1 - eps / (2 a^2 m) instead of 1: with m > 0.1
    # (queries are O(1)) and a = 0.1 at most 5e-4, and logits of O(1) follow. It is not 0
    # either, or EPS would not be in use.
    assert 0 < change < 5e-6 * max(1.0, alpha**-2) * logits.abs().max()


@pytest.mark.parametrize("which", ["query", "key"])
def test_each_head_is_scale_invariant_by_itself_under_head_norm_only(monkeypatch, which):
    monkeypatch.setattr(model, "EPS", 0.0)
    factors = [0.1, 10.0, 3.0, 0.5]
    for qk_norm, invariant in (("head", True), ("width", False), ("none", False)):
        config = config_of(qk_norm=qk_norm)
        params = model_of(config)
        change = forward(rescale_heads(params, which, factors), TOKENS, config) - forward(
            params, TOKENS, config
        )
        assert (change.abs().max() < 1e-11) == invariant, qk_norm
        assert invariant or change.abs().max() > 1e-2, qk_norm


@pytest.mark.parametrize("which", ["query", "key"])
def test_without_qk_norm_nothing_is_invariant(which):
    config = config_of(qk_norm="none")
    params = model_of(config)
    change = forward(scaled(params, which, 3.0), TOKENS, config) - forward(
        params, TOKENS, config
    )
    assert change.abs().max() > 1e-2


@pytest.mark.parametrize(
    "which", ["embedding", "position", "value", "output", "up", "down", "head"]
)
def test_other_weights_are_not_invariant_one_by_one(which):
    config = config_of()
    params = model_of(config)
    change = forward(scaled(params, which, 3.0), TOKENS, config) - forward(
        params, TOKENS, config
    )
    assert change.abs().max() > 1e-2


def test_embedding_and_position_and_all_writes_together_are_invariant(monkeypatch):
    """The residual stream as a whole is normalised before each reading: only its direction
    counts."""
    monkeypatch.setattr(model, "EPS", 0.0)
    config = config_of()
    params = model_of(config)
    writes = ("embedding", "position", "output", "down")
    stretched = {name: 3.0 * W if role(name) in writes else W for name, W in params.items()}
    torch.testing.assert_close(
        forward(stretched, TOKENS, config),
        forward(params, TOKENS, config),
        rtol=1e-11,
        atol=1e-11,
    )


@pytest.mark.parametrize("which", ["query", "key"])
@pytest.mark.parametrize("qk_norm", model.QK_NORMS)
def test_the_gradient_is_tangential_to_a_scale_invariant_matrix(
    monkeypatch, qk_norm, which
):
    """Euler: <grad L(W), W> = 0, the paper's equation (5); also for each head's rows where
    heads are normalised."""
    monkeypatch.setattr(model, "EPS", 0.0)
    config = config_of(qk_norm=qk_norm)
    params = {name: W.requires_grad_() for name, W in model_of(config).items()}
    F.cross_entropy(
        forward(params, TOKENS, config), torch.tensor([0, 1, 2, 3, 4])
    ).backward()
    for layer in range(config.layers):
        W = params[f"{layer}.{which}"]
        rows = (W * W.grad).detach().unflatten(0, (config.heads, -1)).sum((-2, -1))
        size = float(W.detach().norm() * W.grad.norm())
        assert size > 0
        assert (abs(float(rows.sum())) < 1e-12 * size) == (qk_norm != "none")
        assert (float(rows.abs().max()) < 1e-12 * size) == (qk_norm == "head")


# --- parameters and configuration


def test_shapes_and_initial_distribution():
    config = ModelConfig(vocab=98, seq_len=3, classes=97)
    params = init_params(config, torch.Generator().manual_seed(0))
    assert {name: tuple(W.shape) for name, W in params.items()} == shapes(config)
    assert all(W.dtype == torch.float32 and not W.requires_grad for W in params.values())
    for name, W in params.items():
        if W.ndim == 1:
            assert torch.equal(W, torch.ones_like(W)), name
            continue
        std = {"embedding": 1.0, "position": 0.02}.get(name, W.shape[-1] ** -0.5)
        # at least 384 samples: the sample deviation is within 4 / sqrt(2 n) of the true
        # one, and so for the mean
        assert abs(float(W.std()) / std - 1) < 4 / (2 * W.numel()) ** 0.5, name
        assert abs(float(W.mean())) < 4 * std / W.numel() ** 0.5, name


def test_the_default_model_is_the_papers():
    config = ModelConfig(vocab=98, seq_len=3, classes=97)
    assert (config.d_model, config.heads, config.layers, config.qk_norm) == (
        128,
        4,
        2,
        "head",
    )
    assert shapes(config)["0.query_norm"] == (32,)
    assert shapes(config_of(qk_norm="width"))["0.key_norm"] == (16,)
    assert not any("query_norm" in name for name in shapes(config_of(qk_norm="none")))
    assert all(len(shape) == 2 for shape in shapes(config_of(gains=False)).values())


def test_initialisation_depends_on_the_generator_only():
    config = config_of()
    torch.manual_seed(1)
    first = init_params(config, torch.Generator().manual_seed(5))
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = init_params(config, torch.Generator().manual_seed(5))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(before, torch.random.get_rng_state())
    other = init_params(config, torch.Generator().manual_seed(6))
    assert not torch.equal(first["0.query"], other["0.query"])


def test_forward_changes_neither_parameters_nor_tokens():
    config = config_of()
    params, tokens = model_of(config), TOKENS.clone()
    before = {name: W.clone() for name, W in params.items()}
    forward(params, tokens, config)
    assert torch.equal(tokens, TOKENS) and all(
        torch.equal(W, before[name]) for name, W in params.items()
    )


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"heads": 3}, ValueError, "heads must divide d_model = 16, got 3"),
        ({"layers": 0}, ValueError, "layers"),
        ({"d_model": -4}, ValueError, "d_model"),
        ({"vocab": 2.0}, TypeError, "vocab"),
        ({"heads": True}, TypeError, "heads"),
        ({"mlp_ratio": None}, TypeError, "mlp_ratio"),
        (
            {"qk_norm": "layer"},
            ValueError,
            "qk_norm must be one of 'head', 'width', 'none', got 'layer'",
        ),
        ({"qk_norm": None}, ValueError, "qk_norm"),
        ({"gains": "yes"}, TypeError, "gains"),
    ],
)
def test_a_bad_config_is_one_clear_error(options, error, words):
    with pytest.raises(error, match=words):
        config_of(**options)


def test_a_token_outside_the_vocabulary_is_an_error():
    config = config_of()
    with pytest.raises((ValueError, RuntimeError, IndexError)):
        forward(model_of(config), torch.tensor([[0, 1, 7]]), config)


# --- what a model cannot be


def test_the_number_of_parameters():
    for options in (
        {},
        {"gains": False},
        {"layers": 5, "mlp_ratio": 3, "qk_norm": "width"},
    ):
        config = config_of(**options)
        params = init_params(config, torch.Generator())
        assert config.parameters == sum(W.numel() for W in params.values())


def test_a_full_size_model_is_described_and_an_impossible_one_refused():
    full = ModelConfig(vocab=50_000, seq_len=2048, classes=50_000, d_model=4096, layers=48)
    assert 4 * full.parameters < model.PARAMETER_BYTES
    with pytest.raises(
        ValueError,
        match=r"d_model = 1048576, .* asks for 26,388,302,135,296 parameters, 105,553.2 GB",
    ):
        config_of(d_model=2**20)
    for name in ("vocab", "seq_len", "classes", "layers", "mlp_ratio"):
        with pytest.raises(ValueError, match=rf"{name} = 1000000000000.* asks for .* GB"):
            config_of(**{name: 10**12})
    with pytest.raises(ValueError, match="layers must be an integer <= 10000, got 10001"):
        config_of(d_model=1, heads=1, layers=10_001)


def test_numpy_sizes_do_not_wrap_around():
    config = config_of(d_model=np.int8(64), mlp_ratio=np.int8(4))
    assert shapes(config)["0.up"] == (256, 64) and config == config_of(d_model=64)


CONFIG = config_of()


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (TOKENS - 1, ValueError, r"tokens must be in 0 .. 6 \(vocab = 7\), got -1 .. 5"),
        (TOKENS + 1, ValueError, r"tokens must be in 0 .. 6 \(vocab = 7\), got 1 .. 7"),
        (TOKENS.int(), TypeError, "tokens must be an int64 tensor, got dtype torch.int32"),
        (TOKENS.float(), TypeError, "tokens must be an int64 tensor"),
        (TOKENS.tolist(), TypeError, "tokens must be a torch.Tensor, got list"),
        (TOKENS.to("meta"), TypeError, "tokens must hold data"),
        (
            TOKENS[0],
            ValueError,
            r"tokens must have shape \(B, 3\) or \(runs, B, 3\), got \(3,\)",
        ),
        (TOKENS[:, :1], ValueError, r"tokens must have shape .* got \(5, 1\)"),
        (
            TOKENS.expand(2, 2, 5, 3),
            ValueError,
            r"tokens must have shape .* got \(2, 2, 5, 3\)",
        ),
    ],
)
def test_tokens_that_are_none(tokens, error, message):
    with pytest.raises(error, match="^" + message):
        forward(model_of(CONFIG), tokens, CONFIG)


def test_tokens_of_other_runs():
    stack = stack_params([model_of(CONFIG)] * 2)
    assert forward(stack, TOKENS.expand(2, 5, 3), CONFIG).shape == (2, 5, 6)
    assert forward(stack, TOKENS.expand(1, 5, 3), CONFIG).shape == (2, 5, 6)
    with pytest.raises(ValueError, match=r"^tokens must have the runs .* \(3, 5, 3\)"):
        forward(stack, TOKENS.expand(3, 5, 3), CONFIG)


def without(name):
    return {key: W for key, W in model_of(CONFIG).items() if key != name}


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ("head", TypeError, "params must be a mapping of tensors, got str"),
        ([], TypeError, "params must be a mapping of tensors, got list"),
        (
            without("0.key_norm"),
            ValueError,
            "params must hold the 24 .* without 0.key_norm",
        ),
        (model_of(CONFIG) | {"bias": TOKENS}, ValueError, "params must .* with 'bias'"),
        (
            model_of(CONFIG) | {"position": torch.ones(1, 16)},
            ValueError,
            r"params\['position'\] must have shape \(3, 16\), .* got \(1, 16\)",
        ),
        (
            model_of(CONFIG) | {"norm": torch.ones(1)},
            ValueError,
            r"params\['norm'\] must have shape \(16,\)",
        ),
        (
            model_of(CONFIG) | {"head": torch.ones(2, 2, 6, 16)},
            ValueError,
            r"params\['head'\] must have shape",
        ),
        (
            model_of(CONFIG) | {"head": None},
            TypeError,
            r"params\['head'\] must be a torch.Ten",
        ),
        (
            model_of(CONFIG) | {"head": torch.ones(6, 16).to_sparse()},
            TypeError,
            r"params\['head'\] must be a dense tensor",
        ),
        (
            model_of(CONFIG) | {"head": torch.ones(6, 16)},
            ValueError,
            "params must agree in their runs axis, dtype and device",
        ),
        (
            stack_params([model_of(CONFIG)] * 2) | {"head": torch.ones(3, 6, 16).double()},
            ValueError,
            r"params must agree in their runs axis, .* got \[2, 3\] runs",
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_parameters_that_are_none(params, error, message):
    with pytest.raises(error, match="^" + message):
        forward(params, TOKENS, CONFIG)


def test_parameters_in_another_order_or_partly_stacked():
    params = model_of(CONFIG)
    expected = forward(params, TOKENS, CONFIG)
    backwards = dict(reversed(params.items()))
    assert torch.equal(forward(backwards, TOKENS, CONFIG), expected)
    partly = params | {"embedding": params["embedding"].expand(2, 7, 16)}
    assert torch.allclose(forward(partly, TOKENS, CONFIG), expected.expand(2, 5, 6))


def test_the_checks_stay_out_of_a_trace():
    params = model_of(CONFIG)
    graph = make_fx(lambda *x: forward(*x, CONFIG), tracing_mode="fake")(params, TOKENS)
    other = TOKENS.flip(0)
    torch.testing.assert_close(graph(params, other), forward(params, other, CONFIG))


@pytest.mark.parametrize(
    ("models", "error", "message"),
    [
        ([], ValueError, "models must hold the parameters of at least one model"),
        ("ab", TypeError, "models must be a list of parameters, got str"),
        (
            [{"head": torch.ones(2)}, None],
            TypeError,
            r"models\[1\] must be of type Mapping",
        ),
        ([{"head": torch.ones(2)}, {}], ValueError, r"models must agree .* models\[1\]"),
        (
            [{"head": torch.ones(2)}, {"head": torch.ones(3)}],
            ValueError,
            r"models must agree .* models\[1\]",
        ),
    ],
)
def test_models_that_make_no_stack(models, error, message):
    with pytest.raises(error, match="^" + message):
        stack_params(models)


def test_no_config_and_no_generator():
    with pytest.raises(
        TypeError, match=r"^config must be of type ModelConfig, got NoneType"
    ):
        init_params(None, torch.Generator())
    with pytest.raises(TypeError, match=r"^generator must be of type Generator, got int"):
        init_params(CONFIG, 0)
    with pytest.raises(TypeError, match=r"^config must be of type ModelConfig, got dict"):
        forward(model_of(CONFIG), TOKENS, {})


def test_gains_may_be_of_a_narrower_type():
    config = ModelConfig(vocab=5, seq_len=3, classes=4, d_model=8, heads=2)
    wide = {
        name: W.double()
        for name, W in init_params(config, torch.Generator().manual_seed(0)).items()
    }
    mixed = {name: W.float() if role(name) in GAIN_ROLES else W for name, W in wide.items()}
    tokens = torch.tensor([[0, 1, 4]])
    assert torch.equal(forward(mixed, tokens, config), forward(wide, tokens, config))
    narrow = {name: W.float() for name, W in wide.items()} | {"norm": wide["norm"]}
    with pytest.raises(ValueError, match="params must agree in their runs axis, dtype"):
        forward(narrow, tokens, config)


@pytest.mark.parametrize(
    ("temper", "error", "words"),
    [
        (0.5, TypeError, "temper must be a torch.Tensor, got float"),
        (torch.ones(2).long(), TypeError, "temper must be a floating-point tensor"),
        (torch.ones(3), ValueError, r"temper must be one number.*got shape \(3,\)"),
        (torch.ones(2, 1), ValueError, r"temper must be one number.*got shape \(2, 1\)"),
    ],
)
def test_a_temper_of_other_runs_is_refused(temper, error, words):
    config = config_of()
    params = stack_params([model_of(config), model_of(config, seed=1)])
    with pytest.raises(error, match=words):
        forward(params, TOKENS, config, temper)


def test_a_temper_is_a_factor_of_the_scores_of_its_run():
    """As of the query's gain, which is one."""
    config = config_of()
    one, two = model_of(config), model_of(config, seed=1)
    temper = torch.tensor([0.5, 2.0], dtype=torch.float64)
    both = forward(stack_params([one, two]), TOKENS, config, temper)
    for params, t, logits in zip((one, two), temper, both, strict=True):
        scaled = {
            name: W * t if role(name) == "query_norm" else W for name, W in params.items()
        }
        expected = forward(scaled, TOKENS, config)
        torch.testing.assert_close(logits, expected)
        torch.testing.assert_close(forward(params, TOKENS, config, t), expected)


def test_parameters_are_float32_whatever_the_default():
    config, seeded = config_of(), lambda: torch.Generator().manual_seed(0)
    params = init_params(config, seeded())
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        again = init_params(config, seeded())
    finally:
        torch.set_default_dtype(default)
    assert all(W.dtype == torch.float32 for W in again.values())
    assert all(torch.equal(W, again[name]) for name, W in params.items())
