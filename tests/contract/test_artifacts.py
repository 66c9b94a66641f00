"""Checkpoints within a number of bytes: what is dropped, what that costs, and what it never changes."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine import choices, climb, study

import bonas
import bonas.trial
from bonas import Artifacts, TrialState, fidelity

NINE = fidelity.Axes(epochs=(1, 9))
SIZE = 20_000  # bytes of a state
BLOCK = 4096
FILE = 6 * BLOCK  # on disk, with everything a checkpoint carries


def heavy(trial: bonas.Trial, size: int = SIZE) -> None:
    state = trial.load_checkpoint() or {"epochs": 0, "weights": bytes(size)}
    for epoch in trial.epochs():
        state["epochs"] += 1
        assert state["epochs"] == epoch
        trial.report(trial.params["x"] + 1 / epoch, epoch)
        trial.save_checkpoint(state)


def used(folder: Path) -> int:
    return sum(-(-p.stat().st_size // BLOCK) * BLOCK for p in folder.glob("trial-*/**/*") if p.is_file())


def halving(**settings: Any) -> bonas.Study:
    return study(**({"axes": NINE, "scheduler": fidelity.SuccessiveHalving(), "study_name": "s"} | settings))


@pytest.fixture
def peak(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Callable[[], int]]:
    """Watches a folder at the worst moments: a new checkpoint is written, the one before still there."""

    def watch(folder: Path) -> Callable[[], int]:
        highest = [0]
        synced = os.fsync

        def fsync(descriptor: int) -> None:
            highest[0] = max(highest[0], used(folder))
            synced(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        return lambda: highest[0]

    return watch


class TestCap:
    @pytest.mark.parametrize("every_epoch", [False, True])
    @pytest.mark.parametrize("files", [3, 6])
    def test_a_search_in_little_room_finds_the_same_and_says_what_it_paid(
        self, peak: Any, monkeypatch: pytest.MonkeyPatch, files: int, every_epoch: bool
    ) -> None:
        if every_epoch:
            monkeypatch.setattr(bonas.trial, "CHECKPOINT_INTERVAL", 0.0)
        roomy = halving()
        roomy.optimize(heavy, n_trials=18)
        tight = halving(artifacts=Artifacts(max_bytes=files * FILE))
        highest = peak(tight.artifacts)
        tight.optimize(heavy, n_trials=18)
        assert 2 * FILE <= highest() <= files * FILE
        assert [t.params for t in tight.trials] == [t.params for t in roomy.trials]
        assert [(t.state, t.values, t.fidelity) for t in tight.trials] == [
            (t.state, t.values, t.fidelity) for t in roomy.trials
        ]
        retrained = sum(t.retrained for t in tight.trials)
        assert tight.spent == pytest.approx(roomy.spent + retrained)
        assert (retrained > 0) is (files == 3)  # two of the three that are promoted have to wait somewhere
        assert all(t.retrained == 0 for t in roomy.trials)
        assert tight.best_trial == tight.best_trial
        assert tight.best_trial.record.checkpoint is not None
        assert (tight.artifacts / tight.best_trial.record.checkpoint.file).exists()

    def test_records_say_which_checkpoints_there_are(self) -> None:
        s = halving(artifacts=Artifacts(max_bytes=4 * FILE))
        s.optimize(heavy, n_trials=18, callbacks=[self.agrees])
        s.ask()
        self.agrees(s, None)

    @staticmethod
    def agrees(s: bonas.Study, told: Any) -> None:
        # Whoever decides what runs next sees no checkpoint that is not there.
        s.view()
        with s._ledger.turn():
            pass
        for t in s.records:
            there = bool(list((s.artifacts / f"trial-{t.number:05d}").glob("**/*.safetensors")))
            assert (t.checkpoint is not None) is there

    def test_the_forecast_counts_what_has_to_be_trained_again(self) -> None:
        s = halving(artifacts=Artifacts(max_bytes=3 * FILE))
        for _ in range(9):
            trial = s.ask()
            assert trial is not None
            heavy(trial)
            s.tell(trial)
        view = s.view()
        three = NINE.fidelity({"epochs": 3})
        forecasts = {t.checkpoint is None: view.forecast(three, t) for t in view.trials}
        assert forecasts == {True: pytest.approx(3 / 9), False: pytest.approx(2 / 9)}

    def test_a_budget_is_kept_although_trials_are_trained_again(self) -> None:
        for budget in (3.0, 5.5):
            s = halving(artifacts=Artifacts(max_bytes=3 * FILE))
            s.optimize(heavy, budget=budget)
            assert s.spent <= budget + 1e-9

    def test_frames_show_what_was_retrained(self) -> None:
        s = halving(artifacts=Artifacts(max_bytes=3 * FILE))
        s.optimize(heavy, n_trials=9)
        frame = s.trials_dataframe()
        assert frame["retrained"].sum() == pytest.approx(sum(t.retrained for t in s.trials))
        assert (frame["retrained"] <= frame["cost"]).all()
        assert frame["retrained"].sum() > 0

    def test_dropping_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        s = halving(artifacts=Artifacts(max_bytes=3 * FILE))
        with caplog.at_level(logging.WARNING, "bonas"):
            s.optimize(heavy, n_trials=9)
        assert caplog.text.count(f"max_bytes={3 * FILE:,}") == 1

    def test_a_state_larger_than_the_room_is_not_written_and_the_search_goes_on(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        s = halving(artifacts=Artifacts(max_bytes=BLOCK))
        with caplog.at_level(logging.WARNING, "bonas"):
            s.optimize(heavy, n_trials=9)
        assert "do not fit into max_bytes=4,096" in caplog.text
        assert used(s.artifacts) == 0
        assert [t.state for t in s.trials].count(TrialState.COMPLETE) == 1
        best = s.best_trial
        assert best.retrained == pytest.approx(4 / 9)  # epoch 1, then 1 to 3 again
        with pytest.raises(ValueError, match="max_bytes"):
            best.load_model()

    def test_studies_with_room_keep_no_book(self, tmp_path: Path) -> None:
        s = halving(storage=tmp_path)
        s.optimize(heavy, n_trials=9)
        assert {p.suffix for p in s.artifacts.rglob("*") if p.is_file()} == {".safetensors"}

    def test_states_of_curves_that_ended_are_removed(self) -> None:
        axes = fidelity.Axes(epochs=(1, 9), width=(0.5, 1.0))
        s = climb(axes, {"epochs": 3, "width": 0.5}, {"epochs": 9})
        s.optimize(heavy)
        (file,) = (p for p in s.artifacts.rglob("*") if p.is_file())
        assert file.parent.name == "curve-01"

    def test_a_search_interrupted_everywhere_drops_the_same(self, tmp_path: Path) -> None:
        def search(name: str, interrupted: bool) -> bonas.Study:
            settings: dict[str, Any] = {
                "storage": tmp_path / name,
                "artifacts": Artifacts(max_bytes=4 * FILE),
                "load_if_exists": True,
            }
            s = halving(**settings)
            s.limit(None, 6.0)
            n = 0
            while not s.done:
                trial = s.ask()
                assert trial is not None
                n += 1
                if interrupted and n % 3 == 0:
                    self.half(trial)
                    if n % 2:
                        s.tell(trial)  # in good order, or as kill -9 leaves it
                    del trial, s
                    gc.collect()
                    s = halving(**settings)
                    s.limit(None, 6.0)
                    continue
                heavy(trial)
                s.tell(trial)
            return s

        whole, broken = search("whole", False), search("broken", True)
        kept = [[t.checkpoint is not None for t in s.records] for s in (whole, broken)]
        assert kept[0] == kept[1]
        assert False in kept[0]
        for a, b in zip(whole.trials, broken.trials, strict=True):
            assert (a.params, a.state, a.fidelity, a.values) == (b.params, b.state, b.fidelity, b.values)
            assert a.retrained == pytest.approx(b.retrained)
            assert a.cost == pytest.approx(b.cost)

    @staticmethod
    def half(trial: bonas.Trial) -> None:
        state = trial.load_checkpoint() or {"epochs": 0, "weights": bytes(SIZE)}
        for epoch in trial.epochs():
            state["epochs"] += 1
            trial.report(trial.params["x"] + 1 / epoch, epoch)
            trial.save_checkpoint(state)
            trial.interrupt()
        trial.flush()

    def test_two_studies_in_one_search_drop_nothing_that_is_running(self, tmp_path: Path) -> None:
        settings: dict[str, Any] = {"storage": tmp_path, "artifacts": Artifacts(max_bytes=5 * FILE)}
        a = halving(**settings)
        b = halving(**settings, load_if_exists=True)
        for s in (a, b):
            s.limit(18, None)
        held: list[tuple[bonas.Study, bonas.Trial]] = []
        resumed = 0
        while True:
            for s in (a, b):
                trial = s.ask()
                if trial is not None:
                    held.append((s, trial))
            if not held:
                break
            for s, trial in held:
                checkpoint = trial.segment.record.checkpoint
                if checkpoint is not None:
                    resumed += 1
                    assert (s.artifacts / checkpoint.file).exists()
                heavy(trial)
                s.tell(trial)
            held = []
        assert a.done
        assert resumed
        assert used(a.artifacts) <= 5 * FILE


class TestRetrained:
    def test_an_objective_that_saves_nothing_trains_every_epoch_again(self) -> None:
        def forgetful(trial: bonas.Trial) -> None:
            for epoch in trial.epochs():
                trial.report(1.0, epoch)

        s = climb(NINE, {"epochs": 2}, {"epochs": 5}, {"epochs": 9})
        s.optimize(forgetful)
        assert s.trials[0].retrained == pytest.approx((2 + 5) / 9)
        assert s.trials[0].cost == pytest.approx((2 + 5 + 9) / 9)

    def test_a_value_returned_without_reports_counts_the_same(self) -> None:
        s = climb(NINE, {"epochs": 3}, {"epochs": 9})
        s.optimize(lambda trial: 1.0)
        assert s.trials[0].retrained == pytest.approx(3 / 9)

    def test_what_never_carries_is_no_repetition(self) -> None:
        axes = fidelity.Axes(epochs=(1, 9), width=(0.5, 1.0))
        s = climb(axes, {"epochs": 3, "width": 0.5}, {"epochs": 9})
        s.optimize(heavy)
        assert s.trials[0].retrained == 0
        s = climb(fidelity.Axes(epochs=[3, 9], carry=()), {"epochs": 3}, {"epochs": 9})
        s.optimize(heavy)
        assert s.trials[0].retrained == 0

    def test_a_dropped_state_of_another_subset_was_due_as_well(self) -> None:
        axes = fidelity.Axes(epochs=(1, 9), subset=(0.5, 1.0))
        s = climb(axes, {"epochs": 3, "subset": 0.5}, {"epochs": 9}, artifacts=Artifacts(max_bytes=1))
        s.optimize(heavy)
        assert len(s.trials[0].curves) == 2
        assert s.trials[0].retrained == pytest.approx(3 / 9)  # at the price of the epochs that did it again

    def test_a_killed_repetition_is_counted_with_what_its_checkpoint_holds(self, tmp_path: Path) -> None:
        rungs = ({"epochs": 3}, {"epochs": 9})
        s = climb(NINE, *rungs, storage=tmp_path, study_name="s")
        s.optimize(lambda trial: [trial.report(1.0, e) for e in trial.epochs()] and None, budget=0.4)
        s.limit(None, None)
        trial = s.ask()
        assert trial is not None
        for epoch in trial.epochs():
            trial.report(1.0, epoch)
            trial.save_checkpoint({})
            if epoch == 2:
                break
        trial.flush()
        scheduler = s.scheduler
        del s, trial
        gc.collect()
        s = bonas.load_study(storage=tmp_path, scheduler=scheduler)
        trial = s.ask()
        assert trial is not None
        assert s.trials[0].retrained == pytest.approx(2 / 9)
        assert trial.load_checkpoint() == {}
        for epoch in trial.epochs():
            trial.report(1.0, epoch)
        s.tell(trial)
        assert s.trials[0].retrained == pytest.approx(3 / 9)
        assert s.trials[0].cost == pytest.approx(12 / 9)

    @pytest.mark.parametrize("ending", ["killed", "interrupted"])
    def test_an_interrupted_trial_whose_folder_was_deleted_keeps_to_the_budget(
        self, tmp_path: Path, ending: str
    ) -> None:
        rungs = ({"epochs": 3}, {"epochs": 9})
        s = climb(NINE, *rungs, storage=tmp_path, study_name="s")
        s.optimize(heavy, budget=0.4)
        s.limit(None, None)
        trial = s.ask()
        assert trial is not None
        trial.load_checkpoint()
        for epoch in trial.epochs():
            trial.report(1.0, epoch)
            if epoch == 5:
                break
        if ending == "interrupted":
            s.tell(trial, error=KeyboardInterrupt())
        shutil.rmtree(s.artifacts / "trial-00000")
        scheduler, spent = s.scheduler, s.spent
        del s, trial
        gc.collect()
        s = bonas.load_study(storage=tmp_path, scheduler=scheduler)
        s.optimize(heavy, budget=1.2)  # enough for what was left of it, not for all of it again
        assert s.spent == spent
        s.optimize(heavy, budget=2.0)
        assert s.trials[0].state == TrialState.COMPLETE
        assert s.spent <= 2.0


class TestWhereTheyLie:
    def test_databases_in_one_folder_keep_their_checkpoints_apart(self, tmp_path: Path) -> None:
        a, b = (halving(storage=tmp_path / name) for name in ("a.db", "b.db"))
        for s in (a, b):
            s.optimize(heavy, n_trials=9)
        assert a.artifacts != b.artifacts
        for s in (a, b):
            assert s.artifacts.is_relative_to(tmp_path / "artifacts")
            assert all(t.retrained == 0 for t in s.trials)
            kept = [t.checkpoint for t in s.records if t.checkpoint is not None]
            assert kept
            assert all((s.artifacts / checkpoint.file).exists() for checkpoint in kept)

    @pytest.mark.parametrize("stored", [True, False])
    def test_studies_in_one_given_folder_keep_their_checkpoints_apart(
        self, tmp_path: Path, stored: bool
    ) -> None:
        a, b = (
            halving(
                storage=tmp_path / f"{name}.db" if stored else None,
                artifacts=Artifacts(tmp_path / "states", max_bytes=8 * FILE),
            )
            for name in "ab"
        )
        for s in (a, b):
            s.optimize(heavy, n_trials=9)
        assert a.artifacts != b.artifacts
        for s in (a, b):
            assert s.artifacts.parent == tmp_path / "states"
            kept = [t.checkpoint for t in s.records if t.checkpoint is not None]
            assert kept
            assert all((s.artifacts / checkpoint.file).exists() for checkpoint in kept)
            alone = halving(artifacts=Artifacts(max_bytes=8 * FILE))
            alone.optimize(heavy, n_trials=9)
            assert [(t.state, t.values, t.cost) for t in s.trials] == [
                (t.state, t.values, t.cost) for t in alone.trials
            ]

    def test_a_study_from_before_stays_in_the_folder_it_was_given(self, tmp_path: Path) -> None:
        rungs = {"epochs": 3}, {"epochs": 9}
        s = climb(NINE, *rungs, storage=tmp_path, study_name="s", artifacts=tmp_path / "states")
        trial = s.ask()
        assert trial is not None
        heavy(trial)
        s.tell(trial)
        s.artifacts.rename(tmp_path / "moved")
        (tmp_path / "states").rmdir()
        (tmp_path / "moved").rename(tmp_path / "states")
        scheduler = s.scheduler
        del s, trial
        gc.collect()
        with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as connection:
            connection.execute("update studies set definition = json_remove(definition, '$.artifacts_id')")
            connection.commit()
        again = bonas.load_study(storage=tmp_path, scheduler=scheduler)
        again.optimize(heavy)
        assert (again.trials[0].state, again.trials[0].retrained) == (TrialState.COMPLETE, 0.0)

    def test_a_deleted_study_leaves_the_next_one_nothing(self, tmp_path: Path) -> None:
        halving(storage=tmp_path).optimize(heavy, n_trials=3)
        gc.collect()
        for file in tmp_path.glob("study.db*"):
            file.unlink()
        assert not halving(storage=tmp_path).artifacts.exists()

    def test_a_study_from_before_stays_where_it_is(self, tmp_path: Path) -> None:
        s = climb(NINE, {"epochs": 3}, {"epochs": 9}, storage=tmp_path, study_name="s")
        trial = s.ask()
        assert trial is not None
        heavy(trial)
        s.tell(trial)
        s.artifacts.rename(tmp_path / "artifacts" / "1-s")
        scheduler = s.scheduler
        del s, trial
        gc.collect()
        with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as connection:
            connection.execute("update studies set definition = json_remove(definition, '$.artifacts_id')")
            connection.commit()
        again = bonas.load_study(storage=tmp_path, scheduler=scheduler)
        again.optimize(heavy)
        assert (again.trials[0].state, again.trials[0].retrained) == (TrialState.COMPLETE, 0.0)


class TestSettings:
    def test_the_limit_is_stored_and_comes_back(self, tmp_path: Path) -> None:
        s = study(storage=tmp_path, artifacts=Artifacts(tmp_path / "states", max_bytes=10**6))
        assert (s.artifacts.parent, s.max_bytes) == (tmp_path / "states", 10**6)
        again = bonas.load_study(storage=tmp_path)
        assert (again.artifacts, again.max_bytes) == (s.artifacts, 10**6)
        definition = (
            sqlite3.connect(tmp_path / "study.db").execute("select definition from studies").fetchone()
        )
        assert json.loads(definition[0])["max_bytes"] == 10**6

    def test_five_gigabytes_unless_said_and_for_studies_from_before(self, tmp_path: Path) -> None:
        s = study(storage=tmp_path, artifacts=tmp_path / "states")
        assert s.max_bytes == 5_000_000_000
        connection = sqlite3.connect(tmp_path / "study.db")
        connection.execute("update studies set definition = json_remove(definition, '$.max_bytes')")
        connection.execute("alter table trials drop column retrained")
        connection.commit()
        connection.close()
        again = bonas.load_study(storage=tmp_path)
        assert again.max_bytes == 5_000_000_000
        again.optimize(lambda trial: 1.0, n_trials=2)
        assert [t.retrained for t in bonas.load_study(storage=tmp_path).trials] == [0.0, 0.0]

    def test_a_study_can_be_given_more_room_later(self, tmp_path: Path) -> None:
        settings: dict[str, Any] = {"storage": tmp_path, "study_name": "s", "load_if_exists": True}
        study(**settings, artifacts=Artifacts(max_bytes=10**6))
        assert study(**settings, artifacts=Artifacts(max_bytes=None)).max_bytes is None
        assert study(**settings).max_bytes == 10**6

    @pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "5 GB"])
    def test_wrong_limits_are_refused(self, wrong: Any) -> None:
        with pytest.raises(ValueError, match="max_bytes"):
            Artifacts(max_bytes=wrong)

    def test_a_damaged_limit_is_said(self, tmp_path: Path) -> None:
        study(space=choices(), storage=tmp_path)
        with sqlite3.connect(tmp_path / "study.db") as connection:
            connection.execute("update studies set definition = json_set(definition, '$.max_bytes', 'x')")
        connection.close()
        with pytest.raises(ValueError, match="damaged"):
            bonas.load_study(storage=tmp_path)
