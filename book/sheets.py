"""The style sheets of the pages as one for the site, without what no page can use.

The theme brings half a megabyte of rules, of which the book uses a tenth. A rule stays if
each class and each id that its selector asks for is on a page of the site, or is a word of
a script: scripts add classes. What stands inside :not(), :is() and the like is not asked
for. A custom property stays if something reads it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import tinycss2

IMPORT = re.compile(r"""@import\s+["']([^"']+)["']\s*;""")
ADDRESS = re.compile(r"""url\((["']?)(?!data:|#)([^"')]+)\1\)""")
NAMES = re.compile(r"""\b(?:class|id)=\\?["']([^"'\\]*)""")
WORDS = re.compile(r"[A-Za-z0-9_-]+")
PREFIXES = re.compile(r"([A-Za-z][\w-]*-)(?:\$\{|[\"'`])")  # `bs-tooltip-${side}`
READ = re.compile(r"var\(\s*(--[\w-]+)")
GROUPS = ("media", "supports", "layer", "container")  # at-rules that hold rules


@dataclass(frozen=True)
class Names:
    """The classes, ids and custom properties that pages ask for, or scripts may."""

    whole: frozenset[str]
    prefixes: tuple[str, ...]  # of names that a script puts together

    @classmethod
    def of(cls, pages: Iterable[str], scripts: Iterable[str]) -> Names:
        """Those of these texts.

        >>> sorted(Names.of(['<i class="a b">'], ["add('c')"]).whole)
        ['a', 'add', 'b', 'c']
        """
        whole, prefixes = set[str](), set[str]()
        for page in pages:
            for found in NAMES.findall(page):
                whole.update(found.split())
            whole.update(READ.findall(page))
        for script in scripts:
            whole.update(WORDS.findall(script))
            prefixes.update(PREFIXES.findall(script))
        return cls(frozenset(whole), tuple(sorted(prefixes)))

    def __contains__(self, name: str) -> bool:
        return name in self.whole or name.startswith(self.prefixes)


def joined(sheets: Sequence[Path], folder: Path, names: Names) -> str:
    """One sheet in place of these, for pages that load it from `folder`."""
    text, before = "".join(source(sheet, folder) for sheet in sheets), ""
    while text != before:  # a property may be read by one that nothing reads
        before = text
        nodes = tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True)
        text = "\n".join(used(nodes, names, frozenset(READ.findall(text))))
    return text


def source(sheet: Path, folder: Path) -> str:
    """The text of a sheet with what it imports, and with addresses as from `folder`."""

    def moved(found: re.Match[str]) -> str:
        at = os.path.relpath(sheet.parent / found[2], folder)
        return f'url("{at.replace(os.sep, "/")}")'

    text = ADDRESS.sub(moved, sheet.read_text(encoding="utf-8"))
    return IMPORT.sub(lambda found: source(sheet.parent / found[1], folder), text)


def used(nodes: Iterable[Any], names: Names, read: frozenset[str]) -> Iterator[str]:
    """The rules that a page can use: of these, with the selectors that it has names for,
    and without custom properties that nothing reads."""
    for node in nodes:
        if node.type == "qualified-rule":
            asked = [
                one
                for one in selectors(node.prelude)
                if all(name in names for name in asks(one))
            ]
            said = [
                part.serialize()
                for part in tinycss2.parse_blocks_contents(node.content, True, True)
                if not (part.type == "declaration" and part.name.startswith("--"))
                or part.name in read
                or part.name in names
            ]
            if asked and said:
                heads = ",".join(tinycss2.serialize(one).strip() for one in asked)
                yield f"{heads}{{{';'.join(said)}}}"
        elif node.type == "at-rule" and node.lower_at_keyword in GROUPS and node.content:
            inner = tinycss2.parse_rule_list(node.content, True, True)
            if kept := "".join(used(inner, names, read)):
                yield f"@{node.at_keyword}{tinycss2.serialize(node.prelude)}{{{kept}}}"
        elif node.type == "at-rule" and node.lower_at_keyword != "charset":
            yield node.serialize()


def selectors(prelude: Sequence[Any]) -> list[list[Any]]:
    """The selectors of a rule, of which commas stand between."""
    found: list[list[Any]] = [[]]
    for token in prelude:
        if token == ",":
            found.append([])
        elif token.type != "comment":
            found[-1].append(token)
    return found


def asks(selector: Sequence[Any]) -> Iterator[str]:
    """The classes and ids that an element, or those around it, must have."""
    for before, token in pairwise([None, *selector]):
        if token.type == "hash" or (token.type == "ident" and before == "."):
            yield token.value
