"""How long sampling and encoding 1,000 configurations take, by hyperparameters and forbidden clauses.

    python benchmarks/encode_time.py

Seconds of processor time of one thread, the median of five; writes ``results/encode_time.md``.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import ConfigSpace
import numpy as np

from bonas import spaces

RESULTS = Path(__file__).parent / "results" / "encode_time.md"
N = 1000


def mixed(n: int) -> spaces.Space:
    """As many floats, logarithmic integers, categories and ordinals; a third of them conditional."""
    parts: list[Any] = [ConfigSpace.Categorical("switch", ["on", "off"])]
    kinds: list[Callable[[str], Any]] = [
        lambda name: ConfigSpace.Float(name, (1e-5, 1.0), log=True),
        lambda name: ConfigSpace.Integer(name, (1, 512), log=True),
        lambda name: ConfigSpace.Categorical(name, ["conv", "pool", "identity"]),
        lambda name: ConfigSpace.OrdinalHyperparameter(name, [16, 32, 64]),
    ]
    for i in range(n - 1):
        parts.append(kinds[i % 4](f"h{i}"))
        if i % 3 == 0:
            parts.append(ConfigSpace.EqualsCondition(parts[-1], parts[0], "on"))
    cs = ConfigSpace.ConfigurationSpace()
    cs.add(parts)
    return spaces.Space(cs)


def pairs(n: int, make: Callable[[str], Any]) -> spaces.Space:
    """``n`` pairs a, b of which a > b is forbidden; one configuration in about 2ⁿ is allowed."""
    cs = ConfigSpace.ConfigurationSpace()
    for i in range(n):
        a, b = make(f"a{i}"), make(f"b{i}")
        cs.add(a, b, ConfigSpace.ForbiddenGreaterThanRelation(a, b))
    return spaces.Space(cs)


SPACES: dict[str, Callable[[], spaces.Space]] = {
    "301 hyperparameters": lambda: mixed(301),
    "chain with hyperparameters": lambda: spaces.chain((3, 32, 32), 10).with_hyperparameters(),
    "6 clauses on pairs of integers": lambda: pairs(6, lambda name: ConfigSpace.Integer(name, (0, 9))),
    "50 clauses on pairs of integers": lambda: pairs(50, lambda name: ConfigSpace.Integer(name, (0, 9))),
    "50 clauses on pairs of floats": lambda: pairs(50, lambda name: ConfigSpace.Float(name, (0.0, 1.0))),
}


def seconds(function: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    lines = [f"Seconds for {N:,} configurations.", "", "| space | sample | encode |", "|---|---|---|"]
    for name, make in SPACES.items():
        space = make()
        samples = space.sample(N, np.random.default_rng(0))
        sampling = seconds(lambda space=space: space.sample(N, np.random.default_rng(1)))
        encoding = seconds(lambda space=space, samples=samples: space.encode(samples))
        lines.append(f"| {name} | {sampling:.3f} | {encoding:.3f} |")
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "ConfigSpace"))
    lines += ["", f"Python {platform.python_version()}, {versions}; {platform.machine()}."]
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
