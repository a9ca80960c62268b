"""The wheel and the sdist are built without a warning, hold the whole library and no test,
and what is in the wheel can be imported where nothing else of the project is."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", minversion="77")

ROOT = Path(__file__).resolve().parent.parent
BUILD = """
from setuptools import build_meta
build_meta.build_sdist("dist")
build_meta.build_wheel("dist")
"""


def shipped(folder):
    """Every file of the library but what Python itself writes."""
    files = {path for path in (folder / "lrdlib").rglob("*") if path.is_file()}
    return {str(p.relative_to(folder)) for p in files if "__pycache__" not in p.parts}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the project as a build sees it, with what was built of it in dist/."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("lrdlib", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, copy)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-c", BUILD],
        **dict(cwd=copy, env=environment, capture_output=True, text=True, check=True),
    )
    lines = (done.stdout + done.stderr).splitlines()
    assert not [line for line in lines if "warning" in line.lower()]
    return copy


def test_the_wheel_holds_the_whole_library(source):
    [wheel] = source.glob("dist/*.whl")
    names = {
        name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name
    }
    assert names == shipped(source) and "lrdlib/py.typed" in names


def test_the_sdist_holds_the_whole_library_and_no_test(source):
    [sdist] = source.glob("dist/*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {
            n.partition("/")[2] for n in archive.getnames() if "." in n.rpartition("/")[2]
        }
    assert shipped(source) <= names
    assert not [name for name in names if name.startswith("tests")]


def test_the_wheel_is_imported_on_its_own(source, tmp_path):
    [wheel] = source.glob("dist/*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import lrdlib, lrdlib.matrices; from importlib.metadata import version; "
        "print(lrdlib.__file__); print(version('lrdlib'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        **dict(cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")}),
        **dict(capture_output=True, text=True, check=True),
    )
    file, version = done.stdout.split()
    assert Path(file) == tmp_path / "site" / "lrdlib" / "__init__.py"
    assert wheel.name == f"lrdlib-{version}-py3-none-any.whl"
