"""The operations on a cell's edges, one entry each; knows neither cells nor configurations.

Every operation keeps the number of channels, and takes a picture of side n to ceil(n / stride).
Convolutions run ReLU, convolution, batch normalisation in this order, as in NASNet (Zoph et al. 2018,
arXiv:1707.07012) and after it in ENAS, AmoebaNet and DARTS; poolings carry no normalisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spaces.graph import Size, Sketch

Drawer = Callable[[Sketch, str, str, int, int], str]
"""(sketch, name, source, channels, stride) → the node that holds the result, nodes named name, name_…"""


@dataclass(frozen=True, slots=True)
class Operation:
    """What may stand on an edge of a cell."""

    sketch: Drawer
    """Adds its nodes to a sketch."""
    label: str
    """How drawings name it."""
    layers: int
    """Convolutions one after the other, its part of a cell's depth."""


def relu_conv_norm(
    sketch: Sketch,
    name: str,
    source: str,
    channels: tuple[int, int],
    kernel: Size = 1,
    stride: Size = 1,
    dilation: int = 1,
) -> str:
    """ReLU, a convolution from ``channels[0]`` to ``channels[1]``, batch normalisation."""
    source = sketch.add(f"{name}_act", "ReLU", source)
    source = sketch.conv(f"{name}_conv", source, channels, kernel, stride, dilation)
    return sketch.add(f"{name}_norm", "BatchNorm2d", source, num_features=channels[1])


def factorized_reduction(sketch: Sketch, name: str, source: str, channels: tuple[int, int]) -> str:
    """Half the size without losing pixels: strided 1×1 convolutions of the picture and of it moved by one.

    Each gives half the channels. The moved one has zeros behind, so it works at odd sizes too.
    """
    inputs, outputs = channels
    source = sketch.add(f"{name}_act", "ReLU", source)
    halves = [sketch.conv(f"{name}_even", source, (inputs, outputs - outputs // 2), 1, 2)]
    if outputs > 1:
        moved = sketch.add(f"{name}_shift", "shift", source)
        halves.append(sketch.conv(f"{name}_odd", moved, (inputs, outputs // 2), 1, 2))
    source = sketch.concat(f"{name}_halves", halves)
    return sketch.add(f"{name}_norm", "BatchNorm2d", source, num_features=outputs)


def _none(sketch: Sketch, name: str, source: str, channels: int, stride: int) -> str:
    if stride > 1:
        source = sketch.add(f"{name}_size", "MaxPool2d", source, kernel_size=1, stride=stride)
    return sketch.add(name, "zeros_like", source)


def _identity(sketch: Sketch, name: str, source: str, channels: int, stride: int) -> str:
    return source if stride == 1 else factorized_reduction(sketch, name, source, (channels, channels))


def _convolution(kernel: int, dilation: int = 1) -> Drawer:
    def draw(sketch: Sketch, name: str, source: str, channels: int, stride: int) -> str:
        return relu_conv_norm(sketch, name, source, (channels, channels), kernel, stride, dilation)

    return draw


def _spatial(kernel: int) -> Drawer:
    """A convolution along each row, then one along each column."""

    def draw(sketch: Sketch, name: str, source: str, channels: int, stride: int) -> str:
        both = (channels, channels)
        source = sketch.add(f"{name}_act", "ReLU", source)
        source = sketch.conv(f"{name}_row", source, both, (1, kernel), (1, stride))
        source = sketch.conv(f"{name}_column", source, both, (kernel, 1), (stride, 1))
        return sketch.add(f"{name}_norm", "BatchNorm2d", source, num_features=channels)

    return draw


def _separable(kernel: int, times: int = 2, dilation: int = 1) -> Drawer:
    """Depthwise then 1×1; published cells apply the undilated ones twice, only the first one strided."""

    def draw(sketch: Sketch, name: str, source: str, channels: int, stride: int) -> str:
        both = (channels, channels)
        for i in range(times):
            at = f"{name}_{i}" if times > 1 else name
            source = sketch.add(f"{at}_act", "ReLU", source)
            step = stride if i == 0 else 1
            source = sketch.conv(f"{at}_depthwise", source, both, kernel, step, dilation, groups=channels)
            source = sketch.conv(f"{at}_pointwise", source, both, 1)
            source = sketch.add(f"{at}_norm", "BatchNorm2d", source, num_features=channels)
        return source

    return draw


def _pooling(module: str, kernel: int) -> Drawer:
    # An average over the border takes the pixels there are, not zeros.
    more = {"count_include_pad": False} if module == "AvgPool2d" else {}

    def draw(sketch: Sketch, name: str, source: str, channels: int, stride: int) -> str:
        window = {"kernel_size": kernel, "stride": stride, "padding": kernel // 2}
        return sketch.add(name, module, source, **window, **more)

    return draw


OPERATIONS: Mapping[str, Operation] = {
    "none": Operation(_none, "none", 0),
    "skip_connect": Operation(_identity, "skip", 0),
    "avg_pool_3x3": Operation(_pooling("AvgPool2d", 3), "average pool 3×3", 0),
    "max_pool_3x3": Operation(_pooling("MaxPool2d", 3), "max pool 3×3", 0),
    "max_pool_5x5": Operation(_pooling("MaxPool2d", 5), "max pool 5×5", 0),
    "max_pool_7x7": Operation(_pooling("MaxPool2d", 7), "max pool 7×7", 0),
    "conv_1x1": Operation(_convolution(1), "conv 1×1", 1),
    "conv_3x3": Operation(_convolution(3), "conv 3×3", 1),
    "conv_3x3_dilated": Operation(_convolution(3, dilation=2), "dilated conv 3×3", 1),
    "conv_3x1_1x3": Operation(_spatial(3), "conv 1×3, 3×1", 2),
    "conv_7x1_1x7": Operation(_spatial(7), "conv 1×7, 7×1", 2),
    "sep_conv_3x3": Operation(_separable(3), "separable conv 3×3", 2),
    "sep_conv_5x5": Operation(_separable(5), "separable conv 5×5", 2),
    "sep_conv_7x7": Operation(_separable(7), "separable conv 7×7", 2),
    "dil_conv_3x3": Operation(_separable(3, times=1, dilation=2), "dilated separable conv 3×3", 1),
    "dil_conv_5x5": Operation(_separable(5, times=1, dilation=2), "dilated separable conv 5×5", 1),
}
"""Names as in the published genotypes, where these have one."""
