"""How the book's pages are set: works have readable labels, and a formula keeps the
punctuation that touches it."""

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx")

from docutils import nodes
from docutils.utils import new_document
from pybtex.database import parse_string

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "book"))
typeset = importlib.import_module("typeset")

BIB = r"""
@misc{one, author = {Bach, Francis}, year = {2008}}
@book{two, author = {Golub, Gene H. and Van Loan, Charles F.}, year = {2013}}
@misc{many, author = {Cand{\`e}s, E. and Recht, B. and Tao, T.}, year = {2009}}
@misc{first, author = {van Laarhoven, Twan}, year = {2017}}
@misc{again, author = {van Laarhoven, T.}, year = {2017}}
"""


def test_a_label_is_authors_and_year():
    entries = parse_string(BIB, "bibtex").entries.values()
    labels = [
        "Bach 2008",
        "Golub & Van Loan 2013",
        "Candès et al. 2009",
        "van Laarhoven 2017a",
        "van Laarhoven 2017b",
    ]
    assert list(typeset.AuthorYear().format_labels(list(entries))) == labels


@pytest.mark.parametrize(
    "before, after, parts",
    [
        ("of ", ", and", ["of ", ["x", ","], " and"]),
        ("so (", ").", ["so ", ["(", "x", ")."], ""]),
        ("an ", "-th root", ["an ", ["x", "-"], "th root"]),
        ("if ", " is 0.", ["if ", "x", " is 0."]),
    ],
)
def test_punctuation_stays_with_its_formula(before, after, parts):
    document = new_document("page")
    line = nodes.paragraph(
        "", "", nodes.Text(before), nodes.math("x", "x"), nodes.Text(after)
    )
    document += line
    typeset.Glue(document).run()
    found = [
        [part.astext() for part in child]
        if isinstance(child, nodes.inline)
        else child.astext()
        for child in line
    ]
    assert found == parts
    assert all(child["classes"] == ["lrd-glue"] for child in line.findall(nodes.inline))
