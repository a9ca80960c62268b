"""Recorded runs as pieces of data: the codec against its promise, the index against the
runs, and the sizes."""

import gzip
import importlib
import json
import re
import sys
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_lab_page import made_run, made_runs

from lrdlib.evidence.phase import outcome
from lrdlib.figures.phase import DIGITS
from lrdlib.lab import data, digits, script
from lrdlib.lab.address import of_training
from lrdlib.lab.shows import IN_LAB, WHOLE, View, _l2, _lrd, _recorded
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import Run, save_run

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "book" / "runs"
sys.path.insert(0, str(ROOT / "book"))
colab = importlib.import_module("colab")

NUMBERS = arrays(
    np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6) | st.just(np.nan)
)
POSITIVE = arrays(
    np.float64,
    st.integers(1, 40),
    elements=st.floats(1e-12, 1e6) | st.sampled_from([0.0, np.nan]),
)


# ---- the codec


@given(NUMBERS)
def test_a_number_comes_back_to_half_a_step(values):
    code = digits.encode(values)
    back = oracles.decode_digits(json.loads(json.dumps(code)))
    known = np.isfinite(values)
    assert (np.isfinite(back) == known).all()
    step = (code["high"] - code["low"]) / 4095
    ends = 1e-6 * np.abs(values[known]).max(initial=0)  # low and high keep seven digits
    assert (np.abs(back - values)[known] <= 0.5 * step * (1 + 1e-6) + ends).all()


@given(POSITIVE)
def test_a_logarithm_comes_back_to_half_a_step(values):
    code = digits.encode(values, log=True)
    back = oracles.decode_digits(code)
    known = np.isfinite(values)
    assert (np.isfinite(back) == known).all()
    floor = values[known].max(initial=0) * 1e-9 or 1.0
    wanted = np.log10(np.maximum(values[known], floor))
    step = (code["high"] - code["low"]) / 4095
    assert (
        np.abs(np.log10(back[known]) - wanted) <= 0.5 * step * (1 + 1e-6) + 1e-5
    ).all()  # seven digits, below 12
    assert code["high"] - code["low"] <= 9.001


def test_one_value_and_none_have_codes():
    assert oracles.decode_digits(digits.encode(np.full(3, 0.7))) == pytest.approx(
        0.7, rel=1e-6
    )
    assert np.isnan(oracles.decode_digits(digits.encode(np.full(2, np.nan)))).all()


def test_the_page_reads_the_same_digits():
    page = (script.STATIC / "digits.js").read_text(encoding="utf-8")
    assert re.search(r'const DIGITS = "(.*)";', page)[1] == digits.DIGITS == DIGITS


# ---- the index


def table(index) -> dict[str, dict]:
    rows = [dict(zip(index["columns"], run, strict=True)) for run in index["runs"]]
    return {row["piece"]: row for row in rows}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Run]:
    return data.read_runs(RUNS)


@pytest.fixture(scope="module")
def rows(recorded) -> list[dict]:
    """The lines of the index of all recorded runs."""
    return list(table(data.index(recorded)).values())


def test_the_index_lists_every_run_and_what_became_of_it(recorded):
    rows = table(data.index(recorded))
    assert (
        len(rows)
        == len({data.place(run.config) for run in recorded.values()})
        >= 0.95 * len(recorded)
    )
    for name, row in rows.items():
        run, c = recorded[name], recorded[name].config
        assert [row["rule"], row["strength"], row["fraction"]] == [
            c["rule"],
            c["weight_decay"],
            c["fraction"],
        ]
        assert [row["seed"], row["lr"], row["steps"]] == [c["seed"], c["lr"], c["steps"]]
        found = outcome(run, "orbit_clean_accuracy")
        assert row["first"] == found.step == run.first_step("orbit_clean_accuracy")
        assert row["best"] == pytest.approx(
            np.nanmax(run.history["orbit_clean_accuracy"]), rel=1e-3
        )
        assert row["full"] == int(bool(run.weights)) and not row["diverged"]


def test_a_diverged_run_is_marked_and_has_no_last_value():
    run = made_run(TrainConfig(eval_every=100))
    run.history["train_loss"][-1] = np.nan
    (row,) = table(data.index({"a-seed0": run})).values()
    assert row["diverged"] == 1 and row["first"] is None and row["final"] is None


def test_runs_that_differ_only_in_what_means_nothing_are_listed_once():
    config = TrainConfig(rule="l2", mode="independent", eval_every=100)
    other = TrainConfig(rule="l2", mode="decoupled", eval_every=100)
    rows = table(data.index({"a-seed0": made_run(config), "b-seed0": made_run(other)}))
    assert list(rows) == ["a-seed0"]


def test_other_settings_are_tasks_of_their_own():
    made = data.setting(plain(TrainConfig(p=113, qk_norm="width", betas=(0.9, 0.999))))
    assert made[0] == "add113,betas:0.9+0.999,qk_norm:width" and "modulo 113" in made[1]
    assert data.setting(plain(TrainConfig(steps=100, eval_every=10, lr=0.1)))[0] == "add97"


# ---- pieces


def test_a_piece_holds_its_run(recorded):
    name = next(name for name, run in recorded.items() if run.weights)
    run, made = recorded[name], data.piece(recorded[name])
    assert (
        made["steps"] == run.history["step"].tolist()
        and made["bands"] is None
        and made["pattern"]
    )
    for metric, code in made["curves"].items():
        values = run.history[metric]
        assert oracles.decode_digits(code) == pytest.approx(
            values, abs=float(np.ptp(values)) / 8000
        )
    spectrum = made["spectra"]["1.key"]
    back = oracles.decode_digits(spectrum).reshape(-1, spectrum["size"])
    assert (
        np.abs(np.log(back / np.maximum(run.spectra["1.key"], back.min()))).max() < 0.003
    )  # 9 decades in 4096 steps
    Q, K = run.weights["0.query"], run.weights["0.key"]
    (pattern,) = data.pattern(run)["values"]
    assert oracles.decode_digits(pattern).reshape(128, 128) == pytest.approx(
        Q.T @ K, abs=float(np.abs(Q.T @ K).max()) / 2000
    )


def test_seeds_of_a_cell_make_bands():
    runs = [made_run(TrainConfig(seed=seed, eval_every=100)) for seed in (0, 1, 2)]
    made = data.piece(runs[0], runs)["bands"]
    low, high = (
        oracles.decode_digits(made[end]["test_accuracy"]) for end in ("low", "high")
    )
    values = np.stack([run.history["test_accuracy"] for run in runs])
    assert low == pytest.approx(values.min(0), abs=1e-3) and high == pytest.approx(
        values.max(0), abs=1e-3
    )
    assert made["seeds"] == 3 and made["steps"] == runs[0].history["step"].tolist()
    finer = made_run(TrainConfig(seed=3, eval_every=50))
    assert data.bands([finer, *runs]) | {"seeds": 3} == data.bands([*runs, finer]) | {
        "seeds": 3
    }
    assert (
        data.bands([finer, *runs])["steps"] == made["steps"]
    )  # those that all have recorded


def test_only_seeds_of_the_same_cell_make_a_band():
    made = data.pieces(made_runs())
    assert made["lrd-0.01-f0.4-seed0"]["bands"]["seeds"] == 2
    finer = made["full-seed0"][
        "bands"
    ]  # of a cell is a run however finely it was recorded, and of each seed one
    assert finer["seeds"] == 2 and finer["steps"] == made["lrd-0.01-f0.4-seed0"]["steps"]
    assert (
        made["l2-3-f0.4-seed0"]["bands"] is not None
        and data.piece(made_runs()["full-seed0"])["bands"] is None
    )
    assert "full-seed0.pattern" in made and "lrd-0.01-f0.4-seed0.pattern" not in made


def test_what_the_page_loads_is_small(recorded):
    made = data.pieces(recorded)
    sizes = {
        name: len(gzip.compress(data.script(name, piece).encode(), 6))
        for name, piece in made.items()
    }
    index = sizes.pop("index")
    print(
        f"index {index / 1e3:.1f} kB; pieces up to {max(sizes.values()) / 1e3:.1f} kB, "
        "compressed"
    )
    assert index < 100_000 and max(sizes.values()) < 40_000


def test_files_are_scripts_and_old_ones_go(tmp_path):
    for i in range(2):
        save_run(
            made_run(TrainConfig(seed=i, eval_every=500)),
            tmp_path / "runs" / f"a-seed{i}.npz",
        )
    data.main([str(tmp_path / "lab"), str(tmp_path / "runs")])
    (tmp_path / "runs" / "a-seed1.npz").unlink()
    data.main([str(tmp_path / "lab"), str(tmp_path / "runs")])
    files = sorted((tmp_path / "lab" / "data").iterdir())
    assert [file.name for file in files] == ["a-seed0.js", "index.js"]
    text = files[0].read_text(encoding="utf-8")
    assert text.startswith('lrdLab.piece("a-seed0",{') and json.loads(
        text[len('lrdLab.piece("a-seed0",') : -3]
    )


def test_a_folder_without_runs_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="must hold recorded runs"):
        data.read_runs(tmp_path)
    for path in (tmp_path / "a-seed0.npz", tmp_path / "sweep" / "a-seed0.npz"):
        save_run(made_run(TrainConfig(eval_every=500)), path)
    with pytest.raises(ValueError, match="names of their own"):
        data.read_runs(tmp_path)


# ---- words in the book that move the lab


LINK = re.compile(r'<a class=\\?"lrd-go\\?" href=\\?"#lab:([^"\\]+)')
FIELDS = {
    "task": "setting",
    "rule": "rule",
    "mode": "variant",
    "lr": "lr",
    "lambda": "strength",
    "f": "fraction",
}
# What the lab shows of an exercise, by its label: it ends with the view's words as a link.
EXERCISES = {
    "grok-ex-delay": _recorded(
        "L2 at λ = 3 beside LRD at λ = 0.01, 40% of the pairs",
        3000,
        _l2(3.0, 0.4, **WHOLE),
        _lrd(0.01, 0.4, **WHOLE),
    ),
    "grok-ex-sub": View(
        "a small network that subtracts, without decay",
        of_training("sub", rule="none", weight_decay=0.0, l2=0.0),
    ),
    "fourier-ex-subtract": View(
        "a small network that subtracts, under both decays", of_training("sub")
    ),
    "ex-first-lambda": View(
        "a network of nearly this size under LRD at λ = 0.05",
        of_training("small", weight_decay=0.05),
    ),
    "ex-first-fraction": View(
        "weak L2 on a network of nearly this size, 30% of the pairs",
        of_training("small", rule="l2", weight_decay=0.1, fraction=0.3),
    ),
    "ex-phase-effective": _recorded(
        "LRD at λ = 0.05 in the one mode beside the other, 80% of the pairs",
        3000,
        _lrd(0.05, 0.8, mode="decoupled"),
        _lrd(0.05, 0.8),
    ),
    "ex-phase-turn": _recorded(
        "L2 at λ = 0.05 beside λ = 10, 40% of the pairs",
        1000,
        _l2(0.05, 0.4),
        _l2(10.0, 0.4),
    ),
    "ex-rank-clock": _recorded(
        "LRD at λ = 0.005 beside λ = 0.01, 40% of the pairs",
        300,
        _lrd(0.005, 0.4),
        _lrd(0.01, 0.4),
    ),
    "ex-rank-stop": View(
        "a small network under LRD until step 600, and without from then on",
        of_training("small", then=[(600, "weight_decay", 0.0)]),
    ),
    "after-ex-death": View(
        "a small network that memorises, and from step 500 on LRD without gradient",
        IN_LAB["without-gradient"].address,
    ),
    "radial-ex-split": View(
        "a small network under the tangential part alone",
        IN_LAB["mechanism"].address,
    ),
}
LINKS = [
    (path.stem, unescape(address))
    for path in sorted((ROOT / "book").glob("*.ipynb"))
    for address in LINK.findall(path.read_text(encoding="utf-8"))
]
LINKS += [
    (f"card {name}", view.address.removeprefix("lab.html#lab:"))
    for name, view in {**IN_LAB, **EXERCISES}.items()
    if "#lab:" in view.address
]


def asked(address: str) -> list[dict[str, str]]:
    """What a link says of its first run and, if it names one, of its second."""
    entries = parse_qsl(address)
    first = {name: value for name, value in entries if not name.startswith("vs.")}
    second = {
        name.removeprefix("vs."): value for name, value in entries if name.startswith("vs.")
    }
    return [first, second] if second else [first]


def agrees(value: object, text: str) -> bool:
    return str(value) == text or (isinstance(value, float) and value == float(text))


def test_the_book_has_words_that_move_the_lab():
    assert len([page for page, _ in LINKS if page == "lab"]) >= 10


@pytest.mark.parametrize(("page", "address"), LINKS)
def test_words_that_move_the_lab_lead_to_a_recorded_run_and_step(page, address, rows):
    for wish in asked(address):
        assert set(wish) <= {*FIELDS, "seed", "step", "matrix"}
        fields = {FIELDS[name]: text for name, text in wish.items() if name in FIELDS}
        found = [
            row
            for row in rows
            if all(agrees(row[name], text) for name, text in fields.items())
            and wish.get("seed") in (None, f"{row['seed']}/{row['every']}")
        ]
        assert found, f"no recorded run has {fields}"
        step = int(wish.get("step", 0))
        assert any(step % row["every"] == 0 and step <= row["steps"] for row in found)


def exercises() -> dict[str, str]:
    """The text of every exercise of the book, by its label."""
    found = {}
    for path in (ROOT / "book").glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            for part in re.split(r"\{exercise(?:-start)?\}", source)[1:]:
                label = re.search(r":label: (\S+)", part)[1]
                found[label] = re.split(r"\{exercise-end\}|\{solution", part)[0]
    return found


def test_an_exercise_that_the_lab_serves_leads_there_and_no_other_does():
    texts = exercises()
    assert EXERCISES.keys() <= texts.keys() and len(EXERCISES) > 10
    for label, text in texts.items():
        links = re.findall(r'href="(lab\.html[^"]*)">([^<]*)</a>', text)
        view = EXERCISES.get(label)
        assert [(unescape(href), words) for href, words in links] == (
            [(view.address, view.words)] if view else []
        ), label


def test_the_copy_for_colab_says_where_the_lab_is_and_links_to_the_views():
    book = colab.Book(repository="https://github.com/me/mine", pages={"lab": ["# The lab"]})
    copy = colab.Copy(book, "lab")
    said = copy.cell('<div class="lrd-lab" data-lab="recorded"><p>None.</p></div>')
    assert said.startswith(
        "> The lab of recorded runs is on the site: [The "
        "lab](https://me.github.io/mine/lab.html)."
    )
    said = copy.cell('See <a class="lrd-go" href="#lab:rule=l2&amp;step=5">*there*</a>.')
    assert said == "See [*there*](https://me.github.io/mine/lab.html#lab:rule=l2&step=5)."
    book.pages["intro"] = ["# Other"]
    said = colab.Copy(book, "intro").cell(
        'In the lab: <a class="lrd-go" href="lab.html#train:preset=sub&amp;seed=1">so</a>.'
    )
    assert (
        said
        == "In the lab: [so](https://me.github.io/mine/lab.html#train:preset=sub&seed=1)."
    )
    for wrong in (
        '<div class="lrd-lab" data-lab="none"></div>',
        'A <a href="#lab:rule=l2">link</a>.',
        "End</a>.",
    ):
        with pytest.raises(colab.Unknown):
            copy.cell(wrong)


# ---- scripts


def test_every_fragment_is_in_a_script():
    used = {name for names in script.SCRIPTS.values() for name in names} | set(
        script.STYLES
    )
    assert {path.name for path in script.STATIC.iterdir()} <= used


def test_fragments_are_no_modules():
    for path in script.STATIC.glob("*.js"):
        assert not re.search(
            r"^\s*(import|export)\b", path.read_text(encoding="utf-8"), re.MULTILINE
        ), path.name


def test_a_script_ends_with_what_starts_it():
    assert script.source("page").endswith("boot();\n})();\n") and script.source(
        "worker"
    ).endswith("})();\n")
    assert script.source("widget").endswith("export default { render };\n")
