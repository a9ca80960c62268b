"""The studies as data: what they ask for, and how they choose, on outcomes made by hand."""

import math
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lrdlib.evidence import studies
from lrdlib.evidence.studies import (
    ARMS,
    BASE,
    CHANGES,
    MORE_TUNING,
    OUTCOME,
    PARTS,
    SEEDS,
    STUDIES,
    TUNING,
    WORTH,
    Choice,
    Trial,
    arm,
    best,
    choice,
    choices,
    first_choice,
    first_trials,
    generalised,
    leading,
    mean_time,
    missing,
    none,
    part,
    part_choice,
    smallest,
    trials,
    weight_decay,
)
from lrdlib.training.config import TrainConfig
from lrdlib.training.packs import load_runs
from lrdlib.training.runs import Run

RECORDED = Path(__file__).parent.parent / "book" / "runs" / "sweep" / "packs"
TUNED = {*TUNING, *MORE_TUNING}


def answered(names, outcome, known=None):
    """All that the studies ask for, round after round, with T_gen = outcome(config); and
    the number of rounds."""
    known, rounds = dict(known or {}), 0
    while todo := missing(names, known):
        assert len(todo) == len(set(todo))
        known |= {config: outcome(config) for config in todo}
        rounds += 1
    return known, rounds


def random_outcome(seed):
    rng = np.random.default_rng(seed)

    def outcome(config):
        late = rng.random() < 0.3
        return math.inf if late else 50.0 * int(rng.integers(1, config.steps // 50))

    return outcome


@pytest.fixture(scope="module")
def known():
    """All studies answered at random."""
    return answered(WORTH, random_outcome(0))[0]


@pytest.fixture(scope="module")
def runs():
    """The recorded runs by their configs."""
    return {
        TrainConfig(**run.config): run
        for path in sorted(RECORDED.glob("*.npz"))
        for run in load_runs(path)
    }


@pytest.fixture(scope="module")
def recorded(runs):
    """T_gen of the recorded runs."""
    return {config: generalised(run) for config, run in runs.items()}


# ---- what is asked for

AT_FIRST = {  # runs of each study before anything is known
    "E0": 3 * 6 * 6 * 2,  # seeds, fractions, strengths, rules
    "E1": 6 * (18 + 4) * 2 * 2,  # arms, trials, fractions, seeds
    "E2": 6 * 5 * 2 + 8 * 3,  # parts, strengths, seeds; and norms held alone
    "E3": (4 + 4) * 8,
    "E4": 3 * 2 * 7,
    "E5": 3 * 6,
    "E6": (3 * 2 * 2 + 3 * 2) * 6,
    "E7": 2 * 8,
    "E8": 2 * 4 * 3 * 3,
    "E9": (3 + 2) * (1 + 3 + 3) * 2,
    "E10": 8 * 3,
}


@pytest.mark.parametrize("name", STUDIES)
def test_the_number_of_runs_before_anything_is_known(name):
    configs = STUDIES[name].configs({})
    assert len(configs) == len(set(configs)) == AT_FIRST[name]


AT_LAST = {  # and when all is: judging runs of choices come on top
    "E0": (216, 216),
    "E1": (528 + 96 + 720, 528 + 96 + 720 + 6 * 8 * 6 + 6 * 2 * 8 + 3 * 2 * 8),
    "E2": (60 + 8 * 3 * 7,) * 2,
    "E3": (80 + 96,) * 2,
    "E4": (42, 42),
    "E5": (3 * 6 * 6,) * 2,
    "E6": (108, 108),
    "E7": (16, 16),
    "E8": (72 + 24,) * 2,
    "E9": (70 + 24,) * 2,
    "E10": (40, 40),
}


@pytest.mark.parametrize("name", STUDIES)
def test_the_number_of_runs_when_all_is_known(name, known):
    """E1's later choices may be its first ones, so that it is between two numbers."""
    least, most = AT_LAST[name]
    assert least <= len(set(STUDIES[name].configs(known))) <= most


def test_a_study_ends_after_a_few_rounds():
    """Tuning, more tuning and first confirmations, the later ones: whatever comes out."""
    for outcome in (random_outcome(1), lambda config: math.inf):
        known, rounds = answered(WORTH, outcome)
        assert rounds == 3 and not missing(WORTH, known)


def test_missing_is_in_order_of_worth_and_each_once():
    todo = missing(WORTH, {})
    assert len(todo) == len(set(todo)) == sum(AT_FIRST.values())
    assert todo[: AT_FIRST["E1"]] == STUDIES["E1"].configs({})
    firsts = [todo.index(STUDIES[name].configs({})[0]) for name in WORTH]
    assert firsts == sorted(firsts) and sorted(WORTH) == sorted(STUDIES)
    assert missing(["E6"], dict.fromkeys(todo[:-1], 0.0)) == []
    with pytest.raises(ValueError, match=r"study must be one of .*'E0'.*, got 'E11'"):
        missing(["E11"], {})


def test_shared_runs_are_asked_for_once(known):
    """E3 stands on E1's choice; what both want is one run."""
    both = missing(["E1", "E3", "E1"], {})
    assert len(both) == len(set(both))
    assert set(both) == set(missing(["E1"], {})) | set(missing(["E3"], {}))


def test_all_are_of_the_base_setting(known):
    """Of the plan: what is not an experiment's own is the same everywhere, but in E0."""
    default = TrainConfig()
    same = ("p", "d_model", "layers", "heads", "batch_size", "betas", "qk_norm", "scale")
    for name in STUDIES:
        for c in STUDIES[name].configs(known):
            if name == "E0":
                assert c.mode == "independent" and c.qk_norm == "width" and c.decay_gains
                assert c.steps == 2500 and c.init_scale == pytest.approx(3**-0.5, rel=1e-5)
                continue
            assert c.mode == "decoupled" and c.steps == (30_000 if name == "E4" else 3000)
            assert all(getattr(c, field) == getattr(default, field) for field in same)
            assert c.task == "add" or name == "E8"
            assert c.optimizer == "adamw" or name == "E9"


def test_seeds_that_were_looked_at_judge_nothing(known):
    assert not TUNED & set(SEEDS) and not {0, 1, 2} & set(SEEDS)
    for name in STUDIES:
        if name != "E0":  # the first code's own grid, which judges no hypothesis
            assert {c.seed for c in STUDIES[name].configs(known)} <= TUNED | set(SEEDS)


# ---- tuning and judging


def test_choices_rest_on_tuning_seeds_and_tuning_seeds_do_nothing_else(known):
    made = choices(known)
    assert len(made) == 6 * 4 + 6 + 2 * 4 + 2 * 3
    rest = {c for found in made.values() for c in found.runs}
    assert {c.seed for c in rest} == TUNED
    asked = set(missing(WORTH, {})) | {
        c for name in WORTH for c in STUDIES[name].configs(known)
    }
    assert rest == {c for c in asked if c.seed in TUNED}


def test_edges_of_what_was_tried():
    tried = [Trial("A1", lr, t) for lr in (1e-3, 3e-3) for t in (0.1, 0.2, 0.4)]
    for trial, edges in (
        (Trial("A1", 1e-3, 0.1), ["smallest strength", "smallest learning rate"]),
        (Trial("A1", 3e-3, 0.4), ["largest strength", "largest learning rate"]),
        (Trial("A1", 3e-3, 0.2), ["largest learning rate"]),
    ):
        assert Choice(trial, [], tried).edges() == edges
    assert Choice(Trial("none", 1e-3, 0.0), [], [Trial("none", 1e-3, 0.0)]).edges() == []
    # what was tried at another learning rate is no neighbour
    apart = [Trial("A1", 1e-3, 0.2), Trial("A1", 3e-3, 0.1), Trial("A1", 3e-3, 0.4)]
    assert Choice(apart[0], [], apart).edges() == ["smallest learning rate"]


def test_a_choice_is_one_of_what_was_tried(known):
    for key, found in choices(known).items():
        assert found.trial in found.tried, key
        if key == "E1 A4":  # the leading trials were chosen among all of them
            assert {x.t for x in found.tried} == {*studies.STRENGTHS, *studies.FURTHER}


def test_no_outcome_of_a_judging_run_changes_a_choice(known):
    before = choices(known)
    rng = np.random.default_rng(1)
    for _ in range(2):
        other = {
            c: T if c.seed in TUNED else float(rng.choice([0.0, 500.0, math.inf]))
            for c, T in known.items()
        }
        assert choices(other) == before
    alone = {c: T for c, T in known.items() if c.seed in TUNED}
    assert choices(alone) == before


def test_a_choice_changes_with_its_tuning_runs(known):
    """Each by itself: its own runs, and no others, turn it."""
    before = choices(known)
    for key in ("E1 first A4", "E2 R", "E8 mul A5", "E9 muon A1"):
        trial, runs = before[key].trial, before[key].runs
        turned = {c: 0.0 if c in set(runs) else T for c, T in known.items()}
        assert choices(turned)[key].trial.t <= trial.t  # all tie: the smallest strength
        spoilt = known | {c: math.inf for c in runs if _is_of(c, trial)}
        assert choices(spoilt)[key].trial != trial


def _is_of(c, trial):
    strength = (c.weight_decay + c.l2) if c.rule == "elastic" else (c.weight_decay or c.l2)
    return c.lr == trial.lr and strength == pytest.approx(trial.t / trial.lr, rel=1e-5)


def test_a_choice_is_none_until_the_last_of_its_runs_is_known(known):
    made = choices(known)
    assert choices({}) == {}
    for key in (
        "E1 first A6",
        "E1 A3",
        "E1 A3 f=0.25",
        "E2 R+T",
        "E8 sub A1",
        "E9 sgd none",
    ):
        for c in (made[key].runs[0], made[key].runs[-1]):
            assert key not in choices({d: T for d, T in known.items() if d != c})


def test_confirming_runs_come_only_with_their_choice(known):
    """Of E1, with nothing known, with the first tuning known, with all tuning known."""
    assert {c.seed for c in STUDIES["E1"].configs({})} == set(TUNING)
    first = {c: T for c, T in known.items() if c.seed in TUNING}
    asked = STUDIES["E1"].configs(first)
    judging = {c for c in asked if c.seed in SEEDS}
    assert judging == {
        arm(first_choice(name, known), fraction=f, seed=s)
        for name, f, s in product(ARMS, studies.FRACTIONS, SEEDS)
    } | set(studies.tuned_to_stay(first))
    assert len(asked) == 528 + 96 + 720 + 3 * 2 * 8
    later = [choice(name, known) for name in ARMS]
    own = [choice(name, known, f) for name in ARMS for f in studies.TUNED_AT]
    all_asked = set(STUDIES["E1"].configs(known))
    assert {arm(t, fraction=0.15, seed=s) for t in later for s in SEEDS[:8]} <= all_asked
    assert {arm(t, fraction=0.25, seed=1000) for t in own[::2]} <= all_asked
    assert {arm(t, fraction=0.4, seed=1007) for t in own[1::2]} <= all_asked


# ---- rules, by hand


def flat(name, T=3000.0):
    """Every trial of an arm at the same T_gen on every tuning run."""
    return {
        c: T
        for trial in trials(name, further=True)
        for c in studies.tuning(trial, TUNING + MORE_TUNING)
    }


def at(trial, T, seeds=TUNING + MORE_TUNING, fractions=(0.25, 0.4)):
    return {arm(trial, fraction=f, seed=s): T for f, s in product(fractions, seeds)}


@pytest.mark.parametrize("name", ARMS)
def test_the_smallest_mean_is_chosen_and_within_5_percent_the_smaller_t(name):
    weak, strong = Trial(name, 1e-3, 6e-3), Trial(name, 3e-3, 5e-2)
    base = flat(name)
    assert first_choice(name, base | at(strong, 1000.0)) == strong
    assert first_choice(name, base | at(strong, 1000.0) | at(weak, 1050.0)) == weak
    assert first_choice(name, base | at(strong, 1000.0) | at(weak, 1051.0)) == strong
    assert first_choice(name, base).t == 3e-3  # all tie
    twin = Trial(name, 1e-2, 5e-2)  # of one strength: the better
    assert first_choice(name, base | at(strong, 1000.0) | at(twin, 990.0)) == twin


def test_a_run_that_never_generalises_counts_as_its_steps():
    trial = Trial("A1", 1e-3, 3e-3)
    never = arm(trial, fraction=0.4, seed=500)
    soon = arm(trial, fraction=0.25, seed=500)
    assert mean_time([never, soon], {never: math.inf, soon: 200.0}) == 1600.0
    other = arm(trial, fraction=0.25, seed=500, steps=1000)
    assert mean_time([never, other], {never: math.inf, other: math.inf}) == 2000.0


def test_the_leading_four_get_more_seeds_and_the_choice_is_among_them():
    a, b, c, d = (Trial("A4", 1e-3, t) for t in (6e-3, 5e-2, 1e-1, 4e-1))
    e = Trial("A4", 1e-3, 2e-1)
    known = flat("A4")
    for trial, T in ((a, 400.0), (b, 300.0), (c, 200.0), (d, 100.0), (e, 500.0)):
        known |= at(trial, T, seeds=TUNING)
    assert leading("A4", known) == [d, c, b, a]
    # e is the best on the later seeds alone, and is not asked
    known |= at(e, 0.0, seeds=MORE_TUNING)
    for trial, T in ((a, 900.0), (b, 100.0), (c, 2000.0), (d, 2000.0)):
        known |= at(trial, T, seeds=MORE_TUNING)
    assert choice("A4", known) == b  # means 650, 200, 1100, 1050
    assert first_choice("A4", known) == c  # d lies beyond the first grid
    asked = {k for k in STUDIES["E1"].configs(known) if k.seed in MORE_TUNING}
    assert asked == {k for t in (a, b, c, d) for k in at(t, 0.0, seeds=MORE_TUNING)}


def test_the_choice_per_fraction_is_of_the_leading_at_that_fraction():
    a, b = Trial("A2", 1e-2, 1.2e-2), Trial("A2", 1e-2, 1e-1)
    known = flat("A2")
    known |= at(a, 100.0, fractions=(0.25,)) | at(a, 1000.0, fractions=(0.4,))
    known |= at(b, 900.0, fractions=(0.25,)) | at(b, 500.0, fractions=(0.4,))
    assert choice("A2", known) == a  # 550 against 700
    assert choice("A2", known, 0.25) == a and choice("A2", known, 0.4) == b


def test_a_part_is_tuned_by_itself():
    known = {
        part(name, t, fraction=0.4, seed=s): 3000.0
        for name, t, s in product(PARTS, studies.PART_STRENGTHS, TUNING)
    }
    assert all(part_choice(name, known) == 2.5e-3 for name in PARTS)
    known |= {part("R", 2e-2, fraction=0.4, seed=s): 1000.0 for s in TUNING}
    assert part_choice("R", known) == 2e-2 and part_choice("R+T", known) == 2.5e-3
    del known[part("R+T", 4e-2, fraction=0.4, seed=501)]
    assert part_choice("R+T", known) is None


def test_smallest_by_hand():
    scores = {
        Trial("A1", lr, t): s for lr, t, s in [(1e-2, 0.2, 100.0), (1e-3, 0.1, 105.0)]
    }
    assert smallest(scores).t == 0.1
    scores[Trial("A1", 3e-3, 0.05)] = 105.1  # within 5% of the second, not of the best
    assert smallest(scores).t == 0.1
    assert best(None, {}) is None and best(first_trials("A1"), {}) is None


# ---- the arms


def test_the_arms_are_those_of_the_plan():
    """lambda = t / lr, on what the plan says."""
    made = {name: arm(Trial(name, 3e-3, 6e-3), seed=3) for name in ARMS}
    assert {name: (c.rule, c.weight_decay, c.l2, c.l2_on) for name, c in made.items()} == {
        "A1": ("l2", 2.0, 0.0, "all"),
        "A2": ("l2", 2.0, 0.0, "selected"),
        "A3": ("lrd", 0.0, 2.0, "all"),
        "A4": ("lrd", 2.0, 0.0, "all"),
        "A5": ("lrd", 2.0, 2.0, "all"),
        "A6": ("elastic", 1.0, 1.0, "all"),
    }
    for c in made.values():
        assert (c.select, c.lr, c.seed, c.steps) == (
            "attention+mlp",
            3e-3,
            3,
            BASE["steps"],
        )
    with pytest.raises(ValueError, match=r"arm must be one of 'A1'.*, got 'A7'"):
        arm(Trial("A7", 1e-3, 1e-3))


def test_caps_are_asked_for_last_under_each_base_with_the_same_seeds(known):
    asked = STUDIES["E3"].configs(known)
    capped = [c for c in asked if c.capped]
    assert asked[-96:] == capped and len(asked) == 80 + 96
    bases = [none(), *(arm(first_choice(name, known)) for name in ("A1", "A4"))]
    assert set(capped) == {
        replace(base, rank=r, fraction=0.4, seed=s)
        for base, r, s in product(bases, (1, 2, 4, 16), range(1000, 1008))
    }


def test_parts_of_the_step_are_those_of_the_plan():
    made = {name: part(name, 2.5e-3, seed=3) for name in PARTS}
    assert {name: (c.rule, c.part, c.hold, c.l2_on) for name, c in made.items()} == {
        "R+T": ("lrd", "both", "none", "all"),
        "R": ("lrd", "radial", "none", "all"),
        "T": ("lrd", "tangential", "none", "all"),
        "T-held": ("lrd", "tangential", "norm", "all"),
        "R+T-held": ("lrd", "both", "norm", "all"),
        "L2b": ("l2", "both", "none", "selected"),
    }
    assert all(c.weight_decay == 2.5 and c.lr == 1e-3 for c in made.values())


@pytest.mark.parametrize("t", [2.5e-3, 1.2e-2, 0.4])
@pytest.mark.parametrize("lr", [1e-3, 3e-3, 1e-2, 0.3])
def test_strengths_are_to_six_digits(t, lr):
    assert weight_decay(t, lr) == pytest.approx(t / lr, rel=5e-6)
    assert weight_decay(t, lr) == float(f"{weight_decay(t, lr):.6g}")


@pytest.mark.parametrize(
    "values, T",
    [
        ([0.2, 0.96, 0.97, 0.1], 50.0),
        ([0.2, 0.96, 0.9, 0.97], math.inf),  # nothing after the last confirms it
        ([0.2, 0.95, 0.96, 0.96], 100.0),  # above, not at
        ([np.nan] * 4, math.inf),
    ],
)
def test_t_gen_is_a_record_that_the_next_confirms(values, T):
    history = {"step": np.arange(4) * 50, OUTCOME: np.array(values)}
    assert generalised(Run({}, history, {}, {}, {})) == T


# ---- what is recorded


def test_what_the_recorded_runs_chose_is_what_the_plan_says(recorded):
    assert {name: tuple(first_choice(name, recorded))[1:] for name in ARMS} == {
        "A1": (0.01, 0.012),
        "A2": (0.01, 0.025),
        "A3": (0.003, 0.05),
        "A4": (0.003, 0.1),
        "A5": (0.003, 0.025),
        "A6": (0.003, 0.012),
    }
    assert {name: part_choice(name, recorded) for name in PARTS} == {
        "R+T": 0.02,
        "R": 0.02,
        "T": 0.0025,
        "T-held": 0.0025,
        "R+T-held": 0.0025,
        "L2b": 0.02,
    }


def test_every_recorded_run_is_asked_for_by_a_study(recorded):
    asked = {c for study in STUDIES.values() for c in study.configs(recorded)}
    assert recorded.keys() <= asked


def test_the_studies_that_were_made_first_are_whole(recorded):
    """E0, E2 as first planned, and E3 but for its caps; of E1 all first choices have been
    judged."""
    assert missing(["E0"], recorded) == []
    again = studies.part("T", studies.AGAIN).weight_decay
    assert {c.weight_decay for c in missing(["E2"], recorded)} <= {again}
    assert not [c for c in missing(["E3"], recorded) if not c.capped]
    assert not [c for c in missing(["E1"], recorded) if c.seed in SEEDS[8:]]


def test_changes_of_the_rules_are_told_with_their_date():
    days = [line.split(": ")[0] for line in CHANGES]
    assert [date.fromisoformat(day).isoformat() for day in days] == sorted(days)


def test_the_rates_of_e7_are_what_the_recorded_norms_of_a1_imply(runs, recorded):
    assert first_choice("A1", recorded) == studies.RATED
    twins = [arm(studies.RATED, fraction=0.4, seed=s) for s in range(1000, 1008)]
    norms = np.stack([runs[c].history["weight_norm_qk"] for c in twins])  # (8, records)
    implied = (norms[:, :1] / norms).prod(axis=0) ** (1 / 8)
    assert [float(f"{x:.3g}") for x in implied] == list(studies.QK_RATES)
    scheduled = [c for c in STUDIES["E7"].configs({}) if c.qk_rates]
    assert [replace(c, hold="none", qk_rates=()) for c in scheduled] == twins


def test_what_is_tuned_to_stay_is_what_the_recorded_tuning_runs_choose(runs):
    for trial in studies.LASTING:
        tried = studies.first_trials(trial.arm, further=True)
        scores = {
            one: np.mean(
                [min(generalised(runs[c], studies.STAYING), 3000) for c in configs]
            )
            for one, configs in tried.items()
        }
        assert studies.smallest(scores) == trial


def test_e0_has_l2_beside_lrd_at_ten_times_its_lambda():
    every = STUDIES["E0"].configs({})
    assert len(set(every)) == len(every) == 2 * 3 * 6 * 6
    for l2, lrd in zip(every[::2], every[1::2], strict=True):
        assert (l2.rule, lrd.rule) == ("l2", "lrd")
        assert (l2.seed, l2.fraction) == (lrd.seed, lrd.fraction)
        assert l2.weight_decay == pytest.approx(10 * lrd.weight_decay, rel=1e-6)
