"""How long a network takes for one batch on a device; knows neither spaces nor studies.

Float32, images channels last, evaluation mode, random inputs; the clock covers the calls and,
on a GPU, waits until they are done. What else the machine does while it measures is in the figure.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

WARM_UP = 5  # passes before the clock counts: kernels are chosen and memory is taken in the first ones
LEAST, MOST = 11, 100  # passes that are timed
SECONDS = 0.3  # timing ends at the first pass after so long


def measure(
    model: torch.nn.Module,
    input_shape: Sequence[int],
    device: torch.device | str,
    batch_size: int = 1,
) -> float:
    """Seconds of one forward pass: the median of 11 to 100 passes after five to warm up.

    Args:
        model: moved to the device; otherwise left as it was.
        input_shape: (channels, height, width) of one image, or (features,).
        device: where to run; as many threads of a CPU as torch uses now.
        batch_size: examples in one pass.

    Raises:
        ValueError: if there is no such device.
    """
    import torch

    device = checked_device(device)
    shape = (batch_size, *input_shape)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    if inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    else:
        model.to(device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return _median(lambda: model(inputs), device)
    finally:
        model.train(training)


def checked_device(device: torch.device | str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: if the name is none of a device, or there is no such device here.
    """
    import torch

    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device={device!r}: is no device of torch's. Use 'cpu' or 'cuda'.") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}: torch sees no GPU here. Measure on 'cpu', or where the GPU is.")
    if found.type == "meta":
        raise ValueError(
            "device='meta': computes nothing, so there is nothing to measure. Use 'cpu' or 'cuda'."
        )
    return found


def _median(run: Callable[[], object], device: torch.device) -> float:
    import torch

    def once() -> float:
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    for _ in range(WARM_UP):
        once()
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < LEAST or (len(times) < MOST and time.perf_counter() < end):
        times.append(once())
    return statistics.median(times)
