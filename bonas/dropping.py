"""Whose checkpoints are of least use, where there is no room for all; knows records and no files."""

from __future__ import annotations

from collections.abc import Iterable

from bonas.best import best, comparable, undominated
from fidelity.records import StudyView, TrialRecord, TrialState

_LOST = (TrialState.FAIL, TrialState.INFEASIBLE, TrialState.PRUNED)


def drop_order(view: StudyView) -> list[int]:
    """Numbers of the trials whose checkpoints may be dropped, in the order in which they should go.

    First finished trials, which will never go on: those without a usable value, then the worst. Then paused
    ones, those of earlier brackets first, on the lowest rung first and of each rung the worst first;
    interrupted ones, which will certainly go on, last. Those that run are left alone, and so are the best
    one and the Pareto front.
    """
    several = len(view.metric_names) > 1
    kept = undominated(view, comparable(view)) if several else [t for t in [best(view)] if t is not None]
    spared = {t.number for t in kept}
    saved = [t for t in view.trials if t.checkpoint is not None and t.number not in spared]
    paused = [t for t in saved if t.state == TrialState.PAUSED]
    newest = max(map(_bracket, view.trials), default=0)
    return [
        *(t.number for t in saved if t.state in _LOST),
        *_worst_first(view, (t for t in saved if t.state == TrialState.COMPLETE)),
        *_worst_first(view, (t for t in paused if not t.unfinished and _bracket(t) < newest)),
        *_worst_first(view, (t for t in paused if not t.unfinished and _bracket(t) == newest)),
        *_worst_first(view, (t for t in paused if t.unfinished)),
    ]


def _bracket(record: TrialRecord) -> int:
    """The bracket that its scheduler started it in, where it has any."""
    number = record.figures.get("bracket", 0)
    return number if isinstance(number, int) else 0


def _worst_first(view: StudyView, records: Iterable[TrialRecord]) -> list[int]:
    """From the lowest rung to the highest, on each from the worst to the best."""
    rungs: dict[float, list[TrialRecord]] = {}
    for record in records:
        last = record.last
        reached = 0.0 if last is None else last.epoch * view.axes.epoch_cost(last.fidelity)
        rungs.setdefault(reached, []).append(record)
    return [t.number for reached in sorted(rungs) for t in reversed(view.ranked(rungs[reached]))]
