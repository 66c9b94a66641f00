"""Any sampler of Optuna's over a conditional space; knows Optuna and ConfigSpace, and no method of its own.

The records become an Optuna study, read-only and in memory, and the Optuna sampler is asked define-by-run:
every parameter is suggested when, and only when, the parents suggested before it make it active.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from ConfigSpace import conditions as cs_conditions
from ConfigSpace import hyperparameters as cs_hyperparameters
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers._lazy_random_state import LazyRandomState
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from bonas.samplers._base import Allowed, closest, draw_new
from fidelity.records import TrialState

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from optuna.samplers import BaseSampler

    from fidelity.records import StudyView, TrialRecord
    from spaces import Space

# The samplers that can be stored by name with plain settings.
_BY_NAME: dict[str, Callable[..., BaseSampler]] = {
    "TPESampler": optuna.samplers.TPESampler,
    "GPSampler": optuna.samplers.GPSampler,
    "RandomSampler": optuna.samplers.RandomSampler,
}
# These write what they must remember into Optuna's trials, and would start afresh at every ask.
_STATEFUL = (
    optuna.samplers.CmaEsSampler,
    optuna.samplers.GridSampler,
    optuna.samplers.NSGAIISampler,
    optuna.samplers.NSGAIIISampler,
    optuna.samplers.QMCSampler,
)
# Proposals that were forbidden, infeasible or known already before the neighbourhood is searched instead.
_ATTEMPTS = 10
_DIRECTIONS = {"minimize": StudyDirection.MINIMIZE, "maximize": StudyDirection.MAXIMIZE}
_LONG_AGO = datetime(2000, 1, 1)  # finished trials must carry times; nothing reads them


class OptunaSampler:
    """Lets a sampler of Optuna's propose, over the whole conditional space.

    Trials below full fidelity count with their latest value, failed ones as failed; a trial still without
    a value counts as running. Forbidden, infeasible or known proposals are asked for again, then replaced
    by an allowed neighbour of the last valid one, then by a prior draw.

    Args:
        sampler: a name (``"TPESampler"``, ``"GPSampler"``, ``"RandomSampler"``), or an Optuna sampler of
            your own making. It is copied and reseeded for each ask, so its own seed has no effect.
            ``"GPSampler"`` fits its process anew for each ask, which takes tenths of a second to seconds.
        settings: keyword arguments of the sampler named; plain values, so that the study can store them.
        seed: seed of its randomness; the study's if None.

    Raises:
        ValueError: on an unknown name, on settings beside a sampler object or that the sampler refuses, and
            for samplers that keep their state in Optuna's own trials (CMA-ES, NSGA-II and III, QMC, grid).
    """

    def __init__(
        self,
        sampler: str | BaseSampler = "TPESampler",
        settings: Mapping[str, Any] | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        self.seed = seed
        self.settings = dict(settings or {})
        self._name = sampler if isinstance(sampler, str) else None
        self._sampler = _made(sampler, self.settings)
        self._distributions: Distributions | None = None
        self._frozen: dict[int, tuple[TrialRecord, tuple[str, ...], FrozenTrial]] = {}

    def __repr__(self) -> str:
        shown = repr(self._name) if self._name else f"{type(self._sampler).__name__}(...)"
        return f"OptunaSampler({shown}, settings={self.settings}, seed={self.seed})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings; of a sampler object of the user's own the class name alone."""
        if self._name is None:
            return {"name": "OptunaSampler", "object": type(self._sampler).__name__, "seed": self.seed}
        return {"name": "OptunaSampler", "sampler": self._name, "settings": self.settings, "seed": self.seed}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OptunaSampler:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: if the sampler was an object of the user's own: it has to be passed again.
        """
        if "object" in data:
            raise ValueError(
                f"OptunaSampler({data['object']}(...)): a sampler object is not stored with the study. "
                f"Pass it again: load_study(..., sampler=OptunaSampler({data['object']}(...)))."
            )
        return cls(data["sampler"], data["settings"], seed=data["seed"])

    def sample(self, space: Space, view: StudyView, rng: np.random.Generator) -> dict[str, Any] | None:
        """What the Optuna sampler suggests, valid and unseen; None once the space is used up."""
        allowed = Allowed(space, view)
        if space.size < float("inf") and len(allowed.seen) >= space.size:
            return None
        distributions = self._of(space)
        known = [self._known(view, trial, distributions, i) for i, trial in enumerate(view.trials)]
        valid: dict[str, Any] | None = None
        with _silenced():
            for _ in range(_ATTEMPTS):
                # A pristine copy each time: whatever it remembers from one ask must not reach the next.
                sampler = copy.deepcopy(self._sampler)
                _reseed(sampler, rng)
                storage = _Records(known, [_DIRECTIONS[d] for d in view.directions])
                study = optuna.Study(
                    storage.NAME, storage, sampler=sampler, pruner=optuna.pruners.NopPruner()
                )
                suggested = distributions.suggest(study.ask())
                try:
                    params = space.validate(suggested)
                except ValueError:  # a forbidden combination
                    continue
                if allowed(params):
                    return params
                valid = params
        if valid is not None:
            for params in space.neighbours(valid, rng, 32):
                if allowed(params):
                    return params
        return draw_new(space, allowed, rng)

    def _of(self, space: Space) -> Distributions:
        if self._distributions is None or self._distributions.space is not space:
            self._distributions = Distributions(space)
            self._frozen.clear()
        return self._distributions

    def _known(
        self, view: StudyView, trial: TrialRecord, distributions: Distributions, at: int
    ) -> FrozenTrial:
        """A record as Optuna's trial; made once for each record object, and records never change."""
        record, names, frozen = self._frozen.get(at, (None, None, None))
        if frozen is None or record is not trial or names != view.metric_names:
            frozen = _freeze(view, trial, distributions, at)
            self._frozen[at] = (trial, view.metric_names, frozen)
        return frozen


def _freeze(view: StudyView, trial: TrialRecord, distributions: Distributions, at: int) -> FrozenTrial:
    params, of = distributions.internal(trial.params)
    values: list[float] | None = [trial.values.get(name, np.nan) for name in view.metric_names]
    state = OptunaState.COMPLETE
    if trial.state in (TrialState.FAIL, TrialState.INFEASIBLE):
        state, values = OptunaState.FAIL, None
    elif not np.isfinite(values).all():  # type: ignore[arg-type]
        state = OptunaState.FAIL if trial.state.finished else OptunaState.RUNNING
        values = None
    return FrozenTrial(
        number=at,
        trial_id=at,
        state=state,
        value=None,
        values=values,
        datetime_start=_LONG_AGO,
        datetime_complete=_LONG_AGO if state.is_finished() else None,
        params=params,
        distributions=of,
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def _made(sampler: str | BaseSampler, settings: dict[str, Any]) -> BaseSampler:
    if isinstance(sampler, str):
        if sampler in {cls.__name__ for cls in _STATEFUL}:
            raise ValueError(_refused(sampler))
        if sampler not in _BY_NAME:
            raise closest("Optuna sampler", sampler, list(_BY_NAME))
        try:
            json.dumps(settings)
        except TypeError as error:
            raise ValueError(
                f"settings={settings}: must be plain values that can be stored ({error}). "
                "Pass a sampler object instead."
            ) from error
        try:
            return _BY_NAME[sampler](**settings)
        except TypeError as error:
            raise ValueError(f"settings={settings}: {sampler} does not take them: {error}.") from error
    if settings:
        raise ValueError(
            f"settings={settings}: only for a sampler given by name. Give them to the sampler itself."
        )
    if not isinstance(sampler, optuna.samplers.BaseSampler):
        raise ValueError(f"sampler={sampler!r}: must be a name or an Optuna sampler, such as 'TPESampler'.")
    if isinstance(sampler, _STATEFUL):
        raise ValueError(_refused(type(sampler).__name__))
    return sampler


def _refused(name: str) -> str:
    return (
        f"{name} keeps its state in Optuna's own trials, which a study of bonas does not have, so it would "
        "start afresh at every ask. Use TPESampler or GPSampler; EvolutionSampler is bonas's own."
    )


@dataclass(frozen=True, slots=True)
class _Choices:
    """A parameter as Optuna sees it, and the way back."""

    distribution: CategoricalDistribution | FloatDistribution | IntDistribution
    values: tuple[Any, ...] | None = None
    """The space's values by Optuna's index, where Optuna is given the index."""

    def inward(self, value: Any) -> Any:
        return value if self.values is None else self.values.index(value)

    def outward(self, value: Any) -> Any:
        return value if self.values is None else self.values[int(value)]


class Distributions:
    """The parameters of a space as Optuna distributions, in an order in which parents come first."""

    def __init__(self, space: Space) -> None:
        self.space = space
        configuration_space = space.configuration_space
        self._constants: dict[str, Any] = {}
        self._choices: dict[str, _Choices] = {}
        self._conditions: dict[str, list[Any]] = {}
        self._order: list[str] = []
        for name, parameter in configuration_space.items():  # sorted by ConfigSpace: parents first
            self._order.append(name)
            self._conditions[name] = list(configuration_space.parent_conditions_of[name])
            if isinstance(parameter, cs_hyperparameters.Constant):
                self._constants[name] = _plain(parameter.value)
            else:
                self._choices[name] = _choices(parameter)

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """One configuration: each parameter suggested once its parents have made it active."""
        values: dict[str, Any] = {}
        for name in self._order:
            if not all(_satisfied(condition, values) for condition in self._conditions[name]):
                continue
            if name in self._constants:
                values[name] = self._constants[name]
                continue
            choices = self._choices[name]
            of = choices.distribution
            match of:
                case CategoricalDistribution():
                    suggested = trial.suggest_categorical(name, of.choices)
                case IntDistribution():
                    suggested = trial.suggest_int(name, of.low, of.high, log=of.log)
                case FloatDistribution():
                    suggested = trial.suggest_float(name, of.low, of.high, log=of.log)
            values[name] = choices.outward(suggested)
        return values

    def internal(self, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A trial's parameters in Optuna's values, and their distributions."""
        choices = {name: self._choices[name] for name in params if name in self._choices}
        return (
            {name: c.inward(params[name]) for name, c in choices.items()},
            {name: c.distribution for name, c in choices.items()},
        )


def _choices(parameter: Any) -> _Choices:
    match parameter:
        case cs_hyperparameters.CategoricalHyperparameter():
            values = tuple(_plain(value) for value in parameter.choices)
            if all(value is None or isinstance(value, (str, bool, int, float)) for value in values):
                return _Choices(CategoricalDistribution(values))
            return _Choices(CategoricalDistribution(tuple(range(len(values)))), values)
        case cs_hyperparameters.OrdinalHyperparameter():
            values = tuple(_plain(value) for value in parameter.sequence)
            return _Choices(IntDistribution(0, len(values) - 1), values)
        case cs_hyperparameters.IntegerHyperparameter():
            log = bool(getattr(parameter, "log", False))
            return _Choices(IntDistribution(int(parameter.lower), int(parameter.upper), log=log))
        case cs_hyperparameters.FloatHyperparameter():
            log = bool(getattr(parameter, "log", False))
            return _Choices(FloatDistribution(float(parameter.lower), float(parameter.upper), log=log))
    raise ValueError(
        f"hyperparameter {parameter!r}: Optuna has no distribution like it. Use another sampler."
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _satisfied(condition: Any, values: Mapping[str, Any]) -> bool:
    """Whether a condition holds; one on an inactive parent never does."""
    match condition:
        case cs_conditions.AndConjunction():
            return all(_satisfied(part, values) for part in condition.components)
        case cs_conditions.OrConjunction():
            return any(_satisfied(part, values) for part in condition.components)
    name = condition.parent.name
    return name in values and bool(condition.satisfied_by_value({name: values[name]}))


def _reseed(sampler: object, rng: np.random.Generator) -> None:
    """Seed every generator a sampler holds, and those of the samplers it holds, from ``rng``.

    ``BaseSampler.reseed_rng`` draws from the operating system and would make asks unrepeatable.
    """
    for name, held in sorted(vars(sampler).items()):
        if isinstance(held, LazyRandomState):
            held.rng.seed(int(rng.integers(2**32)))
        elif isinstance(held, np.random.RandomState):
            held.seed(int(rng.integers(2**32)))
        elif isinstance(held, np.random.Generator):
            setattr(sampler, name, np.random.default_rng(int(rng.integers(2**32))))
        elif isinstance(held, optuna.samplers.BaseSampler):
            _reseed(held, rng)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep the samplers' notes on their fallbacks out of the user's log; the user's level stays."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Records(optuna.storages.BaseStorage):
    """An Optuna storage that holds finished trials as they are and can add a single one, to be suggested.

    Optuna's own in-memory storage copies every trial it is given, which at 1,000 trials costs seconds.
    """

    NAME = "bonas"

    def __init__(self, trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> None:
        self._trials = list(trials)
        self._directions = list(directions)
        self._n_records = len(self._trials)
        self._study_attrs: dict[str, Any] = {}

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        number = len(self._trials)
        self._trials.append(
            FrozenTrial(
                number=number,
                trial_id=number,
                state=OptunaState.RUNNING,
                value=None,
                datetime_start=_LONG_AGO,
                datetime_complete=None,
                params={},
                distributions={},
                user_attrs={},
                system_attrs={},
                intermediate_values={},
            )
        )
        return number

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: Any
    ) -> None:
        trial = self._live(trial_id)
        trial.params[param_name] = distribution.to_external_repr(param_value_internal)
        trial.distributions[param_name] = distribution

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._live(trial_id).system_attrs[key] = value

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._live(trial_id).user_attrs[key] = value

    def _live(self, trial_id: int) -> FrozenTrial:
        if trial_id < self._n_records:
            raise RuntimeError("the records of a study cannot be changed by a sampler")
        return self._trials[trial_id]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[OptunaState] | None = None
    ) -> list[FrozenTrial]:
        trials = [t for t in self._trials if states is None or t.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._trials[trial_id]

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._directions

    def get_study_id_from_name(self, study_name: str) -> int:
        return 0

    def get_study_name_from_id(self, study_id: int) -> str:
        return self.NAME

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._study_attrs

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._study_attrs[key] = value

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        raise NotImplementedError

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        raise NotImplementedError

    def delete_study(self, study_id: int) -> None:
        raise NotImplementedError

    def get_all_studies(self) -> list[Any]:
        raise NotImplementedError

    def set_trial_state_values(
        self, trial_id: int, state: OptunaState, values: Sequence[float] | None = None
    ) -> bool:
        raise NotImplementedError

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        raise NotImplementedError
