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

from lrdlib._check import check_integer, check_real, shown
from lrdlib.model import role
from lrdlib.training.backend import onednn_in_use
from lrdlib.training.config import LOW_RANK, TrainConfig, plain
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
AXES = {"history": 1, "spectra": 2, "weights": 2, "fourier": 2}  # of a Run's arrays
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

    Raises TypeError for a part that is no dict of these, and ValueError for arrays of other
    shapes.
    """

    config: dict[str, Any]
    history: dict[str, np.ndarray]
    spectra: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    provenance: dict[str, str]
    fourier: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("config", "provenance", *AXES):
            part = getattr(self, name)
            if not isinstance(part, dict) or not all(isinstance(key, str) for key in part):
                raise TypeError(f"{name} must be a dict of names, got {shown(part)}")
        for key, text in self.provenance.items():
            if not isinstance(text, str):
                raise TypeError(f"provenance[{key!r}] must be a str, got {shown(text)}")
        for name, axes in AXES.items():
            for key, array in getattr(self, name).items():
                _check_array(f"{name}[{key!r}]", array, axes)
        timed = (*self.history.values(), *self.spectra.values(), *self.fourier.values())
        lengths = {len(array) for array in timed}
        if "step" not in self.history or len(lengths) != 1:
            raise ValueError(
                "history, spectra and fourier must hold one value per step, got lengths "
                f"{sorted(lengths)}"
            )
        if self.history["step"].dtype.kind not in "iu":
            raise TypeError(
                f"history['step'] must hold integers, got {self.history['step'].dtype}"
            )

    def label(self) -> str:
        """A short name for legends: the rule and its strength.

        >>> config = {"rule": "lrd", "weight_decay": 0.01, "l2": 0.0}
        >>> Run(config, {"step": np.arange(1)}, {}, {}, {}).label()
        'LRD λ=0.01'
        """
        rule, l2 = self.config["rule"], self.config["l2"]
        text = NAMES[rule]
        if rule != "none":
            text += f" λ={self.config['weight_decay']:g}"
        if rule in LOW_RANK and self.config.get("select") == "qk":
            text += " on QK"
        if rule == "elastic":
            return f"{text} + L2 {l2:g}"
        return f"{text}, rest L2 {l2:g}" if l2 else text

    def first_step(
        self, metric: str = "test_accuracy", above: float = GROKKED
    ) -> int | None:
        """The first recorded step at which `metric` exceeds `above`, or None: the step of
        grokking. Raises KeyError for a metric that the history does not hold.

        >>> history = {"step": np.array([0, 50, 100]), "test_accuracy": np.array([0.0, 0.99, 0.9])}
        >>> Run({}, history, {}, {}, {}).first_step()
        50
        """
        check_real("above", above)
        reached = np.flatnonzero(self.history[metric] > above)
        return int(self.history["step"][reached[0]]) if len(reached) else None


def short_name(config: TrainConfig) -> str:
    """What tells a run at a glance, for the names of files: rule, strength, modulus,
    fraction and seed. Configs that differ in other fields have one short name.

    >>> short_name(TrainConfig(rule="l2", p=59, weight_decay=3.0, fraction=0.6))
    'l2-3-p59-f0.6-seed0'
    """
    strength, fraction = f"{config.weight_decay:.12g}", f"{config.fraction:.12g}"
    return f"{config.rule}-{strength}-p{config.p}-f{fraction}-seed{config.seed}"


def _check_array(name: str, array: object, axes: int) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        found = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name} must be an array of real numbers, got {found}")
    if array.ndim != axes:
        raise ValueError(f"{name} must have {axes} axes, got shape {array.shape}")


def runs_of(training: Training, *, command: str = "") -> list[Run]:
    """The runs of a stack as far as it has come, one Run each.

    Raises ValueError if the training has made no record yet, and TypeError for another
    argument than a Training and a str. `command` is what would make
    the runs again; it goes into the provenance. So does what Training.set has changed on
    the way: provenance["changes"] is then a JSON list of {"step": steps done before, name:
    value, ...}, and the config is what the run began with.
    """
    if not isinstance(training, Training):
        raise TypeError(f"training must be a Training, got {shown(training)}")
    if not isinstance(command, str):
        raise TypeError(f"command must be a str, got {shown(command)}")
    if not training.records:
        raise ValueError(
            "training must have made at least one record, got none (iterate over it first)"
        )
    arrays = record_arrays(training.records)
    steps = arrays.pop("record/step")
    origin = provenance(command) | {"forward": "compiled" if training.compiled else "eager"}
    if training.device.type == "cuda":
        origin |= {
            "machine": torch.cuda.get_device_name(training.device),
            "matmul": f"CUDA, {training.precision} in the forward and backward passes",
            "stack": str(len(training.configs)),
        }
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

    Spectra and Fourier power keep `bits` significant binary digits (8: to 0.4 percent), so
    that they compress well; the history is as it was. A run of the default size and 31
    records takes 30 kB instead of 420. Raises TypeError or ValueError as `rounded`.
    """
    _check_run(run)
    check_integer("bits", bits)
    qk = {
        name: rounded(S, bits)
        for name, S in run.spectra.items()
        if role(name) in ("query", "key")
    }
    fourier = {name: rounded(power, bits) for name, power in run.fourier.items()}
    return replace(run, spectra=qk, weights={}, fourier=fourier)


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 values with `bits` significant binary digits, the rest zero; all that
    float32 has from 24 bits on. Raises TypeError unless `values` are real numbers and bits
    an integer, and ValueError unless that is at least 1.

    >>> rounded(np.array([1 / 3], np.float32), 4)
    array([0.34375], dtype=float32)
    """
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"values must be real numbers, got dtype {values.dtype}")
    check_integer("bits", bits)
    mantissa, exponent = np.frexp(values.astype(np.float32))
    unit = 2.0 ** min(bits, 24)
    return np.ldexp(np.rint(mantissa * unit) / unit, exponent).astype(np.float32)


def provenance(command: str = "") -> dict[str, str]:
    """Versions, machine and command: what a reader needs to judge and remake a number."""
    try:
        version = metadata.version("lrdlib")
    except metadata.PackageNotFoundError:  # a copy on the path that pip does not know
        version = "unknown"
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "lrdlib": version,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()} {capability}",
        "threads": str(torch.get_num_threads()),
        "matmul": "oneDNN" if onednn_in_use() else "torch's own",
        "command": command,
    }


def save_run(run: Run, path: str | Path) -> None:
    """Write a Run to `path` as .npz; the file is replaced at once or not at all. Raises
    TypeError for another thing than a Run, ValueError for one that `load_run` would refuse,
    and as `write_arrays`."""
    _check_run(run)
    if lack := _lack(run):
        raise ValueError(f"run must be a whole run, got one that is not: {lack}")
    header = {"config": run.config, "provenance": run.provenance}
    arrays = {
        f"{group}/{name}": array
        for group in AXES
        for name, array in getattr(run, group).items()
    }
    write_arrays(path, KIND, header, arrays)


def load_run(path: str | Path) -> Run:
    """Read a Run, of which `label` and `first_step` say something.

    Raises FileNotFoundError, or ValueError for a file that is damaged, foreign, or not a
    run; another OSError, or MemoryError, for one that cannot be read; TypeError for a path
    that is no str or Path.
    """
    header, arrays = read_arrays(path, KIND)
    groups: dict[str, dict[str, np.ndarray]] = {group: {} for group in AXES}
    try:
        for name, array in arrays.items():
            group, _, key = name.partition("/")
            groups[group][key] = array
        run = Run(header["config"], **groups, provenance=header["provenance"])
        lack = _lack(run)
    except (KeyError, TypeError, ValueError) as error:
        lack = _told(error)
    if lack:
        raise ValueError(
            f"path must hold a whole run, got {str(path)!r}, which does not: {lack}"
        )
    return run


def _lack(run: Run) -> str:
    """Why `label` or `first_step` of the Run can say nothing; "" if both can."""
    try:
        run.label(), run.first_step()
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        return _told(error)
    return ""


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error!s:.300}"


def _check_run(run: object) -> None:
    if not isinstance(run, Run):
        raise TypeError(f"run must be a Run, got {shown(run)}")
