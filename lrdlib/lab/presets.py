"""What a lab that trains starts from: settings with a name."""

from typing import Any

from lrdlib.training.config import TrainConfig, plain

# Fields of TrainConfig that differ from its defaults. "small" generalises within a minute,
# in a browser too.
SMALL: dict[str, Any] = dict(p=59, d_model=64, fraction=0.6, batch_size=256, lr=3e-3)
SMALL |= dict(weight_decay=0.02, steps=1500, eval_every=25)
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "small": ("small: addition modulo 59", SMALL),
    "paper": ("the paper's: addition modulo 97, slow", {}),
}
# The strength that a rule begins with when it is chosen by hand.
FIRST = {"none": 0.0, "l2": 1.0, "lrd": 1e-2, "elastic": 1e-2, "proximal": 1e-2}


def all_presets(config: TrainConfig | None = None) -> dict[str, dict[str, Any]]:
    """Every preset, by name, as {"label", "config": fields of a TrainConfig, "first":
    FIRST}; first yours, if given.

    >>> list(all_presets()), all_presets()["small"]["config"]["p"]
    (['small', 'paper'], 59)
    >>> all_presets(TrainConfig(p=11))["yours"]["label"]
    'yours'
    """
    known = {} if config is None else {"yours": ("yours", config)}
    known |= {
        name: (label, TrainConfig(**fields)) for name, (label, fields) in SETTINGS.items()
    }
    return {
        name: {"label": label, "config": plain(c), "first": FIRST}
        for name, (label, c) in known.items()
    }
