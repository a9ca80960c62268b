"""One step of training as functions of tensors, for one run, a stack of runs, a captured
graph on a GPU and the page's exported step.

The state of a stack is three tensors (runs, n): the weights and AdamW's two moments, each
run's parameters one after the other in the order of lrdlib.model.shapes; for one run alone
the runs axis may be absent. `named` gives views of it by name. **An arm of an experiment is
coefficients**: which rule, how strong, where, which part of the step, what is held, all are
numbers per run (see `Coefficients`), so that every arm trains in one stack. No branch
depends on a value.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.adamw import adamw

from lrdlib.decay import (
    PARTS,
    frobenius_norm,
    frobenius_norms,
    frobenius_update_,
    proximal_update_,
    strength,
    subtract_polar_,
    tall,
)
from lrdlib.matrices import places
from lrdlib.model import (
    GAIN_ROLES,
    MATRIX_ROLES,
    ModelConfig,
    Params,
    forward,
    role,
    shapes,
)
from lrdlib.polar import polar_of_rescaled, rescale
from lrdlib.spectral import truncated
from lrdlib.training.config import LOW_RANK, TrainConfig

EPS = 1e-8  # torch.optim.AdamW's default
QK = ("query", "key")
FROZEN = (*QK, "query_norm", "key_norm")  # what frozen attention leaves as it begins
MUON_RMS = 0.2  # times sqrt(max(m, n)): the size of AdamW's steps (Liu et al. 2025)


def flat(params: Params) -> Tensor:
    """All parameters of one model as one vector (n,), in their order.

    >>> flat({"head": torch.zeros(4, 2), "norm": torch.ones(2)}).shape
    torch.Size([10])
    """
    return torch.cat([W.flatten() for W in params.values()])


def named(weights: Tensor, model: ModelConfig) -> Params:
    """The inverse of `flat`: views of weights (..., n) in the shapes of the model.

    >>> model = ModelConfig(vocab=5, seq_len=3, classes=4, d_model=8)
    >>> {name: tuple(W.shape) for name, W in named(torch.zeros(1680), model).items()}["head"]
    (4, 8)
    """
    params, start = {}, 0
    # one by one: WebGPU has no room for a split into all of them
    for name, shape in shapes(model).items():
        size = math.prod(shape)
        params[name] = weights.narrow(-1, start, size).unflatten(-1, shape)
        start += size
    return params


def summed_loss(
    params: Params,
    tokens: Tensor,
    labels: Tensor,
    model: ModelConfig,
    temper: Tensor | None = None,
    forward: Callable[..., Tensor] = forward,
) -> Tensor:
    """The sum over runs of each run's mean cross-entropy: runs do not share a parameter, so
    that their gradients stay apart.

    tokens (..., B, T) and labels (..., B), with a runs axis or without. temper: see
    lrdlib.model.forward.
    """
    logits = forward(params, tokens, model, temper)  # (..., B, classes)
    total = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")
    return total / labels.shape[-1]


def adamw_update_(
    weights: Tensor,
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor,
    lr: Tensor | float,
    betas: Sequence[Tensor | float],
) -> None:
    """AdamW's step without its decay, in place, on (..., n).

    m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,
    W <- W - lr (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps)

    steps (1,): k, this step included. lr and the two betas: a number per run (..., 1), lr
    also one per weight (..., n), or one for all, with which it is torch's own kernel.
    Source: Kingma and Ba 2015; Loshchilov and Hutter 2019.
    """
    beta1, beta2 = betas
    if not isinstance(lr, Tensor):
        adamw(
            [weights],
            [gradient],
            [exp_avg],
            [exp_avg_sq],
            [],
            [(steps[0] - 1).float()],  # the kernel counts on
            fused=True,
            amsgrad=False,
            maximize=False,
            lr=lr,
            beta1=float(beta1),
            beta2=float(beta2),
            eps=EPS,
            weight_decay=0.0,
        )
        return
    first, second = ((1 - beta**steps).to(weights.dtype) for beta in betas)
    kept1, kept2 = (b.to(weights.dtype) if isinstance(b, Tensor) else b for b in betas)
    exp_avg.mul_(kept1).add_((1 - kept1) * gradient)
    exp_avg_sq.mul_(kept2).add_((1 - kept2) * gradient * gradient)
    # m / (root + eps), as ONNX's optimiser takes a sum with 1e-8 for one with 0
    root = (exp_avg_sq / second).sqrt() / EPS + 1
    weights.sub_((lr / (first * EPS)) * exp_avg / root)


def sgd_update_(
    weights: Tensor, gradient: Tensor, buffer: Tensor, lr: Tensor, momentum: Tensor
) -> None:
    """M <- momentum M + g, W <- W - lr M, in place, on (..., n)."""
    buffer.mul_(momentum).add_(gradient)
    weights.sub_(lr * buffer)


def muon_update_(
    params: Params,
    gradients: Params,
    moments: Params,
    lr: Tensor,
    momentum: Tensor,
    config: TrainConfig,
) -> None:
    """W <- W - 0.2 lr sqrt(max(m, n)) polar(g + momentum (M - g)) for each block matrix, in
    place.

    moments: M, which AdamW's first moment is. lr and momentum (..., 1). Source: Jordan
    2024 (Nesterov's form), scaled as Liu et al. 2025; torch.optim.Muon does the same.
    """
    rate, beta = lr.unsqueeze(-1), momentum.unsqueeze(-1)  # (..., 1, 1)
    groups: dict[Any, list[str]] = {}
    for name in (name for name in params if role(name) in MATRIX_ROLES):
        groups.setdefault(tall(params[name]).shape, []).append(name)
    for shape, names in groups.items():
        ahead = [tall(torch.lerp(gradients[n], moments[n], beta)) for n in names]
        X, _ = rescale(torch.stack(ahead))  # (matrices, ..., m, n)
        P = polar_of_rescaled(X, method=config.method, steps=config.ns_steps)
        for name, update in zip(names, P, strict=True):
            tall(params[name]).sub_(rate * MUON_RMS * math.sqrt(shape[-2]) * update)


@dataclass(frozen=True)
class Together:
    """Matrices of one tall shape, which are decayed in one batch.

    matrices: views (..., m, n), m >= n, of the parameters. t: their strengths (matrices,
    ..., 1, 1). flat: 1 where the matrix becomes flat instead, of t's shape, or None.
    """

    matrices: list[Tensor]
    t: Tensor
    flat: Tensor | None = None


@dataclass(frozen=True)
class Coefficients:
    """What differs between the runs of a stack, as numbers per run.

    lr (..., 1) and betas, two (..., 1): AdamW's, or numbers that all runs share; lr (...,
    n) where queries and keys of some run have one of their own. trained:
    by name, 0 where a parameter gets no gradient, 1 elsewhere. frobenius: by name, the
    strength of Frobenius decay. Both have the axes of their parameter, and hold only names
    of which some run is not as all others. low: see Together. part: of the low-rank step
    (lrdlib.decay.PARTS). held: by name, the norms to go back to, and 1 where that is done.
    temper (...,): of the attention scores. proximal: whether `low` is the proximal step.
    cap: the places (c,) on the runs axis of those whose queries and keys are cut, and their
    ranks (c, 1, 1), or None.
    """

    lr: Tensor | float
    betas: tuple[Tensor | float, Tensor | float]
    trained: Mapping[str, Tensor]
    frobenius: Mapping[str, Tensor]
    low: Sequence[Together]
    part: tuple[float | Tensor, float | Tensor]
    held: Mapping[str, tuple[Tensor, Tensor]]
    temper: Tensor | None
    proximal: bool = False
    cap: tuple[Tensor, Tensor] | None = None

    def tensors(self) -> list[Tensor]:
        """All numbers, in an order that depends on the configs' structure alone."""
        found = [x for x in (self.lr, *self.betas) if isinstance(x, Tensor)]
        found += [*self.trained.values(), *self.frobenius.values()]
        for together in self.low:
            found += [together.t] if together.flat is None else [together.t, together.flat]
        found += [x for x in self.part if isinstance(x, Tensor)]
        found += [x for pair in self.held.values() for x in pair]
        found += [] if self.cap is None else self.cap
        return found + ([] if self.temper is None else [self.temper])


def coefficients(
    params: Params,
    configs: Sequence[TrainConfig],
    norms: Mapping[str, Tensor],
    awake: Sequence[bool] | None = None,
    record: int = 0,
) -> Coefficients:
    """The coefficients of a stack: params with a runs axis, one config per run.

    norms: the first Frobenius norms (runs, 1, 1) by name, for what is held. awake: of each
    run whether its decay has begun (see TrainConfig.decay_after); by default of all.
    record: the number of the last one (see TrainConfig.qk_rates).
    """
    on = [True] * len(configs) if awake is None else list(awake)
    like = params["embedding"]

    def per_run(values: Sequence[float], axes: int = 3) -> Tensor:
        x = torch.tensor(values, dtype=torch.float64, device=like.device)
        return x.to(like.dtype).view(-1, *[1] * (axes - 1))

    def some(of: Callable[[TrainConfig, str], float]) -> dict[str, list[float]]:
        values = {name: [of(c, name) for c in configs] for name in params}
        return {name: v for name, v in values.items() if any(v)}

    def sleeping(values: list[float]) -> list[float]:
        return [v * awake for v, awake in zip(values, on, strict=True)]

    frozen = some(lambda c, name: float(_frozen(c, name)))
    flattened = some(lambda c, name: float(c.rank == "flat" and role(name) in QK))
    late = [
        c.late_gradient if c.decay_after is not None and begun else 1.0
        for c, begun in zip(configs, on, strict=True)
    ]
    first = configs[0]
    same = {(c.lr, c.betas, c.decay_after, c.qk_rates) for c in configs} == {
        (first.lr, first.betas, None, ())
    }
    same = same and first.optimizer == "adamw" and like.device.type == "cpu"
    lr = [c.lr * k for c, k in zip(configs, late, strict=True)]
    betas = [  # in double precision: 1 - beta^k is small at first
        torch.tensor([[c.betas[i]] for c in configs], dtype=torch.float64).to(like.device)
        for i in (0, 1)
    ]
    parts = [PARTS[c.part] for c in configs]
    tempers = [float(c.attention != "uniform") for c in configs]
    rates = [  # of queries and keys
        c.qk_rates[min(record, len(c.qk_rates) - 1)] if c.qk_rates else 1.0 for c in configs
    ]
    rated = any(c.qk_rates for c in configs)
    each = _per_weight(params, per_run(rates, 2)) if rated else 1.0
    return Coefficients(
        lr=first.lr if same else per_run(lr, 2) * each,
        betas=first.betas if same else (betas[0], betas[1]),
        trained={name: 1 - per_run(v, params[name].ndim) for name, v in frozen.items()},
        frobenius={
            name: per_run(sleeping(v), params[name].ndim)
            for name, v in some(frobenius_strength).items()
        },
        low=batched(
            params,
            {name: per_run(sleeping(v)) for name, v in some(low_rank_strength).items()},
            {name: per_run(v) for name, v in flattened.items()},
            first,
        ),
        part=PARTS["both"]
        if set(parts) == {PARTS["both"]}
        else (per_run([p[0] for p in parts]), per_run([p[1] for p in parts])),
        held={name: (norms[name], per_run(v)) for name, v in some(_held).items()},
        temper=None if all(tempers) else per_run(tempers, 1),
        proximal=any(c.rule == "proximal" for c in configs),
        cap=_cap(configs, like.device),
    )


def _cap(
    configs: Sequence[TrainConfig], device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Which runs of a stack are cut, and to which rank; see Coefficients."""
    ranks = {i: c.rank for i, c in enumerate(configs) if isinstance(c.rank, int)}
    if not ranks:
        return None
    at, r = (torch.tensor(list(x), device=device) for x in (ranks, ranks.values()))
    return at, r.view(-1, 1, 1)


def _frozen(c: TrainConfig, name: str) -> bool:
    """Whether the run leaves this parameter as it begins."""
    return c.attention == "frozen" and role(name) in FROZEN


def _per_weight(params: Params, rates: Tensor) -> Tensor:
    """The rates (runs, 1) at the weights of queries and keys, 1 at all others: (runs, n)."""
    ones = torch.ones_like(rates)
    return torch.cat(
        [
            (rates if role(name) in QK else ones).expand(-1, W[0].numel())
            for name, W in params.items()
        ],
        -1,
    )


def _held(c: TrainConfig, name: str) -> float:
    """1 where the run puts this matrix back to its first norm."""
    roles = {"none": (), "norm": MATRIX_ROLES, "qk": QK}[c.hold]
    return float(role(name) in roles)


def low_rank_strength(c: TrainConfig, name: str) -> float:
    """The strength t of a run's low-rank decay of one parameter, per step."""
    if c.rule not in LOW_RANK or role(name) not in places(c.select) or _frozen(c, name):
        return 0.0
    return float(strength(c.weight_decay, c.lr, c.mode))


def frobenius_strength(c: TrainConfig, name: str) -> float:
    """The strength t of a run's Frobenius decay of one parameter, per step."""
    if _frozen(c, name):
        return 0.0
    if role(name) in GAIN_ROLES:
        if not c.decay_gains:
            return 0.0
        return c.lr * (c.weight_decay if c.rule == "l2" else c.l2)
    selected = role(name) in places(c.select)
    if c.rule == "l2":
        return c.lr * c.weight_decay if c.l2_on == "all" or selected else 0.0
    return c.lr * c.l2 if c.rule == "elastic" or not selected else 0.0


def batched(
    params: Params,
    low: Mapping[str, Tensor],
    flat: Mapping[str, Tensor],
    config: TrainConfig,
) -> list[Together]:
    """The matrices of `low` and `flat` in batches of one tall shape."""
    groups: dict[Any, list[tuple[Tensor, Tensor, Tensor | None]]] = {}
    for name in params:
        if name in low or name in flat:
            W = tall(_heads(params[name].detach(), name, config))
            t = low.get(name, torch.zeros_like(flat[name]) if name in flat else None)
            assert t is not None
            view = (*t.shape[:1], *[1] * (W.ndim - 1)) if t.ndim == 3 else t.shape
            k = flat.get(name, torch.zeros_like(t)) if flat else None
            k = None if k is None else k.reshape(view)
            groups.setdefault(W.shape, []).append((W, t.reshape(view), k))
    batches = []
    for group in groups.values():
        matrices, ts, ks = zip(*group, strict=True)
        flat_ones = [k for k in ks if k is not None and bool(k.any())]
        together = torch.stack(ks) if flat_ones else None
        batches.append(Together(list(matrices), torch.stack(ts), together))
    return batches


def _heads(W: Tensor, name: str, config: TrainConfig) -> Tensor:
    """W (..., m, n), or if its heads are decayed one by one its view (..., heads, m', n')."""
    if not config.per_head or role(name) not in (*QK, "value", "output"):
        return W
    if role(name) == "output":  # which reads the heads: its columns
        return W.unflatten(-1, (config.heads, -1)).movedim(-2, -3)
    return W.unflatten(-2, (config.heads, -1))


def decay_(params: Params, c: Coefficients, config: TrainConfig) -> None:
    """All decays of one step, in place: the low-rank one, then the Frobenius one; then
    what is held goes back to its norm. config: what all runs share."""
    for together in c.low:
        low_rank_(together, c, config)
    for name, t in c.frobenius.items():
        frobenius_update_(params[name], t)
    for name, (first, held) in c.held.items():
        params[name].mul_(back_to(first, held, params[name]))


def back_to(first: Tensor, held: Tensor, W: Tensor) -> Tensor:
    """What W (..., m, n) is multiplied by, (..., 1, 1), to have the norm `first` where held
    is 1; 1 where it is 0."""
    return 1 + held * (first / frobenius_norm(W) - 1)


def cap_(params: Params, c: Coefficients) -> None:
    """Cut queries and keys of the runs that have a rank, in place, at the end of a step;
    what is held has its norm again.

    It is no part of `decay_`: what finds singular vectors waits for the device, and cannot
    be captured.
    """
    if c.cap is None:
        return
    runs, ranks = c.cap
    names = [name for name in params if role(name) in QK]
    W = torch.stack([params[name][runs] for name in names])  # (matrices, c, d, d)
    for name, low in zip(names, truncated(W, ranks), strict=True):
        if name in c.held:
            first, held = (x[runs] for x in c.held[name])
            low = low * back_to(first, held, low)
        params[name][runs] = low


def low_rank_(together: Together, c: Coefficients, config: TrainConfig) -> None:
    """The low-rank (or proximal) decay of one batch of matrices, in place."""
    W = torch.stack(together.matrices)  # (matrices, ..., m, n)
    if c.proximal:
        proximal_update_(W, together.t, scale=config.scale)
    else:
        X, largest = rescale(W)
        P = polar_of_rescaled(X, method=config.method, steps=config.ns_steps)
        flat = None
        if together.flat is not None:
            flat = P * (largest * frobenius_norms(X) / frobenius_norms(P))
        part = c.part
        if part is not PARTS["both"]:  # with t's axis for heads, if it has one
            radial, tangential = (
                x.reshape(together.t.shape[1:]) if isinstance(x, Tensor) else x
                for x in part
            )
            part = radial, tangential
        subtract_polar_(W, together.t, X, largest, P, scale=config.scale, part=part)
        if flat is not None and together.flat is not None:
            W.lerp_(flat, together.flat)
    for old, new in zip(together.matrices, W, strict=True):
        old.copy_(new)
