"""The command line of the phase diagrams: what it trains, what it says, and what it
refuses."""

import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest
import torch
from sweeping import kill_group, leftovers, stored
from waiting import wait_for

from lrdlib.__main__ import main, parser
from lrdlib.commands import phase_diagram as module
from lrdlib.commands.common import only
from lrdlib.commands.phase_diagram import praise, read_grid, remakes
from lrdlib.evidence.grids import GRIDS
from lrdlib.training.backend import use_onednn
from lrdlib.training.sweep import expand, file_name, recorded, sweep
from lrdlib.training.train import TrainConfig, Training

BLOCKS = [
    {"rule": "lrd", "weight_decay": [0.02, 0.1], "seed": [0, 1]},
    {"rule": "l2", "weight_decay": 1, "seed": [0, 1]},
]
SIZE = {"p": 7, "d_model": 16, "heads": 2, "layers": 1, "batch_size": 16}
SIZE |= {"steps": 6, "eval_every": 2}


@contextmanager
def matmul_restored():
    before = torch.backends.mkldnn.matmul.fp32_precision
    try:
        yield
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before


@pytest.fixture(autouse=True)
def matmul_as_it_was():
    """The command line chooses torch's matmul for its whole process, which here is the
    tests'."""
    with matmul_restored():
        yield


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """What the command has drawn; the figures have tests of their own."""
    calls = []

    def write_figures(runs, grid, out, commands, *, fair):
        calls.append((list(runs), list(grid), out, commands))
        return [out / "phase-diagram.html"]

    monkeypatch.setattr(module, "write_figures", write_figures)
    return calls


@pytest.fixture
def untrained(monkeypatch):
    """No step may be trained from now on."""

    def fail(self):
        pytest.fail("trained")

    return lambda: monkeypatch.setattr(Training, "update", fail)


@pytest.fixture
def file(tmp_path):
    """A grid of six small runs."""
    return write(tmp_path / "grid.json", [SIZE | block for block in BLOCKS])


def write(path, content):
    content = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def small(file, out, *arguments):
    given = "--workers" in arguments or "--dask" in arguments
    line = ["phase-diagram", "--grid", str(file), "--out", str(out), *arguments]
    return line if given else [*line, "--workers", "1"]


def test_it_trains_the_grid_says_how_far_and_draws(
    tmp_path, file, capsys, drawn, untrained
):
    assert main(small(file, tmp_path / "out")) == 0
    configs = read_grid(file)
    runs = recorded(configs, tmp_path / "out" / "runs")
    assert len(runs) == len(configs) == 6
    said = capsys.readouterr()
    assert "6/6" in said.err and ("run/s" in said.err or "s/run" in said.err)
    assert "best: " in said.err and "λ=" in said.err
    assert "4 of 4 runs recorded" in said.out and "2 of 2 runs recorded" in said.out
    assert f"figure: {tmp_path / 'out' / 'phase-diagram.html'}" in said.out
    ((shown, grid, out, commands),) = drawn
    assert [TrainConfig(**run.config) for run in shown] == grid == configs
    assert out == tmp_path / "out"
    assert commands == {config: run.provenance["command"] for config, run in runs.items()}
    before = stored(tmp_path / "out" / "runs")
    untrained()
    assert main(small(file, tmp_path / "out")) == 0
    assert stored(tmp_path / "out" / "runs") == before and len(drawn) == 2
    assert "6/6" in capsys.readouterr().err


def test_the_figures_are_pages_of_their_own(tmp_path, file, monkeypatch, capsys):
    monkeypatch.undo()  # draw
    assert main(small(file, tmp_path, "--only", "seed=0")) == 0  # half of the grid
    said = capsys.readouterr().out
    for name in ("phase-diagram", "seed-agreement", "frontier"):
        path = tmp_path / f"{name}.html"
        assert f"figure: {path}\n" in said
        assert "plotly" in path.read_text(encoding="utf-8").lower()


def test_a_dry_run_counts_and_trains_nothing(tmp_path, file, capsys, drawn):
    out = tmp_path / "out"
    assert main(small(file, out, "--dry-run", "--workers", "2")) == 0
    said = capsys.readouterr().out
    assert "6 runs, 0 of them recorded" in said
    assert "6 to train: about" in said and "2 processes" in said
    assert not out.exists() and not drawn
    assert main(small(file, out, "--only", "seed=1")) == 0
    capsys.readouterr()
    assert main(small(file, out, "--dry-run", "--workers", "-1")) == 0
    said = capsys.readouterr().out
    assert "6 runs, 3 of them recorded" in said
    assert "3 to train: about" in said and "-" not in said
    assert main(small(file, out, "--dry-run", "--only", "seed=1")) == 0
    assert capsys.readouterr().out == "3 runs, 3 of them recorded\n"
    assert len(stored(out / "runs")) == 3


def test_a_part_of_the_grid_is_drawn_within_the_whole(tmp_path, file, drawn):
    out, runs = tmp_path / "out", tmp_path / "elsewhere"
    there = ["--runs", str(runs), "--only"]
    assert main(small(file, out, *there, "rule=lrd", "seed=1")) == 0
    part = [c for c in read_grid(file) if c.rule == "lrd" and c.seed == 1]
    assert set(stored(runs)) == set(map(file_name, part))
    assert not (out / "runs").exists()
    assert main(small(file, out, *there, "rule=l2")) == 0
    (first, grid, *_), (second, same, *_) = drawn
    assert grid == same == read_grid(file) and (len(first), len(second)) == (2, 4)


def test_conditions():
    axes = {"rule": ["l2", "lrd"], "weight_decay": [0.1, 1.0], "scale": [None, "norm"]}
    grid = expand(axes | {"gains": [True, False]})
    grid += expand({"betas": [(0.9, 0.98), (0.9, 0.999)], "seed": 7})
    assert only(grid, []) == grid
    for conditions, wanted in [
        (["rule=l2"], lambda c: c.rule == "l2"),
        (["weight_decay=1,0.1"], lambda c: c.weight_decay in (0.1, 1.0)),
        (
            ["weight_decay=0.1", "rule=lrd"],
            lambda c: (c.weight_decay, c.rule) == (0.1, "lrd"),
        ),
        (["scale=null"], lambda c: c.scale is None),
        (["scale=norm,null", "gains=false"], lambda c: not c.gains),
        (["betas=[0.9, 0.999]"], lambda c: c.betas == (0.9, 0.999)),
    ]:
        assert only(grid, conditions) == [c for c in grid if wanted(c)], conditions


@pytest.mark.parametrize(
    "condition, words",
    [
        ("seed", "--only must be FIELD=VALUE"),
        ("sed=1", "--only must be FIELD=VALUE with a field of TrainConfig, got 'sed=1'"),
        ("seed=9", "got 'seed=9': there is 0, 1"),
        ("seed=", "got 'seed=': there is 0, 1"),
        ("rule=L2", "there is l2, lrd"),
        ("", "--only must be FIELD=VALUE"),
        ("=", "--only must be FIELD=VALUE"),
        ("seed=NaN", "got 'seed=NaN': there is 0, 1"),
        ("seed=" + "[" * 100_000, "there is 0, 1"),
        ("seed=" + "9" * 5000, "there is 0, 1"),
        ('seed={"a": 1}', "there is 0, 1"),
    ],
)
def test_a_condition_with_a_mistake_is_one_line(tmp_path, file, capsys, condition, words):
    assert main(small(file, tmp_path / "out", "--only", "steps=6", condition)) == 2
    error = capsys.readouterr().err
    assert error.startswith("lrdlib: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content, words",
    [
        ("[{", "--grid must be a JSON file"),
        ("{}", "--grid must hold a list of blocks"),
        ("[]", "--grid must hold a list of blocks"),
        ("[3]", "--grid must hold a list of blocks"),
        ([{"lambda": 3}], "fields of TrainConfig, got 'lambda'"),
        ([{"rule": "l1"}], "rule must be one of"),
        ([{"lr": float("nan")}], "lr must be"),
        ([{"fraction": [0.5, 1.5]}], "fraction must be"),
        ([{"seed": []}], "at least one run"),
        ([{"seed": [*range(1000)], "fraction": [0.5] * 1000}], "at most 100000"),
        ([{"seed": [0] * 60_000}, {"seed": [1] * 60_000}], "which describes 120000"),
        ([{name: [0] * 1000 for name in "abcdefgh"}], "which describes far more"),
        (b"\xff\xfe[", "--grid must be a JSON file"),
        (b"[" + b" " * 2**24 + b"]", "it has more than 16777216 bytes"),
        ("[" * 100_000, "--grid must be a JSON file"),
        ("[{" + '"seed": ' + "9" * 5000 + "}]", "--grid must be a JSON file"),
        (f'[{{"steps": -{10**400}}}]', "--grid must hold runs that can be trained"),
        ([{"fraction": "0.5"}], "fraction must be a finite number"),
        ([{"seed": True}], "seed must be an integer"),
        ([{"seed": [[0]]}], "seed must be an integer"),
        ([{"rule": {"l2": 1}}], "rule must be one of"),
        ([{"betas": [0.9, 0.98]}], "betas must be two numbers"),
        ([{"p": None}], "p must be an integer"),
        ([{"": 1}], "fields of TrainConfig, got ''"),
    ],
)
def test_a_grid_with_a_mistake_is_one_line(tmp_path, capsys, content, words):
    assert main(small(write(tmp_path / "grid.json", content), tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert error.startswith("lrdlib: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--workers", "0"], "workers must be an integer >= 1, got 0"),
        (["--workers", "0", "--dry-run"], "workers must be an integer >= 1, got 0"),
        (["--workers", "-5"], "--workers must be an integer >= 1, got -5"),
        (["--workers", "1000000", "--dry-run"], "--workers must be at most 32 per core"),
        (["--stack-size", "0"], "--stack-size must be an integer >= 1, got 0"),
        (["--stack-size", "0", "--dry-run"], "--stack-size must be"),
        (["--device", "gpu"], "--device must be"),
        (["--device", ""], "--device must be"),
        (["--grid", "nowhere.json"], "--grid must be a JSON file, got 'nowhere.json'"),
        (["--grid", "."], "--grid must be a JSON file, got '.': Is a directory"),
        (["--grid", "/dev/zero"], "it has more than 16777216 bytes"),
        (
            ["--runs", __file__],
            f"--runs must be a folder that can be read, got {__file__!r}",
        ),
        (["--runs", __file__, "--dry-run"], "--runs must be a folder"),
        (["--out", __file__], "--out must be a folder"),
        (["--dask", ""], "--dask must be the address of a Dask scheduler, got ''"),
        (["--dask", "nonsense://x"], "--dask must be the address of a Dask scheduler"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, file, capsys, arguments, words):
    assert main(small(file, tmp_path / "out", *arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("lrdlib: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_store_is_an_error_that_says_what_to_delete(
    tmp_path, file, capsys, untrained
):
    assert main(small(file, tmp_path / "out", "--only", "rule=l2")) == 0
    path = sorted((tmp_path / "out" / "runs").glob("*.npz"))[0]
    path.write_bytes(path.read_bytes()[:99])
    capsys.readouterr()
    untrained()
    for arguments in ([], ["--dry-run"]):
        assert main(small(file, tmp_path / "out", *arguments)) == 2
        listed = f"delete what is listed here to have it trained again:\n  {path}"
        assert listed in capsys.readouterr().err


def test_ctrl_c_is_130_and_the_same_command_goes_on(tmp_path, file, capsys, monkeypatch):
    def interrupt(run):
        if run is not None and len(stored(tmp_path / "out" / "runs")) == 3:
            raise KeyboardInterrupt
        return praise(run)

    with monkeypatch.context() as patch:
        patch.setattr(module, "praise", interrupt)
        assert main(small(file, tmp_path / "out")) == 130
    assert "the same command goes on" in capsys.readouterr().err
    kept = stored(tmp_path / "out" / "runs")
    assert len(kept) == 3
    assert main(small(file, tmp_path / "out")) == 0
    whole = stored(tmp_path / "out" / "runs")
    assert kept.items() <= whole.items() and len(whole) == 6


def test_two_sources_and_an_unknown_preset_are_refused_with_the_usage(capsys, file):
    two = ["--preset", "paper", "--grid", str(file)]
    for arguments in (["--preset", "fast"], two, ["--only"]):
        with pytest.raises(SystemExit) as stop:
            main(["phase-diagram", *arguments])
        assert stop.value.code == 2
        assert "usage: python -m lrdlib phase-diagram" in capsys.readouterr().err


def test_help_explains_the_presets(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["phase-diagram", "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(preset in text for preset in GRIDS) and "--dry-run" in text


# --- the command that remakes a run


def assert_remakes(configs, options):
    """Each command, parsed again, is of this one run; checked for every 17th of a large
    grid, which is read once."""
    commands = remakes(configs, options)
    assert len(set(commands.values())) == len(configs) == len(commands)
    for config in configs[:: 17 if len(configs) > 100 else 1]:
        words = shlex.split(commands[config])
        assert words[:3] == ["python", "-m", "lrdlib"]
        again = parser().parse_args(words[3:])
        assert (again.grid, again.preset) == (options.grid, options.preset)
        assert only(configs, again.only) == [config]


@pytest.mark.parametrize("preset", GRIDS)
def test_the_command_of_a_run_is_of_that_run_alone(preset):
    options = parser().parse_args(["phase-diagram", "--preset", preset])
    assert_remakes(expand(*GRIDS[preset]()), options)


BETAS = {
    "betas": [[0.9, 0.98], [0.9, 0.999]],
    "scale": [None, "norm"],
    "gains": [True, False],
}
ODD = {"rule": "lrd", "weight_decay": [1, 1e-7, 0.30000000000000004], "ns_steps": [None, 5]}


@pytest.mark.parametrize("blocks", [[{"seed": 3}], [BETAS], [ODD, {"rule": "none"}]])
def test_the_command_of_a_run_of_ones_own_grid(tmp_path, blocks):
    path = write(tmp_path / "a grid's file.json", blocks)
    options = parser().parse_args(["phase-diagram", "--grid", str(path)])
    assert_remakes(read_grid(path), options)


# --- processes


def grid_of(folder, runs):
    """A grid of runs that take a while, in a file."""
    return write(folder / "grid.json", [SIZE | {"steps": 100, "seed": [*range(runs)]}])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A grid of eight runs, and what a sweep of it stores that nobody kills."""
    folder = tmp_path_factory.mktemp("unbroken")
    file = grid_of(folder, 8)
    options = parser().parse_args(["phase-diagram", "--grid", str(file)])
    grid = read_grid(file)
    with matmul_restored():
        use_onednn()  # as the command does
        list(sweep(grid, folder / "runs", commands=remakes(grid, options)))
    return file, stored(folder / "runs")


@contextmanager
def running(tmp_path, file):
    """The command in another process, with joblib's own workers, from its first stored run
    on; whatever is left of its group at the end is killed."""
    line = small(file, tmp_path / "out", "--workers", "2")
    command, errors = [sys.executable, "-m", "lrdlib", *line], tmp_path / "stderr"
    with (
        open(errors, "wb") as stderr,
        subprocess.Popen(command, start_new_session=True, stderr=stderr) as process,
    ):
        try:
            wait_for(lambda: stored(tmp_path / "out" / "runs"))
            yield process
        finally:
            kill_group(process.pid)


@pytest.mark.parametrize("to_all", [True, False])
def test_the_command_is_killed_and_started_again(tmp_path, unbroken, to_all):
    """SIGKILL to the command and its workers, or to the command alone."""
    file, whole = unbroken
    with running(tmp_path, file) as process:
        (os.killpg if to_all else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
        assert len(stored(tmp_path / "out" / "runs")) < 8
        assert main(small(file, tmp_path / "out")) == 0  # beside the workers that go on
    assert stored(tmp_path / "out" / "runs") == whole
    assert not leftovers(tmp_path / "out" / "runs")


def test_sigterm_ends_the_command_and_its_workers(tmp_path):
    with running(tmp_path, grid_of(tmp_path, 60)) as process:
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 143
        wait_for(lambda: not any(alive(child) for child in family))
    last = (tmp_path / "stderr").read_text(encoding="utf-8").splitlines()[-1]
    out = tmp_path / "out"
    assert last.endswith(
        f"lrdlib: terminated; the same command goes on from what is in {out}"
    )
    assert 1 <= len(stored(out / "runs")) < 60 and not list(out.glob("*.html"))


def alive(process):
    """Whether a process runs; one that has ended and that nobody has asked about does
    not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
