"""Finite tasks as data: the whole table of an operation, and reproducible splits of it into
train and test.

A binary operation a ∘ b = c on {0, ..., p - 1} becomes the sequences (a, b, "=") with label
c, one row per ordered pair, as in Power et al. 2022. "=" is the token after the elements.
Rows are in lexicographic order of (a, b), so row a * p + b is the pair (a, b); "div" has no
b = 0, so there (a, b) is row a * (p - 1) + b - 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lrdlib._check import (
    amount,
    check_bool,
    check_bytes,
    check_choice,
    check_instance,
    check_integer,
    check_real,
    check_rows,
    shown,
)

TABLE_BYTES = 2**30  # of the largest table of pairs: p up to 5181
MAX_BITS = 20  # 2^20 sequences of 21 tokens take 193 MB

MODULAR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "poly": lambda a, b: a * a + a * b + b * b,
    "poly_x": lambda a, b: a * a + a * b + b * b + a,
}
TASKS = ("add", "sub", "mul", "div", "poly", "poly_x", "s5", "parity")


@dataclass(frozen=True, eq=False)
class Task:
    """A task as data: every sequence there is, and its label.

    p: size parameter: the modulus, 120 for "s5", the number of bits for "parity".
    tokens (N, T) and labels (N,), int64: all sequences in lexicographic order.
    vocab: number of tokens, "=" included, which is the last. classes: number of labels.
    commutative: whether the table is symmetric, a ∘ b = b ∘ a for all a and b.
    swap (N,), int64: the row of the pair (b, a), an involution; arange(N) where the task is
    not commutative.

    Raises TypeError or ValueError for a field of another type or shape, and for a token,
    label or row outside its range.
    """

    name: str
    p: int
    tokens: Tensor
    labels: Tensor
    vocab: int
    classes: int
    commutative: bool
    swap: Tensor

    def __post_init__(self) -> None:
        check_instance("name", self.name, str)
        check_bool("commutative", self.commutative)
        for name in ("p", "vocab", "classes"):
            check_integer(name, getattr(self, name))
        check_rows("tokens", self.tokens)
        N = len(self.tokens) if self.tokens.ndim else 0
        ends = {"tokens": self.vocab, "labels": self.classes, "swap": N}
        for name, end in ends.items():
            check_rows(name, x := getattr(self, name))
            if x.ndim != (2 if name == "tokens" else 1) or len(x) != N or 0 in x.shape:
                wanted = "(N, T)" if name == "tokens" else f"({N},)"
                raise ValueError(
                    f"{name} must have shape {wanted} with N, T >= 1, got {tuple(x.shape)}"
                )
            _check_range(name, x, end)

    @property
    def seq_len(self) -> int:
        """T, the number of tokens in a sequence."""
        return self.tokens.shape[1]

    @property
    def modular(self) -> bool:
        """Whether the tokens 0 .. p - 1 are the numbers modulo p."""
        return self.name in MODULAR or self.name == "div"

    def __len__(self) -> int:
        """N, the number of sequences."""
        return self.tokens.shape[0]


class TableSize(NamedTuple):
    """How large a table is: `rows` sequences of `seq_len` tokens out of `vocab`, and
    `classes` labels."""

    rows: int
    seq_len: int
    vocab: int
    classes: int


def table_size(name: str, p: int = 97, bits: int = 10) -> TableSize:
    """The size of the table that `task` makes of the same arguments, without making it.
    Raises as `task`.

    >>> table_size("add", p=5)
    TableSize(rows=25, seq_len=3, vocab=6, classes=5)
    """
    check_choice("name", name, TASKS)
    check_integer("p", p, at_least=2)
    check_integer("bits", bits)
    p, bits = int(p), int(bits)
    pairs, strings = p * p, 2 ** min(bits, 10**4)
    asked = f"a table of {amount(pairs)} sequences"
    check_bytes(f"p = {shown(p)}", asked, _table_bytes(pairs, 3), TABLE_BYTES)
    asked = f"a table of {amount(strings)} sequences"
    largest = _table_bytes(2**MAX_BITS, MAX_BITS + 1)
    check_bytes(f"bits = {shown(bits)}", asked, _table_bytes(strings, bits + 1), largest)
    if name == "parity":
        return TableSize(2**bits, bits + 1, 3, 2)
    if name == "s5":
        return TableSize(120**2, 3, 121, 120)
    if name == "div":
        _check_prime(p)
    return TableSize(p * (p - 1 if name == "div" else p), 3, p + 1, p)


def task(name: str, p: int = 97, bits: int = 10) -> Task:
    """The full table of the task `name`, one of TASKS.

    "add", "sub", "mul"   a + b, a - b, a b                          mod p, p^2 pairs
    "div"                 a b^-1, b in 1 .. p - 1, p prime           mod p, p (p - 1) pairs
    "poly", "poly_x"      a^2 + a b + b^2, and that plus a           mod p, p^2 pairs
    "s5"                  (a ∘ b)(i) = a(b(i)) for the 120 permutations of 5 things,
                          numbered lexicographically, so that 0 is the identity; p is ignored
    "parity"              the XOR of a string of `bits` bits; 2^bits sequences of bits + 1
                          tokens; p is ignored

    Whether a task is commutative is read off its table: subtraction is, modulo 2.

    Raises ValueError for an unknown name, p < 2, p not prime for "div", a p whose table would
    take more than 1 GiB (p > 5181), or bits outside 1 .. 20, and TypeError for a p or bits
    that is not an int; both are checked whether or not the task uses them. Source: Power et
    al. 2022, appendix A.1, for the binary operations.

    >>> add = task("add", p=5)
    >>> len(add), add.tokens[7].tolist(), int(add.labels[7]), int(add.swap[7])
    (25, [1, 2, 5], 3, 11)
    """
    table_size(name, p, bits)
    p, bits = int(p), int(bits)  # numpy's integers would wrap around
    if name == "parity":
        return _parity(bits)
    if name == "s5":
        table = _s5_table()  # (120, 120)
        a, b = _pairs(120)
        return _binary(name, 120, a, b, table[a, b])
    a, b = _pairs(p)
    if name == "div":
        a, b = a[b > 0], b[b > 0]
        inverse = torch.tensor([0] + [pow(b, -1, p) for b in range(1, p)])
        return _binary(name, p, a, b, a * inverse[b] % p)
    return _binary(name, p, a, b, MODULAR[name](a, b) % p)


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a task, int64: `train` in shuffled order; `test`, the rest, ascending; and
    the clean part of `test`.

    orbit_clean: the rows (a, b) of `test`, ascending, for which (b, a) is not in `train`;
    all of `test` if the task is not commutative. A model that has merely memorised (b, a)
    can answer (a, b) of a commutative task, and does: before it generalises its accuracy on
    `test` is about the fraction f of the data it was trained on. Only accuracy on
    `orbit_clean` starts near chance. About a share 1 - f of `test` is clean: off the
    diagonal a pair and its swap are both held out with probability about (1 - f)^2, while a
    held-out (a, a) is always clean.
    """

    train: Tensor
    test: Tensor
    orbit_clean: Tensor

    def __post_init__(self) -> None:
        for name in ("train", "test", "orbit_clean"):
            check_rows(name, rows := getattr(self, name))
            if rows.ndim != 1 or bool((rows < 0).any()):
                raise ValueError(
                    f"{name} must hold rows (n,) >= 0, got shape {tuple(rows.shape)}"
                )


def split(task: Task, fraction: float, seed: int) -> Split:
    """Split the rows of a task at random: round(fraction * N) of them to train on, the rest
    to test.

    The order is numpy's RandomState(seed).permutation(N). That stream is frozen (NEP 19),
    so that a seed names the same split on every machine and with every version;
    torch.randperm and numpy's Generator do not promise it. A half rounds to even, as Python
    rounds.

    Raises TypeError or ValueError unless 0 < fraction < 1 and seed is an int in 0 .. 2^32 -
    1, and ValueError if either part would be empty.

    >>> add = task("add", p=5)
    >>> parts = split(add, 0.4, seed=0)
    >>> len(parts.train), len(parts.test), len(parts.orbit_clean)
    (10, 15, 10)
    """
    check_instance("task", task, Task)
    check_real("fraction", fraction, above=0, below=1)
    check_integer("seed", seed, at_least=0, at_most=2**32 - 1)
    N = len(task)
    n_train = round(float(fraction) * N)
    if not 0 < n_train < N:
        raise ValueError(
            f"fraction must leave both parts non-empty, got {fraction}: {n_train} of {N} "
            "rows to train on"
        )
    order = torch.from_numpy(np.random.RandomState(seed).permutation(N).astype(np.int64))
    train, test = order[:n_train], order[n_train:].sort().values
    seen = torch.zeros(N, dtype=torch.bool)
    seen[train] = True
    return Split(train=train, test=test, orbit_clean=test[~seen[task.swap[test]]])


def _table_bytes(rows: int, seq_len: int) -> int:
    """What the int64 tokens, labels and swap of a table take."""
    return rows * (seq_len + 2) * 8


def _check_range(name: str, x: Tensor, end: int) -> None:
    """Raise ValueError unless the integers x are in 0 .. end - 1."""
    low, high = (int(value) for value in x.aminmax())
    if low < 0 or high >= end:
        raise ValueError(f"{name} must be in 0 .. {end - 1}, got {low} .. {high}")


def _check_prime(p: int) -> None:
    """Raise ValueError unless p is prime: modulo a composite number not every b has an
    inverse."""
    factor = next((d for d in range(2, math.isqrt(p) + 1) if p % d == 0), None)
    if factor is not None:
        raise ValueError(
            f"p must be prime for task 'div', got {p} = {factor} * {p // factor}"
        )


def _pairs(p: int) -> tuple[Tensor, Tensor]:
    """All ordered pairs (a, b) of 0 .. p - 1 in lexicographic order: two tensors (p^2,)."""
    grid = torch.arange(p)
    return grid.repeat_interleave(p), grid.repeat(p)


def _binary(name: str, p: int, a: Tensor, b: Tensor, labels: Tensor) -> Task:
    """The task whose row i says a[i] ∘ b[i] = labels[i], on p elements."""
    tokens = torch.stack([a, b, torch.full_like(a, p)], dim=1)
    swap = b * p + a
    commutative = len(a) == p * p and torch.equal(labels, labels[swap])
    swap = swap if commutative else torch.arange(len(a))
    return Task(name, p, tokens, labels, p + 1, p, commutative, swap)


def _s5_table() -> Tensor:
    """The multiplication table (120, 120) of the symmetric group on five things: [a, b] is
    the number of a ∘ b."""
    elements = list(permutations(range(5)))
    number = {element: i for i, element in enumerate(elements)}
    return torch.tensor(
        [[number[tuple(a[i] for i in b)] for b in elements] for a in elements]
    )


def _parity(bits: int) -> Task:
    """All strings of `bits` bits, most significant first, each followed by "=" (token 2);
    the label is their XOR."""
    rows = torch.arange(2**bits)
    string = rows[:, None] >> torch.arange(bits - 1, -1, -1) & 1  # (N, bits)
    tokens = torch.cat([string, torch.full_like(rows, 2)[:, None]], dim=1)
    return Task("parity", bits, tokens, string.sum(1) % 2, 3, 2, False, rows)
