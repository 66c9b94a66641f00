"""Trains the hand-written network of ``fidelity.baseline`` for a given time and prints its test accuracy.

python benchmarks/baseline_cnn.py --data fashion-mnist --data-dir DIR --seconds 1200
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict

import torch

from fidelity.baseline import RECIPE, train_baseline
from fidelity.data import load_data


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="of weights and order, not of the split"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    try:
        data = load_data(args.data, args.data_dir)
        print(
            f"{data!r}; torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()}, ",
            end="",
        )
        print(f"{args.device}, {platform.machine()}; {RECIPE}", flush=True)
        for seed in args.seeds:
            result = train_baseline(data, args.seconds, seed=seed, device=args.device)
            print(json.dumps({"seed": seed} | asdict(result)), flush=True)
    except ValueError as e:
        parser.error(str(e))


if __name__ == "__main__":
    main()
