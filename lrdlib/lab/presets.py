"""What a lab that trains starts from: settings with a name, and a sentence of what each
shows."""

from typing import Any

from lrdlib.training.config import TrainConfig, plain

# Fields of TrainConfig that differ from its defaults. What the sentences say of steps is
# seed 0 on a processor; tests/test_lab_train.py trains two of them.
SMALL: dict[str, Any] = dict(p=59, d_model=64, fraction=0.6, batch_size=256, lr=3e-3)
SMALL |= dict(weight_decay=0.02, steps=1500, eval_every=25)
ELASTIC: dict[str, Any] = dict(rule="elastic", weight_decay=0.01)
MUL = SMALL | ELASTIC
MUL |= dict(
    task="mul", p=31, fraction=0.7, batch_size=128, l2=1.0, steps=800, eval_every=20
)
SUB = SMALL | ELASTIC | dict(task="sub", fraction=0.7, l2=2.0)
PARITY: dict[str, Any] = dict(task="parity", bits=8, d_model=32, fraction=0.7, steps=800)
PARITY |= dict(rule="l2", weight_decay=1.0, lr=1e-3, batch_size=64, eval_every=10)
S5: dict[str, Any] = dict(task="s5", d_model=64, fraction=0.7, batch_size=512, lr=2e-3)
S5 |= dict(weight_decay=0.005, steps=2500, eval_every=100)

# name: (label, what it shows, fields)
SETTINGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "small": (
        "small: addition modulo 59",
        "Addition under low-rank decay: the rank falls first; later the trained pairs come "
        "right and the new ones soon after, with hardly a plateau between. With L2 as its "
        "rule it knows the trained pairs by step 300, and hardly a new one by step 600.",
        SMALL,
    ),
    "mul": (
        "quick: multiplication modulo 31",
        "The quickest: low-rank decay and L2 in one rule, elastic, get there by step 700, and "
        "slip once after that. "
        "L2 of the same strength alone does not get there in 1000.",
        MUL,
    ),
    "sub": (
        "subtraction modulo 59",
        "Here (a, b) and (b, a) have two answers, so that no pair helps its mirror image.",
        SUB,
    ),
    "s5": (
        "permutations of five (S5), slow",
        "A group that does not commute, with 14,400 pairs: slow here, and its numbers have "
        "no frequencies.",
        S5,
    ),
    "parity": (
        "parity of eight bits",
        "Found all at once, or not at all: seed 0 finds it near step 400, seeds 1 and 2 do "
        "not in 800.",
        PARITY,
    ),
}
# The strength that a rule begins with when it is chosen by hand.
FIRST = {"none": 0.0, "l2": 1.0, "lrd": 1e-2, "elastic": 1e-2, "proximal": 1e-2}


def all_presets(config: TrainConfig | None = None) -> dict[str, dict[str, Any]]:
    """Every preset, by name, as {"label", "shows", "config": fields of a TrainConfig,
    "first": FIRST}; first yours, if given.

    >>> list(all_presets()), all_presets()["small"]["config"]["p"]
    (['small', 'mul', 'sub', 's5', 'parity'], 59)
    >>> all_presets(TrainConfig(p=11))["yours"]["label"]
    'yours'
    """
    known = {} if config is None else {"yours": ("yours", "", config)}
    known |= {
        name: (label, shows, TrainConfig(**fields))
        for name, (label, shows, fields) in SETTINGS.items()
    }
    return {
        name: {"label": label, "shows": shows, "config": plain(c), "first": FIRST}
        for name, (label, shows, c) in known.items()
    }
