"""The study: ask, tell and done, lines of trials, loading, moving, sharing, and what is refused."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from ConfigSpace import ConfigurationSpace
from engine import choices, climb, counting, numbers, study

import bonas
from bonas import TrialState, fidelity, spaces
from bonas.samplers import RandomSampler
from fidelity.records import Curve, Fidelity, Observation, TrialRecord
from fidelity.schedulers import Done, Resume, Start, Stop, Wait

NINE = fidelity.Axes(epochs=(1, 9))


class TestAskAndTell:
    def test_a_loop_of_ones_own(self) -> None:
        s = study(space=choices(4))
        while not s.done:
            trial = s.ask()
            if trial is None:
                break
            s.tell(trial, float(trial.params["c"][1]))
        assert s.done
        assert s.best_params == {"c": "v0"}
        assert sorted(t.params["c"] for t in s.trials) == ["v0", "v1", "v2", "v3"]

    def test_several_at_once(self) -> None:
        s = study()
        asked = [s.ask() for _ in range(3)]
        assert [t.number for t in asked if t] == [0, 1, 2]
        assert {t.state for t in s.trials} == {TrialState.RUNNING}
        for trial in reversed(asked):
            assert trial is not None
            s.tell(trial, float(trial.number))
        assert s.best_trial.number == 0

    def test_tell_takes_an_error_or_a_sentence(self) -> None:
        s = study()
        for error, state, reason in (
            ("the robot fell over", TrialState.FAIL, "the robot fell over"),
            (ValueError("v"), TrialState.FAIL, "ValueError: v"),
            (bonas.TrialPruned(), TrialState.PRUNED, "pruned by the objective"),
            (bonas.TrialPruned, TrialState.PRUNED, "pruned by the objective"),
            (MemoryError(), TrialState.INFEASIBLE, "out of memory: MemoryError"),
        ):
            trial = s.ask()
            assert trial is not None
            told = s.tell(trial, error=error)
            assert (told.state, told.reason) == (state, reason)

    def test_a_second_tell_is_refused_and_changes_nothing(self) -> None:
        s = study()
        trial = s.ask()
        assert trial is not None
        s.tell(trial, 1.0)
        with pytest.raises(bonas.StaleTrialError, match="told before"):
            s.tell(trial, 2.0)
        assert s.best_value == 1.0

    def test_the_handle_of_an_earlier_segment_is_stale(self) -> None:
        s = climb(NINE, {"epochs": 3}, {"epochs": 9})
        first = s.ask()
        assert first is not None
        s.tell(first, 1.0)
        second = s.ask()
        assert second is not None
        with pytest.raises(bonas.StaleTrialError):
            s.tell(first, 5.0)
        s.tell(second, 0.5)
        assert s.trials[0].value == 0.5

    def test_the_trial_of_another_study_is_refused(self) -> None:
        one, other = study(), study()
        trial = one.ask()
        assert trial is not None
        with pytest.raises(bonas.StaleTrialError):
            other.tell(trial, 1.0)
        other.ask()
        with pytest.raises(bonas.StaleTrialError):
            other.tell(trial, 1.0)
        with pytest.raises(ValueError, match="takes the trial that ask"):
            one.tell(0, 1.0)  # type: ignore[arg-type]

    def test_ask_is_none_while_nothing_can_run(self) -> None:
        s = climb(NINE, {"epochs": 3}, {"epochs": 9})
        trial = s.ask()
        assert s.ask() is None
        assert not s.done
        assert trial is not None
        s.tell(trial, 1.0)
        assert not s.done
        last = s.ask()
        assert last is not None
        s.tell(last, 1.0)
        assert s.done

    def test_what_was_asked_for_and_never_told_does_not_hang_optimize(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        s = study(space=choices(3))
        kept = s.ask()
        with caplog.at_level(logging.WARNING, "bonas"):
            s.optimize(lambda _: 1.0)
        assert [t.state for t in s.trials] == [TrialState.RUNNING, TrialState.COMPLETE, TrialState.COMPLETE]
        assert "never told" in caplog.text
        assert kept is not None
        s.tell(kept, 1.0)
        assert s.done

    def test_the_handle_never_writes(self, tmp_path: Path) -> None:
        s = study(axes=NINE, storage=tmp_path)
        trial = s.ask()
        assert trial is not None
        trial.report(1.0, 1)
        trial.set_user_attr("a", 1)
        assert not s.trials[0].curves
        assert not s.trials[0].user_attrs

    def test_user_attributes(self) -> None:
        s = study()
        trial = s.ask()
        assert trial is not None
        value = {"deep": [1, 2.5, None, "x", True]}
        trial.set_user_attr("kept", value)
        value["deep"].append("later")  # type: ignore[attr-defined]
        for bad in ({1, 2}, float("nan"), object()):
            with pytest.raises(ValueError, match="must be JSON"):
                trial.set_user_attr("bad", bad)
        with pytest.raises(ValueError, match="must be a text"):
            trial.set_user_attr(1, 1)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            trial.user_attrs["direct"] = object()  # type: ignore[index]
        assert s.tell(trial, 1.0).user_attrs == {"kept": {"deep": [1, 2.5, None, "x", True]}}


class TestLines:
    def test_trial_0_is_the_default_and_enqueued_ones_come_first(self) -> None:
        s = study()
        s.optimize(lambda _: 1.0, n_trials=1)
        assert s.trials[0].params == numbers().default
        for n in (3, 7):
            s.enqueue_trial({"x": 0.25, "n": n, "c": "b"})
        s.optimize(lambda _: 1.0, n_trials=4)
        assert [t.params["n"] for t in s.trials[1:3]] == [3, 7]

    def test_enqueueing_what_is_no_configuration_says_so(self) -> None:
        with pytest.raises(ValueError, match="x"):
            study().enqueue_trial({"x": 7.0, "n": 1, "c": "a"})

    def test_a_used_up_space_is_done_but_takes_an_enqueued_trial_again(self) -> None:
        s = study(space=choices(2))
        s.optimize(lambda _: 1.0)
        assert s.done
        s.enqueue_trial({"c": "v1"})
        s.optimize(lambda _: 1.0)
        assert len(s.trials) == 3

    def test_a_used_up_space_still_resumes_what_is_paused(self) -> None:
        s = study(space=choices(3), axes=NINE, scheduler=fidelity.SuccessiveHalving())
        s.optimize(counting())  # the bracket had room for nine
        assert s.done
        assert [t.state for t in s.trials].count(TrialState.COMPLETE) == 1
        assert len(s.trials) == 3

    def test_added_trials_are_known_and_not_counted(self) -> None:
        elsewhere = study(axes=NINE, scheduler=fidelity.SuccessiveHalving())
        elsewhere.optimize(counting(value=lambda t, e: t.params["x"]), n_trials=9)
        s = study(axes=NINE, scheduler=fidelity.SuccessiveHalving())
        for trial in elsewhere.trials:
            s.add_trial(trial)
            s.add_trial(trial.record)
        assert s.best_value == elsewhere.best_value
        assert s.spent == 0
        s.optimize(counting(value=lambda t, e: t.params["x"]), n_trials=3, budget=2.0)
        assert len(s.trials) == 18 + 3
        assert s.spent <= 2.0 + 1e-9
        assert s.trials[18].record.figures["bracket"] == 0  # theirs are not taken for this study's

    def test_adding_what_does_not_fit_says_so(self) -> None:
        s = study(axes=NINE)
        full = Fidelity(epochs=9)
        params = numbers().default

        def record(values: dict[str, float], at: Fidelity = full, **other: Any) -> TrialRecord:
            curves = (Curve((Observation(9, values, 1.0, at),)),)
            return TrialRecord(0, other.get("params", params), "", TrialState.COMPLETE, at, curves=curves)

        for bad in (
            record({"accuracy": 1.0}),
            record({"value": 1.0}, Fidelity(epochs=77)),
            record({"value": 1.0}, params={"x": 9.0, "n": 1, "c": "a"}),
            TrialRecord(0, params, "", TrialState.COMPLETE, full),
            {"x": 1.0},
        ):
            with pytest.raises(ValueError):
                s.add_trial(bad)  # type: ignore[arg-type]
        assert not s.trials
        s.add_trial(record({"value": 3.0, "extra": 1.0}))
        assert s.best_value == 3.0

    def test_stop_ends_after_the_running_segment(self) -> None:
        def objective(trial: bonas.Trial) -> float:
            if trial.number == 2:
                s.stop()
            return 1.0

        s = study()
        s.optimize(objective, n_trials=10)
        assert len(s.trials) == 3
        s.optimize(lambda _: 1.0, n_trials=5)
        assert len(s.trials) == 5

    def test_callbacks_are_called_after_each_segment_and_may_stop(self) -> None:
        calls = []

        def callback(of: bonas.Study, trial: bonas.FrozenTrial) -> None:
            calls.append((trial.number, trial.state, trial.value))
            if trial.number == 3:
                of.stop()

        s = study()
        s.optimize(lambda t: float(t.number), callbacks=[callback])
        assert calls == [(i, TrialState.COMPLETE, float(i)) for i in range(4)]

    def test_an_error_in_a_callback_loses_nothing(self) -> None:
        def callback(of: bonas.Study, trial: bonas.FrozenTrial) -> None:
            raise RuntimeError("plotting")

        s = study()
        with pytest.raises(RuntimeError, match="plotting"):
            s.optimize(lambda _: 1.0, n_trials=3, callbacks=[callback])
        assert [t.state for t in s.trials] == [TrialState.COMPLETE]
        s.optimize(lambda _: 1.0, n_trials=3)
        assert len(s.trials) == 3


class TestStoring:
    def test_all_comes_back(self, tmp_path: Path) -> None:
        space = spaces.chain(input_shape=(1, 8, 8), n_classes=10).with_hyperparameters()
        axes = fidelity.Axes(epochs=(1, 9), subset=(0.1, 1.0), carry=("epochs",))
        made = bonas.create_study(
            space=space,
            axes=axes,
            directions=["maximize", "minimize"],
            metric_names=["accuracy", "parameters"],
            sampler=RandomSampler(seed=4),
            scheduler=fidelity.SuccessiveHalving(eta=4, n_rungs=2),
            constraints={"parameters": 10**9},
            storage=tmp_path / "s",
            study_name="all",
            seed=7,
        )
        made.optimize(lambda t: {"accuracy": 0.5 + t.number / 100, "parameters": 10.0}, n_trials=5)
        loaded = bonas.load_study(storage=tmp_path / "s")
        assert (loaded.space, loaded.axes, loaded.seed) == (space, axes, 7)
        assert (loaded.directions, loaded.metric_names) == (made.directions, made.metric_names)
        assert loaded.scheduler == made.scheduler
        assert loaded.sampler.to_dict() == made.sampler.to_dict()
        assert loaded.constraints == {"parameters": 10**9}
        assert loaded.trials == made.trials
        assert loaded.best_trials == made.best_trials

    def test_the_name_may_be_left_out_if_there_is_one_study(self, tmp_path: Path) -> None:
        study(storage=tmp_path, study_name="one")
        assert bonas.load_study(storage=tmp_path).study_name == "one"
        study(storage=tmp_path, study_name="two")
        with pytest.raises(ValueError, match=r"\['one', 'two'\]"):
            bonas.load_study(storage=tmp_path)
        with pytest.raises(ValueError, match="'three'"):
            bonas.load_study(storage=tmp_path, study_name="three")

    def test_names_do_not_escape_the_folder(self, tmp_path: Path) -> None:
        for name in ("../../up", "a/b", "ü \U0001f600", "x" * 300):
            s = study(storage=tmp_path, study_name=name, axes=NINE)
            s.optimize(counting(), n_trials=1)
            assert s.artifacts.resolve().is_relative_to(tmp_path.resolve())
            assert bonas.load_study(storage=tmp_path, study_name=name).trials == s.trials

    def test_load_if_exists(self, tmp_path: Path) -> None:
        first = study(storage=tmp_path, study_name="a", seed=3)
        first.optimize(lambda _: 1.0, n_trials=2)
        with pytest.raises(bonas.DuplicatedStudyError, match="load_if_exists=True"):
            study(storage=tmp_path, study_name="a")
        again = study(storage=tmp_path, study_name="a", load_if_exists=True)
        assert again.trials == first.trials
        assert again.seed == 3

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"space": choices(3)}, "space"),
            ({"axes": fidelity.Axes(epochs=(1, 10))}, "axes"),
            ({"direction": "maximize"}, "maximize"),
            ({"metric_names": ["other"]}, "other"),
            ({"constraints": {"parameters": 5}}, "constraints"),
        ],
    )
    def test_a_study_that_was_made_differently_is_refused(
        self, tmp_path: Path, changed: dict[str, Any], named: str
    ) -> None:
        study(storage=tmp_path, study_name="a", axes=NINE)
        with pytest.raises(ValueError, match=named):
            study(
                **({"storage": tmp_path, "study_name": "a", "axes": NINE, "load_if_exists": True} | changed)
            )

    def test_loading_with_a_space_that_differs_is_refused(self, tmp_path: Path) -> None:
        study(storage=tmp_path)
        with pytest.raises(ValueError, match="space"):
            bonas.load_study(storage=tmp_path, space=choices(3))

    def test_functions_of_the_users_own_are_not_stored(self, tmp_path: Path) -> None:
        import torch

        def build(params: dict[str, Any], width: float, depth: float) -> torch.nn.Module:
            return torch.nn.Linear(params["n"], 1)

        def key(params: dict[str, Any]) -> str:
            return str(params["n"])

        configuration_space = ConfigurationSpace({"n": (1, 8)})
        space = spaces.Space(configuration_space, build=build, key=key)

        class Mine:
            seed = None

            def sample(self, space: Any, view: Any, rng: Any) -> Any:
                return next(
                    p for p in space.sample(99, rng) if space.key(p) not in {t.key for t in view.trials}
                )

        study(space=space, storage=tmp_path, sampler=Mine()).optimize(lambda t: t.params["n"], n_trials=3)
        assert b"Linear" not in (tmp_path / "study.db").read_bytes()
        loaded = bonas.load_study(storage=tmp_path)
        assert len(loaded.trials) == 3  # looking needs no functions
        with pytest.raises(ValueError, match="build"):
            loaded.best_trial.build()
        with pytest.raises(bonas.MissingFunctionError, match="sampler"):
            loaded.optimize(lambda t: t.params["n"], n_trials=5)
        loaded = bonas.load_study(storage=tmp_path, space=space, sampler=Mine())
        loaded.optimize(lambda t: t.params["n"], n_trials=5)
        assert loaded.best_trial.build().in_features == loaded.best_params["n"]

    def test_a_moved_study_takes_its_checkpoints_along(self, tmp_path: Path) -> None:
        for artifacts in (None, tmp_path / "here" / "states"):
            s = climb(NINE, {"epochs": 3}, {"epochs": 9}, storage=tmp_path / "here", artifacts=artifacts)
            trial = s.ask()
            assert trial is not None
            objective = counting()
            objective(trial)
            s.tell(trial)
            scheduler = s.scheduler
            del s, trial
            gc.collect()
            shutil.move(tmp_path / "here", tmp_path / "there")
            moved = bonas.load_study(storage=tmp_path / "there", scheduler=scheduler)
            moved.optimize(objective)
            assert objective.seen[-1] == (3, [4, 5, 6, 7, 8, 9])
            assert not (tmp_path / "here").exists()
            shutil.rmtree(tmp_path / "there")

    def test_a_relative_storage_means_the_folder_of_the_moment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        s = study(storage="runs/a", axes=NINE)
        (tmp_path / "else").mkdir()
        monkeypatch.chdir(tmp_path / "else")
        s.optimize(counting(), n_trials=1)
        assert (tmp_path / "runs" / "a" / "study.db").is_file()
        assert s.artifacts.is_relative_to(tmp_path / "runs" / "a")

    def test_what_is_not_a_study_is_refused(self, tmp_path: Path) -> None:
        text = tmp_path / "notes.txt"
        text.write_text("a shopping list, long enough to be mistaken")
        other = tmp_path / "other.db"
        sqlite3.connect(other).execute("create table t (x)").connection.commit()
        torn = tmp_path / "torn.db"
        torn.write_bytes(b"SQLite format 3\x00" + b"\x07" * 4096)
        for storage in (text, other, torn, tmp_path / "none", text / "below", "mysql://host/db"):
            for opened in (bonas.load_study, lambda **kw: study(load_if_exists=True, **kw)):
                if opened is not bonas.load_study and storage == tmp_path / "none":
                    continue
                with pytest.raises(ValueError):
                    opened(storage=storage, study_name="a")
        assert text.read_text().startswith("a shopping list")
        assert sqlite3.connect(other).execute("select name from sqlite_master").fetchall() == [("t",)]

    def test_a_newer_schema_is_refused(self, tmp_path: Path) -> None:
        study(storage=tmp_path, study_name="a")
        connection = sqlite3.connect(tmp_path / "study.db")
        connection.execute("update studies set schema_version = 99")
        connection.commit()
        with pytest.raises(ValueError, match="newer bonas"):
            bonas.load_study(storage=tmp_path)

    def test_nothing_stored_is_code(self, tmp_path: Path) -> None:
        s = study(storage=tmp_path, axes=NINE)
        s.optimize(counting(), n_trials=2)
        rows = (
            sqlite3.connect(tmp_path / "study.db").execute("select definition, attrs from studies").fetchall()
        )
        for text in rows[0]:
            json.loads(text)
        assert {p.suffix for p in s.artifacts.rglob("*") if p.is_file()} == {".safetensors"}


class TestSharing:
    def test_two_objects_share_one_study(self, tmp_path: Path) -> None:
        a = study(storage=tmp_path, study_name="s")
        b = bonas.load_study(storage=tmp_path)
        for s in (a, b, a, b):
            trial = s.ask()
            assert trial is not None
            s.tell(trial, float(trial.number))
        assert [t.number for t in a.trials] == [0, 1, 2, 3]
        assert a.trials == b.trials
        assert len({t.record.key for t in a.trials}) == 4

    def test_a_running_trial_is_left_to_its_owner(self, tmp_path: Path) -> None:
        a = study(storage=tmp_path)
        held = a.ask()
        b = bonas.load_study(storage=tmp_path)
        other = b.ask()
        assert other is not None
        assert held is not None
        assert other.number == 1
        b.tell(other, 1.0)
        assert b.trials[0].state == TrialState.RUNNING
        a.tell(held, 2.0)
        assert b.trials[0].value == 2.0

    def test_the_lease_of_a_gone_worker_has_expired_at_once(self, tmp_path: Path) -> None:
        a = study(storage=tmp_path, axes=NINE, scheduler=fidelity.FullFidelity())
        handle = a.ask()
        assert handle is not None
        for epoch in handle.epochs():
            handle.report(1.0, epoch)
            handle.save_checkpoint({"epoch": epoch})
            if epoch == 4:
                handle.flush()
                break
        del a
        gc.collect()
        b = bonas.load_study(storage=tmp_path)
        again = b.ask()
        assert again is not None
        assert again.number == 0  # run again under its own number before any new ask
        assert b.trials[0].curves[0].epochs == (1, 2, 3, 4)  # what the checkpoint carries counts as reported
        assert again.load_checkpoint() == {"epoch": 4}
        for epoch in again.epochs():
            again.report(1.0, epoch)
        b.tell(again)
        assert b.spent == pytest.approx(1.0)

    def test_a_late_tell_is_refused_and_harms_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        a = study(storage=tmp_path, axes=NINE, scheduler=fidelity.FullFidelity())
        late = a.ask()
        assert late is not None
        b = bonas.load_study(storage=tmp_path)
        monkeypatch.setattr("bonas.ledger.gone", lambda owner: True)  # a's host was out of sight too long
        again = b.ask()
        monkeypatch.undo()
        assert again is not None
        assert again.number == late.number
        for handle, last in ((again, 9), (late, 3)):
            for epoch in handle.epochs():
                handle.report(float(last), epoch)
                handle.save_checkpoint({"by": last})
                if epoch == last:
                    break
        b.tell(again)
        with pytest.raises(bonas.StaleTrialError, match="another worker"):
            a.tell(late)
        assert a.trials[0].values == {"value": 9.0}
        checkpoint = a.trials[0].record.checkpoint
        assert checkpoint is not None
        assert (a.artifacts / checkpoint.file).exists()

    def test_a_segment_whose_last_checkpoint_is_written_counts_as_told(self, tmp_path: Path) -> None:
        a = study(storage=tmp_path, axes=NINE, scheduler=fidelity.FullFidelity())
        handle = a.ask()
        assert handle is not None
        counting()(handle)
        handle.set_user_attr("note", "kept")
        handle.flush()
        del a
        gc.collect()
        b = bonas.load_study(storage=tmp_path)
        b.optimize(counting(), n_trials=1)
        assert b.trials[0].state == TrialState.COMPLETE
        assert b.trials[0].user_attrs == {"note": "kept"}
        assert b.spent == pytest.approx(1.0)


class Once:
    """Returns what it is given for the first decision, and starts after that."""

    def __init__(self, first: Any) -> None:
        self.first = first

    def decide(self, view: Any, rng: Any) -> Any:
        if len(view.trials) == 1 and view.trials[0].fidelity.epochs == 3:
            return self.first(view.trials[0])
        return Start(view.axes.fidelity({"epochs": 3})) if not view.trials else Done()


class TestActions:
    def run(self, action: Any) -> bonas.Study:
        s = study(axes=NINE, scheduler=Once(action))
        s.optimize(counting())
        return s

    def test_stop_prunes_a_paused_trial_for_good(self) -> None:
        trial = self.stopped().trials[0]
        assert (trial.state, trial.reason) == (TrialState.PRUNED, "hopeless")

    def stopped(self) -> bonas.Study:
        class Stopping:
            def decide(self, view: Any, rng: Any) -> Any:
                if not view.trials:
                    return Start(view.axes.fidelity({"epochs": 3}))
                paused = [t for t in view.trials if t.state == TrialState.PAUSED]
                return Stop(paused[0], "hopeless", {"median": 2.5}) if paused else Done()

        s = study(axes=NINE, scheduler=Stopping())
        s.optimize(counting())
        return s

    def test_stop_is_written_with_its_reason_and_figures(self) -> None:
        s = self.stopped()
        assert [d["action"] for d in s.decisions(0)] == ["start", "stop"]
        assert s.decisions(0)[1]["figures"] == {"reason": "hopeless", "median": 2.5}

    def test_resume_continues_and_wait_and_done_end(self) -> None:
        s = self.run(lambda trial: Resume(trial, Fidelity(epochs=9), {"why": 1}))
        assert s.trials[0].state == TrialState.COMPLETE
        assert s.decisions(0)[1]["figures"] == {"why": 1}
        assert self.run(lambda trial: Done()).trials[0].state == TrialState.PAUSED

    def test_wait_with_nothing_running_is_the_schedulers_mistake_but_timeout_still_works(self) -> None:
        s = study(axes=NINE, scheduler=Once(lambda trial: Wait()))
        s.optimize(counting(), timeout=0.3)
        assert s.trials[0].state == TrialState.PAUSED

    def test_nonsense_is_refused_at_once(self) -> None:
        with pytest.raises(ValueError, match="no action"):
            self.run(lambda trial: None)

    def test_resuming_what_is_not_paused_is_refused(self) -> None:
        class Wrong:
            def decide(self, view: Any, rng: Any) -> Any:
                return Resume(view.trials[0], view.axes.full) if view.trials else Start(view.axes.full)

        s = study(axes=NINE, scheduler=Wrong())
        with pytest.raises(ValueError, match="COMPLETE"):
            s.optimize(counting())

    def test_every_decision_carries_the_watermark_it_was_made_from(self) -> None:
        s = study(axes=NINE, scheduler=fidelity.SuccessiveHalving())
        s.optimize(counting(value=lambda t, e: t.params["x"]), n_trials=9)
        decided = sorted((d for t in s.trials for d in s.decisions(t)), key=lambda d: d["ask"])
        assert [d["ask"] for d in decided] == list(range(len(decided)))
        assert all(a["watermark"] < b["watermark"] for a, b in itertools.pairwise(decided))
        # A decision saw exactly the observations written up to its watermark.
        promoted = next(d for d in decided if d["action"] == "resume")
        assert promoted["figures"]["waiting"] == 9
