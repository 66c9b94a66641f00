"""Whether the cheap evaluations of a study can be trusted: what each rung costs and how it ranks.

Knows records, costs and correlations; runs and trains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas.errors import MissingFunctionError
from bonas.leaderboard import describe_fidelity
from fidelity._text import TextTable
from fidelity.costs import CostModel
from fidelity.proxies import ENOUGH, LEAST_TOP, Comparison, RankCorrelation, rank_correlation, top
from fidelity.records import Fidelity, StudyView, TrialRecord
from fidelity.rungs import compared, losses, reported_parameters, seen_on_both, trained_metric

if TYPE_CHECKING:
    import pandas as pd

    from bonas.study import Study

    Losses = dict[int, float]

_HEADINGS = ("rung", "cost", "measured", "ranks for", "n", "all", "the best", "by parameters")


@dataclass(frozen=True, slots=True)
class Ranking:
    """How the trials seen on two rungs are ranked by the lower one, for the higher one."""

    target: Fidelity
    """The higher rung."""
    all: RankCorrelation
    """Over all trials seen on both."""
    best: RankCorrelation
    """Over the tenth of them that is best on the higher rung, or the best five if those are more."""
    parameters: RankCorrelation
    """What the number of parameters alone would rank, over all of them; undefined where it is not known."""
    parameters_best: RankCorrelation
    """The same over the best."""


@dataclass(frozen=True, slots=True)
class RungReport:
    """One rung of a study."""

    fidelity: Fidelity
    nominal: float
    """Cost of training from scratch up to it, relative to a full evaluation."""
    measured: float
    """The same in measured seconds of one network; NaN if no trial was timed on it, or none in full."""
    seconds: float
    """What that takes for a typical network; NaN if nothing was timed."""
    trials: int
    """Trials that were seen on it."""
    next: Ranking | None
    """For the next rung; None on the highest."""
    full: Ranking | None
    """For full fidelity; None on the highest."""
    comparison: Comparison | None
    """Beside the number of parameters, for the next rung, corrected for selection; None on the highest."""
    warning: str = ""
    """What is wrong with it, in a sentence."""

    @property
    def misleading(self) -> bool:
        """Whether there is evidence that it ranks no better than the number of parameters."""
        return self.comparison is not None and self.comparison.worse


@dataclass(frozen=True, slots=True)
class FidelityReport:
    """What :meth:`bonas.Study.fidelity_report` returns: one row for each rung, cheapest first.

    Prints itself as a table. All correlations are Kendall's tau-b with 90 % intervals.
    """

    study_name: str
    metric: str
    rungs: tuple[RungReport, ...]
    names: tuple[str, ...]
    """The rungs in words."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the rungs, if anything."""
        return tuple(rung.warning for rung in self.rungs if rung.misleading)

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """The table as an HTML fragment."""
        return self._table().html()

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each rung; intervals as columns ``_low`` and ``_high``."""
        import pandas as pd

        return pd.DataFrame(
            [self._record(name, rung) for name, rung in zip(self.names, self.rungs, strict=True)]
        )

    @staticmethod
    def _record(name: str, rung: RungReport) -> dict[str, Any]:
        row: dict[str, Any] = {"rung": name, "nominal": rung.nominal, "measured": rung.measured}
        row |= {"seconds": rung.seconds, "trials": rung.trials}
        for target, ranking in (("next", rung.next), ("full", rung.full)):
            for what in ("all", "best", "parameters", "parameters_best"):
                found = (
                    getattr(ranking, what) if ranking else RankCorrelation(math.nan, math.nan, math.nan, 0)
                )
                column = f"{target}_{what}"
                row |= {f"{column}_tau": found.tau, f"{column}_low": found.low, f"{column}_high": found.high}
                row[f"{column}_n"] = found.n
        if rung.comparison is not None:
            row |= {"corrected_tau": rung.comparison.tau, "corrected_parameters": rung.comparison.size}
        return row | {"misleading": rung.misleading, "warning": rung.warning}

    def _table(self) -> TextTable:
        rows = []
        for k, (name, rung) in enumerate(zip(self.names, self.rungs, strict=True)):
            head = (name, _share(rung.nominal), _share(rung.measured))
            if rung.next is None or rung.full is None:
                rows.append((*head, "", str(rung.trials), "", "", ""))
                continue
            for ranking in dict.fromkeys((rung.next, rung.full)):
                last = ranking.target == self.rungs[-1].fidelity
                target = "full" if last else self.names[k + 1]
                n = ranking.best.n
                best = f"{ranking.best} of {n}" if ranking.best else "-"
                cells = (str(ranking.all.n), str(ranking.all), best, str(ranking.parameters))
                rows.append((*head, target, *cells))
                head = ("", "", "")
        return TextTable(
            title=f"Fidelity report of {self.study_name}: {self.metric}",
            headings=_HEADINGS,
            rows=tuple(rows),
            notes=tuple(self._notes()),
            left=("rung", "ranks for"),
        )

    def _notes(self) -> list[str]:
        if len(self.rungs) == 1:
            return ["Every evaluation is a full one: there is no cheaper one to judge."]
        notes = [rung.warning for rung in self.rungs if rung.warning]
        notes.append(
            "Kendall's tau with 90 % intervals over the n trials seen on both rungs; the best: the tenth of "
            f"them that is best on the higher rung, {LEAST_TOP} at least; by parameters: what the parameter "
            "count alone would rank."
        )
        if any(r.comparison is not None and 0 < r.comparison.n < r.trials for r in self.rungs):
            notes.append(
                "Trials are seen on a higher rung because they were good on the lower one, which makes tau "
                "smaller than it is over all trials; the warnings are corrected for that."
            )
        return notes


def fidelity_report(study: Study, metric: str | None = None) -> FidelityReport:
    """See :meth:`bonas.Study.fidelity_report`."""
    view = study.view()
    names = list(view.metric_names)
    if metric is not None and metric not in names:
        raise ValueError(f"metric={metric!r}: this study has {names}.")
    position = trained_metric(view) if metric is None else names.index(metric)
    rungs = ladder(study, view)
    at = [losses(view.trials, rung, view, position) for rung in rungs]
    sizes = {t.number: parameters(study, t) for t in view.trials if any(t.number in seen for seen in at)}
    model = CostModel.of(view.trials, view.axes, lambda record: macs(study, record.params))
    described = tuple(describe_fidelity(view.axes, rung) for rung in rungs)
    rows = []
    for k, rung in enumerate(rungs):
        timed = min(model.measured(rung), model.measured(rungs[-1])) > 0
        following = comparison = full = None
        warning = ""
        if k + 1 < len(rungs):
            following = _ranking(rungs[k + 1], at[k], at[k + 1], sizes)
            full = following if k + 2 == len(rungs) else _ranking(rungs[-1], at[k], at[-1], sizes)
            comparison = compared(seen_on_both(at[k], at[k + 1]), sizes)
            dropped = getattr(_scheduler(study), "drop_rungs", False) and position == trained_metric(view)
            warning = _warning(described[k], described[k + 1], comparison, dropped)
        rows.append(
            RungReport(
                fidelity=rung,
                nominal=view.axes.nominal_cost(rung),
                measured=model.ratio(rung) if timed else math.nan,
                seconds=model.seconds(rung),
                trials=len(at[k]),
                next=following,
                full=full,
                comparison=comparison,
                warning=warning,
            )
        )
    return FidelityReport(study.study_name, names[position], tuple(rows), described)


def ladder(study: Study, view: StudyView) -> list[Fidelity]:
    """The rungs of a study, cheapest first: its scheduler's, or where its trials were trained to.

    The last is full fidelity.
    """
    full = view.axes.full
    known = getattr(_scheduler(study), "rungs", None)
    if known is not None:
        found: Sequence[Fidelity] = known(view.axes)
    else:
        made = (o.fidelity for t in view.trials for c in t.curves for o in c.observations)
        found = sorted(dict.fromkeys(made), key=view.axes.nominal_cost)
    return [*(rung for rung in found if rung != full), full]


def _scheduler(study: Study) -> Any:
    """The study's scheduler, None where it was the user's own and has not been passed again."""
    try:
        return study.scheduler
    except MissingFunctionError:
        return None


def parameters(study: Study, record: TrialRecord) -> float:
    """The number of parameters of a trial's network, counted or reported; NaN where neither is known."""
    try:
        return float(study.space.count(dict(record.params)).parameters)
    except Exception:
        # A space of the user's own need not be able to count this; a stored one may have lost its functions.
        return reported_parameters(record)


def macs(study: Study, params: Mapping[str, Any]) -> float:
    """The MACs of a configuration's network at full width and depth; NaN where the space cannot count."""
    try:
        return float(study.space.count(dict(params)).macs)
    except Exception:
        return math.nan


def _ranking(target: Fidelity, low: Losses, high: Losses, sizes: Losses) -> Ranking:
    seen = seen_on_both(low, high)
    size = np.array([-sizes[n] for n in seen.numbers], dtype=np.float64)
    best = top(seen.high)
    rng = np.random.default_rng(0)  # the same records, the same report

    def ranked(x: Any, of: Any) -> RankCorrelation:
        if np.isnan(x[of]).any():
            return RankCorrelation(math.nan, math.nan, math.nan, len(seen.high[of]))
        return rank_correlation(x[of], seen.high[of], rng)

    everything = slice(None)
    return Ranking(
        target,
        all=ranked(seen.low, everything),
        best=ranked(seen.low, best),
        parameters=ranked(size, everything),
        parameters_best=ranked(size, best),
    )


def _warning(name: str, above: str, comparison: Comparison, dropped: bool) -> str:
    """What is to be said about a rung; empty if it does its work."""
    if comparison.n < ENOUGH:
        seen = "1 trial was" if comparison.n == 1 else f"{comparison.n} trials were"
        return f"{name}: {seen} seen on the next rung; {ENOUGH} are needed to judge it."
    beside = f"tau {comparison.tau:.2f} against {comparison.size:.2f}, n={comparison.n}"
    interval = f"difference {comparison.low:+.2f} to {comparison.high:+.2f}"
    if comparison.worse:
        done = (
            "New brackets leave it out"
            if dropped
            else "Leave it out: SuccessiveHalving(n_rungs=...) uses the highest rungs only"
        )
        return (
            f"WARNING: {name} ranks no better for {above} than the number of parameters does "
            f"({beside}, {interval}). {done}."
        )
    if comparison.doubtful:
        return (
            f"{name}: does not rank better for {above} than the number of parameters as far as can be seen "
            f"({beside}, {interval}); more trials will tell."
        )
    return ""


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
