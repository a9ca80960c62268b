"""The picture of verdicts by threshold: each mark against a count, on made-up numbers."""

import re

import numpy as np
import pytest

from lrdlib.figures.canvas import PALETTE
from lrdlib.figures.claims import THRESHOLDS, threshold_verdicts, verdict_line
from lrdlib.figures.sphinx import problems

VALUES = {
    "LRD, do": [0.05, 0.1, 0.2, 0.3],
    "L2, do": [0.3, 0.4, 0.45, 0.9],
    "LRD that never do": [0.04, 0.9],
}
JUDGED = ("LRD, do", "L2, do")


def figure(**changes):
    options = {"judged": JUDGED, "cut": 0.75, "prefix": "below ", "start": 0.5}
    return threshold_verdicts(VALUES, **(options | changes))


def test_marks_are_counts():
    fig = figure()
    assert [frame.name for frame in fig.frames] == [f"{at:g}" for at in THRESHOLDS]
    for at, frame in zip(THRESHOLDS, fig.frames, strict=True):
        for trace, numbers in zip(frame.data[:-1], VALUES.values(), strict=True):
            assert trace.x[0] == at
            assert trace.y[0] == sum(x < at for x in numbers) / len(numbers)


def test_the_word_moves_with_the_threshold():
    words = {f.name: re.sub("<.?b>", "", f.data[-1].text[0]) for f in figure().frames}
    assert words["0.5"] == "holds"  # 4 of 4, 3 of 4
    assert words["0.35"] == "holds in part"  # 4 of 4, 1 of 4
    assert words["0.0625"] == "does not hold"


def test_lines_fall_and_pass_through_the_marks():
    fig = figure()
    lines = [trace for trace in fig.data if trace.mode == "lines"]
    assert [line.name for line in lines] == list(VALUES)
    for line, numbers in zip(lines, VALUES.values(), strict=True):
        shares = [np.mean(np.array(numbers) < at) for at in line.x]
        assert np.allclose(line.y, shares, atol=1e-4)
    assert [line.line.color for line in lines] == [PALETTE[1], PALETTE[0], PALETTE[1]]
    assert lines[2].line.dash == "dash"


def test_the_text_alternative_says_the_verdict():
    fig = figure(start=0.25)
    arrays = {name: np.array(x) for name, x in VALUES.items()}
    line = verdict_line(arrays, JUDGED, 0.75, 0.25)
    assert line == "holds in part (LRD, do 75%, L2, do 0%)"
    assert line in fig.layout.meta["alt"]
    assert not problems(fig.to_plotly_json())


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: threshold_verdicts([], judged=(), cut=1, prefix=""), TypeError, "values"),
        (lambda: figure(judged=("L1",)), ValueError, "judged must be .*got 'L1'"),
        (lambda: figure(cut=2), ValueError, "cut must be .*got 2"),
        (lambda: figure(start=0.3), ValueError, "start must be .*got 0.3"),
        (
            lambda: threshold_verdicts({"a": [0.0]}, judged=(), cut=1, prefix=""),
            ValueError,
            r"values\['a'\] must hold numbers > 0",
        ),
    ],
)
def test_bad_input_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()
