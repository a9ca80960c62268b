"""A cell of a page in plain markdown, HTML and TeX, as Colab shows them. Whatever is not
known here is an error: nothing passes through."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import indent
from typing import Any

from markdown_it.tree import SyntaxTreeNode
from sphinx_proof.proof_type import PROOF_TYPES

from .parse import Directive, Unknown, as_list, directive
from .words import Words, trusted

# every directive that has a form, and the options that it may have
OPTIONS = {
    **{f"prf:{kind}": {"label", "class"} for kind in [*PROOF_TYPES, "proof"]},
    "admonition": {"class", "name"},
    "dropdown": {"name", "open", "icon", "color", "animate"},
    "exercise-start": {"label", "class"},
    "exercise-end": set(),
    "solution-start": {"label", "class"},
    "solution-end": set(),
    "glossary": {"sorted"},
}
LAB = re.compile(r'<div class="lrd-lab" data-lab="(\w+)">.*</div>\s*', re.DOTALL)
LABS = {  # what stands for a lab that only the site has
    "recorded": "The lab of recorded runs is on the site: {link}. It needs no kernel.",
    "train": (
        "The lab that trains in the page is on the site: {link}. It needs no kernel either."
    ),
}
RULERS = {  # what stands under the head of a column
    "": "---",
    "text-align:left": ":---",
    "text-align:right": "---:",
    "text-align:center": ":---:",
}


@dataclass
class Copy(Words):
    """What has to be remembered from cell to cell of one notebook: the level of headings,
    an open exercise, an open solution.

    A method that makes blocks returns them without blank lines around; none for what only
    names a place.
    """

    level: int = 1
    solution: str = ""  # the summary of the solution that is open
    exercise: str = ""  # the label of the exercise that is open

    def cell(self, source: str) -> str:
        """A markdown cell in plain markdown.

        What stands from `solution-start` to `solution-end` is folded; the two may stand in
        different cells.
        """
        out: list[str] = []
        inside: list[str] = []  # of the open solution
        for node in self.book.parse(source):
            block = directive(node) or Directive("")
            if block.name in ("solution-start", "solution-end"):
                check_options(block)
                check_empty(block.body)
            if block.name == "solution-start":
                if self.solution:
                    raise Unknown(f"a solution starts inside of another: {block.argument}")
                number = self.book.place("exercise", block.argument).text
                self.solution = f"Solution to {number}"
            elif block.name == "solution-end":
                if not self.solution:
                    raise Unknown("a solution ends that did not start")
                out += folded(self.solution, inside)
                self.solution, inside = "", []
            else:
                (inside if self.solution else out).extend(self.block(node))
        text = "\n\n".join(out + folded(self.solution, inside))
        if found := leftovers(text, self.book.macros):
            raise Unknown(f"MyST is left in the copy: {found}")
        return text

    # ---- blocks

    def inner(self, body: str) -> list[str]:
        return self.blocks(self.book.parse(body))

    def blocks(self, nodes: Iterable[SyntaxTreeNode]) -> list[str]:
        return [block for node in nodes for block in self.block(node)]

    def block(self, node: SyntaxTreeNode) -> list[str]:
        if block := directive(node):
            return self.directive(block)
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
        numbers = range(start, start + len(node.children))
        return self.items(node, [f"{number}{node.markup} " for number in numbers])

    def items(self, node: SyntaxTreeNode, marks: list[str]) -> list[str]:
        children = [child for item in node.children for child in item.children]
        tight = all(child.hidden for child in children if child.type == "paragraph")
        gap = "\n" if tight else "\n\n"
        out = []
        for mark, item in zip(marks, node.children, strict=True):
            text = indent(gap.join(self.blocks(item.children)), " " * len(mark))
            out.append(mark + text[len(mark) :])
        return [gap.join(out)]

    def block_table(self, node: SyntaxTreeNode) -> list[str]:
        rows = [row.children for part in node.children for row in part.children]
        texts = [[self.inline(td.children[0], table=True) for td in row] for row in rows]
        texts.insert(1, [RULERS[str(th.attrs.get("style", ""))] for th in rows[0]])
        return ["\n".join("| " + " | ".join(row) + " |" for row in texts)]

    def block_dl(self, node: SyntaxTreeNode) -> list[str]:
        out = []
        for child in node.children:
            if child.type == "dt":
                out.append(f"**{self.inline(child.children[0])}**")
            else:
                out += quote(self.blocks(child.children))
        return out

    def block_math_block(self, node: SyntaxTreeNode) -> list[str]:
        return [self.equation(node.content)]

    block_amsmath = block_math_block

    def block_math_block_label(self, node: SyntaxTreeNode) -> list[str]:
        return [self.equation(node.content, node.info)]

    def block_html_block(self, node: SyntaxTreeNode) -> list[str]:
        if lab := LAB.fullmatch(node.content):
            if lab[1] not in LABS:
                raise Unknown(f"a lab of the kind {lab[1]!r}")
            title = self.plain(self.book.place("page", self.page).text)
            link = f"[{title}]({self.book.site(self.page)})"
            return quote([LABS[lab[1]].format(link=link)])
        return [text] if (text := trusted(node.content)) else []

    def block_myst_target(self, node: SyntaxTreeNode) -> list[str]:
        return []

    block_myst_line_comment = block_myst_block_break = block_myst_target

    # ---- directives

    def directive(self, d: Directive) -> list[str]:
        check_options(d)
        if d.name == "prf:proof":
            return self.proof(d)
        if d.name.startswith("prf:"):
            return self.theorem(d)
        return getattr(self, "directive_" + d.name.replace("-", "_"))(d)

    def theorem(self, d: Directive) -> list[str]:
        if "label" not in d.options:
            raise Unknown(f"{{{d.name}}} {d.argument}: without a label")
        text = self.book.place("prf", d.options["label"]).text
        title = f" ({self.words(d.argument)})" if d.argument else ""
        return quote([f"**{text}**{title}.", *self.inner(d.body)])

    def proof(self, d: Directive) -> list[str]:
        text = [d.argument] * bool(d.argument) + self.inner(d.body)
        if is_paragraph(text[0]):
            text[0] = f"*Proof.* {text[0]}"
        else:
            text.insert(0, "*Proof.*")
        return [*text[:-1], text[-1] + " ∎"] if is_paragraph(text[-1]) else [*text, "∎"]

    def directive_admonition(self, d: Directive) -> list[str]:
        if "dropdown" in d.options.get("class", ""):
            return self.directive_dropdown(d)
        return quote([f"**{self.words(d.argument)}**", *self.inner(d.body)])

    def directive_dropdown(self, d: Directive) -> list[str]:
        return folded(self.words(d.argument), self.inner(d.body))

    def directive_exercise_start(self, d: Directive) -> list[str]:
        if self.exercise:
            raise Unknown(f"an exercise starts inside of another: {self.exercise}")
        if "label" not in d.options:
            raise Unknown(f"an exercise without a label: {d.argument}")
        self.exercise = d.options["label"]
        level = min(max(self.level + 1, 3), 6)
        text = self.book.place("exercise", self.exercise).text
        title = f": {self.words(d.argument)}" if d.argument else ""
        return ["#" * level + f" {text}{title}", *self.inner(d.body)]

    def directive_exercise_end(self, d: Directive) -> list[str]:
        if not self.exercise:
            raise Unknown("an exercise ends that did not start")
        check_empty(d.argument + d.body)
        self.exercise = ""
        return []

    def directive_glossary(self, d: Directive) -> list[str]:
        return self.inner(as_list(d.body))


def check_options(d: Directive) -> None:
    if d.name not in OPTIONS:
        raise Unknown(f"the directive {{{d.name}}}")
    if unknown := set(d.options) - OPTIONS[d.name]:
        raise Unknown(f"options {sorted(unknown)} of {{{d.name}}}")


def check_empty(text: str) -> None:
    if text.strip():
        raise Unknown(f"text where none is shown: {text}")


def is_paragraph(block: str) -> bool:
    return not re.match(r"\$\$|[-*+] |\d+[.)] |#+ |[>|<]|```|~~~", block)


def quote(blocks: list[str]) -> list[str]:
    return ["\n".join(f"> {line}".rstrip() for line in "\n\n".join(blocks).splitlines())]


def folded(summary: str, blocks: list[str]) -> list[str]:
    """A block that opens on a click; none around nothing. The blank lines let Colab read
    what is between the tags as markdown."""
    head = f"<details><summary>{summary}</summary>"
    return [head, *blocks, "</details>"] if blocks else []


def leftovers(text: str, macros: dict[str, Any]) -> list[str]:
    """What would show as raw text: MyST, or a macro that Colab does not know. Code may
    contain anything.

    >>> leftovers("see {eq}`a`\\n(b)=\\n`{eq}`", {})
    ['{eq}`', '(b)=']
    """
    fence = r"^( *(?:> *)*)(`{3,}|~{3,}).*?^\1\2"
    text = re.sub(fence, "", text, flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"(?<!`)\{[\w:+-]+\}`", text)  # roles
    text = re.sub(r"(?<!\})(`+)(?!`).+?(?<!`)\1(?!`)", "", text)  # less code in a line
    blocks = r"^.*:::.*$|^[> ]*\([^()\n]*\)=|\{\{|\$\$ *\([\w-]+\)|\{(?:prf|cite)\b"
    found += re.findall(blocks, text, re.MULTILINE)
    return found + [name for name in re.findall(r"\\([a-zA-Z]+)", text) if name in macros]
