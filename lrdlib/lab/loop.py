"""From a thread back to the event loop of a kernel."""

import asyncio
from collections.abc import Callable
from typing import Any


def caller_of_loop() -> Callable[[Callable[[], None]], Any]:
    """A function that has its argument called by the event loop that is running here, from
    any thread.

    Where none is running, in a plain script, it calls at once.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return lambda call: call()

    def schedule(call: Callable[[], None]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(call)

    return schedule
