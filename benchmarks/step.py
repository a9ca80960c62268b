"""How long a training step takes, as a ratio to a plain reference in the same process, and
how far from the floor.

    python benchmarks/step.py [--rounds 7] [--p 113] [--fraction 0.5] [--targets]

On one thread, at the setting of the paper's first public code (lrdlib.evidence.grids's
`published`: p = 113, here half of the pairs, batch 512, QK-Norm over the width, five cubic
steps on the query and key matrices, weight decay 0.1 on the rest):

reference   the step as one would first write it: torch's modules, every position computed,
            a DataLoader of items, and the decay one matrix at a time. It is checked to give
            lrdlib's logits from lrdlib's weights.
lrdlib      lrdlib.training.train's step
compiled    the same through torch.compile, as `--compile` runs it
floor       the step's matrix products alone, measured one by one

Each is timed with torch's own float32 matmul and with oneDNN's (lrdlib.training.backend),
which the command line uses. Then: what low-rank decay of all 12 block matrices adds to a
step, with the error of its polar factors beside it.

Two numbers have a target, and `--targets` measures nothing else: compiled and with oneDNN,
as the command line runs it with `--compile`, a step is to be 3.5 times as fast as the
reference with torch's own matmul; and a stack of four runs with every switch of an
experiment on, compiled too, is to cost 5% more than the same stack without, at most.

Times are CPU time, and the steps take turns, eight at a time, so that a busy machine does
not matter much. Every ratio is the median over rounds of the ratio within one round.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lrdlib.evidence.grids import published
from lrdlib.matrices import select
from lrdlib.model import EPS, ModelConfig, Params, forward
from lrdlib.polar import polar_factor
from lrdlib.training.backend import use_onednn
from lrdlib.training.config import TrainConfig
from lrdlib.training.train import Training

PUBLISHED: dict[str, Any] = published()[0] | dict(weight_decay=5e-3, seed=0)
FASTER, SWITCHED = 3.5, 0.05  # the targets
Times = dict[str, list[float]]  # milliseconds of each step, round by round


class PlainBlock(nn.Module):
    """One pre-norm block with QK-Norm per head or over the width, on every position."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, m = config.d_model, config.mlp_ratio * config.d_model
        self.heads, self.wide = config.heads, config.qk_norm == "width"
        self.attention_norm, self.mlp_norm = nn.RMSNorm(d, eps=EPS), nn.RMSNorm(d, eps=EPS)
        self.query_norm, self.key_norm = (
            nn.RMSNorm(d if self.wide else d // config.heads, eps=EPS) for _ in range(2)
        )
        self.query, self.key, self.value, self.output = (
            nn.Linear(d, d, bias=False) for _ in range(4)
        )
        self.up, self.down = nn.Linear(d, m, bias=False), nn.Linear(m, d, bias=False)

    def forward(self, X: Tensor) -> Tensor:
        H = self.attention_norm(X)
        Q, K, V = self.query(H), self.key(H), self.value(H)
        if self.wide:
            Q, K = self.query_norm(Q), self.key_norm(K)
        Q, K, V = (X.unflatten(-1, (self.heads, -1)) for X in (Q, K, V))
        if not self.wide:
            Q, K = self.query_norm(Q), self.key_norm(K)
        A = F.scaled_dot_product_attention(
            Q.transpose(1, 2), K.transpose(1, 2), V.transpose(1, 2)
        )
        X = X + self.output(A.transpose(1, 2).flatten(2))
        return X + self.down(F.silu(self.up(self.mlp_norm(X))))


class PlainTransformer(nn.Module):
    """The model of lrdlib.model as torch modules; every position goes through every layer
    and the head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab, config.d_model)
        self.position = nn.Parameter(torch.zeros(config.seq_len, config.d_model))
        self.blocks = nn.ModuleList(PlainBlock(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.d_model, eps=EPS)
        self.head = nn.Linear(config.d_model, config.classes, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        X = self.embedding(tokens) + self.position
        for block in self.blocks:
            X = block(X)
        return self.head(self.norm(X))[:, -1]

    @torch.no_grad()
    def take(self, params: Params) -> None:
        """Copy the weights of the first run of a stack of lrdlib parameters."""
        for name, W in self.named_parameters():
            W.copy_(params[name.removeprefix("blocks.").removesuffix(".weight")][0])


@torch.no_grad()
def plain_decay(matrices: list[Tensor], weight_decay: float, steps: int = 5) -> None:
    """The published rule, one matrix at a time: W <- W - lambda NewtonSchulz(W)."""
    for W in matrices:
        X = W / (W.norm() + 1e-8)
        for _ in range(steps):
            X = 1.5 * X - 0.5 * X @ (X.T @ X)
        W.sub_(weight_decay * X)


def plain_step(training: Training) -> Callable[[], None]:
    """A function that makes one plain training step, at the setting of `training`'s first
    run."""
    config, rows = training.configs[0], training.splits[0].train
    model = PlainTransformer(training.model)
    model.take(training.params)
    expected = forward(training.params, training.tokens[rows], training.model)[0]
    torch.testing.assert_close(model(training.tokens[rows]), expected, rtol=1e-4, atol=1e-4)
    blocks = cast(Iterable[PlainBlock], model.blocks)
    qk = [W.weight for block in blocks for W in (block.query, block.key)]
    rest = [W for W in model.parameters() if all(W is not V for V in qk)]
    groups = [
        {"params": qk, "weight_decay": 0.0},
        {"params": rest, "weight_decay": config.l2},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)
    data = TensorDataset(training.tokens[rows], training.labels[rows])
    if len(data) < config.batch_size:
        raise ValueError(f"p and fraction give {len(data)} pairs, fewer than a batch")

    def batches() -> Iterator[list[Tensor]]:
        while True:
            yield from DataLoader(data, config.batch_size, shuffle=True, drop_last=True)

    stream = batches()

    def step() -> None:
        tokens, labels = next(stream)
        loss = F.cross_entropy(model(tokens), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        plain_decay(qk, config.weight_decay)

    return step


def floor_step(training: Training) -> Callable[[], None]:
    """A function that makes the matrix products of one step of lrdlib, and nothing else.

    A product Y = X W^T in the forward pass costs two of the same size in the backward pass.
    """
    config, batch = training.model, training.configs[0].batch_size
    d, m, every = config.d_model, config.mlp_ratio * config.d_model, batch * config.seq_len
    # (rows, in, out): embedding, head, then layer by layer
    products = [(every, config.vocab, d), (batch, d, config.classes)]
    for layer in range(config.layers):
        read = batch if layer == config.layers - 1 else every
        products += [(every, d, d)] * 2 + [(read, d, d)] * 2 + [(read, d, m), (read, m, d)]
    operands = [
        (torch.randn(r, i), torch.randn(o, i), torch.randn(r, o)) for r, i, o in products
    ]

    def step() -> None:
        for X, W, dY in operands:
            X @ W.mT
            dY @ W
            dY.mT @ X

    return step


def in_turns(
    steps: dict[str, Callable[[], None]], rounds: int, per_round: int = 8
) -> Times:
    """Milliseconds of CPU time of each step, round by round."""
    times: Times = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            step()
            start = time.process_time()
            for _ in range(per_round):
                step()
            times[name].append((time.process_time() - start) / per_round * 1e3)
    return times


def ratio(times: Times, a: str, b: str) -> float:
    """How many times as long as b a takes."""
    return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))


def said(times: Times) -> str:
    """The median of each step."""
    each = (f"{name} {statistics.median(ms):.1f} ms" for name, ms in times.items())
    return "  " + "    ".join(each)


def polar_error(training: Training) -> tuple[float, float, float]:
    """Error of the decay's polar factors at the weights as they are.

    Largest |sigma - 1| over the directions with sigma_i > 0.02 sigma_1, the same with 0.001
    sigma_1, and |P - U V^T|_F / |U V^T|_F over all directions, those among them that hold
    nothing but rounding.
    """
    config = training.configs[0]
    worst = {0.02: 0.0, 0.001: 0.0}
    relative = 0.0
    for W in select(training.params, config.select).values():
        U, S, Vh = torch.linalg.svd(W.detach().double(), full_matrices=False)
        P = polar_factor(W.detach(), method=config.method, steps=config.ns_steps).double()
        reached = (U.mT @ P @ Vh.mT).diagonal(dim1=-2, dim2=-1)
        for above in worst:
            errors = (reached - 1).abs()[S.gt(above * S[..., :1])]
            worst[above] = max(worst[above], float(errors.max()))
        relative = max(relative, float((P - U @ Vh).norm() / (U @ Vh).norm()))
    return worst[0.02], worst[0.001], relative


def compare(config: TrainConfig, rounds: int) -> None:
    """Print the times of reference, lrdlib and floor."""
    training = Training([config])
    steps = {
        "reference": plain_step(training),
        "lrdlib": training.update,
        "compiled": Training([config], compile=True).update,
        "floor": floor_step(training),
    }
    steps["compiled"]()  # which compiles
    times = in_turns(steps, rounds)
    print(said(times))
    for name in ("lrdlib", "compiled"):
        print(
            f"  {name}: {ratio(times, 'reference', name):.2f}x as fast as the reference, "
            f"{ratio(times, name, 'floor'):.2f}x the floor"
        )


def headline(config: TrainConfig, rounds: int) -> None:
    """Print how many times as fast as plain torch the command line is: with oneDNN's
    matmul where that is exact."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)  # torch >= 2.9
    plain = getattr(matmul, "fp32_precision", None)
    use_onednn()
    quick = getattr(matmul, "fp32_precision", None)

    def multiplying(precision: str | None, step: Callable[[], None]) -> Callable[[], None]:
        def within() -> None:
            if matmul is not None:
                matmul.fp32_precision = precision
            step()

        return within

    training = Training([config])
    compiled = Training([config], compile=True).update
    compiled()  # which compiles
    steps = {
        "reference": multiplying(plain, plain_step(training)),
        "lrdlib": multiplying(quick, training.update),
        "compiled": multiplying(quick, compiled),
        "floor": multiplying(quick, floor_step(training)),
    }
    times = in_turns(steps, rounds)
    multiplying(plain, lambda: None)()
    whose = "torch's own" if plain == quick else "oneDNN's"
    print(
        f"as the command line runs it, with {whose} matmul, over plain torch with its own:"
    )
    print(said(times))
    print(
        f"  lrdlib {ratio(times, 'reference', 'lrdlib'):.2f}x as fast, compiled "
        f"{ratio(times, 'reference', 'compiled'):.2f}x (target {FASTER}), its matrix "
        f"products alone {ratio(times, 'reference', 'floor'):.2f}x"
    )


def switches_share(base: dict[str, Any], rounds: int) -> None:
    """Print what a step of a stack of four costs if each run has switches of its own (part,
    place, what is held, attention, learning rate), over the same stack without."""
    lrd: dict[str, Any] = dict(rule="lrd", weight_decay=1e-2)
    plain = [TrainConfig(**base, **lrd, seed=seed) for seed in range(4)]
    own: list[dict[str, Any]] = [
        dict(part="radial", lr=3e-3),
        dict(part="tangential", hold="norm"),
        dict(select="vo+mlp", l2=1.0, betas=(0.9, 0.999)),
        dict(attention="frozen", decay_gains=True, l2=0.1),
    ]
    arms = [TrainConfig(**base, **lrd | one, seed=seed) for seed, one in enumerate(own)]
    for compile in (True, False):
        without, switched = (Training(c, compile=compile).update for c in (plain, arms))
        without(), switched()  # which compiles
        times = in_turns({"without": without, "switched": switched}, rounds)
        more = ratio(times, "switched", "without") - 1
        how = f"compiled (target {SWITCHED:.0%})" if compile else "as it is"
        print(f"{said(times)}, every switch on, {how}: {more:+.1%}")


def decay_share(base: dict[str, Any], rounds: int, warm: int = 100) -> None:
    """Print what low-rank decay of all block matrices adds to a step, per method, after
    `warm` steps of training.

    Each method takes turns with no decay alone: more models at once would push one another
    out of the cache.
    """
    settings: dict[str, dict[str, Any]] = {
        f"Polar Express, {k} steps": dict(method="polar_express", ns_steps=k)
        for k in (6, 5, 4)
    }
    settings |= {f"cubic, {k} steps": dict(method="cubic", ns_steps=k) for k in (5, 30)}
    print("  polar error: largest |sigma - 1| above 2% of sigma_1, above 0.1%; then")
    print("  |P - UV^T| / |UV^T|")
    for name, setting in settings.items():
        none = Training([TrainConfig(**base, rule="none")])
        training = Training([TrainConfig(**base, **setting)])
        for _ in range(warm):
            training.update()
        times = in_turns({"none": none.update, "decay": training.update}, rounds)
        errors = "  ".join(f"{error:.1e}" for error in polar_error(training))
        print(f"  {name:24} +{ratio(times, 'decay', 'none') - 1:6.1%}    {errors}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rounds", type=int, default=7, help="timed rounds of 8 steps each (7)")
    add("--p", type=int, default=113, help="modulus (113)")
    add("--fraction", type=float, default=0.5, help="part of the pairs to train on (0.5)")
    add("--targets", action="store_true", help="only what has a target")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base: dict[str, Any] = dict(p=options.p, fraction=options.fraction)
    config, rounds = TrainConfig(**PUBLISHED | base), options.rounds
    headline(config, rounds)
    print("a stack of four runs, torch's own matmul:")
    switches_share(base, rounds)
    if options.targets:
        return
    print("torch's own matmul, one thread: step at the published setting")
    compare(config, rounds)
    print("low-rank decay of all 12 block matrices adds")
    decay_share(base, rounds)
    if not use_onednn():
        print("oneDNN's matmul: left out, not here or not float32-exact")
        return
    print("oneDNN's matmul, one thread: step at the published setting")
    compare(config, rounds)
    print("low-rank decay of all 12 block matrices adds")
    decay_share(base, rounds)


if __name__ == "__main__":
    main()
