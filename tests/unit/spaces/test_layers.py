"""Every operation of a chain's layers against what it says about itself, and against its paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spaces.graph import INPUT, Sketch
from spaces.layers import ACTIVATIONS, NORMALISATIONS, OPERATIONS, Layer, count_layer, extent
from spaces.operations import Network

CHOICES = {
    "kernel": st.sampled_from([1, 3, 5, "1x7", "7x1"]),
    "filters": st.sampled_from([1, 3, 8, 12]),
    "stride": st.sampled_from([1, 2, 3, "2x1", "1x3"]),
    "activation": st.sampled_from(sorted(ACTIVATIONS)),
    "normalisation": st.sampled_from(list(NORMALISATIONS)),
    "dilation": st.sampled_from([2, 3]),
    "expansion": st.sampled_from([1, 2, 6]),
}


@st.composite
def layers(draw: Any) -> Layer:
    operation = OPERATIONS[draw(st.sampled_from(sorted(OPERATIONS)))]
    return Layer(operation.name, **{field: draw(CHOICES[field]) for field in operation.has})


def built(layer: Layer, channels: int) -> nn.Module:
    sketch = Sketch()
    if OPERATIONS[layer.op].sketch(sketch, "layer", INPUT, channels, layer) == INPUT:
        return nn.Identity()
    return Network(sketch.graph())


@settings(deadline=None, max_examples=80)
@given(layers(), st.sampled_from([1, 3, 8]), st.integers(1, 11), st.integers(1, 11))
def test_layers_have_the_shape_and_size_they_say(
    layer: Layer, channels: int, height: int, width: int
) -> None:
    network = built(layer, channels)
    has, (down, across) = OPERATIONS[layer.op].has, extent(layer.stride)
    expected = (layer.filters if "filters" in has else channels, -(-height // down), -(-width // across))
    images = torch.randn(2, channels, height, width, requires_grad=True)
    output = network(images)
    assert output.shape == (2, *expected)
    assert output.isfinite().all()
    parameters = sum(p.numel() for p in network.parameters())
    assert count_layer(layer, channels, (height, width)).parameters == parameters


class InvertedResidual(nn.Module):
    """The block of MobileNetV2 as table 1 and figure 4 (d) of arXiv:1801.04381 give it."""

    def __init__(self, channels: int, filters: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = expansion * channels
        self.blocks = nn.Sequential()
        if expansion > 1:
            self.blocks.extend(
                [nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()]
            )
        depthwise = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False)
        self.blocks.extend([depthwise, nn.BatchNorm2d(hidden), nn.ReLU()])
        self.blocks.extend([nn.Conv2d(hidden, filters, 1, bias=False), nn.BatchNorm2d(filters)])
        self.residual = stride == 1 and channels == filters

    def forward(self, x: Tensor) -> Tensor:
        return x + self.blocks(x) if self.residual else self.blocks(x)


@pytest.mark.parametrize("expansion", [1, 6])
@pytest.mark.parametrize(("filters", "stride"), [(8, 1), (8, 2), (12, 1)])
def test_inverted_is_mobilenets_block(filters: int, stride: int, expansion: int) -> None:
    layer = Layer("inverted", 3, filters, stride, "relu", "batch", expansion=expansion)
    ours, theirs = built(layer, 8).eval(), InvertedResidual(8, filters, stride, expansion).eval()
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        own.data = other.data
    images = torch.randn(2, 8, 9, 7)
    torch.testing.assert_close(ours(images), theirs(images))


def test_dilated_is_a_larger_kernel_with_gaps() -> None:
    dilated = built(Layer("dilated", 3, 4, 2, "relu", "none", dilation=2), 3)
    large = built(Layer("conv", 5, 4, 2, "relu", "none"), 3)
    small, wide = dilated.layer_conv, large.layer_conv
    wide.weight.data.zero_()
    wide.weight.data[:, :, ::2, ::2] = small.weight.data
    wide.bias.data = small.bias.data
    images = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(dilated(images), large(images))


@pytest.mark.parametrize(("channels", "groups"), [(64, 8), (16, 8), (8, 4), (12, 4), (7, 1), (1, 1)])
def test_no_group_is_a_single_channel_where_it_need_not_be(channels: int, groups: int) -> None:
    # A group of one channel and one pixel would be normalised to zero, whatever was in it.
    network = built(Layer("conv", 3, channels, 1, "relu", "group"), 3)
    assert network.layer_norm.num_groups == groups
