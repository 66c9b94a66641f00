"""Successive halving: many configurations cheaply, the best of them further; knows rungs and costs only.

Jamieson & Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization"
(AISTATS 2016), algorithm 1. Brackets run one after another until the study's limits are reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fidelity.axes import Axes
from fidelity.costs import CostModel
from fidelity.proxies import Comparison
from fidelity.records import Fidelity, StudyView
from fidelity.rungs import misleading
from fidelity.schedulers.base import Action
from fidelity.schedulers.brackets import Bracket, Brackets, check_ladder, ladder_of


@dataclass(frozen=True, slots=True)
class SuccessiveHalving:
    """Brackets of n trials on the lowest rung; of each rung the best 1/eta are resumed on the next.

    The rungs lie between the lowest and the full fidelity, all axes moving together, each rung ``eta``
    times the nominal cost of the one below. A full bracket has ``eta ** (rungs - 1)`` trials, of which one
    reaches full fidelity; a bracket shrinks to what ``n_trials`` and the budget still allow.

    A new bracket leaves out a rung that has been found to rank trials no better than their number of
    parameters does (see :func:`fidelity.rungs.misleading`); the figures of its starts say so and why.

    Args:
        eta: a rung keeps one in ``eta`` trials, each at about ``eta`` times the cost. At least 2.
        n_rungs: use only the highest rungs of the ladder, where the lowest ranks badly. None: all.
        drop_rungs: whether rungs that mislead are left out.
        measured_costs: whether a bracket's rungs are to take equal times as measured, rather than nominally:
            a rung that is dearer than its nominal cost then gets fewer trials, and more of them are kept.
            Decisions then depend on how fast the machine was, and a study is no longer repeated exactly.
    """

    eta: int = 3
    n_rungs: int | None = None
    drop_rungs: bool = True
    measured_costs: bool = False

    def __post_init__(self) -> None:
        check_ladder(self.eta, self.n_rungs)
        for name in ("drop_rungs", "measured_costs"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r}: must be True or False.")

    def rungs(self, axes: Axes) -> list[Fidelity]:
        """The ladder, cheapest first; the last is full fidelity."""
        return ladder_of(axes, self.eta, self.n_rungs)

    def decide(self, view: StudyView, rng: np.random.Generator) -> Action:
        """Fill the newest bracket, then promote from its lowest undecided rung, then begin another."""
        rungs = self.rungs(view.axes)
        return Brackets(view, rungs, self.eta).decide(lambda number: self._largest(view, rungs, number))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description."""
        return {
            "name": "SuccessiveHalving",
            "eta": self.eta,
            "n_rungs": self.n_rungs,
            "drop_rungs": self.drop_rungs,
            "measured_costs": self.measured_costs,
        }

    def _largest(self, view: StudyView, rungs: Sequence[Fidelity], number: int) -> Bracket:
        """A new bracket over the rungs that do not mislead."""
        dropped: dict[int, Mapping[str, Any]] = {}
        if self.drop_rungs:
            dropped = {k: _explained(k, comparison) for k, comparison in misleading(view, rungs).items()}
        lowest = next(k for k in range(len(rungs)) if k not in dropped)
        size, shares = self.eta ** (len(rungs) - 1 - lowest), None
        if self.measured_costs:
            model = CostModel.of(view.trials, view.axes)
            costs = [min(1.0, model.ratio(rung)) for rung in rungs]
            # A rung takes about as long as one full evaluation, as every rung of a nominal bracket costs.
            size = min(size, max(1, round(1 / costs[lowest])))
            shares = tuple(round(min(1.0, costs[lowest] / cost), 6) for cost in costs)
        return Bracket(number, size, dropped=dropped, shares=shares)


def _explained(rung: int, comparison: Comparison) -> dict[str, Any]:
    """A dropped rung as decisions are stored."""
    return {
        "rung": rung,
        "tau": round(comparison.tau, 3),
        "tau_of_parameters": round(comparison.size, 3),
        "difference": [round(comparison.low, 3), round(comparison.high, 3)],
        "n": comparison.n,
        "why": "it ranks trials no better for the next rung than their number of parameters does",
    }
