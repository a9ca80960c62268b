"""The inside of a paragraph in plain markdown, HTML and TeX, as Colab shows it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from urllib.parse import urlsplit

from markdown_it.tree import SyntaxTreeNode

from .address import Book
from .parse import Unknown, role_target
from .tex import one_line

# words that move the lab, on its own page or from another
GO = re.compile(r'<a class="lrd-go" href="(?:(\w+)\.html)?(#(?:lab|train):[^"]+)">')
HTML = re.compile(r"</?(?:br|sub|sup|kbd|small|b|i|em|strong|details|summary)\s*/?>")


@dataclass
class Words:
    """The words of one page."""

    book: Book
    page: str
    view: str = ""  # the address of the view of the lab whose link is open

    def words(self, text: str) -> str:
        """One line of markdown, such as a title."""
        return self.inline(self.book.parse(text)[0].children[0]) if text.strip() else ""

    def plain(self, text: str) -> str:
        """A title, which may hold maths, or a number in brackets, as a reference shows it."""
        return text if text.startswith("(") else self.words(text)

    def inline(self, node: SyntaxTreeNode, *, table: bool = False) -> str:
        return "".join(self.span(child, table) for child in node.children)

    def span(self, node: SyntaxTreeNode, table: bool) -> str:  # noqa: C901 - one short case per kind of token
        match node.type:
            case "text":
                if "$" in node.content:
                    raise Unknown(
                        "a dollar sign that is no maths, and Colab may take it for some: "
                        f"{node.content}"
                    )
                return escape_bars(node.content, table)
            case "text_special":
                return node.markup
            case "softbreak":
                return " "  # Colab may take a line's end for a break
            case "hardbreak":
                return "  \n"
            case "code_inline":
                code = node.content
                space = " " if code.startswith("`") or code.endswith("`") else ""
                return escape_bars(f"{node.markup}{space}{code}{space}{node.markup}", table)
            case "em" | "strong":
                return f"{node.markup}{self.inline(node, table=table)}{node.markup}"
            case "math_inline" | "math_single":
                return f"${self.tex(node.content, table)}$"
            case "math_inline_double":
                return f"$${self.tex(node.content, table)}$$"
            case "link":
                return self.link(str(node.attrs["href"]), self.inline(node, table=table))
            case "html_inline":
                return self.moving(node.content) or trusted(node.content)
            case "myst_role":
                return self.role(node.meta["name"], node.content)
        raise Unknown(f"{node.type}: {node.content}")

    def role(self, name: str, content: str) -> str:
        shown, target = role_target(content)
        match name:
            case "prf:ref" | "eq" | "ref":
                return self.reference(name, shown, target)
            case "doc":
                place = self.book.place("page", target.lstrip("/"))
                return f"[{shown or self.plain(place.text)}]({self.book.site(place.page)})"
            case "term":
                place = self.book.place("term", target.lower())
                return f"[{shown or target}]({self.book.site(place.page, place.anchor)})"
            case "cite" | "cite:p":
                works = [self.book.cited(key.strip()) for key in content.split(",")]
                links = [f"[{names}, {year}]({address})" for names, year, address in works]
                return f"({'; '.join(links)})"
            case "cite:t":
                works = [self.book.cited(key.strip()) for key in content.split(",")]
                return ", ".join(f"[{names} ({year})]({url})" for names, year, url in works)
        raise Unknown(f"the role {{{name}}}`{content}`")

    def reference(self, name: str, shown: str | None, target: str) -> str:
        """A label in words: linked to the page that has it, unless that page is this
        notebook."""
        of_role = {"prf:ref": ["prf"], "eq": ["equation"]}
        kinds = of_role.get(name, ["target", "exercise"])
        known = [kind for kind in kinds if (kind, target) in self.book.places]
        place = self.book.place((known or kinds)[0], target)
        text = shown or (self.plain(place.text) if place.text else None)
        if text is None or "%" in text:
            raise Unknown(f"a reference to {target!r} needs a text")
        if place.page == self.page:
            return text
        return f"[{text}]({self.book.site(place.page, place.anchor)})"

    def link(self, address: str, text: str) -> str:
        parts = urlsplit(address)
        if parts.scheme in ("http", "https", "mailto"):
            return f"[{text}]({address})"
        page = re.sub(r"\.(ipynb|md|html)$", "", parts.path)
        inside = not parts.scheme and not parts.netloc
        if inside and ("page", page or self.page) in self.book.places:
            text = text or self.plain(self.book.place("page", page).text)
            return f"[{text}]({self.book.site(page or self.page, parts.fragment)})"
        return self.reference("ref", text or None, address.lstrip("#"))

    def moving(self, tag: str) -> str:
        """A tag of words that move the lab, as one end of a link to that view on the site;
        empty for other tags."""
        if start := GO.fullmatch(tag):
            self.view = self.book.site(start[1] or self.page) + unescape(start[2])
            return "["
        if tag == "</a>" and self.view:
            view, self.view = self.view, ""
            return f"]({view})"
        return ""

    def tex(self, text: str, table: bool = False) -> str:
        return one_line(text, self.book.macros, table=table)

    def equation(self, text: str, label: str | None = None) -> str:
        if not label:
            return f"$${self.tex(text)}$$"
        return rf"$${self.tex(text)} \tag{{{self.book.place('equation', label).number}}}$$"


def trusted(html: str) -> str:
    """HTML without comments, if it has only tags that Colab does not drop."""
    html = re.sub(r"<!--.*?-->", "", html, flags=re.DOTALL).strip("\n")
    if "<" in HTML.sub("", html):
        raise Unknown(f"HTML: {html}")
    return html


def escape_bars(text: str, table: bool) -> str:
    """Text in which no bar ends a cell of a table."""
    return text.replace("|", r"\|") if table else text
