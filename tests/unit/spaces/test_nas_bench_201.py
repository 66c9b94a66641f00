"""What cells of NAS-Bench-201 compute and count; published numbers where there are some."""

from __future__ import annotations

import itertools
import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import spaces
from spaces.counting import count_graph
from spaces.nas_bench_201 import OPERATIONS, NasBench201
from spaces.space import Space

NONE, SKIP, ONE, THREE, POOL = OPERATIONS


def cell(*ops: str) -> dict[str, Any]:
    return {f"edge{i}": op for i, op in enumerate(ops)}


def bench(**arguments: Any) -> Space:
    """The benchmark's space, its own macro-architecture unless told otherwise."""
    return spaces.cell(**({"preset": "nas_bench_201"} | arguments))


ALL = [cell(*ops) for ops in itertools.product(OPERATIONS, repeat=6)]


@pytest.mark.parametrize(
    ("params", "parameters"),
    [
        # The published table's size in millions for the architectures of these operations.
        (cell(NONE, NONE, NONE, NONE, NONE, NONE), 73_306),
        (cell(NONE, NONE, NONE, NONE, NONE, ONE), 101_306),
        (cell(NONE, NONE, NONE, NONE, NONE, THREE), 316_346),
        (cell(*[THREE] * 6), 1_531_546),
    ],
)
def test_published_sizes_keep_dead_edges(params: dict[str, Any], parameters: int) -> None:
    space = bench()
    assert space.count(params, prune=False).parameters == parameters


def test_sizes_equal_the_published_table() -> None:
    folder = os.environ.get("BONAS_BENCHMARKS")
    if not folder:
        pytest.skip("set BONAS_BENCHMARKS to the folder of published tables")
    table = np.load(Path(folder) / "nasbench201_12_200" / "table.npz")
    space = bench()
    for ops, sizes in zip(table["ops"][::97], table["params_m"][::97, 0], strict=True):
        count = space.count(cell(*(OPERATIONS[k] for k in ops)), prune=False)
        assert np.nanmin(np.abs(sizes - count.parameters / 1e6)) < 1e-6


def test_quick_count_equals_the_graphs_and_torchs() -> None:
    settings = {"input_shape": (1, 15, 20), "n_classes": 7, "filters": 8, "cells": 2}
    family, space = NasBench201(**settings), bench(**settings)
    for i, params in enumerate(space.sample(60, np.random.default_rng(0))):
        for prune in (True, False):
            graph = family.graph(params, 1.0, 1.0, prune)
            assert space.count(params, prune) == count_graph(graph, (1, 15, 20))
        if i < 8:
            with FlopCounterMode(display=False) as counter:
                space.build(params).eval()(torch.randn(1, 1, 15, 20))
            assert counter.get_total_flops() == 2 * space.count(params).macs


def test_distinct_keys() -> None:
    space = bench()
    alive = {tuple(space.features(params)[-24:]) for params in ALL}
    assert len(alive) == 9_445  # dead edges dropped
    # Skips pass their terms on, pooling is linear, the order of sums is free; weights used twice stay one.
    assert len({space.key(params) for params in ALL}) == 5_044


@pytest.fixture(scope="module")
def keys() -> dict[str, Any]:
    """The functions of the benchmark that compares keys with numbers."""
    return runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "nasbench201_keys.py"))


def test_cells_compute_the_same_exactly_if_they_have_one_key(keys: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    by_key = list(keys["by_key"](list(itertools.product(OPERATIONS, repeat=6))).values())
    chosen = [by_key[i] for i in rng.choice(len(by_key), 60, replace=False)]
    chosen = [cells[:3] for cells in chosen]
    groups = keys["groups"]([cell for cells in chosen for cell in cells])
    assert set(groups) == {frozenset(cells) for cells in chosen}


def test_whole_networks_of_one_key_compute_and_learn_the_same(keys: dict[str, Any]) -> None:
    for one, other, edges, gap in keys["compared"](pairs=6, seed=1):
        assert gap < 1e-9, (one, other, edges)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        # Dead edges.
        (cell(THREE, NONE, NONE, NONE, ONE, NONE), cell(THREE, POOL, NONE, NONE, ONE, NONE)),
        # The same path over node 1, and over node 2.
        (cell(THREE, NONE, NONE, NONE, ONE, NONE), cell(NONE, THREE, NONE, NONE, NONE, ONE)),
        # A skip before and after the convolution, and a way straight through.
        (cell(SKIP, NONE, NONE, NONE, THREE, NONE), cell(NONE, NONE, NONE, THREE, NONE, NONE)),
        (cell(SKIP, NONE, THREE, NONE, NONE, SKIP), cell(NONE, NONE, NONE, THREE, NONE, NONE)),
        # Pooling a sum is summing what is pooled.
        (cell(THREE, SKIP, SKIP, NONE, NONE, POOL), cell(THREE, POOL, POOL, NONE, NONE, SKIP)),
    ],
)
def test_equal_keys_compute_the_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    space = bench(filters=4, cells=1, input_shape=(3, 8, 8))
    assert space.key(a) == space.key(b)
    left, right = space.build(a).double().eval(), space.build(b).double().eval()
    for x, y in zip(left.parameters(), right.parameters(), strict=True):
        with torch.no_grad():
            y.copy_(x)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    assert torch.allclose(left(images), right(images), atol=1e-12)


def test_a_convolution_used_twice_is_not_two() -> None:
    space = bench()
    shared = cell(THREE, NONE, POOL, NONE, SKIP, SKIP)
    separate = cell(THREE, THREE, NONE, NONE, POOL, SKIP)
    assert space.count(shared) != space.count(separate)
    assert space.key(shared) != space.key(separate)


def test_equal_keys_have_equal_sizes() -> None:
    space = bench()
    sizes: dict[str, spaces.Count] = {}
    for params in ALL[::7]:
        assert sizes.setdefault(space.key(params), space.count(params)) == space.count(params)


def test_a_cell_without_a_way_through_still_trains() -> None:
    space = bench(filters=4, cells=1)
    network = space.build(cell(THREE, THREE, THREE, NONE, NONE, NONE))
    loss = nn.functional.cross_entropy(network(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert loss.isfinite()
    assert network.classifier.bias.grad.abs().sum() > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_depth_and_width() -> None:
    space = bench(filters=16, cells=4)
    network = space.build(space.default, width=0.25, depth=0.5)
    assert network.stem_conv.out_channels == 4
    stages = {name.split("_edge")[0] for name, _ in network.named_children() if "_edge" in name}
    assert stages == {f"stage{s}_cell{i}" for s in range(3) for i in range(2)}


def test_count_is_exact_while_another_thread_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    space, meanwhile, calls = bench(filters=2, cells=1), [], itertools.count()

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == 1:  # another thread comes while what all counts share is half computed
            meanwhile.append(space.count(space.default))
        return count_graph(*arguments)

    monkeypatch.setattr("spaces.nas_bench_201.count_graph", interrupted)
    total = space.count(space.default)
    assert [*meanwhile, total] == [bench(filters=2, cells=1).count(space.default)] * 2


def test_space_is_the_benchmarks() -> None:
    space = bench()
    assert space.size == 5**6
    assert sum(1 for _ in space.enumerate()) == 5**6
    assert space.names == tuple(f"edge{i}" for i in range(6))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"preset": "nas_bench_101"}, "preset='nas_bench_101': is not known"),
        ({"n_classes": 0}, "at least 1"),
        ({"input_shape": (3, 2, 32)}, "at least 4 pixels"),
        ({"filters": 0}, "filters=0"),
        ({"cells": 1.5}, r"cells=1\.5"),
    ],
)
def test_bad_input(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bench(**wrong)
