"""How often the surrogate's 90 % intervals hold the value of a configuration it has not seen.

    BONAS_BENCHMARKS=<folder of the tables> python benchmarks/calibration.py

The surrogate learns from the first 50, 100 and 300 evaluations of NAS-Bench-201's cells, each one noisy
training run, drawn at random or proposed by ``ForestSampler``. A cell that was not evaluated counts as
covered if its value, the mean over its training runs, lies within 1.645 standard deviations of the mean
believed. Beliefs are on the normal scale of the observations (``bonas.surrogate.normal_scores``), so the
value is put on that scale by where it would rank among them; one beyond the best or worst counts as that
one. *All* held-out cells are a thousand drawn at random, *good* ones a thousand of the best tenth. The table
is printed and lies in ``results/calibration.md``.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import _runs
import _tables
import numpy as np
from scipy.special import ndtri
from search import methods, tasks

from bonas import samplers
from fidelity.records import StudyView

if TYPE_CHECKING:
    from search.task import Task

RESULTS = Path(__file__).parent / "results"
TASKS = ("nasbench201 cifar10", "nasbench201 cifar100", "nasbench201 ImageNet16-120")
EVALUATIONS = (50, 100, 300)
HELD_OUT = 1000
Z90 = float(ndtri(0.95))
SURROGATES = {
    "forest and process, as ForestSampler has them": samplers.ForestSampler(),
    "forest alone": samplers.ForestSampler(n_process=0),
}


def history(task: Task, kind: str, seed: int) -> list[int]:
    """Distinct rows in the order of their evaluation."""
    if kind == "random":
        chosen = np.random.default_rng(seed).choice(len(task), size=max(EVALUATIONS), replace=False)
        return [int(row) for row in chosen]
    search = methods.Bare(samplers.ForestSampler(), task.space, task.direction, seed)
    noise = np.random.default_rng([seed, 1])
    rows: list[int] = []
    for _ in range(max(EVALUATIONS)):
        proposed = search.ask()
        assert proposed is not None
        rows.append(task.row(proposed))
        search.tell(proposed, task.observe(rows[-1], noise))
    return rows


def scores(losses: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Where losses lie on the normal scale of those seen, shape of ``losses``."""
    seen = np.sort(seen)
    rank = (np.searchsorted(seen, losses, "left") + np.searchsorted(seen, losses, "right")) / 2
    n = len(seen)
    scored: np.ndarray = ndtri(np.clip(rank / n, 0.5 / n, 1 - 0.5 / n))
    return scored


def coverage(task_name: str, kind: str, seed: int) -> list[dict[str, Any]]:
    """Shares of covered cells after each number of evaluations of one history."""
    task = tasks.load(task_name)
    rows = history(task, kind, seed)
    rng = np.random.default_rng([seed, 2])
    sign = 1 if task.direction == "minimize" else -1
    observed = [task.observe(row, rng) for row in rows]
    trials = tuple(methods.record(task.space, i, task.params(r), observed[i]) for i, r in enumerate(rows))
    unseen = np.setdiff1d(np.arange(len(task)), rows)
    best = unseen[np.argsort(task.regret(unseen.tolist()))[: len(unseen) // 10]]
    found = []
    for n in EVALUATIONS:
        view = StudyView(trials[:n], methods.AXES, directions=(task.direction,))
        for cells, pool in (("all", unseen), ("good", best)):
            held = rng.choice(pool, size=min(HELD_OUT, len(pool)), replace=False).tolist()
            truth = scores(sign * task.true(held), sign * np.array(observed[:n]))
            for name, sampler in SURROGATES.items():
                mean, std = sampler.posterior(task.space, view, [task.params(row) for row in held])
                share = float(np.mean(np.abs(truth - mean) <= Z90 * std))
                found.append({"surrogate": name, "history": kind, "cells": cells, "n": n, "share": share})
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    try:
        _tables.folder("nasbench201_12_200")
    except _tables.SkippedError as skipped:
        print(skipped)
        return 0
    found: list[dict[str, Any]] = []
    for kind in ("random", "search"):
        for task_name in TASKS:
            for seed in range(arguments.seeds):
                found += [one | {"task": task_name} for one in coverage(task_name, kind, seed)]
                print(kind, task_name, seed, file=sys.stderr)
    lines = [
        "Percent of held-out cells within the 90 % interval, mean over three data sets and "
        f"{arguments.seeds} histories of each (the smallest and the greatest mean of a data set).",
        "",
        "| surrogate | history | cells | " + " | ".join(f"after {n}" for n in EVALUATIONS) + " |",
        "|---|---|---|" + "---|" * len(EVALUATIONS),
    ]
    for name in SURROGATES:
        for kind in ("random", "search"):
            for cells in ("all", "good"):
                shown = []
                for n in EVALUATIONS:
                    which = {"surrogate": name, "history": kind, "cells": cells, "n": n}
                    means = [
                        100
                        * np.mean(
                            [f["share"] for f in found if which.items() <= f.items() and f["task"] == t]
                        )
                        for t in TASKS
                    ]
                    shown.append(f"{np.mean(means):.0f} ({min(means):.0f}–{max(means):.0f})")
                lines.append(f"| {name} | {kind} | {cells} | {' | '.join(shown)} |")
    table = "\n".join([*lines, "", _runs.conditions("numpy", "scipy", "scikit-learn", "ConfigSpace")])
    (RESULTS / "calibration.md").write_text(table + "\n")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
