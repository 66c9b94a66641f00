"""The surrogate: what it learns from which records, and that remembering changes nothing."""

from __future__ import annotations

from typing import Any

import ConfigSpace
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from bonas import spaces
from bonas.surrogate import (
    INACTIVE,
    Collector,
    Encoder,
    Forest,
    Mixture,
    Surrogate,
    normal_scores,
    scalarise,
)
from fidelity.axes import Axes
from fidelity.records import Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState


class Line:
    """A space of one number, and of a second that is active for half of the first."""

    names = encode_names = ("x", "y")

    def encode(self, configurations: list[dict[str, Any]]) -> np.ndarray:
        return np.array([[p["x"], p.get("y", np.nan)] for p in configurations])

    def features_many(self, configurations: list[dict[str, Any]]) -> np.ndarray:
        return np.array([[p["x"] ** 2] for p in configurations])


def encoder() -> Encoder:
    return Encoder(Line())  # type: ignore[arg-type]


def record(
    number: int,
    params: dict[str, Any],
    values: dict[int, float] | float | None,
    state: TrialState = TrialState.COMPLETE,
    fidelity: Fidelity | None = None,
    metric: str = "value",
) -> TrialRecord:
    fidelity = fidelity or Fidelity()
    by_epoch = values if isinstance(values, dict) else {} if values is None else {fidelity.epochs: values}
    curve = Curve(tuple(Observation(e, {metric: v}, 0.1, fidelity) for e, v in by_epoch.items()))
    curves = (curve,) if by_epoch else ()
    return TrialRecord(number, params, f"key{number}", state, fidelity, curves=curves)


def view(trials: list[TrialRecord], axes: Axes | None = None, **kwargs: Any) -> StudyView:
    return StudyView(tuple(trials), axes or Axes(), **kwargs)


losses = st.lists(st.integers(-1000, 1000).map(float), min_size=1, max_size=40)


@given(losses)
def test_scores_keep_the_order_and_ties_and_forget_the_scale(values: list[float]) -> None:
    scores = normal_scores(np.array(values))
    assert np.isfinite(scores).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(scores[order]) >= 0).all()
    assert (np.equal.outer(scores, scores) == np.equal.outer(values, values)).all()
    np.testing.assert_array_equal(scores, normal_scores(np.exp(np.array(values) / 100)))


def test_scores_do_not_depend_on_how_bad_an_outlier_is() -> None:
    np.testing.assert_array_equal(
        normal_scores(np.array([1.0, 2.0, 1e9])), normal_scores(np.array([1.0, 2.0, 3.0]))
    )


def test_forest_learns_and_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((300, 5)).astype(np.float32)
    y = np.where(X[:, 0] > 0.5, 1.0, -1.0) + X[:, 1].astype(np.float64)
    new = rng.random((200, 5)).astype(np.float32)
    mean, std = Forest(X, y, np.random.default_rng(1)).predict(new)
    truth = np.where(new[:, 0] > 0.5, 1.0, -1.0) + new[:, 1]
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.4 * truth.std()
    assert (std > 0).all()
    again = Forest(X, y, np.random.default_rng(1)).predict(new)
    np.testing.assert_array_equal(mean, again[0])
    np.testing.assert_array_equal(std, again[1])


def test_forest_is_surer_where_it_has_seen_something() -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.random((200, 1)) * 0.3, [[1.0]]]).astype(np.float32)
    y = np.append(rng.normal(0, 0.01, 200), 2.0)
    _, std = Forest(X, y, rng).predict(np.array([[0.15], [0.6]], np.float32))
    assert std[1] > 3 * std[0]


def test_a_limit_on_rows_per_tree_still_uses_all_rows() -> None:
    X = np.arange(400, dtype=np.float32)[:, None]
    mean, _ = Forest(X, X[:, 0].astype(np.float64), np.random.default_rng(0), sample_rows=40).predict(X)
    assert np.abs(mean - X[:, 0]).max() < 40


def test_encoder_marks_the_inactive_and_remembers_without_changing_anything() -> None:
    configurations = [{"x": 0.1}, {"x": 0.2, "y": 0.0}, {"x": 0.1}]
    rows = encoder()(configurations)
    np.testing.assert_array_equal(rows[0], np.array([0.1, INACTIVE, 0.1**2], np.float32))
    assert np.isfinite(rows).all()
    encode = encoder()
    for asked in (configurations[:1], configurations, configurations[::-1]):
        np.testing.assert_array_equal(encode.remembered(asked), encode(asked))


def test_encoder_forgets_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Encoder, "_MOST", 5)
    encode = encoder()
    for start in range(4):
        asked = [{"x": (start + i) / 10} for i in range(4)]
        np.testing.assert_array_equal(encode.remembered(asked), encode(asked))
        assert len(encode._rows) <= 5


def test_a_failure_counts_as_the_worst_value_seen_at_full_fidelity() -> None:
    axes = Axes(epochs=(1, 10))
    low = Fidelity(epochs=1)
    for direction, worst in (("minimize", 5.0), ("maximize", -1.0)):
        rows = Collector()(
            view(
                [
                    record(0, {"x": 0.0}, 1.0, TrialState.PAUSED, low),
                    record(1, {"x": 0.1}, 5.0, TrialState.PAUSED, low),
                    record(2, {"x": 0.2}, None, TrialState.FAIL, low),
                ],
                axes,
                directions=(direction,),
            )
        )
        assert rows.losses[2, 0] == worst
        assert rows.positions[2].tolist() == [1.0]
        assert rows.positions[0].tolist() == [0.0]


def test_infeasible_trials_leave_no_row_and_waiting_ones_no_loss() -> None:
    rows = Collector()(
        view(
            [
                record(0, {"x": 0.0}, 1.0),
                record(1, {"x": 0.1}, None, TrialState.INFEASIBLE),
                record(2, {"x": 0.2}, None, TrialState.RUNNING),
                record(3, {"x": 0.3}, None, TrialState.PAUSED),
                record(4, {"x": 0.4}, None, TrialState.PRUNED),
            ]
        )
    )
    assert [t.number for t in rows.trials] == [0, 2, 3]
    assert rows.believed.tolist() == [False, True, True]
    assert np.isnan(rows.losses[1:]).all()


def test_failures_alone_are_nothing_to_learn_from() -> None:
    trials = [record(0, {"x": 0.0}, None, TrialState.FAIL)]
    assert not Collector()(view(trials)).trials
    with pytest.raises(ValueError, match="no observation yet"):
        Surrogate(encoder(), view(trials), np.random.default_rng(0))


@pytest.mark.parametrize("n_process", [0, 300])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_it_learns_from_low_fidelities_what_holds_at_full(direction: str, n_process: int) -> None:
    # Short runs are biased but rank well; hardly any run is full.
    sign = 1 if direction == "minimize" else -1
    axes = Axes(epochs=(1, 16))
    rng = np.random.default_rng(0)
    trials = []
    for number in range(80):
        x = float(rng.random())
        last = 16 if number % 20 == 0 else 4
        curve = {e: sign * (10 + abs(x - 0.7) + 3 / e) for e in (1, 2, 4, 8, 16) if e <= last}
        state = TrialState.COMPLETE if last == 16 else TrialState.PAUSED
        trials.append(record(number, {"x": x}, curve, state, Fidelity(epochs=last)))
    model = Surrogate(encoder(), view(trials, axes, directions=(direction,)), rng, n_process=n_process)
    grid = np.linspace(0, 1, 101)
    mean, std = model.predict([{"x": float(x)} for x in grid])
    assert spearmanr(mean, np.abs(grid - 0.7)).statistic > 0.9
    assert abs(grid[np.argmin(mean)] - 0.7) < 0.1
    assert np.isfinite(std).all()


class Sure:
    """Believes the same of everything."""

    def __init__(self, mean: float, std: float, noise: float = 0.0) -> None:
        self.mean, self.std, self.noise = mean, std, noise

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(X), self.mean), np.full(len(X), self.std)


def test_a_mixture_is_as_sure_as_its_parts_only_where_they_agree() -> None:
    X = np.zeros((3, 1), np.float32)
    mean, std = Mixture(Sure(1.0, 0.5), Sure(1.0, 0.5)).predict(X)
    np.testing.assert_allclose([mean, std], [[1.0] * 3, [0.5] * 3])
    mean, std = Mixture(Sure(0.0, 0.5), Sure(1.0, 0.5)).predict(X)
    rng = np.random.default_rng(0)
    drawn = np.where(rng.random(200_000) < mean[0], 1.0, 0.0) + 0.5 * rng.normal(size=200_000)
    assert (mean[0], std[0]) == pytest.approx((drawn.mean(), drawn.std()), rel=0.02)


def test_the_spread_of_a_belief_holds_the_noise_of_an_evaluation() -> None:
    rng = np.random.default_rng(0)
    trials = [record(i, {"x": i / 60}, i / 60 + float(rng.normal()) / 3) for i in range(60)]
    model = Surrogate(encoder(), view(trials), rng)
    asked = [{"x": 0.51}]
    mean, std = model.predict(asked)
    same, without = model.predict_encoded(encoder()(asked))
    assert mean == same
    assert std > 1.02 * without


def test_several_metrics_are_one_score() -> None:
    scores = np.array([[0.0, 3.0], [2.0, 2.0], [3.0, 0.0]])
    np.testing.assert_allclose(scalarise(scores, np.array([0.5, 0.5])), [1.575, 1.1, 1.575])
    np.testing.assert_array_equal(scalarise(scores[:, :1], np.array([1.0])), scores[:, 0])
    # The metric with the greater weight decides, below the median as above it.
    for shift in (-9.0, 0.0, 9.0):
        first, second = scalarise(scores[[0, 2]] + shift, np.array([0.9, 0.1]))
        assert first < second


def test_a_process_learns_from_the_ends_of_segments() -> None:
    axes = Axes(epochs=(1, 9))
    first, second = Fidelity(epochs=3), Fidelity(epochs=9)
    seen = [Observation(e, {"value": 1 / e}, 0.1, first if e <= 3 else second) for e in range(1, 8)]
    interrupted = TrialRecord(0, {"x": 0.5}, "k0", TrialState.PAUSED, second, curves=(Curve(tuple(seen)),))
    rows = Collector()(view([interrupted, record(1, {"x": 0.1}, None, TrialState.RUNNING)], axes))
    assert rows.losses[rows.ends, 0].tolist()[:2] == [1 / 3, 1 / 7]
    assert rows.ends.sum() == 3


def test_columns_of_one_category_belong_together() -> None:
    space = ConfigSpace.ConfigurationSpace(
        {"a": ["x", "y", "z"], "b": (0.0, 1.0), "c": ConfigSpace.Constant("c", 1), "d": [True, False]}
    )
    encode = Encoder(spaces.Space(space, features=lambda params: [1.0, 2.0]))
    n_columns = encode([encode.space.default]).shape[1] + 1
    assert [int(g) for g in encode.groups(n_columns)] == [0, 0, 0, 1, 3, 3, 4, 5, 6]


def test_many_observations_are_thinned_but_every_trial_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bonas.surrogate._MOST_ROWS", 60)
    axes = Axes(epochs=(1, 20))
    trials = [
        record(
            i,
            {"x": i / 40},
            {e: i / 40 + 1 / e for e in range(1, 21)},
            TrialState.COMPLETE,
            Fidelity(epochs=20),
        )
        for i in range(40)
    ]
    model = Surrogate(encoder(), view(trials, axes), np.random.default_rng(0), n_process=0)
    assert len(model.scores) == 60
    mean, _ = model.predict([t.params for t in trials])
    assert spearmanr(mean, np.arange(40)).statistic > 0.9
