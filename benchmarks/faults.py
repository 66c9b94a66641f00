"""Kill -9 in the middle of searches at random moments, start them again, compare with uninterrupted ones.

    python benchmarks/faults.py --kills 20
    python benchmarks/faults.py --interruptions 300

The first searches a chain space with its training hyperparameters on 200 of the digits (ForestSampler,
SuccessiveHalving, real networks, checkpoints). Each time, a worker process is killed after a random
fraction of a second, and another one goes on with what it left. Checked: everything that was told before a
kill is there unchanged after it, no checkpoint that a trial refers to is missing or torn, and trials,
decisions, values and final weights are those of a search that was never killed.

The second runs the state machine of ``tests/faults/test_interrupted_training.py`` that many times.

Workers come from a fork server that has imported torch already: a kill then hits the search, not the import.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import platform
import signal
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

if TYPE_CHECKING:
    import bonas

PRELOADED = [
    "torch._dynamo",
    "bonas.opening",
    "bonas.executors.here",
    "bonas.samplers._forest",
    "fidelity.training",
    "sklearn.ensemble",
]


def make(folder: str | None, seed: int) -> bonas.Study:
    import bonas
    from bonas import fidelity, samplers, spaces

    return bonas.create_study(
        space=spaces.chain(input_shape=(1, 8, 8), n_classes=10).with_hyperparameters(),
        axes=fidelity.Axes(epochs=(1, 9)),
        direction="maximize",
        sampler=samplers.ForestSampler(n_initial=4, n_trees=8),
        scheduler=fidelity.SuccessiveHalving(),
        storage=folder,
        study_name="kills",
        load_if_exists=True,
        seed=seed,
    )


def work(folder: str, seed: int, n_trials: int, started: Any) -> None:
    """What a worker process does: go on with the search, a checkpoint after every epoch."""
    import torch
    from sklearn.datasets import load_digits

    import bonas
    import bonas.trial

    logging.getLogger("bonas").setLevel(logging.ERROR)  # each start says what it takes back
    torch.set_num_threads(1)
    bonas.trial.CHECKPOINT_INTERVAL = 0.05  # instead of a minute: the search is short
    X, y = load_digits(return_X_y=True)
    objective = bonas.train_on((X[:200].reshape(-1, 1, 8, 8).astype("float32") / 16, y[:200]))
    study = make(folder, seed)
    make(None, seed).optimize(objective, budget=0.2)  # first steps are slow, and would catch all the kills
    started.set()
    study.optimize(objective, n_trials=n_trials)


def told(study: bonas.Study) -> dict[tuple[int, int, int], tuple[Any, ...]]:
    """Every observation there is, by trial, curve and epoch."""
    return {
        (t.number, i, o.epoch): (dict(o.values), o.fidelity)
        for t in study.records
        for i, curve in enumerate(t.curves)
        for o in curve.observations
    }


def sequence(study: bonas.Study) -> list[Any]:
    """All decisions and results in their order, without owners, times and attempts; then the weights."""
    decisions = [
        (d["ask"], t.number, d["action"], d["fidelity"]) for t in study.trials for d in study.decisions(t)
    ]
    trials = [
        (
            t.number,
            dict(t.params),
            t.seed,
            t.state,
            t.fidelity,
            [(o.epoch, dict(o.values)) for c in t.curves for o in c.observations],
        )
        for t in study.records
    ]
    return [sorted(decisions, key=lambda d: d[0]), trials, [weights(study, t.number) for t in study.trials]]


def weights(study: bonas.Study, number: int) -> bytes:
    """The trained weights of a trial, as bytes."""
    from fidelity import checkpoints

    record = study.records[number].checkpoint
    if record is None:
        return b""
    state, _ = checkpoints.read(study.artifacts / record.file, record.sha256)
    return b"".join(t.cpu().numpy().tobytes() for t in state["model"].values())


class Broken(Exception):  # noqa: N818 - what the benchmark looks for
    """A promise was not kept."""


def one_search(
    context: Any, seed: int, n_trials: int, kills: int, rng: np.random.Generator
) -> tuple[int, float, int]:
    """A search killed up to ``kills`` times, and compared: kills, seconds uninterrupted, observations."""
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as folder:
        began = start(context, whole, seed, n_trials)
        began[0].join()
        seconds = time.monotonic() - began[1]
        if began[0].exitcode != 0:
            raise Broken(f"the uninterrupted search ended with {began[0].exitcode}")
        done = 0
        known: dict[Any, Any] = {}
        while True:
            worker, begun = start(context, folder, seed, n_trials)
            if done < kills:
                worker.join(float(rng.uniform(0, 2 * seconds / (kills + 1))))
                if worker.is_alive():
                    os.kill(worker.pid, signal.SIGKILL)
                    done += 1
                worker.join()
            else:
                worker.join()
            if worker.exitcode not in (0, -signal.SIGKILL):
                raise Broken(f"a worker ended with {worker.exitcode} after {time.monotonic() - begun:.1f} s")
            study = make(folder, seed)
            now = told(study)
            lost = {key for key, value in known.items() if now.get(key) != value}
            if lost:
                raise Broken(f"seed {seed}, kill {done}: lost or changed {sorted(lost)}")
            known = now
            if worker.exitcode == 0:
                break
        if sequence(study) != sequence(make(whole, seed)):
            raise Broken(f"seed {seed}: another sequence after {done} kills")
        return done, seconds, len(now)


def start(context: Any, folder: str, seed: int, n_trials: int) -> tuple[Any, float]:
    started = context.Event()
    worker = context.Process(target=work, args=(folder, seed, n_trials, started))
    worker.start()
    while not started.wait(0.05) and worker.is_alive():
        pass
    return worker, time.monotonic()


def kill_searches(kills: int, n_trials: int, seed: int) -> int:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    rng = np.random.default_rng(seed)
    print(
        f"bonas {version('bonas')}, torch {version('torch')}, Python {platform.python_version()}, "
        f"{n_trials} trials a search"
    )
    print("search  kills  observations  lost  same sequence and weights  seconds uninterrupted")
    done = search = 0
    while done < kills:
        try:
            more, seconds, observed = one_search(context, seed + search, n_trials, min(kills - done, 10), rng)
        except Broken as broken:
            print(f"BROKEN: {broken}")
            return 1
        done, search = done + more, search + 1
        print(f"{search:6d}  {more:5d}  {observed:12d}  {0:4d}  {'yes':>25s}  {seconds:21.1f}", flush=True)
    print(f"{done} kills in {search} searches: nothing lost, nothing changed")
    return 0


def interruptions(examples: int) -> int:
    import torch
    from hypothesis import HealthCheck, settings
    from hypothesis.stateful import run_state_machine_as_test

    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "faults"))
    from test_interrupted_training import Interrupted, uninterrupted

    torch.set_num_threads(1)
    Interrupted.expected = uninterrupted()
    began = time.monotonic()
    limits = settings(
        max_examples=examples, stateful_step_count=45, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Interrupted, settings=limits)
    print(f"{examples} trainings interrupted at will, all bit-identical, in {time.monotonic() - began:.0f} s")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=14, help="configurations started in each search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--interruptions", type=int, help="instead: examples for the state machine")
    arguments = parser.parse_args()
    if arguments.interruptions:
        return interruptions(arguments.interruptions)
    return kill_searches(arguments.kills, arguments.trials, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
