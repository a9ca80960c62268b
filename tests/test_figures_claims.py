"""Verdicts on a page: overview and cards from any evidence; and the picture of verdicts by
threshold, each mark against a count, on made-up numbers."""

import re

import numpy as np
import pytest

from lrdlib.evidence.cards import curve_text
from lrdlib.evidence.claims import CHANGES, CLAIMS, GROUPS, WHOSE, findings
from lrdlib.evidence.grids import GRIDS
from lrdlib.evidence.judging import VERDICTS, Curve, Evidence, Finding
from lrdlib.figures import claims as module
from lrdlib.figures.canvas import PALETTE
from lrdlib.figures.claims import (
    THRESHOLDS,
    cards,
    changed,
    counts_text,
    overview,
    sparkline,
    threshold_verdicts,
    verdict_line,
)
from lrdlib.figures.sphinx import problems
from lrdlib.training.sweep import expand

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


# ---- to be read

WANTED = {name: expand(*GRIDS[name]()) for name in ("paper", "published", "fair")}
NOTHING = Evidence(WANTED, {})


def test_the_overview_has_a_line_with_a_link_for_every_claim():
    text = overview(NOTHING)
    assert text.count("<tr class=") == len(CLAIMS)
    assert text.startswith(f"<p>{counts_text(findings(NOTHING))}</p>")
    rows = text.split("<tr class=")[1:]
    for (claim, found), row in zip(findings(NOTHING), rows, strict=True):
        assert f'href="#claim-{claim.name}"' in row and found.verdict in row
        marks = {"our question": 2, "author's own report": 1}
        assert [mark in row for mark in marks] == [
            claim.whose == list(WHOSE)[at] for at in marks.values()
        ]


def test_what_speaks_for_and_against_is_counted_apart():
    theirs, later, ours = (
        [claim for claim in CLAIMS if claim.whose == who] for who in WHOSE
    )
    holds, fails = (Finding(v, "", "", "", provisional="one seed") for v in VERDICTS[:3:2])
    found = [
        *((claim, fails) for claim in ours),
        *((claim, holds) for claim in theirs[:5]),
        *((claim, fails) for claim in theirs[5:7]),
        *((claim, holds) for claim in later[:1]),
    ]
    assert counts_text(found) == (
        "7 claims of the paper and its first code: holds 5, does not hold 2; 7 of them "
        "provisional. 1 of the author's own report: holds 1; 1 of them provisional. "
        f"{len(ours)} questions of ours: does not hold {len(ours)}; {len(ours)} of them "
        "provisional."
    )
    text = cards(NOTHING)
    for some, words in ((later, "author's own report"), (ours, "our question")):
        groups = {claim.about for claim in some}
        assert text.count(f"{words}: not recorded yet") == len(groups)


def test_the_cards_hold_what_the_table_holds():
    text = cards(NOTHING)
    assert text.count('class="lrd-claim ') == text.count("<summary>Rule of") == len(CLAIMS)
    for claim, found in findings(NOTHING):
        assert f'id="claim-{claim.name}"' in text and found.basis in text


def test_a_card_lists_what_comes_after_its_first_sentence(monkeypatch):
    effect = "ratio 0.5 (f = 0.4). Runs: LRD 3 of 5. λ = 1: none"
    found = Finding("holds", effect, "3 of 3 runs", "", provisional="one seed")
    monkeypatch.setattr(module, "findings", lambda evidence: [(CLAIMS[0], found)])
    text = cards(NOTHING)
    assert "<p>Ratio 0.5 (f = 0.4). <small>3 of 3 runs.</small></p>" in text
    assert "<ul><li>Runs: LRD 3 of 5.</li><li>λ = 1: none.</li></ul>" in text
    assert "<p><em>Provisional: one seed.</em></p>" in text


def test_every_card_is_folded_with_those_of_its_group():
    groups = cards(NOTHING).split('<details class="lrd-about">')[1:]
    assert len(groups) == len(GROUPS)
    for about, text in zip(GROUPS, groups, strict=True):
        assert f"<strong>{about}</strong>" in text.partition("</summary>")[0]
        inside = [claim.name for claim in CLAIMS if claim.about == about]
        assert re.findall(r'id="claim-([^"]+)"', text) == inside
        assert text.count("<details>") == text.count("</details>") - 1


def test_the_changes_are_a_list():
    text = changed()
    assert text.count("<li>") == len(CHANGES) and "in any setting" in text


def test_a_curve_is_drawn_and_said():
    curve = Curve("rank below", (0.5, 0.25, 0.125), {"L<2": (1.0, 0.5, 0.0)}, 0.25)
    assert curve_text(curve).endswith("(used: 0.25): L<2: 100%, 50%, 0%")
    picture = sparkline(curve)
    assert "L&lt;2" in picture and "L<2" not in picture
    (points,) = re.findall(r'points="([^"]+)"', picture)
    x, y = zip(*(map(float, point.split(",")) for point in points.split()), strict=True)
    assert np.allclose(np.diff(x), x[1] - x[0]) and np.allclose(np.diff(y), y[1] - y[0])
    assert y[0] < y[-1]  # downwards is less


# ---- bad input


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
