"""A study as a real Optuna study, for Optuna's visualisations and importances; one way only."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from fidelity.records import TrialState

if TYPE_CHECKING:
    import optuna

    from bonas.study import Study


def to_optuna(study: Study) -> optuna.study.Study:
    """Copy all trials; PAUSED and RUNNING ones come as PRUNED, for Optuna has no paused state."""
    import optuna
    from optuna.trial import TrialState as Theirs

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        directions = [optuna.study.StudyDirection[d.upper()] for d in study.directions]
        copy = optuna.create_study(directions=directions)
    finally:
        optuna.logging.set_verbosity(verbosity)
    if len(study.metric_names) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            copy.set_metric_names(list(study.metric_names))
    hyperparameters = study.space.configuration_space
    for trial in study.trials:
        values = [trial.values[name] for name in study.metric_names if name in trial.values]
        complete = trial.state == TrialState.COMPLETE and len(values) == len(study.metric_names)
        failed = trial.state in (TrialState.FAIL, TrialState.INFEASIBLE)
        state = Theirs.COMPLETE if complete else Theirs.FAIL if failed else Theirs.PRUNED
        copy.add_trial(
            optuna.trial.create_trial(
                state=state,
                values=values if complete else None,
                params=trial.params,
                distributions={n: _distribution(hyperparameters[n]) for n in trial.params},
                user_attrs=trial.user_attrs
                | {"bonas_number": trial.number, "bonas_state": trial.state.value},
                intermediate_values=trial.intermediate_values if len(study.directions) == 1 else None,
            )
        )
    return copy


def _distribution(hyperparameter: Any) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if hasattr(hyperparameter, "choices"):
        return CategoricalDistribution([_plain(v) for v in hyperparameter.choices])
    if hasattr(hyperparameter, "sequence"):
        return CategoricalDistribution([_plain(v) for v in hyperparameter.sequence])
    if hasattr(hyperparameter, "lower"):
        low, high, log = hyperparameter.lower, hyperparameter.upper, bool(hyperparameter.log)
        if "Integer" in type(hyperparameter).__name__:
            return IntDistribution(int(low), int(high), log=log)
        return FloatDistribution(float(low), float(high), log=log)
    return CategoricalDistribution([_plain(hyperparameter.value)])


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
