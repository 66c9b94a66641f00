"""Regularized evolution: a good one of the latest trials, changed in one place; knows records alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bonas.samplers._base import Allowed, at_least, draw_new
from bonas.samplers._ranking import undominated, valued
from fidelity.records import TrialState

if TYPE_CHECKING:
    import numpy as np

    from fidelity.records import StudyView
    from spaces import Space

# Children drawn of one parent, and parents chosen, before a prior draw is taken instead.
_CHILDREN, _TOURNAMENTS = 16, 16


class EvolutionSampler:
    """Mutates the winner of a tournament among the latest trials (regularized evolution, Real et al. 2019).

    The population are the latest trials that ended with a value or failed: whoever is old dies, however good,
    so that a lucky value is not bred from for ever. A tournament draws some of the population, and its best
    is the parent. A child differs from its parent in one hyperparameter, of architecture or training: any
    other category, or a number near by; what the change activates is drawn from its prior. Unlike the
    original's, no child is evaluated twice: where a parent's children are known already another tournament
    is held.

    Trials at a higher fidelity win against those at a lower one. With several metrics the parent is one of
    the contestants that no other dominates. Failed trials age, but are never parents; infeasible ones never
    belong to the population.

    Args:
        population_size: how many of the latest trials may be parents; as many are drawn from the prior first.
        tournament_size: how many of them are compared for each child: 1 drifts, more are greedier.
        seed: seed of its randomness; the study's if None.

    Raises:
        ValueError: on a setting outside its range.
    """

    def __init__(
        self, *, population_size: int = 20, tournament_size: int = 5, seed: int | None = None
    ) -> None:
        at_least("population_size", population_size, 2, 20)
        at_least("tournament_size", tournament_size, 1, 5)
        if tournament_size > population_size:
            raise ValueError(
                f"tournament_size={tournament_size}: must not exceed population_size={population_size}."
            )
        self.population_size = population_size
        self.tournament_size = tournament_size
        self.seed = seed

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.to_dict().items() if k != "name")
        return f"EvolutionSampler({shown})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings."""
        return {
            "name": "EvolutionSampler",
            "population_size": self.population_size,
            "tournament_size": self.tournament_size,
            "seed": self.seed,
        }

    def sample(self, space: Space, view: StudyView, rng: np.random.Generator) -> dict[str, Any] | None:
        """An allowed child of a tournament's winner, at first a prior draw; None if there is none left."""
        allowed = Allowed(space, view)
        failed = {trial.number for trial in view.trials if trial.state is TrialState.FAIL}
        parents = [trial for trial in valued(view) if trial.number not in failed]
        ended = sorted(failed.union(trial.number for trial in parents))
        living = set(ended[-self.population_size :])
        population = [trial for trial in parents if trial.number in living]
        if len(ended) < self.population_size or not population:
            return draw_new(space, allowed, rng)
        size = min(self.tournament_size, len(population))
        for _ in range(_TOURNAMENTS):
            drawn = rng.choice(len(population), size=size, replace=False)
            best = undominated(view, [population[i] for i in drawn])
            parent = best[int(rng.integers(len(best)))]
            for child in space.neighbours(parent.params, rng, _CHILDREN):
                if allowed(child):
                    return child
        return draw_new(space, allowed, rng)
