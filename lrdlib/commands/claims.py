"""python -m lrdlib claims: judge every claim of the paper, the first code's README and the
author's own report from the recorded runs."""

import argparse
from pathlib import Path

from lrdlib.commands.common import Subparsers, add_command, check_folder, write_text
from lrdlib.evidence.cards import table
from lrdlib.evidence.claims import load_evidence

DESCRIPTION = """\
Print a Markdown table of what the paper, the first public code and the author's later
report claim about their experiments: verdict, effect with its interval, number of runs and
seeds, the rule with its date, what LRD is there, and the command that remakes the runs; and
below it the rules that were changed after runs existed. All verdicts are computed from the
runs recorded in a folder. What is not recorded far enough says so; what rests on fewer than
three seeds is provisional. Record more with `python -m lrdlib phase-diagram --runs DIR` and
`python -m lrdlib study`.
"""


def add(commands: Subparsers) -> None:
    """Add the command to the command line's grammar."""
    summary = "judge the claims from recorded runs"
    command = add_command(commands, "claims", summary, DESCRIPTION, claims)
    option = command.add_argument
    runs = Path("book/runs/sweep")
    option("--runs", type=Path, default=runs, metavar="DIR", help="folder of recorded runs")
    option("--out", type=Path, metavar="FILE", help="where to write the table (the screen)")


def claims(options: argparse.Namespace) -> None:
    """Write the table."""
    check_folder("--runs", options.runs)
    text = table(load_evidence(options.runs))
    if options.out is None:
        print(text)
    else:
        write_text("--out", options.out, text + "\n")
