"""Recorded trainings as a table that answers at once; knows its file's format, no search methods.

``python benchmarks/tables/record.py`` records it; ``README.md`` says what was trained and how.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fidelity.records import Fidelity

if TYPE_CHECKING:
    from spaces import Space

FASHION_MNIST_CHAIN = Path(__file__).parent / "fashion_mnist_chain.npz"
MEASURED = ("accuracy", "loss", "train_loss", "seconds")
"""What is kept of every epoch; the first two on the images held out."""

# How a training ended.
MISSING, TRAINED, DIVERGED = 0, 1, 2


@dataclass(frozen=True)
class Table:
    """Configurations of one space, each trained at several fidelities.

    A *run* is one way to train a configuration: ``"full"``, ``"full, seed 1"``, ``"subset 0.25"``, ...
    """

    conditions: Mapping[str, Any]
    """Data, images, epochs, space, how configurations were drawn, versions and machines."""
    runs: Mapping[str, tuple[Fidelity, ...]]
    """The fidelity of every epoch of a run; its ``epochs`` is the epoch itself."""
    params: tuple[Mapping[str, Any], ...]
    parameters: NDArray[np.int64]
    """Of the networks at full width and depth, shape (n,)."""
    macs: NDArray[np.int64]
    """Likewise, for one image at full resolution, shape (n,)."""
    ended: NDArray[np.uint8]
    """``MISSING``, ``TRAINED`` or ``DIVERGED``, shape (n, runs)."""
    values: Mapping[str, NDArray[np.float32]]
    """For each of ``MEASURED`` shape (n, runs, epochs); NaN where nothing was trained."""

    def __len__(self) -> int:
        return len(self.params)

    @cached_property
    def space(self) -> Space:
        """The space the configurations were drawn from, without the bound on MACs."""
        from bonas import spaces

        return spaces.Space.from_dict(self.conditions["space"])

    @property
    def epochs(self) -> int:
        """Of every run."""
        return int(self.conditions["epochs"])

    def measured(self, what: str, run: str) -> NDArray[np.float64]:
        """One of ``MEASURED`` after every epoch of a run, shape (n, epochs)."""
        return np.asarray(self.values[what][:, list(self.runs).index(run)], dtype=np.float64)

    def accuracy(self, run: str) -> NDArray[np.float64]:
        """Accuracy after every epoch, that of guessing after a divergence; shape (n, epochs)."""
        index = list(self.runs).index(run)
        found = self.measured("accuracy", run)
        guessing = 1 / self.conditions["classes"]
        return np.where((self.ended[:, index] == DIVERGED)[:, None] & np.isnan(found), guessing, found)

    def only(self, rows: NDArray[np.intp]) -> Table:
        """Some of the configurations."""
        return Table(
            self.conditions,
            self.runs,
            tuple(self.params[i] for i in rows),
            self.parameters[rows],
            self.macs[rows],
            self.ended[rows],
            {what: values[rows] for what, values in self.values.items()},
        )

    def complete(self) -> Table:
        """The configurations of which every run is there that all of them were to have."""
        wanted = [i for i, run in enumerate(self.runs) if run not in self.conditions["of_a_part"]]
        return self.only(np.flatnonzero((self.ended[:, wanted] != MISSING).all(axis=1)))


def read(path: Path = FASHION_MNIST_CHAIN) -> Table:
    """A table from its file, in which nothing is pickled.

    Raises:
        ValueError: if there is no such file.
    """
    if not path.exists():
        raise ValueError(f"{path}: is not recorded yet. Run python benchmarks/tables/record.py.")
    with np.load(path, allow_pickle=False) as file:
        told = json.loads(file["told"].tobytes().decode())
        return Table(
            conditions=told["conditions"],
            runs={name: tuple(map(Fidelity.from_dict, run)) for name, run in told["runs"].items()},
            params=tuple(told["params"]),
            parameters=file["parameters"],
            macs=file["macs"],
            ended=file["ended"],
            values={what: file[what].astype(np.float32) for what in MEASURED},
        )


def write(table: Table, path: Path = FASHION_MNIST_CHAIN) -> None:
    """The inverse of :func:`read`; whole or not at all."""
    told = {
        "conditions": table.conditions,
        "runs": {name: [f.to_dict() for f in run] for name, run in table.runs.items()},
        "params": list(table.params),
    }
    # Half precision keeps three digits, more than losses and seconds are worth; accuracies are counts.
    narrow = {
        what: np.minimum(table.values[what], np.finfo(np.float16).max).astype(np.float16)
        for what in MEASURED
        if what != "accuracy"
    }
    part = path.with_suffix(".part.npz")
    np.savez_compressed(
        part,
        told=np.frombuffer(json.dumps(told, sort_keys=False).encode(), dtype=np.uint8),
        parameters=table.parameters,
        macs=table.macs,
        ended=table.ended,
        accuracy=table.values["accuracy"],
        **narrow,
    )
    part.replace(path)
