"""Local search: what a step is, where it starts from, and when it starts afresh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ConfigSpace
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonas import spaces
from bonas.samplers import LocalSearchSampler
from bonas.samplers._codes import Coded
from bonas.samplers._local_search import one_step
from fidelity.axes import Axes
from fidelity.records import Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState

AXES = Axes(epochs=(1, 9))


def grid(n: int, letters: str) -> spaces.Space:
    return spaces.Space(ConfigSpace.ConfigurationSpace({f"p{i}": list(letters) for i in range(n)}))


def trial(
    space: spaces.Space,
    number: int,
    params: dict[str, Any],
    *values: float,
    state: TrialState = TrialState.COMPLETE,
    epoch: int = 9,
) -> TrialRecord:
    seen = Observation(epoch, {f"m{j}": v for j, v in enumerate(values)}, 1.0, Fidelity(epochs=epoch))
    curves = (Curve((seen,)),) if values else ()
    return TrialRecord(number, params, space.key(params), state, Fidelity(epochs=epoch), curves=curves)


def view(trials: list[TrialRecord], metrics: int = 1) -> StudyView:
    names = tuple(f"m{j}" for j in range(metrics))
    return StudyView(tuple(trials), AXES, directions=("minimize",) * metrics, metric_names=names)


def search(
    space: spaces.Space, loss: Callable[[dict[str, Any]], float], n: int, **setting: int
) -> list[dict[str, Any]]:
    sampler, trials = LocalSearchSampler(**setting), []
    for number in range(n):
        params = sampler.sample(space, view(trials), np.random.default_rng([5, number]))
        assert params is not None
        trials.append(trial(space, number, params, loss(params)))
    return [dict(t.params) for t in trials]


def apart(a: dict[str, Any], b: dict[str, Any]) -> int:
    return sum(a[name] != b[name] for name in a)


def conditional() -> spaces.Space:
    space = ConfigSpace.ConfigurationSpace()
    kind = ConfigSpace.Categorical("kind", ["a", "b", "c"])
    rate = ConfigSpace.Float("rate", (1e-3, 1.0), log=True)
    units = ConfigSpace.Integer("units", (1, 8))
    space.add(kind, rate, units, ConfigSpace.Constant("fixed", 7))
    space.add(ConfigSpace.EqualsCondition(rate, kind, "a"), ConfigSpace.InCondition(units, kind, ["a", "b"]))
    return spaces.Space(space)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_neighbours_are_one_step_away_and_other_configurations_are_not(seed: int) -> None:
    space = conditional()
    rng = np.random.default_rng(seed)
    start = space.sample(1, rng)[0]
    coded = Coded(space)
    row = coded.table.codes([start])[0]
    near = space.neighbours(start, rng, 10)
    assert one_step(coded.table.codes(near), row).all()
    assert not one_step(row[None], row).any()
    twice = dict(start) | {"kind": start["kind"], "rate": 0.5, "units": start.get("units", 1) % 8 + 1}
    if start["kind"] == "a" and start["rate"] != 0.5:
        assert not one_step(coded.table.codes([space.validate(twice)]), row).any()


def test_every_step_of_a_single_peak_starts_at_the_best() -> None:
    space = grid(4, "abcde")
    best = {f"p{i}": "c" for i in range(4)}
    visited = search(space, lambda params: apart(params, best), 60, n_initial=3)
    for number in range(3, visited.index(best)):
        before = visited[:number]
        least = min(apart(params, best) for params in before)
        assert any(apart(visited[number], p) == 1 and apart(p, best) == least for p in before)
    # Four places, at most four tries each beside those that were found before.
    assert visited.index(best) <= 3 + 16


def test_a_climbed_top_is_left_for_another_start() -> None:
    space = grid(3, "abc")
    # Two peaks: the lower one is all of a, and no step from it helps.
    low, high = dict.fromkeys(("p0", "p1", "p2"), "a"), dict.fromkeys(("p0", "p1", "p2"), "c")

    def loss(params: dict[str, Any]) -> float:
        return min(1 + apart(params, low), 0.5 + 1.1 * apart(params, high))

    around = [p for p in space.enumerate() if apart(p, low) <= 1]
    trials = [trial(space, i, p, loss(p)) for i, p in enumerate(around)]
    sampler = LocalSearchSampler(n_initial=1)
    for seed in range(10):
        params = sampler.sample(space, view(trials), np.random.default_rng(seed))
        assert params is not None
        assert apart(params, low) > 1
    assert high in search(space, loss, 27, n_initial=1)


def test_patience_ends_the_climb_where_steps_never_run_out() -> None:
    space = spaces.Space(ConfigSpace.ConfigurationSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)}))

    def steps(n: int, patience: int) -> list[bool]:
        """Whether proposals are steps from the best, after ``n`` steps from it in vain."""
        top = trial(space, 0, {"x": 0.5, "y": 0.5}, 0.0)
        vain = [trial(space, 1 + i, {"x": 0.5, "y": 0.6 + 0.01 * i}, 1.0) for i in range(n)]
        sampler = LocalSearchSampler(n_initial=1, patience=patience)
        proposals = [sampler.sample(space, view([top, *vain]), np.random.default_rng(s)) for s in range(5)]
        return [p is not None and (p["x"] == 0.5 or p["y"] == 0.5) for p in proposals]

    assert steps(4, patience=5) == [True] * 5
    assert steps(5, patience=5) == [False] * 5


def test_steps_in_vain_of_every_kind_count() -> None:
    space = spaces.Space(ConfigSpace.ConfigurationSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)}))
    trials = [trial(space, 0, {"x": 0.5, "y": 0.5}, 0.0)]
    for i, state in enumerate((TrialState.FAIL, TrialState.INFEASIBLE, TrialState.RUNNING)):
        trials.append(trial(space, 1 + i, {"x": 0.5, "y": 0.1 * i}, state=state))
    params = LocalSearchSampler(n_initial=1, patience=3).sample(space, view(trials), np.random.default_rng(0))
    assert params is not None
    assert params["x"] != 0.5
    assert params["y"] != 0.5


def test_the_best_at_the_highest_fidelity_is_stepped_from() -> None:
    space = grid(4, "abcde")
    low = trial(space, 0, dict.fromkeys(space.names, "a"), 0.0, state=TrialState.PAUSED, epoch=3)
    high = trial(space, 1, dict.fromkeys(space.names, "b"), 5.0)
    params = LocalSearchSampler(n_initial=1).sample(space, view([low, high]), np.random.default_rng(0))
    assert params is not None
    assert apart(params, dict(high.params)) == 1


def test_of_several_metrics_what_is_dominated_next_to_a_better_one_is_no_top() -> None:
    space = grid(3, "abcdef")
    best = trial(space, 0, dict.fromkeys(space.names, "a"), 0.0, 1.0)
    beside = trial(space, 1, {"p0": "b", "p1": "a", "p2": "a"}, 0.5, 1.5)
    other = trial(space, 2, dict.fromkeys(space.names, "c"), 1.0, 0.0)
    found = set()
    for seed in range(20):
        params = LocalSearchSampler(n_initial=1).sample(
            space, view([best, beside, other], metrics=2), np.random.default_rng(seed)
        )
        assert params is not None
        found.add(next(t.number for t in (best, other) if apart(params, dict(t.params)) == 1))
    assert found <= {0, 2}


@pytest.mark.parametrize("name", ["n_initial", "patience"])
def test_wrong_settings(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0: must be a whole number from 1"):
        LocalSearchSampler(**{name: 0})
