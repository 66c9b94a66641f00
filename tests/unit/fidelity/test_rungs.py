"""What records say about rungs: who was seen where, and which rung misleads."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fidelity import Axes, Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState
from fidelity.rungs import losses, misleading, observed, reported_parameters, seen_on_both

AXES = Axes(epochs=(1, 9), subset=(0.25, 1.0))
LOW, FULL = AXES.fidelity({"epochs": 1, "subset": 0.25}), AXES.full


def trial(number: int, *observations: tuple[Fidelity, int, float], **values: float) -> TrialRecord:
    curves = tuple(Curve((Observation(e, {"value": v, **values}, 0.1, f),)) for f, e, v in observations)
    return TrialRecord(number, {}, str(number), TrialState.PAUSED, FULL, curves=curves)


def view(trials: list[TrialRecord], direction: str = "minimize") -> StudyView:
    return StudyView(tuple(trials), AXES, directions=(direction,))


def test_a_trial_is_seen_on_every_rung_it_passes() -> None:
    made = tuple(Observation(e, {"value": 1.0 / e}, 0.1, FULL) for e in range(1, 10))
    passed = TrialRecord(0, {}, "0", TrialState.COMPLETE, FULL, curves=(Curve(made),))
    third = observed(passed, AXES.fidelity({"epochs": 3}))
    assert third is not None
    assert third.values["value"] == pytest.approx(1 / 3)
    assert observed(passed, AXES.fidelity({"epochs": 3, "subset": 0.5})) is None
    assert observed(passed, LOW) is None


def test_the_newest_value_counts() -> None:
    twice = trial(0, (LOW, 1, 0.5), (LOW, 1, 0.4))
    found = observed(twice, LOW)
    assert found is not None
    assert found.values["value"] == 0.4


def test_losses_are_turned_and_those_on_both_are_paired() -> None:
    trials = [trial(0, (LOW, 1, 0.5), (FULL, 9, 0.9)), trial(1, (LOW, 1, 0.7)), trial(2, (FULL, 9, 0.8))]
    low, high = (losses(trials, rung, view(trials, "maximize")) for rung in (LOW, FULL))
    assert low == {0: -0.5, 1: -0.7}
    seen = seen_on_both(low, high)
    assert seen.numbers == (0,)
    assert list(seen.high) == [-0.9]
    assert sorted(seen.among) == [-0.7, -0.5]


def test_the_largest_number_of_parameters_is_that_of_the_full_width() -> None:
    narrow = trial(0, (LOW, 1, 0.5), parameters=100.0)
    assert reported_parameters(narrow) == 100
    assert math.isnan(reported_parameters(trial(1, (LOW, 1, 0.5))))


def ladder_of(cheap: np.ndarray, dear: np.ndarray, size: np.ndarray | None) -> StudyView:
    values = [{} if size is None else {"parameters": float(s)} for s in (dear if size is None else size)]
    trials = [
        trial(i, (LOW, 1, float(x)), (FULL, 9, float(y)), **v)
        for i, (x, y, v) in enumerate(zip(cheap, dear, values, strict=True))
    ]
    return view(trials)


class TestMisleading:
    rng = np.random.default_rng(0)
    dear = rng.normal(size=40)

    def test_a_rung_that_ranks_is_kept(self) -> None:
        assert not misleading(ladder_of(self.dear, self.dear, -self.dear), [LOW, FULL])

    def test_a_rung_that_ranks_worse_than_size_is_named_with_its_figures(self) -> None:
        found = misleading(ladder_of(self.rng.permutation(self.dear), self.dear, -self.dear), [LOW, FULL])
        assert list(found) == [0]
        assert found[0].size == pytest.approx(1)
        assert found[0].n == 40
        assert found[0].high < 0

    def test_few_trials_decide_nothing(self) -> None:
        few = ladder_of(-self.dear[:8], self.dear[:8], -self.dear[:8])
        assert not misleading(few, [LOW, FULL])

    def test_objectives_that_need_no_training_are_passed_over(self) -> None:
        trials = ladder_of(self.rng.permutation(self.dear), self.dear, -self.dear).trials
        both = StudyView(trials, AXES, ("minimize", "minimize"), ("parameters", "value"))
        assert list(misleading(both, [LOW, FULL])) == [0]
