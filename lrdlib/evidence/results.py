"""What the recorded runs of a study give: one row for each arm at each fraction.

    rows = results("E1", runs)
    print(as_table(rows))

Only judging seeds count. Arms are told apart by their configs, and compared with the first
choice of A1, L2 on all matrices, on the seeds that both have, where both are of the same
task and steps.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrdlib._check import check_choice, shown
from lrdlib.evidence.studies import (
    MORE_TUNING,
    OUTCOME,
    STEPS,
    STUDIES,
    TUNING,
    arm,
    first_choice,
    generalised,
)
from lrdlib.evidence.survival import GENERALISED, Ratio, instability, rmst_ratio
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import Run

PLACES = {"attention+mlp": "the blocks", "qk": "Q and K", "vo": "V and O", "mlp": "the MLP"}
ROWS = (
    *("arm", "f", "n", "generalise", "median", "RMST", "to A1", "unstable", "at N"),
    *("QK", "VO"),
)


@dataclass(frozen=True)
class Row:
    """One arm at one fraction.

    n runs, of which `won` generalise; median and RMST of min(T_gen, steps); ratio: of RMST
    to A1's with its 95% interval, where at least 3 seeds have both and not all agree;
    unstable: the mean share of records after T_gen below 0.95, NaN if none generalises;
    final: the mean of the last accuracy, of all runs; qk, vo: the last stable rank as a
    share of the first, mean over runs.
    """

    arm: str
    fraction: float
    n: int
    won: int
    median: float
    rmst: float
    ratio: Ratio | None
    unstable: float
    final: float
    qk: float
    vo: float


def results(name: str, runs: Mapping[TrainConfig, Run]) -> list[Row]:
    """The rows of a study, from all recorded runs by their configs. Raises ValueError for a
    study that there is not."""
    check_choice("study", name, STUDIES)
    known = {config: generalised(run) for config, run in runs.items()}
    baseline = first_choice("A1", known)
    groups: dict[TrainConfig, list[TrainConfig]] = {}
    for config in dict.fromkeys(STUDIES[name].configs(known)):
        if config in runs and config.seed not in TUNING + MORE_TUNING:
            groups.setdefault(replace(config, seed=0), []).append(config)
    rows = []
    for shared, configs in groups.items():
        own = {c.seed: known[c] for c in configs}
        other: dict[int, float] = {}
        if baseline is not None and (shared.task, shared.steps) == ("add", STEPS):
            there = {s: arm(baseline, fraction=shared.fraction, seed=s) for s in own}
            other = {s: known[c] for s, c in there.items() if c in known}
        rows.append(_row(shared, [runs[c] for c in configs], own, other))
    return sorted(rows, key=lambda row: (row.fraction, row.arm))


def _row(
    shared: TrainConfig,
    runs: list[Run],
    own: Mapping[int, float],
    other: Mapping[int, float],
) -> Row:
    """own, other: T_gen by seed, of the arm and of the one that it is compared with."""
    times = np.minimum(list(own.values()), shared.steps)
    seeds = sorted(own.keys() & other.keys())
    ratio = None
    if len(seeds) >= 3 and any(own[s] != other[s] for s in seeds):
        a, b = ([T[s] for s in seeds] for T in (own, other))
        ratio = rmst_ratio(a, b, shared.steps, np.random.default_rng(0))
    return Row(
        arm=label(shared),
        fraction=shared.fraction,
        n=len(runs),
        won=sum(math.isfinite(T) for T in own.values()),
        median=float(np.median(times)),
        rmst=float(times.mean()),
        ratio=ratio,
        unstable=mean_instability(runs),
        final=final_accuracy(runs),
        qk=_left(runs, "qk_stable_rank"),
        vo=_left(runs, "vo_stable_rank"),
    )


def mean_instability(runs: Iterable[Run], below: float = GENERALISED) -> float:
    """The mean `instability` of the runs that generalise; NaN if none does."""
    shares = [
        instability(run.history["step"], run.history[OUTCOME], below=below) for run in runs
    ]
    known = [share for share in shares if not math.isnan(share)]
    return float(np.mean(known)) if known else math.nan


def final_accuracy(runs: Iterable[Run]) -> float:
    """The mean of the last OUTCOME, of all runs; NaN without any."""
    last = [run.history[OUTCOME][-1] for run in runs]
    return float(np.mean(last)) if last else math.nan


def _left(runs: Iterable[Run], name: str) -> float:
    """The last value of a metric as a share of the first, mean over runs."""
    return float(np.mean([run.history[name][-1] / run.history[name][0] for run in runs]))


def label(c: TrainConfig) -> str:
    """An arm in words.

    >>> label(TrainConfig(rule="lrd", weight_decay=20.0, mode="decoupled", part="radial"))
    'LRD on the blocks, radial part, t 0.02, lr 0.001'

    t is per step, of both decays together where both act on one matrix; lambda where the
    low-rank decay is not multiplied by the learning rate.
    """
    words = [*_rule(c), *_switches(c)]
    if c.rule != "none":
        strength = c.weight_decay + c.l2 if c.rule == "elastic" else c.weight_decay or c.l2
        words.append(
            f"t {c.lr * strength:.3g}" if c.mode == "decoupled" else f"lambda {strength:g}"
        )
    return ", ".join([*words, f"lr {c.lr:g}"])


def _rule(c: TrainConfig) -> list[str]:
    place = PLACES.get(c.select, c.select.replace("+", " and "))
    if c.rule == "none":
        return ["no decay"]
    if c.rule == "l2":
        return [f"L2 on {'all' if c.l2_on == 'all' else place}"]
    if c.rule == "elastic":
        half = ", half each" if c.weight_decay == c.l2 else ""
        return [f"LRD on {place} and L2 on all{half}"]
    if not c.weight_decay:
        return [f"L2 on all but {place}"]
    return [f"LRD on {place}", *(["L2 on the rest"] if c.l2 else [])]


def _switches(c: TrainConfig) -> list[str]:
    """What else the arm changes."""
    late = f"optimiser x {c.late_gradient:g} from then on"
    said = {
        f"{c.part} part": c.part != "both",
        "norms held": c.hold == "norm",
        "norms of Q and K held": c.hold == "qk",
        "lr of Q and K scheduled": bool(c.qk_rates),
        f"attention {c.attention}": c.attention != "learned",
        "Q and K flat": c.rank == "flat",
        f"Q and K of rank {c.rank}": c.capped,
        "per head": c.per_head,
        c.optimizer: c.optimizer != "adamw",
        c.task: c.task != "add",
        "after memorising": c.decay_after is not None,
        late: c.late_gradient != 1,
    }
    return [words for words, there in said.items() if there]


def as_table(rows: Iterable[Row]) -> str:
    """Rows as a Markdown table."""
    lines = []
    for r in rows:
        if r.ratio is None:
            ratio = "-"
        elif math.isnan(r.ratio.low):
            ratio = f"{r.ratio.value:.2f}"
        else:
            ratio = f"{r.ratio.value:.2f} [{r.ratio.low:.2f}, {r.ratio.high:.2f}]"
        cells = (
            *(r.arm, f"{r.fraction:g}", str(r.n), str(r.won), f"{r.median:.0f}"),
            *(f"{r.rmst:.0f}", ratio, _number(r.unstable), _number(r.final)),
            *(f"{r.qk:.2f}", f"{r.vo:.2f}"),
        )
        lines.append(cells)
    return markdown_table(ROWS, lines)


def _number(x: float) -> str:
    return "-" if math.isnan(x) else f"{x:.2f}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""A table in Markdown, without a line's end at its end; a | in a text is no border.

    Raises ValueError for a row that has not as many cells as the head.

    >>> print(markdown_table(["n", "size"], [["1", "|x|"]]))
    | n | size |
    | --- | --- |
    | 1 | \|x\| |
    """
    lines = [head, ["---"] * len(head), *rows]
    for cells in lines:
        if len(cells) != len(head):
            raise ValueError(
                f"rows must have {len(head)} cells each, got {len(cells)} in {shown(cells)}"
            )
    escaped = ([cell.replace("|", "\\|") for cell in cells] for cells in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)
