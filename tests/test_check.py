"""Each check lets the good through in silence, and says the name, the value and the
expectation of the bad."""

import re

import pytest
import torch

from lrdlib._check import (
    check_choice,
    check_finite,
    check_integer,
    check_matrix,
    check_real,
)

NAN, INF = float("nan"), float("inf")


def raises(error: type[Exception], message: str):
    return pytest.raises(error, match="^" + re.escape(message) + "$")


def test_choice():
    check_choice("mode", "a", ("a", "b"))
    check_choice("mode", "b", {"a": 1, "b": 2})
    check_choice("gains", True, (True, False))
    with raises(ValueError, "mode must be one of 'a', 'b', got 'c'"):
        check_choice("mode", "c", ("a", "b"))
    with raises(ValueError, "mode must be one of 'a', 'b', got ['a']"):
        check_choice("mode", ["a"], {"a": 1, "b": 2})  # unhashable


@pytest.mark.parametrize("value", [0, 0.0, 1, 2.5, 1e308])
def test_a_real_number_within_the_bounds(value):
    check_real("x", value)
    check_real("x", value, at_least=0)
    check_real("x", value, above=-1, below=INF)


@pytest.mark.parametrize("value", ["1", None, True, False, 1j, [1.0], torch.tensor(1.0)])
def test_what_is_not_a_real_number(value):
    with raises(TypeError, f"x must be a finite number > 0, got {value!r}"):
        check_real("x", value, above=0)


@pytest.mark.parametrize(
    ("value", "bounds", "expected"),
    [
        (NAN, {}, "a finite number"),
        (INF, {}, "a finite number"),
        (-INF, {"at_least": 0}, "a finite number >= 0"),
        (INF, {"above": 0}, "a finite number > 0"),
        (0, {"above": 0}, "a finite number > 0"),
        (-1e-300, {"at_least": 0}, "a finite number >= 0"),
        (1, {"below": 1}, "a finite number < 1"),
        (1.0, {"above": 0, "below": 1}, "a finite number > 0 and < 1"),
        (-0.1, {"at_least": 0, "below": 1}, "a finite number >= 0 and < 1"),
    ],
)
def test_a_real_number_out_of_bounds(value, bounds, expected):
    with raises(ValueError, f"x must be {expected}, got {value!r}"):
        check_real("x", value, **bounds)


def test_integer():
    check_integer("n", 1)
    check_integer("n", 0, at_least=0)
    check_integer("n", 10**30)
    for value in (1.0, True, "1", None, torch.tensor(1)):
        with raises(TypeError, f"n must be an integer >= 1, got {value!r}"):
            check_integer("n", value)
    for value in (0, -5):
        with raises(ValueError, f"n must be an integer >= 1, got {value}"):
            check_integer("n", value)
    with raises(ValueError, "n must be an integer >= 3, got 2"):
        check_integer("n", 2, at_least=3)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (4, 3, 2), (0, 3, 2)])
def test_matrix(dtype, shape):
    check_matrix("W", torch.zeros(shape, dtype=dtype))
    check_matrix("W", torch.nn.Parameter(torch.zeros(shape, dtype=dtype)))


@pytest.mark.parametrize(
    ("W", "error", "message"),
    [
        ([[1.0]], TypeError, "W must be a torch.Tensor, got list"),
        (
            torch.ones(2, 2).to_sparse(),
            TypeError,
            "W must be a dense tensor, got layout torch.sparse_coo",
        ),
        (
            torch.ones(2, 2, dtype=torch.int64),
            TypeError,
            "W must be a floating-point tensor of 16, 32 or 64 bits, got dtype torch.int64",
        ),
        (
            torch.ones(2, 2).bool(),
            TypeError,
            "W must be a floating-point tensor of 16, 32 or 64 bits, got dtype torch.bool",
        ),
        (
            torch.ones(2, 2).cfloat(),
            TypeError,
            "W must be a floating-point tensor of 16, 32 or 64 bits, got dtype torch.complex64",
        ),
        (
            torch.ones(()),
            ValueError,
            "W must be a matrix or a stack of matrices (..., m, n), got shape ()",
        ),
        (
            torch.ones(2),
            ValueError,
            "W must be a matrix or a stack of matrices (..., m, n), got shape (2,)",
        ),
        (
            torch.ones(0, 2),
            ValueError,
            "W must be a matrix or a stack of matrices (..., m, n), got shape (0, 2)",
        ),
        (
            torch.ones(2, 2, 0),
            ValueError,
            "W must be a matrix or a stack of matrices (..., m, n), got shape (2, 2, 0)",
        ),
        (
            torch.tensor([[1, NAN]]),
            ValueError,
            "W must be finite, got 1 NaN and 0 infinite of 2 entries",
        ),
    ],
)
def test_not_a_matrix(W, error, message):
    with raises(error, message):
        check_matrix("W", W)


def test_finite():
    check_finite("x", torch.tensor([]))
    check_finite("x", torch.arange(3))
    with raises(ValueError, "x must be finite, got 1 NaN and 2 infinite of 4 entries"):
        check_finite("x", torch.tensor([1.0, NAN, INF, -INF]))
