"""The clock of modular addition, with hands to drag: a + b modulo p by angles.

One element of HTML with a picture that stands by itself, drawn here, and what the page's
script needs to move it as JSON. static/clock.js and clock.css set it moving on the book's
pages; in a notebook, where they are not, the picture stays as it is. No kernel is asked.
"""

import math
from collections.abc import Sequence

import numpy as np

from lrdlib._check import check_integer, shown
from lrdlib.figures.canvas import INK, PALETTE
from lrdlib.figures.drag import shell

COLOURS = {"a": PALETTE[0], "b": PALETTE[1], "sum": PALETTE[3]}
LENGTHS = {"a": 78, "b": 98, "sum": 118}  # of the hands, in the picture's units
RIM, NUMBERS, MIDDLE = 122, 138, 160  # radius of the face, of its numbers; its centre
FACE, CURVE = (320, 320), (360, 320)  # sizes of the two panels
BOX = (46, 14, 12, 44)  # room around the curve: left, top, right, bottom


def clock_logits(s: int, keys: Sequence[int], *, p: int) -> np.ndarray:
    """What clocks of these frequencies say for the sum s: for each answer c from 0 to p - 1
    the mean of cos(2 pi k (s - c) / p) over the frequencies k. (p,)

    Raises TypeError or ValueError unless p is an odd prime, the frequencies are from 1 to
    (p - 1) / 2, and s is an integer.

    >>> clock_logits(6, [1, 2], p=5).round(2).tolist()
    [-0.25, 1.0, -0.25, -0.25, -0.25]
    """
    _check(p, keys)
    check_integer("s", s, at_least=-(10**6), at_most=10**6)
    turns = np.outer(keys, s - np.arange(p)) / p  # (keys, p)
    return np.cos(2 * math.pi * turns).mean(0)


def place(number: int, k: int, *, p: int) -> int:
    """The mark, counted clockwise from the top, at which a number stands on the clock of
    frequency k: k a modulo p.

    >>> [place(a, 2, p=5) for a in range(5)]
    [0, 2, 4, 1, 3]
    """
    _check(p, [k])
    return number * k % p


def clock(
    a: int, b: int, *, p: int = 29, keys: Sequence[int] = (1, 5, 12), alt: str
) -> str:
    """The element in which the hands of a clock are dragged. Left the face, p numbers
    around, with hands at a, at b and, twice turned, at a + b; right the logits of all
    answers. Buttons choose the frequency of the face, among `keys`, and whether the logits
    are this clock's or the mean of all.

    alt: what it shows, for those who cannot see it. Raises TypeError or ValueError unless a
    and b are numbers of the clock, there is a text, and as `clock_logits`.
    """
    _check(p, keys)
    check_integer("a", a, at_least=0, at_most=p - 1)
    check_integer("b", b, at_least=0, at_most=p - 1)
    data = {"a": a, "b": b, "p": p, "keys": list(keys), "box": BOX, "size": CURVE}
    data |= {"lengths": LENGTHS, "numbers": NUMBERS, "middle": MIDDLE}
    key = {
        name: {"stroke": COLOURS[hand], "stroke-width": "4"}
        for hand, name in (("a", "a"), ("b", "b"), ("sum", "a + b"))
    }
    panels = (
        f'<div class="stage">{_face(a, b, keys[0], p)}</div>'
        f'<div class="answers">{_curve(a + b, keys[:1], p)}</div>'
    )
    return shell('class="lrd-clock"', panels, data, key=key, alt=alt)


def _check(p: int, keys: Sequence[int]) -> None:
    check_integer("p", p, at_least=3)
    if any(p % d == 0 for d in range(2, math.isqrt(p) + 1)):
        raise ValueError(f"p must be an odd prime, got {p}")
    if not isinstance(keys, Sequence) or isinstance(keys, str) or not keys:
        raise TypeError(f"keys must be a list of frequencies, got {shown(keys)}")
    for i, k in enumerate(keys):
        check_integer(f"keys[{i}]", k, at_most=p // 2)


def _at(mark: float, radius: float, p: int) -> tuple[str, str]:
    """The place of a mark on the face, clockwise from the top."""
    angle = 2 * math.pi * mark / p
    x, y = MIDDLE + radius * math.sin(angle), MIDDLE - radius * math.cos(angle)
    return f"{x:.1f}", f"{y:.1f}"


def _face(a: int, b: int, k: int, p: int) -> str:
    parts = [f'<circle cx="{MIDDLE}" cy="{MIDDLE}" r="{RIM}" fill="none" stroke="{INK}"/>']
    for mark in range(p):
        (x, y), (u, v) = _at(mark, RIM - 4, p), _at(mark, RIM + 4, p)
        parts.append(f'<path d="M{x} {y}L{u} {v}" stroke="{INK}"/>')
    for number in range(p):
        x, y = _at(place(number, k, p=p), NUMBERS, p)
        parts.append(
            f'<text data-number="{number}" x="{x}" y="{y}" dy="0.35em" '
            f'text-anchor="middle" font-size="11" fill="{INK}">{number}</text>'
        )
    for hand, number in (("sum", a + b), ("a", a), ("b", b)):
        x, y = _at(place(number % p, k, p=p), LENGTHS[hand], p)
        style = f'stroke="{COLOURS[hand]}" stroke-width="4" stroke-linecap="round"'
        parts.append(
            f'<g data-hand="{hand}"><line x1="{MIDDLE}" y1="{MIDDLE}" x2="{x}" y2="{y}" '
            f'{style}/><circle cx="{x}" cy="{y}" r="7" fill="{COLOURS[hand]}"/></g>'
        )
    return _svg(FACE, "".join(parts))


def _curve(s: int, keys: Sequence[int], p: int) -> str:
    left, top, right, bottom = BOX
    width, height = CURVE
    logits = clock_logits(s, keys, p=p)
    points = [
        f"{left + (c + 0.5) / p * (width - left - right):.1f},"
        f"{top + (1.05 - y) / 2.1 * (height - top - bottom):.1f}"
        for c, y in enumerate(logits)
    ]
    parts = []
    for y in (-1, 0, 1):
        down = top + (1.05 - y) / 2.1 * (height - top - bottom)
        parts.append(
            f'<path d="M{left} {down:.1f}H{width - right}" stroke="{INK}" '
            f'stroke-opacity="{0.3 if y else 0.9}"/>'
            + _label(f"{y}".replace("-", "−"), left - 7, down + 4, "end")
        )
    for c in range(0, p, 7):
        across = left + (c + 0.5) / p * (width - left - right)
        parts.append(_label(f"{c}", across, height - bottom + 17))
    parts.append(_label("answer c", (left + width - right) / 2, height - 6))
    parts.append(_label("logit", 22, top - 2))
    right_x, right_y = points[s % p].split(",")
    parts.append(
        f'<polyline data-line="logits" points="{" ".join(points)}" fill="none" '
        f'stroke="{INK}" stroke-width="2" stroke-linejoin="round"/>'
        f'<circle data-dot="answer" cx="{right_x}" cy="{right_y}" r="7" '
        f'fill="{COLOURS["sum"]}"/>'
    )
    return _svg(CURVE, "".join(parts))


def _label(text: str, x: float, y: float, anchor: str = "middle") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="13" '
        f'fill="{INK}">{text}</text>'
    )


def _svg(size: tuple[int, int], inside: str) -> str:
    width, height = size
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'style="max-width:100%;height:auto" aria-hidden="true">{inside}</svg>'
    )
