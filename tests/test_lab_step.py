"""The train step that the browser runs is lrdlib's own: `train_step` against
lrdlib.training.train, step by step."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrdlib.lab.export import Comparing, description, sources, step_inputs, trace
from lrdlib.lab.step import evaluate, numbers, train_step
from lrdlib.model import init_params, shapes
from lrdlib.training.batches import batches
from lrdlib.training.config import TrainConfig
from lrdlib.training.step import flat, named
from lrdlib.training.train import Training

TINY = dict(
    p=7, d_model=16, heads=2, batch_size=16, fraction=0.6, lr=3e-3, steps=20, eval_every=20
)
RULES = {
    "none": dict(rule="none", weight_decay=0.0),
    "l2": dict(rule="l2", weight_decay=3.0),
    "lrd": dict(rule="lrd", weight_decay=0.02, l2=0.5),
    "lrd-decoupled-on-qk": dict(
        rule="lrd", weight_decay=5.0, mode="decoupled", select="qk", scale=None, ns_steps=5
    ),
    "elastic": dict(rule="elastic", weight_decay=0.02, l2=2.0),
    # the switches of the page
    "radial": dict(rule="lrd", weight_decay=0.02, part="radial"),
    "tangential-held": dict(rule="lrd", weight_decay=0.02, part="tangential", hold="norm"),
    "vo-mlp": dict(rule="lrd", weight_decay=0.02, l2=0.5, select="vo+mlp"),
    "l2-on-vo": dict(rule="l2", weight_decay=3.0, select="vo", l2_on="selected"),
    "frozen": dict(rule="elastic", weight_decay=0.02, l2=2.0, attention="frozen"),
    "uniform": dict(rule="l2", weight_decay=3.0, attention="uniform"),
}


def state_of(training: Training) -> tuple[torch.Tensor, ...]:
    """(weights, exp_avg, exp_avg_sq) of a stack of one, as vectors."""
    weights, exp_avg, exp_avg_sq = (x[0].clone() for x in training._state().values())
    return weights, exp_avg, exp_avg_sq


def inputs_of(training: Training) -> tuple[torch.Tensor, ...]:
    """The other inputs of `train_step` for the training's next step."""
    c = training.configs[0]
    (rows,) = batches(
        training.splits[0].train,
        seed=c.seed,
        start=training.step,
        count=1,
        size=c.batch_size,
    )
    return (
        torch.tensor(float(training.step)),
        training.tokens[rows],
        training.labels[rows],
        *numbers(c).values(),
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_step_is_lrdlib_s_own(rule):
    config = TrainConfig(**(TINY | RULES[rule]))
    training = Training([config])
    low = config.low_rank
    step = partial(
        train_step, model=config.model(config.data()), config=config, low_rank=low
    )
    for _ in range(config.steps):
        _, *after = step(*state_of(training), *inputs_of(training))
        training.update()
        for ours, theirs in zip(after, state_of(training), strict=True):
            # float32 rounding; the polar factor multiplies that of a small singular value
            # by up to 2e4 (lrdlib.polar), and the strength (0.02) and the share of such
            # values bring it down again
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=5e-5 if low else 1e-6)


def test_the_loss_is_the_batch_s_before_the_step():
    config = TrainConfig(**TINY, rule="none", weight_decay=0.0)
    inputs = step_inputs(config)
    loss, *_ = train_step(
        *inputs.values(), model=config.model(config.data()), config=config, low_rank=False
    )
    losses, *_ = evaluate(
        inputs["weights"],
        inputs["tokens"],
        inputs["labels"],
        model=config.model(config.data()),
    )
    torch.testing.assert_close(loss, losses.mean())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.sampled_from([8, 16]), st.integers(0, 5))
def test_a_vector_and_its_names_are_inverse(layers, d_model, seed):
    config = TrainConfig(p=5, d_model=d_model, heads=2, layers=layers, fraction=0.5)
    model = config.model(config.data())
    params = init_params(model, torch.Generator().manual_seed(seed))
    again = named(flat(params), model)
    assert list(again) == list(params) and all(
        torch.equal(again[name], W) for name, W in params.items()
    )


@pytest.mark.parametrize("rule", ["l2", "elastic"])
def test_the_trace_computes_what_the_function_does_on_other_numbers(rule):
    config = TrainConfig(**(TINY | RULES[rule]))
    function = partial(
        train_step,
        model=config.model(config.data()),
        config=config,
        low_rank=rule == "elastic",
    )
    traced = trace(function, tuple(step_inputs(config).values()))
    training = Training([config])
    for _ in range(3):
        training.update()
    given_now = (*state_of(training), *inputs_of(training))
    for got, wanted in zip(traced(*given_now), function(*given_now), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=5e-5)  # as above


def test_one_hot_rows_by_comparison_are_torch_s():
    tokens = torch.tensor([[0, 3], [2, 1]])
    plain = torch.nn.functional.one_hot(tokens, 4)
    with Comparing():
        assert torch.equal(torch.nn.functional.one_hot(tokens, 4), plain)


def test_the_description_fits_the_model():
    config = TrainConfig(**TINY)
    given = description(config)
    sizes = {entry["name"]: tuple(entry["shape"]) for entry in given["shapes"]}
    assert sizes == shapes(config.model(config.data()))
    assert sum(entry["size"] for entry in given["shapes"]) == len(
        step_inputs(config)["weights"]
    )
    assert len(given["table"]["labels"]) == 49 and len(given["table"]["tokens"]) == 3 * 49
    assert given["sources"] == sources()
