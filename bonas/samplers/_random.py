"""Random search: independent draws from the space's prior; knows nothing of what was observed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bonas.samplers._base import draw_new, seen_keys

if TYPE_CHECKING:
    import numpy as np

    from fidelity.records import StudyView
    from spaces import Space


class RandomSampler:
    """Draws configurations from the space's prior, none of them twice.

    Args:
        seed: seed of the draws; the study's if None.
    """

    def __init__(self, *, seed: int | None = None) -> None:
        self.seed = seed

    def __repr__(self) -> str:
        return f"RandomSampler(seed={self.seed})"

    def sample(self, space: Space, view: StudyView, rng: np.random.Generator) -> dict[str, Any] | None:
        """A prior draw with a key of its own, or None once a finite space is used up."""
        return draw_new(space, seen_keys(view), rng)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings."""
        return {"name": "RandomSampler", "seed": self.seed}
