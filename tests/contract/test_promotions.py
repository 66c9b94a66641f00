"""A promotion along an axis: where state carries it is used, where it does not training begins anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from engine import Ladder

import bonas
from bonas import fidelity, spaces
from fidelity.records import TrialRecord, TrialState

PARAMS = {"optimizer": "adamw", "lr": 0.01, "batch_size": 32, "augmentation": "shift", "mixup": 0.0}
BEFORE = 3


@pytest.fixture(scope="module")
def objective() -> Any:
    return bonas.train_on(bonas.load_data("digits"))


def train(
    objective: Any, axes: fidelity.Axes, rungs: Sequence[dict[str, float]]
) -> tuple[TrialRecord, float]:
    """The space's default network through the rungs: its record, and what it cost."""
    space = spaces.chain((1, 8, 8), 10).with_hyperparameters().fix(PARAMS)
    scheduler = Ladder(tuple(axes.fidelity(rung) for rung in rungs))
    study = bonas.create_study(space=space, axes=axes, direction="maximize", scheduler=scheduler)
    study.optimize(objective)
    assert study.trials[0].state == TrialState.COMPLETE
    return study.records[0], study.spent


@pytest.mark.parametrize(
    ("axis", "low", "high", "carried"),
    [
        ("subset", 0.25, 1.0, True),
        ("resolution", 6, 8, True),
        ("width", 0.5, 1.0, False),
        ("depth", 0.5, 1.0, False),
    ],
)
def test_what_was_learned_is_used_or_paid_for_again(
    objective: Any, axis: str, low: float, high: float, carried: bool
) -> None:
    axes = fidelity.Axes(**{"epochs": (1, BEFORE + 1), axis: (low, high)})
    below, top = {"epochs": BEFORE, axis: low}, {"epochs": BEFORE + 1, axis: high}
    promoted, cost = train(objective, axes, [below, top])
    alone, _ = train(objective, axes, [top])
    after = [o for curve in promoted.curves for o in curve.observations if o.fidelity == axes.full]
    fresh = alone.curves[0].observations
    lower = axes.nominal_cost(axes.fidelity(below))
    if carried:
        assert [o.epoch for o in after] == [BEFORE + 1]
        assert after[0].values["accuracy"] > fresh[0].values["accuracy"] + 0.05
        assert cost == pytest.approx(lower + 1 / (BEFORE + 1))
    else:
        assert [dict(o.values) for o in after] == [dict(o.values) for o in fresh]
        assert cost == pytest.approx(lower + 1)
