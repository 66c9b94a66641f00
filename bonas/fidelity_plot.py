"""A picture of a study's rungs: what each costs against how it ranks; reads a report, computes nothing.

The figure is made as those of :mod:`bonas.plots` are, from where users take this function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bonas._chart import BEST, DEFAULT, FULL, PARTIAL, canvas, chart, legend, nothing
from bonas.fidelity_report import FidelityReport, RungReport, fidelity_report

if TYPE_CHECKING:
    from bonas.study import Study
    from fidelity.proxies import RankCorrelation

__all__ = ["plot_fidelities"]

# Legend, colour, and how far beside the rung's cost it stands, so that intervals do not hide each other.
_SERIES = (
    ("next rung", PARTIAL, 0.93),
    ("full fidelity", FULL, 1.0),
    ("full fidelity, among the best", BEST, 1.07),
    ("parameter count, for full fidelity", DEFAULT, 1.15),
)


def plot_fidelities(study: Study | FidelityReport, metric: str | None = None) -> Any:
    """What each rung costs, and how it ranks trials for the rungs above it.

    Args:
        study: a study, or its :meth:`bonas.Study.fidelity_report`.
        metric: one of the study's metric names; the first that has to be trained if None.

    Returns:
        A ``matplotlib.figure.Figure``: cost of an evaluation relative to a full one on a logarithmic x axis,
        measured where it was measured, else nominal; Kendall's tau with 90 % intervals on the y axis.
        A rung is worth having where its marks are above those of the parameter count.

    Raises:
        ValueError: if the study has no such metric.
    """
    report = study if isinstance(study, FidelityReport) else fidelity_report(study, metric)
    figure = canvas()
    lower = report.rungs[:-1]
    measured = bool(lower) and all(rung.measured > 0 for rung in lower)
    axes = chart(
        figure,
        "Can the cheap evaluations be trusted?",
        f"{report.metric}, {', '.join(f'{r.trials}' for r in report.rungs)} trials on "
        f"{len(report.rungs)} rungs; 90 % intervals",
        f"cost of an evaluation, relative to a full one ({'measured' if measured else 'nominal'}, log scale)",
    )
    axes.set_ylabel("Kendall's tau")
    axes.set_ylim(-1.05, 1.05)
    axes.axhline(0, color=PARTIAL, linewidth=1, zorder=1)
    axes.set_xscale("log")
    drawn = False
    ticks = []
    for name, rung in zip(report.names, lower, strict=False):
        cost = rung.measured if measured else rung.nominal
        ticks.append((cost, name))
        for (label, colour, beside), found in zip(_SERIES, _found(rung), strict=True):
            if not found:
                continue
            drawn = True
            axes.errorbar(
                [cost * beside],
                [found.tau],
                yerr=[[found.tau - found.low], [found.high - found.tau]],
                fmt="D" if colour == DEFAULT else "o",
                markersize=5,
                color=colour,
                linewidth=1.4,
                capsize=2.5,
                label=label,
            )
    if ticks:
        from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

        axes.xaxis.set_major_locator(FixedLocator([cost for cost, _ in ticks]))
        axes.xaxis.set_major_formatter(FixedFormatter([f"{cost:.2g}\n{name}" for cost, name in ticks]))
        axes.xaxis.set_minor_locator(NullLocator())
        costs = [cost for cost, _ in ticks]
        axes.set_xlim(min(costs) / 1.6, max(costs) * 1.6)
    legend(figure, axes, [label for label, _, _ in _SERIES])
    if not drawn:
        nothing(axes, "no two rungs have been seen by the same trials yet")
    return figure


def _found(rung: RungReport) -> tuple[RankCorrelation, ...]:
    """The correlations of a rung below full fidelity, in the order of the series."""
    assert rung.next is not None
    assert rung.full is not None
    return rung.next.all, rung.full.all, rung.full.best, rung.full.parameters
