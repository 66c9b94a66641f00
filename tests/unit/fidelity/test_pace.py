"""The ladder that fits a time limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidelity import SuccessiveHalving
from fidelity.pace import BRACKET, MOST_EPOCHS, Pace, plan


@given(st.floats(1e-6, 1.0), st.integers(500, 200_000), st.floats(10, 1e5))
def test_a_plan_never_exceeds_its_limits(seconds_per_image: float, n_train: int, timeout: float) -> None:
    planned = plan(Pace(seconds_per_image, macs=1_000_000), n_train, n_train // 10, timeout)
    assert 1 <= planned.axes.full.epochs <= MOST_EPOCHS
    assert planned.max_macs >= 1_000_000  # the measured network itself is always allowed
    if planned.axes.full.epochs > 1:
        assert BRACKET * planned.seconds <= timeout


def test_much_time_gives_long_evaluations_of_all_data_and_little_time_short_ones_of_less() -> None:
    pace = Pace(seconds_per_image=1e-3, macs=1_000_000)
    rich = plan(pace, n_train=1000, n_val=100, timeout=1e4)
    poor = plan(pace, n_train=50_000, n_val=5000, timeout=600)
    assert rich.axes.full.epochs == MOST_EPOCHS
    assert rich.axes.lowest.subset == 1.0
    assert poor.axes.full.epochs < 5
    assert poor.axes.lowest.subset < 0.6
    assert poor.seconds < rich.seconds * 50


@pytest.mark.parametrize(("timeout", "rungs"), [(60.0, 4), (600.0, 3), (6000.0, 3), (10_000.0, 2)])
def test_more_time_means_fewer_and_higher_rungs(timeout: float, rungs: int) -> None:
    planned = plan(Pace(2e-4, 7_500_000), n_train=54_000, n_val=6000, timeout=timeout)
    assert len(SuccessiveHalving().rungs(planned.axes)) == rungs
