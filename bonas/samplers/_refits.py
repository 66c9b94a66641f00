"""When a model is fitted anew, and what it then knows; knows records, no models.

An evaluation that takes seconds is not worth a new model: one serves many proposals. So that a study stays
a function of its records, which model that is follows from them alone: the segments that ended, in the
order in which they did, are gone through, and at some of them a model is fitted to what was known then.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fidelity.records import Curve, TrialState

if TYPE_CHECKING:
    from fidelity.records import StudyView, TrialRecord

# A new model for so many more ended segments, as a part of those there were, or for so many full evaluations.
_GROWTH, _COST = 0.08, 0.6


class Refits:
    """Finds the newest fit of a view; what has not changed since is not read again."""

    def __init__(self) -> None:
        self._ends: dict[int, tuple[TrialRecord, list[tuple[int, float]]]] = {}

    def newest(self, view: StudyView) -> tuple[int, int] | None:
        """The watermark of the newest fit and how many segments had ended; None if all is to be known.

        That is so where the segment that closed the newest one was worth a model of its own.
        """
        known, ends = self._ends, {}
        for trial in view.trials:
            found = known.get(id(trial))
            ends[id(trial)] = (trial, _ends(trial)) if found is None else found
        self._ends = ends
        events = sorted(event for _, each in ends.values() for event in each)
        full = view.cost_scale
        fitted, spent, last = 0, 0.0, 0
        alone = True
        for number, (watermark, cost) in enumerate(events, start=1):
            spent += cost
            if number - fitted >= _GROWTH * fitted or spent >= _COST * full:
                alone = number - fitted == 1 and spent >= _COST * full
                fitted, spent, last = number, 0.0, watermark
        return None if alone and fitted == len(events) else (last, fitted)


def until(view: StudyView, watermark: int) -> StudyView:
    """The view as it was at a watermark: of every trial the segments that had ended, or its failure."""
    trials = []
    for trial in view.trials:
        if trial.watermark <= watermark and trial.state.finished:
            trials.append(trial)
            continue
        curves = []
        for curve in trial.curves:
            ended = [
                i
                for i, o in enumerate(curve.observations, start=1)
                if o.watermark <= watermark and o.epoch == o.fidelity.epochs
            ]
            if ended:
                curves.append(Curve(curve.observations[: ended[-1]]))
        if curves:
            state = TrialState.COMPLETE if trial.state is TrialState.COMPLETE else TrialState.PAUSED
            trials.append(dataclasses.replace(trial, curves=tuple(curves), state=state))
    return dataclasses.replace(view, trials=tuple(trials), outlook=None)


def _ends(trial: TrialRecord) -> list[tuple[int, float]]:
    """When each of a trial's segments ended, and what it cost."""
    events, cost = [], 0.0
    for curve in trial.curves:
        for o in curve.observations:
            cost += o.cost
            if o.epoch == o.fidelity.epochs:
                events.append((o.watermark, cost))
                cost = 0.0
    if trial.state is TrialState.FAIL:
        events.append((trial.watermark, trial.lost))
    return events
