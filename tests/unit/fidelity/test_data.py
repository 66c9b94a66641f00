"""Data sets: read whole or refused with a reason, split the same way every time."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fidelity.data import NAMES, load_data
from fidelity.data.splits import nested_order, stratified_split

LABELS = np.arange(60) % 3
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)


def idx(array: np.ndarray[Any, Any]) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, pattern: str = "{}-{}-idx{}-ubyte", zipped: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, n in (("train", 60), ("t10k", 30)):
        for kind, array in (("images", IMAGES[:n]), ("labels", LABELS[:n])):
            name = pattern.format(part, kind, array.ndim) + (".gz" if zipped else "")
            (folder / name).write_bytes(gzip.compress(idx(array)) if zipped else idx(array))


# -- splits ------------------------------------------------------------------------------------------


@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=6),
    fractions=st.sampled_from([[0.2, 0.2], [0.1], [0.45, 0.45], [0.01, 0.9]]),
    seed=st.integers(0, 5),
)
@settings(max_examples=100, deadline=None)
def test_splits_are_stratified_partitions(counts: list[int], fractions: list[float], seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    parts = stratified_split(labels, fractions, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, fraction in zip(parts[1:], fractions, strict=True):
        for label, n in enumerate(counts):
            got = int((labels[part] == label).sum())
            assert got >= 1
            if n * (1 - sum(fractions)) >= 3:
                assert abs(got - n * fraction) <= 1
    assert all((np.bincount(labels[part], minlength=len(counts)) >= 1).all() for part in parts)


@given(counts=st.lists(st.integers(1, 30), min_size=2, max_size=5), seed=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_every_prefix_of_the_nested_order_is_stratified(counts: list[int], seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    order = nested_order(labels, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    assert set(labels[order[: len(counts)]].tolist()) == set(range(len(counts)))
    for k in range(len(counts), len(labels) + 1):
        got = np.bincount(labels[order[:k]], minlength=len(counts))
        assert (np.abs(got - np.array(counts) * k / len(labels)) <= len(counts)).all()


def test_the_split_of_digits_never_changes() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.val), len(data.test)) == (1079, 359, 359)
    assert (data.input_shape, data.n_classes) == ((1, 8, 8), 10)
    # On any machine and with any version: results can be compared only if this stays.
    content = b"".join(s.inputs.numpy().tobytes() + s.labels.numpy().tobytes() for s in (data.val, data.test))
    assert hashlib.sha256(content).hexdigest()[:16] == "db7d6aa7c8ec5125"
    other = load_data("digits", seed=1)
    assert not torch.equal(other.val.inputs, data.val.inputs)


def test_fractions_are_kept() -> None:
    data = load_data((IMAGES, LABELS), val_fraction=0.3, test_fraction=0.1)
    assert (len(data.train), len(data.val), len(data.test)) == (36, 18, 6)


# -- idx files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("pattern", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte", "{}-{}"])
@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_idx_files_are_found_under_their_usual_names(
    tmp_path: Path, zipped: bool, pattern: str, below: str
) -> None:
    write_mnist(tmp_path / below, pattern, zipped)
    data = load_data("mnist", tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (54, 6, 30)
    assert torch.equal(data.test.inputs[:, 0], torch.from_numpy(IMAGES[:30]))
    assert data.train.inputs.dtype == torch.uint8
    assert data.class_names == ("0", "1", "2")
    assert load_data("fashion-mnist", str(tmp_path)).class_names == ("T-shirt/top", "Trouser", "Pullover")


def damaged(change: Callable[[bytes], bytes], zipped: bool = False) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        write_mnist(folder, zipped=zipped)
        path = next(folder.glob("train-images*"))
        path.write_bytes(change(path.read_bytes()))

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damaged(lambda b: b[:-7]), "train-images.*truncated: expected 3,856 bytes .* got 3,849"),
        (damaged(lambda b: b + b"x"), "too long: expected 3,856 bytes .* got 3,857"),
        (damaged(lambda b: b[:10]), "truncated"),
        (damaged(lambda b: b""), "begins with nothing"),
        (damaged(lambda b: b"<html>" + b), "no idx file: it begins with 3c 68 74 6d"),
        (damaged(lambda b: b[:2] + b"\x07" + b[3:]), "no idx file"),
        (damaged(lambda b: b[:-30], zipped=True), "missing or damaged"),
        (damaged(lambda b: b[:50] + b"\xff\xff\xff" + b[53:], zipped=True), "missing or damaged"),
        (damaged(lambda b: idx(LABELS)), "1 dimension.*exchanged"),
        (damaged(lambda b: idx(IMAGES[:50])), "50 images, .* 60 labels"),
        (lambda folder: (folder / "readme").write_text(""), "has no train-images-idx3-ubyte.*--data-dir"),
    ],
)
def test_damaged_files_are_refused_by_name(
    damage: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    damage(tmp_path)
    with pytest.raises(ValueError, match=words):
        load_data("mnist", tmp_path)


def test_labels_outside_the_data_set_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS + 20))
    with pytest.raises(ValueError, match="reach from 20 to 22"):
        load_data("mnist", tmp_path)


# -- names and folders -------------------------------------------------------------------------------


def test_cifar_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="download=True"):
        load_data("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("digit", {}, "Did you mean 'digits'"),
        ("fashionmnist", {"folder": "/"}, "Did you mean 'fashion-mnist'"),
        ("mnist", {"folder": "/nowhere/at/all"}, "is no folder"),
        ("folder", {}, "needs the folder"),
        ("folder", {"folder": "/nowhere/at/all"}, "is no folder"),
        ("digits", {"folder": "/"}, "Leave the folder out"),
        ("digits", {"seed": -1}, "seed=-1"),
        ("digits", {"val_fraction": 1.5}, "val_fraction=1.5"),
        ("digits", {"val_fraction": 0.6, "test_fraction": 0.5}, "leave nothing"),
        ("digits", {"image_size": 4}, "folders of images"),
        (3, {}, "got a int"),
        ((IMAGES, LABELS), {"folder": "/"}, "Leave it out"),
        ((IMAGES,), {}, "sequence of 1"),
        ({"test": (IMAGES, LABELS)}, {}, "needs 'train'"),
        ({"train": IMAGES}, {}, "needs a pair"),
        ({"train": (IMAGES, LABELS), "test": (IMAGES, LABELS)}, {"test_fraction": 0.1}, "own test split"),
        ({"train": (IMAGES, LABELS), "test": (IMAGES, LABELS + 1)}, {}, r"label\(s\) \[3\]"),
        ({"train": (IMAGES, LABELS), "test": (IMAGES[:, :4], LABELS)}, {}, "one size"),
    ],
)
def test_what_is_no_data_set_is_refused(source: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_data(source, **options)


def test_all_names_are_listed() -> None:
    images = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100")
    assert list(NAMES) == [*images, "digits-vectors", "wine", "breast-cancer", "diabetes", "folder"]


def save_images(folder: Path, sizes: list[tuple[int, int]], mode: str = "RGB") -> None:
    from PIL import Image

    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for i, size in enumerate(sizes):
            colour = 40 * i if mode == "L" else (40 * i, 0, 200)
            Image.new(mode, size, colour).save(folder / label / f"{i}.png")


def test_a_folder_of_images(tmp_path: Path) -> None:
    save_images(tmp_path / "pets", [(6, 5)] * 6)
    data = load_data(tmp_path / "pets")
    assert data.name == "pets"
    assert data.input_shape == (3, 5, 6)
    assert data.class_names == ("cat", "dog")
    assert set(data.train.inputs[:, 2].unique().tolist()) == {200}
    assert load_data("folder", tmp_path / "pets", image_size=4).input_shape == (3, 4, 4)


def test_images_of_many_sizes_get_one(tmp_path: Path) -> None:
    save_images(tmp_path, [(4, 9), (6, 6), (8, 7), (300, 200)], mode="L")
    assert load_data(str(tmp_path)).input_shape == (1, 6, 6)


def test_a_folder_with_its_own_splits(tmp_path: Path) -> None:
    for part, n in (("train", 10), ("test", 3)):
        save_images(tmp_path / part, [(4, 4)] * n)
    data = load_data(tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (18, 2, 6)


def test_broken_image_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images in subfolders"):
        load_data(tmp_path)
    save_images(tmp_path, [(4, 4)] * 3)
    (tmp_path / "bird").mkdir()
    with pytest.raises(ValueError, match=r"\['bird'\] hold no images"):
        load_data(tmp_path)
    (tmp_path / "bird" / "1.jpg").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"1.jpg: cannot be read as an image"):
        load_data(tmp_path)


# -- the user's own ----------------------------------------------------------------------------------


def test_arrays_tensors_and_datasets_give_the_same_data() -> None:
    X, y = torch.from_numpy(IMAGES)[:, None], torch.from_numpy(LABELS)
    expected = load_data((IMAGES, LABELS))
    for source in ((X, y), [IMAGES.astype(np.int64), LABELS], torch.utils.data.TensorDataset(X, y)):
        data = load_data(source)
        for part in ("train", "val", "test"):
            assert torch.equal(getattr(data, part).inputs, getattr(expected, part).inputs)
            assert torch.equal(getattr(data, part).labels, getattr(expected, part).labels)
    assert load_data(expected) is expected


def test_floats_stay_floats_and_the_callers_arrays_stay_theirs() -> None:
    X = IMAGES / 255
    data = load_data((X, LABELS))
    assert data.train.inputs.dtype == torch.float32
    before = data.val.inputs.clone()
    X[:] = 0
    assert torch.equal(data.val.inputs, before)


@pytest.mark.parametrize("labels", [LABELS + 5, LABELS * 10 - 3, np.array(["a", "b", "c"])[LABELS]])
def test_labels_of_any_kind_are_numbered_in_order(labels: Any) -> None:
    data = load_data((IMAGES, labels))
    assert torch.equal(data.val.labels, load_data((IMAGES, LABELS)).val.labels)
    assert data.class_names == tuple(str(label) for label in sorted(set(labels.tolist())))


class Pictures:
    """A data set of PIL images."""

    def __init__(self, shapes: list[tuple[int, int]]) -> None:
        self.shapes = shapes

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        from PIL import Image

        return Image.new("RGB", self.shapes[i], (i, 0, 0)), i % 2


def test_a_dataset_of_pictures() -> None:
    data = load_data(Pictures([(5, 4)] * 12))
    assert data.input_shape == (3, 4, 5)
    assert data.name == "Pictures"
    with pytest.raises(ValueError, match=r"Pictures\[1\]: has shape \(3, 3, 3\)"):
        load_data(Pictures([(5, 4), (3, 3)]))
    with pytest.raises(ValueError, match="is empty"):
        load_data(Pictures([]))


def bad(**changes: Any) -> tuple[Any, Any]:
    X, y = IMAGES.astype(np.float64), LABELS.copy()
    X[7, 1, 1] = changes.get("pixel", 0)
    return changes.get("X", X), changes.get("y", y)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (bad(pixel=np.nan), "1 of 60 contain NaN or infinity .* first is number 7"),
        (bad(pixel=1e300), "NaN or infinity"),
        (bad(X=np.zeros((60, 8, 8, 3))), r"moveaxis\(X, 3, 1\)"),
        (bad(X=np.zeros(60)), r"have shape \(60,\), must be .*\(n, features\) for vectors"),
        (bad(X=np.zeros((60, 1, 2, 3, 4))), "must be"),
        (bad(X=np.full((60, 3), np.inf)), "60 of 60 contain NaN or infinity"),
        (bad(X=np.full((60, 3), "x")), "categories to columns of 0 and 1"),
        (bad(X=np.zeros((0, 8, 8))), "empty"),
        (bad(X=np.full((60, 8, 8), "x")), "must be numbers"),
        (bad(y=LABELS[:-1]), "59 for 60 inputs"),
        (
            bad(y=LABELS * 1.0),
            "whole numbers stored as float64, 3 different ones. Say whether they are classes",
        ),
        (bad(y=LABELS + 1j), "integers or strings, one for each class, or floats"),
        (bad(y=np.where(np.arange(60) < 5, np.nan, LABELS + 0.5)), "5 of 60 train labels are NaN"),
        (bad(y=np.arange(60)), "60 different labels of 60 examples.*task='regression'"),
        (bad(y=np.eye(3)[LABELS]), "argmax"),
        (bad(y=LABELS * 0), "all labels are 0"),
        (bad(y=np.where(np.arange(60) < 2, 9, LABELS)), r"class 3 has 2 example"),
    ],
)
def test_bad_arrays_are_refused(pair: tuple[Any, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_data(pair)


def test_repr_is_one_line() -> None:
    assert re.fullmatch(r"Data\('digits', train=1079, .*n_classes=10\)", repr(load_data("digits")))


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("x" * 5000, {}),
        ("digits", {"folder": 5}),
        ({1: 2, "train": 3}, {}),
        (([[1, 2], [3]], [0, 1]), {}),
        ("digits", {"val_fraction": "a"}),
    ],
)
def test_wrong_types_are_refused_with_a_sentence(source: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"neither|must|needs|several shapes"):
        load_data(source, **options)
