"""Distributions of numbers, many at once, given by their quantiles; knows nothing of learning curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Beyond the outermost quantiles densities fall like those of generalised Pareto distributions of this shape:
# heavier than exponential, because what a curve does next is now and then unlike anything seen; below 1, so
# that means exist.
_TAIL = 0.5
_NARROWEST = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """n distributions: the density is constant between neighbouring quantiles and has heavy tails."""

    levels: NDArray[np.float64]
    """(k,) probabilities, increasing, within (0, 1)."""
    values: NDArray[np.float64]
    """(n, k) the quantiles at these levels, increasing."""

    def __len__(self) -> int:
        return len(self.values)

    def among(self, which: slice | NDArray[Any]) -> Distribution:
        """Only some of the distributions."""
        return Distribution(self.levels, self.values[which])

    @property
    def mean(self) -> NDArray[np.float64]:
        """(n,) expected values, tails included."""
        inner = (np.diff(self.levels) * (self.values[:, 1:] + self.values[:, :-1]) / 2).sum(1)
        low, high = self._tails()
        p, q = self.levels[0], 1 - self.levels[-1]
        below = p * (self.values[:, 0] - low / (1 - _TAIL))
        above = q * (self.values[:, -1] + high / (1 - _TAIL))
        found: NDArray[np.float64] = inner + below + above
        return found

    @property
    def median(self) -> NDArray[np.float64]:
        """(n,) values that are exceeded with probability one half."""
        found: NDArray[np.float64] = self.quantiles(0.5)
        return found

    def quantiles(self, q: ArrayLike) -> NDArray[np.float64]:
        """Values that are not exceeded with probability ``q``: (n,) for a number, (n, m) for m of them.

        Raises:
            ValueError: if a probability lies outside (0, 1).
        """
        wanted = np.atleast_1d(np.asarray(q, dtype=np.float64))
        if not ((wanted > 0) & (wanted < 1)).all():
            raise ValueError(f"q={q!r}: probabilities must lie within (0, 1). Use [0.05, 0.5, 0.95].")
        at = np.clip(np.searchsorted(self.levels, wanted) - 1, 0, len(self.levels) - 2)
        part = (wanted - self.levels[at]) / (self.levels[at + 1] - self.levels[at])
        found = self.values[:, at] + part * (self.values[:, at + 1] - self.values[:, at])
        low, high = self._tails()
        p, r = self.levels[0], 1 - self.levels[-1]
        for k in np.flatnonzero(wanted < p):
            found[:, k] = self.values[:, 0] - low * ((wanted[k] / p) ** -_TAIL - 1) / _TAIL
        for k in np.flatnonzero(wanted > 1 - r):
            found[:, k] = self.values[:, -1] + high * (((1 - wanted[k]) / r) ** -_TAIL - 1) / _TAIL
        return found[:, 0] if np.ndim(q) == 0 else found

    def probability_above(self, threshold: ArrayLike) -> NDArray[np.float64]:
        """(n,) probabilities of exceeding a threshold, one for all or one for each."""
        at, where = self._locate(threshold)
        k = np.clip(where - 1, 0, len(self.levels) - 2)
        rows = np.arange(len(self))
        a, b = self.values[rows, k], self.values[rows, k + 1]
        below = self.levels[k] + (at - a) / (b - a) * (self.levels[k + 1] - self.levels[k])
        low, high = self._tails()
        p, q = self.levels[0], 1 - self.levels[-1]
        last = len(self.levels)
        below = np.where(where == 0, p * _survival((self.values[:, 0] - at) / low), below)
        below = np.where(where == last, 1 - q * _survival((at - self.values[:, -1]) / high), below)
        found: NDArray[np.float64] = 1 - below
        return found

    def log_density(self, at: ArrayLike) -> NDArray[np.float64]:
        """(n,) logarithms of the densities at one value for all or one for each."""
        x, where = self._locate(at)
        k = np.clip(where - 1, 0, len(self.levels) - 2)
        rows = np.arange(len(self))
        found = np.log(
            (self.levels[k + 1] - self.levels[k]) / (self.values[rows, k + 1] - self.values[rows, k])
        )
        low, high = self._tails()
        steep = 1 + 1 / _TAIL
        below = np.log(self.levels[0] / low) - steep * np.log1p(
            _TAIL * np.maximum(self.values[:, 0] - x, 0) / low
        )
        above = np.log((1 - self.levels[-1]) / high) - steep * np.log1p(
            _TAIL * np.maximum(x - self.values[:, -1], 0) / high
        )
        found = np.where(where == 0, below, found)
        return np.where(where == len(self.levels), above, found)

    def _locate(self, at: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """The values asked for, one for each distribution, and how many quantiles lie below each."""
        x: NDArray[np.float64] = np.broadcast_to(np.asarray(at, dtype=np.float64), (len(self),))
        return x, (self.values < x[:, None]).sum(1)

    def _tails(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n,) the scales of the lower and the upper tail.

        The density goes on as it is at the edge, but is never much narrower than what lies within.
        """
        widths = np.diff(self.values, axis=1)
        least = _NARROWEST * (self.values[:, -1] - self.values[:, 0])
        low = widths[:, 0] * self.levels[0] / (self.levels[1] - self.levels[0])
        high = widths[:, -1] * (1 - self.levels[-1]) / (self.levels[-1] - self.levels[-2])
        return np.maximum(low, least), np.maximum(high, least)


def _survival(distance: NDArray[Any]) -> NDArray[Any]:
    """The probability of lying farther out than a distance, in scales, given that one is in the tail."""
    found: NDArray[Any] = (1 + _TAIL * np.maximum(distance, 0)) ** (-1 / _TAIL)
    return found
