"""bonas finds neural architectures: Bayesian optimization over conditional spaces with cheap evaluations.

The one door: what ``__all__`` lists is promised, nothing else. Names are loaded when first used, so that
``import bonas`` costs nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import os.path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import fidelity
    import spaces
    from bonas import plots, samplers
    from bonas.artifacts import Artifacts
    from bonas.errors import DuplicatedStudyError, MissingFunctionError, StaleTrialError, TrialPruned
    from bonas.feasibility import Latency
    from bonas.frozen import FrozenTrial
    from bonas.opening import create_study, load_study
    from bonas.study import Study
    from bonas.trial import Trial
    from fidelity.data import load_data
    from fidelity.records import TrialState
    from fidelity.training import train_on

__version__ = "0.1.0"

_HOME = {
    "Artifacts": "bonas.artifacts",
    "DuplicatedStudyError": "bonas.errors",
    "MissingFunctionError": "bonas.errors",
    "StaleTrialError": "bonas.errors",
    "TrialPruned": "bonas.errors",
    "Study": "bonas.study",
    "create_study": "bonas.opening",
    "load_study": "bonas.opening",
    "FrozenTrial": "bonas.frozen",
    "Latency": "bonas.feasibility",
    "Trial": "bonas.trial",
    "TrialState": "fidelity.records",
    "load_data": "fidelity.data",
    "train_on": "fidelity.training",
}
_MODULES = {
    "fidelity": "fidelity",
    "plots": "bonas.plots",
    "samplers": "bonas.samplers",
    "spaces": "spaces",
}

__all__ = [
    "Artifacts",
    "DuplicatedStudyError",
    "FrozenTrial",
    "Latency",
    "MissingFunctionError",
    "StaleTrialError",
    "Study",
    "Trial",
    "TrialPruned",
    "TrialState",
    "create_study",
    "fidelity",
    "load_data",
    "load_study",
    "plots",
    "samplers",
    "spaces",
    "train_on",
]


def _check_siblings() -> None:
    """`spaces` and `fidelity` are common names: make sure that ours are the ones that would be imported."""
    beside = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for name in ("spaces", "fidelity"):
        found = importlib.util.find_spec(name)
        origin = None if found is None else found.origin
        if origin is None or os.path.dirname(os.path.dirname(os.path.abspath(origin))) != beside:
            raise ImportError(
                f"bonas needs its own package {name!r} beside it in {beside}, but Python finds "
                f"{origin or 'none'}. Another package of that name stands in the way (Hugging Face has a "
                "'spaces' too): install bonas into an environment without it."
            )


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'bonas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


_check_siblings()
