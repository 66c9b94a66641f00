"""Random changes to a batch of examples; knows tensors only, no data sets or training.

Every image of a batch is changed on its own, without a loop over images; randomness is an argument.
:func:`augment` changes images as they are stored, :func:`cutout` and :func:`mixup` examples as a network
sees them, with zero mean.
"""

from __future__ import annotations

import torch

KINDS = ("shift", "flip")


def parse(name: str) -> tuple[str, ...]:
    """The changes that a name such as "none" or "shift_flip" stands for, in the order applied.

    Raises:
        ValueError: if the name holds an unknown one.
    """
    parts = () if name == "none" else tuple(name.split("_"))
    if not set(parts) <= set(KINDS) or len(set(parts)) != len(parts):
        raise ValueError(
            f"augmentation={name!r}: must be 'none', or {', '.join(KINDS)} joined by '_'. Use 'shift_flip'."
        )
    return tuple(kind for kind in KINDS if kind in parts)


def augment(images: torch.Tensor, kinds: tuple[str, ...], generator: torch.Generator) -> torch.Tensor:
    """Change a batch.

    ``shift`` moves each image by up to an eighth of its side (at least 1 pixel) either way and fills
    with zeros; ``flip`` mirrors it left to right with probability ½.

    Args:
        images: (n, c, h, w), any dtype, not changed.
        kinds: as :func:`parse` returns.
        generator: on the images' device.
    """
    if not kinds:
        return images
    n, _, h, w = images.shape
    device = images.device

    def draw(low: int, high: int) -> torch.Tensor:
        """Integers from low to high, one for each image."""
        return torch.randint(low, high + 1, (n, 1), generator=generator, device=device)

    rows = torch.arange(h, device=device).expand(n, h)
    columns = torch.arange(w, device=device).expand(n, w)
    pad = 0
    if "shift" in kinds:
        pad = max(1, max(h, w) // 8)
        rows = rows + draw(0, 2 * pad)  # of the padded image
        columns = columns + draw(0, 2 * pad)
    if "flip" in kinds:
        columns = torch.where(draw(0, 1).bool(), columns.flip(1), columns)
    padded = torch.nn.functional.pad(images, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    each = torch.arange(n, device=device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)  # (n, c, h, w)


def cutout(images: torch.Tensor, part: float, generator: torch.Generator) -> torch.Tensor:
    """Blank a part of each image, centred on any of its pixels (DeVries and Taylor 2017, arXiv:1708.04552).

    Args:
        images: (n, c, h, w), normalised, so that 0 is the mean; not changed.
        part: of the height and of the width, in (0, 1); at least one pixel.
        generator: on the images' device.
    """
    n, _, h, w = images.shape

    def span(side: int) -> torch.Tensor:
        """(n, side): where each image's rectangle lies along a side."""
        size = max(1, round(part * side))
        centre = torch.randint(side, (n, 1), generator=generator, device=images.device)
        offset = torch.arange(side, device=images.device) - centre + size // 2
        return (offset >= 0) & (offset < size)

    return images.masked_fill(span(h)[:, None, :, None] & span(w)[:, None, None, :], 0)


Targets = tuple[tuple[float, torch.Tensor], ...]
"""Labels (n,) and the share each has in its examples; shares add up to 1."""


def mixup(
    examples: torch.Tensor, labels: torch.Tensor, share: float, generator: torch.Generator
) -> tuple[torch.Tensor, Targets]:
    """Mix each example of a batch with another of it (Zhang et al. 2018, arXiv:1710.09412, equation 1).

    The loss is the sum of the losses for both labels, by their shares.

    Args:
        examples: (n, ...), normalised; not changed.
        labels: (n,).
        share: λ, what each example keeps of itself, in [0, 1].
        generator: on the examples' device.

    Returns:
        share · examples + (1 − share) · examples in another order, and the labels with their shares.
    """
    order = torch.randperm(len(examples), generator=generator, device=examples.device)
    mixed = share * examples + (1 - share) * examples[order]
    return mixed, ((share, labels), (1 - share, labels[order]))
