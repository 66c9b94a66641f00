"""What a user knows beforehand reaches every sampler: weights, configurations in line, earlier studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ConfigSpace
import numpy as np
import pytest
from test_samplers import SAMPLERS

import bonas
from bonas import spaces
from bonas.samplers import ForestSampler, OptunaSampler, Sampler, TPESampler
from fidelity.axes import Axes
from fidelity.records import Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState

LEARNING = {
    "forest": lambda: ForestSampler(n_initial=4, n_trees=8),
    "tpe": lambda: TPESampler(n_initial=4),
}


@pytest.fixture(params=SAMPLERS)
def sampler(request: pytest.FixtureRequest) -> Sampler:
    return SAMPLERS[request.param]()


def weighted() -> spaces.Space:
    return spaces.Space(
        ConfigSpace.ConfigurationSpace(
            [
                ConfigSpace.Categorical("kind", ["often", "seldom", "never"], weights=[0.95, 0.05, 0]),
                ConfigSpace.Float("rate", (1e-4, 1.0), log=True),
                ConfigSpace.Integer("units", (1, 64)),
            ]
        )
    )


def search(sampler: Sampler, space: spaces.Space, n: int) -> list[TrialRecord]:
    trials: list[TrialRecord] = []
    for number in range(n):
        params = sampler.sample(space, StudyView(tuple(trials), Axes()), np.random.default_rng([7, number]))
        assert params is not None
        seen = Observation(1, {"value": abs(params["units"] - 40)}, 1.0, Fidelity())
        state = TrialState.COMPLETE
        key = space.key(params)
        trials.append(TrialRecord(number, params, key, state, Fidelity(), curves=(Curve((seen,)),)))
    return trials


def test_weights_are_kept_to(sampler: Sampler) -> None:
    kinds = [t.params["kind"] for t in search(sampler, weighted(), 20)]
    assert "never" not in kinds
    if not isinstance(sampler, OptunaSampler):
        # At first nothing else is known. Optuna's own samplers know no weights.
        assert kinds[:4].count("often") >= 3


def test_a_finite_space_ends_without_what_has_no_chance(sampler: Sampler) -> None:
    space = spaces.Space(
        ConfigSpace.ConfigurationSpace(
            [
                ConfigSpace.Categorical("kind", ["a", "b", "never"], weights=[1, 2, 0]),
                ConfigSpace.Integer("units", (1, 2)),
            ]
        )
    )
    trials = search(sampler, space, 4)
    assert {t.params["kind"] for t in trials} == {"a", "b"}
    assert sampler.sample(space, StudyView(tuple(trials), Axes()), np.random.default_rng(0)) is None


def test_what_is_enqueued_comes_next_and_is_learned_from(sampler: Sampler) -> None:
    study = bonas.create_study(space=weighted(), sampler=sampler)
    study.enqueue_trial({"kind": "never", "rate": 0.5, "units": 40})
    study.enqueue_trial({"kind": "seldom", "rate": 0.5, "units": 41})
    study.optimize(lambda trial: abs(trial.params["units"] - 40.0), n_trials=12)
    assert [t.params["units"] for t in study.trials[:2]] == [40, 41]
    assert len({weighted().key(t.params) for t in study.trials}) == 12


def test_what_is_put_in_line_is_taken_at_its_word() -> None:
    study = bonas.create_study(space=weighted(), sampler=TPESampler())
    never = {**weighted().default, "kind": "never"}
    for _ in range(2):
        study.enqueue_trial(never)
    study.optimize(lambda trial: 1.0, n_trials=2)
    assert [t.params for t in study.trials] == [never] * 2
    assert study.trials[0].seed != study.trials[1].seed


# Warm start ------------------------------------------------------------------------------------


def line(**more: Any) -> spaces.Space:
    return spaces.Space(
        ConfigSpace.ConfigurationSpace({"x": (0.0, 1.0), "y": (0.0, 1.0), "kind": ["a", "b", "c"]} | more)
    )


def loss(trial: Any) -> float:
    p = trial.params
    return float((p["x"] - 0.8) ** 2 + (p["y"] - 0.3) ** 2 + 0.3 * (p["kind"] != "b"))


def earlier(name: str = "earlier", n: int = 40, seed: int = 3, **settings: Any) -> bonas.Study:
    settings = {"space": line(), "sampler": bonas.samplers.RandomSampler(), "study_name": name} | settings
    study = bonas.create_study(seed=seed, **settings)
    study.optimize(loss, n_trials=n)
    return study


@pytest.mark.parametrize("name", LEARNING)
def test_what_was_good_before_comes_first(name: str) -> None:
    told = earlier()
    cold = bonas.create_study(space=line(), sampler=LEARNING[name](), seed=1)
    warm = bonas.create_study(space=line(), sampler=LEARNING[name](), warm_start=[told], seed=1)
    for study in (cold, warm):
        study.optimize(loss, n_trials=8)
    assert cold.trials[0].params == warm.trials[0].params == line().default
    known = sorted(told.trials, key=loss)
    assert loss(warm.trials[1]) <= loss(known[4])
    assert np.median([loss(t) for t in warm.trials[1:]]) < np.median([loss(t) for t in cold.trials[1:]]) / 2


@pytest.mark.parametrize("name", LEARNING)
def test_a_study_that_was_told_goes_on_as_if_never_interrupted(name: str, tmp_path: Path) -> None:
    def made(folder: Path) -> bonas.Study:
        return bonas.create_study(
            space=line(),
            sampler=LEARNING[name](),
            warm_start=[earlier(), earlier("other", seed=4)],
            storage=folder,
            study_name="s",
            seed=1,
        )

    whole = made(tmp_path / "a")
    whole.optimize(loss, n_trials=9)
    made(tmp_path / "b").optimize(loss, n_trials=5)
    again = bonas.load_study(storage=tmp_path / "b")
    again.optimize(loss, n_trials=9)
    assert [t.params for t in again.trials] == [t.params for t in whole.trials]
    assert again.view().earlier == whole.view().earlier
    third = bonas.create_study(space=line(), storage=tmp_path / "b", study_name="s", load_if_exists=True)
    assert third.view().earlier == whole.view().earlier


@pytest.mark.parametrize("name", LEARNING)
def test_a_space_that_overlaps(name: str) -> None:
    told = earlier()
    space = spaces.Space(
        ConfigSpace.ConfigurationSpace(
            {"x": (0.5, 2.0), "kind": ["b", "c", "d"], "new": (1, 9), "y": (0.0, 1.0)}
        )
    )
    study = bonas.create_study(space=space, sampler=LEARNING[name](), warm_start=[told], seed=1)
    study.optimize(loss, n_trials=10)
    assert {t.params["kind"] for t in study.trials[1:5]} <= {"b", "c"}
    assert min(loss(t) for t in study.trials[1:5]) < 0.15


@pytest.mark.parametrize("name", LEARNING)
def test_several_metrics_and_rungs(name: str) -> None:
    def objective(trial: bonas.Trial) -> None:
        for epoch in trial.epochs():
            trial.report({"loss": loss(trial) + 1 / epoch, "size": trial.params["x"]}, epoch)

    settings = {
        "space": line(),
        "axes": Axes(epochs=(1, 9)),
        "directions": ["minimize", "minimize"],
        "metric_names": ["loss", "size"],
        "sampler": LEARNING[name](),
    }
    told = bonas.create_study(study_name="told", **settings)
    told.optimize(objective, n_trials=15)
    study = bonas.create_study(warm_start=[told], seed=1, **settings)
    study.optimize(objective, n_trials=12)
    assert set(study.view().earlier[0].scores) == {"loss", "size"}
    assert len(study.trials) == 12
