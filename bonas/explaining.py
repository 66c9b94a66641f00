"""Why a trial was started, promoted, paused or stopped, in words; decides, trains and writes nothing.

The figures stored with each decision are the source; which of them are put into words is said in
:mod:`fidelity.schedulers.base`. What a model believed is computed again from what was observed by then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from scipy.special import ndtr

from bonas.asking import DEFAULT, PROPOSED_BY, QUEUE
from bonas.errors import MissingFunctionError
from bonas.leaderboard import describe_fidelity
from fidelity.outlook import ends
from fidelity.ranges import possible
from fidelity.records import Fidelity, StudyView, TrialRecord, TrialState
from fidelity.rungs import trained_metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bonas.study import Study
    from fidelity.extrapolation import Distribution

    Floats = NDArray[np.float64]

_90 = 1.645  # standard deviations to either side that hold 90 % of a normal distribution
# Figures that have words of their own; others are listed by name.
_TOLD = {"why", "reason", "rung", "of", "rank", "among", "waiting", "quota", "end", PROPOSED_BY}
_TOLD |= {"bracket", "size", "lowest", "dropped", "shares", "hedge"}
# Of fewer trials a model has nothing to say: as many are drawn at random at first.
_LEAST = 5
# A model is fitted anew for so many more ended segments, as a part of those there were: trials that were
# proposed at about the same time share one.
_GROWTH = 0.08


@dataclass(frozen=True, slots=True)
class Explanation:
    """What :meth:`bonas.Study.explain` returns: prints itself as a sentence for each decision."""

    trial: int
    heading: str
    """Which trial it is and where it stands."""
    sentences: tuple[str, ...]
    """One for each decision, oldest first, and then what came of it."""
    decisions: tuple[Mapping[str, Any], ...]
    """The decisions as they are stored, with all their figures."""

    def __repr__(self) -> str:
        return "\n".join([self.heading, *(f"  {sentence}" for sentence in self.sentences)])

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences)
        return (
            "<div style='font-family:system-ui,sans-serif;font-size:13px;line-height:1.5'>"
            f"<strong>{escape(self.heading)}</strong><ol style='margin:4px 0'>{lines}</ol></div>"
        )


@dataclass(slots=True)
class Remembered:
    """What was computed for one study's explanations, for the next ones; changes nothing but the time."""

    beliefs: dict[int, tuple[int, Floats, Floats]] = field(default_factory=dict)
    """By watermark: how many values a model had seen by then, and the mean and the standard deviation it
    gave each trial, in order of their numbers."""
    ends: dict[int, tuple[dict[int, int], Distribution]] = field(default_factory=dict)
    """Where curves end, as of the newest watermark alone."""


def explain(study: Study, number: int, remembered: Remembered) -> Explanation:
    """See :meth:`bonas.Study.explain`."""
    view = study.view()
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(view.trials):
        there = f"trials 0 to {len(view.trials) - 1}" if view.trials else "no trials yet"
        raise ValueError(f"explain({number!r}): this study has {there}. Name one by its number.")
    record = view.trials[number]
    decisions = study.decisions(number)
    words = _Words(study, view, _rungs(study, view), remembered)
    sentences = [words.of(decision, record) for decision in decisions]
    if not decisions:
        sentences.append("It was added from elsewhere: nothing was decided about it here.")
    elif not any(decision["action"] == "start" for decision in decisions):
        sentences.insert(0, "It was added from elsewhere.")
    stopped = any(decision["action"] == "stop" for decision in decisions)
    return Explanation(
        trial=number,
        heading=words.heading(record),
        sentences=(*sentences, *([] if stopped else words.standing(record))),
        decisions=tuple(decisions),
    )


@dataclass(frozen=True, slots=True)
class _Words:
    """Decisions and records of one study in words."""

    study: Study
    view: StudyView
    rungs: Sequence[Fidelity]
    """Of the scheduler, cheapest first; empty where it has none."""
    remembered: Remembered

    def heading(self, record: TrialRecord) -> str:
        values = self._values(record.values)
        at = "" if record.last is None else f" at {self._at(record.last.fidelity, record.last.epoch)}"
        return f"Trial {record.number}, {record.state.value}{f': {values}{at}' if values else ''}"

    def of(self, decision: Mapping[str, Any], record: TrialRecord) -> str:
        """A decision as a sentence, with a second one on what was believed where that is known."""
        figures: Mapping[str, Any] = decision["figures"]
        match decision["action"]:
            case "start":
                told = [self._started(decision["fidelity"], figures)]
                told += [self._dropped(rung) for rung in figures.get("dropped", ())]
                told += [self._skipped(rung) for rung in figures.get("hedge", ())]
                told.append(self._proposed(decision, record))
            case "resume":
                told = [f"Resumed to {self._rung(decision['fidelity'], figures)}{self._because(figures)}."]
            case _:
                reason = figures.get("reason", "the scheduler said so")
                told = [f"Stopped for good at {self._rung(decision['fidelity'], {})}: {reason}."]
                if "end" not in figures:
                    told.append(self._by_curve(self.study.view_until(decision["watermark"]), record, "was"))
        return " ".join(filter(None, [*told, self._end(figures)]))

    def standing(self, record: TrialRecord) -> list[str]:
        """Where the trial stands now, as a sentence; empty where a decision has said it."""
        at = self._rung(record.fidelity, {})
        match record.state:
            case TrialState.RUNNING:
                return [f"It is being trained to {at}."]
            case TrialState.PAUSED if record.unfinished:
                return [f"It was interrupted on its way to {at}, which goes on before anything new begins."]
            case TrialState.PAUSED | TrialState.COMPLETE if record.values:
                if record.state == TrialState.COMPLETE:
                    return [f"Evaluated in full: {self._place(record)}."]
                by_curve = self._by_curve(self.view, record, "is")
                return [f"Paused at {at}: {self._place(record)}. {by_curve}".rstrip()]
            case TrialState.PRUNED:
                said = f"It was stopped for good at {at}: {record.reason or 'its objective said so'}."
                return [f"{said} {self._by_curve(self.view, record, 'is')}".rstrip()]
            case TrialState.FAIL:
                return [f"It failed: {record.reason}."]
            case TrialState.INFEASIBLE:
                return [f"It was {'never trained' if not record.attempt else 'given up'}: {record.reason}."]
        return []

    def _started(self, at: Fidelity, figures: Mapping[str, Any]) -> str:
        words = f"Started at {self._rung(at, figures)}"
        if "bracket" in figures:
            words += f", one of {figures['size']} in bracket {figures['bracket'] + 1}"
            words += ", which begins at that rung" if figures.get("lowest") else ""
        return words + self._because(figures) + "."

    def _because(self, figures: Mapping[str, Any]) -> str:
        """What speaks for it, from the figures that have words; the others by their names."""
        words = ""
        if "rank" in figures and "among" in figures:
            words = f": {_ordinal(figures['rank'])} of {figures['among']}"
        elif figures.get("waiting") == 1:
            words = ": the one that waited on the rung below"
        elif "waiting" in figures:
            words = f": the best of the {figures['waiting']} that waited on the rung below"
        if "quota" in figures:
            words += f"{';' if words else ':'} {figures['quota']} may go on in all"
        if "why" in figures:
            return f"{words}, because {figures['why']}"
        others = {name: value for name, value in figures.items() if name not in _TOLD}
        listed = ", ".join(f"{name} {_shown(value)}" for name, value in others.items())
        return f"{words} ({listed})" if listed else words

    def _dropped(self, rung: Mapping[str, Any]) -> str:
        return (
            f"Rung {rung['rung'] + 1} is left out because {rung['why']}: Kendall's tau {rung['tau']:.2f} "
            f"against {rung['tau_of_parameters']:.2f}, {rung['n']} trials."
        )

    def _skipped(self, rung: Mapping[str, Any]) -> str:
        return (
            f"It skips rung {rung['rung'] + 1}, as {100 * rung['share']:.0f} % of new trials do, because its "
            f"values correlate with later ones by {rung['correlation']:.2g} ({rung['n']:.3g} trials)."
        )

    def _proposed(self, decision: Mapping[str, Any], record: TrialRecord) -> str:
        source = decision["figures"].get(PROPOSED_BY)
        if source == QUEUE:
            return "Its configuration was put in line by hand."
        if source == DEFAULT:
            return "Its configuration is the space's default configuration."
        if source is None:
            return ""
        believed = self._believed(record, decision["watermark"])
        return f"Its configuration was proposed by {source}{believed}."

    def _believed(self, record: TrialRecord, watermark: int) -> str:
        """What the sampler's model made of a configuration, given what was observed by a watermark."""
        try:
            sampler = self.study.sampler
        except MissingFunctionError:
            return ""
        if not hasattr(sampler, "posterior"):
            return ""
        fitted, of = self._fitted_at(watermark)
        known = self.remembered.beliefs.get(fitted)
        if known is None or len(known[1]) <= record.number:
            then = self.study.view_until(fitted)
            if len(then.trials) < _LEAST:
                return ""
            count = sum(len(curve) for trial in then.trials for curve in trial.curves)
            every = [trial.params for trial in self.view.trials]
            known = count, *sampler.posterior(self.study.space, then, every)
            self.remembered.beliefs[fitted] = known
        count, mean, std = known[0], float(known[1][record.number]), float(known[2][record.number])
        # On the normal scale of what was observed, ndtr(-score) is the part that is worse.
        likely, least, most = (100 * ndtr(-(mean + z * std)) for z in (0, _90, -_90))
        return (
            f"; its model, from the {of}{count} values seen by then, expected a full evaluation to be better "
            f"than {min(likely, 99):.0f} % of them (90 % interval: {least:.0f} to {most:.0f} %)"
        )

    def _fitted_at(self, watermark: int) -> tuple[int, str]:
        """The watermark of the model that stands for that of a decision; and "first " if it knew not all."""
        ended = sorted(
            o.watermark
            for trial in self.view.trials
            for curve in trial.curves
            for o in curve.observations
            if o.watermark <= watermark and o.epoch == o.fidelity.epochs
        )
        n = 0
        while (more := max(n + 1, math.ceil(n * (1 + _GROWTH)))) <= len(ended):
            n = more
        return (watermark, "") if n == len(ended) else (ended[n - 1], "first ")

    def _end(self, figures: Mapping[str, Any]) -> str:
        end = figures.get("end")
        if not isinstance(end, Mapping) or not {"mean", "low", "high"} <= set(end):
            return ""
        told = self._interval(0, end["mean"], end["low"], end["high"])
        return f"It was believed to end at {told}."

    def _by_curve(self, view: StudyView, record: TrialRecord, verb: str) -> str:
        """Where a trial ends by its learning curve and those of all others, as of a view."""
        metric = trained_metric(view)
        name = view.metric_names[metric]
        valued = [t for t in view.trials if name in t.values]
        if len(valued) < _LEAST or record.number not in {t.number for t in valued}:
            return ""
        rows, found = self._ends(view, metric)
        quantiles = found.quantiles([0.05, 0.5, 0.95])[rows[record.number]]
        low, middle, high = sorted(view.signed(float(q), metric) for q in quantiles)
        told = self._interval(metric, middle, low, high)
        return f"By its learning curve it {verb} believed to end at {told}."

    def _ends(self, view: StudyView, metric: int) -> tuple[dict[int, int], Distribution]:
        if view is not self.view:
            return ends(view, metric)
        now = max(trial.watermark for trial in view.trials)
        if now not in self.remembered.ends:
            self.remembered.ends = {now: ends(view, metric)}
        return self.remembered.ends[now]

    def _interval(self, metric: int, middle: float, low: float, high: float) -> str:
        """A belief about a metric in words, within the values that the metric can have."""
        name = self.view.metric_names[metric]
        seen = (
            o.values[name]
            for trial in self.view.trials
            for curve in trial.curves
            for o in curve.observations
            if name in o.values
        )
        least, most = possible(name, seen)
        middle, low, high = (min(max(value, least), most) for value in (middle, low, high))
        return f"{name} {middle:.4g} (90 % interval: {low:.4g} to {high:.4g})"

    def _place(self, record: TrialRecord) -> str:
        """How a trial did among those seen where it is."""
        seen = [t for t in self.view.trials if t.values_at(record.fidelity)]
        ranked = [t.number for t in self.view.ranked(seen, record.fidelity)]
        if record.number not in ranked:
            return self._values(record.values)
        cost = self.view.axes.nominal_cost
        gone_on = sum(cost(t.fidelity) > cost(record.fidelity) for t in seen)
        words = self._values(record.values)
        if len(seen) == 1:
            return f"{words}, the only one evaluated there"
        words += f", {_ordinal(ranked.index(record.number) + 1)} of the {len(seen)} evaluated there"
        return words if record.fidelity == self.view.axes.full else f"{words}, of which {gone_on} went on"

    def _rung(self, at: Fidelity, figures: Mapping[str, Any]) -> str:
        """A fidelity and its place among the rungs."""
        k, n = figures.get("rung"), figures.get("of")
        if (k is None or n is None) and at in self.rungs:
            k, n = self.rungs.index(at), len(self.rungs)
        if k is None or n is None or n < 2:
            return self._at(at)
        return f"{self._at(at)} ({'the lowest' if k == 0 else f'rung {k + 1}'} of {n}{' rungs' * (k == 0)})"

    def _at(self, at: Fidelity, epoch: int | None = None) -> str:
        words = describe_fidelity(self.view.axes, at, epoch)
        return "full fidelity" if words == "full" else words

    def _values(self, values: Mapping[str, float]) -> str:
        names = self.view.metric_names
        return ", ".join(f"{name} {values[name]:.4g}" for name in names if name in values)


def _rungs(study: Study, view: StudyView) -> Sequence[Fidelity]:
    """The rungs of the study's scheduler; empty where it has none or is not known."""
    try:
        scheduler: Any = study.scheduler
    except MissingFunctionError:
        return ()
    return tuple(scheduler.rungs(view.axes)) if callable(getattr(scheduler, "rungs", None)) else ()


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} {_shown(each)}" for name, each in value.items()) + "}"
    return str(value)


def _ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th."""
    ending = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
