"""A forest of random trees that predicts distributions; knows rows and groups of rows, no learning curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.intp]

# Each tree leaves out every FOLDS-th group, so that each group is predicted by trees that never saw it.
FOLDS = 3
_LEAF = 5
_ATOMS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What a forest says of rows it is asked about and of its own, each as equally likely numbers."""

    asked: Floats
    """(n, trees · atoms)."""
    own: Floats
    """(m, trees / FOLDS · atoms) by the trees that never saw the row's group."""


def forecast(
    X: Floats, y: Floats, targets: Floats, groups: Ints, asked: Floats, trees: int, rng: np.random.Generator
) -> Forecast:
    """Grow extremely randomised trees and read the distribution of ``y`` from their leaves.

    Quantile regression forests (Meinshausen, JMLR 2006) on extremely randomised trees (Geurts, Ernst,
    Wehenkel, Machine Learning 2006): a leaf stands for the values of ``y`` in it, a forest for the mixture
    of the leaves a row falls into.

    Args:
        X: (m, d) features.
        y: (m,) what to predict.
        targets: (m, k) what splits are chosen by: a leaf should hold rows that are equal in these.
        groups: (m,) rows of one group are never independent.
        asked: (n, d) rows to predict.
        trees: how many; a multiple of FOLDS.
        rng: draws the groups left out, and the trees.
    """
    from sklearn.tree import ExtraTreeRegressor

    both = np.concatenate([X, asked]).astype(np.float32)
    known = both[: len(y)]
    names, member = np.unique(groups, return_inverse=True)
    said, own = [], np.empty((len(y), trees // FOLDS, _ATOMS))
    for round_ in range(trees // FOLDS):
        fold = rng.permutation(len(names))[member] % FOLDS
        for left_out in range(FOLDS):
            out = fold == left_out
            # Of a single group there is nothing else to learn from.
            rows = np.flatnonzero(~out) if len(names) > 1 and not out.all() else np.arange(len(y))
            tree = ExtraTreeRegressor(min_samples_leaf=_LEAF, random_state=int(rng.integers(2**31)))
            tree.fit(known[rows], targets[rows], check_input=False)
            at = tree.apply(both, check_input=False)
            leaves = _leaves(at[rows], y[rows], tree.tree_.node_count)
            said.append(leaves[at[len(y) :]])
            own[out, round_] = leaves[at[: len(y)][out]]
    return Forecast(np.concatenate(said, axis=1), own.reshape(len(y), -1))


def _leaves(leaf: Ints, y: Floats, nodes: int) -> Floats:
    """(nodes, atoms) evenly spaced quantiles of ``y`` in each leaf; rows of inner nodes mean nothing."""
    order = np.lexsort((y, leaf))
    values = y[order]
    counts = np.bincount(leaf, minlength=nodes)
    starts = np.cumsum(counts) - counts
    at = (np.arange(_ATOMS) + 0.5) / _ATOMS * counts[:, None] - 0.5
    at = np.clip(at, 0, np.maximum(counts - 1, 0)[:, None])
    low = np.floor(at).astype(np.intp)
    first = np.minimum(starts[:, None] + low, len(y) - 1)
    second = np.minimum(first + 1, len(y) - 1)
    found: Floats = values[first] + (at - low) * (values[second] - values[first])
    return found
