"""Rank correlations: the definition, intervals that hold the truth, and fairness to rungs that select."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from fidelity.proxies import ENOUGH, compare, kendall, rank_correlation, top

numbers = st.lists(st.integers(0, 6), min_size=2, max_size=12)


def normal(n: int, r: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A dear value and a cheap one that is correlated with it."""
    y = rng.normal(size=n)
    return r * y + math.sqrt(1 - r * r) * rng.normal(size=n), y


def pearson(tau: float) -> float:
    return math.sin(math.pi / 2 * tau)


class TestKendall:
    @given(st.data())
    def test_it_is_tau_b_ties_included(self, data: st.DataObject) -> None:
        x = data.draw(numbers)
        y = data.draw(st.lists(st.integers(0, 6), min_size=len(x), max_size=len(x)))
        expected = kendalltau(x, y).statistic
        assert kendall(x, y) == pytest.approx(expected, nan_ok=True)

    @given(numbers)
    def test_increasing_functions_change_nothing(self, x: list[int]) -> None:
        y = [v % 3 for v in x]
        assert kendall(np.exp(x), y) == pytest.approx(kendall(x, y), nan_ok=True)

    def test_what_diverged_is_worst_and_no_error(self) -> None:
        assert kendall([1, 2, 3, math.nan], [1, 2, 3, 4]) == 1
        assert kendall([1, 2, 3, math.inf], [1, 2, 3, 4]) == 1

    def test_nothing_to_rank(self) -> None:
        assert math.isnan(kendall([1, 1, 1], [1, 2, 3]))
        assert math.isnan(kendall([], []))
        assert not rank_correlation([1, 1, 1], [1, 2, 3], np.random.default_rng(0))

    def test_lists_of_different_lengths_are_refused(self) -> None:
        with pytest.raises(ValueError, match="one number for each network"):
            kendall([1, 2], [1, 2, 3])


class TestIntervals:
    @pytest.mark.parametrize(("n", "tau"), [(6, 0.3), (8, 0.7), (12, 0.5), (40, 0.3), (40, 0.8)])
    def test_nine_in_ten_hold_the_truth(self, n: int, tau: float) -> None:
        rng = np.random.default_rng(0)
        held = []
        for _ in range(150):
            found = rank_correlation(*normal(n, pearson(tau), rng), rng)
            held.append(found.low <= tau <= found.high)
        assert np.mean(held) >= 0.84

    def test_many_networks_make_it_narrow(self) -> None:
        rng = np.random.default_rng(0)
        widths = []
        for n in (8, 40, 300, 2000):
            found = rank_correlation(*normal(n, 0.8, rng), rng)
            widths.append(found.high - found.low)
        assert widths == sorted(widths, reverse=True)
        assert widths[-1] < 0.08

    def test_few_that_agree_prove_little(self) -> None:
        rng = np.random.default_rng(0)
        four, six = (rank_correlation(range(n), range(n), rng) for n in (4, 6))
        assert (four.tau, four.low, four.high) == (1, -1, 1)
        assert six.tau == six.high == 1
        assert 0.2 < six.low < 0.9

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 10**6), st.integers(2, 30))
    def test_the_interval_holds_the_estimate(self, seed: int, n: int) -> None:
        rng = np.random.default_rng(seed)
        found = rank_correlation(rng.integers(0, 5, n), rng.integers(0, 5, n), rng)
        assert not found or -1 <= found.low <= found.tau <= found.high <= 1

    def test_the_same_generator_gives_the_same_interval(self) -> None:
        x, y = normal(20, 0.5, np.random.default_rng(1))
        assert rank_correlation(x, y, np.random.default_rng(2)) == rank_correlation(
            x, y, np.random.default_rng(2)
        )


class TestTop:
    def test_a_tenth_but_five_at_least(self) -> None:
        losses = np.random.default_rng(0).permutation(200).astype(float)
        assert sorted(losses[top(losses)]) == list(range(20))
        assert list(losses[top(losses[:30])]) == sorted(losses[:30])[:5]
        assert len(top([3.0, 1.0])) == 2


def selected(
    m: int, proxy: float, size: float, rng: np.random.Generator, keep: float = 1 / 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cheap, dear and size losses of those whose cheap value was best, and the cheap losses of all."""
    x, y = normal(m, pearson(proxy), rng)
    r = pearson(size)
    z = r * y + math.sqrt(1 - r * r) * rng.normal(size=m)
    best = np.sort(np.argsort(x)[: int(m * keep)])
    return x[best], y[best], z[best], x


class TestComparison:
    def test_selection_by_the_cheap_value_is_corrected(self) -> None:
        rng = np.random.default_rng(0)
        x, y, z, everything = selected(3000, 0.6, 0.3, rng)
        assert kendall(x, y) < 0.45  # what the selected ones alone would say
        found = compare(x, y, z, None, everything)
        assert found.tau == pytest.approx(0.6, abs=0.12)
        assert found.size == pytest.approx(0.3, abs=0.12)

    def test_without_selection_both_are_plain(self) -> None:
        rng = np.random.default_rng(1)
        x, y, z, everything = selected(60, 0.5, 0.2, rng, keep=1.0)
        found = compare(x, y, z, rng, everything)
        assert found.tau == pytest.approx(kendall(x, y), abs=0.01)
        assert found.size == pytest.approx(kendall(z, y), abs=0.01)
        assert found.low <= found.tau - found.size <= found.high

    @pytest.mark.parametrize("n", [27, 81])
    def test_a_good_rung_is_hardly_ever_called_worse(self, n: int) -> None:
        rng = np.random.default_rng(2)
        wrong = [
            compare(x, y, z, rng, everything).worse
            for x, y, z, everything in (selected(n * 3, 0.6, 0.4, rng) for _ in range(60))
        ]
        assert np.mean(wrong) <= 0.05

    def test_a_rung_that_misleads_is_found(self) -> None:
        rng = np.random.default_rng(3)
        found = [
            compare(x, y, z, rng, everything).worse
            for x, y, z, everything in (selected(243, 0.1, 0.6, rng) for _ in range(40))
        ]
        assert np.mean(found) >= 0.6

    def test_too_few_are_no_evidence(self) -> None:
        rng = np.random.default_rng(4)
        y = np.arange(ENOUGH - 1.0)
        found = compare(-y, y, y, rng)
        assert found.tau == -1
        assert not found.worse
        assert compare(-np.arange(12.0), np.arange(12.0), np.arange(12.0), rng).worse

    def test_without_sizes_a_rung_has_to_beat_chance(self) -> None:
        rng = np.random.default_rng(5)
        y = np.arange(30.0)
        assert compare(-y, y, None, rng).worse
        assert compare(y, y, None, rng).size == 0
        assert not compare(y, y, None, rng).worse

    def test_nothing_to_rank_is_no_evidence(self) -> None:
        rng = np.random.default_rng(6)
        for x, y in itertools.product(([], [1.0], [2.0] * 20), repeat=2):
            if len(x) == len(y):
                found = compare(x, y, None, rng)
                assert math.isnan(found.tau)
                assert not found.worse
                assert not found.doubtful
