"""The lab in the kernel: the thread that trains, the messages of the widget, and both in a
real Jupyter in Chromium."""

import builtins
import importlib
import json
import sys
import threading
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

pytest.importorskip("ipywidgets")

from waiting import PATIENCE, wait_for

from lrdlib.lab.plain import PlainLab, drawing, figures
from lrdlib.lab.presets import all_presets
from lrdlib.lab.seen import sentence
from lrdlib.lab.thread import Trainer
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import load_run, runs_of
from lrdlib.training.train import Training

TINY = TrainConfig(
    p=7,
    d_model=16,
    heads=2,
    layers=1,
    batch_size=16,
    steps=12,
    eval_every=4,
    lr=3e-3,
    weight_decay=0.02,
)
ENDLESS = replace(TINY, steps=10**6, eval_every=5)


class Told(list):
    """Listens to a trainer and keeps (event, content); `until` waits for one of them."""

    def __init__(self):
        self.news = threading.Condition()

    def __call__(self, event, content):
        with self.news:
            self.append((event, content))
            self.news.notify_all()

    def until(self, wanted):
        """The first content that `wanted(event, content)` takes."""
        with self.news:
            assert self.news.wait_for(
                lambda: any(wanted(*item) for item in self), PATIENCE
            ), self[-3:]
            return next(content for event, content in self if wanted(event, content))

    def state(self, name):
        return self.until(
            lambda event, content: event == "status" and content["state"] == name
        )

    def records(self, n):
        self.until(lambda *_: sum(event == "record" for event, _ in self) >= n)
        return [content for event, content in self if event == "record"]


@pytest.fixture
def made():
    """A maker of (trainer, told), all of which are stopped at the end."""
    trainers = []

    def make(**options):
        told = Told()
        trainers.append(Trainer(told, **options))
        return trainers[-1], told

    yield make
    for trainer in trainers:
        trainer.stop()


def reference(config, changes, steps):
    """The Training of `config` after `steps`, with Training.set as `changes` say: what the
    thread must have done."""
    training = Training([config])
    next(training)
    due = {
        change["step"]: {k: v for k, v in change.items() if k != "step"}
        for change in changes
    }
    while training.step < steps:
        training.set(**due.get(training.step, {}))
        if (training.step + 1) % config.eval_every and training.step + 1 < config.steps:
            training.update()
        else:
            next(training)
    return training


def assert_same_run(run, expected):
    for group in ("history", "spectra", "weights", "fourier"):
        found, wanted = getattr(run, group), getattr(expected, group)
        assert set(found) == set(wanted)
        for name in found:
            np.testing.assert_array_equal(
                found[name], wanted[name], err_msg=f"{group}/{name}"
            )


# --- the thread
# ----------------------------------------------------------------------------------------


def test_a_run_in_the_thread_is_the_run_of_train(made):
    trainer, told = made()
    trainer.start(TINY)
    assert trainer.wait(PATIENCE) == "done"
    assert_same_run(trainer.run, runs_of(reference(TINY, [], TINY.steps))[0])
    assert "changes" not in trainer.run.provenance
    assert [event for event, _ in told].count("record") == 4 and told[-1][1][
        "state"
    ] == "done"


def test_what_is_seen_is_what_is_recorded(made):
    trainer, told = made()
    trainer.start(TINY)
    trainer.wait(PATIENCE)
    for i, seen in enumerate(told.records(4)):
        assert seen.step == trainer.run.history["step"][i] and seen.run == 1
        for name, value in seen.metrics.items():
            np.testing.assert_equal(value, float(trainer.run.history[name][i]))
        for name, S in seen.spectra.items():
            np.testing.assert_array_equal(S, trainer.run.spectra[name][i])
        np.testing.assert_array_equal(seen.fourier, trainer.run.fourier["embedding"][i])
    Q, K = (trainer.run.weights[name] for name in ("0.query", "0.key"))
    np.testing.assert_allclose(
        seen.pattern, Q.T @ K, rtol=1e-4, atol=1e-6
    )  # float32, in another order


def test_sliders_act_while_it_trains_and_are_noted(made):
    """Two moves at steps of the thread's own choosing; a Training with the same changes is
    the same run, to the bit."""
    trainer, told = made()
    trainer.start(ENDLESS)
    told.records(3)
    trainer.set(weight_decay=0.5, lr=1e-2)
    told.records(6)
    trainer.set(rule="l2", weight_decay=3.0)
    told.records(9)
    trainer.stop()
    run = trainer.run
    changes = json.loads(run.provenance["changes"])
    assert [{k: v for k, v in change.items() if k != "step"} for change in changes] == [
        {"weight_decay": 0.5, "lr": 1e-2},
        {"rule": "l2", "weight_decay": 3.0},
    ]
    assert run.config["weight_decay"] == TINY.weight_decay and run.config["rule"] == "lrd"
    assert_same_run(run, runs_of(reference(ENDLESS, changes, trainer.training.step))[0])
    assert changes[0]["step"] < changes[1]["step"] <= run.history["step"][-1]


def test_the_record_after_a_move_has_obeyed(made):
    trainer, told = made()
    trainer.start(ENDLESS)
    before = told.records(3)[-1]
    trainer.set(
        rule="l2", weight_decay=300.0
    )  # takes lr * 300 = 0.9 of every weight, each step
    after = told.records(len(trainer.seen) + 2)[-1]
    assert float(after.spectra["0.query"][0]) < 0.1 * float(before.spectra["0.query"][0])


def paused_early(made):
    """A trainer that stands still after its second record, what it has told, and its
    step."""
    trainer, told = made()
    trainer.start(ENDLESS)
    told.records(2)
    trainer.pause()
    return trainer, told, told.state("paused")["step"]


def test_pause_step_and_resume(made):
    trainer, told, at = paused_early(made)
    time.sleep(0.1)
    assert trainer.training.step == at
    seen = len(trainer.seen)
    trainer.step()
    told.until(lambda event, content: event == "record" and content.step == at + 1)
    assert (
        trainer.state == "paused"
        and trainer.training.step == at + 1
        and len(trainer.seen) == seen + 1
    )
    recorded = trainer.run.history["step"].tolist()
    assert recorded == [
        step for step in range(at + 2) if step % 5 == 0
    ]  # a single step is shown, and not recorded
    trainer.resume()
    told.records(seen + 3)
    assert trainer.state == "running"


def test_a_move_while_it_stands_still_holds_for_the_next_step(made):
    trainer, told, at = paused_early(made)
    trainer.set(weight_decay=0.3)
    assert trainer.live.weight_decay == 0.3
    trainer.step()
    told.until(lambda event, content: event == "record" and content.step == at + 1)
    trainer.stop()
    assert json.loads(trainer.run.provenance["changes"]) == [
        {"step": at, "weight_decay": 0.3}
    ]


def test_stop_ends_the_thread_within_a_step(made):
    trainer, told = made()
    trainer.start(ENDLESS)
    told.records(2)
    trainer.stop()
    at = trainer.training.step
    assert trainer.state == "stopped" and not trainer._thread.is_alive()
    assert trainer.run.history["step"][-1] <= at
    told.state("stopped")
    time.sleep(0.05)
    assert trainer.training.step == at


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
def test_a_second_start_stops_the_first(made, paused):
    trainer, told = made()
    trainer.start(ENDLESS)
    told.records(2)
    if paused:
        trainer.pause()
        told.state("paused")
    first = trainer._thread
    trainer.start(TINY)
    assert not first.is_alive()
    assert trainer.wait(PATIENCE) == "done" and trainer.number == 2
    assert_same_run(trainer.run, runs_of(reference(TINY, [], TINY.steps))[0])
    numbers = [content.run for event, content in told if event == "record"]
    assert numbers == sorted(numbers) and set(numbers) == {1, 2}


def test_two_trainers_do_not_disturb_each_other(made):
    (one, _), (two, told) = made(), made()
    one.start(TINY)
    two.start(replace(TINY, seed=1))
    assert one.wait(PATIENCE) == two.wait(PATIENCE) == "done"
    for trainer in (one, two):
        config = trainer.training.configs[0]
        assert_same_run(trainer.run, runs_of(reference(config, [], TINY.steps))[0])
    assert {content.run for event, content in told if event == "record"} == {1}


def test_reset_forgets_the_run(made):
    trainer, told = made()
    trainer.start(ENDLESS)
    told.records(1)
    trainer.reset()
    assert trainer.state == "idle" and trainer.seen == [] and trainer.live is None
    with pytest.raises(RuntimeError, match="there is no run yet"):
        _ = trainer.run


def test_the_run_can_be_taken_while_it_trains(made):
    trainer, told = made()
    trainer.start(ENDLESS)
    lengths = []
    for n in (2, 4, 6):
        told.records(n)
        run = trainer.run
        assert len(run.history["step"]) == len(run.spectra["0.query"]) >= n
        lengths.append(len(run.history["step"]))
    assert lengths == sorted(lengths) and trainer.state == "running"


@pytest.mark.parametrize(
    "config, word",
    [
        ({"fraction": 0.999}, "fraction must leave both parts"),
        ({"p": 8, "task": "div"}, "p must be prime"),
    ],
)
def test_a_config_that_cannot_be_trained_leaves_the_run_alone(made, config, word):
    trainer, told = made()
    trainer.start(ENDLESS)
    with pytest.raises(ValueError, match=word):
        trainer.start(replace(TINY, **config))
    told.records(len(trainer.seen) + 2)
    assert trainer.state == "running" and trainer.number == 1


def test_a_bad_value_is_refused_and_changes_nothing(made):
    trainer, told = made()
    trainer.start(ENDLESS)
    for values, word in (
        ({"weight_decay": -1}, "weight_decay must"),
        ({"rule": "none", "l2": 1.0}, "l2 must be 0"),
        ({"seed": 1}, "only rule, weight_decay, l2, lr, .* can be set"),
    ):
        with pytest.raises(ValueError, match=word):
            trainer.set(**values)
    told.records(len(trainer.seen) + 2)
    assert trainer.live == ENDLESS and "changes" not in trainer.run.provenance


@pytest.mark.parametrize("command", ["set", "pause", "resume", "step"])
def test_what_needs_a_run_says_so(made, command):
    trainer, _ = made()
    for _ in range(2):  # before any run, and after one
        with pytest.raises(RuntimeError, match=f"nothing to {command}: no run is training"):
            getattr(trainer, command)()
        trainer.start(TINY)
        trainer.wait(PATIENCE)


def test_divergence_ends_the_run_with_a_sentence(made):
    trainer, told = made()
    trainer.start(ENDLESS)
    told.records(1)
    trainer.set(lr=1e30)
    assert trainer.wait(PATIENCE) == "failed"
    assert (
        trainer.message.startswith("It has diverged by step ")
        and "lower learning rate" in trainer.message
    )
    assert (
        trainer.run.history["step"][-1] == trainer.training.step
    )  # what there is can be looked at


def test_an_error_in_the_thread_is_its_message(made, monkeypatch):
    trainer, told = made()
    trainer.start(ENDLESS)
    told.records(1)

    def broken():
        raise torch.OutOfMemoryError("no memory left\nand a long tale")

    monkeypatch.setattr(trainer.training, "update", broken)
    assert (
        trainer.wait(PATIENCE) == "failed"
        and trainer.message == "OutOfMemoryError: no memory left"
    )
    trainer.start(TINY)
    assert trainer.wait(PATIENCE) == "done" and trainer.message == ""


def test_sentences():
    assert (
        sentence(RuntimeError()) == "RuntimeError"
        and sentence(TypeError("p must be an int")) == "p must be an int"
    )


# --- the widget, without a browser
# ----------------------------------------------------------------------------------------


@pytest.fixture
def lab():
    """A Lab whose messages go to lab.sent as (content, buffers)."""
    pytest.importorskip("anywidget")
    from lrdlib.lab import Lab

    lab = Lab(ENDLESS)
    lab.sent = []
    lab.send = lambda content, buffers=None: lab.sent.append((content, buffers))
    yield lab
    lab.stop()
    lab.close()


def ask(lab, command, **values):
    lab._receive(lab, {"do": command, "view": "v", **values}, [])


def events(lab, name):
    return [content for content, _ in list(lab.sent) if content["event"] == name]


def test_the_widget_trains_by_message(lab):
    ask(lab, "start", config=lab.presets["yours"]["config"])
    wait_for(lambda: len(events(lab, "record")) > 2)
    ask(lab, "set", values={"weight_decay": 0.5})
    assert events(lab, "config")[-1]["config"]["weight_decay"] == 0.5
    ask(lab, "stop")
    assert events(lab, "status")[-1]["state"] == lab.state == "stopped"
    message, buffers = next(
        (content, b) for content, b in lab.sent if content["event"] == "record"
    )
    json.dumps(message, allow_nan=False)  # the messages of Jupyter have no NaN
    assert message["metrics"]["grad_norm"] is None and message["run"] == 1
    spectrum, pattern = (
        np.frombuffer(buffers[0], np.float32),
        np.frombuffer(buffers[-1], np.float32),
    )
    np.testing.assert_array_equal(spectrum, lab.run.spectra[message["spectra"][0]][0])
    assert (
        pattern.shape == (message["size"] ** 2,) == (16 * 16,)
        and len(buffers) == len(message["spectra"]) + 2
    )


@pytest.mark.parametrize(
    "command, values, word",
    [
        ("start", {"config": {"p": 1}}, "p must be an integer >= 2"),
        ("start", {"config": {"tempo": 1}}, "tempo"),
        ("start", {}, "config"),
        ("set", {"values": {"lr": 1e-3}}, "there is nothing to set"),
        ("download", {}, "there is no run yet"),
    ],
)
def test_what_is_refused_is_answered_in_a_sentence(lab, command, values, word):
    ask(lab, command, **values)
    content, _ = lab.sent[-1]
    assert (
        content["event"] == "refused"
        and content["to"] == "v"
        and word in content["message"]
    )
    assert "\n" not in content["message"] and lab.state == "idle"
    assert content["of"] == command


def test_a_new_view_is_shown_all_that_has_happened(lab):
    lab.start(TINY)
    lab.wait(PATIENCE)
    lab.sent.clear()
    ask(lab, "hello")
    assert [content["event"] for content, _ in lab.sent] == [
        "config",
        *["record"] * 4,
        "status",
    ]
    assert all(content["to"] == "v" for content, _ in lab.sent)
    assert [content["step"] for content in events(lab, "record")] == [0, 4, 8, 12]


def test_it_pauses_while_nobody_looks(lab):
    ask(lab, "hello")
    lab.start()
    ask(lab, "bye")
    wait_for(lambda: lab.state == "paused")
    ask(lab, "hello")
    wait_for(lambda: lab.state == "running")
    lab.pause()  # by hand: a new view does not set it going
    wait_for(lambda: lab.state == "paused")
    ask(lab, "bye")
    ask(lab, "hello")
    time.sleep(0.1)
    assert lab.state == "paused"


def test_the_file_is_the_run(lab, tmp_path):
    lab.start(TINY)
    lab.wait(PATIENCE)
    ask(lab, "download")
    path = tmp_path / "run.npz"
    path.write_bytes(lab.sent[-1][1][0])
    assert_same_run(load_run(path), lab.run)
    assert "changes" not in load_run(path).provenance


def test_sends_from_the_thread_go_through_the_kernel_s_loop(lab):
    """A comm is not to be used from another thread than a loop's."""
    import asyncio

    senders = []

    async def cell():
        lab.send = lambda content, buffers=None: senders.append(threading.current_thread())
        ask(lab, "start", config=lab.presets["yours"]["config"])
        while len(senders) < 8:
            await asyncio.sleep(0.01)
        lab.stop()

    asyncio.run(asyncio.wait_for(cell(), PATIENCE))
    assert set(senders) == {threading.current_thread()}


def test_the_script_of_the_widget_exports_render(lab):
    assert lab._esm.rstrip().endswith("export default { render };")
    assert "const render" in lab._esm and ".lab-live" in lab._css


def test_presets_can_be_trained():
    for preset in all_presets(TINY).values():
        config = TrainConfig(**preset["config"])
        assert next(Training([replace(config, batch_size=8)])).step == 0


# --- plain widgets
# ----------------------------------------------------------------------------------------


@pytest.fixture
def plain():
    lab = PlainLab(ENDLESS)
    yield lab
    lab.stop()


def test_the_plain_lab_trains_by_its_buttons_and_sliders(plain):
    controls, buttons = plain._controls, plain._buttons
    controls["seed"].value = 3
    buttons["start"].click()
    wait_for(lambda: len(plain.trainer.seen) > 2)
    assert plain.trainer.training.configs[0] == replace(ENDLESS, seed=3)
    controls["weight_decay"].value = 0.5
    controls["rule"].value = "l2"
    wait_for(lambda: plain.trainer.training.live[0].rule == "l2")
    assert plain.trainer.training.live[0].weight_decay == 1.0  # L2's own
    controls["rule"].value = "lrd"
    wait_for(lambda: plain.trainer.training.live[0].rule == "lrd")
    assert plain.trainer.training.live[0].weight_decay == 0.5
    buttons["pause"].click()
    wait_for(lambda: plain.state == "paused" and buttons["pause"].description == "Resume")
    buttons["pause"].click()
    wait_for(lambda: plain.state == "running")
    buttons["stop"].click()
    assert (
        plain.state == "stopped"
        and buttons["stop"].disabled
        and not controls["seed"].disabled
    )
    assert plain._figures.value.count("<svg") == 3 and "Stopped" in plain._status.value
    assert plain.run.config["seed"] == 3


# what a config may say and no control offers
UNOFFERED = (
    {"rule": "l2", "l2_on": "selected"},
    {"rule": "l2", "select": "qk", "l2_on": "all"},
    {"select": "attention"},
    {"select": "qk+mlp"},
)


@pytest.mark.parametrize("fields", UNOFFERED, ids=str)
def test_a_slider_of_the_plain_lab_moves_nothing_that_it_does_not_show(plain, fields):
    plain.start(replace(ENDLESS, lr=2e-3, **fields))
    wait_for(lambda: plain._controls["lr"].value == 2e-3 and not plain._obeying)
    plain._controls["lr"].value = 1e-2
    wait_for(lambda: plain.trainer.live.lr == 1e-2)
    for name, value in fields.items():
        assert getattr(plain.trainer.live, name) == value
    plain._controls["rule"].value = "proximal"  # which has none of it
    wait_for(lambda: plain.trainer.live.rule == "proximal")


def test_the_plain_lab_says_what_is_not_possible(plain):
    plain._controls["fraction"].value = 0.9
    plain.presets["yours"]["config"]["p"] = 2
    plain._press("start")
    assert "Not possible" in plain._status.value and plain.state == "idle"


def test_figures_of_nothing_and_of_nan():
    assert "No record yet" in figures([])
    text = drawing("a & b", [("x", "red", [0, 1, 2], [0.0, float("nan"), 1.0])])
    assert "nan" not in text and text.count("<line") == 1 and "a &amp; b: x 1" in text


def test_without_anywidget_lab_is_the_plain_one(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "anywidget":
            raise ModuleNotFoundError("No module named 'anywidget'", name="anywidget")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "lrdlib.lab.kernel", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert importlib.import_module("lrdlib.lab").Lab is PlainLab


# --- the widget in a browser, without a kernel (after what needs no loop in this thread)
# ----------------------------------------------------------------------------------------

# A view of the lab whose kernel is the test's: `sent` is what it was told, `say` answers.
VIEW = """([source, values]) => {
    const render = new Function(source.replace("export default { render };", "return render;"))();
    const sent = [];
    const heard = {};
    const model = {
        get: (name) => values[name],
        send: (message) => sent.push(message),
        on: (event, listener) => (heard[event] = listener),
    };
    document.body.replaceChildren();
    render({model, el: document.body});
    window.lab = {sent, say: (message) => heard["msg:custom"](message, [])};
}"""
LAST = "(name) => lab.sent.findLast((message) => message.do === name)"


@pytest.fixture(scope="module")
def view(chromium):
    """A maker of a page with a lab that begins with a config."""
    pytest.importorskip("anywidget")
    from waiting import PATIENCE_MS

    from lrdlib.lab import Lab

    page = chromium.new_page()
    page.set_default_timeout(PATIENCE_MS)

    def make(config):
        lab = Lab(config)
        values = {"presets": lab.presets, "rules": lab.rules, "device": "cpu"}
        lab.close()
        page.evaluate(VIEW, [lab._esm, values])
        return page

    return make


def assert_kept(told, fields):
    assert told | fields == told


@pytest.mark.parametrize("fields", UNOFFERED, ids=str)
def test_what_no_control_offers_is_started_as_it_was_given(view, fields):
    page = view(replace(TINY, **fields))
    page.get_by_role("button", name="Start").click()
    assert_kept(page.evaluate(LAST, "start")["config"], fields)


@pytest.mark.parametrize("fields", UNOFFERED, ids=str)
def test_a_slider_leaves_what_a_run_from_python_has(view, fields):
    page = view(TINY)
    told = {"event": "config", "run": 1, "config": asdict(replace(TINY, **fields))}
    page.evaluate("(message) => lab.say(message)", told)
    page.evaluate("lab.say({event: 'status', run: 1, state: 'running'})")
    page.get_by_label("learning rate").press("ArrowRight")
    assert_kept(page.evaluate(LAST, "set")["values"], fields)


def test_l2_acts_where_the_reader_says(view):
    """On other blocks than those it was given for, on those alone."""
    page = view(replace(TINY, rule="l2", weight_decay=1.0))
    page.get_by_text("Switches of an experiment").click()
    for choice, where in (("qk", "selected"), ("attention+mlp", "all")):
        page.get_by_label("where it acts").select_option(choice)
        page.get_by_role("button", name="Start").click()
        told = page.evaluate(LAST, "start")["config"]
        assert (told["select"], told["l2_on"]) == (choice, where)
    page.get_by_label("rule").select_option("lrd")
    page.get_by_role("button", name="Start").click()
    assert page.evaluate(LAST, "start")["config"]["l2_on"] == "all"


# --- in JupyterLab
# ----------------------------------------------------------------------------------------

CELL = """from lrdlib import TrainConfig
from lrdlib.lab import Lab
small = dict(p=11, d_model=16, heads=2, layers=1, batch_size=32)
lab = Lab(TrainConfig(**small, steps=1_000_000, eval_every=20))
lab"""
BUSY = """import time
before = lab.trainer.training.step
while lab.trainer.training.step == before:
    time.sleep(0.1)
print("it trains meanwhile")"""
CONTRASTS = """(lab) => {
    const notebook = getComputedStyle(document.querySelector(".jp-Notebook"));
    const page = luminance(rgb(notebook.backgroundColor));
    const ink = (e) => rgb(getComputedStyle(e)[e.closest("svg") ? "fill" : "color"]);
    const texts = "legend, label > span, h4, .lab-source, .lab-live-status, .xtick text";
    return [...lab.querySelectorAll(texts)].map((e) => contrast(luminance(ink(e)), page));
}"""


@pytest.fixture(scope="module")
def notebook_page(chromium, tmp_path_factory):
    """A notebook with two cells in a dark JupyterLab; requests that leave this machine are
    refused and noted."""
    pytest.importorskip("jupyterlab")
    pytest.importorskip("anywidget")
    from browser import DESKTOP, Visit
    from jupyter import jupyterlab, notebook, open_notebook

    folder = tmp_path_factory.mktemp("jupyter")
    (folder / "notebooks").mkdir()
    notebook(folder / "notebooks" / "lab.ipynb", CELL, BUSY)
    with jupyterlab(folder, "JupyterLab Dark") as address:
        context = chromium.new_context(viewport=DESKTOP, reduced_motion="reduce")
        seen = Visit(context.new_page())
        context.route("**/*", seen.stay_local)
        open_notebook(seen.page, address, "lab.ipynb")
        seen.watch()
        yield seen
        context.close()


def test_the_lab_in_jupyterlab(notebook_page, tmp_path):
    """Start, move a slider, see the next record obey; pause, stop, start again, and lose
    the kernel."""
    from browser import CONTRAST
    from jupyter import restart_kernel, run_cell

    page, lab = notebook_page.page, notebook_page.page.locator(".lab-live")

    def press(name):
        lab.get_by_role("button", name=name, exact=True).click()

    def state(name):
        page.wait_for_function(
            "(name) => document.querySelector('.lab-live')?.dataset.state === name",
            arg=name,
        )

    def shown():
        return int(
            lab.get_by_label("shown step")
            .get_attribute("aria-valuetext")
            .removeprefix("step ")
        )

    def record_after(step):
        page.wait_for_function(
            "(step) => Number(document.querySelector('.lab-live-scrub "
            ".lab-value').textContent) > step",
            arg=step,
        )

    run_cell(page, 0)
    state("idle")
    assert (
        lab.locator(".lab-source").inner_text() == "Training in the kernel by torch, on cpu"
    )
    press("Start")
    record_after(20)

    # a slider by keyboard, and the rule: noted at the very next step, and obeyed to the bit
    strength = lab.get_by_label("strength λ")
    strength.press("ArrowRight")
    strength.press("ArrowRight")
    assert strength.get_attribute("aria-valuetext") == "0.02"
    record_after(shown() + 20)
    lab.get_by_label("rule").select_option("l2")
    record_after(shown() + 20)

    # cells run meanwhile, and it trains while they do
    run_cell(page, 1)
    page.locator(".jp-OutputArea").get_by_text("it trains meanwhile").wait_for()

    press("Pause")
    state("paused")
    at = lab.locator(".lab-live-progress").inner_text()
    press("Step")
    page.wait_for_function(
        "(at) => document.querySelector('.lab-live-progress').textContent !== at", arg=at
    )
    assert lab.get_attribute("data-state") == "paused"
    press("Resume")
    state("running")
    press("Stop")
    state("stopped")

    with page.expect_download() as download:
        press("Download")
    download.value.save_as(tmp_path / "run.npz")
    run = load_run(tmp_path / "run.npz")
    changes = json.loads(run.provenance["changes"])
    assert [change.get("weight_decay") for change in changes][-2:] == [
        0.02,
        1.0,
    ] and changes[-1]["rule"] == "l2"
    last = int(run.history["step"][-1])
    again = reference(TrainConfig(**run.config), changes, last)
    for name, values in runs_of(again)[0].history.items():
        np.testing.assert_array_equal(run.history[name], values, err_msg=name)

    # it can be read in the dark, and on a phone nothing sticks out
    contrasts = lab.evaluate(CONTRASTS.replace("{", "{" + CONTRAST, 1))
    assert len(contrasts) > 20 and min(contrasts) >= 4.5  # WCAG 2.1 asks so much of text
    page.set_viewport_size({"width": 390, "height": 844})
    assert lab.evaluate("(lab) => lab.scrollWidth <= lab.clientWidth + 1")
    page.set_viewport_size({"width": 1280, "height": 900})

    press("Start again")
    state("running")
    record_after(20)

    restart_kernel(page)
    state("gone")
    status = lab.get_by_role("status").inner_text()
    assert status.startswith("The kernel of this lab is gone") and status.endswith(
        "Run the cell again."
    )
    assert lab.locator("button:not([aria-disabled=true])").count() == 0
    run_cell(page, 0)
    state("idle")
    assert notebook_page.errors == []
