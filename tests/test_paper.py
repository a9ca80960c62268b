"""Every numbered item of the paper has one place in the book: a target such as
(paper-equation-9)= in one chapter."""

import json
import re
from pathlib import Path

import pytest

BOOK = Path(__file__).resolve().parent.parent / "book"

# item of arXiv 2606.04405 -> the chapter that teaches it
PAPER = {
    "definition-1": "scale_invariance",
    "equation-1": "scale_invariance",  # f(x; aW) = f(x; W)
    "equation-2": "scale_invariance",  # attention with QK-Norm
    "equation-3": "radial_gradient",  # the objective with L2
    "equation-4": "radial_gradient",  # its gradient flow
    "equation-5": "radial_gradient",  # Euler: the gradient is tangential
    "equation-6": "radial_gradient",  # the radial dynamics
    "proposition-1": "radial_gradient",
    "equation-7": "nuclear_norm",  # the objective with the nuclear norm
    "equation-8": "nuclear_norm",  # its subgradient
    "equation-9": "polar_factor",  # Newton-Schulz
    "algorithm-1": "decay_step",
    "equation-10": "needle_to_fan",  # the subdifferential
    "equation-11": "grokking",  # the task
    "equation-12": "rank_collapse",  # stable rank
    "figure-1": "phase_diagram",
    "figure-2": "rank_collapse",
    "table-1": "nuclear_norm",
    "section-6-3": "after_memorisation",
}


def prose(path):
    """The Markdown of a page."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join(
        "".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"
    )


def places():
    """Target -> the pages that hold it."""
    found = {}
    for path in sorted([*BOOK.glob("*.ipynb"), *BOOK.glob("*.md")]):
        for name in re.findall(r"^\(paper-([a-z0-9-]+)\)=$", prose(path), re.M):
            found.setdefault(name, []).append(path.stem)
    return found


@pytest.mark.parametrize("item", PAPER)
def test_every_item_has_its_place(item):
    assert places().get(item) == [PAPER[item]]


def test_nothing_else_claims_to_be_an_item():
    assert set(places()) == set(PAPER)
