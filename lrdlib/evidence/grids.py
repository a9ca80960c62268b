"""The grids of the phase diagrams, as data: blocks for lrdlib.training.sweep.expand, in the
order in which one wants them.

What both sources leave unsaid (batch 512, betas 0.9 and 0.98, lr 1e-3) is TrainConfig's
default. A Frobenius strength is times the learning rate, as in AdamW; a low-rank strength
is so in mode "decoupled" only.
"""

from typing import Any

Block = dict[str, Any]

# the paper, section 5
FRACTIONS = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8]
MIDDLE = FRACTIONS[:7]  # where the paper sees LRD ahead
STRENGTHS = [1e-2, 5e-3, 5e-2, 1e-3, 5e-4, 1e-4]  # the paper's, the most telling first
COARSE: Block = {"eval_every": 100}


def paper() -> list[Block]:
    """The paper's Figure 1: 11 fractions, 6 strengths, three rules, both meanings of
    lambda, three seeds.

    Elastic's second strength is not in the paper: 0.1, as in the first code. One seed of
    the two rules that the figure compares comes first, then two more where the paper sees
    the difference, then everything else.
    """
    grid: Block = {"weight_decay": STRENGTHS, "fraction": FRACTIONS, **COARSE}
    rules: list[Block] = [{"rule": "l2"}, {"rule": "lrd"}, {"rule": "elastic", "l2": 0.1}]
    decoupled = [rule | {"mode": "decoupled"} for rule in rules[1:]]
    first = [
        {"seed": 0, **grid, "rule": ["lrd", "l2"]},
        {"seed": [1, 2], **grid, "fraction": MIDDLE, "rule": ["lrd", "l2"]},
    ]
    return first + [{"seed": [0, 1, 2], **grid, **rule} for rule in rules + decoupled]


def published() -> list[Block]:
    """The first public code's grid of 6 x 6: p = 113, 2500 steps, LRD on query and key
    matrices by five cubic steps.

    Its lambda is not times the learning rate, and its L2 runs have ten times the strength
    that they are drawn at: AdamW's weight decay runs from 1e-3 to 0.5, so each pair of
    cells at one height compares other strengths, in other units. The other weights of its
    LRD runs have weight decay 0.1. QK-Norm spans the width, betas are AdamW's own, and its
    colour is the best accuracy. Its linear layers start at 3^-1/2 of our scale, and its
    AdamW decays RMSNorm's gains. Not as there: three seeds for its one, and no stop at 99%.
    """
    grid: Block = {"seed": [0, 1, 2], "p": 113, "steps": 2500, "eval_every": 50}
    grid |= {"fraction": [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]}
    grid |= {"qk_norm": "width", "betas": (0.9, 0.999)}
    grid |= {"init_scale": float(f"{3**-0.5:.6g}"), "decay_gains": True}
    low_rank: Block = {"select": "qk", "scale": None, "method": "cubic", "ns_steps": 5}
    tenfold = [float(f"{10 * strength:g}") for strength in STRENGTHS]
    return [
        {**grid, "rule": "lrd", "weight_decay": STRENGTHS, **low_rank, "l2": 0.1},
        {**grid, "rule": "l2", "weight_decay": tenfold},
    ]


def fair() -> list[Block]:
    """Every rule over one range of effective strength, lr times lambda, at three learning
    rates, from 0.2 of the data.

    Six strengths, a factor of about 3 apart: L2 at AdamW's usual 0.3 and at 100, LRD from
    far below to far above the paper's grid. Elastic has half of its effective strength in
    each part.
    """
    effective = [1e-2, 3e-3, 3e-2, 1e-3, 1e-1, 3e-4]
    blocks = []
    for lr in (1e-3, 3e-3, 1e-2):
        for seed in range(3):
            grid: Block = {"lr": lr, "seed": seed, "mode": "decoupled", **COARSE}
            grid |= {"fraction": [0.4, 0.3, 0.2, 0.5, 0.6]}
            for strength in effective:
                total = float(f"{strength / lr:.6g}")  # lambda
                half = total / 2
                blocks += [
                    {"rule": "l2", "weight_decay": total, **grid},
                    {"rule": "lrd", "weight_decay": total, **grid},
                    {"rule": "elastic", "weight_decay": half, "l2": half, **grid},
                ]
    return blocks


def smoke() -> list[Block]:
    """A minute on a laptop: a small model modulo 23, to see that everything works."""
    grid: Block = {"p": 23, "d_model": 32, "batch_size": 128, "lr": 3e-3}
    grid |= {"steps": 400, "eval_every": 50, "fraction": [0.6, 0.8]}
    return [
        {"seed": [0, 1], **grid, "rule": "lrd", "weight_decay": [5e-3, 2e-2]},
        {"seed": [0, 1], **grid, "rule": "l2", "weight_decay": [0.3, 3.0]},
    ]


GRIDS = {"paper": paper, "published": published, "fair": fair, "smoke": smoke}
