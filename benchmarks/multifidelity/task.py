"""A table of learning curves as a problem to search by the epoch; knows no schedulers and no search methods.

Glossary:
    row      one configuration of the table, with its learning curves
    run      one way to train a row: the fidelity of every epoch, and what was measured after each
    true     a row's value at full fidelity by which a search is graded, whatever the search saw
    regret   of a row: what its true value lacks of the best row's, 1 being that of the median row
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from _nearest import Rows

from fidelity.axes import Axes
from fidelity.records import Fidelity

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from bonas.spaces import Space

    Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Run:
    """One way in which every row was trained."""

    values: Floats
    """After each epoch, shape (rows, epochs); NaN from the epoch on at which the training diverged."""
    seconds: Floats | None = None
    """What each epoch took, of that shape; None where the table does not say."""
    history: tuple[Fidelity, ...] = ()
    """The fidelity of each epoch, its ``epochs`` being no part of it; empty for full fidelity throughout."""


@dataclass(frozen=True, eq=False)
class Task:
    """A table of learning curves that answers, epoch by epoch, for the configurations of a space.

    The table is a sample: the nearest row that was not visited yet answers, and the method is told that
    configuration. So every method pays for, and learns, the same. A training that diverges ends there: it
    costs the epochs until then and has no value after.

    Raises:
        ValueError: if rows, curves and true values do not fit each other.
    """

    name: str
    space: Space
    """The same for every method; its ``configuration_space`` is ConfigSpace's."""
    direction: str
    """``maximize`` or ``minimize``."""
    rows: Sequence[Mapping[str, Any]]
    """The configurations: active hyperparameters only, plain values."""
    axes: Axes
    """Those that were recorded."""
    runs: tuple[Run, ...]
    true: Floats
    """Shape (rows,), by which a search is graded; NaN for a row that ends without a value."""
    parameters: Floats | None = None
    """Of each row's network, shape (rows,), reported with every value; None where the table does not say."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What the report should say of it."""

    def __post_init__(self) -> None:
        if self.direction not in ("maximize", "minimize"):
            raise ValueError(f"direction={self.direction!r}: must be 'maximize' or 'minimize'.")
        shapes = {run.values.shape for run in self.runs}
        if len(shapes) != 1 or next(iter(shapes))[0] != len(self.rows) or len(self.true) != len(self.rows):
            raise ValueError(
                f"{len(self.rows)} rows, {len(self.true)} true values, curves of shapes {sorted(shapes)}: "
                "every run must be (rows, epochs), and every row needs a true value or NaN."
            )
        if next(iter(shapes))[1] != self.epochs:
            raise ValueError(f"curves of {next(iter(shapes))[1]} epochs: axes.full has {self.epochs}.")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def epochs(self) -> int:
        """Of a full evaluation."""
        return self.axes.full.epochs

    # What a search does ------------------------------------------------------------------------------

    def row(self, params: Mapping[str, Any], visited: Collection[int] = ()) -> int:
        """The row that answers for a configuration: the nearest of those not visited, the lowest of several.

        Raises:
            ValueError: if ``params`` is no configuration of the space, or no row is left.
        """
        own = self._rows.find(params)
        if own is not None and own not in visited:
            return own
        if len(visited) >= len(self):
            raise ValueError(f"{self.name}: all {len(self)} rows are visited. Ask for fewer evaluations.")
        distances = self._rows.distances(params)
        distances[list(visited)] = np.inf
        return int(distances.argmin())

    def nearest(self, params: Mapping[str, Any], n: int) -> list[int]:
        """The n rows nearest to a configuration, from the nearest on; its own row is not among them."""
        own = self._rows.find(params)
        if (own, n) not in self._near:
            order = np.argsort(self._rows.distances(params), kind="stable")[: n + 1].tolist()
            found = [row for row in order if row != own][:n]
            if own is None:
                return found
            self._near[own, n] = found
        return self._near[own, n]

    def params(self, row: int) -> dict[str, Any]:
        """The configuration of a row."""
        return dict(self.rows[row])

    def key(self, row: int) -> str:
        """``space.key`` of a row."""
        if row not in self._keys:
            self._keys[row] = self.space.key(self.rows[row])
        return self._keys[row]

    def train(
        self, row: int, before: Sequence[Fidelity], to: Fidelity
    ) -> tuple[list[float], list[float] | None]:
        """Train a row further.

        Args:
            row: which.
            before: the fidelity of each epoch its state has been trained for.
            to: fidelity of the epochs that follow, up to ``to.epochs``.

        Returns:
            values and seconds of these epochs; fewer values, but the seconds of one more epoch, if the
            training diverges; None for seconds the table does not know.

        Raises:
            ValueError: if nothing was recorded that was trained so.
        """
        values, seconds = self._lists(self._run(before, to), row)
        new = values[len(before) : to.epochs]
        finite = next((k for k, value in enumerate(new) if value != value), len(new))
        return new[:finite], None if seconds is None else seconds[len(before) : to.epochs][: finite + 1]

    def _run(self, before: Sequence[Fidelity], to: Fidelity) -> int:
        if len(self.runs) == 1 and not self.runs[0].history:
            return 0
        history = (*map(_beside, before), *[_beside(to)] * (to.epochs - len(before)))
        full = _beside(self.axes.full)
        for k, run in enumerate(self.runs):
            recorded = run.history or (full,) * self.epochs
            if tuple(map(_beside, recorded[: len(history)])) == history:
                return k
        raise ValueError(f"{self.name}: no training went through {history}.")

    def _lists(self, run: int, row: int) -> tuple[list[float], list[float] | None]:
        if (run, row) not in self._curves:
            of = self.runs[run]
            seconds = None if of.seconds is None else of.seconds[row].tolist()
            self._curves[run, row] = of.values[row].tolist(), seconds
        return self._curves[run, row]

    # How good it was ---------------------------------------------------------------------------------

    def regret(self, rows: int | Sequence[int]) -> Floats:
        """What the true value of each row lacks of the best one's, relative to the median row's.

        A row without a true value counts as the worst that has one.
        """
        return self._regret[rows]

    def lacking(self, values: float | Sequence[float]) -> Floats:
        """What values that were seen lack of the best in the table, relative to the range of all there."""
        seen = self._losses(np.concatenate([run.values.ravel() for run in self.runs]))
        low, high = np.nanmin(seen), np.nanmax(seen)
        return (self._losses(np.asarray(values, dtype=np.float64)) - low) / (high - low)

    @cached_property
    def mean_seconds(self) -> float:
        """Of a full evaluation; 1 where the table knows no seconds."""
        seconds = next((run.seconds for run in self.runs if not run.history), None)
        return 1.0 if seconds is None else float(np.nanmean(seconds) * self.epochs)

    def _losses(self, values: Floats) -> Floats:
        return values if self.direction == "minimize" else -values

    @cached_property
    def _regret(self) -> Floats:
        losses = self._losses(np.asarray(self.true, dtype=np.float64))
        best = np.nanmin(losses)
        scaled = (losses - best) / (np.nanmedian(losses) - best)
        return np.where(np.isnan(scaled), np.nanmax(scaled), scaled)

    @cached_property
    def _rows(self) -> Rows:
        return Rows(self.space, self.rows)

    @cached_property
    def _near(self) -> dict[tuple[int | None, int], list[int]]:
        return {}

    @cached_property
    def _keys(self) -> dict[int, str]:
        return {}

    @cached_property
    def _curves(self) -> dict[tuple[int, int], tuple[list[float], list[float] | None]]:
        return {}


@functools.lru_cache(maxsize=4096)
def _beside(fidelity: Fidelity) -> Fidelity:
    """The fidelity without its epochs, axes that are not used being full."""
    return dataclasses.replace(fidelity, epochs=1)
