"""How fast this machine trains a network, and which ladder of evaluations fits a time limit; knows no search.

With few seconds the full evaluation must be short, or nothing is ever evaluated in full: about
``BRACKETS`` brackets of successive halving over four rungs are to fit, each worth three full evaluations.
With many seconds the lowest rung can be higher, and higher rungs rank better: the ladder has no more
rungs than it takes to see ``ENOUGH`` configurations.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fidelity.axes import Axes

if TYPE_CHECKING:
    import torch

    from fidelity.training import TrainOn

MOST_EPOCHS = 27
ETA = 3  # cost of a rung relative to the one below
MOST_RUNGS = 4
BRACKET = 3.0  # full evaluations that a bracket over four rungs costs
ENOUGH = 30  # configurations; more are not worth a less trustworthy lowest rung
BRACKETS = 3.0
SLOWER = 1.3  # the networks of a search are on average this much slower than the hand-written one
LARGEST = 1 / 4  # of the time limit: the longest full evaluation that is allowed
_EVALUATION = 1 / 3  # a forward pass alone, relative to a training step


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one network trains here."""

    seconds_per_image: float
    macs: int
    """Multiply-accumulates of that network for one image."""
    threads: int = 1
    """Of torch, on a CPU."""


@dataclass(frozen=True, slots=True)
class TimedPlan:
    """What fits a time limit."""

    axes: Axes
    max_macs: float
    """Larger networks would take too long for one full evaluation."""
    seconds: float
    """Expected for a full evaluation of the measured network."""


def fastest(
    objective: TrainOn, network: torch.nn.Module, params: Mapping[str, Any], macs: int, jobs: int = 1
) -> Pace:
    """The pace with as many threads as train fastest here: all cores, or one where others use them too.

    Small networks wait for their slowest thread many thousand times a second: on a machine whose cores are
    shared, two threads have been measured six times slower than one.

    Args:
        objective: what a search would train with.
        network: newly built; its weights are changed.
        params: the training hyperparameters to use.
        macs: of the network, for one image.
        jobs: processes that train side by side and share the cores.
    """
    import torch

    available = max(1, torch.get_num_threads() // jobs)
    if torch.cuda.is_available() or available == 1:
        torch.set_num_threads(available)
        return measure(objective, network, params, macs)
    paces = []
    for threads in (1, available):
        torch.set_num_threads(threads)
        paces.append(measure(objective, network, params, macs))
    best = min(paces, key=lambda pace: pace.seconds_per_image)
    torch.set_num_threads(best.threads)
    return best


def measure(
    objective: TrainOn, network: torch.nn.Module, params: Mapping[str, Any], macs: int, seconds: float = 2.0
) -> Pace:
    """Train a network on a few hundred images for some seconds and take the median round.

    Args:
        objective: what a search would train with.
        network: newly built; its weights are changed.
        params: the training hyperparameters to use.
        macs: of the network, for one image.
        seconds: how long to measure, at least.
    """
    import torch

    from fidelity.loop import seeded, train_epoch
    from fidelity.optimizers import Recipe, make_optimizer
    from fidelity.schedules import Schedule

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = Recipe.of(dict(params))
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    train = objective.prepare("train", None, device)
    chosen = torch.arange(min(len(train), 8 * recipe.batch_size))
    optimizer = make_optimizer(network, recipe)
    rounds: list[float] = []
    begin = time.perf_counter()
    while len(rounds) < 3 or time.perf_counter() - begin < seconds:
        clock = time.perf_counter()
        with seeded(device, len(rounds)):
            train_epoch(network, optimizer, train, chosen, recipe, Schedule(horizon=20), 1)
        rounds.append(time.perf_counter() - clock)
    # The first round warms up.
    return Pace(statistics.median(rounds[1:]) / len(chosen), macs, torch.get_num_threads())


def _rungs(evaluations: float) -> int:
    """The fewest rungs over which a budget of full evaluations starts enough configurations."""
    for rungs in range(2, MOST_RUNGS):
        bracket = 1 + (rungs - 1) * (1 - 1 / ETA)
        if evaluations / bracket * ETA ** (rungs - 1) >= ENOUGH:
            return rungs
    return MOST_RUNGS


def plan(pace: Pace, n_train: int, n_val: int, timeout: float, jobs: int = 1) -> TimedPlan:
    """Axes and a bound on network size such that about three brackets fit into ``timeout`` seconds.

    Args:
        pace: of a typical network, such as the space's hand-written default.
        n_train: training images in an epoch.
        n_val: images evaluated after each epoch.
        timeout: seconds for the whole search.
        jobs: evaluations that run at a time, each at this pace.
    """
    # At the end of a rung some workers wait for others.
    worth = timeout * (1 + 0.7 * (jobs - 1))
    epoch = (n_train + _EVALUATION * n_val) * pace.seconds_per_image
    epochs = int(min(MOST_EPOCHS, max(1, worth / (BRACKET * BRACKETS * SLOWER * epoch))))
    full = epochs * epoch
    ratio = ETA ** (_rungs(worth / (SLOWER * full)) - 1)
    # Where few epochs leave no room for the rungs, smaller subsets of the data make up for it.
    lowest = max(1, round(epochs / ratio))
    subset = min(1.0, max(epochs / (ratio * lowest), 100 / n_train))
    axes = Axes(epochs=(lowest, epochs), subset=(subset, 1.0) if subset < 0.9 else None)
    return TimedPlan(axes, max_macs=pace.macs * max(1.0, LARGEST * timeout / full), seconds=full)
