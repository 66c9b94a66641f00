"""``bonas explain`` and the schedulers that ``bonas search`` knows by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from ConfigSpace import ConfigurationSpace

import bonas
from bonas import fidelity, spaces
from bonas.cli import main
from bonas.cli.search import SCHEDULERS
from bonas.samplers import RandomSampler


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain") / "study"
    study = bonas.create_study(
        space=spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)})),
        axes=fidelity.Axes(epochs=(1, 9)),
        sampler=RandomSampler(),
        scheduler=fidelity.SuccessiveHalving(),
        storage=folder / "study.db",
    )
    study.optimize(lambda trial: trial.params["x"], n_trials=9)
    return folder


def test_it_prints_a_line_for_every_decision(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = bonas.load_study(storage=folder)
    best = study.best_trial.number
    assert main(["explain", str(folder), str(best)]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.startswith(f"Trial {best}, COMPLETE")
    assert len(lines) == len(study.decisions(best)) + 1
    assert [line.split()[0] for line in lines] == ["Started", "Resumed", "Resumed", "Evaluated"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["99"], "this study has trials 0 to 8"),
        (["best"], "must be a trial's number"),
        (["-1"], "bonas explain"),
        ([], "required: TRIAL"),
    ],
)
def test_wrong_trials_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["explain", str(folder), *words]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not shown.out


def test_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(tmp_path), "0"]) == 2
    assert "is not a study" in capsys.readouterr().err


def test_every_scheduler_has_a_name_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(SCHEDULERS.values()) == set(fidelity.schedulers.REGISTRY)
    with pytest.raises(SystemExit):
        main(["search", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert all(name in told.replace("- ", "-") for name in SCHEDULERS)


def test_a_search_by_hyperband_tells_its_plan_and_a_wrong_name_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "--data", "digits", "--axis", "epochs=1:3", "--sampler", "random", "--no-retrain"]
    limits = ["--n-trials", "5", "--study", str(tmp_path / "s")]
    assert main([*words, *limits, "--scheduler", "hyperbend"]) == 2
    assert "Did you mean hyperband?" in capsys.readouterr().err
    assert main([*words, *limits, "--scheduler", "hyperband"]) == 0
    assert "2 of the 5 start above the lowest rung" in capsys.readouterr().out
    assert bonas.load_study(storage=tmp_path / "s").scheduler == fidelity.Hyperband()
