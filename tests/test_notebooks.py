"""The notebooks as files: executed, without errors, and without what changes from run to
run.

`make nbval` runs them again and compares what they print; it would pass on a notebook
without outputs, so this file says that there are some.
"""

import ast
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

BOOK = Path(__file__).resolve().parent.parent / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
PLOTLY = "application/vnd.plotly.v1+json"
LINES = 25  # of a cell that shows a figure; what is longer is a function, or prepares


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def plain_python(source):
    """A cell's code without the lines that only IPython understands."""
    return (
        ""
        if source.startswith("%%")
        else re.sub(r"^(\s*)[!%].*$", r"\1pass", source, flags=re.MULTILINE)
    )


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_every_cell_was_executed_once_from_the_top(notebook):
    counts = [
        cell["execution_count"]
        for cell in code(notebook)
        if "".join(cell["source"]).strip()
    ]
    assert counts == list(range(1, len(counts) + 1))


def test_no_cell_failed_or_complained(notebook):
    outputs = [output for cell in code(notebook) for output in cell["outputs"]]
    assert [output["ename"] for output in outputs if output["output_type"] == "error"] == []
    assert [
        "".join(output["text"]) for output in outputs if output.get("name") == "stderr"
    ] == []


def test_metadata_holds_nothing_of_the_machine_that_ran_it(notebook):
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info", "mystnb", "widgets"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert "version" not in notebook["metadata"]["language_info"]
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags", "mystnb"}, cell["id"]


def test_lrdlib_is_used_only_where_a_later_cell_imports_it(notebook):
    """The first cell may end in an install, as in Colab: then it leaves the name `lrdlib`
    unbound."""
    trees = [
        ast.parse(plain_python("".join(cell["source"]))) for cell in code(notebook)[1:]
    ]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = any(
        isinstance(n, ast.Import) and any(a.name == "lrdlib" for a in n.names)
        for n in nodes
    )
    assert imported or not any(isinstance(n, ast.Name) and n.id == "lrdlib" for n in nodes)


def test_every_figure_says_what_it_shows(notebook):
    figures = [
        o["data"][PLOTLY]
        for cell in code(notebook)
        for o in cell["outputs"]
        if PLOTLY in o.get("data", {})
    ]
    for figure in figures:
        assert len(figure["layout"]["meta"]["alt"]) > 40  # a sentence, not a title


def shows_a_figure(cell):
    kinds = {kind for output in cell["outputs"] for kind in output.get("data", {})}
    return bool(kinds & {PLOTLY, "text/html"})


def test_a_cell_that_shows_a_figure_is_short(notebook):
    """It says what is drawn; what is computed for it stands in cells before, or in a
    function of lrdlib.figures."""
    sources = ["".join(cell["source"]) for cell in code(notebook) if shows_a_figure(cell)]
    assert not [source[:60] for source in sources if len(source.splitlines()) > LINES]


def test_what_a_figure_needs_is_folded_with_it(notebook):
    """A page shows the picture first and its code below it under one bar (book/cells.py):
    so a cell right before a folded figure is folded as well, or shows something."""
    cells = notebook["cells"]
    for before, cell in pairwise(cells):
        if cell["cell_type"] != "code" or not shows_a_figure(cell):
            continue
        if (
            "hide-input" in cell["metadata"].get("tags", [])
            and before["cell_type"] == "code"
        ):
            tags = set(before["metadata"].get("tags", []))
            folded = tags & {"hide-cell", "hide-input", "remove-cell", "remove-input"}
            assert folded or before["outputs"], "".join(before["source"])[:60]


def test_nothing_is_stored_that_only_a_kernel_can_show(notebook):
    kinds = {
        kind
        for cell in code(notebook)
        for output in cell["outputs"]
        for kind in output.get("data", {})
    }
    assert not {
        kind for kind in kinds if "widget" in kind or kind == "application/javascript"
    }


def test_a_table_in_markdown_is_read_as_one(notebook):
    """myst-nb reads outputs as CommonMark, which has no tables, unless a cell says MyST."""
    for cell in code(notebook):
        said = [
            "".join(output.get("data", {}).get("text/markdown", ""))
            for output in cell["outputs"]
        ]
        if any("| --- |" in text for text in said):
            assert cell["metadata"]["mystnb"] == {"markdown_format": "myst"}
