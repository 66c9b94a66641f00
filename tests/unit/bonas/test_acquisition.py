"""Expected improvement: against its definition, and where the plain formula has no digits left."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from bonas.acquisition import log_expected_improvement


def one(mean: float, std: float, best: float) -> float:
    return float(log_expected_improvement(np.array([mean]), np.array([std]), best)[0])


@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(-3, 3))
def test_it_is_the_expectation_of_the_improvement(mean: float, std: float, best: float) -> None:
    low = min(mean - 12 * std, best)
    direct, _ = quad(
        lambda y: (best - y) * norm.pdf(y, mean, std), low, best, epsabs=0, epsrel=1e-10, limit=200
    )
    if direct > 1e-12:
        assert math.isclose(math.exp(one(mean, std, best)), direct, rel_tol=1e-5)


@given(st.lists(st.floats(-1e6, 30), min_size=2, max_size=2, unique=True))
def test_better_means_score_higher_even_where_the_improvement_underflows(means: list[float]) -> None:
    better, worse = sorted(-m for m in means)
    a, b = log_expected_improvement(np.array([better, worse]), np.ones(2), 0.0)
    assert np.isfinite([a, b]).all()
    if worse - better > 1e-6 * max(1.0, abs(worse)):
        assert a > b


def test_the_branches_meet() -> None:
    for edge in (1.0, 1e4):
        assert math.isclose(one(edge * (1 - 1e-9), 1, 0), one(edge * (1 + 1e-9), 1, 0), rel_tol=1e-6)


def test_more_spread_is_worth_more() -> None:
    stds = np.array([0.1, 0.5, 1.0, 2.0])
    assert (np.diff(log_expected_improvement(np.ones(4), stds, 0.0)) > 0).all()


def test_no_spread_leaves_the_improvement_itself() -> None:
    assert math.isclose(one(-2.0, 0.0, 0.0), math.log(2), rel_tol=1e-9)
    assert np.isfinite(one(2.0, 0.0, 0.0))
