"""Trials to the optimum of a space with 25 conditional blocks: TPESampler and Optuna's TPE in its group mode.

    python benchmarks/tpe_conditional.py

Each of 25 blocks has a branch, ``kind`` a or b, and the child of the branch taken: ``a``, a number in [0, 1],
or ``b``, one in [0.001, 1] on a logarithmic scale: 75 hyperparameters, 50 of them active. u ∈ [0, 1] is the
child that is active in a block, on its scale.

*linked*: the loss is the mean of (u_i − u_{i+1})² over neighbouring blocks, as if the widths of consecutive
layers should agree, whichever operation a layer is. Its least value is 0, wherever all u are equal: what
makes a child good is what the children of other branches are. *apart*: the loss is the mean of (u_i − t_i)²,
with targets t_i ∈ [0, 1] drawn for each seed; its least value is 0 at the targets, and no child says anything
about another. Branches do not matter by themselves.

The optimum counts as reached at a loss of 1/60, a tenth of a prior draw's on average (1/6 in both problems).
Reported are the trials this took; a run that does not get there within ``--trials`` counts as that many, so
that ratios to such runs are too small. Milliseconds are processor time of one thread for an ask after 1,000
trials. Interrupted, it goes on where it stopped; results lie, one run a line, in
``results/tpe_conditional.jsonl``, the table in ``results/tpe_conditional.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one search a core

import ConfigSpace
import numpy as np
import optuna

from bonas import samplers, spaces
from bonas.samplers._optuna import Distributions
from fidelity.axes import Axes
from fidelity.records import Curve, Observation, StudyView, TrialRecord, TrialState

if TYPE_CHECKING:
    from collections.abc import Mapping

RESULTS = Path(__file__).parent / "results"
BLOCKS = 25
REACHED = 0.1 / 6
FIRST_SEED = 20  # those below were used to choose TPESampler's settings
AXES = Axes()
PROBLEMS = ("linked", "apart")
PEERS: dict[str, dict[str, Any]] = {
    "Optuna TPE, multivariate and group": {"multivariate": True, "group": True},
    "Optuna TPE, its default": {},
}
METHODS = ("RandomSampler", "TPESampler", *PEERS)


@cache
def space() -> spaces.Space:
    """25 blocks of a branch and the child of each branch."""
    built = ConfigSpace.ConfigurationSpace()
    for i in range(BLOCKS):
        kind = ConfigSpace.Categorical(f"kind_{i:02}", ["a", "b"])
        a = ConfigSpace.Float(f"a_{i:02}", (0.0, 1.0))
        b = ConfigSpace.Float(f"b_{i:02}", (1e-3, 1.0), log=True)
        built.add(kind, a, b)
        built.add(ConfigSpace.EqualsCondition(a, kind, "a"), ConfigSpace.EqualsCondition(b, kind, "b"))
    return spaces.Space(built)


def units(params: Mapping[str, Any]) -> np.ndarray:
    """The active child of each block on its scale, shape (25,)."""
    return np.array(
        [
            params[f"a_{i:02}"] if params[f"kind_{i:02}"] == "a" else 1 + np.log10(params[f"b_{i:02}"]) / 3
            for i in range(BLOCKS)
        ]
    )


def loss(problem: str, params: Mapping[str, Any], seed: int) -> float:
    """What is minimised; 0 at best."""
    u = units(params)
    if problem == "linked":
        return float(np.mean(np.diff(u) ** 2))
    targets = np.random.default_rng([seed, 1]).random(BLOCKS)
    return float(np.mean((u - targets) ** 2))


def record(number: int, params: dict[str, Any], value: float) -> TrialRecord:
    full = AXES.full
    curve = Curve((Observation(1, {"value": value}, 1.0, full),))
    return TrialRecord(number, params, space().key(params), TrialState.COMPLETE, full, curves=(curve,))


def search(method: str, problem: str, seed: int, trials: int) -> list[float]:
    """The losses of one search, up to the optimum."""
    losses: list[float] = []
    if method in PEERS:
        study, parameters = peer(method, seed), Distributions(space())
        while len(losses) < trials and min(losses, default=1.0) > REACHED:
            trial = study.ask()
            losses.append(loss(problem, parameters.suggest(trial), seed))
            study.tell(trial, losses[-1])
        return losses
    sampler = getattr(samplers, method)()
    records: list[TrialRecord] = []
    while len(losses) < trials and min(losses, default=1.0) > REACHED:
        rng = np.random.default_rng([seed, len(records)])
        params = sampler.sample(space(), StudyView(tuple(records), AXES), rng)
        losses.append(loss(problem, params, seed))
        records.append(record(len(records), params, losses[-1]))
    return losses


def peer(method: str, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, **PEERS[method]))


def ask_time(method: str, n: int = 1000, asks: int = 10) -> float:
    """Median milliseconds of processor time for an ask after ``n`` trials of the linked problem."""
    rng = np.random.default_rng(0)
    drawn = space().sample(n + asks + 1, rng)
    milliseconds = []
    if method in PEERS:
        study, parameters = peer(method, 0), Distributions(space())
        for params in drawn[:n]:
            values, distributions = parameters.internal(params)
            study.add_trial(
                optuna.create_trial(
                    params=values, distributions=distributions, value=loss("linked", params, 0)
                )
            )
        for params in drawn[n:]:
            began = time.process_time()
            trial = study.ask()
            parameters.suggest(trial)
            milliseconds.append(1e3 * (time.process_time() - began))
            study.tell(trial, loss("linked", params, 0))
    else:
        sampler = getattr(samplers, method)()
        records = [record(i, params, loss("linked", params, 0)) for i, params in enumerate(drawn)]
        for k in range(asks + 1):
            view = StudyView(tuple(records[: n + k]), AXES)
            began = time.process_time()
            sampler.sample(space(), view, np.random.default_rng(k))
            milliseconds.append(1e3 * (time.process_time() - began))
    return round(float(np.median(milliseconds[1:])), 1)  # the first fills caches


def together(n: int = 100) -> str:
    """How many hyperparameters are always active together, and so in one group of Optuna's."""
    drawn = space().sample(n, np.random.default_rng(0))
    groups = Counter(tuple(name in params for params in drawn) for name in space().names)
    sizes = Counter(groups.values())
    return ", ".join(f"{count} of {size}" for size, count in sorted(sizes.items(), reverse=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=600)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS / "tpe_conditional.jsonl")
    arguments = parser.parse_args()
    trials, seeds = arguments.trials, range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    wanted = [(m, p, s, trials) for s in seeds for p in PROBLEMS for m in METHODS]
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    found = {}
    if arguments.results.exists():
        for line in arguments.results.read_text().splitlines():
            run = json.loads(line)
            found[run["method"], run["problem"], run["seed"], run["limit"]] = run
    missing = [run for run in wanted if run not in found]
    with ProcessPoolExecutor(arguments.processes) as pool, arguments.results.open("a") as file:
        futures = {pool.submit(search, *run): run for run in missing}
        for done in as_completed(futures):
            method, problem, seed, limit = futures[done]
            losses = done.result()
            found[futures[done]] = {
                "method": method,
                "problem": problem,
                "seed": seed,
                "limit": limit,
                "trials": len(losses),
                "reached": min(losses) <= REACHED,
                "best": round(min(losses), 5),
            }
            file.write(json.dumps(found[futures[done]]) + "\n")
            file.flush()
    results = [found[run] for run in wanted]
    arguments.results.write_text("".join(json.dumps(run) + "\n" for run in results))
    table = report(results, {method: ask_time(method) for method in METHODS}, arguments)
    arguments.results.with_suffix(".md").write_text(table + "\n")
    print(table)


def report(results: list[dict[str, Any]], asks: dict[str, float], arguments: argparse.Namespace) -> str:
    lines = [
        f"Trials to the optimum, at most {arguments.trials}: median (quartiles) over {arguments.seeds} seeds "
        "[seeds that reached it].",
        "",
        "| method | " + " | ".join(PROBLEMS) + " | ms per ask at 1,000 trials |",
        "|---|" + "---|" * (len(PROBLEMS) + 1),
    ]
    medians: dict[tuple[str, str], float] = {}
    for method in METHODS:
        cells = []
        for problem in PROBLEMS:
            mine = [r for r in results if (r["method"], r["problem"]) == (method, problem)]
            low, median, high = np.quantile([r["trials"] for r in mine], (0.25, 0.5, 0.75))
            medians[method, problem] = float(median)
            cells.append(f"{median:.0f} ({low:.0f}–{high:.0f}) [{sum(r['reached'] for r in mine)}]")
        lines.append(f"| {method} | {' | '.join(cells)} | {asks[method]} |")
    group = next(iter(PEERS))
    ratios = [f"{medians[group, p] / medians['TPESampler', p]:.1f} ({p})" for p in PROBLEMS]
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "optuna", "ConfigSpace"))
    lines += [
        "",
        f"Trials of Optuna's group mode for one of TPESampler's, at least: {', '.join(ratios)}.",
        "",
        f"Sets of hyperparameters that Optuna's group mode models together: {together()}. TPESampler models "
        "all 50 active ones together.",
        "",
        f"`python benchmarks/tpe_conditional.py --seeds {arguments.seeds} --trials {arguments.trials}`; "
        f"Python {platform.python_version()}, {packages}; {platform.machine()}, {os.cpu_count()} cores, "
        "one thread a search.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
