"""Exact parameters and multiply-accumulates of a network, without building it; knows no configurations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from spaces.graph import INPUT, Node

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """The size of a network."""

    parameters: int
    """Trainable numbers."""
    macs: int
    """Multiply-accumulate operations of convolutions and linear layers for one example."""

    def __add__(self, other: Count) -> Count:
        return Count(self.parameters + other.parameters, self.macs + other.macs)

    def __mul__(self, times: int) -> Count:
        return Count(self.parameters * times, self.macs * times)


def count_graph(graph: Iterable[Node], input_shape: Shape) -> Count:
    """Parameters and MACs of a graph for one example of shape ``input_shape``: (c, h, w) or (features,)."""
    shapes: dict[str, Shape] = {INPUT: input_shape}
    parameters = macs = 0
    for node in graph:
        shape = shapes[node.name] = output_shape(node, [shapes[name] for name in node.inputs])
        s = node.settings
        parameters += weights(node)
        match node.op:
            case "Conv2d":
                high, wide = _pair(s["kernel_size"])
                macs += (
                    shape[0] * shape[1] * shape[2] * (s["in_channels"] // s.get("groups", 1) * high * wide)
                )
            case "Linear":
                macs += s["out_features"] * s["in_features"]
    return Count(parameters, macs)


def weights(node: Node) -> int:
    """Trainable numbers of one node."""
    s = node.settings
    found = 0
    match node.op:
        case "Conv2d":
            high, wide = _pair(s["kernel_size"])
            each = s["in_channels"] // s.get("groups", 1) * high * wide
            found = s["out_channels"] * (each + bool(s.get("bias", True)))
        case "Linear":
            found = s["out_features"] * (s["in_features"] + bool(s.get("bias", True)))
        case "BatchNorm2d" | "BatchNorm1d":
            found = 2 * s["num_features"] * bool(s.get("affine", True))
        case "LayerNorm":
            found = 2 * s["normalized_shape"]
        case "GroupNorm":
            found = 2 * s["num_channels"]
    return found


def output_shape(node: Node, inputs: Sequence[Shape]) -> Shape:
    """Output shape, (c, h, w) or (features,), of a node, given the shapes of its inputs."""
    s = node.settings
    shape = inputs[0]
    match node.op:
        case "concat":
            return sum(each[0] for each in inputs), *shape[1:]
        case "pad":
            high, wide = (max(each[side] for each in inputs) for side in (1, 2))
            return s.get("channels") or shape[0], high, wide
        case "shrink":
            high, wide = (min(each[side] for each in inputs) for side in (1, 2))
            return shape[0], high, wide
        case "Conv2d":
            return s["out_channels"], *_sizes(node, shape)
        case "MaxPool2d" | "AvgPool2d":
            return shape[0], *_sizes(node, shape)
        case "AdaptiveAvgPool2d":
            return shape[0], *_pair(s["output_size"])
        case "Flatten":
            return (shape[0] * shape[1] * shape[2],)
        case "Linear":
            return (s["out_features"],)
    return shape


def _sizes(node: Node, shape: Shape) -> tuple[int, int]:
    s = node.settings
    dilation, up = s.get("dilation", 1), s.get("ceil_mode", False)
    spans = (dilation * (k - 1) + 1 for k in _pair(s["kernel_size"]))
    # A pooling without a stride moves by its kernel.
    strides = _pair(s.get("stride") or (1 if node.op == "Conv2d" else s["kernel_size"]))
    high, wide = (
        # Torch's formula; rounding up adds a last window, unless that would start in the padding.
        _windows(size + 2 * p - span, stride, size + p, up)
        for size, span, stride, p in zip(shape[1:], spans, strides, _pair(s.get("padding", 0)), strict=True)
    )
    return high, wide


def _windows(room: int, stride: int, end: int, up: bool) -> int:
    if not up:
        return room // stride + 1
    windows = -(-room // stride) + 1
    return windows - 1 if (windows - 1) * stride >= end else windows


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
