"""The operations a layer of a chain may do, one entry each; knows not how layers are connected.

To add an operation, add an entry to :data:`OPERATIONS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from spaces.checking import checked_fraction
from spaces.counting import Count, count_graph
from spaces.graph import INPUT, Sketch

ACTIVATIONS: Mapping[str, str] = {
    "relu": "ReLU",
    "silu": "SiLU",
    "gelu": "GELU",
    "elu": "ELU",
    "leaky_relu": "LeakyReLU",
    "tanh": "Tanh",
}
"""Classes in ``torch.nn`` by the names used in configurations."""

NORMALISATIONS = {"batch": 3, "group": 1, "none": 1}
"""Of images, with prior weights: several layers without any normalisation seldom train well. ``group`` has 8
groups where the channels divide into that many of at least two."""


class Layer(NamedTuple):
    """The choices of one layer; one its operation does not have keeps the value below."""

    op: str
    kernel: int | str = 1
    filters: int = 0
    stride: int | str = 1
    activation: str = "none"
    normalisation: str = "none"
    dilation: int = 1
    expansion: int = 1


NOTHING_CHOSEN = Layer("")
"""What a layer has where its operation leaves no choice."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a layer may do."""

    name: str
    """Value of ``layer{i}_op``."""
    weight: float
    """How likely it is drawn, relative to the others."""
    has: tuple[str, ...]
    """Its hyperparameters, fields of :class:`Layer`.

    With ``filters`` that many channels leave it, otherwise as many as enter. With ``stride`` the image
    becomes smaller by it, rounded up, otherwise it keeps its size.
    """
    sketch: Callable[[Sketch, str, str, int, Layer], str]
    """``sketch(sketch, name, source, channels, layer)`` adds its nodes, their names starting with
    ``name``, that read the node ``source`` of so many channels; returns the output node."""
    label: str
    """What a drawing calls it."""


def _conv(sketch: Sketch, name: str, source: str, channels: int, layer: Layer) -> str:
    change, stride = (channels, layer.filters), _size(layer.stride)
    # A normalisation has a bias of its own.
    bias = layer.normalisation == "none"
    source = sketch.conv(
        f"{name}_conv", source, change, _size(layer.kernel), stride, layer.dilation, bias=bias
    )
    return _normalised_and_activated(sketch, name, source, layer.filters, layer)


def _separable(sketch: Sketch, name: str, source: str, channels: int, layer: Layer) -> str:
    """Each channel alone, then a 1×1 convolution (Chollet 2017, arXiv:1610.02357)."""
    both, size = (channels, channels), (_size(layer.kernel), _size(layer.stride))
    source = sketch.conv(f"{name}_depthwise", source, both, *size, groups=channels)
    bias = layer.normalisation == "none"
    source = sketch.conv(f"{name}_pointwise", source, (channels, layer.filters), 1, bias=bias)
    return _normalised_and_activated(sketch, name, source, layer.filters, layer)


def _inverted(sketch: Sketch, name: str, source: str, channels: int, layer: Layer) -> str:
    """The inverted residual with linear bottleneck (Sandler et al. 2018, arXiv:1801.04381, section 3.3).

    Channels are expanded, each is convolved alone, all are projected without an activation; the input is
    added where it has the output's shape. An expansion of 1 needs no first convolution.
    """
    hidden, bias = channels * layer.expansion, layer.normalisation == "none"
    inner = source
    if layer.expansion > 1:
        inner = sketch.conv(f"{name}_expand", inner, (channels, hidden), 1, bias=bias)
        inner = _normalised_and_activated(sketch, f"{name}_expand", inner, hidden, layer)
    size = (_size(layer.kernel), _size(layer.stride))
    inner = sketch.conv(f"{name}_depthwise", inner, (hidden, hidden), *size, bias=bias, groups=hidden)
    inner = _normalised_and_activated(sketch, f"{name}_depthwise", inner, hidden, layer)
    inner = sketch.conv(f"{name}_project", inner, (hidden, layer.filters), 1, bias=bias)
    inner = _normalised(sketch, f"{name}_project", inner, layer.filters, layer.normalisation)
    if layer.stride == 1 and channels == layer.filters:
        inner = sketch.add(f"{name}_sum", "add", source, inner)
    return inner


def _max_pool(sketch: Sketch, name: str, source: str, channels: int, layer: Layer) -> str:
    return sketch.add(name, "MaxPool2d", source, kernel_size=3, stride=_size(layer.stride), padding=1)


def _avg_pool(sketch: Sketch, name: str, source: str, channels: int, layer: Layer) -> str:
    window = {"kernel_size": 3, "stride": _size(layer.stride), "padding": 1, "count_include_pad": False}
    return sketch.add(name, "AvgPool2d", source, **window)


def _identity(sketch: Sketch, name: str, source: str, channels: int, layer: Layer) -> str:
    return source


_CONVOLUTION = ("kernel", "filters", "stride", "activation", "normalisation")
# Under a uniform prior every second layer would have no weights to learn.
OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("conv", 4, _CONVOLUTION, _conv, "conv"),
        Operation("separable", 2, _CONVOLUTION, _separable, "separable conv"),
        Operation("dilated", 2, (*_CONVOLUTION, "dilation"), _conv, "dilated conv"),
        Operation("inverted", 2, (*_CONVOLUTION, "expansion"), _inverted, "inverted bottleneck"),
        Operation("max_pool", 1, ("stride",), _max_pool, "max pool"),
        Operation("avg_pool", 1, ("stride",), _avg_pool, "average pool"),
        Operation("identity", 1, (), _identity, "identity"),
    )
}
"""Every operation by its name."""

WEIGHTED = frozenset(name for name, operation in OPERATIONS.items() if "filters" in operation.has)
"""Names of the operations that learn weights."""


@lru_cache(maxsize=65536)
def count_layer(layer: Layer, channels: int, size: tuple[int, int]) -> Count:
    """Exact size of a layer that reads images of so many channels and of ``size`` (rows, columns)."""
    sketch = Sketch()
    OPERATIONS[layer.op].sketch(sketch, "layer", INPUT, channels, layer)
    return count_graph(sketch.graph(), (channels, *size))


@lru_cache(maxsize=1024)
def extent(size: int | str) -> tuple[int, int]:
    """(rows, columns) of a size as configurations have it: 3, or ``"1x7"``."""
    if isinstance(size, int):
        return size, size
    rows, columns = size.split("x")
    return int(rows), int(columns)


def first_layers(n: int, depth: float) -> int:
    """How many of ``n`` layers a fraction of the depth keeps, at least one.

    Raises:
        ValueError: if ``depth`` is not a fraction.
    """
    return math.ceil(checked_fraction("depth", depth) * n)


def _size(size: int | str) -> int | tuple[int, int]:
    return size if isinstance(size, int) else extent(size)


def _normalised_and_activated(sketch: Sketch, name: str, source: str, channels: int, layer: Layer) -> str:
    source = _normalised(sketch, name, source, channels, layer.normalisation)
    return sketch.add(f"{name}_act", ACTIVATIONS[layer.activation], source)


def _normalised(sketch: Sketch, name: str, source: str, channels: int, normalisation: str) -> str:
    if normalisation == "batch":
        return sketch.add(f"{name}_norm", "BatchNorm2d", source, num_features=channels)
    if normalisation == "group":
        groups = math.gcd(channels, 8)
        # A group of one channel would be all zeros once the image is a single pixel.
        if groups == channels > 1:
            groups //= 2
        return sketch.add(f"{name}_norm", "GroupNorm", source, num_groups=groups, num_channels=channels)
    return source
