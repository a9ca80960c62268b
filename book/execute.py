"""Run the book's notebooks in place and store what they show, without what changes from run
to run.

python book/execute.py [NOTEBOOK ...]   (all of book/ if none is named)
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

BOOK = Path(__file__).parent
ONE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
}
# plotly_mimetype: the figure as JSON alone, which JupyterLab, VS Code and the book draw
# with their own plotly.js
SETTINGS = ONE_THREAD | {"PLOTLY_RENDERER": "plotly_mimetype", "PYTHONHASHSEED": "0"}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {
        "name": "python",
        "file_extension": ".py",
        "pygments_lexer": "ipython3",
    },
}


def clean(notebook):
    """Drop execution times, editor state and the Python version; name cells by their place.
    Changes `notebook`."""
    kept = {
        name: notebook.metadata[name]
        for name in ("mystnb", "widgets")
        if name in notebook.metadata
    }
    notebook.metadata = METADATA | kept
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index}"
        cell.metadata = {
            key: cell.metadata[key] for key in ("tags", "mystnb") if key in cell.metadata
        }
    return notebook


def run(path: Path) -> None:
    """Execute one notebook from the top in a fresh kernel, in its own folder, and write it
    back."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=600,
        record_timing=False,
        coalesce_streams=True,
        resources=resources,
    )
    client.execute()
    notebook = nbformat.from_dict(clean(notebook))
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def main(names: list[str]) -> None:
    os.environ.update(SETTINGS)
    for path in [Path(name) for name in names] or sorted(BOOK.glob("*.ipynb")):
        start = time.perf_counter()
        run(path)
        print(f"   {path}  {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
