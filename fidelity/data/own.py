"""Arrays, tensors and torch data sets of the user's own, checked and split; knows no files and no names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.data._records import Data, Split, SplitPlan
from fidelity.data.labels import as_labels, classes, numbers, task_of
from fidelity.data.splits import strata, stratified_split

Array = NDArray[Any]
Pair = tuple[Any, Any]


def from_pair(pair: Sequence[Any], plan: SplitPlan, name: str = "arrays") -> Data:
    """Data of one pair (X, y), split into train, val and test."""
    if len(pair) != 2:
        raise ValueError(f"data: got a sequence of {len(pair)}, needs a pair (X, y) of inputs and labels.")
    return assemble(name, {"train": (pair[0], pair[1])}, plan)


def from_mapping(parts: Mapping[str, Any], plan: SplitPlan, name: str = "arrays") -> Data:
    """Data of pairs (X, y) under "train", "test" and perhaps "val"."""
    if not {"train"} <= set(parts) <= {"train", "val", "test"}:
        raise ValueError(
            f"data: got the parts {sorted(map(str, parts))}, needs 'train', and knows 'val' and 'test'."
        )
    for part, pair in parts.items():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError(
                f"data[{part!r}]: needs a pair (X, y) of inputs and labels, got {type(pair).__name__}."
            )
    return assemble(name, {part: (pair[0], pair[1]) for part, pair in parts.items()}, plan)


def from_dataset(dataset: Any, plan: SplitPlan) -> Data:
    """Data of a map-style torch data set of pairs (image or vector, label), all of it read once."""
    name = type(dataset).__name__
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise ValueError(
            f"data: got a {name}, needs a name, a folder, a pair (X, y), or a torch Dataset with __len__ and "
            "__getitem__. Collect an iterable one in arrays first."
        )
    inputs, labels = [], []
    for i in range(len(dataset)):
        try:
            example, label = dataset[i]
        except (TypeError, ValueError) as e:
            raise ValueError(f"{name}[{i}]: must be a pair (image, label) ({e}).") from None
        inputs.append(_one(example, f"{name}[{i}]"))
        labels.append(_array(label))
        if inputs[-1].shape != inputs[0].shape:
            raise ValueError(
                f"{name}[{i}]: has shape {inputs[-1].shape}, {name}[0] has {inputs[0].shape}. "
                "Resize all images to one size."
            )
    if not inputs:
        raise ValueError(f"{name}: is empty. A data set needs examples.")
    return assemble(name, {"train": (np.stack(inputs), np.stack(labels))}, plan)


def assemble(
    name: str, parts: Mapping[str, Pair], plan: SplitPlan, class_names: Sequence[str] | None = None
) -> Data:
    """Check inputs and their labels, and split off what is not given: val (and test) of train.

    Args:
        name: of the data set, for messages and reports.
        parts: "train" and perhaps "val" and "test".
        plan: task, seed and fractions.
        class_names: of the labels in sorted order, where they have better names than the labels.

    Raises:
        ValueError: if inputs or labels are not what they must be; the message names the part.
    """
    parts = {part: parts[part] for part in ("train", "val", "test") if part in parts}
    inputs, found = {}, {}
    for part, (X, y) in parts.items():
        inputs[part] = check_inputs(X, f"{name}: {part} inputs")
        found[part] = as_labels(_array(y), len(inputs[part]), f"{name}: {part} labels")
        if inputs[part].shape[1:] != inputs["train"].shape[1:]:
            raise ValueError(
                f"{name}: {part} inputs have shape {inputs[part].shape[1:]}, train inputs "
                f"{inputs['train'].shape[1:]}. Resize images to one size, give vectors the same features."
            )
    if len({x.dtype for x in inputs.values()}) > 1:
        inputs = {part: x.astype(np.float32) for part, x in inputs.items()}
    task = plan.task or task_of(found["train"], f"{name}: train labels")
    if task == "regression":
        labels, class_names = numbers(found, name), ()
    else:
        labels, originals = classes(found, name)
        class_names = class_names or [str(label) for label in originals]

    if "test" in parts and plan.test_fraction is not None:
        raise ValueError(f"test_fraction={plan.test_fraction}: {name} has its own test split. Leave it out.")
    if "val" in parts and plan.val_fraction is not None:
        raise ValueError(f"val_fraction={plan.val_fraction}: {name} has its own val split. Leave it out.")
    fractions = {}
    if "val" not in parts:
        fractions["val"] = plan.val_fraction or (0.1 if "test" in parts else 0.2)
    if "test" not in parts:
        fractions["test"] = plan.test_fraction or 0.2
    if fractions:
        X, y = inputs["train"], labels["train"]
        chosen = stratified_split(strata(y), list(fractions.values()), plan.seed)
        for part, index in zip(("train", *fractions), chosen, strict=True):
            inputs[part], labels[part] = X[index], y[index]

    import torch

    def split(part: str) -> Split:
        # Copies: the caller's arrays may change, or be read-only.
        return Split(torch.from_numpy(inputs[part].copy()), torch.from_numpy(labels[part].copy()))

    return Data(name, split("train"), split("val"), split("test"), tuple(class_names), plan.seed, task)


def check_inputs(X: Any, what: str) -> Array:
    """Images as (n, channels, height, width), uint8 or float32; vectors as (n, features), float32."""
    x = _array(X)
    if x.dtype.kind not in "buif":
        raise ValueError(
            f"{what}: have dtype {x.dtype}, must be numbers. Convert images to uint8 or float32, and "
            "features that are categories to columns of 0 and 1."
        )
    if x.ndim == 3:
        x = x[:, None]  # (n, h, w) -> (n, 1, h, w)
    if x.ndim not in (2, 4):
        raise ValueError(
            f"{what}: have shape {x.shape}, must be (n, channels, height, width) or (n, height, width) for "
            "images, (n, features) for vectors. Reshape them."
        )
    if 0 in x.shape:
        raise ValueError(f"{what}: have shape {x.shape}: empty. A data set needs examples.")
    if x.ndim == 2:
        return _finite(x, what)
    channels = (1, 3, 4)
    if x.shape[3] in channels and x.shape[1] not in channels and x.shape[2] not in channels:
        raise ValueError(
            f"{what}: have shape {x.shape}, which looks like (n, height, width, channels); channels "
            "come first here. Give numpy.moveaxis(X, 3, 1)."
        )
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind in "bui" and x.min() >= 0 and x.max() <= 255:
        return x.astype(np.uint8)
    return _finite(x, what)


def _finite(x: Array, what: str) -> Array:
    """As float32, checked for what is no number."""
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    bad = ~np.isfinite(x).reshape(len(x), -1).all(1)
    if bad.any():
        raise ValueError(
            f"{what}: {int(bad.sum())} of {len(x)} contain NaN or infinity (as float32), the first is number "
            f"{int(bad.argmax())}. Remove or repair them."
        )
    return x


def _array(value: Any) -> Array:
    import torch

    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    try:
        array: Array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"data: inputs or labels of several shapes make no array ({error}).") from None
    return array


def _one(example: Any, what: str) -> Array:
    """One image of a torch data set as (channels, height, width), or one vector as (features,)."""
    from PIL import Image

    if isinstance(example, Image.Image):
        x = np.asarray(example if example.mode in ("L", "RGB") else example.convert("RGB"))
        x = x[:, :, None] if x.ndim == 2 else x
        return np.moveaxis(x, 2, 0)
    x = _array(example)
    x = x[None, :, :] if x.ndim == 2 else x
    if x.ndim not in (1, 3):
        raise ValueError(
            f"{what}: has shape {x.shape}, must be (channels, height, width), or (features,) for vectors."
        )
    return x
