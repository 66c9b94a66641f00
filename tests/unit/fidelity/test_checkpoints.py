"""Checkpoints: states come back exactly, damaged files never come back at all."""

from __future__ import annotations

import math
import os
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fidelity import checkpoints

DTYPES = [
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.bool),
    *(torch.complex64, torch.complex128),
]


def same(a: Any, b: Any) -> bool:
    """Equality that tells 1, True and 1.0 apart, knows NaN, and compares tensors bit by bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return (
            list(a) == list(b)
            and all(type(x) is type(y) for x, y in zip(a, b, strict=True))
            and all(same(a[k], b[k]) for k in a)
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        bits = [x.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8) for x in (a, b)]
        return (a.dtype, a.shape) == (b.dtype, b.shape) and torch.equal(*bits)
    if isinstance(a, (np.ndarray, np.generic)):
        return (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return bool(a == b)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    n = math.prod(shape)
    tensor = torch.randn(n, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    tensor = (tensor * 10).abs().to(draw(st.sampled_from(DTYPES))).reshape(shape)
    tensor = tensor.permute(draw(st.permutations(range(len(shape)))))
    if len(shape) and tensor.shape[0] > 1 and draw(st.booleans()):
        tensor = tensor[::2]
    return tensor


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | tensors()
    | hnp.arrays(
        hnp.scalar_dtypes() | hnp.unicode_string_dtypes(max_len=3),
        hnp.array_shapes(min_dims=0, min_side=0, max_side=3),
    )
    | hnp.scalar_dtypes().flatmap(lambda dtype: hnp.arrays(dtype, ())).map(lambda a: a[()])
)
states = st.recursive(
    leaves,
    lambda child: (
        st.lists(child, max_size=3)
        | st.lists(child, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), child, max_size=4)
        | st.dictionaries(st.text(max_size=3), child, max_size=2).map(OrderedDict)
    ),
    max_leaves=8,
)


@given(state=states)
@settings(max_examples=150, deadline=None)
def test_any_state_comes_back_exactly(state: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("round")
    written = checkpoints.write(folder, state, epoch=3, meta={"n": [1, None]})
    found, meta = checkpoints.read(written.path, written.sha256)
    assert same(found, state)
    assert meta == {"n": [1, None]}
    assert written.path.stat().st_size == written.nbytes
    assert same(checkpoints.copy_state(state), state)
    # One state makes the same bytes every time: repeated runs can be compared by digest.
    assert checkpoints.write(folder, state, epoch=3, meta={"n": [1, None]}).sha256 == written.sha256


def test_memory_layout_and_module_versions_come_back(tmp_path: Path) -> None:
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    norm = torch.nn.BatchNorm2d(3).state_dict()
    found, _ = checkpoints.read(checkpoints.write(tmp_path, [image, norm], epoch=0).path)
    assert found[0].stride() == image.stride()
    assert found[1]._metadata == norm._metadata


def test_tensors_that_share_memory_come_back_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    found, _ = checkpoints.read(
        checkpoints.write(tmp_path, {"a": whole, "b": whole[2:4], "c": whole}, epoch=0).path
    )
    assert found["b"].tolist() == [2, 3]
    found["a"].zero_()
    assert found["b"].tolist() == [2, 3]
    assert found["c"].tolist() == whole.tolist()


def test_a_copied_state_does_not_follow_the_original() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    array = np.ones(2)
    state = {"w": weight, "list": [1], "array": array}
    copied = checkpoints.copy_state(state)
    with torch.no_grad():
        weight.add_(1)
    array += 1
    state["list"].append(2)  # type: ignore[attr-defined]
    assert copied["w"].tolist() == [1, 1]
    assert not copied["w"].requires_grad
    assert copied["list"] == [1]
    assert copied["array"].tolist() == [1, 1]


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "RMSprop"])
def test_an_optimizer_continues_bit_identically(name: str, tmp_path: Path) -> None:
    settings = {"SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True}}.get(name, {"lr": 0.1})
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))

    def fresh() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
        return model, getattr(torch.optim, name)(model.parameters(), **settings)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, n: int) -> None:
        for _ in range(n):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    model, optimizer = fresh()
    step(model, optimizer, 3)
    written = checkpoints.write(tmp_path, {"m": model.state_dict(), "o": optimizer.state_dict()}, epoch=3)
    step(model, optimizer, 3)

    again, its_optimizer = fresh()
    state, _ = checkpoints.read(written.path)
    again.load_state_dict(state["m"])
    its_optimizer.load_state_dict(state["o"])
    step(again, its_optimizer, 3)
    assert same(again.state_dict(), model.state_dict())
    assert same(its_optimizer.state_dict(), optimizer.state_dict())


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_damaged_file_is_accepted(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("torn")
    path = checkpoints.write(folder, {"w": torch.arange(20.0), "k": (1, 2)}, epoch=2).path
    good = path.read_bytes()
    where = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans(), label="truncate"):
        path.write_bytes(good[:where])
    else:
        path.write_bytes(
            good[:where] + bytes([good[where] ^ (1 << data.draw(st.integers(0, 7)))]) + good[where + 1 :]
        )
    with pytest.raises(checkpoints.CheckpointError, match="torn or altered"):
        checkpoints.read(path)
    assert checkpoints.newest(folder) is None


def test_newest_passes_over_torn_temporary_and_foreign_files(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path / "missing") is None
    assert checkpoints.newest(tmp_path) is None
    first = checkpoints.write(tmp_path, {"e": 2}, epoch=2)
    second = checkpoints.write(tmp_path, {"e": 10}, epoch=10)
    torn = checkpoints.write(tmp_path, {"e": 11}, epoch=11)
    torn.path.write_bytes(torn.path.read_bytes()[:-3])
    (tmp_path / ".abc.tmp").write_bytes(b"half a checkpoi")
    (tmp_path / "notes.txt").write_text("mine")
    assert checkpoints.newest(tmp_path) == second.path
    second.path.unlink()
    assert checkpoints.newest(tmp_path) == first.path


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.write(tmp_path, {"w": torch.ones(3)}, epoch=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"a": [1, {2: object()}]}, r"state\['a'\]\[1\]\[2\]: a object"),
        ({"a": {1.5: 0}}, r"state\['a'\]: key 1.5 is a float"),
        ({True: 0}, "key True is a bool"),
        ({"a": ["\udc00"]}, r"state\['a'\]\[0\]: .* no valid Unicode"),
        ({"\udc00": 1}, "no valid Unicode"),
        ([Counter()], r"state\[0\]: a Counter"),
        ([np.array([object()])], "dtype object"),
        ([np.zeros(1, dtype=[("x", "f4")])], "split it"),
        ([torch.eye(2).to_sparse()], "dense"),
        ([torch.empty(2, device="meta")], "dense"),
    ],
)
def test_what_cannot_come_back_is_refused_with_its_place(state: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        checkpoints.write(tmp_path, state, epoch=1)
    with pytest.raises(ValueError, match=words):
        checkpoints.copy_state(state)
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_contains_itself_is_refused() -> None:
    state: list[Any] = []
    state.append(state)
    with pytest.raises(ValueError, match="contain itself"):
        checkpoints.copy_state(state)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(checkpoints.CheckpointError, match="cannot be read"):
        checkpoints.read(tmp_path / "epoch-000001-0123456789abcdef.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(checkpoints.CheckpointError, match="is no checkpoint"):
        checkpoints.read(tmp_path / "model.safetensors")
    written = checkpoints.write(tmp_path, {}, epoch=1)
    with pytest.raises(checkpoints.CheckpointError, match="not 0000"):
        checkpoints.read(written.path, "0" * 64)
    renamed = written.path.rename(tmp_path / written.path.name.replace("000001", "000009"))
    with pytest.raises(checkpoints.CheckpointError, match="renamed"):
        checkpoints.read(renamed)


def test_a_whole_safetensors_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    import hashlib

    from safetensors.torch import save

    for data in (save({"w": torch.ones(1)}), b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"{}"):
        path = tmp_path / f"epoch-000001-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
        path.write_bytes(data)
        with pytest.raises(checkpoints.CheckpointError, match="no checkpoint"):
            checkpoints.read(path)


def test_meta_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be JSON"):
        checkpoints.write(tmp_path, {}, epoch=1, meta={"t": torch.ones(1)})
    with pytest.raises(ValueError, match="at least 0"):
        checkpoints.write(tmp_path, {}, epoch=-1)
