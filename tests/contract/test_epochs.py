"""Epochs and checkpoints: what is counted, stamped, copied, carried and yielded, clause by clause."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engine import climb, counting, study

import bonas
from bonas import TrialState, fidelity

NINE = fidelity.Axes(epochs=(1, 9))


class TestCounting:
    def test_epochs_count_from_one_and_continue_after_the_checkpoint(self) -> None:
        s, objective = climb(NINE, {"epochs": 2}, {"epochs": 5}, {"epochs": 9}), counting()
        s.optimize(objective)
        assert objective.seen == [(None, [1, 2]), (2, [3, 4, 5]), (5, [6, 7, 8, 9])]
        assert s.trials[0].state == TrialState.COMPLETE
        assert s.trials[0].curves[0].epochs == tuple(range(1, 10))
        assert s.spent == pytest.approx(1.0)

    def test_without_load_checkpoint_training_starts_again_in_the_same_curve_and_is_paid_again(self) -> None:
        def objective(trial: bonas.Trial) -> None:
            for epoch in trial.epochs():
                trial.report(trial.fidelity.epochs * 100 + epoch, epoch)
                trial.save_checkpoint({})

        s = climb(NINE, {"epochs": 3}, {"epochs": 9})
        s.optimize(objective)
        trial = s.trials[0]
        assert len(trial.curves) == 1
        # Reporting an epoch again keeps the first value; its cost counts.
        assert [o.values["value"] for o in trial.curves[0].observations[:4]] == [301, 302, 303, 904]
        assert s.spent == pytest.approx(12 / 9)

    def test_nothing_saved_means_nothing_loaded(self) -> None:
        s, objective = climb(NINE, {"epochs": 3}, {"epochs": 9}), counting(save=False)
        s.optimize(objective)
        assert objective.seen == [(None, [1, 2, 3]), (None, list(range(1, 10)))]

    def test_without_an_epochs_axis_one_epoch_is_yielded(self) -> None:
        for axes in (None, fidelity.Axes(subset=(0.1, 1.0))):
            s, objective = study(axes=axes), counting()
            s.optimize(objective, n_trials=2)
            assert {tuple(epochs) for _, epochs in objective.seen} == {(1,)}

    def test_horizon_is_full_and_the_seed_stays(self) -> None:
        told = []
        s = climb(NINE, {"epochs": 2}, {"epochs": 9})
        inner = counting()

        def objective(trial: bonas.Trial) -> None:
            told.append((trial.horizon, trial.seed, trial.number, trial.fidelity.epochs))
            inner(trial)

        s.optimize(objective)
        assert [t[0] for t in told] == [9, 9]
        assert told[0][1] == told[1][1]
        assert [t[3] for t in told] == [2, 9]

    def test_epochs_may_be_asked_for_twice(self) -> None:
        def objective(trial: bonas.Trial) -> None:
            total = len(list(trial.epochs()))
            for epoch in trial.epochs():
                trial.report(total, epoch)

        s = study(axes=NINE, scheduler=fidelity.FullFidelity())
        s.optimize(objective, n_trials=1)
        assert s.best_value == 9
        assert s.spent == pytest.approx(1.0)

    def test_reports_may_come_out_of_order(self) -> None:
        def objective(trial: bonas.Trial) -> None:
            for epoch in (9, 2, 5):
                trial.report(epoch, epoch)

        s = study(axes=NINE, scheduler=fidelity.FullFidelity())
        s.optimize(objective, n_trials=1)
        assert s.trials[0].state == TrialState.COMPLETE
        assert s.trials[0].curves[0].epochs == (2, 5, 9)
        assert s.best_value == 9

    @pytest.mark.parametrize("epoch", [0, -1, 4, 10, 2.5, "1", None])
    def test_reporting_outside_the_segment_raises(self, epoch: Any) -> None:
        s = climb(NINE, {"epochs": 3})
        trial = s.ask()
        assert trial is not None
        with pytest.raises((ValueError, TypeError), match="epoch"):
            trial.report(1.0, epoch)

    def test_own_axes_are_passed_through(self) -> None:
        axes = fidelity.Axes(epochs=(1, 2), molecules=(10, 100))
        s, seen = climb(axes, {"epochs": 1, "molecules": 10}, {"epochs": 2}), []

        def objective(trial: bonas.Trial) -> float:
            seen.append((trial.fidelity.molecules, trial.fidelity["molecules"], trial.fidelity.resolution))
            return 1.0

        s.optimize(objective)
        assert seen == [(10, 10, None), (100, 100, None)]


class TestStamping:
    def test_a_state_counts_only_once_its_epoch_is_reported(self) -> None:
        def objective(trial: bonas.Trial) -> None:
            state = trial.load_checkpoint()
            loaded.append(state)
            for epoch in trial.epochs():
                trial.save_checkpoint({"epoch": epoch})  # before its report: waits for it
                if len(loaded) == 1 and epoch == 3:
                    s.tell(trial, error=KeyboardInterrupt())
                    return
                trial.report(epoch, epoch)

        loaded: list[Any] = []
        s = study(axes=NINE, scheduler=fidelity.FullFidelity())
        first = s.ask()
        assert first is not None
        objective(first)
        again = s.ask()
        assert again is not None
        assert again.number == 0
        objective(again)
        assert loaded == [None, {"epoch": 2}]
        s.tell(again)
        assert [o.epoch for o in s.trials[0].curves[0].observations] == list(range(1, 10))

    def test_a_returned_number_lets_the_last_state_count(self) -> None:
        def objective(trial: bonas.Trial) -> float:
            loaded.append(trial.load_checkpoint())
            for epoch in trial.epochs():
                trial.save_checkpoint({"epoch": epoch})
            return 0.5

        loaded: list[Any] = []
        s = climb(NINE, {"epochs": 2}, {"epochs": 9})
        s.optimize(objective)
        assert loaded == [None, {"epoch": 2}]
        assert s.spent == pytest.approx(1.0)  # a number without reports costs u − e epochs, twice

    def test_the_state_is_copied_when_saved(self) -> None:
        weight = torch.nn.Parameter(torch.zeros(3))
        optimizer = torch.optim.Adam([weight], lr=0.1)

        def objective(trial: bonas.Trial) -> None:
            state = trial.load_checkpoint()
            if state is not None:
                loaded.append(state)
            for epoch in trial.epochs():
                weight.grad = torch.ones(3)
                optimizer.step()
                trial.report(0.0, epoch)
                if epoch == 1:
                    trial.save_checkpoint({"w": weight, "adam": optimizer.state_dict(), "history": history})
                    expected.append(weight.detach().clone())
                    history.append(epoch)

        loaded, expected, history = [], [], [0]
        s = climb(NINE, {"epochs": 3}, {"epochs": 9})
        s.optimize(objective)
        assert torch.equal(loaded[0]["w"], expected[0])
        assert loaded[0]["history"] == [0]
        # JSON alone would make them "0", and torch would then drop the momentum without a word.
        assert list(loaded[0]["adam"]["state"]) == [0]
        assert loaded[0]["adam"]["state"][0]["step"] == 1
        fresh = torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))], lr=0.1)
        fresh.load_state_dict(loaded[0]["adam"])
        assert torch.equal(fresh.state_dict()["state"][0]["exp_avg"], torch.full((3,), 0.1))

    def test_saving_before_the_first_epoch_says_so(self) -> None:
        trial = climb(NINE, {"epochs": 3}).ask()
        assert trial is not None
        with pytest.raises(ValueError, match="in the loop over epochs"):
            trial.save_checkpoint({})

    def test_a_state_that_cannot_be_stored_is_named(self) -> None:
        def objective(trial: bonas.Trial) -> None:
            for epoch in trial.epochs():
                trial.report(0.0, epoch)
                trial.save_checkpoint({"model": torch.nn.Linear(1, 1)})

        s = climb(NINE, {"epochs": 3})
        s.optimize(objective)
        assert s.trials[0].state == TrialState.FAIL
        assert "state['model']" in str(s.trials[0].reason)

    def test_loading_after_the_first_epoch_is_refused(self) -> None:
        trial = climb(NINE, {"epochs": 3}).ask()
        assert trial is not None
        assert trial.load_checkpoint() is None
        assert trial.load_checkpoint() is None  # asking twice is no mistake
        next(iter(trial.epochs()))
        with pytest.raises(ValueError, match="before epochs"):
            trial.load_checkpoint()

    def test_only_the_newest_file_is_kept(self) -> None:
        s = climb(NINE, {"epochs": 2}, {"epochs": 5}, {"epochs": 9})
        s.optimize(counting())
        files = sorted(p.name for p in s.artifacts.rglob("*") if p.is_file())
        assert len(files) == 1
        assert files[0].startswith("epoch-000009-")
        record = s.trials[0].record.checkpoint
        assert record is not None
        assert record.epoch == 9
        assert (s.artifacts / record.file).stat().st_size == record.nbytes


class TestCarrying:
    AXES = fidelity.Axes(
        epochs=(1, 9), subset=(0.1, 1.0), resolution=(8, 16), width=(0.5, 1.0), depth=(0.5, 1.0)
    )

    @pytest.mark.parametrize(
        ("axis", "carried"),
        [("subset", True), ("resolution", True), ("width", False), ("depth", False)],
    )
    def test_the_default_carries_over_epochs_subset_and_resolution_only(
        self, axis: str, carried: bool
    ) -> None:
        low = {"epochs": 3, axis: self.AXES.lowest[axis]}
        s, objective = climb(self.AXES, low, {"epochs": 9}), counting()
        s.optimize(objective)
        trial = s.trials[0]
        if carried:
            assert objective.seen[1] == (3, [4, 5, 6, 7, 8, 9])
            assert len(trial.curves) == 1
        else:
            assert objective.seen[1] == (None, list(range(1, 10)))
            assert [c.epochs for c in trial.curves] == [(1, 2, 3), tuple(range(1, 10))]
        assert trial.state == TrialState.COMPLETE

    def test_a_new_curve_has_its_own_first_values(self) -> None:
        s = climb(self.AXES, {"epochs": 3, "width": 0.5}, {"epochs": 9})
        s.optimize(counting(value=lambda trial, epoch: trial.fidelity.width * epoch))
        first, second = s.trials[0].curves
        assert first.values("value") == (0.5, 1.0, 1.5)
        assert second.values("value")[:3] == (1.0, 2.0, 3.0)

    @pytest.mark.parametrize("carry", [(), ("subset",), ("epochs",)])
    def test_the_user_decides_what_carries(self, carry: tuple[str, ...]) -> None:
        axes = fidelity.Axes(epochs=(1, 9), subset=(0.1, 1.0), carry=carry)
        s, objective = climb(axes, {"epochs": 3, "subset": 0.1}, {"epochs": 9, "subset": 0.1}), counting()
        s.optimize(objective)
        assert objective.seen[1] == (
            (3, [4, 5, 6, 7, 8, 9]) if carry == ("epochs",) else (None, list(range(1, 10)))
        )
        assert len(s.trials[0].curves) == (1 if carry == ("epochs",) else 2)

    def test_state_carries_only_to_a_later_epoch(self) -> None:
        s, objective = climb(self.AXES, {"epochs": 9, "subset": 0.1}, {"epochs": 9}), counting()
        s.optimize(objective)
        assert objective.seen[1] == (None, list(range(1, 10)))
        assert len(s.trials[0].curves) == 2

    def test_going_back_to_an_earlier_epoch_begins_a_new_curve(self) -> None:
        for save in (True, False):
            s = climb(NINE, {"epochs": 6}, {"epochs": 2}, {"epochs": 9})
            objective = counting(save, value=lambda trial, epoch: float(trial.fidelity.epochs))
            s.optimize(objective)
            assert [epochs for _, epochs in objective.seen[:2]] == [[1, 2, 3, 4, 5, 6], [1, 2]]
            assert objective.seen[2] == ((2, [3, 4, 5, 6, 7, 8, 9]) if save else (None, list(range(1, 10))))
            assert [c.values("value")[0] for c in s.trials[0].curves] == [6.0, 2.0]
            assert (s.trials[0].record.checkpoint is not None) is save

    def test_a_checkpoint_of_an_earlier_curve_is_forgotten(self) -> None:
        def objective(trial: bonas.Trial) -> None:
            trial.load_checkpoint()
            for epoch in trial.epochs():
                trial.report(1.0, epoch)
                if trial.fidelity.width < 1:
                    trial.save_checkpoint({})

        s = climb(self.AXES, {"epochs": 6, "width": 0.5}, {"epochs": 7})
        s.optimize(objective)
        assert s.trials[0].record.checkpoint is None
        assert s.records == bonas.Study(s._store, s._store.find(s.study_name), s._definition).records

    def test_restarting_a_curve_of_two_subsets_begins_a_new_one(self) -> None:
        # Carried from subset 0.1 to 1.0 once, and then loaded no more: epoch 1 is of another kind now.
        def objective(trial: bonas.Trial) -> None:
            if trial.fidelity.epochs < 9:
                trial.load_checkpoint()
            for epoch in trial.epochs():
                trial.report(trial.fidelity.subset, epoch)
                trial.save_checkpoint({})

        s = climb(self.AXES, {"epochs": 2, "subset": 0.1}, {"epochs": 4}, {"epochs": 9})
        s.optimize(objective)
        assert [c.values("value")[0] for c in s.trials[0].curves] == [0.1, 1.0]

    def test_listed_epochs_as_in_published_tables(self) -> None:
        axes = fidelity.Axes(epochs=[12, 200], carry=())
        s = climb(axes, {"epochs": 12}, {"epochs": 200})
        s.optimize(lambda trial: float(trial.fidelity.epochs))
        assert [c.epochs for c in s.trials[0].curves] == [(12,), (200,)]
        assert s.best_value == 200
        assert s.spent == pytest.approx(1 + 12 / 200)


class TestNeverSaving:
    @staticmethod
    def said(caplog: pytest.LogCaptureFixture) -> list[str]:
        return [r.getMessage() for r in caplog.records if "saved nothing" in r.getMessage()]

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_it_is_said_once_with_the_remedy(self, jobs: int, caplog: pytest.LogCaptureFixture) -> None:
        s = study(axes=NINE, scheduler=fidelity.SuccessiveHalving())
        s.optimize(counting(save=False), n_trials=9, n_jobs=jobs)
        [said] = self.said(caplog)
        assert "after epoch 1" in said
        assert "trial.save_checkpoint(" in said
        assert "carry=()" in said

    @pytest.mark.parametrize(
        ("axes", "save"),
        [
            (NINE, True),
            (fidelity.Axes(epochs=(1, 9), carry=()), False),
            (fidelity.Axes(epochs=(1, 9), width=(0.5, 1.0)), False),  # nothing carries from width to width
            (None, False),
        ],
    )
    def test_nothing_is_said_where_nothing_is_lost(
        self, axes: fidelity.Axes | None, save: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        s = study(axes=axes)
        s.optimize(counting(save=save), n_trials=9)
        assert self.said(caplog) == []

    def test_what_has_no_room_or_is_interrupted_was_saved(self, caplog: pytest.LogCaptureFixture) -> None:
        s = study(axes=NINE, artifacts=bonas.Artifacts(max_bytes=1))
        s.optimize(counting(), n_trials=9)
        assert "is not kept" in caplog.text
        assert self.said(caplog) == []
        s.limit(10, None)
        trial = s.ask()
        assert trial is not None
        trial.interrupt()
        assert not list(trial.epochs())
        s.tell(trial)
        assert self.said(caplog) == []
