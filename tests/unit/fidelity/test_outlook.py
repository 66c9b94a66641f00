"""Where trials are believed to end: right about which end best, on one scale of cost for all axes, lazy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from fidelity import Axes, Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState
from fidelity.outlook import CurveOutlook, course

NINE = Axes(epochs=(1, 9))


def trial(number: int, *observations: tuple[Fidelity, int, float]) -> TrialRecord:
    """A trial whose observations, fidelity, epoch and value, are each in the curve of their fidelity."""
    fidelities = list(dict.fromkeys(f for f, _, _ in observations))
    curves = tuple(
        Curve(tuple(Observation(e, {"value": v}, 0.1, f) for f, e, v in observations if f == fidelity))
        for fidelity in fidelities
    )
    last = fidelities[-1]
    state = TrialState.COMPLETE if last == NINE.full else TrialState.PAUSED
    return TrialRecord(number, {}, str(number), state, last, curves=curves)


def searched(direction: str = "minimize") -> tuple[StudyView, np.ndarray[Any, Any]]:
    """Thirty trials that fall to their quality by 1/epoch, trained to 3 or 9 epochs; and where they end."""
    rng = np.random.default_rng(0)
    sign = 1 if direction == "minimize" else -1
    quality = rng.normal(size=30)
    trials = []
    for i, q in enumerate(quality):
        at = NINE.full if i % 3 == 0 else NINE.fidelity({"epochs": 3})
        values = [sign * (q + 2 / e + 0.02 * rng.normal()) for e in range(1, at.epochs + 1)]
        trials.append(trial(i, *((at, e, v) for e, v in enumerate(values, start=1))))
    return StudyView(tuple(trials), NINE, (direction,)), quality + 2 / 9


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_beliefs_are_losses_in_the_metrics_unit(direction: str) -> None:
    view, truth = searched(direction)
    mean, std = CurveOutlook(view).at_horizon(view.trials)
    assert spearmanr(mean, truth).statistic > 0.95
    assert np.abs(mean - truth).max() < 0.4
    finished = np.array([t.state == TrialState.COMPLETE for t in view.trials])
    assert std[finished].max() < 1e-6
    assert std[~finished].min() > 1e-3
    some, _ = CurveOutlook(view).at_horizon(view.trials[4:9])
    assert np.array_equal(some, mean[4:9])


def test_a_new_trial_is_as_uncertain_as_trials_differ() -> None:
    view, truth = searched()
    mean, std = CurveOutlook(view).fresh()
    assert abs(mean - truth[-20:].mean()) < 0.3
    assert 0.7 * truth[-20:].std() < std < 1.5 * truth[-20:].std()


def test_every_rung_lies_at_its_cost_whichever_axis_makes_it_cheap() -> None:
    axes = Axes(epochs=(1, 4), width=(0.5, 1.0))
    narrow, wide = axes.fidelity({"epochs": 4, "width": 0.5}), axes.full
    both = trial(0, (narrow, 1, 0.9), (narrow, 4, 0.5), (wide, 2, 0.4), (wide, 4, 0.2))
    view = StudyView((both,), axes)
    assert course(view, both) == ([1 / 16, 1 / 4, 1 / 2, 1], [0.9, 0.5, 0.4, 0.2])


def test_the_newest_of_two_values_at_the_same_cost_counts() -> None:
    axes = Axes(epochs=(1, 4), width=(0.5, 1.0))
    narrow, wide = axes.fidelity({"epochs": 4, "width": 0.5}), axes.full
    both = trial(0, (narrow, 4, 0.5), (wide, 1, 0.4))
    assert course(StudyView((both,), axes), both) == ([1 / 4], [0.4])


def test_of_several_metrics_all_count() -> None:
    def measured(number: int, loss: float, size: float) -> TrialRecord:
        curve = Curve((Observation(9, {"loss": loss, "size": size}, 0.1, NINE.full),))
        return TrialRecord(number, {}, "", TrialState.COMPLETE, NINE.full, curves=(curve,))

    trials = (measured(0, 1.0, 30.0), measured(1, 1.0, 20.0), measured(2, 2.0, 30.0), measured(3, 2.0, 20.0))
    view = StudyView(trials, NINE, ("minimize", "minimize"), ("loss", "size"))
    mean, _ = CurveOutlook(view).at_horizon(trials)
    assert mean[1] < mean[0] < mean[2]
    assert mean[3] == pytest.approx(mean[0])
