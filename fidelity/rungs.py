"""What a study's records say about its rungs: who was seen on each, and which rung misleads.

Knows records and numbers, no schedulers, networks or stores.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fidelity.changes import Changes, resized
from fidelity.proxies import Comparison, compare
from fidelity.records import Fidelity, Observation, StudyView, TrialRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

KNOWN_BEFORE = ("parameters", "macs", "memory", "latency")
"""Metrics that need no training: the same on every rung, so no rung ranks them wrongly."""

# Of a fidelity everything but its epochs.
_BESIDE = operator.attrgetter(
    *(field.name for field in dataclasses.fields(Fidelity) if field.name != "epochs")
)


@dataclass(frozen=True, slots=True)
class Seen:
    """The trials that were evaluated on two rungs."""

    numbers: tuple[int, ...]
    low: NDArray[np.float64]
    """(n,) their losses on the lower rung."""
    high: NDArray[np.float64]
    """(n,) their losses on the higher one."""
    among: NDArray[np.float64]
    """(m,) the losses on the lower rung of all that were evaluated there."""


def observed(record: TrialRecord, rung: Fidelity) -> Observation | None:
    """What a trial reported at a rung's last epoch, the rest of the fidelity being the rung's; the newest.

    It need not have been asked to stop there: a trial trained for 9 epochs was seen on a rung of 3, if
    nothing but the epochs is different.
    """
    for curve in reversed(record.curves):
        for o in curve.observations:
            if o.epoch == rung.epochs and _BESIDE(o.fidelity) == _BESIDE(rung):
                return o
    return None


def trained_metric(view: StudyView) -> int:
    """The first metric that training decides, by its position."""
    return next((i for i, name in enumerate(view.metric_names) if name not in KNOWN_BEFORE), 0)


def losses(
    trials: Sequence[TrialRecord], rung: Fidelity, view: StudyView, metric: int | None = None
) -> dict[int, float]:
    """The loss of every trial that was seen on a rung, by number; smaller is better.

    Args:
        trials: which to look at.
        rung: where.
        view: tells directions and names.
        metric: position of the metric; by default that of :func:`trained_metric`.
    """
    metric = trained_metric(view) if metric is None else metric
    name = view.metric_names[metric]
    found = {}
    for trial in trials:
        o = observed(trial, rung)
        if o is not None and name in o.values:
            found[trial.number] = view.signed(o.values[name], metric)
    return found


class Reader:
    """Reads numbers of many trials, again only of those that have changed since.

    What it says is a function of its arguments; remembering changes nothing but the time.
    """

    def __init__(self) -> None:
        self._changes = Changes()
        self._table: NDArray[np.float64] = np.empty((0, 0))

    def read(
        self, trials: Sequence[TrialRecord], of: Hashable, row: Callable[[TrialRecord], Sequence[float]]
    ) -> NDArray[np.float64]:
        """What ``row`` says of each trial, shape (n, columns).

        Args:
            trials: which.
            of: what else ``row`` depends on; with another one everything is read anew.
            row: the same number of columns for every trial.
        """
        changed = self._changes.since(trials, of)
        read = np.array([row(trials[i]) for i in changed], dtype=np.float64)
        if len(changed) == len(trials):
            self._table = read
        else:
            self._table = resized(self._table, len(trials))
            if changed:
                self._table[changed] = read
        self._changes.read(trials, of)
        return self._table.copy()


def loss_at(trial: TrialRecord, rung: Fidelity, view: StudyView, metric: int) -> float:
    """What a trial lost on a rung; smaller is better, NaN if it was not seen there."""
    o = observed(trial, rung)
    value = math.nan if o is None else o.values.get(view.metric_names[metric], math.nan)
    return view.signed(value, metric)


def seen_on_both(low: Mapping[int, float], high: Mapping[int, float]) -> Seen:
    """The trials of two results of :func:`losses` that are in both."""
    both = tuple(number for number in low if number in high)
    return Seen(
        both,
        np.array([low[n] for n in both], dtype=np.float64),
        np.array([high[n] for n in both], dtype=np.float64),
        np.array(list(low.values()), dtype=np.float64),
    )


def reported_parameters(record: TrialRecord) -> float:
    """The number of parameters a trial reported, the largest where its width changed; NaN if it did not."""
    found = [
        o.values["parameters"] for c in record.curves for o in c.observations if "parameters" in o.values
    ]
    return max(found, default=math.nan)


def compared(seen: Seen, parameters: Mapping[int, float], *, interval: bool = True) -> Comparison:
    """How the lower of two rungs ranks for the higher one, beside what the parameter count does.

    Args:
        seen: the trials evaluated on both.
        parameters: of each of these trials, by number; NaN where unknown.
        interval: whether to bootstrap the interval of the difference, which takes a tenth of a second.
    """
    sizes = np.array([parameters.get(n, math.nan) for n in seen.numbers], dtype=np.float64)
    known = len(sizes) > 0 and bool(np.isfinite(sizes).all())
    # A fixed seed: what is concluded is a function of the records, whoever asks and however often.
    rng = np.random.default_rng(0) if interval else None
    return compare(seen.low, seen.high, -sizes if known else None, rng, seen.among)


def misleading(view: StudyView, rungs: Sequence[Fidelity]) -> dict[int, Comparison]:
    """The rungs, by position, that rank trials no better for the next rung than their size does.

    Only with evidence: see :attr:`fidelity.proxies.Comparison.worse`. The sizes are what the trials
    reported as ``parameters``; where they did not, a rung has to rank better than chance.
    """
    at = [losses(view.trials, rung, view) for rung in rungs]
    trials = {t.number: t for t in view.trials}
    found = {}
    for k in range(len(rungs) - 1):
        seen = seen_on_both(at[k], at[k + 1])
        sizes = {n: reported_parameters(trials[n]) for n in seen.numbers}
        if compared(seen, sizes, interval=False).doubtful and (comparison := compared(seen, sizes)).worse:
            found[k] = comparison
    return found
