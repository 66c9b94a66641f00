"""Stratified splits and nested subsets of labels, the same on every machine; knows labels only, no images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def strata(labels: NDArray[Any]) -> NDArray[np.int64]:
    """What parts and subsets are to have in the same proportions: classes, or the tenths of numbers.

    Args:
        labels: (n,) class numbers, or floats; with fewer than 100 of these the strata hold ten each.

    Returns:
        (n,) numbers from 0.
    """
    if labels.dtype.kind != "f":
        return labels.astype(np.int64)
    ranks = np.argsort(np.argsort(labels, kind="stable"), kind="stable")
    tenths: Indices = ranks * min(10, max(1, len(labels) // 10)) // len(labels)
    return tenths


def stratified_split(labels: NDArray[np.int64], fractions: Sequence[float], seed: int) -> list[Indices]:
    """Split examples so that every part has the classes in the proportions of the whole.

    Args:
        labels: (n,) class numbers.
        fractions: of every part but the first, which gets the rest.
        seed: one seed, one split.

    Returns:
        For each part, first the rest, the ascending positions of its examples: a partition. Every
        part has at least one example of every class.

    Raises:
        ValueError: if a class has fewer examples than there are parts.
    """
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    parts = 1 + len(fractions)
    if counts.min() < parts:
        rare = classes[counts.argmin()]
        raise ValueError(
            f"class {rare} has {counts.min()} example(s): {parts} parts need at least {parts} of each class. "
            "Leave the class out or add examples."
        )
    taken: list[list[Indices]] = [[] for _ in range(parts)]
    sizes = [_quotas(counts, fraction) for fraction in fractions]
    for i, label in enumerate(classes):
        members = np.flatnonzero(labels == label)
        # Sorting uniform numbers: the one kind of draw that is sure to stay the same between releases.
        members = members[np.argsort(rng.random(len(members)), kind="stable")]
        wanted = [int(s[i]) for s in sizes]
        # The first part keeps at least one; only tiny classes or large fractions come here.
        while sum(wanted) >= len(members):
            wanted[int(np.argmax(wanted))] -= 1
        ends = np.cumsum(wanted)
        for part, chosen in enumerate(np.split(members, ends)[:-1], start=1):
            taken[part].append(chosen)
        taken[0].append(members[ends[-1] :])
    return [np.sort(np.concatenate(t)) for t in taken]


def nested_order(labels: NDArray[np.int64], seed: int) -> Indices:
    """An order of the examples of which every prefix is stratified: subsets of it are nested in each other.

    The first k of it hold one example of each of the k classes.
    """
    rng = np.random.default_rng([seed, 1])
    position: NDArray[np.float64] = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks = np.argsort(np.argsort(rng.random(len(members)), kind="stable"), kind="stable")
        # The r-th of n examples of a class comes when the r/n-th part of every other class is there.
        position[members] = ranks / len(members)
    order: Indices = np.argsort(position, kind="stable")
    return order


def _quotas(counts: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """How many of each class a part gets: at least one, by largest remainders, round(n·fraction) in all."""
    exact = counts * fraction
    quotas: Indices = np.floor(exact).astype(np.int64)
    missing = round(float(exact.sum())) - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[: max(0, missing)]] += 1
    quotas[quotas < 1] = 1
    return quotas
