"""What trials were and came to, as arrays, each record read once; knows records and codes, no method."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas.samplers._base import found_infeasible
from bonas.samplers._ranking import reached
from fidelity.changes import Changes, resized
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
        self._changes = Changes()
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
        trials, n = view.trials, len(view.trials)
        of = (view.metric_names, view.directions, view.bounds, view.axes)
        new = self._changes.since(trials, of)
        self.kinds, self.far, self.rows = (resized(a, n) for a in (self.kinds, self.far, self.rows))
        if self.losses.shape[1] != len(view.metric_names):
            self.losses = np.empty((n, len(view.metric_names)))
        self.losses = resized(self.losses, n)
        if new:
            self._read(view, new)
        self._changes.read(trials, of)

    def _read(self, view: StudyView, new: Sequence[int]) -> None:
        trials = view.trials
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
