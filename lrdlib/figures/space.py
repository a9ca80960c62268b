"""Symmetric 2 x 2 matrices as points of space, and what stands there: surfaces, arrows,
paths and names, to be turned with the mouse.

The matrix [[a, b], [b, c]] stands at ((a - c) / sqrt 2, sqrt 2 b, (a + c) / sqrt 2), so that
distances are Frobenius norms. A point is an array (3,).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lrdlib._check import check_integer, check_real
from lrdlib.figures.canvas import INK
from lrdlib.figures.draw import numbers

QUIET: dict[str, Any] = {"hoverinfo": "skip", "showlegend": False}
Triangle = tuple[int, int, int]  # indices of its corners


def place(a: float, b: float, c: float) -> np.ndarray:
    """Where the matrix [[a, b], [b, c]] stands. (3,)

    >>> place(1, 0, 1).round(3).tolist()
    [0.0, 0.0, 1.414]
    """
    return np.array([(a - c) / math.sqrt(2), math.sqrt(2) * b, (a + c) / math.sqrt(2)])


def matrix(point: ArrayLike) -> Tensor:
    """The matrix that stands at a point (3,). (2, 2)

    >>> matrix(place(1, 2, 3)).round(decimals=6).tolist()
    [[1.0, 2.0], [2.0, 3.0]]
    """
    x, y, z = (float(value) / math.sqrt(2) for value in np.asarray(point, float))
    return torch.tensor([[z + x, y], [y, z - x]], dtype=torch.float64)


def of_eigen(first: float, second: float, degrees: float = 0.0) -> np.ndarray:
    """Where the matrix with these eigenvalues stands, the first eigenvector at this angle to
    the first axis. (3,)

    >>> np.allclose(of_eigen(1, 0), place(1, 0, 0))
    True
    """
    angle = math.radians(2 * degrees)
    apart, mean = (first - second) / math.sqrt(2), (first + second) / math.sqrt(2)
    return np.array([apart * math.cos(angle), apart * math.sin(angle), mean])


def path(points: Iterable[ArrayLike], colour: str, **style: Any) -> go.Scatter3d:
    """A line through points, broken at those that are not finite; style: goes to plotly."""
    x, y, z = map(numbers, np.array(list(points), float).T)
    line = {"mode": "lines", "line": {"color": colour, "width": 4}}
    return go.Scatter3d(x=x, y=y, z=z, **QUIET | line | style)


def mesh(
    points: Sequence[ArrayLike], triangles: Sequence[Triangle], colour: str, **style: Any
) -> go.Mesh3d:
    """A surface of triangles over points."""
    x, y, z = map(numbers, np.array(points, float).reshape(-1, 3).T)
    i, j, k = np.array(triangles, int).reshape(-1, 3).T.tolist()
    corners = {"x": x, "y": y, "z": z, "i": i, "j": j, "k": k, "color": colour}
    return go.Mesh3d(**corners, **QUIET | {"opacity": 1.0, "flatshading": True} | style)


def turned(
    profile: Sequence[tuple[float, float]], around: int = 32
) -> tuple[list[tuple[float, float, float]], list[Triangle]]:
    """The surface that a profile of (radius, height) sweeps out when it turns about the
    vertical axis: its points, `around` for each of the profile, and its triangles."""
    check_integer("around", around, at_least=3)
    points = [point for r, z in profile for point in circle(r, z, around)[:-1]]
    triangles = []
    for ring in range(len(profile) - 1):
        for n in range(around):
            p, q = ring * around + n, ring * around + (n + 1) % around
            triangles += [(p, q, p + around), (q, q + around, p + around)]
    return points, triangles


def circle(
    radius: float, height: float, around: int = 60
) -> list[tuple[float, float, float]]:
    """Points of a level circle about the vertical axis, the first one again at its end:
    around + 1 of them."""
    angles = np.linspace(0, 2 * np.pi, around + 1)
    return [(radius * math.cos(t), radius * math.sin(t), height) for t in angles]


def arrows(
    start: np.ndarray, ends: Iterable[np.ndarray], colour: str, head: float = 0.14
) -> tuple[go.Scatter3d, go.Mesh3d]:
    """Arrows from one point (3,) to others: shafts as one broken line, heads as one mesh of
    cones, `head` long. Raises ValueError unless head > 0."""
    check_real("head", head, above=0)
    sides = 8
    shafts: list[np.ndarray] = []
    points: list[np.ndarray] = []
    triangles: list[Triangle] = []
    for end in ends:
        along = (end - start) / np.linalg.norm(end - start)
        side = np.cross(along, [0.31, 0.87, 0.38])  # any direction across
        side = side / np.linalg.norm(side)
        neck, other = end - head * along, np.cross(along, side)
        shafts += [*np.linspace(start, neck, 6), np.full(3, np.nan)]
        first = len(points)
        for x, y, _ in circle(0.36 * head, 0.0, sides)[:-1]:
            points.append(neck + x * side + y * other)
        points.append(end)
        triangles += [
            (first + n, first + (n + 1) % sides, first + sides) for n in range(sides)
        ]
    return path(shafts, colour), mesh(points, triangles, colour)


def words(spots: Sequence[tuple[ArrayLike, str]]) -> go.Scatter3d:
    """Names of places, each (point, text)."""
    x, y, z = map(numbers, np.array([spot for spot, _ in spots], float).T)
    text = [name for _, name in spots]
    return go.Scatter3d(x=x, y=y, z=z, mode="text", text=text, **QUIET)


def cross(reach: float) -> go.Scatter3d:
    """The three axes, thin, from -reach to reach."""
    lines = [
        point
        for axis in np.eye(3)
        for point in (*np.linspace(-reach * axis, reach * axis, 25), np.full(3, np.nan))
    ]
    return path(lines, INK, line={"color": INK, "width": 1})


def space(reach: float) -> go.Figure:
    """An empty scene of this reach, its origin in the middle, without perspective. Raises
    ValueError unless reach > 0."""
    check_real("reach", reach, above=0)
    axis = {"range": [-reach, reach], "visible": False}
    camera = {"eye": {"x": 0.6, "y": -0.95, "z": 0.35}}
    scene = {"xaxis": axis, "yaxis": axis, "zaxis": axis, "aspectmode": "cube"}
    scene["camera"] = camera | {"projection": {"type": "orthographic"}}
    return go.Figure().update_layout(
        template="none",
        scene=scene,
        height=460,
        margin={"l": 20, "r": 20, "t": 0, "b": 0},
        paper_bgcolor="rgba(0,0,0,0)",
        font={"size": 14, "color": INK},
        legend={"orientation": "h"},
    )
