"""What the surrogate believes of trials at full fidelity, for schedulers; knows no schedule.

Nothing is fitted before a scheduler asks, and then once for each state of the records.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bonas.surrogate import Encoder, Surrogate
    from fidelity.records import StudyView, TrialRecord
    from spaces import Space

    Floats = NDArray[np.float64]

# The trials started last are what the next ones will be like: samplers get better.
_RECENT = 20


class Outlooks:
    """Makes the outlook of one view after another; remembers how configurations are encoded."""

    def __init__(self, space: Space) -> None:
        self._space = space

    @functools.cached_property
    def encoder(self) -> Encoder:
        """Configurations as numbers."""
        from bonas.surrogate import Encoder  # scikit-learn takes a second to load

        return Encoder(self._space)

    def of(self, view: StudyView) -> SurrogateOutlook:
        """The outlook as of a view."""
        return SurrogateOutlook(self, view)


class SurrogateOutlook:
    """What a forest that learned from every observation predicts at full fidelity.

    It is the forest of :class:`bonas.samplers.ForestSampler`, whatever the study's sampler is, and a function
    of the records. With several metrics their scores are scalarised with equal weights.
    """

    def __init__(self, made_by: Outlooks, view: StudyView) -> None:
        self._made_by = made_by
        self._view = view

    @functools.cached_property
    def _surrogate(self) -> Surrogate | None:
        from bonas.surrogate import Surrogate

        if not any(all(name in t.values for name in self._view.metric_names) for t in self._view.trials):
            return None
        return Surrogate(self._made_by.encoder, self._view, np.random.default_rng(0), n_process=0)

    def at_horizon(self, records: Sequence[TrialRecord]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of each trial's loss at full fidelity, each of shape (n,)."""
        if self._surrogate is None or not records:
            return np.zeros(len(records)), np.ones(len(records))
        encoded = self._made_by.encoder.remembered([record.params for record in records])
        return self._surrogate.predict_encoded(encoded)

    def fresh(self) -> tuple[float, float]:
        """The same of a configuration yet to be started: as those started last, each believed as it is."""
        recent = [t for t in self._view.trials if t.values][-_RECENT:]
        if not recent:
            return 0.0, 1.0
        mean, std = self.at_horizon(recent)
        return float(mean.mean()), float(np.sqrt(mean.var() + np.mean(std**2)))
