"""A Gaussian process over rows of numbers, its scales fitted to the data; knows arrays, no trials, no spaces.

Glossary:
    X       (n, d) inputs; y (n,) targets with mean about 0 and variance about 1
    group   columns that share one length-scale, such as those of a category's one-hot code; G groups
    D       (G, n, n) squared distances within each group
    r²      Σ_g D_g / ℓ_g², with the length-scales ℓ
    t       (n, q) the inputs with a linear effect of their own
    K       σ² k(r) + 4 t tᵀ + τ² I,  k(r) = (1 + √5 r + 5r²/3) exp(−√5 r)
            (Matérn 5/2; Rasmussen & Williams 2006, eq. 4.17)
    α       K⁻¹ y
    θ       log ℓ of each group, log σ², log τ²
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import fmin_l_bfgs_b

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# log ℓ ~ N(log √G − ½, 1): with many inputs each matters less (Hvarfner et al. 2024, section 4.2, with a mean
# and spread of their own: theirs, √2 and √3, leave a process that is far too sure of itself).
_LENGTH_MEAN, _LENGTH_STD = -0.5, 1.0
# log σ² ~ N(0, 1), log τ² ~ N(−4, 1): targets vary by about 1, little of it noise.
_NOISE_MEAN = -4.0
_LENGTHS, _SIGNAL, _NOISE = (-3.0, 8.0), (-4.0, 3.0), (-9.0, 1.0)
# Of a linear effect: targets may differ by a few standard deviations from one end to the other.
_TREND = 4.0
_MARK = -1.0
_STEPS = 25
# Length-scales are fitted to at most this many rows; each step costs their number cubed.
_MOST_FITTED = 100


class GaussianProcess:
    """The process with the most probable length-scales, signal and noise (maximum a posteriori).

    Args:
        X: inputs, shape (n, d), finite.
        y: targets, shape (n,), on the normal scale.
        groups: of each column, shape (d,), from 0.
        rng: chooses the rows that length-scales are fitted to where there are many: the better half of
            them are always the lowest targets.
        n_trends: so many of the last columns have a linear effect besides, as fidelities have, which shift
            all targets: what is learned at one value then holds at another.
        n_marked: in so many of the first columns, which lie in [0, 1], −1 stands for no value. It counts as
            the middle: nothing else is as near to all values, and that there is none the parent tells.
    """

    def __init__(
        self,
        X: NDArray[np.floating],
        y: Floats,
        groups: NDArray[np.intp],
        rng: np.random.Generator,
        *,
        n_trends: int = 0,
        n_marked: int = 0,
    ) -> None:
        self._n_marked = n_marked
        inputs = self._filled(X)
        self._low = inputs.min(axis=0)
        span = np.ptp(inputs, axis=0)
        # What never differed cannot be learned from.
        self._used = np.flatnonzero(span > 0)
        self._groups = np.unique(groups[self._used], return_inverse=True)[1]
        self._n_groups = int(self._groups.max(initial=-1)) + 1
        self._span = span[self._used]
        self._trends = np.flatnonzero(self._used >= inputs.shape[1] - n_trends)
        self._y = y
        scaled = self._scaled(inputs)
        n = len(y)
        chosen = np.arange(n)
        if n > _MOST_FITTED:
            order = np.argsort(y, kind="stable")
            best, others = np.split(order, [_MOST_FITTED // 2])
            drawn = rng.choice(others, size=_MOST_FITTED - len(best), replace=False)
            chosen = np.sort(np.concatenate([best, drawn]))
        theta = self._fitted(scaled[chosen], y[chosen])
        self._lengths = np.exp(theta[:-2])[self._groups]
        self._signal, self._noise = float(np.exp(theta[-2])), float(np.exp(theta[-1]))
        self.noise = math.sqrt(self._noise)
        """Standard deviation of what cannot be predicted."""
        self._inputs = scaled
        K = self._kernel(scaled, scaled) + self._noise * np.eye(n)
        self._factor = cho_factor(K, lower=True)
        self._alpha = cho_solve(self._factor, y)

    def predict(self, X: NDArray[np.floating]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of what lies below the noise, each of shape (n,), inputs (n, d)."""
        scaled = self._scaled(self._filled(X))
        k = self._kernel(scaled, self._inputs)
        solved = solve_triangular(self._factor[0], k.T, lower=True)
        trends = scaled[:, self._trends]
        variance = self._signal + _TREND * (trends * trends).sum(axis=1) - (solved * solved).sum(axis=0)
        return k @ self._alpha, np.sqrt(np.maximum(variance, 1e-8))

    def left_out(self) -> tuple[Floats, Floats]:
        """What it would predict of each row, noise included, had it not seen that row: mean and spread.

        Rasmussen & Williams 2006, eq. 5.12: μ_i = y_i − α_i / K⁻¹_ii and σ_i² = 1 / K⁻¹_ii.
        """
        diagonal = np.diag(cho_solve(self._factor, np.eye(len(self._y))))
        return self._y - self._alpha / diagonal, np.sqrt(1 / diagonal)

    def _filled(self, X: NDArray[np.floating]) -> Floats:
        filled = np.array(X, dtype=np.float64)
        marked = filled[:, : self._n_marked]
        marked[marked == _MARK] = 0.5
        return filled

    def _scaled(self, X: Floats) -> Floats:
        scaled: Floats = (X[:, self._used] - self._low[self._used]) / self._span
        return scaled

    def _kernel(self, A: Floats, B: Floats) -> Floats:
        trend = _TREND * A[:, self._trends] @ B[:, self._trends].T
        A, B = A / self._lengths, B / self._lengths
        squared = (A * A).sum(axis=1)[:, None] + (B * B).sum(axis=1) - 2 * A @ B.T
        r = np.sqrt(5 * np.maximum(squared, 0))
        K: Floats = self._signal * (1 + r + r * r / 3) * np.exp(-r) + trend
        return K

    def _fitted(self, X: Floats, y: Floats) -> Floats:
        n, G = len(y), self._n_groups
        D = np.zeros((G, n, n))
        for column, group in zip(X.T, self._groups, strict=True):
            D[group] += (column[:, None] - column) ** 2
        start = np.full(G + 2, math.log(0.5) + 0.5 * math.log(max(G, 1)))
        start[-2:] = 0.0, -3.0
        bounds = [_LENGTHS] * G + [_SIGNAL, _NOISE]
        trend = _TREND * X[:, self._trends] @ X[:, self._trends].T
        distances = D.reshape(G, n * n)
        theta: Floats = fmin_l_bfgs_b(
            lambda theta: loss(theta, distances, trend, y), start, bounds=bounds, maxiter=_STEPS
        )[0]
        return theta


def loss(theta: Floats, D: Floats, trend: Floats, y: Floats) -> tuple[float, Floats]:
    """Negative logarithm of the posterior of θ, up to a constant, and its gradient.

    With W = α αᵀ − K⁻¹ the likelihood changes by ½ tr(W ∂K/∂θ) (Rasmussen & Williams 2006, eq. 5.9), where
    ∂K/∂ log ℓ_g = 5/3 σ² (1 + √5 r) exp(−√5 r) D_g / ℓ_g².

    Args:
        theta: shape (G + 2,).
        D: squared distances, shape (G, n · n).
        trend: what is added to the kernel, shape (n, n).
        y: targets, shape (n,).
    """
    n, G = len(y), len(D)
    mean = np.array([_LENGTH_MEAN + 0.5 * math.log(max(G, 1))] * G + [0.0, _NOISE_MEAN])
    std = np.array([_LENGTH_STD] * G + [1.0, 1.0])
    inverse_squared = np.exp(-2 * theta[:-2])
    signal, noise = np.exp(theta[-2:])
    r = np.sqrt(5 * (inverse_squared @ D)).reshape(n, n)
    decay = signal * np.exp(-r)
    K = (1 + r + r * r / 3) * decay
    identity = np.eye(n)
    factor = cho_factor(K + trend + noise * identity, lower=True)
    alpha = cho_solve(factor, y)
    W = np.outer(alpha, alpha) - cho_solve(factor, identity)
    gradient = np.empty_like(theta)
    gradient[:-2] = (D @ (W * (5 / 3 * (1 + r) * decay)).reshape(-1)) * inverse_squared
    gradient[-2] = (W * K).sum()
    gradient[-1] = noise * np.trace(W)
    away = (theta - mean) / std
    value = 0.5 * float(y @ alpha) + float(np.log(np.diag(factor[0])).sum()) + 0.5 * float(away @ away)
    return value, away / std - 0.5 * gradient
