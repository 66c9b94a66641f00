"""Searching where a tenth of the networks is feasible: what is evaluated, what is found, what an ask costs.

    BONAS_BENCHMARKS=<folder of the tables> python benchmarks/constraints.py

On NAS-Bench-201 the parameters are bounded such that about a tenth of its distinct networks keep the bound.
(A tenth of the prior keeps a bound that leaves none but the 48 networks without any convolution in their
cells, which every search is to evaluate one after the other, and then end.) Every evaluation observes one
training run of a cell, its seed drawn with the same generator for every method; *regret* is the difference
between the best feasible cell of the table and the best one evaluated, in percentage points of mean
validation accuracy. Samplers run on bare records, without a study's hand-written first trial, which keeps to
no bound. Then asks in the chain space with a tenth of its prior feasible, at 1,000 trials. Takes about five
minutes on one core and goes on where it stopped; results lie, one run a line, in
``results/constraints.jsonl``, the tables in ``results/constraints.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import _runs
import _tables
import ask_time
import numpy as np
from _searches import AXES, Bare, space

from bonas import samplers, spaces
from bonas.feasibility import Feasibility, checked
from fidelity.records import Curve, Observation, StudyView, TrialRecord, TrialState

RESULTS = Path(__file__).parent / "results" / "constraints.jsonl"
EVALUATIONS = 100
SHARE = 0.1
METHODS = {
    "RandomSampler": {"name": "RandomSampler"},
    "ForestSampler": samplers.ForestSampler().to_dict(),
    "TPESampler": samplers.TPESampler().to_dict(),
    "SMACSampler": samplers.SMACSampler().to_dict(),
}


@cache
def table() -> _tables.NasBench201:
    return _tables.nasbench201()


@cache
def parameters() -> np.ndarray:
    """Of every cell of the table, shape (cells,)."""
    names = table().OPERATIONS
    return np.array(
        [
            space().count({f"edge{k}": names[o] for k, o in enumerate(row)}).parameters
            for row in table().operations.tolist()
        ]
    )


@cache
def keys() -> list[str]:
    """Of every cell of the table, the same for equal networks."""
    names = table().OPERATIONS
    cells = table().operations.tolist()
    return [space().key({f"edge{k}": names[o] for k, o in enumerate(row)}) for row in cells]


@cache
def bound(*, of_the_prior: bool = False) -> int:
    """The number of parameters that about a tenth of the networks, or of all cells, does not exceed."""
    each = parameters() if of_the_prior else list(dict(zip(keys(), parameters(), strict=True)).values())
    return int(np.quantile(each, SHARE, method="lower"))


def evaluate(method: str, dataset: int, seed: int, most: int) -> dict[str, Any]:
    """One search of 100 evaluations among the cells with at most so many parameters."""
    bounds = Feasibility(space(), checked({"parameters": most}, space()), AXES)
    search = Bare(samplers.from_dict(METHODS[method]), seed, {"value": "maximize"}, bounds)
    noise = np.random.default_rng([seed, dataset, 1])
    rows: list[int] = []
    milliseconds = []
    for _ in range(EVALUATIONS):
        began = time.process_time()
        params = search.ask()
        milliseconds.append(1e3 * (time.process_time() - began))
        if params is None:  # all are evaluated
            break
        row = table().row(params)
        rows.append(row)
        search.tell(table().observe(row, dataset, noise))
    feasible = parameters() <= most
    regret = table().regret(np.arange(len(feasible)), dataset)
    regret = regret - regret[feasible].min()
    return {
        "method": method,
        "settings": METHODS[method],
        "dataset": table().datasets[dataset],
        "seed": seed,
        "bound": most,
        "networks": len({keys()[row] for row in rows}),
        "infeasible": int((~feasible[rows]).sum()),
        "regret": {str(n): round(float(regret[rows[:n]].min()), 4) for n in (30, 100)},
        "ms_per_ask": round(float(np.median(milliseconds)), 2),
    }


def asks() -> list[tuple[str, dict[str, float], dict[str, float]]]:
    """Milliseconds an ask of every sampler in the chain space at 1,000 trials, without and with bounds."""
    chain = spaces.chain(input_shape=(1, 28, 28), n_classes=10).with_hyperparameters()
    drawn = chain.sample(500, np.random.default_rng(1))
    most = float(np.quantile([chain.count(params).parameters for params in drawn], SHARE))
    constraints = checked({"parameters": most, "macs": 1e9, "memory": 1e10}, chain)
    records = []
    generator = np.random.default_rng(2)
    while len(records) < 1000 + ask_time.ASKS + 1:
        feasible = (p for p in chain.sample(500, generator) if chain.count(p).parameters <= most)
        records += [record(chain, len(records) + i, params, generator) for i, params in enumerate(feasible)]
    found = []
    for name, make in ask_time.SAMPLERS.items():
        times = []
        for bounds in (None, Feasibility(chain, constraints, AXES)):
            sampler = make()
            views = [
                StudyView(tuple(records[: 1000 + k]), AXES, bounds=bounds) for k in range(ask_time.ASKS + 1)
            ]
            times.append(
                ask_time.timed(lambda k, s=sampler, v=views: s.sample(chain, v[k], np.random.default_rng(k)))
            )
        found.append((name, *times))
    return found


def record(chain: spaces.Space, number: int, params: dict[str, Any], rng: np.random.Generator) -> TrialRecord:
    curve = Curve((Observation(1, {"value": float(rng.normal())}, 1.0, AXES.full),))
    key = chain.key(params)
    return TrialRecord(number, params, key, TrialState.COMPLETE, AXES.full, curves=(curve,))


def report(records: list[dict[str, Any]], seeds: int) -> list[str]:
    feasible = parameters() <= bound()
    kept = [key for key, keeps in zip(keys(), feasible, strict=True) if keeps]
    every = np.arange(len(feasible))
    best = [table().regret(every, d)[feasible].min() for d in range(3)]
    noise = np.nanstd(table().accuracy[feasible], axis=2, ddof=1).mean(axis=0)
    datasets = table().datasets
    lines = [
        f"At most {bound():,} parameters: {len(set(kept))} of {len(set(keys())):,} networks, "
        f"{feasible.mean():.1%} of the {len(feasible):,} cells. "
        "The best feasible cell is "
        + ", ".join(f"{b:.2f} ({d})" for b, d in zip(best, datasets, strict=True))
        + " points below the best of all. One training's standard deviation over seeds: "
        + ", ".join(f"{n:.2f}" for n in noise)
        + f". Regret against the best feasible cell, mean ± standard error over {seeds} seeds.",
        "",
        "| method | infeasible evaluated | "
        + " | ".join(f"{d} at {n}" for n in (30, 100) for d in datasets)
        + " | ms per ask |",
        "|---|" + "---|" * 8,
    ]
    for method in METHODS:
        mine = [r for r in records if r["method"] == method]
        if not mine:
            continue
        cells = [
            _runs.mean([r["regret"][n] for r in mine if r["dataset"] == d])
            for n in ("30", "100")
            for d in datasets
        ]
        outside = f"{sum(r['infeasible'] for r in mine)} of {EVALUATIONS * len(mine):,}"
        median = np.median([r["ms_per_ask"] for r in mine])
        lines.append(f"| {method} | {outside} | {' | '.join(cells)} | {median:.1f} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no search after so many")
    arguments = parser.parse_args()
    try:
        table()
    except _tables.SkippedError as skipped:
        print(skipped)
        return 0
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    records = [
        r for r in _runs.read(RESULTS) if METHODS.get(r["method"]) == r["settings"] and r["bound"] == bound()
    ]
    present = {(r["method"], r["dataset"], r["seed"]) for r in records}
    began = time.monotonic()
    with RESULTS.open("a") as file:
        for seed in range(arguments.seeds):
            for method in METHODS:
                for d, dataset in enumerate(table().datasets):
                    if (method, dataset, seed) in present:
                        continue
                    if time.monotonic() - began > arguments.seconds:
                        print(f"{len(records)} searches are there; run it again for the others.")
                        return 0
                    records.append(evaluate(method, d, seed, bound()))
                    file.write(json.dumps(records[-1]) + "\n")
                    file.flush()
    records.sort(key=lambda r: (list(METHODS).index(r["method"]), r["dataset"], r["seed"]))
    _runs.write(RESULTS, records)
    lines = report([r for r in records if r["seed"] < arguments.seeds], arguments.seeds)
    most = bound(of_the_prior=True)
    found = {m: evaluate(m, 0, 0, most) for m in METHODS}
    ended = ", ".join(f"{m} {r['networks']} ({r['infeasible']})" for m, r in found.items())
    lines += [
        "",
        f"A tenth of the prior keeps a bound of {most:,}. Networks evaluated before a search under it found "
        f"no other, and infeasible ones among them: {ended}.",
    ]
    lines += [
        "",
        "Processor milliseconds of an ask, median (90th percentile), in the chain space with hyperparameters "
        "at 1,000 trials; bounded are parameters, such that a tenth of the prior is feasible, "
        "multiply-accumulates and memory.",
        "",
        "| sampler | without bounds | with bounds |",
        "|---|---|---|",
    ]
    for name, without, within in asks():
        cells = (f"{t['median']:.1f} ({t['p90']:.1f})" for t in (without, within))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", _runs.conditions("numpy", "scikit-learn", "smac", "optuna")]
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
