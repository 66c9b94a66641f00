"""Trainings paused at random and resumed: are they what they would have been, and is what was learned used?

    python benchmarks/pause_resume.py --schedules 50 --promotions 10

First: configurations of chains and cells joined with training hyperparameters (optimizers, schedules,
augmentation, cutout, mix-up, label smoothing, dropout, drop-path), half of them with a memory that is too
small for a whole batch, train on a part of the digits through a study; once in one go, once paused after
random epochs and resumed from the checkpoint files. Weights, optimizer state and every reported value must be
equal bit by bit. On a CPU; a GPU adds up gradients in an order of its own.

Second: networks train at the lower end of one axis and are promoted to its upper end. Where state carries,
the first epoch after the promotion begins with what was learned before; where it does not, training begins
anew and is paid for. Beside it what a network trained at the upper end alone has after its first epoch, and
after as many epochs in all.

Writes ``results/pause_resume.md``. One core, about four minutes.
"""

from __future__ import annotations

import argparse
import collections
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

import bonas
from bonas import fidelity, spaces
from fidelity import checkpoints
from fidelity.records import StudyView, TrialRecord, TrialState
from fidelity.schedulers import Action, Done, Resume, Start, Wait

RESULTS = Path(__file__).parent / "results" / "pause_resume.md"
EPOCHS = 6
EXAMPLES = 400  # digits, of which 240 are trained on
MAX_MACS = 1_000_000
PRESETS = ("enas", "darts", "nas_bench_201")

# Where the axes begin and end; the epochs at the lower end, and in all: the middle rung of 1, 3, 9.
AXES: dict[str, tuple[float, float]] = {
    "subset": (0.25, 1.0),
    "resolution": (5, 8),
    "width": (0.5, 1.0),
    "depth": (0.5, 1.0),
}
BEFORE, IN_ALL = 3, 9


@dataclass(frozen=True)
class Steps:
    """One trial that goes through the given fidelities, whatever it reports."""

    rungs: tuple[fidelity.Fidelity, ...]

    def decide(self, view: StudyView, rng: np.random.Generator) -> Action:
        if not view.trials:
            return Start(self.rungs[0])
        trial = view.trials[0]
        if trial.state == TrialState.RUNNING:
            return Wait()
        above = self.rungs[self.rungs.index(trial.fidelity) + 1 :]
        return Resume(trial, above[0]) if trial.state == TrialState.PAUSED and above else Done()


def train(
    space: spaces.Space,
    params: dict[str, Any],
    objective: Any,
    axes: fidelity.Axes,
    rungs: Sequence[dict[str, float]],
    seed: int,
) -> tuple[bonas.Study, TrialRecord]:
    """One configuration trained through the rungs by a study of its own."""
    scheduler = Steps(tuple(axes.fidelity(rung) for rung in rungs))
    study = bonas.create_study(space=space, axes=axes, direction="maximize", scheduler=scheduler, seed=seed)
    study.enqueue_trial(params)
    study.optimize(objective)
    return study, study.records[0]


# Equal bit by bit ---------------------------------------------------------------------------------


def narrow(space: spaces.Space, most: int) -> spaces.Space:
    """The same networks, which cannot be trained on more than some examples at a time."""

    def refuse(module: torch.nn.Module, args: Any) -> None:
        if module.training and len(args[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")

    def build(params: dict[str, Any], width: float, depth: float) -> torch.nn.Module:
        model: torch.nn.Module = space.build(params, width=width, depth=depth)
        model.register_forward_pre_hook(refuse)
        return model

    return spaces.Space(space.configuration_space, build=build)


def drawn(rng: np.random.Generator) -> tuple[spaces.Space, dict[str, Any]]:
    """A space and a small network of it."""
    if rng.random() < 0.5:
        space = spaces.chain((1, 8, 8), 10).with_hyperparameters()
    else:
        preset = PRESETS[rng.integers(len(PRESETS))]
        space = spaces.cell(preset=preset, input_shape=(1, 8, 8), n_classes=10, filters=4, cells=1)
        space = space.with_hyperparameters()
    while True:
        [params] = space.sample(1, rng)
        if space.count(params).macs <= MAX_MACS:
            return space, params


def state_of(study: bonas.Study) -> Any:
    """The newest state of the study's one trial."""
    record = study.records[0].checkpoint
    return None if record is None else checkpoints.read(study.artifacts / record.file, record.sha256)[0]


def identical(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(identical(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(identical, a, b))
    return bool(a == b)


def told(record: TrialRecord) -> Any:
    """What a study knows of a trial in the end."""
    observed = [(o.epoch, dict(o.values)) for curve in record.curves for o in curve.observations]
    return record.state, record.reason, observed


def one_schedule(objective: Any, seed: int) -> tuple[bool, list[str]]:
    """Whether a random training with random pauses is what it is without; and what was in it."""
    rng = np.random.default_rng([seed, 20])
    space, params = drawn(rng)
    used = [f"{params['optimizer']}", f"{params['schedule']} schedule"]
    used += [name for name in ("mixup", "cutout", "dropout", "drop_path") if params.get(name)]
    used += ["augmentation"] * (params["augmentation"] != "none")
    if rng.random() < 0.5:
        batch = min(int(params["batch_size"]), len(objective.data.train))
        space = narrow(space, int(0.6 * batch))
        used.append("micro-batches")
    pauses = sorted(int(p) for p in rng.choice(np.arange(1, EPOCHS), rng.integers(1, EPOCHS - 1), False))
    axes = fidelity.Axes(epochs=(1, EPOCHS))
    whole, expected = train(space, params, objective, axes, [{"epochs": EPOCHS}], seed)
    stops = [{"epochs": epoch} for epoch in (*pauses, EPOCHS)]
    parts, found = train(space, params, objective, axes, stops, seed)
    if "micro-batches" in used and expected.curves:
        assert expected.user_attrs["micro_batches"] == 2
    used.append(f"ended {expected.state.value}")
    equal = told(found) == told(expected) and identical(state_of(parts), state_of(whole))
    return equal, used


def schedules(n: int, objective: Any) -> tuple[list[int], str]:
    """The seeds of trainings that were not equal, and the text on all of them."""
    failed, used = [], collections.Counter[str]()
    for seed in range(n):
        equal, names = one_schedule(objective, seed)
        used.update(names)
        if not equal:
            failed.append(seed)
        print(f"{seed:4d}  {'equal' if equal else 'UNEQUAL'}  {', '.join(names)}", flush=True)
    counts = ", ".join(f"{name} {count}" for name, count in sorted(used.items()))
    return failed, (
        f"{n} random trainings of {EPOCHS} epochs, each also paused after one to {EPOCHS - 2} random epochs "
        f"and resumed from files: {len(failed)} differ in any bit of the weights, the optimizer's state or a "
        f"reported value.\n\nHow many had what: {counts}.\n"
    )


# Promotions ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Promotion:
    """One network promoted from the lower end of an axis to the upper one, and trained at the upper alone."""

    next_epoch: int
    """Of the first report after the promotion."""
    accuracy: float
    """After that epoch."""
    alone_first: float
    """Of the network never at the lower end, after its first epoch."""
    alone_later: float
    """After as many epochs in all."""
    cost: float
    anew: bool
    """Whether what was reported after the promotion is exactly what the other network reported."""


def promoted(axis: str, n: int, objective: Any) -> list[Promotion]:
    """What n random networks are after a promotion along an axis."""
    low, high = AXES[axis]
    axes = fidelity.Axes(**{"epochs": (1, IN_ALL), axis: (low, high)})
    space = spaces.chain((1, 8, 8), 10, n_layers=(3, 5)).with_hyperparameters()
    space = space.fix({"batch_size": 32, "mixup": 0.0, "cutout": 0.0, "augmentation": "none"})
    rng, rows = np.random.default_rng(7), []
    while len(rows) < n:
        [params] = space.sample(1, rng)
        if space.count(params).macs > MAX_MACS:
            continue
        top = {"epochs": IN_ALL, axis: high}
        study, record = train(
            space, params, objective, axes, [{"epochs": BEFORE, axis: low}, top], seed=len(rows)
        )
        _, alone = train(space, params, objective, axes, [top], seed=len(rows))
        if TrialState.FAIL in (record.state, alone.state):  # diverged: nothing to compare
            continue
        after = [o for curve in record.curves for o in curve.observations if o.fidelity == axes.full]
        fresh = alone.curves[0].observations
        rows.append(
            Promotion(
                next_epoch=after[0].epoch,
                accuracy=after[0].values["accuracy"],
                alone_first=fresh[0].values["accuracy"],
                alone_later=fresh[BEFORE].values["accuracy"],
                cost=study.spent,
                anew=[dict(o.values) for o in after] == [dict(o.values) for o in fresh],
            )
        )
    return rows


def promotions(n: int, objective: Any) -> str:
    lines = [
        f"Mean validation accuracy of {n} networks of the chain space after {BEFORE} epochs at the lower end "
        f"of an axis and a promotion to its upper end, up to epoch {IN_ALL}; cost in full evaluations.",
        "",
        "| axis | from → to | next epoch | accuracy after it | alone at the upper end: after 1 epoch "
        f"| after {BEFORE + 1} | promoted beats 1 epoch | cost | begins anew |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for axis, (low, high) in AXES.items():
        rows = promoted(axis, n, objective)
        epochs = "/".join(str(e) for e in sorted({row.next_epoch for row in rows}))
        accuracy, first, later, cost = (
            f"{statistics.mean(getattr(row, name) for row in rows):.3f}"
            for name in ("accuracy", "alone_first", "alone_later", "cost")
        )
        better = f"{sum(row.accuracy > row.alone_first for row in rows)} of {len(rows)}"
        anew = "yes, exactly" if all(row.anew for row in rows) else "no"
        lines.append(
            f"| {axis} | {low:g} → {high:g} | {epochs} | {accuracy} | {first} | {later} | {better} "
            f"| {cost} | {anew} |"
        )
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schedules", type=int, default=50)
    parser.add_argument("--promotions", type=int, default=10)
    arguments = parser.parse_args()
    from sklearn.datasets import load_digits

    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    images = X.reshape(-1, 1, 8, 8).astype(np.uint8)
    began = time.monotonic()
    failed, text = schedules(arguments.schedules, bonas.train_on((images[:EXAMPLES], y[:EXAMPLES])))
    table = promotions(arguments.promotions, bonas.train_on((images, y)))
    conditions = (
        f"Digits, one core, {time.monotonic() - began:.0f} s; Python {platform.python_version()}, torch "
        f"{version('torch')}, {platform.machine()}.\n"
    )
    RESULTS.write_text("\n".join((text, table, conditions)))
    print(f"\n{text}\n{table}\n{conditions}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
