"""The command line, driven as a newcomer would, at a size that takes seconds; what it does
with bad input; and the matmul that it asks for."""

import errno
import io
import json
import os
import random
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from lrdlib.__main__ import main, parser
from lrdlib.commands import claims, common, phase_diagram
from lrdlib.commands.mechanism import PRESETS, mechanism_configs
from lrdlib.training import backend
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import load_run
from lrdlib.training.train import Training

SMALL = ["mechanism", "--p", "7", "--d-model", "16", "--steps", "6", "--batch-size", "8"]
SMALL += ["--eval-every", "3"]


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
        patch.setattr(Training, "update", lambda self: pytest.fail("trained again"))
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
        (["--fraction", "1.5"], "--fraction must be"),
        (["--weight-decay", "-1"], "--weight-decay"),
        (["--p", "1"], "--p must"),
        (["--d-model", "6"], "d_model = 6"),
        (["--steps", "0"], "--steps must be an integer >= 1, got 0"),
        (["--lr", "nan"], "--lr must be"),
        (["--l2", "1", "inf"], "--l2 must be a finite number >= 0, got inf"),
        (["--l2", "1", "2", "3", "4"], "--l2 must be at most 3 strengths"),
        (["--elastic-l2", "-1"], "--elastic-l2 must be"),
        (["--device", "gpu"], "--device must be"),
        (["--device", "None"], "--device must be one that torch can use here, got 'None'"),
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
    assert (lrd.rule, lrd.p, lrd.fraction) == ("lrd", 113, 0.5)
    assert (lrd.select, lrd.mode, lrd.scale) == ("qk", "independent", None)
    assert (lrd.method, lrd.ns_steps) == ("cubic", 5)
    assert (lrd.weight_decay, lrd.l2) == (5e-3, 0.1)
    lrd = configs_of()[2]
    assert (lrd.p, lrd.fraction, lrd.weight_decay) == (97, 0.4, 1e-2)
    assert (lrd.select, lrd.scale) == ("attention+mlp", "norm")
    configs = configs_of("--l2", "3", "1", "3", "--elastic-l2", "0.2")
    l2 = [("l2", 1.0, 0.0), ("l2", 3.0, 0.0)]
    low_rank = [("lrd", 0.01, 0.0), ("elastic", 0.01, 0.2)]
    assert [(c.rule, c.weight_decay, c.l2) for c in configs] == l2 + low_rank


def test_without_an_extra_it_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.delitem(sys.modules, "lrdlib.figures.runs", raising=False)
    monkeypatch.delitem(sys.modules, "lrdlib.figures.canvas", raising=False)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    assert main([*SMALL, "--out", str(tmp_path / "out")]) == 2
    assert "pip install 'lrdlib[cli]'" in capsys.readouterr().err


# --- bad input and bad places


def test_a_folder_that_cannot_be_is_one_line_before_anything_is_trained(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(Training, "update", lambda self: pytest.fail("trained"))
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below", "/dev/null", "nul\0l"):
        assert main([*SMALL, "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("lrdlib: --out must be a folder that can be read, got ")
        assert repr(str(out)) in error and error.count("\n") == 1
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", raising(errno.EACCES))
        assert main([*SMALL, "--out", str(tmp_path / "out")]) == 2
    assert "Permission denied" in capsys.readouterr().err


def raising(code):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    return fail


def test_a_full_disk_is_one_line_that_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", raising(errno.ENOSPC))
        assert main([*SMALL, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]  # after the progress bar
    assert "lrdlib: " in error and "No space left on device" in error
    assert error.endswith(f"the same command goes on from what is in {tmp_path}")
    assert not list(tmp_path.iterdir())  # nothing half written
    assert main([*SMALL, "--out", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("out of memory\nat C"), OverflowError("x")]
)
def test_what_the_machine_cannot_do_is_one_line(tmp_path, capsys, monkeypatch, error):
    def fail(self):
        raise error

    monkeypatch.setattr(Training, "update", fail)
    assert main([*SMALL, "--out", str(tmp_path)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    message = str(error).partition("\n")[0] or "this machine cannot do that"
    assert last.endswith(f"lrdlib: {type(error).__name__}: {message}")


@pytest.fixture
def judged(monkeypatch):
    """A table of claims that takes no time."""
    monkeypatch.setattr(claims, "load_evidence", lambda store: store)
    monkeypatch.setattr(claims, "table", lambda evidence: "| λ × σ |")


def test_the_claims_are_written_at_once_or_not_at_all(
    tmp_path, capsys, monkeypatch, judged
):
    path = tmp_path / "deep" / "claims.md"
    line = ["claims", "--runs", str(tmp_path), "--out", str(path)]
    assert main(line) == 0 and path.read_text(encoding="utf-8") == "| λ × σ |\n"
    path.write_text("before")
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", raising(errno.ENOSPC))
        assert main(line) == 2
    assert capsys.readouterr().err == (
        f"lrdlib: --out must be a file that can be written, got {str(path)!r}: "
        "No space left on device\n"
    )
    assert path.read_text() == "before" and list(path.parent.iterdir()) == [path]
    link = tmp_path / "link"
    link.symlink_to(path)
    assert main([*line[:-1], str(link)]) == 0
    assert link.is_symlink() and path.read_text(encoding="utf-8") == "| λ × σ |\n"
    assert main([*line[:-1], str(tmp_path)]) == 2
    assert "--out must be a file" in capsys.readouterr().err
    assert main([*line[:-1], os.devnull]) == 0 and not os.path.isfile(os.devnull)


def test_claims_of_no_folder_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    for runs in (tmp_path / "file", tmp_path / "none", "x" * 300):
        assert main(["claims", "--runs", str(runs)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("lrdlib: --runs must be a folder that can be read, got ")
        assert str(runs) in error and error.count("\n") == 1


HUGE = str(10**400)  # more than a float can hold

# Values of every kind; none of them asks for gigabytes or for a long training.
GOOD = {
    "mechanism": {
        "--p": ["5", "7"],
        "--fraction": ["0.5"],
        "--weight-decay": ["0", "1e-3"],
        "--l2": ["0", "1", "1 2", "1 2 3"],
        "--elastic-l2": ["0.1"],
        "--mode": ["independent", "decoupled"],
        "--seed": ["0", "7"],
        "--steps": ["1", "2"],
        "--eval-every": ["1"],
        "--lr": ["1e-3"],
        "--batch-size": ["4"],
        "--d-model": ["16"],
        "--device": ["cpu"],
        "--preset": ["paper", "published"],
        "--out": ["out"],
    },
    "phase-diagram": {
        "--grid": ["grid.json"],
        "--only": ["seed=0", "seed=0 rule=lrd", "weight_decay=0.1"],
        "--workers": ["1", "2", "-1"],
        "--stack-size": ["1", "4"],
        "--device": ["cpu"],
        "--out": ["out"],
        "--runs": ["out"],
        "--dask": ["tcp://127.0.0.1:1"],
        "--compile": [""],
        "--full": [""],
    },
    "claims": {"--runs": ["."], "--out": ["claims.md"]},
}
BAD = ["", " ", "x", "-1", "0", "-5", "1.5", "nan", "inf", "-inf", "1e999", "-0.0", "None"]
BAD += [
    "null",
    "true",
    "[]",
    "{}",
    "[[[[1]]]]",
    "λ",
    "\udcff",
    "nul\0l",
    "a" * 300,
    "--",
    "-x",
]
BAD += [HUGE, "9" * 5000, "1e400", "0x10", "١", "grid.json", "folder", "nowhere"]
BAD += [
    "/dev/null",
    "/proc/nowhere",
    "seed",
    "=",
    "seed=",
    "seed=nan",
    "betas=[1",
    "p=[[[",
    "cuda",
]
BAD += [
    "meta:9",
    "gpu",
    "a\nb",
    "bytes.json",
    "deep.json",
    "nan.json",
    "huge.json",
    "long.json",
]
GRIDS = {
    "grid.json": json.dumps(
        [{"p": 5, "d_model": 16, "rule": ["l2", "lrd"], "seed": [0, 1]}]
    ),
    "bytes.json": b"\xff\xfe[",
    "deep.json": "[" * 100_000,
    "nan.json": '[{"lr": NaN}]',
    "huge.json": f'[{{"steps": {10**400}}}]',
    "long.json": json.dumps(
        [{"seed": [*range(1000)], "fraction": [0.5] * 1000, "p": [5] * 99}]
    ),
}


OPTIONS = {name for options in GOOD.values() for name in options}


def command_lines(seed, count):
    """Command lines as lists, each with up to three bad values among good ones."""
    draw = random.Random(seed)
    for _ in range(count):
        command = draw.choice(
            ["mechanism", "mechanism", "phase-diagram", "phase-diagram", "claims"]
        )
        options = GOOD[command]
        names = draw.sample(sorted(options), draw.randint(0, len(options)))
        bad = draw.sample(sorted(options), draw.choice([0, 0, 1, 1, 2]))
        line = [*SMALL] if command == "mechanism" else [command]
        line += ["--dry-run", "--grid", "grid.json"] if command == "phase-diagram" else []
        for name in names:
            line += [name, *draw.choice(options[name]).split()]
        for name in bad:
            line += [name, *draw.choices(BAD, k=draw.choice([1, 1, 1, 0, 2]))]
        if draw.random() < 0.05:
            line.insert(draw.randrange(len(line)), draw.choice(BAD))
        yield line


@pytest.mark.parametrize("seed", range(4))
def test_no_line_ends_in_a_traceback(tmp_path, capsys, monkeypatch, judged, seed):
    """250 lines each: the code is 0, 2 or 130, and an error is one line on stderr, or
    argparse's usage and its line."""

    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Training, "update", interrupt)
    monkeypatch.setattr(phase_diagram, "seconds", lambda *_, **__: 1.0)
    (tmp_path / "folder").mkdir()
    for name, text in GRIDS.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    codes = []
    for line in command_lines(seed, 250):
        try:
            codes.append(main(line))
            usage = False
        except SystemExit as stop:
            codes.append(stop.code)
            usage = True
        error = capsys.readouterr().err
        if codes[-1] == 2:
            last = error.rstrip("\n").splitlines()[-1] if usage else error
            assert last.count("\n") == (0 if usage else 1), (line, error)
            assert usage or last.startswith("lrdlib: "), (line, error)
            words = set(re.findall(r"[a-z]\w*", last.replace("-", "_").replace("__", " ")))
            named = words & {name[2:].replace("-", "_") for name in OPTIONS}
            assert usage or named or HUGE in line, (line, error)
        else:
            assert codes[-1] in (0, 130), (line, error)
    counts = {code: codes.count(code) for code in (0, 2, 130)}
    assert counts[0] > 10 and counts[2] > 100 and counts[130] > 1


# --- terminals and signals


def terminal(monkeypatch, encoding):
    """stdout and stderr of a terminal with this encoding, which takes no other letter."""
    streams = [
        io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2)
    ]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    return lambda: [s.buffer.getvalue().decode(encoding) for s in streams if not s.flush()]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_without_greek_gets_words(tmp_path, monkeypatch, encoding):
    said = terminal(monkeypatch, encoding)
    assert main([*SMALL, "--out", str(tmp_path)]) == 0
    out, err = said()
    assert ("LRD λ=0.01" if encoding == "utf-8" else "LRD lambda=0.01") in out
    assert "test" in err and "\\u" not in out + err
    assert encoding == "utf-8" or "█" not in err
    assert sys.stdout.errors == "strict"  # as it was


def test_every_letter_has_words():
    assert (
        "λ ≤ 10², σᵢ → é".encode("ascii", common.IN_WORDS) == b"lambda <= 10^2, sigmai -> e"
    )
    assert "中\udcff".encode("ascii", common.IN_WORDS) == b"\\u4e2d\\udcff"
    assert "λ×".encode("cp1252", common.IN_WORDS) == b"lambda\xd7"
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("utf-8", common.IN_WORDS)


@pytest.mark.parametrize("arguments", ["claims --runs .", "phase-diagram --help"])
def test_a_reader_that_leaves_ends_it_quietly(tmp_path, arguments):
    """As `... | head -1`: the pipe has no reader when the command writes."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "lrdlib", *arguments.split()]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    kind = {"cwd": tmp_path, "env": environment, "stderr": subprocess.PIPE}
    done = subprocess.run(command, stdout=writer, **kind)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_an_output_that_is_full_is_one_line(tmp_path):
    command = [sys.executable, "-m", "lrdlib", "claims", "--runs", "."]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == b"lrdlib: [Errno 28] No space left on device\n"


def test_sigterm_is_143_and_the_same_command_goes_on(tmp_path, capsys, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "update", lambda self: signal.raise_signal(signal.SIGTERM))
        assert main([*SMALL, "--out", str(tmp_path)]) == 143
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(
            f"lrdlib: terminated; the same command goes on from what is in {tmp_path}"
        )
    )
    assert signal.getsignal(signal.SIGTERM) == before
    assert main([*SMALL, "--out", str(tmp_path)]) == 0


def test_ctrl_c_in_the_claims_promises_nothing(tmp_path, capsys, monkeypatch, judged):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(claims, "table", interrupt)
    assert main(["claims", "--runs", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "lrdlib: stopped\n"


# --- the matmul


def relative_error() -> float:
    A, B = (
        torch.randn(300, 300, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 2)
    )
    exact = A.double() @ B.double()
    return float((A @ B - exact).abs().max() / exact.abs().max())


def flushed() -> bool:
    """Whether this thread takes 2^-140 for zero."""
    return float(torch.tensor(2.0**-140) * 1.0) == 0


def test_denormals_are_flushed_within_alone():
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush denormals")
    for before in (True, False):
        torch.set_flush_denormal(before)
        with pytest.raises(KeyError), backend.denormals_flushed():
            assert flushed()
            raise KeyError
        assert flushed() == before


def test_a_training_flushes_denormals_and_leaves_them_to_others(monkeypatch):
    seen, update = [], Training.update

    def noted(self):
        seen.append(flushed())
        update(self)

    monkeypatch.setattr(Training, "update", noted)
    config = TrainConfig(p=11, d_model=16, heads=2, batch_size=16, steps=2, eval_every=2)
    for _ in Training([config]):
        assert not flushed()
    assert seen == [torch.set_flush_denormal(False)] * 2


def test_onednn_is_taken_only_if_it_is_float32(monkeypatch):
    assert backend.use_onednn() == backend.onednn_in_use()
    # another product than the one it checked
    assert relative_error() <= 2 * backend.PRECISION


def test_onednn_is_given_back_if_it_is_not_exact(monkeypatch):
    before = torch.backends.mkldnn.matmul.fp32_precision
    monkeypatch.setattr(backend, "PRECISION", -1.0)  # nothing is exact enough
    assert not backend.use_onednn() and not backend.onednn_in_use()
    assert torch.backends.mkldnn.matmul.fp32_precision == before
