"""Families of curve shapes, fitted by least squares or averaged in the Bayesian way; knows arrays, no tables.

A shape is a function φ of the epoch, of fixed parameters; curves are y = a + b·φ(t) + noise. Power laws,
stretched exponentials and the logarithm, with their parameters on grids: the best of them on a grid is the
least-squares fit of a family but for the grid's fineness, in closed form.

Symbols: n points t (epochs) and y (values) of one curve; s shapes.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln, stdtrit


def basis(t: np.ndarray, horizon: float) -> np.ndarray:
    """(s, len(t)) every shape at the epochs t."""
    t = np.asarray(t, dtype=float)
    rows = [t**-alpha for alpha in (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)]
    rows += [np.log(t / horizon)]
    # Shifted power laws begin late, stretched exponentials level off.
    rows += [
        (t + shift * horizon) ** -alpha for shift in (0.02, 0.1, 0.3, 1.0) for alpha in (0.5, 1.0, 2.0, 4.0)
    ]
    rows += [
        np.exp(-((t / (scale * horizon)) ** stretch))
        for scale in (0.01, 0.03, 0.1, 0.2, 0.4, 0.8, 1.6)
        for stretch in (0.5, 1.0, 2.0)
    ]
    return np.stack(rows)


def _spanned(t: np.ndarray, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """Shapes at t and at the horizon, in units of what they span in between."""
    ends = basis(np.array([t[0], horizon]), horizon)
    span = np.maximum(np.abs(ends[:, 0] - ends[:, 1]), 1e-12)
    return basis(t, horizon) / span[:, None], ends[:, 1] / span


def least_squares(t: np.ndarray, y: np.ndarray, horizon: float) -> float:
    """The value at the horizon of the shape that fits best; of fewer than 3 points the last value."""
    if len(t) < 3:
        return float(y[-1])
    phi, end = _spanned(t, horizon)
    centred = phi - phi.mean(1, keepdims=True)
    b = centred @ (y - y.mean()) / np.maximum((centred**2).sum(1), 1e-12)
    left = ((y - y.mean() - b[:, None] * centred) ** 2).sum(1)
    best = int(np.argmin(left))
    return float(y.mean() + b[best] * (end[best] - phi[best].mean()))


def evidence(t: np.ndarray, y: np.ndarray, horizon: float, spread: float) -> dict[str, np.ndarray]:
    """Conjugate Bayesian regression on each shape (Bishop 2006, section 3.5; Murphy 2012, section 7.6).

    The prior of (a, b) is normal around (the last value, 0) with 50 times the noise's standard deviation;
    that of the noise's precision is a gamma distribution of one degree of freedom, around a fiftieth of the
    spread of the study's values.

    Returns:
        (s,) the log marginal likelihood; mean, scale and degrees of freedom of Student's t at the horizon.
    """
    phi, end = _spanned(t, horizon)
    n, s = len(t), len(phi)
    X = np.stack([np.ones((s, n)), phi - end[:, None]], axis=2)  # a is then the value at the horizon
    a0, b0 = 0.5, 0.5 * (spread / 50) ** 2
    wide = np.diag([1 / 50.0**2, 1 / 50.0**2])  # prior precision in units of the noise's
    centre = y[-1]
    r = y - centre
    precision = np.einsum("sni,snj->sij", X, X) + wide
    covariance = np.linalg.inv(precision)
    mean = np.einsum("sij,snj,n->si", covariance, X, r)
    a = a0 + n / 2
    b = b0 + 0.5 * np.maximum((r**2).sum() - np.einsum("si,sij,sj->s", mean, precision, mean), 0)
    logs = (
        0.5 * (np.linalg.slogdet(wide)[1] - np.linalg.slogdet(precision)[1])
        + a0 * np.log(b0)
        - a * np.log(b)
        + gammaln(a)
        - gammaln(a0)
        - n / 2 * np.log(2 * np.pi)
    )
    scale = np.sqrt(b / a * (1 + covariance[:, 0, 0]))
    return {"log": logs, "mean": centre + mean[:, 0], "scale": scale, "df": np.full(s, 2 * a)}


def averaged(
    curves: list[tuple[np.ndarray, np.ndarray]], horizon: np.ndarray, finished: np.ndarray, held: slice
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forecasts of the curves held out, as mixtures of Student's t.

    The prior of the shapes is what the finished curves say of them, counted with one curve of evenly
    distributed shapes.

    Returns:
        Weights and means, (n, s) each; scales and degrees of freedom, (2, n, s).
    """
    values = np.concatenate([v for _, v in curves])
    spread = max(float(np.subtract(*np.quantile(values, [0.95, 0.05]))), 1e-9)
    said = []
    for k in np.flatnonzero(finished):
        logs = evidence(*curves[k], horizon[k], spread)["log"]
        said.append(np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum())
    count = len(basis(np.ones(1), 2.0))
    prior = (np.sum(said, axis=0) + 1 / count) / (len(said) + 1) if said else np.full(count, 1 / count)
    rows = [evidence(*curves[k], horizon[k], spread) for k in range(len(curves))[held]]
    logs = np.stack([row["log"] for row in rows]) + np.log(prior)
    weights = np.exp(logs - logs.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    spreads = np.stack([np.stack([row["scale"], row["df"]]) for row in rows], axis=1)
    return weights, np.stack([row["mean"] for row in rows]), spreads


def mixture_quantiles(
    weights: np.ndarray, means: np.ndarray, scales: np.ndarray, df: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """(n, levels) quantiles of mixtures of Student's t, each t taken at 19 of its own quantiles."""
    inner = np.arange(1, 20) / 20
    atoms = means[:, :, None] + scales[:, :, None] * stdtrit(df[:, :, None], inner)
    atoms = atoms.reshape(len(means), -1)
    each = np.repeat(weights / len(inner), len(inner), axis=1)
    order = np.argsort(atoms, axis=1)
    reached = np.cumsum(np.take_along_axis(each, order, axis=1), axis=1)
    at = (reached[:, None, :] < levels[:, None] - 1e-12).sum(2).clip(max=atoms.shape[1] - 1)
    return np.take_along_axis(np.take_along_axis(atoms, order, axis=1), at, axis=1)
