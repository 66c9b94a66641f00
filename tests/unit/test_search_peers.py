"""Other packages behind the search benchmark's methods: what is asked is valid, what is told is learned."""

from __future__ import annotations

import importlib
import importlib.metadata
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import ConfigSpace
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonas import spaces

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def peers() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("search.peers")


def _space() -> spaces.Space:
    """Every kind of hyperparameter, and one that is active only in two of three branches."""
    space = ConfigSpace.ConfigurationSpace(seed=0)
    kind = ConfigSpace.Categorical("kind", ("a", "b", "c"))
    depth = ConfigSpace.Integer("depth", (1, 4))
    space.add(
        kind,
        depth,
        ConfigSpace.Integer("units", (16, 512), log=True),
        ConfigSpace.Float("rate", (1e-4, 1e-1), log=True),
        ConfigSpace.Categorical("size", (3, 5, 7), ordered=True),
        ConfigSpace.InCondition(depth, kind, ["a", "b"]),
    )
    return spaces.Space(space)


def _task(direction: str = "minimize") -> Any:
    return SimpleNamespace(space=_space(), direction=direction)


# Flat configurations -------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(units=st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_every_point_of_the_cube_is_a_configuration(peers: ModuleType, units: list[float]) -> None:
    space = _space()
    params = peers.Flat(space.configuration_space).at(np.array(units))
    assert space.validate(params) == params
    assert ("depth" in params) == (params["kind"] != "c")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_configurations_survive_the_way_to_the_cube_and_back(peers: ModuleType, seed: int) -> None:
    space = _space()
    flat = peers.Flat(space.configuration_space)
    for params in space.sample(3, np.random.default_rng(seed)):
        filled = flat.of(params)
        assert set(filled) == set(space.names)
        assert flat.active(filled) == params
        back = flat.at(np.array([axis.unit(filled[axis.name]) for axis in flat.axes]))
        assert back == params | {"rate": pytest.approx(params["rate"])}


def test_what_has_no_range_and_no_choices_is_refused(peers: ModuleType) -> None:
    with pytest.raises(ValueError, match="ranges only"):
        peers.Axis.of(ConfigSpace.NormalFloatHyperparameter("x", 0, 1, -3, 3))


# An optimizer that calls ---------------------------------------------------------------------------


def test_an_optimizer_that_calls_its_objective_is_asked_and_told(peers: ModuleType) -> None:
    seen = []

    def optimize(evaluate: Callable[[int], float]) -> None:
        for k in range(10**6):
            seen.append(evaluate(k))

    before = threading.active_count()
    called = peers.Called(optimize)
    for k in range(5):
        assert called.ask() == k
        called.tell(k / 2)
    assert called.ask() == 5
    assert seen == [0, 0.5, 1, 1.5, 2]
    del called
    until = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() == before  # dropping the search ended its thread


def test_what_an_optimizer_raises_reaches_who_asks(peers: ModuleType) -> None:
    def optimize(evaluate: Callable[[int], float]) -> None:
        evaluate(0)
        raise KeyError("broken")

    called = peers.Called(optimize)
    called.ask()
    called.tell(1.0)
    with pytest.raises(KeyError, match="broken"):
        called.ask()


# The packages --------------------------------------------------------------------------------------

METHODS = (
    "Optuna TPE",
    "Optuna GP",
    "SMAC RF",
    "SMAC GP",
    "DEHB",
    "NePS",
    "Syne Tune CQR",
    "Syne Tune BORE",
    "BoTorch",
)


def test_every_peer_is_tested(peers: ModuleType) -> None:
    assert tuple(peers.PEERS) == METHODS


def _entry(peers: ModuleType, method: str) -> Any:
    entry = peers.PEERS[method]
    for package in entry.packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed: make peers")
    return entry


def _search(search: Any, tell: Callable[[dict[str, Any]], tuple[dict[str, Any], float]], n: int) -> list[Any]:
    asked = []
    for _ in range(n):
        asked.append(search.ask())
        search.tell(*tell(asked[-1]))
    return asked


@pytest.mark.filterwarnings("ignore")  # what other packages warn of is not ours
@pytest.mark.parametrize("method", METHODS)
def test_peers_propose_valid_configurations_and_repeat_themselves(peers: ModuleType, method: str) -> None:
    entry, task = _entry(peers, method), _task()

    def tell(params: dict[str, Any]) -> tuple[dict[str, Any], float]:
        return params, np.log10(params["rate"]) ** 2 + (params["kind"] == "a")

    found = [_search(entry.make(task, seed), tell, n) for seed, n in ((1, 12), (1, 12), (2, 3))]
    for params in found[0]:
        assert task.space.validate(params) == params
        assert all(type(value) in (str, int, float) for value in params.values())
    assert found[0] == found[1]
    assert found[0][:3] != found[2]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("method", "direction"), [("Optuna TPE", "maximize"), ("Optuna TPE", "minimize"), ("SMAC RF", "maximize")]
)
def test_peers_learn_of_configurations_they_did_not_ask_for(
    peers: ModuleType, method: str, direction: str
) -> None:
    """The values of what was proposed would mislead: what is told is another branch with its own value."""
    entry, task = _entry(peers, method), _task(direction)
    told = iter(task.space.sample(40, np.random.default_rng(0)))
    sign = 1 if direction == "minimize" else -1

    def tell(asked: dict[str, Any]) -> tuple[dict[str, Any], float]:
        params = next(told)
        return params, sign * (abs(np.log10(params["rate"]) + 2) + 2 * (params["kind"] != "c"))

    asked = _search(entry.make(task, 0), tell, 40)
    assert np.mean([params["kind"] == "c" for params in asked[28:]]) > 0.5
