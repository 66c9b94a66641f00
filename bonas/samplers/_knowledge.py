"""What earlier studies are worth to a sampler without a surrogate of its own; knows records, no method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bonas.earlier import agreement
from bonas.samplers._ranking import reached, valued
from bonas.surrogate import Encoder, normal_scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from fidelity.records import StudyView
    from spaces import Space


class Knowledge:
    """The beliefs of earlier studies about one space.

    Args:
        space: the study's space.
        view: its records, which hold what it was told.
    """

    def __init__(self, space: Space, view: StudyView) -> None:
        self._encoder = Encoder(space)
        beliefs = self._encoder.beliefs(view)
        assert beliefs is not None
        self._beliefs, self._earlier = beliefs, view.earlier
        self._metrics = np.full(len(view.metric_names), 1 / len(view.metric_names))

    def of(self, space: Space, view: StudyView) -> bool:
        """Whether this is what another study of these was told."""
        return self._encoder.space is space and self._earlier is view.earlier

    def best(self, turn: int) -> Sequence[Mapping[str, Any]]:
        """The configurations of one earlier study, the best and different ones first; each in its turn."""
        return self._beliefs.best(turn)

    def leading(self, n: int) -> list[dict[str, Any]]:
        """``n`` different configurations that each earlier study believes good."""
        return self._beliefs.leading(n)

    def losses(self, view: StudyView, configurations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """What is believed of configurations, as far as the trials bear it out; smaller is better.

        Args:
            view: the study's records, with a value at least.
            configurations: n canonical ones.

        Returns:
            shape (n,), on the normal scale; 0 where the trials disagree with every earlier study.
        """
        trials = valued(view)
        seen = self._encoder.remembered([trial.params for trial in trials])
        losses = np.array([view.losses(trial) for trial in trials])
        scores = np.stack([normal_scores(column) for column in losses.T], axis=1) @ self._metrics
        weights = agreement(self._beliefs.predict(seen, self._metrics), scores, reached(view, trials))
        believed: NDArray[np.float64] = (
            self._beliefs.predict(self._encoder(configurations), self._metrics) @ weights
        )
        return believed
