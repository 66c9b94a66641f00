"""Other packages' search methods as :class:`~search.method.Method`; knows no tables, noise or budgets.

Each runs with the settings it has when nothing is set, through the interface that its documentation gives
for an objective of one's own; what had to be decided is said at its class. The packages are installed apart
from bonas (``benchmarks/peers.txt``) and imported when a search of theirs begins.

A *flat* configuration has a value for every hyperparameter, inactive ones their default: for packages that
know no conditions.
"""

from __future__ import annotations

import queue
import shutil
import tempfile
import threading
import warnings
import weakref
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from ConfigSpace.util import deactivate_inactive_hyperparameters

from search.method import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ConfigSpace import ConfigurationSpace

    from search.task import Task

TRIALS = 100
"""What the peers are told that fit their initial design to the number of trials."""


@dataclass(frozen=True)
class Axis:
    """One hyperparameter: choices, or a range."""

    name: str
    default: Any
    choices: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False

    @staticmethod
    def of(hyperparameter: Any) -> Axis:
        name, default = hyperparameter.name, plain(hyperparameter.default_value)
        match hyperparameter:
            case CategoricalHyperparameter():
                return Axis(name, default, tuple(map(plain, hyperparameter.choices)))
            case OrdinalHyperparameter():
                return Axis(name, default, tuple(map(plain, hyperparameter.sequence)))
            case UniformIntegerHyperparameter() | UniformFloatHyperparameter() as h:
                whole = isinstance(h, UniformIntegerHyperparameter)
                return Axis(name, default, None, plain(h.lower), plain(h.upper), h.log, whole)
        raise ValueError(f"{hyperparameter!r}: peers search categories, ordinals and uniform ranges only.")

    def value(self, unit: float) -> Any:
        """That of a coordinate in [0, 1]: equal parts for choices, rounded for whole numbers."""
        if self.choices is not None:
            return self.choices[min(int(unit * len(self.choices)), len(self.choices) - 1)]
        if self.log:
            found = float(np.exp(np.log(self.low) + unit * np.log(self.high / self.low)))
        else:
            found = self.low + unit * (self.high - self.low)
        found = min(max(found, self.low), self.high)
        return round(found) if self.whole else found

    def unit(self, value: Any) -> float:
        """A coordinate that :meth:`value` turns into this value: of choices the middle of their part."""
        if self.choices is not None:
            return (self.choices.index(value) + 0.5) / len(self.choices)
        if self.log:
            return float(np.log(value / self.low) / np.log(self.high / self.low))
        return float((value - self.low) / (self.high - self.low))


class Flat:
    """The flat configurations of a space that forbids nothing."""

    def __init__(self, space: ConfigurationSpace) -> None:
        self._space = space
        self.axes = tuple(map(Axis.of, space.values()))

    def active(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration that a flat one stands for."""
        if not self._space.conditions:
            return dict(flat)
        return {name: flat[name] for name in deactivate_inactive_hyperparameters(dict(flat), self._space)}

    def of(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The flat configuration of one."""
        return {axis.name: params.get(axis.name, axis.default) for axis in self.axes}

    def at(self, units: np.ndarray) -> dict[str, Any]:
        """The configuration at a point of the unit cube, shape (axes,)."""
        return self.active({a.name: a.value(float(u)) for a, u in zip(self.axes, units, strict=True)})


def plain(value: Any) -> Any:
    """A value without NumPy's type."""
    return value.item() if isinstance(value, np.generic) else value


def folder(owner: object) -> str:
    """A folder for what a package writes, deleted with its owner."""
    path = tempfile.mkdtemp()
    weakref.finalize(owner, shutil.rmtree, path, ignore_errors=True)
    return path


def loss_sign(task: Any) -> int:
    """What turns the task's values into losses."""
    return -1 if task.direction == "maximize" else 1


# Optuna ---------------------------------------------------------------------------------------------------


class Optuna:
    """A sampler of Optuna, asked define-by-run: parents first, children where they are active."""

    def __init__(self, sampler: str, task: Task, seed: int) -> None:
        import optuna

        from bonas.samplers._optuna import Distributions

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self._distributions = Distributions(task.space)
        self._study = optuna.create_study(
            direction=task.direction, sampler=getattr(optuna.samplers, sampler)(seed=seed)
        )

    def ask(self) -> dict[str, Any]:
        self._trial = self._study.ask()
        self._asked = self._distributions.suggest(self._trial)
        return self._asked

    def tell(self, params: Mapping[str, Any], value: float) -> None:
        import optuna

        if params == self._asked:
            self._study.tell(self._trial, value)
            return
        self._study.tell(self._trial, state=optuna.trial.TrialState.FAIL)
        values, distributions = self._distributions.internal(params)
        self._study.add_trial(
            optuna.trial.create_trial(params=values, distributions=distributions, value=value)
        )


# SMAC -----------------------------------------------------------------------------------------------------


def smac_forest(space: ConfigurationSpace, seed: int) -> Any:
    """The forest of SMAC's facades, but without a bound on its leaves, and in one thread.

    For as many leaves as that bound room is made before each tree (135 ms).
    """
    from smac.model.random_forest import RandomForest

    return RandomForest(
        space,
        log_y=True,
        n_trees=10,
        ratio_features=1.0,
        bootstrapping=True,
        min_samples_split=2,
        min_samples_leaf=1,
        max_leaf_nodes=None,
        n_jobs=1,
        seed=seed,
    )


class SMAC:
    """A facade of SMAC, asked and told.

    The scenario is deterministic, so that every evaluation is a new configuration; SMAC's default evaluates
    good ones up to three times with other seeds.
    """

    def __init__(self, facade: str, task: Task, seed: int) -> None:
        import smac

        self._sign = loss_sign(task)
        self._space = task.space.configuration_space
        scenario = smac.Scenario(
            self._space, deterministic=True, n_trials=TRIALS, seed=seed, output_directory=folder(self)
        )
        forest = smac_forest(self._space, seed) if facade == "HyperparameterOptimizationFacade" else None
        self._smac = getattr(smac, facade)(
            scenario, lambda config, seed=0: 0.0, model=forest, overwrite=True, logging_level=40
        )

    def ask(self) -> dict[str, Any]:
        self._asked = self._smac.ask()
        return {name: plain(value) for name, value in dict(self._asked.config).items()}

    def tell(self, params: Mapping[str, Any], value: float) -> None:
        from ConfigSpace import Configuration
        from smac.runhistory.dataclasses import TrialInfo, TrialValue

        told = Configuration(self._space, values=dict(params))
        info = TrialInfo(told, self._asked.instance, self._asked.seed, self._asked.budget)
        self._smac.tell(info, TrialValue(cost=self._sign * value), save=False)


# DEHB -----------------------------------------------------------------------------------------------------


class DEHB:
    """Differential evolution as DEHB does it; it refers to this class of its own where there is one fidelity.

    DEHB's settings. It reads spaces of older ConfigSpace only, so it searches the unit cube, decoded in its
    own way: equal parts for categories, whole numbers rounded, inactive coordinates ignored. It learns values
    as those of what it asked for.
    """

    def __init__(self, task: Task, seed: int) -> None:
        from dehb.optimizers import AsyncDE

        flat = Flat(task.space.configuration_space)
        sign = loss_sign(task)
        path = folder(self)

        def optimize(evaluate: Callable[[dict[str, Any]], float]) -> None:
            AsyncDE(
                f=lambda units, **_: {"fitness": sign * evaluate(flat.at(units)), "cost": 1.0},
                dimensions=len(flat.axes),
                pop_size=20,
                mutation_factor=0.5,
                crossover_prob=0.5,
                strategy="rand1_bin",
                async_strategy="immediate",
                boundary_fix_type="random",
                seed=seed,
                output_path=path,
            ).run(generations=10**6)

        self._called = Called(optimize)

    def ask(self) -> dict[str, Any]:
        return self._called.ask()

    def tell(self, params: Mapping[str, Any], value: float) -> None:
        self._called.tell(value)


class Called:
    """An optimizer that calls its objective, run in a thread so that it can be asked and told.

    Args:
        optimize: is given an objective and calls it for as long as it likes.
    """

    def __init__(self, optimize: Callable[[Callable[[Any], float]], None]) -> None:
        self._asked: queue.Queue[Any] = queue.Queue()
        self._told: queue.Queue[float | None] = queue.Queue()
        # The thread holds the queues alone, not this object, so that dropping this ends it.
        threading.Thread(target=_call, args=(optimize, self._asked, self._told), daemon=True).start()

    def __del__(self) -> None:
        self._told.put(None)

    def ask(self) -> Any:
        asked = self._asked.get()
        if isinstance(asked, Exception):
            raise asked
        return asked

    def tell(self, value: float) -> None:
        self._told.put(value)


class _DroppedError(Exception):
    """Nobody asks any more."""


def _call(optimize: Callable[..., None], asked: queue.Queue[Any], told: queue.Queue[float | None]) -> None:
    def evaluate(params: Any) -> float:
        asked.put(params)
        value = told.get()
        if value is None:
            raise _DroppedError
        return value

    try:
        optimize(evaluate)
    except _DroppedError:
        return
    except Exception as error:
        asked.put(error)


# NePS -----------------------------------------------------------------------------------------------------


def neps_parameter(axis: Axis) -> Any:
    """The same as NePS takes it."""
    import neps

    if axis.choices is not None:
        return neps.HPOCategorical(list(axis.choices))
    kind = neps.HPOInteger if axis.whole else neps.HPOFloat
    return kind(axis.low, axis.high, log=axis.log)


class NePS:
    """Bayesian optimization as NePS takes it by itself where there is neither a fidelity nor a prior.

    It accepts flat spaces only: spaces of its own for architectures are searched without a surrogate. It has
    no seed; the global generators it draws from are seeded.
    """

    def __init__(self, task: Task, seed: int) -> None:
        import neps

        seed_globally(seed)
        self._sign = loss_sign(task)
        self._flat = Flat(task.space.configuration_space)
        space = neps.SearchSpace({axis.name: neps_parameter(axis) for axis in self._flat.axes})
        self._neps = neps.AskAndTell(neps.algorithms.bayesian_optimization(space))

    def ask(self) -> dict[str, Any]:
        self._trial = self._neps.ask()
        return self._flat.active({name: plain(value) for name, value in self._trial.config.items()})

    def tell(self, params: Mapping[str, Any], value: float) -> None:
        # The configuration told takes the place of the one asked for, which would count as running otherwise.
        del self._neps.trials[self._trial.id]
        told = self._flat.of(params)
        self._neps.tell_custom(config_id=self._trial.id, config=told, result=self._sign * value)


# Syne Tune ------------------------------------------------------------------------------------------------


def syne_tune_domain(axis: Axis) -> Any:
    """The same as Syne Tune takes it."""
    from syne_tune import config_space

    if axis.choices is not None:
        return config_space.choice(list(axis.choices))
    kind = ("log" if axis.log else "") + ("randint" if axis.whole else "uniform")
    return getattr(config_space, kind)(axis.low, axis.high)


class SyneTune:
    """A scheduler of Syne Tune for one fidelity, asked and told; some draw from NumPy's global generator."""

    def __init__(self, scheduler: str, task: Task, seed: int) -> None:
        from syne_tune.optimizer import baselines
        from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler

        seed_globally(seed)
        self._sign = loss_sign(task)
        self._flat = Flat(task.space.configuration_space)
        space = {axis.name: syne_tune_domain(axis) for axis in self._flat.axes}
        self._scheduler = AskTellScheduler(
            getattr(baselines, scheduler)(space, metric="loss", do_minimize=True, random_seed=seed)
        )

    def ask(self) -> dict[str, Any]:
        self._trial = self._scheduler.ask()
        return self._flat.active({name: plain(value) for name, value in self._trial.config.items()})

    def tell(self, params: Mapping[str, Any], value: float) -> None:
        self._trial.config = self._flat.of(params)
        self._scheduler.tell(self._trial, {"loss": self._sign * value})


# BoTorch --------------------------------------------------------------------------------------------------


class BoTorch:
    """Its Gaussian process and acquisition optimizer for mixed spaces, with its default settings.

    BoTorch is a library of parts: ``MixedSingleTaskGP`` (``SingleTaskGP`` without categories), noisy expected
    improvement on a logarithmic scale, and alternating discrete and continuous search, after twice as many
    quasi-random points as there are hyperparameters, at most a quarter of the trials.
    """

    def __init__(self, task: Task, seed: int) -> None:
        seed_globally(seed)
        import torch

        self._sign = loss_sign(task)
        self._flat = Flat(task.space.configuration_space)
        axes = self._flat.axes
        self._first = torch.quasirandom.SobolEngine(len(axes), scramble=True, seed=seed).draw(
            min(2 * len(axes), TRIALS // 4)
        )
        self._levels = {
            k: [axis.unit(level) for level in levels]
            for k, axis in enumerate(axes)
            if (levels := _levels(axis)) is not None
        }
        self._categories = [k for k, axis in enumerate(axes) if axis.choices is not None]
        self._points: list[list[float]] = []
        self._losses: list[float] = []

    def ask(self) -> dict[str, Any]:
        n = len(self._losses)
        return self._flat.at(self._first[n].numpy() if n < len(self._first) else self._best())

    def tell(self, params: Mapping[str, Any], value: float) -> None:
        flat = self._flat.of(params)
        self._points.append([axis.unit(flat[axis.name]) for axis in self._flat.axes])
        self._losses.append(self._sign * value)

    def _best(self) -> np.ndarray:
        import torch
        from botorch.acquisition import qLogNoisyExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import MixedSingleTaskGP, SingleTaskGP
        from botorch.optim import optimize_acqf_mixed_alternating
        from gpytorch.mlls import ExactMarginalLogLikelihood

        X = torch.tensor(self._points, dtype=torch.float64)
        Y = -torch.tensor(self._losses, dtype=torch.float64)[:, None]
        model = MixedSingleTaskGP(X, Y, self._categories) if self._categories else SingleTaskGP(X, Y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            found, _ = optimize_acqf_mixed_alternating(
                qLogNoisyExpectedImprovement(model, X_baseline=X),
                bounds=torch.tensor([[0.0] * X.shape[1], [1.0] * X.shape[1]], dtype=torch.float64),
                discrete_dims={k: v for k, v in self._levels.items() if k not in self._categories},
                cat_dims={k: v for k, v in self._levels.items() if k in self._categories},
            )
        best: np.ndarray = found[0].numpy()
        return best


def _levels(axis: Axis) -> tuple[Any, ...] | None:
    """The values of an axis, None for a continuous one."""
    return axis.choices or (tuple(range(int(axis.low), int(axis.high) + 1)) if axis.whole else None)


def seed_globally(seed: int) -> None:
    """For packages that draw from global generators."""
    import random

    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


PEERS: dict[str, Entry] = {
    "Optuna TPE": Entry({"sampler": "TPESampler"}, partial(Optuna, "TPESampler"), ("optuna",)),
    "Optuna GP": Entry({"sampler": "GPSampler"}, partial(Optuna, "GPSampler"), ("optuna", "torch")),
    "SMAC RF": Entry(
        {"facade": "HyperparameterOptimizationFacade", "deterministic": True, "n_trials": TRIALS},
        partial(SMAC, "HyperparameterOptimizationFacade"),
        ("smac", "scikit-learn"),
    ),
    "SMAC GP": Entry(
        {"facade": "BlackBoxFacade", "deterministic": True, "n_trials": TRIALS},
        partial(SMAC, "BlackBoxFacade"),
        ("smac", "scikit-learn"),
    ),
    "DEHB": Entry({"class": "AsyncDE", "pop_size": 20}, DEHB, ("DEHB",)),
    "NePS": Entry({"algorithm": "bayesian_optimization"}, NePS, ("neural-pipeline-search", "botorch")),
    "Syne Tune CQR": Entry({"scheduler": "CQR"}, partial(SyneTune, "CQR"), ("syne-tune", "scikit-learn")),
    "Syne Tune BORE": Entry({"scheduler": "BORE"}, partial(SyneTune, "BORE"), ("syne-tune", "xgboost")),
    "BoTorch": Entry({"acquisition": "qLogNoisyExpectedImprovement"}, BoTorch, ("botorch", "gpytorch")),
}
"""By name, in the order of the report."""
