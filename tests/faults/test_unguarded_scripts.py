"""Scripts that start workers without a main guard: one clear error, no trial lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bonas

SCRIPT = """
import bonas
from ConfigSpace import ConfigurationSpace
from bonas import spaces

space = spaces.Space(ConfigurationSpace({{"x": (0.0, 1.0)}}))
study = bonas.create_study(space=space, storage="kept", study_name="kept", load_if_exists=True)
{first}
study.optimize(lambda trial: trial.params["x"], n_trials=4, n_jobs=2)
"""


@pytest.mark.parametrize("first", ["", "study.optimize(lambda trial: trial.params['x'], n_trials=1)"])
def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path, first: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(first=first))
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: n_jobs=2: the worker processes cannot start")
    assert "if __name__ == '__main__':" in last
    kept = bonas.load_study(study_name="kept", storage=tmp_path / "kept")
    assert [t.state for t in kept.trials] == ["COMPLETE"] * bool(first)
