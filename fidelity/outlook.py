"""Where trials are believed to end, from their learning curves alone; knows no configurations, no schedules.

Every observation lies somewhere between nothing and a full evaluation: at the nominal cost of training from
scratch to where it was made. Over this cost the observations of a trial are one curve, whichever axes made
its rungs cheaper, and a full evaluation is at 1.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fidelity.records import StudyView, TrialRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fidelity.extrapolation import Distribution

    Floats = NDArray[np.float64]

# The trials started last are what the next ones will be like: samplers get better.
_RECENT = 20


def course(view: StudyView, record: TrialRecord, metric: int = 0) -> tuple[list[float], list[float]]:
    """Nominal costs, increasing, and losses there; where several curves passed, the newest one counts."""
    name = view.metric_names[metric]
    found: dict[float, float] = {}
    for curve in record.curves:
        for o in curve.observations:
            if name in o.values:
                cost = round(o.epoch * view.axes.epoch_cost(o.fidelity), 12)
                found[cost] = view.signed(o.values[name], metric)
    costs = sorted(found)
    return costs, [found[cost] for cost in costs]


def ends(view: StudyView, metric: int = 0) -> tuple[dict[int, int], Distribution]:
    """The losses that trials would have at full fidelity, learned from the curves of all of them.

    A trial that was evaluated in full has what it had.

    Returns:
        the row of each trial that has a value, by its number, and the distributions, a row for each.

    Raises:
        ValueError: if no trial has a value.
    """
    from fidelity.extrapolation import CurveExtrapolator

    valued = [t for t in view.trials if view.metric_names[metric] in t.values]
    rows = {t.number: k for k, t in enumerate(valued)}
    return rows, CurveExtrapolator().predict([course(view, t, metric) for t in valued], 1.0)


class CurveOutlook:
    """What learning curves say of trials at full fidelity: an :class:`fidelity.records.Outlook`.

    Of several metrics a belief is the mean of them all, each in units of its spread among the trials.
    """

    def __init__(self, view: StudyView) -> None:
        self._view = view

    @functools.cached_property
    def _beliefs(self) -> tuple[dict[int, int], Floats, Floats]:
        """The row of each trial, and means and standard deviations, each (trials,)."""
        found = [ends(self._view, metric) for metric in range(len(self._view.metric_names))]
        rows = found[0][0]
        means = [b.quantiles(0.5) for _, b in found]
        # Half of what holds two thirds: tails would make a standard deviation of what hardly ever happens.
        stds = [np.diff(b.quantiles([0.16, 0.84]))[:, 0] / 2 for _, b in found]
        if len(found) == 1:
            return rows, means[0], stds[0]
        spread = [max(float(mean.std()), 1e-12) for mean in means]
        mean = np.mean([m / s for m, s in zip(means, spread, strict=True)], axis=0)
        variance = np.sum([(d / s) ** 2 for d, s in zip(stds, spread, strict=True)], axis=0)
        return rows, mean, np.sqrt(variance) / len(found)

    def at_horizon(self, records: Sequence[TrialRecord]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the loss of each trial at full fidelity, each of shape (n,)."""
        rows, mean, std = self._beliefs
        at = [rows[record.number] for record in records]
        return mean[at], std[at]

    def fresh(self) -> tuple[float, float]:
        """The same of a configuration yet to be started: as those started last, each believed as it is."""
        _, mean, std = self._beliefs
        recent = slice(-_RECENT, None)
        return float(mean[recent].mean()), float(np.sqrt(mean[recent].var() + np.mean(std[recent] ** 2)))
