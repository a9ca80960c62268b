"""What is measured while a stack of runs trains, and the same as arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lrdlib.spectral import singular_values, stable_rank


@dataclass(frozen=True, eq=False)
class Record:
    """What is measured at one step, over a stack: metrics (runs,), singular values (runs, k) of each block matrix."""

    step: int
    metrics: dict[str, Tensor]
    singular_values: dict[str, Tensor]

    def ranks(self, measure: Callable[[Tensor], Tensor] = stable_rank) -> dict[str, Tensor]:
        """A rank (runs,) of every block matrix; `measure` is a function of lrdlib.spectral."""
        return {name: rank(measure, S) for name, S in self.singular_values.items()}


def spectrum(W: Tensor) -> Tensor:
    """Singular values (runs, k) of W (runs, m, n), NaN for a run that has diverged."""
    finite = torch.isfinite(W).all(-1).all(-1)[:, None]
    return torch.where(finite, singular_values(torch.nan_to_num(W, 0.0, 0.0, 0.0)), torch.nan)


def rank(measure: Callable[[Tensor], Tensor], S: Tensor) -> Tensor:
    """`measure`, a function of lrdlib.spectral, of S (runs, k): (runs,), NaN for a run that has diverged."""
    finite = torch.isfinite(S).all(-1)
    return torch.where(finite, measure(torch.where(finite[:, None], S, 0.0)), torch.nan)


def record_arrays(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Records as arrays: record/step (records,), metric/NAME (records, runs), spectrum/NAME (records, runs, k)."""
    first = records[0]
    arrays = {"record/step": np.array([record.step for record in records])}
    arrays |= {f"metric/{k}": torch.stack([r.metrics[k] for r in records]).numpy() for k in first.metrics}
    for k in first.singular_values:
        arrays[f"spectrum/{k}"] = torch.stack([r.singular_values[k] for r in records]).numpy()
    return arrays


def records_from(arrays: dict[str, np.ndarray]) -> list[Record]:
    """The inverse of `record_arrays`."""

    def part(prefix: str, i: int) -> dict[str, Tensor]:
        named = ((name.removeprefix(prefix), array) for name, array in arrays.items() if name.startswith(prefix))
        return {name: torch.from_numpy(array[i].copy()) for name, array in named}

    steps = arrays["record/step"]
    if any(len(array) != len(steps) for name, array in arrays.items() if name.startswith(("metric/", "spectrum/"))):
        raise ValueError("as many values as records")
    return [Record(int(s), part("metric/", i), part("spectrum/", i)) for i, s in enumerate(steps)]
