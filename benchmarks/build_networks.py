"""Builds random configurations of every space: finite loss and gradients, exact counts; knows no search.

Run from the repository's root::

    python benchmarks/build_networks.py

Each configuration is built for one size of input; sizes and channels take turns. ``BONAS_BENCHMARKS``, the
folder of published tables, adds the comparison of NAS-Bench-201's sizes. Writes
``benchmarks/results/build_networks.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import _tables
import numpy as np
import torch
from _presets import SPACES
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bonas import spaces
from spaces.nas_bench_201 import OPERATIONS

SIZES, CHANNELS, BATCH = (8, 28, 32, 64), (1, 3), 2
RESULTS = Path(__file__).parent / "results" / "build_networks.json"

BLIND = "the output does not depend on the input"
"""No failure: cells may let nothing through where ``none`` is among their operations."""

Task = tuple[str, int, int, int, int]
"""Space, side, channels, how many configurations, seed."""


def problems(space: spaces.Space, params: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the network of a configuration; nothing, one hopes."""
    assert space.input_shape is not None
    network = space.build(params)
    count, built = space.count(params), sum(p.numel() for p in network.parameters())
    if count.parameters != built:
        yield f"counted {count.parameters} parameters, built {built}"
    inputs = torch.randn(BATCH, *space.input_shape, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        logits = network(inputs)
    # Torch counts two operations for a multiply-accumulate, and of those only in convolutions and products.
    if counter.get_total_flops() != 2 * BATCH * count.macs:
        yield f"counted {count.macs} multiply-accumulates, torch {counter.get_total_flops() / 2 / BATCH}"
    loss = nn.functional.cross_entropy(logits, torch.tensor([0, 9]))
    loss.backward()
    if not loss.isfinite():
        yield f"loss {loss.item()}"
    gradients = {name: p.grad for name, p in network.named_parameters()}
    without = [name for name, gradient in gradients.items() if gradient is None]
    if without and inputs.grad is not None:
        yield f"no gradients reach {without}"
    elif inputs.grad is None:
        yield BLIND
    if not all(gradient.isfinite().all() for gradient in gradients.values() if gradient is not None):
        yield "gradients not finite"


def check(task: Task) -> dict[str, Any]:
    """Builds the configurations of one space at one size."""
    name, side, channels, n, seed = task
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    start, failures, blind = time.perf_counter(), [], 0
    space = SPACES[name](channels, side).with_hyperparameters()
    rng = np.random.default_rng([seed, side, channels])
    for params in space.sample(n, rng):
        try:
            found = list(problems(space, params))
        except Exception as error:
            found = [repr(error)]
        blind += BLIND in found
        failures += [{"params": params, "problem": problem} for problem in found if problem != BLIND]
    seconds = round(time.perf_counter() - start, 1)
    done = {"n": n, "blind": blind, "failures": failures, "seconds": seconds}
    return {"space": name, "side": side, "channels": channels, **done}


def check_all(n: int, seed: int, jobs: int, chosen: list[str]) -> Iterator[dict[str, Any]]:
    """``n`` configurations of every space, sizes and channels in turn; a row as soon as it is done."""
    kinds = list(itertools.product(SIZES, CHANNELS))
    tasks: list[Task] = [
        (name, side, channels, n // len(kinds) + (i < n % len(kinds)), seed)
        for name in chosen
        for i, (side, channels) in enumerate(kinds)
    ]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for row in pool.imap(check, [task for task in tasks if task[3]]):
            size = f"{row['channels']}×{row['side']}×{row['side']}"
            told = f"n={row['n']:4}  failures: {len(row['failures'])}  {row['seconds']:.0f} s"
            print(f"{row['space']:26} {size:8}  {told}", flush=True)
            yield row


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


def report(result: dict[str, Any]) -> str:
    """The result as Markdown, a row for every space."""
    lines = [
        "# Random networks of every space",
        "",
        f"`{result['command']}`, {result['hardware']}, Python {result['versions']['python']}, "
        f"torch {result['versions']['torch']}.",
        "",
        "Each configuration, training hyperparameters included, was built for one input size, taking turns. "
        f"Its network was run forwards and backwards on {BATCH} random examples. A failure is an exception, "
        "a loss or a gradient that is not finite, a parameter no gradient reaches, a parameter count other "
        "than the module's, or multiply-accumulates other than half of what torch's `FlopCounterMode` counts "
        "(for the operations both count: convolutions and linear layers).",
        "",
        "| space | configurations | at 8, 28, 32, 64 pixels | 1, 3 channels | failures | blind | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["space"] for row in result["networks"]):
        rows = [row for row in result["networks"] if row["space"] == name]
        sides, channels = (
            " / ".join(str(sum(row["n"] for row in rows if row[key] == value)) for value in values)
            for key, values in (("side", SIZES), ("channels", CHANNELS))
        )
        failures = sum(len(row["failures"]) for row in rows)
        n, blind, seconds = (sum(row[key] for row in rows) for key in ("n", "blind", "seconds"))
        lines.append(f"| {name} | {n} | {sides} | {channels} | {failures} | {blind} | {seconds:.0f} |")
    lines += [
        "",
        "`mlp`: vectors of 8 to 192 features in place of images. Cells have 4 filters and one normal cell a "
        "stage. *Blind* networks let nothing through, as cells may where `none` is among their operations; "
        "they are no failures.",
    ]
    table = result["nas_bench_201_sizes"]
    if "n" in table:
        lines += [
            "",
            f"Parameters of {table['n']} random NAS-Bench-201 cells on {table['data_sets']} data sets, dead "
            f"edges kept, against the published table: {table['unequal']} unequal.",
        ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=1000, help="configurations of each space")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, one thread each")
    parser.add_argument("--space", action="append", choices=SPACES, help="only this one; repeat for several")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="the JSON file to write, a .md beside it"
    )
    arguments = parser.parse_args()
    chosen = arguments.space or list(SPACES)
    result: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "ConfigSpace": version("ConfigSpace"),
        },
        "hardware": f"{platform.machine()}, {arguments.jobs} processes of one thread, no GPU",
        "nas_bench_201_sizes": compare_table(500, arguments.seed),
        "networks": [],
    }
    arguments.results.parent.mkdir(exist_ok=True)
    for row in check_all(arguments.n, arguments.seed, arguments.jobs, chosen):
        result["networks"].append(row)
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        arguments.results.write_text(text, encoding="utf-8")
        arguments.results.with_suffix(".md").write_text(report(result), encoding="utf-8")
    print(f"written to {arguments.results}")
    failures = sum(len(row["failures"]) for row in result["networks"])
    return 1 if failures or result["nas_bench_201_sizes"].get("unequal") else 0


if __name__ == "__main__":
    sys.exit(main())
