"""Search quality on NAS-Bench-201, and what an ask costs: every sampler here, random, and Optuna's TPE alone.

    BONAS_BENCHMARKS=<folder of the tables> python benchmarks/nasbench201.py

Every evaluation observes one training run of the cell, its seed drawn with the same generator for every
method. *Visited* regret is that of the best cell evaluated, by its mean over seeds; *recommended* that of
the cell a forest, fitted to what the method observed, believes best. Samplers run on bare records, without
a study: no store, no hand-written first trial. Asks run in one thread and are measured in processor time,
which hardly depends on what else the machine does. Interrupted, it goes on where it stopped; results lie,
one run a line, in ``results/nasbench201.jsonl``, the table in ``results/nasbench201.md``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes below share the cores already

import _runs
import _searches
import _tables
import numpy as np

from bonas import samplers
from fidelity.records import StudyView

if TYPE_CHECKING:
    pass

RESULTS = Path(__file__).parent / "results"
EVALUATIONS = 100
PEER = "Optuna TPE alone"
METHODS: dict[str, dict[str, Any]] = {
    "RandomSampler": {"name": "RandomSampler"},
    "ForestSampler": samplers.ForestSampler().to_dict(),
    "TPESampler": samplers.TPESampler().to_dict(),
    "SMACSampler": samplers.SMACSampler().to_dict(),
    "OptunaSampler (TPE)": samplers.OptunaSampler().to_dict(),
    PEER: {"name": PEER},
}


@cache
def _table() -> _tables.NasBench201:
    return _tables.nasbench201()


def evaluate(method: str, dataset: int, seed: int) -> dict[str, Any]:
    """One search of 100 evaluations."""
    noise = np.random.default_rng([seed, dataset, 1])
    search = _search(method, seed)
    rows: list[int] = []
    losses: list[float] = []
    params: list[dict[str, Any]] = []
    milliseconds: list[float] = []
    for _ in range(EVALUATIONS):
        began = time.process_time()
        if losses:
            search.tell(losses[-1])
        proposed = search.ask()
        milliseconds.append(1e3 * (time.process_time() - began))
        assert proposed is not None
        row = _table().row(proposed)
        rows.append(row)
        params.append(proposed)
        losses.append(_table().observe(row, dataset, noise))
    regret = _table().regret(np.array(rows), dataset)
    trials = tuple(
        _searches.record(i, p, {"value": v}) for i, (p, v) in enumerate(zip(params, losses, strict=True))
    )
    view = StudyView(trials, _searches.AXES, directions=("maximize",))
    mean, _ = samplers.ForestSampler().posterior(_searches.space(), view, params)
    return {
        "method": method,
        "settings": METHODS[method],
        "dataset": _table().datasets[dataset],
        "seed": seed,
        "visited": {str(n): round(float(regret[:n].min()), 4) for n in (10, 30, 50, 100)},
        "observed": round(float(regret[int(np.argmax(losses))]), 4),
        "recommended": round(float(regret[int(np.argmin(mean))]), 4),
        "ms_per_ask": round(float(np.median(milliseconds)), 2),
    }


def _search(method: str, seed: int) -> _searches.Search:
    if method != PEER:
        return _searches.Bare(samplers.from_dict(METHODS[method]), seed, {"value": "maximize"})
    import optuna

    return _searches.Alone(optuna.samplers.TPESampler(seed=seed), ["maximize"])


def _report(records: list[dict[str, Any]], seeds: int) -> str:
    datasets = _table().datasets
    head = [f"{d} at {n}" for n in (30, 100) for d in datasets] + [f"{d} recommended" for d in datasets]
    lines = [
        f"Regret in percentage points of mean validation accuracy, mean ± standard error over {seeds} seeds.",
        "",
        "| method | " + " | ".join(head) + " | ms per ask |",
        "|---|" + "---|" * (len(head) + 1),
    ]
    for method in METHODS:
        cells = []
        for n in ("30", "100", "recommended"):
            for dataset in datasets:
                mine = [r for r in records if r["method"] == method and r["dataset"] == dataset]
                cells.append(_runs.mean([r["visited"][n] if n.isdigit() else r[n] for r in mine]))
        asks = [r["ms_per_ask"] for r in records if r["method"] == method]
        lines.append(f"| {method} | {' | '.join(cells)} | {np.median(asks):.1f} |")
    lines += ["", _runs.conditions("numpy", "scikit-learn", "smac", "optuna", "ConfigSpace")]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2, choices=(1, 2))
    parser.add_argument("--results", type=Path, default=RESULTS / "nasbench201.jsonl")
    arguments = parser.parse_args()
    try:
        _table()
    except _tables.SkippedError as skipped:
        print(skipped)
        return 0
    # Runs with other settings than today's do not belong in the same table.
    records = [r for r in _runs.read(arguments.results) if METHODS.get(r["method"]) == r["settings"]]
    wanted = [(m, d, s) for s in range(arguments.seeds) for m in METHODS for d in range(3)]
    present = {(r["method"], r["dataset"], r["seed"]) for r in records}
    open_runs = [(m, d, s) for m, d, s in wanted if (m, _table().datasets[d], s) not in present]
    _runs.add(arguments.results, records, evaluate, open_runs, arguments.processes)
    # The file in a fixed order, without runs of other settings.
    records = [r for r in records if r["seed"] < arguments.seeds]
    records.sort(key=lambda r: (list(METHODS).index(r["method"]), r["dataset"], r["seed"]))
    _runs.write(arguments.results, records)
    table = _report(records, arguments.seeds)
    arguments.results.with_suffix(".md").write_text(table + "\n")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
