"""Hyperband: brackets of successive halving that begin at every rung in turn; knows rungs and costs only.

Li, Jamieson, DeSalvo, Rostamizadeh & Talwalkar, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter
Optimization" (JMLR 18, 2018), algorithm 1. BOHB (Falkner, Klein & Hutter, ICML 2018) is Hyperband with a
model that proposes: ``Hyperband()`` beside ``bonas.samplers.TPESampler()``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fidelity.axes import Axes
from fidelity.records import Fidelity, StudyView
from fidelity.schedulers.base import Action
from fidelity.schedulers.brackets import Bracket, Brackets, check_ladder, ladder_of


@dataclass(frozen=True, slots=True)
class Hyperband:
    """Successive halving that begins at the lowest rung, then at the second, up to full fidelity, and again.

    The hedge against cheap evaluations that mislead: brackets that begin higher start fewer trials and trust
    them longer, and all brackets cost about the same. Where the lowest rung ranks well, most of that is
    wasted. A bracket shrinks to what ``n_trials`` and the budget still allow, and a promoted trial goes on
    from its checkpoint.

    Args:
        eta: a rung keeps one in ``eta`` trials, each at about ``eta`` times the cost. At least 2.
        n_rungs: use only the highest rungs of the ladder. None: all.
    """

    eta: int = 3
    n_rungs: int | None = None

    def __post_init__(self) -> None:
        check_ladder(self.eta, self.n_rungs)

    def rungs(self, axes: Axes) -> list[Fidelity]:
        """The ladder, cheapest first; the last is full fidelity."""
        return ladder_of(axes, self.eta, self.n_rungs)

    def decide(self, view: StudyView, rng: np.random.Generator) -> Action:
        """Fill the newest bracket, then promote from its lowest undecided rung, then begin another."""
        rungs = self.rungs(view.axes)
        return Brackets(view, rungs, self.eta).decide(lambda number: self._largest(len(rungs), number))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description."""
        return {"name": "Hyperband", "eta": self.eta, "n_rungs": self.n_rungs}

    def _largest(self, rungs: int, number: int) -> Bracket:
        """Bracket s = rungs − 1 − lowest of n = ⌈rungs · eta^s / (s + 1)⌉ trials (algorithm 1, line 3)."""
        lowest = number % rungs
        above = rungs - 1 - lowest
        size = -(-rungs * self.eta**above // (above + 1))
        return Bracket(number, size, lowest)
