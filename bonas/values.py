"""What counts as the value of a metric: reported or returned, it is read here; knows nothing of trials."""

from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any


def read_values(value: Any, metric_names: Sequence[str]) -> tuple[dict[str, float], str | None]:
    """A reported or returned value as finite numbers by metric, and what is wrong if one is not finite.

    Raises:
        TypeError: for anything that is not a number or a dict of numbers.
        ValueError: if a metric of the study is missing.
    """
    if isinstance(value, Mapping):
        missing = [name for name in metric_names if name not in value]
        if missing:
            raise ValueError(f"values {sorted(map(str, value))}: the study's metrics {missing} are missing.")
        values = {str(name): _number(v, str(name)) for name, v in value.items()}
    elif len(metric_names) > 1:
        raise TypeError(
            f"value {value!r}: a study of several objectives takes a dict with {list(metric_names)}."
        )
    else:
        values = {metric_names[0]: _number(value, metric_names[0])}
    bad = {name: values[name] for name in metric_names if not math.isfinite(values[name])}
    fault = ", ".join(f"{name}={v}" for name, v in bad.items()) + " is not a finite number" if bad else None
    return {name: v for name, v in values.items() if math.isfinite(v)}, fault


def _number(value: Any, name: str) -> float:
    if hasattr(value, "item") and getattr(value, "size", None) is not None:
        with contextlib.suppress(ValueError, RuntimeError, TypeError):
            value = value.item()  # a NumPy scalar, or an array or tensor of one element
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r}: must be a number, got {type(value).__name__}.")
    try:
        return float(value)
    except OverflowError:  # a whole number beyond the range of floats
        return math.inf
