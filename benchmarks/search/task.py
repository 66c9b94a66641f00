"""A table of finished trainings as a problem to search: space, rows, values, regret; knows no search methods.

Glossary:
    row      one configuration of the table, with the values of its training runs
    seed     one of those training runs; an evaluation observes one of them, drawn at random
    true     a row's value without that luck: the mean over its seeds
    regret   of a row: what its true value lacks of the best row's, in the task's unit
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from _nearest import Rows

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from bonas.spaces import Space

    Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Task:
    """A table that answers for every configuration of a space, at full fidelity.

    A table of a *whole* space answers for the very configuration that was proposed. One of a *sample* answers
    for the nearest configuration it has that was not visited yet, and the method is told that configuration:
    so every method pays for, and learns, the same.

    Raises:
        ValueError: if rows and values do not fit each other.
    """

    name: str
    space: Space
    """The same for every method; its ``configuration_space`` is ConfigSpace's."""
    direction: str
    """``maximize`` or ``minimize``."""
    rows: Sequence[Mapping[str, Any]]
    """The configurations: active hyperparameters only, plain values."""
    values: Floats
    """One for each training run, shape (rows, seeds); NaN where there are fewer runs."""
    unit: str
    """Of regret, as axes and tables name it."""
    sampled: bool = False
    """Whether ``rows`` are a sample of the space, not all of it."""
    logarithmic: bool = False
    """Whether regret is measured on the scale of log10 of the value."""
    seconds: Floats | None = None
    """What training each row took, shape (rows,); None where the table does not say."""

    def __post_init__(self) -> None:
        if self.direction not in ("maximize", "minimize"):
            raise ValueError(f"direction={self.direction!r}: must be 'maximize' or 'minimize'.")
        if self.values.ndim != 2 or len(self.values) != len(self.rows):
            raise ValueError(
                f"values of shape {self.values.shape} for {len(self.rows)} rows: must be (rows, seeds)."
            )
        if not np.isfinite(self.values).any(axis=1).all():
            raise ValueError("values: every row needs at least one finite value. Leave the others out.")

    def __len__(self) -> int:
        return len(self.rows)

    # What a search does ------------------------------------------------------------------------------

    def row(self, params: Mapping[str, Any], visited: Collection[int] = ()) -> int:
        """The row that answers for a configuration.

        Args:
            params: a configuration of the space, active hyperparameters only.
            visited: rows evaluated so far. In the table of a whole space they answer again; in that of a
                sample each answers once.

        Returns:
            its own row; in a sample otherwise the nearest row that was not visited, the lowest of several:
            the distance is the mean over hyperparameters of their differences in [0, 1], 1 between
            categories and between active and inactive ones.

        Raises:
            ValueError: if ``params`` is no configuration of the space, or no row is left.
        """
        own = self._rows.find(params)
        if own is not None and not (self.sampled and own in visited):
            return own
        if not self.sampled:
            raise ValueError(f"{self.name}: has no row for {dict(params)}.")
        if len(set(visited)) == len(self):
            raise ValueError(f"{self.name}: all {len(self)} rows are visited. Ask for fewer evaluations.")
        distances = self._rows.distances(params)
        distances[list(visited)] = np.inf
        return int(distances.argmin())

    def params(self, row: int) -> dict[str, Any]:
        """The configuration of a row."""
        return dict(self.rows[row])

    def draw(self, row: int, rng: np.random.Generator) -> int:
        """Which training run of a row an evaluation observes: a column of ``values``."""
        return int(rng.choice(np.flatnonzero(np.isfinite(self.values[row]))))

    def observe(self, row: int, rng: np.random.Generator) -> float:
        """The value of one training run of a row, drawn at random where there are several."""
        return float(self.values[row, self.draw(row, rng)])

    # How good it was ---------------------------------------------------------------------------------

    def true(self, rows: int | Sequence[int]) -> Floats:
        """Mean over the training runs of each row, shape of ``rows``."""
        return self._true[rows]

    def regret(self, rows: int | Sequence[int]) -> Floats:
        """What the true value of each row lacks of the best one's, at least 0, in ``unit``."""
        return self._regret[rows]

    @cached_property
    def scale(self) -> float:
        """Regret of the median row, by which the regrets of different tasks can be compared."""
        return float(np.median(self._regret))

    @cached_property
    def _true(self) -> Floats:
        return np.nanmean(self.values, axis=1, dtype=np.float64)

    @cached_property
    def _regret(self) -> Floats:
        losses = np.log10(self._true) if self.logarithmic else self._true
        losses = losses if self.direction == "minimize" else -losses
        return losses - losses.min()

    @cached_property
    def _rows(self) -> Rows:
        return Rows(self.space, self.rows)
