"""A picture of what a scheduler did: who was trained how far, when, and who was resumed; knows no metrics.

The figure is made as those of :mod:`bonas.plots` are, from where users take this function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bonas._chart import BEST, FULL, PARTIAL, canvas, chart, legend, nothing
from bonas.leaderboard import cost_unit, describe_fidelity, ranking
from fidelity.records import TrialState

if TYPE_CHECKING:
    from bonas.frozen import FrozenTrial
    from fidelity.records import Fidelity, Observation

__all__ = ["plot_schedule"]

_ORDER = ("best", "full", "resumed", "not", "stopped")  # of the legend: the beginnings of its labels
_MOST_RUNGS = 12  # that are named beside the axis


@dataclass(frozen=True, slots=True)
class Segment:
    """One trial trained at one fidelity."""

    trial: FrozenTrial
    fidelity: Fidelity
    last: Observation
    """What it reported last."""
    cost: float
    """Of everything up to its end, in the study's unit."""


def segments(study: Any) -> list[Segment]:
    """Every segment that reported something, in the order they were decided; added trials come first."""
    found = []
    for trial in study.trials:
        order = [d for d in study.decisions(trial.number) if d["action"] in ("start", "resume")]
        asked = {d["fidelity"]: d["ask"] for d in reversed(order)}
        for curve in trial.curves:
            for at in dict.fromkeys(o.fidelity for o in curve.observations):
                made = [o for o in curve.observations if o.fidelity == at]
                # What was added from elsewhere was never decided here; it was there before everything else,
                # and cost this study nothing.
                ask = asked.get(at, -1)
                here = sum(o.cost for o in made) if ask >= 0 else 0.0
                found.append(((ask, trial.number), here, at, made[-1], trial))
    ended, cost = [], 0.0
    for _, spent, at, last, trial in sorted(found, key=lambda s: s[0]):
        cost += spent
        ended.append(Segment(trial, at, last, cost))
    return ended


def plot_schedule(study: Any) -> Any:
    """Who was trained how far, and when.

    Args:
        study: a :class:`bonas.Study`.

    Returns:
        A ``matplotlib.figure.Figure``: cost of the whole study so far on the x axis, the cost of training
        one network from scratch that far on the y axis, logarithmic, with the rungs' names. A dot is the end
        of a segment; a line leads to it from where the same trial was paused before. Trials that reached full
        fidelity are dark, the best one orange, those stopped for good have a cross.
    """
    figure = canvas()
    ended = segments(study)
    trials = {s.trial.number: s.trial for s in ended}
    resumed = len(ended) - len(trials)
    axes = chart(
        figure,
        "Schedule",
        f"{len(trials)} trial{'s' * (len(trials) != 1)}, resumed {resumed} time{'s' * (resumed != 1)}",
        f"cost so far ({cost_unit(study.axes)})",
    )
    best = next((t.number for t in ranking(study)), None)
    reached: dict[float, str] = {}
    for number, trial in trials.items():
        own = [s for s in ended if s.trial.number == number]
        height = [study.axes.nominal_cost(s.fidelity) for s in own]
        reached |= {h: describe_fidelity(study.axes, s.fidelity) for h, s in zip(height, own, strict=True)}
        label, colour, order = _look(trial, trial.number == best, len(own))
        axes.plot(
            [s.cost for s in own],
            height,
            color=colour,
            linewidth=1.8 if order > 3 else 0.9,
            marker="o",
            markersize=4.5 if order > 3 else 3,
            alpha=1.0 if order > 2 else 0.8,
            zorder=order,
            label=label,
        )
        if trial.state == TrialState.PRUNED:
            axes.plot(
                own[-1].cost,
                height[-1],
                linestyle="none",
                marker="x",
                markersize=5,
                color="#9c4668",
                zorder=5,
                label="stopped for good",
            )
    if reached:
        from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

        axes.set_yscale("log")
        named = sorted(reached)[-_MOST_RUNGS:]
        axes.yaxis.set_major_locator(FixedLocator(named))
        axes.yaxis.set_major_formatter(FixedFormatter([reached[h].replace(", ", "\n") for h in named]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(min(reached) / 1.5, max(reached) * 1.5)
        axes.set_xlim(0, ended[-1].cost * 1.02)
    else:
        nothing(axes, "nothing observed yet")
    legend(figure, axes, _ORDER)
    return figure


def _look(trial: FrozenTrial, best: bool, segments: int) -> tuple[str, str, int]:
    """A trial's label, colour and place from behind."""
    if best:
        return f"best (trial {trial.number})", BEST, 6
    if trial.state == TrialState.COMPLETE:
        return "full fidelity", FULL, 4
    if segments > 1:
        return "resumed, not to full fidelity", "#7b8794", 3
    return "not resumed", PARTIAL, 2
