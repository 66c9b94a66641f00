"""The loop behind ``optimize`` in this process: ask, run the objective, tell; stops cleanly when told to.

Uses the public ``ask`` and ``tell`` only; knows nothing of samplers, schedulers and the store.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

from bonas.endings import is_bug
from bonas.errors import MissingFunctionError, StaleTrialError
from bonas.executors.calling import call_in_time
from bonas.frozen import FrozenTrial
from bonas.trial import Trial
from fidelity.records import TrialState

if TYPE_CHECKING:
    from bonas.study import Study

logger = logging.getLogger("bonas")

Callback = Callable[[Any, FrozenTrial], None]
POLL = 0.2  # seconds between two looks at what other processes are doing


def run_here(
    study: Study, objective: Callable[[Trial], Any], callbacks: Sequence[Callback], interruption: Interruption
) -> None:
    """Run one segment after the other until nothing is left or somebody stops it."""
    patience = Patience(study)
    while not interruption.requested and not stopping(study):
        trial = study.ask()
        if trial is None:
            if study.done or patience.in_vain([]):
                return
            time.sleep(POLL)
            continue
        interruption.running[trial.number] = trial
        if interruption.requested:
            trial.interrupt()
        value, error = call_in_time(objective, trial)
        try:
            told = study.tell(trial, value, error)
        except StaleTrialError as stale:
            logger.warning("%s", stale)
            continue
        except BaseException:
            study.release(trial)  # full disk, second Ctrl-C: the next call goes on with this very segment
            raise
        finally:
            interruption.running.pop(trial.number, None)
        after_tell(study, told, error, callbacks)
        if isinstance(error, BaseException) and not isinstance(error, Exception):
            raise error
        del value, error  # its traceback would keep the network while the next one is trained


def stopping(study: Study) -> bool:
    """Whether ``study.stop()`` was called or the timeout has passed."""
    return study.stop_requested or study.timed_out


def after_tell(
    study: Study, told: FrozenTrial, error: BaseException | None, callbacks: Sequence[Callback]
) -> None:
    """Log failures, call the callbacks, and stop a study whose objective is broken."""
    if told.state in (TrialState.FAIL, TrialState.INFEASIBLE):
        logger.warning("trial %d: %s, %s", told.number, told.state.value, told.reason)
    for callback in callbacks:
        callback(study, told)
    if isinstance(error, MissingFunctionError):
        raise error
    if told.state == TrialState.FAIL and (error is None or is_bug(error)):
        why = study.broken(told, raised=error is not None)
        if why is not None and error is None:  # such as an objective that never reports
            raise ValueError(why)
        if why is not None and error is not None:
            error.add_note(f"bonas: {why}")
            raise error
    if error is not None and told.state == TrialState.INFEASIBLE and study.out_of_memory:
        raise error


class Patience:
    """Waiting for segments that others run, and knowing when nobody does."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._said = False

    def in_vain(self, mine: list[int]) -> bool:
        """Whether all that is waited for was asked for by this very study object, and will not be told.

        Args:
            mine: trials whose segments this call runs itself.
        """
        running = [t.number for t in self._study.records if t.state == TrialState.RUNNING]
        untold = [number for number in self._study.own_running if number not in mine]
        if running and set(running) == set(untold):
            logger.warning("trials %s were asked for and never told: nothing else is left to run", untold)
            return True
        if running and not self._said:
            logger.info("waiting for trials %s, which other workers run", running)
            self._said = True
        return False


@dataclass
class Interruption:
    """A wish to stop, by signal; trials that run here are told at once."""

    received: list[int] = field(default_factory=list)
    running: dict[int, Trial] = field(default_factory=dict)
    on_request: list[Callable[[], None]] = field(default_factory=list)

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return bool(self.received)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: stop at the next epoch; a second Ctrl-C stops at once."""
        if number == signal.SIGINT and signal.SIGINT in self.received:
            raise KeyboardInterrupt
        self.received.append(number)
        for trial in list(self.running.values()):
            trial.interrupt()
            if number == signal.SIGTERM:
                trial.flush()  # whoever sent it may not wait for the epoch to end
        for action in self.on_request:
            action()

    def pass_on(self) -> None:
        """After the clean stop: end as the signal would have ended the process."""
        if signal.SIGINT in self.received:
            raise KeyboardInterrupt
        if signal.SIGTERM in self.received:
            os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Turn SIGINT and SIGTERM into a wish to stop while the block runs, in the main thread."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in former:
        signal.signal(number, interruption.handle)
    try:
        yield interruption
    finally:
        for number, handler in former.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def leases_renewed(study: Study, interruption: Interruption) -> Iterator[None]:
    """Renew the leases of running trials now and then, so that other hosts know they are alive."""
    if study.storage is None:
        yield
        return
    finished = threading.Event()

    def renew() -> None:
        while not finished.wait(study.lease / 4):
            numbers = list(interruption.running)
            # A lease that is not renewed in time costs a segment, never the study.
            with contextlib.suppress(Exception):
                if numbers:
                    study.renew_leases(numbers)

    thread = threading.Thread(target=renew, name="bonas-leases", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
