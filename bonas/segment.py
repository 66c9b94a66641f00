"""What a worker is given to run and what it gives back: records that know nothing of training or stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fidelity.axes import Axes
from fidelity.records import CheckpointRecord, Observation, TrialRecord


@dataclass(frozen=True, slots=True)
class Segment:
    """What a worker runs in one go: one trial up to ``record.fidelity``."""

    record: TrialRecord
    axes: Axes
    directions: tuple[str, ...]
    metric_names: tuple[str, ...]
    folder: str
    """The trial's own folder for checkpoints."""
    device: str | None = None
    """A torch device, or None for the first CUDA device if there is one, else the CPU."""
    retraining: bool = False
    deadline: float | None = None
    """Unix time after which no further epoch begins."""
    stop_file: str | None = None
    """No further epoch begins once this file exists: how other processes are told to stop."""
    max_bytes: int | None = None
    """What all checkpoints of the study may take on disk together, None for no limit."""
    time_limit: float | None = None
    """Seconds after which the segment fails, None for no limit."""

    @property
    def time_up(self) -> str:
        """The reason of a trial that took longer."""
        return f"TimeoutError: not done after trial_timeout={self.time_limit:g} seconds"


@dataclass(frozen=True, slots=True)
class Collected:
    """Everything a handle gathered during one segment."""

    curve: int
    """Index of the curve the observations belong to; equal to the number of known curves for a new one."""
    observations: tuple[Observation, ...]
    """The whole curve, earlier segments included."""
    reported: bool
    """Whether this segment brought an observation, those of a loaded checkpoint included."""
    trained: int
    """The last epoch handed out by ``epochs()``."""
    position: int
    """The epoch up to which cost is accounted for."""
    cost: float
    """Seconds since the last report where cost is measured, else 0."""
    interrupted: bool
    asked_to_prune: bool
    """Whether ``should_prune()`` has answered True."""
    fault: str | None
    """Why the reported values cannot be used."""
    checkpoint: CheckpointRecord | None
    user_attrs: Mapping[str, Any]
    retrained: float = 0.0
    """Cost of those epochs that had been trained before, and whose state was gone."""
    saved: bool = True
    """Whether the objective saved a state at all, be it on disk or not."""
