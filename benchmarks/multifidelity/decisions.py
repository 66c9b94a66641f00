"""What deciding costs: a search, a study, and one decision among many paused trials; knows no peers.

    BONAS_BENCHMARKS=DIR python benchmarks/multifidelity/decisions.py

Processor time on one thread, of scheduler, sampler and what they ask of surrogate and extrapolator. The
results lie in ``results/multifidelity_decisions.md``.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import _runs
import numpy as np

import bonas
from bonas import samplers
from fidelity.records import TrialState
from multifidelity import methods, run, tasks
from multifidelity.baselines import OneEpoch
from multifidelity.meter import Meter
from multifidelity.simulate import Simulation

TRIALS = 800
PAUSED = 1000
TASKS = ("taskset 0", "nb301", "lcbench Fashion_MNIST", "lcbench vehicle")
REPEATS = 5
REPORT = run.RESULTS.parent / "multifidelity_decisions.md"


def search(task_name: str, seed: int) -> tuple[float, int, int]:
    """Seconds that a whole search of ``TRIALS`` configurations decided for, its decisions and its trials."""
    scheduler, sampler = methods.default()
    simulation = Simulation(tasks.load(task_name), scheduler, sampler, seed, budget=np.inf, n_trials=TRIALS)
    trace = simulation.run()
    return trace.ms / 1e3, len(trace.segments), len(simulation.records)


def study(task_name: str, seed: int) -> tuple[float, float, int]:
    """The same through a study kept in memory: seconds of deciding, of all the rest, and segments.

    The rest is what asking, telling and checkpoints take; the objective, which looks a row up, is left out.
    """
    task, visited = tasks.load(task_name), dict[int, int]()
    scheduler, sampler = methods.default()
    deciding, training, whole = Meter(), Meter(), Meter()
    segments = 0

    class Sampler(type(sampler)):  # type: ignore[misc]
        def sample(self, *args: Any) -> Any:
            with deciding:
                return super().sample(*args)

    class Scheduler(type(scheduler)):  # type: ignore[misc]
        __slots__ = ()

        def decide(self, *args: Any) -> Any:
            with deciding:
                return super().decide(*args)

    def objective(trial: bonas.Trial) -> None:
        nonlocal segments
        segments += 1
        with training:
            if trial.number not in visited:
                visited[trial.number] = task.row(trial.params, visited.values())
            values, _ = task.train(visited[trial.number], (), trial.fidelity)
        trial.load_checkpoint()
        for epoch in trial.epochs():
            if epoch > len(values):
                raise ValueError("diverged")
            trial.report(values[epoch - 1], epoch)
        trial.save_checkpoint({})

    logging.getLogger("bonas").setLevel(logging.ERROR)
    with whole:
        made = bonas.create_study(
            space=task.space,
            axes=task.axes,
            direction=task.direction,
            sampler=Sampler(),
            scheduler=Scheduler(),
            seed=seed,
        )
        made.optimize(objective, n_trials=TRIALS)
    return deciding.ms / 1e3, (whole.ms - deciding.ms - training.ms) / 1e3, segments


def decision(task_name: str) -> tuple[float, float, int]:
    """Milliseconds of the scheduler's decision and of the sampler's, and how many trials are paused."""
    simulation = Simulation(
        tasks.load(task_name), OneEpoch(PAUSED, 0), samplers.RandomSampler(), 0, np.inf, n_trials=PAUSED
    )
    simulation.run()
    simulation.n_trials = np.inf
    paused = sum(t.state == TrialState.PAUSED for t in simulation.records)
    took = []
    for k in range(REPEATS):
        scheduler, sampler = methods.default()
        view, rng = simulation.view(), np.random.default_rng(k)
        began = time.process_time()
        scheduler.decide(view, rng)
        between = time.process_time()
        sampler.sample(simulation.task.space, view, rng)
        took.append((between - began, time.process_time() - between))
    decided, sampled = 1e3 * np.median(took, axis=0)
    return float(decided), float(sampled), paused


def main() -> int:
    names = _runs.available(TASKS, tasks.load)
    lines = ["# What deciding costs", "", f"A search of {TRIALS} configurations by the default:", ""]
    lines += ["| task | trials | decisions | seconds | ms each |", "| --- | --- | --- | --- | --- |"]
    for name in names:
        seconds, decisions, trials = search(name, 0)
        lines.append(f"| {name} | {trials} | {decisions} | {seconds:.1f} | {1e3 * seconds / decisions:.2f} |")
        print(lines[-1], flush=True)
    lines += ["", "The same through a study, kept in memory, whose objective costs nothing:", ""]
    lines += ["| task | segments | sampler and scheduler, s | asking, telling, checkpoints, s |"]
    lines += ["| --- | --- | --- | --- |"]
    for name in names[:2]:
        decided, rest, segments = study(name, 0)
        lines.append(f"| {name} | {segments} | {decided:.1f} | {rest:.1f} |")
        print(lines[-1], flush=True)
    lines += ["", "One decision among paused trials, nothing remembered from earlier ones, median:", ""]
    lines += ["| task | paused | scheduler, ms | sampler, ms |", "| --- | --- | --- | --- |"]
    for name in names:
        decided, sampled, paused = decision(name)
        lines.append(f"| {name} | {paused} | {decided:.1f} | {sampled:.1f} |")
        print(lines[-1], flush=True)
    scheduler, sampler = methods.default()
    lines += ["", f"Default: {scheduler!r} and {sampler!r}. {_runs.conditions(*run.CONDITIONS)}"]
    # Caches and the clock are shared: beside other programs the same work takes more processor time.
    lines += [f"Load of the machine in the last five minutes: {os.getloadavg()[1]:.1f}."]
    lines += ["Command: `python benchmarks/multifidelity/decisions.py`.", ""]
    REPORT.write_text("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
