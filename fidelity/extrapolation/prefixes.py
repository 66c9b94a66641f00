"""Learning curves as arrays, and what a curve looks like up to a point; knows no models, no metrics' names.

Symbols: n curves of at most L points, m prefixes (a curve and how many of its points are seen).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fidelity.records import Curve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """n curves, one a row, filled up to the longest."""

    epochs: Floats
    """(n, L) increasing along each row; infinite where a curve has ended."""
    values: Floats
    """(n, L) finite; 0 where a curve has ended."""
    lengths: Ints
    """(n,) numbers of points."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def last(self) -> Floats:
        """(n,) the last values; NaN where there is none."""
        found = self.values[np.arange(len(self)), np.maximum(self.lengths - 1, 0)]
        return np.where(self.lengths > 0, found, np.nan)

    @property
    def last_epoch(self) -> Floats:
        """(n,) the epochs of the last values; 0 where there is none."""
        found = self.epochs[np.arange(len(self)), np.maximum(self.lengths - 1, 0)]
        return np.where(self.lengths > 0, found, 0.0)

    @staticmethod
    def of(curves: Sequence[Any], metric: str | None = None) -> Curves:
        """Arrays of (epochs, values) pairs or of :class:`fidelity.Curve`; what is not finite is left out.

        Raises:
            ValueError: if epochs and values differ in number, or epochs are not positive and increasing.
        """
        pairs = [_finite(k, curve, metric) for k, curve in enumerate(curves)]
        lengths = np.array([len(epochs) for epochs, _ in pairs], dtype=np.intp)
        shape = (len(pairs), max(1, int(lengths.max(initial=1))))
        filled = np.arange(shape[1]) < lengths[:, None]
        epochs, values = np.full(shape, np.inf), np.zeros(shape)
        if pairs:
            epochs[filled] = np.concatenate([e for e, _ in pairs])
            values[filled] = np.concatenate([v for _, v in pairs])
        increasing = (epochs > np.pad(epochs[:, :-1], ((0, 0), (1, 0)))) | ~filled
        if not increasing.all():
            k = int(np.flatnonzero(~increasing.all(1))[0])
            raise ValueError(
                f"curves[{k}]: epochs {pairs[k][0].tolist()}: must be positive and increase. "
                "Count completed epochs from 1 and give each once."
            )
        return Curves(epochs, values, lengths)


def _finite(k: int, curve: Any, metric: str | None) -> tuple[Floats, Floats]:
    if isinstance(curve, Curve):
        seen = curve.observations
        name = metric
        if name is None:
            names = {key for o in seen for key in o.values}
            if len(names) > 1:
                raise ValueError(f"curves[{k}]: has the metrics {sorted(names)}. Say which: metric='...'.")
            name = next(iter(names), "")
        seen = tuple(o for o in seen if name in o.values)
        epochs = np.array([o.epoch for o in seen], dtype=np.float64)
        values = np.array([o.values[name] for o in seen], dtype=np.float64)
    else:
        epochs, values = (np.asarray(part, dtype=np.float64) for part in curve)
        if epochs.shape != values.shape or epochs.ndim != 1:
            raise ValueError(
                f"curves[{k}]: {epochs.shape} epochs and {values.shape} values: "
                "must be as many of one as of the other. Give (epochs, values)."
            )
    finite = np.isfinite(values)
    return (epochs, values) if finite.all() else (epochs[finite], values[finite])


@dataclass(frozen=True, slots=True, eq=False)
class Prefixes:
    """m prefixes and an epoch to come for each, described for a model; values are on a common scale."""

    features: Floats
    """(m, d) what the drift from here to there may depend on."""
    anchor: Floats
    """(m,) where the curve is now: the average of its last value and the mean of its last three."""
    slope: Floats
    """(m,) change of the value for each unit of log(epoch), since half the epochs."""
    noise: Floats
    """(m,) mean absolute change from point to point, lately."""
    log_ratio: Floats
    """(m,) log(epoch to come / epoch now)."""


class Describer:
    """Describes prefixes of the curves it was made for."""

    def __init__(self, curves: Curves) -> None:
        self._curves = curves
        seen = np.isfinite(curves.epochs)
        steps = np.abs(np.diff(curves.values, axis=1, prepend=curves.values[:, :1]))
        # Sums and extremes up to each point, so that those of any prefix are one look-up away.
        self._sum = np.cumsum(np.where(seen, curves.values, 0.0), axis=1)
        self._moved = np.cumsum(np.where(seen, steps, 0.0), axis=1)
        self._highest = np.maximum.accumulate(np.where(seen, curves.values, -np.inf), axis=1)
        self._lowest = np.minimum.accumulate(np.where(seen, curves.values, np.inf), axis=1)

    def __call__(self, curve: Ints, points: Ints, to: Floats, horizon: Floats) -> Prefixes:
        """Prefixes of at least one point.

        Args:
            curve: (m,) which curve.
            points: (m,) how many of its points are seen.
            to: (m,) the epoch whose value is asked for, later than the prefix.
            horizon: (m,) where that curve ends, which only says how far along it is.
        """
        values, epochs = self._curves.values, self._curves.epochs[curve]
        k = points - 1
        last, now = values[curve, k], epochs[np.arange(len(curve)), k]
        few = np.minimum(3, points)
        before = np.where(k >= few, self._sum[curve, np.maximum(k - few, 0)], 0.0)
        anchor = (last + (self._sum[curve, k] - before) / few) / 2
        log_ratio = np.log(to / now)

        def rate(part: float) -> Floats:
            """Change for each unit of log(epoch) since a part of the epochs."""
            j = np.maximum((epochs <= now[:, None] * part).sum(1) - 1, 0)
            then = epochs[np.arange(len(curve)), j]
            return np.where(
                then < now, (anchor - values[curve, j]) / np.maximum(np.log(now / then), 1e-9), 0.0
            )

        slope = rate(0.5)
        window = np.maximum(k - 5, 0)
        steps = np.maximum(np.minimum(5, k), 1)
        noise = (self._moved[curve, k] - self._moved[curve, window]) / steps
        features = [
            log_ratio,
            now / to,
            np.log(now / horizon),
            anchor,
            last - anchor,
            slope,
            rate(0.25),
            rate(0.75),
            slope * log_ratio,
            noise,
            np.log(noise + 1e-6),
            self._highest[curve, k] - anchor,
            self._lowest[curve, k] - anchor,
            values[curve, 0] - anchor,
            (last - values[curve, window]) / steps,
        ]
        return Prefixes(np.stack(features, axis=1), anchor, slope, noise, log_ratio)
