"""What a study is made of, as JSON and back, and what counts as another study."""

from __future__ import annotations

import json

import pytest
from ConfigSpace import ConfigurationSpace

import bonas
from bonas import fidelity, spaces
from bonas.definition import define, needed, refuse_differences, restore
from bonas.samplers import RandomSampler

SPACE = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}))
NINE = fidelity.Axes(epochs=(1, 9))


def definition(**changes: object) -> object:
    settings = {
        "space": SPACE,
        "axes": NINE,
        "directions": ("maximize",),
        "metric_names": ["accuracy"],
        "constraints": {"parameters": 5},
        "seed": 3,
        "sampler": RandomSampler(seed=1),
        "scheduler": fidelity.SuccessiveHalving(eta=4),
    }
    return define(**(settings | changes))  # type: ignore[arg-type]


def test_json_brings_it_back() -> None:
    made = definition()
    again = restore(json.loads(json.dumps(made.to_dict())), None, None, None)  # type: ignore[attr-defined]
    assert again.to_dict() == made.to_dict()  # type: ignore[attr-defined]
    assert again.scheduler == fidelity.SuccessiveHalving(eta=4)


def test_sampler_scheduler_and_seed_may_change_what_observations_mean_may_not() -> None:
    stored = definition().to_dict()  # type: ignore[attr-defined]
    for change in ({"sampler": RandomSampler()}, {"scheduler": fidelity.FullFidelity()}, {"seed": 9}):
        refuse_differences(definition(**change), stored)  # type: ignore[arg-type]
    for change, said in (
        ({"axes": fidelity.Axes(epochs=(1, 10))}, r"axes was .*9.* is now .*10"),
        ({"directions": ("minimize",)}, "directions"),
        ({"constraints": {}}, "constraints"),
        ({"space": spaces.Space(ConfigurationSpace({"x": (0.0, 2.0)}))}, "space"),
    ):
        with pytest.raises(ValueError, match=said):
            refuse_differences(definition(**change), stored)  # type: ignore[arg-type]


def test_ones_own_parts_are_named_and_asked_for() -> None:
    class Own:
        seed = None

        def sample(self, *_: object) -> None: ...

        def decide(self, *_: object) -> None: ...

    stored = json.loads(json.dumps(definition(sampler=Own(), scheduler=Own()).to_dict()))  # type: ignore[attr-defined]
    restored = restore(stored, None, None, None)
    assert restored.sampler is None
    assert restored.scheduler is None
    with pytest.raises(bonas.MissingFunctionError, match=r"load_study\(..., scheduler=...\)"):
        needed(restored.scheduler, "scheduler")
    own = Own()
    assert needed(restore(stored, None, own, own).sampler, "sampler") is own  # type: ignore[arg-type]


def test_nothing_is_imported_by_a_stored_name() -> None:
    stored = json.loads(json.dumps(definition().to_dict()))  # type: ignore[attr-defined]
    stored["sampler"] = {"name": "os.system", "command": "true"}
    stored["scheduler"] = {"name": "builtins.eval"}
    assert restore(stored, None, None, None).sampler is None
    assert restore(stored, None, None, None).scheduler is None
