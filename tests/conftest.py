"""What the tests in a browser share."""

import pytest


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
