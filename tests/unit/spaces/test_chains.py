"""What chain-structured networks compute, count and refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import spaces


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
def test_macs_equal_torchs_own_count(skips: bool) -> None:
    space = spaces.chain((3, 27, 32), 7, skip_connections=skips)
    for params in [space.default, *space.sample(25, np.random.default_rng(0))]:
        network = space.build(params).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.randn(1, 3, 27, 32))
        assert counter.get_total_flops() == 2 * space.count(params).macs


def test_identities_do_not_change_the_key() -> None:
    space = spaces.chain((3, 8, 8), 10, operations=["conv", "max_pool", "identity"], n_layers=(1, 4))
    key = space.key(layers(CONV, POOL))
    assert space.key(layers(CONV, IDENTITY, POOL)) == key
    assert space.key(layers(IDENTITY, CONV, POOL, IDENTITY)) == key
    assert space.key(layers(POOL, CONV)) != key
    assert space.key(layers({"op": "conv", "kernel": 5}, POOL)) != key


def test_skips_change_the_key_and_what_is_computed() -> None:
    space = spaces.chain((3, 8, 8), 10, skip_connections=True)
    without = layers(CONV, CONV, CONV, skip2_0=False)
    assert space.key(without) != space.key(without | {"skip2_0": True})
    assert space.count(without | {"skip2_0": True}) == space.count(without)  # equal shapes need no projection


@pytest.mark.parametrize(
    ("stride", "filters", "extra"), [(1, 16, 0), (2, 16, 0), (1, 32, 16 * 32), (2, 32, 16 * 32)]
)
def test_skips_are_reconciled(stride: int, filters: int, extra: int) -> None:
    space = spaces.chain((3, 9, 9), 10, skip_connections=True)
    middle = {"op": "conv", "stride": stride, "filters": filters}
    without = layers(CONV, middle, CONV, skip2_0=False)
    with_skip = without | {"skip2_0": True}
    assert space.count(with_skip).parameters - space.count(without).parameters == extra
    assert space.build(with_skip)(torch.randn(2, 3, 9, 9)).shape == (2, 10)


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
    space = spaces.chain((3, 32, 32), 10, skip_connections=True).with_hyperparameters()
    assert 30 <= len(space.names) <= 60


BAD: list[tuple[dict[str, Any], str]] = [
    ({"n_classes": 1}, r"n_classes=1: .*at least 2"),
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
