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
from bonas.executors.calling import call_in_time
from bonas.executors.here import Callback, Interruption, Patience, after_tell, stopping
from bonas.segment import Collected, Segment
from bonas.trial import Trial

if TYPE_CHECKING:
    from bonas.study import Study

logger = logging.getLogger("bonas")

MOST_DEATHS = 3  # workers that one segment may kill before it is given up
POLL = 0.2  # seconds between two looks at signals and at what other processes are doing
GRACE = 10.0  # seconds a worker is given to end a segment by itself once its time is up

_loaded: dict[str, tuple[Any, Any]] = {}


@dataclass(frozen=True, slots=True)
class _Shipped:
    """What comes back from a worker."""

    collected: Collected
    value: Any
    error: bytes | None
    """What was raised, pickled with its class if need be: that of a script may be known nowhere else."""


class _Worker:
    """A process of our own that runs one segment at a time, so that its death costs no other segment."""

    def __init__(self, parcel: bytes, n_jobs: int) -> None:
        # Spawned, not forked: a fork of a process that has used torch can hang in its thread pool.
        context = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(n_jobs,))
        with _sigint_held():
            self._process = self._executor.submit(_load, parcel)
        self._digest = _digest(parcel)
        self.idle = True

    @property
    def ready(self) -> bool:
        """Whether it has loaded the objective, or failed to."""
        return self._process.done()

    def wait(self) -> int:
        """Its process's number, once it is ready; raises why it could not begin."""
        return self._process.result()

    def submit(self, segment: Segment) -> Future[_Shipped]:
        """Begin a segment; BrokenProcessPool if the process is gone."""
        self.wait()
        future = self._executor.submit(_work, self._digest, segment)
        self.idle = False
        return future

    def kill(self) -> None:
        """End the process whatever it does."""
        with contextlib.suppress(OSError):
            os.kill(self.wait(), getattr(signal, "SIGKILL", signal.SIGTERM))

    def close(self) -> None:
        """Let go of the process, once its segment is done."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class _Crew:
    """Our own workers; the dead are replaced when there is something to do."""

    def __init__(self, parcel: bytes, n_jobs: int) -> None:
        self._parcel, self._n_jobs = parcel, n_jobs
        self._workers = [_Worker(parcel, n_jobs) for _ in range(n_jobs)]
        try:
            # Seen to begin: trials must not fail for a script or an objective that none of them can load.
            for worker in self._workers:
                worker.wait()
        except BrokenProcessPool as error:
            self.close()
            raise ValueError(
                f"n_jobs={n_jobs}: the worker processes cannot start; what stopped them is printed above. "
                "Each of them imports the script anew: put what it does under `if __name__ == '__main__':`, "
                "or use n_jobs=1."
            ) from error
        except Exception as error:
            self.close()
            raise ValueError(
                f"n_jobs={n_jobs}: the objective cannot be loaded in another process "
                f"({type(error).__name__}: {error}). Use n_jobs=1."
            ) from error

    def available(self) -> bool:
        """Whether somebody has nothing to do; if not, calls in one for each that died."""
        if any(worker.idle and worker.ready for worker in self._workers):
            return True
        while len(self._workers) < self._n_jobs:
            self._workers.append(_Worker(self._parcel, self._n_jobs))
        return False

    def submit(self, segment: Segment) -> tuple[Future[_Shipped], _Worker | None]:
        """Give somebody who is available a segment."""
        worker = next(worker for worker in self._workers if worker.idle and worker.ready)
        try:
            return worker.submit(segment), worker
        except BrokenProcessPool:  # it died while it had nothing to do
            self.ended(worker, dead=True)
            worker = _Worker(self._parcel, self._n_jobs)
            self._workers.append(worker)
            return worker.submit(segment), worker

    def ended(self, worker: _Worker | None, dead: bool) -> None:
        """A worker has nothing to do any more."""
        if worker is None:
            return
        worker.idle = True
        if dead:
            self._workers.remove(worker)
            worker.close()

    def close(self) -> None:
        """Wait for all of them."""
        for worker in self._workers:
            worker.close()


class _Lent:
    """An executor of the user's own, which is not ours to close and whose workers are not ours to end."""

    def __init__(self, executor: Any, parcel: bytes, n_jobs: int) -> None:
        self._executor, self._parcel = executor, parcel
        self._free = max(n_jobs, getattr(executor, "_max_workers", n_jobs))

    def available(self) -> bool:
        """Whether it takes another segment."""
        return self._free > 0

    def submit(self, segment: Segment) -> tuple[Future[_Shipped], _Worker | None]:
        """Begin a segment."""
        future = self._executor.submit(_work, self._parcel, segment)
        self._free -= 1
        return future, None

    def ended(self, worker: _Worker | None, dead: bool) -> None:
        """A segment is done."""
        self._free += 1

    def close(self) -> None:
        """Nothing."""


@dataclass(slots=True)
class _Running:
    """A segment on its way."""

    trial: Trial
    worker: _Worker | None
    overdue: bool = False


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
    crew: _Crew | _Lent
    try:
        crew = _Crew(parcel, n_jobs) if executor is None else _Lent(executor, parcel, n_jobs)
    except ValueError:
        if interruption.requested:
            return  # the signal that ended the workers was meant for this process too
        raise
    waiting: dict[Future[_Shipped], _Running] = {}
    deaths: Counter[int] = Counter()
    patience = Patience(study)
    try:
        study.use_stop_file(str(stop_file))
        while True:
            idle = False
            while not interruption.requested and not stopping(study) and crew.available():
                trial = study.ask()
                if trial is None:
                    idle = True
                    break
                try:
                    future, worker = crew.submit(trial.segment)
                except BaseException:
                    study.release(trial)
                    raise
                interruption.running[trial.number] = trial
                waiting[future] = _Running(trial, worker)
            if not waiting:
                if interruption.requested or stopping(study):
                    return
                if idle and (study.done or patience.in_vain([])):
                    return
                time.sleep(POLL)
                continue
            for future in _ended(waiting):
                running = waiting.pop(future)
                interruption.running.pop(running.trial.number, None)
                crew.ended(running.worker, dead=_dead(future))
                _tell(study, running, future, callbacks, deaths)
    finally:
        study.use_stop_file(None)
        stop_file.touch()  # if this ends by an exception, the other segments stop at their next epoch
        try:
            _tell_rest(study, waiting)
        finally:
            crew.close()
            stop_file.unlink(missing_ok=True)


def _ended(waiting: Mapping[Future[_Shipped], _Running]) -> set[Future[_Shipped]]:
    """The segments that have ended within a moment; workers whose time is long up are ended."""
    for running in waiting.values():
        limit = running.trial.segment.time_limit
        if limit is None or running.worker is None or running.overdue:
            continue
        if running.trial.seconds > limit + GRACE:
            running.overdue = True
            running.worker.kill()
    first = concurrent.futures.FIRST_COMPLETED
    return concurrent.futures.wait(waiting, timeout=POLL, return_when=first).done


def _dead(future: Future[_Shipped]) -> bool:
    return not future.cancelled() and isinstance(future.exception(), BrokenProcessPool)


def _tell(
    study: Study,
    running: _Running,
    future: Future[_Shipped],
    callbacks: Sequence[Callback],
    deaths: Counter[int],
) -> None:
    trial = running.trial
    try:
        shipped = future.result()
    except (Exception, concurrent.futures.CancelledError) as error:
        _tell_death(study, running, error, callbacks, deaths)
        return
    raised = _raised(shipped)
    outcome: BaseException | str | None = raised
    if raised is None or isinstance(raised, Exception):
        del deaths[trial.number]
    else:
        # An exit in a worker ends nobody else; told as such, the trial is paused and handed out again.
        deaths[trial.number] += 1
        if deaths[trial.number] >= MOST_DEATHS:
            outcome = f"its worker exited {MOST_DEATHS} times ({type(raised).__name__}: {raised})"
    trial.adopt(shipped.collected)
    try:
        told = study.tell(trial, shipped.value, outcome)
    except StaleTrialError as stale:
        logger.warning("%s", stale)
        return
    except BaseException:
        study.release(trial)
        raise
    after_tell(study, told, raised, callbacks)


def _tell_death(
    study: Study,
    running: _Running,
    error: BaseException,
    callbacks: Sequence[Callback],
    deaths: Counter[int],
) -> None:
    trial = running.trial
    if running.overdue:
        failed = study.abandon(trial, trial.segment.time_up)
        if failed is not None:
            after_tell(study, failed, TimeoutError(), callbacks)
        return
    deaths[trial.number] += 1
    poison = deaths[trial.number] >= MOST_DEATHS
    failure = f"its worker died {MOST_DEATHS} times ({type(error).__name__}: {error})" if poison else None
    logger.warning("trial %d: its worker died (%s: %s)", trial.number, type(error).__name__, error)
    told = study.abandon(trial, failure)
    if told is not None and poison:
        after_tell(study, told, error if isinstance(error, Exception) else None, callbacks)


def _tell_rest(study: Study, waiting: dict[Future[_Shipped], _Running]) -> None:
    """After an error: what the other workers had evaluated is not lost."""
    while waiting:
        for future in _ended(waiting):
            running = waiting.pop(future)
            trial = running.trial
            try:
                shipped = future.result()
                trial.adopt(shipped.collected)
                study.tell(trial, shipped.value, _raised(shipped))
            except (Exception, concurrent.futures.CancelledError):
                if running.overdue:
                    study.abandon(trial, trial.segment.time_up)
                else:
                    study.release(trial)


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


def _digest(parcel: bytes) -> str:
    return hashlib.sha256(parcel).hexdigest()


def _load(parcel: bytes) -> int:
    """Unpack the objective, once for all segments of this process; the number of the process."""
    digest = _digest(parcel)
    if digest not in _loaded:
        import cloudpickle

        unpacked = cloudpickle.loads(parcel)  # sent by the driver, never read from a disk
        _loaded.clear()
        _loaded[digest] = unpacked
    return os.getpid()


def _work(parcel: bytes | str, segment: Segment) -> _Shipped:
    """Run one segment in a worker, which has loaded the parcel of that digest, or gets all of it."""
    if isinstance(parcel, bytes):
        _load(parcel)
        parcel = _digest(parcel)
    objective, space = _loaded[parcel]
    trial = Trial(segment, space)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: _save_and_stop(trial))
    Path(segment.folder).parent.mkdir(parents=True, exist_ok=True)
    value, error = call_in_time(objective, trial)
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


def _portable(error: BaseException | None) -> bytes | None:
    """The exception as bytes, or if it cannot travel one of the same name and text."""
    if error is None:
        return None
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(error)
        cloudpickle.loads(data)
    except Exception:
        try:
            text = str(error)
        except Exception:  # its own text is broken
            text = "(its message cannot be shown)"
        data = cloudpickle.dumps(type(type(error).__name__, (Exception,), {})(text))
    return data


def _raised(shipped: _Shipped) -> BaseException | None:
    if shipped.error is None:
        return None
    import cloudpickle

    try:
        error: BaseException = cloudpickle.loads(shipped.error)  # sent by a worker, never read from a disk
    except Exception as unknown:
        return RuntimeError(
            f"what the worker raised is known there only ({type(unknown).__name__}: {unknown})"
        )
    return error
