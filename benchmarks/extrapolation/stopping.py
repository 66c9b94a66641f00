"""What stopping by extrapolation saves, and whether the best survives: 60 random configurations a seed.

    BONAS_BENCHMARKS=DIR python benchmarks/extrapolation/stopping.py --seeds 30 --processes 2

One worker, no promotion: each configuration is trained until its schedule stops it. Results lie in
``results/extrapolation_stopping.jsonl``, a run a line, and what is there is not made again; the report is
``results/extrapolation_stopping.md``. TaskSet's validation losses as they are, explosions included; once
without the curves that become NaN, once with them.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes share the cores already
sys.path.insert(0, str(Path(__file__).parents[1]))

import _runs
import _tables
import numpy as np

from fidelity import Axes, ExtrapolationStopping, MedianStopping, Observation
from fidelity.records import Curve, StudyView, TrialRecord, TrialState
from fidelity.schedulers import Action, Done, Resume, Scheduler, Start, Stop

RESULTS = Path(__file__).parents[1] / "results"
RUNS, REPORT = RESULTS / "extrapolation_stopping.jsonl", RESULTS / "extrapolation_stopping.md"
CONFIGURATIONS, EPOCHS = 60, 50
AXES = Axes(epochs=(1, EPOCHS))
WHAT = f"""{CONFIGURATIONS} random configurations a seed, 6 tasks of TaskSet, {EPOCHS} checkpoints each;
one worker, no promotion. Drawn from every second configuration of the table: what `ExtrapolationStopping`
demands at a check was chosen on the other half. *Saved*: epochs of training every configuration in full, or
until it becomes NaN, over those trained; in brackets mean ± standard deviation over runs. *Kept*: runs in
which the configuration that ends best was trained in full, ± the standard error. *Regret*: of the best that
was, over what lies between median and best of the whole table."""
ROWS = {
    "finite": "Without the curves that become NaN",
    "all": "With the curves that become NaN",
}
HEAD = (
    "schedule",
    "saved",
    "on the worst task",
    "best kept",
    "on the worst task",
    "regret",
    "in full",
    "s a run",
)


@dataclass(frozen=True)
class LastValue:
    """Stops a trial that is behind the best one at the checks of stopping by extrapolation.

    Behind what the best one had at the same epoch, or, ``at_end``, behind what it ended with.
    """

    at_end: bool

    def decide(self, view: StudyView, rng: np.random.Generator) -> Action:
        rungs = ExtrapolationStopping().rungs(view.axes)
        complete = [t for t in view.trials if t.values_at(rungs[-1])]
        best = view.ranked(complete, rungs[-1])[0] if complete else None
        for trial in view.trials:
            if trial.state is TrialState.PAUSED:
                at = rungs.index(trial.fidelity)
                if best is not None:
                    mark = best.values if self.at_end else best.values_at(rungs[at])
                    # Of a longer training the value at a check is that of its own segment.
                    if view.loss(trial) > mark["value"]:
                        return Stop(trial)
                return Resume(trial, rungs[at + 1])
        return Start(rungs[0]) if view.starts_left > 0 else Done()


METHODS: dict[str, Callable[[], Any]] = {
    "every configuration in full": lambda: MedianStopping(n_startup=10**6),
    "last value against the best one's end": lambda: LastValue(at_end=True),
    "last value against the best one's at the same epoch": lambda: LastValue(at_end=False),
    "MedianStopping": MedianStopping,
    "ExtrapolationStopping": ExtrapolationStopping,
}


def play(scheduler: Scheduler, losses: np.ndarray) -> tuple[int, list[float]]:
    """Train configurations in order, as the scheduler decides.

    Args:
        scheduler: of trials without promotion.
        losses: (configurations, epochs); NaN once a training has diverged.

    Returns:
        Epochs trained, and the losses of those trained in full.
    """
    trials: list[TrialRecord] = []
    rng = np.random.default_rng(0)
    while True:
        view = StudyView(tuple(trials), AXES, starts_left=len(losses) - len(trials))
        match scheduler.decide(view, rng):
            case Start(fidelity):
                record = TrialRecord(len(trials), {}, str(len(trials)), TrialState.RUNNING, fidelity)
                trials.append(_trained(record, losses[len(trials)]))
            case Resume(trial, fidelity):
                running = dataclasses.replace(trial, fidelity=fidelity)
                trials[trial.number] = _trained(running, losses[trial.number])
            case Stop(trial):
                trials[trial.number] = dataclasses.replace(trial, state=TrialState.PRUNED)
            case _:
                break
    spent = sum(len(t.curves[-1]) + (t.state is TrialState.FAIL) for t in trials)
    return spent, [t.values["value"] for t in trials if t.state is TrialState.COMPLETE]


def _trained(record: TrialRecord, losses: np.ndarray) -> TrialRecord:
    """A record at the end of its segment."""
    seen = list(record.curves[-1].observations) if record.curves else []
    state = TrialState.COMPLETE if record.fidelity == AXES.full else TrialState.PAUSED
    for epoch in range(len(seen) + 1, record.fidelity.epochs + 1):
        if not math.isfinite(losses[epoch - 1]):
            state = TrialState.FAIL
            break
        seen.append(Observation(epoch, {"value": float(losses[epoch - 1])}, 1 / EPOCHS, record.fidelity))
    return dataclasses.replace(record, state=state, curves=(Curve(tuple(seen)),))


def run(method: str, task: int, seed: int, rows: str) -> dict[str, Any]:
    """One seed of one task, drawn from some of the ``ROWS``."""
    with np.load(_tables.folder("taskset_imdb_rnn") / "table.npz", allow_pickle=False) as table:
        losses = table["valid_loss"][task, 1::2, 1:].astype(float)
    if rows == "finite":
        losses = losses[np.isfinite(losses).all(1)]
    chosen = np.random.default_rng([seed, task, len(rows)]).permutation(len(losses))[:CONFIGURATIONS]
    began = time.process_time()
    spent, ends = play(METHODS[method](), losses[chosen])
    best, median = np.nanmin(losses[chosen, -1]), np.nanmedian(losses[:, -1])
    return {
        "method": method,
        "task": task,
        "seed": seed,
        "rows": rows,
        "epochs": spent,
        "full": len(ends),
        "regret": float((min(ends) - best) / (median - np.nanmin(losses[:, -1]))),
        "kept": bool(min(ends) <= best),
        "seconds": round(time.process_time() - began, 2),
    }


def markdown(records: list[dict[str, Any]]) -> str:
    """The report."""
    seeds = len({r["seed"] for r in records})
    lines = [
        "# What stopping saves, and whether the best survives",
        "",
        f"`python benchmarks/extrapolation/stopping.py --seeds {seeds}`",
        "",
        WHAT,
        "",
    ]
    for rows, said in ROWS.items():
        mine = [r for r in records if r["rows"] == rows]
        lines += [f"## {said}, {len({r['seed'] for r in mine})} seeds", "", *_table(mine), ""]
    return "\n".join([*lines, _runs.conditions("numpy", "scipy", "scikit-learn"), ""])


def _table(records: list[dict[str, Any]]) -> list[str]:
    """One line for each method."""
    whole = {(r["task"], r["seed"]): r["epochs"] for r in records if r["method"] == next(iter(METHODS))}
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for method in METHODS:
        mine = [r for r in records if r["method"] == method and (r["task"], r["seed"]) in whole]
        if not mine:
            continue
        saved = np.array([whole[r["task"], r["seed"]] / r["epochs"] for r in mine])
        kept, task = np.array([r["kept"] for r in mine]), np.array([r["task"] for r in mine])
        total = sum(whole[r["task"], r["seed"]] for r in mine) / sum(r["epochs"] for r in mine)
        each = [np.mean(saved[task == t]) for t in np.unique(task)]
        least = [np.mean(kept[task == t]) for t in np.unique(task)]
        error = 100 * np.sqrt(kept.mean() * (1 - kept.mean()) / len(kept))
        lines.append(
            f"| {method} | {total:.2f} ({saved.mean():.2f} ± {saved.std(ddof=1):.2f}) | {min(each):.2f} | "
            f"{100 * kept.mean():.1f} ± {error:.1f} % of {len(mine)} | {100 * min(least):.0f} % | "
            f"{np.mean([r['regret'] for r in mine]):.4f} | {np.mean([r['full'] for r in mine]):.1f} | "
            f"{np.mean([r['seconds'] for r in mine]):.2f} |"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    try:
        _tables.folder("taskset_imdb_rnn")
    except _tables.SkippedError as skipped:
        print(skipped)
        return 0
    records = list(_runs.read(RUNS))
    there = {(r["method"], r["task"], r["seed"], r["rows"]) for r in records}
    wanted = [
        (method, task, seed, rows)
        for rows in ROWS
        for seed in range(arguments.seeds)
        for task in range(6)
        for method in METHODS
    ]
    _runs.add(RUNS, records, run, [w for w in wanted if w not in there], arguments.processes)
    REPORT.write_text(markdown(records))
    print(f"{REPORT} drawn from {len(records)} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
