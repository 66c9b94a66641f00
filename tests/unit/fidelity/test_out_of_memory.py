"""Running out of memory is told from other errors, whoever raised it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fidelity.out_of_memory import is_out_of_memory


class SilentError(RuntimeError):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] data. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    ],
)
def test_what_is(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shapes differ"), ValueError("DefaultCPUAllocator: "), SilentError(), KeyboardInterrupt()],
)
def test_what_is_not(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_what_numpy_and_torch_really_raise() -> None:
    for allocate in (lambda: np.empty(1 << 60, np.uint8), lambda: torch.empty(1 << 60, dtype=torch.uint8)):
        with pytest.raises((MemoryError, RuntimeError)) as raised:
            allocate()
        assert is_out_of_memory(raised.value)
