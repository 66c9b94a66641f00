"""What earlier studies say of a configuration, and how far to believe them; knows numbers, no search.

Glossary:
    belief   what one earlier study predicts of a configuration at full fidelity, on the normal scale of that
             study: smaller is better, 0 is its median
    weight   how far an earlier study is believed: the slope of this study's scores over its beliefs
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy.optimize import nnls

from bonas.gaussian_process import GaussianProcess

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    from fidelity.records import Earlier

    Floats = NDArray[np.float64]
    Inputs = NDArray[np.float32]

# Before this study has seen anything the weights of all earlier ones add up to so much, and it takes about
# as many observations as the strength says to change that by half.
_PRIOR_WEIGHT, _PRIOR_STRENGTH = 0.5, 5.0
# Where a search ended it has evaluated much the same again and again. Of what lies within this share of the
# median distance from the best, one is enough to learn whether it is good here too.
_APART = 0.1


class Encodes(Protocol):
    """Turns configurations of a space into rows of numbers."""

    n_parameters: int
    """How many of its columns, the first ones, encode hyperparameters."""

    def __call__(self, configurations: Sequence[Mapping[str, Any]], /) -> Inputs:
        """Shape (n, d)."""

    def groups(self, n_columns: int, /) -> NDArray[np.intp]:
        """Which columns belong together, shape (n_columns,)."""


class Beliefs:
    """A Gaussian process for every earlier study and metric, fitted to what that study knew at its end.

    Args:
        encoder: of this study's space.
        earlier: what was learned before, at least one study.
        metric_names: of this study.
    """

    def __init__(self, encoder: Encodes, earlier: Sequence[Earlier], metric_names: Sequence[str]) -> None:
        self._models: list[list[GaussianProcess | None]] = []
        self._best: list[list[Mapping[str, Any]]] = []
        for study in earlier:
            X = encoder(study.params)
            groups, rng = encoder.groups(X.shape[1]), np.random.default_rng(0)
            self._models.append(
                [
                    GaussianProcess(
                        X, np.array(study.scores[name]), groups, rng, n_marked=encoder.n_parameters
                    )
                    if name in study.scores
                    else None
                    for name in metric_names
                ]
            )
            equal = np.full(len(metric_names), 1 / len(metric_names))
            order = np.argsort(_believed(self._models[-1], X, equal), kind="stable")
            order = _spread(X[:, : encoder.n_parameters], order)
            self._best.append([study.params[i] for i in order.tolist()])

    def predict(self, encoded: Inputs, weights: Floats) -> Floats:
        """What every earlier study believes of encoded configurations, shape (n, earlier studies).

        Args:
            encoded: shape (n, d).
            weights: of the metrics, shape (k,), summing to 1. Of a metric that an earlier study did not
                have it believes that everything is as its median.
        """
        return np.stack([_believed(models, encoded, weights) for models in self._models], axis=1)

    def best(self, turn: int) -> Sequence[Mapping[str, Any]]:
        """The configurations of one earlier study, the best and different ones first; each in its turn."""
        return self._best[turn % len(self._best)]

    def leading(self, n: int) -> list[dict[str, Any]]:
        """``n`` different configurations that each earlier study believes good."""
        return [dict(params) for best in self._best for params in best[:n]]


def agreement(beliefs: Floats, scores: Floats, groups: Sequence[Hashable]) -> Floats:
    """How far each earlier study is to be believed, from what this one has seen.

    Non-negative ridge regression of the scores on the beliefs, towards one weight for all: what disagrees
    gets no weight, what agrees as much as the evidence bears (the aim of Feurer et al. 2018, RGPE, who rank
    by held-out predictions). Only differences within a group count: fidelities are not compared.

    Args:
        beliefs: of the configurations observed, shape (n, e).
        scores: what was observed, on the normal scale, shape (n,).
        groups: n labels, the same where scores are comparable.

    Returns:
        weights, shape (e,), at least 0.
    """
    e = beliefs.shape[1]
    x, y = np.array(beliefs, dtype=np.float64), np.array(scores, dtype=np.float64)
    labels = list(groups)
    for label in set(labels):
        rows = np.array([other == label for other in labels])
        x[rows] -= x[rows].mean(axis=0)
        y[rows] -= y[rows].mean()
    root = np.sqrt(_PRIOR_STRENGTH)
    weights, _ = nnls(
        np.concatenate([x, root * np.eye(e)]),
        np.concatenate([y, np.full(e, root * _PRIOR_WEIGHT / e)]),
    )
    return np.asarray(weights, dtype=np.float64)


def _spread(X: Inputs, order: NDArray[np.intp]) -> NDArray[np.intp]:
    """The rows in this order, but what is next to an earlier one after all that is not; shape (n,)."""
    apart = _APART * float(np.median(np.abs(X - X[order[0]]).mean(axis=1)))
    nearest = np.full(len(X), np.inf)
    first: list[int] = []
    for i in order.tolist():
        if nearest[i] > apart:
            first.append(i)
            nearest = np.minimum(nearest, np.abs(X - X[i]).mean(axis=1))
    chosen = set(first)
    return np.array(first + [i for i in order.tolist() if i not in chosen], dtype=np.intp)


def _believed(models: Sequence[GaussianProcess | None], X: Inputs, weights: Floats) -> Floats:
    total = np.zeros(len(X))
    for model, weight in zip(models, weights, strict=True):
        if model is not None:
            total += weight * model.predict(X)[0]
    return total
