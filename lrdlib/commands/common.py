"""What the commands share: their grammar, what they may write, and how they print."""

import argparse
import codecs
import io
import os
import shlex
import signal
import sys
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

from lrdlib.training.store import written_whole

Subparsers = Any  # argparse's own name for it is private

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
