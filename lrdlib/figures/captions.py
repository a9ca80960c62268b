"""Runs in words: names that tell them apart, and what a figure of them shows, for those who
cannot see it."""

from collections.abc import Iterable, Sequence

import numpy as np

from lrdlib.training.runs import GROKKED, Run


def labels(runs: Sequence[Run]) -> list[str]:
    """A name per run, all different: the rule and its strength, and whatever else sets runs
    of one name apart."""
    names = [run.label() for run in runs]
    labels = []
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        same = [
            other.config
            for other, theirs in zip(runs, names, strict=True)
            if theirs == name
        ]
        differing = [
            key
            for key, value in run.config.items()
            if any(c.get(key) != value for c in same)
        ]
        labels.append(", ".join([name] + [f"{key} {run.config[key]}" for key in differing]))
        if labels[-1] in labels[:-1]:
            labels[-1] += f" (run {i + 1})"
    return labels


def each(runs: Sequence[Run], texts: Iterable[str]) -> str:
    """One text per run, each after the run's name."""
    return "; ".join(
        f"{name} {text}" for name, text in zip(labels(runs), texts, strict=True)
    )


def accuracy_text(runs: Sequence[Run]) -> str:
    """Where the test accuracy of each run ends, and when it groks."""

    def one(run: Run) -> str:
        test, clean = (
            number(run.history[f"{name}_accuracy"][-1]) for name in ("test", "orbit_clean")
        )
        step = run.first_step(above=GROKKED)
        passed = (
            f"first above {GROKKED} at step {step}"
            if step is not None
            else f"never above {GROKKED}"
        )
        return f"ends at {test} ({clean} on orbit-clean pairs), {passed}"

    return f"Test accuracy over {runs[0].history['step'][-1]} steps: {each(runs, map(one, runs))}."


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
