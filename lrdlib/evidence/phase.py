"""The numbers of a phase diagram: which of the wanted runs are recorded, which of them
succeed, and from where on.

A run *succeeds* if a metric exceeds a threshold at some recorded step, the paper's
"reaches", and does not diverge. Runs dip after they grok, so the value at the end is kept
beside the best one. A *cell* is one rule at one fraction and strength, over seeds; it
succeeds if more than half of its recorded seeds do. The *frontier* is the smallest fraction
of which the cell succeeds. While cells without a record could still change it, it is known
between two bounds only, and is given as both.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from lrdlib._check import check_integer, check_real, shown
from lrdlib.training.config import LOW_RANK, RULES, TrainConfig
from lrdlib.training.runs import GROKKED, NAMES, Run

# fields of a config that mean nothing to a rule without low-rank decay
LOW_RANK_FIELDS = ("mode", "scale", "select", "method", "ns_steps")
AXES = ("fraction", "weight_decay", "seed")


def effective_strength(config: TrainConfig) -> float:
    """What one step of decay subtracts from a matrix W, as a share of |W|_F: of rules what
    can be compared.

        l2        eta lambda, as Frobenius decay is always times the learning rate eta
        lrd       eta lambda with mode "decoupled", lambda with mode "independent"
        proximal  at most that
        elastic   the low-rank part, as lrd, plus eta l2; at most that, as the two parts
                  need not point the same way
        none      0

    With scale "norm" this is the length of the step exactly; with scale None it is what
    every singular value loses. Raises TypeError for anything but a TrainConfig.

    >>> effective_strength(TrainConfig(rule="l2", weight_decay=1.0, lr=0.01))
    0.01
    >>> effective_strength(TrainConfig(rule="lrd", weight_decay=1.0, mode="independent"))
    1.0
    """
    if not isinstance(config, TrainConfig):
        raise TypeError(f"config must be a TrainConfig, got {type(config).__name__}")
    if config.rule == "none":
        return 0.0
    times = config.lr if config.rule == "l2" or config.mode == "decoupled" else 1.0
    frobenius = config.lr * config.l2 if config.rule == "elastic" else 0.0
    return times * config.weight_decay + frobenius


@dataclass(frozen=True)
class Outcome:
    """What became of one run: the first recorded step of success (None if never), best and
    last value of the metric."""

    seed: int
    step: int | None
    best: float
    final: float
    diverged: bool


def four_digits(value: float) -> float | None:
    """A number to 4 significant digits, so that a file stays small; None if it is not
    finite, which JSON has no word for and a figure leaves out.

    >>> four_digits(0.123456), four_digits(float("nan"))
    (0.1235, None)
    """
    return float(f"{value:.4g}") if math.isfinite(value) else None


def outcome(run: Run, metric: str = "test_accuracy", above: float = GROKKED) -> Outcome:
    """The outcome of a run; one that diverged has no success and no last value.

    Raises as `values`, and as check_real for an `above` that is no finite number.

    A run has diverged if its training loss or rank is not finite at the last record, or the
    metric, unless that never was (no pair is left to test on): there is no value then.

    >>> history = {"step": np.array([0, 50, 100]), "test_accuracy": np.array([0.0, 0.99, 0.9])}
    >>> outcome(Run({"seed": 2}, history, {}, {}, {}))
    Outcome(seed=2, step=50, best=0.99, final=0.9, diverged=False)
    """
    y = values(run, metric)
    check_real("above", above)
    finite = y[np.isfinite(y)]
    last = [
        run.history[name][-1]
        for name in ("train_loss", "qk_stable_rank")
        if name in run.history
    ]
    if len(finite):
        last.append(y[-1])
    diverged = not np.isfinite(last).all()
    best = float(f"{finite.max():.4g}") if len(finite) else np.nan
    final = np.nan if diverged else float(f"{y[-1]:.4g}")
    return Outcome(
        run.config["seed"],
        None if diverged else run.first_step(metric, above),
        best,
        final,
        diverged,
    )


def values(run: Run, metric: str) -> np.ndarray:
    """The history (T,) of a metric. Raises TypeError for anything but a Run, ValueError if
    the run has no metric of that name, or no record."""
    if not isinstance(run, Run):
        raise TypeError(f"run must be a Run, got {type(run).__name__}")
    if not len(run.history["step"]):
        raise ValueError("run must have at least one record, got none")
    if metric not in run.history or metric == "step":
        known = ", ".join(repr(name) for name in run.history if name != "step")
        raise ValueError(f"metric must be one of {known}, got {shown(metric)}")
    return run.history[metric]


@dataclass(frozen=True, eq=False)
class Cell:
    """One rule at one fraction and strength: the configs that are wanted, by seed, and
    their runs (None: none yet)."""

    configs: tuple[TrainConfig, ...]
    runs: tuple[Run | None, ...]

    @property
    def fraction(self) -> float:
        return self.configs[0].fraction

    @property
    def strength(self) -> float:
        return self.configs[0].weight_decay

    @property
    def recorded(self) -> list[Run]:
        """The runs that are there, by seed."""
        return [run for run in self.runs if run is not None]

    def outcomes(
        self, metric: str = "test_accuracy", above: float = GROKKED
    ) -> list[Outcome]:
        """One per recorded run, by seed."""
        return [outcome(run, metric, above) for run in self.recorded]

    def agreement(
        self, metric: str = "test_accuracy", above: float = GROKKED
    ) -> tuple[int, int]:
        """How many seeds succeed, of how many recorded: (1, 3) is a cell whose seeds
        disagree, (0, 0) an empty one."""
        found = self.outcomes(metric, above)
        return sum(one.step is not None for one in found), len(found)


@dataclass(frozen=True, eq=False)
class Panel:
    """The cells of one rule in one setting. name: `rule` and, after a comma, what sets it
    apart from other panels."""

    name: str
    rule: str
    cells: tuple[Cell, ...]

    @cached_property
    def fractions(self) -> list[float]:
        return sorted({cell.fraction for cell in self.cells})

    @cached_property
    def strengths(self) -> list[float]:
        """The wanted values of lambda (weight_decay), ascending."""
        return sorted({cell.strength for cell in self.cells})

    @property
    def setting(self) -> str:
        """The name without the rule: "" where the rule says it all."""
        return self.name.removeprefix(NAMES[self.rule]).strip(", ")


def panels(runs: Iterable[Run], wanted: Iterable[TrainConfig]) -> list[Panel]:
    """The wanted configs in panels and cells, with the runs that are recorded of them;
    other runs are left out.

    A panel is whatever shares everything but fraction, strength and seed, by rule and
    learning rate. A second strength `l2` that goes with the first (one l2 per weight_decay)
    makes no panel of its own. Raises TypeError for anything but Runs and TrainConfigs,
    ValueError if nothing is wanted, one config has two runs, or a run is of no TrainConfig.
    """
    found = _runs_by_config(runs)
    if not isinstance(wanted, Iterable):
        raise TypeError(f"wanted must hold TrainConfigs, got {type(wanted).__name__}")
    configs = list(wanted)
    for config in configs:
        if not isinstance(config, TrainConfig):
            raise TypeError(f"wanted must hold TrainConfigs, got {type(config).__name__}")
    if not configs:
        raise ValueError("wanted must hold at least one TrainConfig, got none")
    groups = sorted(
        _configs_of_panels(dict.fromkeys(configs)),
        key=lambda group: (RULES.index(group[0].rule), group[0].lr),
    )
    made = []
    for group, name in zip(groups, _names_of_panels(groups), strict=True):
        cells: dict[tuple[float, float], list[TrainConfig]] = {}
        for config in sorted(group, key=lambda c: (c.weight_decay, c.fraction, c.seed)):
            cells.setdefault((config.weight_decay, config.fraction), []).append(config)
        parts = (
            Cell(tuple(part), tuple(found.get(config) for config in part))
            for part in cells.values()
        )
        made.append(Panel(name, group[0].rule, tuple(parts)))
    return made


def success(
    panel: Panel, metric: str = "test_accuracy", above: float = GROKKED
) -> tuple[list[int], np.ndarray]:
    """The seeds with a record, and S (seeds, strengths, fractions): 1 success, 0 failure,
    NaN no record. Raises TypeError for anything but a Panel, and as `outcome`."""
    if not isinstance(panel, Panel):
        raise TypeError(f"panel must be a Panel, got {type(panel).__name__}")
    found = {
        (cell.strength, cell.fraction): cell.outcomes(metric, above) for cell in panel.cells
    }
    seeds = sorted({one.seed for outcomes in found.values() for one in outcomes})
    S = np.full((len(seeds), len(panel.strengths), len(panel.fractions)), np.nan)
    for (strength, fraction), outcomes in found.items():
        place = panel.strengths.index(strength), panel.fractions.index(fraction)
        for one in outcomes:
            S[seeds.index(one.seed), *place] = one.step is not None
    return seeds, S


# ---- frontiers


@dataclass(frozen=True)
class Frontier:
    """The smallest fraction at which a rule succeeds, at one strength or (strength None) at
    the best one per fraction.

    low, high: its bounds, inf for "at no wanted fraction"; equal once no missing record can
    change it. interval: the bootstrap's over seeds, None below two seeds. by_seed: the
    bounds of each seed alone. cells: how many of the wanted ones have a run, and how many
    there are; complete: whether each has a run of every seed in by_seed.
    """

    strength: float | None
    effective: float | None
    low: float
    high: float
    interval: tuple[float, float] | None
    by_seed: dict[int, tuple[float, float]]
    cells: tuple[int, int]
    complete: bool

    @property
    def settled(self) -> bool:
        """Whether no missing record can change it."""
        return self.low == self.high


def frontiers(
    panel: Panel,
    rng: np.random.Generator,
    *,
    metric: str = "test_accuracy",
    above: float = GROKKED,
    resamples: int = 2000,
    level: float = 0.95,
) -> list[Frontier]:
    """The frontier at every strength of a panel, weakest first, then that of the best
    strength per fraction.

    The best strength is one for all seeds (the cell with the largest share of successes),
    not one per seed, as whoever tunes chooses it before the seed is drawn. Raises as
    `success` and, for rng, resamples and level, as `bootstrap`.
    """
    _check_resampling(rng, resamples, level)
    seeds, S = success(panel, metric, above)
    wanted = np.zeros(S.shape[1:], bool)
    first: dict[int, TrainConfig] = {}
    for cell in panel.cells:
        row = panel.strengths.index(cell.strength)
        wanted[row, panel.fractions.index(cell.fraction)] = True
        first.setdefault(row, cell.configs[0])

    def over(rows: slice, strength: float | None, effective: float | None) -> Frontier:
        there = ~np.isnan(S[:, rows]).all((1, 2))  # (seeds,)
        part = S[there, rows]  # (seeds there, strengths in rows, fractions)
        names = [seed for seed, known in zip(seeds, there, strict=True) if known]
        grid = (np.array(panel.fractions), wanted[rows])
        by_seed = {seed: frontier(part[[i]], *grid) for i, seed in enumerate(names)}
        interval = (
            bootstrap(part, *grid, rng, resamples=resamples, level=level)
            if len(names) > 1
            else None
        )
        count = int((~np.isnan(part)).any(0).sum()), int(wanted[rows].sum())
        complete = bool((~np.isnan(part) | ~wanted[rows]).all())
        return Frontier(
            strength, effective, *frontier(part, *grid), interval, by_seed, count, complete
        )

    single = [
        over(slice(i, i + 1), strength, effective_strength(first[i]))
        for i, strength in enumerate(panel.strengths)
    ]
    return [*single, over(slice(None), None, None)]


def frontier(
    S: np.ndarray, fractions: np.ndarray, wanted: np.ndarray
) -> tuple[float, float]:
    """Bounds of the smallest fraction at which, at some strength, more than half of the
    recorded seeds succeed.

    S (seeds, strengths, fractions) as of `success`; fractions (fractions,) ascending;
    wanted (strengths, fractions) booleans. low counts a wanted cell without any record as a
    success, high as a failure. Raises ValueError for arrays that do not fit each other.

    >>> f, all = np.array([0.3, 0.4, 0.5]), np.ones((1, 3), bool)
    >>> frontier(np.array([[[0, 1, 1]], [[0, 0, 1]], [[0, 1, 1]]]), f, all)
    (0.4, 0.4)
    >>> frontier(np.array([[[np.nan, 1, np.nan]]]), f, all)
    (0.3, 0.4)
    """
    _check_success(S, fractions, wanted)
    low, high = _bounds(np.nansum(S, 0), (~np.isnan(S)).sum(0), fractions, wanted)
    return float(low), float(high)


def bootstrap(
    S: np.ndarray,
    fractions: np.ndarray,
    wanted: np.ndarray,
    rng: np.random.Generator,
    *,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `frontier`: seeds drawn again with replacement,
    whole, as many as there are.

    Its ends are quantiles of the lower and of the upper bounds, so missing records widen
    it. It is a description of the seeds more than a claim: of 2 or 3 seeds it is simply
    their range, and the range of n draws holds the median of what they are drawn from with
    probability 1 - 2^(1 - n) only, 50% and 75%. Raises as `frontier`; ValueError below two
    seeds; TypeError or ValueError unless rng is a Generator, resamples a whole number from
    1 and level a number from 0 to 1.
    """
    _check_success(S, fractions, wanted)
    _check_resampling(rng, resamples, level)
    n = len(S)
    if n < 2:
        raise ValueError(f"S must hold at least 2 seeds, got {n}")
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    times = drawn.astype(float)  # (resamples, seeds): how often each is drawn
    wins = np.tensordot(times, np.nan_to_num(S), 1)  # (resamples, strengths, fractions)
    recorded = np.tensordot(times, (~np.isnan(S)).astype(float), 1)
    lows, highs = map(np.sort, _bounds(wins, recorded, fractions, wanted))
    cut = int((1 - level) / 2 * (resamples - 1))
    return float(lows[cut]), float(highs[-1 - cut])


def _bounds(
    wins: np.ndarray, recorded: np.ndarray, fractions: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`frontier` from the numbers of successes and of records (..., strengths, fractions):
    two arrays (...,)."""
    succeeds = 2 * wins > recorded
    ends = np.append(fractions, np.inf)

    def smallest(cells: np.ndarray) -> np.ndarray:
        some = cells.any(-2)
        return ends[np.where(some.any(-1), some.argmax(-1), len(fractions))]

    return smallest(succeeds | ((recorded == 0) & wanted)), smallest(succeeds)


def _check_success(S: np.ndarray, fractions: np.ndarray, wanted: np.ndarray) -> None:
    """Raise ValueError unless the three have the shapes and the order that `frontier`
    promises."""
    if np.ndim(S) != 3:
        raise ValueError(f"S must be (seeds, strengths, fractions), got {np.shape(S)}")
    if np.shape(fractions) != S.shape[2:] or not (np.diff(fractions) > 0).all():
        raise ValueError(
            f"fractions must be {S.shape[2]} ascending numbers, as S has, got {shown(fractions)}"
        )
    if np.shape(wanted) != S.shape[1:]:
        raise ValueError(
            f"wanted must be {S.shape[1:]} booleans, as S has, got {np.shape(wanted)}"
        )


def _check_resampling(rng: np.random.Generator, resamples: int, level: float) -> None:
    """Raise TypeError or ValueError as `bootstrap` promises."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy Generator, got {type(rng).__name__}")
    check_integer("resamples", resamples)
    check_real("level", level, at_least=0, at_most=1)


# ---- grouping


def _runs_by_config(runs: Iterable[Run]) -> dict[TrainConfig, Run]:
    """The runs by what they are of. Raises as `panels`."""
    if not isinstance(runs, Iterable):
        raise TypeError(f"runs must be Runs, got {type(runs).__name__}")
    found: dict[TrainConfig, Run] = {}
    for run in runs:
        if not isinstance(run, Run):
            raise TypeError(f"runs must be Runs, got {type(run).__name__}")
        try:
            config = TrainConfig(**run.config)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"runs must be of TrainConfigs, got one of {run.config!r}: {error}"
            ) from error
        if config in found:
            raise ValueError(
                f"runs must hold one run per config, got two of {run.label()}, seed "
                f"{config.seed}"
            )
        found[config] = run
    return found


def _configs_of_panels(configs: Iterable[TrainConfig]) -> list[list[TrainConfig]]:
    """The configs of each panel, in order of appearance."""
    groups: dict[TrainConfig, list[TrainConfig]] = {}
    for config in configs:
        setting = replace(config, fraction=0.5, weight_decay=0.0, seed=0, l2=0.0)
        groups.setdefault(setting, []).append(config)
    split: list[list[TrainConfig]] = []
    for group in groups.values():
        pairs = {(config.weight_decay, config.l2) for config in group}
        if len(pairs) == len({strength for strength, _ in pairs}):  # l2 goes with it
            split.append(group)
        else:
            split += [
                [config for config in group if config.l2 == l2]
                for l2 in sorted({l2 for _, l2 in pairs})
            ]
    return split


def _names_of_panels(groups: Sequence[Sequence[TrainConfig]]) -> list[str]:
    """A name per panel, all different: the rule, what differs between panels that it means
    something to, and l2 if it is one for the whole panel."""
    firsts = [group[0] for group in groups]
    names = []
    for group, config in zip(groups, firsts, strict=True):
        alike = [c for c in firsts if (c.rule in LOW_RANK) == (config.rule in LOW_RANK)]
        parts = [NAMES[config.rule]]
        for field in fields(TrainConfig):
            if field.name in (*AXES, "rule", "l2"):
                continue
            peers = alike if field.name in LOW_RANK_FIELDS else firsts
            if len({getattr(c, field.name) for c in peers}) > 1:
                value = getattr(config, field.name)
                parts.append(
                    str(value) if field.name == "mode" else f"{field.name} {value}"
                )
        name = ", ".join(parts)
        second = {c.l2 for c in group}
        if len(second) == 1 and second != {0.0}:
            name += f" {'+' if config.rule == 'elastic' else 'with'} L2 {second.pop():g}"
        names.append(name)
    return names
