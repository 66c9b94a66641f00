"""Measures, before a search, what each fidelity axis saves and how it ranks, and recommends a ladder from it.

Knows training and costs; of a space only that it draws, builds and counts networks.
"""

from __future__ import annotations

import itertools
import logging
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fidelity._text import TextTable
from fidelity.axes import Axes, Axis
from fidelity.proxies import LEAST_TOP, RankCorrelation, rank_correlation, top
from fidelity.records import AXIS_NAMES, Fidelity
from fidelity.schedulers import SuccessiveHalving

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from numpy.typing import NDArray

    from fidelity.training import TrainOn

    Floats = NDArray[np.float64]

logger = logging.getLogger("bonas")

EPOCHS = 9  # of a full evaluation, unless said otherwise
_GAMES = 200  # searches played for each ladder that might be recommended
_MOST_DRAWN = 1e5  # networks in all of them
_LEAST = 0.3  # tau of a lowest rung: with less, searches on published tables have lost by it
_ALIKE = 0.05  # standard deviations of quality: ladders that differ by less are equally good
_UNKNOWN = RankCorrelation(math.nan, math.nan, math.nan, 0)


class SpaceLike(Protocol):
    """What calibration needs of a space."""

    def sample(self, n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
        """``n`` configurations from the prior."""

    def build(self, params: Mapping[str, Any], width: float = 1.0, depth: float = 1.0) -> torch.nn.Module:
        """The network of a configuration."""

    def count(self, params: Mapping[str, Any]) -> Any:
        """Its size, with ``parameters``; ValueError where that is not known."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """One value of one axis, everything else being full."""

    axis: str
    value: float
    nominal: float
    """Cost relative to a full evaluation, by the formula of the nominal cost."""
    measured: float
    """The same in seconds: the median over the networks."""
    all: RankCorrelation
    """With the full evaluation."""
    best: RankCorrelation
    """With the full evaluation, among the tenth of the networks that is best in it, five at least."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What :func:`calibrate` found; prints itself as a table with a recommendation below it."""

    reduced: tuple[Reduced, ...]
    """Every value that was measured, axis by axis."""
    parameters: RankCorrelation
    """How the number of parameters alone ranks the networks: what a reduced evaluation has to beat."""
    n: int
    """Networks that were trained."""
    seconds: float
    """What the calibration took."""
    full_seconds: float
    """What a full evaluation took: the median over the networks."""
    budget: float
    axes: Axes
    """Recommended for that budget: ``create_study(axes=calibration.axes, ...)``."""
    n_rungs: int
    """Of the ladder recommended; 1 if nothing but full evaluations is worth it."""
    configurations: int
    """What a search on it starts within the budget."""
    scheduler: SuccessiveHalving = field(default_factory=SuccessiveHalving)
    """Recommended: ``create_study(scheduler=calibration.scheduler, ...)``."""

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return self._table().html()

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each value of each axis."""
        import pandas as pd

        rows = []
        for r in self.reduced:
            row: dict[str, Any] = {"axis": r.axis, "value": r.value, "nominal": r.nominal}
            row |= {"measured": r.measured, "tau": r.all.tau, "low": r.all.low, "high": r.all.high}
            row |= {"n": r.all.n, "best_tau": r.best.tau, "best_low": r.best.low, "best_high": r.best.high}
            rows.append(row | {"best_n": r.best.n})
        return pd.DataFrame(rows)

    def _table(self) -> TextTable:
        rows = [
            (r.axis, f"{r.value:g}", f"{r.nominal:.3f}", f"{r.measured:.3f}", str(r.all), self._best(r))
            for r in self.reduced
        ]
        rows.append(("parameters", "", "0", "0", str(self.parameters), ""))
        return TextTable(
            title=f"Calibration on {self.n} networks in {self.seconds:.0f} s",
            headings=("axis", "value", "cost", "measured", "ranks as full", "among the best"),
            rows=tuple(rows),
            notes=self._notes(),
            left=("axis",),
        )

    @staticmethod
    def _best(reduced: Reduced) -> str:
        return f"{reduced.best} of {reduced.best.n}" if reduced.best else "-"

    def _notes(self) -> tuple[str, ...]:
        explained = (
            f"Costs relative to a full evaluation, which took {self.full_seconds:.3g} s; Kendall's tau with "
            "90 % intervals; parameters: what their number alone would rank."
        )
        weak = [f"{r.axis} {r.value:g}" for r in self.reduced if r.all and r.all.tau <= self.parameters.tau]
        notes = [explained]
        if weak:
            notes.append(f"No better than the number of parameters here: {', '.join(weak)}.")
        if self.n_rungs == 1:
            ladder = "full evaluations only: nothing cheaper ranks well enough for what it saves"
        else:
            ladder = f"{self.n_rungs} rungs, about {self.configurations} configurations, {self.axes!r}"
        notes.append(f"Recommended for a budget of {self.budget:g} full evaluations: {ladder}.")
        return tuple(notes)


def calibrate(
    space: SpaceLike, data: Any, n: int = 8, budget: float = 20.0, seed: int = 0, axes: Axes | None = None
) -> Calibration:
    """Train a few networks at every value of every axis, and recommend axes and rungs for a budget.

    Every network is trained in full once, which shows all smaller numbers of epochs at no further cost, and
    once at each reduced value of each other axis. With ``n=8`` and all axes that takes about as long as 35
    full evaluations: worth it before a long search, or once for a kind of data.

    The ladder is chosen by playing successive halving on networks whose cheap values are as well correlated
    with the full ones as was measured, or rather half way to the lower end of the interval: few networks
    may be ranked alike by chance. Several axes together are taken to lose what each loses alone. A lowest
    rung has to rank better than the number of parameters, and with a tau of 0.3 at least; of ladders equally
    good the one that reduces the fewest axes is recommended.

    Args:
        space: draws and builds the networks, such as one of ``bonas.spaces`` with its hyperparameters.
        data: what to train on: all that :func:`fidelity.train_on` takes, or what it returned.
        n: networks. With fewer than 8 the intervals hold nearly everything.
        budget: of the search, in full evaluations.
        seed: of the networks and of their training.
        axes: what may be reduced, and what is full. A range is measured at its lower end and in its middle, a
            list at each value. By default 1 to 9 epochs, a quarter of the data, and half of the resolution,
            the width and the depth.

    Raises:
        ValueError: for axes that training does not apply, or numbers out of range.
    """
    _check(n, budget, seed, axes)
    from fidelity.training import TrainOn, train_on

    objective = data if isinstance(data, TrainOn) else train_on(data)
    axes = axes or _usual(objective)
    begin = time.monotonic()
    rng = np.random.default_rng(seed)
    networks = space.sample(n, rng)
    settings = [(a.name, v) for a in axes.axes if a.name != "epochs" for v in _values(a)]
    runs: dict[tuple[str, float], list[_Run]] = {("", 1.0): [], **{s: [] for s in settings}}
    for i, params in enumerate(networks):
        own_seed = int(np.random.SeedSequence([seed, i]).generate_state(1)[0])
        for axis, value in runs:
            at = axes.fidelity({axis: value} if axis else {})
            runs[axis, value].append(_trained(space, objective, params, at, own_seed))
        logger.info("calibration: %d of %d networks trained", i + 1, n)
    full = runs.pop(("", 1.0))
    losses = np.array([run.losses[-1] for run in full])
    if np.isfinite(losses).sum() < 2:
        raise ValueError(
            f"calibrate(n={n}): fewer than two networks could be trained in full, so there is nothing to "
            "rank. Take more networks, or a narrower space."
        )
    reduced = [_epochs_row(axes, e, full, losses, rng) for a in axes.axes for e in _short(a)]
    for (axis, value), made in runs.items():
        ratios = [r.pace / f.pace for r, f in zip(made, full, strict=True)]
        ratio = statistics.median([x for x in ratios if x > 0] or [math.nan])
        at = axes.fidelity({axis: value})
        cheap = np.array([run.losses[-1] for run in made])
        reduced.append(Reduced(axis, value, axes.nominal_cost(at), ratio, *_correlations(cheap, losses, rng)))
    sizes = np.array([_parameters(space, params) for params in networks])
    known = bool(np.isfinite(sizes).all())
    by_size = rank_correlation(-sizes, losses, rng) if known else _UNKNOWN
    ladder = recommended(axes, reduced, trusted(by_size), budget, rng)
    return Calibration(
        reduced=tuple(reduced),
        parameters=by_size,
        n=n,
        seconds=time.monotonic() - begin,
        full_seconds=statistics.median([run.pace for run in full if run.pace > 0]) * axes.full.epochs,
        budget=budget,
        axes=ladder.axes,
        n_rungs=len(ladder.costs),
        configurations=ladder.brackets(budget) * ladder.size,
        scheduler=SuccessiveHalving(n_rungs=len(ladder.costs)),
    )


# -- measuring -----------------------------------------------------------------------------------------


class _Run:
    """One network trained at one fidelity: a trial handle that keeps losses and seconds, and nothing else."""

    retraining: bool = False
    directions: tuple[str, ...] = ("minimize",)
    metric_names: tuple[str, ...] = ("value",)

    def __init__(self, space: SpaceLike, params: Mapping[str, Any], fidelity: Fidelity, seed: int) -> None:
        self._space = space
        self.params = dict(params)
        self.fidelity = fidelity
        self.horizon = fidelity.epochs
        self.seed = seed
        self.user_attrs: dict[str, Any] = {}
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self._begun = time.monotonic()

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def pace(self) -> float:
        """Seconds of an epoch; the first one warms up."""
        return statistics.median(self.seconds[1:] or self.seconds or [math.nan])

    def build(self) -> torch.nn.Module:
        return self._space.build(self.params, width=self.fidelity.width, depth=self.fidelity.depth)

    def count(self) -> Any:
        return self._space.count(self.params)

    def load_checkpoint(self) -> Any:
        return None

    def epochs(self) -> Iterator[int]:
        for epoch in range(1, self.fidelity.epochs + 1):
            self._begun = time.monotonic()
            yield epoch

    def report(self, value: Mapping[str, float], epoch: int) -> None:
        self.losses.append(value["value"])
        self.seconds.append(time.monotonic() - self._begun)

    def save_checkpoint(self, state: Any) -> None:
        """Nothing is continued."""

    def set_user_attr(self, key: str, value: Any) -> None:
        self.user_attrs[key] = value


def _trained(
    space: SpaceLike, objective: TrainOn, params: Mapping[str, Any], at: Fidelity, seed: int
) -> _Run:
    """The run, with NaN, which is worst, for the epochs after it diverged or ran out of memory."""
    from fidelity.out_of_memory import is_out_of_memory
    from fidelity.training import Diverged

    run = _Run(space, params, at, seed)
    try:
        objective(run)
    except Diverged as error:
        logger.info("calibration: %s", error)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        logger.info("calibration: %s", error)
    run.losses += [math.nan] * (at.epochs - len(run.losses))
    return run


def _usual(objective: TrainOn) -> Axes:
    shape = objective.data.input_shape
    side = max(shape[1:]) if len(shape) == 3 else 0
    return Axes(
        epochs=(1, EPOCHS),
        subset=(0.25, 1.0),
        resolution=(max(1, side // 2), side) if side > 8 else None,
        width=(0.5, 1.0),
        depth=(0.5, 1.0),
    )


def _values(axis: Axis) -> list[float]:
    """The reduced values of an axis that are measured."""
    values = axis.values if axis.listed else (axis.low, axis.at(0.5))
    return [v for v in dict.fromkeys(values) if v != axis.high]


def _short(axis: Axis) -> list[int]:
    """The numbers of epochs, below all of them, that are looked at; they cost nothing more."""
    if axis.name != "epochs":
        return []
    values = axis.values if axis.listed else [axis.at(k / 4) for k in range(4)]
    return [int(v) for v in dict.fromkeys(values) if v != axis.high]


def _epochs_row(
    axes: Axes, epochs: int, full: Sequence[_Run], losses: Floats, rng: np.random.Generator
) -> Reduced:
    cheap = np.array([run.losses[epochs - 1] for run in full])
    share = epochs / axes.full.epochs
    return Reduced("epochs", epochs, share, share, *_correlations(cheap, losses, rng))


def _correlations(
    cheap: Floats, losses: Floats, rng: np.random.Generator
) -> tuple[RankCorrelation, RankCorrelation]:
    best = top(losses)
    # Among so few that "the best" are most of them, it would say the same again.
    among = rank_correlation(cheap[best], losses[best], rng) if len(losses) >= 2 * LEAST_TOP else _UNKNOWN
    return rank_correlation(cheap, losses, rng), among


def _parameters(space: SpaceLike, params: Mapping[str, Any]) -> float:
    try:
        return float(space.count(params).parameters)
    except ValueError:
        return math.nan


def _check(n: int, budget: float, seed: int, axes: Axes | None) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 3:
        raise ValueError(f"n={n!r}: must be a whole number of at least 3, better 8.")
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 1 <= budget < math.inf:
        raise ValueError(f"budget={budget!r}: must be a number of full evaluations, at least 1.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed={seed!r}: must be a whole number of at least 0.")
    if axes is None:
        return
    if not isinstance(axes, Axes):
        raise ValueError(f"axes={axes!r}: must be fidelity.Axes(epochs=(1, 9), ...), or None.")
    foreign = [axis.name for axis in axes.axes if axis.name not in AXIS_NAMES]
    if foreign:
        raise ValueError(f"axes: training does not apply {foreign}. Use some of {', '.join(AXIS_NAMES)}.")
    if not any(axis.low < axis.high for axis in axes.axes):
        raise ValueError(f"axes={axes!r}: nothing can be reduced. Give a range, such as epochs=(1, 9).")


# -- recommending --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rungs from reduced evaluations to full ones, as a recommendation weighs them."""

    axes: Axes
    reduced: int
    """How many axes it reduces."""
    costs: tuple[float, ...]
    """Of an evaluation from scratch on each rung, measured, relative to a full one."""
    paid: tuple[float, ...]
    """The part of it that is trained anew when a trial comes from the rung below."""
    correlations: tuple[float, ...]
    """Of a normal quality with the value on each rung."""

    @property
    def size(self) -> int:
        """Trials of a bracket."""
        return int(3 ** (len(self.costs) - 1))

    def kept(self, rung: int) -> int:
        """Trials of a bracket that reach a rung."""
        return max(1, self.size // int(3**rung))

    def brackets(self, budget: float) -> int:
        """How many brackets a budget pays for, one at least."""
        cost = sum(self.kept(k) * c * p for k, (c, p) in enumerate(zip(self.costs, self.paid, strict=True)))
        return max(1, int(budget / cost))

    def quality(self, budget: float, rng: np.random.Generator) -> float:
        """Expected quality, in standard deviations, of the best fully evaluated trial that it finds."""
        brackets = min(self.brackets(budget), 1000)
        games = max(10, min(_GAMES, int(_MOST_DRAWN / (brackets * self.size))))
        true = rng.normal(size=(games, brackets, self.size))
        for k, r in enumerate(self.correlations[:-1]):
            seen = r * true + math.sqrt(1 - r * r) * rng.normal(size=true.shape)
            best = np.argsort(-seen, axis=2)[:, :, : self.kept(k + 1)]
            true = np.take_along_axis(true, best, axis=2)
        return float(true.max(axis=(1, 2)).mean())


def recommended(
    axes: Axes, reduced: Sequence[Reduced], size: float, budget: float, rng: np.random.Generator
) -> Ladder:
    """The ladder whose searches, played with normal qualities, find the best network for a budget.

    Of ladders that are equally good the one that reduces fewest axes; its lowest rung ranks better than the
    number of parameters does, and keeps a tau of 0.3.

    Args:
        axes: what may be reduced.
        reduced: values of these axes with their cost and correlation; correlations multiply.
        size: the tau of the number of parameters (:func:`trusted`).
        budget: in full evaluations.
        rng: plays the searches.
    """
    options = [
        [None, *(r for r in reduced if r.axis == axis.name)] for axis in axes.axes if axis.low < axis.high
    ]
    full = Ladder(_narrowed(axes, ()), 0, (1.0,), (1.0,), (1.0,))
    found = [(full.quality(budget, rng), full)]
    for combination in itertools.product(*options):
        chosen = tuple(r for r in combination if r is not None)
        ladder = _ladder(axes, chosen, size) if chosen else None
        if ladder is not None:
            found.append((ladder.quality(budget, rng), ladder))
    best = max(quality for quality, _ in found)
    equal = [
        (ladder.reduced, -quality, i) for i, (quality, ladder) in enumerate(found) if quality >= best - _ALIKE
    ]
    return found[min(equal)[2]][1]


def _ladder(axes: Axes, chosen: Sequence[Reduced], size: float) -> Ladder | None:
    """The ladder from these values up to full fidelity; None if it would not be one, or misleads."""
    narrowed = _narrowed(axes, chosen)
    rungs = SuccessiveHalving().rungs(narrowed)
    tau = math.prod(trusted(r.all) for r in chosen)
    if len(rungs) < 2 or tau <= max(size, _LEAST):
        return None
    lowest = math.prod(r.measured for r in chosen)
    if not 0 < lowest < 1:
        return None
    costs, paid, correlations = [], [], []
    for k, rung in enumerate(rungs):
        # Cost and loss grow evenly, on their scales, along the way to full fidelity.
        nominal = narrowed.nominal_cost(rung)
        position = 1 - math.log(nominal) / math.log(narrowed.nominal_cost(narrowed.lowest))
        costs.append(lowest ** (1 - position))
        correlations.append(math.sin(math.pi / 2 * tau) ** (1 - position))
        done = narrowed.carried_epoch(rungs[k - 1].epochs, rungs[k - 1], rung) if k else 0
        paid.append(1 - done / rung.epochs)
    return Ladder(narrowed, len(chosen), tuple(costs), tuple(paid), tuple(correlations))


def trusted(correlation: RankCorrelation) -> float:
    """What is relied on of a correlation measured on few networks."""
    return max(0.0, (correlation.tau + correlation.low) / 2) if correlation else 0.0


def _narrowed(axes: Axes, chosen: Sequence[Reduced]) -> Axes:
    """The axes from the chosen values upwards; those that are not reduced stay at their full value."""
    lowest = {r.axis: r.value for r in chosen}
    data = axes.to_dict()
    for axis in axes.axes:
        low = lowest.get(axis.name, axis.high)
        if low == axis.high == 1 and axis.name != "epochs":
            del data["axes"][axis.name]  # what an absent axis reads
        elif axis.listed or low == axis.high:
            data["axes"][axis.name] = {"values": [v for v in axis.values if v >= low], "listed": True}
        else:
            data["axes"][axis.name] = {"values": [low, axis.high], "listed": False}
    return Axes.from_dict(data)
