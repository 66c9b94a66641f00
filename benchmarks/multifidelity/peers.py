"""Other packages' multi-fidelity methods as :class:`~multifidelity.method.Method`; knows no tables, no clocks.

Each runs with the settings it has when nothing is set, through the interface that its documentation gives for a
loop of one's own, on the epochs of a training from 1 to all of them; what had to be decided is said at its class.
The packages are installed apart from bonas (``benchmarks/peers.txt``) and imported when a search of theirs
begins.

Who pays for what: a package whose documentation continues a promoted trial from its checkpoint does so here
(NePS); one whose interface knows no checkpoints trains again from the first epoch (SMAC, DEHB); one that only
ever stops trials pays for their epochs once, and what was stopped is lost (Optuna, Syne Tune).

Missing: NePS's ifBO, whose network has to be downloaded when it is first used, and Syne Tune's ASHA by promotion,
which its versions from 0.14 on do not have any more.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from search.peers import (
    Flat,
    folder,
    loss_sign,
    neps_parameter,
    plain,
    seed_globally,
    smac_forest,
    syne_tune_domain,
)

from multifidelity.method import Entry, Method, Proposal
from multifidelity.play import play

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from multifidelity.task import Task
    from multifidelity.trace import Trace

SEEDS = 10


@dataclass
class Losses:
    """Turns values into losses, for packages that need a number of trainings that diverged, too."""

    sign: int
    worst: float = 0.0
    """The greatest so far."""

    def last(self, values: Sequence[float], expected: int) -> float:
        """That of the last of the expected number of values; of a training that diverged the worst so far."""
        if len(values) < expected:
            return self.worst
        return 0.0


# Optuna ---------------------------------------------------------------------------------------------------
