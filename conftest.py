"""What every test run shares: one thread, figures as JSON, how nbval compares notebooks,
and how workers share the tests."""

import os

import pytest

# Before torch and before a kernel starts: the same settings as in book/execute.py, which
# wrote the notebooks.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"
os.environ["PYTHONHASHSEED"] = "0"  # for the kernels, which inherit it

# A figure's JSON holds every digit of its floats, which differ between machines. Notebooks
# print rounded numbers beside their figures, and those are compared.
FIGURES = ("application/vnd.plotly.v1+json", "text/html", "image/svg+xml")


def pytest_collectstart(collector):
    """nbval asks its collector which parts of an output not to compare."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += FIGURES


# What takes longest comes first, so that no worker ends alone.
LONG = (
    "book/first_run.ipynb",
    "tests/test_lab_train.py",
    "tests/test_site.py",
    "tests/test_lab_screen.py",
    "tests/test_sweep.py",
    "tests/test_train.py",
    "tests/test_colab.py",
    "tests/test_lab_kernel.py",
    "tests/test_phase_diagram.py",
    "book/after_memorisation.ipynb",
    "tests/test_readme.py",
    "tests/test_book.py",
)
# Files whose tests share what is long in the making by their first parameter (a page, a
# decay rule, a way of reading), and are handed out by it.
SHARED = ("tests/test_book.py", "tests/test_lab_train.py", "tests/test_lab_page.py")


def pytest_collection_modifyitems(items):
    """The long ones first. Warnings are errors in our tests; nbval and the kernels' sockets
    are not ours."""
    places = {file: place for place, file in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONG)))
    for item in items:
        if type(item).__name__ == "IPyNbCell":
            item.add_marker(pytest.mark.filterwarnings("default"))


def piece(nodeid):
    """The tests that one worker takes together: those of a file, or of a parameter of it."""
    file, _, test = nodeid.partition("::")
    if file not in SHARED:
        return file
    name, _, parameters = test.rstrip("]").partition("[")
    return f"{file}[{(parameters or name).partition('-')[0]}]"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With --dist loadscope, a worker takes piece after piece, in our order."""
    from xdist.scheduler import LoadScopeScheduling

    class Pieces(LoadScopeScheduling):
        _split_scope = staticmethod(piece)

    return Pieces(config, log) if config.getvalue("dist") == "loadscope" else None
