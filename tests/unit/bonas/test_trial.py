"""The trial handle by itself: reading numbers, when checkpoints are written, merging curves, adopting."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ConfigSpace import ConfigurationSpace
from hypothesis import given
from hypothesis import strategies as st

import bonas.trial
from bonas import spaces
from bonas.saved import merged, saved
from bonas.segment import Segment
from bonas.trial import Trial
from bonas.values import read_values
from fidelity.axes import Axes
from fidelity.records import Fidelity, Observation, TrialRecord, TrialState

NINE = Axes(epochs=(1, 9))
SPACE = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}))


def handle(folder: Path, **changes: Any) -> Trial:
    record = TrialRecord(0, {"x": 0.5}, "k", TrialState.RUNNING, Fidelity(epochs=9), seed=5)
    segment = {"axes": NINE, "directions": ("minimize",), "metric_names": ("value",), "folder": str(folder)}
    return Trial(Segment(**({"record": record} | segment | changes)), SPACE)


class TestNumbers:
    @pytest.mark.parametrize(
        "value", [2, 2.0, np.float16(2), np.array(2), np.array([[2.0]]), torch.tensor([2]), Fraction(2)]
    )
    def test_what_is_a_number(self, value: Any) -> None:
        assert read_values(value, ["v"]) == ({"v": 2.0}, None)
        assert type(read_values(value, ["v"])[0]["v"]) is float

    @pytest.mark.parametrize(
        "value", ["2", True, np.bool_(True), None, [2.0], np.zeros(2), torch.zeros(2), 2j]
    )
    def test_what_is_none(self, value: Any) -> None:
        with pytest.raises(TypeError, match="must be a number"):
            read_values(value, ["v"])

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, torch.tensor(math.nan)])
    def test_what_is_not_finite_is_a_fault(self, value: Any) -> None:
        values, fault = read_values({"v": value, "other": 1}, ["v"])
        assert values == {"other": 1.0}
        assert "v=" in str(fault)


class TestWriting:
    def test_states_are_written_at_most_once_a_minute_until_the_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = [0.0]
        monkeypatch.setattr("bonas.trial.time.monotonic", lambda: clock[0])
        trial, written = handle(tmp_path), []
        for epoch in trial.epochs():
            clock[0] += 25.0
            trial.report(1.0, epoch)
            trial.save_checkpoint({"epoch": epoch})
            newest = saved(tmp_path, 0)
            written.append(newest.record.epoch if newest else 0)
        assert written == [0, 0, 3, 3, 3, 6, 6, 6, 9]
        assert trial.collect().checkpoint is not None

    def test_a_signal_in_the_middle_of_a_write_waits_for_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from fidelity import checkpoints

        trial, calls = handle(tmp_path), []
        original = checkpoints.write

        def write(*arguments: Any, **keywords: Any) -> Any:
            calls.append(1)
            assert trial.flush() is None  # as the signal's handler does
            return original(*arguments, **keywords)

        monkeypatch.setattr(checkpoints, "write", write)
        next(iter(trial.epochs()))
        trial.report(1.0, 1)
        trial.save_checkpoint({"a": 1})
        record = trial.flush()
        assert record is not None
        assert (record.epoch, len(calls)) == (1, 1)
        assert trial.flush() == record
        assert len(calls) == 1

    def test_a_checkpoint_carries_observations_and_attributes(self, tmp_path: Path) -> None:
        trial = handle(tmp_path)
        trial.set_user_attr("a", [1])
        for epoch in trial.epochs():
            trial.report({"value": 1.0 / epoch, "extra": 2.0}, epoch)
            if epoch == 3:
                trial.save_checkpoint({"w": torch.ones(2)})
            if epoch == 5:
                break
        trial.flush()
        found = saved(tmp_path, 0)
        assert found is not None
        assert [o.epoch for o in found.observations] == [1, 2, 3]
        assert found.observations[1].values == {"value": 0.5, "extra": 2.0}
        assert found.user_attrs == {"a": [1]}
        again = handle(tmp_path)
        assert torch.equal(again.load_checkpoint()["w"], torch.ones(2))
        assert again.user_attrs == {"a": [1]}
        assert next(iter(again.epochs())) == 4
        assert again.collect().reported  # what the checkpoint carries counts as reported

    def test_the_stop_file_and_the_deadline_end_the_epochs(self, tmp_path: Path) -> None:
        stop = tmp_path / "stop"
        trial = handle(tmp_path, stop_file=str(stop))
        seen = []
        for epoch in trial.epochs():
            seen.append(epoch)
            if epoch == 2:
                stop.touch()
        assert seen == [1, 2]
        assert trial.collect().interrupted
        late = handle(tmp_path, deadline=1.0)
        assert list(late.epochs()) == []
        assert late.collect().interrupted

    def test_a_handle_adopts_what_its_copy_collected(self, tmp_path: Path) -> None:
        copy, original = handle(tmp_path / "a"), handle(tmp_path / "b")
        copy.report(1.0, 9)
        copy.set_user_attr("from", "afar")
        original.adopt(copy.collect())
        assert original.collect() == copy.collect()
        assert original.user_attrs == {"from": "afar"}

    def test_the_interval_is_a_minute(self) -> None:
        assert bonas.trial.CHECKPOINT_INTERVAL == 60.0


observations = st.lists(
    st.tuples(st.integers(1, 9), st.floats(-5, 5), st.floats(0, 2)), max_size=9, unique_by=lambda o: o[0]
).map(lambda os: tuple(Observation(e, {"value": v}, c, Fidelity(epochs=9)) for e, v, c in sorted(os)))


@given(observations, observations)
def test_merging_keeps_every_epoch_the_known_values_and_the_larger_cost(carried: Any, known: Any) -> None:
    by_epoch = {o.epoch: o for o in merged(carried, known)}
    assert sorted(by_epoch) == [o.epoch for o in merged(carried, known)]
    assert by_epoch.keys() == {o.epoch for o in (*carried, *known)}
    for o in known:
        assert by_epoch[o.epoch].values == o.values
    for o in (*carried, *known):
        assert by_epoch[o.epoch].cost >= o.cost
    assert merged((), known) == known
    assert merged(carried, ()) == carried
