"""How many of NAS-Bench-201's 15,625 cells differ, by several counts, and whether the key tells the truth.

    python benchmarks/nasbench201_keys.py

First the number of distinct cells by each published or derived way of counting. Then all cells against
numbers: a cell's output, with batch statistics as in training, over all ways to hand fixed weights to its
convolutions; cells that agree there must be exactly the cells with one key. Last 200 pairs of cells with
one key: whole networks, weights copied by a map from convolution to convolution, compared on 100 random
images in their outputs and gradients. One core, about a minute; writes ``results/nasbench201_keys.md``.
"""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bonas import spaces
from spaces.nas_bench_201 import EDGES, OPERATIONS, PATHS

Cell = tuple[str, ...]
"""The operations of edge0 … edge5."""

RESULTS = Path(__file__).parent / "results" / "nasbench201_keys.md"
CELLS: list[Cell] = list(itertools.product(OPERATIONS, repeat=len(EDGES)))
CONVOLUTIONS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
PAIRS, IMAGES = 200, 100


def key(cell: Cell) -> str:
    return SPACE.key(params(cell))


def params(cell: Cell) -> dict[str, str]:
    return {f"edge{e}": op for e, op in enumerate(cell)}


SPACE = spaces.cell("nas_bench_201", input_shape=(3, 12, 12), n_classes=5, filters=4, cells=2)


# Ways to count ---------------------------------------------------------------------------------


def alive(cell: Cell) -> Cell:
    used = {e for path in PATHS if all(cell[e] != "none" for e in path) for e in path}
    return tuple(op if e in used else "none" for e, op in enumerate(cell))


def topology_string(zeros: bool) -> Callable[[Cell], str]:
    """The text by which the benchmark's authors tell topologies apart, zeros taken into account or not.

    A skip passes a node's text on, other operations are written behind it, and a node joins what reaches
    it in sorted order. With ``zeros``, a ``none``, or an operation on a node that reads as one zero, is a
    zero; but zeros stay in the sums, so that a node of two zeros is not taken for a zero, and a sum
    passed on by a skip stays a term of its own.
    """

    def text(cell: Cell) -> str:
        nodes = ["0"]
        for target in range(1, 4):
            terms = []
            for e, (to, start) in enumerate(EDGES):
                if to != target:
                    continue
                if zeros and (cell[e] == "none" or nodes[start] == "#"):
                    terms.append("#")
                elif cell[e] == "skip_connect":
                    terms.append(nodes[start])
                else:
                    terms.append(f"({nodes[start]})@{cell[e]}")
            nodes.append("+".join(sorted(terms)))
        return nodes[3]

    return text


def expression(linear: bool, shared: bool) -> Callable[[Cell], str]:
    """A cell as an expression in which a node is a bag of terms.

    Args:
        linear: whether pooling applies to each term of a sum, or to the sum as one.
        shared: whether one convolution used twice differs from two; the least text over all numberings.
    """

    def written(cell: Cell, number: dict[int, int]) -> str:
        nodes: list[list[str]] = [["x"], [], [], []]
        for e, (target, start) in enumerate(EDGES):
            terms, op = sorted(nodes[start]), cell[e]
            if op == "none" or not terms:
                continue
            if op == "skip_connect":
                nodes[target] += terms
            elif op == "avg_pool_3x3" and linear:
                nodes[target] += [f"pool({term})" for term in terms]
            else:
                nodes[target].append(f"{op}{number.get(e, '')}({'+'.join(terms)})")
        return "+".join(sorted(nodes[3]))

    def text(cell: Cell) -> str:
        cell = alive(cell)
        if not shared:
            return written(cell, {})
        return min(written(cell, number) for number in numberings(cell))

    return text


def numberings(cell: Cell) -> Iterator[dict[int, int]]:
    """All ways to number the convolutions of each kind, from their edges."""
    of_kind = [[e for e, op in enumerate(cell) if op == kind] for kind in CONVOLUTIONS]
    for orders in itertools.product(*(itertools.permutations(range(len(edges))) for edges in of_kind)):
        yield {
            e: i
            for edges, order in zip(of_kind, orders, strict=True)
            for e, i in zip(edges, order, strict=True)
        }


COUNTS: dict[str, tuple[Callable[[Cell], object], int]] = {
    "all cells": (lambda cell: cell, 15_625),
    "published code: topology strings, zeros ignored. Sums sorted, skips passed on, `none` an operation like "
    "others": (topology_string(False), 12_751),
    "derived: edges on no way from input to output dropped": (alive, 9_445),
    "published: topology strings with zeros, the unique topologies of the literature. Finer than true: "
    "zeros stay in sums, sums in sums, pooling a sum differs from summing what is pooled; coarser than true: "
    "one convolution used twice is taken for two": (topology_string(True), 6_466),
    "derived: dead edges dropped, skips passed on, sums of sums one sum": (expression(False, True), 5_260),
    "**the key**: and pooling applied to each term of a sum": (key, 5_044),
    "derived, too coarse: skips and sums, but one convolution used twice is taken for two": (
        expression(False, False),
        4_930,
    ),
    "derived, too coarse: the same, and pooling applied to each term": (expression(True, False), 4_660),
}


# The key against numbers -------------------------------------------------------------------------

_GENERATOR = torch.Generator().manual_seed(0)


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=_GENERATOR)


_INPUT = _normal(4, 2, 5, 5)
_LOOK = _normal(4, 2, 5, 5)
_WEIGHTS = {op: [_normal(2, 2, size, size) for _ in EDGES] for op, size in CONVOLUTIONS.items()}
# Near 1 and 0, so that no ReLU finds everything negative and hides what came before it.
_GAINS = {op: [(1 + 0.2 * _normal(2), 0.2 * _normal(2)) for _ in EDGES] for op in CONVOLUTIONS}


def output(cell: Cell, number: dict[int, int]) -> float:
    """One number that stands for a cell's output, its convolutions having the weights of their numbers."""
    nodes: list[Tensor | None] = [_INPUT, None, None, None]
    for e, (target, start) in enumerate(EDGES):
        value, op = nodes[start], cell[e]
        if op == "none" or value is None:
            continue
        if op == "avg_pool_3x3":
            value = F.avg_pool2d(value, 3, 1, 1, count_include_pad=False)
        elif op in CONVOLUTIONS:
            weight, (gain, shift) = _WEIGHTS[op][number[e]], _GAINS[op][number[e]]
            value = F.conv2d(F.relu(value), weight, padding=CONVOLUTIONS[op] // 2)
            value = F.batch_norm(value, None, None, gain, shift, training=True)
        before = nodes[target]
        nodes[target] = value if before is None else before + value
    return 0.0 if nodes[3] is None else float((nodes[3] * _LOOK).sum())


def fingerprint(cell: Cell) -> float:
    """The least output over all ways to hand the weights out; equal for cells that compute the same."""
    cell = alive(cell)
    return min(output(cell, number) for number in numberings(cell))


def groups(cells: list[Cell], tolerance: float = 1e-9) -> list[frozenset[Cell]]:
    """Cells of equal fingerprint."""
    values = sorted((fingerprint(cell), cell) for cell in cells)
    found: list[list[Cell]] = []
    for i, (value, cell) in enumerate(values):
        if i == 0 or value - values[i - 1][0] > tolerance:
            found.append([])
        found[-1].append(cell)
    return [frozenset(group) for group in found]


def by_key(cells: list[Cell]) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return found


# Pairs of whole networks --------------------------------------------------------------------------


def matching(one: Cell, other: Cell) -> dict[int, int]:
    """From each convolution of ``one`` to the one of ``other`` that does its work, both as edges.

    Raises:
        AssertionError: if no map makes the cells compute the same.
    """
    one, other = alive(one), alive(other)
    mine = next(numberings(one))
    wanted = output(one, mine)
    for theirs in numberings(other):
        if abs(output(other, theirs) - wanted) < 1e-9:
            edge = {(other[e], number): e for e, number in theirs.items()}
            return {e: edge[one[e], number] for e, number in mine.items()}
    raise AssertionError(f"{one} and {other} have one key, but no map of weights makes them equal")


def difference(one: Cell, other: Cell, edges: dict[int, int], images: Tensor, labels: Tensor) -> float:
    """The largest difference of outputs and gradients, relative to the largest output or gradient."""
    a, b = (SPACE.build(params(cell)).double() for cell in (one, other))
    b.load_state_dict({_renamed(name, edges): value for name, value in a.state_dict().items()})
    results = []
    for network in (a, b):
        logits = network(images)
        F.cross_entropy(logits, labels).backward()
        results.append((logits.detach(), dict(network.named_parameters())))
    worst = float((results[0][0] - results[1][0]).abs().max() / results[0][0].abs().max())
    scale = max(float(_gradient(p).abs().max()) for p in results[0][1].values())
    for name, parameter in results[0][1].items():
        gap = _gradient(parameter) - _gradient(results[1][1][_renamed(name, edges)])
        worst = max(worst, float(gap.abs().max()) / scale)
    return worst


def _renamed(name: str, edges: dict[int, int]) -> str:
    """``stage0_cell1_edge4_conv.weight`` under the edge that edge 4 is mapped to."""
    before, found, after = name.partition("_edge")
    return f"{before}_edge{edges[int(after[0])]}{after[1:]}" if found else name


def _gradient(parameter: nn.Parameter) -> Tensor:
    # What an always-zero cell leaves behind it has no gradient.
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def compared(pairs: int, seed: int = 0) -> list[tuple[Cell, Cell, dict[int, int], float]]:
    """Random pairs of cells with one key that differ in what is alive, their maps, their differences."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    images = torch.randn(IMAGES, 3, 12, 12, dtype=torch.float64)
    labels = torch.randint(0, 5, (IMAGES,))
    several = [g for g in by_key(sorted({alive(cell) for cell in CELLS})).values() if len(g) > 1]
    found = []
    for i in rng.choice(len(several), pairs, replace=pairs > len(several)).tolist():
        one, other = (several[i][k] for k in rng.choice(len(several[i]), 2, replace=False).tolist())
        edges = matching(one, other)
        found.append((one, other, edges, difference(one, other, edges, images, labels)))
    return found


def main() -> None:
    lines = [
        "Distinct cells of NAS-Bench-201 by ways of counting.",
        "",
        "| cells | counted how |",
        "|---|---|",
    ]
    for what, (text, expected) in COUNTS.items():
        count = len({text(cell) for cell in CELLS})
        assert count == expected, (what, count)
        lines.append(f"| {count:,} | {what} |")
    keys = {frozenset(cells) for cells in by_key(CELLS).values()}
    numbers = set(groups(CELLS))
    lines += [
        "",
        f"All cells evaluated with numbers: {len(numbers):,} distinct outputs over all ways to hand weights "
        f"to convolutions. The groups of equal cells are {'exactly' if numbers == keys else 'NOT'} those of "
        "equal keys.",
    ]
    pairs = compared(PAIRS)
    worst = max(gap for *_, gap in pairs)
    moved = sum(any(a != b for a, b in edges.items()) for _, _, edges, _ in pairs)
    lines += [
        "",
        f"{len(pairs)} random pairs with one key and other living edges, networks of 6 cells, weights copied "
        f"along a map of convolutions ({moved} of the maps move at least one to another edge), {IMAGES} "
        "random images, batch statistics, double precision: outputs and all gradients differ by at most "
        f"{worst:.1e} of the largest. Some pairs:",
        "",
        "| one | other | edge → edge |",
        "|---|---|---|",
    ]
    for one, other, edges, _ in [p for p in pairs if p[2]][:8]:
        shown = ", ".join(f"{a} → {b}" for a, b in edges.items())
        lines.append(f"| {' '.join(one)} | {' '.join(other)} | {shown} |")
    lines += ["", f"Python {platform.python_version()}, torch {version('torch')}, {platform.machine()}."]
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n")
    if numbers != keys or worst > 1e-9:
        raise SystemExit("the key does not tell the truth")


if __name__ == "__main__":
    main()
