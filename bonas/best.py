"""Which trials are best by what they reported; knows records only, and no beliefs about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fidelity.pareto import front_numbers
from fidelity.records import StudyView, TrialRecord, TrialState


def best(view: StudyView) -> TrialRecord | None:
    """The best COMPLETE trial; before one exists the best at the highest fidelity; None without values."""
    chosen = comparable(view)
    return view.ranked(chosen)[0] if chosen else None


def comparable(view: StudyView) -> list[TrialRecord]:
    """The COMPLETE trials; before one exists those with a value at the highest fidelity reached."""
    valued = [t for t in view.trials if t.values and t.state not in (TrialState.FAIL, TrialState.INFEASIBLE)]
    complete = [t for t in valued if t.state == TrialState.COMPLETE]
    if complete or not valued:
        return complete
    highest = max(_reached(view, t) for t in valued)
    return [t for t in valued if _reached(view, t) == highest]


def front(view: StudyView) -> list[TrialRecord]:
    """The COMPLETE trials that no other one dominates."""
    return undominated(view, [t for t in view.trials if t.state == TrialState.COMPLETE])


def undominated(view: StudyView, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those of the records that no other of them dominates, in their order."""
    losses = np.array([view.losses(t) for t in records]).reshape(len(records), len(view.metric_names))
    return [t for t, number in zip(records, front_numbers(losses), strict=True) if number == 0]


def _reached(view: StudyView, record: TrialRecord) -> float:
    last = record.last
    return 0.0 if last is None else last.epoch * view.axes.epoch_cost(last.fidelity)
