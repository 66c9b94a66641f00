"""Which row of a table lies nearest to a configuration; knows spaces and rows, no values or methods."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bonas.spaces import Space

    Floats = np.ndarray[Any, np.dtype[np.float64]]


class Rows:
    """The configurations of a table.

    Args:
        space: they are of; its ``configuration_space`` is ConfigSpace's.
        rows: active hyperparameters only, plain values.
    """

    def __init__(self, space: Space, rows: Sequence[Mapping[str, Any]]) -> None:
        self._space, self._rows = space, rows

    def find(self, params: Mapping[str, Any]) -> int | None:
        """The row of a configuration, the first of equal ones; None if it is not in the table.

        Raises:
            ValueError: if ``params`` is no configuration of the space.
        """
        own = self._index.get(frozenset(params.items()))
        if own is None:
            own = self._index.get(frozenset(self._space.validate(params).items()))
        return own

    def distances(self, params: Mapping[str, Any]) -> Floats:
        """From a configuration to every row, shape (rows,).

        The distance is the mean over hyperparameters of their differences in [0, 1], 1 between categories and
        between active and inactive ones.
        """
        numbers, codes = self._split(self._space.encode([self._space.validate(params)]))
        rows, row_codes = self._table
        difference = np.abs(rows - numbers)
        inactive = np.isnan(rows), np.isnan(numbers)
        difference[inactive[0] ^ inactive[1]] = 1
        difference[inactive[0] & inactive[1]] = 0
        total = difference.sum(axis=0) + (row_codes != codes).sum(axis=0, dtype=np.int16)
        # Rounded: equal distances are to be equal, whatever the order of their parts.
        distances: Floats = np.round(total / (len(numbers) + len(codes)), 12)
        return distances

    @cached_property
    def _index(self) -> dict[frozenset[tuple[str, Any]], int]:
        return {frozenset(self._rows[i].items()): i for i in range(len(self._rows) - 1, -1, -1)}

    @cached_property
    def _columns(self) -> tuple[np.ndarray, Floats, np.ndarray]:
        """Of each hyperparameter the first encoded column, whether it is a category; weights of columns."""
        names = [name.split("=")[0] for name in self._space.encode_names]
        starts = np.array(
            [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]], dtype=np.intp
        )
        category = np.array(["=" in self._space.encode_names[i] for i in starts], dtype=bool)
        position = np.arange(len(names)) - np.repeat(starts, np.diff([*starts, len(names)]))
        return starts, position + ~np.repeat(category, np.diff([*starts, len(names)])), category

    def _split(self, encoded: Floats) -> tuple[Floats, np.ndarray]:
        """Numbers, NaN where inactive, and codes of categories, −1 where inactive; a line for each name."""
        starts, weights, category = self._columns
        each = np.add.reduceat(encoded * weights, starts, axis=1).T
        return each[~category], np.nan_to_num(each[category], nan=-1).astype(np.int16)

    @cached_property
    def _table(self) -> tuple[Floats, np.ndarray]:
        numbers, codes = self._split(self._space.encode(self._rows))
        return np.ascontiguousarray(numbers), np.ascontiguousarray(codes)
