"""Many runs in one file: they come back as they were, to the rounding that is promised, or
not at all."""

import zipfile
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrdlib.training import store
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.packs import KIND, load_runs, save_runs
from lrdlib.training.runs import Run, save_run
from lrdlib.training.store import read_arrays, write_arrays

ORIGIN = {"machine": "a stub", "command": "python -m lrdlib study E1"}


def made(seed=0, steps=(0, 50, 100), *, spectra=("0.query",), fourier=(), k=3, **changes):
    """A run of no training: numbers drawn from its seed."""
    rng, T = np.random.default_rng(seed), len(steps)

    def drawn(*shape):
        return rng.lognormal(0, 5, (T, *shape)).astype(np.float32)

    return Run(
        plain(TrainConfig(seed=seed, **changes)),
        {
            "step": np.array(steps, np.int64),
            "orbit_clean_accuracy": rng.random(T).astype(np.float32),
            "test_loss": drawn(),
        },
        {name: drawn(k) for name in spectra},
        {"0.query": drawn(4)},
        ORIGIN | {"seed": str(seed)},
        {name: drawn(k + 1) for name in fourier},
    )


def relative(a, b):
    """The largest |a - b| / |b| of arrays without 0."""
    return np.max(np.abs(a - b) / np.abs(b))


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    who=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=5),
    steps=st.sets(st.integers(0, 2**62), min_size=1, max_size=4),
    k=st.integers(0, 3),
)
def test_runs_come_back(tmp_path, who, steps, k):
    """who: which of the runs have spectra, and which Fourier powers."""
    runs = [
        made(
            i,
            sorted(steps),
            spectra=["0.query", "1.a-of/b"][: 2 * S],
            fourier=["embedding"][:F],
            k=k,
        )
        for i, (S, F) in enumerate(who)
    ]
    save_runs(runs, tmp_path / "runs.npz")
    back = load_runs(tmp_path / "runs.npz")
    assert len(back) == len(runs)
    for a, b in zip(runs, back, strict=True):
        assert (b.config, b.provenance, b.weights) == (a.config, a.provenance, {})
        assert a.history.keys() == b.history.keys()
        for name in ("step", "orbit_clean_accuracy"):
            np.testing.assert_array_equal(b.history[name], a.history[name])
        assert relative(b.history["test_loss"], a.history["test_loss"]) <= 2**-12
        for part in ("spectra", "fourier"):
            before, after = getattr(a, part), getattr(b, part)
            assert before.keys() == after.keys()
            for name, values in before.items():
                assert after[name].shape == values.shape
                assert not values.size or relative(after[name], values) <= 2**-8


def test_what_is_rounded_is_rounded_once(tmp_path):
    """Packed again, a file's runs are the same to the bit: taking in loses nothing."""
    save_runs([made(0), made(1, spectra=())], tmp_path / "a.npz")
    save_runs(load_runs(tmp_path / "a.npz"), tmp_path / "b.npz")
    (a_head, a), (b_head, b) = (read_arrays(tmp_path / f"{n}.npz", KIND) for n in "ab")
    assert a_head == b_head and a.keys() == b.keys()
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_a_diverged_run_keeps_its_nans(tmp_path):
    run = made()
    run.history["test_loss"][1:] = np.nan, np.inf
    save_runs([run], tmp_path / "runs.npz")
    (back,) = load_runs(tmp_path / "runs.npz")
    assert np.isnan(back.history["test_loss"][1]) and np.isposinf(
        back.history["test_loss"][2]
    )


def test_a_stack_of_a_study_is_small(tmp_path):
    """4 kB a run without spectra: 22 metrics at 61 records, here of noise."""
    steps = np.arange(0, 3001, 50)
    runs = []
    for seed in range(32):
        run = made(seed, steps, spectra=())
        rng = np.random.default_rng(seed)
        metrics = {f"m{i}": rng.lognormal(0, 1, 61).astype(np.float32) for i in range(20)}
        runs.append(replace(run, history=run.history | metrics))
    save_runs(runs, tmp_path / "runs.npz")
    assert (tmp_path / "runs.npz").stat().st_size < 4000 * len(runs)


def without(run, name):
    return replace(run, history={k: v for k, v in run.history.items() if k != name})


RUN = made()
REFUSED = {
    "no list": (RUN, TypeError, "runs must be a list of Runs"),
    "no runs": ([RUN, asdict(RUN)], TypeError, "runs must be a list of Runs"),
    "none": ([], ValueError, "runs must hold at least one Run"),
    "steps": ([RUN, made(1, (0, 50, 150))], ValueError, r"steps of the first.*runs\[1\]"),
    "fewer steps": ([RUN, made(1, (0, 50))], ValueError, "steps of the first"),
    "metrics": ([RUN, without(RUN, "test_loss")], ValueError, "metrics of the first"),
    "more": ([without(RUN, "test_loss"), RUN], ValueError, "metrics of the first"),
    "shapes": ([RUN, made(1, k=4)], ValueError, r"spectra\['0.query'\] of one shape"),
    "no order": ([made(0, (0, 100, 50))], ValueError, "ascending steps"),
    "no steps": ([made(0, ())], ValueError, "ascending steps"),
    "twice": ([made(0, (0, 50, 50))], ValueError, "ascending steps"),
    "a field": (
        [RUN, replace(RUN, config=RUN.config | {"speed": 1})],
        ValueError,
        r"runs\[1\] must have the config of a run: .*speed",
    ),
    "a value": (
        [replace(RUN, config=RUN.config | {"lr": -1.0})],
        ValueError,
        r"runs\[0\] must have the config of a run: lr",
    ),
    "no JSON": (
        [replace(RUN, config=RUN.config | {"seed": np.int64(3)})],
        TypeError,
        "JSON",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, case):
    runs, error, words = REFUSED[case]
    path = tmp_path / "runs.npz"
    path.write_bytes(b"as it was")
    with pytest.raises(error, match=words):
        save_runs(runs, path)
    assert [p.name for p in tmp_path.iterdir()] == ["runs.npz"]
    assert path.read_bytes() == b"as it was"


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "runs.npz"
    save_runs([made(0)], path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(store.os, "fsync", full)
        save_runs([made(1)], path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


# ---- files from anywhere


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file of three runs, of which the last two have spectra, as bytes."""
    path = tmp_path_factory.mktemp("whole") / "runs.npz"
    save_runs([made(0, spectra=()), made(1), made(2, fourier=["embedding"])], path)
    return path.read_bytes()


def test_nothing_in_a_file_is_a_pickle(tmp_path, whole):
    path = tmp_path / "runs.npz"
    path.write_bytes(whole)
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype.kind in "iufb" for name in file.files)


@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damage_is_one_error_that_names_the_file(tmp_path, whole, data):
    path, content = tmp_path / "runs.npz", bytearray(whole)
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        content[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(
            st.integers(0, 7)
        )
    path.write_bytes(content)
    try:
        runs = load_runs(path)
    except ValueError as error:
        assert str(path) in str(error) and len(str(error)) < 1000
    else:  # a date or a flag of the zip's, which says nothing of the runs
        path.write_bytes(whole)
        for a, b in zip(runs, load_runs(path), strict=True):
            assert (a.config, a.provenance) == (b.config, b.provenance)
            assert all(x.tobytes() == b.history[n].tobytes() for n, x in a.history.items())


def test_foreign_files(tmp_path):
    path = tmp_path / "runs.npz"
    with pytest.raises(FileNotFoundError):
        load_runs(path)
    history = made().history | {"test_accuracy": np.zeros(3)}
    save_run(replace(made(), history=history), path)  # of one run
    with pytest.raises(ValueError, match=str(path)):
        load_runs(path)
    np.savez(path, a=np.arange(3))
    with pytest.raises(ValueError, match=str(path)):
        load_runs(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(ValueError, match=str(path)):
        load_runs(path)


HEADERS = {
    "no configs": {"provenance": [{}] * 3},
    "no provenance": {"configs": [{}] * 3},
    "a number": {"configs": 3, "provenance": 3},
    "a dict": {"configs": {"0": {}}, "provenance": [{}]},
    "words": {"configs": "abc", "provenance": "abc"},
    "none at all": {"configs": [], "provenance": []},
    "too few": {"configs": [{}] * 2, "provenance": [{}] * 2},
    "too many": {"configs": [{}] * 4, "provenance": [{}] * 4},
    "another number of each": {"configs": [{}] * 3, "provenance": [{}] * 2},
    "configs of numbers": {"configs": [1, 2, 3], "provenance": [{}] * 3},
    "configs of null": {"configs": [None] * 3, "provenance": [{}] * 3},
    "provenance of numbers": {"configs": [{}] * 3, "provenance": [1, 2, 3]},
    "provenance of lists": {"configs": [{}] * 3, "provenance": [{"a": [1]}] * 3},
    "a field that is none": {"configs": [{"speed": 1}] * 3, "provenance": [{}] * 3},
    "a list for a rule": {"configs": [{"rule": ["lrd"]}] * 3, "provenance": [{}] * 3},
    "a rule that is none": {"configs": [{"rule": "lr"}] * 3, "provenance": [{}] * 3},
    "a huge number": {"configs": [{"steps": 10**400}] * 3, "provenance": [{}] * 3},
    "not a number": {"configs": [{"lr": float("nan")}] * 3, "provenance": [{}] * 3},
    "a null strength": {"configs": [{"weight_decay": None}] * 3, "provenance": [{}] * 3},
}
NONE = object()  # leave the array out
F = np.float32
ARRAYS = {
    "step": [
        NONE,
        np.array(3),
        np.zeros((3, 1), np.int64),
        np.arange(3.0),
        np.array([0, 50]),
        np.array([0, 100, 50]),
        np.array([0, 0, 50]),
        np.array([True, False, True]),
        np.arange(3) * 1j,
        np.arange(0),
    ],
    "history/test_loss": [
        np.zeros(3, F),
        np.zeros((3, 2), F),
        np.zeros((2, 3), F),
        np.zeros((3, 3, 1), F),
        np.array(1.0),
        np.ones((3, 3)) * 1j,
    ],
    "history/step": [np.zeros((3, 3), np.int64)],
    "spectra/0.query": [
        np.zeros((3, 3, 3), F),
        np.zeros((3, 2), F),
        np.zeros((2, 2, 3), F),
    ],
    "spectra-of/0.query": [
        NONE,
        np.array([1, 3]),
        np.array([-1, 1]),
        np.array([1, 1]),
        np.array([2, 1]),
        np.array([1]),
        np.array([0, 1, 2]),
        np.array([1.0, 2.0]),
        np.array([[1, 2]]),
        np.array(1),
        np.array([], int),
        np.array([1, 2**63], np.uint64),
    ],
    "fourier/other": [np.zeros((3, 1, 3), F)],
    "weights/0.query": [np.zeros((4, 4), F)],
    "spectra": [np.zeros((3, 3), F)],
    "spectra-of/other": [np.array([0])],
    "": [np.zeros(3)],
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_of_no_sense(tmp_path, whole, case):
    path = tmp_path / "runs.npz"
    path.write_bytes(whole)
    _, arrays = read_arrays(path, KIND)
    write_arrays(path, KIND, HEADERS[case], arrays)
    with pytest.raises(ValueError, match=str(path)) as error:
        load_runs(path)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "name, array", [(name, array) for name, several in ARRAYS.items() for array in several]
)
def test_arrays_of_no_sense(tmp_path, whole, name, array):
    path = tmp_path / "runs.npz"
    path.write_bytes(whole)
    header, arrays = read_arrays(path, KIND)
    if array is NONE:
        del arrays[name]
    else:
        arrays[name] = array
    write_arrays(path, KIND, header, arrays)
    with pytest.raises(ValueError, match=str(path)) as error:
        load_runs(path)
    assert len(str(error.value)) < 1000


def test_a_field_that_came_later_is_at_its_default(tmp_path):
    """Files outlive versions: a config may lack a field."""
    old = {k: v for k, v in made().config.items() if k != "optimizer"}
    save_runs([replace(made(), config=old)], tmp_path / "runs.npz")
    (run,) = load_runs(tmp_path / "runs.npz")
    assert TrainConfig(**run.config) == TrainConfig()
    assert run.config == old
