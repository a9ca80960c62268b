"""The claims: each verdict from made-up runs that settle it one way or the other, and the
table from any evidence."""

import numpy as np
import pytest

from lrdlib.evidence.claims import (
    CLAIMS,
    cards,
    faster,
    findings,
    load_evidence,
    table,
    wider,
)
from lrdlib.evidence.grids import GRIDS, STRENGTHS
from lrdlib.evidence.judging import VERDICTS, Evidence, finding
from lrdlib.training.config import plain
from lrdlib.training.runs import Run
from lrdlib.training.sweep import expand

WANTED = {name: expand(*GRIDS[name]()) for name in ("paper", "published", "fair")}
STEPS = np.arange(0, 3001, 100)


def made(config, groks=None, rank=(32.0, 32.0), halves=None):
    """A run whose accuracy jumps to 1 at step `groks`, and whose rank goes from one value
    to the other at `halves`."""
    start, halving = np.inf if groks is None else groks, halves or 0
    accuracy = (start <= STEPS).astype(float)
    ranks = np.where(halving <= STEPS, rank[1], rank[0])
    ranks[0] = rank[0]
    names = ("test_accuracy", "orbit_clean_accuracy")
    history = {
        "step": STEPS,
        "qk_stable_rank": ranks,
        "train_accuracy": np.ones(len(STEPS)),
    }
    return Run(plain(config), history | dict.fromkeys(names, accuracy), {}, {}, {})


def judged(name, make):
    """The finding of one claim, where make(preset, config) is a run, or None for one that
    is not recorded."""
    runs = {}
    for preset, configs in WANTED.items():
        runs |= {
            config: run for config in configs if (run := make(preset, config)) is not None
        }
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


@pytest.mark.parametrize(
    "name", ["wider-independent", "wider-decoupled", "wider-published", "tuned"]
)
@pytest.mark.parametrize(
    ("lrd", "l2", "verdict"),
    [
        (0.3, 0.5, "holds"),
        (0.5, 0.3, "does not hold"),
        (0.4, 0.4, "does not hold"),
        (2, 2, "does not hold"),
    ],
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
    # the missing strengths of L2 could be better
    found = judged("wider-independent", some(STRENGTHS[:3]))
    assert found.verdict == "not settled"
    assert "at no fraction recorded so far" in found.effect
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
        first = (c.rule == "lrd") == (ratio > 1)
        return made(c, 100 if first else int(100 * max(ratio, 1 / ratio)))

    for name, holds in (("faster", faster), ("much-faster", much)):
        found = judged(name, make)
        assert found.verdict == ("holds" if holds else "does not hold")
        assert f"median {ratio:.2f}" in found.effect


def test_faster_in_some_settings_is_not_faster():
    def make(few):
        """LRD is twice as fast at the smallest `few` fractions, half as fast elsewhere."""
        smallest = sorted({c.fraction for c in WANTED["fair"]})[:few]

        def one(preset, c):
            slow = (c.rule == "lrd") == (c.fraction not in smallest)
            return made(c, 1000 if slow else 500)

        return one

    assert judged("faster", make(1)).verdict == "does not hold"
    assert judged("faster", make(4)).verdict == "holds in part"


@pytest.mark.parametrize(
    ("weak", "strong", "verdict"),
    [(1.5, 1.5, "holds"), (4.0, 1.5, "holds in part"), (4.0, 4.0, "does not hold")],
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
        return lambda preset, c: made(
            c, groks if c.select == "qk" else 500, (32.0, 3.0), 300
        )

    assert judged("sufficient", make(1000)).verdict == "holds"
    # runs whose other matrices are decayed too do not count
    found = judged("sufficient", make(None))
    assert found.verdict == "does not hold" and "0 of 108 generalise" in found.effect


def test_whether_l2_is_inert():
    def make(rank):
        return lambda preset, c: made(c, 500, (32.0, rank), 300)

    assert judged("inert", make(30.0)).verdict == "holds"
    assert judged("inert", make(3.0)).verdict == "does not hold"


# ---- the words say what is recorded, and why


def test_runs_without_a_counterpart_do_not_count():
    def make(preset, c):  # LRD groks with the seeds 1 and 2 only, which L2 does not have
        if c.rule == "l2" and c.seed:
            return None
        return made(c, 1000 if c.rule == "lrd" and c.seed else None)

    wide = ("wider-independent", "wider-decoupled", "wider-published")
    for name in (*wide, "sweet-spot", "tuned"):
        found = judged(name, make)
        assert found.verdict == "does not hold" and "1 seed" in found.basis
    assert "LRD succeeds in 0 of 66 cells" in judged("wider-independent", make).effect
    assert judged("faster", make).verdict == "not settled"  # no success is left


def decay_times(preset, rule, mode, times=1.0):
    return max(
        times * c.weight_decay * c.steps
        for c in WANTED[preset]
        if (c.rule, c.mode) == (rule, mode)
    )


@pytest.mark.parametrize(
    ("name", "preset", "mode"),
    [
        ("independent", "paper", "independent"),
        ("decoupled", "paper", "decoupled"),
        ("published", "published", "independent"),
    ],
)
def test_why_l2_does_little(name, preset, mode):
    lr = WANTED[preset][0].lr
    weak = decay_times(preset, "l2", "independent", lr)
    strong = decay_times(preset, "lrd", mode, lr if mode == "decoupled" else 1.0)
    words = judged(f"wider-{name}", by_rule(0.3, 2)).effect
    assert f"at most {weak:.3g} decay times" in words and f"at most {strong:.3g}" in words
    assert ("LRD's is not" in words) == (mode == "independent")
    assert ("off each singular value" in words) == (preset == "published")
    assert "fewest" not in words  # L2 succeeds nowhere in the fair grid either


def test_how_much_decay_l2_needs():
    def make(preset, c):
        return made(c, 1000 if preset == "fair" and c.weight_decay * c.lr >= 2e-3 else None)

    times = min(
        c.weight_decay * c.lr * c.steps
        for c in WANTED["fair"]
        if c.weight_decay * c.lr >= 2e-3
    )
    assert (
        f"the fewest with which it succeeds in the fair grid are {times:.3g};"
        in judged("wider-independent", make).effect
    )
    assert "fewest" not in judged("wider-published", make).effect  # another setting


def test_seeds_in_words():
    def make(few):  # of seed 0 LRD groks from 0.3 on, of the others from 0.5
        def one(preset, c):
            start = 2 if c.rule == "l2" else 0.5 if c.seed else 0.3
            return None if few(c) else made(c, 1000 if c.fraction >= start else None)

        return lambda: judged("wider-independent", one).effect

    assert "from f = 0.5 (3 seeds, 0.3 to 0.5); L2" in make(lambda c: False)()
    assert "from f = 0.3, the smallest tried (one seed); L2" in make(lambda c: c.seed)()
    assert (
        "(up to 2 seeds, 0.3 to 0.5); L2"
        in make(lambda c: c.seed == 2 or (c.seed and c.fraction > 0.6))()
    )


def test_no_success_of_l2_is_said_so():
    assert judged("upper-right", by_rule(0.3, 2)).effect.startswith(
        "no L2 run succeeds: 0 of "
    )
    assert judged("upper-right", by_rule(2, 0.6)).effect.startswith("L2 succeeds in ")

    def cornerless(preset, c):  # nothing is known of the corner
        return made(c) if c.fraction < 0.6 or c.weight_decay < 5e-3 else None

    assert judged("upper-right", cornerless).verdict == "not settled"


def test_at_which_strengths_successes_are():
    def make(strengths, fraction=0.3):
        def one(preset, c):
            groks = c.weight_decay in strengths and c.fraction >= fraction
            return made(c, 1000 if c.rule == "lrd" and groks else None)

        return judged("sweet-spot", one).effect

    one, two = make([5e-3]), make([1e-3, 5e-3], 0.45)
    assert "LRD succeeds in 15 of 45 runs, all at lambda = 0.005 (15 of 15); L2" in one
    assert "24 of 45 runs, at lambda = 0.001 (12 of 15), 0.005 (12 of 15); L2" in two
    assert "LRD succeeds in 0 of 45 runs; L2 succeeds in 0 of 45 runs" in make([])


def test_what_a_verdict_rests_on():
    def make(few):
        return lambda preset, c: None if few(c) else by_rule(0.4, 0.3)(preset, c)

    for name in ("tuned", "faster"):
        assert "rests on" not in judged(name, make(lambda c: False)).effect
        found = judged(name, make(lambda c: c.lr > 1e-3 or c.seed))
        assert found.effect.endswith("; this rests on 1 of 3 learning rates and 1 seed")
        assert judged(name, make(lambda c: c.seed == 2)).effect.endswith(
            "on 3 of 3 learning rates and 2 seeds"
        )


def test_as_fast_is_not_faster():
    found = judged("faster", by_rule(0.3, 0.3))
    assert found.verdict == "does not hold" and found.effect.startswith(
        "LRD is faster in 0 of "
    )


def test_a_few_runs_of_the_first_code_do_not_hide_the_papers():
    def make(preset, c):
        if preset != "published":
            return made(c, None, (32.0, 4.0), 300)
        few = (c.fraction, c.weight_decay) == (0.3, 0.01)
        return made(c, None, (32.0, 1.5), 300) if few else None

    found = judged("collapse", make)
    assert found.verdict == "does not hold"
    assert found.effect.startswith("on the paper's grid, lambda of 0.005 and more")


def test_how_often_the_rank_halves_without_generalising():
    def make(preset, c):
        groks, rank = c.fraction >= 0.5, 4.0 if c.rule == "lrd" else 30.0
        return made(c, 1000 if groks else None, (32.0, rank), 300)

    words = judged("precedes", make).effect
    # LRD's halve in any case, L2's never
    assert words.count("(100%)") == 2 and words.count("(0%)") == 2
    assert "never do" not in judged("precedes", by_rule(0.1, 0.1)).effect
    assert (
        judged("precedes", by_rule(0.1, 2)).effect
        == "runs that generalise are recorded of LRD only"
    )


@pytest.mark.parametrize(
    ("fractions", "words"), [([], "0 of"), ([0.3], "18 of"), ([0.3, 0.4], "36 of")]
)
def test_too_few_runs_of_low_rank_settle_nothing(fractions, words):
    def make(preset, c):
        return made(c, 1000, (32.0, 3.0), 300) if c.fraction in fractions else None

    found = judged("sufficient", make)
    assert (
        found.verdict == "not settled"
        and found.effect == f"{words} this grid's 108 runs recorded"
    )


def test_low_rank_beside_the_others():
    def make(preset, c):
        return made(c, 1000 if c.seed else None, (32.0, 30.0 if c.seed else 3.0), 300)

    found = judged("sufficient", make)
    assert found.verdict == "does not hold" and found.effect.endswith(
        "0 of 36 generalise; of the others, 72 of 72"
    )
    found = judged("sufficient", by_rule(0.3, 0.3))  # no rank falls
    assert found.verdict == "not settled" and found.effect.startswith("none of the 108")


def test_where_l2_is_weak_is_the_control():
    def make(preset, c):
        return made(c, 500, (32.0, 3.2 if preset == "fair" else 24.0), 300)

    most = decay_times("paper", "l2", "independent", WANTED["paper"][0].lr)
    words = f"at {most:.3g} decay times and fewer, it stays at 75% to 100% of its start"
    assert f"{words} (198 runs)" in judged("inert", make).effect
    tuned = judged("inert", lambda preset, c: made(c) if preset == "fair" else None)
    assert "the paper's grid" not in tuned.effect


def test_a_run_that_diverges_later_has_no_success():
    def make(preset, c):
        run = by_rule(0.3, 0.5)(preset, c)
        if c.rule == "lrd":
            run.history["qk_stable_rank"][-1] = np.nan
        return run

    for name in ("wider-independent", "tuned", "faster"):
        assert judged(name, make).verdict == "does not hold"


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
    assert all(
        claim.statement in text and found.command in text
        for claim, found in findings(evidence)
    )


# ---- bad input


def less(run, name):
    """The run without one of its histories."""
    history = {key: values for key, values in run.history.items() if key != name}
    return Run(run.config, history, {}, {}, {})


ONE = WANTED["paper"][0]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: findings(None), TypeError, "evidence must be an Evidence, got NoneType"),
        (lambda: table({}), TypeError, "evidence must be an Evidence, got dict"),
        (lambda: load_evidence(None), TypeError, "store must be a str or a Path, got None"),
        (lambda: wider("smoke", "independent"), ValueError, "preset must .*got 'smoke'"),
        (lambda: wider("paper", "both"), ValueError, "mode must be .*got 'both'"),
        (lambda: faster(np.nan), ValueError, "factor must be .*got nan"),
        (lambda: Evidence(None, {}), TypeError, "wanted must be a dict, got NoneType"),
        (lambda: Evidence(WANTED, []), TypeError, "runs must be a dict, got list"),
        (lambda: Evidence({"paper": []}, {}), ValueError, r"wanted\['paper'\] .* got \[\]"),
        (lambda: Evidence({"paper": ["l2"]}, {}), TypeError, "TrainConfigs, got 'l2'"),
        (lambda: Evidence(WANTED, {ONE: "run"}), TypeError, "runs .*Runs, got str"),
        (
            lambda: Evidence(WANTED, {ONE: less(made(ONE), "train_accuracy")}),
            ValueError,
            "runs must hold .*, got a Run without .*'train_accuracy'",
        ),
        (lambda: finding("maybe", "", [], ""), ValueError, "verdict .*got 'maybe'"),
        (lambda: Evidence(WANTED, {}).of("pape"), ValueError, "preset must .*got 'pape'"),
        (lambda: Evidence(WANTED, {}).of_all(rul="l2"), ValueError, "fields .*got 'rul'"),
    ],
)
def test_bad_input_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()
