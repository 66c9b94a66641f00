"""Successive halving: many configurations cheaply, the best of them further; knows rungs and costs only.

Jamieson & Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization"
(AISTATS 2016), algorithm 1. Brackets run one after another until the study's limits are reached.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fidelity.axes import Axes
from fidelity.costs import CostModel
from fidelity.proxies import Comparison
from fidelity.records import Fidelity, StudyView, TrialRecord, TrialState
from fidelity.rungs import misleading
from fidelity.schedulers.base import Action, Resume, Start, Wait, wait_or_done


@dataclass(frozen=True, slots=True)
class _Bracket:
    """What a bracket was to be when it began; stored with each of its trials.

    It followed from what was known and left then, and must not change when a later call allows more.
    """

    number: int
    size: int
    """Trials on its lowest rung."""
    dropped: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Rungs it leaves out, by position, and why."""
    shares: tuple[float, ...] | None = None
    """The part of its trials that reaches each rung where costs are measured; else 1/eta of each are kept."""

    @staticmethod
    def of(record: TrialRecord) -> _Bracket:
        """The bracket a trial was started in."""
        figures = record.figures
        shares = figures.get("shares")
        dropped = {int(d["rung"]): d for d in figures.get("dropped", ())}
        return _Bracket(
            int(figures["bracket"]), int(figures["size"]), dropped, None if shares is None else tuple(shares)
        )

    def figures(self) -> dict[str, Any]:
        """JSON-ready, the inverse of :meth:`of`."""
        figures: dict[str, Any] = {"bracket": self.number, "size": self.size}
        if self.dropped:
            figures["dropped"] = list(self.dropped.values())
        if self.shares is not None:
            figures["shares"] = list(self.shares)
        return figures

    def ladder(self, rungs: int) -> list[int]:
        """The positions of the rungs it uses, of so many."""
        return [k for k in range(rungs) if k not in self.dropped]


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
        if isinstance(self.eta, bool) or not isinstance(self.eta, int) or self.eta < 2:
            raise ValueError(
                f"eta={self.eta!r}: must be a whole number of at least 2. Use 3 for the usual ladder."
            )
        if self.n_rungs is not None and (not isinstance(self.n_rungs, int) or self.n_rungs < 1):
            raise ValueError(f"n_rungs={self.n_rungs!r}: must be at least 1, or None for all rungs.")
        for name in ("drop_rungs", "measured_costs"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r}: must be True or False.")

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
        members = self._newest_bracket(view)
        number = 0
        if members:
            bracket = _Bracket.of(members[0])
            lowest = rungs[bracket.ladder(len(rungs))[0]]
            if len(members) < bracket.size and view.starts_left > 0 and view.fits(lowest):
                return Start(lowest, figures=bracket.figures())
            action = self._promote(view, rungs, bracket, members)
            if action is not None:
                return action
            number = bracket.number + 1
        return self._begin(view, rungs, number) or wait_or_done(view)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description."""
        return {
            "name": "SuccessiveHalving",
            "eta": self.eta,
            "n_rungs": self.n_rungs,
            "drop_rungs": self.drop_rungs,
            "measured_costs": self.measured_costs,
        }

    @staticmethod
    def _newest_bracket(view: StudyView) -> list[TrialRecord]:
        members = [t for t in view.trials if "bracket" in t.figures and t.state != TrialState.INFEASIBLE]
        newest = max((t.figures["bracket"] for t in members), default=None)
        return [t for t in members if t.figures["bracket"] == newest]

    def _promote(
        self, view: StudyView, rungs: Sequence[Fidelity], bracket: _Bracket, members: Sequence[TrialRecord]
    ) -> Action | None:
        level = {t.number: rungs.index(t.fidelity) if t.fidelity in rungs else -1 for t in members}
        for k, above in itertools.pairwise(bracket.ladder(len(rungs))):
            if any(t.state == TrialState.RUNNING and level[t.number] <= k for t in members):
                return Wait()
            quota = self._kept(bracket, len(members), len(rungs), above)
            promoted = sum(level[t.number] > k for t in members)
            waiting = [
                t for t in members if level[t.number] == k and t.state == TrialState.PAUSED and t.values
            ]
            if promoted < quota and waiting:
                best = view.ranked(waiting, rungs[k], self._gone_on(view, rungs[k], rungs[above:]))[0]
                if view.fits(rungs[above], best):
                    figures = {"rung": above, "of": len(rungs), "waiting": len(waiting), "quota": quota}
                    return Resume(best, rungs[above], figures)
        if any(t.state == TrialState.RUNNING for t in members):
            return Wait()
        return None

    @staticmethod
    def _gone_on(view: StudyView, rung: Fidelity, above: Sequence[Fidelity]) -> list[TrialRecord]:
        """What any bracket promoted from a rung: of several metrics, each would else promote the same."""
        if len(view.metric_names) == 1:
            return []
        return [t for t in view.trials if t.fidelity in above and t.values_at(rung)]

    def _kept(self, bracket: _Bracket, size: int, rungs: int, rung: int) -> int:
        """How many of ``size`` trials reach a rung."""
        if bracket.shares is not None:
            kept = math.floor(size * bracket.shares[rung] + 1e-9)
        else:
            kept = size // int(self.eta ** (rung - bracket.ladder(rungs)[0]))
        # At least one, so that a bracket cut short by its limits still ends with a full evaluation.
        return max(1, kept)

    def _begin(self, view: StudyView, rungs: Sequence[Fidelity], number: int) -> Start | None:
        """The first start of a new bracket, if one fits what is left."""
        if view.starts_left <= 0:
            return None
        dropped = self._dropped(view, rungs)
        ladder = [k for k in range(len(rungs)) if k not in dropped]
        lowest = rungs[ladder[0]]
        largest, shares = self.eta ** (len(rungs) - 1 - ladder[0]), None
        if self.measured_costs:
            model = CostModel.of(view.trials, view.axes)
            costs = [min(1.0, model.ratio(rung)) for rung in rungs]
            # A rung takes about as long as one full evaluation, as every rung of a nominal bracket costs.
            largest = min(largest, max(1, round(1 / costs[ladder[0]])))
            shares = tuple(round(min(1.0, costs[ladder[0]] / cost), 6) for cost in costs)
        size = int(min(largest, view.starts_left))
        room = view.budget_left * (1 + 1e-9) + 1e-9
        while size > 0 and self._cost(view, rungs, _Bracket(number, size, dropped, shares)) > room:
            size -= 1
        if size == 0 and not view.trials:
            # Less than one full evaluation in all: spend it on the lowest rung rather than on nothing.
            most = view.budget_left * (1 + 1e-9) // view.forecast(lowest)
            size = int(min(largest, view.starts_left, most))
        return Start(lowest, figures=_Bracket(number, size, dropped, shares).figures()) if size else None

    def _dropped(self, view: StudyView, rungs: Sequence[Fidelity]) -> dict[int, Mapping[str, Any]]:
        if not self.drop_rungs:
            return {}
        return {k: _explained(k, comparison) for k, comparison in misleading(view, rungs).items()}

    def _cost(self, view: StudyView, rungs: Sequence[Fidelity], bracket: _Bracket) -> float:
        ladder = bracket.ladder(len(rungs))
        cost = bracket.size * view.axes.nominal_cost(rungs[ladder[0]])
        for k, above in itertools.pairwise(ladder):
            low, high = rungs[k], rungs[above]
            done = view.axes.carried_epoch(low.epochs, low, high)
            kept = self._kept(bracket, bracket.size, len(rungs), above)
            cost += kept * view.axes.nominal_cost(high, since=done)
        return cost * view.cost_scale


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
