"""Metrics: last report, best trial and its warning, several objectives, recommending and retraining."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from engine import climb, counting, numbers, study

import bonas
from bonas import TrialState, fidelity
from bonas.samplers import ForestSampler
from fidelity.records import Curve, Fidelity, Observation, TrialRecord

NINE = fidelity.Axes(epochs=(1, 9))
TWO = {"directions": ["maximize", "minimize"], "metric_names": ["accuracy", "size"]}


class TestOne:
    def test_the_default_direction_is_minimize(self) -> None:
        s = study()
        s.optimize(lambda t: [3.0, 1.0, 2.0][t.number], n_trials=3)
        assert s.direction == "minimize"
        assert (s.best_value, s.best_trial.number) == (1.0, 1)

    def test_maximize(self) -> None:
        s = study(direction="maximize")
        s.optimize(lambda t: [3.0, 1.0, 2.0][t.number], n_trials=3)
        assert s.best_value == 3.0
        assert s.best_params == s.trials[0].params

    def test_a_value_is_the_last_report_not_the_best_epoch(self) -> None:
        s = study(axes=NINE, scheduler=fidelity.FullFidelity())
        s.optimize(counting(value=lambda trial, epoch: abs(epoch - 4.0)), n_trials=1)
        assert s.best_value == 5.0

    def test_before_one_is_complete_the_best_at_the_highest_fidelity_with_a_warning(self) -> None:
        s = study(axes=NINE)
        for value, epochs in ((0.1, 1), (0.5, 3), (0.4, 3)):
            at = Fidelity(epochs=epochs)
            curve = Curve((Observation(epochs, {"value": value}, 0.1, at),))
            s.add_trial(TrialRecord(0, numbers().default, "", TrialState.PAUSED, at, curves=(curve,)))
        with pytest.warns(UserWarning, match="no trial is complete"):
            assert s.best_value == 0.4
        full = Fidelity(epochs=9)
        curve = Curve((Observation(9, {"value": 0.9}, 1.0, full),))
        s.add_trial(TrialRecord(0, numbers().default, "", TrialState.COMPLETE, full, curves=(curve,)))
        assert s.best_value == 0.9  # complete, and no warning

    def test_without_any_value_it_says_so(self) -> None:
        s = study()
        with pytest.raises(ValueError, match="none of the 0 trials"):
            s.best_trial  # noqa: B018
        s.optimize(lambda _: float("nan"), n_trials=1)
        with pytest.raises(ValueError, match="none of the 1 trials"):
            s.best_value  # noqa: B018

    def test_failed_trials_are_never_best(self) -> None:
        def objective(trial: bonas.Trial) -> None:
            for epoch in trial.epochs():
                trial.report(float(trial.number), epoch)
            if trial.number == 0:
                raise ValueError("after the fact")

        s = study()
        s.optimize(objective, n_trials=2)
        assert s.best_trial.number == 1

    def test_other_keys_are_recorded_only(self) -> None:
        s = study(metric_names=["error"])
        s.optimize(lambda t: {"error": 0.5, "seconds": 3.0, "odd": float("nan")}, n_trials=1)
        assert s.best_trial.values == {"error": 0.5}
        assert dict(s.trials[0].record.values) == {"error": 0.5, "seconds": 3.0}

    def test_the_dataframe_has_a_row_for_each_trial(self) -> None:
        s = climb(NINE, {"epochs": 3}, {"epochs": 9})
        s.optimize(counting())
        frame = s.trials_dataframe()
        row = frame.iloc[0]
        assert (row["number"], row["state"], row["value"], row["fidelity_epochs"]) == (
            0,
            "COMPLETE",
            1 / 9,
            9,
        )
        assert row["params_n"] == numbers().default["n"]

    def test_optuna_takes_a_copy(self) -> None:
        s = study(axes=NINE, scheduler=fidelity.SuccessiveHalving())
        s.optimize(counting(value=lambda t, e: t.params["x"]), n_trials=9)
        copy = s.to_optuna()
        assert len(copy.trials) == 9
        assert copy.best_params == s.best_params
        assert copy.best_value == s.best_value


class TestSeveral:
    def objective(self, trial: bonas.Trial) -> dict[str, float]:
        return {"accuracy": [0.9, 0.8, 0.7, 0.95][trial.number], "size": [5.0, 2.0, 3.0, 9.0][trial.number]}

    def test_the_front(self) -> None:
        s = study(**TWO)
        s.optimize(self.objective, n_trials=4)
        assert [t.number for t in s.best_trials] == [0, 1, 3]
        assert s.best_trials[0].values == {"accuracy": 0.9, "size": 5.0}

    def test_optuna_takes_a_copy_without_a_warning(self) -> None:
        s = study(**TWO)
        s.optimize(self.objective, n_trials=4)
        assert [t.values for t in s.to_optuna().best_trials] == [[0.9, 5.0], [0.8, 2.0], [0.95, 9.0]]

    def test_retrain_says_how_to_choose(self) -> None:
        s = study(**TWO)
        s.optimize(self.objective, n_trials=2)
        with pytest.raises(ValueError, match=r"best_trials; retrain\(objective, trial=\.\.\.\)"):
            s.retrain(self.objective)

    def test_a_sampler_of_optunas_has_to_be_wrapped(self) -> None:
        with pytest.raises(ValueError, match=r"OptunaSampler\(sampler\)"):
            study(sampler=optuna.samplers.RandomSampler())

    def test_what_needs_one_objective_says_so(self) -> None:
        s = study(**TWO)
        s.optimize(self.objective, n_trials=2)
        for name in ("best_trial", "best_value", "best_params"):
            with pytest.raises(ValueError, match="best_trials"):
                getattr(s, name)
        with pytest.raises(ValueError, match="best_trials"):
            s.recommend()
        with pytest.raises(ValueError, match="values"):
            s.trials[0].value  # noqa: B018

    @pytest.mark.parametrize("wrong", [0.5, {"accuracy": 0.5}, (0.5, 1.0), {"size": 1.0, "acuracy": 0.5}])
    def test_report_return_and_tell_take_dicts_with_every_metric(self, wrong: Any) -> None:
        s = study(**TWO)
        s.optimize(lambda _: wrong, n_trials=1)
        assert s.trials[0].state == TrialState.FAIL
        s = study(**TWO)
        trial = s.ask()
        assert trial is not None
        with pytest.raises((ValueError, TypeError), match="accuracy"):
            trial.report(wrong, 1)
        assert s.tell(trial, wrong).state == TrialState.FAIL
        trial = s.ask()
        assert trial is not None
        assert s.tell(trial, {"accuracy": 1, "size": 2}).state == TrialState.COMPLETE

    def test_names_are_required(self) -> None:
        with pytest.raises(ValueError, match="metric_names"):
            study(directions=["minimize", "minimize"])

    def test_halving_and_the_forest_work_with_several(self) -> None:
        s = study(**TWO, axes=NINE, sampler=ForestSampler(n_initial=4, n_trees=4))

        def objective(trial: bonas.Trial) -> None:
            trial.load_checkpoint()
            for epoch in trial.epochs():
                trial.report({"accuracy": trial.params["x"], "size": float(trial.params["n"])}, epoch)
                trial.save_checkpoint({})

        s.optimize(objective, n_trials=9)
        assert len(s.best_trials) >= 1


class TestAfterwards:
    def finished(self, noise: float = 0.0) -> bonas.Study:
        s = study()
        s.optimize(self.noisy(noise), n_trials=8)
        return s

    def noisy(self, noise: float) -> Any:
        def objective(trial: bonas.Trial) -> float:
            lucky = -noise if trial.number == 3 and trial.seed == self.seed_of_3 else 0.0
            return float(abs(trial.number - 5)) + lucky

        s = study()
        s.optimize(lambda _: 1.0, n_trials=4)
        self.seed_of_3 = s.trials[3].seed
        return objective

    def test_recommend_evaluates_again_with_new_seeds(self) -> None:
        s = self.finished(noise=10.0)
        assert s.best_trial.number == 3  # by luck
        objective = self.noisy(10.0)
        assert s.recommend(objective, k=3, repeats=9).number == 5
        assert s.recommend().number == 5  # remembered
        assert len(s.trials) == 8

    def test_recommend_and_retrain_after_a_call_with_a_timeout(self) -> None:
        s = study(axes=NINE, scheduler=fidelity.FullFidelity())
        objective = counting(value=lambda t, e: t.params["x"])
        s.optimize(objective, n_trials=3, timeout=0.2)
        while not s.timed_out and s.trials[-1].state != TrialState.COMPLETE:
            pass
        assert s.recommend(objective, k=1, repeats=1).state == TrialState.COMPLETE
        assert s.retrain(objective).state == TrialState.COMPLETE

    def test_retrain_tells_the_objective_and_keeps_the_weights(self) -> None:
        s = study(axes=NINE, scheduler=fidelity.FullFidelity())
        s.optimize(counting(value=lambda t, e: t.params["x"]), n_trials=2)
        told = []

        def objective(trial: bonas.Trial) -> None:
            told.append((trial.retraining, trial.fidelity, trial.load_checkpoint()))
            for epoch in trial.epochs():
                trial.report(0.25, epoch)
            trial.set_user_attr("test_accuracy", 0.75)

        again = s.retrain(objective)
        assert told == [(True, NINE.full, None)]
        assert again.number == s.best_trial.number
        assert again.user_attrs == {"test_accuracy": 0.75}
        s.retrain(objective)  # done, it is not done again
        assert len(told) == 1
        assert s.best_value != 0.25
