"""How an objective ends, every way the contract names, and what the study makes of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from engine import climb, counting, study

import bonas
from bonas import TrialState, fidelity

NINE = fidelity.Axes(epochs=(1, 9))
LOW, FULL = {"epochs": 3}, {"epochs": 9}


def ended(objective: Any, *rungs: dict[str, float], **settings: Any) -> bonas.FrozenTrial:
    s = climb(NINE, *(rungs or (LOW,)), **settings)
    s.optimize(objective)
    return s.trials[0]


def reporting(*values: Any, then: Any = None) -> Any:
    def objective(trial: bonas.Trial) -> Any:
        for epoch, value in zip(trial.epochs(), values, strict=False):
            trial.report(value, epoch)
        if isinstance(then, BaseException):
            raise then
        return then

    return objective


class TestReturning:
    def test_none_after_the_last_epoch_pauses_below_full_fidelity(self) -> None:
        trial = ended(counting())
        assert (trial.state, trial.value, trial.reason) == (TrialState.PAUSED, 1 / 3, None)

    def test_none_after_the_last_epoch_completes_at_full_fidelity(self) -> None:
        assert ended(counting(), FULL).state == TrialState.COMPLETE

    @pytest.mark.parametrize(
        "number", [1, 0.5, np.float32(0.5), np.int64(2), torch.tensor(0.5), np.array([0.5]), {"value": 0.5}]
    )
    def test_a_number_is_the_value_of_the_last_epoch(self, number: Any) -> None:
        trial = ended(lambda _: number)
        assert trial.state == TrialState.PAUSED
        assert trial.intermediate_values == {
            3: float(np.squeeze(number["value"] if isinstance(number, dict) else number))
        }
        assert trial.cost == pytest.approx(3 / 9)
        assert ended(lambda _: number, FULL).state == TrialState.COMPLETE

    def test_a_number_after_a_report_of_the_last_epoch_changes_nothing(self) -> None:
        trial = ended(reporting(1.0, 2.0, 3.0, then=99.0))
        assert trial.value == 3.0
        assert trial.cost == pytest.approx(3 / 9)

    def test_a_number_after_fewer_reports_pays_the_rest(self) -> None:
        trial = ended(reporting(1.0, then=7.0))
        assert trial.intermediate_values == {1: 1.0, 3: 7.0}
        assert trial.cost == pytest.approx(3 / 9)

    def test_returning_early_without_a_value_prunes_for_good(self) -> None:
        trial = ended(reporting(1.0, 2.0))
        assert trial.state == TrialState.PRUNED
        assert "after epoch 2 of 3" in str(trial.reason)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
    def test_what_is_not_finite_fails_returned_or_reported(self, value: float) -> None:
        for objective in (lambda _: value, reporting(1.0, value, 2.0)):
            trial = ended(objective)
            assert trial.state == TrialState.FAIL
            assert "finite" in str(trial.reason)

    def test_after_a_nan_no_further_epoch_is_trained(self) -> None:
        epochs = []

        def objective(trial: bonas.Trial) -> None:
            for epoch in trial.epochs():
                epochs.append(epoch)
                trial.report(math.nan if epoch == 2 else 1.0, epoch)

        assert ended(objective, FULL).state == TrialState.FAIL
        assert epochs == [1, 2]

    @pytest.mark.parametrize("value", ["0.5", True, [1, 2], object(), 1j, {"other": 1.0}, np.zeros(2), b"1"])
    def test_a_wrong_type_fails_with_a_reason(self, value: Any) -> None:
        for objective in (lambda _: value, reporting(value)):
            trial = ended(objective)
            assert trial.state == TrialState.FAIL
            assert trial.reason

    def test_nothing_reported_fails(self) -> None:
        trial = ended(lambda _: None)
        assert trial.state == TrialState.FAIL
        assert "nothing reported" in str(trial.reason)
        assert trial.cost > 0  # or a budget would never be spent


class TestPruning:
    def test_should_prune_is_true_once_the_last_epoch_below_full_is_reported(self) -> None:
        answers = {}

        def objective(trial: bonas.Trial) -> None:
            trial.load_checkpoint()
            for epoch in trial.epochs():
                before = trial.should_prune()
                trial.report(1.0, epoch)
                trial.save_checkpoint({})
                answers[epoch] = (before, trial.should_prune())

        s = climb(NINE, LOW, FULL)
        s.optimize(objective)
        assert answers == {e: (False, e == 3) for e in range(1, 10)}
        assert s.trials[0].state == TrialState.COMPLETE

    @pytest.mark.parametrize("exception", [bonas.TrialPruned, optuna.TrialPruned])
    def test_pruned_after_should_prune_pauses(self, exception: type[Exception]) -> None:
        def objective(trial: bonas.Trial) -> None:
            trial.load_checkpoint()
            for epoch in trial.epochs():
                trial.report(1.0, epoch)
                trial.save_checkpoint({})
                if trial.should_prune():
                    raise exception

        assert ended(objective).state == TrialState.PAUSED
        assert ended(objective, LOW, FULL).state == TrialState.COMPLETE

    @pytest.mark.parametrize("exception", [bonas.TrialPruned(), optuna.TrialPruned("bad")])
    def test_pruned_otherwise_is_for_good(self, exception: Exception) -> None:
        assert ended(reporting(1.0, then=exception)).state == TrialState.PRUNED
        # The last epoch is reported, but should_prune() was never asked.
        assert ended(reporting(1.0, 2.0, 3.0, then=exception)).state == TrialState.PRUNED
        assert ended(reporting(1.0, then=exception), LOW, FULL).state == TrialState.PRUNED

    def test_pruning_without_a_report_costs_something(self) -> None:
        s = study(axes=NINE, scheduler=fidelity.FullFidelity())
        s.optimize(reporting(then=bonas.TrialPruned()), budget=1)
        assert {t.state for t in s.trials} == {TrialState.PRUNED}
        assert 1 <= len(s.trials) <= 9


class TestRaising:
    def test_an_exception_fails_with_its_reason_and_keeps_what_was_reported(self) -> None:
        trial = ended(reporting(1.0, 2.0, then=ArithmeticError("no")))
        assert (trial.state, trial.reason) == (TrialState.FAIL, "ArithmeticError: no")
        assert trial.intermediate_values == {1: 1.0, 2: 2.0}

    def test_an_exception_after_everything_was_reported_still_fails(self) -> None:
        assert ended(reporting(1.0, 2.0, 3.0, then=KeyError("k"))).state == TrialState.FAIL

    def test_an_exception_with_a_broken_text_does_not_break_the_study(self) -> None:
        class OddError(Exception):
            def __str__(self) -> str:
                raise RuntimeError("even this")

        assert "OddError" in str(ended(reporting(then=OddError())).reason)
        assert ended(reporting(then=RuntimeError("\udcff \x00 " + "x" * 10**6))).state == TrialState.FAIL

    def test_the_same_exception_in_the_first_three_trials_stops_and_is_raised(self) -> None:
        s = study()
        with pytest.raises(ZeroDivisionError):
            s.optimize(reporting(then=ZeroDivisionError("oops")), n_trials=10)
        assert [t.state for t in s.trials] == [TrialState.FAIL] * 3
        s.optimize(lambda _: 1.0, n_trials=5)  # repaired, it goes on
        assert [t.state for t in s.trials][3:] == [TrialState.COMPLETE] * 2

    def test_different_exceptions_or_a_success_among_them_do_not(self) -> None:
        kinds = [ValueError("a"), KeyError("b"), ValueError("c"), None, *[ValueError("d")] * 4]

        def objective(trial: bonas.Trial) -> float:
            error = kinds[trial.number]
            if error is not None:
                raise error
            return 1.0

        s = study()
        s.optimize(objective, n_trials=8)
        assert len(s.trials) == 8

    @pytest.mark.parametrize(
        "error",
        [MemoryError(), torch.OutOfMemoryError("CUDA"), TimeoutError("slow"), FloatingPointError("nan loss")],
    )
    def test_memory_timeouts_and_divergence_do_not_count_towards_the_three(self, error: Exception) -> None:
        s = study()
        s.optimize(lambda t: reporting(then=error)(t) if t.number < 5 else 1.0, n_trials=7)
        assert s.trials[-1].state == TrialState.COMPLETE

    def test_divergence_is_passed_over_when_the_three_are_counted(self) -> None:
        errors = [
            TimeoutError(),
            ValueError(),
            ValueError(),
            FloatingPointError(),
            ValueError(),
            ValueError(),
        ]
        s = study()
        with pytest.raises(ValueError):
            s.optimize(lambda t: reporting(then=errors[t.number])(t), n_trials=6)
        assert len(s.trials) == 5

    def test_what_breaks_where_promoted_trials_go_is_noticed_there(self) -> None:
        def second_epoch(trial: bonas.Trial) -> None:
            trial.load_checkpoint()
            for epoch in trial.epochs():
                if epoch > 1:
                    raise KeyError("momentum")
                trial.report(trial.params["x"], epoch)
                trial.save_checkpoint({})

        s = study(axes=NINE, scheduler=fidelity.ASHA(hedge=False))
        with pytest.raises(KeyError) as raised:
            s.optimize(second_epoch, budget=20)
        [note] = raised.value.__notes__
        assert "the last 5 trials that were trained to 3 epochs all failed alike" in note
        assert "KeyError" in note
        assert "call optimize again" in note
        assert [t.state for t in s.trials].count(TrialState.FAIL) == 5
        assert s.spent < 5
        before = len(s.trials)
        s.optimize(counting(value=lambda t, e: t.params["x"]), n_trials=before + 8)  # repaired, it goes on
        assert s.best_trial.state is TrialState.COMPLETE

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_what_breaks_on_the_way_is_noticed(self, jobs: int) -> None:
        def full_disk(trial: bonas.Trial) -> float:
            if trial.number >= 10:
                raise OSError(f"no space for /tmp/{trial.number}")
            return trial.params["x"]

        s = study()
        with pytest.raises(OSError, match="no space") as raised:
            s.optimize(full_disk, n_trials=200, n_jobs=jobs)
        assert "the last 20 trials that were trained in full all failed alike" in raised.value.__notes__[0]
        assert 30 <= len(s.trials) <= 30 + jobs

    def test_many_failures_of_which_some_are_not_do_not_stop_a_search(self) -> None:
        def fragile(trial: bonas.Trial) -> float:
            if trial.number % 10:  # nine of ten fail
                raise ValueError("no such network")
            return trial.params["x"]

        s = study()
        s.optimize(fragile, n_trials=60)
        assert len(s.trials) == 60

    def test_an_objective_that_never_reports_is_told_so(self) -> None:
        s = study()
        with pytest.raises(ValueError, match=r"the last 5 trials .*nothing reported"):
            s.optimize(lambda _: None, n_trials=60)
        assert len(s.trials) == 5
        s = study()
        s.optimize(lambda t: math.nan if t.number < 30 else 1.0, n_trials=31)  # diverging is no bug
        assert len(s.trials) == 31

    def test_out_of_memory_is_infeasible_and_does_not_count_as_a_start(self) -> None:
        s = study()
        s.optimize(lambda t: reporting(then=MemoryError())(t) if t.number in (1, 2) else 1.0, n_trials=3)
        states = [t.state for t in s.trials]
        assert states.count(TrialState.COMPLETE) == 3
        assert states.count(TrialState.INFEASIBLE) == 2
        assert "out of memory" in str(s.trials[1].reason)

    def test_out_of_memory_on_a_cpu_is_infeasible_too(self) -> None:
        s = study()
        trial = s.ask()
        assert trial is not None
        with pytest.raises(RuntimeError) as raised:
            torch.empty(2**55)
        assert s.tell(trial, error=raised.value).state == TrialState.INFEASIBLE

    def test_an_objective_that_never_fits_in_memory_is_given_up(self) -> None:
        s = study()
        with pytest.raises(MemoryError):
            s.optimize(reporting(then=MemoryError("all of it")), n_trials=3)
        assert len(s.trials) < 100


class TestInterruption:
    def interrupted(self, finish: Any) -> bonas.Study:
        s = climb(NINE, FULL)

        def objective(trial: bonas.Trial) -> Any:
            trial.load_checkpoint()
            for epoch in trial.epochs():
                trial.report(1.0 / epoch, epoch)
                trial.save_checkpoint({"epoch": epoch})
                if epoch == 4:
                    trial.interrupt()  # what timeout, SIGTERM and Ctrl-C do
            return finish() if finish else None

        trial = s.ask()
        assert trial is not None
        try:
            value, error = objective(trial), None
        except BaseException as raised:
            value, error = None, raised
        s.tell(trial, value, error)
        return s

    def raises(self, error: BaseException) -> Any:
        def finish() -> None:
            raise error

        return finish

    @pytest.mark.parametrize("ending", ["none", "number", "nan", "exception", "pruned", "ctrl-c", "exit"])
    def test_the_trial_is_paused_at_its_last_checkpoint_whatever_the_objective_does(
        self, ending: str
    ) -> None:
        endings = {
            "none": None,
            "number": lambda: 0.5,
            "nan": lambda: math.nan,
            "exception": self.raises(ValueError("half-way")),
            "pruned": self.raises(bonas.TrialPruned()),
            "ctrl-c": self.raises(KeyboardInterrupt()),
            "exit": self.raises(SystemExit(1)),
        }
        s = self.interrupted(endings[ending])
        trial = s.trials[0]
        assert trial.state == TrialState.PAUSED
        assert trial.record.unfinished
        assert trial.curves[0].epochs == (1, 2, 3, 4)
        assert not s.done
        resumed = s.ask()
        assert resumed is not None
        assert resumed.load_checkpoint() == {"epoch": 4}
        assert list(resumed.epochs()) == [5, 6, 7, 8, 9]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_ctrl_c_and_exit_raised_in_the_objective_pause_and_go_their_way(
        self, error: type[BaseException]
    ) -> None:
        def objective(trial: bonas.Trial) -> None:
            trial.load_checkpoint()
            for epoch in trial.epochs():
                trial.report(1.0, epoch)
                trial.save_checkpoint({"epoch": epoch})
                if epoch == 2 and not s.trials[0].curves:
                    raise error

        s = climb(NINE, FULL)
        with pytest.raises(error):
            s.optimize(objective)
        assert s.trials[0].state == TrialState.PAUSED
        s.optimize(objective)
        assert s.trials[0].state == TrialState.COMPLETE
        assert s.spent == pytest.approx(1.0)

    def test_a_timeout_stops_at_the_next_epoch_and_the_next_call_goes_on(self) -> None:
        s, epochs = climb(NINE, FULL), []

        def slow(trial: bonas.Trial) -> None:
            state = trial.load_checkpoint() or {}
            for epoch in trial.epochs():
                epochs.append(epoch)
                trial.report(1.0, epoch)
                trial.save_checkpoint(state)
                while trial.segment.deadline is not None and not s.timed_out:
                    pass

        s.optimize(slow, timeout=1.0)
        assert epochs == [1]
        assert s.trials[0].state == TrialState.PAUSED
        s.optimize(slow)
        assert epochs == list(range(1, 10))
        assert s.trials[0].state == TrialState.COMPLETE

    def test_a_timeout_is_of_its_call_only(self) -> None:
        s = study(axes=NINE, scheduler=fidelity.FullFidelity())
        objective = counting()
        s.optimize(objective, n_trials=1, timeout=60)
        trial = s.ask()
        assert trial is None  # n_trials is a total
        s.limit(None, None)
        trial = s.ask()
        assert trial is not None
        assert trial.segment.deadline is None
