"""What is measured while a stack of runs trains, and the same as arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lrdlib.spectral import singular_values, stable_rank

PARTS = {
    "metric": "metrics",
    "spectrum": "singular_values",
    "fourier": "fourier",
}  # prefix of arrays -> Record's field


@dataclass(frozen=True, eq=False)
class Record:
    """What is measured at one step, over a stack of runs.

    metrics (runs,); singular values (runs, k) of each block matrix; in modular arithmetic,
    the Fourier power (runs, p // 2) of the embedding (lrdlib.fourier).
    """

    step: int
    metrics: dict[str, Tensor]
    singular_values: dict[str, Tensor]
    fourier: dict[str, Tensor] = field(default_factory=dict)

    def ranks(self, measure: Callable[[Tensor], Tensor] = stable_rank) -> dict[str, Tensor]:
        """A rank (runs,) of every block matrix; `measure` is a function of
        lrdlib.spectral."""
        return {name: rank(measure, S) for name, S in self.singular_values.items()}


def spectrum(W: Tensor) -> Tensor:
    """Singular values (runs, k) of W (runs, m, n), NaN for a run that has diverged."""
    return unless_diverged(singular_values, W)


def rank(measure: Callable[[Tensor], Tensor], S: Tensor) -> Tensor:
    """`measure`, a function of lrdlib.spectral, of S (runs, k): (runs,), NaN for a run that
    has diverged."""
    return unless_diverged(measure, S)


def unless_diverged(measure: Callable[[Tensor], Tensor], X: Tensor) -> Tensor:
    """`measure` of X (runs, ...), with NaN for the runs in which X is not finite; `measure`
    sees zeros there."""
    finite = torch.isfinite(X.flatten(1)).all(1)
    values = measure(torch.where(finite.view(-1, *[1] * (X.ndim - 1)), X, 0.0))
    return torch.where(finite.view(-1, *[1] * (values.ndim - 1)), values, torch.nan)


def record_arrays(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Records as arrays: record/step (records,), metric/NAME (records, runs), and (records,
    runs, k) of

    spectrum/NAME and fourier/NAME.
    """
    arrays = {"record/step": np.array([record.step for record in records])}
    for part, attribute in PARTS.items():
        for name in getattr(records[0], attribute):
            arrays[f"{part}/{name}"] = torch.stack(
                [getattr(r, attribute)[name] for r in records]
            ).numpy()
    return arrays


def records_from(arrays: dict[str, np.ndarray]) -> list[Record]:
    """The inverse of `record_arrays`; arrays of other names are left alone."""
    steps = arrays["record/step"]
    named = {
        name: array for name, array in arrays.items() if name.partition("/")[0] in PARTS
    }
    if any(len(array) != len(steps) for array in named.values()):
        raise ValueError("as many values as records")

    def part(prefix: str, i: int) -> dict[str, Tensor]:
        mine = ((name.partition("/"), array) for name, array in named.items())
        return {
            name: torch.from_numpy(array[i].copy())
            for (start, _, name), array in mine
            if start == prefix
        }

    return [
        Record(int(s), **{PARTS[prefix]: part(prefix, i) for prefix in PARTS})
        for i, s in enumerate(steps)
    ]
