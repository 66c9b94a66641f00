"""Normal and reduction cells: all build, are counted exactly, and are known by what they compute."""

from __future__ import annotations

import copy
import itertools
import json
import math
from typing import Any

import ConfigSpace
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import spaces
from spaces.cell_operations import OPERATIONS
from spaces.cell_wiring import Live, choices, wiring
from spaces.cells import Cell
from spaces.counting import count_graph
from spaces.presets import PRESETS, Design
from spaces.space import Space

# Every way to choose inputs, with dead edges and without, and every way to combine.
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"preset": name} for name in PRESETS},
    "darts with none": {"preset": "darts", "operations": ("none", "skip_connect", "sep_conv_3x3")},
    "darts free": {"preset": "darts", "inputs": "any"},
    "own": {
        "preset": None,
        "blocks": 3,
        "operations": ("none", "skip_connect", "conv_3x3", "max_pool_3x3"),
        "inputs": "any",
        "combine": ("add", "concat"),
    },
}
SMALL = {"filters": 4, "cells": 1}


def make(name: str, **more: Any) -> spaces.Space:
    return spaces.cell(**{**VARIANTS[name], **SMALL, **more})


def family(**settings: Any) -> Cell:
    architecture = spaces.cell(**settings)._architecture
    assert isinstance(architecture, Cell)
    return architecture


SPACES = {
    name: make(name, cells=[1, 2], reductions=[0, 1, 2], stem=["conv", "conv_stride2"]) for name in VARIANTS
}


def drawn(name: str, seed: int) -> dict[str, Any]:
    return SPACES[name].sample(1, np.random.default_rng(seed))[0]


# Sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), channels=st.sampled_from([1, 3]), side=st.sampled_from([8, 15, 28, 64]))
def test_quick_count_equals_the_graphs(name: str, seed: int, channels: int, side: int) -> None:
    family_ = Cell(**{**SPACES[name]._architecture.to_dict(), "input_shape": (channels, side, side + 5)})
    params = drawn(name, seed)
    for prune in (True, False):
        graph = family_.graph(params, 1.0, 1.0, prune)
        assert family_.count(params, prune) == count_graph(graph, family_.input_shape)
    assert family_.count(params, True).parameters <= family_.count(params, False).parameters


@pytest.mark.parametrize("name", VARIANTS)
def test_random_networks_build_train_and_are_counted(name: str) -> None:
    for seed, side in enumerate((8, 28, 32, 9)):
        space = make(name, input_shape=(1 + 2 * (seed % 2), side, side), reductions=[1, 2])
        params = space.sample(1, np.random.default_rng(seed))[0]
        count = space.count(params)
        params |= {"dropout": 0.1, "drop_path": 0.2}
        family_ = space._architecture
        assert family_ is not None
        from spaces.operations import Network

        network = Network(family_.graph(params, 1.0, 1.0))
        assert sum(p.numel() for p in network.parameters()) == count.parameters
        images = torch.randn(4, *family_.input_shape)
        loss = nn.functional.cross_entropy(network(images), torch.arange(4))
        loss.backward()
        assert loss.isfinite()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)
        if "nothing" not in space.key(params):
            assert len(gradients) == len(list(network.parameters())), "something built is not connected"
        with FlopCounterMode(display=False) as counter:
            network.eval()(images[:1])
        assert counter.get_total_flops() == 2 * count.macs


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("side", [1, 2, 7, 8])
def test_operations_keep_channels_and_round_sizes_up(op: str, side: int) -> None:
    from spaces.graph import INPUT, Sketch
    from spaces.operations import Network

    for stride in (1, 2):
        sketch = Sketch()
        sketch.add("start", "ReLU", INPUT)
        result = OPERATIONS[op].sketch(sketch, "op", "start", 4, stride)
        assert sketch.graph()[-1].name == result
        output = Network(sketch.graph())(torch.randn(2, 4, side, 2 * side))
        assert output.shape == (2, 4, -(-side // stride), 2 * side // stride)


@pytest.mark.parametrize("stem", ["conv", "conv_stride2", "imagenet"])
def test_stems(stem: str) -> None:
    space = spaces.cell("enas", (3, 40, 40), 5, stem=stem, **SMALL)
    network = space.build(space.default)
    assert sum(p.numel() for p in network.parameters()) == space.count(space.default).parameters
    assert network(torch.randn(2, 3, 40, 40)).shape == (2, 5)


def test_width_and_depth() -> None:
    space = spaces.cell("darts", filters=16, cells=4)
    network = space.build(space.default, width=0.25, depth=0.5)
    assert network.stem_conv.out_channels == 3 * 4
    cells = {name.split("_")[0] for name, _ in network.named_children() if name.startswith("cell")}
    assert cells == {f"cell{i}" for i in range(2 + 1 + 2 + 1 + 2)}


def test_drop_path_follows_every_operation_but_identities() -> None:
    architecture = family(preset="darts", **SMALL)
    params = spaces.cell("darts", **SMALL).default
    params |= {"normal_block2_op_a": "skip_connect", "normal_block2_op_b": "max_pool_3x3", "drop_path": 0.3}
    graph = architecture.graph(params, 1.0, 1.0)
    dropped = {node.inputs[0] for node in graph if node.op == "DropPath"}
    assert "cell0_block2_b" in dropped
    assert not any(name.startswith("cell0_block2_a") for name in dropped)
    # In a reduction cell a skip is a convolution, and that is dropped.
    strided = params | {"reduction_block2_op_a": "skip_connect"}
    dropped = {node.inputs[0] for node in architecture.graph(strided, 1.0, 1.0) if node.op == "DropPath"}
    assert "cell1_block2_a_norm" in dropped
    assert not any(n.op == "DropPath" for n in architecture.graph(params | {"drop_path": 0.0}, 1.0, 1.0))


# Keys ----------------------------------------------------------------------------------------


def relabelled(params: dict[str, Any], cell: str, order: list[int]) -> dict[str, Any]:
    """A cell of two chosen inputs with its blocks in another order; order[i]: old block that comes i-th."""
    new = {0: 0, 1: 1} | {old: i + 2 for i, old in enumerate(order)}
    changed = dict(params)
    for old in order:
        for name, value in params.items():
            head = f"{cell}_block{old}_"
            if name.startswith(head):
                tail = name.removeprefix(head)
                changed[f"{cell}_block{new[old]}_{tail}"] = new[value] if tail.startswith("input") else value
    return changed


@given(seed=st.integers(0, 10**6), data=st.data())
@pytest.mark.parametrize("name", ["nasnet", "enas", "amoebanet"])
@settings(max_examples=30)
def test_isomorphic_cells_have_one_key(name: str, seed: int, data: st.DataObject) -> None:
    space, params = SPACES[name], drawn(name, seed)
    order: list[int] = []
    left = list(range(2, 7))
    while left:  # any order in which blocks come after those they read
        ready = [
            b for b in left if all(params[f"normal_block{b}_input_{x}"] in (0, 1, *order) for x in ("a", "b"))
        ]
        order.append(data.draw(st.sampled_from(ready)))
        left.remove(order[-1])
    changed = relabelled(params, "normal", order)
    for block in range(2, 7):
        if data.draw(st.booleans()):
            at = f"normal_block{block}"
            for what in ("input", "op"):
                a, b = changed[f"{at}_{what}_a"], changed[f"{at}_{what}_b"]
                changed |= {f"{at}_{what}_a": b, f"{at}_{what}_b": a}
    changed = space.validate(changed)
    assert space.key(changed) == space.key(params)
    assert space.count(changed) == space.count(params)


@pytest.mark.parametrize("name", VARIANTS)
def test_equal_keys_have_equal_sizes_and_features(name: str) -> None:
    space = make(name)
    known: dict[str, Any] = {}
    for params in space.sample(60, np.random.default_rng(1)):
        rng = np.random.default_rng(2)
        for each in (params, *space.neighbours(params, rng, 5)):
            found = space.count(each), list(space.features(each))
            assert known.setdefault(space.key(each), found)[0] == found[0]
    assert len(known) > 50


def evaluated(live: Live, reduction: bool) -> list[float]:
    """A cell of numbers in which every operation of a kind and stride is the same function."""
    states = {0: [0.3], 1: [0.7]}

    def applied(op: str, stride: int, x: float) -> float:
        return x if op == "skip_connect" and stride == 1 else math.sin(sum(map(ord, op)) * x + stride)

    for block, edges in live.blocks():
        strides = [2 if reduction and edge.source in (0, 1) else 1 for edge in edges]
        results = [
            applied(edge.op, stride, math.fsum(states[edge.source]))
            for edge, stride in zip(edges, strides, strict=True)
        ]
        concat = live.combine[block - 2] == "concat"
        states[block] = [math.prod(x + 2 for x in results)] if concat else [math.fsum(results)]
    return sorted(round(math.fsum(states[state]), 9) for state in live.outputs)


def test_cells_with_one_key_compute_the_same() -> None:
    design = Design(
        blocks=2, operations=("none", "skip_connect", "conv_3x3"), combine=("add", "concat"), inputs="pair"
    )
    for reduction in (False, True):
        values: dict[str, set[tuple[float, ...]]] = {}
        sets = choices(design, "normal")
        for chosen in itertools.product(*(choice.values for choice in sets)):
            params = {choice.name: value for choice, value in zip(sets, chosen, strict=True)}
            live = wiring(design, "normal", params).live(design, (True, True), shortcut=False)
            values.setdefault(live.key(reduction), set()).add(tuple(evaluated(live, reduction)))
        assert all(len(found) == 1 for found in values.values())
        assert len(values) > 100


def test_dead_edges_are_not_in_the_key_nor_in_the_network() -> None:
    space = spaces.cell("darts", inputs="any", **SMALL)
    params = dict.fromkeys(space.names, "none")
    for cell in ("normal", "reduction"):
        params |= {f"{cell}_edge2_0": "sep_conv_3x3", f"{cell}_edge2_1": "sep_conv_3x3"}
    # Block 4 reads block 3, which reads nothing.
    dead = params | {"normal_edge4_3": "sep_conv_5x5"}
    assert space.key(dead) == space.key(params)
    assert space.count(dead) == space.count(params)
    assert space.count(dead, prune=False) != space.count(params, prune=False)
    alive = dead | {"normal_edge3_1": "max_pool_3x3"}
    assert space.key(alive) != space.key(params)


def test_a_reduction_cell_that_nothing_reads_is_not_in_the_key() -> None:
    space = spaces.cell("darts", inputs="any", reductions=1, **SMALL)
    params = dict.fromkeys(space.names, "none") | {"normal_edge2_0": "conv", "reduction_edge2_1": "conv"}
    params = {name: "sep_conv_3x3" if op == "conv" else op for name, op in params.items()}
    # normal, reduction, normal: the last cell reads the first one alone.
    other = params | {"reduction_edge2_1": "sep_conv_5x5"}
    assert space.key(other) == space.key(params)
    assert space.count(other) == space.count(params)
    assert np.array_equal(space.features(other), space.features(params))
    read = {"normal_edge2_1": "skip_connect"}
    assert space.key(other | read) != space.key(params | read)


def test_networks_without_a_way_through_still_train() -> None:
    space = spaces.cell("darts", inputs="any", **SMALL)
    params = dict.fromkeys(space.names, "none")
    network = space.build(params)
    assert sum(p.numel() for p in network.parameters()) == space.count(params).parameters
    loss = nn.functional.cross_entropy(network(torch.randn(4, 3, 32, 32)), torch.arange(4))
    loss.backward()
    assert network.classifier.bias.grad.abs().sum() > 0
    assert np.isfinite(space.features(params)).all()


def test_macro_architectures_have_different_keys() -> None:
    space = spaces.cell("enas", filters=[4, 8], cells=[1, 2])
    default = space.default
    keys = {space.key(default | {"filters": f, "cells": c}) for f in (4, 8) for c in (1, 2)}
    assert len(keys) == 4


# The space -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_spaces_have_no_clauses_and_are_restored(name: str) -> None:
    space = SPACES[name]
    assert not space.configuration_space.forbidden_clauses
    again = copy.deepcopy(space)
    params = drawn(name, 3)
    assert again == space
    assert again.key(params) == space.key(params)
    assert spaces.Space.from_dict(space.to_dict()) == space


def test_hyperparameters_are_the_documented_ones() -> None:
    ops = len(PRESETS["darts"].operations)
    # Per cell: pairs of 2, 3, 4 and 5 states, two operations for each block.
    assert spaces.cell("darts").size == (1 * 3 * 6 * 10 * ops**8) ** 2
    assert spaces.cell("enas", reductions=0).size == (2 * 3 * 4 * 5 * 6 * 5**5) ** 2
    assert len(PRESETS["nasnet"].operations) == 13
    names = spaces.cell("amoebanet", filters=[8, 16, 32], stem=["conv", "conv_stride2"]).names
    assert {"filters", "stem", "normal_block2_input_a", "reduction_block6_op_b"} <= set(names)
    assert not {"cells", "reductions"} & set(names)
    assert "normal_edge5_4" in spaces.cell("darts", inputs="any").names


def test_reduction_cell_is_searched_only_where_there_is_one() -> None:
    space = spaces.cell("enas", reductions=[0, 2])
    for params in space.sample(20, np.random.default_rng(0)):
        assert any(name.startswith("reduction_") for name in params) == (params["reductions"] > 0)
    assert not any(name.startswith("reduction_") for name in spaces.cell("enas", reductions=0).names)


@pytest.mark.parametrize("name", VARIANTS)
def test_defaults_read_both_inputs_and_convolve(name: str) -> None:
    space = make(name)
    pictures = space._architecture.pictures(space.default)
    assert list(pictures) == ["normal", "reduction", "network"]
    labels = {arrow.label for arrow in pictures["normal"].arrows}
    assert any("conv" in label for label in labels)
    assert "skip" in labels
    assert sum("input" in box.title for box in pictures["normal"].boxes) == 2


@pytest.mark.parametrize("name", VARIANTS)
def test_features_say_what_is_alive_and_how_large_it_is(name: str) -> None:
    space = SPACES[name]
    design, sample = family(**VARIANTS[name]).design, space.sample(40, np.random.default_rng(3))
    kept = [op for op in design.operations if op != "none"]
    for params, row in zip(sample, space.features_many(sample), strict=True):
        live = wiring(design, "normal", params).live(design, (True, True), design.shortcut)
        ops = [edge.op for edge in live.edges]
        assert row[: len(kept)].tolist() == [ops.count(op) for op in kept]
        joined = sum(live.combine[block - 2] == "concat" for block, _ in live.blocks())
        assert row[len(kept) : len(kept) + 2].tolist() == [len(live.outputs), joined]
        assert row[len(kept) + 5 : len(kept) + 7].tolist() == [live.reads(0), live.reads(1)]
        count = space.count(params)
        assert row[-2:].tolist() == [math.log(count.parameters), math.log(count.macs)]


def test_features_tell_depth_from_width() -> None:
    space = spaces.cell("enas", **SMALL)
    chain, fan = dict(space.default), dict(space.default)
    for block in range(2, 7):
        for params, a in ((chain, block - 1), (fan, 1)):
            params |= {f"normal_block{block}_input_a": a, f"normal_block{block}_input_b": 0}
            params |= {
                f"normal_block{block}_op_a": "sep_conv_3x3",
                f"normal_block{block}_op_b": "skip_connect",
            }
    assert space.features(chain).shape == space.features(fan).shape
    assert (space.features(chain) != space.features(fan)).any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"preset": "pnas"}, "preset='pnas': is not known. Use one of"),
        ({"preset": ["darts"]}, "is not known"),
        ({"preset": "darts", "n_classes": 0}, "at least 1"),
        ({"preset": "darts", "filters": 15}, "filters=15: must be even"),
        ({"preset": "darts", "filters": 0}, "filters=0: must be a whole number from 2"),
        ({"preset": "darts", "filters": []}, r"filters=\[\]"),
        ({"preset": "darts", "filters": [8, 8]}, "there twice"),
        ({"preset": "darts", "cells": 1.5}, r"cells=1\.5"),
        ({"preset": "darts", "cells": 0}, "cells=0"),
        ({"preset": "darts", "reductions": -1}, "reductions=-1"),
        ({"preset": "darts", "reductions": 0.0}, r"reductions=0\.0"),
        ({"preset": "darts", "stem": "resnet"}, "stem='resnet'"),
        ({"preset": "darts", "stem": [["conv"]]}, r"stem=\['conv'\]"),
        ({"preset": "darts", "reductions": True}, "reductions=True"),
        ({"preset": "darts", "reductions": 10**30}, "each side must be at least"),
        ({"preset": "darts", "blocks": 10**30}, "from 1 to 1000"),
        ({"preset": "darts", "reductions": [1, 6]}, "at least 33 pixels"),
        ({"preset": "darts", "input_shape": (3, 8, 8), "stem": "imagenet"}, "at least 17 pixels"),
        ({"preset": "darts", "operations": ["sep_conv_9x9"]}, "'sep_conv_9x9' is not known"),
        ({"preset": "darts", "operations": ["conv_3x3", "conv_3x3"]}, "twice"),
        ({"preset": "darts", "operations": ["none"]}, "nothing would reach the output"),
        ({"preset": "darts", "operations": []}, "at least one"),
        ({"preset": "darts", "inputs": "three"}, "inputs='three'"),
        ({"preset": "darts", "combine": ["multiply"]}, "'multiply' is not known"),
        ({"preset": "darts", "blocks": 0}, "blocks=0"),
        ({"preset": "darts", "nodes": 4}, "nodes=4: cells have no such setting"),
        ({"preset": None, "operations": ["conv_3x3"]}, "blocks is missing"),
        ({"preset": "nas_bench_201", "reductions": 1}, "filters and cells only"),
        ({"preset": "nas_bench_201", "blocks": 3}, "filters and cells only"),
    ],
)
def test_bad_input(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spaces.cell(**wrong)


@pytest.mark.parametrize("name", ["filters", "reductions", "stem"])
def test_what_is_not_searched_is_no_hyperparameter_of_training(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}': the networks have a setting of that name"):
        spaces.cell("darts").with_hyperparameters([ConfigSpace.Integer(name, (1, 9))])


@pytest.mark.parametrize("name", ["dropout", "drop_path"])
def test_probabilities_are_below_one(name: str) -> None:
    for value in (1.0, -0.5, "much"):
        space = spaces.cell("darts").with_hyperparameters([ConfigSpace.Constant(name, value)])
        with pytest.raises(ValueError, match=f"{name}={value!r}: the network reads it as a probability"):
            space.build(space.default)


def test_numpys_numbers_are_numbers() -> None:
    numbers: Any = {"blocks": np.int64(2), "shortcut": np.bool_(True), "reductions": np.int64(0)}
    space = spaces.cell("darts", **numbers)
    assert Space.from_dict(json.loads(json.dumps(space.to_dict()))) == space


def test_designs_survive_json() -> None:
    for design in PRESETS.values():
        assert Design(**design.to_dict()) == design


def test_channels_that_come_last_are_noticed() -> None:
    for make in (lambda: spaces.cell("darts", (32, 32, 3)), lambda: spaces.cell(input_shape=(28, 28, 1))):
        with pytest.raises(ValueError, match=r"looks like \(height, width, channels\).*Give input_shape=\("):
            make()
