"""Checks between which every trial is trained until one stops it: where they lie, and the loop over them.

Knows axes and costs, not what is checked: a judge says whether a trial is stopped.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from fidelity.axes import Axes
from fidelity.records import Fidelity, StudyView, TrialRecord, TrialState
from fidelity.schedulers.base import Action, Resume, Start, Stop, wait_or_done
from fidelity.schedulers.brackets import ladder_of

Judge = Callable[[TrialRecord, Fidelity, Fidelity], tuple[bool, dict[str, Any]]]
"""Of a trial that waits at the first fidelity and would go on to the second: whether it is stopped, and the
figures of that, with a ``why``."""


def checks(axes: Axes, eta: int, grace: float) -> list[Fidelity]:
    """The checks and, last, full fidelity: epochs grow by ``eta``, the other axes stay full.

    None lies before the part ``grace`` of the epochs. Without an axis of epochs there is nothing to check.
    """
    full = axes.full
    epochs = axes.to_dict()["axes"].get("epochs")
    if epochs is None:
        return [full]
    alone = Axes(epochs=epochs["values"] if epochs["listed"] else tuple(epochs["values"]))
    ladder = [f.epochs for f in ladder_of(alone, eta)]
    return [dataclasses.replace(full, epochs=e) for e in ladder if e >= grace * full.epochs]


def check_limits(grace: float, n_startup: int, usual: int) -> None:
    """Refuse settings that make no sense of what both rules of stopping have.

    Args:
        grace: nothing is stopped before this part of the epochs.
        n_startup: nothing is stopped by the example of fewer others.
        usual: the default of ``n_startup``, for the message.

    Raises:
        ValueError: if one is out of its range.
    """
    if not (isinstance(grace, (int, float)) and 0 <= grace < 1):
        raise ValueError(f"grace={grace!r}: must be a part of the epochs, from 0 to below 1.")
    if isinstance(n_startup, bool) or not isinstance(n_startup, int) or n_startup < 1:
        raise ValueError(f"n_startup={n_startup!r}: must be at least 1. The usual number is {usual}.")


def decide(view: StudyView, rungs: Sequence[Fidelity], judge: Judge) -> Action:
    """Judge the paused trials, oldest first; start another one if it can be trained in full.

    Args:
        view: the study.
        rungs: the checks and, last, full fidelity.
        judge: says who is stopped.
    """
    promised = 0.0
    for trial in view.trials:
        if trial.state.finished or trial.fidelity not in rungs[:-1]:
            continue
        k = rungs.index(trial.fidelity)
        promised += cost_along(view, rungs[k:])
        if trial.state is not TrialState.PAUSED:
            continue
        stopped, figures = judge(trial, rungs[k], rungs[k + 1])
        figures = {"rung": k + 1, "of": len(rungs), **figures}
        if stopped:
            return Stop(trial, figures.pop("why"), figures)
        if view.fits(rungs[k + 1], trial):
            return Resume(trial, rungs[k + 1], figures)
    whole = view.forecast(rungs[0]) + cost_along(view, rungs)
    # Less than one full evaluation in all is spent on a short one rather than on nothing.
    enough = promised + whole <= view.budget_left * (1 + 1e-9) + 1e-9 or not view.trials
    if enough and view.starts_left > 0 and view.fits(rungs[0]):
        return Start(rungs[0], figures={"rung": 0, "of": len(rungs)})
    return wait_or_done(view)


def cost_along(view: StudyView, rungs: Sequence[Fidelity]) -> float:
    """What it costs to go on from the first of ``rungs`` to the last, stopping at each."""
    axes = view.axes
    steps = itertools.pairwise(rungs)
    return view.cost_scale * sum(
        axes.nominal_cost(high, since=axes.carried_epoch(low.epochs, low, high)) for low, high in steps
    )
