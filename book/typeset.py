"""How the book's pages are set, as a Sphinx extension (_config.yml).

Works are labelled by author and year: [Cai et al. 2010]. A formula in a line stays with the
punctuation around it: to a browser it is a box, and a line may break on either side of a
box.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from string import ascii_lowercase
from typing import Any

from docutils import nodes
from pybtex.database import Entry, Person
from pybtex.plugin import register_plugin
from pybtex.style.formatting.alpha import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.transforms.post_transforms import SphinxPostTransform

# what a line must not end with, and what it must not begin with
BEFORE, AFTER = r"[(\[“‘—–]+$", r"^[.,;:!?)\]’”'—–-]+"


class AuthorYear(BaseLabelStyle):
    """Bach 2008; Golub & Van Loan 2013; Cai et al. 2010; with a, b ... where two works
    would have one label."""

    def format_labels(self, sorted_entries: Sequence[Entry]) -> Iterator[str]:
        labels = [
            f"{surnames(one.persons['author'])} {one.fields.get('year', '')}".strip()
            for one in sorted_entries
        ]
        count, seen = Counter(labels), Counter[str]()
        for label in labels:
            yield label + (ascii_lowercase[seen[label]] if count[label] > 1 else "")
            seen[label] += 1


def surnames(people: Sequence[Person]) -> str:
    """Bach; Golub & Van Loan; Cai et al."""
    last = [
        " ".join(str(part) for part in (*one.rich_prelast_names, *one.rich_last_names))
        for one in people
    ]
    return " & ".join(last) if len(last) < 3 else f"{last[0]} et al."


class Book(Style):
    """pybtex's alpha, with these labels."""

    default_label_style = AuthorYear


class Glue(SphinxPostTransform):
    """Puts each formula in a line, and the punctuation that touches it, into a span that
    does not break."""

    default_priority = 400

    def run(self, **_: Any) -> None:
        for formula in list(self.document.findall(nodes.math)):
            before, after = cut(formula, -1, BEFORE), cut(formula, 1, AFTER)
            if before or after:
                span = nodes.inline(classes=["lrd-glue"])
                formula.replace_self(span)
                span += [part for part in (before, formula, after) if part]


def cut(formula: nodes.math, side: int, pattern: str) -> nodes.Text | None:
    """The punctuation that the text beside a formula loses; None if there is none. `side`
    is -1 for the text before it, 1 for the text after it."""
    parent: Any = formula.parent
    at = parent.index(formula) + side
    text: Any = parent[at] if 0 <= at < len(parent) else None
    found = re.search(pattern, text) if isinstance(text, nodes.Text) else None
    if not found:
        return None
    parent.replace(text, nodes.Text(text[: found.start()] + text[found.end() :]))
    return nodes.Text(found.group())


def setup(app: Any) -> dict[str, Any]:
    register_plugin("pybtex.style.formatting", "book", Book)
    app.add_post_transform(Glue)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
