"""Every evaluation a full one; knows nothing of curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fidelity.records import StudyView
from fidelity.schedulers.base import Action, Start, wait_or_done


@dataclass(frozen=True, slots=True)
class FullFidelity:
    """Start every configuration at full fidelity: black-box optimization, and the baseline of all others."""

    def decide(self, view: StudyView, rng: np.random.Generator) -> Action:
        """Start while ``n_trials`` and the budget allow it."""
        full = view.axes.full
        if view.starts_left > 0 and view.fits(full):
            return Start(full)
        return wait_or_done(view)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description."""
        return {"name": "FullFidelity"}
