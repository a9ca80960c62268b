"""A saved run: it comes back as it was, from a small file without pickle, or not at all."""

import json
import os
import pickle
import platform
import zipfile
from dataclasses import asdict, fields, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from lrdlib.model import role
from lrdlib.training import store
from lrdlib.training.runs import (
    KIND,
    Run,
    compact,
    load_run,
    provenance,
    rounded,
    runs_of,
    save_run,
)
from lrdlib.training.train import TrainConfig, Training, train

TINY = TrainConfig(
    p=7,
    d_model=16,
    heads=2,
    layers=2,
    batch_size=16,
    steps=4,
    eval_every=2,
    weight_decay=0.02,
)
LABELLED = {"rule": "l2", "weight_decay": 1.0, "l2": 0.0}  # what a Run's label needs
GROWING = {"step": np.arange(2), "test_accuracy": np.arange(2.0)}


@pytest.fixture(scope="module")
def training():
    training = train([TINY, replace(TINY, rule="l2", seed=1)])
    list(training)
    return training


@pytest.fixture(scope="module")
def runs(training):
    return runs_of(training, command="python -m lrdlib mechanism")


def assert_equal(a, b):
    """Equal to the last bit, in values, dtypes, shapes and order of names."""
    assert a.config == b.config and a.provenance == b.provenance
    for group in ("history", "spectra", "weights", "fourier"):
        x, y = getattr(a, group), getattr(b, group)
        assert set(x) == set(y), group
        for name in x:
            assert x[name].dtype == y[name].dtype and x[name].shape == y[name].shape, name
            assert x[name].tobytes() == y[name].tobytes(), name


# --- a run is the training's records, one run at a time ------------------------------------


def test_a_run_holds_what_the_records_say(training, runs):
    assert len(runs) == 2
    for r, run in enumerate(runs):
        assert run.history["step"].tolist() == [0, 2, 4]
        assert set(run.history) == {"step", *training.records[0].metrics}
        for i, record in enumerate(training.records):
            for name, value in record.metrics.items():
                np.testing.assert_array_equal(run.history[name][i], value[r].numpy())
            for name, S in record.singular_values.items():
                np.testing.assert_array_equal(run.spectra[name][i], S[r].numpy())
        assert set(run.weights) == {
            n for n in training.params if role(n) in ("query", "key")
        }
        for name, W in run.weights.items():
            assert W.dtype == np.float32 and W.shape == (16, 16)
            np.testing.assert_array_equal(W, training.params[name].detach()[r].numpy())
            # the last spectrum is that of the final matrix: float32 SVD
            np.testing.assert_allclose(
                run.spectra[name][-1],
                np.linalg.svd(W, compute_uv=False),
                rtol=1e-4,
                atol=1e-5,
            )


def test_the_config_of_a_run_makes_it_again(training, runs):
    for r, run in enumerate(runs):
        assert set(run.config) == {f.name for f in fields(TrainConfig)}
        assert TrainConfig(**run.config) == training.configs[r]


def test_the_config_of_a_loaded_run_makes_it_again(tmp_path, training, runs):
    """JSON has no tuple; a run that was saved must still be one that can be trained again,
    also in a stack."""
    save_run(runs[0], tmp_path / "run.npz")
    config = TrainConfig(**load_run(tmp_path / "run.npz").config)
    assert config == training.configs[0]
    first = next(train([config, config]))
    assert torch.equal(
        first.metrics["test_loss"][0], training.records[0].metrics["test_loss"][0]
    )


def test_a_run_does_not_change_when_its_training_goes_on():
    training = train(TINY)
    next(training)
    (run,) = runs_of(training)
    kept = {name: W.copy() for name, W in run.weights.items()}
    list(training)
    assert run.history["step"].tolist() == [0]
    assert all(np.array_equal(W, kept[name]) for name, W in run.weights.items())


def test_a_run_needs_a_record():
    with pytest.raises(ValueError, match="at least one record"):
        runs_of(Training([TINY]))


def test_provenance_says_where_a_number_comes_from(runs):
    found = runs[0].provenance
    assert set(found) >= {"lrdlib", "torch", "numpy", "python", "machine", "command"}
    assert found["torch"] == torch.__version__ and found["numpy"] == np.__version__
    assert found["python"] == platform.python_version()
    assert (
        found["command"] == "python -m lrdlib mechanism" and provenance()["command"] == ""
    )
    assert (
        all(isinstance(value, str) for value in found.values())
        and found["lrdlib"]
        and found["machine"]
    )


@pytest.mark.parametrize(
    "config, expected",
    [
        ({"rule": "none", "weight_decay": 0.01, "l2": 0.0}, "no decay"),
        ({"rule": "l2", "weight_decay": 3.0, "l2": 0.0}, "L2 λ=3"),
        ({"rule": "lrd", "weight_decay": 0.005, "l2": 0.0}, "LRD λ=0.005"),
        ({"rule": "proximal", "weight_decay": 1e-5, "l2": 0.0}, "proximal λ=1e-05"),
        ({"rule": "elastic", "weight_decay": 0.01, "l2": 0.5}, "elastic λ=0.01 + L2 0.5"),
    ],
)
def test_labels(config, expected):
    assert Run(config, {"step": np.arange(1)}, {}, {}, {}).label() == expected


def test_runs_that_differ_in_l2_have_different_labels():
    """Rules "lrd" and "proximal" put `l2` on the other weights: a legend must tell 0 from
    1."""
    for rule in ("lrd", "proximal", "elastic"):
        labels = {
            Run(
                {"rule": rule, "weight_decay": 0.01, "l2": l2},
                {"step": np.arange(1)},
                {},
                {},
                {},
            ).label()
            for l2 in (0.0, 1.0)
        }
        assert len(labels) == 2, rule


def test_first_step():
    history = {
        "step": np.array([0, 50, 100, 120]),
        "test_accuracy": np.array([0.0, 0.95, 0.96, 0.1]),
        "test_loss": np.array([4.0, np.nan, 3.0, np.inf]),
    }
    run = Run({}, history, {}, {}, {})
    assert run.first_step() == 100  # above, not at, 0.95
    assert run.first_step(above=0.5) == 50 and run.first_step("test_loss", above=3.5) == 0
    assert run.first_step(above=0.96) is None
    assert isinstance(run.first_step(), int)
    assert json.dumps(run.first_step()) == "100"
    with pytest.raises(KeyError, match="accuracy"):
        run.first_step("accuracy")


@pytest.mark.parametrize(
    "history, spectra",
    [
        ({}, {}),
        ({"test_loss": np.ones(3)}, {}),
        ({"step": np.arange(3), "test_loss": np.ones(2)}, {}),
        ({"step": np.arange(3)}, {"0.query": np.ones((2, 4))}),
    ],
    ids=repr,
)
def test_histories_of_unequal_lengths_are_refused(history, spectra):
    with pytest.raises(
        ValueError, match="history, spectra and fourier must hold one value per step"
    ):
        Run({}, history, spectra, {}, {})


# --- save and load -------------------------------------------------------------------------


def test_a_saved_run_comes_back_as_it_was(tmp_path, runs):
    for i, run in enumerate(runs):
        path = tmp_path / "new" / "folder" / f"{i}.npz"  # made if missing
        save_run(run, path)
        assert_equal(
            load_run(path), replace(run, config=json.loads(json.dumps(run.config)))
        )
        assert load_run(str(path)).label() == run.label()
    assert sorted(os.listdir(path.parent)) == ["0.npz", "1.npz"]


numbers = st.sampled_from(
    [np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_, np.float16]
)


def an_array(shape):
    return numbers.flatmap(lambda dtype: arrays_of.arrays(dtype, shape))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    length=st.integers(0, 4),
    data=st.data(),
    config=st.dictionaries(
        st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    ),
    origin=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)
def test_any_numbers_come_back_exactly(tmp_path, length, data, config, origin):
    names_of = st.sampled_from(
        ["test_loss", "0.query", "a b", "λ", "file", "allow_pickle", "header.json", "x/y"]
    )
    config |= LABELLED
    history = data.draw(st.dictionaries(names_of, an_array((length,)), max_size=3))
    spectra = data.draw(st.dictionaries(names_of, an_array((length, 3)), max_size=2))
    weights = data.draw(st.dictionaries(names_of, an_array((2, 3)), max_size=2))
    history |= {"step": np.arange(length), "test_accuracy": np.zeros(length)}
    run = Run(config, history, spectra, weights, origin)
    save_run(run, tmp_path / "run.npz")
    assert_equal(load_run(tmp_path / "run.npz"), run)


def test_non_contiguous_and_big_endian_arrays_come_back(tmp_path):
    W = np.arange(12.0).reshape(3, 4).T
    history = {"step": np.arange(8)[::2], "test_accuracy": np.zeros(4)}
    run = Run(LABELLED, history, {}, {"0.query": W, "0.key": W.astype(">f8")}, {})
    save_run(run, tmp_path / "run.npz")
    loaded = load_run(tmp_path / "run.npz")
    np.testing.assert_array_equal(loaded.history["step"], [0, 2, 4, 6])
    np.testing.assert_array_equal(loaded.weights["0.query"], W)
    np.testing.assert_array_equal(loaded.weights["0.key"], W)


@pytest.mark.parametrize(
    "array", [np.array([object()]), np.array(["a"]), np.zeros(1, "i4,f4"), [1.0], None]
)
def test_only_numbers_are_saved(tmp_path, array):
    with pytest.raises(TypeError, match=r"arrays\['a'\] must hold numbers, got dtype"):
        store.write_arrays(tmp_path / "a.npz", "kind", {}, {"a": array})
    with pytest.raises(TypeError):
        store.write_arrays(tmp_path / "a.npz", "kind", {"model": object()}, {})
    with pytest.raises(ValueError, match="header must take at most"):
        store.write_arrays(tmp_path / "a.npz", "kind", {"long": "x" * 2**22}, {})
    assert os.listdir(tmp_path) == []


def test_the_file_is_open_numpy_and_json(tmp_path, runs):
    path = tmp_path / "run.npz"
    save_run(runs[0], path)
    with np.load(path, allow_pickle=False) as file:
        header = json.loads(file[store.HEADER].tobytes())
        groups = {name.partition("/")[0] for name in file.files}
        assert groups == {store.HEADER, "history", "spectra", "weights", "fourier"}
    assert header["kind"] == KIND and header["config"]["rule"] == "lrd"


def test_it_works_with_a_numpy_whose_savez_has_no_allow_pickle(tmp_path, monkeypatch, runs):
    """numpy 2.0 and 2.1: every keyword is the name of an array there."""

    def older(file, **arrays):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array))

    monkeypatch.setattr(np, "savez_compressed", older)
    save_run(runs[0], tmp_path / "run.npz")
    assert_equal(
        load_run(tmp_path / "run.npz"),
        replace(runs[0], config=json.loads(json.dumps(runs[0].config))),
    )


class Trap:
    """Unpickling this leaves a trace."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return open, (self.trace, "w")


def test_damaged_and_foreign_files_are_refused(tmp_path, runs):
    path, trace = tmp_path / "run.npz", tmp_path / "trace"
    save_run(runs[0], path)
    good = path.read_bytes()
    cases = [good[:cut] for cut in (0, 1, 30, len(good) // 2, len(good) - 1)]
    cases += [
        b"not a run",
        pickle.dumps(Trap(trace)),
        good[len(good) // 2 :],
        good.replace(b"PK", b"QK"),
    ]
    with zipfile.ZipFile(path) as archive:
        largest = sorted(archive.infolist(), key=lambda member: member.compress_size)[-2:]
    # in compressed data
    middle = [member.header_offset + 60 + member.compress_size // 2 for member in largest]
    cases += [bytes([*good[:k], good[k] ^ 0xFF, *good[k + 1 :]]) for k in middle]
    for content in cases:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="path must be a whole lrdlib-run/1 file"):
            load_run(path)
    np.savez(path, **{store.HEADER: np.array([Trap(trace)], dtype=object)})
    with pytest.raises(ValueError, match="path must be a whole"):
        load_run(path)
    np.savez(path, step=np.arange(3))
    with pytest.raises(ValueError, match="path must be a whole"):
        load_run(path)
    assert not trace.exists()


def test_a_missing_file_is_a_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_run(tmp_path / "run.npz")


def test_a_checkpoint_is_no_run_and_a_run_no_checkpoint(tmp_path, training, runs):
    training.save(tmp_path / "checkpoint.npz")
    with pytest.raises(
        ValueError,
        match=r"must be a lrdlib-run/1 file, got .* which is 'lrdlib-checkpoint/2'",
    ):
        load_run(tmp_path / "checkpoint.npz")
    save_run(runs[0], tmp_path / "run.npz")
    with pytest.raises(ValueError, match="which is 'lrdlib-run/1'"):
        train(training.configs, checkpoint=tmp_path / "run.npz")


@pytest.mark.parametrize(
    "header, arrays",
    [
        ({"config": 3}, {}),
        ({"config": []}, {}),
        ({"config": {"rule": "l1"}}, {}),
        ({"config": {"rule": ["l2"]}}, {}),
        ({"config": {"weight_decay": "much"}}, {}),
        ({"config": {"weight_decay": 10**400}}, {}),
        ({"config": {"l2": "much"}}, {}),
        ({"provenance": {"command": 3}}, {}),
        ({"provenance": "mine"}, {}),
        ({}, {"history/loss": np.arange(3)}),
        ({}, {"history/loss": np.arange(2) + 1j}),
        ({}, {"extra/loss": np.arange(2)}),
        ({}, {"loose": np.arange(2)}),
        ({}, {"history/step": np.array(2)}),
        ({}, {"history/step": np.arange(2.0)}),
        ({}, {"history/step": np.ones((2, 1), int)}),
        ({}, {"history/test_accuracy": np.ones((2, 2))}),
        ({}, {"spectra/0.query": np.ones(2)}),
        ({}, {"weights/0.query": np.ones(2)}),
        ({}, {"fourier/embedding": np.ones((2, 2, 2))}),
    ],
)
def test_a_whole_file_with_wrong_contents_is_refused(tmp_path, header, arrays):
    """A whole run, but for one thing."""
    path, whole = tmp_path / "run.npz", {f"history/{k}": a for k, a in GROWING.items()}
    store.write_arrays(path, KIND, {"config": LABELLED, "provenance": {}}, whole)
    assert load_run(path).first_step() == 1 and load_run(path).label() == "L2 λ=1"
    if isinstance(header.get("config"), dict) and header["config"]:
        header = header | {"config": LABELLED | header["config"]}
    header, arrays = {"config": LABELLED, "provenance": {}} | header, whole | arrays
    store.write_arrays(path, KIND, header, arrays)
    with pytest.raises(ValueError, match=f"must hold a whole run, got '{path}'"):
        load_run(path)


@pytest.mark.parametrize("missing", [*LABELLED, *GROWING, "config", "provenance"])
def test_a_run_without_what_its_label_and_first_step_need_is_not_loaded(tmp_path, missing):
    config = {key: value for key, value in LABELLED.items() if key != missing}
    arrays = {f"history/{k}": a for k, a in GROWING.items() if k != missing}
    path = tmp_path / "run.npz"
    header = {"config": config, "provenance": {}}
    if missing in LABELLED or missing == "test_accuracy":
        history = {name.removeprefix("history/"): array for name, array in arrays.items()}
        with pytest.raises(ValueError, match=f"run must be a whole run, .*'{missing}'"):
            save_run(Run(config, history, {}, {}, {}), path)
        assert not path.exists()
    header.pop(missing, None)
    store.write_arrays(path, KIND, header, arrays)
    with pytest.raises(ValueError, match="must hold a whole run"):
        load_run(path)


@pytest.mark.parametrize(
    ("part", "value", "error"),
    [
        ("config", None, TypeError),
        ("config", TINY, TypeError),
        ("config", {1: 2}, TypeError),
        ("history", "much", TypeError),
        ("history", {"step": [0, 1]}, TypeError),
        ("history", {"step": "01"}, TypeError),
        ("history", {"step": np.array(["0", "1"])}, TypeError),
        ("history", {"step": np.array([0.0, 1.0])}, TypeError),
        ("history", {"step": np.array(0)}, ValueError),
        ("spectra", {"0.query": np.ones(2)}, ValueError),
        ("spectra", [np.ones((2, 2))], TypeError),
        ("weights", {"0.query": torch.ones(2, 2)}, TypeError),
        ("weights", {"0.query": np.ones(2)}, ValueError),
        ("provenance", {"threads": 1}, TypeError),
        ("fourier", {"embedding": None}, TypeError),
    ],
)
def test_a_run_of_no_sense_is_refused_when_it_is_made(part, value, error):
    whole = {"config": LABELLED, "history": GROWING, "spectra": {}, "weights": {}}
    whole |= {"provenance": {}}
    assert Run(**whole).first_step() == 1
    with pytest.raises(error, match=f"^{part}"):
        Run(**whole | {part: value})


def test_bad_arguments_are_named(tmp_path, training, runs):
    (run, _), path = runs, tmp_path / "run.npz"
    for other in (None, 3, "run", run.config):
        for function in (lambda it: save_run(it, path), compact):
            with pytest.raises(TypeError, match="run must be a Run"):
                function(other)
        with pytest.raises(TypeError, match="training must be a Training"):
            runs_of(other)
    with pytest.raises(TypeError, match="command must be a str"):
        runs_of(training, command=None)
    for number in (0, 1, 2, True, None, 1.0, b"run.npz", ["run.npz"]):
        for function in (load_run, lambda it: save_run(run, it)):
            with pytest.raises(TypeError, match="path must be a str or a Path"):
                function(number)
    for function in (load_run, lambda it: save_run(run, it)):
        with pytest.raises(ValueError, match="NUL"):
            function("a\0b")
    with pytest.raises(ValueError, match="path must name a file"):
        save_run(run, "")
    for bits, error in (
        (0, ValueError),
        (-1, ValueError),
        (1.5, TypeError),
        (None, TypeError),
        (True, TypeError),
        ("8", TypeError),
        (float("nan"), TypeError),
    ):
        for function in (lambda b: compact(run, b), lambda b: rounded(np.ones(1), b)):
            with pytest.raises(error, match="bits must be an integer >= 1"):
                function(bits)
    for values in (None, "1", ["a"], [1j], [object()]):
        with pytest.raises(TypeError, match="values must be real numbers"):
            rounded(values, 8)
    assert rounded(np.float32([1 / 3]), 10**400).tolist() == [np.float32(1 / 3)]
    for above, error in ((None, TypeError), ("1", TypeError), (np.nan, ValueError)):
        with pytest.raises(error, match="above must be a finite number"):
            run.first_step(above=above)
    assert os.listdir(tmp_path) == []


def test_where_pip_does_not_know_the_package_its_version_is_unknown(monkeypatch, training):
    """A clone that is on the path."""

    def unknown(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", unknown)
    assert runs_of(training)[0].provenance["lrdlib"] == "unknown"


def test_the_recorded_runs_of_the_book_load():
    """Written by older versions."""
    folder = Path(__file__).parent.parent / "book" / "runs"
    paths = [*folder.glob("*.npz"), *folder.glob("sweep/*.npz")]
    assert len(paths) > 400
    assert {load_run(path).provenance["lrdlib"] for path in paths} == {"0.1.0"}


@pytest.mark.parametrize("broken", ["fsync", "replace", "savez_compressed"])
def test_a_full_disk_keeps_the_old_file_and_leaves_no_partial(
    tmp_path, monkeypatch, runs, broken
):
    path = tmp_path / "run.npz"
    save_run(runs[0], path)
    old = path.read_bytes()

    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np if broken == "savez_compressed" else os, broken, refuse)
        with pytest.raises(OSError, match="No space"):
            save_run(runs[1], path)
        with pytest.raises(OSError, match="No space"):
            save_run(runs[1], tmp_path / "other.npz")
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["run.npz"]
    save_run(runs[1], path)
    assert load_run(path).config["rule"] == "l2"


def test_a_folder_in_the_way_is_an_oserror_and_leaves_no_partial(tmp_path, runs):
    (tmp_path / "run.npz").mkdir()
    with pytest.raises(OSError):
        save_run(runs[0], tmp_path / "run.npz")
    assert os.listdir(tmp_path) == ["run.npz"]


def test_a_run_of_default_size_is_a_small_file(tmp_path):
    """2 layers of width 128 over 3000 steps recorded every 50: random numbers, which do not
    compress, at that size."""
    rng, config = np.random.default_rng(0), TrainConfig()
    records = config.steps // config.eval_every + 1
    names = [
        f"{layer}.{name}"
        for layer in range(2)
        for name in ("query", "key", "value", "output", "up", "down")
    ]
    run = Run(
        asdict(config),
        {"step": np.arange(records), "test_accuracy": rng.random(records, np.float32)}
        | {f"metric{i}": rng.random(records, np.float32) for i in range(9)},
        {name: rng.random((records, 128), np.float32) for name in names},
        {
            name: rng.random((128, 128), np.float32)
            for name in names
            if "query" in name or "key" in name
        },
        provenance(),
    )
    save_run(run, tmp_path / "run.npz")
    assert (tmp_path / "run.npz").stat().st_size < 1_000_000
