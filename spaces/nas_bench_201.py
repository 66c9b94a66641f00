"""NAS-Bench-201: one searched cell repeated in a fixed macro-architecture; knows no training.

Follows Dong & Yang 2020 (arXiv:2001.00326). The cell has four nodes; node 0 is
the input, node 3 the output, every edge carries one operation, a node sums what reaches it:

    edge0: 1←0   edge1: 2←0   edge2: 2←1   edge3: 3←0   edge4: 3←1   edge5: 3←2
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spaces.canonical import canonical
from spaces.checking import checked_classes, checked_fraction, checked_shape, is_whole, probability
from spaces.counting import Count, count_graph
from spaces.graph import INPUT, Graph, Sketch, scaled

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from numpy.typing import NDArray

    from spaces.drawing import Picture

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
"""(target, source) node of edge0 … edge5."""
_NAMES = tuple(f"edge{i}" for i in range(len(EDGES)))
_CONVOLUTIONS = ("nor_conv_1x1", "nor_conv_3x3")
# All ways from node 0 to node 3, as the edges they take.
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))
_STAGES = 3
# The best hand-written cell of the published table's authors: ResNet's basic block.
_DEFAULT = ("nor_conv_3x3", "none", "nor_conv_3x3", "skip_connect", "none", "skip_connect")


class NasBench201:
    """The family of networks behind ``spaces.cell("nas_bench_201")``, which documents the arguments."""

    kind = "nas_bench_201"
    reads = ("dropout",)
    reserved = frozenset(("filters", "cells"))

    def __init__(self, *, input_shape: Sequence[int], n_classes: int, filters: int, cells: int) -> None:
        self.input_shape = checked_shape(input_shape)
        self.n_classes = checked_classes(n_classes)
        for name, value in (("filters", filters), ("cells", cells)):
            if not is_whole(value):
                raise ValueError(f"{name}={value!r}: must be a whole number from 1.")
        self.filters, self.cells = int(filters), int(cells)
        if min(self.input_shape[1:]) < 4:
            raise ValueError(
                f"input_shape={self.input_shape}: each side must be at least 4 pixels, the two reductions "
                "halve it twice. Use larger images."
            )
        self._costs: tuple[Count, dict[str, Count]] | None = None
        self._memo: dict[tuple[str, ...], tuple[str, NDArray[np.float64]]] = {}

    def to_dict(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-ready."""
        return {
            "input_shape": list(self.input_shape),
            "n_classes": self.n_classes,
            "filters": self.filters,
            "cells": self.cells,
        }

    def configuration_space(self) -> ConfigurationSpace:
        """Six unconditional categorical hyperparameters."""
        import ConfigSpace

        space = ConfigSpace.ConfigurationSpace()
        space.add(
            ConfigSpace.CategoricalHyperparameter(name, OPERATIONS, default_value=default)
            for name, default in zip(_NAMES, _DEFAULT, strict=True)
        )
        return space

    def graph(self, params: Mapping[str, Any], width: float, depth: float, prune: bool = True) -> Graph:
        """The network; ``prune`` leaves out edges that are on no way from a cell's input to its output."""
        depth = checked_fraction("depth", depth)
        ops = _ops(params)
        if prune:
            ops = _alive(ops)
        cells, channels = math.ceil(depth * self.cells), scaled(self.filters, width)
        sketch = Sketch()
        source = sketch.conv("stem_conv", INPUT, (self.input_shape[0], channels), 3)
        source = sketch.add("stem_norm", "BatchNorm2d", source, num_features=channels)
        for stage in range(_STAGES):
            if stage:
                source = _reduction(sketch, f"reduction{stage}", source, channels)
                channels *= 2
            for i in range(cells):
                source = _cell(sketch, f"stage{stage}_cell{i}", source, ops, channels)
        source = sketch.add("last_norm", "BatchNorm2d", source, num_features=channels)
        source = sketch.add("last_act", "ReLU", source)
        return sketch.head(source, channels, self.n_classes, probability(params, "dropout"))

    def count(self, params: Mapping[str, Any], prune: bool) -> Count:
        """Exact size: what every network shares plus what each convolution adds over all cells."""
        if self._costs is None:
            empty = dict.fromkeys(_NAMES, "none")
            fixed = count_graph(self.graph(empty, 1.0, 1.0), self.input_shape)
            edge = {}
            for op in _CONVOLUTIONS:
                more = count_graph(self.graph(empty | {"edge3": op}, 1.0, 1.0), self.input_shape)
                edge[op] = more + fixed * -1
            self._costs = fixed, edge  # in one step: another thread may be here too
        total, each = self._costs
        ops = _ops(params)
        for op in _alive(ops) if prune else ops:
            if op in each:
                total = total + each[op]
        return total

    def key(self, params: Mapping[str, Any]) -> str:
        """Equal for cells that compute the same function of their input up to the names of their weights."""
        return self._known(params)[0]

    def features(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """What is alive: operations, paths, depth, logs of parameters and MACs, each edge's operation."""
        return self._known(params)[1].copy()

    def _known(self, params: Mapping[str, Any]) -> tuple[str, NDArray[np.float64]]:
        ops = _ops(params)
        if ops not in self._memo:
            self._memo[ops] = (_key(_alive(ops)), self._features(_alive(ops), params))
        return self._memo[ops]

    def _features(self, alive: tuple[str, ...], params: Mapping[str, Any]) -> NDArray[np.float64]:
        count = self.count(params, prune=True)
        paths = [[alive[e] for e in path] for path in PATHS if all(alive[e] != "none" for e in path)]
        depths = [sum(op in _CONVOLUTIONS for op in path) for path in paths] or [0]
        kinds = OPERATIONS[1:]
        return np.array(
            [
                *(alive.count(op) for op in kinds),
                # How many ways to the output take each operation, and how many are nothing but skips.
                *(sum(op in path for path in paths) for op in kinds),
                sum(set(path) == {"skip_connect"} for path in paths),
                len(paths),
                max(depths),
                min(depths),
                math.log(count.parameters),
                math.log(count.macs),
                *(alive[e] == op for e in range(len(EDGES)) for op in kinds),
            ],
            dtype=np.float64,
        )

    def pictures(self, params: Mapping[str, Any]) -> Mapping[str, Picture]:
        """The four nodes of the cell and the operations alive on its edges."""
        from spaces.drawing import Arrow, Box, Picture

        ops = _alive(_ops(params))
        used = {node for e, edge in enumerate(EDGES) if ops[e] != "none" for node in edge}
        names = {0: "cell input", 1: "node 1", 2: "node 2", 3: "cell output"}
        place = {node: i for i, node in enumerate(n for n in names if n in used | {0, 3})}
        boxes = tuple(Box(names[node], "") for node in place)
        arrows = tuple(
            Arrow(place[source], place[target], op)
            for (target, source), op in zip(EDGES, ops, strict=True)
            if op != "none"
        )
        caption = f"{_STAGES} stages of {self.cells} cells, {self.filters} filters"
        return {"cell": Picture(boxes, arrows, caption)}


def _ops(params: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(params[name] for name in _NAMES)


def _alive(ops: tuple[str, ...]) -> tuple[str, ...]:
    """The operations with those on no way from node 0 to node 3 replaced by ``none``."""
    used = {e for path in PATHS if all(ops[e] != "none" for e in path) for e in path}
    return tuple(op if e in used else "none" for e, op in enumerate(ops))


def _cell(sketch: Sketch, name: str, source: str, ops: Sequence[str], channels: int) -> str:
    nodes = [source, "", "", ""]
    for target in range(1, 4):
        terms = []
        for e, (to, start) in enumerate(EDGES):
            if to == target and ops[e] != "none":
                nodes[start] = nodes[start] or sketch.add(f"{name}_zero{start}", "zeros_like", source)
                terms.append(_operation(sketch, f"{name}_edge{e}", nodes[start], ops[e], channels))
        if terms:
            nodes[target] = sketch.sum(f"{name}_node{target}", terms)
    # A cell without a way through gives zeros, as the benchmark's does.
    return nodes[3] or sketch.add(f"{name}_zero3", "zeros_like", source)


def _operation(sketch: Sketch, name: str, source: str, op: str, channels: int) -> str:
    if op == "skip_connect":
        return source
    if op == "avg_pool_3x3":
        return sketch.add(
            name, "AvgPool2d", source, kernel_size=3, stride=1, padding=1, count_include_pad=False
        )
    return _relu_conv_norm(sketch, name, source, (channels, channels), 3 if op == "nor_conv_3x3" else 1)


def _relu_conv_norm(
    sketch: Sketch, name: str, source: str, channels: tuple[int, int], kernel: int, stride: int = 1
) -> str:
    source = sketch.add(f"{name}_act", "ReLU", source)
    source = sketch.conv(f"{name}_conv", source, channels, kernel, stride)
    return sketch.add(f"{name}_norm", "BatchNorm2d", source, num_features=channels[1])


def _reduction(sketch: Sketch, name: str, source: str, channels: int) -> str:
    """The residual block between stages: half the size, twice the channels."""
    change = (channels, 2 * channels)
    main = _relu_conv_norm(sketch, f"{name}_a", source, change, 3, stride=2)
    main = _relu_conv_norm(sketch, f"{name}_b", main, (2 * channels, 2 * channels), 3)
    # Rounding up differs from the published block at odd sizes only, where that one would not run.
    short = sketch.add(f"{name}_pool", "AvgPool2d", source, kernel_size=2, stride=2, ceil_mode=True)
    short = sketch.conv(f"{name}_short", short, change, 1)
    return sketch.add(f"{name}_sum", "add", short, main)


def _key(ops: tuple[str, ...]) -> str:
    """A text equal for cells that compute the same up to the names of weights, for all weights; else not.

    A node is a sum of terms. A skip passes its terms on. Pooling is linear, at the borders too, because
    it averages over the pixels there are, so it applies to each term. A convolution, between a ReLU and
    a norm, is one new term however often it is used. Nothing else is equal for all weights: doubling
    what a convolution reads, say, could be undone in its weights, but they would start at another scale.
    """
    sketch = Sketch()
    nodes: list[list[str]] = [[INPUT], [], [], []]
    for e, (target, start) in enumerate(EDGES):
        terms, op = nodes[start], ops[e]
        if op == "skip_connect":
            nodes[target] += terms
        elif op == "avg_pool_3x3":
            pooled = [sketch.add(f"edge{e}_{i}", "AvgPool2d", term) for i, term in enumerate(terms)]
            nodes[target] += pooled
        elif op in _CONVOLUTIONS and terms:
            nodes[target].append(sketch.add(f"edge{e}", op, sketch.sum(f"sum{e}", terms)))
    if not nodes[3]:
        return "0"
    sketch.add("output", "add", *nodes[3])
    return canonical(sketch.graph())
