"""Which of a study's records are not those that were read before; knows nothing of what is read from them.

Reading a thousand records for every decision would take longer than everything else. Records are frozen: one
that is the same object as before says what it said before.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fidelity.records import TrialRecord


class Changes:
    """Tells by their positions which records were not read before."""

    def __init__(self) -> None:
        self._of: Any = None
        # Held, so that their identities stay their own.
        self._records: tuple[TrialRecord, ...] = ()

    def since(self, records: Sequence[TrialRecord], of: Any = None) -> list[int]:
        """The positions that hold other records than those read, or where there were none; in order.

        Args:
            records: now.
            of: what else is read from depends on; with another one than before everything has changed.
        """
        before = self._records if of == self._of else ()
        changed = list(itertools.compress(itertools.count(), map(operator.is_not, before, records)))
        return changed + list(range(len(before), len(records)))

    def read(self, records: Sequence[TrialRecord], of: Any = None) -> None:
        """These were read, all that had changed; to be called once they were."""
        self._of, self._records = of, tuple(records)


def resized(array: NDArray[Any], n: int) -> NDArray[Any]:
    """The first ``n`` rows of an array, of which further ones are to be filled."""
    if len(array) == n:
        return array
    kept = min(len(array), n)
    made = np.zeros((n, *array.shape[1:]), dtype=array.dtype)
    made[:kept] = array[:kept]
    return made
