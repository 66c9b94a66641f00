"""A hundred objectives that run out of memory, diverge, hang, raise, answer nonsense or kill their process.

    python benchmarks/bad_objectives.py
    python benchmarks/bad_objectives.py --objectives 100 --jobs 2

Each is one trial of a search; every sixth trial is a good one. Checked: the study goes on to its end, every
bad trial has ended with the state and the reason of its own kind, and every good one is complete. Without
``--jobs`` all runs in one process; the objectives that kill it take the driver along, which is then started
again, as its user would. With jobs the driver lives on. ``exit`` is run with jobs only: alone, it ends
the search by contract, and the trial stays paused.

Memory: where there is a CUDA device its memory really runs out, and every trial checks that nothing of the
one before is left on it. On a CPU an allocation is asked for that no machine can give.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import math
import multiprocessing
import os
import platform
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

PRELOADED = ["torch._dynamo", "bonas.opening", "bonas.executors.pool", "sklearn.ensemble"]
EPOCHS = 9
LIMIT = 2.0  # seconds a trial may take
RESTARTS = 100


class OddError(Exception):
    """Its own text is broken."""

    def __str__(self) -> str:
        raise RuntimeError("even this")


class UnsendableError(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("no")


def raising(error: BaseException) -> Callable[[Any], Any]:
    def objective(trial: Any) -> None:
        for epoch in trial.epochs():
            trial.report(1.0, epoch)
            if epoch == 3:
                raise error

    return objective


def reporting(value: Any, epoch: int | None = None) -> Callable[[Any], Any]:
    def objective(trial: Any) -> None:
        for e in trial.epochs():
            trial.report(value if e == 3 else 1.0, e if epoch is None or e != 3 else epoch)

    return objective


def returning(value: Any) -> Callable[[Any], Any]:
    return lambda trial: value


def doing(action: Callable[[], Any]) -> Callable[[Any], Any]:
    """Trains two epochs, and then this."""

    def objective(trial: Any) -> Any:
        for epoch in trial.epochs():
            trial.report(1.0, epoch)
            if epoch == 2:
                return action()
        return None

    return objective


def allocate() -> None:
    import torch

    torch.empty(2**55)


def allocate_cuda() -> None:
    """Fill the device with tensors, as a network too large for it does."""
    import torch

    tensors = []
    while True:
        tensors.append(torch.ones(2**28, device="cuda"))


def diverge() -> None:
    from fidelity.training import Diverged

    raise Diverged("epoch 2: the loss is nan in training")


def stubborn() -> None:
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


def spin() -> None:
    while True:
        pass


def deaf() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGTERM})
    time.sleep(1e6)


def locked() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def kill(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


MEMORY, DIVERGED, HANG, RAISE, NONSENSE, DEATH = "memory", "diverged", "hang", "raise", "nonsense", "death"
DIED = r"died|was gone"
Kind = tuple[str, str, Callable[[Any], Any], str, str]

# What it is about, its name, the objective, the state it must end in, the reason it must have.
KINDS: list[Kind] = [
    (MEMORY, "Python's memory", raising(MemoryError()), "INFEASIBLE", "out of memory: MemoryError"),
    (MEMORY, "torch on the CPU", doing(allocate), "INFEASIBLE", "out of memory: RuntimeError.*Allocator"),
    (MEMORY, "an array", doing(lambda: np.empty(2**50)), "INFEASIBLE", "out of memory: .*Unable to allocate"),
    (DIVERGED, "reports NaN", reporting(math.nan), "FAIL", "diverged at epoch 3: value=nan"),
    (DIVERGED, "reports inf", reporting(math.inf), "FAIL", "diverged at epoch 3: value=inf"),
    (DIVERGED, "returns -inf", returning(-math.inf), "FAIL", "diverged: returned value=-inf"),
    (DIVERGED, "returns 10^400", returning(10**400), "FAIL", "diverged: returned value=inf"),
    (DIVERGED, "the loop says so", doing(diverge), "FAIL", "Diverged: epoch 2"),
    (DIVERGED, "a floating-point error", raising(FloatingPointError("x")), "FAIL", "FloatingPointError: x"),
    (HANG, "sleeps", doing(lambda: time.sleep(1e6)), "FAIL", "TimeoutError: not done after"),
    (HANG, "spins", doing(spin), "FAIL", "TimeoutError: not done after"),
    (HANG, "passes over exceptions", doing(stubborn), "FAIL", "TimeoutError: not done after"),
    (HANG, "waits for itself", doing(locked), "FAIL", "TimeoutError: not done after"),
    (RAISE, "an error", raising(ValueError("v")), "FAIL", "ValueError: v"),
    (RAISE, "a broken text", raising(OddError()), "FAIL", "OddError: .*cannot be shown"),
    (RAISE, "what cannot travel", raising(UnsendableError("u")), "FAIL", "UnsendableError: u"),
    (RAISE, "a long text", raising(KeyError("k" * 10**6)), "FAIL", "KeyError: 'kkk"),
    (RAISE, "a group", raising(ExceptionGroup("g", [ValueError("a")])), "FAIL", "ExceptionGroup: g"),
    (RAISE, "recursion", doing(lambda: recurse(0)), "FAIL", "RecursionError"),
    (NONSENSE, "a text", returning("0.5"), "FAIL", "must be a number"),
    (NONSENSE, "a truth", returning(True), "FAIL", "must be a number"),
    (NONSENSE, "a list", returning([1, 2]), "FAIL", "must be a number"),
    (NONSENSE, "a complex number", returning(1j), "FAIL", "must be a number"),
    (NONSENSE, "a function", returning(len), "FAIL", "must be a number"),
    (NONSENSE, "another metric", returning({"other": 1.0}), "FAIL", "missing"),
    (NONSENSE, "nothing", returning(None), "FAIL", "nothing reported"),
    (NONSENSE, "reports a text", reporting("x"), "FAIL", "must be a number"),
    (NONSENSE, "an epoch too far", reporting(1.0, EPOCHS + 1), "FAIL", "ends at epoch 9"),
    (NONSENSE, "half of it", doing(lambda: None), "PRUNED", "returned after epoch 2 of 9"),
    (DEATH, "kill -9", doing(kill(signal.SIGKILL)), "FAIL", DIED),
    (DEATH, "os._exit", doing(lambda: os._exit(3)), "FAIL", DIED),
]
IN_WORKERS: list[Kind] = [
    (HANG, "no signal gets through", doing(deaf), "FAIL", "TimeoutError: not done after"),
    (HANG, "never back to Python", doing(lambda: 7 ** (10**8)), "FAIL", "TimeoutError: not done after"),
    (DEATH, "reads at address 0", doing(lambda: ctypes.string_at(0)), "FAIL", DIED),
    (DEATH, "exit", doing(lambda: sys.exit(1)), "FAIL", "its worker exited 3 times"),
]
ON_CUDA: list[Kind] = [
    (MEMORY, "a CUDA device", doing(allocate_cuda), "INFEASIBLE", "out of memory: OutOfMemoryError"),
]


def recurse(n: int) -> int:
    return recurse(n + 1) + 1


def kinds(objectives: int, jobs: int, cuda: bool) -> list[Kind | None]:
    """What each trial is, None for a good one."""
    known = [*KINDS, *(ON_CUDA * 3 if cuda else []), *(IN_WORKERS if jobs > 1 else [])]
    order = np.random.default_rng(0).permutation(len(known))
    bad = [known[order[i % len(known)]] for i in range(objectives)]
    trials: list[Kind | None] = []
    for i, kind in enumerate(bad):
        trials += [None, kind] if i % 5 == 0 else [kind]
    return [*trials, None]


class Bad:
    """Trial n behaves as the n-th kind."""

    def __init__(self, objectives: int, jobs: int, cuda: bool) -> None:
        self.arguments = (objectives, jobs, cuda)

    def __call__(self, trial: Any) -> Any:
        import torch

        if self.arguments[2]:
            left = torch.cuda.memory_reserved()
            assert left < 10**9, f"{left} bytes of an earlier trial are on the device"
        kind = kinds(*self.arguments)[trial.number]
        if kind is not None:
            return kind[2](trial)
        for epoch in trial.epochs():
            trial.report(trial.params["x"] + 1 / epoch, epoch)
        return None


def make(folder: str) -> Any:
    from ConfigSpace import ConfigurationSpace

    import bonas
    from bonas import fidelity, samplers, spaces

    return bonas.create_study(
        space=spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)})),
        axes=fidelity.Axes(epochs=(1, EPOCHS)),
        sampler=samplers.RandomSampler(),
        scheduler=fidelity.FullFidelity(),
        storage=folder,
        study_name="bad",
        load_if_exists=True,
    )


def drive(folder: str, objectives: int, jobs: int, cuda: bool) -> None:
    import bonas.executors.pool

    logging.getLogger("bonas").setLevel(logging.CRITICAL)
    bonas.executors.pool.GRACE = 1.0  # instead of ten seconds: none of these will end by itself
    trials = kinds(objectives, jobs, cuda)
    starts = sum(kind is None or kind[3] != "INFEASIBLE" for kind in trials)
    make(folder).optimize(Bad(objectives, jobs, cuda), n_trials=starts, n_jobs=jobs, trial_timeout=LIMIT)


def check(study: Any, trials: list[Kind | None]) -> list[str]:
    """What is not as it should be."""
    wrong = []
    if len(study.trials) != len(trials):
        wrong.append(f"{len(study.trials)} trials, not {len(trials)}")
    for told, kind in zip(study.trials, trials, strict=False):
        state, reason = ("COMPLETE", "^$") if kind is None else kind[3:]
        if told.state != state or not re.search(reason, told.reason or "", re.DOTALL):
            name = "a good one" if kind is None else kind[1]
            wrong.append(f"trial {told.number} ({name}): {told.state.value}, {told.reason}")
        if not told.cost > 0:
            wrong.append(f"trial {told.number}: was free")
    return wrong


def run(objectives: int, jobs: int, cuda: bool) -> int:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    trials = kinds(objectives, jobs, cuda)
    began, starts = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        while starts < RESTARTS:
            starts += 1
            driver = context.Process(target=drive, args=(folder, objectives, jobs, cuda))
            driver.start()
            driver.join()
            if driver.exitcode == 0:
                break
        study = make(folder)
        wrong = check(study, trials)
        seconds = time.monotonic() - began
        print(f"\n{objectives} bad objectives, {jobs} job{'s' * (jobs > 1)}, cuda: {cuda}\n")
        print("| about | kind | trials | ended | reason of the first |\n|---|---|---|---|---|")
        for kind in sorted({k for k in trials if k is not None}, key=lambda k: (k[0], k[1])):
            mine = [t for t, k in zip(study.trials, trials, strict=False) if k is kind]
            ended = "/".join(sorted({t.state.value for t in mine}))
            said = (mine[0].reason or "")[:90].replace("\n", " ").replace("|", "\\|")
            print(f"| {kind[0]} | {kind[1]} | {len(mine)} | {ended} | {said} |")
        good = [t for t, k in zip(study.trials, trials, strict=False) if k is None]
        complete = sum(t.state == "COMPLETE" for t in good)
        print(
            f"\n{complete} of {len(good)} good ones complete, {len(wrong)} of {len(trials)} trials not as "
            f"they should be; the driver was started {starts} times; {seconds:.0f} s."
        )
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objectives", type=int, default=100)
    parser.add_argument("--jobs", type=int, nargs="*", default=[1, 2])
    arguments = parser.parse_args()
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    print(
        f"bonas {version('bonas')}, torch {version('torch')}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {device}"
    )
    return max(run(arguments.objectives, jobs, torch.cuda.is_available()) for jobs in arguments.jobs)


if __name__ == "__main__":
    sys.exit(main())
