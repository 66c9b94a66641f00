"""Frozen records of what was evaluated, how fully and at what cost; knows no networks, samplers or stores.

Everything a sampler, scheduler or extrapolator may know about a study reaches it as these records,
so its decisions are functions of records, space and generator.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fidelity.pareto import spread_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fidelity.axes import Axes

AXIS_NAMES = ("epochs", "subset", "resolution", "width", "depth")

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class TrialState(StrEnum):
    """Where a trial stands. Only PAUSED trials can run again."""

    RUNNING = "RUNNING"
    """A worker holds its lease and runs a segment of it."""
    PAUSED = "PAUSED"
    """Waits below full fidelity, or was interrupted, and can be resumed."""
    COMPLETE = "COMPLETE"
    """Evaluated at full fidelity."""
    PRUNED = "PRUNED"
    """Stopped for good below full fidelity."""
    FAIL = "FAIL"
    """Ended without a usable value; ``reason`` says why."""
    INFEASIBLE = "INFEASIBLE"
    """Violates a constraint, or does not fit in memory; never counts towards ``n_trials``."""

    @property
    def finished(self) -> bool:
        """Whether the trial will never run again."""
        return self not in (TrialState.RUNNING, TrialState.PAUSED)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A point on all fidelity axes. Axes that a study does not use read 1 (resolution: None)."""

    epochs: int = 1
    subset: float = 1.0
    resolution: int | None = None
    width: float = 1.0
    depth: float = 1.0
    others: tuple[tuple[str, float], ...] = ()
    """Values of axes with names of the user's own, passed through and not applied."""

    def __getitem__(self, axis: str) -> float | int | None:
        if axis in AXIS_NAMES:
            value: float | int | None = getattr(self, axis)
            return value
        for name, value in self.others:
            if name == axis:
                return value
        raise KeyError(axis)

    def __getattr__(self, axis: str) -> float:
        # Reached only for names that are not fields: the user's own axes.
        if not axis.startswith("_"):
            for name, value in self.others:
                if name == axis:
                    return value
        raise AttributeError(f"this fidelity has no axis {axis!r}")

    def to_dict(self) -> dict[str, float | int | None]:
        """The fidelity as a JSON-ready mapping from axis to value."""
        return {name: getattr(self, name) for name in AXIS_NAMES} | dict(self.others)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Fidelity:
        """The inverse of :meth:`to_dict`."""
        known = {name: values[name] for name in AXIS_NAMES if name in values}
        others = tuple((n, float(v)) for n, v in values.items() if n not in AXIS_NAMES)
        return Fidelity(**known, others=others)


@dataclass(frozen=True, slots=True)
class Observation:
    """What was reported after one completed epoch."""

    epoch: int
    """Epochs completed, from 1."""
    values: Mapping[str, float]
    """Every reported metric, finite."""
    cost: float
    """Cost of this epoch in the unit of ``Axes(cost=...)``, repeats of the same epoch included."""
    fidelity: Fidelity
    """The fidelity of the segment it was made in (``fidelity.epochs`` is that segment's last epoch)."""
    seconds: float | None = field(default=None, compare=False)
    """What the epochs since the observation before took, None where unknown; no part of what is equal."""
    watermark: int = field(default=0, compare=False)
    """The study's change counter when it was told; no part of what is equal."""

    def __post_init__(self) -> None:
        if self.epoch < 1:
            raise ValueError(f"epoch={self.epoch}: epochs count completed passes, from 1.")
        bad = {name: v for name, v in self.values.items() if not math.isfinite(v)}
        if bad:
            raise ValueError(f"values={bad}: every metric of an observation must be finite.")
        if not (self.cost >= 0 and math.isfinite(self.cost)):
            raise ValueError(f"cost={self.cost}: must be finite and at least 0.")
        if self.seconds is not None and not (self.seconds >= 0 and math.isfinite(self.seconds)):
            raise ValueError(f"seconds={self.seconds}: must be finite and at least 0, or None.")


@dataclass(frozen=True, slots=True)
class Curve:
    """Observations of one training run, in order of epochs; state carried from each to the next."""

    observations: tuple[Observation, ...] = ()

    def __post_init__(self) -> None:
        epochs = [o.epoch for o in self.observations]
        if any(b <= a for a, b in itertools.pairwise(epochs)):
            raise ValueError(f"epochs={epochs}: the epochs of a learning curve must increase.")

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def epochs(self) -> tuple[int, ...]:
        """The observed epochs."""
        return tuple(o.epoch for o in self.observations)

    def values(self, metric: str) -> tuple[float, ...]:
        """The values of one metric, one for each observed epoch that reported it."""
        return tuple(o.values[metric] for o in self.observations if metric in o.values)


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """Where a trial's saved state lies and what it is."""

    epoch: int
    """Epochs completed when it was saved."""
    fidelity: Fidelity
    """The fidelity it was trained at."""
    file: str
    """Name relative to the study's artifacts folder."""
    sha256: str
    """Hex digest of the file's bytes."""
    nbytes: int


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One configuration with everything observed about it."""

    number: int
    params: Mapping[str, Any]
    """Active hyperparameters only."""
    key: str
    """``space.key(params)``: equal for configurations that compute and train the same network."""
    state: TrialState
    fidelity: Fidelity
    """Target of its latest segment."""
    seed: int = 0
    curves: tuple[Curve, ...] = ()
    """A new curve begins wherever state was not carried; the last is the newest."""
    checkpoint: CheckpointRecord | None = None
    unfinished: bool = False
    """Interrupted before the end of its latest segment, which runs again before anything new."""
    attempt: int = 0
    """How many times its latest segment was handed out."""
    reason: str | None = None
    """Why it failed, was stopped or is infeasible."""
    parent: int | None = None
    lost: float = 0.0
    """Cost of epochs that ended without an observation, in failed segments."""
    retrained: float = 0.0
    """The part of ``cost`` that went into epochs trained before, whose saved state was gone."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What the scheduler wrote down when it started the trial (``Start.figures``)."""
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    owner: str | None = None
    watermark: int = 0
    """The study's change counter when this record last changed."""
    elsewhere: float | None = None
    """Of a trial that was added, what it had cost before; None of one that was started in its study."""

    @property
    def last(self) -> Observation | None:
        """The latest observation, or None."""
        return self.curves[-1].observations[-1] if self.curves and self.curves[-1].observations else None

    @property
    def values(self) -> Mapping[str, float]:
        """The latest report: a trial's value is its last epoch's, never its best one's."""
        return self.last.values if self.last else _NOTHING

    def values_at(self, fidelity: Fidelity) -> Mapping[str, float]:
        """The report at the end of a segment of that fidelity, of the newest curve that has one; or empty."""
        for curve in reversed(self.curves):
            for o in curve.observations:
                if o.epoch == fidelity.epochs and o.fidelity == fidelity:
                    return o.values
        return _NOTHING

    @property
    def cost(self) -> float:
        """Everything spent on this trial, in the unit of ``Axes(cost=...)``."""
        return self.lost + sum(o.cost for curve in self.curves for o in curve.observations)

    @property
    def paid(self) -> float:
        """The part of ``cost`` that its study has paid: nothing of what was paid before it was added."""
        if self.attempt == 0:
            return 0.0  # never handed out
        return self.cost if self.elsewhere is None else max(0.0, self.cost - self.elsewhere)


def as_of(record: TrialRecord, watermark: int, full: Fidelity) -> TrialRecord | None:
    """A trial as it was at a watermark, as far as its observations tell; None if it had none by then.

    Args:
        record: as it is.
        watermark: the study's change counter at the time.
        full: full fidelity: who had reached it was COMPLETE.
    """
    if record.watermark <= watermark:
        return record if record.values else None
    curves = tuple(
        curve
        if curve.observations and curve.observations[-1].watermark <= watermark
        else Curve(tuple(o for o in curve.observations if o.watermark <= watermark))
        for curve in record.curves
    )
    curves = tuple(curve for curve in curves if curve.observations)
    if not curves:
        return None
    last = curves[-1].observations[-1]
    complete = (last.fidelity, last.epoch) == (full, full.epochs)
    state = TrialState.COMPLETE if complete else TrialState.PAUSED
    return replace(record, curves=curves, state=state, fidelity=last.fidelity)


class Bounds(Protocol):
    """What a study's constraints say about configurations that are yet to be trained."""

    def load(self, params: Mapping[str, Any]) -> float:
        """The largest of what can be counted, relative to its bound: above 1 a constraint is violated."""

    def excess(self, trial: TrialRecord) -> float | None:
        """Logarithm of what was measured of a trial relative to its bound: above 0 a constraint is violated.

        None if nothing was measured.
        """


class Outlook(Protocol):
    """What is believed of trials at full fidelity, for schedulers that decide by beliefs.

    Beliefs are losses: smaller is better. With one metric they are in its unit.
    """

    def at_horizon(self, records: Sequence[TrialRecord]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of each trial's loss at full fidelity, (n,); each must have a value."""

    def fresh(self) -> tuple[float, float]:
        """The same of a configuration that is yet to be started."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a study was told of an earlier one when it was made."""

    study: str
    """The earlier study's name."""
    params: tuple[Mapping[str, Any], ...]
    """Configurations of the space of the study that was told."""
    scores: Mapping[str, tuple[float, ...]]
    """By metric, how good the earlier study believed each configuration to be at full fidelity.

    Losses by rank on the normal scale: smaller is better, 0 is the median.
    """

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "study": self.study,
            "params": [dict(params) for params in self.params],
            "scores": {name: list(scores) for name, scores in self.scores.items()},
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Earlier:
        """The inverse of :meth:`to_dict`."""
        scores = {str(name): tuple(map(float, each)) for name, each in data["scores"].items()}
        return Earlier(str(data["study"]), tuple(map(dict, data["params"])), scores)


@dataclass(frozen=True, slots=True)
class StudyView:
    """All that samplers and schedulers see of a study when they decide."""

    trials: Sequence[TrialRecord]
    """In order of their numbers."""
    axes: Axes
    directions: tuple[str, ...] = ("minimize",)
    metric_names: tuple[str, ...] = ("value",)
    starts_left: float = math.inf
    """How many further configurations ``n_trials`` allows."""
    budget_left: float = math.inf
    """What is left of the budget after what was spent and what running segments have reserved."""
    cost_scale: float = 1.0
    """Cost in the study's unit of one full evaluation's nominal cost."""
    bounds: Bounds | None = None
    """The study's constraints, None if it has none."""
    earlier: tuple[Earlier, ...] = ()
    """What is known from earlier studies."""
    outlook: Outlook | None = None
    """What is believed of its trials' ends, worked out when asked for; None where nobody has provided it."""

    def loss(self, record: TrialRecord, metric: int = 0) -> float:
        """The latest value of one metric, turned so that smaller is better; NaN where there is none."""
        return self.signed(record.values.get(self.metric_names[metric], math.nan), metric)

    def signed(self, value: float, metric: int = 0) -> float:
        """A value of the given metric, turned so that smaller is better."""
        return -value if self.directions[metric] == "maximize" else value

    def losses(self, record: TrialRecord, at: Fidelity | None = None) -> tuple[float, ...]:
        """Every metric, each turned so that smaller is better; NaN where there is none.

        The latest values; with ``at`` those at the end of a segment of that fidelity, where there was one.
        """
        values = record.values if at is None else record.values_at(at) or record.values
        return tuple([self.signed(values.get(n, math.nan), i) for i, n in enumerate(self.metric_names)])

    def ranked(
        self,
        records: Sequence[TrialRecord],
        at: Fidelity | None = None,
        chosen: Sequence[TrialRecord] = (),
    ) -> list[TrialRecord]:
        """Records from best to worst, those without a value last.

        Of several metrics the Pareto front comes first, then what it alone dominates, and so on; within a
        front each next record is far from all before it, so that however few are taken, they cover the
        front (:func:`fidelity.pareto.spread_order`).

        Args:
            records: what to rank; their order does not matter.
            at: compare the values of this fidelity, not the latest ones: those that went on from there
                have later ones.
            chosen: records that were taken before, from which the rest keep away; one metric ignores them.
        """
        if len(self.metric_names) == 1:

            def place(record: TrialRecord) -> tuple[float, int]:
                loss = self.losses(record, at)[0]
                return math.inf if math.isnan(loss) else loss, record.number

            return sorted(records, key=place)
        losses = {r.number: self.losses(r, at) for r in (*records, *chosen)}
        both = [r for part in (chosen, records) for r in sorted(part, key=lambda r: r.number)]
        table = np.array([losses[r.number] for r in both]).reshape(len(both), len(self.metric_names))
        return [both[i] for i in spread_order(table, len(chosen))]

    def fits(self, fidelity: Fidelity, record: TrialRecord | None = None) -> bool:
        """Whether a segment to ``fidelity`` (of a trial, or a new one) fits what is left of the budget."""
        return self.forecast(fidelity, record) <= self.budget_left * (1 + 1e-9) + 1e-9

    def forecast(self, fidelity: Fidelity, record: TrialRecord | None = None) -> float:
        """The expected cost of that segment: only the epochs not yet trained where state carries."""
        done = 0
        if record is not None and record.checkpoint is not None:
            done = self.axes.carried_epoch(record.checkpoint.epoch, record.checkpoint.fidelity, fidelity)
        return self.axes.nominal_cost(fidelity, since=done) * self.cost_scale
