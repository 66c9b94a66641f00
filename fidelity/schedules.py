"""The learning rate over a training, as a function of the epochs trained and of nothing else.

Knows no optimizers: rates are relative to the highest one. A training that pauses, or whose subset of
the data grows, stays on the same schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

WARMUP = 0.05  # part of the horizon
_COOLDOWN = 0.2  # part of what follows the warm-up


def _cosine(progress: float) -> float:
    """Half a cosine down to 0 (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def _linear(progress: float) -> float:
    """A straight line down to 0."""
    return 1 - progress


def _warmup_stable_decay(progress: float) -> float:
    """Constant, then a straight line to 0 over the last fifth (Hu et al. 2024, arXiv:2404.06395)."""
    return min(1.0, (1 - progress) / _COOLDOWN)


SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "warmup_stable_decay": _warmup_stable_decay,
}
"""From the progress after the warm-up, in [0, 1], to the rate in [0, 1]; 1 at 0 and 0 at 1."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate from the first epoch to the horizon: a linear warm-up, then one of ``SCHEDULES``."""

    horizon: float
    """Epochs of the whole training, more than 0."""
    name: str = "cosine"
    warmup: float | None = None
    """Epochs of warm-up; None for a twentieth of the horizon."""

    @property
    def warmed_up(self) -> float:
        """Epochs after which the warm-up is over."""
        return WARMUP * self.horizon if self.warmup is None else self.warmup

    def rate(self, epochs: float) -> float:
        """The learning rate, relative to its highest, after some epochs, fractions included."""
        warmup = self.warmed_up
        if epochs < warmup:
            return epochs / warmup
        return SCHEDULES[self.name](min(1.0, (epochs - warmup) / max(self.horizon - warmup, 1e-9)))

    def progress(self, epochs: float) -> float:
        """The part of the whole training that is done after some epochs, in [0, 1]."""
        return min(1.0, epochs / self.horizon)
