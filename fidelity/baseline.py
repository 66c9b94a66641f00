"""The network one would write by hand, trained for a given time: what a search has to beat; knows no search.

For images three convolutions with batch normalisation, max-pooling and a linear layer; for vectors two
hidden layers with batch normalisation; AdamW, a cosine, no tuning.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fidelity.data import Data
from fidelity.loop import seeded, train_epoch
from fidelity.optimizers import Recipe, make_optimizer
from fidelity.schedules import Schedule
from fidelity.training import TrainOn

FILTERS = (32, 64, 128)
UNITS = (128, 128)
RECIPE = Recipe(optimizer="adamw", lr=3e-3, weight_decay=0.01, batch_size=128)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the hand-written network reached."""

    test: Mapping[str, float]
    """Every metric of the test data, measured once, after the last epoch."""
    seconds: float
    """Of training and testing."""
    epochs: int
    parameters: int

    @property
    def test_accuracy(self) -> float:
        """The part of the test data whose class it names; of classification only."""
        return self.test["accuracy"]


def build(data: Data) -> nn.Sequential:
    """Three times convolution 3×3, batch normalisation, relu, max-pooling; then average and a linear layer.

    For vectors twice a linear layer of 128 units, batch normalisation and relu; then a linear layer.
    """
    layers: list[nn.Module] = []
    if len(data.input_shape) == 1:
        (features,) = data.input_shape
        for units in UNITS:
            layers += [nn.Linear(features, units, bias=False), nn.BatchNorm1d(units), nn.ReLU()]
            features = units
        return nn.Sequential(*layers, nn.Linear(features, data.n_classes))
    c, h, w = data.input_shape
    for filters in FILTERS:
        layers += [nn.Conv2d(c, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
        if min(h, w) >= 2:
            layers.append(nn.MaxPool2d(2))
            h, w = h // 2, w // 2
        c = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, data.n_classes))


def train_baseline(
    data: Data,
    seconds: float,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    max_epochs: int | None = None,
    class_weights: Any = None,
) -> Baseline:
    """Train it on train and val for about some seconds, then test it once.

    The first epoch warms up. After each epoch the number still possible is estimated from the clock,
    and the cosine is stretched so that it ends there.

    Args:
        data: read by ``load_data``.
        seconds: for training and the test; one epoch is trained in any case.
        seed: of the weights and the order of the examples.
        device: where to train.
        max_epochs: stop there, should the time allow for more.
        class_weights: as :func:`fidelity.training.train_on` takes them.

    Raises:
        ValueError: if there is no time.
    """
    if not seconds > 0:
        raise ValueError(f"seconds={seconds}: must be greater than 0. Use 60.")
    if max_epochs is not None and max_epochs < 1:
        raise ValueError(f"max_epochs={max_epochs}: must be at least 1.")
    start = time.monotonic()
    device = torch.device(device)
    objective = TrainOn(data, class_weights=class_weights)
    train = objective.prepare("train+val", None, device)
    everything = torch.arange(len(train))
    with seeded(device, seed, 0):
        model = build(data)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, RECIPE)

    began = time.monotonic()
    # A pass over the test examples costs about a third of one over as many training examples.
    test_share = len(data.test) / (3 * len(train))
    epoch, horizon = 0, 2
    while epoch < horizon:
        epoch += 1
        with seeded(device, seed, epoch):
            train_epoch(
                model,
                optimizer,
                train,
                everything,
                RECIPE,
                # The warm-up is the whole first epoch, whatever the horizon turns out to be.
                Schedule(horizon, warmup=1.0),
                epoch,
            )
        each = (time.monotonic() - began) / epoch
        left = seconds - (time.monotonic() - start) - test_share * each
        horizon = epoch + max(0, int(left / each))
        if max_epochs is not None:
            horizon = min(horizon, max_epochs)
    tested = objective.test(model)
    return Baseline(tested, time.monotonic() - start, epoch, sum(p.numel() for p in model.parameters()))
