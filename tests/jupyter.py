"""A JupyterLab of its own on a free port of this machine, in an empty folder, and its
notebooks in Chromium."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page

TOKEN = "for-this-test-only"
PATIENCE = 120  # seconds for whatever Jupyter itself takes; a busy machine takes a minute to open a notebook
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


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


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
    port, root = free_port(), folder / "notebooks"
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
        f"--port={port}",
    ]
    command += [
        f"--ServerApp.root_dir={root}",
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
            answers(f"http://127.0.0.1:{port}/api?token={TOKEN}", server, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def answers(url: str, server: subprocess.Popen, log: Path) -> None:
    """Wait until the server does."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError) as error:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(
                    f"JupyterLab does not answer: {log.read_text()[-2000:]}"
                ) from error
            time.sleep(0.2)


def open_notebook(page: Page, address: str, name: str) -> None:
    """Open a notebook and wait for its kernel."""
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(f"{address}/doc/tree/{name}?token={TOKEN}")
    page.get_by_text("(ipykernel) | Idle").wait_for()


def run_cell(page: Page, index: int) -> None:
    page.locator(".jp-CodeCell .cm-content").nth(index).click()
    page.keyboard.press("Shift+Enter")


def restart_kernel(page: Page) -> None:
    page.get_by_role("button", name="Restart the kernel", exact=True).click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()
