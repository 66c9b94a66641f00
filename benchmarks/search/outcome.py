"""What runs came to: regrets over evaluations and over seconds; knows no statistics, no drawing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from search import tasks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from search.task import Task

    Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Outcome:
    """The runs of one method on one task, as long as the shortest of them was meant to be."""

    runs: Sequence[Mapping[str, Any]]

    @property
    def task(self) -> Task:
        return tasks.load(self.runs[0]["task"])

    @cached_property
    def evaluations(self) -> int:
        """Of each run."""
        return min(run["evaluations"] for run in self.runs)

    @cached_property
    def _rows(self) -> np.ndarray[Any, np.dtype[np.intp]]:
        """Shape (runs, evaluations); a method that had nothing more to propose stays at its last row."""
        n = self.evaluations
        return np.array([(run["rows"] + run["rows"][-1:] * n)[:n] for run in self.runs], dtype=np.intp)

    @cached_property
    def visited(self) -> Floats:
        """Regret of the best row visited so far, shape (runs, evaluations)."""
        return np.minimum.accumulate(self.task.regret(self._rows), axis=1)

    @cached_property
    def observed(self) -> Floats:
        """Regret of the row with the best value observed so far, shape (runs, evaluations)."""
        seeds = [[int(k) for k in run["runs"]] for run in self.runs]
        n = self.evaluations
        seeds = [(one + one[-1:] * n)[:n] for one in seeds]
        values = self.task.values[self._rows, seeds]
        losses = values if self.task.direction == "minimize" else -values
        best = np.minimum.accumulate(losses, axis=1)
        # Where the best value was seen, the last of several times.
        at = np.maximum.accumulate(np.where(losses == best, np.arange(n), 0), axis=1)
        return self.task.regret(np.take_along_axis(self._rows, at, axis=1))

    def after_seconds(self, grid: Floats) -> Floats:
        """Regret of the best row whose training had ended, shape (runs, len(grid)); NaN before the first.

        Args:
            grid: increasing seconds of training.
        """
        clock = np.cumsum(self.task.seconds[self._rows], axis=1)
        done = np.stack([np.searchsorted(one, grid, side="right") for one in clock])
        found = np.take_along_axis(self.visited, np.maximum(done - 1, 0), axis=1)
        return np.where(done > 0, found, np.nan)

    @property
    def total_seconds(self) -> Floats:
        """Of training, shape (runs,)."""
        return self.task.seconds[self._rows].sum(axis=1)

    @cached_property
    def ms_per_ask(self) -> float:
        """Processor milliseconds, median over the runs."""
        return float(np.median([run["ms_per_ask"] for run in self.runs]))


def outcomes(
    runs: Sequence[Mapping[str, Any]], names: Sequence[str], evaluations: int, fewest: int
) -> dict[str, Outcome]:
    """For each task a method's runs of at least so many evaluations, where there are at least ``fewest``."""
    long = [r for r in runs if r["evaluations"] >= evaluations]
    found = {name: Outcome([r for r in long if r["task"] == name]) for name in names}
    return {name: outcome for name, outcome in found.items() if len(outcome.runs) >= fewest}
