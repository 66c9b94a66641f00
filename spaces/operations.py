"""Turns the description of a network into a torch module; knows no configurations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spaces.graph import INPUT, Graph, Node


class DropPath(nn.Module):
    """Drops its whole input, for each example on its own (Larsson et al. 2017, arXiv:1605.07648).

    What is kept is scaled up, so that its expectation stays; nothing is dropped in evaluation.

    Args:
        p: probability to drop, in [0, 1); a training may raise it from 0 to this.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = self._full = p

    def set_progress(self, progress: float) -> None:
        """Drop with the part ``progress`` of the full probability (Zoph et al. 2018, arXiv:1707.07012).

        Args:
            progress: part of the training that is done, in [0, 1].
        """
        self.p = self._full * progress

    def forward(self, x: Tensor) -> Tensor:
        """The input with some examples zeroed; any shape (n, ...)."""
        if not self.training or self.p == 0:
            return x
        keep = torch.rand((len(x),) + (1,) * (x.ndim - 1), device=x.device) >= self.p
        return x * keep / (1 - self.p)

    def extra_repr(self) -> str:
        """The settings, for printing."""
        return f"p={self._full}"


MODULES: dict[str, type[nn.Module]] = {
    module.__name__: module
    for module in (
        nn.AdaptiveAvgPool2d,
        nn.AvgPool2d,
        nn.BatchNorm1d,
        nn.BatchNorm2d,
        nn.Conv2d,
        nn.Dropout,
        DropPath,
        nn.ELU,
        nn.Flatten,
        nn.GELU,
        nn.GroupNorm,
        nn.LayerNorm,
        nn.LeakyReLU,
        nn.Linear,
        nn.MaxPool2d,
        nn.ReLU,
        nn.ReLU6,
        nn.SiLU,
        nn.Tanh,
    )
}
"""The only classes a description may name."""


class Network(nn.Module):
    """A network that runs the nodes of a graph.

    Args:
        graph: the nodes; a node ``conv1`` becomes the submodule ``conv1``.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        last_use = {name: i for i, node in enumerate(graph) for name in node.inputs}
        self._done = [tuple(n for n in set(node.inputs) if last_use[n] == i) for i, node in enumerate(graph)]
        for node in graph:
            if node.op in MODULES:
                self.add_module(node.name, MODULES[node.op](**node.settings))

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (logits) of a batch.

        Args:
            x: images, shape (n, c, h, w), floating point.

        Returns:
            logits, shape (n, classes).
        """
        values: dict[str, Tensor] = {INPUT: x}
        for node, done in zip(self.graph, self._done, strict=True):
            value = self._run(node, [values[name] for name in node.inputs])
            for name in done:
                del values[name]
            values[node.name] = value
        return value

    def _run(self, node: Node, inputs: list[Tensor]) -> Tensor:
        match node.op:
            case "add":
                total = inputs[0]
                for other in inputs[1:]:
                    total = total + other
                return total
            case "concat":
                return torch.cat(inputs, 1)
            case "zeros_like":
                return torch.zeros_like(inputs[0])
            case "pad":
                return pad(*inputs, channels=node.settings.get("channels"))
            case "shrink":
                return shrink(*inputs)
            case "shift":
                return shift(inputs[0])
        result: Any = self._modules[node.name](*inputs)  # type: ignore[misc]
        return result  # type: ignore[no-any-return]


def pad(x: Tensor, *others: Tensor, channels: int | None = None) -> Tensor:
    """Zeros at the bottom and right of ``x`` up to the largest size, and more channels of zeros.

    Args:
        x: (n, c, h, w).
        others: of any channels and sizes.
        channels: wanted, at least c; None leaves them.
    """
    high, wide = (max(t.shape[side] for t in (x, *others)) for side in (2, 3))
    more = 0 if channels is None else channels - x.shape[1]
    missing = (0, wide - x.shape[3], 0, high - x.shape[2], 0, more)
    return F.pad(x, missing) if any(missing) else x


def shrink(x: Tensor, *others: Tensor) -> Tensor:
    """``x``, (n, c, h, w), averaged down to the smallest height and width among ``x`` and the others."""
    high, wide = (min(t.shape[side] for t in (x, *others)) for side in (2, 3))
    return x if (high, wide) == tuple(x.shape[2:]) else F.adaptive_avg_pool2d(x, (high, wide))


def shift(x: Tensor) -> Tensor:
    """``x``, (n, c, h, w), moved one pixel up and left, with zeros behind."""
    return F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
