"""What a budget will run, told before it runs: the study's own scheduler, played with made-up values.

Knows records, schedulers and costs; runs no objective and writes nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas.fidelity_report import macs
from bonas.leaderboard import cost_unit, describe_fidelity, format_seconds
from fidelity._text import TextTable
from fidelity.costs import CostModel
from fidelity.records import (
    CheckpointRecord,
    Curve,
    Fidelity,
    Observation,
    StudyView,
    TrialRecord,
    TrialState,
)
from fidelity.schedulers import Resume, Scheduler, Start, Stop

if TYPE_CHECKING:
    import pandas as pd

    from bonas.study import Study

MOST = 2000
"""Segments that are played; longer plans end there and say so."""
_TYPICAL = 64  # configurations drawn from the prior to know what a new one takes


@dataclass(frozen=True, slots=True)
class PlannedRung:
    """What a budget will run at one fidelity."""

    fidelity: Fidelity
    name: str
    """The fidelity in words."""
    trials: int
    """Segments that end there: configurations started there or resumed to it."""
    epochs: int
    """Epochs they train in all; those carried over from lower rungs are not trained again."""
    cost: float
    """What they cost in all, in the study's unit."""
    seconds: float
    """What they are expected to take in all, one after the other; NaN as long as nothing was timed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What :meth:`bonas.Study.plan` returns: prints itself as a statement and a table."""

    study_name: str
    rungs: tuple[PlannedRung, ...]
    """Cheapest first."""
    started: int
    """Configurations that will be started."""
    limits: str
    unit: str
    complete: bool
    """False if it ends at the largest number of segments that are played, not at the limits."""

    @property
    def cost(self) -> float:
        """What everything that is still to run costs, in the study's unit."""
        return sum(rung.cost for rung in self.rungs)

    @property
    def seconds(self) -> float:
        """What it is expected to take on one worker; NaN as long as nothing was timed."""
        return sum(rung.seconds for rung in self.rungs)

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return self._table().html()

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each rung."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"rung": r.name, "trials": r.trials, "epochs": r.epochs, "cost": r.cost, "seconds": r.seconds}
                for r in self.rungs
            ]
        )

    def _table(self) -> TextTable:
        rows = [(r.name, str(r.trials), str(r.epochs), f"{r.cost:.3g}", _time(r.seconds)) for r in self.rungs]
        total = sum(r.trials for r in self.rungs), sum(r.epochs for r in self.rungs)
        rows.append(("in all", str(total[0]), str(total[1]), f"{self.cost:.3g}", _time(self.seconds)))
        notes = [] if self.complete else [f"And so on: only the first {MOST:,} segments are told."]
        if math.isnan(self.seconds):
            notes.append("Seconds are known once something has been trained.")
        return TextTable(
            title=f"{self.study_name}, {self.statement}",
            headings=("trained to", "trials", "epochs", "cost", "expected time"),
            rows=tuple(rows),
            notes=tuple(notes),
            left=("trained to",),
        )

    @property
    def statement(self) -> str:
        """The plan in one sentence."""
        if not self.rungs:
            return f"{self.limits}: nothing is left to run."
        steps = [f"{r.trials} {'is' if r.trials == 1 else 'are'} trained to {r.name}" for r in self.rungs]
        told = f"{self.started} new configuration{'s' * (self.started != 1)}; {', '.join(steps)}"
        time = "" if math.isnan(self.seconds) else f", about {format_seconds(self.seconds)} on one worker"
        return f"{self.limits}: {told}. It costs {self.cost:.3g} {self.unit}{time}."


def plan(study: Study, budget: float | None, n_trials: int | None) -> Plan:
    """See :meth:`bonas.Study.plan`."""
    if budget is None and n_trials is None:
        raise ValueError(
            "plan(): without a limit a search never ends. Give plan(budget=...) or n_trials=...."
        )
    view = study.limited_view(n_trials, budget)
    segments = _play(study.scheduler, view, study.space.default, study.space.size)
    played = list(itertools.islice(segments, MOST + 1))
    complete = len(played) <= MOST
    played = played[:MOST]
    seconds = _Seconds(study, view)
    found: dict[Fidelity, list[_Step]] = {}
    for step in played:
        found.setdefault(step.fidelity, []).append(step)
    rungs = []
    for at in sorted(found, key=view.axes.nominal_cost):
        steps = found[at]
        rungs.append(
            PlannedRung(
                fidelity=at,
                name=describe_fidelity(view.axes, at),
                trials=len(steps),
                epochs=sum(at.epochs - step.since for step in steps),
                cost=sum(step.cost for step in steps),
                seconds=sum(map(seconds, steps)),
            )
        )
    limits = [f"budget {budget:g}"] if budget is not None else []
    limits += [f"{n_trials} trials"] if n_trials is not None else []
    started = sum(step.new for step in played)
    return Plan(study.study_name, tuple(rungs), started, " and ".join(limits), cost_unit(view.axes), complete)


@dataclass(frozen=True, slots=True)
class _Step:
    """One segment that was played."""

    trial: int
    new: bool
    fidelity: Fidelity
    since: int
    """Epochs that are carried over."""
    cost: float


def _play(scheduler: Scheduler, view: StudyView, params: dict[str, Any], size: float) -> Iterator[_Step]:
    """Every segment that the scheduler would run, one after the other.

    New trials have made-up qualities, which every rung shows as they are: no rung is dropped for its ranks.
    Running trials count as ended where they were to end.
    """
    rng = np.random.default_rng(0)
    trials = [_ended(t, view) if t.state == TrialState.RUNNING else t for t in view.trials]
    waiting = [t for t in trials if t.unfinished and t.state == TrialState.PAUSED]
    left: dict[str, Any] = {
        "starts_left": min(view.starts_left, size - len(trials)),
        "budget_left": view.budget_left,
    }

    def run(record: TrialRecord, to: Fidelity, *, new: bool) -> _Step:
        cost = view.forecast(to, None if new else record)
        since = 0
        if record.checkpoint is not None:
            since = view.axes.carried_epoch(record.checkpoint.epoch, record.checkpoint.fidelity, to)
        ended = _ended(dataclasses.replace(record, fidelity=to, unfinished=False), view, rng)
        if new:
            trials.append(ended)
            left["starts_left"] -= 1
        else:
            trials[record.number] = ended
        left["budget_left"] -= cost
        return _Step(record.number, new, to, since, cost)

    while True:
        now = dataclasses.replace(view, trials=tuple(trials), **left)
        if waiting:
            record = waiting.pop(0)
            if not now.fits(record.fidelity, record):
                break
            yield run(record, record.fidelity, new=False)
            continue
        match scheduler.decide(now, np.random.default_rng([0, len(trials)])):
            case Start(to, parent, figures) if left["starts_left"] > 0 and now.fits(to):
                number = len(trials)
                fresh = TrialRecord(
                    number,
                    params,
                    f"planned-{number}",
                    TrialState.RUNNING,
                    to,
                    parent=parent,
                    figures=figures,
                )
                yield run(fresh, to, new=True)
            case Resume(record, to) if now.fits(to, record):
                yield run(trials[record.number], to, new=False)
            case Stop(record, reason):
                stopped = dataclasses.replace(record, state=TrialState.PRUNED, reason=reason)
                trials[record.number] = stopped
            case _:
                break


def _ended(record: TrialRecord, view: StudyView, rng: np.random.Generator | None = None) -> TrialRecord:
    """The trial as it will be when its segment has ended: with the value it has, or a made-up one."""
    values = dict(record.values)
    if not values:
        draw = 0.0 if rng is None else float(rng.normal())
        values = dict.fromkeys(view.metric_names, draw)
    at = record.fidelity
    last = Observation(at.epochs, values, 0.0, at)
    full = at == view.axes.full
    return dataclasses.replace(
        record,
        state=TrialState.COMPLETE if full else TrialState.PAUSED,
        curves=(*record.curves, Curve((last,))),
        checkpoint=CheckpointRecord(at.epochs, at, "planned", "", 0),
        owner=None,
        attempt=max(1, record.attempt),
    )


class _Seconds:
    """Expected seconds of segments: of a trial by its own size, of new ones by that of some drawn."""

    def __init__(self, study: Study, view: StudyView) -> None:
        self._model = CostModel.of(view.trials, view.axes, lambda record: macs(study, record.params))
        self._known = {t.number: macs(study, t.params) for t in view.trials}
        drawn = study.space.sample(_TYPICAL, np.random.default_rng(0)) if self._model.trials else []
        # New ones are as the prior draws them; those of them that are promoted may be larger or smaller.
        self._drawn = [size for size in (macs(study, params) for params in drawn) if size > 0]
        self._expected: dict[tuple[Fidelity, int], float] = {}

    def __call__(self, step: _Step) -> float:
        if step.trial in self._known:
            return self._model.seconds(step.fidelity, step.since, self._known[step.trial])
        at = (step.fidelity, step.since)
        if at not in self._expected:
            each = [self._model.seconds(*at, size) for size in self._drawn] or [self._model.seconds(*at)]
            self._expected[at] = statistics.fmean(each)
        return self._expected[at]


def _time(seconds: float) -> str:
    return "-" if math.isnan(seconds) else format_seconds(seconds)
