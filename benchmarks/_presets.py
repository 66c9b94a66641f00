"""Every space and preset at a size that is cheap to train, by name; knows no checks."""

from __future__ import annotations

from collections.abc import Callable

from bonas import spaces

Maker = Callable[[int, int], spaces.Space]
"""(channels, side) of the images → the space; for vectors the side is the number of features."""

ALL_OPERATIONS = ("conv", "separable", "dilated", "inverted", "max_pool", "avg_pool", "identity")


def _chain(**settings: object) -> Maker:
    return lambda channels, side: spaces.chain((channels, side, side), 10, **settings)  # type: ignore[arg-type]


def _cell(preset: str | None, **settings: object) -> Maker:
    # Few filters and cells: what is tested are the cells, not the machine.
    small = {"filters": 4, "cells": 1} | settings
    return lambda channels, side: spaces.cell(preset, (channels, side, side), 10, **small)  # type: ignore[arg-type]


_MANY = {
    "operations": ALL_OPERATIONS,
    "kernels": (3, 5, (1, 7), (5, 1)),
    "strides": (1, 2, (2, 1)),
    "activations": ("relu", "silu", "gelu", "elu", "leaky_relu", "tanh"),
    "normalisations": ("batch", "group", "none"),
}

SPACES: dict[str, Maker] = {
    "chain": _chain(),
    "chain, everything": _chain(**_MANY),
    "chain, everything, skips": _chain(**_MANY, skip_connections=True),
    "mlp": lambda channels, side: spaces.chain_mlp(channels * side, 10),
    "nas_bench_201": _cell("nas_bench_201"),
    "darts": _cell("darts"),
    "darts, none, any inputs": _cell("darts", inputs="any"),
    "nasnet": _cell("nasnet"),
    "enas": _cell("enas"),
    "amoebanet": _cell("amoebanet"),
    "nasnet, macro searched": _cell(
        "nasnet", filters=(4, 6), cells=(1, 2), reductions=(0, 1, 2), stem=("conv", "conv_stride2")
    ),
}
"""All with the default hyperparameters of training to be added by the caller."""
