"""The README is short, its code runs as it stands, and its tree is the library's; and what
the book's texts name of lrdlib is there."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
INDENTED = re.compile(r"^    .*\n", re.MULTILINE)  # code and the tree
TREE = "".join(INDENTED.findall(README[README.index("## What is where") :]))


def prose(text):
    """A page's text without code, tables, addresses and marks."""
    text = INDENTED.sub("", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    text = re.sub(r"^\|.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "", text)
    return re.sub(r"[\[\]!*`]", "", text)


def sentences(text):
    """The words of every sentence of a text, items of lists among them; no headings."""
    text = re.sub(r"^#.*\n", "\n", text, flags=re.MULTILINE)
    parts = re.split(r"[.!?](?=\s)|\n\n|\n- ", text)
    return [re.findall(r"\S*\w\S*", part) for part in parts if part.strip()]


def described(tree):
    """Path -> description of every line of an indented tree."""
    found, folders = {}, []
    for line in tree.splitlines():
        name, _, words = line.strip().partition(" ")
        level = (len(line) - len(line.lstrip()) - 4) // 2
        folders[level:] = [name]
        found["".join(folders)] = words.strip()
    return found


def named(text):
    """The files and folders that a text names, such as lrdlib/decay.py or book/runs."""
    return set(
        re.findall(r"(?<![\w./:-])(?:lrdlib|book|tests|benchmarks)/[\w./-]*\w/?", text)
    )


def dotted(text):
    """The modules and names of lrdlib that a text imports or speaks of."""
    found = set(re.findall(r"(?<![\w/.'-])lrdlib(?:\.[A-Za-z_]\w*)+", text))
    for module, names in re.findall(
        r"from (lrdlib[\w.]*) import (\([^)]*\)|[\w, ]+)", text
    ):
        found |= {f"{module}.{name}" for name in re.findall(r"\w+", names)}
    return found


def exists(name):
    """Whether a dotted name is a module, or something in one."""
    try:
        importlib.import_module(name)
        return True
    except ModuleNotFoundError:
        module, _, last = name.rpartition(".")
        return "." in name and exists(module) and hasattr(sys.modules.get(module), last)


def texts():
    """Every page of prose, by name: README, CONTRIBUTING, and the book's."""
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("book/*.md")):
        yield path.name, path.read_text(encoding="utf-8")
    for path in ROOT.glob("book/*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        yield path.name, "\n\n".join(c.source for c in cells if c.cell_type == "markdown")


TEXTS = dict(sorted(texts()))


@pytest.mark.parametrize("code", BLOCKS, ids=["own-loop", "own-experiment"])
def test_the_code_runs_as_it_stands(code, tmp_path):
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"from (lrdlib\S*)", code)) == {"lrdlib"}  # the short imports


def test_it_is_short():
    words = prose(README).split()
    assert len(words) <= 600
    lengths = [len(sentence) for sentence in sentences(prose(README))]
    assert sum(lengths) / len(lengths) <= 20


def test_sentences_are_counted():
    text = prose(
        "# A b\n\nOne *two* [three](x.md). Four\nfive: six.\n\n    code\n\n- a b\n- c"
    )
    assert [len(sentence) for sentence in sentences(text)] == [3, 3, 2, 1]


def test_the_tree_names_every_file_and_no_other():
    lines = described(TREE)
    for path in (ROOT / "lrdlib").rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if path.name == "__init__.py" and name != "lrdlib/__init__.py":
            name = name.removesuffix("__init__.py")  # a package's line is its folder's
        assert lines.pop(name, ""), f"{name} has no line with a description"
    assert set(lines) == {"lrdlib/", "book/", "tests/", "benchmarks/"}


def test_a_tree_is_read():
    tree = "    a/\n      b.py   one\n      c/     two words\n        d.py three\n    e/  four\n"
    lines = {
        "a/": "",
        "a/b.py": "one",
        "a/c/": "two words",
        "a/c/d.py": "three",
        "e/": "four",
    }
    assert described(tree) == lines


CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
OWNER, REPOSITORY = urlsplit(CONFIG["repository"]["url"]).path.strip("/").split("/")
SITE = f"https://{OWNER}.github.io/{REPOSITORY}/"


def test_a_link_that_is_shared_shows_the_site_of_the_repository():
    settings = CONFIG["sphinx"]["config"]
    assert settings["ogp_site_url"] == SITE
    assert (ROOT / "book" / settings["ogp_image"]).is_file()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(name):
    for address in re.findall(r"\]\(([^)]+)\)", TEXTS[name]):
        if address.startswith(SITE):
            page = address.removeprefix(SITE).partition(".html")[0] or "intro"
            assert any((ROOT / "book").glob(f"{page}.*")), address
        elif not urlsplit(address).scheme:
            assert (ROOT / address).exists(), address


@pytest.mark.parametrize("name", TEXTS)
def test_every_file_and_name_of_lrdlib_that_a_text_names_is_there(name):
    missing = {path for path in named(TEXTS[name]) if not (ROOT / path).exists()}
    missing |= {path for path in dotted(TEXTS[name]) if not exists(path)}
    assert not {path for path in missing if "NAME" not in path}


def test_what_is_not_there_is_seen():
    text = "`lrdlib/no.py`, lrdlib/decay.py; `lrdlib.plots`, lrdlib.polar.response"
    assert named(text) == {"lrdlib/no.py", "lrdlib/decay.py"}
    assert dotted(text) == {"lrdlib.plots", "lrdlib.polar.response"}
    imports = "from lrdlib import a\nfrom lrdlib.x import (\n    b,\n    c,\n)\n"
    assert dotted(imports) == {"lrdlib.a", "lrdlib.x", "lrdlib.x.b", "lrdlib.x.c"}
    assert exists("lrdlib.polar.response") and exists("lrdlib.evidence")
    assert not exists("lrdlib.plots") and not exists("lrdlib.decay.no")


def test_nothing_is_left_to_fill_in():
    assert not re.search(r"@[A-Z]+@|TODO", README)
