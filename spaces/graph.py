"""The intermediate description of a network: nodes that building, counting and source code all read.

Knows names of torch modules and their arguments, but never imports torch; knows no configurations.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spaces.checking import checked_fraction

INPUT = "x"
"""The name by which nodes refer to the network's input."""


@dataclass(frozen=True, slots=True)
class Node:
    """One step of the forward pass."""

    name: str
    """Name of the submodule, so the first part of its keys in the state dict."""
    op: str
    """Class in ``torch.nn``, ``DropPath``, or one of :data:`FUNCTIONS`."""
    inputs: tuple[str, ...]
    """Names of earlier nodes, or ``x``."""
    settings: Mapping[str, Any]
    """Keyword arguments of the class."""


FUNCTIONS = ("add", "concat", "zeros_like", "pad", "shrink", "shift")
"""Steps without weights; they work at every image size, which only the forward pass knows.

``add``, ``concat``: sum, or channels one after the other, of all inputs. ``zeros_like``: zeros of the
input's shape. ``pad(a, *others, channels=None)``: a with zeros at the bottom and right up to the
largest size among the inputs, and with channels of zeros up to ``channels``. ``shrink(a, *others)``: a
averaged down to the smallest size among the inputs. ``shift``: moved one pixel up and left, zeros behind.
"""

Size = int | tuple[int, int]
"""Of a kernel or stride: for both directions, or (vertical, horizontal)."""

Graph = tuple[Node, ...]
"""Nodes in the order they run; the last one is the output."""


class Sketch:
    """Collects nodes; what is added last is the output."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []

    def add(self, name: str, op: str, *inputs: str, **settings: Any) -> str:
        """Appends a node and returns its name, for use as an input of later ones."""
        self._nodes.append(Node(name, op, inputs, settings))
        return name

    def conv(
        self,
        name: str,
        source: str,
        channels: tuple[int, int],
        kernel: Size,
        stride: Size = 1,
        dilation: int = 1,
        **settings: Any,
    ) -> str:
        """A convolution from ``channels[0]`` to ``channels[1]``, padded to ceil(size / stride)."""
        inputs, outputs = channels
        arguments = {"in_channels": inputs, "out_channels": outputs, "kernel_size": kernel, "stride": stride}
        arguments["padding"] = padding(kernel, dilation)
        if dilation > 1:
            arguments["dilation"] = dilation
        return self.add(name, "Conv2d", source, **arguments, **({"bias": False} | settings))

    def sum(self, name: str, sources: Sequence[str]) -> str:
        """The sum of several nodes; a single one is passed on as it is."""
        return sources[0] if len(sources) == 1 else self.add(name, "add", *sources)

    def concat(self, name: str, sources: Sequence[str]) -> str:
        """The channels of several nodes one after the other; a single one is passed on as it is."""
        return sources[0] if len(sources) == 1 else self.add(name, "concat", *sources)

    def graph(self) -> Graph:
        """Everything added so far; the last node is the output."""
        return tuple(self._nodes)

    def head(self, source: str, channels: int, n_classes: int, dropout: float) -> Graph:
        """Global average pooling, dropout where wanted, a linear classifier; returns the finished graph."""
        source = self.add("pool", "AdaptiveAvgPool2d", source, output_size=1)
        source = self.add("flatten", "Flatten", source)
        if dropout > 0:
            source = self.add("dropout", "Dropout", source, p=dropout)
        self.add("classifier", "Linear", source, in_features=channels, out_features=n_classes)
        return self.graph()


def padding(kernel: Size, dilation: int = 1) -> Size:
    """The padding with which an odd kernel at stride 1 keeps the size."""
    if isinstance(kernel, int):
        return dilation * (kernel // 2)
    return dilation * (kernel[0] // 2), dilation * (kernel[1] // 2)


def digest(graph: Graph) -> str:
    """The same text for graphs that differ in the names of nodes and the order of sums only."""
    index = {INPUT: -1}
    steps = []
    for i, node in enumerate(graph):
        inputs = [index[name] for name in node.inputs]
        steps.append([node.op, sorted(inputs) if node.op == "add" else inputs, sorted(node.settings.items())])
        index[node.name] = i
    return hashlib.sha256(json.dumps(steps).encode()).hexdigest()[:32]


def scaled(channels: int, width: float) -> int:
    """Channels at a fraction of the width: a multiple of 8 above 8, never none.

    Raises:
        ValueError: if ``width`` is not a fraction.
    """
    if checked_fraction("width", width) == 1:
        return channels
    wanted = channels * width
    return 8 * round(wanted / 8) if wanted > 8 else max(1, round(wanted))
