"""Other packages behind the multi-fidelity benchmark's methods: what they train, pay for and learn."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import ConfigSpace
import numpy as np
import pytest

from bonas import spaces
from fidelity.axes import Axes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
EPOCHS = 9
DIVERGING = range(0, 150, 10)


@pytest.fixture(scope="module")
def peers() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("multifidelity.peers")


@pytest.fixture(scope="module")
def task(peers: ModuleType) -> Any:
    """Hyperparameters of every kind, one of them conditional; curves that tell who is good; some diverge."""
    of = importlib.import_module("multifidelity.task")
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
    rng = np.random.default_rng(0)
    rows = spaces.Space(space).sample(150, rng)
    loss = np.array([abs(np.log10(row["rate"]) + 2) + (row["kind"] != "c") for row in rows])
    curves = loss[:, None] + 1 / np.arange(1, EPOCHS + 1) + rng.normal(0, 0.02, (len(rows), EPOCHS))
    curves[list(DIVERGING), 1:] = np.nan

    def make(direction: str) -> Any:
        values = curves if direction == "minimize" else -curves
        axes = Axes(epochs=(1, EPOCHS))
        runs = (of.Run(values),)
        return of.Task("made up", spaces.Space(space), direction, rows, axes, runs, values[:, -1])

    return make


# The packages --------------------------------------------------------------------------------------

STOPS = ("Optuna Hyperband", "Optuna median", "Syne Tune ASHA", "Syne Tune BOHB")
RESUMES = ("NePS Hyperband", "NePS PriorBand")
RESTARTS = ("SMAC Hyperband", "DEHB")
METHODS = STOPS + RESUMES + RESTARTS
RUNS = (("minimize", 0), ("maximize", 0), ("minimize", 1))


def test_every_peer_is_tested(peers: ModuleType) -> None:
    assert sorted(peers.PEERS) == sorted(METHODS)


def _entry(peers: ModuleType, method: str) -> Any:
    entry = peers.PEERS[method]
    for package in entry.packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed: make peers")
    return entry


@pytest.mark.filterwarnings("ignore")  # what other packages warn of is not ours
@pytest.mark.parametrize("method", METHODS)
def test_peers_train_the_good_ones_further(peers: ModuleType, task: Any, method: str) -> None:
    problem, budget = task("minimize"), 20.0
    segments = _entry(peers, method).run(problem, 1, budget).segments
    assert budget - 1e-6 < segments[-1].cost < budget + 1
    begun = {s.row for s in segments if s.epoch == 1 and s.row not in DIVERGING}
    full = {s.row for s in segments if s.epoch == EPOCHS} & begun
    assert 0 < len(full) < len(begun)
    assert problem.regret(list(full)).mean() < 0.95 * problem.regret(list(begun - full)).mean()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_peers_pay_for_what_they_train(peers: ModuleType, task: Any, method: str) -> None:
    spent = 0.0
    reached: dict[int, int] = {}
    again = []
    for s in _entry(peers, method).run(task("minimize"), 1, 8.0).segments:
        epochs = round((s.cost - spent) * EPOCHS)
        diverged = int(np.isnan(s.value))
        if s.row in reached:
            again.append(epochs == s.epoch + diverged)
            assert again[-1] or epochs == s.epoch + diverged - reached[s.row]
        else:
            assert epochs == s.epoch + diverged
        spent, reached[s.row] = s.cost, max(s.epoch, reached.get(s.row, 0))
    assert again
    assert all(again) if method in RESTARTS else not any(again)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_searches_follow_from_their_seed_in_either_direction(
    peers: ModuleType, task: Any, method: str
) -> None:
    entry = _entry(peers, method)
    runs = [entry.run(task(direction), seed, 4.0) for direction, seed in RUNS]
    rows = [[s.row for s in run.segments] for run in runs]
    assert rows[0] == rows[1] != rows[2]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_optuna_learns_of_what_was_trained_not_of_what_it_proposed(
    peers: ModuleType, task: Any, direction: str
) -> None:
    """What is told is another branch with its own value; those of what was proposed would mislead."""
    pytest.importorskip("optuna")
    problem = task(direction)
    search = peers.Optuna("MedianPruner", {}, SimpleNamespace(**_one_epoch(problem)), 0)
    sign = 1 if direction == "minimize" else -1
    asked = []
    for trial, params in enumerate(problem.space.sample(50, np.random.default_rng(3))):
        asked.append(search.ask().params)
        loss = abs(np.log10(params["rate"]) + 2) + 2 * (params["kind"] != "c")
        search.tell(trial, params, 1, [sign * loss])
    assert np.mean([params["kind"] == "c" for params in asked[35:]]) > 0.5


def _one_epoch(problem: Any) -> dict[str, Any]:
    return {"name": "one", "space": problem.space, "direction": problem.direction, "epochs": 1}


# Values of trainings that diverged -----------------------------------------------------------------


def test_a_training_that_diverged_counts_as_the_worst_so_far(peers: ModuleType) -> None:
    losses = peers.Losses(SimpleNamespace(direction="maximize"))
    assert losses([], 1) > 1e9  # nothing was seen that it could be worse than
    assert losses([0.25, 0.5], 2) == -0.5
    assert losses([0.75], 2) == -0.25
    assert losses([0.1], 3) == -0.1
