"""Checks the reader's answers to the book's exercises: in a notebook, in Colab, with no
more than lrdlib."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from lrdlib._check import check_callable, check_instance, check_real, shown


def compare(
    answer: Callable[..., Any],
    expected: Callable[..., Any],
    cases: Sequence[tuple],
    *,
    rtol: float = 1e-4,
) -> None:
    """Print whether `answer` gives what `expected` gives on every case (a tuple of
    arguments), or where not.

    Numbers, tensors, and lists of them are compared as float64 tensors, to rtol of the
    largest finite entry expected; a complex answer is right only where a complex one is
    expected. A function that returns None or ... is not written yet. An error in `answer`
    is told, not raised, so that a notebook with unanswered exercises runs to its end.
    Raises TypeError or ValueError for arguments of another kind, or no cases.

    >>> compare(lambda x: x + x, lambda x: 2 * x, [(1,), (2.5,)])
    Right, in all 2 cases.
    >>> compare(lambda x: x * x, lambda x: 2 * x, [(2,), (3,)])
    Not yet. Case 2 of 2, with the arguments (3,): expected 6, got 9.
    """
    check_callable("answer", answer)
    check_callable("expected", expected)
    if not isinstance(cases, Sequence) or isinstance(cases, (str, bytes)):
        raise TypeError(
            f"cases must be a list of tuples of arguments, got {type(cases).__name__}"
        )
    for i, case in enumerate(cases):
        check_instance(f"cases[{i}]", case, tuple)
    check_real("rtol", rtol, at_least=0)
    if not cases:
        raise ValueError("cases must hold at least one tuple of arguments, got none")
    for i, case in enumerate(cases, 1):
        where = f"Case {i} of {len(cases)}, with the arguments {_show(case)}"
        want = expected(*case)
        try:
            got = answer(*case)
        except Exception as error:  # whatever the reader's code does
            return print(f"Not yet. {where}: {type(error).__name__}: {error}")
        if got is None or got is ...:
            return print(
                "No answer yet: write the function's body, then run this cell again."
            )
        if not _close(got, want, rtol):
            return print(f"Not yet. {where}: expected {_show(want)}, got {_show(got)}.")
    return print(f"Right, in all {len(cases)} cases.")


def _close(got: Any, want: Any, rtol: float) -> bool:
    """Whether two answers agree in shape and, to rtol of the largest finite entry, in
    value; an answer that cannot be compared does not."""
    try:
        if _is_complex(got) != _is_complex(want):
            return False
        dtype = torch.complex128 if _is_complex(want) else torch.float64
        A, B = (torch.as_tensor(x, dtype=dtype) for x in (got, want))
        if A.shape != B.shape:
            return False
        finite = B[B.isfinite()]
        largest = float(finite.abs().max()) if finite.numel() else 0.0
        return torch.allclose(A, B, rtol=0, atol=rtol * max(1e-30, largest), equal_nan=True)
    except Exception:  # no numbers: words, lists of tensors, or whatever a reader returns
        lists = isinstance(got, (list, tuple)) and isinstance(want, (list, tuple))
        if lists and len(got) == len(want):
            return all(_close(a, b, rtol) for a, b in zip(got, want, strict=True))
        return _equal(got, want)


def _is_complex(value: Any) -> bool:
    """Whether a number, an array or a tensor is complex, or any in a list."""
    if isinstance(value, (list, tuple)):
        return any(map(_is_complex, value))
    return isinstance(value, complex) or "complex" in str(getattr(value, "dtype", ""))


def _equal(got: Any, want: Any) -> bool:
    """got == want, False where that cannot be said."""
    try:
        return bool(got == want)
    except Exception:  # arrays say it entry by entry
        return False


def _show(value: Any) -> str:
    """A value on one line, a large tensor by its shape alone."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_show, value))}{',' * (len(value) == 1)})"
    if isinstance(value, torch.Tensor):
        if value.numel() > 12:
            kind = "complex tensor" if value.is_complex() else "tensor"
            return f"a {kind} of shape {tuple(value.shape)}"
        if value.is_meta or value.layout != torch.strided:
            return shown(value)
        return shown(value.detach().tolist(), width=400)
    return shown(value, width=400)
