"""Training against a plain float64 loop, and what a stack, a checkpoint and a record
promise."""

import collections
import contextlib
import copy
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import oracles
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import lrdlib
from lrdlib import spectral
from lrdlib.model import GAIN_ROLES, forward, init_params, role
from lrdlib.tasks import split, task
from lrdlib.training import store
from lrdlib.training.batches import batches
from lrdlib.training.checkpoint import CHECKPOINT, checkpoint_configs
from lrdlib.training.config import RULES, TrainConfig
from lrdlib.training.records import (
    METRICS,
    Record,
    record_arrays,
    records_from,
    unless_diverged,
)
from lrdlib.training.runs import runs_of
from lrdlib.training.stacks import train_stack
from lrdlib.training.step import named
from lrdlib.training.train import Training, _begun, train

TINY = TrainConfig(
    p=7,
    d_model=16,
    heads=2,
    layers=2,
    batch_size=16,
    steps=6,
    eval_every=2,
    lr=3e-3,
    weight_decay=0.02,
    method="svd",
)


def batch(rows, **how):
    """The one batch of a step."""
    return batches(rows, count=1, **how)[0]


def tiny(**options):
    return replace(TINY, **options)


def in_double(training):
    """The same training in float64, where a comparison with a float64 oracle can be
    tight."""
    training._norms = {name: norm.double() for name, norm in training._norms.items()}
    training._outside = training._outside.double()
    training._hold(training._weights.double())
    training.coefficients = training._coefficients(training.live, [])
    return training


def drift(W, expected, start):
    """How far W is from where it should be, relative to how far it should have moved."""
    return float((W - expected).norm() / (expected - start).norm().clamp_min(1e-12))


def same(a, b):
    """Whether two records are equal to the last bit, NaN equal to NaN."""

    def equal(x, y):
        return list(x) == list(y) and all(
            x[k].dtype == y[k].dtype and x[k].numpy().tobytes() == y[k].numpy().tobytes()
            for k in x
        )

    return (
        a.step == b.step
        and equal(a.metrics, b.metrics)
        and equal(a.singular_values, b.singular_values)
        and equal(a.fourier, b.fourier)
    )


def all_same(a, b):
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def state_of(training):
    """Everything that a failed load must leave alone, as bytes."""
    return (
        {name: state.numpy().tobytes() for name, state in training._state().items()},
        training.step,
        len(training.records),
        training._given,
    )


# --- the step

CASES = {
    "none": {"rule": "none"},
    "l2": {"rule": "l2", "weight_decay": 3.0},
    "lrd": {"rule": "lrd", "weight_decay": 0.02, "l2": 2.0},
    "lrd-decoupled": {"rule": "lrd", "weight_decay": 5.0, "mode": "decoupled"},
    "lrd-unscaled": {
        "rule": "lrd",
        "weight_decay": 0.02,
        "scale": None,
        "select": "qk",
        "l2": 0.1,
    },
    "elastic": {"rule": "elastic", "weight_decay": 0.02, "l2": 2.0},
    "elastic-decoupled": {
        "rule": "elastic",
        "weight_decay": 5.0,
        "l2": 2.0,
        "mode": "decoupled",
    },
    "proximal": {"rule": "proximal", "weight_decay": 0.05, "l2": 2.0},
    "lrd-none": {"rule": "lrd", "weight_decay": 0.0, "l2": 2.0},
    "proximal-unscaled": {
        "rule": "proximal",
        "weight_decay": 0.1,
        "scale": None,
        "select": "qk",
    },
    # the arms of experiments
    "radial": {"rule": "lrd", "weight_decay": 0.05, "part": "radial"},
    "tangential": {"rule": "lrd", "weight_decay": 0.05, "part": "tangential", "l2": 1.0},
    "held": {"rule": "lrd", "weight_decay": 0.05, "hold": "norm"},
    "none-held": {"rule": "none", "hold": "norm"},
    "l2-blocks": {"rule": "l2", "weight_decay": 3.0, "l2_on": "selected"},
    "l2-outside": {
        "rule": "l2",
        "weight_decay": 3.0,
        "l2_on": "selected",
        "select": "embedding+head",
    },
    "vo-mlp": {"rule": "lrd", "weight_decay": 0.05, "select": "vo+mlp", "l2": 1.0},
    "frozen": {"rule": "elastic", "weight_decay": 0.02, "l2": 2.0, "attention": "frozen"},
    "uniform": {"rule": "l2", "weight_decay": 3.0, "attention": "uniform"},
    "flat": {"rule": "l2", "weight_decay": 3.0, "rank": "flat"},
    "flat-lrd": {"rule": "lrd", "weight_decay": 0.02, "rank": "flat"},
    "cut": {"rule": "none", "rank": 1},
    "cut-l2": {"rule": "l2", "weight_decay": 3.0, "rank": 3},
    "cut-lrd": {"rule": "lrd", "weight_decay": 0.02, "rank": 2},
    "qk-held": {"rule": "lrd", "weight_decay": 0.05, "hold": "qk"},
    "qk-rates": {"rule": "l2", "weight_decay": 3.0, "hold": "qk", "qk_rates": (2.5,)},
    "cut-held": {"rule": "l2", "weight_decay": 3.0, "rank": 2, "hold": "norm"},
    "small-start": {
        "rule": "l2",
        "weight_decay": 3.0,
        "init_scale": 0.5,
        "decay_gains": True,
    },
    "slow": {"rule": "lrd", "weight_decay": 0.02, "lr": 1e-4, "betas": (0.8, 0.95)},
}
# what all runs of a stack share
ALIKE = {
    "per-head": {"rule": "lrd", "weight_decay": 0.02, "per_head": True},
    "sgd": {"rule": "lrd", "weight_decay": 0.02, "optimizer": "sgd", "lr": 0.1},
    "muon": {"rule": "l2", "weight_decay": 3.0, "optimizer": "muon"},
}


def decayed_and_cut(name, W, config, start, decayed=oracles.decay_weight):
    """A weight after all that follows the optimiser, the cut at last, by float64 SVD."""
    W, qk = decayed(name, W, config, start), role(name) in ("query", "key")
    if qk and config.hold == "qk":
        W = W * (torch.linalg.norm(start) / torch.linalg.norm(W))
    if not (qk and isinstance(config.rank, int)):
        return W
    U, S, Vh = np.linalg.svd(W.detach().numpy())
    r, long = config.rank, config.hold != "none"
    length = np.linalg.norm(start) / np.linalg.norm(S[:r]) if long else 1.0
    return torch.from_numpy(U[:, :r] * S[:r] * length @ Vh[:r])


def stepped_by_rate(name, W, state, config, *, lr, stepped=oracles.optimiser_step):
    """A weight after the optimiser, at the learning rate that queries and keys have before
    any record."""
    rate = config.qk_rates[0] if config.qk_rates and role(name) in ("query", "key") else 1
    return stepped(name, W, state, config, lr=lr * rate)


@patch.object(oracles, "decay_weight", decayed_and_cut)
@patch.object(oracles, "optimiser_step", stepped_by_rate)
def reference(config, steps):
    """The run of `config` by the plain loop of oracles.train: initial and final
    parameters."""
    data = config.data()
    start = init_params(config.model(data), torch.Generator().manual_seed(config.seed))
    rows = split(data, config.fraction, config.seed).train
    drawn = batches(rows, seed=config.seed, start=0, count=steps, size=config.batch_size)
    temper = torch.tensor(float(config.attention != "uniform"))
    final = oracles.train(
        start,
        lambda params, tokens: forward(params, tokens, config.model(data), temper),
        [(data.tokens[chosen], data.labels[chosen]) for chosen in drawn],
        config,
    )
    return {name: W.double() for name, W in start.items()}, final


@pytest.mark.parametrize("case", [*CASES, *ALIKE])
def test_five_steps_are_those_of_the_plain_loop(case):
    config = tiny(**(CASES | ALIKE)[case])
    training = in_double(Training([config]))
    for _ in range(5):
        training.update()
    start, expected = reference(config, 5)
    for name, W in training.params.items():
        # float64; strengths are float32 tensors, exact to 6e-8, and Adam's division
        # magnifies rounding
        assert drift(W.detach()[0], expected[name], start[name]) < 1e-5, name


def test_five_steps_in_single_precision():
    """As it is really run: Adam turns a gradient's rounding into a step where the gradient
    is about 0, so by norm."""
    config = tiny(**CASES["elastic"], gains=True)
    training = Training([config])
    for _ in range(5):
        training.update()
    start, expected = reference(config, 5)
    for name, W in training.params.items():
        assert W.dtype == torch.float32
        assert drift(W.detach()[0].double(), expected[name], start[name]) < 1e-2, name


@pytest.mark.parametrize(
    "options",
    [{"task": "parity", "bits": 4}, {"task": "div", "qk_norm": "width", "gains": False}],
)
def test_other_tasks_and_models_are_those_of_the_plain_loop(options):
    config = tiny(**options, **CASES["elastic"], betas=(0.8, 0.99), batch_size=5, seed=3)
    training = in_double(Training([config]))
    for _ in range(3):
        training.update()
    start, expected = reference(config, 3)
    for name, W in training.params.items():
        assert drift(W.detach()[0], expected[name], start[name]) < 1e-5, name


STACKS = {
    "rules": [CASES[rule] for rule in ("none", "l2", "lrd", "elastic", "lrd-none")],
    "proximal": [CASES[rule] for rule in ("none", "l2", "proximal")],
    "arms": [
        options
        for options in CASES.values()
        if options.get("rule") != "proximal" and "scale" not in options
    ],
    "per-head": [
        {"per_head": True, "rule": "l2", "weight_decay": 3.0},
        *(ALIKE["per-head"] | {"part": part} for part in ("both", "radial", "tangential")),
    ],
    "sgd": [ALIKE["sgd"], ALIKE["sgd"] | {"lr": 0.03, "betas": (0.5, 0.9)}],
    "muon": [ALIKE["muon"], ALIKE["muon"] | {"lr": 1e-3, "rule": "lrd"}],
    "fractions": [{"fraction": f, "seed": s} for f, s in ((0.3, 1), (0.5, 1), (0.5, 2))],
}


@pytest.mark.parametrize("stack", list(STACKS))
def test_a_stack_is_the_same_runs_alone(stack):
    configs = [tiny(**options) for options in STACKS[stack]]
    together = in_double(Training(configs))
    alone = [in_double(Training([config])) for config in configs]
    for _ in range(6):
        for training in (together, *alone):
            training.update()
    for r, training in enumerate(alone):
        for name, W in training.params.items():
            start = init_params(
                training.model, torch.Generator().manual_seed(configs[r].seed)
            )[name].double()
            # float64: batched matmuls may sum in another order, no more
            assert drift(together.params[name].detach()[r], W.detach()[0], start) < 1e-6, (
                r,
                name,
            )


def test_queries_and_keys_have_the_rank_that_is_asked_for_and_others_are_untouched():
    """Runs of every kind of rank in one stack, from the first step on; the runs without a
    rank are to the bit those of a stack without one."""
    ranks = [None, 1, "flat", 3, 16, None]
    training = Training([tiny(rule="l2", rank=r, seed=i) for i, r in enumerate(ranks)])
    plain = Training([tiny(rule="l2", seed=i) for i in range(len(ranks))])
    for _ in range(2):
        training.update()
        plain.update()
        for name, W in training.params.items():
            for i, r in enumerate(ranks):
                if role(name) not in ("query", "key"):
                    continue
                S = spectral.singular_values(W[i].detach().double())
                if isinstance(r, int) and r < 16:
                    assert S[r] < 1e-6 * S[0] < 1e-2 * S[r - 1], (name, r)
                elif r == "flat":
                    assert S[-1] > 0.9 * S[0]
                else:
                    assert S[-1] > 1e-5 * S[0] and S[-1] < 0.5 * S[0]
            for i in (0, 5):
                assert torch.equal(W[i], plain.params[name][i]), name


def test_the_rates_of_queries_and_keys_begin_with_their_records(tmp_path):
    """The third record is that of step 4, from which on it is three times as quick; also
    after a checkpoint, and the last rate stays."""
    path = tmp_path / "c.npz"
    rates = [(1.0,), (1.0, 1.0, 3.0)]
    configs = [tiny(rule="none", steps=8, qk_rates=some) for some in rates]
    training = Training(configs)
    for _ in range(3):
        next(training)
        assert torch.equal(training._weights[0], training._weights[1])
    training.save(path)
    before = training._weights.clone()
    training.update()
    way = named(training._weights - before, training.model)
    for name, (slow, quick) in way.items():
        factor = 3.0 if role(name) in ("query", "key") else 1.0
        # float32 differences of weights of about 1
        assert torch.allclose(quick, factor * slow, rtol=1e-3, atol=1e-6), name
        assert slow.norm() > 1e-3
    again = Training(configs)
    again.load(path)
    for one in (training, again):
        list(one)
    assert torch.equal(again._weights, training._weights)


def test_a_cut_can_neither_be_set_nor_come_while_a_step_is_captured():
    """It waits for the device: what is captured, `_apply`, is that of a run without it."""
    cut, plain = Training([tiny(rule="l2", rank=2)]), Training([tiny(rule="l2")])
    for training in (cut, plain):
        training._draw()
        training._differentiate()
        training._apply()
    assert torch.equal(cut._weights, plain._weights)
    with pytest.raises(ValueError, match="got 'rank'"):
        cut.set(rank=None)


def test_a_stack_in_single_precision_has_the_same_metrics_to_rounding():
    configs = [tiny(**options) for options in STACKS["rules"]]
    together = list(train(configs))
    for r, config in enumerate(configs):
        for a, b in zip(train(config), together, strict=True):
            for name, value in a.metrics.items():
                # six steps of Adam at lr 3e-3 from rounding of 1e-7; an accuracy may move
                # by one row of at most 49
                atol = 0.08 if "accuracy" in name else 2e-3
                torch.testing.assert_close(
                    b.metrics[name][r], value[0], rtol=2e-3, atol=atol, equal_nan=True
                )


def test_training_is_reproducible_to_the_bit_and_uses_no_global_generator():
    configs = [tiny(rule="lrd"), tiny(rule="elastic", l2=1.0, seed=1)]
    first = list(train(configs))
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    assert all_same(first, list(train(configs)))
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_seed_determines_split_weights_and_batches():
    a, b, c = Training([tiny(seed=1), tiny(seed=1), tiny(seed=2)]).params["0.query"]
    assert torch.equal(a, b) and not torch.equal(a, c)


DIVERGING = [
    ("lrd", "polar_express"),
    ("lrd", "cubic"),
    ("lrd", "svd"),
    ("proximal", "polar_express"),
]


@pytest.mark.parametrize("rule, method", DIVERGING)
@pytest.mark.parametrize("poison", ["nan", "inf"])
def test_a_diverged_run_does_not_disturb_the_others(rule, method, poison):
    configs = [tiny(rule=rule, method=method), tiny(rule=rule, method=method, seed=1)]
    configs.append(tiny(rule="none", method=method, seed=2))
    training, healthy = Training(configs), Training(configs)
    for t in (training, healthy):
        next(t)
    with torch.no_grad():
        training.params["0.query"][1, 2, 3] = float(poison)
        training.params["head"][1] = float(poison)
    for a, b in zip(training, healthy, strict=True):
        for r in (0, 2):
            for name in a.metrics:
                assert torch.equal(a.metrics[name][r], b.metrics[name][r]), name
            for name in a.singular_values:
                assert torch.equal(
                    a.singular_values[name][r], b.singular_values[name][r]
                ), name
        assert a.metrics["train_loss"][1].isnan() and a.metrics["weight_norm"][1].isnan()
        # a rank of a matrix that is not there is no number either
        assert (
            a.metrics["qk_stable_rank"][1].isnan()
            and a.singular_values["0.query"][1].isnan().all()
        )


@pytest.mark.parametrize("rule, method", DIVERGING)
def test_a_stack_that_diverges_by_itself_goes_on(rule, method):
    """A step so large that everything overflows: records say NaN, and nothing raises."""
    records = list(
        train(
            [
                tiny(lr=1e30, rule=rule, method=method),
                tiny(lr=1e30, rule="none", method=method),
            ]
        )
    )
    assert records[-1].step == 6
    assert not torch.isfinite(records[-1].metrics["train_loss"]).all()


# --- batches


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40),
    size=st.integers(1, 100),
    seed=st.integers(0, 2**32 - 1),
    epochs=st.integers(1, 4),
)
def test_every_epoch_holds_each_row_once(n, size, seed, epochs):
    rows = torch.arange(100, 100 + n)
    steps = -(-n * epochs // size)
    stream = torch.cat([batch(rows, seed=seed, start=i, size=size) for i in range(steps)])
    assert stream.shape == (steps * size,)
    together = batches(rows, seed=seed, start=0, count=steps, size=size)
    assert torch.equal(together.flatten(), stream)
    for epoch in stream[: n * epochs].view(epochs, n):
        assert torch.equal(epoch.sort().values, rows)


def test_batches_depend_on_seed_epoch_and_step_only():
    rows = torch.arange(50)
    first = batch(rows, seed=1, start=7, size=20)
    numpys = dict(seed=np.uint8(1), start=np.int8(7), size=np.uint8(20))  # 7 * 20 > 127
    assert torch.equal(batch(rows, **numpys), first)
    batch(rows, seed=2, start=3, size=11)
    assert torch.equal(batch(rows, seed=1, start=7, size=20), first)
    assert not torch.equal(batch(rows, seed=2, start=7, size=20), first)
    epochs = [batch(rows, seed=1, start=step, size=50) for step in range(3)]
    assert not torch.equal(epochs[0], epochs[1]) and not torch.equal(epochs[1], epochs[2])
    assert not torch.equal(epochs[0], batch(rows, seed=2, start=0, size=50))


# --- what is measured


def brute_force(training, r):
    """Metrics of run r by a loop over rows, in float64 through the model's oracle."""
    config, data, model = training.configs[r], training.task, training.model
    params = {name: W.detach()[r] for name, W in training.params.items()}
    logits = oracles.forward(
        params, data.tokens, heads=model.heads, layers=model.layers, qk_norm=model.qk_norm
    )
    parts = split(data, config.fraction, config.seed)
    seen = {tuple(row) for row in data.tokens[parts.train][:, :2].tolist()}
    clean = [
        i
        for i in parts.test.tolist()
        if tuple(data.tokens[i, :2].flip(0).tolist()) not in seen
    ]
    clean = clean if data.commutative else parts.test.tolist()
    out = {}
    for name, rows in {
        "train": parts.train,
        "test": parts.test,
        "orbit_clean": torch.tensor(clean),
    }.items():
        losses = [
            float(torch.logsumexp(logits[i], 0) - logits[i, data.labels[i]])
            for i in rows.tolist()
        ]
        hits = [int(logits[i].argmax()) == int(data.labels[i]) for i in rows.tolist()]
        out[f"{name}_loss"], out[f"{name}_accuracy"] = np.mean(losses), np.mean(hits)
    out["weight_norm"] = np.sqrt(
        sum(float(W.double().square().sum()) for W in params.values())
    )
    out["logit_rms"] = float(logits.square().mean().sqrt())
    for place in ("qk", "vo", "mlp", "embedding", "head"):
        own = [W for name, W in params.items() if role(name) in oracles.WHERE[place]]
        out[f"weight_norm_{place}"] = np.sqrt(
            sum(float((W.double() ** 2).sum()) for W in own)
        )
        if place in ("embedding", "head"):
            continue
        S = [np.linalg.svd(W.double(), compute_uv=False) for W in own]
        out[f"{place}_stable_rank"] = np.mean([(s**2).sum() / s[0] ** 2 for s in S])
        out[f"{place}_alignment"] = np.mean(
            [s.sum() / np.sqrt(len(s) * (s**2).sum()) for s in S]
        )
        if place == "qk":
            out["qk_effective_rank"] = np.mean(
                [np.exp(-np.sum(s / s.sum() * np.log(s / s.sum()))) for s in S]
            )
    return out


@pytest.mark.parametrize("name", ["add", "sub"])
def test_metrics_are_those_of_a_loop_over_rows(name):
    training = Training(
        [tiny(task=name), tiny(task=name, fraction=0.7, seed=4, rule="none")]
    )
    for record in training:
        assert set(record.metrics) == set(METRICS)
        for r in range(2):
            for metric, value in brute_force(training, r).items():
                # float32 logits: 1e-5 in a loss; no two logits of a row are so close that
                # their order could change
                assert float(record.metrics[metric][r]) == pytest.approx(
                    value, rel=2e-5, abs=2e-5
                ), metric
    assert set(record.metrics) == {*brute_force(training, 0), "grad_norm"}


def test_a_record_is_of_the_attention_that_is_trained():
    """Uniform beside learned. By hand it is uniform where queries vanish, far below the eps
    of their norm."""
    learned = tiny(rule="none", lr=0.03)
    training = Training([replace(learned, attention="uniform"), learned])
    *_, record = training
    with_queries = brute_force(training, 0)
    for name, W in training.params.items():
        if role(name) == "query":
            W.data[0] *= 1e-9
    for r in range(2):
        expected = brute_force(training, r)
        for part in ("train", "test", "orbit_clean"):
            for name in (f"{part}_loss", f"{part}_accuracy"):
                found = float(record.metrics[name][r])
                assert found == pytest.approx(expected[name], rel=1e-4), name
    uniform = float(record.metrics["test_loss"][0])
    assert abs(with_queries["test_loss"] - uniform) > 1e-2


def test_singular_values_are_those_of_every_block_matrix():
    training = Training([tiny(), tiny(seed=1)])
    for record in training:
        blocks = {name for name in training.params if role(name) in oracles.BLOCK}
        assert set(record.singular_values) == blocks and len(blocks) == 12
        for name, S in record.singular_values.items():
            expected = torch.linalg.svdvals(training.params[name].detach().double())
            assert S.dtype == torch.float32 and S.shape == (2, 16)
            torch.testing.assert_close(
                S.double(), expected, rtol=1e-6, atol=1e-7
            )  # rounded to float32; sigma_1 about 2, to whose 1e-8 a Gram matrix is exact
    assert set(record.ranks()) == blocks
    for measure in (spectral.stable_rank, spectral.effective_rank, spectral.nuclear_norm):
        torch.testing.assert_close(
            record.ranks(measure)["0.up"], measure(record.singular_values["0.up"])
        )


def test_grad_norm_is_of_the_last_batch_and_nan_before_there_is_one():
    config = tiny(eval_every=1, steps=3)
    training = Training([config])
    assert next(training).metrics["grad_norm"].isnan().all()
    while training.step < 3:
        params = {
            name: W.detach().clone()[0].requires_grad_()
            for name, W in training.params.items()
        }
        rows = batch(
            training.splits[0].train,
            seed=config.seed,
            start=training.step,
            size=config.batch_size,
        )
        logits = forward(params, training.task.tokens[rows], training.model)
        F.cross_entropy(logits, training.task.labels[rows]).backward()
        norm = torch.stack([W.grad.square().sum() for W in params.values()]).sum().sqrt()
        torch.testing.assert_close(
            next(training).metrics["grad_norm"][0], norm, rtol=1e-4, atol=0
        )  # float32


def test_an_empty_orbit_clean_set_is_nan_and_no_error():
    """With nearly all of the table in the training set there may be no pair whose mirror
    image is unseen."""
    config = tiny(fraction=0.98, seed=1)
    assert len(split(task("add", p=7), 0.98, 1).orbit_clean) == 0
    record = next(train(config))
    assert (
        record.metrics["orbit_clean_accuracy"].isnan()
        and record.metrics["orbit_clean_loss"].isnan()
    )
    assert torch.isfinite(record.metrics["test_loss"]).all()


def test_a_test_set_of_swapped_pairs_only_may_leak():
    """Why orbit_clean is there: it never holds a pair whose mirror image is trained on."""
    training = Training([tiny(fraction=0.5)])
    trained = {
        tuple(row)
        for row in training.task.tokens[training.masks["train"][0]][:, :2].tolist()
    }
    clean = training.task.tokens[training.masks["orbit_clean"][0]][:, :2].tolist()
    leaking = training.task.tokens[
        (training.masks["test"] & ~training.masks["orbit_clean"])[0]
    ][:, :2].tolist()
    assert clean and not any((b, a) in trained for a, b in clean)
    assert leaking and all((b, a) in trained for a, b in leaking)


def test_the_first_record_is_the_untrained_model():
    config = tiny()
    record = next(train(config))
    start = init_params(config.model(task("add", p=7)), torch.Generator().manual_seed(0))
    assert record.step == 0
    torch.testing.assert_close(
        record.singular_values["1.down"][0],
        spectral.singular_values(start["1.down"]),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "steps, every, expected",
    [
        (6, 2, [0, 2, 4, 6]),
        (5, 2, [0, 2, 4, 5]),
        (1, 50, [0, 1]),
        (3, 1, [0, 1, 2, 3]),
        (4, 4, [0, 4]),
    ],
)
def test_records_come_every_so_many_steps_and_at_the_end(steps, every, expected):
    training = train(tiny(steps=steps, eval_every=every))
    assert [record.step for record in training] == expected
    assert [record.step for record in training.records] == expected
    assert (
        list(training) == [] and training.step == steps
    )  # a second loop finds it at its end
    with pytest.raises(StopIteration):
        next(training)


def test_stopping_early_and_going_on_is_the_same_iterator():
    training = train(tiny())
    for record in training:
        if record.step == 2:
            break
    assert [record.step for record in training] == [4, 6]
    assert all_same(training.records, list(train(tiny())))


def test_records_are_not_changed_by_later_training():
    training = train(tiny())
    first = next(training)
    kept = Record(
        first.step,
        *copy.deepcopy((first.metrics, first.singular_values, first.fourier)),
    )
    list(training)
    assert same(first, kept)


@pytest.mark.parametrize(
    "options", [{"task": "s5", "batch_size": 8, "steps": 1}, {"task": "parity", "bits": 5}]
)
def test_the_other_kinds_of_task_train(options):
    record = list(train(tiny(**options)))[-1]
    assert all(torch.isfinite(value).all() for value in record.metrics.values())
    if options["task"] == "parity":  # not commutative: no pair leaks into another
        assert torch.equal(record.metrics["orbit_clean_loss"], record.metrics["test_loss"])


def test_training_learns():
    """Memorising a third of a table of 49 takes a tiny model a hundred steps."""
    *_, last = train(tiny(steps=150, eval_every=150, rule="none", lr=1e-2))
    assert (
        float(last.metrics["train_accuracy"]) == 1.0
        and float(last.metrics["train_loss"]) < 0.1
    )


# --- what is changed while it trains

RULE = {"none": {}, "l2": {"weight_decay": 3.0}, "lrd": {"weight_decay": 0.02, "l2": 2.0}}
RULE |= {"elastic": RULE["lrd"], "proximal": RULE["lrd"]}
SETS = {
    f"{a}-{b}": ({"rule": a, **RULE[a]}, {"weight_decay": 0, "l2": 0, "rule": b, **RULE[b]})
    for a in RULE
    for b in RULE
}
SETS["lr"] = (SETS["lrd-lrd"][0], {"lr": 1e-2})
SETS["lr-l2"] = (SETS["l2-l2"][0], {"lr": 1e-2})
SETS["strength"] = (SETS["lrd-lrd"][0], {"weight_decay": np.float64(0.1)})
SETS["to-nothing"] = (SETS["elastic-elastic"][0], {"weight_decay": 0, "l2": 0})


def taken_over(training, config):
    """A new training of `config` with the weights, moments and step of `training`."""
    new = Training([config])
    for name, state in new._state().items():
        state.copy_(training._state()[name])
    new.step = training.step
    return new


@pytest.mark.parametrize("case", list(SETS))
def test_what_is_set_holds_from_the_next_step_on(case):
    before, values = SETS[case]
    training = Training([tiny(**before)])
    for _ in range(3):
        training.update()
    expected = taken_over(training, replace(training.configs[0], **values))
    training.set(**values)
    for _ in range(3):
        training.update()
        expected.update()
    for name, W in training.params.items():
        assert torch.equal(W, expected.params[name]), name
    assert training.live == expected.configs and training.configs == [tiny(**before)]


def weights_moved(training):
    """How far the weights of a training are from its start; 1 there."""
    start = Training(training.configs)._weights
    return float((training._weights - start).norm()) or 1.0


def test_decay_begins_after_a_run_has_memorised(tmp_path, monkeypatch):
    """At the first record that is so many steps after the first of two that say so; also
    when it goes on from a checkpoint in between."""
    monkeypatch.setattr("lrdlib.training.train.MEMORISED", 0.3)
    fields = dict(steps=40, eval_every=5, lr=1e-2, decay_after=10, late_gradient=0.0)
    config = tiny(rule="l2", weight_decay=1.0, **fields)
    training, plain = Training([config]), Training([tiny(rule="none", lr=1e-2)])
    accuracies, start = [], None
    for record in training:
        accuracies.append(float(record.metrics["train_accuracy"]))
        if len(accuracies) == 2:
            training.save(path := tmp_path / "c.npz")
        two = [i for i in range(len(accuracies) - 1) if min(accuracies[i : i + 2]) > 0.3]
        begun = bool(two) and record.step >= 5 * two[0] + 10
        if start is None:
            while plain.step < record.step:
                plain.update()
            # Adam's formula and torch's kernel round otherwise
            assert (training._weights - plain._weights).norm() < 1e-3 * weights_moved(plain)
            start = (record.step, training._weights.clone()) if begun else None
    step, weights = start
    assert 10 < step < 40
    # without the optimiser's step, L2 alone: (1 - lr lambda) a step, of all but the gains
    for name, W in named(weights, training.model).items():
        kept = 1.0 if role(name) in GAIN_ROLES else (1 - 1e-2) ** (40 - step)
        torch.testing.assert_close(
            training.params[name].detach(), kept * W, rtol=1e-5, atol=1e-7
        )
    again = Training([config])
    again.load(path)
    list(again)
    assert torch.equal(again._weights, training._weights)


@pytest.mark.parametrize(
    ("run", "steps"),
    [(0, [200, 200, 250, 300]), (1, [300, 300, 350, None])],
    ids=["from 150", "from 250"],
)
def test_a_decay_begins_so_long_after_the_first_of_two_records_that_say_so(run, steps):
    """Of two runs: memorised once is not enough, and once begun it goes on."""
    both = ["00", "10", "00", "11", "10", "11", "11", "00"]
    records = [(50 * i, [said == "1" for said in pair]) for i, pair in enumerate(both)]
    for after, expected in zip((0, 50, 100, 120), steps, strict=True):
        begun = [_begun(run, after, records[: n + 1]) for n in range(len(records))]
        first = records[begun.index(True)][0] if True in begun else None
        assert first == expected
        assert begun == sorted(begun) and not _begun(run, after, [])
    assert _begun(run, None, [])


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "none"])
def test_every_decay_waits_until_a_run_has_memorised(rule):
    options = {"rule": rule, "weight_decay": 0.5} | ({} if rule == "l2" else {"l2": 1.0})
    plain, waits, decays = (
        Training([tiny(**some)])
        for some in ({"rule": "none"}, {"decay_after": 0, **options}, options)
    )
    for _ in range(4):
        for training in (plain, waits, decays):
            training.update()
    # a proximal step of 0 puts a matrix together again from its SVD
    apart = (waits._weights - plain._weights).norm()
    assert apart < 1e-2 * weights_moved(plain)
    assert (decays._weights - plain._weights).norm() > 10 * apart


def test_a_training_takes_over_where_another_stands():
    """The same as one that changed its rule there; the other stays as it is."""
    begun, whole = Training([tiny()]), Training([tiny()])
    for _ in range(3):
        begun.update(), whole.update()
    before = state_of(begun)
    whole.set(rule="l2", weight_decay=3.0)
    taken = Training([tiny(rule="l2", weight_decay=3.0)])
    taken.take_over(begun)
    for _ in range(3):
        whole.update(), taken.update()
    assert taken.step == 6 and torch.equal(taken._weights, whole._weights)
    assert state_of(begun) == before
    for other, error in (
        (Training([tiny(), tiny(seed=1)]), ValueError),
        (Training([tiny(d_model=8)]), ValueError),
        (tiny(), TypeError),
    ):
        with pytest.raises(error, match="other must"):
            Training([tiny()]).take_over(other)
    next(taken)
    with pytest.raises(ValueError, match="before its first record"):
        taken.take_over(begun)


def test_what_is_set_is_noted_with_its_step():
    training = Training([tiny()])
    training.set(weight_decay=0.02, lr=3e-3)  # as they are
    assert training.changes == []
    training.set(weight_decay=np.float64(0.1))
    training.set(weight_decay=0.2)
    training.update()
    training.set(lr=1e-2, weight_decay=0.2)
    assert training.changes == [{"step": 0, "weight_decay": 0.2}, {"step": 1, "lr": 1e-2}]
    json.dumps(training.changes)


@pytest.mark.parametrize(
    "values, error, word",
    [
        ({"weight_decay": -1}, ValueError, "weight_decay must be .*>= 0"),
        ({"lr": "fast"}, TypeError, "lr must"),
        ({"lr": 1e-2, "rule": "ridge"}, ValueError, "rule must be one of"),
        ({"rule": "none", "l2": 1.0}, ValueError, "l2 must be 0 for rule 'none'"),
        (
            {"seed": 1},
            ValueError,
            "only rule, weight_decay, l2, lr, .* can be set while it trains, got 'seed'",
        ),
    ],
)
def test_what_cannot_be_set_changes_nothing(values, error, word):
    training, expected = Training([tiny()]), Training([tiny()])
    with pytest.raises(error, match=word):
        training.set(**values)
    training.update()
    expected.update()
    assert all(torch.equal(W, expected.params[name]) for name, W in training.params.items())
    assert training.live == training.configs and training.changes == []


def test_a_checkpoint_remembers_what_was_set(tmp_path):
    def after_two(**options):
        training = train(tiny(), **options)
        next(training), next(training)
        training.set(rule="l2", weight_decay=3.0, lr=1e-2)
        return training

    list(whole := after_two())
    next(after_two(checkpoint=(path := tmp_path / "c.npz")))
    resumed = train(tiny(), checkpoint=path)
    assert (
        resumed.live == [tiny(rule="l2", weight_decay=3.0, lr=1e-2)]
        and resumed.changes[0]["step"] == 2
    )
    assert all_same(list(resumed), whole.records)


# --- checkpoints

TWO = [tiny(rule="lrd", l2=1.0), tiny(rule="elastic", l2=1.0, seed=1, fraction=0.6)]


class Quiet(list):
    """A list that hypothesis need not print."""

    def __repr__(self):
        return f"<{len(self)} records>"


@pytest.fixture(scope="module")
def unbroken():
    return Quiet(train(TWO))


class Content(bytes):
    """Bytes that hypothesis need not print."""

    def __repr__(self):
        return f"<{len(self)} bytes>"


@pytest.fixture(scope="module")
def checkpoint_bytes(tmp_path_factory):
    """A checkpoint at step 4 of 6."""
    path = tmp_path_factory.mktemp("good") / "c.npz"
    training = train(TWO, checkpoint=path)
    while not training.records or training.step < 4:
        next(training)
    return Content(path.read_bytes())


@pytest.mark.parametrize("records", [1, 2, 3, 4])
def test_resuming_gives_the_unbroken_history_to_the_bit(tmp_path, unbroken, records):
    path = tmp_path / "new" / "folder" / "c.npz"  # made if missing
    training = train(TWO, checkpoint=path)
    for _ in range(records):
        next(training)
    assert os.listdir(path.parent) == ["c.npz"]  # no partial file stays
    resumed = train(TWO, checkpoint=path)
    assert resumed.step == training.step
    assert all_same(list(resumed), unbroken)
    whole = Training(TWO)
    list(whole)
    assert all(torch.equal(W, whole.params[name]) for name, W in resumed.params.items())
    assert all_same(
        list(train(TWO, checkpoint=path)), unbroken
    )  # and once more, from the end


@pytest.mark.parametrize(
    "config", [tiny(rule="proximal"), tiny(rule="none"), tiny(method="polar_express")]
)
def test_resuming_is_exact_for_every_rule(tmp_path, config):
    path, whole = tmp_path / "c.npz", list(train(config))
    training = train(config, checkpoint=path)
    next(training), next(training)
    assert all_same(list(train(config, checkpoint=path)), whole)


def test_interrupted_between_records_it_goes_on_from_the_last_one(tmp_path, unbroken):
    path = tmp_path / "c.npz"
    training = train(TWO, checkpoint=path)
    next(training), next(training)
    training.update()  # lost
    assert all_same(list(train(TWO, checkpoint=str(path))), unbroken)


KILLED = """
import sys, torch
torch.set_num_threads(int(sys.argv[2]))
from lrdlib.training.train import TrainConfig, train
configs = [TrainConfig(**options) for options in eval(sys.argv[3])]
for record in train(configs, checkpoint=sys.argv[1]):
    print(record.step, flush=True)
"""


@pytest.mark.parametrize("after", [3, 20])
def test_a_killed_process_resumes_to_the_same_history(tmp_path, after):
    path = tmp_path / "c.npz"
    configs = [tiny(steps=4000, eval_every=1), tiny(steps=4000, eval_every=1, rule="none")]
    arguments = [
        str(path),
        str(torch.get_num_threads()),
        repr([asdict(config) for config in configs]),
    ]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if int(line) >= after:
                break
        time.sleep(0.005 * after)  # in the middle of a step, a measurement or a write
        process.send_signal(signal.SIGKILL)
    resumed, whole = train(configs, checkpoint=path), train(configs)
    assert resumed.step >= after
    records = resumed.step + 3
    assert all_same(
        [next(resumed) for _ in range(records)], [next(whole) for _ in range(records)]
    )


def test_a_checkpoint_of_other_configs_is_refused(tmp_path, checkpoint_bytes):
    path = tmp_path / "c.npz"
    path.write_bytes(checkpoint_bytes)
    for configs, word in (
        ([replace(c, lr=1e-4) for c in TWO], "lr = 0.003, not 0.0001"),
        ([TWO[0], replace(TWO[1], seed=2)], r"seed = 1, not 2 \(run 1\)"),
        ([replace(c, betas=(0.9, 0.9)) for c in TWO], "betas"),
        ([replace(c, scale=None) for c in TWO], "scale = 'norm', not None"),
        ([replace(c, steps=7) for c in TWO], "steps = 6, not 7"),
        (TWO[:1], "2 configs, not 1"),
        (TWO[::-1], "run 0"),
    ):
        with pytest.raises(ValueError, match=word):
            train(configs, checkpoint=path)
        training = Training(configs)
        before = state_of(training)
        with pytest.raises(ValueError, match=word):
            training.load(path)
        assert state_of(training) == before


def flipped(good, position, bits):
    bad = bytearray(good)
    bad[position % len(bad)] ^= bits
    return bytes(bad)


def check_damaged(path, content, unbroken):
    """Loading `content` is a ValueError that changes nothing, or, if the damage is in
    unused bytes, the very state."""
    path.write_bytes(content)
    training = Training(TWO)
    before = state_of(training)
    try:
        training.load(path)
    except ValueError as error:
        assert str(path) in str(error)
        assert state_of(training) == before
    else:
        assert (
            all_same(training.records, unbroken[: len(training.records)])
            and training.step == 4
        )


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_truncated_checkpoint_is_refused(tmp_path, checkpoint_bytes, cut):
    path = tmp_path / "c.npz"
    path.write_bytes(checkpoint_bytes[: int(cut * len(checkpoint_bytes))])
    with pytest.raises(ValueError, match="path must be a whole"):
        train(TWO, checkpoint=path)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(from_end=st.booleans(), position=st.integers(0, 10**6), bits=st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_harmless(
    tmp_path, checkpoint_bytes, unbroken, from_end, position, bits
):
    # half of the examples in the zip's directory, at the end, where the headers are
    position = len(checkpoint_bytes) - 1 - position % 6000 if from_end else position
    check_damaged(tmp_path / "c.npz", flipped(checkpoint_bytes, position, bits), unbroken)


@pytest.mark.parametrize(
    "field, value",
    [(8, 0x01), (10, 0x5A), (10, 99)],
    ids=["encrypted", "method", "unknown"],
)
def test_a_damaged_zip_directory_is_refused(
    tmp_path, checkpoint_bytes, unbroken, field, value
):
    """Flags and compression method of a directory entry: zipfile answers with errors of its
    own for these."""
    entry = checkpoint_bytes.index(b"PK\x01\x02")
    bad = bytearray(checkpoint_bytes)
    bad[entry + field] = value
    with pytest.raises(ValueError, match="path must be a whole"):
        (tmp_path / "c.npz").write_bytes(bad)
        train(TWO, checkpoint=tmp_path / "c.npz")


def test_foreign_files_are_refused(tmp_path, unbroken):
    path = tmp_path / "c.npz"
    for content in (
        b"",
        b"not a checkpoint",
        b"PK\x03\x04",
        pickle.dumps({"step": 1}),
        os.urandom(1000),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="path must be a whole"):
            train(TWO, checkpoint=path)
    np.savez(path, a=np.ones(3))
    with pytest.raises(ValueError, match="path must be a whole"):
        train(TWO, checkpoint=path)
    np.save(tmp_path / "c.npy", np.ones(3))
    with pytest.raises(ValueError, match="path must be a whole"):
        train(TWO, checkpoint=tmp_path / "c.npy")
    with pytest.raises((ValueError, OSError)):
        train(TWO, checkpoint=tmp_path)  # a folder
    store.write_arrays(path, "lrdlib-run/1", {}, {})
    with pytest.raises(ValueError, match="which is 'lrdlib-run/1'"):
        train(TWO, checkpoint=path)


class Trap:
    """Unpickling this leaves a trace."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return open, (self.trace, "w")


def test_a_pickle_inside_is_refused_and_never_run(tmp_path, checkpoint_bytes):
    path, trace = tmp_path / "c.npz", tmp_path / "trace"
    path.write_bytes(checkpoint_bytes)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["metric/train_loss"] = np.array([Trap(trace)], dtype=object)
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="path must be a whole"):
        train(TWO, checkpoint=path)
    path.write_bytes(pickle.dumps(Trap(trace)))
    with pytest.raises(ValueError, match="path must be a whole"):
        train(TWO, checkpoint=path)
    assert not trace.exists()


def altered(path, content, change):
    """Write the checkpoint `content` to `path` with `change` made to its header and arrays,
    as a valid container."""
    path.write_bytes(content)
    header, arrays = store.read_arrays(path, CHECKPOINT)
    change(header, arrays)
    store.write_arrays(path, CHECKPOINT, header, arrays)


def header(**fields):
    return lambda header, arrays: header.update(fields)


def lacks(name):
    return lambda header, arrays: (header if name in header else arrays).pop(name)


def holds(name, of):
    return lambda header, arrays: arrays.update({name: np.asarray(of(arrays.get(name)))})


DOWN, LOSS = "param/1.down", "metric/test_loss"
WRONG = {  # of a checkpoint of TWO at step 4, with records at 0, 2 and 4: what is said then
    "no-configs": (lacks("configs"), "configs must be its own, got no configs, not 2"),
    "null-configs": (header(configs=None), "configs must be its own, got no configs"),
    "number-configs": (
        header(configs=[3, 4]),
        r"got 3, not the fields of a config \(run 0",
    ),
    "empty-configs": (header(configs=[{}, {}]), "task = None, not 'add'"),
    "no-torch": (lacks("torch"), "torch must be its version, got None"),
    "no-step": (lacks("step"), "step must be an integer >= 0, got None"),
    "step--1": (header(step=-1), "step must be an integer >= 0, got -1"),
    "step-x": (header(step="x"), "step must be an integer >= 0, got 'x'"),
    "step-true": (header(step=True), "step must be an integer >= 0, got True"),
    "step-4.0": (header(step=4.0), "step must be an integer >= 0, got 4.0"),
    "step-1e9": (header(step=10**9), "step must be its state's, 4, got 1000000000"),
    "step-3": (header(step=3), "step must be its state's, 4, got 3"),
    "step-0": (header(step=0), "step must be its state's, 4, got 0"),
    "no-record": (
        lambda _, arrays: arrays.update(
            {
                k: v[:0]
                for k, v in arrays.items()
                if k[:4] in ("reco", "metr", "spec", "four")
            }
        ),
        "records must hold at least one",
    ),
    "records-later": (
        holds("record/step", lambda old: old + 2),
        "records must be every 2 steps up to 4, got one at 6, after 4",
    ),
    "records-negative": (holds("record/step", lambda old: old - 2), "step must .*, got -2"),
    "records-unsorted": (
        holds("record/step", lambda old: old[[1, 0, 2]]),
        "got one at 0, after 2",
    ),
    "records-off-grid": (
        holds("record/step", lambda old: np.array([0, 1, 4])),
        "got one at 1, after 0",
    ),
    "records-real": (
        holds("record/step", lambda old: old * 1.0),
        "of shape .* and type int64",
    ),
    "records-matrix": (holds("record/step", lambda old: old[:, None]), "and type int64"),
    "records-scalar": (holds("record/step", lambda old: old[0]), "and type int64"),
    "no-records": (lacks("record/step"), "got none: 'record/step'"),
    "no-weight": (lacks(DOWN), "got none: 'param/1.down'"),
    "no-moment": (lacks("exp_avg/1.down"), "got none: 'exp_avg/1.down'"),
    "no-count": (lacks("count"), "got none: 'count'"),
    "no-metric": (lacks(LOSS), "got none: 'metric/test_loss'"),
    "one-more": (holds("metric/luck", lambda _: np.ones(3)), "got one more: 'metric/luck'"),
    "weight-shape": (
        holds(DOWN, lambda old: old[:, :3]),
        "'param/1.down' must be of shape",
    ),
    "weight-runs": (
        holds(DOWN, lambda old: old[:1]),
        r"\(2, 16, 64\) .*, got \(1, 16, 64\)",
    ),
    "weight-type": (holds(DOWN, lambda old: old.astype(float)), "float32, got .* float64"),
    "weight-order": (holds(DOWN, lambda old: old.astype(">f4")), "float32, got .* >f4"),
    "moment-shape": (
        holds("exp_avg_sq/1.down", lambda old: old[:1]),
        "'exp_avg_sq/1.down'",
    ),
    "count-shape": (holds("count", lambda old: old[None]), "'count' must be"),
    "count-value": (
        holds("count", lambda old: np.array(old + 1)),
        "step must be its state's, 5",
    ),
    "metric-length": (holds(LOSS, lambda old: old[:1]), "'metric/test_loss' must be"),
    "metric-runs": (holds(LOSS, lambda old: old[:, :1]), "'metric/test_loss' must be"),
    "metric-type": (holds(LOSS, lambda old: old.astype(int)), "'metric/test_loss' must be"),
    "spectrum-shape": (
        holds("spectrum/0.up", lambda old: old[..., :3]),
        "'spectrum/0.up' must be",
    ),
    "fourier-shape": (
        holds("fourier/embedding", lambda old: old[..., :2]),
        "'fourier/embedding' must be",
    ),
    "norm-shape": (holds("grad_norm", lambda old: old[:1]), "'grad_norm' must be"),
    "changes-null": (
        header(changes=None),
        "changes must be a list of what was set, got None",
    ),
    "changes-text": (header(changes=["lr"]), "changes must be a list"),
    "changes-no-step": (
        header(changes=[{"lr": 0.1}]),
        "step of a change must be an integer",
    ),
    "changes-true": (
        header(changes=[{"step": True}]),
        "step of a change must be an integer",
    ),
    "changes-late": (header(changes=[{"step": 5, "lr": 0.1}]), "increase up to 4, got 5"),
    "changes-unsorted": (
        header(changes=[{"step": 2, "lr": 0.1}, {"step": 2, "lr": 0.2}]),
        "must increase up to 4, got 2 after 2",
    ),
    "changes-name": (
        header(changes=[{"step": 0, "seed": 1}]),
        "only .* can be set while it trains, got 'seed'",
    ),
    "changes-value": (header(changes=[{"step": 0, "lr": -1.0}]), "lr must be .*, got -1"),
    "changes-type": (header(changes=[{"step": 0, "rule": [1]}]), "rule must be one of"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_a_whole_file_with_wrong_contents_is_one_clear_error_and_changes_nothing(
    tmp_path, checkpoint_bytes, case
):
    change, said = WRONG[case]
    altered(path := tmp_path / "c.npz", checkpoint_bytes, change)
    training = Training(TWO)
    next(training), next(training)
    before = whole_state(training), training.records
    with pytest.raises(ValueError, match=f"checkpoint {str(path)!r} must hold .*{said}"):
        training.load(path)
    assert (whole_state(training), training.records) == before
    assert next(training).step == 4


def test_a_checkpoint_of_a_diverged_run_goes_on(tmp_path):
    config = tiny(lr=1e30)
    training, whole = train(config, checkpoint=(path := tmp_path / "c.npz")), train(config)
    next(training), next(training)
    assert not all(torch.isfinite(W).all() for W in training.params.values())
    assert all_same(list(train(config, checkpoint=path)), list(whole))


@pytest.mark.parametrize("error", [OSError, MemoryError])
@pytest.mark.parametrize("read", ["read_arrays", "read_header"])
def test_what_is_not_the_file_s_fault_passes(monkeypatch, error, read):
    def fail(*args):
        raise error("not now")

    place = "checkpoint" if read == "read_header" else "train"
    monkeypatch.setattr(f"lrdlib.training.{place}.{read}", fail)
    with pytest.raises(error, match="not now"):
        checkpoint_configs("c") if read == "read_header" else Training(TWO).load("c")


def test_the_configs_of_a_checkpoint(tmp_path, checkpoint_bytes):
    (path := tmp_path / "c.npz").write_bytes(checkpoint_bytes)
    assert checkpoint_configs(path) == checkpoint_configs(str(path)) == TWO
    with pytest.raises(FileNotFoundError):
        checkpoint_configs(tmp_path / "none.npz")
    path.write_bytes(checkpoint_bytes[:-1000])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        checkpoint_configs(path)
    store.write_arrays(path, "lrdlib-checkpoint/1", {}, {})
    with pytest.raises(ValueError, match="which is 'lrdlib-checkpoint/1'"):
        checkpoint_configs(path)


@pytest.mark.parametrize(
    "configs, said",
    [
        (None, "configs must be a list of fields, got None"),
        ([1], r"configs must be a list of fields, got \[1\]"),
        ([], "at least one"),
        ([{"p": 8, "task": "div"}], "p must be prime"),
        ([{"luck": 1}], "luck"),
        ([asdict(tiny()), asdict(tiny(gains=False))], "agree in gains"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_configs_of_no_sense_in_a_checkpoint_are_one_clear_error(
    tmp_path, checkpoint_bytes, configs, said
):
    altered(path := tmp_path / "c.npz", checkpoint_bytes, header(configs=configs))
    with pytest.raises(ValueError, match=f"checkpoint {str(path)!r} must hold .*{said}"):
        checkpoint_configs(path)


@pytest.mark.parametrize("broken", ["fsync", "replace", "savez"])
def test_a_full_disk_keeps_the_old_checkpoint_and_leaves_no_partial(
    tmp_path, monkeypatch, unbroken, broken
):
    path = tmp_path / "c.npz"
    training = train(TWO, checkpoint=path)
    next(training), next(training)
    old = path.read_bytes()

    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np if broken == "savez" else os, broken, refuse)
        with pytest.raises(OSError, match="No space"):
            next(training)
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["c.npz"]
    assert all_same(list(train(TWO, checkpoint=path)), unbroken)
    # the training itself lost nothing either: its next record is written as if nothing had
    # happened
    list(training)
    assert all_same(training.records, unbroken)
    assert all_same(list(train(TWO, checkpoint=path)), unbroken)


def test_a_checkpoint_is_json_and_arrays_of_numbers(tmp_path, checkpoint_bytes):
    path = tmp_path / "c.npz"
    path.write_bytes(checkpoint_bytes)
    with np.load(path, allow_pickle=False) as file:
        header = json.loads(file[store.HEADER].tobytes())
        assert all(file[name].dtype.kind in "fiu" for name in file.files)
    assert (
        header["kind"] == CHECKPOINT
        and header["step"] == 4
        and header["configs"][0]["rule"] == "lrd"
    )


def test_no_checkpoint_is_written_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    list(train(tiny()))
    assert os.listdir(tmp_path) == []


# --- interrupted, and going on

LONG = [
    tiny(steps=20, eval_every=5, method="polar_express", l2=1.0),
    tiny(steps=20, eval_every=5, method="polar_express", rule="elastic", seed=1),
]
# Where exceptions are raised below: our own lines, and those of torch that we lean on.
TRACED = tuple(
    str(path)
    for path in (
        Path(store.__file__).parent,
        *(Path(lrdlib.__file__).parent / f"{name}.py" for name in ("decay", "optimizer")),
        Path(torch.__file__).parent / "optim",
        Path(torch.__file__).parent / "autograd" / "grad_mode.py",
        Path(torch.__file__).parent / "utils" / "_contextlib.py",
        contextlib.__file__,
    )
)


def with_act_before_line(k, act, work, files=TRACED, spared=()):
    """Do `work`; before the k-th line that it runs in `files`, outside the functions
    `spared`, call `act`. How many lines it ran until it ended or `act` was called."""
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        code = frame.f_code
        if not code.co_filename.startswith(files) or code.co_name in spared:
            return None
        if event == "line":
            lines += 1
            if lines == k:
                sys.settrace(None)
                act()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


def drive(training, *, reload=False):
    """Train to the end, with another learning rate from step 10 on, from wherever it is."""
    if reload and training.checkpoint.exists():
        training.load(training.checkpoint)
    while True:
        if training.step == 10 and len(training.records) == 3 and not training.changes:
            training.set(lr=1e-2, weight_decay=0.05)
        if next(training, None) is None:
            return


def whole_state(training):
    """Weights, AdamW's state and what was set: all that a history does not show."""
    return state_of(training)[:3], training.changes, training.live


@pytest.fixture(scope="module")
def driven():
    drive(training := Training(LONG))
    return training


def assert_as_driven(training, driven):
    assert all_same(training.records, driven.records)
    assert [record.step for record in training.records] == [0, 5, 10, 15, 20]
    assert whole_state(training) == whole_state(driven)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# a file that is interrupted between being opened and being kept closes itself
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_200_interrupts_at_any_line_change_nothing(tmp_path, driven):
    """Ctrl-C before a line drawn at random, again and again: without a checkpoint, with
    one, and with one that is loaded each time."""
    draw = np.random.default_rng(0)
    interrupts, runs = 0, 0
    total = with_act_before_line(0, None, lambda: drive(Training(LONG)))
    while interrupts < 200:
        training = Training(LONG)
        if runs % 3:
            training.checkpoint = tmp_path / f"{runs}.npz"
        # it must come past the next record, and to it where it is loaded again each time
        for k in draw.integers(1, total // (1 if runs % 3 == 2 else 3), size=200):
            try:
                with_act_before_line(
                    k,
                    lambda: signal.raise_signal(signal.SIGINT),
                    lambda: drive(training, reload=runs % 3 == 2),  # noqa: B023
                )
                break
            except KeyboardInterrupt:
                interrupts += 1
        else:
            pytest.fail("it never came to its end")
        torch.set_grad_enabled(True)  # torch's own blocks may have been left in the middle
        assert_as_driven(training, driven)
        if training.checkpoint is not None:
            drive(again := train(LONG, checkpoint=training.checkpoint))
            assert_as_driven(again, driven)
        runs += 1
    print(f"{interrupts} interrupts in {runs} runs of {total} lines")


def test_real_signals_change_nothing(driven):
    """From another thread, whenever they land."""
    draw = random.Random(0)

    def kill(seconds):
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGINT)

    for _ in range(4):
        training = Training(LONG)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                threading.Thread(target=kill, args=(draw.uniform(0, 0.06),)).start()
                drive(training)
                while True:
                    time.sleep(1)  # it had ended before the signal came
        drive(training)
        assert_as_driven(training, driven)


def test_an_exception_at_any_line_changes_nothing_or_is_told(tmp_path, driven):
    """What cannot wait, such as a MemoryError: the training goes on, or says within which
    step it was broken off, and goes on from its checkpoint."""
    draw, counts = np.random.default_rng(1), collections.Counter()
    # those that clean up are spared; half of the exceptions are raised in our own lines,
    # of which fewer are within a change of state
    spared = ("interrupts_held", "__exit__")
    places = [{"files": files, "spared": spared} for files in (TRACED[:1], TRACED)]
    totals = [
        with_act_before_line(0, None, lambda: drive(Training(LONG)), **place)
        for place in places
    ]

    def fail():
        raise MemoryError

    for run in range(50):
        training = train(LONG, checkpoint=(path := tmp_path / f"{run}.npz"))
        k = draw.integers(1, totals[run % 2])
        with pytest.raises(MemoryError):
            with_act_before_line(k, fail, lambda: drive(training), **places[run % 2])  # noqa: B023
        torch.set_grad_enabled(True)
        at = training.step
        try:
            drive(training)
            counts["went on"] += 1
        except RuntimeError as error:
            told = re.search(r"broken off within (set|step \d+),", str(error))[1]
            assert told in ("set", f"step {at}", f"step {at + 1}")
            counts["told"] += 1
            if not path.exists():  # before its first record
                continue
            assert f"load its checkpoint {str(path)!r} (step " in str(error)
            training.load(path)
            drive(training)
        assert_as_driven(training, driven)
    print(dict(counts))
    assert counts["went on"] > 10 and counts["told"] > 10


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_step_that_was_broken_off_is_told_by_all_that_needs_the_weights(
    tmp_path, checkpoint, monkeypatch
):
    path = tmp_path / "c.npz"
    training, whole = train(TWO, checkpoint=path if checkpoint else None), train(TWO)
    next(training), next(training)
    list(whole)
    with monkeypatch.context() as patch:  # after AdamW's part
        patch.setattr("lrdlib.training.train.decay_", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(training)
    named = f"its checkpoint {str(path)!r} (step 2)" if checkpoint else "a checkpoint"
    told = re.escape(
        f"broken off within step 3, and its state is that of no step: load {named}"
    )
    for use in (
        lambda: next(training),
        training.update,
        lambda: training.params,
        lambda: training.measure(torch.zeros(2)),
        lambda: training.set(lr=1.0),
        lambda: training.save(path),
        lambda: runs_of(training),
    ):
        with pytest.raises(RuntimeError, match=told):
            use()
    assert [record.step for record in training.records] == [0, 2]
    if checkpoint:
        training.load(path)
        assert all_same(list(training), whole.records)
        assert whole_state(training) == whole_state(whole)


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("lost", ["snapshot", "save"])
def test_a_record_that_was_interrupted_is_made_when_it_goes_on(tmp_path, unbroken, lost):
    """Each of them, also the first and the last; and it is handed out after all."""
    training = train(TWO, checkpoint=(path := tmp_path / "c.npz"))
    given = []
    for _ in range(4):
        setattr(training, lost, interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(training)
        delattr(training, lost)
        given.append(next(training))
    assert list(training) == [] and all_same(given, unbroken)
    assert all_same(list(train(TWO, checkpoint=path)), unbroken)


def test_a_checkpoint_between_a_step_and_its_record_loses_nothing(tmp_path, unbroken):
    """Such as one that is saved by hand after an interrupt: with the gradient's norm."""
    training = Training(TWO)
    next(training)
    training.snapshot = interrupted
    with pytest.raises(KeyboardInterrupt):
        next(training)
    training.save(path := tmp_path / "c.npz")
    resumed = train(TWO, checkpoint=path)
    assert resumed.step == resumed.due == 2 and len(resumed.records) == 1
    assert all_same(list(resumed), unbroken)


def test_a_load_that_is_broken_off_is_told(tmp_path, checkpoint_bytes, monkeypatch):
    (path := tmp_path / "c.npz").write_bytes(checkpoint_bytes)
    training = Training(TWO)
    with monkeypatch.context() as patch:
        patch.setattr(training, "_use", interrupted)
        with pytest.raises(KeyboardInterrupt):
            training.load(path)
    with pytest.raises(RuntimeError, match="broken off within load"):
        next(training)
    training.load(path)
    assert training.step == 4


def test_gradients_are_kept_where_they_were_switched_off():
    """An interrupt in torch's own no_grad may leave them off for good."""
    training, whole = Training(TWO), Training(TWO)
    whole.update()
    with torch.no_grad():
        training.update()
    assert whole_state(training) == whole_state(whole)


# --- configurations

RANKS_REFUSED = [
    (True, TypeError),
    (2.0, TypeError),
    ([2], TypeError),
    (np.array(["flat", "flat"]), TypeError),
    ("low", ValueError),
    ("2", ValueError),
    (0, ValueError),
    (-1, ValueError),
    (17, ValueError),  # d_model + 1
]


@pytest.mark.parametrize(
    "options, error, word",
    [
        ({"task": "plus"}, ValueError, "task"),
        ({"task": 3}, ValueError, "task"),
        ({"p": 1}, ValueError, "p must"),
        ({"p": 7.0}, TypeError, "p must"),
        ({"task": "div", "p": 8}, ValueError, "p must be prime"),
        ({"task": "parity", "bits": 0}, ValueError, "bits"),
        ({"task": "parity", "bits": 21}, ValueError, "bits"),
        ({"fraction": 0.0}, ValueError, "fraction"),
        ({"fraction": 1.0}, ValueError, "fraction"),
        ({"fraction": float("nan")}, ValueError, "fraction"),
        ({"fraction": "0.4"}, TypeError, "fraction"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 0.0}, TypeError, "seed"),
        ({"seed": 2**32}, ValueError, "seed"),
        (
            {"rule": "LRD"},
            ValueError,
            "rule must be one of 'none', 'l2', 'lrd', 'elastic', 'proximal', got 'LRD'",
        ),
        ({"weight_decay": -1.0}, ValueError, "weight_decay"),
        ({"weight_decay": float("inf")}, ValueError, "weight_decay"),
        ({"weight_decay": None}, TypeError, "weight_decay"),
        ({"l2": -0.1}, ValueError, "l2"),
        *[
            (
                {"rank": r},
                error,
                "rank must be None, 'flat' or an integer from 1 to d_model",
            )
            for r, error in RANKS_REFUSED
        ],
        ({"hold": "vo"}, ValueError, "hold must be one of 'none', 'norm', 'qk', got 'vo'"),
        ({"qk_rates": 2.0}, TypeError, "qk_rates must be numbers, got 2.0"),
        ({"qk_rates": (1.0, 0.0)}, ValueError, r"qk_rates\[1\] must be"),
        ({"qk_rates": ("1",)}, TypeError, r"qk_rates\[0\] must be"),
        ({"qk_rates": (2.0,), "optimizer": "muon"}, ValueError, r"qk_rates must be \(\)"),
        ({"qk_rates": (2.0,), "attention": "frozen"}, ValueError, r"qk_rates must be \(\)"),
        ({"rank": 2, "attention": "frozen"}, ValueError, "rank must be None for attention"),
        ({"rank": "flat", "attention": "uniform"}, ValueError, "rank must .*, got 'flat'"),
        ({"l2": 0.1, "rule": "none"}, ValueError, "l2 must be 0 for rule 'none'"),
        ({"l2": 0.1, "rule": "l2"}, ValueError, "l2 must be 0 for rule 'l2'"),
        ({"l2_on": "selected"}, ValueError, "l2_on must be 'all' for rule 'lrd'"),
        (
            {"rule": "proximal", "part": "radial", "method": "svd"},
            ValueError,
            "part must be 'both' for rule 'proximal'",
        ),
        ({"late_gradient": 0.5}, ValueError, "late_gradient must be 1 without decay_after"),
        ({"mode": "coupled"}, ValueError, "mode"),
        ({"scale": "fro"}, ValueError, "scale"),
        ({"select": "all"}, ValueError, "select"),
        ({"select": lambda name, W: True}, ValueError, "select"),
        ({"method": "qr"}, ValueError, "method"),
        ({"ns_steps": 0}, ValueError, "ns_steps"),
        ({"ns_steps": 2.5}, TypeError, "ns_steps"),
        ({"method": "svd", "ns_steps": 3}, ValueError, "steps"),
        ({"lr": 0.0}, ValueError, "lr"),
        ({"lr": -1.0}, ValueError, "lr"),
        ({"lr": "1e-3"}, TypeError, "lr"),
        ({"betas": (0.9, 1.0)}, ValueError, r"betas\[1\]"),
        ({"betas": (-0.1, 0.9)}, ValueError, r"betas\[0\]"),
        ({"betas": (0.9,)}, (TypeError, ValueError), "betas"),
        ({"betas": (0.9, 0.9, 0.9)}, (TypeError, ValueError), "betas"),
        ({"betas": 0.9}, (TypeError, ValueError), "betas"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"steps": 0}, ValueError, "steps"),
        ({"steps": 1e3}, TypeError, "steps"),
        ({"eval_every": 0}, ValueError, "eval_every"),
        ({"d_model": 0}, ValueError, "d_model"),
        ({"heads": 3}, ValueError, "heads must divide d_model = 16, got 3"),
        ({"layers": 0}, ValueError, "layers"),
        ({"qk_norm": "rms"}, ValueError, "qk_norm"),
        ({"gains": None}, TypeError, "gains"),
    ],
    ids=lambda value: str(value).split(" at 0x")[0][:40],
)
def test_a_bad_config_is_one_clear_error(options, error, word):
    with pytest.raises(error, match=word):
        tiny(**({"method": "polar_express"} | options))


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_a_fraction_that_leaves_a_part_empty_is_an_error(fraction):
    with pytest.raises(ValueError, match="fraction must leave both parts non-empty"):
        train(tiny(fraction=fraction))


@pytest.mark.parametrize(
    "field, value",
    [
        ("p", 5),
        ("per_head", True),
        ("optimizer", "sgd"),
        ("scale", None),
        ("steps", 3),
        ("d_model", 8),
        ("gains", False),
    ],
)
def test_configs_of_a_stack_agree_in_what_they_share(field, value):
    with pytest.raises(ValueError, match=f"agree in {field}"):
        train([tiny(), tiny(**{field: value})])


def test_what_is_no_stack_is_refused():
    with pytest.raises(ValueError, match="configs must hold at least one"):
        train([])
    for wrong in ("add", [asdict(TINY)], [TINY, None], {"a": TINY}, None, 3):
        with pytest.raises(TypeError, match="configs must"):
            train(wrong)
    for rules in (("lrd", "proximal"), ("proximal", "elastic")):
        with pytest.raises(ValueError, match="must not mix the proximal step"):
            train([tiny(rule=rule) for rule in rules])


def test_one_config_a_list_and_a_generator_are_the_same():
    first = next(train(TINY))
    assert same(first, next(train([TINY]))) and same(first, next(train(c for c in [TINY])))
    assert first.metrics["test_loss"].shape == (1,)


def test_every_rule_has_a_run():
    """One stack may hold every rule but the proximal one, which has its own."""
    stack = [
        tiny(rule=rule, l2=0.5 if rule == "elastic" else 0.0)
        for rule in RULES
        if rule != "proximal"
    ]
    assert list(train(stack))[-1].metrics["test_loss"].shape == (4,)


def test_rates_may_be_a_list_as_json_has_them():
    config = tiny(hold="qk", qk_rates=(1.0, 2))
    assert TrainConfig(**json.loads(json.dumps(asdict(config)))) == config
    assert config.qk_rates == (1.0, 2) and hash(config)


@pytest.mark.parametrize("rank", [None, "flat", 1, np.int64(16)])
def test_a_rank_comes_back_from_json(rank):
    config = tiny(rank=rank)
    again = TrainConfig(**json.loads(json.dumps(asdict(config))))
    assert again == config and type(again.rank) is type(config.rank) is not np.int64
    assert config.capped == isinstance(rank, (int, np.integer))


def test_betas_may_be_a_list_as_json_has_them():
    """asdict, JSON and back is how a config travels in a saved run."""
    config = TrainConfig(**json.loads(json.dumps(asdict(TINY))))
    assert config == TINY
    assert same(next(train([config, config])), next(train([TINY, TINY])))


def test_the_defaults_are_the_papers_setting():
    config = TrainConfig()
    assert (config.task, config.p, config.d_model, config.heads, config.layers) == (
        "add",
        97,
        128,
        4,
        2,
    )
    assert (config.qk_norm, config.scale, config.select, config.mode) == (
        "head",
        "norm",
        "attention+mlp",
        "independent",
    )


@pytest.mark.parametrize("updates, steps", [(3, [4, 8, 12]), (4, [4, 8, 12]), (5, [8, 12])])
def test_an_interruption_between_records_keeps_to_the_grid(updates, steps):
    """Ctrl-C in the middle of an interval, then the same object again: records where they
    would have been. One that was passed by hand is not made later."""
    training = train(tiny(steps=12, eval_every=4))
    next(training)
    for _ in range(updates):
        training.update()
    assert training.due == steps[0]
    assert [record.step for record in training] == steps
    assert training.due is None


def test_numpy_scalars_are_numbers(tmp_path):
    config = tiny(seed=np.int64(3), weight_decay=np.float32(0.25), steps=np.int32(2))
    assert config == tiny(seed=3, weight_decay=0.25, steps=2)
    assert isinstance(config.seed, int) and isinstance(config.weight_decay, float)
    betas = (np.float32(0.875), np.float32(0.5))
    config = replace(config, betas=betas, qk_rates=(np.float32(0.25),))
    assert config == tiny(
        seed=3, weight_decay=0.25, steps=2, betas=(0.875, 0.5), qk_rates=(0.25,)
    )
    assert {*map(type, config.betas)} == {float}
    training = train(
        config, checkpoint=tmp_path / "c.npz"
    )  # the checkpoint's header is JSON
    assert [record.step for record in training] == [0, 2]


ROWS, RECORD = torch.arange(5), Record(0, {"a": torch.ones(1)}, {})
REFUSED = {
    "device-none": (
        lambda: train(TINY, device=None),
        TypeError,
        "device must .*, got None",
    ),
    "device-3": (lambda: train(TINY, device=3), TypeError, "device must be .*, got 3"),
    "device-gpu": (
        lambda: train(TINY, device="gpu"),
        ValueError,
        "device must .*, got 'gpu'",
    ),
    "device-99": (
        lambda: train(TINY, device="cuda:99"),
        ValueError,
        "device must be one that",
    ),
    "device-meta": (
        lambda: train(TINY, device="meta"),
        ValueError,
        "device must be one that",
    ),
    "checkpoint-3": (lambda: train(TINY, checkpoint=3), TypeError, "checkpoint .*, got 3"),
    "checkpoint-b": (
        lambda: train(TINY, checkpoint=b"c"),
        TypeError,
        "checkpoint .*, got b'c'",
    ),
    "compile": (lambda: train(TINY, compile=1), TypeError, "compile must be .*, got 1"),
    "configs-empty": (lambda: Training([]), ValueError, "configs must hold .*, got none"),
    "configs-none": (lambda: Training(None), TypeError, "configs must be .*, got NoneType"),
    "configs-one": (
        lambda: Training(TINY),
        TypeError,
        "configs must be .*, got TrainConfig",
    ),
    "configs-iterator": (
        lambda: Training(iter([TINY])),
        TypeError,
        "configs must be a sequence",
    ),
    "configs-text": (lambda: Training("x"), TypeError, "configs must be .*, got str"),
    "load-3": (lambda: Training([TINY]).load(3), TypeError, "path must be .*, got 3"),
    "save-3": (lambda: Training([TINY]).save(3), TypeError, "path must be .*, got 3"),
    "save-early": (
        lambda: Training([TINY]).save("c"),
        ValueError,
        "records must .*, got none",
    ),
    "configs_of-3": (lambda: checkpoint_configs(3), TypeError, "path must be .*, got 3"),
    "measure-none": (
        lambda: Training([TINY]).measure(None),
        TypeError,
        "grad_norm must be a torch.Tensor, got NoneType",
    ),
    "measure-shape": (
        lambda: Training([TINY]).measure(torch.ones(3)),
        ValueError,
        r"grad_norm must be of shape \(1,\), got \(3,\)",
    ),
    "set-tensor": (
        lambda: Training([TINY]).set(weight_decay=torch.ones(2)),
        TypeError,
        "weight_decay must be",
    ),
    "batch-none": (
        lambda: batches(None, seed=0, start=0, count=1, size=1),
        TypeError,
        "train must be",
    ),
    "batch-rows": (
        lambda: batches(ROWS[:0], seed=0, start=0, count=1, size=1),
        ValueError,
        r"train must be at least one row \(n,\), got \(0,\)",
    ),
    "batch-table": (
        lambda: batches(ROWS[None], seed=0, start=0, count=1, size=1),
        ValueError,
        "train must",
    ),
    "batch-seed": (
        lambda: batches(ROWS, seed=-1, start=0, count=1, size=1),
        ValueError,
        "seed must be",
    ),
    "batch-large": (
        lambda: batches(ROWS, seed=2**32, start=0, count=1, size=1),
        ValueError,
        "seed must be an integer <= 4294967295, got 4294967296",
    ),
    "batch-start": (
        lambda: batches(ROWS, seed=0, start=-1, count=1, size=1),
        ValueError,
        "start must be",
    ),
    "batch-half": (
        lambda: batches(ROWS, seed=0, start=0.5, count=1, size=1),
        TypeError,
        "start must be",
    ),
    "batch-size": (
        lambda: batches(ROWS, seed=0, start=0, count=1, size=0),
        ValueError,
        "size must be",
    ),
    "records-none": (lambda: record_arrays([]), ValueError, "records must .*, got none"),
    "records-mixed": (
        lambda: record_arrays([RECORD, Record(1, {"b": torch.ones(1)}, {})]),
        ValueError,
        "records must all hold the same metrics",
    ),
    "arrays-none": (
        lambda: records_from({}),
        ValueError,
        "arrays must hold .*'record/step'",
    ),
    "arrays-length": (
        lambda: records_from({"record/step": np.arange(2), "metric/a": np.ones((3, 1))}),
        ValueError,
        r"'metric/a' must hold 2 records, got shape \(3, 1\)",
    ),
    "rank": (
        lambda: Record(0, {}, {"0.up": torch.ones(1, 3)}).ranks("stable"),
        TypeError,
        "measure must be a function of a tensor, got 'stable'",
    ),
    "matrix": (
        lambda: unless_diverged(spectral.stable_rank, None),
        TypeError,
        "X must be a torch.Tensor, got NoneType",
    ),
    "vector": (
        lambda: unless_diverged(spectral.stable_rank, torch.ones(3)),
        ValueError,
        r"X must be of shape \(runs, ...\), got \(3,\)",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_a_bad_argument_is_one_clear_error(case):
    call, error, said = REFUSED[case]
    with pytest.raises(error, match=said):
        call()


def test_a_device_may_be_torch_s_own():
    assert same(next(train(TINY, device=torch.device("cpu"))), next(train(TINY)))


def test_a_checkpoint_of_another_torch_warns(tmp_path):
    path = tmp_path / "c.npz"
    training = train(tiny(), checkpoint=path)
    next(training)
    altered(path, path.read_bytes(), lambda header, arrays: header.update(torch="2.5.0"))
    with pytest.warns(UserWarning, match="2.5.0"):
        train(tiny(), checkpoint=path)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"command": None}, TypeError, "command must be of type str, got NoneType"),
        ({"until": "9"}, TypeError, "until must be a finite number, got '9'"),
        ({"until": float("nan")}, ValueError, "until must be a finite number, got nan"),
    ],
)
def test_a_stack_is_not_trained_to_be_lost(arguments, error, words, monkeypatch):
    def update(training):
        raise AssertionError("a step was made")

    monkeypatch.setattr(Training, "update", update)
    with pytest.raises(error, match=words):
        train_stack([TINY], device="cpu", compile=False, **arguments)
