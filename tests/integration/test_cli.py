"""The command line from end to end: real searches on digits at the smallest size, in temporary folders."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import bonas
from bonas.cli import main

TINY = ("--data", "digits", "--axis", "epochs=1:3", "--sampler", "random")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def run(*words: object) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Ran(code, out.getvalue(), err.getvalue())


def trials(folder: Path) -> list[bonas.FrozenTrial]:
    return bonas.load_study(storage=folder / "study.db").trials


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    folder = tmp_path_factory.mktemp("cli") / "found here"
    ran = run(
        "search", *TINY, "--study", folder, "--n-trials", 4, "--baseline", "--export", folder / "export"
    )
    return folder, ran


# -- the way of a search -----------------------------------------------------------------------------


def test_a_search_reports_both_test_accuracies_and_how_to_go_on(searched: tuple[Path, Ran]) -> None:
    folder, ran = searched
    assert ran.code == 0, ran.err
    assert re.search(r"found by the search \(trial \d\) +[\d.]+ %", ran.out)
    assert re.search(r"written by hand +[\d.]+ %", ran.out)
    assert f"bonas search --study '{folder}' --n-trials 8" in ran.out
    assert f"Result   {folder}/export" in ran.out


def test_a_pipe_gets_a_line_for_every_segment_and_no_control_characters(searched: tuple[Path, Ran]) -> None:
    folder, ran = searched
    lines = [line for line in ran.out.splitlines() if re.match(r" +[\d.]+ s  trial", line)]
    ran_once = [t for t in trials(folder) if t.fidelity.epochs == 1]
    assert len(ran_once) < len(trials(folder)) < len(lines)
    assert "\x1b" not in ran.out


def test_the_exported_network_runs_without_bonas_and_scores_what_was_printed(
    searched: tuple[Path, Ran], tmp_path: Path
) -> None:
    folder, ran = searched
    test = bonas.load_data("digits").test
    pixels = tmp_path / "test.json"
    pixels.write_text(json.dumps([test.inputs.tolist(), test.labels.tolist()]))
    code = (
        "import sys, json, torch; sys.modules.update(dict.fromkeys(['bonas', 'spaces', 'fidelity'])); "
        f"sys.path.insert(0, {str(folder / 'export')!r}); import network; "
        f"images, labels = map(torch.tensor, json.load(open({str(pixels)!r}))); "
        "found, probability = network.predict(network.load(), images); "
        "print((found == labels).float().mean().item())"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = re.search(r"found by the search.*? ([\d.]+) %", ran.out)
    assert printed is not None
    assert float(done.stdout) * 100 == pytest.approx(float(printed[1]), abs=0.006)


def test_the_configuration_says_what_was_exported(searched: tuple[Path, Ran]) -> None:
    folder, _ = searched
    stored = json.loads((folder / "export" / "configuration.json").read_text())
    winner = bonas.load_study(storage=folder).trials[stored["trial"]]
    assert stored["params"] == winner.params
    assert stored["trained_on"] == "train and val"
    assert 0 < stored["test_accuracy"] <= 1


def test_show_prints_the_leaderboard_and_writes_pictures(searched: tuple[Path, Ran], tmp_path: Path) -> None:
    folder, _ = searched
    ran = run("show", folder, "--html", tmp_path / "report.html", "--plot", tmp_path / "new" / "study.png")
    assert ran.code == 0, ran.err
    assert "maximize accuracy\n4 trials: " in ran.out
    assert len(re.findall(r"^ *\d+ +\d+ +0\.\d{4}", ran.out, re.MULTILINE)) == 4
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 4  # the network, the search, its curves, its rungs
    assert (tmp_path / "new" / "study.png").read_bytes().startswith(b"\x89PNG")


def test_best_exports_the_weights_of_the_search_without_retraining(
    searched: tuple[Path, Ran], tmp_path: Path
) -> None:
    folder, _ = searched
    ran = run("best", folder, "--export", tmp_path)
    assert ran.code == 0, ran.err
    stored = json.loads((tmp_path / "configuration.json").read_text())
    assert stored["trained_on"] == "train"
    assert stored["test_accuracy"] is None


def test_best_retrains_once_and_gives_the_same_again(searched: tuple[Path, Ran]) -> None:
    folder, ran = searched
    again = run("best", folder / "study.db", "--retrain")
    printed = re.search(r"found by the search.*? ([\d.]+) %", ran.out)
    assert printed is not None
    assert f"Test accuracy {printed[1]} %" in again.out


def test_without_retrain_the_test_data_stay_untouched(tmp_path: Path) -> None:
    ran = run("search", *TINY, "--study", tmp_path / "s", "--n-trials", 1, "--no-retrain")
    assert ran.code == 0, ran.err
    assert "test accuracy" not in ran.out.lower()
    assert not any("retrained" in key for key in bonas.load_study(storage=tmp_path / "s").attrs)


def test_going_on_needs_only_the_folder_and_keeps_what_was_found(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    assert run("search", *TINY, "--study", folder, "--n-trials", 2, "--no-retrain").code == 0
    before = [t.record for t in trials(folder)]
    ran = run("search", "--study", folder, "--n-trials", 4, "--no-retrain")
    assert ran.code == 0, ran.err
    assert "going on with 2 trials" in ran.out
    after = trials(folder)
    assert len(after) == 4
    assert [t.params for t in after[:2]] == [dict(r.params) for r in before]


def test_size_limits_are_decided_before_training(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    limits = ("--max-parameters", 30_000, "--max-macs", 2_000_000, "--max-memory", "2GB", "--max-latency", 30)
    assert run("search", *TINY, "--study", folder, "--n-trials", 3, *limits, "--no-retrain").code == 0
    study = bonas.load_study(storage=folder)
    assert study.constraints["memory"] == 2e9
    latency = study.constraints["latency"]
    assert isinstance(latency, bonas.Latency)
    assert latency.seconds == 30
    trained = [t for t in study.trials if t.cost > 0]
    assert len(trained) == 3
    assert all(0 < t.user_attrs["measured_latency"] < 30 for t in trained)
    assert all(study.space.count(t.params).parameters <= 30_000 for t in trained)


@pytest.mark.parametrize("sampler", ["forest", "optuna-tpe"])
def test_every_sampler_and_the_full_scheduler(sampler: str, tmp_path: Path) -> None:
    words = ("--data", "digits", "--axis", "epochs=1,2", "--scheduler", "full", "--sampler", sampler)
    ran = run("search", *words, "--study", tmp_path / "s", "--n-trials", 3, "--no-retrain")
    assert ran.code == 0, ran.err
    assert {str(t.state) for t in trials(tmp_path / "s")} <= {"COMPLETE", "FAIL"}


# -- stopping ----------------------------------------------------------------------------------------


def start(*words: object, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bonas", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_ctrl_c_stops_cleanly_and_the_search_goes_on(tmp_path: Path) -> None:
    words = ("search", "--data", "digits", "--axis", "epochs=1000:2000", "--scheduler", "full")
    process = start(*words, "--study", "s", "--n-trials", 2, "--no-retrain", cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("s/study.db")) or not _running(tmp_path / "s"):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    # Without the last word it would retrain, and touch the test data, which nobody has asked for.
    assert "Go on with: bonas search --study s --n-trials 2 --scheduler full --no-retrain\n" in out
    [trial] = trials(tmp_path / "s")
    assert str(trial.state) == "PAUSED"
    done = [t.curves for t in (trial,)]
    ran = run("search", "--study", tmp_path / "s", "--n-trials", 2, "--timeout", 4, "--no-retrain")
    assert ran.code == 0, ran.err
    [trial, *_] = trials(tmp_path / "s")
    # What had been observed is still there, and training went on from it.
    known = [o.epoch for curve in done[0] for o in curve.observations]
    assert [o.epoch for o in trial.curves[0].observations][: len(known)] == known
    assert len(trial.curves) == 1
    assert len(trial.curves[0]) > len(known)


def _running(folder: Path) -> bool:
    # Not through bonas: opening a study from here must not look like another worker.
    with contextlib.closing(sqlite3.connect(folder / "study.db")) as connection:
        try:
            rows = connection.execute("select count(*) from trials where state = 'RUNNING'").fetchone()
        except sqlite3.OperationalError:
            return False
        return bool(rows[0])


def test_a_reader_that_leaves_early_is_no_error(searched: tuple[Path, Ran]) -> None:
    folder, _ = searched
    process = start("show", folder, cwd=folder)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


# -- bad input ---------------------------------------------------------------------------------------

BAD = {
    "unknown sampler": (["--sampler", "forrest"], "Did you mean forest"),
    "unknown scheduler": (["--scheduler", "hyperbant"], "Did you mean hyperband?"),
    "unknown space": (["--space", "chian"], "Did you mean chain"),
    "unknown axis": (["--axis", "epoch=1:9"], "Did you mean epochs"),
    "axis without values": (["--axis", "epochs"], "must be a range such as epochs=1:27"),
    "empty axis": (["--axis", "epochs="], "must be a range such as epochs=1:27"),
    "axis of three ends": (["--axis", "epochs=1:2:3"], "must be a range such as epochs=1:27"),
    "axis given twice": (["--axis", "epochs=1:2", "--axis", "epochs=1:3"], "Give each axis once"),
    "inverted axis": (["--axis", "epochs=9:1"], "inverted"),
    "fraction above 1": (["--axis", "subset=0.1:2"], "at most 1"),
    "unknown data": (["--data", "digit"], "digits"),
    "missing data": (["--data", "mnist", "--data-dir", "nowhere"], "nowhere"),
    "no such device": (["--device", "tpu"], "cuda:1"),
    "no trials": (["--n-trials", "0"], "must be a whole number of at least 1"),
    "no budget": (["--budget", "0"], "must be a number greater than 0"),
    "infinite timeout": (["--timeout", "inf"], "must be a number greater than 0"),
    "budget below one rung": (["--axis", "epochs=1:10", "--budget", "0.01"], "lowest rung"),
    "negative seed": (["--seed", "-1"], "at least 0"),
    "unknown option": (["--samplr", "random"], "--samplr"),
    "endless training": (["--axis", "epochs=1:1e30"], "to 1,000,000"),
    "baseline without retrain": (["--no-retrain", "--baseline"], "Leave one of them out"),
    "export into a file": (["--export", __file__], "an export needs a folder"),
    "fixed twice": (["--fix", "lr=0.1", "--fix", "lr=0.2"], "Give each hyperparameter once"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, says = BAD[what]
    data = [] if "--data" in words else ["--data", "digits"]
    ran = run("search", *data, *words, "--study", tmp_path / "s")
    assert ran.code == 2
    assert ran.err.startswith("bonas: error: ")
    assert ran.err.count("\n") == 1
    assert says in ran.err
    assert not (tmp_path / "s").exists()


def test_constraints_that_nothing_keeps_do_not_bind_the_next_command(tmp_path: Path) -> None:
    words = ("--data", "wine", "--axis", "epochs=1:2", "--n-trials", 1, "--study", tmp_path / "s")
    ran = run("search", *words, "--max-memory", "10")
    assert ran.code == 2
    assert "keeps them" in ran.err
    assert not (tmp_path / "s").exists()


def test_the_data_must_be_named_once() -> None:
    ran = run("search")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "--data digits" in ran.err


def test_truncated_data_are_named(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"\x00\x00\x08\x03\x00\x00")
    for name in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (tmp_path / name).write_bytes(b"")
    ran = run("search", "--data", "fashion-mnist", "--data-dir", tmp_path, "--study", tmp_path / "s")
    assert ran.code == 2
    assert "idx" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("command", ["show", "best"])
def test_a_path_that_is_not_a_study_is_named(command: str, tmp_path: Path) -> None:
    (tmp_path / "study.txt").write_text("something")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "study.db").write_text("not a database, but long enough to look like a file")
    (tmp_path / "other").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "other" / "study.db")) as connection:
        connection.execute("create table recipes (name text)")
    for path in ("missing", "study.txt", "text", "other", "."):
        ran = run(command, tmp_path / path)
        assert ran.code == 2, path
        assert ran.err.startswith("bonas: error: "), path
        assert ran.err.count("\n") == 1, path
    assert (tmp_path / "text" / "study.db").read_text().startswith("not a database")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--space", "nas_bench_201"], "--space nas_bench_201"),
        (["--data", "mnist"], "--data mnist"),
        (["--seed", "3"], "--seed 3"),
        (["--axis", "epochs=1:9"], "--axis"),
        (["--max-parameters", "10"], "--max-"),
    ],
)
def test_a_search_that_differs_from_the_stored_one_is_refused(
    words: list[str], says: str, searched: tuple[Path, Ran]
) -> None:
    folder, _ = searched
    before = len(trials(folder))
    ran = run("search", "--study", folder, *words, "--n-trials", 9)
    assert ran.code == 2
    assert says in ran.err
    assert "name another --study folder" in ran.err
    assert len(trials(folder)) == before


def test_a_stored_space_that_differs_is_refused(tmp_path: Path) -> None:
    from bonas import fidelity, spaces

    space = spaces.chain(input_shape=(3, 16, 16), n_classes=4).with_hyperparameters()
    axes = fidelity.Axes(epochs=(1, 3))
    bonas.create_study(space=space, axes=axes, direction="maximize", storage=tmp_path / "s" / "study.db")
    ran = run("search", "--data", "digits", "--study", tmp_path / "s", "--n-trials", 1)
    assert ran.code == 2
    assert "Name another --study folder" in ran.err
    assert trials(tmp_path / "s") == []


def test_data_of_another_shape_are_refused(tmp_path: Path) -> None:
    from PIL import Image

    folder, images = tmp_path / "s", tmp_path / "images"

    def draw(size: int) -> None:
        for name, grey in (("dark", 40), ("light", 200)):
            (images / name).mkdir(parents=True, exist_ok=True)
            for i in range(20):
                Image.new("L", (size, size), grey + i).save(images / name / f"{i}.png")

    words = ("--axis", "epochs=1:2", "--study", folder, "--n-trials", 1, "--no-retrain")
    draw(8)
    assert run("search", "--data", images, *words).code == 0
    draw(12)
    ran = run("search", "--study", folder, "--n-trials", 2)
    assert ran.code == 2
    assert "12, 12" in ran.err
    assert "Name another --study folder" in ran.err
    assert len(trials(folder)) == 1


def test_nothing_was_evaluated_yet_is_said(tmp_path: Path) -> None:
    from bonas import fidelity, spaces

    space = spaces.chain(input_shape=(1, 8, 8), n_classes=10)
    bonas.create_study(space=space, axes=fidelity.Axes(epochs=(1, 3)), storage=tmp_path / "study.db")
    assert "0 trials" in run("show", tmp_path).out
    ran = run("best", tmp_path)
    assert ran.code == 2
    assert "none of the 0 trials has a value" in ran.err


def test_a_search_killed_at_its_very_start_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "study.db").touch()
    ran = run(
        "search",
        "--data",
        "digits",
        "--n-trials",
        1,
        "--axis",
        "epochs=1:1",
        "--no-retrain",
        "--study",
        tmp_path,
    )
    assert ran.code == 0, ran.err


def test_two_searches_may_begin_in_one_folder_at_once(tmp_path: Path) -> None:
    words = ("--data", "digits", "--n-trials", 2, "--axis", "epochs=1:1", "--no-retrain")
    two = [start("search", *words, "--study", tmp_path / "s", cwd=tmp_path) for _ in range(2)]
    for process in two:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert len(trials(tmp_path / "s")) == 2


def test_exporting_without_checkpoints_says_what_to_do(tmp_path: Path) -> None:
    words = ("--data", "digits", "--n-trials", 1, "--axis", "epochs=1:1", "--no-retrain")
    assert run("search", *words, "--study", tmp_path).code == 0
    shutil.rmtree(tmp_path / "artifacts")
    ran = run("best", tmp_path, "--export", tmp_path / "e")
    assert ran.code == 2
    assert "--retrain" in ran.err


def test_the_command_that_goes_on_names_whole_numbers(tmp_path: Path) -> None:
    from bonas.cli import _parser
    from bonas.cli.folder import StudyFolder
    from bonas.cli.search import _again

    study = bonas.create_study(space=bonas.spaces.chain(input_shape=(1, 8, 8), n_classes=10))
    arguments = _parser().parse_args(["search", "--n-trials", "1000000"])
    assert "--n-trials 2000000" in _again(arguments, StudyFolder(tmp_path), study, more=2)


def test_help_and_version() -> None:
    with pytest.raises(SystemExit) as ended:
        run("search", "--help")
    assert ended.value.code == 0
    assert run("--version").out == f"bonas {bonas.__version__}\n"
    assert "search" in run().out


def test_an_unknown_command_is_one_line() -> None:
    ran = run("serch")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
