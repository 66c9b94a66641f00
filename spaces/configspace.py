"""The adapter to ConfigSpace: plain dictionaries to spaces and back, draws from priors; knows no networks.

Everything else in ``spaces`` works on the *description* of a configuration space: the plain
dictionary that ConfigSpace itself reads and writes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

Description = dict[str, Any]


def describe(configuration_space: ConfigurationSpace) -> Description:
    """The plain description of a ConfigSpace ``ConfigurationSpace``.

    Raises:
        ValueError: if the object is not a configuration space.
    """
    import ConfigSpace

    if not isinstance(configuration_space, ConfigSpace.ConfigurationSpace):
        raise ValueError(
            f"configuration_space={configuration_space!r}: must be a ConfigSpace.ConfigurationSpace. "
            "Build one with ConfigSpace.ConfigurationSpace({...})."
        )
    description = configuration_space.to_serialized_dict()
    return {
        "hyperparameters": [_plain(h) for h in description["hyperparameters"]],
        "conditions": [_plain(c) for c in description["conditions"]],
        "forbiddens": [_plain(f) for f in description["forbiddens"]],
    }


def restore(description: Mapping[str, Any]) -> ConfigurationSpace:
    """A fresh ConfigSpace ``ConfigurationSpace`` with the hyperparameters, conditions and clauses described.

    Raises:
        ValueError: if ConfigSpace refuses the description.
    """
    import ConfigSpace

    try:
        # Decoding consumes its argument, and JSON turned tuples, which ConfigSpace can hash, into lists.
        items = {k: [_tupled(copy.deepcopy(i)) for i in description[k]] for k in _PARTS}
        return ConfigSpace.ConfigurationSpace.from_serialized_dict(
            {"name": None, **items, "format_version": 0.4}
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"configuration space cannot be restored: {error}. Was the file edited?") from error


def extended(description: Mapping[str, Any], additions: Iterable[Any]) -> Description:
    """The description with further ConfigSpace hyperparameters, conditions and forbidden clauses.

    Raises:
        ValueError: if a name exists already, or an addition is not a part of a ConfigSpace space.
    """
    space = restore(description)
    additions = list(additions)
    for addition in additions:
        if isinstance(addition, (str, Mapping)):  # ConfigSpace would look for parts in them for ever
            raise ValueError(
                f"hyperparameters: {addition!r} must be a hyperparameter, a condition or a forbidden clause. "
                "Use ConfigSpace.Float('lr', (1e-4, 1e-1), log=True), say."
            )
        name = getattr(addition, "name", None)
        if name is not None and name in space:
            raise ValueError(
                f"hyperparameter {name!r}: the space has one of that name already. Rename it, or narrow the "
                f"present one with fix({{{name!r}: ...}})."
            )
    try:
        space.add(additions)
    except Exception as error:
        # ConfigSpace raises a dozen classes here, few of them a ValueError; its messages are good.
        raise ValueError(f"hyperparameters cannot be added: {error}") from error
    return describe(space)


def random_state(rng: np.random.Generator) -> np.random.RandomState:
    """ConfigSpace's distributions want the legacy generator; this one derives from ``rng`` alone."""
    return np.random.RandomState(np.random.MT19937(int(rng.integers(2**63))))


def draw_column(hyperparameter: Any, n: int, state: np.random.RandomState) -> np.ndarray[Any, Any]:
    """``n`` draws from one hyperparameter's prior: positions among its choices, or numbers.

    Returns:
        float64 array, shape (n,).
    """
    import ConfigSpace

    if isinstance(hyperparameter, ConfigSpace.Constant):
        return np.zeros(n)
    vector = hyperparameter.sample_vector(n, seed=state)
    if hasattr(hyperparameter, "lower"):
        return np.asarray(hyperparameter.to_value(vector), dtype=np.float64)
    return np.rint(np.asarray(vector, dtype=np.float64))


_PARTS = ("hyperparameters", "conditions", "forbiddens")


def _plain(value: Any) -> Any:
    """Numpy scalars become Python's; mappings and sequences are copied."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_plain(v) for v in value)
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value


def _tupled(item: dict[str, Any]) -> dict[str, Any]:
    for key in ("choices", "sequence", "values"):
        if key in item:
            item[key] = [_as_tuple(v) for v in item[key]]
    for key in ("value", "default_value"):
        if key in item:
            item[key] = _as_tuple(item[key])
    for key in ("conditions", "clauses"):
        if key in item:
            item[key] = [_tupled(part) for part in item[key]]
    return item


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(v) for v in value) if isinstance(value, (list, tuple)) else value
