"""Where learning curves end: learned from all curves of a study; knows curves, no networks, no schedulers.

From all curves, finished or not, pairs of a prefix and a later value are drawn. A forest learns the
distribution of the drift between them from what the prefix looks like, and predicts the drift from each
curve's end to the horizon. Trees that never saw a curve tell how wide the forecasts must be. While few curves
are known, a prior has a say: the present rate of change goes on and decays at an unknown speed.

Symbols: n curves; m pairs; s values on the study's scale (:mod:`fidelity.extrapolation.scale`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fidelity.extrapolation.distribution import Distribution
from fidelity.extrapolation.forest import FOLDS, forecast
from fidelity.extrapolation.prefixes import Curves, Describer, Prefixes
from fidelity.extrapolation.scale import Scale

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.intp]

LEVELS = np.array([0.025, *np.arange(1, 20) / 20, 0.975])
"""The probabilities whose quantiles are predicted."""
_LOW, _MEDIAN, _HIGH = 1, 10, 19
_PAIRS, _PER_CURVE = 2000, 24
# Forecasts are blurred by noise in units of the scale, and widened by a factor within these bounds.
_FLOORS = (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
# The trees that never saw a curve are a third of the forest, learned from fewer curves: all of it forecasts a
# little better, so that covering 87 % by these covers 90 % by all.
_COVERED, _WIDENING = 0.87, (0.5, 3.0)
_PRIOR_CURVES = 3.0


class CurveExtrapolator:
    """Predicts the value at the horizon from partial learning curves, with calibrated doubt.

    Args:
        trees: trees of the forest, a multiple of 3. More are slower and smoother.
        seed: of its draws: the same curves always give the same forecasts.

    Raises:
        ValueError: if ``trees`` is no positive multiple of 3.
    """

    def __init__(self, trees: int = 18, seed: int = 0) -> None:
        if isinstance(trees, bool) or not isinstance(trees, int) or trees < FOLDS or trees % FOLDS:
            raise ValueError(f"trees={trees!r}: must be a positive multiple of {FOLDS}. The default is 18.")
        self.trees = trees
        self.seed = seed

    def __repr__(self) -> str:
        return f"CurveExtrapolator(trees={self.trees}, seed={self.seed})"

    def predict(
        self,
        curves: Sequence[Any],
        horizon: ArrayLike,
        features: ArrayLike | None = None,
        *,
        metric: str | None = None,
    ) -> Distribution:
        """The distribution of each curve's value at the horizon, learned from all these curves.

        Values may be on any scale and good in either direction. A curve that has passed the horizon is
        predicted at what it had there; one without a finite value like the mixture of all others.

        Args:
            curves: each a pair (epochs, values), or a :class:`fidelity.Curve`. Epochs may be any positive
                numbers that increase, such as numbers of examples. Values that are not finite are left out.
            horizon: the epoch asked for, one for all or one for each curve.
            features: (n, d) numbers that describe each curve's configuration, if they should count.
            metric: which values of :class:`fidelity.Curve` are meant, where they have several.

        Raises:
            ValueError: if a curve is malformed, horizon or features do not fit, or no value at all is finite.
        """
        known = Curves.of(curves, metric)
        ends = _horizons(horizon, len(known))
        described = _described(features, len(known))
        if not known.lengths.any():
            raise ValueError("curves: none has a finite value. Give at least one observation.")
        seen = np.isfinite(known.epochs)
        scale = Scale.of(known.values[seen])
        known = Curves(known.epochs, np.where(seen, scale.to(known.values), 0.0), known.lengths)

        values = np.empty((len(known), len(LEVELS)))
        over = (known.last_epoch >= ends) & (known.lengths > 0)
        running = np.flatnonzero((known.lengths > 0) & ~over)
        at = np.maximum((known.epochs[over] <= ends[over, None]).sum(1) - 1, 0)
        values[over] = known.values[over, at][:, None] + 1e-9 * (LEVELS - 0.5)
        if len(running):
            values[running] = self._learned(known, ends, described, running)
        empty = known.lengths == 0
        values[empty] = np.quantile(values[~empty], LEVELS)
        values = scale.back(scale.within(values, known.values[seen]))
        # Strictly increasing, in whatever unit.
        step = 1e-12 * (np.abs(values).max(1, keepdims=True) + scale.spread)
        values = np.maximum.accumulate(values, axis=1) + step * np.arange(len(LEVELS))
        return Distribution(LEVELS, values)

    def _learned(self, curves: Curves, ends: Floats, described: Floats, asked: Ints) -> Floats:
        """(asked, levels) quantiles at the horizon on the study's scale."""
        rng = np.random.default_rng(self.seed)
        describe = Describer(curves)
        now = describe(asked, curves.lengths[asked], ends[asked], ends[asked])
        prior = _prior(now)
        curve, points, later = _pairs(curves, ends, rng)
        if len(curve) < 8:
            return now.anchor[:, None] + prior
        then = describe(curve, points, curves.epochs[curve, later], ends[curve])
        drift = curves.values[curve, later] - then.anchor
        typical = np.median(np.abs(drift)) + 1e-9
        # How far and which way; and, so that what hardly moves is kept apart, the order of magnitude.
        targets = np.stack([np.arcsinh(drift / typical), np.log(np.abs(drift) / typical + 0.05)], axis=1)
        X = np.concatenate([then.features, described[curve]], axis=1)
        Xq = np.concatenate([now.features, described[asked]], axis=1)
        found = forecast(X, drift, targets, curve, Xq, self.trees, rng)
        own, said = _quantiles(found.own), _quantiles(found.asked)
        floor = _floor(own, drift)
        own, said = _blurred(own, floor), _blurred(said, floor)
        ahead = np.stack([then.log_ratio, np.log(ends[curve] / curves.epochs[curve, points - 1])])
        factor = _factors(own, drift, ahead, now.log_ratio)
        median = said[:, _MEDIAN, None]
        learned = median + factor[:, None] * (said - median)
        weight = _PRIOR_CURVES / (_PRIOR_CURVES + _finished(curves, ends))
        return now.anchor[:, None] + _mixed(learned, prior, weight)


def _horizons(horizon: ArrayLike, n: int) -> Floats:
    ends = np.asarray(horizon, dtype=np.float64)
    if ends.ndim > 1 or (ends.ndim == 1 and len(ends) != n):
        raise ValueError(
            f"horizon: shape {ends.shape} for {n} curves. Give one epoch, or one for each curve."
        )
    if not (np.isfinite(ends).all() and (ends > 0).all()):
        raise ValueError(
            f"horizon={horizon!r}: must be a positive epoch. Use the last epoch of a full training."
        )
    return np.broadcast_to(ends, (n,))


def _described(features: ArrayLike | None, n: int) -> Floats:
    if features is None:
        return np.empty((n, 0))
    found = np.asarray(features, dtype=np.float64)
    if found.ndim != 2 or len(found) != n or not np.isfinite(found).all():
        raise ValueError(
            f"features: shape {found.shape} for {n} curves: must be one row of finite numbers for each curve."
        )
    return found


def _pairs(curves: Curves, ends: Floats, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """Curve, number of points seen and index of a later point, for each pair learned from."""
    usable = np.flatnonzero(curves.lengths >= 2)
    if not len(usable):
        return usable, usable, usable
    each = int(np.clip(_PAIRS // len(usable), 2, _PER_CURVE))
    curve = np.repeat(usable, each)
    n = curves.lengths[curve]
    # Evenly over the logarithm of epochs, as what is asked about is.
    first, last = curves.epochs[curve, 0], curves.epochs[curve, n - 2]
    until = first * (last / first) ** rng.random(len(curve)) * (1 + 1e-12)
    points = np.maximum((curves.epochs[curve] <= until[:, None]).sum(1), 1)
    anywhere = points + np.floor(rng.random(len(curve)) * (n - points)).astype(np.intp)
    later = np.where(rng.random(len(curve)) < 0.5, n - 1, anywhere)
    return curve, points, later


def _finished(curves: Curves, ends: Floats) -> float:
    """How many finished curves these are worth: each by how far it was seen on the logarithm of epochs.

    By a high power of it: what lies beyond all that was seen is not learned from however many curves.
    """
    long = np.flatnonzero(curves.lengths >= 2)
    first = curves.epochs[long, 0]
    seen = np.log(curves.last_epoch[long] / first) / np.log(np.maximum(ends[long] / first, 1 + 1e-9))
    return float((np.minimum(seen, 1) ** 6).sum())


def _prior(now: Prefixes) -> Floats:
    """(n, levels) drift if nothing is known but the curve itself: its rate of change decays.

    A power law y = a + b·t^-α changes at the rate dy/dlog t = slope · (epoch / now)^-α, hence until the
    horizon by slope · (1 - ratio^-α) / α; the speed α is unknown.
    """
    decay = np.array([0.1, 0.3, 0.6, 1.0, 1.5, 2.5, 4.0])
    drift = now.slope[:, None] * -np.expm1(-decay * now.log_ratio[:, None]) / decay
    doubt = 0.5 * now.noise + 0.3 * np.abs(now.slope) * now.log_ratio + 0.1 * np.minimum(now.log_ratio, 1)
    around = np.array([-3.0, -1.2, -0.5, 0, 0.5, 1.2, 3.0])
    atoms = drift[:, :, None] + doubt[:, None, None] * around
    return _quantiles(atoms.reshape(len(drift), -1))


def _quantiles(atoms: Floats) -> Floats:
    """(n, levels) quantiles of rows of equally likely numbers."""
    ordered = np.sort(atoms, axis=1)
    at = np.clip(LEVELS * ordered.shape[1] - 0.5, 0, ordered.shape[1] - 1)
    low = np.minimum(np.floor(at).astype(np.intp), ordered.shape[1] - 2)
    found: Floats = ordered[:, low] + (at - low) * (ordered[:, low + 1] - ordered[:, low])
    return found


def _blurred(quantiles: Floats, floor: float) -> Floats:
    """Quantiles spread as if by normal noise of standard deviation ``floor``, so that none are equal."""
    from scipy.special import ndtri

    blurred: Floats = quantiles + floor * ndtri(LEVELS)
    return blurred


def _mixed(first: Floats, second: Floats, weight: float) -> Floats:
    """(n, levels) quantiles of mixtures that draw from the second with a probability of ``weight``."""
    # Each quantile stands for the probability between the middles of its neighbours.
    edges = np.concatenate([[0.0], (LEVELS[1:] + LEVELS[:-1]) / 2, [1.0]])
    each = np.diff(edges)
    values = np.concatenate([first, second], axis=1)
    order = np.argsort(values, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    weights = np.concatenate([(1 - weight) * each, weight * each])[order]
    reached = np.cumsum(weights, axis=1) - weights / 2
    at = (reached[:, None, :] < LEVELS[:, None]).sum(2)
    low = np.clip(at - 1, 0, values.shape[1] - 2)
    rows = np.arange(len(values))[:, None]
    a, b = reached[rows, low], reached[rows, low + 1]
    part = np.clip((LEVELS - a) / (b - a), 0, 1)
    found: Floats = values[rows, low] + part * (values[rows, low + 1] - values[rows, low])
    return found


def _floor(own: Floats, drift: Floats) -> float:
    """The noise under which what happened is most likely, by trees that had not seen it."""
    likely = [Distribution(LEVELS, _blurred(own, floor)).log_density(drift).mean() for floor in _FLOORS]
    return _FLOORS[int(np.argmax(likely))]


def _factors(own: Floats, drift: Floats, ahead: Floats, asked: Floats) -> Floats:
    """(n,) by which forecasts are widened so that 90 % of what happened lies within their 90 % intervals.

    Conformal prediction (Romano, Patterson, Candès 2019) by trees that had not seen the curve, among pairs
    that lie as far from the horizon and look as far ahead.

    Args:
        own: (m, levels) quantiles of the pairs' drift.
        drift: (m,) what happened.
        ahead: (2, m) how far the pairs look, and how far the horizon was, in units of log(epoch).
        asked: (n,) how far forecasts look, which is to the horizon.
    """
    off = drift - own[:, _MEDIAN]
    half = np.where(off > 0, own[:, _HIGH] - own[:, _MEDIAN], own[:, _MEDIAN] - own[:, _LOW])
    score = np.abs(off) / half
    order = np.argsort(score)
    knots = np.linspace(asked.min(), asked.max() + 1e-9, 5)
    width = max(float(np.std(ahead[0])), 1e-9)
    far = (((ahead[:, None, order] - knots[:, None]) / width) ** 2).sum(0)
    near = np.exp(-0.5 * (far - far.min(1, keepdims=True)))
    share = np.cumsum(near, axis=1) / near.sum(1, keepdims=True)
    wanted = score[order][(share < _COVERED).sum(1)]
    found: Floats = np.interp(asked, knots, np.clip(wanted, *_WIDENING))
    return found
