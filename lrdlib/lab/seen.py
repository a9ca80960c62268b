"""What a training shows of itself: a record of a single run, and an error in one line."""

from dataclasses import dataclass

from torch import Tensor

from lrdlib.training.records import Record
from lrdlib.training.train import Training


@dataclass(frozen=True, eq=False)
class Seen:
    """What one record shows of a single run: numbers, spectra (k,), Fourier power (p //
    2,), and W_Q^T W_K (d, d)."""

    run: int
    step: int
    metrics: dict[str, float]
    spectra: dict[str, Tensor]
    fourier: Tensor | None
    pattern: Tensor


def first_run(training: Training, record: Record, number: int) -> Seen:
    """What `record`, made just now, shows of the first run of the stack."""
    Q, K = (training.params[f"0.{name}"].detach()[0] for name in ("query", "key"))
    return Seen(
        number,
        record.step,
        {name: float(values[0]) for name, values in record.metrics.items()},
        {name: S[0] for name, S in record.singular_values.items()},
        record.fourier["embedding"][0] if record.fourier else None,
        (Q.mT @ K).cpu(),
    )


def sentence(error: Exception) -> str:
    """An error in one line.

    >>> sentence(ValueError("p must be prime, got 8"))
    'p must be prime, got 8'
    """
    text = str(error).strip().splitlines()[:1]
    ours = text and isinstance(error, (TypeError, ValueError))
    return ": ".join(text if ours else [type(error).__name__, *text])
