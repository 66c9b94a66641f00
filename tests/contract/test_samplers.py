"""What every sampler keeps to: proposals are valid, active, new and repeatable, whatever the records hold."""

from __future__ import annotations

import copy
import warnings
from functools import cache
from typing import Any

import ConfigSpace
import numpy as np
import optuna
import pytest

from bonas import samplers, spaces
from bonas.samplers import (
    EvolutionSampler,
    ForestSampler,
    LocalSearchSampler,
    OptunaSampler,
    RandomSampler,
    Sampler,
    SMACSampler,
    TPESampler,
)
from fidelity.axes import Axes
from fidelity.records import Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState


def partial() -> optuna.samplers.BaseSampler:
    """A sampler that holds another, whose randomness has to be found."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        inner = optuna.samplers.TPESampler(n_startup_trials=4)
        return optuna.samplers.PartialFixedSampler({}, inner)


SAMPLERS = {
    "random": lambda: RandomSampler(),
    "forest": lambda: ForestSampler(n_initial=4, n_trees=8, random_fraction=0.0, n_process=0),
    "forest-process": lambda: ForestSampler(n_initial=4, n_trees=8),
    "tpe": lambda: TPESampler(n_initial=4),
    "smac": lambda: SMACSampler(n_initial=4),
    "evolution": lambda: EvolutionSampler(population_size=8, tournament_size=3),
    "local-search": lambda: LocalSearchSampler(n_initial=4),
    "optuna-tpe": lambda: OptunaSampler(settings={"n_startup_trials": 4}),
    "optuna-independent": lambda: OptunaSampler("TPESampler", {"n_startup_trials": 4, "multivariate": False}),
    "optuna-random": lambda: OptunaSampler(optuna.samplers.RandomSampler()),
    "optuna-partial": lambda: OptunaSampler(partial()),
}
AXES = Axes(epochs=(1, 9))
STATES = tuple(TrialState)


def _own() -> spaces.Space:
    """Every kind of parameter, conditions in two levels and joined, and forbidden clauses."""
    space = ConfigSpace.ConfigurationSpace()
    kind = ConfigSpace.Categorical("kind", ["a", "b", "c"])
    a_rate = ConfigSpace.Float("a_rate", (1e-5, 1e-1), log=True)
    a_units = ConfigSpace.Integer("a_units", (1, 64), log=True)
    b_level = ConfigSpace.Categorical("b_level", [1, 2, 3], ordered=True)
    flag = ConfigSpace.Categorical("flag", [True, False])
    deep = ConfigSpace.Float("deep", (-2.0, 2.0))
    either = ConfigSpace.Integer("either", (-3, 3))
    fixed = ConfigSpace.Constant("fixed", "same")
    half = ConfigSpace.Categorical("half", [0.25, 0.5])
    space.add(kind, a_rate, a_units, b_level, flag, deep, either, fixed, half)
    space.add(
        ConfigSpace.EqualsCondition(a_rate, kind, "a"), ConfigSpace.InCondition(a_units, kind, ["a", "c"])
    )
    space.add(ConfigSpace.EqualsCondition(b_level, kind, "b"))
    space.add(
        ConfigSpace.AndConjunction(
            ConfigSpace.GreaterThanCondition(deep, a_units, 8), ConfigSpace.EqualsCondition(deep, flag, True)
        )
    )
    space.add(
        ConfigSpace.OrConjunction(
            ConfigSpace.EqualsCondition(either, kind, "c"), ConfigSpace.EqualsCondition(either, half, 0.5)
        )
    )
    space.add(
        ConfigSpace.ForbiddenAndConjunction(
            ConfigSpace.ForbiddenEqualsClause(kind, "b"), ConfigSpace.ForbiddenEqualsClause(flag, True)
        ),
        ConfigSpace.ForbiddenAndConjunction(
            ConfigSpace.ForbiddenEqualsClause(kind, "c"), ConfigSpace.ForbiddenInClause(half, [0.25])
        ),
    )
    return spaces.Space(space)


def _small() -> spaces.Space:
    """Seven configurations: 2 × 3 × 2, less what is inactive or forbidden."""
    space = ConfigSpace.ConfigurationSpace()
    on = ConfigSpace.Categorical("on", [False, True])
    level = ConfigSpace.Integer("level", (1, 3))
    extra = ConfigSpace.Categorical("extra", ["x", "y"])
    space.add(on, level, extra)
    space.add(ConfigSpace.EqualsCondition(extra, on, True))
    space.add(
        ConfigSpace.ForbiddenAndConjunction(
            ConfigSpace.ForbiddenEqualsClause(level, 3), ConfigSpace.ForbiddenEqualsClause(extra, "y")
        )
    )
    space.add(
        ConfigSpace.ForbiddenAndConjunction(
            ConfigSpace.ForbiddenEqualsClause(level, 1), ConfigSpace.ForbiddenEqualsClause(on, False)
        )
    )
    return spaces.Space(space)


SPACES = {
    "chain": lambda: spaces.chain(input_shape=(1, 8, 8), n_classes=10).with_hyperparameters(),
    "cell": lambda: spaces.cell(preset="nas_bench_201", input_shape=(1, 8, 8)),
    "own": _own,
}


@cache
def space_of(name: str) -> spaces.Space:
    return SPACES[name]()


def record(
    space: spaces.Space,
    number: int,
    params: dict[str, Any],
    state: TrialState,
    values: dict[str, float] | None,
) -> TrialRecord:
    epochs = 9 if state is TrialState.COMPLETE else 3
    fidelity = Fidelity(epochs=epochs)
    seen = [
        Observation(e, {name: v + 1 / e for name, v in values.items()}, 1 / 9, fidelity)
        for e in (1, 3, 9)
        if values and e <= epochs
    ]
    curves = (Curve(tuple(seen)),) if seen else ()
    return TrialRecord(number, params, space.key(params), state, fidelity, curves=curves, watermark=number)


def history(
    space: spaces.Space, n: int, seed: int = 0, states: tuple[TrialState, ...] = STATES, **study: Any
) -> StudyView:
    """A study of every kind of trial, its values depending on the parameters."""
    rng = np.random.default_rng(seed)
    names = study.get("metric_names", ("value",))
    trials: list[TrialRecord] = []
    for params in space.sample(4 * n, rng):
        if len(trials) == n or space.key(params) in {t.key for t in trials}:
            continue
        state = states[len(trials) % len(states)]
        # A running trial and a paused one of either kind: with values and without.
        empty = state in (TrialState.FAIL, TrialState.INFEASIBLE) or (len(trials) // len(states)) % 2
        level = float(np.nanmean(space.encode([params])))
        values = {name: level * (-1) ** j + rng.normal(0, 0.1) for j, name in enumerate(names)}
        observed = values if state is TrialState.COMPLETE or not empty else None
        trials.append(record(space, len(trials), params, state, observed))
    return StudyView(tuple(trials), AXES, **study)


@pytest.fixture(params=SAMPLERS)
def sampler(request: pytest.FixtureRequest) -> Sampler:
    return SAMPLERS[request.param]()


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> spaces.Space:
    return space_of(request.param)


def assert_new_and_canonical(space: spaces.Space, view: StudyView, params: dict[str, Any] | None) -> None:
    assert params is not None
    assert space.validate(params) == params  # active ones only, in their ranges, no forbidden clause
    assert list(space.validate(params)) == list(params)
    assert all(type(value) in (str, int, float, bool, type(None)) for value in params.values())
    assert space.key(params) not in {trial.key for trial in view.trials}


def test_a_study_from_its_first_trial_on(sampler: Sampler, space: spaces.Space) -> None:
    trials: list[TrialRecord] = []
    for number in range(14):
        view = StudyView(tuple(trials), AXES)
        params = sampler.sample(space, view, np.random.default_rng([1, number]))
        assert_new_and_canonical(space, view, params)
        assert params is not None
        trials.append(record(space, number, params, TrialState.COMPLETE, {"value": float(number % 5)}))


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_records_of_every_state(sampler: Sampler, space: spaces.Space, direction: str) -> None:
    view = history(space, 24, directions=(direction,))
    for k in range(3):
        assert_new_and_canonical(space, view, sampler.sample(space, view, np.random.default_rng(k)))


@pytest.mark.parametrize("state", STATES)
def test_records_of_one_state(sampler: Sampler, state: TrialState) -> None:
    space = space_of("own")
    view = history(space, 8, states=(state,))
    assert_new_and_canonical(space, view, sampler.sample(space, view, np.random.default_rng(0)))


def test_two_metrics(sampler: Sampler, space: spaces.Space) -> None:
    view = history(space, 20, directions=("minimize", "maximize"), metric_names=("error", "speed"))
    assert_new_and_canonical(space, view, sampler.sample(space, view, np.random.default_rng(0)))


def test_a_function_of_space_records_and_generator(sampler: Sampler, space: spaces.Space) -> None:
    view = history(space, 20)
    shorter = StudyView(view.trials[:12], AXES)
    first = sampler.sample(space, view, np.random.default_rng(5))
    # In between it is asked about other records, and about another space: it must not matter.
    sampler.sample(space, shorter, np.random.default_rng(6))
    sampler.sample(space_of("own"), StudyView((), AXES), np.random.default_rng(7))
    assert sampler.sample(space, view, np.random.default_rng(5)) == first
    restored = copy.deepcopy(sampler)
    assert restored.sample(space, view, np.random.default_rng(5)) == first


def test_different_generators_propose_different_things(sampler: Sampler, space: spaces.Space) -> None:
    view = StudyView((), AXES)
    keys = {space.key(sampler.sample(space, view, np.random.default_rng(k)) or {}) for k in range(8)}
    assert len(keys) > 4


def test_views_are_not_changed(sampler: Sampler, space: spaces.Space) -> None:
    view = history(space, 20)
    before = copy.deepcopy(view)
    sampler.sample(space, view, np.random.default_rng(0))
    assert view.trials == before.trials


def test_a_finite_space_is_listed_to_its_end(sampler: Sampler) -> None:
    space = _small()
    every = {space.key(params) for params in space.enumerate()}
    assert len(every) == 7
    trials: list[TrialRecord] = []
    for number in range(7):
        view = StudyView(tuple(trials), AXES)
        params = sampler.sample(space, view, np.random.default_rng([2, number]))
        assert_new_and_canonical(space, view, params)
        assert params is not None
        trials.append(record(space, number, params, TrialState.COMPLETE, {"value": float(number)}))
    assert {trial.key for trial in trials} == every
    assert sampler.sample(space, StudyView(tuple(trials), AXES), np.random.default_rng(0)) is None


def test_a_space_with_one_configuration(sampler: Sampler) -> None:
    space = spaces.Space(ConfigSpace.ConfigurationSpace({"only": ConfigSpace.Constant("only", 3)}))
    params = sampler.sample(space, StudyView((), AXES), np.random.default_rng(0))
    assert params == {"only": 3}
    done = record(space, 0, params, TrialState.COMPLETE, {"value": 1.0})
    assert sampler.sample(space, StudyView((done,), AXES), np.random.default_rng(0)) is None


def test_a_narrowed_space(sampler: Sampler) -> None:
    space = space_of("own").fix({"kind": "a"})
    view = history(space, 12)
    params = sampler.sample(space, view, np.random.default_rng(0))
    assert_new_and_canonical(space, view, params)
    assert params is not None
    assert params["kind"] == "a"
    assert "a_rate" in params


@pytest.mark.parametrize("name", [n for n in SAMPLERS if n not in ("optuna-random", "optuna-partial")])
def test_stored_and_restored(name: str) -> None:
    sampler = SAMPLERS[name]()
    restored = samplers.from_dict(sampler.to_dict())
    assert type(restored) is type(sampler)
    assert restored.to_dict() == sampler.to_dict()
    space = space_of("own")
    view = history(space, 20)
    expected = sampler.sample(space, view, np.random.default_rng(3))
    assert restored.sample(space, view, np.random.default_rng(3)) == expected


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("forest", 0.5),
        ("tpe", 0.5),
        ("smac", 0.5),
        ("evolution", 0.35),  # every third step from the best leaves what is good
        ("local-search", 0.35),
        ("optuna-tpe", 0.5),
    ],
)
def test_it_searches_where_the_values_are_good(name: str, share: float) -> None:
    # Without learning, 15 % of the proposals would be good in everything.
    space = spaces.Space(ConfigSpace.ConfigurationSpace({"x": (0.0, 1.0), "y": (0.0, 1.0), "z": ["p", "q"]}))
    trials: list[TrialRecord] = []
    sampler = SAMPLERS[name]()
    for number in range(50):
        view = StudyView(tuple(trials), Axes(), directions=("maximize",))
        params = sampler.sample(space, view, np.random.default_rng([3, number]))
        assert params is not None
        value = -((params["x"] - 0.8) ** 2) - (params["y"] - 0.3) ** 2 - 0.3 * (params["z"] == "q")
        full = Fidelity()
        curve = Curve((Observation(1, {"value": value}, 1.0, full),))
        trials.append(
            TrialRecord(number, params, space.key(params), TrialState.COMPLETE, full, curves=(curve,))
        )
    late = [t.params for t in trials[25:]]
    good = [abs(p["x"] - 0.8) < 0.3 and abs(p["y"] - 0.3) < 0.3 and p["z"] == "p" for p in late]
    assert np.mean(good) > share
