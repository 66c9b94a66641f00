"""Fronts, the spread-out order, the knee and the hypervolume, against their definitions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fidelity.pareto import front_numbers, hypervolume, knee, scaled, spread_order

# Few values, so that ties and equal rows are common.
tables = st.tuples(st.integers(0, 14), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 5).map(float))
)


def dominates(a: Any, b: Any) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@given(tables)
def test_fronts_are_what_is_left_undominated_once_those_before_are_gone(losses: Any) -> None:
    numbers = front_numbers(losses)
    left, expected = set(range(len(losses))), {}
    for number in itertools.count():
        if not left:
            break
        front = {i for i in left if not any(dominates(losses[j], losses[i]) for j in left)}
        expected |= dict.fromkeys(front, number)
        left -= front
    assert dict(enumerate(numbers.tolist())) == expected


def test_what_is_not_known_is_worse_than_anything_known() -> None:
    assert front_numbers(np.array([[1.0, math.nan], [9.0, 9.0], [1.0, 1.0]])).tolist() == [1, 1, 0]


@given(tables, st.data())
def test_the_order_goes_front_by_front_and_leaves_out_what_was_chosen(losses: Any, data: Any) -> None:
    n_chosen = data.draw(st.integers(0, len(losses)))
    order = spread_order(losses, n_chosen)
    assert sorted(order) == list(range(n_chosen, len(losses)))
    fronts = front_numbers(losses)[order]
    assert (np.diff(fronts) >= 0).all()


@given(tables)
def test_the_order_hangs_on_ranks_alone(losses: Any) -> None:
    stretched = np.exp(3 * losses) - 7
    assert spread_order(stretched).tolist() == spread_order(losses).tolist()


def test_of_one_metric_the_order_is_that_of_its_values() -> None:
    assert spread_order(np.array([[3.0], [1.0], [2.0], [1.0]])).tolist() == [1, 3, 2, 0]


def test_a_few_from_the_top_cover_the_front() -> None:
    front = np.array([[float(i), 8.0 - i] for i in range(9)])
    # Both ends, then the middle, then the quarters.
    assert spread_order(front)[:3].tolist() == [0, 8, 4]
    assert set(spread_order(front)[3:5]) == {2, 6}


def test_what_was_chosen_before_is_kept_away_from() -> None:
    front = np.array([[float(i), 8.0 - i] for i in range(9)])
    chosen_first = np.concatenate([front[[0, 1]], np.delete(front, [0, 1], axis=0)])
    assert spread_order(chosen_first, 2)[0] == 8


def test_the_knee_is_where_both_gains_are_still_had() -> None:
    front = np.array([[0.0, 100.0], [0.02, 20.0], [0.3, 12.0], [1.0, 0.0]])
    assert knee(front) == 1
    assert knee(front[:, ::-1]) == 1  # whichever metric is named first
    assert knee(front * [1.0, 1000.0] + 5) == 1  # whatever their units
    assert knee(np.array([[2.0, 3.0]])) == 0
    assert knee(np.array([[1.0, 5.0], [1.0, 4.0]])) == 1


def test_scaled_runs_from_the_best_to_the_worst_of_the_front() -> None:
    front = np.array([[1.0, 30.0], [3.0, 10.0]])
    assert scaled(front, front).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert scaled(np.array([[2.0, 50.0]]), front).tolist() == [[0.5, 2.0]]


@given(tables)
def test_the_hypervolume_counts_the_dominated_unit_cells(losses: Any) -> None:
    reference = np.full(losses.shape[1], 5.0)
    cells = itertools.product(range(5), repeat=losses.shape[1])
    dominated = sum(bool((losses <= np.array(cell)).all(axis=1).any()) for cell in cells)
    assert hypervolume(losses, reference) == pytest.approx(dominated)


def test_a_point_that_is_not_known_or_beyond_the_reference_counts_nothing() -> None:
    reference = np.array([4.0, 4.0])
    assert hypervolume(np.array([[1.0, 2.0]]), reference) == 6.0
    assert hypervolume(np.array([[1.0, 2.0], [math.nan, 0.0], [0.0, 4.0], [9.0, 0.0]]), reference) == 6.0
    assert hypervolume(np.empty((0, 2)), reference) == 0.0
