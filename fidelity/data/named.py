"""Data sets with a name, and how each is found on disk or fetched; knows nothing of their use."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fidelity.data._records import Data, SplitPlan
from fidelity.data.idx import read_idx

CACHE = Path("~/.cache/bonas")  # where downloads go, and are found again, without a folder


def digits(folder: Path | None, plan: SplitPlan, download: bool) -> Data:
    """1,797 digits of 8×8 pixels, embedded in scikit-learn (Alpaydin and Kaynak 1998)."""
    from sklearn.datasets import load_digits

    from fidelity.data.own import assemble

    _refuse_folder("digits", folder)
    bunch = load_digits()
    return assemble("digits", {"train": (bunch.images.astype(np.uint8), bunch.target)}, plan)


def _vectors(name: str, loader: str) -> Callable[..., Data]:
    def load(folder: Path | None, plan: SplitPlan, download: bool) -> Data:
        import sklearn.datasets

        from fidelity.data.own import assemble

        _refuse_folder(name, folder)
        bunch = getattr(sklearn.datasets, loader)()
        class_names = [str(n) for n in getattr(bunch, "target_names", ())]  # none where numbers are predicted
        return assemble(name, {"train": (bunch.data, bunch.target)}, plan, class_names)

    load.__doc__ = f"{name} as vectors of features, embedded in scikit-learn."
    return load


def _refuse_folder(name: str, folder: Path | None) -> None:
    if folder is not None:
        raise ValueError(f"folder={str(folder)!r}: {name} comes with scikit-learn. Leave the folder out.")


def _idx(name: str, torchvision_name: str, class_names: tuple[str, ...]) -> Callable[..., Data]:
    def load(folder: Path | None, plan: SplitPlan, download: bool) -> Data:
        from fidelity.data.own import assemble

        where = folder or CACHE.expanduser() / name
        if download:
            _download(name, torchvision_name, where)
        parts = {}
        for part, prefix in (("train", "train"), ("test", "(?:t10k|test)")):
            pair = [_find(where, prefix, kind, name) for kind in ("images", "labels")]
            X, y = (read_idx(path, ndim) for path, ndim in zip(pair, (3, 1), strict=True))
            if len(X) != len(y):
                raise ValueError(
                    f"{pair[0]} has {len(X)} images, {pair[1]} {len(y)} labels: they do not belong together."
                )
            if y.min() < 0 or y.max() >= len(class_names):
                raise ValueError(f"{pair[1]}: labels reach from {y.min()} to {y.max()}, {name} has 0 to 9.")
            parts[part] = (X, y)
        known = np.unique(parts["train"][1])
        return assemble(name, parts, plan, [class_names[int(c)] for c in known])

    load.__doc__ = f"{name} as four idx files (LeCun et al. 1998), gzipped or not; its own test split."
    return load


def _cifar(name: str, torchvision_name: str) -> Callable[..., Data]:
    def load(folder: Path | None, plan: SplitPlan, download: bool) -> Data:
        from fidelity.data.own import assemble

        where = folder or CACHE.expanduser() / name
        if download:
            _download(name, torchvision_name, where)
        try:
            sets = {
                part: _torchvision(torchvision_name, where, part == "train") for part in ("train", "test")
            }
        except RuntimeError as e:
            raise ValueError(
                f"{where}: {name} is not there or damaged ({e}). Give the folder that holds it, or "
                "download=True (--download) to fetch it."
            ) from None
        # torchvision holds (n, h, w, c).
        parts = {part: (np.moveaxis(s.data, 3, 1), np.asarray(s.targets)) for part, s in sets.items()}
        return assemble(name, parts, plan, sets["train"].classes)

    load.__doc__ = f"{name}, 60,000 colour images of 32×32 pixels (Krizhevsky 2009); its own test split."
    return load


def _find(folder: Path, prefix: str, kind: str, name: str) -> Path:
    """The file of some images or labels under any of its usual names, also where torchvision puts it."""
    pattern = re.compile(rf"{prefix}[-_.]{kind}([-_.]idx\d)?([-_.]ubyte)?(\.gz)?")
    for place in (folder, folder / "raw", *sorted(folder.glob("*/raw"))):
        found = sorted(p for p in place.glob("*") if pattern.fullmatch(p.name)) if place.is_dir() else []
        if found:
            return found[0]
    usual = {"images": "images-idx3-ubyte", "labels": "labels-idx1-ubyte"}[kind]
    part = "train" if prefix == "train" else "t10k"
    raise ValueError(
        f"{folder}: has no {part}-{usual} (with or without .gz), which {name} needs. Give the folder "
        "with its four idx files (folder=..., --data-dir), or download=True (--download) to fetch them."
        + (" Debian's package dataset-fashion-mnist brings them too." if name == "fashion-mnist" else "")
    )


def _download(name: str, torchvision_name: str, where: Path) -> None:
    where.mkdir(parents=True, exist_ok=True)
    try:
        _torchvision(torchvision_name, where, True, download=True)
        _torchvision(torchvision_name, where, False, download=True)
    except (OSError, RuntimeError) as e:
        raise ValueError(
            f"{name}: could not be downloaded to {where} ({e}). Check the network and the disk."
        ) from e


def _torchvision(torchvision_name: str, where: Path, train: bool, download: bool = False) -> Any:
    import torchvision

    return getattr(torchvision.datasets, torchvision_name)(str(where), train=train, download=download)


NAMED: dict[str, Callable[[Path | None, SplitPlan, bool], Data]] = {
    "digits": digits,
    "mnist": _idx("mnist", "MNIST", tuple("0123456789")),
    "fashion-mnist": _idx(
        "fashion-mnist",
        "FashionMNIST",
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
    ),
    "cifar10": _cifar("cifar10", "CIFAR10"),
    "cifar100": _cifar("cifar100", "CIFAR100"),
    "digits-vectors": _vectors("digits-vectors", "load_digits"),
    "wine": _vectors("wine", "load_wine"),
    "breast-cancer": _vectors("breast-cancer", "load_breast_cancer"),
    "diabetes": _vectors("diabetes", "load_diabetes"),
}
"""Loaders by name: (folder or None, how to split, whether to download) -> data."""

_SHIFT = {"augmentation": "shift", "mixup": 0.0, "cutout": 0.0}
_SHIFT_FLIP = _SHIFT | {"augmentation": "shift_flip"}

REGULARISATION: dict[str, dict[str, Any]] = {
    "digits": _SHIFT,
    "mnist": _SHIFT,
    "fashion-mnist": _SHIFT_FLIP,
    "cifar10": _SHIFT_FLIP,
    "cifar100": _SHIFT_FLIP,
}
"""Hyperparameters that are known for a data set, and no question for a short training, in which whatever
makes training harder looks worse than it is: which changes of an image leave its label alone, and neither
mix-up nor cutout."""
