"""Calibration: what it trains, what it measures of it, and which ladder it recommends for which findings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_trial import make_data
from torch import nn

import fidelity
from fidelity import Axes, Fidelity, calibration
from fidelity.training import Diverged

AXES = Axes(epochs=(1, 9), subset=(0.25, 1.0), resolution=(4, 8))


class Networks:
    """A space of small networks, told apart by their filters and learning rates."""

    def __init__(self, counted: bool = True) -> None:
        self.built: list[tuple[float, float]] = []
        self.counted = counted

    def sample(self, n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
        return [
            {"filters": int(rng.integers(2, 12)), "lr": float(10 ** rng.uniform(-3, -1)), "q": float(q)}
            for q in rng.normal(size=n)
        ]

    def build(self, params: Mapping[str, Any], width: float = 1.0, depth: float = 1.0) -> nn.Module:
        self.built.append((width, depth))
        filters = max(1, round(width * params["filters"]))
        return nn.Sequential(
            *(nn.Conv2d(1, filters, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
            nn.Linear(4 * filters, 3),
        )

    def count(self, params: Mapping[str, Any]) -> Any:
        if not self.counted:
            raise ValueError("count: this space has no such function.")
        return SimpleNamespace(parameters=1000 * params["filters"], macs=10**5 * params["filters"])


SMALL = Axes(epochs=(1, 3), subset=(0.3, 1.0), width=[0.5, 1.0])


@pytest.fixture(scope="module")
def found() -> Any:
    return fidelity.calibrate(Networks(), make_data(), n=4, seed=1, axes=SMALL)


class TestTrained:
    def test_every_axis_is_measured_at_its_values(self, found: fidelity.Calibration) -> None:
        measured = [(r.axis, r.value) for r in found.reduced]
        assert [v for axis, v in measured if axis == "epochs"] == [1, 2]
        assert [v for axis, v in measured if axis == "subset"] == pytest.approx([0.3, math.sqrt(0.3)])
        assert [v for axis, v in measured if axis == "width"] == [0.5]
        for r in found.reduced:
            assert 0 < r.nominal < 1
            assert r.measured > 0
            assert not r.all or -1 <= r.all.low <= r.all.tau <= r.all.high <= 1
            assert r.all.n == 4

    def test_it_is_shown_with_its_recommendation(self, found: fidelity.Calibration) -> None:
        text = repr(found)
        for word in ("epochs", "subset", "width", "parameters", "Recommended for a budget of 20"):
            assert word in text
        assert "<table" in found._repr_html_()
        assert list(found.to_dataframe()["axis"]) == [r.axis for r in found.reduced]

    def test_what_is_recommended_can_be_used(self, found: fidelity.Calibration) -> None:
        assert found.axes.full.epochs == 3
        assert len(found.scheduler.rungs(found.axes)) == found.n_rungs

    def test_the_same_seed_finds_the_same(self, found: fidelity.Calibration) -> None:
        again = fidelity.calibrate(Networks(), make_data(), n=4, seed=1, axes=SMALL)
        assert [r.all for r in again.reduced] == [r.all for r in found.reduced]

    def test_epochs_cost_no_training_of_their_own(self) -> None:
        space = Networks()
        fidelity.calibrate(space, make_data(), n=3, axes=Axes(epochs=(1, 2)))
        assert space.built == [(1.0, 1.0)] * 3

    def test_without_counts_size_is_left_out(self) -> None:
        found = fidelity.calibrate(Networks(counted=False), make_data(), n=3, axes=Axes(epochs=(1, 2)))
        assert not found.parameters

    def test_memory_that_runs_out_costs_a_network_and_not_the_calibration(self) -> None:
        space = Networks()
        build = space.build

        def hungry(params: Mapping[str, Any], width: float = 1.0, depth: float = 1.0) -> nn.Module:
            if len(space.built) == 1:
                space.built.append((width, depth))
                raise MemoryError
            return build(params, width, depth)

        space.build = hungry  # type: ignore[method-assign]
        found = fidelity.calibrate(space, make_data(), n=3, axes=Axes(epochs=(1, 2)))
        assert len(space.built) == 3
        assert found.n == 3


Rule = Callable[[float, Fidelity, np.random.Generator], float]


def play(monkeypatch: pytest.MonkeyPatch, cheap: Rule, pace: Callable[[Fidelity], float], **args: Any) -> Any:
    """Calibration of networks of known quality q, their losses and seconds made up."""
    rng = np.random.default_rng(0)

    def trained(space: Any, objective: Any, params: Any, at: Fidelity, seed: int) -> Any:
        epochs = [Fidelity(**(at.to_dict() | {"epochs": e})) for e in range(1, at.epochs + 1)]  # type: ignore[arg-type]
        losses = [-params["q"] if e == AXES.full else cheap(-params["q"], e, rng) for e in epochs]
        return SimpleNamespace(losses=losses, pace=pace(at))

    monkeypatch.setattr(calibration, "_trained", trained)
    return fidelity.calibrate(Networks(), make_data(), **{"n": 12, "axes": AXES, **args})


def nominal(at: Fidelity) -> float:
    return AXES.epoch_cost(at)


def perfect(loss: float, at: Fidelity, rng: np.random.Generator) -> float:
    return loss


def backwards(loss: float, at: Fidelity, rng: np.random.Generator) -> float:
    return -loss


class TestRecommended:
    def test_where_few_epochs_rank_perfectly_they_are_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = play(monkeypatch, perfect, nominal)
        assert found.n_rungs >= 3
        assert found.configurations > found.budget
        assert found.axes.lowest.epochs < 9

    def test_where_nothing_ranks_every_evaluation_is_full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = play(monkeypatch, backwards, nominal)
        assert found.n_rungs == 1
        assert found.axes.lowest == found.axes.full == AXES.full
        assert "full evaluations only" in repr(found)
        assert found.configurations == 20

    def test_an_axis_that_misleads_is_not_reduced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def cheap(loss: float, at: Fidelity, rng: np.random.Generator) -> float:
            return loss if at.epochs == 9 and at.subset == 1 else -loss

        found = play(monkeypatch, cheap, nominal)
        assert found.axes.lowest.resolution == 4
        assert found.axes.lowest.epochs == 9
        assert found.axes.lowest.subset == 1

    def test_an_axis_that_saves_nothing_is_not_reduced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = play(monkeypatch, perfect, lambda at: 1 / 9 * at.subset)
        assert found.axes.lowest.resolution == 8
        assert found.n_rungs > 1

    def test_a_small_budget_starts_fewer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        counts = [play(monkeypatch, perfect, nominal, budget=b).configurations for b in (2, 20, 200)]
        assert counts == sorted(counts)
        assert counts[0] < counts[-1]

    def test_what_diverged_ranks_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def diverging(loss: float, at: Fidelity, rng: np.random.Generator) -> float:
            return math.nan if loss > 1 else loss

        found = play(monkeypatch, diverging, nominal)
        assert all(r.all.tau > 0.9 for r in found.reduced)


class TestErrors:
    @pytest.mark.parametrize(
        ("args", "said"),
        [
            ({"n": 2}, "n=2"),
            ({"budget": 0.5}, "budget"),
            ({"seed": -1}, "seed"),
            ({"axes": Axes()}, "nothing can be reduced"),
            ({"axes": Axes(epochs=(1, 2), tokens=(1, 4))}, "tokens"),
            ({"axes": 3}, "Axes"),
        ],
    )
    def test_wrong_arguments_are_refused_before_anything_is_trained(
        self, args: dict[str, Any], said: str
    ) -> None:
        space = Networks()
        with pytest.raises(ValueError, match=said):
            fidelity.calibrate(space, make_data(), **args)
        assert not space.built

    def test_networks_that_all_diverge(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def train(self: Any, trial: Any) -> None:
            raise Diverged("epoch 1: the loss is nan")

        monkeypatch.setattr("fidelity.training.TrainOn.__call__", train)
        with pytest.raises(ValueError, match="fewer than two networks"):
            fidelity.calibrate(Networks(), make_data(), n=3, axes=Axes(epochs=(1, 2)))

    def test_running_out_of_memory_is_worst_and_other_errors_are_raised(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = fidelity.train_on(make_data()).__class__.__call__
        errors = [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("a mistake")]

        def train(self: Any, trial: Any) -> None:
            if trial.seed == calls[0]:
                raise errors[0]
            original(self, trial)

        calls = [int(np.random.SeedSequence([0, 0]).generate_state(1)[0])]
        monkeypatch.setattr("fidelity.training.TrainOn.__call__", train)
        found = fidelity.calibrate(Networks(), make_data(), n=3, axes=Axes(epochs=(1, 2)))
        assert found.reduced[0].all.n == 3
        errors.pop(0)
        with pytest.raises(RuntimeError, match="a mistake"):
            fidelity.calibrate(Networks(), make_data(), n=3, axes=Axes(epochs=(1, 2)))
