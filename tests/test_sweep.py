"""Sweeps: a grid is nested loops, a store holds each run once and whole, and no kill,
damage or full disk changes that.

Stores are compared file by file, byte by byte: configs, arrays and provenance.
"""

import errno
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import time
import warnings
import zipfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from joblib.externals.loky import get_reusable_executor
from sweeping import KILLS, kill_group, leftovers, lines, stored, sweeping
from waiting import wait_for

from lrdlib.__main__ import main
from lrdlib.evidence.grids import FRACTIONS, GRIDS, STRENGTHS
from lrdlib.training import sweep as module
from lrdlib.training.checkpoint import CHECKPOINT, checkpoint_configs
from lrdlib.training.config import TrainConfig, check_stack, plain
from lrdlib.training.packs import save_runs
from lrdlib.training.runs import KIND, Run, compact, load_run, rounded, runs_of, save_run
from lrdlib.training.store import read_arrays, write_arrays
from lrdlib.training.sweep import (
    default_stack_size,
    expand,
    file_name,
    recorded,
    run_bytes,
    seconds,
    stacks_of,
    sweep,
)
from lrdlib.training.train import Training, train

TINY = {
    "p": 7,
    "d_model": 16,
    "heads": 2,
    "layers": 1,
    "batch_size": 16,
    "steps": 6,
    "eval_every": 2,
}
FOUR = expand(
    {**TINY, "rule": "lrd", "seed": [0, 1]},
    {**TINY, "rule": "l2", "weight_decay": [0.5, 1.0]},
)
# Sixteen runs of a tenth of a second or so: long enough to be killed in.
SMOKE = expand(
    {
        **TINY,
        "steps": 60,
        "eval_every": 6,
        "rule": ["l2", "lrd"],
        "fraction": [0.5, 0.6],
        "seed": [0, 1, 2, 3],
    }
)


def tiny(**options):
    return TrainConfig(**{**TINY, **options})


def reason(text):
    return lambda config: f"{text} {config.rule}"


@pytest.fixture(autouse=True, scope="module")
def no_process_left():
    """joblib keeps idle workers for minutes; here they end with the tests."""
    yield
    get_reusable_executor().shutdown(wait=True)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The store of SMOKE, swept in one go in this process."""
    store = tmp_path_factory.mktemp("unbroken")
    assert len(list(sweep(SMOKE, store))) == 16
    return stored(store)


@pytest.fixture
def steps(monkeypatch):
    """Counts the steps of training in this process."""
    count = SimpleNamespace(done=0, stop=None)
    update = Training.update

    def counted(training):
        if count.done == count.stop:
            raise KeyboardInterrupt
        update(training)
        count.done += 1

    monkeypatch.setattr(Training, "update", counted)
    return count


def names(configs):
    return {file_name(config) for config in configs}


# --- a grid is data ------------------------------------------------------------------------

AXES = {
    "seed": st.integers(0, 3),
    "rule": st.sampled_from(["l2", "lrd"]),
    "weight_decay": st.sampled_from([0, 0.0, 0.1, 1, 1.0]),
    "betas": st.sampled_from([(0.9, 0.98), (0.9, 0.999)]),
    "scale": st.sampled_from([None, "norm"]),
    "gains": st.booleans(),
}


@st.composite
def blocks(draw):
    """A block with values and axes, in any order of its fields."""
    chosen = draw(st.lists(st.sampled_from(list(AXES)), unique=True, max_size=4))
    axis = {
        name: st.one_of(AXES[name], st.lists(AXES[name], max_size=3)) for name in chosen
    }
    return {"p": 5} | {name: draw(axis[name]) for name in chosen}


@settings(deadline=None)
@given(st.lists(blocks(), max_size=3))
def test_a_grid_is_nested_loops(grid):
    expected = []
    for block in grid:
        points = [{}]
        for name, values in block.items():  # the first axis is the outermost loop
            axis = values if isinstance(values, list) else [values]
            points = [point | {name: value} for point in points for value in axis]
        for point in points:
            if TrainConfig(**point) not in expected:
                expected.append(TrainConfig(**point))
    assert expand(*grid) == expected


def test_a_tuple_is_a_value_and_an_empty_axis_no_run():
    assert expand({"betas": (0.9, 0.9)}) == [TrainConfig(betas=(0.9, 0.9))]
    assert len(expand({"betas": [(0.9, 0.9), (0.9, 0.99)]})) == 2
    assert expand() == expand({"seed": []}) == []
    assert expand({}) == [TrainConfig()]


def test_a_grid_with_a_mistake_is_refused():
    with pytest.raises(
        TypeError, match="blocks must map fields of TrainConfig, got 'lambda', 'luck'"
    ):
        expand({"seed": 0}, {"luck": 1, "rule": "l2", "lambda": 0.1})
    with pytest.raises(ValueError, match="rule must be one of"):
        expand({"rule": ["l2", "l1"]})
    with pytest.raises(TypeError, match="seed must be an integer"):
        expand({"seed": range(3)})


# --- a run's file --------------------------------------------------------------------------

CONFIGS = st.builds(
    TrainConfig,
    p=st.sampled_from([5, 7]),
    fraction=st.sampled_from([0.4, 0.5, 0.5000001, 0.50000001]),
    seed=st.integers(0, 2),
    rule=st.sampled_from(["none", "l2", "lrd", "elastic", "proximal"]),
    weight_decay=st.one_of(st.sampled_from([0, 0.0, 1, 1.0, 1e-300]), st.floats(0, 1e300)),
    lr=st.sampled_from([1, 1.0, 1e-3]),
    betas=st.sampled_from([(0, 0.98), (0.0, 0.98), (0.9, 0.98)]),
    ns_steps=st.sampled_from([None, 5]),
    scale=st.sampled_from([None, "norm"]),
    gains=st.booleans(),
    rank=st.sampled_from([None, "flat", 1, 2]),
    qk_rates=st.sampled_from([(), (1,), (1.0,), (1.0, 2.5)]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(CONFIGS, min_size=2, max_size=6))
def test_two_configs_have_one_name_if_and_only_if_they_are_equal(configs):
    for a, b in itertools.combinations(configs, 2):
        assert (file_name(a) == file_name(b)) == (a == b)
    for config in configs:
        assert set(file_name(config)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-+.")
        assert file_name(config).startswith(config.rule) and len(file_name(config)) < 100
        assert file_name(TrainConfig(**plain(config))) == file_name(config)


def test_names_stay_what_they_are():
    """Stores outlive versions: a changed name is a run that is trained again."""
    assert file_name(TrainConfig()) == "lrd-0.01-f0.4-seed0-44136fa355.npz"
    assert (
        file_name(TrainConfig(rule="l2", weight_decay=3))
        == "l2-3-f0.4-seed0-01d1cf37ea.npz"
    )
    config = TrainConfig(
        rule="elastic", l2=0.1, betas=(0.9, 0.999), scale=None, seed=2, fraction=0.35
    )
    assert file_name(config) == "elastic-0.01-f0.35-seed2-ca2c61c762.npz"
    one, other = {"rule": "l2", "seed": 1, "p": 7}, {"p": 7, "seed": 1, "rule": "l2"}
    assert names(expand(one)) == names(expand(other))


# --- stacks --------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(CONFIGS, unique=True, max_size=12), st.integers(1, 5))
def test_stacks_hold_each_run_once_and_can_train(configs, size):
    stacks = stacks_of(configs, size)
    assert sorted(map(file_name, itertools.chain(*stacks))) == sorted(
        map(file_name, configs)
    )
    for stack in stacks:
        check_stack(stack)
        assert len(stack) <= size
        assert len({(config.low_rank, config.capped) for config in stack}) == 1
        assert stack == sorted(stack, key=configs.index)
    assert [stack[0] for stack in stacks] == sorted(
        (stack[0] for stack in stacks), key=configs.index
    )


def test_stacks_are_full():
    configs = expand({**TINY, "rule": ["lrd", "l2"], "seed": [*range(5)]})
    assert [len(stack) for stack in stacks_of(configs, 4)] == [4, 1, 4, 1]
    assert [len(stack) for stack in stacks_of(configs, 100)] == [5, 5]
    assert stacks_of(configs, 1) == [[config] for config in configs]


def test_a_stack_is_the_same_runs_alone(tmp_path):
    """To rounding: a batched product sums in another order, float32's 6e-8 at a time, and
    Adam's division by the root of a small second moment magnifies that in single entries;
    norms over six steps stay within 1e-4."""
    rules = [
        {"rule": "l2", "weight_decay": [0.1, 3.0]},
        {"rule": "lrd", "weight_decay": [0.02, 0.1]},
    ]
    rules += [
        {"rule": "elastic", "weight_decay": 0.02, "l2": 0.5},
        {"rule": "proximal", "weight_decay": 0.02},
    ]
    configs = expand(
        *({**TINY, "seed": [0, 1], "fraction": [0.4, 0.6], **rule} for rule in rules)
    )
    for size in (1, 5):
        assert len(
            list(sweep(configs, tmp_path / str(size), stack_size=size, full=True))
        ) == len(configs)
    alone, stacked = (recorded(configs, tmp_path / str(size)) for size in (1, 5))
    for config in configs:
        one, other = alone[config], stacked[config]
        assert one.config == other.config and one.provenance == other.provenance
        for group in ("history", "spectra", "weights", "fourier"):
            for name, values in getattr(one, group).items():
                found = getattr(other, group)[name]
                if name.endswith("accuracy"):  # one answer of the 20 or more may be a tie
                    assert np.nanmax(np.abs(found - values), initial=0) <= 1 / 20, (
                        config,
                        name,
                    )
                    continue
                assert np.array_equal(np.isnan(found), np.isnan(values)), (config, name)
                difference = np.linalg.norm(np.nan_to_num(found - values))
                assert difference <= 1e-4 * np.linalg.norm(np.nan_to_num(values)), (
                    config,
                    group,
                    name,
                )


# --- the store -----------------------------------------------------------------------------


def test_each_run_is_stored_as_it_ends_and_yielded_then(tmp_path, steps):
    store = tmp_path / "new" / "store"
    for k, run in enumerate(sweep(iter(FOUR), store), start=1):
        assert run.config == plain(FOUR[k - 1]) and steps.done == 6 * k
        assert set(stored(store)) == names(FOUR[:k])
        path = store / file_name(FOUR[k - 1])
        (alone,) = runs_of(finished(FOUR[k - 1]))
        save_run(compact(alone), tmp_path / "alone.npz")
        assert path.read_bytes() == (tmp_path / "alone.npz").read_bytes()
        steps.done -= 6
    assert not leftovers(store)
    assert list(recorded(reversed(FOUR), store)) == FOUR[::-1]


def finished(config):
    training = train(config)
    list(training)
    return training


def test_nothing_is_trained_twice(tmp_path, steps):
    assert len(list(sweep(FOUR[:2] + FOUR[:1], tmp_path))) == 2
    assert steps.done == 12
    assert [TrainConfig(**run.config) for run in sweep(FOUR, tmp_path)] == FOUR[2:]
    assert steps.done == 24
    before = stored(tmp_path)
    assert list(sweep(FOUR, tmp_path)) == list(sweep([], tmp_path)) == []
    assert steps.done == 24 and stored(tmp_path) == before


def test_a_sweep_of_nothing_writes_nothing(tmp_path):
    assert list(sweep([], tmp_path / "store")) == [] and not (tmp_path / "store").exists()


def test_the_command_and_all_of_a_run_are_stored_if_asked_for(tmp_path):
    (run,) = sweep(
        FOUR[:1], tmp_path, commands={FOUR[0]: "python -m lrdlib ..."}, full=True
    )
    assert (
        run.provenance["command"] == "python -m lrdlib ..."
        and run.provenance["threads"] == "1"
    )
    assert set(run.weights) == {"0.query", "0.key"} and len(run.spectra) == 6
    (run,) = sweep(FOUR[:1], tmp_path / "compact")
    assert (
        run.provenance["command"] == ""
        and not run.weights
        and set(run.spectra) == {"0.query", "0.key"}
    )


def test_each_run_of_a_stack_has_its_own_command(tmp_path):
    commands = {config: f"command {i}" for i, config in enumerate(FOUR[:2])}
    runs = sweep(FOUR[:2], tmp_path, stack_size=2, commands=commands)
    assert {TrainConfig(**run.config): run.provenance["command"] for run in runs} == (
        commands
    )


def test_the_number_of_workers_changes_no_bit(tmp_path):
    configs = [*FOUR, *SMOKE[:2]]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # the caller's own number does not matter, and stays
    try:
        for workers in (1, 2):
            found = [
                TrainConfig(**run.config)
                for run in sweep(configs, tmp_path / str(workers), workers=workers)
            ]
            assert sorted(map(file_name, found)) == sorted(names(configs))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert (
        stored(tmp_path / "1") == stored(tmp_path / "2")
        and len(stored(tmp_path / "1")) == 6
    )


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"workers": 0}, ValueError, "workers must be an integer >= 1, got 0"),
        ({"workers": -2}, ValueError, "workers must be"),
        ({"workers": 1.5}, TypeError, "workers must be"),
        ({"workers": True}, TypeError, "workers must be"),
        ({"stack_size": 0}, ValueError, "stack_size must be an integer >= 1, got 0"),
        ({"stack_size": "all"}, TypeError, "stack_size must be"),
        ({"device": "gpu"}, ValueError, "device must be"),
        ({"compile": 1}, TypeError, "compile must be"),
        ({"full": "yes"}, TypeError, "full must be"),
        (
            {"configs": [FOUR[0], plain(FOUR[1])]},
            TypeError,
            "configs must hold TrainConfigs, got dict",
        ),
        ({"configs": FOUR[0]}, TypeError, "configs must"),
        (
            {"configs": [FOUR[0], tiny(fraction=0.001)]},
            ValueError,
            "fraction must leave both parts non-empty",
        ),
        ({"configs": None}, TypeError, "configs must hold"),
        ({"configs": "paper"}, TypeError, "configs must hold"),
        ({"configs": 10**400}, TypeError, "configs must hold"),
        ({"workers": None}, TypeError, "workers must be"),
        ({"workers": float("nan")}, TypeError, "workers must be"),
        ({"stack_size": 2.0}, TypeError, "stack_size must be"),
        ({"device": None}, TypeError, "device must be a str"),
        ({"device": 0}, TypeError, "device must be a str"),
        ({"compile": None}, TypeError, "compile must be"),
        ({"commands": "python"}, TypeError, "commands must map"),
        ({"commands": [FOUR[0]]}, TypeError, "commands must map"),
        ({"commands": {FOUR[0]: 1}}, TypeError, "commands must map"),
    ],
)
def test_a_bad_argument_is_refused_before_anything_is_written(
    tmp_path, options, error, words
):
    with pytest.raises(error, match=words):
        sweep(**{"configs": FOUR, "store": tmp_path / "store"} | options)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("store", [None, 1, b"store", ["store"]])
def test_a_store_that_is_no_path_is_refused(store):
    for look in (recorded, sweep):
        with pytest.raises(ValueError, match="store must name a folder, got ''"):
            look(FOUR, "")  # would be the current folder
        with pytest.raises(TypeError, match="store must be a str or a Path"):
            look(FOUR, store)


def test_bad_arguments_of_the_smaller_functions_are_named():
    for configs in (None, "paper", 3, [3], [plain(FOUR[0])]):
        for function in (lambda it: stacks_of(it, 1), seconds):
            with pytest.raises(TypeError, match="configs must hold TrainConfigs"):
                function(configs)
        with pytest.raises(TypeError, match="config must be a TrainConfig"):
            file_name(configs)
    for block in (None, "paper", 3, [("seed", 1)], FOUR[0]):
        with pytest.raises(TypeError, match="blocks must be mappings, got"):
            expand({"seed": 0}, block)
    with pytest.raises(
        TypeError, match="blocks must map fields of TrainConfig, got 3, 'x'"
    ):
        expand({3: 1, "x": 2})
    for size, error in (
        (0, ValueError),
        (-1, ValueError),
        (None, TypeError),
        (1.5, TypeError),
    ):
        with pytest.raises(error, match="size must be an integer >= 1"):
            stacks_of(FOUR, size)
    assert stacks_of(FOUR, 10**400) == [FOUR[:2], FOUR[2:]]
    for name in ("workers", "steps"):
        with pytest.raises(TypeError, match=f"{name} must be an integer"):
            seconds(FOUR, **{name: None})
    with pytest.raises(TypeError, match="compile must be True or False"):
        seconds(FOUR, compile=None)


# --- interrupted ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "later", "others"), [(1, 1, 24), (3, 3, 0), (3, 1, 0), (3, 2, 0), (1, 3, 12)]
)
def test_an_interrupted_stack_goes_on_from_its_checkpoint(
    tmp_path, monkeypatch, steps, size, later, others
):
    """others: the steps of the runs that had not begun; a stack counts as one."""
    configs = expand({**TINY, "seed": [0, 1, 2], "steps": 12})
    list(sweep(configs, tmp_path / "unbroken", stack_size=size))
    assert not leftovers(tmp_path / "unbroken")
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", -1)  # one after each record
    steps.done, steps.stop = 0, 7
    with pytest.raises(KeyboardInterrupt):
        list(sweep(configs, tmp_path / "store", stack_size=size))
    assert (
        steps.done == 7 and leftovers(tmp_path / "store") and not stored(tmp_path / "store")
    )
    steps.stop = None
    assert len(list(sweep(configs, tmp_path / "store", stack_size=later))) == 3
    assert steps.done == 7 + 6 + others  # from the record at step 6 on
    found, unbroken = stored(tmp_path / "store"), stored(tmp_path / "unbroken")
    assert set(found) == set(unbroken) and not leftovers(tmp_path / "store")
    for name in names(configs[:size]):  # the stacks of the others may round otherwise
        assert found[name] == unbroken[name]


def test_checkpoints_are_written_at_most_every_so_often(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        Training, "save", lambda training, path: saved.append(training.step)
    )
    monkeypatch.setattr(
        module, "time", SimpleNamespace(monotonic=itertools.count(0, 11).__next__)
    )
    list(sweep([tiny(steps=10, eval_every=1)], tmp_path))
    assert saved == [2, 5, 8]  # the clock goes 11 seconds at a look; 33 is more than 30


def damaged(path):
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path):
    path.write_bytes(b"notes")


def of_a_newer_format(path):
    header, arrays = read_arrays(path, CHECKPOINT)
    write_arrays(path, "lrdlib-checkpoint/3", header, arrays)


def of_other_configs(path):
    header, arrays = read_arrays(path, CHECKPOINT)
    write_arrays(path, CHECKPOINT, header | {"configs": [plain(FOUR[3])]}, arrays)


def with_other_arrays(path):
    header, arrays = read_arrays(path, CHECKPOINT)
    write_arrays(path, CHECKPOINT, header, arrays | {"param/head": np.zeros(3)})


def special(path):
    path.unlink()
    os.mkfifo(path)


def interrupted(config, store, steps, monkeypatch):
    """Train the first 5 of the run's 6 steps; its checkpoint, at step 4."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "CHECKPOINT_SECONDS", -1)
        steps.done, steps.stop = 0, 5
        list(sweep([config], store))
    steps.done, steps.stop = 0, None
    (path,) = (store / ".partial").glob("*.npz")
    assert path.name == file_name(config)
    return path


@pytest.mark.parametrize(
    "harm",
    [damaged, foreign, of_a_newer_format, of_other_configs, with_other_arrays, special],
)
def test_a_checkpoint_of_no_use_is_put_aside_and_said(tmp_path, monkeypatch, steps, harm):
    list(sweep(FOUR[:1], tmp_path / "unbroken"))
    for kept in ("unusable", "unusable1"):  # the second does not overwrite the first
        path = interrupted(FOUR[0], tmp_path / "store", steps, monkeypatch)
        harm(path)
        content = None if harm is special else path.read_bytes()
        with pytest.warns(UserWarning, match="a checkpoint cannot be used") as said:
            list(sweep(FOUR[:1], tmp_path / "store"))
        aside = path.with_name(f"{path.name}.{kept}")
        assert len(said) == 1 and str(path) in str(said[0].message)
        assert str(aside) in str(said[0].message) and steps.done == 6
        assert aside.is_fifo() if harm is special else aside.read_bytes() == content
        assert stored(tmp_path / "store") == stored(tmp_path / "unbroken")
        assert list(sweep(FOUR[:1], tmp_path / "store")) == [] and aside.exists()
        for put_away in (*path.parent.glob("*.unusable1"), tmp_path / "store" / path.name):
            put_away.unlink()
        assert leftovers(tmp_path / "store") == (
            [] if harm is special else [str(aside.with_suffix(".unusable"))]
        )


def test_a_checkpoint_of_no_use_of_a_later_run_of_a_stack_is_put_aside_too(tmp_path):
    first, second = sorted(FOUR[:2], key=file_name)
    path = tmp_path / ".partial" / file_name(second)
    path.parent.mkdir()
    path.write_text("notes")
    with pytest.warns(UserWarning, match=str(path)):
        assert len(list(sweep([first, second], tmp_path, stack_size=2))) == 2
    assert path.with_name(f"{path.name}.unusable").read_text() == "notes"


def test_a_checkpoint_of_another_torch_is_used(tmp_path, monkeypatch, steps):
    path = interrupted(FOUR[0], tmp_path, steps, monkeypatch)
    header, arrays = read_arrays(path, CHECKPOINT)
    write_arrays(path, CHECKPOINT, header | {"torch": "2.5.0"}, arrays)
    with pytest.warns(UserWarning, match=r"was written by torch 2\.5\.0") as said:
        list(sweep(FOUR[:1], tmp_path))
    assert steps.done == 2 and len(said) == 1 and not leftovers(tmp_path)


def test_a_checkpoint_that_cannot_be_read_now_stays(tmp_path, monkeypatch, steps):
    path = interrupted(FOUR[0], tmp_path, steps, monkeypatch)
    content = path.read_bytes()
    for error in (PermissionError(errno.EACCES, "no"), MemoryError()):
        with monkeypatch.context() as patch, pytest.raises(type(error)):
            patch.setattr(module, "checkpoint_configs", raising(error))
            list(sweep(FOUR[:1], tmp_path))
        assert path.read_bytes() == content and not steps.done
    path.rename(tmp_path / "elsewhere")
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        list(sweep(FOUR[:1], tmp_path))
    assert not steps.done
    path.rmdir()
    (tmp_path / "elsewhere").rename(path)
    assert len(list(sweep(FOUR[:1], tmp_path))) == 1 and steps.done == 2


def raising(error):
    """A function that raises the error, whatever its arguments."""

    def function(*arguments, **options):
        raise error

    return function


def test_a_stack_killed_between_its_stores_leaves_nothing_behind(
    tmp_path, monkeypatch, steps
):
    """Some of a stack is stored, its checkpoint is there, the others are missing."""
    configs = expand({**TINY, "seed": [0, 1, 2]})
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", -1)
    saves = iter([save_run, save_run])  # the third fails
    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(module, "save_run", lambda run, path: next(saves)(run, path))
        module._train_stack(
            configs, [""] * 3, module._Job(tmp_path, "cpu", False, False, False), False
        )
    kept, steps.done = stored(tmp_path), 0
    assert len(kept) == 2 and leftovers(tmp_path)
    assert len(list(sweep(configs, tmp_path, stack_size=3))) == 1
    assert steps.done == 0  # it was trained, and is not trained again
    assert stored(tmp_path).items() >= kept.items() and set(stored(tmp_path)) == names(
        configs
    )
    assert not leftovers(tmp_path)


def test_what_dead_processes_left_of_stored_runs_is_removed_and_nothing_else(tmp_path):
    (tmp_path / ".partial").mkdir()
    mine = [
        f".{file_name(FOUR[0])}.123.partial",
        f".partial/.{file_name(FOUR[1])}.7.partial",
        f".partial/{file_name(FOUR[2])}",
    ]
    others = [
        f".{file_name(SMOKE[0])}.123.partial",
        f".partial/{file_name(SMOKE[0])}",
        ".partial/notes",
        "notes.partial",
        ".x.partial",
    ]
    for name in mine + others:
        (tmp_path / name).write_text("left")
    others.append(f"{mine[2]}.unusable")
    list(sweep(FOUR[:2], tmp_path))
    assert [(tmp_path / name).exists() for name in mine] == [False, False, True]
    with pytest.warns(UserWarning, match="a checkpoint cannot be used"):
        list(sweep(FOUR, tmp_path))
    (tmp_path / mine[0]).write_text(
        "left by one that died after another had stored the run"
    )
    assert list(sweep(FOUR, tmp_path)) == []
    assert not any((tmp_path / name).exists() for name in mine) and all(
        (tmp_path / name).exists() for name in others
    )


def test_kills_and_a_resumption_are_one_unbroken_sweep(tmp_path, unbroken):
    """SIGKILL at random moments to the parent alone, whose two workers go on for a moment,
    or to all of them; KILLS of them (see sweeping.py).

    Checkpoints are written every 20 ms, so that it often strikes in one. Only kills that
    leave the store incomplete count; where a store is complete, another one is begun.
    """
    rng, store, trace, kills = random.Random(0), tmp_path / "store", tmp_path / "trace", 0
    with ExitStack() as started:
        last = None
        for who in map(str, range(5 * KILLS)):
            if len(stored(store)) == len(SMOKE):
                started.close()  # ends the workers that go on
                assert stored(store) == unbroken
                shutil.rmtree(store)
            before = set(stored(store))
            process = started.enter_context(
                sweeping(SMOKE, store, trace, who, workers=2, checkpoint_seconds=0.02)
            )
            # until its training has begun
            wait_for(
                lambda who=who, p=process: who in dict(lines(trace)) or not p.is_alive()
            )
            end = time.monotonic() + rng.uniform(0, 0.3)
            while time.monotonic() < end and len(set(stored(store)) - before) < 2:
                time.sleep(0.002)
            if process.is_alive():  # a zombie takes a signal, too
                rng.choice((os.kill, os.killpg))(process.pid, signal.SIGKILL)
            process.join()
            assert not before & {name for one, name in lines(trace) if one == who}, (
                "trained again"
            )
            kills += process.exitcode == -signal.SIGKILL and len(stored(store)) < len(SMOKE)
            if kills == KILLS:
                break
            if last is not None:
                kill_group(last)
            last = process.pid
    assert kills == KILLS
    list(sweep(SMOKE, store))
    assert stored(store) == unbroken and not leftovers(store)


@pytest.mark.parametrize(
    "end", ["close", "exit", signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=str
)
def test_workers_end_with_the_sweep(tmp_path, end):
    """A worker holds the lock of what it trains; here that takes for ever. What it had done
    is in its checkpoint."""
    long = expand({**TINY, "seed": [1, 2, 3], "steps": 10**6})
    options = {"workers": 2, "checkpoint_seconds": 0, "end": end}
    with sweeping([tiny(), *long], tmp_path, tmp_path / "trace", "a", **options) as process:
        wait_for((tmp_path / "ready").exists)
        if isinstance(end, int):
            os.kill(process.pid, end)
        for config in long:
            with FileLock(tmp_path / ".locks" / file_name(config), timeout=60):
                pass  # who trained it has ended
        if end in ("exit", signal.SIGKILL):
            process.join(60)
        assert process.exitcode == {"exit": 3, signal.SIGKILL: -9}.get(end)
    assert set(stored(tmp_path)) == names([tiny()])
    kept = sorted((tmp_path / ".partial").glob("*.npz"))
    assert kept
    for path in kept:
        (config,) = checkpoint_configs(path)
        train(config).load(path)


# --- two processes, one store --------------------------------------------------------------


def test_two_processes_share_a_store(tmp_path, unbroken):
    """Each run is trained once, by one of them, and each of them is given every run."""
    some, trace = SMOKE[:12], tmp_path / "trace"
    with (
        sweeping(some, tmp_path / "store", trace, "a", commands={c: "" for c in some}) as a,
        sweeping(some, tmp_path / "store", trace, "b", commands={c: "" for c in some}) as b,
    ):
        for process in (a, b):
            process.join(300)
            assert process.exitcode == 0
    told = lines(trace)
    assert sorted(name for _, name in told) == sorted(names(some)) and {
        who for who, _ in told
    } == {"a", "b"}
    assert stored(tmp_path / "store") == {name: unbroken[name] for name in names(some)}
    for who in "ab":  # but for what the other had stored before it looked
        given_back = (tmp_path / f"trace.{who}").read_text().split()
        assert len(given_back) == len(set(given_back)) >= 6 and set(given_back) <= names(
            some
        )
    assert not leftovers(tmp_path / "store")


def test_a_run_in_training_elsewhere_is_waited_for(tmp_path, steps):
    config, store, trace = SMOKE[0], tmp_path / "store", tmp_path / "trace"
    with sweeping([config], store, trace, "a", commands={config: "of a"}) as process:
        wait_for(lambda: lines(trace))
        os.kill(process.pid, signal.SIGSTOP)
        runs = sweep([config], store, commands={config: "of b"})
        os.kill(process.pid, signal.SIGCONT)
        assert [run.provenance["command"] for run in runs] == ["of a"] and steps.done == 0
        process.join(300)


@pytest.mark.parametrize("waits", [True, False])
def test_a_process_that_dies_with_a_lock_blocks_nobody(tmp_path, steps, waits):
    """Killed before the other starts, or while the other waits for the run: it goes on from
    the last checkpoint."""
    config, trace, store = (
        replace(SMOKE[0], steps=4000),
        tmp_path / "trace",
        tmp_path / "store",
    )
    with sweeping([config], store, trace, "a", checkpoint_seconds=0) as process:
        wait_for(lambda: (store / ".partial" / file_name(config)).exists())
        os.kill(process.pid, signal.SIGSTOP if waits else signal.SIGKILL)
        if waits:  # a worker that has stopped holds its lock
            with ExitStack() as later:
                later.callback(os.kill, process.pid, signal.SIGKILL)
                assert (
                    module._train_stack(
                        [config],
                        [""],
                        module._Job(store, "cpu", False, False, False),
                        False,
                    )
                    == []
                )
        process.join()
    steps.stop = 20  # that it begins is enough
    with pytest.raises(KeyboardInterrupt):
        list(sweep([config], store))
    assert steps.done == 20


# --- damage --------------------------------------------------------------------------------


def with_field(path, **extra):
    header, arrays = read_arrays(path, KIND)
    write_arrays(path, KIND, header | {"config": header["config"] | extra}, arrays)


def with_config(path, config):
    header, arrays = read_arrays(path, KIND)
    write_arrays(path, KIND, header | {"config": config}, arrays)


HARM = {
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        "must be a whole lrdlib-run/1 file",
    ),
    "empty": (lambda path: path.write_bytes(b""), "must be a whole lrdlib-run/1 file"),
    "foreign": (
        lambda path: np.savez(path, step=np.arange(3)),
        "must be a whole lrdlib-run/1 file",
    ),
    "another": (
        lambda path: shutil.copy(path.parent / "other" / file_name(FOUR[3]), path),
        "got seed = 0, rule = 'l2', weight_decay = 1.0",
    ),
    "unknown": (lambda path: with_field(path, dropout=0.1), "got dropout = 0.1"),
    "changed": (lambda path: with_field(path, steps=7, seed=9), "got seed = 9, steps = 7"),
    "no config": (lambda path: with_config(path, 3), "must hold a whole run"),
}


def test_a_damaged_store_is_one_error_that_names_the_files(tmp_path, steps):
    configs = expand({**TINY, "seed": [*range(len(HARM) + 2)]})
    list(sweep(configs, tmp_path))
    list(sweep(FOUR, tmp_path / "other"))
    good, count = stored(tmp_path), steps.done
    bad = {
        tmp_path / file_name(config): HARM[harm]
        for config, harm in zip(configs, HARM, strict=False)
    }
    for path, (harm, _) in bad.items():
        harm(path)
    (tmp_path / "notes.npz").write_text("not of the grid")
    for look in (recorded, sweep):
        with pytest.raises(
            ValueError, match=f"got {len(HARM)} that cannot be read"
        ) as error:
            look([*configs, *FOUR], tmp_path)
        listed = str(error.value).split("\n  ")[1:]
        assert len(listed) == len(HARM)
        for line, (path, (_, words)) in zip(listed, bad.items(), strict=True):
            assert line.startswith(f"{path}: ") and words in line
    assert steps.done == count and len(recorded(configs[-2:], tmp_path)) == 2
    for path in bad:
        path.unlink()
    assert len(list(sweep(configs, tmp_path))) == len(HARM)
    assert stored(tmp_path) == good | {"notes.npz": b"not of the grid"}


def test_a_store_that_cannot_be_read_now_is_not_called_damaged(
    tmp_path, monkeypatch, steps
):
    list(sweep(FOUR[:2], tmp_path))
    before, steps.done = stored(tmp_path), 0
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    for look in (recorded, sweep):
        opened = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, limit[1]))
            with suppress(OSError):
                while True:
                    opened.append(os.open(os.devnull, os.O_RDONLY))
            with pytest.raises(OSError) as error:
                look(FOUR, tmp_path)
            assert error.value.errno == errno.EMFILE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            for number in opened:
                os.close(number)
        for problem in (PermissionError(errno.EACCES, "no"), MemoryError()):
            with monkeypatch.context() as patch, pytest.raises(type(problem)):
                patch.setattr("lrdlib.training.runs.read_arrays", raising(problem))
                look(FOUR, tmp_path)
    path = tmp_path / file_name(FOUR[0])
    path.unlink()
    path.mkdir()
    for look in (recorded, sweep):
        with pytest.raises(IsADirectoryError):
            look(FOUR, tmp_path)
    path.rmdir()
    path.write_bytes(before[path.name])
    assert stored(tmp_path) == before and not steps.done


def test_a_store_that_cannot_be_a_folder_is_one_error(tmp_path, monkeypatch, steps):
    file = tmp_path / "file"
    file.write_text("notes")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for store in (file, file / "store", tmp_path / "dangling", tmp_path / "dangling" / "x"):
        for look in (recorded, sweep):
            with pytest.raises(ValueError, match="store must be a folder, got") as error:
                look(FOUR, store)
            assert str(store) in str(error.value)
    (tmp_path / "store").mkdir()
    for name in (".locks", ".partial"):
        (tmp_path / "store" / name).write_text("in the way")
        with pytest.raises(FileExistsError):
            sweep(FOUR, tmp_path / "store")
        (tmp_path / "store" / name).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(module.os, "access", lambda path, mode: path != tmp_path / "store")
        with pytest.raises(PermissionError, match="store"):
            sweep(FOUR, tmp_path / "store")
    assert not steps.done and file.read_text() == "notes" and not stored(tmp_path / "store")


def test_what_a_file_manager_adds_harms_nothing(tmp_path, steps):
    list(sweep(FOUR[:1], tmp_path))
    with zipfile.ZipFile(tmp_path / file_name(FOUR[0]), "a") as archive:
        archive.writestr("notes.txt", "hello")
    assert list(sweep(FOUR[:1], tmp_path)) == [] and steps.done == 6


def test_a_field_that_came_later_is_at_its_default_in_older_runs(tmp_path, steps):
    list(sweep(FOUR[:1], tmp_path))
    path = tmp_path / file_name(FOUR[0])
    header, arrays = read_arrays(path, KIND)
    del header["config"]["gains"]
    write_arrays(path, KIND, header, arrays)
    assert list(sweep(FOUR[:1], tmp_path)) == [] and steps.done == 6
    assert recorded(FOUR[:1], tmp_path)[FOUR[0]].config == plain(FOUR[0])


@contextmanager
def file_size_limit(size):
    """The system refuses to write more than this to a file: no root needed, as a full disk
    would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_store_may_hold_files_of_many_runs(tmp_path):
    whole = {TrainConfig(**run.config): run for run in sweep(FOUR, tmp_path)}
    save_runs([whole[config] for config in FOUR[:3]], pack := tmp_path / "packs" / "a.npz")
    for config in FOUR[:3]:
        (tmp_path / file_name(config)).unlink()
    found = recorded(FOUR[::-1], tmp_path)
    assert list(found) == FOUR[::-1] and list(sweep(FOUR, tmp_path)) == []
    for config, run in found.items():
        assert np.array_equal(
            run.history["test_accuracy"],
            whole[config].history["test_accuracy"],
            equal_nan=True,
        )
    assert recorded([replace(FOUR[0], seed=9)], tmp_path) == {}
    pack.write_bytes(pack.read_bytes()[:-100])
    with pytest.raises(ValueError, match=re.escape(str(pack))):
        recorded(FOUR, tmp_path)


def test_a_full_disk_stops_the_sweep_and_harms_nothing(tmp_path):
    small, large = FOUR[0], tiny(seed=1, steps=40, eval_every=1)
    with file_size_limit(9_000), pytest.raises(OSError) as error:
        list(sweep([small, large, FOUR[2]], tmp_path / "store"))
    assert error.value.errno == errno.EFBIG
    assert set(stored(tmp_path / "store")) == names([small]) and not leftovers(
        tmp_path / "store"
    )
    kept = stored(tmp_path / "store")
    assert len(list(sweep([small, large, FOUR[2]], tmp_path / "store"))) == 2
    list(sweep([small, large, FOUR[2]], tmp_path / "unbroken"))
    assert (
        stored(tmp_path / "store") == stored(tmp_path / "unbroken")
        and kept.items() <= stored(tmp_path / "store").items()
    )


def test_a_disk_too_full_for_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", -1)
    with file_size_limit(9_000), pytest.raises(OSError):
        list(sweep(FOUR[:1], tmp_path / "store"))
    assert not stored(tmp_path / "store") and not leftovers(tmp_path / "store")
    list(sweep(FOUR[:1], tmp_path / "store"))
    assert set(stored(tmp_path / "store")) == names(FOUR[:1])


def test_the_error_of_a_worker_is_raised_and_the_rest_is_kept(tmp_path):
    """A folder where a lock should be."""
    list(sweep(FOUR[:1], tmp_path))
    kept = stored(tmp_path)
    (tmp_path / ".locks" / file_name(FOUR[1])).mkdir()
    with pytest.raises(OSError):
        list(sweep(FOUR, tmp_path, workers=2))
    assert stored(tmp_path).items() >= kept.items()
    (tmp_path / ".locks" / file_name(FOUR[1])).rmdir()
    list(sweep(FOUR, tmp_path))
    assert set(recorded(FOUR, tmp_path)) == set(FOUR) and not leftovers(tmp_path)


# --- a cluster -----------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A Dask cluster of two worker processes on this machine."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    options = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": None,
    }
    with distributed.LocalCluster(**options, silence_logs=50) as cluster:
        yield cluster


def test_a_cluster_of_which_a_worker_is_killed(tmp_path, cluster, unbroken, monkeypatch):
    from distributed import Client

    some = SMOKE[:8]
    with Client(cluster) as client, joblib.parallel_config(backend="dask"):
        pids = set(client.run(os.getpid).values())
        assert len(pids) == 2 and os.getpid() not in pids
        runs = sweep(some, tmp_path / "store", workers=-1)
        next(runs)
        os.kill(min(pids), signal.SIGKILL)
        killed_at = len(stored(tmp_path / "store"))
        list(runs)
        assert killed_at < len(some)
    assert stored(tmp_path / "store") == {name: unbroken[name] for name in names(some)}
    assert not leftovers(tmp_path / "store")

    # all workers gone
    monkeypatch.setattr(module, "CLUSTER_SECONDS", 0.2)
    with Client(cluster) as client, joblib.parallel_config(backend="dask"):
        runs = sweep(SMOKE[8:12], tmp_path / "store", workers=-1)
        next(runs)
        with pytest.warns(UserWarning, match="has no workers") as said:
            cluster.scale(0)
            wait_for(lambda: len(said) >= 2)
            cluster.scale(2)
            assert len(list(runs)) == 3
        assert f"dask worker {cluster.scheduler_address}" in str(said[0].message)
        assert str(said[0].message) != str(said[1].message)
        client.wait_for_workers(2)
    assert stored(tmp_path / "store").keys() == names(SMOKE[:12])

    # the command line, on what is left of the cluster; it chooses the matmul for its
    # process, which is this one
    monkeypatch.setattr("lrdlib.commands.phase_diagram.write_figures", lambda *_, **__: [])
    before = torch.backends.mkldnn.matmul.fp32_precision
    try:
        (tmp_path / "grid.json").write_text(json.dumps([TINY | {"seed": [0, 1, 2]}]))
        line = [
            "phase-diagram",
            "--grid",
            str(tmp_path / "grid.json"),
            "--out",
            str(tmp_path),
        ]
        assert main([*line, "--dask", cluster.scheduler_address]) == 0
        assert main([*line, "--runs", str(tmp_path / "here"), "--workers", "1"]) == 0
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before
    assert (
        stored(tmp_path / "runs") == stored(tmp_path / "here")
        and len(stored(tmp_path / "here")) == 3
    )


# --- compact runs --------------------------------------------------------------------------

FLOATS = arrays_of.arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32))


@settings(max_examples=200, deadline=None)
@given(FLOATS, st.integers(1, 23))
def test_rounded_values_are_near_and_have_few_digits(values, bits):
    with np.errstate(over="ignore"):  # the largest numbers may round to infinity
        found = rounded(values, bits)
    assert found.dtype == np.float32 and found.shape == values.shape
    special = ~np.isfinite(values) | (values == 0)
    np.testing.assert_array_equal(found[special], values[special])
    x, y = (array[~special].astype(np.float64) for array in (values, found))
    overflow = np.abs(x) >= np.float64(np.finfo(np.float32).max) * (1 - 2.0**-bits)
    normal = ~overflow
    subnormal = 2.0**-150  # half of float32's smallest step
    assert np.all(
        np.abs(y - x)[normal] <= np.maximum(np.abs(x[normal]) * 2.0**-bits, subnormal)
    )
    assert np.all(np.sign(y[normal]) * np.sign(x[normal]) >= 0)
    mantissas = np.frexp(y[normal])[0] * 2.0**bits
    assert np.array_equal(mantissas, np.rint(mantissas))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(rounded(found, bits), found)


def test_a_compact_run_keeps_its_history_and_comes_back(tmp_path):
    (run,) = runs_of(finished(FOUR[0]))
    small = compact(run, bits=4)
    assert (
        small.config == run.config
        and small.provenance == run.provenance
        and small.weights == {}
    )
    assert small.history.keys() == run.history.keys()
    assert all(
        small.history[name].tobytes() == values.tobytes()
        for name, values in run.history.items()
    )
    assert set(small.spectra) == {"0.query", "0.key"} and set(small.fourier) == {
        "embedding"
    }
    for name, S in small.spectra.items():
        assert np.all(np.abs(S - run.spectra[name]) <= run.spectra[name] * 2**-4)
    save_run(small, tmp_path / "run.npz")
    loaded = load_run(tmp_path / "run.npz")
    for group in ("history", "spectra", "fourier", "weights"):
        found = {name: values.tobytes() for name, values in getattr(loaded, group).items()}
        assert found == {
            name: values.tobytes() for name, values in getattr(small, group).items()
        }


def test_a_compact_run_of_the_default_size_is_a_small_file(tmp_path):
    """Spectra as training makes them: random matrices whose rank shrinks over 31
    records."""
    training, rng = Training([TrainConfig()]), np.random.default_rng(0)
    training.measure(torch.zeros(1))
    (metrics, spectra, fourier), T = (training.measure(torch.zeros(1)).metrics, {}, {}), 31
    spectra = {
        f"{layer}.{name}": np.sort(
            (0.2 + rng.random((T, 128)))
            * np.exp(-np.linspace(0, 6, T)[:, None] * np.linspace(0, 1, 128)),
            axis=1,
        )[:, ::-1].astype(np.float32)
        for layer in range(2)
        for name in ("query", "key", "value", "output", "up", "down")
    }
    fourier = {"embedding": rng.random((T, 48), np.float32)}
    history = {"step": np.arange(T)} | {name: rng.random(T, np.float32) for name in metrics}
    weights = {
        f"{layer}.{name}": rng.random((128, 128), np.float32)
        for layer in range(2)
        for name in ("query", "key")
    }
    run = Run(
        plain(TrainConfig()),
        history,
        spectra,
        weights,
        {"command": "python -m lrdlib phase-diagram"},
        fourier,
    )
    save_run(compact(run), tmp_path / "run.npz")
    assert (tmp_path / "run.npz").stat().st_size < 37_000


# --- a compiled step, and what runs cost ---------------------------------------------------


@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")),
    reason="torch.compile needs a C++ compiler",
)
def test_a_compiled_step_is_the_eager_one(tmp_path, monkeypatch):
    """To rounding, as a stack is: a fused kernel sums in another order."""
    # no pool of compilers is left behind
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    configs = [tiny(rule="l2", weight_decay=1.0, steps=3), tiny(rule="lrd", steps=3)]
    for config in configs:
        runs = {}
        for compiled in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own, of its own
                runs[compiled] = train(config, compile=compiled)
                list(runs[compiled])
        (eager,), (fast,) = (runs_of(runs[compiled]) for compiled in (False, True))
        assert (eager.provenance["forward"], fast.provenance["forward"]) == (
            "eager",
            "compiled",
        )
        for name, W in runs[False].params.items():
            difference = (runs[True].params[name] - W).detach()
            assert float(difference.norm()) <= 1e-4 * float(W.detach().norm()), (
                config.rule,
                name,
            )
        for name in ("train_loss", "test_loss", "qk_stable_rank"):
            np.testing.assert_allclose(fast.history[name], eager.history[name], rtol=1e-4)


@pytest.fixture
def fake_clock(monkeypatch):
    """A clock by which a step with low-rank decay takes 3 seconds, another 2, a record 5
    and the first step 100."""
    now = SimpleNamespace(time=0.0)

    def update(training):
        now.time += 100 if not training.step else 3 if training.coefficients.low else 2
        training.step += 1

    def measure(training, grad_norm):
        now.time += 5

    monkeypatch.setattr(Training, "update", update)
    monkeypatch.setattr(Training, "measure", measure)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now.time))


def test_the_estimate_of_the_time_counts_steps_and_records(fake_clock):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        lrd, l2 = tiny(steps=10, eval_every=5), tiny(rule="l2", steps=20, eval_every=5)
        assert seconds([lrd]) == 10 * 3 + 3 * 5
        assert seconds([l2]) == 20 * 2 + 5 * 5
        assert seconds([lrd, l2, replace(l2, seed=1)]) == 45 + 2 * 65
        assert seconds([lrd, l2], workers=2) == 110 / 2
        assert seconds([lrd, l2], workers=64) == 110 / 2  # two runs keep two busy
        assert seconds([]) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    with pytest.raises(ValueError, match="workers must be"):
        seconds([tiny()], workers=-1)


def test_the_estimate_is_of_this_machine():
    assert seconds([tiny()]) > 0


def test_a_run_takes_memory_by_its_batch(monkeypatch):
    small, large = run_bytes(tiny()), run_bytes(tiny(batch_size=64))
    assert 12 * sum(W.nbytes for W in Training([tiny()]).params.values()) < small < large
    # what depends on the batch is proportional to it
    assert run_bytes(tiny(batch_size=112)) - large == large - small
    monkeypatch.setattr(
        torch.cuda, "mem_get_info", lambda device: (100 * large, 200 * large)
    )
    assert default_stack_size([tiny()], "cpu") == 1 and default_stack_size([], "cuda") == 1
    assert default_stack_size([tiny(batch_size=64)], "cuda") == 75
    both = [tiny(batch_size=64), tiny()]
    for configs in (both, both[::-1]):  # the largest counts
        assert default_stack_size(configs, "cuda:0") == 75
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10, 10))
    assert default_stack_size([tiny()], "cuda") == 1


# --- the grids -----------------------------------------------------------------------------


def grid(name):
    return expand(*GRIDS[name]())


def test_no_grid_says_a_run_twice_that_is_the_same_computation():
    """mode, scale, method and so on mean nothing to L2: it is there once."""
    low_rank = ("mode", "scale", "select", "method", "ns_steps")
    for name in GRIDS:
        configs = grid(name)
        kinds = [
            replace(c, **{field: getattr(TrainConfig(), field) for field in low_rank})
            if c.rule == "l2"
            else c
            for c in configs
        ]
        assert len(set(kinds)) == len(configs), name


def test_the_paper_grid_is_the_papers():
    configs = grid("paper")
    default, varied = (
        TrainConfig(),
        {"fraction", "weight_decay", "rule", "mode", "seed", "l2", "eval_every"},
    )
    for f in fields(TrainConfig):
        assert f.name in varied or {getattr(c, f.name) for c in configs} == {
            getattr(default, f.name)
        }, f.name
    assert (
        len(FRACTIONS) == 11 and [round(0.3 + 0.05 * i, 2) for i in range(11)] == FRACTIONS
    )
    assert len(STRENGTHS) == 6
    rules = [
        ("l2", "independent"),
        *((r, m) for r in ("lrd", "elastic") for m in ("independent", "decoupled")),
    ]
    cells = {(c.rule, c.mode, c.fraction, c.weight_decay) for c in configs}
    assert cells == {(*rule, f, s) for rule in rules for f in FRACTIONS for s in STRENGTHS}
    for cell in cells:
        seeds = [
            c.seed for c in configs if (c.rule, c.mode, c.fraction, c.weight_decay) == cell
        ]
        assert len(seeds) == len(set(seeds)) >= 3
    assert {c.l2 for c in configs if c.rule == "elastic"} == {0.1} and {
        c.l2 for c in configs if c.rule != "elastic"
    } == {0}


def test_the_paper_grid_begins_with_what_one_wants_first():
    """One seed of L2 and LRD everywhere, then the other seeds of them in the middle, then
    the rest."""
    configs = grid("paper")
    first, second, rest = configs[:132], configs[132 : 132 + 168], configs[132 + 168 :]
    assert {(c.rule, c.mode, c.seed) for c in first} == {
        (rule, "independent", 0) for rule in ("l2", "lrd")
    }
    assert {(c.fraction, c.weight_decay) for c in first} == set(
        itertools.product(FRACTIONS, STRENGTHS)
    )
    assert {(c.rule, c.mode) for c in second} == {
        (rule, "independent") for rule in ("l2", "lrd")
    }
    assert {c.seed for c in second} == {1, 2} and {c.fraction for c in second} == set(
        FRACTIONS[:7]
    )
    assert {c.rule for c in rest} == {"l2", "lrd", "elastic"}


def test_the_published_grid_has_its_mislabelled_l2_axis():
    configs = grid("published")
    strengths = {
        rule: sorted({c.weight_decay for c in configs if c.rule == rule})
        for rule in ("l2", "lrd")
    }
    assert strengths["lrd"] == sorted(STRENGTHS) and strengths["l2"] == [
        0.001,
        0.005,
        0.01,
        0.05,
        0.1,
        0.5,
    ]
    assert strengths["l2"] == pytest.approx([10 * s for s in strengths["lrd"]], rel=1e-12)
    assert {c.p for c in configs} == {113} and len({c.fraction for c in configs}) == 6
    assert {
        (c.select, c.scale, c.method, c.ns_steps, c.mode)
        for c in configs
        if c.rule == "lrd"
    } == {("qk", None, "cubic", 5, "independent")}
    assert len({c.seed for c in configs}) >= 3 and len(configs) == 2 * 36 * len(
        {c.seed for c in configs}
    )


def test_the_fair_grid_matches_effective_strengths():
    configs = grid("fair")
    assert {c.lr for c in configs} == {1e-3, 3e-3, 1e-2} and min(
        c.fraction for c in configs
    ) == 0.2
    assert {c.mode for c in configs} == {"decoupled"}
    cells = {}
    for c in configs:
        total = c.lr * (c.weight_decay + (c.l2 if c.rule == "elastic" else 0))
        cells.setdefault((c.rule, c.lr), set()).add(
            (c.seed, c.fraction, float(f"{total:.5g}"))
        )
    assert len(cells) == 9 and len(set(map(frozenset, cells.values()))) == 1
    one = next(iter(cells.values()))
    assert (
        len({fraction for _, fraction, _ in one}) >= 5
        and len({strength for *_, strength in one}) >= 6
    )
    assert all(c.weight_decay == c.l2 for c in configs if c.rule == "elastic")


def test_the_smoke_grid_is_small():
    configs = grid("smoke")
    assert len(configs) <= 20 and {"l2", "lrd"} <= {c.rule for c in configs}
    assert max(c.p for c in configs) <= 31 and max(c.steps for c in configs) <= 500
