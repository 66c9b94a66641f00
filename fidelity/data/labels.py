"""Labels checked: classes numbered from 0, or numbers to predict; knows no inputs and no splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.data._records import Task

Array = NDArray[Any]

_FEWEST = 10  # examples in regression
_FEW = 20  # different whole numbers stored as floats: class numbers as likely as measurements


def as_labels(labels: Array, n: int, what: str) -> Array:
    """Labels of any kind as one for each of n examples, (n,)."""
    y = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if y.ndim != 1:
        raise ValueError(
            f"{what}: have shape {y.shape}, must be ({n},). Of one-hot rows give y.argmax(axis=1); of "
            "several numbers to predict, one at a time."
        )
    if len(y) != n:
        raise ValueError(f"{what}: there are {len(y)} for {n} inputs. Give one label for each.")
    if y.dtype.kind == "O" and len(y) and all(isinstance(v, str) for v in y):
        y = y.astype(str)
    if y.dtype.kind not in "buifU":
        raise ValueError(
            f"{what}: have dtype {y.dtype}, must be integers or strings, one for each class, or floats to "
            "predict. Convert them."
        )
    return y


def task_of(y: Array, what: str) -> Task:
    """What labels (n,) are for: floats are numbers to predict, all others classes.

    Raises:
        ValueError: where it cannot be told.
    """
    if y.dtype.kind != "f":
        return "classification"
    different = np.unique(y[np.isfinite(y)])
    if 0 < len(different) <= _FEW and (different == different.round()).all():
        raise ValueError(
            f"{what}: are whole numbers stored as {y.dtype}, {len(different)} different ones. Say whether "
            "they are classes or numbers to predict: task='classification' or task='regression'."
        )
    return "regression"


def numbers(found: Mapping[str, Array], name: str) -> dict[str, Array]:
    """The labels of each part as float64, for regression.

    Args:
        found: labels of "train" and other parts.
        name: of the data, for messages.

    Raises:
        ValueError: if one is no finite number, or those of train are equal or very few.
    """
    values = {}
    for part, y in found.items():
        if y.dtype.kind == "U":
            raise ValueError(
                f"{name}: {part} labels are strings such as {str(y[0])!r}, and regression predicts numbers. "
                "Use task='classification'."
            )
        values[part] = y.astype(np.float64)
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(values[part].astype(np.float32))
        if bad.any():
            raise ValueError(
                f"{name}: {int(bad.sum())} of {len(y)} {part} labels are NaN or infinity (as float32), the "
                f"first is number {int(bad.argmax())}. Remove or repair them."
            )
    if len(values["train"]) < _FEWEST:
        raise ValueError(
            f"{name}: {len(values['train'])} examples to learn numbers from, at least {_FEWEST} are needed. "
            "Add examples, or use task='classification'."
        )
    if np.ptp(values["train"]) == 0:
        raise ValueError(f"{name}: all labels are {values['train'][0]:g}. There is nothing to predict.")
    return values


def classes(found: Mapping[str, Array], name: str) -> tuple[dict[str, Array], Array]:
    """The labels of each part as numbers 0 ... k-1, int64, and the k originals, ascending.

    Args:
        found: labels of "train" and other parts.
        name: of the data, for messages.

    Raises:
        ValueError: if there are fewer than two classes, nearly as many as examples, or some that train has
            not.
    """
    for part, y in found.items():
        if y.dtype.kind == "f" and not (np.isfinite(y) & (y == y.round())).all():
            raise ValueError(
                f"{name}: {part} labels have dtype {y.dtype} and are no whole numbers; classes are integers "
                "or strings. For numbers to predict use task='regression'."
            )
    found = {part: y.astype(np.int64) if y.dtype.kind == "f" else y for part, y in found.items()}
    originals = np.unique(found["train"])
    if len(originals) < 2:
        raise ValueError(f"{name}: all labels are {originals[0]!s}. A classifier needs at least two classes.")
    if len(originals) > max(2, len(found["train"]) / 2):
        raise ValueError(
            f"{name}: {len(originals)} different labels of {len(found['train'])} examples: classes need "
            "several examples each. For numbers to predict use task='regression'."
        )
    numbered = {}
    for part, y in found.items():
        unknown = np.setdiff1d(y, originals)
        if len(unknown):
            raise ValueError(
                f"{name}: {part} has the label(s) {unknown[:5].tolist()}, which train does not have."
            )
        numbered[part] = np.searchsorted(originals, y).astype(np.int64)
    return numbered, originals
