"""python -m lrdlib study: nothing is lost, nothing is trained twice, and what tuning has
chosen is written down before anything judges and never chosen again.

Trained are two parts of E2's step, tiny; the rules are E2's own.
"""

import io
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sweeping import SERVER, kill_group, lines, tell
from waiting import wait_for

from lrdlib.__main__ import main
from lrdlib.commands import study
from lrdlib.commands.study import STACK, next_stack, read_plan, studied, thin
from lrdlib.evidence import studies
from lrdlib.evidence.results import as_table, results
from lrdlib.evidence.studies import STUDIES, WORTH, choices, generalised, missing, none
from lrdlib.training import sweep as sweep_module
from lrdlib.training.config import TrainConfig, check_stack, plain
from lrdlib.training.packs import load_runs, save_runs
from lrdlib.training.runs import Run
from lrdlib.training.stacks import train_stack
from lrdlib.training.sweep import file_name

# how often a study is killed; LRDLIB_KILLS=100 for the whole, which takes minutes
KILLS = int(os.environ.get("LRDLIB_KILLS", "4"))
KILLED_SEEDS = 3 if KILLS < 5 else 8  # judging seeds: it must last for so many kills
TINY = {"p": 11, "d_model": 16, "heads": 2, "layers": 1, "batch_size": 16}
TINY |= {"steps": 20, "eval_every": 5, "mode": "decoupled"}
PATCHES = {
    "BASE": TINY,
    "PARTS": {name: studies.PARTS[name] for name in ("R+T", "L2b")},
    "PART_STRENGTHS": (2.5e-3, 4e-2),
    "SEEDS": (1000,),
}
RUNS = 2 * 2 * 2 + 3 * (2 + 1) + 3 * 2  # tuning; fractions x (parts, norms held, again)
ROOT = Path(__file__).parent.parent
OUTCOME = studies.OUTCOME
RECORDED = ROOT / "book" / "runs" / "sweep" / "packs"


@pytest.fixture
def tiny(monkeypatch):
    """E2 of two parts and two strengths, with tiny runs."""
    for name, value in PATCHES.items():
        monkeypatch.setattr(studies, name, value)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of the tiny E2, trained to its end on a CPU, without joblib. Each run is
    told as it ends."""
    folder = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in PATCHES.items():
            patch.setattr(studies, name, value)
        patch.setitem(sys.modules, "joblib", None)
        with redirect_stdout(io.StringIO()) as told:
            assert main(["study", "E2", "--out", str(folder)]) == 0
    runs = [line for line in told.getvalue().splitlines() if "T_gen" in line]
    assert len(set(runs)) == len(runs) == RUNS
    assert "LRD on the blocks, t 0.0025, lr 0.001, f 0.4, seed 500: T_gen inf" in runs
    return folder


def held(folder):
    """How often the folder's files hold each run."""
    return Counter(
        TrainConfig(**run.config)
        for path in folder.glob("*.npz")
        for run in load_runs(path)
    )


def contents(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def known_of(folder):
    return {config: generalised(run) for config, run in studied(folder).items()}


def assert_whole(folder, runs=RUNS):
    """The folder holds all of the tiny E2, each run once."""
    counts, known = held(folder), known_of(folder)
    assert len(counts) == runs and set(counts.values()) == {1}
    assert missing(["E2"], known) == []
    assert set(read_plan(folder / "plan.json")) == {"E2 R+T", "E2 L2b"}


def refused(capsys, *line):
    """The one line on stderr of a command that ends with 2."""
    assert main(["study", *line]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lrdlib: ") and error.count("\n") == 1
    return error


# ---- a line


@pytest.mark.parametrize(
    "line, words",
    [
        ([], "STUDY must be one of E0, E1, E2"),
        (["E11"], "STUDY must be one of 'E0', .*'all', got 'E11'"),
        (["all", "e1"], "got 'e1'"),
        (["E1", "--minutes", "0"], "--minutes must be a finite number > 0, got 0"),
        (["E1", "--minutes", "nan"], "--minutes must be a finite number > 0, got nan"),
        (["E1", "--workers", "0"], "--workers must be an integer >= 1, got 0"),
        (["E1", "--workers", "-2"], "--workers must be an integer >= 1, got -2"),
        (["E1", "--workers", "9" * 5], r"--workers must be an integer <= \d+, got 99999"),
        (["E1", "--take-in", "nowhere"], "--take-in must be a folder that can be read"),
        (["E1", "--out", "/dev/null"], "--out must be a folder that can be read"),
        (["--take-in", "."], None),  # an empty folder: nothing is new
        (["E1", "--only", "seeds=1"], "--only must be FIELD=VALUE .*got 'seeds=1'"),
        (
            ["E6", "--only", "seed=7"],
            "--only must leave a run, got 'seed=7': there is 1000",
        ),
        (["E1", "--table", "--only", "seed=1"], "--only must be of what is trained"),
        (["--only", "seed=500", "E1"], "STUDY must be one of .* before --only, got none"),
        (["--take-in", ".", "--only", "seed=1"], "before --only, got none"),
        (["E1", "--take-in", ".", "--only", "foo=1"], "--only must be FIELD=VALUE"),
        (["E4", "--device", "gpu"], "--device must be one that torch can use here"),
    ],
)
def test_a_line_that_is_wrong_is_one_line_and_writes_nothing(
    tmp_path, capsys, monkeypatch, line, words
):
    monkeypatch.chdir(tmp_path)
    line = line if "--out" in line else [*line, "--out", "out"]
    if words is None:
        assert main(["study", *line]) == 0
    else:
        assert re.search(words, refused(capsys, *line))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_number_that_is_none_is_refused_with_the_usage(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["study", "E1", "--minutes", "soon"])
    assert stop.value.code == 2 and "--minutes" in capsys.readouterr().err


def test_a_dry_run_says_what_is_missing_and_writes_nothing(tmp_path, capsys):
    assert main(["study", "all", "--dry-run", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == list(WORTH)
    for line, name in zip(told, WORTH, strict=True):
        n = len(STUDIES[name].configs({}))
        assert f" 0 of {n:5} runs" in line and line.endswith(STUDIES[name].question)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_what_is_done(done, tiny, capsys):
    before = contents(done)
    assert main(["study", "E2", "--dry-run", "--out", str(done)]) == 0
    assert f"{RUNS} of {RUNS:5} runs" in " ".join(capsys.readouterr().out.split("\n"))
    assert contents(done) == before


def test_the_table_is_the_results(done, tiny, capsys):
    before = contents(done)
    assert main(["study", "E2", "E3", "--table", "--out", str(done)]) == 0
    told = capsys.readouterr().out
    assert as_table(results("E2", studied(done))) in told
    assert told.count("\n\n| arm |") == 2 and STUDIES["E3"].question in told
    assert len(results("E2", studied(done))) == 3 * (3 + 2) and contents(done) == before


def test_it_needs_neither_plotly_nor_joblib_nor_scipy(tmp_path):
    """What a rented card's machine has is torch, numpy and filelock."""
    script = (
        "import sys; sys.modules.update(plotly=None, joblib=None, scipy=None, tqdm=None);"
        "from lrdlib.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    line = ["study", "all", "--dry-run", "--out", str(tmp_path)]
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *line],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.count("\n") == len(WORTH)


# ---- on a CPU


def test_a_study_ends_with_all_its_runs_and_its_plan(done, tiny):
    """Trained by the fixture, where joblib could not be imported."""
    assert_whole(done)
    plan, known = read_plan(done / "plan.json"), known_of(done)
    for key, choice in choices(known).items():
        assert plan[key]["chosen"] == list(choice.trial)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", plan[key]["date"])
        assert re.fullmatch(r"[0-9a-f]{64}", plan[key]["digest"])
        assert plan[key]["digest"] == study.digest(choice.runs, known)


def test_started_again_it_has_nothing_to_do(done, tiny, capsys, monkeypatch):
    before = contents(done)
    monkeypatch.setattr(study, "sweep", None)
    monkeypatch.setattr(study, "train_stack", None)
    for device in ("cpu", "cuda"):
        assert main(["study", "E2", "--out", str(done), "--device", device]) == 0
    assert contents(done) == before and "out of time" not in capsys.readouterr().out


def test_spectra_are_kept_of_one_seed_at_one_fraction(done):
    for config, run in studied(done).items():
        assert bool(run.spectra) == (config.seed == 1000 and config.fraction == 0.4)
        assert run.weights == {} and run.provenance["command"].endswith("lrdlib study E2")


def test_the_plan_is_written_before_the_first_run_that_judges(tmp_path, tiny, monkeypatch):
    """Of each run that starts: which choices the plan has then."""
    plans, trained = [], sweep_module._trained

    def told(stack, job):
        plans.append((stack[0], sorted(read_plan(tmp_path / "plan.json"))))
        return trained(stack, job)

    monkeypatch.setattr(sweep_module, "_trained", told)
    assert main(["study", "E2", "--out", str(tmp_path)]) == 0
    assert len(plans) == RUNS
    judging = [
        plan for config, plan in plans if config.rule != "none" and config.seed == 1000
    ]
    assert len(judging) == 12 and all(plan == ["E2 L2b", "E2 R+T"] for plan in judging)
    assert any(plan == [] for config, plan in plans if config.seed in (500, 501))


@pytest.mark.parametrize("at, packed", [(1, False), (8, True), (10, False)])
def test_stopped_before_or_after_a_run_is_packed_it_goes_on(
    tmp_path, tiny, capsys, monkeypatch, at, packed
):
    """A sweep has stored the run already, so that nothing else would ask for it again."""
    calls = iter(range(1, 10**6))

    def stopping(runs, path):
        stops = next(calls) == at
        if packed or not stops:
            save_runs(runs, path)
        if stops:
            raise KeyboardInterrupt

    started, trained = [], sweep_module._trained

    def told(stack, job):
        started.extend(stack)
        return trained(stack, job)

    monkeypatch.setattr(sweep_module, "_trained", told)
    line = ["study", "E2", "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(study, "save_runs", stopping)
        assert main(line) == 130
    assert "goes on from what is in" in capsys.readouterr().err
    assert len(started) == at
    assert main(line) == 0
    assert_whole(tmp_path)
    assert len(started) == len(set(started)) == RUNS


KILLED = PATCHES | {"SEEDS": tuple(range(1000, 1000 + KILLED_SEEDS))}


def killable(folder, trace):
    """In another process: the tiny E2, told."""
    os.setsid()
    for name, value in KILLED.items():
        setattr(studies, name, value)
    tell(trace, "who")
    with open(os.devnull, "w") as nobody, redirect_stdout(nobody):
        os._exit(main(["study", "E2", "--out", str(folder)]))


def test_kills_lose_nothing_and_choose_nothing_anew(tmp_path):
    """SIGKILL at some moment after a few more runs have begun, again and again; then to the
    end. Every kill strikes while something is left to do."""
    folder, trace = tmp_path / "out", tmp_path / "trace"
    plans, kept, draw = [], set(), random.Random(1)
    runs = 2 * 2 * 2 + (9 + 6) * KILLED_SEEDS
    least = 3 if KILLS < 10 else 2 if KILLS < 30 else 1  # runs that begin before a kill

    def run(kill_after):
        """Started, and killed so many runs later, or not at all."""
        process = SERVER.Process(target=killable, args=(folder, trace))
        process.start()
        try:
            if kill_after is None:
                process.join()
                assert process.exitcode == 0
                return
            far = len(lines(trace)) + kill_after
            wait_for(lambda: len(lines(trace)) >= far or not process.is_alive())
            time.sleep(draw.random() / 20)  # a run takes a few times as long
        finally:
            kill_group(process.pid)
            process.join()
        assert process.exitcode == -signal.SIGKILL and len(held(folder)) < runs

    for _ in range(KILLS):
        run(draw.randint(least, least + 1))
        kept |= {file_name(config) for config in held(folder)}
        plans.append(read_plan(folder / "plan.json"))
    begun_before = Counter(name for _, name in lines(trace))
    run(None)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KILLED.items():
            patch.setattr(studies, name, value)
        assert_whole(folder, runs)
    final = read_plan(folder / "plan.json")
    assert plans[-1] and all(plan.items() <= final.items() for plan in plans)
    counts = Counter(name for _, name in lines(trace))
    assert len(counts) == runs and sum(counts.values()) <= runs + KILLS
    assert all(counts[name] == begun_before[name] for name in kept)


def test_a_choice_that_would_change_is_an_error_and_nothing_is_trained(
    done, tiny, tmp_path, capsys, monkeypatch
):
    plan = read_plan(done / "plan.json")
    tuned = [run for c, run in studied(done).items() if c.seed != 1000]
    save_runs([replace(run, spectra={}) for run in tuned], tmp_path / "tuned.npz")
    plan["E2 R+T"]["chosen"][2] = 4e-2  # in truth all tie, and the smaller one is chosen
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    before = contents(tmp_path)
    monkeypatch.setattr(study, "sweep", None)
    error = refused(capsys, "E2", "--out", str(tmp_path))
    assert "plan.json must hold the choices" in error and "E2 R+T" in error
    assert contents(tmp_path) == before


def clock(step):
    """A time that goes on by `step` seconds whenever it is asked for."""
    now = iter(range(0, 10**9, step))
    return SimpleNamespace(monotonic=lambda: float(next(now)))


def test_out_of_time_on_a_cpu_it_stops_and_goes_on(tmp_path, tiny, monkeypatch):
    """Asked once for the end, once for a round, once for each run: three runs in time."""
    line = ["study", "E2", "--out", str(tmp_path), "--minutes", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(study, "time", clock(15))
        assert main(line) == 0
    assert held(tmp_path).total() == 4  # the last of them ended after a minute
    assert main([*line[:-1], "60"]) == 0
    assert_whole(tmp_path)


def test_only_a_part_is_trained_and_the_rest_later(tmp_path, tiny, capsys):
    line = ["study", "E2", "--out", str(tmp_path)]
    part = ["--only", "rule=lrd,none", "seed=500,501"]
    assert main([*line, *part]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("E2       0 of     4 runs")
    assert told[-1].startswith("E2       4 of     4 runs")
    assert {(c.rule, c.seed) for c in held(tmp_path)} == {("lrd", 500), ("lrd", 501)}
    (made_by,) = {
        run.provenance["command"]
        for path in tmp_path.glob("*.npz")
        for run in load_runs(path)
    }
    assert made_by == "python -m lrdlib study E2 --only rule=lrd,none seed=500,501"
    assert set(read_plan(tmp_path / "plan.json")) == {"E2 R+T"}
    assert main(line) == 0
    assert_whole(tmp_path)


@pytest.mark.parametrize("compile", [False, True])
def test_it_compiles_if_told_to(tmp_path, tiny, monkeypatch, compile):
    told = []

    def instead(configs, store, **options):
        told.append(options)
        yield from ()
        raise KeyboardInterrupt  # before anything is trained

    monkeypatch.setattr(study, "sweep", instead)
    line = ["study", "E2", "--out", str(tmp_path), *["--compile"] * compile]
    assert main(line) == 130
    assert [options["compile"] for options in told] == [compile]
    assert ("--compile" in next(iter(told[0]["commands"].values()))) == compile


# ---- as on a GPU


@pytest.fixture
def as_on_a_gpu(monkeypatch, tiny):
    """train_stack on the CPU, as plain as it can be, five runs a stack."""

    def plainly(configs, *, device, compile, **options):
        return train_stack(
            configs, device="cpu", compile=False, precision="float32", **options
        )

    monkeypatch.setattr(study, "train_stack", plainly)
    monkeypatch.setattr(study, "STACK", 5)


def test_stacks_end_with_all_runs_and_the_plan(tmp_path, as_on_a_gpu, capsys):
    assert main(["study", "E2", "--out", str(tmp_path), "--device", "cuda"]) == 0
    assert_whole(tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) < RUNS / 2
    told = capsys.readouterr().out
    assert "out of time" not in told and told.count("runs of 20 steps in") == len(
        list(tmp_path.glob("*.npz"))
    )
    for run in studied(tmp_path).values():
        assert run.provenance["command"] == "python -m lrdlib study E2 --device cuda"


def test_runs_of_stacks_are_those_of_the_cpu(tmp_path, as_on_a_gpu, done):
    assert main(["study", "E2", "--out", str(tmp_path), "--device", "cuda"]) == 0
    alone, together = studied(done), studied(tmp_path)
    assert alone.keys() == together.keys()
    for config, run in together.items():
        np.testing.assert_allclose(
            run.history["train_loss"], alone[config].history["train_loss"], rtol=2**-11
        )


def test_out_of_time_within_a_stack_what_is_stored_stays(
    tmp_path, as_on_a_gpu, capsys, monkeypatch
):
    """From the third on no stack is done in time: one line says so, and started again it
    goes on."""
    stacks, plainly = iter(range(100)), study.train_stack

    def late(*arguments, **options):
        return None if next(stacks) >= 2 else plainly(*arguments, **options)

    line = ["study", "E2", "--out", str(tmp_path), "--device", "cuda", "--minutes", "60"]
    with monkeypatch.context() as patch:
        patch.setattr(study, "train_stack", late)
        assert main(line) == 0
    told = capsys.readouterr().out
    assert len(re.findall("out of time: .* runs are left", told)) == 1
    files = contents(tmp_path)
    assert len([path for path in files if path.suffix == ".npz"]) == 2
    assert main(line) == 0
    assert_whole(tmp_path)
    assert all(path.read_bytes() == files[path] for path in files if path.suffix == ".npz")


def fake(config):
    """A run of no training, that never generalises."""
    metrics = dict.fromkeys(studies.JUDGED_BY, np.zeros(2, np.float32) + 0.5)
    return Run(plain(config), {"step": np.array([0, 1])} | metrics, {}, {}, {})


def test_what_takes_longer_than_the_time_is_put_off_and_told_once(
    tmp_path, capsys, monkeypatch
):
    """E4's 30,000 steps do not fit into five minutes, E6's 3000 do; the clock stands."""
    asked = []

    def at_once(configs, **options):
        asked.append((configs, options))
        return [fake(config) for config in configs]

    monkeypatch.setattr(study, "time", SimpleNamespace(monotonic=lambda: 0.0))
    monkeypatch.setattr(study, "train_stack", at_once)
    line = ["study", "E4", "E6", "--out", str(tmp_path), "--device", "cuda"]
    assert main([*line, "--minutes", "5"]) == 0
    assert {c for configs, _ in asked for c in configs} == set(STUDIES["E6"].configs({}))
    told = capsys.readouterr().out
    assert re.findall("out of time: (.*) runs are left", told) == ["42"]
    assert all(options["until"] == 300.0 for _, options in asked)
    assert all(len(configs) <= options["size"] for configs, options in asked)
    assert main(line) == 0  # without a limit
    assert "out of time" not in capsys.readouterr().out
    assert held(tmp_path).total() == 108 + 42


class InductorError(RuntimeError):
    """What torch raises if it finds no compiler."""


@pytest.mark.parametrize("asked", [[], ["--no-compile"]])
def test_where_nothing_can_be_compiled_it_trains_without(
    tmp_path, capsys, monkeypatch, asked
):
    tried, commands = [], []

    def cannot(configs, *, compile, command, **options):
        tried.append(compile)
        commands.append(command)
        if compile:
            raise InductorError("no compiler\nand so on")
        return [fake(config) for config in configs]

    monkeypatch.setattr(study, "train_stack", cannot)
    line = ["study", "E6", "--out", str(tmp_path), "--device", "cuda", *asked]
    assert main(line) == 0
    told = capsys.readouterr().out
    assert held(tmp_path).total() == 108
    assert tried.count(True) == (0 if asked else 1) and tried.count(False) > 0
    said = "runs cannot be trained compiled: InductorError: no compiler\n"
    assert (said in told) == (not asked) and "and so on" not in told
    assert all(("--no-compile" in command) == bool(asked) for command in commands)


def test_a_stack_that_cannot_be_trained_does_not_stop_the_others(
    tmp_path, capsys, monkeypatch
):
    def no_room(configs, **options):
        if configs[0].low_rank:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [fake(config) for config in configs]

    monkeypatch.setattr(study, "train_stack", no_room)
    line = ["study", "E6", "--out", str(tmp_path), "--device", "cuda"]
    assert main(line) == 0
    told = capsys.readouterr().out
    assert "trained at all: OutOfMemoryError: CUDA out of memory" in told
    assert "some cannot be trained here: 54 runs are left" in told
    assert held(tmp_path).total() == 54


def test_if_none_can_be_trained_that_is_the_error(tmp_path, capsys, monkeypatch):
    def nothing(configs, **options):
        raise RuntimeError("no card")

    monkeypatch.setattr(study, "train_stack", nothing)
    assert main(["study", "E6", "--out", str(tmp_path), "--device", "cuda"]) == 2
    assert "RuntimeError: no card" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.npz"))


def test_what_is_cut_to_a_rank_trains_in_stacks_of_its_own_as_they_are(
    tmp_path, monkeypatch
):
    """A cut takes most of a step: nothing is compiled for it, and no stack filled up."""
    asked = []

    def at_once(configs, **options):
        asked.append((configs, options))
        return [fake(config) for config in configs]

    monkeypatch.setattr(study, "train_stack", at_once)
    assert main(["study", "E3", "--out", str(tmp_path), "--device", "cuda"]) == 0
    cut = [(cs, options) for cs, options in asked if cs[0].capped]
    assert sum(len(configs) for configs, _ in cut) == 4 * 8
    for configs, options in cut:
        assert all(c.capped for c in configs)
        assert options["size"] == len(configs) and not options["compile"]
    assert not any(
        c.capped for configs, _ in asked if not configs[0].capped for c in configs
    )


def test_no_time_at_all_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "train_stack", None)
    line = ["study", "E4", "E8", "E9", "--out", str(tmp_path), "--device", "cuda"]
    assert main([*line, "--minutes", "0.01"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 3 + 1 + 3 and told[3] == "out of time: 184 runs are left"
    assert list(tmp_path.iterdir()) == []


def test_stacks_are_of_runs_that_can_train_together_and_hold_each_once():
    todo, seen = missing(WORTH, {}), []
    sizes = []
    while todo:
        stack = next_stack(todo, STACK)
        assert stack[0] == todo[0]
        check_stack(stack)
        assert len({(c.low_rank, c.capped) for c in stack}) == 1
        sizes.append(len(stack))
        seen += stack
        todo = [c for c in todo if c not in set(stack)]
    assert sorted(map(file_name, seen)) == sorted(map(file_name, missing(WORTH, {})))
    assert len(seen) == len(set(seen)) and max(sizes) == STACK and len(sizes) < 40


# ---- taking in


def test_taken_in_twice_nothing_is_new(done, tiny, tmp_path, capsys):
    out = tmp_path / "out"
    line = ["study", "--take-in", str(done), "--out", str(out)]
    assert main(line) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == RUNS and all("1 of 1 runs are new" in line for line in told)
    assert_whole(out)
    assert (out / "plan.json").read_bytes() == (done / "plan.json").read_bytes()
    taken = studied(out)
    for config, run in studied(done).items():
        again = taken[config]
        assert again.provenance == run.provenance and again.config == run.config
        assert again.history.keys() == run.history.keys()
        for name, values in run.history.items():  # NaN too, for what a record has not
            np.testing.assert_array_equal(again.history[name], values)
    before = contents(out)
    assert main(line) == 0
    assert all(
        " 0 of 1 runs are new" in line for line in capsys.readouterr().out.splitlines()
    )
    assert contents(out) == before


def test_of_a_file_only_what_is_new_is_taken_in(done, tiny, tmp_path, capsys):
    """Also where two files of the source hold the same run, and one holds another outcome
    of it: what is held stays."""
    source, out = tmp_path / "source", tmp_path / "out"
    runs = [replace(run, spectra={}, fourier={}) for run in studied(done).values()]
    other = replace(runs[0], history=runs[0].history | {OUTCOME: np.ones(5, np.float32)})
    save_runs(runs[:3], out / "a.npz")
    save_runs([other, *runs[2:5]], source / "b.npz")
    save_runs(runs[4:8], source / "c.npz")
    assert main(["study", "--take-in", str(source), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "b.npz: 2 of 4 runs are new" in told and "c.npz: 3 of 4 runs are new" in told
    counts = held(out)
    assert counts == dict.fromkeys([TrainConfig(**run.config) for run in runs[:8]], 1)
    assert math.isinf(known_of(out)[TrainConfig(**runs[0].config)])


def test_what_is_held_chooses(done, tiny, tmp_path, capsys):
    """Not another outcome of the same runs, which is not taken in."""
    source, out = tmp_path / "source", tmp_path / "out"
    runs = [replace(run, spectra={}, fourier={}) for run in studied(done).values()]
    known = known_of(done)
    best = {OUTCOME: np.ones(5, np.float32)}
    others = [replace(run, history=run.history | best) for run in runs]
    save_runs(runs, out / "a.npz")
    save_runs(others, source / "b.npz")
    assert main(["study", "--take-in", str(source), "--out", str(out)]) == 0
    assert f"b.npz: 0 of {RUNS} runs are new" in capsys.readouterr().out
    assert {
        key: entry["digest"] for key, entry in read_plan(out / "plan.json").items()
    } == {key: study.digest(choice.runs, known) for key, choice in choices(known).items()}


DAMAGE = {
    "half a file": lambda p: p.write_bytes(p.read_bytes()[:-100]),
    "no zip": lambda p: p.write_text("hello"),
    "empty": lambda p: p.write_bytes(b""),
    "of one run": lambda p: np.savez(p, a=np.arange(3)),
    "no study's": lambda p: save_runs(
        [Run(plain(TrainConfig()), {"step": np.arange(2)}, {}, {}, {})], p
    ),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_one_error_and_nothing_is_copied(
    done, tiny, tmp_path, capsys, how
):
    """It is the last by name, after files that could be copied."""
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for path in list(done.glob("*.npz"))[:3]:
        (source / path.name).write_bytes(path.read_bytes())
    broken = source / "z.npz"
    broken.write_bytes((source / path.name).read_bytes())
    DAMAGE[how](broken)
    assert str(broken) in refused(capsys, "--take-in", str(source), "--out", str(out))
    assert not out.exists()
    assert str(broken) in refused(capsys, "E2", "--dry-run", "--out", str(source))


PLANS = {
    "no JSON": "{",
    "no text": b"\xff\xfe",
    "deep": "[" * 100_000,
    "a list": "[]",
    "a word": '"E1"',
    "null": "null",
    "no entries": '{"E1 A1": 3}',
    "no choice": '{"E1 A1": {"date": "2026-11-27", "digest": ""}}',
    "no digest": '{"E1 A1": {"chosen": ["A1", 0.001, 0.1], "date": "2026-11-27"}}',
}


@pytest.mark.parametrize("how", PLANS)
def test_a_plan_that_is_none_is_one_error_and_nothing_is_written(
    done, tiny, tmp_path, capsys, how
):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for path in list(done.glob("*.npz"))[:2]:
        (source / path.name).write_bytes(path.read_bytes())
    text = PLANS[how]
    path = source / "plan.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    error = refused(capsys, "--take-in", str(source), "--out", str(out))
    assert f"{str(path)!r} must hold a plan" in error and not out.exists()
    before = contents(source)
    assert str(path) in refused(capsys, "E2", "--out", str(source))
    assert contents(source) == before


def test_a_plan_that_chooses_otherwise_is_refused_before_anything_is_copied(
    done, tiny, tmp_path, capsys
):
    """Its runs choose otherwise, or the plan that is there does."""
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for path in done.glob("*.npz"):
        (source / path.name).write_bytes(path.read_bytes())
    plan = read_plan(done / "plan.json")
    plan["E2 L2b"] |= {"chosen": ["L2b", 1e-3, 4e-2]}
    (source / "plan.json").write_text(json.dumps(plan))
    assert "E2 L2b" in refused(capsys, "--take-in", str(source), "--out", str(out))
    assert not out.exists()
    out.mkdir()
    (out / "plan.json").write_text(json.dumps(plan))
    before = contents(out)
    assert "E2 L2b" in refused(capsys, "--take-in", str(done), "--out", str(out))
    assert contents(out) == before


def test_what_was_written_down_first_stays(done, tiny, tmp_path, monkeypatch):
    """The date of a plan that is taken in, and of one that is there, is not made anew."""

    class Later(date):
        @classmethod
        def today(cls):
            return cls(2099, 1, 1)

    monkeypatch.setattr(study, "date", Later)
    plan = read_plan(done / "plan.json")
    assert main(["study", "--take-in", str(done), "--out", str(tmp_path)]) == 0
    assert read_plan(tmp_path / "plan.json") == plan
    (tmp_path / "plan.json").unlink()
    assert main(["study", "--take-in", str(done), "--out", str(tmp_path)]) == 0
    assert read_plan(tmp_path / "plan.json") == plan
    for path in done.glob("*.npz"):
        (tmp_path / "source" / path.name).parent.mkdir(exist_ok=True)
        (tmp_path / "source" / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "out"  # of a source without a plan: noted now
    assert main(["study", "--take-in", str(tmp_path / "source"), "--out", str(out)]) == 0
    noted = read_plan(out / "plan.json")
    assert noted == {key: entry | {"date": "2099-01-01"} for key, entry in plan.items()}


# ---- parts


def test_a_digest_is_of_the_runs_and_their_outcomes():
    a, b = none(seed=500), none(seed=501)
    known = {a: 300.0, b: math.inf}
    text = f"{file_name(a)} 300\n{file_name(b)} inf\n".encode()
    assert study.digest([a, b], known) == study.hashlib.sha256(text).hexdigest()
    others = [study.digest([a, b], known | {b: 2950.0}), study.digest([a], known)]
    assert len({study.digest([a, b], known), *others}) == 3


def test_what_is_kept_of_a_run():
    def run(**fields):
        spectra = {"0.query": np.ones((2, 3)), "0.mlp_in": np.ones((2, 3))}
        small = fake(none(**fields))
        return replace(small, spectra=spectra, fourier={"embedding": np.ones((2, 3))})

    kept = thin(run(seed=1000, fraction=0.4))
    assert set(kept.spectra) == {"0.query"} and set(kept.fourier) == {"embedding"}
    for other in (run(seed=1001, fraction=0.4), run(seed=1000, fraction=0.3)):
        assert thin(other).spectra == thin(other).fourier == {}


def test_files_are_named_after_their_runs():
    runs = [fake(none(seed=s)) for s in (0, 1)]
    low = fake(TrainConfig())
    names = {study.name_of(several) for several in (runs, runs[:1], runs[1:], [low])}
    assert len(names) == 4 and study.name_of(runs) == study.name_of(list(runs))
    assert all(re.fullmatch(r"[12]-(plain|low-rank)-[0-9a-f]{10}\.npz", n) for n in names)


def test_the_plan_of_the_recorded_runs_is_what_they_choose():
    """Remade from the files: what was chosen, and the digest of what it rests on."""
    known = known_of(RECORDED)
    plan = read_plan(RECORDED / "plan.json")
    made = {
        key: {"chosen": list(choice.trial), "digest": study.digest(choice.runs, known)}
        for key, choice in choices(known).items()
    }
    assert made == {
        key: {name: entry[name] for name in ("chosen", "digest")}
        for key, entry in plan.items()
    }
    assert len(plan) >= 12 and min(entry["date"] for entry in plan.values()) == "2026-11-27"
