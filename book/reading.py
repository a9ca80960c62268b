"""What a page asks, where its reader is, how long it takes, and which symbols it has, as a
Sphinx extension (_config.yml).

The question with which a page opens is what search engines and shared links say of it.

Each chapter says below its title which one it is and how many minutes it takes to read, and
the list on the first page has the same minutes. The numbers in the sidebar are counted by
custom.css in the same order: that of _toc.yml, without the appendices.

The search looks for whole words: a page with \\sigma_1 in a formula, or σ₁ in its text, has
no word σ. So each page tells the index its Greek letters.
"""

from __future__ import annotations

import re
from html.entities import html5
from typing import Any
from unicodedata import name as name_of
from unicodedata import normalize

from docutils import nodes

PACE = 200  # words per minute, of prose that has an argument
FORMULA = 0.25  # minutes for a formula of its own
# Not read word by word: code, formulas in a line, and what is folded away.
PASSED = (nodes.literal_block, nodes.math, nodes.math_block, nodes.raw, nodes.comment)
FORMULAS = (nodes.math, nodes.math_block)
APPENDICES = "Appendices"


def minutes(tree: nodes.document) -> int:
    """How long a page takes to read, without its code and the solutions of its exercises."""
    words = sum(len(text.split()) for text in tree.findall(nodes.Text) if read(text))
    formulas = sum(1 for _ in tree.findall(nodes.math_block))
    return max(1, round(words / PACE + FORMULA * formulas))


def read(text: nodes.Node) -> bool:
    """Whether a text is part of what is read from top to bottom."""
    node = text.parent
    while node is not None:
        if isinstance(node, PASSED) or type(node).__name__ == "solution_node":
            return False
        node = node.parent
    return True


def chapters(app: Any) -> list[str]:
    """The names of the chapters, in order."""
    parts = app.env.external_site_map.root.subtrees
    return [
        name
        for part in parts
        if part.caption != APPENDICES
        for name in map(str, part.items)
    ]


def say(app: Any, tree: nodes.document, page: str) -> None:
    """Adds the words to a page."""
    names = chapters(app)
    if page in names:
        where = f"Chapter {names.index(page) + 1} of {len(names)}"
        where += f" · {minutes(app.env.get_doctree(page))} minutes"
        section = next(tree.findall(nodes.section))
        title = section.index(next(section.findall(nodes.title)))
        section.insert(title + 1, nodes.paragraph("", where, classes=["lrd-where"]))
    if page == app.config.root_doc:
        for item in tree.findall(nodes.list_item):
            link = next(item.findall(nodes.reference), None)
            name = link["refuri"].removesuffix(".html") if link else ""
            if name in names:
                # the tree as it was read, as above: with its references resolved it is longer
                said = f" {minutes(app.env.get_doctree(name))} min"
                item[0].append(nodes.inline("", said, classes=["lrd-minutes"]))


def describe(app: Any, tree: nodes.document) -> None:
    """Gives a page that opens with its question (in italics) to sphinxext.opengraph as
    described by that."""
    opening = next(tree.findall(nodes.paragraph), None)
    if opening is not None and opening.children:
        asked = opening.children[0]
        if isinstance(asked, nodes.emphasis):
            text = asked.astext()
            app.env.metadata[app.env.docname]["og:description"] = text
            tree.insert(0, nodes.meta(name="description", content=text))


def letters(tree: nodes.document) -> set[str]:
    """The Greek letters of a page: in its words, and by their names in its formulas."""
    text = tree.astext()
    commands = {
        found
        for formula in tree.findall(lambda node: isinstance(node, FORMULAS))
        for found in re.findall(r"\\([A-Za-z]+)", formula.astext())
    }
    named = "".join(html5.get(f"{command};", "") for command in commands)
    plain = normalize("NFKC", text + named)  # one letter for ϵ and ε
    return {letter for letter in plain if name_of(letter, "").startswith("GREEK ")}


def spell(app: Any, tree: nodes.document) -> None:
    """Gives the letters of a page to the index of the search."""
    if found := letters(tree):
        tree.insert(0, nodes.meta(name="keywords", content=", ".join(sorted(found))))


def setup(app: Any) -> dict[str, Any]:
    app.connect("doctree-read", describe)
    app.connect("doctree-read", spell)
    app.connect("doctree-resolved", say)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
