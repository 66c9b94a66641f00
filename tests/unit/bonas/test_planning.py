"""Plans: what is told beforehand is what then runs."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from ConfigSpace import ConfigurationSpace

import bonas
from bonas import fidelity, spaces
from bonas.samplers import RandomSampler
from fidelity.schedulers import REGISTRY

AXES = fidelity.Axes(epochs=(1, 9), subset=(0.5, 1.0))


def study(**settings: Any) -> bonas.Study:
    space = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}))
    usual = {
        "space": space,
        "axes": AXES,
        "sampler": RandomSampler(),
        "scheduler": fidelity.SuccessiveHalving(),
    }
    return bonas.create_study(**(usual | settings))


def objective(trial: bonas.Trial) -> None:
    trial.load_checkpoint()
    for epoch in trial.epochs():
        trial.report(trial.params["x"] + 1 / epoch, epoch)
        trial.save_checkpoint({})


def ran(s: bonas.Study) -> Counter[Any]:
    decisions = (d for t in s.trials for d in s.decisions(t.number))
    return Counter(d["fidelity"] for d in decisions if d["action"] != "stop")


@pytest.mark.parametrize("scheduler", sorted(REGISTRY))
@pytest.mark.parametrize("limits", [{"budget": 7.5}, {"n_trials": 13}, {"budget": 4.0, "n_trials": 30}])
def test_what_is_planned_is_what_runs(scheduler: str, limits: dict[str, Any]) -> None:
    s = study(scheduler=REGISTRY[scheduler]())
    plan = s.plan(**limits)
    s.optimize(objective, **limits)
    if plan.exact:
        assert {r.fidelity: r.trials for r in plan.rungs} == ran(s)
        assert plan.cost == pytest.approx(s.spent)
        assert plan.started == len(s.trials)
    else:  # what is stopped hangs on the values
        assert "about" in plan.statement
        assert plan.cost == pytest.approx(s.spent, rel=0.3)
        assert 1 / 3 < plan.started / len(s.trials) < 3


def test_most_schedules_are_told_exactly() -> None:
    plans = {name: study(scheduler=scheduler()).plan(budget=7.5) for name, scheduler in REGISTRY.items()}
    assert {name for name, plan in plans.items() if plan.exact} >= {
        "FullFidelity",
        "Hyperband",
        "SuccessiveHalving",
    }
    assert not plans["MedianStopping"].exact


def test_the_hedge_is_told_in_words() -> None:
    axes = fidelity.Axes(epochs=(1, 9))
    plan = study(axes=axes, scheduler=fidelity.Hyperband()).plan(n_trials=17)
    assert [r.started for r in plan.rungs] == [9, 5, 3]
    assert plan.hedged == 8
    assert "8 of the 17 start above the lowest rung" in plan.statement
    assert study(axes=axes, scheduler=fidelity.SuccessiveHalving()).plan(n_trials=9).hedge == ""


def test_a_plan_in_the_middle_tells_only_what_is_left() -> None:
    s = study()
    s.optimize(objective, budget=3.0)
    before, spent = ran(s), s.spent
    plan = s.plan(budget=8.0)
    s.optimize(objective, budget=8.0)
    assert {r.fidelity: r.trials for r in plan.rungs} == ran(s) - before
    assert plan.cost == pytest.approx(s.spent - spent)
    assert s.plan(budget=8.0).rungs == ()
    assert "nothing is left" in repr(s.plan(budget=8.0))


def test_a_plan_changes_nothing() -> None:
    s = study()
    s.optimize(objective, budget=2.0)
    before = s.records
    s.plan(budget=20.0)
    assert s.records == before
    assert s.ask() is None  # the limits of the call before still hold


def test_it_is_a_statement_and_a_table() -> None:
    s = study(axes=fidelity.Axes(epochs=(1, 9)), study_name="digits")
    plan = s.plan(n_trials=9)
    text = repr(plan)
    assert (
        "digits, 9 trials: 9 new configurations; 9 are trained to 1 epoch, 3 are trained to 3 epochs" in text
    )
    assert "1 is trained to 9 epochs" in text
    assert "2.33 full evaluations" in text
    assert re.search(r"^in all +- +21 ", text, re.MULTILINE)  # 13 segments are no 13 trials
    assert "Seconds are known once something has been trained" in text
    assert [r.epochs for r in plan.rungs] == [9, 6, 6]
    assert list(plan.to_dataframe()["trials"]) == [9, 3, 1]
    assert "<table" in plan._repr_html_()


def test_seconds_follow_from_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0, time=time.time, monotonic=lambda: clock.now)
    monkeypatch.setattr("bonas.trial.time", clock)

    def slow(trial: bonas.Trial) -> None:
        trial.load_checkpoint()
        for epoch in trial.epochs():
            clock.now += 20.0
            trial.report(1 / epoch, epoch)
            trial.save_checkpoint({})

    s = study(axes=fidelity.Axes(epochs=(1, 9)))
    assert math.isnan(s.plan(budget=10).seconds)
    s.optimize(slow, n_trials=9)
    plan = s.plan(n_trials=18)
    assert plan.seconds == pytest.approx(20 * sum(r.epochs for r in plan.rungs), rel=0.1)
    assert "on one worker" in repr(plan)


def test_without_limits_there_is_no_end() -> None:
    with pytest.raises(ValueError, match="never ends"):
        study().plan()
    with pytest.raises(ValueError, match="budget"):
        study().plan(budget=-1)


def test_a_very_long_plan_is_cut_and_says_so() -> None:
    plan = study(axes=None, scheduler=None).plan(n_trials=10**6)
    assert not plan.complete
    assert "And so on" in repr(plan)
    assert re.search(r"^so far +- ", repr(plan), re.MULTILINE)
    assert plan.statement == (
        "1000000 trials: too long to be told to its end. Its first 2,000 segments alone: 2000 new "
        "configurations; 2000 are trained to full. These cost 2e+03 full evaluations."
    )


def test_one_evaluation_is_one() -> None:
    assert "It costs 1 full evaluation." in study(axes=None, scheduler=None).plan(n_trials=1).statement
    assert "It costs 2 full evaluations." in study(axes=None, scheduler=None).plan(n_trials=2).statement


@pytest.mark.parametrize("scheduler", sorted(REGISTRY))
def test_a_leftover_too_small_for_anything_is_said(scheduler: str, caplog: pytest.LogCaptureFixture) -> None:
    s = study(scheduler=REGISTRY[scheduler](), axes=fidelity.Axes(epochs=(1, 9)))
    s.optimize(objective, budget=3.05)
    assert "nothing to run" not in caplog.text
    before = len(s.records)
    s.optimize(objective, budget=3.06)
    assert len(s.records) == before
    [said] = [r.getMessage() for r in caplog.records if "nothing to run" in r.getMessage()]
    assert said == f"nothing to run: {s.plan(budget=3.06).statement}"
    assert f"{s.spent:.3g} of it are spent, and the rest is too little for what could run next" in said
    caplog.clear()
    s.optimize(objective, n_trials=1)
    assert [r.getMessage() for r in caplog.records] == ["nothing to run: 1 trial: nothing is left to run."]


def test_a_used_up_space_ends_the_plan() -> None:
    space = spaces.Space(ConfigurationSpace({"c": ["a", "b", "c"]}))
    assert study(space=space, axes=None, scheduler=None).plan(n_trials=100).started == 3
