"""The benchmark with real training, on noise and a clock made up here: what counts, what is made again."""

from __future__ import annotations

import importlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fidelity.data import Data, Split
from fidelity.records import Fidelity
from fidelity.training import TrainOn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
METHODS = ("bonas", "random", "Hyperband", "Optuna TPE + Hyperband")


@pytest.fixture(scope="module", autouse=True)
def _path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"real_training.{name}")


def _problem(epochs: int = 3) -> Any:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, 1, 8, 8), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.arange(20) % 10)
    return _module("problem").Problem(Data("noise", split, split, split, tuple("abcdefghij")), epochs)


def _ticking(tick: float = 1.0) -> Callable[[], float]:
    """A clock on which every look takes a tick."""
    ticks = itertools.count()
    return lambda: next(ticks) * tick


class _Clock:
    """A clock that goes when it is told to."""

    time = 0.0

    def __call__(self) -> float:
        return self.time


# The meter -----------------------------------------------------------------------------------------


def _trained(meter: Any, clock: _Clock, trial: int, epoch: int, accuracy: float, took: float = 1.0) -> None:
    clock.time += took
    meter.note(trial, epoch, accuracy)
    meter.keep(trial, {"lr": trial}, epoch, {"weight": torch.full((1,), accuracy)})


def test_of_those_trained_furthest_the_best_is_kept_with_its_weights() -> None:
    clock = _Clock()
    meter = _module("meter").Meter(100.0, clock)
    for trial, epoch, accuracy in [(0, 1, 0.9), (1, 1, 0.3), (1, 2, 0.4), (2, 2, 0.6), (3, 2, 0.5)]:
        _trained(meter, clock, trial, epoch, accuracy)
    assert meter.kept.params == {"lr": 2}
    assert meter.kept.weights["weight"].item() == pytest.approx(0.6)
    assert meter.kept.report.at == 4.0
    assert _module("outcome").best(meter.reports) == [(1.0, 0.9), (3.0, 0.4), (4.0, 0.6)]


def test_what_is_trained_after_the_seconds_counts_nothing() -> None:
    clock = _Clock()
    meter = _module("meter").Meter(2.5, clock)
    for trial in range(4):
        _trained(meter, clock, trial, 1, 0.1 + 0.1 * trial)
    assert [report.trial for report in meter.reports] == [0, 1]
    assert meter.kept.params == {"lr": 1}
    assert meter.over


def test_copying_weights_is_not_on_the_clock() -> None:
    clock = _Clock()
    meter = _module("meter").Meter(100.0, clock)

    class Slow(dict[str, Any]):
        def __deepcopy__(self, memo: Any) -> Any:
            clock.time += 50
            return self

    clock.time = 1.0
    meter.note(0, 1, 0.5)
    meter.keep(0, {}, 1, {"weight": Slow()})
    assert meter.kept is not None
    assert meter.now == 1.0


def test_no_epoch_begins_once_the_seconds_are_used_up() -> None:
    clock = _Clock()
    meter = _module("meter").Meter(2.0, clock)

    class Trial:
        number, fidelity = 7, Fidelity(epochs=9)

        def epochs(self) -> Iterator[int]:
            yield from range(1, 10)

    trial = _module("meter").Metered(Trial(), meter, seed=5)
    assert (trial.seed, trial.number, trial.fidelity.epochs) == (5, 7, 9)
    begun = []
    for epoch in trial.epochs():
        begun.append(epoch)
        clock.time += 0.8
    assert begun == [1, 2, 3]


# The methods ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_starts_with_the_default_and_reaches_full_fidelity(method: str) -> None:
    problem, made = _problem(), _module("methods").METHODS[method]
    trained: list[tuple[dict[str, Any], int, int, int]] = []

    class Spied(TrainOn):
        def __call__(self, trial: Any) -> None:
            trained.append((trial.params, trial.number, trial.seed, trial.horizon))
            super().__call__(trial)

    meter = _module("meter").Meter(200.0, _ticking())
    made.search(Spied(problem.data, "accuracy"), problem, 3, meter)
    space = problem.space()
    assert trained[0][0] == space.default
    assert all(space.validate(params) == params for params, *_ in trained)
    assert all(seed == problem.trial_seed(3, number) for _, number, seed, _ in trained)
    assert {horizon for *_, horizon in trained} == {3}
    assert len({number for _, number, *_ in trained}) > 3
    assert meter.kept.report.epoch == 3
    assert 0 < meter.training < meter.now
    epochs: dict[int, list[int]] = {}
    for report in meter.reports:
        epochs.setdefault(report.trial, []).append(report.epoch)
    # Each epoch is trained once and in order: nobody trains anew what was trained before.
    assert all(list(range(1, len(of) + 1)) == of for of in epochs.values())


def test_all_methods_train_the_default_alike() -> None:
    problem, first = _problem(), []
    for method in METHODS:
        meter = _module("meter").Meter(20.0, _ticking())
        _module("methods").METHODS[method].search(TrainOn(problem.data, "accuracy"), problem, 1, meter)
        first.append(next(r.accuracy for r in meter.reports if r.trial == 0 and r.epoch == 1))
    assert len(set(first)) == 1


def test_trials_the_pruner_stops_keep_what_they_reported() -> None:
    problem = _problem(epochs=9)
    meter = _module("meter").Meter(250.0, _ticking())
    method = _module("methods").METHODS["Optuna TPE + Hyperband"]
    method.search(TrainOn(problem.data, "accuracy"), problem, 0, meter)
    last = {report.trial: report.epoch for report in meter.reports}
    assert min(last.values()) < max(last.values()) == 9


# What came of it -----------------------------------------------------------------------------------


def _reports(*seen: tuple[int, int, float]) -> list[Any]:
    return [_module("meter").Report(float(k), *one) for k, one in enumerate(seen, start=1)]


def test_the_best_latest_value_falls_when_its_trial_does() -> None:
    reports = _reports((0, 1, 0.5), (1, 1, 0.4), (0, 2, 0.3), (1, 2, 0.6))
    assert _module("outcome").latest(reports) == [(1.0, 0.5), (3.0, 0.4), (4.0, 0.6)]


@pytest.mark.parametrize("seed", range(20))
def test_both_rules_say_what_a_look_at_all_reports_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seen, when = rng.integers((4, 6), size=(12, 2)).tolist(), int(rng.integers(14))
    reached: dict[int, int] = {}
    told = []
    for trial, accuracy in seen:
        reached[trial] = reached.get(trial, 0) + 1
        told.append((trial, reached[trial], accuracy / 5))
    reports = _reports(*told)
    by_then = [r for r in reports if r.at <= when]
    latest = {r.trial: r.accuracy for r in by_then}
    outcome = _module("outcome")
    assert outcome.at(outcome.latest(reports), when, -1.0) == max(latest.values(), default=-1.0)
    furthest = max(((r.epoch, r.accuracy) for r in by_then), default=(0, -1.0))
    assert outcome.at(outcome.best(reports), when, -1.0) == furthest[1]


def test_intervals_are_those_of_students_t() -> None:
    values = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [4.0, 5.0], [5.0, 5.0]])
    mean, half = _module("outcome").interval(values)
    assert mean == pytest.approx([3.0, 5.0])
    assert half == pytest.approx([2.776445 * np.sqrt(2.5 / 5), 0.0])
    assert np.isnan(_module("outcome").interval(values[:1])[1]).all()


def test_seconds_to_an_accuracy() -> None:
    steps = [(1.0, 0.5), (4.0, 0.4), (6.0, 0.7)]
    seconds_to = _module("outcome").seconds_to
    assert [seconds_to(steps, accuracy) for accuracy in (0.3, 0.5, 0.6, 0.8)] == [1.0, 1.0, 6.0, np.inf]


# Files ---------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = _module("run")
    monkeypatch.setattr(module, "code", lambda method: {"behaviour": "as of today"})
    return module


def _record(run: ModuleType, problem: Any, method: str, seed: int, **changes: Any) -> dict[str, Any]:
    record = {
        "method": method,
        "task": "noise",
        "seed": seed,
        "seconds": 10.0,
        "used": 10.1,
        "wall": 20.0,
        "training": 9.0,
        "trials": 2,
        "epochs": 4,
        "full": 1,
        "diverged": 0,
        "best": [[1.0, 0.2], [6.0, 0.5 + 0.1 * seed]],
        "latest": [[1.0, 0.6]],
        "ends": [[3, 0.5], [1, 0.6]],
        "kept": {"params": {}, "epochs": 3, "val": 0.5, "test": 0.4 + 0.1 * seed},
        "settings": run.settings(method, problem),
        "code": run.code(method),
        "with": {"bonas": "0"},
        "machine": "here",
    }
    return json.loads(json.dumps(record | changes))


def _written(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"torn')
    return path


def test_what_is_there_is_not_made_again_unless_something_changed(run: ModuleType, tmp_path: Path) -> None:
    problem = _problem()
    other = [
        _record(run, problem, "random", 1, seconds=5.0),
        _record(run, _problem(epochs=5), "bonas", 1),
        _record(run, problem, "Hyperband", 1, code={"behaviour": "as it was"}),
    ]
    path = _written(tmp_path / "runs.jsonl", [_record(run, problem, m, 0) for m in METHODS] + other)
    left = list(run.missing(path, list(METHODS), 2, problem, 10.0))
    assert left == [(method, 1) for method in METHODS]


def test_a_search_is_recorded_with_what_its_network_reaches_on_test(run: ModuleType) -> None:
    problem = _problem()
    record = run.search("random", problem, TrainOn(problem.data, "accuracy"), seed=0, seconds=1.0)
    kept = record["kept"]
    # Here the test images are the validation images: the network kept is the one that was validated.
    assert kept["test"] == kept["val"] == record["best"][-1][1]
    assert record["epochs"] == sum(epochs for epochs, _ in record["ends"])


def test_report_compares_seeds_that_all_methods_have(run: ModuleType, tmp_path: Path) -> None:
    problem, report = _problem(), _module("report")
    records = [_record(run, problem, m, s) for s in range(2) for m in METHODS]
    worse = [[1.0, 0.2], [6.0, 0.3], [9.0, 0.4]]
    for record in records:
        if record["method"] == "random":
            record["best"] = worse
    records.append(_record(run, problem, "bonas", 2))
    runs = report.collected(_written(tmp_path / "runs.jsonl", records), 10.0)
    assert {method: [r["seed"] for r in of] for method, of in runs.items()} == {m: [0, 1] for m in METHODS}
    assert report.to_random(runs, "best") == {m: [6.0, 6.0] for m in METHODS} | {"random": [9.0, 9.0]}
    text = report.report(runs, 10.0)
    assert "| bonas − random | +0.00 ± 0.00 | +0.00 ± 0.00 | +0.00 ± 0.00 | +15.00 ± 63.53 |" in text
    assert "2 seeds" in text
    assert report.found(runs["bonas"][0] | {"ends": [[3, 0.9], [1, 0.7], [3, 0.6]]}) == pytest.approx(60)
    report.picture(runs, 10.0, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="no seed in common"):
        report.collected(tmp_path / "runs.jsonl", 11.0)
