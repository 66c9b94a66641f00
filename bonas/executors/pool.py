"""Segments in other processes: ship the objective once, send segments, tell what comes back.

A lost worker costs one segment: its trial is paused at its last checkpoint and handed out again.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonas.errors import StaleTrialError
from bonas.executors.here import Callback, Interruption, Patience, after_tell, call, stopping
from bonas.segment import Collected, Segment
from bonas.trial import Trial

if TYPE_CHECKING:
    from bonas.study import Study

logger = logging.getLogger("bonas")

MOST_DEATHS = 3  # workers that one segment may kill before it is given up
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
    try:
        pool = _begun_pool(n_jobs) if own else executor
    except ValueError:
        if interruption.requested:
            return  # the signal that ended the workers was meant for this process too
        raise
    waiting: dict[Future[_Shipped], Trial] = {}
    deaths: Counter[int] = Counter()
    patience = Patience(study)
    try:
        study.use_stop_file(str(stop_file))
        while True:
            idle = False
            while len(waiting) < slots and not interruption.requested and not stopping(study):
                if any(deaths[trial.number] for trial in waiting.values()):
                    break  # what has killed a worker runs alone, so that it takes nobody else along
                trial = study.ask()
                if trial is None:
                    idle = True
                    break
                try:
                    with _sigint_held():
                        future = pool.submit(_work, parcel, trial.segment)
                except BaseException as error:
                    study.release(trial)
                    if not own or not isinstance(error, BrokenProcessPool):
                        raise
                    pool = _process_pool(n_jobs)
                    continue
                interruption.running[trial.number] = trial
                waiting[future] = trial
            if not waiting:
                if interruption.requested or stopping(study) or not idle:
                    return
                if study.done or patience.in_vain([]):
                    return
                time.sleep(POLL)
                continue
            first = concurrent.futures.FIRST_COMPLETED
            ended, _ = concurrent.futures.wait(waiting, timeout=POLL, return_when=first)
            for future in ended:
                trial = waiting.pop(future)
                interruption.running.pop(trial.number, None)
                _tell(study, trial, future, callbacks, deaths)
    finally:
        study.use_stop_file(None)
        stop_file.touch()  # if this ends by an exception, the other segments stop at their next epoch
        if own:
            pool.shutdown(wait=True, cancel_futures=True)
        _tell_rest(study, waiting)
        stop_file.unlink(missing_ok=True)


def _tell(
    study: Study,
    trial: Trial,
    future: Future[_Shipped],
    callbacks: Sequence[Callback],
    deaths: Counter[int],
) -> None:
    try:
        shipped = future.result()
    except (Exception, concurrent.futures.CancelledError) as error:
        deaths[trial.number] += 1
        poison = deaths[trial.number] >= MOST_DEATHS
        failure = f"its worker died {MOST_DEATHS} times ({type(error).__name__}: {error})" if poison else None
        logger.warning("trial %d: its worker died (%s: %s)", trial.number, type(error).__name__, error)
        failed = study.abandon(trial, failure)
        if failed is not None and poison:
            after_tell(study, failed, error if isinstance(error, Exception) else None, callbacks)
        return
    del deaths[trial.number]
    trial.adopt(shipped.collected)
    try:
        told = study.tell(trial, shipped.value, shipped.error)
    except StaleTrialError as stale:
        logger.warning("%s", stale)
        return
    except BaseException:
        study.release(trial)
        raise
    after_tell(study, told, shipped.error, callbacks)


def _tell_rest(study: Study, waiting: Mapping[Future[_Shipped], Trial]) -> None:
    """After an error: what the other workers had evaluated is not lost."""
    concurrent.futures.wait(waiting)
    for future, trial in waiting.items():
        try:
            shipped = future.result()
            trial.adopt(shipped.collected)
            study.tell(trial, shipped.value, shipped.error)
        except (Exception, concurrent.futures.CancelledError):
            study.release(trial)


def _process_pool(n_jobs: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a fork of a process that has used torch can hang in its thread pool.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(n_jobs, mp_context=context, initializer=_begin, initargs=(n_jobs,))


@contextmanager
def _sigint_held() -> Iterator[None]:
    """Hold Ctrl-C back while workers are started, who inherit that; it arrives here right afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _begun_pool(n_jobs: int) -> ProcessPoolExecutor:
    """A pool whose workers were seen to start: trials must not fail for a script that none can import."""
    pool = _process_pool(n_jobs)
    try:
        with _sigint_held():
            started = [pool.submit(os.getpid) for _ in range(n_jobs)]
        for future in started:
            future.result()
    except BrokenProcessPool as error:
        pool.shutdown()
        raise ValueError(
            f"n_jobs={n_jobs}: the worker processes cannot start; what stopped them is printed above. "
            "Each of them imports the script anew: put what it does under `if __name__ == '__main__':`, "
            "or use n_jobs=1."
        ) from error
    return pool


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    # Killed: nobody will hear of this segment, and the next driver hands it out again.
    os._exit(1)


def _begin(n_jobs: int) -> None:
    # Ctrl-C reaches the whole group: the driver decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # A pool's workers hold both ends of its queue and would wait for a killed driver for ever.
    threading.Thread(target=_end_with_driver, name="bonas-driver", daemon=True).start()
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // n_jobs))


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
    loaded = _loaded.get(digest)
    if loaded is None:
        import cloudpickle

        loaded = cloudpickle.loads(parcel)  # sent by the driver, never read from a disk
        _loaded.clear()
        _loaded[digest] = loaded
    objective, space = loaded
    trial = Trial(segment, space)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: _save_and_stop(trial))
    Path(segment.folder).parent.mkdir(parents=True, exist_ok=True)
    value, error = call(objective, trial)
    return _Shipped(trial.collect(value if error is None else None), _plain(value), _portable(error))


def _save_and_stop(trial: Trial) -> None:
    trial.interrupt()
    trial.flush()


def _plain(value: Any) -> Any:
    """What an objective returned as plain numbers, or in words: not everything can travel."""
    if isinstance(value, Mapping):
        return {str(name): _plain(v) for name, v in value.items()}
    if hasattr(value, "item"):
        with contextlib.suppress(Exception):
            value = value.item()
    return value if value is None or isinstance(value, (int, float)) else repr(value)[:200]


def _portable(error: BaseException | None) -> BaseException | None:
    """The exception, or if it cannot travel one of the same name and text."""
    if error is None:
        return None
    import cloudpickle

    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:
        kind = type(type(error).__name__, (Exception,), {})
        try:
            error = kind(str(error))
        except Exception:  # its own text is broken
            error = kind("(its message cannot be shown)")
    return error
