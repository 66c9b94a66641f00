"""Training hyperparameters, the optimizer and learning rate they stand for; knows no data or trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fidelity import augmentation

WARMUP = 0.05  # part of the horizon


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. Other hyperparameters of a configuration describe the network."""

    optimizer: str = "adamw"
    lr: float = 3e-3
    """The highest learning rate of the schedule."""
    momentum: float = 0.9
    """Of sgd."""
    nesterov: bool = True
    """Of sgd; needs momentum."""
    beta1: float = 0.9
    """Of adamw."""
    weight_decay: float = 1e-3
    """Decoupled in adamw (Loshchilov and Hutter 2019), added to the gradient in sgd."""
    batch_size: int = 64
    label_smoothing: float = 0.0
    augmentation: str = "none"

    def __post_init__(self) -> None:
        rules = {
            "optimizer": (self.optimizer in ("sgd", "adamw"), "'sgd' or 'adamw'. Use 'adamw'"),
            "lr": (0 < self.lr < math.inf, "greater than 0. Use 0.003"),
            "momentum": (0 <= self.momentum < 1, "at least 0 and below 1. Use 0.9"),
            "beta1": (0 <= self.beta1 < 1, "at least 0 and below 1. Use 0.9"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "at least 0. Use 0.001"),
            "batch_size": (self.batch_size >= 1, "at least 1. Use 64"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "at least 0 and below 1. Use 0.1"),
        }
        for name, (good, rule) in rules.items():
            if not good:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be {rule}.")
        augmentation.parse(self.augmentation)

    @staticmethod
    def of(params: Mapping[str, Any]) -> Recipe:
        """The recipe in a configuration; what it does not name has its default.

        Raises:
            ValueError: if a value cannot be trained with.
        """
        kinds: dict[str, Any] = {
            "optimizer": str,
            "lr": float,
            "momentum": float,
            "nesterov": bool,
            "beta1": float,
            "weight_decay": float,
            "batch_size": int,
            "label_smoothing": float,
            "augmentation": str,
        }
        values = {}
        for name in kinds.keys() & params.keys():
            try:
                values[name] = kinds[name](params[name])
            except (TypeError, ValueError):
                raise ValueError(f"{name}={params[name]!r}: must be a {kinds[name].__name__}.") from None
        return Recipe(**values)


def make_optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer of a network; weight decay on matrices and kernels, not on biases and norms."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # The fused kernels are half again as fast on small networks, where calls cost more than arithmetic.
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov and recipe.momentum > 0,
            fused=True,
        )
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.beta1, 0.999), fused=True)


def learning_rate(epochs: float, horizon: float, warmup: float | None = None) -> float:
    """The learning rate after some epochs, relative to its highest: linear warm-up, then half a cosine to 0.

    A function of time alone: a training that pauses, or whose subset grows, stays on the same schedule.

    Args:
        epochs: trained so far, fractions included.
        horizon: epochs of the whole training.
        warmup: epochs of warm-up, by default a twentieth of the horizon.
    """
    warmup = WARMUP * horizon if warmup is None else warmup
    if epochs < warmup:
        return epochs / warmup
    progress = min(1.0, (epochs - warmup) / max(horizon - warmup, 1e-9))
    return 0.5 * (1 + math.cos(math.pi * progress))
