"""Schedulers decide what runs next: which trial, at which fidelity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fidelity.schedulers.asha import ASHA
from fidelity.schedulers.base import Action, Done, Resume, Scheduler, Start, Stop, Wait
from fidelity.schedulers.extrapolation_stopping import ExtrapolationStopping
from fidelity.schedulers.freeze_thaw import FreezeThaw
from fidelity.schedulers.full import FullFidelity
from fidelity.schedulers.hyperband import Hyperband
from fidelity.schedulers.median_stopping import MedianStopping
from fidelity.schedulers.successive_halving import SuccessiveHalving

__all__ = [
    "ASHA",
    "Action",
    "Done",
    "ExtrapolationStopping",
    "FreezeThaw",
    "FullFidelity",
    "Hyperband",
    "MedianStopping",
    "Resume",
    "Scheduler",
    "Start",
    "Stop",
    "SuccessiveHalving",
    "Wait",
    "from_dict",
]

# The only names that a stored study can bring to life.
REGISTRY: Mapping[str, Any] = {
    "ASHA": ASHA,
    "ExtrapolationStopping": ExtrapolationStopping,
    "FreezeThaw": FreezeThaw,
    "FullFidelity": FullFidelity,
    "Hyperband": Hyperband,
    "MedianStopping": MedianStopping,
    "SuccessiveHalving": SuccessiveHalving,
}


def from_dict(data: Mapping[str, Any]) -> Scheduler:
    """The scheduler that ``data`` describes.

    Raises:
        ValueError: if its name is not one of bonas's own.
    """
    settings = dict(data)
    name = settings.pop("name", None)
    if name not in REGISTRY:
        raise ValueError(
            f"scheduler {name!r}: known are {sorted(REGISTRY)}. Pass a scheduler of your own again."
        )
    scheduler: Scheduler = REGISTRY[name](**settings)
    return scheduler
