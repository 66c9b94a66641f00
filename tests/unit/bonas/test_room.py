"""Room for checkpoints: who makes it, by dropping what, and what the study says may go."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonas.dropping import drop_order
from bonas.room import Book, NoRoomError, Room
from fidelity import checkpoints
from fidelity.axes import Axes
from fidelity.records import (
    CheckpointRecord,
    Curve,
    Fidelity,
    Observation,
    StudyView,
    TrialRecord,
    TrialState,
)

BLOCK = 4096
NINE = Axes(epochs=(1, 9))


def fill(folder: Path, number: int, blocks: int) -> Path:
    path = folder / f"trial-{number:05d}" / "curve-00" / "epoch-000001-0123456789abcdef.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(BLOCK * blocks - 7))  # a begun block counts as a whole one
    return path


def left(folder: Path) -> set[int]:
    return {int(p.name.removeprefix("trial-")) for p in folder.glob("trial-*")}


class TestMakingRoom:
    def test_the_first_ones_in_the_book_go_until_there_is_room_for_two(self, tmp_path: Path) -> None:
        for number in range(5):
            fill(tmp_path, number, 2)
        room = Room(tmp_path, 10 * BLOCK)
        room.settle([3, 1, 0])
        with room.reserved(2 * BLOCK):
            assert left(tmp_path) == {0, 2, 4}
        assert room.book() == Book((0,), (3, 1))

    def test_nothing_goes_while_there_is_room(self, tmp_path: Path) -> None:
        for number in range(3):
            fill(tmp_path, number, 2)
        room = Room(tmp_path, 10 * BLOCK)
        room.settle([0, 1, 2])
        with room.reserved(2 * BLOCK):
            pass
        assert left(tmp_path) == {0, 1, 2}

    def test_nothing_goes_in_vain(self, tmp_path: Path) -> None:
        for number in range(4):
            fill(tmp_path, number, 2)
        room = Room(tmp_path, 10 * BLOCK)
        room.settle([0])
        with pytest.raises(NoRoomError, match="20,480 bytes do not fit into max_bytes=40,960 beside 24,576"):
            room.reserved(5 * BLOCK).__enter__()
        assert left(tmp_path) == {0, 1, 2, 3}
        with pytest.raises(NoRoomError):
            room.reserved(11 * BLOCK).__enter__()

    def test_room_for_one_is_enough_where_two_do_not_fit(self, tmp_path: Path) -> None:
        for number in range(3):
            fill(tmp_path, number, 2)
        room = Room(tmp_path, 10 * BLOCK)
        room.settle([0, 1])
        with room.reserved(6 * BLOCK):
            assert left(tmp_path) == {1, 2}  # 0 had to go, 1 need not

    def test_how_often_a_trial_writes_changes_nothing_of_what_is_dropped(self, tmp_path: Path) -> None:
        books = []
        for written_before in (False, True):
            folder = tmp_path / str(written_before)
            for number in range(4):
                fill(folder, number, 2)
            room = Room(folder, 10 * BLOCK)
            room.settle([0, 1, 2])
            if written_before:
                with room.reserved(2 * BLOCK, own="trial-00009"):
                    fill(folder, 9, 2)
            with room.reserved(2 * BLOCK, own="trial-00009"):
                books.append(room.book())
        assert books == [Book((1, 2), (0,))] * 2

    def test_what_is_not_a_checkpoint_of_the_study_does_not_count(self, tmp_path: Path) -> None:
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes" / "large").write_bytes(bytes(50 * BLOCK))
        (tmp_path / "trial-of-mine.bin").write_bytes(bytes(50 * BLOCK))
        with Room(tmp_path, 2 * BLOCK).reserved(BLOCK):
            pass

    def test_half_written_files_and_retrained_networks_count(self, tmp_path: Path) -> None:
        folder = tmp_path / "trial-00000" / "curve-00"
        folder.mkdir(parents=True)
        (folder / ".half.tmp").write_bytes(bytes(BLOCK))
        folder = tmp_path / "retrained-00004" / "curve-00"
        folder.mkdir(parents=True)
        (folder / "epoch").write_bytes(bytes(BLOCK))
        with pytest.raises(NoRoomError):
            Room(tmp_path, 3 * BLOCK).reserved(2 * BLOCK).__enter__()

    def test_without_a_limit_nothing_is_measured(self, tmp_path: Path) -> None:
        with Room(tmp_path / "nowhere", None).reserved(10**15):
            pass

    def test_a_checkpoint_appears_at_its_full_size_within_its_room(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[int] = []

        class Watched(Room):
            def _make_room(self, needed: int, own: str, limit: int) -> None:
                seen.append(needed)

        folder = tmp_path / "trial-00000" / "curve-00"
        room = Watched(tmp_path, 10**9)
        written = checkpoints.write(folder, {"w": bytes(10_000)}, epoch=1, room=room.reserved)
        assert seen == [-(-written.nbytes // BLOCK) * BLOCK]
        inside: list[int] = []

        class Peeking:
            def __enter__(self) -> None:
                pass

            def __exit__(self, *_: Any) -> None:
                inside.extend(p.stat().st_size for p in folder.glob(".*.tmp"))

        again = checkpoints.write(folder, {"w": bytes(20_000)}, epoch=2, room=lambda _: Peeking())
        assert inside == [again.nbytes]

    def test_without_room_no_file_is_left(self, tmp_path: Path) -> None:
        folder = tmp_path / "trial-00000" / "curve-00"
        with pytest.raises(NoRoomError):
            checkpoints.write(folder, {"w": bytes(10_000)}, epoch=1, room=Room(tmp_path, BLOCK).reserved)
        assert not list(folder.iterdir())

    @settings(max_examples=40, deadline=None)
    @given(
        sizes=st.dictionaries(st.integers(0, 8), st.integers(1, 4)),
        order=st.lists(st.integers(0, 8), unique=True),
        needed=st.integers(1, 5),
        limit=st.integers(1, 20),
    )
    def test_after_it_there_is_room_and_what_is_kept_is_kept(
        self, sizes: dict[int, int], order: list[int], needed: int, limit: int
    ) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for number, blocks in sizes.items():
                fill(folder, number, blocks)
            room = Room(folder, limit * BLOCK)
            room.settle(order)
            kept = set(sizes) - set(order)
            try:
                with room.reserved(needed * BLOCK):
                    used = sum(sizes[n] for n in left(folder))
                    assert used + needed <= limit
            except NoRoomError:
                assert sum(sizes[n] for n in kept) + needed > limit
                assert left(folder) == set(sizes)
            gone = [n for n in order if n in sizes and n not in left(folder)]
            assert kept <= left(folder)
            assert gone == [n for n in order if n in sizes][: len(gone)]  # in their order, none skipped
            assert list(room.book().dropped) == gone

    def test_two_at_a_time_do_not_take_the_same_room(self, tmp_path: Path) -> None:
        room, refused = Room(tmp_path, 7 * BLOCK), []
        start = threading.Barrier(8)

        def write(number: int) -> None:
            start.wait()
            try:
                with room.reserved(2 * BLOCK):
                    fill(tmp_path, number, 2)
            except NoRoomError:
                refused.append(number)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(left(tmp_path)), len(refused)) == (3, 5)


class TestBook:
    def test_there_is_none_until_room_is_scarce(self, tmp_path: Path) -> None:
        room = Room(tmp_path, 100)
        assert not room.scarce(25)
        assert room.scarce(26)
        assert not Room(tmp_path, None).scarce(10**15)
        room.settle([1])
        assert room.scarce(0)  # others go by it now

    def test_a_torn_one_says_that_anything_may_be_gone(self, tmp_path: Path) -> None:
        room = Room(tmp_path, 100)
        room.settle([1, 2])
        (file,) = tmp_path.iterdir()
        for text in ("", "{", "[]", '{"order": [1]}', '{"order": [true], "dropped": []}', '{"order": 5}'):
            file.write_text(text)
            assert room.book() == Book(whole=False)
        room.settle([1])
        assert room.book() == Book((1,))

    def test_nobody_reads_anything_else_into_it(self, tmp_path: Path) -> None:
        room = Room(tmp_path, 100)
        room.settle([1])
        (file,) = tmp_path.iterdir()
        assert json.loads(file.read_text()) == {"order": [1], "dropped": [], "whole": True}


def trial(
    number: int, state: str, *values: float, unfinished: bool = False, saved: bool = True
) -> TrialRecord:
    """A trial that has reported its values at epochs 1, 2, ..."""
    observations = tuple(
        Observation(e, {"value": v, "size": -v}, 0.1, Fidelity(epochs=len(values)))
        for e, v in enumerate(values, 1)
    )
    checkpoint = CheckpointRecord(max(1, len(values)), Fidelity(), f"trial-{number:05d}/x", "", 1)
    return TrialRecord(
        number,
        {},
        "k",
        TrialState(state),
        Fidelity(epochs=max(1, len(values))),
        curves=(Curve(observations),) if values else (),
        checkpoint=checkpoint if saved else None,
        unfinished=unfinished,
    )


class TestWhatGoesFirst:
    def test_losers_then_low_rungs_then_bad_values_and_the_best_never(self) -> None:
        trials = [
            trial(0, "PAUSED", 0.5),
            trial(1, "PAUSED", 0.9),
            trial(2, "PAUSED", 0.5, 0.8),
            trial(3, "COMPLETE", *[0.3] * 9),
            trial(4, "COMPLETE", *[0.1] * 9),
            trial(5, "COMPLETE", *[0.2] * 9),
            trial(6, "FAIL"),
            trial(7, "PAUSED", 0.99, unfinished=True),
            trial(8, "RUNNING", 0.99),
            trial(9, "PRUNED", 0.05),
            trial(10, "PAUSED", 0.95, saved=False),
            trial(11, "INFEASIBLE"),
        ]
        assert drop_order(StudyView(trials, NINE)) == [6, 9, 11, 3, 5, 1, 0, 2, 7]
        maximized = drop_order(StudyView(trials, NINE, ("maximize",)))
        assert maximized == [6, 9, 11, 4, 5, 0, 1, 2, 7]

    def test_before_one_is_complete_the_best_at_the_highest_fidelity_is_kept(self) -> None:
        trials = [trial(0, "PAUSED", 0.1), trial(1, "PAUSED", 0.5, 0.5), trial(2, "PAUSED", 0.5, 0.4)]
        assert drop_order(StudyView(trials, NINE)) == [0, 1]

    def test_the_whole_pareto_front_is_kept(self) -> None:
        view = StudyView(
            [trial(n, "COMPLETE", *[v] * 9) for n, v in enumerate([0.1, 0.2, 0.3])],
            NINE,
            ("minimize", "minimize"),
            ("value", "size"),
        )
        assert drop_order(view) == []

    def test_earlier_brackets_are_behind_us(self) -> None:
        trials = [trial(n, "PAUSED", *[0.1 * n] * epochs) for n, epochs in enumerate((2, 1, 1, 2), 1)]
        trials = [dataclasses.replace(t, number=i, figures={"bracket": i // 2}) for i, t in enumerate(trials)]
        assert drop_order(StudyView(trials, NINE)) == [1, 2, 3]  # 0 is the best so far

    def test_what_is_paused_without_a_value_goes_before_what_has_one(self) -> None:
        trials = [trial(0, "PAUSED", 0.1), trial(1, "PAUSED", 0.2), trial(2, "PAUSED")]
        assert drop_order(StudyView(trials, NINE)) == [2, 1]
