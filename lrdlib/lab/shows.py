"""Claims that the lab can show: for each a view of recorded runs, or of a run that trains
in the page, and what is set there, in words.

A view is one run, or two, of one seed. It shows what a claim speaks of; the verdict rests
on many. The words say what is set, not what comes of it. Claims about the first code's own
network have none, as the lab holds no run of it.
"""

from typing import Any, NamedTuple

from lrdlib.lab.address import of_recorded, of_training
from lrdlib.training.config import TrainConfig


class View(NamedTuple):
    """What is set, in words, and the address."""

    words: str
    address: str


def _recorded(words: str, step: int, *runs: dict[str, Any]) -> View:
    """A view of one recorded run or two, by fields of their TrainConfigs."""
    config, *others = (TrainConfig(**{"eval_every": 100} | fields) for fields in runs)
    beside = others[0] if others else None
    return View(words, of_recorded(config, beside=beside, step=step))


def _lrd(strength: float, fraction: float, **fields: Any) -> dict[str, Any]:
    return {"rule": "lrd", "weight_decay": strength, "fraction": fraction} | fields


def _l2(strength: float, fraction: float, **fields: Any) -> dict[str, Any]:
    return {"rule": "l2", "weight_decay": strength, "fraction": fraction} | fields


WHOLE = {"eval_every": 50}  # recorded with its matrices
LATER = [(500, "rule", "lrd"), (500, "weight_decay", 0.02)]  # after memorising

IN_LAB = {
    "wider-independent": _recorded(
        "LRD beside L2, both λ = 0.005, half of the pairs",
        3000,
        _lrd(0.005, 0.5),
        _l2(0.005, 0.5),
    ),
    "as-written": _recorded(
        "LRD at λ = 0.05 times the learning rate, 80% of the pairs",
        3000,
        _lrd(0.05, 0.8, mode="decoupled"),
    ),
    "sweet-spot": _recorded(
        "LRD beside L2, both λ = 0.005, 40% of the pairs",
        3000,
        _lrd(0.005, 0.4),
        _l2(0.005, 0.4),
    ),
    "upper-right-paper": _recorded(
        "L2 at λ = 0.05, 80% of the pairs", 3000, _l2(0.05, 0.8)
    ),
    "less-data": _recorded(
        "LRD at λ = 0.01 beside L2 at λ = 10, 30% of the pairs",
        3000,
        _lrd(0.01, 0.3),
        _l2(10.0, 0.3),
    ),
    "faster": _recorded(
        "LRD at λ = 0.01 beside L2 at λ = 10, 40% of the pairs",
        1000,
        _lrd(0.01, 0.4),
        _l2(10.0, 0.4),
    ),
    "no-superiority": _recorded(
        "LRD at λ = 0.01 beside L2 at λ = 10, half of the pairs",
        1000,
        _lrd(0.01, 0.5),
        _l2(10.0, 0.5),
    ),
    "speed-6-2": _recorded(
        "LRD beside L2, both λ = 0.05, 40% of the pairs",
        3000,
        _lrd(0.05, 0.4),
        _l2(0.05, 0.4),
    ),
    "rank-6-2": _recorded(
        "LRD at λ = 0.05, 40% of the pairs, step 500", 500, _lrd(0.05, 0.4)
    ),
    "l2-rank-6-2": _recorded("L2 at λ = 0.01, 40% of the pairs", 3000, _l2(0.01, 0.4)),
    "tail-6-2": _recorded(
        "the singular values of LRD at λ = 0.01 beside those of L2 at λ = 0.1",
        3000,
        _lrd(0.01, 0.4, **WHOLE),
        _l2(0.1, 0.4, **WHOLE),
    ),
    "pattern-6-2": _recorded(
        "the patterns of LRD at λ = 0.01 and of L2 at λ = 0.1",
        3000,
        _lrd(0.01, 0.4, **WHOLE),
        _l2(0.1, 0.4, **WHOLE),
    ),
    "precedes": _recorded(
        "LRD at λ = 0.01, 40% of the pairs, while its accuracy rises",
        1300,
        _lrd(0.01, 0.4, **WHOLE),
    ),
    "accompanies": _recorded(
        "LRD at λ = 0.01 beside L2 at λ = 10, at the end",
        3000,
        _lrd(0.01, 0.4),
        _l2(10.0, 0.4),
    ),
    "unchanged": _recorded(
        "L2 at λ = 0.1 beside L2 at λ = 10",
        3000,
        _l2(0.1, 0.4, **WHOLE),
        _l2(10.0, 0.4),
    ),
    "trapped": _recorded("L2 at λ = 0.1, to step 3000", 3000, _l2(0.1, 0.4, **WHOLE)),
    "mechanism": View(
        "a small network under LRD’s tangential part alone",
        of_training("small", part="tangential"),
    ),
    "tangential-adds": View(
        "a small network under LRD’s radial part alone",
        of_training("small", part="radial"),
    ),
    "needed": View(
        "a small network under LRD, its attention frozen as it began",
        of_training("small", attention="frozen"),
    ),
    "qk-alone": View(
        "a small network under LRD on queries and keys alone",
        of_training("small", select="qk"),
    ),
    "stalls": View(
        "a small network without decay, and from step 500 on with LRD",
        of_training("small", rule="none", weight_decay=0.0, then=LATER),
    ),
    "without-gradient": View(
        "the same, with a learning rate of 0 from then on",
        of_training(
            "small", rule="none", weight_decay=0.0, then=[*LATER, (500, "lr", 0.0)]
        ),
    ),
    "other-tasks": View(
        "a small network that subtracts, under LRD",
        of_training("sub", rule="lrd", weight_decay=0.01, l2=0.0),
    ),
}
