"""Kill -9 while checkpoints are written; and a search of 1,000 trials in little room on the disk.

    python benchmarks/checkpoint_faults.py --kills 200
    python benchmarks/checkpoint_faults.py --trials 1000 --jobs 2

The first lets a process write one checkpoint after the other, of weights and moments of Adam that all hold
the number of their epoch, and kills it at a random moment; the next process goes on from what it left.
Checked after every kill: the newest checkpoint is whole, holds what its epoch holds, and is no older than
the last one whose writing had returned. What was left half-written is then offered under names of later
epochs, and a copy of the newest one is cut at a random place: none of them may be taken for a checkpoint.

The second searches with successive halving, every trial saving a state of its own size after each epoch,
in less room than the states would need. While it runs, the driver after every segment and another process
all the time add up what lies on the disk, temporary files included, in whole blocks of 4,096 bytes. That
process holds the folder's lock while it adds: else it would count files twice that are replaced meanwhile.
Checked: never above the limit, the best trial's checkpoint always there, no decision from a record that
names a checkpoint that is gone; and with one job the same trials with the same values as in a search with
room, at its cost plus what is said to be retrained.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import logging
import multiprocessing
import os
import platform
import signal
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

PRELOADED = ["torch._dynamo", "safetensors.torch", "bonas.opening", "bonas.trial", "bonas.executors.here"]
BLOCK = 4096


class Broken(Exception):  # noqa: N818 - what the benchmark looks for
    """A promise was not kept."""


# -- kills ---------------------------------------------------------------------------------------------


def handle(folder: Path) -> Any:
    """A trial that has a million epochs to train."""
    from ConfigSpace import ConfigurationSpace

    from bonas import spaces
    from bonas.segment import Segment
    from bonas.trial import Trial
    from fidelity.axes import Axes
    from fidelity.records import Fidelity, TrialRecord, TrialState

    axes = Axes(epochs=(1, 10**6))
    record = TrialRecord(0, {}, "k", TrialState.RUNNING, Fidelity(epochs=10**6))
    trial = folder / "trial-00000"
    segment = Segment(record, axes, ("minimize",), ("value",), str(trial), max_bytes=10**10)
    return Trial(segment, spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)})))


def state_of(epoch: int, nbytes: int) -> dict[str, Any]:
    import torch

    third = torch.full((nbytes // 12,), float(epoch))
    return {
        "model": {"w": third},
        "optimizer": {"state": {0: {"step": epoch, "exp_avg": -third, "exp_avg_sq": third + 0.5}}},
    }


def write_on(folder: Path, nbytes: int, started: Any, returned: Any) -> None:
    """What the process that is killed does; ``returned`` holds the epoch of the last whole write."""
    trial = handle(folder)
    trial.load_checkpoint()
    started.set()
    observed = trial._observed
    for epoch in trial.epochs():
        trial.report(float(epoch), epoch)
        trial.save_checkpoint(state_of(epoch, nbytes))
        trial.flush()
        returned.value = epoch
        observed.pop(epoch - 50, None)  # a curve of thousands of epochs would be most of the file


def check(folder: Path, nbytes: int, at_least: int) -> tuple[int, Path]:
    """The newest checkpoint and its epoch, if all is as it should be."""
    import torch

    from fidelity import checkpoints

    newest = checkpoints.newest(folder)
    if newest is None:
        if at_least:
            raise Broken(f"no checkpoint left, though epoch {at_least} was written")
        return 0, folder
    state, meta = checkpoints.read(newest)
    epoch = meta["epoch"]
    if not at_least <= epoch <= at_least + 1:
        raise Broken(f"the newest checkpoint is of epoch {epoch}, the last one written of {at_least}")
    for mine, theirs in zip(leaves(state), leaves(state_of(epoch, nbytes)), strict=True):
        if not torch.equal(torch.as_tensor(mine), torch.as_tensor(theirs)):
            raise Broken(f"the checkpoint of epoch {epoch} holds something else")
    return epoch, newest


def leaves(state: Any) -> list[Any]:
    return [leaf for v in state.values() for leaf in leaves(v)] if isinstance(state, dict) else [state]


def offer_torn(folder: Path, newest: Path, rng: np.random.Generator) -> int:
    """Give what is torn the name of a later checkpoint; how many were offered."""
    from fidelity import checkpoints

    offered = []
    for half in folder.glob(".*.tmp"):
        digest = hashlib.sha256(half.read_bytes()).hexdigest()[:16]
        # Its own digest: even then it is no checkpoint.
        offered.append(folder / f"epoch-{999_000 + len(offered):06d}-{digest}.safetensors")
        half.rename(offered[-1])
    data = newest.read_bytes()
    cut = data[: int(rng.integers(len(data)))]
    offered.append(folder / newest.name.replace("epoch-0", "epoch-9"))
    offered[-1].write_bytes(cut)
    if checkpoints.newest(folder) != newest:
        raise Broken("a torn file was taken for a checkpoint")
    for path in offered:
        path.unlink()
    return len(offered)


def kills(n: int, nbytes: int, seed: int) -> int:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    rng = np.random.default_rng(seed)
    began = time.monotonic()
    halves = written = torn = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "trial-00000" / "curve-00"
        returned = context.Value("q", 0, lock=False)
        for _ in range(n):
            started = context.Event()
            worker = context.Process(target=write_on, args=(Path(name), nbytes, started, returned))
            worker.start()
            started.wait()
            worker.join(float(rng.uniform(0.0, 0.4)))
            if not worker.is_alive():
                raise Broken(f"the writing process ended with {worker.exitcode}")
            os.kill(worker.pid or 0, signal.SIGKILL)
            worker.join()
            halves += bool(list(folder.glob(".*.tmp")))
            epoch, newest = check(folder, nbytes, returned.value)
            written += epoch - returned.value  # killed after the file was there, before the call returned
            returned.value = epoch
            if epoch:
                torn += offer_torn(folder, newest, rng)
        print(
            "\n| kills | hit a half-written file | states written | newest whole and right | torn files "
            "offered | accepted |\n|---|---|---|---|---|---|\n"
            f"| {n} | {halves} | {returned.value} | {n} | {torn} | 0 |\n\n"
            f"States of {nbytes / 1e6:g} MB; {written} kills came between the file and the end of its write; "
            f"{time.monotonic() - began:.0f} s."
        )
    return 0


# -- room ----------------------------------------------------------------------------------------------


class Saving:
    """An objective that trains nothing and saves a state of the trial's own size after every epoch."""

    def __init__(self, smallest: int, largest: int) -> None:
        self.smallest, self.largest = smallest, largest

    def __call__(self, trial: Any) -> None:
        import bonas.trial

        bonas.trial.CHECKPOINT_INTERVAL = 0.0  # instead of a minute
        logging.getLogger("bonas").setLevel(logging.ERROR)
        rng = np.random.default_rng(trial.seed)
        size = int(np.exp(rng.uniform(np.log(self.smallest), np.log(self.largest))))
        noise = rng.normal(size=trial.horizon)  # the same in every segment
        state = trial.load_checkpoint() or {"epochs": 0, "weights": rng.bytes(size)}
        for epoch in trial.epochs():
            state["epochs"] += 1
            if state["epochs"] != epoch:
                raise Broken(f"the state of epoch {state['epochs']} was loaded for epoch {epoch}")
            trial.report(trial.params["x"] + (1 + 0.2 * noise[epoch - 1]) / epoch, epoch)
            trial.save_checkpoint(state)


def make(folder: str, max_bytes: int | None, seed: int) -> Any:
    from ConfigSpace import ConfigurationSpace

    import bonas
    from bonas import fidelity, samplers, spaces

    return bonas.create_study(
        space=spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)})),
        axes=fidelity.Axes(epochs=(1, 9)),
        sampler=samplers.RandomSampler(),
        scheduler=fidelity.SuccessiveHalving(),
        storage=folder,
        artifacts=bonas.Artifacts(max_bytes=max_bytes),
        seed=seed,
    )


def lying(folder: Path) -> int:
    """Bytes of everything in the trials' folders, in whole blocks, while nobody adds to it."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        while True:
            try:
                files = [entry.stat().st_size for entry in every_file(folder)]
            except FileNotFoundError:
                continue  # renamed while we looked: look again
            return sum(-(-size // BLOCK) * BLOCK for size in files)
    finally:
        os.close(lock)


def every_file(folder: Path | str) -> list[os.DirEntry[str]]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                found += every_file(entry.path)
            elif "trial-" in entry.path:
                found.append(entry)
    return found


def watch(folder: Path, highest: Any, looks: Any, done: Any) -> None:
    """What the other process does."""
    while not done.is_set():
        highest.value = max(highest.value, lying(folder))
        looks.value += 1
        time.sleep(0.001)


def room(trials: int, jobs: int, smallest: int, largest: int, max_bytes: int, seed: int) -> int:
    logging.getLogger("bonas").setLevel(logging.ERROR)
    context = multiprocessing.get_context("forkserver")
    objective = Saving(smallest, largest)
    with tempfile.TemporaryDirectory() as wide, tempfile.TemporaryDirectory() as narrow:
        began = time.monotonic()
        reference = make(wide, None, seed)
        reference.optimize(objective, n_trials=trials, n_jobs=jobs)
        without = time.monotonic() - began
        needed = lying(reference.artifacts)
        study = make(narrow, max_bytes, seed)
        study.artifacts.mkdir(parents=True, exist_ok=True)
        highest, looks, done = (
            context.Value("q", 0, lock=False),
            context.Value("q", 0, lock=False),
            context.Event(),
        )
        watcher = context.Process(target=watch, args=(study.artifacts, highest, looks, done), daemon=True)
        watcher.start()
        seen, segments = [0], [0]

        def callback(study: Any, told: Any) -> None:
            segments[0] += 1
            seen[0] = max(seen[0], lying(study.artifacts))
            best = min((t for t in study.records if t.state == "COMPLETE"), key=value, default=None)
            if best is not None and not (study.artifacts / best.checkpoint.file).exists():
                raise Broken(f"the checkpoint of trial {best.number}, the best one, is gone")

        began = time.monotonic()
        study.optimize(objective, n_trials=trials, n_jobs=jobs, callbacks=[callback])
        seconds = time.monotonic() - began
        done.set()
        watcher.join()
        if max(highest.value, seen[0]) > max_bytes:
            raise Broken(f"{max(highest.value, seen[0]):,} bytes lay on the disk, {max_bytes:,} are allowed")
        kept = [t for t in study.records if t.checkpoint is not None]
        gone = [t.number for t in kept if not (study.artifacts / t.checkpoint.file).exists()]
        with study._ledger.turn():  # what the next decision would know
            gone = [n for n in gone if study._ledger.records[n].checkpoint is not None]
        if gone:
            raise Broken(f"the records of trials {gone} name checkpoints that are gone")
        failed = [t.reason for t in study.records if t.state == "FAIL"]
        if failed:
            raise Broken(failed[0])
        retrained = sum(t.retrained for t in study.records)
        if jobs == 1:
            if [t.values for t in study.records] != [t.values for t in reference.records]:
                raise Broken("other values than with room")
            if abs(study.spent - reference.spent - retrained) > 1e-6 * study.spent:
                raise Broken(f"spent {study.spent}, with room {reference.spent}, retrained {retrained}")
        print(
            f"| {jobs} | {len(study.records)} | {segments[0]} | {needed:,} | {max_bytes:,} | {seen[0]:,} | "
            f"{highest.value:,} ({looks.value:,} looks) | {len(study.records) - len(kept)} | "
            f"{100 * retrained / study.spent:.1f} % | {seconds:.0f} ({without:.0f}) |",
            flush=True,
        )
    return 0


def value(record: Any) -> tuple[float, int]:
    return record.values["value"], record.number


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, help="kill so many writing processes")
    parser.add_argument("--megabytes", type=float, default=6.0, help="of the states that are written then")
    parser.add_argument("--trials", type=int, help="search so many trials in little room")
    parser.add_argument("--jobs", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--room", type=int, default=1_200_000, help="bytes that are allowed")
    parser.add_argument("--sizes", type=int, nargs=2, default=[20_000, 400_000], help="of states, in bytes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(
        f"bonas {version('bonas')}, torch {version('torch')}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores"
    )
    try:
        if arguments.kills:
            kills(arguments.kills, int(arguments.megabytes * 1e6), arguments.seed)
        if arguments.trials:
            print(
                "\n| jobs | trials | segments | needed without a limit | limit | most seen by the driver | "
                "most seen by another process | dropped at the end | retrained | seconds (with room) |\n"
                "|---|---|---|---|---|---|---|---|---|---|"
            )
            for jobs in arguments.jobs:
                room(arguments.trials, jobs, *arguments.sizes, arguments.room, arguments.seed)
    except Broken as broken:
        print(f"BROKEN: {broken}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
