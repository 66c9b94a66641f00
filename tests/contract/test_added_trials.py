"""What was evaluated elsewhere and added: where it stands here, that it may go on, and what it counts for."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import sqlite3
from pathlib import Path

import pytest
from engine import counting, numbers, study

import bonas
from bonas import fidelity
from fidelity.axes import Axes
from fidelity.records import Curve, Fidelity, Observation, TrialRecord, TrialState

NINE = Axes(epochs=(1, 9))
LONG = Axes(epochs=(1, 27))


def record(state: TrialState, at: Fidelity, epoch: int | None = None, x: float = 0.5) -> TrialRecord:
    last = at.epochs if epoch is None else epoch
    curve = Curve(tuple(Observation(e, {"value": x + 1 / e}, 0.1, at) for e in range(1, last + 1)))
    return TrialRecord(0, dict(numbers().default) | {"x": x}, "", state, at, curves=(curve,))


class TestWhereItStands:
    def test_complete_on_cheaper_axes_is_paused_here_and_goes_on(self) -> None:
        short = study(axes=NINE, scheduler=fidelity.FullFidelity())
        short.optimize(counting(), n_trials=1)
        s = study(axes=LONG, scheduler=fidelity.ASHA(hedge=False))
        s.add_trial(short.best_trial)
        assert s.trials[0].state is TrialState.PAUSED
        assert s.trials[0].values == short.best_trial.values
        objective = counting(value=lambda t, e: t.number + 1 / e)  # the one that was added is the best
        s.optimize(objective, n_trials=8)
        assert s.trials[0].state is TrialState.COMPLETE
        assert s.trials[0].fidelity.epochs == 27
        # From its first epoch, past those it was trained elsewhere: its state is there.
        assert any(loaded is None and epochs[:10] == list(range(1, 11)) for loaded, epochs in objective.seen)

    def test_at_this_studys_full_fidelity_it_is_complete_whatever_it_was(self) -> None:
        s = study(axes=NINE)
        s.add_trial(record(TrialState.PAUSED, Fidelity(epochs=9)))
        s.add_trial(record(TrialState.COMPLETE, Fidelity(epochs=9)))
        s.add_trial(record(TrialState.RUNNING, Fidelity(epochs=9), epoch=4))
        s.add_trial(record(TrialState.PRUNED, Fidelity(epochs=9), epoch=4))
        assert [t.state.value for t in s.trials] == ["COMPLETE", "COMPLETE", "PAUSED", "PRUNED"]

    def test_an_axis_that_the_other_study_did_not_have_counts_as_full(self) -> None:
        s = study(axes=Axes(epochs=(1, 9), resolution=(14, 28), subset=(0.5, 1.0)))
        s.add_trial(record(TrialState.COMPLETE, Fidelity(epochs=9)))
        assert (s.trials[0].state, s.trials[0].fidelity.resolution) == (TrialState.COMPLETE, 28)
        assert s.best_value == s.trials[0].value

    @pytest.mark.parametrize(
        ("at", "words"),
        [
            (Fidelity(epochs=9, width=0.5), r"width=0\.5.*no such axis"),
            (Fidelity(epochs=9, resolution=14), "resolution=14.*no such axis"),
            (Fidelity(epochs=9, others=(("noise", 0.0),)), "noise=0.*no such axis"),
            (Fidelity(epochs=27), "epochs=27.*wider"),
        ],
    )
    def test_what_was_evaluated_on_other_axes_is_refused(self, at: Fidelity, words: str) -> None:
        s = study(axes=NINE)
        for state in (TrialState.COMPLETE, TrialState.PAUSED):
            with pytest.raises(ValueError, match=words):
                s.add_trial(record(state, at))
        assert not s.trials


class TestWhatItCounts:
    def search(self, folder: Path | None, cost: str = "nominal") -> bonas.Study:
        """Two trials added, which are better than any other, and six started here."""
        axes = Axes(epochs=(1, 9), cost=cost)  # type: ignore[arg-type]
        s = study(axes=axes, scheduler=fidelity.ASHA(eta=2, hedge=False), storage=folder)
        for x in (0.0, 0.1):
            s.add_trial(record(TrialState.PAUSED, Fidelity(epochs=1), x=x))
        assert s.spent == 0
        return s

    def test_resumed_it_is_no_start_of_this_study(self, tmp_path: Path) -> None:
        s = self.search(tmp_path)
        objective = counting(value=lambda t, e: t.params["x"] + 1 + t.number)
        s.optimize(objective, n_trials=2)
        assert all(t.record.attempt > 0 for t in s.trials[:2])  # both went on
        assert len(s.trials) == 2 + 2
        del s
        again = bonas.load_study(storage=tmp_path)
        again.optimize(objective, n_trials=6)
        assert len(again.trials) == 2 + 6

    def test_only_what_is_trained_here_is_spent(self, tmp_path: Path) -> None:
        s = self.search(tmp_path)
        objective = counting(value=lambda t, e: t.params["x"] + 1 + t.number)
        s.optimize(objective, n_trials=6)
        assert all(t.record.attempt > 0 for t in s.trials[:2])
        trained = sum(len(epochs) for _, epochs in objective.seen)
        assert s.spent == pytest.approx(trained / 9)
        assert bonas.load_study(storage=tmp_path).spent == pytest.approx(trained / 9)
        s.optimize(objective, budget=s.spent + 1)
        assert sum(len(epochs) for _, epochs in objective.seen) == trained + 9

    def test_where_cost_is_reported_it_does_not_change_what_an_evaluation_costs(self) -> None:
        def dear(trial: bonas.Trial) -> None:
            trial.load_checkpoint()
            for epoch in trial.epochs():
                trial.report(trial.params["x"] + 1 / epoch, epoch, cost=2.0)
                trial.save_checkpoint({})

        s = self.search(None, cost="reported")
        s.optimize(dear, n_trials=6)
        assert any(t.record.attempt > 0 for t in s.trials[:2])
        assert s.view().cost_scale == pytest.approx(2.0 * 9)

    def test_what_was_added_can_be_added_on(self) -> None:
        s = self.search(None)
        s.optimize(counting(), n_trials=6)
        more = study(axes=NINE)
        for trial in s.trials:
            more.add_trial(trial)
        assert more.spent == 0
        assert [t.values for t in more.trials] == [t.values for t in s.trials]
        assert [dataclasses.replace(t.record, elsewhere=None).cost for t in more.trials] == [
            t.cost for t in s.trials
        ]


def test_a_file_from_before_it_was_written_what_was_added_counts_the_same(tmp_path: Path) -> None:
    settings = {"axes": NINE, "scheduler": fidelity.FullFidelity(), "study_name": "s"}
    s = study(**settings, storage=tmp_path)
    s.add_trial(record(TrialState.PAUSED, Fidelity(epochs=3)))
    s.optimize(counting(), n_trials=1)
    started = s.spent
    assert [t.record.elsewhere for t in s.trials] == [pytest.approx(0.3), None]
    del s
    gc.collect()
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as connection:
        connection.execute("alter table trials drop column elsewhere")
        connection.commit()
    s = bonas.load_study(storage=tmp_path, scheduler=fidelity.FullFidelity())
    assert [t.record.elsewhere for t in s.trials] == [pytest.approx(0.3), None]
    assert s.spent == started
