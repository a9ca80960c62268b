"""LRD on a small language model: what is trained is what the plan says, and a run is the
same whenever it is made."""

import json
import math
import sys

import pytest
import torch
from torch import nn

from lrdlib.__main__ import main
from lrdlib.decay import low_rank_decay_
from lrdlib.evidence import language
from lrdlib.evidence.language import (
    ARMS,
    BATCH,
    CONTEXT,
    HEADS,
    MODELS,
    PLAN,
    Arm,
    CharacterModel,
    Outcome,
    batches,
    decayed,
    encoded,
    loss_of,
    outcome,
    per_head,
    rows,
    table,
    train_on,
)
from lrdlib.matrices import select
from lrdlib.optimizer import LowRankDecay

TEXT = "the whale is white, and the sea is wide. " * 40


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """So little is held out that a text of 1,640 characters is enough."""
    monkeypatch.setattr(language, "HELD_OUT", 300)


def test_no_letter_sees_a_later_one():
    model = CharacterModel(20)
    tokens = torch.randint(20, (1, 12))
    changed = tokens.clone()
    changed[0, 8] = (tokens[0, 8] + 1) % 20
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :8], after[:, :8])
    assert not torch.allclose(before[:, 8:], after[:, 8:])


def test_queries_and_keys_may_be_of_any_size_and_values_not():
    """QK-Norm: what they compute does not feel the size of W_Q and W_K."""
    model, tokens = CharacterModel(20), torch.randint(20, (2, 12))
    before = model(tokens)
    with torch.no_grad():
        for name in ("q_proj", "k_proj"):
            getattr(model.blocks[0].attn, name).weight.mul_(3.0)
    torch.testing.assert_close(model(tokens), before, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        model.blocks[0].attn.v_proj.weight.mul_(3.0)
    assert not torch.allclose(model(tokens), before, rtol=1e-2)


def test_the_loss_is_that_of_the_next_letter():
    """log(letters) where all are as likely; torch's own sum otherwise."""

    class Flat(nn.Module):
        def forward(self, tokens):
            return torch.zeros(*tokens.shape, 7)

    pieces = torch.randint(7, (3, 9))
    assert math.isclose(loss_of(Flat(), pieces).item(), math.log(7), rel_tol=1e-6)
    model = CharacterModel(7)
    logs = model(pieces[:, :-1]).log_softmax(-1)
    slow = [-logs[b, i, pieces[b, i + 1]] for b in range(3) for i in range(8)]
    torch.testing.assert_close(loss_of(model, pieces), torch.stack(slow).mean())


def test_batches_are_pieces_of_the_text_and_the_same_for_one_seed():
    tokens = encoded(TEXT)
    first, again, other = ([*batches(tokens, seed, 3)] for seed in (5, 5, 6))
    assert all(map(torch.equal, first, again)) and not torch.equal(first[0], other[0])
    assert first[0].shape == (BATCH, CONTEXT + 1)
    letters = sorted(set(TEXT))
    assert all("".join(letters[i] for i in piece) in TEXT for piece in first[0].tolist())


@pytest.mark.parametrize("arm", [Arm("none", 0.0), Arm("L2", 0.5), Arm("LRD", 0.5)])
def test_a_step_of_an_arm_is_that_of_a_loop_by_hand(arm):
    """AdamW without decay, then (1 - lr wd) W first for L2, or the decay last for LRD."""
    torch.manual_seed(0)
    model, plain = CharacterModel(20), CharacterModel(20)
    plain.load_state_dict(model.state_dict())
    optimizer = decayed(model, arm)
    by_hand = torch.optim.AdamW(
        plain.parameters(), lr=language.LR, betas=(0.9, 0.98), weight_decay=0.0
    )
    pieces = torch.randint(20, (4, 17))
    for a_model in (model, plain):
        loss_of(a_model, pieces).backward()
    optimizer.step()
    blocks = select(plain, "attention+mlp")
    if arm.rule == "L2":
        for W in blocks.values():
            W.data.mul_(1 - language.LR * arm.weight_decay)
    by_hand.step()
    if arm.rule == "LRD":
        LowRankDecay(blocks, weight_decay=arm.weight_decay).step(lr=language.LR)
    for W, V in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(W, V, rtol=1e-5, atol=1e-7)


def test_per_head_each_head_is_a_matrix():
    torch.manual_seed(0)
    model = CharacterModel(20).double()
    before = {name: W.clone() for name, W in model.state_dict().items()}
    blocks = select(model, "attention+mlp")
    groups = per_head(blocks)
    assert sorted(n for g in groups for n, _ in g["params"]) == sorted(blocks)
    LowRankDecay(groups, weight_decay=0.1).step(lr=1.0)
    for name, W in blocks.items():
        parts = (before[name],)
        if "attn" in name:
            parts = before[name].chunk(HEADS, dim=1 if "o_proj" in name else 0)
        slow = [low_rank_decay_(part.clone(), weight_decay=0.1) for part in parts]
        slow = torch.cat(slow, dim=1 if "o_proj" in name else 0)
        torch.testing.assert_close(W.detach(), slow, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_a_run_is_the_same_again_and_learns(name):
    if name == "qwen3":
        pytest.importorskip("transformers")
    state = torch.random.get_rng_state()
    first, again = (train_on(TEXT, name, Arm("LRD", 0.1), 0, steps=12) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.validation == again.validation and first.ranks == again.ranks
    assert first.validation < math.log(len(set(TEXT)))
    assert first == outcome(json.loads(json.dumps(first.row())))


def test_a_run_is_that_of_a_loop_by_hand(monkeypatch):
    """Its seed's weights and its batches, of what is not held out; the rates; and what is
    measured at the end."""
    monkeypatch.setattr(language, "WARMUP", 2)
    arm, root = Arm("L2", 0.5), math.sqrt(2)
    rates = (1 / 2, (2 + root) / 4, 1 / 2, (2 - root) / 4)  # a rise, then the cosine
    found = train_on(TEXT, "characters", arm, 3, steps=4)
    tokens = encoded(TEXT)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = CharacterModel(len(set(TEXT)))
    optimizer = decayed(model, arm)
    for rate, pieces in zip(rates, batches(tokens[:-300], 3, 4), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = language.LR * rate
        optimizer.zero_grad()
        loss = loss_of(model, pieces)
        loss.backward()
        optimizer.step()
    assert found.training == pytest.approx(loss.item(), rel=1e-6)
    held_out = tokens[-300:][: 4 * (CONTEXT + 1)].view(4, -1)
    with torch.no_grad():
        assert found.validation == pytest.approx(loss_of(model, held_out).item(), rel=1e-6)
        for word in ("qk", "vo", "mlp"):
            matrices = select(model, word).values()
            norms = torch.stack([W.norm() for W in matrices])
            largest = torch.stack([torch.linalg.matrix_norm(W, 2) for W in matrices])
            ranks = (norms / largest) ** 2
            assert found.norms[word] == pytest.approx(norms.mean().item(), rel=1e-5)
            assert found.ranks[word] == pytest.approx(ranks.mean().item(), rel=1e-4)


def test_strong_decay_lowers_ranks_and_norms():
    weak, strong = (
        train_on(TEXT, "characters", Arm("LRD", x), 0, steps=30) for x in (0, 10)
    )
    for word in ("qk", "vo", "mlp"):
        assert strong.ranks[word] < weak.ranks[word]
        assert strong.norms[word] < weak.norms[word]


def test_the_plan_has_each_arm_once_and_reaches_far_below_the_window():
    assert len(set(PLAN)) == len(PLAN) and set(ARMS) == {a for m, a in PLAN if m != "qwen3"}
    strengths = [language.LR * arm.weight_decay for arm in ARMS if arm.rule == "LRD"]
    assert min(strengths) < 1e-5 and max(strengths) >= 3e-3
    assert 64 % HEADS == 0


LRD = Arm("LRD", 0.1)


def of(validation: float, seed: int, arm: Arm = LRD, rank: float = 2.0) -> Outcome:
    ranks = dict.fromkeys(("qk", "vo", "mlp"), rank)
    return Outcome("characters", arm, seed, 1, validation, 0.0, ranks, {}, 0.0)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [((1.0, 1.9), "better"), ((1.1, 2.1), "worse"), ((1.0, 2.1), "undecided")],
)
def test_an_arm_is_judged_seed_by_seed(losses, expected):
    none = [of(1.05, 0, ARMS[0], 4.0), of(2.0, 1, ARMS[0], 4.0)]
    (row,) = rows([*none, *(of(x, seed) for seed, x in enumerate(losses)), of(9.0, 2)])
    assert (row.verdict, row.seeds, row.arm) == (expected, 2, LRD)
    apart = [losses[0] - 1.05, losses[1] - 2.0]
    assert (row.least, row.most) == (min(apart), max(apart))
    assert row.more == pytest.approx(sum(apart) / 2) and row.ranks["vo"] == 0.5
    assert "| characters | LRD | 0.1 | 3e-04 |" in table([*none, of(1.0, 0)])
    assert "provisional" in table([*none, of(1.0, 0)])


def test_the_command_goes_on_from_what_it_has(tmp_path, monkeypatch, capsys):
    text, out = tmp_path / "text.txt", tmp_path / "out.json"
    text.write_text(TEXT, encoding="utf-8")
    command = ["language", "--text", str(text), "--out", str(out), "--steps", "2"]
    monkeypatch.setattr(sys, "argv", ["lrdlib", *command])  # as a shell calls it
    assert main([*command, "--limit", "1"]) == 0
    first = json.loads(out.read_text(encoding="utf-8"))
    assert [row["seed"] for row in first["outcomes"]] == [0, 1, 2]
    assert "language" in first["provenance"]["command"]
    trained = []
    monkeypatch.setattr(
        "lrdlib.commands.language.train_on",
        lambda text, name, arm, seed, steps: trained.append(arm) or of(1.0, seed),
    )
    assert main([*command, "--limit", "2"]) == 0
    assert trained == [ARMS[1]] * 3
    out.write_text('{"outcomes": [{}]}', encoding="utf-8")
    assert main(command) == 2
    assert "must be a file that `language` wrote" in capsys.readouterr().err
