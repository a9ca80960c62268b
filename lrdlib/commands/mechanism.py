"""python -m lrdlib mechanism: train the decay rules side by side and draw the paper's
Figure 2."""

import argparse
from pathlib import Path
from typing import Any

from lrdlib._check import check_real
from lrdlib.commands.common import (
    Subparsers,
    add_command,
    check_folder,
    command_line,
    make_folder,
)
from lrdlib.training.backend import use_onednn
from lrdlib.training.config import TrainConfig
from lrdlib.training.records import Record
from lrdlib.training.runs import runs_of, save_run, short_name
from lrdlib.training.train import Training, train

# What both sources leave unsaid (batch 512, lr 1e-3; in the paper the betas too) is
# TrainConfig's default.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": dict(p=97, fraction=0.4, weight_decay=1e-2, rest=0.0, steps=3000),
    "published": dict(p=113, fraction=0.5, weight_decay=5e-3, rest=0.1, steps=4000)
    | dict(select="qk", scale=None, method="cubic", ns_steps=5)
    | dict(qk_norm="width", betas=(0.9, 0.999)),
}

DESCRIPTION = """\
Train one small transformer on modular addition under each decay rule, from the same seed,
and compare them: L2 (ordinary weight decay) at each strength of --l2, Low-Rank Decay, and
elastic (Low-Rank Decay plus L2).

presets (any option given beside them wins):
  paper      p = 97, 40% of the pairs, 3000 steps, LRD on every block matrix with the
             adaptive scale, lambda = 0.01
  published  p = 113, 50%, 4000 steps, the first public code's setting: LRD on query and
             key matrices only, no adaptive scale, five cubic Newton-Schulz steps,
             lambda = 0.005, weight decay 0.1 on everything else, QK-Norm over the whole
             width, betas 0.9 and 0.999

lambda is not multiplied by the learning rate unless --mode decoupled. L2's strengths always
are, as in AdamW: 0.1 is what the first code uses, 3 is a tuned one.

Writes one .npz a run (read it with lrdlib.load_run), the figure mechanism.html, and
checkpoint.npz: the same command goes on from there after an interruption.
"""


def add(commands: Subparsers) -> None:
    """Add the command to the command line's grammar."""
    summary = "train L2, LRD and elastic side by side, as in Figure 2"
    command = add_command(commands, "mechanism", summary, DESCRIPTION, mechanism)
    option = command.add_argument
    presets, modes = sorted(PRESETS), ("independent", "decoupled")
    out, strengths = Path("mechanism"), [0.1, 3.0]
    option("--preset", choices=presets, default="paper", help="where to start from (paper)")
    option(
        "--out", type=Path, default=out, metavar="DIR", help="folder to write (mechanism)"
    )
    option("--p", type=int, help="the modulus")
    option("--fraction", type=float, help="part of the pairs to train on, between 0 and 1")
    option(
        "--weight-decay",
        type=float,
        metavar="LAMBDA",
        help="strength of LRD, alone and in elastic",
    )
    option(
        "--l2",
        type=float,
        nargs="+",
        default=strengths,
        metavar="L",
        help="strengths of the L2 runs (0.1 3)",
    )
    option(
        "--elastic-l2",
        type=float,
        default=0.1,
        metavar="L",
        help="strength of L2 within elastic (0.1)",
    )
    option("--mode", choices=modes, default=modes[0], help="is LRD's lambda times lr?")
    option("--seed", type=int, default=0, help="of split, weights and batches (0)")
    option("--steps", type=int, help="training steps (the preset's)")
    option(
        "--eval-every", type=int, default=50, metavar="N", help="steps between records (50)"
    )
    option("--lr", type=float, default=1e-3, help="learning rate (0.001)")
    option("--batch-size", type=int, default=512, help="pairs a step (512)")
    option("--d-model", type=int, default=128, help="width of the transformer (128)")
    option("--device", default="cpu", help="where to train: cpu or cuda (cpu)")


def mechanism_configs(options: argparse.Namespace) -> list[TrainConfig]:
    """The runs of the mechanism experiment: L2 at each strength, LRD, elastic. Raises
    TypeError or ValueError for an option that will not do."""
    for strength in options.l2:
        check_real("--l2", strength, at_least=0)
    check_real("--elastic-l2", options.elastic_l2, at_least=0)
    strengths = sorted(set(options.l2))
    if len(strengths) > 3:
        raise ValueError(
            "--l2 must be at most 3 strengths, as the figure has room for 5 runs, got "
            f"{len(strengths)}"
        )
    own = ("p", "fraction", "weight_decay", "steps")  # the preset's, unless they are given
    given = {name: getattr(options, name) for name in own}
    setting = PRESETS[options.preset] | {k: v for k, v in given.items() if v is not None}
    for name in ("mode", "seed", "eval_every", "lr", "batch_size", "d_model"):
        setting[name] = getattr(options, name)
    weight_decay, rest = setting.pop("weight_decay"), setting.pop("rest")
    rules = [
        *({"rule": "l2", "weight_decay": strength} for strength in strengths),
        {"rule": "lrd", "weight_decay": weight_decay, "l2": rest},
        {"rule": "elastic", "weight_decay": weight_decay, "l2": options.elastic_l2},
    ]
    return [TrainConfig(**setting, **rule) for rule in rules]


def mechanism(options: argparse.Namespace) -> None:
    """Train, show progress, write the runs and the figure."""
    # plotly and tqdm are extras: the library itself does without
    from tqdm import tqdm

    from lrdlib.figures.page import write_page
    from lrdlib.figures.runs import mechanism_figure

    configs, out = mechanism_configs(options), options.out
    check_folder("--out", out, new=True)
    use_onednn()
    training = train(configs, checkpoint=out / "checkpoint.npz", device=options.device)
    make_folder("--out", out)
    with tqdm(total=configs[0].steps, unit="step", dynamic_ncols=True) as bar:
        for record in training:
            bar.update(record.step - bar.n)
            bar.set_postfix_str(status(training, record))
    runs = runs_of(training, command=command_line())
    for config, run in zip(configs, runs, strict=True):
        save_run(run, out / f"{short_name(config)}.npz")
    page = write_page(mechanism_figure(runs), out / "mechanism.html", title="Mechanism")
    for run in runs:
        step, accuracy = run.first_step(), run.history["test_accuracy"][-1]
        when = f"groks at step {step}" if step is not None else "does not grok"
        print(f"{run.label():24} {when:22} test accuracy {accuracy:.3f}")
    print(f"figure: {page}")


def status(training: Training, record: Record) -> str:
    """One line: rule, test accuracy and QK stable rank of each run."""
    names = ("test_accuracy", "qk_stable_rank")
    numbers = (record.metrics[name].tolist() for name in names)  # one per run, each
    return ", ".join(
        f"{c.rule} {c.weight_decay:g}: test {accuracy:.2f} rank {rank:.1f}"
        for c, accuracy, rank in zip(training.configs, *numbers, strict=True)
    )
