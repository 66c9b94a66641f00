"""What runs next: the scheduler's action and, for a new trial, the sampler's configuration.

Knows nothing of objectives, handles, clocks and files: what is decided is a function of the records.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas.definition import Definition, needed
from bonas.feasibility import Feasibility
from bonas.ledger import Ledger
from bonas.store.sql import Transaction, plain
from fidelity.outlook import CurveOutlook
from fidelity.records import Fidelity, StudyView, TrialRecord, TrialState
from fidelity.schedulers import Done, Resume, Scheduler, Start, Stop, Wait

if TYPE_CHECKING:
    from bonas.samplers import Sampler

# Of a decision to start a trial: where its configuration came from, a sampler's name or one of these.
PROPOSED_BY = "proposed_by"
QUEUE, DEFAULT = "the queue", "the space"


class Asking:
    """Decides, within limits, what a study runs next.

    Attributes:
        starts_limit: configurations started in all.
        budget: cost in all, in the study's unit.
        exhausted: whether the sampler has nothing more to propose.
    """

    def __init__(self, definition: Definition, ledger: Ledger) -> None:
        self._definition = definition
        self._ledger = ledger
        self._feasibility = Feasibility(definition.space, definition.constraints, definition.axes)
        self.starts_limit = math.inf
        self.budget = math.inf
        self.exhausted = False

    @property
    def sampler(self) -> Sampler:
        """What proposes configurations."""
        sampler: Sampler = needed(self._definition.sampler, "sampler")
        return sampler

    @property
    def scheduler(self) -> Scheduler:
        """What decides what runs next."""
        scheduler: Scheduler = needed(self._definition.scheduler, "scheduler")
        return scheduler

    def view(self) -> StudyView:
        """What sampler and scheduler see, as of the latest transaction."""
        view = self._ledger.view(self.starts_limit, self.budget, self.exhausted)
        bounds = self._feasibility if self._feasibility else None
        view = dataclasses.replace(view, bounds=bounds, earlier=self._definition.earlier)
        return dataclasses.replace(view, outlook=CurveOutlook(view))

    def next(self, transaction: Transaction) -> TrialRecord | None:
        """The record that the scheduler's next action leads to, decided and written; None for none now."""
        while True:
            ask = transaction.asks()
            if self.exhausted and transaction.next_in_queue() is not None:
                self.exhausted = False
            view = self.view()
            rng = self._generator(ask)
            action = self.scheduler.decide(view, rng)
            if not self._affordable(view, action):
                return None
            match action:
                case Start():
                    record = self._start(transaction, view, action, ask, rng)
                    if record is not None:
                        return record
                    self.exhausted = True  # what is paused may still be resumed
                case Resume(trial, fidelity, figures):
                    record = dataclasses.replace(self._paused(trial, action), fidelity=fidelity, attempt=0)
                    transaction.put_decision(ask, "resume", record, figures, str(self._ledger.owner))
                    return record
                case Stop(trial, reason, figures):
                    record = dataclasses.replace(
                        self._paused(trial, action), state=TrialState.PRUNED, reason=reason
                    )
                    told = {"reason": reason, **figures}
                    transaction.put_decision(ask, "stop", record, told, str(self._ledger.owner))
                    self._ledger.write(transaction, record)
                case Wait() | Done():
                    return None
                case _:
                    raise ValueError(
                        f"scheduler: decided {action!r}, which is no action. "
                        "Return Start, Resume, Stop, Wait or Done of fidelity.schedulers."
                    )

    def done(self, view: StudyView) -> bool:
        """Whether the scheduler has nothing more to run in ``view``, or nothing that the limits allow."""
        action = self.scheduler.decide(view, self._generator(len(view.trials)))
        return isinstance(action, Done) or not self._affordable(view, action)

    def _affordable(self, view: StudyView, action: Any) -> bool:
        match action:
            case Start(fidelity):
                return view.starts_left > 0 and view.fits(fidelity)
            case Resume(trial, fidelity):
                return view.fits(fidelity, trial)
        return True

    def lowest_rung(self) -> Fidelity:
        """What the first trial of the study is trained at."""
        first = self.scheduler.decide(
            StudyView((), self._definition.axes, self._definition.directions, self._definition.metric_names),
            self._generator(0),
        )
        return first.fidelity if isinstance(first, Start) else self._definition.axes.lowest

    def trial_seed(self, number: int) -> int:
        """The seed of a trial, the same in every segment."""
        # The word keeps trial seeds apart from the generators of the asks.
        return int(np.random.SeedSequence([self._definition.seed, number, 0x747269616C]).generate_state(1)[0])

    def _start(
        self, transaction: Transaction, view: StudyView, action: Start, ask: int, rng: np.random.Generator
    ) -> TrialRecord | None:
        number = len(self._ledger.records)
        queued = transaction.next_in_queue()
        source = type(self.sampler).__name__
        if queued is not None:
            params: dict[str, Any] | None = queued[1]
            transaction.take_from_queue(queued[0], number)
            source = QUEUE
        elif number == 0:
            # A sensible hand-written configuration first, so that every picture has its baseline.
            params = self._definition.space.default
            source = DEFAULT
        else:
            seed = getattr(self.sampler, "seed", None)
            params = self.sampler.sample(
                self._definition.space, view, rng if seed is None else np.random.default_rng([seed, ask])
            )
        if params is None:
            return None
        params = self._definition.space.validate(params)  # a sampler may be the user's own
        verdict = self._feasibility.judge(params, self._ledger.records)
        record = TrialRecord(
            number=number,
            params=params,
            key=self._definition.space.key(params),
            state=TrialState.INFEASIBLE if verdict.reason else TrialState.RUNNING,
            fidelity=action.fidelity,
            seed=self.trial_seed(number),
            parent=action.parent,
            figures=plain({**action.figures, **verdict.figures}),
            reason=verdict.reason,
            user_attrs=plain(verdict.noted),
        )
        told = {**action.figures, PROPOSED_BY: source}
        transaction.put_decision(ask, "start", record, told, str(self._ledger.owner))
        # A feasible one is written when it is handed out, in this same transaction.
        return self._ledger.write(transaction, record) if verdict.reason else record

    def _paused(self, trial: TrialRecord, action: Any) -> TrialRecord:
        record = self._ledger.records[trial.number]
        if record.state != TrialState.PAUSED:
            raise ValueError(
                f"scheduler: decided {type(action).__name__} of trial {record.number}, which is "
                f"{record.state.value}. Only PAUSED trials can be resumed or stopped."
            )
        return record

    def _generator(self, ask: int) -> np.random.Generator:
        return np.random.default_rng([self._definition.seed, ask])
