"""Which model serves an ask follows from the records alone, whatever was asked before."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from bonas.samplers._refits import Refits, until
from fidelity.axes import Axes
from fidelity.records import Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState

AXES = Axes(epochs=(1, 9))
LOW = Fidelity(epochs=3)


def view(trials: list[TrialRecord]) -> StudyView:
    return StudyView(tuple(trials), AXES)


def told(trial: TrialRecord, epochs: range, to: Fidelity, watermark: int, cost: float = 0.1) -> TrialRecord:
    """The trial after a segment that went to an epoch, the last of ``epochs``."""
    new = tuple(Observation(e, {"value": 1 / e}, cost, to, watermark=watermark) for e in epochs)
    before = trial.curves[-1].observations if trial.curves else ()
    state = TrialState.COMPLETE if new[-1].epoch == 9 else TrialState.PAUSED
    return dataclasses.replace(
        trial, curves=(Curve((*before, *new)),), state=state, fidelity=to, watermark=watermark
    )


def started(number: int, watermark: int) -> TrialRecord:
    return TrialRecord(number, {"x": number}, str(number), TrialState.RUNNING, LOW, watermark=watermark)


# One after the other: start a trial, or tell the end of the next segment of one of those that run.
steps = st.lists(st.tuples(st.booleans(), st.integers(0, 7), st.booleans()), max_size=40)


@given(steps)
def test_what_was_asked_before_changes_nothing(steps: list[tuple[bool, int, bool]]) -> None:
    asked, trials, watermark = Refits(), list[TrialRecord](), 0
    for starts, which, fails in steps:
        watermark += 1
        if starts or not trials:
            trials.append(started(len(trials), watermark))
        else:
            trial = trials[which % len(trials)]
            if trial.state.finished:
                continue
            if fails:
                trial = dataclasses.replace(trial, state=TrialState.FAIL, lost=0.3, watermark=watermark)
            elif trial.curves:
                trial = told(trial, range(4, 10), AXES.full, watermark)
            else:
                trial = told(trial, range(1, 4), LOW, watermark)
            trials[trial.number] = trial
        assert asked.newest(view(trials)) == Refits().newest(view(trials))
        if which == 0:  # another study in between
            asked.newest(view(trials[:-1]))


def test_cheap_segments_share_models_and_a_full_evaluation_is_worth_its_own() -> None:
    trials = [told(started(i, i), range(1, 4), LOW, i, cost=0.001) for i in range(100)]
    fits = {Refits().newest(view(trials[:n])) for n in range(51, 101)}
    assert None not in fits
    assert 2 < len(fits) < 15
    dear = told(started(100, 100), range(1, 10), AXES.full, 101, cost=1 / 9)
    assert Refits().newest(view([*trials, dear])) is None


def test_the_past_is_what_had_ended_by_then() -> None:
    low = told(started(0, 1), range(1, 4), LOW, 2)
    complete = told(low, range(4, 10), AXES.full, 6)
    interrupted = told(told(started(1, 3), range(1, 4), LOW, 4), range(4, 6), AXES.full, 5)
    failed = dataclasses.replace(started(2, 3), state=TrialState.FAIL, watermark=4)
    later = dataclasses.replace(started(3, 3), state=TrialState.FAIL, watermark=6)
    then = until(view([complete, interrupted, failed, later, started(4, 6)]), 5).trials
    assert [trial.number for trial in then] == [0, 1, 2]
    assert [len(curve) for trial in then for curve in trial.curves] == [3, 3]
    assert [trial.state for trial in then] == [TrialState.PAUSED, TrialState.PAUSED, TrialState.FAIL]
    # What has not changed since is the same record, so that nobody reads it again.
    assert until(view([low]), 9).trials[0] is low
