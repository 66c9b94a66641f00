"""Checks between which a trial is trained: where they lie and what the way to full fidelity costs.

Knows axes and costs, not what is checked.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from fidelity.axes import Axes
from fidelity.records import Fidelity, StudyView
from fidelity.schedulers.brackets import ladder_of


def checks(axes: Axes, eta: int, grace: float) -> list[Fidelity]:
    """The checks and, last, full fidelity: epochs grow by ``eta``, the other axes stay full.

    None lies before the part ``grace`` of the epochs. Without an axis of epochs there is nothing to check.
    """
    full = axes.full
    epochs = axes.to_dict()["axes"].get("epochs")
    if epochs is None:
        return [full]
    alone = Axes(epochs=epochs["values"] if epochs["listed"] else tuple(epochs["values"]))
    ladder = [f.epochs for f in ladder_of(alone, eta)]
    return [dataclasses.replace(full, epochs=e) for e in ladder if e >= grace * full.epochs]


def cost_along(view: StudyView, rungs: Sequence[Fidelity]) -> float:
    """What it costs to go on from the first of ``rungs`` to the last, stopping at each."""
    axes = view.axes
    steps = itertools.pairwise(rungs)
    return view.cost_scale * sum(
        axes.nominal_cost(high, since=axes.carried_epoch(low.epochs, low, high)) for low, high in steps
    )
