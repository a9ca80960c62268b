"""One clear error for a bad argument, raised before anything is changed.

Every message names the argument, the value it had and what was expected.
"""

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

# the dtypes that torch can calculate with; float8 and smaller only store numbers
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def shown(value: object, width: int = 100) -> str:
    """`value` as a message shows it: its repr on one line of at most `width` characters.

    A huge integer is told by its length, and what has no repr by its type: Python refuses
    to print integers of more than 4300 digits.

    >>> shown("lrd"), shown(10**5000), shown([10**5000])
    ("'lrd'", 'an integer of about 5001 digits', 'a list')
    """
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of about {int(value.bit_length() * math.log10(2)) + 1} digits"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever the repr of a foreign object does
        return f"a {type(value).__name__}"
    return text if len(text) <= width else f"{text[: width - 4]} ..."


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raise ValueError unless `value` is one of `choices`.

    >>> check_choice("mode", "coupled", ("decoupled", "independent"))
    Traceback (most recent call last):
    ...
    ValueError: mode must be one of 'decoupled', 'independent', got 'coupled'
    """
    # of one type first: an array compares with a word entry by entry
    if not any(isinstance(value, type(known)) and value == known for known in choices):
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, got {shown(value)}"
        )


def check_real(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> None:
    """Raise TypeError unless `value` is a real number, ValueError unless it is finite as a
    float and within the bounds.

    >>> check_real("fraction", 1.5, above=0, below=1)
    Traceback (most recent call last):
    ...
    ValueError: fraction must be a finite number > 0 and < 1, got 1.5
    """
    bounds = [
        f"{sign} {bound}"
        for sign, bound in ((">", above), (">=", at_least), ("<", below), ("<=", at_most))
        if bound is not None
    ]
    expected = " ".join(["a finite number", " and ".join(bounds)]).strip()
    if isinstance(value, bool) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"{name} must be {expected}, got {shown(value)}")
    # a float16 would be compared with a bound as float16
    x = value.item() if isinstance(value, np.generic) else value
    inside = (
        (above is None or x > above)
        and (at_least is None or x >= at_least)
        and (below is None or x < below)
        and (at_most is None or x <= at_most)
    )
    try:
        finite = math.isfinite(x)
    except OverflowError:  # an integer beyond the largest float
        finite = False
    if not (finite and inside):
        raise ValueError(f"{name} must be {expected}, got {shown(value)}")


def check_integer(
    name: str, value: object, *, at_least: int = 1, at_most: int | None = None
) -> None:
    """Raise TypeError unless `value` is an int, ValueError unless it is within the bounds.

    >>> check_integer("steps", 0)
    Traceback (most recent call last):
    ...
    ValueError: steps must be an integer >= 1, got 0
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer >= {at_least}, got {shown(value)}")
    if value < at_least:
        raise ValueError(
            f"{name} must be an integer >= {at_least}, got {shown(int(value))}"
        )
    if at_most is not None and value > at_most:
        raise ValueError(f"{name} must be an integer <= {at_most}, got {shown(int(value))}")


def check_bool(name: str, value: object) -> None:
    """Raise TypeError unless `value` is True or False; 1 and numpy's booleans are not.

    >>> check_bool("gains", 1)
    Traceback (most recent call last):
    ...
    TypeError: gains must be True or False, got 1
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")


def check_instance(name: str, value: object, kind: type) -> None:
    """Raise TypeError unless `value` is of the type `kind`.

    >>> check_instance("generator", None, torch.Generator)
    Traceback (most recent call last):
    ...
    TypeError: generator must be of type Generator, got NoneType
    """
    if not isinstance(value, kind):
        raise TypeError(
            f"{name} must be of type {kind.__name__}, got {type(value).__name__}"
        )


def check_callable(name: str, value: object) -> None:
    """Raise TypeError unless `value` can be called.

    >>> check_callable("f", 3)
    Traceback (most recent call last):
    ...
    TypeError: f must be a function, got int
    """
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {type(value).__name__}")


def check_bytes(given: str, asked: str, size: int, at_most: int) -> None:
    """Raise ValueError if `size` bytes are more than `at_most`, before anyone asks the
    machine for them.

    given: the arguments and their values; asked: what they ask for.

    >>> check_bytes("p = 30000", "a table of 900,000,000 pairs", 36 * 10**9, 10**9)
    Traceback (most recent call last):
    ...
    ValueError: p = 30000 asks for a table of 900,000,000 pairs, 36.0 GB; at most 1.0 GB
    """
    if size > at_most:
        raise ValueError(
            f"{given} asks for {asked}, {gigabytes(size)}; at most {gigabytes(at_most)}"
        )


def gigabytes(size: int) -> str:
    """`size` bytes in words.

    >>> gigabytes(2**30), gigabytes(10**400)
    ('1.1 GB', 'about 10^391 GB')
    """
    if size < 10**18:
        return f"{size / 1e9:,.1f} GB"
    return f"about 10^{math.log10(size) - 9:.0f} GB"


def amount(n: int) -> str:
    """A count in words: with separators, or as a power of ten.

    >>> amount(30000**2), amount(10**400)
    ('900,000,000', 'about 10^400')
    """
    return f"{n:,}" if n < 10**18 else f"about 10^{math.log10(n):.0f}"


def check_dense(name: str, x: Any) -> None:
    """Raise TypeError unless `x` is a dense tensor that holds data, of whatever dtype.

    >>> check_dense("keys", torch.ones(2, device="meta"))
    Traceback (most recent call last):
    ...
    TypeError: keys must hold data, got a tensor on the device meta
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if x.layout != torch.strided or x.is_nested:
        layout = "nested" if x.is_nested else x.layout
        raise TypeError(f"{name} must be a dense tensor, got layout {layout}")
    if x.is_meta:
        raise TypeError(f"{name} must hold data, got a tensor on the device meta")


def check_float(name: str, x: Any) -> None:
    """Raise TypeError unless `x` is a dense tensor, with data, of a dtype in FLOATS.

    >>> check_float("W", torch.ones(2, dtype=torch.float8_e5m2))
    Traceback (most recent call last):
    ...
    TypeError: W must be a floating-point tensor of 16, 32 or 64 bits, got dtype torch.float8_e5m2
    """
    check_dense(name, x)
    if x.dtype not in FLOATS:
        raise TypeError(
            f"{name} must be a floating-point tensor of 16, 32 or 64 bits, got dtype "
            f"{x.dtype}"
        )


def check_reals(name: str, x: Any) -> None:
    """Raise unless `x` is a dense tensor of finite real numbers >= 0, whole or not.

    >>> check_reals("threshold", torch.tensor([1, -2]))
    Traceback (most recent call last):
    ...
    ValueError: threshold must be >= 0, got a tensor with minimum -2
    """
    check_dense(name, x)
    if x.dtype not in FLOATS + INTEGERS:
        raise TypeError(f"{name} must hold real numbers, got dtype {x.dtype}")
    check_finite(name, x)
    if bool((x < 0).any()):
        raise ValueError(f"{name} must be >= 0, got a tensor with minimum {x.min().item()}")


def check_rows(name: str, x: Any) -> None:
    """Raise unless `x` is a dense int64 tensor.

    >>> check_rows("tokens", torch.ones(2))
    Traceback (most recent call last):
    ...
    TypeError: tokens must be an int64 tensor, got dtype torch.float32
    """
    check_dense(name, x)
    if x.dtype != torch.int64:
        raise TypeError(f"{name} must be an int64 tensor, got dtype {x.dtype}")


def check_matrix(name: str, W: Any) -> None:
    """Raise unless `W` is a dense floating-point tensor of shape (..., m, n), m, n >= 1,
    without NaN or inf.

    >>> check_matrix("W", torch.ones(3))
    Traceback (most recent call last):
    ...
    ValueError: W must be a matrix or a stack of matrices (..., m, n), got shape (3,)
    """
    check_float(name, W)
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
