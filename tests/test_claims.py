"""The claims on the paper's grids: each verdict from made-up runs that settle it one way or
the other; and table, cards and changes from any evidence.

The verdicts on the studies are in test_verdicts.py.
"""

import datetime
import re

import numpy as np
import pytest

from lrdlib.evidence.cards import changes, table, what_lrd_is
from lrdlib.evidence.claims import (
    CHANGES,
    CLAIMS,
    CODE,
    GRID,
    THEIRS,
    WHOSE,
    WRITTEN,
    Claim,
    findings,
    load_evidence,
)
from lrdlib.evidence.grids import GRIDS, STRENGTHS
from lrdlib.evidence.judging import VERDICTS, Evidence, finding
from lrdlib.evidence.studies import STUDIES
from lrdlib.evidence.verdicts_grids import in_heads, tail, upper_right, wider, within
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


def made_up(make):
    """The evidence in which make(preset, config) is a run, or None for one that is not
    recorded."""
    runs = {}
    for preset, configs in WANTED.items():
        runs |= {
            config: run for config in configs if (run := make(preset, config)) is not None
        }
    return Evidence(WANTED, runs)


def judged(name, make):
    """The finding of one claim from the evidence that `make` makes up."""
    (claim,) = [claim for claim in CLAIMS if claim.name == name]
    return claim.judge(made_up(make))


def test_nothing_recorded_settles_nothing():
    found = findings(Evidence(WANTED, {}))
    assert {finding.verdict for _, finding in found} == {"not recorded yet"}
    assert len({claim.name for claim, _ in found}) == len(CLAIMS)


def by_rule(lrd, l2):
    """LRD groks from the fraction `lrd` on, L2 from `l2` on, at every strength."""

    def make(preset, c):
        start = {"lrd": lrd, "l2": l2}.get(c.rule, 2.0)
        return made(c, 1000 if c.fraction >= start else None)

    return make


@pytest.mark.parametrize("name", ["wider-independent", "wider-published"])
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


def at_the_strongest(start):
    """From which fraction on a rule succeeds that does so at its largest lambda only."""
    return lambda strength: start if strength == max(STRENGTHS) else 2.0


@pytest.mark.parametrize(
    ("lrd", "l2"),
    [
        (lambda strength: 0.4, at_the_strongest(0.4)),  # more cells, as much data
        (at_the_strongest(0.3), lambda strength: 0.4),  # fewer cells, less data
    ],
)
def test_more_cells_or_less_data_hold_in_part(lrd, l2):
    def make(preset, c):
        start = (l2 if c.rule == "l2" else lrd)(c.weight_decay)
        return made(c, 1000 if c.fraction >= start else None)

    assert judged("wider-independent", make).verdict == "holds in part"


def test_a_cell_of_which_half_of_the_seeds_succeed_does_not():
    def make(preset, c):
        succeeds = c.rule == "lrd" and c.seed == 0
        return made(c, 1000 if succeeds else None) if c.seed < 2 else None

    assert "LRD succeeds in 0 of 66 cells" in judged("wider-independent", make).effect


@pytest.mark.parametrize(
    ("lrd", "l2", "verdict"),
    [
        ((5e-3, 1e-3), (), "holds"),
        ((5e-3, 1e-3), (5e-3,), "holds"),
        ((5e-3,), (), "holds in part"),  # ahead, by a third of its runs
        ((5e-3, 1e-3), (5e-3, 1e-3), "does not hold"),
        ((5e-3,), (5e-3, 1e-3), "does not hold"),
    ],
)
def test_who_is_ahead_in_the_sweet_spot(lrd, l2, verdict):
    """Of three strengths in it, those at which a rule succeeds."""

    def make(preset, c):
        there = c.weight_decay in {"lrd": lrd, "l2": l2}.get(c.rule, ())
        return made(c, 1000 if there else None)

    assert judged("sweet-spot", make).verdict == verdict


def test_one_seed_of_every_cell_is_enough_and_fewer_cells_are_not():
    def some(strengths):
        def make(preset, c):
            run = by_rule(0.3, 2)(preset, c)
            return run if c.seed == 0 and c.weight_decay in strengths else None

        return make

    assert judged("wider-independent", some(STRENGTHS)).verdict == "holds"
    # the missing strengths of L2 could be better
    found = judged("wider-independent", some(STRENGTHS[:3]))
    assert found.verdict == "undecided"
    assert "at no fraction recorded so far" in found.effect
    assert judged("wider-independent", some(STRENGTHS[:2])).verdict == "not recorded yet"


@pytest.mark.parametrize(
    ("where", "verdict"),
    [
        (lambda c: c.fraction >= 0.6 and c.weight_decay >= 5e-3, "holds"),
        (lambda c: c.fraction >= 0.5, "holds in part"),
        (lambda c: False, "does not hold"),
    ],
)
def test_where_l2_succeeds(where, verdict):
    found = judged(
        "upper-right-paper", lambda preset, c: made(c, 500 if where(c) else None)
    )
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("ranks", "verdict"),
    [
        ((1.5, 1.5, 1.5), "holds"),
        ((4.0, 1.5, 1.5), "holds"),  # in the median
        ((4.0, 4.0, 1.5), "holds in part"),
        ((4.0, 4.0, 4.0), "does not hold"),
    ],
)
def test_how_far_the_rank_falls(ranks, verdict):
    by = dict(zip((5e-3, 1e-2, 5e-2), ranks, strict=True))

    def make(preset, c):
        return made(c, rank=(32.0, by.get(c.weight_decay, 32.0)), halves=300)

    assert judged("collapse", make).verdict == verdict


# ---- the words say what is recorded, and why


def test_runs_without_a_counterpart_do_not_count():
    def make(preset, c):  # LRD groks with the seeds 1 and 2 only, which L2 does not have
        if c.rule == "l2" and c.seed:
            return None
        return made(c, 1000 if c.rule == "lrd" and c.seed else None)

    for name in ("wider-independent", "wider-published", "sweet-spot"):
        found = judged(name, make)
        assert found.verdict == "does not hold" and "1 seed" in found.basis
        seeds, rest = found.provisional.split("; ")
        assert seeds == "1 seed" and "of its runs are not recorded" in rest
    assert "LRD succeeds in 0 of 66 cells" in judged("wider-independent", make).effect


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
        ("published", "published", "independent"),
    ],
)
def test_why_l2_does_little(name, preset, mode):
    lr = WANTED[preset][0].lr
    weak = decay_times(preset, "l2", "independent", lr)
    strong = decay_times(preset, "lrd", mode, lr if mode == "decoupled" else 1.0)
    words = judged(f"wider-{name}", by_rule(0.3, 2)).effect
    assert f"at most {weak:.3g} decay times" in words
    assert f"LRD {strong:.3g}" in words
    assert "LRD's strength is not multiplied by the learning rate; L2's is" in words
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
        f"(the fewest with which it succeeds in the fair grid: {times:.3g})"
        in judged("wider-independent", make).effect
    )
    assert "fewest" not in judged("wider-published", make).effect  # another setting


def test_seeds_in_words():
    def make(few):  # of seed 0 LRD groks from 0.3 on, of the others from 0.5
        def one(preset, c):
            start = 2 if c.rule == "l2" else 0.5 if c.seed else 0.3
            return None if few(c) else made(c, 1000 if c.fraction >= start else None)

        return lambda: judged("wider-independent", one).effect

    assert "from f = 0.5 (3 seeds, 0.3 to 0.5), and L2" in make(lambda c: False)()
    assert "from f = 0.3, the smallest tried (one seed), and L2" in make(lambda c: c.seed)()
    assert (
        "(up to 2 seeds, 0.3 to 0.5), and L2"
        in make(lambda c: c.seed == 2 or (c.seed and c.fraction > 0.6))()
    )


def test_no_success_of_l2_is_said_so():
    assert judged("upper-right-paper", by_rule(0.3, 2)).effect.startswith(
        "no L2 run succeeds: 0 of "
    )
    assert judged("upper-right-paper", by_rule(2, 0.6)).effect.startswith("L2 succeeds in ")

    def cornerless(preset, c):  # nothing is known of the corner
        return made(c) if c.fraction < 0.6 or c.weight_decay < 5e-3 else None

    assert judged("upper-right-paper", cornerless).verdict == "not recorded yet"


def test_at_which_strengths_successes_are():
    def make(strengths, fraction=0.3):
        def one(preset, c):
            groks = c.weight_decay in strengths and c.fraction >= fraction
            return made(c, 1000 if c.rule == "lrd" and groks else None)

        return judged("sweet-spot", one).effect

    one, two = make([5e-3]), make([1e-3, 5e-3], 0.45)
    assert "LRD succeeds in 15 of 45 runs, all at lambda = 0.005 (15 of 15), and L2" in one
    assert "24 of 45 runs, at lambda = 0.001 (12 of 15), 0.005 (12 of 15), and L2" in two
    assert "LRD succeeds in 0 of 45 runs, and L2 succeeds in 0 of 45 runs" in make([])


def test_a_few_runs_of_the_first_code_do_not_hide_the_papers():
    def make(preset, c):
        if preset != "published":
            return made(c, None, (32.0, 4.0), 300)
        few = (c.fraction, c.weight_decay) == (0.3, 0.01)
        return made(c, None, (32.0, 1.5), 300) if few else None

    found = judged("collapse", make)
    assert found.verdict == "does not hold"
    assert found.effect.startswith("on the paper's grid, lambda of 0.005 and more")


def test_a_run_that_diverges_later_has_no_success():
    def make(preset, c):
        run = by_rule(0.3, 0.5)(preset, c)
        if c.rule == "lrd":
            run.history["qk_stable_rank"][-1] = np.nan
        return run

    for name in ("wider-independent", "wider-published"):
        assert judged(name, make).verdict == "does not hold"


def test_a_diverged_run_is_a_failure_and_no_crash():
    def make(preset, c):
        run = made(c, 500)
        for name in ("test_accuracy", "orbit_clean_accuracy", "qk_stable_rank"):
            run.history[name] = np.where(STEPS > 200, np.nan, run.history[name])
        return run

    for _, found in findings(made_up(make)):
        assert found.verdict in VERDICTS


# ---- the paper's formula as it is written


def easiest(groks):
    """Decoupled LRD is recorded at the paper's strongest lambda and largest fraction only,
    and generalises at `groks` in the seeds below 3; L2 never does."""

    def make(preset, c):
        if (preset, c.rule, c.mode) == ("paper", "lrd", "decoupled"):
            there = (c.fraction, c.weight_decay) == (0.8, 0.05)
            return made(c, groks(c.seed)) if there else None
        return made(c)

    return make


@pytest.mark.parametrize(
    ("groks", "verdict"),
    [
        (lambda seed: 500, "holds"),
        (lambda seed: None, "does not hold"),
        (lambda seed: 500 if seed == 0 else None, "undecided"),
    ],
)
def test_the_formula_as_written(groks, verdict):
    found = judged("as-written", easiest(groks))
    assert found.verdict == verdict and found.basis == "3 of 3 runs, 3 seeds"
    assert "0.15 decay times" in found.effect and found.note == ""


def test_the_formula_as_written_has_to_do_better_than_l2():
    def make(preset, c):
        if (preset, c.rule) == ("paper", "l2"):
            return made(c, 500)
        return easiest(lambda seed: 500)(preset, c)

    found = judged("as-written", make)
    assert found.verdict == "undecided" and "L2 in 3 of 3;" in found.effect


def test_the_formula_as_written_waits_for_three_seeds():
    def two(preset, c):
        return (
            None
            if c.mode == "decoupled" and c.seed == 2
            else easiest(lambda s: 500)(preset, c)
        )

    found = judged("as-written", two)
    assert found.verdict == "not recorded yet" and found.effect.startswith(
        "over 3000 steps"
    )


# ---- perfect accuracy from little data


def never(preset, c):
    return made(c, None, (33.0, 25.0), 300)


def reaching(accuracy):
    """Runs that reach no more than this test accuracy, at step 900."""

    def make(preset, c):
        run = made(c, 900)
        most = {"test_accuracy": accuracy * run.history["test_accuracy"]}
        return Run(run.config, run.history | most, {}, {}, {})

    return make


@pytest.mark.parametrize(
    ("lrd", "l2", "verdict"),
    [
        (lambda p, c: made(c, 900), never, "holds"),
        (lambda p, c: made(c, 900 if c.weight_decay == 0.01 else None), never, "holds"),
        (lambda p, c: made(c, 900 if c.fraction == 0.5 else None), never, "holds in part"),
        (lambda p, c: made(c, 900 if p == "paper" else None), never, "holds in part"),
        (reaching(0.99), never, "does not hold"),  # it succeeds, and is not perfect
        (lambda p, c: made(c, 900 if c.seed == 0 else None), never, "does not hold"),
        # L2 fails if no strength of it succeeds
        (
            lambda p, c: made(c, 900),
            lambda p, c: made(c, 900 if c.weight_decay in (0.5, 0.05) else None),
            "does not hold",
        ),
        # and one seed of three is no success
        (
            lambda p, c: made(c, 900),
            lambda p, c: made(c, 900 if c.seed == 0 else None),
            "holds",
        ),
    ],
)
def test_perfect_accuracy_where_l2_fails(lrd, l2, verdict):
    def make(preset, c):
        if c.fraction not in (0.4, 0.5) or c.rule not in ("lrd", "l2"):
            return None
        return lrd(preset, c) if c.rule == "lrd" else l2(preset, c)

    found = judged("perfect", make)
    assert found.verdict == verdict and found.curve.used == 0.995
    assert "of 3 at its best strength" in found.effect


# ---- the numbers of section 6.2


def at_04(lrd, l2):
    """Runs that only f = 0.4 has; lrd and l2 make them."""

    def make(preset, c):
        if c.fraction != 0.4 or c.rule not in ("lrd", "l2"):
            return None
        return lrd(preset, c) if c.rule == "lrd" else l2(preset, c)

    return make


@pytest.mark.parametrize(
    ("lrd", "l2", "verdict"),
    [
        (lambda p, c: made(c, 900), never, "holds"),
        # at one lambda is enough, and at one of the two settings is in part
        (lambda p, c: made(c, 900 if c.weight_decay == 5e-3 else None), never, "holds"),
        (lambda p, c: made(c, 900 if p == "paper" else None), never, "holds in part"),
        (never, never, "does not hold"),
        (lambda p, c: made(c, 900), lambda p, c: made(c, 2000), "does not hold"),
        (lambda p, c: made(c, 900), reaching(0.6), "does not hold"),
        (lambda p, c: made(c, 900), reaching(0.4), "holds"),
        # one seed of three is not most
        (lambda p, c: made(c, 900 if c.seed == 0 else None), never, "does not hold"),
    ],
)
def test_speed_in_section_6_2(lrd, l2, verdict):
    assert judged("speed-6-2", at_04(lrd, l2)).verdict == verdict


def test_every_lambda_says_what_is_true_there():
    def lrd(preset, c):  # early at one lambda, of low rank at another
        groks = 900 if c.weight_decay == 0.01 else None
        return made(c, groks, (35.0, 3.0 if c.weight_decay == 0.005 else 20.0), 300)

    for name, own, other in (("speed-6-2", 0.01, 0.005), ("rank-6-2", 0.005, 0.01)):
        found = judged(name, at_04(lrd, never))
        assert found.verdict == "holds"
        first, *places = found.effect.split(". ")
        assert first == (
            f"true at λ = {own:g} (the first code's setting) and at λ = {own:g} (the "
            "paper's grid)"
        )
        for where in places:
            assert "true together with" in where and "at no λ;" in where
            for c in {c.weight_decay for c in WANTED["paper"] if c.rule == "lrd"}:
                assert f"λ = {c:g}: {3 * (c == own)} of 3 (" in where
            assert where.count(f"λ = {other:g}") == 1

    both = at_04(lambda p, c: made(c, 900, (35.0, 3.0), 300), never)
    strengths = ", ".join(f"λ = {s:g}" for s in sorted(STRENGTHS))
    for name in ("speed-6-2", "rank-6-2"):
        assert judged(name, both).effect.count(f" at {strengths};") == 2


def test_ranks_in_section_6_2():
    def falls(start, end, at=500):
        return lambda p, c: made(c, None, (start, end), at)

    for lrd, verdict in (
        (falls(35.0, 3.0), "holds"),
        (falls(35.0, 3.0, 600), "does not hold"),  # too late
        (falls(60.0, 3.0), "does not hold"),  # from too far up
        (falls(35.0, 10.0), "does not hold"),
    ):
        assert judged("rank-6-2", at_04(lrd, never)).verdict == verdict
    for rank, verdict in ((25.0, "holds"), (36.0, "holds"), (10.0, "does not hold")):
        found = judged("l2-rank-6-2", at_04(never, falls(33.0, rank)))
        assert found.verdict == verdict
    # of L2 from step 500 on, that record too
    late = judged("l2-rank-6-2", at_04(never, falls(60.0, 25.0, 600)))
    assert late.verdict == "does not hold"
    assert judged("rank-6-2", lambda p, c: None).verdict == "not recorded yet"


def with_spectrum(config, small):
    """A run whose query spectrum ends with ten ones and a tail of `small`, and whose
    values, which do not count, have a longer one of ones."""
    run = made(config)
    end = np.array([1.0] * 10 + [small] * 6)
    spectra = {
        "0.query": np.tile(end, (len(STEPS), 1)),
        "0.value": np.ones((len(STEPS), 64)),
    }
    return Run(run.config, run.history, spectra, {}, {})


def test_the_tail_of_the_spectrum():
    assert tail(with_spectrum(GRID, 1e-3)) == pytest.approx(3)
    assert np.isnan(tail(made(GRID)))

    def make(lrd, l2=0.1):
        return at_04(
            lambda p, c: with_spectrum(c, lrd if c.weight_decay == 0.01 else 1.0),
            lambda p, c: with_spectrum(c, l2),
        )

    assert judged("tail-6-2", make(3e-5)).verdict == "holds"
    found = judged("tail-6-2", make(1e-3))
    assert found.verdict == "undecided" and "λ = 0.01: 0 of 3 (3 to 3)" in found.effect
    assert found.provisional.startswith("no spectra are kept")
    for l2 in (1e-3, 1e-4):  # L2 has a tail too
        assert judged("tail-6-2", make(3e-5, l2=l2)).verdict == "undecided"


def with_pattern(config, inside):
    """A run whose query-key product has the share `inside` of its squares in the blocks of
    four heads."""
    A = np.full((8, 8), np.sqrt((1 - inside) / 48))
    for b in range(0, 8, 2):
        A[b : b + 2, b : b + 2] = np.sqrt(inside / 16)
    weights = {}
    for layer in range(2):
        weights |= {f"{layer}.query": A, f"{layer}.key": np.eye(8)}
    run = made(config)
    return Run(run.config, run.history, {}, weights, {})


@pytest.mark.parametrize(
    ("lrd", "l2", "verdict"),
    [
        (0.8, 0.25, "holds"),
        (0.4, 0.25, "holds in part"),
        (0.8, 0.6, "holds in part"),
        (0.25, 0.3, "undecided"),
    ],
)
def test_the_pattern(lrd, l2, verdict):
    l2_config = GRID.__class__(rule="l2", weight_decay=0.1)
    whole = {GRID: with_pattern(GRID, lrd), l2_config: with_pattern(l2_config, l2)}
    assert in_heads(whole[GRID]) == pytest.approx(lrd)
    (claim,) = [claim for claim in CLAIMS if claim.name == "pattern-6-2"]
    found = claim.judge(Evidence(WANTED, {}, {}, whole))
    assert found.verdict == verdict and found.provisional == "1 seed"
    assert found.basis == "2 of 2 runs, 1 seed"
    assert claim.judge(Evidence(WANTED, {})).verdict == "not recorded yet"
    # a stronger L2 that has more of it: LRD's lead over the weak one is not enough
    strong = GRID.__class__(rule="l2", weight_decay=3.0)
    whole[strong] = with_pattern(strong, max(lrd, l2) + 0.1)
    found = claim.judge(Evidence(WANTED, {}, {}, whole))
    assert found.verdict == "undecided"
    for share in (lrd, l2, max(lrd, l2) + 0.1):
        assert f" {share:.0%}" in found.effect
    assert f"than {int(lrd > l2)} of 2 L2 runs" in found.effect


def test_the_pattern_is_that_of_the_layer_that_has_most():
    run, other = with_pattern(GRID, 0.8), with_pattern(GRID, 0.3)
    for layer in "01":
        own = {name: W for name, W in other.weights.items() if name.startswith(layer)}
        mixed = Run(run.config, run.history, {}, run.weights | own, {})
        assert in_heads(mixed) == pytest.approx(0.8)


def test_every_lrd_run_has_to_have_the_pattern():
    (claim,) = [claim for claim in CLAIMS if claim.name == "pattern-6-2"]
    strong, l2 = (
        GRID.__class__(rule=rule, weight_decay=s)
        for rule, s in (("lrd", 0.05), ("l2", 0.1))
    )
    shares = {GRID: 0.8, strong: 0.4, l2: 0.25}
    whole = {config: with_pattern(config, share) for config, share in shares.items()}
    assert claim.judge(Evidence(WANTED, {}, {}, whole)).verdict == "holds in part"


def test_a_number_up_to_a_factor():
    assert within(2.0, 3, 1.5) and within(4.5, 3, 1.5) and not within(4.6, 3, 1.5)


# ---- to be read


def test_every_row_says_all_that_it_rests_on():
    dates = []
    for claim in CLAIMS:
        assert claim.rule and claim.source and claim.statement
        dates.append(datetime.date.fromisoformat(claim.written))
    assert min(dates) >= datetime.date(2026, 11, 22)
    assert all(claim.lrd for claim in CLAIMS if "LRD" in claim.statement)


def test_a_source_says_whose_a_statement_is():
    assert {claim.whose for claim in CLAIMS} == set(WHOSE)
    starts = {"README": THEIRS} | {who: who for who in WHOSE}
    for claim in CLAIMS:
        assert claim.whose == starts[re.split("[,;:]", claim.source)[0]]


def test_what_lrd_is_tells_the_settings_apart():
    for words in (
        "λ as it is",
        "no adaptive scale",
        "queries and keys, L2 0.1 on the rest",
    ):
        assert words in what_lrd_is(CODE)
    assert "5 cubic steps" in what_lrd_is(CODE) and "0.577" in what_lrd_is(CODE)
    assert "λ as it is; adaptive scale; all matrices" in what_lrd_is(GRID)
    assert "λ times the learning rate" in what_lrd_is(WRITTEN)


def test_changes_are_of_rows_that_there_are_or_were():
    names = {claim.name for claim in CLAIMS}
    for one in CHANGES:
        datetime.date.fromisoformat(one.day)
        assert one.claim in names or one.claim.endswith(" (dropped)")
        assert one.before != one.now and one.why
    against = [
        one for one in CHANGES if (one.day, one.against) == ("2026-11-22", "the paper")
    ]
    assert [one.claim for one in against] == ["collapse", "faster"]
    assert len(changes()) == len(CHANGES)
    assert "in any setting" in " ".join(changes())


def test_the_table_is_markdown_with_a_row_per_claim():
    rows, _, changes = table(Evidence(WANTED, {})).partition("\n\n")
    lines = rows.splitlines()
    assert len(lines) == len(CLAIMS) + 2
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {10}
    for line in lines[2:]:
        assert "`python -m lrdlib " in line and "(rule of 2026-" in line
    assert changes.count("\n- ") == len(CHANGES)


def test_commands_name_studies_and_presets_that_there_are():
    for _, found in findings(Evidence(WANTED, {})):
        for command in found.command.split(" && "):
            words = command.split()[3:]
            if words[0] == "study":
                assert set(words[1:]) <= set(STUDIES)
            else:
                assert words[0] in ("phase-diagram", "mechanism")


def test_fewer_than_three_seeds_are_provisional():
    def seeds(few):
        return lambda p, c: by_rule(0.3, 2)(p, c) if c.seed in few else None

    assert judged("wider-published", seeds([0, 1, 2])).provisional == ""
    two = judged("wider-published", seeds([0, 1])).provisional
    assert two == "2 seeds; 72 of its runs are not recorded"

    def uneven(p, c):
        return None if c.seed and c.fraction > 0.6 else by_rule(0.3, 2)(p, c)

    words = judged("wider-published", uneven).provisional
    assert words.startswith("1 seed in some cells; ")


def test_units_are_named():
    every = by_rule(0.3, 2)
    for name in ("wider-independent", "wider-published", "sweet-spot"):
        assert judged(name, every).note == "in unequal units"


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
        (lambda: upper_right("smoke"), ValueError, "preset must .*got 'smoke'"),
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
        (lambda: Evidence(WANTED, {}).of("fair", rul="l2"), ValueError, "fields .*'rul'"),
        (lambda: Evidence(WANTED, {}, []), TypeError, "studied must be a dict, got list"),
        (
            lambda: Evidence(WANTED, {}, {}, {1: 2}),
            TypeError,
            "whole .*TrainConfigs, got 1",
        ),
        (lambda: Claim(*"abcdef", "d", (), None), ValueError, "about must .*got 'b'"),
    ],
)
def test_bad_input_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()
