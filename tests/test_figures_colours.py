"""One colour for each rule: it can be seen on a light and on a dark page, told from the
others by readers with any sight, and is what every figure that shows the rule takes."""

import re
from itertools import combinations

import numpy as np
import pytest

from lrdlib.evidence.judging import Curve
from lrdlib.figures.canvas import (
    LAST_OF,
    RULE_COLOURS,
    RULE_NAMES,
    rule_colours,
    rule_key,
    rule_named,
    rule_of,
)
from lrdlib.figures.claims import sparkline, threshold_verdicts
from lrdlib.figures.rank import PARTS, fall_figure
from lrdlib.figures.runs import mechanism_figure, spectrum_player, timeline_figure
from lrdlib.figures.studies import (
    course_figure,
    rank_figure,
    survival_figure,
    threshold_figure,
)
from lrdlib.training.config import RULES, TrainConfig, plain
from lrdlib.training.runs import Run

# Machado, Oliveira and Fernandes 2009, severity 1, on linear sRGB
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
FIELDS = {
    "none": {"rule": "none", "weight_decay": 0.0},
    "l2": {"rule": "l2", "weight_decay": 1.0},
    "l2 on blocks": {"rule": "l2", "weight_decay": 1.0, "l2_on": "selected"},
    "lrd": {"rule": "lrd", "weight_decay": 1.0},
    "lrd on qk": {"rule": "lrd", "weight_decay": 1.0, "select": "qk"},
    "elastic": {"rule": "elastic", "weight_decay": 0.5, "l2": 0.5},
    "proximal": {"rule": "proximal", "weight_decay": 1.0},
}
STEPS = np.arange(0, 1001, 250)


def linear(colour):
    """Linear sRGB of a colour. (3,)"""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    """WCAG 2.1."""
    dark, light = sorted(linear(c) @ [0.2126, 0.7152, 0.0722] for c in (a, b))
    return (light + 0.05) / (dark + 0.05)


def lab(colour, sight):
    """CIE L*a*b* (D65) of a colour as this sight sees it. (3,)"""
    seen = np.clip(np.asarray(SIGHTS[sight]) @ linear(colour), 0, 1)
    t = XYZ @ seen / [0.95047, 1, 1.08883]
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), (t * (29 / 3) ** 3 + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def run_of(rule):
    rise = np.linspace(0, 1, len(STEPS))
    clean = np.minimum(2 * rise, 1)
    history = {"step": STEPS, "qk_stable_rank": 8 - 7 * rise}
    history |= dict.fromkeys(
        ("train_accuracy", "test_accuracy", "orbit_clean_accuracy"), clean
    )
    names = ("0.query", "0.key")
    S = np.tile(np.arange(4.0, 0, -1), (len(STEPS), 1))
    config = plain(TrainConfig(steps=1000, eval_every=250, **FIELDS[rule]))
    weights = dict.fromkeys(names, np.eye(4))
    return Run(config, history, dict.fromkeys(names, S), weights, {})


# ---- the table


def test_every_rule_has_a_colour_and_a_name():
    assert set(RULES) < set(RULE_COLOURS)
    assert set(RULE_COLOURS) == set(RULE_NAMES) == set(FIELDS)


@pytest.mark.parametrize("page", ["#ffffff", "#121212"])
def test_a_line_of_any_rule_can_be_seen_on_the_page(page):
    for colour in (*RULE_COLOURS.values(), *LAST_OF.values()):
        assert contrast(colour, page) >= 3  # WCAG 1.4.11


@pytest.mark.parametrize("sight", SIGHTS)
def test_rules_are_told_apart(sight):
    for one, other in combinations(RULE_COLOURS.values(), 2):
        assert np.linalg.norm(lab(one, sight) - lab(other, sight)) >= 15, (one, other)


@pytest.mark.parametrize("rule", FIELDS)
def test_the_rule_of_a_run(rule):
    assert rule_of(run_of(rule).config) == rule
    assert rule_named(f"{RULE_NAMES[rule]}, f = 0.4") == rule
    assert rule_named(f"{RULE_NAMES[rule]}x") != rule
    assert rule_colours([FIELDS[rule]]) == [RULE_COLOURS[rule]]
    assert RULE_COLOURS[rule] in rule_key() and RULE_NAMES[rule] in rule_key()


def test_several_runs_of_a_rule_go_from_its_colour_to_its_last():
    drawn = rule_colours([FIELDS[r] for r in ("lrd", "l2", "lrd", "lrd on qk", "lrd")])
    assert (drawn[0], drawn[1]) == (RULE_COLOURS["lrd"], RULE_COLOURS["l2"])
    assert drawn[3] == RULE_COLOURS["lrd on qk"]  # the last, wherever it stands
    ladder = [contrast(drawn[i], "#ffffff") for i in (0, 2, 4, 3)]
    assert ladder == sorted(ladder) and len(set(drawn)) == 5
    ways = np.array([linear(drawn[i]) for i in (0, 2, 4, 3)])
    assert (np.diff(ways, axis=0)[:, 0] < 0).all()


# ---- the figures


def by_rule(rules):
    return {RULE_NAMES[rule]: [run_of(rule)] for rule in rules}


def drawn_by_runs(figure):
    def draw(rules):
        return figure([run_of(rule) for rule in rules])

    return draw


FIGURES = {
    "mechanism": drawn_by_runs(mechanism_figure),
    "timeline": drawn_by_runs(timeline_figure),
    "player": drawn_by_runs(spectrum_player),
    "survival": lambda rules: survival_figure({"0.4": by_rule(rules)}, prefix="f "),
    "threshold": lambda rules: threshold_figure({"0.4": by_rule(rules)}, prefix="f "),
    "rank": lambda rules: rank_figure({"0.4": by_rule(rules)}, prefix="f "),
    "fall": lambda rules: fall_figure(
        by_rule(rules), {RULE_NAMES[rules[0]]: dict.fromkeys(PARTS, 100.0)}
    ),
    "verdicts": lambda rules: threshold_verdicts(
        {RULE_NAMES[rule]: [0.1, 0.6] for rule in rules},
        judged=(RULE_NAMES[rules[0]],),
        cut=0.5,
        prefix="below ",
    ),
}


def colours(trace):
    """The colours of the line and of the marks of a trace that is named."""
    parts = (trace.line, trace.marker) if "lines" in trace.mode else (trace.marker,)
    return {part.color for part in parts if part.color}


@pytest.mark.parametrize(
    "rules", [("l2", "lrd", "elastic"), ("none", "proximal"), ("lrd on qk", "l2 on blocks")]
)
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_that_shows_a_rule_uses_its_colour(name, rules):
    fig = FIGURES[name](rules)
    for rule in rules:
        found = [
            t for t in fig.data if t.type == "scatter" and rule_named(t.name or "") == rule
        ]
        if name in ("mechanism", "timeline", "player"):  # there names say more
            said = run_of(rule).label()
            found = [t for t in fig.data if t.name and t.name.startswith(said)]
        assert found, rule
        for trace in found:
            assert colours(trace) == {RULE_COLOURS[rule]}


@pytest.mark.parametrize("rule", FIELDS)
def test_a_course_has_the_colour_of_its_rule(rule):
    fig = course_figure({"0.1": [run_of(rule)]}, prefix="t ")
    assert {trace.line.color for trace in fig.data} == {RULE_COLOURS[rule]}


def test_a_sparkline_has_the_colours_of_its_rules():
    lines = {"L2 that never do": (1.0, 0.5), "LRD that do": (0.5, 0.0), "other": (0.2, 0.1)}
    picture = sparkline(Curve("rank below", (0.5, 0.25), lines, 0.5))
    strokes = re.findall(r'<polyline [^>]*stroke="([^"]+)"', picture)
    assert strokes[:2] == [RULE_COLOURS["l2"], RULE_COLOURS["lrd"]]
    assert strokes[2] not in strokes[:2]
