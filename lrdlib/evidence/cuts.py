"""Trained networks, cut: how much of what a network does is left when some of its matrices
keep only rank k (see lrdlib.spectral.cut).

A cut tells where the function of a trained network lies. It does not tell what training
needs: a network that trains under a rank may find another way.

The three NETWORKS were chosen before any of them was trained, and stay as they came out.
One seed each: exploratory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrdlib._check import check_choice, check_instance, check_real, shown
from lrdlib.evidence.studies import generalised
from lrdlib.model import MATRIX_ROLES, Params, forward, role
from lrdlib.spectral import cut
from lrdlib.tasks import split
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import runs_of
from lrdlib.training.store import read_arrays, write_arrays
from lrdlib.training.train import EVAL_ROWS, Training

KIND = "lrdlib-cuts/1"
# the roles of the matrices that are cut together, in every layer
GROUPS: dict[str, tuple[str, ...]] = {
    "Q": ("query",),
    "K": ("key",),
    "Q, K": ("query", "key"),
    "V": ("value",),
    "O": ("output",),
    "V, O": ("value", "output"),
    "MLP": ("up", "down"),
    "all": MATRIX_ROLES,
}
PAIRS = ("train", "orbit_clean")  # the parts of the table that are counted
SHAPE: dict[str, Any] = dict(p=59, d_model=64, fraction=0.6, batch_size=256, lr=3e-3)
SHAPE |= dict(steps=2000, eval_every=50, seed=0)
NETWORKS = {
    "LRD": TrainConfig(**SHAPE, rule="lrd", weight_decay=0.02),
    "strong L2": TrainConfig(**SHAPE, rule="l2", weight_decay=3.0),
    "weak L2": TrainConfig(**SHAPE, rule="l2", weight_decay=0.1),
}


def cut_matrices(params: Params, roles: Sequence[str], k: int) -> Params:
    """The same parameters, with all matrices of these roles cut to rank k.

    A cut matrix is shorter. To queries and keys under QK-Norm that is nothing, as they are
    scale-invariant; the others act with the norm that is left. Raises as `cut`, and
    ValueError for a role that is no matrix's of a block.
    """
    check_instance("params", params, Mapping)
    for name in roles:
        check_choice("roles", name, MATRIX_ROLES)
    return {name: cut(W, k) if role(name) in roles else W for name, W in params.items()}


@torch.no_grad()
def table_logits(params: Params, config: TrainConfig) -> Tensor:
    """The logits (N, classes) of one network, without a runs axis, for each row of its
    task's table, in the pieces in which training measures them. Raises as
    lrdlib.model.forward."""
    task = config.data()
    model = config.model(task)
    pieces = [forward(params, some, model) for some in task.tokens.split(EVAL_ROWS)]
    return torch.cat(pieces)


def accuracy(params: Params, config: TrainConfig) -> np.ndarray:
    """The share of pairs that one network, without a runs axis, gets right, on each of
    PAIRS: (2,), as training measures it; NaN where there is no such pair.

    Raises TypeError or ValueError for params that are not those of the config's model, and
    for a config whose attention is not learned.
    """
    check_instance("config", config, TrainConfig)
    check_choice("config.attention", config.attention, ("learned", "frozen"))
    task = config.data()
    parts = split(task, config.fraction, config.seed)
    right = table_logits(params, config).argmax(-1) == task.labels  # (N,)
    return np.array([right[getattr(parts, pairs)].float().mean().item() for pairs in PAIRS])


def accuracies(
    params: Params,
    config: TrainConfig,
    groups: Mapping[str, Sequence[str]] = GROUPS,
    ranks: Sequence[int] | None = None,
) -> np.ndarray:
    """`accuracy` of the network with each group of matrices cut to each rank: (groups,
    ranks, 2), float32. ranks: 0 to d_model unless given. Raises as `cut_matrices` and
    `accuracy`."""
    check_instance("config", config, TrainConfig)
    ranks = range(config.d_model + 1) if ranks is None else ranks
    every = tuple(dict.fromkeys(name for roles in groups.values() for name in roles))
    found = np.empty((len(groups), len(ranks), len(PAIRS)), np.float32)
    for j, k in enumerate(ranks):
        low = cut_matrices(params, every, k)  # once for all groups
        for i, roles in enumerate(groups.values()):
            mixed = {n: (low if role(n) in roles else params)[n] for n in params}
            found[i, j] = accuracy(mixed, config)
    return found


@dataclass(frozen=True, eq=False)
class Cuts:
    """One trained network, and what is left of it.

    config: the fields of its TrainConfig. recorded: its accuracy on each of PAIRS at the
    last record of training. step: when it generalised (see studies.generalised), inf for
    never. accuracy (groups, ranks, 2): of GROUPS, ranks 0 to d_model, and PAIRS.
    spectra: singular values (d,) of each block matrix at the end.

    Raises TypeError or ValueError for parts of another kind or shape.
    """

    config: dict[str, Any]
    recorded: dict[str, float]
    step: float
    accuracy: np.ndarray
    spectra: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        for name in ("config", "recorded", "spectra"):
            check_instance(name, getattr(self, name), dict)
        check_instance("accuracy", self.accuracy, np.ndarray)
        config = TrainConfig(**self.config)
        found, width = self.accuracy, config.d_model
        expected = (len(GROUPS), width + 1, len(PAIRS))
        if found.shape != expected or found.dtype.kind != "f":
            raise ValueError(
                f"accuracy must be floats of shape {expected}, got {found.dtype} of shape "
                f"{found.shape}"
            )
        right = list(self.recorded.values())
        if set(self.recorded) != set(PAIRS) or not all(isinstance(x, float) for x in right):
            raise ValueError(
                f"recorded must be a number on {', '.join(PAIRS)}, got {shown(self.recorded)}"
            )
        matrices = {f"{i}.{name}" for i in range(config.layers) for name in MATRIX_ROLES}
        shapes = {getattr(S, "shape", None) for S in self.spectra.values()}
        if set(self.spectra) != matrices or shapes != {(width,)}:
            raise ValueError(
                f"spectra must hold ({width},) of each of {len(matrices)} matrices, got "
                f"shapes {shown(shapes)} of {shown(sorted(self.spectra))}"
            )

    @property
    def learnt(self) -> str:
        """The pairs to judge a cut by: "orbit_clean" if the network gets half of them, else
        "train"."""
        return "orbit_clean" if self.recorded["orbit_clean"] > 0.5 else "train"

    def needed(self, group: str, pairs: str | None = None, share: float = 0.95) -> int:
        """The smallest rank from which on, at every larger rank too, the network with this
        group cut keeps this share of its accuracy on `pairs`, which are `learnt` unless
        given.

        Raises TypeError or ValueError for an unknown group, part of the table, or share.
        """
        check_choice("group", group, GROUPS)
        pairs = self.learnt if pairs is None else pairs
        check_choice("pairs", pairs, PAIRS)
        check_real("share", share, above=0)
        curve = self.accuracy[list(GROUPS).index(group), :, PAIRS.index(pairs)]  # (ranks,)
        short = np.flatnonzero(curve < share * curve[-1])
        return int(short[-1]) + 1 if len(short) else 0


def trained_and_cut(config: TrainConfig) -> Cuts:
    """Train a network here, on one CPU, and cut it in every way of GROUPS. Raises TypeError
    for anything but a TrainConfig."""
    check_instance("config", config, TrainConfig)
    training = Training([config])
    last = list(training)[-1]
    (run,) = runs_of(training)
    params = {name: W[0].detach() for name, W in training.params.items()}
    return Cuts(
        plain(config),
        {pairs: float(last.metrics[f"{pairs}_accuracy"][0]) for pairs in PAIRS},
        generalised(run),
        accuracies(params, config),
        {name: spectra[-1] for name, spectra in run.spectra.items()},
    )


def save_cuts(
    cuts: Mapping[str, Cuts], path: str | Path, provenance: Mapping[str, str]
) -> None:
    """Write networks by their names to `path` as .npz, all or nothing. Raises as
    lrdlib.training.store.write_arrays."""
    networks = {
        name: {
            "config": c.config,
            "recorded": c.recorded,
            "step": None if np.isinf(c.step) else c.step,  # JSON has no infinity
        }
        for name, c in cuts.items()
    }
    arrays = {f"{name}/accuracy": c.accuracy for name, c in cuts.items()}
    for name, c in cuts.items():
        arrays |= {f"{name}/spectrum/{matrix}": S for matrix, S in c.spectra.items()}
    header = {"networks": networks, "groups": list(GROUPS), "pairs": list(PAIRS)}
    write_arrays(path, KIND, header | {"provenance": dict(provenance)}, arrays)


def load_cuts(path: str | Path) -> dict[str, Cuts]:
    """Read what `save_cuts` wrote: networks by their names.

    Raises FileNotFoundError if there is no file, ValueError for one that is damaged,
    foreign, or of other groups of matrices than GROUPS.
    """
    header, arrays = read_arrays(path, KIND)
    try:
        if (header["groups"], header["pairs"]) != (list(GROUPS), list(PAIRS)):
            raise ValueError(f"its groups are {shown(header['groups'])}")
        return {
            name: Cuts(
                about["config"],
                about["recorded"],
                float("inf") if about["step"] is None else float(about["step"]),
                arrays[f"{name}/accuracy"],
                {
                    key.removeprefix(f"{name}/spectrum/"): S
                    for key, S in arrays.items()
                    if key.startswith(f"{name}/spectrum/")
                },
            )
            for name, about in header["networks"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"path must hold cut networks, got {str(path)!r}, which does not: "
            f"{type(error).__name__}: {error!s:.300}"
        ) from error
