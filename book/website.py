"""How the pages become a site, as a Sphinx extension (_config.yml): the root address, the
page for an address that is not there, and what a page loads before it is seen.

The theme's pages are rewritten as they are: where the theme no longer has what is looked
for, the build fails.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from colab import Book
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


# The script of a kind of picture -> what a page holds that has one.
PICTURES = {
    "clock": 'class="lrd-clock"',
    "drag": 'class="lrd-drag"',
    "opening": 'class="lrd-opening"',
    "phase": '"phase"',
}


def light(page: str, name: str) -> str:
    """A page that loads no more than it needs before it is seen: scripts run when it is
    there, that of a kind of picture where there is one, the index of all words is for the
    search alone, and icons are in icons.css. It has the reader's colours from the start.

    Raises ExtensionError if the theme's page has not what is changed.
    """
    head, rest = page.split("</head>", 1)
    change = {r'<script[^>]*src="[^"]*fontawesome\.js[^>]*></script>': ""}
    change[r"(?=<noscript>)"] = COLOURS
    if name != "search":
        found = r"(?:searchtools|language_data|searchindex)\.js"
        change[rf'(?:<script src="[^"]*{found}"></script>\s*){{3}}'] = ""
    absent = [script for script, mark in PICTURES.items() if mark not in rest]
    change |= {rf'<script[^>]*src="[^"]*/{s}\.js[^>]*></script>\s*': "" for s in absent}
    for pattern, new in change.items():
        head, count = re.subn(pattern, new, head)
        if count != 1:
            raise ExtensionError(f"{name}.html has {count} of {pattern}, expected 1")
    # a label must not say something else than the words that it labels
    rest = rest.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    rest = re.sub(
        r'(<button class="btn search-button-field[^>]*) aria-label="Search"', r"\1", rest
    )
    later = r"<script (?![^>]*(?:documentation_options|lab-page))(?![^>]*\bdefer\b)([^>]*\bsrc=)"
    return re.sub(later, r"<script defer \1", head) + "</head>" + rest


def finish(app: Any, problem: Exception | None, *, written: set[str]) -> None:
    """Rewrites the pages that this build has written; writes the first one under the root
    address as well, and 404.html."""
    if problem or app.builder.name != "html":
        return
    out, site = Path(app.outdir), Book.settings().site()
    root = out / "index.html"  # what is there only sends the reader on
    for name in sorted(written):
        path = out / f"{name}.html"
        path.write_text(light(path.read_text(encoding="utf-8"), name), encoding="utf-8")
    first = (out / f"{app.config.root_doc}.html").read_text(encoding="utf-8")
    canonical = f'<link rel="canonical" href="{site}">\n  </head>'
    root.write_text(first.replace("</head>", canonical, 1), encoding="utf-8")
    lost = LOST.format(title=app.config.html_title or app.config.project, site=site)
    (out / "404.html").write_text(lost, encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    written: set[str] = set()
    app.connect("html-page-context", lambda _app, name, *_: written.add(name))
    app.connect("build-finished", partial(finish, written=written))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
