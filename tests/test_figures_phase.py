"""Phase diagrams: cells show what is recorded, empty ones nothing; a click and a choice by
keyboard draw its curves."""

import json
import os
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
import pytest

from lrdlib.figures.canvas import rule_colours
from lrdlib.figures.page import write_page
from lrdlib.figures.phase import CURVES, agreement_figure, frontier_figure, phase_figure
from lrdlib.figures.phase_frontiers import SEED
from lrdlib.figures.phase_layout import finish, ink_on, side_by_side
from lrdlib.figures.sphinx import problems
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import Run

STEPS = np.arange(0, 500, 100)
FRACTIONS, STRENGTHS = (0.3, 0.4, 0.5), (0.001, 0.05)


def wanted(
    rules=("l2", "lrd"), fractions=FRACTIONS, strengths=STRENGTHS, seeds=(0, 1, 2), **fields
):
    grid = (
        (r, s, f, seed)
        for r in rules
        for s in strengths
        for f in fractions
        for seed in seeds
    )
    return [
        TrainConfig(rule=r, weight_decay=s, fraction=f, seed=seed, **fields)
        for r, s, f, seed in grid
    ]


def run_of(config, best=0.99, *, steps=STEPS, noise=0.0):
    rise = np.linspace(0, 1, len(steps))
    random = np.random.default_rng(config.seed).random((4, len(steps))) * noise
    history = {
        "step": steps,
        "test_accuracy": best * rise * (1 - random[0]),
        "orbit_clean_accuracy": best * rise**2 * (1 - random[1]),
        "train_accuracy": np.minimum(1, 2 * rise) * (1 - random[2]),
        "qk_stable_rank": 30 - 20 * rise + random[3],
    }
    return Run(plain(config), history, {}, {}, {})


def bare(config):
    """A run of nothing but test accuracy."""
    history = {"step": STEPS, "test_accuracy": np.zeros(len(STEPS))}
    return Run(plain(config), history, {}, {}, {})


def command(config):
    return f"remake --rule {config['rule']} --fraction {config['fraction']:g}"


WANTED = wanted()
# L2 nowhere; LRD from 0.4 on, 0.3 by one seed of three; at the small strength one seed, of
# which one cell has diverged
RUNS = [
    run_of(c, 0.99 if c.rule == "lrd" and c.fraction + 0.1 * (c.seed == 2) > 0.35 else 0.6)
    for c in WANTED
]
RUNS = [
    r
    for r in RUNS
    if r.config["weight_decay"] == 0.05
    or (r.config["rule"] == "lrd" and r.config["seed"] == 0)
]
RUNS = [r for r in RUNS if not (r.config["rule"] == "l2" and r.config["fraction"] == 0.5)]
for name in ("test_accuracy", "orbit_clean_accuracy", "qk_stable_rank"):
    (lost,) = [
        r for r in RUNS if r.config["weight_decay"] == 0.001 and r.config["fraction"] == 0.5
    ]
    lost.history[name] = np.r_[lost.history[name][:2], [np.nan] * 3]

FIGURES = {
    "phase": phase_figure,
    "agreement": agreement_figure,
    "frontier": frontier_figure,
}


def as_json(fig):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(fig.to_json(), parse_constant=refuse)


def heats(fig):
    return [
        trace
        for trace in fig.data
        if trace.type == "heatmap" and trace.hovertext is not None
    ]


def marks(fig, p):
    """The symbol (None: none) and the text of each cell of a panel, by (row, column)."""
    trace = [t for t in fig.data if t.type == "scatter" and t.mode == "markers+text"][p]
    symbols = [
        s if size else None
        for s, size in zip(trace.marker.symbol, trace.marker.size, strict=True)
    ]
    return dict(
        zip(
            zip(trace.y, trace.x, strict=True),
            zip(symbols, trace.text, strict=True),
            strict=True,
        )
    )


def scatters(fig, which):
    """The traces in the panels that `which` is true of; those of the legend alone have no
    place."""
    panels = (t for t in fig.data if t.type == "scatter" and t.x != (None,))
    return [trace for trace in panels if which(trace)]


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("runs", [RUNS, []], ids=["some", "none"])
def test_every_figure_is_json_that_the_book_can_show(name, runs, narrow):
    fig = FIGURES[name](runs, WANTED, narrow=narrow)
    figure = as_json(fig)
    assert not problems(figure) and len(figure["layout"]["meta"]["alt"]) > 60
    assert (
        figure["layout"]["paper_bgcolor"]
        == figure["layout"]["plot_bgcolor"]
        == "rgba(0,0,0,0)"
    )
    assert "bdata" not in fig.to_json()  # phase.js reads plain lists
    tall = figure["layout"]["meta"]["narrow"]["height"] == figure["layout"]["height"]
    assert tall or not narrow
    assert figure["layout"]["meta"]["narrow"]["xaxis.domain"] == [0, 1]


def test_a_cell_has_the_mean_of_its_recorded_seeds_and_an_empty_one_nothing():
    l2, lrd = heats(phase_figure(RUNS, WANTED))
    np.testing.assert_allclose(np.array(l2.z[1][:2], float), 0.6)
    np.testing.assert_allclose(
        np.array(lrd.z[1], float), [(0.6 + 0.6 + 0.99) / 3, 0.99, 0.99], atol=1e-4
    )
    assert list(l2.z[0]) == [None, None, None] and l2.z[1][2] is None
    last = heats(phase_figure(RUNS, WANTED, value="final"))[1]
    assert last.z[0][2] is None  # diverged
    step = heats(phase_figure(RUNS, WANTED, value="step"))
    assert list(step[0].z[1]) == [None] * 3 and list(step[1].z[1]) == [400] * 3


def test_empty_cells_are_outlines_and_recorded_ones_are_filled_whatever_colour_means():
    fig = phase_figure(RUNS, WANTED, value="step")
    outlines = [
        t
        for t in fig.data
        if t.type == "scatter" and t.mode == "lines" and t.line.width == 1
    ]
    assert [sum(v is None for v in t.x) for t in outlines] == [4, 0]
    filled = [t for t in fig.data if t.type == "heatmap" and t.hoverinfo == "skip"]
    weak, strong = ([v is not None for v in row] for row in filled[0].z)
    assert weak == [False] * 3 and strong == [True, True, False]


def test_the_outline_of_an_empty_cell_stands_at_its_place():
    fig = phase_figure(RUNS, WANTED)
    l2 = scatters(fig, lambda t: t.mode == "lines" and t.line.width == 1)[0]
    corners = [np.array(xy).reshape(-1, 6)[:, :4].astype(float) for xy in (l2.y, l2.x)]
    rows, columns = (places.mean(1).round(6) for places in corners)
    assert set(zip(rows, columns, strict=True)) == {(0, 0), (0, 1), (0, 2), (1, 2)}


def test_a_label_of_an_axis_is_that_of_its_row_or_column():
    fractions = np.arange(0.3, 0.81, 0.05).round(2)
    layout = agreement_figure([], wanted(fractions=fractions)).layout
    x, y, best = layout.xaxis, layout.yaxis, frontier_figure(RUNS, WANTED).layout.xaxis
    assert len(x.tickvals) > 3
    assert [float(text) for text in x.ticktext] == [fractions[i] for i in x.tickvals]
    assert dict(zip(y.tickvals, y.ticktext, strict=True)) == {0: "1e-3", 1: "0.05"}
    said = dict(zip(best.tickvals, best.ticktext, strict=True))
    assert said == {0: "1e-3", 1: "0.05", 2: "best"}


def test_marks_say_which_cells_succeed_and_which_miss_seeds():
    fig = phase_figure(RUNS, WANTED)
    assert set(marks(fig, 0).values()) == {(None, "")}
    lrd = marks(fig, 1)
    for c, symbol in enumerate(("circle-open", "circle", "circle")):
        assert lrd[1, c] == (symbol, "")
    for c, symbol in enumerate((None, "circle", "x-thin-open")):
        assert lrd[0, c] == (symbol, "1/3")


def test_the_menu_changes_colours_and_nothing_else():
    fig = phase_figure(RUNS, WANTED)
    traces, layout, indices = fig.layout.updatemenus[0].buttons[2].args
    step = phase_figure(RUNS, WANTED, value="step")
    assert (
        layout["coloraxis.colorbar.title.text"] == step.layout.coloraxis.colorbar.title.text
    )
    for i, z, ink in zip(indices, traces["z"], traces["marker.color"], strict=True):
        if fig.data[i].type == "heatmap":
            assert ink is None and z == [list(row) for row in step.data[i].z]
        else:
            assert z is None and list(step.data[i].marker.color) == ink
    assert {ink_on(0.1), ink_on(0.9)} == {"#fff", "#111"}


def test_a_cell_says_all_when_pointed_at():
    l2, lrd = heats(phase_figure(RUNS, WANTED, command=command))
    for text, words in (
        (lrd.hovertext[1][0], "LRD, fraction 0.3, λ = 0.05"),
        (lrd.hovertext[1][0], "3 of 3 seeds"),
        (lrd.hovertext[1][0], "seed 2: first above 0.95 at step 400"),
        (lrd.hovertext[1][0], "test 0.99, 0.99"),
        (lrd.hovertext[1][0], "seed 0: never above 0.95"),
        (lrd.hovertext[1][0], "orbit-clean 0.6, 0.6"),
        (l2.hovertext[0][0], "seed 1: not recorded yet"),
        (l2.hovertext[0][0], "effective strength 1e-06"),
        (lrd.hovertext[0][2], "diverged"),
        (lrd.hovertext[0][2], "none"),
    ):
        assert words in text
    assert lrd.customdata[1][0] == "remake --rule lrd --fraction 0.3"
    silent = phase_figure(RUNS, WANTED, command=lambda config: None)
    assert heats(silent)[0].customdata[0][0] == ""


def test_the_curves_of_every_cell_travel_along():
    fig = phase_figure(RUNS, WANTED)
    phase = fig.layout.meta["phase"]
    assert phase["selected"] == [1, 0, 1]
    assert "<b>LRD</b><br>fraction 0.4" in fig.layout.annotations[phase["note"]].text
    lrd = {f"1,{row},{column}" for row in (0, 1) for column in range(3)}
    assert set(phase["curves"]) == {"0,1,0", "0,1,1"} | lrd
    assert [len(phase["curves"][key]) for key in ("0,1,0", "1,0,0")] == [3, 1]
    fields = {"rule": "lrd", "fraction": 0.3, "seed": 2}
    (run,) = [r for r in RUNS if fields.items() <= r.config.items()]
    slot, at, *texts = phase["curves"]["1,1,0"][2]
    assert slot == 2 and phase["steps"][at] == STEPS.tolist()
    for text, unit, name in zip(texts, phase["units"], CURVES, strict=True):
        digits = np.array([phase["digits"].index(digit) for digit in text])
        drawn = (64 * digits[::2] + digits[1::2]) / unit
        np.testing.assert_allclose(drawn, run.history[name], atol=0.51 / unit)
    # seed 1 of that cell has no run
    assert [len(t.x) for t in fig.data[phase["first"] :][:8]] == [5] * 4 + [0] * 4
    assert phase["curves"]["1,0,2"][0][2].endswith("~~")  # diverged


def test_the_cell_to_start_with_can_be_chosen():
    fig = phase_figure(RUNS, WANTED, selected={"rule": "l2", "fraction": 0.5})
    phase = fig.layout.meta["phase"]
    assert phase["selected"] == [0, 0, 2]
    assert "not recorded yet" in fig.layout.annotations[phase["note"]].text
    frame = fig.layout.shapes[phase["frame"]]
    assert (frame.x0, frame.y1, frame.xref) == (1.5, 0.5, "x")
    with pytest.raises(ValueError, match="selected must be fields of a wanted config"):
        phase_figure(RUNS, WANTED, selected={"fraction": 0.35})


def test_effective_strengths_put_rules_on_one_axis():
    lr = 0.01
    matched = wanted(("l2", "lrd"), strengths=(0.1, 1.0), mode="decoupled", lr=lr)
    matched += [
        TrainConfig(rule="elastic", weight_decay=s / 2, l2=s / 2, mode="decoupled", lr=lr)
        for s in (0.1, 1.0)
    ]
    fig = phase_figure([], matched, axis="effective")
    assert fig.layout.meta["phase"]["rows"] == ["1e-3", "0.01"]
    rows = phase_figure([], matched).layout.meta["phase"]["rows"]
    assert rows == ["0.05", "0.1", "0.5", "1"]
    close = [TrainConfig(weight_decay=s) for s in (0.01, 0.010001)]
    with pytest.raises(ValueError, match="axis must tell the cells of LRD apart"):
        phase_figure([], close)


def test_agreement_counts_seeds_and_frames_where_they_differ():
    fig = agreement_figure(RUNS, WANTED)
    texts = [t for t in fig.data if t.type == "scatter" and t.mode == "text"]
    lrd = dict(zip(zip(texts[1].y, texts[1].x, strict=True), texts[1].text, strict=True))
    assert [lrd[0, column] for column in range(3)] == ["0/1", "1/1", "0/1"]
    assert [lrd[1, column] for column in range(3)] == ["1/3", "3/3", "3/3"]
    assert len(texts[0].text) == 2  # recorded cells only
    (frame,) = fig.layout.shapes
    assert (frame.x0, frame.y0, frame.xref) == (-0.5, 0.5, "x2")
    assert "Seeds disagree in 1 of the 5 cells" in fig.layout.meta["alt"]


def test_frontiers_are_drawn_full_only_where_nothing_is_missing():
    fig = frontier_figure(RUNS, WANTED)
    l2, lrd = [t for t in fig.data if t.hovertext is not None]
    # L2: no row at the small strength; at the other and at the best, fraction 0.5 has no
    # run
    assert [round(x) for x in l2.x] == [1, 2] and set(l2.marker.symbol) == {"circle-open"}
    assert list(lrd.y) == pytest.approx([0.4, 0.4, 0.4])
    assert set(lrd.marker.symbol) == {"circle"}
    l2_whole, l2_part, whole, part = [t for t in fig.data if t.error_y.color]
    assert [round(x) for x in whole.x] == [1]
    assert [round(x) for x in part.x] == [2]  # of one seed at 0 there is none
    assert whole.error_y.array == (0.0,) and part.opacity < 1
    assert whole.error_y.arrayminus == pytest.approx((0.1,))
    assert not l2_whole.x and len(l2_part.x) == 2
    assert "0.5 to never" in l2.hovertext[0] and "one seed: no interval" in lrd.hovertext[0]
    alt = fig.layout.meta["alt"]
    assert "L2 0.3 to never" in alt and "LRD 0.4 (bootstrap over 3 seeds" in alt
    assert fig.layout.yaxis.ticktext[-1] == "never"


def test_single_seeds_are_dots_where_nothing_is_missing_of_them():
    fig = frontier_figure(RUNS, WANTED)
    l2, lrd = scatters(fig, lambda t: t.marker.size == SEED["size"])
    assert l2.x == ()  # each seed's is known between two bounds only
    found = sorted(zip(map(round, lrd.x), lrd.y, strict=True))
    assert found == [(1, 0.3), (1, 0.4), (1, 0.4), (2, 0.3), (2, 0.4)]


def test_bounds_are_dotted_and_only_settled_frontiers_are_joined():
    fig = frontier_figure(RUNS, WANTED)
    l2, lrd = scatters(fig, lambda t: t.mode == "lines" and t.line.dash == "dot")
    never = fig.layout.yaxis.tickvals[-1]
    assert never > 0.5
    # at the small strength L2 has no record
    assert l2.y == (0.5, never, None, 0.3, never, None) and lrd.y == ()
    l2, lrd = scatters(fig, lambda t: t.mode == "lines" and t.line.dash is None)
    assert l2.x == () and [round(x) for x in lrd.x] == [0, 1]  # not to the best
    assert lrd.y == (0.4, 0.4)


def test_a_bar_goes_from_its_frontier_to_both_ends_of_its_interval():
    """Of three seeds that succeed from 0.3, 0.4 and 0.5 on: a frontier of 0.4."""
    configs = wanted(("lrd",), strengths=(0.05,))
    runs = [run_of(c, 0.99 if c.fraction > 0.25 + 0.1 * c.seed else 0.6) for c in configs]
    (bars,) = scatters(frontier_figure(runs, configs), lambda t: bool(t.error_y.array))
    assert set(bars.y) == {0.4}
    assert bars.error_y.array == pytest.approx([0.1] * 2)
    assert bars.error_y.arrayminus == pytest.approx([0.1] * 2)


def test_the_bar_of_an_unsettled_frontier_stands_on_its_mark():
    fig = frontier_figure(RUNS, WANTED)
    mark = scatters(fig, lambda t: t.hovertext is not None)[0]
    bars = scatters(fig, lambda t: t.error_y.color and t.opacity < 1)[0]
    assert (bars.x, bars.y) == (mark.x, mark.y)


def test_pointed_at_a_frontier_says_both_bounds_of_each_seed():
    l2, lrd = scatters(frontier_figure(RUNS, WANTED), lambda t: t.hovertext is not None)
    assert "seed 0: 0.5 to never" in l2.hovertext[0]
    assert "seed 1: 0.4<br>seed 2: 0.3" in lrd.hovertext[1]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_panels_side_by_side_fill_the_width_and_leave_a_gap(n):
    layouts = side_by_side(n, 100)
    for members, _ in layouts:
        assert members[0][1] == 0
        for (_, _, end), (_, start, _) in pairwise(members):
            assert start - end == pytest.approx(0.04)
    assert layouts[0][0][-1][2] == pytest.approx(1)


def test_many_panels_of_frontiers_are_split_by_setting():
    many = [c for lr in (1e-3, 3e-3, 1e-2) for c in wanted(lr=lr)]
    fig = frontier_figure([run_of(c) for c in many], many)
    assert [note.text for note in fig.layout.annotations] == [
        f"<b>lr {lr}</b>" for lr in (0.001, 0.003, 0.01)
    ]
    assert [t.name for t in fig.data if t.showlegend is not False][:2] == ["L2", "LRD"]


def test_the_whole_grid_of_the_paper_stays_small():
    fractions = np.arange(0.3, 0.81, 0.05).round(2)
    strengths = (1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2)
    whole = wanted(("l2", "lrd", "elastic"), fractions, strengths)
    runs = [run_of(c, steps=np.arange(0, 3001, 100), noise=0.02) for c in whole]
    fig = phase_figure(runs, whole, command=command)
    assert len(fig.layout.meta["phase"]["curves"]) == 198
    assert len(fig.to_json()) < 400_000


@pytest.mark.parametrize(
    "draw, word",
    [
        (
            lambda: phase_figure(RUNS, WANTED, value="mean"),
            "value must be one of 'best', 'final', 'step'",
        ),
        (
            lambda: phase_figure(RUNS, WANTED, metric="step"),
            "metric must be one of 'test_accuracy'",
        ),
        (
            lambda: agreement_figure(RUNS, WANTED, axis="lr"),
            "axis must be one of 'weight_decay', 'effective'",
        ),
        (lambda: frontier_figure(RUNS, []), "at least one TrainConfig"),
        (lambda: phase_figure(RUNS, WANTED, above=np.nan), "above must be .*got nan"),
        (lambda: frontier_figure(RUNS, WANTED, seed=-1), "seed must be .*got -1"),
        (lambda: phase_figure([bare(WANTED[0])], WANTED), "runs must hold the histories"),
    ],
)
def test_bad_input_is_one_clear_error(draw, word):
    with pytest.raises(ValueError, match=word):
        draw()


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize(
    ("args", "options", "word"),
    [
        ((None, WANTED), {}, "runs must be Runs, got NoneType"),
        ((RUNS, None), {}, "wanted must hold TrainConfigs, got NoneType"),
        ((["run.npz"], WANTED), {}, "runs must be Runs, got str"),
        ((RUNS, WANTED), {"above": "0.95"}, "above must be .*got '0.95'"),
        ((RUNS, WANTED), {"narrow": None}, "narrow must be .*got None"),
    ],
)
def test_an_argument_of_another_kind_is_a_type_error(draw, args, options, word):
    with pytest.raises(TypeError, match=word):
        draw(*args, **options)


def test_a_command_is_a_function_and_a_selection_a_dict():
    with pytest.raises(TypeError, match="command must be a function, got 'remake'"):
        phase_figure(RUNS, WANTED, command="remake")
    with pytest.raises(TypeError, match="selected must be a dict of fields, got 'lrd'"):
        phase_figure(RUNS, WANTED, selected="lrd")


# ---- in a browser


CELL = """([panel, row, column]) => {
    const plot = document.querySelector(".lrd-plot");
    const {xaxis: x, yaxis: y} = plot._fullLayout._plots[panel];
    const box = plot.getBoundingClientRect();
    return [box.x + x._offset + x.l2p(column), box.y + y._offset + y.l2p(row)];
}"""
DRAWN = """() => {
    const {data, layout} = document.querySelector(".lrd-plot"), {phase} = layout.meta;
    const curves = data.slice(phase.first, phase.first + 12);
    return [layout.annotations[phase.note].text, ...curves.map(({y}) => y.length)];
}"""


PEEK = """() => {
    const card = document.querySelector(".lrd-peek");
    const {right, bottom} = card.getBoundingClientRect();
    const {left, top} = card.parentElement.getBoundingClientRect();
    const inside = card.offsetLeft >= 0 && card.offsetTop >= 0 && right <= innerWidth;
    return card.hidden ? null : {inside, words: card.innerText, curves:
        [...card.querySelectorAll("polyline")].map((line) => line.getAttribute("points"))};
}"""


def peeked(page) -> tuple[str, list[np.ndarray]]:
    """The words of the card beside a cell, and the values of its curves: of each seed test,
    orbit-clean and train accuracy, then of each seed the rank."""
    card = page.evaluate(PEEK)
    assert card["inside"]
    axis = np.array([76.0, 18.0])  # where 0 and the highest value are in a chart
    found = []
    for points in card["curves"]:
        y = np.array([float(point.split(",")[1]) for point in points.split()])
        found.append((axis[0] - y) / (axis[0] - axis[1]))
    return card["words"], found


def assert_plays(page, title, runs):
    """The card has this title and the curves of these runs, to a twentieth of a pixel."""
    words, curves = peeked(page)
    assert words.startswith(title)
    names = ("test_accuracy", "orbit_clean_accuracy", "train_accuracy")
    expected = [run.history[name] for run in runs for name in names]
    highest = max(run.history["qk_stable_rank"].max() for run in RUNS)
    expected += [run.history["qk_stable_rank"] / highest for run in runs]
    assert len(curves) == len(expected)
    for curve, values in zip(curves, expected, strict=True):
        np.testing.assert_allclose(curve, values, atol=2e-3)


def runs_at(rule, fraction, strength):
    wish = {"rule": rule, "fraction": fraction, "weight_decay": strength}
    found = [run for run in RUNS if wish.items() <= run.config.items()]
    return sorted(found, key=lambda run: run.config["seed"])


BACK = """(node) => node.dispatchEvent(new KeyboardEvent("keydown",
    {key: "ArrowLeft", altKey: true, bubbles: true, cancelable: true}))"""


def look_into_cells(page):
    """Cells under the mouse, the keyboard and a finger."""
    page.mouse.move(*page.evaluate(CELL, ["xy", 1, 0]))
    assert_plays(page, "L2, fraction 0.3, λ = 0.05", runs_at("l2", 0.3, 0.05))
    assert page.locator(".hoverlayer").evaluate(
        "(one) => getComputedStyle(one).display"
    ) == ("none")
    page.keyboard.press("Escape")
    assert page.evaluate(PEEK) is None
    page.mouse.move(*page.evaluate(CELL, ["x2y2", 1, 1]))
    assert page.evaluate(PEEK)["words"].startswith("LRD")
    page.mouse.move(2, 2)
    assert page.evaluate(PEEK) is None

    grip = page.get_by_role("slider", name="cell of the diagram")
    for key in ("End", "Home", "ArrowUp"):  # in the panel of LRD
        grip.press(key)
    assert_plays(page, "LRD, fraction 0.3, λ = 0.05", runs_at("lrd", 0.3, 0.05))
    assert grip.evaluate(BACK)  # Alt and an arrow are the browser's
    assert_plays(page, "LRD, fraction 0.3, λ = 0.05", runs_at("lrd", 0.3, 0.05))
    grip.press("ArrowLeft")  # over its edge into the other, where nothing is recorded
    assert peeked(page)[0].startswith("L2, fraction 0.5, λ = 0.05")
    assert peeked(page)[1] == []
    assert "seed 2: not recorded yet" in grip.get_attribute("aria-valuetext")
    grip.press("Enter")
    assert page.evaluate(DRAWN)[0] == (
        "<b>L2</b> — not recorded yet<br>fraction 0.5, λ = 0.05"
    )
    grip.press("Tab")
    assert page.evaluate(PEEK) is None


# The colour of each seed's curves.
INKS = """() => {
    const {data, layout} = document.querySelector(".lrd-plot");
    const {first, seeds, units} = layout.meta.phase;
    const of = (slot) => data.slice(first + slot * units.length, first + (slot + 1) * units.length);
    return seeds.map((_, slot) => [...new Set(of(slot).map(({line}) => line.color))].join());
}"""


def shades_of(rule):
    """A colour for each of three seeds, all of them its rule's."""
    return rule_colours([{"rule": rule, "weight_decay": 0.05}] * 3)


def tap(page, x, y):
    touch = page.context.new_cdp_session(page)
    touch.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_a_click_and_a_choice_draw_the_curves_of_a_cell(chromium, tmp_path):
    from browser import PHONE, serve, visit

    fig = phase_figure(RUNS, WANTED, command=command)
    write_page(fig, tmp_path / "page.html", title="Phase <diagram>")
    missing = "<b>L2</b> — not recorded yet<br>fraction 0.3, λ = 1e-3"
    with serve(tmp_path) as site, visit(chromium, f"{site}/page.html") as seen:
        page = seen.page
        assert page.title() == "Phase <diagram>"
        assert "Point at a cell" in page.locator(".lrd-choices").inner_text()
        look_into_cells(page)
        page.mouse.click(*page.evaluate(CELL, ["xy", 1, 0]))
        page.wait_for_function(
            "document.querySelector('[role=status]').innerText.includes('L2, fraction 0.3')"
        )
        assert page.evaluate(DRAWN) == ["<b>L2</b><br>fraction 0.3, λ = 0.05"] + [5] * 12
        assert page.locator("code").inner_text() == "remake --rule l2 --fraction 0.3"
        assert page.evaluate(INKS) == shades_of("l2")
        page.get_by_role("combobox", name="rule").select_option("LRD")
        page.get_by_role("combobox", name="λ").select_option("1e-3")
        assert page.evaluate(INKS) == shades_of("lrd")
        one_seed = [5] * 4 + [0] * 8
        assert page.evaluate(DRAWN) == ["<b>LRD</b><br>fraction 0.3, λ = 1e-3", *one_seed]
        page.get_by_role("combobox", name="rule").select_option("L2")
        assert page.evaluate(DRAWN) == [missing] + [0] * 12
        assert "seed 0: not recorded yet" in page.locator("[role=status]").inner_text()
        page.get_by_role("combobox", name="what colour means").select_option("2")
        reversed_scale = "document.querySelector('.lrd-plot').layout.coloraxis.reversescale"
        assert page.evaluate(reversed_scale) is True
        page.set_viewport_size(PHONE)
        page.wait_for_function(
            "document.querySelector('.lrd-plot').layout.xaxis2.domain[0] === 0"
        )
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for choice in page.locator("select").all():
            assert choice.evaluate(
                "(select) => select.getBoundingClientRect().right <= innerWidth"
            )
        assert page.evaluate(DRAWN)[0] == missing
        page.evaluate("scrollTo(0, 0)")
        tap(page, *page.evaluate(CELL, ["xy", 1, 1]))
        page.wait_for_function("!document.querySelector('.lrd-peek').hidden")
        assert_plays(page, "L2, fraction 0.4, λ = 0.05", runs_at("l2", 0.4, 0.05))
        tap(page, 5, 5)
        page.wait_for_function("document.querySelector('.lrd-peek').hidden")
        page.set_viewport_size({"width": 900, "height": 700})
        page.wait_for_function(
            "document.querySelector('.lrd-plot').layout.xaxis2.domain[0] > 0.4"
        )
        assert seen.errors == []


def test_under_a_finger_arrows_go_from_cell_to_cell(chromium, tmp_path):
    from browser import PHONE, serve

    write_page(phase_figure(RUNS, WANTED), tmp_path / "page.html", title="Phase diagram")
    with serve(tmp_path) as site:
        context = chromium.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
        page = context.new_page()
        page.goto(f"{site}/page.html")
        page.locator(".lrd-plot").tap()
        page.locator(".lrd-plot[data-drawn]").wait_for()
        choices = {name: page.get_by_role("combobox", name=name) for name in ("rule", "λ")}
        choices["rule"].select_option("LRD")
        choices["λ"].select_option("1e-3")
        page.get_by_role("combobox", name="fraction").select_option("0.3")
        page.get_by_role("button", name="one cell up").tap()
        assert "LRD, fraction 0.3, λ = 0.05" in page.locator("[role=status]").inner_text()
        page.get_by_role("button", name="one cell left").tap()  # into the next panel
        assert page.evaluate(DRAWN)[0].startswith("<b>L2</b>")
        context.close()


def test_a_page_needs_words_for_those_who_cannot_see_it(tmp_path):
    fig = agreement_figure([], WANTED).update_layout(meta=None)
    with pytest.raises(ValueError, match="no text for readers who cannot see it"):
        write_page(fig, tmp_path / "page.html", title="none")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_page_is_written_at_once_or_not_at_all(tmp_path, monkeypatch, step):
    def refuse(*_):
        raise OSError("the disk refuses")

    path = write_page(agreement_figure([], WANTED), tmp_path / "page.html", title="old")
    old = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.raises(OSError, match="the disk refuses"):
            write_page(agreement_figure(RUNS, WANTED), path, title="new")
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]
    write_page(agreement_figure(RUNS, WANTED), path, title="new")
    assert b"<title>new</title>" in path.read_bytes() and list(tmp_path.iterdir()) == [path]


def test_what_is_no_figure_path_or_title_is_a_type_error(tmp_path):
    fig = agreement_figure([], WANTED)
    for args, title, word in (
        (
            (None, tmp_path / "page.html"),
            "none",
            "fig must be a plotly Figure, got NoneType",
        ),
        ((fig, None), "none", "path must be a str or a Path, got None"),
        ((fig, tmp_path / "page.html"), None, "title must be a str, got NoneType"),
    ):
        with pytest.raises(TypeError, match=word):
            write_page(*args, title=title)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("alt", "error"), [(" ", ValueError), (None, TypeError)])
def test_a_phase_figure_says_what_it_shows_as_every_figure_does(alt, error):
    with pytest.raises(error, match="alt must"):
        finish(go.Figure(), alt, {}, {})
