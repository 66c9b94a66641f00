"""The study: hands out segments, writes what came of them and reads as a whole; the only writer.

Knows nothing of how samplers and schedulers decide and of where objectives run. A study is a function of its
records: after a kill it continues as if nothing had happened.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonas.adding import adopted
from bonas.artifacts import Artifacts, artifacts_folder, stored_max_bytes, trial_folder
from bonas.asking import Asking
from bonas.best import best, front
from bonas.broken import broken, out_of_memory
from bonas.definition import Definition
from bonas.endings import conclude
from bonas.errors import StaleTrialError
from bonas.frozen import FrozenTrial
from bonas.ledger import Ledger, stamped
from bonas.limits import check_limits
from bonas.segment import Segment
from bonas.store import Store, StudyRow
from bonas.store.owners import LEASE, release
from bonas.store.sql import Transaction, plain
from bonas.trial import Trial
from fidelity.axes import Axes
from fidelity.records import StudyView, TrialRecord, TrialState, as_of
from fidelity.schedulers import Scheduler

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from bonas.explaining import Explanation, Remembered
    from bonas.feasibility import Latency
    from bonas.fidelity_report import FidelityReport
    from bonas.planning import Plan
    from bonas.samplers import Sampler
    from spaces import Space

MOST_INFEASIBLE = 500  # configurations one ask may draw before it gives up
_GAP = 0.1  # seconds; who waits for SQLite looks that often, at the least

Objective = Callable[[Trial], Any]

logger = logging.getLogger("bonas")


class Study:
    """A search: its trials, and what to run next. Made by ``bonas.create_study`` or ``bonas.load_study``."""

    def __init__(
        self, store: Store, row: StudyRow, definition: Definition, artifacts: Artifacts | None = None
    ) -> None:
        self._store = store
        self._definition = definition
        self.study_name: str = row.name
        self.space: Space = definition.space
        self.axes: Axes = definition.axes
        self.directions: tuple[str, ...] = definition.directions
        self.metric_names: tuple[str, ...] = definition.metric_names
        self.artifacts: Path = artifacts_folder(row, store.path, self)
        stored = stored_max_bytes(row.definition)
        self.max_bytes: int | None = stored if artifacts is None else artifacts.max_bytes
        self._ledger = Ledger(
            store, row.study, self.axes, self.directions, self.metric_names, self.artifacts, self.max_bytes
        )
        self._asking = Asking(definition, self._ledger)
        self._deadline: float | None = None
        self._time_limit: float | None = None
        self._stop_file: str | None = None
        self._stopped = self._warned = False
        self._remembered: Remembered | None = None

    def __repr__(self) -> str:
        return f"Study({self.study_name!r}, {len(self.records)} trials, spent {self.spent:.3g})"

    def _repr_html_(self) -> str:
        from bonas import report

        return report.study_html(self)

    # -- reading -------------------------------------------------------------------------------------

    @property
    def sampler(self) -> Sampler:
        """What proposes configurations."""
        return self._asking.sampler

    @property
    def scheduler(self) -> Scheduler:
        """What decides what runs next."""
        return self._asking.scheduler

    @property
    def constraints(self) -> Mapping[str, float | Latency]:
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
        with self._ledger.transaction():
            return tuple(self._ledger.records)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, in order of their numbers."""
        return [self._frozen(record) for record in self.records]

    @property
    def spent(self) -> float:
        """Cost of everything evaluated here: full evaluations, unless ``Axes(cost=...)`` says otherwise."""
        return sum(record.paid for record in self.records)

    @property
    def best_trial(self) -> FrozenTrial:
        """The best COMPLETE trial; before one exists the best at the highest fidelity, with a warning.

        Raises:
            ValueError: with several objectives, or if no trial has a value yet.
        """
        if len(self.directions) > 1:
            raise ValueError("best_trial: this study has several objectives. Use best_trials.")
        view = self.view()
        record = best(view)
        if record is None:
            raise ValueError(
                f"best_trial: none of the {len(view.trials)} trials has a value yet. Search for longer."
            )
        if record.state != TrialState.COMPLETE:
            warnings.warn(
                "no trial is complete yet: best_trial is the best at the highest fidelity reached so far",
                UserWarning,
                stacklevel=2,
            )
        return self._frozen(record)

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
        return [self._frozen(record) for record in front(self.view())]

    @property
    def done(self) -> bool:
        """Whether nothing will ever run again within the limits of this call."""
        view = self.view()
        if any(t.state == TrialState.RUNNING for t in view.trials):
            return False
        orphan = next(iter(self._ledger.orphans()), None)
        if orphan is not None:
            return not view.fits(orphan.fidelity, orphan)
        return self._asking.done(view)

    def view(self) -> StudyView:
        """What samplers and schedulers see now."""
        with self._ledger.transaction():
            return self._asking.view()

    def trials_dataframe(self) -> pd.DataFrame:
        """One row for each trial: number, state, values, cost, what was retrained, fidelity and params."""
        import pandas as pd

        rows = []
        for t in self.trials:
            several = len(self.metric_names) > 1
            names = {n: f"values_{n}" if several else "value" for n in self.metric_names}
            rows.append(
                {"number": t.number, "state": t.state.value}
                | {names[n]: t.values.get(n) for n in self.metric_names}
                | {"cost": t.cost, "retrained": t.retrained, "reason": t.reason}
                | {f"fidelity_{a.name}": t.fidelity[a.name] for a in self.axes.axes}
                | {f"params_{k}": v for k, v in t.params.items()}
                | {f"user_attrs_{k}": v for k, v in t.user_attrs.items()}
            )
        return pd.DataFrame(rows)

    def decisions(self, trial: FrozenTrial | int) -> list[Mapping[str, Any]]:
        """Every decision about a trial with the figures it was made from, oldest first."""
        with self._ledger.transaction() as transaction:
            return transaction.decisions(trial if isinstance(trial, int) else trial.number)

    def fidelity_report(self, metric: str | None = None) -> FidelityReport:
        """Whether the cheap evaluations can be trusted: what each rung costs, and how it ranks.

        For each rung its cost, nominal and measured, and Kendall's tau with the next rung and with full
        fidelity: over all trials seen on both, within the best of them, and beside what the number of
        parameters alone would rank. Prints itself as a table, with a warning where a rung misleads.

        Args:
            metric: one of the study's; the first that has to be trained if None.
        """
        from bonas.fidelity_report import fidelity_report

        return fidelity_report(self, metric)

    def plan(self, budget: float | None = None, n_trials: int | None = None) -> Plan:
        """What :meth:`optimize` will run within these limits: how many trials to which rung, at what cost.

        Both limits are totals of the study, as in :meth:`optimize`: what has run already is not told again.
        The scheduler is asked as in a search with one worker, with made-up values; expected times follow
        from what the study's trials took so far.

        Args:
            budget: total cost, in full evaluations unless ``Axes(cost=...)`` says otherwise.
            n_trials: configurations started.
        """
        from bonas.planning import plan

        check_limits(n_trials, budget, None, 1)
        return plan(self, budget, n_trials)

    def explain(self, trial: FrozenTrial | int) -> Explanation:
        """Why a trial was started, promoted, paused or stopped: a sentence for each decision about it.

        The figures are those that the decisions were made from, stored with them. What a sampler's model
        believed of a configuration is computed again from what had been observed by then.

        Args:
            trial: one of this study, or its number.

        Raises:
            ValueError: if there is no such trial.
        """
        from bonas.explaining import Remembered, explain

        if self._remembered is None:
            self._remembered = Remembered()
        return explain(self, trial.number if isinstance(trial, FrozenTrial) else trial, self._remembered)

    def to_optuna(self) -> optuna.study.Study:
        """A copy as a real Optuna study, for Optuna's tools (see :mod:`bonas.optuna_bridge`)."""
        from bonas.optuna_bridge import to_optuna

        return to_optuna(self)

    # -- ask and tell --------------------------------------------------------------------------------

    def ask(self) -> Trial | None:
        """The next segment to run: a new trial or a paused one again; None when nothing can run now."""
        hopeless = None
        for _ in range(MOST_INFEASIBLE):
            began = time.monotonic()
            # A transaction for each configuration: nobody else can use the store while a latency is measured.
            with self._ledger.turn() as transaction:
                self._ledger.reclaim(transaction)
                orphan = self._ledger.next_orphan(transaction)
                if orphan is not None:
                    fits = self._asking.view().fits(orphan.fidelity, orphan)
                    return self._hand_out(transaction, orphan) if fits else None
                record = self._asking.next(transaction)
                if record is None:
                    return None
                if record.state != TrialState.INFEASIBLE:
                    return self._hand_out(transaction, record)
                hopeless = record
            if self._stopped or self.timed_out:
                return None
            if time.monotonic() - began > _GAP:
                time.sleep(_GAP)
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
        with self._ledger.transaction():
            # Before it touches the checkpoints of whoever has the trial now.
            self._ledger.refuse_stale(trial.segment.record)
        collected = trial.collect(value if error is None else None)
        ending = conclude(trial.segment, collected, value, error)
        with self._ledger.turn() as transaction:
            self._ledger.refuse_stale(trial.segment.record)
            record = self._ledger.records[trial.number]
            record = dataclasses.replace(
                record,
                checkpoint=collected.checkpoint,
                retrained=record.retrained + collected.retrained,
                user_attrs=dict(collected.user_attrs),
            )
            record = self._ledger.end(transaction, record, collected.curve, ending)
        if not collected.saved:
            self._warn_of_no_checkpoints(record)
        return self._frozen(record)

    def enqueue_trial(self, params: Mapping[str, Any]) -> None:
        """Put a configuration in line: the next new trial will be this one.

        It is taken at your word: one that was evaluated already is evaluated again, as a trial of its own
        with another seed, and so is one with a category of weight zero, which no sampler would propose.

        Args:
            params: every active hyperparameter with its value.

        Raises:
            ValueError: if it is no configuration of the space.
        """
        if not isinstance(params, Mapping):
            raise ValueError(f"enqueue_trial({params!r}): takes the params of a configuration as a dict.")
        checked = self.space.validate(dict(params))
        with self._ledger.transaction() as transaction:
            transaction.enqueue(checked)

    def add_trial(self, record: TrialRecord | FrozenTrial) -> None:
        """Add what was evaluated elsewhere; number, key and seed are given by this study.

        It counts neither towards ``n_trials`` nor towards the budget; if it is resumed, what is trained from
        then on costs, from its first epoch, because its checkpoint stays where it was. It is COMPLETE here
        if it was evaluated at this study's full fidelity, and else PAUSED, unless it had ended for good.

        Args:
            record: a record, or a trial of another study with the same hyperparameters, axes and metrics. An
                axis that the other study did not have counts as full.

        Raises:
            ValueError: if it does not fit this study.
        """
        record = getattr(record, "record", record)
        if not isinstance(record, TrialRecord):
            raise ValueError(f"add_trial({record!r}): takes a TrialRecord, or a trial of another study.")
        params = self.space.validate(dict(record.params))
        with self._ledger.transaction() as transaction:
            number = len(self._ledger.records)
            own = {"number": number, "params": params, "key": self.space.key(params)}
            added = adopted(
                record, self.axes, self.metric_names, own | {"seed": self._asking.trial_seed(number)}
            )
            curves = tuple(stamped(transaction, curve.observations) for curve in added.curves)
            added = dataclasses.replace(added, curves=curves, user_attrs=plain(added.user_attrs))
            self._ledger.write(transaction, added)
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
        trial_timeout: float | None = None,
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
            trial_timeout: seconds for one segment, after which its trial fails. With ``n_jobs`` above 1 its
                process is ended if need be. In this process the objective is stopped as soon as Python runs
                again; in other threads, and on Windows, at its next epoch.

        Raises:
            ValueError: for limits that allow nothing, such as a budget below the lowest rung.
        """
        from bonas.executors import run

        _check_callable(objective)
        if not isinstance(callbacks, Iterable) or not all(map(callable, callbacks := tuple(callbacks))):
            raise ValueError(f"callbacks={callbacks!r}: must be a list of functions of a study and a trial.")
        if executor is not None and not hasattr(executor, "submit"):
            raise ValueError(f"executor={executor!r}: must be a concurrent.futures executor, or None.")
        self._check_limits(n_trials, budget, timeout, n_jobs, trial_timeout)
        if (n_trials or budget) and self.done:  # both are totals, so a call may find them used up
            logger.warning("nothing to run: %s", self.plan(budget, n_trials).statement)
        try:
            if show_progress_bar:
                from bonas.leaderboard import Leaderboard

                with Leaderboard(self, n_trials=n_trials, budget=budget, timeout=timeout) as board:
                    run(self, objective, n_jobs, executor, (*callbacks, board))
            else:
                run(self, objective, n_jobs, executor, callbacks)
        finally:
            self._deadline = self._time_limit = None  # of this call only
            self._stopped = False

    # -- after the search ----------------------------------------------------------------------------

    def recommend(
        self,
        objective: Objective | None = None,
        k: int = 3,
        repeats: int = 2,
        prefer: str | None = None,
    ) -> FrozenTrial:
        """The trial to trust: best by posterior mean, not by its luckiest value.

        Args:
            objective: if given, the ``k`` finalists are evaluated again in full with new seeds, and the best
                mean of all their full values is recommended: against the winner's curse.
            k: number of finalists.
            repeats: new evaluations of each.
            prefer: with several objectives, which trial of the Pareto front: ``"knee"``, where a gain in one
                metric would cost most in the others, or the name of a metric, whose best one is meant.

        Raises:
            ValueError: with several objectives and nothing preferred; choose among :attr:`best_trials`.
        """
        from bonas.recommendation import recommend

        if objective is not None:
            _check_callable(objective)
        return recommend(self, objective, k, repeats, prefer)

    def retrain(
        self, objective: Objective, trial: FrozenTrial | None = None, epochs: int | None = None
    ) -> FrozenTrial:
        """Train the recommended configuration from scratch at full fidelity and touch the test data once.

        ``bonas.train_on(data)`` then trains on training and validation data and keeps ``test_accuracy`` in
        the user attributes. Interrupted, it goes on from its checkpoint; done, it is not done again.

        Args:
            objective: as for :meth:`optimize`.
            trial: what to retrain, if not what :meth:`recommend` says; with several objectives the one you
                choose, such as ``study.best_trials[0]``.
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

    def broken(self, failed: FrozenTrial, *, raised: bool) -> str | None:
        """Why this failure and those before it speak against the objective, in a sentence; None if not."""
        return broken(self.records, failed.record, self.axes, raised)

    @property
    def out_of_memory(self) -> bool:
        """Whether the latest trials, many of them, all ran out of memory: the next one will, too."""
        return out_of_memory(self.records)

    def limit(self, n_trials: int | None, budget: float | None) -> None:
        """Set the totals that :meth:`ask` keeps; None means without limit."""
        self._asking.starts_limit = math.inf if n_trials is None else n_trials
        self._asking.budget = math.inf if budget is None else budget

    def view_until(self, watermark: int) -> StudyView:
        """What had been observed at a watermark: trials without any observation by then are left out."""
        view = self.view()
        trials = (as_of(trial, watermark, view.axes.full) for trial in view.trials)
        return dataclasses.replace(view, trials=tuple(t for t in trials if t is not None), outlook=None)

    def limited_view(self, n_trials: int | None, budget: float | None) -> StudyView:
        """The view under limits other than those of the running call; see :meth:`limit`."""
        starts = math.inf if n_trials is None else n_trials
        with self._ledger.transaction():
            return self._ledger.view(starts, math.inf if budget is None else budget)

    @property
    def attrs(self) -> dict[str, Any]:
        """JSON-ready values kept with the study as a whole."""
        with self._ledger.transaction() as transaction:
            return transaction.attrs()

    def set_attr(self, key: str, value: Any) -> None:
        """Keep a JSON-ready value with the study."""
        with self._ledger.transaction() as transaction:
            transaction.put_attrs({**transaction.attrs(), key: value})

    def renew_leases(self, numbers: list[int]) -> None:
        """Tell other hosts that this worker still runs these trials."""
        with self._ledger.transaction() as transaction:
            transaction.renew(numbers, str(self._ledger.owner), time.time() + LEASE)

    def abandon(self, trial: Trial, failure: str | None = None) -> FrozenTrial | None:
        """A worker died with this segment: pause the trial at its last checkpoint, or fail it for a reason.

        Returns the trial, or None if another worker has it by now.
        """
        lost = trial.seconds if self.axes.cost == "measured" else None
        with self._ledger.turn() as transaction:
            try:
                self._ledger.refuse_stale(trial.segment.record)
            except StaleTrialError:
                return None
            record = self._ledger.records[trial.number]
            record = self._ledger.take_back(transaction, record, failure, lost)
        return self._frozen(record)

    def release(self, trial: Trial) -> None:
        """Nobody will tell this segment any more: the next ask takes it back. Writes nothing."""
        handed = trial.segment.record
        release(str(handed.owner), handed.number, handed.watermark)

    @property
    def own_running(self) -> list[int]:
        """Numbers of the trials that this very object handed out and that were not told."""
        return [t.number for t in self.records if t.owner == str(self._ledger.owner)]

    def detached(self, record: TrialRecord, folder: str, axes: Axes, *, retraining: bool) -> Trial:
        """A handle outside the search, over axes of its own; nothing of it is written to the trials."""
        segment = self._segment(record, folder, retraining=retraining)
        return Trial(dataclasses.replace(segment, axes=axes), self.space)

    # -- inside --------------------------------------------------------------------------------------

    def _hand_out(self, transaction: Transaction, record: TrialRecord) -> Trial:
        running = self._ledger.hand_out(transaction, record)
        folder = trial_folder(self.artifacts, running.number)
        return Trial(self._segment(running, str(folder), retraining=False), self.space)

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
            max_bytes=self.max_bytes,
            time_limit=self._time_limit,
        )

    def _check_limits(
        self,
        n_trials: int | None,
        budget: float | None,
        timeout: float | None,
        n_jobs: int,
        trial_timeout: float | None,
    ) -> None:
        check_limits(n_trials, budget, timeout, n_jobs, trial_timeout)
        self.limit(n_trials, budget)
        self._time_limit = trial_timeout
        self._deadline = None if timeout is None else time.time() + timeout
        self._stopped = self._asking.exhausted = False
        if budget is None or self.axes.cost == "measured":
            return
        lowest = self._asking.lowest_rung()
        cheapest = self.axes.nominal_cost(lowest)
        if budget >= cheapest * (1 - 1e-9):
            return
        if lowest == self.axes.full:  # wider axes would make it no cheaper
            raise ValueError(
                f"budget={budget}: less than one full evaluation, which costs 1. Give at least 1."
            )
        raise ValueError(
            f"budget={budget}: less than one segment at the lowest rung, which costs {cheapest:.4g} of a "
            "full evaluation. Give more, or widen the axes."
        )

    def _warn_of_no_checkpoints(self, record: TrialRecord) -> None:
        """Say once that what is paused will train again, where its state could have been carried on."""
        at, paused = record.fidelity, record.state == TrialState.PAUSED and not record.unfinished
        if self._warned or not paused or not self.axes.carried_epoch(at.epochs, at, self.axes.full):
            return
        self._warned = True
        logger.warning(
            "trial %d: was paused after epoch %d and its objective saved nothing. Resumed, it trains again "
            "from its first epoch and pays for that; study.plan() counts on less. Call "
            "trial.load_checkpoint() before the loop over trial.epochs() and trial.save_checkpoint({...}) in "
            "it; or say Axes(..., carry=()), if there is no state to go on from.",
            record.number,
            at.epochs,
        )

    def _frozen(self, record: TrialRecord) -> FrozenTrial:
        return FrozenTrial(record, self.space, self.metric_names, trial_folder(self.artifacts, record.number))


def _check_callable(objective: Any) -> None:
    if not callable(objective):
        raise ValueError(
            f"objective={objective!r}: must be a function of a trial, such as bonas.train_on(data)."
        )
