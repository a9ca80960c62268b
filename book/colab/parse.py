"""What a page says, as MyST reads it: nodes, directives, roles. Nothing is judged here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nbformat
from markdown_it.renderer import RendererHTML
from markdown_it.tree import SyntaxTreeNode
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from sphinx_external_toc.parsing import parse_toc_yaml


class Unknown(ValueError):
    """Something in a notebook that has no form in Colab yet."""


class Directive(NamedTuple):
    """A block such as `:::{name} argument`, with lines `:option: value`, then its body."""

    name: str
    argument: str = ""
    options: dict[str, str] = {}  # noqa: RUF012 - read, never changed
    body: str = ""


def parser(extensions: tuple[str, ...]) -> Callable[[str], list[SyntaxTreeNode]]:
    """A function from MyST to nodes: the book's own parser, except that it keeps escapes as
    they were written."""
    config = MdParserConfig(enable_extensions=set(extensions))
    md = create_md_parser(config, RendererHTML).disable("text_join")
    return lambda text: SyntaxTreeNode(md.parse(text)).children


def directive(node: SyntaxTreeNode) -> Directive | None:
    """The directive that a node is; None for any other node, such as a fence of code."""
    head = re.match(r"\{([^}\s]+)\}\s*(.*)", node.info or "")
    if node.type not in ("fence", "colon_fence") or not head:
        return None
    lines, options = node.content.splitlines(), {}
    while lines and (option := re.match(r":([\w-]+):\s*(.*)$", lines[0])):
        options[option[1]] = option[2].strip()
        lines.pop(0)
    return Directive(head[1], head[2].strip(), options, "\n".join(lines))


def role_target(content: str) -> tuple[str | None, str]:
    """What a role shows, if it says so, and what it points to.

    >>> role_target("the spectra <spectrum>"), role_target("spectrum")
    (('the spectra', 'spectrum'), (None, 'spectrum'))
    """
    match = re.fullmatch(r"(.*?)\s*<([^<>]+)>", content, re.DOTALL)
    if match:
        return " ".join(match[1].split()), match[2].strip()
    return None, " ".join(content.split())


def as_list(body: str) -> str:
    r"""The body of a glossary as a markdown definition list.

    >>> as_list("factor\n  A matrix\n  of ones.")
    'factor\n: A matrix\n  of ones.'
    """
    lines, mark = [], ": "
    for line in body.splitlines():
        told = line.startswith((" ", "\t"))
        lines.append(mark + line.strip() if told else line)
        mark = "  " if told else ": "
    return "\n".join(lines)


def pages(toc: Path, folder: Path) -> dict[str, list[str]]:
    """The pages of a table of contents in reading order: name -> its cells of markdown."""
    return {name: markdown(folder, name) for name in parse_toc_yaml(toc)}


def markdown(folder: Path, name: str) -> list[str]:
    """The cells of markdown of a notebook, or the one text of a page that is none."""
    path = folder / f"{name}.ipynb"
    if not path.exists():
        return [path.with_suffix(".md").read_text(encoding="utf-8")]
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "markdown"]
