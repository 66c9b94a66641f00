"""Classification and regression: metrics as others compute them, losses and weights as they are defined."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fidelity.data import load_data
from fidelity.tasks import METRICS, Classification, Regression, Task, task_of, told

CPU = torch.device("cpu")
RARE = np.repeat(["often", "rare", "never mind"], [60, 20, 40])


def measured(task: Task, outputs: torch.Tensor, labels: torch.Tensor, pieces: int) -> dict[str, float]:
    """The metrics of outputs that come in pieces."""
    sums, targets = task.sums(CPU), task.targets(labels)
    for x, y in zip(outputs.tensor_split(pieces), targets.tensor_split(pieces), strict=True):
        task.add(sums, task.scores(x), y)
    return task.read(sums)


@given(k=st.integers(2, 6), n=st.integers(1, 50), pieces=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_metrics_of_classes_are_those_of_scikit_learn(k: int, n: int, pieces: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, logits = rng.integers(0, k, n), rng.normal(size=(n, k))
    found = measured(Classification(k), torch.tensor(logits), torch.tensor(labels), pieces)
    predicted = logits.argmax(1)
    recalls = sklearn.metrics.recall_score(labels, predicted, labels=np.unique(labels), average="macro")
    assert found["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    assert found["balanced_accuracy"] == pytest.approx(recalls)
    assert found["error"] == pytest.approx(1 - found["accuracy"])


@given(
    n=st.integers(3, 50),
    pieces=st.integers(1, 4),
    mean=st.floats(-1e4, 1e4),
    std=st.floats(0.1, 1e3),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_metrics_of_numbers_are_those_of_scikit_learn_in_the_unit_of_the_data(
    n: int, pieces: int, mean: float, std: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    standard = rng.normal(size=n)
    outputs, labels = standard + rng.normal(size=n), mean + std * standard
    found = measured(Regression(mean, std), torch.tensor(outputs)[:, None], torch.tensor(labels), pieces)
    predicted = mean + std * outputs
    assert found["mse"] == pytest.approx(sklearn.metrics.mean_squared_error(labels, predicted), rel=1e-3)
    assert found["mae"] == pytest.approx(sklearn.metrics.mean_absolute_error(labels, predicted), rel=1e-3)
    assert found["r2"] == pytest.approx(sklearn.metrics.r2_score(labels, predicted), rel=1e-2, abs=1e-3)


def test_labels_without_spread_explain_nothing() -> None:
    assert measured(Regression(0.0, 1.0), torch.ones(3), torch.zeros(3), 1)["r2"] == 0.0


def test_mixed_examples_count_for_each_label_by_its_share() -> None:
    task = Classification(2)
    sums = task.sums(CPU)
    scores, y = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
    task.add(sums, scores, y, 0.75)
    task.add(sums, scores, 1 - y, 0.25)
    found = task.read(sums)
    assert found["accuracy"] == pytest.approx(0.75 * 0.75 + 0.25 * 0.25)
    assert found["balanced_accuracy"] == pytest.approx(0.5)  # always the first class


@pytest.mark.parametrize("shape", [(40,), (40, 1)])
def test_the_one_logit_of_two_classes_is_that_of_the_second(shape: tuple[int, ...]) -> None:
    task = Classification(2)
    assert shape in task.shapes(40)
    outputs, y = torch.randn(40, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    losses = task.losses(task.scores(outputs.view(shape)), y)
    expected = F.binary_cross_entropy_with_logits(outputs, y.float(), reduction="none")
    assert torch.allclose(losses, expected, atol=1e-6)
    found = measured(task, outputs.view(shape), y, 3)
    assert found["accuracy"] == pytest.approx(((outputs > 0) == y.bool()).float().mean().item())


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_network_that_knows_nothing_has_the_loss_of_chance(smoothing: float) -> None:
    task = task_of(load_data((np.ones((120, 3)), RARE)), "balanced")
    assert isinstance(task, Classification)
    y = torch.tensor([1] * 60 + [2] * 20 + [0] * 40)  # in the order of the names
    losses, weights = task.losses(torch.zeros(120, 3), y, smoothing), task.weights(y)
    assert weights is not None
    assert (losses * weights).mean().item() == pytest.approx(task.chance, rel=0.02)
    data = load_data((np.ones((200, 3)), np.random.default_rng(0).normal(7, 3, 200)))
    numbers = task_of(data)
    targets = numbers.targets(data.train.labels)
    assert numbers.losses(torch.zeros(len(targets)), targets).mean().item() == pytest.approx(1, abs=1e-4)
    assert numbers.chance == 1


@pytest.mark.parametrize("given_weights", ["balanced", [1, 2, 3], np.array([0.1, 5, 1]), torch.ones(3)])
def test_class_weights_are_scaled_to_the_mean_one(given_weights: Any) -> None:
    data = load_data((np.ones((120, 3)), RARE))
    task = task_of(data, given_weights)
    weights = task.weights(data.train.labels)
    assert weights is not None
    assert weights.mean().item() == pytest.approx(1)
    totals = torch.zeros(3).index_add_(0, data.train.labels, weights)
    if isinstance(given_weights, str):
        assert torch.allclose(totals, totals.mean().expand(3))
    else:
        counts = data.train.labels.bincount()
        ratio = totals / counts / torch.as_tensor(given_weights)
        assert torch.allclose(ratio, ratio[0].expand(3))


@pytest.mark.parametrize(
    "wrong", ["equal", [1, 2], [1, 2, 0], [1, 2, -1], [1, 2, math.nan], 3, ["a", "b", "c"]]
)
def test_class_weights_that_do_not_fit_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"class_weights=.* each of the 3 classes .* Use 'balanced'"):
        task_of(load_data((np.ones((120, 3)), RARE)), wrong)


def test_numbers_have_no_class_weights() -> None:
    data = load_data((np.ones((30, 3)), np.linspace(0.5, 3, 30)))
    with pytest.raises(ValueError, match="are of classes"):
        task_of(data, "balanced")


@pytest.mark.parametrize(
    ("metric", "names", "directions", "expected"),
    [
        (None, ["value"], ["maximize"], {"value": "r2"}),
        (None, ["value"], ["minimize"], {"value": "mse"}),
        (None, ["mae"], ["minimize"], {"mae": "mae"}),
        ("loss", ["value"], ["minimize"], {"value": "loss"}),
        (None, ["r2", "macs"], ["maximize", "minimize"], {"r2": "r2", "macs": "macs"}),
    ],
)
def test_studies_of_numbers_get_the_metric_they_asked_for(
    metric: str | None, names: list[str], directions: list[str], expected: dict[str, str]
) -> None:
    assert told(names, directions, metric, Regression(0, 1)) == expected


@pytest.mark.parametrize(
    ("metric", "direction", "words"),
    [
        ("accuracy", "maximize", "knows no accuracy for these data. Use r2, mse, mae, loss, parameters"),
        ("r2", "minimize", "direction='maximize' or metric 'mse'"),
        ("mae", "maximize", r"direction='minimize'\.$"),
    ],
)
def test_metrics_that_numbers_do_not_have_are_refused(metric: str, direction: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        told(["value"], [direction], metric, Regression(0, 1))


def test_every_metric_has_a_direction() -> None:
    for task in (Classification(3), Regression(0, 1)):
        assert set(task.metrics) <= set(METRICS)
        assert all(METRICS[name] == direction for direction, name in task.default.items())
