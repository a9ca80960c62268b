"""One clear error for a bad argument, raised before anything is changed.

Every message names the argument, the value it had and what was expected.
"""

import math
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raise ValueError unless `value` is one of `choices`.

    >>> check_choice("mode", "coupled", ("decoupled", "independent"))
    Traceback (most recent call last):
    ...
    ValueError: mode must be one of 'decoupled', 'independent', got 'coupled'
    """
    try:
        known = value in choices
    except TypeError:  # an unhashable value is in no set
        known = False
    if not known:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}"
        )


def check_real(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
) -> None:
    """Raise TypeError unless `value` is a real number, ValueError unless it is finite and
    within the bounds.

    >>> check_real("fraction", 1.5, above=0, below=1)
    Traceback (most recent call last):
    ...
    ValueError: fraction must be a finite number > 0 and < 1, got 1.5
    """
    bounds = [
        f"{sign} {bound}"
        for sign, bound in ((">", above), (">=", at_least), ("<", below))
        if bound is not None
    ]
    expected = " ".join(["a finite number", " and ".join(bounds)]).strip()
    if isinstance(value, bool) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    inside = (above is None or value > above) and (at_least is None or value >= at_least)
    if not (math.isfinite(value) and inside and (below is None or value < below)):
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def check_integer(name: str, value: object, *, at_least: int = 1) -> None:
    """Raise TypeError unless `value` is an int, ValueError unless it is at least
    `at_least`.

    >>> check_integer("steps", 0)
    Traceback (most recent call last):
    ...
    ValueError: steps must be an integer >= 1, got 0
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer >= {at_least}, got {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be an integer >= {at_least}, got {value}")


def check_bool(name: str, value: object) -> None:
    """Raise TypeError unless `value` is True or False; 1 and numpy's booleans are not.

    >>> check_bool("gains", 1)
    Traceback (most recent call last):
    ...
    TypeError: gains must be True or False, got 1
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_matrix(name: str, W: object) -> None:
    """Raise unless `W` is a dense floating-point tensor of shape (..., m, n), m, n >= 1,
    without NaN or inf.

    >>> check_matrix("W", torch.ones(3))
    Traceback (most recent call last):
    ...
    ValueError: W must be a matrix or a stack of matrices (..., m, n), got shape (3,)
    """
    if not isinstance(W, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(W).__name__}")
    if W.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {W.layout}")
    if not W.dtype.is_floating_point:
        raise TypeError(f"{name} must be a floating-point tensor, got dtype {W.dtype}")
    if W.ndim < 2 or 0 in W.shape[-2:]:
        raise ValueError(
            f"{name} must be a matrix or a stack of matrices (..., m, n), got shape "
            f"{tuple(W.shape)}"
        )
    check_finite(name, W)


def check_finite(name: str, x: Tensor) -> None:
    """Raise ValueError if `x` holds a NaN or an infinity.

    >>> check_finite("W", torch.tensor([[1.0, float("nan")]]))
    Traceback (most recent call last):
    ...
    ValueError: W must be finite, got 1 NaN and 0 infinite of 2 entries
    """
    if not bool(torch.isfinite(x).all()):
        nan, inf = int(torch.isnan(x).sum()), int(torch.isinf(x).sum())
        raise ValueError(
            f"{name} must be finite, got {nan} NaN and {inf} infinite of {x.numel()} "
            "entries"
        )
