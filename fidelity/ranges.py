"""Which values a metric can have at all, by its name; knows no networks and no search."""

from __future__ import annotations

import math
from collections.abc import Iterable

_PARTS = (0.0, 1.0)
_POSITIVE = (0.0, math.inf)
_KNOWN = {
    "error": _PARTS,
    "loss": _POSITIVE,
    "r2": (-math.inf, 1.0),
    "mse": _POSITIVE,
    "mae": _POSITIVE,
    "parameters": _POSITIVE,
    "macs": _POSITIVE,
    "memory": _POSITIVE,
    "latency": _POSITIVE,
}


def possible(metric: str, seen: Iterable[float]) -> tuple[float, float]:
    """The least and the greatest value of a metric, infinite where unknown.

    Args:
        metric: its name.
        seen: values it had: what lies outside shows that the name means something else here, such as an
            accuracy in percent.
    """
    low, high = _PARTS if "accuracy" in metric else _KNOWN.get(metric, (-math.inf, math.inf))
    return (low, high) if all(low <= value <= high for value in seen) else (-math.inf, math.inf)
