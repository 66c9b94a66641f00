"""Runs of a benchmark, one a line of a file: what was interrupted goes on; knows no methods, no tables."""

from __future__ import annotations

import json
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """A file of these runs and no others."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def add(
    path: Path,
    records: list[dict[str, Any]],
    run: Callable[..., dict[str, Any]],
    missing: Sequence[tuple[Any, ...]],
    processes: int,
) -> None:
    """Make the runs that are missing; each is in ``records`` and in the file as soon as it is done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes) as pool, path.open("a") as file:
        for k, done in enumerate(as_completed([pool.submit(run, *one) for one in missing]), start=1):
            records.append(done.result())
            file.write(json.dumps(records[-1]) + "\n")
            file.flush()
            print(f"{k}/{len(missing)}", end="\r", file=sys.stderr, flush=True)


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
