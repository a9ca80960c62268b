"""Imports point one way, the core needs torch and numpy only, and nothing unpickles: read
off the source with ast.

Every import statement counts, also one inside a function. A new module of lrdlib takes a
line in one of the lists.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lrdlib

PACKAGE = Path(lrdlib.__file__).parent
SOURCES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text(
        encoding="utf-8"
    )
    for path in sorted(PACKAGE.rglob("*.py"))
}

# Imports point down this list only: a module may import those above its own line, and no
# other. In a package, its own list holds; beside it, the packages above may be used, less
# what WINGS takes away.
CORE = (
    *("tasks", "polar", "spectral", "model", "geometry", "decay", "matrices", "optimizer"),
    *("fourier", "exercises"),
)
TRAINING = (
    *("backend", "store", "config", "records", "step", "batches", "interrupts"),
    *("checkpoint", "train", "runs", "packs", "stacks"),
    "sweep",
)
EVIDENCE = (
    *("grids", "phase", "survival", "studies", "cuts", "results", "validation"),
    *("proportions", "language"),
    *("judging", "comparing", "verdicts_grids", "verdicts_rank", "verdicts_studies"),
    *("claims", "sentences", "cards"),
)
FIGURES = (
    "canvas",
    *("draw", "space"),
    "claims",
    "captions",
    "runs",
    "phase_layout",
    "phase_words",
    "phase_frontiers",
    "phase",
    "opening",
    "drag",
    *("directions", "cylinder"),
    "clock",
    "rank",
    "studies",
    "cuts",
    *("widths", "scale", "panels", "marks", "drawable", "still"),
    "sphinx",
    "page",
)
INTEGRATIONS = ("attached", "transformers", "lightning")
HOUSE = [
    *CORE,
    *(f"integrations.{name}" for name in INTEGRATIONS),
    *(f"training.{name}" for name in TRAINING),
    *(f"evidence.{name}" for name in EVIDENCE),
    *(f"figures.{name}" for name in FIGURES),
    "lab",
    "commands",
]
FREE = {"_check"}  # may be imported by all, and imports none
ABOVE_ALL = {"__init__", "__main__"}  # the public names, and the command line
# A picture never trains and shows no lab; the lab, which trains, draws its own pictures.
FORBIDDEN = {
    "figures": {"training.train", "training.sweep"},
    "lab": {f"figures.{name}" for name in FIGURES},
}

NEEDED = {"torch", "numpy", "filelock"} | set(sys.stdlib_module_names)
EXTRAS = {
    "integrations.transformers": {"transformers"},
    "integrations.lightning": {"pytorch_lightning", "lightning"},
    "figures": {"plotly"},
    "figures.sphinx": {"docutils", "sphinx", "myst_nb"},
    "training.sweep": {"joblib"},
    "evidence.survival": {"scipy"},
    "evidence.validation": {"scipy"},
    "evidence.language": {"transformers"},
    "commands": {"tqdm", "joblib", "distributed"},
    "lab": {
        "anywidget",
        "traitlets",
        "ipywidgets",
        "onnx",
        "onnx_ir",
        "onnxscript",
        "plotly",
    },
}
PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal"}
UNPICKLERS = {
    "torch.load",
    "torch.save",
    "joblib.load",
    "joblib.dump",
}  # joblib's processes are no files


def imports(name: str, source: str) -> Iterator[str]:
    """The full dotted name of everything that the module lrdlib.`name` imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ["lrdlib", *name.split(".")][: -node.level] if node.level else []
            base = ".".join([*package, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def place(name: str) -> str:
    """The line of HOUSE (or FREE, ABOVE_ALL) on which a module of lrdlib stands; its
    package's, where that has one."""
    parts = name.split(".")
    known = {*HOUSE, *FREE, *ABOVE_ALL}
    return next((line for n in (2, 1) if (line := ".".join(parts[:n])) in known), parts[0])


def siblings(name: str, source: str) -> set[str]:
    """The other lines of HOUSE that a module imports; "__init__" for a name of the package
    itself."""
    inside = [
        target.split(".")[1:]
        for target in imports(name, source)
        if target.split(".")[0] == "lrdlib"
    ]
    known = {path.split(".")[0] for path in SOURCES}
    return {
        place(".".join(path)) if path and path[0] in known else "__init__"
        for path in inside
    } - {place(name)}


def wrong_imports(name: str, source: str) -> set[str]:
    """What a module imports against the list: a line below its own, or a package it may not
    need."""
    own, wing = place(name), name.split(".")[0]
    outside = {target.split(".")[0] for target in imports(name, source)} - {"lrdlib"}
    wrong = outside - NEEDED - EXTRAS.get(wing, set()) - EXTRAS.get(own, set())
    if own in ABOVE_ALL:
        return wrong
    allowed = (
        set()
        if own in FREE
        else FREE | set(HOUSE[: HOUSE.index(own)]) - FORBIDDEN.get(wing, set())
    )
    return wrong | siblings(name, source) - allowed


def unpickling(source: str) -> set[str]:
    """The expressions of a source that write or read pickles: importing a pickler,
    torch.load/save, allow_pickle."""
    found = {target for target in imports("", source) if target.split(".")[0] in PICKLERS}
    found |= {target for target in imports("", source) if target in UNPICKLERS}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in UNPICKLERS:
            found.add(ast.unparse(node))
        if (
            isinstance(node, ast.keyword)
            and node.arg == "allow_pickle"
            and ast.unparse(node.value) != "False"
        ):
            found.add(f"allow_pickle={ast.unparse(node.value)}")
    return found


MODULES = [
    name
    for name in SOURCES
    if not (name.endswith(".__init__") and name.split(".")[0] not in HOUSE)
]


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name):
    assert place(name) in {*HOUSE, *FREE, *ABOVE_ALL}, (
        "a new module: give it a line in the list"
    )
    assert not wrong_imports(name, SOURCES[name])


def test_a_package_with_a_list_of_its_own_has_an_empty_init():
    for name in set(SOURCES) - set(MODULES):
        assert not list(imports(name, SOURCES[name])), name


def test_every_line_of_the_list_is_a_module_or_a_package():
    assert set(HOUSE) | FREE | ABOVE_ALL == {place(name) for name in MODULES}


def test_a_newcomer_sees_the_whole_at_the_top():
    assert len({name for name in SOURCES if "." not in name} - ABOVE_ALL - FREE) <= 10


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_unpickles(name):
    assert not unpickling(SOURCES[name])


@pytest.mark.parametrize(
    ("name", "source", "wrong"),
    [
        (
            "spectral",
            "import torch\nfrom lrdlib._check import check_real\nimport math",
            set(),
        ),
        ("polar", "from lrdlib.spectral import rank", {"spectral"}),
        ("polar", "from lrdlib import spectral", {"spectral"}),
        ("polar", "from . import spectral", {"spectral"}),
        ("polar", "from .spectral import rank", {"spectral"}),
        ("polar", "import lrdlib.spectral", {"spectral"}),
        ("spectral", "def f():\n    import lrdlib", {"__init__"}),
        ("spectral", "from lrdlib import polar_factor", {"__init__"}),
        ("_check", "from lrdlib.polar import METHODS", {"polar"}),
        ("decay", "from lrdlib.polar import METHODS", set()),
        ("polar", "from lrdlib.decay import MODES", {"decay"}),
        ("training.train", "from lrdlib.training.runs import Run", {"training.runs"}),
        ("training.train", "from .runs import Run", {"training.runs"}),
        ("training.runs", "from .train import Training", set()),
        ("training.train", "import scipy.linalg", {"scipy"}),
        ("training.train", "from lrdlib.evidence.grids import GRIDS", {"evidence.grids"}),
        ("training.runs", "import plotly", {"plotly"}),
        ("training.runs", "import joblib", {"joblib"}),
        ("training.sweep", "import joblib", set()),
        ("evidence.claims", "from lrdlib.training.sweep import recorded", set()),
        (
            "figures.runs",
            "import plotly.graph_objects as go\nfrom lrdlib.training.runs import Run",
            set(),
        ),
        ("figures.runs", "from lrdlib.training.train import train", {"training.train"}),
        ("figures.phase", "from lrdlib.evidence.phase import panels", set()),
        ("figures.phase", "from ..evidence.phase import panels", set()),
        ("figures.canvas", "from lrdlib.figures.runs import timeline", {"figures.runs"}),
        ("figures.page", "from lrdlib import lab", {"lab"}),
        (
            "lab.widget",
            "from ..training.train import train\nfrom .page import HTML\nimport anywidget",
            set(),
        ),
        ("lab.widget", "from ..figures.runs import timeline", {"figures.runs"}),
        ("lab.widget", "from ..commands.claims import run", {"commands"}),
        (
            "commands.mechanism",
            "from lrdlib.figures.runs import timeline_figure\nimport tqdm",
            set(),
        ),
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


def test_an_import_brings_neither_the_compiler_nor_what_draws():
    """The compiler alone takes as long to import as the rest of torch, and each process of
    a sweep would pay for it."""
    program = "import sys, lrdlib, lrdlib.__main__; print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    heavy = {"torch._dynamo", "sympy", "plotly", "scipy", "IPython", "distributed"}
    assert heavy.isdisjoint(told.stdout.split())
