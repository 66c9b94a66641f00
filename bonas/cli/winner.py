"""The winner of a search: retrain it, set it beside a hand-written network, export it, and say so in print."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bonas.study import Study
    from bonas.trial import FrozenTrial
    from fidelity.data import Data


@dataclass(frozen=True, slots=True)
class Winner:
    """The trial to trust, retrained or as the search left it."""

    trial: FrozenTrial
    retrained: bool
    seconds: float = 0.0
    """What retraining took."""

    @property
    def test_accuracy(self) -> float | None:
        """On the test data, which only a retrain touches."""
        return self.trial.user_attrs.get("test_accuracy") if self.retrained else None


def find(study: Study, objective: Any = None) -> Winner:
    """The recommended trial; with an objective retrained on train and validation data, and tested once.

    Raises:
        ValueError: if no trial has a value.
    """
    with warnings.catch_warnings():
        # Said in print instead: at which fidelity the winner was evaluated stands beside it.
        warnings.simplefilter("ignore", UserWarning)
        trial = study.recommend()
    if objective is None:
        return Winner(trial, retrained=False)
    clock = time.monotonic()
    again = study.retrain(objective, trial)
    return Winner(again, retrained=True, seconds=time.monotonic() - clock)
