"""Many runs in one file: what a stack of a study leaves, without what no figure wants.

    save_runs(runs, "stack.npz")
    runs = load_runs("stack.npz")

The runs of a file have their records at the same steps. A run takes about 3 kB, and 15 kB
with spectra.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lrdlib._check import check_instance, check_integer, shown
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import Run, rounded
from lrdlib.training.store import read_arrays, read_header, write_arrays

KIND = "lrdlib-runs/1"
HISTORY_BITS = 12  # of a metric; an accuracy is kept as it is
SPECTRA_BITS = 8
TIMED = ("spectra", "fourier")  # those parts of a Run that may be left out


def save_runs(runs: Sequence[Run], path: str | Path) -> None:
    """Write runs to `path`, replacing the file at once or not at all; weights are left out.

    Metrics are rounded to HISTORY_BITS significant binary digits (1 in 8192), accuracies
    are not; spectra and Fourier powers, of those runs that have them, to SPECTRA_BITS.
    Raises TypeError for other things than Runs, ValueError for none, or unless all have
    their records at the same steps and of the same metrics; and as `write_arrays`.
    """
    if not isinstance(runs, Sequence) or not all(isinstance(run, Run) for run in runs):
        raise TypeError(f"runs must be a list of Runs, got {shown(runs)}")
    if not runs:
        raise ValueError("runs must hold at least one Run, got none")
    steps, names = runs[0].history["step"], sorted(runs[0].history.keys() - {"step"})
    for i, run in enumerate(runs):
        if not np.array_equal(run.history["step"], steps):
            raise ValueError(
                f"runs must have the steps of the first, got others in runs[{i}]"
            )
        if sorted(run.history.keys() - {"step"}) != names:
            raise ValueError(
                f"runs must have the metrics of the first, got others in runs[{i}]"
            )
    arrays = {"step": steps}
    for name in names:
        values = np.stack([run.history[name] for run in runs], 1)  # (T, runs)
        kept = 24 if name.endswith("accuracy") else HISTORY_BITS
        arrays[f"history/{name}"] = rounded(values, kept)
    for part in TIMED:
        for name in sorted({name for run in runs for name in getattr(run, part)}):
            own = [i for i, run in enumerate(runs) if name in getattr(run, part)]
            values = np.stack([getattr(runs[i], part)[name] for i in own], 1)
            arrays[f"{part}/{name}"] = rounded(values, SPECTRA_BITS)  # (T, own, k)
            arrays[f"{part}-of/{name}"] = np.array(own, np.int32)
    header = {
        "configs": [run.config for run in runs],
        "provenance": [run.provenance for run in runs],
    }
    write_arrays(path, KIND, header, arrays)


def load_runs(path: str | Path) -> list[Run]:
    """The runs of a file that `save_runs` wrote.

    Raises FileNotFoundError, or ValueError for a file that is damaged, foreign, or holds no
    such runs; another OSError, or MemoryError, for one that cannot be read.
    """
    header, arrays = read_arrays(path, KIND)
    try:
        return _runs(header, arrays)
    except (ArithmeticError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"path must hold whole runs, got {str(path)!r}, which does not: "
            f"{type(error).__name__}: {error!s:.300}"
        ) from error


def _runs(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[Run]:
    configs, origins = header["configs"], header["provenance"]
    check_instance("configs", configs, list)
    check_instance("provenance", origins, list)
    n, steps = len(configs), arrays["step"]
    parts: list[dict[str, dict[str, np.ndarray]]] = [
        {"history": {"step": steps}, "spectra": {}, "fourier": {}} for _ in range(n)
    ]
    for path, values in arrays.items():
        part, _, name = path.partition("/")
        if part == "history":
            if values.shape != (len(steps), n):
                raise ValueError(f"{path!r} must be of shape {(len(steps), n)}")
            for i in range(n):
                parts[i][part][name] = values[:, i]
        elif part in TIMED:
            for j, i in enumerate(arrays[f"{part}-of/{name}"].tolist()):
                check_integer(f"{part}-of", i, at_least=0, at_most=n - 1)
                parts[i][part][name] = values[:, j]
    runs = [
        Run(config, p["history"], p["spectra"], {}, origin, p["fourier"])
        for config, origin, p in zip(configs, origins, parts, strict=True)
    ]
    for run in runs:
        run.label(), run.first_step()
    return runs


def pack_configs(path: str | Path) -> list[TrainConfig]:
    """The configs of the runs in a file, in their order; its arrays are not looked at.
    Raises as `load_runs`."""
    header = read_header(path, KIND)
    try:
        check_instance("configs", header.get("configs"), list)
        return [TrainConfig(**fields) for fields in header["configs"]]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"path must hold the configs of runs, got {str(path)!r}: {error!s:.300}"
        ) from error
