"""python -m lrdlib mechanism: train the decay rules side by side and draw the paper's
Figure 2."""

import argparse
from pathlib import Path
from typing import Any

from lrdlib.commands.common import Subparsers, add_command, command_line
from lrdlib.training.backend import use_onednn
from lrdlib.training.runs import Run, runs_of, save_run
from lrdlib.training.train import Record, TrainConfig, Training, train

# What both sources leave unsaid (batch 512, lr 1e-3; in the paper the betas too) is
# TrainConfig's default.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": dict(p=97, fraction=0.4, weight_decay=1e-2, rest=0.0, steps=3000),
    "published": dict(p=113, fraction=0.5, weight_decay=5e-3, rest=0.1, steps=4000)
    | dict(
        select="qk",
        scale=None,
        method="cubic",
        ns_steps=5,
        qk_norm="width",
        betas=(0.9, 0.999),
    ),
}

DESCRIPTION = """\
Train one small transformer on modular addition under each decay rule, from the same seed, and compare them: L2
(ordinary weight decay) at each strength of --l2, Low-Rank Decay, and elastic (Low-Rank Decay plus L2).

presets (any option given beside them wins):
  paper      p = 97, 40% of the pairs, 3000 steps, LRD on every block matrix with the adaptive scale, lambda = 0.01
  published  p = 113, 50%, 4000 steps, the first public code's setting: LRD on query and key matrices only, no adaptive
             scale, five cubic Newton-Schulz steps, lambda = 0.005, weight decay 0.1 on everything else, QK-Norm over
             the whole width, betas 0.9 and 0.999

lambda is not multiplied by the learning rate unless --mode decoupled. L2's strengths always are, as in AdamW: 0.1 is
what the first code uses, 3 is a tuned one.

Writes one .npz a run (read it with lrdlib.load_run), the figure mechanism.html, and checkpoint.npz: the same command
goes on from there after an interruption.
"""


def add(commands: Subparsers) -> None:
    """Add the command to the command line's grammar."""
    m = add_command(
        commands,
        "mechanism",
        "train L2, LRD and elastic side by side, as in Figure 2",
        DESCRIPTION,
        mechanism,
    )
    m.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        default="paper",
        help="the setting to start from (paper)",
    )
    m.add_argument(
        "--out",
        type=Path,
        default=Path("mechanism"),
        metavar="DIR",
        help="folder to write (mechanism)",
    )
    m.add_argument("--p", type=int, help="the modulus")
    m.add_argument(
        "--fraction", type=float, help="part of the pairs to train on, between 0 and 1"
    )
    m.add_argument(
        "--weight-decay",
        type=float,
        metavar="LAMBDA",
        help="strength of LRD, alone and in elastic",
    )
    m.add_argument(
        "--l2",
        type=float,
        nargs="+",
        default=[0.1, 3.0],
        metavar="L",
        help="strengths of the L2 runs (0.1 3)",
    )
    m.add_argument(
        "--elastic-l2",
        type=float,
        default=0.1,
        metavar="L",
        help="strength of L2 within elastic (0.1)",
    )
    m.add_argument(
        "--mode",
        choices=("independent", "decoupled"),
        default="independent",
        help="is LRD's lambda times lr?",
    )
    m.add_argument(
        "--seed", type=int, default=0, help="of the split, the weights and the batches (0)"
    )
    m.add_argument("--steps", type=int, help="training steps (the preset's)")
    m.add_argument(
        "--eval-every", type=int, default=50, metavar="N", help="steps between records (50)"
    )
    m.add_argument("--lr", type=float, default=1e-3, help="learning rate (0.001)")
    m.add_argument("--batch-size", type=int, default=512, help="pairs a step (512)")
    m.add_argument(
        "--d-model", type=int, default=128, help="width of the transformer (128)"
    )
    m.add_argument("--device", default="cpu", help="where to train: cpu or cuda (cpu)")


def mechanism_configs(options: argparse.Namespace) -> list[TrainConfig]:
    """The runs of the mechanism experiment: L2 at each strength, LRD, elastic."""
    setting = dict(PRESETS[options.preset])
    given = {
        key: getattr(options, key) for key in ("p", "fraction", "weight_decay", "steps")
    }
    setting |= {key: value for key, value in given.items() if value is not None}
    setting |= {
        key: getattr(options, key)
        for key in ("mode", "seed", "eval_every", "lr", "batch_size", "d_model")
    }
    weight_decay, rest = setting.pop("weight_decay"), setting.pop("rest")
    strengths = sorted(set(options.l2))
    if len(strengths) > 3:
        raise ValueError(
            "--l2 must be at most 3 strengths, as the figure has room for 5 runs, got "
            f"{len(strengths)}"
        )
    rules = [dict(rule="l2", weight_decay=strength) for strength in strengths]
    rules += [
        dict(rule="lrd", weight_decay=weight_decay, l2=rest),
        dict(rule="elastic", weight_decay=weight_decay, l2=options.elastic_l2),
    ]
    return [TrainConfig(**setting, **rule) for rule in rules]


def mechanism(options: argparse.Namespace) -> None:
    """Train, show progress, write the runs and the figure."""
    from lrdlib.figures.runs import (
        mechanism_figure,
    )  # plotly and tqdm are extras: the library itself does without

    configs = mechanism_configs(options)
    use_onednn()
    training = train(
        configs, checkpoint=options.out / "checkpoint.npz", device=options.device
    )
    follow(training)
    runs = runs_of(training, command=command_line())
    for run in runs:
        save_run(run, options.out / f"{file_name(run)}.npz")
    mechanism_figure(runs).write_html(options.out / "mechanism.html", include_plotlyjs=True)
    for run in runs:
        step = run.first_step()
        when = f"groks at step {step}" if step is not None else "does not grok"
        print(
            f"{run.label():24} {when:22} test accuracy "
            f"{run.history['test_accuracy'][-1]:.3f}"
        )
    print(f"figure: {options.out / 'mechanism.html'}")


def follow(training: Training) -> None:
    """Run a training to its end under a progress bar with each run's test accuracy and
    rank."""
    from tqdm import tqdm

    with tqdm(total=training.configs[0].steps, unit="step", dynamic_ncols=True) as bar:
        for record in training:
            bar.update(record.step - bar.n)
            bar.set_postfix_str(status(training, record))


def status(training: Training, record: Record) -> str:
    """One line: rule, test accuracy and QK stable rank of each run."""
    accuracy, rank = (
        record.metrics["test_accuracy"].tolist(),
        record.metrics["qk_stable_rank"].tolist(),
    )
    runs = zip(training.configs, accuracy, rank, strict=True)
    return ", ".join(
        f"{c.rule} {c.weight_decay:g}: test {a:.2f} rank {r:.1f}" for c, a, r in runs
    )


def file_name(run: Run) -> str:
    """A file name that tells the run: rule, strength, fraction and seed."""
    config = run.config
    return f"{config['rule']}-{config['weight_decay']:.12g}-p{config['p']}-f{config['fraction']:.12g}-seed{config['seed']}"
