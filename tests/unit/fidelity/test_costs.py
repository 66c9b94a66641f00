"""Learned costs: nominal without measurements, the measured ones with them, whoever was measured where."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fidelity import Axes, Curve, Fidelity, Observation, TrialRecord, TrialState
from fidelity.costs import CostModel, Timed, timed

AXES = Axes(epochs=(1, 9), subset=(0.25, 1.0), resolution=(14, 28), width=(0.5, 1.0), depth=(0.5, 1.0))


def seconds(at: Fidelity, macs: float, fixed: float = 0.0, resolution_power: float = 2.0) -> float:
    """Of an epoch on a machine that we know."""
    assert at.resolution is not None
    work = at.subset * (at.resolution / 28) ** resolution_power * at.width**2 * at.depth
    return fixed + 1e-8 * macs * work


def measured(n: int, rungs: list[Fidelity], rng: np.random.Generator, **machine: float) -> list[Timed]:
    """Some trials on the lowest rung, the larger half of them on the next, and so on."""
    macs = np.sort(np.exp(rng.normal(16, 1, n)))
    rows = []
    for k, rung in enumerate(rungs):
        for i in range(n - n // 2**k, n):
            noise = math.exp(rng.normal(0, 0.1))
            rows.append(Timed(i, rung, seconds(rung, macs[i], **machine) * noise, macs[i], 64.0))
    return rows


class TestNothingMeasured:
    @settings(max_examples=40)
    @given(st.floats(0, 1), st.floats(0, 1))
    def test_costs_are_nominal(self, a: float, b: float) -> None:
        model = CostModel([], AXES)
        for position in (a, b):
            at = AXES.at(position)
            assert model.ratio(at) == pytest.approx(AXES.nominal_cost(at))

    def test_seconds_are_unknown(self) -> None:
        assert math.isnan(CostModel([], AXES).seconds(AXES.full))
        assert CostModel([], AXES).trials == 0


RUNGS = [AXES.at(0.0), AXES.at(0.5), AXES.full]


class TestMeasured:
    def test_ratios_are_those_of_the_machine_although_larger_networks_are_promoted(self) -> None:
        rng = np.random.default_rng(0)
        model = CostModel(measured(32, RUNGS, rng, resolution_power=1.0), AXES)
        for rung in RUNGS:
            truth = rung.epochs / 9 * seconds(rung, 1e7, resolution_power=1.0) / seconds(AXES.full, 1e7)
            assert model.ratio(rung) == pytest.approx(truth, rel=0.15)
        assert model.ratio(AXES.full) == pytest.approx(1)

    def test_unknown_sizes_do_not_spoil_the_ratios(self) -> None:
        rng = np.random.default_rng(1)
        rows = [Timed(m.trial, m.fidelity, m.seconds) for m in measured(32, RUNGS, rng, resolution_power=1.0)]
        model = CostModel(rows, AXES)
        for rung in RUNGS:
            truth = rung.epochs / 9 * seconds(rung, 1e7, resolution_power=1.0) / seconds(AXES.full, 1e7)
            assert model.ratio(rung) == pytest.approx(truth, rel=0.2)

    def test_seconds_of_networks_of_any_size(self) -> None:
        rng = np.random.default_rng(2)
        model = CostModel(measured(32, RUNGS, rng), AXES)
        for macs in (3e6, 1e7, 3e7):
            expected = model.seconds(AXES.full, since=3, macs=macs)
            assert expected == pytest.approx(6 * seconds(AXES.full, macs), rel=0.25)
        assert model.measured(AXES.full) == 8

    def test_one_measurement_scales_the_nominal_cost(self) -> None:
        [row] = measured(1, [AXES.full], np.random.default_rng(3))
        model = CostModel([row], AXES)
        assert model.seconds(AXES.full, macs=row.macs) == pytest.approx(9 * row.seconds, rel=0.1)
        low = AXES.lowest
        assert model.ratio(low) == pytest.approx(AXES.nominal_cost(low), rel=0.3)

    def test_a_fixed_cost_makes_small_rungs_dearer_than_nominal(self) -> None:
        rng = np.random.default_rng(4)
        model = CostModel(measured(32, RUNGS, rng, fixed=0.1), AXES)
        assert model.ratio(RUNGS[0]) > 3 * AXES.nominal_cost(RUNGS[0])


class TestTimed:
    def record(self, *observations: Observation, **params: float) -> TrialRecord:
        return TrialRecord(3, params, "3", TrialState.PAUSED, AXES.full, curves=(Curve(tuple(observations)),))

    def test_epochs_reported_together_share_their_seconds(self) -> None:
        record = self.record(
            Observation(1, {"value": 1.0}, 0.1, AXES.full, 2.0),
            Observation(5, {"value": 1.0}, 0.4, AXES.full, 8.0),
            batch_size=64,
        )
        [row] = timed([record], AXES, lambda record: 1e6)
        assert (row.trial, row.seconds, row.macs, row.batch_size) == (3, 2.0, 1e6, 64.0)

    def test_a_rung_is_timed_by_its_median_epoch(self) -> None:
        low = AXES.lowest
        record = self.record(
            *(
                Observation(e, {"value": 1.0, "macs": 5e6}, 0.1, low, s)
                for e, s in ((1, 9.0), (2, 1.0), (3, 2.0))
            ),
            Observation(4, {"value": 1.0}, 0.1, AXES.full, 7.0),
        )
        rows = timed([record], AXES)
        assert {r.fidelity.subset: r.seconds for r in rows} == {0.25: 2.0, 1.0: 7.0}
        assert {r.macs for r in rows} == {5e6}

    def test_what_was_not_timed_is_passed_over_unless_cost_is_seconds(self) -> None:
        record = self.record(Observation(2, {"value": 1.0}, 3.0, AXES.full))
        assert timed([record], AXES) == []
        in_seconds = Axes(**{a.name: a.values for a in AXES.axes}, cost="measured")
        [row] = timed([record], in_seconds)
        assert row.seconds == 1.5
