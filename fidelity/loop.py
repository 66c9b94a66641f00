"""The training loop: one pass over examples, and an evaluation; knows neither trials nor data sets.

Whatever is random in a pass is drawn from torch's generators, which :func:`seeded` seeds: with the same seed,
weights and optimizer state it ends in the same bits on a CPU.
"""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from fidelity import augmentation
from fidelity.examples import Examples
from fidelity.optimizers import Optimizer, Recipe
from fidelity.out_of_memory import is_out_of_memory
from fidelity.schedules import Schedule

CLIP = 5.0  # largest norm of the gradient in sgd; reached by runs that would else diverge
EVAL_BATCH = 1000


@dataclass(slots=True)
class Portions:
    """How many examples go through a network at a time; changed when memory runs out."""

    micro_batches: int = 1
    """Parts of a training batch, whose gradients are added up."""
    evaluation: int = EVAL_BATCH
    """Examples of a batch in evaluation, at most."""

    def parts(self, b: int) -> int:
        """Into how many parts a training batch of b examples goes: two or more in each."""
        return max(1, min(self.micro_batches, b // 2))

    def halve(self, b: int) -> bool:
        """Split batches in two from now on; False if they are, or if b examples cannot be."""
        if self.micro_batches > 1 or b < 4:
            return False
        self.micro_batches = 2
        return True


@runtime_checkable
class Annealed(Protocol):
    """A module that changes over the training, such as drop-path; any module with this method is one."""

    def set_progress(self, progress: float) -> None:
        """Called before every step with the part of the whole training that is done, in [0, 1]."""


def train_epoch(
    model: torch.nn.Module,
    optimizer: Optimizer,
    train: Examples,
    chosen: torch.Tensor,
    recipe: Recipe,
    schedule: Schedule,
    epoch: int,
    portions: Portions | None = None,
) -> dict[str, float]:
    """One pass over the chosen examples, in an order drawn from torch's generator of the CPU.

    Args:
        model: on the examples' device; changed.
        optimizer: of the model; changed.
        train: the examples.
        chosen: (k,) positions in ``train`` of those to train on.
        recipe: batch size, label smoothing, mixup, cutout, augmentation.
        schedule: the learning rate, relative to ``recipe.lr``, over the whole training.
        epoch: the number of this pass, from 1.
        portions: into how many micro-batches batches go; changed if memory runs out. None: in one.

    Returns:
        The task's metrics and the loss over the epoch's batches, as they were when trained on; a mixed
        example counts for each of its labels by its share.
    """
    device, task = train.inputs.device, train.task
    portions = Portions() if portions is None else portions
    kinds = augmentation.parse(recipe.augmentation)
    seed = int(torch.randint(2**62, ()))
    changes = torch.Generator(device).manual_seed(seed)
    order = chosen[torch.randperm(len(chosen))].to(device)  # (k,)
    # Batches of nearly equal size: none is left with the single example that batch normalisation refuses.
    steps = max(1, min(math.ceil(len(order) / recipe.batch_size), len(order) // 2))
    shares = np.random.default_rng(seed).beta(recipe.mixup, recipe.mixup, steps) if recipe.mixup else None
    total_loss, sums = torch.zeros((), device=device), task.sums(device)
    annealed = [module for module in model.modules() if isinstance(module, Annealed)]
    running = _RunningStatistics(model, steps)
    precision = mixed_precision(device)
    single_pixels = _SinglePixels(model, device)

    def gradients(x: torch.Tensor, targets: augmentation.Targets) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the mean loss of a batch: added up over micro-batches. Returns the sum of losses and (b, k)."""
        optimizer.zero_grad(set_to_none=True)
        parts, lost, scores = portions.parts(len(x)), torch.zeros((), device=device), []
        pieces = zip(*(t.tensor_split(parts) for t in (x, *(y for _, y in targets))), strict=True)
        for inputs, *labels in pieces:
            running.before_a_pass(parts)
            with precision, single_pixels:
                outputs = model(inputs)  # (b / parts, k)
            scores.append(task.scores(outputs))
            loss = torch.zeros((), device=device)
            for (share, _), y in zip(targets, labels, strict=True):
                losses, weights = task.losses(scores[-1], y, recipe.label_smoothing), task.weights(y)
                loss = loss + share * (losses if weights is None else losses * weights).sum()
            (loss / len(x)).backward()  # type: ignore[no-untyped-call]
            lost, scores[-1] = lost + loss.detach(), scores[-1].detach()
        return lost, torch.cat(scores)

    model.train()
    for step, index in enumerate(order.tensor_split(steps)):
        trained = epoch - 1 + (step + 0.5) / steps  # epochs
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * schedule.rate(trained)
        for module in annealed:
            module.set_progress(schedule.progress(trained))
        x = train.normalise(augmentation.augment(train.inputs[index], kinds, changes))  # (b, ...)
        if recipe.cutout:
            x = augmentation.cutout(x, recipe.cutout, changes)
        targets: augmentation.Targets = ((1.0, train.labels[index]),)  # (b,)
        if shares is not None:
            x, targets = augmentation.mixup(x, train.labels[index], float(shares[step]), changes)
        done: tuple[torch.Tensor, torch.Tensor] | None = None
        try:
            done = gradients(x, targets)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not portions.halve(len(x)):
                raise
        if done is None:  # outside of the handler, whose traceback holds what is to be freed
            optimizer.zero_grad(set_to_none=True)
            free(device)
            done = gradients(x, targets)
        loss, scores = done
        if recipe.optimizer == "sgd":  # the size of the others' steps does not depend on that of the gradient
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        # Summed on the device: reading them here would make a GPU wait at every step.
        total_loss += loss
        for share, y in targets:
            task.add(sums, scores, y, share)
    running.restore()
    return task.read(sums) | {"loss": float(total_loss) / len(order)}


@torch.no_grad()
def evaluate(model: torch.nn.Module, data: Examples, portions: Portions | None = None) -> dict[str, float]:
    """The task's metrics and the mean loss, neither smoothed nor weighted, on all of some examples.

    Args:
        model: on the examples' device.
        data: the examples.
        portions: how many at a time; halved if memory runs out.
    """
    portions = Portions() if portions is None else portions
    device, task = data.inputs.device, data.task
    precision = mixed_precision(device)

    def measured() -> dict[str, float]:
        total_loss, sums = torch.zeros((), device=device), task.sums(device)
        parts = (torch.split(t, portions.evaluation) for t in (data.inputs, data.labels))
        for x, y in zip(*parts, strict=True):
            with precision:
                outputs = model(data.normalise(x))  # (b, k)
            scores = task.scores(outputs)
            total_loss += task.losses(scores, y).sum()
            task.add(sums, scores, y)
        return task.read(sums) | {"loss": float(total_loss) / len(data)}

    model.eval()
    while True:
        try:
            return measured()
        except (RuntimeError, MemoryError) as error:
            fewer = min(portions.evaluation, len(data)) // 2
            if not fewer or not is_out_of_memory(error):
                raise
        portions.evaluation = fewer
        free(device)


def free(device: torch.device) -> None:
    """Give back the memory of what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


class _RunningStatistics:
    """The momenta of a network's batch normalisation over one epoch.

    Running statistics forget their initial zeros at once, and follow within half an epoch: else short
    trainings are evaluated with statistics of networks they no longer are, and rank at random.
    """

    def __init__(self, model: torch.nn.Module, steps: int) -> None:
        self._steps, self._passes = steps, 0
        self._layers = [
            (layer, layer.momentum)
            for layer in model.modules()
            if isinstance(layer, _BatchNorm)
            and layer.momentum is not None
            and layer.num_batches_tracked is not None
        ]
        tracked = [n for layer, _ in self._layers if (n := layer.num_batches_tracked) is not None]
        self._seen: list[int] = torch.stack(tracked).tolist() if tracked else []  # one wait for the device

    def before_a_pass(self, parts: int) -> None:
        """Set the momenta for the next batch, or for the next of its parts."""
        self._passes += 1
        for (layer, momentum), seen in zip(self._layers, self._seen, strict=True):
            layer.momentum = max(momentum, 1 / (seen + self._passes), min(1.0, 2 / (self._steps * parts)))

    def restore(self) -> None:
        """The momenta as they were."""
        for layer, momentum in self._layers:
            layer.momentum = momentum


class _SinglePixels:
    """Within it, on a CPU, a network's convolutions of images one pixel high or wide compute in float32.

    In bfloat16, AMX kernels give the weights of strided ones (3×3 and larger, of 1×1 images) gradients from
    memory that nobody wrote (seen with torch 2.15): NaN at times, and never the same bits twice.
    """

    def __init__(self, model: torch.nn.Module, device: torch.device) -> None:
        cpu = device.type == "cpu" and _CPU.get("amx_bf16", False)
        self._layers = [m for m in model.modules() if isinstance(m, _ConvNd)] if cpu else []
        self._handles: list[RemovableHandle] = []
        self._enabled = False

    def __enter__(self) -> None:
        for layer in self._layers:
            self._handles.append(layer.register_forward_pre_hook(self._before))
            self._handles.append(layer.register_forward_hook(self._after))

    def __exit__(self, *raised: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _before(
        self, layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...] | None:
        self._enabled = torch.is_autocast_enabled("cpu")
        if not self._enabled or min(inputs[0].shape[2:]) > 1:
            return None
        torch.set_autocast_enabled("cpu", False)
        return tuple(x.float() for x in inputs)

    def _after(self, layer: torch.nn.Module, inputs: object, output: object) -> None:
        torch.set_autocast_enabled("cpu", self._enabled)


@contextlib.contextmanager
def seeded(device: torch.device, *seed: int) -> Iterator[None]:
    """Seed torch's own generators from some numbers, and leave them afterwards as they were before.

    Layers draw their initial weights and dropout masks from these generators and from no others.
    """
    state = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(state)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(state)
        yield


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 for convolutions and products where the hardware computes it fast, else plain float32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # AMX: 1.8 times faster at 28×28 pixels. Other CPUs emulate bfloat16, slower than float32.
        fast = device.type == "cpu" and _CPU.get("amx_bf16", False)
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


_CPU: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
