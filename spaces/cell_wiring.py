"""One cell: its hyperparameters, what of it is alive, what makes two the same; knows no networks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from spaces.canonical import canonical
from spaces.cell_operations import OPERATIONS
from spaces.graph import INPUT, Sketch
from spaces.presets import Design

INPUTS = (0, 1)
"""The states that are a cell's inputs: the cell before the previous one, and the previous one."""

# Nodes of a cell's canonical graph, none of which cares for the order of its inputs.
_UNORDERED = frozenset(
    ("sum", "join", "outputs", *(f"{op}/{stride}" for op in OPERATIONS for stride in (1, 2)))
)

_MAIN = ("sep_conv_3x3", "conv_3x3", "sep_conv_5x5")
_SIDE = ("skip_connect", "avg_pool_3x3", "max_pool_3x3")


class Edge(NamedTuple):
    """An operation applied to a state, for a block."""

    name: str
    """Of its nodes."""
    block: int
    """State that the block's output is."""
    source: int
    """State it reads."""
    op: str


@dataclass(frozen=True, slots=True)
class Wiring:
    """One cell as configured."""

    edges: tuple[Edge, ...]
    """Of one block after the other."""
    combine: tuple[str, ...]
    """``add`` or ``concat`` for each block."""

    def live(self, design: Design, inputs: tuple[bool, bool], shortcut: bool) -> Live:
        """What is left when only what carries the cell's inputs to its output stays.

        Args:
            design: says which blocks the output concatenates.
            inputs: whether inputs 0 and 1 carry anything.
            shortcut: whether the output holds input 0.
        """
        reached = {i for i in INPUTS if inputs[i]}
        edges = []
        for edge in self.edges:
            # Edges come block by block, so a block is complete before another one reads it.
            if edge.op != "none" and edge.source in reached:
                edges.append(edge)
                reached.add(edge.block)
        return self._live(design, edges, sorted(reached - set(INPUTS)), shortcut and inputs[0])

    def whole(self, design: Design, shortcut: bool) -> Live:
        """The cell with everything in it, as published tables count."""
        return self._live(design, self.edges, range(2, 2 + len(self.combine)), shortcut)

    def _live(self, design: Design, edges: Sequence[Edge], blocks: Sequence[int], shortcut: bool) -> Live:
        read = {edge.source for edge in edges if edge.op != "none"}
        outputs = [block for block in blocks if design.outputs == "all" or block not in read]
        # Every block left is an output or read by another that is left, so all of them reach the output.
        return Live(tuple(edges), self.combine, (0, *outputs) if shortcut else tuple(outputs))


@dataclass(frozen=True, slots=True)
class Live:
    """What of a cell is built."""

    edges: tuple[Edge, ...]
    combine: tuple[str, ...]
    """Of every block, whether it is left or not."""
    outputs: tuple[int, ...]
    """States whose concatenation is the cell's output; none if nothing gets through."""

    def reads(self, state: int) -> bool:
        """Whether a state matters to the output."""
        return state in self.outputs or any(edge.source == state for edge in self.edges)

    def blocks(self) -> list[tuple[int, list[Edge]]]:
        """Every block that is left with its edges, in order."""
        return [(block, list(edges)) for block, edges in itertools.groupby(self.edges, lambda e: e.block)]

    def strides(self, reduction: bool) -> list[int]:
        """The stride of each edge: reduction cells halve what they read from their inputs."""
        return [2 if reduction and edge.source in INPUTS else 1 for edge in self.edges]

    def key(self, reduction: bool) -> str:
        """Equal for cells that differ in the names and order of blocks, inputs and outputs only."""
        if not self.outputs:
            return "nothing"
        # A state is a bag of terms. Identities pass them on, so there are no sums of sums.
        sketch = Sketch()
        states = {i: [sketch.add(f"input{i}", f"input{i}", INPUT)] for i in INPUTS}
        for block, edges in self.blocks():
            concat = self.combine[block - 2] == "concat"
            found: list[str] = []
            for edge in edges:
                terms = states[edge.source]
                stride = 2 if reduction and edge.source in INPUTS else 1
                if edge.op != "skip_connect" or stride > 1:
                    terms = [sketch.add(edge.name, f"{edge.op}/{stride}", *terms)]
                found += [_one(sketch, edge.name, terms)] if concat else terms
            states[block] = [sketch.add(f"block{block}", "join", *found)] if concat else found
        outputs = [_one(sketch, f"sum{state}", states[state]) for state in self.outputs]
        sketch.add("outputs", "outputs", *outputs)
        # All that reads a cell begins with weights for each of its channels, so their order is free.
        return canonical(sketch.graph(), _UNORDERED)


def _one(sketch: Sketch, name: str, terms: Sequence[str]) -> str:
    """The sum of some terms as one node."""
    return terms[0] if len(terms) == 1 else sketch.add(f"{name}_sum", "sum", *terms)


# Hyperparameters -----------------------------------------------------------------------------


class Choice(NamedTuple):
    """One categorical hyperparameter of a cell."""

    name: str
    values: tuple[Any, ...]
    default: Any


def choices(design: Design, cell: str) -> list[Choice]:
    """The hyperparameters of the cell named ``cell``; their defaults are a hand-written cell.

    In that one, pairs of blocks are residual branches of two separable convolutions: an even block
    convolves the previous cell, an odd one the block before it; the other operation of each is a skip.
    """
    found = []
    for block in range(2, 2 + design.blocks):
        main, side = (1, 0) if block % 2 == 0 else (block - 1, 1)
        at = f"{cell}_block{block}"
        ops = design.operations
        main_op, side_op = _preferred(ops, _MAIN), _preferred(ops, _SIDE)
        if design.inputs == "any":
            for source in range(block):
                idle = "none" if "none" in ops else side_op
                default = main_op if source == main else side_op if source == side else idle
                found.append(Choice(f"{cell}_edge{block}_{source}", ops, default))
        elif design.inputs == "pair":
            both = pairs(block)
            if len(both) > 1:
                found.append(Choice(f"{at}_inputs", both, f"{min(main, side)},{max(main, side)}"))
            first, second = (main_op, side_op) if main < side else (side_op, main_op)
            found += [Choice(f"{at}_op_a", ops, first), Choice(f"{at}_op_b", ops, second)]
        else:
            sources = tuple(range(block))
            found += [Choice(f"{at}_input_a", sources, main), Choice(f"{at}_op_a", ops, main_op)]
            found += [Choice(f"{at}_input_b", sources, side), Choice(f"{at}_op_b", ops, side_op)]
        if len(design.combine) > 1:
            found.append(Choice(f"{at}_combine", design.combine, design.combine[0]))
    return [choice for choice in found if len(choice.values) > 1]


def wiring(design: Design, cell: str, params: Mapping[str, Any]) -> Wiring:
    """The cell named ``cell`` of a configuration."""
    edges: list[Edge] = []
    combine = []
    only = design.operations[0]  # a single operation is no hyperparameter
    for block in range(2, 2 + design.blocks):
        at = f"{cell}_block{block}"
        if design.inputs == "any":
            for source in range(block):
                op = params.get(f"{cell}_edge{block}_{source}", only)
                edges.append(Edge(f"edge{block}_{source}", block, source, op))
        else:
            if design.inputs == "pair":
                first, second = params.get(f"{at}_inputs", "0,1").split(",")
            else:
                first, second = params[f"{at}_input_a"], params[f"{at}_input_b"]
            edges.append(Edge(f"block{block}_a", block, int(first), params.get(f"{at}_op_a", only)))
            edges.append(Edge(f"block{block}_b", block, int(second), params.get(f"{at}_op_b", only)))
        combine.append(params.get(f"{at}_combine", design.combine[0]))
    return Wiring(tuple(edges), tuple(combine))


def pairs(block: int) -> tuple[str, ...]:
    """The two different states that a block of a ``pair`` design may read, as texts."""
    return tuple(f"{a},{b}" for a, b in itertools.combinations(range(block), 2))


def _preferred(values: Sequence[str], wanted: Sequence[str]) -> str:
    able = [value for value in values if value != "none"]
    return next((value for value in wanted if value in able), able[0])
