"""Run the book's notebooks in place and store what they show, without what changes from run
to run.

python book/execute.py [NOTEBOOK ...]   (all of book/ if none is named)
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

BOOK = Path(__file__).parent
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    # a figure as JSON alone, which JupyterLab, VS Code and the book draw with their own
    # plotly.js
    "PLOTLY_RENDERER": "plotly_mimetype",
}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {
        "name": "python",
        "file_extension": ".py",
        "pygments_lexer": "ipython3",
    },
}


def only(metadata: Any, *names: str) -> dict[str, Any]:
    """The entries of these names, where there are any."""
    return {name: metadata[name] for name in names if name in metadata}


def clean(notebook: Any) -> Any:
    """Drop execution times, editor state and the Python version; name cells by their place.
    Changes `notebook`."""
    notebook.metadata = METADATA | only(notebook.metadata, "mystnb", "widgets")
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index}"
        cell.metadata = only(cell.metadata, "tags", "mystnb")
    return notebook


def run(path: Path) -> None:
    """Execute one notebook from the top in a fresh kernel, in its own folder, and write it
    back."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    settings = {"timeout": 600, "record_timing": False, "coalesce_streams": True}
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, kernel_name="python3", resources=where, **settings).execute()
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
