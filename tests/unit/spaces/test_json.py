"""Whole spaces through JSON and another process."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import ConfigSpace
import numpy as np
import pytest

import spaces
from spaces import Space


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "round_trip.py"))


def again(space: Space) -> Space:
    return Space.from_dict(json.loads(json.dumps(space.to_dict())))


def test_random_spaces_come_back(benchmark: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        space = benchmark["random_space"](rng)
        params = space.sample(1, rng)[0]
        sent = json.loads(json.dumps(benchmark["described"](space, params)))
        back = benchmark["described"](again(space), sent["params"])
        assert json.loads(json.dumps(back)) == sent


def test_random_spaces_come_back_from_another_process(benchmark: dict[str, Any]) -> None:
    assert list(benchmark["unequal"](20, seed=2)) == []


def test_values_keep_their_types() -> None:
    cs = ConfigSpace.ConfigurationSpace()
    cs.add(
        ConfigSpace.CategoricalHyperparameter("flag", [True, False]),
        ConfigSpace.CategoricalHyperparameter("one", [1, 2]),
        ConfigSpace.CategoricalHyperparameter("shape", [(1, (2, 3)), (4, (5, 6))]),
        ConfigSpace.Integer("n", (1, 512), log=True),
        ConfigSpace.Constant("c", 2.0),
    )
    space = Space(cs)
    for params in again(space).sample(20, np.random.default_rng(0)):
        assert [type(params[name]) for name in ("flag", "one", "shape", "n", "c")] == [
            bool,
            int,
            tuple,
            int,
            float,
        ]
        assert again(space).validate(json.loads(json.dumps(params))) == params
    assert again(again(space)) == space


def test_meta_is_kept() -> None:
    cs = ConfigSpace.ConfigurationSpace()
    cs.add(ConfigSpace.Float("lr", (1e-4, 1e-1), log=True, meta={"unit": "per step", "tags": ["a"]}))
    assert again(Space(cs)).configuration_space["lr"].meta == {"unit": "per step", "tags": ["a"]}


def test_a_newer_version_says_what_to_do() -> None:
    data = spaces.chain((1, 8, 8), 10).to_dict()
    with pytest.raises(
        ValueError, match=r"space of version 2: this bonas reads versions up to 1\. Upgrade bonas"
    ):
        Space.from_dict(data | {"version": 2})
    # A newer version may have parts of other names: the version is what is said first.
    with pytest.raises(ValueError, match="Upgrade bonas"):
        Space.from_dict({"version": 3, "networks": []})
    with pytest.raises(ValueError, match="Upgrade bonas if a newer one wrote the space"):
        Space.from_dict(data | {"architecture": {"kind": "transformer"}})
