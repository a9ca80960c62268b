"""Tasks against tables computed with Python's integers, and the splits against sets of
pairs."""

from dataclasses import replace
from functools import cache
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrdlib.tasks import TASKS, Split, Task, split, table_size, task

PRIMES = (2, 3, 5, 7, 11, 13)
ORACLE = {
    "add": lambda a, b, p: (a + b) % p,
    "sub": lambda a, b, p: (a - b) % p,
    "mul": lambda a, b, p: (a * b) % p,
    "div": lambda a, b, p: next(c for c in range(p) if c * b % p == a % p),
    "poly": lambda a, b, p: (a**2 + a * b + b**2) % p,
    "poly_x": lambda a, b, p: (a**2 + a * b + b**2 + a) % p,
}
modular_tasks = st.one_of(
    st.tuples(st.sampled_from(sorted(set(ORACLE) - {"div"})), st.integers(2, 13)),
    st.tuples(st.just("div"), st.sampled_from(PRIMES)),
)


@cache
def s5() -> Task:
    return task("s5")


tasks = st.one_of(
    modular_tasks.map(lambda t: task(t[0], t[1])),
    st.integers(1, 6).map(lambda bits: task("parity", bits=bits)),
    st.builds(s5),
)


@given(modular_tasks)
@settings(deadline=None)
def test_modular_table_is_the_operation(name_p):
    name, p = name_p
    t = task(name, p=p)
    pairs = [(a, b) for a in range(p) for b in range(p) if name != "div" or b]
    assert t.tokens.tolist() == [[a, b, p] for a, b in pairs]
    assert t.labels.tolist() == [ORACLE[name](a, b, p) for a, b in pairs]
    assert (t.name, t.p, t.vocab, t.classes, t.seq_len, len(t)) == (
        name,
        p,
        p + 1,
        p,
        3,
        len(pairs),
    )


def test_the_papers_task_is_the_default():
    t = task("add")
    assert t.p == 97 and len(t) == 97**2 and t.vocab == 98 and t.commutative


@given(st.integers(1, 9))
@settings(deadline=None)
def test_parity_table(bits):
    t = task("parity", bits=bits)
    assert t.tokens.tolist() == [[*string, 2] for string in product((0, 1), repeat=bits)]
    assert t.labels.tolist() == [sum(row[:-1]) % 2 for row in t.tokens.tolist()]
    assert (t.p, t.vocab, t.classes, t.seq_len, len(t)) == (bits, 3, 2, bits + 1, 2**bits)


def test_s5_table_composes_permutations():
    t, elements = s5(), list(permutations(range(5)))
    assert (t.p, t.vocab, t.classes, t.seq_len, len(t)) == (120, 121, 120, 3, 14400)
    assert t.tokens[:, 0].tolist() == [i for i in range(120) for _ in range(120)]
    assert t.tokens[:, 1].tolist() == list(range(120)) * 120
    assert bool((t.tokens[:, 2] == 120).all())
    for row, c in list(zip(t.tokens.tolist(), t.labels.tolist(), strict=True))[::37]:
        a, b = elements[row[0]], elements[row[1]]
        assert elements[c] == tuple(a[b[i]] for i in range(5))


def test_s5_is_a_group_and_not_abelian():
    table = s5().labels.view(120, 120)
    every = torch.arange(120)
    # 0 is the identity
    assert torch.equal(table[0], every) and torch.equal(table[:, 0], every)
    # a Latin square, so inverses exist
    assert torch.equal(table.sort(0).values, every[:, None].expand(120, 120))
    assert torch.equal(table.sort(1).values, every.expand(120, 120))
    a, b, c = torch.randint(120, (3, 2000), generator=torch.Generator().manual_seed(0))
    assert torch.equal(table[table[a, b], c], table[a, table[b, c]])
    assert not torch.equal(table, table.T)


@given(tasks)
@settings(deadline=None, max_examples=60)
def test_commutative_is_the_truth_of_the_table(t):
    table = {
        tuple(row): c
        for row, c in zip(t.tokens[:, :2].tolist(), t.labels.tolist(), strict=True)
    }
    symmetric = all(table.get((b, a)) == c for (a, b), c in table.items())
    assert t.commutative == (symmetric and t.name != "parity")


def test_commutative_at_the_papers_modulus():
    assert [name for name in TASKS if task(name).commutative] == ["add", "mul", "poly"]


@given(tasks)
@settings(deadline=None, max_examples=60)
def test_swap_is_the_involution_that_exchanges_a_and_b(t):
    rows = torch.arange(len(t))
    assert t.swap.dtype == torch.int64 and torch.equal(t.swap[t.swap], rows)
    if t.commutative:
        assert torch.equal(t.tokens[t.swap], t.tokens[:, [1, 0, 2]])
        assert torch.equal(t.labels[t.swap], t.labels)
    else:
        assert torch.equal(t.swap, rows)


@given(tasks, st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_split_is_exhaustive_disjoint_reproducible_and_clean(t, fraction, seed):
    if round(fraction * len(t)) in (0, len(t)):
        with pytest.raises(ValueError, match="fraction must leave both parts non-empty"):
            split(t, fraction, seed)
        return
    s, again = split(t, fraction, seed), split(t, fraction, seed)
    train, test = s.train.tolist(), s.test.tolist()
    assert len(train) == round(fraction * len(t))
    assert sorted(train + test) == list(range(len(t))) and test == sorted(test)
    for part in ("train", "test", "orbit_clean"):
        assert (
            torch.equal(getattr(s, part), getattr(again, part))
            and getattr(s, part).dtype == torch.int64
        )
    if t.commutative:  # unordered pairs never seen, by sets of pairs
        seen = {frozenset(pair) for pair in t.tokens[s.train, :2].tolist()}
        clean = [i for i in test if frozenset(t.tokens[i, :2].tolist()) not in seen]
    else:
        clean = test
    assert s.orbit_clean.tolist() == clean


def test_splits_never_drift():
    """The stream of RandomState is frozen, so these rows hold on every machine and for
    every version of numpy."""
    add = split(task("add", p=97), 0.4, seed=0)
    assert add.train[:5].tolist() == [6449, 9394, 4069, 5477, 9378]
    assert (len(add.train), len(add.test), len(add.orbit_clean)) == (3764, 5645, 3437)
    assert split(task("add", p=97), 0.3, seed=7).train[:5].tolist() == [
        3062,
        7810,
        6164,
        6554,
        9067,
    ]
    assert split(s5(), 0.5, seed=2**32 - 1).train[:5].tolist() == [
        765,
        7328,
        11552,
        12172,
        768,
    ]


def test_seeds_and_fractions_nest():
    """One seed, two fractions: one order, so the smaller training set is part of the
    larger."""
    t = task("add")
    small, large = split(t, 0.3, 1), split(t, 0.5, 1)
    assert torch.equal(small.train, large.train[: len(small.train)])
    assert not torch.equal(small.train, split(t, 0.3, 2).train)


def test_about_a_share_1_minus_f_of_the_test_set_is_clean():
    s = split(task("add"), 0.4, seed=3)
    # The share is a mean over ~2800 unordered pairs; 0.03 is three times its standard
    # deviation of 0.01.
    assert abs(len(s.orbit_clean) / len(s.test) - 0.6) < 0.03


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        (("plus",), {}, ValueError, "name must be one of 'add', 'sub'.* got 'plus'"),
        (([],), {}, ValueError, "name must be one of"),
        (("add", 1), {}, ValueError, "p must be an integer >= 2, got 1"),
        (("add",), {"p": 97.0}, TypeError, "p must be an integer >= 2, got 97.0"),
        (("add",), {"p": True}, TypeError, "p must be an integer"),
        (("s5",), {"p": -3}, ValueError, "p must be"),
        (
            ("div",),
            {"p": 91},
            ValueError,
            r"p must be prime for task 'div', got 91 = 7 \* 13",
        ),
        (("parity",), {"bits": 0}, ValueError, "bits must be an integer >= 1, got 0"),
        (
            ("parity",),
            {"bits": 21},
            ValueError,
            r"^bits = 21 asks for a table of 2,097,152 sequences, 0.4 GB; at most 0.2 GB$",
        ),
        (
            ("add", 30000),
            {},
            ValueError,
            r"^p = 30000 asks for a table of 900,000,000 sequences, 36.0 GB; at most 1.1 GB$",
        ),
        (("add", 5182), {}, ValueError, "p = 5182 asks for"),
        (
            ("s5", 10**5000),
            {},
            ValueError,
            "p = an integer of about 5001 digits asks for a table of about",
        ),
        (("add",), {"bits": 10**400}, ValueError, "bits = an integer of about 401 digits"),
        (("add",), {"bits": "10"}, TypeError, "bits must be an integer"),
    ],
)
def test_task_errors(args, kwargs, error, message):
    with pytest.raises(error, match=message):
        task(*args, **kwargs)


def test_a_prime_is_checked_before_anything_is_built(monkeypatch):
    def built(*_):
        raise AssertionError("built a table before checking p")

    monkeypatch.setattr("lrdlib.tasks._pairs", built)
    with pytest.raises(ValueError, match="p must be prime"):
        task("div", p=5000)


def test_the_size_of_another_task_is_ignored():
    assert torch.equal(task("s5", p=7).labels, s5().labels)
    assert len(task("parity", p=113, bits=3)) == 8 and len(task("mul", 6, bits=20)) == 36


@pytest.mark.parametrize(
    ("fraction", "seed", "error", "message"),
    [
        (0, 0, ValueError, "fraction must be a finite number > 0 and < 1, got 0"),
        (1.0, 0, ValueError, "fraction must be"),
        (float("nan"), 0, ValueError, "fraction must be"),
        ("0.4", 0, TypeError, "fraction must be"),
        (0.01, 0, ValueError, "both parts non-empty, got 0.01: 0 of 25 rows"),
        (0.99, 0, ValueError, "both parts non-empty, got 0.99: 25 of 25 rows"),
        (0.5, -1, ValueError, "seed must be an integer >= 0, got -1"),
        (0.5, 2**32, ValueError, "seed must be an integer <= 4294967295, got 4294967296"),
        (0.5, 1.0, TypeError, "seed must be"),
    ],
)
def test_split_errors(fraction, seed, error, message):
    with pytest.raises(error, match=message):
        split(task("add", p=5), fraction, seed)


@pytest.mark.parametrize("name", TASKS)
def test_the_size_of_a_table_is_known_without_it(name):
    size, made = table_size(name, p=7, bits=3), task(name, p=7, bits=3)
    assert size == (len(made), made.seq_len, made.vocab, made.classes)


def test_the_largest_table_is_a_gigabyte():
    assert table_size("add", p=5181).rows == 5181**2
    assert table_size("parity", bits=20).rows == 2**20
    for arguments in ({"p": 5182}, {"p": 10**400}, {"bits": 21}, {"bits": 10**400}):
        with pytest.raises(
            ValueError, match=rf"^{next(iter(arguments))} = .* asks for a table"
        ):
            table_size("s5", **arguments)


def test_numpy_integers_do_not_wrap_around():
    small, same = task("poly", p=np.int8(97)), task("poly", p=97)
    assert torch.equal(small.labels, same.labels) and small.commutative == same.commutative
    assert type(small.p) is int and len(task("parity", bits=np.int8(9))) == 512


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tokens", torch.ones(4, 3), "tokens must be an int64 tensor"),
        ("tokens", torch.full((4, 3), 3), r"tokens must be in 0 .. 2, got 3 .. 3"),
        ("labels", torch.arange(3), r"labels must have shape \(4,\)"),
        ("labels", torch.tensor([0, 1, -1, 0]), "labels must be in 0 .. 1, got -1 .. 1"),
        ("swap", torch.tensor([0, 1, 2, 4]), "swap must be in 0 .. 3, got 0 .. 4"),
        ("vocab", 0, "vocab must be an integer >= 1"),
        ("name", None, "name must be of type str"),
    ],
)
def test_a_task_that_is_none(field, value, message):
    with pytest.raises((TypeError, ValueError), match="^" + message):
        replace(task("add", p=2), **{field: value})


def test_a_split_of_no_task_and_no_rows():
    with pytest.raises(TypeError, match=r"^task must be of type Task, got str$"):
        split("add", 0.5, seed=0)
    rows = torch.arange(2)
    with pytest.raises(ValueError, match=r"^test must hold rows"):
        Split(train=rows, test=-rows, orbit_clean=rows)
