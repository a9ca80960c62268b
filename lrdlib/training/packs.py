"""Many runs in one file: what a stack of a study leaves, without what no figure wants.

    save_runs(runs, "stack.npz")
    runs = load_runs("stack.npz")

The runs of a file have their records at the same steps. A run of 61 records takes less than
4 kB, and about 50 kB with the spectra that lrdlib.training.runs.compact keeps.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lrdlib._check import check_instance, shown
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import Run, rounded
from lrdlib.training.store import read_arrays, read_header, write_arrays

KIND = "lrdlib-runs/1"
HISTORY_BITS = 12  # of a metric; an accuracy is kept as it is
SPECTRA_BITS = 8
TIMED = ("spectra", "fourier")  # those parts of a Run that may be left out


def save_runs(runs: Sequence[Run], path: str | Path) -> None:
    """Write runs to `path`, replacing the file at once or not at all; weights are left out.

    Metrics are rounded to HISTORY_BITS significant binary digits (to 1 in 4096), accuracies
    are not; spectra and Fourier powers, of those runs that have them, to SPECTRA_BITS.
    Raises TypeError for other things than Runs; ValueError for none, for no steps or some
    that do not ascend, for a config that is none, and unless all runs have the same steps
    and metrics, and as many values in each spectrum; and as `write_arrays`.
    """
    _check_runs(runs)
    arrays = {"step": runs[0].history["step"]}
    for name in sorted(runs[0].history.keys() - {"step"}):
        values = np.stack([run.history[name] for run in runs], 1)  # (T, runs)
        kept = 24 if name.endswith("accuracy") else HISTORY_BITS
        arrays[f"history/{name}"] = rounded(values, kept)
    for part in TIMED:
        for name in sorted({name for run in runs for name in getattr(run, part)}):
            own = [i for i, run in enumerate(runs) if name in getattr(run, part)]
            several = [getattr(runs[i], part)[name] for i in own]  # of (T, k)
            if len(shapes := {values.shape for values in several}) > 1:
                raise ValueError(
                    f"runs must have {part}[{name!r}] of one shape, got {sorted(shapes)}"
                )
            values = rounded(np.stack(several, 1), SPECTRA_BITS)  # (T, own, k)
            arrays[f"{part}/{name}"] = values
            arrays[f"{part}-of/{name}"] = np.array(own, np.int32)
    header = {
        "configs": [run.config for run in runs],
        "provenance": [run.provenance for run in runs],
    }
    write_arrays(path, KIND, header, arrays)


def _check_runs(runs: object) -> None:
    """Raise TypeError or ValueError unless the runs fit into one file."""
    if not isinstance(runs, Sequence) or not all(isinstance(run, Run) for run in runs):
        raise TypeError(f"runs must be a list of Runs, got {shown(runs)}")
    if not runs:
        raise ValueError("runs must hold at least one Run, got none")
    first = runs[0].history
    if not _ascend(first["step"]):
        raise ValueError(
            f"runs must have ascending steps, got {shown(first['step'].tolist())}"
        )
    for i, run in enumerate(runs):
        _check_config(f"runs[{i}]", run.config)
        for what, there in {
            "steps": np.array_equal(run.history["step"], first["step"]),
            "metrics": run.history.keys() == first.keys(),
        }.items():
            if not there:
                raise ValueError(
                    f"runs must have the {what} of the first, got others in runs[{i}]"
                )


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
    for i, config in enumerate(configs):
        _check_config(f"configs[{i}]", config)
    steps, n = arrays["step"], len(configs)
    if not (n and _ascend(steps)):
        raise ValueError("it must hold at least one config, and ascending steps")
    parts: list[dict[str, dict[str, np.ndarray]]] = [
        {"history": {"step": steps}, "spectra": {}, "fourier": {}} for _ in range(n)
    ]
    split = {path: path.partition("/")[::2] for path in arrays}  # part and name
    used = {f"{part}-of/{name}" for part, name in split.values() if part in TIMED}
    used.add("step")
    for path, (part, name) in split.items():
        if path in used:
            continue
        own, values = _owners(arrays, part, name, n), arrays[path]
        if values.shape[:2] != (len(steps), len(own)):
            raise ValueError(
                f"{path!r} must be of shape {(len(steps), len(own))}, got {values.shape}"
            )
        for j, i in enumerate(own):
            parts[i][part][name] = values[:, j]
    return [
        Run(config, p["history"], p["spectra"], {}, origin, p["fourier"])
        for config, origin, p in zip(configs, origins, parts, strict=True)
    ]


def _owners(arrays: Mapping[str, np.ndarray], part: str, name: str, n: int) -> list[int]:
    """The numbers of those of n runs that have this part of that name, one after another in
    its array."""
    if part == "history" and name != "step":
        return list(range(n))
    if part not in TIMED:
        raise ValueError(f"it must hold parts of runs, got {part}/{name}")
    own = arrays[f"{part}-of/{name}"]
    if own.dtype.kind not in "iu" or not _ascend(own) or own[0] < 0 or own[-1] >= n:
        raise ValueError(f"{part}-of/{name} must hold ascending numbers of its {n} runs")
    return own.tolist()


def _ascend(numbers: np.ndarray) -> bool:
    """Whether they are at least one, along one axis, each larger than the one before."""
    return (
        numbers.ndim == 1 and len(numbers) > 0 and bool((numbers[1:] > numbers[:-1]).all())
    )


def _check_config(name: str, config: Mapping[str, Any]) -> None:
    """Raise ValueError unless these are the fields of a TrainConfig."""
    try:
        TrainConfig(**config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must have the config of a run: {error}") from error


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
