"""Several objectives on NAS-Bench-201: accuracy against parameters or latency, here and by Optuna alone.

    BONAS_BENCHMARKS=<folder of the tables> python benchmarks/pareto.py
    BONAS_BENCHMARKS=<folder of the tables> python benchmarks/pareto.py --orders

*Share*: the hypervolume of the cells evaluated, by their mean accuracy over seeds, in percent of that of the
table's own front. Both metrics run linearly from their best to the reference, which is the median cell's
error and the largest number of parameters, or the longest latency, in the table. Every evaluation observes
one training run of a cell; parameters and latency are exact. Samplers run on bare records, without a study.
``--orders`` compares ways to rank the trials of a rung, the ground on which the scheduler's was chosen:
brackets of random cells are ranked by their separately trained 12 epochs and parameters, the best third is
promoted to 200 epochs, and what counts is the share after so many brackets.

Interrupted, it goes on where it stopped; runs lie, one a line, in ``results/pareto.jsonl``, tables in
``results/pareto.md`` and ``results/pareto_orders.md``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes below share the cores already

import _runs
import _searches
import _tables
import numpy as np

from fidelity.pareto import front_numbers, hypervolume, spread_order

RESULTS = Path(__file__).parent / "results"
EVALUATIONS = 100
# Data set and the objective beside accuracy.
PROBLEMS = (
    ("cifar10", "parameters"),
    ("cifar100", "parameters"),
    ("ImageNet16-120", "parameters"),
    ("cifar100", "latency"),
)
NSGA, NSGA_SMALL, TPE = "Optuna NSGA-II alone", "Optuna NSGA-II alone, population 20", "Optuna TPE alone"
ALONE = (NSGA, NSGA_SMALL, TPE)
BARE = ("RandomSampler", "ForestSampler", "TPESampler", "SMACSampler")
METHODS = (*BARE, *ALONE)


# What a set of cells is worth ---------------------------------------------------------------------


@cache
def _table() -> _tables.NasBench201:
    return _tables.nasbench201()


@cache
def truth(problem: tuple[str, str]) -> tuple[np.ndarray, np.ndarray, float]:
    """Losses of every cell, shape (cells, 2): mean error and size; the reference, and the front's volume."""
    name, second = problem
    dataset = _table().datasets.index(name)
    error = 100 - np.nanmean(_table().accuracy[:, dataset], axis=1, dtype=np.float64)
    losses = np.stack([error, getattr(_table(), second)[:, dataset]], axis=1)
    reference = np.array([np.median(error), losses[:, 1].max() * 1.001])
    best = losses.min(axis=0)
    scaled = (losses - best) / (reference - best)
    return scaled, np.ones(2), hypervolume(scaled, np.ones(2))


def share(rows: Any, problem: tuple[str, str]) -> float:
    """Percent of the table's hypervolume that some of its cells dominate."""
    losses, reference, volume = truth(problem)
    return 100 * hypervolume(losses[np.unique(rows)], reference) / volume


# Searching ----------------------------------------------------------------------------------------


def evaluate(method: str, problem: tuple[str, str], seed: int) -> dict[str, Any]:
    """One search of 100 evaluations."""
    name, second = problem
    dataset = _table().datasets.index(name)
    noise = np.random.default_rng([seed, dataset, 1])
    search = _search(method, seed)
    rows: list[int] = []
    milliseconds: list[float] = []
    values: tuple[float, float] | None = None
    for _ in range(EVALUATIONS):
        began = time.process_time()
        if values is not None:
            search.tell(*values)
        proposed = search.ask()
        milliseconds.append(1e3 * (time.process_time() - began))
        assert proposed is not None
        row = _table().row(proposed)
        rows.append(row)
        values = _table().observe(row, dataset, noise), float(getattr(_table(), second)[row, dataset])
    return {
        "method": method,
        "problem": list(problem),
        "seed": seed,
        "share": {str(n): round(share(rows[:n], problem), 3) for n in (30, 50, 100)},
        "ms_per_ask": round(float(np.median(milliseconds)), 2),
    }


def _search(method: str, seed: int) -> _searches.Search:
    if method in BARE:
        from bonas import samplers

        sampler = samplers.get(method.removesuffix("Sampler").lower())
        return _searches.Bare(sampler, seed, {"accuracy": "maximize", "size": "minimize"})
    import optuna

    alone = {
        NSGA: lambda: optuna.samplers.NSGAIISampler(seed=seed),
        NSGA_SMALL: lambda: optuna.samplers.NSGAIISampler(seed=seed, population_size=20),
        TPE: lambda: optuna.samplers.TPESampler(seed=seed),
    }
    return _searches.Alone(alone[method](), ["maximize", "minimize"])


# Ranking a rung -----------------------------------------------------------------------------------
#
# Each takes losses (n, 2), of which the first n_chosen rows were promoted before, and returns the row of the
# others to promote next.


def mean_rank(losses: np.ndarray, n_chosen: int) -> int:
    """The smallest mean rank over the metrics: a scalarisation."""
    ranks = losses[n_chosen:].argsort(axis=0, kind="stable").argsort(axis=0, kind="stable").sum(axis=1)
    return n_chosen + int(np.argmin(ranks))


def crowding(losses: np.ndarray, n_chosen: int) -> int:
    """Front first, then the greatest crowding distance among those that wait (NSGA-II)."""
    left = losses[n_chosen:]
    front = np.flatnonzero(front_numbers(left) == 0)
    distance = np.zeros(len(front))
    for column in left[front].T:
        order = np.argsort(column, kind="stable")
        span = (column[order[-1]] - column[order[0]]) or 1.0
        distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
        distance[order[[0, -1]]] = np.inf
    return n_chosen + int(front[np.argmax(distance)])


def net(scale: Callable[[np.ndarray], np.ndarray], beside: bool) -> Callable[[np.ndarray, int], int]:
    """Front first, then the farthest from what was promoted before, ``beside`` in earlier brackets too."""

    def choose(losses: np.ndarray, n_chosen: int) -> int:
        at, numbers = scale(losses), front_numbers(losses)
        rows = np.arange(n_chosen, len(losses))
        front = rows[numbers[n_chosen:] == numbers[n_chosen:].min()]
        if not n_chosen:
            return int(front[np.argmin(losses[front, 0])])
        gaps = np.linalg.norm(at[front][:, None] - at[None, :n_chosen], axis=2).min(axis=1)
        return int(front[np.argmax(gaps)])

    choose.beside = beside  # type: ignore[attr-defined]
    return choose


def by_range(losses: np.ndarray) -> np.ndarray:
    span = np.ptp(losses, axis=0)
    return (losses - losses.min(axis=0)) / np.where(span > 0, span, 1)


def by_rank(losses: np.ndarray) -> np.ndarray:
    return np.stack([np.searchsorted(np.sort(c), c) for c in losses.T], axis=1) / max(1, len(losses) - 1)


def volume(scale: Callable[[np.ndarray], np.ndarray], beside: bool) -> Callable[[np.ndarray, int], int]:
    """The greatest gain in hypervolume over what was promoted before; front and distance if none gains."""
    otherwise = net(scale, beside)

    def choose(losses: np.ndarray, n_chosen: int) -> int:
        at, reference = scale(losses), np.full(2, 1.1)
        chosen = at[:n_chosen]
        gains = [
            hypervolume(np.concatenate([chosen, at[[i]]]), reference) for i in range(n_chosen, len(losses))
        ]
        if n_chosen and max(gains) <= hypervolume(chosen, reference):
            return otherwise(losses, n_chosen)
        return n_chosen + int(np.argmax(gains))

    choose.beside = beside  # type: ignore[attr-defined]
    return choose


def ours(losses: np.ndarray, n_chosen: int) -> int:
    """What ``StudyView.ranked`` does."""
    return int(spread_order(losses, n_chosen)[0])


ours.beside = True  # type: ignore[attr-defined]
ORDERS: dict[str, Callable[[np.ndarray, int], int]] = {
    "mean rank": mean_rank,
    "front, crowding distance": crowding,
    "front, ε-net by range, each bracket alone": net(by_range, False),
    "front, ε-net by range": net(by_range, True),
    "front, ε-net by rank, each bracket alone": net(by_rank, False),
    "front, ε-net by rank": net(by_rank, True),
    "hypervolume by range": volume(by_range, True),
    "hypervolume by rank": volume(by_rank, True),
    "**as in `StudyView.ranked`**": ours,
}


def promoted(order: str, problem: tuple[str, str], seed: int, brackets: int, size: int, quota: int) -> float:
    """The share of what some brackets promoted."""
    choose = ORDERS[order]
    dataset = _table().datasets.index(problem[0])
    rng = np.random.default_rng([seed, dataset])
    cells = rng.permutation(len(_table().operations))[: brackets * size].reshape(brackets, size)
    low = np.stack(
        [100 - _table().accuracy_12[:, dataset], getattr(_table(), problem[1])[:, dataset]], axis=1
    )
    kept: list[int] = []
    for bracket in cells.tolist():
        mine: list[int] = []
        waiting = list(bracket)
        for _ in range(quota):
            before = [*kept, *mine] if getattr(choose, "beside", False) else mine
            best = choose(low[[*before, *waiting]], len(before))
            mine.append(waiting.pop(best - len(before)))
        kept += mine
    return share(kept, problem)


def compare_orders(seeds: int) -> str:
    """The table of the ways to rank a rung."""
    sizes = ((9, 9, 3), (3, 27, 9), (20, 9, 1))
    lines = [
        f"Share of the front's hypervolume, percent, mean ± standard error over {seeds} seeds and "
        f"{len(PROBLEMS)} problems.",
        "",
        "| what is promoted first | "
        + " | ".join(f"{b} brackets, {q} of {s} promoted" for b, s, q in sizes)
        + " |",
        "|---|" + "---|" * len(sizes),
    ]
    for order in ORDERS:
        cells = []
        for brackets, size, quota in sizes:
            shares = [
                [promoted(order, p, seed, brackets, size, quota) for p in PROBLEMS] for seed in range(seeds)
            ]
            cells.append(_runs.mean(np.mean(shares, axis=1).tolist(), 1))
        lines.append(f"| {order} | {' | '.join(cells)} |")
    return "\n".join(lines)


# The tables ---------------------------------------------------------------------------------------


def _report(records: list[dict[str, Any]], seeds: int) -> str:
    head = [f"{d}, {s}, at {n}" for n in (30, 100) for d, s in PROBLEMS]
    lines = [
        f"Share of the front's hypervolume, percent, mean ± standard error over {seeds} seeds.",
        "",
        "| method | " + " | ".join(head) + " | ms per ask |",
        "|---|" + "---|" * (len(head) + 1),
    ]
    for method in METHODS:
        mine = [r for r in records if r["method"] == method]
        cells = [
            _runs.mean([r["share"][str(n)] for r in mine if tuple(r["problem"]) == p], 1)
            for n in (30, 100)
            for p in PROBLEMS
        ]
        asks = [r["ms_per_ask"] for r in mine] or [np.nan]
        lines.append(f"| {method} | {' | '.join(cells)} | {np.median(asks):.1f} |")
    lines += ["", _runs.conditions("numpy", "scikit-learn", "smac", "optuna")]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--orders", action="store_true", help="compare ways to rank a rung instead")
    parser.add_argument("--results", type=Path, default=RESULTS / "pareto.jsonl")
    arguments = parser.parse_args()
    try:
        _table()
    except _tables.SkippedError as skipped:
        print(skipped)
        return 0
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    if arguments.orders:
        table = compare_orders(arguments.seeds)
        (arguments.results.parent / "pareto_orders.md").write_text(table + "\n")
        print(table)
        return 0
    records = list(_runs.read(arguments.results))
    wanted = [(m, p, s) for s in range(arguments.seeds) for m in METHODS for p in PROBLEMS]
    present = {(r["method"], tuple(r["problem"]), r["seed"]) for r in records}
    open_runs = [run for run in wanted if run not in present]
    _runs.add(arguments.results, records, evaluate, open_runs, arguments.processes)
    # The file in a fixed order, without runs of methods that are no more.
    records = [r for r in records if r["method"] in METHODS and r["seed"] < arguments.seeds]
    records.sort(key=lambda r: (METHODS.index(r["method"]), r["problem"], r["seed"]))
    _runs.write(arguments.results, records)
    table = _report(records, arguments.seeds)
    arguments.results.with_suffix(".md").write_text(table + "\n")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
