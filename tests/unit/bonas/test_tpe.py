"""The Parzen estimate: a density over whole configurations, and what follows from it."""

from __future__ import annotations

from typing import Any

import ConfigSpace
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bonas import spaces
from bonas.samplers import TPESampler
from bonas.samplers._tpe import Kernels, best, split
from fidelity.axes import Axes
from fidelity.records import Curve, Fidelity, Observation, StudyView, TrialRecord, TrialState

AXES = Axes(epochs=(1, 9))


def trial(
    space: spaces.Space,
    number: int,
    params: dict[str, Any],
    *values: float,
    state: TrialState = TrialState.COMPLETE,
    epoch: int = 9,
) -> TrialRecord:
    """A trial with a value for each metric m0, m1, …, or without any."""
    fidelity = Fidelity(epochs=epoch)
    seen = Observation(epoch, {f"m{j}": v for j, v in enumerate(values)}, 1.0, fidelity)
    curves = (Curve((seen,)),) if values else ()
    return TrialRecord(number, params, space.key(params), state, fidelity, curves=curves)


def study(trials: list[TrialRecord], metrics: int = 1) -> StudyView:
    names = tuple(f"m{j}" for j in range(metrics))
    return StudyView(tuple(trials), AXES, directions=("minimize",) * metrics, metric_names=names)


def finite() -> spaces.Space:
    """Every finite kind, weights, and conditions in two levels; 168 configurations."""
    space = ConfigSpace.ConfigurationSpace()
    kind = ConfigSpace.Categorical("kind", ["a", "b", "c"], weights=[1, 2, 5])
    units = ConfigSpace.Integer("units", (1, 8), log=True)
    level = ConfigSpace.Categorical("level", ["low", "middle", "high"], ordered=True)
    deep = ConfigSpace.Integer("deep", (-3, 3))
    fixed = ConfigSpace.Constant("fixed", 7)
    space.add(kind, units, level, deep, fixed)
    space.add(ConfigSpace.InCondition(units, kind, ["a", "b"]))
    space.add(ConfigSpace.EqualsCondition(level, kind, "b"))
    space.add(ConfigSpace.GreaterThanCondition(deep, units, 4))
    return spaces.Space(space)


def test_every_kernel_is_a_density_over_the_conditional_space() -> None:
    space = finite()
    kernels = Kernels(space)
    every = kernels.coded.table.codes(list(space.enumerate()))
    centres = kernels.cells(kernels.coded.table.codes(space.sample(20, np.random.default_rng(0))))
    for redraw in (0.5, 0.1, 0.01):
        mass = np.exp(kernels.densities(centres, every, redraw).astype(float)).sum(axis=0)
        np.testing.assert_allclose(mass, 1, atol=1e-4)


def test_candidates_are_drawn_from_the_density_that_scores_them() -> None:
    space = finite()
    kernels = Kernels(space)
    listed = list(space.enumerate())
    good = kernels.cells(kernels.coded.table.codes(space.sample(4, np.random.default_rng(1))))
    drawn = kernels.draw(good, 50_000, np.random.default_rng(2))
    logs = kernels.densities(good, kernels.coded.table.codes(listed), kernels.redraw(good))
    expected = np.exp(logs.astype(float)).mean(axis=1)
    counts = dict.fromkeys((space.key(p) for p in listed), 0)
    for params in kernels.coded.table.decode(drawn):
        counts[space.key(params)] += 1
    frequency = np.array(list(counts.values())) / len(drawn)
    assert np.abs(frequency - expected).max() < 6 * np.sqrt(0.25 / len(drawn))
    assert np.abs(frequency - expected).sum() < 0.1


def blocks(n: int) -> spaces.Space:
    """Blocks with two branches, each with a child of its own."""
    space = ConfigSpace.ConfigurationSpace()
    for i in range(n):
        kind = ConfigSpace.Categorical(f"kind{i}", ["a", "b"])
        a, b = ConfigSpace.Float(f"a{i}", (0.0, 1.0)), ConfigSpace.Float(f"b{i}", (1e-3, 1.0), log=True)
        space.add(kind, a, b)
        space.add(ConfigSpace.EqualsCondition(a, kind, "a"), ConfigSpace.EqualsCondition(b, kind, "b"))
    return spaces.Space(space)


def child(params: dict[str, Any], i: int) -> float:
    """The active child of a block, from 0 to 1."""
    return float(params[f"a{i}"] if f"a{i}" in params else 1 + np.log10(params[f"b{i}"]) / 3)


def test_children_of_different_branches_are_modelled_together() -> None:
    # Good where the two active children agree, whatever they are and whichever branches they belong to.
    space = blocks(2)
    drawn = space.sample(400, np.random.default_rng(0))
    view = study([trial(space, i, p, abs(child(p, 0) - child(p, 1))) for i, p in enumerate(drawn)])
    rng = np.random.default_rng(1)
    proposed = [TPESampler().sample(space, view, rng) for _ in range(60)]
    gaps = [abs(child(p, 0) - child(p, 1)) for p in proposed if p]
    levels = [child(p, 0) for p in proposed if p]
    assert np.median(gaps) < 0.1  # of prior draws it is 0.29
    assert np.ptp(levels) > 0.5
    assert len({(p["kind0"], p["kind1"]) for p in proposed if p}) > 1


def test_every_active_hyperparameter_takes_part() -> None:
    space = blocks(25)
    rng = np.random.default_rng(0)
    drawn = space.sample(60, rng)
    view = study([trial(space, i, p, float(i)) for i, p in enumerate(drawn)])
    kernels = Kernels(space)
    kernels.facts.update(view)
    groups = split(kernels.facts)
    row = kernels.coded.table.codes([drawn[0]])
    for name in drawn[0]:
        column = kernels.coded.table.column[name]
        domain = kernels.coded.table.domains[column]
        changed = row.copy()
        far = 1.0 if domain.unit(row[:, column])[0] < 0.5 else 0.0
        changed[:, column] = domain.from_unit(np.array([far]))
        prior = kernels.coded.draw(1, rng)
        changed = kernels.coded.table.deactivate(np.where(np.isnan(changed), prior, changed))
        both = kernels.score(groups, np.concatenate([row, changed]), rng)
        assert both[0] > both[1] + 0.1, name


def test_weights_are_respected() -> None:
    space = spaces.Space(
        ConfigSpace.ConfigurationSpace(
            space=[
                ConfigSpace.CategoricalHyperparameter("kind", ["a", "b", "never"], weights=[1, 20, 0]),
                ConfigSpace.Float("x", (0.0, 1.0)),
            ]
        )
    )
    drawn = space.sample(40, np.random.default_rng(0))
    # One was given the choice that is never drawn, and came out best.
    view = study([trial(space, 0, {"kind": "never", "x": 0.5}, -1.0)])
    view = study([*view.trials, *(trial(space, i + 1, p, p["x"]) for i, p in enumerate(drawn))])
    kernels = Kernels(space)
    kernels.facts.update(view)
    groups = split(kernels.facts)
    good = kernels.facts.rows[groups.good]
    kinds = [
        p["kind"] for p in kernels.coded.table.decode(kernels.draw(good, 4000, np.random.default_rng(0)))
    ]
    own = 1 / (len(groups.good) + 1)
    assert kinds.count("never") / 4000 < own
    assert np.isfinite(
        kernels.score(groups, kernels.coded.sample(50, np.random.default_rng(0)), np.random.default_rng(0))
    ).all()


def test_infeasible_trials_keep_proposals_inside_and_near_the_limit() -> None:
    # The larger the better, and nothing above 50 fits: the best are right below the limit.
    space = spaces.Space(ConfigSpace.ConfigurationSpace({"size": (1, 100), "x": (0.0, 1.0)}))
    trials: list[TrialRecord] = []
    for number in range(80):
        params = TPESampler().sample(space, study(trials), np.random.default_rng([4, number]))
        assert params is not None
        if params["size"] > 50:
            trials.append(trial(space, number, params, state=TrialState.INFEASIBLE))
        else:
            trials.append(trial(space, number, params, -float(params["size"])))
    late = trials[40:]
    assert np.mean([t.state is TrialState.INFEASIBLE for t in late]) < 0.5
    assert np.median([t.params["size"] for t in late if t.values]) > 40


def test_failed_trials_are_avoided() -> None:
    space = spaces.Space(ConfigSpace.ConfigurationSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)}))
    trials = []
    for i, p in enumerate(space.sample(200, np.random.default_rng(0))):
        fails = p["x"] > 0.5
        values = () if fails else (abs(p["x"] - 0.45),)
        trials.append(trial(space, i, p, *values, state=TrialState.FAIL if fails else TrialState.COMPLETE))
    proposed = [TPESampler().sample(space, study(trials), np.random.default_rng(k)) for k in range(20)]
    assert np.mean([p["x"] > 0.5 for p in proposed if p]) < 0.2


def test_what_reached_a_higher_fidelity_ranks_first() -> None:
    space = blocks(1)
    drawn = space.sample(6, np.random.default_rng(0))
    low = [trial(space, i, p, i / 10, state=TrialState.PAUSED, epoch=3) for i, p in enumerate(drawn[:4])]
    high = [trial(space, 4, drawn[4], 9.0), trial(space, 5, drawn[5], 8.0)]
    facts = Kernels(space).facts
    facts.update(study([*low, *high]))
    assert best(facts.far, facts.losses, 4).tolist() == [5, 4, 0, 1]


@settings(max_examples=50, deadline=None)
@given(
    losses=arrays(float, st.tuples(st.integers(1, 25), st.just(2)), elements=st.integers(0, 6)),
    data=st.data(),
)
def test_of_several_metrics_none_left_out_dominates_one_taken(
    losses: np.ndarray, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, len(losses)))
    taken = best(np.ones(len(losses)), losses, n).tolist()
    assert len(set(taken)) == n
    for i in set(range(len(losses))) - set(taken):
        for j in taken:
            assert not ((losses[i] <= losses[j]).all() and (losses[i] < losses[j]).any())


def test_what_was_read_before_changes_no_proposal() -> None:
    # A trial gets its value, another fails, new ones come, metrics change: as if it were the first ask.
    space = finite()
    drawn = space.sample(60, np.random.default_rng(3))
    done = [trial(space, i, p, float(i % 7), float(i % 5)) for i, p in enumerate(drawn)]
    waiting = [trial(space, i, p, state=TrialState.RUNNING) for i, p in enumerate(drawn)]
    failed = [trial(space, i, p, state=TrialState.FAIL) for i, p in enumerate(drawn)]
    views = [
        study(waiting[:3]),
        study([*done[:20], *waiting[20:24]]),
        study([*done[:22], failed[22], *waiting[23:30]]),
        study(done[:60]),
        study(done[:25]),
        study([*done[:30], *failed[30:40]], metrics=2),
        study([*done[:40]]),
    ]
    sampler = TPESampler()
    for k, view in enumerate(views):
        fresh = TPESampler().sample(space, view, np.random.default_rng(k))
        assert sampler.sample(space, view, np.random.default_rng(k)) == fresh


@pytest.mark.parametrize("log", [False, True])
def test_numbers_are_refined_on_their_own_scale(log: bool) -> None:
    space = spaces.Space(ConfigSpace.ConfigurationSpace(space=[ConfigSpace.Float("x", (1e-4, 1.0), log=log)]))
    best_at = 1e-2 if log else 0.3

    def scale(x: float) -> float:
        return float(np.log10(x) / 4) if log else x

    trials: list[TrialRecord] = []
    for number in range(40):
        params = TPESampler().sample(space, study(trials), np.random.default_rng([5, number]))
        assert params is not None
        trials.append(trial(space, number, params, abs(scale(params["x"]) - scale(best_at))))
    assert min(t.values["m0"] for t in trials) < 0.01
