"""Makes the runs of the search benchmark: methods × tasks × seeds; knows no method and no table.

    BONAS_BENCHMARKS=DIR python benchmarks/search/run.py --methods forest random --seeds 30 --processes 2

Nothing said means all of it. Runs lie in ``results/search``, a file for each method, a run a line: the rows
visited in order and which of their training runs was observed, so that the report can compute whatever it
wants of them. What is there is not made again, unless the method's settings, versions or decisions changed;
so a long benchmark is this command again and again, with ``--minutes`` where time is short. ``report.py``
draws up what came of it.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import math
import os
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes below share the cores already
sys.path.insert(0, str(Path(__file__).parents[1]))

import _runs
import numpy as np

from search import methods, tasks

if TYPE_CHECKING:
    pass

EVALUATIONS = 100
SEEDS = 30
CONDITIONS = ("numpy", "scikit-learn", "ConfigSpace")
RESULTS = Path(__file__).parents[1] / "results" / "search"

# What the generators of one seed are for.
NOISE, AGAIN = 1, 2


def generator(task: str, seed: int, purpose: int) -> np.random.Generator:
    """The same for every method, so that all of them meet the same luck."""
    return np.random.default_rng([seed, zlib.crc32(task.encode()), purpose])


def search(method: str, task_name: str, seed: int, evaluations: int) -> dict[str, Any]:
    """One run: a method searches a task."""
    task, entry = tasks.load(task_name), methods.entries()[method]
    searcher = entry.make(task, seed)
    noise = generator(task_name, seed, NOISE)
    rows: list[int] = []
    runs: list[int] = []
    milliseconds: list[float] = []
    for _ in range(min(evaluations, len(task)) if task.sampled else evaluations):
        began = time.process_time()
        if rows:
            searcher.tell(task.params(rows[-1]), float(task.values[rows[-1], runs[-1]]))
        proposed = searcher.ask()
        milliseconds.append(1e3 * (time.process_time() - began))
        if proposed is None:
            break
        rows.append(task.row(proposed, rows))
        runs.append(task.draw(rows[-1], noise))
    return {
        "method": method,
        "task": task_name,
        "seed": seed,
        "evaluations": evaluations,
        "rows": rows,
        "runs": "".join(map(str, runs)),
        "ms_per_ask": round(float(np.median(milliseconds)), 2),
        "settings": dict(entry.settings),
        "code": code(method),
        "with": {name: importlib.metadata.version(name) for name in CONDITIONS},
    }


@functools.cache
def code(method: str) -> dict[str, str]:
    """What decides beside the settings: versions of packages, or a digest of decisions.

    Raises:
        PackageNotFoundError: if a package is not installed.
    """
    entry = methods.entries()[method]
    return _runs.code(entry.packages, entry.behaviour)


def current(method: str) -> list[dict[str, Any]]:
    """A method's runs with its settings of today, by the code of the latest of them; one for each seed."""
    return _runs.current(path(method), methods.entries()[method].settings, "evaluations")


def path(method: str) -> Path:
    """The file of a method's runs."""
    return RESULTS / f"{method.lower().replace(' ', '_')}.jsonl"


def main() -> int:
    known = list(methods.entries())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=known, default=known, metavar="METHOD")
    parser.add_argument(
        "--tasks", nargs="+", choices=list(tasks.TASKS), default=list(tasks.TASKS), metavar="TASK"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after so many")
    arguments = parser.parse_args()
    names = _runs.available(arguments.tasks, tasks.load)
    return _runs.make(
        sys.modules[__name__],
        arguments.methods,
        lambda _: [(task, seed) for seed in range(arguments.seeds) for task in names],
        ("evaluations", lambda _: arguments.evaluations),
        arguments.processes,
        arguments.minutes,
    )


if __name__ == "__main__":
    sys.exit(main())
