"""A stack of runs on a GPU, trained without waiting: spectra are computed on the CPU while
the card goes on."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from lrdlib._check import check_bool, check_instance, check_integer, check_real
from lrdlib.spectral import cores
from lrdlib.training.config import TrainConfig, config_list
from lrdlib.training.records import Record
from lrdlib.training.runs import Run, runs_of
from lrdlib.training.train import Training

AHEAD = 40  # records whose spectra may be waiting: about 10 GB for 144 runs of width 128


def train_stack(
    configs: Sequence[TrainConfig],
    *,
    device: str = "cuda",
    compile: bool = True,
    precision: str = "tf32",
    size: int | None = None,
    until: float = float("inf"),
    command: str = "",
) -> list[Run] | None:
    """Train a stack to its end, one Run for each config; None if time.monotonic() passes
    `until` before, as soon as the pace of its records says so.

    size: fill the stack up to so many runs by repeating the last, whose copies are dropped:
    a step that is compiled for one size serves all stacks. device, compile, precision: see
    lrdlib.training.train.train. Raises as Training does.
    """
    check_bool("compile", compile)
    check_instance("command", command, str)
    if until != float("inf"):
        check_real("until", until)
    configs = config_list(configs)
    size = len(configs) if size is None else size
    check_integer("size", size, at_least=len(configs))
    filled = configs + configs[-1:] * (size - len(configs))
    training = Training(filled, device=device, compile=compile, precision=precision)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of each worker
    try:
        with ThreadPoolExecutor(max(1, cores() - 2)) as pool:
            waiting: list[Future[Record]] = []
            times: list[float] = []  # of the records
            for snapshot in training.snapshots():
                waiting.append(pool.submit(snapshot.record))
                if len(waiting) > AHEAD:
                    waiting[-AHEAD - 1].result()
                times.append(time.monotonic())
                if training.due is not None and _ends(times, training) > until:
                    for future in waiting:
                        future.cancel()
                    return None
            training.records = [future.result() for future in waiting]
    finally:
        torch.set_num_threads(threads)
    return runs_of(training, command=command)[: len(configs)]


def _ends(times: Sequence[float], training: Training) -> float:
    """When a training ends that made its records at these times: now at the earliest, and
    at the pace since its second record, less a tenth for what may be slow by chance. What
    is compiled is, before that one."""
    every, left = training.configs[0].eval_every, training.configs[0].steps - training.step
    pace = (times[-1] - times[1]) / (len(times) - 2) if len(times) > 2 else 0.0
    return times[-1] + 0.9 * pace * left / every
