"""Which multi-fidelity methods there are, bonas's schedulers and samplers first; knows no tables or budgets.

Add one with an :class:`Entry` in :data:`OWN`, or in ``peers.py`` if it needs packages that bonas does not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import ConfigSpace
import numpy as np

from bonas import definition, samplers, spaces
from fidelity import schedulers
from fidelity.axes import Axes
from multifidelity.baselines import OneEpoch
from multifidelity.method import Entry
from multifidelity.simulate import simulate
from multifidelity.task import Run, Task

if TYPE_CHECKING:
    from bonas.samplers import Sampler
    from fidelity.schedulers import Scheduler
    from multifidelity.trace import Trace


def own(scheduler: Scheduler, sampler: Sampler, *, only: tuple[str, ...] = (), pool: bool = False) -> Entry:
    """A scheduler and a sampler of bonas, or of this benchmark; ``pool`` keeps it to the table's rows."""
    settings: dict[str, Any] = {"scheduler": scheduler.to_dict(), "sampler": sampler.to_dict()}
    if pool:
        settings["pool"] = True

    def run(task: Task, seed: int, budget: float, **more: Any) -> Trace:
        # Made anew: samplers remember what they computed, which is nothing to the next search.
        fresh = samplers.from_dict(settings["sampler"])
        return simulate(task, scheduler, fresh, seed, budget, pool=pool, **more)

    return Entry(settings, run, behaviour=partial(behaviour, scheduler, settings["sampler"]), only=only)


def behaviour(scheduler: Scheduler, sampler: dict[str, Any], budget: float = 4.0) -> str:
    """A digest of what a scheduler and a sampler decide on a small problem that never changes.

    Settings do not say how they decide; this does, and stays the same when code is only tidied.
    """
    trace = simulate(made_up(), scheduler, samplers.from_dict(sampler), 0, budget)
    decided = [(s.row, s.epoch, round(s.level, 6)) for s in trace.segments]
    return hashlib.sha256(json.dumps(decided).encode()).hexdigest()[:12]


@cache
def made_up() -> Task:
    """Two hundred cells with a learning rate, whose curves of 27 epochs cross, and some of which diverge."""
    space = spaces.cell(preset="nas_bench_201").with_hyperparameters(
        [ConfigSpace.Float("lr", (0.001, 1), log=True)]
    )
    rng = np.random.default_rng(0)
    rows, epochs = space.sample(200, rng), np.arange(1, 28)
    final = np.nan_to_num(space.encode(rows)) @ np.cos(np.arange(len(space.encode_names)) ** 2)
    gained, pace = rng.uniform(1, 4, (200, 1)), rng.uniform(2, 9, (200, 1))
    curves = final[:, None] + gained * np.exp(-epochs / pace) + rng.normal(0, 0.05, (200, 27))
    curves[::17, 8:] = np.nan
    return Task("made up", space, "minimize", rows, Axes(epochs=(1, 27)), (Run(curves),), curves[:, -1])


def default() -> tuple[Scheduler, Sampler]:
    """What a study with axes takes when nothing is said."""
    study = definition.define(made_up().space, Axes(epochs=(1, 27)), ("minimize",), None, None, 0, None, None)
    return study.scheduler, study.sampler


def second_rung(scheduler: Scheduler) -> Scheduler | None:
    """The same beginning one rung higher on the tables that were spoilt; None if it cannot be told to."""
    if not (hasattr(scheduler, "n_rungs") and hasattr(scheduler, "rungs")):
        return None
    return dataclasses.replace(scheduler, n_rungs=len(scheduler.rungs(Axes(epochs=(1, 50)))) - 1)


DEFAULT = "bonas"
SECOND_RUNG = "bonas, second rung"
SPOILT = ("misleading", "weak")
POOL = ", pool"
"""How the names of methods end that propose rows of the table alone."""
POOLED = (*(f"taskset {k}" for k in range(6)), "nb301")
BASELINE = "successive halving"
"""That the default must not lose to on any table."""
RANDOM, FOREST, ONE_EPOCH = "random", "forest", "one epoch, top 3"
SHOWN = (DEFAULT, RANDOM, ONE_EPOCH, BASELINE, "Hyperband", "ASHA")
"""Those of ours that are drawn beside the peers."""


@cache
def own_entries() -> dict[str, Entry]:
    """Those made of schedulers and samplers of bonas, or of this benchmark."""
    random, forest, tpe = samplers.RandomSampler, samplers.ForestSampler, samplers.TPESampler
    higher = second_rung(default()[0])
    found = {
        DEFAULT: own(*default()),
        RANDOM: own(schedulers.FullFidelity(), random()),
        FOREST: own(schedulers.FullFidelity(), forest()),
        ONE_EPOCH: own(OneEpoch(), random()),
        BASELINE: own(schedulers.SuccessiveHalving(drop_rungs=False), random()),
        "successive halving, forest": own(schedulers.SuccessiveHalving(), forest()),
        **_if("Hyperband", "Hyperband", random()),
        **_if("BOHB", "Hyperband", tpe()),
        **_if("Hyperband, forest", "Hyperband", forest()),
        **_if("ASHA", "ASHA", random()),
        **_if("ASHA, forest", "ASHA", forest()),
        **_if("ASHA, TPE", "ASHA", tpe()),
        **({} if higher is None else {SECOND_RUNG: own(higher, default()[1], only=SPOILT)}),
        **_if("stopping by extrapolation", "ExtrapolationStopping", random()),
        **_if("median stopping", "MedianStopping", random()),
        **_if("freeze-thaw", "FreezeThaw", forest()),
    }
    for name in (DEFAULT, RANDOM, BASELINE):
        scheduler, sampler = (found[name].settings[part] for part in ("scheduler", "sampler"))
        found[name + POOL] = own(
            schedulers.from_dict(scheduler), samplers.from_dict(sampler), only=POOLED, pool=True
        )
    settings = [entry.settings for entry in found.values()]
    # The default is also one of the others by another name: once is enough.
    return {name: e for k, (name, e) in enumerate(found.items()) if e.settings not in settings[:k]}


def _if(name: str, scheduler: str, sampler: Sampler) -> dict[str, Entry]:
    """An entry where fidelity has that scheduler."""
    kind = schedulers.REGISTRY.get(scheduler)
    return {} if kind is None else {name: own(kind(), sampler)}


def entries() -> dict[str, Entry]:
    """Every method by its name, in the order of the report; peers need not be installed to be listed."""
    from multifidelity import peers

    return own_entries() | peers.PEERS
