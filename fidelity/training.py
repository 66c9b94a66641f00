"""Trains a trial's network on a data set at the trial's fidelity; knows neither search spaces nor studies.

``train_on(data)`` is a ready objective. The training is one plain loop, :func:`train_epoch`; selection
is on ``val``, ``test`` is touched once, by a retraining's last epoch.

Whatever is random in an epoch is drawn from (trial.seed, epoch) alone, so a run resumed from the
weights and the optimizer's state ends bit-identical to one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from fidelity import augmentation
from fidelity.data import Data, Split, load_data
from fidelity.data.splits import nested_order
from fidelity.optimizers import Recipe, learning_rate, make_optimizer
from fidelity.records import Fidelity

CLIP = 5.0  # largest norm of the gradient in sgd; reached by runs that would else diverge
EVAL_BATCH = 1000
METRICS = {"accuracy": "maximize", "error": "minimize", "loss": "minimize", "parameters": "minimize"}


class Diverged(RuntimeError):  # noqa: N818 - an event, as in StopIteration
    """The training's loss is no longer a finite number."""


class Trial(Protocol):
    """What the objective needs of a trial."""

    params: dict[str, Any]
    fidelity: Fidelity
    horizon: int
    seed: int
    directions: tuple[str, ...]
    metric_names: tuple[str, ...]
    retraining: bool

    @property
    def device(self) -> torch.device:
        """Where to train."""

    def build(self) -> torch.nn.Module:
        """The network at the fidelity's width and depth."""

    def load_checkpoint(self) -> Any:
        """The state to continue from, or None."""

    def epochs(self) -> Iterator[int]:
        """The epochs to train, counted from 1."""

    def report(self, value: Mapping[str, float], epoch: int) -> None:
        """Note the metrics after an epoch."""

    def save_checkpoint(self, state: Any) -> None:
        """Keep the state after this epoch."""

    def set_user_attr(self, key: str, value: Any) -> None:
        """Note something about the trial."""


@dataclass(frozen=True, slots=True)
class Images:
    """Labelled images on the training device, at the training resolution."""

    images: torch.Tensor  # (n, c, h, w), uint8 or float32
    labels: torch.Tensor  # (n,)
    mean: torch.Tensor  # (1, c, 1, 1)
    std: torch.Tensor  # (1, c, 1, 1)

    def __len__(self) -> int:
        return len(self.labels)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Images as a network sees them: zero mean and unit variance over the training images."""
        # Channels last: two times faster on a CPU for networks of this size, and what tensor cores like.
        x = images.to(torch.float32, memory_format=torch.channels_last)
        return (x - self.mean) / self.std


def train_on(data: Any, metric: str | None = None) -> TrainOn:
    """A ready objective: applies ``trial.fidelity``, trains, reports every epoch, saves checkpoints.

    Args:
        data: a :class:`fidelity.data.Data`, or anything ``load_data`` takes.
        metric: what a study with one objective is told: ``"accuracy"``, ``"error"`` (1 − accuracy),
            ``"loss"`` or ``"parameters"``. By default the metric the study names, else accuracy if it
            maximizes and error if it minimizes. A study with several objectives names them itself.

    Raises:
        ValueError: if there is no such metric, or the data cannot be loaded.
    """
    if metric is not None and metric not in METRICS:
        raise ValueError(f"metric={metric!r}: must be one of {', '.join(METRICS)}. Use 'accuracy'.")
    return TrainOn(data if isinstance(data, Data) else load_data(data), metric)


class TrainOn:
    """The objective made by :func:`train_on`; call it with a trial.

    Attributes:
        data: what it trains and evaluates on.
        metric: what it reports as the objective, None for the default.
        mean: of each channel over ``data.train``; networks see (image − mean) / std.
        std: of each channel.
    """

    def __init__(self, data: Data, metric: str | None = None) -> None:
        self.data = data
        self.metric = metric
        self.mean, self.std = _statistics(data.train.images)
        self._prepared: dict[tuple[str, int | None, str], Images] = {}
        self._order: torch.Tensor | None = None

    def __repr__(self) -> str:
        return f"train_on({self.data!r}, metric={self.metric!r})"

    def __getstate__(self) -> dict[str, Any]:
        # Another process prepares its own images.
        return self.__dict__ | {"_prepared": {}, "_order": None}

    def __call__(self, trial: Trial) -> None:
        """Train from the trial's checkpoint to the segment's last epoch.

        A retraining trains on train and val; with nothing held out it reports its training metrics
        until its last epoch, which reports those of ``test`` and notes ``test_accuracy``.

        Raises:
            Diverged: if the loss becomes NaN or infinite.
            ValueError: if network, data, hyperparameters and metrics do not go together.
        """
        told = _objectives(trial, self.metric)
        recipe = Recipe.of(trial.params)
        device = torch.device(trial.device)
        resolution = trial.fidelity.resolution
        train = self.prepare("train+val" if trial.retraining else "train", resolution, device)
        chosen = self._subset(1.0 if trial.retraining else trial.fidelity.subset, len(train))

        with seeded(device, trial.seed, 0):
            model = trial.build()
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._check(model, train)
        optimizer = make_optimizer(model, recipe)
        state = trial.load_checkpoint()
        if state is not None:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])

        def rate(epochs: float) -> float:
            return learning_rate(epochs, trial.horizon)

        for epoch in trial.epochs():
            with seeded(device, trial.seed, epoch):
                trained = train_epoch(model, optimizer, train, chosen, recipe, rate, epoch)
            if not trial.retraining:
                metrics = evaluate(model, self.prepare("val", resolution, device))
            elif epoch == trial.horizon:
                metrics = self.test(model, resolution)
                trial.set_user_attr("test_accuracy", metrics["accuracy"])
                trial.set_user_attr("normalisation", {"mean": self.mean, "std": self.std})
            else:
                metrics = dict(trained)
            if not all(math.isfinite(v) for v in (*trained.values(), *metrics.values())):
                raise Diverged(
                    f"epoch {epoch}: the loss is {trained['loss']} in training, then {metrics['loss']}. "
                    "A smaller learning rate or batch normalisation helps."
                )
            metrics["parameters"] = float(sum(p.numel() for p in model.parameters()))
            metrics["train_loss"] = trained["loss"]
            trial.report(metrics | {name: metrics[what] for name, what in told.items()}, epoch)
            trial.save_checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict()})

    def test(self, model: torch.nn.Module, resolution: int | None = None) -> dict[str, float]:
        """Accuracy, error and loss of a trained network on ``test``, at the resolution it was trained at.

        Once for one network: choosing by the test data makes their numbers meaningless.
        """
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        return evaluate(model, self.prepare("test", resolution, device))

    def prepare(self, part: str, resolution: int | None, device: torch.device) -> Images:
        """``train``, ``val``, ``test`` or ``train+val`` on a device, every image resized once and kept."""
        key = (part, resolution, str(device))
        if key not in self._prepared:
            splits: list[Split] = [getattr(self.data, name) for name in part.split("+")]
            images = torch.cat([resize(s.images, resolution) for s in splits]).to(device)
            labels = torch.cat([s.labels for s in splits]).to(device)
            mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (self.mean, self.std))
            self._prepared[key] = Images(
                images.contiguous(memory_format=torch.channels_last), labels, mean, std
            )
        return self._prepared[key]

    def _subset(self, fraction: float, n: int) -> torch.Tensor:
        """Which training images a fraction stands for: stratified, each one contained in all larger ones."""
        if fraction >= 1:
            return torch.arange(n)
        if self._order is None:
            self._order = torch.from_numpy(nested_order(self.data.train.labels.numpy(), self.data.seed))
        return self._order[: max(self.data.n_classes, round(fraction * n))]

    def _check(self, model: torch.nn.Module, train: Images) -> None:
        """That the network takes these images and tells these classes apart."""
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError(
                "build(...): the network has no parameters to train. Give it a layer with weights."
            )
        shape, data = tuple(train.images.shape[1:]), f"{self.data.name} with {self.data.n_classes} classes"
        model.eval()
        try:
            with torch.no_grad():
                logits = model(train.normalise(train.images[:2]))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as e:
            raise ValueError(
                f"data {data}: the network cannot take its images of shape {shape} ({e}). Make the space for "
                f"input_shape={self.data.input_shape}, n_classes={self.data.n_classes}."
            ) from e
        expected = (min(2, len(train)), self.data.n_classes)
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != expected:
            got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise ValueError(
                f"data {data}: for {expected[0]} images the network gives {got}, must be logits of shape "
                f"{expected}. Make the space for n_classes={self.data.n_classes}."
            )


def train_epoch(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Images,
    chosen: torch.Tensor,
    recipe: Recipe,
    rate: Callable[[float], float],
    epoch: int,
) -> dict[str, float]:
    """One pass over the chosen images, in an order drawn from torch's generator of the CPU.

    Args:
        model: on the images' device; changed.
        optimizer: of the model; changed.
        train: the images.
        chosen: (k,) positions in ``train`` of those to train on.
        recipe: batch size, label smoothing, augmentation.
        rate: learning rate after some epochs, relative to ``recipe.lr``.
        epoch: the number of this pass, from 1.

    Returns:
        The accuracy, error and loss over the epoch's batches, as they were when trained on.
    """
    device = train.images.device
    kinds = augmentation.parse(recipe.augmentation)
    changes = torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))
    order = chosen[torch.randperm(len(chosen))].to(device)  # (k,)
    # Batches of nearly equal size: none is left with the single image that batch normalisation refuses.
    steps = max(1, min(math.ceil(len(order) / recipe.batch_size), len(order) // 2))
    total_loss = torch.zeros((), device=device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    norms = [
        (layer, layer.momentum, int(layer.num_batches_tracked or 0))
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats and layer.momentum is not None
    ]

    model.train()
    for step, index in enumerate(order.tensor_split(steps)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * rate(epoch - 1 + (step + 0.5) / steps)
        # Running statistics forget their initial zeros at once, and follow within half an epoch: else short
        # trainings are evaluated with statistics of networks they no longer are, and rank at random.
        for layer, momentum, seen in norms:
            layer.momentum = max(momentum, 1 / (seen + step + 1), min(1.0, 2 / steps))
        x = train.normalise(augmentation.augment(train.images[index], kinds, changes))  # (b, c, h, w)
        y = train.labels[index]  # (b,)
        with mixed_precision(device):
            logits = model(x)  # (b, classes)
        loss = F.cross_entropy(logits.float(), y, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.optimizer == "sgd":  # the size of adamw's steps does not depend on that of the gradient
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        # Summed on the device: reading them here would make a GPU wait at every step.
        total_loss += loss.detach() * len(index)
        right += (logits.argmax(1) == y).sum()
    for layer, momentum, _ in norms:
        layer.momentum = momentum
    return _metrics(right, total_loss, len(order))


@torch.no_grad()
def evaluate(model: torch.nn.Module, data: Images) -> dict[str, float]:
    """Accuracy, error (1 − accuracy) and mean cross-entropy of a network on all of some images."""
    device = data.images.device
    total_loss = torch.zeros((), device=device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    model.eval()
    for x, y in zip(*(torch.split(t, EVAL_BATCH) for t in (data.images, data.labels)), strict=True):
        with mixed_precision(device):
            logits = model(data.normalise(x))  # (b, classes)
        total_loss += F.cross_entropy(logits.float(), y, reduction="sum")
        right += (logits.argmax(1) == y).sum()
    return _metrics(right, total_loss, len(data))


def resize(images: torch.Tensor, resolution: int | None) -> torch.Tensor:
    """Images whose longer side is ``resolution`` pixels, antialiased; None leaves them as they are.

    Args:
        images: (n, c, h, w); the result has the same dtype.
        resolution: in pixels.
    """
    h, w = images.shape[2:]
    if resolution is None or resolution == max(h, w):
        return images
    size = [max(1, round(side * resolution / max(h, w))) for side in (h, w)]
    parts = []
    for part in torch.split(images, EVAL_BATCH):  # as float32 all at once would take four times the memory
        x = F.interpolate(part.float(), size, mode="bilinear", align_corners=False, antialias=True)
        parts.append(x if images.is_floating_point() else x.round().clamp(0, 255).to(images.dtype))
    return torch.cat(parts)


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


def _metrics(right: torch.Tensor, total_loss: torch.Tensor, n: int) -> dict[str, float]:
    accuracy = int(right) / n
    return {"accuracy": accuracy, "error": 1 - accuracy, "loss": float(total_loss) / n}


def _objectives(trial: Trial, metric: str | None) -> dict[str, str]:
    """Which of our metrics the study wants under each of its names."""
    names: Sequence[str] = trial.metric_names
    if len(names) == 1:
        default = "accuracy" if trial.directions[0] == "maximize" else "error"
        told = {names[0]: metric or (names[0] if names[0] in METRICS else default)}
    else:
        unknown = [name for name in names if name not in METRICS]
        if unknown:
            raise ValueError(
                f"metric_names={list(names)}: train_on knows no {', '.join(unknown)}. "
                f"Use {', '.join(METRICS)}, or write your own objective."
            )
        told = {name: name for name in names}
    for (name, what), direction in zip(told.items(), trial.directions, strict=True):
        if METRICS[what] != direction:
            instead = " or metric 'error'" if what == "accuracy" else ""
            raise ValueError(
                f"direction {direction!r} with metric {what!r} (reported as {name!r}): would search for the "
                f"worst network. Create the study with direction={METRICS[what]!r}{instead}."
            )
    return told


def _statistics(images: torch.Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, (n, c, h, w) -> c numbers each."""
    # In parts and as float64: float32 over all pixels at once would lose digits.
    total, squares = torch.zeros(2, images.shape[1], dtype=torch.float64)
    for part in torch.split(images, EVAL_BATCH):
        total += part.double().sum((0, 2, 3))
    pixels = images.numel() / images.shape[1]
    mean = total / pixels
    for part in torch.split(images, EVAL_BATCH):
        squares += (part.double() - mean.view(1, -1, 1, 1)).square().sum((0, 2, 3))
    std = torch.where(squares > 0, (squares / pixels).sqrt(), 1.0)  # a constant channel stays constant
    return mean.tolist(), std.tolist()
