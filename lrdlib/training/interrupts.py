"""Ctrl-C that waits for the end of a change of state."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_noted: list[int] | None = None  # within interrupts_held: the signals that wait


@contextmanager
def interrupts_held() -> Iterator[list[int]]:
    """A block in which Ctrl-C (SIGINT) only takes note, in the list that it yields, to act
    at the end; within another such block, at the end of that one.

    Python handles signals in the main thread alone, so elsewhere there is nothing to hold.
    """
    global _noted
    if threading.current_thread() is not threading.main_thread():
        yield []
    elif _noted is not None:
        yield _noted
    elif not callable(handler := signal.getsignal(signal.SIGINT)):  # not Python's to hold
        yield []
    else:
        noted: list[int] = []
        signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
        _noted = noted
        try:
            yield noted
        finally:
            _noted = None
            signal.signal(signal.SIGINT, handler)
            if noted:
                signal.raise_signal(signal.SIGINT)
