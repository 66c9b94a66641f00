"""What searches had found by when, with intervals over seeds; knows lists of reports, no methods."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from real_training.meter import Report

LEVEL = 0.95  # of the intervals

Steps = list[tuple[float, float]]
"""Seconds and the accuracy from then on."""


def best(reports: Sequence[Report]) -> Steps:
    """Accuracy of the best trial among those trained furthest: of a full evaluation, once there is one."""
    steps: Steps = []
    top = (0, 0.0)
    for report in reports:
        if (report.epoch, report.accuracy) > top:
            top = report.epoch, report.accuracy
            _step(steps, report.at, report.accuracy)
    return steps


def latest(reports: Sequence[Report]) -> Steps:
    """The best of all trials' latest accuracies, at whatever epoch; falls when a trial's does."""
    steps: Steps = []
    accuracies: dict[int, float] = {}
    for report in reports:
        accuracies[report.trial] = report.accuracy
        _step(steps, report.at, max(accuracies.values()))
    return steps


def _step(steps: Steps, at: float, accuracy: float) -> None:
    if not steps or steps[-1][1] != accuracy:
        steps.append((at, accuracy))


def at(steps: Sequence[Sequence[float]], seconds: float, nothing: float) -> float:
    """The accuracy after some seconds; ``nothing`` before there is one."""
    reached = bisect_right([step[0] for step in steps], seconds)
    return steps[reached - 1][1] if reached else nothing


def seconds_to(steps: Sequence[Sequence[float]], accuracy: float) -> float:
    """Seconds after which an accuracy was first reached; infinity if it never was."""
    return next((float(seconds) for seconds, reached in steps if reached >= accuracy), float("inf"))


def interval(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over runs (the first axis), and half the widths of their 95 % intervals by Student's t.

    Of a single run the half-width is NaN.
    """
    n = len(values)
    if n < 2:
        return values.mean(axis=0), np.full(values.shape[1:], np.nan)
    error = values.std(axis=0, ddof=1) / np.sqrt(n)
    return values.mean(axis=0), stats.t.ppf((1 + LEVEL) / 2, n - 1) * error
