"""Observations note what their epochs took, through checkpoints and the store, and stay equal without it."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ConfigSpace import ConfigurationSpace

import bonas
from bonas import fidelity, spaces
from bonas.samplers import RandomSampler
from fidelity import Observation


def study(**settings: object) -> bonas.Study:
    return bonas.create_study(
        space=spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)})),
        sampler=RandomSampler(),
        axes=fidelity.Axes(epochs=[3]),
        **settings,  # type: ignore[arg-type]
    )


class Clock:
    """The clock of trial handles, moved by objectives."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def objective(self, trial: bonas.Trial) -> None:
        self.now += 50  # building is no part of an epoch
        for epoch in trial.epochs():
            self.now += epoch
            trial.report(1 / epoch, epoch)
            trial.save_checkpoint({})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("bonas.trial.time", SimpleNamespace(monotonic=made.monotonic, time=time.time))
    return made


def noted(s: bonas.Study) -> list[float | None]:
    return [o.seconds for o in s.trials[0].curves[0].observations]


def test_each_epoch_has_its_own_seconds_and_loading_keeps_them(tmp_path: Path, clock: Clock) -> None:
    s = study(storage=tmp_path)
    s.optimize(clock.objective, n_trials=1)
    assert noted(s) == [1, 2, 3]
    assert noted(bonas.load_study(storage=tmp_path)) == [1, 2, 3]


def test_a_checkpoint_carries_them(tmp_path: Path, clock: Clock) -> None:
    s = study(storage=tmp_path)
    handle = s.ask()
    assert handle is not None
    clock.objective(handle)
    handle.flush()  # and the process is killed before it can tell
    s.release(handle)
    again = bonas.load_study(storage=tmp_path)
    again.ask()
    assert noted(again) == [1, 2, 3]


def test_a_returned_value_has_the_seconds_of_the_whole_segment(clock: Clock) -> None:
    def objective(trial: bonas.Trial) -> float:
        clock.now += 7
        return 1.0

    s = study()
    s.optimize(objective, n_trials=1)
    assert noted(s) == [7]


def test_they_are_no_part_of_what_is_equal() -> None:
    full = fidelity.Axes(epochs=[3]).full
    assert Observation(1, {"value": 1.0}, 0.5, full, 2.0) == Observation(1, {"value": 1.0}, 0.5, full)
    with pytest.raises(ValueError, match="seconds"):
        Observation(1, {"value": 1.0}, 0.5, full, float("nan"))


def test_a_study_written_before_they_were_noted_goes_on(tmp_path: Path) -> None:
    study(storage=tmp_path).optimize(Clock().objective, n_trials=1)
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("ALTER TABLE observations DROP COLUMN seconds")
    s = bonas.load_study(storage=tmp_path)
    assert noted(s) == [None, None, None]
    s.optimize(Clock().objective, n_trials=2)
    assert None not in [o.seconds for o in s.trials[1].curves[0].observations]
