"""An earlier search told on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import bonas
from bonas import spaces
from bonas.cli import main
from bonas.samplers import RandomSampler


def test_a_search_learns_from_an_earlier_one_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = spaces.chain(input_shape=(1, 8, 8), n_classes=10)
    old = bonas.create_study(
        space=space, direction="maximize", sampler=RandomSampler(), storage=tmp_path / "old", study_name="old"
    )
    old.optimize(lambda trial: -space.count(trial.params).parameters, n_trials=12)
    words = ["search", "--data", "digits", "--axis", "epochs=1:1", "--no-retrain", "--study"]
    begun, other = str(tmp_path / "new"), str(tmp_path / "other")
    told = ["--warm-start", str(tmp_path / "old")]
    assert main([*words, begun, *told, "--n-trials", "2"]) == 0
    header = "Search   ForestSampler proposes, ASHA decides for how long, learning from old\n"
    assert header in capsys.readouterr().out
    study = bonas.load_study(storage=tmp_path / "new")
    assert [earlier.study for earlier in study.view().earlier] == ["old"]
    smallest = old.best_trial.params
    assert {n: v for n, v in study.trials[1].params.items() if n in smallest} == smallest
    assert main([*words, begun, *told, "--n-trials", "3"]) == 0
    assert header in capsys.readouterr().out  # going on, too
    assert main([*words, other, "--sampler", "tpe", "--scheduler", "full", "--n-trials", "1"]) == 0
    assert "Search   TPESampler proposes, FullFidelity decides for how long\n" in capsys.readouterr().out
    assert main([*words, other, *told, "--n-trials", "2"]) != 0
    assert "began without it" in capsys.readouterr().err


def test_a_folder_without_a_study_is_said_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, nowhere = tmp_path / "new", str(tmp_path / "nope")
    words = ["search", "--data", "digits", "--timeout", "5", "--study", str(new), "--warm-start", nowhere]
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""  # no data were read, and nothing was timed
    assert f"--warm-start {nowhere}: is not a study" in said.err
    assert not new.exists()
