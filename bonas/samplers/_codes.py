"""Configurations of a space as rows of numbers, in batches, for samplers that score many; knows no method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spaces.configspace import describe, draw_column, random_state
from spaces.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fidelity.records import TrialRecord
    from spaces import Space
    from spaces.table import Codes


class Coded:
    """A space's table of codes (see :mod:`spaces.table`) with draws from its priors.

    What it remembers are the codes of trials, a function of their params alone.

    Args:
        space: the study's space.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.description = describe(space.configuration_space)
        self.table = Table(self.description)
        self._parts = [space.configuration_space[name] for name in self.table.names]
        self._rows: dict[int, tuple[Any, Codes]] = {}

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """``n`` independent draws from every prior, whatever conditions and clauses say; shape (n, p)."""
        state = random_state(rng)
        table = np.empty((n, len(self._parts)))
        for column, (part, domain) in enumerate(zip(self._parts, self.table.domains, strict=True)):
            codes = draw_column(part, n, state)
            # A logarithm and back may leave the range by a rounding error.
            table[:, column] = np.clip(codes, domain.low, domain.high)
        return table

    def sample(self, n: int, rng: np.random.Generator) -> Codes:
        """``n`` configurations drawn from the priors, conditions and clauses respected; shape (n, p)."""
        return self.table.sample(n, lambda m: self.draw(m, rng), rng)

    def params(self, row: Codes) -> dict[str, Any]:
        """The canonical params of one row, shape (p,)."""
        return self.table.decode(row[None])[0]

    def trials(self, trials: Iterable[TrialRecord]) -> Codes:
        """The codes of trials, shape (n, p), each computed once."""
        rows = []
        for trial in trials:
            params, row = self._rows.get(trial.number, (None, None))
            if row is None or params != trial.params:
                row = self.table.codes([trial.params])[0]
                self._rows[trial.number] = (trial.params, row)
            rows.append(row)
        return np.stack(rows) if rows else np.empty((0, len(self._parts)))
