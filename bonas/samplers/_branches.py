"""Which branch of a conditional space was looked at too little; knows configurations, no losses, no method.

A *branch* is a value of a hyperparameter on which others depend. What is learned of these in one branch says
nothing of them in another, so a bad draw or two are a poor reason to leave a branch for good.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from spaces import Space

    Branch = tuple[str, Any]

# Every so many asks a neglected branch has its turn, if there is one.
_TURN = 3
# Of n trials a branch of prior probability p is owed so many times √(n p).
_OWED = 2.0
# Draws that tell the branches' probabilities, and steps from each of the best trials in a branch.
_DRAWS, _STEPS = 256, 64


def due(space: Space, tried: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Branch | None:
    """The branch whose turn it is, if any: the one tried least, compared with how often it should have been.

    A branch of prior probability p is owed c √(n p) of n trials, at most its share n p: a smaller and smaller
    part of all of them.

    Args:
        space: of the configurations.
        tried: the configurations of all trials.
        rng: draws from the prior, where it is a branch's turn at all.

    Returns:
        name and value; None where nothing depends on anything, where it is no branch's turn, or where each
        has had what it is owed.
    """
    if len(tried) % _TURN:
        return None
    parents = space.configuration_space.parents_of
    names = sorted({parent.name for name in space.names for parent in parents[name]})
    if not names:
        return None
    had = _counts(names, tried)
    best, least = None, 1.0
    for branch, count in _counts(names, space.sample(_DRAWS, rng)).items():
        share = len(tried) * count / _DRAWS
        part = had[branch] / min(_OWED * math.sqrt(share), share)
        if part < least:
            best, least = branch, part
    return best


def within(branch: Branch, params: Mapping[str, Any]) -> bool:
    """Whether a configuration lies in a branch."""
    name, value = branch
    return name in params and bool(params[name] == value)


def steps(
    space: Space, branch: Branch, incumbents: Sequence[Mapping[str, Any]], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Configurations of a branch that differ from an incumbent in what branches do not have in common.

    What they have in common is learned in all of them, and would be changed again and again for its own sake.

    Args:
        space: of the configurations.
        branch: what they belong to.
        incumbents: in it, to be changed where it is not like others; or not, to be taken over into it.
        rng: draws the changes.
    """
    parents = space.configuration_space.parents_of
    common = [name for name in space.names if not parents[name] and name != branch[0]]
    near = ((params, step) for params in incumbents for step in space.neighbours(params, rng, _STEPS))
    return [
        step
        for params, step in near
        if within(branch, step) and all(step[name] == params[name] for name in common)
    ]


def _counts(names: Sequence[str], configurations: Sequence[Mapping[str, Any]]) -> Counter[Branch]:
    return Counter((name, params[name]) for params in configurations for name in names if name in params)
