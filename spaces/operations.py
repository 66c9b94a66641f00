"""Turns the description of a network into a torch module; knows no configurations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spaces.graph import INPUT, Graph, Node

MODULES: dict[str, type[nn.Module]] = {
    module.__name__: module
    for module in (
        nn.AdaptiveAvgPool2d,
        nn.AvgPool2d,
        nn.BatchNorm2d,
        nn.Conv2d,
        nn.Dropout,
        nn.ELU,
        nn.Flatten,
        nn.GELU,
        nn.GroupNorm,
        nn.LeakyReLU,
        nn.Linear,
        nn.MaxPool2d,
        nn.ReLU,
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
            case "zeros_like":
                return torch.zeros_like(inputs[0])
        result: Any = self._modules[node.name](*inputs)  # type: ignore[misc]
        return result  # type: ignore[no-any-return]
