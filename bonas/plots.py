"""Pictures of a study: its history against cost and its learning curves; reads records, trains nothing.

Every function returns a ``matplotlib.figure.Figure`` made without pyplot: no global state or backend is
touched, and a figure shows itself in a notebook or is written by ``figure.savefig(path)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bonas._chart import BEST, DEFAULT, FULL, PARTIAL, canvas, chart, legend, nothing
from bonas.fidelity_plot import plot_fidelities
from bonas.leaderboard import cost_unit, last_observation, metric_value, ranking
from bonas.pareto_plot import plot_hypervolume, plot_pareto_front
from bonas.schedule_plot import plot_schedule, segments
from fidelity.records import TrialState

if TYPE_CHECKING:
    from bonas.leaderboard import StudyLike

__all__ = [
    "plot_fidelities",
    "plot_hypervolume",
    "plot_learning_curves",
    "plot_optimization_history",
    "plot_pareto_front",
    "plot_schedule",
    "plot_study",
]

_ORDER = ("best", "full", "part", "paus", "hand")  # of the legend: the beginnings of its labels


def plot_study(study: Any, metric: str | None = None) -> Any:
    """History and learning curves side by side (see the two functions), as one ``Figure``.

    Raises:
        ValueError: if the study has no such metric.
    """
    figure = canvas(14.4)
    left, right = figure.subfigures(1, 2)
    _draw_history(left, study, metric)
    _draw_curves(right, study, metric)
    return figure


def _metric(study: StudyLike, metric: str | None) -> tuple[str, str]:
    """The metric to draw and its direction."""
    names = list(study.metric_names)
    if metric is None:
        metric = names[0]
    if metric not in names:
        raise ValueError(f"metric={metric!r}: this study has {names}.")
    return metric, list(study.directions)[names.index(metric)]


def _value_axis(
    axes: Any, values: Sequence[float], ends: Sequence[float], metric: str, maximize: bool
) -> None:
    """Scale and limits of the y axis that show the differences among the good values."""
    if maximize and "accuracy" in metric and values and min(values) >= 0 and max(values) <= 1:
        error_scale(axes, values, metric)
        return
    axes.set_ylabel("value" if metric == "value" else f"validation {metric}")
    if not values:
        return
    sign = 1.0 if maximize else -1.0
    ordered = sorted(sign * v for v in ends) or sorted(sign * v for v in values)
    top = max(sign * v for v in values)
    # A tail of early or diverged values may leave the picture rather than squeeze the rest.
    bottom = ordered[len(ordered) // 4]
    span = (top - bottom) or abs(top) * 0.1 or 1.0
    low = max(bottom - 0.6 * span, min(sign * v for v in values) - 0.12 * span)
    axes.set_ylim(*sorted((sign * low, sign * (top + 0.12 * span))))


def error_scale(axes: Any, values: Sequence[float], metric: str) -> None:
    """Accuracies by the logarithm of their error: from 98 to 99 % is as far as from 80 to 90 %."""
    import numpy as np
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    # No error at all stands a little above the smallest one seen, where a logarithm has no place for it.
    floor = min((1 - v for v in values if v < 1), default=0.01) / 2
    axes.set_yscale(
        "function",
        functions=(
            lambda y: -np.log10(np.maximum(1 - np.asarray(y, dtype=float), 0) + floor),
            lambda z: 1 + floor - 10.0 ** -np.asarray(z, dtype=float),
        ),
    )
    worst = 1 - min(values)
    marks = [0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999]
    shown = [m for m in marks if floor <= 1 - m <= worst * 1.6 + 1e-12] + [1.0] * (max(values) == 1)
    axes.yaxis.set_major_locator(FixedLocator(shown))
    axes.yaxis.set_major_formatter(FixedFormatter([f"{100 * m:g} %" for m in shown]))
    axes.yaxis.set_minor_locator(NullLocator())
    smallest = 1 - max(values)
    axes.set_ylim(1 - (worst + floor) * 1.25 + floor, 1 - max(0.0, (smallest + floor) * 0.8 - floor))
    axes.set_ylabel(f"validation {metric}, log scale of the error")


def plot_optimization_history(study: Any, metric: str | None = None) -> Any:
    """What was reached for which cost.

    Args:
        study: a :class:`bonas.Study`.
        metric: one of its metric names; the first if None.

    Returns:
        A ``matplotlib.figure.Figure``: cumulative cost (full evaluations, unless the study counts
        otherwise) on the x axis; on the y axis the value at the end of every segment, dark at full
        fidelity and pale below it, the best full evaluation so far as a line. Trial 0, the hand-written
        default, is black, and a dashed line once it was fully evaluated: the level to beat.

    Raises:
        ValueError: if the study has no such metric.
    """
    figure = canvas()
    _draw_history(figure, study, metric)
    return figure


def _draw_history(figure: Any, study: Any, metric: str | None) -> None:
    metric, direction = _metric(study, metric)
    sign = 1.0 if direction == "maximize" else -1.0
    points = history(study, metric)
    axes = chart(
        figure,
        "Optimization history",
        f"{len(study.trials)} trials, spent {study.spent:.3g} {cost_unit(study.axes)}",
        f"cost so far ({cost_unit(study.axes)})",
    )
    partial = [(x, y) for x, y, full, _ in points if not full]
    full = [(x, y) for x, y, full, _ in points if full]
    if partial:
        axes.scatter(
            *zip(*partial, strict=True), s=14, color=PARTIAL, zorder=2, label="partly trained", linewidths=0
        )
    if full:
        axes.scatter(
            *zip(*full, strict=True), s=30, color=FULL, zorder=4, label="full fidelity", linewidths=0
        )
        best: list[float] = []
        for _, y in full:
            best.append(y if not best or sign * y > sign * best[-1] else best[-1])
        x = [c for c, _ in full]
        axes.step(
            [*x, max(study.spent, x[-1])],
            [*best, best[-1]],
            where="post",
            color=BEST,
            linewidth=2,
            zorder=3,
            label="best at full fidelity",
        )
    default = [(x, y) for x, y, _, number in points if number == 0]
    if default:
        axes.scatter(
            *zip(*default, strict=True),
            s=30,
            color=DEFAULT,
            zorder=5,
            label="hand-written default (trial 0)",
        )
    if default and default[-1] in full:
        # Below full fidelity its value is no level that a full evaluation could be held against.
        axes.axhline(default[-1][1], color=DEFAULT, linestyle="--", linewidth=1.2, zorder=1)
    values = [y for _, y, _, _ in points]
    _value_axis(axes, values, values, metric, direction == "maximize")
    axes.set_xlim(0, max(study.spent * 1.02, 1e-9))
    legend(figure, axes, _ORDER)
    if not points:
        nothing(axes, "nothing observed yet")


def history(study: Any, metric: str) -> list[tuple[float, float, bool, int]]:
    """(cost so far, value, whether full, trial) at the end of every segment, in order of decisions."""
    top = study.axes.full
    return [
        (s.cost, s.last.values[metric], s.fidelity == top and s.last.epoch == top.epochs, s.trial.number)
        for s in segments(study)
        if metric in s.last.values
    ]


def plot_learning_curves(study: StudyLike, metric: str | None = None) -> Any:
    """The learning curve of every trial, the best one and trial 0 in front.

    Args:
        study: the study to draw.
        metric: one of its metric names; the first if None.

    Returns:
        A ``matplotlib.figure.Figure`` with epochs on the x axis and the metric on the y axis. Trials at
        full fidelity are drawn dark, those paused or stopped below it pale.

    Raises:
        ValueError: if the study has no such metric.
    """
    figure = canvas()
    _draw_curves(figure, study, metric)
    return figure


def _draw_curves(figure: Any, study: StudyLike, metric: str | None) -> None:
    metric, direction = _metric(study, metric)
    rated = [t for t in study.trials if last_observation(t) is not None]
    n_full = sum(t.state == TrialState.COMPLETE for t in rated)
    axes = chart(
        figure,
        "Learning curves",
        f"{len(rated)} trial{'s' * (len(rated) != 1)}, {n_full} of them at full fidelity",
        "epochs trained",
    )
    best = next((t for t in ranking(study)), None)
    everything: list[float] = []
    for trial in rated:
        role = (
            "best"
            if best is not None and trial.number == best.number
            else "default"
            if trial.number == 0
            else ""
        )
        full = trial.state == TrialState.COMPLETE
        colour = {"best": BEST, "default": DEFAULT}.get(role, FULL if full else PARTIAL)
        curves = [c for c in trial.curves if c.observations]
        for i, curve in enumerate(curves):
            points = [(o.epoch, o.values[metric]) for o in curve.observations if metric in o.values]
            if not points:
                continue
            everything += [v for _, v in points]
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                linewidth=2.2 if role == "best" else 1.4 if role or full else 0.9,
                linestyle="--" if role == "default" else "-",
                marker="o" if len(points) == 1 else None,
                markersize=3,
                alpha=1.0 if role else 0.75,
                zorder=5 if role == "best" else 4 if role else 3 if full else 2,
                label=_label(role, full, trial) if i == len(curves) - 1 else None,
            )
    _value_axis(axes, everything, [metric_value(t, metric) for t in rated], metric, direction == "maximize")
    _epoch_ticks(axes, rated)
    legend(figure, axes, _ORDER)
    if not rated:
        nothing(axes, "nothing observed yet")


def _label(role: str, full: bool, trial: Any) -> str:
    if role == "best":
        return f"best (trial {trial.number})"
    if role == "default":
        return "hand-written default (trial 0)"
    return "full fidelity" if full else "paused or stopped earlier"


def _epoch_ticks(axes: Any, trials: Sequence[Any]) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

    observed = [o for t in trials for c in t.curves for o in c.observations]
    last = max((o.epoch for o in observed), default=1)
    rungs = sorted({o.fidelity.epochs for o in observed})
    if last >= 9 and 1 < len(rungs) <= 8:
        # Rungs grow geometrically: on a logarithmic axis each has the same room, and its name below it.
        axes.set_xscale("log")
        axes.set_xlim(0.9, last * 1.06)
        axes.xaxis.set_major_locator(FixedLocator(rungs))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(ScalarFormatter())
    else:
        axes.set_xlim(0 if last > 1 else 0.5, last + max(0.5, 0.02 * last))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
