"""The hand-written network: trains at any input size and keeps to its limits."""

from __future__ import annotations

import numpy as np
import pytest

from fidelity.baseline import build, train_baseline
from fidelity.data import load_data


def test_it_reaches_what_such_a_network_reaches_on_digits() -> None:
    result = train_baseline(load_data("digits"), seconds=100, max_epochs=3)
    assert result.epochs == 3
    assert result.test_accuracy > 0.9
    assert result.parameters == 94_186
    assert (
        train_baseline(load_data("digits"), seconds=100, max_epochs=3).test_accuracy == result.test_accuracy
    )


def test_one_epoch_is_trained_however_little_time_there_is() -> None:
    assert train_baseline(load_data("digits"), seconds=1e-6).epochs == 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 9), (2, 32, 32)])
def test_it_takes_images_of_any_size(shape: tuple[int, int, int]) -> None:
    import torch

    data = load_data((np.random.default_rng(0).random((20, *shape)), np.arange(20) % 2))
    assert build(data)(torch.zeros(3, *shape)).shape == (3, 2)


def test_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="seconds=0"):
        train_baseline(load_data("digits"), seconds=0)
    with pytest.raises(ValueError, match="max_epochs=0"):
        train_baseline(load_data("digits"), seconds=1, max_epochs=0)


def test_it_predicts_numbers() -> None:
    result = train_baseline(load_data("diabetes"), seconds=100, max_epochs=10)
    assert result.test["r2"] > 0.2
    assert "accuracy" not in result.test
