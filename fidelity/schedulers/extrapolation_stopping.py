"""Stopping by extrapolation: a trial ends when it will hardly beat the best one; knows curves and costs.

As the predictive termination of Domhan, Springenberg & Hutter, "Speeding up Automatic Hyperparameter
Optimization of Deep Neural Networks by Extrapolation of Learning Curves" (IJCAI 2015), section 4, with this
project's extrapolator, which learns from the study's own curves.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fidelity.axes import Axes
from fidelity.records import Fidelity, StudyView, TrialRecord, TrialState
from fidelity.schedulers.base import Action
from fidelity.schedulers.brackets import check_ladder
from fidelity.schedulers.checks import check_limits, checks, decide

# Other trials' curves that a forecast learns from: the latest so many full ones, and so many others.
_LEARNED_FROM = 100
_TREES = 9
_BEGIN = 0.75
# What beats the best one with more than this probability goes on, however early in the study it is.
_MOST = 0.25

_Points = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class ExtrapolationStopping:
    """Every trial is trained in full, unless at a check it is improbable that it beats the best one.

    Checks are made at a few numbers of epochs, each ``eta`` times the one before; the other axes stay at
    full fidelity. At each, :class:`fidelity.CurveExtrapolator` forecasts from the curves of all trials
    what this one will have at full fidelity. It is stopped for good if the probability that it ends as the
    best of the whole study is not worth the way to the next check: below ``bound`` times the cost of that
    way, in full evaluations. So where going on is cheap only the hopeless are stopped. Of several metrics it
    has to be improbable in every one.

    It ends as the best of all if it beats the best full evaluation so far and none that is yet to be started
    beats it. Of a part s of all configurations the best is the best of all with probability s, so this
    is s times the probability that is forecast. How large s is follows from ``n_trials`` and ``budget``;
    where neither is given, it counts as 1: the best so far is all there is to beat.

    Nothing stopped is resumed, and every configuration is trained up to the first check: a schedule that
    promotes the best of many saves more. This one decides about each trial by itself, at once, whatever the
    number of workers.

    Args:
        bound: probability of ending as the best, for each full evaluation that going on would cost, below
            which a trial is stopped; within (0, 1). Smaller ones are safer and slower.
        eta: from one check to the next the epochs grow by so much. At least 2.
        grace: nothing is stopped before this part of the epochs of a full evaluation, from 0 to below 1.
        n_startup: nothing is stopped before so many full evaluations are known. At least 1.
    """

    bound: float = 0.04
    eta: int = 2
    grace: float = 0.05
    n_startup: int = 3

    def __post_init__(self) -> None:
        check_ladder(self.eta, None)
        if not (isinstance(self.bound, (int, float)) and 0 < self.bound < 1):
            raise ValueError(f"bound={self.bound!r}: must be a probability within (0, 1). Use 0.04.")
        check_limits(self.grace, self.n_startup, 3)

    def rungs(self, axes: Axes) -> list[Fidelity]:
        """The checks and full fidelity, in order."""
        return checks(axes, self.eta, self.grace)

    def decide(self, view: StudyView, rng: np.random.Generator) -> Action:
        """Judge the paused trials, oldest first; start another one if it can be trained in full."""
        rungs = self.rungs(view.axes)
        return decide(view, rungs, lambda trial, at, to: self._judge(view, trial, at, to))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description."""
        return {
            "name": "ExtrapolationStopping",
            "bound": self.bound,
            "eta": self.eta,
            "grace": self.grace,
            "n_startup": self.n_startup,
        }

    def _judge(
        self, view: StudyView, trial: TrialRecord, at: Fidelity, to: Fidelity
    ) -> tuple[bool, dict[str, Any]]:
        """Whether a trial is to be stopped at a check rather than trained to the next, and the figures."""
        full = view.axes.full
        complete = [t for t in view.trials if t.values_at(full)]
        if len(complete) < self.n_startup:
            return False, {
                "why": f"fewer than {self.n_startup} full evaluations are known to compare it with"
            }
        beliefs = [
            belief
            for metric in range(len(view.metric_names))
            if (belief := self._belief(view, trial, complete, metric)) is not None
        ]
        if not beliefs:
            return False, {"why": "it has no value to forecast from"}
        first = max(beliefs, key=lambda b: b["probability"])
        way = view.axes.nominal_cost(to, since=view.axes.carried_epoch(at.epochs, at, to))
        least = min(_MOST, self.bound * way / _part_started(view))
        worse = first["probability"] < least
        why = (
            f"it beats the best so far, {first['metric']} {first['incumbent']:.4g}, with a probability of "
            f"{first['probability']:.2g}, {'below' if worse else 'not below'} {least:.2g}"
        )
        return worse, {**first, "least": least, "why": why}

    @staticmethod
    def _belief(
        view: StudyView, trial: TrialRecord, complete: list[TrialRecord], metric: int
    ) -> dict[str, Any] | None:
        """What one metric of a trial will be at full fidelity, beside the best there is."""
        full = view.axes.full
        mine = _points(view, trial, metric)
        ends = [view.losses(t, full)[metric] for t in complete]
        ends = [end for end in ends if not np.isnan(end)]
        if not mine[0] or not ends:
            return None
        done = {t.number for t in complete}
        others = [t for t in view.trials if t.number not in done and t is not trial]
        known = (*complete[-_LEARNED_FROM:], *others[-_LEARNED_FROM:])
        curves = tuple(points for t in known if (points := _points(view, t, metric))[0])
        believed = _believed(tuple(_clipped((mine, *curves))), full.epochs, min(ends))
        mean, *interval = (view.signed(loss, metric) for loss in believed[1:])
        return {
            "metric": view.metric_names[metric],
            "probability": believed[0],
            "incumbent": view.signed(min(ends), metric),
            "end": {"mean": mean, "low": min(interval), "high": max(interval)},
        }


def _part_started(view: StudyView) -> float:
    """The part it has started of all that the study will start; 1 if nothing says how many those are."""
    # What was added is no start of this study's.
    started = sum(t.state is not TrialState.INFEASIBLE and t.elsewhere is None for t in view.trials)
    paid = sum(t.paid for t in view.trials)
    # Of two limits the one that is reached first counts. Nothing is known of a budget nobody has paid from.
    parts = [
        done / (done + left)
        for done, left in ((started, view.starts_left), (paid, view.budget_left))
        if math.isfinite(left) and done > 0
    ]
    return max(parts, default=1.0)


def _points(view: StudyView, trial: TrialRecord, metric: int) -> _Points:
    """Epochs and losses of a trial at the other axes' full fidelity.

    Where trainings do not carry on, each ends where its schedule ended: then only the ends compare.
    """
    name = view.metric_names[metric]
    full = view.axes.full
    carried = "epochs" in view.axes.carry
    found: dict[int, float] = {}
    for curve in trial.curves:
        # Of a few segments only, each with one fidelity for all of its observations.
        whole = {f for f in {o.fidelity for o in curve.observations} if _otherwise_full(f, full)}
        seen = [o for o in curve.observations if name in o.values and o.fidelity in whole]
        if carried and seen:
            found = {}  # the newest is the longest
        found |= {o.epoch: view.signed(o.values[name], metric) for o in (seen if carried else seen[-1:])}
    return tuple(map(float, sorted(found))), tuple(found[epoch] for epoch in sorted(found))


def _clipped(curves: Sequence[_Points]) -> list[_Points]:
    """Losses far above what most trials begin with count as that: how bad the bad ones are tells nothing.

    Losses that explode would otherwise count as changes that curves of any size may go through. Far is
    further than the best loss is below: a curve that begins badly and falls must not look as if it stood.
    """
    usual = float(np.quantile([losses[0] for _, losses in curves], _BEGIN))
    most = 2 * usual - min(min(losses) for _, losses in curves)
    return [(epochs, tuple(min(loss, most) for loss in losses)) for epochs, losses in curves]


def _otherwise_full(fidelity: Fidelity, full: Fidelity) -> bool:
    """Whether it is full on all axes but the epochs."""
    return dataclasses.replace(fidelity, epochs=full.epochs) == full


@functools.lru_cache(maxsize=256)
def _believed(curves: tuple[_Points, ...], horizon: int, best: float) -> tuple[float, float, float, float]:
    """Of the first curve's end: the probability that it is below ``best``, mean and 90 % interval."""
    from fidelity.extrapolation import CurveExtrapolator

    ends = CurveExtrapolator(trees=_TREES).predict(curves, horizon)
    low, high = ends.quantiles([0.05, 0.95])[0]
    return float(1 - ends.probability_above(best)[0]), float(ends.mean[0]), float(low), float(high)
