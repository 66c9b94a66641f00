"""Constraints: what is counted, predicted and measured before training, and what is refused."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sqlite3
from typing import Any

import pytest
from ConfigSpace import ConfigurationSpace

import bonas
from bonas import Latency, TrialState, feasibility, fidelity, spaces
from bonas import study as study_module
from bonas.feasibility import Feasibility, checked
from bonas.samplers import RandomSampler
from fidelity import latency, memory
from fidelity.records import Fidelity, TrialRecord

SPACE = spaces.cell("nas_bench_201", (3, 16, 16), 10, filters=4, cells=1).with_hyperparameters()
OWN = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}), count=lambda params, prune: spaces.Count(5, 7))
AXES = fidelity.Axes(epochs=(1, 9))
EMPTY = SPACE.default | {f"edge{i}": "none" for i in range(6)}


def feasible(constraints: dict[str, Any], axes: fidelity.Axes = AXES) -> Feasibility:
    return Feasibility(SPACE, checked(constraints, SPACE), axes)


def trial(number: int, **figures: Any) -> TrialRecord:
    return TrialRecord(number, SPACE.default, "key", TrialState.RUNNING, Fidelity(), figures=figures)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Instead of measuring: a millisecond for each thousand parameters; every measurement is noted."""
    calls: list[tuple[Any, ...]] = []

    def measure(model: Any, input_shape: Any, device: Any, batch_size: int = 1) -> float:
        calls.append((tuple(input_shape), str(device), batch_size))
        return sum(p.numel() for p in model.parameters()) / 1e6

    monkeypatch.setattr(latency, "measure", measure)
    return calls


# What is counted ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["parameters", "macs"])
def test_counts_are_exact_at_their_bound(name: str) -> None:
    size = getattr(SPACE.count(SPACE.default), name)
    assert feasible({name: size}).load(SPACE.default) == 1
    assert feasible({name: size}).judge(SPACE.default, ()).reason is None
    below = feasible({name: size - 1})
    assert below.load(SPACE.default) > 1
    assert below.judge(SPACE.default, ()).reason == f"{name} = {size:,} above {size - 1:,}"
    assert below.judge(EMPTY, ()).reason is None


def test_the_load_is_that_of_the_constraint_that_is_used_most() -> None:
    size = SPACE.count(SPACE.default)
    both = feasible({"parameters": 2 * size.parameters, "macs": 4 * size.macs})
    assert both.load(SPACE.default) == 0.5


def test_memory_is_predicted_for_full_fidelity_and_the_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "uses_mixed_precision", lambda: False)
    params = SPACE.default
    expected = memory.predicted(SPACE.footprint(params), params, mixed=False)
    assert feasible({"memory": expected}).load(params) == 1
    verdict = feasible({"memory": expected - 1}).judge(params, ())
    assert verdict.reason == f"memory = {expected:,} above {expected - 1:,} bytes"
    assert verdict.noted == {"predicted_memory": expected}
    assert feasible({"memory": expected}).load(params | {"batch_size": 2 * params["batch_size"]}) > 1.5
    large = fidelity.Axes(epochs=(1, 9), resolution=(8, 32))
    assert feasible({"memory": expected}, large).load(params) > 2


def test_nothing_is_measured_that_is_counted_out(clock: list[Any]) -> None:
    both = feasible({"parameters": 1, "latency": 1.0})
    assert "parameters" in str(both.judge(SPACE.default, ()).reason)
    assert clock == []


# What is measured -----------------------------------------------------------------------------


def test_latency_is_measured_once_for_each_network(clock: list[Any]) -> None:
    limit = feasible({"latency": Latency(0.5, "cpu", batch_size=4)})
    first = limit.judge(SPACE.default, ())
    assert clock == [((3, 16, 16), "cpu", 4)]
    assert first.reason is None
    assert first.noted == {"measured_latency": first.figures["latency"]["seconds"]}
    known = json.loads(json.dumps(first.figures))  # as it comes back from the store
    trained_differently = SPACE.default | {"lr": 2 * SPACE.default["lr"]}
    again = limit.judge(trained_differently, [trial(0), trial(1, **known)])
    assert again == first
    assert len(clock) == 1
    limit.judge(EMPTY, [trial(1, **known)])
    assert len(clock) == 2


def test_what_was_measured_on_another_device_does_not_count(clock: list[Any]) -> None:
    limit = feasible({"latency": Latency(0.5, "cpu")})
    figures = limit.judge(SPACE.default, ()).figures["latency"]
    limit.judge(SPACE.default, [trial(0, latency=figures | {"device": "cuda"})])
    assert len(clock) == 2


@pytest.mark.parametrize(
    "damaged", [None, 3, {}, {"seconds": "fast"}, {"seconds": math.nan}, {"seconds": -1.0}]
)
def test_damaged_figures_are_measured_again(damaged: Any, clock: list[Any]) -> None:
    limit = feasible({"latency": 0.5})
    if isinstance(damaged, dict):
        damaged |= {"network": SPACE.network_key(SPACE.default), "device": limit._device()}
    assert limit.excess(trial(0, latency=damaged)) is None
    assert limit.judge(SPACE.default, [trial(0, latency=damaged)]).reason is None
    assert len(clock) == 1


def test_slow_networks_are_refused_with_the_figures(clock: list[Any]) -> None:
    seconds = SPACE.count(SPACE.default).parameters / 1e6
    limit = feasible({"latency": Latency(seconds / 2, "cpu")})
    verdict = limit.judge(SPACE.default, ())
    assert verdict.reason == f"latency = {1e3 * seconds:.4g} ms above {500 * seconds:.4g} ms on cpu"
    assert limit.excess(trial(0, **verdict.figures)) == pytest.approx(math.log(2))
    assert limit.load(SPACE.default) == 0  # nothing that could be counted


def test_memory_that_runs_out_while_measuring_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: Any) -> float:
        raise MemoryError

    monkeypatch.setattr(latency, "measure", measure)
    verdict = feasible({"latency": 1.0}).judge(SPACE.default, ())
    assert "out of memory" in str(verdict.reason)
    assert verdict.figures == {}


def test_memory_that_runs_out_while_building_is_a_reason() -> None:
    def build(params: Any, width: float, depth: float) -> Any:
        raise MemoryError

    own = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}), build=build)
    limit = Feasibility(own, {"latency": Latency(1.0, "cpu", input_shape=(3,))}, AXES)
    assert "out of memory" in str(limit.judge(own.default, ()).reason)


def test_inputs_that_the_networks_cannot_take_are_said_so() -> None:
    limit = feasible({"latency": Latency(1.0, "cpu", input_shape=(5, 16, 16))})
    with pytest.raises(ValueError, match=r"cannot be measured on 'cpu' with inputs of shape \(5, 16, 16\)"):
        limit.judge(SPACE.default, ())


def test_measuring_draws_nothing_from_the_global_generator(clock: list[Any]) -> None:
    import torch

    state = torch.get_rng_state()
    feasible({"latency": 1.0}).judge(SPACE.default, ())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_real_measurement() -> None:
    verdict = feasible({"latency": Latency(60, "cpu")}).judge(SPACE.default, ())
    assert verdict.reason is None
    assert 0 < verdict.noted["measured_latency"] < 60


# In a study -----------------------------------------------------------------------------------


def test_a_study_measures_remembers_and_never_trains_what_is_too_slow(clock: list[Any]) -> None:
    seconds = SPACE.count(SPACE.default).parameters / 1e6
    study = bonas.create_study(
        space=SPACE, sampler=RandomSampler(), constraints={"latency": Latency(0.6 * seconds, "cpu")}
    )
    trained = []
    study.optimize(lambda t: trained.append(t.number) or 1.0, n_trials=6)
    by_state = {t.number: t.state for t in study.trials}
    assert len(trained) == 6
    assert all((by_state[n] == TrialState.COMPLETE) == (n in trained) for n in by_state)
    for t in study.trials:
        slow = SPACE.count(t.params).parameters / 1e6 > 0.6 * seconds
        assert (t.state == TrialState.INFEASIBLE) == slow
        assert t.user_attrs["measured_latency"] == t.record.figures["latency"]["seconds"]
        assert t.cost == (0 if slow else 1)
    networks = {SPACE.network_key(t.params) for t in study.trials}
    assert len(clock) == len(networks)


def test_the_store_is_free_between_measurements(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(study_module, "MOST_INFEASIBLE", 4)
    monkeypatch.setattr(study_module, "_GAP", 0.0)
    path = tmp_path / "study.db"
    study = bonas.create_study(
        space=SPACE, sampler=RandomSampler(), constraints={"latency": Latency(0.5, "cpu")}, storage=path
    )
    seen: list[int] = []  # trials that others see at the time of each measurement

    def measure(*args: Any) -> float:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            seen.extend(connection.execute("SELECT count(*) FROM trials").fetchone())
        return 1.0

    monkeypatch.setattr(latency, "measure", measure)
    with pytest.raises(ValueError, match="4 configurations in a row violate them"):
        study.ask()
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["timeout", "signal"])
def test_a_search_that_measures_on_and_on_can_be_stopped(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = bonas.create_study(
        space=SPACE, sampler=RandomSampler(), constraints={"latency": Latency(0.5, "cpu")}
    )
    measured: list[int] = []

    def measure(*args: Any) -> float:
        measured.append(1)
        if len(measured) == 3:
            if how == "signal":
                signal.raise_signal(signal.SIGINT)
            else:
                monkeypatch.setattr(study, "_deadline", 0.0)
        return 1.0

    monkeypatch.setattr(latency, "measure", measure)
    ended: Any = pytest.raises(KeyboardInterrupt) if how == "signal" else contextlib.nullcontext()
    with ended:
        study.optimize(lambda trial: 1.0, n_trials=1)
    assert len(measured) == 3
    assert [t.state for t in study.trials] == [TrialState.INFEASIBLE] * 3


def test_constraints_are_stored_and_read_again(tmp_path: Any) -> None:
    constraints = {
        "parameters": 10**9,
        "memory": 1e12,
        "latency": Latency(0.5, "cpu", batch_size=8, input_shape=(3, 20, 20)),
    }
    study = bonas.create_study(space=SPACE, constraints=constraints, storage=tmp_path / "study.db")
    assert study.constraints == constraints
    assert bonas.load_study(storage=tmp_path / "study.db").constraints == constraints


def test_a_plain_number_is_a_latency_where_trials_train() -> None:
    assert checked({"latency": 0.5}, SPACE) == {"latency": Latency(0.5)}
    assert checked(feasibility.to_dict({"latency": Latency(0.5)}), SPACE) == {"latency": Latency(0.5)}


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        ({"params": 5}, "'params' is unknown"),
        ({"memory": 0}, "memory=0 must be"),
        ({"memory": "8GB"}, "memory='8GB' must be"),
        ({"latency": -1}, "latency=-1 must be"),
        ({"latency": {"milliseconds": 5}}, "must be seconds"),
        ({"parameters": math.inf}, "parameters=inf must be"),
        ({"parameters": 10**400}, "parameters=1000.* must be"),
    ],
)
def test_bounds_that_are_none(constraints: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked(constraints, SPACE)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": 3}, "device=3"),
        ({"device": ""}, "device=''"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"input_shape": "images"}, "input_shape='images'"),
        ({"input_shape": (3, 0, 32)}, "input_shape="),
        ({"input_shape": ()}, "input_shape="),
    ],
)
def test_measurements_that_cannot_be_made(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Latency(0.5, **settings)


def test_networks_of_ones_own_can_be_counted_and_measured_but_not_predicted() -> None:
    assert Feasibility(OWN, checked({"macs": 6}, OWN), AXES).load({"x": 0.5}) == pytest.approx(7 / 6)
    with pytest.raises(ValueError, match="memory is predicted for networks of bonas's own only"):
        bonas.create_study(space=OWN, constraints={"memory": 1e9})
    with pytest.raises(ValueError, match="needs the shape of their inputs"):
        bonas.create_study(space=OWN, constraints={"latency": 0.5})
    assert checked({"latency": Latency(0.5, input_shape=[3])}, OWN)["latency"].input_shape == (3,)  # type: ignore[arg-type, union-attr]


def test_a_device_that_is_not_here_is_said_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch sees no GPU here"):
        feasible({"latency": Latency(0.5, "cuda")}).judge(SPACE.default, ())
