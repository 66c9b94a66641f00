"""Every sampler proposes what keeps the constraints that can be counted, and learns where others hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace
from engine import study
from test_samplers import SAMPLERS, history, space_of

import bonas
from bonas import TrialState, spaces
from bonas.samplers import ForestSampler, Sampler
from bonas.samplers._base import Allowed, draw_new
from fidelity.axes import Axes
from fidelity.records import Curve, Fidelity, Observation, StudyView, TrialRecord


@pytest.fixture(params=SAMPLERS)
def sampler(request: pytest.FixtureRequest) -> Sampler:
    return SAMPLERS[request.param]()


class Limits:
    """Bounds on what a function says of params, or of a trial."""

    def __init__(self, load: Any = None, excess: Any = None) -> None:
        self.load = load or (lambda params: 0.0)
        self.excess = excess or (lambda trial: None)


def tenth_of(space: spaces.Space) -> tuple[float, Limits]:
    """A bound on parameters that about a tenth of the prior keeps."""
    drawn = space.sample(200, np.random.default_rng(9))
    bound = float(np.quantile([space.count(params).parameters for params in drawn], 0.1))
    return bound, Limits(lambda params: space.count(params).parameters / bound)


@pytest.mark.parametrize("name", ["chain", "cell"])
def test_a_tenth_of_the_prior_is_feasible_and_nothing_else_is_proposed(sampler: Sampler, name: str) -> None:
    space = space_of(name)
    bound, limits = tenth_of(space)
    view = history(space, 24)
    for n in (0, 24):
        trials = tuple(t for t in view.trials[:n])
        asked = StudyView(trials, view.axes, bounds=limits)
        for k in range(3):
            params = sampler.sample(space, asked, np.random.default_rng(k))
            assert params is not None
            assert space.count(params).parameters <= bound
            assert space.key(params) not in {t.key for t in trials}


def test_without_bounds_nothing_changes(sampler: Sampler) -> None:
    space = space_of("own")
    view = history(space, 20)
    free = StudyView(view.trials, view.axes, bounds=Limits())
    expected = sampler.sample(space, view, np.random.default_rng(4))
    assert sampler.sample(space, free, np.random.default_rng(4)) == expected


def test_a_finite_space_is_listed_as_far_as_it_is_feasible(sampler: Sampler) -> None:
    space = spaces.Space(ConfigurationSpace({"a": (1, 4), "b": (1, 4)}))
    limits = Limits(lambda params: params["a"] * params["b"] / 4)
    trials: list[TrialRecord] = []
    while True:
        view = StudyView(tuple(trials), Axes(), bounds=limits)
        params = sampler.sample(space, view, np.random.default_rng([2, len(trials)]))
        if params is None:
            break
        curve = Curve((Observation(1, {"value": float(params["a"])}, 1.0, Fidelity()),))
        record = TrialRecord(
            len(trials), params, space.key(params), TrialState.COMPLETE, Fidelity(), curves=(curve,)
        )
        trials.append(record)
    assert sorted((t.params["a"], t.params["b"]) for t in trials) == sorted(
        (a, b) for a in range(1, 5) for b in range(1, 5) if a * b <= 4
    )


def test_where_draws_do_not_get_neighbours_lead(sampler: Sampler) -> None:
    # One draw in a million keeps this.
    space = spaces.Space(ConfigurationSpace({f"x{i}": (0.0, 1.0) for i in range(6)}))
    view = StudyView((), Axes(), bounds=Limits(lambda params: max(params.values()) / 0.1))
    params = sampler.sample(space, view, np.random.default_rng(0))
    assert params is not None
    assert max(params.values()) <= 0.1


def test_what_nothing_keeps_is_said_so(sampler: Sampler) -> None:
    space = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}))
    view = StudyView((), Axes(), bounds=Limits(lambda params: 1.5 + params["x"]))
    with pytest.raises(ValueError, match=r"nor any near the closest.*1\.5\d* times.*Relax them"):
        sampler.sample(space, view, np.random.default_rng(0))


def test_known_and_nearly_infeasible_spaces_do_not_end_a_search() -> None:
    # Feasible ones were found, draws find none, and their neighbours do not either: the search goes on.
    space = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}))
    seen = TrialRecord(0, {"x": 0.5}, space.key({"x": 0.5}), TrialState.COMPLETE, Fidelity())
    view = StudyView((seen,), Axes(), bounds=Limits(lambda params: 2.0))
    assert draw_new(space, Allowed(space, view), np.random.default_rng(0)) is not None


def test_a_study_has_only_its_default_infeasible(sampler: Sampler) -> None:
    space = space_of("cell")
    _, limits = tenth_of(space)
    bound = space.count(space.default).parameters / limits.load(space.default)
    s = study(space=space, sampler=sampler, constraints={"parameters": bound})
    s.optimize(lambda trial: float(space.count(trial.params).macs), n_trials=12)
    assert [t.number for t in s.trials if t.state is TrialState.INFEASIBLE] == [0]
    assert len(s.trials) == 13


def test_the_forest_stays_below_a_latency_that_only_measuring_tells() -> None:
    """The value grows with size, and so does the latency: the best is right at the bound."""
    space = spaces.Space(ConfigurationSpace({"width": (0.0, 1.0), "depth": (0.0, 1.0)}))

    def excess(trial: TrialRecord) -> float | None:
        return math.log((0.1 + trial.params["width"] + trial.params["depth"]) / 1.1)

    view = run(ForestSampler(random_fraction=0.0), space, Limits(excess=excess), lambda t: excess(t) > 0, 60)  # type: ignore[operator]
    late = view.trials[30:]
    assert np.mean([t.state is TrialState.INFEASIBLE for t in late]) < 0.5
    feasible = [t.params["width"] + t.params["depth"] for t in late if t.state is not TrialState.INFEASIBLE]
    assert max(feasible) > 0.9  # not driven to the small ones either


def test_the_forest_learns_what_runs_out_of_memory() -> None:
    space = spaces.Space(ConfigurationSpace({"width": (0.0, 1.0), "depth": (0.0, 1.0)}))
    view = run(ForestSampler(random_fraction=0.0), space, None, lambda t: t.params["width"] > 0.6, 60)
    late = view.trials[30:]
    assert np.mean([t.state is TrialState.INFEASIBLE for t in late]) < 0.35
    assert max(t.params["width"] for t in late if t.state is not TrialState.INFEASIBLE) > 0.5


def run(sampler: Sampler, space: spaces.Space, bounds: Any, infeasible: Any, n: int) -> StudyView:
    """A search for the largest width plus depth in which some trials turn out to be infeasible."""
    trials: list[TrialRecord] = []
    for number in range(n):
        view = StudyView(tuple(trials), Axes(), ("maximize",), bounds=bounds)
        params = sampler.sample(space, view, np.random.default_rng([5, number]))
        assert params is not None
        record = TrialRecord(number, params, space.key(params), TrialState.COMPLETE, Fidelity())
        if infeasible(record):
            record = TrialRecord(number, params, record.key, TrialState.INFEASIBLE, Fidelity())
        else:
            value = params["width"] + params["depth"]
            curve = Curve((Observation(1, {"value": value}, 1.0, Fidelity()),))
            record = TrialRecord(number, params, record.key, record.state, Fidelity(), curves=(curve,))
        trials.append(record)
    return StudyView(tuple(trials), Axes(), ("maximize",), bounds=bounds)


def test_enqueued_configurations_are_judged_too() -> None:
    space = spaces.chain((1, 8, 8), 10)
    bound = space.count(space.default).parameters
    s = bonas.create_study(space=space, constraints={"parameters": bound})
    small, large = (
        next(
            p
            for p in space.sample(500, np.random.default_rng(0))
            if (space.count(p).parameters <= bound) is keeps
        )
        for keeps in (True, False)
    )
    for params in (large, small):
        s.enqueue_trial(params)
    s.optimize(lambda trial: 1.0, n_trials=1)
    assert [(t.params, t.state) for t in s.trials] == [
        (large, TrialState.INFEASIBLE),
        (small, TrialState.COMPLETE),
    ]
