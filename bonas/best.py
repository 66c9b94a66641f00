"""Which trials are best by what they reported; knows records only, and no beliefs about them."""

from __future__ import annotations

import numpy as np

from fidelity.records import StudyView, TrialRecord, TrialState


def best(view: StudyView) -> TrialRecord | None:
    """The best COMPLETE trial; before one exists the best at the highest fidelity; None without values."""
    valued = [t for t in view.trials if t.values and t.state not in (TrialState.FAIL, TrialState.INFEASIBLE)]
    chosen = [t for t in valued if t.state == TrialState.COMPLETE]
    if not chosen and valued:
        highest = max(_reached(view, t) for t in valued)
        chosen = [t for t in valued if _reached(view, t) == highest]
    return view.ranked(chosen)[0] if chosen else None


def front(view: StudyView) -> list[TrialRecord]:
    """The COMPLETE trials that no other one dominates."""
    complete = [t for t in view.trials if t.state == TrialState.COMPLETE]
    losses = np.array([view.losses(t) for t in complete]).reshape(len(complete), len(view.directions))
    found = []
    for record, loss in zip(complete, losses, strict=True):
        no_worse, better = (losses <= loss).all(axis=1), (losses < loss).any(axis=1)
        if not (no_worse & better).any():
            found.append(record)
    return found


def _reached(view: StudyView, record: TrialRecord) -> float:
    last = record.last
    return 0.0 if last is None else last.epoch * view.axes.epoch_cost(last.fidelity)
