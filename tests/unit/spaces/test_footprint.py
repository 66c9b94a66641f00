"""What a training step keeps in memory: the prediction from the graph against torch's own tensors."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bonas import spaces
from spaces.footprint import Footprint, footprint
from spaces.graph import INPUT, Sketch

CHAIN = {
    "operations": ("conv", "separable", "dilated", "inverted", "max_pool", "avg_pool", "identity"),
    "activations": ("relu", "silu", "gelu", "elu", "leaky_relu", "tanh"),
    "normalisations": ("batch", "group", "none"),
}
SPACES: dict[str, Callable[[], spaces.Space]] = {
    "chain": lambda: spaces.chain((3, 16, 16), 10, **CHAIN),  # type: ignore[arg-type]
    "chain, skips": lambda: spaces.chain((3, 16, 16), 10, skip_connections=True, **CHAIN),  # type: ignore[arg-type]
    "mlp": lambda: spaces.chain_mlp(64, 10),
    "nas_bench_201": lambda: spaces.cell("nas_bench_201", (3, 16, 16), 10, filters=8, cells=2),
    "darts": lambda: spaces.cell("darts", (3, 16, 16), 10, filters=8, cells=1),
    "nasnet": lambda: spaces.cell("nasnet", (3, 16, 16), 10, filters=8, cells=1),
}


class Tensors(TorchDispatchMode):
    """Counts the bytes of all tensors made while it is active, and the most there were at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        if id(storage) not in self._known:
            self._known.add(id(storage))
            self.held += storage.nbytes()
            self.peak = max(self.peak, self.held)
            weakref.finalize(storage, self._forget, id(storage), storage.nbytes())

    def _forget(self, which: int, size: int) -> None:
        self._known.discard(which)
        self.held -= size


def taken(space: spaces.Space, params: dict[str, Any], batch: int) -> int:
    """The most bytes that one step with a batch takes, weights and their gradients left out."""
    model = space.build(params).train()
    assert space.input_shape is not None
    with Tensors() as tensors:
        inputs = torch.zeros((batch, *space.input_shape))
        labels = torch.zeros(batch, dtype=torch.int64)
        scores = model(inputs)
        torch.nn.functional.cross_entropy(scores.float(), labels).backward()
    return tensors.peak


@pytest.mark.parametrize("name", SPACES)
def test_as_much_as_torch_takes(name: str) -> None:
    space = SPACES[name]()
    configurations = [space.default, *space.sample(5, np.random.default_rng(0))]
    errors = []
    for params in configurations:
        with FakeTensorMode():  # shapes and lives of tensors, nothing is computed
            # The difference of two batches leaves out what does not grow with the batch.
            measured = (taken(space, params, 3000) - taken(space, params, 1000)) / 2000
        errors.append(math.log(space.footprint(params).activations / measured))
    assert np.abs(errors).max() < math.log(1.1)
    assert abs(np.mean(errors)) < 0.03


def test_real_tensors_are_those_that_are_counted() -> None:
    space = SPACES["nas_bench_201"]()
    assert taken(space, space.default, 16) == pytest.approx(
        16 * space.footprint(space.default).activations, rel=0.1
    )


@pytest.mark.parametrize("name", SPACES)
def test_parameters_are_those_that_are_counted(name: str) -> None:
    space = SPACES[name]()
    for params in space.sample(5, np.random.default_rng(1)):
        size, model = space.footprint(params), space.build(params)
        assert size.parameters == space.count(params).parameters == sum(p.numel() for p in model.parameters())
        kinds = (torch.nn.Conv2d, torch.nn.Linear)
        lowered = [p for module in model.modules() if isinstance(module, kinds) for p in module.parameters()]
        assert size.lowered == sum(p.numel() for p in lowered)
        assert size.buffers == sum(b.numel() for b in model.buffers() if b.ndim)


def chain_of(*channels: int) -> tuple[Any, ...]:
    sketch, source = Sketch(), INPUT
    for i in range(len(channels) - 1):
        source = sketch.conv(f"conv{i}", source, (channels[i], channels[i + 1]), 3)
        source = sketch.add(f"norm{i}", "BatchNorm2d", source, num_features=channels[i + 1])
        source = sketch.add(f"act{i}", "ReLU", source)
    return sketch.head(source, channels[-1], 10, 0.0)


def test_a_block_worked_out_by_hand() -> None:
    # Inputs; of the block the convolution's and the activation's outputs, on the way back with two gradients;
    # the network's outputs.
    pixels, channels = 8 * 8, 16
    size = footprint(chain_of(3, channels), (3, 8, 8))
    assert size.activations == 4 * pixels * (3 + 4 * channels) + 4 * 10
    assert size.parameters == 3 * channels * 9 + 2 * channels + 10 * (channels + 1)
    assert size.buffers == 2 * channels


def test_mixed_precision_halves_what_large_networks_keep() -> None:
    graph = chain_of(3, 32, 32, 32, 32)
    full, mixed = footprint(graph, (3, 16, 16)), footprint(graph, (3, 16, 16), mixed=True)
    assert 0.5 < mixed.activations / full.activations < 0.55
    assert mixed.parameters == full.parameters > mixed.lowered > 0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 32), min_size=1, max_size=5), st.integers(4, 24), st.booleans())
def test_more_layers_and_more_pixels_never_take_less(channels: list[int], side: int, mixed: bool) -> None:
    def taken_by(*all_channels: int, side: int) -> Footprint:
        return footprint(chain_of(*all_channels), (3, side, side), mixed)

    size = taken_by(3, *channels, side=side)
    assert taken_by(3, *channels, 8, side=side).activations >= size.activations
    assert taken_by(3, *channels, side=side + 1).activations > size.activations


def test_other_inputs_than_the_space_is_made_for() -> None:
    space = SPACES["darts"]()
    half = space.footprint(space.default, (3, 8, 8)).activations
    assert half == pytest.approx(space.footprint(space.default).activations / 4, rel=0.05)


def test_networks_of_ones_own_are_refused() -> None:
    space = spaces.Space(SPACES["mlp"]().configuration_space)
    with pytest.raises(ValueError, match="footprint: only of bonas's own"):
        space.footprint(space.default)


def test_the_key_of_the_network_leaves_out_how_it_is_trained() -> None:
    space = SPACES["nas_bench_201"]().with_hyperparameters()
    params = space.default
    other = params | {"lr": params["lr"] / 2}
    assert space.key(params) != space.key(other)
    assert space.network_key(params) == space.network_key(other)
    smaller = params | {"edge0": "none" if params["edge0"] != "none" else "nor_conv_1x1"}
    assert space.network_key(smaller) != space.network_key(params)
