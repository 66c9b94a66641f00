"""The tables of learning curves, each as a task; knows the tables' formats, no search methods.

Add one with a function that returns a :class:`Task` and an entry in :data:`TASKS`. Which tables, and why:

- TaskSet (Metz et al. 2020), six text networks: real curves that diverge, plateau and drop.
- NAS-Bench-301 (Siems et al. 2020): DARTS cells, curves of a surrogate, smooth and easily ranked.
- LCBench (Zimmer et al. 2021), 28 data sets: curves of a surrogate, graded by the real final value. The six
  data sets are left out on which that surrogate is poor: kc1, blood_transfusion_service_center, airlines,
  adult, bank_marketing, phoneme, below .7 in rank correlation with the real final value.
- Our own table (``benchmarks/tables``): the chain space joined with training hyperparameters, five axes.
- Two of TaskSet's with their first epochs spoilt, so that these rank not at all, or weakly.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import _tables
import numpy as np
import tables
from ConfigSpace import ConfigurationSpace, Float, Integer
from scipy.stats import norm, rankdata

from bonas import spaces
from fidelity.axes import Axes
from multifidelity.task import Run, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Floats = np.ndarray[Any, np.dtype[np.float64]]

CLIPPED = 2.0
"""TaskSet's losses above this, thrice that of guessing, explode up to 1e17 and say nothing more."""
SPOILT = 5
"""Epochs that rank badly in the tables that were built to; two more lead back to the real values."""


def taskset(index: int) -> Task:
    """Adam's eight hyperparameters, every one spread evenly on a logarithmic scale, as they were drawn."""
    file = _load("taskset_imdb_rnn")
    names = [name.decode() for name in file["hp_names"]]
    hp = file["hp"].astype(np.float64)
    for k, name in enumerate(names):
        if name in ("beta1", "beta2"):  # they were drawn by what they lack of 1
            hp[:, k], names[k] = 1 - hp[:, k], f"one minus {name}"
    losses = file["valid_loss"][index, :, 1:].astype(np.float64)  # the first is before training
    losses = np.where(np.isfinite(losses), losses, np.nan)
    losses[np.isnan(losses).cumsum(axis=1) > 0] = np.nan
    losses = np.minimum(losses, CLIPPED)
    return Task(
        name=f"taskset {index}",
        space=_space([Float(n, _decades(hp[:, k]), log=True) for k, n in enumerate(names)]),
        direction="minimize",
        rows=[dict(zip(sorted(names), row, strict=True)) for row in hp[:, np.argsort(names)].tolist()],
        axes=Axes(epochs=(1, losses.shape[1])),
        runs=(Run(losses),),
        true=losses[:, -1],
        about={"table": file["tasks"][index].decode()},
    )


def spoilt(index: int, spearman: float, name: str) -> Task:
    """A task of TaskSet whose first epochs rank by ``spearman`` with its last.

    Each of these epochs keeps its values but hands them to other rows: ordered by a mixture of the rows' own
    normal scores and of noise that is the same in all of them.
    """
    task = taskset(index)
    values = task.runs[0].values.copy()
    last = values[:, -1]
    there = np.isfinite(last)
    rng = np.random.default_rng([index, 6])
    noise, scores = rng.standard_normal(len(task)), np.full(len(task), np.nan)
    scores[there] = norm.ppf((rankdata(last[there]) - 0.5) / there.sum())
    scores[~there] = norm.ppf(1 - 0.5 / there.sum())
    r = 2 * np.sin(np.pi / 6 * spearman)  # of normal scores with that rank correlation
    mixed = r * scores + np.sqrt(1 - r * r) * noise
    for epoch in range(SPOILT + 2):
        finite = np.isfinite(values[:, epoch])
        own = norm.ppf((rankdata(values[finite, epoch]) - 0.5) / finite.sum())
        share = min(1.0, (SPOILT + 2 - epoch) / 3)
        order = np.argsort(share * mixed[finite] + (1 - share) * own, kind="stable")
        column = np.empty(finite.sum())
        column[order] = np.sort(values[finite, epoch])
        values[finite, epoch] = column
    return Task(
        name=name,
        space=task.space,
        direction=task.direction,
        rows=task.rows,
        axes=task.axes,
        runs=(Run(values),),
        true=task.true,
        about={**task.about, "spearman": spearman},
    )


def nb301() -> Task:
    file = _load("nb301_yahpo_surrogate")
    operations = (
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    )
    space = spaces.cell(preset="darts")
    seconds = np.diff(file["runtime_s"].astype(np.float64), prepend=0, axis=1).clip(0)
    values = file["val_acc_x100"] / 100.0
    return Task(
        name="nb301",
        space=space,
        direction="maximize",
        rows=[_darts(arch, operations, space.names) for arch in file["arch"].tolist()],
        axes=Axes(epochs=(1, values.shape[1])),
        runs=(Run(values, seconds),),
        true=values[:, -1],
    )


def _darts(arch: list[Any], operations: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """A genotype as a configuration: each node's two edges in the order of where they come from."""
    found = {}
    for cell, pairs in zip(("normal", "reduction"), arch, strict=True):
        for node in range(4):
            (i, a), (j, b) = sorted(pairs[2 * node : 2 * node + 2])
            prefix = f"{cell}_block{node + 2}"
            found |= {f"{prefix}_inputs": f"{i},{j}"} if node else {}
            found |= {f"{prefix}_op_a": operations[a], f"{prefix}_op_b": operations[b]}
    return {name: found[name] for name in names}


def lcbench(dataset: str) -> Task:
    file = _lcbench()
    t = [name.decode() for name in file["dataset"]].index(dataset)
    config = file["config"].astype(np.float64)
    hyperparameters = [
        Integer("batch_size", (16, 512), log=True),
        Float("learning_rate", (1e-4, 1e-1), log=True),
        Float("momentum", (0.1, 0.99)),
        Float("weight_decay", (1e-5, 1e-1)),
        Integer("num_layers", (1, 5)),
        Integer("max_units", (64, 1024), log=True),
        Float("max_dropout", (0.0, 1.0)),
    ]
    whole = ("batch_size", "num_layers", "max_units")
    rows = [
        {
            part.name: round(value) if part.name in whole else min(max(value, part.lower), part.upper)
            for part, value in zip(hyperparameters, row, strict=True)
        }
        for row in config.tolist()
    ]
    # The first epoch is that of a net hardly trained, and ranks at random.
    values = file["surr_val_accuracy_x500"][t, :, 1:] / 500.0
    seconds = np.diff(file["surr_time_cum_s"][t].astype(np.float64), axis=1).clip(0)
    seconds[:, 0] += file["surr_time_cum_s"][t, :, 0]
    space = _space(hyperparameters)
    return Task(
        name=f"lcbench {dataset}",
        space=space,
        direction="maximize",
        rows=[{name: row[name] for name in space.names} for row in rows],
        axes=Axes(epochs=(1, values.shape[1])),
        runs=(Run(values, seconds),),
        true=file["real_final_val_accuracy"][t].astype(np.float64),
    )


def recorded() -> Task:
    """Our own: five axes, whose state carries over more epochs but over nothing else."""
    if not tables.FASHION_MNIST_CHAIN.exists():
        raise _tables.SkippedError(
            f"skipped: {tables.FASHION_MNIST_CHAIN.name} is not recorded yet (benchmarks/tables/README.md)."
        )
    table = tables.read(tables.FASHION_MNIST_CHAIN).complete()
    again = "full, seed 1"
    runs = [
        Run(100 * table.measured("accuracy", name), table.measured("seconds", name), history)
        for name, history in table.runs.items()
        if name not in (again, "ladder")
    ]
    trained = np.isfinite(table.measured("seconds", again)[:, 0])
    final = [table.accuracy(name)[:, -1] for name in ("full", again)]
    return Task(
        name="recorded chains",
        space=table.space,
        direction="maximize",
        rows=[table.space.validate(params) for params in table.params],
        axes=Axes(
            epochs=[3, 6, 12],
            subset=[0.25, 0.5, 1.0],
            resolution=[14, 20, 28],
            width=[0.5, 1.0],
            depth=[0.5, 1.0],
            carry=("epochs",),
        ),
        runs=tuple(runs),
        true=100 * np.where(trained, (final[0] + final[1]) / 2, final[0]),
        parameters=table.parameters.astype(np.float64),
    )


LCBENCH = (
    "KDDCup09_appetency",
    "covertype",
    "Amazon_employee_access",
    "nomao",
    "shuttle",
    "Australian",
    "kr_vs_kp",
    "mfeat_factors",
    "credit_g",
    "vehicle",
    "cnae_9",
    "higgs",
    "connect_4",
    "helena",
    "jannis",
    "volkert",
    "MiniBooNE",
    "APSFailure",
    "christine",
    "fabert",
    "jasmine",
    "sylvine",
    "albert",
    "dionis",
    "car",
    "segment",
    "Fashion_MNIST",
    "jungle_chess_2pcs_raw_endgame_complete",
)
"""The 28 data sets."""

TASKS: dict[str, Callable[[], Task]] = {
    **{f"taskset {k}": partial(taskset, k) for k in range(6)},
    "nb301": nb301,
    **{f"lcbench {name}": partial(lcbench, name) for name in LCBENCH},
    "recorded chains": recorded,
    "misleading": partial(spoilt, 0, 0.0, "misleading"),
    "weak": partial(spoilt, 2, 0.3, "weak"),
}
"""By name, in the order of the report."""


GROUPS = {"taskset": "TaskSet", "nb301": "NAS-Bench-301", "lcbench": "LCBench"}
"""The first word of a task's name → the table it is of."""


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


@cache
def _lcbench() -> dict[str, np.ndarray]:
    return _load("lcbench_real_final_plus_surrogate_curves")


def _load(folder: str) -> dict[str, np.ndarray]:
    with np.load(_tables.folder(folder) / "table.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def _decades(column: Floats) -> tuple[float, float]:
    """The whole decades that a column was drawn from."""
    return float(10 ** np.floor(np.log10(column.min()))), float(10 ** np.ceil(np.log10(column.max())))


def _space(hyperparameters: Sequence[Any]) -> spaces.Space:
    space = ConfigurationSpace()
    space.add(*hyperparameters)
    return spaces.Space(space)
