"""Whether the labs keep up with the reader's hand on the built book's page, and what a page
weighs until it is read on, in Chromium.

    python benchmarks/pages.py      (after `make book` and `make chromium`)

Each figure is printed beside what it must reach; the exit code is 1 if one is missed. No
test asks for the times: on a machine that is busy with other things they say nothing.

move      from a move of the recorded lab's slider to the panels drawn again and laid out,
          18 of 20 moves; as a ratio to the plainest redraw, the same drawing given to the
          browser as one piece of HTML
lambda    from a move of λ to the picture drawn again and laid out, the median of 50 moves, on
          the first page and in the recorded lab, there over runs that it has loaded
choose    the longest task of the page's main thread while every control of the recorded
          lab is driven, in the best of three rounds (0: none is above 50 ms)
train     how many tasks of the main thread are above 50 ms while the small preset is trained
          in its worker, and the longest of them
weigh     what a page of the book loads, compressed by gzip, for a reader who opens it on a
          desktop and does nothing: the heaviest, of which none may be above 600 kB; in
          brackets without plotly, which loads when a reader goes for a figure. That one a
          test holds too, with less room (tests/test_site.py).

    python benchmarks/pages.py weigh        every page, and nothing else
"""

import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from browser import DESKTOP, HTML, launch, pages, serve, visit
from chromium import find

LIMIT = 600_000  # bytes of a first view
QUIET = 1000  # milliseconds in which a page would load what it has not yet
RECORDED, TRAIN = ".lrd-lab[data-lab=recorded]", ".lrd-lab[data-lab=train]"

MOVES = """async (lab) => {
    const input = lab.querySelector(".lab-transport input");
    const plots = lab.querySelector(".lab-plots");
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    const milliseconds = async (act) => {
        await frame();
        const start = performance.now();
        act();
        plots.getBoundingClientRect(); // with the layout that it causes
        return performance.now() - start;
    };
    const moves = [];
    for (let i = 0; i < 20; i += 1) {
        input.value = (7 * i + 7) % Number(input.max);
        moves.push(await milliseconds(() => input.dispatchEvent(new Event("input"))));
    }
    const copy = plots.cloneNode(true);
    plots.after(copy);
    const plain = [];
    for (let i = 0; i < 20; i += 1) {
        const drawing = plots.innerHTML;
        plain.push(await milliseconds(() => { copy.innerHTML = drawing; }));
    }
    copy.remove();
    return [moves, plain];
}"""
# λ of the first page: its picture is drawn with the event.
OPENING = """() => {
    const input = document.querySelector(".lrd-opening input");
    const moves = [];
    for (let i = 0; i < 50; i += 1) {
        input.value = (3 * i + 1) % (Number(input.max) + 1);
        const start = performance.now();
        input.dispatchEvent(new Event("input"));
        document.querySelector(".lrd-opening").getBoundingClientRect();
        moves.push(performance.now() - start);
    }
    return moves;
}"""
# λ of the recorded lab, every value once before it is measured: then its run is there.
STRENGTHS = """async (lab) => {
    const input = [...lab.querySelectorAll("input[type=range]")]
        .find((one) => one.offsetWidth && one.labels[0].innerText.trim().startsWith("λ"));
    const plots = lab.querySelector(".lab-plots");
    const shown = () => new Promise((done) => {
        const watch = new MutationObserver(() => {
            if (plots.getAttribute("aria-busy") === "true") return;
            watch.disconnect();
            done();
        });
        watch.observe(plots, {attributeFilter: ["aria-busy"]});
    });
    const stops = Number(input.max) + 1;
    const moves = [];
    for (let i = 0; i < stops + 50; i += 1) {
        input.value = i % stops;
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        const drawn = shown();
        const start = performance.now();
        input.dispatchEvent(new Event("input"));
        await drawn;
        plots.getBoundingClientRect();
        if (i >= stops) moves.push(performance.now() - start);
    }
    return moves;
}"""
TASKS = """() => {
    window.tasks = [];
    new PerformanceObserver((list) =>
        window.tasks.push(...list.getEntries().map(({duration}) => duration))
    ).observe({type: "longtask"});
}"""


@contextmanager
def opened(browser: Any, site: str, lab: str, state: str) -> Iterator[tuple[Any, Any]]:
    """(page, lab): the book's page of labs, with one of them in sight and in a state."""
    with visit(browser, f"{site}/lab.html") as seen:
        root = seen.page.locator(lab)
        root.scroll_into_view_if_needed()
        seen.page.wait_for_selector(f"{lab}[data-state={state}]")
        yield seen.page, root


def settled(root: Any) -> None:
    root.locator(".lab-plots[aria-busy=false]").wait_for()


def move(page: Any, root: Any) -> tuple[float, float]:
    """Milliseconds of the 18th of 20 moves, and of 20 plain redraws."""
    settled(root)
    moves, plain = root.evaluate(MOVES)
    return sorted(moves)[17], sorted(plain)[17]


def opening(page: Any) -> float:
    """Milliseconds of the median of 50 moves of λ on the first page."""
    return median(page.evaluate(OPENING))


def strengths(page: Any, root: Any) -> float:
    """Milliseconds of the median of 50 moves of λ in the recorded lab."""
    settled(root)
    return median(root.evaluate(STRENGTHS))


def choose(page: Any, root: Any) -> float:
    """Milliseconds of the longest task in the best of three rounds through the controls."""
    settled(root)
    page.evaluate(TASKS)
    longest = []
    for rule in ("L2", "LRD", "L2"):
        page.evaluate("window.tasks.length = 0")
        root.get_by_role("radio", name=rule).check()
        settled(root)
        for name in ("fraction", "λ", "training"):
            slider = root.get_by_role("slider", name=name, exact=True)
            for key in ("Home", "End"):
                slider.press(key)
                settled(root)
        longest.append(max(page.evaluate("window.tasks"), default=0.0))
    return min(longest)


def train(page: Any, root: Any) -> tuple[list[float], int]:
    """The milliseconds of each task above 50 ms while it trained, and how many records were
    drawn."""
    page.evaluate(TASKS)
    root.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_selector(f"{TRAIN}[data-state=running]")
    page.evaluate("window.tasks.length = 0")  # what loading takes is another matter
    page.wait_for_selector(f"{TRAIN}[data-state=done]")
    records = int(root.get_by_label("shown step").get_attribute("max")) + 1
    return page.evaluate("window.tasks"), records


def weigh(browser: Any, site: str, name: str) -> tuple[int, int]:
    """Bytes that a page loads in its first view, compressed; and how many are plotly's."""
    context = browser.new_context(viewport=DESKTOP, reduced_motion="reduce")
    page = context.new_page()
    answers: list[Any] = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(f"{site}/{name}", wait_until="networkidle")
    page.wait_for_timeout(QUIET)  # a busy machine is idle before it asks for plotly
    sizes = {answer.url: len(gzip.compress(answer.body())) for answer in list(answers)}
    context.close()
    return sum(sizes.values()), sum(n for url, n in sizes.items() if "/plotly/" in url)


def weigh_all(browser: Any, site: str, *, each: bool) -> bool:
    """The weight of every page: the heaviest, or each; whether none is too heavy."""
    found = {name: weigh(browser, site, name) for name in pages()}
    for name, (whole, plotly) in sorted(found.items(), key=lambda item: item[1]):
        if each:
            print(f"{name:28}{whole / 1e3:6.0f} kB ({(whole - plotly) / 1e3:.0f})")
    name, (whole, plotly) = max(found.items(), key=lambda item: item[1])
    figure = f"{name} {whole / 1e3:.0f} kB ({(whole - plotly) / 1e3:.0f})"
    return said("weigh", figure, f"below {LIMIT / 1e3:.0f} kB", whole < LIMIT)


def said(name: str, figure: str, limit: str, reached: bool) -> bool:
    print(f"{name:8}{figure:48}{limit:16}{'reached' if reached else 'MISSED'}", flush=True)
    return reached


def main() -> int:
    path = find()
    if path is None or not (HTML / "lab.html").exists():
        print("needs a Chromium and the book: make chromium book", file=sys.stderr)
        return 2
    if sys.argv[1:] == ["weigh"]:
        with serve() as site, launch(path) as browser:
            return 0 if weigh_all(browser, site, each=True) else 1
    print(f"{'':8}{'measured':48}must be")
    reached = []
    with serve() as site, launch(path) as browser:
        with opened(browser, site, RECORDED, "ready") as lab:
            ours, plain = move(*lab)
            figure = f"{ours:.1f} ms, {ours / plain:.1f} plain redraws of {plain:.1f} ms"
            reached.append(said("move", figure, "below 50 ms", ours < 50))
        with visit(browser, f"{site}/intro.html") as seen:
            first = opening(seen.page)
        with opened(browser, site, RECORDED, "ready") as lab:
            second = strengths(*lab)
            figure = f"{first:.1f} ms on the first page, {second:.1f} ms in the lab"
            reached.append(said("lambda", figure, "below 16 ms", max(first, second) < 16))
        with opened(browser, site, RECORDED, "ready") as lab:
            longest = choose(*lab)
            reached.append(
                said("choose", f"{longest:.0f} ms", "at most 100 ms", longest <= 100)
            )
        with opened(browser, site, TRAIN, "idle") as lab:
            slow, records = train(*lab)
            longest = max(slow, default=0)
            figure = f"{len(slow)} tasks, {longest:.0f} ms at most; {records} records"
            reached.append(said("train", figure, "none", not slow))
        reached.append(weigh_all(browser, site, each=False))
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
