"""Which records have changed, and that a table of what they say holds no record for longer than it is one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidelity import Fidelity, TrialRecord, TrialState
from fidelity.changes import Changes, resized
from fidelity.rungs import Reader


def record(number: int) -> TrialRecord:
    return TrialRecord(number, {}, str(number), TrialState.PAUSED, Fidelity())


def test_what_is_another_object_has_changed() -> None:
    changes, records = Changes(), [record(i) for i in range(3)]
    assert changes.since(records) == [0, 1, 2]
    assert changes.since(records) == [0, 1, 2]  # nobody has read them yet
    changes.read(records)
    assert changes.since(records) == []
    records[1] = dataclasses.replace(records[1], lost=1.0)
    records.append(record(3))
    assert changes.since(records) == [1, 3]
    changes.read(records)
    assert changes.since(records[:2]) == []
    assert changes.since(records, of="another question") == [0, 1, 2, 3]


# Of a study at each of several times: how often each of its trials has changed.
times = st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=6)


@given(times)
def test_what_is_read_is_what_the_records_say_now(times: list[list[int]]) -> None:
    known: dict[tuple[int, int], TrialRecord] = {}
    reader = Reader()
    for changed in times:
        trials = [
            known.setdefault((i, n), dataclasses.replace(record(i), lost=float(n)))
            for i, n in enumerate(changed)
        ]
        table = reader.read(trials, None, lambda trial: (trial.number, trial.lost))
        assert table.reshape(len(trials), 2).tolist() == [[i, n] for i, n in enumerate(changed)]


def test_a_record_that_could_not_be_read_is_read_again() -> None:
    reader, trials = Reader(), [record(0), record(1)]

    def fails(trial: TrialRecord) -> list[float]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        reader.read(trials, None, fails)
    assert reader.read(trials, None, lambda trial: [trial.number]).tolist() == [[0], [1]]


def test_a_table_grows_and_shrinks_at_its_end() -> None:
    table = np.arange(6.0).reshape(3, 2)
    assert resized(table, 4)[:3].tolist() == table.tolist()
    assert resized(table, 2).tolist() == table[:2].tolist()
