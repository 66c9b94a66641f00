"""The recorded table and searches replayed on it: what is written comes back, and costs what it should."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fidelity.axes import Axes
from fidelity.data import Data, Split
from fidelity.schedulers import FullFidelity, SuccessiveHalving
from fidelity.training import TrainOn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _imported("tables.record", monkeypatch)


@pytest.fixture
def ladder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _imported("ladder", monkeypatch)


def _imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


def _line(record: ModuleType, index: int, run: str, accuracy: list[float]) -> dict[str, Any]:
    error = "diverged" if len(accuracy) < record.EPOCHS else None
    values = {"accuracy": accuracy, "loss": [1.5] * len(accuracy), "train_loss": [1.25] * len(accuracy)}
    seconds = {"seconds": [0.5] * len(accuracy)}
    return {"configuration": index, "run": run, "error": error, **values, **seconds, "machine": "here"}


def _everything(record: ModuleType, networks: int) -> dict[tuple[int, str], dict[str, Any]]:
    """Network i is better than network i + 1 in every run and epoch; the first "full" is .9 in the end."""
    found = {}
    for index in range(networks):
        for run in record.RUNS:
            if run not in record.OF_A_PART:
                curve = np.linspace(0.3, 0.9, record.EPOCHS) - 0.01 * index
                found[index, run] = _line(record, index, run, curve.tolist())
    return found


def test_what_is_packed_comes_back(record: ModuleType, tmp_path: Path) -> None:
    found = _everything(record, 3)
    found[1, "width 0.5"] = _line(record, 1, "width 0.5", [0.2, 0.3])
    del found[2, "depth 0.5"]
    record.pack(found, tmp_path / "table.npz")

    table = importlib.import_module("tables").read(tmp_path / "table.npz")
    assert len(table) == 3
    assert len(table.complete()) == 2
    assert table.params[0] == record.configurations()[0]
    assert table.space.count(table.params[1]).macs == table.macs[1] <= record.MAX_MACS
    assert table.accuracy("full")[0, -1] == pytest.approx(0.9)
    assert table.runs["ladder"][3].subset == 0.5
    diverged = table.accuracy("width 0.5")[1]
    assert diverged[:2] == pytest.approx([0.2, 0.3])
    assert diverged[2:] == pytest.approx(0.1)  # guessing one of ten classes
    assert np.isnan(table.measured("seconds", "width 0.5")[1, 2])


def test_a_recording_goes_on_from_table_and_journal(record: ModuleType, tmp_path: Path) -> None:
    found = _everything(record, 2)
    later = found.pop((1, "ladder"))
    path, journal = tmp_path / "table.npz", tmp_path / "journal.jsonl"
    record.pack(found, path)
    torn = json.dumps(_line(record, 7, "full", [0.5] * 12))[:40]
    journal.write_text("\n".join([json.dumps(record.conditions()), json.dumps(later), torn]))

    assert record.collect(journal, path).keys() == found.keys() | {(1, "ladder")}
    record.pack(record.collect(journal, path), path)
    assert record.collect(tmp_path / "none", path).keys() == found.keys() | {(1, "ladder")}


def test_trainings_under_other_conditions_are_refused(record: ModuleType, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text(json.dumps(record.conditions() | {"train": 50}) + "\n")
    with pytest.raises(ValueError, match="other conditions"):
        record.collect(journal, tmp_path / "table.npz")


def test_ladder_is_trained_as_its_lowest_rung_and_goes_on(
    record: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (60, 1, 28, 28), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.arange(60) % 10)
    data = Data("noise", split, split, split, tuple("abcdefghij"))
    monkeypatch.setattr(record, "_objective", lambda folder: TrainOn(data, "accuracy"))
    [smallest] = np.argsort([record.space().count(p).macs for p in record.configurations()[:40]])[:1]
    runs = {run: record.train(int(smallest), run, "nowhere", "cpu") for run in ("data low", "ladder")}
    assert all(len(run["accuracy"]) == len(run["seconds"]) == record.EPOCHS for run in runs.values())
    assert runs["ladder"]["train_loss"][:3] == runs["data low"]["train_loss"][:3]
    assert runs["ladder"]["train_loss"][3] != runs["data low"]["train_loss"][3]


def _replay(record: ModuleType, ladder: ModuleType, path: Path, axes: Axes, budget: float) -> Any:
    record.pack(_everything(record, 20), path)
    table = ladder._table(path)
    return ladder.Replay(table, ladder.Pool(table), axes, budget)


def test_replayed_search_finds_the_best_and_pays_for_every_epoch(
    record: ModuleType, ladder: ModuleType, tmp_path: Path
) -> None:
    replay = _replay(record, ladder, tmp_path / "table.npz", Axes(epochs=[12]), budget=50)
    trace = list(replay.run(FullFidelity(), ladder.SAMPLERS["random"](), seed=0))
    assert len(replay.records) == 20  # then the pool is empty
    assert trace[-1][2] == 0
    assert trace[-1][:2] == pytest.approx((20, 20))


def test_replayed_ladder_carries_its_state(record: ModuleType, ladder: ModuleType, tmp_path: Path) -> None:
    axes = Axes(epochs=[3, 6, 12], subset=[0.25, 0.5, 1.0], resolution=[14, 20, 28])
    replay = _replay(record, ladder, tmp_path / "table.npz", axes, budget=1.2)
    list(replay.run(SuccessiveHalving(eta=4, drop_rungs=False), ladder.SAMPLERS["forest"](), seed=0))
    low, middle = 1 / 12 * 0.25 * 0.25, 1 / 12 * 0.5 * (20 / 28) ** 2
    assert replay.spent == pytest.approx(16 * 3 * low + 4 * 3 * middle + 6 / 12)
    done = [r for r in replay.records if r.state == "COMPLETE"]
    assert [len(r.curves) for r in done] == [1]
    assert done[0].key == min(replay.records, key=lambda r: replay.pool.row[r.key]).key


def test_replay_refuses_what_was_not_recorded(record: ModuleType, ladder: ModuleType, tmp_path: Path) -> None:
    replay = _replay(record, ladder, tmp_path / "table.npz", Axes(epochs=[12], subset=[0.3]), budget=5)
    with pytest.raises(ValueError, match="not recorded"):
        list(replay.run(FullFidelity(), ladder.SAMPLERS["random"](), seed=0))
