"""What earlier studies learned, told to a new one in the words of its space; knows no search strategy.

A study keeps what it was told as plain numbers: configurations of its own space, and how good the earlier
study believed each of them to be at full fidelity. The earlier study itself is not needed again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas.study import Study
from fidelity.records import Earlier, TrialState

if TYPE_CHECKING:
    from spaces import Space
    from spaces.table import Domain

# Trials of one earlier study that are kept: half of them its best, the others drawn from the rest.
MOST = 300


def told(
    studies: Sequence[Study], space: Space, metric_names: Sequence[str], directions: Sequence[str]
) -> tuple[Earlier, ...]:
    """What each study says, where its configurations mean something in ``space``.

    Args:
        studies: the earlier ones.
        space: of the new study.
        metric_names: of the new study. The metrics of studies with one each are taken for the same.
        directions: of the new study.

    Raises:
        ValueError: if a study has nothing to say: no value, no metric or no configuration in common.
    """
    if isinstance(studies, Study) or not isinstance(studies, Sequence):
        raise ValueError(f"warm_start={studies!r}: must be a list of studies. Write [study] for one.")
    for study in studies:
        if not isinstance(study, Study):
            raise ValueError(
                f"warm_start: {study!r} is no study. Open a stored one with bonas.load_study(storage=...)."
            )
    return tuple(_told(study, space, _common(study, metric_names, directions)) for study in studies)


def translated(configurations: Sequence[Mapping[str, Any]], space: Space) -> list[dict[str, Any] | None]:
    """Configurations of another space as configurations of ``space``; None where there is no such.

    Hyperparameters are the same if their names are. A number outside the range becomes the nearest inside;
    what ``space`` alone has is drawn from its prior, for nothing is known of it. A choice that ``space`` does
    not have leaves nothing of a configuration, nor does a forbidden clause.
    """
    from bonas.samplers._codes import Coded

    coded = Coded(space)
    table = coded.draw(len(configurations), np.random.default_rng(0))
    known = np.ones(len(configurations), dtype=np.bool_)
    for row, params in enumerate(configurations):
        for column, domain in enumerate(coded.table.domains):
            if domain.name in params:
                code = _nearest(domain, params[domain.name])
                known[row] &= code is not None
                table[row, column] = math.nan if code is None else code
    table = coded.table.deactivate(table)
    known &= coded.table.allowed(table)
    found = iter(coded.table.decode(table[known]))
    return [next(found) if k else None for k in known]


def _common(study: Study, metric_names: Sequence[str], directions: Sequence[str]) -> dict[str, str]:
    """The metrics in common: the earlier study's name for each and the new one's.

    Raises:
        ValueError: if there is none, or one is to be minimised here and maximised there.
    """
    if len(study.metric_names) == len(metric_names) == 1:
        return {study.metric_names[0]: metric_names[0]}
    both = {name: name for name in metric_names if name in study.metric_names}
    for name in both:
        was, now = study.directions[study.metric_names.index(name)], directions[metric_names.index(name)]
        if was != now:
            raise ValueError(f"warm_start: {study.study_name!r} has {name!r} {was}d, this study {now}s it.")
    if not both:
        raise ValueError(
            f"warm_start: {study.study_name!r} has the metrics {list(study.metric_names)}, this study "
            f"{list(metric_names)}. At least one name must agree."
        )
    return both


def _told(study: Study, space: Space, metrics: Mapping[str, str]) -> Earlier:
    from bonas.samplers import ForestSampler
    from bonas.surrogate import normal_scores

    view = study.view()
    trials = [t for t in view.trials if t.values or t.state is TrialState.FAIL]
    if not any(t.values for t in trials):
        raise ValueError(f"warm_start: no trial of {study.study_name!r} has a value yet: nothing to learn.")
    shared = set(space.names) & set(study.space.names)
    candidates = translated([t.params for t in trials], space) if shared else []
    rows = [i for i, params in enumerate(candidates) if params is not None]
    if not rows:
        raise ValueError(
            f"warm_start: {study.study_name!r} has no configuration that means something here. Names of "
            f"hyperparameters and choices must agree; its own are {list(study.space.names)}."
        )
    believed = {}
    for theirs, ours in metrics.items():
        direction = view.directions[view.metric_names.index(theirs)]
        alone = dataclasses.replace(view, metric_names=(theirs,), directions=(direction,))
        # Not what was measured: trials at all fidelities, with all their luck, become comparable.
        mean, _ = ForestSampler().posterior(study.space, alone, [dict(trials[i].params) for i in rows])
        believed[ours] = normal_scores(mean)
    order = np.argsort(np.sum(list(believed.values()), axis=0), kind="stable").tolist()
    # Of configurations that became the same here the best speaks for all.
    params_of: dict[str, tuple[int, dict[str, Any]]] = {}
    for i in order:
        params = candidates[rows[i]]
        assert params is not None
        params_of.setdefault(space.key(params), (i, params))
    kept = list(params_of.values())
    if len(kept) > MOST:
        rng = np.random.default_rng(0)
        others = np.sort(rng.choice(np.arange(MOST // 2, len(kept)), size=MOST - MOST // 2, replace=False))
        kept = kept[: MOST // 2] + [kept[i] for i in others.tolist()]
    return Earlier(
        study=study.study_name,
        params=tuple(params for _, params in kept),
        scores={name: tuple(round(float(s[i]), 4) for i, _ in kept) for name, s in believed.items()},
    )


def _nearest(domain: Domain, value: Any) -> float | None:
    """The code of a value, or of the nearest number; None if there is no such choice."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not domain.choices:
        if not number:
            return None
        code = min(max(float(value), domain.low), domain.high)
        return float(round(code)) if domain.kind == "integer" else code
    if domain.kind == "constant" and number and isinstance(domain.choices[0], (int, float)):
        return 0.0
    try:
        return domain.code(value)
    except ValueError:
        return None
