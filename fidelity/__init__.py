"""What an evaluation costs and when to stop: axes, records, schedulers, data, training, checkpoints.

Knows neither search spaces nor studies. Names are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fidelity.axes import Axes
    from fidelity.calibration import Calibration, calibrate
    from fidelity.data import Data, load_data
    from fidelity.extrapolation import CurveExtrapolator, Distribution
    from fidelity.records import Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState
    from fidelity.schedulers import (
        ASHA,
        Action,
        Done,
        ExtrapolationStopping,
        FreezeThaw,
        FullFidelity,
        Hyperband,
        MedianStopping,
        Resume,
        Scheduler,
        Start,
        Stop,
        SuccessiveHalving,
        Wait,
    )
    from fidelity.training import train_on

_HOME = {
    "Axes": "fidelity.axes",
    "Calibration": "fidelity.calibration",
    "calibrate": "fidelity.calibration",
    "CurveExtrapolator": "fidelity.extrapolation",
    "Data": "fidelity.data",
    "Distribution": "fidelity.extrapolation",
    "load_data": "fidelity.data",
    "train_on": "fidelity.training",
    **dict.fromkeys(
        ("Curve", "Fidelity", "Observation", "StudyView", "TrialRecord", "TrialState"), "fidelity.records"
    ),
    **dict.fromkeys(
        (
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
        ),
        "fidelity.schedulers",
    ),
}

__all__ = [
    "ASHA",
    "Action",
    "Axes",
    "Calibration",
    "Curve",
    "CurveExtrapolator",
    "Data",
    "Distribution",
    "Done",
    "ExtrapolationStopping",
    "Fidelity",
    "FreezeThaw",
    "FullFidelity",
    "Hyperband",
    "MedianStopping",
    "Observation",
    "Resume",
    "Scheduler",
    "Start",
    "Stop",
    "StudyView",
    "SuccessiveHalving",
    "TrialRecord",
    "TrialState",
    "Wait",
    "calibrate",
    "load_data",
    "train_on",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'fidelity' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
