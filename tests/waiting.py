"""How long tests wait for what must happen: one bound for all of them, and no test judges
by how long it took.

Nothing that works takes as long on a machine that is busy with other things, so that only
what is broken meets the bound.
"""

import time
from collections.abc import Callable

PATIENCE = 300  # seconds
PATIENCE_MS = 1000 * PATIENCE  # as Playwright counts


def wait_for(condition: Callable[[], object], what: str = "it to happen") -> object:
    """What condition() gives as soon as that is true; AssertionError after `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.005)
    return value
