"""A JupyterLab of its own on a free port of this machine, in an empty folder, and its
notebooks in Chromium."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Page
from waiting import PATIENCE_MS, wait_for

TOKEN = "for-this-test-only"
CODE = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}


def notebook(path: Path, *cells: str) -> None:
    """Write a notebook of code cells."""
    made = [{**CODE, "id": f"cell-{i}", "source": source} for i, source in enumerate(cells)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.write_text(
        json.dumps(
            {
                "cells": made,
                "metadata": {"kernelspec": kernel},
                "nbformat": 4,
                "nbformat_minor": 5,
            }
        ),
        encoding="utf-8",
    )


def settings(folder: Path, theme: str) -> None:
    """JupyterLab's user settings: its theme, and no question about news."""
    own = folder / "@jupyterlab" / "apputils-extension"
    own.mkdir(parents=True)
    (own / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    (own / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )


@contextmanager
def jupyterlab(folder: Path, theme: str) -> Iterator[str]:
    """The address of a JupyterLab that serves `folder`/notebooks and keeps everything of
    its own in `folder`."""
    settings(folder / "settings", theme)
    places = {
        "HOME": "home",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
    }
    places |= {
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--port=0",  # a free one
    ]
    command += [
        f"--ServerApp.root_dir={folder / 'notebooks'}",
        f"--IdentityProvider.token={TOKEN}",
        "--LabApp.news_url=",
    ]
    command += [
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]
    environment = os.environ | {name: str(folder / place) for name, place in places.items()}
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            runtime = folder / places["JUPYTER_RUNTIME_DIR"]
            wait_for(lambda: address(runtime) or server.poll() is not None, "JupyterLab")
            assert server.poll() is None, (folder / "log").read_text()[-2000:]
            yield address(runtime)
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def address(runtime: Path) -> str | None:
    """Where the server of this runtime folder listens, once it has written that down."""
    for path in runtime.glob("jpserver-*.json"):
        with suppress(json.JSONDecodeError):  # half written
            return f"http://127.0.0.1:{json.loads(path.read_text())['port']}"
    return None


def open_notebook(page: Page, address: str, name: str) -> None:
    """Open a notebook and wait for its kernel."""
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{address}/doc/tree/{name}?token={TOKEN}")
    page.get_by_text("(ipykernel) | Idle").wait_for()


def run_cell(page: Page, index: int) -> None:
    page.locator(".jp-CodeCell .cm-content").nth(index).click()
    page.keyboard.press("Shift+Enter")


def restart_kernel(page: Page) -> None:
    page.get_by_role("button", name="Restart the kernel", exact=True).click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()
