"""What a fresh checkout relies on: the commands are there and the constraints cover every dependency."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*words: str) -> str:
    done = subprocess.run(["make", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_make
def test_make_alone_lists_the_commands() -> None:
    listed = re.findall(r"^(\w+)\t", make(), re.MULTILINE)
    assert {"search", "test", "smoke"} <= set(listed)


@needs_make
def test_both_commands_set_up_the_environment_when_it_is_missing() -> None:
    for target in ("search", "test"):
        planned = make("--dry-run", "--assume-new=constraints.txt", target)
        assert planned.index("pip install") < planned.index(
            ".venv/bin/bonas" if target == "search" else "pytest"
        )
        assert "-c constraints.txt" in planned


@needs_make
def test_make_test_runs_every_check() -> None:
    planned = make("--dry-run", "test")
    for check in ("ruff format --check", "ruff check", "mypy", "lint-imports", "pytest -n 2", "--nbmake"):
        assert check in planned


def test_constraints_cover_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    names = {re.split(r"[^A-Za-z0-9_-]", w)[0].lower() for w in wanted}
    assert names == {name.lower() for name in pinned}
    # torch 2.13.0 beside the registry's torchvision fails on import.
    assert pinned["torch"] != "2.13.0"
