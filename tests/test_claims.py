"""The claims: each verdict from made-up runs that settle it one way or the other, and the table from any evidence."""

import numpy as np
import pytest

from lrdlib.claims import CLAIMS, VERDICTS, Evidence, cards, findings, table
from lrdlib.config import plain
from lrdlib.grids import GRIDS, STRENGTHS
from lrdlib.runs import Run
from lrdlib.sweep import expand

WANTED = {name: expand(*GRIDS[name]()) for name in ("paper", "published", "fair")}
STEPS = np.arange(0, 3001, 100)


def made(config, groks=None, rank=(32.0, 32.0), halves=None):
    """A run whose accuracy jumps to 1 at step `groks`, and whose rank goes from one value to the other at `halves`."""
    accuracy = (STEPS >= np.inf if groks is None else STEPS >= groks).astype(float)  # noqa: SIM300
    ranks = np.where(STEPS >= (halves or 0), rank[1], rank[0])  # noqa: SIM300
    ranks[0] = rank[0]
    names = ("test_accuracy", "orbit_clean_accuracy")
    history = {"step": STEPS, "qk_stable_rank": ranks, "train_accuracy": np.ones(len(STEPS))}
    return Run(plain(config), history | dict.fromkeys(names, accuracy), {}, {}, {})


def judged(name, make):
    """The finding of one claim, where make(preset, config) is a run, or None for one that is not recorded."""
    runs = {}
    for preset, configs in WANTED.items():
        runs |= {config: run for config in configs if (run := make(preset, config)) is not None}
    (claim,) = [claim for claim in CLAIMS if claim.name == name]
    return claim.judge(Evidence(WANTED, runs))


def test_nothing_recorded_settles_nothing():
    found = findings(Evidence(WANTED, {}))
    assert {finding.verdict for _, finding in found} == {"not settled"}
    assert len({claim.name for claim, _ in found}) == len(CLAIMS)


def by_rule(lrd, l2):
    """LRD groks from the fraction `lrd` on, L2 from `l2` on, at every strength."""

    def make(preset, c):
        start = {"lrd": lrd, "l2": l2}.get(c.rule, 2.0)
        return made(c, 1000 if c.fraction >= start else None)

    return make


@pytest.mark.parametrize("name", ["wider-independent", "wider-decoupled", "wider-published", "tuned"])
@pytest.mark.parametrize(
    ("lrd", "l2", "verdict"),
    [(0.3, 0.5, "holds"), (0.5, 0.3, "does not hold"), (0.4, 0.4, "does not hold"), (2, 2, "does not hold")],
)
def test_who_needs_less_data(name, lrd, l2, verdict):
    found = judged(name, by_rule(lrd, l2))
    assert found.verdict == verdict
    assert ("at no fraction" in found.effect) == (lrd == 2)


def test_more_cells_from_the_same_fraction_hold_in_part():
    def make(preset, c):
        start = 0.4 if c.rule == "lrd" or c.weight_decay == 5e-2 else 2.0
        return made(c, 1000 if c.fraction >= start else None)

    assert judged("wider-independent", make).verdict == "holds in part"


def test_one_seed_of_every_cell_is_enough_and_fewer_cells_are_not():
    def some(strengths):
        def make(preset, c):
            run = by_rule(0.3, 2)(preset, c)
            return run if c.seed == 0 and c.weight_decay in strengths else None

        return make

    assert judged("wider-independent", some(STRENGTHS)).verdict == "holds"
    found = judged("wider-independent", some(STRENGTHS[:3]))  # the missing strengths of L2 could be better
    assert found.verdict == "not settled" and "at no fraction recorded so far" in found.effect
    assert judged("wider-independent", some(STRENGTHS[:2])).verdict == "not settled"


@pytest.mark.parametrize(
    ("where", "verdict"),
    [
        (lambda c: c.fraction >= 0.6 and c.weight_decay >= 5e-3, "holds"),
        (lambda c: c.fraction >= 0.5, "holds in part"),
        (lambda c: False, "does not hold"),
    ],
)
def test_where_l2_succeeds(where, verdict):
    found = judged("upper-right", lambda preset, c: made(c, 500 if where(c) else None))
    assert found.verdict == verdict


@pytest.mark.parametrize(("ratio", "faster", "much"), [(0.5, 0, 0), (2, 1, 0), (20, 1, 1)])
def test_who_is_faster(ratio, faster, much):
    def make(preset, c):
        return made(c, 100 if (c.rule == "lrd") == (ratio > 1) else int(100 * max(ratio, 1 / ratio)))

    for name, holds in (("faster", faster), ("much-faster", much)):
        found = judged(name, make)
        assert found.verdict == ("holds" if holds else "does not hold")
        assert f"median {ratio:.2f}" in found.effect


def test_faster_in_some_settings_is_not_faster():
    def make(few):  # LRD is twice as fast at the smallest `few` fractions, and half as fast at the others
        smallest = sorted({c.fraction for c in expand(*GRIDS["fair"]())})[:few]
        return lambda preset, c: made(c, 1000 if (c.rule == "lrd") == (c.fraction not in smallest) else 500)

    assert judged("faster", make(1)).verdict == "does not hold"
    assert judged("faster", make(4)).verdict == "holds in part"


@pytest.mark.parametrize(
    ("weak", "strong", "verdict"), [(1.5, 1.5, "holds"), (4.0, 1.5, "holds in part"), (4.0, 4.0, "does not hold")]
)
def test_how_far_the_rank_falls(weak, strong, verdict):
    def make(preset, c):
        return made(c, rank=(32.0, strong if c.weight_decay == 0.05 else weak), halves=300)

    assert judged("collapse", make).verdict == verdict


def test_which_comes_first():
    def order(lrd, l2):
        return lambda preset, c: made(c, 1000, (32.0, 4.0), lrd if c.rule == "lrd" else l2)

    assert judged("precedes", order(300, 300)).verdict == "holds"
    assert judged("precedes", order(300, 2000)).verdict == "holds in part"
    assert judged("precedes", order(2000, 2000)).verdict == "does not hold"


def test_low_rank_alone():
    def make(groks):
        return lambda preset, c: made(c, groks if c.select == "qk" else 500, (32.0, 3.0), 300)

    assert judged("sufficient", make(1000)).verdict == "holds"
    found = judged("sufficient", make(None))  # runs whose other matrices are decayed too do not count
    assert found.verdict == "does not hold" and found.effect.startswith("0 of the 108")


def test_whether_l2_is_inert():
    def make(rank):
        return lambda preset, c: made(c, 500, (32.0, rank), 300)

    assert judged("inert", make(30.0)).verdict == "holds"
    assert judged("inert", make(3.0)).verdict == "does not hold"


def test_a_diverged_run_is_a_failure_and_no_crash():
    def make(preset, c):
        run = made(c, 500)
        for name in ("test_accuracy", "orbit_clean_accuracy", "qk_stable_rank"):
            run.history[name] = np.where(STEPS > 200, np.nan, run.history[name])
        return run

    for claim in CLAIMS:
        assert judged(claim.name, make).verdict in VERDICTS


def test_the_table_is_markdown_with_a_row_per_claim():
    lines = table(Evidence(WANTED, {})).splitlines()
    assert len(lines) == len(CLAIMS) + 2
    assert {line.count(" | ") for line in lines} == {5}
    assert all("python -m lrdlib phase-diagram --preset" in line for line in lines[2:])


def test_the_cards_hold_what_the_table_holds():
    evidence = Evidence(WANTED, {})
    text = cards(evidence)
    assert text.count('class="lrd-claim ') == text.count("<details>") == len(CLAIMS)
    assert all(claim.statement in text and found.command in text for claim, found in findings(evidence))
