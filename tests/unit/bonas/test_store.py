"""The store: atomic transactions, the same records read in parts or at once, leases, forks."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from ConfigSpace import ConfigurationSpace
from hypothesis import given, settings
from hypothesis import strategies as st

import bonas
from bonas import fidelity, spaces
from bonas.samplers import RandomSampler
from bonas.store import open_store
from bonas.store.owners import Owner, gone, release, released
from bonas.store.sql import plain
from fidelity.records import (
    CheckpointRecord,
    Fidelity,
    Observation,
    TrialRecord,
    TrialState,
)


def record(number: int, **changes: Any) -> TrialRecord:
    return TrialRecord(number, {"x": 0.5}, f"k{number}", TrialState.RUNNING, Fidelity(epochs=3), **changes)


def observations(*epochs: int, cost: float = 0.1) -> tuple[Observation, ...]:
    return tuple(Observation(e, {"value": float(e)}, cost, Fidelity(epochs=9)) for e in epochs)


@pytest.fixture(params=["memory", "file"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return None if request.param == "memory" else tmp_path / "study.db"


class TestTransactions:
    def test_all_of_it_or_nothing(self, storage: Any) -> None:
        store = open_store(storage, create=True)
        row = store.create("s", {})
        assert row is not None
        with contextlib.suppress(KeyboardInterrupt), store.transaction(row.study) as t:
            t.put_trial(record(0))
            t.put_curve(0, 0, observations(1, 2))
            t.enqueue({"x": 1.0})
            raise KeyboardInterrupt
        with store.transaction(row.study) as t:
            assert t.watermark == 0
            assert t.changed_since(-1) == []
            assert t.next_in_queue() is None

    def test_reading_changes_no_watermark_and_writing_one(self, storage: Any) -> None:
        store = open_store(storage, create=True)
        row = store.create("s", {})
        assert row is not None
        for expected in (0, 1, 2):
            with store.transaction(row.study) as t:
                assert t.watermark == expected
                t.put_trial(record(expected))
                t.put_trial(record(expected, reason="twice in one"))
            with store.transaction(row.study) as t:
                assert len(t.changed_since(expected)) == 1
                assert t.changed_since(expected)[0].watermark == expected + 1

    def test_everything_of_a_record_comes_back(self, storage: Any) -> None:
        store = open_store(storage, create=True)
        row = store.create("s", {"nested": {"a": [1, None, "ü"]}})
        assert row is not None
        full = TrialRecord(
            number=0,
            params={"x": 0.1 + 0.2, "n": 3, "c": "a", "b": True},
            key="key",
            state=TrialState.PAUSED,
            fidelity=Fidelity(9, 0.5, 8, 0.25, 0.5, (("molecules", 3.0),)),
            seed=2**32 - 1,
            checkpoint=CheckpointRecord(3, Fidelity(epochs=3), "trial/x.safetensors", "ab" * 32, 2**40),
            unfinished=True,
            attempt=2,
            reason="because",
            parent=None,
            lost=1 / 3,
            figures={"bracket": 1, "rungs": [1, 2]},
            user_attrs={"a": {"b": [None]}},
            owner="host:1:2:3",
            watermark=1,
        )
        with store.transaction(row.study) as t:
            t.put_trial(full)
            t.put_curve(0, 0, observations(1, 3))
            t.put_curve(0, 1, observations(2))
        with store.transaction(row.study) as t:
            (read,) = t.changed_since(0)
        assert [c.epochs for c in read.curves] == [(1, 3), (2,)]
        import dataclasses

        assert dataclasses.replace(read, curves=()) == full
        found = store.find("s")
        assert found is not None
        assert found.definition == {"nested": {"a": [1, None, "ü"]}}

    def test_the_first_value_of_an_epoch_is_kept_and_its_cost_renewed(self, storage: Any) -> None:
        store = open_store(storage, create=True)
        row = store.create("s", {})
        assert row is not None
        with store.transaction(row.study) as t:
            t.put_trial(record(0))
            t.put_curve(0, 0, observations(1, 2))
        with store.transaction(row.study) as t:
            t.put_curve(0, 0, (Observation(1, {"value": 99.0}, 0.7, Fidelity()),))
            t.put_trial(record(0))
        with store.transaction(row.study) as t:
            first, second = t.changed_since(-1)[0].curves[0].observations
        assert (first.values["value"], first.cost) == (1.0, 0.7)
        assert (second.values["value"], second.cost) == (2.0, 0.1)

    def test_a_writer_waits_for_another(self, tmp_path: Path) -> None:
        one, two = (open_store(tmp_path / "s.db", create=True) for _ in range(2))
        row = one.create("s", {})
        assert row is not None
        order = []

        def second() -> None:
            with two.transaction(row.study) as t:
                order.append(("second", t.watermark))

        with one.transaction(row.study) as t:
            thread = threading.Thread(target=second)
            thread.start()
            thread.join(0.2)
            t.put_trial(record(0))
            order.append(("first", t.watermark))
        thread.join()
        assert order == [("first", 0), ("second", 1)]

    def test_threads_may_use_one_store(self, storage: Any) -> None:
        store = open_store(storage, create=True)
        row = store.create("s", {})
        assert row is not None

        def write(numbers: range) -> None:
            for number in numbers:
                with store.transaction(row.study) as t:
                    t.put_trial(record(number))

        threads = [threading.Thread(target=write, args=(range(i * 10, i * 10 + 10),)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with store.transaction(row.study) as t:
            assert t.watermark == 40
            assert len(t.changed_since(-1)) == 40

    def test_numbers_of_numpy_are_stored_as_numbers(self) -> None:
        import numpy as np

        assert plain({"a": np.float64(0.5), "b": (np.int64(2), True)}) == {"a": 0.5, "b": [2, True]}
        with pytest.raises(ValueError):
            plain({"a": float("nan")})


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(["ask", "tell", "fail", "add", "enqueue"])), max_size=25
    )
)
def test_reading_in_parts_equals_reading_at_once(steps: list[tuple[int, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        space = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}))
        axes = fidelity.Axes(epochs=(1, 9))
        first = bonas.create_study(space=space, axes=axes, storage=folder, sampler=RandomSampler())
        both = [first, bonas.load_study(storage=folder)]
        handles: list[list[bonas.Trial]] = [[], []]
        for who, step in steps:
            s = both[who]
            if step == "ask":
                trial = s.ask()
                if trial is not None:
                    handles[who].append(trial)
            elif step == "add" and s.trials:
                s.add_trial(s.trials[-1])
            elif step == "enqueue":
                s.enqueue_trial({"x": 0.25})
            elif handles[who]:
                trial = handles[who].pop()
                for epoch in trial.epochs():
                    trial.report(epoch, epoch)
                s.tell(trial, error="broken" if step == "fail" else None)
        fresh = bonas.load_study(storage=folder).records
        assert both[0].records == both[1].records == fresh


class TestOpening:
    def test_a_folder_a_file_and_a_url_are_the_same(self, tmp_path: Path) -> None:
        store = open_store(tmp_path / "a", create=True)
        assert store.path == tmp_path / "a" / "study.db"
        store.create("s", {})
        for same in (tmp_path / "a", tmp_path / "a" / "study.db", f"sqlite:///{tmp_path}/a/study.db"):
            assert open_store(same, create=False).names() == ["s"]

    def test_many_processes_may_create_it_at_once(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_create, args=(tmp_path / "s.db",)) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [w.exitcode for w in workers] == [0] * 6
        assert open_store(tmp_path / "s.db", create=False).names() == ["s"]

    def test_it_survives_a_fork(self, tmp_path: Path) -> None:
        store = open_store(tmp_path / "s.db", create=True)
        row = store.create("s", {})
        assert row is not None
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_write, args=(store, row.study, n)) for n in range(3)]
        for worker in workers:
            worker.start()
        for number in range(100, 110):
            with store.transaction(row.study) as t:
                t.put_trial(record(number))
        for worker in workers:
            worker.join()
        assert [w.exitcode for w in workers] == [0] * 3
        with store.transaction(row.study) as t:
            assert len(t.changed_since(-1)) == 40

    @pytest.mark.parametrize("where", ["folder", "below a file", "damaged later"])
    def test_what_cannot_be_opened_is_one_clear_error(self, tmp_path: Path, where: str) -> None:
        if where == "folder":
            (tmp_path / "study.db").mkdir()
            path = tmp_path
        elif where == "below a file":
            (tmp_path / "file").write_text("")
            path = tmp_path / "file" / "study.db"
        else:
            path = tmp_path / "study.db"
            store = open_store(path, create=True)
            store.create("s", {})
            store.close()
            connection = sqlite3.connect(path)
            connection.execute("pragma wal_checkpoint(truncate)")
            connection.close()
            data = bytearray(path.read_bytes())
            data[4096:] = b"\x5a" * (len(data) - 4096)
            path.write_bytes(data)
        with pytest.raises(ValueError, match=str(tmp_path)):
            open_store(path, create=True).names()

    def test_a_full_disk_is_said_and_undone(self, tmp_path: Path) -> None:
        store = open_store(tmp_path / "s.db", create=True)
        row = store.create("s", {})
        assert row is not None
        with store.transaction(row.study) as t:
            t._connection.exec_driver_sql("PRAGMA max_page_count = 1")  # as if no page could be added
        with pytest.raises(ValueError, match="Make room"):
            _fill(store, row.study)
        with store.transaction(row.study) as t:
            t._connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
            assert t.changed_since(-1) == []


class TestOwners:
    def test_an_owner_of_this_process_lives_as_long_as_its_object(self) -> None:
        owner = Owner()
        name = str(owner)
        assert gone(name) is False
        del owner
        gc.collect()
        assert gone(name) is True

    def test_a_process_that_ended_is_gone_and_a_zombie_too(self) -> None:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, str(Owner()).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            name = pipe.read().decode()
        deadline = threading.Event()
        while gone(name) is False and not deadline.wait(0.01):
            pass
        assert gone(name) is True  # nobody has waited for it yet
        os.waitpid(child, 0)
        assert gone(name) is True

    def test_another_process_with_the_same_number_is_not_the_owner(self) -> None:
        host, process, started, nonce = str(Owner()).rsplit(":", 3)
        parent = os.getppid()
        assert gone(f"{host}:{parent}:{int(started) + 12345}:{nonce}") is True
        assert process != str(parent)

    def test_other_hosts_and_unreadable_names_are_out_of_sight(self) -> None:
        assert gone("elsewhere:1:2:abc") is None
        assert gone("nonsense") is None

    def test_a_released_segment_is_that_segment_only(self) -> None:
        release("o", 1, 5)
        assert released("o", 1, 5)
        assert not released("o", 1, 6)
        assert not released("p", 1, 5)


def _fill(store: Any, study: int) -> None:
    with store.transaction(study) as t:
        for number in range(1000):
            t.put_trial(record(number, reason="x" * 4000))


def _create(path: Path) -> None:
    open_store(path, create=True).create("s", {})
    os._exit(0)


def _write(store: Any, study: int, worker: int) -> None:
    for number in range(10):
        with store.transaction(study) as t:
            t.put_trial(record(worker * 10 + number))
    os._exit(0)


class TestDamage:
    """A damaged study is one sentence with a remedy, whatever is wrong with it; nothing of it is executed."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        space = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}))
        study = bonas.create_study(space=space, sampler=RandomSampler(), storage=tmp_path, study_name="s")
        study.optimize(lambda trial: trial.params["x"], n_trials=3)
        return tmp_path

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE studies SET schema_version = 'x'",
            "UPDATE studies SET definition = '{'",
            "UPDATE studies SET definition = '[]'",
            "UPDATE studies SET definition = '{}'",
            "UPDATE studies SET definition = replace(definition, '\"minimize\"', '5')",
            'UPDATE studies SET definition = replace(definition, \'"axes": {"axes"\', \'"axes": {"xaes"\')',
            "UPDATE studies SET definition = replace(definition, '\"artifacts\": null', '\"artifacts\": 5')",
            "UPDATE studies SET definition = json_set(definition, '$.artifacts_id', '../up')",
            "UPDATE trials SET params = 'null'",
            "UPDATE trials SET state = 'GONE'",
            "UPDATE trials SET fidelity = '[1]'",
            'UPDATE observations SET metrics = \'{"value": "x"}\'',
            "UPDATE observations SET cost = 'x'",
            "DELETE FROM trials WHERE number = 1",
            "INSERT INTO queue (study, position, params) VALUES (1, 0, '[]')",
        ],
    )
    def test_it_is_said_in_one_sentence(self, folder: Path, change: str) -> None:
        with contextlib.closing(sqlite3.connect(folder / "study.db")) as database:
            assert database.execute(change).rowcount > 0
            database.commit()
        with pytest.raises(ValueError, match=r"damaged|missing|newer|must be"):
            bonas.load_study(storage=folder).optimize(lambda trial: 1.0, n_trials=5)

    def test_an_empty_file_is_no_study_and_stays_empty(self, tmp_path: Path) -> None:
        (tmp_path / "study.db").touch()
        with pytest.raises(ValueError, match="no study here"):
            bonas.load_study(storage=tmp_path)
        assert not (tmp_path / "study.db").stat().st_size

    def test_a_trial_without_an_owner_is_taken_back(self, folder: Path) -> None:
        with contextlib.closing(sqlite3.connect(folder / "study.db")) as database:
            database.execute("UPDATE trials SET state = 'RUNNING', owner = NULL WHERE number = 1")
            database.commit()
        study = bonas.load_study(storage=folder)
        study.optimize(lambda trial: 1.0, n_trials=4)
        assert len(study.trials) == 4

    def test_a_checkpoint_of_somebody_else_is_passed_over(self, tmp_path: Path) -> None:
        from fidelity import checkpoints

        space = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}))
        study = bonas.create_study(
            space=space, axes=fidelity.Axes(epochs=(3, 3)), sampler=RandomSampler(), storage=tmp_path
        )
        trial = study.ask()
        assert trial is not None
        for meta in (
            {},
            {"epoch": "2", "fidelity": {}, "observations": []},
            {"observations": [{"epoch": 1}]},
        ):
            checkpoints.write(Path(trial.segment.folder) / "curve-00", {"model": 1}, epoch=2, meta=meta)
            assert trial.load_checkpoint() is None
        study.release(trial)
        again = study.ask()
        assert again is not None
        assert again.number == trial.number
