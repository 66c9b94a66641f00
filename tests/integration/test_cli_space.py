"""``bonas space``: what it prints, draws and writes is the space; and every space can be searched."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import bonas
from bonas import spaces
from bonas.cli import main
from bonas.cli.named_spaces import SPACES
from fidelity.data import REGULARISATION

SVG = "{http://www.w3.org/2000/svg}"


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "140")

    def call(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_without_a_name_all_spaces_are_listed(run: Run) -> None:
    code, out, _ = run("space")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(SPACES)


@pytest.mark.parametrize("name", SPACES)
def test_every_space_is_described_and_counted(name: str, run: Run) -> None:
    code, out, err = run("space", name)
    assert code == 0, err
    space = (
        spaces.chain_mlp(input_shape=(64,), n_classes=10)
        if name == "mlp"
        else spaces.chain((3, 32, 32), 10)
        if name == "chain"
        else spaces.cell(name)
    )
    count = space.count(space.default)
    assert re.search(rf"^default +{count.parameters:,} +{count.macs:,}$", out, re.MULTILINE)
    assert f"Architecture: {len(space.names)} hyperparameters" in out
    # Every hyperparameter's name is on a row, what differs in some of them replaced by a letter.
    rows = {line.split()[0] for line in out.splitlines() if line.startswith("  ") and line.strip()}
    patterns = [re.sub(r"\{\w\}", r"\\d+", row.replace("{cell}", "(normal|reduction)")) for row in rows]
    for hyperparameter in space.with_hyperparameters().names:
        assert any(re.fullmatch(pattern, hyperparameter) for pattern in patterns), hyperparameter


def test_ranges_priors_conditions_and_defaults_are_said(run: Run) -> None:
    rows = [" ".join(line.split()) for line in run("space", "chain")[1].splitlines()]
    assert "n_layers 2 to 6 3" in rows
    assert any(r.startswith("layer{i}_op ") and r.endswith("if n_layers > i, i = 2 … 5") for r in rows)
    assert any(r.startswith("lr 0.0003 to 0.1, logarithmic 0.003") for r in rows)
    assert any(r.startswith("momentum ") and "if optimizer" in r for r in rows)
    assert any("conv (50 %)" in r for r in rows)


def test_a_genotype_has_its_published_size(run: Run) -> None:
    code, out, err = run("space", "darts", "--genotype", "DARTS_V2")
    assert code == 0, err
    assert re.search(r"^DARTS_V2 +3,349,342 ", out, re.MULTILINE)
    smaller = run("space", "darts", "--genotype", "DARTS_V2", "--filters", 4, "--cells", 1)[1]
    assert not re.search(r"^DARTS_V2 +3,349,342 ", smaller, re.MULTILINE)


def test_drawings_show_the_networks_asked_for(run: Run, tmp_path: Path) -> None:
    def texts(*words: object) -> list[str]:
        code, _, err = run("space", *words, "--draw", tmp_path / "new" / "x.svg")
        assert code == 0, err
        root = ElementTree.parse(tmp_path / "new" / "x.svg").getroot()
        return [t.text or "" for t in root.iter(f"{SVG}text")]

    assert "classifier" in texts("chain")
    assert {"normal", "reduction", "network"} <= set(texts("enas"))
    three = texts("nas_bench_201", "--sample", 3, "--seed", 4)
    assert [t for t in three if t.startswith("sample")] == [f"sample {i}: cell" for i in (1, 2, 3)]
    assert texts("nas_bench_201", "--sample", 3, "--seed", 4) == three
    assert texts("nas_bench_201", "--sample", 3, "--seed", 5) != three


def test_the_json_is_the_whole_space(run: Run, tmp_path: Path) -> None:
    words = ("--input-shape", "1,28,28", "--classes", 7, "--filters", "8,16", "--cells", 1)
    code, _, err = run("space", "darts", *words, "--json", tmp_path / "space.json")
    assert code == 0, err
    restored = spaces.Space.from_dict(json.loads((tmp_path / "space.json").read_text(encoding="utf-8")))
    assert restored == spaces.cell("darts", (1, 28, 28), 7, filters=[8, 16], cells=1).with_hyperparameters()
    restored.count(restored.sample(1, np.random.default_rng(0))[0])


BAD = {
    "unknown space": (["chian"], "Did you mean chain"),
    "unknown genotype": (["darts", "--genotype", "DARTS_V3"], "Did you mean DARTS_V"),
    "genotype of another space": (["enas", "--genotype", "DARTS_V2"], "bonas space darts"),
    "no picture": (["chain", "--draw", "x.png"], "must end in .svg"),
    "two kinds of networks": (["darts", "--genotype", "DARTS_V2", "--sample", "2"], "Give one of them"),
    "seed of nothing": (["chain", "--seed", "1"], "--sample"),
    "no shape": (["chain", "--input-shape", "3x32x32"], "whole numbers from 1 with commas"),
    "half a shape": (["chain", "--input-shape", "3,32"], "channels, height, width"),
    "vectors for images": (["chain", "--input-shape", "64"], "Use mlp"),
    "images for vectors": (["mlp", "--input-shape", "3,32,32"], "Use chain"),
    "no class": (["chain", "--classes", "0"], "at least 1"),
    "cells of a chain": (["chain", "--cells", "2"], "is a choice of cell spaces"),
    "odd filters": (["darts", "--filters", "5"], "even"),
    "small images": (["darts", "--input-shape", "3,1,1"], "larger"),
    "a folder in the way": (["chain", "--json", "."], "Check that the place exists"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_line(what: str, run: Run) -> None:
    words, says = BAD[what]
    code, out, err = run("space", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("bonas: error: ")
    assert says in err


# -- searching them ------------------------------------------------------------------------------------

TINY = ("--axis", "epochs=1:1", "--n-trials", 2, "--sampler", "random", "--no-retrain")


@pytest.mark.parametrize("name", ["nasnet", "darts"])
def test_cells_are_searched_at_the_size_asked_for(name: str, run: Run, tmp_path: Path) -> None:
    words = ("--space", name, "--filters", 4, "--cells", 1, "--study", tmp_path / "s")
    code, _, err = run("search", "--data", "digits", *words, *TINY)
    assert code == 0, err
    study = bonas.load_study(storage=tmp_path / "s")
    asked = spaces.cell(name, (1, 8, 8), 10, filters=4, cells=1).with_hyperparameters()
    assert study.space == asked.fix(REGULARISATION["digits"])
    assert len(study.trials) == 2
    code, _, err = run("search", "--study", tmp_path / "s", "--cells", 2, *TINY)
    assert code == 2
    assert "over another space" in err
    assert run("show", tmp_path / "s", "--html", tmp_path / "page.html")[0] == 0
    assert ">reduction<" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_vectors_are_searched_with_perceptrons_unless_told_otherwise(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("search", "--data", "wine", *TINY)
    assert code == 0, err
    assert "vectors of 13 features, 3 classes" in out
    assert bonas.load_study(storage=tmp_path / "runs" / "wine-mlp").space.input_shape == (13,)
    # The same words go on there.
    code, out, err = run("search", "--data", "wine", *TINY)
    assert code == 0, err
    assert "going on with 2 trials" in out
    code, _, err = run("search", "--data", "wine", "--space", "chain", *TINY)
    assert code == 2
    assert "Use mlp" in err
    code, _, err = run("search", "--data", "digits", "--space", "mlp", *TINY)
    assert code == 2
    assert "Use chain" in err
    assert not (tmp_path / "runs" / "digits-mlp").exists()


@pytest.mark.parametrize("sampler", ["tpe", "smac"])
def test_every_sampler_searches(sampler: str, run: Run, tmp_path: Path) -> None:
    words = ("--data", "wine", "--sampler", sampler, "--axis", "epochs=1:1", "--no-retrain")
    code, _, err = run("search", *words, "--n-trials", 3, "--study", tmp_path / "s")
    assert code == 0, err
    assert len(bonas.load_study(storage=tmp_path / "s").trials) == 3
