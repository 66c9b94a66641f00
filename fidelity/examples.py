"""A data set's examples as tensors on the training device, resized and normalised; knows no training loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from fidelity.tasks import Task

_PART = 1000  # examples converted at a time: as float32 all at once would take four times the memory


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled images or vectors on the training device, at the training resolution."""

    inputs: torch.Tensor  # (n, c, h, w), uint8 or float32, or (n, features), float32
    labels: torch.Tensor  # (n,), as the task's loss takes them
    mean: torch.Tensor  # (c, 1, 1) or (features,)
    std: torch.Tensor  # of the same shape
    task: Task  # with what it needs on the same device

    @staticmethod
    def of(
        inputs: torch.Tensor,
        labels: torch.Tensor,
        mean: list[float],
        std: list[float],
        task: Task,
        device: torch.device,
    ) -> Examples:
        """Move inputs and labels to a device, images channels last.

        Args:
            inputs: (n, c, h, w) or (n, features).
            labels: (n,), as in the data.
            mean: of each channel or feature.
            std: of each channel or feature.
            task: what the labels are for.
            device: where to train.
        """
        inputs = inputs.to(device)
        shape = (-1,) + (1,) * (inputs.ndim - 2)
        return Examples(
            inputs.contiguous(memory_format=_memory(inputs)),
            task.targets(labels).to(device),
            torch.tensor(mean, device=device).view(shape),
            torch.tensor(std, device=device).view(shape),
            task.on(device),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def normalise(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs as a network sees them: zero mean and unit variance over the training examples."""
        return (inputs.to(torch.float32, memory_format=_memory(inputs)) - self.mean) / self.std


def _memory(inputs: torch.Tensor) -> torch.memory_format:
    # Channels last: two times faster on a CPU for networks of this size, and what tensor cores like.
    return torch.channels_last if inputs.ndim == 4 else torch.contiguous_format


def resize(images: torch.Tensor, resolution: int | None) -> torch.Tensor:
    """Images whose longer side is ``resolution`` pixels, antialiased; None leaves them as they are.

    Args:
        images: (n, c, h, w); the result has the same dtype.
        resolution: in pixels.
    """
    if resolution is None or resolution == max(images.shape[2:]):
        return images
    h, w = images.shape[2:]
    size = [max(1, round(side * resolution / max(h, w))) for side in (h, w)]
    parts = []
    for part in torch.split(images, _PART):
        x = F.interpolate(part.float(), size, mode="bilinear", align_corners=False, antialias=True)
        parts.append(x if images.is_floating_point() else x.round().clamp(0, 255).to(images.dtype))
    return torch.cat(parts)


def statistics(inputs: torch.Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel or feature: (n, c, ...) -> c numbers each."""
    # In parts and as float64: float32 over all pixels at once would lose digits.
    rest = tuple(axis for axis in range(inputs.ndim) if axis != 1)
    shape = (-1,) + (1,) * (inputs.ndim - 2)
    total, squares = torch.zeros(2, inputs.shape[1], dtype=torch.float64)
    for part in torch.split(inputs, _PART):
        total += part.double().sum(rest)
    values = inputs.numel() / inputs.shape[1]
    mean = total / values
    for part in torch.split(inputs, _PART):
        squares += (part.double() - mean.view(shape)).square().sum(rest)
    std = torch.where(squares > 0, (squares / values).sqrt(), 1.0)  # what is constant stays constant
    return mean.tolist(), std.tolist()
