"""What the pages refer to, and where it is: settings, labels with the page's own numbers,
works, and addresses. Every address follows from `repository.url` in _config.yml."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from docutils.nodes import make_id
from markdown_it.tree import SyntaxTreeNode
from pybtex.database import Entry, parse_file
from pybtex.richtext import Text
from sphinx.util.nodes import _make_id as make_term_id
from sphinx_proof.proof_type import PROOF_TYPES

from .parse import Directive, Unknown, as_list, directive, pages, parser

ROOT = Path(__file__).resolve().parents[2]
BRANCH = "colab"  # where pages.yml publishes the copies


@dataclass
class Place:
    """What a label names: a page, an anchor on it, and the words that a reference shows."""

    page: str
    anchor: str = ""
    text: str | None = None
    number: int | None = None


@dataclass
class Book:
    """The settings, the pages, and every label of the book, numbered as Sphinx numbers
    them: through all pages."""

    repository: str  # https://github.com/OWNER/NAME
    folder: str = "book"
    title: str = ""
    colab: str = "https://colab.research.google.com"
    macros: dict[str, tuple[str, int]] = field(default_factory=dict)
    extensions: tuple[str, ...] = ("amsmath", "colon_fence", "deflist", "dollarmath")
    pages: dict[str, list[str]] = field(default_factory=dict)  # name -> its markdown cells
    works_from: tuple[Path, ...] = ()  # BibTeX files
    counters: dict[str, str] = field(default_factory=dict)  # kinds that share one count

    @classmethod
    def settings(cls, root: Path = ROOT) -> Book:
        """The book in `root` as _config.yml describes it, without its pages."""
        config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
        repository, folder = config["repository"], config["repository"]["path_to_book"]
        macros = config["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"]
        return cls(
            repository=repository["url"].rstrip("/").removesuffix(".git"),
            folder=folder,
            title=config["title"],
            colab=config["launch_buttons"]["colab_url"].rstrip("/"),
            macros={
                name: (m, 0) if isinstance(m, str) else (m[0], m[1])
                for name, m in macros.items()
            },
            extensions=tuple(config["parse"]["myst_enable_extensions"]),
            works_from=tuple(root / folder / name for name in config["bibtex_bibfiles"]),
            counters=config["sphinx"]["config"].get("prf_realtyp_to_countertyp", {}),
        )

    @classmethod
    def read(cls, root: Path = ROOT) -> Book:
        """The book in `root`, with the pages that its table of contents names."""
        book = cls.settings(root)
        book.pages = pages(root / "_toc.yml", root / book.folder)
        return book

    @property
    def owner(self) -> tuple[str, str]:
        """OWNER and NAME of the repository."""
        parts = urlsplit(self.repository)
        names = parts.path.strip("/").split("/")
        if parts.netloc != "github.com" or len(names) != 2:
            raise Unknown(
                "repository.url must be https://github.com/OWNER/NAME, got "
                f"{self.repository}"
            )
        return names[0], names[1]

    def site(self, page: str = "", anchor: str = "") -> str:
        """The address of a page, or of a place on it, on the published site."""
        owner, name = self.owner
        path = (f"{page}.html" if page else "") + (f"#{anchor}" if anchor else "")
        return f"https://{owner}.github.io/{name}/{path}"

    def launch(self, page: str) -> str:
        """The address that opens the copy of a page in Colab."""
        owner, name = self.owner
        return f"{self.colab}/github/{owner}/{name}/blob/{BRANCH}/{page}.ipynb"

    @cached_property
    def works(self) -> dict[str, Entry]:
        """The bibliography, as pybtex reads it."""
        files = [parse_file(str(path)) for path in self.works_from]
        return {key: entry for file in files for key, entry in file.entries.items()}

    @cached_property
    def parse(self) -> Any:
        """The function from the book's MyST to nodes."""
        return parser(self.extensions)

    @cached_property
    def places(self) -> dict[tuple[str, str], Place]:
        """Every label, by kind (page, target, prf, exercise, equation, term) and
        name."""
        labels = Labels(self.parse, self.counters)
        for page, cells in self.pages.items():
            labels.page = page
            labels.found["page", page] = Place(page, text=page)
            for cell in cells:
                labels.collect(self.parse(cell))
        return labels.found

    def place(self, kind: str, name: str) -> Place:
        """The place of one label; Unknown if the book has none of that name."""
        if (kind, name) not in self.places:
            raise Unknown(f"no {kind} of the book is called {name!r}")
        return self.places[kind, name]

    def cited(self, key: str) -> tuple[str, str, str]:
        """Names, year and address of a work: ("Power et al.", "2022", "https://...")."""
        if key not in self.works:
            raise Unknown(f"the bibliography has no {key!r}")
        entry = self.works[key]
        people = entry.persons.get("author") or entry.persons.get("editor")
        if not people:
            raise Unknown(f"the work {key} has no author")
        latex = [" ".join([*one.prelast_names, *one.last_names]) for one in people]
        last = [str(Text.from_latex(name)) for name in latex]
        names = f"{last[0]} et al." if len(last) > 2 else " and ".join(last)
        doi = entry.fields.get("doi")
        address = f"https://doi.org/{doi}" if doi else entry.fields.get("url", "")
        return names, entry.fields["year"], address or self.site("bibliography")


class Labels:
    """Goes through the pages in reading order, and counts as Sphinx does."""

    def __init__(self, parse: Any, counters: Mapping[str, str]) -> None:
        self.parse = parse
        self.counters = counters
        self.page = ""  # the page that is read now
        self.found: dict[tuple[str, str], Place] = {}
        self.counts: Counter[str] = Counter()

    def collect(self, nodes: list[SyntaxTreeNode]) -> None:
        """Take the labels of these nodes, and of all inside of them, on `self.page`."""
        targets: list[str] = []  # names that wait for what follows them
        for node in nodes:
            if node.type == "myst_target":
                targets.append(node.content)
                self.found["target", node.content] = Place(self.page, make_id(node.content))
                continue
            title = node.children[0].content if node.type == "heading" else None
            page = self.found["page", self.page]
            if title and page.text == self.page:
                page.text = title
            for target in targets:
                self.found["target", target].text = title
            if node.type == "math_block" and targets:
                self.counts["equation"] += 1  # Sphinx counts it, and shows labels only
            targets = []
            if node.type == "math_block_label":
                self.number("equation", node.info)
            elif block := directive(node):
                self.collect_directive(block)
            elif node.children and node.type not in ("inline", "dl"):
                self.collect(node.children)

    def collect_directive(self, block: Directive) -> None:
        """Take the label of a directive, and those inside of it."""
        kind, label = block.name.removeprefix("prf:"), block.options.get("label", "")
        if block.name.startswith("prf:") and kind in PROOF_TYPES:
            counter = self.counters.get(kind, kind)
            self.number(counter, label, f"{kind.capitalize()} %d", group="prf")
        elif block.name == "exercise-start":
            self.number("exercise", label, "Exercise %d")
        elif block.name == "glossary":
            lists = self.parse(as_list(block.body))
            for term in (child for dl in lists for child in dl.children):
                if term.type == "dt":
                    word = term.children[0].content
                    place = Place(self.page, make_term_id("term-" + word), word)
                    self.found["term", word.lower()] = place
            return
        if block.name != "bibliography":
            self.collect(self.parse(block.body))

    def number(self, kind: str, label: str, words: str = "(%d)", group: str = "") -> None:
        """Count one more of a kind; keep its place, if it has a label."""
        self.counts[kind] += 1
        if label:
            prefix = "equation-" if kind == "equation" else ""
            count, anchor = self.counts[kind], prefix + make_id(label)
            place = Place(self.page, anchor, words % count, count)
            self.found[group or kind, label] = place
