"""The books of a study: records, costs, who runs what; knows no objectives, samplers or schedulers.

Every change is one transaction, which begins with reading what others have written meanwhile.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bonas.artifacts import trial_folder
from bonas.dropping import drop_order
from bonas.endings import Ending
from bonas.errors import StaleTrialError
from bonas.room import Room
from bonas.saved import Saved, merged, saved
from bonas.store import Owner, Store
from bonas.store.owners import LEASE, gone, in_this_process, released
from bonas.store.sql import Transaction
from fidelity.axes import Axes
from fidelity.records import Curve, Observation, StudyView, TrialRecord, TrialState

logger = logging.getLogger("bonas")

MOST_GONE = 5  # processes that one segment may take along in a row, none of which got any further


def stamped(
    transaction: Transaction, observations: Sequence[Observation], known: Sequence[Observation] = ()
) -> Curve:
    """A curve whose observations bear the watermark they are written at, as the store gives them back.

    Args:
        transaction: the one that writes them.
        observations: what the curve is to be.
        known: what was written of it before.
    """
    at = {o.epoch: o.watermark for o in known}
    now = transaction.watermark + 1
    return Curve(tuple(dataclasses.replace(o, watermark=at.get(o.epoch, now)) for o in observations))


class Ledger:
    """The records of one stored study, as one worker reads and writes them.

    Attributes:
        owner: the worker in whose name trials are run.
        records: all trials in order of their numbers, as of the latest transaction.
    """

    def __init__(
        self,
        store: Store,
        study: int,
        axes: Axes,
        directions: tuple[str, ...],
        metric_names: tuple[str, ...],
        artifacts: Path,
        max_bytes: int | None,
    ) -> None:
        self._store = store
        self._study = study
        self._axes = axes
        self._directions = directions
        self._metric_names = metric_names
        self._artifacts = artifacts
        self._room = Room(artifacts, max_bytes)
        self._said = False
        self.owner = Owner()
        self.records: list[TrialRecord] = []
        # Of each trial what was paid, in the study's unit; and, if it was started here, that beside its
        # nominal cost: which of an added trial's epochs were paid here is not known.
        self._spent: list[tuple[float, float, float]] = []
        self._seen = -1

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One atomic look at, and change of, the study, with all records read."""
        if self.owner.process != os.getpid():
            self.owner = Owner()  # a copy of this object in a forked process is a worker of its own
        try:
            with self._store.transaction(self._study) as transaction:
                self._refresh(transaction)
                yield transaction
            # What was written here need not be read again, and nobody else wrote in between.
            self._seen = transaction.watermark
        except BaseException:
            self._seen = -1  # the transaction is undone, and with it what was remembered from it
            raise

    @contextmanager
    def turn(self) -> Iterator[Transaction]:
        """A transaction that sees whose checkpoints were dropped, and after which others may go.

        Nothing is dropped while it lasts.
        """
        with self._room.locked():
            with self.transaction() as transaction:
                self._note_dropped(transaction)
                yield transaction
            if self._room.scarce(sum(r.checkpoint.nbytes for r in self.records if r.checkpoint is not None)):
                self._room.settle(drop_order(self.view()))

    def view(
        self, starts_limit: float = math.inf, budget: float = math.inf, exhausted: bool = False
    ) -> StudyView:
        """What samplers and schedulers see, as of the latest transaction.

        Args:
            starts_limit: configurations started in all.
            budget: cost in all, in the study's unit.
            exhausted: whether no further configuration can be started whatever the limit.
        """
        # Those never handed out are infeasible, or were added; these are no starts of this study if resumed.
        started = sum(
            t.state != TrialState.INFEASIBLE and t.attempt > 0 and t.elsewhere is None for t in self.records
        )
        spent = sum(cost for cost, _, _ in self._spent)
        scale = 1.0
        if self._axes.cost != "nominal":
            timed, nominal = (sum(each[i] for each in self._spent) for i in (1, 2))
            # Before anything is known a reported full evaluation counts 1, and seconds count nothing.
            unknown = 1.0 if self._axes.cost == "reported" else 0.0
            scale = timed / nominal if nominal > 0 else unknown
        view = StudyView(
            trials=tuple(self.records),
            axes=self._axes,
            directions=self._directions,
            metric_names=self._metric_names,
            starts_left=0 if exhausted else starts_limit - started,
            cost_scale=scale,
        )
        if math.isinf(budget):
            return view
        reserved = sum(view.forecast(t.fidelity, t) for t in self.records if t.state == TrialState.RUNNING)
        return dataclasses.replace(view, budget_left=budget - spent - reserved)

    def orphans(self) -> list[TrialRecord]:
        """Interrupted trials, whose segments run again before anything else is decided."""
        return [r for r in self.records if r.unfinished and r.state == TrialState.PAUSED]

    def next_orphan(self, transaction: Transaction) -> TrialRecord | None:
        """The first interrupted trial; without its checkpoint if somebody has deleted the file.

        Nothing else looks before it is handed out: what is expected of the rest of its segment must be true.
        """
        orphan = next(iter(self.orphans()), None)
        if orphan is None or orphan.checkpoint is None:
            return orphan
        if (self._artifacts / orphan.checkpoint.file).exists():
            return orphan
        logger.warning(
            "trial %d: its checkpoint %s is gone, it trains again from its first epoch",
            orphan.number,
            orphan.checkpoint.file,
        )
        return self.write(transaction, dataclasses.replace(orphan, checkpoint=None))

    def refuse_stale(self, handed: TrialRecord) -> None:
        """Refuse a segment handed out as ``handed`` that is not this worker's any more."""
        # A record does not change while its segment runs, so owner and watermark say it all.
        record = self.records[handed.number] if handed.number < len(self.records) else None
        if record is None or (record.owner, record.watermark) != (handed.owner, handed.watermark):
            raise StaleTrialError(
                f"trial {handed.number}: is {record.state.value if record else 'unknown'} by now, its "
                "segment was handed to another worker or told before. Nothing was written; ask() for the "
                "next one."
            )

    def hand_out(self, transaction: Transaction, record: TrialRecord) -> TrialRecord:
        """Write that this worker runs a trial from now on."""
        running = dataclasses.replace(
            record,
            state=TrialState.RUNNING,
            owner=str(self.owner),
            attempt=record.attempt + 1,
            unfinished=False,
            reason=None,
        )
        return self.write(transaction, running, lease=time.time() + LEASE)

    def write(self, transaction: Transaction, record: TrialRecord, lease: float | None = None) -> TrialRecord:
        """Write a record, which gets a new watermark, and remember it."""
        record = dataclasses.replace(record, watermark=transaction.watermark + 1)
        transaction.put_trial(record, lease, new=record.number == len(self.records))
        self._remember(record)
        return record

    def end(self, transaction: Transaction, record: TrialRecord, curve: int, ending: Ending) -> TrialRecord:
        """Write how a segment ended; its observations become the whole curve ``curve``."""
        curves = list(record.curves)
        if ending.observations:
            known = curves[curve].observations if curve < len(curves) else ()
            curves[curve : curve + 1] = [stamped(transaction, ending.observations, known)]
            transaction.put_curve(record.number, curve, ending.observations)
        record = dataclasses.replace(
            record,
            state=ending.state,
            reason=ending.reason,
            unfinished=ending.unfinished,
            lost=record.lost + ending.lost,
            attempt=1 if ending.further else record.attempt,
            owner=None,
            curves=tuple(curves),
        )
        return self.write(transaction, record)

    def reclaim(self, transaction: Transaction) -> None:
        """Take back the trials of workers that are gone."""
        for number, owner, lease in transaction.leases():
            record = self.records[number]
            dead = released(owner, number, record.watermark) or gone(owner)
            if dead or (dead is None and time.time() >= lease):
                logger.warning("trial %d: its worker is gone, taken back at its last checkpoint", number)
                if in_this_process(owner):
                    record = dataclasses.replace(record, attempt=1)  # nothing has died
                self.take_back(transaction, record)

    def take_back(
        self,
        transaction: Transaction,
        record: TrialRecord,
        failure: str | None = None,
        lost: float | None = None,
    ) -> TrialRecord:
        """End a segment that was never told: pause it, with what its checkpoint holds, or fail it.

        It fails for a reason that is given, and if it has taken many processes along without getting further.

        Args:
            transaction: the one to write in.
            record: as it is now.
            failure: why it failed.
            lost: what a failure cost beside what is on disk; None for one epoch.
        """
        curve, found = self._left_behind(record)
        ending = Ending(TrialState.PAUSED, unfinished=True)
        if found is not None:
            known = record.curves[curve].observations if curve < len(record.curves) else ()
            ending = dataclasses.replace(ending, observations=merged(found.observations, known), further=True)
            last = record.fidelity.epochs
            # Killed between its last checkpoint and its tell: the segment is whole, only untold.
            if found.record.fidelity == record.fidelity and last in {o.epoch for o in found.observations}:
                done = TrialState.COMPLETE if record.fidelity == self._axes.full else TrialState.PAUSED
                ending = dataclasses.replace(ending, state=done, unfinished=False)
            record = dataclasses.replace(
                record,
                checkpoint=found.record,
                user_attrs={**record.user_attrs, **found.user_attrs},
                retrained=record.retrained + found.retrained,
            )
        elif record.attempt >= MOST_GONE:
            failure = failure or f"its worker was gone {record.attempt} times in a row, nothing was saved"
        if failure is not None:
            if lost is None:
                lost = 0.0 if self._axes.cost == "measured" else self._axes.epoch_cost(record.fidelity)
            ending = Ending(TrialState.FAIL, failure, ending.observations, lost)
        return self.end(transaction, record, curve, ending)

    def _left_behind(self, record: TrialRecord) -> tuple[int, Saved | None]:
        """The curve that a segment has saved something new of, and what; None if it has saved nothing."""
        for index in (len(record.curves), len(record.curves) - 1):
            found = saved(trial_folder(self._artifacts, record.number), index) if index >= 0 else None
            if found is not None and found.record != record.checkpoint:
                return index, found
        return len(record.curves), None

    def _note_dropped(self, transaction: Transaction) -> None:
        book = self._room.book()
        numbers = set(book.dropped) if book.whole else {r.number for r in self.records}
        for number in sorted(numbers & set(range(len(self.records)))):
            record = self.records[number]
            if record.checkpoint is None or record.state == TrialState.RUNNING:
                continue
            if (self._artifacts / record.checkpoint.file).exists():
                continue
            if not self._said:
                self._said = True
                logger.warning(
                    "checkpoints have reached max_bytes=%s: those of the least promising trials are dropped, "
                    "beginning with trial %d. Resumed, they would train again from their first epoch.",
                    f"{self._room.max_bytes:,}",
                    number,
                )
            self.write(transaction, dataclasses.replace(record, checkpoint=None))
        transaction.advance()  # what follows is decided with it in sight

    def _refresh(self, transaction: Transaction) -> None:
        if self._seen < 0:
            self.records, self._spent = [], []
        if transaction.watermark > self._seen:
            for record in transaction.changed_since(self._seen):
                self._remember(record)
            self._seen = transaction.watermark

    def _remember(self, record: TrialRecord) -> None:
        own = record.attempt > 0 and record.elsewhere is None
        spent = (record.paid, *((record.paid, self._nominal(record)) if own else (0.0, 0.0)))
        if record.number > len(self.records):
            raise ValueError(f"study.db: trial {len(self.records)} is missing. Restore the file from a copy.")
        if record.number == len(self.records):
            self.records.append(record)
            self._spent.append(spent)
        else:
            self.records[record.number] = record
            self._spent[record.number] = spent

    def _nominal(self, record: TrialRecord) -> float:
        if self._axes.cost == "nominal":
            return 0.0  # not needed: the study's unit is the nominal one
        total = 0.0
        for curve in record.curves:
            before = 0
            for o in curve.observations:
                total += (o.epoch - before) * self._axes.epoch_cost(o.fidelity)
                before = o.epoch
        return total
