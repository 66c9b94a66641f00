"""What perceptrons compute, count and refuse."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import spaces
from spaces import Space


def layers(*own: dict[str, Any]) -> dict[str, Any]:
    """Params of a perceptron, layer by layer."""
    filled = {"units": 32, "activation": "relu", "dropout": 0.0, "normalisation": "none", "residual": False}
    params: dict[str, Any] = {"n_layers": len(own)}
    for i, layer in enumerate(own):
        params |= {f"layer{i}_{name}": value for name, value in (filled | layer).items()}
    return params


def test_default_is_two_layers_with_batch_normalisation() -> None:
    space = spaces.chain_mlp(20, 3)
    children = list(space.build(space.default).children())
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    assert [type(child) for child in children] == [*kinds, *kinds, nn.Linear]
    assert [child.out_features for child in children if isinstance(child, nn.Linear)] == [128, 128, 3]


@pytest.mark.parametrize("shape", [7, (7,), [7]])
def test_random_networks_train_and_are_counted(shape: Any) -> None:
    space = spaces.chain_mlp(shape, 4)
    assert space.input_shape == (7,)
    for params in space.sample(25, np.random.default_rng(0)):
        network = space.build(params)
        loss = nn.functional.cross_entropy(network(torch.randn(6, 7)), torch.arange(6) % 4)
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        count = space.count(params)
        assert count.parameters == sum(p.numel() for p in network.parameters())
        with FlopCounterMode(display=False) as counter:
            network.eval()(torch.randn(1, 7))
        assert counter.get_total_flops() == 2 * count.macs


def test_what_a_network_computes() -> None:
    space = spaces.chain_mlp(3, 2)
    first = {"units": 32, "normalisation": "layer", "activation": "silu", "dropout": 0.25}
    params = layers(
        first, {"units": 32, "residual": True, "activation": "gelu"}, {"units": 16, "residual": True}
    )
    network = space.build(params).eval()
    x = torch.randn(5, 3)
    y = nn.functional.silu(network.layer0_norm(network.layer0_linear(x)))
    y = y + nn.functional.gelu(network.layer1_linear(y))
    y = network.layer2_project(y) + torch.relu(network.layer2_linear(y))
    torch.testing.assert_close(network(x), network.classifier(y))
    assert network.layer0_dropout.p == 0.25
    assert "layer1_dropout" not in dict(network.named_children())
    assert network.layer0_linear.bias is None  # the normalisation has one
    assert network.layer1_linear.bias is not None


@pytest.mark.parametrize(("width", "units"), [(1.0, 64), (0.5, 32), (0.3, 16), (0.05, 3)])
def test_width_scales_units(width: float, units: int) -> None:
    network = spaces.chain_mlp(5, 2).build(layers({"units": 64}, {"units": 64}), width=width)
    assert network.layer0_linear.out_features == network.layer1_linear.out_features == units


def test_depth_keeps_the_first_layers() -> None:
    network = spaces.chain_mlp(5, 2).build(layers({"units": 64}, {"units": 32}, {"units": 16}), depth=0.5)
    assert [m.out_features for m in network.children() if isinstance(m, nn.Linear)] == [64, 32, 2]


def test_keys_tell_networks_apart() -> None:
    space = spaces.chain_mlp(5, 2).with_hyperparameters()
    params = space.sample(1, np.random.default_rng(0))[0]
    assert space.key(params) == space.key(dict(reversed(params.items())))
    choices = [
        {},
        {"dropout": 0.1},
        {"units": 64},
        {"normalisation": "batch"},
        {"residual": True},
        {"activation": "gelu"},
    ]
    assert len({space.key(layers(choice)) for choice in choices}) == len(choices)
    assert len({space.key(layers(*[{}] * n)) for n in (1, 2, 3)}) == 3


def test_dropout_is_a_choice_of_the_layers_alone() -> None:
    names = spaces.chain_mlp(5, 2).with_hyperparameters().names
    assert "layer0_dropout" in names
    assert "dropout" not in names
    assert "dropout" in spaces.chain((1, 8, 8), 2).with_hyperparameters().names


def test_features_tell_sizes_and_come_in_batches() -> None:
    space = spaces.chain_mlp(5, 2)
    samples = space.sample(20, np.random.default_rng(0))
    table = space.features_many(samples)
    assert np.isfinite(table).all()
    np.testing.assert_array_equal(table, np.stack([space.features(params) for params in samples]))
    small, large = (space.features(layers({"units": u})) for u in (16, 512))
    assert not np.array_equal(small, large)


def test_json_restores_the_space() -> None:
    space = spaces.chain_mlp(5, 2, units=[8, 12], dropout=[0.0], residual=[True], n_layers=(3, 3))
    assert Space.from_dict(json.loads(json.dumps(space.to_dict()))) == space


def test_drawings_show_layers_and_sums() -> None:
    space = spaces.chain_mlp(5, 2)
    drawing = space.draw(layers({"units": 64, "residual": True, "dropout": 0.25}))
    for text in ("5 features", "64 units", "dropout 0.25", "input projected", "2 classes"):
        assert text in drawing


BAD: list[tuple[dict[str, Any], str]] = [
    ({"input_shape": 0}, "number of features"),
    ({"input_shape": "64"}, "number of features"),
    ({"input_shape": (1, 28, 28)}, r"Flatten the examples to 784 features, or use spaces\.chain"),
    ({"n_classes": 0}, "at least 1"),
    ({"n_layers": (0, 2)}, "pair"),
    ({"n_layers": (3, 2)}, r"Write n_layers=\(2, 3\)"),
    ({"units": []}, "at least one"),
    ({"units": [8, 8]}, "8 is given twice"),
    ({"activations": ["relu", "relu"]}, "'relu' is given twice"),
    ({"activations": ["softmax"]}, "'softmax' is not known"),
    ({"normalisations": ["group"]}, "'group' is not known"),
    ({"dropout": 0.5}, "list of probabilities"),
    ({"dropout": [1.0]}, "at least 0 and below 1"),
    ({"dropout": [0.1, 0.1]}, "given twice"),
    ({"residual": True}, "list of True and False"),
    ({"residual": []}, "list of True and False"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD, ids=[str(w) for w, _ in BAD])
def test_bad_input(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spaces.chain_mlp(**({"input_shape": 5, "n_classes": 10} | wrong))
