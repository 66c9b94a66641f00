"""The median rule: a trial that is worse than the median of the others is stopped; knows curves and costs.

Golovin, Solnik, Moitra, Kochanski, Karro & Sculley, "Google Vizier: A Service for Black-Box Optimization"
(KDD 2017), section 3.2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fidelity.axes import Axes
from fidelity.records import Fidelity, StudyView, TrialRecord
from fidelity.schedulers.base import Action
from fidelity.schedulers.brackets import check_ladder
from fidelity.schedulers.checks import check_limits, checks, decide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MedianStopping:
    """Every trial is trained in full, unless at a check it is worse than the median of the others.

    Checks are made at a few numbers of epochs, each ``eta`` times the one before; the other axes stay at
    full fidelity. A trial is stopped for good if its best value so far is strictly worse than the median of
    the running averages that all other trials had at that epoch. Of several metrics it has to be worse in
    every one.

    Simple and safe, and slow: about half of the trials pass each check, so the cost of a configuration
    falls by no more than a small factor. Nothing stopped is resumed.

    Args:
        eta: from one check to the next the epochs grow by so much. At least 2.
        grace: nothing is stopped before this part of the epochs of a full evaluation, from 0 to below 1.
        n_startup: nothing is stopped by the median of fewer others. At least 1.
    """

    eta: int = 2
    grace: float = 0.1
    n_startup: int = 5

    def __post_init__(self) -> None:
        check_ladder(self.eta, None)
        check_limits(self.grace, self.n_startup, 5)

    def rungs(self, axes: Axes) -> list[Fidelity]:
        """The checks and full fidelity, in order."""
        return checks(axes, self.eta, self.grace)

    def decide(self, view: StudyView, rng: np.random.Generator) -> Action:
        """Judge the paused trials, oldest first; start another one if it can be trained in full."""
        return decide(view, self.rungs(view.axes), lambda trial, at, _: self._judge(view, trial, at))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description."""
        return {
            "name": "MedianStopping",
            "eta": self.eta,
            "grace": self.grace,
            "n_startup": self.n_startup,
        }

    def _judge(self, view: StudyView, trial: TrialRecord, at: Fidelity) -> tuple[bool, dict[str, Any]]:
        """Whether a trial is stopped at a check, and the figures of it."""
        judged = self._judged(view, trial, at)
        if judged is None:
            return False, {"why": f"fewer than {self.n_startup} others got there to compare it with"}
        return judged.worse, judged.figures(view)

    def _judged(self, view: StudyView, trial: TrialRecord, at: Fidelity) -> _Judged | None:
        """How a trial compares at a check; None where there is too little to compare."""
        mine = _losses(view, trial, at)
        if mine is None:
            return None
        theirs = [
            losses.mean(axis=0)
            for other in view.trials
            if other is not trial and (losses := _losses(view, other, at)) is not None
        ]
        if len(theirs) < self.n_startup:
            return None
        return _Judged(at.epochs, mine.min(axis=0), np.median(theirs, axis=0), len(theirs))


@dataclass(frozen=True, slots=True)
class _Judged:
    """A trial beside the others at a check."""

    epoch: int
    best: Floats
    """(m,) the trial's best loss of each metric so far."""
    median: Floats
    """(m,) of the others' running averages."""
    others: int

    @property
    def worse(self) -> bool:
        return bool((self.best > self.median).all())

    def figures(self, view: StudyView) -> dict[str, Any]:
        """As the decision is stored, in the metrics' own signs."""
        return {
            "epoch": self.epoch,
            "best": _named(view, self.best),
            "median": _named(view, self.median),
            "others": self.others,
            "why": self._said(view),
        }

    def _said(self, view: StudyView) -> str:
        """The comparison in words."""
        best, median = _named(view, self.best), _named(view, self.median)
        beside = " and ".join(f"{name} {best[name]:.4g} against {median[name]:.4g}" for name in best)
        return (
            f"by epoch {self.epoch} its best was {'worse' if self.worse else 'no worse'} than the median of "
            f"{self.others} others' averages, {beside}"
        )


def _losses(view: StudyView, trial: TrialRecord, at: Fidelity) -> Floats | None:
    """(n, m) every metric up to a check's epoch, of the newest curve that reached it; None if none did."""
    for curve in reversed(trial.curves):
        up_to = [o for o in curve.observations if o.epoch <= at.epochs]
        if up_to and up_to[-1].epoch == at.epochs:
            rows = [
                [view.signed(o.values[name], i) for i, name in enumerate(view.metric_names)]
                for o in up_to
                if all(name in o.values for name in view.metric_names)
            ]
            if rows:
                return np.array(rows, dtype=np.float64)
    return None


def _named(view: StudyView, losses: Floats) -> dict[str, float]:
    """Losses as values of their metrics."""
    return {name: float(view.signed(losses[i], i)) for i, name in enumerate(view.metric_names)}
