"""One contract for every scheduler, and what successive halving promises on top of it."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from typing import Any

import numpy as np
import pytest
from engine import numbers, study
from hypothesis import given, settings
from hypothesis import strategies as st

import bonas
from bonas import TrialState, fidelity
from fidelity.records import CheckpointRecord, Curve, Observation, StudyView, TrialRecord
from fidelity.schedulers import REGISTRY, Done, Resume, Scheduler, Start, Stop, Wait, from_dict

AXES = [
    fidelity.Axes(),
    fidelity.Axes(epochs=(1, 27)),
    fidelity.Axes(epochs=[12, 200], carry=()),
    fidelity.Axes(epochs=(2, 20), subset=(0.1, 1.0)),
    fidelity.Axes(epochs=(1, 9), resolution=(8, 16), width=(0.5, 1.0)),
]


@pytest.fixture(params=sorted(REGISTRY))
def scheduler(request: pytest.FixtureRequest) -> Any:
    return REGISTRY[request.param]()


@pytest.fixture(params=AXES, ids=repr)
def axes(request: pytest.FixtureRequest) -> Any:
    return request.param


class Run:
    """A study driven by ask and tell, several segments at a time, in an order of the generator's."""

    def __init__(
        self, scheduler: Scheduler, axes: fidelity.Axes, seed: int, workers: int, **limits: Any
    ) -> None:
        self.study = study(scheduler=scheduler, axes=axes, seed=seed)
        self.study.limit(limits.get("n_trials"), limits.get("budget"))
        self.rng = np.random.default_rng(seed)
        self.handles: list[bonas.Trial] = []
        self.asked: list[tuple[int, int]] = []
        self.spent_when_idle: list[float] = []
        while True:
            while len(self.handles) < workers and (trial := self.study.ask()) is not None:
                assert self.study.records[trial.number].state == TrialState.RUNNING
                self.handles.append(trial)
                self.asked.append((trial.number, trial.fidelity.epochs))
            if not self.handles:
                break
            trial = self.handles.pop(int(self.rng.integers(len(self.handles))))
            state = trial.load_checkpoint()
            for epoch in trial.epochs():
                trial.report(trial.params["x"] + 1.0 / epoch, epoch)
                trial.save_checkpoint(state or {})
            if limits.get("failing") and trial.number % 4 == 1:
                self.study.tell(trial, error=TimeoutError())
            else:
                self.study.tell(trial)
        assert self.study.done


class TestEveryScheduler:
    def test_it_is_restored_from_json(self, scheduler: Scheduler) -> None:
        again = from_dict(json.loads(json.dumps(scheduler.to_dict())))
        assert again == scheduler
        assert isinstance(again, Scheduler)

    def test_the_first_action_is_a_start(self, scheduler: Scheduler, axes: fidelity.Axes) -> None:
        action = scheduler.decide(StudyView((), axes), np.random.default_rng(0))
        assert isinstance(action, Start)
        axes.fidelity({a.name: float(action.fidelity[a.name] or 0) for a in axes.axes})

    def test_nothing_left_is_done_or_wait(self, scheduler: Scheduler, axes: fidelity.Axes) -> None:
        rng = np.random.default_rng(0)
        for limits in ({"starts_left": 0}, {"budget_left": 0.0}):
            assert isinstance(scheduler.decide(StudyView((), axes, **limits), rng), Done)
            running = TrialRecord(0, {}, "k", TrialState.RUNNING, axes.full)
            assert isinstance(scheduler.decide(StudyView((running,), axes, **limits), rng), Wait)

    @pytest.mark.parametrize("workers", [1, 3])
    def test_a_run_keeps_its_limits_and_completes_something(
        self, scheduler: Scheduler, axes: fidelity.Axes, workers: int
    ) -> None:
        for limits in ({"n_trials": 7}, {"budget": 3.5}, {"n_trials": 5, "budget": 2.2, "failing": True}):
            s = Run(scheduler, axes, 0, workers, **limits).study
            assert len(s.trials) <= limits.get("n_trials", np.inf)
            assert s.spent <= limits.get("budget", np.inf) + 1e-9
            assert TrialState.COMPLETE in [t.state for t in s.trials]
            assert TrialState.RUNNING not in [t.state for t in s.trials]

    def test_it_is_a_function_of_view_and_generator(self, scheduler: Scheduler, axes: fidelity.Axes) -> None:
        s = Run(scheduler, axes, 1, 1, n_trials=5).study
        view = s.view()
        before = copy.deepcopy(view.trials)
        actions = [scheduler.decide(view, np.random.default_rng(3)) for _ in range(2)]
        assert (
            actions[0] == actions[1] == from_dict(scheduler.to_dict()).decide(view, np.random.default_rng(3))
        )
        assert view.trials == before

    def test_the_same_seed_gives_the_same_run(self, scheduler: Scheduler, axes: fidelity.Axes) -> None:
        assert Run(scheduler, axes, 2, 1, n_trials=6).asked == Run(scheduler, axes, 2, 1, n_trials=6).asked


class TestFullFidelity:
    def test_every_evaluation_is_a_full_one(self, axes: fidelity.Axes) -> None:
        s = Run(fidelity.FullFidelity(), axes, 0, 1, budget=3).study
        assert [(t.fidelity, t.state) for t in s.trials] == [(axes.full, TrialState.COMPLETE)] * 3


class TestSuccessiveHalving:
    def test_the_usual_ladder(self) -> None:
        ladder = fidelity.SuccessiveHalving().rungs(fidelity.Axes(epochs=(1, 81)))
        assert [f.epochs for f in ladder] == [1, 3, 9, 27, 81]
        assert [
            f.epochs
            for f in fidelity.SuccessiveHalving(eta=4, n_rungs=2).rungs(fidelity.Axes(epochs=(1, 64)))
        ] == [
            16,
            64,
        ]

    def test_all_axes_move_together_at_eta_times_the_cost(self) -> None:
        axes = fidelity.Axes(epochs=(1, 50), subset=(0.1, 1.0))
        rungs = fidelity.SuccessiveHalving().rungs(axes)
        costs = [axes.nominal_cost(r) for r in rungs]
        assert rungs[-1] == axes.full
        assert all(2 < b / a < 4.5 for a, b in itertools.pairwise(costs))
        assert all(a.epochs <= b.epochs and a.subset <= b.subset for a, b in itertools.pairwise(rungs))

    @pytest.mark.parametrize("wrong", [{"eta": 1}, {"eta": 2.5}, {"eta": True}, {"n_rungs": 0}])
    def test_wrong_settings_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="must be"):
            fidelity.SuccessiveHalving(**wrong)

    def test_a_full_bracket(self) -> None:
        s = Run(fidelity.SuccessiveHalving(), fidelity.Axes(epochs=(1, 9)), 0, 1, n_trials=9).study
        reached = sorted(t.fidelity.epochs for t in s.trials)
        assert reached == [1] * 6 + [3, 3, 9]
        assert s.spent == pytest.approx((9 * 1 + 3 * 2 + 1 * 6) / 9)

    def test_a_later_call_fills_a_bracket_of_its_own(self) -> None:
        s = study(scheduler=fidelity.SuccessiveHalving(), axes=fidelity.Axes(epochs=(1, 9)))
        objective = lambda t: t.params["x"]  # noqa: E731
        s.optimize(objective, n_trials=4)
        s.optimize(objective, n_trials=13)
        brackets = [t.record.figures["bracket"] for t in s.trials]
        assert brackets == [0] * 4 + [1] * 9
        assert [t.state for t in s.trials].count(TrialState.COMPLETE) == 2

    @settings(max_examples=40, deadline=None)
    @given(
        seed=st.integers(0, 10**6),
        eta=st.integers(2, 5),
        epochs=st.sampled_from([(1, 9), (1, 27), (2, 16), (3, 100), (1, 1)]),
        n_trials=st.integers(1, 20),
        budget=st.one_of(st.none(), st.floats(0.5, 6.0)),
        workers=st.integers(1, 4),
        failing=st.booleans(),
    )
    def test_promoted_are_the_best_finished_of_their_rung(
        self, seed: int, eta: int, epochs: Any, n_trials: int, budget: Any, workers: int, failing: bool
    ) -> None:
        scheduler = fidelity.SuccessiveHalving(eta=eta)
        axes = fidelity.Axes(epochs=epochs)
        limits = {"n_trials": n_trials, "failing": failing} | ({"budget": budget} if budget else {})
        if budget and budget < axes.nominal_cost(axes.lowest):
            return
        s = Run(scheduler, axes, seed, workers, **limits).study
        rungs = [r.epochs for r in scheduler.rungs(axes)]
        assert s.spent <= (budget or np.inf) + 1e-9
        assert len(s.trials) <= n_trials
        # What ran at a rung was the best of those that waited below it.
        for bracket in {t.record.figures["bracket"] for t in s.trials}:
            members = [t for t in s.trials if t.record.figures["bracket"] == bracket]
            assert len(members) <= eta ** (len(rungs) - 1)
            for k in range(1, len(rungs)):
                below = [t for t in members if t.fidelity.epochs >= rungs[k - 1]]
                promoted = [t for t in members if t.fidelity.epochs >= rungs[k]]
                assert len(promoted) <= max(1, len(members) // eta**k)
                able = [t for t in below if t.state != TrialState.FAIL or t in promoted]
                losses = {t.number: t.curves[0].values("value")[rungs[k - 1] - 1] for t in able}
                kept = [losses[t.number] for t in promoted]
                left = [losses[t.number] for t in able if t not in promoted]
                assert not kept or not left or max(kept) <= min(left)

    def test_nothing_is_promoted_while_its_rung_still_runs(self) -> None:
        s = study(scheduler=fidelity.SuccessiveHalving(), axes=fidelity.Axes(epochs=(1, 9)))
        s.limit(9, None)
        handles = [s.ask() for _ in range(9)]
        for trial in handles[:8]:
            assert trial is not None
            s.tell(trial, trial.params["x"])
            assert s.ask() is None
        last = handles[8]
        assert last is not None
        s.tell(last, 0.0)
        promoted = s.ask()
        assert promoted is not None
        assert promoted.fidelity.epochs == 3
        assert promoted.number == min(
            range(9), key=lambda n: 0.0 if n == 8 else s.trials[n].value or numbers().default["x"]
        )

    def test_resume_of_nothing(self) -> None:
        failed = tuple(
            TrialRecord(
                n,
                {},
                str(n),
                TrialState.FAIL,
                fidelity.Axes(epochs=(1, 9)).lowest,
                figures={"bracket": 0, "size": 3},
            )
            for n in range(3)
        )
        view = StudyView(failed, fidelity.Axes(epochs=(1, 9)), starts_left=0)
        action = fidelity.SuccessiveHalving().decide(view, np.random.default_rng(0))
        assert isinstance(action, Done)
        assert not isinstance(action, Resume)


def evaluated(
    axes: fidelity.Axes, losses: list[Any], parameters: Any, seconds: float | None = None
) -> StudyView:
    """A bracket that is over, whose trials were all seen on the lowest rungs: their losses on each of them.

    Epochs take equal ``seconds`` on all of these rungs.
    """
    rungs = fidelity.SuccessiveHalving().rungs(axes)
    trials = []
    for i, size in enumerate(parameters):
        curves = []
        for rung, loss in zip(rungs, losses, strict=False):
            values = {"value": float(loss[i]), "parameters": float(size)}
            took = None if seconds is None else seconds * rung.epochs
            curves.append(Curve((Observation(rung.epochs, values, 0.1, rung, took),)))
        figures = {"bracket": 0, "size": len(parameters)}
        state = TrialState.COMPLETE
        trials.append(TrialRecord(i, {}, str(i), state, rungs[-1], curves=tuple(curves), figures=figures))
    return StudyView(tuple(trials), axes)


class TestRungsThatMislead:
    axes = fidelity.Axes(epochs=(1, 9), width=(0.5, 1.0))
    dear = np.random.default_rng(0).normal(size=40)
    random = np.random.default_rng(1).permutation(dear)

    def test_a_new_bracket_leaves_out_what_ranks_worse_than_size(self) -> None:
        scheduler = fidelity.SuccessiveHalving()
        rungs = scheduler.rungs(self.axes)
        view = evaluated(self.axes, [self.random, self.dear], -self.dear)
        action = scheduler.decide(view, np.random.default_rng(0))
        assert isinstance(action, Start)
        assert action.fidelity == rungs[1]
        assert action.figures["size"] == 3 ** (len(rungs) - 2)
        [dropped] = action.figures["dropped"]
        assert dropped["rung"] == 0
        assert dropped["n"] == 40
        assert dropped["tau"] < dropped["tau_of_parameters"]
        assert json.loads(json.dumps(action.figures)) == action.figures

    def test_a_rung_that_ranks_is_kept_and_so_is_every_one_on_request(self) -> None:
        for scheduler, cheap in (
            (fidelity.SuccessiveHalving(), self.dear),
            (fidelity.SuccessiveHalving(drop_rungs=False), self.random),
        ):
            view = evaluated(self.axes, [cheap, self.dear], -self.dear)
            action = scheduler.decide(view, np.random.default_rng(0))
            assert isinstance(action, Start)
            assert action.fidelity == scheduler.rungs(self.axes)[0]
            assert action.figures == {"bracket": 1, "size": 3 ** (len(scheduler.rungs(self.axes)) - 1)}

    def test_the_bracket_goes_on_without_it_to_full_fidelity(self) -> None:
        scheduler = fidelity.SuccessiveHalving()
        rungs = scheduler.rungs(self.axes)
        view = evaluated(self.axes, [self.random, self.dear], -self.dear)
        trials = list(view.trials)
        reached = []
        for _ in range(60):
            action = scheduler.decide(
                StudyView(tuple(trials), self.axes, starts_left=49 - len(trials)), np.random.default_rng(0)
            )
            if isinstance(action, Done):
                break
            assert isinstance(action, Start | Resume)
            at = action.fidelity
            reached.append(rungs.index(at))
            number = action.trial.number if isinstance(action, Resume) else len(trials)
            figures = action.trial.figures if isinstance(action, Resume) else action.figures
            state = TrialState.COMPLETE if at == rungs[-1] else TrialState.PAUSED
            observation = Observation(at.epochs, {"value": float(number)}, 0.1, at)
            record = TrialRecord(
                number,
                {},
                str(number),
                state,
                at,
                curves=(Curve((observation,)),),
                figures=figures,
                attempt=1,
            )
            trials[number:] = [record, *trials[number + 1 :]]
        assert len(rungs) == 4
        assert reached == [1] * 9 + [2] * 3 + [3]

    def test_the_decision_is_a_function_of_the_records(self) -> None:
        scheduler = fidelity.SuccessiveHalving()
        view = evaluated(self.axes, [self.random, self.dear], -self.dear)
        assert scheduler.decide(view, np.random.default_rng(0)) == scheduler.decide(
            view, np.random.default_rng(1)
        )


class TestMeasuredCosts:
    axes = fidelity.Axes(epochs=(1, 9), width=(0.5, 1.0))
    dear = np.random.default_rng(0).normal(size=40)

    def test_a_rung_that_saves_little_gets_fewer_trials(self) -> None:
        nominal, measured = (fidelity.SuccessiveHalving(measured_costs=m) for m in (False, True))

        # An epoch takes as long at any width.
        view = evaluated(self.axes, [self.dear] * 4, np.exp(self.dear), seconds=1.0)
        by_nominal, by_measured = (s.decide(view, np.random.default_rng(0)) for s in (nominal, measured))
        assert isinstance(by_nominal, Start)
        assert isinstance(by_measured, Start)
        assert by_nominal.figures["size"] == 27
        assert by_measured.figures["size"] <= 12
        shares = by_measured.figures["shares"]
        assert shares[0] == 1
        assert shares == sorted(shares, reverse=True)
        assert shares[-1] == pytest.approx(1 / by_measured.figures["size"], rel=0.3)

    @pytest.mark.parametrize("limits", [{"n_trials": 9}, {"budget": 6.0}])
    def test_it_keeps_the_limits(self, limits: dict[str, Any]) -> None:
        s = Run(fidelity.SuccessiveHalving(measured_costs=True), self.axes, 0, 2, **limits).study
        assert s.spent <= limits.get("budget", np.inf) + 1e-9
        assert len(s.trials) <= limits.get("n_trials", np.inf)
        assert TrialState.COMPLETE in [t.state for t in s.trials]


class TestHyperband:
    def test_the_published_brackets(self) -> None:
        # Li et al. (2018), table 1: R = 81, eta = 3.
        s = study(scheduler=fidelity.Hyperband(), axes=fidelity.Axes(epochs=(1, 81)))
        plan = s.plan(n_trials=81 + 34 + 15 + 8 + 5)
        assert [r.fidelity.epochs for r in plan.rungs] == [1, 3, 9, 27, 81]
        assert [r.started for r in plan.rungs] == [81, 34, 15, 8, 5]
        assert plan.rungs[-1].trials == 1 + 1 + 1 + 2 + 5

    def test_every_bracket_costs_about_the_same_and_after_the_last_comes_the_first(self) -> None:
        s = Run(fidelity.Hyperband(), fidelity.Axes(epochs=(1, 9)), 0, 1, n_trials=9 + 5 + 3 + 9).study
        brackets = [t.record.figures["bracket"] for t in s.trials]
        assert brackets == [0] * 9 + [1] * 5 + [2] * 3 + [3] * 9
        cost = [sum(t.cost for t in s.trials if t.record.figures["bracket"] == b) for b in range(4)]
        assert cost == pytest.approx([21 / 9, 21 / 9, 3, 21 / 9])
        begun = [min(o.fidelity.epochs for o in t.curves[0].observations) for t in s.trials]
        assert begun == [1] * 9 + [3] * 5 + [9] * 3 + [1] * 9

    def test_the_best_of_each_bracket_go_on_from_where_they_were(self) -> None:
        s = Run(fidelity.Hyperband(), fidelity.Axes(epochs=(1, 9)), 3, 1, n_trials=17).study
        for bracket in range(3):
            members = [t for t in s.trials if t.record.figures["bracket"] == bracket]
            best = min(members, key=lambda t: t.params["x"])
            assert best.state == TrialState.COMPLETE
            assert best.curves[0].epochs == tuple(range(1, 10))  # one curve: nothing was trained twice

    @pytest.mark.parametrize("wrong", [{"eta": 1}, {"eta": True}, {"n_rungs": 0}, {"n_rungs": True}])
    def test_wrong_settings_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="must be"):
            fidelity.Hyperband(**wrong)


class TestASHA:
    def test_the_ladder_goes_from_the_lowest_to_the_full_fidelity(self) -> None:
        ladder = fidelity.ASHA().rungs(fidelity.Axes(epochs=(1, 50)))
        assert [rung.epochs for rung in ladder] == [1, 3, 9, 27, 50]
        ladder = fidelity.ASHA(n_rungs=2).rungs(fidelity.Axes(epochs=(1, 50)))
        assert [rung.epochs for rung in ladder] == [27, 50]

    def test_no_rung_is_hardly_cheaper_than_full_fidelity(self) -> None:
        def ladder(full: int) -> list[int]:
            return [rung.epochs for rung in fidelity.ASHA().rungs(fidelity.Axes(epochs=(1, full)))]

        assert (ladder(1), ladder(2), ladder(4)) == ([1], [1, 2], [1, 4])
        assert (ladder(27), ladder(30), ladder(98)) == ([1, 3, 9, 27], [1, 3, 9, 30], [1, 3, 9, 27, 98])

    def test_the_best_of_every_three_goes_on_from_where_it_was(self) -> None:
        s = study(scheduler=fidelity.ASHA(hedge=False), axes=fidelity.Axes(epochs=(1, 50)))
        s.optimize(constant, n_trials=30)
        promoted = [t for t in s.trials if t.fidelity.epochs > 1]
        assert len(promoted) == 10
        assert min(s.trials, key=lambda t: t.params["x"]) in promoted
        assert all(len(t.curves) == 1 for t in promoted)

    def test_what_is_left_of_a_budget_goes_into_the_next_best(self) -> None:
        axes = fidelity.Axes(epochs=(1, 9))
        without = study(scheduler=fidelity.ASHA(), axes=axes)
        without.optimize(constant, n_trials=12)
        s = study(scheduler=fidelity.ASHA(), axes=axes)
        s.optimize(constant, n_trials=12, budget=9)
        assert s.spent == pytest.approx(9, abs=0.5)
        full = {t.number for t in s.trials if t.state == TrialState.COMPLETE}
        assert {t.number for t in without.trials if t.state == TrialState.COMPLETE} < full
        assert full >= {t.number for t in sorted(s.trials, key=lambda t: t.params["x"])[:5]}

    def test_axes_whose_cost_nobody_knows_are_used(self) -> None:
        ladder = fidelity.ASHA().rungs(fidelity.Axes(frames=(1, 100), cost="reported"))
        assert [dict(rung.others)["frames"] for rung in ladder] == [1, 100]
        ladder = fidelity.ASHA().rungs(fidelity.Axes(epochs=(3, 4)))
        assert [rung.epochs for rung in ladder] == [3, 4]

    def test_rungs_that_cost_about_the_same_are_one(self) -> None:
        axes = fidelity.Axes(epochs=[1, 100], subset=(0.1, 1.0))
        costs = [axes.nominal_cost(rung) for rung in fidelity.ASHA().rungs(axes)]
        assert all(b >= 1.5 * a for a, b in itertools.pairwise(costs))
        assert costs[-2] < 0.75

    def test_what_was_begun_on_another_ladder_takes_part_where_it_began(self) -> None:
        axes = fidelity.Axes(epochs=(1, 27))

        def paused(number: int, epochs: int) -> TrialRecord:
            at = axes.fidelity({"epochs": epochs})
            made = tuple(Observation(e, {"value": number}, 1 / 27, at) for e in range(1, epochs + 1))
            figures = {"rung": 3 if epochs > 1 else 0, "of": 6}
            return TrialRecord(
                number, {}, str(number), TrialState.PAUSED, at, curves=(Curve(made),), figures=figures
            )

        records = [paused(n, 1) for n in range(6)] + [paused(n, 8) for n in range(6, 12)]
        promoted = []
        while True:
            view = StudyView(tuple(records), axes, starts_left=0)
            action = fidelity.ASHA().decide(view, np.random.default_rng(0))
            if not isinstance(action, Resume):
                break
            promoted.append(action.fidelity.epochs)
            old = records[action.trial.number]
            made = tuple(
                Observation(e, {"value": old.number}, 1 / 27, action.fidelity)
                for e in range(old.fidelity.epochs + 1, action.fidelity.epochs + 1)
            )
            state = TrialState.COMPLETE if action.fidelity == axes.full else TrialState.PAUSED
            curve = Curve(old.curves[0].observations + made)
            records[old.number] = dataclasses.replace(
                old, state=state, fidelity=action.fidelity, curves=(curve,)
            )
        assert promoted.count(27) == 1
        assert len(promoted) <= 6

    def test_idle_workers_do_not_finish_losers(self) -> None:
        s = Run(fidelity.ASHA(hedge=False), fidelity.Axes(epochs=(1, 27)), 0, 8, n_trials=9).study
        assert [t.state for t in s.trials].count(TrialState.COMPLETE) == 1

    def test_where_none_ends_well_in_full_a_few_are_tried(self) -> None:
        def diverging(trial: bonas.Trial) -> None:
            trial.load_checkpoint()
            for epoch in trial.epochs():
                trial.report(trial.params["x"] if epoch < 20 else float("nan"), epoch)
                trial.save_checkpoint({})

        s = study(scheduler=fidelity.ASHA(hedge=False), axes=fidelity.Axes(epochs=(1, 27)))
        s.optimize(diverging, n_trials=9)
        assert sum(t.fidelity.epochs == 27 for t in s.trials) == 3

    def test_a_trial_whose_checkpoint_is_lost_does_not_bind_the_budget(self) -> None:
        axes = fidelity.Axes(epochs=(1, 27))

        def paused(number: int, epochs: int, loss: float, saved: bool) -> TrialRecord:
            at = axes.fidelity({"epochs": epochs})
            made = tuple(Observation(e, {"value": loss}, 1 / 27, at) for e in range(1, epochs + 1))
            kept = CheckpointRecord(epochs, at, "none", "", 0) if saved else None
            record = TrialRecord(number, {}, str(number), TrialState.PAUSED, at, curves=(Curve(made),))
            return dataclasses.replace(record, checkpoint=kept)

        # Not enough is left to finish the furthest, which has to begin again; for the one behind it, it is.
        view = StudyView((paused(0, 9, 0.1, False), paused(1, 3, 0.2, True)), axes, budget_left=24.5 / 27)
        action = fidelity.ASHA().decide(view, np.random.default_rng(1))
        assert isinstance(action, Resume)
        assert (action.trial.number, action.fidelity.epochs) == (1, 27)

    def test_where_nothing_carries_over_a_budget_of_one_is_a_full_evaluation(self) -> None:
        s = study(scheduler=fidelity.ASHA(), axes=fidelity.Axes(epochs=[12, 200], carry=()))
        s.optimize(constant, budget=1)
        assert [t.state for t in s.trials] == [TrialState.COMPLETE]

    def test_what_was_complete_elsewhere_does_not_stand_for_a_full_evaluation(self) -> None:
        short = study(axes=fidelity.Axes(epochs=(1, 9)))
        short.optimize(constant, n_trials=3)
        s = study(scheduler=fidelity.ASHA(), axes=fidelity.Axes(epochs=(1, 27)))
        s.add_trial(next(t for t in short.trials if t.state is TrialState.COMPLETE))
        s.optimize(constant, n_trials=6)
        assert TrialState.COMPLETE in [t.state for t in s.trials if t.fidelity.epochs == 27]

    def test_a_rung_that_misleads_is_skipped_and_the_figures_say_so(self) -> None:
        s = study(scheduler=fidelity.ASHA(), axes=fidelity.Axes(epochs=(1, 27)))

        def misleading(trial: bonas.Trial) -> None:
            trial.load_checkpoint()
            for epoch in trial.epochs():
                trial.report(trial.seed % 97 if epoch < 2 else trial.params["x"], epoch)
                trial.save_checkpoint({})

        s.optimize(misleading, n_trials=400)
        skipping = [t for t in s.trials if t.record.figures.get("hedge")]
        assert len(skipping) > 20
        assert all(t.record.figures["hedge"][0]["correlation"] < 0.35 for t in skipping)
        assert min(t.number for t in skipping) > 20  # nothing is skipped before there is evidence

    @pytest.mark.parametrize("wrong", [{"eta": 1}, {"eta": True}, {"n_rungs": 0}, {"hedge": 1}])
    def test_wrong_settings_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="must be"):
            fidelity.ASHA(**wrong)


def by_median(**settings: Any) -> bonas.Study:
    """A study of ten constant curves, 0 the best, checked after 3 of 9 epochs."""
    scheduler = fidelity.MedianStopping(eta=3, **settings)
    s = study(scheduler=scheduler, axes=fidelity.Axes(epochs=(1, 9), width=(0.5, 1.0)))
    for x in (5, 6, 4, 7, 3, 8, 2, 9, 1, 0):
        s.enqueue_trial({**numbers().default, "x": x / 10})
    s.optimize(constant, n_trials=10)
    return s


def constant(trial: bonas.Trial) -> None:
    trial.load_checkpoint()
    for epoch in trial.epochs():
        trial.report(trial.params["x"], epoch)
        trial.save_checkpoint({})


class TestMedianStopping:
    def test_what_is_worse_than_the_median_is_stopped_for_good(self) -> None:
        s = by_median(grace=0.3)
        stopped = [t for t in s.trials if t.state == TrialState.PRUNED]
        # The first five have nobody to be compared with; 0.8 and 0.9 are then worse than the median.
        assert [t.params["x"] for t in stopped] == [0.8, 0.9]
        assert all(t.fidelity.epochs == 3 and len(t.curves[0]) == 3 for t in stopped)
        assert all(t.state == TrialState.COMPLETE for t in s.trials if t not in stopped)

    def test_the_figures_are_stored_and_the_reason_said(self) -> None:
        s = by_median(grace=0.3)
        last = s.decisions(5)[-1]
        assert last["action"] == "stop"
        assert last["figures"] == {
            "reason": s.trials[5].reason,
            "rung": 1,
            "of": 2,
            "epoch": 3,
            "best": {"value": 0.8},
            "median": {"value": 0.5},
            "others": 5,
        }
        assert "value 0.8 against 0.5" in str(s.trials[5].reason)

    def test_grace_and_startup(self) -> None:
        def stopped(**settings: Any) -> list[tuple[float, int]]:
            trials = [t for t in by_median(**settings).trials if t.state == TrialState.PRUNED]
            return [(t.params["x"], t.fidelity.epochs) for t in trials]

        assert stopped(grace=0.0) == [(0.8, 1), (0.9, 1)]
        assert stopped(grace=0.9) == []
        assert stopped(n_startup=9) == []
        assert stopped(n_startup=1)[:2] == [(0.6, 1), (0.7, 1)]

    def test_the_best_so_far_is_held_against_the_running_averages(self) -> None:
        axes = fidelity.Axes(epochs=(3, 9))
        at = axes.fidelity({"epochs": 3})

        def trial(number: int, *values: float) -> TrialRecord:
            made = tuple(Observation(e, {"value": v}, 0.1, at) for e, v in enumerate(values, start=1))
            return TrialRecord(number, {}, str(number), TrialState.PAUSED, at, curves=(Curve(made),))

        # Their averages are 2, their last values 1: a best of 1.5 is good enough, its last value is not.
        others = [trial(n, 3.0, 2.0, 1.0) for n in range(5)]
        scheduler = fidelity.MedianStopping(eta=3)
        rng = np.random.default_rng(0)
        for values, action in (((4.0, 1.5, 4.0), Resume), ((4.0, 2.0, 4.0), Resume), ((4.0, 2.1, 4.0), Stop)):
            one = dataclasses.replace(trial(0, *values))
            rest = [dataclasses.replace(t, number=t.number + 1, state=TrialState.COMPLETE) for t in others]
            assert isinstance(scheduler.decide(StudyView((one, *rest), axes), rng), action)

    def test_of_several_metrics_it_has_to_be_worse_in_every_one(self) -> None:
        axes = fidelity.Axes(epochs=(1, 3))
        low = axes.lowest

        def trial(number: int, state: TrialState, **values: float) -> TrialRecord:
            curve = Curve((Observation(1, values, 0.1, low),))
            return TrialRecord(number, {}, str(number), state, low, curves=(curve,))

        def decided(**values: float) -> Any:
            others = [trial(n, TrialState.PRUNED, accuracy=0.8, size=5.0) for n in range(1, 8)]
            one = trial(0, TrialState.PAUSED, **values)
            view = StudyView((one, *others), axes, ("maximize", "minimize"), ("accuracy", "size"))
            return fidelity.MedianStopping(eta=3).decide(view, np.random.default_rng(0))

        assert isinstance(decided(accuracy=0.7, size=4.0), Resume)
        assert isinstance(decided(accuracy=0.9, size=6.0), Resume)
        assert isinstance(decided(accuracy=0.7, size=6.0), Stop)

    def test_the_other_axes_stay_full_and_nothing_is_begun_that_cannot_end(self) -> None:
        axes = fidelity.Axes(epochs=(1, 9), width=(0.5, 1.0))
        s = Run(fidelity.MedianStopping(), axes, 0, 2, budget=4.5).study
        assert {t.fidelity.width for t in s.trials} == {1.0}
        assert {t.state for t in s.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}

    @pytest.mark.parametrize("wrong", [{"eta": 1}, {"grace": 1.0}, {"grace": -0.1}, {"n_startup": 0}])
    def test_wrong_settings_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="must be"):
            fidelity.MedianStopping(**wrong)


class TestFreezeThaw:
    axes = fidelity.Axes(epochs=(1, 8))

    def frozen(self, number: int, *values: float) -> TrialRecord:
        """A trial trained for as many epochs as it has values."""
        at = self.axes.fidelity({"epochs": len(values)})
        curve = Curve(tuple(Observation(e, {"value": v}, 1 / 8, at) for e, v in enumerate(values, start=1)))
        state = TrialState.COMPLETE if len(values) == 8 else TrialState.PAUSED
        saved = CheckpointRecord(len(values), at, "none", "", 0)
        return TrialRecord(number, {}, str(number), state, at, curves=(curve,), checkpoint=saved)

    def many(self) -> list[TrialRecord]:
        """Twelve trials, most of them seen for an epoch or two; number 5 falls fastest."""
        rng = np.random.default_rng(0)
        trials = [self.frozen(0, *(1 + 0.5**e for e in range(8))), self.frozen(1, 2.0, 1.6, 1.4, 1.3)]
        trials += [self.frozen(n, 2 + rng.uniform(0, 0.5), 1.7 + rng.uniform(0, 0.2)) for n in range(2, 12)]
        trials[5] = self.frozen(5, 1.8, 0.9)
        return trials

    def decided(self, trials: list[TrialRecord], **limits: Any) -> Any:
        view = StudyView(tuple(trials), self.axes, **limits)
        return fidelity.FreezeThaw().decide(view, np.random.default_rng(0))

    def test_the_most_promising_curve_is_thawed_for_one_rung(self) -> None:
        action = self.decided(self.many(), starts_left=0, budget_left=10.0)
        assert isinstance(action, Resume)
        assert (action.trial.number, action.fidelity.epochs) == (5, 4)
        assert action.figures["end"]["low"] < action.figures["end"]["mean"] < action.figures["end"]["high"]
        assert action.figures["end"]["mean"] < 1

    def test_where_the_paused_ones_are_hopeless_a_new_one_is_opened_but_not_too_many(self) -> None:
        best = [self.frozen(n, *(0.1 + 0.01 * n + 0.5**e for e in range(8))) for n in range(4)]
        hopeless = [self.frozen(n, 5.0 + n / 9, 4.9 + n / 9) for n in range(4, 9)]
        assert isinstance(self.decided(best + hopeless), Start)
        opened = [self.frozen(n, 2.0 + n / 99) for n in range(4, 99)]
        assert isinstance(self.decided(best + opened), Resume)

    def test_what_is_left_finishes_the_one_believed_best(self) -> None:
        action = self.decided(self.many(), budget_left=6.5 / 8)
        assert (action.trial.number, action.fidelity) == (5, self.axes.full)
        assert "just finishes it" in action.figures["why"]
        # Nobody else takes the budget while it runs.
        running = [
            dataclasses.replace(t, state=TrialState.RUNNING) if t.number == 5 else t for t in self.many()
        ]
        assert isinstance(self.decided(running, budget_left=6.5 / 8), Wait)

    def test_limited_by_trials_alone_it_ends_when_the_best_is_evaluated_in_full(self) -> None:
        s = Run(fidelity.FreezeThaw(), self.axes, 0, 2, n_trials=12).study
        complete = [t for t in s.trials if t.state == TrialState.COMPLETE]
        assert complete
        assert min(t.params["x"] for t in complete) == min(t.params["x"] for t in s.trials)
        assert len(complete) < 12

    @pytest.mark.parametrize("wrong", [{"eta": 1}, {"opening": 0}, {"opening": 1.5}, {"opening": True}])
    def test_wrong_settings_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="must"):
            fidelity.FreezeThaw(**wrong)
