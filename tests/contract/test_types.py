"""Types of the public calls: what is taken, what suggest_* answers, and what is refused with a remedy."""

from __future__ import annotations

from typing import Any

import ConfigSpace
import pytest
import torch
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer
from engine import choices, numbers, study

import bonas
from bonas import fidelity, spaces
from bonas.samplers import RandomSampler


def conditional() -> spaces.Space:
    cs = ConfigurationSpace()
    kind = Categorical("kind", ["sgd", "adam"], default="sgd")
    momentum = Float("momentum", (0.0, 0.99), default=0.9)
    cs.add(kind, momentum, Float("lr", (1e-4, 1e-1), log=True), Integer("units", (2, 64), log=True))
    cs.add(EqualsCondition(momentum, kind, "sgd"))
    return spaces.Space(cs)


class TestSuggest:
    def trial(self, **params: Any) -> bonas.Trial:
        s = study(space=conditional())
        s.enqueue_trial(params or {"kind": "sgd", "momentum": 0.5, "lr": 0.01, "units": 8})
        trial = s.ask()
        assert trial is not None
        return trial

    def test_the_configured_value_for_the_same_name_and_range(self) -> None:
        trial = self.trial()
        assert trial.suggest_float("lr", 1e-4, 1e-1, log=True) == trial.params["lr"]
        assert trial.suggest_int("units", 2, 64, log=True) == 8
        assert trial.suggest_categorical("kind", ["sgd", "adam"]) == "sgd"
        assert trial.suggest_categorical("kind", ("sgd", "adam")) == "sgd"
        assert trial.suggest_float("momentum", 0, 0.99) == 0.5

    @pytest.mark.parametrize(
        "ask",
        [
            lambda t: t.suggest_float("lr", 1e-4, 1.0, log=True),
            lambda t: t.suggest_float("lr", 1e-4, 1e-1),
            lambda t: t.suggest_float("learning_rate", 1e-4, 1e-1),
            lambda t: t.suggest_float("units", 2, 64, log=True),
            lambda t: t.suggest_int("lr", 0, 1),
            lambda t: t.suggest_int("units", 2, 64),
            lambda t: t.suggest_int("units", 2, 64, log=True, step=2),
            lambda t: t.suggest_float("momentum", 0.0, 0.99, step=0.1),
            lambda t: t.suggest_categorical("kind", ["adam"]),
            lambda t: t.suggest_categorical("lr", ["a"]),
        ],
    )
    def test_anything_else_is_a_clear_error(self, ask: Any) -> None:
        with pytest.raises(ValueError, match=r"asked for|no such"):
            ask(self.trial())

    def test_an_inactive_one_is_named(self) -> None:
        trial = self.trial(kind="adam", lr=0.01, units=8)
        assert "momentum" not in trial.params
        with pytest.raises(ValueError, match="not active"):
            trial.suggest_float("momentum", 0.0, 0.99)


class TestTrial:
    def test_params_are_plain_active_values(self) -> None:
        s = study(space=conditional())
        s.optimize(lambda t: 1.0, n_trials=20)
        for trial in s.trials:
            assert {type(v) for v in trial.params.values()} <= {str, int, float, bool}
            assert ("momentum" in trial.params) == (trial.params["kind"] == "sgd")

    def test_absent_axes_read_one_and_the_device_is_a_device(self) -> None:
        trial = study().ask()
        assert trial is not None
        f = trial.fidelity
        assert (f.epochs, f.subset, f.resolution, f.width, f.depth) == (1, 1, None, 1, 1)
        assert isinstance(trial.device, torch.device)

    def test_build_is_at_the_fidelitys_width_and_depth(self) -> None:
        built = []

        def build(params: dict[str, Any], width: float, depth: float) -> torch.nn.Module:
            built.append((width, depth))
            return torch.nn.Linear(max(1, int(params["n"] * width)), 1)

        space = spaces.Space(ConfigurationSpace({"n": (8, 16)}), build=build)
        axes = fidelity.Axes(width=(0.5, 1.0), depth=(0.5, 1.0))
        s = study(space=space, axes=axes)

        def objective(trial: bonas.Trial) -> float:
            trial.build()
            return float(trial.params["n"])

        s.optimize(objective, n_trials=3)
        assert built[0] == (s.scheduler.rungs(axes)[0].width, s.scheduler.rungs(axes)[0].depth)
        assert built[0][0] < 1
        assert (1.0, 1.0) in built
        assert s.best_trial.build().in_features == s.best_params["n"]

    def test_load_model_gives_the_trained_weights(self) -> None:
        space = spaces.Space(
            ConfigurationSpace({"n": (2, 5)}),
            build=lambda params, width, depth: torch.nn.Linear(params["n"], 1),
        )

        def objective(trial: bonas.Trial) -> float:
            model = trial.build()
            torch.nn.init.constant_(model.weight, 7.0)
            for _ in trial.epochs():
                trial.save_checkpoint({"model": model.state_dict()})
            return 1.0

        s = study(space=space)
        s.optimize(objective, n_trials=1)
        assert s.best_trial.load_model().weight.unique().tolist() == [7.0]
        s = study(space=space)
        s.optimize(lambda _: 1.0, n_trials=1)
        with pytest.raises(ValueError, match="no checkpoint"):
            s.best_trial.load_model()


class TestSpaceMethods:
    def test_a_space_may_be_narrowed_before_the_search(self) -> None:
        space = spaces.chain(input_shape=(1, 8, 8), n_classes=10)
        space = space.with_hyperparameters([ConfigSpace.Float("lr", (1e-4, 1e-1), log=True)]).fix(
            {"lr": 0.01}
        )
        s = study(space=space)
        s.optimize(lambda t: t.params["lr"], n_trials=5)
        assert {t.value for t in s.trials} == {0.01}


@pytest.mark.parametrize(
    "wrong",
    [
        {"space": ConfigurationSpace({"x": (0.0, 1.0)})},
        {"axes": {"epochs": (1, 9)}},
        {"direction": "min"},
        {"directions": []},
        {"direction": "minimize", "directions": ["minimize"]},
        {"directions": ["minimize", "maximize"], "metric_names": ["one"]},
        {"directions": ["minimize", "maximize"], "metric_names": ["one", "one"]},
        {"metric_names": "accuracy"},
        {"sampler": "forest"},
        {"scheduler": "halving"},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": True},
        {"constraints": {"parameter": 5}},
        {"constraints": {"parameters": -5}},
        {"constraints": {"parameters": "many"}},
        {"constraints": "parameters"},
        {"directions": "minimize"},
        {"metric_names": [None]},
        {"metric_names": 5},
        {"sampler": RandomSampler},
        {"scheduler": fidelity.FullFidelity},
        {"study_name": 5},
        {"study_name": "\ud800"},
        {"artifacts": 5},
        {"storage": 5},
        {"storage": "://"},
    ],
)
def test_wrong_settings_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="|".join(n.rstrip("s") for n in wrong)):
        study(**wrong)


def test_the_defaults_are_the_forest_and_full_or_asha() -> None:
    s = bonas.create_study(space=numbers())
    assert type(s.sampler).__name__ == "ForestSampler"
    assert type(s.scheduler).__name__ == "FullFidelity"
    s = bonas.create_study(space=choices(), axes=fidelity.Axes(epochs=(1, 9)))
    assert type(s.scheduler).__name__ == "ASHA"


def test_states_are_the_six_of_the_contract() -> None:
    assert set(bonas.TrialState) == {"RUNNING", "PAUSED", "COMPLETE", "PRUNED", "FAIL", "INFEASIBLE"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"objective": 5},
        {"timeout": 10**400},
        {"budget": 10**400},
        {"budget": True},
        {"executor": "pool"},
        {"n_jobs": 10**8},
        {"callbacks": 5},
        {"callbacks": [5]},
    ],
)
def test_wrong_ways_to_optimize_are_refused_before_anything_runs(wrong: dict[str, Any]) -> None:
    s = study()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        s.optimize(**({"objective": lambda trial: 1.0, "n_trials": 3} | wrong))
    assert s.trials == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.enqueue_trial(5),
        lambda s: s.retrain(5),
        lambda s: s.retrain(lambda trial: 1.0, trial=0),
        lambda s: s.recommend(k="3"),
        lambda s: s.recommend(5),
    ],
)
def test_wrong_types_are_refused_with_a_sentence(ask: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|takes"):
        ask(study())


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": (1, 1e30)},
        {"epochs": (1, 10**400)},
        {"epochs": ([1, 2], 5)},
        {"carry": ("epoch",)},
        {"carry": 5},
    ],
)
def test_axes_that_no_study_can_have_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        fidelity.Axes(**wrong)
