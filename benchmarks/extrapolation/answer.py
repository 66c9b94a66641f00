"""What a method says of the curves held out, and how that is graded; knows no methods, no tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau


@dataclass(frozen=True)
class Answer:
    """Forecasts of n ends."""

    point: np.ndarray
    """(n,)"""
    low: np.ndarray
    """(n,) the lower end of a 90 % interval."""
    high: np.ndarray
    log_density: np.ndarray
    """(n,) logarithms of the densities that were forecast, at what happened."""

    @staticmethod
    def with_error(point: np.ndarray, error: float, truth: np.ndarray) -> Answer:
        """Of a method that says nothing of its doubt: Laplace noise of its mean absolute error elsewhere."""
        error = max(error, 1e-9)
        half = error * np.log(10)
        return Answer(point, point - half, point + half, -np.log(2 * error) - np.abs(truth - point) / error)

    def grades(self, truth: np.ndarray) -> dict[str, float]:
        # Kendall's tau of constants is undefined; they rank nothing.
        tau = kendalltau(self.point, truth).statistic if np.ptp(self.point) and np.ptp(truth) else 0.0
        return {
            "error": float(np.abs(self.point - truth).mean()),
            "tau": float(tau),
            "covered": float(((truth >= self.low) & (truth <= self.high)).mean()),
            "likelihood": float(self.log_density.mean()),
        }
