"""The captured step on a GPU against the plain one on a CPU; skipped without a card, but for
what a stub of the capture can show anywhere."""

from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from lrdlib.training import stacks
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import runs_of
from lrdlib.training.stacks import train_stack
from lrdlib.training.train import Training

SMALL = {"p": 23, "d_model": 32, "batch_size": 64, "steps": 20, "eval_every": 10}
ARMS = [
    {"rule": "none", "weight_decay": 0.0},
    {"rule": "l2", "weight_decay": 3.0},
    {"rule": "l2", "weight_decay": 3.0, "l2_on": "selected", "lr": 3e-3},
    {"rule": "lrd", "weight_decay": 0.02},
    {"rule": "lrd", "weight_decay": 0.02, "part": "radial", "betas": (0.8, 0.95)},
    {"rule": "lrd", "weight_decay": 0.02, "part": "tangential", "l2": 1.0},
    {"rule": "lrd", "weight_decay": 0.02, "hold": "norm", "init_scale": 0.6},
    {"rule": "elastic", "weight_decay": 0.02, "l2": 2.0, "attention": "frozen"},
    {"rule": "l2", "weight_decay": 3.0, "attention": "uniform", "decay_gains": True},
    {"rule": "l2", "weight_decay": 3.0, "rank": "flat"},
    {"rule": "none", "weight_decay": 0.0, "rank": 4},
    {"rule": "lrd", "weight_decay": 0.02, "rank": 2, "hold": "norm"},
    {"rule": "l2", "weight_decay": 3.0, "hold": "qk", "qk_rates": (1.0, 3.0)},
    {"rule": "lrd", "weight_decay": 0.02, "select": "vo+mlp"},
    {"rule": "l2", "weight_decay": 3.0, "decay_after": 0, "late_gradient": 0.1},
]
ALIKE = {"arms": {}, "sgd": {"optimizer": "sgd"}, "muon": {"optimizer": "muon"}}
ALIKE |= {"per-head": {"per_head": True}}
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def stack(**alike):
    return [TrainConfig(**SMALL | arm | alike | {"seed": i}) for i, arm in enumerate(ARMS)]


def apart(a, b, start):
    """How far the weights (runs, n) of two trainings are apart, relative to how far they
    have come, per run."""
    way = (b._weights.cpu() - start).norm(dim=-1)
    return (a._weights.cpu() - b._weights.cpu()).norm(dim=-1) / way.clamp_min(1e-6)


@on_a_gpu
@pytest.mark.parametrize("alike", list(ALIKE))
@pytest.mark.parametrize("compile", [False, True])
def test_twenty_captured_steps_are_those_of_the_cpu(alike, compile):
    if compile and alike != "arms":
        pytest.skip("one compiled step is like another")
    configs = stack(**ALIKE[alike])
    cpu, card = Training(configs), Training(configs, device="cuda", compile=compile)
    start = cpu._weights.clone()
    for training in (cpu, card):
        list(training)
    assert card._graph is not None
    # Adam makes a step of a gradient's rounding where the gradient is about 0; the polar
    # factor magnifies that of small singular values
    assert apart(card, cpu, start).max() < 5e-2
    assert apart(card, cpu, start).median() < 1e-2
    for a, b in zip(cpu.records, card.records, strict=True):
        for name, value in a.metrics.items():
            atol = 0.1 if "accuracy" in name else 1e-3
            torch.testing.assert_close(
                b.metrics[name], value, rtol=2e-2, atol=atol, equal_nan=True
            )


@on_a_gpu
def test_a_captured_step_is_the_uncaptured_one():
    captured, plain = Training(stack(), device="cuda"), Training(stack(), device="cuda")
    start = plain._weights.cpu()
    plain._captures = False
    for training in (captured, plain):
        list(training)
    assert captured._graph is not None and plain._graph is None
    assert apart(captured, plain, start).max() < 1e-2


@on_a_gpu
def test_a_stack_on_a_gpu_is_runs_like_those_of_the_cpu():
    configs = stack()
    runs = train_stack(configs, size=len(configs) + 4, compile=False, precision="tf32")
    cpu = train_stack(configs, device="cpu", compile=False, precision="float32")
    assert [run.config for run in runs] == [run.config for run in cpu]
    for a, b in zip(runs, cpu, strict=True):
        assert a.provenance["machine"] == torch.cuda.get_device_name()
        for name in ("train_loss", "qk_stable_rank", "vo_alignment", "weight_norm_mlp"):
            # TF32 keeps 10 bits
            assert a.history[name] == pytest.approx(b.history[name], rel=5e-2, abs=1e-2)


@contextmanager
def stubbed(patch, training, *, fails=False):
    """CUDA's capture as a list of calls: what it records is what is replayed."""

    class Stream:
        def __init__(self, *_):
            pass

        def wait_stream(self, other):
            pass

    class Graph:
        def replay(self):
            training._differentiate()
            training._apply()

    @contextmanager
    def nothing(*_):
        if fails:
            raise RuntimeError("no graph here")
        yield

    patch.setattr("torch.cuda.Stream", Stream)
    patch.setattr("torch.cuda.current_stream", Stream)
    patch.setattr("torch.cuda.stream", nothing)
    patch.setattr("torch.cuda.CUDAGraph", Graph)
    patch.setattr("torch.cuda.graph", nothing)
    training._captures = True
    yield


@pytest.mark.parametrize("fails", [False, True])
def test_capturing_leaves_the_state_as_it_is_and_says_if_it_cannot(monkeypatch, fails):
    plain, captured = Training(stack()), Training(stack())
    expected = list(plain)
    with monkeypatch.context() as patch, stubbed(patch, captured, fails=fails):
        if fails:
            with pytest.warns(
                UserWarning, match="uncaptured, slower: RuntimeError: no gra"
            ):
                records = list(captured)
        else:
            records = list(captured)
        assert (captured._graph is None) == fails
    for a, b in zip(expected, records, strict=True):
        for name, value in a.metrics.items():
            assert torch.equal(value.nan_to_num(), b.metrics[name].nan_to_num()), name
    assert torch.equal(plain._weights, captured._weights)


def test_a_stack_filled_up_is_the_stack():
    configs = stack()[:5]
    runs = train_stack(configs, device="cpu", compile=False, size=7, precision="float32")
    alone = train_stack(configs, device="cpu", compile=False, precision="float32")
    assert [run.config["seed"] for run in runs] == [0, 1, 2, 3, 4]
    for a, b in zip(runs, alone, strict=True):
        assert a.history["train_loss"] == pytest.approx(b.history["train_loss"], rel=1e-4)


def test_a_stack_out_of_time_is_none():
    assert train_stack(stack(), device="cpu", compile=False, until=0.0) is None


class Lazy:
    """A pool whose records are made when somebody waits for them, in `made`."""

    made: ClassVar[list] = []

    def __init__(self, workers):
        type(self).made = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function):
        @cache
        def result():
            self.made.append(record := function())
            return record

        return SimpleNamespace(result=result)


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_stack_is_what_its_training_gives_and_records_wait_so_many(monkeypatch, ahead):
    """To the bit; and where `ahead` + 1 records wait, training waits for the first."""
    taken, snapshots = [], Training.snapshots

    def told(training):
        for snapshot in snapshots(training):
            taken.append([record.step for record in Lazy.made])
            yield snapshot

    configs = stack()[:4]
    training = Training(configs)
    list(training)
    monkeypatch.setattr(stacks, "AHEAD", ahead)
    monkeypatch.setattr(stacks, "ThreadPoolExecutor", Lazy)
    monkeypatch.setattr(Training, "snapshots", told)
    runs = train_stack(
        configs, device="cpu", compile=False, precision="float32", command="python x"
    )
    for a, b in zip(runs, runs_of(training), strict=True):
        assert a.config == b.config and a.provenance["command"] == "python x"
        for part in ("history", "spectra", "weights", "fourier"):
            assert getattr(a, part).keys() == getattr(b, part).keys()
            for name, values in getattr(b, part).items():
                np.testing.assert_array_equal(getattr(a, part)[name], values)
    assert taken == ([[], [0], [0, 10]] if ahead == 0 else [[], [], [0]])


@pytest.mark.parametrize("until", [float("inf"), 0.0])
def test_the_threads_are_as_they_were(until):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        train_stack(stack()[:2], device="cpu", compile=False, until=until)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"configs": []}, ValueError, "configs must hold at least one"),
        ({"configs": [], "size": 4}, ValueError, "configs must hold at least one"),
        ({"configs": stack()[0]}, TypeError, "configs must hold TrainConfigs"),
        ({"configs": [{}]}, TypeError, "configs must hold TrainConfigs, got dict"),
        ({"size": 1}, ValueError, "size must be an integer >= 2, got 1"),
        ({"size": 2.0}, TypeError, "size must be an integer"),
        ({"compile": 1}, TypeError, "compile must be True or False"),
        ({"device": "gpu"}, ValueError, "device must be one that torch can use"),
        ({"precision": "half"}, ValueError, "precision must be one of"),
    ],
)
def test_bad_arguments_of_a_stack_are_one_clear_error(arguments, error, words):
    good = {"configs": stack()[:2], "device": "cpu", "compile": False}
    with pytest.raises(error, match=words):
        train_stack(**good | arguments)
