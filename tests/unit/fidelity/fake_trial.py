"""A stand-in for the study's trial handle, small data and a small network to train; asserts nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fidelity import checkpoints
from fidelity.data import Data, load_data
from fidelity.records import Fidelity
from fidelity.training import TrainOn

CPU = torch.device("cpu")
FULL = Fidelity(epochs=4)


def make_data(n: int = 150, channels: int = 1) -> Data:
    """Three classes told apart by where the light is."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    X = rng.integers(0, 60, (n, channels, 8, 8))
    for i, label in enumerate(y):
        X[i, :, 2 * label : 2 * label + 3] += 120
    return load_data((X.astype(np.uint8), y))


def network(channels: int = 1, classes: int = 3) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(24, classes)),
    )


class Limited(nn.Sequential):
    """A network that runs out of memory, at its end, with more examples at a time than it can take."""

    def __init__(
        self,
        *layers: nn.Module,
        training: int = 10**9,
        evaluation: int = 10**9,
        error: Exception | None = None,
    ) -> None:
        super().__init__(*layers)
        self.most = {True: training, False: evaluation}
        self.error = error or torch.OutOfMemoryError("CUDA out of memory (simulated)")
        self.seen: dict[bool, list[int]] = {True: [], False: []}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen[self.training].append(len(x))
        outputs: torch.Tensor = super().forward(x)
        if len(x) > self.most[self.training]:
            raise self.error
        return outputs


class FakeTrial:
    """Stands in for the study's handle, checkpoints in memory."""

    def __init__(
        self, params: dict[str, Any] | None = None, fidelity: Fidelity = FULL, **changes: Any
    ) -> None:
        self.params = params or {}
        self.fidelity = fidelity
        self.horizon = 4
        self.seed = 7
        self.device = CPU
        self.directions: tuple[str, ...] = ("maximize",)
        self.metric_names: tuple[str, ...] = ("value",)
        self.retraining = False
        self.build: Callable[[], nn.Module] = network
        self.checkpoint: tuple[int, Any] | None = None
        self.reports: dict[int, dict[str, float]] = {}
        self.user_attrs: dict[str, Any] = {}
        self._start = 0
        self.__dict__.update(changes)

    def count(self) -> Any:
        raise ValueError("count: this space has no such function.")

    def load_checkpoint(self) -> Any:
        if self.checkpoint is None:
            return None
        self._start, state = self.checkpoint
        return state

    def epochs(self) -> Iterator[int]:
        for epoch in range(self._start + 1, self.fidelity.epochs + 1):
            self._epoch = epoch
            yield epoch

    def report(self, value: dict[str, float], epoch: int) -> None:
        self.reports[epoch] = dict(value)

    def save_checkpoint(self, state: Any) -> None:
        self.checkpoint = self._epoch, checkpoints.copy_state(state)

    def set_user_attr(self, key: str, value: Any) -> None:
        self.user_attrs[key] = value


def identical(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(identical(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(identical, a, b))
    return bool(a == b)


def train_in_parts(objective: TrainOn, folder: Path, stops: set[int], **trial: Any) -> FakeTrial:
    """Train to epoch 4 in one go and with stops, through checkpoint files, and assert that both end alike."""
    fidelity = trial.pop("fidelity", FULL)
    whole = FakeTrial(fidelity=fidelity, **trial)
    objective(whole)
    reports, checkpoint = {}, None
    for stop in [*sorted(stops), fidelity.epochs]:
        torch.rand(stop)  # what else draws from torch's generator must not matter
        at = Fidelity(**(fidelity.to_dict() | {"epochs": stop}))
        part = FakeTrial(fidelity=at, checkpoint=checkpoint, **trial)
        objective(part)
        reports |= part.reports
        assert part.checkpoint is not None
        written = checkpoints.write(folder, part.checkpoint[1], epoch=stop)
        checkpoint = stop, checkpoints.read(written.path)[0]
    assert checkpoint is not None
    assert whole.checkpoint is not None
    assert identical(checkpoint[1], whole.checkpoint[1])
    assert reports == whole.reports
    return whole
