"""What importing costs and what it refuses: each in a fresh interpreter, nothing else imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HEAVY = (
    "torch",
    "torchvision",
    "smac",
    "optuna",
    "ConfigSpace",
    "sklearn",
    "scipy",
    "sqlalchemy",
    "matplotlib",
    "pandas",
    "rich",
)


def python(
    *words: str, path: Path | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, env=environment, cwd=folder
    )


def loaded_by(code: str) -> set[str]:
    done = python("-c", f"import sys\n{code}\nprint(*(m for m in {HEAVY} if m in sys.modules))")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("\n")[-2].split())


def test_importing_loads_nothing_heavy() -> None:
    assert loaded_by("import bonas") == set()
    assert loaded_by("import bonas, spaces, fidelity; from bonas import spaces, fidelity") == set()


def test_the_help_loads_nothing_heavy() -> None:
    help_ = "from bonas.cli import main\ntry: main(['search', '--help'])\nexcept SystemExit: pass"
    assert loaded_by(help_) == set()


def test_names_behind_the_door_are_listed_and_found() -> None:
    code = "import bonas; print(all(getattr(bonas, n) is not None for n in bonas.__all__))"
    assert python("-c", code).stdout.strip() == "True"
    assert "create_study" in python("-c", "import bonas; print(dir(bonas))").stdout


def test_an_unknown_name_is_an_attribute_error() -> None:
    done = python("-c", "import bonas; bonas.creat_study")
    assert "AttributeError" in done.stderr
    assert "creat_study" in done.stderr


def test_a_foreign_package_in_the_place_of_spaces_is_named(tmp_path: Path) -> None:
    intruder = tmp_path / "elsewhere" / "spaces"
    intruder.mkdir(parents=True)
    (intruder / "__init__.py").write_text("")
    done = python("-c", "import bonas", path=tmp_path / "elsewhere", folder=tmp_path)
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    assert str(intruder) in done.stderr
