"""TeX that needs none of the book's macros: Colab knows none, and would forget them from
cell to cell."""

from __future__ import annotations

import re

from .parse import Unknown

Macros = dict[str, tuple[str, int]]  # name -> body with #1, #2 ..., number of arguments


def argument(tex: str, at: int) -> tuple[str, int]:
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


def expand(tex: str, macros: Macros) -> str:
    r"""TeX with the macros written out.

    >>> norm = (r"\lVert #1 \rVert", 1)
    >>> expand(r"\norm{\R x}_F < \Rho", {"R": (r"\mathbb{R}", 0), "norm": norm})
    '\\lVert \\mathbb{R} x \\rVert_F < \\Rho'
    """
    out, at = [], 0
    for match in re.compile(r"\\(?:([a-zA-Z]+)|.)", re.DOTALL).finditer(tex):
        if match.start() < at or match[1] not in macros:
            continue
        body, count = macros[match[1]]
        end, given = match.end(), []
        for _ in range(count):
            words, end = argument(tex, end)
            given.append(expand(words, macros))
        parts = re.split(r"#(\d)", expand(body, macros))  # text, digit, text, digit ...
        parts[1::2] = [given[int(digit) - 1] for digit in parts[1::2]]
        text = "".join(parts)
        touches = re.search(r"\\[a-zA-Z]+$", text) and tex[end : end + 1].isalpha()
        out += [tex[at : match.start()], text, " " if touches else ""]
        at = end
    return "".join(out) + tex[at:]


def one_line(tex: str, macros: Macros, *, table: bool = False) -> str:
    r"""TeX on one line, so that no markdown rule cuts it, with the macros written out, and
    without < and >; in a table, without bars.

    >>> one_line("a <\n b", {}), one_line(r"\|x\|", {}, table=True)
    ('a \\lt b', '\\Vert x \\Vert')
    """
    if re.search(r"(?<!\\)%", tex):
        raise Unknown(f"a comment in a formula: {tex}")
    tex = " ".join(expand(tex, macros).split())
    for sign, words in {"<": r"\\lt", ">": r"\\gt"}.items():
        tex = re.sub(rf"\s*{sign}\s*", rf" {words} ", tex)
    if table:
        tex = re.sub(r"\s*\\\|\s*", r" \\Vert ", tex)
        tex = re.sub(r"\s*\|\s*", r" \\vert ", tex)
    return tex.strip()
