"""Where the code of a picture stands, as a Sphinx extension (_config.yml): below it.

A chapter's notebook prepares, computes and then draws; its page asks, shows, and only then
unfolds how. So a cell whose code is folded away shows its output first, and folded cells
without one that stand right before it come after its output. Folded code that then stands
side by side unfolds as one.
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
        done: set[int] = set()  # code that stands below its picture already
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
            while first and (bar(parent[first - 1]) or label(parent[first - 1])):
                if id(parent[first - 1]) in done:
                    break
                first -= 1
            passed = parent[first:at]
            before = [node for node in passed if not label(node)]
            labels = [node for node in passed if label(node)]
            parent[first : at + 1] = [*labels, cell, *before, below]
            done.add(id(below))
        join(self.document)


def join(document: nodes.document) -> None:
    """Puts the code of folded cells that stand side by side, with nothing between that is
    seen, under the first one's bar."""
    for cell in list(document.findall(bar)):
        parent: Any = cell.parent
        at = parent.index(cell) - 1
        while at > 0 and label(parent[at]):
            at -= 1
        if at >= 0 and bar(parent[at]):
            above, below = parent[at].children[-1], cell.children[-1]
            below[:0] = above.children  # into the later one, which the next may join
            parent.remove(parent[at])


def classes(node: nodes.Node) -> list[str]:
    return node["classes"] if isinstance(node, nodes.Element) else []


def folded(node: nodes.Node) -> bool:
    """Whether a node is a cell whose code is folded away."""
    return "cell" in classes(node) and "hide_mode" in node  # type: ignore[operator]


def bar(node: nodes.Node) -> bool:
    """Whether a node is code that is folded away, without an output that is seen."""
    mode = node.get("hide_mode", "input") if isinstance(node, nodes.Element) else ""
    hidden = "cell" in classes(node) and (mode == "all" or not output(node))
    return hidden and bool(node.children) and "prompt_show" in node.children[-1]


def label(node: nodes.Node) -> bool:
    """Whether a node only names a place."""
    return isinstance(node, (nodes.target, nodes.comment))


def output(cell: nodes.Node) -> bool:
    """Whether a cell shows an output."""
    return any("cell_output" in classes(node) for node in cell.findall(nodes.container))


def setup(app: Any) -> dict[str, Any]:
    app.add_post_transform(PictureFirst)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
