"""Freeze-thaw: resume any paused trial or start a new one, whichever promises most; knows curves and costs.

Swersky, Snoek & Adams, "Freeze-Thaw Bayesian Optimization" (arXiv 1406.3896, 2014), with beliefs learned
from all curves as in Rakotoarison et al., "In-Context Freeze-Thaw Bayesian Optimization" (ICML 2024).

Glossary:
    belief     mean and standard deviation of a trial's loss at full fidelity; of a new trial: of those
               that were started last
    gain       expected improvement on the least mean of all trials (Jones et al. 1998, eq. 15)
    price      what it costs to bring a trial from where it is to full fidelity
    worth      gain / price
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fidelity.axes import Axes
from fidelity.outlook import CurveOutlook
from fidelity.records import Fidelity, StudyView, TrialRecord, TrialState
from fidelity.schedulers.base import Action, Resume, Start, Wait, wait_or_done
from fidelity.schedulers.brackets import check_ladder, ladder_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Of fewer trials it cannot be told how much they differ.
_FIRST = 8


@dataclass(frozen=True, slots=True)
class FreezeThaw:
    """Wherever most improvement is expected for the cost: one more rung of a paused trial, or a new trial.

    Nothing is ranked rung by rung and nothing is stopped for good: a trial whose curve was misjudged is
    thawed as soon as the others look worse. Beliefs come from extrapolating the learning curves.

    Args:
        eta: a thawed trial is trained to ``eta`` times its cost before the next decision. At least 2.
        opening: at most this part of what is spent goes into new trials, above 0 and at most 1. Without a
            bound what is unknown may promise more than what is known for ever.
    """

    eta: int = 2
    opening: float = 0.5

    def __post_init__(self) -> None:
        check_ladder(self.eta, None)
        number = isinstance(self.opening, (int, float)) and not isinstance(self.opening, bool)
        if not number or not 0 < self.opening <= 1:
            raise ValueError(
                f"opening={self.opening!r}: must lie above 0 and be at most 1. The usual is 0.5."
            )

    def rungs(self, axes: Axes) -> list[Fidelity]:
        """Where a trial can be frozen, cheapest first; the last is full fidelity."""
        return ladder_of(axes, self.eta)

    def decide(self, view: StudyView, rng: np.random.Generator) -> Action:
        """The resume or start that is worth most; in time, what is believed best is finished."""
        rungs = self.rungs(view.axes)
        startable = view.starts_left > 0 and view.fits(rungs[0])
        valued = [t for t in view.trials if t.values and t.state is not TrialState.FAIL]
        full = max(view.forecast(view.axes.full), 1e-9)
        ample = full + view.forecast(rungs[0]) <= view.budget_left
        if startable and (not valued or (ample and len(view.trials) < _FIRST)):
            return self._open(rungs, f"the first {_FIRST} show how much trials differ")
        if not valued:
            return wait_or_done(view)
        outlook = view.outlook or CurveOutlook(view)
        mean, std = outlook.at_horizon(valued)
        above = [_above(view, rungs, t) for t in valued]
        frozen = [i for i, t in enumerate(valued) if t.state is TrialState.PAUSED and view.fits(above[i], t)]

        def thaw(i: int, why: str, to: Fidelity | None = None) -> Resume:
            to = to or above[i]
            figures: dict[str, Any] = {"rung": rungs.index(to), "of": len(rungs), "why": why}
            return Resume(valued[i], to, figures | _end(view, float(mean[i]), float(std[i])))

        price = np.array([_price(view, t) for t in valued])
        leader = _leader(view, valued, mean, price)
        if view.starts_left <= 0 and math.isinf(view.budget_left):
            # Where only the number of trials is limited, what is believed best is finished, and no more.
            return thaw(leader, "it is believed to end best") if leader in frozen else wait_or_done(view)
        best = float(mean.min())
        worth = _gain(mean, std, best) / np.maximum(price, 1e-9 * full)
        new = float(_gain(*outlook.fresh(), best)) / full
        first = max(frozen, key=lambda i: float(worth[i]), default=-1)  # of those that can go on
        why = self._why_open(view, rungs, len(frozen), new, -math.inf if first < 0 else float(worth[first]))
        opens = startable and why is not None
        if not opens and first < 0:
            return wait_or_done(view)
        cost = view.forecast(rungs[0]) if opens else view.forecast(above[first], valued[first])
        if leader is not None and price[leader] > view.budget_left - cost:
            if valued[leader].state is TrialState.RUNNING:
                return Wait()
            said = "what is left of the budget just finishes it, and it is believed to end best"
            return thaw(leader, said, view.axes.full)
        if opens and why is not None:
            return self._open(rungs, why)
        return thaw(first, "finishing it is expected to gain most for its cost")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description."""
        return {"name": "FreezeThaw", "eta": self.eta, "opening": self.opening}

    def _open(self, rungs: Sequence[Fidelity], why: str) -> Start:
        return Start(rungs[0], figures={"rung": 0, "of": len(rungs), "why": why})

    def _why_open(
        self, view: StudyView, rungs: Sequence[Fidelity], frozen: int, new: float, best: float
    ) -> str | None:
        """Why a trial should be opened, of which ``new`` is the worth, ``best`` that of the paused ones."""
        if not frozen:
            return "no trial is paused that could go on"
        one = view.axes.nominal_cost(rungs[0])
        opened = one * sum(t.state is not TrialState.INFEASIBLE for t in view.trials)
        spent = sum(view.axes.nominal_cost(t.fidelity) for t in view.trials if t.values)
        if new < best or opened + one > self.opening * (spent + one):
            return None
        return f"a new one is expected to gain more for its cost than any of the {frozen} paused ones"


def _above(view: StudyView, rungs: Sequence[Fidelity], trial: TrialRecord) -> Fidelity:
    """The first rung that is dearer than where a trial is."""
    reached = view.axes.nominal_cost(trial.fidelity) * (1 + 1e-9)
    return next((rung for rung in rungs if view.axes.nominal_cost(rung) > reached), rungs[-1])


def _price(view: StudyView, trial: TrialRecord) -> float:
    """What it costs to go on from where a trial is, or will be, to full fidelity."""
    full, at = view.axes.full, trial.fidelity
    if trial.state is TrialState.PAUSED:
        return view.forecast(full, trial)
    done = view.axes.carried_epoch(at.epochs, at, full)
    return 0.0 if at == full else view.axes.nominal_cost(full, since=done) * view.cost_scale


def _leader(view: StudyView, trials: Sequence[TrialRecord], mean: Floats, price: Floats) -> int | None:
    """The trial believed best of those that can still be finished; None if it has been."""
    able = [
        i
        for i, t in enumerate(trials)
        if t.state is TrialState.COMPLETE
        or (not t.state.finished and price[i] <= view.budget_left * (1 + 1e-9) + 1e-9)
    ]
    leader = min(able, key=lambda i: float(mean[i]), default=None)
    return None if leader is None or trials[leader].state is TrialState.COMPLETE else leader


def _gain(mean: Any, std: Any, best: float) -> Any:
    """Expected improvement of losses on the least one: std · (z Φ(z) + φ(z)) with z = (best − mean) / std."""
    from scipy.special import ndtr

    std = np.maximum(std, 1e-12)
    z = (best - mean) / std
    return std * (z * ndtr(z) + np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi))


def _end(view: StudyView, mean: float, std: float) -> dict[str, Any]:
    """A belief as it is stored, in the metric's own sign; several metrics have none in a unit."""
    if len(view.metric_names) > 1:
        return {}
    low, high = sorted((view.signed(mean - 1.645 * std), view.signed(mean + 1.645 * std)))
    return {"end": {"mean": view.signed(mean), "low": low, "high": high}}
