"""python -m lrdlib language: LRD on a small model of a real language."""

import argparse
import json
from pathlib import Path

from lrdlib.commands.common import Subparsers, add_command, command_line, write_text
from lrdlib.evidence.language import PLAN, SEEDS, Outcome, recorded, table, train_on
from lrdlib.training.runs import provenance

DESCRIPTION = """\
Train small models of the characters of a text under no decay, L2 and LRD, from far below
the strengths that modular addition needs, and write what they end with as JSON. The file is
written after every run, and what it has is not trained again.
"""


def add(commands: Subparsers) -> None:
    """Add the command to the command line's grammar."""
    command = add_command(
        commands, "language", "LRD on a small language model", DESCRIPTION, language
    )
    option = command.add_argument
    option("--text", type=Path, default=Path("book/runs/moby-dick.txt"), metavar="FILE")
    option(
        "--out", type=Path, required=True, metavar="FILE", help="where to write the JSON"
    )
    option("--steps", type=int, default=1500, help="steps of each run (1500)")
    option("--limit", type=int, metavar="N", help="only the first N arms of the plan")


def language(options: argparse.Namespace) -> None:
    """Train what is missing, and print the losses."""
    from tqdm import tqdm

    text = options.text.read_text(encoding="utf-8")
    try:
        outcomes = recorded(options.out)
    except FileNotFoundError:
        outcomes = []
    known = {(o.model, o.arm, o.seed, o.steps) for o in outcomes}
    asked = [
        (*both, seed, options.steps) for both in PLAN[: options.limit] for seed in SEEDS
    ]
    for name, arm, seed, steps in tqdm([run for run in asked if run not in known], "runs"):
        outcomes.append(train_on(text, name, arm, seed, steps))
        write_text("--out", options.out, as_json(outcomes))
    print(table(outcomes))


def as_json(outcomes: list[Outcome]) -> str:
    """The outcomes as JSON, with the command that makes them and the machine."""
    found = {
        "outcomes": [o.row() for o in outcomes],
        "provenance": provenance(command_line()),
    }
    return json.dumps(found, indent=1) + "\n"
