"""The search benchmark on tables made up here: what answers, what is counted, what is made again."""

from __future__ import annotations

import importlib
import itertools
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import ConfigSpace
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonas import create_study, spaces

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _path() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"search.{name}")


def _space() -> spaces.Space:
    """Three operations in two layers, and a third layer where there are three."""
    space = ConfigSpace.ConfigurationSpace(seed=0)
    layers = ConfigSpace.Integer("layers", (2, 3))
    ops = [ConfigSpace.Categorical(f"op{k}", ("a", "b", "c")) for k in range(3)]
    space.add(layers, ConfigSpace.Integer("width", (0, 4)), *ops)
    space.add(ConfigSpace.EqualsCondition(ops[2], layers, 3))
    return spaces.Space(space)


def _task(*, sampled: bool = False, seeds: int = 2, **changes: Any) -> Any:
    """Wider is better, and so is each ``c``; of a sample every third row is there."""
    rows = list(_space().enumerate())[:: 3 if sampled else 1]
    true = np.array([r["width"] + 2.0 * sum(v == "c" for v in r.values()) for r in rows])
    noise = np.random.default_rng(0).normal(0, 0.1, (len(rows), seeds))
    seconds = np.array([1.0 + r["width"] for r in rows])
    given = {"direction": "maximize", "unit": "points", "sampled": sampled, "seconds": seconds} | changes
    return _module("task").Task(
        name="made up", space=_space(), rows=rows, values=true[:, None] + noise, **given
    )


# Tasks ---------------------------------------------------------------------------------------------


def test_a_whole_table_answers_for_the_very_configuration_again_and_again() -> None:
    task = _task()
    for row, params in enumerate(task.rows):
        assert task.row(params, visited=[row]) == row


def test_what_is_no_configuration_is_refused_with_its_reason() -> None:
    with pytest.raises(ValueError, match="width"):
        _task().row({"layers": 2, "width": 9, "op0": "a", "op1": "a"})


def _distance(one: dict[str, Any], other: dict[str, Any]) -> float:
    """As said in :meth:`Task.row`, one hyperparameter at a time."""
    each = []
    for name, low, high in (("layers", 2, 3), ("width", 0, 4)):
        each.append(abs(one[name] - other[name]) / (high - low))
    each += [float(one.get(f"op{k}") != other.get(f"op{k}")) for k in range(3)]
    return float(np.mean(each))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_sample_answers_with_the_nearest_row_that_was_not_visited(seed: int) -> None:
    task = _task(sampled=True)
    rng = np.random.default_rng(seed)
    visited: list[int] = []
    for params in task.space.sample(15, rng):
        row = task.row(params, visited)
        left = [i for i in range(len(task)) if i not in visited]
        distances = [_distance(params, task.rows[i]) for i in left]
        assert row == left[int(np.flatnonzero(np.isclose(distances, min(distances)))[0])]
        visited.append(row)


def test_every_row_of_a_sample_answers_once() -> None:
    task = _task(sampled=True)
    visited: list[int] = []
    for params in task.space.sample(len(task), np.random.default_rng(0)):
        visited.append(task.row(params, visited))
    assert sorted(visited) == list(range(len(task)))
    with pytest.raises(ValueError, match="visited"):
        task.row(task.rows[0], visited)


def test_an_evaluation_observes_a_training_run_there_is() -> None:
    task = _task(seeds=3)
    task.values[:, 2] = np.nan
    rng = np.random.default_rng(0)
    assert {task.observe(4, rng) for _ in range(50)} == set(task.values[4, :2])


@pytest.mark.parametrize(
    ("direction", "logarithmic"), [("maximize", False), ("minimize", False), ("minimize", True)]
)
def test_regret_is_what_the_mean_over_seeds_lacks_of_the_best_one(direction: str, logarithmic: bool) -> None:
    task = _task(direction=direction, logarithmic=logarithmic)
    task.values[:] = np.exp(task.values / 4)
    everything = range(len(task))
    true = task.values.mean(axis=1)
    np.testing.assert_allclose(task.true(everything), true)
    scaled = np.log10(true) if logarithmic else true
    expected = scaled.max() - scaled if direction == "maximize" else scaled - scaled.min()
    np.testing.assert_allclose(task.regret(everything), expected)
    assert task.regret(everything).min() == 0
    assert task.scale == pytest.approx(np.median(expected))


def test_rows_without_a_value_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        _module("task").Task("t", _space(), "maximize", [{}], np.array([[np.nan]]), "points")


def test_tables_that_are_not_here_say_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BONAS_BENCHMARKS", raising=False)
    with pytest.raises(_module("tasks")._tables.SkippedError, match="BONAS_BENCHMARKS"):
        _module("tasks").nasbench_macro()


@pytest.mark.skipif(
    "BONAS_BENCHMARKS" not in os.environ, reason="set BONAS_BENCHMARKS to the published tables"
)
@pytest.mark.parametrize(
    ("name", "rows", "best"),
    [
        ("nasbench201 cifar100", 15_625, 73.493),
        ("nasbench-macro", 6_561, 93.127),
        ("hpobench segment", 30_000, 96.85),
        ("transnas micro scene", 711, 54.80),
        ("transnas macro scene", 662, 56.91),
    ],
)
def test_published_tables_have_their_published_optimum(name: str, rows: int, best: float) -> None:
    task = _module("tasks").load(name)
    assert len(task) == rows
    assert task.true(int(task.regret(range(rows)).argmin())) == pytest.approx(best, abs=0.006)
    for row in range(0, rows, 97):
        assert task.space.validate(task.rows[row]) == task.rows[row]


@pytest.mark.skipif(
    "BONAS_BENCHMARKS" not in os.environ, reason="set BONAS_BENCHMARKS to the published tables"
)
def test_networks_above_the_limit_on_latency_are_not_in_the_task() -> None:
    tasks = _module("tasks")
    latency = tasks._load("accel_nasbench_imagenet")["latency_ms"][:, 0]
    task = tasks.load("accel latency")
    assert 0.9 * (latency <= tasks.LATENCY_LIMIT).sum() < len(task) <= (latency <= tasks.LATENCY_LIMIT).sum()
    assert len({json.dumps(params) for params in task.rows}) == len(task)


def test_our_own_table_is_a_task_with_a_second_seed_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record, tables = importlib.import_module("tables.record"), importlib.import_module("tables")
    monkeypatch.setattr(tables, "FASHION_MNIST_CHAIN", tmp_path / "table.npz")
    with pytest.raises(_module("tasks")._tables.SkippedError, match="not recorded"):
        _module("tasks").recorded()
    measured = {"loss": [1.0] * 12, "train_loss": [1.0] * 12, "seconds": [0.5] * 12}
    trained = {(0, "full"): 0.8, (1, "full"): 0.7, (1, "full, seed 1"): 0.72, (2, "width 0.5"): 0.9}
    found = {key: {"accuracy": [end] * 12, "error": None} | measured for key, end in trained.items()}
    found[0, "full"] |= {name: [0.2] * 2 for name in ("accuracy", *measured)} | {"error": "diverged"}
    record.pack(found, tables.FASHION_MNIST_CHAIN)

    task = _module("tasks").recorded()
    assert len(task) == 2  # the third was not trained in full
    np.testing.assert_allclose(task.values, [[10, np.nan], [70, 72]], rtol=1e-3)  # diverged: guessing
    np.testing.assert_allclose(task.seconds, [0.4, 6], rtol=1e-3)
    assert task.row(record.configurations()[1], visited=[0]) == 1


# Methods -------------------------------------------------------------------------------------------


def test_what_is_called_the_default_is_what_a_study_takes() -> None:
    methods = _module("methods")
    assert create_study(space=_space()).sampler.to_dict() == methods.OWN[methods.DEFAULT].settings


@pytest.mark.parametrize("method", ["random", "forest", "TPE", "SMAC model", "evolution", "local search"])
def test_every_method_searches_a_conditional_sample_in_which_it_is_told_other_rows(method: str) -> None:
    task = _task(sampled=True)
    found = []
    for _ in range(2):
        searcher, visited, rng = _module("methods").OWN[method].make(task, 3), [], np.random.default_rng(0)
        for _ in range(20):
            visited.append(task.row(searcher.ask(), visited))
            searcher.tell(task.params(visited[-1]), task.observe(visited[-1], rng))
        found.append(visited)
    assert len(set(found[0])) == 20
    assert found[0] == found[1]


def test_the_digest_of_decisions_tells_samplers_and_settings_apart() -> None:
    from bonas.samplers import RandomSampler, TPESampler

    digest = _module("methods").behaviour
    samplers = [RandomSampler(), TPESampler(), TPESampler(n_candidates=8)]
    assert len({digest(sampler, 15) for sampler in samplers}) == 3
    assert digest(TPESampler(), 15) == digest(TPESampler(), 15)


# Runs ----------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    module = _module("run")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    made_up = _task(sampled=True)
    tasks = _module("tasks")
    monkeypatch.setattr(tasks, "TASKS", {"made up": lambda: made_up})
    tasks.load.cache_clear()
    yield module
    tasks.load.cache_clear()


def _main(run: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["run.py", "--processes", "1", *arguments])
    return int(run.main())


def test_runs_are_made_once_and_longer_ones_in_place_of_shorter(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--methods", "random", "TPE", "--seeds", "2", "--evaluations", "8")
    assert _main(run, monkeypatch, *small) == 0
    lines = run.path("random").read_text()
    assert "0 of 2" in capsys.readouterr().out
    assert _main(run, monkeypatch, *small) == 0
    assert run.path("random").read_text() == lines
    assert "2 of 2" in capsys.readouterr().out

    assert _main(run, monkeypatch, "--methods", "random", "--seeds", "1", "--evaluations", "12") == 0
    runs = {r["seed"]: r for r in run.current("random")}
    assert [len(runs[seed]["rows"]) for seed in (0, 1)] == [12, 8]
    # The longer one begins as the shorter one did.
    short = json.loads(lines.splitlines()[0])
    assert runs[0]["rows"][:8] == short["rows"]
    assert runs[0]["runs"][:8] == short["runs"]


def test_a_torn_line_is_made_again_and_harms_no_other(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--methods", "random", "--seeds", "3", "--evaluations", "4")
    _main(run, monkeypatch, *arguments)
    whole = run.path("random").read_text()
    run.path("random").write_text(whole[:-20])
    _main(run, monkeypatch, *arguments)
    assert [r["rows"] for r in run.current("random")] == [
        json.loads(line)["rows"] for line in whole.splitlines()
    ]


@pytest.mark.parametrize("what", ["settings", "code"])
def test_runs_of_other_settings_or_other_code_do_not_count(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    arguments = ("--methods", "random", "--seeds", "1", "--evaluations", "4")
    _main(run, monkeypatch, *arguments)
    old = json.loads(run.path("random").read_text()) | {what: {"other": 1}, "rows": [0, 0, 0, 0]}
    run.path("random").write_text(json.dumps(old) + "\n")
    _main(run, monkeypatch, *arguments)
    assert len(run.path("random").read_text().splitlines()) == 2
    assert [r["rows"] == old["rows"] for r in run.current("random")] == [False]


def test_every_method_meets_the_same_luck(run: ModuleType) -> None:
    first = run.generator("made up", 3, run.NOISE).random(5)
    assert (run.generator("made up", 3, run.NOISE).random(5) == first).all()
    for other in (("made up", 4, run.NOISE), ("another", 3, run.NOISE), ("made up", 3, run.AGAIN)):
        assert (run.generator(*other).random(5) != first).any()


def test_a_run_in_a_space_that_is_used_up_ends_and_is_not_made_again(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        _main(run, monkeypatch, "--methods", "random", "--seeds", "1", "--evaluations", "1000")
    (line,) = run.path("random").read_text().splitlines()
    assert len(json.loads(line)["rows"]) == len(_task(sampled=True))


# Outcomes ------------------------------------------------------------------------------------------


def _outcome(rows: list[list[int]], runs: list[str]) -> Any:
    made = [
        {"task": "made up", "evaluations": len(r), "rows": r, "runs": k, "ms_per_ask": 1.0, "seed": i}
        for i, (r, k) in enumerate(zip(rows, runs, strict=True))
    ]
    return _module("outcome").Outcome(made)


def test_regrets_visited_and_observed_of_a_run_worked_out_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = _module("tasks")
    values = np.array([[1.0, 1.0], [3.0, 1.0], [2.5, 2.5], [4.0, 4.0]])  # true 1, 2, 2.5, 4
    rows = [{"layers": 2, "width": k, "op0": "a", "op1": "a"} for k in range(4)]
    seconds = np.array([1.0, 2.0, 3.0, 4.0])
    task = _module("task").Task("made up", _space(), "maximize", rows, values, "points", seconds=seconds)
    monkeypatch.setattr(tasks, "load", lambda name: task)
    outcome = _outcome([[0, 2, 1, 0]], ["0100"])
    np.testing.assert_allclose(outcome.visited, [[3, 1.5, 1.5, 1.5]])
    # The lucky run of row 1 has the best value, though row 2 is better.
    np.testing.assert_allclose(outcome.observed, [[3, 1.5, 2, 2]])
    np.testing.assert_allclose(
        outcome.after_seconds(np.array([0.5, 1, 3.9, 4, 100])), [[np.nan, 3, 3, 1.5, 1.5]]
    )


def test_finalists_are_evaluated_again_and_the_best_mean_wins(run: ModuleType) -> None:
    recommend = _module("recommend")
    task = _module("tasks").load("made up")
    done = run.search("random", "made up", 0, 30)
    found = recommend.recommend(done, 30)
    assert {found["alone"], found["reevaluated"]} <= set(done["rows"])
    regret = task.regret(done["rows"])
    # Noise is small beside the differences: what is handed back is among the best of what was visited.
    assert task.regret(found["reevaluated"]) <= np.sort(regret)[2]
    assert recommend.recommend(done, 30) == found


# Statistics ----------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    samples=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), min_size=2, max_size=4),
)
def test_expected_ranks_are_the_mean_over_all_ways_to_pick_one_seed_of_each(samples: list[list[int]]) -> None:
    from scipy.stats import rankdata

    each = [rankdata(picked) for picked in itertools.product(*samples)]
    found = _module("significance").expected_ranks([np.array(s, dtype=float) for s in samples])
    np.testing.assert_allclose(found, np.mean(each, axis=0))


def test_a_method_that_is_always_better_is_significantly_so_and_an_equal_one_is_not() -> None:
    rng = np.random.default_rng(1)
    regrets = [[rng.random(10), rng.random(10), 2 + rng.random(12)] for _ in range(8)]
    ranking = _module("significance").rank(regrets, np.random.default_rng(0), resamples=200)
    for other_tasks in (False, True):
        low, high = ranking.interval(2, 0, other_tasks=other_tasks)
        assert 1 < low <= high <= 2
        low, high = ranking.interval(1, 0, other_tasks=other_tasks)
        assert low < 0 < high
    assert ranking.friedman < 0.01
    # Demšar 2006, table 5: q = 2.343 for three methods at 5 %.
    assert ranking.critical_difference == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 8)), abs=1e-3)


# The report ----------------------------------------------------------------------------------------


def test_the_report_is_drawn_from_runs(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = _module("report")
    monkeypatch.setattr(report, "EVALUATIONS", 12)
    monkeypatch.setattr(report, "RANKED_AT", (6, 12))
    monkeypatch.setattr(report, "LONGER", 12)
    monkeypatch.setattr(report, "SHOWN_AT", (3, 12))
    monkeypatch.setattr(report, "NAS_BENCH_201", ("made up",))
    monkeypatch.setattr(report, "REPORT", tmp_path / "search.md")
    monkeypatch.setattr(report, "PICTURES", tmp_path)
    monkeypatch.setattr(_module("recommend"), "AFTER", (12,))
    monkeypatch.setattr(_module("recommend"), "PATH", tmp_path / "recommended.jsonl")
    shown = ("--methods", "random", "forest", "TPE")
    _main(run, monkeypatch, *shown, "--seeds", "3", "--evaluations", "12")
    monkeypatch.setattr("sys.argv", ["report.py", "--processes", "1", "--tidy", *shown])
    assert report.main() == 0
    text = (tmp_path / "search.md").read_text()
    for method in ("random", "**forest**", "TPE"):
        assert f"| {method} |" in text
    for picture in ("evaluations", "seconds", "ranks", "critical"):
        assert (tmp_path / f"search_{picture}.png").read_bytes().startswith(b"\x89PNG")
