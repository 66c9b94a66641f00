"""Stopping by extrapolation: who is stopped, on which figures, and what does not matter."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from fidelity import Axes, Curve, ExtrapolationStopping, Observation
from fidelity.records import Fidelity, StudyView, TrialRecord, TrialState
from fidelity.schedulers import Resume, Start, Stop

AXES = Axes(epochs=(1, 40))
EPOCHS = np.arange(1, 41)


def trial(number: int, values: Sequence[Mapping[str, float]], width: float = 1.0) -> TrialRecord:
    at = Fidelity(len(values), width=width)
    seen = tuple(Observation(e, v, 1 / 40, at) for e, v in enumerate(values, start=1))
    state = TrialState.COMPLETE if len(values) == 40 else TrialState.PAUSED
    return TrialRecord(number, {}, str(number), state, at, curves=(Curve(seen),))


def losses(end: float, epochs: int = 40, seed: int = 0) -> list[dict[str, float]]:
    noise = np.random.default_rng(seed).normal(0, 0.002, 40)
    curve = end + 0.3 * EPOCHS**-0.7 + noise
    return [{"value": float(v)} for v in curve[:epochs]]


def complete(n: int = 5) -> list[TrialRecord]:
    return [trial(k, losses(0.2 + 0.05 * k, seed=k)) for k in range(n)]


def decide(trials: Sequence[TrialRecord], **settings: Any) -> Any:
    view = StudyView(tuple(trials), settings.pop("axes", AXES), **settings)
    return ExtrapolationStopping().decide(view, np.random.default_rng(0))


def test_the_checks_double_after_the_grace() -> None:
    assert [f.epochs for f in ExtrapolationStopping().rungs(AXES)] == [2, 5, 10, 20, 40]
    assert [f.epochs for f in ExtrapolationStopping(grace=0.2, eta=4).rungs(AXES)] == [10, 40]
    assert ExtrapolationStopping().rungs(Axes()) == [Fidelity()]


def test_a_hopeless_trial_is_stopped_on_figures_that_say_why() -> None:
    action = decide([*complete(), trial(5, losses(0.9, 10))])
    assert isinstance(action, Stop)
    assert action.trial.number == 5
    figures = json.loads(json.dumps(action.figures))
    assert figures["probability"] < figures["least"] == pytest.approx(0.04 * 10 / 40)
    assert figures["incumbent"] == complete()[0].values["value"]
    assert figures["end"]["low"] <= figures["end"]["mean"] <= figures["end"]["high"]
    assert figures["end"]["low"] > figures["incumbent"]
    assert "probability" in action.reason


def test_the_dearer_the_way_the_likelier_it_has_to_be() -> None:
    ways = {2: 3, 5: 5, 10: 10, 20: 20}  # epochs trained: epochs to the next check
    for epochs, way in ways.items():
        action = decide([*complete(), trial(5, losses(0.9, epochs))])
        assert action.figures["least"] == pytest.approx(0.04 * way / 40)


def test_early_in_a_study_the_best_so_far_is_not_all_there_is_to_beat() -> None:
    trials = [*complete(), trial(5, losses(0.9, 10))]
    unknown = decide(trials).figures["least"]
    assert decide(trials, starts_left=6).figures["least"] == pytest.approx(2 * unknown)
    assert decide(trials, starts_left=0).figures["least"] == pytest.approx(unknown)
    assert decide(trials, starts_left=10**6).figures["least"] == 0.25
    paid = [dataclasses.replace(t, attempt=1) for t in trials]  # 5 1/4 full evaluations
    assert decide(paid, budget_left=5.25).figures["least"] == pytest.approx(2 * unknown)
    assert decide(paid, budget_left=5.25, starts_left=0).figures["least"] == pytest.approx(unknown)


def test_trials_that_were_added_are_no_part_of_what_was_started() -> None:
    added = [dataclasses.replace(t, elsewhere=t.cost) for t in complete()]
    alone = decide([*complete(), trial(5, losses(0.9, 10))]).figures["least"]
    # One of two starts is done.
    assert decide([*added, trial(5, losses(0.9, 10))], starts_left=1).figures["least"] == pytest.approx(
        2 * alone
    )


def test_a_promising_trial_goes_on_to_the_next_check() -> None:
    action = decide([*complete(), trial(5, losses(0.15, 10))])
    assert isinstance(action, Resume)
    assert action.fidelity.epochs == 20
    assert action.figures["probability"] > 0.5
    assert (action.figures["rung"], action.figures["of"]) == (3, 5)


def test_larger_may_be_better() -> None:
    turned = [
        trial(t.number, [{"value": 1 - o.values["value"]} for o in t.curves[0].observations])
        for t in (*complete(), trial(5, losses(0.9, 10)))
    ]
    action = decide(turned, directions=("maximize",))
    assert isinstance(action, Stop)
    assert action.figures["incumbent"] == pytest.approx(1 - complete()[0].values["value"])
    assert action.figures["end"]["high"] < action.figures["incumbent"]


def test_nothing_is_stopped_before_enough_is_known() -> None:
    action = decide([*complete(2), trial(2, losses(0.9, 10))])
    assert isinstance(action, Resume)
    assert "fewer than 3" in action.figures["why"]


def test_how_bad_the_bad_ones_are_does_not_matter() -> None:
    def others(factor: float) -> list[TrialRecord]:
        exploded = [{"value": 0.6 + factor * e} for e in range(10)]
        return [
            *complete(),
            *(trial(5 + k, losses(0.5, 10, seed=k)) for k in range(4)),
            trial(9, exploded),
        ]

    first, second = (decide(others(factor)) for factor in (1e3, 1e30))
    assert first.trial.number == second.trial.number == 5
    assert first.figures == second.figures


def test_what_begins_worse_than_most_and_falls_is_not_taken_for_a_plateau() -> None:
    beginning_badly = 0.9 - 0.02 * EPOCHS[:10]  # the others begin at 0.5 to 0.7
    flat = np.full(10, 0.9)
    falls, stands = (
        decide([*complete(), trial(5, [{"value": float(v)} for v in curve])])
        for curve in (beginning_badly, flat)
    )
    assert falls.figures["end"]["mean"] < stands.figures["end"]["mean"]


def test_of_several_metrics_one_that_may_win_is_enough() -> None:
    def both(number: int, error: float, size: float, epochs: int = 40) -> TrialRecord:
        values = [{"error": v["value"], "size": size} for v in losses(error, epochs, seed=number)]
        return trial(number, values)

    trials = [both(k, 0.2 + 0.05 * k, 10.0 + k) for k in range(4)]
    names = {"metric_names": ("error", "size"), "directions": ("minimize", "minimize")}
    assert isinstance(decide([*trials, both(4, 0.9, 5.0, 10)], **names), Resume)
    assert isinstance(decide([*trials, both(4, 0.9, 50.0, 10)], **names), Stop)


def test_trainings_at_other_fidelities_are_not_compared() -> None:
    axes = Axes(epochs=(1, 40), width=(0.5, 1.0))
    narrow = [trial(10 + k, losses(0.01, 20, seed=k), width=0.5) for k in range(6)]
    with_them, without = (
        decide([*complete(), trial(5, losses(0.9, 10)), *more], axes=axes) for more in (narrow, [])
    )
    assert with_them == without


def test_it_starts_while_full_evaluations_fit() -> None:
    assert isinstance(decide([], starts_left=1), Start)
    assert isinstance(decide(complete(), budget_left=1.0), Start)
    assert not isinstance(decide(complete(), budget_left=0.5), Start)


@pytest.mark.parametrize(
    "wrong", [{"bound": 0}, {"bound": 1.0}, {"bound": "a"}, {"grace": 1}, {"eta": 1}, {"n_startup": 0}]
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ExtrapolationStopping(**wrong)
