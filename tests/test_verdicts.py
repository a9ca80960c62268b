"""The verdicts on the studies: each from made-up runs whose answer is obvious, both ways;
and what waits for runs says so."""

import itertools
import math

import numpy as np
import pytest

from lrdlib.evidence import comparing, studies
from lrdlib.evidence.claims import CLAIMS
from lrdlib.evidence.grids import GRIDS
from lrdlib.evidence.judging import Evidence
from lrdlib.evidence.proportions import binomial_interval, sign_test
from lrdlib.evidence.survival import Ratio
from lrdlib.evidence.verdicts_rank import share_before_half
from lrdlib.evidence.verdicts_studies import low_rank_needed
from lrdlib.training.config import plain
from lrdlib.training.runs import Run
from lrdlib.training.sweep import expand

pytest.importorskip("scipy.stats")

WANTED = {name: expand(*GRIDS[name]()) for name in ("paper", "published", "fair")}
NEVER = math.inf


def run_of(config, T, rank=(32.0, 3.0), falls=0.0, best=0.0):
    """A run that generalises at step T, whose QK rank goes from one value to the other at
    step `falls`; before T its accuracy is `best`."""
    steps = np.arange(0, config.steps + 1, max(config.eval_every, 50))
    accuracy = np.where(steps >= T, 1.0, best)
    ranks = np.where(steps >= falls, rank[1], rank[0])
    ranks[0] = rank[0]
    history = {
        "step": steps,
        "test_accuracy": accuracy,
        "orbit_clean_accuracy": accuracy,
        "train_accuracy": np.ones(len(steps)),
        "qk_stable_rank": ranks,
        "vo_stable_rank": ranks,
    }
    return Run(plain(config), history, {}, {}, {})


def evidence_of(names, make):
    """Evidence of these studies, asked until nothing is missing: make(config) gives T_gen,
    or a run, or None for one that is not recorded."""
    runs, known, left = {}, {}, set()
    while todo := [c for c in studies.missing(names, known) if c not in left]:
        for config in todo:
            made = make(config)
            if made is None:
                left.add(config)
                continue
            run = made if isinstance(made, Run) else run_of(config, made)
            runs[config], known[config] = run, studies.generalised(run)
    return Evidence(WANTED, {}, runs)


def judged(name, evidence):
    (claim,) = [claim for claim in CLAIMS if claim.name == name]
    return claim.judge(evidence)


def arm_of(config):
    """Which of E1's arms a config is of."""
    if config.rule == "l2":
        return "A1" if config.l2_on == "all" else "A2"
    if config.rule == "elastic":
        return "A6"
    if config.weight_decay == 0:
        return "A3"
    return "A5" if config.l2 else "A4"


def first_grid(config):
    """Whether a run is of E1's first grid and first tuning seeds."""
    both = config.rule == "elastic"  # half of the strength each
    strength = sum if both else max
    t = float(f"{strength((config.weight_decay, config.l2)) * config.lr:.6g}")
    return config.seed not in studies.MORE_TUNING and t not in studies.FURTHER


def e1(wider=False, **T):
    """Evidence of E1: T[arm](config) is T_gen, or a number; other arms never."""

    def make(config):
        if not wider and not first_grid(config):
            return None if config.seed in studies.MORE_TUNING else NEVER
        found = T.get(arm_of(config), NEVER)
        return found(config) if callable(found) else found

    return evidence_of(["E1"], make)


def jitter(T):
    """T_gen, a little other for each seed."""
    return lambda config: T + 50 * (config.seed % 4)


def from_fraction(f, T=500):
    """Generalises at T from a fraction on."""
    return lambda config: T if config.fraction >= f else NEVER


def lost_after(step):
    """Generalises at 500, and is below the threshold again after `step`(config)."""

    def make(config):
        run = run_of(config, 500)
        run.history["orbit_clean_accuracy"][run.history["step"] > step(config)] = 0.9
        return run

    return make


# ---- E1


@pytest.mark.parametrize(
    ("lrd", "l2", "verdict"),
    [
        (from_fraction(0.2), from_fraction(0.4), "holds"),
        (from_fraction(0.4), from_fraction(0.2), "does not hold"),
        (from_fraction(0.4), from_fraction(0.4), "undecided"),
    ],
)
def test_less_data(lrd, l2, verdict):
    found = judged("less-data", e1(A1=l2, A2=l2, A4=lrd))
    assert found.verdict == verdict
    assert found.note == "so far" and "the wider grid" in found.provisional
    assert found.basis == "360 of 360 runs, 20 seeds"


def test_less_data_in_a_few_seeds_is_undecided():
    def lrd(config):  # ahead in 8 of 20 seeds, behind in 5
        return from_fraction(
            0.2 if config.seed % 5 < 2 else 0.4 if config.seed % 4 else 0.3
        )(config)

    found = judged("less-data", e1(A1=from_fraction(0.3), A2=NEVER, A4=lrd))
    assert found.verdict == "undecided" and "in 8 of 20 seeds" in found.effect


def test_less_data_counts_as_one_of_five_hypotheses():
    """Ahead in 6 seeds and behind in none has p = 0.03 alone, and more after Holm."""

    def lrd(config):
        return from_fraction(0.2 if config.seed in studies.SEEDS[:6] else 0.3)(config)

    found = judged("less-data", e1(A1=from_fraction(0.3), A2=NEVER, A4=lrd))
    alone = 2 * 0.5**6
    assert found.verdict == "undecided" and alone < comparing.ALPHA
    low, high = binomial_interval(6, 20)
    assert f"in 6 of 20 seeds (95% interval {low:.0%} to {high:.0%})" in found.effect


def test_what_is_lost_again_stands_beside_both():
    def lrd(config):  # in two of three seeds lost at 15 of the 50 later records
        run = run_of(config, 500)
        history = {n: np.array(y) for n, y in run.history.items()}
        lost = (history["step"] > 1000) & (history["step"] <= 1750)
        if config.seed % 3:
            history["orbit_clean_accuracy"][lost] = 0.9
        return Run(run.config, history, {}, {}, {})

    evidence = e1(A1=jitter(500), A2=NEVER, A4=lrd)
    share = np.mean([0.3 * bool(seed % 3) for seed in studies.SEEDS])
    said = (
        f"Below the threshold again, of the records after that: LRD {share:.0%}, L2 on all "
        "0%; below 0.8: LRD 0%, L2 on all 0%. Mean accuracy at the last record, of all runs "
        "at all fractions: "
        "LRD 100%, L2 on the blocks 0%, L2 on all 100%"
    )
    for name in ("less-data", "faster", "much-faster"):
        assert judged(name, evidence).effect.endswith(said)
    neither = judged("faster", e1(A1=NEVER, A2=NEVER, A4=NEVER)).effect
    assert "after that: none is; below 0.8: none is. Mean" in neither


def test_a_verdict_that_turns_if_it_must_last_says_so():
    """L2 is there first, for two records; LRD later, and stays."""
    evidence = e1(A1=lost_after(jitter(550)), A2=jitter(1000), A4=jitter(1000))
    at_two = "so far, by 2 records in a row"
    faster = judged("faster", evidence)
    assert (faster.verdict, faster.note) == ("does not hold", at_two)
    # for 3 a quarter of L2's runs fail, and for 5 three quarters
    lines, at = faster.curve.lines, faster.curve.at
    assert lines["L2 on all"][at.index(2)] == lines["LRD"][at.index(6)] == 1
    assert [lines["L2 on all"][at.index(k)] for k in (3, 4, 5, 6)] == [0.75, 0.5, 0.25, 0]
    assert "for 4, 0." in faster.effect and faster.curve.used == 2
    superior = judged("no-superiority", evidence)
    assert (superior.verdict, superior.note) == ("holds", at_two)
    assert "for 4, L2 on all is sooner at none" in superior.effect
    steady = judged("faster", e1(A1=jitter(500), A2=NEVER, A4=jitter(1000)))
    assert (steady.verdict, steady.note) == ("does not hold", "so far")
    # and where it is LRD that is there first, for two records
    evidence = e1(A1=jitter(1000), A2=NEVER, A4=lost_after(lambda c: 550))
    faster = judged("faster", evidence)
    assert (faster.verdict, faster.note) == ("holds", at_two)


def permuted_by_hand(control, *others):
    """p of the control's events, observed less expected by the log-rank test, among all
    ways to call one run of each seed the control's; two-sided."""
    times = np.array([control, *others])  # (arms, seeds)
    arms, seeds = times.shape
    scores = np.zeros(times.shape)
    for u in np.unique(times):
        now, left = times == u, times >= u
        scores += now - left * (now.sum() / left.sum())
    ways = [*itertools.product(range(arms), repeat=seeds)]
    sums = scores[np.array(ways), range(seeds)].sum(1)
    here = scores[0].sum()
    return 2 * min(np.mean(sums >= here - 1e-9), np.mean(sums <= here + 1e-9))


def test_uniform_attention_has_no_say():
    """The p of H4 is of frozen and flat runs together against learned ones."""
    rng = np.random.default_rng(4)
    T = {s: rng.integers(12, 40, 3) * 50 - [0, 0, 300] for s in studies.SEEDS[:8]}
    frozen, flat, learned = np.array([*T.values()]).T
    expected = permuted_by_hand(learned, frozen, flat)
    for other in ((frozen, flat, learned), (learned, flat), (learned, frozen)):
        assert abs(permuted_by_hand(*other) - expected) > 0.1

    def p_with(uniform):
        def make(config):
            if config.seed not in studies.SEEDS[:8] or config.fraction != 0.4:
                return 500
            frozen, flat, learned = T[config.seed]
            kinds = {"uniform": uniform, "frozen": frozen}
            return kinds.get(config.attention, flat if config.rank else learned)

        evidence = evidence_of(["E3", "E1"], make)
        arms = comparing.altered(evidence, "A4")
        pair = [arms["frozen"], arms["kept flat"]], arms["learned"]
        p = comparing.shared_control_p(evidence, [pair])
        assert f"p {comparing.p_text(p)} of both here" in judged("needed", evidence).effect
        return p

    # of 10,000 draws; four standard errors are 0.025
    assert p_with(50) == p_with(NEVER) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("lrd", "l2", "faster", "much"),
    [
        (500, 1500, "holds", "does not hold"),
        (1500, 500, "does not hold", "does not hold"),
        (500, 500, "does not hold", "does not hold"),
        (50, 2500, "holds", "holds"),
    ],
)
def test_who_is_faster(lrd, l2, faster, much):
    evidence = e1(A1=jitter(l2), A2=jitter(l2), A4=lrd if lrd == 50 else jitter(lrd))
    for name, verdict in (("faster", faster), ("much-faster", much)):
        found = judged(name, evidence)
        assert found.verdict == verdict and found.note == "so far"
    assert f"{np.mean([lrd + 75 * (lrd != 50)]) / (l2 + 75):.2f}" in found.effect


def test_a_difference_within_noise_is_undecided():
    def noisy(config):  # faster by half in every second seed, slower in the others
        return 400 if config.seed % 2 else 1600

    evidence = e1(A1=900, A2=900, A4=noisy)
    assert judged("faster", evidence).verdict == "undecided"


def test_the_wider_grid_takes_the_verdict_over():
    # over the first grid LRD is slower, at the strength that was added it is faster
    def lrd(config):
        return 300 if config.weight_decay * config.lr > 0.15 else 1500

    found = judged("faster", e1(wider=True, A1=jitter(900), A2=jitter(900), A4=lrd))
    assert found.verdict == "holds" and found.note == ""
    assert "the wider grid" not in found.provisional
    assert found.basis == "144 of 144 runs, 8 seeds"


def test_over_seven_seeds_the_wider_grid_does_not_judge_yet():
    def lrd(config):
        strong = config.weight_decay * config.lr > 0.15
        if strong and config.seed in studies.SEEDS[7:]:
            return None
        return 300 if strong else 1500

    found = judged("faster", e1(wider=True, A1=jitter(900), A2=jitter(900), A4=lrd))
    assert (found.verdict, found.note) == ("does not hold", "so far")
    assert "the wider grid" in found.provisional


def test_an_edge_of_the_first_grid_is_none_once_a_wider_one_chooses_the_same():
    def lrd(config):
        t = float(f"{config.weight_decay * config.lr:.4g}")
        return 300 if (config.lr, t) == (3e-3, 0.1) else 1500

    def first(config):  # nothing of the wider grid
        t = float(f"{config.weight_decay * config.lr:.4g}")
        tuning = arm_of(config) == "A4" and config.seed in studies.TUNING
        return lrd(config) if tuning and t not in studies.FURTHER else None

    narrow = evidence_of(["E1"], first)
    wide = e1(wider=True, A1=jitter(900), A2=jitter(900), A4=lrd)
    edge = "tuning chose an edge of its grid, LRD on the blocks at the largest strength"
    assert comparing.at_edges(narrow, ["E1 first A4"]) == edge
    assert comparing.at_edges(wide, ["E1 first A4"]) == ""


def test_a_choice_that_stands_keeps_all_of_its_seeds():
    found = judged(
        "faster", e1(wider=True, A1=jitter(900), A2=jitter(900), A4=jitter(1500))
    )
    assert found.verdict == "does not hold" and found.note == ""
    assert found.basis == "360 of 360 runs, 20 seeds"


def test_an_arm_tuned_for_a_fraction_is_compared_there_too():
    """At f = 0.4 twice the strength is the better one for LRD, at 0.25 the worse by more."""

    def lrd(config):
        t = float(f"{config.weight_decay * config.lr:.4g}")
        if (config.lr, t) not in ((3e-3, 0.1), (3e-3, 0.2)):
            return 2500
        early = (t == 0.2) == (config.fraction == 0.4)
        return jitter(600 if early else 1200 if config.fraction == 0.4 else 2400)(config)

    arms = {"A1": jitter(900), "A2": jitter(900), "A4": lrd}
    words = "At f = 0.4, each arm at what tuning chooses for it there, on eight seeds: "
    ratio = f"{675 / 975:.2f} "
    evidence = e1(wider=True, **arms)
    found = judged("faster", evidence)
    assert words + ratio in found.effect and "At f = 0.25, each" not in found.effect
    assert words not in judged("faster", e1(**arms)).effect


def test_arms_that_are_tuned_to_stay_are_compared_once_all_of_them_are_there():
    (l2, _, lrd), seeds = studies.LASTING, studies.SEEDS[:8]

    def stays(config):  # later than the other settings of L2, and for good
        weak = config.weight_decay * config.lr == pytest.approx(l2.t)
        return jitter(2000 if weak and config.seed in seeds else 900)(config)

    words = "Each tuned for 4, on eight seeds at f = 0.25, 0.4: "
    found = judged("faster", e1(A1=stays, A2=jitter(900), A4=jitter(1500)))
    assert f"{words}{1575 / 2075:.2f} (" in found.effect
    assert f"to L2 on all, {1575 / 975:.2f} (" in found.effect.partition(words)[2]

    def one_left(config):
        there = config.seed != seeds[-1] or config.weight_decay * config.lr > 2 * l2.t
        return stays(config) if there else None

    found = judged("faster", e1(A1=one_left, A2=jitter(900), A4=jitter(1500)))
    assert words not in found.effect and lrd.arm == "A4"


def test_the_p_of_a_card_is_of_the_arms_on_it():
    # over the wider grid LRD would be sooner, but that of L2 on the blocks is not recorded
    def lrd(config):
        return 300 if config.weight_decay * config.lr > 0.15 else jitter(1500)(config)

    def blocks(config):
        return None if config.seed in studies.MORE_TUNING else jitter(900)(config)

    evidence = e1(wider=True, A1=jitter(900), A2=blocks, A4=lrd)
    found = judged("faster", evidence)
    assert (found.verdict, found.note) == ("does not hold", "so far")
    narrow = e1(A1=jitter(900), A2=jitter(900), A4=jitter(1500))
    assert comparing.primary(evidence) == comparing.primary(narrow)


def test_no_superiority():
    def lrd(config):
        return 300 if config.fraction >= 0.3 else 1500

    assert judged("no-superiority", e1(A1=jitter(800), A4=lrd)).verdict == "holds"
    assert judged("no-superiority", e1(A1=jitter(800), A4=200)).verdict == "does not hold"
    assert judged("no-superiority", e1(A1=800, A4=800)).verdict == "undecided"


# ---- E0


def e0(lrd, l2):
    """Evidence of E0: T_gen of each rule from the lambda at which it is drawn."""

    def make(config):
        T, drawn = (
            (lrd, config.weight_decay)
            if config.rule == "lrd"
            else (l2, config.weight_decay / 10)
        )
        return T(drawn, config) if callable(T) else T

    return evidence_of(["E0"], make)


@pytest.mark.parametrize(
    ("lrd", "l2", "faster", "much"),
    [
        (500, 1000, "holds", "does not hold"),
        (100, 2000, "holds", "holds"),
        (1000, 500, "does not hold", "does not hold"),
        # an L2 that never gets there may be late by any factor
        (500, NEVER, "holds", "undecided"),
        (lambda w, c: 500 if w < 0.04 else 1500, 1000, "holds in part", "does not hold"),
        (NEVER, 500, "not recorded yet", "not recorded yet"),
    ],
)
def test_who_is_faster_at_the_first_codes_setting(lrd, l2, faster, much):
    evidence = e0(lrd, l2)
    assert judged("faster-published", evidence).verdict == faster
    assert judged("much-faster-published", evidence).verdict == much


def test_what_is_drawn_at_the_first_codes_setting_has_half_of_the_data_and_more():
    found = judged(
        "faster-published", e0(lambda w, c: 500 if c.fraction >= 0.5 else NEVER, 1000)
    )
    assert found.verdict == "holds" and "LRD 12 of 12, L2 12 of 12" in found.effect


def test_where_few_of_its_runs_generalise_lrd_is_not_timed():
    def lrd(w, config):  # at λ = 0.05 one seed of three
        return 500 if w < 0.04 or config.seed == 0 else NEVER

    found = judged("faster-published", e0(lrd, 2000))
    assert "λ = 0.01:" in found.effect and "λ = 0.05" not in found.effect


def test_an_undecided_factor_says_where_it_is_decided():
    some = e0(500, lambda w, c: 600 if w > 0.04 else NEVER)
    found = judged("much-faster-published", some)
    assert found.verdict == "undecided"
    assert found.effect.endswith(
        ". At λ = 0.05 most L2 runs generalise, and the ratio is not that small"
    )
    assert "not that small" not in judged("much-faster-published", e0(500, NEVER)).effect


# ---- E2


def e2(**T):
    """Evidence of E2 by the part of the step."""

    def make(config):
        held = "-held" * (config.hold == "norm")
        name = {"both": "R+T", "radial": "R", "tangential": "T"}[config.part] + held
        name = {"lrd": name, "l2": "L2b"}.get(config.rule, "none")
        T_gen = T.get(name, NEVER)
        return T_gen(config) if callable(T_gen) else T_gen

    return evidence_of(["E2"], make)


@pytest.mark.parametrize(
    ("tangential", "radial", "verdict"),
    [
        (jitter(400), NEVER, "holds"),
        (NEVER, jitter(400), "does not hold"),
        (jitter(400), jitter(400), "does not hold"),
        (NEVER, NEVER, "undecided"),
    ],
)
def test_which_part_acts(tangential, radial, verdict):
    found = judged("mechanism", e2(T=tangential, R=radial))
    assert found.verdict == verdict and found.curve is not None
    assert found.basis.endswith("8 seeds")


def at_its_best(t):
    """Generalises the sooner, the nearer its strength is to t."""

    def T(config):
        return 500.0 + 50 * round(10 * abs(math.log(config.weight_decay * config.lr / t)))

    return T


@pytest.mark.parametrize(
    ("t", "words"),
    [
        (1e-2, ""),
        (2.5e-3, "tangential part at the smallest strength"),
        (4e-2, "tangential part at the largest strength"),
    ],
)
def test_a_choice_at_the_edge_of_its_grid_makes_a_verdict_provisional(t, words):
    inside = dict.fromkeys(("R", "R+T", "T-held", "R+T-held"), at_its_best(1e-2))
    found = judged("mechanism", e2(T=at_its_best(t), **inside))
    assert (words in found.provisional) if words else found.provisional == ""
    assert "radial part at" not in found.provisional
    # and the verdict is that of the ratio, edge or not
    assert found.verdict == "does not hold"
    assert judged("tangential-adds", e2(T=at_its_best(t), **inside)).provisional == ""


def test_a_tie_of_trials_that_all_fail_is_no_choice():
    """Where no tuning run generalises the smallest strength is taken, at an edge; but the
    words must not say that tuning chose it."""
    evidence = e2(T=NEVER, R=500)
    assert evidence.choices["E2 T"].trial.t == min(studies.PART_STRENGTHS)
    assert not evidence.choices["E2 T"].edges()
    found = judged("mechanism", evidence)
    assert "could choose nothing for tangential part" in found.provisional
    assert "tangential part at the smallest" not in found.provisional
    assert (
        "of the tuning runs of tangential part, at all strengths, 0 of 10" in found.effect
    )


def test_so_it_does_for_every_arm_that_was_tuned():
    # where all strengths do alike, the smallest is taken
    found = judged("faster", e1(A1=900, A2=900, A4=900))
    assert found.provisional.count("at the smallest strength") == 3
    found = judged("pre-condition", e1(**dict.fromkeys(studies.ARMS, 900)))
    assert "LRD on the blocks at the smallest strength" in found.provisional


def test_what_the_tangential_part_adds():
    for whole, verdict in ((400, "holds"), (1600, "does not hold"), (800, "does not hold")):
        evidence = e2(**{"R+T": jitter(whole), "R": jitter(800)})
        assert judged("tangential-adds", evidence).verdict == verdict


@pytest.mark.parametrize(
    ("lrd", "ahead", "verdict"),
    [
        (lambda c: 400, "f = 0.3, 0.4, 0.5, L2 at none", "holds"),
        (
            lambda c: 400 if c.fraction == 0.4 else 800,
            "f = 0.4, L2 at none",
            "holds in part",
        ),
        # one fraction behind does not undo one ahead
        (
            lambda c: 400 if c.fraction == 0.4 else 1600,
            "f = 0.4, L2 at f = 0.3, 0.5",
            "holds in part",
        ),
        (
            lambda c: 1600 if c.fraction == 0.4 else 800,
            "none, L2 at f = 0.4",
            "does not hold",
        ),
        (lambda c: 800, "none, L2 at none", "undecided"),
    ],
)
def test_who_is_sooner_on_the_same_blocks(lrd, ahead, verdict):
    def jittered(config):
        return lrd(config) + 50 * (config.seed % 4)

    found = judged("sooner-on-the-blocks", e2(**{"R+T": jittered, "L2b": jitter(800)}))
    assert found.verdict == verdict and found.effect.startswith(
        f"LRD is ahead at {ahead}, of 3"
    )
    assert found.basis == "48 of 48 runs, 8 seeds"
    # each fraction has its own ratio of means over the eight seeds
    for f in (0.3, 0.4, 0.5):
        config = studies.part("R+T", 0.01, fraction=f)
        ratio = (lrd(config) + 75) / 875
        assert f"f = {f:g}: {ratio:.2f}" in found.effect


def test_an_l2_at_an_edge_is_named():
    found = judged("sooner-on-the-blocks", e2(**{"R+T": 800, "L2b": at_its_best(4e-2)}))
    assert "L2 on the blocks at the largest strength" in found.provisional


def test_the_curve_of_accuracies():
    def make(config):
        return run_of(config, NEVER, best=0.6 if config.part == "tangential" else 0.0)

    evidence = evidence_of(["E2"], make)
    curve = judged("mechanism", evidence).curve
    at = dict(zip(curve.at, curve.lines["tangential part"], strict=True))
    assert at[0.5] == 1 and at[0.75] == 0 and curve.used == 0.95


# ---- E3 and E6


def e3(l2, lrd):
    """Evidence of E3: which of the changed networks generalise under either rule."""

    def make(config):
        if config.seed in studies.TUNING or (
            config.attention == "learned" and config.rank is None
        ):
            return 500 if config.rule != "none" else NEVER
        words = "kept flat" if config.rank == "flat" else config.attention
        return 500 if words in {"A1": l2, "A4": lrd}.get(arm_of(config), ()) else NEVER

    def first(config):
        return None if config.seed in studies.MORE_TUNING else make(config)

    return evidence_of(["E1", "E3"], first)


@pytest.mark.parametrize(
    ("works", "verdict"),
    [
        ((), "holds"),
        (("frozen", "kept flat"), "does not hold"),
        (("frozen",), "holds in part"),
        (("uniform",), "holds"),  # it is the control
    ],
)
def test_whether_a_low_rank_is_needed(works, verdict):
    # one rule's answer does not depend on the other's
    for other in ((), ("frozen", "kept flat")):
        for name, evidence in (
            ("needed", e3(other, works)),
            ("needed-by-l2", e3(works, other)),
        ):
            found = judged(name, evidence)
            assert found.verdict == verdict and "learned 8 of 8" in found.effect
            assert found.basis == "32 of 32 runs, 8 seeds" and found.note == ""
            assert f"frozen {8 * ('frozen' in works)} of 8" in found.effect


def test_half_of_the_seeds_are_enough_to_do_without_a_low_rank():
    def make(config):
        if config.seed in studies.MORE_TUNING:
            return None
        changed = config.attention != "learned" or config.rank is not None
        return NEVER if config.rule == "none" or (changed and config.seed % 2) else 500

    found = judged("needed", evidence_of(["E1", "E3"], make))
    assert found.verdict == "does not hold" and "frozen 4 of 8" in found.effect
    assert found.note == "by one run"


@pytest.mark.parametrize(
    ("there", "here", "verdict"),
    [
        (500, 500, "holds"),
        (500, NEVER, "holds in part"),
        (NEVER, 500, "holds in part"),
        (NEVER, NEVER, "does not hold"),
    ],
)
def test_queries_and_keys_alone(there, here, verdict):
    def make(config):
        if config.p == 113:
            return there
        return here if config.select == "qk" else NEVER

    found = judged("qk-alone", evidence_of(["E0", "E6"], make))
    assert found.verdict == verdict
    assert f"{36 * (there == 500)} of 36 generalise" in found.effect
    empty = evidence_of(["E0", "E6"], lambda c: None if c.p == 97 else 500)
    assert judged("qk-alone", empty).verdict == "not recorded yet"


# ---- the rank


def e1_ranks(falls, ends=3.0):
    """Evidence of E1 and E0 in which every run generalises at 1000 and arm A's rank falls
    at falls[A] to `ends`."""

    def make(config):
        if config.seed in studies.MORE_TUNING:
            return None
        name = "E0" if config.p == 113 else arm_of(config)
        return run_of(config, 1000, (32.0, ends), falls.get(name, 300))

    return evidence_of(["E1", "E0"], make)


def test_a_pre_condition_is_refuted_by_runs_without_it():
    found = judged("pre-condition", e1_ranks({}))
    assert found.verdict == "holds" and "some run of 0 of 20 seeds" in found.effect
    found = judged("pre-condition", e1_ranks({"A3": 2000}))
    assert found.verdict == "does not hold" and "some run of 20 of 20 seeds" in found.effect
    assert "L2 on all but the blocks 120 of 120" in found.effect
    # at T_gen itself counts as before it
    assert judged("pre-condition", e1_ranks({"A3": 1000})).verdict == "holds"


@pytest.mark.parametrize(
    ("whole", "words", "verdict"),
    [(False, "0 of 9 seeds", "undecided"), (True, "0 of 10 seeds", "holds")],
)
def test_no_run_without_it_counts_over_ten_whole_seeds(whole, words, verdict):
    """The tenth seed lacks an arm, and has runs that would count against it."""
    tenth = studies.SEEDS[9]

    def make(config):
        if config.seed in studies.MORE_TUNING + studies.SEEDS[10:]:
            return None
        if config.seed != tenth or whole:
            return run_of(config, 1000, falls=300)
        return None if arm_of(config) == "A6" else run_of(config, 1000, falls=2000)

    found = judged("pre-condition", evidence_of(["E1"], make))
    assert found.verdict == verdict and f"some run of {words}" in found.effect


def test_which_comes_first():
    for falls, verdict in (
        ({}, "holds"),
        ({"A4": 1000}, "holds in part"),
        ({"A4": 1000, "A1": 1000, "A2": 1000}, "does not hold"),
    ):
        found = judged("precedes", e1_ranks(falls))
        assert found.verdict == verdict
    assert "never generalise" not in found.effect
    assert judged("precedes", e0(500, NEVER)).effect.endswith("recorded of LRD")


def test_runs_that_never_generalise_are_counted_at_the_same_record():
    config = studies.arm(studies.Trial("A1", 1e-3, 0.01))
    for T, best, falls, share in (
        (1000, 0.0, 950, 3 / 32),  # the record before step 1000
        (1000, 0.0, 1000, 1.0),
        (NEVER, 0.4, 2000, 3 / 32),  # its last record, at step 3000
        (NEVER, 0.4, 9999, 1.0),
    ):
        run = run_of(config, T, falls=falls, best=best)
        assert share_before_half(run) == pytest.approx(share)
    # half right, then no better: the rank falls after that, and at its end it is low
    run = run_of(config, NEVER, falls=2000)
    run.history["orbit_clean_accuracy"][20:] = 0.8  # from step 1000 on
    assert share_before_half(run) == 1.0
    # records after a run has diverged do not count
    run = run_of(config, NEVER, falls=2000)
    run.history["qk_stable_rank"][-5:] = np.nan
    assert share_before_half(run) == pytest.approx(3 / 32)


def test_runs_that_never_generalise_do_not_judge():
    def make(config):
        if config.seed in studies.MORE_TUNING:
            return None
        late = config.p == 97 and config.seed % 2 and config.seed in studies.SEEDS
        return run_of(config, NEVER if late else 1000, falls=2500 if late else 300)

    found = judged("precedes", evidence_of(["E1", "E0"], make))
    assert found.verdict == "holds"
    assert "in 60 of 60 LRD runs (100%) and 120 of 120 L2 runs (100%) that never" in (
        found.effect
    )


def test_what_accompanies():
    assert judged("accompanies", e1_ranks({})).verdict == "holds"
    late = {"A1": 2500, "A2": 2500, "A4": 9999}
    found = judged("accompanies", e1_ranks(late))
    assert found.verdict == "holds in part"
    assert judged("accompanies", e1_ranks({}, ends=20.0)).verdict == "does not hold"


def test_two_of_three_runs_are_not_nine_of_ten():
    def make(config):
        if config.seed in studies.MORE_TUNING:
            return None
        stays = config.rule == "lrd" and config.seed % 3 == 0
        return run_of(config, 1000, (32.0, 30.0 if stays else 3.0), 300)

    evidence = evidence_of(["E1", "E0"], make)
    for name in ("precedes", "accompanies"):
        assert judged(name, evidence).verdict == "holds in part"


def under_l2(share):
    """Evidence of tuned L2 on three seeds: the QK rank falls, and ends at share(config) of
    its start."""

    def make(config):
        if config.seed in studies.MORE_TUNING + studies.SEEDS[3:] or config.rule != "l2":
            return None
        run = run_of(config, 1000, (32.0, 3.0), 300)
        run.history["qk_stable_rank"][-1] = 32.0 * share(config)
        return run

    return evidence_of(["E1"], make)


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        (lambda c: 0.75, "does not hold"),  # nothing of the paper's grid is there
        (lambda c: 0.85, "holds"),
        (lambda c: 1.2, "holds"),
        (lambda c: 1.3, "does not hold"),
        (lambda c: 0.7 if c.seed % 2 else 0.95, "undecided"),
        (lambda c: 1.3 if c.seed % 2 else 1.1, "undecided"),
    ],
)
def test_a_rank_that_stays(share, verdict):
    assert judged("unchanged", under_l2(share)).verdict == verdict


def test_a_rank_that_stays_on_the_papers_grid_alone():
    evidence = under_l2(lambda c: 0.1)
    weak = {c: run_of(c, NEVER, (32.0, 31.0)) for c in WANTED["paper"] if c.rule == "l2"}
    both = Evidence(WANTED, weak, evidence.studied)
    assert judged("unchanged", evidence).verdict == "does not hold"
    assert judged("unchanged", both).verdict == "holds in part"


# ---- what waits for runs: E4, E5, E8, E9, E10


def with_e1(names, make):
    """Evidence of these studies, beside an E1 whose wider grid is recorded."""

    def both(config):
        known = make(config)
        return 500 if known == "E1" else known

    return evidence_of(["E1", *names], both)


def e5(late, none=NEVER):
    """Evidence of E5: late(arm, gradient, select) is T_gen."""

    def make(config):
        if config.decay_after is None:
            return "E1"
        if config.rule == "none":
            return none
        return late(arm_of(config), config.late_gradient, config.select)

    return with_e1(["E5"], make)


@pytest.mark.parametrize(
    ("l2", "lrd", "verdict"),
    [
        (NEVER, 1500, "holds"),
        (1500, 1500, "holds in part"),
        (NEVER, NEVER, "holds in part"),
        (1500, NEVER, "does not hold"),
    ],
)
def test_what_decay_does_after_memorisation(l2, lrd, verdict):
    def late(name, gradient, select):
        return NEVER if gradient != 1 else lrd if name == "A4" else l2

    found = judged("stalls", e5(late))
    assert found.verdict == verdict and "seed" not in found.provisional
    assert "no decay 0 of 6" in found.effect and found.note == ""


def test_a_verdict_on_six_seeds_that_one_of_them_turns_says_so():
    def make(config):
        if config.decay_after is None:
            return "E1"
        lrd = config.rule != "none" and arm_of(config) == "A4"
        return 1500 if lrd and config.seed % 2 else NEVER

    found = judged("stalls", with_e1(["E5"], make))
    assert "LRD on the blocks 3 of 6" in found.effect
    assert (found.verdict, found.note) == ("holds in part", "by one run")


def test_what_decay_does_without_a_gradient():
    for blocks, qk, verdict in (
        (1500, NEVER, "holds"),
        (NEVER, 1500, "holds"),
        (NEVER, NEVER, "does not hold"),
    ):

        def late(name, gradient, select, blocks=blocks, qk=qk):
            if name != "A4" or gradient:
                return 1500
            return qk if select == "qk" else blocks

        assert judged("without-gradient", e5(late)).verdict == verdict


def test_trapped_or_late():
    def e4(T):
        return evidence_of(["E4"], lambda c: T(c) if c.rule == "l2" else NEVER)

    found = judged("trapped", e4(lambda c: NEVER))
    assert found.verdict == "holds" and "0 do by step 30000" in found.effect
    assert judged("trapped", e4(lambda c: 20_000)).verdict == "does not hold"
    assert judged("trapped", e4(lambda c: 1000)).verdict == "does not hold"
    some = judged("trapped", e4(lambda c: 20_000 if c.weight_decay == 1 else NEVER))
    assert some.verdict == "holds in part" and "λ = 1: 3 of 3" in some.effect
    for T in (1000, 3000):  # those that are there by step 3000 were never trapped
        early = judged("trapped", e4(lambda c, T=T: T if c.weight_decay == 1 else NEVER))
        assert early.verdict == "holds" and "0 do by step 30000" in early.effect


def test_other_tasks():
    for lrd, l2, verdict in ((300, 900, "holds"), (900, 300, "does not hold")):

        def make(config, lrd=lrd, l2=l2):
            if config.task == "add":
                return NEVER
            return (lrd if arm_of(config) == "A4" else l2) + 50 * (config.seed % 3)

        found = judged("other-tasks", evidence_of(["E8"], make))
        assert found.verdict == verdict and found.basis == "12 of 12 runs, 3 seeds"


def test_other_optimisers():
    for works, verdict in (
        (("sgd", "muon"), "holds"),
        (("sgd",), "holds in part"),
        ((), "does not hold"),
    ):

        def make(config, works=works):
            return 500 if config.rule == "lrd" and config.optimizer in works else NEVER

        assert judged("other-optimisers", evidence_of(["E9"], make)).verdict == verdict
    # what generalises without decay too is no work of LRD's
    bare = evidence_of(["E9"], lambda c: 500 if c.rule != "l2" else NEVER)
    assert judged("other-optimisers", bare).verdict == "does not hold"


def e10(heads, whole):
    """Evidence of E10, and of E2, whose tuning chooses the strength 0.02."""

    def make(config):
        if config.part != "both" or config.rule != "lrd" or config.hold != "none":
            return NEVER
        if config.seed in studies.TUNING:
            return 300 if config.weight_decay == 20 else NEVER
        return (heads if config.per_head else whole)(config)

    return evidence_of(["E2", "E10"], make)


@pytest.mark.parametrize(
    ("heads", "whole", "verdict"),
    [
        (jitter(600), jitter(600), "holds"),
        (lambda c: 1000 + 50 * (c.seed % 3), lambda c: 1000 + 50 * (-c.seed % 3), "holds"),
        (jitter(400), jitter(1600), "does not hold"),
        (jitter(1600), jitter(400), "does not hold"),
        (lambda c: 400 if c.seed % 2 else 1600, lambda c: 900, "undecided"),
        # later in every seed, by 1.1 or 1.5: within the interval lies 1.25
        (lambda c: 1500 if c.seed % 2 else 1100, lambda c: 1000, "undecided"),
    ],
)
def test_heads_and_whole_matrices(heads, whole, verdict):
    found = judged("whole-matrices", e10(heads, whole))
    assert found.verdict == verdict and found.basis == "48 of 48 runs, 8 seeds"


STUDIED = [
    *("less-data", "faster", "faster-published", "much-faster", "much-faster-published"),
    *("no-superiority", "precedes", "pre-condition", "accompanies", "unchanged"),
    *("mechanism", "tangential-adds", "sooner-on-the-blocks", "needed", "needed-by-l2"),
    *(
        "qk-alone",
        "stalls",
        "without-gradient",
        "trapped",
        "other-tasks",
        "other-optimisers",
        "whole-matrices",
    ),
]


def test_without_runs_a_row_says_so():
    nothing = Evidence(WANTED, {})
    for name in STUDIED:
        found = judged(name, nothing)
        assert found.verdict == "not recorded yet" and found.basis.startswith("0 of ")
        assert found.provisional == ""


def test_two_seeds_are_too_few():
    def make(config):
        return 500 if config.seed < 1002 and config.seed not in (0, 1) else None

    evidence = evidence_of(["E1", "E2", "E3", "E0", "E6"], make)
    for name in STUDIED:
        found = judged(name, evidence)
        assert found.verdict == "not recorded yet" or "seed" in found.provisional


# ---- the statistics


def logrank_by_hand(strata):
    """p of two arms' times by Mantel's formula, runs compared within a stratum only."""
    apart, variance = 0.0, 0.0
    for a, b in strata:
        for u in sorted({t for t in (*a, *b) if math.isfinite(t)}):
            n1, n = sum(t >= u for t in a), sum(t >= u for t in (*a, *b))
            d1, d = a.count(u), (*a, *b).count(u)
            apart += d1 - d * n1 / n
            variance += d * n1 * (n - n1) * (n - d) / (n * n * max(n - 1, 1))
    return math.erfc(abs(apart) / math.sqrt(2 * variance))


def test_a_hypothesis_without_runs_counts_in_the_correction():
    adjusted = comparing.primary(e2(T=NEVER, R=jitter(400)))
    stratum = [NEVER] * 8, [400 + 50 * (seed % 4) for seed in studies.SEEDS[:8]]
    raw = logrank_by_hand([stratum] * len(studies.PART_AT))
    assert adjusted["H3"] == pytest.approx(5 * raw, rel=1e-9, abs=0)
    assert {adjusted[name] for name in ("H1", "H2", "H4", "H5")} == {1.0}


def test_runs_are_compared_with_those_of_their_fraction():
    """H2: with more data all are sooner, which says nothing about the rules."""

    def early(f, seed):
        return (200 if f >= 0.3 else 2000) + 50 * (seed % 4)

    def late(f, seed):
        return (300 if f >= 0.3 else 2300) + 50 * (seed % 5)

    def by(T):
        return lambda config: T(config.fraction, config.seed)

    adjusted = comparing.primary(e1(A1=by(late), A2=by(late), A4=by(early)))
    raw = logrank_by_hand(
        [[T(f, seed) for seed in studies.SEEDS] for T in (early, late)]
        for f in studies.FRACTIONS
    )
    assert adjusted["H2"] == pytest.approx(5 * raw, rel=1e-9, abs=0)


@pytest.mark.parametrize("rule", ["l2", "lrd"])
def test_what_is_needed_under_one_rule_alone_is_seen(rule):
    """H4 is of both rules."""
    works = {"l2": (), "lrd": (), rule: ("frozen", "kept flat")}
    assert comparing.primary(e3(**works))["H4"] < comparing.ALPHA


@pytest.mark.parametrize("fraction", studies.LONG_AT)
def test_what_is_freed_at_one_fraction_alone_is_seen(fraction):
    """H5 is of both fractions."""

    def make(config):
        return 5000 if (config.rule, config.fraction) == ("l2", fraction) else NEVER

    assert comparing.primary(evidence_of(["E4"], make))["H5"] < comparing.ALPHA


@pytest.mark.parametrize(
    ("low", "high", "p", "factor", "verdict"),
    [
        (0.5, 0.9, None, 1, "holds"),
        (0.5, 0.9, 0.01, 1, "holds"),
        (0.5, 0.9, 0.2, 1, "undecided"),
        (1.1, 1.9, None, 1, "does not hold"),
        (1.1, 1.9, 0.2, 1, "undecided"),
        (0.7, 1.4, None, 1, "undecided"),
        (0.9, 1.1, None, 1, "does not hold"),  # no difference
        (0.05, 0.09, None, 0.1, "holds"),
        (0.5, 0.9, None, 0.1, "does not hold"),
        (0.05, 0.5, None, 0.1, "undecided"),
    ],
)
def test_a_verdict_of_a_ratio(low, high, p, factor, verdict):
    ratio = Ratio((low + high) / 2, low, high, 0.95)
    narrow = Ratio(ratio.value, low, high, 0.9)
    assert comparing.sooner(comparing.Versus(8, ratio, narrow), p, factor) == verdict


def test_where_no_run_generalises_nothing_is_compared():
    none = e10(lambda c: NEVER, lambda c: NEVER)
    assert judged("whole-matrices", none).verdict == "undecided"
    same = comparing.Versus(
        8, Ratio(1.0, math.nan, math.nan, 0.95), Ratio(1.0, math.nan, math.nan, 0.9)
    )
    assert comparing.sooner(same) == "does not hold"
    assert comparing.sooner(same._replace(some=False)) == "undecided"


def test_a_verdict_is_provisional_until_all_of_its_runs_are_recorded():
    def make(config):
        if config.decay_after is None:
            return "E1"
        return None if config.seed == studies.SEEDS[5] else 1500

    found = judged("stalls", with_e1(["E5"], make))
    assert found.basis == "25 of 30 runs, 5 seeds"
    assert "5 of its runs are not recorded" in found.provisional


def test_a_share_of_seeds():
    # by the definition: at either end the chance of so many or more, so few or fewer, is 2.5%
    def tail(p, ks, n):
        return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in ks)

    for wins, of in ((3, 8), (7, 8), (1, 20)):
        low, high = binomial_interval(wins, of)
        assert tail(low, range(wins, of + 1), of) == pytest.approx(0.025)
        assert tail(high, range(wins + 1), of) == pytest.approx(0.025)
    assert binomial_interval(0, 5).low == 0 and binomial_interval(5, 5).high == 1


def test_the_sign_test_counts_splits():
    for plus, minus in itertools.product(range(5), range(5)):
        n, far = plus + minus, abs(plus - minus)
        splits = [math.comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= far]
        assert sign_test(plus, minus) == pytest.approx(sum(splits) / 2**n)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: binomial_interval(3, 2), ValueError, "wins must be .*got 3"),
        (lambda: binomial_interval(0, 0), ValueError, "of must be .*got 0"),
        (lambda: binomial_interval(1, 2, 1.0), ValueError, "level must be .*got 1.0"),
        (lambda: low_rank_needed("A3"), ValueError, "name must be .*got 'A3'"),
        (lambda: sign_test(-1, 2), ValueError, "plus must be .*got -1"),
        (lambda: sign_test(1, 0.5), TypeError, "minus must be .*got 0.5"),
    ],
)
def test_bad_input_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_without_scipy_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lrdlib\[evidence\]'"):
        sign_test(1, 2)
