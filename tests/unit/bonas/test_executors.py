"""The loop and the pool's small parts: signals, waiting, what travels between processes."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from typing import Any

import numpy as np
import pytest
import torch

import bonas
from bonas.executors.calling import call
from bonas.executors.here import Interruption, interruptible
from bonas.executors.pool import _plain, _portable, _raised, _Shipped


class Handle:
    """What the signal handler needs of a trial."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def interrupt(self) -> None:
        self.calls.append("interrupt")

    def flush(self) -> None:
        self.calls.append("flush")


def interrupted_and_broken() -> None:
    with interruptible() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested
        raise ZeroDivisionError


class TestInterruption:
    def test_ctrl_c_asks_politely_once(self) -> None:
        interruption, handle, told = Interruption(), Handle(), []
        interruption.running[0] = handle  # type: ignore[assignment]
        interruption.on_request.append(lambda: told.append(1))
        interruption.handle(signal.SIGINT, None)
        assert (handle.calls, told, interruption.requested) == (["interrupt"], [1], True)
        with pytest.raises(KeyboardInterrupt):
            interruption.handle(signal.SIGINT, None)
        with pytest.raises(KeyboardInterrupt):
            interruption.pass_on()

    def test_sigterm_writes_at_once(self) -> None:
        interruption, handle = Interruption(), Handle()
        interruption.running[0] = handle  # type: ignore[assignment]
        interruption.handle(signal.SIGTERM, None)
        assert handle.calls == ["interrupt", "flush"]

    def test_handlers_are_put_back_even_after_an_error(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(ZeroDivisionError):
            interrupted_and_broken()
        assert signal.getsignal(signal.SIGINT) is before

    def test_other_threads_have_no_signals(self) -> None:
        seen = []

        def run() -> None:
            with interruptible() as interruption:
                seen.append(interruption.requested)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert seen == [False]


class TestTravelling:
    @pytest.mark.parametrize(
        ("value", "plain"),
        [
            (None, None),
            (1, 1),
            (0.5, 0.5),
            (np.float32(0.5), 0.5),
            (torch.tensor(2.0), 2.0),
            ({"a": np.int64(1), "b": torch.tensor([0.5])}, {"a": 1, "b": 0.5}),
        ],
    )
    def test_numbers_travel_as_numbers(self, value: Any, plain: Any) -> None:
        assert _plain(value) == plain

    def test_anything_else_travels_as_words(self) -> None:
        assert "lambda" in _plain(lambda: 1)
        assert _plain([1, 2]) == "[1, 2]"
        assert len(_plain("x" * 10**6)) <= 200

    def test_exceptions_keep_their_name_and_text(self) -> None:
        class LocalError(ValueError):
            def __reduce__(self) -> Any:
                raise TypeError("cannot travel")

        for error in (ValueError("v"), LocalError("l")):
            shipped = _Shipped(None, None, _portable(error))  # type: ignore[arg-type]
            sent = _raised(pickle.loads(pickle.dumps(shipped)))  # noqa: S301
            assert (type(sent).__name__, str(sent)) == (type(error).__name__, str(error))
        assert _portable(None) is None

    @pytest.mark.parametrize("error", [ValueError("v"), KeyboardInterrupt(), SystemExit(3)])
    def test_call_returns_what_was_raised(self, error: BaseException) -> None:
        def objective(trial: bonas.Trial) -> None:
            raise error

        assert call(objective, None) == (None, error)  # type: ignore[arg-type]
        assert call(lambda trial: 5, None) == (5, None)  # type: ignore[arg-type]
