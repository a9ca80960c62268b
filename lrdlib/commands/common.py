"""What the commands share: their grammar, what they may write, and how they print."""

import argparse
import codecs
import io
import json
import os
import shlex
import signal
import sys
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TextIO

from lrdlib.training.config import TrainConfig
from lrdlib.training.store import written_whole

Subparsers = Any  # argparse's own name for it is private

MAX_WORKERS = 32  # per core
TERMINATED = 128 + signal.SIGTERM  # the exit code of a process that SIGTERM ended

# What a terminal without these letters gets instead.
WORDS = {"λ": "lambda", "σ": "sigma", "Σ": "sum", "×": "x", "·": "*", "∘": "o", "ᵀ": "^T"}
WORDS |= {"–": "-", "—": "-", "−": "-", "→": "->", "≤": "<=", "≥": ">=", "█": "#"}
WORDS |= {letter: f"^{i}" for i, letter in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
IN_WORDS = "lrdlib.in_words"  # the name of the error handler that does so


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


def add_only(command: argparse.ArgumentParser) -> None:
    """Add --only, whose conditions `only` takes."""
    command.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE[,VALUE]",
        help="the part of it to train",
    )


def add_compile(command: argparse.ArgumentParser) -> None:
    """Add --compile and --no-compile."""
    command.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="torch.compile the forward pass: 1.4 times as fast after half a minute (off)",
    )


def only(configs: Iterable[TrainConfig], conditions: Sequence[str]) -> list[TrainConfig]:
    """The configs that meet every condition FIELD=VALUE[,VALUE]. Raises ValueError for a
    condition that is none, or that leaves nothing.

    >>> [c.seed for c in only([TrainConfig(seed=s) for s in range(4)], ["rule=lrd", "seed=1,2"])]
    [1, 2]
    """
    chosen = list(configs)
    for condition in conditions:
        before, chosen = chosen, meeting(chosen, [condition])
        if not chosen:
            field, _ = values(condition)
            there = ", ".join(sorted({str(getattr(c, field)) for c in before}))
            raise ValueError(
                f"--only must leave a run, got {condition!r}: there is {there or 'none'}"
            )
    return chosen


def meeting(configs: Iterable[TrainConfig], conditions: Iterable[str]) -> list[TrainConfig]:
    """Those of the configs that meet every condition; none may. Raises as `values`."""
    wanted = [values(condition) for condition in conditions]
    return [c for c in configs if all(getattr(c, field) in some for field, some in wanted)]


def values(condition: str) -> tuple[str, list[Any]]:
    """The field of TrainConfig that a condition FIELD=VALUE[,VALUE] is of, and its values.
    Raises ValueError for what is none.

    >>> values("rule=l2,lrd"), values("betas=[0.9,0.98]")
    (('rule', ['l2', 'lrd']), ('betas', [(0.9, 0.98)]))
    """
    field, equals, text = condition.partition("=")
    if not equals or field not in {f.name for f in fields(TrainConfig)}:
        raise ValueError(
            f"--only must be FIELD=VALUE with a field of TrainConfig, got {condition!r}"
        )
    whole = json_or_text(text)  # a list, as of betas, is one value
    several = [json_or_text(part) for part in text.split(",")]
    return field, [tuple(whole)] if isinstance(whole, list) else several


def json_or_text(text: str) -> Any:
    """What the text is as JSON, or else the text itself.

    >>> [json_or_text(text) for text in ("0.1", "null", "[0.9, 0.98]", "lrd")]
    [0.1, None, [0.9, 0.98], 'lrd']
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def command_line(*arguments: str) -> str:
    """The command as one types it: with these arguments, or as this process was called."""
    return "python -m lrdlib " + shlex.join(arguments or sys.argv[1:])


def check_folder(option: str, path: Path, *, new: bool = False) -> None:
    """Raise ValueError unless `option` names a folder that can be read; or, if it may be
    new, nothing yet."""
    try:
        next(path.iterdir(), None)
    except (OSError, ValueError) as error:  # ValueError for a name with a null byte
        if not (new and isinstance(error, FileNotFoundError)):
            raise ValueError(
                f"{option} must be a folder that can be read, got {str(path)!r}: "
                f"{reason(error)}"
            ) from error


def make_folder(option: str, path: Path) -> None:
    """Make the folder that `option` names, with its parents. Raises ValueError unless a
    file can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{option} must be a folder that can be written to, got {str(path)!r}: "
            f"{reason(error)}"
        ) from error


def write_text(option: str, path: Path, text: str) -> None:
    """Write the file that `option` names, as UTF-8: all of it, or the old one stays.

    What is there and no file, such as a pipe, is written to as it is. Raises ValueError if
    the file cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        with written_whole(path.resolve()) as file:  # a link stays one
            file.write(text.encode())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{option} must be a file that can be written, got {str(path)!r}: "
            f"{reason(error)}"
        ) from error


def reason(error: Exception) -> str:
    """What went wrong, without the path that the message names already."""
    return getattr(error, "strerror", None) or str(error)


def in_words(error: UnicodeError) -> tuple[str, int]:
    """An error handler for encoding (see `codecs.register_error`): words for letters.

    >>> "λ = 5 × 10², ö".encode("ascii", IN_WORDS)
    b'lambda = 5 x 10^2, o'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(
        WORDS.get(letter)
        or unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
        or letter.encode("ascii", "backslashreplace").decode()
        for letter in letters
    ), error.end


codecs.register_error(IN_WORDS, in_words)


def printable(text: str, stream: TextIO) -> str:
    """The text as `stream` shows it under `printing_in_words`: for what counts letters."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, IN_WORDS).decode(encoding)


@contextmanager
def printing_in_words() -> Iterator[None]:
    """Within, a letter that the terminal does not have is printed as a word, and is no
    error."""
    streams = [s for s in (sys.stdout, sys.stderr) if isinstance(s, io.TextIOWrapper)]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors=IN_WORDS)
    try:
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            stream.reconfigure(errors=errors)


def settle() -> None:
    """Write out what has been printed, or drop it where nothing takes it, so that nothing
    is left to fail when Python ends."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within, SIGTERM raises SystemExit(TERMINATED) in the main thread, so that what is
    open is closed and the worker processes end too.

    A second one is ignored, so that it does not break off the first one's closing. Where
    SIGTERM means something already, and in another thread, nothing is changed.
    """

    def stop(*_: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(TERMINATED)

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
