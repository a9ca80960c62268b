"""What every test run shares: one thread, figures as JSON, and how nbval compares
notebooks."""

import os

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


def pytest_collection_modifyitems(items):
    """Warnings are errors in our tests; nbval and the kernels' sockets are not ours."""
    import pytest

    for item in items:
        if type(item).__name__ == "IPyNbCell":
            item.add_marker(pytest.mark.filterwarnings("default"))
