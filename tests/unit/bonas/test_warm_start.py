"""What earlier studies say in the words of another space, and how far they are believed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import ConfigSpace
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bonas
from bonas import spaces
from bonas.earlier import Beliefs, agreement
from bonas.samplers import EvolutionSampler, RandomSampler
from bonas.surrogate import Encoder
from bonas.warm_start import MOST, told, translated
from fidelity.records import Curve, Earlier, Observation


def space(**hyperparameters: Any) -> spaces.Space:
    return spaces.Space(ConfigSpace.ConfigurationSpace(hyperparameters))


def study(of: spaces.Space, n: int = 12, **more: Any) -> bonas.Study:
    made = bonas.create_study(**({"space": of, "sampler": RandomSampler(), "study_name": "old"} | more))
    if n:
        made.optimize(lambda trial: float(trial.params["x"]), n_trials=n)
    return made


def conditional() -> spaces.Space:
    made = ConfigSpace.ConfigurationSpace()
    kind = ConfigSpace.Categorical("kind", ["a", "b", "c"])
    rate = ConfigSpace.Float("rate", (1e-3, 1.0), log=True)
    units = ConfigSpace.Integer("units", (1, 8))
    made.add(kind, rate, units)
    made.add(ConfigSpace.EqualsCondition(rate, kind, "a"), ConfigSpace.InCondition(units, kind, ["a", "b"]))
    made.add(
        ConfigSpace.ForbiddenAndConjunction(
            ConfigSpace.ForbiddenEqualsClause(kind, "b"), ConfigSpace.ForbiddenEqualsClause(units, 8)
        )
    )
    return spaces.Space(made)


# Translation -----------------------------------------------------------------------------------


def test_the_same_space_says_the_same() -> None:
    configurations = conditional().sample(50, np.random.default_rng(0))
    assert translated(configurations, conditional()) == configurations


def test_numbers_become_the_nearest_and_unknown_choices_leave_nothing() -> None:
    here = space(x=(0.0, 1.0), n=(1, 4), kind=["a", "b"])
    found = translated(
        [
            {"x": 7.0, "n": 9, "kind": "a"},
            {"x": -1, "n": 2.6, "kind": "b"},
            {"x": 0.5, "n": 2, "kind": "z"},
            {"x": "0.5", "n": 2, "kind": "a"},
        ],
        here,
    )
    assert found == [{"kind": "a", "n": 4, "x": 1.0}, {"kind": "b", "n": 3, "x": 0.0}, None, None]


def test_what_is_new_is_drawn_and_what_is_gone_is_dropped() -> None:
    here = space(x=(0.0, 1.0), new=(0.0, 1.0))
    found = translated([{"x": 0.25, "gone": 3}] * 50, here)
    assert {params["x"] for params in found if params} == {0.25}
    assert np.ptp([params["new"] for params in found if params]) > 0.5


def test_what_was_fixed_since_is_as_it_is_fixed() -> None:
    here = space(x=(0.0, 1.0), rate=(0.0, 1.0), kind=["a", "b"]).fix({"rate": 0.5, "kind": "a"})
    found = translated([{"x": 0.1, "rate": 0.2, "kind": "a"}, {"x": 0.1, "rate": 0.2, "kind": "b"}], here)
    assert found == [here.validate({"x": 0.1, "rate": 0.5, "kind": "a"}), None]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["kind", "rate", "units", "other"]),
            st.one_of(st.floats(allow_nan=False), st.integers(), st.booleans(), st.sampled_from("abcz")),
        ),
        max_size=8,
    )
)
def test_whatever_is_said_becomes_a_configuration_or_nothing(configurations: list[dict[str, Any]]) -> None:
    here = conditional()
    found = translated(configurations, here)
    assert len(found) == len(configurations)
    assert all(params == here.validate(params) for params in found if params is not None)


# What is told ----------------------------------------------------------------------------------


def test_scores_rank_configurations_as_the_study_believes_them() -> None:
    here = space(x=(0.0, 1.0), kind=["a", "b"])
    (one,) = told([study(here, 40)], here, ("value",), ("minimize",))
    xs = [params["x"] for params in one.params]
    assert np.corrcoef(xs, one.scores["value"])[0, 1] > 0.8
    turned = study(here, 40, direction="maximize")
    (other,) = told([turned], here, ("accuracy",), ("minimize",))
    assert np.corrcoef([p["x"] for p in other.params], other.scores["accuracy"])[0, 1] < -0.8
    assert Earlier.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_of_a_long_study_the_best_are_kept_and_a_sample_of_the_others() -> None:
    here = space(x=(0.0, 1.0))
    long = bonas.create_study(space=here, study_name="long", sampler=RandomSampler())
    for record in study(here, 8).records:
        long.add_trial(record)
    rng = np.random.default_rng(0)
    template = long.records[0]
    for x in rng.random(MOST + 60):
        seen = Observation(1, {"value": float(x)}, 1.0, template.fidelity)
        long.add_trial(dataclasses.replace(template, params={"x": float(x)}, curves=(Curve((seen,)),)))
    (one,) = told([long], here, ("value",), ("minimize",))
    xs = sorted(params["x"] for params in one.params)
    assert len(xs) == len(set(xs)) == MOST
    best = sorted(t.params["x"] for t in long.trials)[: MOST // 4]
    assert set(best) <= set(xs)
    assert max(xs) > 0.95


@pytest.mark.parametrize(
    ("made", "settings", "said"),
    [
        (lambda here: study(here), {}, r"warm_start=.*must be a list of studies. Write \[study\]"),
        (lambda here: ["old.db"], {}, "'old.db' is no study. Open a stored one with bonas.load_study"),
        (lambda here: [study(here, 0)], {}, "no trial of 'old' has a value yet"),
        (
            lambda here: [study(here)],
            {"directions": ["minimize", "minimize"], "metric_names": ["a", "b"]},
            r"'old' has the metrics \['value'\]",
        ),
        (lambda here: [study(here)], {"sampler": EvolutionSampler()}, "EvolutionSampler learns nothing"),
    ],
)
def test_what_cannot_be_learned_from(made: Any, settings: dict[str, Any], said: str) -> None:
    here = space(x=(0.0, 1.0))
    with pytest.raises(ValueError, match=said):
        bonas.create_study(**({"space": here, "warm_start": made(here)} | settings))


def test_a_space_with_nothing_in_common() -> None:
    old = study(space(x=(0.0, 1.0)))
    with pytest.raises(ValueError, match="no configuration that means something here"):
        bonas.create_study(space=space(z=(0.0, 1.0)), warm_start=[old])


def test_a_metric_that_changed_its_direction() -> None:
    settings = {"space": space(x=(0.0, 1.0)), "metric_names": ["a", "b"]}
    old = bonas.create_study(directions=["minimize", "minimize"], study_name="old", **settings)
    with pytest.raises(ValueError, match="'old' has 'b' minimized, this study maximizes it"):
        bonas.create_study(directions=["minimize", "maximize"], warm_start=[old], **settings)


# Agreement -------------------------------------------------------------------------------------


def test_who_agrees_is_believed_and_who_does_not_is_not() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=60)
    beliefs = np.stack([truth + 0.2 * rng.normal(size=60), rng.normal(size=60), -truth], axis=1)
    weights = agreement(beliefs, truth, [0] * 60)
    assert weights[0] > 0.7
    assert weights[1] < 0.25
    assert weights[2] == 0


def test_before_anything_is_seen_all_are_believed_alike() -> None:
    nothing = agreement(np.empty((0, 2)), np.empty(0), [])
    assert nothing[0] == nothing[1] > 0
    one = agreement(np.array([[2.0, -1.0]]), np.array([0.0]), [0])
    np.testing.assert_allclose(one, nothing)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(-5, 5))
def test_fidelities_are_not_compared_with_each_other(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    beliefs, scores = rng.normal(size=(12, 2)), rng.normal(size=12)
    groups = [(0,)] * 5 + [(1,)] * 7
    moved = scores + shift * np.array([g == (1,) for g in groups])
    np.testing.assert_allclose(
        agreement(beliefs, moved, groups), agreement(beliefs, scores, groups), atol=1e-8
    )
    assert (agreement(beliefs, scores, groups) >= 0).all()


def test_what_comes_first_is_good_and_not_the_same_again() -> None:
    here = space(x=(0.0, 1.0), y=(0.0, 1.0))
    rng = np.random.default_rng(0)
    # A search that ended where it thought best, and what it saw before.
    xy = np.concatenate([0.3 + 1e-3 * rng.random((40, 2)), rng.random((40, 2))])
    params = tuple({"x": float(x), "y": float(y)} for x, y in xy)
    scores = np.abs(xy - 0.3).sum(axis=1)
    beliefs = Beliefs(Encoder(here), (Earlier("old", params, {"value": tuple(scores)}),), ("value",))
    first = [np.array([p["x"], p["y"]]) for p in beliefs.leading(4)]
    assert all(np.abs(a - b).sum() > 0.01 for i, a in enumerate(first) for b in first[:i])
    assert np.abs(first[0] - 0.3).sum() < 0.01
    assert len(beliefs.best(0)) == 80


def test_going_on_with_a_sampler_that_would_forget_is_refused(tmp_path: Path) -> None:
    here = space(x=(0.0, 1.0))
    stored = {"storage": tmp_path / "study.db", "study_name": "warm"}
    bonas.create_study(space=here, warm_start=[study(here)], **stored)
    with pytest.raises(ValueError, match="EvolutionSampler learns nothing"):
        bonas.load_study(sampler=EvolutionSampler(), **stored)
    assert bonas.load_study(**stored).space.names == here.names
