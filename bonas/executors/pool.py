"""Segments in other processes: ship the objective once, send segments, tell what comes back.

A lost worker costs one segment: its trial is paused at its last checkpoint and handed out again.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonas.executors.here import Callback, Interruption, after_tell, call, stopping
from bonas.trial import Collected, Segment, Trial

if TYPE_CHECKING:
    from bonas.study import Study

POLL = 0.2  # seconds between two looks at signals and at what other processes are doing

_loaded: dict[str, tuple[Any, Any]] = {}


@dataclass(frozen=True, slots=True)
class _Shipped:
    """What comes back from a worker."""

    collected: Collected
    value: Any
    error: BaseException | None


def run_in_pool(
    study: Study,
    objective: Callable[[Trial], Any],
    n_jobs: int,
    executor: Any,
    callbacks: Sequence[Callback],
    interruption: Interruption,
) -> None:
    """Keep ``n_jobs`` segments running until the study has nothing left, or somebody stops it.

    Raises:
        ValueError: if the objective cannot be sent to another process.
    """
    parcel = _packed(objective, study.space)
    stop_file = study.artifacts / f"stop-{os.getpid()}-{time.monotonic_ns()}"
    stop_file.parent.mkdir(parents=True, exist_ok=True)
    # Other processes do not see our signals in time; they look for this file before each epoch.
    interruption.on_request.append(stop_file.touch)
    own = executor is None
    slots = n_jobs if own else max(n_jobs, getattr(executor, "_max_workers", n_jobs))
    pool = _process_pool(n_jobs) if own else executor
    waiting: dict[Future[_Shipped], Trial] = {}
    try:
        study.use_stop_file(str(stop_file))
        while True:
            idle = False
            while len(waiting) < slots and not interruption.requested and not stopping(study):
                trial = study.ask()
                if trial is None:
                    idle = True
                    break
                interruption.running[trial.number] = trial
                try:
                    waiting[pool.submit(_work, parcel, trial.segment)] = trial
                except BrokenProcessPool:
                    interruption.running.pop(trial.number, None)
                    study.abandon(trial, "its worker died")
                    if not own:
                        raise
                    pool = _process_pool(n_jobs)
            if not waiting:
                if interruption.requested or stopping(study) or not idle or study.done:
                    return
                time.sleep(POLL)
                continue
            first = concurrent.futures.FIRST_COMPLETED
            ended, _ = concurrent.futures.wait(waiting, timeout=POLL, return_when=first)
            for future in ended:
                trial = waiting.pop(future)
                interruption.running.pop(trial.number, None)
                _tell(study, trial, future, callbacks)
    finally:
        study.use_stop_file(None)
        if own:
            stop_file.touch()
            pool.shutdown(wait=True, cancel_futures=True)
        stop_file.unlink(missing_ok=True)


def _tell(study: Study, trial: Trial, future: Future[_Shipped], callbacks: Sequence[Callback]) -> None:
    try:
        shipped = future.result()
    except (BrokenProcessPool, concurrent.futures.CancelledError):
        study.abandon(trial, "its worker died")
        return
    trial.adopt(shipped.collected)
    told = study.tell(trial, shipped.value, shipped.error)
    after_tell(study, told, shipped.error, callbacks)


def _process_pool(n_jobs: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a fork of a process that has used torch can hang in its thread pool.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(n_jobs, mp_context=context, initializer=_begin, initargs=(n_jobs,))


def _begin(n_jobs: int) -> None:
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // n_jobs))
    # Ctrl-C reaches the whole group: the driver decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _packed(objective: Callable[[Trial], Any], space: Any) -> bytes:
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps((objective, space))
    except Exception as error:
        raise ValueError(
            f"n_jobs: the objective cannot be sent to another process ({type(error).__name__}: {error}). "
            "Build what it cannot carry inside it, or use n_jobs=1."
        ) from error
    return data


def _work(parcel: bytes, segment: Segment) -> _Shipped:
    """Run one segment in a worker."""
    digest = hashlib.sha256(parcel).hexdigest()
    if digest not in _loaded:
        import cloudpickle

        _loaded.clear()
        _loaded[digest] = cloudpickle.loads(parcel)  # sent by the driver, never read from a disk
    objective, space = _loaded[digest]
    trial = Trial(segment, space)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: _save_and_stop(trial))
    Path(segment.folder).parent.mkdir(parents=True, exist_ok=True)
    value, error = call(objective, trial)
    return _Shipped(trial.collect(), value, _portable(error))


def _save_and_stop(trial: Trial) -> None:
    trial.interrupt()
    trial.flush()


def _portable(error: BaseException | None) -> BaseException | None:
    """The exception, or if it cannot travel one of the same name and text."""
    if error is None:
        return None
    import cloudpickle

    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:
        kind = type(type(error).__name__, (Exception,), {})
        error = kind(str(error))
    return error
