"""One colour for each rule: it can be seen on a light and on a dark page, told from the
others by readers with any sight, and is what every figure that shows the rule takes."""

import json
import re
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from lrdlib.evidence.judging import Curve
from lrdlib.figures.canvas import (
    INK,
    LAST_OF,
    RULE_COLOURS,
    RULE_NAMES,
    rule_colours,
    rule_key,
    rule_named,
    rule_of,
)
from lrdlib.figures.claims import sparkline, threshold_verdicts
from lrdlib.figures.drag import STYLES
from lrdlib.figures.opening import opening, opening_data
from lrdlib.figures.phase import frontier_figure
from lrdlib.figures.rank import PARTS, fall_figure
from lrdlib.figures.runs import mechanism_figure, spectrum_player, timeline_figure
from lrdlib.figures.studies import (
    course_figure,
    rank_figure,
    survival_figure,
    threshold_figure,
)
from lrdlib.lab import data
from lrdlib.lab.script import PANELS, STATIC
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


def test_the_dragged_plane_has_the_colours_of_its_rules():
    rules = {"l2": "l2", "low_rank": "lrd", "proximal": "proximal"}
    strokes = {rule: STYLES[name]["stroke"] for name, rule in rules.items()}
    assert strokes == {rule: RULE_COLOURS[rule] for rule in rules.values()}


OPENED = [run_of(rule) for rule in ("lrd", "l2", "elastic")]


def test_the_opening_has_the_colours_of_its_rules():
    for entry in opening_data(OPENED)["rules"]:
        rule = rule_named(entry["name"])
        strength = entry["runs"][0]["strength"]
        html = opening(OPENED, rule=entry["name"], start=strength, alt="It moves.")
        still = html[: html.index("<script")]
        drawn = set(re.findall("#[0-9a-f]{6}", still)) & set(RULE_COLOURS.values())
        # no colour of another rule for the accuracies beside the bars
        assert entry["colour"] == RULE_COLOURS[rule] and drawn <= {entry["colour"], INK}
        assert f'fill="{entry["colour"]}"' in still


def test_the_opening_is_drawn_in_the_colour_of_the_rule_that_is_chosen(chromium, tmp_path):
    from browser import serve, visit

    static = Path(opening.__code__.co_filename).parent / "static"
    css, script = (
        (static / name).read_text(encoding="utf-8")
        for name in ("figures.css", "opening.js")
    )
    start = opening_data(OPENED)["rules"][0]["runs"][0]["strength"]
    html = opening(OPENED, rule="LRD", start=start, alt="It moves.")
    (tmp_path / "page.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Opening</title>'
        f'<link rel="icon" href="data:,"><style>{css}</style>{html}'
        f"<script>{script}</script></html>",
        encoding="utf-8",
    )
    with serve(tmp_path) as site, visit(chromium, f"{site}/page.html") as seen:

        def fill():
            painted = seen.page.locator(".bars").evaluate("e => getComputedStyle(e).fill")
            return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", painted))

        assert fill() == RULE_COLOURS["lrd"]
        seen.page.get_by_role("button", name="L2").click()
        assert fill() == RULE_COLOURS["l2"]
        assert seen.errors == []


@pytest.mark.parametrize("ink", ["--lrd-seen-ink", "--lrd-unseen-ink"])
def test_the_words_of_the_opening_can_be_read(ink):
    css = (Path(opening.__code__.co_filename).parent / "static/figures.css").read_text()
    light, dark = re.findall(f"{ink}: (#[0-9a-f]{{6}})", css)
    # WCAG 1.4.3
    assert contrast(light, "#ffffff") >= 4.5 and contrast(dark, "#121212") >= 4.5


SETTINGS = [{}, {"scale": None}, {"mode": "decoupled"}]


@pytest.mark.parametrize(
    "shown",
    [
        [{"rule": rule} for rule in ("l2", "lrd", "elastic", "proximal")],
        # more than there are colours: a facet for each setting
        [{"rule": rule, **apart} for rule in ("lrd", "elastic") for apart in SETTINGS],
    ],
)
def test_a_frontier_has_the_colour_of_its_rule(shown):
    wanted = [
        TrainConfig(weight_decay=strength, steps=1000, eval_every=250, **fields)
        for fields in shown
        for strength in (0.01, 0.1)
    ]
    runs = [replace(run_of("lrd"), config=plain(config)) for config in wanted]
    named = [t for t in frontier_figure(runs, wanted).data if rule_named(t.name or "")]
    assert {rule_named(t.name) for t in named} == {fields["rule"] for fields in shown}
    for trace in named:
        assert colours(trace) == {RULE_COLOURS[rule_named(trace.name)]}


def test_a_frontier_of_queries_and_keys_has_their_colour():
    config = TrainConfig(rule="lrd", weight_decay=0.1, select="qk")
    fig = frontier_figure([replace(run_of("lrd"), config=plain(config))], [config])
    named = [trace for trace in fig.data if rule_named(trace.name or "") == "lrd"]
    assert named and all(colours(t) == {RULE_COLOURS["lrd on qk"]} for t in named)


# ---- the lab


def in_script(chromium, names, expression):
    """What an expression is in the scope of these fragments of the lab."""
    text = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names)
    with chromium.new_context() as context:
        page = context.new_page()
        return page.evaluate(f"() => {{ {text}\n return {expression}; }}")


def test_the_labs_script_has_the_same_table(chromium):
    pairs = [list(pair) for pair in product(FIELDS, repeat=2)]
    table, last, tints = in_script(
        chromium, PANELS, f"[RULE_COLOURS, LAST_OF, {json.dumps(pairs)}.map(tintsOf)]"
    )
    assert table == RULE_COLOURS and last == LAST_OF
    for pair, tint in zip(pairs, tints, strict=True):
        assert tint == rule_colours([FIELDS[rule] for rule in pair]), pair


def test_the_lab_knows_the_rule_of_a_run(chromium):
    runs = {rule: run_of(rule) for rule in FIELDS}
    runs["no strength"] = replace(
        run_of("lrd"), config=plain(TrainConfig(rule="lrd", weight_decay=0.0, l2=0.1))
    )
    told = f"rowsOf({json.dumps(data.index(runs))}).map((row) => [row.piece, ruleOf(row)])"
    said = in_script(chromium, (*PANELS, "digits.js", "choose.js", "runs.js"), told)
    assert dict(said) == {name: rule_of(run.config) for name, run in runs.items()}


ALONE = """(() => {
    const run = {rule: RULE, tint: null, steps: [0], bands: null, fourier: [[1]],
        curves: {qk_stable_rank: [1], qk_effective_rank: [1]}, spectra: {"0.query": [[1]]}};
    const view = {runs: [run]};
    return [rankChart, spectrumChart, fourierChart]
        .flatMap((chart) => chart.legend(run, 0, view))
        .filter(({name}) => name !== "step 0").map(({colour}) => colour);
})()"""


@pytest.mark.parametrize("rule", ["lrd", "l2 on blocks"])
def test_the_lab_draws_a_run_alone_in_the_colour_of_its_rule(chromium, rule):
    drawn = in_script(chromium, PANELS, ALONE.replace("RULE", json.dumps(rule)))
    assert drawn == [RULE_COLOURS[rule]] * 4


def test_accuracies_and_pairs_in_the_lab_have_the_colour_of_no_rule(chromium):
    curves, kinds = in_script(
        chromium, PANELS, "[Object.values(ACCURACIES), TABLE_KINDS.map((k) => k.colour)]"
    )
    rules = [colour for rule, colour in RULE_COLOURS.items() if rule != "none"]
    assert not {one["colour"] for one in curves} & set(rules)
    assert len({one["dash"] for one in curves}) == len(curves)
    for one, page in product(curves, ("#ffffff", "#121212")):
        assert contrast(one["colour"], page) >= 3  # WCAG 1.4.11
    for sight in SIGHTS:
        seen = {colour: lab(colour, sight) for colour in (*kinds, *rules)}
        for one, other in combinations(kinds, 2):
            assert np.linalg.norm(seen[one] - seen[other]) >= 15, (one, other, sight)
        for one, rule in product(kinds, rules):
            assert np.linalg.norm(seen[one] - seen[rule]) >= 9, (one, rule, sight)
