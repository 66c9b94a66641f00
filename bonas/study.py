"""The study: asks the scheduler what runs next and the sampler which configuration, and writes what came.

The only writer. A study is a function of its records: after a kill it continues as if nothing had happened.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import re
import secrets
import shutil
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas.definition import Definition, define, needed, refuse_differences, restore
from bonas.endings import Ending, conclude, counts
from bonas.errors import DuplicatedStudyError, StaleTrialError
from bonas.frozen import FrozenTrial
from bonas.saved import merged, saved
from bonas.segment import Segment
from bonas.store import Owner, Store, StudyRow, open_store
from bonas.store.owners import LEASE, gone, release, released
from bonas.store.sql import Transaction, plain
from bonas.trial import Trial
from fidelity.axes import Axes
from fidelity.records import Curve, Fidelity, StudyView, TrialRecord, TrialState
from fidelity.schedulers import Done, Resume, Scheduler, Start, Stop, Wait

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from bonas.samplers import Sampler
    from spaces import Space

logger = logging.getLogger("bonas")

MOST_INFEASIBLE = 500  # configurations one ask may draw before it gives up
_MOST = 1e300  # beyond it sums and whole numbers leave the range of floats
MOST_JOBS = 256  # processes on one machine; more is a typing error that would bring it down
MOST_OUT_OF_MEMORY = 30  # trials in a row after which the machine, not the configuration, is to blame

Objective = Callable[[Trial], Any]


def create_study(
    *,
    space: Space,
    axes: Axes | None = None,
    direction: str | None = None,
    directions: Sequence[str] | None = None,
    metric_names: Sequence[str] | None = None,
    sampler: Sampler | None = None,
    scheduler: Scheduler | None = None,
    constraints: Mapping[str, float] | None = None,
    storage: str | Path | None = None,
    study_name: str | None = None,
    load_if_exists: bool = False,
    artifacts: str | Path | None = None,
    seed: int = 0,
) -> Study:
    """Create a study.

    Args:
        space: what is searched.
        axes: fidelity axes; None means that every evaluation is a full one.
        direction: ``"minimize"`` (the default, as in Optuna) or ``"maximize"``.
        directions: one for each of several objectives, instead of ``direction``.
        metric_names: names of the metrics an objective reports; required for several objectives.
        sampler: proposes configurations; None means ``bonas.samplers.ForestSampler()``.
        scheduler: decides what runs next; None means ``SuccessiveHalving()`` over the axes.
        constraints: upper bounds such as ``{"parameters": 200_000, "macs": 1e7}``, decided before training.
        storage: a file, a folder (its ``study.db``) or an SQLite URL; None keeps the study in memory.
        study_name: unique in the storage; None makes one up.
        load_if_exists: go on with the study of that name if there is one.
        artifacts: folder of checkpoints; None means beside the storage.
        seed: everything random in the study follows from it.

    Raises:
        DuplicatedStudyError: if the name is taken and ``load_if_exists`` is False.
        ValueError: for any argument that does not fit, or an existing study that was made differently.
    """
    if direction is not None and directions is not None:
        raise ValueError("direction and directions: give one of them.")
    if directions is not None and not isinstance(directions, (list, tuple)):
        raise ValueError(f"directions={directions!r}: must be a list of 'minimize' and 'maximize'.")
    if study_name is not None and not _is_text(study_name):
        raise ValueError(f"study_name={study_name!r}: must be a text.")
    if artifacts is not None and (not isinstance(artifacts, (str, os.PathLike)) or not str(artifacts)):
        raise ValueError(f"artifacts={artifacts!r}: must be a folder.")
    chosen = tuple(directions) if directions is not None else (direction or "minimize",)
    definition = define(space, axes, chosen, metric_names, constraints, seed, sampler, scheduler)
    store = open_store(storage, create=True)
    name = study_name or f"study-{secrets.token_hex(4)}"
    stored = definition.to_dict() | {"artifacts": _artifacts_entry(artifacts, store.path)}
    row = store.create(name, stored)
    if row is None:
        row = store.find(name)
        assert row is not None
        if not load_if_exists:
            raise DuplicatedStudyError(
                f"study {name!r}: exists already in {storage}. Pass load_if_exists=True to go on with it."
            )
        refuse_differences(definition, row.definition)
        earlier = restore(row.definition, space, sampler, scheduler)
        definition = dataclasses.replace(definition, seed=earlier.seed)
        if sampler is None or scheduler is None:
            definition = dataclasses.replace(definition, sampler=earlier.sampler, scheduler=earlier.scheduler)
    return Study(store, row, definition)


def load_study(
    *,
    study_name: str | None = None,
    storage: str | Path,
    space: Space | None = None,
    sampler: Sampler | None = None,
    scheduler: Scheduler | None = None,
) -> Study:
    """Open a stored study; bonas's own spaces, samplers, schedulers and axes come back by themselves.

    Args:
        study_name: None if the storage holds a single study.
        storage: a file, a folder (its ``study.db``) or an SQLite URL.
        space: pass it again if it has functions of your own, which are never stored.
        sampler: replaces the stored one; needed again if it was your own.
        scheduler: as ``sampler``.

    Raises:
        ValueError: if there is no such study, or ``space`` is not the stored one.
    """
    if study_name is not None and not _is_text(study_name):
        raise ValueError(f"study_name={study_name!r}: must be a text.")
    store = open_store(storage, create=False)
    if study_name is None:
        names = store.names()
        if len(names) != 1:
            raise ValueError(f"study_name=None: {storage} holds {len(names)} studies, {names}. Name one.")
        study_name = names[0]
    row = store.find(study_name)
    if row is None:
        raise ValueError(f"study {study_name!r}: not in {storage}, which holds {store.names()}.")
    return Study(store, row, restore(row.definition, space, sampler, scheduler))


class Study:
    """A search: its trials, and what to run next. Made by :func:`create_study` or :func:`load_study`."""

    def __init__(self, store: Store, row: StudyRow, definition: Definition) -> None:
        self._store = store
        self._id = row.study
        self._definition = definition
        self.study_name: str = row.name
        self.space: Space = definition.space
        self.axes: Axes = definition.axes
        self.directions: tuple[str, ...] = definition.directions
        self.metric_names: tuple[str, ...] = definition.metric_names
        self.artifacts: Path = self._artifacts_folder(row)
        self._owner = Owner()
        self._records: list[TrialRecord] = []
        self._spent: list[tuple[float, float]] = []  # cost of each trial: in the study's unit, nominal
        self._seen = -1
        self._starts_limit = math.inf
        self._budget = math.inf
        self._deadline: float | None = None
        self._stop_file: str | None = None
        self._exhausted = False
        self._stopped = False

    def __repr__(self) -> str:
        return f"Study({self.study_name!r}, {len(self.records)} trials, spent {self.spent:.3g})"

    def _repr_html_(self) -> str:
        from bonas import report

        return report.study_html(self)

    # -- reading -------------------------------------------------------------------------------------

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

    @property
    def constraints(self) -> Mapping[str, float]:
        """Upper bounds decided before training."""
        return dict(self._definition.constraints)

    @property
    def seed(self) -> int:
        """Everything random in the study follows from it."""
        return self._definition.seed

    @property
    def storage(self) -> Path | None:
        """The database file, None in memory."""
        return self._store.path

    @property
    def direction(self) -> str:
        """The direction of the only objective."""
        if len(self.directions) > 1:
            raise ValueError("direction: this study has several objectives. Use directions.")
        return self.directions[0]

    @property
    def records(self) -> tuple[TrialRecord, ...]:
        """The frozen records of all trials, in order of their numbers."""
        with self._transaction():
            return tuple(self._records)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, in order of their numbers."""
        return [self._frozen(record) for record in self.records]

    @property
    def spent(self) -> float:
        """Cost of everything evaluated here: full evaluations, unless ``Axes(cost=...)`` says otherwise."""
        return sum(record.cost for record in self.records if record.attempt > 0)

    @property
    def best_trial(self) -> FrozenTrial:
        """The best COMPLETE trial; before one exists the best at the highest fidelity, with a warning.

        Raises:
            ValueError: with several objectives, or if no trial has a value yet.
        """
        if len(self.directions) > 1:
            raise ValueError("best_trial: this study has several objectives. Use best_trials.")
        view = self.view()
        valued = [
            t for t in view.trials if t.values and t.state not in (TrialState.FAIL, TrialState.INFEASIBLE)
        ]
        complete = [t for t in valued if t.state == TrialState.COMPLETE]
        if not complete:
            if not valued:
                raise ValueError(
                    f"best_trial: none of the {len(view.trials)} trials has a value yet. Search for longer."
                )
            highest = max(self._reached(t) for t in valued)
            complete = [t for t in valued if self._reached(t) == highest]
            warnings.warn(
                "no trial is complete yet: best_trial is the best at the highest fidelity reached so far",
                UserWarning,
                stacklevel=2,
            )
        return self._frozen(view.ranked(complete)[0])

    @property
    def best_value(self) -> float:
        """The value of :attr:`best_trial`."""
        value = self.best_trial.value
        assert value is not None
        return value

    @property
    def best_params(self) -> dict[str, Any]:
        """The params of :attr:`best_trial`."""
        return self.best_trial.params

    @property
    def best_trials(self) -> list[FrozenTrial]:
        """The COMPLETE trials that no other one dominates: the Pareto front."""
        view = self.view()
        complete = [t for t in view.trials if t.state == TrialState.COMPLETE]
        losses = np.array([view.losses(t) for t in complete]).reshape(len(complete), len(self.directions))
        front = []
        for record, loss in zip(complete, losses, strict=True):
            no_worse, better = (losses <= loss).all(axis=1), (losses < loss).any(axis=1)
            if not (no_worse & better).any():
                front.append(self._frozen(record))
        return front

    @property
    def done(self) -> bool:
        """Whether nothing will ever run again within the limits of this call."""
        view = self.view()
        if any(t.state == TrialState.RUNNING for t in view.trials):
            return False
        orphan = next(iter(self._orphans()), None)
        if orphan is not None:
            return not view.fits(orphan.fidelity, orphan)
        action = self.scheduler.decide(view, self._generator(len(view.trials)))
        return isinstance(action, Done) or not self._affordable(view, action)

    def view(self) -> StudyView:
        """What samplers and schedulers see now."""
        with self._transaction():
            return self._view()

    def trials_dataframe(self) -> pd.DataFrame:
        """One row for each trial: number, state, values, cost, fidelity and params."""
        import pandas as pd

        rows = []
        for t in self.trials:
            several = len(self.metric_names) > 1
            names = {n: f"values_{n}" if several else "value" for n in self.metric_names}
            rows.append(
                {"number": t.number, "state": t.state.value}
                | {names[n]: t.values.get(n) for n in self.metric_names}
                | {"cost": t.cost, "reason": t.reason}
                | {f"fidelity_{a.name}": t.fidelity[a.name] for a in self.axes.axes}
                | {f"params_{k}": v for k, v in t.params.items()}
                | {f"user_attrs_{k}": v for k, v in t.user_attrs.items()}
            )
        return pd.DataFrame(rows)

    def decisions(self, trial: FrozenTrial | int) -> list[Mapping[str, Any]]:
        """Every decision about a trial with the figures it was made from, oldest first."""
        with self._transaction() as transaction:
            return transaction.decisions(trial if isinstance(trial, int) else trial.number)

    def to_optuna(self) -> optuna.study.Study:
        """A copy as a real Optuna study, for Optuna's tools (see :mod:`bonas.optuna_bridge`)."""
        from bonas.optuna_bridge import to_optuna

        return to_optuna(self)

    # -- ask and tell --------------------------------------------------------------------------------

    def ask(self) -> Trial | None:
        """The next segment to run: a new trial or a paused one again; None when nothing can run now."""
        hopeless = None
        with self._transaction() as transaction:
            self._reclaim(transaction)
            orphan = next(iter(self._orphans()), None)
            if orphan is not None:
                fits = self._view().fits(orphan.fidelity, orphan)
                return self._hand_out(transaction, orphan) if fits else None
            for _ in range(MOST_INFEASIBLE):
                record = self._next(transaction)
                if record is None:
                    return None
                if record.state != TrialState.INFEASIBLE:
                    return self._hand_out(transaction, record)
                hopeless = record
                transaction.advance()  # what follows is decided with it in sight
        assert hopeless is not None
        raise ValueError(
            f"constraints={self.constraints}: {MOST_INFEASIBLE} configurations in a row violate them, "
            f"the last with {hopeless.reason}. Relax them or narrow the space."
        )

    def tell(
        self,
        trial: Trial,
        value: float | Mapping[str, float] | None = None,
        error: BaseException | str | None = None,
    ) -> FrozenTrial:
        """Write what a trial collected and how it ended.

        Args:
            trial: what :meth:`ask` returned.
            value: what the objective returned: None if everything was reported.
            error: what it raised, or a sentence.

        Raises:
            StaleTrialError: if the trial was handed to another worker meanwhile; nothing is written.
        """
        if not isinstance(trial, Trial):
            raise ValueError(f"tell({trial!r}): takes the trial that ask() returned.")
        if isinstance(error, type) and issubclass(error, BaseException):
            error = error()
        with self._transaction():
            self._refuse_stale(trial)  # before it touches the checkpoints of whoever has the trial now
        collected = trial.collect(value if error is None else None)
        ending = conclude(trial.segment, collected, value, error)
        with self._transaction() as transaction:
            self._refuse_stale(trial)
            record = self._records[trial.number]
            record = dataclasses.replace(
                record, checkpoint=collected.checkpoint, user_attrs=dict(collected.user_attrs)
            )
            record = self._end(transaction, record, collected.curve, ending)
        return self._frozen(record)

    def enqueue_trial(self, params: Mapping[str, Any]) -> None:
        """Put a configuration in line: the next new trial will be this one."""
        if not isinstance(params, Mapping):
            raise ValueError(f"enqueue_trial({params!r}): takes the params of a configuration as a dict.")
        checked = self.space.validate(dict(params))
        with self._transaction() as transaction:
            transaction.enqueue(checked)

    def add_trial(self, record: TrialRecord | FrozenTrial) -> None:
        """Add what was evaluated elsewhere; number, key and seed are given by this study.

        It counts neither towards ``n_trials`` nor towards the budget.

        Args:
            record: a record, or a trial of another study with the same hyperparameters, axes and metrics.

        Raises:
            ValueError: if it does not fit this study.
        """
        record = getattr(record, "record", record)
        if not isinstance(record, TrialRecord):
            raise ValueError(f"add_trial({record!r}): takes a TrialRecord, or a trial of another study.")
        params = self.space.validate(dict(record.params))
        self._check_added(record)
        with self._transaction() as transaction:
            number = len(self._records)
            added = TrialRecord(
                number=number,
                params=params,
                key=self.space.key(params),
                state=TrialState.PAUSED if record.state == TrialState.RUNNING else record.state,
                fidelity=record.fidelity,
                seed=self._trial_seed(number),
                curves=record.curves,
                reason=record.reason,
                lost=record.lost,
                user_attrs=plain(record.user_attrs),
            )
            self._write(transaction, added)
            for index, curve in enumerate(added.curves):
                transaction.put_curve(number, index, curve.observations)

    def stop(self) -> None:
        """Let the running ``optimize`` end after the segments now running; for callbacks and objectives."""
        self._stopped = True

    def optimize(
        self,
        objective: Objective,
        n_trials: int | None = None,
        budget: float | None = None,
        timeout: float | None = None,
        n_jobs: int = 1,
        executor: Any = None,
        callbacks: Sequence[Callable[[Study, FrozenTrial], None]] = (),
        show_progress_bar: bool = False,
    ) -> None:
        """Run the search until one of the limits is reached, or nothing is left to run.

        Ctrl-C and SIGTERM let the running epoch finish, save its checkpoint and pause the trial; called
        again, the search goes on from there.

        Args:
            objective: called with a :class:`Trial`; ``bonas.train_on(data)`` or your own.
            n_trials: configurations started, over all calls and processes; after that only resumes run.
            budget: total cost in full evaluations (or in the unit of ``Axes(cost=...)``), likewise over all.
            timeout: seconds for this call; stops at the next epoch.
            n_jobs: segments run at a time, each in a process of its own if more than 1.
            executor: a ``concurrent.futures`` executor to run segments in, instead of ``n_jobs``.
            callbacks: called with the study and the trial after each segment.
            show_progress_bar: show a leaderboard while it runs.

        Raises:
            ValueError: for limits that allow nothing, such as a budget below the lowest rung.
        """
        from bonas.executors import run

        _check_callable(objective)
        if not isinstance(callbacks, Iterable) or not all(map(callable, callbacks := tuple(callbacks))):
            raise ValueError(f"callbacks={callbacks!r}: must be a list of functions of a study and a trial.")
        if executor is not None and not hasattr(executor, "submit"):
            raise ValueError(f"executor={executor!r}: must be a concurrent.futures executor, or None.")
        self._check_limits(n_trials, budget, timeout, n_jobs)
        try:
            if show_progress_bar:
                from bonas.leaderboard import Leaderboard

                with Leaderboard(self, n_trials=n_trials, budget=budget, timeout=timeout) as board:
                    run(self, objective, n_jobs, executor, (*callbacks, board))
            else:
                run(self, objective, n_jobs, executor, callbacks)
        finally:
            self._deadline = None  # of this call only

    # -- after the search ----------------------------------------------------------------------------

    def recommend(self, objective: Objective | None = None, k: int = 3, repeats: int = 2) -> FrozenTrial:
        """The trial to trust: best by posterior mean, not by its luckiest value.

        Args:
            objective: if given, the ``k`` finalists are evaluated again in full with new seeds, and the best
                mean of all their full values is recommended: against the winner's curse.
            k: number of finalists.
            repeats: new evaluations of each.
        """
        from bonas.recommendation import recommend

        if objective is not None:
            _check_callable(objective)
        return recommend(self, objective, k, repeats)

    def retrain(
        self, objective: Objective, trial: FrozenTrial | None = None, epochs: int | None = None
    ) -> FrozenTrial:
        """Train the recommended configuration from scratch at full fidelity and touch the test data once.

        ``bonas.train_on(data)`` then trains on training and validation data and keeps ``test_accuracy`` in
        the user attributes. Interrupted, it goes on from its checkpoint; done, it is not done again.

        Args:
            objective: as for :meth:`optimize`.
            trial: what to retrain, if not what :meth:`recommend` says.
            epochs: train for longer, or shorter, than full fidelity; the schedule stretches with it.
        """
        from bonas.recommendation import retrain

        _check_callable(objective)
        if trial is not None and not isinstance(trial, FrozenTrial):
            raise ValueError(f"trial={trial!r}: must be a trial of this study, such as study.trials[0].")
        return retrain(self, objective, trial, epochs)

    # -- what recommendation and running use ---------------------------------------------------------

    def use_stop_file(self, path: str | None) -> None:
        """Segments handed out from now on begin no epoch once this file exists."""
        self._stop_file = path

    @property
    def lease(self) -> float:
        """Seconds after which a worker that is out of sight is taken for dead."""
        return LEASE

    @property
    def stop_requested(self) -> bool:
        """Whether :meth:`stop` was called in this call of ``optimize``."""
        return self._stopped

    @property
    def timed_out(self) -> bool:
        """Whether the timeout of this call has passed."""
        return self._deadline is not None and time.time() >= self._deadline

    def broken(self, failed: FrozenTrial) -> bool:
        """Whether the first three trials, this one among them, all failed with the same exception."""
        first = [t for t in self.records if t.attempt > 0 and counts(t)][:3]
        if failed.number not in [t.number for t in first] or len(first) < 3:
            return False
        kinds = {(t.state, (t.reason or "").partition(":")[0]) for t in first}
        return len(kinds) == 1

    @property
    def out_of_memory(self) -> bool:
        """Whether the latest trials, many of them, all ran out of memory: the next one will, too."""
        latest = [t.state for t in self.records if t.attempt > 0][-MOST_OUT_OF_MEMORY:]
        return len(latest) == MOST_OUT_OF_MEMORY and set(latest) == {TrialState.INFEASIBLE}

    def limit(self, n_trials: int | None, budget: float | None) -> None:
        """Set the totals that :meth:`ask` keeps; None means without limit."""
        self._starts_limit = math.inf if n_trials is None else n_trials
        self._budget = math.inf if budget is None else budget

    @property
    def attrs(self) -> dict[str, Any]:
        """JSON-ready values kept with the study as a whole."""
        with self._transaction() as transaction:
            return transaction.attrs()

    def set_attr(self, key: str, value: Any) -> None:
        """Keep a JSON-ready value with the study."""
        with self._transaction() as transaction:
            transaction.put_attrs({**transaction.attrs(), key: value})

    def renew_leases(self, numbers: list[int]) -> None:
        """Tell other hosts that this worker still runs these trials."""
        with self._transaction() as transaction:
            transaction.renew(numbers, str(self._owner), time.time() + LEASE)

    def abandon(self, trial: Trial, failure: str | None = None) -> FrozenTrial | None:
        """A worker died with this segment: pause the trial at its last checkpoint, or fail it for a reason.

        Returns the trial, or None if another worker has it by now.
        """
        with self._transaction() as transaction:
            try:
                self._refuse_stale(trial)
            except StaleTrialError:
                return None
            record = self._records[trial.number]
            if failure is None:
                record = self._take_back(transaction, record)
            else:
                record = self._end(transaction, record, 0, Ending(TrialState.FAIL, failure))
        return self._frozen(record)

    def release(self, trial: Trial) -> None:
        """Nobody will tell this segment any more: the next ask takes it back. Writes nothing."""
        handed = trial.segment.record
        release(str(handed.owner), handed.number, handed.watermark)

    @property
    def own_running(self) -> list[int]:
        """Numbers of the trials that this very object handed out and that were not told."""
        return [t.number for t in self.records if t.owner == str(self._owner)]

    def detached(self, record: TrialRecord, folder: str, axes: Axes, *, retraining: bool) -> Trial:
        """A handle outside the search, over axes of its own; nothing of it is written to the trials."""
        segment = self._segment(record, folder, retraining=retraining)
        return Trial(dataclasses.replace(segment, axes=axes), self.space)

    # -- inside --------------------------------------------------------------------------------------

    def _next(self, transaction: Transaction) -> TrialRecord | None:
        """The record that the scheduler's next action leads to, decided and written; None for none now."""
        while True:
            ask = transaction.asks()
            if self._exhausted and transaction.next_in_queue() is not None:
                self._exhausted = False
            view = self._view()
            rng = self._generator(ask)
            action = self.scheduler.decide(view, rng)
            if not self._affordable(view, action):
                return None
            match action:
                case Start():
                    record = self._start(transaction, view, action, ask, rng)
                    if record is not None:
                        return record
                    self._exhausted = True  # what is paused may still be resumed
                case Resume(trial, fidelity, figures):
                    record = dataclasses.replace(self._paused(trial, action), fidelity=fidelity, attempt=0)
                    transaction.put_decision(ask, "resume", record, figures, str(self._owner))
                    return record
                case Stop(trial, reason):
                    record = dataclasses.replace(
                        self._paused(trial, action), state=TrialState.PRUNED, reason=reason
                    )
                    transaction.put_decision(ask, "stop", record, {"reason": reason}, str(self._owner))
                    self._write(transaction, record)
                case Wait() | Done():
                    return None
                case _:
                    raise ValueError(
                        f"scheduler: decided {action!r}, which is no action. "
                        "Return Start, Resume, Stop, Wait or Done of fidelity.schedulers."
                    )

    def _paused(self, trial: TrialRecord, action: Any) -> TrialRecord:
        record = self._records[trial.number]
        if record.state != TrialState.PAUSED:
            raise ValueError(
                f"scheduler: decided {type(action).__name__} of trial {record.number}, which is "
                f"{record.state.value}. Only PAUSED trials can be resumed or stopped."
            )
        return record

    def _orphans(self) -> list[TrialRecord]:
        """Interrupted trials, whose segments run again before anything else is decided."""
        return [r for r in self._records if r.unfinished and r.state == TrialState.PAUSED]

    def _start(
        self, transaction: Transaction, view: StudyView, action: Start, ask: int, rng: np.random.Generator
    ) -> TrialRecord | None:
        number = len(self._records)
        queued = transaction.next_in_queue()
        if queued is not None:
            params: dict[str, Any] | None = queued[1]
            transaction.take_from_queue(queued[0], number)
        elif number == 0:
            # A sensible hand-written configuration first, so that every picture has its baseline.
            params = self.space.default
        else:
            seed = getattr(self.sampler, "seed", None)
            params = self.sampler.sample(
                self.space, view, rng if seed is None else np.random.default_rng([seed, ask])
            )
        if params is None:
            return None
        params = self.space.validate(params)  # a sampler may be the user's own
        violated = self._violated(params)
        record = TrialRecord(
            number=number,
            params=params,
            key=self.space.key(params),
            state=TrialState.INFEASIBLE if violated else TrialState.RUNNING,
            fidelity=action.fidelity,
            seed=self._trial_seed(number),
            parent=action.parent,
            figures=plain(action.figures),
            reason=violated,
        )
        transaction.put_decision(ask, "start", record, action.figures, str(self._owner))
        # A feasible one is written when it is handed out, in this same transaction.
        return self._write(transaction, record) if violated else record

    def _hand_out(self, transaction: Transaction, record: TrialRecord) -> Trial:
        running = dataclasses.replace(
            record,
            state=TrialState.RUNNING,
            owner=str(self._owner),
            attempt=record.attempt + 1,
            unfinished=False,
            reason=None,
        )
        running = self._write(transaction, running, lease=time.time() + LEASE)
        return Trial(self._segment(running, str(self._folder(running.number)), retraining=False), self.space)

    def _segment(self, record: TrialRecord, folder: str, *, retraining: bool) -> Segment:
        return Segment(
            record=record,
            axes=self.axes,
            directions=self.directions,
            metric_names=self.metric_names,
            folder=folder,
            retraining=retraining,
            deadline=None if retraining else self._deadline,
            stop_file=self._stop_file,
        )

    def _reclaim(self, transaction: Transaction) -> None:
        """Take back the trials of workers that are gone."""
        for number, owner, lease in transaction.leases():
            record = self._records[number]
            dead = released(owner, number, record.watermark) or gone(owner)
            if dead or (dead is None and time.time() >= lease):
                logger.warning("trial %d: its worker is gone, taken back at its last checkpoint", number)
                self._take_back(transaction, record)

    def _take_back(self, transaction: Transaction, record: TrialRecord) -> TrialRecord:
        """Pause a trial whose segment was never told, with what its checkpoint holds of it."""
        curve, ending = len(record.curves), Ending(TrialState.PAUSED, unfinished=True)
        for index in (len(record.curves), len(record.curves) - 1):
            found = saved(self._folder(record.number), index) if index >= 0 else None
            if found is None or found.record == record.checkpoint:
                continue
            known = record.curves[index].observations if index < len(record.curves) else ()
            observations = merged(found.observations, known)
            curve, ending = index, dataclasses.replace(ending, observations=observations)
            last = record.fidelity.epochs
            # Killed between its last checkpoint and its tell: the segment is whole, only untold.
            if found.record.fidelity == record.fidelity and last in {o.epoch for o in found.observations}:
                done = TrialState.COMPLETE if record.fidelity == self.axes.full else TrialState.PAUSED
                ending = dataclasses.replace(ending, state=done, unfinished=False)
            record = dataclasses.replace(
                record, checkpoint=found.record, user_attrs={**record.user_attrs, **found.user_attrs}
            )
            break
        return self._end(transaction, record, curve, ending)

    def _end(self, transaction: Transaction, record: TrialRecord, curve: int, ending: Ending) -> TrialRecord:
        curves = list(record.curves)
        if ending.observations:
            curves[curve : curve + 1] = [Curve(ending.observations)]
            transaction.put_curve(record.number, curve, ending.observations)
        record = dataclasses.replace(
            record,
            state=ending.state,
            reason=ending.reason,
            unfinished=ending.unfinished,
            lost=record.lost + ending.lost,
            owner=None,
            curves=tuple(curves),
        )
        return self._write(transaction, record)

    def _write(
        self, transaction: Transaction, record: TrialRecord, lease: float | None = None
    ) -> TrialRecord:
        record = dataclasses.replace(record, watermark=transaction.watermark + 1)
        transaction.put_trial(record, lease, new=record.number == len(self._records))
        self._remember(record)
        return record

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        """One atomic look at, and change of, the study, with all records read."""
        if self._owner.process != os.getpid():
            self._owner = Owner()  # a copy of this object in a forked process is a worker of its own
        try:
            with self._store.transaction(self._id) as transaction:
                self._refresh(transaction)
                yield transaction
            # What was written here need not be read again, and nobody else wrote in between.
            self._seen = transaction.watermark
        except BaseException:
            self._seen = -1  # the transaction is undone, and with it what was remembered from it
            raise

    def _refresh(self, transaction: Transaction) -> None:
        if self._seen < 0:
            self._records, self._spent = [], []
        if transaction.watermark > self._seen:
            for record in transaction.changed_since(self._seen):
                self._remember(record)
            self._seen = transaction.watermark

    def _remember(self, record: TrialRecord) -> None:
        # What was added has been paid for elsewhere.
        spent = (record.cost, self._nominal(record)) if record.attempt > 0 else (0.0, 0.0)
        if record.number > len(self._records):
            raise ValueError(
                f"study.db: trial {len(self._records)} is missing. Restore the file from a copy."
            )
        if record.number == len(self._records):
            self._records.append(record)
            self._spent.append(spent)
        else:
            self._records[record.number] = record
            self._spent[record.number] = spent

    def _nominal(self, record: TrialRecord) -> float:
        if self.axes.cost == "nominal":
            return 0.0  # not needed: the study's unit is the nominal one
        total = 0.0
        for curve in record.curves:
            before = 0
            for o in curve.observations:
                total += (o.epoch - before) * self.axes.epoch_cost(o.fidelity)
                before = o.epoch
        return total

    def _view(self) -> StudyView:
        # Those never handed out are infeasible, or were added and are no starts of this study.
        started = sum(t.state != TrialState.INFEASIBLE and t.attempt > 0 for t in self._records)
        spent = sum(cost for cost, _ in self._spent)
        scale = 1.0
        if self.axes.cost != "nominal":
            nominal = sum(n for _, n in self._spent)
            # Before anything is known a reported full evaluation counts 1, and seconds count nothing.
            unknown = 1.0 if self.axes.cost == "reported" else 0.0
            scale = spent / nominal if nominal > 0 else unknown
        view = StudyView(
            trials=tuple(self._records),
            axes=self.axes,
            directions=self.directions,
            metric_names=self.metric_names,
            starts_left=0 if self._exhausted else self._starts_limit - started,
            cost_scale=scale,
        )
        if math.isinf(self._budget):
            return view
        reserved = sum(view.forecast(t.fidelity, t) for t in self._records if t.state == TrialState.RUNNING)
        return dataclasses.replace(view, budget_left=self._budget - spent - reserved)

    def _refuse_stale(self, trial: Trial) -> None:
        # A record does not change while its segment runs, so owner and watermark say it all.
        record = self._records[trial.number] if trial.number < len(self._records) else None
        handed = trial.segment.record
        if record is None or (record.owner, record.watermark) != (handed.owner, handed.watermark):
            raise StaleTrialError(
                f"trial {trial.number}: is {record.state.value if record else 'unknown'} by now, its segment "
                "was handed to another worker or told before. Nothing was written; ask() for the next one."
            )

    def _affordable(self, view: StudyView, action: Any) -> bool:
        match action:
            case Start(fidelity):
                return view.starts_left > 0 and view.fits(fidelity)
            case Resume(trial, fidelity):
                return view.fits(fidelity, trial)
        return True

    def _check_limits(
        self, n_trials: int | None, budget: float | None, timeout: float | None, n_jobs: int
    ) -> None:
        if n_trials is not None and (
            isinstance(n_trials, bool) or not isinstance(n_trials, int) or n_trials < 1
        ):
            raise ValueError(f"n_trials={n_trials!r}: must be a whole number of at least 1, or None.")
        for name, limit in (("budget", budget), ("timeout", timeout)):
            if limit is None:
                continue
            if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit < _MOST:
                raise ValueError(f"{name}={limit!r}: must be a finite number above 0, or None.")
        if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or not 1 <= n_jobs <= MOST_JOBS:
            raise ValueError(f"n_jobs={n_jobs!r}: must be a whole number from 1 to {MOST_JOBS}.")
        self.limit(n_trials, budget)
        self._deadline = None if timeout is None else time.time() + timeout
        self._stopped = self._exhausted = False
        if budget is None or self.axes.cost == "measured":
            return
        cheapest = self.axes.nominal_cost(self._lowest_rung())
        if budget < cheapest * (1 - 1e-9):
            raise ValueError(
                f"budget={budget}: less than one segment at the lowest rung, which costs {cheapest:.4g} full "
                "evaluations. Give more, or widen the axes."
            )

    def _check_added(self, record: TrialRecord) -> None:
        names = set(self.metric_names)
        for o in (o for curve in record.curves for o in curve.observations):
            if not names <= set(o.values):
                raise ValueError(
                    f"add_trial: an observation has {sorted(o.values)}, but this study's metrics are "
                    f"{sorted(names)}."
                )
            values = o.fidelity.to_dict()
            self.axes.fidelity({a.name: values.get(a.name) or a.high for a in self.axes.axes})
        if record.state == TrialState.COMPLETE and record.last is None:
            raise ValueError("add_trial: a COMPLETE trial needs at least one observation.")

    def _lowest_rung(self) -> Fidelity:
        first = self.scheduler.decide(
            StudyView((), self.axes, self.directions, self.metric_names), self._generator(0)
        )
        return first.fidelity if isinstance(first, Start) else self.axes.lowest

    def _violated(self, params: Mapping[str, Any]) -> str | None:
        if not self._definition.constraints:
            return None
        count = self.space.count(dict(params))
        for name, bound in self._definition.constraints.items():
            value = getattr(count, name)
            if value > bound:
                return f"{name} = {value:,} above {bound:,}"
        return None

    def _reached(self, record: TrialRecord) -> float:
        last = record.last
        return 0.0 if last is None else last.epoch * self.axes.epoch_cost(last.fidelity)

    def _generator(self, ask: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, ask])

    def _trial_seed(self, number: int) -> int:
        # The word keeps trial seeds apart from the generators of the asks.
        return int(np.random.SeedSequence([self.seed, number, 0x747269616C]).generate_state(1)[0])

    def _frozen(self, record: TrialRecord) -> FrozenTrial:
        return FrozenTrial(record, self.space, self.metric_names, self._folder(record.number))

    def _folder(self, number: int) -> Path:
        return self.artifacts / f"trial-{number:05d}"

    def _artifacts_folder(self, row: StudyRow) -> Path:
        entry = row.definition.get("artifacts")
        if not isinstance(entry, str | None):
            raise ValueError(f"study.db: artifacts={entry!r} is damaged. Restore the file from a copy.")
        path = self._store.path
        if entry is not None:
            return Path(entry) if path is None else path.parent / entry
        if path is None:
            folder = tempfile.mkdtemp(prefix="bonas-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            return Path(folder)
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", row.name)[:40]
        return path.parent / "artifacts" / f"{row.study}-{slug}"


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair cannot be stored
        return False
    return True


def _check_callable(objective: Any) -> None:
    if not callable(objective):
        raise ValueError(
            f"objective={objective!r}: must be a function of a trial, such as bonas.train_on(data)."
        )


def _artifacts_entry(artifacts: str | Path | None, database: Path | None) -> str | None:
    if artifacts is None:
        return None
    folder = Path(artifacts).absolute()
    if database is not None and folder.is_relative_to(database.parent):
        return folder.relative_to(database.parent).as_posix()  # the study's folder may be moved as a whole
    return str(folder)
