"""Regularized evolution: who may be a parent, and what a child is."""

from __future__ import annotations

from typing import Any

import ConfigSpace
import numpy as np
import pytest

from bonas import spaces
from bonas.samplers import EvolutionSampler
from fidelity.axes import Axes
from fidelity.records import Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState

AXES = Axes(epochs=(1, 9))
NAMES = [f"p{i}" for i in range(6)]
SPACE = spaces.Space(ConfigSpace.ConfigurationSpace({name: list("abcdefgh") for name in NAMES}))


def trial(
    number: int,
    letter: str,
    *values: float,
    state: TrialState = TrialState.COMPLETE,
    epoch: int = 9,
) -> TrialRecord:
    """A trial of ``letter`` in every place, so that a child's parent can be told."""
    params = dict.fromkeys(NAMES, letter)
    seen = Observation(epoch, {f"m{j}": v for j, v in enumerate(values)}, 1.0, Fidelity(epochs=epoch))
    curves = (Curve((seen,)),) if values else ()
    return TrialRecord(number, params, SPACE.key(params), state, Fidelity(epochs=epoch), curves=curves)


def view(trials: list[TrialRecord], metrics: int = 1) -> StudyView:
    names = tuple(f"m{j}" for j in range(metrics))
    return StudyView(tuple(trials), AXES, directions=("minimize",) * metrics, metric_names=names)


def parents(sampler: EvolutionSampler, asked: StudyView, n: int = 40) -> set[str]:
    """The letters of the parents of ``n`` children, each of which differs from its parent in one place."""
    found = set()
    for seed in range(n):
        child = sampler.sample(SPACE, asked, np.random.default_rng(seed))
        assert child is not None
        letters = list(child.values())
        parent = max(set(letters), key=letters.count)
        assert letters.count(parent) == len(NAMES) - 1
        found.add(parent)
    return found


def test_the_old_die_however_good_they_are() -> None:
    asked = view([trial(i, letter, float(i)) for i, letter in enumerate("abcdef")])
    sampler = EvolutionSampler(population_size=3, tournament_size=1)
    assert parents(sampler, asked) == {"d", "e", "f"}


def test_the_best_contestant_is_the_parent() -> None:
    asked = view(
        [trial(i, letter, value) for i, (letter, value) in enumerate(zip("abcd", [3, 1, 2, 4], strict=True))]
    )
    assert parents(EvolutionSampler(population_size=4, tournament_size=4), asked) == {"b"}
    # Of two, the worst of four never is, and every other one may be.
    assert parents(EvolutionSampler(population_size=4, tournament_size=2), asked) == {"a", "b", "c"}


def test_the_direction_counts() -> None:
    trials = tuple(trial(i, letter, float(i)) for i, letter in enumerate("abcd"))
    asked = StudyView(trials, AXES, directions=("maximize",), metric_names=("m0",))
    assert parents(EvolutionSampler(population_size=4, tournament_size=4), asked) == {"d"}


def test_failed_trials_age_but_are_no_parents_and_infeasible_ones_are_not_born() -> None:
    trials = [
        trial(0, "a", 0.0),
        trial(1, "b", 1.0),
        trial(2, "c", state=TrialState.FAIL),
        trial(3, "d", state=TrialState.INFEASIBLE),
        trial(4, "e", state=TrialState.RUNNING),
    ]
    sampler = EvolutionSampler(population_size=2, tournament_size=2)
    assert parents(sampler, view(trials)) == {"b"}


def test_a_higher_fidelity_wins() -> None:
    paused = trial(0, "a", 0.0, state=TrialState.PAUSED, epoch=3)
    asked = view([paused, trial(1, "b", 5.0), trial(2, "c", 4.0)])
    assert parents(EvolutionSampler(population_size=3, tournament_size=3), asked) == {"c"}


def test_of_several_metrics_no_contestant_dominates_the_parent() -> None:
    values = {"a": (0.0, 3.0), "b": (1.0, 1.0), "c": (2.0, 2.0), "d": (3.0, 0.0), "e": (3.0, 3.0)}
    asked = view([trial(i, letter, *both) for i, (letter, both) in enumerate(values.items())], metrics=2)
    assert parents(EvolutionSampler(population_size=5, tournament_size=5), asked) == {"a", "b", "d"}


def test_as_many_prior_draws_as_the_population_is_large() -> None:
    def differing(n: int) -> list[int]:
        """Places in which proposals differ from the only parent there could be."""
        asked = view([trial(i, "a" if i == 0 else "b", 0.0 if i == 0 else 1.0) for i in range(n)])
        sampler = EvolutionSampler(population_size=5, tournament_size=5)
        children = [sampler.sample(SPACE, asked, np.random.default_rng(seed)) for seed in range(10)]
        return [sum(v != "a" for v in child.values()) for child in children if child is not None]

    assert max(differing(4)) > 1
    assert differing(5) == [1] * 10


def test_a_known_neighbourhood_does_not_end_the_search() -> None:
    space = spaces.Space(ConfigSpace.ConfigurationSpace({"x": list("abc"), "y": list("abc")}))
    every = list(space.enumerate())
    # All but one that is two steps from the best.
    best, last = {"x": "a", "y": "a"}, {"x": "b", "y": "b"}
    trials = []
    for params in every:
        if params != last:
            seen = Observation(9, {"m0": 0.0 if params == best else 1.0}, 1.0, Fidelity(epochs=9))
            number = len(trials)
            state = TrialState.COMPLETE
            curves = (Curve((seen,)),)
            trials.append(
                TrialRecord(number, params, space.key(params), state, Fidelity(epochs=9), curves=curves)
            )
    sampler = EvolutionSampler(population_size=8, tournament_size=8)
    assert sampler.sample(space, view(trials), np.random.default_rng(0)) == last


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"population_size": 1}, "population_size=1: must be a whole number from 2"),
        ({"tournament_size": 0}, "tournament_size=0: must be a whole number from 1"),
        (
            {"population_size": 3, "tournament_size": 4},
            "tournament_size=4: must not exceed population_size=3",
        ),
    ],
)
def test_wrong_settings(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EvolutionSampler(**settings)
