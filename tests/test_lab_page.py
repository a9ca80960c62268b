"""The recorded lab in Chromium, on a page of its own that is made here. The network is
shut, each control driven."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api")

from browser import CONTRAST, PHONE, ROOT, serve, under_a_finger, visit
from waiting import PATIENCE_MS

from lrdlib.lab import data, script
from lrdlib.lab.address import of_recorded
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import Run

PAGE = """<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>The lab</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="_static/custom.css">
<style>:root {{ --pst-color-background: #fff; --pst-color-surface: #fff; }}
:root[data-theme=dark] {{ --pst-color-background: #121212; --pst-color-surface: #1d2127; }}
body {{ background: var(--pst-color-background); color: var(--lrd-figure-ink);
  font: 1rem/1.5 system-ui; margin: 0 auto; max-width: 46rem; padding: 1rem; }}</style>
<link rel="stylesheet" href="_static/figures.css">
<script src="_static/lab-boot.js"></script></head><body>
<p><a class="lrd-go" href="#lab:rule=lrd&amp;lambda=0.01&amp;f=0.4&amp;step=700">at step
  700</a> <a class="lrd-go"
  href="#lab:rule=lrd&amp;vs.rule=l2&amp;vs.lambda=1&amp;vs.f=0.3&amp;step=300">both</a></p>
<div class="lrd-lab" data-lab="recorded"></div></body></html>"""
READY = "document.querySelector('.lrd-lab').dataset.state === 'ready'"


def made_run(config: TrainConfig, *, matrices: bool = False, k: int = 128) -> Run:
    """A run of plausible shape without any training: curves that rise, spectra that fall, a
    Fourier peak."""
    rng = np.random.default_rng(
        [config.seed, int(1e4 * config.weight_decay), int(100 * config.fraction)]
    )
    steps = np.arange(0, config.steps + 1, config.eval_every)
    t = steps / config.steps
    rise = 1 / (1 + np.exp(-12 * (t - 0.5 + config.weight_decay)))
    history = {
        "step": steps,
        "train_loss": 1 - t,
        "qk_stable_rank": 30 * np.exp(-3 * t) + 3,
    }
    history |= {
        "qk_effective_rank": 90 * np.exp(-t) + 10,
        "train_accuracy": np.minimum(1, 3 * t),
    }
    history |= {
        "test_accuracy": 0.9 * rise + 0.05 * rng.random(len(t)),
        "orbit_clean_accuracy": rise,
    }
    fall = np.exp(
        -np.outer(
            0.02 + 0.1 * t * (1 + config.weight_decay + config.fraction + config.seed),
            np.arange(k),
        )
    )
    names = [f"{layer}.{role}" for layer in (0, 1) for role in ("query", "key")]
    power = rng.random((len(t), 48)) + 20 * t[:, None] * (np.arange(48) == 7)
    weights = (
        {name: rng.normal(size=(k, k)).astype(np.float32) for name in names}
        if matrices
        else {}
    )
    fourier = {"embedding": power / power.sum(1, keepdims=True)}
    return Run(
        plain(config),
        history,
        {name: fall * (1 + i) for i, name in enumerate(names)},
        weights,
        {},
        fourier,
    )


def made_runs() -> dict[str, Run]:
    """Two rules, two strengths, two fractions, two seeds; one cell is missing, one run
    holds its matrices."""
    found = {}
    for rule, strengths in {"lrd": (0.005, 0.01), "l2": (1.0, 3.0)}.items():
        for strength in strengths:
            for fraction in (0.3, 0.4):
                for seed in (0, 1):
                    config = TrainConfig(
                        rule=rule,
                        weight_decay=strength,
                        fraction=fraction,
                        seed=seed,
                        eval_every=100,
                    )
                    if (rule, strength, fraction) != ("l2", 3.0, 0.3):
                        found[f"{rule}-{strength:g}-f{fraction}-seed{seed}"] = made_run(
                            config
                        )
    found["full-seed0"] = made_run(TrainConfig(eval_every=50), matrices=True)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the page, what it loads from the book, and the lab."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "lrdlib/figures/static", folder / "_static")
    shutil.copy(ROOT / "book/_static/custom.css", folder / "_static")
    script.write(folder / "lab")
    data.write(folder / "lab/data", made_runs())
    for theme in ("light", "dark"):
        (folder / f"{theme}.html").write_text(PAGE.format(theme=theme), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def site(folder) -> Iterator[str]:
    with serve(folder) as address:
        yield address


def opened(seen):
    seen.page.wait_for_function(READY)
    return seen.page


WAYS = {"light": ("light", None), "dark": ("dark", None), "phone": ("light", PHONE)}


@pytest.fixture(scope="module", params=WAYS)
def visited(request, chromium, site):
    theme, viewport = WAYS[request.param]
    with visit(chromium, f"{site}/{theme}.html", theme=theme, viewport=viewport) as seen:
        opened(seen)
        yield seen


@pytest.fixture
def lab(visited):
    """One page for many tests, sent back to what it opens with; at the end nothing may have
    gone wrong."""
    page, before = visited.page, len(visited.errors)
    page.evaluate("location.hash = `#lab:step=3000&again=${performance.now()}`")
    page.wait_for_function(
        "document.querySelector('.lab-source').textContent.includes('LRD λ = 0.01 (')"
    )
    settled(page)
    yield page
    assert visited.errors[before:] == []


def shown(page) -> dict[str, str]:
    """What every panel draws and says."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(".lab-panel")].map((panel) =>
        [panel.dataset.panel, panel.querySelector(".lab-pair").outerHTML]))"""
    )


def source(page) -> str:
    return page.locator(".lab-source").inner_text()


def settled(page) -> None:
    """Everything loaded and drawn."""
    page.wait_for_function(
        "document.querySelector('.lab-plots')?.getAttribute('aria-busy') === 'false'"
    )


def in_view(page) -> bool:
    """Whether the first panel begins in the upper half of the screen, and the slider is on
    it: above the panels, or on a phone at the bottom."""
    height = page.viewport_size["height"]
    panel, bar = (
        page.locator(part).first.bounding_box() for part in (".lab-panel", ".lab-transport")
    )
    return 0 <= panel["y"] < height / 2 and 0 <= bar["y"] <= height - bar["height"]


# ---- what it shows


def test_it_opens_on_a_run_with_every_panel_drawn_and_in_words(lab):
    settled(lab)
    assert source(lab).startswith(
        "Recorded: LRD λ = 0.01 (a + b modulo 97, 40% of the pairs"
    )
    assert lab.locator(".lab-plot svg").count() >= 5
    labels = [plot.get_attribute("aria-label") for plot in lab.locator(".lab-plot").all()]
    assert len(labels) == 5 and all(len(label) > 40 for label in labels)
    assert "step 3000" in labels[0]


@pytest.mark.parametrize(("theme", "viewport"), [("light", None), ("dark", PHONE)])
def test_it_fits_and_is_legible_in_every_way_of_reading(chromium, site, theme, viewport):
    with visit(chromium, f"{site}/{theme}.html", theme=theme, viewport=viewport) as seen:
        page = opened(seen)
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert min(page.evaluate(CONTRASTS)) >= 4.5  # WCAG 2.1 for text
        page.get_by_role("button", name="compare two runs").click()
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert seen.errors == []


# contrast of the letters of charts and cells; cells are mixed over the page's background
CONTRASTS = f"""() => {{{CONTRAST}
    const canvas = document.createElement("canvas")
        .getContext("2d", {{willReadFrequently: true}});
    const page = getComputedStyle(document.body).backgroundColor;
    const painted = (...colours) => {{
        for (const colour of [page, ...colours]) {{
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
        }}
        return luminance([...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3));
    }};
    const letters = [...document.querySelectorAll(".lab-plot text")]
        .map((text) => contrast(painted(getComputedStyle(text).fill), painted()));
    const cells = [...document.querySelectorAll(".lab-cell:not(.lab-empty)")].map((cell) => {{
        const {{color, backgroundColor}} = getComputedStyle(cell);
        return contrast(painted(color), painted(backgroundColor));
    }});
    return [...letters, ...cells];
}}"""


def test_colours_change_with_the_page(lab):
    settled(lab)
    ink = "getComputedStyle(document.querySelector('.lab-plot text')).fill"
    before, theme = (
        lab.evaluate(ink),
        lab.evaluate("document.documentElement.dataset.theme"),
    )
    lab.evaluate(
        "document.documentElement.dataset.theme = "
        f"'{'light' if theme == 'dark' else 'dark'}'"
    )
    lab.wait_for_function(f"{ink} !== '{before}'")
    lab.evaluate(f"document.documentElement.dataset.theme = '{theme}'")


def test_what_is_not_recorded_is_not_offered(lab):
    rules = lab.locator(".lab-side:visible .lab-rules label:visible")
    assert rules.all_inner_texts() == ["L2", "LRD"]
    assert lab.get_by_role("combobox", name="task").count() == 0  # there is only one
    assert lab.locator(".lab-side:visible").locator(":disabled").count() == 0


def test_what_a_run_lacks_is_said(lab):
    lab.get_by_role("combobox", name="seed").select_option("0/100")  # without matrices
    lab.locator("[data-panel=pattern] .lab-none:visible").wait_for()
    assert (
        "without its matrices" in lab.locator("[data-panel=pattern] .lab-none").inner_text()
    )


def test_seeds_of_a_cell_make_bands(lab):
    lab.get_by_role("combobox", name="seed").select_option("1/100")
    lab.wait_for_function(
        "document.querySelector('.lab-source').textContent.includes('seed 1')"
    )
    settled(lab)
    key = lab.locator("[data-panel=accuracy] .lab-key").inner_text()
    assert "range over 2 seeds" in key and re.search(
        r"test [\d.]+% \([\d.]+% to [\d.]+%\)", key
    )
    assert lab.locator("[data-panel=accuracy] .lab-band").count() == 3


# ---- every control


def test_every_choice_changes_the_panels(lab):
    for change in (
        lambda: lab.get_by_role("slider", name="λ", exact=True).press("Home"),
        lambda: lab.get_by_role("radio", name="L2").check(),
        lambda: lab.get_by_role("slider", name="fraction").press("Home"),
        lambda: lab.get_by_role("combobox", name="seed").select_option("1/100"),
    ):
        settled(lab)
        before, said = shown(lab), source(lab)
        change()
        settled(lab)
        assert source(lab) != said
        after = shown(lab)
        assert all(
            after[panel] != before[panel] for panel in ("accuracy", "spectrum", "fourier")
        )
    assert (
        "L2 λ = 1 (a + b modulo 97, 30% of the pairs, learning rate 0.001, seed 1)"
        in source(lab)
    )
    values = [
        lab.get_by_role("slider", name=n).get_attribute("aria-valuetext")
        for n in ("λ", "training")
    ]
    assert values == ["1", "step 3000"]


def test_a_choice_that_is_not_recorded_takes_the_nearest(lab):
    lab.get_by_role("radio", name="L2").check()
    lab.get_by_role("slider", name="λ", exact=True).press("Home")
    lab.get_by_role("slider", name="fraction").press("Home")
    settled(lab)
    lab.get_by_role("slider", name="λ", exact=True).press("End")  # 3 is not recorded at 30%
    settled(lab)
    assert "L2 λ = 3" in source(lab) and "40% of the pairs" in source(lab)
    assert "nearest" in lab.locator(".lab-say").inner_text()
    only = lab.locator(".lab-side:visible .lab-stops", has_text="fraction")
    assert "40% of the pairs" in only.inner_text() and "only one" in only.inner_text()
    assert not only.locator("input").is_visible()  # there is nowhere to move


def test_the_training_slider_moves_every_panel_by_keyboard(lab):
    settled(lab)
    slider = lab.get_by_role("slider", name="training")
    before = shown(lab)
    slider.press("Home")
    settled(lab)
    after = shown(lab)
    assert all(
        after[panel] != before[panel]
        for panel in ("accuracy", "rank", "spectrum", "fourier")
    )
    assert slider.get_attribute("aria-valuetext") == "step 0"
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "step 50"


def test_play_moves_on_and_pauses(lab):
    lab.get_by_role("slider", name="training").press("Home")
    lab.get_by_role("button", name="play").click()
    lab.wait_for_function("document.querySelector('.lab-transport input').value >= 3")
    lab.get_by_role("button", name="pause").press("Enter")
    at = lab.locator(".lab-transport input").input_value()
    lab.wait_for_timeout(250)
    assert lab.locator(".lab-transport input").input_value() == at
    lab.get_by_role("slider", name="training").press("End")
    lab.get_by_role("button", name="play").click()  # from the end it starts again
    lab.wait_for_function("document.querySelector('.lab-transport input').value < 10")


def test_another_matrix_changes_the_spectrum_alone(lab):
    lab.get_by_role("slider", name="training").press("Home")
    settled(lab)
    before = shown(lab)
    lab.get_by_role("combobox", name="matrix").select_option("1.key")
    settled(lab)
    after = shown(lab)
    assert [panel for panel in after if after[panel] != before[panel]] == ["spectrum"]
    lab.wait_for_function("location.hash.includes('matrix=1.key')")


def test_a_pointer_on_a_curve_moves_to_its_step(lab):
    plot = lab.locator("[data-panel=rank] .lab-plot")
    plot.evaluate("(plot) => plot.scrollIntoView({block: 'center'})")
    box = plot.bounding_box()
    middle = box["x"] + 46 + (box["width"] - 64) / 2  # between the margins of draw.js
    lab.mouse.click(middle, box["y"] + 50)
    assert (
        lab.get_by_role("slider", name="training").get_attribute("aria-valuetext")
        == "step 1500"
    )
    lab.mouse.down()
    lab.mouse.move(box["x"] + 46, box["y"] + 60, steps=3)
    lab.mouse.up()
    assert (
        lab.get_by_role("slider", name="training").get_attribute("aria-valuetext")
        == "step 0"
    )


def test_a_finger_on_a_curve_scrolls_up_and_moves_the_step_sideways(chromium, site):
    with under_a_finger(chromium, f"{site}/light.html#lab:step=0") as (page, swipe_up):
        page.wait_for_function(READY)
        settled(page)
        plot = page.locator("[data-panel=rank] .lab-plot")
        plot.evaluate("(plot) => plot.scrollIntoView({block: 'center'})")
        step = page.locator(".lab-transport input")

        def middle():
            box = plot.bounding_box()
            return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        before = page.evaluate("scrollY")
        assert swipe_up(*middle()) > before
        assert step.get_attribute("aria-valuetext") == "step 0"
        assert swipe_up(*middle(), across=True) == page.evaluate("scrollY")
        moved = int(step.get_attribute("aria-valuetext").removeprefix("step "))
        assert moved > 1500
        page.touchscreen.tap(*middle())
        page.wait_for_function(
            "(text) => document.querySelector('.lab-transport input').ariaValueText !== text",
            arg=f"step {moved}",
        )
        assert 0 < int(step.get_attribute("aria-valuetext").split()[1]) < moved


# ---- the phase diagram


def test_the_diagram_leads_to_a_run_by_click_and_by_keyboard(lab):
    cells = lab.get_by_role("gridcell")
    assert cells.count() == 4
    marked = lab.locator(".lab-here")
    assert marked.get_attribute(
        "aria-selected"
    ) == "true" and "λ = 0.01, 40%" in marked.get_attribute("aria-label")
    lab.get_by_role("gridcell", name=re.compile("λ = 0.005, 30%")).click()
    settled(lab)
    assert "λ = 0.005" in source(lab) and "30% of the pairs" in source(lab)
    lab.keyboard.press("ArrowUp")
    lab.keyboard.press("ArrowRight")
    assert "30% of the pairs" in source(lab)  # moving alone chooses nothing
    lab.keyboard.press("Enter")
    settled(lab)
    assert "λ = 0.01" in source(lab) and "40% of the pairs" in source(lab)
    assert lab.evaluate("document.activeElement.classList.contains('lab-here')")


HELD = """(select) => {
    const key = new KeyboardEvent("keydown", {key: "ArrowLeft", altKey: true, bubbles: true,
        cancelable: true});
    return document.querySelector(select).dispatchEvent(key);
}"""


def test_alt_and_an_arrow_is_the_browsers(lab):
    """It leads back, from the diagram too."""
    focus = (
        "[...document.querySelectorAll('.lab-cell')].findIndex((cell) => !cell.tabIndex)"
    )
    before = lab.evaluate(focus)
    assert lab.evaluate(HELD, ".lab-map") and lab.evaluate(focus) == before
    lab.get_by_role("gridcell").nth(before).press("ArrowLeft")
    assert lab.evaluate(focus) != before


def test_a_contrast_theme_leaves_keys_and_choices(chromium, site):
    with visit(chromium, f"{site}/light.html") as seen:
        page = opened(seen)
        page.get_by_role("button", name="compare two runs").click()
        settled(page)
        page.emulate_media(forced_colors="active")
        colours = page.evaluate(
            """[...document.querySelectorAll("[data-panel=rank] .lab-key i")]
            .map((mark) => getComputedStyle(mark).borderTopColor)"""
        )
        assert len(set(colours)) == 2  # of two rules
        here, other = (
            page.locator(f".lab-cell{kind}").first.evaluate(
                "(cell) => getComputedStyle(cell).outlineStyle"
            )
            for kind in (".lab-here", ":not(.lab-here)")
        )
        assert (here, other) == ("solid", "none")
        pressed, plain = (
            page.get_by_role("button", name=name).evaluate(
                "(button) => getComputedStyle(button).backgroundColor"
            )
            for name in ("compare two runs", "copy a link")
        )
        assert pressed != plain


def test_an_empty_cell_says_so_and_leads_nowhere(lab):
    lab.get_by_role("radio", name="L2").check()
    settled(lab)
    said = source(lab)
    empty = lab.get_by_role("gridcell", name="λ = 3, 30% of the pairs: not recorded")
    assert empty.get_attribute("aria-disabled") == "true"
    empty.click(force=True)
    settled(lab)
    assert source(lab) == said
    assert lab.locator(".lab-say").inner_text() == "λ = 3, 30% of the pairs: not recorded."


def test_colour_can_mean_the_first_step(lab):
    before = lab.get_by_role("gridcell").all_inner_texts()
    lab.get_by_role("combobox", name="cells show").select_option("first")
    after = lab.get_by_role("gridcell").all_inner_texts()
    assert after != before and "first above 95% at step" in lab.locator(
        ".lab-here"
    ).get_attribute("aria-label")


# ---- two runs


def test_two_runs_are_compared_on_the_same_axes(lab):
    button = lab.get_by_role("button", name="compare two runs")
    button.click()
    settled(lab)
    assert button.get_attribute("aria-pressed") == "true"
    assert lab.locator(
        ".lab-side:visible"
    ).count() == 2 and "; against it, L2 λ = " in source(lab)
    for panel, count in {"accuracy": 1, "rank": 1, "spectrum": 1, "pattern": 2}.items():
        assert lab.locator(f"[data-panel={panel}] .lab-chart").count() == count
    runs = lab.locator("[data-panel=rank] .lab-key-run")
    assert [text.split(":")[0] for text in runs.all_inner_texts()] == [
        "LRD λ = 0.01",
        "L2 λ = 1",
    ]
    # two curves of each run: a colour is a run, dashes tell its curves apart
    styles = lab.evaluate(
        """[...document.querySelectorAll("[data-panel=rank] .lab-plot svg > g:nth-child(2) path")]
        .map((path) => [path.getAttribute("stroke"), path.getAttribute("stroke-dasharray")])"""
    )
    assert len(set(map(tuple, styles))) == 4 and len({colour for colour, _ in styles}) == 2
    label = lab.locator("[data-panel=rank] .lab-plot").get_attribute("aria-label")
    assert "LRD λ = 0.01. Mean rank" in label and "L2 λ = 1. Mean rank" in label
    second = lab.get_by_role("group", name="second run")
    second.get_by_role("slider", name="λ", exact=True).press("Home")
    settled(lab)
    assert "; against it, L2 λ = 1" in source(lab)
    button.click()
    settled(lab)
    assert lab.locator(".lab-side:visible").count() == 1 and "against" not in source(lab)


def test_a_run_with_fewer_records_ends_the_play(lab):
    """Its place in the list of before is none in this."""
    first, second = "rule=l2&lambda=1&f=0.4&seed=0/100", "lambda=0.01&vs.f=0.4&vs.seed=0/50"
    lab.evaluate(f"location.hash = '#lab:{first}&vs.rule=lrd&vs.{second}&step=0'")
    lab.wait_for_function("document.querySelector('.lab-transport input').max === '60'")
    settled(lab)
    lab.get_by_role("button", name="play").click()
    lab.get_by_role("button", name="compare two runs").click()
    lab.wait_for_function("document.querySelector('.lab-transport input').max === '30'")
    assert lab.get_by_role("button", name="play").count() == 1
    slider = lab.locator(".lab-transport input")
    assert re.fullmatch(r"step \d+", slider.get_attribute("aria-valuetext"))


# ---- the address


def test_a_view_survives_in_its_address(lab, chromium, site):
    lab.get_by_role("button", name="compare two runs").click()
    settled(lab)
    lab.get_by_role("combobox", name="matrix").select_option("0.key")
    lab.get_by_role("slider", name="training").press("Home")
    lab.get_by_role("slider", name="training").press("PageUp")
    lab.get_by_role("button", name="copy a link").click()
    lab.wait_for_function("document.querySelector('.lab-say').textContent.includes('link')")
    settled(lab)
    first = TrainConfig(rule="lrd", weight_decay=0.01, fraction=0.4)
    second = TrainConfig(rule="l2", weight_decay=1.0, fraction=0.4, eval_every=100)
    made = of_recorded(first, beside=second, step=300, matrix="0.key")
    assert f"lab.html{lab.evaluate('location.hash')}" == made
    with visit(chromium, lab.url) as again:
        page = opened(again)
        settled(page)
        assert source(page) == source(lab)
        step = page.get_by_role("slider", name="training").get_attribute("aria-valuetext")
        assert (
            step
            == lab.get_by_role("slider", name="training").get_attribute("aria-valuetext")
            != "step 0"
        )
        assert page.get_by_role("combobox", name="matrix").input_value() == "0.key"
        assert again.errors == []


def test_an_address_that_is_not_recorded_is_said(lab):
    lab.evaluate("location.hash = '#lab:rule=lrd&lambda=7&f=0.3&step=500'")
    lab.wait_for_function(
        "document.querySelector('.lab-source').textContent.includes('30% of the pairs')"
    )
    assert (
        lab.locator(".lab-say").inner_text()
        == "Not recorded: lambda 7. The nearest recorded run is shown."
    )
    assert "LRD" in source(lab)


def test_words_in_the_prose_play_to_their_step(lab):
    lab.get_by_role("radio", name="L2").check()
    settled(lab)
    for _ in range(2):  # the second time the address is the same
        lab.get_by_role("slider", name="training").press("End")
        lab.get_by_role("link", name="at step 700").click()
        lab.wait_for_function(
            "document.querySelector('.lab-transport input').getAttribute('aria-valuetext') "
            "=== 'step 700'"
        )
        assert "LRD λ = 0.01" in source(lab)
        settled(lab)
        assert in_view(lab)
    assert lab.evaluate("location.hash") == "#lab:rule=lrd&lambda=0.01&f=0.4&step=700"
    lab.keyboard.press("ArrowRight")  # and the keyboard goes on from there
    assert lab.locator(".lab-transport input").get_attribute("aria-valuetext") == "step 750"


def test_words_can_show_two_runs_and_bring_the_panels_into_view(lab):
    lab.get_by_role("link", name="both").click()
    settled(lab)
    assert "; against it, L2 λ = 1 (a + b modulo 97, 30%" in source(lab)
    assert in_view(lab)


def test_going_back_goes_back(lab):
    lab.get_by_role("link", name="at step 700").click()
    settled(lab)
    lab.evaluate("location.hash = '#lab:rule=l2&lambda=1&f=0.3&step=200'")
    lab.wait_for_function(
        "document.querySelector('.lab-source').textContent.includes('L2 λ = 1')"
    )
    lab.go_back()
    lab.wait_for_function(
        "document.querySelector('.lab-source').textContent.includes('LRD λ = 0.01')"
    )


def test_a_piece_that_cannot_be_loaded_is_said_and_can_be_tried_again(chromium, site):
    with visit(chromium, f"{site}/light.html") as seen:
        page = opened(seen)
        page.context.route("**/data/l2-*.js", lambda route: route.abort())
        page.get_by_role("radio", name="L2").check()
        page.wait_for_function(
            "document.querySelector('.lab-say').textContent.includes('could not be loaded')"
        )
        page.context.unroute("**/data/l2-*.js")
        page.get_by_role("slider", name="λ", exact=True).press("End")
        page.wait_for_function(
            "document.querySelector('.lab-source').textContent.includes('L2 λ = 3')"
        )


def test_an_address_that_is_tried_again_leads_to_its_step(chromium, site):
    with visit(chromium, f"{site}/light.html") as seen:
        page = opened(seen)
        page.context.route("**/data/l2-*.js", lambda route: route.abort())
        page.evaluate("location.hash = '#lab:rule=l2&lambda=1&f=0.4&step=1700'")
        again = page.get_by_role("button", name="Try again")
        again.wait_for()
        page.context.unroute("**/data/l2-*.js")
        again.click()
        page.wait_for_function(
            "document.querySelector('.lab-source').textContent.includes('L2 λ = 1')"
        )
        settled(page)
        step = page.locator(".lab-transport input").get_attribute("aria-valuetext")
        assert step == "step 1700"


# ---- one move after another (how long each takes: benchmarks/pages.py)


MOVES = """() => {
    const [input, plots] = [".lab-transport input", ".lab-plots"]
        .map((place) => document.querySelector(place));
    return Array.from({length: 20}, (_, i) => {
        const before = plots.innerHTML;
        input.value = (7 * i + 7) % Number(input.max);
        input.dispatchEvent(new Event("input", {bubbles: true}));
        return plots.innerHTML !== before;
    });
}"""


def test_a_move_of_the_slider_redraws_at_once(lab):
    settled(lab)
    assert lab.evaluate(MOVES) == [True] * 20


def test_one_choice_after_another_is_drawn(lab):
    pictures = {}
    for rule in ("L2", "LRD", "L2"):
        lab.get_by_role("radio", name=rule).check()
        settled(lab)
        for name in ("fraction", "λ", "training"):
            slider = lab.get_by_role("slider", name=name, exact=True)
            for key in ("Home", "End"):
                slider.press(key)
                settled(lab)
        assert source(lab).startswith(f"Recorded: {rule} λ = ")
        assert pictures.setdefault(rule, shown(lab)) == shown(lab)  # the same as before


def test_it_works_from_a_file(chromium, folder):
    """No server at all: the pieces are scripts."""
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto((folder / "light.html").as_uri())
    page.wait_for_function(READY)
    assert page.locator(".lab-source").inner_text().startswith("Recorded: LRD")
    page.close()


def test_there_and_back_is_where_it_was(lab):
    """What had to move with a choice comes back with it."""
    lab.get_by_role("radio", name="L2").check()
    slider = lab.get_by_role("slider", name="λ", exact=True)
    slider.press("Home")
    lab.get_by_role("slider", name="fraction").press("Home")
    settled(lab)
    left = source(lab)
    assert "λ = 1 " in left and "30% of the pairs" in left
    slider.press("End")  # 3 is recorded at 40% alone
    settled(lab)
    assert "40% of the pairs" in source(lab)
    slider.press("Home")
    settled(lab)
    assert source(lab) == left


@pytest.mark.parametrize("piece", ["index", "full-seed0"])
def test_a_piece_that_is_cut_off_is_said_and_can_be_tried_again(chromium, site, piece):
    with visit(chromium, "about:blank") as seen:
        page = seen.page
        page.context.route(
            f"**/data/{piece}.js",
            lambda route: route.fulfill(
                body=f'lrdLab.piece("{piece}",{{"steps":[0,', content_type="text/javascript"
            ),
        )
        page.goto(f"{site}/light.html")
        again = page.get_by_role("button", name="Try again")
        again.wait_for()
        assert "came in part" in page.locator(".lrd-lab").inner_text()
        page.context.unroute(f"**/data/{piece}.js")
        again.click()
        page.wait_for_function(READY)
        page.wait_for_function(
            "document.querySelector('.lab-source')?.textContent.startsWith('Recorded: LRD')"
        )
        again.wait_for(state="hidden")
