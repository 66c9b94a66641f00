"""Published tables, read from the folder that BONAS_BENCHMARKS names; knows their formats, no search methods.

A table holds the outcome of training every network of a space, so that searching costs milliseconds. The
tables are not part of this project; without them the benchmarks say so and stop.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "BONAS_BENCHMARKS"


class SkippedError(Exception):
    """The tables are not here; the message says what to set."""


def folder(name: str) -> Path:
    """The folder of one table.

    Raises:
        SkippedError: if the variable is not set or names no folder that holds the table.
    """
    root = os.environ.get(VARIABLE)
    if not root:
        raise SkippedError(f"skipped: set {VARIABLE} to the folder that holds the published tables.")
    path = Path(root) / name
    if not path.is_dir():
        raise SkippedError(f"skipped: {path} is missing. Set {VARIABLE} to the folder that holds {name}.")
    return path


@dataclass(frozen=True)
class NasBench201:
    """NAS-Bench-201 (Dong and Yang 2020): validation accuracy of 15,625 cells, each trained 200 epochs.

    Rows are cells, trained two or three times with different seeds.
    """

    datasets: tuple[str, ...]
    accuracy: np.ndarray
    """Percent, shape (cells, data sets, seeds); NaN where a third seed was not trained."""
    operations: np.ndarray
    """Index into ``OPERATIONS`` for edges 1←0, 2←0, 2←1, 3←0, 3←1, 3←2, shape (cells, 6)."""
    accuracy_12: np.ndarray
    """Percent after separate trainings of 12 epochs, shape (cells, data sets)."""
    parameters: np.ndarray
    """Shape (cells, data sets), by the benchmark's own counting."""
    latency: np.ndarray
    """Seconds, mean over the seeds, shape (cells, data sets)."""

    OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

    @cached_property
    def _index(self) -> dict[tuple[int, ...], int]:
        return {tuple(row): i for i, row in enumerate(self.operations.tolist())}

    @cached_property
    def _mean(self) -> np.ndarray:
        return np.nanmean(self.accuracy, axis=2, dtype=np.float64)

    def row(self, params: Mapping[str, Any]) -> int:
        """The row of a cell given as ``edge0`` … ``edge5``."""
        return self._index[tuple(self.OPERATIONS.index(params[f"edge{k}"]) for k in range(6))]

    def regret(self, rows: np.ndarray, dataset: int) -> np.ndarray:
        """Percentage points of mean accuracy between the best cell and each of ``rows``."""
        return self._mean[:, dataset].max() - self._mean[rows, dataset]

    def observe(self, row: int, dataset: int, rng: np.random.Generator) -> float:
        """The accuracy of one training run, its seed drawn."""
        runs = self.accuracy[row, dataset]
        return float(rng.choice(runs[np.isfinite(runs)]))


def nasbench201() -> NasBench201:
    """The table of NAS-Bench-201.

    Raises:
        SkippedError: if it is not here.
    """
    with np.load(folder("nasbench201_12_200") / "table.npz", allow_pickle=False) as table:
        return NasBench201(
            datasets=("cifar10", "cifar100", "ImageNet16-120"),
            accuracy=table["val_acc_200"],
            operations=table["ops"],
            accuracy_12=table["val_acc_12"],
            parameters=1e6 * table["params_m"][:, :, 0].astype(np.float64),
            latency=np.nanmean(table["latency_s"], axis=2, dtype=np.float64),
        )
