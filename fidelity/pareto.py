"""Several losses at once: fronts, a spread-out order, the knee and the hypervolume; knows numbers, no trials.

Glossary:
    losses       shape (n, k), one row for each point, every metric turned so that smaller is better; NaN,
                 a metric that is not known, counts as worse than every number
    dominates    no worse in any metric and better in one
    front        the rows that nothing dominates; the second front is what is left without the first, and
                 so on (non-dominated sorting: Deb et al. 2002, "NSGA-II", section III-A)
    hypervolume  of points, up to a reference that is worse than all of them: the volume of what they
                 dominate (Zitzler & Thiele 1998)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.intp]


def front_numbers(losses: Floats) -> Rows:
    """Which front each row belongs to: 0 is the Pareto front, 1 what only the Pareto front dominates.

    Efficient non-dominated sort (Zhang et al. 2015): O(n² k) at worst.

    Args:
        losses: shape (n, k). Equal rows share a front.

    Returns:
        shape (n,), the numbers used being 0, 1, ... without a gap.
    """
    losses = _known(losses)
    numbers = np.zeros(len(losses), dtype=np.intp)
    fronts: list[list[int]] = []
    # In lexicographic order no row dominates an earlier one. What some front dominates, every front before
    # it dominates too, so the first front that does not is found by bisection.
    for i in np.lexsort(losses.T[::-1]):
        low, high = 0, len(fronts)
        while low < high:
            middle = (low + high) // 2
            if _dominated(losses[i], losses[fronts[middle]]):
                low = middle + 1
            else:
                high = middle
        if low == len(fronts):
            fronts.append([])
        fronts[low].append(int(i))
        numbers[i] = low
    return numbers


def spread_order(losses: Floats, n_chosen: int = 0) -> Rows:
    """Rows from best to worst: front by front, and within a front far from what stands before them.

    Each next row of a front is the one farthest from all before it, so that however few are taken from
    the top, they cover the front (ε-net, Clarkson 2006, as Schmucker et al. 2021, "Multi-objective
    Asynchronous Successive Halving", select by). The very first is the best in the first metric. Distances
    are Euclidean, each metric by rank: whatever its unit and however far its outliers.

    Args:
        losses: shape (n, k).
        n_chosen: the first so many rows were chosen before; the others keep away from them.

    Returns:
        the other n - n_chosen rows; the same for the same losses, equal rows in their own order.
    """
    numbers = front_numbers(losses)
    at = _ranks(_known(losses))
    distance = np.full(len(at), np.inf)
    for row in range(n_chosen):
        distance = np.minimum(distance, _distance(at, row))
    order: list[int] = []
    for number in range(int(numbers.max(initial=-1)) + 1):
        members = [int(i) for i in np.flatnonzero(numbers == number) if i >= n_chosen]
        while members:
            if order or n_chosen:
                best = members[int(np.argmax(distance[members]))]
            else:
                best = members[int(np.lexsort(at[members].T[::-1])[0])]
            order.append(best)
            members.remove(best)
            distance = np.minimum(distance, _distance(at, best))
    return np.array(order, dtype=np.intp)


def scaled(losses: Floats, front: Floats) -> Floats:
    """Losses (n, k) with the best of each metric on a front (m, k), m ≥ 1, at 0 and the worst on it at 1."""
    low, high = front.min(axis=0), front.max(axis=0)
    # A metric in which the whole front agrees says nothing about any of them.
    result: Floats = (losses - low) / np.where(high > low, high - low, 1.0)
    return result


def knee(front: Floats) -> int:
    """The row of a front from which a gain in one metric costs most in the others.

    It lies farthest below the line, or plane, through the front's extremes: with each metric scaled to
    [0, 1] over the front, the row with the smallest sum (Das 1999, the normal boundary's maximum bulge).

    Args:
        front: shape (m, k), m at least 1, finite.
    """
    return int(np.argmin(scaled(front, front).sum(axis=1)))


def hypervolume(losses: Floats, reference: Floats) -> float:
    """The volume of what the rows dominate, up to a reference point; exact, by slicing along each metric.

    O(m ** k) for m rows on the front, meant for two or three metrics.

    Args:
        losses: shape (n, k). Rows that are not better than the reference in every metric count nothing.
        reference: shape (k,), finite.
    """
    inside = losses[(losses < reference).all(axis=1)]
    return _volume(inside[front_numbers(inside) == 0], reference)


def _volume(points: Floats, reference: Floats) -> float:
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(reference[0] - points.min())
    # From the best in the last metric on: each slice lasts up to the next point, and has the volume, one
    # metric fewer, of the points before it.
    points = points[np.argsort(points[:, -1], kind="stable")]
    depths = np.diff(np.append(points[:, -1], reference[-1]))
    return float(
        sum(
            depth * _volume(points[: i + 1, :-1], reference[:-1])
            for i, depth in enumerate(depths)
            if depth > 0
        )
    )


def _dominated(row: Floats, others: Floats) -> bool:
    return bool(((others <= row).all(axis=1) & (others < row).any(axis=1)).any())


def _known(losses: Floats) -> Floats:
    return np.where(np.isnan(losses), np.inf, losses)


def _ranks(losses: Floats) -> Floats:
    """Each metric by rank in [0, 1], equal values sharing the lowest; shape (n, k)."""
    ranks = [np.searchsorted(np.sort(column), column) for column in losses.T]
    return np.stack(ranks, axis=1) / max(1, len(losses) - 1)


def _distance(at: Floats, row: int) -> Floats:
    distance: Floats = np.linalg.norm(at - at[row], axis=1)
    return distance
