"""What a sampler is and how one is named, stored and restored; knows no particular sampler's method."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import numpy as np

    from fidelity.records import StudyView
    from spaces import Space


class Sampler(Protocol):
    """Proposes configurations.

    A sampler is a function of its arguments: the same space, records and generator state give the same
    configuration, in any process. It may remember what it computed, never what it was asked.
    """

    seed: int | None
    """Seed of its own generator; None to use the study's."""

    def sample(self, space: Space, view: StudyView, rng: np.random.Generator) -> dict[str, Any] | None:
        """One canonical configuration whose key no trial of ``view`` has; None once the space is used up."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings with the class under ``"name"``; restored by :func:`from_dict`."""
        ...


# Configurations drawn at once: batches are much cheaper than single draws, and most asks need only one.
_BATCHES = (8, 64, 512, 4096)
# Up to this size every configuration that is left is listed, so that each is equally likely.
_LISTED = 50_000


def draw_new(space: Space, seen: Collection[str], rng: np.random.Generator) -> dict[str, Any] | None:
    """A draw from the space's prior whose key is not in ``seen``; None once the space is used up.

    When draws stop finding new configurations, a finite space is enumerated. An infinite one whose draws
    repeat thousands of times (a ``key`` that lumps everything together) counts as used up, too.
    """
    for n in _BATCHES:
        # Drawing more than the whole space holds cannot pay; enumerating is then cheaper.
        if n > max(8.0, space.size):
            break
        for params in space.sample(n, rng):
            if space.key(params) not in seen:
                return params
    if space.size == float("inf"):
        return None
    unseen = (params for params in space.enumerate() if space.key(params) not in seen)
    if space.size > _LISTED:
        return next(unseen, None)
    left = list(_distinct(space, unseen))
    return left[int(rng.integers(len(left)))] if left else None


def _distinct(space: Space, configurations: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    keys = set()
    for params in configurations:
        key = space.key(params)
        if key not in keys:
            keys.add(key)
            yield params


def seen_keys(view: StudyView) -> frozenset[str]:
    """The keys of every trial there is, whatever its state: none of them is to be proposed again."""
    return frozenset(trial.key for trial in view.trials)


def closest(kind: str, name: object, known: Collection[str]) -> ValueError:
    """The error for a name that is not among the known ones, with the nearest of them."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return ValueError(f"unknown {kind} {name!r}: {hint}There are {', '.join(sorted(known))}.")


def settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments in a stored description."""
    return {name: value for name, value in data.items() if name != "name"}


def at_least(name: str, value: int, least: int, usual: int) -> None:
    """Raise the usual ValueError unless ``value`` is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: must be a whole number from {least}. The default is {usual}.")
