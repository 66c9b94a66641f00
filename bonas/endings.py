"""How a segment ended: from what was collected, returned and raised to the trial's next state.

Knows the rules of the contract and nothing of stores, processes or networks.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from bonas.errors import MissingFunctionError, TrialPruned
from bonas.segment import Collected, Segment
from bonas.values import read_values
from fidelity.out_of_memory import is_out_of_memory
from fidelity.records import Observation, TrialRecord, TrialState

# Timeouts and divergence say something about a configuration, not about the objective.
_NOT_A_BUG = ("Diverged", "TimeoutError", "FloatingPointError", "OverflowError")


@dataclass(frozen=True, slots=True)
class Ending:
    """What ``tell`` writes about a segment."""

    state: TrialState
    reason: str | None = None
    observations: tuple[Observation, ...] = ()
    """The whole curve ``Collected.curve``."""
    lost: float = 0.0
    """Cost of trained epochs that left no observation."""
    unfinished: bool = False
    further: bool = False
    """Whether the segment, though unfinished, has got further, or was interrupted in good order."""


def conclude(segment: Segment, collected: Collected, value: Any, error: BaseException | str | None) -> Ending:
    """The ending of a segment, by the rules of the contract, in their order of precedence.

    Args:
        segment: what was to run.
        collected: what the handle gathered.
        value: what the objective returned.
        error: what it raised, or a sentence from a user who tells a failure.
    """
    target = segment.record.fidelity
    full = target == segment.axes.full
    observations = collected.observations
    reached = collected.position >= target.epochs and any(o.epoch == target.epochs for o in observations)
    reported = observations if collected.reported else ()

    # Ctrl-C, an exit, or a study that lacks a function of the user's: nothing that the trial could help.
    left = isinstance(error, MissingFunctionError) or (
        error is not None and not isinstance(error, Exception | str)
    )
    if (collected.interrupted or left) and not reached:
        return Ending(TrialState.PAUSED, observations=reported, unfinished=True, further=True)
    if collected.fault is not None:
        return _failed(segment, collected, collected.fault)
    if error is not None and _is_pruned(error):
        if collected.asked_to_prune:
            return Ending(TrialState.PAUSED, observations=reported)
        lost = 0.0 if reported else _lost(segment, collected)
        return Ending(TrialState.PRUNED, "pruned by the objective", reported, lost)
    if isinstance(error, BaseException) and is_out_of_memory(error):
        return Ending(
            TrialState.INFEASIBLE, f"out of memory: {_described(error)}", reported, _lost(segment, collected)
        )
    if error is not None and not left:
        return _failed(segment, collected, _described(error))

    done = TrialState.COMPLETE if full else TrialState.PAUSED
    if value is not None:
        try:
            _, fault = read_values(value, segment.metric_names)
        except (TypeError, ValueError) as wrong:
            return _failed(segment, collected, f"returned {wrong}")
        if fault is not None:
            return _failed(segment, collected, f"diverged: returned {fault}")
        return Ending(done, observations=observations)
    if reached:
        return Ending(done, observations=reported or observations)
    if not collected.reported:
        return _failed(
            segment,
            collected,
            "nothing reported: the objective neither reported an epoch nor returned a value",
        )
    last_epoch = observations[-1].epoch
    return Ending(
        TrialState.PRUNED, f"the objective returned after epoch {last_epoch} of {target.epochs}", reported
    )


def _failed(segment: Segment, collected: Collected, reason: str) -> Ending:
    observations = collected.observations if collected.reported else ()
    return Ending(TrialState.FAIL, reason, observations, _lost(segment, collected))


def _lost(segment: Segment, collected: Collected) -> float:
    """Cost of the epochs that were trained after the last report.

    At least one if there was no report: a failure must cost something, or a study of failures never
    spends its budget.
    """
    if segment.axes.cost == "measured":
        return collected.cost
    epochs = max(0 if collected.reported else 1, collected.trained - collected.position)
    return epochs * segment.axes.epoch_cost(segment.record.fidelity)


def _is_pruned(error: BaseException | str) -> bool:
    if isinstance(error, TrialPruned):
        return True
    optuna = sys.modules.get("optuna")  # only an objective that imported it can have raised its exception
    return optuna is not None and isinstance(error, optuna.TrialPruned)


def is_bug(error: BaseException | None) -> bool:
    """Whether an exception speaks against the objective, not against the configuration it was given."""
    if error is None or not isinstance(error, Exception) or _is_pruned(error) or is_out_of_memory(error):
        return False
    return not any(cls.__name__ in _NOT_A_BUG for cls in type(error).__mro__)


def counts(record: TrialRecord) -> bool:
    """Whether a trial is among the three that tell whether the objective is broken."""
    if record.state == TrialState.FAIL:
        return (record.reason or "").partition(":")[0].partition(" ")[0] not in {*_NOT_A_BUG, "diverged"}
    return record.state != TrialState.INFEASIBLE


def _described(error: BaseException | str | None) -> str:
    try:
        text = str(error)
    except Exception:  # an exception whose own text is broken must not take the study with it
        text = "(its message cannot be shown)"
    if isinstance(error, BaseException):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    # Halves of surrogate pairs cannot be stored; nobody reads more of a reason than this.
    return text.encode("utf-8", "replace").decode()[:2000]
