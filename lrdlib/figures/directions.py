"""Pictures of directions that are dragged: the arrows of a gradient and of a decay at a
weight vector, the two parts of a low-rank step, the wells that low-rank decay digs into a
loss, and the corners of a unit ball.

They are drawn as those of `drag`, whose script moves them. The loss of the first and third
is made for them: one hollow on the circle of directions.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from lrdlib._check import check_choice, check_integer, check_real
from lrdlib.decay import PARTS, Part, low_rank_decay_
from lrdlib.figures.canvas import PALETTE, RULE_COLOURS
from lrdlib.figures.drag import (
    FAINT,
    GRIP,
    STRENGTHS,
    Panel,
    Style,
    check_values,
    element,
)

WHOLE: Part = "both"  # the part of a step that is all of it
PART_NAMES = {WHOLE: "whole", "radial": "radial", "tangential": "tangential"}
HOLDS = {"free": "norm free", "held": "norm held"}
TASK = {"stroke": PALETTE[4], "stroke-width": "2.5"}  # what the loss does
L2 = {"stroke": RULE_COLOURS["l2"], "stroke-width": "4"}
LRD = {"stroke": RULE_COLOURS["lrd"], "stroke-width": "4"}
SUM = {"stroke": PALETTE[2], "stroke-width": "2.5"}
DASHED = {"stroke-dasharray": "6 5"}
DOTTED = FAINT | {"stroke-dasharray": "2 4"}
PATH = GRIP | {"stroke-width": "2"}
NORM = {"stroke": PALETTE[4], "stroke-width": "2.5"}
BY_STEP = {"norm": NORM, "ratio": NORM | DASHED}
# the radial part of any rule is L2's
PART_STYLES: dict[Part, Style] = {WHOLE: LRD, "radial": L2, "tangential": SUM}

WIDE, NARROW = 1.5, 8.0  # how sharp the hollow is in `arrows` and in `wells`
WIDE_AT, NARROW_AT = 60, 30  # where it is, in degrees
RING = 24  # arrows around the circle
DRAWN = 0.45  # the length at which a gradient of 1, or a decay, is drawn
DECAYS = (0.0, 2.0)  # the lambdas of `arrows`
LENGTHS = (0.3, 1.3)  # of its weight vector
PRESSURES = (0.0, 4.0)  # the lambda rho^2 of `wells`
ARC = (-30, 120)  # its directions, in degrees
HALF = 0.5  # the share of its length at which an arrow of `parts` is drawn
HEIGHT = 0.5  # of the potential over the arc, per unit
REACH = 2.1  # of the axes of `corners`
TURN = np.linspace(0, 360, 97)


# ---- arithmetic, which drag.js does again


def hollow(
    degrees: np.ndarray | float, *, at: float, sharp: float
) -> tuple[np.ndarray, np.ndarray]:
    """L = 1 - exp(sharp (cos(x - at) - 1)), a loss of the direction alone, and its slope per
    radian. 0 at `at`, nearly 1 far from it.

    >>> loss, slope = hollow(30.0, at=30, sharp=8.0)
    >>> float(loss), float(slope)
    (0.0, 0.0)
    """
    x = np.deg2rad(np.asarray(degrees, dtype=float) - at)
    depth = np.exp(sharp * (np.cos(x) - 1))
    return 1 - depth, sharp * np.sin(x) * depth


def potential(degrees: np.ndarray | float, pressure: float) -> np.ndarray:
    """L + pressure (|Theta|_* - 1) / sqrt 2 at Theta = diag(cos x, sin x), with the narrow
    hollow: what low-rank decay with the adaptive scale goes down on while the rank is two, at
    pressure = lambda rho^2. The 1 puts matrices of rank one at L.

    >>> float(potential(30.0, 0.0)), round(float(potential(45.0, 1.0) - potential(45.0, 0.0)), 3)
    (0.0, 0.293)
    """
    x = np.deg2rad(np.asarray(degrees, dtype=float))
    pull = (np.abs(np.cos(x)) + np.abs(np.sin(x)) - 1) / math.sqrt(2)
    return hollow(degrees, at=NARROW_AT, sharp=NARROW)[0] + pressure * pull


def settled(degrees: int, pressure: float) -> int:
    """Where a point ends that goes down the potential from whole degree to whole degree:
    the foot of its slope, within ARC.

    Raises ValueError or TypeError unless degrees is an integer of ARC, and as check_real.

    >>> settled(48, 0.0), settled(48, 4.0), settled(80, 4.0)
    (30, 0, 90)
    """
    check_integer("degrees", degrees, at_least=ARC[0])
    check_real("degrees", degrees, at_least=ARC[0], at_most=ARC[1])
    check_real("pressure", pressure, at_least=0)
    here = int(degrees)
    while True:
        near = [x for x in (here - 1, here, here + 1) if ARC[0] <= x <= ARC[1]]
        lowest = min(near, key=lambda x: (float(potential(x, pressure)), x))
        if lowest == here:
            return here
        here = lowest


def parted(
    part: Part, values: Sequence[float], *, t: float, steps: int, held: bool
) -> np.ndarray:
    """What steps along one part of low-rank decay make of W = diag(values): the diagonal
    after 0, 1 .. steps of them, (steps + 1, n). With the exact polar factor and the
    adaptive scale.

    part: "both", "radial" or "tangential"; t: the strength of a step; held: after each step
    W is put back to its first Frobenius norm. Raises ValueError or TypeError for an unknown
    part, values that are not numbers >= 0, and as check_real and check_integer.

    >>> parted("radial", [3.0, 1.0], t=0.5, steps=1, held=False).round(3).tolist()
    [[3.0, 1.0], [1.658, 0.553]]
    """
    check_choice("part", part, tuple(PARTS))
    check_values("values", values)
    check_real("t", t, at_least=0)
    check_integer("steps", steps, at_least=0)
    W = torch.diag(torch.tensor([float(v) for v in values], dtype=torch.float64))
    norm, path = W.norm(), [W.diagonal().clone()]
    for _ in range(steps):
        low_rank_decay_(W, weight_decay=t, method="svd", part=part)
        if held and W.any():
            W *= norm / W.norm()
        path.append(W.diagonal().clone())
    return torch.stack(path).numpy()


def nearest(x: float, y: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """The nearest point to (x, y) of the disc |x|^2 + |y|^2 <= 1, and of the square
    |x| + |y| <= 1.

    >>> nearest(2.0, 0.5)[1], nearest(0.5, 0.25)
    ((1.0, 0.0), ((0.5, 0.25), (0.5, 0.25)))
    """
    length = max(math.hypot(x, y), 1.0)
    # so that what is left has the sum 1: of both, or of the larger alone
    shift = max(0.0, (abs(x) + abs(y) - 1) / 2, max(abs(x), abs(y)) - 1)
    square = (math.copysign(max(abs(v) - shift, 0.0), v) for v in (x, y))
    return (x / length, y / length), (next(square), next(square))


def arrow(x: float, y: float, dx: float, dy: float) -> tuple[list[float], list[float]]:
    """The corners of an arrow from (x, y) to (x + dx, y + dy), drawn in one line: shaft,
    and two barbs."""
    barb = min(0.35, 0.07 / max(math.hypot(dx, dy), 1e-9))  # as a share of the length
    tip = (x + dx, y + dy)
    left, right = (
        (tip[0] - barb * (dx - side * dy), tip[1] - barb * (dy + side * dx))
        for side in (0.6, -0.6)
    )
    xs, ys = zip((x, y), tip, left, tip, right, strict=True)
    return list(xs), list(ys)


def circle(degrees: Any, radius: Any) -> tuple[np.ndarray, np.ndarray]:
    """The places at these angles and this distance from the origin: x and y."""
    x = np.deg2rad(np.asarray(degrees, dtype=float))
    return radius * np.cos(x), radius * np.sin(x)


# ---- the pictures


def arrows(
    *, length: float = 0.8, direction: int = -10, decay: float = 1.0, alt: str
) -> str:
    """The element in which a weight vector of two weights is dragged. Left its plane: the
    negative gradient of a scale-invariant loss at W and around the circle of its length,
    the decay -lambda W, and the direction Theta on the dotted unit circle. Right the loss
    over the direction, which is all that the function sees. A slider sets lambda.

    length, direction: where it begins, within LENGTHS and from -180 to 180 degrees; decay:
    lambda at first, within DECAYS. alt: as of `drag.plane`. Raises ValueError or TypeError
    for other values.
    """
    check_real("length", length, at_least=LENGTHS[0], at_most=LENGTHS[1])
    check_integer("direction", direction, at_least=-180)
    check_real("direction", direction, at_least=-180, at_most=180)
    check_real("decay", decay, at_least=DECAYS[0], at_most=DECAYS[1])
    there = Panel((-1.56, 1.56), (-1.5, 1.5), "first weight", "second weight")
    seen = Panel((-180, 180), (-0.1, 1.1), "direction of W (°)", "loss")
    loss = partial(hollow, at=WIDE_AT, sharp=WIDE)
    (x,), (y,) = circle([direction], length)

    def gradient(degrees: float) -> tuple[list[float], list[float]]:
        """The arrow of the negative gradient at this length."""
        (e,), (f,) = circle([degrees], 1.0)
        across = -DRAWN * float(loss(degrees)[1]) / length
        return arrow(length * e, length * f, -across * f, across * e)

    faint = TASK | {"stroke-width": "1.5", "stroke-opacity": "0.7"}
    left = [
        there.line("unit", *circle(TURN, 1.0), DOTTED),
        there.line("circle", *circle(TURN, length), FAINT),
        there.line("ray", *circle([0, direction], np.array([0, 2])), DOTTED),
        *(there.line(f"ring-{i}", *gradient(360 * i / RING), faint) for i in range(RING)),
        there.line("decay", *arrow(x, y, -DRAWN * decay * x, -DRAWN * decay * y), L2),
        there.line("gradient", *gradient(direction), TASK | {"stroke-width": "4"}),
        there.line("theta", *circle([direction], 1.0), GRIP, dots=True),
        there.dot(x, y),
    ]
    line = np.linspace(-180, 180, 121)
    right = [
        seen.line("loss", line, loss(line)[0], TASK),
        seen.line("here", [direction, direction], [-0.1, 1.1], DOTTED),
        seen.dot(direction, float(loss(direction)[0])),
    ]
    return element(
        "arrows",
        {
            "weights": (there, there.svg(there.axes([-1, 0, 1], [-1, 0, 1]), *left)),
            "seen": (
                seen,
                seen.svg(seen.axes([-180, -90, 0, 90, 180], [0, 0.5, 1]), *right),
            ),
        },
        {
            "length": length,
            "direction": direction,
            "decay": decay,
            "decays": DECAYS,
            "lengths": LENGTHS,
            "ring": RING,
            "drawn": DRAWN,
            "hollow": {"at": WIDE_AT, "sharp": WIDE},
        },
        key={"minus the gradient": TASK, "decay, −λW": L2, "unit circle": DOTTED},
        alt=alt,
    )


def parts(
    *,
    start: tuple[float, float] = (0.85, 0.35),
    t: float = 0.03,
    steps: int = 60,
    part: Part = WHOLE,
    alt: str,
) -> str:
    """The element in which W = diag(σ₁, σ₂) is dragged, with the arrows of a low-rank step
    and of its radial and tangential part at half their length, and the path of the part
    that buttons choose; right the norm by step, as a share of the first, and σ₂ / σ₁. A
    second pair of buttons holds the norm, a slider sets t.

    start: where it begins, both from 0 to 1; t: the strength at first, within STRENGTHS.
    alt: as of `drag.plane`. Raises ValueError or TypeError for other values, and as
    `parted`.
    """
    check_values("start", start, at_most=1.0, count=2)
    check_real("t", t, at_least=STRENGTHS[0], at_most=STRENGTHS[1])
    check_integer("steps", steps)
    there = Panel((-0.15, 1.15), (-0.15, 1.1), "σ₁", "σ₂")
    by_step = Panel((0, steps), (-0.1, 1.35), "step", "share")
    path = parted(part, start, t=t, steps=steps, held=False)
    taken = {
        p: HALF * (parted(p, start, t=1.0, steps=1, held=False)[1] - start)
        for p in PART_STYLES
    }
    left = [
        there.line("sphere", *circle(TURN, math.hypot(*start)), DOTTED),
        there.line("path", path[:, 0], path[:, 1], PATH),
        *(
            there.line(p, *arrow(*start, *taken[p]), PART_STYLES[p] | {"stroke-width": "4"})
            for p in PART_STYLES
        ),
        there.dot(*start),
    ]
    right = [
        by_step.line(name, range(steps + 1), values, style)
        for name, values, style in zip(BY_STEP, shares(path), BY_STEP.values(), strict=True)
    ]
    halves = [0, 0.5, 1]
    return element(
        "parts",
        {
            "plane": (there, there.svg(there.axes(halves, halves), *left)),
            "steps": (
                by_step,
                by_step.svg(by_step.axes([0, steps // 2, steps], halves), *right),
            ),
        },
        {
            "start": list(start),
            "t": t,
            "steps": steps,
            "strengths": STRENGTHS,
            "part": part,
            "parts": PART_NAMES,
            "holds": HOLDS,
            "half": HALF,
        },
        key={
            **{PART_NAMES[p]: style for p, style in PART_STYLES.items()},
            "path of what is taken": PATH,
            "norm, as a share of the first": NORM,
            "σ₂ / σ₁": BY_STEP["ratio"],
        },
        alt=alt,
    )


def shares(path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Along a path of two singular values: the norm over the first norm, and the smaller
    over the larger; 0 where the norm is."""
    norm, size = np.linalg.norm(path, axis=1), np.abs(path)
    first, largest = norm[0] or 1.0, size.max(1)
    ratio = np.divide(size.min(1), largest, out=np.zeros(len(path)), where=largest > 0)
    return norm / first, ratio


def wells(*, start: int = 48, pressure: float = 2.5, alt: str) -> str:
    """The element in which a direction Theta = diag(cos x, sin x) is dragged along its arc,
    over which stands the potential L + lambda rho^2 |Theta|_* / sqrt 2; right the same over
    the angle, with L. Lines lead to where the point comes to rest. A slider sets lambda
    rho^2.

    start: an angle of ARC in whole degrees; pressure: lambda rho^2 at first, within
    PRESSURES. alt: as of `drag.plane`. Raises ValueError or TypeError for other values.
    """
    check_real("pressure", pressure, at_least=PRESSURES[0], at_most=PRESSURES[1])
    end = settled(start, pressure)
    there = Panel((-0.55, 1.95), (-0.7, 1.7), "σ₁", "σ₂")
    over = Panel(ARC, (-0.15, 2.0), "angle of Θ (°)", "potential")
    line = np.arange(ARC[0], ARC[1] + 1)
    way = np.linspace(start, end, 31)

    heights = potential(line, pressure)
    (x,), (y,) = circle([start], 1.0)
    left = [
        there.line("arc", *circle(line, 1.0), FAINT),
        there.line("over", *circle(line, 1.05 + HEIGHT * heights), SUM),
        there.line("slide", *circle(way, 1.0), GRIP | {"stroke-width": "4"}),
        there.dot(x, y),
    ]
    right = [
        over.line("task", line, potential(line, 0.0), TASK | DASHED),
        over.line("sum", line, heights, SUM),
        over.line("descent", way, potential(way, pressure), GRIP | {"stroke-width": "4"}),
        over.dot(start, float(potential(start, pressure))),
    ]
    return element(
        "wells",
        {
            "arc": (there, there.svg(there.axes([0, 1], [0, 1]), *left)),
            "potential": (over, over.svg(over.axes([0, 30, 60, 90], [0, 1, 2]), *right)),
        },
        {
            "start": start,
            "pressure": pressure,
            "pressures": PRESSURES,
            "arc": ARC,
            "height": HEIGHT,
            "hollow": {"at": NARROW_AT, "sharp": NARROW},
        },
        key={"loss": TASK | DASHED, "loss + decay": SUM, "the way down": GRIP},
        alt=alt,
    )


def corners(*, start: tuple[float, float] = (1.7, 0.9), alt: str) -> str:
    """The element in which a place in the plane of two numbers is dragged, with lines to
    the nearest point of the unit disc, and of the square |x| + |y| <= 1. Dotted lines bound
    the places that are nearest to a corner of the square.

    start: where it begins, within REACH. alt: as of `drag.plane`. Raises ValueError or
    TypeError for other values.
    """
    check_values("start", start, at_least=-REACH, at_most=REACH, count=2)
    panel = Panel(
        (-1.04 * REACH, 1.04 * REACH), (-REACH, REACH), "first number", "second number"
    )
    (x0, y0), (disc, square) = start, nearest(*start)
    far = np.array([0, 2 * REACH])
    thin = {"stroke-width": "1.5"}
    inside = []
    for degrees in (45, 135, 225, 315):
        dx, dy = circle([degrees], far)
        for turn in (degrees - 45, degrees + 45):
            x, y = circle([turn], 1.0)
            inside.append(panel.line(f"wedge-{degrees}-{turn}", x + dx, y + dy, DOTTED))
    inside += [
        panel.line("disc", *circle(TURN, 1.0), L2 | thin),
        panel.line("square", *circle(np.arange(0, 361, 90), 1.0), LRD | thin),
        panel.line("to-disc", (x0, disc[0]), (y0, disc[1]), L2, dots=True),
        panel.line("to-square", (x0, square[0]), (y0, square[1]), LRD, dots=True),
        panel.dot(*start),
    ]
    whole = [-2, -1, 0, 1, 2]
    return element(
        "corners",
        {"plane": (panel, panel.svg(panel.axes(whole, whole), *inside))},
        {"start": list(start), "reach": REACH},
        key={
            "to the nearest point of the disc": L2,
            "to that of the square": LRD,
            "edges of what a corner answers": DOTTED,
        },
        alt=alt,
    )
