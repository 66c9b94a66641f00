"""Successive halving: many configurations cheaply, the best of them further; knows rungs and costs only.

Jamieson & Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization"
(AISTATS 2016), algorithm 1. Brackets run one after another until the study's limits are reached.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fidelity.axes import Axes
from fidelity.records import Fidelity, StudyView, TrialRecord, TrialState
from fidelity.schedulers.base import Action, Resume, Start, Wait, wait_or_done


@dataclass(frozen=True, slots=True)
class SuccessiveHalving:
    """Brackets of n trials on the lowest rung; of each rung the best 1/eta are resumed on the next.

    The rungs lie between the lowest and the full fidelity, all axes moving together, each rung ``eta``
    times the nominal cost of the one below. A full bracket has ``eta ** (rungs - 1)`` trials, of which one
    reaches full fidelity; a bracket shrinks to what ``n_trials`` and the budget still allow.

    Args:
        eta: a rung keeps one in ``eta`` trials, each at about ``eta`` times the cost. At least 2.
        n_rungs: use only the highest rungs of the ladder, where the lowest ranks badly. None: all.
    """

    eta: int = 3
    n_rungs: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.eta, bool) or not isinstance(self.eta, int) or self.eta < 2:
            raise ValueError(
                f"eta={self.eta!r}: must be a whole number of at least 2. Use 3 for the usual ladder."
            )
        if self.n_rungs is not None and (not isinstance(self.n_rungs, int) or self.n_rungs < 1):
            raise ValueError(f"n_rungs={self.n_rungs!r}: must be at least 1, or None for all rungs.")

    def rungs(self, axes: Axes) -> list[Fidelity]:
        """The ladder, cheapest first; the last is full fidelity."""
        steps = math.log(1 / axes.nominal_cost(axes.lowest), self.eta)
        n = math.floor(steps + 1e-9) + 1
        if self.n_rungs is not None:
            n = min(n, self.n_rungs)
        ladder = [axes.at(1 - k / steps if k else 1.0) for k in reversed(range(n))]
        # Listed axes snap to their values, so that neighbouring rungs can coincide.
        return list(dict.fromkeys(ladder))

    def decide(self, view: StudyView, rng: np.random.Generator) -> Action:
        """Fill the newest bracket, then promote from its lowest undecided rung, then begin another."""
        rungs = self.rungs(view.axes)
        bracket = self._newest_bracket(view)
        if bracket:
            size = int(bracket[0].figures["size"])
            if len(bracket) < size and view.starts_left > 0 and view.fits(rungs[0]):
                return self._start(rungs[0], int(bracket[0].figures["bracket"]), size)
            action = self._promote(view, rungs, bracket)
            if action is not None:
                return action
        size = self._bracket_size(view, rungs)
        if size:
            number = int(bracket[0].figures["bracket"]) + 1 if bracket else 0
            return self._start(rungs[0], number, size)
        return wait_or_done(view)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description."""
        return {"name": "SuccessiveHalving", "eta": self.eta, "n_rungs": self.n_rungs}

    def _start(self, fidelity: Fidelity, bracket: int, size: int) -> Start:
        # The size is stored with each trial: it followed from what was left when the bracket began,
        # and must not change when a later call allows more.
        return Start(fidelity, figures={"bracket": bracket, "size": size})

    @staticmethod
    def _newest_bracket(view: StudyView) -> list[TrialRecord]:
        members = [t for t in view.trials if "bracket" in t.figures and t.state != TrialState.INFEASIBLE]
        newest = max((t.figures["bracket"] for t in members), default=None)
        return [t for t in members if t.figures["bracket"] == newest]

    def _promote(
        self, view: StudyView, rungs: Sequence[Fidelity], bracket: Sequence[TrialRecord]
    ) -> Action | None:
        level = {t.number: rungs.index(t.fidelity) if t.fidelity in rungs else -1 for t in bracket}
        for k in range(len(rungs) - 1):
            if any(t.state == TrialState.RUNNING and level[t.number] <= k for t in bracket):
                return Wait()
            quota = self._kept(len(bracket), k + 1)
            promoted = sum(level[t.number] > k for t in bracket)
            waiting = [
                t for t in bracket if level[t.number] == k and t.state == TrialState.PAUSED and t.values
            ]
            if promoted < quota and waiting:
                # Of several metrics, what earlier brackets promoted counts too: else each promotes the same.
                gone_on = [t for t in view.trials if t.fidelity in rungs[k + 1 :]]
                best = view.ranked(waiting, rungs[k], gone_on)[0]
                if view.fits(rungs[k + 1], best):
                    figures = {"rung": k + 1, "of": len(rungs), "waiting": len(waiting), "quota": quota}
                    return Resume(best, rungs[k + 1], figures)
        if any(t.state == TrialState.RUNNING for t in bracket):
            return Wait()
        return None

    def _kept(self, size: int, rung: int) -> int:
        # At least one, so that a bracket cut short by its limits still ends with a full evaluation.
        return max(1, size // int(self.eta**rung))

    def _bracket_size(self, view: StudyView, rungs: Sequence[Fidelity]) -> int:
        largest = self.eta ** (len(rungs) - 1)
        size = int(min(largest, view.starts_left))
        while size > 0 and self._bracket_cost(view, rungs, size) > view.budget_left * (1 + 1e-9) + 1e-9:
            size -= 1
        if size == 0 and not view.trials and view.starts_left > 0:
            # Less than one full evaluation in all: spend it on the lowest rung rather than on nothing.
            return int(
                min(largest, view.starts_left, view.budget_left * (1 + 1e-9) // view.forecast(rungs[0]))
            )
        return size

    def _bracket_cost(self, view: StudyView, rungs: Sequence[Fidelity], size: int) -> float:
        cost = size * view.axes.nominal_cost(rungs[0])
        for k, (low, high) in enumerate(itertools.pairwise(rungs)):
            done = view.axes.carried_epoch(low.epochs, low, high)
            cost += self._kept(size, k + 1) * view.axes.nominal_cost(high, since=done)
        return cost * view.cost_scale
