"""Tables in files: .csv with the label in the last column, .npz with arrays; knows nothing of training."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.data._records import Data, SplitPlan
from fidelity.data.own import assemble

SUFFIXES = (".csv", ".npz")
_PARTS = ("train", "val", "test")


def from_file(path: Path, plan: SplitPlan) -> Data:
    """Read a ``.csv`` or ``.npz`` file.

    A ``.csv`` holds one example a row: numbers, then the label, comma-separated; a first row without
    numbers is a header. A ``.npz`` holds ``X`` and ``y``, or ``X_train``, ``y_train`` and the like for
    ``test`` and perhaps ``val``; vectors or images.

    Raises:
        ValueError: if the file cannot be read, or is no such table; the message names row and column.
    """
    try:
        parts = {"train": _csv(path)} if path.suffix.lower() == ".csv" else _npz(path)
    except (OSError, UnicodeDecodeError, csv.Error, zipfile.BadZipFile) as e:
        raise ValueError(f"{path}: cannot be read ({e}). It is missing or damaged.") from None
    return assemble(path.stem, parts, plan)


def _csv(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [(n, row) for n, row in enumerate(csv.reader(file), start=1) if row]
    names: list[str] = []
    if rows and all(_number(cell) is None for cell in rows[0][1][:-1]):
        names = rows.pop(0)[1]
    if not rows or len(rows[0][1]) < 2:
        raise ValueError(
            f"{path}: has no rows of at least one number and a label, separated by commas. Check the file."
        )
    width = len(names or rows[0][1])
    values = np.empty((len(rows), width - 1))
    for i, (n, row) in enumerate(rows):
        if len(row) != width:
            raise ValueError(f"{path}, line {n}: has {len(row)} cells, must have {width}. Repair it.")
        for j, cell in enumerate(row[:-1]):
            number = _number(cell)
            if number is None:
                column = repr(names[j]) if names else j + 1
                raise ValueError(
                    f"{path}, line {n}, column {column}: {cell!r} is no number. Fill in what is missing, and "
                    "turn categories into columns of 0 and 1; the label is the last column."
                )
            values[i, j] = number
    return values, _labels([row[-1].strip() for _, row in rows])


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _labels(cells: list[str]) -> NDArray[Any]:
    """Integers where all are, so that 10 comes after 9; floats, which are numbers to predict; or texts."""
    for kind in (int, float):
        try:
            return np.array([kind(cell) for cell in cells])
        except (ValueError, OverflowError):
            continue
    return np.array(cells)


def _npz(path: Path) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, EOFError, TypeError) as e:  # TypeError: a single array, no archive
        raise ValueError(
            f"{path}: cannot be read ({e}). Write it with numpy.savez(path, X=X, y=y)."
        ) from None
    parts = {"": "train"} if {"X", "y"} == arrays.keys() else {f"_{part}": part for part in _PARTS}
    pairs = {
        part: (arrays[f"X{end}"], arrays[f"y{end}"])
        for end, part in parts.items()
        if {f"X{end}", f"y{end}"} <= arrays.keys()
    }
    if "train" not in pairs or 2 * len(pairs) != len(arrays):
        raise ValueError(
            f"{path}: holds {sorted(arrays)}, must hold X and y, or X_train, y_train, X_test, y_test (and "
            "X_val, y_val). Write it with numpy.savez(path, X=X, y=y)."
        )
    return pairs
