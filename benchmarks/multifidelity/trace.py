"""What a search did, segment by segment, and whom it would have recommended when; knows no methods."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Change = tuple[float, float, int]
"""Cost and time from which on a row is the chosen one."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One training from a start or a checkpoint to the next decision."""

    time: float
    """On the virtual clock when it ended, in mean full evaluations."""
    cost: float
    """Of all segments that had ended by then, in full evaluations."""
    row: int
    epoch: int
    """The last one that was completed."""
    level: float
    """Nominal cost of its whole fidelity: 1 is full fidelity."""
    value: float
    """After the last epoch; NaN if the training diverged."""


@dataclass(slots=True)
class Trace:
    """All segments of a search in the order in which they ended."""

    segments: list[Segment] = field(default_factory=list)
    worked: float = 0.0
    """How long workers trained in all, on the virtual clock."""
    ms: float = 0.0
    """Of processor time that deciding took in all: scheduler and sampler together."""

    @property
    def cost(self) -> float:
        """In all, in full evaluations."""
        return self.segments[-1].cost if self.segments else 0.0

    def incumbents(self, *, maximize: bool) -> list[Change]:
        """Each new incumbent: the trial whose latest value is best, at whatever fidelity."""
        sign = 1 if maximize else -1
        return self._changes(lambda s: (0.0, sign * s.value))

    def recommended(self, *, maximize: bool) -> list[Change]:
        """Likewise by the rule of ``study.best_trial``: the best at the highest fidelity that was reached."""
        sign = 1 if maximize else -1
        return self._changes(lambda s: (s.level, sign * s.value))

    def seen(self, *, maximize: bool) -> list[tuple[float, float, float]]:
        """Cost, time and value whenever a segment ended with a better value than any before."""
        found: list[tuple[float, float, float]] = []
        for s in self.segments:
            if math.isnan(s.value):
                continue
            if not found or (s.value > found[-1][2] if maximize else s.value < found[-1][2]):
                found.append((s.cost, s.time, s.value))
        return found

    def _changes(self, worth: Callable[[Segment], tuple[float, float]]) -> list[Change]:
        latest: dict[int, tuple[float, float]] = {}
        found: list[Change] = []
        best: int | None = None
        for s in self.segments:
            before = best
            if math.isnan(s.value):
                latest.pop(s.row, None)
            else:
                latest[s.row] = worth(s)
            if best == s.row:  # it may have become worse than another
                best = max(latest, key=lambda row: latest[row], default=None)
            elif s.row in latest and (best is None or latest[s.row] > latest[best]):
                best = s.row
            if best is not None and best != before:
                found.append((s.cost, s.time, best))
        return found
