"""python -m lrdlib validate: hold the recorded studies against this machine."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TypeVar

from lrdlib.commands.common import (
    Subparsers,
    add_command,
    check_folder,
    command_line,
    reason,
    write_text,
)
from lrdlib.commands.study import FOLDER
from lrdlib.evidence.results import label
from lrdlib.evidence.studies import studied
from lrdlib.evidence.validation import (
    Agreement,
    Distribution,
    distributions,
    first_steps,
    one_of_each_arm,
    whole_runs,
)
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import Run, provenance
from lrdlib.training.sweep import recorded, sweep

Row = TypeVar("Row", Agreement, Distribution)

DESCRIPTION = """\
Remake the first steps of one recorded run of each arm of the studies on this machine's CPU,
compare the records, and write the table as JSON. With --whole, remake whole runs too, four
arms of study E1 on six seeds each, into a folder (three to five minutes a run, on one
core), and compare the steps at which they generalise.
The table is written after every run, and what it or the folder has is not made again.
"""


def add(commands: Subparsers) -> None:
    """Add the command to the command line's grammar."""
    command = add_command(
        commands, "validate", "remake recorded studies here", DESCRIPTION, validate
    )
    option = command.add_argument
    option("--runs", type=Path, default=FOLDER, metavar="DIR", help="the recorded studies")
    option(
        "--whole", type=Path, metavar="DIR", help="remake whole runs, and keep them here"
    )
    option("--steps", type=int, default=100, help="steps of each run (100)")
    option("--limit", type=int, metavar="N", help="only the first N arms")
    option("--out", type=Path, metavar="FILE", help="where to write the JSON")


def validate(options: argparse.Namespace) -> None:
    """Compare, and write what was found."""
    from tqdm import tqdm

    check_folder("--runs", options.runs)
    if options.whole is not None:
        check_folder("--whole", options.whole, new=True)
    runs = studied(options.runs)
    chosen = one_of_each_arm(runs)[: options.limit]
    known = {place(a): a for a in measured(options.out, "first steps", Agreement)}
    whole = measured(options.out, "whole runs", Distribution)
    early: list[Agreement] = []

    def write() -> None:
        if options.out is not None:
            write_text("--out", options.out, table(early, whole))

    for config in tqdm(chosen, "runs"):
        here = (label(config), config.fraction, config.seed, config.lr, options.steps)
        early.append(known.get(here) or first_steps(config, runs[config], options.steps))
        write()
    if options.whole is not None:
        for remade in tqdm(remake(whole_runs(runs), options.whole), "whole runs"):
            whole = distributions(runs, remade)
            write()
    for a in early:
        print(
            f"{a.arm}, f {a.fraction:g}, seed {a.seed}: "
            + ", ".join(f"{name} {x:.1e}" for name, x in a.apart.items())
            + ("" if a.agrees else "   APART")
        )
    for d in whole:
        print(
            f"{d.arm}, f {d.fraction:g}: {d.recorded} recorded, {d.remade} here, p {d.p:.2f}"
        )
    print(f"{sum(a.agrees for a in early)} of {len(early)} runs agree")


def remake(configs: list[TrainConfig], folder: Path) -> Iterator[dict[TrainConfig, Run]]:
    """All runs that the folder holds so far, after each that is trained into it."""
    found = recorded(configs, folder)
    yield found
    commands = dict.fromkeys(configs, f"python -m lrdlib validate --whole {folder}")
    for run in sweep(configs, folder, compile=True, commands=commands):
        found = found | {TrainConfig(**run.config): run}
        yield found


def place(a: Agreement) -> tuple[str, float, int, float, int]:
    """What tells one row of the table from another."""
    return a.arm, a.fraction, a.seed, a.lr, a.steps


def table(early: list[Agreement], whole: list[Distribution]) -> str:
    """The table as JSON, with the command that makes it and the machine it was made on."""
    found = {
        "first steps": [asdict(a) | {"agrees": a.agrees} for a in early],
        "whole runs": [asdict(d) for d in whole],
        "provenance": provenance(command_line()),
    }
    return json.dumps(found, indent=1) + "\n"


def measured(path: Path | None, part: str, kind: type[Row]) -> list[Row]:
    """What an earlier call wrote to `path` as this part; nothing where it wrote nothing
    yet."""
    if path is None or not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))[part]
        return [kind(**{f.name: row[f.name] for f in fields(kind)}) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--out must be a new file or a table that `validate` wrote, got {str(path)!r}: "
            f"{reason(error)}"
        ) from error
