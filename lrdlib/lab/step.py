"""The train step and the evaluation as functions of flat vectors, for the browser:
lab/export.py writes them as ONNX.

There is no second training here: loss, AdamW and decays are those of lrdlib.training.step,
and this module only strings them together so that a trace can see all of it. What
lrdlib.training.train does to a stack of one run, `train_step` does to one vector of weights:

    weights = flat(params)  # one vector (n,), in the order of lrdlib.model.shapes
    step = partial(train_step, model=model, config=config, low_rank=True)
    loss, *state = step(
        weights, exp_avg, exp_avg_sq, steps, tokens, labels, *numbers(config).values()
    )
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lrdlib.decay import PARTS, frobenius_norm, strength
from lrdlib.matrices import GROUPS, PLACES, places
from lrdlib.model import GAIN_ROLES, ModelConfig, Params, forward, role
from lrdlib.training.config import LOW_RANK, TrainConfig
from lrdlib.training.step import (
    FROZEN,
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
    qk: Tensor,
    vo: Tensor,
    mlp: Tensor,
    radial: Tensor,
    tangential: Tensor,
    held: Tensor,
    trained: Tensor,
    temper: Tensor,
    *,
    model: ModelConfig,
    config: TrainConfig,
    low_rank: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One step of training: loss, and the new weights, exp_avg and exp_avg_sq; nothing is
    changed in place.

    weights, exp_avg, exp_avg_sq (n,): the model and AdamW's two moments. steps (): how many
    were done before. tokens (B, T) and labels (B,), int64: the batch. The rest are numbers
    (), as `numbers` gives them. lr: AdamW's. l2: the Frobenius decay of the weights that
    the decay is not aimed at; l2_blocks: that of those it is; low: the strength of the
    low-rank decay itself, in config.mode. qk, vo, mlp: 1 for block matrices that it is
    aimed at, 0 for others. radial, tangential: how much of these parts of the low-rank
    step. held: 1 puts every block matrix back to the norm that it had before the step.
    trained: 0 leaves queries, keys and their gains as they are. temper: a factor of the
    attention scores. Without `low_rank` there is none, and no time is spent on it.
    """

    def loss_of(params: Params) -> Tensor:
        return summed_loss(params, tokens, labels, model, temper)

    # of each parameter: the gradient of a slice would be a vector of all zeros but there
    before = named(weights, model)
    gradients, loss = torch.func.grad_and_value(loss_of)(before)
    gradients = {
        name: g * trained if role(name) in FROZEN else g for name, g in gradients.items()
    }
    weights, exp_avg, exp_avg_sq = weights.clone(), exp_avg.clone(), exp_avg_sq.clone()
    betas = [torch.tensor(beta) for beta in config.betas]
    adamw_update_(weights, flat(gradients), exp_avg, exp_avg_sq, steps + 1, lr, betas)
    params = {name: W.clone() for name, W in named(weights, model).items()}
    aims = {"qk": qk, "vo": vo, "mlp": mlp}
    aimed = {
        name: aim
        for name in params
        for group, aim in aims.items()
        if role(name) in PLACES[group]
    }
    moving = {name: trained if role(name) in FROZEN else torch.ones(()) for name in params}
    t = torch.as_tensor(strength(low, lr, config.mode))
    lows = {name: (t * aim * moving[name]).view(1, 1) for name, aim in aimed.items()}
    coefficients = Coefficients(
        lr=lr,
        betas=(betas[0], betas[1]),
        trained={},
        frobenius={
            name: lr
            * moving[name]
            * torch.lerp(l2, l2_blocks, aimed.get(name, torch.zeros(())))
            for name in params
            if role(name) not in GAIN_ROLES
        },
        low=batched(params, lows, {}, config) if low_rank else [],
        part=(radial, tangential),
        held={name: (frobenius_norm(before[name]), held) for name in aimed},
        temper=None,
    )
    decay_(params, coefficients, config)
    return loss, flat(params), exp_avg, exp_avg_sq


def numbers(config: TrainConfig) -> dict[str, Tensor]:
    """The numbers of `train_step` for a config, in their order.

    >>> {name: float(x) for name, x in numbers(TrainConfig(select="vo")).items()}["qk"]
    0.0
    """
    c = config
    all_of_it = c.rule == "l2" and c.l2_on == "all"
    radial, tangential = PARTS[c.part]
    chosen = {
        "lr": c.lr,
        "l2": (c.weight_decay if all_of_it else 0.0) if c.rule == "l2" else c.l2,
        "l2_blocks": {"l2": c.weight_decay, "elastic": c.l2}.get(c.rule, 0.0),
        "low": c.weight_decay if c.rule in LOW_RANK else 0.0,
        **{g: all_of_it or PLACES[g][0] in places(c.select) for g in GROUPS},
        "radial": radial,
        "tangential": tangential,
        "held": c.hold == "norm",
        "trained": c.attention != "frozen",
        "temper": c.attention != "uniform",
    }
    return {name: torch.tensor(float(x)) for name, x in chosen.items()}


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
