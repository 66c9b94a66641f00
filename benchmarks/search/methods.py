"""Which search methods there are, bonas's samplers first; knows no tables, noise or budgets.

Add one with an :class:`Entry` in :data:`OWN`, or in ``peers.py`` if it needs packages that bonas does not.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import ConfigSpace
import numpy as np

from bonas import samplers, spaces
from bonas.samplers import Sampler
from fidelity.axes import Axes
from fidelity.records import Curve, Observation, StudyView, TrialRecord, TrialState
from search import peers
from search.method import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from search.method import Method
    from search.task import Task

AXES = Axes()


def record(space: spaces.Space, number: int, params: Mapping[str, Any], value: float) -> TrialRecord:
    """A configuration that was evaluated in full."""
    curve = Curve((Observation(1, {"value": value}, 1.0, AXES.full),))
    key = space.key(params)
    return TrialRecord(number, dict(params), key, TrialState.COMPLETE, AXES.full, curves=(curve,))


class Bare:
    """A sampler of bonas on records alone: no study, no store, no hand-written first trial.

    Args:
        sampler: asked for configurations.
        space: searched.
        direction: ``maximize`` or ``minimize``.
        seed: ask k draws from ``default_rng([seed, k])``, as in a study.
    """

    def __init__(self, sampler: Sampler, space: spaces.Space, direction: str, seed: int) -> None:
        self._sampler, self._space, self._direction, self._seed = sampler, space, direction, seed
        self._records: list[TrialRecord] = []

    def ask(self) -> dict[str, Any] | None:
        rng = np.random.default_rng([self._seed, len(self._records)])
        view = StudyView(tuple(self._records), AXES, directions=(self._direction,))
        return self._sampler.sample(self._space, view, rng)

    def tell(self, params: Mapping[str, Any], value: float) -> None:
        self._records.append(record(self._space, len(self._records), params, value))


def behaviour(sampler: Sampler, asks: int = 40) -> str:
    """A digest of what a sampler proposes on a small problem that never changes.

    Settings do not say how a sampler decides; this does, and stays the same when code is only tidied.
    """
    space = spaces.cell(preset="nas_bench_201").with_hyperparameters(
        [ConfigSpace.Float("lr", (0.001, 1), log=True)]
    )
    weights = np.cos(np.arange(len(space.encode_names)) ** 2)
    search = Bare(sampler, space, "minimize", seed=0)
    digest = hashlib.sha256()
    for _ in range(asks):
        params = search.ask()
        assert params is not None
        digest.update(json.dumps(params, sort_keys=True).encode())
        search.tell(params, float(np.nan_to_num(space.encode([params])[0]) @ weights))
    return digest.hexdigest()[:12]


def _own(sampler: Sampler) -> Entry:
    settings = sampler.to_dict()

    def make(task: Task, seed: int) -> Method:
        return Bare(samplers.from_dict(settings), task.space, task.direction, seed)

    return Entry(settings, make, behaviour=partial(behaviour, sampler))


OWN: dict[str, Entry] = {
    "random": _own(samplers.RandomSampler()),
    "forest": _own(samplers.ForestSampler()),
    "TPE": _own(samplers.TPESampler()),
    "SMAC model": _own(samplers.SMACSampler()),
    "evolution": _own(samplers.EvolutionSampler()),
    "local search": _own(samplers.LocalSearchSampler()),
}
"""bonas's samplers as they are when nothing is set."""
DEFAULT = "forest"
"""The one that ``create_study`` takes."""


def entries() -> dict[str, Entry]:
    """Every method by its name, in the order of the report; peers need not be installed to be listed."""
    return OWN | peers.PEERS
