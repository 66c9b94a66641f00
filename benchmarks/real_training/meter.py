"""A search's clock and what it has seen by when; knows objectives and trials, no methods.

The clock counts seconds of processor time of this process: training, proposing, deciding, storing. What the
benchmark itself does in between is left out, and how busy the machine is decides nothing.
"""

from __future__ import annotations

import contextlib
import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fidelity.training import Diverged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fidelity.training import TrainOn
    from real_training.problem import Problem


class Report(NamedTuple):
    """One trained epoch."""

    at: float
    """Seconds of the search."""
    trial: int
    epoch: int
    accuracy: float
    """On the validation images."""


@dataclass(frozen=True)
class Kept:
    """The network that a search would hand back."""

    report: Report
    params: dict[str, Any]
    weights: dict[str, Any]


class Meter:
    """Of one search; begins when it is made.

    Attributes:
        seconds: that the search has. What is reported later does not count.
        reports: what counts, in order.
        kept: the best of the trials trained furthest, as ``study.best_trial`` has it; weights included.
        training: seconds within the objective.
        diverged: trials whose training did.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.process_time) -> None:
        self.seconds = seconds
        self.reports: list[Report] = []
        self.kept: Kept | None = None
        self.training = 0.0
        self.diverged = 0
        self._clock, self._apart = clock, 0.0
        self._began = clock()

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began - self._apart

    @property
    def over(self) -> bool:
        """Whether the seconds are used up."""
        return self.now >= self.seconds

    def note(self, trial: int, epoch: int, accuracy: float) -> None:
        """An epoch was trained and evaluated."""
        if (now := self.now) <= self.seconds:
            self.reports.append(Report(now, trial, epoch, accuracy))

    def keep(self, trial: int, params: Mapping[str, Any], epoch: int, weights: Mapping[str, Any]) -> None:
        """The weights after the epoch noted last; kept if they are the best so far, outside the clock."""
        began = self._clock()
        last = self.reports[-1] if self.reports else None
        # An epoch that ended too late was not noted, and its weights do not count either.
        if last is not None and (last.trial, last.epoch) == (trial, epoch) and self._better(last):
            self.kept = Kept(last, dict(params), copy.deepcopy(dict(weights)))
        self._apart += self._clock() - began

    @contextlib.contextmanager
    def objective(self) -> Iterator[None]:
        """What is done within trains."""
        began = self.now
        try:
            yield
        finally:
            self.training += self.now - began

    def _better(self, report: Report) -> bool:
        if self.kept is None:
            return True
        best = self.kept.report
        return (report.epoch, report.accuracy) > (best.epoch, best.accuracy)


class Metered:
    """A method's trial as the objective sees it: itself, but for its seed, under the meter's eyes."""

    def __init__(self, trial: Any, meter: Meter, seed: int) -> None:
        self._trial, self._meter = trial, meter
        self._epoch = 0
        self.seed = seed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)

    def epochs(self) -> Iterator[int]:
        """No further one begins once the seconds are used up."""
        for epoch in self._trial.epochs():
            if self._meter.over:
                return
            self._epoch = epoch
            yield epoch

    def report(self, value: Mapping[str, float], epoch: int) -> None:
        self._meter.note(self._trial.number, epoch, value["accuracy"])
        self._trial.report(value, epoch)

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        self._meter.keep(self._trial.number, self._trial.params, self._epoch, state["model"])
        self._trial.save_checkpoint(state)


def metered(train: TrainOn, problem: Problem, seed: int, meter: Meter) -> Callable[[Any], None]:
    """The objective of one search."""

    def objective(trial: Any) -> None:
        with meter.objective():
            try:
                train(Metered(trial, meter, problem.trial_seed(seed, trial.number)))
            except Diverged:
                meter.diverged += 1
                raise

    return objective
