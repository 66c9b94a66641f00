"""Any method that is asked and told, answered by a table; knows no schedulers and samplers of bonas."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from multifidelity.meter import Meter
from multifidelity.trace import Segment, Trace

if TYPE_CHECKING:
    from multifidelity.method import Method
    from multifidelity.task import Task


def play(task: Task, method: Method, budget: float) -> Trace:
    """One search on one worker: until the budget is spent, what began within it being finished.

    Args:
        task: searched along its epochs alone, everything else in full.
        method: asked what to train, told the values.
        budget: in full evaluations.
    """
    trace, rows, reached, visited = Trace(), [], [], set[int]()
    full, cost, clock = task.axes.full, 0.0, 0.0
    told: tuple[int, int, list[float]] | None = None
    meter = Meter()
    while cost < budget * (1 - 1e-9):
        with meter:
            if told is not None:
                trial, epochs, values = told
                method.tell(trial, task.params(rows[trial]), epochs, values)
            proposal = method.ask()
        if proposal is None or (proposal.trial is None and len(visited) == len(task)):
            break
        if not 1 <= proposal.epochs <= task.epochs:
            raise ValueError(f"epochs={proposal.epochs}: must lie between 1 and {task.epochs}.")
        trial = len(rows) if proposal.trial is None else proposal.trial
        if proposal.trial is None:
            rows.append(task.row(proposal.params, visited))
            visited.add(rows[-1])
            reached.append(0)
        since = 0 if proposal.restart else reached[trial]
        if proposal.epochs <= since:
            raise ValueError(f"epochs={proposal.epochs}: trial {trial} is there already. Ask for more.")
        to = dataclasses.replace(full, epochs=proposal.epochs)
        values, seconds = task.train(rows[trial], [full] * since, to)
        diverged = len(values) < proposal.epochs - since
        trained = len(values) + diverged
        cost += trained / task.epochs
        clock += trained / task.epochs if seconds is None else sum(seconds) / task.mean_seconds
        reached[trial] = max(reached[trial], since + len(values))
        value = math.nan if diverged or not values else values[-1]
        level = proposal.epochs / task.epochs
        trace.segments.append(Segment(clock, cost, rows[trial], since + len(values), level, value))
        told = trial, proposal.epochs, values
    trace.ms = meter.ms
    return trace
