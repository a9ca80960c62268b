"""The book's first picture: drag a strength, and see a spectrum and an accuracy move together.

Runs of several rules and strengths, all else equal, become one element of HTML that holds
their records as numbers of three digits. static/opening.js draws and moves it on the book's
pages; where that script is not, as in a notebook, a still picture in the element stays.
"""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrdlib._check import check_choice, shown
from lrdlib.evidence.phase import effective_strength
from lrdlib.figures.canvas import INK, PALETTE, RULE_COLOURS
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import NAMES, Run

BARS = 32  # singular values drawn of a matrix
DEFAULTS = plain(TrainConfig())
MOVES = ("rule", "weight_decay", "l2", "mode")  # what the runs may differ in
WIDE, HIGH = 360, 200  # of a panel, in its own units


def opening_data(runs: Sequence[Run], *, matrix: str = "0.query") -> dict[str, Any]:
    """What static/opening.js draws: the shared steps, and per rule, in the order in which
    rules come first, its runs by strength.

    {"steps": [T], "rules": [{"name", "colour", "runs": [{"strength", "seen", "unseen",
    "rank", "bars"}]}]}. colour: that of RULE_COLOURS. strength: the effective strength per
    step (lrdlib.evidence.phase). seen and unseen: accuracy on training and on orbit-clean
    pairs, in thousandths, [T]. rank: the stable rank of all queries and keys, in tenths,
    [T]. bars: singular values of `matrix` as thousandths of the largest, [T][BARS], evenly
    chosen from the largest to the smallest.

    Raises TypeError for other things than Runs, and ValueError if runs are empty, differ in
    more than rule and strength, were not recorded at the same steps, have no such matrix, or
    have diverged.
    """
    check_alike(runs, matrix)
    steps = runs[0].history["step"]
    rules: dict[str, list[dict[str, Any]]] = {run.config["rule"]: [] for run in runs}
    for run in sorted(runs, key=strength):
        S = run.spectra[matrix]  # (T, k)
        chosen = np.linspace(0, S.shape[1] - 1, BARS).round().astype(int)
        rules[run.config["rule"]].append(
            {
                "strength": strength(run),
                "seen": thousandths(run.history["train_accuracy"]),
                "unseen": thousandths(run.history["orbit_clean_accuracy"]),
                "rank": np.rint(10 * run.history["qk_stable_rank"]).astype(int).tolist(),
                "bars": thousandths(S[:, chosen] / S[:, :1]),
            }
        )
    entries = [
        {"name": NAMES[rule], "colour": RULE_COLOURS[rule], "runs": found}
        for rule, found in rules.items()
    ]
    return {"steps": steps.tolist(), "rules": entries}


def check_alike(runs: Sequence[Run], matrix: str) -> None:
    """Raise TypeError or ValueError unless the runs are finite, and differ in rule and
    strength only, record by record."""
    if not isinstance(runs, Sequence) or not all(isinstance(run, Run) for run in runs):
        raise TypeError(f"runs must be a list of Runs, got {shown(runs)}")
    if not runs:
        raise ValueError("runs must hold at least one run, got none")
    first = {**DEFAULTS, **runs[0].config}
    for run in runs:
        config = {**DEFAULTS, **run.config}
        apart = [key for key in first if key not in MOVES and config[key] != first[key]]
        if apart or not np.array_equal(run.history["step"], runs[0].history["step"]):
            what = apart[0] if apart else "the steps of its records"
            raise ValueError(f"runs must differ in rule and strength only, got {what}")
        if matrix not in run.spectra:
            raise ValueError(
                f"runs must hold the spectrum of {matrix!r}, got {run.label()}"
            )
        if not np.isfinite(run.spectra[matrix]).all():
            raise ValueError(f"runs must be finite, got {run.label()}, which diverged")


def strength(run: Run) -> float:
    """The effective strength of a run's decay per step, rounded as it was meant."""
    return float(f"{effective_strength(TrainConfig(**run.config)):.6g}")


def thousandths(shares: np.ndarray) -> list:
    """Numbers from 0 to 1 as integers from 0 to 1000, for text that compresses.

    >>> thousandths(np.array([0.0, 0.25, 1.0]))
    [0, 250, 1000]
    """
    return np.rint(1000 * np.asarray(shares, np.float64)).astype(int).tolist()


def still(data: Mapping[str, Any], *, rule: int, at: int) -> str:
    """An SVG of one run's last record: bars on the left, accuracies on the right."""
    colour, steps = data["rules"][rule]["colour"], data["steps"]
    run = data["rules"][rule]["runs"][at]
    width = WIDE / BARS
    bars = "".join(
        f"M{i * width + 1:.1f} {HIGH}v{-HIGH * h / 1000:.1f}h{width - 2:.1f}V{HIGH}z"
        for i, h in enumerate(run["bars"][-1])
    )
    paths = [f'<path d="{bars}" fill="{colour}"/>']
    for name, stroke in (("seen", INK), ("unseen", PALETTE[3])):
        points = " ".join(
            f"{WIDE * (1.1 + step / steps[-1]):.1f},{HIGH * (1 - y / 1000):.1f}"
            for step, y in zip(steps, run[name], strict=True)
        )
        paths.append(f'<polyline points="{points}" fill="none" stroke="{stroke}"/>')
    size = f"0 0 {2.1 * WIDE:g} {HIGH}"
    return f'<svg viewBox="{size}" style="max-width:100%" stroke-width="2">{"".join(paths)}</svg>'


def opening(runs: Sequence[Run], *, rule: str, start: float, alt: str) -> str:
    """The element, as HTML. rule and start: the name and the strength that it opens with.

    alt: what it shows, for those who cannot see it. Raises as `opening_data`, and ValueError
    for a rule or a strength that no run has.
    """
    data = opening_data(runs)
    names = [entry["name"] for entry in data["rules"]]
    check_choice("rule", rule, names)
    chosen = names.index(rule)
    strengths = [run["strength"] for run in data["rules"][chosen]["runs"]]
    check_choice("start", start, strengths)
    at = strengths.index(start)
    text = json.dumps({**data, "rule": chosen, "at": at}, separators=(",", ":"))
    return (
        f'<div class="lrd-opening" role="group" aria-label="{html.escape(alt)}">'
        f"{still(data, rule=chosen, at=at)}"
        f'<script type="application/json">{text}</script></div>'
    )
