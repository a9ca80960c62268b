"""The command line, driven as a newcomer would, at a size that takes seconds; and the
matmul that it asks for."""

import sys

import numpy as np
import pytest
import torch

from lrdlib.__main__ import main, parser
from lrdlib.commands.mechanism import PRESETS, mechanism_configs
from lrdlib.training import backend
from lrdlib.training.runs import load_run

SMALL = [
    "mechanism",
    "--p",
    "7",
    "--d-model",
    "16",
    "--steps",
    "6",
    "--eval-every",
    "3",
    "--batch-size",
    "8",
]


@pytest.fixture(autouse=True)
def matmul_as_it_was():
    """The command line chooses torch's matmul for its whole process, which here is the
    tests'."""
    before = torch.backends.mkldnn.matmul.fp32_precision
    yield
    torch.backends.mkldnn.matmul.fp32_precision = before


def configs_of(*arguments):
    return mechanism_configs(parser().parse_args(["mechanism", *arguments]))


def test_it_writes_every_run_and_the_figure(tmp_path, capsys):
    assert main([*SMALL, "--out", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    files = {
        f"{run}-p7-f0.4-seed0.npz" for run in ("l2-0.1", "l2-3", "lrd-0.01", "elastic-0.01")
    }
    assert names == files | {"checkpoint.npz", "mechanism.html"}
    for name in files:
        run = load_run(tmp_path / name)
        assert run.history["step"].tolist() == [0, 3, 6]
        assert name.startswith(f"{run.config['rule']}-{run.config['weight_decay']:g}")
        assert run.provenance["command"].startswith("python -m lrdlib ")
    out = capsys.readouterr()
    assert "LRD λ=0.01" in out.out and "mechanism.html" in out.out
    assert "test" in out.err and "rank" in out.err  # the progress bar


def test_the_same_command_again_replays_and_another_is_refused(
    tmp_path, capsys, monkeypatch
):
    assert main([*SMALL, "--out", str(tmp_path)]) == 0
    before = load_run(tmp_path / "lrd-0.01-p7-f0.4-seed0.npz")
    with monkeypatch.context() as patch:
        patch.setattr(
            "lrdlib.training.train.Training.update",
            lambda self: pytest.fail("trained again"),
        )
        assert main([*SMALL, "--out", str(tmp_path)]) == 0
    after = load_run(tmp_path / "lrd-0.01-p7-f0.4-seed0.npz")
    assert np.array_equal(before.history["test_loss"], after.history["test_loss"])
    capsys.readouterr()
    assert main([*SMALL, "--seed", "1", "--out", str(tmp_path)]) == 2
    assert "seed" in capsys.readouterr().err


def test_a_run_of_the_line_is_a_run_of_the_library(tmp_path):
    """Interrupted after the first record by Ctrl-C, then gone on with: the same history as
    in one go."""
    assert main([*SMALL, "--out", str(tmp_path / "whole")]) == 0
    with pytest.MonkeyPatch.context() as patch:
        calls = []

        def interrupt(training, record):
            calls.append(record.step)
            if record.step == 3:
                raise KeyboardInterrupt
            return ""

        patch.setattr("lrdlib.commands.mechanism.status", interrupt)
        assert main([*SMALL, "--out", str(tmp_path / "broken")]) == 130
    assert calls == [0, 3]
    assert main([*SMALL, "--out", str(tmp_path / "broken")]) == 0
    name = "elastic-0.01-p7-f0.4-seed0.npz"
    whole, broken = (load_run(tmp_path / folder / name) for folder in ("whole", "broken"))
    for key, values in whole.history.items():
        assert np.array_equal(values, broken.history[key], equal_nan=True), key


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--fraction", "1.5"], "fraction"),
        (["--weight-decay", "-1"], "weight_decay"),
        (["--p", "1"], "p must"),
        (["--d-model", "6"], "heads"),
        (["--steps", "0"], "steps"),
        (["--lr", "nan"], "lr"),
        (["--l2", "inf"], "weight_decay"),
        (["--l2", "1", "2", "3", "4"], "--l2"),
        (["--device", "gpu"], "device"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys, arguments, word):
    assert main([*SMALL, "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lrdlib: ") and word in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_unknown_preset_and_no_command_are_refused_with_the_usage(capsys):
    for arguments in (["mechanism", "--preset", "fair"], []):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert "usage: python -m lrdlib" in capsys.readouterr().err


def test_help_explains_the_presets(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["mechanism", "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(preset in text for preset in PRESETS) and "learning rate" in text


def test_the_presets_are_the_two_sources_settings():
    lrd = configs_of("--preset", "published")[2]
    assert (lrd.steps, lrd.qk_norm, lrd.betas) == (4000, "width", (0.9, 0.999))
    assert configs_of("--preset", "published", "--steps", "10")[2].steps == 10
    assert (lrd.rule, lrd.p, lrd.fraction, lrd.select, lrd.mode) == (
        "lrd",
        113,
        0.5,
        "qk",
        "independent",
    )
    assert (lrd.weight_decay, lrd.scale, lrd.method, lrd.ns_steps, lrd.l2) == (
        5e-3,
        None,
        "cubic",
        5,
        0.1,
    )
    lrd = configs_of()[2]
    assert (lrd.p, lrd.fraction, lrd.select, lrd.scale, lrd.weight_decay) == (
        97,
        0.4,
        "attention+mlp",
        "norm",
        1e-2,
    )
    rules = [
        (c.rule, c.weight_decay, c.l2)
        for c in configs_of("--l2", "3", "1", "3", "--elastic-l2", "0.2")
    ]
    assert rules == [
        ("l2", 1.0, 0.0),
        ("l2", 3.0, 0.0),
        ("lrd", 0.01, 0.0),
        ("elastic", 0.01, 0.2),
    ]


def test_without_an_extra_it_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.delitem(sys.modules, "lrdlib.figures.runs", raising=False)
    monkeypatch.delitem(sys.modules, "lrdlib.figures.canvas", raising=False)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    assert main([*SMALL, "--out", str(tmp_path / "out")]) == 2
    assert "pip install 'lrdlib[cli]'" in capsys.readouterr().err


def relative_error() -> float:
    A, B = (
        torch.randn(300, 300, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 2)
    )
    exact = A.double() @ B.double()
    return float((A @ B - exact).abs().max() / exact.abs().max())


def test_onednn_is_taken_only_if_it_is_float32(monkeypatch):
    assert backend.use_onednn() == backend.onednn_in_use()
    assert (
        relative_error() <= 2 * backend.PRECISION
    )  # another product than the one it checked


def test_onednn_is_given_back_if_it_is_not_exact(monkeypatch):
    before = torch.backends.mkldnn.matmul.fp32_precision
    monkeypatch.setattr(backend, "PRECISION", -1.0)  # nothing is exact enough
    assert not backend.use_onednn() and not backend.onednn_in_use()
    assert torch.backends.mkldnn.matmul.fp32_precision == before
