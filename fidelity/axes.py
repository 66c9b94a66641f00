"""Fidelity axes: which knobs make an evaluation cheaper, over which values, and at what nominal cost.

Knows numbers only: what a subset or a width *does* to training lives in ``fidelity.training``.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from fidelity.records import AXIS_NAMES, Fidelity

CostUnit = Literal["nominal", "reported", "measured"]

_INTEGER = frozenset({"epochs", "resolution"})
_MOST = 1_000_000  # epochs or pixels: more is a typing error that would run for ever
# Exponents of the nominal cost of one epoch: convolution work grows with pixels, and with the
# product of input and output filters.
_EXPONENT = {"subset": 1, "resolution": 2, "width": 2, "depth": 1}


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: a range ``(low, high)`` or the only values there are, ascending."""

    name: str
    values: tuple[float, ...]
    listed: bool
    """True if ``values`` are the only ones; False if they are the two ends of a range."""

    @property
    def low(self) -> float:
        """The cheapest value."""
        return self.values[0]

    @property
    def high(self) -> float:
        """The full value."""
        return self.values[-1]

    def at(self, position: float) -> float:
        """The value at a position in [0, 1], 0 the cheapest, on a logarithmic scale where possible."""
        if position >= 1:
            return self.high
        if position <= 0:
            return self.low
        if self.low > 0:
            value = math.exp((1 - position) * math.log(self.low) + position * math.log(self.high))
        else:
            value = self.low + position * (self.high - self.low)
        if self.listed:
            return min(self.values, key=lambda v: abs(self.position(v) - position))
        return round(value) if self.name in _INTEGER else value

    def position(self, value: float) -> float:
        """The inverse of :meth:`at`: 0 at the cheapest value, 1 at the full one."""
        if self.high == self.low:
            return 1.0
        if self.low > 0:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


class Axes:
    """The fidelity axes of a study.

    Each axis is a pair ``(low, high)`` or a list of the only values there are::

        Axes(epochs=(1, 50), subset=(0.1, 1.0), resolution=(14, 28), width=(0.25, 1.0))
        Axes(epochs=[12, 200], carry=())

    Args:
        epochs: training epochs, whole numbers from 1.
        subset: fraction of the training data, in (0, 1].
        resolution: pixels along each side of an image.
        width: fraction of every layer's filters, in (0, 1].
        depth: fraction of the layers or cells, in (0, 1].
        carry: axes along which a trial's saved state may be carried to another fidelity. A change on
            any other axis makes ``trial.load_checkpoint()`` return None.
        cost: ``"nominal"`` counts full evaluations; ``"reported"`` sums ``report(..., cost=)``;
            ``"measured"`` counts seconds and gives up exact replay.
        others: axes with names of your own; passed through in ``trial.fidelity``, not applied.

    Raises:
        ValueError: on an empty or inverted range, or a value outside an axis's domain.
    """

    def __init__(
        self,
        epochs: Sequence[int] | None = None,
        subset: Sequence[float] | None = None,
        resolution: Sequence[int] | None = None,
        width: Sequence[float] | None = None,
        depth: Sequence[float] | None = None,
        *,
        carry: Iterable[str] = ("epochs", "subset", "resolution"),
        cost: CostUnit = "nominal",
        **others: Sequence[float],
    ) -> None:
        given = {"epochs": epochs, "subset": subset, "resolution": resolution, "width": width, "depth": depth}
        for name in others:
            # Own names are allowed, near misses are typing errors that would silently apply nothing.
            near = difflib.get_close_matches(name, AXIS_NAMES, n=1, cutoff=0.8)
            if near:
                raise ValueError(
                    f"axis {name!r}: did you mean {near[0]!r}? Names of your own must differ more."
                )
        if cost not in ("nominal", "reported", "measured"):
            raise ValueError(f"cost={cost!r}: must be 'nominal', 'reported' or 'measured'.")
        if not isinstance(carry, Iterable) or isinstance(carry, (str, bytes)):
            raise ValueError(f"carry={carry!r}: must be a tuple of axis names, such as ('epochs',).")
        carry = tuple(carry)
        unknown = [name for name in carry if name not in (*given, *others)]
        if unknown:
            raise ValueError(f"carry={carry!r}: {unknown} are no axes. Name axes, such as ('epochs',).")
        self.axes: tuple[Axis, ...] = tuple(
            _axis(name, values) for name, values in {**given, **others}.items() if values is not None
        )
        self.carry: tuple[str, ...] = carry
        self.cost: CostUnit = cost

    def __repr__(self) -> str:
        parts = [f"{a.name}={list(a.values) if a.listed else a.values}" for a in self.axes]
        return f"Axes({', '.join([*parts, f'carry={self.carry}', f'cost={self.cost!r}'])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Axes) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(repr(self))

    @functools.cached_property
    def full(self) -> Fidelity:
        """Every axis at its maximum."""
        return self.at(1.0)

    def stretched(self, epochs: int) -> Axes:
        """The same axes with another number of epochs at full fidelity: to train a winner for longer."""
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise ValueError(f"epochs={epochs!r}: must be a whole number of at least 1.")
        data = self.to_dict()
        data["axes"]["epochs"] = {"values": [epochs], "listed": True}
        return Axes.from_dict(data)

    @property
    def lowest(self) -> Fidelity:
        """Every axis at its minimum."""
        return self.at(0.0)

    def at(self, position: float) -> Fidelity:
        """All axes moved together to a position in [0, 1], 0 the cheapest and 1 full fidelity."""
        return self.fidelity({a.name: a.at(position) for a in self.axes})

    def fidelity(self, values: Mapping[str, float]) -> Fidelity:
        """A fidelity with the given values; axes not named are at their maximum.

        Raises:
            ValueError: if a value lies outside its axis, or the study has no such axis.
        """
        known = {a.name: a for a in self.axes}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"axis {name!r}: this study has {sorted(known) or 'no axes'}.")
            axis = known[name]
            if not axis.low <= value <= axis.high or (axis.listed and value not in axis.values):
                raise ValueError(f"{name}={value}: must lie in {axis.values}.")
        chosen = {a.name: values.get(a.name, a.high) for a in self.axes}
        return Fidelity.from_dict({n: int(v) if n in _INTEGER else float(v) for n, v in chosen.items()})

    def epoch_cost(self, fidelity: Fidelity) -> float:
        """Nominal cost of one epoch, in full evaluations: (1/E)·subset·resolution²·width²·depth."""
        cost = 1.0 / self.full.epochs
        for axis in self.axes:
            value = fidelity[axis.name]
            if axis.name in _EXPONENT and value is not None:
                cost *= (value / axis.high) ** _EXPONENT[axis.name]
        return cost

    def nominal_cost(self, fidelity: Fidelity, since: int = 0) -> float:
        """Nominal cost of the epochs after ``since`` up to ``fidelity.epochs``, in full evaluations."""
        return max(0, fidelity.epochs - since) * self.epoch_cost(fidelity)

    def carries(self, old: Fidelity, new: Fidelity) -> bool:
        """Whether state of ``old`` may be continued at ``new``: they differ on ``carry`` axes only."""
        return all(old[a.name] == new[a.name] for a in self.axes if a.name not in self.carry)

    def carried_epoch(self, epoch: int, old: Fidelity, new: Fidelity) -> int:
        """The epoch from which a state of ``epoch`` at ``old`` continues at ``new``; 0 where it does not."""
        if epoch >= new.epochs:
            return 0
        # A segment interrupted half-way continues at its own fidelity whatever ``carry`` says.
        return epoch if old == new or self.carries(old, new) else 0

    def positions(self, fidelity: Fidelity, epoch: int | None = None) -> list[float]:
        """Where a fidelity, or one epoch of it, lies on each axis: features in [0, 1], 1 being full."""
        values = fidelity.to_dict() | ({} if epoch is None else {"epochs": epoch})
        return [a.position(float(cast("float", values[a.name]))) for a in self.axes]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description, restored by :meth:`from_dict`."""
        return {
            "axes": {a.name: {"values": list(a.values), "listed": a.listed} for a in self.axes},
            "carry": list(self.carry),
            "cost": self.cost,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Axes:
        """The inverse of :meth:`to_dict`."""
        values = {
            n: list(a["values"]) if a["listed"] else tuple(a["values"]) for n, a in data["axes"].items()
        }
        return Axes(**values, carry=data["carry"], cost=data["cost"])


def _axis(name: str, given: Sequence[float]) -> Axis:
    shown = f"{name}={given!r}"
    listed = isinstance(given, list)
    if isinstance(given, (str, bytes)) or not isinstance(given, (list, tuple)):
        raise ValueError(f"{shown}: must be a pair (low, high) or a list of values, such as {name}=(1, 10).")
    values = tuple(v.item() if getattr(v, "shape", None) == () else v for v in given)
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values) or not all(
        abs(v) < math.inf for v in values
    ):
        raise ValueError(f"{shown}: every value must be a finite number.")
    if not listed and len(values) != 2:
        raise ValueError(
            f"{shown}: a range is a pair (low, high); give a list for {len(values)} single values."
        )
    if not values:
        raise ValueError(f"{shown}: an axis needs at least one value.")
    if listed:
        if len(set(values)) != len(values):
            raise ValueError(f"{shown}: every value may be listed once.")
        values = tuple(sorted(values))
    elif values[0] > values[1]:
        raise ValueError(f"{shown}: the range is inverted. Write {name}={values[::-1]!r}.")
    if name in _INTEGER:
        if any(v != int(v) or not 1 <= v <= _MOST for v in values):
            raise ValueError(f"{shown}: {name} counts whole numbers from 1 to {_MOST:,}.")
        values = tuple(int(v) for v in values)
    elif name in _EXPONENT and not all(0 < v <= 1 for v in values):
        raise ValueError(f"{shown}: {name} is a fraction, greater than 0 and at most 1.")
    return Axis(name, values, listed)
