"""Trains a trial's network on a data set at the trial's fidelity; knows neither search spaces nor studies.

``train_on(data)`` is a ready objective. The training is one plain loop, :func:`fidelity.loop.train_epoch`;
selection is on ``val``, ``test`` is touched once, by a retraining's last epoch.

Whatever is random in an epoch is drawn from (trial.seed, epoch) alone, so a run resumed from the
weights and the optimizer's state ends bit-identical to one that was never interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch

from fidelity import latency, memory
from fidelity.data import Data, Split, load_data
from fidelity.data.splits import nested_order, strata
from fidelity.examples import Examples, resize, statistics
from fidelity.loop import Portions, evaluate, seeded, train_epoch
from fidelity.optimizers import Recipe, make_optimizer
from fidelity.out_of_memory import is_out_of_memory
from fidelity.records import Fidelity
from fidelity.schedules import Schedule
from fidelity.tasks import METRICS, Regression, Task, task_of, told

# Times the loss of a network that has learned nothing. Of 117 random trainings 5 were above 3 after the first
# epoch; none ended better than guessing, but the mildest, at 16 in its second epoch, came near it.
HOPELESS = 30.0


class Diverged(RuntimeError):  # noqa: N818 - an event, as in StopIteration
    """The training's loss is no finite number, or far above that of a network that has learned nothing."""


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

    def count(self) -> Any:
        """``parameters`` and ``macs`` of the network at full width and depth; ValueError if unknown."""

    @property
    def user_attrs(self) -> Mapping[str, Any]:
        """What was noted about the trial, in earlier segments too."""

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


def train_on(data: Any, metric: str | None = None, class_weights: Any = None) -> TrainOn:
    """A ready objective: applies ``trial.fidelity``, trains, reports every epoch, saves checkpoints.

    Args:
        data: a :class:`fidelity.data.Data`, or anything ``load_data`` takes.
        metric: what a study with one objective is told. With classes ``"accuracy"``,
            ``"balanced_accuracy"`` (the mean over the classes), ``"error"`` (1 − accuracy) or ``"loss"``;
            with numbers to predict ``"r2"``, ``"mse"``, ``"mae"`` or ``"loss"``; with both
            ``"parameters"``, ``"macs"`` or ``"latency"``. By default the metric the study names, else
            accuracy or R² if it maximizes, error or mean squared error if it minimizes. A study with several
            objectives names them itself.
        class_weights: what the examples of each class count in training: None for all alike, ``"balanced"``
            for all classes alike, or a number for each class in the order of ``data.class_names``. They
            are scaled to the mean 1 over the training examples. Evaluation is never weighted.

    Raises:
        ValueError: if there is no such metric, the weights do not fit, or the data cannot be loaded.
    """
    if metric is not None and metric not in METRICS:
        raise ValueError(f"metric={metric!r}: must be one of {', '.join(METRICS)}. Use 'accuracy'.")
    return TrainOn(data if isinstance(data, Data) else load_data(data), metric, class_weights)


class TrainOn:
    """The objective made by :func:`train_on`; call it with a trial.

    Attributes:
        data: what it trains and evaluates on.
        metric: what it reports as the objective, None for the default.
        class_weights: as they were given.
        task: classification or regression, with class weights or the scale of the numbers to predict.
        mean: of each channel or feature over ``data.train``; networks see (input − mean) / std.
        std: of each channel or feature.
    """

    def __init__(self, data: Data, metric: str | None = None, class_weights: Any = None) -> None:
        self.data = data
        self.metric = metric
        self.class_weights = class_weights
        self.task: Task = task_of(data, class_weights)
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
        until its last epoch, which reports those of ``test`` and notes them, as ``test_accuracy``.

        Where memory runs out in a training step, the step is repeated in two micro-batches, and so are all
        that follow; should that be too much as well, the error is raised.

        Raises:
            Diverged: if the loss becomes NaN or infinite, or hopelessly high.
            ValueError: if network, data, hyperparameters and metrics do not go together.
        """
        wanted = told(trial.metric_names, trial.directions, self.metric, self.task)
        recipe = Recipe.of(trial.params)
        schedule = Schedule(trial.horizon, recipe.schedule)
        device = torch.device(trial.device)
        resolution = trial.fidelity.resolution
        if len(self.data.input_shape) == 1:
            self._check_for_vectors(recipe, resolution)
        train = self.prepare("train+val" if trial.retraining else "train", resolution, device)
        chosen = self._subset(1.0 if trial.retraining else trial.fidelity.subset, len(train))
        if not trial.retraining:
            self.prepare("val", resolution, device)  # before it is measured what the training takes
        peak = memory.Peak(device)

        with seeded(device, trial.seed, 0):
            model = trial.build()
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._check(model, train)
        of_network = self._of_network(trial, model, device, set(wanted.values()))
        optimizer = make_optimizer(model, recipe)
        portions = Portions()
        state = trial.load_checkpoint()
        if state is not None:
            try:
                model.load_state_dict(state["model"])
            except RuntimeError as error:
                raise ValueError(
                    "load_checkpoint(): the weights are of another network, as of another width or depth. "
                    f"Leave both out of Axes(carry=...). ({error})"
                ) from error
            optimizer.load_state_dict(state["optimizer"])
            portions.micro_batches = state.get("micro_batches", 1)

        for epoch in trial.epochs():
            peak.begin()
            with seeded(device, trial.seed, epoch):
                trained = train_epoch(model, optimizer, train, chosen, recipe, schedule, epoch, portions)
            if (taken := peak.end()) is not None:
                trial.set_user_attr("peak_memory", taken)
            if not trial.retraining:
                metrics = evaluate(model, self.prepare("val", resolution, device), portions)
            elif epoch == trial.horizon:
                metrics = self.test(model, resolution)
                self._note_test(trial, metrics)
            else:
                metrics = dict(trained)
            self._refuse_diverged(epoch, schedule, trained["loss"], metrics)
            if portions.micro_batches > 1:
                trial.set_user_attr("micro_batches", portions.micro_batches)
            metrics |= {"train_loss": trained["loss"], **of_network}
            trial.report(metrics | {name: metrics[what] for name, what in wanted.items()}, epoch)
            trial.save_checkpoint(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "micro_batches": portions.micro_batches,
                }
            )

    def test(self, model: torch.nn.Module, resolution: int | None = None) -> dict[str, float]:
        """The metrics of a trained network on ``test``, at the resolution it was trained at.

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
            self._prepared[key] = Examples.of(inputs, labels, self.mean, self.std, self.task, device)
        return self._prepared[key]

    def _subset(self, fraction: float, n: int) -> torch.Tensor:
        """The training examples a fraction stands for: stratified, each contained in all larger ones."""
        if fraction >= 1:
            return torch.arange(n)
        if self._order is None:
            self._order = torch.from_numpy(
                nested_order(strata(self.data.train.labels.numpy()), self.data.seed)
            )
        return self._order[: max(2, self.data.n_classes, round(fraction * n))]

    def _of_network(
        self, trial: Trial, model: torch.nn.Module, device: torch.device, wanted: set[str]
    ) -> dict[str, float]:
        """The metrics of the network as such, which do not change over its training."""
        try:
            count = trial.count()
            found = {"parameters": float(count.parameters), "macs": float(count.macs)}
        except ValueError:
            if "macs" in wanted:
                raise
            found = {"parameters": float(sum(p.numel() for p in model.parameters()))}
        if "latency" in wanted:
            # Of the network as it is trained here; a wider one that it is promoted to is measured again.
            built = {"width": trial.fidelity.width, "depth": trial.fidelity.depth, "device": str(device)}
            known = trial.user_attrs.get("latency")
            if known is None or any(known.get(name) != value for name, value in built.items()):
                known = {"seconds": latency.measure(model, self.data.input_shape, device)} | built
                trial.set_user_attr("latency", known)
            found["latency"] = known["seconds"]
        return found

    def _note_test(self, trial: Trial, metrics: Mapping[str, float]) -> None:
        """Note what a retraining reached, and what its network's inputs and outputs mean."""
        for name, value in metrics.items():
            if math.isfinite(value):
                trial.set_user_attr(f"test_{name}", value)
        trial.set_user_attr("normalisation", {"mean": self.mean, "std": self.std})
        if isinstance(self.task, Regression):
            trial.set_user_attr("labels", {"mean": self.task.mean, "std": self.task.std})

    def _refuse_diverged(
        self, epoch: int, schedule: Schedule, loss: float, metrics: Mapping[str, float]
    ) -> None:
        remedy = "A smaller learning rate or batch normalisation helps."
        if not all(math.isfinite(v) for v in (loss, *metrics.values())):
            raise Diverged(f"epoch {epoch}: the loss is {loss} in training, then {metrics['loss']}. {remedy}")
        # In the first epoch everything may still happen; later nobody comes back from there.
        if epoch > max(1.0, schedule.warmed_up) and loss > HOPELESS * self.task.chance:
            raise Diverged(
                f"epoch {epoch}: the loss is {loss:.3g} in training, {loss / self.task.chance:.3g} times "
                f"that of a network that has learned nothing. {remedy}"
            )

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
        """That the network takes these inputs and gives what the labels need."""
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError(
                "build(...): the network has no parameters to train. Give it a layer with weights."
            )
        shape, name = tuple(train.inputs.shape[1:]), self.data.name
        kind = "images" if len(shape) == 3 else "vectors"
        classes = self.data.task == "classification"
        what = f"{self.data.n_classes} classes" if classes else "numbers to predict"
        remedy = f"Make the space for input_shape={self.data.input_shape}, n_classes={self.data.n_classes}."
        model.eval()
        try:
            with torch.no_grad():
                outputs = model(train.normalise(train.inputs[:2]))
        except (RuntimeError, ValueError) as e:
            if is_out_of_memory(e):
                raise
            raise ValueError(
                f"data {name} with {what}: the network cannot take its {kind} of shape {shape} ({e}). "
                + remedy
            ) from e
        shapes = train.task.shapes(min(2, len(train)))
        if not isinstance(outputs, torch.Tensor) or tuple(outputs.shape) not in shapes:
            got = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise ValueError(
                f"data {name} with {what}: for {shapes[0][0]} {kind} the network gives {got}, must be "
                f"{'logits' if classes else 'numbers'} of shape {shapes[0]}. {remedy}"
            )
