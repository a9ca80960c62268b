"""Recorded runs remade here: the same run agrees, another does not, and a table that was
begun goes on."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from lrdlib.__main__ import main
from lrdlib.commands import validate
from lrdlib.commands.study import FOLDER
from lrdlib.evidence import validation
from lrdlib.evidence.studies import OUTCOME, TUNING, studied
from lrdlib.evidence.validation import (
    COMPARED,
    Agreement,
    distributions,
    first_steps,
    one_of_each_arm,
    whole_runs,
)
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.packs import save_runs
from lrdlib.training.runs import Run, runs_of
from lrdlib.training.sweep import sweep
from lrdlib.training.train import Training

TINY = TrainConfig(
    p=11, d_model=16, heads=2, layers=1, batch_size=16, steps=20, eval_every=5, seed=1000
)
ARMS = (
    replace(TINY, rule="l2", weight_decay=0.1),
    replace(TINY, rule="lrd", weight_decay=0.01),
)


@pytest.fixture(scope="module")
def recorded():
    """Two arms, two seeds each, trained here."""
    found = {}
    for config in [replace(arm, seed=seed) for arm in ARMS for seed in (1000, 1001)]:
        training = Training([config])
        assert len(list(training)) == 5
        (found[config],) = runs_of(training)
    return found


def test_one_run_of_each_arm_and_none_of_tuning(recorded):
    tuned = replace(ARMS[0], seed=TUNING[0])
    assert one_of_each_arm([*recorded, tuned]) == list(ARMS)


def test_a_run_made_again_here_is_the_same(recorded):
    for arm in ARMS:
        found = first_steps(arm, recorded[arm], steps=20)
        assert found.agrees and set(found.apart) == set(COMPARED)
        assert max(found.apart.values()) < 1e-6


@pytest.mark.parametrize("metric", COMPARED)
def test_a_run_that_is_another_is_apart(recorded, metric):
    run = recorded[ARMS[0]]
    history = {name: np.array(values, copy=True) for name, values in run.history.items()}
    history[metric] = history[metric] * np.where(run.history["step"] == 10, 1.1, 1.0)
    found = first_steps(ARMS[0], replace(run, history=history), steps=20)
    assert not found.agrees
    assert found.apart[metric] == pytest.approx(1 - 1 / 1.1, rel=1e-4)


@pytest.mark.parametrize("metric", COMPARED)
@pytest.mark.parametrize("record", [1, -1])
def test_a_run_that_has_diverged_is_apart(recorded, metric, record):
    """Wherever the NaN stands among the metrics and the records."""
    run = recorded[ARMS[0]]
    history = {name: np.array(values, copy=True) for name, values in run.history.items()}
    history[metric][record] = np.nan
    found = first_steps(ARMS[0], replace(run, history=history), steps=20)
    assert not found.agrees
    assert {name for name, x in found.apart.items() if math.isnan(x)} == {metric}


@pytest.mark.parametrize(
    ("lr", "apart", "agrees"),
    [
        (3e-3, 0.019, True),
        (3e-3, 0.021, False),
        (1e-2, 0.4, True),
        (1e-2, 0.6, False),
        (1e-2, math.nan, False),
    ],
)
def test_a_larger_learning_rate_is_allowed_more(lr, apart, agrees):
    for both in ((0.0, apart), (apart, 0.0)):
        differences = dict(zip(COMPARED, both, strict=False))
        assert Agreement("L2", 0.4, 1000, lr, 100, differences).agrees is agrees


def ends(config, steps):
    """A run of `config` that generalises at record `steps`, of 0, 5, ..., 20."""
    at = np.arange(0, 21, 5)
    return Run(
        plain(config), {"step": at, OUTCOME: np.where(at >= steps, 1.0, 0.0)}, {}, {}, {}
    )


def test_whole_runs_are_compared_over_their_seeds():
    seeds = range(1000, 1006)
    configs = [replace(ARMS[0], seed=seed) for seed in seeds]
    slow, fast = (5, 5, 10, 10, 15, 15), (0, 0, 0, 5, 5, 5)
    (found,) = distributions(
        dict(zip(configs, map(ends, configs, slow), strict=True)),
        dict(zip(configs, map(ends, configs, fast), strict=True)),
    )
    assert (tuple(found.recorded), tuple(found.remade)) == (slow, fast)
    assert found.p == pytest.approx(mannwhitneyu(slow, fast).pvalue)


def test_a_run_that_never_generalises_counts_as_its_last_step():
    """So that the table is JSON, which has no inf."""
    configs = [replace(ARMS[0], seed=seed) for seed in range(1000, 1004)]
    never, some = (
        dict(zip(configs, map(ends, configs, T), strict=True))
        for T in ([math.inf] * 4, [5, 10, math.inf, 10])
    )
    (found,) = distributions(never, some)
    assert (found.recorded, found.remade) == ([20] * 4, [5, 10, 20, 10])
    json.dumps(asdict(found), allow_nan=False)


@pytest.fixture
def packs(tmp_path, recorded):
    folder = tmp_path / "packs"
    folder.mkdir()
    save_runs(list(recorded.values()), folder / "a.npz")
    return folder


def test_a_table_that_was_begun_goes_on(packs, tmp_path, capsys, monkeypatch):
    out = tmp_path / "table.json"
    line = ["validate", "--runs", str(packs), "--steps", "10", "--out", str(out)]
    assert main([*line, "--limit", "1"]) == 0
    begun = json.loads(out.read_text())["first steps"]
    trained = []
    monkeypatch.setattr(
        validate, "first_steps", lambda *a: trained.append(a[0]) or first_steps(*a)
    )
    assert main(line) == 0
    rows = json.loads(out.read_text())["first steps"]
    assert trained == [ARMS[1]] and rows[0] == begun[0] and len(rows) == 2
    assert "2 of 2 runs agree" in capsys.readouterr().out


def test_what_is_remade_whole_is_four_arms_on_six_seeds():
    runs = whole_runs(studied(FOLDER))
    assert [c.seed for c in runs] == [s for s in range(1000, 1006) for _ in range(4)]
    assert {c.fraction for c in runs} == {0.4} and len(set(runs)) == 24
    arms = {(c.rule, c.l2_on, c.l2 > 0) for c in runs}
    assert len(arms) == 4 and {rule for rule, *_ in arms} == {"l2", "lrd"}
    assert whole_runs({}) == []


def test_whole_runs_are_remade_once_and_stay_in_the_table(packs, tmp_path, monkeypatch):
    out, folder = tmp_path / "table.json", tmp_path / "whole"
    line = ["validate", "--runs", str(packs), "--steps", "5", "--out", str(out)]
    trained = []

    def plainly(configs, store, *, compile, commands):  # to compile takes 15 s
        for run in sweep(configs, store, commands=commands):
            trained.append(run.provenance["command"])
            yield run

    monkeypatch.setattr(validate, "sweep", plainly)
    monkeypatch.setattr(validate, "whole_runs", list)
    # no run of 20 steps generalises: what a run ends with, another of each, stands for T
    monkeypatch.setattr(
        validation, "generalised", lambda run: float(run.history["train_loss"][-1])
    )
    assert main([*line, "--whole", str(folder)]) == 0
    assert len(trained) == 4 and set(trained) == {
        f"python -m lrdlib validate --whole {folder}"
    }
    whole = json.loads(out.read_text())["whole runs"]
    assert [len(row["remade"]) for row in whole] == [2, 2]
    for row in whole:
        assert row["remade"] == pytest.approx(row["recorded"], rel=1e-3)
    each = sorted(x for row in whole for x in row["recorded"])
    assert min(np.diff(each)) > 2e-3 * max(each)  # no two are alike, to that
    assert main([*line, "--whole", str(folder)]) == 0 and len(trained) == 4
    assert main(line) == 0
    assert json.loads(out.read_text())["whole runs"] == whole


@pytest.mark.parametrize("text", ["", "[]", '{"first steps": [{"arm": "L2"}]}', "\xff"])
def test_a_file_that_is_no_table_is_refused_and_kept(packs, tmp_path, capsys, text):
    out = tmp_path / "table.json"
    out.write_text(text, encoding="latin-1")
    assert main(["validate", "--runs", str(packs), "--out", str(out)]) != 0
    said = capsys.readouterr().err
    assert "--out must be a new file or a table" in said and "Traceback" not in said
    assert out.read_text(encoding="latin-1") == text
