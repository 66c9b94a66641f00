"""Records the table: networks of the chain space really trained at every fidelity; knows no search methods.

    python benchmarks/tables/record.py --data-dir DIR --minutes 60 --jobs 2

Configurations of the chain space joined with its training hyperparameters are drawn from the prior, those
above a bound on MACs left out, and trained on a part of Fashion-MNIST by bonas's own objective: at full
fidelity, with each axis alone reduced, with several reduced together, and along a ladder on which the state
is carried. Every finished training is a line of a journal; interrupted, or out of minutes, the recording goes
on where it stopped, on this machine or, from the table's file, on another. At the end the journal is packed
into the table.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes share the cores already
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from _images import fashion_mnist

import tables
from bonas import spaces
from fidelity.axes import Axes
from fidelity.records import Fidelity
from fidelity.schedulers import SuccessiveHalving
from fidelity.training import Diverged, TrainOn

JOURNAL = Path("runs/fashion_mnist_chain.jsonl")
EPOCHS = 12
TRAIN, VAL = 2000, 1500  # images
N = 500
MAX_MACS = 1_000_000
SEED = 2026  # of the configurations
AGAIN = 3  # every third configuration is trained in full with a second seed

# Along which state is carried; its three rungs are fidelities that other runs have from the start.
AXES = Axes(epochs=[3, 6, 12], subset=[0.25, 0.5, 1.0], resolution=[14, 20, 28])
_LOW, _MIDDLE = {"subset": 0.25, "resolution": 14}, {"subset": 0.5, "resolution": 20}
_SMALL = {"width": 0.5, "depth": 0.5}


def _constant(values: Mapping[str, Any]) -> tuple[Fidelity, ...]:
    full = {"epochs": EPOCHS, "resolution": 28}
    return tuple(Fidelity(**{**full, **values, "epochs": e}) for e in range(1, EPOCHS + 1))


def _ladder() -> tuple[Fidelity, ...]:
    rungs = SuccessiveHalving(eta=8).rungs(AXES)
    assert [r.epochs for r in rungs] == [3, 6, 12]
    of_epoch = (next(r for r in rungs if e <= r.epochs) for e in range(1, EPOCHS + 1))
    return tuple(replace(rung, epochs=e) for e, rung in enumerate(of_epoch, start=1))


RUNS: dict[str, tuple[Fidelity, ...]] = {
    "full": _constant({}),
    "subset 0.25": _constant({"subset": 0.25}),
    "subset 0.5": _constant({"subset": 0.5}),
    "resolution 14": _constant({"resolution": 14}),
    "resolution 20": _constant({"resolution": 20}),
    "width 0.25": _constant({"width": 0.25}),
    "width 0.5": _constant({"width": 0.5}),
    "depth 0.5": _constant({"depth": 0.5}),
    "data low": _constant(_LOW),
    "data middle": _constant(_MIDDLE),
    "all low": _constant(_LOW | _SMALL),
    "all middle": _constant(_MIDDLE | _SMALL),
    "ladder": _ladder(),
    "full, seed 1": _constant({}),
}
"""The fidelity of every epoch of each run, the dearest first."""
OF_A_PART = ("full, seed 1",)


@cache
def space() -> spaces.Space:
    return spaces.chain((1, 28, 28), 10).with_hyperparameters()


@cache
def configurations() -> tuple[dict[str, Any], ...]:
    rng, found = np.random.default_rng(SEED), []
    while len(found) < N:
        drawn = (p for p in space().sample(64, rng) if space().count(p).macs <= MAX_MACS)
        found += drawn
    return tuple(found[:N])


class Recorded:
    """A trial as the objective sees it; keeps what is reported, and the state from rung to rung."""

    retraining = False
    directions: tuple[str, ...] = ("maximize",)
    metric_names: tuple[str, ...] = ("accuracy",)
    horizon = EPOCHS

    def __init__(self, params: dict[str, Any], seed: int, device: torch.device) -> None:
        self.params, self.seed, self.device = params, seed, device
        self.fidelity = Fidelity()
        self.reports: list[dict[str, float]] = []
        self.user_attrs: dict[str, Any] = {}
        self._state: Any = None
        self._clock = 0.0

    def build(self) -> torch.nn.Module:
        return space().build(self.params, width=self.fidelity.width, depth=self.fidelity.depth)

    def count(self) -> Any:
        return space().count(self.params)

    def load_checkpoint(self) -> Any:
        return self._state

    def epochs(self) -> Iterator[int]:
        for epoch in range(len(self.reports) + 1, self.fidelity.epochs + 1):
            self._clock = self._now()
            yield epoch

    def report(self, value: Mapping[str, float], epoch: int) -> None:
        values = {what: float(value[what]) for what in tables.MEASURED if what != "seconds"}
        self.reports.append(values | {"seconds": self._now() - self._clock})

    def save_checkpoint(self, state: Any) -> None:
        self._state = state

    def set_user_attr(self, key: str, value: Any) -> None:
        self.user_attrs[key] = value

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.process_time()  # which hardly depends on what else the machine does


@cache
def _objective(folder: str) -> TrainOn:
    return TrainOn(fashion_mnist(folder, TRAIN, VAL), "accuracy")


def train(index: int, run: str, folder: str, device: str) -> dict[str, Any]:
    """One training of one configuration."""
    torch.set_num_threads(1)
    objective = _objective(folder)
    on = torch.device(device)
    trial = Recorded(configurations()[index], seed=1 if run.endswith("seed 1") else 0, device=on)
    fidelities = RUNS[run]
    ends = [f for f, after in zip(fidelities, (*fidelities[1:], None), strict=True) if not _goes_on(f, after)]
    error = None
    try:
        for part in ("train", "val"):  # resized images are kept; the first epoch is not to pay for them
            for fidelity in ends:
                objective.prepare(part, fidelity.resolution, on)
        for trial.fidelity in ends:
            objective(trial)
    except Diverged as diverged:
        error = str(diverged)
    rounded = {
        what: [float(f"{r[what]:.5g}") for r in trial.reports[: len(fidelities)]] for what in tables.MEASURED
    }
    return {"configuration": index, "run": run, "error": error, **rounded, "machine": _machine(device)}


def _goes_on(fidelity: Fidelity, after: Fidelity | None) -> bool:
    """Whether the next epoch is of the same segment."""
    return after is not None and replace(after, epochs=fidelity.epochs) == fidelity


def _machine(device: str) -> str:
    if device.startswith("cuda"):
        hardware = torch.cuda.get_device_name(device)
        return f"torch {torch.__version__}, {hardware}, wall-clock seconds"
    return f"torch {torch.__version__}, {platform.machine()}, one thread, seconds of processor time"


# The journal and the table ------------------------------------------------------------------------


def conditions() -> dict[str, Any]:
    """What a training depends on; lines of a journal or a table with others are not mixed with these."""
    return {
        "data": "fashion-mnist, its training split",
        "classes": 10,
        "train": TRAIN,
        "val": VAL,
        "epochs": EPOCHS,
        "max_macs": MAX_MACS,
        "drawn_with": SEED,
        "of_a_part": list(OF_A_PART),
        "space": space().to_dict(),
    }


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    names = conditions()
    return json.loads(json.dumps({n: a.get(n) for n in names})) == json.loads(
        json.dumps({n: b.get(n) for n in names})
    )


def collect(journal: Path, path: Path) -> dict[tuple[int, str], dict[str, Any]]:
    """Every finished training, from the table's file and from the journal.

    Raises:
        ValueError: if either was recorded under other conditions.
    """
    found: dict[tuple[int, str], dict[str, Any]] = {}
    if path.exists():
        table = tables.read(path)
        if not _same(table.conditions, conditions()):
            raise ValueError(f"{path}: was recorded under other conditions. Move it away.")
        drawn = [configurations()[index] for index in table.conditions["rows"]]
        if drawn != list(table.params):
            raise ValueError(f"{path}: this version of ConfigSpace draws other configurations. Use another.")
        found |= _unpacked(table)
    lines = journal.read_text().splitlines() if journal.exists() else []
    for number, line in enumerate(lines):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # torn by a kill; that training is made again
            record = {}
        if number == 0 and not _same(record, conditions()):
            raise ValueError(f"{journal}: was recorded under other conditions. Move it away.")
        if "run" in record:
            found[record["configuration"], record["run"]] = record
    return found


def _unpacked(table: tables.Table) -> Iterator[tuple[tuple[int, str], dict[str, Any]]]:
    rows = table.conditions["rows"]
    for k, run in enumerate(table.runs):
        for row, index in enumerate(rows):
            ended = table.ended[row, k]
            if ended != tables.MISSING:
                values = {
                    what: [float(v) for v in of[row, k] if np.isfinite(v)]
                    for what, of in table.values.items()
                }
                error = "diverged" if ended == tables.DIVERGED else None
                yield (index, run), {"configuration": index, "run": run, "error": error, **values}


def pack(found: Mapping[tuple[int, str], Mapping[str, Any]], path: Path) -> tables.Table:
    """Write all trainings into the table's file."""
    rows = sorted({index for index, _ in found})
    shape = (len(rows), len(RUNS))
    ended = np.full(shape, tables.MISSING, dtype=np.uint8)
    values = {what: np.full((*shape, EPOCHS), np.nan, dtype=np.float32) for what in tables.MEASURED}
    for (index, run), record in found.items():
        at = rows.index(index), list(RUNS).index(run)
        ended[at] = tables.DIVERGED if record["error"] else tables.TRAINED
        for what, array in values.items():
            array[at][: len(record[what])] = record[what]
    chosen = [configurations()[index] for index in rows]
    counts = [space().count(params) for params in chosen]
    machines = sorted({r["machine"] for r in found.values() if "machine" in r})
    if path.exists():
        machines = sorted({*machines, *tables.read(path).conditions["machines"]})
    table = tables.Table(
        conditions() | {"rows": rows, "machines": machines},
        RUNS,
        tuple(chosen),
        np.array([c.parameters for c in counts], dtype=np.int64),
        np.array([c.macs for c in counts], dtype=np.int64),
        ended,
        values,
    )
    tables.write(table, path)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="holds the idx files of Fashion-MNIST; without it, only pack")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--networks", type=int, default=N, help="record the first so many")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, one thread each on a CPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    parser.add_argument("--table", type=Path, default=tables.FASHION_MNIST_CHAIN)
    arguments = parser.parse_args()
    found = collect(arguments.journal, arguments.table)
    if arguments.data_dir:
        try:
            _record(arguments, found)
        except KeyboardInterrupt:
            print("interrupted; packing what is there", file=sys.stderr)
    if found:
        table = pack(found, arguments.table)
        print(f"{arguments.table}: {len(table)} configurations, {len(table.complete())} of them complete")
    return 0


def _record(arguments: argparse.Namespace, found: dict[tuple[int, str], dict[str, Any]]) -> None:
    # All of a configuration before the next, so that whenever it stops most are complete.
    wanted = [
        (index, run)
        for index in range(min(arguments.networks, N))
        for run in RUNS
        if run not in OF_A_PART or index % AGAIN == 0
    ]
    left = (job for job in wanted if job not in found)
    end = time.monotonic() + 60 * arguments.minutes
    arguments.journal.parent.mkdir(parents=True, exist_ok=True)
    begun = arguments.journal.read_text() if arguments.journal.exists() else ""
    # CUDA does not survive a fork, nor does what torch keeps for its threads.
    context = multiprocessing.get_context("spawn")
    with (
        arguments.journal.open("a") as journal,
        ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool,
    ):
        if not begun:
            _append(journal, conditions())
        elif not begun.endswith("\n"):  # torn by a kill
            journal.write("\n")
        running: set[Future[dict[str, Any]]] = set()
        while True:
            while len(running) < arguments.jobs and time.monotonic() < end:
                job = next(left, None)
                if job is None:
                    break
                running.add(pool.submit(train, *job, arguments.data_dir, arguments.device))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for record in (future.result() for future in done):
                _append(journal, record)
                found[record["configuration"], record["run"]] = record
                took = sum(record["seconds"])
                print(
                    f"{len(found)}/{len(wanted)}: {record['configuration']}, {record['run']}, {took:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )


def _append(journal: Any, record: Mapping[str, Any]) -> None:
    journal.write(json.dumps(record) + "\n")
    journal.flush()
    os.fsync(journal.fileno())


if __name__ == "__main__":
    sys.exit(main())
