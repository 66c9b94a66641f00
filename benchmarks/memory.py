"""Predicted memory of trainings against what a GPU's allocator says, over networks of every space.

    python benchmarks/memory.py

Every network is trained for a few steps as trials are, in mixed precision, on random images that lie on the
device already. Measured is the most bytes allocated during the steps, beyond what was there before the
network was built. The library of matrix products takes its scratch memory before that. Without a GPU it
says "not measured". Results lie in ``results/memory.md``.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bonas import spaces
from fidelity import memory
from fidelity.examples import Examples
from fidelity.loop import seeded, train_epoch
from fidelity.optimizers import Recipe, make_optimizer
from fidelity.schedules import Schedule
from fidelity.tasks import Classification

RESULTS = Path(__file__).parent / "results" / "memory.md"
SMALL = 64 * 2**20
"""Networks that take less are left out of the summary: a library's scratch memory outweighs them."""
STEPS = 3


@dataclass(frozen=True)
class Row:
    space: str
    batch_size: int
    optimizer: str
    predicted: int
    measured: int

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def networks() -> Iterator[tuple[str, spaces.Space, dict[str, Any], int]]:
    """Name, space, configuration and batch size: defaults and prior draws."""
    made = {
        "chain, 28×28": spaces.chain((1, 28, 28), 10),
        "chain, 32×32": spaces.chain((3, 32, 32), 10),
        "chain with skips, 32×32": spaces.chain((3, 32, 32), 10, skip_connections=True),
        "nas_bench_201": spaces.cell("nas_bench_201", (3, 32, 32), 10),
        "darts": spaces.cell("darts", (3, 32, 32), 10),
        "nasnet": spaces.cell("nasnet", (3, 32, 32), 10),
        "mlp, 1,024 features": spaces.chain_mlp(1024, 10),
    }
    generator = np.random.default_rng(0)
    for name, space in made.items():
        space = space.with_hyperparameters()
        for params in (space.default, *space.sample(7, generator)):
            for batch_size in (64, 512):
                yield name, space, params, batch_size


def measure(space: spaces.Space, params: dict[str, Any], batch_size: int, device: torch.device) -> Row:
    training = params | {"batch_size": batch_size, "augmentation": "none", "mixup": 0.0, "cutout": 0.0}
    recipe = Recipe.of(training)
    n = STEPS * recipe.batch_size
    shape = space.input_shape
    assert shape is not None
    inputs = torch.randint(256, (n, *shape), dtype=torch.uint8) if len(shape) == 3 else torch.randn(n, *shape)
    labels = torch.randint(10, (n,))
    scale = [128.0] * shape[0], [64.0] * shape[0]
    train = Examples.of(inputs, labels, *scale, Classification(10), device)
    torch.cuda.empty_cache()
    peak = memory.Peak(device)
    with seeded(device, 0):
        model = space.build(params)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, recipe)
    peak.begin()
    for epoch in (1, 2):  # the optimizer's state is there from the first step on
        with seeded(device, epoch):
            train_epoch(model, optimizer, train, torch.arange(n), recipe, Schedule(2, recipe.schedule), epoch)
    measured = peak.end()
    assert measured is not None
    mixed = memory.uses_mixed_precision()
    predicted = memory.predicted(space.footprint(params, mixed=mixed), training, mixed)
    return Row("", recipe.batch_size, recipe.optimizer, predicted, measured)


def main() -> int:
    if not torch.cuda.is_available():
        print("not measured: torch sees no GPU here.")
        return 0
    device = torch.device("cuda")
    # Libraries take their scratch memory at the first product and convolution.
    warm = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 8))
    with torch.autocast("cuda", torch.bfloat16):
        warm.to(device)(torch.randn(8, 8, 8, 8, device=device)).sum().backward()
    warm.zero_grad(set_to_none=True)
    rows = []
    for name, space, params, batch_size in networks():
        row = measure(space, params, batch_size, device)
        rows.append(Row(name, row.batch_size, row.optimizer, row.predicted, row.measured))
        print(f"{name:24} {row.batch_size:4} {row.optimizer:6} {row.predicted / 2**20:9.1f} MiB predicted, "
              f"{row.measured / 2**20:9.1f} measured, {row.error:+.1%}", flush=True)  # fmt: skip
    large = [row for row in rows if row.measured >= SMALL]
    small = np.median([row.error for row in rows if row.measured < SMALL] or [0.0])
    lines = [
        "Peak memory of a training step beyond the data: predicted relative to measured. Networks that take "
        f"at least {SMALL >> 20} MiB.",
        "",
        "| space | networks | median error | worst | within 20 % |",
        "|---|---|---|---|---|",
    ]
    for name in [*dict.fromkeys(row.space for row in large), "all"]:
        errors = np.array([row.error for row in large if name in (row.space, "all")])
        worst = errors[np.abs(errors).argmax()]
        lines.append(
            f"| {name} | {len(errors)} | {np.median(errors):+.1%} | {worst:+.1%} | "
            f"{(np.abs(errors) <= 0.2).mean():.0%} |"
        )
    lines += [
        "",
        f"{len(rows) - len(large)} smaller networks: median error {small:+.1%}. "
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, Python {platform.python_version()}; "
        "bfloat16 autocast, channels last.",
    ]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
