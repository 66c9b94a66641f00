"""Which trial to trust after the search, and training it for good; knows not how trials were proposed."""

from __future__ import annotations

import dataclasses
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas.best import comparable, undominated
from bonas.endings import conclude
from bonas.executors import call, interruptible
from bonas.frozen import FrozenTrial
from bonas.segment import Collected
from bonas.trial import Trial
from fidelity.pareto import scaled
from fidelity.records import Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState

if TYPE_CHECKING:
    from bonas.study import Study
    from fidelity.axes import Axes

_REEVALUATED = "reevaluated"
_RETRAINED = "retrained"
KNEE = "knee"

_Score = Callable[[Mapping[str, float]], float]  # of the metrics of a trial, smaller is better


def recommend(
    study: Study, objective: Callable[[Trial], Any] | None, k: int, repeats: int, prefer: str | None
) -> FrozenTrial:
    """See :meth:`bonas.Study.recommend`."""
    several = len(study.directions) > 1
    _check_preference(study, prefer)
    if not all(isinstance(v, int) and v >= 1 for v in (k, repeats)):
        raise ValueError(f"k={k}, repeats={repeats}: both must be whole numbers of at least 1.")
    trials = study.trials
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    if not several and not complete:
        return study.best_trial  # warns that nothing is complete yet
    view = study.view()
    if several:
        complete = [trials[r.number] for r in undominated(view, comparable(view))]
        if not complete:
            raise ValueError(
                f"recommend: none of the {len(trials)} trials has a value yet. Search for longer."
            )
        if complete[0].state != TrialState.COMPLETE:
            objective = None  # there is nothing in full to be compared with
            warnings.warn(
                "no trial is complete yet: recommended from those at the highest fidelity reached so far",
                UserWarning,
                stacklevel=3,
            )
    score = _score(view, prefer, complete)
    attribute = f"{_REEVALUATED}/{prefer}" if several else _REEVALUATED
    if objective is None:
        repeated = study.attrs.get(attribute, {})
        known = [t for t in complete if str(t.number) in repeated]
        if known:
            return _best_mean(known, {t.number: repeated[str(t.number)] for t in known}, score)
    # Weights drawn for each ask scalarise what a sampler believes of several metrics: no belief to go by.
    scores = [score(t.values) for t in complete] if several else _posterior_means(study, complete)
    finalists: list[FrozenTrial] = [complete[int(i)] for i in np.argsort(scores, kind="stable")[:k]]
    if objective is None:
        return finalists[0]
    values = {t.number: _evaluated_again(study, objective, t, repeats) for t in finalists}
    study.set_attr(attribute, {str(number): v for number, v in values.items()})
    return _best_mean(finalists, values, score)


def retrain(
    study: Study, objective: Callable[[Trial], Any], trial: FrozenTrial | None, epochs: int | None
) -> FrozenTrial:
    """See :meth:`bonas.Study.retrain`."""
    chosen = trial or recommend(study, None, 1, 1, None)
    axes = study.axes if epochs is None else study.axes.stretched(epochs)
    done = retrained(study, chosen.number)
    if done is not None and done.fidelity == axes.full:
        return done
    # Each length has a folder of its own: a longer training would else go on from the shorter one's end.
    name = f"{_RETRAINED}-{axes.full.epochs}"
    record, collected = _evaluate(study, objective, chosen.record, name, chosen.seed, axes, retraining=True)
    entry = {
        "folder": _folder(name, record),
        "fidelity": axes.full.to_dict(),
        "values": dict(record.values),
        "user_attrs": dict(collected.user_attrs),
    }
    study.set_attr(_RETRAINED, {**study.attrs.get(_RETRAINED, {}), str(record.number): entry})
    result = retrained(study, record.number)
    assert result is not None
    return result


def retrained(study: Study, number: int) -> FrozenTrial | None:
    """A trial as it was last retrained, if it was: its params, values, user attributes and weights."""
    entry = study.attrs.get(_RETRAINED, {}).get(str(number))
    if entry is None:
        return None
    fidelity = Fidelity.from_dict(entry["fidelity"])
    last = Observation(fidelity.epochs, entry["values"], 0.0, fidelity)
    record = dataclasses.replace(
        study.records[number], curves=(Curve((last,)),), user_attrs=entry["user_attrs"], fidelity=fidelity
    )
    return FrozenTrial(record, study.space, study.metric_names, study.artifacts / entry["folder"])


def _check_preference(study: Study, prefer: str | None) -> None:
    """That ``prefer`` is given where there is a choice, and is one.

    Raises:
        ValueError: otherwise.
    """
    names = list(study.metric_names)
    if len(names) == 1:
        if prefer not in (None, names[0]):
            raise ValueError(f"prefer={prefer!r}: this study has one objective, {names[0]!r}. Leave it out.")
    elif prefer is None:
        raise ValueError(
            "recommend: this study has several objectives. Choose among best_trials; "
            "retrain(objective, trial=...) retrains the one you choose. recommend(prefer='knee') chooses the "
            f"best balance, recommend(prefer={names[0]!r}) the best {names[0]}."
        )
    elif prefer not in (KNEE, *names):
        raise ValueError(f"prefer={prefer!r}: must be {KNEE!r} or one of {names}.")


def _score(view: StudyView, prefer: str | None, pool: Sequence[FrozenTrial]) -> _Score:
    """What to minimise: the preferred metric's loss; for the knee the sum over all, scaled over ``pool``."""
    if prefer != KNEE or KNEE in view.metric_names:
        metric = 0 if prefer is None else view.metric_names.index(prefer)
        return lambda values: view.signed(values[view.metric_names[metric]], metric)
    losses = np.array([view.losses(t.record) for t in pool])

    def balance(values: Mapping[str, float]) -> float:
        row = [view.signed(values[name], i) for i, name in enumerate(view.metric_names)]
        return float(scaled(np.array([row]), losses).sum())

    return balance


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


def _best_mean(trials: list[FrozenTrial], again: Mapping[int, list[Any]], score: _Score) -> FrozenTrial:
    best: FrozenTrial = min(trials, key=lambda t: _mean(t, again[t.number], score))
    return best


def _mean(trial: FrozenTrial, again: list[Any], score: _Score) -> float:
    # Of the only metric the numbers alone are kept.
    repeats = [score(v if isinstance(v, Mapping) else dict.fromkeys(trial.values, v)) for v in again]
    # The values it was chosen for are the lucky ones: they count like one repeat among the others.
    return statistics.fmean([*repeats, score(trial.values)])


def _evaluated_again(
    study: Study, objective: Callable[[Trial], Any], trial: FrozenTrial, repeats: int
) -> list[Any]:
    values: list[Any] = []
    for repeat in range(repeats):
        seed = int(np.random.SeedSequence([trial.seed, repeat]).generate_state(1)[0])
        name = f"again-{repeat}"
        record, _ = _evaluate(study, objective, trial.record, name, seed, study.axes, retraining=False)
        metrics = {metric: record.values[metric] for metric in study.metric_names}
        values.append(metrics if len(metrics) > 1 else metrics[study.metric_names[0]])
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
    handle = study.detached(fresh, str(study.artifacts / _folder(name, record)), axes, retraining=retraining)
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


def _folder(name: str, record: TrialRecord) -> str:
    """Where checkpoints of a training outside the search lie, below the study's artifacts."""
    return f"{name}-{record.number:05d}"
