"""What the tests in a browser share."""

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """SIGINT raises KeyboardInterrupt, also where the shell that started the tests has it
    ignored, as it has for a job in the background: a test that waits for it waits for
    ever."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def chromium():
    """A Chromium of the module's own; without one, the tests that ask for it are skipped,
    and say so."""
    pytest.importorskip("playwright.sync_api")
    from browser import launch
    from chromium import find

    path = find()
    if path is None:
        pytest.skip("no Chromium: run python tests/chromium.py")
    with launch(path) as browser:
        yield browser
