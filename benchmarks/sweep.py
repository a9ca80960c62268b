"""Runs per minute of a sweep, against training the same runs one at a time, in the same
session.

    python benchmarks/sweep.py [--steps 300] [--workers 2] [--device cuda --stacks 1 8 64]

(where lrdlib is not installed, PYTHONPATH=. python benchmarks/sweep.py)

The paper's model and task (p = 97, width 128, batch 512), 8 runs, L2 and LRD in equal
parts, a record every 100 steps. On a CPU, each against one run at a time in this process,
uncompiled, on one thread:

compiled    one at a time, the forward pass through torch.compile
stacks      4 runs as one batched model, on one thread
workers     sweep with so many processes, compiled, as `python -m lrdlib phase-diagram
            --compile` runs it

On a GPU: stacks of each size, in TF32 as studies train them or in float32 (--precision),
with the share of the card's matmul rate in it that their matrix products reach. What
compiling and starting workers takes is left out: every way is warmed up first, and a sweep
of hours does it once.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lrdlib.training.backend import use_onednn
from lrdlib.training.config import TrainConfig
from lrdlib.training.sweep import expand, sweep
from lrdlib.training.train import PRECISIONS, Training, train


def grid(runs: int, steps: int) -> list[TrainConfig]:
    """So many runs of the paper's setting, L2 and LRD in turn."""
    rules = [{"rule": "l2", "weight_decay": 0.1}, {"rule": "lrd", "weight_decay": 1e-2}]
    seeds = list(range(-(-runs // 2)))
    blocks = [
        rule | {"seed": seed, "steps": steps, "eval_every": 100}
        for seed in seeds
        for rule in rules
    ]
    return expand(*blocks)[:runs]


def steps_per_second(
    stack: list[TrainConfig],
    *,
    device: str,
    compile: bool,
    rounds: int = 3,
    precision: str = "float32",
) -> float:
    """Steps of one run that a stack makes in a second: the median round, after a round that
    warms up."""
    training = Training(stack, device=device, compile=compile, precision=precision)
    steps, times = stack[0].steps, []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        for _ in range(steps):
            training.update()
        if training.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return len(stack) * steps / sorted(times[1:])[rounds // 2]


def one_by_one(runs: list[TrainConfig], *, compile: bool) -> float:
    """Runs per minute, one after the other in this process, after one that warms up."""
    list(train(runs[0], compile=compile))
    begin = time.perf_counter()
    for config in runs:
        list(train(config, compile=compile))
    return 60 * len(runs) / (time.perf_counter() - begin)


def stacked(runs: list[TrainConfig]) -> float:
    """Runs per minute, each rule's as one batched model."""
    begin = time.perf_counter()
    for rule in ("l2", "lrd"):
        list(train([config for config in runs if config.rule == rule]))
    return 60 * len(runs) / (time.perf_counter() - begin)


def swept(runs: list[TrainConfig], workers: int) -> float:
    """Runs per minute of a sweep with so many workers, after a sweep that starts and warms
    them up."""
    how: dict[str, Any] = {"workers": workers, "compile": True}
    with tempfile.TemporaryDirectory() as folder:
        list(sweep(runs[: 2 * workers], Path(folder) / "warm", **how))
        begin = time.perf_counter()
        list(sweep(runs, Path(folder) / "timed", **how))
        return 60 * len(runs) / (time.perf_counter() - begin)


def on_cpu(steps: int, workers: int) -> None:
    """Print runs per minute of each way, and the ratio to one at a time."""
    use_onednn()
    torch.set_num_threads(1)
    runs = grid(8, steps)
    ways: dict[str, Callable[[], float]] = {
        "one at a time": lambda: one_by_one(runs, compile=False),
        "compiled": lambda: one_by_one(runs, compile=True),
        "stacks of 4": lambda: stacked(runs),
        f"{workers} workers, compiled": lambda: swept(runs, workers),
    }
    base = 0.0
    for name, way in ways.items():
        rate = way()
        base = base or rate
        line = f"{name:22} {rate:6.1f} runs of {steps} steps a minute   {rate / base:5.2f}x"
        print(line, flush=True)


def matmul_flops(training: Training) -> float:
    """Floating-point operations of the matrix products of one step of one run, forward and
    backward, without decay."""
    config, batch = training.model, training.configs[0].batch_size
    d, m, every = config.d_model, config.mlp_ratio * config.d_model, batch * config.seq_len
    total = every * config.vocab * d + batch * d * config.classes
    for layer in range(config.layers):
        read = batch if layer == config.layers - 1 else every
        total += (2 * every + 2 * read) * d * d + 2 * read * d * m
    return 3 * 2.0 * total


def on_gpu(device: str, sizes: list[int], steps: int, precision: str) -> None:
    """Print runs per minute (of 3000 steps) by stack size, and the share of the matmul rate
    as it is measured in this precision."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    A = torch.randn(8192, 8192, device=device)
    A @ A
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(5):
        A @ A
    torch.cuda.synchronize()
    peak = 5 * 2 * 8192**3 / (time.perf_counter() - begin)
    card = torch.cuda.get_device_name(device)
    print(f"{card}: {precision} matmul {peak / 1e12:.0f} TFLOP/s")
    for size in sizes:
        for rule in ("l2", "lrd"):
            stack = [c for c in grid(2 * size, steps) if c.rule == rule]
            rate = steps_per_second(stack, device=device, compile=True, precision=precision)
            share = rate * matmul_flops(Training(stack[:1])) / peak
            line = (
                f"stack of {size:4} {rule:4} {rate / 50:8.1f} runs of 3000 steps a minute"
            )
            print(f"{line}, {share:5.1%} of the rate", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, sizes = parser.add_argument, [1, 8, 64, 256]
    add("--steps", type=int, default=300, help="steps of each run (300)")
    add("--workers", type=int, default=2, help="worker processes of the sweep (2)")
    add("--device", default="cpu", help="cpu or cuda (cpu)")
    add("--stacks", type=int, nargs="+", default=sizes, help="stack sizes on a GPU")
    add("--precision", choices=PRECISIONS, default="tf32", help="on a GPU (tf32)")
    options = parser.parse_args()
    if options.device == "cpu":
        on_cpu(options.steps, options.workers)
    else:
        on_gpu(options.device, options.stacks, options.steps, options.precision)


if __name__ == "__main__":
    main()
