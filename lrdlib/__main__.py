"""The command line: python -m lrdlib COMMAND. Each command is a module of
lrdlib.commands."""

import argparse
import sys
from collections.abc import Sequence

from lrdlib.commands import claims, mechanism, phase_diagram


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    root = argparse.ArgumentParser(
        prog="python -m lrdlib", description="Experiments with Low-Rank Decay."
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="command")
    for module in (mechanism, phase_diagram, claims):
        module.add(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 2 for bad input or a missing extra, 130 for Ctrl-C, each with one line
    that says why."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except ModuleNotFoundError as error:
        extra = "cluster" if error.name in ("distributed", "dask") else "cli"
        print(
            f"lrdlib: {error.name} is missing; pip install 'lrdlib[{extra}]'",
            file=sys.stderr,
        )
        return 2
    except (ValueError, TypeError, OSError) as error:
        print(f"lrdlib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"lrdlib: stopped; the same command goes on from what is in {options.out}",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
