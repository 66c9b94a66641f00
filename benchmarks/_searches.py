"""Searches of NAS-Bench-201 that are asked and told: bonas's samplers without a study, and Optuna alone.

Knows no table, noise or budget.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import _tables
import numpy as np

from bonas import spaces
from fidelity.axes import Axes
from fidelity.records import Curve, Observation, StudyView, TrialRecord, TrialState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fidelity.records import Bounds

AXES = Axes()


@cache
def space() -> spaces.Space:
    return spaces.cell(preset="nas_bench_201")


def record(number: int, params: dict[str, Any], values: Mapping[str, float]) -> TrialRecord:
    """A cell that was evaluated in full."""
    curve = Curve((Observation(1, values, 1.0, AXES.full),))
    return TrialRecord(number, params, space().key(params), TrialState.COMPLETE, AXES.full, curves=(curve,))


class Search(Protocol):
    """What proposes cells and learns their values."""

    def ask(self) -> dict[str, Any] | None:
        """The next cell; None if there are no more."""

    def tell(self, *values: float) -> None:
        """What the last cell reached, one value for each metric."""


class Bare:
    """A sampler of bonas on records alone.

    Args:
        sampler: asked for configurations.
        seed: ask k draws from ``default_rng([seed, k])``.
        metrics: their directions by name.
        bounds: constraints, if there are any.
    """

    def __init__(
        self, sampler: Any, seed: int, metrics: Mapping[str, str], bounds: Bounds | None = None
    ) -> None:
        self._sampler, self._seed, self._metrics, self._bounds = sampler, seed, metrics, bounds
        self._records: list[TrialRecord] = []
        self._asked: dict[str, Any] = {}

    def ask(self) -> dict[str, Any] | None:
        rng = np.random.default_rng([self._seed, len(self._records)])
        directions, names = tuple(self._metrics.values()), tuple(self._metrics)
        view = StudyView(tuple(self._records), AXES, directions, names, bounds=self._bounds)
        proposed = self._sampler.sample(space(), view, rng)
        self._asked = proposed or {}
        return proposed

    def tell(self, *values: float) -> None:
        found = dict(zip(self._metrics, values, strict=True))
        self._records.append(record(len(self._records), self._asked, found))


class Alone:
    """Optuna as its users run it: six categoricals, ask and tell on its in-memory storage.

    Args:
        sampler: one of Optuna's.
        directions: of its objectives.
    """

    def __init__(self, sampler: Any, directions: list[str]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(directions=directions, sampler=sampler)

    def ask(self) -> dict[str, Any]:
        self._trial = self._study.ask()
        operations = _tables.NasBench201.OPERATIONS
        return {f"edge{k}": self._trial.suggest_categorical(f"edge{k}", operations) for k in range(6)}

    def tell(self, *values: float) -> None:
        self._study.tell(self._trial, values)
