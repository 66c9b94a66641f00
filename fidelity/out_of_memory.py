"""Tells running out of memory from other errors; knows nothing of what ran."""

from __future__ import annotations

import sys

# Not every allocation that fails raises a class of its own: the CPU's, a driver's, those of libraries.
_SIGNS = (
    "DefaultCPUAllocator: ",
    "CUDA error: out of memory",
    "_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, of this process or of a device."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # where it was never imported, it raised nothing
    if torch is None or not isinstance(error, RuntimeError):
        return False
    if isinstance(error, torch.OutOfMemoryError):
        return True
    try:
        text = str(error)
    except Exception:  # an exception whose own text is broken
        return False
    return any(sign in text for sign in _SIGNS)
