"""Reads idx files, the format of MNIST and its relatives, gzipped or not; knows nothing of splits or tensors.

The format (yann.lecun.com/exdb/mnist): two zero bytes, a type, the number of dimensions, each
dimension as a big-endian 4-byte integer, then the values, big-endian, last dimension fastest.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path, ndim: int) -> NDArray[Any]:
    """Read a whole idx file.

    Args:
        path: the file; gzip is recognised by its content.
        ndim: the number of dimensions it must have: 3 for images, 1 for labels.

    Raises:
        ValueError: if it is no such file, or has more or fewer bytes than its header says.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as e:
        raise ValueError(f"{path}: cannot be read ({e}). It is missing or damaged: fetch it again.") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise ValueError(
            f"{path}: is no idx file: it begins with {data[:4].hex(' ') or 'nothing'}, "
            f"expected 00 00 08 0{ndim}. Fetch it again."
        )
    if data[3] != ndim:
        raise ValueError(
            f"{path}: has {data[3]} dimension(s), expected {ndim}. Are images and labels exchanged?"
        )
    header = 4 + 4 * ndim
    dtype = np.dtype(_TYPES[data[2]])
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, min(header, len(data)), 4))
    expected = header + (math.prod(shape) * dtype.itemsize if len(data) >= header else 0)
    if len(data) != expected or len(data) < header:
        problem = "truncated" if len(data) < expected else "too long"
        raise ValueError(
            f"{path}: {problem}: expected {expected:,} bytes (uncompressed) for {shape}, got {len(data):,}. "
            "Fetch it again."
        )
    return np.frombuffer(data, dtype, offset=header).reshape(shape)
