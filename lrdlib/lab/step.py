"""The train step and the evaluation as functions of flat vectors, for the browser:
lab/export.py writes them as ONNX.

There is no second training here: loss, AdamW and decays are those of lrdlib.training.step,
and this module only strings them together so that a trace can see all of it. What
lrdlib.training.train does to a stack of one run, `train_step` does to one vector of weights:

    weights = flat(params)  # one vector (n,), in the order of lrdlib.model.shapes
    step = partial(train_step, model=model, config=config, low_rank=True)
    loss, *state = step(
        weights, exp_avg, exp_avg_sq, steps, tokens, labels, lr, l2, l2_blocks, low
    )
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lrdlib.decay import PARTS, select, strength
from lrdlib.model import GAIN_ROLES, ModelConfig, Params, forward, role
from lrdlib.training.config import TrainConfig
from lrdlib.training.step import (
    Coefficients,
    adamw_update_,
    batched,
    decay_,
    flat,
    named,
    summed_loss,
)


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

    def loss_of(params: Params) -> Tensor:
        return summed_loss(params, tokens, labels, model)

    # of each parameter: the gradient of a slice would be a vector of all zeros but there
    gradients, loss = torch.func.grad_and_value(loss_of)(named(weights, model))
    weights, exp_avg, exp_avg_sq = weights.clone(), exp_avg.clone(), exp_avg_sq.clone()
    betas = [torch.tensor(beta) for beta in config.betas]
    adamw_update_(weights, flat(gradients), exp_avg, exp_avg_sq, steps + 1, lr, betas)
    params = {name: W.clone() for name, W in named(weights, model).items()}
    chosen = select(params, config.select)
    t = torch.as_tensor(strength(low, lr, config.mode)).view(1, 1)
    coefficients = Coefficients(
        lr=lr,
        betas=(betas[0], betas[1]),
        trained={},
        frobenius={
            name: lr * (l2_blocks if name in chosen else l2)
            for name in params
            if role(name) not in GAIN_ROLES
        },
        low=batched(chosen, dict.fromkeys(chosen, t), {}, config) if low_rank else [],
        part=PARTS["both"],
        held={},
        temper=None,
    )
    decay_(params, coefficients, config)
    return loss, flat(params), exp_avg, exp_avg_sq


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
