"""Where the code of a picture stands, as a Sphinx extension (_config.yml): below it.

A chapter's notebook prepares, computes and then draws; its page asks, shows, and only then
unfolds how. So a cell whose code is folded away shows its output first, and folded cells
without one that stand right before it come after its output.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform


class PictureFirst(SphinxPostTransform):
    """Moves folded code below the output that it makes."""

    default_priority = 200  # right after myst-nb has folded it
    formats = ("html",)

    def run(self, **_: Any) -> None:
        for cell in list(self.document.findall(folded)):
            outputs = [child for child in cell.children if "cell_output" in classes(child)]
            if not outputs or cell["hide_mode"] != "input":
                continue
            code = [child for child in cell.children if child not in outputs]
            cell.children = outputs
            below = nodes.container(
                "", *code, nb_element="cell_code", classes=list(cell["classes"])
            )
            parent: Any = cell.parent
            at = parent.index(cell)
            first = at
            while first and folded(parent[first - 1]) and not output(parent[first - 1]):
                first -= 1
            before = parent[first:at]
            parent[first : at + 1] = [cell, *before, below]


def classes(node: nodes.Node) -> list[str]:
    return node["classes"] if isinstance(node, nodes.Element) else []


def folded(node: nodes.Node) -> bool:
    """Whether a node is a cell whose code is folded away."""
    return "cell" in classes(node) and "hide_mode" in node  # type: ignore[operator]


def output(cell: nodes.Node) -> bool:
    """Whether a cell shows an output."""
    return any("cell_output" in classes(node) for node in cell.findall(nodes.container))


def setup(app: Any) -> dict[str, Any]:
    app.add_post_transform(PictureFirst)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
