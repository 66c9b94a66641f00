"""What a scheduler may answer, and the protocol it answers by; knows records and costs, not networks.

A scheduler returns an action and never acts: the study consumes it. ``decide`` is a function of the
view and the generator, so a decision can be repeated from what the store holds.

With an action go the figures it was made from: JSON-ready, finite, named as the scheduler likes.
``study.explain`` puts these into words, and lists others by their names where there is no ``why``:

    why          a clause that follows "because"
    rung, of     position of the rung it is trained to, from 0, and how many there are
    rank, among  its place, from 1, among so many it was compared with
    waiting      so many waited on the rung below, of which it was the best
    quota        so many of them may go on
    hedge        rungs that a new trial skips: a list of {"rung", "share", "correlation", "n": ...}
    end          what was believed of its end: {"mean": ..., "low": ..., "high": ...}, values of the first
                 metric at the horizon, the ends of a 90 % interval
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from fidelity.records import Fidelity, StudyView, TrialRecord


@dataclass(frozen=True, slots=True)
class Start:
    """Start a new configuration at a fidelity."""

    fidelity: Fidelity
    parent: int | None = None
    """Number of the trial it descends from, for samplers that inherit weights or mutate a population."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """The figures the decision was made from; stored with it and found again in ``TrialRecord.figures``."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Continue a paused trial to a fidelity."""

    trial: TrialRecord
    fidelity: Fidelity
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a paused trial for good."""

    trial: TrialRecord
    reason: str = "stopped by the scheduler"
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can run until a running segment ends."""


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing will ever run again."""


Action = Start | Resume | Stop | Wait | Done


@runtime_checkable
class Scheduler(Protocol):
    """Decides what runs next."""

    def decide(self, view: StudyView, rng: np.random.Generator) -> Action:
        """The next action. Must not change ``view`` and must not depend on anything else."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description with a ``name``, restored by :func:`fidelity.schedulers.from_dict`."""
        ...


def wait_or_done(view: StudyView) -> Action:
    """What to answer when nothing can run now: running segments may still change that."""
    running = any(t.state == "RUNNING" for t in view.trials)
    return Wait() if running else Done()
