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

import torch
from torch import Tensor

from lrdlib.polar import SEGMENT, polar_factor, polar_iteration
from lrdlib.training.backend import use_onednn

CASES = [
    ("cubic", 5),
    ("cubic", 15),
    ("cubic", 30),
    ("quintic", 5),
    ("polar_express", 3),
    ("polar_express", 4),
    ("polar_express", 5),
    ("polar_express", 6),
    ("polar_express", 8),
]
SHAPES = [(8, 128, 128), (4, 512, 128)]
CONDITIONS = [1e1, 1e2, 1e3, 1e4]


def conditioned(shape: tuple[int, int, int], condition: float) -> tuple[Tensor, Tensor]:
    """float64 W of that shape with singular values from 1 to 1/condition, geometrically,
    and its polar factor."""
    N, m, n = shape
    k = min(m, n)
    generator = torch.Generator().manual_seed(0)
    U = torch.linalg.qr(torch.randn(N, m, k, dtype=torch.float64, generator=generator))[0]
    V = torch.linalg.qr(torch.randn(N, n, k, dtype=torch.float64, generator=generator))[0]
    S = condition ** -torch.linspace(0, 1, k, dtype=torch.float64)
    return U * S @ V.mT, U @ V.mT


def errors(
    shape: tuple[int, int, int],
    condition: float,
    dtype: torch.dtype,
    method: str,
    steps: int | None,
) -> str:
    W, exact = conditioned(shape, condition)
    P = polar_factor(W.to(dtype), method=method, steps=steps).double()
    sigma = (torch.linalg.svdvals(P) - 1).abs().max().item()
    return f"{sigma:7.1e} {(torch.linalg.norm(P - exact) / torch.linalg.norm(exact)).item():7.1e}"


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
    W = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    work = W.float() if dtype == torch.bfloat16 else W  # bfloat16 is computed in float32
    square = work[:, : shape[2]].contiguous()
    rate = (
        2.0
        * shape[0]
        * shape[2] ** 3
        / seconds(lambda: torch.bmm(square, square), 10 * repeats)
    )
    svd = seconds(lambda: torch.linalg.svd(work, full_matrices=False), repeats)
    conditions = CONDITIONS[1:3] if quick else CONDITIONS
    print(
        f"\n{shape} {str(dtype)[6:]}: torch.linalg.svd {svd * 1e3:.2f} ms, torch.bmm "
        f"{rate / 1e9:.0f} GFLOP/s"
    )
    header = "".join(f"{f'condition {c:.0e}':>18}" for c in conditions)
    print(f"{'method':13} steps{header}{'ms':>9}{'/svd':>7}{'/floor':>7}")
    for method, steps in [("svd", None), *(CASES[4:] if quick else CASES)]:
        cells = "".join(f"   {errors(shape, c, dtype, method, steps)}" for c in conditions)
        spent = seconds(
            lambda method=method, steps=steps: polar_iteration(
                W, method=method, steps=steps
            ),
            repeats,
        )  # type: ignore[misc]
        floor = (
            f"{spent * rate / flops(shape, method, steps):7.2f}" if steps else f"{'-':>7}"
        )
        print(
            f"{method:13} "
            f"{steps or '-':>5}{cells}{spent * 1e3:9.2f}{spent / svd:7.2f}{floor}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="float32 and Polar Express only, two condition numbers",
    )
    parser.add_argument(
        "--onednn",
        action="store_true",
        help="float32 products by oneDNN where it is as exact as MKL",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.onednn:
        print("oneDNN for float32:", use_onednn())
    dtypes = (
        [torch.float32] if options.quick else [torch.float32, torch.float64, torch.bfloat16]
    )
    for dtype in dtypes:
        for shape in SHAPES:
            report(shape, dtype, repeats=10 if options.quick else 30, quick=options.quick)


if __name__ == "__main__":
    main()
