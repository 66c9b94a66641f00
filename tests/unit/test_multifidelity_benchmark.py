"""The multi-fidelity benchmark on tables made up here: what is paid, what is seen, who is recommended."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import ConfigSpace
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonas import create_study, samplers, spaces
from fidelity.axes import Axes
from fidelity.records import Fidelity
from fidelity.schedulers import FullFidelity, Hyperband, SuccessiveHalving

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
EPOCHS = 9


@pytest.fixture(scope="module", autouse=True)
def _path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"multifidelity.{name}")


def _space() -> spaces.Space:
    space = ConfigSpace.ConfigurationSpace(seed=0)
    space.add(*[ConfigSpace.Categorical(f"op{k}", ("a", "b", "c")) for k in range(4)])
    return spaces.Space(space)


def _task(*, direction: str = "maximize", seconds: bool = False, diverging: int = 0, **changes: Any) -> Any:
    """All 81 configurations; the more of ``c`` the better, which every epoch tells more clearly."""
    of = _module("task")
    rows = list(_space().enumerate())
    rng = np.random.default_rng(0)
    final = np.array([sum((k + 1) * (row[f"op{k}"] == "c") for k in range(4)) for row in rows], dtype=float)
    noise = rng.normal(0, 0.5, (len(rows), EPOCHS)) / np.arange(1, EPOCHS + 1)
    values = final[:, None] - 3 / np.arange(1, EPOCHS + 1) + noise
    values = values if direction == "maximize" else -values
    if diverging:
        values[::diverging, 4:] = np.nan
    took = rng.uniform(1, 3, values.shape) if seconds else None
    given = {
        "rows": rows,
        "axes": Axes(epochs=(1, EPOCHS)),
        "runs": (of.Run(values, took),),
        "true": values[:, -1],
    }
    return of.Task(name="made up", space=_space(), direction=direction, **(given | changes))


# Tasks ---------------------------------------------------------------------------------------------


def test_a_row_is_trained_from_where_it_was_left() -> None:
    task = _task(seconds=True)
    full = task.axes.full
    whole, took = task.train(7, (), full)
    assert len(whole) == len(took) == EPOCHS
    first, _ = task.train(7, (), dataclasses.replace(full, epochs=4))
    rest, last = task.train(7, [full] * 4, full)
    assert first + rest == whole
    assert last == took[4:]


def test_a_diverging_training_ends_at_that_epoch_and_takes_its_time() -> None:
    task = _task(seconds=True, diverging=10)
    values, seconds = task.train(20, (), task.axes.full)
    assert len(values) == 4
    assert len(seconds) == 5
    assert task.train(20, [task.axes.full] * 3, task.axes.full)[0] == values[3:]


def test_on_several_axes_the_run_answers_that_was_trained_so() -> None:
    of = _module("task")
    low, full = Fidelity(subset=0.5), Fidelity()
    n = len(list(_space().enumerate()))
    runs = tuple(
        of.Run(np.full((n, 4), value), history=history)
        for value, history in ((1.0, ()), (2.0, (low,) * 4), (3.0, (low, low, full, full)))
    )
    axes = Axes(epochs=(1, 4), subset=[0.5, 1.0])
    task = _task(axes=axes, runs=runs, true=np.arange(float(n)))
    short = dataclasses.replace(low, epochs=2)
    assert task.train(0, (), axes.full)[0] == [1.0] * 4
    assert task.train(0, (), short)[0] == [2.0] * 2
    assert task.train(0, [low] * 2, axes.full)[0] == [3.0] * 2
    with pytest.raises(ValueError, match="no training"):
        task.train(0, [low], axes.full)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_regret_is_0_for_the_best_row_and_1_for_the_median_one(direction: str) -> None:
    n = len(list(_space().enumerate()))
    true = np.random.default_rng(0).normal(size=n)
    true[3] = np.nan
    task = _task(direction=direction, true=true)
    losses = true if direction == "minimize" else -true
    regret = task.regret(range(n))
    assert regret[np.nanargmin(losses)] == 0
    assert np.median(np.delete(regret, 3)) == pytest.approx(1)
    assert regret[3] == regret.max() == np.delete(regret, 3).max()
    assert np.argsort(np.delete(regret, 3)).tolist() == np.argsort(np.delete(losses, 3)).tolist()


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_a_value_lacks_is_told_in_parts_of_the_tables_range(direction: str) -> None:
    task = _task(direction=direction, diverging=10)
    seen = task.runs[0].values
    ends = np.nanmin(seen), np.nanmax(seen)
    best, worst = ends if direction == "minimize" else ends[::-1]
    np.testing.assert_allclose(task.lacking([best, worst, (best + worst) / 2]), [0, 1, 0.5], atol=1e-12)


def test_curves_that_do_not_fit_the_rows_or_the_axes_are_refused() -> None:
    of = _module("task")
    with pytest.raises(ValueError, match="rows"):
        _task(runs=(of.Run(np.zeros((5, EPOCHS))),))
    with pytest.raises(ValueError, match="epochs"):
        _task(axes=Axes(epochs=(1, 3)))


# Simulations ---------------------------------------------------------------------------------------


class _Watched:
    """A scheduler that notes how many trials run whenever it is asked."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler, self.running = scheduler, [0]

    def decide(self, view: Any, rng: np.random.Generator) -> Any:
        self.running.append(sum(t.state == "RUNNING" for t in view.trials))
        return self.scheduler.decide(view, rng)


_SCHEDULERS = {
    "full": FullFidelity(),
    "halving": SuccessiveHalving(),
    "hyperband": Hyperband(),
    "one epoch": None,  # of the benchmark, found once its folder is on the path
}


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(sorted(_SCHEDULERS)),
    n=st.sampled_from([1, 3, 16]),
    spread=st.sampled_from([0.0, 1.0]),
    budget=st.floats(0.5, 12),
    seed=st.integers(0, 100),
    seconds=st.booleans(),
)
def test_a_simulation_pays_for_what_it_trains_and_keeps_its_budget(
    name: str, n: int, spread: float, budget: float, seed: int, seconds: bool
) -> None:
    simulate = _module("simulate")
    task = _task(seconds=seconds, diverging=7)
    scheduler = _Watched(_SCHEDULERS[name] or _module("baselines").OneEpoch(20, 2))
    workers = simulate.Workers(n, spread)
    trace = simulate.simulate(task, scheduler, samplers.RandomSampler(), seed, budget, workers=workers)
    assert trace.cost <= budget + 1e-6
    assert max(scheduler.running) <= n
    times = [s.time for s in trace.segments]
    assert times == sorted(times)
    # State carries, so every epoch of a row is paid once, and one more where it diverged.
    reached: dict[int, int] = {}
    for s in trace.segments:
        values, failed = task.runs[0].values[s.row], math.isnan(s.value)
        assert s.epoch > reached.get(s.row, 0) or failed
        assert failed == bool(
            np.isnan(values[: s.epoch + 1][-1:]).any() and s.epoch < EPOCHS and s.epoch == 4
        )
        if not failed:
            assert s.value == values[s.epoch - 1]
        reached[s.row] = s.epoch + failed
    assert trace.cost == pytest.approx(sum(reached.values()) / EPOCHS)


def test_workers_share_the_work_and_a_scheduler_that_waits_is_slower() -> None:
    simulate = _module("simulate")

    def took(scheduler: Any, n: int) -> float:
        of = simulate.Workers(n, 0.5)
        trace = simulate.simulate(_task(), scheduler, samplers.RandomSampler(), 0, 20.0, workers=of)
        return float(trace.segments[-1].time / trace.cost)

    alone, many = took(FullFidelity(), 1), took(FullFidelity(), 10)
    assert many < alone / 5
    assert took(SuccessiveHalving(), 10) > many


class _First:
    """A sampler that begins with the space's default, as a study does."""

    seed = None

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def sample(self, space: Any, view: Any, rng: np.random.Generator) -> Any:
        return self.sampler.sample(space, view, rng) if view.trials else space.default


@pytest.mark.parametrize("sampler", [samplers.RandomSampler(), samplers.ForestSampler(n_initial=5)])
@pytest.mark.parametrize("scheduler", [SuccessiveHalving(), Hyperband()])
def test_a_simulation_decides_as_a_study_does(sampler: Any, scheduler: Any, tmp_path: Path) -> None:
    task = _task(diverging=7)
    simulate = _module("simulate")
    of = simulate.Simulation(task, scheduler, _First(samplers.from_dict(sampler.to_dict())), 3, 3.0)
    of.run()

    def objective(trial: Any) -> None:
        row = task.row(trial.params)
        trial.load_checkpoint()
        for epoch in trial.epochs():
            trial.report(float(task.runs[0].values[row, epoch - 1]), epoch)
            trial.save_checkpoint({"epoch": epoch})

    study = create_study(
        space=task.space,
        axes=task.axes,
        direction="maximize",
        scheduler=scheduler,
        sampler=sampler,
        seed=3,
        artifacts=tmp_path,
    )
    study.optimize(objective, budget=3.0)
    for record, trial in zip(of.records, study.trials, strict=True):
        assert (record.params, record.state, record.fidelity) == (trial.params, trial.state, trial.fidelity)
        assert record.curves == tuple(
            dataclasses.replace(
                curve,
                observations=tuple(dataclasses.replace(o, seconds=None) for o in curve.observations),
            )
            for curve in trial.curves
        )
        assert record.cost == pytest.approx(trial.cost)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 100))
def test_a_pool_proposes_its_rows_and_knows_the_nearest(seed: int) -> None:
    of, rng = _module("pool"), np.random.default_rng(seed)
    kept = rng.choice(81, 30, replace=False)
    rows = [list(_space().enumerate())[i] for i in kept]
    task = _task(rows=rows, runs=(_module("task").Run(np.zeros((30, EPOCHS))),), true=np.arange(30.0))
    pool = of.Pool(task)
    assert all(params in rows for params in pool.sample(20, rng))
    assert list(pool.enumerate()) == rows
    at = rows[3]
    near = pool.neighbours(at, rng, 8)
    assert len(near) == 8
    assert at not in near
    differ = [sum(row[k] != at[k] for k in at) for row in rows if row != at]
    assert [sum(params[k] != at[k] for k in at) for params in near] == sorted(differ)[:8]


def test_kept_to_the_pool_a_search_trains_what_it_proposed() -> None:
    rows = list(_space().enumerate())[::3]
    task = _task(rows=rows, runs=(_module("task").Run(np.zeros((27, EPOCHS))),), true=np.arange(27.0))
    proposed = []

    class Noted(samplers.RandomSampler):
        def sample(self, *arguments: Any) -> Any:
            proposed.append(super().sample(*arguments))
            return proposed[-1]

    of = _module("simulate").Simulation(task, FullFidelity(), Noted(), 0, 40.0, pool=True)
    of.run()
    assert [dict(record.params) for record in of.records] == proposed[:27]
    assert len(of.records) == 27


# Traces --------------------------------------------------------------------------------------------


def _segments(given: Sequence[tuple[int, int, float]]) -> Any:
    """(row, epoch, value) each at a cost of 1."""
    of = _module("trace")
    return of.Trace(
        [of.Segment(k, k, row, epoch, epoch / 4, value) for k, (row, epoch, value) in enumerate(given, 1)]
    )


def test_recommendations_worked_out_by_hand() -> None:
    nan = math.nan
    trace = _segments(
        [
            (0, 1, 5.0),
            (1, 1, 7.0),
            (0, 2, 6.0),
            (1, 4, 5.5),
            (2, 1, 9.0),
            (2, 4, nan),
            (3, 4, 5.6),
            (0, 4, 4.0),
        ]
    )
    rows = [(cost, row) for cost, _, row in trace.incumbents(maximize=True)]
    assert rows == [(1, 0), (2, 1), (4, 0), (5, 2), (6, 0), (8, 3)]
    rows = [(cost, row) for cost, _, row in trace.recommended(maximize=True)]
    assert rows == [(1, 0), (2, 1), (3, 0), (4, 1), (7, 3)]
    assert [value for _, _, value in trace.seen(maximize=True)] == [5.0, 7.0, 9.0]
    assert [value for _, _, value in trace.seen(maximize=False)] == [5.0, 4.0]


@settings(max_examples=50, deadline=None)
@given(
    given=st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 4), st.one_of(st.just(math.nan), st.floats(0, 9))),
        max_size=20,
    ),
    maximize=st.booleans(),
)
def test_recommendations_are_those_of_looking_at_everything_again(given: Any, maximize: bool) -> None:
    trace = _segments(given)
    sign = 1 if maximize else -1
    for what in ("incumbents", "recommended"):
        changes = getattr(trace, what)(maximize=maximize)
        latest: dict[int, Any] = {}
        for s in trace.segments:
            latest.pop(s.row, None)
            if not math.isnan(s.value):
                latest[s.row] = (s.level * (what == "recommended"), sign * s.value)
            named = [row for cost, _, row in changes if cost <= s.cost][-1:]
            if latest:
                assert latest[named[0]] == max(latest.values())


# Any other method ----------------------------------------------------------------------------------


class _Scripted:
    def __init__(self, proposals: Sequence[Any]) -> None:
        self.proposals, self.told = list(proposals), []

    def ask(self) -> Any:
        return self.proposals.pop(0) if self.proposals else None

    def tell(self, trial: int, params: Mapping[str, Any], epochs: int, values: Sequence[float]) -> None:
        self.told.append((trial, dict(params), epochs, list(values)))


def test_a_method_that_trains_again_pays_again() -> None:
    task, play, Proposal = _task(), _module("play").play, _module("method").Proposal
    params = task.params(11)
    method = _Scripted(
        [Proposal(params, 3), Proposal({}, 6, trial=0), Proposal({}, 9, trial=0, restart=True)]
    )
    trace = play(task, method, 20.0)
    assert [round(s.cost * EPOCHS) for s in trace.segments] == [3, 6, 15]
    assert {s.row for s in trace.segments} == {11}
    whole = task.runs[0].values[11].tolist()
    assert method.told == [(0, params, 3, whole[:3]), (0, params, 6, whole[3:6]), (0, params, 9, whole)]


def test_a_method_learns_the_nearest_configuration_and_when_it_diverged() -> None:
    task, play, Proposal = _task(diverging=10), _module("play").play, _module("method").Proposal
    params = task.params(20)
    method = _Scripted([Proposal(params, 9), Proposal(params, 2)])
    trace = play(task, method, 20.0)
    assert [s.row == 20 for s in trace.segments] == [True, False]
    assert math.isnan(trace.segments[0].value)
    assert round(trace.segments[0].cost * EPOCHS) == 5
    (first, second) = method.told
    assert (first[0], first[1], len(first[3])) == (0, params, 4)
    assert (second[0], second[1]) == (1, task.params(trace.segments[1].row))


def test_a_method_is_asked_until_its_budget_is_spent() -> None:
    task, Proposal = _task(), _module("method").Proposal
    method = _Scripted([Proposal(row, 9) for row in task.rows])
    assert _module("play").play(task, method, 4.0).cost == pytest.approx(4)


@pytest.mark.parametrize(("epochs", "match"), [(0, "between"), (10, "between"), (3, "already")])
def test_what_cannot_be_trained_is_refused(epochs: int, match: str) -> None:
    task, Proposal = _task(), _module("method").Proposal
    method = _Scripted([Proposal(task.params(0), 3), Proposal({}, epochs, trial=0)])
    with pytest.raises(ValueError, match=match):
        _module("play").play(task, method, 4.0)


# Methods -------------------------------------------------------------------------------------------


def test_a_digest_tells_decisions_apart_and_nothing_else() -> None:
    methods = _module("methods")
    random, halving = samplers.RandomSampler().to_dict(), SuccessiveHalving()
    first = methods.behaviour(halving, random)
    assert methods.behaviour(SuccessiveHalving(measured_costs=False), random) == first
    assert methods.behaviour(SuccessiveHalving(eta=4), random) != first
    assert methods.behaviour(halving, samplers.TPESampler(n_initial=2).to_dict()) != first


def test_every_method_is_there_once_and_the_default_is_what_a_study_takes() -> None:
    methods = _module("methods")
    found = [json.dumps(entry.settings) for entry in methods.own_entries().values()]
    assert len(set(found)) == len(found)
    study = create_study(space=_space(), axes=Axes(epochs=(1, 9)))
    default = methods.own_entries()[methods.DEFAULT].settings
    assert default == {"scheduler": study.scheduler.to_dict(), "sampler": study.sampler.to_dict()}
    assert {methods.BASELINE, methods.RANDOM} <= set(found := methods.own_entries())
    assert len(found) > 3


# Runs and what they come to ------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    module, tasks = _module("run"), _module("tasks")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    names = ("made up", "another", "lcbench small")
    made = {name: dataclasses.replace(_task(direction="minimize", diverging=9), name=name) for name in names}
    monkeypatch.setattr(tasks, "TASKS", {name: (lambda name=name: made[name]) for name in names})
    monkeypatch.setattr(module, "SHARE", {"lcbench small": 3})
    tasks.load.cache_clear()
    yield module
    tasks.load.cache_clear()


def _main(run: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", "--processes", "1", *arguments])
    assert run.main() == 0


def test_runs_are_made_once_and_longer_ones_in_place_of_shorter(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--methods", "random", "--tasks", "made", "--seeds", "2", "--budget", "4")
    _main(run, monkeypatch, *small)
    lines = run.path("random").read_text()
    assert "0 of 2" in capsys.readouterr().out
    _main(run, monkeypatch, *small)
    assert run.path("random").read_text() == lines
    assert "2 of 2" in capsys.readouterr().out
    _main(run, monkeypatch, *small[:-3], "1", "--budget", "8")
    runs = {r["seed"]: r for r in run.current("random")}
    assert (runs[0]["budget"], runs[1]["budget"]) == (8, 4)
    short = json.loads(lines.splitlines()[0])
    assert runs[0]["incumbents"][: len(short["incumbents"])] == short["incumbents"]


def test_of_many_tasks_of_one_table_fewer_seeds_are_run(run: ModuleType) -> None:
    wanted = run.wanted("random", ["made up", "lcbench small"], 6)
    assert [seed for name, seed in wanted if name == "made up"] == list(range(6))
    assert [seed for name, seed in wanted if name == "lcbench small"] == [0, 1]


def test_regrets_over_cost_and_the_cost_to_a_regret_worked_out_by_hand(run: ModuleType) -> None:
    of = _module("outcome")
    task = _module("tasks").load("made up")
    best, other = int(np.nanargmin(task.true)), 5
    made = {
        "task": "made up",
        "seed": 0,
        "incumbents": [[0.5, other], [2.0, best]],
        "recommended": [[1.0, other]],
        "seen": [[0.5, float(np.nanmax(task.runs[0].values))]],
    }
    outcome = of.Outcome([made])
    regret = float(task.regret(other))
    np.testing.assert_allclose(outcome.regret([0.4, 0.5, 1.9, 2.0, 9.0]), [[1, regret, regret, 0, 0]])
    np.testing.assert_allclose(outcome.regret([0.5, 9.0], of.RECOMMENDED), [[1, regret]])
    np.testing.assert_allclose(outcome.lacking([0.1, 0.5]), [[1, 1]])
    assert of.cost_to(np.array([0.5, 0.2, 0.3, 0.1]), [1, 2, 3, 4], 0.2) == 4
    assert of.cost_to(np.array([0.5, 0.2, 0.2, 0.1]), [1, 2, 3, 4], 0.2) == 2
    assert math.isinf(of.cost_to(np.array([0.5, 0.2]), [1, 2], 0.1))


def test_the_report_says_who_is_worse_where(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report, methods = _module("report"), _module("methods")
    monkeypatch.setattr(report, "AT", (2, 4))
    shown = (methods.BASELINE, methods.RANDOM, "one epoch, top 3")
    monkeypatch.setattr(methods, "DEFAULT", methods.RANDOM)
    _main(run, monkeypatch, "--methods", *shown, "--seeds", "4", "--budget", "4")
    monkeypatch.setattr("sys.argv", ["report.py", "--methods", *shown, "--to", str(tmp_path)])
    assert report.main() == 0
    text = (tmp_path / "multifidelity.md").read_text()
    assert all(f"| {name} |" in text for name in ("made up", "another", "successive halving"))
    assert "**random**" in text
    assert {p.name for p in tmp_path.glob("*.png")} == {
        f"multifidelity_{what}.png" for what in ("ranks", "critical", "regret")
    }


def test_an_interval_of_paired_differences_holds_their_mean() -> None:
    paired = importlib.import_module("search.significance").paired
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=30)
    low, high = paired(theirs - 1 + rng.normal(0, 0.1, 30), theirs, rng)
    assert -1.1 < low < -1 < high < -0.9


# The tables ----------------------------------------------------------------------------------------

_here = pytest.mark.skipif(
    "BONAS_BENCHMARKS" not in os.environ, reason="skipped: set BONAS_BENCHMARKS to the published tables"
)


@_here
@pytest.mark.parametrize("name", ["taskset 3", "nb301", "lcbench Fashion_MNIST", "recorded chains", "weak"])
def test_a_table_is_of_its_space(name: str) -> None:
    task = _module("tasks").load(name)
    for row in range(0, len(task), 97):
        assert task.space.validate(task.params(row)) == task.params(row)
        assert task.row(task.params(row)) == row
    proposed = task.space.sample(1, np.random.default_rng(0))[0]
    first = task.row(proposed)
    assert task.row(proposed, {first}) != first


@_here
@pytest.mark.parametrize(("name", "spearman"), [("misleading", 0.0), ("weak", 0.3)])
def test_a_spoilt_table_ranks_as_badly_as_it_says_and_only_at_first(name: str, spearman: float) -> None:
    from scipy.stats import spearmanr

    tasks = _module("tasks")
    task = tasks.load(name)
    values, there = task.runs[0].values, np.isfinite(task.true)
    for epoch in range(tasks.SPOILT):
        rank = spearmanr(values[there, epoch], task.true[there]).statistic
        assert abs(rank - spearman) < 0.1
    original = tasks.load(f"taskset {0 if name == 'misleading' else 2}")
    np.testing.assert_array_equal(
        values[:, tasks.SPOILT + 2 :], original.runs[0].values[:, tasks.SPOILT + 2 :]
    )
    np.testing.assert_array_equal(np.sort(values, axis=0), np.sort(original.runs[0].values, axis=0))


@_here
def test_the_recorded_table_answers_on_every_rung_of_a_ladder() -> None:
    task = _module("tasks").load("recorded chains")
    for eta in (2, 3, 4):
        for rung in SuccessiveHalving(eta=eta).rungs(task.axes):
            values, seconds = task.train(0, (), rung)
            assert len(values) == rung.epochs
            assert min(seconds) > 0
