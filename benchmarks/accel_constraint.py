"""Searching Accel-NASBench where nine tenths of the networks are too slow: what is evaluated, what is found.

    BONAS_BENCHMARKS=<folder of the tables> python benchmarks/accel_constraint.py

The limit is the latency on a ZCU102 that a tenth of the table's networks keep. It is not computed from a
configuration but measured, before training: what exceeds it is recorded as infeasible and never evaluated,
as in a study, and costs none of the 100 evaluations. *Constrained* searches draw on the whole table and
learn where the limit holds; *feasible part alone* ones on a table of nothing but the feasible networks. Both
are told the network of the table nearest to the one they propose. Regret is that against the best feasible
network, in percentage points of ImageNet accuracy. Interrupted, it goes on where it stopped, and runs of an
earlier version of a sampler are made again; results lie, one run a line, in
``results/accel_constraint.jsonl``, the table in ``results/accel_constraint.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes below share the cores already

import _runs
import _tables
import numpy as np
from search import methods, tasks

from bonas import samplers
from fidelity.records import StudyView, TrialRecord, TrialState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from search.task import Task

RESULTS = Path(__file__).parent / "results" / "accel_constraint.jsonl"
EVALUATIONS, SHARE = 100, 0.1
AFTER = (30, 100)
SAMPLERS = {
    "ForestSampler": samplers.ForestSampler,
    "TPESampler": samplers.TPESampler,
    "RandomSampler": samplers.RandomSampler,
}


class Limit:
    """An upper bound on a latency that has to be measured."""

    def load(self, params: Mapping[str, Any]) -> float:
        """Nothing can be counted."""
        return 0.0

    def excess(self, trial: TrialRecord) -> float:
        return math.log(trial.figures["latency"] / limit())


@cache
def limit() -> float:
    return float(np.quantile(tasks.accel_latency(math.inf), SHARE, method="lower"))


@cache
def pool(*, feasible: bool) -> tuple[Task, np.ndarray]:
    """The table and its latencies."""
    most = limit() if feasible else math.inf
    return tasks.accel(most), tasks.accel_latency(most)


@cache
def code(name: str) -> str:
    """Changes when the sampler decides otherwise."""
    return methods.behaviour(SAMPLERS[name]())


def evaluate(name: str, alone: bool, seed: int) -> dict[str, Any]:
    """One search."""
    sampler = SAMPLERS[name]()
    table, latency = pool(feasible=alone)
    records: list[TrialRecord] = []
    visited: list[int] = []
    evaluated: list[int] = []
    while len(evaluated) < EVALUATIONS and len(visited) < len(table):
        view = StudyView(
            tuple(records), methods.AXES, directions=("maximize",), bounds=None if alone else Limit()
        )
        params = sampler.sample(table.space, view, np.random.default_rng([seed, len(records)]))
        assert params is not None
        row = table.row(params, visited)
        visited.append(row)
        keeps = bool(latency[row] <= limit())
        record = methods.record(table.space, len(records), table.params(row), float(table.true(row)))
        state = TrialState.COMPLETE if keeps else TrialState.INFEASIBLE
        curves = record.curves if keeps else ()
        figures = {"latency": float(latency[row])}
        records.append(dataclasses.replace(record, state=state, curves=curves, figures=figures))
        if keeps:
            evaluated.append(row)
    best = table.true(range(len(table)))[latency <= limit()].max()
    accuracy = table.true(evaluated)
    return {
        "sampler": name,
        "alone": alone,
        "seed": seed,
        "code": code(name),
        "infeasible_evaluated": int((latency[evaluated] > limit()).sum()),
        "refused": len(visited) - len(evaluated),
        "refused_before_30": sum(t.state is TrialState.INFEASIBLE for t in records[: _position(records, 30)]),
        "regret": {str(n): round(float(best - accuracy[:n].max()), 4) for n in AFTER},
    }


def _position(records: list[TrialRecord], n: int) -> int:
    """How many trials there were when ``n`` of them had been evaluated."""
    done = np.cumsum([t.state is TrialState.COMPLETE for t in records])
    return int(np.searchsorted(done, n)) + 1


def report(records: list[dict[str, Any]]) -> list[str]:
    whole, latency = pool(feasible=False)
    feasible, _ = pool(feasible=True)
    accuracy = whole.true(range(len(whole)))
    lines = [
        f"At most {limit():.2f} ms on a ZCU102: {len(feasible)} of {len(whole):,} networks. The best of them "
        f"has {accuracy[latency <= limit()].max():.2f} %, the best of all {accuracy.max():.2f} %. Regret in "
        "percentage points against the best feasible one, mean ± standard error over "
        f"{len({r['seed'] for r in records})} seeds; *refused*: networks whose latency was measured and "
        "that were not evaluated.",
        "",
        "| search | infeasible evaluated | refused until 30 evaluations | until 100 | "
        + " | ".join(f"regret at {n}" for n in AFTER)
        + " |",
        "|---|---|---|---|" + "---|" * len(AFTER),
    ]
    for name in SAMPLERS:
        for alone in (False, True):
            mine = [r for r in records if r["sampler"] == name and r["alone"] == alone]
            if not mine:
                continue
            cells = [
                f"{sum(r['infeasible_evaluated'] for r in mine)} of {EVALUATIONS * len(mine):,}",
                _runs.mean([r["refused_before_30"] for r in mine], 0),
                _runs.mean([r["refused"] for r in mine], 0),
                *(_runs.mean([r["regret"][str(n)] for r in mine]) for n in AFTER),
            ]
            what = "feasible part alone" if alone else "constrained"
            lines.append(f"| {name}, {what} | {' | '.join(cells)} |")
        pairs = {
            alone: {r["seed"]: r["regret"] for r in records if r["sampler"] == name and r["alone"] == alone}
            for alone in (False, True)
        }
        both = sorted(pairs[True].keys() & pairs[False].keys())
        if both:
            cells = [
                _runs.mean([pairs[False][s][str(n)] - pairs[True][s][str(n)] for s in both]) for n in AFTER
            ]
            lines.append(f"| {name}, difference | | | | {' | '.join(cells)} |")
    return [*lines, "", _runs.conditions("numpy", "scikit-learn", "ConfigSpace")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--processes", type=int, default=2, choices=(1, 2))
    arguments = parser.parse_args()
    try:
        limit()
    except _tables.SkippedError as skipped:
        print(skipped)
        return 0
    records = [r for r in _runs.read(RESULTS) if r["sampler"] in SAMPLERS and r["code"] == code(r["sampler"])]
    present = {(r["sampler"], r["alone"], r["seed"]) for r in records}
    wanted = [
        (name, alone, seed)
        for seed in range(arguments.seeds)
        for name in arguments.samplers
        for alone in (False, True)
    ]
    missing = [one for one in wanted if one not in present]
    _runs.add(RESULTS, records, evaluate, missing, arguments.processes)
    records.sort(key=lambda r: (r["seed"], list(SAMPLERS).index(r["sampler"]), r["alone"]))
    _runs.write(RESULTS, records)
    lines = report([r for r in records if r["seed"] < arguments.seeds])
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
