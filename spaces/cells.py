"""Cell-structured networks: searched cells repeated in a macro-architecture; knows no training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces.nas_bench_201 import NasBench201

if TYPE_CHECKING:
    from spaces.space import Space


def cell(
    preset: str = "nas_bench_201",
    input_shape: tuple[int, int, int] = (3, 32, 32),
    n_classes: int = 10,
    *,
    filters: int = 16,
    cells: int = 5,
) -> Space:
    """A space of image classifiers made of one searched cell, repeated.

    Hyperparameters of ``nas_bench_201``: ``edge0`` … ``edge5``, each one of ``none``,
    ``skip_connect``, ``nor_conv_1x1``, ``nor_conv_3x3``, ``avg_pool_3x3``. Convolutions are
    ReLU-convolution-batch-norm. Three stages of ``cells`` cells, with residual blocks between them that
    halve the picture and double the filters. Width scales the filters, depth the cells of a stage.

    Args:
        preset: which cell; ``"nas_bench_201"``.
        input_shape: (channels, height, width) of one image.
        n_classes: how many classes there are, from 2.
        filters: output channels of the stem and the first stage; the benchmark has 16.
        cells: cells of a stage; the benchmark has 5.

    Raises:
        ValueError: on an unknown preset, fewer than two classes, or an input below 4 pixels a side.
    """
    from spaces.space import Space

    if preset != "nas_bench_201":
        raise ValueError(f"preset={preset!r}: is not known. Use 'nas_bench_201'.")
    return Space._of(NasBench201(input_shape=input_shape, n_classes=n_classes, filters=filters, cells=cells))
