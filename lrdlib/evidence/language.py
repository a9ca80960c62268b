"""A small model of a real language under no decay, L2 and LRD: what LRD does outside the
tasks that grok.

The text is prose, the loss is measured on prose that was not trained on, and the decay is
attached to a training loop as anyone's would be. It is a decoder with RMSNorm and QK-Norm
per head, on characters; and beside it a Qwen3 of the same size, as transformers builds it.
The plan (`PLAN`, `SEEDS`) and the rule of judging (`verdict`) were written on 28 November
2026, before any run that counts.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lrdlib._check import check_integer
from lrdlib.evidence.results import markdown_table
from lrdlib.matrices import GROUPS, select
from lrdlib.optimizer import LowRankDecay
from lrdlib.spectral import singular_values, stable_rank

SEEDS = (0, 1, 2)
LR, WARMUP, CONTEXT, BATCH = 3e-3, 100, 64, 32
WIDTH, DEPTH, HEADS = 64, 2, 4
HELD_OUT = 20_000  # characters at the end of the text, for the validation loss
ALL = "attention+mlp"


@dataclass(frozen=True, order=True)
class Arm:
    """A rule for the block matrices, and its weight_decay, which is multiplied by the
    learning rate."""

    rule: str  # "none", "L2", "LRD", "LRD per head"
    weight_decay: float


# From far below what modular addition needs (weight_decay 2 to 30 at a learning rate of
# 1e-3 to 3e-3) up to it.
ARMS = (
    Arm("none", 0.0),
    *(Arm("L2", x) for x in (0.1, 1.0, 10.0)),
    *(Arm("LRD", x) for x in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)),
    *(Arm("LRD per head", x) for x in (0.01, 0.1, 1.0)),
)


# what is trained, in this order: (model, arm)
PLAN = (
    *(("characters", arm) for arm in ARMS),
    ("qwen3", Arm("none", 0.0)),
    *(("qwen3", Arm("L2", x)) for x in (0.1, 1.0)),
    *(("qwen3", Arm("LRD", x)) for x in (0.01, 0.1, 1.0)),
)


@dataclass(frozen=True)
class Outcome:
    """What a run ended with."""

    model: str  # "characters" (`CharacterModel`) or "qwen3"
    arm: Arm
    seed: int
    steps: int
    validation: float  # cross-entropy in nats per character, on the held-out text
    training: float  # the same, the mean of the last hundredth of the steps
    ranks: dict[str, float]  # mean stable rank, by qk, vo, mlp
    norms: dict[str, float]  # mean Frobenius norm, by qk, vo, mlp
    seconds: float  # of CPU, of the whole run

    def row(self) -> dict:
        """As plain data, for JSON."""
        return asdict(self)


def outcome(row: Mapping) -> Outcome:
    """The outcome of which `row` gave this."""
    return Outcome(**{**row, "arm": Arm(**row["arm"])})


class Attention(nn.Module):
    """Causal attention of which each head's queries and keys are normalised (QK-Norm)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.q_norm = nn.RMSNorm(width // HEADS)
        self.k_norm = nn.RMSNorm(width // HEADS)

    def forward(self, x: Tensor) -> Tensor:
        def by_head(W: nn.Module) -> Tensor:
            return W(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)  # (B, heads, T, d_head)

        q, k = self.q_norm(by_head(self.q_proj)), self.k_norm(by_head(self.k_proj))
        seen = F.scaled_dot_product_attention(q, k, by_head(self.v_proj), is_causal=True)
        return self.o_proj(seen.transpose(1, 2).flatten(2))  # (B, T, width)


class Block(nn.Module):
    """Attention and an MLP, each behind an RMSNorm and beside the residual stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.RMSNorm(width), nn.RMSNorm(width)])
        self.attn = Attention(width)
        self.up_proj = nn.Linear(width, 4 * width, bias=False)
        self.down_proj = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norms[0](x))  # (B, T, width)
        return x + self.down_proj(F.gelu(self.up_proj(self.norms[1](x))))


class CharacterModel(nn.Module):
    """The probabilities of the next character, for each place of a text."""

    def __init__(self, letters: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(letters, WIDTH)
        self.position = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block(WIDTH) for _ in range(DEPTH))
        self.norm = nn.RMSNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, letters, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position.weight[: tokens.shape[-1]]
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.norm(x))  # (B, T, letters)


def qwen3(letters: int) -> nn.Module:
    """A Qwen3 of the size of `CharacterModel`, with random weights; two heads of queries
    share keys and values, and the MLP is gated. Needs transformers."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=letters,
            hidden_size=WIDTH,
            intermediate_size=8 * WIDTH // 3,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS // 2,
            head_dim=WIDTH // HEADS,
            max_position_embeddings=CONTEXT,
            initializer_range=WIDTH**-0.5,
            tie_word_embeddings=False,
            use_cache=False,
        )
    )


MODELS = {"characters": CharacterModel, "qwen3": qwen3}


def encoded(text: str) -> Tensor:
    """The text as numbers, in the order of its alphabet.

    >>> encoded("abca").tolist()
    [0, 1, 2, 0]
    """
    order = {letter: i for i, letter in enumerate(sorted(set(text)))}
    return torch.tensor([order[letter] for letter in text])


def loss_of(model: nn.Module, pieces: Tensor) -> Tensor:
    """The mean cross-entropy of each next character of pieces (B, T + 1)."""
    given = model(pieces[:, :-1])
    logits = getattr(given, "logits", given)  # (B, T, letters); transformers wraps them
    return F.cross_entropy(logits.flatten(0, 1), pieces[:, 1:].flatten())


def per_head(blocks: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Parameter groups in which each head's part of an attention matrix of `CharacterModel`
    is a matrix of its own: rows of W_Q, W_K and W_V, columns of W_O."""
    outputs = [(n, W) for n, W in blocks.items() if "o_proj" in n]
    inputs = [(n, W) for n, W in blocks.items() if "attn" in n and "o_proj" not in n]
    return [
        {"params": inputs, "parts": HEADS},
        {"params": outputs, "parts": HEADS, "dim": 1},
        {"params": [(n, W) for n, W in blocks.items() if "attn" not in n]},
    ]


def decayed(model: nn.Module, arm: Arm) -> torch.optim.Optimizer:
    """AdamW on all parameters, with the arm's decay of the block matrices."""
    blocks = select(model, ALL)
    others = [W for name, W in model.named_parameters() if name not in blocks]
    l2 = arm.weight_decay if arm.rule == "L2" else 0.0
    groups: list[dict[str, Any]] = [
        {"params": list(blocks.values()), "weight_decay": l2},
        {"params": others},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.98), weight_decay=0.0)
    if arm.rule in ("none", "L2"):
        return optimizer
    matrices = (
        per_head(blocks)
        if arm.rule == "LRD per head"
        else [{"params": list(blocks.items())}]
    )
    LowRankDecay(matrices, weight_decay=arm.weight_decay).attach(optimizer)
    return optimizer


def train_on(text: str, name: str, arm: Arm, seed: int, steps: int = 1500) -> Outcome:
    """Train a model of MODELS on all of the text but its last HELD_OUT characters.

    The learning rate rises over WARMUP steps and falls along a cosine to 0. A seed gives
    all arms the same first weights and the same batches.
    """
    check_integer("steps", steps)
    tokens = encoded(text)
    seen, held_out = tokens[:-HELD_OUT], tokens[-HELD_OUT:]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MODELS[name](int(tokens.max()) + 1)
    optimizer = decayed(model, arm)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda k: min((k + 1) / WARMUP, (1 + math.cos(math.pi * k / steps)) / 2),
    )
    began, losses = time.process_time(), []
    for pieces in batches(seen, seed, steps):
        loss = loss_of(model, pieces)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    last = losses[-max(1, steps // 100) :]
    with torch.no_grad():
        whole = held_out[: len(held_out) // (CONTEXT + 1) * (CONTEXT + 1)]
        validation = loss_of(model, whole.view(-1, CONTEXT + 1)).item()
        spectra = {
            word: [singular_values(W) for W in select(model, word).values()]
            for word in GROUPS
        }
    return Outcome(
        name,
        arm,
        seed,
        steps,
        validation,
        sum(last) / len(last),
        {
            word: fmean([float(stable_rank(S)) for S in all_of])
            for word, all_of in spectra.items()
        },
        {
            word: fmean([float(S.norm()) for S in all_of])
            for word, all_of in spectra.items()
        },
        time.process_time() - began,
    )


def batches(tokens: Tensor, seed: int, steps: int) -> Iterator[Tensor]:
    """Pieces (BATCH, CONTEXT + 1) of the tokens, from random places."""
    generator = torch.Generator().manual_seed(seed)
    pieces = tokens.unfold(0, CONTEXT + 1, 1)  # (places, CONTEXT + 1), a view
    for _ in range(steps):
        yield pieces[torch.randint(len(pieces), (BATCH,), generator=generator)]


def recorded(path: Path) -> list[Outcome]:
    """The outcomes in a file that `python -m lrdlib language` wrote. Raises ValueError for
    another file."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["outcomes"]
        return [outcome(row) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"path must be a file that `language` wrote, got {str(path)!r}: {error}"
        ) from error


@dataclass(frozen=True)
class Row:
    """An arm against no decay, over the seeds that both have."""

    model: str
    arm: Arm
    seeds: int
    more: float  # mean difference of the validation losses: above 0 is worse
    least: float  # the smallest and the largest of them
    most: float
    verdict: str
    ranks: dict[str, float]  # mean stable rank over that without decay, by qk, vo, mlp


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """A row for each arm that was run, in the order of PLAN; none for "none" itself."""
    found = []
    for model, arm in PLAN:
        base = {o.seed: o for o in outcomes if (o.model, o.arm.rule) == (model, "none")}
        both = [
            (o, base[o.seed])
            for o in outcomes
            if (o.model, o.arm) == (model, arm) and o.seed in base
        ]
        if arm.rule == "none" or not both:
            continue
        apart = [o.validation - none.validation for o, none in both]
        ranks = {
            word: fmean([o.ranks[word] / none.ranks[word] for o, none in both])
            for word in GROUPS
        }
        found.append(
            Row(
                model,
                arm,
                len(both),
                fmean(apart),
                min(apart),
                max(apart),
                verdict(apart),
                ranks,
            )
        )
    return found


def verdict(apart: Sequence[float]) -> str:
    """Of the differences of an arm's losses from those without decay, seed by seed:
    "better" if all are below 0, "worse" if all are above, else "undecided".

    >>> verdict([-0.1, -0.2]), verdict([0.1, 0.2]), verdict([-0.1, 0.2])
    ('better', 'worse', 'undecided')
    """
    if all(x < 0 for x in apart):
        return "better"
    return "worse" if all(x > 0 for x in apart) else "undecided"


def table(outcomes: Sequence[Outcome]) -> str:
    """The rows as a Markdown table. Strength: weight_decay times the largest learning
    rate."""
    head = ("model", "rule", "λ", "t at most", "loss, less that of none", "verdict")
    lines = []
    for row in rows(outcomes):
        strength, most = f"{row.arm.weight_decay:g}", f"{LR * row.arm.weight_decay:.0e}"
        loss = f"{row.more:+.3f} ({row.least:+.3f} to {row.most:+.3f})"
        judged = f"{row.verdict}{'' if row.seeds > 2 else ', provisional'}"
        ranks = ", ".join(f"{row.ranks[word]:.2f}" for word in GROUPS)
        lines.append((row.model, row.arm.rule, strength, most, loss, judged, ranks))
    return markdown_table((*head, "ranks QK, VO, MLP"), lines)
