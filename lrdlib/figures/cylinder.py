"""A symmetric 2 x 2 matrix that is dragged over the unit ball of the nuclear norm, a
cylinder, with the slopes of the norm at it: a needle at rank two, a fan at rank one.

It is drawn as the pictures of `drag`, whose script moves it. The matrix (a b; b c) lies at
x = (a - c) / sqrt 2, y = sqrt 2 b, z = (a + c) / sqrt 2.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from lrdlib._check import check_integer, check_real
from lrdlib.figures.canvas import PALETTE
from lrdlib.figures.directions import DASHED, DOTTED, PATH, arrow, circle
from lrdlib.figures.drag import FAINT, Panel, element

HALF = 1 / math.sqrt(2)  # the cylinder's radius, and half its height
SECONDS = (-1.0, 0.5)  # the lambda_2 of a place on top or on the side
SLOPES = 7  # arrows of a fan
DRAWN = 0.5  # the share of its length at which a slope is drawn
VIEW = {"azimuth": -40, "height": 25}  # where it is seen from, in degrees
SLOPE = {"stroke": PALETTE[1], "stroke-width": "2.5"}
BODY = FAINT | {"stroke-width": "2"}


def meridian(second: float) -> tuple[float, float]:
    """The distance from the axis and the height, rho and z, of the matrix of nuclear norm 1
    with eigenvalues 1 - |second| and second: the way from the middle of the top over the
    rim, at 0, and down the side.

    Raises TypeError or ValueError unless second is a number from -1 to 0.5.

    >>> [round(v, 3) for v in meridian(0.0)], [round(v, 3) for v in meridian(-0.5)]
    ([0.707, 0.707], [0.707, 0.0])
    """
    check_real("second", second, at_least=SECONDS[0], at_most=SECONDS[1])
    first = 1 - abs(second)
    return (first - second) * HALF, (first + second) * HALF


def slopes(second: float) -> np.ndarray:
    """(SLOPES, 2): along rho and z, subgradients of the nuclear norm at that matrix. At
    rank two all are its polar factor; at rank one, second = 0 or -1, they lead from the
    factor on one side of the rim to that of the other. Raises as `meridian`.

    >>> slopes(0.3)[0].round(3).tolist(), slopes(0.0)[[0, -1]].round(3).tolist()
    ([0.0, 1.414], [[0.0, 1.414], [1.414, 0.0]])
    """
    check_real("second", second, at_least=SECONDS[0], at_most=SECONDS[1])
    up, out, down = (math.sqrt(2) * np.array(e) for e in ((0, 1), (1, 0), (0, -1)))
    first, last = (up, up) if second > 0 else (out, out)
    if second == 0:
        first = up
    if second == -1:
        last = down
    share = np.linspace(0, 1, SLOPES)[:, None]
    return (1 - share) * first + share * last


def turned(out: ArrayLike, z: ArrayLike, degrees: float) -> np.ndarray:
    """Places (..., 3) at these distances from the axis and heights, at an angle around it.

    >>> turned([1.0, 2.0], [0.0, 3.0], 90).round(3).tolist()
    [[0.0, 1.0, 0.0], [0.0, 2.0, 3.0]]
    """
    x, y = circle(degrees, np.asarray(out))
    return np.stack(np.broadcast_arrays(x, y, np.asarray(z, dtype=float)), axis=-1)


def seen(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (..., 3) as they are seen from VIEW, without perspective: to the right, and
    up."""
    azimuth, height = (math.radians(v) for v in VIEW.values())
    right = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0])
    toward = np.array([math.cos(azimuth), math.sin(azimuth), 0.0])
    up = -math.sin(height) * toward + np.array([0.0, 0.0, math.cos(height)])
    return places @ right, places @ up


def cylinder(*, second: float = 0.3, degrees: int = -20, alt: str) -> str:
    """The element in which W is dragged over the cylinder. Left the cylinder, seen from
    above and in front; right the half-plane through its axis and W. Both have the slopes at
    W, at half their length. A finger or the mouse that comes near a rim finds it.

    second: lambda_2 of W at first, within SECONDS; degrees: its angle around the axis, from
    -180 to 180. alt: as of `drag.plane`. Raises TypeError or ValueError for other values.
    """
    check_integer("degrees", degrees, at_least=-180, at_most=180)
    out, z = meridian(second)
    fan = DRAWN * slopes(second)
    space = Panel((-1.55, 1.55), (-1.25, 1.727), "", "", box=(29, 10, 29, 40))
    cut = Panel(
        (-0.3, 1.79), (-1.5, 1.5), "distance ϱ from the axis", "height z", (260, 340)
    )

    def path(name: str, places: np.ndarray, style: dict[str, str]) -> str:
        return space.line(name, *seen(places), style)

    def rim(height: float, start: float, end: float) -> np.ndarray:
        line = VIEW["azimuth"] + np.linspace(start, end, 97)
        return np.stack([*circle(line, HALF), np.full(97, height)], axis=-1)

    def shaft(slope: np.ndarray) -> tuple[list[float], list[float]]:
        """An arrow in the picture of space."""
        u, v = seen(turned([out, out + slope[0]], [z, z + slope[1]], degrees))
        return arrow(u[0], v[0], u[1] - u[0], v[1] - v[0])

    (u,), (v,) = seen(turned([out], [z], degrees))
    left = [
        path("axis", turned([0, 0], [-1.25, 1.6], 0), DOTTED),
        path("behind", rim(-HALF, 90, 270), DOTTED),
        path("bottom", rim(-HALF, -90, 90), BODY),
        path("top", rim(HALF, 0, 360), BODY),
        *(
            path(f"wall{side:+d}", rim(0, side, side)[:2] + WALL, BODY)
            for side in (-90, 90)
        ),
        path("way", turned(*WAY, degrees), PATH | DASHED),
        *(space.line(f"seen-{i}", *shaft(slope), SLOPE) for i, slope in enumerate(fan)),
        space.dot(u, v),
    ]
    far = np.array([0, 1.4])
    right = [
        *(cut.line(f"rank-one{s:+d}", far, s * far, DOTTED) for s in (1, -1)),
        cut.line("ball", *WAY, BODY),
        *(
            cut.line(f"slope-{i}", *arrow(out, z, *slope), SLOPE)
            for i, slope in enumerate(fan)
        ),
        cut.dot(out, z),
    ]
    return element(
        "cylinder",
        {
            "space": (space, space.svg(space.axes([], []), *left)),
            "cut": (cut, cut.svg(cut.axes([0, 1], [-1, 0, 1]), *right)),
        },
        {
            "start": [second, degrees],
            "seconds": SECONDS,
            "slopes": SLOPES,
            "drawn": DRAWN,
            "view": VIEW,
        },
        key={
            "slopes at W": SLOPE,
            "unit ball of the nuclear norm": BODY,
            "rank one": DOTTED,
        },
        alt=alt,
    )


WALL = np.array([[0.0, 0.0, HALF], [0.0, 0.0, -HALF]])  # from the middle up and down
WAY = ([0, HALF, HALF, 0], [HALF, HALF, -HALF, -HALF])  # the outline of half a section
