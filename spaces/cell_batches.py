"""Structural features of many cell-structured networks together, as arrays; knows no graphs and no keys.

A surrogate asks for those of hundreds of configurations at every ask; one by one they would take longer than
everything else. What is alive and how large it is follows the same rules as :class:`spaces.cell_wiring.Live`
and ``Cell.count``.

Glossary. Arrays end in an axis over n configurations of one macro-architecture. A *pattern* says which inputs
of a cell carry anything: 0 neither, 1 input 0, 2 input 1, 3 both. An edge's *op* is its position among the
design's operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spaces.cell_operations import OPERATIONS
from spaces.cell_wiring import INPUTS, choices, pairs
from spaces.counting import Count
from spaces.macros import Shape
from spaces.presets import Design

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Params = Sequence[Mapping[str, Any]]


class Costs(NamedTuple):
    """What parts of a network of one macro-architecture cost."""

    operation: Callable[[str, int, int, int], Count]
    """(operation, channels, stride, how often its input was halved)."""
    stem: Callable[[bool], Count]
    """Up to the node that is the first cell's input 1, or only its input 0."""
    pixels: Callable[[int], int]
    """Of a picture that was halved so often."""
    channels: tuple[int, int]
    """Of the first cell's inputs."""
    level: int
    """How often input 1 was halved."""
    n_classes: int


class _Part(NamedTuple):
    """What of a cell is built."""

    outputs: Ints
    """How many states its output concatenates, (n,)."""
    reads: Bools
    """Which of its inputs matter to the output, (2, n)."""
    ops: Ints
    """How often there is each operation at stride 1, then each at stride 2, (2 k, n)."""
    joins: Ints
    """Blocks that concatenate, and operations in them, (2, n)."""


class _Cells:
    """One cell, normal or reduction, of each configuration."""

    def __init__(self, design: Design, cell: str, configurations: Params) -> None:
        self._design, self._strides = design, 1 + (cell == "reduction")
        self._shortcut = design.shortcut and cell == "normal"
        self._n = len(configurations)
        self._searched = {choice.name for choice in choices(design, cell)}
        self._blocks: list[int] = []
        """Of each edge, (edges,)."""
        sources: list[Ints] = []
        ops: list[Ints] = []
        for block in range(2, 2 + design.blocks):
            at = f"{cell}_block{block}"
            if design.inputs == "any":
                for source in range(block):
                    sources.append(np.full(self._n, source))
                    ops.append(self._read(f"{cell}_edge{block}_{source}", design.operations, configurations))
                    self._blocks.append(block)
                continue
            if design.inputs == "pair":
                several = pairs(block)
                chosen = self._read(f"{at}_inputs", several, configurations)
                ends = np.array([[int(end) for end in pair.split(",")] for pair in several])
                sources += list(ends[chosen].T)
            else:
                known = range(block)
                sources += [self._read(f"{at}_input_{end}", known, configurations) for end in "ab"]
            ops += [self._read(f"{at}_op_{end}", design.operations, configurations) for end in "ab"]
            self._blocks += [block, block]
        self._sources, self._ops = sources, ops
        concat = [
            self._read(f"{cell}_block{block}_combine", design.combine, configurations)
            for block in range(2, 2 + design.blocks)
        ]
        self._concat = np.array([value == "concat" for value in design.combine])[np.stack(concat)]
        self._parts: dict[int, _Part] = {}

    def _read(self, name: str, values: Sequence[Any], configurations: Params) -> Ints:
        """The position of a hyperparameter's value among all there are, (n,); 0 if there is but one."""
        if name not in self._searched:
            return np.zeros(self._n, dtype=np.int64)
        position = {value: i for i, value in enumerate(values)}
        return np.array([position[params[name]] for params in configurations], dtype=np.int64)

    def part(self, patterns: Ints) -> _Part:
        """What is built of each cell under its pattern, (n,)."""
        present = np.unique(patterns)
        for pattern in present.tolist():
            if pattern not in self._parts:
                self._parts[pattern] = self._alive(pattern)[0]
        parts = [self._parts[pattern] for pattern in present.tolist()]
        if len(parts) == 1:
            return parts[0]
        which = np.searchsorted(present, patterns)
        return _Part(*(np.choose(which, arrays) for arrays in zip(*parts, strict=True)))

    def _alive(self, pattern: int) -> tuple[_Part, NDArray[np.float64]]:
        """What is built under a pattern; paths and depth (most, mean) to its outputs, shape (3, n)."""
        design, n = self._design, self._n
        here, states, k = np.arange(n), 2 + design.blocks, len(design.operations)
        layers = np.array([OPERATIONS[op].layers for op in design.operations])
        passes = np.array([op != "none" for op in design.operations])
        reached = np.zeros((states, n), dtype=np.bool_)
        reached[0], reached[1] = bool(pattern & 1), bool(pattern & 2)
        paths, depths = np.zeros((states, n)), np.zeros((states, n), dtype=np.int64)
        paths[:2] = 1
        read = np.zeros((states, n), dtype=np.bool_)
        ops = np.zeros((2 * k, n), dtype=np.int64)
        terms = np.zeros((states, n), dtype=np.int64)
        for block, source, op in zip(self._blocks, self._sources, self._ops, strict=True):
            alive = passes[op] & reached[source, here]
            reached[block] |= alive
            terms[block] += alive
            paths[block] += alive * paths[source, here]
            depths[block] = np.maximum(depths[block], alive * (depths[source, here] + layers[op]))
            read[source, here] |= alive
            stride = (self._strides == 2) & (source < 2)
            ops[op + k * stride, here] += alive
        out = reached.copy() if design.outputs == "all" else reached & ~read
        out[:2] = False
        out[0] = self._shortcut and bool(pattern & 1)
        outputs = out.sum(axis=0)
        joined = self._concat & reached[2:]
        joins = np.stack([joined.sum(axis=0), (joined * terms[2:]).sum(axis=0)])
        among = depths * out
        mean = among.sum(axis=0) / np.maximum(outputs, 1)
        told = np.stack([(paths * out).sum(axis=0), among.max(axis=0), mean])
        return _Part(outputs, out[:2] | read[:2], ops, joins), told

    def features(self) -> NDArray[np.float64]:
        """Operations, output states, concatenations, paths (log), depth (most, mean), inputs it reads."""
        part, (paths, most, mean) = self._alive(3)
        self._parts[3] = part
        k = len(self._design.operations)
        counts = part.ops[:k] + part.ops[k:]
        kept = [counts[i] for i, op in enumerate(self._design.operations) if op != "none"]
        logs = [math.log1p(each) for each in paths.tolist()]
        return np.stack([*kept, part.outputs, part.joins[0], logs, most, mean, *part.reads]).astype(
            np.float64
        )


def features(
    design: Design, shape: Shape, stems: Sequence[str], costs: Costs, configurations: Params
) -> NDArray[np.float64]:
    """Features of networks of one macro-architecture.

    Of both cells what is alive; the macro-architecture; cells alive; logs of parameters and MACs.

    Args:
        design: of the cells.
        shape: the macro-architecture.
        stems: those there are in the space.
        costs: of its parts.
        configurations: n canonical params.

    Returns:
        shape (n, k), k the same for every macro-architecture of a space.
    """
    n = len(configurations)
    normal = _Cells(design, "normal", configurations)
    reduction = _Cells(design, "reduction", configurations) if shape.reductions else normal
    of_normal = normal.features()
    placed, wanted, carries = _plan(normal, reduction, shape, n)
    reduces = np.zeros(n, dtype=np.bool_)
    for (_, is_reduction, _), needed in zip(placed, wanted[2:], strict=True):
        reduces |= needed & is_reduction
    of_reduction = reduction.features() * reduces if shape.reductions else np.zeros_like(of_normal)
    parameters, macs = _count(design, shape, costs, placed, wanted, carries)
    macro = [math.log(shape.filters), shape.cells, shape.reductions, *(shape.stem == stem for stem in stems)]
    return np.concatenate(
        [
            of_normal,
            of_reduction,
            np.repeat(np.array(macro, dtype=np.float64)[:, None], n, axis=1),
            np.sum(wanted[2:], axis=0)[None],
            [[math.log(value) for value in parameters.tolist()]],
            [[math.log(value) for value in macs.tolist()]],
        ]
    ).T


_Placed = tuple[_Part, bool, int]
"""A cell of each network at one place, whether it is a reduction cell, and its stage."""


def _plan(
    normal: _Cells, reduction: _Cells, shape: Shape, n: int
) -> tuple[list[_Placed], list[Bools], Bools]:
    """Which cells stand where; whether the output depends on each input and cell; whether it is anything."""
    carries = [np.ones(n, dtype=np.bool_), np.ones(n, dtype=np.bool_)]
    placed: list[_Placed] = []
    for stage in range(shape.reductions + 1):
        for i in range(shape.cells + (stage > 0)):
            reduces = i == 0 and stage > 0
            part = (reduction if reduces else normal).part(carries[-2] + 2 * carries[-1])
            carries.append(part.outputs > 0)
            placed.append((part, reduces, stage))
    wanted = [np.zeros(n, dtype=np.bool_) for _ in carries]
    wanted[-1] = carries[-1]
    for k in range(len(placed) - 1, -1, -1):
        for i in INPUTS:
            wanted[k + i] = wanted[k + i] | wanted[k + 2] & placed[k][0].reads[i]
    return placed, wanted, carries[-1]


def _count(
    design: Design,
    shape: Shape,
    costs: Costs,
    placed: Sequence[_Placed],
    wanted: Sequence[Bools],
    carries: Bools,
) -> tuple[Ints, Ints]:
    """Parameters and MACs, each (n,)."""
    stems = [costs.stem(False), costs.stem(True)]
    which = (wanted[1] | ~carries).astype(np.int64)
    parameters = np.array([stem.parameters for stem in stems])[which]
    macs = np.array([stem.macs for stem in stems])[which]
    channels_of = [np.full(len(which), channels) for channels in costs.channels]
    inside: dict[tuple[int, int], tuple[Ints, Ints]] = {}
    for (part, reduces, stage), needed in zip(placed, wanted[2:], strict=True):
        channels, level = shape.filters * 2**stage, costs.level + stage - reduces
        at = (id(part), stage)
        if at not in inside:
            inside[at] = _inside(design, costs, part, reduces, (channels, level))
        here, pixels = inside[at], costs.pixels(level)
        inputs = sum(part.reads[i] * channels_of[-2 + i] * channels for i in INPUTS)
        several = part.reads.sum(axis=0)
        if design.base:
            inputs, several = inputs + part.reads[1] * channels * channels, several + part.reads[1]
        parameters = parameters + needed * (here[0] + inputs + 2 * channels * several)
        macs = macs + needed * (here[1] + inputs * pixels)
        channels_of.append(part.outputs * channels)
    last = np.where(carries, channels_of[-1], costs.channels[1])
    return parameters + (last + 1) * costs.n_classes, macs + last * costs.n_classes


def _inside(
    design: Design, costs: Costs, part: _Part, reduces: bool, size: tuple[int, int]
) -> tuple[Ints, Ints]:
    """Parameters and MACs of cells without the convolutions of their inputs, each (n,)."""
    channels, level = size
    each = [
        # Operations on a reduction cell's inputs halve the picture, the others find it halved.
        costs.operation(op, channels, stride, level + (reduces and stride == 1))
        for stride in ((1, 2) if reduces else (1,))
        for op in design.operations
    ]
    ops = part.ops[: len(each)]
    joins, joined = part.joins
    convolved = joined * channels * channels
    parameters = np.array([cost.parameters for cost in each]) @ ops + convolved + 2 * channels * joins
    return parameters, np.array([cost.macs for cost in each]) @ ops + convolved * costs.pixels(
        level + reduces
    )
