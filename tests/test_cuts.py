"""Networks whose matrices are cut: the cut against an SVD by hand, what is left against the
oracles' forward pass, the file that a command goes on from, and the picture."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from oracles import forward as slow_forward
from oracles import matrix_svd

from lrdlib.__main__ import main
from lrdlib.commands import cuts as command
from lrdlib.evidence import cuts as evidence
from lrdlib.evidence.cuts import (
    GROUPS,
    NETWORKS,
    PAIRS,
    accuracies,
    accuracy,
    cut,
    cut_matrices,
    load_cuts,
    save_cuts,
    trained_and_cut,
)
from lrdlib.figures.cuts import cuts_figure
from lrdlib.figures.sphinx import problems
from lrdlib.model import MATRIX_ROLES, forward, role
from lrdlib.spectral import by_cores, truncated
from lrdlib.tasks import split
from lrdlib.training.config import TrainConfig
from lrdlib.training.train import Training

TINY = TrainConfig(
    p=7, d_model=8, heads=2, layers=2, fraction=0.6, batch_size=16, lr=1e-2, seed=3
)
TINY = replace(TINY, steps=60, eval_every=20, rule="l2", weight_decay=0.1)
SMALL = {"a": TINY, "b": replace(TINY, rule="lrd", weight_decay=0.01)}


@pytest.fixture(scope="module")
def trained():
    """The tiny network's parameters, without a runs axis, and its last record."""
    training = Training([TINY])
    record = list(training)[-1]
    return {name: W[0].detach() for name, W in training.params.items()}, record


@pytest.fixture(scope="module")
def small():
    return {name: trained_and_cut(config) for name, config in SMALL.items()}


@pytest.fixture(scope="module")
def recorded(request):
    return request.config.rootpath / "book" / "runs" / "cuts" / "networks.npz"


# ---- the cut


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
@pytest.mark.parametrize("k", [0, 1, 3, 4, 5, 9])
def test_a_cut_keeps_the_largest_singular_values(shape, k):
    W = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    U, S, Vh, _ = matrix_svd(W)
    expected = sum(
        (S[i] * np.outer(U[:, i], Vh[i]) for i in range(min(k, len(S)))), np.zeros(shape)
    )
    found = cut(W, k)
    assert found.dtype == W.dtype
    assert np.allclose(found.numpy(), expected, atol=1e-6)
    lost = np.linalg.norm(W.numpy() - found.numpy())
    assert lost == pytest.approx(np.sqrt(np.sum(S[k:] ** 2)), abs=1e-5)


def test_a_stack_is_cut_matrix_by_matrix():
    W = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(cut(W, 2)[1, 2], cut(W[1, 2], 2))


def test_every_matrix_of_a_stack_has_a_rank_of_its_own():
    W = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(2))
    ranks = torch.tensor([0, 2, 4]).view(-1, 1, 1)
    for X in (W, W.mT):
        found = truncated(X, ranks)
        for i, j in product(range(2), range(3)):
            expected = cut(X[i, j], int(ranks[j]))
            assert torch.allclose(found[i, j], expected, atol=1e-6)


def test_a_cut_of_any_size_and_of_few_bits():
    """Neither squares that overflow nor half precision harm it."""
    W = torch.randn(5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = cut(W, 2)
    for factor in (1e200, 1e-200):
        assert torch.allclose(cut(factor * W, 2) / factor, expected, rtol=1e-12)
    half = cut(W.bfloat16(), 2)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.double(), cut(W.bfloat16().double(), 2), rtol=2**-8)
    assert torch.equal(cut(0 * W, 2), 0 * W)


def test_a_matrix_that_is_not_finite_is_no_number_and_harms_no_other():
    W = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(4))
    W[1, 2, 3] = torch.inf
    found = truncated(W, torch.tensor(2))
    assert found[1].isnan().all()
    assert torch.equal(found[0], cut(W[0], 2)) and torch.equal(found[2], cut(W[2], 2))


@pytest.mark.parametrize("matrices", [(), (1,), (2, 3), (40,)])
def test_the_cores_share_eigenvectors(matrices):
    """As for a GPU: to the bit those of one call."""
    X = torch.randn(*matrices, 6, 6, generator=torch.Generator().manual_seed(5)).double()
    assert torch.equal(by_cores(X @ X.mT), torch.linalg.eigh(X @ X.mT).eigenvectors)


def test_only_the_named_roles_are_cut(trained):
    params, _ = trained
    found = cut_matrices(params, GROUPS["V, O"], 2)
    for name, W in params.items():
        changed = role(name) in ("value", "output")
        assert torch.equal(found[name], W) != changed, name
        if changed:
            assert torch.linalg.matrix_rank(found[name], rtol=1e-5) == 2


def test_full_rank_changes_nothing(trained):
    params, _ = trained
    found = cut_matrices(params, MATRIX_ROLES, TINY.d_model)
    assert all(torch.equal(found[name], W) for name, W in params.items())


def test_the_norm_of_cut_queries_and_keys_is_nothing_to_the_network(trained):
    params = {name: W.double() for name, W in trained[0].items()}
    task = TINY.data()

    def logits(group, norms_kept):
        found = cut_matrices(params, GROUPS[group], 2)
        if norms_kept:
            found = {name: W * params[name].norm() / W.norm() for name, W in found.items()}
        return forward(found, task.tokens, TINY.model(task))

    scale = logits("Q, K", False).abs().max()
    apart = {
        group: float((logits(group, True) - logits(group, False)).abs().max() / scale)
        for group in ("Q, K", "V", "MLP")
    }
    assert apart["Q, K"] < 1e-4 < 1e-2 < min(apart["V"], apart["MLP"])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: cut(torch.eye(3), -1), ValueError, "k must"),
        (lambda: cut(torch.eye(3), 1.5), TypeError, "k must"),
        (lambda: cut(torch.ones(3), 1), ValueError, "W must"),
        (lambda: cut(np.eye(3), 1), TypeError, "W must"),
        (lambda: cut_matrices({}, ["head"], 1), ValueError, "roles must"),
        (lambda: cut_matrices([], ["query"], 1), TypeError, "params must"),
        (lambda: accuracy({}, TINY), ValueError, "params must"),
        (lambda: accuracy({}, 3), TypeError, "config must"),
        (
            lambda: accuracy({}, replace(TINY, attention="uniform")),
            ValueError,
            "attention must",
        ),
        (lambda: trained_and_cut("LRD"), TypeError, "config must"),
    ],
)
def test_what_cannot_be_cut_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()


# ---- what is left


def test_accuracies_are_those_of_the_slow_network_with_matrices_cut_by_hand(trained):
    params, _ = trained
    task = TINY.data()
    parts = split(task, TINY.fraction, TINY.seed)
    ranks = [0, 1, 3, 8]
    found = accuracies(params, TINY, {"mlp": ("up", "down"), "q": ("query",)}, ranks)
    assert found.shape == (2, len(ranks), len(PAIRS))
    for i, roles in enumerate((("up", "down"), ("query",))):
        for j, k in enumerate(ranks):
            slow = {}
            for name, W in params.items():
                slow[name] = W
                if role(name) in roles:
                    U, S, Vh, _ = matrix_svd(W)
                    slow[name] = torch.from_numpy(U[:, :k] @ np.diag(S[:k]) @ Vh[:k])
            logits = slow_forward(slow, task.tokens, heads=2, layers=2, qk_norm="head")
            right = (logits.argmax(-1) == task.labels).numpy()
            for l, pairs in enumerate(PAIRS):  # noqa: E741
                expected = right[getattr(parts, pairs).numpy()].mean()
                assert found[i, j, l] == pytest.approx(expected), (roles, k, pairs)


def test_uncut_it_is_what_training_recorded(small, trained):
    record = trained[1]
    assert small["a"].recorded["train"] == record.metrics["train_accuracy"][0]
    for c in small.values():
        for i, pairs in enumerate(PAIRS):
            assert set(c.accuracy[:, -1, i].tolist()) == {np.float32(c.recorded[pairs])}
        assert c.recorded["train"] > 0.5  # it has learnt something to lose
        assert c.accuracy[list(GROUPS).index("all"), 0, 0] < 0.5


def test_its_spectra_are_those_of_the_trained_matrices(small, trained):
    params, _ = trained
    assert {role(name) for name in small["a"].spectra} == set(MATRIX_ROLES)
    for name, S in small["a"].spectra.items():
        assert np.allclose(S, matrix_svd(params[name])[1], rtol=1e-5, atol=1e-6), name


def test_the_rank_that_is_needed_counts_every_larger_rank(small):
    accuracy_ = np.ones((len(GROUPS), 9, 2), np.float32)
    accuracy_[0, :, 0] = [0.1, 0.9, 0.96, 0.2, 0.951, 1, 1, 1, 1]
    accuracy_[1, :, 1] = np.linspace(0, 0.8, 9)
    c = replace(small["a"], accuracy=accuracy_)
    first, second = list(GROUPS)[:2]
    assert c.needed(first, "train") == 4 and c.needed(first, "train", 0.9) == 4
    assert c.needed(first, "train", 0.15) == 1
    new = "orbit_clean"
    assert c.needed(second, new) == 8 and c.needed(second, new, 0.5) == 4
    for right, pairs in ((0.4, "train"), (0.6, new)):  # by what it has learnt
        one = replace(c, recorded={"train": 1.0, new: right})
        assert one.learnt == pairs and one.needed(second) == c.needed(second, pairs)
    assert c.needed("all") == 0
    with pytest.raises(ValueError, match="group must"):
        c.needed("head")
    with pytest.raises(ValueError, match="pairs must"):
        c.needed("Q", "tests")
    with pytest.raises(ValueError, match="share must"):
        c.needed("Q", share=0)


# ---- the file, and the command


def test_a_file_gives_back_what_was_written(small, tmp_path):
    c = replace(small["b"], step=float("inf"))
    save_cuts({"a": small["a"], "b": c}, tmp_path / "x.npz", {"command": "here"})
    found = load_cuts(tmp_path / "x.npz")
    assert list(found) == ["a", "b"] and found["b"].step == float("inf")
    for name, one in {"a": small["a"], "b": c}.items():
        assert TrainConfig(**found[name].config) == SMALL[name]
        assert found[name].recorded == one.recorded
        assert np.array_equal(found[name].accuracy, one.accuracy)
        assert set(found[name].spectra) == set(one.spectra)


@pytest.mark.parametrize(
    "part",
    [
        {"accuracy": np.ones((3, 9, 2))},
        {"accuracy": np.ones((8, 8, 2))},
        {"accuracy": np.ones((8, 9, 2), int)},
        {"accuracy": [1.0]},
        {"recorded": {"train": 1.0}},
        {"recorded": {"train": 1.0, "orbit_clean": "1"}},
        {"spectra": {}},
        {"spectra": {f"{i}.{name}": np.ones(7) for i in (0, 1) for name in MATRIX_ROLES}},
        {"config": {}},
        {"config": None},
    ],
)
def test_parts_of_another_shape_are_refused(small, part):
    (name,) = part
    words = "accuracy" if part == {"config": {}} else name  # another model's
    with pytest.raises((TypeError, ValueError), match=f"^{words} must"):
        replace(small["a"], **part)


def test_the_command_goes_on_from_its_file(tmp_path, monkeypatch, capsys):
    out, trained = tmp_path / "deep" / "cuts.npz", []
    monkeypatch.setattr(command, "NETWORKS", SMALL)
    monkeypatch.setattr(
        command, "trained_and_cut", lambda c: trained.append(c) or trained_and_cut(c)
    )
    line = ["cuts", "--out", str(out)]
    assert main([*line, "--limit", "1"]) == 0
    assert trained == [SMALL["a"]] and list(load_cuts(out)) == ["a"]
    assert main(line) == 0
    assert trained == list(SMALL.values()) and list(load_cuts(out)) == ["a", "b"]
    assert main(line) == 0
    assert len(trained) == 2
    said = capsys.readouterr().out
    assert "rank needed: Q " in said.splitlines()[-1]


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_a_file_that_is_no_table_is_refused_and_kept(tmp_path, capsys, small, content):
    out = tmp_path / "cuts.npz"
    if content is None:  # of other groups than these
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evidence, "GROUPS", dict.fromkeys("XYZABCDE", ("query",)))
            save_cuts(small, out, {})
    else:
        out.write_bytes(content)
    before = out.read_bytes()
    assert main(["cuts", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "--out must be a new file or one that `cuts` wrote" in said
    assert len(said.splitlines()) == 1 and out.read_bytes() == before


def test_a_place_that_cannot_be_written_to_is_refused_before_training(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(command, "trained_and_cut", lambda c: pytest.fail("trained"))
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file" / "x.npz", tmp_path / ("n" * 300) / "x.npz"):
        assert main(["cuts", "--out", str(out)]) == 2
        said = capsys.readouterr().err.replace("networks", "\n").splitlines()
        assert "--out" in said[-1] and "must be" in said[-1], said


@pytest.mark.parametrize("bad", [["--limit", "0"], ["--limit", "-1"]])
def test_a_bad_limit_is_refused(tmp_path, capsys, bad):
    assert main(["cuts", "--out", str(tmp_path / "x.npz"), *bad]) == 2
    assert "--limit must be an integer >= 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_book_s_table_is_of_these_networks(recorded):
    found = load_cuts(recorded)
    assert {name: TrainConfig(**c.config) for name, c in found.items()} == NETWORKS
    for c in found.values():
        for i, pairs in enumerate(PAIRS):
            assert np.allclose(c.accuracy[:, -1, i], c.recorded[pairs], atol=1e-6)
    assert recorded.stat().st_size < 60_000


# ---- the picture


def test_every_stop_shows_every_accuracy_at_its_rank(small):
    fig = cuts_figure(small, start=2)
    figure = json.loads(fig.to_json(), parse_constant=lambda c: pytest.fail(f"{c}"))
    assert not problems(figure)
    assert [frame.name for frame in fig.frames] == [str(k) for k in range(9)]
    assert fig.layout.sliders[0].active == 2
    for k, frame in enumerate(fig.frames):
        above, below = frame.data[: len(small)], frame.data[len(small) :]
        for pairs, bars in (("orbit_clean", above), ("train", below)):
            for c, bar in zip(small.values(), bars, strict=True):
                expected = c.accuracy[:, k, PAIRS.index(pairs)]
                assert bar.y == pytest.approx(expected, abs=1e-4)
        assert frame.traces == tuple(range(len(fig.data)))
    for drawn, moved in zip(fig.data, fig.frames[2].data, strict=True):
        assert drawn.y == moved.y and tuple(drawn.x) == tuple(GROUPS)
    names = [bar.name for bar in fig.data]
    assert names == [*small, *small]
    assert [bar.yaxis for bar in fig.data] == ["y"] * len(small) + ["y2"] * len(small)


def test_the_words_say_what_is_left(small):
    alt = cuts_figure(small, start=2).layout.meta["alt"]
    for name, c in small.items():
        pairs = "orbit_clean" if c.recorded["orbit_clean"] > 0.5 else "train"
        left = c.accuracy[list(GROUPS).index("MLP"), 2, PAIRS.index(pairs)]
        said = alt.split(f"{name}, {pairs.replace('_', '-')} pairs: ")[1]
        assert f"MLP {left:.0%} ({c.needed('MLP', pairs)})" in said.split(". ")[0]


def test_two_networks_of_one_rule_are_told_apart(small):
    fig = cuts_figure({"x": small["a"], "y": small["a"], "z": small["b"]})
    x, y, z = (bar.marker for bar in fig.data[:3])
    assert x.color == x.line.color == y.line.color != y.color
    assert z.color == z.line.color != x.color


def test_what_cannot_be_drawn_is_one_clear_error(small):
    c = small["a"]
    for cuts, start, error, words in (
        ([c], 1, TypeError, "cuts must"),
        ({"a": 3}, 1, TypeError, r"cuts\['a'\] must"),
        ({}, 1, ValueError, "cuts must"),
        ({str(i): c for i in range(4)}, 1, ValueError, "cuts must"),
        (small, 99, ValueError, "start must"),
    ):
        with pytest.raises(error, match=words):
            cuts_figure(cuts, start=start)
