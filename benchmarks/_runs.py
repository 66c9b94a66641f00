"""Runs of a benchmark, one a line of a file: what was interrupted goes on; knows no methods, no tables."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _tables
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The runs in a file; none if there is no file."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # torn by an interruption; the run is made again
            continue


def plain(data: Any) -> Any:
    """Data as it comes back from a file."""
    return json.loads(json.dumps(data))


def code(packages: Iterable[str], behaviour: Callable[[], str] | None) -> dict[str, str]:
    """What decides in a method beside its settings: versions of packages, or a digest of its decisions.

    Raises:
        PackageNotFoundError: if a package is not installed.
    """
    found = {package: version(package) for package in packages}
    return found | ({"behaviour": behaviour()} if behaviour else {})


def current(path: Path, settings: Any, length: str) -> list[dict[str, Any]]:
    """The runs in a file with these settings, by the code of the latest of them.

    Args:
        path: of the file.
        settings: as of today.
        length: the field that says how long a run is: of several for a task and seed the longest counts.
    """
    found = [run for run in read(path) if run["settings"] == plain(settings)]
    runs: dict[tuple[str, int], dict[str, Any]] = {}
    for run in found:
        one = run["task"], run["seed"]
        if run["code"] == found[-1]["code"] and run[length] >= runs.get(one, run)[length]:
            runs[one] = run
    return list(runs.values())


def write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """A file of these runs and no others."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def add(
    path: Path,
    records: list[dict[str, Any]],
    run: Callable[..., dict[str, Any]],
    missing: Sequence[tuple[Any, ...]],
    processes: int,
    until: float = math.inf,
) -> None:
    """Make the runs that are missing; each is in ``records`` and in the file as soon as it is done.

    Args:
        path: of the file.
        records: the runs there are.
        run: makes one.
        missing: its arguments, for each run to make.
        processes: how many are made at once.
        until: of ``time.monotonic``, after which no further run begins.

    Raises:
        RuntimeError: if some failed, after all others are done.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    failed: list[tuple[tuple[Any, ...], BaseException]] = []
    with ProcessPoolExecutor(processes) as pool, path.open("a") as file:
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            file.write("\n")  # after a line torn by an interruption
        futures = {pool.submit(run, *one): one for one in missing}
        for k, done in enumerate(as_completed(futures), start=1):
            if done.cancelled():
                continue
            if (error := done.exception()) is not None:
                failed.append((futures[done], error))
            else:
                records.append(done.result())
                file.write(json.dumps(records[-1]) + "\n")
                file.flush()
            print(f"{k}/{len(missing)}", end="\r", file=sys.stderr, flush=True)
            if time.monotonic() > until:
                for future in futures:
                    future.cancel()
    if failed:
        one, error = failed[0]
        raise RuntimeError(f"{len(failed)} of {len(missing)} runs failed; {one}: {error!r}") from error


def available(names: Iterable[str], load: Callable[[str], Any]) -> list[str]:
    """The tasks whose tables are here; of the others it says why not."""
    found = []
    for name in names:
        try:
            load(name)
        except _tables.SkippedError as skipped:
            print(f"{name}: {skipped}")
        else:
            found.append(name)
    return found


def make(
    harness: Any,
    methods: Iterable[str],
    wanted: Callable[[str], list[tuple[str, int]]],
    enough: tuple[str, Callable[[str], float]],
    processes: int,
    minutes: float,
) -> int:
    """Make what is missing of some methods' runs; of packages that are not installed it says so.

    Args:
        harness: a module whose ``code``, ``current`` and ``path`` tell of a method; its ``search`` makes
            a run of a method, task, seed and length.
        methods: by name.
        wanted: the tasks and seeds of a method.
        enough: the field that says how long a run is, and how long a method's runs are to be.
        processes: how many are made at once.
        minutes: after which no further run begins.

    Returns:
        0, or 1 if runs failed, for the shell.
    """
    until, failed = time.monotonic() + 60 * minutes, False
    field, length = enough
    for method in methods:
        try:
            today = harness.code(method)
        except PackageNotFoundError as missing:
            print(f"{method}: skipped: {missing.name} is not installed (benchmarks/peers.txt).")
            continue
        records = [r for r in harness.current(method) if r["code"] == today]
        present = {(r["task"], r["seed"]) for r in records if r[field] >= length(method)}
        runs = wanted(method)
        missing_runs = [(method, *one, length(method)) for one in runs if one not in present]
        print(f"{method}: {len(runs) - len(missing_runs)} of {len(runs)} runs are there", flush=True)
        try:
            add(harness.path(method), records, harness.search, missing_runs, processes, until)
        except RuntimeError as error:
            print(f"{method}: {error}")
            failed = True
    return int(failed)


def tidy(harness: Any, methods: Iterable[str], tasks: Iterable[str]) -> None:
    """Take the runs that no longer count out of a harness's files."""
    order = list(tasks)
    for method in methods:
        if kept := harness.current(method):
            write(harness.path(method), sorted(kept, key=lambda r: (order.index(r["task"]), r["seed"])))


def mean(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard error of independent runs."""
    if len(values) < 2:
        return "–" if not values else f"{values[0]:.{digits}f}"
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def conditions(*packages: str) -> str:
    """Versions and machine, as they stand below a table."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, one thread a search"
    return f"Python {platform.python_version()}, {versions}; {machine}."
