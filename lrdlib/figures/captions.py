"""Runs in words: names that tell them apart, and what a figure of them shows, for those who
cannot see it."""

from collections.abc import Iterable, Sequence

import numpy as np

from lrdlib.training.runs import GROKKED, Run


def labels(runs: Sequence[Run]) -> list[str]:
    """A name per run, all different: the rule and its strength, and whatever else sets runs
    of one name apart."""
    found: list[str] = []
    for i, run in enumerate(runs):
        label = run.label()
        same = [other.config for other in runs if other.label() == label]
        for key, value in run.config.items():
            if any(config.get(key) != value for config in same):
                label += f", {key} {value}"
        found.append(f"{label} (run {i + 1})" if label in found else label)
    return found


def each(runs: Sequence[Run], texts: Iterable[str]) -> str:
    """One text per run, each after the run's name."""
    named = zip(labels(runs), texts, strict=True)
    return "; ".join(f"{name} {text}" for name, text in named)


def accuracy_text(runs: Sequence[Run]) -> str:
    """Where the test accuracy of each run ends, and when it groks."""

    def text(run: Run) -> str:
        test = number(run.history["test_accuracy"][-1])
        clean = number(run.history["orbit_clean_accuracy"][-1])
        step = run.first_step(above=GROKKED)
        passed = f"never above {GROKKED}"
        if step is not None:
            passed = f"first above {GROKKED} at step {step}"
        return f"ends at {test} ({clean} on orbit-clean pairs), {passed}"

    steps = runs[0].history["step"][-1]
    return f"Test accuracy over {steps} steps: {each(runs, map(text, runs))}."


def rank_text(runs: Sequence[Run]) -> str:
    """From where to where the rank of each run goes."""
    ranks = [run.history["qk_stable_rank"] for run in runs]
    changes = [f"{number(rank[0])} to {number(rank[-1])}" for rank in ranks]
    return f"Mean stable rank of the query and key matrices: {each(runs, changes)}."


def number(value: float) -> str:
    """Three significant digits, or that there is no number.

    >>> number(0.98765), number(float("nan"))
    ('0.988', 'diverged')
    """
    return f"{value:.3g}" if np.isfinite(value) else "diverged"
