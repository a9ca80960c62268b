"""What the paper, the first public code's README and the author's own report say about
their experiments, each judged from recorded runs; and, marked, some questions of ours.

A Claim is a statement, its source, the rule of its verdict in words with the date on which
it was written, what LRD is in the runs that judge it, and a function that reads Evidence
and gives a Finding. The functions stand in `verdicts_grids`, `verdicts_rank` and
`verdicts_studies`. A new claim is one function and one entry of CLAIMS. What a rule said
before it was changed is in CHANGES. Nothing here trains, and no number is typed.
"""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lrdlib._check import check_choice
from lrdlib.evidence import verdicts_grids as grids
from lrdlib.evidence import verdicts_rank as rank
from lrdlib.evidence import verdicts_studies as studied_by
from lrdlib.evidence.grids import GRIDS
from lrdlib.evidence.judging import Evidence, Finding
from lrdlib.evidence.studies import Trial, arm, part, studied, the_first_code
from lrdlib.evidence.verdicts_grids import PRESETS
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import load_run
from lrdlib.training.store import checked_path
from lrdlib.training.sweep import expand, recorded

# what LRD is in the runs that judge: one config stands for all of an experiment
CODE = next(c for c in the_first_code({}) if c.rule == "lrd")
GRID = TrainConfig(rule="lrd", mode="independent")
WRITTEN = TrainConfig(rule="lrd", mode="decoupled")
TUNED = arm(Trial("A4", 1e-3, 0.01))
WHOLE = part("R+T", 0.01)

# whose a statement is, and what several of it are; claims for LRD and a report that doubts
# them do not add up to one number
THEIRS = "paper"
WHOSE = {
    THEIRS: "claims of the paper and its first code",
    "the author's own report": "of the author's own report",
    "our question": "questions of ours",
}


@dataclass(frozen=True)
class Claim:
    """A statement, where it is made, and how it is judged.

    rule: of the verdict, in words; written: its day, as 2026-11-28; after_runs: whether the
    runs that it judges had been seen by then, so that the verdict is exploratory. lrd: what
    LRD is in these runs. about: the group of the page. Whose statement it is, a key of
    WHOSE, the source says.
    """

    name: str
    about: str
    statement: str
    source: str
    rule: str
    written: str
    after_runs: bool
    lrd: tuple[TrainConfig, ...]
    judge: Callable[[Evidence], Finding]

    def __post_init__(self) -> None:
        check_choice("about", self.about, GROUPS)
        datetime.date.fromisoformat(self.written)

    @property
    def whose(self) -> str:
        """Whose statement it is, a key of WHOSE: its source begins so."""
        return next((who for who in WHOSE if self.source.startswith(who)), THEIRS)


@dataclass(frozen=True)
class Change:
    """A rule, or a row, that was changed after the first runs of it existed: the day, the
    claim, what the rule said before, what it says now, and why. against: whom the change
    went against, "the paper", "L2" or nobody, "". verdicts: the verdict before and after,
    on the runs of that day, where it is known."""

    day: str
    claim: str
    before: str
    now: str
    why: str
    against: str = ""
    verdicts: tuple[str, str] | None = None


GROUPS = (
    "The phase diagram",
    "Tuned against tuned",
    "The rank",
    "What acts, and where",
    "After memorisation",
    "Elsewhere",
)

WORDS_OF_RATIO = (
    "by the ratio of RMST, paired by seed: holds if its whole 95% interval is below {at}, "
    "does not hold if it is above{alike}, otherwise undecided"
)
SOONER = WORDS_OF_RATIO.format(
    at="1", alike=", or if its 90% interval lies in 0.8 to 1.25 (no difference)"
)
HOLM = "; a difference counts only if p is below 5% after Holm over H1 to H5"
PAIRS = "only pairs of runs count, one of either rule, with one seed"
AT_SOME = (
    "the paper names no λ, so it is true of a setting if it is true of most seeds at some "
    "λ; holds if it is true of {places}"
)
BOTH = "the first code's setting and of the paper's grid, in part if of one"

CLAIMS = (
    Claim(
        "wider-independent",
        GROUPS[0],
        "LRD expands the region of grokking: more cells than L2, from less data (Figure 1; "
        "λ as the code has it)",
        "paper, 6.1; README",
        f"holds if LRD succeeds in more cells and from a smaller fraction on, in part if one "
        f"of the two; {PAIRS}",
        "2026-11-22",
        False,
        (GRID,),
        grids.wider("paper", "independent"),
    ),
    Claim(
        "wider-published",
        GROUPS[0],
        "The same at the first code's own setting: LRD on queries and keys only, L2 at ten "
        "times the strength shown",
        "README",
        f"as above; {PAIRS}",
        "2026-11-22",
        False,
        (CODE,),
        grids.wider("published", "independent"),
    ),
    Claim(
        "as-written",
        GROUPS[0],
        "LRD expands the region of grokking with λ as the paper writes it, times the learning "
        "rate, here 0.001",
        "paper, Algorithm 1 and 5; it states no learning rate",
        "judged where decay has most to work with, at the strongest λ and the largest "
        "fraction: holds if most of three seeds succeed and more than L2's, does not hold if "
        "none does, otherwise undecided",
        "2026-11-28",
        False,
        (WRITTEN,),
        grids.as_written,
    ),
    Claim(
        "sweet-spot",
        GROUPS[0],
        "LRD is ahead at f = 0.4 to 0.6 and λ = 5e-4 to 5e-3",
        "paper, 6.1",
        f"holds if most of its runs there succeed and more than L2's, in part if only more "
        f"than L2's; {PAIRS}",
        "2026-11-22",
        False,
        (GRID,),
        grids.sweet_spot,
    ),
    Claim(
        "upper-right",
        GROUPS[0],
        "L2 succeeds only with much data and strong decay, at the first code's setting",
        "paper, 6.1",
        "much data is f of 0.6 and more, strong are the upper three λ: holds if L2 succeeds "
        "there and nowhere else, in part if there and elsewhere, does not hold if nowhere "
        "there",
        "2026-11-28",
        True,
        (),
        grids.upper_right("published"),
    ),
    Claim(
        "upper-right-paper",
        GROUPS[0],
        "The same on the paper's grid",
        "paper, 6.1",
        "as above",
        "2026-11-22",
        False,
        (),
        grids.upper_right("paper"),
    ),
    Claim(
        "perfect",
        GROUPS[0],
        "With 40% and with 50% of the data L2 fails, and LRD achieves perfect accuracy",
        "README; paper, 8 (“at moderate data fractions where L2 fails entirely”)",
        "perfect is a best test accuracy above 0.995, failing is that no strength succeeds "
        "in most seeds; neither source names a λ, so of LRD some λ counts, by most seeds: "
        f"holds if it is true of both fractions at {BOTH.replace('in part if of one', '')}"
        "in part if of any of the four",
        "2026-11-28",
        True,
        (CODE, GRID),
        grids.perfect,
    ),
    Claim(
        "less-data",
        GROUPS[1],
        "LRD generalises from less data than L2 (H1)",
        "paper, abstract and 8; against L2 on all, tuned as well",
        "per seed, the smallest of six fractions at which the run generalises: holds if "
        "LRD's is smaller in more seeds than it is larger, does not hold the other way "
        "round; either only if the sign test has p below 5% after Holm over H1 to H5",
        "2026-11-28",
        True,
        (TUNED,),
        studied_by.less_data,
    ),
    Claim(
        "faster",
        GROUPS[1],
        "LRD accelerates grokking (H2)",
        "paper, 1 and 8; against L2 on all, tuned as well",
        f"LRD against L2 on all over six fractions, {SOONER}{HOLM}",
        "2026-11-28",
        True,
        (TUNED,),
        studied_by.faster(1.0),
    ),
    Claim(
        "faster-published",
        GROUPS[1],
        "LRD accelerates grokking, at the first code's setting",
        "README; against the L2 drawn at the same height",
        "half of the data and more, each λ at which most LRD runs generalise, by the 95% "
        "interval of the ratio of RMST: holds if it is below 1 at all of them, in part if at "
        "one; does not hold if it is above 1 at all, and L2 too generalises in most runs; "
        "otherwise undecided, as an L2 that never gets there may be late by any factor",
        "2026-11-28",
        True,
        (CODE,),
        studied_by.faster_there(1.0),
    ),
    Claim(
        "much-faster",
        GROUPS[1],
        "LRD accelerates grokking by orders of magnitude, against a tuned L2",
        "our question: the README says it beside “AdamW + L2 Decay (Standard)”, not tuned",
        "LRD against L2 on all over six fractions, "
        + WORDS_OF_RATIO.format(at="a tenth", alike=""),
        "2026-11-28",
        True,
        (TUNED,),
        studied_by.faster(10.0),
    ),
    Claim(
        "much-faster-published",
        GROUPS[1],
        "LRD accelerates grokking by orders of magnitude, against the L2 that the first code "
        "draws beside it",
        "README, whose baseline is “AdamW + L2 Decay (Standard)”",
        "as *at the first code's setting* above, with a tenth in place of 1",
        "2026-11-28",
        True,
        (CODE,),
        studied_by.faster_there(10.0),
    ),
    Claim(
        "sooner-on-the-blocks",
        GROUPS[1],
        "LRD accelerates grokking, against L2 on the same matrices at one learning rate",
        "paper, 1 and 8; against L2 on the blocks, each at its own best strength",
        "the whole step of the study on its parts (E2) against L2 on the same blocks, at f "
        "of 0.3, of 0.4 and of 0.5, the strength of each chosen at 0.4 on other seeds, by "
        "the 95% interval of the ratio of RMST, paired by seed: holds if it is below 1 at "
        "all of them, in part if at one, does not hold if at none and above 1 at one, "
        "otherwise undecided; three intervals, not corrected for one another",
        "2026-11-28",
        True,
        (WHOLE,),
        studied_by.sooner_on_the_blocks,
    ),
    Claim(
        "no-superiority",
        GROUPS[1],
        "LRD has no absolute superiority over L2",
        "the author's own report",
        "holds if at some fraction L2 on all is the sooner one by the whole 95% interval of "
        "the ratio of RMST, does not hold if LRD is at every fraction, otherwise undecided; "
        "the six intervals are not corrected for their number",
        "2026-11-28",
        True,
        (TUNED,),
        studied_by.no_superiority,
    ),
    Claim(
        "collapse",
        GROUPS[2],
        "LRD brings the rank of queries and keys to near one within 500 steps",
        "README",
        "near one is a stable rank below 2: holds if the median at step 500 is, over λ of "
        "5e-3 and more, in part if it is at some λ",
        "2026-11-22",
        False,
        (CODE,),
        grids.collapse,
    ),
    Claim(
        "speed-6-2",
        GROUPS[2],
        "At f = 0.4, LRD passes 0.95 within 3000 steps while L2 remains below 0.5",
        "paper, 6.2",
        f"of test accuracy; {AT_SOME.format(places=BOTH)} (where a run has 2500 steps)",
        "2026-11-28",
        True,
        (CODE, GRID),
        grids.speed_6_2,
    ),
    Claim(
        "rank-6-2",
        GROUPS[2],
        "At f = 0.4, LRD's rank drops from about 35 to about 3 within 500 steps",
        "paper, 6.2",
        f"*about* is up to a factor of 1.5; {AT_SOME.format(places=BOTH)}",
        "2026-11-28",
        True,
        (CODE, GRID),
        grids.rank_6_2,
    ),
    Claim(
        "l2-rank-6-2",
        GROUPS[2],
        "At f = 0.4, L2 maintains a rank of about 25",
        "paper, 6.2",
        f"from step 500 on, up to a factor of 1.5; {AT_SOME.format(places=BOTH)}",
        "2026-11-28",
        True,
        (),
        grids.l2_rank_6_2,
    ),
    Claim(
        "tail-6-2",
        GROUPS[2],
        "Under LRD singular values beyond index 10 drop by 4 to 5 orders of magnitude, under "
        "L2 they stay within 1 to 2",
        "paper, 6.2",
        "the median of these values at the end: 4 orders or more below the largest under "
        f"LRD, 2 or less under L2; {AT_SOME.format(places='the paper’s grid')}, otherwise "
        "undecided while spectra of the first code's setting are not kept",
        "2026-11-28",
        True,
        (GRID,),
        grids.tail_6_2,
    ),
    Claim(
        "pattern-6-2",
        GROUPS[2],
        "|W_Q W_Kᵀ| has clear block-diagonal features under LRD, and is unstructured under "
        "L2",
        "paper, 6.2",
        "the blocks are the heads': holds if they hold more than half of the squares under "
        "LRD and not under L2, in part if more under LRD than under every L2 beside it, weak "
        "as in the first code's demonstration or strong, otherwise undecided: a picture is "
        "not a number",
        "2026-11-28",
        True,
        (GRID,),
        grids.pattern,
    ),
    Claim(
        "precedes",
        GROUPS[2],
        "The rank collapses before the network generalises",
        "paper, 6.2; README",
        "holds if, in nine of ten runs that generalise, the rank is below half of its start "
        "at the last record before half of the orbit-clean pairs are right, under LRD and "
        "under L2; in part if under one; runs that never generalise are counted at the same "
        "record, for comparison, and do not judge",
        "2026-11-28",
        True,
        (CODE, TUNED),
        rank.precedes,
    ),
    Claim(
        "pre-condition",
        GROUPS[2],
        "Rank collapse is a pre-condition for generalization",
        "README",
        "a run counts against it if its rank was never below half of its start by the time "
        "it generalises: does not hold if most seeds have such a run (the 95% interval of "
        "their share lies above one half), holds if none of ten seeds or more has, otherwise "
        "undecided",
        "2026-11-28",
        True,
        (TUNED,),
        rank.pre_condition,
    ),
    Claim(
        "accompanies",
        GROUPS[2],
        "The collapse of the rank accompanies generalisation",
        "the author's own report",
        "holds if the rank ends below half of its start in nine of ten runs that generalise, "
        "under LRD and under L2; in part if under one",
        "2026-11-28",
        True,
        (CODE, TUNED),
        rank.accompanies,
    ),
    Claim(
        "unchanged",
        GROUPS[2],
        "Under L2 the stable rank is unchanged, in training too",
        "paper, Table 1, of a perfectly scale-invariant matrix; its Remark 1 allows for "
        "indirect effects",
        "unchanged is a mean ratio of last to first of 0.8 to 1.25: holds if the 95% "
        "interval over seeds lies inside under tuned L2, in part if it does not and the mean "
        "on the paper's own grid does, where L2 is weak",
        "2026-11-28",
        True,
        (),
        rank.rank_unchanged,
    ),
    Claim(
        "mechanism",
        GROUPS[3],
        "With decay on all blocks from the start, the tangential part of LRD's step is what "
        "acts, not the radial one (H3)",
        "our question: the paper (6.3, 7.1) says it of scale-invariant matrices after "
        "memorisation",
        "decay from the start on all matrices of the blocks, of which only queries and keys "
        "are scale-invariant: the tangential part alone against the radial part alone, "
        f"{SOONER}{HOLM}",
        "2026-11-28",
        True,
        (TUNED,),
        studied_by.mechanism,
    ),
    Claim(
        "tangential-adds",
        GROUPS[3],
        "The tangential part adds to the radial one",
        "paper, 7.1",
        f"the whole step against its radial part alone, {SOONER}",
        "2026-11-28",
        True,
        (TUNED,),
        studied_by.tangential_adds,
    ),
    Claim(
        "needed",
        GROUPS[3],
        "LRD works through a low rank of queries and keys (H4)",
        "paper, 6.3; it leaves the cause open in 7.3; README",
        "queries and keys are frozen at the start, or kept flat: holds if both fail in most "
        "seeds under tuned LRD, does not hold if both generalise in half of the seeds or "
        "more, otherwise in part",
        "2026-11-28",
        True,
        (TUNED,),
        studied_by.low_rank_needed("A4"),
    ),
    Claim(
        "needed-by-l2",
        GROUPS[3],
        "L2 works through a low rank of queries and keys (H4)",
        "our question: the paper and the README say it of LRD alone",
        "as of LRD, under tuned L2 on all",
        "2026-11-28",
        True,
        (),
        studied_by.low_rank_needed("A1"),
    ),
    Claim(
        "qk-alone",
        GROUPS[3],
        "LRD on queries and keys, and on no other matrix, makes the network generalise",
        "our question: it is the first code's own choice, and no sentence claims it",
        "holds if it does in most runs at the first code's setting (λ of 5e-3, f of 0.5 and "
        "more) and at the base setting (f = 0.4), in part if at one",
        "2026-11-28",
        True,
        (CODE, TUNED),
        studied_by.queries_and_keys_alone,
    ),
    Claim(
        "stalls",
        GROUPS[4],
        "After memorisation L2 leaves the network there, and LRD does not, both as strong as "
        "tuning chose",
        "paper, 6.3",
        "decay begins 500 steps after memorising; two halves, L2 on all generalises in less "
        "than half of the seeds, LRD in more: holds if both are so, in part if one is",
        "2026-11-28",
        False,
        (TUNED,),
        studied_by.stalls,
    ),
    Claim(
        "without-gradient",
        GROUPS[4],
        "Even without task gradients LRD drives the weights to a solution that generalises",
        "paper, 6.3 and 7.1",
        "the optimiser's step is taken away: holds if LRD generalises in most seeds, on the "
        "blocks or on queries and keys, does not hold if no run does, otherwise undecided",
        "2026-11-28",
        False,
        (TUNED,),
        studied_by.without_gradient,
    ),
    Claim(
        "trapped",
        GROUPS[4],
        "Under weak L2 the network remains trapped in the memorization solution (H5)",
        "paper, 6.3",
        "of runs at λ of 0.001 to 1 that have not generalised by step 3000: holds if none "
        "does by step 30,000, does not hold if at least half do, otherwise in part",
        "2026-11-28",
        False,
        (),
        studied_by.trapped,
    ),
    Claim(
        "other-tasks",
        GROUPS[5],
        "LRD is ahead on modular arithmetic, not on addition alone",
        "paper, abstract; 7.3 says that it is not established",
        f"multiplication and subtraction, LRD against L2 on all, {SOONER}",
        "2026-11-28",
        False,
        (TUNED,),
        studied_by.other_tasks,
    ),
    Claim(
        "other-optimisers",
        GROUPS[5],
        "LRD works beside other optimisers than AdamW",
        "our question: the README says that its code is decoupled from the optimizer, not "
        "that the decay works beside any",
        "SGD with momentum and Muon: holds if with each most seeds of LRD generalise, and "
        "more than without decay; in part if with one",
        "2026-11-28",
        False,
        (TUNED,),
        studied_by.other_optimisers,
    ),
    Claim(
        "whole-matrices",
        GROUPS[5],
        "LRD on whole matrices does what LRD on each head does, though QK-Norm is per head",
        "our question: the paper's section 3 is per head, its section 5 is not",
        "holds if the 90% interval of the ratio of RMST lies in 0.8 to 1.25, does not hold "
        "if its 95% interval lies outside, otherwise undecided",
        "2026-11-28",
        False,
        (TUNED,),
        studied_by.whole_matrices,
    ),
)

CHANGES = (
    Change(
        "2026-11-22",
        "collapse",
        "in part if the median rank at step 500 was below half of its start",
        "in part if the median is below 2 at some λ",
        "half of the start is not near one",
        "the paper",
        ("holds in part", "does not hold"),
    ),
    Change(
        "2026-11-22",
        "faster",
        "in part if LRD was faster in any setting",
        "in part if LRD was faster, not just as fast, in the median of the settings",
        "faster in one setting of five is not faster",
        "the paper",
        ("holds in part", "does not hold"),
    ),
    Change(
        "2026-11-22",
        "wider-independent",
        "all runs of either rule counted, by the share that succeeds",
        "only pairs of runs count, one of either rule, with one seed, by cells; it is left "
        "open while missing runs could decide which rule starts lower",
        "seeds were recorded for one rule before the other",
    ),
    Change(
        "2026-11-27",
        "wider-published",
        "judged on a network whose first weights had another scale, and whose gains did not "
        "decay",
        "judged on the first code's own network, as is the collapse of the rank",
        "it was not the first code's network; with its own, its figure comes out",
        "L2",
        ("not settled", "holds"),
    ),
    Change(
        "2026-11-28",
        "faster",
        "the grid of equal strengths at one learning rate, one seed: ratio of the smallest "
        "median steps, in part if the median over settings was above 1",
        "the first study: 20 seeds, both rules tuned on other seeds, the ratio of RMST with "
        "its interval (and so for less data, and for orders of magnitude)",
        "one seed settles nothing, and equal strengths are not tuned ones",
    ),
    Change(
        "2026-11-28",
        "precedes",
        "over all grids, some of one seed",
        "the same rule, over runs of judging seeds and of the first code's setting, where "
        "LRD's strongest λ makes the rank rise (exploratory: the pool was chosen when its "
        "runs had been seen)",
        "every row is to rest on three seeds",
        "the paper",
        ("holds in part, by LRD", "holds in part, by L2"),
    ),
    Change(
        "2026-11-28",
        "upper-right",
        "one row, judged on the paper's grid",
        "a row at the first code's setting as well (exploratory: written when its runs had "
        "been seen)",
        "the figure that the paper's resembles is drawn at that setting",
        "",
        ("does not hold", "holds in part there, does not hold on the paper's grid"),
    ),
    Change(
        "2026-11-28",
        "needed",
        "the p of H4 counted the learned runs once for each change, uniform attention among "
        "these; so that of H5 its runs without decay",
        "runs that several arms are compared with count once, and uniform attention, a "
        "control, not at all; no verdict rests on these p alone",
        "counted several times, runs pass for more than there are: under the null 5% was 17% "
        "for H4",
        "",
        ("holds in part", "holds in part"),
    ),
    Change(
        "2026-11-28",
        "less-data",
        "a run generalises by two records in a row, as planned",
        "the same verdict; beside it what more records in a row would say (and so for every "
        "row on the first study), as curves over the threshold",
        "asked to stay above the threshold for longer, L2 on all fails first, and the verdict "
        "turns",
        "",
        ("does not hold", "does not hold"),
    ),
    Change(
        "2026-11-28",
        "other-optimisers",
        "a claim of the README",
        "a question of ours",
        "the README says that its code is decoupled from the optimizer",
    ),
    Change(
        "2026-11-28",
        "as-written",
        "as Figure 1, over 198 runs, none of which was recorded",
        "judged at the easiest cell",
        "where the strongest decay does nothing, weaker ones need no runs",
    ),
    Change(
        "2026-11-28",
        "sufficient (dropped)",
        "“low rank of queries and keys makes the network generalise”: in nine of ten runs of "
        "low rank",
        "no row; *LRD on queries and keys alone* has what was measured",
        "neither paper nor README claims that low rank is enough",
        "L2",
        ("does not hold", "no row"),
    ),
    Change(
        "2026-11-28",
        "unchanged",
        "“L2 does not change the spectrum of queries and keys”: holds if no run halves their "
        "rank",
        "“under L2 the stable rank is unchanged”, a prediction about training, and in part "
        "if so on the paper's own grid; that L2 has no *direct* effect is mathematics, and "
        "holds",
        "the paper claims no direct effect, and expects indirect ones",
        "L2",
        ("does not hold", "holds in part"),
    ),
    Change(
        "2026-11-28",
        "mechanism",
        "an arm counted at what tuning chose, wherever that lay",
        "the same verdict, and *provisional* where the strength or the learning rate that "
        "tuning chose for an arm is the smallest or the largest that was tried; so for this "
        "claim and for every other one that rests on a tuned arm (exploratory: written "
        "after the runs)",
        "beyond an edge of its grid an arm may do better, as L2 may above the largest "
        "learning rate",
    ),
    Change(
        "2026-11-28",
        "precedes",
        "beside the verdict, runs that never generalise were counted at any record, those "
        "that do at the last one before half of the pairs are right",
        "the same verdict; both are counted at the last record before half of the pairs are "
        "right, which is the last of all where they never are",
        "two shares that are counted at different records do not compare",
        "",
        ("holds in part", "holds in part"),
    ),
    Change(
        "2026-11-28",
        "pattern-6-2",
        "in part if the blocks hold more under LRD than under the weakest L2, that of the "
        "first code's demonstration",
        "in part if they hold more under LRD than under every L2 beside it (exploratory: "
        "written after the runs)",
        "the stronger L2, which was recorded beside it, has more of the pattern than LRD",
        "the paper",
        ("holds in part", "undecided"),
    ),
    Change(
        "2026-11-28",
        "needed",
        "one row, “LRD works through a low rank of queries and keys, and so does L2”: holds "
        "if both changed networks fail under both rules, does not hold if both generalise "
        "under both, otherwise in part",
        "a row for each rule, that of L2 as a question of ours (exploratory: written after "
        "the runs)",
        "the answers differ, and the paper speaks of LRD alone",
        "",
        ("holds in part", "holds in part of LRD, does not hold of L2"),
    ),
    Change(
        "2026-11-29",
        "mechanism",
        "counted among the claims of the paper",
        "the same rule and verdict, counted as a question of ours",
        "the paper says it of scale-invariant matrices after memorisation; these runs decay "
        "all matrices of the blocks, from the start",
        "L2",
    ),
    Change(
        "2026-11-29",
        "much-faster",
        "counted among the claims of the README, which was said to name no baseline",
        "the same rule and verdict, counted as a question of ours; beside the README's own "
        "baseline it is judged in a row of its own",
        "the README does name a baseline, and it is not a tuned one",
        "L2",
    ),
    Change(
        "2026-11-29",
        "needed",
        "the p of H4, and so that of H5, permuted each of its strata by itself",
        "a seed is permuted in all strata at once",
        "the strata have the same seeds, and one that is lucky in one may be so in the other; "
        "no verdict rests on these p alone",
    ),
    Change(
        "2026-11-29",
        "stalls",
        "judged once three seeds of each arm are recorded",
        "so still, and *provisional* until all of its runs are; so every other verdict "
        "(exploratory: some runs of this study had been seen)",
        "who looks after every run finds a difference sooner or later",
    ),
    Change(
        "2026-11-29",
        "whole-matrices",
        "two arms of which no run generalises counted as no difference",
        "undecided, here and wherever arms are compared by RMST",
        "where nothing generalises nothing has been compared",
    ),
)


def load_evidence(store: str | Path) -> Evidence:
    """The presets, and what `store` holds of them; the studies' runs in its folder `packs`;
    the runs that are kept whole in the folder that it lies in.

    Raises TypeError for anything but a path, and as lrdlib.training.sweep.recorded and
    lrdlib.evidence.studies.studied.
    """
    store = checked_path("store", store)
    wanted = {name: expand(*GRIDS[name]()) for name in PRESETS}
    every = dict.fromkeys(config for configs in wanted.values() for config in configs)
    runs = recorded(every, store)
    kept = [load_run(path) for path in sorted(store.parent.glob("*-seed*.npz"))]
    whole = {TrainConfig(**run.config): run for run in kept if run.weights}
    return Evidence(wanted, runs, studied(store / "packs"), whole)


def findings(evidence: Evidence) -> list[tuple[Claim, Finding]]:
    """Every claim with its finding, in the order of CLAIMS."""
    if not isinstance(evidence, Evidence):
        raise TypeError(f"evidence must be an Evidence, got {type(evidence).__name__}")
    return [(claim, claim.judge(evidence)) for claim in CLAIMS]
