"""Makes the runs of the multi-fidelity benchmark: methods × tasks × seeds; knows no method and no table.

    BONAS_BENCHMARKS=DIR python benchmarks/multifidelity/run.py --methods bonas random --processes 2

Nothing said means all of it. Runs lie in ``results/multifidelity``, a file for each method, a run a line:
which row would have been recommended from which cost on, by either rule. What is there is not made again,
unless the method's settings, versions or decisions changed; so a long benchmark is this command again and
again, with ``--minutes`` where time is short. ``report.py`` draws up what came of it.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes below share the cores already
sys.path.insert(0, str(Path(__file__).parents[1]))

import _runs

from multifidelity import methods, tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multifidelity.trace import Change

BUDGET = 50.0
BUDGETS = {methods.RANDOM: 60.0, methods.RANDOM + methods.POOL: 60.0}
"""Full evaluations; what random search reaches after 60 is what the others are measured by."""
SHARE = {name: 3 for name in tasks.TASKS if name.startswith("lcbench")}
"""Tasks of which there are many: so many times fewer seeds of each."""
CONDITIONS = ("numpy", "scikit-learn", "ConfigSpace")
RESULTS = Path(__file__).parents[1] / "results" / "multifidelity"


def search(method: str, task_name: str, seed: int, budget: float) -> dict[str, Any]:
    """One run: a method searches a task."""
    task, entry = tasks.load(task_name), methods.entries()[method]
    trace = entry.run(task, seed, budget)
    maximize = task.direction == "maximize"
    return {
        "method": method,
        "task": task_name,
        "seed": seed,
        "budget": budget,
        "incumbents": _short(trace.incumbents(maximize=maximize)),
        "recommended": _short(trace.recommended(maximize=maximize)),
        "seen": [[_figure(cost), _figure(value)] for cost, _, value in trace.seen(maximize=maximize)],
        "cost": _figure(trace.cost),
        "trials": len({s.row for s in trace.segments}),
        "segments": len(trace.segments),
        "ms": _figure(trace.ms),
        "settings": dict(entry.settings),
        "code": code(method),
        "with": {name: importlib.metadata.version(name) for name in CONDITIONS},
    }


def _short(changes: Sequence[Change]) -> list[list[float]]:
    return [[_figure(cost), row] for cost, _, row in changes]


def _figure(value: float) -> float:
    return float(f"{value:.6g}")


@functools.cache
def code(method: str) -> dict[str, str]:
    """See :func:`_runs.code`."""
    entry = methods.entries()[method]
    return _runs.code(entry.packages, entry.behaviour)


def current(method: str) -> list[dict[str, Any]]:
    """A method's runs with its settings of today, by the code of the latest of them; one for each seed."""
    return _runs.current(path(method), methods.entries()[method].settings, "budget")


def path(method: str) -> Path:
    """The file of a method's runs."""
    return RESULTS / f"{method.lower().replace(' ', '_').replace(',', '')}.jsonl"


def wanted(method: str, names: Sequence[str], seeds: int | None) -> list[tuple[str, int]]:
    """The tasks and seeds a method is to be run on, all tasks of a seed before the next seed."""
    entry = methods.entries()[method]
    names = [name for name in names if not entry.only or name in entry.only]
    most = entry.seeds if seeds is None else min(seeds, entry.seeds)
    return [(name, seed) for seed in range(most) for name in names if seed < -(-most // SHARE.get(name, 1))]


def main() -> int:
    known = list(methods.entries())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=known, default=known, metavar="METHOD")
    parser.add_argument(
        "--tasks", nargs="+", default=list(tasks.TASKS), metavar="TASK", help="or its beginning"
    )
    parser.add_argument("--seeds", type=int, help="30, of slow packages 10; a third on each of LCBench's")
    parser.add_argument("--budget", type=float, help=f"full evaluations; {BUDGET:g}, of random search 60")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after so many")
    arguments = parser.parse_args()
    chosen = [name for name in tasks.TASKS if name.startswith(tuple(arguments.tasks))]
    if not chosen:
        parser.error(f"--tasks {arguments.tasks}: there are {', '.join(tasks.TASKS)}.")
    names = _runs.available(chosen, tasks.load)
    return _runs.make(
        sys.modules[__name__],
        arguments.methods,
        lambda method: wanted(method, names, arguments.seeds),
        ("budget", lambda method: arguments.budget or BUDGETS.get(method, BUDGET)),
        arguments.processes,
        arguments.minutes,
    )


if __name__ == "__main__":
    sys.exit(main())
