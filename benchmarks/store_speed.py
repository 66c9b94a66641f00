"""Asks and tells a second on a study in a file: RandomSampler, FullFidelity, an objective that costs nothing.

    python benchmarks/store_speed.py
    python benchmarks/store_speed.py --trials 5000 --folder /mnt/slow-disk

Every ask and every tell is a transaction that is written through to the disk, so the disk decides most of
it: the time of a bare write-through of one page on the same disk stands beside it, and the processor time
that asks and tells take, which hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ConfigSpace import ConfigurationSpace

import bonas
from bonas import fidelity, spaces
from bonas.samplers import RandomSampler


def write_through(folder: str, n: int = 200) -> float:
    """Median milliseconds of writing one page through to the disk."""
    times = []
    with open(Path(folder) / "page", "wb") as file:
        for _ in range(n):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def measure(storage: str | None, trials: int) -> list[tuple[int, float, float, float]]:
    """For each quarter: trials so far, pairs a second, mean CPU milliseconds of ask and of tell."""
    space = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0), "n": (1, 64), "c": ["a", "b", "c"]}))
    study = bonas.create_study(
        space=space, storage=storage, sampler=RandomSampler(), scheduler=fidelity.FullFidelity()
    )
    rows = []
    part = max(1, trials // 4)
    for first in range(0, trials, part):
        count = min(part, trials - first)
        began, ask, tell = time.perf_counter(), 0.0, 0.0
        for _ in range(count):
            before = time.process_time()
            trial = study.ask()
            asked = time.process_time()
            assert trial is not None
            study.tell(trial, trial.params["x"])
            ask, tell = ask + asked - before, tell + time.process_time() - asked
        rate = count / (time.perf_counter() - began)
        rows.append((first + count, rate, 1000 * ask / count, 1000 * tell / count))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--folder", help="where the studies are written; a temporary folder by default")
    arguments = parser.parse_args()
    print(
        f"bonas {version('bonas')}, SQLAlchemy {version('sqlalchemy')}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {arguments.trials} trials"
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(f"one page written through to this disk: {write_through(folder):.2f} ms\n")
        print("| storage | trials | ask+tell a second | ask, CPU ms | tell, CPU ms |\n|---|---|---|---|---|")
        for name, storage in (("file", folder), ("memory", None)):
            for so_far, rate, ask, tell in measure(storage, arguments.trials):
                print(f"| {name} | {so_far} | {rate:.0f} | {ask:.2f} | {tell:.2f} |", flush=True)


if __name__ == "__main__":
    main()
