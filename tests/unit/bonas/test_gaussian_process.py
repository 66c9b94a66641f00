"""The Gaussian process: exact where a formula is known, and right about what matters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad

from bonas.gaussian_process import GaussianProcess, loss


def problem(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.random((n, d))
    return X, np.sin(5 * X[:, 0]) + 0.05 * rng.normal(size=n)


def process(X: np.ndarray, y: np.ndarray, groups: list[int] | None = None) -> GaussianProcess:
    return GaussianProcess(X, y, np.array(groups or range(X.shape[1])), np.random.default_rng(0))


@given(
    theta=st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    n=st.integers(1, 12),
)
@settings(deadline=None, max_examples=30)
def test_the_gradient_is_that_of_the_loss(theta: list[float], n: int) -> None:
    X, y = problem(n, 2)
    D = ((X[:, None] - X) ** 2).transpose(2, 0, 1).reshape(2, n * n)
    at = np.array(theta)
    trend = 4 * X[:, :1] @ X[:, :1].T
    error = check_grad(lambda t: loss(t, D, trend, y)[0], lambda t: loss(t, D, trend, y)[1], at)
    assert error < 1e-3 * (1 + np.abs(loss(at, D, trend, y)[1]).max())


def test_a_left_out_row_is_predicted_as_by_the_process_without_it() -> None:
    X, y = problem(20, 2)
    fitted = process(X, y)
    mean, std = fitted.left_out()
    K = fitted._kernel(fitted._inputs, fitted._inputs) + fitted._noise * np.eye(20)
    for i in range(20):
        rest = np.arange(20) != i
        k = K[i, rest] @ np.linalg.inv(K[np.ix_(rest, rest)])
        assert mean[i] == pytest.approx(k @ y[rest])
        assert std[i] ** 2 == pytest.approx(K[i, i] - k @ K[rest, i])


def test_it_learns_which_inputs_matter_from_few_rows() -> None:
    X, y = problem(30, 6)
    new, truth = problem(200, 6, seed=1)
    mean, std = process(X, y).predict(new)
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.25 * truth.std()
    assert 0.7 < np.mean(np.abs(mean - truth) < 1.645 * np.hypot(std, 0.05)) <= 1


def test_it_is_surer_where_it_has_seen_something() -> None:
    X = np.concatenate([np.linspace(0, 0.3, 10), [1.0]])[:, None]
    _, std = process(X, np.sin(5 * X[:, 0])).predict(np.array([[0.15], [0.65]]))
    assert std[1] > 3 * std[0]


def test_neither_unit_nor_offset_of_an_input_matters_nor_one_that_never_differs() -> None:
    X, y = problem(25, 2)
    new, _ = problem(10, 2, seed=1)
    expected = process(X, y).predict(new)
    other = np.column_stack([1e3 * X + 7, np.full(25, 3.0)])
    actual = process(other, y).predict(np.column_stack([1e3 * new + 7, np.full(10, 9.0)]))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_a_trend_carries_over_to_values_hardly_seen() -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.random(40), np.arange(40) >= 38])
    y = np.sin(5 * X[:, 0]) / 2 - 2 * X[:, 1]
    fitted = GaussianProcess(X, y - y.mean(), np.arange(2), np.random.default_rng(0), n_trends=1)
    grid = np.linspace(0, 1, 50)
    mean, _ = fitted.predict(np.column_stack([grid, np.ones(50)]))
    assert np.corrcoef(mean, np.sin(5 * grid))[0, 1] > 0.95


def test_no_value_is_as_near_to_all_values() -> None:
    rng = np.random.default_rng(0)
    branches = rng.integers(2, size=(120, 6))
    values = rng.random((120, 6))
    y = 2 * ((values - 0.3) ** 2).sum(axis=1) - 1.5
    columns = [np.where(branches == 0, values, -1), np.where(branches == 1, values, -1)]
    X = np.concatenate([branches, *columns], axis=1)
    errors = [
        np.mean((model.predict(X[60:])[0] - y[60:]) ** 2)
        for model in (
            GaussianProcess(X[:60], y[:60], np.arange(18), np.random.default_rng(0), n_marked=n_marked)
            for n_marked in (18, 0)
        )
    ]
    assert errors[0] < 0.3 * errors[1]


def test_columns_of_a_category_share_a_length() -> None:
    rng = np.random.default_rng(0)
    which = rng.integers(3, size=30)
    X = np.column_stack([np.eye(3)[which], rng.random(30)])
    fitted = process(X, np.array([-1.0, 0.0, 1.0])[which], groups=[0, 0, 0, 1])
    assert len(set(fitted._lengths[:3])) == 1
    assert fitted._lengths[3] > 3 * fitted._lengths[0]


@pytest.mark.parametrize("n", [1, 2, 300])
def test_few_rows_many_rows_and_equal_rows(n: int) -> None:
    X, y = problem(n, 3)
    X[n // 2 :] = X[-1]
    again = [process(X, y).predict(X) for _ in range(2)]
    np.testing.assert_array_equal(again[0], again[1])
    assert np.isfinite(again[0]).all()


def test_inputs_that_never_differ_are_no_inputs() -> None:
    mean, std = process(np.ones((4, 2)), np.array([-1.0, 1.0, -1.0, 1.0])).predict(np.ones((2, 2)))
    np.testing.assert_allclose(mean, 0, atol=1e-6)
    assert (std > 0).all()
