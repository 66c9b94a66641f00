"""What was evaluated elsewhere as a trial of this study: whether it fits, and where it stands here.

Knows records and axes; no stores, and not where the trial comes from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fidelity.axes import Axes
from fidelity.records import AXIS_NAMES, Curve, Fidelity, TrialRecord, TrialState

_WAITS = (TrialState.RUNNING, TrialState.PAUSED, TrialState.COMPLETE)


def adopted(
    record: TrialRecord, axes: Axes, metric_names: tuple[str, ...], own: Mapping[str, Any]
) -> TrialRecord:
    """The record as one of a study with these axes and metrics.

    COMPLETE is what was evaluated at this study's full fidelity, whatever it was called elsewhere. Below it a
    trial that ended well is PAUSED: it may be resumed, and then trains from its first epoch, since its
    checkpoint is elsewhere. All of its cost so far was paid elsewhere.

    Args:
        record: as it was there.
        axes: of this study.
        metric_names: of this study.
        own: what this study gives to it: number, params, key and seed.

    Raises:
        ValueError: for missing metrics, or a fidelity that this study does not have.
    """
    names = set(metric_names)
    for o in (o for curve in record.curves for o in curve.observations):
        if not names <= set(o.values):
            raise ValueError(
                f"add_trial: an observation has {sorted(o.values)}, but this study's metrics are "
                f"{sorted(names)}."
            )
    if record.state == TrialState.COMPLETE and record.last is None:
        raise ValueError("add_trial: a COMPLETE trial needs at least one observation.")
    curves = tuple(
        Curve(
            tuple(dataclasses.replace(o, fidelity=_translated(o.fidelity, axes)) for o in curve.observations)
        )
        for curve in record.curves
    )
    there = TrialRecord(**own, state=record.state, fidelity=_translated(record.fidelity, axes), curves=curves)
    state, last = record.state, there.last
    if state in _WAITS:
        full = last is not None and (last.fidelity, last.epoch) == (axes.full, axes.full.epochs)
        state = TrialState.COMPLETE if full else TrialState.PAUSED
    return dataclasses.replace(
        there,
        state=state,
        fidelity=axes.full if state == TrialState.COMPLETE else there.fidelity,
        reason=record.reason,
        lost=record.lost,
        retrained=record.retrained,
        elsewhere=record.cost,
        user_attrs=record.user_attrs,
    )


def _translated(at: Fidelity, axes: Axes) -> Fidelity:
    """A fidelity in terms of a study's axes: those that the other study did not have were at their full."""
    values = at.to_dict()
    mine = {axis.name for axis in axes.axes}
    usual = Fidelity()
    for name, value in values.items():
        # On an axis that this study does not have everything is in full, as far as it knows.
        if name not in mine and not (name in AXIS_NAMES and value == usual[name]):
            raise ValueError(
                f"add_trial: it was evaluated at {name}={value:g}, and this study has no such axis. Add "
                f"trials of the same axes only, or make the study with Axes({name}=...)."
            )
    known = {name: value for name, value in values.items() if name in mine and value is not None}
    try:
        return axes.fidelity(known)
    except ValueError as error:
        raise ValueError(
            f"add_trial: {error} Add trials of the same axes only, or make the study with wider ones."
        ) from None
