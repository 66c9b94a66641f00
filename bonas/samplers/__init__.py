"""The samplers, loaded when first used; knows their names, not their methods."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bonas.samplers._base import Sampler, closest, settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bonas.samplers._evolution import EvolutionSampler
    from bonas.samplers._forest import ForestSampler
    from bonas.samplers._local_search import LocalSearchSampler
    from bonas.samplers._optuna import OptunaSampler
    from bonas.samplers._random import RandomSampler
    from bonas.samplers._smac import SMACSampler
    from bonas.samplers._tpe import TPESampler

__all__ = [
    "EvolutionSampler",
    "ForestSampler",
    "LocalSearchSampler",
    "OptunaSampler",
    "RandomSampler",
    "SMACSampler",
    "Sampler",
    "TPESampler",
    "from_dict",
    "get",
]

# Class → (name on the command line, module). The only modules a stored name can lead to.
_REGISTRY = {
    "RandomSampler": ("random", "bonas.samplers._random"),
    "ForestSampler": ("forest", "bonas.samplers._forest"),
    "TPESampler": ("tpe", "bonas.samplers._tpe"),
    "SMACSampler": ("smac", "bonas.samplers._smac"),
    "EvolutionSampler": ("evolution", "bonas.samplers._evolution"),
    "LocalSearchSampler": ("local-search", "bonas.samplers._local_search"),
    "OptunaSampler": ("optuna", "bonas.samplers._optuna"),
}


def __getattr__(name: str) -> Any:
    if name in _REGISTRY:
        return getattr(importlib.import_module(_REGISTRY[name][1]), name)
    raise AttributeError(f"module 'bonas.samplers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def get(name: str, *, seed: int | None = None) -> Sampler:
    """A sampler with its default settings, by its short name, such as ``"local-search"``.

    Raises:
        ValueError: if there is no sampler of that name.
    """
    for cls, (short, _) in _REGISTRY.items():
        if name == short:
            sampler: Sampler = __getattr__(cls)(seed=seed)
            return sampler
    raise closest("sampler", name, [short for short, _ in _REGISTRY.values()])


def from_dict(data: Mapping[str, Any]) -> Sampler:
    """The sampler that ``to_dict`` described.

    Raises:
        ValueError: if the description names no sampler of this version or has settings it does not take,
            or describes an object of the user's own, which is not stored.
    """
    name = data.get("name")
    if name not in _REGISTRY:
        raise closest("sampler", name, list(_REGISTRY))
    cls = __getattr__(str(name))
    restore = getattr(cls, "from_dict", None)
    try:
        sampler: Sampler = restore(data) if restore else cls(**settings(data))
    except TypeError as error:
        raise ValueError(
            f"{name}: the stored settings {settings(data)} do not fit this version: {error}."
        ) from error
    return sampler
