"""The spaces the command line knows by name, and how one is made; knows no data and no search."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spaces import Space

SPACES: Mapping[str, str] = {
    "chain": "layers one after the other, each with an operation of its own",
    "mlp": "linear layers for vectors of features",
    "nas_bench_201": "NAS-Bench-201's cell: four nodes, an operation on each of six edges",
    "darts": "the cells of DARTS: four nodes, two operations each",
    "nasnet": "the cells of NASNet: five blocks of two operations, 13 operations",
    "enas": "the cells of ENAS: five blocks of two operations, 5 operations",
    "amoebanet": "the cells of AmoebaNet: five blocks of two operations, 8 operations",
}
"""Name → what is in it; all but ``chain`` and ``mlp`` are presets of :func:`spaces.cell`."""

FOR_IMAGES, FOR_VECTORS = "chain", "mlp"
"""What is searched when no space is named."""


def known(option: str, value: str | None, names: Iterable[str]) -> None:
    """Check a word against the names there are.

    Raises:
        ValueError: if it is none of them; with the nearest one, or all.
    """
    names = list(names)
    if value is None or value in names:
        return
    near = difflib.get_close_matches(value, names, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(names)}."
    raise ValueError(f"{option} {value}: unknown. {hint}")


def suited(input_shape: Sequence[int]) -> str:
    """The space for inputs of this shape when none is named."""
    return FOR_IMAGES if len(input_shape) == 3 else FOR_VECTORS


def macro_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What ``--filters`` and ``--cells`` say; several values are searched."""
    given = {"filters": arguments.filters, "cells": arguments.cells}
    return {key: v[0] if len(v) == 1 else v for key, v in given.items() if v is not None}


def make(
    name: str, input_shape: Sequence[int], n_classes: int, macro: Mapping[str, Any] | None = None
) -> Space:
    """The space of that name, without hyperparameters of training.

    Args:
        name: one of :data:`SPACES`.
        input_shape: (channels, height, width) of one image, or (features,) of one vector.
        n_classes: how many classes there are.
        macro: what is not left to the preset of the macro-architecture of a cell space, such as filters.

    Raises:
        ValueError: if the space is not for such inputs, or has no such macro-architecture.
    """
    import spaces

    shape: Any = tuple(input_shape)
    if (name == FOR_VECTORS) != (len(shape) == 1):
        what, other = ("images", FOR_IMAGES) if len(shape) == 3 else ("vectors", FOR_VECTORS)
        raise ValueError(
            f"--space {name}: is not for {what}, and the inputs are {what} of shape "
            f"{'×'.join(map(str, shape))}. Use {other}."
        )
    if name not in (FOR_IMAGES, FOR_VECTORS):
        cells: Space = spaces.cell(preset=name, input_shape=shape, n_classes=n_classes, **(macro or {}))
        return cells
    for key in macro or ():
        raise ValueError(f"--{key}: is a choice of cell spaces, {name} has none. Leave it out.")
    if name == FOR_IMAGES:
        return spaces.chain(input_shape=shape, n_classes=n_classes)
    return spaces.chain_mlp(input_shape=shape, n_classes=n_classes)
