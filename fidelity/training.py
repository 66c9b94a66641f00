"""Trains a trial's network on a data set at the trial's fidelity; knows neither search spaces nor studies.

``train_on(data)`` is a ready objective. The training is one plain loop, :func:`train_epoch`; selection
is on ``val``, ``test`` is touched once, by a retraining's last epoch.

Whatever is random in an epoch is drawn from (trial.seed, epoch) alone, so a run resumed from the
weights and the optimizer's state ends bit-identical to one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from fidelity import augmentation
from fidelity.data import Data, Split, load_data
from fidelity.data.splits import nested_order
from fidelity.examples import Examples, resize, statistics
from fidelity.optimizers import Optimizer, Recipe, make_optimizer
from fidelity.records import Fidelity
from fidelity.schedules import Schedule

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


@runtime_checkable
class Annealed(Protocol):
    """A module that changes over the training, such as drop-path; any module with this method is one."""

    def set_progress(self, progress: float) -> None:
        """Called before every step with the part of the whole training that is done, in [0, 1]."""


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
        mean: of each channel or feature over ``data.train``; networks see (input − mean) / std.
        std: of each channel or feature.
    """

    def __init__(self, data: Data, metric: str | None = None) -> None:
        self.data = data
        self.metric = metric
        self.mean, self.std = statistics(data.train.inputs)
        self._prepared: dict[tuple[str, int | None, str], Examples] = {}
        self._order: torch.Tensor | None = None

    def __repr__(self) -> str:
        return f"train_on({self.data!r}, metric={self.metric!r})"

    def __getstate__(self) -> dict[str, Any]:
        # Another process prepares its own examples.
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
        schedule = Schedule(trial.horizon, recipe.schedule)
        device = torch.device(trial.device)
        resolution = trial.fidelity.resolution
        if len(self.data.input_shape) == 1:
            self._check_for_vectors(recipe, resolution)
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

        for epoch in trial.epochs():
            with seeded(device, trial.seed, epoch):
                trained = train_epoch(model, optimizer, train, chosen, recipe, schedule, epoch)
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

    def prepare(self, part: str, resolution: int | None, device: torch.device) -> Examples:
        """``train``, ``val``, ``test`` or ``train+val`` on a device, every image resized once and kept."""
        key = (part, resolution, str(device))
        if key not in self._prepared:
            splits: list[Split] = [getattr(self.data, name) for name in part.split("+")]
            inputs = torch.cat([resize(s.inputs, resolution) for s in splits])
            labels = torch.cat([s.labels for s in splits])
            self._prepared[key] = Examples.of(inputs, labels, self.mean, self.std, device)
        return self._prepared[key]

    def _subset(self, fraction: float, n: int) -> torch.Tensor:
        """The training examples a fraction stands for: stratified, each contained in all larger ones."""
        if fraction >= 1:
            return torch.arange(n)
        if self._order is None:
            self._order = torch.from_numpy(nested_order(self.data.train.labels.numpy(), self.data.seed))
        return self._order[: max(self.data.n_classes, round(fraction * n))]

    def _check_for_vectors(self, recipe: Recipe, resolution: int | None) -> None:
        """That nothing is asked for that only images have."""
        vectors = f"{self.data.name} has vectors of {self.data.input_shape[0]} features"
        if resolution is not None:
            raise ValueError(
                f"resolution={resolution}: is of images, and {vectors}. Leave it out of Axes(...)."
            )
        for name, off in (("augmentation", "none"), ("cutout", 0.0)):
            if getattr(recipe, name) != off:
                raise ValueError(
                    f"{name}={getattr(recipe, name)!r}: changes images, and {vectors}. Leave it out of the "
                    f"space: with_hyperparameters(spaces.default_hyperparameters(images=False))."
                )

    def _check(self, model: torch.nn.Module, train: Examples) -> None:
        """That the network takes these inputs and tells these classes apart."""
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError(
                "build(...): the network has no parameters to train. Give it a layer with weights."
            )
        shape, data = tuple(train.inputs.shape[1:]), f"{self.data.name} with {self.data.n_classes} classes"
        kind = "images" if len(shape) == 3 else "vectors"
        model.eval()
        try:
            with torch.no_grad():
                logits = model(train.normalise(train.inputs[:2]))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as e:
            raise ValueError(
                f"data {data}: the network cannot take its {kind} of shape {shape} ({e}). Make the space for "
                f"input_shape={self.data.input_shape}, n_classes={self.data.n_classes}."
            ) from e
        expected = (min(2, len(train)), self.data.n_classes)
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != expected:
            got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise ValueError(
                f"data {data}: for {expected[0]} {kind} the network gives {got}, must be logits of shape "
                f"{expected}. Make the space for n_classes={self.data.n_classes}."
            )


def train_epoch(
    model: torch.nn.Module,
    optimizer: Optimizer,
    train: Examples,
    chosen: torch.Tensor,
    recipe: Recipe,
    schedule: Schedule,
    epoch: int,
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

    Returns:
        The accuracy, error and loss over the epoch's batches, as they were when trained on; a mixed example
        counts for each of its labels by its share.
    """
    device = train.inputs.device
    kinds = augmentation.parse(recipe.augmentation)
    seed = int(torch.randint(2**62, ()))
    changes = torch.Generator(device).manual_seed(seed)
    order = chosen[torch.randperm(len(chosen))].to(device)  # (k,)
    # Batches of nearly equal size: none is left with the single example that batch normalisation refuses.
    steps = max(1, min(math.ceil(len(order) / recipe.batch_size), len(order) // 2))
    shares = np.random.default_rng(seed).beta(recipe.mixup, recipe.mixup, steps) if recipe.mixup else None
    total_loss = torch.zeros((), device=device)
    right = torch.zeros((), device=device)
    annealed = [module for module in model.modules() if isinstance(module, Annealed)]
    norms = [
        (layer, layer.momentum, int(layer.num_batches_tracked or 0))
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats and layer.momentum is not None
    ]

    model.train()
    for step, index in enumerate(order.tensor_split(steps)):
        trained = epoch - 1 + (step + 0.5) / steps  # epochs
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * schedule.rate(trained)
        for module in annealed:
            module.set_progress(schedule.progress(trained))
        # Running statistics forget their initial zeros at once, and follow within half an epoch: else short
        # trainings are evaluated with statistics of networks they no longer are, and rank at random.
        for layer, momentum, seen in norms:
            layer.momentum = max(momentum, 1 / (seen + step + 1), min(1.0, 2 / steps))
        x = train.normalise(augmentation.augment(train.inputs[index], kinds, changes))  # (b, ...)
        if recipe.cutout:
            x = augmentation.cutout(x, recipe.cutout, changes)
        targets: augmentation.Targets = ((1.0, train.labels[index]),)  # (b,)
        if shares is not None:
            x, targets = augmentation.mixup(x, train.labels[index], float(shares[step]), changes)
        with mixed_precision(device):
            logits = model(x)  # (b, classes)
        scores, loss = logits.float(), torch.zeros((), device=device)
        for share, y in targets:
            loss = loss + share * F.cross_entropy(scores, y, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.optimizer == "sgd":  # the size of the others' steps does not depend on that of the gradient
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        # Summed on the device: reading them here would make a GPU wait at every step.
        total_loss += loss.detach() * len(index)
        for share, y in targets:
            right += share * (logits.argmax(1) == y).sum()
    for layer, momentum, _ in norms:
        layer.momentum = momentum
    return _metrics(right, total_loss, len(order))


@torch.no_grad()
def evaluate(model: torch.nn.Module, data: Examples) -> dict[str, float]:
    """Accuracy, error (1 − accuracy) and mean cross-entropy of a network on all of some examples."""
    device = data.inputs.device
    total_loss = torch.zeros((), device=device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    model.eval()
    for x, y in zip(*(torch.split(t, EVAL_BATCH) for t in (data.inputs, data.labels)), strict=True):
        with mixed_precision(device):
            logits = model(data.normalise(x))  # (b, classes)
        total_loss += F.cross_entropy(logits.float(), y, reduction="sum")
        right += (logits.argmax(1) == y).sum()
    return _metrics(right, total_loss, len(data))


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
    accuracy = float(right) / n  # float32 counts exactly up to 16 million
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
