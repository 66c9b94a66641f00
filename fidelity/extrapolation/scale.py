"""A monotone change of scale on which values of any unit, exploding ones included, lie within a few units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_BULK = 0.8
# A side explodes if it reaches further than so many units, and so many times the values' own size.
_EXPLODED = (1e4, 100.0)
# There, what is further away than this is taken logarithmically.
_LINEAR = 50.0
# The unit where all values are equal, as is a first one: so much of the value.
_UNKNOWN = 0.1


@dataclass(frozen=True, slots=True)
class Scale:
    """Linear, but logarithmic far out on a side where values explode."""

    centre: float
    spread: float
    """The unit."""
    below: float = math.inf
    """How many units below the centre the scale is linear."""
    above: float = math.inf
    """How many above."""

    @staticmethod
    def of(values: Floats) -> Scale:
        """The scale of values that may be concentrated, explode to a side, or both.

        The unit is the shortest interval that holds most of them, or the smaller of the distances to either
        side's outer values, or what makes those of the other side 50 units.
        """
        x = np.sort(values)
        n = max(1, math.ceil(_BULK * len(x)))
        widths = x[n - 1 :] - x[: len(x) - n + 1]
        k = int(np.argmin(widths))
        centre = float(x[k] / 2 + x[k + n - 1] / 2)
        near = sorted(abs(float(q) - centre) for q in np.quantile(x, [0.05, 0.95]))
        spread = max(float(widths[k]), near[0])

        def exploded(distance: float) -> bool:
            return distance > _EXPLODED[0] * spread and distance > _EXPLODED[1] * abs(centre)

        if not exploded(near[1]):
            spread = max(spread, near[1] / _LINEAR)
        if spread <= 1e-9 * abs(centre):  # equal, but for rounding
            span = float(x[-1] - x[0])
            spread = span if span > 1e-9 * abs(centre) else (_UNKNOWN * abs(centre) or 1.0)
        sides = [_LINEAR if exploded(d) else math.inf for d in (centre - float(x[0]), float(x[-1]) - centre)]
        return Scale(centre, spread, *sides)

    def to(self, values: Floats) -> Floats:
        """Values on this scale."""
        x = (values - self.centre) / self.spread
        x = np.where(x > self.above, self.above + np.log1p(np.maximum(x - self.above, 0)), x)
        return np.where(x < -self.below, -self.below - np.log1p(np.maximum(-self.below - x, 0)), x)

    def back(self, scaled: Floats) -> Floats:
        """The inverse of :meth:`to`; no larger than what a float can hold."""
        x = np.where(scaled > self.above, self.above + np.expm1(np.clip(scaled - self.above, 0, 500)), scaled)
        x = np.where(x < -self.below, -self.below - np.expm1(np.clip(-self.below - scaled, 0, 500)), x)
        return self.centre + self.spread * x

    def within(self, scaled: Floats, seen: Floats) -> Floats:
        """What is on this scale, cut where it is further out than all that was seen by its range."""
        low, high = float(seen.min()), float(seen.max())
        room = max(1.0, min(high, self.above) - max(low, -self.below))
        # One unit is a factor of e where the scale is logarithmic.
        found: Floats = np.clip(
            scaled, low - (room if low > -self.below else 1.0), high + (room if high < self.above else 1.0)
        )
        return found
