"""What an evaluation takes, learned from the seconds that epochs took; knows records and numbers only.

The nominal cost of an epoch, (1/E) * subset * resolution^2 * width^2 * depth, is what arithmetic costs. What
it takes besides (reading, small layers that leave a machine idle, evaluating on all of ``val``) is measured:

    log s = w . x + a_trial + noise

    s      seconds of one epoch
    x      1, log MACs at full width and depth, log subset, log resolution, log width, log depth, log batch
           size, and for each rung that was measured a 1 of its own: what the powers do not explain of it
    w      their weights: normal a priori around the exponents of the nominal cost, so that without
           measurements costs are nominal, with few nearly so, and with many they are what was measured
    a      of each trial, normal: networks of equal MACs differ, and the better ones are promoted

All are normal, so the posterior mean of w is a ridge regression with correlated noise (Lindley and Smith
1972, doi:10.1111/j.2517-6161.1972.tb00885.x).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fidelity.axes import Axes
from fidelity.records import Fidelity, TrialRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Name, exponent of the nominal cost, and how far from it measured ones may well lie.
_POWERS = (
    ("macs", 1.0, 0.4),
    ("subset", 1.0, 0.2),
    ("resolution", 2.0, 0.5),
    ("width", 2.0, 0.6),
    ("depth", 1.0, 0.3),
    ("batch_size", 0.0, 0.3),
)
_RUNG = 0.3  # standard deviation of what the powers do not explain of a rung, on the log scale
_TRIAL = 0.3  # of a network, given its MACs
_UNKNOWN_TRIAL = 1.0  # of a network whose MACs are not known
_NOISE = 0.15  # of the seconds of one network on one rung, the median of its epochs


@dataclass(frozen=True, slots=True)
class Timed:
    """What one trial's epochs took on one rung."""

    trial: int
    fidelity: Fidelity
    seconds: float
    """Of one epoch, the median over the rung's."""
    macs: float = math.nan
    """Of the network at full width and depth, for one example; NaN where unknown."""
    batch_size: float = math.nan


def timed(
    records: Iterable[TrialRecord], axes: Axes, macs: Callable[[TrialRecord], float] | None = None
) -> list[Timed]:
    """The measured seconds of every trial on every rung it was trained on.

    Args:
        records: trials; those without measured seconds are passed over.
        axes: of the study; where its cost is measured, that is what epochs took.
        macs: of a trial's network at full width and depth; by default what the trial reported as ``macs``.
    """
    found = []
    for record in records:
        epochs: dict[Fidelity, list[float]] = {}
        for curve in record.curves:
            before = 0
            for o in curve.observations:
                seconds = o.cost if o.seconds is None and axes.cost == "measured" else o.seconds
                if seconds is not None and seconds > 0:
                    epochs.setdefault(_epoch(o.fidelity), []).append(seconds / (o.epoch - before))
                before = o.epoch
        size = math.nan
        if epochs:
            size = (macs or reported_macs)(record)
        batch = record.params.get("batch_size", math.nan)
        batch = float(batch) if isinstance(batch, (int, float)) and batch > 0 else math.nan
        found += [Timed(record.number, f, statistics.median(s), size, batch) for f, s in epochs.items()]
    return found


def reported_macs(record: TrialRecord) -> float:
    """The MACs that a trial reported, the largest where its width changed; NaN if it did not."""
    found = [o.values["macs"] for curve in record.curves for o in curve.observations if "macs" in o.values]
    return max(found, default=math.nan)


@functools.lru_cache(maxsize=4096)
def _epoch(fidelity: Fidelity) -> Fidelity:
    """The fidelity of a single epoch: how many there are to be does not change what one takes."""
    return dataclasses.replace(fidelity, epochs=1)


class CostModel:
    """Seconds of an epoch at any fidelity, learned from those measured (see the module).

    Args:
        measured: what was measured; with nothing, costs are nominal and seconds unknown.
        axes: of the study.

    Attributes:
        trials: how many trials were measured.
    """

    def __init__(self, measured: Sequence[Timed], axes: Axes) -> None:
        self._axes = axes
        self._measured = list(measured)
        self.trials = len({m.trial for m in measured})
        known = bool(measured) and all(m.macs > 0 for m in measured)
        self._means = {
            "macs": _mean_log([m.macs for m in measured]) if known else math.nan,
            "batch_size": _mean_log([m.batch_size for m in measured if m.batch_size > 0]),
        }
        self._rungs = {rung: i for i, rung in enumerate(dict.fromkeys(_epoch(m.fidelity) for m in measured))}
        y = np.log([m.seconds for m in measured]) if measured else np.empty(0)
        prior = np.array(
            [y.mean() if len(y) else 0.0, *(p for _, p, _ in _POWERS), *[0.0] * len(self._rungs)]
        )
        spread = np.array([10.0, *(s for _, _, s in _POWERS), *[_RUNG] * len(self._rungs)])
        X = np.array([self._row(m.fidelity, m.macs, m.batch_size) for m in measured])
        X = X.reshape(len(measured), len(prior))
        trials = np.unique([m.trial for m in measured], return_inverse=True)[1]
        self._trial_spread = _TRIAL if known else _UNKNOWN_TRIAL
        self._weights = _posterior_mean(X, y, trials, prior, spread, self._trial_spread)

    @staticmethod
    def of(
        records: Iterable[TrialRecord], axes: Axes, macs: Callable[[TrialRecord], float] | None = None
    ) -> CostModel:
        """The model of what a study's trials took; see :func:`timed`."""
        return CostModel(timed(records, axes, macs), axes)

    def measured(self, fidelity: Fidelity) -> int:
        """How many trials were timed at a fidelity, whatever the number of epochs."""
        at = _epoch(fidelity)
        return sum(_epoch(m.fidelity) == at for m in self._measured)

    def seconds(
        self, fidelity: Fidelity, since: int = 0, macs: float | None = None, batch_size: float | None = None
    ) -> float:
        """Expected seconds of the epochs after ``since`` up to ``fidelity.epochs``; NaN if nothing was timed.

        Args:
            fidelity: what to train at.
            since: epochs that are there already.
            macs: of the network at full width and depth; None or NaN for a typical one of those timed.
            batch_size: None for a typical one.
        """
        if not self.trials:
            return math.nan
        size = math.nan if macs is None else macs
        row = self._row(fidelity, size, batch_size or math.nan)
        # The mean of a lognormal: networks that are slow for their size weigh more.
        spread = self._trial_spread if size > 0 else 0.0
        return max(0, fidelity.epochs - since) * math.exp(float(row @ self._weights) + spread**2 / 2)

    def ratio(self, fidelity: Fidelity) -> float:
        """Seconds of training one network from scratch at a fidelity, relative to its full evaluation."""
        full = self._axes.full
        difference = self._row(fidelity, math.nan, math.nan) - self._row(full, math.nan, math.nan)
        return fidelity.epochs / full.epochs * math.exp(float(difference @ self._weights))

    def _row(self, fidelity: Fidelity, macs: float, batch_size: float) -> Floats:
        """The inputs x of the formula above; what is unknown counts as typical."""
        row = [1.0, self._relative("macs", macs)]
        highest = {axis.name: axis.high for axis in self._axes.axes}
        for name in ("subset", "resolution", "width", "depth"):
            value = fidelity[name]
            row.append(math.log(value / highest[name]) if value and name in highest else 0.0)
        row.append(self._relative("batch_size", batch_size))
        rungs = [0.0] * len(self._rungs)
        if (index := self._rungs.get(_epoch(fidelity))) is not None:
            rungs[index] = 1.0
        return np.array(row + rungs)

    def _relative(self, name: str, value: float) -> float:
        mean = self._means[name]
        return 0.0 if math.isnan(mean) or not value > 0 else math.log(value) - mean


def _mean_log(values: Sequence[float]) -> float:
    return statistics.fmean(map(math.log, values)) if values else math.nan


def _posterior_mean(
    X: Floats, y: Floats, trials: NDArray[np.intp], prior: Floats, spread: Floats, trial_spread: float
) -> Floats:
    """The posterior mean of w, with the trials' own offsets integrated out.

    Rows of one trial have the covariance noise^2 I + spread^2 1 1', whose inverse is
    (I - c 1 1') / noise^2 with c = spread^2 / (noise^2 + n spread^2) (Sherman and Morrison 1950).

    Args:
        X: (n, d) inputs.
        y: (n,) log seconds.
        trials: (n,) position of each row's trial among the trials.
        prior: (d,) means of w.
        spread: (d,) standard deviations of w.
        trial_spread: standard deviation of the trials' offsets.
    """
    if not len(y):
        return prior
    residuals = y - X @ prior
    counts = np.bincount(trials)  # (t,)
    sums = np.zeros((len(counts), X.shape[1]))
    np.add.at(sums, trials, X)
    c = trial_spread**2 / (_NOISE**2 + counts * trial_spread**2)  # (t,)
    precision = (X.T @ X - (sums * c[:, None]).T @ sums) / _NOISE**2 + np.diag(spread**-2.0)
    right = (X.T @ residuals - sums.T @ (c * np.bincount(trials, residuals))) / _NOISE**2
    weights: Floats = prior + np.linalg.solve(precision, right)
    return weights
