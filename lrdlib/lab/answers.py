"""Recorded networks that can be asked: what they answer to every row of their task's table,
at some steps of their training, beside the run itself.

    python -m lrdlib.lab.answers OUT [--limit N]

trains the networks of lrdlib.evidence.cuts on one core, a minute or two each, and writes
OUT/NAME-seed0.npz and OUT/NAME-seed0.answers.npz. Where a folder has them, the lab's page
shows their table of pairs and answers for them (lrdlib.lab.data, `read_runs`).
"""

import argparse
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lrdlib._check import check_instance, check_integer
from lrdlib.evidence.cuts import NETWORKS, table_logits
from lrdlib.lab.digits import DIGITS
from lrdlib.model import Params
from lrdlib.tasks import split
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import Run, provenance, runs_of, save_run, short_name
from lrdlib.training.store import read_arrays, write_arrays
from lrdlib.training.train import Training

KIND = "lrdlib-answers/1"
EVERY = 100  # steps between two tables
LEVELS = len(DIGITS) - 1  # into which a probability is rounded


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network answers to each of the N rows of its table, at S steps.

    config: the fields of its TrainConfig. steps (S,): integers that rise. answers (S, N):
    the answer of the highest probability, uint8; sure (S, N): this probability, uint8, in
    parts of LEVELS. Raises TypeError or ValueError for anything else, and for a task of
    more than 64 answers.
    """

    config: dict[str, Any]
    steps: np.ndarray
    answers: np.ndarray
    sure: np.ndarray

    def __post_init__(self) -> None:
        check_instance("config", self.config, dict)
        for name in ("steps", "answers", "sure"):
            check_instance(name, getattr(self, name), np.ndarray)
        labels = TrainConfig(**self.config).data().labels
        shape = (len(self.steps), len(labels))
        check_integer("the task's answers", int(labels.max()) + 1, at_most=len(DIGITS))
        for name in ("answers", "sure"):
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.uint8:
                raise ValueError(
                    f"{name} must be uint8 of shape {shape}, got {array.dtype} of shape "
                    f"{array.shape}"
                )
            if array.max(initial=0) >= len(DIGITS):
                raise ValueError(f"{name} must be below {len(DIGITS)}, got {array.max()}")
        if self.steps.dtype.kind != "i" or (np.diff(self.steps) <= 0).any():
            raise ValueError(f"steps must be integers that rise, got {self.steps!r}")


@torch.no_grad()
def answers_of(params: Params, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """What one network, without a runs axis, answers to each row of its task's table, and
    its probability in parts of LEVELS: (N,) each, uint8.

    Raises TypeError for anything but a TrainConfig.
    """
    check_instance("config", config, TrainConfig)
    logits = table_logits(params, config)
    share, best = logits.double().softmax(-1).max(-1)  # (N,)
    sure = (LEVELS * share).round()
    return best.numpy().astype(np.uint8), sure.numpy().astype(np.uint8)


def trained(config: TrainConfig, *, every: int = EVERY) -> tuple[Run, Answers]:
    """Train a network here, on one CPU: its run, and its answers at the records whose steps
    are multiples of `every`. Raises TypeError or ValueError as Answers, and for an `every`
    that is no integer of at least 1."""
    check_instance("config", config, TrainConfig)
    check_integer("every", every)
    training = Training([config])
    tables: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for record in training:
        if record.step % every == 0:
            params = {name: W[0].detach() for name, W in training.params.items()}
            tables[record.step] = answers_of(params, config)
    answers, sure = (np.stack(rows) for rows in zip(*tables.values(), strict=True))
    (run,) = runs_of(training)
    return run, Answers(plain(config), np.array([*tables]), answers, sure)


def packed(found: Answers) -> dict[str, Any]:
    """The answers as the page reads them: the table's shape, pair (a, b) at row a and column
    b; steps; for each of them a text of answers and one of probabilities, a digit each;
    the table's labels, and which of its pairs are trained on, "1" or "0"."""
    config = TrainConfig(**found.config)
    task = config.data()
    rows = len(task.labels)
    down = math.isqrt(rows - 1) + 1  # division has no b = 0
    if config.task == "parity":
        down = 2 ** math.ceil(config.bits / 2)
    inside = np.zeros(rows, np.uint8)
    inside[split(task, config.fraction, config.seed).train.numpy()] = 1
    return {
        "down": down,
        "across": rows // down,
        "steps": found.steps.tolist(),
        "answers": [_text(row) for row in found.answers],
        "sure": [_text(row) for row in found.sure],
        "levels": LEVELS,
        "labels": _text(task.labels.numpy()),
        "trained": _text(inside),
    }


def _text(row: Iterable[int]) -> str:
    """Whole numbers from 0 to 63 as a digit each.

    >>> _text([0, 10, 63])
    '0A_'
    """
    return "".join(DIGITS[n] for n in row)


def save_answers(found: Answers, path: str | Path, source: dict[str, str]) -> None:
    """Write Answers to `path`, all or nothing, with where they come from. Raises as
    lrdlib.training.store.write_arrays."""
    check_instance("found", found, Answers)
    arrays = {name: getattr(found, name) for name in ("steps", "answers", "sure")}
    write_arrays(path, KIND, {"config": found.config, "provenance": source}, arrays)


def load_answers(path: str | Path) -> Answers:
    """Read what `save_answers` wrote. Raises FileNotFoundError if there is no file,
    ValueError for one that is damaged or foreign."""
    header, arrays = read_arrays(path, KIND)
    try:
        # a field that TrainConfig has got since is at its default
        return Answers(plain(TrainConfig(**header["config"])), **arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"path must hold answers, got {str(path)!r}, which does not: "
            f"{type(error).__name__}: {error!s:.300}"
        ) from error


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m lrdlib.lab.answers")
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int, default=len(NETWORKS), metavar="N")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for config in list(NETWORKS.values())[: options.limit]:
        path = options.out / f"{short_name(config)}.npz"
        if not path.exists():
            run, found = trained(config)
            source = provenance("python -m lrdlib.lab.answers book/runs/answers")
            run.provenance.update(source)
            save_answers(found, path.with_suffix(".answers.npz"), source)
            save_run(run, path)
        print(f"   {path.stem}", flush=True)


if __name__ == "__main__":
    main()
