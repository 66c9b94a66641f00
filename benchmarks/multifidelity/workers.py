"""Many workers under a virtual clock: asynchronous against synchronous decisions; knows no peers.

    BONAS_BENCHMARKS=DIR python benchmarks/multifidelity/workers.py --seeds 10 --processes 2

Segments take as long as their epochs did in the table, times a luck that differs from segment to segment:
stragglers. Runs lie in ``results/multifidelity_workers.jsonl``, the tables in ``.md`` beside it, the picture
in ``docs/images``. What is there is not made again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import _runs
import numpy as np
from search import pictures

from bonas import samplers
from fidelity import schedulers
from multifidelity import methods, run, tasks
from multifidelity.simulate import Workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multifidelity.method import Entry

WORKERS = (1, 16, 256)
SPREAD = 0.5
"""Standard deviation of the logarithm of a segment's time: one in twenty takes more than twice as long."""
BUDGET = 100.0
TASKS = ("nb301", "lcbench Fashion_MNIST", "lcbench jannis")
"""Those whose tables know seconds, of rows enough for 256 workers."""
TIMES = (0.5, 1, 2, 5, 10, 20, 50)
COSTS = (5, 10, 20, 50, 100)
RESULTS = run.RESULTS.parent / "multifidelity_workers.jsonl"
PICTURE = Path(__file__).parents[2] / "docs" / "images" / "multifidelity_workers.png"


def entries() -> dict[str, Entry]:
    """What is compared: the default, and what waits for whole rungs, each with the default's sampler."""
    scheduler, sampler = methods.default()
    found = {methods.DEFAULT: methods.own(scheduler, sampler)}
    others = {"ASHA": "ASHA", "successive halving": "SuccessiveHalving", "Hyperband": "Hyperband"}
    for name, kind in others.items():
        if kind in schedulers.REGISTRY and type(scheduler).__name__ != kind:
            found[name] = methods.own(schedulers.REGISTRY[kind](), sampler)
    found[methods.RANDOM] = methods.own(schedulers.FullFidelity(), samplers.RandomSampler())
    return found


def search(method: str, task_name: str, n: int, seed: int) -> dict[str, Any]:
    """One run: so many workers search a task."""
    task, entry = tasks.load(task_name), entries()[method]
    trace = entry.run(task, seed, BUDGET, workers=Workers(n, SPREAD))
    took = trace.segments[-1].time
    changes = trace.incumbents(maximize=task.direction == "maximize")
    return {
        "method": method,
        "task": task_name,
        "workers": n,
        "seed": seed,
        "budget": BUDGET,
        "incumbents": [[float(f"{cost:.5g}"), float(f"{when:.5g}"), row] for cost, when, row in changes],
        "time": float(f"{took:.5g}"),
        "busy": round(trace.worked / (took * n), 3),
        "trials": len({s.row for s in trace.segments}),
        "settings": dict(entry.settings),
        "code": _runs.code(entry.packages, entry.behaviour),
        "with": {name: importlib.metadata.version(name) for name in run.CONDITIONS},
    }


def current() -> list[dict[str, Any]]:
    """The runs with today's settings, and decisions; one for each of what is to be run."""
    today = {
        name: (_runs.plain(entry.settings), _runs.code(entry.packages, entry.behaviour))
        for name, entry in entries().items()
    }
    found = [r for r in _runs.read(RESULTS) if (r["settings"], r["code"]) == today.get(r["method"])]
    return list({(r["method"], r["task"], r["workers"], r["seed"]): r for r in found}.values())


def regrets(runs: Sequence[dict[str, Any]], at: Sequence[float], unit: int) -> np.ndarray:
    """True regret, shape (runs, at); ``unit`` 0 is cost, 1 is time; 1 before the first result.

    The runs may be of several tasks.
    """
    found = np.ones((len(runs), len(at)))
    for k, one in enumerate(runs):
        when = np.array([change[unit] for change in one["incumbents"]])
        rows = [change[2] for change in one["incumbents"]]
        grades = np.concatenate([[1.0], tasks.load(one["task"]).regret(rows)])
        found[k] = grades[np.searchsorted(when, np.asarray(at) * (1 + 1e-4), side="right")]
    return found


def by_seed(runs: Sequence[dict[str, Any]], at: Sequence[float], unit: int) -> np.ndarray:
    """The same, averaged over the tasks, shape (seeds, at)."""
    seeds = sorted({one["seed"] for one in runs})
    return np.array([regrets([r for r in runs if r["seed"] == s], at, unit).mean(axis=0) for s in seeds])


def markdown(runs: Sequence[dict[str, Any]]) -> str:
    """Regret against time and against cost, mean over the tasks."""
    seeds, names = sorted({one["seed"] for one in runs}), sorted({one["task"] for one in runs})
    lines = [
        "# Many workers under a virtual clock",
        "",
        f"Mean regret of the incumbent over {', '.join(names)} (0 the best row of the table, 1 the median "
        f"one), ± standard error over {len(seeds)} seeds; {BUDGET:g} full evaluations each. A segment takes "
        f"what its epochs took in the table, times exp(N(0, {SPREAD}²)). *Busy* is the part of their time "
        "that workers trained.",
        "",
    ]
    parts = ((1, TIMES, "time, in mean full evaluations"), (0, COSTS, "cost, in full evaluations"))
    for unit, at, title in parts:
        lines += [f"Against {title}:", ""]
        head = ["method", "workers", *(f"{a:g}" for a in at), *(["busy", "ends at"] if unit else [])]
        lines += ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head))]
        for method in entries():
            for n in WORKERS:
                mine = [r for r in runs if (r["method"], r["workers"]) == (method, n)]
                if not mine:
                    continue
                cells = [_runs.mean(list(column), 3) for column in by_seed(mine, at, unit).T]
                if unit:
                    cells += [f"{np.mean([r[what] for r in mine]):.2f}" for what in ("busy", "time")]
                lines.append(f"| {' | '.join([method, str(n), *cells])} |")
        lines.append("")
    versions = {", ".join(f"{k} {v}" for k, v in one["with"].items()) for one in runs}
    return "\n".join(
        [
            *lines,
            f"Runs with {'; or with '.join(sorted(versions))}. Drawn up by {_runs.conditions('numpy')}",
            "Command: `python benchmarks/multifidelity/workers.py`.",
            "",
        ]
    )


def draw(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Regret against time and against cost, a row of panels for each, a panel for each number of workers."""
    figure, panels = pictures.panels([f"{unit}{n}" for unit in range(2) for n in WORKERS])
    styles = pictures.Styles(list(entries()), [], methods.DEFAULT)
    longest = max(one["time"] for one in runs)
    grids = np.geomspace(1, BUDGET, 100), np.geomspace(0.05, longest, 150)
    parts = [(unit, n) for unit in (1, 0) for n in WORKERS]
    for (unit, n), axes in zip(parts, panels, strict=True):
        for method in entries():
            mine = [r for r in runs if (r["method"], r["workers"]) == (method, n)]
            if mine:
                ends = np.median([r["time"] for r in mine]) if unit else BUDGET
                grid = grids[unit][grids[unit] <= ends]
                pictures.line(axes, grid, by_seed(mine, grid, unit), 1.0, styles.of(method))
        axes.set_title(f"{n} worker{'s' * (n > 1)}", fontsize=9)
        axes.set_xscale("log")
        axes.set_xlabel("time, in full evaluations" if unit else "cost, in full evaluations", fontsize=9)
    pictures.finish(figure, panels, "cost, in full evaluations", path)


def main() -> int:
    known = list(entries())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=known, default=known, metavar="METHOD")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after so many")
    arguments = parser.parse_args()
    names = _runs.available(TASKS, tasks.load)
    records = current()
    present = {(r["method"], r["task"], r["workers"], r["seed"]) for r in records}
    wanted = [
        (method, name, n, seed)
        for seed in range(arguments.seeds)
        for name in names
        for n in WORKERS
        for method in arguments.methods
    ]
    missing = [one for one in wanted if one not in present]
    print(f"{len(wanted) - len(missing)} of {len(wanted)} runs are there", flush=True)
    until = time.monotonic() + 60 * arguments.minutes
    _runs.add(RESULTS, records, search, missing, arguments.processes, until)
    if records:
        RESULTS.with_suffix(".md").write_text(markdown(records))
        draw(records, PICTURE)
        print(RESULTS.with_suffix(".md"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
