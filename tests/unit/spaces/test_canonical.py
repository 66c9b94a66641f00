"""Equal keys exactly for graphs that are the same network; compared with trying every renaming."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.canonical import canonical
from spaces.graph import INPUT, Graph, Node, Sketch
from spaces.operations import Network

WEIGHTED = ("Conv2d", "Linear", "ternary")
EVERY_OP = (*WEIGHTED, "ReLU", "AvgPool2d", "Dropout", "add", "concat")


@st.composite
def graphs(draw: st.DrawFn, ops: tuple[str, ...] = EVERY_OP, most: int = 14) -> Graph:
    """Random graphs; some nodes dead, some ops with one input and some with several."""
    nodes: list[Node] = []
    for i in range(draw(st.integers(1, most))):
        op = draw(st.sampled_from(ops))
        several = op in ("add", "concat", "ternary")
        names = [INPUT, *(node.name for node in nodes)]
        inputs = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3 if several else 1))
        settings = {"groups": 1, "kernel_size": draw(st.sampled_from([1, 3]))} if op == "Conv2d" else {}
        nodes.append(Node(f"n{i}", op, tuple(inputs), settings))
    return tuple(nodes)


def disguised(graph: Graph, seed: int) -> Graph:
    """The same network: other names, another order of independent nodes and of the terms of sums."""
    rng = random.Random(seed)
    names = {node.name: f"m{i}" for i, node in enumerate(rng.sample(graph, len(graph)))} | {INPUT: INPUT}
    left, done, result = list(graph[:-1]), {INPUT}, []
    while left:
        node = rng.choice([node for node in left if done.issuperset(node.inputs)])
        left.remove(node)
        done.add(node.name)
        result.append(node)
    result.append(graph[-1])
    return tuple(
        Node(
            names[node.name],
            node.op,
            tuple(
                names[n]
                for n in (rng.sample(node.inputs, len(node.inputs)) if node.op == "add" else node.inputs)
            ),
            dict(reversed(node.settings.items())),
        )
        for node in result
    )


@settings(max_examples=300, deadline=None)
@given(graphs(), st.integers(0, 2**31))
def test_names_and_orders_do_not_matter(graph: Graph, seed: int) -> None:
    assert canonical(disguised(graph, seed)) == canonical(graph)


def isomorphic(a: Graph, b: Graph) -> bool:
    """Whether some renaming makes one graph the other; tries all of them."""

    def edges(graph: Graph, number: dict[str, int]) -> Counter[tuple[object, ...]]:
        # A sum reads a bag, everything else a sequence.
        return Counter(
            (number[node.name], node.op, str(node.settings), number[name], 0 if node.op == "add" else place)
            for node in graph
            for place, name in enumerate(node.inputs)
        )

    if len(a) != len(b):
        return False
    wanted = edges(a, {INPUT: -1} | {node.name: i for i, node in enumerate(a)})
    for order in itertools.permutations(range(len(b) - 1)):
        number = {INPUT: -1, b[-1].name: len(b) - 1}
        number |= {node.name: place for node, place in zip(b[:-1], order, strict=True)}
        if edges(b, number) == wanted:
            return True
    return False


@st.composite
def normal_graphs(draw: st.DrawFn) -> Graph:
    """Graphs to which no rewriting applies: nodes with weights, sums of two of them, nothing dead."""
    graph: list[Node] = []
    for i in range(draw(st.integers(2, 5))):
        op = draw(st.sampled_from(["A", "B", "pair", "add"]))
        names = [INPUT, *(node.name for node in graph if (op, node.op) != ("add", "add"))]
        size = 2 if op in ("pair", "add") else 1
        graph.append(Node(f"n{i}", op, tuple(draw(st.sampled_from(names)) for _ in range(size)), {}))
    used = {name for node in graph for name in node.inputs}
    loose = [node.name for node in graph if node.name not in used]
    sums = Counter((node.op, tuple(sorted(node.inputs))) for node in graph if node.op == "add")
    if max(sums.values(), default=0) > 1:  # equal sums are one
        return (Node("n0", "A", (INPUT,), {}),)
    return (*graph, Node("end", "gather", tuple(loose), {}))


@settings(max_examples=150, deadline=None)
@given(normal_graphs(), normal_graphs(), st.integers(0, 2**31))
def test_equal_keys_exactly_for_isomorphic_graphs(a: Graph, b: Graph, seed: int) -> None:
    assert isomorphic(a, disguised(a, seed))
    assert (canonical(a) == canonical(b)) == isomorphic(a, b)


def test_every_small_graph_of_one_op() -> None:
    # All graphs of three nodes with weights that read one or two earlier ones, so highly symmetric.
    every = []
    for inputs in itertools.product(
        *(list(itertools.product([INPUT, "n0", "n1"][: i + 1], repeat=2)) for i in range(3))
    ):
        every.append(tuple(Node(f"n{i}", "pair", names, {}) for i, names in enumerate(inputs)))
    alive = [g for g in every if {n for node in g for n in node.inputs} >= {"n0", "n1"}]
    for a, b in itertools.combinations(alive, 2):
        assert (canonical(a) == canonical(b)) == isomorphic(a, b)


def sketched(draw: Callable[[Sketch], object]) -> str:
    sketch = Sketch()
    draw(sketch)
    return canonical(sketch.graph())


def test_a_node_used_twice_is_not_two_nodes() -> None:
    def once(s: Sketch) -> None:
        s.add("a", "Conv2d", INPUT, groups=1)
        s.add("b", "Conv2d", "a", groups=1)
        s.add("c", "Conv2d", "a", groups=1)
        s.add("d", "add", "b", "c")

    def twice(s: Sketch) -> None:
        s.add("a", "Conv2d", INPUT, groups=1)
        s.add("e", "Conv2d", INPUT, groups=1)
        s.add("b", "Conv2d", "a", groups=1)
        s.add("c", "Conv2d", "e", groups=1)
        s.add("d", "add", "b", "c")

    assert sketched(once) != sketched(twice)


# Pairs that are the same network, written in two ways: (op, inputs) of nodes a, b, c, ...
SAME = {
    "dead": ["A x; A x; B a", "A x; B a"],
    "dead after a zero": ["zeros_like x; A x; add a b", "A x; add a"],
    "weightless steps twice": ["A x; ReLU a; ReLU a; B b; C c; add d e", "A x; ReLU a; B b; C b; add c d"],
    "nested sums": ["A x; B x; add a b; C x; add c d; D e", "A x; B x; C x; add b c a; D d"],
    "a sum twice": ["A x; add a x; add b b; D c", "A x; add a x a x; D b"],
    "a sum of one": ["A x; add a; B b", "A x; B a"],
    "nested concatenations": [
        "A x; B x; concat a b; C x; concat c d; Linear e",
        "A x; B x; C x; concat b c a; Linear d",
    ],
    "nested concatenations in order": [
        "A x; B x; concat a b; C x; concat c d",
        "A x; B x; C x; concat a b c",
    ],
    "order of a concatenation that is pooled, then read by weights": [
        "A x; B x; concat a b; MaxPool2d c; Linear d",
        "A x; B x; concat b a; MaxPool2d c; Linear d",
    ],
    "one concatenation in two orders": [
        "A x; B x; concat a b; concat b a; Linear c; Linear d; add e f",
        "A x; B x; concat a b; Linear c; Linear c; add d e",
    ],
}
OTHER = {
    "order of a concatenation that is added": [
        "A x; B x; A x; B x; concat a b; concat c d; add e f; Linear g",
        "A x; B x; A x; B x; concat a b; concat d c; add e f; Linear g",
    ],
    "order of a concatenation that is the output": ["A x; B x; concat a b", "A x; B x; concat b a"],
    "order of a concatenation before a norm of groups": [
        "A x; B x; concat a b; GroupNorm c; Linear d",
        "A x; B x; concat b a; GroupNorm c; Linear d",
    ],
    "dropout twice": ["A x; Dropout a; B b; C b; add c d", "A x; Dropout a; Dropout a; B b; C c; add d e"],
    "a term twice": ["A x; B x; add a b", "A x; B x; add a b b"],
    "order of other inputs": ["A x; B x; shrink a b", "A x; B x; shrink b a"],
    "an earlier output": ["A x; A a; add a b", "A x; A a; add b b"],
}


def written(text: str) -> Graph:
    nodes = []
    for name, step in zip("abcdefgh", text.split("; "), strict=False):
        op, *inputs = step.split()
        nodes.append(Node(name, op, tuple(inputs), {}))
    return tuple(nodes)


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_the_same_network(pair: list[str]) -> None:
    assert canonical(written(pair[0])) == canonical(written(pair[1]))


@pytest.mark.parametrize("pair", OTHER.values(), ids=OTHER)
def test_another_network(pair: list[str]) -> None:
    assert canonical(written(pair[0])) != canonical(written(pair[1]))


def test_concatenation_keeps_its_order_on_request() -> None:
    one, other = SAME["order of a concatenation that is pooled, then read by weights"]
    assert canonical(written(one), commutative=("add",)) != canonical(written(other), commutative=("add",))


def test_settings_matter() -> None:
    one, other = (canonical((Node("a", "Conv2d", (INPUT,), {"kernel_size": k}),)) for k in (1, 3))
    assert one != other


def test_symmetric_graphs_are_no_harder() -> None:
    # Eight equal branches, each twice eight equal layers wide: more than 8!¹⁷ orders of the nodes.
    sketch = Sketch()
    outputs = []
    for i in range(8):
        parts = [sketch.add(f"a{i}_{j}", "Conv2d", INPUT, groups=1) for j in range(8)]
        middle = sketch.sum(f"s{i}", parts)
        parts = [sketch.add(f"b{i}_{j}", "Conv2d", middle, groups=1) for j in range(8)]
        after = sketch.sum(f"t{i}", [middle, *parts])
        outputs.append(sketch.add(f"c{i}", "Conv2d", after, groups=1))
    sketch.sum("end", outputs)
    graph = sketch.graph()
    assert canonical(disguised(graph, 1)) == canonical(graph)


def test_a_shared_concatenation_can_be_permuted() -> None:
    """The claim behind unordered concatenations, on numbers: permuted weights give equal outputs."""

    def network(order: tuple[str, str]) -> Network:
        s = Sketch()
        s.conv("a", INPUT, (3, 4), 3)
        s.conv("b", INPUT, (3, 2), 1)
        s.concat("c", order)
        s.add("norm", "BatchNorm2d", "c", num_features=6)
        s.conv("deep", "norm", (6, 6), 3, groups=6)
        s.add("relu", "ReLU", "deep")
        return Network(s.head("relu", 6, 5, 0.0)).double()

    one, other = network(("a", "b")), network(("b", "a"))
    assert canonical(one.graph) == canonical(other.graph)
    back = torch.tensor(np.r_[4:6, 0:4])
    state = one.state_dict()
    for name in ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "deep.weight"):
        state[name] = state[name][back]
    state["classifier.weight"] = state["classifier.weight"][:, back]
    other.load_state_dict(state)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    assert torch.allclose(one(images), other(images), atol=1e-12)
