"""Numbers to predict: loaded, split, standardised, trained, reported in their own unit, retrained."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_trial import CPU, FakeTrial, make_data, network, train_in_parts
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fidelity.data import Data, load_data
from fidelity.data.splits import strata
from fidelity.loop import mixed_precision
from fidelity.optimizers import OPTIMIZERS
from fidelity.records import Fidelity
from fidelity.training import train_on


def make_numbers(n: int = 200) -> Data:
    """Nearly linear in two of five features, about 5,000 with a standard deviation of about 400."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 5))
    return load_data((X, 5000 + 300 * X[:, 0] - 250 * X[:, 3] + 50 * rng.normal(size=n)))


# -- data ----------------------------------------------------------------------------------------------


def test_floats_are_numbers_to_predict_and_stay_as_they_are() -> None:
    data = make_numbers()
    assert (data.task, data.n_classes, data.class_names) == ("regression", 1, ())
    assert "task='regression'" in repr(data)
    assert (len(data.train), len(data.val), len(data.test)) == (120, 40, 40)
    assert data.train.labels.dtype == torch.float64
    assert 4800 < data.train.labels.mean() < 5200


def test_a_task_can_be_asked_for() -> None:
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 3
    assert load_data((X, y)).task == "classification"
    assert load_data((X, y), task="regression").train.labels.unique().tolist() == [0.0, 1.0, 2.0]
    assert load_data((X, y * 1.0), task="classification").class_names == ("0", "1", "2")
    assert load_data((X, y * 1.0), task="regression").task == "regression"
    assert load_data((X, np.arange(60.0))).task == "regression"  # 60 whole numbers are no class numbers
    parts = {"train": (X, y + 0.5), "test": (X[:20], y[:20])}  # the training labels decide
    assert load_data(parts).test.labels.dtype == torch.float64


@pytest.mark.parametrize(
    ("y", "task", "words"),
    [
        (np.array(["a", "b"] * 30), "regression", "train labels are strings such as 'a'"),
        (np.linspace(0.1, 1, 60), "classification", "no whole numbers.*task='regression'"),
        (np.full(60, 0.5), None, "all labels are 0.5. There is nothing to predict"),
        (np.where(np.arange(60) == 7, np.inf, 0.5), None, "1 of 60 train labels are NaN or infinity"),
        (np.linspace(1, 1e300, 60), "regression", "labels are NaN or infinity"),
        (np.ones((60, 2)) / 3, None, "of several numbers to predict, one at a time"),
        (np.arange(60), "ranking", "task='ranking': must be 'classification' or 'regression'"),
    ],
)
def test_numbers_that_cannot_be_learned_are_refused(y: Any, task: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_data((np.ones((60, 2)), y), task=task)


@given(n=st.integers(10, 300), seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_every_part_has_its_share_of_small_and_large_numbers(n: int, seed: int) -> None:
    y = np.random.default_rng(seed).exponential(size=n)
    data = load_data((np.zeros((n, 1)), y), seed=seed)
    cuts = np.quantile(y, [0.5])
    for part, size in ((data.train, 0.6), (data.val, 0.2), (data.test, 0.2)):
        assert len(part) == pytest.approx(size * n, abs=11)
        high = (part.labels.numpy() > cuts[0]).mean()
        assert high == pytest.approx(0.5, abs=0.5 if n < 100 else 0.2)
    # Equal numbers are spread as well, and no stratum is too small to be split.
    assert np.bincount(strata(np.round(y))).min() >= 10


def test_tables_and_named_data_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("rooms,price\n" + "\n".join(f"{i},{i * 1.5 + 0.25}" for i in range(40)))
    data = load_data(path)
    assert (data.task, data.name) == ("regression", "prices")
    assert torch.allclose(data.val.labels, 1.5 * data.val.inputs[:, 0].double() + 0.25)
    diabetes = load_data("diabetes")
    assert (diabetes.task, diabetes.input_shape, len(diabetes.test)) == ("regression", (10,), 88)


# -- training ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_numbers_are_learned_and_resumed_bit_identically(optimizer: str, tmp_path: Path) -> None:
    params = {"optimizer": optimizer, "lr": 0.05, "batch_size": 8, "mixup": 0.1, "label_smoothing": 0.1}
    data, built = make_numbers(), []

    def build() -> nn.Module:
        built.append(nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 8), nn.Linear(8, 1)))
        return built[-1]

    trial = train_in_parts(train_on(data), tmp_path, {1, 3}, params=params, build=build)
    report = trial.reports[4]
    assert set(report) == {"value", "r2", "mse", "mae", "loss", "train_loss", "parameters"}
    assert report["value"] == report["r2"] > 0.8
    # In the unit of the data, from the network as it is: predictions are standardised.
    labels = data.train.labels
    x = (data.val.inputs - data.train.inputs.mean(0)) / data.train.inputs.std(0, correction=0)
    with torch.no_grad(), mixed_precision(CPU):
        outputs = built[0].eval()(x)[:, 0].double()
    predicted = outputs * labels.std(correction=0) + labels.mean()
    assert report["mse"] == pytest.approx((predicted - data.val.labels).square().mean().item(), rel=1e-3)
    assert report["mae"] == pytest.approx((predicted - data.val.labels).abs().mean().item(), rel=1e-3)
    assert report["loss"] == pytest.approx(report["mse"] / labels.var(correction=0).item(), rel=1e-3)


def test_a_study_that_minimizes_gets_the_squared_error() -> None:
    trial = FakeTrial(directions=("minimize",), build=lambda: nn.Linear(5, 1))
    train_on(make_numbers())(trial)
    assert trial.reports[4]["value"] == trial.reports[4]["mse"]


def test_a_retraining_notes_what_its_outputs_mean() -> None:
    data = make_numbers()
    trial = FakeTrial({"lr": 0.05, "batch_size": 8}, retraining=True, build=lambda: nn.Linear(5, 1))
    train_on(data)(trial)
    assert trial.user_attrs["test_r2"] == trial.reports[4]["r2"] > 0.8
    assert trial.user_attrs["test_mae"] < 200
    assert "test_accuracy" not in trial.user_attrs
    labels = data.train.labels
    assert trial.user_attrs["labels"] == {
        "mean": labels.mean().item(),
        "std": labels.std(correction=0).item(),
    }


def test_subsets_of_numbers_are_nested_and_spread() -> None:
    objective = train_on(make_numbers())
    sizes = [objective._subset(f, 120).tolist() for f in (0.001, 0.1, 0.5, 1.0)]
    assert [len(s) for s in sizes] == [2, 12, 60, 120]
    assert all(set(a) <= set(b) for a, b in itertools.pairwise(sizes))
    labels = objective.data.train.labels
    assert labels[sizes[1]].std().item() == pytest.approx(labels.std().item(), rel=0.3)
    tenths = np.bincount(strata(labels.numpy())[sizes[2]])
    assert (np.abs(tenths - 6) <= 1).all()


def test_images_can_have_numbers_too() -> None:
    images = make_data()
    brightness = images.train.inputs.float().mean((1, 2, 3)).double().numpy()
    data = load_data((images.train.inputs, brightness))
    trial = FakeTrial({"lr": 0.02, "batch_size": 8}, build=lambda: network(classes=1))
    train_on(data)(trial)
    assert trial.reports[4]["r2"] > trial.reports[1]["r2"]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_network_with_several_outputs_is_refused(classes: int) -> None:
    trial = FakeTrial(fidelity=Fidelity(epochs=1), build=lambda: nn.Linear(5, classes))
    with pytest.raises(ValueError, match=r"numbers of shape \(2, 1\). Make the space .* n_classes=1"):
        train_on(make_numbers())(trial)


def test_the_target_is_standardised_on_the_training_part_alone() -> None:
    data = make_numbers()
    objective = train_on(data)
    assert objective.prepare("train", None, CPU).labels.mean().item() == pytest.approx(0, abs=1e-6)
    test = objective.prepare("test", None, CPU).labels.double()
    labels = data.train.labels
    assert torch.allclose(test * labels.std(correction=0) + labels.mean(), data.test.labels, rtol=1e-5)
