"""Budget, starts and repeatability: totals over restarts, segments that fit, the same sequence again."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from engine import choices, climb, counting, numbers, study
from hypothesis import given, settings
from hypothesis import strategies as st

import bonas
from bonas import TrialState, fidelity, spaces
from bonas.samplers import ForestSampler, OptunaSampler, RandomSampler
from fidelity.schedulers import Done, Resume, Start

NINE = fidelity.Axes(epochs=(1, 9))


def by_x(save: bool = True) -> Any:
    return counting(save, value=lambda trial, epoch: trial.params["x"] + 1 / epoch)


def sequence(s: bonas.Study) -> list[Any]:
    """All that was decided and observed, without owners and times."""
    trials = [(t.params, t.seed, t.state, t.values, t.curves, t.fidelity) for t in s.trials]
    return [trials, sorted((d["ask"], n, d["action"]) for n in range(len(trials)) for d in s.decisions(n))]


class TestTotals:
    def test_budget_and_n_trials_are_totals_over_calls_and_restarts(self, tmp_path: Path) -> None:
        s = study(storage=tmp_path)
        s.optimize(lambda _: 1.0, n_trials=3)
        s.optimize(lambda _: 1.0, n_trials=3)
        assert len(s.trials) == 3
        del s
        gc.collect()
        s = bonas.load_study(storage=tmp_path)
        s.optimize(lambda _: 1.0, n_trials=4)
        assert len(s.trials) == 4
        s.optimize(lambda _: 1.0, budget=5)
        assert s.spent == 5
        bonas.load_study(storage=tmp_path).optimize(lambda _: 1.0, budget=5)
        assert s.spent == 5

    def test_a_segment_starts_only_if_it_fits(self) -> None:
        s = study()
        s.optimize(lambda _: 1.0, budget=3.7)
        assert len(s.trials) == 3
        assert s.done

    def test_running_segments_are_reserved(self) -> None:
        s = study()
        s.limit(None, 2.5)
        assert s.ask() is not None
        assert s.ask() is not None
        assert s.ask() is None

    def test_a_resumed_segment_reserves_only_what_is_left_to_train(self) -> None:
        for save, complete in ((True, True), (False, False)):
            s = climb(NINE, {"epochs": 3}, {"epochs": 9})
            s.optimize(counting(save), budget=1.0)
            assert (s.trials[0].state == TrialState.COMPLETE) is complete

    def test_after_n_trials_only_resumes_run_until_none_remain(self) -> None:
        s = study(axes=NINE, scheduler=fidelity.SuccessiveHalving())
        s.optimize(by_x(), n_trials=9)
        assert len(s.trials) == 9
        assert sorted(t.fidelity.epochs for t in s.trials) == [1] * 6 + [3, 3, 9]
        assert s.done

    def test_infeasible_ones_do_not_count(self) -> None:
        count = lambda params, prune: spaces.Count(params["n"] * 100, 0)  # noqa: E731
        space = spaces.Space(numbers().configuration_space, count=count)
        s = study(space=space, constraints={"parameters": 300})
        s.optimize(lambda _: 1.0, n_trials=5)
        states = [t.state for t in s.trials]
        assert states.count(TrialState.COMPLETE) == 5
        assert states.count(TrialState.INFEASIBLE) == len(states) - 5 > 0
        assert all((t.params["n"] <= 3) == (t.state == TrialState.COMPLETE) for t in s.trials)
        infeasible = next(t for t in s.trials if t.state == TrialState.INFEASIBLE)
        assert "parameters" in str(infeasible.reason)
        assert infeasible.cost == 0
        assert len({t.record.key for t in s.trials}) == len(states)  # none is proposed a second time

    def test_constraints_that_nothing_meets_are_said_so(self) -> None:
        space = spaces.Space(numbers().configuration_space, count=lambda p, prune: spaces.Count(10, 10))
        s = study(space=space, constraints={"macs": 9})
        with pytest.raises(ValueError, match="Relax them"):
            s.optimize(lambda _: 1.0, n_trials=1)
        finite = study(
            space=spaces.Space(choices(2).configuration_space, count=lambda p, prune: spaces.Count(10, 10)),
            constraints={"macs": 9},
        )
        finite.optimize(lambda _: 1.0, n_trials=1)
        assert {t.state for t in finite.trials} == {TrialState.INFEASIBLE}

    def test_a_budget_below_one_rung_is_refused(self) -> None:
        s = study(axes=NINE)
        with pytest.raises(
            ValueError, match=r"lowest rung, which costs 0\.1111 of a full evaluation. .*widen"
        ):
            s.optimize(by_x(), budget=0.1)
        s.optimize(by_x(), budget=0.12)
        assert s.spent == pytest.approx(1 / 9)

    def test_without_rungs_a_budget_below_a_full_evaluation_is_refused(self) -> None:
        s = study(axes=NINE, scheduler=fidelity.FullFidelity())
        with pytest.raises(ValueError, match=r"budget=0\.5: less than one full evaluation") as refused:
            s.optimize(by_x(), budget=0.5)
        assert "widen" not in str(refused.value)
        s.optimize(by_x(), budget=1)
        assert s.spent == pytest.approx(1)

    @pytest.mark.parametrize(
        "limits",
        [
            {"n_trials": 0},
            {"n_trials": 1.5},
            {"n_trials": True},
            {"budget": 0},
            {"budget": -1},
            {"budget": float("nan")},
            {"budget": "20"},
            {"timeout": 0},
            {"timeout": float("inf")},
            {"n_jobs": 0},
            {"n_jobs": -1},
        ],
    )
    def test_limits_that_mean_nothing_are_refused(self, limits: dict[str, Any]) -> None:
        (name,) = limits
        with pytest.raises(ValueError, match=name):
            study().optimize(lambda _: 1.0, **limits)

    def test_an_interrupted_segment_that_no_longer_fits_waits_for_more_budget(self) -> None:
        def objective(trial: bonas.Trial) -> None:
            for epoch in trial.epochs():
                trial.report(1.0, epoch)
                if epoch == 7 and interrupt:
                    trial.interrupt()

        interrupt, s = True, climb(NINE, {"epochs": 9})
        trial = s.ask()
        assert trial is not None
        objective(trial)
        s.tell(trial)
        interrupt = False
        s.optimize(objective, budget=1.0)  # 7/9 are gone without a checkpoint, 9/9 would be needed
        assert s.spent == pytest.approx(7 / 9)
        assert s.done
        s.optimize(objective, budget=2.0)
        assert s.trials[0].state == TrialState.COMPLETE
        assert s.spent == pytest.approx(16 / 9)


class TestUnits:
    def test_reported_cost_is_summed(self) -> None:
        axes = fidelity.Axes(epochs=(1, 3), cost="reported")

        def objective(trial: bonas.Trial) -> None:
            for epoch in trial.epochs():
                trial.report(1.0, epoch, cost=0.5)
                trial.report(2.0, epoch, cost=0.25)  # keeps the first value; its cost counts

        s = study(axes=axes, scheduler=fidelity.FullFidelity())
        s.optimize(objective, n_trials=2)
        assert s.spent == pytest.approx(4.5)
        assert s.best_value == 1.0
        # What evaluations were seen to cost is what the next one is expected to cost.
        s.optimize(objective, budget=7.0)
        assert len(s.trials) == 3
        s.optimize(objective, budget=8.0)
        assert len(s.trials) == 3

    @pytest.mark.parametrize("cost", [None, -1.0, float("nan")])
    def test_reported_cost_must_be_given(self, cost: Any) -> None:
        trial = study(axes=fidelity.Axes(epochs=(1, 3), cost="reported")).ask()
        assert trial is not None
        with pytest.raises(ValueError, match="cost"):
            trial.report(1.0, 1, cost=cost)

    def test_measured_cost_is_seconds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [0.0]
        monkeypatch.setattr("bonas.trial.time.monotonic", lambda: clock[0])

        def objective(trial: bonas.Trial) -> None:
            for epoch in trial.epochs():
                clock[0] += 2.0
                trial.report(1.0, epoch)

        axes = fidelity.Axes(epochs=(1, 3), cost="measured")
        s = study(axes=axes, scheduler=fidelity.FullFidelity())
        s.optimize(objective, budget=13.0)
        assert [t.cost for t in s.trials] == [6.0, 6.0]

    def test_nominal_cost_of_every_axis(self) -> None:
        axes = fidelity.Axes(
            epochs=(1, 10), subset=(0.1, 1.0), resolution=(8, 16), width=(0.5, 1.0), depth=(0.5, 1.0)
        )
        low = {"epochs": 4, "subset": 0.1, "resolution": 8, "width": 0.5, "depth": 0.5}
        s = climb(axes, low)
        s.optimize(by_x())
        assert s.spent == pytest.approx(4 / 10 * 0.1 * 0.25 * 0.25 * 0.5)


class TestRepeatability:
    SAMPLERS = (RandomSampler, lambda: ForestSampler(n_initial=4, n_trees=8), OptunaSampler)

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_the_same_seed_gives_the_same_sequence(self, sampler: Any) -> None:
        runs = []
        for seed in (1, 1, 2):
            s = study(axes=NINE, scheduler=fidelity.SuccessiveHalving(), sampler=sampler(), seed=seed)
            s.optimize(by_x(), n_trials=12)
            runs.append(sequence(s))
        assert runs[0] == runs[1]
        assert runs[0] != runs[2]

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_stopped_and_continued_is_uninterrupted(self, sampler: Any, tmp_path: Path) -> None:
        def make(name: str) -> bonas.Study:
            return study(
                axes=NINE,
                scheduler=fidelity.SuccessiveHalving(),
                sampler=sampler(),
                storage=tmp_path / name,
                study_name=name,
                load_if_exists=True,
            )

        whole = make("whole")
        whole.optimize(by_x(), n_trials=12)
        handed = 0
        while True:  # every study object makes three segments and the beginning of a fourth
            parts = make("parts")
            parts.limit(12, None)
            for _ in range(3):
                trial = parts.ask()
                if trial is None:
                    break
                by_x()(trial)
                parts.tell(trial)
                handed += 1
            if parts.done:
                break
            parts.ask()
            del parts, trial
            gc.collect()
        assert sequence(parts) == sequence(whole)
        assert handed > 12

    def test_a_samplers_own_seed_is_its_own(self) -> None:
        def xs(own: int | None, seed: int) -> list[float]:
            s = study(sampler=RandomSampler(seed=own), seed=seed)
            s.optimize(lambda _: 1.0, n_trials=4)
            return [t.params["x"] for t in s.trials][1:]

        assert xs(5, 1) == xs(5, 2)
        assert xs(5, 1) != xs(6, 1)
        assert xs(None, 1) != xs(None, 2)

    def test_seeds_of_trials_differ_and_follow_from_the_studys(self) -> None:
        def seeds(seed: int) -> list[int]:
            s = study(seed=seed)
            s.optimize(lambda _: 1.0, n_trials=5)
            return [t.seed for t in s.trials]

        assert seeds(1) == seeds(1)
        assert len({*seeds(1), *seeds(2)}) == 10


class Random:
    """A scheduler that starts and resumes to whatever fidelity the generator says."""

    def decide(self, view: Any, rng: Any) -> Any:
        target = view.axes.fidelity({"epochs": int(rng.integers(1, 10))})
        paused = [t for t in view.trials if t.state == TrialState.PAUSED]
        if paused and rng.random() < 0.6:
            trial = paused[int(rng.integers(len(paused)))]
            return Resume(trial, target) if view.fits(target, trial) else Done()
        return Start(target) if view.fits(target) else Done()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    budget=st.floats(0.2, 4.0),
    failing=st.sets(st.integers(0, 12)),
    saving=st.sets(st.integers(0, 12)),
)
def test_spent_never_exceeds_the_budget(
    seed: int, budget: float, failing: set[int], saving: set[int]
) -> None:
    def objective(trial: bonas.Trial) -> None:
        trial.load_checkpoint()
        for epoch in trial.epochs():
            trial.report(1.0, epoch)
            if trial.number in saving:
                trial.save_checkpoint({})
            if trial.number in failing and epoch == 2:
                raise MemoryError if trial.number % 2 else TimeoutError

    s = study(axes=NINE, scheduler=Random(), seed=seed)
    s.limit(40, budget)
    while (trial := s.ask()) is not None:
        try:
            objective(trial)
            s.tell(trial)
        except (MemoryError, TimeoutError) as error:
            s.tell(trial, error=error)
    assert s.spent <= budget + 1e-6
