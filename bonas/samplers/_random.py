"""Random search: independent draws from the space's prior; knows nothing of what was observed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bonas.samplers._base import Allowed, draw_new

if TYPE_CHECKING:
    import numpy as np

    from fidelity.records import StudyView
    from spaces import Space


class RandomSampler:
    """Draws from the space's prior, as far as it keeps what can be counted, nothing twice.

    Args:
        seed: seed of the draws; the study's if None.
    """

    def __init__(self, *, seed: int | None = None) -> None:
        self.seed = seed

    def __repr__(self) -> str:
        return f"RandomSampler(seed={self.seed})"

    def sample(self, space: Space, view: StudyView, rng: np.random.Generator) -> dict[str, Any] | None:
        """A prior draw with a key of its own, or None once a finite space is used up."""
        return draw_new(space, Allowed(space, view), rng)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings."""
        return {"name": "RandomSampler", "seed": self.seed}
