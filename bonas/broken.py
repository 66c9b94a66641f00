"""Whether failures speak against the objective rather than against configurations; knows records alone.

The contract's rule is for the first three trials. An objective can also break later: at an epoch that only
promoted trials reach, or on the day the disk is full. So each fidelity is looked at for itself, in the order
in which segments ended there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bonas.endings import counts
from fidelity.axes import Axes
from fidelity.records import Fidelity, TrialRecord, TrialState

FIRST = 3
"""Trials a study begins with that must not all fail alike."""
FIRST_THERE = 5
"""The same of segments at a fidelity at which none has succeeded."""
IN_A_ROW = 20
"""Of those at one at which some have. Where half of all configurations fail, so many do by chance once in a
million times."""
MOST_OUT_OF_MEMORY = 30  # trials in a row after which the machine, not the configuration, is to blame


def broken(records: Sequence[TrialRecord], failed: TrialRecord, axes: Axes, raised: bool) -> str | None:
    """Why the objective must be broken, in a sentence with the remedy; None as long as it need not be.

    Said again only after as many further failures: a search that is gone on with has its chance.

    Args:
        records: all trials.
        failed: the one that failed just now.
        axes: of the study.
        raised: whether it failed by an exception, not by what it reported or returned.
    """
    if not counts(failed):
        return None
    first = [t for t in records if t.attempt > 0 and counts(t)][:FIRST]
    among = failed.number in [t.number for t in first] and len(first) == FIRST
    if raised and among and len({(t.state, _kind(t)) for t in first}) == 1:
        return _said(f"the first {FIRST} trials", failed)
    ended = sorted(
        event
        for t in records
        if (event := _end(t, failed.fidelity)) is not None and event[0] <= failed.watermark
    )
    kinds = [kind for _, kind in ended]
    run = next((i for i, kind in enumerate(reversed(kinds)) if kind != _kind(failed)), len(kinds))
    most = IN_A_ROW if "" in kinds else FIRST_THERE
    if run == 0 or run % most:
        return None
    from bonas.leaderboard import describe_fidelity

    name = describe_fidelity(axes, failed.fidelity)
    at = "in full" if name == "full" else f"to {name}"
    return _said(f"the last {run} trials that were trained {at}", failed)


def out_of_memory(records: Sequence[TrialRecord]) -> bool:
    """Whether the latest trials, many of them, all ran out of memory: the next one will, too."""
    latest = [t.state for t in records if t.attempt > 0][-MOST_OUT_OF_MEMORY:]
    return len(latest) == MOST_OUT_OF_MEMORY and set(latest) == {TrialState.INFEASIBLE}


def _end(record: TrialRecord, at: Fidelity) -> tuple[int, str] | None:
    """When a trial's segment at a fidelity ended, and how it failed, "" if it did not; None if not yet."""
    if record.attempt == 0:
        return None
    for curve in reversed(record.curves):
        for o in curve.observations:
            if o.fidelity == at and o.epoch == at.epochs and not _failed_at(record, at):
                return o.watermark, ""
    if record.fidelity != at or not record.state.finished or not counts(record):
        return None
    return record.watermark, _kind(record)


def _failed_at(record: TrialRecord, at: Fidelity) -> bool:
    return record.state == TrialState.FAIL and record.fidelity == at


def _kind(record: TrialRecord) -> str:
    """The name of the exception, or the beginning of the sentence, without its numbers; "" if all is well."""
    if record.state != TrialState.FAIL:
        return ""
    return re.sub(r"\d+", "", (record.reason or "").partition(":")[0]) or "no reason"


def _said(who: str, failed: TrialRecord) -> str:
    return (
        f"{who} all failed alike, the latest with {(failed.reason or '?')[:300]!r}. The search stops and "
        "nothing is lost: repair the objective and call optimize again. Where configurations may fail like "
        "this, let the objective raise bonas.TrialPruned for them."
    )
