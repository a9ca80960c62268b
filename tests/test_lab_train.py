"""Training on the page: the exported train step in onnxruntime, and in Chromium's wasm,
against lrdlib's own.

Build the book first (`make book`; `make test` does): the files under test are the ones that
a reader loads.
"""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("playwright.sync_api")
pytest.importorskip("onnxruntime")

import onnxruntime as ort
from browser import FLAGS, HTML, PHONE, Visit, serve, visit
from chromium import find
from test_lab_step import inputs_of, state_of
from waiting import PATIENCE_MS

from lrdlib.lab.export import sources
from lrdlib.lab.presets import all_presets
from lrdlib.lab.script import STATIC
from lrdlib.lab.step import numbers
from lrdlib.model import init_params
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import Run, load_run, runs_of
from lrdlib.training.train import Training

FOLDER = HTML / "lab" / "train"
if not FOLDER.exists():
    pytest.skip("the book is not built: run make book", allow_module_level=True)

STEPS = 200
STATE = ("weights", "exp_avg", "exp_avg_sq")
PRESETS = json.loads((FOLDER / "presets.json").read_text(encoding="utf-8"))
SMALL = PRESETS["small"]["config"]  # what the lab shows first
QUICK = "mul"  # half the work a step; for what is true of every preset
RULES = {
    "none": dict(rule="none", weight_decay=0.0),
    "l2": dict(rule="l2", weight_decay=1.0),
    "lrd": dict(rule="lrd", weight_decay=0.02),
    "elastic": dict(rule="elastic", weight_decay=0.01, l2=1.0),
}
# Relative distance of weights (and moments), after one step from the same state. Rounding
# of float32 sums; where there is low-rank decay, the polar factor multiplies that of a
# small singular value by up to 2e4 (lrdlib.polar), and the strength brings it down again.
ONE = {"none": 1e-5, "l2": 1e-5, "lrd": 2e-4, "elastic": 2e-4}
# The same after 200 steps on its own. With low-rank decay two matmuls of torch's (MKL,
# oneDNN) end 0.02 to 0.03 apart.
FAR = {"none": 1e-5, "l2": 2e-5, "lrd": 0.1, "elastic": 0.1}
CURVES = {
    "none": 1e-4,
    "l2": 1e-4,
    "lrd": 0.1,
    "elastic": 0.1,
}  # relative distance of losses and ranks then


def config_of(rule: str, **changes) -> TrainConfig:
    return TrainConfig(
        **(
            PRESETS[QUICK]["config"]
            | dict(l2=0.0, lr=1e-3, seed=1, steps=STEPS, eval_every=100)
            | RULES[rule]
            | changes
        )
    )


@lru_cache(maxsize=2)
def native(graph: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        FOLDER / f"{QUICK}-{graph}.onnx", options, providers=["CPUExecutionProvider"]
    )


def graph_of(config: TrainConfig) -> str:
    return "low" if config.rule in ("lrd", "elastic") else "plain"


def arrays_of(training: Training) -> list[np.ndarray]:
    """The state of a training, in the order of `STATE`."""
    return [part.numpy() for part in state_of(training)]


def data_of(training: Training) -> dict[str, np.ndarray]:
    """Inputs of the exported step for the training's next step, but for the state."""
    names = ("steps", "tokens", "labels", *numbers(training.configs[0]))
    return {n: v.numpy() for n, v in zip(names, inputs_of(training), strict=True)}


@dataclass(frozen=True)
class Own:
    """lrdlib's own run of a rule, and its state before and after each step."""

    rule: str
    config: TrainConfig
    states: list[list[np.ndarray]]  # STEPS + 1 times (weights, exp_avg, exp_avg_sq)
    data: list[dict[str, np.ndarray]]  # STEPS times the other inputs of the exported step
    run: Run

    def feeds(self, step: int) -> dict[str, np.ndarray]:
        """Inputs of the exported step from lrdlib's own state before this step."""
        return dict(zip(STATE, self.states[step], strict=True)) | self.data[step]

    def check(self, step: int, after: list[np.ndarray]) -> None:
        """AssertionError unless `after`, a state after this step, is lrdlib's."""
        for name, ours, theirs in zip(STATE, after, self.states[step + 1], strict=True):
            assert distance(ours, theirs) < ONE[self.rule], (self.rule, step, name)


@pytest.fixture(scope="module", params=RULES)
def own(request) -> Own:
    """One training for all tests of a rule."""
    config = config_of(request.param)
    training = Training([config])
    next(training)
    states, data = [arrays_of(training)], []
    while training.step < STEPS:
        data.append(data_of(training))
        if training.step + 1 == training.due:
            next(training)
        else:
            training.update()
        states.append(arrays_of(training))
    return Own(request.param, config, states, data, runs_of(training)[0])


def distance(weights: np.ndarray, own: np.ndarray) -> float:
    return float(np.linalg.norm(weights - own) / np.linalg.norm(own))


def test_the_export_is_of_these_sources():
    made_of = json.loads((FOLDER / "small.json").read_text(encoding="utf-8"))["sources"]
    assert made_of == sources(), "the exported train step is stale: run make book"


def test_200_steps_in_onnxruntime_are_lrdlib_s(own):
    """Every fourth of 200 steps from lrdlib's own state before it, and all of them on their
    own."""
    session, alone = native(graph_of(own.config)), own.states[0]
    for step in range(STEPS):
        if step % 4 == 0:
            own.check(step, session.run(None, own.feeds(step))[1:])
        feeds = own.data[step] | dict(zip(STATE, alone, strict=True))
        alone = session.run(None, feeds)[1:]
    assert distance(alone[0], own.states[STEPS][0]) < FAR[own.rule]


# ---- in the browser


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with serve() as address:
        yield address


START = """([preset, config, engine]) => {
    window.got = [];
    window.engine?.terminate(); // that of a test that failed
    window.engine = new Worker(`lab/worker.js#${engine}`);
    window.engine.onmessage = ({data}) => window.got.push(data);
    window.engine.onerror = ({message}) =>
        window.got.push({event: "status", state: "failed", message});
    const folder = new URL("lab/train", location.href).href;
    window.engine.postMessage({do: "start", folder, preset, config});
}"""
ENDED = "() => window.got.some(({state}) => state === 'done' || state === 'failed')"
FILE = """() => new Promise((resolve) => {
    window.engine.addEventListener("message", ({data: {to, bytes}}) =>
        to === "file" && resolve(Array.from(bytes)));
    window.engine.postMessage({do: "file", question: "file"});
})"""


@pytest.fixture(scope="module")
def page(chromium, site):
    """Any page of the book: the worker needs none."""
    with visit(chromium, f"{site}/notation.html") as seen:
        yield seen.page


def in_wasm(page, rule: str, tmp_path, **changes) -> tuple[Run, dict]:
    """What the worker makes of a run: the file that a reader may download, and its last
    status."""
    fields = plain(config_of(rule, **changes))
    page.evaluate(START, [QUICK, fields, "wasm"])
    page.wait_for_function(ENDED)
    last = page.evaluate("() => window.got.filter(({event}) => event === 'status').at(-1)")
    assert last["state"] == "done", last
    path = tmp_path / "run.npz"
    path.write_bytes(bytes(page.evaluate(FILE)))
    page.evaluate("() => window.engine.terminate()")
    return load_run(path), last


ENGINE = """async () => {
    await new Promise((resolve, reject) => {
        const script = document.createElement("script");
        Object.assign(script, {onload: resolve, onerror: reject});
        script.src = "vendor/ort/ort.wasm.min.js";
        document.head.append(script);
    });
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = new URL("vendor/ort/", location.href).href;
    window.sessions = {};
}"""
STEP = """async ([graph, feeds, names]) => {
    window.sessions[graph] ??= await ort.InferenceSession.create(`lab/train/${graph}.onnx`);
    const arrays = {int64: BigInt64Array, float32: Float32Array};
    const tensor = ([type, shape, text]) =>
        new ort.Tensor(type, new arrays[type](Uint8Array.fromBase64(text).buffer), shape);
    const made = await window.sessions[graph].run(
        Object.fromEntries(Object.entries(feeds).map(([name, value]) => [name, tensor(value)])));
    const text = ({buffer, byteOffset, byteLength}) =>
        new Uint8Array(buffer, byteOffset, byteLength).toBase64();
    return names.map((name) => text(made[`new_${name}`].data));
}"""


@pytest.fixture(scope="module")
def engine(page):
    """The page with its own onnxruntime."""
    page.evaluate(ENGINE)
    return page


def step_in_wasm(page, graph: str, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """One exported step in the page's own onnxruntime: the new weights and moments."""
    packed = {
        name: [
            str(value.dtype),
            list(value.shape),
            base64.b64encode(value.tobytes()).decode(),
        ]
        for name, value in feeds.items()
    }
    return [
        np.frombuffer(base64.b64decode(t), np.float32)
        for t in page.evaluate(STEP, [f"{QUICK}-{graph}", packed, list(STATE)])
    ]


def test_single_steps_in_wasm_are_lrdlib_s(engine, own):
    """Every tenth of lrdlib's own 200 steps, from its state before it."""
    for step in range(0, STEPS, 10):
        own.check(step, step_in_wasm(engine, graph_of(own.config), own.feeds(step)))


def test_200_steps_of_the_worker_are_lrdlib_s(page, own, tmp_path):
    """Its own draw of split, weights and batches, its own measures, its own file."""
    run, _ = in_wasm(page, own.rule, tmp_path)
    reference, rtol = own.run, CURVES[own.rule]
    assert run.config == reference.config
    assert (
        run.history["step"].tolist() == reference.history["step"].tolist() == [0, 100, 200]
    )
    for name in (
        "train_loss",
        "test_loss",
        "orbit_clean_loss",
        "weight_norm",
        "qk_stable_rank",
        "qk_effective_rank",
    ):
        assert run.history[name].dtype == np.float32
        np.testing.assert_allclose(run.history[name], reference.history[name], rtol=rtol)
    for name, S in run.spectra.items():
        close = dict(rtol=0, atol=rtol * S.max())
        np.testing.assert_allclose(S, reference.spectra[name], **close)
        np.testing.assert_allclose(
            np.linalg.svd(run.weights[name], compute_uv=False), S[-1], rtol=0, atol=1e-4
        )
    power, expected = run.fourier["embedding"], reference.fourier["embedding"]
    np.testing.assert_allclose(power, expected, rtol=0, atol=rtol * expected.max())


def test_initial_weights_are_torch_s(page, tmp_path):
    rate = 1e-8  # the one step moves no weight by more than this
    run, _ = in_wasm(page, "none", tmp_path, steps=1, eval_every=1, lr=rate)
    config = config_of("none")
    params = init_params(
        config.model(config.data()), torch.Generator().manual_seed(config.seed)
    )
    for name, W in run.weights.items():
        np.testing.assert_allclose(
            W, params[name], rtol=0, atol=1e-6
        )  # logarithm and cosine to float32


def test_a_loss_that_is_no_number_is_one_clear_sentence(page):
    fields = plain(config_of("l2", lr=100.0, weight_decay=50.0))
    page.evaluate(START, [QUICK, fields, "wasm"])
    page.wait_for_function(ENDED)
    last = page.evaluate("() => window.got.at(-1)")
    page.evaluate("() => window.engine.terminate()")
    assert last["state"] == "failed" and "no longer a number" in last["message"]


SOFTWARE_GPU = [
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
]


def test_steps_on_webgpu_are_lrdlib_s(chromium, site):
    """On a GPU that is software: seconds a step, so one of them. A card of its own no test
    here has met."""
    config = config_of("lrd", steps=1, eval_every=1)
    flags = [flag for flag in FLAGS if flag != "--disable-gpu"] + SOFTWARE_GPU
    browser = chromium.browser_type.launch(executable_path=find(), args=flags)
    try:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{site}/notation.html")
        if not page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())"):
            pytest.skip("this Chromium has no WebGPU, not even in software")
        page.evaluate(START, [QUICK, plain(config), "webgpu"])
        page.wait_for_function(ENDED)
        got = page.evaluate("() => window.got")
    finally:
        browser.close()
    assert got[-1]["state"] == "done", got[-1]
    seen = [message for message in got if message["event"] == "record"]
    training = Training([config])
    for record, ours in zip(training, seen, strict=True):
        for name in ("train_loss", "orbit_clean_loss", "weight_norm", "qk_stable_rank"):
            assert ours["metrics"][name] == pytest.approx(
                float(record.metrics[name]), rel=1e-4
            )


# ---- the lab on its page


LAB = ".lrd-lab[data-lab=train]"
# the step that the page says it has come to, and the one that it shows
PROGRESS, SHOWN = (
    f"Number(document.querySelector('{LAB} {place}').innerText.match(/\\d+/)?.[0])"
    for place in (".lab-live-progress", ".lab-live-scrub .lab-value")
)


# How a page is read: (colours, size).
WAYS = {"light-desktop": ("light", None), "dark-phone": ("dark", PHONE)}


@contextmanager
def opened(chromium, site, way: str) -> Iterator[Visit]:
    """The lab's page, read one way, with the lab in view."""
    theme, viewport = WAYS[way]
    with visit(chromium, f"{site}/lab.html", theme=theme, viewport=viewport) as seen:
        seen.root = seen.page.locator(LAB)
        seen.root.scroll_into_view_if_needed()
        seen.page.wait_for_selector(f"{LAB}[data-state=idle]")
        yield seen


@pytest.fixture(params=WAYS)
def lab(request, chromium, site):
    with opened(chromium, site, request.param) as seen:
        yield seen


def test_who_comes_to_train_finds_it_training(chromium, site):
    """By the first page's "Train one now"; a link to the heading starts nothing."""
    with visit(chromium, f"{site}/lab.html#train-it-here") as seen:
        seen.page.wait_for_selector(f"{LAB}[data-state=idle]")
    with visit(chromium, f"{site}/intro.html") as seen:
        seen.page.get_by_role("link", name="Train one now").click()
        seen.page.wait_for_selector(f"{LAB}[data-state=running]")
        assert seen.errors == []


def slide(page, slider, value: str) -> None:
    """Move a slider by keyboard until it says `value`."""
    slider.focus()
    slider.press("Home")
    for _ in range(200):
        if slider.get_attribute("aria-valuetext") == value:
            return
        slider.press("ArrowRight")
    raise AssertionError(f"no stop says {value}")


def button(root, name: str):
    return root.get_by_role("button", name=name, exact=True)


def saved(page, root, path):
    """The run that Download gives."""
    with page.expect_download() as download:
        button(root, "Download").click()
    download.value.save_as(path)
    return load_run(path)


def test_the_quick_preset_groks_on_the_page_and_its_run_opens_in_python(
    chromium, site, tmp_path
):
    """It begins in the light on a desktop, and from a third on it goes on in the dark on a
    phone; what it has come to is looked at in both."""
    quick = TrainConfig(**PRESETS[QUICK]["config"])
    with opened(chromium, site, "light-desktop") as seen:
        page, root = seen.page, seen.root
        root.get_by_label("preset").select_option(QUICK)
        assert "get there by step 700" in root.locator(".lab-live-shows").inner_text()
        button(root, "Start").click()
        page.wait_for_function(f"() => {PROGRESS} > {quick.steps // 3}")
        for way in ("dark-phone", "light-desktop"):
            seen.turn(*WAYS[way])
            page.wait_for_selector(f"{LAB}[data-state=done]")
            assert page.evaluate(f"{SHOWN} === {quick.steps}"), way
            assert root.evaluate("(lab) => lab.scrollWidth <= lab.clientWidth + 1"), way
            run = saved(page, root, tmp_path / f"{way}.npz")
            assert TrainConfig(**run.config) == quick, way
            step = run.first_step("orbit_clean_accuracy")
            assert step is not None and step <= 700, way
            # and long before it does not
            assert run.history["orbit_clean_accuracy"][5] < 0.1, way
            assert seen.errors == [], way


def test_the_small_preset_does_what_its_sentence_says():
    """The rank falls first, and the new pairs come right long after: by lrdlib's own steps,
    which those of the page are held to above."""
    assert "the rank falls first" in PRESETS["small"]["shows"]
    ranks, clean = [], []
    for metrics in until_learnt(SMALL):
        ranks.append(float(metrics["qk_stable_rank"]))
        clean.append(float(metrics["orbit_clean_accuracy"]))
    fallen = next(i for i, rank in enumerate(ranks) if rank < 0.5 * ranks[0])
    learnt = next(i for i, accuracy in enumerate(clean) if accuracy > 0.5)
    assert 0 < 2 * fallen < learnt

    first = PRESETS["small"]["first"]["l2"]  # the strength that the page begins with
    trained, clean = [], []
    by = 300 // SMALL["eval_every"]
    under_l2 = until_learnt(SMALL | dict(rule="l2", weight_decay=first))
    for metrics in islice(under_l2, 2 * by + 1):
        trained.append(float(metrics["train_accuracy"]))
        clean.append(float(metrics["orbit_clean_accuracy"]))
    assert trained[by] > 0.95 and len(clean) == 2 * by + 1 and clean[-1] < 0.1


def until_learnt(fields: dict[str, Any]) -> Iterator[dict[str, torch.Tensor]]:
    """The metrics of a run's records, up to the first with 95% of the new pairs right."""
    for record in Training([TrainConfig(**fields)]):
        yield record.metrics
        if float(record.metrics["orbit_clean_accuracy"]) > 0.95:
            return
    raise AssertionError("it never gets there")


def test_sliders_act_while_it_trains_and_buttons_do_what_they_say(lab, tmp_path):
    page, root = lab.page, lab.root
    button(root, "Start").click()
    page.wait_for_selector(f"{LAB}[data-state=running]")
    button(root, "Pause").click()
    page.wait_for_selector(f"{LAB}[data-state=paused]")
    page.wait_for_timeout(300)  # for the step that was under way
    page.wait_for_function(f"() => {PROGRESS} === {SHOWN}")  # it shows where it stands
    before = root.locator(".lab-live-progress").inner_text()
    page.wait_for_timeout(300)
    assert root.locator(".lab-live-progress").inner_text() == before
    button(root, "Step").click()
    page.wait_for_function(
        f"(old) => document.querySelector('{LAB} .lab-live-progress').innerText !== old",
        arg=before,
    )
    slide(page, root.get_by_label("strength λ"), "0.05")
    # a slider tells at most every 60 ms, and its last value last
    root.locator(".lab-live-changed", has_text="λ = 0.05.").wait_for()
    paused = int(root.locator(".lab-live-progress").inner_text().split()[1])
    button(root, "Resume").click()
    page.wait_for_function(f"(step) => {PROGRESS} > step", arg=paused)
    button(root, "Stop").click()
    page.wait_for_selector(f"{LAB}[data-state=stopped]")
    changes = json.loads(saved(page, root, tmp_path / "run.npz").provenance["changes"])
    assert [change["weight_decay"] for change in changes] == [0.05] and changes[0][
        "step"
    ] > 0
    said = page.locator(f"{LAB} .lab-live-changed").inner_text()
    assert said == f"Changed after step {changes[0]['step']}: λ = 0.05."
    button(root, "Reset").click()
    page.wait_for_selector(f"{LAB}[data-state=idle]")
    assert lab.errors == []


def test_the_keyboard_keeps_its_place_and_reset_forgets(lab):
    page, root = lab.page, lab.root
    focused = "document.activeElement.textContent"
    strength = root.get_by_label("strength λ")
    begun = strength.get_attribute("aria-valuetext")
    for name, state in (("Start", "running"), ("Stop", "stopped"), ("Reset", "idle")):
        if state == "stopped":
            slide(page, strength, "0.03")
        button(root, name).focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(f"{LAB}[data-state={state}]")
        assert page.evaluate(focused) in (name, "Start again")
        page.keyboard.press("Enter")  # what may not act now does nothing
        page.wait_for_timeout(100)
        assert root.get_attribute("data-state") == state
    assert strength.get_attribute("aria-valuetext") == begun
    assert lab.errors == []


def test_a_slider_moved_while_it_loads_is_obeyed(lab, tmp_path):
    page, root = lab.page, lab.root
    held: list[Any] = []
    page.context.route("**/small*.onnx", lambda route: held.append(route))
    button(root, "Start").click()
    slide(page, root.get_by_label("strength λ"), "0.05")
    assert root.get_attribute("data-state") == "loading"
    page.context.unroute("**/small*.onnx")
    for route in held:
        route.continue_()
    page.wait_for_function(
        f"() => document.querySelector('{LAB} .lab-live-changed').textContent.includes('λ "
        "= 0.05')"
    )
    page.wait_for_function(
        f"() => document.querySelector('{LAB} .lab-live-progress').textContent.includes(' "
        "left')"
    )
    button(root, "Stop").click()
    page.wait_for_selector(f"{LAB}[data-state=stopped]")
    (change,) = json.loads(saved(page, root, tmp_path / "run.npz").provenance["changes"])
    assert change["weight_decay"] == 0.05
    assert lab.errors == []


def test_an_earlier_record_stays_until_the_latest_is_asked_for(lab):
    page, root = lab.page, lab.root
    button(root, "Start").click()
    scrub, value = (
        root.get_by_label("shown step"),
        "() => document.querySelector('.lab-live-scrub .lab-value').textContent",
    )
    page.wait_for_function(f"Number(({value})()) >= 50")
    scrub.press("Home")
    page.wait_for_function(
        f"() => Number(document.querySelector('{LAB} .lab-live-scrub input').max) > 3",
    )
    assert page.evaluate(value) == "0"
    button(root, "latest").click()
    assert int(page.evaluate(value)) >= 75
    button(root, "Reset").click()
    assert lab.errors == []


def test_a_seed_that_cannot_be_is_made_one_that_can(lab):
    for typed, taken in (
        ("-1", "0"),
        ("1.5", "1"),
        ("99999999999", "4294967295"),
        ("", "0"),
    ):
        lab.root.get_by_label("seed").fill(typed)
        lab.root.get_by_label("seed").press("Tab")
        assert lab.root.get_by_label("seed").input_value() == taken


def test_a_rule_offers_strengths_that_its_weights_last_under(lab):
    strength = lab.root.get_by_label("strength λ")
    for rule, most in (("l2", "100"), ("lrd", "0.3"), ("elastic", "0.3")):
        lab.root.get_by_label("rule").select_option(rule)
        strength.press("End")
        assert strength.get_attribute("aria-valuetext") == most


def test_the_lab_says_how_much_it_loads():
    """ENGINES in worker.js: the engine with the larger of the presets."""
    graphs = max(
        sum(path.stat().st_size for path in FOLDER.glob(f"{name}-*"))
        for name in all_presets()
    )
    for engine, file in (
        ("wasm", "ort-wasm-simd-threaded.wasm"),
        ("webgpu", "ort-wasm-simd-threaded.asyncify.wasm"),
    ):
        said = re.search(
            rf"{engine}: {{.*megabytes: (\d+)",
            STATIC.joinpath("worker.js").read_text(encoding="utf-8"),
        )
        size = (HTML / "vendor/ort" / file).stat().st_size + graphs
        assert said is not None and int(said[1]) == pytest.approx(size / 1e6, abs=1)


def test_it_rests_while_the_tab_is_hidden(lab):
    page, root = lab.page, lab.root
    button(root, "Start").click()
    page.wait_for_selector(f"{LAB}[data-state=running]")
    hide = """(value) => {
        Object.defineProperty(document, "hidden", {value, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.wait_for_selector(f"{LAB}[data-state=paused]")
    assert "hidden" in root.get_by_role("status").first.inner_text()
    page.evaluate(hide, False)
    page.wait_for_selector(f"{LAB}[data-state=running]")
    assert lab.errors == []
