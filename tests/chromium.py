"""Find the Chromium that the browser tests drive, or install one: python tests/chromium.py

Looked for in turn: $CHROMIUM, the usual names on PATH, playwright's own. If there is none,
Debian's package (as root, or by sudo without a password), else playwright's download.

First choice is the shell without windows: a page opens in half of the time, since a whole
Chromium draws its own windows with pages too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SHELL = "chromium-headless-shell"  # Debian's package and its program
NAMES = (
    *(SHELL, "chromium", "chromium-browser"),
    *("google-chrome", "google-chrome-stable", "chrome"),
)


def on_path() -> str | None:
    """$CHROMIUM, else the first of the usual names on PATH that answers `--version`."""
    wanted = os.environ.get("CHROMIUM")
    if wanted:
        if not shutil.which(wanted):
            raise SystemExit(f"CHROMIUM={wanted} is not a program")
        return wanted
    return next((path for path in map(shutil.which, NAMES) if path and version(path)), None)


def own() -> str | None:
    """The browser that `playwright install chromium` fetched, if it did."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def version(path: str) -> str:
    """What the program says it is; empty if it does not run (Ubuntu's chromium-browser is a
    stub without its snap)."""
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def find() -> str | None:
    """The path of a Chromium, or `None`."""
    return on_path() or own()


def install() -> None:
    """Debian's where apt-get may be used, else playwright's."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") and (not sudo or shutil.which("sudo")):
        subprocess.run([*sudo, "apt-get", "update", "-qq"], check=False)
        for package in (SHELL, "chromium"):
            if not find():
                print(f"   installing {package} with apt-get", flush=True)
                command = ["apt-get", "install", "-y", "-qq"]
                subprocess.run([*sudo, *command, package], check=False)
    if not find():
        print("   installing chromium with playwright", flush=True)
        subprocess.run(
            [sys.executable, "-m", "playwright", "install", "--with-deps", "chromium"],
            check=False,
        )


def main() -> int:
    if not find():
        install()
    path = find()
    if path is None:
        print(
            "no Chromium found, and none could be installed; set CHROMIUM=/path/to/chrome",
            file=sys.stderr,
        )
        return 1
    print(f"   {path}  ({version(path)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
