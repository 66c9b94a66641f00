"""Searching Accel-NASBench where nine tenths of the networks are too large: what is evaluated, what is found.

    BONAS_BENCHMARKS=<folder of the tables> python benchmarks/accel_constraint.py

The limit is one on multiply-accumulates that a tenth of the table's networks keep. They are counted before
training: they add up over the seven blocks, so the table's counts give those of every network of the space.
*Constrained* searches are given the limit, as ``constraints`` gives it in a study; *feasible part alone* ones
know of none and search a table of nothing but feasible networks. Both are told the feasible network of the
table nearest to the one they propose. Regret is that against the best feasible network, in percentage points
of ImageNet accuracy. Interrupted, it goes on where it stopped, and runs of an earlier version of a sampler
are made again; results lie, one run a line, in ``results/accel_constraint.jsonl``, the table in
``results/accel_constraint.md``.
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

from bonas import samplers, spaces
from bonas.feasibility import Feasibility, checked
from fidelity.records import StudyView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from search.task import Task

    from fidelity.records import TrialRecord

RESULTS = Path(__file__).parent / "results" / "accel_constraint.jsonl"
EVALUATIONS, SHARE = 100, 0.1
AFTER = (30, 100)
SAMPLERS = {
    "ForestSampler": samplers.ForestSampler,
    "TPESampler": samplers.TPESampler,
    "RandomSampler": samplers.RandomSampler,
}


@cache
def whole() -> Task:
    return tasks.accel(math.inf)


def _blocks(params: Mapping[str, Any]) -> np.ndarray:
    """A network as one of 48 kinds for each of its seven blocks, one-hot."""
    hot = np.zeros((7, 48))
    for k in range(7):
        kind = np.ravel_multi_index(
            (
                params[f"expansion{k}"],
                params[f"kernel{k}"],
                params[f"layers{k}"],
                params[f"squeeze{k}"] == "yes",
            ),
            (3, 2, 4, 2),
        )
        hot[k, kind] = 1
    return hot.ravel()


@cache
def _macs_of_blocks() -> np.ndarray:
    """Of every kind of block, such that their sums are the table's counts."""
    networks = np.stack([_blocks(params) for params in whole().rows])
    counts = 1e6 * tasks.accel_macs(math.inf)
    found, *_ = np.linalg.lstsq(networks, counts, rcond=None)
    assert np.abs(networks @ found - counts).max() < 1e3
    return found


def macs(params: Mapping[str, Any]) -> float:
    return float(_blocks(params) @ _macs_of_blocks())


def count(params: Mapping[str, Any], prune: bool = True) -> spaces.Count:
    return spaces.Count(parameters=0, macs=round(macs(params)))


@cache
def limit() -> int:
    counts = [round(macs(params)) for params in whole().rows]
    return int(np.quantile(counts, SHARE, method="lower"))


@cache
def feasible() -> Task:
    """The table's networks that keep the limit, in the space that can count them."""
    rows = [i for i, params in enumerate(whole().rows) if round(macs(params)) <= limit()]
    return dataclasses.replace(
        whole(),
        space=spaces.Space(whole().space.configuration_space, count=count),
        rows=[whole().rows[i] for i in rows],
        values=whole().values[rows],
        seconds=None,
    )


@cache
def code(name: str) -> str:
    """Changes when the sampler decides otherwise."""
    return methods.behaviour(SAMPLERS[name]())


def evaluate(name: str, alone: bool, seed: int) -> dict[str, Any]:
    """One search."""
    sampler, table = SAMPLERS[name](), feasible()
    bounds = (
        None if alone else Feasibility(table.space, checked({"macs": limit()}, table.space), methods.AXES)
    )
    records: list[TrialRecord] = []
    rows: list[int] = []
    infeasible = 0
    for number in range(EVALUATIONS):
        view = StudyView(tuple(records), methods.AXES, directions=("maximize",), bounds=bounds)
        params = sampler.sample(table.space, view, np.random.default_rng([seed, number]))
        assert params is not None
        infeasible += round(macs(params)) > limit()
        rows.append(table.row(params, rows))
        records.append(
            methods.record(table.space, number, table.params(rows[-1]), float(table.true(rows[-1])))
        )
    regret = table.regret(rows)
    return {
        "sampler": name,
        "alone": alone,
        "seed": seed,
        "code": code(name),
        "infeasible": infeasible,
        "regret": {str(n): round(float(regret[:n].min()), 4) for n in AFTER},
    }


def report(records: list[dict[str, Any]]) -> list[str]:
    best, best_of_all = (float(np.max(task.true(range(len(task))))) for task in (feasible(), whole()))
    lines = [
        f"At most {limit() / 1e6:.0f} million multiply-accumulates: {len(feasible())} of {len(whole()):,} "
        f"networks. The best of them has {best:.2f} %, the best of all {best_of_all:.2f} %. Regret in "
        f"percentage points against the best feasible one, mean ± standard error over "
        f"{len({r['seed'] for r in records})} seeds.",
        "",
        "| search | infeasible proposals | " + " | ".join(f"regret at {n}" for n in AFTER) + " |",
        "|---|---|" + "---|" * len(AFTER),
    ]
    for name in SAMPLERS:
        regrets = {}
        for alone in (False, True):
            mine = [r for r in records if r["sampler"] == name and r["alone"] == alone]
            regrets[alone] = {r["seed"]: r["regret"] for r in mine}
            cells = [
                f"{sum(r['infeasible'] for r in mine)} of {EVALUATIONS * len(mine):,}",
                *(_runs.mean([r["regret"][str(n)] for r in mine]) for n in AFTER),
            ]
            what = "feasible part alone" if alone else "constrained"
            if mine:
                lines.append(f"| {name}, {what} | {' | '.join(cells)} |")
        both = sorted(regrets[True].keys() & regrets[False].keys())
        if both:
            cells = [
                _runs.mean([regrets[False][s][str(n)] - regrets[True][s][str(n)] for s in both])
                for n in AFTER
            ]
            lines.append(f"| {name}, difference | | {' | '.join(cells)} |")
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
