"""Nested training state in one atomic, checksummed safetensors file; knows no trials, studies or networks.

A state nests dicts (string or integer keys), lists and tuples of tensors, arrays, numbers, strings,
bytes and None, and comes back exactly. Its tree is JSON in the file's metadata, its numbers are the
file's tensors; nothing is pickled. Plain JSON would turn Adam's integer keys into strings, and
``load_state_dict`` would then drop the momentum without a word.

The file's name carries the epoch and the digest of its bytes, so a torn or altered file is known as
such without asking anybody else::

    epoch-000007-<first 16 hex digits of sha256>.safetensors
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    import torch

    Tensors = dict[str, torch.Tensor]

FORMAT = 1
_NAME = re.compile(r"epoch-(\d{6,})-([0-9a-f]{16})\.safetensors")
_DEEPEST = 100  # levels; a state nested deeper than this most likely contains itself


class CheckpointError(ValueError):
    """A file is not a whole, unaltered checkpoint."""


@dataclass(frozen=True, slots=True)
class Written:
    """A checkpoint file that is safely on disk."""

    path: Path
    sha256: str
    """Hex digest of the file's bytes."""
    nbytes: int


def write(
    folder: Path | str,
    state: Any,
    *,
    epoch: int,
    meta: Mapping[str, Any] | None = None,
    room: Callable[[int], AbstractContextManager[Any]] = contextlib.nullcontext,
) -> Written:
    """Write a state to a new file in a folder: all of it, or nothing.

    The bytes go to a temporary file, are synced, and get their name in one step; the folder is
    synced too, so the file outlives a power cut once this returns.

    Args:
        folder: made if missing.
        state: what to keep, see the module's docstring.
        epoch: epochs completed, at least 0.
        meta: anything JSON can hold, returned by :func:`read` beside the state.
        room: called with the number of bytes; within its context the file appears, at its full size, before
            its contents are written.

    Raises:
        ValueError: if ``state`` or ``meta`` holds something that cannot come back exactly; the
            message names its place.
        OSError: if the disk is full or not writable, or ``room`` raises it; no file is left behind.
    """
    from safetensors.torch import save

    if epoch < 0:
        raise ValueError(f"epoch={epoch}: counts completed epochs, at least 0.")
    try:
        json.dumps(meta, allow_nan=True)
    except (TypeError, ValueError) as e:
        raise ValueError(
            f"meta={meta!r}: must be JSON ({e}). Put arrays and tensors into the state."
        ) from None
    tree, tensors = encode(state)
    document = {"format": FORMAT, "epoch": epoch, "meta": dict(meta or {}), "tree": tree}
    # One metadata entry: several would be written in random order, and equal states in unequal bytes.
    data = save(tensors, metadata={"checkpoint": json.dumps(document)})
    digest = hashlib.sha256(data).hexdigest()

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"epoch-{epoch:06d}-{digest[:16]}.safetensors"
    temporary = None
    try:
        with contextlib.ExitStack() as opened:
            with room(len(data)):
                descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
                file = opened.enter_context(os.fdopen(descriptor, "wb"))
                file.truncate(len(data))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        raise
    _sync_folder(folder)
    return Written(path, digest, len(data))


def read(path: Path | str, sha256: str | None = None) -> tuple[Any, dict[str, Any]]:
    """Read the state and the ``meta`` of a checkpoint; tensors come back on the CPU.

    Args:
        path: a file written by :func:`write`, under its own name.
        sha256: the digest the whole file must have, if it is known from elsewhere.

    Raises:
        CheckpointError: if the file is missing, torn, altered, renamed or no checkpoint at all.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(path)
    data, document = _verified(path, sha256)
    try:
        # Clones are aligned like any other tensor: training goes on along the same vectorised paths.
        tensors = {name: tensor.clone() for name, tensor in load(data).items()}
        return decode(document["tree"], tensors), document["meta"]
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, RecursionError) as e:
        raise CheckpointError(f"{path}: is no checkpoint of this project ({type(e).__name__}: {e}).") from e


def newest(folder: Path | str) -> Path | None:
    """The file of the highest epoch in a folder that is whole; torn and temporary files are passed over."""
    folder = Path(folder)
    if not folder.is_dir():
        return None
    found = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    for _, path in sorted(found, key=lambda f: (int(f[0][1]), _age(f[1])), reverse=True):
        try:
            _verified(path, None)
        except CheckpointError:
            continue
        return path
    return None


def copy_state(state: Any) -> Any:
    """A deep copy on the CPU: what happens to the original's tensors afterwards does not reach it.

    Raises:
        ValueError: as :func:`write` would.
    """
    return _walk(state, (), _copied_leaf)


def encode(state: Any) -> tuple[Any, Tensors]:
    """A state as a JSON tree and the tensors it refers to by name; inverse: :func:`decode`.

    None, booleans, integers, strings and finite floats stand for themselves, lists are lists. All
    else is an object with one kind: ``{"dict": [[key, node], ...]}``, ``{"ordered": [...]}``,
    ``{"tuple": [...]}``, ``{"float": "nan"}``, ``{"bytes": name}``, ``{"tensor": name, ...}``,
    ``{"array": name, ...}``.
    """
    import torch

    tensors: Tensors = {}

    def add(tensor: torch.Tensor) -> str:
        name = str(len(tensors))
        tensors[name] = tensor
        return name

    def raw(data: bytes) -> torch.Tensor:
        # An empty buffer cannot be wrapped.
        return (
            torch.frombuffer(bytearray(data), dtype=torch.uint8)
            if data
            else torch.empty(0, dtype=torch.uint8)
        )

    def leaf(value: Any, place: tuple[Any, ...]) -> Any:
        value = _copied_leaf(value, place)
        if isinstance(value, float) and not isinstance(value, np.generic):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, bytes) and not isinstance(value, np.generic):
            return {"bytes": add(raw(value))}
        if isinstance(value, (np.ndarray, np.generic)):
            array = np.asarray(value)
            kind = "array" if isinstance(value, np.ndarray) else "scalar"
            return {kind: add(raw(array.tobytes())), "dtype": array.dtype.str, "shape": list(array.shape)}
        if isinstance(value, torch.Tensor):
            # Dense tensors keep the order of their dimensions in memory (channels_last stays so).
            order = sorted(range(value.dim()), key=value.stride, reverse=True)
            node: dict[str, Any] = {"shape": list(value.shape), "dtype": str(value.dtype)}
            if not value.is_contiguous() and value.permute(order).is_contiguous():
                value, node["order"] = value.permute(order), order
            value = value.contiguous()
            if value.dtype not in _native():
                try:
                    # The clone's last stride is 1 even where a single element made any stride contiguous.
                    value = value.reshape(-1).clone(memory_format=torch.contiguous_format).view(torch.uint8)
                except RuntimeError as e:
                    raise ValueError(
                        f"{_place(place)}: a tensor of {node['dtype']} cannot be stored ({e})."
                    ) from None
            return {"tensor": add(value), **node}
        return value

    def node(kind: str, children: list[Any]) -> Any:
        return children if kind == "list" else {kind: children}

    return _walk(state, (), leaf, node), tensors


def decode(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The state that :func:`encode` made ``tree`` and ``tensors`` of."""
    if isinstance(tree, list):
        return [decode(child, tensors) for child in tree]
    if not isinstance(tree, dict):
        return tree
    match tree:
        case {"dict": items}:
            return {key: decode(child, tensors) for key, child in items}
        case {"ordered": items, **rest}:
            ordered = OrderedDict((key, decode(child, tensors)) for key, child in items)
            if "metadata" in rest:
                ordered._metadata = decode(rest["metadata"], tensors)  # type: ignore[attr-defined]
            return ordered
        case {"tuple": children}:
            return tuple(decode(child, tensors) for child in children)
        case {"float": name}:
            return float(name)
        case {"bytes": name}:
            return tensors[name].numpy().tobytes()
        case {"array": name, "dtype": dtype, "shape": shape}:
            return np.frombuffer(tensors[name].numpy().tobytes(), np.dtype(dtype)).reshape(shape).copy()
        case {"scalar": name, "dtype": dtype}:
            return np.frombuffer(tensors[name].numpy().tobytes(), np.dtype(dtype))[0]
        case {"tensor": name, "dtype": dtype, "shape": shape, **rest}:
            tensor = tensors[name]
            order = rest.get("order", list(range(len(shape))))
            tensor = tensor.view(_dtypes()[dtype]).reshape([shape[d] for d in order])
            return tensor.permute([order.index(d) for d in range(len(order))]) if "order" in rest else tensor
    raise CheckpointError(f"node {tree!r}: unknown kind. Was the file written by a later version?")


def _walk(
    value: Any,
    place: tuple[Any, ...],
    leaf: Callable[[Any, tuple[Any, ...]], Any],
    node: Callable[[str, list[Any]], Any] | None = None,
) -> Any:
    """Rebuild a state from its leaves up; ``node`` makes the containers, of the same kind by default."""
    if len(place) > _DEEPEST:
        raise ValueError(
            f"{_place(place[:6])}...: nested deeper than {_DEEPEST} levels. Does it contain itself?"
        )
    kind = type(value)
    if kind in (dict, OrderedDict):
        for key in value:
            if type(key) not in (str, int):
                raise ValueError(
                    f"{_place(place)}: key {key!r} is a {type(key).__name__}. Use strings or integers."
                )
            if type(key) is str:
                _check_text(key, place)
        items = [(key, _walk(child, (*place, key), leaf, node)) for key, child in value.items()]
        # A module's state_dict carries the versions of its layers beside its items.
        metadata = getattr(value, "_metadata", None)
        if metadata is not None:
            metadata = _walk(metadata, (*place, "_metadata"), leaf, node)
        if node is not None:
            made = node("dict" if kind is dict else "ordered", [list(item) for item in items])
            return made if metadata is None else made | {"metadata": metadata}
        copied = kind(items)
        if metadata is not None:
            copied._metadata = metadata  # type: ignore[attr-defined]
        return copied
    if kind in (list, tuple):
        children = [_walk(child, (*place, i), leaf, node) for i, child in enumerate(value)]
        return node(kind.__name__, children) if node is not None else kind(children)
    return leaf(value, place)


def _copied_leaf(value: Any, place: tuple[Any, ...]) -> Any:
    """A leaf that shares no memory with the original; ValueError if it cannot come back exactly."""
    if type(value) is str:
        _check_text(value, place)
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        # Objects would need pickle; the fields of structured dtypes are lost in a dtype's string.
        if type(value) is not np.ndarray and not isinstance(value, np.generic):
            raise ValueError(f"{_place(place)}: got a {type(value).__name__}. Give numpy.asarray(...) of it.")
        if value.dtype.kind in "OVT":
            raise ValueError(
                f"{_place(place)}: an array of dtype {value.dtype} cannot be stored. "
                "Use numbers, booleans or fixed-length strings, or split it into plain arrays."
            )
        return np.array(value, copy=True) if isinstance(value, np.ndarray) else value
    import torch

    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise ValueError(
                f"{_place(place)}: only dense tensors with data can be stored. Use .to_dense() first."
            )
        return value.detach().to("cpu", copy=True).resolve_conj().resolve_neg()
    raise ValueError(
        f"{_place(place)}: a {type(value).__name__} cannot be stored. A state nests dicts, lists and tuples "
        "of tensors, arrays, numbers, strings, bytes and None; convert it, or save its state_dict()."
    )


def _check_text(text: str, place: tuple[Any, ...]) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        # JSON would join two halves of a surrogate pair into one character.
        raise ValueError(f"{_place(place)}: {text!r} is no valid Unicode. Store it as bytes.") from None


def _place(place: tuple[Any, ...]) -> str:
    return "state" + "".join(f"[{key!r}]" for key in place)


def _native() -> frozenset[torch.dtype]:
    """Dtypes that safetensors stores under their own name; all others are stored as their bytes."""
    import torch

    floats = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    return frozenset((*floats, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool))


def _dtypes() -> dict[str, torch.dtype]:
    import torch

    return {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}


def _verified(path: Path, sha256: str | None) -> tuple[bytes, dict[str, Any]]:
    """The bytes and the JSON document of a file that is what its name says."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(
            f"{path}: is no checkpoint; they are called epoch-<epoch>-<digest>.safetensors."
        )
    try:
        data = path.read_bytes()
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read ({e.strerror}).") from e
    digest = hashlib.sha256(data).hexdigest()
    if not digest.startswith(match[2]) or (sha256 is not None and digest != sha256):
        raise CheckpointError(
            f"{path}: its {len(data)} bytes have the digest {digest[:16]}..., not {sha256 or match[2]}: "
            "torn or altered. Delete it; an earlier checkpoint will be used."
        )
    try:
        # A safetensors file: length of the header (8 bytes, little-endian), header as JSON, data.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        document: dict[str, Any] = json.loads(header["__metadata__"]["checkpoint"])
        version, epoch = document["format"], document["epoch"]
    except (KeyError, TypeError, ValueError, RecursionError) as e:
        raise CheckpointError(f"{path}: is no checkpoint of this project.") from e
    if version != FORMAT:
        raise CheckpointError(f"{path}: has format {version}, this version reads {FORMAT}.")
    if epoch != int(match[1]):
        raise CheckpointError(f"{path}: was written at epoch {epoch} and renamed. Give it its old name.")
    return data, document


def _age(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _sync_folder(folder: Path) -> None:
    # Windows cannot open folders; there the rename is as durable as the system makes it.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
