"""The order of the batches, the same on every machine."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lrdlib._check import check_integer


def batches(train: Tensor, *, seed: int, start: int, count: int, size: int) -> Tensor:
    """Rows (count, size) of the `count` batches from step `start` on: `size` after `size` of
    an endless row of shuffles of the training set.

    A pure function of its arguments (shuffle number e comes from the generator seeded with
    (seed, e)), so there is no state to save, and the batches are the same on every machine.
    Raises TypeError or ValueError for no rows, a start below 0, a count or size below 1, or
    a seed that is not in 0 ... 2^32 - 1.

    >>> batches(torch.arange(4), seed=0, start=2, count=3, size=2).shape
    torch.Size([3, 2])
    """
    if not isinstance(train, Tensor):
        raise TypeError(f"train must be a torch.Tensor, got {type(train).__name__}")
    if train.ndim != 1 or not len(train):
        raise ValueError(f"train must be at least one row (n,), got {tuple(train.shape)}")
    check_integer("seed", seed, at_least=0, at_most=2**32 - 1)
    check_integer("start", start, at_least=0)
    check_integer("count", count)
    check_integer("size", size)
    seed, start, count, size = map(int, (seed, start, count, size))  # numpy's would wrap
    n, first, total = len(train), start * size, count * size
    epochs = range(first // n, (first + total - 1) // n + 1)
    order = np.concatenate([_shuffle(n, seed, epoch) for epoch in epochs])  # (epochs n,)
    first -= epochs[0] * n
    return train[torch.from_numpy(order[first : first + total])].view(count, size)


@lru_cache(maxsize=1024)
def _shuffle(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.RandomState([seed, epoch]).permutation(n)  # frozen by NEP 19
