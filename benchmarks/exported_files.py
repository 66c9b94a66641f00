"""Exports random networks of every space and runs the files with torch alone; knows no training.

Run from the repository's root::

    python benchmarks/exported_files.py

For each space one further process, in which bonas, spaces and fidelity cannot be imported, loads every
exported Python file and its weights and must give the same outputs: in evaluation, and in training from the
same random state. Writes ``benchmarks/results/exported_files.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _presets import SPACES

RESULTS = Path(__file__).parent / "results" / "exported_files.json"
SHAPES = ((1, 28), (3, 32))

# Runs in the other process; what it may use is torch and Python's own library.
_CHECK = """
import importlib.util, json, pathlib, sys
import torch

for name in ("bonas", "spaces", "fidelity"):
    sys.modules[name] = None
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError(f"{name} can be imported")

torch.set_num_threads(1)
results, loaded = [], set()
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    spec = importlib.util.spec_from_file_location("network", folder / "network.py")
    module = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    spec.loader.exec_module(module)
    loaded |= {name.split(".")[0] for name in set(sys.modules) - before}
    saved = torch.load(folder / "saved.pt", weights_only=True)
    network = module.Network()
    network.load_state_dict(saved["weights"])
    network.eval()
    with torch.no_grad():
        evaluated = network(saved["inputs"])
        network.train()
        torch.manual_seed(0)
        trained = network(saved["inputs"])
    results.append({
        "network": folder.name,
        "exact": torch.equal(evaluated, saved["evaluated"]) and torch.equal(trained, saved["trained"]),
        "close": torch.allclose(evaluated, saved["evaluated"], atol=1e-5)
        and torch.allclose(trained, saved["trained"], atol=1e-5),
    })
print(json.dumps({"results": results, "loaded": sorted(loaded - set(sys.stdlib_module_names))}))
"""


def export(name: str, n: int, seed: int, folder: Path) -> None:
    """Writes ``n`` random networks of a space with weights, inputs and what they give."""
    rng = np.random.default_rng(seed)
    for part, (channels, side) in enumerate(SHAPES):
        space = SPACES[name](channels, side).with_hyperparameters()
        assert space.input_shape is not None
        for i, params in enumerate(space.sample(n // 2 + (part < n % 2), rng)):
            place = folder / f"{part}_{i:04}"
            place.mkdir()
            network = space.build(params)
            (place / "network.py").write_text(space.source(params), encoding="utf-8")
            inputs = torch.randn(2, *space.input_shape)
            saved = {"inputs": inputs, "weights": {k: v.clone() for k, v in network.state_dict().items()}}
            with torch.no_grad():
                saved["evaluated"] = network.eval()(inputs)
                network.train()
                torch.manual_seed(0)
                saved["trained"] = network(inputs)
            torch.save(saved, place / "saved.pt")


def check(name: str, n: int, seed: int) -> dict[str, Any]:
    """Exports and runs the networks of one space."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        export(name, n, seed, Path(folder))
        done = subprocess.run(
            [sys.executable, "-I", "-c", _CHECK, folder],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    row: dict[str, Any] = {"space": name, "n": n}
    if done.returncode:
        row |= {"failures": [done.stderr.strip().splitlines()[-1]], "exact": 0}
    else:
        said = json.loads(done.stdout)
        failures = [r["network"] for r in said["results"] if not r["close"]]
        failures += [f"imports {module}" for module in said["loaded"] if module != "torch"]
        assert len(said["results"]) == n
        row |= {"failures": failures, "exact": sum(r["exact"] for r in said["results"])}
    row["seconds"] = round(time.perf_counter() - start, 1)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=200, help="networks of each space")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--space", action="append", choices=SPACES, help="only this one; repeat for several")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in arguments.space or SPACES:
        row = check(name, arguments.n, arguments.seed)
        rows.append(row)
        told = f"bit-identical: {row['exact']}  failures: {len(row['failures'])}  {row['seconds']:.0f} s"
        print(f"{name:26} n={row['n']}  {told}", flush=True)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "networks": rows,
    }
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {arguments.results}")
    return 1 if any(row["failures"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
