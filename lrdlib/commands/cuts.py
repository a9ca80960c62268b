"""python -m lrdlib cuts: train three networks, and cut their matrices to every rank."""

import argparse
from pathlib import Path

from lrdlib._check import check_integer
from lrdlib.commands.common import (
    Subparsers,
    add_command,
    command_line,
    make_folder,
    reason,
)
from lrdlib.evidence.cuts import (
    GROUPS,
    NETWORKS,
    Cuts,
    load_cuts,
    save_cuts,
    trained_and_cut,
)
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import provenance

DESCRIPTION = """\
Train three small networks on this machine's CPU (LRD, strong L2, and weak L2, which only
memorises), a minute or two each, and cut their matrices to every rank: queries, keys,
values, outputs, the MLP, alone and together. Writes the accuracies that are left, as .npz
(read it with lrdlib.evidence.cuts.load_cuts), after every network; what it has is not
trained again.
"""


def add(commands: Subparsers) -> None:
    """Add the command to the command line's grammar."""
    command = add_command(
        commands, "cuts", "cut trained networks to every rank", DESCRIPTION, cuts
    )
    option = command.add_argument
    option("--out", type=Path, default=Path("cuts.npz"), metavar="FILE", help="(cuts.npz)")
    option("--limit", type=int, metavar="N", help="only the first N networks")


def cuts(options: argparse.Namespace) -> None:
    """Train and cut what the file lacks, and print the rank that each group needs."""
    from tqdm import tqdm

    if options.limit is not None:
        check_integer("limit", options.limit)
    wanted = dict(list(NETWORKS.items())[: options.limit])
    known = already(options.out)
    for name, config in tqdm(wanted.items(), "networks"):
        if name in known and TrainConfig(**known[name].config) == config:
            continue
        make_folder("--out's folder", options.out.parent)
        known[name] = trained_and_cut(config)
        save_cuts(known, options.out, provenance(command_line()))
    for name in wanted:
        print(f"{name}: {described(known[name])}")


def described(c: Cuts) -> str:
    """One line: what the network gets right, and the rank at which it keeps 95% of
    what it has learnt."""
    ranks = "; ".join(f"{group} {c.needed(group)}" for group in GROUPS)
    return (
        f"{c.recorded['train']:.1%} of the train pairs and {c.recorded['orbit_clean']:.1%} "
        f"of the orbit-clean ones; rank needed: {ranks}"
    )


def already(path: Path) -> dict[str, Cuts]:
    """What an earlier call wrote; nothing where it wrote nothing yet."""
    try:
        return load_cuts(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(
            f"out must be a new file or one that `cuts` wrote, got {str(path)!r}: "
            f"{reason(error)}"
        ) from error
