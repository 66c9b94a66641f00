"""Several objectives from the command line: searched, shown, one of the front chosen and exported."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_cli import Ran, run, trials

import bonas

WINE = ("--data", "wine", "--axis", "epochs=1:3", "--sampler", "random")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    folder = tmp_path_factory.mktemp("objectives") / "study"
    words = ("--objectives", "accuracy,parameters", "--study", folder, "--n-trials", 9, "--scheduler", "full")
    return folder, run("search", *WINE, *words, "--no-retrain")


def test_the_search_ends_with_a_front(searched: tuple[Path, Ran]) -> None:
    folder, ran = searched
    assert ran.code == 0, ran.err
    study = bonas.load_study(storage=folder / "study.db")
    assert (study.metric_names, study.directions) == (("accuracy", "parameters"), ("maximize", "minimize"))
    assert re.search(rf"front of {len(study.best_trials)} trials? at 3 epochs: best accuracy", ran.out)
    knee = study.recommend(prefer="knee").number
    assert re.search(rf"Winner .*\(trial {knee}, 3 epochs\), the knee of the front", ran.out)
    assert f"--trial {knee} --export FOLDER" in ran.out
    assert all(t.values["parameters"] == t.count().parameters for t in study.trials)


def test_show_lists_the_whole_front_and_draws_it(searched: tuple[Path, Ran], tmp_path: Path) -> None:
    folder, _ = searched
    page, picture = tmp_path / "page.html", tmp_path / "front.png"
    ran = run("show", folder, "--top", 1, "--html", page, "--plot", picture)
    assert ran.code == 0, ran.err
    front = bonas.load_study(storage=folder / "study.db").best_trials
    rows = [line.split()[:2] for line in ran.out.splitlines() if re.match(r" +1 +\d+ ", line)]
    assert {int(number) for _, number in rows} == {t.number for t in front}
    text = page.read_text(encoding="utf-8")
    assert "knee of the front" in text
    assert text.count("<figure>") >= 4
    assert picture.stat().st_size > 5000


def test_any_trial_of_the_front_can_be_exported(searched: tuple[Path, Ran], tmp_path: Path) -> None:
    folder, _ = searched
    smallest = min(trials(folder), key=lambda t: t.values["parameters"]).number
    ran = run("best", folder, "--trial", smallest, "--export", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert f"chosen accuracy {trials(folder)[smallest].values['accuracy']:.4f}" in ran.out
    assert json.loads((tmp_path / "out" / "configuration.json").read_text())["trial"] == smallest


def test_best_prints_the_front_and_its_knee(searched: tuple[Path, Ran]) -> None:
    ran = run("best", searched[0])
    assert ran.code == 0, ran.err
    assert re.match(
        r"front of \d+ trials? at 3 epochs: .*\nknee accuracy [\d.]+, parameters [\d,]+ \(", ran.out
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("best", "--trial", 99), "9 trials, counted from 0"),
        (("search", "--objectives", "accuracy"), "has --objectives accuracy,parameters"),
        (("search", "--objectives", "acuracy,macs"), "Did you mean accuracy?"),
        (("search", "--objectives", "macs,macs"), "Name each once"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    searched: tuple[Path, Ran], words: tuple[object, ...], said: str
) -> None:
    folder, _ = searched
    command, *rest = words
    ran = run(command, folder, *rest) if command == "best" else run(command, "--study", folder, *rest)
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_going_on_takes_the_objectives_in_any_order(searched: tuple[Path, Ran]) -> None:
    folder, _ = searched
    before = len(trials(folder))
    words = ("--objectives", "parameters,accuracy", "--n-trials", before, "--no-retrain")
    assert run("search", "--study", folder, *words).code == 0
    assert len(trials(folder)) == before
