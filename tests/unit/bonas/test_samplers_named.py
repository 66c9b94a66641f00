"""Names, settings and stored forms of samplers, and the errors for wrong ones."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any, ClassVar

import ConfigSpace
import numpy as np
import optuna
import pytest

from bonas import samplers, spaces
from bonas.samplers import (
    EvolutionSampler,
    ForestSampler,
    LocalSearchSampler,
    OptunaSampler,
    RandomSampler,
    SMACSampler,
    TPESampler,
)
from fidelity.axes import Axes
from fidelity.records import Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, bonas.samplers; heavy = 'sklearn optuna smac dask ConfigSpace scipy torch'; "
        "print([m for m in heavy.split() if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("random", RandomSampler),
        ("forest", ForestSampler),
        ("tpe", TPESampler),
        ("smac", SMACSampler),
        ("evolution", EvolutionSampler),
        ("local-search", LocalSearchSampler),
        ("optuna", OptunaSampler),
    ],
)
def test_get_by_short_name(name: str, cls: type) -> None:
    sampler = samplers.get(name, seed=3)
    assert isinstance(sampler, cls)
    assert sampler.seed == 3


def test_unknown_names_get_the_nearest_known_one() -> None:
    with pytest.raises(ValueError, match="unknown sampler 'forrest': Did you mean 'forest'"):
        samplers.get("forrest")
    with pytest.raises(
        ValueError, match=r"unknown sampler 'zzz': There are evolution, forest, local-search, "
    ):
        samplers.get("zzz")
    with pytest.raises(ValueError, match="Did you mean 'ForestSampler'"):
        samplers.from_dict({"name": "ForrestSampler"})
    with pytest.raises(ValueError, match="Did you mean 'TPESampler'"):
        OptunaSampler("TPSampler")


@pytest.mark.parametrize(
    "sampler",
    [
        RandomSampler(seed=1),
        ForestSampler(n_initial=3, n_trees=5, n_incumbents=2, random_fraction=0.25, seed=4),
        TPESampler(n_initial=3, n_candidates=8, seed=6),
        SMACSampler(n_initial=3, n_trees=5, seed=7),
        OptunaSampler("TPESampler", {"n_startup_trials": 3, "multivariate": False}, seed=5),
    ],
)
def test_descriptions_are_json_and_complete(sampler: samplers.Sampler) -> None:
    stored = json.loads(json.dumps(sampler.to_dict()))
    restored = samplers.from_dict(stored)
    assert type(restored) is type(sampler)
    assert restored.to_dict() == sampler.to_dict()
    assert restored.seed == sampler.seed


def test_descriptions_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit this version"):
        samplers.from_dict({"name": "ForestSampler", "n_forests": 2})
    with pytest.raises(ValueError, match="unknown sampler None"):
        samplers.from_dict({})


def test_an_optuna_object_is_described_but_not_stored() -> None:
    sampler = OptunaSampler(optuna.samplers.TPESampler(n_startup_trials=3))
    stored = json.loads(json.dumps(sampler.to_dict()))
    assert stored["object"] == "TPESampler"
    with pytest.raises(ValueError, match=r"TPESampler\(\.\.\.\).*not stored.*load_study"):
        samplers.from_dict(stored)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_initial": 0},
        {"n_trees": 1},
        {"n_incumbents": 0},
        {"random_fraction": -0.1},
        {"random_fraction": 1.5},
        {"random_fraction": "half"},
        {"n_trees": "many"},
        {"n_trees": 2.5},
        {"n_initial": True},
    ],
)
def test_forest_settings_out_of_range(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=rf"^{name}=.*must .*The default is"):
        ForestSampler(**settings)


@pytest.mark.parametrize(
    ("sampler", "settings"),
    [
        (TPESampler, {"n_initial": 0}),
        (TPESampler, {"n_candidates": 0}),
        (TPESampler, {"n_candidates": 2.5}),
        (SMACSampler, {"n_initial": 1}),
        (SMACSampler, {"n_trees": 1}),
        (SMACSampler, {"n_trees": "many"}),
    ],
)
def test_settings_out_of_range(sampler: Any, settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=rf"^{name}=.*must .*The default is"):
        sampler(**settings)


def test_optuna_settings_that_cannot_work() -> None:
    with pytest.raises(ValueError, match="TPESampler does not take them"):
        OptunaSampler("TPESampler", {"n_startups": 1})
    with pytest.raises(ValueError, match="must be plain values that can be stored"):
        OptunaSampler("TPESampler", {"gamma": len})
    with pytest.raises(ValueError, match="only for a sampler given by name"):
        OptunaSampler(optuna.samplers.TPESampler(), {"seed": 1})
    with pytest.raises(ValueError, match="must be a name or an Optuna sampler"):
        OptunaSampler(3)  # type: ignore[arg-type]
    for name in ("CmaEsSampler", "NSGAIISampler", "QMCSampler"):
        with pytest.raises(ValueError, match=f"{name} keeps its state.*Use TPESampler or GPSampler"):
            OptunaSampler(name)
    with pytest.raises(ValueError, match="NSGAIISampler keeps its state"):
        OptunaSampler(optuna.samplers.NSGAIISampler())


def line(n: int, direction: str = "minimize") -> tuple[spaces.Space, StudyView]:
    space = spaces.Space(ConfigSpace.ConfigurationSpace({"x": (0.0, 1.0), "kind": ["a", "b"]}))
    full = Fidelity()
    trials = []
    for i, params in enumerate(space.sample(n, np.random.default_rng(0))):
        value = abs(params["x"] - 0.7) * (1 if direction == "minimize" else -1)
        curve = Curve((Observation(1, {"value": value}, 1.0, full),))
        trials.append(TrialRecord(i, params, space.key(params), TrialState.COMPLETE, full, curves=(curve,)))
    return space, StudyView(tuple(trials), Axes(), directions=(direction,))


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_posterior_prefers_what_was_good(direction: str) -> None:
    space, view = line(60, direction)
    grid = [{"x": x / 20, "kind": "a"} for x in range(21)]
    mean, std = ForestSampler().posterior(space, view, grid)
    assert abs(grid[int(np.argmin(mean))]["x"] - 0.7) <= 0.1
    assert mean.shape == std.shape == (21,)
    assert (std > 0).all()
    again = ForestSampler().posterior(space, view, grid)
    np.testing.assert_array_equal(mean, again[0])


def test_the_posterior_of_nothing_says_so() -> None:
    space, _ = line(1)
    with pytest.raises(ValueError, match="no observation yet"):
        ForestSampler().posterior(space, StudyView((), Axes()), [{"x": 0.5, "kind": "a"}])


def test_running_trials_keep_the_forest_away() -> None:
    # Asked again and again without an answer, it spreads its proposals instead of crowding them.
    space, view = line(30)
    trials = list(view.trials)
    sampler = ForestSampler(random_fraction=0.0)
    for k in range(8):
        params = sampler.sample(space, StudyView(tuple(trials), Axes()), np.random.default_rng(k))
        assert params is not None
        trials.append(TrialRecord(len(trials), params, space.key(params), TrialState.RUNNING, Fidelity()))
    xs = [trial.params["x"] for trial in trials[30:]]
    assert len({trial.key for trial in trials}) == 38
    assert np.ptp(xs) > 0.05


class Talkative(optuna.samplers.RandomSampler):
    """A user's own sampler that notes whether its warnings would be heard."""

    heard: ClassVar[list[bool]] = []

    def sample_independent(self, *arguments: Any) -> Any:
        self.heard.append(logging.getLogger("optuna.talkative").isEnabledFor(logging.WARNING))
        return super().sample_independent(*arguments)


def test_optuna_is_silent_while_it_is_asked_and_the_users_log_level_stays() -> None:
    logger = logging.getLogger("optuna")
    before = logger.level
    space, view = line(20)
    assert OptunaSampler(Talkative()).sample(space, view, np.random.default_rng(0)) is not None
    assert Talkative.heard
    assert not any(Talkative.heard)
    assert logger.level == before
