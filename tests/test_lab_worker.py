"""Commands to the lab's worker and questions to it that come faster than it works: worker.js
around a run each of whose steps waits until it may be taken, and the page that asks it. What
a run is: tests/test_lab_train.py."""

import pytest

pytest.importorskip("playwright.sync_api")

from waiting import PATIENCE_MS

from lrdlib.lab.script import STATIC

# What worker.js has around it. told: what it says; steps: those that wait; kept: runs.
AROUND = """
    const [told, steps, kept] = [[], [], []];
    const self = {
        location: {hash: "", toString: () => "http://here/lab/worker.js"},
        postMessage: (said) => told.push(said),
    };
    class Told extends Error {}
    const fetchWhole = async () => new Uint8Array();
    const jsonOf = () => ({});
    const importScripts = () => {};
    const ort = {env: {wasm: {}}};
    const keepRun = async ({name}) => kept.push(name);
    const keptRuns = async () => [];
    const openRun = (file) => ({file});
    const makeRun = (description, graphs, config) => {
        const run = {config, steps: 0, records: [], changes: [], begun: 0};
        run.follow = () => false;
        run.file = () => null;
        run.update = async () => {
            await new Promise((resolve) => steps.push(resolve));
            run.steps += 1;
            return 1;
        };
        run.measure = async () => {
            run.records.push({step: run.steps});
            return {step: run.steps};
        };
        run.ask = async (row) => ({row});
        return run;
    };
"""
HERE = "(source) => { window.lab = new Function(source)(); }"
TELL = "(all) => all.forEach((data) => void lab.self.onmessage({data}))"
REST = """async () => {
    for (let i = 0; i < 9; i += 1)
        await new Promise((done) => {
            const {port1, port2} = new MessageChannel();
            port1.onmessage = done;
            port2.postMessage(null);
        });
}"""
CONFIG = {"task": "add", "rule": "lrd", "seed": 0, "steps": 20, "eval_every": 5}


class Worker:
    """The worker as the page sees it, with a run that trains."""

    def __init__(self, page) -> None:
        self.page = page
        source = (STATIC / "worker.js").read_text(encoding="utf-8")
        page.evaluate(
            HERE, f"{AROUND}{source}\nwork();\nreturn {{told, steps, kept, self}};"
        )
        self.tell("start", folder="x", preset="small", config=CONFIG)
        page.wait_for_function("lab.steps.length === 1")

    def tell(self, *commands: str, **values) -> None:
        """These commands, one upon another, and what they do at once."""
        self.page.evaluate(TELL, [{"do": do, "number": 1} | values for do in commands])
        self.page.evaluate(REST)

    def take(self, count: int = 1) -> None:
        """So many steps, one after another, and what follows from each."""
        for _ in range(count):
            self.page.wait_for_function("lab.steps.length === 1")
            self.page.evaluate("lab.steps.pop()()")
            self.page.evaluate(REST)

    def said(self, event: str, key: str) -> list:
        said = "([event, key]) => lab.told.filter((one) => one.event === event)"
        return self.page.evaluate(f"{said}.map((one) => one[key])", [event, key])

    @property
    def waiting(self) -> int:
        """How many steps wait to be taken."""
        return self.page.evaluate("lab.steps.length")

    @property
    def state(self) -> str:
        return self.said("status", "state")[-1]


@pytest.fixture(scope="module")
def page(chromium):
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE_MS)
    return page


@pytest.fixture
def worker(page) -> Worker:
    return Worker(page)


def test_two_quick_steps_are_two_steps(worker):
    """One after the other: a file whose steps do not rise is refused."""
    worker.take(5)
    worker.tell("step", "step")
    assert worker.waiting == 1
    worker.take()  # that of the run itself, which shows where it stands then
    worker.take(2)
    assert worker.state == "paused" and worker.waiting == 0
    assert worker.said("record", "step") == [0, 5, 6, 7, 8]


def test_what_is_stopped_in_a_step_stays_stopped_and_is_kept(worker):
    worker.tell("pause")
    worker.take()
    worker.tell("step")
    worker.tell("stop")
    assert worker.state == "stopped"
    worker.take()
    assert worker.state == "stopped" and worker.said("record", "step") == [0, 1, 2]
    assert worker.page.evaluate("lab.kept.at(-1)") == "add, lrd, seed 0, 2 steps"
    assert worker.waiting == 0


@pytest.mark.parametrize("command", ["step", "resume", "pause"])
@pytest.mark.parametrize("left", ["stop", "reset"])
def test_what_comes_after_the_end_does_nothing(worker, left, command):
    worker.tell("pause", command, left, command)
    said = worker.said("status", "state")
    worker.take()
    assert worker.said("status", "state") == said and worker.waiting == 0
    worker.tell("start", folder="x", preset="small", config=CONFIG)  # another can begin
    worker.take()
    assert worker.state == "running"


def test_the_last_word_on_pausing_holds(worker):
    worker.tell("pause", "resume", "resume", "pause")
    worker.take()
    assert worker.state == "paused" and worker.waiting == 0
    worker.tell("resume", "resume")
    worker.take(3)
    worker.tell("pause")
    worker.take()
    assert worker.state == "paused" and worker.waiting == 0
    worker.tell("step", "resume")
    worker.take(2)
    assert worker.state == "running" and worker.waiting == 1
    steps = worker.said("record", "step")
    assert steps == sorted(set(steps))


def test_an_answer_names_its_question(worker):
    """What takes longer may be asked for first."""
    worker.tell("ask", row=7, question=1)  # it waits for the step
    worker.tell("open", bytes=[5], question=2)
    worker.take()
    found = worker.page.evaluate("lab.told.filter(({event}) => event === 'answer')")
    assert [(one["to"], one.get("row"), one.get("file")) for one in found] == [
        (2, None, [5]),
        (1, 7, None),
    ]


# ---- the page's side

# A page that asks a worker of the test's own: `sent` is what it was told, `answer` says.
ASKING = """
    const sent = [];
    let worker = null;
    class Worker {
        constructor() { worker = this; }
        terminate() {}
        postMessage(message) { sent.push(message); }
    }
    const answer = ({question}, content, event = "answer") =>
        worker.onmessage({data: {event, to: question, ...content}});
"""
PARTS = ("dom.js", "files.js", "ask.js", "page.js")
ASK = """
    const {ask} = pageLine("http://here/", {hear: () => {}, fail: () => {}});
    const root = element("div");
    const said = [];
    const asking = makeAsk(root, (row) => ask("ask", {row}), (words) => said.push(words));
    asking.ready({down: 50, across: 50});
    root.append(asking.node);
    const put = (a, b) => root.dispatchEvent(new CustomEvent("lrd:pair", {detail: {a, b}}));
    return {sent, answer, root, said, asking, put};
"""
REPLY = "([i, label]) => lab.answer(lab.sent[i], {answers, label, trained: true, step: 5})"


@pytest.fixture
def asking(page):
    """Questions to a network by a page whose worker is the test's."""
    parts = [(STATIC / name).read_text(encoding="utf-8") for name in PARTS]
    page.evaluate(HERE, "\n".join((ASKING, *parts, ASK)))
    page.evaluate("window.answers = [{value: 50, share: 1}]")
    return page


def told(page) -> str:
    """What the form says, once all that can happen has happened."""
    page.evaluate(REST)
    return page.evaluate("lab.root.querySelector('.lab-answer').textContent")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in turn", "late"])
def test_of_two_quick_questions_the_last_is_answered(asking, order):
    asking.evaluate("lab.put(1, 2); lab.put(20, 30)")
    assert asking.evaluate("lab.sent.map(({row}) => row)") == [52, 1030]
    for i in order:
        asking.evaluate(REPLY, [i, (3, 50)[i]])
        asking.evaluate(REST)
    assert told(asking).startswith("At step 5 it answers 50 to (20, 30): right.")


def test_a_pair_that_is_typed_meanwhile_is_not_the_one_that_was_asked(asking):
    asking.evaluate("lab.put(1, 2)")
    asking.evaluate("lab.root.querySelector('input').value = 9")
    asking.evaluate(REPLY, [0, 3])
    assert told(asking).startswith("At step 5 it answers 50 to (1, 2): wrong, 3 is right.")


def test_a_network_that_is_gone_answers_nothing_and_fails_at_nothing(asking):
    asking.evaluate("lab.put(1, 2); lab.put(3, 4); lab.asking.ready(null)")
    asking.evaluate(REPLY, [0, 3])
    asking.evaluate("lab.answer(lab.sent[1], {message: 'no run'}, 'refused')")
    assert told(asking) == "" and asking.evaluate("lab.said") == []
