"""What a step of `LowRankDecay` holds at its peak, beside weights and gradients.

    python benchmarks/memory.py [--width 256] [--device cuda]

In multiples of one of its matrices as the model keeps it, n x n or 4n x n: for one matrix,
for eight that are computed at once, and for eight that are computed one by one
(`max_batch=1`). float32 weights, and bfloat16 ones that are rounded stochastically, whose
float32 copies are twice as large.

Counted are the bytes that torch's allocator gives out and takes back during a step, by
torch.profiler on a CPU, and by torch.cuda.max_memory_allocated on a GPU: the same numbers on
any machine and at any width, but for the SVD: a GPU's solver takes its room from that
allocator too. What LAPACK and the library of products keep for themselves is
left out. So the last column, on a CPU under Linux, is how far a process of its own grows
(VmHWM of /proc/self/status) in a step of one matrix of 2048 x 2048.
"""

import argparse
import json
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lrdlib import LowRankDecay

METHODS: dict[str, dict[str, Any]] = {
    "Polar Express, 6": {"method": "polar_express", "steps": 6},
    "cubic, 5": {"method": "cubic", "steps": 5},
    "SVD": {"method": "svd"},
}
DTYPES = (torch.float32, torch.bfloat16)
GROUPS: dict[str, tuple[int, int | None]] = {  # matrices, max_batch
    "1": (1, None),
    "8 at once": (8, 8),
    "8 one by one": (8, 1),
}


def made(shape: tuple[int, int], dtype: torch.dtype, device: str = "cpu") -> Tensor:
    """A matrix, without a temporary copy."""
    return torch.empty(shape, dtype=dtype, device=device).normal_()


def decay_of(matrices: list[Tensor], **settings: Any) -> LowRankDecay:
    how: dict[str, Any] = {"mode": "independent", "rounding": "stochastic"}
    return LowRankDecay(matrices, weight_decay=1e-4, **how, **settings)


def held(decay: LowRankDecay, device: str) -> int:
    """The bytes that the second step holds at its peak; the first sets up the device."""
    decay.step()
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        decay.step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    cpu = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[cpu], profile_memory=True) as profile:
        decay.step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    given = [event for event in events if event["name"] == "[memory]"]
    now, most = 0, 0
    for event in sorted(given, key=lambda event: float(event["ts"])):
        now += event["args"]["Bytes"]
        most = max(most, now)
    return most


def grown(method: str, dtype: torch.dtype, n: int = 2048) -> float:
    """By how many matrices this process grows in a step of one; in a process of its own."""
    torch.set_num_threads(1)
    decay_of([made((8, 8), dtype)], **METHODS[method]).step()  # loads what it needs
    W = made((n, n), dtype)
    decay = decay_of([W], **METHODS[method])
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before = resident()
    decay.step()
    return (resident() - before) / W.nbytes


def resident() -> int:
    """The most bytes that this process has had in memory."""
    [line] = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    ]
    return 1024 * int(line.split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=256, metavar="N")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    n = options.width
    heads = "".join(f"{name:>14}" for name in GROUPS)
    print(
        f"{'':29}{f'{n} x {n}':>{14 * len(GROUPS)}}{f'{4 * n} x {n}':>{14 * len(GROUPS)}}"
    )
    print(f"{'method':17}{'weights':>12}{heads}{heads}{'process':>10}")
    spawn = multiprocessing.get_context("spawn")
    for dtype in DTYPES:
        for method, settings in METHODS.items():
            cells = ""
            for shape in ((n, n), (4 * n, n)):
                for matrices, most in GROUPS.values():
                    Ws = [made(shape, dtype, options.device) for _ in range(matrices)]
                    decay = decay_of(Ws, max_batch=most, **settings)
                    cells += f"{held(decay, options.device) / Ws[0].nbytes:14.1f}"
            if options.device == "cpu" and Path("/proc/self/clear_refs").exists():
                with spawn.Pool(1) as pool:
                    cells += f"{pool.apply(grown, (method, dtype)):10.1f}"
            print(f"{method:17}{str(dtype).removeprefix('torch.'):>12}{cells}", flush=True)


if __name__ == "__main__":
    main()
