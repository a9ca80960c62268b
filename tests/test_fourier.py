"""Fourier measures: against slow sums over the definitions, and on circuits that are
known."""

import cmath
import itertools
import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrdlib.fourier import (
    distance_irrelevance,
    excluded_loss,
    fourier_power,
    gradient_symmetricity,
    key_frequencies,
    logits_of_embeddings,
    restricted_loss,
    sum_component,
    sum_power,
)
from lrdlib.model import ModelConfig, forward, init_params
from lrdlib.tasks import task


def slow_power(E):
    """The definition, one frequency and one column at a time, over all k = 1 .. p - 1,
    folded onto k and p - k."""
    p, d = E.shape
    shares = [0.0] * (p // 2)
    for k in range(1, p):
        for j in range(d):
            mode = sum(
                float(E[a, j]) * cmath.exp(-2j * cmath.pi * k * a / p) for a in range(p)
            )
            shares[min(k, p - k) - 1] += abs(mode) ** 2
    return [share / sum(shares) for share in shares]


@settings(deadline=None, max_examples=30)
@given(p=st.integers(2, 13), d=st.integers(1, 5), seed=st.integers(0, 999))
def test_it_is_the_definition(p, d, seed):
    E = torch.randn(p, d, generator=torch.Generator().manual_seed(seed))
    assert fourier_power(E).tolist() == pytest.approx(slow_power(E), abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    p=st.integers(3, 40),
    seed=st.integers(0, 999),
    shift=st.integers(0, 40),
    scale=st.floats(0.01, 100),
)
def test_shifts_offsets_rotations_and_scales_do_not_change_it(p, seed, shift, scale):
    generator = torch.Generator().manual_seed(seed)
    E, Q = (
        torch.randn(2, p, 4, generator=generator),
        torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q,
    )
    moved = scale * (E.roll(shift, dims=-2) @ Q) + torch.randn(4, generator=generator)
    torch.testing.assert_close(fourier_power(moved), fourier_power(E), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(fourier_power(E).sum(-1), torch.ones(2))


def test_one_frequency_holds_all_power():
    angle = 2 * torch.pi * 5 * torch.arange(97) / 97
    power = fourier_power(torch.stack([angle.cos(), angle.sin()], -1))
    assert power.shape == (48,) and power[4] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e-20, 1e20])
@pytest.mark.parametrize("p", [7, 29, 113])
def test_equal_rows_have_no_share(p, value):
    """0.1 has no exact mean: what is left of it is rounding, and no frequency's."""
    equal = torch.full((p, 3), value)
    assert fourier_power(equal).isnan().all()
    assert fourier_power(equal.double()).isnan().all()


def test_a_small_variance_on_a_long_mean_has_its_shares():
    angle = 2 * torch.pi * 5 * torch.arange(97) / 97
    E = torch.stack([angle.cos(), angle.sin()], -1)
    assert fourier_power(1000 + E)[4] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("measure", [sum_power, distance_irrelevance])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_logits_have_no_variance_to_share(measure, dtype):
    assert measure(torch.full((49, 7), 0.1, dtype=dtype)).isnan().all()
    classes = 0.1 * torch.arange(1, 8, dtype=dtype)
    assert sum_power(classes.expand(49, 7)).isnan().all()  # they tell no pair from another


@pytest.mark.parametrize(
    ("E", "error"),
    [(torch.ones(1, 4), ValueError), (torch.ones(3), ValueError), ([1.0], TypeError)],
)
def test_what_is_no_matrix_is_refused(E, error):
    with pytest.raises(error, match="E must"):
        fourier_power(E)


# ---- key frequencies and Gini


def test_key_frequencies_are_those_above_the_share():
    power = torch.tensor([[0.1, 0.5, 0.2, 0.2], [0.25, 0.25, 0.25, torch.nan]])
    assert key_frequencies(power, share=0.2).tolist() == [
        [False, True, False, False],
        [True, True, True, False],
    ]
    assert not key_frequencies(power)[0].tolist()[
        1
    ]  # twice an even share of 1/4 is 0.5, and 0.5 is not more
    assert not key_frequencies(
        torch.ones(1)
    ).any()  # p = 2 or 3: one frequency, which holds no more than everything


def test_what_has_no_key_frequencies():
    with pytest.raises(TypeError, match="power must"):
        key_frequencies([0.5])
    with pytest.raises(ValueError, match="share must"):
        key_frequencies(torch.ones(3), share=1.0)
    with pytest.raises(ValueError, match="shape"):
        key_frequencies(torch.tensor(1.0))


# ---- restricted and excluded


def slow_component(table, keys):
    """The projection onto each direction cos(w_k (a + b)) and sin(w_k (a + b)) of length 1,
    one at a time."""
    p = table.shape[-1]
    a, b = torch.meshgrid(torch.arange(p), torch.arange(p), indexing="ij")
    found = torch.zeros_like(table)
    for k in keys:
        for wave in (torch.cos, torch.sin):
            direction = wave(2 * torch.pi * k * (a + b).double() / p).flatten()
            if direction.norm() > 1e-6:  # sin is zero at k = p / 2
                direction /= direction.norm()
                found += torch.outer(direction, direction @ table)
    return found


def table_of(p, seed):
    return torch.randn(
        p * p, p, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def mask(p, keys):
    return torch.tensor([k in keys for k in range(1, p // 2 + 1)])


@settings(deadline=None, max_examples=30)
@given(p=st.integers(2, 9), seed=st.integers(0, 99), data=st.data())
def test_the_component_is_the_projection(p, seed, data):
    keys = data.draw(st.sets(st.integers(1, p // 2)))
    table = table_of(p, seed)
    slow, fast = slow_component(table, keys), sum_component(table, mask(p, keys))
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    # a projection
    torch.testing.assert_close(sum_component(fast, mask(p, keys)), fast, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(p=st.integers(2, 9), seed=st.integers(0, 99))
def test_sum_power_is_the_length_of_the_projections(p, seed):
    table = table_of(p, seed)
    centred = table - table.mean(-1, keepdim=True)
    whole = (centred - centred.mean(0)).square().sum()
    slow = [
        slow_component(centred, {k}).square().sum() / whole for k in range(1, p // 2 + 1)
    ]
    assert sum_power(table).tolist() == pytest.approx([float(x) for x in slow], abs=1e-6)
    # no softmax sees it
    torch.testing.assert_close(sum_power(table + torch.randn(p * p, 1)), sum_power(table))
    assert sum_power(table).sum() < 1 + 1e-6


@settings(deadline=None, max_examples=20)
@given(p=st.integers(2, 8), seed=st.integers(0, 99), data=st.data())
def test_the_losses_are_those_of_the_ablated_tables(p, seed, data):
    keys = data.draw(st.sets(st.integers(1, p // 2)))
    table, rows = (
        table_of(p, seed),
        torch.rand(p * p, generator=torch.Generator().manual_seed(seed)) < 0.5,
    )
    rows[0] = True

    def slow_loss(logits):
        pairs = [(a, b) for a in range(p) for b in range(p) if rows[a * p + b]]
        return -sum(
            float(logits[a * p + b].log_softmax(0)[(a + b) % p]) for a, b in pairs
        ) / len(pairs)

    component = slow_component(table, keys)
    restricted, excluded = (
        slow_loss(table.mean(0) + component),
        slow_loss(table - component),
    )
    assert restricted_loss(table, mask(p, keys), rows).item() == pytest.approx(
        restricted, abs=1e-9
    )
    assert excluded_loss(table, mask(p, keys), rows).item() == pytest.approx(
        excluded, abs=1e-9
    )


def test_a_stack_is_measured_run_by_run():
    tables = torch.stack([table_of(7, 0), table_of(7, 1)])
    keys, rows = (
        torch.tensor([[True, False, False], [False, True, True]]),
        torch.rand(2, 49) < 0.5,
    )
    for measure in (restricted_loss, excluded_loss):
        both = measure(tables, keys, rows)
        assert both.tolist() == pytest.approx(
            [measure(tables[i], keys[i], rows[i]).item() for i in (0, 1)]
        )
    assert sum_power(tables).shape == (2, 3) and distance_irrelevance(tables).shape == (2,)


def test_a_network_that_rotates_keeps_its_loss_and_is_lost_without_its_keys():
    p, keys = 11, {2, 5}
    angle = 2 * torch.pi * torch.arange(p) / p
    sums = torch.arange(p * p) // p + torch.arange(p * p) % p
    logits = sum(
        3 * torch.cos(k * (2 * torch.pi * sums[:, None] / p - angle)) for k in keys
    )
    torch.testing.assert_close(sum_power(logits), mask(p, keys) / 2, rtol=0, atol=1e-6)
    assert restricted_loss(logits, mask(p, keys)).item() == pytest.approx(
        excluded_loss(logits, mask(p, set())).item()
    )
    assert excluded_loss(logits, mask(p, keys)).item() == pytest.approx(math.log(p))
    assert restricted_loss(logits, mask(p, {1, 3})).item() == pytest.approx(math.log(p))


@pytest.mark.parametrize("measure", [sum_power, distance_irrelevance])
def test_what_is_no_table_is_refused(measure):
    for shape in ((10, 3), (9, 4), (1, 1)):
        with pytest.raises(ValueError, match="logits must have shape"):
            measure(torch.ones(shape))
    with pytest.raises(TypeError, match="logits must"):
        measure([1.0])


def test_keys_and_rows_of_another_shape_are_refused():
    table = table_of(5, 0)
    for keys in (torch.ones(3, dtype=torch.bool), torch.ones(2)):
        with pytest.raises(ValueError, match="keys must be booleans"):
            restricted_loss(table, keys)
    with pytest.raises(ValueError, match="rows must be booleans"):
        excluded_loss(table, mask(5, {1}), torch.arange(5))


# ---- clock or pizza


def clock(p, k=1):
    """Q_abc = cos(w (a + b - c)) as a function of the circle's points: the product of two
    complex numbers."""
    angle = 2 * torch.pi * k * torch.arange(p).double() / p
    answers = torch.polar(torch.ones(p, dtype=torch.float64), angle)

    def logits_of(X):
        A, B = (torch.complex(X[:, i, 0], X[:, i, 1]) for i in (0, 1))
        return (torch.outer(A * B, answers.conj())).real

    return logits_of, torch.stack([angle.cos(), angle.sin()], -1)


def pizza(p, k=1):
    """Q_abc = |cos(w (a - b) / 2)| cos(w (a + b - c)), computed from E_a + E_b alone."""
    angle = 2 * torch.pi * k * torch.arange(p).double() / p
    answers = torch.polar(torch.ones(p, dtype=torch.float64), angle)

    def logits_of(X):
        # 2 cos(w (a - b) / 2) e^{i w (a + b) / 2}
        M = torch.view_as_complex(X.sum(1).contiguous())
        return torch.outer(M * M / M.abs() / 2, answers.conj()).real

    return logits_of, torch.stack([angle.cos(), angle.sin()], -1)


def all_triples(p):
    return torch.cartesian_prod(*[torch.arange(p)] * 3)


def all_logits(logits_of, E):
    p = len(E)
    return logits_of(E[torch.cartesian_prod(torch.arange(p), torch.arange(p))])


def test_the_pizza_is_symmetric_and_sees_the_distance_only():
    logits_of, E = pizza(11, 3)
    assert gradient_symmetricity(logits_of, E, all_triples(11)).item() == pytest.approx(1)
    assert distance_irrelevance(all_logits(logits_of, E)).item() == pytest.approx(
        0, abs=1e-6
    )


def test_the_clock_has_no_symmetry_on_average():
    logits_of, E = clock(11, 3)
    assert gradient_symmetricity(logits_of, E, all_triples(11)).item() == pytest.approx(
        0, abs=1e-6
    )
    a, b = 4, 9
    one = gradient_symmetricity(logits_of, E, torch.tensor([[a, b, 2]])).item()
    assert one == pytest.approx(math.cos(2 * math.pi * 3 * (a - b) / 11))


@settings(deadline=None, max_examples=20)
@given(p=st.integers(2, 8), seed=st.integers(0, 99))
def test_distance_irrelevance_is_the_definition(p, seed):
    table = table_of(p, seed)
    correct = {
        (i, j): float(table[i * p + j, (i + j) % p]) for i in range(p) for j in range(p)
    }
    within = [
        statistics.pstdev(correct[i, (i + d) % p] for i in range(p)) for d in range(p)
    ]
    slow = statistics.mean(within) / statistics.pstdev(correct.values())
    assert distance_irrelevance(table).item() == pytest.approx(slow, abs=1e-5)
    assert slow <= 1 + 1e-9


def test_distance_irrelevance_is_one_if_only_the_sum_counts():
    p = 9
    sums = torch.arange(p * p) // p + torch.arange(p * p) % p
    heights = torch.randn(p, generator=torch.Generator().manual_seed(0))
    logits = torch.nn.functional.one_hot(sums % p, p) * heights[sums % p].unsqueeze(-1)
    assert distance_irrelevance(logits).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("p", [4, 8])
def test_for_even_p_the_distance_tells_the_parity_of_the_sum(p):
    sums = torch.arange(p * p) // p + torch.arange(p * p) % p
    logits = torch.nn.functional.one_hot(sums % p, p) * (-1.0) ** sums.unsqueeze(-1)
    assert distance_irrelevance(logits).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_model_as_a_function_of_its_embeddings(layers):
    p = 5
    config = ModelConfig(
        vocab=p + 1, seq_len=3, classes=p, d_model=8, heads=2, layers=layers
    )
    params = {
        name: W.double()
        for name, W in init_params(config, torch.Generator().manual_seed(0)).items()
    }
    logits_of, E, data = (
        logits_of_embeddings(params, config),
        params["embedding"],
        task("add", p=p),
    )
    torch.testing.assert_close(
        logits_of(E[data.tokens[:, :2]]), forward(params, data.tokens, config)
    )
    torch.testing.assert_close(
        logits_of(E[data.tokens[3:4, :2]]), forward(params, data.tokens[3:4], config)
    )

    triples, h = torch.tensor([[1, 2, 0], [3, 3, 4]]), 1e-6
    slow = []
    for a, b, c in triples.tolist():
        G = torch.zeros(2, config.d_model, dtype=torch.float64)
        for place, j in itertools.product((0, 1), range(config.d_model)):
            X = E[[a, b]].repeat(2, 1, 1)
            X[0, place, j] += h
            X[1, place, j] -= h
            high, low = logits_of(X)[:, c]
            G[place, j] = (high - low) / (2 * h)
        slow.append(float(torch.cosine_similarity(G[0], G[1], dim=0)))
    assert gradient_symmetricity(logits_of, E, triples).item() == pytest.approx(
        statistics.mean(slow), abs=1e-5
    )
    assert all(W.grad is None for W in params.values())


# --- bad arguments

BAD_MASKS = [
    (None, TypeError),
    ([True, False], TypeError),
    (torch.ones(2, device="meta").bool(), TypeError),
    (torch.ones(2), ValueError),
    (torch.ones(3).bool(), ValueError),
    (torch.tensor(True), ValueError),
    (torch.ones(3, 2).bool(), ValueError),  # of three stacks, for logits of two
]


@pytest.mark.parametrize(("keys", "error"), BAD_MASKS, ids=str)
@pytest.mark.parametrize("measure", [sum_component, restricted_loss, excluded_loss])
def test_what_are_no_keys(measure, keys, error):
    with pytest.raises(error, match=r"^keys must"):
        measure(torch.zeros(2, 25, 5), keys)


@pytest.mark.parametrize("measure", [restricted_loss, excluded_loss])
def test_what_are_no_rows(measure):
    keys = torch.ones(2).bool()
    for rows in ([True], torch.ones(25), torch.ones(24).bool(), torch.ones(3, 25).bool()):
        with pytest.raises((TypeError, ValueError), match=r"^rows must be"):
            measure(torch.zeros(2, 25, 5), keys, rows)
    with pytest.raises(TypeError, match=r"^logits must be a torch.Tensor, got NoneType"):
        measure(None, keys)


def test_what_are_no_shares():
    for x, error in (
        (torch.tensor([1.0, math.inf]), ValueError),
        (torch.zeros(2, dtype=torch.float8_e5m2), TypeError),
        (torch.ones(2, device="meta"), TypeError),
        (torch.tensor(1.0), ValueError),
    ):
        with pytest.raises(error, match=r"^power must"):
            key_frequencies(x)


SMALL = ModelConfig(vocab=6, seq_len=3, classes=5, d_model=4, heads=2, layers=1)
PARAMS = init_params(SMALL, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("triples", "error", "message"),
    [
        ([[0, 1, 2]], TypeError, "triples must be a torch.Tensor"),
        (torch.ones(1, 3), TypeError, "triples must be an int64 tensor"),
        (torch.tensor([0, 1, 2]), ValueError, r"triples must have shape \(n, 3\)"),
        (torch.ones(0, 3).long(), ValueError, r"triples must have shape \(n, 3\), n >= 1"),
        (torch.tensor([[0, 6, 1]]), ValueError, "triples must hold a and b in 0 .. 5"),
        (torch.tensor([[0, 1, -1]]), ValueError, "triples must hold a and b in 0 .. 5"),
        (
            torch.tensor([[0, 1, 5]]),
            ValueError,
            "triples must hold answers c in 0 .. 4, got 5",
        ),
    ],
    ids=str,
)
def test_what_are_no_triples(triples, error, message):
    with pytest.raises(error, match="^" + message):
        gradient_symmetricity(
            logits_of_embeddings(PARAMS, SMALL), PARAMS["embedding"], triples
        )


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (None, "logits_of must be a function"),
        (lambda X: None, r"logits_of\(X\) must be a torch.Tensor"),
        (lambda X: X, "logits_of must return logits"),
        (lambda X: X.detach()[:, 0], "logits_of must return logits .* that depend on X"),
    ],
)
def test_what_gives_no_logits(f, message):
    with pytest.raises((TypeError, ValueError), match="^" + message):
        gradient_symmetricity(f, PARAMS["embedding"], torch.tensor([[0, 1, 2]]))


def test_a_gradient_of_an_embedding_made_in_inference_mode():
    triples = torch.tensor([[0, 1, 2], [3, 3, 1]])
    with torch.inference_mode():
        E = PARAMS["embedding"].clone()
    f = logits_of_embeddings(PARAMS, SMALL)
    expected = gradient_symmetricity(f, PARAMS["embedding"], triples)
    assert gradient_symmetricity(f, E, triples) == expected


def test_models_whose_embeddings_are_not_two_numbers():
    stack = {name: W.unsqueeze(0) for name, W in PARAMS.items()}
    with pytest.raises(ValueError, match=r"^params must be those of one model"):
        logits_of_embeddings(stack, SMALL)
    longer = ModelConfig(vocab=3, seq_len=5, classes=2, d_model=4, heads=2, layers=1)
    with pytest.raises(ValueError, match=r"^config must have seq_len = 3, got 5"):
        logits_of_embeddings(init_params(longer, torch.Generator()), longer)
    with pytest.raises(
        ValueError, match=r"^X must have shape \(n, 2, 4\), got \(7, 3, 4\)"
    ):
        logits_of_embeddings(PARAMS, SMALL)(torch.ones(7, 3, 4))
