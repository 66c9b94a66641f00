"""What a study gains from an earlier one on other data, and what one that has nothing to say costs it.

    BONAS_BENCHMARKS=<folder of the tables> python benchmarks/transfer.py

An earlier study evaluated 300 random cells of NAS-Bench-201 on one data set, each once; the new one searches
on another, 100 evaluations. *Warm* are studies made with ``warm_start=[earlier]``, *cold* ones without.
*Top five* evaluates the earlier study's five best observed cells and nothing else; *top five, then cold*
enqueues them in a cold study. *Unrelated* is warm, but the earlier study's values were dealt out to its cells
anew at random. Every evaluation observes one training run, its seed drawn with the same generator for every
arm; regret is that of the best cell evaluated, by its mean over seeds. Studies are real ones, kept in memory:
their first trial is the hand-written cell. Interrupted, it goes on where it stopped, and runs of an earlier
version of the default sampler are made again; results lie, one run a line, in ``results/transfer.jsonl``, the
table in ``results/transfer.md``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes below share the cores already

import _runs
import _tables
import numpy as np
from search import methods

import bonas
from bonas import samplers, spaces

RESULTS = Path(__file__).parent / "results" / "transfer.jsonl"
CELLS, EVALUATIONS, TOP = 300, 100, 5
AFTER = (10, 30, 100)
ARMS = {
    "cold": "forest",
    "warm": "forest",
    "warm, unrelated": "forest",
    "top five": "nothing",
    "top five, then cold": "forest",
    "TPE, cold": "TPE",
    "TPE, warm": "TPE",
    "TPE, warm, unrelated": "TPE",
}
SAMPLERS = {"forest": samplers.ForestSampler, "TPE": samplers.TPESampler}


@cache
def table() -> _tables.NasBench201:
    return _tables.nasbench201()


@cache
def space() -> spaces.Space:
    return spaces.cell(preset="nas_bench_201")


@cache
def code(name: str) -> str:
    """Changes when the sampler decides otherwise."""
    return methods.behaviour(SAMPLERS[name]()) if name in SAMPLERS else ""


def params(row: int) -> dict[str, Any]:
    return {f"edge{k}": table().OPERATIONS[op] for k, op in enumerate(table().operations[row].tolist())}


def earlier(source: int, seed: int, *, dealt_anew: bool) -> tuple[bonas.Study, list[dict[str, Any]]]:
    """A study of random cells, and those it observed the best values of, best first."""
    rng = np.random.default_rng([seed, source, 2])
    rows = rng.choice(len(table().operations), size=CELLS, replace=False).tolist()
    values = np.array([table().observe(row, source, rng) for row in rows])
    if dealt_anew:
        values = rng.permutation(values)
    cells = [params(row) for row in rows]
    study = bonas.create_study(space=space(), direction="maximize")
    for number, (cell, value) in enumerate(zip(cells, values, strict=True)):
        study.add_trial(methods.record(space(), number, space().validate(cell), float(value)))
    return study, [cells[i] for i in np.argsort(-values, kind="stable")]


def evaluate(arm: str, source: int, target: int, seed: int) -> dict[str, Any]:
    """One study, or the policy without one."""
    noise = np.random.default_rng([seed, source, target, 1])
    told, best = earlier(source, seed, dealt_anew="unrelated" in arm)
    began = time.process_time()
    if arm == "top five":
        rows = [table().row(cell) for cell in best[:TOP]]
    else:
        study = bonas.create_study(
            space=space(),
            direction="maximize",
            sampler=SAMPLERS[ARMS[arm]](),
            warm_start=[told] if "warm" in arm else [],
            seed=3 * seed + source,
        )
        for cell in best[:TOP] if arm.startswith("top five") else ():
            study.enqueue_trial(cell)
        rows = []

        def objective(trial: bonas.Trial) -> float:
            rows.append(table().row(trial.params))
            return table().observe(rows[-1], target, noise)

        study.optimize(objective, n_trials=EVALUATIONS)
    seconds = time.process_time() - began
    regret = table().regret(np.array(rows), target)
    return {
        "arm": arm,
        "code": code(ARMS[arm]),
        "source": table().datasets[source],
        "target": table().datasets[target],
        "seed": seed,
        "regret": {str(n): round(float(regret[:n].min()), 4) for n in AFTER},
        "seconds": round(seconds, 2),
    }


def report(records: list[dict[str, Any]]) -> list[str]:
    datasets = table().datasets
    seeds = len({r["seed"] for r in records})
    lines = [
        f"Regret in percentage points of mean validation accuracy after {', '.join(map(str, AFTER))} "
        f"evaluations, mean ± standard error over {seeds} seeds and the two other data sets as the earlier "
        "one.",
        "",
        "| | " + " | ".join(f"{d} at {n}" for n in AFTER for d in datasets) + " |",
        "|---|" + "---|" * (len(AFTER) * len(datasets)),
    ]
    for arm in ARMS:
        cells = []
        for n in AFTER:
            for dataset in datasets:
                mine = [r["regret"][str(n)] for r in records if r["arm"] == arm and r["target"] == dataset]
                cells.append(_runs.mean(mine))
        if any(r["arm"] == arm for r in records):
            lines.append(f"| {arm} | {' | '.join(cells)} |")
    lines += [
        "",
        "Differences over the same pairs and seeds, mean ± standard error; below 0 the first is better.",
        "",
        "| | " + " | ".join(f"at {n}" for n in AFTER) + " |",
        "|---|" + "---|" * len(AFTER),
    ]
    for one, other in (
        ("warm", "cold"),
        ("warm", "top five"),
        ("warm", "top five, then cold"),
        ("warm, unrelated", "cold"),
        ("TPE, warm", "TPE, cold"),
        ("TPE, warm, unrelated", "TPE, cold"),
    ):
        found = {
            a: {(r["source"], r["target"], r["seed"]): r["regret"] for r in records if r["arm"] == a}
            for a in (one, other)
        }
        both = sorted(found[one].keys() & found[other].keys())
        if both:
            cells = [
                _runs.mean([found[one][k][str(n)] - found[other][k][str(n)] for k in both]) for n in AFTER
            ]
            lines.append(f"| {one} − {other} | {' | '.join(cells)} |")
    lines += ["", _runs.conditions("numpy", "scikit-learn", "ConfigSpace")]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--processes", type=int, default=2, choices=(1, 2))
    arguments = parser.parse_args()
    try:
        table()
    except _tables.SkippedError as skipped:
        print(skipped)
        return 0
    warnings.simplefilter("error")
    records = [r for r in _runs.read(RESULTS) if r["arm"] in ARMS and r["code"] == code(ARMS[r["arm"]])]
    present = {(r["arm"], r["source"], r["target"], r["seed"]) for r in records}
    missing = [
        (arm, source, target, seed)
        for seed in range(arguments.seeds)
        for arm in arguments.arms
        for source, target in permutations(range(3), 2)
        if (arm, table().datasets[source], table().datasets[target], seed) not in present
    ]
    _runs.add(RESULTS, records, evaluate, missing, arguments.processes)
    records.sort(key=lambda r: (r["seed"], list(ARMS).index(r["arm"]), r["source"], r["target"]))
    _runs.write(RESULTS, records)
    lines = report([r for r in records if r["seed"] < arguments.seeds])
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
