"""Where learning curves end: what forecasts promise, on curves whose ends are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fidelity import Curve, CurveExtrapolator, Distribution, Fidelity, Observation
from fidelity.extrapolation.scale import Scale

EPOCHS = np.arange(1.0, 51.0)


def power_laws(n: int, seed: int, noise: float = 0.005) -> np.ndarray:
    """(n, 50) losses that fall at different speeds to different ends."""
    rng = np.random.default_rng(seed)
    end, fall, speed = rng.uniform(0.1, 0.5, n), rng.uniform(0.2, 0.6, n), rng.uniform(0.3, 1.5, n)
    curves = end[:, None] + fall[:, None] * EPOCHS ** -speed[:, None]
    return curves + rng.normal(0, noise, curves.shape)


def cut(curves: np.ndarray, seen: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    lengths = np.broadcast_to(seen, (len(curves),))
    return [(EPOCHS[:k], curve[:k]) for k, curve in zip(lengths, curves, strict=True)]


@st.composite
def distributions(draw: Any) -> Distribution:
    n, k = draw(st.integers(1, 4)), draw(st.integers(3, 9))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    levels = np.sort(rng.choice(np.arange(1, 40) / 40, k, replace=False))
    values = rng.normal(size=(n, 1)) + np.cumsum(rng.uniform(0.01, 1, (n, k)), axis=1)
    return Distribution(levels, values)


class TestDistribution:
    @settings(max_examples=60, deadline=None)
    @given(ends=distributions(), q=st.floats(0.001, 0.999))
    def test_quantiles_are_exceeded_as_often_as_they_say(self, ends: Distribution, q: float) -> None:
        assert ends.probability_above(ends.quantiles(q)) == pytest.approx(1 - q, abs=1e-9)

    @settings(max_examples=30, deadline=None)
    @given(ends=distributions())
    def test_the_density_is_that_of_the_quantiles(self, ends: Distribution) -> None:
        q = (np.arange(40_000) + 0.5) / 40_000
        values = ends.quantiles(q)
        assert ends.mean == pytest.approx(values.mean(1), rel=0.02, abs=0.02)
        middle = (values[:, 1:] + values[:, :-1]) / 2
        mass = sum(
            np.exp(ends.log_density(middle[:, j])) * (values[:, j + 1] - values[:, j])
            for j in range(100, 39_800, 199)
        )
        assert mass == pytest.approx(len(range(100, 39_800, 199)) / 40_000, rel=0.02)

    def test_several_levels_and_one_threshold_for_each(self) -> None:
        ends = Distribution(np.array([0.25, 0.5, 0.75]), np.array([[0.0, 1.0, 2.0], [10.0, 20.0, 40.0]]))
        assert ends.quantiles([0.25, 0.5]).tolist() == [[0.0, 1.0], [10.0, 20.0]]
        assert ends.median.tolist() == [1.0, 20.0]
        assert ends.probability_above([1.0, 40.0]).tolist() == [0.5, 0.25]
        assert len(ends) == 2
        assert ends.among(slice(1, 2)).median.tolist() == [20.0]

    @pytest.mark.parametrize("q", [0, 1, -0.1, [0.5, 1.2]])
    def test_levels_outside_are_refused(self, q: Any) -> None:
        with pytest.raises(ValueError, match="within"):
            Distribution(np.array([0.25, 0.75]), np.array([[0.0, 1.0]])).quantiles(q)


class TestScale:
    @settings(max_examples=80, deadline=None)
    @given(
        bulk=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30),
        far=st.lists(st.floats(1e3, 1e34), max_size=5),
    )
    def test_it_is_increasing_and_can_be_undone(self, bulk: list[float], far: list[float]) -> None:
        values = np.sort(np.array([*bulk, *far]))
        scale = Scale.of(values)
        scaled = scale.to(values)
        assert (np.diff(scaled) >= 0).all()
        back = scale.back(scaled)
        assert back == pytest.approx(values, rel=1e-6, abs=1e-9 * scale.spread + 1e-6 * max(map(abs, bulk)))

    def test_explosions_leave_the_unit_to_the_others(self) -> None:
        calm = np.random.default_rng(0).uniform(0.4, 0.7, 400)
        scale, beside = Scale.of(calm), Scale.of(np.concatenate([calm, 10.0 ** np.arange(3, 33)]))
        assert beside.spread == pytest.approx(scale.spread, rel=0.5)
        assert beside.to(np.array([1e32]))[0] < 200


class TestForecasts:
    def test_better_than_the_last_value_and_covering_what_it_says(self) -> None:
        curves = power_laws(240, 0)
        seen = np.array([50] * 20 + [5, 10, 20, 40] * 55)
        ends = CurveExtrapolator().predict(cut(curves, seen), 50)
        partial = seen < 50
        last = curves[np.arange(240), seen - 1]
        error = np.abs(ends.median - curves[:, -1])[partial].mean()
        assert error < 0.5 * np.abs(last - curves[:, -1])[partial].mean()
        low, high = ends.quantiles([0.05, 0.95]).T
        assert 0.8 <= ((low <= curves[:, -1]) & (curves[:, -1] <= high))[partial].mean() <= 0.98

    def test_better_than_the_last_value_with_no_finished_curve(self) -> None:
        curves = power_laws(60, 1)
        ends = CurveExtrapolator().predict(cut(curves, 10), 50)
        assert np.abs(ends.median - curves[:, -1]).mean() < 0.8 * np.abs(curves[:, 9] - curves[:, -1]).mean()

    def test_a_single_curve_is_expected_to_go_on_and_level_off(self) -> None:
        curve = 0.2 + 0.6 * EPOCHS**-0.7
        ends = CurveExtrapolator().predict(cut(curve[None], 10), 50)
        low, middle, high = ends.quantiles([0.05, 0.5, 0.95])[0]
        assert low < curve[-1] < high
        assert abs(middle - curve[-1]) < abs(curve[9] - curve[-1])

    @pytest.mark.parametrize(("factor", "offset"), [(100.0, 0.0), (1e-6, 0.0), (1.0, 1000.0)])
    def test_units_do_not_matter(self, factor: float, offset: float) -> None:
        curves = power_laws(40, 2)
        seen = np.array([50] * 10 + [8] * 30)
        ends = CurveExtrapolator().predict(cut(curves, seen), 50)
        scaled = CurveExtrapolator().predict(cut(factor * curves + offset, seen), 50)
        # Rounding may turn a split of a tree here and there.
        off = np.abs((scaled.median - offset) / factor - ends.median)[10:]
        assert np.median(off) < 0.005
        assert off.mean() < 0.01

    def test_nor_does_the_direction(self) -> None:
        curves = power_laws(120, 3)
        seen = np.array([50] * 20 + [8] * 100)
        falling = CurveExtrapolator().predict(cut(curves, seen), 50)
        rising = CurveExtrapolator().predict(cut(1 - curves, seen), 50)
        errors = [
            np.abs(ends.median - truth)[20:].mean()
            for ends, truth in ((falling, curves[:, -1]), (rising, 1 - curves[:, -1]))
        ]
        assert errors[1] == pytest.approx(errors[0], rel=0.3)

    def test_late_drops_are_believed_possible_once_seen(self) -> None:
        rng = np.random.default_rng(4)
        drops = rng.random(160) < 0.4
        curves = 0.7 - 0.3 * (drops[:, None] & (EPOCHS >= 25)) + rng.normal(0, 0.003, (160, 50))
        seen = np.array([50] * 60 + [10] * 100)
        beats = 1 - CurveExtrapolator().predict(cut(curves, seen), 50).probability_above(0.55)
        # The first ten epochs say nothing of a drop: its frequency is all there is to know.
        assert 0.2 < beats[60:].mean() < 0.6
        never = CurveExtrapolator().predict(cut(np.where(drops[:, None], 0.7, curves), seen), 50)
        assert (1 - never.probability_above(0.55))[60:].mean() < 0.05

    def test_exploding_curves_do_not_spoil_the_others(self) -> None:
        curves = power_laws(80, 5)
        seen = np.array([50] * 20 + [8] * 60)
        alone = CurveExtrapolator().predict(cut(curves, seen), 50)
        exploding = [(EPOCHS[:12], 0.5 * 10.0 ** np.arange(0, 36, 3)) for _ in range(8)]
        beside = CurveExtrapolator().predict(cut(curves, seen) + exploding, 50)
        assert np.isfinite(beside.mean).all()
        errors = [np.abs(ends.median[20:80] - curves[20:, -1]).mean() for ends in (alone, beside)]
        assert errors[1] < 1.5 * errors[0]
        assert (beside.probability_above(1e3)[80:] > 0.5).all()

    def test_features_count_where_prefixes_say_nothing(self) -> None:
        rng = np.random.default_rng(6)
        decides = rng.integers(0, 2, 100)
        curves = 0.7 - np.where(EPOCHS >= 20, 0.4, 0.0) * decides[:, None] + rng.normal(0, 0.01, (100, 50))
        seen = np.array([50] * 50 + [8] * 50)
        blind = CurveExtrapolator().predict(cut(curves, seen), 50)
        told = CurveExtrapolator().predict(cut(curves, seen), 50, features=decides[:, None].astype(float))
        errors = [np.abs(ends.median[50:] - curves[50:, -1]).mean() for ends in (blind, told)]
        assert errors[1] < 0.5 * errors[0]


class TestWhatIsGiven:
    def test_a_curve_that_got_there_ends_as_it_did(self) -> None:
        curves = power_laws(6, 7)
        ends = CurveExtrapolator().predict(cut(curves, [50, 50, 30, 20, 10, 5]), [50, 20, 30, 50, 50, 50])
        assert ends.median[:3] == pytest.approx([curves[0, 49], curves[1, 19], curves[2, 29]])
        assert np.ptp(ends.quantiles([0.05, 0.95])[:3], axis=1) == pytest.approx(0, abs=1e-6)

    def test_what_is_not_finite_is_left_out(self) -> None:
        curves = power_laws(30, 8)
        holed = curves.copy()
        holed[:, 3] = np.nan
        seen = np.array([50] * 10 + [9] * 20)
        without = [(np.delete(e, 3), np.delete(v, 3)) for e, v in cut(curves, seen)]
        diverged = [(np.arange(1.0, 51), np.append(v, np.full(50 - len(v), np.nan))) for _, v in without]
        ends = CurveExtrapolator().predict(cut(holed, seen), 50)
        assert ends.values == pytest.approx(CurveExtrapolator().predict(without, 50).values)
        assert len(CurveExtrapolator().predict(diverged, 50)) == 30

    def test_one_without_values_is_like_the_others(self) -> None:
        curves = power_laws(40, 9)
        given = [*cut(curves, 50), ([], []), ([1, 2], [np.nan, np.inf])]
        ends = CurveExtrapolator().predict(given, 50)
        low, high = ends.quantiles([0.05, 0.95])[40]
        assert 0.8 <= ((low <= curves[:, -1]) & (curves[:, -1] <= high)).mean() <= 1
        assert ends.values[40] == pytest.approx(ends.values[41])

    def test_curves_of_records(self) -> None:
        values = power_laws(12, 10)
        pairs = cut(values, [50] * 6 + [7] * 6)
        curves = [
            Curve(
                tuple(
                    Observation(int(e), {"loss": float(v), "seconds": 1.0}, 0.1, Fidelity(50))
                    for e, v in zip(*pair, strict=True)
                )
            )
            for pair in pairs
        ]
        ends = CurveExtrapolator().predict(curves, 50, metric="loss")
        assert ends.values == pytest.approx(CurveExtrapolator().predict(pairs, 50).values)
        with pytest.raises(ValueError, match=r"metric='\.\.\.'"):
            CurveExtrapolator().predict(curves, 50)

    def test_steps_may_be_of_any_size(self) -> None:
        sizes = 16 * 2 ** (np.arange(20) / 2)
        rng = np.random.default_rng(11)
        curves = [0.9 - rng.uniform(0.2, 0.5) * (sizes / 16) ** -rng.uniform(0.2, 0.8) for _ in range(60)]
        seen = [20] * 20 + [9] * 40
        given = [(sizes[:k], curve[:k]) for k, curve in zip(seen, curves, strict=True)]
        truth = np.array([curve[-1] for curve in curves])
        ends = CurveExtrapolator().predict(given, sizes[-1])
        last = np.array([curve[8] for curve in curves])
        assert np.abs(ends.median - truth)[20:].mean() < 0.5 * np.abs(last - truth)[20:].mean()

    @settings(max_examples=30, deadline=None)
    @given(
        lengths=st.lists(st.integers(0, 6), min_size=1, max_size=6),
        kind=st.sampled_from(["noise", "constant", "zero", "huge"]),
        horizon=st.floats(1, 1e4),
    )
    def test_anything_gives_increasing_finite_quantiles(
        self, lengths: list[int], kind: str, horizon: float
    ) -> None:
        rng = np.random.default_rng(len(lengths))
        factor = {"noise": 1.0, "constant": 0.0, "zero": 0.0, "huge": 1e30}[kind]
        offset = 0.0 if kind == "zero" else 3.0
        curves = [(EPOCHS[:k], offset + factor * rng.normal(size=k)) for k in lengths]
        if not any(lengths):
            with pytest.raises(ValueError, match="finite value"):
                CurveExtrapolator(trees=3).predict(curves, horizon)
            return
        ends = CurveExtrapolator(trees=3).predict(curves, horizon)
        assert len(ends) == len(lengths)
        assert np.isfinite(ends.values).all()
        assert (np.diff(ends.values, axis=1) > 0).all()
        assert np.isfinite(ends.mean).all()
        assert np.isfinite(ends.log_density(offset)).all()

    def test_the_same_curves_give_the_same_forecast(self) -> None:
        given = cut(power_laws(20, 12), 10)
        first, second = (CurveExtrapolator().predict(given, 50).values for _ in range(2))
        assert (first == second).all()

    @pytest.mark.parametrize(
        ("curves", "horizon", "features", "said"),
        [
            ([([1, 2], [0.1])], 10, None, "as many of one"),
            ([([2, 1], [0.1, 0.2])], 10, None, "increase"),
            ([([0, 1], [0.1, 0.2])], 10, None, "positive"),
            ([([1, 2], [0.1, 0.2])], [10, 10], None, "one for each"),
            ([([1, 2], [0.1, 0.2])], -1, None, "positive epoch"),
            ([([1, 2], [0.1, 0.2])], 10, [[1.0], [2.0]], "one row"),
            ([([1, 2], [np.nan, np.nan])], 10, None, "finite value"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, curves: Any, horizon: Any, features: Any, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            CurveExtrapolator().predict(curves, horizon, features)

    @pytest.mark.parametrize("trees", [0, 4, 2.0, True])
    def test_wrong_numbers_of_trees_are_refused(self, trees: Any) -> None:
        with pytest.raises(ValueError, match="multiple of 3"):
            CurveExtrapolator(trees=trees)
