"""Calls an objective, within the time its segment has, and leaves the machine clean behind it.

Knows signals, tracebacks and memory; nothing of studies and processes.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from bonas.trial import Trial
from fidelity.out_of_memory import is_out_of_memory

_AGAIN = 5.0  # seconds after which an objective that has passed over the end of its time is told again


class _TimeUp(BaseException):
    """Raised in an objective whose time is up; no ``except Exception`` of its own stops it."""


def call(objective: Callable[[Trial], Any], trial: Trial) -> tuple[Any, BaseException | None]:
    """What the objective returned, and what it raised."""
    return _cleaned(*_called(objective, trial))


def call_in_time(objective: Callable[[Trial], Any], trial: Trial) -> tuple[Any, BaseException | None]:
    """As :func:`call`; once its time is up a TimeoutError, raised wherever the objective is.

    Only the main thread can be interrupted, where the system has timers (not on Windows). Elsewhere, and
    within calls that do not come back to Python, the objective runs on to its next epoch.
    """
    limit = trial.segment.time_limit
    here = threading.current_thread() is threading.main_thread()
    if limit is None or not here or not hasattr(signal, "setitimer"):
        return call(objective, trial)
    armed = True

    def up(number: int, frame: FrameType | None) -> None:
        if armed:
            trial.expire()
            raise _TimeUp

    former = signal.signal(signal.SIGALRM, up)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, limit, _AGAIN)
            value, error = _called(objective, trial)
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, former if former is not None else signal.SIG_DFL)
    except _TimeUp as late:  # it ended at this very moment
        value, error = None, late
    if isinstance(error, _TimeUp):
        return None, TimeoutError(f"{limit:g} seconds")
    return _cleaned(value, error)


def _called(objective: Callable[[Trial], Any], trial: Trial) -> tuple[Any, BaseException | None]:
    try:
        return objective(trial), None
    except BaseException as error:  # Ctrl-C or an exit, too: the trial is paused first, then it goes its way
        return None, error


def _cleaned(value: Any, error: BaseException | None) -> tuple[Any, BaseException | None]:
    # Not on the trial's time: collecting garbage takes a while.
    if error is not None and is_out_of_memory(error):
        free_memory(error)
    return value, error


def free_memory(error: BaseException) -> None:
    """Let go of everything that ran out of memory: the next trial begins on a clean device.

    The frames of a traceback keep their variables alive, a network and its gradients among them.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            waiting += [one.__cause__, one.__context__]
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
