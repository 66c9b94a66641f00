"""A trained network as files that need no bonas: weights, configuration and one Python file.

Knows tensors and text; which network is worth exporting, and how it was trained, is decided elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["Exported", "export"]

# Appended to the network's own source. Plain torch on purpose: the folder must work years from now on a
# machine that has nothing else. The safetensors layout is eight bytes of header length, a JSON header and
# the raw little-endian tensors (https://github.com/huggingface/safetensors#format).
_LOADER = '''

def load(folder=None, device="cpu"):
    """The trained network, ready for inference; its weights lie in `folder` (default: beside this file)."""
    import json
    import pathlib

    folder = pathlib.Path(__file__).resolve().parent if folder is None else pathlib.Path(folder)
    raw = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    dtypes = {
        "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
        "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
        "BOOL": torch.bool,
    }
    state = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        dtype = dtypes[entry["dtype"]]
        data = bytearray(raw[start + begin : start + end])
        flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        state[name] = flat.reshape(entry["shape"])
    network = Network()
    network.load_state_dict(state)
    return network.to(device).eval()
'''

_PREPARE = '''

# The network sees (value - MEAN) / STD for each channel of an image or feature of a vector, values in the
# scale of the data it was trained on.
INPUT_SHAPE = {input_shape}
MEAN = {mean}
STD = {std}
{outputs}


def prepare(inputs):
    """{inputs}, in the scale of the training data, as the network expects them."""
    inputs = torch.as_tensor(inputs)
    shape = (-1,) + (1,) * (len(INPUT_SHAPE) - 1)
    mean, std = (torch.tensor(v, device=inputs.device).view(shape) for v in (MEAN, STD))
    return (inputs.float() - mean) / std


@torch.no_grad()
def predict(network, inputs):
    """{predicted}."""
    inputs = torch.as_tensor(inputs, device=next(network.parameters()).device)
    return {prediction}


if __name__ == "__main__":
    network = load()
    predicted = predict(network, torch.zeros(1, *INPUT_SHAPE))
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{{parameters}} parameters loaded; an input of zeros is {{{said}}} to it")
'''

_CLASSES = {
    "predicted": "The most probable class of each input, as an index into CLASSES, and its probability",
    "prediction": "network(prepare(inputs)).softmax(dim=1).max(dim=1)[::-1]",
    "said": "CLASSES[int(predicted[0])]",
}
_NUMBERS = {
    "predicted": "The number predicted for each input, in the unit of the training data",
    "prediction": "network(prepare(inputs)).reshape(-1) * LABEL_STD + LABEL_MEAN",
    "said": "float(predicted)",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What :func:`export` wrote."""

    folder: Path
    weights: Path
    """``model.safetensors``"""
    configuration: Path
    """``configuration.json``"""
    source: Path
    """``network.py``: defines ``Network`` and ``load()`` with plain torch."""


def export(
    folder: str | Path,
    source: str,
    state_dict: Mapping[str, torch.Tensor],
    configuration: Mapping[str, Any],
    preparation: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a trained network so that it can be used with torch alone.

    Args:
        folder: created if missing; files of an earlier export are replaced.
        source: Python text defining ``Network()`` with plain torch, from ``space.source(params)``.
        state_dict: its weights.
        configuration: what is worth knowing about it, JSON-ready; goes to ``configuration.json``.
        preparation: how data become inputs: ``input_shape`` (c, h, w) or (features,), ``mean`` and ``std``
            (one number a channel or feature, in the scale of the data) and ``classes`` (names), or, for a
            number to predict, ``labels`` (its ``mean`` and ``std``, which the network's outputs lack). With
            it ``network.py`` also offers ``prepare`` and ``predict``.

    Raises:
        ValueError: if ``folder`` is a file, or the weights are not tensors.
    """
    import torch
    from safetensors.torch import save

    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file, and an export needs a folder. Name another place.")
    bad = [name for name, tensor in state_dict.items() if not isinstance(tensor, torch.Tensor)]
    if bad:
        raise ValueError(f"state_dict entries {bad}: must be tensors.")
    # Shared or strided tensors are written as tensors of their own.
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in state_dict.items()}
    weights = save(plain)
    text = source.rstrip("\n") + "\n" + _LOADER
    if preparation is not None:
        shape, labels = tuple(preparation["input_shape"]), preparation.get("labels")
        if labels is None:
            outputs = f"CLASSES = {[str(name) for name in preparation['classes']]}"
        else:
            outputs = f"LABEL_MEAN = {float(labels['mean'])}\nLABEL_STD = {float(labels['std'])}"
        text += _PREPARE.format(
            input_shape=shape,
            inputs="Images of shape (n, c, h, w)" if len(shape) == 3 else "Vectors of shape (n, features)",
            mean=[float(v) for v in preparation["mean"]],
            std=[float(v) for v in preparation["std"]],
            outputs=outputs,
            **(_CLASSES if labels is None else _NUMBERS),
        )
    stored = dict(configuration) | {"weights_sha256": hashlib.sha256(weights).hexdigest()}
    written = Exported(
        folder, folder / "model.safetensors", folder / "configuration.json", folder / "network.py"
    )
    folder.mkdir(parents=True, exist_ok=True)
    _replace(written.weights, weights)
    _replace(written.source, text.encode())
    _replace(written.configuration, (json.dumps(stored, indent=2, allow_nan=False) + "\n").encode())
    return written


def _replace(path: Path, content: bytes) -> None:
    # A crash half-way leaves the earlier file, never a torn one.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
