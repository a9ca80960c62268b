"""The functions of lab/step.py as ONNX files, which onnxruntime-web runs on the reader's
page.

    python -m lrdlib.lab.export FOLDER

writes presets.json and, for each preset NAME, what lab/static/worker.js loads when the
reader starts it: NAME.json (the table, the shapes, where it came from), NAME-plain.onnx and
NAME-low.onnx (the train step, without and with low-rank decay) and NAME-evaluation.onnx.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from onnx_ir.passes import common as passes
from onnxscript import optimizer
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lrdlib.lab.presets import all_presets
from lrdlib.lab.step import evaluate, numbers, train_step
from lrdlib.model import init_params, initial_std, shapes
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import provenance
from lrdlib.training.step import flat

OPSET = 20
FOLDED = 1024  # bytes


def _with_diagonal(
    X: Tensor, diagonal: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """X (..., k, k) with another main diagonal, in operations that ONNX has."""
    assert offset == 0 and (dim1 % X.ndim, dim2 % X.ndim) == (X.ndim - 2, X.ndim - 1)
    return torch.where(torch.eye(X.shape[-1], dtype=torch.bool), diagonal.unsqueeze(-1), X)


DECOMPOSITIONS = {torch.ops.aten.diagonal_scatter.default: _with_diagonal}


class Comparing(TorchFunctionMode):
    """F.one_hot as a comparison: torch's own looks into the tokens for a bad one, which a
    trace cannot do."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is F.one_hot:
            tokens, classes = args
            return (tokens.unsqueeze(-1) == torch.arange(classes)).long()
        return func(*args, **(kwargs or {}))


def trace(
    function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]
) -> nn.Module:
    """`function` as a graph of torch's core operations, its own gradients among them, none
    in place."""
    with Comparing():
        pure = torch.func.functionalize(function, remove="mutations")
        return make_fx(pure, DECOMPOSITIONS, tracing_mode="fake")(*inputs).eval()


def step_inputs(config: TrainConfig) -> dict[str, Tensor]:
    """Inputs of `train_step` of the right shapes, by name."""
    data = config.data()
    generator = torch.Generator().manual_seed(config.seed)
    weights = flat(init_params(config.model(data), generator))  # (n,)
    batch = {  # (B, T) and (B,)
        "tokens": data.tokens[: config.batch_size],
        "labels": data.labels[: config.batch_size],
    }
    scalars = numbers(config)
    moments = {name: torch.zeros_like(weights) for name in ("exp_avg", "exp_avg_sq")}
    return {"weights": weights, **moments, "steps": torch.tensor(0.0), **batch, **scalars}


def export_step(config: TrainConfig, *, low_rank: bool) -> torch.onnx.ONNXProgram:
    """`train_step` as an ONNX program: inputs as in `step_inputs`, outputs loss, weights,
    exp_avg and exp_avg_sq."""
    inputs = step_inputs(config)
    function = partial(
        train_step, model=config.model(config.data()), config=config, low_rank=low_rank
    )
    outputs = ("loss", "new_weights", "new_exp_avg", "new_exp_avg_sq")
    return to_onnx(function, inputs, outputs)


def export_evaluation(config: TrainConfig) -> torch.onnx.ONNXProgram:
    """`evaluate` as an ONNX program: weights, tokens and labels in; losses, hits and
    pattern out."""
    data = config.data()
    inputs = {
        "weights": step_inputs(config)["weights"],
        "tokens": data.tokens,
        "labels": data.labels,
    }
    function = partial(evaluate, model=config.model(data))
    return to_onnx(function, inputs, ("losses", "hits", "pattern"))


def to_onnx(
    function: Callable[..., tuple[Tensor, ...]],
    inputs: dict[str, Tensor],
    outputs: tuple[str, ...],
) -> torch.onnx.ONNXProgram:
    """Trace, hand the graph to torch's exporter, which checks nothing by itself, and
    simplify."""
    program = torch.onnx.export(
        trace(function, tuple(inputs.values())),
        tuple(inputs.values()),
        dynamo=True,
        optimize=False,
        verbose=False,
        input_names=list(inputs),
        output_names=list(outputs),
        opset_version=OPSET,
    )
    assert program is not None
    simplify(program.model)
    return program


def simplify(model: onnx_ir.Model) -> None:
    """Fold what is constant and at most FOLDED bytes long, take out what nothing uses
    or what is computed twice, and every note of where a node came from; in place.

    What torch's exporter does itself (optimize=True) matches each node with some sixty
    patterns as well, which takes as long as the export and gives no faster step; it folds
    zeros as large as the weights, and its notes are longer than the graph (2 MB for 0.12).
    """
    optimizer.fold_constants(model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    for simpler in (
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.ClearMetadataAndDocStringPass(),
    ):
        simpler(model)


def description(config: TrainConfig) -> dict[str, Any]:
    """What the worker needs beside the graphs: the table, the parameters in order, and
    where all of it came from."""
    data = config.data()
    model = config.model(data)
    origin = provenance()  # of what was traced; what it runs on the page says
    parameters = [
        {
            "name": name,
            "shape": shape,
            "size": math.prod(shape),
            "std": initial_std(name, shape),
        }
        for name, shape in shapes(model).items()
    ]
    return {
        "shapes": parameters,
        "table": {
            name: getattr(data, name).flatten().tolist()
            for name in ("tokens", "labels", "swap")
        },
        "width": config.d_model,
        "modular": data.modular,
        "sources": sources(),
        "provenance": {name: origin[name] for name in ("lrdlib", "torch")}
        | {"onnx": onnx.__version__},
    }


def sources() -> str:
    """SHA-256 over the library's source files and torch's version: what the exported graphs
    were made from."""
    digest = hashlib.sha256(torch.__version__.encode())
    folder = Path(__file__).parent.parent
    for path in sorted(
        path for part in (".", "training", "lab") for path in (folder / part).glob("*.py")
    ):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def write(folder: Path) -> list[Path]:
    """Write the presets of the page into `folder`; returns the files.

    Presets of one shape, such as addition and subtraction, have the same graphs: these are
    made once. They are made side by side, in processes of their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    presets = all_presets()
    made: dict[Any, str] = {}  # what a preset's graphs depend on, and who has them
    for name, preset in presets.items():
        config = TrainConfig(**preset["config"])
        made.setdefault(_shapes(config), name)
        (folder / f"{name}.json").write_text(
            json.dumps(description(config)), encoding="utf-8"
        )
    jobs = [
        (presets[name]["config"], graph, str(folder / f"{name}-{graph}.onnx"))
        for name in made.values()
        for graph in ("low", "plain", "evaluation")
    ]
    spawned = get_context("spawn")
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 4), spawned) as pool:
        for done in [pool.submit(_save, *job) for job in jobs]:
            done.result()
    for name, preset in presets.items():
        owner = made[_shapes(TrainConfig(**preset["config"]))]
        for graph in ("low", "plain", "evaluation") if owner != name else ():
            shutil.copyfile(
                folder / f"{owner}-{graph}.onnx", folder / f"{name}-{graph}.onnx"
            )
    (folder / "presets.json").write_text(json.dumps(presets), encoding="utf-8")
    return sorted(folder.iterdir())


def _shapes(config: TrainConfig) -> tuple[Any, ...]:
    """All that the graphs of a preset depend on: shapes, and the numbers that are in them."""
    data = config.data()
    how = ("batch_size", "betas", "mode", "scale", "method", "ns_steps", "per_head")
    return config.model(data), len(data), *(getattr(config, name) for name in how)


def _save(fields: dict[str, Any], graph: str, path: str) -> None:
    """Export one graph of a preset to a file."""
    # it misses torchvision, which nothing here needs
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    config = TrainConfig(**fields)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        if graph == "evaluation":
            program = export_evaluation(config)
        else:
            program = export_step(config, low_rank=graph == "low")
    program.save(path)


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        sys.exit(__doc__)
    files = write(Path(arguments[0]))
    print(f"   the exported train step: {', '.join(file.name for file in files)}")


if __name__ == "__main__":
    main(sys.argv[1:])
