"""What one ask costs at 100, 1,000 and 10,000 trials, every sampler here and Optuna's TPE alone; and a study.

    python benchmarks/ask_time.py

The space is the chain with its training hyperparameters; records are prior draws with random values, the
hardest case for trees. Every ask sees one record more than the one before, as in a study; the first is
left out. Milliseconds of processor time of a single thread, median and 90th percentile. A study's own share
is what ``ask`` and ``tell`` of a study in a file cost beyond its sampler. Results lie in
``results/ask_time.json`` and ``.md``.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna

import bonas
from bonas import samplers, spaces
from bonas.samplers._optuna import Distributions
from fidelity.axes import Axes
from fidelity.records import Curve, Observation, StudyView, TrialRecord, TrialState

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results"
TRIALS = (100, 1000, 10_000)
ASKS = 20
EVALUATION = 10.0  # seconds, to which a study's share is compared
AXES = Axes()
SAMPLERS = {
    "RandomSampler": lambda: samplers.RandomSampler(),
    "ForestSampler": lambda: samplers.ForestSampler(),
    "TPESampler": lambda: samplers.TPESampler(),
    # A fifth of its asks are prior draws, which the median leaves out.
    "SMACSampler": lambda: samplers.SMACSampler(),
    "OptunaSampler (TPE)": lambda: samplers.OptunaSampler(),
}


def histories(space: spaces.Space, n: int) -> list[TrialRecord]:
    rng = np.random.default_rng(0)
    full = AXES.full
    return [
        TrialRecord(
            number=number,
            params=params,
            key=space.key(params),
            state=TrialState.COMPLETE,
            fidelity=full,
            curves=(Curve((Observation(1, {"value": float(rng.normal())}, 1.0, full),)),),
        )
        for number, params in enumerate(space.sample(n, rng))
    ]


def timed(ask: Callable[[int], Any]) -> dict[str, float]:
    """Milliseconds of ``ask(k)`` for k = 1 … ASKS, after a first one that fills caches."""
    milliseconds = []
    for k in range(ASKS + 1):
        began = time.process_time()
        ask(k)
        milliseconds.append(1e3 * (time.process_time() - began))
    values = milliseconds[1:]
    return {"median": round(float(np.median(values)), 2), "p90": round(float(np.quantile(values, 0.9)), 2)}


def here(
    space: spaces.Space, sampler: samplers.Sampler, records: list[TrialRecord], n: int
) -> dict[str, float]:
    views = [StudyView(tuple(records[: n + k]), AXES) for k in range(ASKS + 1)]
    return timed(lambda k: sampler.sample(space, views[k], np.random.default_rng(k)))


def alone(space: spaces.Space, records: list[TrialRecord], n: int) -> dict[str, float]:
    """Optuna's TPE as its users run it: suggestions define-by-run on its in-memory storage, and a tell."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parameters = Distributions(space)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    for record in records[:n]:
        params, distributions = parameters.internal(record.params)
        value = record.values["value"]
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=value))

    def ask(k: int) -> None:
        trial = study.ask()
        parameters.suggest(trial)
        study.tell(trial, records[n + k].values["value"])

    return timed(ask)


def study_share(space: spaces.Space, records: list[TrialRecord], n: int) -> float:
    """Milliseconds that asking and telling cost a study in a file, its sampler left out; median."""
    spent = 0.0

    class Timed:
        """A sampler that knows how long it took."""

        seed = None

        def sample(self, *arguments: Any) -> Any:
            nonlocal spent
            began = time.process_time()
            params = sampler.sample(*arguments)
            spent += 1e3 * (time.process_time() - began)
            return params

        def to_dict(self) -> dict[str, Any]:
            return sampler.to_dict()

    sampler = samplers.RandomSampler()
    with tempfile.TemporaryDirectory() as folder:
        study = bonas.create_study(
            space=space, sampler=Timed(), storage=f"sqlite:///{folder}/study.db", study_name="s", seed=0
        )
        for record in records[:n]:
            study.add_trial(record)
        milliseconds = []
        for k in range(ASKS + 1):
            spent, began = 0.0, time.process_time()
            trial = study.ask()
            assert trial is not None
            study.tell(trial, records[n + k].values["value"])
            milliseconds.append(1e3 * (time.process_time() - began) - spent)
    return float(np.median(milliseconds[1:]))


def main() -> None:
    space = spaces.chain(input_shape=(1, 28, 28), n_classes=10).with_hyperparameters()
    records = histories(space, max(TRIALS) + ASKS + 1)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, make in SAMPLERS.items():
        results[name] = {str(n): here(space, make(), records, n) for n in TRIALS}
    results["Optuna TPE alone (ask and tell)"] = {str(n): alone(space, records, n) for n in TRIALS}
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("numpy", "scikit-learn", "smac", "optuna", "ConfigSpace")
    )
    active = np.median([len(record.params) for record in records])
    conditions = (
        f"{len(space.configuration_space)} hyperparameters, {active:.0f} of them active in the median trial; "
        f"Python {platform.python_version()}, {packages}; {platform.machine()}, {os.cpu_count()} cores."
    )
    lines = [
        "Processor milliseconds per ask, median (90th percentile), chain space with hyperparameters.",
        "",
        "| method | " + " | ".join(f"{n:,} trials" for n in TRIALS) + " |",
        "|---|" + "---|" * len(TRIALS),
    ]
    for name, by_trials in results.items():
        cells = [f"{r['median']:.1f} ({r['p90']:.1f})" for r in by_trials.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    shares = {str(n): study_share(space, records, n) for n in TRIALS if n <= 1000}
    told = ", ".join(f"{ms:.1f} ms at {int(n):,} trials" for n, ms in shares.items())
    part = max(shares.values()) / (1e3 * EVALUATION)
    study = (
        f"A study in a file, ask and tell, its sampler apart: {told}; {part:.2%} of {EVALUATION:g} s at most."
    )
    table = "\n".join([*lines, "", study, "", conditions])
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "ask_time.json").write_text(
        json.dumps({"conditions": conditions, "ms": results, "study": shares}, indent=1) + "\n"
    )
    (RESULTS / "ask_time.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
