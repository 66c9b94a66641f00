"""Fashion-MNIST with fewer images, for benchmarks that train many networks; knows no networks or searches."""

from __future__ import annotations

import torch

from fidelity.data import Data, Split, load_data
from fidelity.data.splits import nested_order


def fashion_mnist(folder: str, n_train: int, n_val: int) -> Data:
    """The first images of stratified orders of the published training split; its test split stays out.

    Args:
        folder: holds the four idx files.
        n_train: images to train on, of the 54,000 that ``load_data`` gives.
        n_val: images to evaluate on, of the other 6,000.
    """
    whole = load_data("fashion-mnist", folder)
    train, val = (_first(part, n, whole.seed) for part, n in ((whole.train, n_train), (whole.val, n_val)))
    nothing = Split(whole.test.inputs[:0], whole.test.labels[:0])
    return Data(whole.name, train, val, nothing, whole.class_names, whole.seed)


def _first(split: Split, n: int, seed: int) -> Split:
    if n > len(split):
        raise ValueError(f"{n} images: there are {len(split)}. Ask for fewer.")
    chosen = torch.from_numpy(nested_order(split.labels.numpy(), seed)[:n].copy())
    return Split(split.inputs[chosen], split.labels[chosen])
