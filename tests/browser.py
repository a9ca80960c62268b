"""The built book in a real browser: a local server, a page that remembers what went wrong,
and screenshots.

python tests/browser.py   writes _build/screenshots/PAGE-{light,dark,phone}.png
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Route, sync_playwright
from waiting import PATIENCE_MS

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# For scripts that judge whether a text can be read: the luminance of a colour, and the
# contrast of two luminances, as WCAG 2.1 defines them.
CONTRAST = """
    const rgb = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
    const luminance = (rgb) => rgb.map((v) => v / 255)
        .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
"""
SETTLED = """() => (!window.MathJax?.startup?.promise || document.body.dataset.mathDone === "yes")
    && [...document.querySelectorAll(".lrd-plot")].every((plot) => "drawn" in plot.dataset)"""


def pages() -> list[str]:
    """Every page of the book, found in the built folder rather than in a list that somebody
    keeps.

    index.html is left out: it is the first page again.
    """
    found = (path.relative_to(HTML) for path in HTML.rglob("*.html"))
    return sorted(
        p.as_posix()
        for p in found
        if p.parts[0] not in ("_static", "vendor") and p.name != "index.html"
    )


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serve(folder: Path = HTML, handler: type[Quiet] = Quiet) -> Iterator[str]:
    """The address of a server of `folder` on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def launch(executable: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page and everything that went wrong on it."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on(
            "console",
            lambda m: (
                self.errors.append(f"console: {m.text}") if m.type == "error" else None
            ),
        )
        self.page.on("pageerror", lambda error: self.errors.append(f"script: {error}"))
        self.page.on(
            "requestfailed", lambda r: self.errors.append(f"failed: {r.url} {r.failure}")
        )
        self.page.on(
            "response",
            lambda r: (
                self.errors.append(f"{r.status}: {r.url}") if r.status >= 400 else None
            ),
        )

    def stay_local(self, route: Route) -> None:
        url = route.request.url
        if urlsplit(url).hostname == "127.0.0.1":
            route.continue_()
        else:
            self.errors.append(f"third party: {url}")
            route.abort()

    def settle(self) -> None:
        """Scroll to every figure, so that plotly takes the place of its still, then wait
        until all of them and all formulas are drawn."""
        page = self.page
        page.evaluate(
            "() => window.MathJax?.startup?.promise?.then(() => { "
            "document.body.dataset.mathDone = 'yes' })"
        )
        # where all is in view nothing scrolls
        page.evaluate("() => window.dispatchEvent(new Event('scroll'))")
        for plot in page.locator(".lrd-plot").all():
            plot.scroll_into_view_if_needed()
        page.wait_for_function(SETTLED)

    def turn(self, theme: str, viewport: dict | None = None) -> None:
        """Go on in other colours and at another size, as when evening comes and the window
        is made smaller: nothing is loaded again."""
        self.page.emulate_media(color_scheme=theme)
        self.page.set_viewport_size(viewport or DESKTOP)
        self.page.wait_for_function(
            "(theme) => document.documentElement.dataset.theme === theme", arg=theme
        )


@contextmanager
def visit(
    browser: Browser, url: str, *, theme: str = "light", viewport: dict | None = None
) -> Iterator[Visit]:
    """`url` in a fresh profile, opened and settled; requests that leave this machine are
    refused and noted."""
    context = browser.new_context(
        viewport=viewport or DESKTOP, color_scheme=theme, reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE_MS)
    try:
        seen = Visit(context.new_page())
        seen.watch()
        context.route("**/*", seen.stay_local)
        seen.page.goto(url, wait_until="load")
        seen.settle()
        yield seen
    finally:
        context.close()


def write_page(folder: Path, body: str, *, sheets: Sequence[str], script: str) -> Path:
    """page.html in `folder`, which is returned: a picture with its sheets and its script,
    from the figures' static files, and nothing else of the book."""
    static = ROOT / "lrdlib" / "figures" / "static"
    style = "".join((static / name).read_text(encoding="utf-8") for name in sheets)
    (folder / "page.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>A picture</title>'
        '<meta name="viewport" content="width=device-width">'
        f'<link rel="icon" href="data:,"><style>{style}</style>{body}'
        f"<script>{(static / script).read_text(encoding='utf-8')}</script></html>",
        encoding="utf-8",
    )
    return folder


@contextmanager
def under_a_finger(browser: Browser, url: str) -> Iterator[tuple[Page, Callable]]:
    """`url` on a phone, and swipe_up(x, y): a finger up the screen by 60 pixels, or across
    it, which returns how far the page is scrolled then."""
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    context.set_default_timeout(PATIENCE_MS)
    try:
        page = context.new_page()
        page.goto(url)
        touch = context.new_cdp_session(page)

        def finger(kind: str, *points: tuple[float, float]) -> None:
            touch.send(
                "Input.dispatchTouchEvent",
                {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in points]},
            )

        def swipe_up(x: float, y: float, *, across: bool = False) -> float:
            finger("touchStart", (x, y))
            for moved in range(10, 61, 10):
                finger("touchMove", (x + moved, y) if across else (x, y - moved))
            finger("touchEnd")
            return page.evaluate(
                """async () => {
                    const frame = () => new Promise((done) => requestAnimationFrame(done));
                    // a flick rolls on, on a busy machine for long: until it is still
                    let at = scrollY;
                    for (let i = 0, still = 0; i < 300 && still < 30; i++) {
                        await frame();
                        still = scrollY === at ? still + 1 : 0;
                        at = scrollY;
                    }
                    return at;
                }"""
            )

        yield page, swipe_up
    finally:
        context.close()


SHOTS = {"light": ("light", DESKTOP), "dark": ("dark", DESKTOP), "phone": ("light", PHONE)}


def screenshots(executable: str, folder: Path) -> int:
    """Full-page pictures of every page; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with serve() as site, launch(executable) as browser:
        for name in pages():
            for kind, (theme, viewport) in SHOTS.items():
                with visit(
                    browser, f"{site}/{name}", theme=theme, viewport=viewport
                ) as seen:
                    stem = name.removesuffix(".html").replace("/", "-")
                    seen.page.evaluate("() => window.scrollTo(0, 0)")
                    seen.page.screenshot(path=folder / f"{stem}-{kind}.png", full_page=True)
                    count += 1
    return count


if __name__ == "__main__":
    from chromium import find

    path = find()
    if not path:
        sys.exit("no Chromium: run python tests/chromium.py")
    print(
        f"   {screenshots(path, ROOT / '_build' / 'screenshots')} pictures in "
        "_build/screenshots/"
    )
