"""A folder of images with one subfolder for each class, read into arrays; knows nothing of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.data._records import Data, SplitPlan
from fidelity.data.own import assemble

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_LARGEST_GUESS = 64  # pixels; larger images than this are used only when asked for

Files = list[tuple[Path, str]]  # path and class


def from_folder(folder: Path, plan: SplitPlan, image_size: int | None = None) -> Data:
    """Read ``folder/class/image.png``, or ``folder/{train,val,test}/class/image.png``.

    Images become RGB, or one channel if all are grey, of one size (see ``load_data``).

    Raises:
        ValueError: if there is no such folder, no image in it, or one cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    if image_size is not None and (not isinstance(image_size, int) or image_size < 1):
        raise ValueError(f"image_size={image_size!r}: must be a whole number of at least 1 pixel.")
    if not folder.is_dir():
        raise ValueError(
            f"folder={str(folder)!r}: is no folder. Give one with a subfolder of images for each class."
        )
    names = {p.name for p in folder.iterdir() if p.is_dir()}
    parts = {"train", "test"} <= names <= {"train", "val", "test"}
    files = {part: _files(folder / part) for part in sorted(names)} if parts else {"train": _files(folder)}

    opened: dict[str, list[Any]] = {}
    for part, found in files.items():
        opened[part] = []
        for path, _ in found:
            try:
                with Image.open(path) as image:
                    image.load()
                    grey = image.mode in ("1", "L")
                    opened[part].append(image.convert("L" if grey else "RGB"))
            except (OSError, UnidentifiedImageError, SyntaxError) as e:
                raise ValueError(f"{path}: cannot be read as an image ({e}). Repair or remove it.") from None
    images = [image for part in opened.values() for image in part]
    size = _size([image.size for image in images], image_size)
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"

    def array(image: Any) -> NDArray[np.uint8]:
        image = image.convert(mode)
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)  # antialiased when shrinking
        x = np.asarray(image)
        return x[None] if mode == "L" else np.moveaxis(x, 2, 0)

    arrays = {
        part: (np.stack([array(image) for image in opened[part]]), np.array([label for _, label in found]))
        for part, found in files.items()
    }
    return assemble(folder.name or str(folder), arrays, plan)


def _files(folder: Path) -> Files:
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = [(p, c.name) for c in classes for p in sorted(c.rglob("*")) if p.suffix.lower() in SUFFIXES]
    empty = sorted({c.name for c in classes} - {label for _, label in found})
    if not found:
        raise ValueError(
            f"{folder}: has no images in subfolders. Put each class's images into its own subfolder."
        )
    if empty:
        raise ValueError(f"{folder}: the subfolder(s) {empty} hold no images. Fill or remove them.")
    return found


def _size(sizes: list[tuple[int, int]], image_size: int | None) -> tuple[int, int]:
    if image_size is not None:
        return image_size, image_size
    if len(set(sizes)) == 1:
        return sizes[0]
    side = min(_LARGEST_GUESS, int(np.median([min(size) for size in sizes])))
    return side, side
