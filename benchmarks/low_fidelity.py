"""What short trainings save: NAS-Bench-201 with 12 and 200 epochs as two rungs, through whole studies.

    BONAS_BENCHMARKS=<folder of the tables> python benchmarks/low_fidelity.py

A training of 12 epochs costs 12/200 of a full one and is a training of its own (``carry=()``); its value is
the one the table has, that of 200 epochs one noisy training run, its seed drawn. Studies are
``create_study`` and ``optimize`` as users call them, stored in memory, their first trial the space's
default. Regret is that of the best cell trained in full, by its mean over training runs. Interrupted, it
goes on where it stopped; results lie, one study a line, in ``results/low_fidelity.jsonl``, the table in
``results/low_fidelity.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import _runs
import _tables
import numpy as np

import bonas
from bonas import fidelity, samplers, spaces

RESULTS = Path(__file__).parent / "results"
SEEDS = 10
FULL, SHORT = fidelity.Axes(epochs=[200], carry=()), fidelity.Axes(epochs=[12, 200], carry=())
# Name → axes, sampler, scheduler, budget in full evaluations.
METHODS: dict[str, tuple[Any, Any, Any, float]] = {
    "all in full": (FULL, samplers.ForestSampler(), fidelity.FullFidelity(), 100),
    "the better of 2": (SHORT, samplers.ForestSampler(), fidelity.SuccessiveHalving(eta=2), 35),
    "the best of 4": (SHORT, samplers.ForestSampler(), fidelity.SuccessiveHalving(eta=4), 35),
    "random, the best of 8": (SHORT, samplers.RandomSampler(), fidelity.SuccessiveHalving(eta=8), 35),
}
COSTS = (10, 20, 35, 100)


@cache
def _table() -> _tables.NasBench201:
    return _tables.nasbench201()


def settings(method: str) -> list[Any]:
    """JSON-ready: what identifies a method."""
    _, sampler, scheduler, budget = METHODS[method]
    return [sampler.to_dict(), {"name": type(scheduler).__name__} | dataclasses.asdict(scheduler), budget]


def search(method: str, dataset: int, seed: int) -> dict[str, Any]:
    """One study; what it had reached after each full training, and what that had cost."""
    axes, sampler, scheduler, budget = METHODS[method]
    noise = np.random.default_rng([seed, dataset, 1])
    study = bonas.create_study(
        space=spaces.cell(preset="nas_bench_201"),
        axes=axes,
        direction="maximize",
        sampler=sampler,
        scheduler=scheduler,
        seed=seed,
    )
    spent = 0.0
    rows: list[int] = []
    costs: list[float] = []

    def objective(trial: bonas.Trial) -> float:
        nonlocal spent
        row = _table().row(trial.params)
        epochs = trial.fidelity.epochs
        spent += epochs / 200
        if epochs < 200:
            return float(_table().accuracy_12[row, dataset])
        rows.append(row)
        costs.append(round(spent, 2))
        return _table().observe(row, dataset, noise)

    study.optimize(objective, budget=budget)
    regret = np.minimum.accumulate(_table().regret(np.array(rows), dataset))
    return {
        "method": method,
        "settings": settings(method),
        "dataset": _table().datasets[dataset],
        "seed": seed,
        "costs": costs,
        "regret": [round(float(r), 4) for r in regret],
    }


def after(run: dict[str, Any], cost: float) -> float:
    """The regret reached at a cost; NaN if that was too little, or more than the study had."""
    reached = [
        regret for spent, regret in zip(run["costs"], run["regret"], strict=True) if spent <= cost + 1e-6
    ]
    return reached[-1] if reached and cost <= METHODS[run["method"]][3] else float("nan")


def report(records: list[dict[str, Any]]) -> str:
    datasets = _table().datasets
    lines = [
        "Regret in percentage points after the cost of so many full evaluations, CIFAR-10 / CIFAR-100 / "
        "ImageNet16-120, mean ± standard error.",
        "",
        "| trained in full | seeds | " + " | ".join(f"after {cost}" for cost in COSTS) + " |",
        "|---|---|" + "---|" * len(COSTS),
    ]
    for method in METHODS:
        cells = []
        for cost in COSTS:
            mine = [
                [after(r, cost) for r in records if r["method"] == method and r["dataset"] == d]
                for d in datasets
            ]
            known = all(values and np.isfinite(values).all() for values in mine)
            cells.append(" / ".join(_runs.mean(values) for values in mine) if known else "–")
        seeds = len({r["seed"] for r in records if r["method"] == method})
        lines.append(f"| {method} | {seeds} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _runs.conditions("numpy", "scipy", "scikit-learn", "ConfigSpace")])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    try:
        _table()
    except _tables.SkippedError as skipped:
        print(skipped)
        return 0
    path = RESULTS / "low_fidelity.jsonl"
    records = [
        r for r in _runs.read(path) if r["method"] in METHODS and r["settings"] == settings(r["method"])
    ]
    present = {(r["method"], r["dataset"], r["seed"]) for r in records}
    wanted = [(m, d, s) for s in range(arguments.seeds) for d in range(3) for m in METHODS]
    missing = [one for one in wanted if (one[0], _table().datasets[one[1]], one[2]) not in present]
    _runs.add(path, records, search, missing, arguments.processes)
    table = report([r for r in records if r["seed"] < arguments.seeds])
    (RESULTS / "low_fidelity.md").write_text(table + "\n")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
