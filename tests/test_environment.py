"""What the book is built with cannot change unseen: packages with hashes, actions by commit."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CUDA = re.compile("nvidia-|cuda-|triton")  # what torch needs for CUDA alone


def required():
    """The lines of requirements.txt: name -> version."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.partition("#")[0].strip().split("==") for line in lines]
    return {canonicalize_name(pin[0]): pin[1] for pin in pins if pin != [""]}


def locked():
    """The entries of requirements.lock: pairs of a requirement and its hashes."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.sub("^ *#.*\n", "", text, flags=re.M).replace("\\\n", " ").splitlines()
    return [
        (Requirement(words[0]), [hash.strip() for hash in words[1:]])
        for words in (entry.split("--hash=") for entry in entries)
    ]


def test_the_lock_holds_what_is_required_in_its_version():
    versions = {}
    for requirement, _ in locked():
        versions.setdefault(canonicalize_name(requirement.name), set()).add(
            str(requirement.specifier)
        )
    for name, version in required().items():
        if name != "torch":
            assert versions.get(name) == {f"=={version}"}, name
    assert "torch" not in versions and len(versions) > len(required())


def test_the_lock_holds_what_torch_needs():
    versions = {
        canonicalize_name(requirement.name): str(requirement.specifier)[2:]
        for requirement, _ in locked()
        if requirement.marker is None or requirement.marker.evaluate()
    }
    needed = [Requirement(line) for line in metadata.requires("torch") or []]
    for need in needed:
        name = canonicalize_name(need.name)
        if not CUDA.match(name) and (
            not need.marker or need.marker.evaluate({"extra": ""})
        ):
            assert need.specifier.contains(versions[name]), name
    assert len(needed) > 5


def test_every_package_of_the_lock_has_hashes_and_no_place_of_its_own():
    entries = locked()
    for requirement, hashes in entries:
        assert requirement.url is None and re.fullmatch(
            "==[^,*]+", str(requirement.specifier)
        )
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", h) for h in hashes)
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"^\s*-(?!-hash)|--(?!hash=)|://|/", text, re.M)
    assert len(entries) > 100


def test_no_package_lacks_another():
    """The lock is installed without asking what its packages need: torch is not in it."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    assert asked.returncode == 0, asked.stdout
    assert not {"torch", "triton"} & {requirement.name for requirement, _ in locked()}


def test_every_package_of_npm_has_a_hash_and_runs_no_script():
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: p for name, p in lock["packages"].items() if name}
    assert packages and all(p["integrity"].startswith("sha512-") for p in packages.values())
    assert not [name for name, p in packages.items() if "resolved" in p]
    assert (
        "ignore-scripts=true" in (ROOT / ".npmrc").read_text(encoding="utf-8").splitlines()
    )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
class TestWorkflow:
    def test_every_action_is_a_commit(self, path):
        text = path.read_text(encoding="utf-8")
        uses = re.findall(r"\buses: *(.*)", text)
        assert uses
        for use in uses:
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use

    def test_nothing_comes_from_a_further_index(self, path):
        text = path.read_text(encoding="utf-8").lower()
        assert "extra_index" not in text and "extra-index" not in text

    def test_a_job_has_the_rights_that_it_needs(self, path):
        flow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert flow["permissions"] == {}
        for name, job in flow["jobs"].items():
            checks_out = [
                s for s in job["steps"] if "actions/checkout@" in s.get("uses", "")
            ]
            assert all(s["with"]["persist-credentials"] is False for s in checks_out)
            writes = {
                right for right, level in job["permissions"].items() if level == "write"
            }
            assert writes == {"deploy": {"pages", "id-token"}, "colab": {"contents"}}.get(
                name, set()
            )
            if writes:  # such a job runs nothing of ours, and nothing that was built
                assert not checks_out
                assert not any("make" in s.get("run", "") for s in job["steps"])

    def test_no_command_line_holds_a_token(self, path):
        flow = yaml.safe_load(path.read_text(encoding="utf-8"))
        for job in flow["jobs"].values():
            for step in job["steps"]:
                assert not re.search(r"token|secrets\.", step.get("run", ""), re.I)


def test_a_user_s_type_checker_finds_the_types():
    """PEP 561: a marker beside the modules, shipped with them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert (ROOT / "lrdlib" / "py.typed").is_file()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["lrdlib"]
    assert "Typing :: Typed" in project["project"]["classifiers"]
