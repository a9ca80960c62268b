"""What a decay of an n x n matrix costs, by width and method, and as a share of training it.

    python benchmarks/decay.py [--widths 128 256 ... 4096] [--device cuda]

Each line: the time of one step of `LowRankDecay` (or of Muon's orthogonalisation, or of an
SVD with singular vectors) on one matrix of that width, in float32 on one thread; and, for
each number T of tokens per step, that time over the time that the matrix's products in
forward and backward would take, 6 T n^2 operations, at the rate that torch.matmul reaches
here for T x n times n x n. Below 1 the decay is the cheaper part.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lrdlib import LowRankDecay

WIDTHS = (128, 256, 512, 1024, 2048, 4096)
TOKENS = (1_536, 8_192, 65_536)  # the paper's step; a small and a larger language model's
METHODS: dict[str, dict[str, Any]] = {
    "Polar Express, 6": {"method": "polar_express", "steps": 6},
    "Polar Express, 4": {"method": "polar_express", "steps": 4},
    "cubic, 5": {"method": "cubic", "steps": 5},
    "proximal (SVD)": {"rule": "proximal"},
}
PATIENCE = 20.0  # seconds: what takes longer altogether is measured less often


def seconds(f: Callable[[], object], device: str, repeats: int = 5) -> float:
    """The median time of a call, after one to warm up; of fewer, if they are long."""
    times: list[float] = []
    for _ in range(repeats + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        f()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        if sum(times) > PATIENCE:
            break
    return statistics.median(times[1:] or times)


def ways(n: int, device: str) -> dict[str, Callable[[], object]]:
    """What is timed, by name: each changes or reads an n x n matrix of its own."""
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(n, n, generator=generator).to(device) / n**0.5
    found: dict[str, Callable[[], object]] = {}
    for name, settings in METHODS.items():
        decay = LowRankDecay(
            [nn.Parameter(W.clone())], weight_decay=1e-4, mode="independent", **settings
        )
        found[name] = decay.step
    if hasattr(torch.optim, "Muon"):
        held = nn.Parameter(W.clone())
        held.grad = W.clone()
        found["a step of Muon"] = torch.optim.Muon([held], lr=1e-4).step
    found["SVD"] = lambda: torch.linalg.svd(W, full_matrices=False)
    return found


def training(n: int, tokens: int, device: str) -> float:
    """Seconds of the products of an n x n matrix in forward and backward."""
    rows = min(tokens, 8_192)  # the rate no longer grows
    x, W = torch.ones(rows, n, device=device), torch.ones(n, n, device=device)
    return 3 * tokens / rows * seconds(lambda: x @ W, device)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, metavar="N")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    shares = "".join(f"{f'T = {T:,}':>13}" for T in TOKENS)
    print(f"{'n':>5} {'method':18} {'ms':>10}{shares}")
    for n in options.widths:
        floors = [training(n, T, options.device) for T in TOKENS]
        for name, way in ways(n, options.device).items():
            spent = seconds(way, options.device)
            cells = "".join(f"{spent / floor:13.3f}" for floor in floors)
            print(f"{n:5} {name:18} {1e3 * spent:10.2f}{cells}", flush=True)


if __name__ == "__main__":
    main()
