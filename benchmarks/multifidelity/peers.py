"""Other packages' multi-fidelity methods as :class:`~multifidelity.method.Method`; knows no tables, no clock.

Each searches the epochs from 1 to all of them with the settings it has when nothing is set, through the
interface that its documentation gives for a loop of one's own; what had to be decided is said at its class.
The packages are installed apart from bonas (``make peers``) and imported when a search of theirs begins.

Who pays for what: a package that only ever stops trials pays for every epoch once, and what was stopped is
lost (Optuna, Syne Tune). One that promotes trials and whose documentation loads their checkpoints pays for
the further epochs (NePS). One that promotes trials and knows no checkpoints trains them again from the first
epoch (SMAC, DEHB).

Not here: NePS's ifBO, whose network is downloaded when it is first used, and Syne Tune's ASHA by promotion,
which its present version does not have any more.
"""

from __future__ import annotations

import datetime
import logging
import math
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from search.peers import (
    Flat,
    folder,
    loss_sign,
    neps_parameter,
    plain,
    seed_globally,
    smac_forest,
    syne_tune_domain,
)

from multifidelity.method import Entry, Proposal
from multifidelity.play import play

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from multifidelity.method import Method
    from multifidelity.task import Task
    from multifidelity.trace import Trace

SEEDS = 10
"""Of the packages, all of which are slow."""

EPOCHS = "__epochs__"
"""What a package calls the epochs that has them among its hyperparameters."""


class Losses:
    """The task's values as losses; packages want a number of trainings that diverged, too."""

    NOTHING_SEEN = 1e10

    def __init__(self, task: Task) -> None:
        self._sign = loss_sign(task)
        self._worst = -math.inf

    def __call__(self, values: Sequence[float], expected: int) -> float:
        """That of the last epoch; the worst there has been if there are fewer values than expected."""
        losses = [self._sign * value for value in values]
        self._worst = max((self._worst, *losses))
        if len(losses) == expected:
            return losses[-1]
        return self._worst if math.isfinite(self._worst) else self.NOTHING_SEEN


# Optuna ---------------------------------------------------------------------------------------------------


class Optuna:
    """Optuna's default sampler with one of its pruners, which is asked after every epoch.

    What was trained takes the place of what was suggested: it is written over the running trial, or, where
    other hyperparameters are active, a trial of its own is enqueued. A trial that diverges reports NaN, and
    fails if the pruner lets that pass.
    """

    def __init__(self, pruner: str, settings: Mapping[str, Any], task: Task, seed: int) -> None:
        import optuna

        from bonas.samplers._optuna import Distributions

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self._epochs = task.epochs
        self._distributions = Distributions(task.space)
        self._storage = optuna.storages.InMemoryStorage()
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=f"{task.name} {seed}",  # by which Optuna draws a trial's bracket
            direction=task.direction,
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=getattr(optuna.pruners, pruner)(**settings),
        )
        self._next: Proposal | None = None

    def ask(self) -> Proposal:
        if self._next is not None:
            return self._next
        self._trial = self._study.ask()
        self._asked = self._distributions.suggest(self._trial)
        return Proposal(self._asked, 1)

    def tell(self, trial: int, params: Mapping[str, Any], epochs: int, values: Sequence[float]) -> None:
        from optuna.trial import TrialState

        if self._next is None:
            self._become(dict(params))
        self._next = None
        self._trial.report(values[-1] if values else math.nan, epochs)
        if self._trial.should_prune():
            self._study.tell(self._trial, state=TrialState.PRUNED)
        elif not values:
            self._study.tell(self._trial, state=TrialState.FAIL)
        elif epochs == self._epochs:
            self._study.tell(self._trial, values[-1])
        else:
            self._next = Proposal(params, epochs + 1, trial)

    def _become(self, params: dict[str, Any]) -> None:
        """Make the running trial one of these hyperparameters."""
        from optuna.trial import TrialState

        values, distributions = self._distributions.internal(params)
        if params.keys() == self._asked.keys():
            for name, distribution in distributions.items():
                value = distribution.to_internal_repr(values[name])
                self._storage.set_trial_param(self._trial._trial_id, name, value, distribution)
            return
        self._study.tell(self._trial, state=TrialState.FAIL)
        self._study.enqueue_trial(values)
        self._trial = self._study.ask()
        self._distributions.suggest(self._trial)


# SMAC -----------------------------------------------------------------------------------------------------


class SMAC:
    """The multi-fidelity facade of SMAC: its forest under Hyperband, asked and told.

    It is told the number of trials that its documentation computes from a total budget. Its brackets fill
    with configurations long before they are trained, and it can be told values of these alone: so the table's
    nearest configuration takes the place of what its selector returns. Its forest is :func:`smac_forest`'s.
    """

    def __init__(self, task: Task, seed: int, budget: float) -> None:
        import smac
        from smac.intensifier.hyperband_utils import get_n_trials_for_hyperband_multifidelity
        from smac.main.config_selector import ConfigSelector

        self._losses, self._task = Losses(task), task
        space = task.space.configuration_space
        rows: dict[Any, int] = {}
        taken: set[int] = set()

        class NearestSelector(ConfigSelector):
            def __iter__(self) -> Iterator[Any]:
                from ConfigSpace import Configuration

                for proposed in super().__iter__():
                    if len(taken) == len(task):
                        return
                    row = task.row({name: plain(value) for name, value in dict(proposed).items()}, taken)
                    taken.add(row)
                    config = Configuration(space, values=task.params(row))
                    rows[config] = row
                    yield config

        scenario = smac.Scenario(
            space,
            deterministic=True,
            n_trials=get_n_trials_for_hyperband_multifidelity(
                budget * task.epochs, 1, task.epochs, print_summary=False
            ),
            min_budget=1,
            max_budget=task.epochs,
            seed=seed,
            output_directory=folder(self),
        )
        self._smac = smac.MultiFidelityFacade(
            scenario,
            lambda config, seed=0, budget=0: 0.0,
            model=smac_forest(space, seed),
            config_selector=NearestSelector(scenario),
            overwrite=True,
            logging_level=40,
        )
        self._rows = rows
        self._trials: dict[int, int] = {}

    def ask(self) -> Proposal | None:
        try:
            self._asked = self._smac.ask()
        except StopIteration:
            return None
        self._row = self._rows[self._asked.config]
        epochs, trial = max(1, round(self._asked.budget)), self._trials.get(self._row)
        return Proposal(self._task.params(self._row), epochs, trial, restart=trial is not None)

    def tell(self, trial: int, params: Mapping[str, Any], epochs: int, values: Sequence[float]) -> None:
        from smac.runhistory.dataclasses import TrialValue

        self._trials[self._row] = trial
        self._smac.tell(self._asked, TrialValue(cost=self._losses(values, epochs)), save=False)


# DEHB -----------------------------------------------------------------------------------------------------


class DEHB:
    """Differential evolution under Hyperband, asked and told.

    It reads spaces of older ConfigSpace only, so it searches the unit cube, decoded in its own way: equal
    parts for categories, whole numbers rounded, inactive coordinates ignored.
    """

    def __init__(self, task: Task, seed: int) -> None:
        import dehb

        self._losses = Losses(task)
        self._flat = Flat(task.space.configuration_space)
        self._dehb = dehb.DEHB(
            dimensions=len(self._flat.axes),
            min_fidelity=1,
            max_fidelity=task.epochs,
            n_workers=1,
            seed=seed,
            save_freq="end",
            output_path=folder(self),
        )
        self._trials: dict[int, int] = {}

    def ask(self) -> Proposal:
        self._job = self._dehb.ask()
        trial = self._trials.get(self._job["config_id"])
        params = self._flat.at(self._job["config"])
        return Proposal(params, max(1, round(self._job["fidelity"])), trial, restart=trial is not None)

    def tell(self, trial: int, params: Mapping[str, Any], epochs: int, values: Sequence[float]) -> None:
        self._trials[self._job["config_id"]] = trial
        flat = self._flat.of(params)
        self._job["config"] = np.array([axis.unit(flat[axis.name]) for axis in self._flat.axes])
        self._dehb.tell(self._job, {"fitness": self._losses(values, epochs), "cost": float(epochs)})


# NePS -----------------------------------------------------------------------------------------------------


class NePS:
    """An algorithm of NePS with brackets, asked and told.

    It accepts flat spaces only. There are no priors: PriorBand draws uniformly where it would draw from them,
    else around the best configuration. It has no seed; the global generators it draws from are seeded.
    """

    def __init__(self, algorithm: str, task: Task, seed: int) -> None:
        import neps

        seed_globally(seed)
        self._losses = Losses(task)
        self._flat = Flat(task.space.configuration_space)
        space = neps.SearchSpace(
            {axis.name: neps_parameter(axis) for axis in self._flat.axes}
            | {EPOCHS: neps.HPOInteger(1, task.epochs, is_fidelity=True)}
        )
        self._neps = neps.AskAndTell(getattr(neps.algorithms, algorithm)(space))
        self._trials: dict[str, int] = {}
        self._reached: dict[int, int] = {}

    def ask(self) -> Proposal:
        self._asked = self._neps.ask()
        config = {name: plain(value) for name, value in self._asked.config.items()}
        epochs, trial = config.pop(EPOCHS), self._trials.get(self._own_number())
        return Proposal(self._flat.active(config), epochs, trial)

    def tell(self, trial: int, params: Mapping[str, Any], epochs: int, values: Sequence[float]) -> None:
        self._trials[self._own_number()] = trial
        loss = self._losses(values, epochs - self._reached.get(trial, 0))
        self._reached[trial] = self._reached.get(trial, 0) + len(values)
        # The configuration trained takes the place of the one asked for.
        del self._neps.trials[self._asked.id]
        config = self._flat.of(params) | {EPOCHS: epochs}
        self._neps.tell_custom(config_id=self._asked.id, config=config, result=loss)

    def _own_number(self) -> str:
        """What NePS calls a configuration on whatever rung."""
        number: str = self._asked.id.split("_rung_")[0]
        return number


# Syne Tune ------------------------------------------------------------------------------------------------


class SyneTune:
    """A scheduler of Syne Tune that stops trials between epochs, called as its tuner calls it."""

    def __init__(self, scheduler: str, task: Task, seed: int) -> None:
        from syne_tune.optimizer import baselines

        logging.getLogger("syne_tune").setLevel(logging.ERROR)  # or it warns of every training that diverges
        seed_globally(seed)
        self._losses = Losses(task)
        self._flat = Flat(task.space.configuration_space)
        self._scheduler = getattr(baselines, scheduler)(
            {axis.name: syne_tune_domain(axis) for axis in self._flat.axes},
            metric="loss",
            time_attr="epochs",
            max_t=task.epochs,
            do_minimize=True,
            random_seed=seed,
        )
        self._next: Proposal | None = None

    def ask(self) -> Proposal:
        if self._next is not None:
            return self._next
        suggested = self._scheduler.suggest().config
        return Proposal(self._flat.active({name: plain(value) for name, value in suggested.items()}), 1)

    def tell(self, trial: int, params: Mapping[str, Any], epochs: int, values: Sequence[float]) -> None:
        from syne_tune.backend.trial_status import Trial
        from syne_tune.optimizer.scheduler import SchedulerDecision

        if self._next is None:
            self._trial = Trial(trial, self._flat.of(params), datetime.datetime.now(datetime.UTC))
            self._scheduler.on_trial_add(self._trial)
        self._next = None
        loss = self._losses(values, 1)
        if not values:
            self._scheduler.on_trial_error(self._trial)
            return
        decision = self._scheduler.on_trial_result(self._trial, {"loss": loss, "epochs": epochs})
        if decision == SchedulerDecision.CONTINUE:
            self._next = Proposal(params, epochs + 1, trial)
        else:
            self._scheduler.on_trial_remove(self._trial)


# All of them ----------------------------------------------------------------------------------------------


def _entry(
    settings: Mapping[str, Any], make: Callable[[Task, int, float], Method], packages: tuple[str, ...]
) -> Entry:
    def run(task: Task, seed: int, budget: float) -> Trace:
        return play(task, make(task, seed, budget), budget)

    return Entry(settings, run, packages, seeds=SEEDS)


def _any_budget(make: Callable[[Task, int], Method]) -> Callable[[Task, int, float], Method]:
    return lambda task, seed, budget: make(task, seed)


def _hyperband(task: Task, seed: int) -> Method:
    settings = {"min_resource": 1, "max_resource": task.epochs, "reduction_factor": 3}
    return Optuna("HyperbandPruner", settings, task, seed)


PEERS: dict[str, Entry] = {
    "Optuna Hyperband": _entry(
        {"sampler": "TPESampler", "pruner": "HyperbandPruner", "max_resource": "all epochs"},
        _any_budget(_hyperband),
        ("optuna",),
    ),
    "Optuna median": _entry(
        {"sampler": "TPESampler", "pruner": "MedianPruner"},
        _any_budget(partial(Optuna, "MedianPruner", {})),
        ("optuna",),
    ),
    "SMAC Hyperband": _entry(
        {"facade": "MultiFidelityFacade", "deterministic": True}, SMAC, ("smac", "scikit-learn")
    ),
    "DEHB": _entry({"class": "DEHB"}, _any_budget(DEHB), ("DEHB",)),
    "NePS Hyperband": _entry(
        {"algorithm": "hyperband"},
        _any_budget(partial(NePS, "hyperband")),
        ("neural-pipeline-search",),
    ),
    "NePS PriorBand": _entry(
        {"algorithm": "priorband", "priors": None},
        _any_budget(partial(NePS, "priorband")),
        ("neural-pipeline-search",),
    ),
    "Syne Tune ASHA": _entry({"scheduler": "ASHA"}, _any_budget(partial(SyneTune, "ASHA")), ("syne-tune",)),
    "Syne Tune BOHB": _entry(
        {"scheduler": "BOHB"}, _any_budget(partial(SyneTune, "BOHB")), ("syne-tune", "statsmodels")
    ),
}
"""By name, in the order of the report."""
