"""Frozen records: what cannot exist, what they say about themselves, and the view of a study."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidelity.axes import Axes
from fidelity.records import (
    CheckpointRecord,
    Curve,
    Fidelity,
    Observation,
    StudyView,
    TrialRecord,
    TrialState,
)

NINE = Axes(epochs=(1, 9))


def observation(epoch: int, value: float = 0.5, cost: float = 0.1, **at: Any) -> Observation:
    return Observation(epoch, {"value": value}, cost, Fidelity(**({"epochs": 9} | at)))


def trial(number: int, value: float | None = None, **changes: Any) -> TrialRecord:
    curves = () if value is None else (Curve((observation(1, value),)),)
    return TrialRecord(
        number, {}, f"k{number}", TrialState.PAUSED, Fidelity(epochs=9), curves=curves, **changes
    )


def two(number: int, a: float, b: float) -> TrialRecord:
    curve = Curve((Observation(1, {"a": a, "b": b}, 0.1, Fidelity()),))
    return dataclasses.replace(trial(number), curves=(curve,))


class TestObservation:
    @pytest.mark.parametrize("epoch", [0, -3])
    def test_epochs_count_from_one(self, epoch: int) -> None:
        with pytest.raises(ValueError, match="from 1"):
            observation(epoch)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_values_are_finite(self, value: float) -> None:
        with pytest.raises(ValueError, match="finite"):
            observation(1, value)

    @pytest.mark.parametrize("cost", [-0.1, math.nan, math.inf])
    def test_costs_are_finite_and_not_negative(self, cost: float) -> None:
        with pytest.raises(ValueError, match="cost"):
            observation(1, cost=cost)

    def test_records_are_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            observation(1).epoch = 2  # type: ignore[misc]


class TestCurve:
    @given(st.lists(st.integers(1, 20), max_size=8))
    def test_epochs_increase(self, epochs: list[int]) -> None:
        observations = tuple(observation(e) for e in epochs)
        if epochs == sorted(set(epochs)):
            assert Curve(observations).epochs == tuple(epochs)
        else:
            with pytest.raises(ValueError, match="must increase"):
                Curve(observations)

    def test_values_skip_epochs_without_the_metric(self) -> None:
        extra = Observation(2, {"value": 0.25, "latency": 3.0}, 0.1, Fidelity())
        curve = Curve((observation(1), extra))
        assert curve.values("value") == (0.5, 0.25)
        assert curve.values("latency") == (3.0,)
        assert len(curve) == 2


class TestFidelity:
    def test_axes_that_are_not_used_read_one(self) -> None:
        f = Fidelity()
        assert (f.epochs, f.subset, f.resolution, f.width, f.depth) == (1, 1.0, None, 1.0, 1.0)

    def test_own_axes_are_attributes_and_items(self) -> None:
        f = Fidelity(others=(("molecules", 3.0),))
        assert f.molecules == f["molecules"] == 3.0
        assert f["epochs"] == 1
        for missing in ("molecule", "_private"):
            with pytest.raises(AttributeError):
                getattr(f, missing)
        with pytest.raises(KeyError):
            f["molecule"]

    @given(st.integers(1, 99), st.floats(0.01, 1), st.one_of(st.none(), st.integers(1, 64)), st.floats(-5, 5))
    def test_it_survives_dictionaries_copies_and_journeys(
        self, epochs: int, subset: float, resolution: int | None, own: float
    ) -> None:
        f = Fidelity(epochs, subset, resolution, others=(("own", own),))
        for same in (Fidelity.from_dict(f.to_dict()), copy.deepcopy(f), pickle.loads(pickle.dumps(f))):  # noqa: S301
            assert same == f
            assert hash(same) == hash(f)


class TestTrialRecord:
    def test_the_value_is_the_last_one_of_the_newest_curve(self) -> None:
        curves = (Curve((observation(1, 0.1), observation(5, 0.9))), Curve((observation(2, 0.4),)))
        record = dataclasses.replace(trial(0), curves=curves)
        assert record.values == {"value": 0.4}
        assert record.last == curves[1].observations[0]
        assert trial(0).last is None
        assert trial(0).values == {}

    def test_the_cost_is_that_of_all_curves_and_of_what_was_lost(self) -> None:
        curves = (Curve((observation(1), observation(2))), Curve((observation(1),)))
        assert dataclasses.replace(trial(0), curves=curves, lost=0.5).cost == pytest.approx(0.8)

    def test_finished_states_never_run_again(self) -> None:
        assert [s for s in TrialState if not s.finished] == [TrialState.RUNNING, TrialState.PAUSED]


class TestStudyView:
    def test_losses_are_turned_so_that_smaller_is_better(self) -> None:
        view = StudyView((), NINE, ("minimize", "maximize"), ("a", "b"))
        curve = Curve((Observation(1, {"a": 2.0, "b": 3.0}, 0.1, Fidelity()),))
        assert view.losses(dataclasses.replace(trial(0), curves=(curve,))) == (2.0, -3.0)
        assert math.isnan(view.loss(trial(0)))

    @given(st.lists(st.integers(-5, 5), min_size=1, max_size=12))
    def test_ranked_is_from_best_to_worst_and_stable(self, values: list[int]) -> None:
        records = [trial(i, float(v)) for i, v in enumerate(values)]
        up = [r.number for r in StudyView(records, NINE).ranked(records)]
        assert up == sorted(range(len(values)), key=lambda i: (values[i], i))
        down = [r.number for r in StudyView(records, NINE, ("maximize",)).ranked(records)]
        assert down == sorted(range(len(values)), key=lambda i: (-values[i], i))

    def test_one_that_reported_nothing_ranks_last(self) -> None:
        records = [trial(0), trial(1, 9.0), trial(2), trial(3, 1.0)]
        assert [r.number for r in StudyView(records, NINE).ranked(records)] == [3, 1, 0, 2]

    def test_several_metrics_rank_front_by_front_and_spread(self) -> None:
        records = [two(0, 3.0, 3.0), two(1, 1.0, 1.0), two(2, 2.0, 4.0), two(3, 1.5, 1.2), two(4, 3.0, 2.0)]
        view = StudyView(records, NINE, ("minimize", "maximize"), ("a", "b"))
        # 1 and 2 are the ends of the front, 3 lies between; 2 alone dominates 0, 0 dominates 4.
        assert [r.number for r in view.ranked(records)] == [1, 2, 3, 0, 4]
        assert [r.number for r in view.ranked(records[::-1])] == [1, 2, 3, 0, 4]
        assert [r.number for r in view.ranked(records[2:], chosen=records[:2])] == [2, 3, 4]

    def test_ranked_at_a_fidelity_compares_what_was_seen_there(self) -> None:
        third = Fidelity(epochs=3)
        went_on = Curve((Observation(3, {"value": 0.9}, 0.1, third), observation(9, 0.1)))
        stayed = Curve((Observation(3, {"value": 0.5}, 0.1, third),))
        records = [dataclasses.replace(trial(i), curves=(c,)) for i, c in enumerate((went_on, stayed))]
        view = StudyView(records, NINE)
        assert [r.number for r in view.ranked(records)] == [0, 1]
        assert [r.number for r in view.ranked(records, third)] == [1, 0]
        assert records[0].values_at(third) == {"value": 0.9}
        assert records[1].values_at(Fidelity(epochs=9)) == {}

    @given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=10))
    def test_nothing_ranks_above_what_dominates_it(self, values: list[tuple[int, int]]) -> None:
        records = [two(i, float(a), float(b)) for i, (a, b) in enumerate(values)]
        view = StudyView(records, NINE, ("minimize", "minimize"), ("a", "b"))
        for above, below in itertools.combinations(view.ranked(records), 2):
            worse, better = view.losses(above), view.losses(below)
            assert not (all(y <= x for x, y in zip(worse, better, strict=True)) and worse != better)

    @given(st.floats(0, 10), st.integers(1, 9), st.integers(0, 9), st.sampled_from([0.5, 1.0, 100.0]))
    def test_what_fits_is_what_is_forecast(self, left: float, target: int, at: int, scale: float) -> None:
        saved = CheckpointRecord(at, Fidelity(epochs=9), "f", "", 0) if at else None
        record = dataclasses.replace(trial(0), checkpoint=saved)
        view = StudyView((record,), NINE, budget_left=left, cost_scale=scale)
        fidelity = Fidelity(epochs=target)
        done = at if at < target else 0  # state carries only to a later epoch
        assert view.forecast(fidelity, record) == pytest.approx((target - done) / 9 * scale)
        assert view.forecast(fidelity) == pytest.approx(target / 9 * scale)
        if abs(view.forecast(fidelity, record) - left) > 1e-6:
            assert view.fits(fidelity, record) == (view.forecast(fidelity, record) < left)
