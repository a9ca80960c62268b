"""A Run is data: configuration, history, spectra, final query and key matrices, and where
it all came from."""

import json
import platform
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lrdlib.model import role
from lrdlib.training.backend import onednn_in_use
from lrdlib.training.config import plain
from lrdlib.training.records import record_arrays
from lrdlib.training.store import read_arrays, write_arrays
from lrdlib.training.train import Training

KIND = "lrdlib-run/1"
NAMES = {
    "none": "no decay",
    "l2": "L2",
    "lrd": "LRD",
    "elastic": "elastic",
    "proximal": "proximal",
}
GROKKED = 0.95  # the test accuracy that counts as grokking (the paper, section 5)


@dataclass(frozen=True, eq=False)
class Run:
    """One run, as plain data.

    config: the fields of its TrainConfig, as JSON has them; TrainConfig(**config) is that
    TrainConfig.
    history: "step" (T,) and every metric of lrdlib.training.records.Record (T,).
    spectra: singular values (T, k) of each block matrix, float32, such as
    spectra["0.query"], at the same steps.
    weights: the final query and key matrices (d, d), float32. provenance: versions,
    machine, and the command.
    fourier: in modular arithmetic, the Fourier power (T, p // 2) of the embedding
    (lrdlib.fourier), at the same steps.
    """

    config: dict[str, Any]
    history: dict[str, np.ndarray]
    spectra: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    provenance: dict[str, str]
    fourier: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {
            array.shape[:1]
            for array in (
                *self.history.values(),
                *self.spectra.values(),
                *self.fourier.values(),
            )
        }
        if "step" not in self.history or len(lengths) != 1 or lengths == {()}:
            raise ValueError(
                "history, spectra and fourier must hold one value per step, got lengths "
                f"{sorted(lengths)}"
            )

    def label(self) -> str:
        """A short name for legends: the rule and its strength.

        >>> config = {"rule": "lrd", "weight_decay": 0.01, "l2": 0.0}
        >>> Run(config, {"step": np.arange(1)}, {}, {}, {}).label()
        'LRD λ=0.01'
        """
        rule, strength, l2 = (
            self.config["rule"],
            self.config["weight_decay"],
            self.config["l2"],
        )
        text = NAMES[rule] + (f" λ={strength:g}" if rule != "none" else "")
        text += (
            " on QK"
            if rule not in ("none", "l2") and self.config.get("select") == "qk"
            else ""
        )
        return text + (
            f" + L2 {l2:g}" if rule == "elastic" else f", rest L2 {l2:g}" if l2 else ""
        )

    def first_step(
        self, metric: str = "test_accuracy", above: float = GROKKED
    ) -> int | None:
        """The first recorded step at which `metric` exceeds `above`, or None: the step of
        grokking.

        >>> history = {"step": np.array([0, 50, 100]), "test_accuracy": np.array([0.0, 0.99, 0.9])}
        >>> Run({}, history, {}, {}, {}).first_step()
        50
        """
        reached = np.flatnonzero(self.history[metric] > above)
        return int(self.history["step"][reached[0]]) if len(reached) else None


def runs_of(training: Training, *, command: str = "") -> list[Run]:
    """The runs of a stack as far as it has come, one Run each.

    Raises ValueError if the training has made no record yet. `command` is what would make
    the runs again; it goes into the provenance. So does what Training.set has changed on
    the way: provenance["changes"] is then a JSON list of {"step": steps done before, name:
    value, ...}, and the config is what the run began with.
    """
    if not training.records:
        raise ValueError(
            "training must have made at least one record, got none (iterate over it first)"
        )
    arrays = record_arrays(training.records)
    steps = arrays.pop("record/step")
    origin = provenance(command) | {"forward": "compiled" if training.compiled else "eager"}
    origin |= {"changes": json.dumps(training.changes)} if training.changes else {}
    qk = {
        name: W.detach().cpu().numpy()
        for name, W in training.params.items()
        if role(name) in ("query", "key")
    }

    def one(r: int, config: dict[str, Any]) -> Run:
        def part(prefix: str) -> dict[str, np.ndarray]:
            return {
                name.removeprefix(prefix): a[:, r]
                for name, a in arrays.items()
                if name.startswith(prefix)
            }

        final = {name: W[r].copy() for name, W in qk.items()}
        return Run(
            config,
            {"step": steps} | part("metric/"),
            part("spectrum/"),
            final,
            origin,
            part("fourier/"),
        )

    return [one(r, plain(config)) for r, config in enumerate(training.configs)]


def compact(run: Run, bits: int = 8) -> Run:
    """The Run without weights, and with the spectra of query and key matrices only: to
    record by the hundred.

    Spectra and Fourier power keep `bits` significant binary digits (8: to 0.2 percent), so
    that they compress well; the history is as it was. A run of the default size and 31
    records takes 26 kB instead of 420.
    """
    qk = {
        name: rounded(S, bits)
        for name, S in run.spectra.items()
        if role(name) in ("query", "key")
    }
    fourier = {name: rounded(power, bits) for name, power in run.fourier.items()}
    return replace(run, spectra=qk, weights={}, fourier=fourier)


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 values with `bits` significant binary digits, the rest zero.

    >>> rounded(np.array([1 / 3], np.float32), 4)
    array([0.34375], dtype=float32)
    """
    mantissa, exponent = np.frexp(np.asarray(values, np.float32))
    return np.ldexp(np.rint(mantissa * 2**bits) / 2**bits, exponent).astype(np.float32)


def provenance(command: str = "") -> dict[str, str]:
    """Versions, machine and command: what a reader needs to judge and remake a number."""
    return {
        "lrdlib": metadata.version("lrdlib"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": str(torch.get_num_threads()),
        "matmul": "oneDNN" if onednn_in_use() else "torch's own",
        "command": command,
    }


def save_run(run: Run, path: str | Path) -> None:
    """Write a Run to `path` as .npz; the file is replaced at once or not at all. Raises as
    `write_arrays`."""
    header = {"config": run.config, "provenance": run.provenance}
    groups = {
        "history": run.history,
        "spectra": run.spectra,
        "weights": run.weights,
        "fourier": run.fourier,
    }
    arrays = {
        f"{group}/{name}": array
        for group, items in groups.items()
        for name, array in items.items()
    }
    write_arrays(path, KIND, header, arrays)


def load_run(path: str | Path) -> Run:
    """Read a Run. Raises FileNotFoundError, or ValueError for a file that is damaged,
    foreign, or not a run."""
    header, arrays = read_arrays(path, KIND)
    groups: dict[str, dict[str, np.ndarray]] = {
        "history": {},
        "spectra": {},
        "weights": {},
        "fourier": {},
    }
    try:
        for name, array in arrays.items():
            group, _, key = name.partition("/")
            groups[group][key] = array
        return Run(dict(header["config"]), **groups, provenance=dict(header["provenance"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"path must hold a whole run, got {str(path)!r}, which does not: {error}"
        ) from error
