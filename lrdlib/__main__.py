"""The command line: python -m lrdlib COMMAND. Each command is a module of
lrdlib.commands."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress

from lrdlib.commands import (
    claims,
    cuts,
    language,
    mechanism,
    phase_diagram,
    study,
    validate,
)
from lrdlib.commands.common import TERMINATED, printing_in_words, settle, sigterm_raises


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    root = argparse.ArgumentParser(
        prog="python -m lrdlib", description="Experiments with Low-Rank Decay."
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="command")
    for module in (mechanism, phase_diagram, claims, study, validate, cuts, language):
        module.add(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, with one line that says why unless it is 0.

    2 for bad input, a missing extra, or a machine that cannot do it; 130 for Ctrl-C; 143
    for SIGTERM. 141, without a word, if nobody reads the output any more. Raises SystemExit
    as argparse does, for --help and for a line that it cannot read.
    """
    with printing_in_words(), sigterm_raises():
        code, why = _outcome(arguments)
        with suppress(OSError):
            print(f"lrdlib: {why}\n" if why else "", end="", file=sys.stderr)
        settle()
    return code


def _outcome(arguments: Sequence[str] | None) -> tuple[int, str]:
    """Run a command; its exit code, and why it is not 0."""
    options = argparse.Namespace()
    try:
        try:
            parser().parse_args(arguments, options)
            options.run(options)
        finally:
            print(end="", flush=True)  # here, where an error still has a handler
    except BrokenPipeError:
        return 141, ""
    except ModuleNotFoundError as error:
        extras = {
            "distributed": "cluster",
            "dask": "cluster",
            "scipy": "evidence",
            "transformers": "transformers",
        }
        extra = extras.get(error.name or "", "cli")
        return 2, f"{error.name} is missing; pip install 'lrdlib[{extra}]'"
    except OSError as error:
        return 2, f"{error}{_how_to_go_on(options)}"
    except (ValueError, TypeError) as error:
        return 2, _with_option(str(error), options)
    except (ArithmeticError, MemoryError, RuntimeError) as error:  # torch's are the last
        lines = str(error).splitlines() or ["this machine cannot do that"]
        return 2, f"{type(error).__name__}: {lines[0]}"
    except KeyboardInterrupt:
        return 130, f"stopped{_how_to_go_on(options)}"
    except SystemExit as stop:
        if stop.code != TERMINATED:
            settle()
            raise
        return TERMINATED, f"terminated{_how_to_go_on(options)}"
    return 0, ""


def _how_to_go_on(options: argparse.Namespace) -> str:
    """What a command that trains has kept."""
    if not hasattr(options, "device"):
        return ""
    return f"; the same command goes on from what is in {options.out}"


def _with_option(message: str, options: argparse.Namespace) -> str:
    """The message of the library, with the option for the argument that it begins with."""
    name, space, rest = message.partition(" ")
    name = {"store": "runs", "checkpoint": "out"}.get(name, name)  # where they lie
    known = name in vars(options) and name not in ("run", "command")
    return f"--{name.replace('_', '-')}{space}{rest}" if known else message


if __name__ == "__main__":
    sys.exit(main())
