"""Schedules nobody would ask for by name, to be beaten; knows records and costs only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fidelity.records import TrialState
from fidelity.schedulers import Resume, Start, Wait
from fidelity.schedulers.base import wait_or_done

if TYPE_CHECKING:
    import numpy as np

    from fidelity.records import StudyView
    from fidelity.schedulers import Action


@dataclass(frozen=True, slots=True)
class OneEpoch:
    """All of a batch at the lowest fidelity, the best few of them to the end; then the next batch.

    Many published methods do not beat it (Egele et al. 2023, arXiv 2307.15422).
    """

    n: int = 100
    """Trials of a batch."""
    best: int = 3
    """Of them that go on."""

    def decide(self, view: StudyView, rng: np.random.Generator) -> Action:
        """Fill the batch, wait for it, promote from it, begin another."""
        lowest, full = view.axes.lowest, view.axes.full
        begun = len(view.trials) % self.n
        may_start = view.starts_left > 0 and view.fits(lowest)
        if begun and may_start:
            return Start(lowest)
        batch = view.trials[-begun if begun else -self.n :]
        if any(t.state == TrialState.RUNNING and t.fidelity != full for t in batch):
            return Wait()
        waiting = [t for t in batch if t.state == TrialState.PAUSED and t.values]
        if waiting and sum(t.fidelity == full for t in batch) < self.best:
            first = view.ranked(waiting)[0]
            if view.fits(full, first):
                return Resume(first, full)
        return Start(lowest) if may_start else wait_or_done(view)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description."""
        return {"name": "OneEpoch", "n": self.n, "best": self.best}
