"""Axes: what may be given, positions and values, nominal cost, and what carries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidelity.axes import Axes
from fidelity.records import Fidelity

ALL = Axes(epochs=(1, 50), subset=(0.1, 1.0), resolution=(14, 28), width=(0.25, 1.0), depth=(0.5, 1.0))


class TestGiven:
    def test_pairs_are_ranges_and_lists_are_the_only_values(self) -> None:
        axes = Axes(epochs=(1, 9), resolution=[28, 8, 14])
        assert axes.fidelity({"epochs": 4}).epochs == 4
        assert {axes.at(p / 20).resolution for p in range(21)} == {8, 14, 28}
        with pytest.raises(ValueError, match="resolution=9"):
            axes.fidelity({"resolution": 9})
        assert Axes(subset=[1, 0.5]).full.subset == 1

    @pytest.mark.parametrize(
        ("wrong", "rule"),
        [
            ({"epochs": (50, 1)}, r"inverted. Write epochs=\(1, 50\)"),
            ({"epochs": ()}, "pair"),
            ({"epochs": []}, "at least one"),
            ({"epochs": (1, 2, 3)}, "list"),
            ({"epochs": [3, 3]}, "once"),
            ({"epochs": (0, 5)}, "from 1"),
            ({"epochs": (1.5, 5)}, "whole"),
            ({"epochs": 5}, "pair"),
            ({"epochs": "ab"}, "pair"),
            ({"epochs": (1, math.inf)}, "finite"),
            ({"epochs": (1, math.nan)}, "finite"),
            ({"epochs": (True, 5)}, "finite number"),
            ({"epochs": (1, None)}, "finite number"),
            ({"resolution": (7.5, 14)}, "whole"),
            ({"subset": (0.0, 1.0)}, "greater than 0"),
            ({"subset": (0.5, 1.5)}, "at most 1"),
            ({"width": (-1, 1)}, "greater than 0"),
            ({"epoch": (1, 5)}, "did you mean 'epochs'"),
            ({"resolutions": (8, 16)}, "did you mean 'resolution'"),
            ({"epochs": (1, 5), "cost": "seconds"}, "measured"),
            ({"epochs": (1, 5), "carry": "epochs"}, "tuple"),
        ],
    )
    def test_wrong_ones_get_the_rule(self, wrong: dict[str, Any], rule: str) -> None:
        with pytest.raises(ValueError, match=rule):
            Axes(**wrong)

    def test_numbers_of_numpy_are_numbers(self) -> None:
        axes = Axes(epochs=(np.int64(1), np.int64(9)), subset=(np.float32(0.5), 1))
        assert axes == Axes(epochs=(1, 9), subset=(0.5, 1.0))
        assert type(axes.full.epochs) is int

    def test_no_axes_is_one_full_evaluation(self) -> None:
        axes = Axes()
        assert axes.full == axes.lowest == Fidelity()
        assert axes.nominal_cost(axes.full) == 1

    def test_unknown_axes_and_values_outside_are_refused(self) -> None:
        with pytest.raises(ValueError, match="this study has"):
            Axes(epochs=(1, 9)).fidelity({"subset": 0.5})
        with pytest.raises(ValueError, match="epochs=10"):
            Axes(epochs=(1, 9)).fidelity({"epochs": 10})

    @pytest.mark.parametrize(
        "axes",
        [Axes(), ALL, Axes(epochs=[12, 200], carry=()), Axes(own=(-3, 3), cost="reported"), Axes(own=[0, 1])],
        ids=repr,
    )
    def test_json_brings_them_back(self, axes: Axes) -> None:
        import json

        again = Axes.from_dict(json.loads(json.dumps(axes.to_dict())))
        assert again == axes
        assert hash(again) == hash(axes)
        assert again.full == axes.full
        assert again != Axes(epochs=(2, 3))


class TestPositions:
    @given(st.floats(0, 1), st.floats(0, 1))
    def test_values_rise_with_the_position(self, a: float, b: float) -> None:
        low, high = ALL.at(min(a, b)), ALL.at(max(a, b))
        for axis in ALL.axes:
            assert axis.low <= low[axis.name] <= high[axis.name] <= axis.high  # type: ignore[operator]
        assert ALL.nominal_cost(low) <= ALL.nominal_cost(high) * (1 + 1e-12)

    def test_the_ends_are_exact(self) -> None:
        assert ALL.full == Fidelity(50, 1.0, 28, 1.0, 1.0)
        assert ALL.lowest == Fidelity(1, 0.1, 14, 0.25, 0.5)
        assert ALL.positions(ALL.full) == [1.0] * 5
        assert ALL.positions(ALL.lowest) == [0.0] * 5
        assert ALL.positions(ALL.full, epoch=1)[0] == 0.0

    def test_an_axis_that_crosses_zero_is_linear(self) -> None:
        axes = Axes(own=(-2.0, 2.0))
        assert axes.at(0.25)["own"] == -1.0
        assert axes.positions(axes.at(0.25)) == [0.25]

    def test_an_axis_of_one_value_is_full(self) -> None:
        axes = Axes(epochs=(5, 5))
        assert axes.lowest == axes.full
        assert axes.positions(axes.full) == [1.0]


class TestCost:
    @given(st.floats(0, 1))
    def test_nominal_cost_is_the_formula(self, position: float) -> None:
        f = ALL.at(position)
        assert f.resolution is not None
        epoch = (1 / 50) * f.subset * (f.resolution / 28) ** 2 * f.width**2 * f.depth
        assert ALL.epoch_cost(f) == pytest.approx(epoch)
        assert ALL.nominal_cost(f) == pytest.approx(f.epochs * epoch)
        assert ALL.nominal_cost(f, since=f.epochs) == 0

    def test_each_axis_is_relative_to_its_maximum(self) -> None:
        axes = Axes(epochs=(1, 10), subset=(0.1, 0.5), width=(0.25, 0.5), own=(1, 7))
        assert axes.nominal_cost(axes.full) == pytest.approx(1)
        assert axes.nominal_cost(axes.fidelity({"subset": 0.25})) == pytest.approx(0.5)
        assert axes.nominal_cost(axes.fidelity({"width": 0.25})) == pytest.approx(0.25)
        assert axes.nominal_cost(axes.fidelity({"own": 1})) == pytest.approx(1)


class TestCarrying:
    @given(
        st.integers(0, 50), st.integers(1, 50), st.sampled_from(["subset", "resolution", "width", "depth"])
    )
    def test_only_over_the_axes_in_carry_and_only_forward(self, epoch: int, target: int, axis: str) -> None:
        old, new = ALL.fidelity({axis: ALL.lowest[axis] or 0}), ALL.fidelity({"epochs": target})
        expected = epoch if axis in ("subset", "resolution") and epoch < target else 0
        assert ALL.carried_epoch(epoch, old, new) == expected

    def test_an_interrupted_segment_continues_whatever_carries(self) -> None:
        axes = Axes(epochs=(1, 9), carry=())
        assert axes.carried_epoch(4, axes.full, axes.full) == 4
        assert axes.carried_epoch(3, axes.fidelity({"epochs": 3}), axes.full) == 0

    def test_own_axes_carry_if_named(self) -> None:
        for carry, expected in ((("epochs",), 0), (("epochs", "own"), 3)):
            axes = Axes(epochs=(1, 9), own=(1, 5), carry=carry)
            assert axes.carried_epoch(3, axes.fidelity({"own": 1}), axes.full) == expected
