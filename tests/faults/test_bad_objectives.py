"""The benchmarks of faults at a small size: bad objectives of every kind, kills while states are written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_a_search_survives_objectives_of_every_kind() -> None:
    out = run("benchmarks/bad_objectives.py", "--objectives", "31", "--jobs", "1")
    assert "8 of 8 good ones complete, 0 of 39 trials not as they should be" in out


@pytest.mark.long
def test_workers_survive_objectives_of_every_kind() -> None:
    out = run("benchmarks/bad_objectives.py", "--objectives", "35", "--jobs", "2")
    assert "8 of 8 good ones complete, 0 of 43 trials not as they should be" in out


def test_kills_while_checkpoints_are_written_leave_a_whole_one() -> None:
    out = run("benchmarks/checkpoint_faults.py", "--kills", "6", "--megabytes", "2")
    assert "| 6 |" in out
    assert "BROKEN" not in out


def test_a_search_in_little_room_stays_within_it() -> None:
    out = run("benchmarks/checkpoint_faults.py", "--trials", "60", "--jobs", "1", "--room", "1200000")
    assert "| 1 | 60 |" in out
