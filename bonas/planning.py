"""What a budget will run, told before it runs: the study's own scheduler, played with made-up values.

Knows records, schedulers and costs; runs no objective and writes nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
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
from fidelity.schedulers import Resume, Start, Stop

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from bonas.study import Study

    Floats = NDArray[np.float64]

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
    started: int
    """The part of them that is started there."""
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
    hedged: int
    """How many of them start above the lowest rung, and so do not depend on how well it ranks."""
    limits: str
    unit: str
    complete: bool
    """False if it ends at the largest number of segments that are played, not at the limits."""
    exact: bool
    """False if the numbers hang on the values that will be observed."""
    leftover: str = ""
    """Where a budget is left with which nothing can be run: a sentence that says so."""

    @property
    def cost(self) -> float:
        """What everything that is told costs, in the study's unit."""
        return sum(rung.cost for rung in self.rungs)

    @property
    def seconds(self) -> float:
        """What that is expected to take on one worker; NaN as long as nothing was timed."""
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
        rows.append(
            (
                "in all" if self.complete else "so far",
                "-",  # who is resumed stands in several rows: their sum is no number of trials
                str(sum(r.epochs for r in self.rungs)),
                f"{self.cost:.3g}",
                _time(self.seconds),
            )
        )
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
            return " ".join(filter(None, [f"{self.limits}: nothing is left to run.", self.leftover]))
        about = "" if self.exact else "about "
        steps = [f"{r.trials} {'is' if r.trials == 1 else 'are'} trained to {r.name}" for r in self.rungs]
        told = f"{about}{self.started} new configuration{'s' * (self.started != 1)}; {', '.join(steps)}"
        time = "" if math.isnan(self.seconds) else f", about {format_seconds(self.seconds)} on one worker"
        cost = f"{about}{in_words(self.cost, self.unit)}{time}"
        if self.complete:
            return f"{self.limits}: {told}. {self.hedge}It costs {cost}."
        return (
            f"{self.limits}: too long to be told to its end. Its first {MOST:,} segments alone: {told}. "
            f"{self.hedge}These cost {cost}."
        )

    @property
    def hedge(self) -> str:
        """What it stakes against a lowest rung that misleads, in a sentence; empty where there is none."""
        if not self.hedged or not self.started:
            return ""
        part = "All" if self.hedged == self.started else f"{self.hedged} of the {self.started}"
        starts = "starts" if self.hedged == 1 < self.started else "start"
        return f"{part} {starts} above the lowest rung, a hedge against its ranking badly. "


def in_words(cost: float, unit: str) -> str:
    """A cost with its unit: 1 full evaluation, 2.5 full evaluations."""
    number = f"{cost:.3g}"
    return f"{number} {unit.removesuffix('s') if number == '1' else unit}"


def plan(study: Study, budget: float | None, n_trials: int | None) -> Plan:
    """See :meth:`bonas.Study.plan`."""
    if budget is None and n_trials is None:
        raise ValueError(
            "plan(): without a limit a search never ends. Give plan(budget=...) or n_trials=...."
        )
    view = study.limited_view(n_trials, budget)
    scheduler = study.scheduler
    # Of qualities that every rung shows, that get worse and worse, and that no rung shows: where these lead
    # elsewhere, what is told is likely, not certain.
    played, *others = (list(itertools.islice(_play(study, view, how), MOST + 1)) for how in _Qualities)
    counted = [Counter((step.new, step.fidelity) for step in steps) for steps in (played, *others)]
    exact = counted[0] == counted[1] == counted[2]
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
                started=sum(step.new for step in steps),
                epochs=sum(at.epochs - step.since for step in steps),
                cost=sum(step.cost for step in steps),
                seconds=sum(map(seconds, steps)),
            )
        )
    limits = [f"budget {budget:g}"] if budget is not None else []
    limits += [f"{n_trials} trial{'s' * (n_trials != 1)}"] if n_trials is not None else []
    started = sum(step.new for step in played)
    ladder = getattr(scheduler, "rungs", None)
    ladder = ladder(view.axes) if callable(ladder) else [rung.fidelity for rung in rungs]
    lowest = ladder[0] if ladder else None
    hedged = sum(step.new and step.fidelity != lowest for step in played)
    return Plan(
        study_name=study.study_name,
        rungs=tuple(rungs),
        started=started,
        hedged=hedged,
        limits=" and ".join(limits),
        unit=cost_unit(view.axes),
        complete=complete,
        exact=exact,
        leftover="" if rungs or budget is None else _leftover(study, view, budget),
    )


def _leftover(study: Study, view: StudyView, budget: float) -> str:
    """What would run next if what is left of the budget were enough; empty if nothing would."""
    ample = dataclasses.replace(view, budget_left=math.inf)
    step = next(_play(study, ample, _Qualities.RANDOM), None)
    if step is None:
        return ""
    left, unit = max(0.0, view.budget_left), cost_unit(view.axes)
    what = "what could run next"
    if step.cost > left:
        what += f", which costs {in_words(step.cost, unit)}"
    return f"{budget - left:.3g} of it are spent, and the rest is too little for {what}."


@dataclass(frozen=True, slots=True)
class _Step:
    """One segment that was played."""

    trial: int
    new: bool
    fidelity: Fidelity
    since: int
    """Epochs that are carried over."""
    cost: float


class _Qualities(Enum):
    """How the values of new trials are made up; smaller is better."""

    RANDOM = "random, and the same on every rung"
    WORSE = "each worse than all before"
    NOISE = "random, and other ones on every rung"


def _play(study: Study, view: StudyView, how: _Qualities) -> Iterator[_Step]:
    """Every segment that the study's scheduler would run, one after the other.

    Trials that have a value keep it; new ones have made-up ones. Running trials count as ended where they
    were to end.
    """
    play = list(_Qualities).index(how)
    rng = np.random.default_rng(play)
    params = study.space.default
    # The first play draws what a fresh study with one worker will.
    asks = ([study.seed, *[play] * (play > 0), ask] for ask in itertools.count(len(view.trials)))
    trials = [_ended(t, view, t.values) if t.state == TrialState.RUNNING else t for t in view.trials]
    waiting = [t for t in trials if t.unfinished and t.state == TrialState.PAUSED]
    left: dict[str, Any] = {
        "starts_left": min(view.starts_left, study.space.size - len(trials)),
        "budget_left": view.budget_left,
    }

    def run(record: TrialRecord, to: Fidelity, *, new: bool) -> _Step:
        cost = view.forecast(to, None if new else record)
        since = 0
        if record.checkpoint is not None:
            since = view.axes.carried_epoch(record.checkpoint.epoch, record.checkpoint.fidelity, to)
        value = float(record.number) if how is _Qualities.WORSE else float(rng.normal())
        known = record.values
        if how is _Qualities.NOISE and record.number >= len(view.trials):
            known = {}
        ended = _ended(dataclasses.replace(record, fidelity=to, unfinished=False), view, known, value)
        if new:
            trials.append(ended)
            left["starts_left"] -= 1
        else:
            trials[record.number] = ended
        left["budget_left"] -= cost
        return _Step(record.number, new, to, since, cost)

    while True:
        now = dataclasses.replace(view, trials=tuple(trials), **left)
        now = dataclasses.replace(now, outlook=_MadeUp(now))
        if waiting:
            record = waiting.pop(0)
            if not now.fits(record.fidelity, record):
                break
            yield run(record, record.fidelity, new=False)
            continue
        match study.scheduler.decide(now, np.random.default_rng(next(asks))):
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


def _ended(
    record: TrialRecord, view: StudyView, known: Mapping[str, float], value: float = 0.0
) -> TrialRecord:
    """The trial as it will be when its segment has ended: with the values known of it, or a made-up one."""
    values = dict(known) or dict.fromkeys(view.metric_names, value)
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


class _MadeUp:
    """What is believed of made-up values: that they stay as they are, less surely the less was trained."""

    def __init__(self, view: StudyView) -> None:
        self._view = view

    def at_horizon(self, records: Sequence[TrialRecord]) -> tuple[Floats, Floats]:
        """See :class:`fidelity.records.Outlook`."""
        axes = self._view.axes
        trained = [axes.nominal_cost(record.fidelity) for record in records]
        mean = [self._view.loss(record) for record in records]
        return np.array(mean), np.maximum(1.0 - np.array(trained), 1e-6)

    def fresh(self) -> tuple[float, float]:
        """The same of a new trial."""
        mean, _ = self.at_horizon([t for t in self._view.trials if t.values])
        return float(mean.mean()), 1.0 + float(mean.std())


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
