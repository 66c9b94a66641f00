"""Latency is a median after warming up, on the device that is named, and leaves the network as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fidelity import latency


class Slow(nn.Module):
    """Advances a clock of its own instead of taking time."""

    def __init__(self, seconds: list[float]) -> None:
        super().__init__()
        self.seconds = seconds
        self.passes: list[tuple[tuple[int, ...], bool, bool]] = []
        self.now = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        i = len(self.passes)
        self.passes.append((tuple(x.shape), self.training, torch.is_grad_enabled()))
        self.now += self.seconds[min(i, len(self.seconds) - 1)]
        return x


def measured(model: Slow, monkeypatch: pytest.MonkeyPatch, **settings: int) -> float:
    monkeypatch.setattr(latency.time, "perf_counter", lambda: model.now)
    return latency.measure(model, (3, 4, 4), "cpu", **settings)


def test_warm_up_and_outliers_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Slow([9.0] * latency.WARM_UP + [0.1, 5.0, 0.1])
    assert measured(model, monkeypatch) == pytest.approx(0.1)
    assert len(model.passes) == latency.WARM_UP + latency.LEAST


def test_fast_networks_are_run_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Slow([0.001])
    assert measured(model, monkeypatch) == pytest.approx(0.001)
    assert len(model.passes) == latency.WARM_UP + latency.MOST


def test_batches_in_evaluation_mode_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Slow([0.1]).train()
    measured(model, monkeypatch, batch_size=7)
    assert set(model.passes) == {((7, 3, 4, 4), False, False)}
    assert model.training


def test_weights_and_global_randomness_stay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    latency.measure(model, (3, 8, 8), "cpu")
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    inputs = torch.randn(2, 3, 8, 8)
    model(inputs).sum().backward()  # nothing of the measurement stands in a training's way


def test_devices_that_are_not_there_are_said_so() -> None:
    with pytest.raises(ValueError, match="no device of torch's"):
        latency.checked_device("gpu")
    with pytest.raises(ValueError, match="computes nothing"):
        latency.checked_device("meta")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees no GPU here"):
            latency.measure(nn.Linear(2, 2), (2,), "cuda")
