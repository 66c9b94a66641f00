"""Asynchronous successive halving with quotas: no trial waits for others; knows rungs and costs only.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht & Talwalkar, "A System for Massively Parallel
Hyperparameter Tuning" (MLSys 2020), algorithm 2, with three changes: a rung promotes by a quota rather than
whatever is in its best part at the moment; a promoted trial goes on from its checkpoint; and some trials
begin above the lowest rung, more of them the worse that rung ranks.

Glossary:
    rung       0 … K-1, cheapest first; K-1 is full fidelity
    entry      the rung a trial was started at; it takes part in the quotas of that rung and those above
    seen       trials that ended a segment on a rung, failed ones too
    keep       a rung promotes ⌊seen / keep⌋ of its trials in all
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fidelity.axes import Axes
from fidelity.proxies import correlation
from fidelity.records import Fidelity, StudyView, TrialRecord, TrialState
from fidelity.rungs import Reader, loss_at, trained_metric
from fidelity.schedulers.base import Action, Resume, Start, wait_or_done

# No rung of more than this part of full fidelity's cost: what it tells is hardly cheaper.
_HIGHEST = 0.75
# The part of new trials that begins in the middle of the ladder, whatever is known.
_PROBES = 0.02
# The correlation of rungs that nothing is known of, and how many trials that is worth.
_PRIOR, _WORTH = 0.6, 6
# A rung is skipped by no further trial where it correlates by at least _GOOD, by all at _BAD. At .3, choosing
# the best of three on a rung of a third of the cost gains about its cost.
_GOOD, _BAD = 0.35, 0.2
_ENOUGH = 4
# So many trials of which none ends well at full fidelity are enough.
_ATTEMPTS = 3
_LEAST_KEEP = 1.5


@dataclass(frozen=True, slots=True)
class ASHA:
    """Promotes the best paused trial wherever a rung's quota allows it, highest rung first; else starts one.

    No worker ever waits, and nothing has to be known of the budget: what is best after any time has been
    trained furthest. The rungs begin at the lowest fidelity, all axes moving together, and cost ``eta`` times
    as much from one to the next; the step to full fidelity is what is left. A rung promotes one in as many as
    the next one costs more, so that every rung gets about the same part of the budget.

    **Hedge.** One in 50 new trials begins in the middle of the ladder. These tell, free of any selection, how
    the rungs below rank; where one is found to correlate by less than about .3, new trials skip it, and the
    figures of their starts say so. Evidence comes slowly: a rung that misleads costs tens of full evaluations
    before it is known for it.

    **Ends.** When ``n_trials`` are started every rung promotes at least one, so that the best is evaluated in
    full, and what is left of a budget goes into the next best. Of a budget so much is kept that the furthest
    of the best can be finished; what is left then goes into finishing the next ones.

    Args:
        eta: each rung costs so much more than the one below, and promotes one in as many. At least 2.
        n_rungs: use only the highest rungs of the ladder, where the lowest ranks badly. None: all.
        hedge: whether some trials skip rungs.
    """

    eta: int = 3
    n_rungs: int | None = None
    hedge: bool = True
    _reader: Reader = field(default_factory=Reader, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.eta, bool) or not isinstance(self.eta, int) or self.eta < 2:
            raise ValueError(f"eta={self.eta!r}: must be a whole number of at least 2. The default is 3.")
        if self.n_rungs is not None and (
            isinstance(self.n_rungs, bool) or not isinstance(self.n_rungs, int) or self.n_rungs < 1
        ):
            raise ValueError(f"n_rungs={self.n_rungs!r}: must be at least 1, or None for all rungs.")
        if not isinstance(self.hedge, bool):
            raise ValueError(f"hedge={self.hedge!r}: must be True or False.")

    def rungs(self, axes: Axes) -> list[Fidelity]:
        """The ladder, cheapest first; the last is full fidelity."""
        whole = math.log(1 / axes.nominal_cost(axes.lowest), self.eta)
        ladder = [axes.lowest]
        for k in range(1, math.ceil(whole - 1e-9)):
            rung = axes.at(k / whole)
            # Of whole epochs, or of listed values, positions may cost about the same, or as much as all.
            cost, below = axes.nominal_cost(rung), axes.nominal_cost(ladder[-1])
            if cost < _HIGHEST - 1e-9 and cost >= below * self.eta / 2 - 1e-9:
                ladder.append(rung)
        ladder = list(dict.fromkeys([*ladder, axes.full]))
        return ladder if self.n_rungs is None else ladder[-self.n_rungs :]

    def decide(self, view: StudyView, rng: np.random.Generator) -> Action:
        """Promote where a quota allows it, from the highest rung down; else start a new trial."""
        rungs = self.rungs(view.axes)
        state = _State.of(view, rungs, _keeps(view.axes, rungs, self.eta), self._reader)
        startable = view.starts_left > 0 and view.fits(rungs[0])
        if startable and not state.trials and view.fits(rungs[-1]) and not state.affords_both:
            # Where nothing carries over, a first look would leave too little for a full evaluation.
            return Start(rungs[-1], figures={"rung": len(rungs) - 1, "of": len(rungs)})
        action: Resume | Start | None = state.promotion(at_least=0 if startable else 1)
        if action is None and startable:
            entry, figures = self._entry(state, rng)
            entry = entry if view.fits(rungs[entry]) else 0
            action = Start(rungs[entry], figures={"rung": entry, "of": len(rungs), **figures})
        if action is not None and not state.spends_reserve(action):
            return action
        if action is None and view.starts_left <= 0 and state.complete:
            return (state.next_best() if math.isfinite(view.budget_left) else None) or wait_or_done(view)
        # What runs may turn out to be what goes on.
        return (None if state.running.any() else state.finish()) or wait_or_done(view)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description."""
        return {"name": "ASHA", "eta": self.eta, "n_rungs": self.n_rungs, "hedge": self.hedge}

    def _entry(self, state: _State, rng: np.random.Generator) -> tuple[int, Mapping[str, Any]]:
        """The rung a new trial begins at, and why that is not the lowest."""
        if not self.hedge or len(state.rungs) == 1:
            return 0, {}
        if rng.random() < _PROBES:
            return state.middle, {
                "probe": True,
                "why": "one in 50 tells, unselected, how the rungs below rank",
            }
        entry, skipped = 0, []
        while entry < state.middle:
            r, n = state.correlation(entry)
            share = float(np.clip((_GOOD - r) / (_GOOD - _BAD), 0, 1))
            if rng.random() >= share:
                break
            told = {"correlation": round(r, 3), "n": round(n, 1), "share": round(share, 3)}
            skipped.append({"rung": entry, **told})
            entry += 1
        return entry, {"hedge": skipped} if skipped else {}


def _keeps(axes: Axes, rungs: Sequence[Fidelity], eta: int) -> tuple[float, ...]:
    """How many trials of each rung but the highest there are for one that is promoted, lowest first."""
    costs = [axes.nominal_cost(rung) for rung in rungs]
    return tuple(
        min(max(above / below, _LEAST_KEEP), eta + 1.0) for below, above in itertools.pairwise(costs)
    )


@dataclass(frozen=True)
class _State:
    """Who has been seen where, as of one view."""

    view: StudyView
    rungs: Sequence[Fidelity]
    keeps: Sequence[float]
    trials: Sequence[TrialRecord]
    """All but the infeasible ones."""
    level: np.ndarray[Any, np.dtype[np.int64]]
    """The rung each has been sent to last, shape (n,); −1 if it lies below the lowest."""
    entry: np.ndarray[Any, np.dtype[np.int64]]
    probe: np.ndarray[Any, np.dtype[np.bool_]]
    """Whether each began above the lowest rung only to tell how those below rank."""
    running: np.ndarray[Any, np.dtype[np.bool_]]
    waiting: np.ndarray[Any, np.dtype[np.bool_]]
    """Whether each could be promoted."""
    losses: np.ndarray[Any, np.dtype[np.float64]]
    """What each lost at each rung, shape (n, K); NaN where it was not seen there."""

    @staticmethod
    def of(view: StudyView, rungs: Sequence[Fidelity], keeps: Sequence[float], reader: Reader) -> _State:
        trials = [t for t in view.trials if t.state is not TrialState.INFEASIBLE]
        costs = [view.axes.nominal_cost(rung) for rung in rungs]
        metric = trained_metric(view)

        def row(trial: TrialRecord) -> list[float]:
            # Of another ladder's rung, another scheduler's or of an added trial, what it costs tells.
            cost = view.axes.nominal_cost(trial.fidelity) * (1 + 1e-9)
            first = next((o.fidelity for c in trial.curves for o in c.observations), trial.fidelity)
            begun = view.axes.nominal_cost(first) * (1 + 1e-9)
            return [
                sum(c <= cost for c in costs) - 1,
                max(0, sum(c <= begun for c in costs) - 1),
                bool(trial.figures.get("probe", False)),
                trial.state is TrialState.RUNNING,
                trial.state is TrialState.PAUSED and bool(trial.curves),
                *(loss_at(trial, rung, view, metric) for rung in rungs),
            ]

        read = reader.read(trials, (tuple(rungs), view.metric_names, view.directions), row)
        read = read.reshape(len(trials), 5 + len(rungs))
        level, entry = read[:, :2].astype(np.int64).T
        probe, running, waiting = read[:, 2:5].astype(np.bool_).T
        return _State(view, rungs, keeps, trials, level, entry, probe, running, waiting, read[:, 5:])

    def promotion(self, at_least: int) -> Resume | None:
        """The best of the highest rung whose quota is not used up; every quota is ``at_least`` so much."""
        for k in range(len(self.rungs) - 2, -1, -1):
            waiting = self._waiting(k)
            if not waiting:
                continue
            seen, promoted = self._share(k)
            quota = max(at_least, math.floor(seen / self.keeps[k] + 1e-9))
            if promoted < quota:
                best = self._best(waiting, k)
                if self.view.fits(self.rungs[k + 1], best):
                    figures = {"rung": k + 1, "of": len(self.rungs), "waiting": len(waiting)}
                    return Resume(best, self.rungs[k + 1], figures | {"quota": quota})
        return None

    def next_best(self) -> Resume | None:
        """Whose turn would come next if more were started: the best of the rung nearest to a promotion."""
        turns = []
        for k in range(len(self.rungs) - 1):
            waiting = self._waiting(k)
            if waiting and self.view.fits(self.rungs[k + 1], best := self._best(waiting, k)):
                seen, promoted = self._share(k)
                # Of equals the higher rung's is first.
                turns.append(((promoted + 1) * self.keeps[k] / max(seen, 1), -k, k + 1, best, len(waiting)))
        if not turns:
            return None
        _, _, rung, best, n = min(turns, key=lambda turn: turn[:2])
        why = "all trials were started, and budget is left for the next best"
        return Resume(best, self.rungs[rung], {"rung": rung, "of": len(self.rungs), "waiting": n, "why": why})

    def _share(self, k: int) -> tuple[float, int]:
        """How many trials a rung has seen, and how many of them were promoted."""
        member = self.entry <= k
        ended = member & ((self.level > k) | ((self.level == k) & ~self.running))
        # A probe is one of as many as have been left behind for each that was selected up to here.
        probes = ended & self.probe & (self.entry == k)
        seen = float((ended & ~probes).sum()) + probes.sum() / math.prod(self.keeps[:k])
        return seen, int((member & (self.level > k)).sum())

    @property
    def complete(self) -> bool:
        """Whether a trial was evaluated in full, or some were tried."""
        top = self.level == len(self.rungs) - 1
        ended = [t.state for t, full in zip(self.trials, top, strict=True) if full and t.state.finished]
        # What ends without a value is followed by another one, but not for ever.
        return TrialState.COMPLETE in ended or len(ended) >= _ATTEMPTS

    @property
    def affords_both(self) -> bool:
        """Whether the budget allows a trial on the lowest rung and then in full."""
        room = self.view.budget_left * (1 + 1e-9) + 1e-9
        return self.view.forecast(self.rungs[0]) + self._to_full(0) <= room

    def spends_reserve(self, action: Resume | Start) -> bool:
        """Whether an action would leave too little to finish a trial that could still be finished."""
        left, full, top = self.view.budget_left, self.rungs[-1], len(self.rungs) - 1
        if left > 3 * self.view.forecast(full):
            return False
        room = left * (1 + 1e-9) + 1e-9
        for rung in range(top - 1, -2, -1):
            # Whose checkpoint is lost costs a whole training: maybe another one can be finished.
            costs = [self.view.forecast(full, trial) for trial in self._waiting(rung)]
            if (self.running & (self.level == rung)).any():
                costs.append(self._to_full(rung))
            if not costs or min(costs) > room:
                continue
            trial = action.trial if isinstance(action, Resume) else None
            reached = self.rungs.index(action.fidelity)
            after = min(costs) if reached <= rung else self._to_full(reached) if reached < top else 0.0
            return room < self.view.forecast(action.fidelity, trial) + after
        return False

    def _to_full(self, rung: int) -> float:
        """What it costs to evaluate a trial in full that has been trained to a rung."""
        if rung < 0:
            return self.view.forecast(self.rungs[-1])
        low, full = self.rungs[rung], self.rungs[-1]
        done = self.view.axes.carried_epoch(low.epochs, low, full)
        return self.view.axes.nominal_cost(full, since=done) * self.view.cost_scale

    def finish(self) -> Resume | None:
        """The furthest trial that can still be evaluated in full, the best of its rung, and at once."""
        top = len(self.rungs) - 1
        for k in range(top - 1, -2, -1):
            for trial in self.view.ranked(self._waiting(k), self.rungs[max(k, 0)]):
                if self.view.fits(self.rungs[top], trial):
                    why = "what is left of the budget finishes the furthest of the best"
                    return Resume(trial, self.rungs[top], {"rung": top, "of": top + 1, "why": why})
        return None

    @property
    def middle(self) -> int:
        """The rung in the middle of the ladder, above the lowest."""
        return max(1, (len(self.rungs) - 1) // 2)

    def correlation(self, rung: int) -> tuple[float, float]:
        """How a rung ranks for the middle one, in [−1, 1], and how many trials' worth of evidence there is.

        It is shrunk towards the usual. Most of what reached the middle was selected by the rungs below,
        which :func:`fidelity.proxies.correlation` corrects; the narrower the selection, the fewer trials it
        is worth.
        """
        low, high = self.losses[:, rung], self.losses[:, self.middle]
        both = np.isfinite(low) & np.isfinite(high)
        if both.sum() < _ENOUGH:
            return _PRIOR, 0.0
        r, n = correlation(low[both], high[both], low[np.isfinite(low)])
        return (n * r + _WORTH * _PRIOR) / (n + _WORTH), n

    def _waiting(self, k: int) -> list[TrialRecord]:
        """Those that can be promoted from a rung."""
        return [self.trials[int(i)] for i in np.flatnonzero(self.waiting & (self.level == k))]

    def _best(self, waiting: Sequence[TrialRecord], k: int) -> TrialRecord:
        chosen = []
        if len(self.view.metric_names) > 1:
            # Of several metrics, what was promoted before: the next ones are to be unlike it.
            chosen = [
                t
                for t, level in zip(self.trials, self.level, strict=True)
                if level > k and t.values_at(self.rungs[k])
            ]
        return self.view.ranked(waiting, self.rungs[k], chosen)[0]
