"""A scheduler and a sampler of bonas on records alone, under a virtual clock; knows no other methods.

No study and no store: what is asked, and with which generator, is what ``bonas.asking`` asks. Trials run
until their segment's end on the clock; meanwhile they are seen as RUNNING, with what they reported before.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fidelity.records import (
    CheckpointRecord,
    Curve,
    Fidelity,
    Observation,
    StudyView,
    TrialRecord,
    TrialState,
)
from fidelity.schedulers import Resume, Start, Stop
from multifidelity.meter import Meter
from multifidelity.pool import Pool
from multifidelity.trace import Segment, Trace

if TYPE_CHECKING:
    from bonas.samplers import Sampler
    from fidelity.axes import Axes
    from fidelity.schedulers import Scheduler
    from multifidelity.task import Task

METRIC = "value"


@dataclass(frozen=True)
class Workers:
    """Who trains: under the virtual clock a segment takes as long as its epochs do in the table."""

    n: int = 1
    spread: float = 0.0
    """Standard deviation of the logarithm of how much longer a segment takes than that: stragglers."""


@dataclass(frozen=True, slots=True)
class _Training:
    """A segment that runs; what it will come to is known already, and told when the clock says so."""

    number: int
    carried: int
    """The epoch from which it goes on."""
    values: list[float]
    seconds: list[float] | None
    cost: float
    reserved: float


@dataclass
class Simulation:
    """One search of a task.

    Args:
        task: searched.
        scheduler: decides what runs next.
        sampler: proposes configurations, the very first one too.
        seed: ask k draws from ``default_rng([seed, k])``, as in a study.
        budget: in full evaluations of nominal cost, running segments reserved.
        axes: those that the search uses; the task's by default.
        workers: how many run at once.
        n_trials: configurations started at most.
        pool: whether only the rows of the table are proposed.
    """

    task: Task
    scheduler: Scheduler
    sampler: Sampler
    seed: int
    budget: float
    axes: Axes | None = None
    workers: Workers = field(default_factory=Workers)
    n_trials: float = math.inf
    pool: bool = False
    records: list[TrialRecord] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)

    def __post_init__(self) -> None:
        self._axes = self.axes or self.task.axes
        self._rows: list[int] = []  # of each trial
        self._visited: set[int] = set()
        self._clock = self._spent = self._reserved = 0.0
        self._decisions = self._changes = 0
        self._exhausted = False
        self._space = Pool(self.task) if self.pool else self.task.space
        self._running: list[tuple[float, int, _Training]] = []
        self._meter = Meter()

    def run(self) -> Trace:
        """Until nothing can run any more."""
        while True:
            while len(self._running) < self.workers.n and self._ask():
                pass
            if not self._running:
                self.trace.ms = self._meter.ms
                return self.trace
            self._end()

    def view(self) -> StudyView:
        """What scheduler and sampler see now."""
        return StudyView(
            trials=tuple(self.records),
            axes=self._axes,
            directions=(self.task.direction,),
            metric_names=(METRIC,),
            starts_left=0 if self._exhausted else self.n_trials - len(self.records),
            budget_left=self.budget - self._spent - self._reserved,
        )

    def _ask(self) -> bool:
        """Begin one segment; False if none can begin now."""
        self._changes += 1  # what one ask writes is one change
        while True:
            view, rng = self.view(), np.random.default_rng([self.seed, self._decisions])
            with self._meter:
                action = self.scheduler.decide(view, rng)
            match action:
                case Start(fidelity):
                    if not (view.starts_left > 0 and view.fits(fidelity)):
                        return False
                    if self._start(action, view, rng):
                        return True
                    self._exhausted = True  # what is paused may still be resumed
                case Resume(trial, fidelity):
                    if not view.fits(fidelity, trial):
                        return False
                    self._begin(self._paused(trial), fidelity)
                    return True
                case Stop(trial, reason):
                    paused = self._paused(trial)
                    self._put(dataclasses.replace(paused, state=TrialState.PRUNED, reason=reason))
                    self._decisions += 1
                case _:
                    return False

    def _paused(self, trial: TrialRecord) -> TrialRecord:
        record = self.records[trial.number]
        assert record.state == TrialState.PAUSED, f"trial {record.number} is {record.state.value}"
        return record

    def _start(self, action: Start, view: StudyView, rng: np.random.Generator) -> bool:
        if len(self._visited) == len(self.task):
            return False
        seed = getattr(self.sampler, "seed", None)
        with self._meter:
            params = self.sampler.sample(
                self._space, view, rng if seed is None else np.random.default_rng([seed, self._decisions])
            )
        if params is None:
            return False
        number, row = len(self.records), self.task.row(params, self._visited)
        self._rows.append(row)
        self._visited.add(row)
        record = TrialRecord(
            number=number,
            params=self.task.params(row),
            key=self.task.key(row),
            state=TrialState.RUNNING,
            fidelity=action.fidelity,
            seed=int(np.random.SeedSequence([self.seed, number, 0x747269616C]).generate_state(1)[0]),
            parent=action.parent,
            figures=action.figures,
        )
        self._begin(record, action.fidelity)
        return True

    def _begin(self, record: TrialRecord, to: Fidelity) -> None:
        """Hand a trial out."""
        axes, saved = self._axes, record.checkpoint
        carried = 0 if saved is None else axes.carried_epoch(saved.epoch, saved.fidelity, to)
        before = record.curves[-1].observations[:carried] if carried else ()
        values, seconds = self.task.train(self._rows[record.number], [o.fidelity for o in before], to)
        epoch_cost = axes.epoch_cost(to)
        reserved = axes.nominal_cost(to, since=carried)
        diverged = len(values) < to.epochs - carried
        cost = epoch_cost * (len(values) + diverged)
        running = dataclasses.replace(
            record, state=TrialState.RUNNING, fidelity=to, attempt=1, owner="worker", reason=None
        )
        self._put(running)
        takes = cost if seconds is None else sum(seconds) / self.task.mean_seconds
        if self.workers.spread:
            luck = np.random.default_rng([self.seed, self._decisions, 0x636C6F636B])
            takes *= math.exp(self.workers.spread * luck.standard_normal())
        self._decisions += 1
        self._reserved += reserved
        self.trace.worked += takes
        training = _Training(record.number, carried, values, seconds, cost, reserved)
        heapq.heappush(self._running, (self._clock + takes, self._decisions, training))

    def _end(self) -> None:
        """The next segment to end ends."""
        self._clock, _, training = heapq.heappop(self._running)
        self._spent += training.cost
        self._reserved -= training.reserved
        self._changes += 1
        record = self._told(training)
        self._put(record)
        failed, last = record.state == TrialState.FAIL, record.last
        self.trace.segments.append(
            Segment(
                time=self._clock,
                cost=self._spent,
                row=self._rows[record.number],
                epoch=0 if last is None else last.epoch,
                level=self._axes.nominal_cost(record.fidelity),
                value=math.nan if failed or last is None else last.values[METRIC],
            )
        )

    def _told(self, training: _Training) -> TrialRecord:
        """The record with what its segment came to."""
        record, carried, seconds = self.records[training.number], training.carried, training.seconds
        to, row = record.fidelity, self._rows[training.number]
        cost = self._axes.epoch_cost(to)
        extra = {}
        if self.task.parameters is not None:
            extra = {"parameters": float(self.task.parameters[row])}
        new = tuple(
            Observation(
                epoch=carried + k,
                values={METRIC: value, **extra},
                cost=cost,
                fidelity=to,
                seconds=None if seconds is None else seconds[k - 1],
                watermark=self._changes,
            )
            for k, value in enumerate(training.values, start=1)
        )
        curves = record.curves
        if new and carried:
            curves = (*curves[:-1], Curve((*curves[-1].observations, *new)))
        elif new:
            curves = (*curves, Curve(new))
        if carried + len(new) < to.epochs:
            return dataclasses.replace(
                record,
                state=TrialState.FAIL,
                reason=f"Diverged: epoch {carried + len(new) + 1}",
                curves=curves,
                lost=record.lost + cost,
                owner=None,
            )
        return dataclasses.replace(
            record,
            state=TrialState.COMPLETE if to == self._axes.full else TrialState.PAUSED,
            curves=curves,
            checkpoint=CheckpointRecord(to.epochs, to, "none", "", 0),
            owner=None,
        )

    def _put(self, record: TrialRecord) -> None:
        """Write a record in the latest change."""
        record = dataclasses.replace(record, watermark=self._changes)
        if record.number == len(self.records):
            self.records.append(record)
        else:
            self.records[record.number] = record


def simulate(
    task: Task, scheduler: Scheduler, sampler: Sampler, seed: int, budget: float, **more: Any
) -> Trace:
    """See :class:`Simulation`."""
    return Simulation(task, scheduler, sampler, seed, budget, **more).run()
