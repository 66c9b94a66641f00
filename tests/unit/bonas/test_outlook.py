"""What schedulers are told the surrogate believes: right about the best, lazy, a function of the records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace
from scipy.stats import spearmanr

import bonas
from bonas import fidelity, spaces
from bonas.samplers import RandomSampler


def searched(direction: str = "minimize", n_trials: int = 27) -> bonas.Study:
    """A study whose value at full fidelity is x."""
    space = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)}))
    axes = fidelity.Axes(epochs=(1, 9))
    study = bonas.create_study(space=space, axes=axes, sampler=RandomSampler(), direction=direction)

    def objective(trial: bonas.Trial) -> None:
        trial.load_checkpoint()
        for epoch in trial.epochs():
            trial.report(trial.params["x"], epoch)
            trial.save_checkpoint({})

    study.optimize(objective, n_trials=n_trials)
    return study


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_trials_are_ranked_as_they_are(direction: str) -> None:
    view = searched(direction).view()
    assert view.outlook is not None
    mean, std = view.outlook.at_horizon(view.trials)
    truth = [t.params["x"] * (1 if direction == "minimize" else -1) for t in view.trials]
    assert spearmanr(mean, truth).statistic > 0.9
    assert mean.shape == std.shape == (27,)
    assert (std > 0).all()
    fresh, spread = view.outlook.fresh()
    assert mean.min() < fresh < mean.max()
    assert spread > mean.std() / 2


def test_it_is_a_function_of_the_records() -> None:
    study = searched()
    one, other = study.view(), study.view()
    assert one.outlook is not None
    assert other.outlook is not None
    some = one.trials[3:7]
    for a, b in zip(one.outlook.at_horizon(some), other.outlook.at_horizon(some), strict=True):
        assert np.array_equal(a, b)
    assert one.outlook.fresh() == other.outlook.fresh()


def test_nothing_is_fitted_for_those_who_do_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **settings: Any) -> None:
        raise AssertionError("fitted")

    monkeypatch.setattr("bonas.surrogate.Surrogate.__init__", fail)
    assert len(searched(n_trials=9).trials) == 9


def test_before_anything_is_known_all_are_alike() -> None:
    view = searched(n_trials=1).view()
    assert view.outlook is not None
    empty = bonas.create_study(space=spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}))).view()
    assert empty.outlook is not None
    assert empty.outlook.fresh() == (0.0, 1.0)
    mean, std = empty.outlook.at_horizon(view.trials)
    assert (list(mean), list(std)) == ([0.0], [1.0])
