"""Builds random configurations of every space: finite loss and gradients, exact counts; knows no search.

Run from the repository's root, about three minutes on one core::

    python benchmarks/build_networks.py

``BONAS_BENCHMARKS``, the folder of published tables, adds the comparison of NAS-Bench-201's sizes.
Writes ``benchmarks/results/build_networks.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import _tables
import numpy as np
import torch
from torch import nn

from bonas import spaces
from spaces.cells import OPERATIONS

SIZES = (8, 28, 32)
RESULTS = Path(__file__).parent / "results" / "build_networks.json"

SPACES: dict[str, Callable[[int, int], spaces.Space]] = {
    "chain": lambda channels, size: spaces.chain((channels, size, size), 10),
    "chain, all operations, skips": lambda channels, size: spaces.chain(
        (channels, size, size),
        10,
        operations=("conv", "separable", "max_pool", "avg_pool", "identity"),
        normalisations=("batch", "group", "none"),
        skip_connections=True,
    ).with_hyperparameters(),
    # Small in width and depth: what is tested are the cells, not the machine.
    "nas_bench_201": lambda channels, size: spaces.cell(
        input_shape=(channels, size, size), filters=4, cells=1
    ).with_hyperparameters(),
}


def problems(space: spaces.Space, params: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the network of a configuration; nothing, one hopes."""
    assert space.input_shape is not None
    network = space.build(params)
    counted, built = space.count(params).parameters, sum(p.numel() for p in network.parameters())
    if counted != built:
        yield f"counted {counted} parameters, built {built}"
    loss = nn.functional.cross_entropy(network(torch.randn(2, *space.input_shape)), torch.tensor([0, 9]))
    loss.backward()
    if not loss.isfinite():
        yield f"loss {loss.item()}"
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if not gradients or not all(g.isfinite().all() for g in gradients):
        yield "gradients missing or not finite"


def build_all(n: int, seed: int) -> list[dict[str, Any]]:
    """``n`` configurations of every space at every size, one and three channels in turn."""
    rows = []
    for name, make in SPACES.items():
        for size in SIZES:
            start, failures = time.perf_counter(), []
            by_channels = [make(1, size), make(3, size)]
            rng = np.random.default_rng(seed)
            for i, params in enumerate(by_channels[0].sample(n, rng)):
                try:
                    found = list(problems(by_channels[i % 2], params))
                except Exception as error:
                    found = [repr(error)]
                failures += [{"params": params, "problem": problem} for problem in found]
            seconds = round(time.perf_counter() - start, 1)
            rows.append({"space": name, "size": size, "n": n, "failures": failures, "seconds": seconds})
            print(f"{name:32} {size:3} px  n={n}  failures: {len(failures)}  {seconds:.0f} s", flush=True)
    return rows


def compare_table(n: int, seed: int) -> dict[str, Any]:
    """Sizes of random cells against the published table, dead edges kept; three data sets."""
    try:
        folder = _tables.folder("nasbench201_12_200")
    except _tables.SkippedError as error:
        print(f"NAS-Bench-201 sizes  {error}")
        return {"skipped": str(error)}
    table = np.load(folder / "table.npz")
    chosen = np.random.default_rng(seed).choice(len(table["ops"]), size=n, replace=False)
    shapes = [((3, 32, 32), 10), ((3, 32, 32), 100), ((3, 16, 16), 120)]
    unequal = 0
    for d, (shape, n_classes) in enumerate(shapes):
        space = spaces.cell(input_shape=shape, n_classes=n_classes)
        for ops, published in zip(table["ops"][chosen], table["params_m"][chosen, d], strict=True):
            params = {f"edge{i}": OPERATIONS[k] for i, k in enumerate(ops)}
            ours = space.count(params, prune=False).parameters / 1e6
            # In 1.3 % of the cells the table's seeds disagree among themselves; one of them is right.
            unequal += not np.nanmin(np.abs(published - ours)) < 1e-6
    print(f"NAS-Bench-201 sizes  n={n} cells × {len(shapes)} data sets  unequal to the table: {unequal}")
    return {"n": n, "data_sets": len(shapes), "unequal": unequal}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=1000, help="configurations of each space and size")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)
    networks, table = build_all(arguments.n, arguments.seed), compare_table(500, arguments.seed)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "ConfigSpace": version("ConfigSpace"),
        },
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, one used, no GPU",
        "networks": networks,
        "nas_bench_201_sizes": table,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")
    return 1 if any(row["failures"] for row in networks) or table.get("unequal") else 0


if __name__ == "__main__":
    sys.exit(main())
