"""The captured step on a GPU against the plain one on a CPU; skipped without a card, but for
what a stub of the capture can show anywhere."""

from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from lrdlib.training import stacks, train
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
    arms = [arm for arm in ARMS if not ("optimizer" in alike and "qk_rates" in arm)]
    return [TrainConfig(**SMALL | arm | alike | {"seed": i}) for i, arm in enumerate(arms)]


def apart(a, b, start):
    """How far the weights (runs, n) of two trainings are apart, relative to how far they
    have come, per run."""
    way = (b._weights.cpu() - start).norm(dim=-1)
    return (a._weights.cpu() - b._weights.cpu()).norm(dim=-1) / way.clamp_min(1e-6)


@pytest.mark.parametrize("alike", list(ALIKE))
def test_the_stacks_of_these_tests_train(alike):
    training = Training(stack(**ALIKE[alike]))
    start = training._weights.clone()
    training.update()
    assert (training._weights != start).any(-1).all()


@on_a_gpu
@pytest.mark.filterwarnings("ignore:TensorFloat32")  # inductor's advice on any new card
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
def test_a_proximal_step_is_not_captured_and_is_that_of_the_cpu():
    arms = [{"rule": "proximal", "weight_decay": w} for w in (0.02, 0.2)]
    configs = [TrainConfig(**SMALL | arm | {"seed": i}) for i, arm in enumerate(arms)]
    cpu, card = Training(configs), Training(configs, device="cuda")
    start = cpu._weights.clone()
    for training in (cpu, card):
        list(training)
    assert card._graph is None
    assert apart(card, cpu, start).max() < 5e-2


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
    """CUDA's capture as a list of calls: what it records is what is replayed. Yields the
    streams that have been current, the last one now."""

    class Stream:
        def __init__(self, *_):
            pass

        def wait_stream(self, other):
            pass

    streams = [Stream()]

    class Graph:
        def replay(self):
            training._differentiate()
            training._apply()

    @contextmanager
    def stream(new):
        before = streams[-1]
        streams.append(new)
        try:
            yield
        finally:
            streams.append(before)

    @contextmanager
    def graph(_, stream):
        streams.append(stream)  # as torch: for good, if the capture fails
        if fails:
            raise RuntimeError("no graph here")
        yield
        streams.pop()

    patch.setattr("torch.cuda.Stream", Stream)
    patch.setattr("torch.cuda.current_stream", lambda device: streams[-1])
    patch.setattr("torch.cuda.stream", stream)
    patch.setattr("torch.cuda.CUDAGraph", Graph)
    patch.setattr("torch.cuda.graph", graph)
    training._captures = True
    yield streams


@pytest.mark.parametrize("fails", [False, True])
def test_capturing_leaves_the_state_as_it_is_and_says_if_it_cannot(monkeypatch, fails):
    plain, captured = Training(stack()), Training(stack())
    expected = list(plain)
    with (
        monkeypatch.context() as patch,
        stubbed(patch, captured, fails=fails) as streams,
    ):
        if fails:
            with pytest.warns(
                UserWarning, match="uncaptured, slower: RuntimeError: no gra"
            ):
                records = list(captured)
        else:
            records = list(captured)
        assert (captured._graph is None) == fails
        assert streams[-1] is streams[0]
    for a, b in zip(expected, records, strict=True):
        for name, value in a.metrics.items():
            assert torch.equal(value.nan_to_num(), b.metrics[name].nan_to_num()), name
    assert torch.equal(plain._weights, captured._weights)


def test_an_interrupted_capture_leaves_the_state_as_it_is(monkeypatch):
    plain, captured = Training(stack()), Training(stack())
    apply, calls = captured._apply, []

    def interrupted():
        apply()
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, stubbed(patch, captured):
        patch.setattr(captured, "_apply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            captured.update()
        assert len(calls) == 2 and torch.equal(captured._weights, plain._weights)
        patch.setattr(captured, "_apply", apply)
        captured.update()
        assert captured._graph is not None
    plain.update()
    assert captured.step == plain.step == 1
    assert torch.equal(captured._weights, plain._weights)


def test_a_proximal_step_is_never_captured(monkeypatch):
    training = Training([TrainConfig(**SMALL | {"rule": "proximal"})])
    with monkeypatch.context() as patch, stubbed(patch, training):
        training.update()
        assert training._graph is None


@pytest.mark.parametrize("chosen", ["allow_tf32", "fp32_precision"])
def test_what_the_process_chose_for_tf32_is_as_it_was(chosen):
    """By either of torch's switches; the newer one makes the old one unreadable."""
    matmul, seen = torch.backends.cuda.matmul, []
    value = True if chosen == "allow_tf32" else "tf32"
    training = Training(stack()[:4], precision="tf32")
    before = training._apply

    def apply():
        before()
        seen.append(getattr(matmul, chosen))

    training._apply = apply
    try:
        setattr(matmul, chosen, value)
        training.update()
        assert getattr(matmul, chosen) == value == seen[0]
    finally:
        matmul.allow_tf32 = False
        assert matmul.fp32_precision == "ieee"


def test_the_polar_factor_is_never_in_tf32(monkeypatch):
    seen = []
    training = Training(stack()[:4], precision="tf32")
    decay = train.decay_

    def watched(*arguments):
        seen.append(torch.backends.cuda.matmul.allow_tf32)
        decay(*arguments)

    monkeypatch.setattr(train, "decay_", watched)
    try:
        torch.backends.cuda.matmul.allow_tf32 = True
        training.update()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    assert seen == [False]


def test_a_stack_filled_up_is_the_stack():
    configs = stack()[:5]
    runs = train_stack(configs, device="cpu", compile=False, size=7, precision="float32")
    alone = train_stack(configs, device="cpu", compile=False, precision="float32")
    assert [run.config["seed"] for run in runs] == [0, 1, 2, 3, 4]
    for a, b in zip(runs, alone, strict=True):
        assert a.history["train_loss"] == pytest.approx(b.history["train_loss"], rel=1e-4)


def test_a_stack_out_of_time_is_none():
    assert train_stack(stack(), device="cpu", compile=False, until=0.0) is None


class Clock:
    """A clock that shows these seconds, one after the other, then the last for good."""

    def __init__(self, *seconds):
        self.seconds = list(seconds)

    def monotonic(self):
        return self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]


@pytest.mark.parametrize(
    ("seconds", "records"),
    [
        ((0, 1, 2, 3, 99), 5),  # in time but for the last record: it is there
        ((0, 50, 60, 70, 80), 3),  # 10 s a record after the first two: it would be 80
        ((0, 50, 51, 52, 53), 5),  # what takes long at first is no pace
        ((0, 61), 2),  # past the end
    ],
)
def test_a_stack_is_given_up_once_it_cannot_end_in_time(monkeypatch, seconds, records):
    taken, snapshots = [], Training.snapshots

    def counted(training):
        for snapshot in snapshots(training):
            taken.append(1)
            yield snapshot

    monkeypatch.setattr(Training, "snapshots", counted)
    monkeypatch.setattr(stacks, "time", Clock(*seconds))
    configs = [replace(config, steps=20, eval_every=5) for config in stack()[:2]]
    runs = train_stack(configs, device="cpu", compile=False, until=60.0)
    assert len(taken) == records and (runs is not None) == (records == 5)


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
