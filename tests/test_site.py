"""The book as a site: what a finger, a printer, a slow line and a reader on a disk meet.

Build the book first (`make book`; `make test` does). tests/test_book.py reads every page
by mouse and keyboard.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("playwright.sync_api")

from browser import DESKTOP, HTML, PHONE, pages, serve, visit
from waiting import PATIENCE_MS

if not (HTML / "index.html").exists():
    pytest.skip("the book is not built: run make book", allow_module_level=True)

PAGES = pages()
FIGURES = [p for p in PAGES if 'class="lrd-plot"' in (HTML / p).read_text(encoding="utf-8")]
TABLET = {"width": 820, "height": 1180}


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with serve() as address:
        yield address


# ---- touch


@pytest.mark.parametrize("size", [PHONE, TABLET], ids=["phone", "tablet"])
def test_no_bar_of_icons_lies_over_a_figure_under_a_finger(chromium, site, size):
    """Where nothing can hover, plotly's bar would never go away; and a finger that moves up
    on a figure scrolls the page."""
    context = chromium.new_context(viewport=size, has_touch=True, is_mobile=True)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{site}/{FIGURES[0]}")
    assert page.evaluate("matchMedia('(hover: none)').matches"), "a device without a mouse"
    plot = page.locator(".lrd-plot").first
    plot.scroll_into_view_if_needed()
    page.locator(".lrd-plot[data-drawn]").first.wait_for()
    assert page.locator(".modebar-btn").count() == 0
    assert plot.evaluate("plot => plot.layout.dragmode") is False
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


# lines; lines under a slider; a phase diagram; 3-D traces
PRINTED = sorted({"intro.html", *map(first, ('"sliders"', '"phase"', '"scatter3d"'))})


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
