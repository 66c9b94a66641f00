"""Hyperparameters become optimizers, or are refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fake_trial import identical, network
from torch import nn

from fidelity import checkpoints
from fidelity.muon import MuonWithAdamW, hidden_weights
from fidelity.optimizers import OPTIMIZERS, Recipe, make_optimizer


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"optimizer": "rmsprop"}, "must be one of sgd, adamw, muon"),
        ({"schedule": "steps"}, "schedule='steps': must be one of cosine, linear, warmup_stable_decay"),
        ({"lr": 0}, "lr=0.0: must be greater than 0"),
        ({"lr": "fast"}, "lr='fast': must be a float"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"mixup": -0.1}, "mixup=-0.1"),
        ({"cutout": 1.0}, "cutout=1.0"),
        ({"augmentation": "flip_twist"}, "'flip_twist'"),
    ],
)
def test_hyperparameters_that_cannot_train_are_refused(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Recipe.of(params)


def test_hyperparameters_reach_the_optimizer() -> None:
    model = network()
    sgd = make_optimizer(
        model, Recipe.of({"optimizer": "sgd", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.1})
    )
    assert isinstance(sgd, torch.optim.SGD)
    assert [g["weight_decay"] for g in sgd.param_groups] == [0.1, 0.0]
    assert {p.ndim for p in sgd.param_groups[1]["params"]} == {1}
    assert not sgd.param_groups[0]["nesterov"]
    adamw = make_optimizer(model, Recipe.of({"beta1": 0.8, "filters": 12}))
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.param_groups[0]["betas"] == (0.8, 0.999)


def convolutions() -> nn.Sequential:
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.Conv2d(12, 12, 3, groups=12)),
        *(nn.Conv2d(12, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 9), nn.Linear(9, 4)),
    )
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def test_muon_trains_hidden_kernels_and_matrices_and_adamw_the_rest() -> None:
    model = convolutions()
    assert [tuple(w.shape) for w in hidden_weights(model)] == [(12, 8, 3, 3), (16, 12, 1, 1), (9, 16)]
    optimizer = make_optimizer(model, Recipe(optimizer="muon", momentum=0.8, weight_decay=0.03))
    assert isinstance(optimizer, MuonWithAdamW)
    muon, decayed, plain = optimizer.param_groups
    assert (muon["momentum"], muon["weight_decay"]) == (0.8, 0.03)
    assert [tuple(w.shape) for w in muon["params"]] == [(12, 72), (16, 12), (9, 16)]
    assert [tuple(w.shape) for w in decayed["params"]] == [(8, 3, 3, 3), (12, 1, 3, 3), (4, 9)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.03, 0.0)
    assert sum(p.numel() for g in optimizer.param_groups for p in g["params"]) == sum(
        p.numel() for p in model.parameters()
    )


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_muon_step_of_a_kernel_is_that_of_torch_on_the_kernel_as_a_matrix(
    layout: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(6, 2))
    model.to(memory_format=layout)  # type: ignore[call-overload]
    kernel = model[1].weight
    matrix = nn.Parameter(kernel.detach().clone(memory_format=torch.contiguous_format).view(6, 72))
    optimizer = make_optimizer(model, Recipe(optimizer="muon", lr=0.1, weight_decay=0.5))
    alone = torch.optim.Muon([matrix], lr=0.1, momentum=0.9, weight_decay=0.5, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 5, 5)).square().sum().backward()
        assert kernel.grad is not None
        matrix.grad = kernel.grad.clone(memory_format=torch.contiguous_format).view(6, 72)
        optimizer.step()
        alone.step()
    # Newton and Schulz's iteration runs in bfloat16, and the order of the columns changes its rounding.
    assert torch.allclose(kernel.detach().reshape(6, 72), matrix.detach(), atol=0.01)
    assert (kernel.detach().reshape(6, 72) - matrix.detach()).abs().mean() < 0.002


def test_gradients_are_forgotten_and_the_state_comes_back() -> None:
    model, again = convolutions(), convolutions()
    recipe = Recipe(optimizer="muon")
    optimizer, other = make_optimizer(model, recipe), make_optimizer(again, recipe)
    for _ in range(2):
        model(torch.randn(2, 3, 9, 9)).sum().backward()
        optimizer.step()
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    again.load_state_dict(model.state_dict())
    other.load_state_dict(checkpoints.copy_state(optimizer.state_dict()))
    x = torch.randn(2, 3, 9, 9)
    for network_, its in ((model, optimizer), (again, other)):
        network_(x).sum().backward()
        its.step()
    assert identical(dict(model.state_dict()), dict(again.state_dict()))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_layer_is_enough(optimizer: str) -> None:
    built = nn.Linear(4, 2)
    before = [p.clone() for p in built.parameters()]
    its = make_optimizer(built, Recipe(optimizer=optimizer, lr=0.1))
    built(torch.ones(3, 4)).square().sum().backward()
    its.step()
    assert all(not torch.equal(p, q) for p, q in zip(built.parameters(), before, strict=True))


def test_frozen_weights_stay() -> None:
    model = convolutions()
    model[1].weight.requires_grad_(False)
    assert [tuple(w.shape) for w in hidden_weights(model)] == [(16, 12, 1, 1), (9, 16)]
