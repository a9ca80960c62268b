"""Each check lets the good through in silence, and says the name, the value and the
expectation of the bad."""

import re

import numpy as np
import pytest
import torch

from lrdlib._check import (
    amount,
    check_bytes,
    check_callable,
    check_choice,
    check_dense,
    check_finite,
    check_float,
    check_instance,
    check_integer,
    check_matrix,
    check_real,
    check_reals,
    check_rows,
    shown,
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
    check_real("x", value, at_least=value, at_most=value)


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
        (1.5, {"at_most": 1}, "a finite number <= 1"),
        (-0.1, {"at_least": 0, "at_most": 1}, "a finite number >= 0 and <= 1"),
        (NAN, {"at_least": 0, "at_most": 1}, "a finite number >= 0 and <= 1"),
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


BEYOND_FLOAT, BEYOND_PRINT = 10**400, -(10**5000)  # Python prints 4300 digits at most


@pytest.mark.parametrize("value", [BEYOND_FLOAT, BEYOND_PRINT, 2**1024], ids=lambda x: "")
def test_an_integer_beyond_the_largest_float_is_no_finite_number(value):
    with pytest.raises(ValueError, match=r"^x must be a finite number, got an integer of"):
        check_real("x", value)


def test_the_largest_float_is_a_real_number_also_as_an_integer():
    check_real("x", int(1.7976931348623157e308))


def test_a_huge_integer_is_told_by_its_length():
    with raises(
        ValueError, "n must be an integer <= 9, got an integer of about 401 digits"
    ):
        check_integer("n", BEYOND_FLOAT, at_most=9)
    with raises(
        ValueError, "n must be an integer >= 1, got an integer of about 5001 digits"
    ):
        check_integer("n", BEYOND_PRINT)
    check_integer("n", np.int64(9), at_most=9)
    with raises(ValueError, "n must be an integer <= 9, got 10"):
        check_integer("n", np.int64(10), at_most=9)


class Silent:
    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10**30, "1" + 30 * "0"),
        ([BEYOND_PRINT], "a list"),
        (Silent(), "a Silent"),
        (np.array([[1], [2]]), "array([[1], [2]])"),
        ("x" * 200, "'" + "x" * 95 + " ..."),
    ],
)
def test_what_a_message_shows(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    "value", [np.array(["a", "b"]), np.ones(2), torch.ones(2, 2), 1, {}, None]
)
def test_no_choice(value):
    with pytest.raises(ValueError, match=r"^mode must be one of 'a', True, got "):
        check_choice("mode", value, ("a", True))


def test_types_and_functions():
    check_instance("name", "x", str)
    check_callable("f", len)
    with raises(TypeError, "name must be of type str, got bytes"):
        check_instance("name", b"x", str)
    with raises(TypeError, "f must be a function, got Tensor"):
        check_callable("f", torch.ones(1))


def test_bytes():
    check_bytes("p = 3", "a table", 100, 100)
    with raises(ValueError, "p = 3 asks for a table, 2.0 GB; at most 1.0 GB"):
        check_bytes("p = 3", "a table", 2 * 10**9, 10**9)
    with raises(ValueError, "p = 3 asks for a table, about 10^791 GB; at most 1.0 GB"):
        check_bytes("p = 3", "a table", BEYOND_FLOAT**2, 10**9)


def test_amounts():
    assert [amount(n) for n in (0, 1234567, BEYOND_FLOAT)] == [
        "0",
        "1,234,567",
        "about 10^400",
    ]


@pytest.mark.filterwarnings("ignore")  # nested tensors are a prototype
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "x must be a torch.Tensor, got NoneType"),
        (lambda: np.ones(2), "x must be a torch.Tensor, got ndarray"),
        (
            lambda: torch.eye(2).to_sparse_csr(),
            "x must be a dense tensor, got layout torch.spa",
        ),
        (
            lambda: torch.nested.nested_tensor([torch.ones(2)]),
            "x must be a dense tensor, got layout nested",
        ),
        (
            lambda: torch.ones(2, device="meta"),
            "x must hold data, got a tensor on the device meta",
        ),
    ],
)
def test_not_a_dense_tensor(make, message):
    for check in (check_dense, check_float, check_rows, check_reals):
        with pytest.raises(TypeError, match="^" + re.escape(message)):
            check("x", make())


FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", FLOAT8)
def test_a_dtype_without_arithmetic(dtype):
    x = torch.zeros(2, 2, dtype=dtype)
    check_dense("x", x)
    for check in (check_float, check_matrix, check_rows, check_reals):
        with pytest.raises(TypeError, match=rf"^x must .* got dtype {dtype}$"):
            check("x", x)


def test_real_tensors():
    for x in (torch.tensor(0), torch.tensor([0.5, 3]), torch.ones(0), torch.ones(2).half()):
        check_reals("x", x)
    with raises(ValueError, "x must be >= 0, got a tensor with minimum -2"):
        check_reals("x", torch.tensor([1, -2]))
    with raises(ValueError, "x must be finite, got 1 NaN and 0 infinite of 1 entries"):
        check_reals("x", torch.tensor(NAN))
    for x in (torch.ones(2).bool(), torch.ones(2).cfloat()):
        with raises(TypeError, f"x must hold real numbers, got dtype {x.dtype}"):
            check_reals("x", x)


def test_rows():
    check_rows("rows", torch.arange(3))
    with raises(TypeError, "rows must be an int64 tensor, got dtype torch.int32"):
        check_rows("rows", torch.arange(3, dtype=torch.int32))
