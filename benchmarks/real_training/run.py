"""Makes the searches of the benchmark with real training: methods × seeds; knows no method.

    python benchmarks/real_training/run.py --data-dir DIR --seconds 100

Every search has equal seconds of processor time on one thread, its own deciding included. Searches lie in
``results/real_training.jsonl``, one a line, as soon as they are done; what is there is not made again, unless
settings, versions or decisions changed. All methods of a seed come before the next seed. ``report.py`` draws
up what came of it.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # processor time is counted over all threads
sys.path.insert(0, str(Path(__file__).parents[1]))

import _runs
import torch
from multifidelity import methods as decisions

from fidelity.training import TrainOn
from real_training import outcome, problem
from real_training.meter import Meter
from real_training.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS, SEEDS = 100.0, 5
WARM_UP = 4.0  # seconds of each method
RESULTS = Path(__file__).parents[1] / "results" / "real_training.jsonl"
CONDITIONS = ("bonas", "torch", "numpy", "scikit-learn", "ConfigSpace", "optuna")


def search(method: str, task: problem.Problem, train: TrainOn, seed: int, seconds: float) -> dict[str, Any]:
    """One search, and the test accuracy of the network it would hand back, tested once."""
    began, meter = time.perf_counter(), Meter(seconds)
    METHODS[method].search(train, task, seed, meter)
    used, wall = meter.now, time.perf_counter() - began
    kept = meter.kept
    assert kept is not None, "not one epoch was trained in time"
    model = task.space().build(kept.params)
    model.load_state_dict(kept.weights)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    tested = train.test(model)["accuracy"]
    last = {report.trial: report for report in meter.reports}
    return {
        "method": method,
        "task": task.data.name,
        "seed": seed,
        "seconds": seconds,
        "used": _figure(used),
        "wall": _figure(wall),
        "training": _figure(meter.training),
        "trials": len(last),
        "epochs": len(meter.reports),
        "full": sum(report.epoch == task.epochs for report in meter.reports),
        "diverged": meter.diverged,
        "best": _short(outcome.best(meter.reports)),
        "latest": _short(outcome.latest(meter.reports)),
        "ends": [[report.epoch, _figure(report.accuracy)] for report in last.values()],
        "kept": {
            "params": kept.params,
            "epochs": kept.report.epoch,
            "val": _figure(kept.report.accuracy),
            "test": _figure(tested),
        },
        "settings": settings(method, task),
        "code": code(method),
        "with": {name: version(name) for name in CONDITIONS},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }


def _short(steps: list[tuple[float, float]]) -> list[list[float]]:
    return [[_figure(at), _figure(accuracy)] for at, accuracy in steps]


def _figure(value: float) -> float:
    return float(f"{value:.6g}")


def settings(method: str, task: problem.Problem) -> dict[str, Any]:
    """Of a method, and what every search depends on."""
    return {"method": dict(METHODS[method].settings), "problem": problem.conditions(task)}


@functools.cache
def code(method: str) -> dict[str, str]:
    """See :func:`_runs.code`."""
    entry = METHODS[method]
    if entry.own is None:
        return _runs.code(entry.packages, None)
    scheduler, sampler = entry.own
    return _runs.code(entry.packages, lambda: decisions.behaviour(scheduler, sampler.to_dict()))


def missing(
    path: Path, chosen: list[str], seeds: int, task: problem.Problem, seconds: float
) -> Iterator[tuple[str, int]]:
    """Searches to make, all methods of a seed before the next one."""
    today = {method: (seconds, _runs.plain(settings(method, task)), code(method)) for method in chosen}
    there = {
        (run["method"], run["seed"])
        for run in _runs.read(path)
        if (run["seconds"], run["settings"], run["code"]) == today.get(run["method"])
    }
    for seed in range(seeds):
        yield from ((method, seed) for method in chosen if (method, seed) not in there)


def warm_up(task: problem.Problem, train: TrainOn) -> None:
    """A few seconds of every method: what is loaded or prepared once is on nobody's clock."""
    for method in METHODS.values():
        method.search(train, task, 2**31 - 1, Meter(WARM_UP))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="holds the idx files of Fashion-MNIST")
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="METHOD"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of processor time for each search")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no search after so many")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    until = time.monotonic() + 60 * arguments.minutes
    torch.set_num_threads(1)
    task = problem.fashion_mnist(arguments.data_dir)
    train = TrainOn(task.data, "accuracy")
    left = list(missing(arguments.results, arguments.methods, arguments.seeds, task, arguments.seconds))
    print(f"{len(left)} of {len(arguments.methods) * arguments.seeds} searches to make", flush=True)
    if left:
        warm_up(task, train)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    for method, seed in left:
        if time.monotonic() > until:
            break
        record = search(method, task, train, seed, arguments.seconds)
        with arguments.results.open("a") as file:
            file.write(json.dumps(record) + "\n")
        told = (f"{record[what]:g} {what}" for what in ("trials", "full", "used", "wall"))
        kept = record["kept"]
        print(f"{method}, seed {seed}: val {kept['val']:.4f}, test {kept['test']:.4f};", *told, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
