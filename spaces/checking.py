"""Checks what users give to describe a space, and says what to do instead; knows no networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MOST = 1000
"""Layers of a chain, or blocks of a cell: beyond that a space is a slip of the keyboard or of a file."""

_NUMBERS = (int, float, np.integer, np.floating)


def checked_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """``shape`` as (channels, height, width).

    Raises:
        ValueError: if it is not three whole numbers from 1, or channels clearly come last.
    """
    if not isinstance(shape, (tuple, list)) or len(shape) != 3 or not all(is_whole(v) for v in shape):
        raise ValueError(
            f"input_shape={shape!r}: must be (channels, height, width), whole numbers from 1. "
            "Use (1, 28, 28) for grey images of 28 pixels."
        )
    channels, height, width = (int(v) for v in shape)
    if width <= 4 < min(channels, height):
        raise ValueError(
            f"input_shape={(channels, height, width)}: looks like (height, width, channels); channels come "
            f"first here. Give input_shape={(width, channels, height)}."
        )
    return channels, height, width


def checked_classes(n_classes: int) -> int:
    """``n_classes``, a whole number from 1.

    Raises:
        ValueError: if it is anything else.
    """
    if not is_whole(n_classes):
        raise ValueError(
            f"n_classes={n_classes!r}: must be a whole number, at least 1. Use 2 for yes and no, 1 for a "
            "number to predict."
        )
    return int(n_classes)


def checked_range(name: str, given: Sequence[int]) -> tuple[int, int]:
    """``given`` as (fewest, most), whole numbers from 1 to :data:`MOST`.

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
    if high > MOST:
        raise ValueError(f"{name}={given!r}: more than {MOST} are not supported. Lower the upper end.")
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


def checked_fraction(name: str, given: float) -> float:
    """``given``, the part of the width or depth that is built.

    Raises:
        ValueError: if it is no number in (0, 1].
    """
    if not isinstance(given, _NUMBERS) or not 0 < given <= 1:
        raise ValueError(f"{name}={given!r}: must be a fraction, greater than 0 and at most 1.")
    return float(given)


def probability(params: Mapping[str, Any], name: str) -> float:
    """The probability that a network reads from the hyperparameter ``name``; 0 where there is none.

    Raises:
        ValueError: if it is no number in [0, 1).
    """
    value = params.get(name, 0.0)
    if not isinstance(value, _NUMBERS) or not 0 <= value < 1:
        raise ValueError(
            f"{name}={value!r}: the network reads it as a probability; it must be a number, at least 0 and "
            "below 1. Give the hyperparameter such a range, or another name."
        )
    return float(value)


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether ``value`` is a whole number from ``least``; ``True`` is none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= least)


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
