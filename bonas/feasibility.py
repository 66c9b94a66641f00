"""What a study's constraints say of a configuration before it is trained; knows no samplers, no stores.

Parameters and multiply-accumulates are counted exactly and memory is predicted, both without building the
network. Latency is measured, once for each network of a study: what was measured is kept with the trial.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fidelity.axes import Axes
from fidelity.records import TrialRecord

if TYPE_CHECKING:
    from spaces import Space

KNOWN = ("parameters", "macs", "memory", "latency")
_MOST = sys.float_info.max  # ints may be larger, and are then no bounds of anything


@dataclass(frozen=True, slots=True)
class Latency:
    """An upper bound on the time of one forward pass, and how it is measured.

    Float32, images channels last: five passes to warm up, then the median of 11 to 100.

    Raises:
        ValueError: if a value cannot be measured by.
    """

    seconds: float
    """The bound."""
    device: str | None = None
    """Where to measure, such as ``"cpu"`` or ``"cuda"``; None for where trials train."""
    batch_size: int = 1
    """Examples in one pass."""
    input_shape: tuple[int, ...] | None = None
    """Of one example; None for what the space's networks are trained on at full fidelity."""

    def __post_init__(self) -> None:
        _check_bound("latency", self.seconds)
        if self.device is not None and not (isinstance(self.device, str) and self.device):
            raise ValueError(f"device={self.device!r}: must be a name of torch's, such as 'cpu', or None.")
        if not _whole(self.batch_size):
            raise ValueError(f"batch_size={self.batch_size!r}: must be a whole number of at least 1.")
        shape = self.input_shape
        if shape is not None:
            if (
                isinstance(shape, str)
                or not isinstance(shape, Sequence)
                or not shape
                or not all(map(_whole, shape))
            ):
                raise ValueError(f"input_shape={shape!r}: must be whole numbers, such as (3, 32, 32).")
            object.__setattr__(self, "input_shape", tuple(shape))


Constraints = Mapping[str, float | Latency]


def checked(constraints: Mapping[str, Any], space: Space) -> dict[str, float | Latency]:
    """Constraints as a user, or :func:`to_dict`, wrote them.

    Raises:
        ValueError: on an unknown name, a bound that is none, or one that cannot be decided in the space.
    """
    if not isinstance(constraints, Mapping):
        raise ValueError(
            f"constraints={constraints!r}: must be a dict of upper bounds, such as {{'parameters': 200_000}}."
        )
    found: dict[str, float | Latency] = {}
    for name, bound in constraints.items():
        if name not in KNOWN:
            raise ValueError(f"constraints: {name!r} is unknown. Known are {list(KNOWN)}, as upper bounds.")
        if name != "latency":
            _check_bound(name, bound)
            found[name] = bound
        elif isinstance(bound, Mapping):
            found[name] = _from_dict(bound)
        else:
            found[name] = bound if isinstance(bound, Latency) else Latency(bound)
    own = space.input_shape is None
    if own and "memory" in found:
        raise ValueError(
            "constraints: memory is predicted for networks of bonas's own only. Leave it out: what runs "
            "out of memory is INFEASIBLE anyway."
        )
    latency = found.get("latency")
    if own and isinstance(latency, Latency) and latency.input_shape is None:
        raise ValueError(
            "constraints: latency of networks of your own needs the shape of their inputs. "
            f"Use Latency({latency.seconds!r}, input_shape=(3, 32, 32)), say."
        )
    return found


def to_dict(constraints: Constraints) -> dict[str, Any]:
    """Constraints JSON-ready, read again by :func:`checked`."""
    return {name: asdict(b) if isinstance(b, Latency) else b for name, b in constraints.items()}


def _from_dict(bound: Mapping[str, Any]) -> Latency:
    try:
        return Latency(**bound)
    except TypeError:
        raise ValueError(
            f"constraints: latency={dict(bound)!r} must be seconds, or Latency(seconds, device=..., ...)."
        ) from None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found out about a configuration before training."""

    reason: str | None
    """Which constraint it violates, None for none."""
    figures: Mapping[str, Any]
    """What was measured and how, for the trial's figures."""
    noted: Mapping[str, Any]
    """What a user may want to know, for the trial's attributes."""


class Feasibility:
    """A study's constraints; what it remembers are functions of configurations.

    Args:
        space: the study's space.
        constraints: as :func:`checked` returns them.
        axes: say at which resolution networks are trained in full.
    """

    _MOST = 50_000

    def __init__(self, space: Space, constraints: Constraints, axes: Axes) -> None:
        self._space = space
        self._bounds = {name: float(b) for name, b in constraints.items() if not isinstance(b, Latency)}
        latency = constraints.get("latency")
        self._latency = latency if isinstance(latency, Latency) else None
        self._resolution = axes.full.resolution
        self._mixed: bool | None = None
        self._known: dict[tuple[tuple[str, Any], ...], dict[str, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._bounds or self._latency)

    # What can be counted ---------------------------------------------------------------------

    def load(self, params: Mapping[str, Any]) -> float:
        """The largest of what can be counted or predicted, relative to its bound; 0 without such bounds."""
        counted = self._counted(params)
        return max((counted[name] / bound for name, bound in self._bounds.items()), default=0.0)

    def _violated(self, params: Mapping[str, Any]) -> str | None:
        counted = self._counted(params)
        for name, bound in self._bounds.items():
            if counted[name] > bound:
                unit = " bytes" if name == "memory" else ""
                return f"{name} = {counted[name]:,} above {bound:,.10g}{unit}"
        return None

    def _counted(self, params: Mapping[str, Any]) -> dict[str, int]:
        which = tuple(params.items())
        if which not in self._known:
            if len(self._known) >= self._MOST:
                self._known.clear()
            self._known[which] = self._count(params)
        return self._known[which]

    def _count(self, params: Mapping[str, Any]) -> dict[str, int]:
        counted: dict[str, int] = {}
        if "parameters" in self._bounds or "macs" in self._bounds:
            count = self._space.count(params)
            counted.update(parameters=count.parameters, macs=count.macs)
        if "memory" in self._bounds:
            from fidelity import memory

            if self._mixed is None:
                self._mixed = memory.uses_mixed_precision()
            size = self._space.footprint(params, self._input_shape(), self._mixed)
            counted["memory"] = memory.predicted(size, params, self._mixed)
        return counted

    def _input_shape(self) -> tuple[int, ...]:
        """Of the examples that networks are trained on at full fidelity."""
        shape = self._space.input_shape
        assert shape is not None
        if len(shape) == 1 or self._resolution is None:
            return shape
        channels, *sides = shape
        return channels, *(max(1, round(side * self._resolution / max(sides))) for side in sides)

    # What is measured ------------------------------------------------------------------------

    def excess(self, trial: TrialRecord) -> float | None:
        """Logarithm of a trial's measured latency relative to its bound; None if none was measured."""
        seconds = _seconds(_figure(trial))
        if self._latency is None or seconds is None:
            return None
        return math.log(seconds / self._latency.seconds)

    def judge(self, params: Mapping[str, Any], trials: Iterable[TrialRecord]) -> Verdict:
        """Count, predict and, if that leaves anything open, measure.

        Args:
            params: a canonical configuration.
            trials: of the study: what was measured of the same network is not measured again.

        Raises:
            ValueError: if nothing can be measured here.
        """
        reason = self._violated(params)
        counted = self._counted(params)
        noted = {"predicted_memory": counted["memory"]} if "memory" in counted else {}
        if reason is not None or self._latency is None:
            return Verdict(reason, {}, noted)
        network, device = self._space.network_key(params), self._device()
        seconds = self._recalled(network, device, trials) or self._measured(params, device)
        if seconds is None:
            return Verdict(f"out of memory: its latency cannot be measured on {device}", {}, noted)
        bound = self._latency.seconds
        if seconds > bound:
            reason = f"latency = {1e3 * seconds:.4g} ms above {1e3 * bound:.4g} ms on {device}"
        figure = {
            "seconds": seconds,
            "device": device,
            "batch_size": self._latency.batch_size,
            "network": network,
        }
        return Verdict(reason, {"latency": figure}, noted | {"measured_latency": seconds})

    def _recalled(self, network: str, device: str, trials: Iterable[TrialRecord]) -> float | None:
        for trial in trials:
            figure = _figure(trial)
            if figure.get("network") == network and figure.get("device") == device:
                return _seconds(figure)
        return None

    def _device(self) -> str:
        assert self._latency is not None
        if self._latency.device is not None:
            return self._latency.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def _measured(self, params: Mapping[str, Any], device: str) -> float | None:
        import torch

        from fidelity import latency
        from fidelity.out_of_memory import is_out_of_memory

        assert self._latency is not None
        latency.checked_device(device)
        shape = self._latency.input_shape or self._input_shape()
        try:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(0)
                model = self._space.build(params)
            return latency.measure(model, shape, device, self._latency.batch_size)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return None
            raise ValueError(
                f"constraints: latency cannot be measured on {device!r} with inputs of shape {shape} "
                f"({error}). Name another device, or what the networks take: Latency(..., input_shape=...)."
            ) from error


def _figure(trial: TrialRecord) -> Mapping[str, Any]:
    """What was measured of a trial's latency, empty if nothing was."""
    figure = trial.figures.get("latency")
    return figure if isinstance(figure, Mapping) else {}


def _seconds(figure: Mapping[str, Any]) -> float | None:
    seconds = figure.get("seconds")
    return seconds if isinstance(seconds, float) and 0 < seconds < math.inf else None


def _check_bound(name: str, bound: Any) -> None:
    if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not 0 < bound <= _MOST:
        raise ValueError(
            f"constraints: {name}={bound!r} must be a finite int or float above 0: an upper bound."
        )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
