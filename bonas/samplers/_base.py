"""What a sampler is and how one is named, stored and restored; knows no particular sampler's method."""

from __future__ import annotations

import difflib
import itertools
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fidelity.records import TrialState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from fidelity.records import StudyView, TrialRecord
    from spaces import Space


class Sampler(Protocol):
    """Proposes configurations.

    A sampler is a function of its arguments: the same space, records and generator state give the same
    configuration, in any process. It may remember what it computed, never what it was asked.
    """

    seed: int | None
    """Seed of its own generator; None to use the study's."""

    def sample(self, space: Space, view: StudyView, rng: np.random.Generator) -> dict[str, Any] | None:
        """One canonical configuration that is :class:`Allowed`; None once the space is used up."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings with the class under ``"name"``; restored by :func:`from_dict`."""
        ...


class Allowed:
    """Which configurations may be proposed: new ones that keep every constraint that can be counted.

    A category of weight zero is proposed by no sampler, only by users.

    Args:
        space: the study's space.
        view: no configuration of whose trials is proposed again, whatever their states.
    """

    def __init__(self, space: Space, view: StudyView) -> None:
        self._space = space
        self.seen = frozenset(trial.key for trial in view.trials)
        """The keys of every trial there is."""
        self.bounds = view.bounds
        self.found = any(trial.state is not TrialState.INFEASIBLE for trial in view.trials)
        """Whether any trial was feasible."""

    def __call__(self, params: Mapping[str, Any]) -> bool:
        """Whether a canonical configuration may be proposed."""
        if not self._space.has_chance(params):
            return False
        return self._space.key(params) not in self.seen and self.load(params) <= 1

    def load(self, params: Mapping[str, Any]) -> float:
        """The largest of what can be counted, relative to its bound: above 1 it is infeasible."""
        return 0.0 if self.bounds is None else self.bounds.load(params)


# Configurations drawn at once: batches are much cheaper than single draws, and most asks need only one.
_BATCHES = (8, 64, 512, 4096)
# Under constraints, draws until they are searched for instead, and steps and neighbours of that search.
_MOST_DRAWN, _STEPS, _NEIGHBOURS = 584, 60, 24
# Up to this size every configuration that is left is listed, so that each is equally likely.
_LISTED = 50_000


def draw_new(space: Space, allowed: Allowed, rng: np.random.Generator) -> dict[str, Any] | None:
    """A draw from the space's prior that is allowed; None once the space is used up.

    When draws stop finding allowed configurations, a finite space is enumerated. An infinite one whose draws
    repeat thousands of times (a ``key`` that lumps everything together) counts as used up, too. Where less
    than one draw in hundreds keeps the constraints, one that nearly does is changed step by step.

    Raises:
        ValueError: if nothing is found that keeps the constraints.
    """
    drawn: list[dict[str, Any]] = []
    for n in _BATCHES:
        # Drawing more than the whole space holds cannot pay; enumerating is then cheaper.
        if n > max(8.0, space.size):
            break
        if len(drawn) >= _MOST_DRAWN and allowed.bounds is not None:
            break
        batch = space.sample(n, rng)
        for params in batch:
            if allowed(params):
                return params
        drawn += batch
    if space.size <= _LISTED:
        left = list(_distinct(space, (params for params in space.enumerate() if allowed(params))))
        return left[int(rng.integers(len(left)))] if left else None
    if allowed.bounds is not None and (near := _reduced(space, allowed, drawn, rng)) is not None:
        return near
    if space.size == float("inf"):
        return None
    most = None if allowed.bounds is None else _LISTED
    return next((p for p in itertools.islice(space.enumerate(), most) if allowed(p)), None)


def _reduced(
    space: Space, allowed: Allowed, drawn: list[dict[str, Any]], rng: np.random.Generator
) -> dict[str, Any] | None:
    """A configuration near the draw that violates the constraints least, changed until it keeps them.

    Each step takes the neighbour with the least load, and the search stops as soon as the constraints are
    kept, so what it finds is no smaller than it has to be. None if draws do keep them, but are known.
    """
    loads = [allowed.load(params) for params in drawn]
    if min(loads) <= 1:
        return None
    at = drawn[int(np.argmin(loads))]
    for _ in range(_STEPS):
        near = [at, *space.neighbours(at, rng, _NEIGHBOURS)]
        for params in near:
            if allowed(params):
                return params
        at = min(near, key=allowed.load)
    if allowed.found:
        # To be recorded as infeasible: the next ask may have more luck.
        return None if space.key(at) in allowed.seen else at
    raise ValueError(
        f"constraints: none of {len(drawn)} configurations drawn keeps them, nor any near the closest, which "
        f"has {allowed.load(at):.3g} times what is allowed. Relax them or narrow the space."
    )


def _distinct(space: Space, configurations: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    keys = set()
    for params in configurations:
        key = space.key(params)
        if key not in keys:
            keys.add(key)
            yield params


def found_infeasible(view: StudyView, trial: TrialRecord) -> bool:
    """Whether that a trial is infeasible was found by trying: measured, or out of memory, not counted."""
    if trial.state is not TrialState.INFEASIBLE:
        return False
    return view.bounds is None or view.bounds.load(trial.params) <= 1


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
