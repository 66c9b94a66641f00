"""SMAC's forest and acquisition as this project runs them: the same numbers, from the right records."""

from __future__ import annotations

from typing import Any

import ConfigSpace
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from smac.model.random_forest.random_forest import RandomForest

from bonas import spaces
from bonas.samplers import SMACSampler
from bonas.samplers._codes import Coded
from bonas.samplers._smac import _Forest, _LogEI, _neighbours, log_scaled, training_set
from fidelity.axes import Axes
from fidelity.records import Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState

AXES = Axes(epochs=(1, 9))


def space() -> spaces.Space:
    built = ConfigSpace.ConfigurationSpace()
    kind = ConfigSpace.Categorical("kind", ["a", "b", "c"])
    rate = ConfigSpace.Float("rate", (1e-4, 1.0), log=True)
    units = ConfigSpace.Integer("units", (1, 64), log=True)
    level = ConfigSpace.Categorical("level", [1, 2, 3], ordered=True)
    built.add(kind, rate, units, level, ConfigSpace.Constant("fixed", 1))
    built.add(ConfigSpace.EqualsCondition(rate, kind, "a"), ConfigSpace.InCondition(units, kind, ["a", "b"]))
    return spaces.Space(built)


def trial(
    number: int, params: dict[str, Any], values: dict[int, float], state: TrialState = TrialState.PAUSED
) -> TrialRecord:
    """A trial with the given values after the given epochs."""
    full = Fidelity(epochs=9)
    seen = tuple(Observation(epoch, {"value": v}, 1.0, Fidelity(epochs=epoch)) for epoch, v in values.items())
    return TrialRecord(number, params, str(number), state, full, curves=(Curve(seen),) if seen else ())


def test_it_learns_from_the_highest_fidelity_with_enough_values() -> None:
    drawn = space().sample(9, np.random.default_rng(0))
    trials = [trial(i, p, {1: float(i)}) for i, p in enumerate(drawn[:3])]
    trials += [trial(i, p, {1: 5.0, 3: float(i)}) for i, p in enumerate(drawn[3:5], start=3)]
    trials.append(trial(5, drawn[5], {1: 5.0, 3: 7.0, 9: 1.0}, TrialState.COMPLETE))
    view = StudyView(tuple(trials), AXES)
    for enough, numbers in ((4, [0, 1, 2, 3, 4, 5]), (3, [3, 4, 5]), (1, [5])):
        found, losses = training_set(view, enough)
        assert [t.number for t in found] == numbers
        epoch = {4: 1, 3: 3, 1: 9}[enough]
        of = {t.number: {o.epoch: o.values["value"] for o in t.curves[0].observations} for t in trials}
        assert losses[:, 0].tolist() == [of[n][epoch] for n in numbers]
    assert training_set(view, 7)[0] == []


def test_failed_trials_count_as_the_worst_and_waiting_ones_as_mediocre() -> None:
    drawn = space().sample(6, np.random.default_rng(0))
    trials = [trial(i, p, {9: float(i)}, TrialState.COMPLETE) for i, p in enumerate(drawn[:3])]
    trials.append(trial(3, drawn[3], {}, TrialState.FAIL))
    trials.append(trial(4, drawn[4], {}, TrialState.INFEASIBLE))
    trials.append(trial(5, drawn[5], {}, TrialState.RUNNING))
    found, losses = training_set(StudyView(tuple(trials), AXES, directions=("maximize",)), 3)
    assert [t.number for t in found] == [0, 1, 2, 3, 5]
    assert losses[:, 0].tolist() == [0, -1, -2, 0, -1]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_scaled_losses_are_finite_and_keep_their_order(losses: list[float]) -> None:
    scaled = log_scaled(np.array(losses))
    assert np.isfinite(scaled).all()
    assert (scaled <= 1e-9).all()
    assert (np.diff(scaled[np.argsort(losses, kind="stable")]) >= 0).all()


def test_the_forest_predicts_what_smacs_own_does() -> None:
    searched = space()
    coded = Coded(searched)
    rng = np.random.default_rng(0)
    codes = coded.sample(80, rng)
    y = log_scaled(np.nan_to_num(codes).sum(axis=1))
    ours = _Forest(coded, n_trees=5, seed=3)
    X = ours.inputs(codes)
    ours.train(X, y[:, None])
    theirs = RandomForest(
        searched.configuration_space,
        log_y=True,
        n_trees=5,
        ratio_features=1.0,
        min_samples_split=2,
        min_samples_leaf=1,
        n_jobs=1,
        seed=3,
        max_leaf_nodes=None,
        max_depth=64,
    )
    theirs.train(X, y[:, None])
    new = ours.inputs(coded.sample(50, rng))
    for mine, reference in zip(ours.predict_marginalized(new), theirs.predict_marginalized(new), strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-6, atol=1e-9)


def test_rounding_errors_in_the_improvement_are_zeros() -> None:
    class Sure:
        """Certain of costs at and above the best."""

        def predict_marginalized(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return X[:, :1], np.full((len(X), 1), 1e-10)

    acquisition = _LogEI(log=True)
    acquisition.update(model=Sure(), eta=-3.0)
    grid = np.linspace(-3.001, -2.999, 2001)[:, None]
    values = acquisition.improvement(grid)
    assert (values >= 0).all()
    assert values[0] > values[500] > 0
    assert values[-1] < 1e-12


def test_neighbours_differ_in_one_active_hyperparameter() -> None:
    searched = space()
    coded = Coded(searched)
    rng = np.random.default_rng(0)
    rows = coded.sample(20, rng)
    near, of = _neighbours(coded, rows, coded.draw(100, rng), rng)
    assert set(of.tolist()) == set(range(20))
    for row, i in zip(near, of, strict=True):
        before, after = coded.params(rows[i]), coded.params(row)
        assert searched.validate(after) == after
        shared = before.keys() & after.keys()
        assert sum(before[name] != after[name] for name in shared) == 1


def test_a_space_that_smac_cannot_model() -> None:
    built = ConfigSpace.ConfigurationSpace()
    kind = ConfigSpace.Categorical("kind", ["a", "b"])
    x = ConfigSpace.Float("x", (0.0, 1.0), distribution=ConfigSpace.Normal(0.5, 0.1))
    built.add(kind, x, ConfigSpace.Float("y", (0.0, 1.0)))
    built.add(ConfigSpace.EqualsCondition(x, kind, "a"))
    searched = spaces.Space(built)
    drawn = searched.sample(12, np.random.default_rng(0))
    trials = [trial(i, p, {9: float(i)}, TrialState.COMPLETE) for i, p in enumerate(drawn)]
    view = StudyView(tuple(trials), AXES)
    rng = np.random.default_rng(0)  # its first draw, 0.64, asks for no prior draw
    with pytest.raises(ValueError, match=r"SMAC cannot model this space.*Use ForestSampler"):
        SMACSampler().sample(searched, view, rng)
