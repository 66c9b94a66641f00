"""Training hyperparameters and the optimizer they stand for; knows no data or trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch

from fidelity import augmentation
from fidelity.schedules import SCHEDULES


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. Other hyperparameters of a configuration describe the network."""

    optimizer: str = "adamw"
    """One of :data:`OPTIMIZERS`."""
    lr: float = 3e-3
    """The highest learning rate of the schedule."""
    momentum: float = 0.9
    """Of sgd and muon."""
    nesterov: bool = True
    """Of sgd; needs momentum."""
    beta1: float = 0.9
    """Of adamw."""
    schedule: str = "cosine"
    """One of :data:`fidelity.schedules.SCHEDULES`."""
    weight_decay: float = 1e-3
    """Decoupled in adamw (Loshchilov and Hutter 2019) and muon, added to the gradient in sgd."""
    batch_size: int = 64
    label_smoothing: float = 0.0
    mixup: float = 0.0
    """The α of Zhang et al. 2018, 0 for none; see :func:`fidelity.augmentation.mixup`."""
    cutout: float = 0.0
    """Part of an image's side, 0 for none; see :func:`fidelity.augmentation.cutout`."""
    augmentation: str = "none"
    """As :func:`fidelity.augmentation.parse` reads it."""

    def __post_init__(self) -> None:
        rules = {
            "optimizer": (self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}. Use 'adamw'"),
            "lr": (0 < self.lr < math.inf, "greater than 0. Use 0.003"),
            "momentum": (0 <= self.momentum < 1, "at least 0 and below 1. Use 0.9"),
            "beta1": (0 <= self.beta1 < 1, "at least 0 and below 1. Use 0.9"),
            "schedule": (self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}. Use 'cosine'"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "at least 0. Use 0.001"),
            "batch_size": (self.batch_size >= 1, "at least 1. Use 64"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "at least 0 and below 1. Use 0.1"),
            "mixup": (0 <= self.mixup < math.inf, "at least 0. Use 0.2, or 0 for none"),
            "cutout": (0 <= self.cutout < 1, "at least 0 and below 1. Use 0.5, or 0 for none"),
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
        values = {}
        for field in fields(Recipe):
            if field.name in params:
                kind: Any = type(field.default)
                try:
                    values[field.name] = kind(params[field.name])
                except (TypeError, ValueError):
                    raise ValueError(
                        f"{field.name}={params[field.name]!r}: must be a {kind.__name__}."
                    ) from None
        return Recipe(**values)


class Optimizer(Protocol):
    """What the training loop needs of an optimizer; torch's own have it."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameters and their settings; a changed ``lr`` holds from the next step."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""

    def step(self) -> Any:
        """Change the parameters by their gradients."""

    def state_dict(self) -> dict[str, Any]:
        """What to continue from."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from it."""


def _groups(parameters: list[torch.nn.Parameter], recipe: Recipe) -> list[dict[str, Any]]:
    """Weight decay on matrices and kernels, not on biases and norms."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


# The fused kernels are half again as fast on small networks, where calls cost more than arithmetic.


def _sgd(model: torch.nn.Module, recipe: Recipe) -> Optimizer:
    return torch.optim.SGD(
        _groups(_trained(model), recipe),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,
        fused=True,
    )


def _adamw(model: torch.nn.Module, recipe: Recipe) -> Optimizer:
    groups = _groups(_trained(model), recipe)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.beta1, 0.999), fused=True)


def _muon(model: torch.nn.Module, recipe: Recipe) -> Optimizer:
    from fidelity.muon import MuonWithAdamW, hidden_weights

    weights = hidden_weights(model)
    if not weights:  # one or two layers: all of it is AdamW's
        return _adamw(model, recipe)
    known = {id(w) for w in weights}
    others = _groups([p for p in _trained(model) if id(p) not in known], recipe)
    return MuonWithAdamW(weights, recipe.lr, recipe.momentum, recipe.weight_decay, others)


def _trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


OPTIMIZERS: Mapping[str, Callable[[torch.nn.Module, Recipe], Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
    "muon": _muon,
}
"""Optimizers by the name a configuration gives them."""


def make_optimizer(model: torch.nn.Module, recipe: Recipe) -> Optimizer:
    """The recipe's optimizer of a network; weight decay on matrices and kernels, not on biases and norms.

    Args:
        model: on the device and in the memory format it will be trained in.
        recipe: names the optimizer and its settings.
    """
    return OPTIMIZERS[recipe.optimizer](model, recipe)
