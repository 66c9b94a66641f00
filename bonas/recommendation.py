"""Which trial to trust after the search, and training it for good; knows not how trials were proposed."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas.endings import conclude
from bonas.executors import call, interruptible
from bonas.frozen import FrozenTrial
from bonas.segment import Collected
from bonas.trial import Trial
from fidelity.records import Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState

if TYPE_CHECKING:
    from bonas.study import Study
    from fidelity.axes import Axes

_REEVALUATED = "reevaluated"
_RETRAINED = "retrained"


def recommend(study: Study, objective: Callable[[Trial], Any] | None, k: int, repeats: int) -> FrozenTrial:
    """See :meth:`bonas.Study.recommend`."""
    if len(study.directions) > 1:
        raise ValueError(
            "recommend: this study has several objectives. Choose among best_trials; "
            "retrain(objective, trial=...) retrains the one you choose."
        )
    if not all(isinstance(v, int) and v >= 1 for v in (k, repeats)):
        raise ValueError(f"k={k}, repeats={repeats}: both must be whole numbers of at least 1.")
    complete = [t for t in study.trials if t.state == TrialState.COMPLETE]
    if not complete:
        return study.best_trial  # warns that nothing is complete yet
    means = _posterior_means(study, complete)
    finalists: list[FrozenTrial] = [complete[int(i)] for i in np.argsort(means, kind="stable")[:k]]
    view = study.view()
    if objective is None:
        repeated = study.attrs.get(_REEVALUATED, {})
        known = [t for t in complete if str(t.number) in repeated]
        if known:
            return _best_mean(known, {t.number: repeated[str(t.number)] for t in known}, view)
        return finalists[0]
    values = {t.number: _evaluated_again(study, objective, t, repeats) for t in finalists}
    study.set_attr(_REEVALUATED, {str(number): v for number, v in values.items()})
    return _best_mean(finalists, values, view)


def retrain(
    study: Study, objective: Callable[[Trial], Any], trial: FrozenTrial | None, epochs: int | None
) -> FrozenTrial:
    """See :meth:`bonas.Study.retrain`."""
    chosen = trial or recommend(study, None, 1, 1)
    axes = study.axes if epochs is None else study.axes.stretched(epochs)
    done = retrained(study)
    if done is not None and (done.number, done.fidelity) == (chosen.number, axes.full):
        return done
    record, collected = _evaluate(
        study, objective, chosen.record, "retrained", chosen.seed, axes, retraining=True
    )
    entry = {
        "number": record.number,
        "fidelity": axes.full.to_dict(),
        "values": dict(record.values),
        "user_attrs": dict(collected.user_attrs),
    }
    study.set_attr(_RETRAINED, entry)
    result = retrained(study)
    assert result is not None
    return result


def retrained(study: Study) -> FrozenTrial | None:
    """The retrained network of a study, if there is one: its params, values, user attributes and weights."""
    entry = study.attrs.get(_RETRAINED)
    if entry is None:
        return None
    record = study.records[entry["number"]]
    folder = study.artifacts / f"retrained-{record.number:05d}"
    fidelity = Fidelity.from_dict(entry["fidelity"])
    last = Observation(fidelity.epochs, entry["values"], 0.0, fidelity)
    record = dataclasses.replace(
        record, curves=(Curve((last,)),), user_attrs=entry["user_attrs"], fidelity=fidelity
    )
    return FrozenTrial(record, study.space, study.metric_names, folder)


def _posterior_means(study: Study, trials: list[FrozenTrial]) -> list[float]:
    """Expected loss of each trial; its own value where the sampler has no belief."""
    view = study.view()
    own = [view.loss(t.record) for t in trials]
    posterior = getattr(study.sampler, "posterior", None)
    if posterior is None or len(trials) < 4:
        return own
    mean, _ = posterior(study.space, view, [t.params for t in trials])
    # Two noisy opinions on the same scale of ranks: what the model expects, and what was seen.
    return list((_ranks(np.asarray(mean)) + _ranks(np.asarray(own))) / 2)


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(float)


def _best_mean(trials: list[FrozenTrial], again: Mapping[int, list[float]], view: StudyView) -> FrozenTrial:
    best: FrozenTrial = min(trials, key=lambda t: view.signed(_mean(t, again[t.number])))
    return best


def _mean(trial: FrozenTrial, again: list[float]) -> float:
    own = trial.value
    # The value it was chosen for is the lucky one: it counts like one repeat among the others.
    return statistics.fmean([*again, own] if own is not None else again)


def _evaluated_again(
    study: Study, objective: Callable[[Trial], Any], trial: FrozenTrial, repeats: int
) -> list[float]:
    values = []
    for repeat in range(repeats):
        seed = int(np.random.SeedSequence([trial.seed, repeat]).generate_state(1)[0])
        name = f"again-{repeat}"
        record, _ = _evaluate(study, objective, trial.record, name, seed, study.axes, retraining=False)
        values.append(record.values[study.metric_names[0]])
    return values


def _evaluate(
    study: Study,
    objective: Callable[[Trial], Any],
    record: TrialRecord,
    name: str,
    seed: int,
    axes: Axes,
    *,
    retraining: bool,
) -> tuple[TrialRecord, Collected]:
    """Run an objective once, outside the search, to full fidelity; interrupted, its checkpoint stays."""
    fresh = dataclasses.replace(
        record,
        fidelity=axes.full,
        seed=seed,
        curves=(),
        checkpoint=None,
        user_attrs={},
        state=TrialState.RUNNING,
    )
    folder = str(study.artifacts / f"{name}-{record.number:05d}")
    handle = study.detached(fresh, folder, axes, retraining=retraining)
    with interruptible() as interruption:
        interruption.running[record.number] = handle
        value, error = call(objective, handle)
        collected = handle.collect(value)
    interruption.pass_on()
    if error is not None:
        raise error
    ending = conclude(handle.segment, collected, value, None)
    if ending.state != TrialState.COMPLETE:
        raise ValueError(f"{name} of trial {record.number}: ended {ending.state.value}, {ending.reason}.")
    return dataclasses.replace(fresh, curves=(Curve(ending.observations),)), collected
