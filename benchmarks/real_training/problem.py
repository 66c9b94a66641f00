"""What is searched: a chain of layers and how it is trained, on small images; knows no methods, no clock."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bonas import spaces
from fidelity.axes import Axes
from fidelity.data import Data, Split, load_data
from fidelity.data.splits import nested_order
from fidelity.examples import resize

TRAIN, VAL = 2000, 2000  # images of the published training split; all 10,000 of the test split are kept
SIDE = 14  # pixels
EPOCHS = 27  # a power of three: the rungs of methods with η = 3 fall on whole epochs
SPACE: dict[str, Any] = {
    "n_layers": (2, 5),
    "operations": ("conv", "max_pool", "avg_pool"),
    "filters": (4, 8, 16, 32),
}
"""Of the chain, smaller than by default; the hyperparameters of training are the default ones."""


@dataclass(frozen=True)
class Problem:
    """Images, and the epochs of a full evaluation."""

    data: Data
    epochs: int = EPOCHS

    def space(self) -> spaces.Space:
        """The space, made anew: spaces remember what they counted, which is nothing to the next search."""
        return spaces.chain(self.data.input_shape, self.data.n_classes, **SPACE).with_hyperparameters()

    @property
    def axes(self) -> Axes:
        """Epochs alone, the axis that every method knows."""
        return Axes(epochs=(1, self.epochs))

    def trial_seed(self, seed: int, number: int) -> int:
        """Of weights and batches of a search's trial, by whichever method."""
        return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def fashion_mnist(folder: str) -> Problem:
    """Stratified first parts of the published training split, and the published test split, at 14×14 pixels.

    Args:
        folder: holds the four idx files.
    """
    whole = load_data("fashion-mnist", folder)
    train, val = _first(whole.train, TRAIN, whole.seed), _first(whole.val, VAL, whole.seed)
    test = Split(resize(whole.test.inputs, SIDE), whole.test.labels)
    return Problem(Data(whole.name, train, val, test, whole.class_names, whole.seed))


def _first(split: Split, n: int, seed: int) -> Split:
    chosen = torch.from_numpy(nested_order(split.labels.numpy(), seed)[:n].copy())
    return Split(resize(split.inputs[chosen], SIDE), split.labels[chosen])


def conditions(problem: Problem) -> dict[str, Any]:
    """What a search depends on beside its method."""
    data, space = problem.data, json.dumps(problem.space().to_dict(), sort_keys=True)
    return {
        "data": data.name,
        "train": len(data.train),
        "val": len(data.val),
        "pixels": list(data.input_shape[1:]),
        "epochs": problem.epochs,
        "space": SPACE | {"digest": hashlib.sha256(space.encode()).hexdigest()[:12]},
    }
