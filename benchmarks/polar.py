"""Error and time of the polar factor on one CPU thread, per method, steps, shape, dtype and
condition number.

    python benchmarks/polar.py [--quick] [--onednn]

Each line: the largest |sigma_i(P) - 1| and |P - UV^T|_F / |UV^T|_F for condition numbers
1e1 to 1e4 (geometric singular values), against the polar factor in float64; the median time
of a stack; that time over `torch.linalg.svd`'s ("/svd", below 1 is faster) and over the
time its matrix products alone would take at the rate torch.bmm reaches here ("/floor").
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lrdlib.polar import SEGMENT, polar_factor, polar_iteration
from lrdlib.training.backend import use_onednn

EXPRESS = [("polar_express", steps) for steps in (3, 4, 5, 6, 8)]
CASES = [("cubic", 5), ("cubic", 15), ("cubic", 30), ("quintic", 5), *EXPRESS]
SHAPES = [(8, 128, 128), (4, 512, 128)]
CONDITIONS = [1e1, 1e2, 1e3, 1e4]


def conditioned(shape: tuple[int, int, int], condition: float) -> tuple[Tensor, Tensor]:
    """float64 W of that shape with singular values from 1 to 1/condition, geometrically,
    and its polar factor."""
    N, m, n = shape
    k = min(m, n)
    settings: dict[str, Any] = {
        "dtype": torch.float64,
        "generator": torch.Generator().manual_seed(0),
    }
    U = torch.linalg.qr(torch.randn(N, m, k, **settings))[0]  # (N, m, k)
    V = torch.linalg.qr(torch.randn(N, n, k, **settings))[0]  # (N, n, k)
    S = condition ** -torch.linspace(0, 1, k, dtype=torch.float64)  # (k,)
    return U * S @ V.mT, U @ V.mT


def errors(
    shape: tuple[int, int, int],
    condition: float,
    dtype: torch.dtype,
    method: str,
    steps: int | None,
) -> str:
    """Largest |sigma_i(P) - 1|, and |P - UV^T|_F / |UV^T|_F, as two columns."""
    W, exact = conditioned(shape, condition)
    P = polar_factor(W.to(dtype), method=method, steps=steps).double()
    sigma = float((torch.linalg.svdvals(P) - 1).abs().max())
    relative = float((P - exact).norm() / exact.norm())
    return f"{sigma:7.1e} {relative:7.1e}"


def seconds(f: Callable[[], object], repeats: int) -> float:
    """Median time of a call after two calls of warming up."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def flops(shape: tuple[int, int, int], method: str, steps: int) -> float:
    """Floating-point operations of the matrix products in `polar_iteration`."""
    N, long, short = shape[0], max(shape[1:]), min(shape[1:])
    on_gram = 2.0 * short**3
    on_matrix = 2.0 * short**2 * long
    squares = 0 if method == "cubic" else steps
    stride = SEGMENT if 2 * long > 3 * short else 1
    segments = -(-steps // stride)
    return N * (2 * segments * on_matrix + (squares + 3 * (steps - segments)) * on_gram)


def report(
    shape: tuple[int, int, int], dtype: torch.dtype, *, repeats: int, quick: bool
) -> None:
    """Print the lines of one shape and dtype."""
    W = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    work = W.float() if dtype == torch.bfloat16 else W  # bfloat16 is computed in float32
    square = work[:, : shape[2]].contiguous()  # (N, n, n)
    product = seconds(lambda: torch.bmm(square, square), 10 * repeats)
    rate = 2.0 * shape[0] * shape[2] ** 3 / product
    svd = seconds(lambda: torch.linalg.svd(work, full_matrices=False), repeats)
    conditions = CONDITIONS[1:3] if quick else CONDITIONS
    print(f"\n{shape} {str(dtype)[6:]}: ", end="")
    print(f"torch.linalg.svd {svd * 1e3:.2f} ms, torch.bmm {rate / 1e9:.0f} GFLOP/s")
    header = "".join(f"{f'condition {c:.0e}':>18}" for c in conditions)
    print(f"{'method':13} steps{header}{'ms':>9}{'/svd':>7}{'/floor':>7}")
    for method, steps in [("svd", None), *(EXPRESS if quick else CASES)]:
        cells = "".join(f"   {errors(shape, c, dtype, method, steps)}" for c in conditions)
        spent = seconds(partial(polar_iteration, W, method=method, steps=steps), repeats)
        floor = f"{spent * rate / flops(shape, method, steps):.2f}" if steps else "-"
        line = f"{method:13} {steps or '-':>5}{cells}"
        print(f"{line}{spent * 1e3:9.2f}{spent / svd:7.2f}{floor:>7}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = partial(parser.add_argument, action="store_true")
    add("--quick", help="float32 and Polar Express only, two condition numbers")
    add("--onednn", help="float32 products by oneDNN where it is as exact as MKL")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.onednn:
        print("oneDNN for float32:", use_onednn())
    dtypes = [torch.float32, torch.float64, torch.bfloat16]
    for dtype in dtypes[:1] if options.quick else dtypes:
        for shape in SHAPES:
            report(shape, dtype, repeats=10 if options.quick else 30, quick=options.quick)


if __name__ == "__main__":
    main()
