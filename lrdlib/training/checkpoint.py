"""What a checkpoint of a stack in training holds, and whether a file holds it.

`Training.save` writes one and `Training.load` takes it; what is checked here, before
anything is changed, is all that such a file could be wrong in.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lrdlib._check import check_integer, shown
from lrdlib.model import MATRIX_ROLES, Params, role
from lrdlib.training.config import TrainConfig, check_settable, check_stack, plain
from lrdlib.training.records import METRICS, Record, records_from
from lrdlib.training.store import checked_path, read_header

CHECKPOINT = "lrdlib-checkpoint/2"
Layout = dict[str, tuple[tuple[int, ...], str]]  # shape and type of each array, by name


def checkpoint_configs(path: str | Path) -> list[TrainConfig]:
    """The configs of the stack in a checkpoint; its arrays are not looked at.

    Raises FileNotFoundError if there is no file, OSError if it cannot be read, and
    ValueError, which names it, if it is damaged, foreign, of another version, or holds
    configs that cannot be trained as one stack.
    """
    path = checked_path("path", path)
    found = read_header(path, CHECKPOINT).get("configs")
    try:
        if not isinstance(found, list) or not all(isinstance(c, dict) for c in found):
            raise TypeError(f"configs must be a list of fields, got {shown(found)}")
        configs = [TrainConfig(**fields) for fields in found]
        check_stack(configs)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"checkpoint {str(path)!r} must hold the configs of a stack: {error}"
        ) from error
    return configs


def checked_step(header: Mapping[str, Any], configs: Sequence[TrainConfig]) -> int:
    """The step of a checkpoint of these configs. Raises TypeError or ValueError for a
    header of another."""
    expected, found = [plain(c) for c in configs], header.get("configs")
    if found != expected:
        raise ValueError(f"configs must be its own, got {_difference(expected, found)}")
    if not isinstance(header.get("torch"), str):
        raise TypeError(f"torch must be its version, got {shown(header.get('torch'))}")
    check_integer("step", header.get("step"), at_least=0)
    return header["step"]


def _difference(expected: list[dict[str, Any]], found: object) -> str:
    """The first way in which a checkpoint's configs are not the expected ones."""
    if not isinstance(found, list) or len(found) != len(expected):
        number = len(found) if isinstance(found, list) else "no"
        return f"{number} configs, not {len(expected)}"
    for i, (wanted, given) in enumerate(zip(expected, found, strict=True)):
        if not isinstance(given, dict):
            return f"{given!r}, not the fields of a config (run {i})"
        for key, value in wanted.items():
            if given.get(key) != value:
                return f"{key} = {given.get(key)!r}, not {shown(value)} (run {i})"
    return "configs with unknown fields"


def configs_after(
    configs: Sequence[TrainConfig], changes: Any, step: int
) -> list[TrainConfig]:
    """The configs after all `changes` of `Training.set`, in turn, by `step`. Raises
    TypeError or ValueError for what `set` does not write."""
    if not isinstance(changes, list) or not all(isinstance(c, dict) for c in changes):
        raise TypeError(f"changes must be a list of what was set, got {shown(changes)}")
    live, last = list(configs), -1
    for change in changes:
        check_integer("step of a change", change.get("step"), at_least=0)
        if not last < change["step"] <= step:
            raise ValueError(
                f"steps of changes must increase up to {step}, got {change['step']} "
                f"after {last}"
            )
        last, values = change["step"], {k: change[k] for k in change if k != "step"}
        check_settable(values)
        live = [replace(c, **values) for c in live]
        check_stack(live)
    return live


def layout(params: Params, states: Iterable[str], modes: int, records: int) -> Layout:
    """The arrays of a checkpoint with so many records.

    params: with a runs axis. states: what is kept of each of them, as "param". modes: of
    the Fourier power in a record, 0 if there is none.
    """
    runs, number = len(params["head"]), str(params["head"].dtype).removeprefix("torch.")
    blocks = {name: W for name, W in params.items() if role(name) in MATRIX_ROLES}
    measured = {f"metric/{name}": (runs,) for name in METRICS} | {
        f"spectrum/{name}": (runs, min(W.shape[-2:])) for name, W in blocks.items()
    }
    if modes:
        measured["fourier/embedding"] = (runs, modes)
    return {
        "record/step": ((records,), "int64"),
        "grad_norm": ((runs,), number),
        "count": ((), "int64"),
        **{name: ((records, *shape), number) for name, shape in measured.items()},
        **{
            f"{state}/{name}": (tuple(W.shape), number)
            for state in states
            for name, W in params.items()
        },
    }


def check_arrays(arrays: Mapping[str, np.ndarray], expected: Layout, step: int) -> None:
    """Raise ValueError unless a checkpoint at `step` holds the expected arrays: all, no
    others, and each of its shape and type."""
    for name in sorted(arrays.keys() ^ expected.keys()):
        wrong = "got one more" if name in arrays else "got none"
        raise ValueError(f"arrays must be those of its state, {wrong}: {name!r}")
    for name, (shape, dtype) in expected.items():
        if (arrays[name].shape, arrays[name].dtype) != (shape, np.dtype(dtype)):
            raise ValueError(
                f"{name!r} must be of shape {shape} and type {dtype}, got "
                f"{arrays[name].shape} and {arrays[name].dtype}"
            )
    if arrays["count"] != step:
        raise ValueError(f"step must be its state's, {arrays['count']}, got {step}")


def checked_records(
    arrays: dict[str, np.ndarray], config: TrainConfig, step: int
) -> list[Record]:
    """The records of a checkpoint at `step`. Raises ValueError if there are none, or one at
    another step than those of a training (where the first may be anywhere)."""
    records = records_from(arrays)
    if not records:
        raise ValueError("records must hold at least one, got none")
    for before, at in pairwise([-1, *(record.step for record in records)]):
        multiple = at % config.eval_every == 0 and at <= config.steps
        on_grid = before < 0 or multiple or at == config.steps
        if not (before < at <= step and on_grid):
            raise ValueError(
                f"records must be every {config.eval_every} steps up to {step}, got one at "
                f"{at}, after {before}"
            )
    return records
