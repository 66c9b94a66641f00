"""The ending of a segment as one function: every combination of what was collected, returned and raised."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bonas
from bonas.endings import conclude, counts, is_bug
from bonas.segment import Collected, Segment
from fidelity.axes import Axes
from fidelity.records import Fidelity, Observation, TrialRecord, TrialState

NINE = Axes(epochs=(1, 9))


def segment(epochs: int) -> Segment:
    record = TrialRecord(0, {}, "k", TrialState.RUNNING, Fidelity(epochs=epochs))
    return Segment(record, NINE, ("minimize",), ("value",), "")


def collected(reported: int, trained: int, target: int, **changes: Any) -> Collected:
    observations = tuple(
        Observation(e, {"value": 1.0}, 1 / 9, Fidelity(epochs=target)) for e in range(1, reported + 1)
    )
    made = Collected(0, observations, bool(reported), trained, reported, 0.0, False, False, None, None, {})
    return dataclasses.replace(made, **changes)


ERRORS = [
    None,
    "a sentence",
    ValueError("v"),
    MemoryError(),
    TimeoutError(),
    bonas.TrialPruned(),
    KeyboardInterrupt(),
    SystemExit(),
]


@given(
    target=st.integers(1, 9),
    reported=st.integers(0, 9),
    trained=st.integers(0, 9),
    interrupted=st.booleans(),
    asked=st.booleans(),
    fault=st.sampled_from([None, "nan"]),
    error=st.sampled_from(ERRORS),
    value=st.sampled_from([None, 1.0, math.nan, "x"]),
)
def test_the_rules_hold_together(
    target: int,
    reported: int,
    trained: int,
    interrupted: bool,
    asked: bool,
    fault: Any,
    error: Any,
    value: Any,
) -> None:
    reported, trained = min(reported, target), min(trained, target)
    what = collected(reported, trained, target, interrupted=interrupted, asked_to_prune=asked, fault=fault)
    ending = conclude(segment(target), what, value, error)
    whole = reported == target
    # Nothing ends RUNNING, and full fidelity is never merely paused, unless it was interrupted.
    assert ending.state != TrialState.RUNNING
    if ending.state == TrialState.COMPLETE:
        assert target == 9
    if ending.state == TrialState.PAUSED and not ending.unfinished and error is None:
        assert target < 9
    # Interrupted before its end, it is paused whatever the objective did.
    if (interrupted or isinstance(error, (KeyboardInterrupt, SystemExit))) and not whole:
        assert ending.state == TrialState.PAUSED
        assert ending.unfinished
    else:
        assert not ending.unfinished
        if fault is not None:
            assert ending.state == TrialState.FAIL
    # A failure has a reason and never comes for free.
    if ending.state in (TrialState.FAIL, TrialState.INFEASIBLE, TrialState.PRUNED):
        assert ending.reason
        assert ending.lost + sum(o.cost for o in ending.observations) > 0
    else:
        assert ending.reason is None
    # What was reported is never dropped, and no more is charged than the segment could cost.
    assert len(ending.observations) == reported
    assert ending.lost + sum(o.cost for o in ending.observations) <= target / 9 + 1e-9


@pytest.mark.parametrize(
    ("error", "bug"),
    [
        (ValueError(), True),
        (RuntimeError("CUDA error"), True),
        (None, False),
        (MemoryError(), False),
        (TimeoutError(), False),
        (FloatingPointError(), False),
        (OverflowError(), False),
        (bonas.TrialPruned(), False),
        (KeyboardInterrupt(), False),
        (type("Diverged", (RuntimeError,), {})(), False),
        (type("Worse", (type("Diverged", (RuntimeError,), {}),), {})(), False),
    ],
)
def test_what_speaks_against_the_objective(error: Any, bug: bool) -> None:
    assert is_bug(error) is bug


@pytest.mark.parametrize(
    ("state", "reason", "counted"),
    [
        (TrialState.COMPLETE, None, True),
        (TrialState.FAIL, "ValueError: x", True),
        (TrialState.FAIL, "nothing reported: ...", True),
        (TrialState.FAIL, "diverged at epoch 3: value=nan is not a finite number", False),
        (TrialState.FAIL, "diverged: returned value=nan", False),
        (TrialState.FAIL, "Diverged: loss", False),
        (TrialState.FAIL, "TimeoutError", False),
        (TrialState.INFEASIBLE, "out of memory: MemoryError", False),
    ],
)
def test_which_trials_count_towards_the_three(state: TrialState, reason: str | None, counted: bool) -> None:
    assert counts(TrialRecord(0, {}, "k", state, Fidelity(), reason=reason)) is counted
