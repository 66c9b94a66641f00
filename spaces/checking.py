"""Checks what users give to describe a space, and says what to do instead; knows no networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def checked_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """``shape`` as (channels, height, width).

    Raises:
        ValueError: if it is not three whole numbers from 1.
    """
    if not isinstance(shape, (tuple, list)) or len(shape) != 3 or not all(is_whole(v) for v in shape):
        raise ValueError(
            f"input_shape={shape!r}: must be (channels, height, width), whole numbers from 1. "
            "Use (1, 28, 28) for grey images of 28 pixels."
        )
    return int(shape[0]), int(shape[1]), int(shape[2])


def checked_classes(n_classes: int) -> int:
    """``n_classes``, a whole number from 2.

    Raises:
        ValueError: if it is anything else.
    """
    if not is_whole(n_classes) or n_classes < 2:
        raise ValueError(
            f"n_classes={n_classes!r}: must be a whole number, at least 2. Use 2 for yes and no."
        )
    return int(n_classes)


def checked_range(name: str, given: Sequence[int]) -> tuple[int, int]:
    """``given`` as (fewest, most), whole numbers from 1.

    Raises:
        ValueError: if it is anything else, or inverted.
    """
    if not isinstance(given, (tuple, list)) or len(given) != 2 or not all(is_whole(v) for v in given):
        raise ValueError(
            f"{name}={given!r}: must be a pair (fewest, most) of whole numbers from 1, as (2, 6)."
        )
    low, high = int(given[0]), int(given[1])
    if low > high:
        raise ValueError(f"{name}={given!r}: the range is inverted. Write {name}={(high, low)}.")
    return low, high


def checked_numbers(name: str, given: Sequence[int]) -> tuple[int, ...]:
    """``given``, whole numbers from 1, in ascending order.

    Raises:
        ValueError: if it is anything else, empty, or names one number twice.
    """
    if not isinstance(given, (tuple, list)) or not given or not all(is_whole(v) for v in given):
        raise ValueError(f"{name}={given!r}: must be a list of whole numbers from 1, at least one.")
    numbers = [int(v) for v in given]
    _refuse_repeats(name, numbers)
    return tuple(sorted(numbers))


def checked_sizes(name: str, given: Sequence[Any]) -> tuple[int | str, ...]:
    """``given``, sizes of kernels or strides, in the order of their areas.

    A size is a whole number from 1, or a pair (rows, columns), or such a pair as text, ``"1x7"``. A pair
    becomes its text, because a tuple does not survive JSON; one with equal sides becomes a number.

    Raises:
        ValueError: if it is anything else, empty, or names one size twice.
    """
    if not isinstance(given, (tuple, list)) or not given:
        raise ValueError(f"{name}={given!r}: must be a list, at least one, such as [3, 5, (1, 7)].")
    pairs = [_pair(name, value) for value in given]
    _refuse_repeats(name, pairs)
    pairs.sort(key=lambda pair: (pair[0] * pair[1], pair[0]))
    return tuple(rows if rows == columns else f"{rows}x{columns}" for rows, columns in pairs)


def checked_names(name: str, given: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """``given``, some of the ``known`` names.

    Raises:
        ValueError: if it is empty, no list, or holds an unknown name or one twice.
    """
    if not isinstance(given, (tuple, list)) or not given:
        raise ValueError(f"{name}={given!r}: must be a list of names, at least one of {list(known)}.")
    for value in given:
        if value not in known:
            raise ValueError(f"{name}: {value!r} is not known. Choose from {list(known)}.")
    _refuse_repeats(name, given)
    return tuple(given)


def is_whole(value: Any) -> bool:
    """Whether ``value`` is a whole number from 1; ``True`` is none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 1)


def _pair(name: str, value: Any) -> tuple[int, int]:
    parts = value.split("x") if isinstance(value, str) else value
    if isinstance(value, str) and len(parts) == 2 and all(part.isdecimal() for part in parts):
        parts = [int(part) for part in parts]
    if is_whole(parts):
        parts = (parts, parts)
    if not isinstance(parts, (tuple, list)) or len(parts) != 2 or not all(is_whole(part) for part in parts):
        raise ValueError(
            f"{name}: {value!r} must be whole numbers from 1: one for both directions, or (rows, columns). "
            "Use 3 or (1, 7)."
        )
    return int(parts[0]), int(parts[1])


def _refuse_repeats(name: str, values: Sequence[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{name}: {value!r} is given twice. Name each choice once.")
