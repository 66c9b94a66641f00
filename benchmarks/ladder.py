"""Searches replayed on the recorded table: what cheap evaluations save; trains nothing.

    python benchmarks/ladder.py --seeds 30

Every search runs a scheduler and a sampler of bonas on bare records, over the recorded configurations alone,
and is answered by the table: the values of the very epochs it asks for, trained at the very fidelities, from
scratch where state does not carry. The regret of a search is that of the configuration it would hand back
(``best_trial``) by its accuracy after a full training. Costs are in full evaluations, nominal, and measured:
seconds of the epochs trained, in units of the mean full evaluation. Results lie in ``results/ladder.jsonl``,
one search a line; interrupted, it goes on where it stopped. The table and the picture follow.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes below share the cores already

import _runs
import numpy as np
import tables

from bonas import samplers
from bonas._picture import Picture
from bonas.best import best
from fidelity.axes import Axes
from fidelity.records import (
    CheckpointRecord,
    Curve,
    Fidelity,
    Observation,
    StudyView,
    TrialRecord,
    TrialState,
)
from fidelity.schedulers import FullFidelity, Resume, Start, Stop, SuccessiveHalving

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "ladder.jsonl"
PICTURE = ROOT / "docs" / "images" / "ladder.png"
BUDGET = 40.0  # full evaluations, of those that train nothing but these
BUDGET_OF_LADDERS = 12.0
GRID = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 40.0)
REACHED = (10.0, 20.0, 40.0)

_DATA = {"subset": [0.25, 0.5, 1.0], "resolution": [14, 20, 28]}
_WHOLE = Axes(epochs=[12])
_LADDERS: dict[str, tuple[Axes, Any]] = {
    "epochs": (Axes(epochs=(1, 12)), SuccessiveHalving(eta=3)),
    # State carried over the rungs was recorded for all three of them alone, so none is left out.
    "epochs, subset, resolution": (
        Axes(epochs=[3, 6, 12], **_DATA),
        SuccessiveHalving(eta=4, drop_rungs=False),
    ),
    "all axes": (
        Axes(epochs=[3, 6, 12], **_DATA, width=[0.5, 1.0], depth=[0.5, 1.0], carry=("epochs",)),
        SuccessiveHalving(eta=4),
    ),
}
METHODS: dict[str, tuple[Axes, Any, str]] = {
    f"{sampler}, {name}": (axes, scheduler, sampler)
    for name, (axes, scheduler) in {"full fidelity": (_WHOLE, FullFidelity()), **_LADDERS}.items()
    for sampler in ("random", "forest")
}
BASELINE = "random, full fidelity"
SAMPLERS = {"random": samplers.RandomSampler, "forest": samplers.ForestSampler}


class Pool:
    """The space, narrowed to what was recorded; every recorded configuration is a candidate."""

    def __init__(self, table: tables.Table) -> None:
        self._space = table.space
        self._params = [dict(params) for params in table.params]
        self.row = {self._space.key(params): i for i, params in enumerate(self._params)}
        self.size = float(len(self._params))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._space, name)

    def sample(self, n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
        return [self._params[i] for i in rng.integers(len(self._params), size=n)]

    def neighbours(self, params: Mapping[str, Any], rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
        return list(self._params)

    def enumerate(self) -> Iterator[dict[str, Any]]:
        return iter(self._params)


class Replay:
    """One search, answered by the table."""

    def __init__(self, table: tables.Table, pool: Pool, axes: Axes, budget: float) -> None:
        self.table, self.pool, self.axes, self.budget = table, pool, axes, budget
        self.records: list[TrialRecord] = []
        self.seconds = 0.0
        self.exhausted = False
        # Fidelities as the table names them: axes that a study does not use are full.
        self._runs = {run: tuple(map(_plain, of)) for run, of in table.runs.items()}
        self._accuracy = {run: table.accuracy(run) for run in table.runs}
        self._seconds = {run: table.measured("seconds", run) for run in table.runs}
        self._full = float(np.nanmean(table.measured("seconds", "full").sum(axis=1)))

    @property
    def spent(self) -> float:
        return sum(record.cost for record in self.records)

    def view(self) -> StudyView:
        return StudyView(
            tuple(self.records),
            self.axes,
            directions=("maximize",),
            metric_names=("accuracy",),
            starts_left=0 if self.exhausted else float("inf"),
            budget_left=self.budget - self.spent,
        )

    def run(self, scheduler: Any, sampler: Any, seed: int) -> Iterator[tuple[float, float, int]]:
        """After every segment: nominal cost, seconds in full evaluations, row of the best trial."""
        for ask in range(100_000):
            view, rng = self.view(), np.random.default_rng([seed, ask])
            match scheduler.decide(view, rng):
                case Start(fidelity, figures=figures):
                    if not (view.starts_left > 0 and view.fits(fidelity)):
                        return
                    params = sampler.sample(self.pool, view, rng)
                    if params is None:
                        self.exhausted = True
                        continue
                    record = TrialRecord(
                        number=len(self.records),
                        params=params,
                        key=self.pool.key(params),
                        state=TrialState.RUNNING,
                        fidelity=fidelity,
                        attempt=1,
                        figures=figures,
                    )
                    self.records.append(self._trained(record))
                case Resume(trial, fidelity):
                    if not view.fits(fidelity, trial):
                        return
                    trial = self.records[trial.number]
                    self.records[trial.number] = self._trained(replace(trial, fidelity=fidelity))
                case Stop(trial, reason):
                    trial = self.records[trial.number]
                    self.records[trial.number] = replace(trial, state=TrialState.PRUNED, reason=reason)
                    continue
                case _:
                    return
            found = best(self.view())
            if found is not None:
                yield self.spent, self.seconds / self._full, self.pool.row[found.key]

    def _trained(self, record: TrialRecord) -> TrialRecord:
        """The record after a segment to its fidelity."""
        target, saved, row = record.fidelity, record.checkpoint, self.pool.row[record.key]
        carried = self.axes.carried_epoch(saved.epoch, saved.fidelity, target) if saved else 0
        before = record.curves[-1].observations if carried else ()
        history = [_plain(o.fidelity) for o in before]
        history += [_plain(target)] * (target.epochs - carried)
        run = self._run(history)
        accuracy, seconds = self._accuracy[run][row], self._seconds[run][row]
        cost, new = self.axes.epoch_cost(target), []
        diverged = None
        for k in range(carried, target.epochs):
            if np.isnan(seconds[k]):
                diverged = k + 1
                break
            self.seconds += seconds[k]
            values = {"accuracy": float(accuracy[k]), "parameters": float(self.table.parameters[row])}
            new.append(Observation(k + 1, values, cost, target, float(seconds[k])))
        curves = record.curves[:-1] if carried else record.curves
        curve = (Curve((*before, *new)),) if before or new else ()
        if diverged is not None:
            return replace(
                record,
                state=TrialState.FAIL,
                reason=f"Diverged: epoch {diverged}",
                curves=(*curves, *curve),
                lost=record.lost + cost,
            )
        return replace(
            record,
            state=TrialState.COMPLETE if target == self.axes.full else TrialState.PAUSED,
            curves=(*curves, *curve),
            checkpoint=CheckpointRecord(target.epochs, target, "none", "", 0),
        )

    def _run(self, history: Sequence[Fidelity]) -> str:
        """The recorded run whose first epochs were trained as ``history`` says."""
        for run, fidelities in self._runs.items():
            if (
                list(fidelities[: len(history)]) == list(history)
                and run not in self.table.conditions["of_a_part"]
            ):
                return run
        raise ValueError(f"{history[-1]}: was not recorded after {history[0]}. Use other axes.")


def _plain(fidelity: Fidelity) -> Fidelity:
    return replace(fidelity, epochs=1, resolution=fidelity.resolution or 28)


@cache
def _table(path: Path) -> tables.Table:
    return tables.read(path).complete()


def search(path: Path, method: str, seed: int) -> dict[str, Any]:
    """One search of one method."""
    table = _table(path)
    axes, scheduler, sampler = METHODS[method]
    budget = min(BUDGET, len(table)) if isinstance(scheduler, FullFidelity) else BUDGET_OF_LADDERS
    replay = Replay(table, Pool(table), axes, budget)
    trace = list(replay.run(scheduler, SAMPLERS[sampler](), seed))
    changes = [
        step
        for step, before in zip(trace, [None, *trace], strict=False)
        if not before or step[2] != before[2]
    ]
    return {
        "method": method,
        "settings": _settings(method, len(table)),
        "seed": seed,
        "trials": len(replay.records),
        "spent": [round(trace[-1][0], 4), round(trace[-1][1], 4)],
        "changes": [[round(cost, 4), round(seconds, 4), row] for cost, seconds, row in changes],
    }


def _settings(method: str, n: int) -> dict[str, Any]:
    axes, scheduler, sampler = METHODS[method]
    return {
        "networks": n,
        "axes": axes.to_dict(),
        "scheduler": scheduler.to_dict(),
        "sampler": SAMPLERS[sampler]().to_dict(),
    }


# What came of it ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curves:
    """Regret of one method on a fine grid of cost, mean over seeds."""

    grid: np.ndarray
    mean: np.ndarray
    """(2, grid): against nominal cost and against measured; NaN before every seed has a first result."""
    error: np.ndarray


def curves(records: list[dict[str, Any]], table: tables.Table) -> dict[str, Curves]:
    final = 100 * table.accuracy("full")[:, -1]
    regret = final.max() - final
    grid = np.geomspace(0.05, BUDGET, 400)
    found = {}
    for method in METHODS:
        mine = [r for r in records if r["method"] == method]
        values = np.full((2, len(mine), len(grid)), np.nan)
        for i, record in enumerate(mine):
            for unit in range(2):
                for cost, seconds, row in record["changes"]:
                    values[unit, i, grid >= (cost, seconds)[unit] * (1 - 1e-9)] = regret[row]
                values[unit, i, grid > 1.02 * record["spent"][unit]] = np.nan
        error = values.std(axis=1, ddof=1) / np.sqrt(max(1, len(mine))) if len(mine) > 1 else 0 * values[:, 0]
        found[method] = Curves(grid, values.mean(axis=1), error)
    return found


def markdown(records: list[dict[str, Any]], table: tables.Table, seeds: int) -> str:
    found = curves(records, table)
    lines = [
        f"Regret in percentage points of accuracy after a full training, mean ± standard error over {seeds}",
        f"searches on {len(table)} recorded networks; cost in full evaluations, nominal.",
        "",
        "| method | " + " | ".join(f"{g:g}" for g in GRID) + " | trials |",
        "|---|" + "---|" * (len(GRID) + 1),
    ]
    for method, curve in found.items():
        cells = []
        for cost in GRID:
            k = int(np.searchsorted(curve.grid, cost * (1 - 1e-9)).clip(0, len(curve.grid) - 1))
            mean, error = curve.mean[0, k], curve.error[0, k]
            cells.append("–" if np.isnan(mean) else f"{mean:.2f} ± {error:.2f}")
        trials = np.mean([r["trials"] for r in records if r["method"] == method])
        lines.append(f"| {method} | {' | '.join(cells)} | {trials:.0f} |")
    lines += [
        "",
        "Cost at which a method reaches the regret of full-fidelity search, nominal / measured in seconds:",
        "",
    ]
    targets = [
        (b, cost) for b in (BASELINE, "forest, full fidelity") for cost in REACHED if cost <= len(table)
    ]
    lines.append("| method | " + " | ".join(f"{name} after {cost:g}" for name, cost in targets) + " |")
    lines.append("|---|" + "---|" * len(targets))
    for method, curve in found.items():
        cells = []
        for name, cost in targets:
            goal = _at(found[name], cost)
            needed = [_first(curve, unit, goal) for unit in range(2)]
            cells.append(" / ".join("–" if x is None else f"{x:.1f} ({x / cost:.0%})" for x in needed))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    lines += ["", "Ladders, from the lowest rung, with nominal cost of each from scratch:", ""]
    for name, (axes, scheduler) in _LADDERS.items():
        rungs = scheduler.rungs(axes)
        shown = "; ".join(f"{_named(rung)}: {axes.nominal_cost(rung):.3f}" for rung in rungs)
        lines.append(f"- *{name}*, {scheduler!r}, state carried along {', '.join(axes.carry)}: {shown}")
    return "\n".join(lines)


def _named(rung: Fidelity) -> str:
    return ", ".join(
        f"{name} {value:g}" for name, value in rung.to_dict().items() if value not in (None, 1.0)
    )


def _at(curve: Curves, cost: float) -> float:
    known = np.flatnonzero(np.isfinite(curve.mean[0]) & (curve.grid <= cost * (1 + 1e-9)))
    return float(curve.mean[0, known[-1]])


def _first(curve: Curves, unit: int, goal: float) -> float | None:
    with np.errstate(invalid="ignore"):
        reached = np.flatnonzero(curve.mean[unit] <= goal + 1e-9)
    return float(curve.grid[reached[0]]) if len(reached) else None


def draw(records: list[dict[str, Any]], table: tables.Table) -> Any:
    """Regret against nominal and against measured cost."""
    figure = Picture(figsize=(11, 4.4), dpi=120, layout="constrained", facecolor="white")
    panels = figure.subplots(1, 2, sharey=True)
    colours = dict(
        zip(("full fidelity", *_LADDERS), ("#8a94a0", "#2c6fbb", "#d95f02", "#8c6bb1"), strict=True)
    )
    for method, curve in curves(records, table).items():
        sampler, name = method.split(", ", 1)
        for unit, panel in enumerate(panels):
            style = {"color": colours[name], "linestyle": "-" if sampler == "forest" else ":"}
            panel.plot(curve.grid, curve.mean[unit], linewidth=1.8, label=method, **style)
    for panel, unit in zip(panels, ("nominal", "measured in seconds"), strict=True):
        panel.set_xscale("log")
        panel.set_xlabel(f"cost, {unit}, full evaluation = 1")
        panel.grid(color="#e3e6ea", linewidth=0.8)
        panel.set_axisbelow(True)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    panels[0].set_ylabel("regret, percentage points of accuracy")
    panels[1].legend(frameon=False, fontsize=8)
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--table", type=Path, default=tables.FASHION_MNIST_CHAIN)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    table = _table(arguments.table)
    # Searches with other settings, or of another table, do not belong in the same table.
    records = [
        r
        for r in _runs.read(arguments.results)
        if r["method"] in METHODS
        and r["settings"] == json.loads(json.dumps(_settings(r["method"], len(table))))
        and r["seed"] < arguments.seeds
    ]
    present = {(r["method"], r["seed"]) for r in records}
    wanted = [(m, s) for s in range(arguments.seeds) for m in METHODS]
    left = [(arguments.table, *job) for job in wanted if job not in present]
    _runs.add(arguments.results, records, search, left, arguments.processes)
    # The file in a fixed order, without searches of other settings.
    records.sort(key=lambda r: (list(METHODS).index(r["method"]), r["seed"]))
    _runs.write(arguments.results, records)
    text = markdown(records, table, arguments.seeds)
    arguments.results.with_suffix(".md").write_text(text + "\n")
    draw(records, table).savefig(arguments.picture, dpi=144)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
