"""What trials were and came to, as arrays, each record read once; knows records and codes, no method.

Reading ten thousand records for every ask would take longer than everything else. Records are frozen: one
that is the same object as before says what it said before.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas.samplers._base import found_infeasible
from bonas.samplers._ranking import reached
from fidelity.records import TrialState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from fidelity.records import StudyView, TrialRecord

    Floats = NDArray[np.float64]
    Ints = NDArray[np.intp]


class Kind(IntEnum):
    """What a trial tells."""

    WAITING = 0  # still without a value
    VALUED = 1
    FAILED = 2
    INFEASIBLE = 3
    COUNTED = 4  # infeasible for what can be counted: nothing need be learned of it


class Facts:
    """The trials of one view, in its order.

    Args:
        encode: configurations to rows of numbers, shape (n, p): a function of each configuration alone.
    """

    def __init__(self, encode: Callable[[Sequence[Mapping[str, Any]]], NDArray[Any]]) -> None:
        self._encode = encode
        self._asked: tuple[Any, ...] = ()
        self._records: list[TrialRecord] = []
        self.kinds: Ints = np.empty(0, dtype=np.intp)
        """:class:`Kind` of each trial, shape (n,)."""
        self.far: Floats = np.empty(0)
        """How far each was evaluated (:func:`~bonas.samplers._ranking.reached`); NaN without a value."""
        self.losses: Floats = np.empty((0, 0))
        """Its latest losses, shape (n, metrics); NaN without a value."""
        self.rows: NDArray[Any] = encode([])
        """Its encoded configuration, shape (n, p)."""

    def update(self, view: StudyView) -> None:
        """Make these the facts of a view; what was read of the same records before is kept."""
        asked = (view.metric_names, view.directions, view.bounds, view.axes)
        if len(asked) != len(self._asked) or any(
            a is not b and a != b for a, b in zip(asked, self._asked, strict=True)
        ):
            self._asked, self._records = asked, []
            self.losses = np.empty((0, len(view.metric_names)))
        trials = list(view.trials)
        n, kept = len(trials), min(len(self._records), len(trials))
        new = [i for i in range(kept) if trials[i] is not self._records[i]] + list(range(kept, n))
        self.kinds = _resized(self.kinds, kept, n)
        self.far = _resized(self.far, kept, n)
        self.losses = _resized(self.losses, kept, n)
        self.rows = _resized(self.rows, kept, n)
        self._records = trials
        if not new:
            return
        read = [trials[i] for i in new]
        kinds = [_kind(view, trial) for trial in read]
        self.kinds[new] = kinds
        self.far[new], self.losses[new] = np.nan, np.nan
        self.rows[new] = self._encode([trial.params for trial in read])
        valued = [k for k, kind in enumerate(kinds) if kind is Kind.VALUED]
        at = [new[k] for k in valued]
        self.far[at] = reached(view, [read[k] for k in valued])
        losses = np.array([view.losses(read[k]) for k in valued])
        self.losses[at] = losses.reshape(len(at), len(view.metric_names))


def _kind(view: StudyView, trial: TrialRecord) -> Kind:
    if trial.state is TrialState.INFEASIBLE:
        return Kind.INFEASIBLE if found_infeasible(view, trial) else Kind.COUNTED
    if trial.state is TrialState.FAIL:
        return Kind.FAILED
    values = trial.values
    return Kind.VALUED if all(name in values for name in view.metric_names) else Kind.WAITING


def _resized(array: NDArray[Any], kept: int, n: int) -> NDArray[Any]:
    """``n`` rows, of which the first ``kept`` are those of ``array`` and the others are to be filled."""
    if len(array) == n:
        return array
    resized = np.zeros((n, *array.shape[1:]), dtype=array.dtype)
    resized[:kept] = array[:kept]
    return resized
