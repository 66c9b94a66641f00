"""The tasks, each read from its table; knows the tables' formats, no search methods.

Add one with a function that returns a :class:`Task` and an entry in :data:`TASKS`. Ordered grids are whole
numbers 0, 1, …, positions in the grid; everything else is a category. Which tables, and why:

- NAS-Bench-201 (Dong and Yang 2020), three data sets: a cell space with noise.
- NAS-Bench-Macro (Su et al. 2021): a chain of eight layers.
- FCNet (Klein and Hutter 2019), protein and slice: architecture and hyperparameters together.
- HPOBench (Eggensperger et al. 2021), vehicle and segment: likewise; other data sets saturate at once.
- TransNAS-Bench-101 (Duan et al. 2021), a sample of its cells and one of its macro networks, each on scene
  classification. Jigsaw puzzles saturate: random search finds the best of the sample's macro networks within
  100. Autoencoding is luck: one of them is far above all others, trained once.
- Accel-NASBench (Ahmad et al. 2024): a sample of MnasNet's space on ImageNet, under a limit on latency.
- Our own table (``benchmarks/tables``): a sample of the chain space joined with training hyperparameters.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import _tables
import numpy as np
import tables
from ConfigSpace import Categorical, ConfigurationSpace, GreaterThanCondition, Integer

from bonas import spaces
from search.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ConfigSpace.hyperparameters import Hyperparameter

LATENCY_LIMIT = 5.0
"""Milliseconds on a ZCU102 that networks of ``accel latency`` may take: four tenths keep it."""

POINTS = "percentage points"
DECADES = "log10 of the loss"


def nasbench201(dataset: str) -> Task:
    table = _tables.nasbench201()
    d = table.datasets.index(dataset)
    file = _load("nasbench201_12_200")
    choices = table.OPERATIONS
    return Task(
        name=f"nasbench201 {dataset}",
        space=spaces.cell(preset="nas_bench_201"),
        direction="maximize",
        rows=[{f"edge{k}": choices[op] for k, op in enumerate(ops)} for ops in table.operations.tolist()],
        values=table.accuracy[:, d].astype(np.float64),
        unit=POINTS,
        seconds=np.nanmean(file["train_seconds_200"][:, d], axis=1, dtype=np.float64),
    )


def nasbench_macro() -> Task:
    file = _load("nas_bench_macro")
    hyperparameters = [Categorical(f"layer{k}", ("identity", "mb3_k3", "mb6_k5")) for k in range(8)]
    return Task(
        name="nasbench-macro",
        space=_space(hyperparameters),
        direction="maximize",
        rows=_rows(hyperparameters, file["ops"]),
        values=file["test_acc_runs"].astype(np.float64),
        unit=POINTS,
    )


def fcnet(dataset: str, index: int) -> Task:
    file = _load("fcnet_hpolib_final")
    hyperparameters = [
        Categorical("activation_fn_1", ("relu", "tanh")),
        Categorical("activation_fn_2", ("relu", "tanh")),
        _grid("batch_size", 4),
        _grid("dropout_1", 3),
        _grid("dropout_2", 3),
        _grid("init_lr", 6),
        Categorical("lr_schedule", ("cosine", "const")),
        _grid("n_units_1", 6),
        _grid("n_units_2", 6),
    ]
    return Task(
        name=f"fcnet {dataset}",
        space=_space(hyperparameters),
        direction="minimize",
        rows=_rows(hyperparameters, file["config"]),
        values=file["val_loss"][index].astype(np.float64),
        unit=DECADES,
        logarithmic=True,
        seconds=file["train_seconds_total"][index].astype(np.float64),
    )


def hpobench(dataset: str, index: int) -> Task:
    file = _load("hpobench_mlp_final")
    hyperparameters = [
        _grid("alpha", 10),
        _grid("batch_size", 10),
        _grid("depth", 3),
        _grid("learning_rate_init", 10),
        _grid("width", 10),
    ]
    return Task(
        name=f"hpobench {dataset}",
        space=_space(hyperparameters),
        direction="maximize",
        rows=_rows(hyperparameters, file["config"]),
        values=100 * file["val_acc"][index].astype(np.float64),
        unit=POINTS,
        seconds=file["train_seconds_mean"][index].astype(np.float64),
    )


def transnas_micro() -> Task:
    file, values = _transnas("micro", "class_scene")
    hyperparameters = [Categorical(f"edge{k}", ("none", "skip", "conv1x1", "conv3x3")) for k in range(6)]
    return Task(
        name="transnas micro scene",
        space=_space(hyperparameters),
        direction="maximize",
        rows=_rows(hyperparameters, file["arch"]),
        values=values,
        unit=POINTS,
        sampled=True,
    )


def transnas_macro() -> Task:
    """Four to six modules in a row, each of which may double the channels, halve the resolution, or both."""
    file, values = _transnas("macro", "class_scene")
    kinds = ("normal", "channels", "resolution", "both")
    count = Integer("modules", (4, 6), default=5)
    modules = [Categorical(f"module{k}", kinds) for k in range(6)]
    space = ConfigurationSpace()
    space.add(count, *modules)
    space.add(*(GreaterThanCondition(modules[k], count, k) for k in (4, 5)))
    rows = [
        {"modules": sum(code > 0 for code in codes)}
        | {f"module{k}": kinds[code - 1] for k, code in enumerate(codes) if code > 0}
        for codes in file["arch"].tolist()
    ]
    return Task("transnas macro scene", spaces.Space(space), "maximize", rows, values, POINTS, sampled=True)


def accel(limit: float = LATENCY_LIMIT) -> Task:
    """The limit is checked before evaluation: networks that exceed it are not among the rows."""
    file, hyperparameters, codes, kept = _accel(limit)
    return Task(
        name="accel latency",
        space=_space(hyperparameters),
        direction="maximize",
        rows=_rows(hyperparameters, codes[kept]),
        values=file["val_top1"][kept, None].astype(np.float64),
        unit=POINTS,
        sampled=True,
        seconds=file["train_seconds_total"][kept].astype(np.float64),
    )


def accel_macs(limit: float) -> np.ndarray:
    """Millions of multiply-accumulates of the rows of ``accel(limit)``."""
    file, _, _, kept = _accel(limit)
    return file["macs_m"][kept].astype(np.float64)


def _accel(limit: float) -> tuple[dict[str, np.ndarray], list[Hyperparameter], np.ndarray, np.ndarray]:
    """The file, the hyperparameters, every network's codes, and the rows that keep the limit, each once."""
    file = _load("accel_nasbench_imagenet")
    parts = {"expansion": (1, 4, 6), "kernel": (3, 5), "layers": (1, 2, 3, 4)}
    hyperparameters: list[Hyperparameter] = []
    for block in range(7):
        hyperparameters += [_grid(f"{part}{block}", len(grid)) for part, grid in parts.items()]
        hyperparameters.append(Categorical(f"squeeze{block}", ("no", "yes")))
    positions = [
        np.searchsorted(grid, file["arch"][..., k]) for k, grid in enumerate((*parts.values(), (0, 1)))
    ]
    codes = np.stack(positions, axis=2).reshape(len(file["arch"]), -1)
    _, first = np.unique(codes, axis=0, return_index=True)  # a few networks are there twice
    return file, hyperparameters, codes, np.sort(first[file["latency_ms"][first, 0] <= limit])


def recorded() -> Task:
    if not tables.FASHION_MNIST_CHAIN.exists():
        raise _tables.SkippedError(
            f"skipped: {tables.FASHION_MNIST_CHAIN.name} is not recorded yet (benchmarks/tables/README.md)."
        )
    table = tables.read(tables.FASHION_MNIST_CHAIN)
    table = table.only(np.flatnonzero(np.isfinite(table.measured("seconds", "full")[:, 0])))
    trained = [np.isfinite(table.measured("seconds", run)[:, 0]) for run in ("full", "full, seed 1")]
    final = [table.accuracy(run)[:, -1] for run in ("full", "full, seed 1")]
    return Task(
        name="recorded chains",
        space=table.space,
        direction="maximize",
        rows=[table.space.validate(params) for params in table.params],
        values=100 * np.where(trained, final, np.nan).T,
        unit=POINTS,
        sampled=True,
        seconds=np.nansum(table.measured("seconds", "full"), axis=1),
    )


TASKS: dict[str, Callable[[], Task]] = {
    "nasbench201 cifar10": partial(nasbench201, "cifar10"),
    "nasbench201 cifar100": partial(nasbench201, "cifar100"),
    "nasbench201 ImageNet16-120": partial(nasbench201, "ImageNet16-120"),
    "nasbench-macro": nasbench_macro,
    "fcnet protein": partial(fcnet, "protein", 2),
    "fcnet slice": partial(fcnet, "slice", 3),
    "hpobench vehicle": partial(hpobench, "vehicle", 7),
    "hpobench segment": partial(hpobench, "segment", 6),
    "transnas micro scene": transnas_micro,
    "transnas macro scene": transnas_macro,
    "accel latency": accel,
    "recorded chains": recorded,
}
"""By name, in the order of the report."""


@cache
def load(name: str) -> Task:
    """A task by its name, read once.

    Raises:
        ValueError: if there is none of that name.
        SkippedError: if its table is not here; the message says what to set.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}: there are {', '.join(TASKS)}.")
    return TASKS[name]()


def _load(folder: str, file: str = "table.npz") -> dict[str, np.ndarray]:
    with np.load(_tables.folder(folder) / file, allow_pickle=False) as arrays:
        return dict(arrays)


def _transnas(kind: str, task: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays of the rows where the task was measured, and its metric, shape (rows, 1)."""
    file = _load("transnasbench101_partial", f"{kind}.npz")
    values = file["val_metric"][:, [name.decode() for name in file["tasks"]].index(task)]
    measured = np.isfinite(values)
    return {"arch": file["arch"][measured]}, values[measured, None].astype(np.float64)


def _grid(name: str, n: int) -> Integer:
    """A position in a grid of ``n`` ordered values."""
    return Integer(name, (0, n - 1), default=(n - 1) // 2)


def _space(hyperparameters: Iterable[Hyperparameter]) -> spaces.Space:
    space = ConfigurationSpace()
    space.add(*hyperparameters)
    return spaces.Space(space)


def _rows(hyperparameters: Sequence[Hyperparameter], codes: np.ndarray) -> list[dict[str, Any]]:
    """Configurations from one code for each hyperparameter: a position in its choices or its grid."""
    names = [hyperparameter.name for hyperparameter in hyperparameters]
    columns = [
        [hyperparameter.choices[code] for code in column] if hasattr(hyperparameter, "choices") else column
        for hyperparameter, column in zip(hyperparameters, codes.T.tolist(), strict=True)
    ]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
