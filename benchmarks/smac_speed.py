"""SMACSampler against SMAC's own facade: seconds for 300 trials, and regret, in one run.

    BONAS_BENCHMARKS=<folder of the tables> python benchmarks/smac_speed.py

Both search NAS-Bench-201 as six categorical hyperparameters (every evaluation observes one training run, its
seed drawn), and a made-up conditional problem with a known optimum: the blocks of ``tpe_conditional.py``, six
of them, linked and apart at once. The facade is ``HyperparameterOptimizationFacade`` as its users run it:
its settings, a deterministic scenario of 300 trials, ask and tell, its run history in a temporary folder.
SMACSampler runs on bare records. Seconds are processor time of one thread for all asks and tells; the
objective costs nothing. Without the tables only the made-up problem runs. Interrupted, it goes on where it
stopped; results lie, one run a line, in ``results/smac_speed.jsonl``, the table in ``results/smac_speed.md``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import tempfile
import time
import warnings
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

os.environ.setdefault("OMP_NUM_THREADS", "1")

import _tables
import ConfigSpace
import numpy as np

from bonas import samplers, spaces
from fidelity.axes import Axes
from fidelity.records import Curve, Observation, StudyView, TrialRecord, TrialState

if TYPE_CHECKING:
    from collections.abc import Mapping

RESULTS = Path(__file__).parent / "results"
AXES = Axes()
FACADE, OURS = "SMAC's facade", "SMACSampler"
BLOCKS = 6


class Problem(Protocol):
    name: str
    space: spaces.Space

    def observe(self, params: Mapping[str, Any], rng: np.random.Generator) -> float:
        """What an evaluation returns, smaller is better."""
        ...

    def regret(self, params: Mapping[str, Any]) -> float:
        """How much worse than the best."""
        ...


class Table:
    """One data set of NAS-Bench-201."""

    def __init__(self, table: _tables.NasBench201, dataset: int) -> None:
        self.name = f"NAS-Bench-201, {table.datasets[dataset]} (points)"
        self.space = spaces.cell(preset="nas_bench_201")
        self._table, self._dataset = table, dataset

    def observe(self, params: Mapping[str, Any], rng: np.random.Generator) -> float:
        return -self._table.observe(self._table.row(params), self._dataset, rng)

    def regret(self, params: Mapping[str, Any]) -> float:
        return float(self._table.regret(np.array([self._table.row(params)]), self._dataset)[0])


class MadeUp:
    """Blocks with two branches; the children that are active should agree, and lie at 0.7 of their scale."""

    name = "made up, conditional (loss)"

    def __init__(self) -> None:
        built = ConfigSpace.ConfigurationSpace()
        for i in range(BLOCKS):
            kind = ConfigSpace.Categorical(f"kind_{i}", ["a", "b"])
            a = ConfigSpace.Float(f"a_{i}", (0.0, 1.0))
            b = ConfigSpace.Float(f"b_{i}", (1e-3, 1.0), log=True)
            built.add(kind, a, b)
            built.add(ConfigSpace.EqualsCondition(a, kind, "a"), ConfigSpace.EqualsCondition(b, kind, "b"))
        self.space = spaces.Space(built)

    def observe(self, params: Mapping[str, Any], rng: np.random.Generator) -> float:
        return self.regret(params)

    def regret(self, params: Mapping[str, Any]) -> float:
        u = [
            params[f"a_{i}"] if params[f"kind_{i}"] == "a" else 1 + np.log10(params[f"b_{i}"]) / 3
            for i in range(BLOCKS)
        ]
        return float(np.mean(np.diff(u) ** 2) + 0.5 * np.mean((np.array(u) - 0.7) ** 2))


@cache
def problems() -> tuple[Problem, ...]:
    try:
        table = _tables.nasbench201()
    except _tables.SkippedError as skipped:
        print(skipped)
        return (MadeUp(),)
    return (*(Table(table, d) for d in range(3)), MadeUp())


def ours(problem: Problem, seed: int, trials: int) -> tuple[float, list[float]]:
    """Seconds for all asks, and the regret of each trial."""
    noise = np.random.default_rng([seed, 1])
    sampler = samplers.SMACSampler()
    records: list[TrialRecord] = []
    regrets: list[float] = []
    seconds = 0.0
    full = AXES.full
    for number in range(trials):
        began = time.process_time()
        view = StudyView(tuple(records), AXES)
        params = sampler.sample(problem.space, view, np.random.default_rng([seed, number]))
        seconds += time.process_time() - began
        assert params is not None
        regrets.append(problem.regret(params))
        curve = Curve((Observation(1, {"value": problem.observe(params, noise)}, 1.0, full),))
        key = problem.space.key(params)
        records.append(TrialRecord(number, params, key, TrialState.COMPLETE, full, curves=(curve,)))
    return seconds, regrets


def facade(problem: Problem, seed: int, trials: int) -> tuple[float, list[float]]:
    """The same of SMAC's own ask and tell."""
    from smac import HyperparameterOptimizationFacade, Scenario
    from smac.runhistory.dataclasses import TrialValue

    noise = np.random.default_rng([seed, 1])
    regrets: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            problem.space.configuration_space,
            deterministic=True,
            n_trials=trials,
            seed=seed,
            output_directory=Path(folder),
        )
        smac = HyperparameterOptimizationFacade(
            scenario, lambda config, seed=0: 0.0, overwrite=True, logging_level=40
        )
        seconds = 0.0
        for _ in range(trials):
            began = time.process_time()
            info = smac.ask()
            seconds += time.process_time() - began
            params = problem.space.validate(dict(info.config))
            regrets.append(problem.regret(params))
            value = problem.observe(params, noise)
            began = time.process_time()
            smac.tell(info, TrialValue(cost=value))
            seconds += time.process_time() - began
    return seconds, regrets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--results", type=Path, default=RESULTS / "smac_speed.jsonl")
    arguments = parser.parse_args()
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    runs = []
    if arguments.results.exists():
        runs = [json.loads(line) for line in arguments.results.read_text().splitlines()]
    present = {(r["problem"], r["method"], r["seed"], r["trials"]) for r in runs}
    for seed, problem in itertools.product(range(arguments.seeds), problems()):
        # Taken in turns, so that whatever else the machine does meets both.
        for method, search in ((FACADE, facade), (OURS, ours)):
            if (problem.name, method, seed, arguments.trials) in present:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                seconds, regrets = search(problem, seed, arguments.trials)
            best = np.minimum.accumulate(regrets)
            run = {
                "problem": problem.name,
                "method": method,
                "seed": seed,
                "trials": arguments.trials,
                "seconds": round(seconds, 2),
                "regret": {str(n): round(float(best[n - 1]), 5) for n in marks(arguments.trials)},
            }
            runs.append(run)
            with arguments.results.open("a") as file:
                file.write(json.dumps(run) + "\n")
    runs = [r for r in runs if r["seed"] < arguments.seeds and r["trials"] == arguments.trials]
    table = report(runs, arguments)
    arguments.results.with_suffix(".md").write_text(table + "\n")
    print(table)


def marks(trials: int) -> tuple[int, int]:
    """The numbers of trials that regret is reported after."""
    return trials // 3, trials


def report(runs: list[dict[str, Any]], arguments: argparse.Namespace) -> str:
    lines = [
        f"{arguments.trials} trials: seconds of asks and tells, and regret of the best trial, mean ± "
        f"standard error over {arguments.seeds} seeds.",
        "",
        f"| problem | seconds, {FACADE} | seconds, {OURS} | ratio | "
        + " | ".join(f"regret at {n}, {m}" for n in marks(arguments.trials) for m in (FACADE, OURS))
        + " |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for problem in dict.fromkeys(r["problem"] for r in runs):
        of = {m: [r for r in runs if (r["problem"], r["method"]) == (problem, m)] for m in (FACADE, OURS)}
        seconds = {m: float(np.mean([r["seconds"] for r in of[m]])) for m in of}
        cells = [problem, *(f"{s:.1f}" for s in seconds.values()), f"{seconds[FACADE] / seconds[OURS]:.1f}"]
        cells += [_mean([r["regret"][str(n)] for r in of[m]]) for n in marks(arguments.trials) for m in of]
        lines.append(f"| {' | '.join(cells)} |")
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("smac", "scikit-learn", "ConfigSpace", "numpy")
    )
    lines += [
        "",
        f"`python benchmarks/smac_speed.py --seeds {arguments.seeds} --trials {arguments.trials}`; "
        f"Python {platform.python_version()}, {packages}; {platform.machine()}, {os.cpu_count()} cores, "
        "one thread.",
    ]
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.4f}"
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.4f}"


if __name__ == "__main__":
    main()
