"""Ladders of rungs, and brackets that move trials up them; knows records and costs, no particular schedule.

A bracket starts so many trials on its lowest rung and resumes the best of each rung on the next, when all of
a rung have ended. Brackets run one after another. What a bracket was to be is stored with each of its trials,
so that every decision is a function of the records.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fidelity.axes import Axes
from fidelity.records import Fidelity, StudyView, TrialRecord, TrialState
from fidelity.schedulers.base import Action, Resume, Start, Wait, wait_or_done


def ladder_of(axes: Axes, eta: int, n_rungs: int | None = None) -> list[Fidelity]:
    """The rungs from the lowest to the full fidelity, cheapest first.

    All axes move together, and each rung has ``eta`` times the nominal cost of the one below.

    Args:
        axes: the study's.
        eta: at least 2.
        n_rungs: only so many, the highest ones; None for all.
    """
    steps = math.log(1 / axes.nominal_cost(axes.lowest), eta)
    n = math.floor(steps + 1e-9) + 1
    if n_rungs is not None:
        n = min(n, n_rungs)
    ladder = [axes.at(1 - k / steps if k else 1.0) for k in reversed(range(n))]
    # Listed axes snap to their values, so that neighbouring rungs can coincide.
    return list(dict.fromkeys(ladder))


def check_ladder(eta: Any, n_rungs: Any) -> None:
    """Refuse settings that make no ladder.

    Raises:
        ValueError: if ``eta`` is no whole number of at least 2, or ``n_rungs`` is below 1.
    """
    if isinstance(eta, bool) or not isinstance(eta, int) or eta < 2:
        raise ValueError(f"eta={eta!r}: must be a whole number of at least 2. Use 3 for the usual ladder.")
    if n_rungs is not None and (isinstance(n_rungs, bool) or not isinstance(n_rungs, int) or n_rungs < 1):
        raise ValueError(f"n_rungs={n_rungs!r}: must be at least 1, or None for all rungs.")


@dataclass(frozen=True, slots=True)
class Bracket:
    """What a bracket was to be when it began; stored with each of its trials.

    It followed from what was known and left then, and must not change when a later call allows more.
    """

    number: int
    size: int
    """Trials on its lowest rung."""
    lowest: int = 0
    """The position of the rung it begins at."""
    dropped: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Rungs it leaves out, by position, and why."""
    shares: tuple[float, ...] | None = None
    """The part of its trials that reaches each rung where costs are measured; else 1/eta of each are kept."""

    @staticmethod
    def of(record: TrialRecord) -> Bracket:
        """The bracket a trial was started in."""
        figures = record.figures
        shares = figures.get("shares")
        return Bracket(
            number=int(figures["bracket"]),
            size=int(figures["size"]),
            lowest=int(figures.get("lowest", 0)),
            dropped={int(d["rung"]): d for d in figures.get("dropped", ())},
            shares=None if shares is None else tuple(shares),
        )

    def figures(self) -> dict[str, Any]:
        """JSON-ready, the inverse of :meth:`of`."""
        figures: dict[str, Any] = {"bracket": self.number, "size": self.size}
        if self.lowest:
            figures["lowest"] = self.lowest
        if self.dropped:
            figures["dropped"] = list(self.dropped.values())
        if self.shares is not None:
            figures["shares"] = list(self.shares)
        return figures

    def ladder(self, rungs: int) -> list[int]:
        """The positions of the rungs it uses, of so many."""
        return [k for k in range(self.lowest, rungs) if k not in self.dropped]


@dataclass(frozen=True, slots=True)
class Brackets:
    """Brackets over the rungs of one study, as of one view."""

    view: StudyView
    rungs: Sequence[Fidelity]
    """Cheapest first; the last is full fidelity."""
    eta: int
    """A rung keeps one in ``eta`` trials."""

    def decide(self, largest: Callable[[int], Bracket]) -> Action:
        """Fill the newest bracket, then promote from its lowest undecided rung, then begin another.

        Args:
            largest: what the bracket of a number is to be, where the study's limits do not make it smaller.
        """
        members = self._newest()
        number = 0
        if members:
            bracket = Bracket.of(members[0])
            lowest = self.rungs[bracket.ladder(len(self.rungs))[0]]
            if len(members) < bracket.size and self.view.starts_left > 0 and self.view.fits(lowest):
                return Start(lowest, figures=bracket.figures())
            action = self._promote(bracket, members)
            if action is not None:
                return action
            number = bracket.number + 1
        if self.view.starts_left <= 0:
            return wait_or_done(self.view)
        return self._begin(largest(number)) or wait_or_done(self.view)

    def _newest(self) -> list[TrialRecord]:
        """The trials of the newest bracket."""
        members = [t for t in self.view.trials if "bracket" in t.figures and t.state != TrialState.INFEASIBLE]
        newest = max((t.figures["bracket"] for t in members), default=None)
        return [t for t in members if t.figures["bracket"] == newest]

    def _promote(self, bracket: Bracket, members: Sequence[TrialRecord]) -> Action | None:
        view, rungs = self.view, self.rungs
        level = {t.number: rungs.index(t.fidelity) if t.fidelity in rungs else -1 for t in members}
        for k, above in itertools.pairwise(bracket.ladder(len(rungs))):
            if any(t.state == TrialState.RUNNING and level[t.number] <= k for t in members):
                return Wait()
            quota = self._kept(bracket, len(members), above)
            promoted = sum(level[t.number] > k for t in members)
            waiting = [
                t for t in members if level[t.number] == k and t.state == TrialState.PAUSED and t.values
            ]
            if promoted < quota and waiting:
                best = view.ranked(waiting, rungs[k], self._gone_on(k, above))[0]
                if view.fits(rungs[above], best):
                    figures = {"rung": above, "of": len(rungs), "waiting": len(waiting), "quota": quota}
                    return Resume(best, rungs[above], figures)
        if any(t.state == TrialState.RUNNING for t in members):
            return Wait()
        return None

    def _gone_on(self, rung: int, above: int) -> list[TrialRecord]:
        """What any bracket promoted from a rung: of several metrics, each would else promote the same."""
        if len(self.view.metric_names) == 1:
            return []
        further = self.rungs[above:]
        return [t for t in self.view.trials if t.fidelity in further and t.values_at(self.rungs[rung])]

    def _kept(self, bracket: Bracket, size: int, rung: int) -> int:
        """How many of ``size`` trials reach a rung."""
        if bracket.shares is not None:
            kept = math.floor(size * bracket.shares[rung] + 1e-9)
        else:
            kept = size // int(self.eta ** (rung - bracket.ladder(len(self.rungs))[0]))
        # At least one, so that a bracket cut short by its limits still ends with a full evaluation.
        return max(1, kept)

    def _begin(self, bracket: Bracket) -> Start | None:
        """The first start of a new bracket, made as small as what is left; None if nothing of it fits."""
        view = self.view
        lowest = self.rungs[bracket.ladder(len(self.rungs))[0]]
        largest = bracket.size
        size = int(min(largest, view.starts_left))
        room = view.budget_left * (1 + 1e-9) + 1e-9
        while size > 0 and self._cost(replace(bracket, size=size)) > room:
            size -= 1
        if size == 0 and not view.trials:
            # Less than one full evaluation in all: spend it on the lowest rung rather than on nothing.
            most = view.budget_left * (1 + 1e-9) // view.forecast(lowest)
            size = int(min(largest, view.starts_left, most))
        return Start(lowest, figures=replace(bracket, size=size).figures()) if size else None

    def _cost(self, bracket: Bracket) -> float:
        axes, rungs = self.view.axes, self.rungs
        ladder = bracket.ladder(len(rungs))
        cost = bracket.size * axes.nominal_cost(rungs[ladder[0]])
        for k, above in itertools.pairwise(ladder):
            low, high = rungs[k], rungs[above]
            done = axes.carried_epoch(low.epochs, low, high)
            cost += self._kept(bracket, bracket.size, above) * axes.nominal_cost(high, since=done)
        return cost * self.view.cost_scale
