"""Memory of a training, predicted from a network's footprint and measured; knows no spaces or studies.

Glossary, in bytes:
    weights       4 a parameter, as many again for its gradient, and for each number an optimizer keeps of it
    copies        2 for each weight that mixed precision computes with
    activations   grow with the batch
Peak = weights + copies + running statistics + batch size × activations of one example. Not in it are the data
set, the batches of an evaluation, which are split where memory is short, and a library's scratch memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

_FULL, _HALF = 4, 2
# Numbers that optimizers keep of each parameter.
_STATES = {"adamw": 2, "muon": 1}


class Footprint(Protocol):
    """What a training step of a network keeps in memory."""

    @property
    def parameters(self) -> int:
        """Trainable numbers."""

    @property
    def lowered(self) -> int:
        """Those that mixed precision keeps a copy of."""

    @property
    def buffers(self) -> int:
        """Numbers that are not trained, such as running means."""

    @property
    def activations(self) -> int:
        """Bytes for each example of a batch, at the peak."""


def predicted(size: Footprint, params: Mapping[str, Any], mixed: bool) -> int:
    """Bytes that training takes at its peak, apart from the data set.

    Args:
        size: of the network, for inputs of the size it is trained at.
        params: the configuration, of which batch size and optimizer count.
        mixed: whether ``size`` is that of mixed precision.

    Raises:
        ValueError: if the configuration cannot be trained with.
    """
    from fidelity.optimizers import Recipe

    recipe = Recipe.of(params)
    states = _STATES.get(recipe.optimizer, int(recipe.momentum > 0))
    weights = _FULL * (size.parameters * (2 + states) + size.buffers)
    return weights + _HALF * size.lowered * mixed + recipe.batch_size * size.activations


def uses_mixed_precision() -> bool:
    """Whether trainings on this machine compute in bfloat16 where it pays."""
    import torch

    from fidelity.loop import mixed_precision

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with mixed_precision(device):
        return torch.is_autocast_enabled(device.type)


class Peak:
    """The most bytes that tensors on a CUDA device took, beyond those there when it was made.

    Args:
        device: where to look; on others than CUDA devices nothing is measured.
    """

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device if device.type == "cuda" else None
        self._before = torch.cuda.memory_allocated(device) if self._device else 0
        self._most = 0

    def begin(self) -> None:
        """Measure from here on."""
        import torch

        if self._device:
            torch.cuda.reset_peak_memory_stats(self._device)

    def end(self) -> int | None:
        """The most bytes over all spans measured so far; None where nothing is measured."""
        import torch

        if not self._device:
            return None
        # A count of the allocator's: reading it does not wait for the device.
        self._most = max(self._most, torch.cuda.max_memory_allocated(self._device) - self._before)
        return self._most
