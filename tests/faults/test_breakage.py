"""What else goes wrong: full disks, torn checkpoints, vanished folders, forks, impatient users."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from ConfigSpace import ConfigurationSpace

import bonas
import bonas.store.sql
from bonas import TrialState, fidelity, spaces
from bonas.samplers import RandomSampler
from fidelity import checkpoints

NINE = fidelity.Axes(epochs=(1, 9))


def make(folder: Path | None, **settings: Any) -> bonas.Study:
    return bonas.create_study(
        **{
            "space": spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)})),
            "axes": NINE,
            "scheduler": fidelity.SuccessiveHalving(),
            "sampler": RandomSampler(),
            "storage": folder,
            "study_name": "s",
            "load_if_exists": True,
        }
        | settings
    )


def objective(trial: bonas.Trial) -> None:
    state = trial.load_checkpoint() or {"epochs": 0}
    for epoch in trial.epochs():
        state["epochs"] += 1
        trial.report(trial.params["x"] + 1 / epoch, epoch)
        trial.save_checkpoint(state)


class TestDisks:
    def test_a_checkpoint_that_cannot_be_written_costs_no_trial(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        s = make(tmp_path)
        monkeypatch.setattr(checkpoints, "write", full)
        with caplog.at_level(logging.WARNING, "bonas"):
            s.optimize(objective, n_trials=3)
        assert "No space left" in caplog.text
        assert [t.state for t in s.trials].count(TrialState.COMPLETE) == 1
        assert all(t.record.checkpoint is None for t in s.trials)
        assert s.spent > 1.2  # the promoted one was trained again from its first epoch, and that is counted
        monkeypatch.undo()
        s.optimize(objective, n_trials=6)
        assert s.trials[-1].record.checkpoint is not None

    def test_a_database_that_cannot_be_written_stops_the_search_and_the_next_call_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        s = make(tmp_path)
        s.optimize(objective, n_trials=2)
        before = s.records
        put = bonas.store.sql.Transaction.put_curve
        broken = True

        def full(self: Any, *arguments: Any, **keywords: Any) -> None:
            put(self, *arguments, **keywords)
            if broken:
                raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(bonas.store.sql.Transaction, "put_curve", full)
        with pytest.raises(sqlite3.OperationalError):
            s.optimize(objective, n_trials=4)
        assert s.records[:2] == before
        assert s.records[2].state == TrialState.RUNNING
        broken = False
        s.optimize(objective, n_trials=4)  # the same object, and no waiting for itself
        assert len(s.trials) == 4
        assert TrialState.RUNNING not in [t.state for t in s.trials]
        # The segment had been trained and saved: it was not trained again.
        assert s.spent == pytest.approx(sum(o.cost for t in s.records for o in t.curves[0].observations))
        assert bonas.load_study(storage=tmp_path).records == s.records

    @pytest.mark.parametrize("damage", ["torn", "altered", "gone", "folder gone"])
    def test_a_damaged_checkpoint_is_passed_over(self, tmp_path: Path, damage: str) -> None:
        s = make(tmp_path, scheduler=fidelity.FullFidelity())
        trial = s.ask()
        assert trial is not None
        for epoch in trial.epochs():
            trial.report(1.0 / epoch, epoch)
            trial.save_checkpoint({"epoch": epoch})
            if epoch == 5:
                trial.interrupt()
        s.tell(trial)
        (file,) = (p for p in s.artifacts.rglob("*") if p.is_file())
        if damage == "torn":
            file.write_bytes(file.read_bytes()[:-3])
        elif damage == "altered":
            file.write_bytes(file.read_bytes().replace(b"epoch", b"epcoh"))
        elif damage == "gone":
            file.unlink()
        else:
            shutil.rmtree(s.artifacts)
        again = s.ask()
        assert again is not None
        assert again.load_checkpoint() is None
        for epoch in again.epochs():
            again.report(2.0, epoch)
        s.tell(again)
        assert s.trials[0].state == TrialState.COMPLETE
        assert s.trials[0].curves[0].values("value")[4:6] == (1 / 5, 2.0)
        assert s.spent == pytest.approx(14 / 9)

    def test_leftovers_of_a_killed_write_are_cleared(self, tmp_path: Path) -> None:
        s = make(tmp_path, scheduler=fidelity.FullFidelity())
        trial = s.ask()
        assert trial is not None
        folder = Path(trial.segment.folder) / "curve-00"
        folder.mkdir(parents=True)
        (folder / ".half.tmp").write_bytes(b"half")
        objective(trial)
        s.tell(trial)
        assert [p.name[:12] for p in folder.iterdir()] == ["epoch-000009"]


class TestImpatience:
    def test_a_second_ctrl_c_in_the_middle_of_a_tell_loses_no_segment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        s = make(tmp_path)
        original = bonas.Study.tell

        def impatient(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(bonas.Study, "tell", impatient)
        with pytest.raises(KeyboardInterrupt):
            s.optimize(objective, n_trials=1)
        monkeypatch.setattr(bonas.Study, "tell", original)
        s.optimize(objective, n_trials=1)
        assert [t.state for t in s.trials] == [TrialState.COMPLETE]

    def test_another_object_in_the_same_process_takes_it_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        s = make(tmp_path)
        original = bonas.Study.tell
        monkeypatch.setattr(bonas.Study, "tell", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            s.optimize(objective, n_trials=1)
        monkeypatch.setattr(bonas.Study, "tell", original)
        other = make(tmp_path)  # a notebook's cell run again, while the old study still exists
        other.optimize(objective, n_trials=1)
        assert [t.state for t in s.trials] == [TrialState.COMPLETE]

    def test_an_error_while_asking_leaves_nothing_behind(self, tmp_path: Path) -> None:
        class Flaky:
            seed = None

            def sample(self, space: Any, view: Any, rng: Any) -> Any:
                if len(view.trials) == 2 and not self.repaired:
                    raise RuntimeError("sampler")
                return space.sample(1, rng)[0]

            repaired = False

        sampler = Flaky()
        s = make(tmp_path, sampler=sampler)
        with pytest.raises(RuntimeError, match="sampler"):
            s.optimize(objective, n_trials=5)
        assert len(s.trials) == 2
        sampler.repaired = True
        s.optimize(objective, n_trials=5)
        whole = make(None, sampler=sampler)
        whole.optimize(objective, n_trials=5)
        assert [t.params for t in s.trials] == [t.params for t in whole.trials]
        assert [t.values for t in s.trials] == [t.values for t in whole.trials]

    def test_signals_are_given_back(self) -> None:
        import signal

        before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        make(None).optimize(objective, n_trials=1)
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before

    def test_a_search_in_another_thread_runs_without_signals(self) -> None:
        import threading

        s = make(None)
        thread = threading.Thread(target=s.optimize, args=(objective,), kwargs={"n_trials": 2})
        thread.start()
        thread.join()
        assert len(s.trials) == 2


def _forked(study: bonas.Study) -> None:
    study.optimize(objective, n_trials=12)
    os._exit(0)


class TestForks:
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_one_study_object_in_several_forked_processes(self, tmp_path: Path) -> None:
        s = make(tmp_path)
        held = s.ask()  # the parent holds a trial, and a connection
        assert held is not None
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_forked, args=(s,)) for _ in range(2)]
        for worker in workers:
            worker.start()
        objective(held)
        s.tell(held)
        for worker in workers:
            worker.join()
        assert [w.exitcode for w in workers] == [0, 0]
        assert len(s.trials) == 12
        assert TrialState.RUNNING not in [t.state for t in s.trials]
        assert len({t.record.key for t in s.trials}) == 12
