"""What is measured while a stack of runs trains, and the same as arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lrdlib._check import check_integer, shown
from lrdlib.decay import tall
from lrdlib.matrices import GROUPS, PLACES
from lrdlib.model import role
from lrdlib.spectral import effective_rank, polar_alignment, stable_rank

# prefix of arrays -> Record's field
PARTS = {"metric": "metrics", "spectrum": "singular_values", "fourier": "fourier"}
MASKS = ("train", "test", "orbit_clean")  # the parts of the table with a loss of their own
METRICS = (
    *("weight_norm", "grad_norm", "logit_rms"),
    *(f"{part}_{what}" for part in MASKS for what in ("loss", "accuracy")),
    *("qk_stable_rank", "qk_effective_rank"),
    *(f"weight_norm_{place}" for place in PLACES),
    *("vo_stable_rank", "mlp_stable_rank"),
    *(f"{group}_alignment" for group in GROUPS),
)
# of singular values
MEASURES = {
    "stable_rank": stable_rank,
    "effective_rank": effective_rank,
    "alignment": polar_alignment,
}


@dataclass(frozen=True, eq=False)
class Record:
    """What is measured at one step, over a stack of runs.

    metrics (runs,); singular values (runs, k) of each block matrix; in modular arithmetic,
    the Fourier power (runs, p // 2) of the embedding (lrdlib.fourier).

    Raises TypeError or ValueError unless step is an integer >= 0 and each part a dict of
    tensors.
    """

    step: int
    metrics: dict[str, Tensor]
    singular_values: dict[str, Tensor]
    fourier: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_integer("step", self.step, at_least=0)
        for name in PARTS.values():
            part = getattr(self, name)
            if not isinstance(part, dict) or not all(
                isinstance(key, str) and isinstance(value, Tensor)
                for key, value in part.items()
            ):
                raise TypeError(f"{name} must be a dict of tensors, got {shown(part)}")

    def ranks(self, measure: Callable[[Tensor], Tensor] = stable_rank) -> dict[str, Tensor]:
        """A rank (runs,) of every block matrix; `measure` is a function of
        lrdlib.spectral."""
        return {name: rank(measure, S) for name, S in self.singular_values.items()}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a Record needs of a stack, on the CPU: metrics (runs,), grams (runs, k, k) of
    the block matrices, and fourier, as a Record's."""

    step: int
    metrics: dict[str, Tensor]
    grams: dict[str, Tensor]
    fourier: dict[str, Tensor]

    def record(self) -> Record:
        """The Record, with its spectra, and their ranks and alignments as means over the
        matrices of a group."""
        dtype = self.metrics["weight_norm"].dtype
        spectra = {name: from_gram(G).to(dtype) for name, G in self.grams.items()}
        metrics = dict(self.metrics)
        for group in GROUPS:
            of = [S for name, S in spectra.items() if role(name) in PLACES[group]]
            for name, measure in MEASURES.items():
                if name != "effective_rank" or group == "qk":
                    metrics[f"{group}_{name}"] = torch.stack(
                        [rank(measure, S) for S in of]
                    ).mean(0)
        return Record(self.step, metrics, spectra, self.fourier)


def gram(W: Tensor) -> Tensor:
    """W^T W or W W^T, whichever is smaller, of W (runs, m, n) in float64: (runs, k, k)."""
    X = tall(W.detach()).double()
    return X.mT @ X


def from_gram(G: Tensor) -> Tensor:
    """Singular values (runs, k) from Gram matrices G (runs, k, k) in float64, NaN where
    they are not finite.

    Those of a float32 matrix come out to 1e-8 of the largest, closer than an SVD in
    float32, in less time.
    """
    values = unless_diverged(torch.linalg.eigvalsh, G)  # (runs, k), ascending
    return values.clamp(min=0).sqrt().flip(-1)


def rank(measure: Callable[[Tensor], Tensor], S: Tensor) -> Tensor:
    """`measure`, a function of lrdlib.spectral, of S (runs, k): (runs,), NaN for a run that
    has diverged."""
    return unless_diverged(measure, S)


def unless_diverged(measure: Callable[[Tensor], Tensor], X: Tensor) -> Tensor:
    """`measure` of X (runs, ...), with NaN for the runs in which X is not finite; `measure`
    sees zeros there.

    >>> unless_diverged(stable_rank, torch.tensor([[2.0, 2.0], [1.0, torch.nan]]))
    tensor([2., nan])
    """
    if not callable(measure):
        raise TypeError(f"measure must be a function of a tensor, got {shown(measure)}")
    if not isinstance(X, Tensor):
        raise TypeError(f"X must be a torch.Tensor, got {type(X).__name__}")
    if X.ndim < 2:
        raise ValueError(f"X must be of shape (runs, ...), got {tuple(X.shape)}")
    finite = torch.isfinite(X.flatten(1)).all(1)  # (runs,)
    values = measure(torch.where(finite.view(-1, *[1] * (X.ndim - 1)), X, 0.0))
    return torch.where(finite.view(-1, *[1] * (values.ndim - 1)), values, torch.nan)


def record_arrays(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Records as arrays: record/step (records,), metric/NAME (records, runs), and (records,
    runs, k) of spectrum/NAME and fourier/NAME.

    Raises ValueError if there are none, or if they do not measure the same.
    """
    if not records:
        raise ValueError("records must hold at least one Record, got none")
    arrays = {"record/step": np.array([record.step for record in records], np.int64)}
    for part, attribute in PARTS.items():
        values: list[dict[str, Tensor]] = [getattr(r, attribute) for r in records]
        if any(v.keys() != values[0].keys() for v in values):
            raise ValueError(f"records must all hold the same {attribute}, got others")
        for name in values[0]:
            arrays[f"{part}/{name}"] = torch.stack([v[name] for v in values]).numpy()
    return arrays


def records_from(arrays: dict[str, np.ndarray]) -> list[Record]:
    """The inverse of `record_arrays`; arrays of other names are left alone.

    Raises ValueError if there are no steps, or not as many values of each as steps.
    """
    steps = arrays.get("record/step", np.array(None))
    if steps.ndim != 1 or steps.dtype.kind not in "iu":
        raise ValueError("arrays must hold the integers 'record/step' (records,), got none")
    parts: dict[str, dict[str, np.ndarray]] = {prefix: {} for prefix in PARTS}
    for path, array in arrays.items():
        prefix, _, name = path.partition("/")
        if prefix in PARTS:
            if array.shape[:1] != steps.shape:
                raise ValueError(
                    f"{path!r} must hold {len(steps)} records, got shape {array.shape}"
                )
            parts[prefix][name] = array
    return [
        Record(
            int(step),
            **{
                PARTS[prefix]: {
                    name: torch.tensor(array[i]) for name, array in part.items()
                }
                for prefix, part in parts.items()
            },
        )
        for i, step in enumerate(steps)
    ]
