"""The memory of a training: what is added up, and what a GPU's allocator says where there is one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from fidelity import memory


@dataclass(frozen=True)
class Size:
    parameters: int = 1000
    lowered: int = 900
    buffers: int = 10
    activations: int = 200


@pytest.mark.parametrize(
    ("params", "numbers"),
    [
        ({"optimizer": "adamw"}, 4),
        ({"optimizer": "sgd", "momentum": 0.9}, 3),
        ({"optimizer": "sgd", "momentum": 0.0}, 2),
        ({"optimizer": "muon"}, 3),
        ({}, 4),
    ],
)
def test_weights_gradients_and_what_the_optimizer_keeps(params: dict[str, object], numbers: int) -> None:
    expected = 4 * (1000 * numbers + 10) + 32 * 200
    assert memory.predicted(Size(), params | {"batch_size": 32}, mixed=False) == expected
    assert memory.predicted(Size(), params | {"batch_size": 32}, mixed=True) == expected + 2 * 900


def test_only_the_activations_grow_with_the_batch() -> None:
    one, many = (memory.predicted(Size(), {"batch_size": n}, mixed=False) for n in (1, 65))
    assert many - one == 64 * 200


def test_what_cannot_be_trained_with_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        memory.predicted(Size(), {"batch_size": 0}, mixed=False)


def test_optimizers_keep_as_many_numbers_as_is_assumed() -> None:
    from fidelity.optimizers import OPTIMIZERS, Recipe, make_optimizer

    for name in OPTIMIZERS:
        model = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(6)))
        optimizer = make_optimizer(model, Recipe(optimizer=name))
        model(torch.ones(2, 64)).sum().backward()
        optimizer.step()
        kept: list[torch.Tensor] = []
        collect(optimizer.state_dict(), kept)
        n = sum(p.numel() for p in model.parameters())
        assumed = memory.predicted(Size(n, 0, 0, 0), {"optimizer": name}, mixed=False) / 4 - 2 * n
        # First and last layer of muon's are AdamW's.
        assert sum(t.numel() for t in kept) == pytest.approx(assumed, rel=0.5 if name == "muon" else 0.02)


def collect(state: object, into: list[torch.Tensor]) -> None:
    if isinstance(state, torch.Tensor):
        into.append(state)
    for value in state.values() if isinstance(state, dict) else state if isinstance(state, list) else ():
        collect(value, into)


def test_nothing_is_measured_on_a_cpu() -> None:
    peak = memory.Peak(torch.device("cpu"))
    peak.begin()
    assert peak.end() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_says_what_was_taken() -> None:
    device = torch.device("cuda")
    before = torch.zeros(1 << 20, device=device)
    peak = memory.Peak(device)
    peak.begin()
    torch.zeros(1 << 22, device=device)
    assert peak.end() == 4 << 22
    assert len(before) == 1 << 20
