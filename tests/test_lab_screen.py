"""The labs of the built book as a reader meets them: all of it on one screen, what goes wrong
told in a sentence, and runs of one's own.

Build the book first (`make book`; `make test` does).
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api")

from browser import FLAGS, HTML, PHONE, ROOT, Visit, serve, visit
from chromium import find
from waiting import PATIENCE_MS

from lrdlib.lab.address import of_recorded, of_training
from lrdlib.lab.answers import LEVELS, Answers, load_answers
from lrdlib.lab.script import STATIC
from lrdlib.tasks import split
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import load_run, save_run

if not (HTML / "lab" / "train").exists():
    pytest.skip("the book is not built: run make book", allow_module_level=True)

RECORDED, TRAIN = ".lrd-lab[data-lab=recorded]", ".lrd-lab[data-lab=train]"
LAPTOP = {"width": 1280, "height": 800}
RUN = ROOT / "book/runs/lrd-0.01-p97-f0.4-seed0.npz"


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with serve() as address:
        yield address


@contextmanager
def lab(chromium, url: str, **options) -> Iterator[Visit]:
    """The page of the labs, with both of them there."""
    with visit(chromium, url, **options) as seen:
        seen.page.wait_for_selector(f"{RECORDED}[data-state=ready]")
        seen.page.wait_for_selector(f"{TRAIN}[data-state]")
        yield seen


@pytest.fixture(scope="module")
def desk(chromium, site) -> Iterator[Visit]:
    """One visit on a laptop for the tests of the recorded lab that undo what they do, or
    begin with what they need; nothing may go wrong in it."""
    with lab(chromium, f"{site}/lab.html", viewport=LAPTOP) as seen:
        yield seen


def trainer(seen: Visit):
    """The lab that trains, in sight, and ready."""
    seen.page.wait_for_selector(f"{TRAIN}[data-state=idle]")
    root = seen.page.locator(TRAIN)
    root.scroll_into_view_if_needed()
    return root


def press(root, name: str) -> None:
    root.get_by_role("button", name=name, exact=True).click()


def state(seen: Visit, name: str) -> None:
    seen.page.wait_for_selector(f"{TRAIN}[data-state={name}]")


def step_of(seen: Visit) -> int:
    words = seen.page.locator(f"{TRAIN} .lab-live-progress").inner_text()
    return int(words.split()[1]) if words.startswith("Step") else 0


def reaches(seen: Visit, step: int) -> None:
    """Wait for a record at `step` or later."""
    seen.page.wait_for_function(
        f"Number(document.querySelector('{TRAIN} .lab-live-scrub .lab-value')?.textContent)"
        f" >= {step}"
    )


def saved(seen: Visit, path: Path):
    with seen.page.expect_download() as download:
        press(seen.page.locator(TRAIN), "Download")
    download.value.save_as(path)
    return load_run(path)


# ---- one screen


def assert_in_sight(page, panels: int) -> None:
    """So many plots are on the screen, right of the controls."""
    page.wait_for_selector(f"{RECORDED} .lab-plots[aria-busy=false]")
    plots = page.locator(f"{RECORDED} .lab-plot:visible").all()
    boxes = [plot.bounding_box() for plot in plots]
    assert len(boxes) == panels
    for box in boxes:
        assert box["y"] >= 0 and box["y"] + box["height"] <= LAPTOP["height"]
        assert box["x"] >= 0 and box["x"] + box["width"] <= LAPTOP["width"]
    left = page.locator(f"{RECORDED} .lab-left").bounding_box()
    assert left["x"] + left["width"] <= min(box["x"] for box in boxes)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def assert_asked(page, found: Answers, a: int, b: int, step: int) -> None:
    """The recorded lab says what this network answers to (a, b) at a step."""
    at, row = found.steps.tolist().index(step), 59 * a + b
    answer, right = found.answers[at, row], (a + b) % 59
    says = f"At step {step} it answers {answer} to ({a}, {b}): "
    said = page.locator(f"{RECORDED} .lab-answer", has_text=says)
    said.wait_for()
    assert ("): right." in said.inner_text()) == (answer == right)
    config = TrainConfig(**found.config)
    inside = split(config.data(), config.fraction, config.seed).train.tolist()
    assert ("It has been trained" in said.inner_text()) == (row in inside)
    (share,) = page.locator(f"{RECORDED} .lab-answers li").all_inner_texts()
    sure = float(re.search(r"([\d.]+)%", share)[1])
    assert sure == pytest.approx(100 * int(found.sure[at, row]) / LEVELS, abs=0.06)


def test_every_panel_is_in_sight_and_a_network_of_which_it_is_kept_can_be_asked(desk):
    """One visit: the five panels of any run, then the table of pairs beside them."""
    found = load_answers(ROOT / "book/runs/answers/lrd-0.02-p59-f0.6-seed0.answers.npz")
    config = TrainConfig(**found.config)
    page = desk.page
    assert_in_sight(page, 5)
    form = page.locator(f"{RECORDED} .lab-ask")
    assert not form.is_visible()
    page.evaluate(f"location.hash = '{of_recorded(config, step=600).split('#')[1]}'")
    plot = page.locator(f"{RECORDED} [data-panel=table] .lab-plot[aria-label]")
    plot.wait_for()
    assert_in_sight(page, 6)
    words = plot.get_attribute("aria-label")
    counts = [int(n) for n in re.findall(r"(?:right|wrong) (\d+)", words)]
    right = found.answers[6] == config.data().labels.numpy()
    assert counts[0] + counts[2] == right.sum() and sum(counts) == 59**2
    for name, value in (("a", 58), ("b", 3)):
        form.get_by_label(name, exact=True).fill(str(value))
    press(form, "Ask")
    assert_asked(page, found, 58, 3, 600)
    page.locator(f"{RECORDED} .lab-transport input").press("End")
    assert_asked(page, found, 58, 3, 2000)  # the question goes along
    plot.click(position={"x": plot.bounding_box()["width"] / 2, "y": 60})
    says = page.locator(f"{RECORDED} .lab-answer").inner_text()
    a, b = map(int, re.search(r"to \((\d+), (\d+)\)", says).groups())
    assert (a, b) != (58, 3)
    assert_asked(page, found, a, b, 2000)
    page.evaluate(f"location.hash = '{of_recorded(TrainConfig(), step=0).split('#')[1]}'")
    form.wait_for(state="hidden")
    assert_in_sight(page, 5)
    assert desk.errors == []


def test_the_side_bars_are_folded_and_can_be_unfolded(chromium, site):
    with lab(chromium, f"{site}/lab.html", viewport=LAPTOP) as seen:
        bar = seen.page.locator(".bd-sidebar-primary")
        assert not bar.is_visible()
        assert not seen.page.locator(".bd-sidebar-secondary").is_visible()
        seen.page.locator("button.primary-toggle:visible").first.click()
        bar.wait_for(state="visible")


def test_a_phone_has_step_and_strength_at_its_bottom(chromium, site):
    with lab(chromium, f"{site}/lab.html", viewport=PHONE) as seen:
        bar = seen.page.locator(f"{RECORDED} .lab-bar")
        box, height = bar.bounding_box(), PHONE["height"]
        assert box["y"] > 0.8 * height and box["y"] + box["height"] <= height + 1
        sliders = [bar.get_by_role("slider", name=name) for name in ("λ", "training")]
        first, second = (slider.bounding_box() for slider in sliders)
        # what is changed stands above what is looked at, and both off the edge
        assert first["y"] + first["height"] <= second["y"]
        assert second["y"] + second["height"] <= height - 8
        panel = seen.page.locator(f"{RECORDED} .lab-panel").first.bounding_box()
        assert panel["y"] < box["y"]
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_phone_that_trains_shows_accuracy_and_rank_at_once(chromium, site):
    with visit(chromium, f"{site}/lab.html#lab-train", viewport=PHONE) as seen:
        root = seen.page.locator(TRAIN)
        plots = [root.locator(f"[data-panel={n}] .lab-plot") for n in ("accuracy", "rank")]
        plots[1].wait_for()
        seen.page.evaluate(f"document.querySelector('{TRAIN}').scrollIntoView()")
        bar = root.locator(".lab-bar").bounding_box()
        for plot in plots:
            box = plot.bounding_box()
            assert box["y"] > 0 and box["y"] + box["height"] <= bar["y"]
        assert seen.errors == []


SHIFTS = """new PerformanceObserver((list) => {
    window.shifts ??= [];
    window.shifts.push(...list.getEntries().filter((one) => !one.hadRecentInput)
        .map(({value}) => value));
}).observe({type: "layout-shift", buffered: true});"""


@pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_nothing_jumps_while_the_page_comes(chromium, site, viewport):
    """The layout shift that browsers count; 0.1 is what web.dev calls good."""
    context = chromium.new_context(viewport=viewport, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(SHIFTS)
    page = context.new_page()
    page.goto(f"{site}/lab.html")
    page.wait_for_selector(f"{RECORDED}[data-state=ready]")
    page.wait_for_timeout(500)
    assert sum(page.evaluate("window.shifts ?? []")) < 0.1
    context.close()


@pytest.mark.parametrize(
    ("motion", "viewport"),
    [("no-preference", LAPTOP), ("no-preference", PHONE), ("reduce", LAPTOP)],
)
def test_it_opens_early_and_plays_once_where_things_may_move(
    chromium, site, motion, viewport
):
    """And nothing jumps while it plays, whatever the numbers in its keys grow to."""
    context = chromium.new_context(viewport=viewport, reduced_motion=motion)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(SHIFTS)
    page = context.new_page()
    page.goto(f"{site}/lab.html")
    page.wait_for_selector(f"{RECORDED}[data-state=ready]")
    place = (
        "[...document.querySelectorAll('.lab-transport input')].map((i) => Number(i.value))"
    )
    (first,) = page.evaluate(place)
    end = int(page.locator(".lab-transport input").get_attribute("max"))
    assert first < 0.3 * end
    if motion == "reduce":
        page.wait_for_timeout(500)
        assert page.evaluate(place) == [first]
    else:
        page.wait_for_function(f"{place}[0] === {end}")
        page.wait_for_timeout(500)
        assert page.evaluate(place) == [end]  # once
        assert sum(page.evaluate("window.shifts ?? []")) < 0.1
    context.close()


# What ARIA gives no children of their own, and what a browser gives none.
NESTED = """(root) => {
    const outer = "a[href], button, summary, [role=img], [role=slider], [role=checkbox], " +
        "[role=button], [role=radio], [role=switch], [role=tab], [role=option]";
    const inner = "a[href], button, input, select, textarea, summary, [tabindex]";
    return [...document.querySelectorAll(`${root} :is(${outer})`)]
        .filter((one) => one.querySelector(inner)).map((one) => one.outerHTML.slice(0, 80));
}"""


def test_no_control_is_inside_another(desk):
    assert [desk.page.evaluate(NESTED, root) for root in (RECORDED, TRAIN)] == [[], []]


# ---- tours


def test_a_tour_is_walked_inside_the_lab(desk):
    page = desk.page
    strip = page.get_by_role("region", name="tour")
    assert strip.count() == 0
    page.get_by_role("combobox", name="tour").select_option("0")
    value = f"document.querySelector('{RECORDED} .lab-transport input').ariaValueText"
    page.wait_for_function(f"{value} === 'step 700'")
    assert "half of the directions" in strip.inner_text() and "1 of 3" in (
        strip.inner_text()
    )
    strip.get_by_role("button", name="Next").click()
    page.wait_for_function(f"{value} === 'step 1300'")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"{value} === 'step 1400'")
    page.keyboard.press("ArrowRight")  # there is no fourth
    kept = page.evaluate(
        """(strip) => document.querySelector(strip).dispatchEvent(new KeyboardEvent("keydown",
            {key: "ArrowLeft", altKey: true, bubbles: true, cancelable: true}))""",
        ".lab-tour",
    )
    assert kept and "3 of 3" in strip.inner_text()  # which is the browser's own Back
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"{value} === 'step 1300'")
    words, chart = (
        page.locator(part).first.bounding_box() for part in (".lab-tour", ".lab-plot")
    )
    assert 0 <= words["y"] < chart["y"] < LAPTOP["height"] - 100  # seen together
    # below one another what the stop is about comes first
    page.set_viewport_size({"width": 820, "height": 1180})
    spectrum, accuracy = (
        page.locator(f"{RECORDED} [data-panel={name}]").bounding_box()
        for name in ("spectrum", "accuracy")
    )
    assert (spectrum["y"], spectrum["x"]) < (accuracy["y"], accuracy["x"])
    assert desk.errors == []


def test_every_stop_of_every_tour_is_a_recorded_run(desk):
    page = desk.page
    tour = page.get_by_role("combobox", name="tour")
    assert tour.locator("option").count() == 7  # six, and none
    for number in range(6):
        tour.select_option(str(number))
        strip = page.get_by_role("region", name="tour")
        while True:
            page.wait_for_selector(f"{RECORDED} .lab-plots[aria-busy=false]")
            assert "*" not in strip.inner_text()  # it is HTML, not Markdown
            link = strip.get_by_role("link").first.get_attribute("href")
            page.wait_for_function("(hash) => location.hash === hash", arg=link)
            assert page.locator(f"{RECORDED} .lab-say").inner_text() == ""
            following = strip.get_by_role("button", name="Next")
            if following.get_attribute("aria-disabled") == "true":
                break
            following.click()
    assert desk.errors == []


# ---- what goes wrong


def test_back_leads_to_what_was_left(chromium, site):
    with lab(chromium, f"{site}/lab.html") as seen:
        page = seen.page
        root = page.locator(RECORDED)
        slider = root.get_by_role("slider", name="training")
        slider.press("Home")
        slider.press("ArrowRight")
        left = [
            slider.get_attribute("aria-valuetext"),
            root.locator(".lab-source").inner_text(),
        ]
        page.locator("a.lrd-go[href*='lambda=0.0001']").first.click()
        page.wait_for_function(
            f"document.querySelector('{RECORDED} .lab-source').textContent.includes('0.0001')"
        )
        page.go_back()
        page.wait_for_function(
            f"(text) => document.querySelector('{RECORDED} .lab-source').innerText === text",
            arg=left[1],
        )
        page.wait_for_selector(f"{RECORDED} .lab-plots[aria-busy=false]")
        assert slider.get_attribute("aria-valuetext") == left[0]


@pytest.mark.parametrize(("button", "left"), [("Stop", "stopped"), ("Reset", "idle")])
def test_what_is_stopped_while_it_loads_stays_stopped(chromium, site, button, left):
    with lab(chromium, f"{site}/lab.html") as seen:
        held: list = []
        seen.page.context.route("**/small-*.onnx", lambda route: held.append(route))
        root = trainer(seen)
        press(root, "Start")
        state(seen, "loading")
        press(root, button)
        state(seen, left)
        seen.page.context.unroute("**/small-*.onnx")
        with seen.page.expect_event("requestfinished"):
            for route in held:
                route.continue_()
        seen.page.wait_for_timeout(2500)  # it trained by then
        assert root.get_attribute("data-state") == left and step_of(seen) == 0
        press(root, "Start")  # and it can be started
        state(seen, "running")
        assert seen.errors == []


BROKEN = {
    "blocked engine": (
        "**/*.wasm",
        None,
        r"ort-wasm-simd-threaded\.wasm did not come whole",
    ),
    "blocked script": ("**/ort.wasm.min.js", None, r"ort\.wasm\.min\.js did not come"),
    "text for a graph": (
        "**/small-low.onnx",
        "<html>",
        r"something else for small-low\.onnx",
    ),
    "half of a table": ("**/small.json", '{"shapes": [', r"something else for small\.json"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_does_not_come_is_a_sentence_and_can_be_tried_again(
    chromium, site, kind
):
    pattern, body, words = BROKEN[kind]
    with lab(chromium, f"{site}/lab.html") as seen:
        context = seen.page.context
        context.route(
            pattern,
            lambda route: (
                route.abort()
                if body is None
                else route.fulfill(body=body, content_type="text/html")
            ),
        )
        root = trainer(seen)
        press(root, "Start")
        state(seen, "failed")
        said = root.locator(".lab-live-status").inner_text()
        assert re.search(words, said) and said.count(".") >= 2  # what, and what to do
        context.unroute(pattern)
        press(root, "Start")
        state(seen, "running")


def test_a_download_that_fails_ends_no_run(chromium, site, tmp_path):
    with lab(chromium, f"{site}/lab.html") as seen:
        seen.page.context.route("**/vendor/fflate/*", lambda route: route.abort())
        root = trainer(seen)
        press(root, "Start")
        reaches(seen, 25)
        press(root, "Download")
        root.get_by_text("No file.").wait_for()
        assert "fflate" in root.locator(".lab-live-aside").inner_text() or "index.js" in (
            root.locator(".lab-live-aside").inner_text()
        )
        assert root.get_attribute("data-state") == "running"
        reaches(seen, 50)
        seen.page.context.unroute("**/vendor/fflate/*")
        assert len(saved(seen, tmp_path / "run.npz").history["step"]) >= 3


def test_a_page_that_came_by_host_name_gives_a_file_too(site, chromium, tmp_path):
    """Over plain http, no host but this machine is a secure context: no crypto.subtle."""
    port = site.rsplit(":", 1)[1]
    rules = "--host-resolver-rules=MAP lab.test 127.0.0.1"
    browser = chromium.browser_type.launch(executable_path=find(), args=[*FLAGS, rules])
    try:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        seen = Visit(page)
        page.goto(f"http://lab.test:{port}/lab.html")
        assert page.evaluate("[window.isSecureContext, crypto.subtle]") == [False, None]
        root = trainer(seen)
        press(root, "Start")
        reaches(seen, 25)
        press(root, "Stop")
        state(seen, "stopped")
        assert saved(seen, tmp_path / "run.npz").history["step"][:2].tolist() == [0, 25]
    finally:
        browser.close()


def test_a_frame_that_forbids_everything_is_told(chromium, site):
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{site}/notation.html")
    page.evaluate(
        "(src) => document.body.prepend(Object.assign(document.createElement('iframe'), "
        "{src, sandbox: 'allow-scripts', width: 1000, height: 700}))",
        f"{site}/lab.html",
    )
    frame = page.frame_locator("iframe")
    alert = frame.locator(f"{TRAIN} [role=alert]")
    alert.wait_for()
    assert "Open it in a tab of its own." in alert.inner_text()
    frame.locator(f"{RECORDED}[data-state=ready]").wait_for()  # which needs nothing of it
    page.close()


# ---- runs of one's own


def test_a_run_from_a_file_opens_and_is_laid_beside_the_recorded_one(chromium, site):
    with lab(chromium, f"{site}/lab.html") as seen:
        root = trainer(seen)
        root.locator("input[type=file]").set_input_files(RUN)
        root.get_by_text("Opened: add, trained on 40%").wait_for()
        run = load_run(RUN)
        slider = root.get_by_label("shown step")
        assert slider.get_attribute("aria-valuetext") == f"step {run.history['step'][-1]}"
        label = root.locator("[data-panel=accuracy] .lab-plot").get_attribute("aria-label")
        last = 100 * run.history["orbit_clean_accuracy"][-1]
        assert f"orbit-clean {np.round(last, 1):g}%" in label
        root.get_by_label("with the recorded run").check()
        root.locator("[data-panel=rank] .lab-key-run").nth(1).wait_for()
        names = root.locator("[data-panel=rank] .lab-key-run strong").all_inner_texts()
        assert names[0] == "the opened run:" and "λ" in names[1]
        assert root.locator("[data-panel=rank] .lab-plot").count() == 1
        assert seen.errors == []


def damaged(kind: str, folder: Path) -> Path:
    """A file that is no whole run."""
    path = folder / "run.npz"
    content = RUN.read_bytes()
    if kind == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "no zip":
        path.write_bytes(b"<script>alert(1)</script>")
    elif kind == "another kind":
        np.savez(path, **{"header.json": np.frombuffer(b'{"kind": "x/1"}', np.uint8)})
    elif kind == "pickled":
        np.savez(path, **{"header.json": np.array([{}], dtype=object)})
    else:  # a number is changed, its checksum is not
        with np.load(RUN) as arrays:
            parts = dict(arrays)
        parts["history/train_accuracy"] = parts["history/train_accuracy"] + np.float32(1)
        np.savez(path, **parts)
    return path


@pytest.mark.parametrize(
    ("kind", "why"),
    {
        "cut off": "cannot be unpacked",
        "no zip": "cannot be unpacked",
        "another kind": "it is x/1",
        "pickled": "holds no numbers",
        "changed": "do not match its checksum",
    }.items(),
)
def test_a_file_that_is_no_whole_run_is_refused(chromium, site, tmp_path, kind, why):
    path = damaged(kind, tmp_path)
    with pytest.raises(ValueError):
        load_run(path)  # which refuses it as well
    with lab(chromium, f"{site}/lab.html") as seen:
        root = trainer(seen)
        root.locator("input[type=file]").set_input_files(path)
        root.get_by_text("This file is no whole run of lrdlib").wait_for()
        assert why in root.locator(".lab-live-aside").inner_text()
        assert not root.locator(".lab-panels").is_visible()
        assert seen.errors == []


def test_changes_that_nobody_could_make_are_refused(chromium, site, tmp_path):
    run = load_run(RUN)
    run.provenance["changes"] = '[{"step": 1, "onload": "alert(1)"}]'
    save_run(run, path := tmp_path / "run.npz")
    with lab(chromium, f"{site}/lab.html") as seen:
        root = trainer(seen)
        root.locator("input[type=file]").set_input_files(path)
        root.get_by_text("its changes by hand cannot be read").wait_for()
        assert seen.errors == []


def test_a_file_can_be_dropped_on_the_page(chromium, site, tmp_path):
    run = load_run(RUN)
    save_run(run, path := tmp_path / "mine.npz")
    with lab(chromium, f"{site}/lab.html") as seen:
        root = trainer(seen)
        root.evaluate(
            """(lab, bytes) => {
                const held = new DataTransfer();
                held.items.add(new File([Uint8Array.from(bytes)], "mine.npz"));
                document.body.dispatchEvent(new DragEvent("drop",
                    {dataTransfer: held, bubbles: true, cancelable: true}));
            }""",
            list(path.read_bytes()),
        )
        root.get_by_text("Opened: add").wait_for()


def test_an_address_trains_the_same_run_again(chromium, site, tmp_path):
    made = of_training(
        "small",
        **dict(fraction=0.5, seed=3, weight_decay=0.05, attention="frozen", part="radial"),
        then=[(7, "weight_decay", 0.001), (9, "rule", "l2"), (11, "lr", 0.0)],
    )
    address = f"{site}/{made}"
    runs = []
    for name in ("one.npz", "two.npz"):
        with visit(chromium, address) as seen:
            reaches(seen, 25)
            press(seen.page.locator(TRAIN), "Stop")
            state(seen, "stopped")
            runs.append(saved(seen, tmp_path / name))
            # it is written a third of a second after a change, by the page's clock
            written = "#" + address.partition("#")[2]
            seen.page.wait_for_function("hash => location.hash === hash", arg=written)
            assert seen.errors == []
        changes = json.loads(runs[-1].provenance["changes"])
        assert changes == [
            {"step": 7, "weight_decay": 0.001},
            {"step": 9, "rule": "l2"},
            {"step": 11, "lr": 0},
        ]
        assert (runs[-1].config["seed"], runs[-1].config["fraction"]) == (3, 0.5)
    for metric in ("step", "train_loss", "test_loss", "qk_effective_rank"):
        one, two = (run.history[metric][:2] for run in runs)
        np.testing.assert_array_equal(one, two)


def kept_run(seen):
    """The lab that trains, after a short run that is kept."""
    root = trainer(seen)
    press(root, "Start")
    reaches(seen, 25)
    press(root, "Stop")
    state(seen, "stopped")
    root.get_by_role("combobox", name="kept here").wait_for()
    return root


def test_a_reload_loses_no_run_and_a_kept_run_can_be_deleted(chromium, site):
    with lab(chromium, f"{site}/lab.html") as seen:
        root = kept_run(seen)
        seen.page.reload()
        root.get_by_text("Opened: add").wait_for()
        assert root.locator("[data-panel=accuracy]").is_visible()
        press(root, "Delete")
        root.get_by_role("combobox", name="kept here").wait_for(state="hidden")
        assert seen.errors == []


# Presses Start as soon as the kept run is asked for.
HASTE = f"""const post = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (message, ...rest) {{
    post.call(this, message, ...rest);
    const start = document.querySelector("{TRAIN} .lab-live-buttons button");
    if (message.do === "show") queueMicrotask(() => start.click());
}};"""


def test_a_start_right_after_a_reload_is_not_undone(chromium, site):
    with lab(chromium, f"{site}/lab.html") as seen:
        root = kept_run(seen)
        seen.page.add_init_script(HASTE)
        seen.page.reload()
        state(seen, "running")
        reaches(seen, 25)
        assert root.get_attribute("data-state") == "running"
        assert root.get_by_text("Opened: add").count() == 0
        assert seen.errors == []


def test_what_is_of_another_run_is_not_offered_with_an_opened_one(chromium, site):
    with lab(chromium, f"{site}/lab.html") as seen:
        root = trainer(seen)
        download = root.get_by_role("button", name="Download")
        file = root.locator("input[type=file]")
        file.set_input_files(RUN)
        root.get_by_text("Opened: add").wait_for()
        with seen.page.expect_file_chooser():
            file.click()
        assert file.input_value() == ""  # so that the same file can be opened again
        press(root, "Reset")
        root.locator(".lab-live-panels").wait_for(state="hidden")
        press(root, "Start")
        reaches(seen, 25)
        form = root.locator(".lab-ask")
        assert form.is_visible() and download.get_attribute("aria-disabled") == "false"
        file.set_input_files(RUN)
        root.get_by_text("Opened: add").wait_for()
        state(seen, "stopped")
        assert not form.is_visible()
        assert download.get_attribute("aria-disabled") == "true"
        press(root, "Reset")
        state(seen, "idle")
        root.locator(".lab-live-panels").wait_for(state="hidden")
        assert seen.errors == []


def test_it_says_which_pairs_are_right_and_answers(chromium, site):
    with lab(chromium, f"{site}/lab.html") as seen:
        root = trainer(seen)
        press(root, "Start")
        reaches(seen, 25)
        press(root, "Pause")
        state(seen, "paused")
        seen.page.wait_for_timeout(300)  # for the step that was under way
        words = root.locator("[data-panel=table] .lab-plot").get_attribute("aria-label")
        counts = [int(n) for n in re.findall(r"(?:right|wrong) (\d+)", words)]
        assert sum(counts) == 59 * 59 and counts[2] + counts[3] == round(0.6 * 59 * 59)
        rights = trained = 0
        pairs = [(a, (7 * a) % 59) for a in range(0, 59, 12)]
        for a, b in pairs:
            for name, value in (("a", a), ("b", b)):
                root.get_by_label(name, exact=True).fill(str(value))
            press(root, "Ask")
            said = root.locator(".lab-answer", has_text=f"({a}, {b})")
            said.wait_for()
            text = said.inner_text()
            answer = int(re.search(r"it answers (\d+)", text)[1])
            assert ("right." in text.split(":")[1][:8]) == (answer == (a + b) % 59)
            assert f"{(a + b) % 59} is right" in text or answer == (a + b) % 59
            shares = root.locator(".lab-answers li").all_inner_texts()
            values = [float(re.search(r"([\d.]+)%", share)[1]) for share in shares]
            assert len(values) == 5 and values == sorted(values, reverse=True)
            assert 0 < sum(values) <= 100.3
            rights, trained = (
                rights + (answer == (a + b) % 59),
                trained + ("not" not in text),
            )
        assert 0 < trained < len(pairs)
        assert seen.errors == []


def test_a_network_that_is_lost_answers_nothing(chromium, site):
    lost = of_training("mul", rule="l2", weight_decay=100.0, l2=0.0, lr=0.1)
    with visit(chromium, f"{site}/{lost}") as seen:
        root = seen.page.locator(TRAIN)
        state(seen, "failed")
        press(root, "Ask")
        root.get_by_text("answers nothing: its weights are no longer numbers").wait_for()
        assert root.locator(".lab-answers li").count() == 0
        assert root.get_by_text("Ask it, 0 to 30:").is_visible()


@pytest.mark.parametrize("preset", ["sub", "s5", "parity"])
def test_every_preset_trains_and_shows_its_table(chromium, site, preset):
    with lab(chromium, f"{site}/lab.html") as seen:
        root = trainer(seen)
        root.get_by_label("preset").select_option(preset)
        press(root, "Start")
        root.locator("[data-panel=table] .lab-plot[aria-label]").wait_for()
        words = root.locator("[data-panel=table] .lab-plot").get_attribute("aria-label")
        counts = [int(n) for n in re.findall(r"(?:right|wrong) (\d+)", words)]
        assert sum(counts) == {"sub": 59**2, "s5": 120**2, "parity": 2**8}[preset]
        frequencies = root.locator("[data-panel=fourier] .lab-none")
        assert frequencies.is_visible() == (preset != "sub")
        press(root, "Stop")
        state(seen, "stopped")
        assert seen.errors == []


def test_a_fragment_is_about_one_idea():
    """Files that can be read in one go."""
    long = {p.name: len(p.read_text("utf-8").splitlines()) for p in STATIC.glob("*.js")}
    assert {name: lines for name, lines in long.items() if lines > 300} == {}
