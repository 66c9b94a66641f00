"""What a training step of a network keeps in memory, from its graph alone; knows no optimizers or devices.

The step is walked through as torch's autograd takes it. On the way forward, tensors are kept that the way
back needs, and a value is let go after its last use. On the way back, each node turns the gradient of its
output into gradients of its inputs, then frees what it kept. All these tensors grow with the batch, so
sizes are in bytes for one example.

Glossary:
    storage   the memory of one tensor; a view, or a tensor that is passed on as it is, shares it
    width     bytes of a value's numbers: 4, or 2 where mixed precision computes in bfloat16
    kept      storages that autograd holds for the way back
    learns    said of a value that depends on weights, so that a gradient comes back to it
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spaces.counting import Shape, output_shape, weights
from spaces.graph import INPUT, Graph, Node

_FULL, _HALF = 4, 2
_INDEX = 8  # bytes of the position of a maximum, int64
# Activations of which autograd keeps the result; of the others it keeps the input.
_KEEP_RESULT = ("ReLU", "Tanh")
_KEEP_INPUT = ("AvgPool2d", "BatchNorm1d", "BatchNorm2d", "ELU", "GELU", "LeakyReLU", "ReLU6", "SiLU")


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a training step keeps in memory."""

    parameters: int
    """Trainable numbers, 4 bytes each; gradients and an optimizer's state come on top."""
    lowered: int
    """Those of convolutions and linear layers, of which mixed precision keeps a copy of 2 bytes each."""
    buffers: int
    """Running means and variances, 4 bytes each."""
    activations: int
    """Bytes for each example of a batch when inputs, activations and their gradients take most."""


def footprint(graph: Graph, input_shape: Shape, mixed: bool = False) -> Footprint:
    """The footprint of a network in training.

    Args:
        graph: the network.
        input_shape: of one example, of 4 bytes a number: (c, h, w) or (features,).
        mixed: whether convolutions and linear layers compute in bfloat16, as torch's autocast on CUDA does;
            normalisation by groups and layers then computes in float32.
    """
    norms = (node.settings for node in graph if node.op in ("BatchNorm1d", "BatchNorm2d"))
    return Footprint(
        parameters=sum(weights(node) for node in graph),
        lowered=sum(weights(node) for node in graph if node.op in ("Conv2d", "Linear")),
        buffers=sum(2 * settings["num_features"] for settings in norms),
        activations=_Step(mixed).run(graph, input_shape),
    )


@dataclass(frozen=True, slots=True)
class _Value:
    """What a node puts out."""

    storage: int
    shape: Shape
    width: int
    learns: bool


class _Step:
    """One training step, storage by storage."""

    def __init__(self, mixed: bool) -> None:
        self._low = _HALF if mixed else _FULL
        # The CPU keeps the factors of a dropout as numbers, CUDA as a mask.
        self._mask = 1 if mixed else _FULL
        self._sizes: list[int] = []
        self._holders: list[int] = []
        self._held = self._peak = 0

    def run(self, graph: Graph, input_shape: Shape) -> int:
        """The most bytes held at a time."""
        # The loop that trains holds inputs and outputs until the step is over.
        values = {INPUT: self._value(input_shape, _FULL, False)}
        last = {name: i for i, node in enumerate(graph) for name in node.inputs}
        kept: list[list[int]] = []
        for i, node in enumerate(graph):
            keeps: list[int] = []
            values[node.name] = self._forward(node, [values[name] for name in node.inputs], keeps)
            kept.append(keeps)
            done = {name for name in node.inputs if last[name] == i and name != INPUT}
            self._release(values[name].storage for name in done)
        output = graph[-1].name
        gradients = {output: self._loss(values[output])}
        for node, keeps in zip(reversed(graph), reversed(kept), strict=True):
            gradient = gradients.pop(node.name, None)
            if gradient is not None:
                inputs = [values[name] for name in node.inputs]
                back = self._backward(node, inputs, values[node.name], gradient)
                for name, value, storage in zip(node.inputs, inputs, back, strict=True):
                    if storage is not None:
                        self._accumulate(gradients, name, storage, _size(value))
                self._release([gradient])
            self._release(keeps)
        return self._peak

    # Storages --------------------------------------------------------------------------------

    def _new(self, size: int) -> int:
        self._sizes.append(size)
        self._holders.append(1)
        self._held += size
        self._peak = max(self._peak, self._held)
        return len(self._sizes) - 1

    def _hold(self, storage: int) -> int:
        self._holders[storage] += 1
        return storage

    def _release(self, storages: Iterable[int]) -> None:
        for storage in storages:
            self._holders[storage] -= 1
            if not self._holders[storage]:
                self._held -= self._sizes[storage]

    def _value(self, shape: Shape, width: int, learns: bool) -> _Value:
        return _Value(self._new(width * math.prod(shape)), shape, width, learns)

    def _cast(self, value: _Value, width: int) -> int:
        """The storage of a value in another width, a copy unless it has that width."""
        return self._hold(value.storage) if value.width == width else self._new(_size(value, width))

    # Forward ---------------------------------------------------------------------------------

    def _forward(self, node: Node, inputs: Sequence[_Value], keeps: list[int]) -> _Value:
        """Run a node; what autograd keeps of it is added to ``keeps``."""
        first = inputs[0]
        shape = output_shape(node, [value.shape for value in inputs])
        width = max(value.width for value in inputs)
        learns = any(value.learns for value in inputs)
        match node.op:
            case "Conv2d" | "Linear":
                keeps.append(self._cast(first, self._low))
                return self._value(shape, self._low, True)
            case "GroupNorm" | "LayerNorm":
                wide = self._cast(first, _FULL)
                if node.op == "GroupNorm" and first.width < _FULL:
                    # CUDA's kernel takes channels first: a copy of the copy.
                    keeps.append(self._new(_size(first, _FULL)))
                    result = self._value(shape, _FULL, True)
                    self._release([wide])
                    return result
                keeps.append(wide)
                return self._value(shape, _FULL, True)
            case "BatchNorm1d" | "BatchNorm2d":
                learns = True
            case "MaxPool2d":
                index = self._new(_INDEX * math.prod(shape))
                result = self._value(shape, width, learns)
                if learns:
                    keeps += [self._hold(first.storage), index]
                else:
                    self._release([index])
                return result
            case "Dropout":
                mask = self._new(self._mask * math.prod(shape))
                result = self._value(shape, width, learns)
                if learns:
                    keeps.append(mask)
                else:
                    self._release([mask])
                return result
            case "DropPath":
                masked = self._new(_size(first))
                result = self._value(shape, width, learns)
                self._release([masked])
                return result
            case "add" | "concat" if len(inputs) > 1:
                result = self._value(shape, width, learns)
                for _ in inputs[2:] if node.op == "add" else ():
                    before, result = result, self._value(shape, width, learns)
                    self._release([before.storage])
                return result
            case "zeros_like":
                return self._value(shape, first.width, False)
            case "pad" | "shrink" | "shift":
                if node.op != "shift" and shape == first.shape:
                    return _Value(self._hold(first.storage), shape, first.width, first.learns)
                if node.op == "shrink" and first.learns:
                    keeps.append(self._hold(first.storage))
                return self._value(shape, first.width, first.learns)
            case "add" | "concat" | "Flatten":
                return _Value(self._hold(first.storage), shape, first.width, learns)
        result = self._value(shape, width, learns)
        if learns and node.op in _KEEP_RESULT:
            keeps.append(self._hold(result.storage))
        if learns and node.op in _KEEP_INPUT:
            keeps.append(self._hold(first.storage))
        return result

    # Backward --------------------------------------------------------------------------------

    def _loss(self, output: _Value) -> int:
        """The gradient of the outputs; log-probabilities are kept until it is there."""
        scores = self._cast(output, _FULL)
        logs = self._new(_size(output, _FULL))
        gradient = self._new(_size(output))
        self._release([scores, logs])
        return gradient

    def _backward(
        self, node: Node, inputs: Sequence[_Value], output: _Value, gradient: int
    ) -> list[int | None]:
        """Storages of the gradients of a node's inputs, None of those that no gradient goes to."""
        first = inputs[0]
        if node.op in ("add", "concat"):
            # A view of the sum's, or of part of the concatenation's, unless it changes its width.
            return [self._back(value, gradient, output.width) if value.learns else None for value in inputs]
        back: list[int | None] = [None] * len(inputs)
        if not first.learns:
            return back
        passed_on = node.op == "Flatten" or (node.op in ("pad", "shrink") and output.shape == first.shape)
        match node.op:
            case _ if passed_on:
                back[0] = self._hold(gradient)
            case "Conv2d" | "Linear" | "GroupNorm" | "LayerNorm":
                width = self._low if node.op in ("Conv2d", "Linear") else _FULL
                made = self._new(_size(first, width))
                back[0] = self._back(first, made, width)
                self._release([made])
            case "DropPath" | "shift":
                between = self._new(_size(output))
                back[0] = self._new(_size(first))
                self._release([between])
            case _:
                back[0] = self._new(_size(first))
        return back

    def _back(self, value: _Value, gradient: int, width: int) -> int:
        """A gradient of some width as the one of a value."""
        return self._hold(gradient) if value.width == width else self._new(_size(value))

    def _accumulate(self, gradients: dict[str, int], name: str, storage: int, size: int) -> None:
        """Add a gradient to those a value has been given by others, in place where only one holds it."""
        before = gradients.get(name)
        if before is None:
            gradients[name] = storage
        elif self._holders[before] == 1:
            self._release([storage])
        elif self._holders[storage] == 1:
            self._release([before])
            gradients[name] = storage
        else:
            gradients[name] = self._new(size)
            self._release([before, storage])


def _size(value: _Value, width: int | None = None) -> int:
    return math.prod(value.shape) * (width or value.width)
