"""The book as a site: what a finger, a printer, a slow line and a reader on a disk meet.

Build the book first (`make book`; `make test` does). tests/test_book.py reads every page
by mouse and keyboard.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

pytest.importorskip("playwright.sync_api")

from browser import CONTRAST, DESKTOP, HTML, PHONE, Quiet, pages, serve, visit
from playwright.sync_api import Locator, Page, expect
from waiting import PATIENCE_MS

if not (HTML / "index.html").exists():
    pytest.skip("the book is not built: run make book", allow_module_level=True)

PAGES = pages()
# the pages that most see, both ways; of the others every second one each way
BOTH = ("intro.html", "grokking.html", "lab.html", "studies.html", "recorded_runs.html")
FIGURES = [p for p in PAGES if 'class="lrd-plot"' in (HTML / p).read_text(encoding="utf-8")]
TABLET = {"width": 820, "height": 1180}


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with serve() as address:
        yield address


# ---- touch


RANGES = """(plot) => Object.entries(plot.layout)
    .filter(([name]) => /^[xy]axis/.test(name)).map(([name, {range}]) => [name, range])"""


@pytest.mark.parametrize("size", [PHONE, TABLET], ids=["phone", "tablet"])
def test_no_bar_of_icons_lies_over_a_figure_under_a_finger(chromium, site, size):
    """Where nothing can hover, plotly's bar would never go away; a finger that moves up on
    a figure scrolls the page, and one that taps leaves its axes as they are."""
    context = chromium.new_context(viewport=size, has_touch=True, is_mobile=True)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{site}/{FIGURES[0]}")
    assert page.evaluate("matchMedia('(hover: none)').matches"), "a device without a mouse"
    plot = page.locator(".lrd-plot").first
    plot.tap()  # until then it may be a still
    page.locator(".lrd-plot[data-drawn]").first.wait_for()
    assert page.locator(".modebar-btn").count() == 0
    assert plot.evaluate("plot => plot.layout.dragmode") is False
    before = plot.evaluate(RANGES)
    plot.tap()  # the second: the first may have been for the still
    page.wait_for_timeout(600)  # longer than plotly waits for a second click
    assert plot.evaluate(RANGES) == before
    context.close()


def test_the_first_tap_on_a_map_chooses_a_cell(chromium, site):
    """Not the second: what is tapped is a still, which the drawn map replaces."""
    size = PHONE | {"height": 4000}
    context = chromium.new_context(viewport=size, has_touch=True, is_mobile=True)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{site}/phase_diagram.html")
    figure = page.locator(".lrd-figure", has=page.locator(".lrd-plot")).first
    figure.locator(".lrd-still:visible").wait_for()
    assert page.evaluate("!window.Plotly")
    box = figure.locator(".lrd-plot").bounding_box()
    figure.locator(".lrd-plot").tap(position={"x": 0.4 * box["width"], "y": 200})
    figure.locator(".lrd-peek:visible strong").wait_for()
    chosen = figure.locator(".lrd-choice select")
    title = figure.locator(".lrd-peek strong").inner_text()
    assert chosen.nth(1).locator("option:checked").inner_text() in title
    context.close()


GROUND = """(bar) => [...bar.querySelectorAll(".modebar-group")]
    .map((group) => getComputedStyle(group).backgroundColor)"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_bar_of_icons_under_a_mouse_is_no_half_black_one(chromium, site, theme):
    with visit(chromium, f"{site}/{FIGURES[0]}", theme=theme) as seen:
        grounds = seen.page.locator(".modebar").first.evaluate(GROUND)
        surface = seen.page.evaluate(
            """() => {
                const probe = document.body.appendChild(document.createElement("i"));
                probe.style.background = "var(--pst-color-surface)";
                return getComputedStyle(probe).backgroundColor;
            }"""
        )
        assert grounds and set(grounds) == {surface}


# ---- paper

# What a figure is as the browser lays the page out for paper: this listener comes after the
# page's own.
ON_PAPER = """() => window.addEventListener("beforeprint", () => {
    window.printed = [...document.querySelectorAll(".lrd-plot")].map((plot) => ({
        drawn: Boolean(plot.querySelector("svg.main-svg")),
        width: plot.querySelector("svg.main-svg")?.getBoundingClientRect().width,
        inks: [...plot.querySelectorAll(":is(.xtick, .ytick, .legendtext) text")]
            .map((text) => getComputedStyle(text).fill),
        page: getComputedStyle(document.body).backgroundColor,
    }));
})"""


def first(mark: str) -> str:
    """The first page that holds this."""
    return next(p for p in FIGURES if mark in (HTML / p).read_text(encoding="utf-8"))


SLIDING = "scale_invariance.html"  # which begins with a figure that has a slider
# lines; lines under a slider; a phase diagram; 3-D traces
PRINTED = sorted({FIGURES[0], *map(first, ('"sliders"', '"phase"', '"scatter3d"'))})


@pytest.mark.parametrize("name", PRINTED)
def test_paper_has_every_figure_in_dark_ink(chromium, site, name):
    context = chromium.new_context(color_scheme="dark", viewport=DESKTOP)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{site}/{name}", wait_until="load")
    page.evaluate(ON_PAPER)
    page.pdf(width="210mm", height="297mm")
    printed = page.evaluate("window.printed")
    assert [figure["drawn"] for figure in printed] == [True] * len(printed)
    assert {figure["page"] for figure in printed} == {"rgb(255, 255, 255)"}
    assert {ink for figure in printed for ink in figure["inks"]} <= {"rgb(42, 47, 54)"}
    assert max(figure["width"] for figure in printed) <= 660
    # and the reader has the page back
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    assert errors == []
    context.close()


# ---- a page that was opened as a file


def test_from_a_disk_all_works_but_the_training_which_says_what_helps(chromium):
    context = chromium.new_context(viewport=DESKTOP)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("requestfailed", lambda r: errors.append(f"failed: {r.url}"))
    page.goto((HTML / "lab.html").as_uri())
    page.locator(".lrd-lab[data-lab=recorded][data-state=ready]").wait_for()
    said = page.locator(".lrd-lab[data-lab=train] p").inner_text()
    assert "make serve" in said and said.count(".") == 1, "one sentence, with the command"
    page.goto((HTML / FIGURES[0]).as_uri())
    page.locator(".lrd-plot").first.hover()
    page.locator(".lrd-plot[data-drawn]").first.wait_for()
    assert errors == []
    context.close()


# ---- nothing moves while a page is laid out, and it is light

SHIFTS = """
    window.shifts = [];
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries())
            if (!entry.hadRecentInput) window.shifts.push(entry.value);
    }).observe({type: "layout-shift", buffered: true});
"""
QUIET = 1000  # milliseconds in which a page that is still loading would have moved
HEAVY = "plotly-cartesian"  # loads when the reader goes for a figure
WAYS = {"light-desktop": ("light", DESKTOP), "dark-phone": ("dark", PHONE)}

# Words of links and buttons that stand out too little from what is behind them.
FAINT = f"""() => {{{CONTRAST}
    const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const ground = (e) => {{  // red, green and blue, through all clear layers
        if (!e) return [255, 255, 255];
        const [r, g, b, alpha = 1] = parts(getComputedStyle(e).backgroundColor);
        if (alpha === 1) return [r, g, b];
        return ground(e.parentElement).map((v, i) => alpha * [r, g, b][i] + (1 - alpha) * v);
    }};
    return [...document.querySelectorAll("main a, main .admonition p")]
        .filter((e) => e.offsetWidth && e.innerText.trim())
        .filter((e) => contrast(
            ...[rgb(getComputedStyle(e).color), ground(e)].map(luminance)) < 4.5)
        .map((e) => `${{e.innerText}} on ${{ground(e)}}`);
}}"""
# Code that is wider than its column, though folded code is unfolded.
WIDE = """() => {
    document.querySelectorAll("details").forEach((folded) => (folded.open = true));
    return [...document.querySelectorAll("main .cell_input pre")]
        .filter((pre) => pre.scrollWidth > pre.clientWidth + 1).map((pre) => pre.innerText);
}"""
# Folded code that stands between a picture and what is said before it.
BETWEEN = """() => [...document.querySelectorAll("main .cell details.hide")]
    .map((folded) => folded.closest(".cell"))
    .filter((cell) => cell.querySelector("details.hide + .cell_output .lrd-figure")
        || cell.nextElementSibling?.matches(".cell:has(.lrd-figure)")
            && !cell.matches(":has(~ .cell, .cell_output)"))
    .map((cell) => cell.innerText)"""


# Whether a figure shows the frame at which its slider is.
MOVED = """(figure) => {
    const plot = figure.querySelector(".lrd-plot");
    const {frames, layout} = JSON.parse(figure.querySelector("script").textContent);
    const at = figure.querySelector("input[type=range]").value;
    const frame = frames.find(({name}) => name === layout.sliders[0].steps[at].args[0][0]);
    return layout.sliders[0].active !== Number(at)
        && frame.data.every(({y}, n) => String(plot.data[frame.traces[n]].y) === String(y));
}"""


@dataclass
class FirstView:
    """What a reader gets who opens a page and leaves it alone."""

    name: str
    shift: float  # the sum of layout shifts
    weight: int  # the bytes that it loads, compressed
    plotly: bool  # whether plotly is among them
    found: dict[str, list[str]]  # what each of the scripts above found


VIEWS = [
    (page, way)
    for i, page in enumerate(PAGES)
    for j, way in enumerate(WAYS)
    if page in BOTH or (i + j) % 2 == 0
]


@pytest.fixture(scope="module", params=VIEWS, ids="-".join)
def first_view(request, chromium, site) -> FirstView:
    name, way = request.param
    theme, size = WAYS[way]
    context = chromium.new_context(
        viewport=size, color_scheme=theme, reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.add_init_script(SHIFTS)
    answers = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(f"{site}/{name}", wait_until="networkidle")
    page.wait_for_timeout(QUIET)
    shift = sum(page.evaluate("window.shifts"))
    sizes = {answer.url: len(gzip.compress(answer.body())) for answer in list(answers)}
    found = {
        what: page.evaluate(script)
        for what, script in {"faint": FAINT, "between": BETWEEN, "wide": WIDE}.items()
    }
    context.close()
    heavy = any(HEAVY in url for url in sizes)
    return FirstView(name, shift, sum(sizes.values()), heavy, found)


def test_nothing_moves_while_a_page_is_laid_out(first_view):
    assert first_view.shift < 0.1  # where a layout counts as stable: web.dev/cls


def test_a_page_is_light(first_view):
    """390 kB are two seconds on a slow phone line; plotly alone is 500."""
    assert first_view.weight < 390_000
    assert not first_view.plotly, "plotly loads when the reader goes for a figure"


def test_a_still_gives_way_to_its_figure_when_its_slider_is_moved(chromium, site):
    """The slider is there with the still, and its first move counts: by keyboard, without
    a scroll."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1800})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.goto(f"{site}/{SLIDING}")
    figure = page.locator(".lrd-figure:has(.lrd-plot)").first
    slider = figure.locator("input[type=range]")
    slider.wait_for()
    assert figure.locator(".lrd-still:visible svg text").count() > 5
    assert page.evaluate("!window.Plotly")
    before = figure.bounding_box()
    slider.press("ArrowRight")
    figure.locator(".lrd-plot[data-drawn]").wait_for()
    page.wait_for_function(MOVED, arg=figure.element_handle())
    assert figure.locator(".lrd-still").count() == 0
    assert figure.bounding_box() == before  # nothing jumps
    assert errors == []
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_the_script_of_a_picture_is_loaded_where_there_is_one(name):
    text = (HTML / name).read_text(encoding="utf-8")
    marks = ("lrd-clock", "lrd-drag", "lrd-opening")
    has = {mark[4:]: f'class="{mark}"' in text for mark in marks}
    has["phase"] = '"phase"' in text
    has["solid"] = '"scatter3d"' in text or '"mesh3d"' in text
    for script, there in has.items():
        assert len(re.findall(rf'src="_static/{script}\.js', text)) == there


@pytest.mark.parametrize("name", PAGES)
def test_one_file_is_loaded_before_a_page_is_seen(name):
    """Its style sheet: scripts are run when the page is there, but those in the page."""
    head = (HTML / name).read_text(encoding="utf-8").split("</head>")[0]
    if name == "404.html":
        return  # which needs no file at all
    assert len(re.findall("<link[^>]*stylesheet", head)) == 1
    scripts = re.findall(r"<script[^>]*\bsrc=[^>]*>", head)
    assert scripts and all(" defer " in script for script in scripts)
    assert 'rel="preload"' not in head


# Of each element, and of what stands before and after it, all that it is drawn with.
STYLES = """() => [...document.querySelectorAll("html, body, body *")].flatMap((node) =>
    [null, "::before", "::after"].map((part) => {
        const style = getComputedStyle(node, part);
        const keys = [...style].filter((key) => !key.startsWith("--"));
        const values = keys.map((key) => `${key}: ${style.getPropertyValue(key)}`);
        return part && style.content === "none" ? "" : values.join("; ");
    }))"""
# The sheets of which the page's one is made, in its place.
UNDRESS = """async (sheets) => {
    const one = document.querySelector('link[href*="book.css"]');
    const links = sheets.map((name) => {
        const link = document.createElement("link");
        return Object.assign(link, {rel: "stylesheet", href: `_static/${name}`});
    });
    const loaded = links.map((link) => new Promise((done) => { link.onload = done; }));
    one.before(...links);
    await Promise.all(loaded);
    one.remove();
}"""


@pytest.mark.parametrize(
    ("name", "way"), [("intro.html", "light-desktop"), ("sweeps.html", "dark-phone")]
)
def test_the_sheet_of_a_page_draws_it_as_all_its_sheets_would(chromium, site, name, way):
    theme, size = WAYS[way]
    said = (HTML / "_static" / "book.css").read_text(encoding="utf-8").split("*/")[0]
    sheets = re.findall(r"\S+\.css\b", said.split(" of ")[1])
    with visit(chromium, f"{site}/{name}", theme=theme, viewport=size) as seen:
        seen.page.add_style_tag(content="* { transition: none !important }")
        before = seen.page.evaluate(STYLES)
        seen.page.evaluate(UNDRESS, sheets)
        assert len(sheets) > 10 and seen.page.evaluate(STYLES) == before
        assert seen.errors == []


def test_links_can_be_read_in_boxes_too(first_view):
    assert first_view.found["faint"] == []


def test_code_is_as_wide_as_its_column(first_view):
    assert first_view.found["wide"] == []


def test_a_picture_comes_before_its_code(first_view):
    assert first_view.found["between"] == []


def test_a_drawn_figure_is_no_image_with_buttons_in_it(chromium, site):
    with visit(chromium, f"{site}/{FIGURES[0]}") as seen:
        plots = seen.page.locator(".lrd-plot")
        assert plots.count() and plots.locator("button, a, [tabindex]").count()
        assert seen.page.locator("[role=img] :is(button, a, [tabindex])").count() == 0
        assert all(plot.get_attribute("aria-label") for plot in plots.all())


def test_formulas_and_icons_need_no_script(chromium, site):
    context = chromium.new_context(viewport=DESKTOP, java_script_enabled=False)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{site}/notation.html")
    assert page.locator("main mjx-container").count() > 20
    assert page.locator("main .math:not(:has(mjx-container))").count() == 0
    box = page.locator("main mjx-container").first.bounding_box()
    assert 5 < box["height"] < 60 and box["width"] > 5
    page.goto(f"{site}/{SLIDING}")  # nor does the still of a figure
    box = page.locator(".lrd-still:visible svg path").first.bounding_box()
    assert box["height"] > 20 and box["width"] > 200
    context.close()


def test_a_formula_that_cannot_be_read_is_an_error(monkeypatch):
    monkeypatch.syspath_prepend(str(HTML.parents[1] / "book"))
    from formulas import Typesetter, aligned

    assert aligned("a = b") == "a = b"
    assert aligned("a \\\\ b") == r"\begin{split}a \\ b\end{split}"
    typesetter = Typesetter({"half": [r"\frac{#1}{2}", 1]})
    try:
        assert "<mfrac>" in typesetter.html(r"\half{x}", False)
        with pytest.raises(ValueError, match=r"Undefined control sequence \\nosuch"):
            typesetter.html(r"\nosuch", True)
        with pytest.raises(ValueError, match="missing close brace"):
            typesetter.html("a_{b", False)
        assert "MathJax_Main-Regular.woff" in typesetter.sheet()
    finally:
        typesetter.end()


# ---- where the reader is


def test_a_chapter_says_which_it_is_and_how_long_it_takes(chromium, site):
    """The same numbers and minutes on the first page, in the sidebar and in the chapter."""
    listed = """() => [...document.querySelectorAll("main ol > li:has(.lrd-minutes)")]
        .map((item) => [item.querySelector("a").pathname.slice(1),
            [...item.parentElement.children].indexOf(item) + (item.parentElement.start || 1),
            item.querySelector(".lrd-minutes").innerText])"""
    with visit(chromium, f"{site}/intro.html") as seen:
        items = seen.page.evaluate(listed)
        side = seen.page.locator(".bd-toc-item p.caption + ul > li.toctree-l1 > a")
        addresses = [link.get_attribute("href") for link in side.all()]
    assert [name for name, *_ in items] == addresses[: len(items)], "as in the sidebar"
    assert len(items) == 18 and [number for _, number, _ in items] == [*range(1, 19)]
    for name, number, said in items:
        where = f"Chapter {number} of {len(items)} · {said.split()[0]} minutes"
        assert where in (HTML / name).read_text(encoding="utf-8")


def test_the_marked_path_takes_about_ninety_minutes(chromium, site):
    """The first page says "about an hour and a half", and the reader's own first run is the
    third page of the book."""
    marked = """() => [...document.querySelectorAll("main ol > li")]
        .filter((item) => item.innerText.trim().startsWith("●"))
        .map((item) => parseInt(item.querySelector(".lrd-minutes").innerText))"""
    with visit(chromium, f"{site}/intro.html") as seen:
        minutes = seen.page.evaluate(marked)
        assert "about an hour and a half" in seen.page.inner_text("main")
        second = seen.page.locator("main ol > li:has(.lrd-minutes) a").nth(1)
        assert second.get_attribute("href") == "first_run.html"
    assert len(minutes) == 8 and 75 <= sum(minutes) <= 105


# ---- cards


def rest_on(page: Page, link: Locator) -> Locator:
    """Rests the mouse on a link; its card, once that is there."""
    link.scroll_into_view_if_needed()
    link.hover()
    card = page.locator(".lrd-card:visible")
    card.wait_for()
    assert link.get_attribute("aria-describedby") == card.get_attribute("id")
    return card


LEADS = {  # page -> links on it, by what their addresses hold: to the same page and to others
    "scale_invariance.html": ["#equation-", "#scale-", "bibliography.html#"],
    "nuclear_norm.html": ["#term-", "#paper-equation", "scale_invariance.html#scale-qk"],
}


@pytest.mark.parametrize("name", LEADS)
def test_a_card_shows_what_a_link_leads_to(chromium, site, name):
    with visit(chromium, f"{site}/{name}") as seen:
        page = seen.page
        ids = page.locator("[id]").count()
        for target in LEADS[name]:
            links = page.locator(f'main p a.internal[href*="{target}"]:visible')
            assert links.count(), target
            card = rest_on(page, links.first)
            assert card.locator(":is(.math, p)").count(), target
            assert card.locator("[id], .headerlink").count() == 0
            page.keyboard.press("Escape")
            assert card.count() == 0
        assert page.locator("[id]").count() == ids
        assert seen.errors == []


def test_a_card_stays_under_the_mouse_and_goes_with_it(chromium, site):
    with visit(chromium, f"{site}/grokking.html") as seen:
        card = rest_on(seen.page, seen.page.locator('main p a[href*="#term-"]').first)
        card.hover()
        seen.page.wait_for_timeout(600)  # more than it would take to go
        assert card.count() == 1
        seen.page.mouse.move(5, 5)
        card.wait_for(state="hidden")
        assert seen.page.locator("[aria-describedby=lrd-card]").count() == 0


# ---- formulas


def test_every_formula_has_the_parts_that_its_elements_need():
    """Browsers draw a MathML element that has too many or too few as an error."""
    two = dict.fromkeys(("mfrac", "msup", "msub", "mroot", "munder", "mover"), 2)
    parts = two | {"msubsup": 3, "munderover": 3}
    formulas = 0
    for page in HTML.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        for formula in re.findall(r"<math\b.*?</math>", text, re.DOTALL):
            formulas += 1
            for element in ElementTree.fromstring(formula).iter():
                name = element.tag.rpartition("}")[2]
                assert len(element) == parts.get(name, len(element)), (page.name, formula)
    assert formulas > 1000


# ---- search


def test_the_search_finds_a_word(chromium, site):
    """Its index is loaded there alone."""
    with visit(chromium, f"{site}/grokking.html") as seen:
        seen.page.keyboard.press("Control+k")
        field = seen.page.locator("dialog input[name=q]")
        field.fill("nuclear")
        field.press("Enter")
        results = seen.page.locator("#search-results li a")
        results.first.wait_for()
        assert "search.html?q=nuclear" in seen.page.url
        assert any("nuclear_norm" in link.get_attribute("href") for link in results.all())
        icon = seen.page.locator("form.bd-search:visible i").bounding_box()
        field = seen.page.locator("form.bd-search:visible input")
        begins = field.evaluate("(e) => parseFloat(getComputedStyle(e).paddingLeft)")
        assert icon["x"] + icon["width"] <= field.bounding_box()["x"] + begins
        results.first.click()  # what marks are hidden by pushes nothing down
        button = seen.page.locator("#searchbox .highlight-link a")
        seen.page.locator("span.highlighted").first.wait_for()  # 10 ms after the button
        assert seen.page.locator("#searchbox").bounding_box()["height"] == 0
        button.click()  # its address is javascript:, which runs after the click
        expect(seen.page.locator("span.highlighted")).to_have_count(0)
        assert seen.errors == []


@pytest.mark.parametrize("symbol", ["σ", "λ"])
def test_the_search_finds_a_symbol(chromium, site, symbol):
    """On the pages that have it in their formulas too."""
    with visit(chromium, f"{site}/search.html?q={symbol}") as seen:
        results = seen.page.locator("#search-results li a")
        results.nth(5).wait_for()
        leads = [link.get_attribute("href") for link in results.all()]
        assert any("notation.html" in lead for lead in leads)
        assert seen.errors == []


# ---- addresses


def test_the_root_address_is_the_first_page(chromium, site):
    with visit(chromium, f"{site}/") as root:
        assert root.page.evaluate("document.doctype.name") == "html"
        assert root.page.evaluate("document.documentElement.lang") == "en"
        assert "Low-Rank Decay" in root.page.title()
        assert root.page.locator(".lrd-opening[data-drawn]").count() == 1
        canonical = root.page.locator("link[rel=canonical]").get_attribute("href")
        assert canonical.startswith("https://") and canonical.endswith("/")
        assert root.errors == []


class Lost(Quiet):
    """A server that answers as GitHub Pages does: the book lies below /lrdlib/, and 404.html
    comes for every address that is not there."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/lrdlib"))

    def send_error(self, code: int, *_: object, **__: object) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write((HTML / "404.html").read_bytes())


@pytest.mark.parametrize("path", ["no_such_page.html", "no/such/page.html"])
def test_an_address_that_is_not_there_leads_back(chromium, path):
    with serve(handler=Lost) as server:
        context = chromium.new_context(viewport=DESKTOP)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        failed = []
        page.on("response", lambda a: failed.append(a.url) if a.status >= 400 else None)
        page.goto(f"{server}/lrdlib/{path}")
        assert failed == [f"{server}/lrdlib/{path}"], "it needs no other file"
        assert page.locator("main h1").inner_text() == "There is no such page"
        link = page.locator("main a", has_text="first page").get_attribute("href")
        assert urlsplit(link).path == "/lrdlib/" and urlsplit(link).scheme == "https"
        assert page.locator("form").get_attribute("action") == f"{link}search.html"
        context.close()
