"""How a CPU computes in float32: the matmul that torch uses, MKL's, or oneDNN's where that is
faster and as exact; and numbers too small for it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# largest error of a float32 product, relative to its largest entry; bfloat16: 4e-3
PRECISION = 1e-6


def use_onednn() -> bool:
    """Hand float32 matmuls to oneDNN if its products are true float32 on this CPU; say
    whether that was done.

    torch calls oneDNN for float32 only if bfloat16 arithmetic is allowed ("bf16"). A CPU
    without matrix units for that computes in float32 all the same, about twice as fast as
    MKL on AMD (measured: benchmarks/step.py). So: allow it, compare one product with
    float64, and take it back unless the product is float32-exact. A global setting of
    torch, like the number of threads: for programs to make, not for libraries.
    """
    setting = getattr(torch.backends.mkldnn, "matmul", None)  # torch >= 2.9
    if setting is None or not torch.backends.mkldnn.is_available():
        return False
    before, setting.fp32_precision = setting.fp32_precision, "bf16"
    generator = torch.Generator().manual_seed(0)
    A, B = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = A.double() @ B.double()
    if float((A @ B - exact).abs().max() / exact.abs().max()) <= PRECISION:
        return True
    setting.fp32_precision = before
    return False


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Within, this thread takes float32 numbers below 2^-126 for zero, where the CPU can.

    A CPU computes with them many times slower. Weights on which nothing but decay acts get
    there, or their products do: a step then took ten times as long.
    """
    tiny = torch.tensor(2.0**-140)
    before = float(tiny * 1.0) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def onednn_in_use() -> bool:
    """Whether `use_onednn` has been called here, to effect."""
    return (
        getattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision", None)
        == "bf16"
    )
