"""When a model is fitted anew, and what it then knows; knows records, no models.

An evaluation that takes seconds is not worth a new model: one serves many proposals. So that a study stays
a function of its records, which model that is follows from them alone: the segments that ended, in the
order in which they did, are gone through, and at some of them a model is fitted to what was known then.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from fidelity.changes import Changes
from fidelity.records import Curve, TrialState, as_of

if TYPE_CHECKING:
    from fidelity.records import StudyView, TrialRecord

# A new model for so many more ended segments, as a part of those there were, or for so many full evaluations.
_GROWTH, _COST = 0.08, 0.6

_End = tuple[int, float]
"""The watermark at which a segment ended, and what it cost."""


class Refits:
    """Finds the newest fit of a view; what has not changed since is not gone through again."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._ends: list[list[_End]] = []
        """Of each trial."""
        self._walk = _Walk()

    def newest(self, view: StudyView) -> tuple[int, int] | None:
        """The watermark of the newest fit and how many segments had ended; None if all is to be known.

        That is so where the segment that closed the newest one was worth a model of its own.
        """
        changed = self._changes.since(view.trials, view.cost_scale)
        ends, new = self._ends[: len(view.trials)], []
        goes_on = len(ends) == len(self._ends) and len(changed) < len(view.trials)
        for i in changed:
            now = _ends(view.trials[i])
            before = ends[i] if i < len(ends) else []
            goes_on = goes_on and now[: len(before)] == before
            new += now[len(before) :]
            ends[i : i + 1] = [now]
        new.sort()
        if not goes_on or (new and new[0] < self._walk.latest):
            self._walk, new = _Walk(), sorted(end for each in ends for end in each)
        for end in new:
            self._walk.step(end, view.cost_scale)
        self._ends = ends
        self._changes.read(view.trials, view.cost_scale)
        return self._walk.newest


class _Walk:
    """Goes through segments in the order in which they ended."""

    def __init__(self) -> None:
        self.latest: _End = (0, -math.inf)
        self._number = self._fitted = self._watermark = 0
        self._spent, self._alone = 0.0, True

    def step(self, end: _End, full: float) -> None:
        """One more has ended; ``full`` is what a full evaluation costs."""
        self.latest = end
        self._number += 1
        self._spent += end[1]
        new = self._number - self._fitted
        if new >= _GROWTH * self._fitted or self._spent >= _COST * full:
            self._alone = new == 1 and self._spent >= _COST * full
            self._fitted, self._spent, self._watermark = self._number, 0.0, end[0]

    @property
    def newest(self) -> tuple[int, int] | None:
        """As :meth:`Refits.newest`."""
        fresh = self._alone and self._fitted == self._number
        return None if fresh else (self._watermark, self._fitted)


def until(view: StudyView, watermark: int) -> StudyView:
    """The view as it was at a watermark: of every trial the segments that had ended, or its failure."""
    full, trials = view.axes.full, []
    for trial in view.trials:
        then: TrialRecord | None = trial
        if trial.watermark > watermark or not trial.state.finished:
            then = as_of(trial, watermark, full)
            then = None if then is None else _ended(then)
        if then is not None:
            trials.append(then)
    return dataclasses.replace(view, trials=tuple(trials), outlook=None)


def _ended(trial: TrialRecord) -> TrialRecord | None:
    """A trial without what was observed in a segment that did not end: it may be observed again."""
    if all(o[-1].epoch == o[-1].fidelity.epochs for curve in trial.curves if (o := curve.observations)):
        return trial
    curves = []
    for curve in trial.curves:
        ended = [i for i, o in enumerate(curve.observations, start=1) if o.epoch == o.fidelity.epochs]
        if ended:
            curves.append(Curve(curve.observations[: ended[-1]]))
    return dataclasses.replace(trial, curves=tuple(curves)) if curves else None


def _ends(trial: TrialRecord) -> list[_End]:
    """When each of a trial's segments ended, and what it cost."""
    events: list[_End] = []
    cost = 0.0
    for curve in trial.curves:
        for o in curve.observations:
            cost += o.cost
            if o.epoch == o.fidelity.epochs:
                events.append((o.watermark, cost))
                cost = 0.0
    if trial.state is TrialState.FAIL:
        events.append((trial.watermark, trial.lost))
    return events
