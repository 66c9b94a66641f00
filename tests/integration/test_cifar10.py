"""Real colour images through a whole study: 6,000 of CIFAR-10, where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import bonas
from bonas import TrialState, fidelity, spaces
from bonas.samplers import RandomSampler

BENCHMARKS = os.environ.get("BONAS_BENCHMARKS")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture(scope="module")
def images() -> fidelity.Data:
    if BENCHMARKS is None:
        pytest.skip("BONAS_BENCHMARKS is not set: name the folder that holds image_cifar10_subset/table.npz")
    path = Path(BENCHMARKS) / "image_cifar10_subset" / "table.npz"
    if not path.is_file():
        pytest.skip(
            f"{path} is not there: BONAS_BENCHMARKS names a folder without the 6,000 images of CIFAR-10"
        )
    with np.load(path, allow_pickle=False) as file:
        parts = {
            part: (np.moveaxis(file[f"{part}_x"], 3, 1), np.array(CLASSES)[file[f"{part}_y"]])
            for part in ("train", "test")
        }
    return fidelity.load_data(parts)


def test_all_images_are_read(images: fidelity.Data) -> None:
    assert (len(images.train), len(images.val), len(images.test)) == (4500, 500, 1000)
    assert (images.input_shape, images.class_names) == ((3, 32, 32), CLASSES)
    assert images.train.inputs.dtype == torch.uint8
    assert images.test.labels.bincount().tolist() == [100] * 10


def test_a_study_trains_promotes_and_retrains_on_them(images: fidelity.Data, tmp_path: Path) -> None:
    space = spaces.chain(images.input_shape, images.n_classes, n_layers=(2, 3), filters=[8, 16])
    space = space.with_hyperparameters().fix({"augmentation": "shift_flip", "batch_size": 64})
    study = bonas.create_study(
        space=space,
        axes=fidelity.Axes(epochs=(1, 3), subset=(0.25, 1.0), resolution=(16, 32)),
        direction="maximize",
        metric_names=["accuracy"],
        sampler=RandomSampler(),
        constraints={"macs": 1_500_000},
        storage=tmp_path,
    )
    objective = bonas.train_on(images)
    study.optimize(objective, n_trials=4)
    states = [trial.state for trial in study.trials]
    assert TrialState.COMPLETE in states
    assert TrialState.FAIL not in states
    best = study.best_trial
    assert best.value is not None
    assert best.value > 0.2  # twice what guessing reaches
    model = best.load_model().eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    retrained = study.retrain(objective, best)
    assert retrained.user_attrs["test_accuracy"] > 0.2
