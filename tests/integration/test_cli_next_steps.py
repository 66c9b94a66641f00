"""What a search says to do next does what it says."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from bonas.cli import main


@pytest.mark.parametrize("epochs", [[], ["--retrain-epochs", "2"]])
def test_the_command_for_the_result_exports_the_retrained_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], epochs: list[str]
) -> None:
    limits = ["--axis", "epochs=1:1", "--n-trials", "1"]
    assert main(["search", "--data", "digits", "--study", str(tmp_path / "s"), *limits, *epochs]) == 0
    [line] = [row for row in capsys.readouterr().out.splitlines() if row.startswith("Result ")]
    words = shlex.split(line.replace("FOLDER", str(tmp_path / "out")))
    assert words[:2] == ["Result", "bonas"]
    assert main(words[2:]) == 0
    written = json.loads((tmp_path / "out" / "configuration.json").read_text())
    assert written["trained_on"] == "train and val"
    assert written["epochs"] == (2 if epochs else 3)
