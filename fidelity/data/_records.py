"""Frozen records of a data set and of how it shall be split; knows nothing of where data come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Some images or vectors and their labels."""

    inputs: torch.Tensor
    """Images (n, channels, height, width), uint8 or float32, or vectors (n, features), float32; as given."""
    labels: torch.Tensor
    """(n,), int64, 0 ... k-1."""

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
    """The original labels, in the order of the numbers 0 ... k-1."""
    seed: int = 0
    """Of the split; subsets of ``train`` are drawn from it too."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of every image, or (features,) of every vector."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={len(getattr(self, name))}" for name in ("train", "val", "test"))
        return f"Data({self.name!r}, {sizes}, input_shape={self.input_shape}, n_classes={self.n_classes})"


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """How to split: a seed and the parts that become val and test (None: the default)."""

    seed: int = 0
    val_fraction: float | None = None
    test_fraction: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed={self.seed!r}: must be a whole number from 0.")
        for name in ("val_fraction", "test_fraction"):
            fraction = getattr(self, name)
            if fraction is not None and not (isinstance(fraction, (int, float)) and 0 < fraction < 1):
                raise ValueError(f"{name}={fraction!r}: must lie between 0 and 1. Use 0.1 or 0.2.")
        if (self.val_fraction or 0.2) + (self.test_fraction or 0.2) >= 1:
            raise ValueError(
                f"val_fraction={self.val_fraction}, test_fraction={self.test_fraction}: leave nothing to "
                "train on. Use 0.2 and 0.2."
            )
