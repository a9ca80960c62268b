"""What the commands share."""

import argparse
import shlex
import sys
from collections.abc import Callable
from typing import Any

Subparsers = Any  # argparse's own name for it is private


def add_command(
    commands: Subparsers,
    name: str,
    summary: str,
    description: str,
    run: Callable[[argparse.Namespace], None],
) -> argparse.ArgumentParser:
    """A new command, whose help keeps the lines of `description` as they are."""
    formatter = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        name, help=summary, description=description, formatter_class=formatter
    )
    command.set_defaults(run=run)
    return command


def command_line(*arguments: str) -> str:
    """The command as one types it: with these arguments, or as this process was called."""
    return "python -m lrdlib " + shlex.join(arguments or sys.argv[1:])
