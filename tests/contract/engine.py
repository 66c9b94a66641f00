"""Small studies for the contract tests: spaces without networks, schedulers that do as they are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ConfigSpace import ConfigurationSpace

import bonas
from bonas import fidelity, spaces
from bonas.samplers import RandomSampler
from fidelity.records import StudyView, TrialState
from fidelity.schedulers import Done, Resume, Start, Wait


def numbers() -> spaces.Space:
    """An infinite space of two numbers and a choice."""
    return spaces.Space(ConfigurationSpace({"x": (0.0, 1.0), "n": (1, 8), "c": ["a", "b"]}))


def choices(n: int = 3) -> spaces.Space:
    """A space of n configurations."""
    return spaces.Space(ConfigurationSpace({"c": [f"v{i}" for i in range(n)]}))


def study(**settings: Any) -> bonas.Study:
    """A study in memory, unless said otherwise, that draws at random."""
    return bonas.create_study(**({"space": numbers(), "sampler": RandomSampler()} | settings))


@dataclass
class Ladder:
    """One trial moved through the given fidelities, whatever it reports."""

    rungs: tuple[fidelity.Fidelity, ...]

    def decide(self, view: StudyView, rng: np.random.Generator) -> Any:
        if not view.trials:
            return Start(self.rungs[0])
        trial = view.trials[0]
        if trial.state == TrialState.RUNNING:
            return Wait()
        above = self.rungs[self.rungs.index(trial.fidelity) + 1 :]
        return Resume(trial, above[0]) if trial.state == TrialState.PAUSED and above else Done()


def climb(axes: fidelity.Axes, *rungs: dict[str, float], **settings: Any) -> bonas.Study:
    """A study with one trial that goes through ``rungs``."""
    return study(axes=axes, scheduler=Ladder(tuple(axes.fidelity(r) for r in rungs)), **settings)


def counting(save: bool = True, value: Callable[[Any, int], float] | None = None) -> Any:
    """An objective whose state counts the epochs trained; ``seen`` notes what each segment was given."""

    def objective(trial: bonas.Trial) -> None:
        state = trial.load_checkpoint()
        loaded = None if state is None else state["epochs"]
        state = {"epochs": 0} if state is None else state
        objective.seen.append((loaded, []))
        for epoch in trial.epochs():
            objective.seen[-1][1].append(epoch)
            state["epochs"] += 1
            trial.report(value(trial, epoch) if value else 1.0 / epoch, epoch)
            if save:
                trial.save_checkpoint(state)

    objective.seen = []
    return objective
