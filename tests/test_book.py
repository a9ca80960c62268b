"""Every page of the built book in Chromium: as a reader sees it, on a desktop and on a
phone, in light and in dark.

Build the book first (`make book`; `make test` does).
"""

import gzip
import json
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("playwright.sync_api")

from browser import CONTRAST, HTML, PHONE, pages, serve, visit
from test_paper import PAPER

from lrdlib.figures.drawable import drawable
from lrdlib.figures.panels import laid_out

if not (HTML / "index.html").exists():
    pytest.skip("the book is not built: run make book", allow_module_level=True)

PAGES = pages()
# How a page is read: (colours, size). Every page in both colours and at both sizes, in two
# visits.
WAYS = {"light-desktop": ("light", None), "dark-phone": ("dark", PHONE)}


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with serve() as address:
        yield address


@pytest.fixture(
    scope="module", params=[(page, way) for page in PAGES for way in WAYS], ids="-".join
)
def seen(request, chromium, site):
    """One page, opened one way, shared by the tests below."""
    name, way = request.param
    theme, viewport = WAYS[way]
    with visit(chromium, f"{site}/{name}", theme=theme, viewport=viewport) as visited:
        visited.theme = theme
        yield visited


def test_nothing_goes_wrong_and_nothing_leaves_this_machine(seen):
    assert seen.errors == []


def test_the_page_has_the_reader_s_colours(seen):
    assert seen.page.evaluate("document.documentElement.dataset.theme") == seen.theme


def test_every_figure_is_drawn(seen):
    for plot in seen.page.locator(".lrd-plot").all():
        assert plot.locator("svg.main-svg").count() > 0
        assert plot.get_attribute("aria-label")


# The ranges of a figure's axes, and the labels of their ticks.
AXES = """() => [...document.querySelectorAll(".lrd-plot")].map((plot) =>
    Object.values(plot._fullLayout ?? {}).filter((axis) => axis?._vals).map(
        ({_id, range, _vals}) => [_id, range, _vals.map(({text}) => text)]))"""


def test_a_still_has_the_axes_of_its_figure(seen):
    """Each still is held against what plotly made of the same figure."""
    width = "narrow" if seen.page.viewport_size == PHONE else "wide"
    shown = seen.page.evaluate(AXES)
    data = seen.page.locator(".lrd-plot ~ script").all_text_contents()
    for axes, figure in zip(shown, map(json.loads, data), strict=True):
        if not drawable(figure):
            continue
        drawn = [a for panel in laid_out(figure, width).panels for a in (panel.x, panel.y)]
        for axis in drawn:
            span, labels = next(found[1:] for found in axes if found[0] == axis.spec["id"])
            assert axis.range == pytest.approx(span, abs=0.004 * abs(span[1] - span[0]))
            ticks = [label for _, label in axis.ticks()]
            assert axis.spec.get("showticklabels") is False or sorted(ticks) == sorted(
                labels
            )


LEGIBLE = f"""() => {{{CONTRAST}
    const page = luminance(rgb(getComputedStyle(document.body).backgroundColor));
    const texts = ".lrd-plot :is(.xtick text, .ytick text, .legendtext)";
    return [...document.querySelectorAll(texts)]
        .map((text) => contrast(luminance(rgb(getComputedStyle(text).fill)), page));
}}"""


def test_the_letters_of_a_figure_stand_out_from_the_page(seen):
    # 4.5 : 1 is what WCAG 2.1 asks of text
    assert all(contrast >= 4.5 for contrast in seen.page.evaluate(LEGIBLE))


SHEETS = f"""() => {{{CONTRAST}
    const ground = (e) => getComputedStyle(e).backgroundColor;
    return [...document.querySelectorAll("main .cell_output, main .cell_output *")]
        .filter((e) => e.offsetWidth > 100 && e.offsetHeight > 40)
        .filter((e) => !/, 0\\)$/.test(ground(e)) && luminance(rgb(ground(e))) > 0.4)
        .map((e) => `${{e.tagName}}.${{e.className}}`);
}}"""


def test_no_output_is_a_light_sheet_on_a_dark_page(seen):
    if seen.theme == "dark":
        assert seen.page.evaluate(SHEETS) == []


def test_every_formula_is_typeset(seen):
    assert seen.page.locator(".math:not(:has(mjx-container))").count() == 0
    assert (
        seen.page.locator("mjx-container[tabindex='0']").count() == 0
    )  # Tab leads from control to control
    assert seen.page.locator("mjx-merror, [data-mjx-error]").count() == 0


OVERFLOW = """() => {
    const {clientWidth: width, scrollWidth} = document.documentElement;
    return scrollWidth <= width ? [] : [...document.querySelectorAll("main *")]
        .filter((e) => e.getBoundingClientRect().right > width + 1)
        .map((e) => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 60)}`)
        .slice(0, 8);
}"""


def test_the_page_does_not_scroll_sideways(seen):
    assert seen.page.evaluate(OVERFLOW) == []
    page = seen.page
    assert page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )


# What a figure shows: its drawn shapes and words.
SHOWN = """(figure) => [...figure.querySelectorAll(".main-svg :is(path, rect, image, text)")]
    .map((shape) => shape.outerHTML).join("")"""


def test_every_slider_moves_its_figure_by_keyboard(seen):
    noted = len(seen.errors)
    for slider in seen.page.locator(".lrd-figure input[type=range]").all():
        figure = slider.locator("xpath=ancestor::figure")
        at, last = int(slider.input_value()), int(slider.get_attribute("max"))
        # kept in the page: it may be megabytes
        figure.evaluate(f"(figure) => {{ figure.before = ({SHOWN})(figure) }}")
        before = slider.get_attribute("aria-valuetext")
        assert slider.bounding_box()["width"] >= 60  # a finger can drag it
        slider.focus()
        slider.press("End" if at < last else "Home")
        seen.page.wait_for_function(
            f"(figure) => ({SHOWN})(figure) !== figure.before", arg=figure.element_handle()
        )
        assert slider.get_attribute("aria-valuetext") != before
    assert seen.errors[noted:] == []


def test_every_button_of_a_figure_can_be_pressed(seen):
    noted = len(seen.errors)
    for button in seen.page.locator(".lrd-figure .lrd-buttons button").all():
        assert button.get_attribute("aria-label") or button.inner_text().strip()
        button.click()
    assert seen.errors[noted:] == []


def lightest(mark: str) -> str:
    """The smallest page with `mark` in its file."""
    having = [page for page in PAGES if mark in (HTML / page).read_text(encoding="utf-8")]
    assert having, f"no page has {mark}"
    return min(having, key=lambda page: (HTML / page).stat().st_size)


def test_figures_follow_a_change_of_colours(chromium, site):
    name = lightest('class="lrd-plot"')
    ink = "getComputedStyle(document.querySelector('.lrd-plot .xtick text')).fill"
    with visit(chromium, f"{site}/{name}") as light:
        before = light.page.evaluate(ink)
        light.page.evaluate("document.documentElement.dataset.theme = 'dark'")
        light.page.wait_for_function(f"{ink} !== {json.dumps(before)}")


def test_a_slider_can_be_dragged(chromium, site):
    name = lightest('"sliders"')
    with visit(chromium, f"{site}/{name}", viewport=PHONE) as phone:
        slider = phone.page.locator(".lrd-figure input[type=range]").first
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        middle = box["y"] + box["height"] / 2
        phone.page.mouse.move(box["x"] + 8, middle)
        phone.page.mouse.down()
        came_to = []
        for share in (0.3, 0.8):
            phone.page.mouse.move(box["x"] + share * box["width"], middle, steps=4)
            came_to.append(int(slider.input_value()))
        phone.page.mouse.up()
        assert came_to[0] < came_to[1] == int(slider.input_value())


def test_a_solid_turns_when_it_is_dragged(chromium, site):
    name = lightest('"scatter3d"')
    with visit(chromium, f"{site}/{name}") as desktop:
        figure = desktop.page.locator(".lrd-figure:has(.lrd-solid)").first
        figure.scroll_into_view_if_needed()
        turn, tilt = (
            figure.locator(f"label:has-text('{angle}') input") for angle in ("turn", "tilt")
        )
        before = figure.evaluate(SHOWN), int(turn.input_value()), int(tilt.input_value())
        box = figure.locator(".lrd-solid").bounding_box()
        desktop.page.mouse.move(box["x"] + 100, box["y"] + 100)
        desktop.page.mouse.down()
        desktop.page.mouse.move(box["x"] + 180, box["y"] + 140, steps=4)
        desktop.page.mouse.up()
        assert figure.evaluate(SHOWN) != before[0]
        # half a degree per pixel; the sliders follow
        assert [int(turn.input_value()), int(tilt.input_value())] == [
            (before[1] - 40) % 360,
            before[2] + 20,
        ]
        assert desktop.errors == []


def test_the_book_has_an_icon():
    text = (HTML / "intro.html").read_text(encoding="utf-8")
    assert (HTML / re.search(r'<link rel="icon" href="([^"?]+)', text).group(1)).exists()


def test_the_front_door_leads_in(chromium, site):
    with visit(chromium, f"{site}/") as seen:
        assert seen.page.locator(".lrd-opening[data-drawn]").count() == 1


# ---- without a browser: links and addresses in the files


LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "link": "href",
    "video": "src",
}


class Links(HTMLParser):
    """The addresses that a page points to and loads, and the ids that others may point
    to."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.loads, self.ids = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if found.get("id"):
            self.ids.add(found["id"])
        if tag in LOADED and found.get(LOADED[tag]):
            self.loads.append(found[LOADED[tag]])


links = cache(Links)  # a page is read once, however many point to it


@pytest.mark.parametrize("name", PAGES)
def test_links_inside_the_book_lead_somewhere(name):
    lost = []
    for link in links(HTML / name).links:
        parts = urlsplit(link)
        if (
            parts.scheme or parts.netloc or parts.fragment.startswith(("lab:", "train:"))
        ):  # of those, tests/test_lab_data.py
            continue
        target = (
            ((HTML / name).parent / unquote(parts.path)).resolve()
            if parts.path
            else HTML / name
        )
        fragment = unquote(parts.fragment)
        if not target.exists() or (
            fragment and target.suffix == ".html" and fragment not in links(target).ids
        ):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_no_other_site_s_files(name):
    page = links(HTML / name)
    assert [address for address in page.loads if urlsplit(address).netloc] == []
    assert not re.search(
        r"https?://[^\"'\s]*(cdn|unpkg|googleapis)",
        (HTML / name).read_text(encoding="utf-8"),
    )


def test_every_item_of_the_paper_can_be_linked_to():
    lost = [
        item
        for item, page in PAPER.items()
        if f"paper-{item}" not in links(HTML / f"{page}.html").ids
    ]
    assert lost == []


@pytest.mark.parametrize("name", PAGES)
def test_the_first_view_is_light(name):
    """A page with the plotly bundle and MathJax, compressed, is below 1.5 MB; the page
    itself is what may grow."""
    assert len(gzip.compress((HTML / name).read_bytes())) < 400_000


def test_a_figure_follows_the_width_of_its_window(chromium, site):
    page = lightest('class="lrd-plot"')
    with visit(chromium, f"{site}/{page}") as seen:
        for viewport in (PHONE, None):
            seen.turn("light", viewport)
            seen.page.wait_for_function("""() => [...document.querySelectorAll(".lrd-plot")]
                .every((p) => {
                    const drawn = p.querySelector(".main-svg");
                    return !drawn || Math.abs(drawn.clientWidth - p.clientWidth) <= 1;
                })""")
