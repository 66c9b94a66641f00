"""Trials an hour of bonas's training against a plain loop, and seconds to an accuracy; knows no search.

    python benchmarks/throughput.py --data-dir DIR

The plain loop is what a tutorial writes: a ``Dataset`` of images that changes each one in Python, a
``DataLoader``, float32, one trial after another, the loss read at every step. bonas runs the same trials as a
study: same networks, data, optimizer, learning rates, batch size, epochs and kinds of augmentation, an
evaluation after every epoch, checkpoints written. Both begin with one trial that is not counted. Results lie
in ``results/throughput_cpu.md`` and ``results/throughput_cuda.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ConfigSpace
import numpy as np
import torch
from _images import fashion_mnist
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import bonas
from bonas import spaces
from fidelity.axes import Axes
from fidelity.data import Data, load_data
from fidelity.loop import evaluate, seeded, train_epoch
from fidelity.optimizers import Recipe, make_optimizer
from fidelity.schedules import Schedule
from fidelity.training import TrainOn

RESULTS = Path(__file__).parent / "results"
AIRBENCH = """For comparison, as published: airbench on CIFAR-10, 94 % in 3.29 s, 95 % in 10.4 s, 96 % in
46.3 s on one A100 (Jordan 2024, arXiv:2404.00498), with Muon 94 % in 2.59 s (its repository,
github.com/KellerJordan/cifar10-airbench)."""


@dataclass(frozen=True)
class Size:
    """What is trained in one measurement."""

    name: str
    filters: tuple[int, ...]
    blocks: int
    """In each stage."""
    images: int
    validation: int
    batch_size: int
    epochs: int
    goal: float
    """Validation accuracy, to which the seconds are taken."""
    goal_images: int
    goal_epochs: int
    speedup: float | None
    """What the loop should reach; None: as fast as the plain one."""


CPU = (
    Size("ResNet-8, quarter width", (4, 8, 16), 1, 1500, 500, 64, 2, 0.80, 6000, 6, None),
    Size("ResNet-8", (16, 32, 64), 1, 1500, 500, 64, 2, 0.80, 4000, 4, None),
)
CUDA = (
    Size("ResNet-8", (16, 32, 64), 1, 54_000, 6000, 512, 2, 0.90, 54_000, 12, 8.0),
    Size("ResNet-18", (64, 128, 256, 512), 2, 54_000, 6000, 512, 2, 0.93, 54_000, 12, 3.0),
)


class Block(nn.Module):
    """Two convolutions and a shortcut (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, before: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, filters, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        same = before == filters and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(before, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet(size: Size, channels: int, classes: int) -> nn.Sequential:
    """With a stem for small images; the resolution is halved before every stage but the first."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, size.filters[0], 3, 1, 1, bias=False),
        nn.BatchNorm2d(size.filters[0]),
        nn.ReLU(),
    ]
    before = size.filters[0]
    for stage, filters in enumerate(size.filters):
        for block in range(size.blocks):
            layers.append(Block(before, filters, 2 if stage and not block else 1))
            before = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def recipe(size: Size) -> dict[str, Any]:
    return {
        "optimizer": "sgd",
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 5e-4,
        "batch_size": size.batch_size,
        "augmentation": "shift_flip",
        "schedule": "cosine",
    }


# The two ways -------------------------------------------------------------------------------------


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Images one at a time, as torchvision's data sets give them."""

    def __init__(self, split: Any, change: Callable[[Any], torch.Tensor]) -> None:
        self._images, self._labels = split.inputs[:, 0].numpy(), split.labels.tolist()
        self._change = change

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self._change(Image.fromarray(self._images[index])), self._labels[index]


Trials = list[tuple[float, float]]
"""Seconds and accuracy of each."""


def plain(size: Size, data: Data, device: torch.device, workers: int, lrs: list[float]) -> Trials:
    """The plain loop, one trial after another."""
    from torchvision import transforms

    both = [transforms.ToTensor(), transforms.Normalize((0.286,), (0.353,))]
    pad = max(data.input_shape[1:]) // 8
    changed = transforms.Compose(
        [transforms.RandomCrop(data.input_shape[1:], padding=pad), transforms.RandomHorizontalFlip(), *both]
    )
    trials = []
    for lr in lrs:
        begin = _now(device)
        train = DataLoader(
            Pictures(data.train, changed),
            size.batch_size,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        val = DataLoader(Pictures(data.val, transforms.Compose(both)), 1000, num_workers=workers)
        model = resnet(size, data.input_shape[0], data.n_classes).to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, size.epochs * len(train))
        losses: list[float] = []
        right = 0
        for _ in range(size.epochs):
            model.train()
            for x, y in train:
                loss = F.cross_entropy(model(x.to(device)), y.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
            model.eval()
            with torch.no_grad():
                right = sum((model(x.to(device)).argmax(1).cpu() == y).sum().item() for x, y in val)
        trials.append((_now(device) - begin, right / len(data.val)))
    return trials


def with_bonas(size: Size, data: Data, device: torch.device, n_jobs: int, lrs: list[float]) -> Trials:
    """A study of the same trials; their seconds are from the end of one to the end of the next."""

    def build(params: Mapping[str, Any], width: float, depth: float) -> nn.Module:
        return resnet(size, data.input_shape[0], data.n_classes)

    # What is not searched are constants of the space.
    space = ConfigSpace.ConfigurationSpace({"lr": (1e-3, 1.0), **recipe(size)})
    study = bonas.create_study(
        space=spaces.Space(space, build=build),
        axes=Axes(epochs=[size.epochs]),
        direction="maximize",
        sampler=bonas.samplers.RandomSampler(),
    )
    for lr in lrs:
        study.enqueue_trial(recipe(size) | {"lr": lr})
    ends = [_now(device)]
    study.optimize(
        TrainOn(data, "accuracy"),
        n_trials=len(lrs),
        n_jobs=n_jobs,
        callbacks=[lambda study, trial: ends.append(_now(device))],
    )
    failed = [trial.reason for trial in study.trials if trial.value is None]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(lrs)} trials failed: {failed[0]}")
    return list(zip(np.diff(ends).tolist(), [trial.value for trial in study.trials], strict=True))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


# Seconds to an accuracy -----------------------------------------------------------------------------


def seconds_to(size: Size, data: Data, device: torch.device) -> tuple[float | None, float, int]:
    """Seconds of training until the validation accuracy is ``size.goal``; the last accuracy, and epochs.

    The clock excludes loading, an epoch of warm-up on a network that is thrown away, and evaluation.
    """
    objective = TrainOn(data)
    train, val = (objective.prepare(part, None, device) for part in ("train", "val"))
    how = Recipe.of(recipe(size) | {"lr": 0.2 if device.type == "cuda" else 0.1})
    schedule = Schedule(size.goal_epochs)

    def begin() -> tuple[nn.Module, Any]:
        with seeded(device, 0):
            model = resnet(size, data.input_shape[0], data.n_classes)
        model.to(device=device, memory_format=torch.channels_last)
        return model, make_optimizer(model, how)

    def train_for_one(model: nn.Module, optimizer: Any, epoch: int) -> float:
        began = _now(device)
        with seeded(device, 0, epoch):
            train_epoch(model, optimizer, train, torch.arange(len(train)), how, schedule, epoch)
        return _now(device) - began

    train_for_one(*begin(), 1)
    model, optimizer = begin()
    taken, accuracy = 0.0, 0.0
    for epoch in range(1, size.goal_epochs + 1):
        taken += train_for_one(model, optimizer, epoch)
        accuracy = evaluate(model, val)["accuracy"]
        if accuracy >= size.goal:
            return taken, accuracy, epoch
    return None, accuracy, size.goal_epochs


# The table ------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="holds the idx files of Fashion-MNIST")
    parser.add_argument("--cifar-dir", help="holds CIFAR-10 as torchvision keeps it: seconds to 94 %% on it")
    parser.add_argument("--minutes", type=float, help="stop measuring after; 8 on a GPU, 5 on a CPU")
    parser.add_argument("--trials", type=int, default=3, help="counted in each measurement")
    parser.add_argument("--workers", type=int, help="of the plain loop's loader; 4 on a GPU, none on a CPU")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    workers = arguments.workers if arguments.workers is not None else (4 if on_gpu else 0)
    end = time.monotonic() + 60 * (arguments.minutes or (8 if on_gpu else 5))
    lines = [
        f"Trials an hour, from the median seconds of {arguments.trials} trials after one that is not",
        "counted, and their mean accuracy.",
        "",
        "| network | one trial | plain loop | bonas | times | wanted | bonas, 4 at a time |",
        "|---|---|---|---|---|---|---|",
    ]
    reached = ["", "| network | trained on | accuracy reached | epochs |", "|---|---|---|---|"]
    lrs = np.geomspace(0.05, 0.2, arguments.trials + 1).tolist()
    for size in CUDA if on_gpu else CPU:
        data = fashion_mnist(arguments.data_dir, size.images, size.validation)
        ours = theirs = four = None
        if time.monotonic() < end:
            ours = with_bonas(size, data, device, 1, lrs)
        if time.monotonic() < end:
            theirs = plain(size, data, device, workers, lrs)
        if on_gpu and time.monotonic() < end:
            four = with_bonas(size, data, device, 4, np.geomspace(0.05, 0.2, 4 * len(lrs)).tolist())
        times = f"{_rate(ours) / _rate(theirs):.1f}" if ours and theirs else "–"
        at_a_time = f"{3600 * len(four[4:]) / sum(s for s, _ in four[4:]):,.0f}" if four else "–"
        lines.append(
            f"| {size.name} | {size.epochs} epochs of {size.images:,} images, batches of {size.batch_size} "
            f"| {_shown(theirs)} | {_shown(ours)} | {times} | {size.speedup or 1:g} | {at_a_time} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
        data = fashion_mnist(arguments.data_dir, size.goal_images, size.validation)
        reached.append(_reached(size, data, device, end))
    if arguments.cifar_dir:
        size = Size("ResNet-18", (64, 128, 256, 512), 2, 0, 0, 512, 0, 0.94, 0, 24, None)
        reached.append(_reached(size, load_data("cifar10", arguments.cifar_dir), device, end))
    cores = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    hardware = torch.cuda.get_device_name(device) if on_gpu else cores
    lines += [
        *reached,
        "",
        "Seconds are of training alone, after an epoch of warm-up on another network.",
        AIRBENCH,
        "",
        f"{hardware}; torch {torch.__version__}; the plain loop's loader with {workers} workers.",
        "Fashion-MNIST, images of its training split alone.",
    ]
    text = "\n".join(lines)
    (arguments.results / f"throughput_{device.type}.md").write_text(text + "\n")
    print(text)
    return 0


def _rate(trials: Trials) -> float:
    return 3600 / statistics.median(seconds for seconds, _ in trials[1:])


def _shown(trials: Trials | None) -> str:
    if not trials:
        return "not measured"
    return f"{_rate(trials):,.0f} ({np.mean([accuracy for _, accuracy in trials[1:]]):.1%})"


def _reached(size: Size, data: Data, device: torch.device, end: float) -> str:
    what = f"| {size.name} | {len(data.train):,} images of {data.name} "
    if time.monotonic() >= end:
        return what + f"| {size.goal:.0%}: not measured | – |"
    seconds, accuracy, epochs = seconds_to(size, data, device)
    if seconds is None:
        return what + f"| {size.goal:.0%}: not reached, {accuracy:.1%} | {epochs} |"
    return what + f"| {size.goal:.0%}: {seconds:.2f} s | {epochs} |"


if __name__ == "__main__":
    sys.exit(main())
