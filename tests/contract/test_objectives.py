"""Several objectives: promoted without being dominated, resumed, within budget, chosen from and retrained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace
from engine import study
from hypothesis import given, settings
from hypothesis import strategies as st

import bonas
from bonas import TrialState, fidelity, spaces
from bonas.samplers import ForestSampler, OptunaSampler, RandomSampler, SMACSampler, TPESampler
from fidelity.records import StudyView

NINE = fidelity.Axes(epochs=(1, 9))
TWO: dict[str, Any] = {"directions": ["maximize", "minimize"], "metric_names": ["accuracy", "size"]}
FOREST = ForestSampler(n_initial=4, n_trees=4)


def measured(params: dict[str, Any], epoch: int) -> dict[str, float]:
    """Larger networks are better in the end; every epoch helps, and the size never changes."""
    quality = 1 - abs(params["x"] - 0.7) * (1 - params["n"] / 16)
    return {"accuracy": quality * (1 - math.exp(-epoch)), "size": params["n"]}


def objective(trial: bonas.Trial) -> None:
    trial.load_checkpoint()
    for epoch in trial.epochs():
        trial.report(measured(trial.params, epoch), epoch)
        trial.save_checkpoint({})


def dominates(a: dict[str, float], b: dict[str, float]) -> bool:
    no_worse = a["accuracy"] >= b["accuracy"] and a["size"] <= b["size"]
    return no_worse and a != b


class TestHalving:
    @settings(max_examples=8, deadline=None)
    @given(seed=st.integers(0, 10**6), n_trials=st.integers(2, 20), eta=st.integers(2, 4))
    def test_nothing_left_behind_dominates_what_was_promoted(
        self, seed: int, n_trials: int, eta: int
    ) -> None:
        s = study(**TWO, axes=NINE, scheduler=fidelity.SuccessiveHalving(eta=eta), seed=seed)
        s.optimize(objective, n_trials=n_trials)
        rungs = fidelity.SuccessiveHalving(eta=eta).rungs(NINE)
        for bracket in {t.record.figures["bracket"] for t in s.trials}:
            members = [t for t in s.trials if t.record.figures["bracket"] == bracket]
            for k, rung in enumerate(rungs[:-1]):
                promoted = [t for t in members if t.fidelity.epochs > rung.epochs]
                left = [t for t in members if t.fidelity == rung]
                assert len(promoted) <= max(1, len(members) // eta ** (k + 1))
                for a in left:
                    for b in promoted:
                        at_rung = dict(a.record.values_at(rung)), dict(b.record.values_at(rung))
                        assert not dominates(*at_rung)

    def test_brackets_together_cover_the_front_rather_than_repeat_one_end_of_it(self) -> None:
        # Every network is on the front: one is promoted to the top from each bracket.
        def trade(trial: bonas.Trial) -> None:
            for epoch in trial.epochs():
                trial.report({"accuracy": trial.params["x"], "size": trial.params["x"]}, epoch)

        s = study(**TWO, axes=NINE, scheduler=fidelity.SuccessiveHalving())
        s.optimize(trade, n_trials=27)
        done = [t.params["x"] for t in s.trials if t.state == TrialState.COMPLETE]
        seen = [t.params["x"] for t in s.trials]
        assert len(done) == len(s.best_trials) == 3
        assert np.ptp(done) > 0.5 * np.ptp(seen)

    @pytest.mark.parametrize(
        "sampler",
        [RandomSampler(), FOREST, TPESampler(n_initial=4), SMACSampler(n_initial=4), OptunaSampler()],
    )
    def test_every_sampler_keeps_the_budget_and_completes_something(self, sampler: Any) -> None:
        s = study(**TWO, axes=NINE, sampler=sampler)
        s.optimize(objective, budget=3.5)
        assert s.spent <= 3.5 + 1e-9
        assert s.best_trials
        assert s.spent == pytest.approx(sum(t.cost for t in s.trials))
        assert all(
            {o.values["size"] for o in c.observations} == {t.params["n"]} for t in s.trials for c in t.curves
        )


class TestKilled:
    @pytest.mark.parametrize("sampler", [RandomSampler(), FOREST])
    def test_a_killed_search_goes_on_as_the_uninterrupted_one(self, sampler: Any, tmp_path: Path) -> None:
        def ran(s: bonas.Study) -> list[Any]:
            return [(t.params, t.fidelity, t.state, t.values, t.cost) for t in s.trials]

        whole = study(**TWO, axes=NINE, sampler=sampler, seed=5)
        whole.optimize(objective, n_trials=12)
        study(**TWO, axes=NINE, sampler=sampler, seed=5, storage=tmp_path / "s")
        for asked in range(200):
            s = bonas.load_study(storage=tmp_path / "s", space=whole.space)
            s.limit(12, None)
            trial = s.ask()
            if trial is None:
                break
            if asked % 3 == 1:
                s.release(trial)  # its worker is gone before it did anything
            elif asked % 3 == 2:
                trial.load_checkpoint()
                epoch = next(trial.epochs())
                trial.report(measured(trial.params, epoch), epoch)
                trial.save_checkpoint({})
                trial.flush()
                s.release(trial)  # killed after an epoch that it had saved
            else:
                objective(trial)
                s.tell(trial)
        assert ran(bonas.load_study(storage=tmp_path / "s", space=whole.space)) == ran(whole)


class TestFront:
    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8))
    def test_it_is_what_nothing_complete_dominates(self, values: list[tuple[int, int]]) -> None:
        s = study(**TWO)
        rows = [{"accuracy": float(a), "size": float(b)} for a, b in values]
        s.optimize(lambda t: rows[t.number], n_trials=len(rows))
        expected = [i for i, row in enumerate(rows) if not any(dominates(other, row) for other in rows)]
        assert [t.number for t in s.best_trials] == expected

    def test_a_value_of_a_lower_fidelity_is_not_on_it(self) -> None:
        s = study(**TWO, axes=NINE, scheduler=fidelity.SuccessiveHalving())
        s.optimize(objective, n_trials=9)
        assert {t.state for t in s.best_trials} == {TrialState.COMPLETE}
        assert len(s.best_trials) == 1

    def test_optuna_takes_a_copy_with_paused_trials(self) -> None:
        s = study(**TWO, axes=NINE, scheduler=fidelity.SuccessiveHalving())
        s.optimize(objective, n_trials=9)
        copy = s.to_optuna()
        assert len(copy.trials) == 9
        assert [t.user_attrs["bonas_number"] for t in copy.best_trials] == [t.number for t in s.best_trials]


VALUES = [(0.9, 5.0), (0.8, 2.0), (0.7, 3.0), (0.95, 9.0)]  # the third is dominated


class TestChoosing:
    def finished(self) -> bonas.Study:
        s = study(**TWO)
        s.optimize(self.lucky, n_trials=4)
        return s

    def lucky(self, trial: bonas.Trial) -> dict[str, float]:
        """Trial 3 owes its accuracy to its first seed."""
        accuracy, size = VALUES[trial.number]
        if not hasattr(self, "first"):
            self.first: dict[int, int] = {}
        if trial.seed != self.first.setdefault(trial.number, trial.seed) and trial.number == 3:
            accuracy = 0.5
        return {"accuracy": accuracy, "size": size}

    def test_the_knee_or_the_best_in_one_metric(self) -> None:
        s = self.finished()
        assert [s.recommend(prefer=p).number for p in ("knee", "accuracy", "size")] == [0, 3, 1]

    def test_what_to_prefer_has_to_be_said_and_known(self) -> None:
        s = self.finished()
        with pytest.raises(ValueError, match=r"best_trials.*prefer='knee'.*prefer='accuracy'"):
            s.recommend()
        with pytest.raises(ValueError, match=r"'knee' or one of \['accuracy', 'size'\]"):
            s.recommend(prefer="speed")
        one = study()
        one.optimize(lambda _: 1.0, n_trials=1)
        assert one.recommend(prefer="value").number == 0
        with pytest.raises(ValueError, match="one objective, 'value'"):
            one.recommend(prefer="knee")

    def test_finalists_are_evaluated_again_with_new_seeds(self) -> None:
        s = self.finished()
        assert s.recommend(self.lucky, k=2, repeats=4, prefer="accuracy").number == 0
        assert s.recommend(prefer="accuracy").number == 0  # remembered
        assert s.recommend(prefer="size").number == 1  # of another preference nothing was
        assert s.recommend(self.lucky, k=3, repeats=4, prefer="knee").number == 0

    def test_before_one_is_complete_it_warns(self) -> None:
        s = study(**TWO, axes=NINE, scheduler=fidelity.SuccessiveHalving())
        with pytest.raises(ValueError, match="none of the 0 trials"):
            s.recommend(prefer="knee")
        s.limit(9, None)
        for _ in range(3):
            trial = s.ask()
            assert trial is not None
            objective(trial)
            s.tell(trial)
        assert s.best_trials == []
        with pytest.warns(UserWarning, match="no trial is complete"):
            chosen = s.recommend(prefer="accuracy")
        assert chosen.values["accuracy"] == max(t.values["accuracy"] for t in s.trials)

    def test_several_of_the_front_are_retrained_side_by_side(self) -> None:
        s = study(**TWO, axes=NINE, scheduler=fidelity.FullFidelity())
        s.optimize(objective, n_trials=4)
        calls = []

        def again(trial: bonas.Trial) -> None:
            calls.append((trial.number, trial.horizon, trial.load_checkpoint()))
            for epoch in trial.epochs():
                trial.report({"accuracy": trial.number / 10, "size": 1.0}, epoch)
                trial.save_checkpoint({"epoch": epoch})

        for number in (0, 2, 0, 2):
            made = s.retrain(again, trial=s.trials[number])
            assert (made.number, made.values["accuracy"]) == (number, number / 10)
        longer = s.retrain(again, trial=s.trials[2], epochs=20)
        assert longer.fidelity.epochs == 20
        # Each once and from scratch: the longer one does not go on from the end of the shorter one.
        assert calls == [(0, 9, None), (2, 9, None), (2, 20, None)]


class TestCount:
    def test_it_is_that_of_the_whole_network_at_every_fidelity(self) -> None:
        space = spaces.chain(input_shape=(1, 8, 8), n_classes=10)
        axes = fidelity.Axes(epochs=(1, 3), width=(0.5, 1.0))
        s = bonas.create_study(
            space=space,
            axes=axes,
            directions=["maximize", "minimize"],
            metric_names=["accuracy", "macs"],
            sampler=RandomSampler(),
            scheduler=fidelity.SuccessiveHalving(),
        )

        def counted(trial: bonas.Trial) -> None:
            for epoch in trial.epochs():
                trial.report({"accuracy": trial.seed / 2**32, "macs": trial.count().macs}, epoch)

        s.optimize(counted, n_trials=9)
        for trial in s.trials:
            assert trial.count() == space.count(trial.params)
            seen = {o.values["macs"] for c in trial.curves for o in c.observations}
            assert seen == {trial.count().macs}

    def test_a_space_that_cannot_count_says_so(self, tmp_path: Path) -> None:
        own = study()
        trial = own.ask()
        assert trial is not None
        with pytest.raises(ValueError, match="count=function"):
            trial.count()

        def count(params: Any, prune: bool) -> spaces.Count:
            return spaces.Count(7, 8)

        counting = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}), count=count)
        study(space=counting, storage=tmp_path / "s")
        trial = bonas.load_study(storage=tmp_path / "s", space=counting).ask()
        assert trial is not None
        assert trial.count() == spaces.Count(7, 8)
        trial = bonas.load_study(storage=tmp_path / "s").ask()
        assert trial is not None
        with pytest.raises(bonas.MissingFunctionError, match="space=space"):
            trial.count()


def test_a_view_ranks_a_rung_the_same_in_any_order() -> None:
    s = study(**TWO, axes=NINE, scheduler=fidelity.SuccessiveHalving())
    s.optimize(objective, n_trials=9)
    view: StudyView = s.view()
    rung = NINE.lowest
    expected = [r.number for r in view.ranked(view.trials, rung)]
    shuffled = [view.trials[i] for i in np.random.default_rng(0).permutation(9)]
    assert [r.number for r in view.ranked(shuffled, rung)] == expected
