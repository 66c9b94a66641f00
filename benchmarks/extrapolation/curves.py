"""Real learning curves as studies see them: some finished, most cut; knows tables, no extrapolators.

A study is a handful of finished curves, some that stopped anywhere, and held-out ones that are all cut at the
same fraction of the budget and whose ends are asked for.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import _tables
import numpy as np

FRACTIONS = (0.1, 0.2, 0.5)
LEAST_POINTS = 10
"""Curves of LCDB with fewer sample sizes are left out: a tenth of them would be less than a point."""

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Study:
    """Curves as they are known when their ends are asked for."""

    curves: list[Pair]
    """(epochs, values) of each: finished ones, partly finished ones, then those held out."""
    horizon: np.ndarray
    """(n,) where each of them ends."""
    truth: np.ndarray
    """(held,) the values there of the curves held out, which come last."""
    finished: np.ndarray
    """(n,) which of the curves are."""
    fraction: float
    """Of their horizons, at which those held out are cut."""
    rising: bool
    """Whether larger values are better."""

    @property
    def held(self) -> slice:
        return slice(len(self.curves) - len(self.truth), len(self.curves))


@cache
def _taskset() -> list[list[Pair]]:
    """One list of curves for each task: validation losses at checkpoints 1 to 50.

    In units of the loss before training, the median at checkpoint 0, and clipped there: losses explode to
    1e34, and whoever is above has learned nothing.
    """
    with np.load(_tables.folder("taskset_imdb_rnn") / "table.npz", allow_pickle=False) as table:
        losses = table["valid_loss"].astype(float)
    epochs = np.arange(1.0, 51.0)
    kept = [task[np.isfinite(task).all(1)] for task in losses]
    scaled = [np.minimum(task / np.median(task[:, 0]), 1.0)[:, 1:] for task in kept]
    return [[(epochs, curve) for curve in task] for task in scaled]


@cache
def _lcdb() -> list[list[Pair]]:
    """One list of all curves: validation accuracy over numbers of training examples."""
    with np.load(_tables.folder("lcdb_accuracy") / "table.npz", allow_pickle=False) as table:
        starts, sizes, accuracy = table["curve_ptr"], table["size_train"], table["valid_acc"]
    spans = [slice(a, b) for a, b in itertools.pairwise(starts) if b - a >= LEAST_POINTS]
    return [[(sizes[s].astype(float), accuracy[s].astype(float)) for s in spans]]


TABLES = {"TaskSet": _taskset, "LCDB": _lcdb}


def studies(table: str, seed: int, fraction: float, finished: int, partly: int, held: int) -> list[Study]:
    """One study for each task of a table, its curves drawn by the seed."""
    made = []
    for number, curves in enumerate(TABLES[table]()):
        rng = np.random.default_rng([seed, number])
        chosen = [curves[i] for i in rng.permutation(len(curves))[: finished + partly + held]]
        cut = []
        for k, (epochs, values) in enumerate(chosen):
            if k < finished:
                last = len(epochs)
            elif k < finished + partly:
                last = int(rng.integers(1, len(epochs)))
            else:
                last = max(1, int(np.searchsorted(epochs, fraction * epochs[-1] * (1 + 1e-9), "right")))
            cut.append((epochs[:last], values[:last]))
        horizon = np.array([epochs[-1] for epochs, _ in chosen])
        truth = np.array([values[-1] for _, values in chosen[finished + partly :]])
        made.append(
            Study(cut, horizon, truth, np.arange(len(cut)) < finished, fraction, rising=table == "LCDB")
        )
    return made
