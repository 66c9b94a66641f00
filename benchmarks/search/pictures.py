"""Draws regrets and ranks; knows their meaning, not how they were come by."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas._picture import Picture

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from search.outcome import Outcome
    from search.significance import Ranking

FLOOR = 1e-3
"""Mean regrets below this part of the median row's are drawn at it: the scale is logarithmic."""
_ERRORS = 2  # standard errors that bands reach to either side
_COLUMNS = 3  # of panels
_DOTS_PER_INCH = 90
_OWN = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e")
_PEERS = ("#17becf", "#8c564b", "#e377c2", "#bcbd22", "#393b79", "#e7ba52", "#637939", "#843c39", "#7b4173")
_GREY = "#7f7f7f"


class Styles:
    """The same line for a method in every picture.

    Args:
        own: bonas's methods, drawn solid.
        peers: the others, drawn dashed.
        default: drawn thick.
    """

    def __init__(self, own: Sequence[str], peers: Sequence[str], default: str) -> None:
        others = [name for name in own if name not in (default, "random")]
        colours = dict(zip([default, *others], itertools.cycle(_OWN), strict=False))
        colours |= dict(zip(peers, itertools.cycle(_PEERS), strict=False))
        colours["random"] = _GREY
        self._lines = {
            name: {
                "color": colour,
                "linestyle": "--" if name in peers else "-",
                "linewidth": 2.2 if name == default else 1.1,
                "zorder": 3 if name == default else 2,
                "label": name,
            }
            for name, colour in colours.items()
        }

    def of(self, method: str) -> dict[str, Any]:
        """The arguments of a line."""
        return self._lines[method]


def over_evaluations(
    outcomes: Mapping[str, Mapping[str, Outcome]], names: Sequence[str], styles: Styles, path: Path
) -> None:
    """A panel for each task: mean regret of the best visited, with bands of two standard errors."""
    figure, axes_of = panels(names)
    for name, axes in zip(names, axes_of, strict=True):
        for method, by_task in outcomes.items():
            if name in by_task:
                regret = by_task[name].visited
                line(
                    axes,
                    np.arange(1, regret.shape[1] + 1),
                    regret,
                    by_task[name].task.scale,
                    styles.of(method),
                )
        axes.set_title(name, fontsize=9)
        axes.set_xlim(1, None)
    finish(figure, axes_of, "evaluations", path)


def over_seconds(
    outcomes: Mapping[str, Mapping[str, Outcome]], names: Sequence[str], styles: Styles, path: Path
) -> None:
    """The same against seconds of training, in units of the median row's, where the table has them.

    A line begins once half of a method's runs have a first result, and ends when half are at their end.
    """
    names = [n for n in names if all(o[n].task.seconds is not None for o in outcomes.values() if n in o)]
    figure, axes_of = panels(names)
    for name, axes in zip(names, axes_of, strict=True):
        for method, by_task in outcomes.items():
            if name not in by_task:
                continue
            outcome = by_task[name]
            unit = float(np.median(outcome.task.seconds))
            grid = np.geomspace(1, 300, 200)
            regret = outcome.after_seconds(unit * grid)
            # A run without a result yet has the regret of the median row.
            started = np.isfinite(regret).mean(axis=0) >= 0.5
            regret = np.where(np.isfinite(regret), regret, outcome.task.scale)
            shown = started & (unit * grid <= np.median(outcome.total_seconds))
            line(axes, grid[shown], regret[:, shown], outcome.task.scale, styles.of(method))
        axes.set_title(name, fontsize=9)
        axes.set_xscale("log")
    finish(figure, axes_of, "trainings of the median row's length", path)


def ranks(
    average: Mapping[str, np.ndarray],
    at: Sequence[float],
    styles: Styles,
    path: Path,
    unit: str = "evaluations",
) -> None:
    """Average rank of each method after so many evaluations."""
    figure = Picture(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for method, values in average.items():
        axes.plot(at, values, **styles.of(method))
    axes.set_xlabel(unit)
    axes.set_ylabel("average rank (1 is best)")
    axes.invert_yaxis()
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def critical_differences(
    rankings: Mapping[int, Ranking],
    methods: Sequence[str],
    styles: Styles,
    path: Path,
    unit: str = "evaluations",
) -> None:
    """Demšar's diagram for each number of evaluations: bars join what does not differ significantly."""
    height = 0.22 * len(methods) + 1.0
    figure = Picture(figsize=(9, height * len(rankings)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(rankings), 1))
    for axes, (evaluations, ranking) in zip(panels, rankings.items(), strict=True):
        _diagram(axes, ranking, methods, styles)
        axes.set_title(f"after {evaluations} {unit}", fontsize=10, loc="left")
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _diagram(axes: Axes, ranking: Ranking, methods: Sequence[str], styles: Styles) -> None:
    order = np.argsort(ranking.average)
    average, distance = ranking.average[order], ranking.critical_difference
    rows = np.arange(len(order), dtype=float)
    for y, i in zip(rows, order, strict=True):
        colour = styles.of(methods[i])["color"]
        axes.plot(ranking.average[i], y, "o", color=colour)
        axes.annotate(
            f"{methods[i]}  {ranking.average[i]:.2f}",
            (ranking.average[i], y),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    reach = -1
    for first in range(len(order)):
        last = int(np.flatnonzero(average <= average[first] + distance)[-1])
        if last > max(first, reach):  # groups within a longer one say nothing more
            reach = last
            x = average[first] - 0.12
            axes.plot([x, x], [rows[first], rows[last]], color="black", linewidth=2.5, solid_capstyle="butt")
    axes.plot([1, 1 + distance], [-1, -1], color="black", linewidth=2.5)
    axes.annotate(
        f"critical difference {distance:.2f}",
        (1 + distance, -1),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )
    axes.set_xlim(0.7, len(order) + 0.3)
    axes.set_ylim(len(order) - 0.5, -1.7)
    axes.set_yticks([])
    axes.set_xlabel("average rank")
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)


def panels(names: Sequence[str]) -> tuple[Picture, list[Axes]]:
    """A picture with a panel for each name."""
    rows = -(-len(names) // _COLUMNS)
    figure = Picture(figsize=(4.2 * _COLUMNS, 2.8 * rows + 0.8), layout="constrained")
    return figure, [figure.add_subplot(rows, _COLUMNS, i + 1) for i in range(len(names))]


def line(axes: Axes, x: np.ndarray, regret: np.ndarray, scale: float, style: Mapping[str, Any]) -> None:
    """The mean of regrets, shape (runs, len(x)), with a band of two standard errors."""
    mean = regret.mean(axis=0)
    error = _ERRORS * regret.std(axis=0, ddof=1) / np.sqrt(len(regret)) if len(regret) > 1 else 0 * mean
    floor = FLOOR * scale
    axes.plot(x, np.maximum(mean, floor), **style)
    low, high = np.maximum(mean - error, floor), np.maximum(mean + error, floor)
    axes.fill_between(x, low, high, color=style["color"], alpha=0.05 * style["linewidth"], linewidth=0)


def finish(figure: Picture, axes_of: Sequence[Axes], label: str, path: Path) -> None:
    """Scales, labels, the legend below, and the file."""
    for axes in axes_of:
        axes.set_yscale("log")
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)
    for axes in axes_of[-_COLUMNS:]:
        axes.set_xlabel(label, fontsize=9)
    figure.supylabel("regret", fontsize=10)
    lines = {line.get_label(): line for axes in axes_of for line in axes.get_lines()}
    figure.legend(
        handles=list(lines.values()), loc="outside lower center", ncols=6, fontsize=9, frameon=False
    )
    figure.savefig(path, dpi=_DOTS_PER_INCH)
