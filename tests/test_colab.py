"""The copies of the notebooks that Colab opens: nothing raw in them, the same code, and
each runs with nothing around.

TestBuilt reads the built book (`make book` first). TestAlone installs lrdlib from this
working tree, in place of the public repository: two copies with this environment's
packages, or all of them with Colab's (`make colab`).
"""

import doctest
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))
colab = importlib.import_module("colab")
Book, Copy, Unknown = colab.Book, colab.Copy, colab.Unknown
convert, leftovers = colab.convert, colab.leftovers
MODULES = [importlib.import_module(f"colab.{name}") for name in ("parse", "tex", "render")]

HTML = ROOT / "_build" / "html"
FENCE = "`" * 3
BIB = r"""
@misc{power, author = {Power, A. and Burda, Y. and Edwards, H.}, title = {G}, year = {2022},
  url = {https://arxiv.org/abs/1}}
@article{bjorck, author = {Bj{\"o}rck, {\AA}ke and Bowie, C.}, title = {P}, year = {1971},
  doi = {10.1137/0708036}}
@book{golub, author = {Golub, Gene H.}, title = {M}, publisher = {J}, year = {2013}}
"""
HERE = r"""
# Here

$$ a = b $$ (eq-one)

:::{prf:theorem} First
:label: thm-one
:::

:::{exercise-start}
:label: ex-one
:::
:::{exercise-end}
:::

(somewhere)=
"""
THERE = r"""
# There is $\R$

(named)=

$$ b = a $$

(a-section)=
## A section

$$ c = d $$ (eq-two)

:::{prf:theorem}
:label: thm-two
:::

:::{prf:lemma}
:label: lem-two
:::

:::{exercise-start}
:label: ex-two
:::
:::{exercise-end}
:::
"""
WORDS = """
:::{glossary}
polar factor
  A matrix.

Newton–Schulz iteration
  A way to the {term}`polar factor`.
:::
"""
SITE = "https://me.github.io/it/"


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    bib = tmp_path_factory.mktemp("bib") / "references.bib"
    bib.write_text(BIB, encoding="utf-8")
    macros = {
        "R": (r"\mathbb{R}", 0),
        "norm": (r"\lVert #1 \rVert", 1),
        "inner": (r"\langle #1, #2 \rangle", 2),
    }
    pages = {"here": [HERE], "there": [THERE], "glossary": [WORDS]}
    return Book(
        "https://github.com/me/it",
        title="It",
        macros=macros,
        pages=pages,
        works_from=(bib,),
    )


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_doctests(module):
    done = doctest.testmod(module)
    assert done.attempted > 0 and done.failed == 0


SAID = {
    # references, with the numbers of the whole book
    "equation here": ("see {eq}`eq-one`", "see (1)"),
    "equation there": ("see {eq}`eq-two`", f"see [(3)]({SITE}there.html#equation-eq-two)"),
    "theorem here": ("{prf:ref}`thm-one`", "Theorem 1"),
    "theorem there": ("{prf:ref}`thm-two`", f"[Theorem 2]({SITE}there.html#thm-two)"),
    "kinds count apart": ("{prf:ref}`lem-two`", f"[Lemma 1]({SITE}there.html#lem-two)"),
    "exercise": ("{ref}`ex-two`", f"[Exercise 2]({SITE}there.html#ex-two)"),
    "named": ("{ref}`an\nexercise <ex-two>`", f"[an exercise]({SITE}there.html#ex-two)"),
    "named here": ("{ref}`above <somewhere>`", "above"),
    "section": ("{ref}`a-section`", f"[A section]({SITE}there.html#a-section)"),
    "page": ("{doc}`there`", rf"[There is $\mathbb{{R}}$]({SITE}there.html)"),
    "page by words": ("{doc}`that one <there>`", f"[that one]({SITE}there.html)"),
    "link to a page": (
        "[that](there.ipynb#x) and [this](there.md)",
        f"[that]({SITE}there.html#x) and [this]({SITE}there.html)",
    ),
    "link outside": (
        "[that](https://a.b/c) <https://d.e>",
        "[that](https://a.b/c) [https://d.e](https://d.e)",
    ),
    "term": (
        "{term}`polar factor`",
        f"[polar factor]({SITE}glossary.html#term-polar-factor)",
    ),
    "term in words": (
        "{term}`a way <Newton–Schulz iteration>`",
        f"[a way]({SITE}glossary.html#term-NewtonSchulz-iteration)",
    ),
    # citations
    "cite": ("so {cite}`power`.", "so ([Power et al., 2022](https://arxiv.org/abs/1))."),
    "cite two": (
        "{cite:p}`bjorck, golub`",
        "([Björck and Bowie, 1971](https://doi.org/10.1137/0708036); [Golub, "
        f"2013]({SITE}bibliography.html))",
    ),
    "cite in the text": (
        "{cite:t}`power` say",
        "[Power et al. (2022)](https://arxiv.org/abs/1) say",
    ),
    # maths
    "macros": (r"$x \in\R^n$, $\norm{\norm{x}_F}$, $\inner{a}{b}$", None),
    "one line": ("$a +\n b$ and\n\n$$\na\n= b\n$$", "$a + b$ and\n\n$$a = b$$"),
    "signs that look like HTML": ("$a<b>c$", r"$a \lt b \gt c$"),
    "a labelled equation": ("$$ a = b $$ (eq-one)", r"$$a = b \tag{1}$$"),
    "an environment": (
        "\\begin{align}\na &= b\n\\end{align}",
        r"$$\begin{align} a &= b \end{align}$$",
    ),
    "bars in a table": ("| $a$ | b |\n|---|--:|\n| $\\lvert x\\rvert$ | `a\\|b` |", None),
    # theorems and exercises
    "theorem": (
        ":::{prf:theorem} A $\\R$\n:label: thm-one\n\nLet $a$.\n\n$$\na\n$$\n\n- b\n- "
        "c\n:::",
        "> **Theorem 1** (A $\\mathbb{R}$).\n>\n> Let $a$.\n>\n> $$a$$\n>\n> - b\n> - c",
    ),
    "proof": (":::{prf:proof}\nClear.\n:::", "*Proof.* Clear. ∎"),
    "proof that ends in a formula": (
        ":::{prf:proof}\nClear:\n\n$$a$$\n:::",
        "*Proof.* Clear:\n\n$$a$$\n\n∎",
    ),
    "proof that is a list": (
        ":::{prf:proof}\n1. a\n2. b\n:::",
        "*Proof.*\n\n1. a\n2. b\n\n∎",
    ),
    "exercise block": (
        "## Exercises\n\n:::{exercise-start} A *title*\n:label: ex-one\n:::\nDo "
        "it.\n:::{exercise-end}\n:::",
        "## Exercises\n\n### Exercise 1: A *title*\n\nDo it.",
    ),
    "solution": (
        ":::{solution-start} ex-one\n:class: dropdown\n:::\n"
        "So: $\\R$\n```python\n'{eq}`a`'\n```\n:::{solution-end}\n:::",
        "<details><summary>Solution to Exercise 1</summary>\n\nSo: $\\mathbb{R}$\n\n"
        "```python\n'{eq}`a`'\n```\n\n</details>",
    ),
    # the rest
    "target": ("(somewhere)=\nText.", "Text."),
    "comment": ("% not shown\n\nText.\n\n<!-- nor this -->", "Text."),
    "admonition": (":::{admonition} Mind $a$\nText.\n:::", "> **Mind $a$**\n>\n> Text."),
    "glossary": (
        ":::{glossary}\nfactor\n  A $\\R$\n  matrix.\n:::",
        "**factor**\n\n> A $\\mathbb{R}$ matrix.",
    ),
    "nested lists": ("1. a\n   - b\n\n     c\n2. d", None),
    "emphasis, code and escapes stay": (
        r"*a* **b** `$c_1$` \* \_ a_b &amp;",
        r"*a* **b** `$c_1$` \* \_ a_b &amp;",
    ),
    "lines are joined": ("a\nb  \nc", "a b  \nc"),
    "quote": ("> a\n> b", "> a b"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_a_cell_says_in_colab(book, name):
    source, expected = SAID[name]
    got = Copy(book, "here").cell(source)
    if expected is not None:
        assert got == expected
    assert leftovers(got, book.macros) == []


def test_macros_are_written_out_wherever_they_stand(book):
    got = Copy(book, "here").cell(SAID["macros"][0])
    assert got == (
        r"$x \in\mathbb{R}^n$, $\lVert \lVert x \rVert_F \rVert$, $\langle a, b \rangle$"
    )
    assert colab.expand(r"\norm x \norm\alpha \{ \R", book.macros) == (
        r"\lVert x \rVert \lVert \alpha \rVert \{ \mathbb{R}"
    )


def test_a_bar_in_a_table_does_not_end_its_cell(book):
    table = "| $\\|x\\|$ | b |\n|---|--:|\n| $\\lvert x\\rvert$ | `a\\|b` |"
    got = Copy(book, "here").cell(table)
    assert [len(re.split(r"(?<!\\)\|", line)) for line in got.splitlines()] == [4, 4, 4]
    assert r"`a\|b`" in got and "---:" in got


def test_a_list_in_a_list_keeps_its_place(book):
    copy, nested = Copy(book, "here"), "1. a\n   - b\n   - c\n2. d"
    assert copy.cell(nested) == nested
    assert copy.cell("- a\n\n  $$\n  b\n  $$\n\n- c") == "- a\n\n  $$b$$\n\n- c"


@pytest.mark.parametrize(
    "source",
    [
        "{unknown}`a`",
        ":::{unknown}\n:::",
        ":::{prf:unknown}\n:label: a\n:::",
        ":::{prf:theorem} without a label\n:::",
        ":::{admonition} A\n:figclass: a\n:::",
        ":::{exercise-start} without a label\n:::",
        "{eq}`nowhere`",
        "{prf:ref}`nowhere`",
        "{ref}`nowhere`",
        "{ref}`somewhere`",  # no heading follows, so there is no text to show
        "{doc}`nowhere`",
        "{term}`nowhere`",
        "{cite}`nowhere`",
        "[a](nowhere.md)",
        "{{ substitution }}",
        "a[^1]\n\n[^1]: A footnote.",
        "<script>alert(1)</script>",
        "it costs $5",
        ":::{solution-end}\n:::",
        ":::{exercise-end}\n:::",
        "$$\na % comment\n$$",
    ],
)
def test_what_is_not_known_is_an_error(book, source):
    with pytest.raises(Unknown):
        Copy(book, "here").cell(source)


@pytest.mark.parametrize(
    "text",
    [
        ":::{note}",
        "{eq}`a`",
        "{prf:ref}`a`",
        "(target)=",
        "> (target)=",
        "$$ a $$ (eq-one)",
        r"$\norm{x}$",
        "{{ a }}",
    ],
)
def test_leftovers_are_seen(book, text):
    assert leftovers(f"Before.\n\n{text}\n\nAfter.", book.macros)
    assert not leftovers(f"Before.\n\n{FENCE}\n{text}\n{FENCE}\n\nAfter.", book.macros)


# ---- whole notebooks


INSTALL = """try:
    import lrdlib
except ModuleNotFoundError:
    %pip install -q --no-deps git+https://github.com/a/b"""


def notebook(*cells):
    """Strings are markdown; pairs are code and tags. The first cell is added."""
    made = [nbformat.v4.new_code_cell(INSTALL, metadata={"tags": ["remove-cell"]})]
    for cell in cells:
        if isinstance(cell, str):
            made.append(nbformat.v4.new_markdown_cell(cell))
        else:
            made.append(nbformat.v4.new_code_cell(cell[0], metadata={"tags": cell[1:]}))
    return nbformat.v4.new_notebook(cells=made)


def test_a_solution_may_span_code(book):
    copy = convert(
        notebook(
            "# Here\n\n:::{solution-start} ex-one\n:class: dropdown\n:::\nFirst.",
            ("x = 1",),
            "Second.\n\n:::{solution-end}\n:::\n\nAfter.",
            ("y = 2",),
        ),
        "here",
        book,
    )
    _, _, before, inside, after, outside = copy.cells
    assert before.source.endswith(
        "<details><summary>Solution to Exercise 1</summary>\n\nFirst.\n\n</details>"
    )
    assert inside.source == "#@title Solution to Exercise 1: code\nx = 1"
    assert inside.metadata == {"cellView": "form"}
    assert after.source == (
        "<details><summary>Solution to Exercise 1</summary>\n\nSecond.\n\n</details>"
        "\n\nAfter."
    )
    assert outside.source == "y = 2" and outside.metadata == {}


def test_a_cell_that_says_nothing_is_left_out(book):
    copy = convert(
        notebook(":::{solution-start} ex-one\n:::", ("x = 1",), ":::{solution-end}\n:::"),
        "here",
        book,
    )
    assert [cell.cell_type for cell in copy.cells] == ["markdown", "code", "code"]


def test_cells_are_folded_as_on_the_page(book):
    source = notebook(
        ("a", "hide-input"),
        ("b", "hide-cell"),
        ("c", "remove-cell"),
        ("d", "hide-input"),
        ("e",),
    )
    source.cells[1].outputs = [nbformat.v4.new_output("display_data", {colab.PLOTLY: {}})]
    copy = convert(source, "here", book)
    assert [cell.source for cell in copy.cells[2:]] == [
        *("#@title Figure\na", "#@title Setup\nb", "c", "#@title Result\nd", "e")
    ]
    assert all(
        cell.outputs == [] and cell.execution_count is None for cell in copy.cells[1:]
    )
    assert source.cells[1].outputs  # the source is as it was


def test_a_widget_that_the_site_cannot_show_is_shown_in_colab(book):
    cell = nbformat.v4.new_code_cell(
        "lab = Lab()\n# lab  # take the first hash away: press Start"
    )
    made = colab.code(cell, None, ("x", "x"))
    assert made.source == "lab = Lab()\nlab  # press Start"
    lab = nbformat.read(ROOT / "book/lab.ipynb", as_version=4)
    hashed = [colab.HASHED.findall(cell.source) for cell in lab.cells]
    assert sum(map(len, hashed)) == 1  # the notebook says it in these words


def test_the_copy_installs_from_the_repository_of_the_settings(book):
    clone = "!git clone -q --depth 1 https://github.com/a/b .b"
    copy = convert(notebook((clone, "remove-cell")), "here", book)
    assert copy.cells[1].source.endswith("git+https://github.com/me/it")
    assert copy.cells[2].source == "!git clone -q --depth 1 https://github.com/me/it .b"


@pytest.mark.parametrize(
    "cells",
    [
        [("%%time\nx", "hide-input")],
        [("x", "unknown-tag")],
        [":::{solution-start} ex-one\n:::"],
        [":::{exercise-start}\n:label: ex-one\n:::"],
    ],
)
def test_a_notebook_that_cannot_be_shown_is_an_error(book, cells):
    with pytest.raises(Unknown, match="here"):
        convert(notebook(*cells), "here", book)


def test_the_first_cell_must_install(book):
    with pytest.raises(Unknown, match="install"):
        convert(
            nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import torch")]),
            "here",
            book,
        )


def test_pages_are_found_in_reading_order(tmp_path):
    chapters = [{"file": "b", "sections": [{"file": "c"}]}]
    toc = {"root": "a", "parts": [{"chapters": chapters}, {"chapters": [{"file": "d"}]}]}
    (tmp_path / "toc.yml").write_text(yaml.dump({"format": "jb-book"} | toc))
    nbformat.write(notebook("# A", ("x = 1",), "End."), tmp_path / "a.ipynb")
    for name in "bcd":
        (tmp_path / f"{name}.md").write_text(f"# {name.upper()}")
    pages = {"a": ["# A", "End."], "b": ["# B"], "c": ["# C"], "d": ["# D"]}
    found = MODULES[0].pages(tmp_path / "toc.yml", tmp_path)
    assert list(found.items()) == list(pages.items())


# ---- the book itself


@cache
def real() -> Book:
    return Book.read()


@cache
def pair(page: str):
    """The source of a page and its copy."""
    source = nbformat.read(ROOT / "book" / f"{page}.ipynb", as_version=4)
    return source, convert(source, page, real())


PAGES = [page for page, _ in colab.notebooks(real())]


@pytest.mark.parametrize("page", PAGES)
def test_no_myst_is_left(page):
    _, copy = pair(page)
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            assert leftovers(cell.source, real().macros) == []
            assert not re.search(
                r":::|\{(prf|cite|term|eq|ref|doc|numref)[}:]|^\(.*\)=|-(start|end)\}",
                cell.source,
                re.M,
            )


@pytest.mark.parametrize("page", PAGES)
def test_the_copy_is_a_small_notebook(page):
    _, copy = pair(page)
    nbformat.validate(copy)
    assert len(nbformat.writes(copy)) < 1_000_000
    assert len({cell.id for cell in copy.cells}) == len(copy.cells)


@pytest.mark.parametrize("page", PAGES)
def test_the_code_is_the_source_s(page):
    source, copy = (
        [cell for cell in book.cells if cell.cell_type == "code"] for book in pair(page)
    )
    shown = [colab.HASHED.sub(r"\1  # ", cell.source) for cell in source]
    assert shown == [re.sub(r"\A#@title .*\n", "", cell.source) for cell in copy]
    assert source[0].source == copy[0].source
    assert copy[0].source.startswith(
        "try:\n    import lrdlib\nexcept ModuleNotFoundError:\n    %pip install"
    )
    assert copy[0].source.endswith(f"--no-deps git+{real().repository}")
    for before, after in zip(source, copy, strict=True):
        hidden = set(before.metadata.get("tags", [])) & colab.FOLDED
        assert not hidden or after.metadata == {"cellView": "form"}


@pytest.mark.parametrize("page", PAGES)
def test_every_exercise_and_every_theorem_has_its_place(page):
    _, copy = pair(page)
    text = "\n".join(cell.source for cell in copy.cells if cell.cell_type == "markdown")
    for (kind, _), place in real().places.items():
        if place.page == page and kind in ("prf", "exercise"):
            assert re.search(rf"^(> \*\*|#+ ){place.text}\b", text, re.M), place
    assert text.count("<details>") == text.count("</details>")


def test_the_command_writes_the_copies(tmp_path):
    output(sys.executable, ROOT / "book" / "colab", tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == set(PAGES)
    for page in PAGES:
        made = nbformat.read(tmp_path / f"{page}.ipynb", as_version=4)
        assert made == nbformat.reads(nbformat.writes(pair(page)[1]), as_version=4), page


class TestBuilt:
    """The built book: its buttons, and the numbers and anchors that the copies speak of."""

    @pytest.fixture(autouse=True)
    def built(self):
        if not (HTML / "colab").exists():
            pytest.skip("the book is not built: run make book")

    @pytest.mark.parametrize("page", PAGES)
    def test_the_button_opens_the_copy(self, page):
        html = (HTML / f"{page}.html").read_text(encoding="utf-8")
        config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
        repository = config["repository"]["url"]
        name = repository.removeprefix("https://github.com/")
        assert set(re.findall(r'href="(https://colab[^"]*)"', html)) == {
            f"https://colab.research.google.com/github/{name}/blob/{colab.BRANCH}/{page}.ipynb"
        }
        made = nbformat.read(HTML / "colab" / f"{page}.ipynb", as_version=4)
        assert made == nbformat.reads(nbformat.writes(pair(page)[1]), as_version=4)

    def test_a_page_without_code_has_no_button(self):
        for page in set(real().pages) - set(PAGES):
            assert "colab.research" not in (HTML / f"{page}.html").read_text(
                encoding="utf-8"
            )

    def test_numbers_are_those_of_the_page(self):
        for (kind, label), place in real().places.items():
            html = (HTML / f"{place.page}.html").read_text(encoding="utf-8")
            if kind == "equation":
                number = re.search(
                    rf'class="eqno">\((\d+)\)<a class="headerlink" href="#{place.anchor}"',
                    html,
                )
                assert number and int(number[1]) == place.number, label
            elif kind in ("prf", "exercise"):
                after = html.split(f'id="{place.anchor}"', 1)[1]
                shown = re.search(r'class="caption-number">([^<]*?) *<', after)[1]
                assert shown == place.text, label

    @pytest.mark.parametrize("page", PAGES)
    def test_links_into_the_site_lead_somewhere(self, page):
        text = "\n".join(
            cell.source for cell in pair(page)[1].cells if cell.cell_type == "markdown"
        )
        for name, anchor in re.findall(
            rf"\]\({re.escape(real().site())}([\w.-]*)(?:#([^)]*))?\)", text
        ):
            html = (HTML / (name or "index.html")).read_text(encoding="utf-8")
            # of those in the lab, tests/test_lab_data.py
            if not anchor.startswith(("lab:", "train:")):
                assert not anchor or f'id="{anchor}"' in html, (name, anchor)


# ---- alone


# One page that needs no recorded run, one that clones the repository for them.
QUICK = ("needle_to_fan", "grokking")
VERSIONS = """
import json, numpy, plotly, torch
versions = [module.__version__ for module in (numpy, plotly, torch)]
"""
REPORT = f"""
{VERSIONS}
import sys
import lrdlib
report = {{"lrdlib": lrdlib.__file__, "python": sys.prefix, "versions": versions}}
json.dump(report, open("report.json", "w"))
"""


def output(*command) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@cache
def versions() -> list[str]:
    """Those of the environment whose packages the copies find."""
    base = os.environ.get("COLAB", sys.executable)
    return json.loads(output(base, "-c", f"{VERSIONS}\nprint(json.dumps(versions))"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """This working tree as a repository with one commit, in place of the public one."""
    folder = tmp_path_factory.mktemp("repository")
    listed = output(
        "git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"
    )
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git = ("git", "-C", folder, "-c", "user.name=test", "-c", "user.email=test@localhost")
    output(*git, "init", "-q")
    for setting in (
        "window",
        "compression",
    ):  # its clones are taken in a quarter of the time
        output(*git, "config", f"pack.{setting}", "0")
    output(*git, "add", "--all", "--force")
    output(*git, "commit", "-q", "-m", "the working tree")
    return folder


@pytest.fixture
def python(tmp_path):
    """A fresh environment that sees the packages of another one, but not what that one has
    as links (lrdlib)."""
    base = os.environ.get("COLAB", sys.executable)
    output(base, "-m", "venv", "--without-pip", tmp_path / "env")
    path = "import sysconfig; print(sysconfig.get_path('purelib'))"
    fresh = tmp_path / "env" / "bin" / "python"
    link = Path(output(fresh, "-c", path), "base.pth")
    link.write_text(output(base, "-c", path) + "\n", encoding="utf-8")
    return fresh


class TestAlone:
    """A copy in an empty folder, with a Python that has Colab's packages and not lrdlib."""

    @pytest.mark.filterwarnings("default")  # those of the notebook client are not ours
    @pytest.mark.parametrize(
        "page",
        PAGES if "COLAB" in os.environ else [page for page in QUICK if page in PAGES],
    )
    def test_runs(self, page, python, repository, tmp_path):
        from jupyter_client.kernelspec import KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient

        source, copy = pair(page)
        settings = {
            "PYTHONPATH": "",
            "PYTHONNOUSERSITE": "1",
            "IPYTHONDIR": str(tmp_path / "ipython"),
            "PLOTLY_RENDERER": "colab",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{repository}.insteadOf",
            "GIT_CONFIG_VALUE_0": real().repository,
        }
        spec = {
            "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "alone",
            "language": "python",
            "env": settings,
        }
        kernel, folder = tmp_path / "kernels" / "alone", tmp_path / "empty"
        kernel.mkdir(parents=True)
        (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        folder.mkdir()

        run = nbformat.reads(nbformat.writes(copy), as_version=4)
        run.cells.append(nbformat.v4.new_code_cell(REPORT))
        specs = KernelSpecManager(
            kernel_dirs=[str(tmp_path / "kernels")], ensure_native_kernel=False
        )
        manager = AsyncKernelManager(kernel_name="alone", kernel_spec_manager=specs)
        where = {"metadata": {"path": str(folder)}}
        client = NotebookClient(run, km=manager, timeout=3600, resources=where)
        client.execute(cleanup_kc=True)

        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        assert report["python"] == str(tmp_path / "env")
        assert report["lrdlib"].startswith(report["python"])  # installed by the first cell
        assert report["versions"] == versions()  # and nothing else was installed
        drawn = [
            cell.id
            for cell in source.cells
            if any(colab.PLOTLY in o.get("data", {}) for o in cell.get("outputs", []))
        ]
        html = {
            cell.id: [o.data.get("text/html", "") for o in cell.outputs if "data" in o]
            for cell in run.cells
            if cell.cell_type == "code"
        }
        for name in drawn:
            assert any("Plotly.newPlot" in text for text in html[name]), name
