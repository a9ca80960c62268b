"""What recorded runs give, row by row, against a plain computation from the files."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_studies import answered, random_outcome

from lrdlib.evidence.grids import published
from lrdlib.evidence.results import ROWS, Row, as_table, label, markdown_table, results
from lrdlib.evidence.studies import (
    ARMS,
    OUTCOME,
    SEEDS,
    STUDIES,
    WORTH,
    Trial,
    arm,
    first_choice,
    first_trials,
    generalised,
    made,
    none,
    part,
)
from lrdlib.evidence.survival import Ratio
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.packs import load_runs
from lrdlib.training.runs import Run
from lrdlib.training.sweep import expand

RECORDED = Path(__file__).parent.parent / "book" / "runs" / "sweep" / "packs"


@pytest.fixture(scope="module")
def files():
    """All recorded runs, as they lie in the files."""
    return [run for path in sorted(RECORDED.glob("*.npz")) for run in load_runs(path)]


@pytest.fixture(scope="module")
def runs(files):
    return {TrainConfig(**run.config): run for run in files}


def slow_T(run):
    """T_gen, record by record."""
    y, steps = run.history[OUTCOME].tolist(), run.history["step"].tolist()
    for i in range(len(y) - 1):
        if y[i] > 0.95 and y[i + 1] > 0.95:
            return steps[i]
    return math.inf


def slow_unstable(run):
    y, steps = run.history[OUTCOME].tolist(), run.history["step"].tolist()
    later = [value for value, step in zip(y, steps, strict=True) if step > slow_T(run)]
    return sum(value < 0.95 for value in later) / len(later)


# the plan's choices, as fields of a config
A1 = {"rule": "l2", "l2_on": "all", "weight_decay": 1.2, "lr": 1e-2}
A3 = {"rule": "lrd", "weight_decay": 0.0, "l2": 16.6667, "lr": 3e-3}
A5 = {"rule": "lrd", "weight_decay": 8.33333, "l2": 8.33333, "lr": 3e-3}
R = {"rule": "lrd", "part": "radial", "weight_decay": 20.0, "lr": 1e-3, "hold": "none"}
FROZEN = {"rule": "none", "attention": "frozen"}
AT = [
    ("E1", "L2 on all, t 0.012, lr 0.01", 0.3, A1),
    ("E1", "L2 on all but the blocks, t 0.05, lr 0.003", 0.4, A3),
    ("E1", "LRD on the blocks, L2 on the rest, t 0.025, lr 0.003", 0.5, A5),
    ("E2", "LRD on the blocks, radial part, t 0.02, lr 0.001", 0.3, R),
    ("E3", "no decay, attention frozen, lr 0.001", 0.4, FROZEN),
]


def slow_runs(files, fraction, fields):
    """The judging runs of an arm by seed: those with these fields, all else at the base
    setting, where a field that came after them is too."""
    now = plain(none(fraction=fraction))
    base = now | fields
    return {
        run.config["seed"]: run
        for run in files
        if now | run.config == base | {"seed": run.config["seed"]}
        and run.config["seed"] not in (500, 501, 502, 503)
    }


@pytest.mark.parametrize(
    "study, name, fraction, fields", AT, ids=[f"{a[0]}-{a[1]}" for a in AT]
)
def test_a_row_is_what_the_files_give(files, runs, study, name, fraction, fields):
    own, other = slow_runs(files, fraction, fields), slow_runs(files, fraction, A1)
    assert len(own) == (20 if study == "E1" else 8) and len(other) == 20
    (row,) = [r for r in results(study, runs) if (r.arm, r.fraction) == (name, fraction)]
    T = {seed: slow_T(run) for seed, run in own.items()}
    times = sorted(min(t, 3000) for t in T.values())
    assert row.n == len(own) and row.won == sum(t < math.inf for t in T.values())
    assert row.median == (times[(len(times) - 1) // 2] + times[len(times) // 2]) / 2
    assert row.rmst == pytest.approx(sum(times) / len(times), rel=1e-12)
    shaky = [slow_unstable(run) for run in own.values() if slow_T(run) < math.inf]
    if shaky:
        assert row.unstable == pytest.approx(sum(shaky) / len(shaky), rel=1e-12)
    else:
        assert math.isnan(row.unstable)
    for group, value in (("qk", row.qk), ("vo", row.vo)):
        ranks = [run.history[f"{group}_stable_rank"].tolist() for run in own.values()]
        shares = [rank[-1] / rank[0] for rank in ranks]
        assert value == pytest.approx(sum(shares) / len(shares), rel=1e-6)
    if fields is A1:  # against itself
        assert row.ratio is None
        return
    there = [min(slow_T(other[seed]), 3000) for seed in T]
    assert row.ratio.value == pytest.approx(sum(times) / sum(there), rel=1e-12)
    assert row.ratio.low < row.ratio.value < row.ratio.high and row.ratio.level == 0.95


def test_the_rows_are_the_arms_at_their_fractions(runs):
    """Judging seeds only, in the order of fractions, each arm once at each."""
    count = {"E0": 12 * 6, "E2": 7 * 3, "E3": 10}
    for study, n in count.items():
        rows = results(study, runs)
        assert len(rows) == n == len({(row.arm, row.fraction) for row in rows})
        assert [row.fraction for row in rows] == sorted(row.fraction for row in rows)
        assert all(row.n == (3 if study == "E0" else 8) for row in rows)
    with pytest.raises(ValueError, match=r"study must be one of .*, got 'E11'"):
        results("E11", runs)


def test_nothing_recorded_gives_no_rows():
    assert results("E1", {}) == [] and as_table([]).count("\n") == 1


# ---- on runs made by hand


def fake(config, T, rank=0.5):
    """A run of three records that generalises at step T, a third of its steps, or never."""
    steps = np.arange(4) * (config.steps // 3)
    high = steps >= T
    history = {"step": steps, OUTCOME: np.where(high, 1.0, 0.0)}
    for group in ("qk", "vo"):
        history[f"{group}_stable_rank"] = np.array([8.0, 1.0, 1.0, 8 * rank])
    return Run(plain(config), history, {}, {}, {})


@pytest.fixture(scope="module")
def tuned():
    """Fake runs: E1's first tuning of A1, which chooses the smallest strength; and its
    judging runs at f = 0.4, half of which generalise."""
    configs = [c for several in first_trials("A1").values() for c in several]
    runs = {c: fake(c, math.inf) for c in configs}
    for seed in SEEDS[:8]:
        c = arm(Trial("A1", 1e-3, 3e-3), fraction=0.4, seed=seed)
        runs[c] = fake(c, 1000 if seed % 2 else math.inf)
    return runs


def test_long_runs_are_not_compared_with_short_ones(tuned):
    """A1 was followed to step 3000; what it does until 30,000 nobody knows."""
    long = {c: fake(c, 10_000) for c in STUDIES["E4"].configs({})}
    rows = results("E4", tuned | long)
    assert len(rows) == 14 and all(row.ratio is None for row in rows)
    assert all((row.n, row.won, row.rmst) == (3, 3, 10_000) for row in rows)


def test_other_tasks_are_not_compared_with_addition(tuned):
    other = {c: fake(c, 1000) for c in STUDIES["E8"].configs({})}
    best = {c: fake(c, 1000) for c in STUDIES["E8"].configs(dict.fromkeys(other, 0.0))}
    rows = results("E8", tuned | best | other)
    assert len(rows) == 8 and all(row.ratio is None and row.n == 3 for row in rows)
    assert {row.arm.split(", ")[-3] for row in rows} == {"mul", "sub"}


def test_a_ratio_needs_three_seeds_that_both_have_and_a_difference(tuned):
    def ratios(seeds, T):
        frozen = [none(fraction=0.4, seed=s, attention="frozen") for s in seeds]
        rows = results("E3", tuned | {c: fake(c, T(c.seed)) for c in frozen})
        return [row.ratio for row in rows if "frozen" in row.arm]

    def alike(seed):
        return 1000 if seed % 2 else math.inf

    assert ratios(SEEDS[:2], lambda seed: 0) == [None]
    assert ratios(SEEDS[:8], alike) == [None]
    (ratio,) = ratios(SEEDS[:3], lambda seed: 1000)
    assert ratio.value == pytest.approx(3 * 1000 / (3000 + 1000 + 3000))
    (ratio,) = ratios(SEEDS[:8], lambda seed: math.inf)
    assert ratio.value == pytest.approx(3000 / 2000)


def test_ranks_and_instability_by_hand(tuned):
    c = none(fraction=0.4, seed=1000)
    run = fake(c, 1000, rank=0.25)
    run.history[OUTCOME][-1] = 0.5  # after T_gen 1000: one of two records below
    (row,) = [r for r in results("E3", tuned | {c: run}) if "no decay" in r.arm]
    assert (row.n, row.won, row.median, row.rmst) == (1, 1, 1000, 1000)
    assert (row.qk, row.vo, row.unstable, row.ratio) == (0.25, 0.25, 0.5, None)


# ---- in words


def test_every_two_arms_of_a_study_have_labels_of_their_own():
    """Also tuning runs, which have no row: a label says which run it is but for the seed."""
    known, _ = answered(WORTH, random_outcome(2))
    for study in STUDIES.values():
        arms = {replace(c, seed=0) for c in study.configs(known)}
        assert len({(label(c), c.fraction) for c in arms}) == len(arms)


IN_WORDS = {
    "L2 on all, t 0.012, lr 0.01": arm(Trial("A1", 1e-2, 1.2e-2)),
    "L2 on the blocks, t 0.003, lr 0.001": arm(Trial("A2", 1e-3, 3e-3)),
    "L2 on all but the blocks, t 0.05, lr 0.003": arm(Trial("A3", 3e-3, 5e-2)),
    "LRD on the blocks, t 0.4, lr 0.003": arm(Trial("A4", 3e-3, 0.4)),
    "LRD on the blocks, L2 on the rest, t 0.1, lr 0.01": arm(Trial("A5", 1e-2, 0.1)),
    "LRD on the blocks and L2 on all, half each, t 0.012, lr 0.003": arm(
        Trial("A6", 3e-3, 1.2e-2)
    ),
    "LRD on the blocks, tangential part, norms held, t 0.02, lr 0.001": part(
        "T-held", 0.02
    ),
    "no decay, norms held, lr 0.001": none(hold="norm"),
    "no decay, norms of Q and K held, lr of Q and K scheduled, lr 0.001": none(
        hold="qk", qk_rates=(1.0, 2.0)
    ),
    "no decay, attention uniform, lr 0.001": none(attention="uniform"),
    "no decay, Q and K flat, lr 0.001": none(rank="flat"),
    "no decay, Q and K of rank 16, lr 0.001": none(rank=16),
    "no decay, sgd, lr 0.1": none(optimizer="sgd", lr=0.1),
    "LRD on Q and K, after memorising, optimiser x 0.1 from then on, t 0.1, lr 0.003": arm(
        Trial("A4", 3e-3, 0.1), select="qk", decay_after=500, late_gradient=0.1
    ),
    "LRD on the blocks, per head, t 0.02, lr 0.001": part("R+T", 0.02, per_head=True),
    "L2 on embedding and head, t 0.03, lr 0.001": made(
        {"rule": "l2", "weight_decay": 30.0, "mode": "decoupled", "l2_on": "selected"}
        | {"select": "embedding+head"}
    ),
    "LRD on Q and K, L2 on the rest, lambda 0.05, lr 0.001": replace(
        next(c for c in expand(*published()) if c.rule == "lrd"), weight_decay=0.05
    ),
}


@pytest.mark.parametrize("words", IN_WORDS)
def test_an_arm_in_words(words):
    assert label(IN_WORDS[words]) == words


def test_the_table_is_markdown_with_a_cell_for_each_column():
    rows = [
        Row(
            "A",
            0.25,
            8,
            3,
            2500.0,
            2345.6,
            Ratio(1.234, 0.5, 2.0, 0.95),
            0.123,
            0.9,
            0.5,
            1,
        ),
        Row("B", 0.4, 2, 0, 3000.0, 3000.0, None, math.nan, 0.1, 0.05, 0.5),
        Row("C", 0.4, 3, 0, 1.0, 1.0, Ratio(2.0, math.nan, math.nan, 0.95), 0.0, 1, 1, 1),
    ]
    lines = as_table(rows).splitlines()
    assert lines[0] == f"| {' | '.join(ROWS)} |"
    assert (
        lines[2]
        == "| A | 0.25 | 8 | 3 | 2500 | 2346 | 1.23 [0.50, 2.00] | 0.12 | 0.90 | 0.50 | 1.00 |"
    )
    assert lines[3] == "| B | 0.4 | 2 | 0 | 3000 | 3000 | - | - | 0.10 | 0.05 | 0.50 |"
    assert lines[4] == "| C | 0.4 | 3 | 0 | 1 | 1 | 2.00 | 0.00 | 1.00 | 1.00 | 1.00 |"
    assert {line.count("|") for line in lines} == {len(ROWS) + 1}


def test_what_is_chosen_is_compared_with(runs):
    """The arm that the ratio is to is E1's first choice of A1, on the recorded runs."""
    known = {c: generalised(run) for c, run in runs.items()}
    chosen = label(arm(first_choice("A1", known)))
    assert chosen == "L2 on all, t 0.012, lr 0.01"
    own = [row for row in results("E1", runs) if row.arm == chosen]
    assert len(own) == 6 and all(row.ratio is None for row in own)
    others = [row for row in results("E1", runs) if row.arm != chosen]
    compared = [row for row in others if row.n > 2]  # fewer seeds have no ratio
    assert len(compared) >= 6 * (len(ARMS) - 1) and all(row.ratio for row in compared)


def cells(line):
    """What Markdown takes for the cells of a line."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@given(
    st.lists(st.lists(st.text("ab |$λ", max_size=5), min_size=2, max_size=2), max_size=4)
)
def test_every_text_is_a_cell_of_its_own(rows):
    lines = markdown_table(["n", "size"], rows).splitlines()
    assert cells(lines[0]) == ["n", "size"] and lines[1] == "| --- | --- |"
    assert [cells(line) for line in lines[2:]] == [
        [cell.strip() for cell in row] for row in rows
    ]


def test_a_table_without_rows_is_its_head():
    assert markdown_table(["n"], []) == "| n |\n| --- |"


@pytest.mark.parametrize("row", [[], ["1"], ["1", "2", "3"]])
def test_a_row_has_a_cell_for_each_head(row):
    with pytest.raises(ValueError, match=f"rows must have 2 cells each, got {len(row)} in"):
        markdown_table(["n", "size"], [["1", "2"], row])
