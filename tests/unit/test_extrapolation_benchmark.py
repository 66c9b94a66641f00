"""The baselines of the extrapolation benchmark, each on curves where what is right is known."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fidelity import ExtrapolationStopping, MedianStopping

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"extrapolation.{name}")


class TestDomhan:
    def test_the_stretch_move_draws_from_the_density_it_is_given(self) -> None:
        mean, covariance = np.array([1.0, -2.0, 0.5]), np.diag([1.0, 0.01, 25.0])
        covariance[0, 1] = covariance[1, 0] = 0.05
        inverse = np.linalg.inv(covariance)
        rng = np.random.default_rng(0)
        drawn = _module("domhan").stretched(
            rng.normal(size=(60, 3)),
            lambda x: -0.5 * np.einsum("ni,ij,nj->n", x - mean, inverse, x - mean),
            steps=2000,
            burn_in=300,
            rng=rng,
            thin=10,
        )
        scale = np.sqrt(np.diag(covariance))
        assert (drawn.mean(0) - mean) / scale == pytest.approx(0, abs=0.1)
        assert np.cov(drawn.T) / np.outer(scale, scale) == pytest.approx(
            covariance / np.outer(scale, scale), abs=0.1
        )

    def test_the_families_are_those_published(self) -> None:
        domhan = _module("domhan")
        t = np.array([1.0, 10.0])
        said = {f.name: f.value(np.array([f.start]), t)[0] for f in domhan.FAMILIES}
        assert len(said) == 11
        assert said["vapor pressure"] == pytest.approx(np.exp(-0.5 - 0.5 / t + 0.05 * np.log(t)))
        assert said["pow3"] == pytest.approx(0.8 - 0.5 * t**-0.5)
        assert said["log log linear"] == pytest.approx(np.log(0.3 * np.log(t) + 1.5))
        assert said["Hill3"] == pytest.approx(0.8 * t**0.6 / (1 + t**0.6))
        assert said["log power"] == pytest.approx(0.8 / (1 + (t / np.e) ** -0.5))
        assert said["pow4"] == pytest.approx(0.8 - (t + 1) ** -0.5)
        assert said["MMF"] == pytest.approx(0.8 - 0.6 / (1 + 0.3 * t))
        assert said["exp4"] == pytest.approx(0.8 - np.exp(-0.5 * t**0.7 - 0.5))
        assert said["Janoschek"] == pytest.approx(0.8 - 0.6 * np.exp(-0.2 * t**0.8))
        assert said["Weibull"] == pytest.approx(0.8 - 0.6 * np.exp(-((0.1 * t) ** 0.8)))
        assert said["ilog2"] == pytest.approx(0.8 - 0.4 / np.log(t + 1))

    def test_it_finds_the_ends_of_curves_of_its_own_families(self) -> None:
        domhan = _module("domhan")
        rng = np.random.default_rng(1)
        t, horizon = np.arange(1.0, 31.0), 100.0
        covered, errors, last = [], [], []
        for family in (domhan.FAMILIES[k] for k in (0, 1, 3, 4)):
            theta = np.array([family.start])
            truth = family.value(theta, np.array([horizon]))[0, 0]
            y = family.value(theta, t)[0] + rng.normal(0, 0.005, len(t))
            means, sigmas = domhan.predictive(
                domhan.sample(t, y, horizon, rng, steps=400, burn_in=250), horizon
            )
            low, middle, high = np.quantile(means + sigmas * rng.normal(size=len(means)), [0.05, 0.5, 0.95])
            covered.append(low <= truth <= high)
            errors.append(abs(middle - truth))
            last.append(abs(y[-1] - truth))
        assert sum(covered) >= 3
        assert np.mean(errors) < 0.5 * np.mean(last)


class TestShapes:
    def test_a_shape_of_the_grid_is_found_exactly(self) -> None:
        t = np.arange(1.0, 11.0)
        assert _module("shapes").least_squares(t, 0.2 + 0.5 * t**-0.75, 50.0) == pytest.approx(
            0.2 + 0.5 * 50**-0.75, abs=1e-6
        )

    def test_the_evidence_is_that_of_the_regression(self) -> None:
        # Against Student's t of the whole vector: y ~ t(2·a0, 0, b0/a0·(1 + X·V·Xᵀ)).
        from scipy.stats import multivariate_t

        shapes = _module("shapes")
        t, horizon, spread = np.arange(1.0, 7.0), 20.0, 1.0
        y = np.array([0.9, 0.7, 0.62, 0.6, 0.55, 0.56])
        found = shapes.evidence(t, y, horizon, spread)
        for s in (0, 5, 30):
            phi = shapes.basis(t, horizon)[s]
            ends = shapes.basis(np.array([1.0, horizon]), horizon)[s]
            X = np.stack([np.ones(6), (phi - ends[1]) / max(abs(ends[0] - ends[1]), 1e-12)], axis=1)
            a0, b0 = 0.5, 0.5 * (spread / 50) ** 2
            shape = b0 / a0 * (np.eye(6) + 50.0**2 * X @ X.T)
            expected = multivariate_t(np.zeros(6), shape, df=2 * a0).logpdf(y - y[-1])
            assert found["log"][s] == pytest.approx(expected, rel=1e-6)

    def test_quantiles_of_a_mixture_of_one(self) -> None:
        from scipy.stats import t

        one = np.ones((1, 1))
        found = _module("shapes").mixture_quantiles(
            one, 2 * one, 0.5 * one, 6 * one, np.array([0.05, 0.5, 0.95])
        )
        assert found[0] == pytest.approx(2 + 0.5 * t(6).ppf([0.05, 0.5, 0.95]), abs=1e-6)


class TestStopping:
    def test_what_is_spent_is_what_was_trained(self) -> None:
        stopping = _module("stopping")
        losses = np.linspace(1, 0.5, stopping.EPOCHS) + np.arange(8)[:, None]
        losses[3, 20:] = np.nan
        spent, ends = stopping.play(MedianStopping(n_startup=1000), losses)
        assert spent == 7 * stopping.EPOCHS + 21
        assert ends == [0.5, 1.5, 2.5, 4.5, 5.5, 6.5, 7.5]

    def test_hopeless_configurations_are_stopped_and_the_best_is_not(self) -> None:
        stopping = _module("stopping")
        rng = np.random.default_rng(0)
        epochs = np.arange(1, stopping.EPOCHS + 1)
        ends = rng.permutation(np.linspace(0.1, 0.9, 24))
        losses = ends[:, None] + 0.3 * epochs**-0.7 + rng.normal(0, 0.003, (24, stopping.EPOCHS))
        spent, reached = stopping.play(ExtrapolationStopping(), losses)
        assert spent < 24 * stopping.EPOCHS * 0.6
        assert min(reached) == losses[:, -1].min()
