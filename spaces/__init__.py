"""What can be built: search spaces and the networks in them.

The door to the package: nothing heavy is imported until it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spaces.cells import cell
    from spaces.chains import chain
    from spaces.counting import Count
    from spaces.genotypes import GENOTYPES
    from spaces.hyperparameters import default_hyperparameters
    from spaces.mlps import chain_mlp
    from spaces.skips import Skips
    from spaces.space import Space

__all__ = ["GENOTYPES", "Count", "Skips", "Space", "cell", "chain", "chain_mlp", "default_hyperparameters"]

_HOME = {
    "GENOTYPES": "spaces.genotypes",
    "Count": "spaces.counting",
    "Skips": "spaces.skips",
    "Space": "spaces.space",
    "cell": "spaces.cells",
    "chain": "spaces.chains",
    "chain_mlp": "spaces.mlps",
    "default_hyperparameters": "spaces.hyperparameters",
}
# Documented by their own names.
_MODULES = ("cell_operations", "drawing", "genotypes", "hyperparameters", "presets")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"spaces.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'spaces' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
