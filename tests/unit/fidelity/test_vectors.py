"""Vectors of features: loaded, normalised, trained, resumed and retrained as images are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_trial import CPU, FakeTrial, train_in_parts
from torch import nn

from fidelity.baseline import build, train_baseline
from fidelity.data import Data, load_data
from fidelity.optimizers import OPTIMIZERS
from fidelity.records import Fidelity
from fidelity.training import train_on


def make_vectors(n: int = 150) -> Data:
    """Three classes in two features of very different scale, among five."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    X = rng.normal(size=(n, 5)) * [1, 1000, 1, 1, 0] + [0, 5000, 0, 0, 7]
    X[:, 0] += 3 * y
    X[:, 1] += 3000 * (y == 1)
    return load_data((X, y))


def mlp() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.1)),
        nn.Linear(16, 3),
    )


def test_vectors_have_a_shape_and_are_normalised_by_feature() -> None:
    data = make_vectors()
    assert data.input_shape == (5,)
    assert data.train.inputs.dtype == torch.float32
    assert "input_shape=(5,)" in repr(data)
    objective = train_on(data)
    train = objective.prepare("train", None, CPU)
    x = train.normalise(train.inputs)
    assert torch.allclose(x.mean(0), torch.zeros(5), atol=1e-4)
    assert torch.allclose(x.std(0, correction=0), torch.tensor([1.0, 1, 1, 1, 0]), atol=1e-4)
    assert objective.mean[1] == pytest.approx(data.train.inputs[:, 1].double().mean().item())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_search_and_its_retraining(optimizer: str, tmp_path: Path) -> None:
    objective = train_on(make_vectors())
    params = {"optimizer": optimizer, "lr": 0.02, "batch_size": 8, "mixup": 0.2, "label_smoothing": 0.1}
    trial = train_in_parts(objective, tmp_path, {1, 2}, params=params, build=mlp)
    assert trial.reports[4]["accuracy"] > 0.8
    again = FakeTrial(params, build=mlp, retraining=True)
    objective(again)
    assert again.user_attrs["test_accuracy"] == again.reports[4]["accuracy"] > 0.8
    assert len(again.user_attrs["normalisation"]["mean"]) == 5


def test_subsets_apply() -> None:
    trial = FakeTrial({}, Fidelity(epochs=1, subset=0.5), build=mlp)
    train_on(make_vectors())(trial)
    assert 1 in trial.reports


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fidelity": Fidelity(epochs=1, resolution=8)}, r"resolution=8: is of images, .* 5 features. Leave"),
        ({"params": {"augmentation": "shift"}}, r"augmentation='shift': changes images, .*images=False"),
        ({"params": {"cutout": 0.5}}, "cutout=0.5: changes images"),
        ({"build": lambda: nn.Conv2d(1, 3, 3)}, r"cannot take its vectors of shape \(5,\)"),
    ],
)
def test_what_only_images_have_is_refused(changes: dict[str, Any], words: str) -> None:
    trial = FakeTrial(**({"build": mlp} | changes))
    with pytest.raises(ValueError, match=words):
        train_on(make_vectors())(trial)
    assert not trial.reports


@pytest.mark.parametrize(
    ("name", "shape", "n_classes", "n"),
    [("wine", (13,), 3, 178), ("breast-cancer", (30,), 2, 569), ("digits-vectors", (64,), 10, 1797)],
)
def test_vectors_known_by_name(name: str, shape: tuple[int], n_classes: int, n: int) -> None:
    data = load_data(name)
    assert (data.input_shape, data.n_classes) == (shape, n_classes)
    assert len(data.train) + len(data.val) + len(data.test) == n
    with pytest.raises(ValueError, match="Leave the folder out"):
        load_data(name, "/")


def test_digits_are_split_the_same_as_vectors_and_as_images() -> None:
    vectors, images = load_data("digits-vectors"), load_data("digits")
    assert torch.equal(vectors.val.inputs, images.val.inputs.flatten(1).float())
    assert vectors.class_names == images.class_names


def test_tensors_and_datasets_of_vectors() -> None:
    X, y = torch.rand(30, 4), torch.arange(30) % 2
    expected = load_data((X, y))
    data = load_data(torch.utils.data.TensorDataset(X, y))
    assert torch.equal(data.test.inputs, expected.test.inputs)
    assert load_data((X > 0.5, y)).train.inputs.unique().tolist() == [0.0, 1.0]


def test_the_hand_written_network_for_vectors() -> None:
    data = load_data("breast-cancer")
    assert sum(p.numel() for p in build(data).parameters()) == 30 * 128 + 128 * 128 + 4 * 128 + 129 * 2
    result = train_baseline(data, seconds=100, max_epochs=10)
    assert result.test_accuracy > 0.9
