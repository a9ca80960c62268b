"""Pictures that are moved by their own points: drag a weight matrix, a spectrum or a singular
value, and see at every frame what the decay or the iteration makes of it.

Each is one element of HTML with a picture that stands by itself, drawn here by the
library's own arithmetic, and what the page's script needs to move it as JSON.
static/drag.js and drag.css set it moving on the book's pages; in a notebook, where they are
not, the picture stays as it is. No kernel is asked.
"""

import html
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrdlib._check import check_choice, check_integer, check_real, shown
from lrdlib.decay import frobenius_decay_, low_rank_decay_, proximal_decay_
from lrdlib.figures.canvas import INK, PALETTE, RULE_COLOURS
from lrdlib.polar import CUBIC, MUON, response

Style = dict[str, str]  # attributes of SVG

RULES: Mapping[str, Callable[..., Tensor]] = {
    "l2": frobenius_decay_,
    "low_rank": partial(low_rank_decay_, method="svd"),
    "proximal": proximal_decay_,
}
NAMES = {"l2": "L2", "low_rank": "low rank", "proximal": "proximal"}
# Low-rank and proximal decay go the same way until zero: a wide line below a dashed one.
STYLES = {
    "l2": {"stroke": RULE_COLOURS["l2"], "stroke-width": "2.5"},
    "low_rank": {"stroke": RULE_COLOURS["lrd"], "stroke-width": "4"},
    "proximal": {
        "stroke": RULE_COLOURS["proximal"],
        "stroke-width": "2.5",
        "stroke-dasharray": "6 5",
    },
}
POLYNOMIALS = {"cubic": CUBIC, "quintic": MUON}  # p(x) = a x + b x³ + c x⁵
POLYNOMIAL_NAMES = {"cubic": "cubic", "quintic": "Muon's quintic"}
STRENGTHS = (0.002, 0.13)  # of one step, what the slider goes from and to
FAR = 9.0  # an iterate beyond this leaves for infinity
LIMIT = 2.4  # of the axes of `iterates`: a little beyond the root of 5
CURVE = {"stroke": PALETTE[0], "stroke-width": "2.5"}
STAIRS = {"stroke": PALETTE[1], "stroke-width": "2"}
FAINT = {"stroke": INK, "stroke-width": "1.5"}
GRIP = {"stroke": PALETTE[3], "stroke-width": "5"}  # what is dragged is of this colour


def decayed(
    rule: str, values: Sequence[float], *, t: float, steps: int, scaled: bool
) -> np.ndarray:
    """What steps of decay make of singular values, of W = diag(values): the diagonal after
    0, 1 .. steps of them, (steps + 1, n). One below 0 has changed sign.

    rule: "l2", "low_rank" (with the exact polar factor) or "proximal"; t: the strength of a
    step; scaled: with the adaptive scale |W|_F / |polar(W)|_F, which "l2" does not have.
    Raises ValueError or TypeError for an unknown rule, values that are not numbers >= 0,
    and as check_real and check_integer for t and steps.

    >>> decayed("low_rank", [1.0, 0.25], t=0.5, steps=2, scaled=False).tolist()
    [[1.0, 0.25], [0.5, -0.25], [0.0, 0.25]]
    """
    check_choice("rule", rule, tuple(RULES))
    check_values("values", values)
    check_real("t", t, at_least=0)
    check_integer("steps", steps, at_least=0)
    scale = {} if rule == "l2" else {"scale": "norm" if scaled else None}
    W = torch.diag(torch.tensor([float(v) for v in values], dtype=torch.float64))
    path = [W.diagonal().clone()]
    for _ in range(steps):
        path.append(RULES[rule](W, weight_decay=t, **scale).diagonal().clone())
    return torch.stack(path).numpy()


def iterated(method: str, x: float, *, steps: int) -> np.ndarray:
    """x and what 1 .. steps of an iteration make of it, of "cubic" or "quintic"; it ends
    with the first one beyond FAR.

    Raises ValueError or TypeError for an unknown method, and as check_real and
    check_integer.

    >>> iterated("cubic", 0.5, steps=2).round(3).tolist()
    [0.5, 0.688, 0.869]
    >>> iterated("cubic", 3.0, steps=9).tolist()
    [3.0, -9.0, 351.0]
    """
    check_choice("method", method, tuple(POLYNOMIALS))
    check_real("x", x)
    check_integer("steps", steps)
    path = [float(x)]
    while len(path) <= steps and abs(path[-1]) <= FAR:
        path.append(float(response(np.array(path[-1]), method=method, steps=1)))
    return np.array(path)


# ---- the three pictures


def plane(
    *, start: tuple[float, float] = (0.83, 0.41), t: float = 0.02, steps: int = 60, alt: str
) -> str:
    """The element in which W = diag(σ₁, σ₂) is dragged. Left its plane, with the path that
    each rule takes from it; right the two singular values by step. A slider sets t. The
    rules are without the adaptive scale, as the paper's Algorithm 1.

    start: where it begins, both from 0 to 1; t: the strength at first, within STRENGTHS.
    alt: what it shows, for those who cannot see it. Raises ValueError or TypeError for
    other values, and as `decayed`.
    """
    check_values("start", start, at_most=1.0, count=2)
    check_real("t", t, at_least=STRENGTHS[0], at_most=STRENGTHS[1])
    check_integer("steps", steps)
    there = Panel((-0.15, 1.05), (-0.15, 1.05), "σ₁", "σ₂")
    by_step = Panel((0, steps), (-0.15, 1.05), "step", "σ₁ and σ₂")
    paths = {r: decayed(r, start, t=t, steps=steps, scaled=False) for r in RULES}
    at = np.arange(steps + 1)
    left = [
        there.line(rule, path[:, 0], path[:, 1], STYLES[rule])
        for rule, path in paths.items()
    ]
    right = [
        by_step.line(f"{rule}-{i}", at, path[:, i], STYLES[rule])
        for rule, path in paths.items()
        for i in (0, 1)
    ]
    halves = [0, 0.5, 1]
    return element(
        "plane",
        {
            "plane": (
                there,
                there.svg(there.axes(halves, halves), *left, there.dot(*start)),
            ),
            "steps": (
                by_step,
                by_step.svg(by_step.axes([0, steps // 2, steps], halves), *right),
            ),
        },
        {"start": list(start), "t": t, "steps": steps, "strengths": STRENGTHS},
        key={NAMES[rule]: style for rule, style in STYLES.items()},
        alt=alt,
    )


def spectrum(values: Sequence[float], *, t: float = 0.02, steps: int = 20, alt: str) -> str:
    """The element in which the bars of a spectrum are dragged up and down: outlined before,
    filled after so many steps of a rule with the adaptive scale. Buttons choose the rule, a
    slider the number of steps, from 0 to 3 times as many.

    values: where the bars begin, from 0 to 1, up to 12 of them. alt: as of `plane`. Raises
    as `decayed`, and ValueError for other values.
    """
    check_values("values", values, at_most=1.0)
    if len(values) > 12:
        raise ValueError(f"values must be at most 12, got {len(values)}")
    check_integer("steps", steps)
    panel = Panel(
        (0, len(values)),
        (-0.1, 1.05),
        "index i",
        "σᵢ",
        size=(360, 240),
        box=(46, 10, 12, 22),
    )
    after = decayed("low_rank", values, t=t, steps=steps, scaled=True)[-1]
    colours = {rule: style["stroke"] for rule, style in STYLES.items()}
    parts = [panel.axes([], [0, 0.5, 1])]
    for i, (old, new) in enumerate(zip(values, after, strict=True)):
        parts += [
            panel.bar(f"after-{i}", i, new, {"fill": colours["low_rank"]}),
            panel.bar(f"before-{i}", i, old, {"fill": "none", "stroke": INK}),
            panel.line(f"grip-{i}", [i + 0.2, i + 0.8], [old, old], GRIP),
        ]
    return element(
        "spectrum",
        {"bars": (panel, panel.svg(*parts))},
        {
            "start": list(values),
            "t": t,
            "steps": steps,
            "rule": "low_rank",
            "rules": NAMES,
            "colours": colours,
        },
        key={
            "outlined: before": FAINT,
            "filled: after": {"stroke": "currentColor", "stroke-width": "8"},
        },
        alt=alt,
    )


def iterates(
    *, start: float = 0.1, method: str = "cubic", steps: int = 20, alt: str
) -> str:
    """The element in which the singular value that enters an iteration is dragged. Left the
    polynomial, the diagonal, and between them the stairs x, p(x), p(p(x)) ..; right the
    iterates by step. Buttons choose the polynomial.

    start: from -2.4 to 2.4. alt: as of `plane`. Raises as `iterated`, and ValueError for
    other values.
    """
    check_real("start", start, at_least=-LIMIT, at_most=LIMIT)
    x = iterated(method, start, steps=steps)
    stairs = Panel((-LIMIT, LIMIT), (-LIMIT, LIMIT), "x", "p(x)")
    by_step = Panel((0, steps), (-LIMIT, LIMIT), "step k", "xₖ")
    line = np.linspace(-LIMIT, LIMIT, 97)
    left = [
        stairs.axes([-2, -1, 0, 1, 2], [-2, -1, 0, 1, 2]),
        stairs.line("diagonal", line, line, FAINT),
        stairs.line("curve", line, response(line, method=method, steps=1), CURVE),
        stairs.line("stairs", *staircase(x), STAIRS),
        stairs.dot(start, 0.0),
    ]
    right = [
        by_step.axes([0, steps // 2, steps], [-2, -1, 0, 1, 2]),
        *(
            by_step.line(
                f"goal{y}", [0, steps], [y, y], FAINT | {"stroke-dasharray": "2 4"}
            )
            for y in (1, -1)
        ),
        by_step.line("path", range(len(x)), x, STAIRS, dots=True),
    ]
    return element(
        "iterates",
        {
            "stairs": (stairs, stairs.svg(*left)),
            "steps": (by_step, by_step.svg(*right)),
        },
        {
            "start": start,
            "steps": steps,
            "far": FAR,
            "method": method,
            "methods": POLYNOMIAL_NAMES,
            "polynomials": POLYNOMIALS,
        },
        key={"p(x)": CURVE, "x, p(x), p(p(x)) ..": STAIRS},
        alt=alt,
    )


def staircase(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the stairs between a curve y = p(x) and the diagonal, from (x₀, 0) by
    (x₀, x₁), (x₁, x₁), (x₁, x₂) ..

    >>> across, up = staircase(np.array([0.5, 0.7, 0.9]))
    >>> list(zip(across.tolist(), up.tolist(), strict=True))
    [(0.5, 0.0), (0.5, 0.7), (0.7, 0.7), (0.7, 0.9)]
    """
    across = np.repeat(x[:-1], 2)
    return across, np.concatenate([[0.0], np.repeat(x[1:], 2)[:-1]])


# ---- how they are drawn


@dataclass(frozen=True)
class Panel:
    """A plot of x and y in these ranges, in an SVG of its own units. What lies outside of
    the ranges is cut off."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_name: str
    y_name: str
    size: tuple[int, int] = (360, 340)
    box: tuple[int, int, int, int] = (46, 10, 12, 40)  # room: left, top, right, bottom

    def across(self, x: float) -> float:
        left, _, right, _ = self.box
        share = (x - self.x[0]) / (self.x[1] - self.x[0])
        return left + share * (self.size[0] - left - right)

    def down(self, y: float) -> float:
        _, top, _, bottom = self.box
        share = (self.y[1] - y) / (self.y[1] - self.y[0])
        return top + share * (self.size[1] - top - bottom)

    def points(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        pairs = zip(xs, ys, strict=True)
        return " ".join(f"{self.across(x):.1f},{self.down(y):.1f}" for x, y in pairs)

    def line(
        self,
        name: str,
        xs: Iterable[float],
        ys: Iterable[float],
        style: Style,
        *,
        dots: bool = False,
    ) -> str:
        """A line that the script finds by its name; with dots at its points."""
        points = self.points(xs, ys)
        drawn = (
            f'<polyline data-line="{name}" points="{points}" fill="none" '
            f'stroke-linejoin="round" {attributes(style)}/>'
        )
        if dots:
            d = "".join(f"M{point}h0" for point in points.split())
            drawn += (
                f'<path data-dots="{name}" d="{d}" fill="none" stroke-linecap="round" '
                f'stroke="{style["stroke"]}" stroke-width="5"/>'
            )
        return drawn

    def bar(self, name: str, i: int, height: float, style: Style) -> str:
        """A bar over index i that the script finds by its name."""
        corners = ((0.2, 0.0), (0.2, height), (0.8, height), (0.8, 0.0))
        points = self.points(*zip(*((i + x, y) for x, y in corners), strict=True))
        return (
            f'<polygon data-line="{name}" points="{points}" stroke-width="2" '
            f"{attributes(style)}/>"
        )

    def dot(self, x: float, y: float) -> str:
        """The point that is dragged."""
        return (
            f'<circle cx="{self.across(x):.1f}" cy="{self.down(y):.1f}" r="8" '
            f'fill="{GRIP["stroke"]}"/>'
        )

    def axes(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        """Lines and numbers at these values, the axes at 0 stronger, and the names."""
        left, top, right, bottom = self.box
        width, height = self.size
        made = []
        for x in xs:
            at = self.across(x)
            made.append(rule_at(x, f"M{at:.1f} {top}V{height - bottom}"))
            made.append(label(signed(x), at, height - bottom + 17))
        for y in ys:
            at = self.down(y)
            made.append(rule_at(y, f"M{left} {at:.1f}H{width - right}"))
            made.append(label(signed(y), left - 7, at + 4, anchor="end"))
        middle = (top + height - bottom) / 2
        made.append(label(self.x_name, (left + width - right) / 2, height - 6))
        turned = f'transform="rotate(-90 14 {middle:g})"'
        made.append(label(self.y_name, 14, middle, turned))
        return "".join(made)

    def svg(self, axes: str, *inside: str) -> str:
        """The panel, with what is inside of the axes cut off at its edges."""
        left, top, right, bottom = self.box
        width, height = self.size
        inner = f"{left} {top} {width - left - right} {height - top - bottom}"
        x, y, w, h = inner.split()
        return (
            f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'style="max-width:100%;height:auto" aria-hidden="true">{axes}'
            f'<svg x="{x}" y="{y}" width="{w}" height="{h}" viewBox="{inner}">'
            f"{''.join(inside)}</svg></svg>"
        )


def rule_at(value: float, d: str) -> str:
    """A line of the grid, stronger at 0."""
    return f'<path d="{d}" stroke="{INK}" stroke-opacity="{0.3 if value else 0.9}"/>'


def label(
    text: str, x: float, y: float, turned: str = "", *, anchor: str = "middle"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}" '
        f'font-size="13" {turned}>{text}</text>'
    )


def signed(value: float) -> str:
    """A number of an axis, with a minus sign as long as a plus."""
    return f"{value:g}".replace("-", "−")


def attributes(style: Style) -> str:
    return " ".join(f'{name}="{value}"' for name, value in style.items())


def element(
    kind: str,
    panels: Mapping[str, tuple[Panel, str]],
    data: Mapping[str, Any],
    *,
    key: Mapping[str, Style],
    alt: str,
) -> str:
    """The element of a kind of picture that drag.js knows: panels side by side, the key of
    their lines, and its data."""
    stages = "".join(
        f'<div class="stage" data-panel="{name}">{svg}</div>'
        for name, (_, svg) in panels.items()
    )
    boxes = {
        name: {"x": panel.x, "y": panel.y, "size": panel.size, "box": panel.box}
        for name, (panel, _) in panels.items()
    }
    opening = f'class="lrd-drag" data-kind="{kind}"'
    return shell(opening, stages, {"panels": boxes, **data}, key=key, alt=alt)


def shell(
    opening: str,
    panels: str,
    data: Mapping[str, Any],
    *,
    key: Mapping[str, Style],
    alt: str,
) -> str:
    """What a dragged picture leaves for its script: an element with these attributes, its
    panels, the key of their lines, room for controls and words, and the data.

    Raises ValueError unless alt says something.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt must say what the picture shows, got {shown(alt)}")
    names = "".join(
        f'<span><svg width="30" height="10" aria-hidden="true"><path d="M0 5H30" '
        f"{attributes(style)}/></svg> {html.escape(name)}</span> "
        for name, style in key.items()
    )
    text = json.dumps(data, separators=(",", ":"))
    return (
        f'<div {opening} role="group" aria-label="{html.escape(alt)}">'
        f'<div class="panels">{panels}</div><div class="lrd-key">{names}</div>'
        '<div class="controls"></div><p class="said"></p>'
        f'<script type="application/json">{text}</script></div>'
    )


def check_values(
    name: str,
    values: object,
    *,
    at_least: float = 0,
    at_most: float | None = None,
    count: int | None = None,
) -> None:
    """Raise TypeError or ValueError unless `values` are numbers from at_least to at_most, at
    least one, or `count` of them if given."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise TypeError(f"{name} must be a list of numbers, got {shown(values)}")
    if len(values) != (count or max(len(values), 1)):
        raise ValueError(f"{name} must hold {count or 'some'} numbers, got {shown(values)}")
    for i, value in enumerate(values):
        check_real(f"{name}[{i}]", value, at_least=at_least, at_most=at_most)
