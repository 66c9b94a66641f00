"""Learning rates over a training: pure functions of the epochs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidelity.schedules import SCHEDULES, Schedule


@given(st.sampled_from(list(SCHEDULES)), st.integers(1, 300))
def test_every_schedule_warms_up_to_one_and_falls_to_zero(name: str, horizon: int) -> None:
    schedule = Schedule(horizon, name)
    epochs = np.linspace(0, horizon, 401)
    rates = [schedule.rate(t) for t in epochs]
    warmup = int(np.searchsorted(epochs, 0.05 * horizon, side="right"))
    assert rates[0] == 0
    assert schedule.rate(0.05 * horizon) == pytest.approx(1)
    assert (np.diff(rates[: warmup - 1]) > 0).all()
    assert (np.diff(rates[warmup:]) <= 1e-12).all()
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert schedule.rate(2 * horizon) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "at_half", "at_nine_tenths"),
    [
        ("cosine", 0.5, 0.5 * (1 + math.cos(0.9 * math.pi))),
        ("linear", 0.5, 0.1),
        ("warmup_stable_decay", 1.0, 0.5),
    ],
)
def test_values_on_the_way(name: str, at_half: float, at_nine_tenths: float) -> None:
    schedule = Schedule(110, name, warmup=10)
    assert schedule.rate(5) == 0.5
    assert schedule.rate(60) == pytest.approx(at_half)
    assert schedule.rate(100) == pytest.approx(at_nine_tenths)


def test_progress_is_the_part_that_is_done() -> None:
    schedule = Schedule(20)
    assert [schedule.progress(t) for t in (0, 5, 20, 30)] == [0, 0.25, 1, 1]
