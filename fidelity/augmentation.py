"""Random changes to a batch of images that keep their labels; knows tensors only, no data sets or training.

Every image of a batch is changed on its own, without a loop over images; randomness is an argument.
"""

from __future__ import annotations

import torch

KINDS = ("shift", "flip", "cutout")


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
    with zeros; ``flip`` mirrors it left to right with probability ½; ``cutout`` blanks a square of
    half the side, centred anywhere (DeVries and Taylor 2017).

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
    if pad or "flip" in kinds:
        padded = torch.nn.functional.pad(images, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
        each = torch.arange(n, device=device)[:, None, None]
        images = padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)  # (n, c, h, w)
    if "cutout" in kinds:
        half = max(1, max(h, w) // 4)
        far_row = (torch.arange(h, device=device) - draw(0, h - 1)).abs() >= half  # (n, h)
        far_column = (torch.arange(w, device=device) - draw(0, w - 1)).abs() >= half  # (n, w)
        images = images * (far_row[:, None, :, None] | far_column[:, None, None, :])
    return images
