"""The book's first picture: its numbers are those of the runs, and every control moves it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrdlib import TrainConfig
from lrdlib.figures.opening import BARS, opening, opening_data
from lrdlib.training.config import plain
from lrdlib.training.runs import Run

STATIC = Path(opening.__code__.co_filename).parent / "static"
STEPS = np.array([0, 100, 200])


def run_of(rule="lrd", strength=10.0, *, steps=STEPS, **fields):
    config = TrainConfig(rule=rule, weight_decay=strength, mode="decoupled", **fields)
    rise = np.arange(len(steps)) / (len(steps) - 1)
    S = np.linspace(4, 1, 64)[None] ** (1 + rise[:, None])  # (T, k), steeper by the step
    history = {
        "step": steps,
        "train_accuracy": np.minimum(1, 2 * rise),
        "orbit_clean_accuracy": rise * min(1.0, strength / 10),
        "qk_stable_rank": 8 - 4 * rise,
    }
    return Run(plain(config), history, {"0.query": S.astype(np.float32)}, {}, {})


RUNS = [
    run_of("l2", 30.0),
    *(run_of("lrd", s) for s in (30.0, 3.0, 10.0)),
    run_of("l2", 3.0),
]


def diverged():
    run = run_of("l2", 30.0)
    return replace(run, spectra={"0.query": run.spectra["0.query"] * np.float32("nan")})


def made(**options):
    options = {"rule": "LRD", "start": 0.01, "alt": "It moves <so>."} | options
    return opening(RUNS, **options)


def test_the_numbers_are_those_of_the_runs():
    data = opening_data(RUNS)
    assert data["steps"] == [0, 100, 200]
    strengths = {e["name"]: [run["strength"] for run in e["runs"]] for e in data["rules"]}
    assert strengths == {"L2": [0.003, 0.03], "LRD": [0.003, 0.01, 0.03]}
    weak = data["rules"][1]["runs"][0]
    assert (weak["seen"], weak["unseen"]) == ([0, 1000, 1000], [0, 150, 300])
    assert weak["rank"] == [80, 60, 40]
    S = RUNS[2].spectra["0.query"]
    for row, values in zip(weak["bars"], S, strict=True):
        assert len(row) == BARS and row[0] == 1000
        assert row[-1] == round(1000 * values[-1] / values[0])
        assert row == sorted(row, reverse=True)


def test_the_element_says_what_it_shows_and_holds_the_start():
    html = made()
    assert 'aria-label="It moves &lt;so&gt;."' in html and "<svg" in html
    data = json.loads(re.search(r"<script[^>]*>(.*)</script>", html)[1])
    assert data["rules"][data["rule"]]["runs"][data["at"]]["strength"] == 0.01


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: opening_data([]), ValueError, "runs must hold at least one run, got none"),
        (lambda: opening_data(None), TypeError, "runs must be a list of Runs, got None"),
        (lambda: opening_data([*RUNS, 3]), TypeError, "runs must be a list of Runs"),
        (lambda: opening_data([*RUNS, run_of(seed=1)]), ValueError, "only, got seed"),
        (
            lambda: opening_data([*RUNS, run_of(steps=STEPS[:2])]),
            ValueError,
            "only, got the steps of its records",
        ),
        (
            lambda: opening_data(RUNS, matrix="1.key"),
            ValueError,
            "runs must hold the spectrum of '1.key'",
        ),
        (
            lambda: opening_data([*RUNS, diverged()]),
            ValueError,
            "finite, got L2 λ=30, which",
        ),
        (lambda: made(rule="elastic"), ValueError, "rule must be one of 'L2', 'LRD'"),
        (lambda: made(start=0.5), ValueError, "start must be one of 0.003, 0.01, 0.03"),
    ],
)
def test_bad_input_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.fixture
def page(tmp_path):
    css, script = (STATIC / name for name in ("figures.css", "opening.js"))
    (tmp_path / "page.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Opening</title>'
        '<link rel="icon" href="data:,">'
        f"<style>{css.read_text(encoding='utf-8')}</style>{made()}"
        f"<script>{script.read_text(encoding='utf-8')}</script></html>",
        encoding="utf-8",
    )
    return tmp_path


def test_every_control_moves_it(chromium, page):
    from browser import PHONE, serve, visit

    with serve(page) as site, visit(chromium, f"{site}/page.html") as seen:
        said = seen.page.locator(".said")
        bars = seen.page.locator(".bars")
        # with reduced motion, which `visit` asks for, it stands at its end
        assert said.inner_text() == (
            "Step 200: 100% of trained and 100% of unseen pairs right; mean stable "
            "rank 4.0."
        )
        strength = seen.page.get_by_role("slider", name="λ")
        assert strength.get_attribute("aria-valuetext") == "0.01 a step"
        strength.press("ArrowLeft")
        assert "30% of unseen" in said.inner_text()
        step, before = seen.page.get_by_role("slider", name="step"), bars.get_attribute("d")
        step.press("ArrowLeft")
        assert "Step 100: 100% of trained and 15% of unseen" in said.inner_text()
        assert bars.get_attribute("d") != before
        seen.page.get_by_role("button", name="L2").click()
        strength.press("End")
        assert strength.get_attribute("aria-valuetext") == "0.03 a step"
        accuracy = seen.page.locator("svg").nth(1)
        box = accuracy.bounding_box()
        seen.page.mouse.click(box["x"] + box["width"] * 0.1, box["y"] + box["height"] / 2)
        assert said.inner_text().startswith("Step 1:") or "Step 0:" in said.inner_text()
        seen.page.get_by_role("button", name="play").click()
        seen.page.wait_for_function(
            "document.querySelector('.said').textContent.startsWith('Step 200:')"
        )
        seen.page.get_by_role("button", name="play").wait_for()
        seen.page.set_viewport_size(PHONE)
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert seen.errors == []


def test_a_finger_on_the_curves_scrolls_up_and_moves_the_step_sideways(chromium, page):
    from browser import serve, under_a_finger

    file = page / "page.html"
    tall = '<meta name="viewport" content="width=device-width"><style>body{height:200rem}'
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("<style>", f"{tall}</style><style>", 1), encoding="utf-8")
    with serve(page) as site, under_a_finger(chromium, f"{site}/page.html") as seen:
        opened, swipe_up = seen
        said = opened.locator(".said")
        opened.wait_for_function(  # it has played
            "document.querySelector('.said').textContent.startsWith('Step 200:')"
        )
        accuracy = opened.locator("svg").nth(1)

        def middle():
            box = accuracy.bounding_box()
            return box["x"] + box["width"] / 4, box["y"] + box["height"] / 2

        assert swipe_up(*middle()) > 0
        assert said.inner_text().startswith("Step 200:")
        swipe_up(*middle(), across=True)
        moved = said.inner_text()
        assert not moved.startswith("Step 200:")
        opened.touchscreen.tap(*middle())
        opened.wait_for_function(
            "(before) => document.querySelector('.said').textContent !== before", arg=moved
        )


def test_it_plays_once_by_itself_where_motion_is_welcome(chromium, page):
    from browser import serve
    from waiting import PATIENCE_MS

    context = chromium.new_context(reduced_motion="no-preference")
    context.set_default_timeout(PATIENCE_MS)
    try:
        with serve(page) as site:
            opened = context.new_page()
            opened.goto(f"{site}/page.html")
            opened.wait_for_function(
                "document.querySelector('.said').textContent.startsWith('Step 200:')"
            )
            opened.get_by_role("button", name="play").wait_for()  # and stands still
    finally:
        context.close()
