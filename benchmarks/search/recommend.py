"""Which configuration each run would hand back, by the same belief for every method; knows no method.

The best value a search observed is partly the luckiest one. So, as ``Study.recommend`` does it, bonas's
forest is fitted to what the run observed; finalists are the three configurations that its posterior mean and
their own values agree on as the best; each is evaluated twice more, which is not counted among the run's
evaluations, and the best mean of all its values wins. Recommendations lie in
``results/search/recommended.jsonl``, one a line, and are made again once the forest decides otherwise.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import _runs
import numpy as np
from scipy.stats import rankdata

from bonas.samplers import ForestSampler
from fidelity.records import StudyView
from search import methods, run, tasks

if TYPE_CHECKING:
    from collections.abc import Iterable

AFTER = (100, 300)
"""Evaluations after which a recommendation is asked for."""
FINALISTS, REPEATS = 3, 2
PATH = run.RESULTS / "recommended.jsonl"


def recommend(done: dict[str, Any], evaluations: int) -> dict[str, Any]:
    """The row a run would hand back: without evaluating again, and with.

    Args:
        done: a run.
        evaluations: how many of its first ones are known.
    """
    task = tasks.load(done["task"])
    rows, runs = done["rows"][:evaluations], [int(k) for k in done["runs"][:evaluations]]
    values = task.values[rows, runs]
    visited = np.unique(rows)
    own = np.array([values[np.equal(rows, row)].mean() for row in visited])
    losses = own if task.direction == "minimize" else -own
    records = tuple(
        methods.record(task.space, i, task.params(row), float(value))
        for i, (row, value) in enumerate(zip(rows, values, strict=True))
    )
    view = StudyView(records, methods.AXES, directions=(task.direction,))
    mean, _ = ForestSampler().posterior(task.space, view, [task.params(row) for row in visited])
    finalists = np.argsort(rankdata(mean) + rankdata(losses), kind="stable")[:FINALISTS]
    rng = run.generator(done["task"], done["seed"], run.AGAIN)
    again = [[task.observe(visited[i], rng) for _ in range(REPEATS)] for i in finalists]
    means = [np.mean([own[i], *more]) for i, more in zip(finalists, again, strict=True)]
    best = int(np.argmin(means) if task.direction == "minimize" else np.argmax(means))
    return {
        "run": label(done, evaluations),
        "alone": int(visited[finalists[0]]),
        "reevaluated": int(visited[finalists[best]]),
        "by": by(),
    }


def label(done: dict[str, Any], evaluations: int) -> str:
    """A text that stands for everything a recommendation depends on."""
    known = [done["task"], done["seed"], done["rows"][:evaluations], done["runs"][:evaluations]]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def by() -> dict[str, Any]:
    """The recommender as it decides today."""
    return {**run.code("forest"), "finalists": FINALISTS, "repeats": REPEATS}


def complete(runs: Iterable[dict[str, Any]], processes: int) -> dict[str, dict[str, Any]]:
    """The recommendations of today's recommender by their labels; those that are missing are made."""
    records = [r for r in _runs.read(PATH) if r["by"] == by()]
    present = {r["run"] for r in records}
    missing = {
        label(done, after): (done, after)
        for done in runs
        for after in AFTER
        if label(done, after) not in present
    }
    _runs.add(PATH, records, recommend, list(missing.values()), processes)
    return {r["run"]: r for r in records}
