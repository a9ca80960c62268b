"""The exercises' checker: right is right, wrong is told with the case, and no answer of a
reader stops a notebook."""

from math import inf, nan

import numpy as np
import pytest
import torch

from lrdlib.decay import proximal_decay_
from lrdlib.exercises import compare


def soft_threshold(W, t):
    return proximal_decay_(W.clone(), weight_decay=t, scale=None)


W = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
CASES = [(W, 0.5), (W, 2.0)]


def said(capsys, answer, expected=soft_threshold, cases=CASES, **options):
    assert compare(answer, expected, cases, **options) is None
    return capsys.readouterr().out.strip()


def test_a_right_answer(capsys):
    def answer(W, t):
        U, S, Vh = torch.linalg.svd(W, full_matrices=False)
        return U @ torch.diag((S - t).clamp(min=0)) @ Vh

    assert said(capsys, answer) == "Right, in all 2 cases."


def test_a_wrong_one_names_the_case_and_both_values(capsys):
    text = said(
        capsys, lambda W, t: (W - t).clamp(min=0) if t > 1 else soft_threshold(W, t) + 1e-2
    )
    assert text.startswith(
        "Not yet. Case 1 of 2, with the arguments ([[3.0, 0.0], [0.0, 1.0]], 0.5): "
        "expected [[2.5"
    )


@pytest.mark.parametrize("answer", [lambda W, t: None, lambda W, t: ...])
def test_no_answer_yet(capsys, answer):
    assert said(capsys, answer).startswith("No answer yet")


def test_an_error_is_told(capsys):
    assert "ZeroDivisionError" in said(capsys, lambda W, t: 1 / 0)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (6, True),
        (6.0, True),
        ([6], False),
        (torch.tensor(6), True),
        (6.001, False),
        ("6", False),
        (float("nan"), False),
    ],
)
def test_numbers_tensors_and_others(capsys, answer, right):
    assert said(capsys, lambda: answer, lambda: 6, [()]).startswith(
        "Right" if right else "Not yet"
    )


def test_shapes_must_agree_and_words_may_be_answers(capsys):
    assert "Not yet" in said(capsys, lambda: torch.ones(1, 3), lambda: torch.ones(3), [()])
    assert "Right" in said(capsys, lambda: "query", lambda: "query", [()])
    assert "a tensor of shape (20,)" in said(
        capsys, lambda x: x[0], lambda x: x, [(torch.ones(20),)]
    )


def test_no_cases_is_a_mistake_of_the_book():
    with pytest.raises(ValueError, match="cases must"):
        compare(abs, abs, [])


class Odd:
    """An answer that can neither be compared nor shown."""

    def __eq__(self, other):
        raise RuntimeError

    def __repr__(self):
        raise RuntimeError


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "answer",
    [
        10**400,
        10**5000,
        [10**400],
        np.array(["a", "b"]),
        torch.ones(2, device="meta"),
        torch.eye(2).to_sparse(),
        Odd(),
        [Odd()],
        "x" * 5000,
    ],
    ids=lambda x: type(x).__name__,
)
def test_no_answer_of_a_reader_stops_the_notebook(capsys, answer):
    for want in (2, torch.ones(2), [1.0], "word"):
        text = said(capsys, lambda: answer, lambda want=want: want, [()])
        assert text.startswith("Not yet. Case 1 of 1") and len(text) < 1000


def test_lists_of_tensors_are_compared_one_by_one(capsys):
    two = [torch.ones(2), torch.zeros(3)]
    assert "Right" in said(capsys, lambda: [x.clone() for x in two], lambda: two, [()])
    assert "Not yet" in said(capsys, lambda: [two[0], two[1] + 1e-3], lambda: two, [()])
    assert "Not yet" in said(capsys, lambda: two[:1], lambda: two, [()])


@pytest.mark.parametrize(
    ("off", "options", "right"),
    [
        (1e-2, {}, False),
        (1e-2, {"rtol": 0.02}, True),
        (1e-5, {}, True),
        (1e-5, {"rtol": 0.0}, False),
    ],
)
def test_tensors_in_a_list_are_compared_to_the_tolerance_that_is_asked_for(
    capsys, off, options, right
):
    two = [torch.ones(2), torch.tensor([1.0, 2.0, 4.0])]  # so that they are no one tensor
    near = [x * (1 + off) for x in two]
    text = said(capsys, lambda: near, lambda: two, [()], **options)
    assert text.startswith("Right" if right else "Not yet")


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ([inf, 1.00001], [inf, 1.0], True),
        ([inf, 1.1], [inf, 1.0], False),
        ([-inf, 1.0], [inf, 1.0], False),
        ([2.0, 1.0], [inf, 1.0], False),
        (2.0, inf, False),
        (inf, inf, True),
        ([nan, 1.00001], [nan, 1.0], True),
        ([nan, 1.1], [nan, 1.0], False),
        ([0.0, 1.0], [nan, 1.0], False),
    ],
)
def test_what_is_not_finite_is_right_where_it_is_expected_and_lends_no_tolerance(
    capsys, answer, expected, right
):
    text = said(capsys, lambda: answer, lambda: expected, [()])
    assert text.startswith("Right" if right else "Not yet")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "complex_of",
    [
        torch.Tensor.cfloat,
        torch.Tensor.tolist,
        torch.Tensor.numpy,
        lambda x: list(x.numpy()),
        list,
    ],
    ids=["tensor", "numbers", "array", "numbers of numpy", "tensors"],
)
def test_a_complex_answer_is_right_only_where_one_is_expected(capsys, complex_of):
    real = torch.tensor([1.0, 2.0])
    answer, other = (complex_of(torch.complex(real, i * real)) for i in (0, 1))
    for expected in (real, real.tolist(), other):
        text = said(capsys, lambda: answer, lambda want=expected: want, [()])
        assert text.startswith("Not yet") and "j" in text.partition("got")[2]
    assert "Right" in said(capsys, lambda: other, lambda: other, [()])
    assert "Not yet" in said(capsys, lambda: real, lambda: answer, [()])


def test_a_large_complex_answer_is_told_as_one(capsys):
    ones = torch.ones(20)
    assert "expected a tensor of shape (20,), got a complex tensor of shape (20,)" in said(
        capsys, lambda: ones.cfloat(), lambda: ones, [()]
    )


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"answer": None}, TypeError, "answer must be a function, got NoneType"),
        ({"expected": 2}, TypeError, "expected must be a function, got int"),
        ({"cases": "ab"}, TypeError, "cases must be a list of tuples"),
        ({"cases": [1]}, TypeError, r"cases\[0\] must be of type tuple, got int"),
        ({"cases": (c for c in CASES)}, TypeError, "cases must be a list of tuples"),
        ({"rtol": "x"}, TypeError, "rtol must be a finite number"),
        ({"rtol": -1.0}, ValueError, "rtol must be a finite number >= 0"),
    ],
)
def test_a_mistake_of_the_book_is_named(changed, error, message):
    given = {"answer": abs, "expected": abs, "cases": [(1,)]} | changed
    with pytest.raises(error, match="^" + message):
        compare(**given)
