"""The train step and the evaluation as functions of flat vectors, for the browser:
lab/export.py writes them as ONNX.

There is no second training here. The forward pass is lrdlib.model's, AdamW is torch's own,
the decays are those of lrdlib.decay; this module only strings them together without an
optimizer object, so that a trace can see all of it. What lrdlib.training.train does to a
stack of one run, `train_step` does to one vector of weights:

    weights = flat(params)  # one vector (n,), in the order of lrdlib.model.shapes
    step = partial(train_step, model=model, config=config, low_rank=True)
    loss, *state = step(
        weights, exp_avg, exp_avg_sq, steps, tokens, labels, lr, l2, l2_blocks, low
    )
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.adam import adam

from lrdlib.decay import frobenius_update_, low_rank_update_, select, strength
from lrdlib.model import GAIN_ROLES, ModelConfig, Params, forward, role, shapes
from lrdlib.training.config import TrainConfig

EPS = 1e-8  # torch.optim.AdamW's default


def flat(params: Params) -> Tensor:
    """All parameters of one model as one vector (n,), in their order.

    >>> flat({"head": torch.zeros(4, 2), "norm": torch.ones(2)}).shape
    torch.Size([10])
    """
    return torch.cat([W.flatten() for W in params.values()])


def named(weights: Tensor, model: ModelConfig) -> Params:
    """The inverse of `flat`: views of weights (n,) in the shapes of the model.

    >>> model = ModelConfig(vocab=5, seq_len=3, classes=4, d_model=8)
    >>> {name: tuple(W.shape) for name, W in named(torch.zeros(1680), model).items()}["head"]
    (4, 8)
    """
    params, start = {}, 0
    # one by one: WebGPU has no room for a split into all of them
    for name, shape in shapes(model).items():
        params[name] = weights.narrow(0, start, math.prod(shape)).view(shape)
        start += math.prod(shape)
    return params


def train_step(
    weights: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor,
    tokens: Tensor,
    labels: Tensor,
    lr: Tensor,
    l2: Tensor,
    l2_blocks: Tensor,
    low: Tensor,
    *,
    model: ModelConfig,
    config: TrainConfig,
    low_rank: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One step of training: loss, and the new weights, exp_avg and exp_avg_sq; nothing is
    changed in place.

    weights, exp_avg, exp_avg_sq (n,): the model and AdamW's two moments. steps (): how many
    were done before. tokens (B, T) and labels (B,), int64: the batch. lr (): AdamW's. l2
    (): the Frobenius decay of the matrices that the low-rank decay does not touch;
    l2_blocks () that of those it does (config.select); low (): the strength of the low-rank
    decay itself, in config.mode. Without `low_rank` there is none, and no time is spent on
    it.
    """

    def mean_loss(params: Params) -> Tensor:
        logits = forward(params, tokens, model)  # (B, classes)
        total = F.cross_entropy(logits, labels, reduction="sum")
        return total / len(labels)  # as lrdlib.training.train divides it

    # of each parameter: the gradient of a slice would be a vector of all zeros but there
    gradients, loss = torch.func.grad_and_value(mean_loss)(named(weights, model))
    weights, exp_avg, exp_avg_sq = weights.clone(), exp_avg.clone(), exp_avg_sq.clone()
    # torch's AdamW is its Adam after a decay of its own, which is 0 here; differentiable:
    # it takes `steps` as a tensor
    adam(
        *([weights], [flat(gradients)], [exp_avg], [exp_avg_sq], [], [steps.clone()]),
        foreach=False,
        capturable=False,
        differentiable=True,
        fused=False,
        amsgrad=False,
        maximize=False,
        lr=lr,
        beta1=config.betas[0],
        beta2=config.betas[1],
        eps=EPS,
        weight_decay=0.0,
    )
    params = {name: W.clone() for name, W in named(weights, model).items()}
    chosen = select(params, config.select)
    if low_rank:
        _low_rank(list(chosen.values()), strength(low, lr, config.mode), config)
    for name, W in params.items():
        if role(name) not in GAIN_ROLES:
            frobenius_update_(W, lr * (l2_blocks if name in chosen else l2))
    return loss, flat(params), exp_avg, exp_avg_sq


def _low_rank(matrices: list[Tensor], t: float | Tensor, config: TrainConfig) -> None:
    """Low-rank decay of the matrices in place, all of one shape (up to transposition) in
    one batch."""
    batches: dict[torch.Size, list[Tensor]] = {}  # by shape (m, n), m >= n
    for W in matrices:
        tall = W if W.shape[0] >= W.shape[1] else W.mT
        batches.setdefault(tall.shape, []).append(tall)
    for batch in batches.values():
        W = torch.stack(batch)  # (matrices, m, n)
        low_rank_update_(
            W, t, scale=config.scale, method=config.method, steps=config.ns_steps
        )
        for old, new in zip(batch, W, strict=True):
            old.copy_(new)


def evaluate(
    weights: Tensor, tokens: Tensor, labels: Tensor, *, model: ModelConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """What the page shows of weights (n,) that is not a spectrum.

    The loss (N,) and the correctness (N,), 1 or 0, of every row of tokens (N, T) and labels
    (N,), and W_Q^T W_K (d, d) of the first layer.
    """
    params = named(weights, model)
    logits = forward(params, tokens, model)  # (N, classes)
    losses = F.cross_entropy(logits, labels, reduction="none")
    hits = (logits.argmax(-1) == labels).to(losses.dtype)
    return losses, hits, params["0.query"].mT @ params["0.key"]
