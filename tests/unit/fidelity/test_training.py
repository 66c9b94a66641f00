"""The ready objective: resumes bit-identically, applies the fidelity, says clearly what does not fit."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fidelity import checkpoints
from fidelity.augmentation import augment, parse
from fidelity.data import Data, load_data
from fidelity.optimizers import Recipe, learning_rate, make_optimizer
from fidelity.records import Fidelity
from fidelity.training import Diverged, TrainOn, evaluate, resize, train_on

CPU = torch.device("cpu")
FULL = Fidelity(epochs=4)


def make_data(n: int = 150, channels: int = 1) -> Data:
    """Three classes told apart by where the light is."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    X = rng.integers(0, 60, (n, channels, 8, 8))
    for i, label in enumerate(y):
        X[i, :, 2 * label : 2 * label + 3] += 120
    return load_data((X.astype(np.uint8), y))


def network(channels: int = 1, classes: int = 3) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(24, classes)),
    )


class FakeTrial:
    """Stands in for the study's handle, checkpoints in memory."""

    def __init__(
        self, params: dict[str, Any] | None = None, fidelity: Fidelity = FULL, **changes: Any
    ) -> None:
        self.params = params or {}
        self.fidelity = fidelity
        self.horizon = 4
        self.seed = 7
        self.device = CPU
        self.directions: tuple[str, ...] = ("maximize",)
        self.metric_names: tuple[str, ...] = ("value",)
        self.retraining = False
        self.build: Callable[[], nn.Module] = network
        self.checkpoint: tuple[int, Any] | None = None
        self.reports: dict[int, dict[str, float]] = {}
        self.user_attrs: dict[str, Any] = {}
        self._start = 0
        self.__dict__.update(changes)

    def load_checkpoint(self) -> Any:
        if self.checkpoint is None:
            return None
        self._start, state = self.checkpoint
        return state

    def epochs(self) -> Iterator[int]:
        for epoch in range(self._start + 1, self.fidelity.epochs + 1):
            self._epoch = epoch
            yield epoch

    def report(self, value: dict[str, float], epoch: int) -> None:
        self.reports[epoch] = dict(value)

    def save_checkpoint(self, state: Any) -> None:
        self.checkpoint = self._epoch, checkpoints.copy_state(state)

    def set_user_attr(self, key: str, value: Any) -> None:
        self.user_attrs[key] = value


@pytest.fixture(scope="module")
def objective() -> TrainOn:
    return train_on(make_data())


def identical(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(identical(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(identical, a, b))
    return bool(a == b)


# -- resuming ----------------------------------------------------------------------------------------


@given(
    params=st.fixed_dictionaries(
        {
            "optimizer": st.sampled_from(["sgd", "adamw"]),
            "augmentation": st.sampled_from(["none", "shift_flip", "shift_flip_cutout"]),
            "batch_size": st.sampled_from([7, 16, 1000]),
            "label_smoothing": st.sampled_from([0.0, 0.1]),
            "lr": st.just(0.02),
        }
    ),
    stops=st.sets(st.integers(1, 3)),
    subset=st.sampled_from([0.3, 1.0]),
)
@settings(max_examples=12, deadline=None)
def test_resumed_is_bit_identical_to_uninterrupted(
    params: dict[str, Any], stops: set[int], subset: float, objective: TrainOn, tmp_path_factory: Any
) -> None:
    whole = FakeTrial(params, Fidelity(epochs=4, subset=subset))
    objective(whole)
    reports, checkpoint = {}, None
    for stop in [*sorted(stops), 4]:
        torch.rand(stop)  # what else draws from torch's generator must not matter
        part = FakeTrial(params, Fidelity(epochs=stop, subset=subset), checkpoint=checkpoint)
        objective(part)
        reports |= part.reports
        assert part.checkpoint is not None
        written = checkpoints.write(tmp_path_factory.mktemp("c"), part.checkpoint[1], epoch=stop)
        checkpoint = stop, checkpoints.read(written.path)[0]
    assert checkpoint is not None
    assert whole.checkpoint is not None
    assert identical(checkpoint[1], whole.checkpoint[1])
    assert reports == whole.reports


def test_the_global_generator_is_left_alone(objective: TrainOn) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    objective(FakeTrial(fidelity=Fidelity(epochs=1)))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_make_different_runs(objective: TrainOn) -> None:
    runs = [FakeTrial(fidelity=Fidelity(epochs=1), seed=seed) for seed in (1, 1, 2)]
    for run in runs:
        objective(run)
    assert runs[0].reports == runs[1].reports
    assert runs[0].reports != runs[2].reports


def test_a_pickled_objective_trains_the_same(objective: TrainOn) -> None:
    trial, again = FakeTrial(), FakeTrial()
    objective(trial)
    pickle.loads(pickle.dumps(objective))(again)  # noqa: S301 - our own bytes
    assert again.reports == trial.reports


# -- what it reports ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "names", "directions", "expected"),
    [
        (None, ("value",), ("maximize",), {"value": "accuracy"}),
        (None, ("value",), ("minimize",), {"value": "error"}),
        (None, ("loss",), ("minimize",), {"loss": "loss"}),
        (None, ("top1",), ("maximize",), {"top1": "accuracy"}),
        ("loss", ("value",), ("minimize",), {"value": "loss"}),
        (None, ("error", "parameters"), ("minimize", "minimize"), {}),
    ],
)
def test_the_study_gets_the_metric_it_asked_for(
    metric: str | None, names: tuple[str, ...], directions: tuple[str, ...], expected: dict[str, str]
) -> None:
    trial = FakeTrial(fidelity=Fidelity(epochs=2), metric_names=names, directions=directions)
    train_on(make_data(), metric)(trial)
    report = trial.reports[2]
    assert {*names, "accuracy", "error", "loss", "train_loss", "parameters"} == report.keys()
    assert report["error"] == pytest.approx(1 - report["accuracy"])
    assert report["parameters"] == sum(p.numel() for p in network().parameters())
    for name, what in expected.items():
        assert report[name] == report[what]


@pytest.mark.parametrize(
    ("metric", "names", "directions", "words"),
    [
        (
            "accuracy",
            ("value",),
            ("minimize",),
            "Create the study with direction='maximize' or metric 'error'",
        ),
        ("error", ("value",), ("maximize",), "direction='minimize'"),
        (None, ("accuracy", "latency"), ("maximize", "minimize"), "knows no latency"),
        (None, ("accuracy", "loss"), ("maximize", "maximize"), "'loss'"),
    ],
)
def test_metrics_that_would_search_for_the_worst_are_refused(
    metric: str | None, names: tuple[str, ...], directions: tuple[str, ...], words: str
) -> None:
    trial = FakeTrial(metric_names=names, directions=directions)
    with pytest.raises(ValueError, match=words):
        train_on(make_data(), metric)(trial)
    assert not trial.reports


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="metric='f1'"):
        train_on(make_data(), "f1")


def test_it_learns_and_evaluates_what_it_says(objective: TrainOn) -> None:
    trial = FakeTrial({"lr": 0.02, "batch_size": 16}, Fidelity(epochs=20), horizon=20)
    objective(trial)
    assert trial.reports[20]["accuracy"] > 0.9
    assert trial.reports[20]["train_loss"] < trial.reports[1]["train_loss"]
    assert trial.checkpoint is not None
    model = network()
    model.load_state_dict(trial.checkpoint[1]["model"])
    found = evaluate(model, objective.prepare("val", None, CPU))
    assert found["accuracy"] == trial.reports[20]["accuracy"]
    # The naive way: image by image in the original layout, without mixed precision.
    val = objective.data.val
    model.eval()
    with torch.no_grad():
        x = (val.images.float() - objective.mean[0]) / objective.std[0]
        right = sum(int(model(x[i : i + 1]).argmax()) == int(val.labels[i]) for i in range(len(val)))
    assert right / len(val) == pytest.approx(found["accuracy"], abs=1.1 / len(val))


def test_normalisation_is_of_the_training_images(objective: TrainOn) -> None:
    train = objective.prepare("train", None, CPU)
    x = train.normalise(train.images)
    assert x.mean().item() == pytest.approx(0, abs=1e-5)
    assert x.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_running_statistics_are_those_of_the_network_as_it_is(objective: TrainOn) -> None:
    built: list[nn.Module] = []

    def build() -> nn.Module:
        if not built:
            built.append(nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 3)))
        return built[0]

    # Initially mean 0 and variance 1, as the normalised images have: spoil them.
    built_first = build()
    built_first[0].running_mean.fill_(9.0)  # type: ignore[index]
    # One batch an epoch: the statistics are the batch's, though the layer's momentum is a tenth.
    objective(FakeTrial({"batch_size": 90}, Fidelity(epochs=1), build=build))
    norm = built[0][0]  # type: ignore[index]
    assert norm.running_mean.item() == pytest.approx(0, abs=1e-5)
    assert norm.running_var.item() == pytest.approx(1, abs=1e-3)
    assert norm.momentum == 0.1


def test_a_constant_channel_stays_finite() -> None:
    X = np.random.default_rng(0).integers(0, 9, (60, 2, 8, 8), dtype=np.uint8)
    X[:, 1] = 5
    trial = FakeTrial(build=lambda: network(2), fidelity=Fidelity(epochs=1))
    train_on((X, np.arange(60) % 3))(trial)
    assert 1 in trial.reports


# -- test is touched once ----------------------------------------------------------------------------


class Watched(TrainOn):
    """Remembers which parts of the data were read."""

    def prepare(self, part: str, resolution: int | None, device: torch.device) -> Any:
        self.__dict__.setdefault("read", []).append(part)
        return super().prepare(part, resolution, device)


def test_search_never_reads_test_and_a_retraining_reads_it_once() -> None:
    objective = Watched(make_data())
    objective(FakeTrial())
    assert set(objective.read) == {"train", "val"}  # type: ignore[attr-defined]

    objective.read.clear()  # type: ignore[attr-defined]
    trial = FakeTrial({"lr": 0.02}, retraining=True)
    objective(trial)
    assert objective.read == ["train+val", "test"]  # type: ignore[attr-defined]
    assert list(trial.reports) == [1, 2, 3, 4]
    assert trial.user_attrs["test_accuracy"] == trial.reports[4]["accuracy"]
    assert trial.user_attrs["normalisation"] == {"mean": objective.mean, "std": objective.std}
    assert trial.checkpoint is not None
    model = network()
    model.load_state_dict(trial.checkpoint[1]["model"])
    assert objective.test(model)["accuracy"] == trial.user_attrs["test_accuracy"]


# -- fidelity ----------------------------------------------------------------------------------------


def test_subset_and_resolution_are_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Size] = []

    def build() -> nn.Module:
        model = network()
        model.register_forward_pre_hook(
            lambda module, args: seen.append(args[0].shape) if module.training else None
        )
        return model

    trial = FakeTrial({"batch_size": 10}, Fidelity(epochs=1, subset=0.5, resolution=5), build=build)
    train_on(make_data())(trial)
    assert sum(shape[0] for shape in seen) == 45  # half of 90
    assert {tuple(shape[1:]) for shape in seen} == {(1, 5, 5)}


def test_subsets_are_nested_and_hold_every_class(objective: TrainOn) -> None:
    sizes = [objective._subset(f, 90).tolist() for f in (0.01, 0.2, 0.5, 1.0)]
    assert [len(s) for s in sizes] == [3, 18, 45, 90]
    assert all(set(a) <= set(b) for a, b in itertools.pairwise(sizes))
    labels = objective.data.train.labels
    assert labels[sizes[1]].bincount().tolist() == [6, 6, 6]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_resizing_keeps_flat_images_flat_and_the_aspect(dtype: torch.dtype) -> None:
    images = torch.full((3, 2, 8, 12), 77).to(dtype)
    small = resize(images, 6)
    assert small.shape == (3, 2, 4, 6)
    assert small.dtype == dtype
    assert torch.equal(small, torch.full_like(small, 77))
    assert resize(images, None) is images
    assert resize(images, 12) is images


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    rates = [learning_rate(t, 20) for t in np.linspace(0, 20, 401)]
    assert rates[0] == 0
    assert max(rates) == 1
    assert rates[-1] == pytest.approx(0)
    peak = int(np.argmax(rates))
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()


def test_the_schedule_follows_the_horizon_and_not_the_segment(objective: TrainOn) -> None:
    short, long = (
        FakeTrial(fidelity=Fidelity(epochs=2), horizon=8),
        FakeTrial(fidelity=Fidelity(epochs=4), horizon=8),
    )
    objective(short)
    objective(long)
    assert short.reports[2] == long.reports[2]


# -- hyperparameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"optimizer": "rmsprop"}, "'sgd' or 'adamw'"),
        ({"lr": 0}, "lr=0.0: must be greater than 0"),
        ({"lr": "fast"}, "lr='fast': must be a float"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"augmentation": "flip_twist"}, "'flip_twist'"),
        ({"augmentation": "flip_flip"}, "'flip_flip'"),
    ],
)
def test_hyperparameters_that_cannot_train_are_refused(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Recipe.of(params)


def test_hyperparameters_reach_the_optimizer() -> None:
    model = network()
    sgd = make_optimizer(
        model, Recipe.of({"optimizer": "sgd", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.1})
    )
    assert isinstance(sgd, torch.optim.SGD)
    assert [g["weight_decay"] for g in sgd.param_groups] == [0.1, 0.0]
    assert {p.ndim for p in sgd.param_groups[1]["params"]} == {1}
    assert not sgd.param_groups[0]["nesterov"]
    adamw = make_optimizer(model, Recipe.of({"beta1": 0.8, "filters": 12}))
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.param_groups[0]["betas"] == (0.8, 0.999)


@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_shifted_and_flipped_images_hold_only_their_own_pixels(
    n: int, c: int, h: int, w: int, seed: int
) -> None:
    images = torch.arange(1, n + 1).view(n, 1, 1, 1).expand(n, c, h, w)
    changed = augment(images, ("shift", "flip", "cutout"), torch.Generator().manual_seed(seed))
    assert changed.shape == images.shape
    assert ((changed == images) | (changed == 0)).all()


def test_flips_mirror_and_shifts_move_by_an_eighth_at_most() -> None:
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 8, 3] = 1
    many = image.expand(400, 1, 16, 16)
    generator = torch.Generator().manual_seed(0)
    flipped = augment(many, ("flip",), generator).nonzero()
    assert set(flipped[:, 3].tolist()) == {3, 12}
    assert set(flipped[:, 2].tolist()) == {8}
    shifted = augment(many, ("shift",), generator).nonzero()
    assert len(shifted) == 400
    assert set(shifted[:, 2].tolist()) == {6, 7, 8, 9, 10}
    assert set(shifted[:, 3].tolist()) == {1, 2, 3, 4, 5}
    assert parse("none") == ()
    assert augment(many, (), generator) is many


# -- what does not go together -----------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 89, 90, 10_000])
def test_batch_sizes_that_leave_one_image_over_do_not_crash(objective: TrainOn, batch_size: int) -> None:
    trial = FakeTrial({"batch_size": batch_size}, Fidelity(epochs=1))
    # After pooling to 1×1 a batch of one image has one value per channel, which batch norm refuses.
    trial.build = lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(1), nn.Linear(1, 3)
    )
    objective(trial)
    assert 1 in trial.reports


def test_a_run_that_diverges_says_so() -> None:
    class Exploding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.flatten(1) @ self.weight.T * 1e30) ** 3

    trial = FakeTrial(build=Exploding)
    with pytest.raises(Diverged, match="epoch 1: the loss is nan"):
        train_on(make_data())(trial)
    assert not trial.reports


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: network(channels=3), r"images of shape \(1, 8, 8\).*input_shape=\(1, 8, 8\), n_classes=3"),
        (lambda: network(classes=5), r"gives \(2, 5\).*n_classes=3"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(99, 3)), "cannot take its images"),
        (lambda: nn.AdaptiveAvgPool2d(1), "no parameters"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused_early(build: Any, words: str) -> None:
    trial = FakeTrial(build=build)
    with pytest.raises(ValueError, match=words):
        train_on(make_data())(trial)
    assert not trial.reports


def test_errors_of_the_users_build_are_not_hidden(objective: TrainOn) -> None:
    def build() -> nn.Module:
        raise ValueError("this space has no build")

    with pytest.raises(ValueError, match="this space has no build"):
        objective(FakeTrial(build=build))
