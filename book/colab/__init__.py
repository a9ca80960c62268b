"""Copies of the book's notebooks for Colab, which knows neither MyST nor the book's macros,
labels and references.

python book/colab OUT_DIR   writes one copy of every notebook in _toc.yml (`make book` does)

Why our own: jupytext, nbconvert, mdformat-myst and mystmd's myst-to-md keep a directive as it
is, sphinx-markdown-builder writes pages, not cells, and skips theorems and exercises, pandoc
reads no MyST, jupyterlab-myst cannot be added to Colab; and none writes macros out.

The notebooks in book/ stay the only source. A copy has the same code; its text says in
plain markdown, HTML and TeX what the page says, with the page's own numbers.

parse.py      MyST in, nodes and directives out
address.py    what a label names, its number, and the address of everything
tex.py        formulas without macros
words.py      the inside of a paragraph as Colab shows it
render.py     one cell, block by block
notebook.py   a whole copy, and the files

As a Sphinx extension (_config.yml) it makes a page's launch button open the copy. Colab
opens files of a repository, so the copies are published on a branch of their own, BRANCH.
"""

from __future__ import annotations

from typing import Any

from .address import BRANCH, Book
from .notebook import FOLDED, HASHED, PLOTLY, code, convert, notebooks, write
from .parse import Unknown
from .render import Copy, leftovers
from .tex import expand

__all__ = [
    "BRANCH",
    "FOLDED",
    "HASHED",
    "PLOTLY",
    "Book",
    "Copy",
    "Unknown",
    "code",
    "convert",
    "expand",
    "leftovers",
    "notebooks",
    "setup",
    "write",
]


def launch(
    app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """The theme's menu of launch buttons, which names the source, becomes one button that
    opens the copy."""
    buttons = context.get("header_buttons", [])
    for at, button in enumerate(buttons):
        if button.get("label") == "launch-buttons":
            buttons[at] = {
                "type": "link",
                "label": "open-in-colab",
                "icon": "fas fa-rocket",
                "text": "\u00a0Colab",  # the theme leaves no room after the icon
                "tooltip": "Open in Colab, to run and change this chapter",
                "url": Book.settings().launch(pagename),
            }


def setup(app: Any) -> dict[str, Any]:
    app.connect("html-page-context", launch, priority=600)  # after the theme's, at 501
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
