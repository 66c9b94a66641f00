"""Who is compared, as users would write it; knows no data, no clock.

All train by one objective, ``bonas.train_on``, and evaluate the space's hand-written default first. Methods
of bonas go on from their checkpoints; Optuna's trials are trained in one go, report every epoch, and end
where its pruner says so.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import bonas
from bonas import fidelity, samplers
from fidelity.records import Fidelity
from fidelity.training import Diverged

if TYPE_CHECKING:
    import torch

    from fidelity.training import TrainOn
    from real_training.meter import Meter
    from real_training.problem import Problem
    from spaces import Space

from real_training.meter import metered

ETA = 3  # of both Hyperbands, as their papers have it


@dataclass(frozen=True)
class Method:
    """One of those compared."""

    settings: Mapping[str, Any]
    search: Callable[[TrainOn, Problem, int, Meter], None]
    """Trains until the meter is over."""
    packages: tuple[str, ...] = ()
    """Whose versions decide what it does."""
    own: tuple[Any, Any] | None = None
    """Scheduler and sampler of a method of bonas."""


# bonas ------------------------------------------------------------------------------------------------------


def _study(
    sampler: Callable[[], Any] | None,
    scheduler: Any,
    train: TrainOn,
    problem: Problem,
    seed: int,
    meter: Meter,
) -> None:
    study = bonas.create_study(
        space=problem.space(),
        axes=problem.axes,
        direction="maximize",
        sampler=None if sampler is None else sampler(),
        scheduler=scheduler,
        seed=seed,
    )

    def stop(study: bonas.Study, trial: Any) -> None:
        if meter.over:
            study.stop()

    study.optimize(metered(train, problem, seed, meter), callbacks=[stop])


def _own(sampler: Callable[[], Any] | None, scheduler: Any) -> Method:
    default = (fidelity.ASHA(), samplers.ForestSampler())
    made = (scheduler or default[0], sampler() if sampler else default[1])
    settings = {"scheduler": made[0].to_dict(), "sampler": made[1].to_dict()}
    return Method(settings, partial(_study, sampler, scheduler), own=made)


# Optuna -----------------------------------------------------------------------------------------------------


class OptunaTrial:
    """A trial of Optuna's as the objective sees it."""

    retraining = False
    directions = ("maximize",)
    metric_names = ("accuracy",)

    def __init__(self, trial: Any, params: dict[str, Any], space: Space, epochs: int) -> None:
        self.params, self.number, self.horizon = params, trial.number, epochs
        self.fidelity = Fidelity(epochs=epochs)
        self.user_attrs: dict[str, Any] = {}
        self.accuracy: float | None = None
        """After all epochs."""
        self._trial, self._space = trial, space

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu")

    def build(self) -> torch.nn.Module:
        return self._space.build(self.params)

    def count(self) -> Any:
        return self._space.count(self.params)

    def load_checkpoint(self) -> None:
        return None

    def epochs(self) -> Iterator[int]:
        import optuna

        for epoch in range(1, self.horizon + 1):
            yield epoch
            if self._trial.should_prune():
                raise optuna.TrialPruned

    def report(self, value: Mapping[str, float], epoch: int) -> None:
        self._trial.report(value["accuracy"], epoch)
        if epoch == self.horizon:
            self.accuracy = value["accuracy"]

    def save_checkpoint(self, state: Any) -> None:
        pass

    def set_user_attr(self, key: str, value: Any) -> None:
        self.user_attrs[key] = value


def _optuna(train: TrainOn, problem: Problem, seed: int, meter: Meter) -> None:
    import optuna

    from bonas.samplers._optuna import Distributions

    optuna.logging.set_verbosity(logging.ERROR)
    space = problem.space()
    # Suggests each hyperparameter where its parents make it active; ordered values as integers.
    suggestions = Distributions(space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            study_name=f"real training {seed}",  # by which Optuna draws a trial's bracket
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.HyperbandPruner(
                min_resource=1, max_resource=problem.epochs, reduction_factor=ETA
            ),
        )
    study.enqueue_trial(suggestions.internal(space.default)[0])
    run = metered(train, problem, seed, meter)

    def objective(trial: Any) -> float:
        params = space.validate(suggestions.suggest(trial))
        one = OptunaTrial(trial, params, space, problem.epochs)
        run(one)
        if one.accuracy is None:  # the seconds were used up
            raise optuna.TrialPruned
        return one.accuracy

    def stop(study: Any, trial: Any) -> None:
        if meter.over:
            study.stop()

    study.optimize(objective, callbacks=[stop], catch=(Diverged,))


DEFAULT, RANDOM, HYPERBAND, OPTUNA = "bonas", "random", "Hyperband", "Optuna TPE + Hyperband"

METHODS: dict[str, Method] = {
    DEFAULT: _own(None, None),
    RANDOM: _own(samplers.RandomSampler, fidelity.FullFidelity()),
    HYPERBAND: _own(samplers.RandomSampler, fidelity.Hyperband(eta=ETA)),
    OPTUNA: Method(
        {"sampler": "TPESampler, default", "pruner": f"HyperbandPruner, from epoch 1, reduction {ETA}"},
        _optuna,
        packages=("optuna",),
    ),
}
"""By name, in the order of the report."""
