"""Copies of the book's notebooks for Colab, which knows neither MyST nor the book's macros,
labels and references.

python book/colab.py OUT_DIR   writes one copy of every notebook in _toc.yml (`make book`: into _build/html/colab)

The notebooks in book/ stay the only source. A copy has the same code; its text says in
plain markdown, HTML and TeX what the page says, with the page's own numbers. Whatever this
module does not know is an error: nothing passes through.

As a Sphinx extension (_config.yml) it makes a page's launch button open the copy. Colab
opens files of a repository, so the copies are published on a branch of their own, BRANCH.
Every address follows from `repository.url` in _config.yml.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import yaml
from markdown_it.renderer import RendererHTML
from markdown_it.tree import SyntaxTreeNode
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

ROOT = Path(__file__).resolve().parent.parent
BRANCH = "colab"  # where pages.yml publishes the copies
PLOTLY = "application/vnd.plotly.v1+json"

THEOREMS = {
    *(
        "theorem",
        "proposition",
        "lemma",
        "corollary",
        "definition",
        "remark",
        "example",
        "algorithm",
        "axiom",
    ),
    *("assumption", "conjecture", "criterion", "observation", "property", "notation"),
}
ADMONITIONS = {
    "note",
    "tip",
    "warning",
    "important",
    "caution",
    "hint",
    "attention",
    "danger",
    "error",
    "seealso",
}
SHOWN = {
    "remove-cell",
    "hide-output",
    "remove-output",
    "raises-exception",
    "nbval-ignore-output",
    "nbval-skip",
}
FOLDED = {"hide-input", "hide-cell", "remove-input"}
LAB = re.compile(r'<div class="lrd-lab" data-lab="(\w+)">.*</div>\s*', re.DOTALL)
LABS = {  # what stands for a lab that only the site has
    "recorded": "The lab of recorded runs is on the site: [{title}]({site}). It needs no kernel.",
    "train": "The lab that trains in the page is on the site: [{title}]({site}). It needs no kernel either.",
}
# a widget that a page without a kernel cannot show, and a notebook can
HASHED = re.compile(r"^# (\w+)  # take the first hash away: ", re.MULTILINE)
GO = re.compile(r'<a class="lrd-go" href="(#lab:[^"]+)">')  # words that move the lab
HTML = re.compile(r"</?(?:br|sub|sup|kbd|small|b|i|em|strong|details|summary)\s*/?>")


class Unknown(ValueError):
    """Something in a notebook that has no form in Colab yet."""


# ---- the parser: the book's own, except that it keeps escapes as they were written


def parser(extensions: list[str]) -> Any:
    md = create_md_parser(MdParserConfig(enable_extensions=set(extensions)), RendererHTML)
    return md.disable("text_join")


def directive(node: SyntaxTreeNode) -> tuple[str, str, dict[str, str], str] | None:
    """Name, argument, options and body of a directive; None for a fence that holds code."""
    match = re.match(r"\{([^}\s]+)\}\s*(.*)", node.info or "")
    if node.type not in ("fence", "colon_fence") or not match:
        return None
    lines, options = node.content.splitlines(), {}
    while lines and (option := re.match(r":([\w-]+):\s*(.*)$", lines[0])):
        options[option[1]] = option[2].strip()
        lines.pop(0)
    return match[1], match[2].strip(), options, "\n".join(lines)


def role_target(content: str) -> tuple[str | None, str]:
    """What a role shows, if it says so, and what it points to.

    >>> role_target("the spectra <spectrum>"), role_target("spectrum")
    (('the spectra', 'spectrum'), (None, 'spectrum'))
    """
    match = re.fullmatch(r"(.*?)\s*<([^<>]+)>", content, re.DOTALL)
    return (
        (" ".join(match[1].split()), match[2].strip())
        if match
        else (None, " ".join(content.split()))
    )


# ---- TeX


def group(tex: str, at: int) -> tuple[str, int]:
    """The macro argument that starts at `at`, without its braces, and where it ends."""
    while at < len(tex) and tex[at].isspace():
        at += 1
    if at == len(tex):
        raise Unknown(f"a macro has no argument: {tex}")
    if tex[at] != "{":
        match = re.compile(r"\\(?:[a-zA-Z]+|.)|.", re.DOTALL).match(tex, at)
        return match[0], match.end()
    depth, end = 0, at
    while end < len(tex):
        depth += {"{": 1, "}": -1}.get(tex[end], 0)
        end += 2 if tex[end] == "\\" else 1
        if depth == 0:
            return tex[at + 1 : end - 1], end
    raise Unknown(f"an argument is not closed: {tex}")


def expand(tex: str, macros: dict[str, tuple[str, int]]) -> str:
    r"""TeX with the macros written out: Colab knows none, and would forget them from cell
    to cell.

    >>> expand(r"\norm{\R x}_F < \Rho", {"R": (r"\mathbb{R}", 0), "norm": (r"\lVert #1 \rVert", 1)})
    '\\lVert \\mathbb{R} x \\rVert_F < \\Rho'
    """
    out, at = [], 0
    for match in re.compile(r"\\(?:([a-zA-Z]+)|.)", re.DOTALL).finditer(tex):
        if match.start() < at or match[1] not in macros:
            continue
        body, count = macros[match[1]]
        end, arguments = match.end(), []
        for _ in range(count):
            argument, end = group(tex, end)
            arguments.append(expand(argument, macros))
        text = re.sub(
            r"#(\d)",
            lambda digit, given=arguments: given[int(digit[1]) - 1],
            expand(body, macros),
        )
        apart = (
            " " if re.search(r"\\[a-zA-Z]+$", text) and tex[end : end + 1].isalpha() else ""
        )
        out += [tex[at : match.start()], text, apart]
        at = end
    return "".join(out) + tex[at:]


# ---- the book: what the pages refer to


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
    branch: str = "main"
    folder: str = "book"
    title: str = ""
    colab: str = "https://colab.research.google.com"
    macros: dict[str, tuple[str, int]] = field(default_factory=dict)
    extensions: tuple[str, ...] = (
        "amsmath",
        "colon_fence",
        "deflist",
        "dollarmath",
        "substitution",
    )
    pages: dict[str, list[str]] = field(default_factory=dict)  # name -> its markdown cells
    works_from: tuple[Path, ...] = ()  # BibTeX files

    @classmethod
    def settings(cls, root: Path = ROOT) -> Book:
        """The book in `root` as _config.yml describes it, without its pages."""
        config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
        repository, sphinx = config["repository"], config["sphinx"]["config"]
        macros = sphinx["mathjax3_config"]["tex"]["macros"]
        return cls(
            repository=repository["url"].rstrip("/").removesuffix(".git"),
            branch=repository["branch"],
            folder=repository["path_to_book"],
            title=config["title"],
            colab=config["launch_buttons"]["colab_url"].rstrip("/"),
            macros={
                name: (m, 0) if isinstance(m, str) else (m[0], m[1])
                for name, m in macros.items()
            },
            extensions=tuple(config["parse"]["myst_enable_extensions"]),
            works_from=tuple(
                root / repository["path_to_book"] / name
                for name in config["bibtex_bibfiles"]
            ),
        )

    @classmethod
    def read(cls, root: Path = ROOT, toc: Path | None = None) -> Book:
        """The book in `root`, with the pages that its table of contents names, in that
        order."""
        book = cls.settings(root)
        names = files(
            yaml.safe_load((toc or root / "_toc.yml").read_text(encoding="utf-8"))
        )
        book.pages = {name: markdown(root / book.folder, name) for name in names}
        return book

    @property
    def owner(self) -> tuple[str, str]:
        parts = urlsplit(self.repository)
        names = parts.path.strip("/").split("/")
        if parts.netloc != "github.com" or len(names) != 2:
            raise Unknown(
                "repository.url must be https://github.com/OWNER/NAME, got "
                f"{self.repository}"
            )
        return names[0], names[1]

    def site(self, page: str = "", anchor: str = "") -> str:
        """An address on the published site (GitHub Pages)."""
        owner, name = self.owner
        return (
            f"https://{owner}.github.io/{name}/"
            + (f"{page}.html" if page else "")
            + (f"#{anchor}" if anchor else "")
        )

    def launch(self, page: str) -> str:
        """The address that opens the copy of a page in Colab."""
        owner, name = self.owner
        return f"{self.colab}/github/{owner}/{name}/blob/{BRANCH}/{page}.ipynb"

    @cached_property
    def works(self) -> dict[str, Any]:
        """The bibliography, as pybtex reads it."""
        from pybtex.database import parse_file

        return {
            key: entry
            for path in self.works_from
            for key, entry in parse_file(str(path)).entries.items()
        }

    @cached_property
    def parse(self) -> Any:
        md = parser(list(self.extensions))
        return lambda text: SyntaxTreeNode(md.parse(text)).children

    @cached_property
    def places(self) -> dict[tuple[str, str], Place]:
        """Every label, by kind (page, target, prf, exercise, equation, figure, term) and
        name."""
        found: dict[tuple[str, str], Place] = {}
        counts: Counter[str] = Counter()
        for page, cells in self.pages.items():
            found["page", page] = Place(page, "", page)
            for cell in cells:
                self._collect(self.parse(cell), page, found, counts)
        return found

    def _collect(
        self, nodes: list[SyntaxTreeNode], page: str, found: dict, counts: Counter[str]
    ) -> None:
        targets: list[str] = []
        for node in nodes:
            if node.type == "myst_target":
                targets.append(node.content)
                found["target", node.content] = Place(page, anchor_of(node.content))
                continue
            title = node.children[0].content if node.type == "heading" else None
            if title and found["page", page].text == page:
                found["page", page].text = title
            for target in targets:
                found["target", target].text = title
            if node.type == "math_block" and targets:
                counts["equation"] += (
                    1  # Sphinx counts every equation that has a name, and shows labels only
                )
            targets = []
            if node.type == "math_block_label":
                number(
                    found,
                    counts,
                    "equation",
                    node.info,
                    Place(page, f"equation-{anchor_of(node.info)}"),
                )
            elif parts := directive(node):
                self._collect_directive(parts, page, found, counts)
            elif node.type == "dl":
                continue
            elif node.children and node.type != "inline":
                self._collect(node.children, page, found, counts)

    def _collect_directive(
        self, parts: tuple, page: str, found: dict, counts: Counter[str]
    ) -> None:
        name, argument, options, body = parts
        kind, label = name.removeprefix("prf:"), options.get("label", "")
        place = Place(page, anchor_of(label or argument))
        if name.startswith("prf:") and kind in THEOREMS:
            number(
                found, counts, kind, label, place, f"{kind.capitalize()} %d", group="prf"
            )
        elif name in ("exercise", "exercise-start"):
            number(found, counts, "exercise", label, place, "Exercise %d")
        elif name == "math" and label:
            number(
                found,
                counts,
                "equation",
                label,
                Place(page, f"equation-{anchor_of(label)}"),
            )
        elif name in ("figure", "figure-md") and body.strip():
            label = argument if name == "figure-md" else options.get("name", "")
            number(found, counts, "figure", label, Place(page, anchor_of(label)), "Fig. %d")
        elif name == "glossary":
            for node in (
                term
                for dl in self.parse(as_list(body))
                for term in dl.children
                if term.type == "dt"
            ):
                word = node.children[0].content
                found["term", word.lower()] = Place(
                    page, anchor_of("term-" + word, lower=False), word
                )
            return
        if name not in ("bibliography", "math"):
            self._collect(self.parse(body), page, found, counts)

    def place(self, kind: str, name: str) -> Place:
        try:
            return self.places[kind, name]
        except KeyError:
            raise Unknown(f"no {kind} of the book is called {name!r}") from None


def number(
    found: dict,
    counts: Counter[str],
    kind: str,
    label: str,
    place: Place,
    words: str = "(%d)",
    group: str = "",
) -> None:
    counts[kind] += 1
    place.number, place.text = counts[kind], words % counts[kind]
    if label:
        found[group or kind, label] = place


def anchor_of(name: str, *, lower: bool = True) -> str:
    """The id that docutils (or, for a term, Sphinx) makes of a name."""
    from docutils.nodes import make_id
    from sphinx.util.nodes import _make_id

    return make_id(name) if lower else _make_id(name)


def as_list(body: str) -> str:
    """The body of a glossary as a markdown definition list."""
    out, fresh = [], True
    for line in body.splitlines():
        if line.startswith((" ", "\t")):
            out.append((": " if fresh else "  ") + line.strip())
            fresh = False
        else:
            out.append(line)
            fresh = True
    return "\n".join(out)


def files(toc: Any) -> Iterator[str]:
    """The pages of a table of contents, in reading order."""
    if isinstance(toc, list):
        for entry in toc:
            yield from files(entry)
    elif isinstance(toc, dict):
        yield from (
            re.sub(r"\.(ipynb|md)$", "", toc[key]) for key in ("root", "file") if key in toc
        )
        for key in ("parts", "chapters", "sections", "subtrees", "entries"):
            yield from files(toc.get(key))


def markdown(folder: Path, name: str) -> list[str]:
    if (path := folder / f"{name}.ipynb").exists():
        return [
            cell.source
            for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "markdown"
        ]
    return [(folder / f"{name}.md").read_text(encoding="utf-8")]


def cited(entry: Any) -> tuple[str, str, str]:
    """Names, year and address of a work: ("Power et al.", "2022",
    "https://arxiv.org/abs/2201.02177")."""
    from pybtex.richtext import Text

    people = entry.persons.get("author") or entry.persons.get("editor")
    if not people:
        raise Unknown(f"the work {entry.key} has no author")
    last = [
        str(Text.from_latex(" ".join([*p.prelast_names, *p.last_names]))) for p in people
    ]
    names = f"{last[0]} et al." if len(last) > 2 else " and ".join(last)
    doi = entry.fields.get("doi")
    return (
        names,
        entry.fields["year"],
        f"https://doi.org/{doi}" if doi else entry.fields.get("url", ""),
    )


# ---- one notebook


@dataclass
class Copy:
    """What has to be remembered from cell to cell of one notebook: the level of headings,
    an open solution."""

    book: Book
    page: str
    level: int = 1
    solution: str = ""  # the summary of the solution that is open
    exercise: str = ""
    view: str = ""  # the address of the view whose link is open

    # blocks

    def cell(self, source: str) -> str:
        """A markdown cell in plain markdown."""
        nodes = self.book.parse(source)
        text = "\n\n".join(self.spans(nodes))
        if found := leftovers(text, self.book.macros):
            raise Unknown(f"MyST is left in the copy: {found}")
        return text

    def spans(self, nodes: list[SyntaxTreeNode]) -> list[str]:
        """The blocks of a cell, folded from `solution-start` to `solution-end`, which may
        stand in another cell."""
        out: list[str] = []
        inside: list[str] | None = [] if self.solution else None
        for node in nodes:
            name, argument, options, body = directive(node) or ("", "", {}, "")
            if name == "solution-start":
                if self.solution:
                    raise Unknown(f"a solution starts inside of another: {argument}")
                self.known(options, {"label", "class"})
                self.nothing(body)
                self.solution, inside = self.summary(argument), []
            elif name == "solution-end":
                if not self.solution:
                    raise Unknown("a solution ends that did not start")
                self.nothing(body)
                out += folded(self.solution, inside or [])
                self.solution, inside = "", None
            else:
                (out if inside is None else inside).extend(self.block(node))
        return out + folded(self.solution, inside) if inside else out

    def blocks(self, nodes: list[SyntaxTreeNode]) -> list[str]:
        return [block for node in nodes for block in self.block(node)]

    def block(self, node: SyntaxTreeNode) -> list[str]:
        """A block as blocks of markdown without blank lines around them; none for what only
        names a place."""
        if parts := directive(node):
            return self.directive(*parts)
        method = getattr(self, "block_" + node.type, None)
        if method is None:
            raise Unknown(f"{node.type}: {node.content or node.children}")
        return method(node)

    def block_paragraph(self, node: SyntaxTreeNode) -> list[str]:
        return [self.inline(node.children[0])]

    def block_heading(self, node: SyntaxTreeNode) -> list[str]:
        self.level = int(node.tag[1])
        return ["#" * self.level + " " + self.inline(node.children[0])]

    def block_fence(self, node: SyntaxTreeNode) -> list[str]:
        return [f"{node.markup}{node.info}\n{node.content}{node.markup}"]

    def block_code_block(self, node: SyntaxTreeNode) -> list[str]:
        return [f"```\n{node.content.rstrip()}\n```"]

    def block_hr(self, node: SyntaxTreeNode) -> list[str]:
        return ["---"]

    def block_blockquote(self, node: SyntaxTreeNode) -> list[str]:
        return quote(self.blocks(node.children))

    def block_bullet_list(self, node: SyntaxTreeNode) -> list[str]:
        return self.items(node, ["- "] * len(node.children))

    def block_ordered_list(self, node: SyntaxTreeNode) -> list[str]:
        start = int(node.attrs.get("start", 1))
        return self.items(
            node, [f"{start + i}{node.markup} " for i in range(len(node.children))]
        )

    def items(self, node: SyntaxTreeNode, marks: list[str]) -> list[str]:
        tight = all(
            child.hidden
            for item in node.children
            for child in item.children
            if child.type == "paragraph"
        )
        out = []
        for mark, item in zip(marks, node.children, strict=True):
            text = ("\n" if tight else "\n\n").join(self.blocks(item.children))
            out.append(
                mark
                + text.replace("\n", "\n" + " " * len(mark)).replace(
                    "\n" + " " * len(mark) + "\n", "\n\n"
                )
            )
        return [("\n" if tight else "\n\n").join(out)]

    def block_table(self, node: SyntaxTreeNode) -> list[str]:
        rows = [row for part in node.children for row in part.children]
        head = rows[0].children
        ruler = {
            "text-align:left": ":---",
            "text-align:right": "---:",
            "text-align:center": ":---:",
        }
        lines = [
            [self.inline(cell.children[0], table=True) for cell in row.children]
            for row in rows
        ]
        lines.insert(
            1, [ruler.get(str(cell.attrs.get("style", "")), "---") for cell in head]
        )
        return ["\n".join("| " + " | ".join(line) + " |" for line in lines)]

    def block_dl(self, node: SyntaxTreeNode) -> list[str]:
        out = []
        for child in node.children:
            if child.type == "dt":
                out.append(f"**{self.inline(child.children[0])}**")
            else:
                out += quote(self.blocks(child.children))
        return out

    def block_math_block(self, node: SyntaxTreeNode) -> list[str]:
        return [f"$${self.tex(node.content)}$$"]

    def block_math_block_label(self, node: SyntaxTreeNode) -> list[str]:
        return [self.equation(node.content, node.info)]

    def block_amsmath(self, node: SyntaxTreeNode) -> list[str]:
        return [f"$${self.tex(node.content)}$$"]

    def block_html_block(self, node: SyntaxTreeNode) -> list[str]:
        if lab := LAB.fullmatch(node.content):
            if lab[1] not in LABS:
                raise Unknown(f"a lab of the kind {lab[1]!r}")
            title = self.plain(self.book.place("page", self.page).text)
            return quote([LABS[lab[1]].format(title=title, site=self.book.site(self.page))])
        return [text] if (text := self.html(node.content)) else []

    def block_myst_target(self, node: SyntaxTreeNode) -> list[str]:
        return []

    block_myst_line_comment = block_myst_block_break = block_myst_target

    # directives

    def directive(
        self, name: str, argument: str, options: dict[str, str], body: str
    ) -> list[str]:
        if name.startswith("prf:"):
            return self.theorem(name.removeprefix("prf:"), argument, options, body)
        if name in ADMONITIONS:
            self.known(options, {"class", "name"})
            return self.admonition(
                name.replace("seealso", "see also").capitalize(),
                (argument + "\n" + body).strip(),
            )
        method = getattr(self, "directive_" + name.replace("-", "_"), None)
        if method is None:
            raise Unknown(f"the directive {{{name}}}")
        return method(argument, options, body)

    def theorem(
        self, kind: str, title: str, options: dict[str, str], body: str
    ) -> list[str]:
        self.known(options, {"label", "class"})
        if kind == "proof":
            text = [title, *self.inner(body)] if title else self.inner(body)
            plain = is_paragraph(text[0])
            text = [f"*Proof.* {text[0]}", *text[1:]] if plain else ["*Proof.*", *text]
            return [*text[:-1], text[-1] + " ∎"] if is_paragraph(text[-1]) else [*text, "∎"]
        if kind not in THEOREMS or "label" not in options:
            raise Unknown(
                f"{{prf:{kind}}} {title}: not a kind that is known, or without a label"
            )
        place = self.book.place("prf", options["label"])
        head = f"**{place.text}**" + (f" ({self.words(title)})" if title else "") + "."
        return quote([head, *self.inner(body)])

    def admonition(self, title: str, body: str) -> list[str]:
        return quote([f"**{title}**", *self.inner(body)])

    def directive_admonition(
        self, argument: str, options: dict[str, str], body: str
    ) -> list[str]:
        self.known(options, {"class", "name"})
        if "dropdown" in options.get("class", ""):
            return folded(self.words(argument), self.inner(body))
        return self.admonition(self.words(argument), body)

    def directive_dropdown(
        self, argument: str, options: dict[str, str], body: str
    ) -> list[str]:
        self.known(options, {"name", "open", "icon", "color", "animate"})
        return folded(self.words(argument), self.inner(body))

    def directive_exercise(
        self, argument: str, options: dict[str, str], body: str
    ) -> list[str]:
        self.known(options, {"label", "class"})
        if "label" not in options:
            raise Unknown(f"an exercise without a label: {argument}")
        text = self.book.place("exercise", options["label"]).text
        title = f": {self.words(argument)}" if argument else ""
        return ["#" * min(max(self.level + 1, 3), 6) + f" {text}{title}", *self.inner(body)]

    def directive_exercise_start(
        self, argument: str, options: dict[str, str], body: str
    ) -> list[str]:
        if self.exercise:
            raise Unknown(f"an exercise starts inside of another: {self.exercise}")
        self.exercise = options.get("label", "?")
        return self.directive_exercise(argument, options, body)

    def directive_exercise_end(
        self, argument: str, options: dict[str, str], body: str
    ) -> list[str]:
        if not self.exercise:
            raise Unknown("an exercise ends that did not start")
        self.nothing(argument + body)
        self.exercise = ""
        return []

    def directive_solution(
        self, argument: str, options: dict[str, str], body: str
    ) -> list[str]:
        self.known(options, {"label", "class"})
        return folded(self.summary(argument), self.inner(body))

    def directive_glossary(
        self, argument: str, options: dict[str, str], body: str
    ) -> list[str]:
        self.known(options, {"sorted"})
        return self.inner(as_list(body))

    def directive_math(
        self, argument: str, options: dict[str, str], body: str
    ) -> list[str]:
        self.known(options, {"label"})
        return [self.equation(f"{argument}\n{body}", options.get("label"))]

    def directive_code_block(
        self, argument: str, options: dict[str, str], body: str
    ) -> list[str]:
        self.known(options, {"caption", "name"})
        return [f"```{argument}\n{body}\n```"]

    def directive_figure(
        self, argument: str, options: dict[str, str], body: str
    ) -> list[str]:
        self.known(options, {"name", "alt", "width", "align", "height", "scale"})
        image = f"![{options.get('alt', '')}]({self.file(argument)})"
        return [image, *self.caption(options.get("name", ""), self.inner(body))]

    def directive_figure_md(
        self, argument: str, options: dict[str, str], body: str
    ) -> list[str]:
        self.known(options, {"class", "name", "align", "width"})
        *content, caption = self.inner(body)
        return [*content, *self.caption(argument, [caption])]

    def caption(self, label: str, blocks: list[str]) -> list[str]:
        name = f"**{self.book.place('figure', label).text}** " if label else ""
        return [name + blocks[0], *blocks[1:]] if blocks else []

    def directive_image(
        self, argument: str, options: dict[str, str], body: str
    ) -> list[str]:
        self.known(options, {"alt", "width", "align", "height", "scale", "name"})
        return [f"![{options.get('alt', '')}]({self.file(argument)})"]

    def inner(self, body: str) -> list[str]:
        return self.blocks(self.book.parse(body))

    def summary(self, label: str) -> str:
        return f"Solution to {self.book.place('exercise', label).text}"

    def known(self, options: dict[str, str], names: set[str]) -> None:
        if unknown := set(options) - names:
            raise Unknown(f"options {sorted(unknown)}")

    def nothing(self, text: str) -> None:
        if text.strip():
            raise Unknown(f"text where none is shown: {text}")

    # inside of a paragraph

    def words(self, text: str) -> str:
        """One line of markdown, such as a title."""
        return self.inline(self.book.parse(text)[0].children[0]) if text.strip() else ""

    def inline(self, node: SyntaxTreeNode, *, table: bool = False) -> str:
        return "".join(self.span(child, table) for child in node.children)

    def span(self, node: SyntaxTreeNode, table: bool) -> str:  # noqa: C901 - one short case per kind of token
        inside = "".join(self.span(child, table) for child in node.children)
        match node.type:
            case "text":
                if "$" in node.content:
                    raise Unknown(
                        "a dollar sign that is no maths, and Colab may take it for some: "
                        f"{node.content}"
                    )
                return node.content.replace("|", r"\|") if table else node.content
            case "text_special":
                return node.markup
            case "softbreak":
                return " "  # Colab may take a line's end for a break
            case "hardbreak":
                return "  \n"
            case "code_inline":
                space = (
                    " "
                    if node.content.startswith("`") or node.content.endswith("`")
                    else ""
                )
                text = f"{node.markup}{space}{node.content}{space}{node.markup}"
                return text.replace("|", r"\|") if table else text
            case "em" | "strong":
                return f"{node.markup}{inside}{node.markup}"
            case "math_inline" | "math_single":
                return f"${self.tex(node.content, table)}$"
            case "math_inline_double":
                return f"$${self.tex(node.content, table)}$$"
            case "link":
                return self.link(str(node.attrs["href"]), inside)
            case "image":
                return f"![{node.content}]({self.file(str(node.attrs['src']))})"
            case "html_inline":
                return self.moving(node.content) or self.html(node.content)
            case "myst_role":
                return self.role(node.meta["name"], node.content)
        raise Unknown(f"{node.type}: {node.content}")

    def role(self, name: str, content: str) -> str:
        shown, target = role_target(content)
        match name:
            case "prf:ref" | "eq" | "numref" | "ref":
                return self.reference(name, shown, target)
            case "doc":
                place = self.book.place("page", target.lstrip("/"))
                return f"[{shown or self.plain(place.text)}]({self.book.site(place.page)})"
            case "term":
                place = self.book.place("term", target.lower())
                return f"[{shown or target}]({self.book.site(place.page, place.anchor)})"
            case "cite" | "cite:p" | "cite:t" | "cite:ts":
                return self.citation(
                    [key.strip() for key in content.split(",")],
                    textual=name.startswith("cite:t"),
                )
            case "math":
                return f"${self.tex(content)}$"
            case "sub" | "sup" | "subscript" | "superscript":
                return f"<{name[:3]}>{content}</{name[:3]}>"
            case "kbd":
                return f"<kbd>{content}</kbd>"
        raise Unknown(f"the role {{{name}}}`{content}`")

    def reference(self, name: str, shown: str | None, target: str) -> str:
        """A label in words: linked to the page that has it, unless that page is this
        notebook."""
        kinds = {"prf:ref": ["prf"], "eq": ["equation"], "numref": ["figure", "exercise"]}
        kind = next(
            (
                k
                for k in kinds.get(name, ["target", "exercise", "figure"])
                if (k, target) in self.book.places
            ),
            None,
        )
        if kind is None:
            raise Unknown(f"no label {target!r} for the role {{{name}}}")
        place = self.book.place(kind, target)
        text = shown or (self.plain(place.text) if place.text else None)
        if text is None or "%" in text:
            raise Unknown(f"a reference to {target!r} needs a text")
        if place.page == self.page:
            return text
        return f"[{text}]({self.book.site(place.page, place.anchor)})"

    def plain(self, text: str) -> str:
        """A title, which may hold maths, as a reference shows it."""
        return self.words(text) if not text.startswith("(") else text

    def citation(self, keys: list[str], *, textual: bool) -> str:
        out = []
        for key in keys:
            if key not in self.book.works:
                raise Unknown(f"the bibliography has no {key!r}")
            names, year, address = cited(self.book.works[key])
            words = f"{names} ({year})" if textual else f"{names}, {year}"
            out.append(f"[{words}]({address or self.book.site('bibliography')})")
        return ", ".join(out) if textual else f"({'; '.join(out)})"

    def link(self, address: str, text: str) -> str:
        parts = urlsplit(address)
        if parts.scheme in ("http", "https", "mailto"):
            return f"[{text}]({address})"
        page = re.sub(r"\.(ipynb|md|html)$", "", parts.path)
        if (
            parts.scheme
            or parts.netloc
            or ("page", page or self.page) not in self.book.places
        ):
            if ("target", address.lstrip("#")) in self.book.places:
                return self.reference("ref", text or None, address.lstrip("#"))
            raise Unknown(f"a link to {address}")
        text = text or self.plain(self.book.place("page", page).text)
        return f"[{text}]({self.book.site(page or self.page, parts.fragment)})"

    def file(self, path: str) -> str:
        """The address of a file of the book that is not a page."""
        if urlsplit(path).scheme:
            return path
        owner, name = self.book.owner
        return f"https://raw.githubusercontent.com/{owner}/{name}/{self.book.branch}/{self.book.folder}/{path}"

    def moving(self, tag: str) -> str:
        """A tag of words that move the lab, as one end of a link to that view on the site;
        empty for other tags."""
        if start := GO.fullmatch(tag):
            self.view = self.book.site(self.page) + unescape(start[1])
            return "["
        if tag == "</a>" and self.view:
            view, self.view = self.view, ""
            return f"]({view})"
        return ""

    def html(self, text: str) -> str:
        text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL).strip("\n")
        if "<" in HTML.sub("", text):  # Colab drops what it does not trust
            raise Unknown(f"HTML: {text}")
        return text

    # maths

    def tex(self, text: str, table: bool = False) -> str:
        """TeX on one line, so that no markdown rule cuts it, with the macros written out
        and without < and >."""
        if re.search(r"(?<!\\)%", text):
            raise Unknown(f"a comment in a formula: {text}")
        text = " ".join(expand(text, self.book.macros).split())
        text = re.sub(
            r"\s*([<>])\s*", lambda sign: {"<": r" \lt ", ">": r" \gt "}[sign[1]], text
        )
        if table:
            text = re.sub(
                r"\s*(\\?)\|\s*", lambda bar: r" \Vert " if bar[1] else r" \vert ", text
            )
        return text.strip()

    def equation(self, text: str, label: str | None) -> str:
        if not label:
            return f"$${self.tex(text)}$$"
        return rf"$${self.tex(text)} \tag{{{self.book.place('equation', label).number}}}$$"


def is_paragraph(block: str) -> bool:
    return not re.match(r"\$\$|[-*+] |\d+[.)] |#+ |[>|<]|```|~~~|!\[", block)


def quote(blocks: list[str]) -> list[str]:
    return ["\n".join(f"> {line}".rstrip() for line in "\n\n".join(blocks).splitlines())]


def folded(summary: str, blocks: list[str]) -> list[str]:
    """A block that opens on a click. The blank lines let Colab read what is between the
    tags as markdown."""
    return (
        [f"<details><summary>{summary}</summary>", *blocks, "</details>"] if blocks else []
    )


def leftovers(text: str, macros: dict[str, Any]) -> list[str]:
    """What would show as raw text: MyST, or a macro that Colab does not know. Code may
    contain anything.

    >>> leftovers("see {eq}`a`\\n(b)=\\n`{eq}`", {})
    ['{eq}`', '(b)=']
    """
    text = re.sub(
        r"^( *(?:> *)*)(`{3,}|~{3,}).*?^\1\2", "", text, flags=re.DOTALL | re.MULTILINE
    )
    role = r"(?<!`)\{[\w:+-]+\}`"
    found = re.findall(role, text)
    text = re.sub(r"(?<!\})(`+)(?!`).+?(?<!`)\1(?!`)", "", text)
    found += re.findall(
        r"^.*:::.*$|^[> ]*\([^()\n]*\)=|\{\{|\$\$ *\([\w-]+\)|\{(?:prf|cite)\b",
        text,
        re.MULTILINE,
    )
    return found + [name for name in re.findall(r"\\([a-zA-Z]+)", text) if name in macros]


def title_of(cell: Any, solution: str) -> str | None:
    """What stands for the code of a folded cell; None if the code is shown."""
    tags = set(cell.metadata.get("tags", []))
    if unknown := tags - SHOWN - FOLDED:
        raise Unknown(f"the cell tags {sorted(unknown)}")
    if solution:
        return f"{solution}: code"
    if not tags & FOLDED:
        return None
    drawn = any(PLOTLY in output.get("data", {}) for output in cell.get("outputs", []))
    return "Figure" if drawn else "Setup" if "hide-cell" in tags else "Result"


def code(cell: Any, title: str | None, addresses: tuple[str, str]) -> Any:
    """A code cell without outputs; folded under `title`, which Colab shows in its place."""
    source = HASHED.sub(r"\1  # ", cell.source.replace(*addresses))
    metadata = {}
    if title is not None:
        if source.startswith("%%"):
            raise Unknown(
                "a folded cell that starts with a cell magic: Colab's title has to be the "
                "first line"
            )
        source, metadata = f"#@title {title}\n{source}", {"cellView": "form"}
    return nbformat.v4.new_code_cell(source, metadata=metadata, id=cell.id)


def convert(notebook: Any, page: str, book: Book) -> Any:
    """The copy of a page's notebook. Nothing is read but the arguments, and none of them
    changes.

    Outputs are dropped. Colab does not draw the figures as they are stored, each of them is
    large, and a reader who opens a chapter there has come to run it.
    """
    copy = Copy(book, page)
    title = copy.plain(book.place("page", page).text)
    note = (
        f"*This is the notebook of [{title}]({book.site(page)}), a page of "
        f"[{book.title}]({book.site()}). The page has "
        "all figures drawn. Here nothing is drawn until you run it: **Runtime → Run all**. "
        "Where only the title of a cell is shown, a double click on the title shows its "
        "code.*"
    )
    cells = [nbformat.v4.new_markdown_cell(note, id="about-this-copy")]
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    installed = re.search(r"%pip install .*git\+(https://\S+)", first)
    if not installed or not first.startswith("try:\n    import lrdlib\n"):
        raise Unknown(
            f"{page}: the first code cell has to install lrdlib where it is missing"
        )
    for index, cell in enumerate(notebook.cells):
        try:
            if cell.cell_type == "code":
                cells.append(
                    code(
                        cell, title_of(cell, copy.solution), (installed[1], book.repository)
                    )
                )
            elif text := copy.cell(cell.source):
                cells.append(nbformat.v4.new_markdown_cell(text, id=cell.id))
        except Unknown as error:
            raise Unknown(f"{page}, cell {index}: {error}") from error
    if copy.solution or copy.exercise:
        raise Unknown(f"{page}: {copy.solution or copy.exercise} does not end")
    metadata = {
        "colab": {"provenance": []},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    made = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(made)
    return made


def notebooks(book: Book, root: Path = ROOT) -> Iterator[tuple[str, Path]]:
    """The pages that are notebooks, and so have a copy."""
    for page in book.pages:
        if (path := root / book.folder / f"{page}.ipynb").exists():
            yield page, path


def write(book: Book, folder: Path, root: Path = ROOT) -> list[Path]:
    """Every copy into `folder`; returns the files. Raises Unknown, and writes none, if one
    cannot be made."""
    made, wrong = {}, []
    for page, path in notebooks(book, root):
        try:
            made[page] = convert(nbformat.read(path, as_version=4), page, book)
        except Unknown as error:
            wrong.append(str(error))
    if wrong:
        raise Unknown("\n".join(wrong))
    folder.mkdir(parents=True, exist_ok=True)
    for page, notebook in made.items():
        nbformat.write(notebook, folder / f"{page}.ipynb")
    return [folder / f"{page}.ipynb" for page in made]


# ---- the button


def launch(
    app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """The theme's menu of launch buttons, which names the source, becomes one button that
    opens the copy."""
    buttons = context.get("header_buttons", [])
    for at, button in enumerate(buttons):
        if button.get("label") == "launch-buttons":
            buttons[at] = {
                "type": "link",
                "label": "open-in-colab",
                "icon": "fas fa-rocket",
                "text": "\u00a0Colab",  # the theme leaves no room after the icon
                "tooltip": "Open in Colab, to run and change this chapter",
                "url": Book.settings().launch(pagename),
            }


def setup(app: Any) -> dict[str, Any]:
    app.connect(
        "html-page-context", launch, priority=600
    )  # after the theme's, which is 501
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        sys.exit(__doc__)
    try:
        print(
            f"   {len(write(Book.read(), Path(arguments[0])))} copies for Colab in "
            f"{arguments[0]}"
        )
    except Unknown as error:
        sys.exit(f"no form for Colab:\n{error}")


if __name__ == "__main__":
    main(sys.argv[1:])
