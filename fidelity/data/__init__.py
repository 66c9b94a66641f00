"""Labelled images or vectors as train, val and test tensors, from anywhere; knows no training or networks.

Labels are classes, or numbers to predict (regression).

One function, :func:`load_data`, reads data sets by name, folders of images, tables, arrays, tensors
and torch data sets. Splits are stratified, fixed by a seed, and the same on every machine.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fidelity.data._records import Data, Split, SplitPlan, Task
from fidelity.data.named import NAMED, REGULARISATION
from fidelity.data.tables import SUFFIXES, from_file

__all__ = ["NAMES", "REGULARISATION", "Data", "Split", "load_data"]

NAMES: tuple[str, ...] = (*NAMED, "folder")
"""What :func:`load_data` knows by name."""


def load_data(
    source: Any,
    folder: Path | str | None = None,
    *,
    seed: int = 0,
    download: bool = False,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    image_size: int | None = None,
    task: Task | None = None,
) -> Data:
    """Load a data set of images or vectors with their labels and split it into train, val and test.

    Args:
        source: one of

            - a name: images ``digits``, ``mnist``, ``fashion-mnist``, ``cifar10``, ``cifar100``, vectors
              ``digits-vectors``, ``wine``, ``breast-cancer``, for regression ``diabetes``, or ``folder``
              (images in one subfolder for each class, below ``folder``);
            - the path of such a folder of images, or of a table: ``.csv`` with the label in the last
              column, ``.npz`` with ``X`` and ``y``;
            - a pair ``(X, y)`` of arrays or tensors: images (n, channels, height, width) or
              (n, height, width), or vectors (n, features), and n labels: integers or strings for
              classes, floats for numbers to predict;
            - a mapping with such pairs under ``train``, ``test`` and, if you like, ``val``;
            - a map-style torch data set of pairs (image or vector, label); read once, so random
              transforms are drawn once;
            - a :class:`Data`, returned as it is.
        folder: where the files of a named data set lie, or shall be downloaded to.
        seed: of the split. One seed gives one split, on every machine.
        download: whether missing files may be downloaded.
        val_fraction: part of all images that becomes ``val``; of the training images where a test
            split is published or given. Default 0.2 and 0.1.
        test_fraction: part that becomes ``test``, default 0.2; only where no test split is given.
        image_size: side in pixels to which the images of a folder are resized; by default the size
            they have, or the median of their shorter sides (64 at most) where they differ.
        task: ``"classification"`` or ``"regression"``; by default floats are for regression, all other
            labels for classification. Few whole numbers stored as floats could be either: say which.

    Returns:
        The data with labels 0 ... k-1 in the sorted order of the labels found, whose originals are in
        ``class_names``; in regression with the labels as they are.

    Raises:
        ValueError: if it is missing, damaged, or no data set of labelled images or vectors.
    """
    plan = SplitPlan(seed, val_fraction, test_fraction, task)
    if isinstance(source, Data):
        return source
    if image_size is not None and source != "folder" and not isinstance(source, (str, Path)):
        raise ValueError(
            f"image_size={image_size}: applies to folders of images only. Resize the arrays yourself."
        )
    if folder is not None and not isinstance(folder, (str, Path)):
        raise ValueError(f"folder={folder!r}: must be the path of a folder.")
    if isinstance(source, (str, Path)):
        return _by_name(source, folder, plan, download, image_size)
    if folder is not None:
        raise ValueError(
            f"folder={str(folder)!r}: goes with a name, got a {type(source).__name__}. Leave it out."
        )

    from fidelity.data import own

    if isinstance(source, Mapping):
        return own.from_mapping(source, plan)
    if isinstance(source, (tuple, list)):
        return own.from_pair(source, plan)
    return own.from_dataset(source, plan)


def _by_name(
    source: str | Path, folder: Path | str | None, plan: SplitPlan, download: bool, image_size: int | None
) -> Data:
    where = None if folder is None else Path(folder).expanduser()
    if source in NAMED:
        if image_size is not None:
            raise ValueError(
                f"image_size={image_size}: applies to folders of images; {source} has its own size."
            )
        if where is not None and not where.is_dir() and not download:
            raise ValueError(
                f"folder={str(folder)!r}: is no folder. Give the one that holds {source}'s files."
            )
        return NAMED[str(source)](where, plan, download)
    if source == "folder" and where is None:
        raise ValueError(
            "data 'folder': needs the folder of images. Give folder=... (--data-dir), or its path."
        )
    path = Path(source).expanduser() if where is None else where
    if source != "folder" and where is None and path.suffix.lower() in SUFFIXES:
        if image_size is not None:
            raise ValueError(f"image_size={image_size}: applies to folders of images, {path} is a table.")
        return from_file(path, plan)
    if source != "folder" and (where is not None or not _is_folder(path)):
        near = difflib.get_close_matches(str(source), NAMES, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"data {str(source)!r}: neither a known name, a folder of images nor a .csv or .npz file. {hint}"
            f"There are {', '.join(NAMES)}."
        )

    from fidelity.data.images import from_folder

    return from_folder(path, plan, image_size)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long for the file system
        return False
