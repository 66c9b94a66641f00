"""A space narrowed to the rows of a table; knows no curves and no search methods.

Where the nearest row answers for what was proposed, rows in the midst of the space answer oftener than
others, and what a model liked about a proposal need not be true of its answer. Samplers of bonas can be kept
to the rows instead, as published comparisons on such tables are made; other packages cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from multifidelity.task import Task


class Pool:
    """The space of a task, all of whose configurations are rows; in all else it is that space."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.size = float(len(task))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task.space, name)

    def sample(self, n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
        """Rows drawn alike."""
        return [self._task.params(int(row)) for row in rng.integers(len(self._task), size=n)]

    def neighbours(self, params: Mapping[str, Any], rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
        """The rows nearest to a configuration, itself not among them."""
        return [self._task.params(row) for row in self._task.nearest(params, n)]

    def enumerate(self) -> Iterator[dict[str, Any]]:
        """All rows."""
        return map(self._task.params, range(len(self._task)))
