"""The training hyperparameters offered by default: conditional, sensible, fit for what the network reads."""

from __future__ import annotations

from typing import Any

import ConfigSpace
import numpy as np
import pytest

from spaces import Space, default_hyperparameters
from spaces.hyperparameters import HYPERPARAMETERS

IMAGES = {"augmentation", "cutout"}


def space(**arguments: Any) -> Space:
    empty = Space(ConfigSpace.ConfigurationSpace({"units": (1, 8)}))
    return empty.with_hyperparameters(default_hyperparameters(**arguments))


def test_the_default_is_what_one_would_try_first() -> None:
    assert space(reads=("dropout", "drop_path")).default == {
        "units": 4,
        "optimizer": "adamw",
        "lr": 0.003,
        "beta1": 0.9,
        "schedule": "cosine",
        "weight_decay": 0.001,
        "batch_size": 64,
        "label_smoothing": 0.1,
        "mixup": 0.0,
        "cutout": 0.0,
        "augmentation": "none",
        "dropout": 0.0,
        "drop_path": 0.0,
    }


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        ({}, {"drop_path"}),
        ({"reads": ()}, {"drop_path", "dropout"}),
        ({"reads": ("drop_path",)}, {"dropout"}),
        ({"images": False}, {"drop_path"} | IMAGES),
    ],
)
def test_only_what_is_read_is_offered(arguments: dict[str, Any], without: set[str]) -> None:
    names = {h.name for h in default_hyperparameters(**arguments) if hasattr(h, "name")}
    assert names == {entry.name for entry in HYPERPARAMETERS} - without


def test_every_optimizer_has_its_own_hyperparameters() -> None:
    own = {"sgd": {"momentum", "nesterov"}, "adamw": {"beta1"}, "muon": {"momentum"}}
    found = {}
    for params in space().sample(60, np.random.default_rng(0)):
        found.setdefault(params["optimizer"], params.keys() & set.union(*own.values()))
        assert params.keys() & set.union(*own.values()) == own[params["optimizer"]]
    assert found.keys() == own.keys()


def test_what_is_off_by_default_is_off_in_a_share_of_the_draws() -> None:
    drawn = space().sample(300, np.random.default_rng(0))
    for name in ("mixup", "cutout"):
        assert 0.1 < np.mean([params[name] == 0 for params in drawn]) < 0.5


def test_each_call_makes_new_objects() -> None:
    for _ in range(2):
        assert space() == space()
