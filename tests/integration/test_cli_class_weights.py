"""Class weights from the command line: kept with the search, used by retrain and baseline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_cli import Ran, run, trials

WORDS = ("--data", "breast-cancer", "--axis", "epochs=1:2", "--scheduler", "full", "--n-trials", 1)
RETRAIN = ("--retrain-epochs", 2)


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    folder = tmp_path_factory.mktemp("weights") / "balanced"
    words = ("--class-weights", "balanced", "--objectives", "balanced_accuracy", "--study", folder)
    return folder, run("search", *WORDS, *words, *RETRAIN, "--baseline")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "plain"
    assert run("search", *WORDS, "--study", folder, "--no-retrain").code == 0
    return folder


def test_classes_count_alike_where_asked(weighted: tuple[Path, Ran], plain: Path) -> None:
    folder, ran = weighted
    assert ran.code == 0, ran.err
    [one], [other] = trials(folder), trials(plain)
    assert one.params == other.params
    assert one.record.values["loss"] != other.record.values["loss"]


def test_a_stored_search_is_retrained_with_its_weights(
    weighted: tuple[Path, Ran], plain: Path, tmp_path: Path
) -> None:
    losses = []
    for folder in (weighted[0], plain):
        out = tmp_path / folder.name
        ran = run("best", folder, "--retrain", "--retrain-epochs", 1, "--export", out)
        assert ran.code == 0, ran.err
        losses.append(json.loads((out / "configuration.json").read_text(encoding="utf-8"))["test"]["loss"])
    assert losses[0] != losses[1]


def test_test_data_are_told_in_the_metric_of_the_search(weighted: tuple[Path, Ran]) -> None:
    folder, ran = weighted
    assert "test balanced accuracy  parameters" in ran.out
    found = re.search(r"found by the search.*? (\d+\.\d\d %) ", ran.out)
    assert found is not None
    assert re.search(r"written by hand +\d+\.\d\d % ", ran.out)
    again = run("best", folder, "--retrain", *RETRAIN)  # not trained again
    assert f"Test balanced accuracy {found[1]} after" in again.out


def test_a_search_keeps_its_weights(weighted: tuple[Path, Ran], plain: Path) -> None:
    assert run("search", "--study", weighted[0], "--n-trials", 1, "--no-retrain").code == 0
    ran = run("search", "--study", plain, "--class-weights", "balanced")
    assert ran.code == 2
    assert f"--class-weights balanced: the search in {plain} has none. Leave it out to go on" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "wine", "--class-weights", "blanced"), "Did you mean balanced?"),
        (("--data", "diabetes", "--class-weights", "balanced"), "are of classes"),
    ],
)
def test_weights_that_do_not_fit_leave_nothing_behind(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    ran = run("search", *words, "--study", tmp_path / "s")
    assert ran.code == 2
    assert said in ran.err
    assert not (tmp_path / "s").exists()
