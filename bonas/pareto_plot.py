"""Pictures of several objectives: the Pareto front, and the hypervolume over cost; reads records only.

Figures are made as those of :mod:`bonas.plots` are, from where users take these functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas._chart import BEST, DEFAULT, FULL, INK, PARTIAL, SOFT, canvas, chart, legend, nothing
from bonas.leaderboard import cost_unit, front, last_observation, leader, metric_value
from fidelity.pareto import hypervolume
from fidelity.records import TrialState

if TYPE_CHECKING:
    from bonas.leaderboard import StudyLike

__all__ = ["hypervolume_history", "plot_hypervolume", "plot_pareto_front"]

_ORDER = ("Pareto", "knee", "full", "partly", "hand")
_COUNTS = ("parameters", "macs")  # spread over orders of magnitude


def plot_pareto_front(study: StudyLike, metrics: Sequence[str] | None = None) -> Any:
    """What each full evaluation traded for what, the Pareto front in front.

    Args:
        study: a study with several objectives.
        metrics: two of its metric names, for the y and the x axis; the first two if None.

    Returns:
        A ``matplotlib.figure.Figure``. The trials of the front carry their numbers and are joined by the
        border of what they dominate; the one at the knee is ringed, trial 0, the hand-written default, is
        black, and trials below full fidelity are pale. With more than two objectives the front is that of
        all of them, of which two are drawn. Parameters and MACs have a logarithmic axis, accuracy on the y
        axis that of its error.

    Raises:
        ValueError: for one objective only, or names that the study does not have.
    """
    first, second = _two(study, metrics)
    figure = canvas()
    rated = [t for t in study.trials if last_observation(t) is not None]
    best = front(study)
    full = [t for t in rated if t.state == TrialState.COMPLETE]
    axes = chart(
        figure,
        "Pareto front",
        f"{len(best)} of {len(full)} trial{'s' * (len(full) != 1)} at full fidelity are not dominated"
        if full
        else "no trial at full fidelity yet: the front at the highest one reached",
        second,
    )
    axes.set_ylabel(first, color=INK)
    numbers = {t.number for t in best}
    groups = {
        "partly trained": ([t for t in rated if t.state != TrialState.COMPLETE], PARTIAL, 14, 2),
        "full fidelity": ([t for t in full if t.number not in numbers], FULL, 30, 3),
        "Pareto front": (best, BEST, 36, 5),
        "hand-written default (trial 0)": ([t for t in rated if t.number == 0], DEFAULT, 24, 6),
    }
    for label, (trials, colour, size, above) in groups.items():
        if trials:
            x, y = ([metric_value(t, m) for t in trials] for m in (second, first))
            axes.scatter(x, y, s=size, color=colour, zorder=above, label=label, linewidths=0)
    balance = leader(study)
    if balance is not None:
        at = [[metric_value(balance, m)] for m in (second, first)]
        axes.scatter(*at, s=110, facecolors="none", edgecolors=BEST, linewidths=1.4, zorder=4, label="knee")
    if len(study.metric_names) == 2:
        _border(axes, study, best, first, second)
    for trial in best[:20]:  # more would cover one another
        axes.annotate(
            str(trial.number),
            (metric_value(trial, second), metric_value(trial, first)),
            textcoords="offset points",
            xytext=(5, 4),
            fontsize=7.5,
            color=SOFT,
        )
    _scales(axes, rated, first, second)
    legend(figure, axes, _ORDER)
    if not rated:
        nothing(axes, "nothing observed yet")
    return figure


def plot_hypervolume(study: Any, reference: Sequence[float] | None = None) -> Any:
    """How much the front dominates for which cost: what a search with several objectives has reached.

    Args:
        study: a :class:`bonas.Study` with several objectives.
        reference: as for :func:`hypervolume_history`.

    Returns:
        A ``matplotlib.figure.Figure``: cumulative cost on the x axis, the dominated share of the box between
        the reference and the best value of each metric on the y axis.

    Raises:
        ValueError: for one objective only, or a reference of another length.
    """
    history = hypervolume_history(study, reference)
    figure = canvas()
    unit = cost_unit(study.axes)
    axes = chart(
        figure,
        "Hypervolume",
        f"of {len(history)} full evaluation{'s' * (len(history) != 1)}, spent {study.spent:.3g} {unit}",
        f"cost so far ({unit})",
    )
    axes.set_ylabel("share dominated by the front", color=INK)
    if history:
        costs, shares = zip(*history, strict=True)
        axes.step(
            [*costs, max(study.spent, costs[-1])],
            [*shares, shares[-1]],
            where="post",
            color=BEST,
            linewidth=2,
        )
        axes.scatter(costs, shares, s=14, color=FULL, zorder=3, linewidths=0)
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, max(study.spent * 1.02, 1e-9))
    else:
        nothing(axes, "nothing at full fidelity yet")
    return figure


def hypervolume_history(study: Any, reference: Sequence[float] | None = None) -> list[tuple[float, float]]:
    """The hypervolume of the COMPLETE trials as they came.

    Args:
        study: a :class:`bonas.Study` with several objectives.
        reference: a value of each metric that is just too bad to count. If None a tenth of their range
            beyond the worst of the COMPLETE trials.

    Returns:
        for each COMPLETE trial in the order they were finished: the cost of the study up to then, and the
        share of the box between ``reference`` and the best value of each metric that the trials so far
        dominate, from 0 to 1.

    Raises:
        ValueError: for one objective only, or a reference of another length.
    """
    from bonas.plots import history

    names = _several(study)
    signs = np.array([-1.0 if d == "maximize" else 1.0 for d in study.directions])
    if reference is not None and len(reference) != len(names):
        raise ValueError(f"reference={list(reference)}: must have one value for each of {names}.")
    trials = study.trials
    finished = [
        (cost, trials[number])
        for cost, _, full, number in history(study, names[0])
        if full and trials[number].state == TrialState.COMPLETE
    ]
    if not finished:
        return []
    losses = np.array([[metric_value(t, m) for m in names] for _, t in finished]) * signs
    best, worst = losses.min(axis=0), losses.max(axis=0)
    limit = worst + 0.1 * (worst - best) if reference is None else np.asarray(reference, np.float64) * signs
    # A metric in which all agree, or none is better than the reference, leaves a box without volume.
    box = np.where(limit > best, limit - best, 1.0)
    scaled = (losses - best) / box
    ones = np.where(limit > best, 1.0, 1.0 if reference is None else 0.0)
    return [(cost, hypervolume(scaled[: i + 1], ones)) for i, (cost, _) in enumerate(finished)]


def _border(axes: Any, study: StudyLike, best: Sequence[Any], first: str, second: str) -> None:
    """The border of what the front dominates, as steps from point to point."""
    if len(best) < 2:
        return
    points = sorted((metric_value(t, second), metric_value(t, first)) for t in best)
    directions = dict(zip(study.metric_names, study.directions, strict=True))
    # A step runs on from a point towards what is worse on the x axis.
    where = "post" if directions[second] == "minimize" else "pre"
    axes.step(*zip(*points, strict=True), where=where, color=BEST, linewidth=1.2, alpha=0.6, zorder=3)


def _scales(axes: Any, rated: Sequence[Any], first: str, second: str) -> None:
    from bonas.plots import error_scale

    values = [metric_value(t, first) for t in rated]
    if values and "accuracy" in first and min(values) >= 0 and max(values) <= 1:
        error_scale(axes, values, first)
    for name, set_scale in ((second, axes.set_xscale), (first, axes.set_yscale)):
        if name in _COUNTS and all(metric_value(t, name) > 0 for t in rated):
            set_scale("log")


def _several(study: StudyLike) -> list[str]:
    names = list(study.metric_names)
    if len(names) < 2:
        raise ValueError(
            f"metric_names={names}: a front needs several objectives. Use plot_optimization_history."
        )
    return names


def _two(study: StudyLike, metrics: Sequence[str] | None) -> tuple[str, str]:
    names = _several(study)
    chosen = names[:2] if metrics is None else list(metrics)
    if len(chosen) != 2 or len(set(chosen)) != 2 or not set(chosen) <= set(names):
        raise ValueError(f"metrics={metrics!r}: must be two of {names}.")
    return chosen[0], chosen[1]
