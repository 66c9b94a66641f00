"""The command line on numbers to predict: searched by R², retrained, compared, exported in their own unit."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bonas
from bonas.cli import main


def run(*words: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("cli") / "diabetes"
    code, out, err = run(
        *("search", "--data", "diabetes", "--axis", "epochs=1:3", "--sampler", "random", "--study", folder),
        *("--n-trials", 3, "--baseline", "--retrain-epochs", 6, "--export", folder / "export"),
    )
    assert code == 0, err
    return folder, out


def test_a_search_reports_r2(searched: tuple[Path, str]) -> None:
    folder, out = searched
    assert "vectors of 10 features, a number to predict; 266 train, 88 val, 88 test" in out
    study = bonas.load_study(storage=folder / "study.db")
    assert (study.metric_names, study.directions) == (("r2",), ("maximize",))
    assert "label_smoothing" not in {k for t in study.trials for k, v in t.params.items() if v != 0}
    assert "test R²  parameters" in out
    assert re.search(r"found by the search \(trial \d\) +-?\d\.\d{4} ", out)
    assert re.search(r"written by hand +-?\d\.\d{4} ", out)
    code, again, err = run("best", folder, "--retrain", "--retrain-epochs", 6)
    assert code == 0, err
    printed = re.search(r"found by the search.*? (-?\d\.\d{4}) ", out)
    assert printed is not None
    assert f"Test R² {printed[1]} after" in again


def test_the_exported_network_predicts_in_the_unit_of_the_data(searched: tuple[Path, str]) -> None:
    folder, _ = searched
    test = bonas.load_data("diabetes").test
    code = (
        f"import sys, json; sys.path.insert(0, {str(folder / 'export')!r}); import network; "
        "print(network.predict(network.load(), json.loads(sys.stdin.read())).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(test.inputs.tolist()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    errors = [abs(p - y) for p, y in zip(json.loads(done.stdout), test.labels.tolist(), strict=True)]
    stored = json.loads((folder / "export" / "configuration.json").read_text())
    assert sum(errors) / len(errors) == pytest.approx(stored["test"]["mae"], rel=1e-3)
    assert stored["test_accuracy"] is None


def test_metrics_of_classes_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    code, _, err = run(
        "search", "--data", "diabetes", "--objectives", "accuracy,macs", "--study", tmp_path / "s"
    )
    assert code != 0
    assert "knows no accuracy for these data. Use r2, mse, mae" in err
    assert not (tmp_path / "s").exists()
