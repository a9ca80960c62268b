"""Where the code of a picture stands on a page: below it, and under one bar."""

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx")

from docutils import nodes
from docutils.utils import new_document

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "book"))
cells = importlib.import_module("cells")


class Fold(nodes.Element):
    """What myst-nb wraps hidden code in."""


def code(name, mode="input", shows=False):
    """A cell whose code is folded away, as myst-nb makes it; shows: with an output."""
    source = nodes.literal_block("", name)
    drawn = [nodes.container("", nodes.image(uri=name), classes=["cell_output"])]
    inside = drawn if shows and mode == "all" else []
    fold = Fold("", source, *inside, prompt_show="Show", prompt_hide="Hide")
    seen = drawn if shows and mode == "input" else []
    cell = nodes.container("", fold, *seen, nb_element="cell_code", classes=["cell"])
    cell["hide_mode"] = mode
    return cell


def shown(name):
    """A cell whose code is seen."""
    return nodes.container("", nodes.literal_block("", name), classes=["cell"])


def page(*parts):
    """What a reader sees of a page, from top to bottom: words, "picture NAME", and
    "bar: NAMES" of the code under it."""
    document = new_document("page")
    document += [
        nodes.paragraph("", part) if isinstance(part, str) else part for part in parts
    ]
    cells.PictureFirst(document).run()
    seen = []
    for node in document.children:
        if isinstance(node, nodes.paragraph):
            seen.append(node.astext())
        for fold in node.findall(Fold):
            under = [block.astext() for block in fold.findall(nodes.literal_block)]
            seen.append(f"bar: {' '.join(under)}")
        pictures = [one for one in node.findall(nodes.image) if not folded_away(one)]
        seen += [f"picture {one['uri']}" for one in pictures]
    return seen


def folded_away(node):
    while node is not None and not isinstance(node, Fold):
        node = node.parent
    return node is not None


def test_a_picture_comes_before_its_code():
    assert page("why?", code("draw", shows=True)) == ["why?", "picture draw", "bar: draw"]


def test_what_prepares_a_picture_unfolds_with_its_code():
    assert page("why?", code("load", "all"), code("fit"), code("draw", shows=True)) == [
        "why?",
        "picture draw",
        "bar: load fit draw",
    ]


def test_what_follows_a_picture_has_no_bar_of_its_own():
    assert page(code("draw", shows=True), code("check", "all"), "so") == [
        "picture draw",
        "bar: draw check",
        "so",
    ]


def test_a_hidden_output_stays_hidden_with_its_code():
    parts = code("count", "all", shows=True), code("draw", shows=True)
    assert page(*parts) == ["picture draw", "bar: count draw"]


def test_words_keep_bars_apart_and_labels_do_not():
    assert page(code("a"), "words", code("b"), nodes.target(), code("c")) == [
        "bar: a",
        "words",
        "bar: b c",
    ]
    parts = code("load"), nodes.target(), code("draw", shows=True)
    assert page(*parts) == ["picture draw", "bar: load draw"]


def test_two_pictures_have_two_bars():
    assert page(code("one", shows=True), code("two", shows=True)) == [
        "picture one",
        "bar: one",
        "picture two",
        "bar: two",
    ]


def test_code_that_is_seen_stays_where_it_is():
    assert page(shown("a"), code("b"), shown("c")) == ["bar: b"]
