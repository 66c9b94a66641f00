"""Tables in files: read as written, or refused naming line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fidelity.data import load_data

ROWS = [f"{i},{i / 2},{'ab'[i % 2]}" for i in range(20)]


@pytest.mark.parametrize("header", ["", "length,width,kind\n", "\ufefflength,width,kind\n"])
def test_a_csv_file(tmp_path: Path, header: str) -> None:
    path = tmp_path / "flowers.csv"
    path.write_text(header + "\n".join(ROWS) + "\n\n", encoding="utf-8")
    data = load_data(path)
    assert (data.name, data.input_shape, data.class_names) == ("flowers", (2,), ("a", "b"))
    assert len(data.train) + len(data.val) + len(data.test) == 20
    assert torch.equal(data.train.inputs[:, 0] % 2, data.train.labels.float())
    assert torch.equal(data.train.inputs[:, 0], 2 * data.train.inputs[:, 1])


def test_whole_numbers_are_labels_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(f"{i}, {8 + i % 3}" for i in range(30)))
    assert load_data(str(path)).class_names == ("8", "9", "10")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no rows"),
        ("a\nb\n", "has no rows"),
        ("x,y,kind\n", "has no rows"),
        ("x,y,kind\n1,2,a\n1,?,b\n", "line 3, column 'y': '\\?' is no number"),
        ("1,2,a\n1,,b\n", "line 2, column 2: '' is no number"),
        ("1,?,a\n1,2,b\n", "line 1, column 2"),
        ("1,2,a\n1,b\n", "line 2: has 2 cells, must have 3"),
        ("1,nan,a\n" * 9 + "1,2,b\n" * 9, "9 of 18 contain NaN"),
        ("1,2,0.5\n1,2,1.5\n", "2 examples to learn numbers from, at least 10 are needed"),
    ],
)
def test_broken_csv_files_are_refused_by_line_and_column(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        load_data(path)


def test_an_npz_file_of_vectors_or_images(tmp_path: Path) -> None:
    y = np.arange(30) % 3
    for name, X in (("vectors", np.random.default_rng(0).random((30, 4))), ("images", np.ones((30, 8, 8)))):
        path = tmp_path / f"{name}.npz"
        np.savez(path, X=X, y=y)
        data = load_data(path)
        assert torch.equal(data.val.inputs, load_data((X, y)).val.inputs)
        assert data.name == name


def test_an_npz_file_with_its_own_splits(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    X, y = np.random.default_rng(0).random((30, 4)), np.arange(30) % 3
    np.savez(path, X_train=X, y_train=y, X_test=X[:12], y_test=y[:12])
    data = load_data(path)
    assert (len(data.train), len(data.val), len(data.test)) == (27, 3, 12)


@pytest.mark.parametrize(
    "arrays",
    [
        {"X": np.ones((9, 2))},
        {"a": np.ones(9), "b": np.ones(9)},
        {"X_test": np.ones((9, 2)), "y_test": np.ones(9)},
    ],
)
def test_npz_files_with_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(ValueError, match="must hold X and y"):
        load_data(tmp_path / "t.npz")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    for name in ("t.csv", "t.npz"):
        with pytest.raises(ValueError, match="cannot be read"):
            load_data(tmp_path / name)
        (tmp_path / name).write_bytes(b"\xff\xfe\x00garbage")
        with pytest.raises(ValueError, match="cannot be read"):
            load_data(tmp_path / name)
    np.savez(tmp_path / "objects.npz", X=np.array([{}] * 4), y=np.arange(4))
    with pytest.raises(ValueError, match="cannot be read"):
        load_data(tmp_path / "objects.npz")
    with pytest.raises(ValueError, match="image_size=4"):
        load_data(tmp_path / "objects.npz", image_size=4)
