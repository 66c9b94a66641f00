"""What runs came to: regrets over cost, by either rule of recommending; knows no statistics, no drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from multifidelity import tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from multifidelity.task import Task

    Floats = np.ndarray[Any, np.dtype[np.float64]]

INCUMBENTS, RECOMMENDED = "incumbents", "recommended"
"""The trial whose latest value is best, at any fidelity; and that at the highest fidelity reached."""


@dataclass(frozen=True)
class Outcome:
    """The runs of one method on one task, in order of their seeds."""

    runs: Sequence[Mapping[str, Any]]

    @property
    def task(self) -> Task:
        return tasks.load(self.runs[0]["task"])

    def regret(self, costs: Sequence[float], rule: str = INCUMBENTS) -> Floats:
        """True regret of whom a rule would have named by then, shape (runs, costs).

        1, the regret of the median row, as long as there is nobody to name.
        """
        return self._at(costs, rule, lambda rows: self.task.regret([int(row) for row in rows]))

    def lacking(self, costs: Sequence[float]) -> Floats:
        """What the best value that any segment ended with lacks of the table's, relative to its range."""
        return self._at(costs, "seen", self.task.lacking)

    def _at(self, costs: Sequence[float], what: str, graded: Any) -> Floats:
        found = np.ones((len(self.runs), len(costs)))
        for k, run in enumerate(self.runs):
            if not run[what]:
                continue
            when, which = zip(*run[what], strict=True)
            grades = np.concatenate([[1.0], graded(list(which))])
            # A rounding error in a sum of costs should not postpone a result.
            found[k] = grades[np.searchsorted(np.array(when), np.asarray(costs) * (1 + 1e-6), side="right")]
        return found


@dataclass(frozen=True)
class Results:
    """Outcomes by method and task."""

    outcomes: Mapping[str, Mapping[str, Outcome]]
    tasks: Sequence[str]
    """Those that are compared."""

    @property
    def ranked(self) -> list[str]:
        """The methods with runs on every task there is: only they can be ranked over the tasks."""
        return [method for method, by_task in self.outcomes.items() if set(self.tasks) <= set(by_task)]

    def regrets(self, cost: float, names: Sequence[str]) -> list[list[Floats]]:
        """For each task each ranked method's, one for each seed."""
        return [
            [self.outcomes[method][name].regret([cost])[:, 0] for method in self.ranked] for name in names
        ]

    def mean(self, method: str, names: Sequence[str], costs: Sequence[float], what: str) -> Floats:
        """A method's regret over several tasks, shape (seeds, costs): the seeds that all of them have.

        Args:
            method: one with runs on all of ``names``.
            names: tasks.
            costs: in full evaluations.
            what: ``incumbents``, ``recommended`` or ``seen``.
        """
        found = []
        for name in names:
            outcome = self.outcomes[method][name]
            found.append(outcome.lacking(costs) if what == "seen" else outcome.regret(costs, what))
        seeds = min(map(len, found))
        return np.mean([one[:seeds] for one in found], axis=0)


def outcomes(runs: Iterable[Mapping[str, Any]], names: Sequence[str], fewest: int) -> dict[str, Outcome]:
    """For each task a method's runs, where there are at least ``fewest``."""
    ordered = sorted(runs, key=lambda run: run["seed"])
    found = {name: Outcome([run for run in ordered if run["task"] == name]) for name in names}
    return {name: outcome for name, outcome in found.items() if len(outcome.runs) >= fewest}


def cost_to(mean: Floats, costs: Sequence[float], target: float) -> float:
    """The cost from which on a mean regret stays at a target; infinite if it does not.

    Args:
        mean: shape (costs,).
        costs: increasing.
        target: reached when it is no greater.
    """
    above = np.flatnonzero(mean > target * (1 + 1e-9) + 1e-12)
    first = 0 if not len(above) else int(above[-1]) + 1
    return float(costs[first]) if first < len(costs) else float("inf")
