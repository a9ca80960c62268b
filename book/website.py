"""How the pages become a site, as a Sphinx extension (_config.yml): the root address, the
page for an address that is not there, and what a page loads before it is seen.

The theme's pages are rewritten as they are: where the theme no longer has what is looked
for, the build fails.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from colab import Book
from sheets import Names, joined
from sphinx.errors import ExtensionError

# The server answers with this page at any depth: all that it needs is in it, and its links
# are whole addresses.
LOST = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>There is no such page — {title}</title>
<link rel="icon" href="data:,">
<style>
html {{ background: #fff; color: #222832; font: 1.125rem/1.6 system-ui, sans-serif; }}
html[data-theme="dark"] {{ background: #14181e; color: #ced6dd; color-scheme: dark; }}
main {{ margin: 15vh auto 0; max-width: 34rem; padding: 0 1rem; }}
h1 {{ font-weight: 500; line-height: 1.2; }}
a {{ color: #0b66c3; }}
[data-theme="dark"] a {{ color: #7ab8ff; }}
input, button {{ font: inherit; padding: 0.25rem 0.75rem; }}
input {{ max-width: 60%; }}
</style>
<script>
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  const chosen = ["light", "dark"].find((name) => name === localStorage.getItem("theme"));
  document.documentElement.dataset.theme = chosen ?? (dark ? "dark" : "light");
</script>
</head>
<body>
<main>
<h1>There is no such page</h1>
<p>Perhaps it has moved. The <a href="{site}">first page</a> of <i>{title}</i> leads to all
chapters, and this finds any word of the book:</p>
<form action="{site}search.html">
<input type="search" name="q" aria-label="what to look for" required>
<button>Search</button>
</form>
</main>
</body>
</html>
"""

# Before the first paint, where the theme waits for a script: a dark page was light at first.
COLOURS = """<script>
    if (document.documentElement.dataset.theme === "auto")
      document.documentElement.dataset.theme =
        window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  </script>
"""


# A script -> what a page holds that has use for it; all others are for every page.
SCRIPTS = {
    "clock": 'class="lrd-clock"',
    "drag": 'class="lrd-drag"',
    "opening": 'class="lrd-opening"',
    "phase": '"phase"',
    "solid": r'"(?:mesh3d|scatter3d)"',
    "design-tabs": 'class="sd-tab-set',
    "lab-page": r"pagename = 'lab'",
}
# Those that are a few lines, and are run before anything is seen: in the page itself.
INLINE = ("documentation_options", "lab-page")
# Those of every page, in their order, as two files: a fault of the theme stops none of ours.
BUNDLES = {
    "theme.js": (
        *("doctools", "sphinx_highlight", "clipboard.min", "copybutton"),
        *("scripts/sphinx-book-theme", "togglebutton", "scripts/bootstrap"),
        "scripts/pydata-sphinx-theme",
    ),
    "book.js": ("boxes", "lab-boot", "figures", "cards"),
}
# Where the theme's script starts what boxes.js does in less time.
BOXES = (
    r'"complete"===document\.readyState\?(\w+)\(\):window\.addEventListener\("load",\1\)'
)
TAG = r'<script[^>]*src="_static/(?:{})\.js[^>]*></script>\s*'
SHEET = r'<link(?=[^>]*rel="stylesheet")[^>]*href="_static/([^"?]*)[^>]*>\s*'


def light(page: str, name: str, static: Path) -> str:
    """A page that loads no more than it needs before it is seen: scripts run when it is
    there, and only those that it has use for; the index of all words is for the search
    alone, and icons are in icons.css. It has the reader's colours from the start.

    Raises ExtensionError if the theme's page has not what is changed.
    """

    def change(pattern: str, new: str, expected: int = 1) -> None:
        nonlocal page
        page, count = re.subn(pattern, lambda _: new, page)
        if count != expected:
            raise ExtensionError(
                f"{name}.html has {count} of {pattern}, expected {expected}"
            )

    change(TAG.format("scripts/fontawesome"), "")
    change(r"(?=<noscript>\s*<style>)", COLOURS)
    change(r'<link rel="preload" as="script"[^>]*>\s*', "", 2)
    if name != "search":
        found = r"(?:searchtools|language_data|searchindex)\.js"
        change(rf'(?:<script src="[^"]*{found}"></script>\s*){{3}}', "")
    for script, mark in SCRIPTS.items():
        if not re.search(mark, page):
            change(TAG.format(script), "")
    for script in INLINE:
        if re.search(TAG.format(script), page):
            text = (static / f"{script}.js").read_text(encoding="utf-8")
            change(TAG.format(script), f"<script>{text}</script>\n    ")
    for bundle, scripts in BUNDLES.items():
        change(
            TAG.format(scripts[0]),
            f'<script src="{stamped(static / bundle)}"></script>\n    ',
        )
        change(TAG.format("|".join(scripts[1:])), "", len(scripts) - 1)
    # without a kernel no script asks for the state of a widget
    page = re.sub(
        r'<script type="application/vnd\.jupyter\.widget.*?</script>\s*', "", page
    )
    # a label must not say something else than the words that it labels
    page = page.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    page = re.sub(
        r'(<button class="btn search-button-field[^>]*) aria-label="Search"', r"\1", page
    )
    return re.sub(r"<script (?![^>]*\bdefer\b)([^>]*\bsrc=)", r"<script defer \1", page)


def bundle(static: Path) -> None:
    """Writes the files that BUNDLES names. Raises ExtensionError if the theme's script has
    not what is changed."""
    for name, scripts in BUNDLES.items():
        texts = [
            (static / f"{script}.js").read_text(encoding="utf-8") for script in scripts
        ]
        # before the first one's "use strict", which would hold for all of them
        text = "".join(f";\n{re.sub('//# sourceMappingURL.*', '', one)}" for one in texts)
        if "scripts/pydata-sphinx-theme" in scripts:
            text, count = re.subn(BOXES, "0", text)
            if count != 1:
                raise ExtensionError(
                    f"the theme's script has {count} of {BOXES}, expected 1"
                )
        (static / name).write_text(text, encoding="utf-8")


def dress(out: Path, names: Collection[str]) -> None:
    """Gives these pages one style sheet, in place of the many that they have; it has what
    all pages of the site can use (sheets.py).

    Raises ExtensionError if two pages have their sheets in different orders.
    """
    static = out / "_static"
    pages = {path: path.read_text(encoding="utf-8") for path in out.glob("*.html")}
    lists = {name: re.findall(SHEET, pages[out / f"{name}.html"]) for name in names}
    longest = max(lists.values(), key=len)
    for name, some in lists.items():
        if [sheet for sheet in longest if sheet in some] != some:
            raise ExtensionError(f"{name}.html has its sheets in another order: {some}")
    scripts = [*static.glob("*.js"), *out.glob("lab/*.js")]
    used = Names.of(pages.values(), (one.read_text(encoding="utf-8") for one in scripts))
    text = joined([static / sheet for sheet in longest], static, used)
    of = f"/* by book/sheets.py, of {' '.join(longest)} */"
    (static / "book.css").write_text(f"{of}\n{text}", encoding="utf-8")
    link = f'<link rel="stylesheet" href="{stamped(static / "book.css")}" />\n    '
    for name in names:
        before, *after = re.split(SHEET, pages[out / f"{name}.html"])[::2]
        page = before + link + "".join(after)
        (out / f"{name}.html").write_text(page, encoding="utf-8")


def stamped(file: Path) -> str:
    """The address of a static file from a page, other for other content: browsers keep it."""
    return f"_static/{file.name}?v={sha256(file.read_bytes()).hexdigest()[:8]}"


def finish(app: Any, problem: Exception | None, *, written: set[str]) -> None:
    """Rewrites the pages that this build has written; writes the first one under the root
    address as well, and 404.html."""
    if problem or app.builder.name != "html":
        return
    out, site = Path(app.outdir), Book.settings().site()
    bundle(out / "_static")
    for name in sorted(written):
        path = out / f"{name}.html"
        page = light(path.read_text(encoding="utf-8"), name, out / "_static")
        path.write_text(page, encoding="utf-8")
    if written:
        dress(out, written)
    root = out / "index.html"  # what is there only sends the reader on
    first = (out / f"{app.config.root_doc}.html").read_text(encoding="utf-8")
    canonical = f'<link rel="canonical" href="{site}">\n  </head>'
    root.write_text(first.replace("</head>", canonical, 1), encoding="utf-8")
    lost = LOST.format(title=app.config.html_title or app.config.project, site=site)
    (out / "404.html").write_text(lost, encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    written: set[str] = set()
    app.connect("html-page-context", lambda _app, name, *_: written.add(name))
    # after the theme, which writes the colours of code when the build is finished
    app.connect("build-finished", partial(finish, written=written), priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
