"""Exact parameters and multiply-accumulates of a network, without building it; knows no configurations."""

from __future__ import annotations

from collections.abc import Iterable
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
    """Parameters and MACs of a graph for one example of shape ``input_shape`` (c, h, w)."""
    shapes: dict[str, Shape] = {INPUT: input_shape}
    parameters = macs = 0
    for node in graph:
        shape = shapes[node.name] = _shape(node, shapes[node.inputs[0]])
        s = node.settings
        match node.op:
            case "Conv2d":
                high, wide = _pair(s["kernel_size"])
                each = s["in_channels"] // s.get("groups", 1) * high * wide
                parameters += s["out_channels"] * (each + bool(s.get("bias", True)))
                macs += shape[0] * shape[1] * shape[2] * each
            case "Linear":
                parameters += s["out_features"] * (s["in_features"] + bool(s.get("bias", True)))
                macs += s["out_features"] * s["in_features"]
            case "BatchNorm2d":
                parameters += 2 * s["num_features"]
            case "GroupNorm":
                parameters += 2 * s["num_channels"]
    return Count(parameters, macs)


def _shape(node: Node, shape: Shape) -> Shape:
    """Output shape (c, h, w) of a node, given the shape of its first input."""
    s = node.settings
    match node.op:
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
    kernels, strides, paddings = (
        _pair(s["kernel_size"]),
        _pair(s.get("stride", 1)),
        _pair(s.get("padding", 0)),
    )
    up = s.get("ceil_mode", False)
    high, wide = (
        # Torch's formula; rounding up adds a last window, unless that would start in the padding.
        _windows(size + 2 * p - k, stride, size + p, up)
        for size, k, stride, p in zip(shape[1:], kernels, strides, paddings, strict=True)
    )
    return high, wide


def _windows(room: int, stride: int, end: int, up: bool) -> int:
    if not up:
        return room // stride + 1
    windows = -(-room // stride) + 1
    return windows - 1 if (windows - 1) * stride >= end else windows


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
