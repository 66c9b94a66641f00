"""Which trials of a study are better than others, at any fidelity they reached; knows no method of search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fidelity.pareto import front_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fidelity.records import Fidelity, StudyView, TrialRecord


def valued(view: StudyView) -> list[TrialRecord]:
    """The trials that have a value of every metric, in order of their numbers."""
    return [trial for trial in view.trials if all(name in trial.values for name in view.metric_names)]


def reached(view: StudyView, trials: Sequence[TrialRecord]) -> list[float]:
    """How far each valued trial was evaluated: the nominal cost of getting to its latest observation."""
    costs: dict[tuple[Fidelity, int], float] = {}
    far = []
    for trial in trials:
        last = trial.last
        assert last is not None
        at = (last.fidelity, last.epoch)
        if at not in costs:
            costs[at] = round(last.epoch * view.axes.epoch_cost(last.fidelity), 9)
        far.append(costs[at])
    return far


def undominated(view: StudyView, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Of the valued trials that reached the highest fidelity, those that no other one dominates.

    With one metric these are the best, more than one only if their values are equal.
    """
    far = np.array(reached(view, trials))
    highest = [trials[i] for i in np.flatnonzero(far == far.max()).tolist()]
    fronts = front_numbers(np.array([view.losses(trial) for trial in highest]))
    return [highest[i] for i in np.flatnonzero(fronts == 0).tolist()]
