"""Frozen records of a data set and of how it shall be split; knows nothing of where data come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import torch

Task = Literal["classification", "regression"]
TASKS: tuple[Task, ...] = get_args(Task)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Some images or vectors and their labels: classes, or numbers to predict."""

    inputs: torch.Tensor
    """Images (n, channels, height, width), uint8 or float32, or vectors (n, features), float32; as given."""
    labels: torch.Tensor
    """(n,): classes 0 ... k-1, int64, or, in regression, numbers as given, float64."""

    def __post_init__(self) -> None:
        assert self.inputs.ndim in (2, 4)
        assert self.labels.shape == self.inputs.shape[:1]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Split({len(self)} inputs of {tuple(self.inputs.shape[1:])})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Data:
    """A data set: search sees ``train`` and ``val``; ``test`` is for the final retrain alone."""

    name: str
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    """The original labels, in the order of the numbers 0 ... k-1; none in regression."""
    seed: int = 0
    """Of the split; subsets of ``train`` are drawn from it too."""
    task: Task = "classification"
    """What the labels are for."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of every image, or (features,) of every vector."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def n_classes(self) -> int:
        """How many classes there are; 1 in regression: what a network gives for each input."""
        return len(self.class_names) if self.task == "classification" else 1

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={len(getattr(self, name))}" for name in ("train", "val", "test"))
        what = f"n_classes={self.n_classes}" if self.task == "classification" else f"task={self.task!r}"
        return f"Data({self.name!r}, {sizes}, input_shape={self.input_shape}, {what})"


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """How to read labels and split: task, seed, and the parts that become val and test (None: default)."""

    seed: int = 0
    val_fraction: float | None = None
    test_fraction: float | None = None
    task: Task | None = None
    """None: as the labels look."""

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed={self.seed!r}: must be a whole number from 0.")
        for name in ("val_fraction", "test_fraction"):
            fraction = getattr(self, name)
            if fraction is not None and not (isinstance(fraction, (int, float)) and 0 < fraction < 1):
                raise ValueError(f"{name}={fraction!r}: must lie between 0 and 1. Use 0.1 or 0.2.")
        if self.task not in (None, *TASKS):
            raise ValueError(f"task={self.task!r}: must be {' or '.join(map(repr, TASKS))}, or None.")
        if (self.val_fraction or 0.2) + (self.test_fraction or 0.2) >= 1:
            raise ValueError(
                f"val_fraction={self.val_fraction}, test_fraction={self.test_fraction}: leave nothing to "
                "train on. Use 0.2 and 0.2."
            )
