"""The README's code runs as it stands, in an empty folder, and its table names every file
of the library."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("code", BLOCKS, ids=["own-loop", "own-experiment"])
def test_the_code_runs_as_it_stands(code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_table_names_every_file():
    table = README[README.index("## What is where") : README.index("## Speed")]
    for path in (ROOT / "lrdlib").glob("*.py"):
        assert path.name == "__init__.py" or path.name in table, path.name


def test_nothing_is_left_to_fill_in():
    assert not re.search(r"@[A-Z]+@|TODO", README)
