"""What chain-structured networks compute, count and refuse."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import spaces
from spaces.canonical import canonical
from spaces.counting import count_graph
from spaces.layers import OPERATIONS


def everything(input_shape: tuple[int, int, int] = (3, 27, 32), **more: Any) -> spaces.Space:
    """A chain space with all there is."""
    arguments: dict[str, Any] = {
        "operations": list(OPERATIONS),
        "kernels": [3, 5, (1, 7), (5, 1)],
        "strides": [1, 2, (2, 1)],
        "filters": [4, 8, 12],
        "normalisations": ["batch", "group", "none"],
        "skip_connections": True,
    }
    return spaces.chain(input_shape, 7, **arguments | more)


def layers(*ops: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Params of a chain, layer by layer."""
    filled = {"kernel": 3, "filters": 16, "stride": 1, "activation": "relu", "normalisation": "batch"}
    params: dict[str, Any] = {"n_layers": len(ops)} | more
    for i, layer in enumerate(ops):
        own = {"conv": filled, "separable": filled, "identity": {}}.get(layer["op"], {"stride": 1})
        params |= {f"layer{i}_{name}": value for name, value in (own | layer).items()}
    return params


CONV, POOL, IDENTITY = {"op": "conv"}, {"op": "max_pool"}, {"op": "identity"}


def test_default_is_three_convolutions() -> None:
    space = spaces.chain((1, 28, 28), 10)
    convolutions = [m for m in space.build(space.default).modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(m.out_channels, m.stride[0]) for m in convolutions] == [(32, 1), (64, 2), (128, 2)]


@pytest.mark.parametrize("skips", [False, True])
def test_count_is_exact(skips: bool) -> None:
    space = everything(skip_connections=skips)
    for params in [space.default, *space.sample(40, np.random.default_rng(0))]:
        network = space.build(params).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.randn(1, 3, 27, 32))
        count = space.count(params)
        assert counter.get_total_flops() == 2 * count.macs
        assert count.parameters == sum(p.numel() for p in network.parameters())
        assert count == count_graph(network.graph, (3, 27, 32))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28, 32, 64])
def test_every_configuration_trains(channels: int, size: int) -> None:
    space = everything((channels, size, size), kernels=[3, 5, (1, 7)])
    torch.manual_seed(0)
    for params in space.sample(6, np.random.default_rng(size)):
        network = space.build(params)
        loss = torch.nn.functional.cross_entropy(
            network(torch.randn(4, channels, size, size)), torch.arange(4)
        )
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_rectangles_are_texts_in_params_and_survive_json() -> None:
    space = spaces.chain(
        (3, 8, 8), 10, operations=["conv"], kernels=(3, (1, 7), "7x1", (5, 5)), strides=(1, (2, 1))
    )
    samples = space.sample(100, np.random.default_rng(0))
    assert {params["layer0_kernel"] for params in samples} == {3, 5, "1x7", "7x1"}
    assert {params["layer0_stride"] for params in samples} == {1, "2x1"}
    assert json.loads(json.dumps(samples)) == samples
    restored = spaces.Space.from_dict(json.loads(json.dumps(space.to_dict())))
    assert restored == space
    assert space.default["layer0_kernel"] == 3
    network = space.build(layers({"op": "conv", "kernel": "1x7", "stride": "2x1"}, CONV))
    assert network.layer0_conv.weight.shape == (16, 3, 1, 7)
    assert network.layer0_conv(torch.randn(1, 3, 8, 8)).shape == (1, 16, 4, 8)


def test_new_operations_come_by_request() -> None:
    space = spaces.chain((3, 32, 32), 10)
    choices = space.configuration_space["layer0_op"].choices
    assert set(choices) == {"conv", "separable", "max_pool", "avg_pool"}
    assert not any("dilation" in name or "expansion" in name for name in space.names)


@pytest.mark.parametrize("skips", [False, True])
def test_keys_group_configurations_as_their_graphs_do(skips: bool) -> None:
    space = spaces.chain(
        (3, 8, 8), 10, operations=["conv", "identity", "max_pool"], n_layers=(1, 3), filters=[16],
        kernels=[3], strides=[1, 2], activations=["relu"], normalisations=["batch"], skip_connections=skips,
    )  # fmt: skip
    samples = space.sample(300, np.random.default_rng(0))
    pairs = {(space.key(params), canonical(space.build(params).graph)) for params in samples}
    assert len(pairs) == len({key for key, _ in pairs}) == len({text for _, text in pairs})
    assert len(pairs) < 200


def test_dropout_does_not_make_another_network() -> None:
    space = everything().with_hyperparameters([])
    params = next(p for p in space.sample(50, np.random.default_rng(0)) if p["n_layers"] > 3)
    architecture = space._architecture
    assert architecture is not None
    assert architecture.key(params | {"dropout": 0.5}) == architecture.key(params)


def test_features_tell_networks_apart_and_come_in_batches() -> None:
    space = everything()
    samples = space.sample(60, np.random.default_rng(0))
    table = space.features_many(samples)
    assert np.isfinite(table).all()
    np.testing.assert_array_equal(table, np.stack([space.features(params) for params in samples]))
    keys = [space.key(params) for params in samples]
    assert len({tuple(row) for row in table}) > 0.9 * len(set(keys))


def test_drawings_show_layers_and_joins() -> None:
    space = everything()
    own = {"kernel": "1x7", "stride": "2x1", "filters": 8}
    first = {"op": "dilated", "dilation": 3, "activation": "relu", "normalisation": "none", **own}
    params = layers(first, CONV, skip1_0=False, skip_join="add", skip_reconcile="pad")
    drawing = space.draw(params | {"layer1_filters": 12})
    for text in ("dilated", "1×7", "dilation 3", "stride 2×1", "zeros where smaller", "7 classes"):
        assert text in drawing


def test_identities_do_not_change_the_key() -> None:
    space = spaces.chain((3, 8, 8), 10, operations=["conv", "max_pool", "identity"], n_layers=(1, 4))
    key = space.key(layers(CONV, POOL))
    assert space.key(layers(CONV, IDENTITY, POOL)) == key
    assert space.key(layers(IDENTITY, CONV, POOL, IDENTITY)) == key
    assert space.key(layers(POOL, CONV)) != key
    assert space.key(layers({"op": "conv", "kernel": 5}, POOL)) != key


@pytest.mark.parametrize(
    ("width", "expected"), [(1.0, 64), (0.5, 32), (0.3, 16), (0.125, 8), (0.05, 3), (0.001, 1)]
)
def test_width_scales_filters(width: float, expected: int) -> None:
    space = spaces.chain((1, 8, 8), 10)
    network = space.build(layers({"op": "conv", "filters": 64}, POOL), width=width)
    assert network.layer0_conv.out_channels == expected


@pytest.mark.parametrize(
    ("depth", "expected"), [(1.0, 3), (0.67, 3), (0.5, 2), (0.34, 2), (0.33, 1), (0.01, 1)]
)
def test_depth_keeps_the_first_layers(depth: float, expected: int) -> None:
    space = spaces.chain((1, 8, 8), 10)
    names = {name for name, _ in space.build(layers(CONV, CONV, CONV), depth=depth).named_children()}
    assert {n for n in names if n.endswith("_conv")} == {f"layer{i}_conv" for i in range(expected)}


def test_dropout_comes_before_the_classifier() -> None:
    space = spaces.chain((1, 8, 8), 10).with_hyperparameters()
    children = dict(space.build(space.default | {"dropout": 0.25}).named_children())
    assert children["dropout"].p == 0.25
    assert list(children)[-2:] == ["dropout", "classifier"]
    assert "dropout" not in dict(space.build(space.default).named_children())


def test_every_pair_of_equal_keys_has_equal_sizes() -> None:
    space = spaces.chain(
        (3, 8, 8), 10, operations=["conv", "identity", "max_pool"], filters=[16], kernels=[3]
    )
    sizes: dict[str, spaces.Count] = {}
    for params in space.sample(500, np.random.default_rng(0)):
        count = space.count(params)
        assert sizes.setdefault(space.key(params), count) == count
    assert len(sizes) < 500


def test_a_chain_stays_a_size_one_can_search() -> None:
    assert len(spaces.chain((3, 32, 32), 10).names) == 37
    assert len(spaces.chain((3, 32, 32), 10, skip_connections=True).names) == 37 + 15 + 2


BAD: list[tuple[dict[str, Any], str]] = [
    ({"n_classes": 0}, r"n_classes=0: .*at least 1"),
    ({"n_classes": True}, "n_classes=True"),
    ({"n_classes": 2.5}, r"n_classes=2\.5"),
    ({"input_shape": (28, 28)}, r"must be \(channels, height, width\)"),
    ({"input_shape": (1, 28, 0)}, r"must be \(channels, height, width\)"),
    ({"input_shape": 28}, r"must be \(channels, height, width\)"),
    ({"input_shape": (1, 4, 28)}, r"at least the largest kernel, 5"),
    ({"input_shape": (32, 28, 3)}, r"channels come first here. Give input_shape=\(3, 32, 28\)"),
    ({"n_layers": (4, 2)}, r"inverted. Write n_layers=\(2, 4\)"),
    ({"n_layers": (0, 2)}, "pair"),
    ({"n_layers": 3}, "pair"),
    ({"kernels": []}, "at least one"),
    ({"kernels": [2]}, "odd"),
    ({"filters": [0]}, "whole numbers from 1"),
    ({"filters": 16}, "must be a list"),
    ({"strides": ()}, "at least one"),
    ({"operations": ["conv", "attention"]}, "'attention' is not known"),
    ({"operations": []}, "at least one of"),
    ({"operations": "conv"}, "must be a list of names"),
    ({"activations": ["softmax"]}, "'softmax' is not known"),
    ({"normalisations": ["layer"]}, "'layer' is not known"),
    ({"operations": ["conv", "separable", "conv"]}, "'conv' is given twice"),
    ({"filters": [16, 16]}, "16 is given twice"),
    ({"kernels": [3, (3, 3)]}, "given twice"),
    ({"kernels": [(1, 2)]}, "odd"),
    ({"kernels": [(1, 3, 5)]}, r"\(rows, columns\)"),
    ({"kernels": ["3x"]}, r"\(rows, columns\)"),
    ({"kernels": [3.0]}, r"\(rows, columns\)"),
    ({"strides": [(0, 1)]}, "whole numbers from 1"),
    ({"kernels": [3, (1, 9)], "input_shape": (1, 28, 8)}, r"largest kernel, 1x9. Use .* kernels=\[3\]"),
    ({"dilations": [1, 2]}, "at least 2. .* 'conv'"),
    ({"expansions": []}, "at least one"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD, ids=[str(w) for w, _ in BAD])
def test_bad_input(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spaces.chain(**({"input_shape": (1, 28, 28), "n_classes": 10} | wrong))


def test_narrow_spaces_are_spaces() -> None:
    space = spaces.chain((1, 8, 8), 2, n_layers=(2, 2), operations=["max_pool"], strides=[1])
    assert space.sample(2, np.random.default_rng(0)) == [space.default] * 2
    assert (
        space.features(space.default).shape == spaces.chain((1, 8, 8), 2).features(layers(CONV, POOL)).shape
    )
    assert math.isfinite(space.size)
