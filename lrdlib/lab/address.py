"""Addresses of the lab's page that hold a whole view of it: of recorded runs, or of a run
that whoever opens it sees trained again, with every change by hand.

They are what the page itself writes (static/choose.js, static/address.js), character for
character.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from lrdlib._check import check_choice, check_instance, check_integer, shown
from lrdlib.lab.data import DEFAULTS, setting, variant
from lrdlib.lab.presets import all_presets
from lrdlib.training.config import TrainConfig, plain

PAGE = "lab.html"
RULES = ("none", "l2", "lrd", "elastic")  # that the page trains with
FIELDS = ("fraction", "seed", "rule", "weight_decay", "l2", "lr")  # always in the address
SWITCHES: dict[str, tuple[str, ...]] = {  # there where they are not the preset's
    "l2_on": ("all", "selected"),
    "part": ("both", "radial", "tangential"),
    "select": ("attention+mlp", "qk", "vo", "mlp", "vo+mlp"),
    "hold": ("none", "norm"),
    "attention": ("learned", "frozen", "uniform"),
}
# what may be changed while it trains
CHANGED = ("rule", "weight_decay", "l2", "lr", *SWITCHES)


def of_recorded(
    config: TrainConfig,
    *,
    beside: TrainConfig | None = None,
    step: int,
    matrix: str = "0.query",
) -> str:
    """The address of the recorded lab at a step: a run by its config, `beside` it a second
    one, and the spectrum of a matrix.

    Whether such runs are recorded is not looked up: the lab shows the nearest, and says so.
    Raises TypeError or ValueError for anything but TrainConfigs, a step from 0 to the
    config's last, and a query or key matrix of one of its layers.

    >>> of_recorded(TrainConfig(rule="l2", weight_decay=0.1), step=3000)
    'lab.html#lab:task=add97&rule=l2&lr=0.001&lambda=0.1&f=0.4&seed=0/50&step=3000&matrix=\
0.query'
    """
    check_instance("config", config, TrainConfig)
    if beside is not None:
        check_instance("beside", beside, TrainConfig)
    check_integer("step", step, at_least=0, at_most=config.steps)
    matrices = [f"{i}.{name}" for i in range(config.layers) for name in ("query", "key")]
    check_choice("matrix", matrix, tuple(matrices))
    runs = [("", config), *([] if beside is None else [("vs.", beside)])]
    parts = [f"{start}{place}" for start, c in runs for place in _place(c)]
    return f"{PAGE}#lab:{'&'.join([*parts, f'step={step}', f'matrix={matrix}'])}"


def _place(c: TrainConfig) -> list[str]:
    """Where the reader finds a run, as parts of an address."""
    known = DEFAULTS | plain(c)
    strength = _number(c.weight_decay)
    if c.rule == "elastic" or c.l2:
        strength += f",{_number(c.l2)}"
    told = {"task": setting(known)[0], "rule": c.rule, "mode": variant(known)[0]}
    told |= {"lr": _number(c.lr), "lambda": strength, "f": _number(c.fraction)}
    told |= {"seed": f"{c.seed}/{c.eval_every}"}
    return [f"{name}={quote(x, safe=',/:')}" for name, x in told.items() if x]


def of_training(
    preset: str, *, then: Iterable[tuple[int, str, Any]] = (), **fields: Any
) -> str:
    """The address at which the page trains a run: a preset (lrdlib.lab.presets) with other
    values of FIELDS and SWITCHES, and `then` changes (step, field, value) after steps of
    it, in their order.

    Raises ValueError for a preset, a field or a value that the page does not have, for a
    step that does not lie in the run or before the one of the change before, and TypeError
    or ValueError as TrainConfig for a run that cannot be.

    >>> of_training("small", seed=3, part="radial", then=[(350, "weight_decay", 0.0)])
    'lab.html#train:preset=small&fraction=0.6&seed=3&rule=lrd&weight_decay=0.02&l2=0&\
lr=0.003&part=radial&then=350:weight_decay=0'
    """
    presets = all_presets()
    check_choice("preset", preset, tuple(presets))
    own = presets[preset]["config"]
    for name, value in fields.items():
        check_choice("fields", name, (*FIELDS, *SWITCHES))
        _check_value(name, value)
    config = plain(TrainConfig(**own | fields))
    changes = _checked(list(then), config)
    told = [name for name in SWITCHES if config[name] != own[name]]
    parts = [f"preset={preset}", *(f"{k}={_text(config[k])}" for k in (*FIELDS, *told))]
    parts += [f"then={step}:{name}={_text(value)}" for step, name, value in changes]
    return f"{PAGE}#train:{'&'.join(parts)}"


def _checked(
    changes: Sequence[tuple[int, str, Any]], config: dict[str, Any]
) -> Sequence[tuple[int, str, Any]]:
    """The changes, if the run may have them: each value alone, and what they come to."""
    last = 0
    for change in changes:
        if not (isinstance(change, tuple) and len(change) == 3):
            raise ValueError(f"then must hold (step, field, value), got {shown(change)}")
        step, name, value = change
        check_integer("then's step", step, at_least=last, at_most=config["steps"])
        check_choice("then's field", name, CHANGED)
        _check_value(name, value)
        last, config = step, config | {name: value}
    # a learning rate of 0, at which decay acts alone, is one for the page only
    TrainConfig(**config | {"lr": config["lr"] or 1.0})
    return changes


def _check_value(name: str, value: Any) -> None:
    """Raise ValueError for a word that the page's list does not have."""
    if name in ("rule", *SWITCHES):
        check_choice(name, value, RULES if name == "rule" else SWITCHES[name])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    """A number as JavaScript writes it.

    >>> [_number(x) for x in (1.0, 1e-4, 0.15, 100)]
    ['1', '0.0001', '0.15', '100']
    """
    return np.format_float_positional(value, trim="-")
