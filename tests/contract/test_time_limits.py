"""A limit of time for each segment, and a clean machine after one that ran out of memory."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine import climb, counting, study

import bonas
from bonas import TrialState, fidelity

NINE = fidelity.Axes(epochs=(1, 9))
FULL = {"epochs": 9}


def full(**settings: Any) -> bonas.Study:
    return study(axes=NINE, scheduler=fidelity.FullFidelity(), **settings)


def hanging(*numbers: int, after: int = 0, how: Any = None) -> Any:
    """Trials of these numbers report so many epochs and then never come back."""

    def objective(trial: bonas.Trial) -> None:
        for epoch in trial.epochs():
            if trial.number in numbers and epoch > after:
                (how or time.sleep)(600)
            trial.report(1.0 / epoch, epoch)

    return objective


def stubborn(_: float) -> None:
    """Passes over every Exception, as careless code does."""
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.01)


def deaf(_: float) -> None:
    """No signal gets through: a call that does not come back to Python."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(600)


class TestHere:
    @pytest.mark.parametrize("how", [None, stubborn, lambda _: threading.Event().wait()])
    def test_a_hanging_trial_fails_with_its_reason_and_the_study_goes_on(self, how: Any) -> None:
        s = full()
        s.optimize(hanging(0, 1, 2, 3, how=how), n_trials=6, trial_timeout=0.1)
        assert [t.state for t in s.trials] == [TrialState.FAIL] * 4 + [TrialState.COMPLETE] * 2
        assert s.trials[0].reason == "TimeoutError: not done after trial_timeout=0.1 seconds"
        assert s.trials[0].cost > 0  # or a budget would never be spent

    def test_what_was_reported_is_kept(self) -> None:
        s = full()
        s.optimize(hanging(0, after=4), n_trials=1, trial_timeout=0.2)
        assert s.trials[0].curves[0].epochs == (1, 2, 3, 4)
        assert s.trials[0].state == TrialState.FAIL

    def test_it_is_of_a_segment_not_of_a_trial(self) -> None:
        s = climb(NINE, {"epochs": 2}, {"epochs": 4}, FULL)

        def objective(trial: bonas.Trial) -> None:
            time.sleep(0.15)
            counting()(trial)

        s.optimize(objective, trial_timeout=0.4)
        assert s.trials[0].state == TrialState.COMPLETE

    def test_it_is_of_its_call_only(self) -> None:
        s = full()
        s.optimize(counting(), n_trials=1, trial_timeout=60)
        before = signal.getsignal(signal.SIGALRM)
        s.limit(2, None)
        trial = s.ask()
        assert trial is not None
        assert trial.segment.time_limit is None
        assert signal.getsignal(signal.SIGALRM) is before
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)

    def test_an_objective_that_answers_all_the_same_has_failed(self) -> None:
        def late(trial: bonas.Trial) -> float:
            with contextlib.suppress(BaseException):
                time.sleep(600)
            return 1.0

        s = full()
        s.optimize(late, n_trials=1, trial_timeout=0.1)
        assert s.trials[0].state == TrialState.FAIL
        assert "TimeoutError" in str(s.trials[0].reason)

    def test_in_another_thread_it_ends_at_the_next_epoch(self) -> None:
        def slow(trial: bonas.Trial) -> None:
            for epoch in trial.epochs():
                trial.report(1.0, epoch)
                time.sleep(0.15)

        s = full()
        with ThreadPoolExecutor(1) as executor:
            s.optimize(slow, n_trials=1, trial_timeout=0.1, executor=executor)
        assert s.trials[0].curves[0].epochs == (1,)
        assert "TimeoutError" in str(s.trials[0].reason)

    @pytest.mark.parametrize("wrong", [0, -1, "60", True, float("nan"), float("inf")])
    def test_wrong_limits_are_refused(self, wrong: Any) -> None:
        with pytest.raises(ValueError, match="trial_timeout"):
            full().optimize(counting(), n_trials=1, trial_timeout=wrong)


class Various:
    """For workers: sleeps, is deaf, exits, kills its process, or trains."""

    def __init__(self, **kinds: str) -> None:
        self.kinds = {int(name[1:]): kind for name, kind in kinds.items()}

    def __call__(self, trial: bonas.Trial) -> None:
        match self.kinds.get(trial.number):
            case "sleep":
                time.sleep(600)
            case "deaf":
                deaf(600)
            case "exit":
                raise SystemExit("enough")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        for epoch in trial.epochs():
            trial.report(1.0 / epoch, epoch)
            time.sleep(0.02)


class TestWorkers:
    def test_whatever_a_trial_does_to_its_worker_the_others_do_not_notice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bonas.executors.pool.GRACE", 0.2)
        monkeypatch.setattr("bonas.executors.pool.MOST_DEATHS", 1)
        s = full(storage=tmp_path)
        objective = Various(_1="deaf", _2="exit", _3="sleep", _5="kill")
        s.optimize(objective, n_trials=9, n_jobs=2, trial_timeout=1.0)
        reasons = {t.number: t.reason for t in s.trials if t.state == TrialState.FAIL}
        assert set(reasons) == {1, 2, 3, 5}
        assert reasons[1] == reasons[3] == "TimeoutError: not done after trial_timeout=1 seconds"
        assert reasons[2] == "its worker exited 1 times (SystemExit: enough)"
        assert str(reasons[5]).startswith("its worker died 1 times (BrokenProcessPool")
        others = [t for t in s.trials if t.number not in reasons]
        assert {t.state for t in others} == {TrialState.COMPLETE}
        assert {t.record.attempt for t in others} == {1}  # none had to run again for another's sake
        assert all(t.cost > 0 for t in s.trials)

    def test_an_objective_no_worker_can_load_says_so(self) -> None:
        class Unloadable:
            def __call__(self, trial: bonas.Trial) -> float:
                return 1.0

            def __reduce__(self) -> Any:
                return int, ("no number",)

        with pytest.raises(ValueError, match=r"cannot be loaded in another process \(ValueError: invalid"):
            full().optimize(Unloadable(), n_trials=2, n_jobs=2)


class TestMemory:
    def test_nothing_of_a_trial_that_ran_out_of_memory_is_left_when_the_next_begins(self) -> None:
        networks: list[weakref.ref[torch.nn.Module]] = []

        def objective(trial: bonas.Trial) -> float:
            assert all(network() is None for network in networks)
            network = torch.nn.Linear(3, 3)
            networks.append(weakref.ref(network))
            loss = network(torch.ones(1, 3)).sum()  # keeps the graph
            if trial.number % 2:
                try:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                except RuntimeError:
                    raise MemoryError("once more") from None
            return float(loss) * 0 + 1.0

        s = study()
        s.optimize(objective, n_trials=4)
        assert [t.state for t in s.trials][1::2] == [TrialState.INFEASIBLE] * 3
        assert len(networks) == len(s.trials)

    def test_nor_of_one_that_failed(self) -> None:
        arrays: list[weakref.ref[Any]] = []

        def objective(trial: bonas.Trial) -> float:
            assert all(array() is None for array in arrays)
            array = np.zeros(3)
            arrays.append(weakref.ref(array))
            if trial.number in (1, 2):
                raise ValueError(f"trial {trial.number}")
            return 1.0

        s = study()
        s.optimize(objective, n_trials=5)
        assert [t.state for t in s.trials].count(TrialState.COMPLETE) == 3


class TestDeaths:
    def test_a_segment_that_takes_every_process_along_is_given_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bonas.ledger.in_this_process", lambda owner: False)
        lost = 0
        while True:
            s = full(storage=tmp_path, study_name="s", load_if_exists=True)
            trial = s.ask()
            assert trial is not None
            if trial.number:
                break
            lost += 1
            assert lost < 10
            del s, trial  # what a killed process leaves
            gc.collect()
        (failed, _) = s.trials
        assert failed.state == TrialState.FAIL
        assert failed.reason == f"its worker was gone {lost} times in a row, nothing was saved"
        assert failed.cost > 0

    def test_one_that_gets_further_each_time_is_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bonas.ledger.in_this_process", lambda owner: False)
        for epoch in range(1, 9):
            s = full(storage=tmp_path, study_name="s", load_if_exists=True)
            trial = s.ask()
            assert trial is not None
            assert trial.number == 0
            trial.load_checkpoint()
            assert next(iter(trial.epochs())) == epoch
            trial.report(1.0, epoch)
            trial.save_checkpoint({})
            trial.flush()
            del s, trial
            gc.collect()

    def test_nor_one_whose_study_was_made_again_in_the_same_process(self, tmp_path: Path) -> None:
        for _ in range(8):
            s = full(storage=tmp_path, study_name="s", load_if_exists=True)
            trial = s.ask()
            assert trial is not None
            assert trial.number == 0
            del s, trial
            gc.collect()

    def test_nor_one_that_is_interrupted_in_good_order(self) -> None:
        s = full()
        for _ in range(8):
            trial = s.ask()
            assert trial is not None
            assert trial.number == 0
            trial.interrupt()
            assert list(trial.epochs()) == []
            s.tell(trial)
        assert s.trials[0].state == TrialState.PAUSED
