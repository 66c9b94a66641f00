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
import json
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes below share the cores already

import _tables
import numpy as np

from bonas import samplers, spaces
from fidelity.axes import Axes
from fidelity.records import Curve, Observation, StudyView, TrialRecord, TrialState

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@cache
def _space() -> Any:
    return spaces.cell(preset="nas_bench_201")


def evaluate(method: str, dataset: int, seed: int) -> dict[str, Any]:
    """One search of 100 evaluations."""
    noise = np.random.default_rng([seed, dataset, 1])
    search = _alone(seed) if method == PEER else _bare(METHODS[method], seed)
    rows: list[int] = []
    losses: list[float] = []
    params: list[dict[str, Any]] = []
    milliseconds: list[float] = []
    value: float | None = None
    for _ in range(EVALUATIONS):
        began = time.process_time()
        proposed = search.send(value)
        milliseconds.append(1e3 * (time.process_time() - began))
        row = _table().row(proposed)
        value = _table().observe(row, dataset, noise)
        rows.append(row)
        params.append(proposed)
        losses.append(value)
    regret = _table().regret(np.array(rows), dataset)
    mean, _ = samplers.ForestSampler().posterior(_space(), _view(params, losses), params)
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


def _bare(settings: dict[str, Any], seed: int) -> Any:
    """A sampler of this project on records; yields configurations, is sent their values."""
    sampler = samplers.from_dict(settings)
    params: list[dict[str, Any]] = []
    values: list[float] = []

    def search() -> Iterator[dict[str, Any]]:
        records: list[TrialRecord] = []
        while True:
            view = StudyView(tuple(records), _AXES, directions=("maximize",))
            proposed = sampler.sample(_space(), view, np.random.default_rng([seed, len(records)]))
            assert proposed is not None
            value = yield proposed
            params.append(proposed)
            values.append(value)
            records.append(_record(len(records), proposed, value))

    return search()


_AXES = Axes()


def _record(number: int, params: dict[str, Any], value: float) -> TrialRecord:
    full = _AXES.full
    return TrialRecord(
        number=number,
        params=params,
        key=_space().key(params),
        state=TrialState.COMPLETE,
        fidelity=full,
        curves=(Curve((Observation(1, {"value": value}, 1.0, full),)),),
    )


def _view(params: list[dict[str, Any]], values: list[float]) -> StudyView:
    records = tuple(_record(i, p, v) for i, (p, v) in enumerate(zip(params, values, strict=True)))
    return StudyView(records, _AXES, directions=("maximize",))


def _alone(seed: int) -> Any:
    """Optuna as its users run it: six categoricals, ask and tell on its in-memory storage."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def search() -> Iterator[dict[str, Any]]:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        while True:
            trial = study.ask()
            operations = _table().OPERATIONS
            value = yield {f"edge{k}": trial.suggest_categorical(f"edge{k}", operations) for k in range(6)}
            study.tell(trial, value)

    return search()


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
                cells.append(_mean([r["visited"][n] if n.isdigit() else r[n] for r in mine]))
        asks = [r["ms_per_ask"] for r in records if r["method"] == method]
        lines.append(f"| {method} | {' | '.join(cells)} | {np.median(asks):.1f} |")
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("numpy", "scikit-learn", "smac", "optuna", "ConfigSpace")
    )
    lines += [
        "",
        f"Python {platform.python_version()}, {packages}; {os.cpu_count()} cores, one thread a search.",
    ]
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    if len(values) < 2:
        return "–" if not values else f"{values[0]:.2f}"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.2f}"


def _read(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # torn by an interruption; the run is made again
            continue


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
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    records = []
    if arguments.results.exists():
        # Runs with other settings than today's do not belong in the same table.
        records = [r for r in _read(arguments.results) if METHODS.get(r["method"]) == r["settings"]]
    wanted = [(m, d, s) for s in range(arguments.seeds) for m in METHODS for d in range(3)]
    present = {(r["method"], r["dataset"], r["seed"]) for r in records}
    open_runs = [(m, d, s) for m, d, s in wanted if (m, _table().datasets[d], s) not in present]
    with ProcessPoolExecutor(arguments.processes) as pool, arguments.results.open("a") as file:
        for done in as_completed([pool.submit(evaluate, *run) for run in open_runs]):
            records.append(done.result())
            file.write(json.dumps(records[-1]) + "\n")
            file.flush()
            print(f"{len(records)}/{len(wanted)}", end="\r", file=sys.stderr, flush=True)
    # The file in a fixed order, without runs of other settings.
    records = [r for r in records if r["seed"] < arguments.seeds]
    records.sort(key=lambda r: (list(METHODS).index(r["method"]), r["dataset"], r["seed"]))
    arguments.results.write_text("".join(json.dumps(r) + "\n" for r in records))
    table = _report(records, arguments.seeds)
    arguments.results.with_suffix(".md").write_text(table + "\n")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
