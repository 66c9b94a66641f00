"""What a search method is, and which there are; knows no tables, noise or budgets.

Add one with an :class:`Entry` in :data:`OWN`, or in ``peers.py`` if it needs packages that bonas does not.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import ConfigSpace
import numpy as np

from bonas import samplers, spaces
from bonas.samplers import Sampler
from fidelity.axes import Axes
from fidelity.records import Curve, Observation, StudyView, TrialRecord, TrialState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from search.task import Task

AXES = Axes()


class Method(Protocol):
    """Proposes configurations of a task's space and learns what they reached."""

    def ask(self) -> dict[str, Any] | None:
        """The next configuration, active hyperparameters only; None if there are no more."""

    def tell(self, params: Mapping[str, Any], value: float) -> None:
        """What the last evaluation reached, in the task's direction.

        Args:
            params: what was evaluated, active hyperparameters only. On a task that is a sample these are
                mostly not what was asked for, but the nearest ones of the table: a method learns the value
                of these, as an observation of its own where its interface takes one, else as that of what it
                asked for.
            value: of one training run.
        """


@dataclass(frozen=True)
class Entry:
    """A method with what identifies it."""

    settings: Mapping[str, Any]
    """JSON-ready, stored with every run; runs of other settings are made again."""
    make: Callable[[Task, int], Method]
    """A fresh search of a task, all its randomness from the seed."""
    packages: tuple[str, ...] = ()
    """Installed packages it runs; runs of other versions are made again."""
    behaviour: Callable[[], str] | None = None
    """For code that changes under the same settings and version: a text that changes with its decisions."""


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
    try:
        from search import peers
    except ImportError:  # not written yet
        return dict(OWN)
    return OWN | peers.PEERS
