"""What differs between classification and regression: outputs, loss, metrics; knows no networks or trials.

Shapes: b examples of a batch, k classes. Metrics are summed on the device over the batches of a pass, and
read once at its end: reading them at every step would make a GPU wait.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from fidelity.data import Data

METRICS: Mapping[str, str] = {
    "accuracy": "maximize",
    "balanced_accuracy": "maximize",
    "error": "minimize",
    "loss": "minimize",
    "r2": "maximize",
    "mse": "minimize",
    "mae": "minimize",
    "parameters": "minimize",
    "macs": "minimize",
    "latency": "minimize",
}
"""Every metric a study can be told, and the direction in which it gets better."""

OF_NETWORKS = ("parameters", "macs", "latency")
"""Metrics of a network as such: its full size, the same in every epoch and at every fidelity."""


class Task(Protocol):
    """What the training loop needs to know about the labels."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of predictions that it has."""

    @property
    def default(self) -> Mapping[str, str]:
        """From a study's direction to the metric it is told unless it names one."""

    @property
    def chance(self) -> float:
        """The loss of a network that has learned nothing and is not sure of anything."""

    def on(self, device: torch.device) -> Task:
        """The same with what it needs on a device."""

    def targets(self, labels: Tensor) -> Tensor:
        """Labels (n,) of the data as the loss takes them."""

    def shapes(self, b: int) -> tuple[tuple[int, ...], ...]:
        """The shapes that a network's outputs for b examples may have, the usual one first."""

    def scores(self, outputs: Tensor) -> Tensor:
        """A network's outputs as float32, in the one shape that the others take."""

    def losses(self, scores: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """The loss of each example, (b,)."""

    def weights(self, targets: Tensor) -> Tensor | None:
        """What each example counts in training, (b,), 1 on average over the training data; None for 1."""

    def sums(self, device: torch.device) -> Tensor:
        """Where to sum metrics: zeros."""

    def add(self, sums: Tensor, scores: Tensor, targets: Tensor, share: float = 1.0) -> None:
        """Add a batch to the sums, each example by a share."""

    def read(self, sums: Tensor) -> dict[str, float]:
        """The metrics of everything added; waits for the device."""


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """One of k classes; networks give k logits, or, of two classes, the one logit of the second."""

    k: int
    class_weights: Tensor | None = None
    """(k,), such that the training examples have the mean 1."""

    metrics = ("accuracy", "balanced_accuracy", "error", "loss")
    default = {"maximize": "accuracy", "minimize": "error"}  # noqa: RUF012 - read, never changed

    @property
    def chance(self) -> float:
        """Of k equal probabilities: ln k, whatever the labels, their smoothing and their mixture."""
        return math.log(self.k)

    def on(self, device: torch.device) -> Classification:
        """The same with its weights on a device."""
        weights = self.class_weights
        return self if weights is None else replace(self, class_weights=weights.to(device))

    def targets(self, labels: Tensor) -> Tensor:
        """The class numbers, (n,), int64."""
        return labels

    def shapes(self, b: int) -> tuple[tuple[int, ...], ...]:
        """(b, k); of two classes also (b, 1) and (b,)."""
        return ((b, self.k), (b, 1), (b,)) if self.k == 2 else ((b, self.k),)

    def scores(self, outputs: Tensor) -> Tensor:
        """Logits (b, k); the second class's alone become those of both: softmax of (0, z) is sigmoid of z."""
        outputs = outputs.float()
        if outputs.ndim == 1:
            outputs = outputs[:, None]
        return F.pad(outputs, (1, 0)) if outputs.shape[1] == 1 else outputs

    def losses(self, scores: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropies, (b,)."""
        return F.cross_entropy(scores, targets, reduction="none", label_smoothing=smoothing)

    def weights(self, targets: Tensor) -> Tensor | None:
        """The weights of the examples' classes, (b,)."""
        return None if self.class_weights is None else self.class_weights[targets]

    def sums(self, device: torch.device) -> Tensor:
        """(2, k): of each class, examples predicted right and examples."""
        return torch.zeros(2, self.k, device=device)

    def add(self, sums: Tensor, scores: Tensor, targets: Tensor, share: float = 1.0) -> None:
        """Count a batch, class by class."""
        right = (scores.argmax(1) == targets).float()  # float32 counts exactly up to 16 million
        for row, counted in zip(sums, (right, torch.ones_like(right)), strict=True):
            row.index_add_(0, targets, counted, alpha=share)

    def read(self, sums: Tensor) -> dict[str, float]:
        """Accuracy, its mean over the classes that occur, and error, 1 − accuracy."""
        right, count = sums.tolist()
        accuracy = sum(right) / sum(count)
        of_classes = [r / n for r, n in zip(right, count, strict=True) if n > 0]
        balanced = sum(of_classes) / len(of_classes)
        return {"accuracy": accuracy, "balanced_accuracy": balanced, "error": 1 - accuracy}


@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """One number; networks give it standardised, metrics but the loss are in the unit of the data."""

    mean: float
    std: float
    """Of the training labels."""

    metrics = ("r2", "mse", "mae", "loss")
    default = {"maximize": "r2", "minimize": "mse"}  # noqa: RUF012 - read, never changed
    chance = 1.0
    """Of the mean of the training labels: their variance, standardised."""

    def on(self, device: torch.device) -> Regression:
        """The same: it holds numbers only."""
        return self

    def targets(self, labels: Tensor) -> Tensor:
        """(label − mean) / std over the training labels, (n,), float32."""
        return ((labels.double() - self.mean) / self.std).float()

    def shapes(self, b: int) -> tuple[tuple[int, ...], ...]:
        """(b, 1) or (b,)."""
        return (b, 1), (b,)

    def scores(self, outputs: Tensor) -> Tensor:
        """Standardised predictions, (b,)."""
        return outputs.float().reshape(-1)

    def losses(self, scores: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Squared errors of standardised labels, (b,); smoothing is of classes only."""
        return (scores - targets).square()

    def weights(self, targets: Tensor) -> Tensor | None:
        """None."""
        return None

    def sums(self, device: torch.device) -> Tensor:
        """(5,): squared errors, absolute errors, labels, squared labels, examples."""
        return torch.zeros(5, device=device)

    def add(self, sums: Tensor, scores: Tensor, targets: Tensor, share: float = 1.0) -> None:
        """Add a batch's errors and labels."""
        errors = scores - targets
        parts = (errors.square(), errors.abs(), targets, targets.square(), torch.ones_like(targets))
        sums.add_(torch.stack(parts).sum(1), alpha=share)

    def read(self, sums: Tensor) -> dict[str, float]:
        """R², mean squared error and mean absolute error; R² of equal labels is 0."""
        squares, absolutes, total, total_squares, n = sums.tolist()
        spread = total_squares - total**2 / n  # about their own mean, which is near 0: no digits are lost
        r2 = 1 - squares / spread if spread > 0 else 0.0
        return {"r2": r2, "mse": squares / n * self.std**2, "mae": absolutes / n * self.std}


def task_of(data: Data, class_weights: Any = None) -> Task:
    """The task that a data set's labels are for.

    Args:
        data: its training labels give weights, mean and spread.
        class_weights: see :func:`fidelity.training.train_on`.

    Raises:
        ValueError: if the weights do not fit the labels.
    """
    labels = data.train.labels
    if data.task == "classification":
        return Classification(data.n_classes, _weights(class_weights, labels, data))
    if class_weights is not None:
        raise ValueError(
            f"class_weights={class_weights!r}: are of classes, and {data.name} has numbers to predict "
            "(regression). Leave them out."
        )
    return Regression(labels.double().mean().item(), labels.double().std(correction=0).item())


def _weights(given: Any, labels: Tensor, data: Data) -> Tensor | None:
    """Weights of the classes (k,), scaled to the mean 1 over the labels (n,)."""
    if given is None:
        return None
    counts = labels.bincount(minlength=data.n_classes).double()
    if isinstance(given, str) and given == "balanced":
        weights = 1 / counts
    else:
        rule = f"must be None, 'balanced', or a number above 0 for each of the {data.n_classes} classes"
        try:
            numbers = [float(weight) for weight in given] if not isinstance(given, str) else []
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) != data.n_classes or not all(0 < weight < math.inf for weight in numbers):
            raise ValueError(
                f"class_weights={given!r}: {rule} of {data.name}, in the order of data.class_names. "
                "Use 'balanced'."
            )
        weights = torch.tensor(numbers, dtype=torch.float64)
    return (weights * counts.sum() / (weights * counts).sum()).float()


def told(names: Sequence[str], directions: Sequence[str], metric: str | None, task: Task) -> dict[str, str]:
    """Which of our metrics a study gets under each of the names it has for its objectives.

    Args:
        names: the study's ``metric_names``.
        directions: its directions.
        metric: what a study with one objective asked for, if it did.
        task: what there is to measure.

    Raises:
        ValueError: for a metric that the task does not have, or a direction that makes it worse.
    """
    known = (*task.metrics, *OF_NETWORKS)
    if len(names) == 1:
        found = {names[0]: metric or (names[0] if names[0] in METRICS else task.default[directions[0]])}
    else:
        found = {name: name for name in names}
    unknown = [what for what in found.values() if what not in known]
    if unknown:
        raise ValueError(
            f"metrics {list(found.values())}: train_on knows no {', '.join(unknown)} for these data. "
            f"Use {', '.join(known)}, or write your own objective."
        )
    for (name, what), direction in zip(found.items(), directions, strict=True):
        if METRICS[what] != direction:
            usual = what in task.default.values()
            instead = f" or metric {task.default[direction]!r}" if usual else ""
            raise ValueError(
                f"direction {direction!r} with metric {what!r} (reported as {name!r}): would search for the "
                f"worst network. Create the study with direction={METRICS[what]!r}{instead}."
            )
    return found
