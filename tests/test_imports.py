"""Imports point one way, the core needs torch and numpy only, and nothing unpickles: read off the source with ast.

Every import statement counts, also one inside a function. A new module of lrdlib takes a line in ALLOWED.
"""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import lrdlib

PACKAGE = Path(lrdlib.__file__).parent
SOURCES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
}

# Module (a subpackage counts as one) -> the siblings it may import, besides _check, which imports none.
ALLOWED = {
    "_check": set(),
    "polar": set(),
    "spectral": set(),
    "tasks": set(),
    "model": set(),
    "store": set(),
    "backend": set(),
    "_sphinx": set(),
    "geometry": {"spectral", "polar"},
    "decay": {"polar", "spectral", "model"},
    "fourier": {"model"},
    "config": {"model", "tasks", "decay", "polar"},
    "records": {"spectral"},
    "train": {"config", "records", "fourier", "model", "tasks", "decay", "spectral", "store"},
    "runs": {"backend", "config", "records", "train", "store", "model"},
    "sweep": {"backend", "config", "train", "runs"},
    "grids": set(),
    "exercises": set(),
    "claims": {"config", "grids", "phase", "runs", "sweep"},
    "canvas": set(),
    "captions": {"runs"},
    "plots": {"canvas", "captions", "runs"},
    "phase": {"config", "runs"},
    "phase_grid": {"phase", "canvas", "config", "runs"},
    "phase_words": {"phase", "phase_grid", "runs"},
    "phase_plots": {"phase", "phase_grid", "phase_words", "canvas", "config", "runs"},
    "page": {"_sphinx"},
    "lab": {"config", "decay", "model", "phase", "records", "runs", "tasks", "train"},
}
ANYTHING = {"__init__", "__main__", "commands"}  # the public names, and the command line

CORE = {"torch", "numpy", "filelock"} | set(sys.stdlib_module_names)
EXTRAS = {
    "canvas": {"plotly"},
    "plots": {"plotly"},
    "phase_grid": {"plotly"},
    "phase_plots": {"plotly"},
    "page": {"plotly"},
    "sweep": {"joblib"},
    "commands": {"tqdm", "joblib", "distributed"},
    "_sphinx": {"docutils", "sphinx", "myst_nb"},
    "lab": {"anywidget", "traitlets", "ipywidgets", "onnx", "plotly"},
}
PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal"}
UNPICKLERS = {"torch.load", "torch.save", "joblib.load", "joblib.dump"}  # joblib's processes are no files


def imports(name: str, source: str) -> Iterator[str]:
    """The full dotted name of everything that the module lrdlib.`name` imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ["lrdlib", *name.split(".")][: -node.level] if node.level else []
            base = ".".join([*package, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def siblings(name: str, source: str) -> set[str]:
    """The other modules of lrdlib that a module imports; "__init__" for a name of the package itself."""
    parts = [target.split(".") for target in imports(name, source) if target.split(".")[0] == "lrdlib"]
    known = set(ALLOWED) | {module.split(".")[0] for module in SOURCES}
    return {path[1] if len(path) > 1 and path[1] in known else "__init__" for path in parts} - {name.split(".")[0]}


def wrong_imports(name: str, source: str) -> set[str]:
    """What a module imports against the table: a sibling above it, or a package it may not need."""
    top = name.split(".")[0]
    outside = {target.split(".")[0] for target in imports(name, source)} - {"lrdlib"}
    wrong = outside - CORE - EXTRAS.get(top, set())
    if top not in ANYTHING:
        wrong |= siblings(name, source) - ALLOWED[top] - {"_check"}
    return wrong


def unpickling(source: str) -> set[str]:
    """The expressions of a source that write or read pickles: importing a pickler, torch.load/save, allow_pickle."""
    found = {target for target in imports("", source) if target.split(".")[0] in PICKLERS}
    found |= {target for target in imports("", source) if target in UNPICKLERS}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in UNPICKLERS:
            found.add(ast.unparse(node))
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            found.add(f"allow_pickle={ast.unparse(node.value)}")
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_imports_point_one_way(name):
    assert name.split(".")[0] in set(ALLOWED) | ANYTHING, "a new module: say in ALLOWED what it may import"
    assert not wrong_imports(name, SOURCES[name])


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_unpickles(name):
    assert not unpickling(SOURCES[name])


def test_the_table_has_no_cycle():
    order = list(TopologicalSorter(ALLOWED).static_order())
    assert set(order) == set(ALLOWED) and order.index("plots") > order.index("train") > order.index("decay")


@pytest.mark.parametrize(
    ("name", "source", "wrong"),
    [
        ("spectral", "import torch\nfrom lrdlib._check import check_real\nimport math", set()),
        ("spectral", "from lrdlib.polar import polar_factor", {"polar"}),
        ("spectral", "from lrdlib import polar", {"polar"}),
        ("spectral", "from . import polar", {"polar"}),
        ("spectral", "from .polar import polar_factor", {"polar"}),
        ("spectral", "import lrdlib.polar", {"polar"}),
        ("spectral", "def f():\n    import lrdlib", {"__init__"}),
        ("spectral", "from lrdlib import polar_factor", {"__init__"}),
        ("_check", "from lrdlib.polar import METHODS", {"polar"}),
        ("train", "from lrdlib.runs import Run", {"runs"}),
        ("train", "import scipy.linalg", {"scipy"}),
        ("plots", "import plotly.graph_objects as go\nfrom lrdlib.runs import Run", set()),
        ("plots", "from lrdlib.train import train", {"train"}),
        ("runs", "import plotly", {"plotly"}),
        ("lab.widget", "from ..train import train\nfrom .page import HTML\nimport anywidget", set()),
        ("lab.widget", "from ..sweep import sweep", {"sweep"}),
        ("commands.mechanism", "from lrdlib.plots import timeline_figure\nimport tqdm", set()),
        ("__main__", "from lrdlib.commands import mechanism\nimport tqdm", {"tqdm"}),
        ("__main__", "import book", {"book"}),
    ],
)
def test_the_check_of_imports_itself(name, source, wrong):
    assert wrong_imports(name, source) == wrong


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", {"pickle"}),
        ("from pickle import loads", {"pickle.loads"}),
        ("def f(x):\n    return torch.load(x)", {"torch.load"}),
        ("from torch import save", {"torch.save"}),
        ("import joblib\njoblib.dump(run, f)", {"joblib.dump"}),
        ("from joblib import Parallel", set()),
        ("np.load(f, allow_pickle=True)", {"allow_pickle=True"}),
        ("np.load(f, allow_pickle=flag)", {"allow_pickle=flag"}),
        ("np.load(f, allow_pickle=False)\ntorch.save_rng", set()),
    ],
)
def test_the_check_of_pickles_itself(source, found):
    assert unpickling(source) == found
