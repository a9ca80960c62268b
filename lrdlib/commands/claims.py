"""python -m lrdlib claims: judge every claim of the paper and the first code's README from
the recorded runs."""

import argparse
from pathlib import Path

from lrdlib.commands.common import Subparsers, add_command
from lrdlib.evidence.claims import load_evidence, table

DESCRIPTION = """\
Print a Markdown table of what the paper and the first public code claim about their experiments: verdict, effect,
number of runs and seeds, and the command that remakes them, all computed from the runs recorded in a folder. What is
not recorded far enough is called not settled. Record more with `python -m lrdlib phase-diagram --runs DIR`.
"""


def add(commands: Subparsers) -> None:
    """Add the command to the command line's grammar."""
    c = add_command(
        commands, "claims", "judge the claims from recorded runs", DESCRIPTION, claims
    )
    c.add_argument(
        "--runs",
        type=Path,
        default=Path("book/runs/sweep"),
        metavar="DIR",
        help="folder of recorded runs",
    )
    c.add_argument(
        "--out", type=Path, metavar="FILE", help="where to write the table (the screen)"
    )


def claims(options: argparse.Namespace) -> None:
    """Write the table."""
    if not options.runs.is_dir():
        raise ValueError(
            f"--runs must be a folder of recorded runs, got {str(options.runs)!r}"
        )
    text = table(load_evidence(options.runs))
    print(text) if options.out is None else options.out.write_text(
        text + "\n", encoding="utf-8"
    )
