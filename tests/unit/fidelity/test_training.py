"""The ready objective: resumes bit-identically, applies the fidelity, says clearly what does not fit."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_trial import CPU, FakeTrial, Limited, make_data, network, train_in_parts
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fidelity import latency
from fidelity.data import load_data
from fidelity.examples import resize
from fidelity.loop import evaluate
from fidelity.optimizers import OPTIMIZERS
from fidelity.records import Fidelity
from fidelity.training import Diverged, TrainOn, train_on
from spaces.operations import DropPath


@pytest.fixture(scope="module")
def objective() -> TrainOn:
    return train_on(make_data())


# -- resuming ----------------------------------------------------------------------------------------


@given(
    params=st.fixed_dictionaries(
        {
            "optimizer": st.sampled_from(["sgd", "adamw", "muon"]),
            "schedule": st.sampled_from(["cosine", "linear", "warmup_stable_decay"]),
            "augmentation": st.sampled_from(["none", "shift_flip"]),
            "mixup": st.sampled_from([0.0, 0.4]),
            "cutout": st.sampled_from([0.0, 0.5]),
            "batch_size": st.sampled_from([7, 16, 1000]),
            "label_smoothing": st.sampled_from([0.0, 0.1]),
            "lr": st.just(0.02),
        }
    ),
    stops=st.sets(st.integers(1, 3)),
    subset=st.sampled_from([0.3, 1.0]),
    drop_path=st.sampled_from([0.0, 0.4]),
    memory=st.sampled_from([5, 14, 10**9]),
)
@settings(max_examples=15, deadline=None)
def test_resumed_is_bit_identical_to_uninterrupted(
    params: dict[str, Any],
    stops: set[int],
    subset: float,
    drop_path: float,
    memory: int,
    objective: TrainOn,
    tmp_path_factory: Any,
) -> None:
    def build() -> nn.Module:
        # What fits in no case would be raised: half a batch always does.
        half = -(-min(params["batch_size"], round(90 * subset)) // 2)
        return Limited(DropPath(drop_path), network(), training=max(memory, half))

    folder = tmp_path_factory.mktemp("c")
    fidelity = Fidelity(epochs=4, subset=subset)
    train_in_parts(objective, folder, stops, params=params, fidelity=fidelity, build=build)


def deep_network() -> nn.Module:
    """With hidden kernels, so that Muon has something to do."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)),
        *(nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)),
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_resumes_bit_identically(optimizer: str, objective: TrainOn, tmp_path: Path) -> None:
    params = {"optimizer": optimizer, "batch_size": 16, "mixup": 1.0, "cutout": 0.25}
    trial = train_in_parts(objective, tmp_path, {2}, params=params, build=deep_network)
    assert trial.reports[4]["train_loss"] < trial.reports[1]["train_loss"]


def test_weights_carried_into_another_network_say_what_to_leave_out(objective: TrainOn) -> None:
    trial = FakeTrial()
    trial.checkpoint = (1, {"model": nn.Linear(2, 2).state_dict(), "optimizer": {}})
    with pytest.raises(ValueError, match=r"width or depth. Leave both out of Axes\(carry=...\)"):
        objective(trial)


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
    ours = {"accuracy", "balanced_accuracy", "error", "loss", "train_loss", "parameters"}
    assert {*names, *ours} == report.keys()
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
        (None, ("accuracy", "flops"), ("maximize", "minimize"), "knows no flops"),
        ("r2", ("value",), ("maximize",), "knows no r2 for these data"),
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
        x = (val.inputs.float() - objective.mean[0]) / objective.std[0]
        right = sum(int(model(x[i : i + 1]).argmax()) == int(val.labels[i]) for i in range(len(val)))
    assert right / len(val) == pytest.approx(found["accuracy"], abs=1.1 / len(val))


def test_normalisation_is_of_the_training_images(objective: TrainOn) -> None:
    train = objective.prepare("train", None, CPU)
    x = train.normalise(train.inputs)
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


def test_sizes_are_those_of_the_full_network_at_every_fidelity(objective: TrainOn) -> None:
    for width in (0.5, 1.0):
        trial = FakeTrial(fidelity=Fidelity(epochs=1, width=width))
        trial.count = lambda: SimpleNamespace(parameters=1234, macs=56789)  # type: ignore[method-assign]
        objective(trial)
        assert (trial.reports[1]["parameters"], trial.reports[1]["macs"]) == (1234.0, 56789.0)


def test_macs_of_a_space_that_cannot_count_are_refused(objective: TrainOn) -> None:
    trial = FakeTrial(metric_names=("accuracy", "macs"), directions=("maximize", "minimize"))
    with pytest.raises(ValueError, match="no such function"):
        objective(trial)


def test_latency_is_measured_once_for_a_network(objective: TrainOn, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([0.25, 0.5])
    monkeypatch.setattr(latency, "measure", lambda model, shape, device: next(measured))
    names = {"metric_names": ("accuracy", "latency"), "directions": ("maximize", "minimize")}
    first = FakeTrial(fidelity=Fidelity(epochs=1, width=0.5), **names)
    objective(first)
    same = FakeTrial(fidelity=Fidelity(epochs=2, width=0.5), user_attrs=first.user_attrs, **names)
    objective(same)
    wider = FakeTrial(fidelity=Fidelity(epochs=1), user_attrs=same.user_attrs, **names)
    objective(wider)
    assert [t.reports[1]["latency"] for t in (first, same, wider)] == [0.25, 0.25, 0.5]
    assert wider.user_attrs["latency"] == {"seconds": 0.5, "width": 1.0, "depth": 1.0, "device": "cpu"}


# -- classes that are two, or unequal ------------------------------------------------------------------


def two_classes(rare: int, n: int = 300) -> Any:
    """Two overlapping classes of vectors, the second with some examples only."""
    rng = np.random.default_rng(0)
    y = (np.arange(n) < rare).astype(int)
    return load_data((rng.normal(size=(n, 4)) + 1.2 * y[:, None] * [1, 1, 0, 0], np.array(["no", "yes"])[y]))


@pytest.mark.parametrize("outputs", [1, 2])
def test_two_classes_with_one_logit_or_two(outputs: int, tmp_path: Path) -> None:
    objective = train_on(two_classes(150))
    params = {"lr": 0.05, "batch_size": 20, "label_smoothing": 0.1, "mixup": 0.2}
    trial = train_in_parts(objective, tmp_path, {2}, params=params, build=lambda: nn.Linear(4, outputs))
    assert trial.reports[4]["accuracy"] > 0.7
    assert trial.reports[4]["balanced_accuracy"] == pytest.approx(trial.reports[4]["accuracy"], abs=0.05)


def test_class_weights_find_the_rare_class() -> None:
    reports = {}
    for weights in (None, "balanced", [1, 9]):
        trial = FakeTrial({"lr": 0.05, "batch_size": 20}, build=lambda: nn.Linear(4, 2))
        train_on(two_classes(30), class_weights=weights)(trial)
        reports[str(weights)] = trial.reports[4]
    assert reports["None"]["balanced_accuracy"] < 0.65
    for weights in ("balanced", "[1, 9]"):
        assert reports[weights]["balanced_accuracy"] > reports["None"]["balanced_accuracy"] + 0.05
        # Evaluation is not weighted: what is rare is found at the cost of errors among the rest.
        assert reports[weights]["loss"] > reports["None"]["loss"]


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


def test_the_schedule_follows_the_horizon_and_not_the_segment(objective: TrainOn) -> None:
    short, long = (
        FakeTrial(fidelity=Fidelity(epochs=2), horizon=8),
        FakeTrial(fidelity=Fidelity(epochs=4), horizon=8),
    )
    objective(short)
    objective(long)
    assert short.reports[2] == long.reports[2]


# -- what changes over a training ---------------------------------------------------------------------


class Noted(nn.Module):
    """Notes the progress it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def set_progress(self, progress: float) -> None:
        self.seen.append(progress)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_modules_are_told_how_far_the_training_is(objective: TrainOn) -> None:
    noted = Noted()
    trial = FakeTrial({"batch_size": 45}, build=lambda: nn.Sequential(network(), noted))
    objective(trial)
    assert noted.seen == pytest.approx([1 / 16, 3 / 16, 5 / 16, 7 / 16, 9 / 16, 11 / 16, 13 / 16, 15 / 16])


def test_drop_path_grows_and_resumes_bit_identically(objective: TrainOn, tmp_path: Path) -> None:
    built: list[nn.Sequential] = []

    def build() -> nn.Module:
        model = nn.Sequential(nn.Conv2d(1, 6, 3), DropPath(0.4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        built.append(model.append(nn.Linear(6, 3)))
        return built[-1]

    train_in_parts(objective, tmp_path, {1, 3}, params={"batch_size": 30}, build=build)
    assert [model[1].p for model in built] == pytest.approx(
        [0.4 * epochs / 4 for epochs in (3 + 5 / 6, 5 / 6, 2 + 5 / 6, 3 + 5 / 6)]
    )


def test_cells_train_and_resume_with_everything_at_once(tmp_path: Path) -> None:
    from spaces import cell

    space = cell(preset="enas", input_shape=(1, 8, 8), n_classes=3, filters=4, cells=1).with_hyperparameters()
    fixed = {"drop_path": 0.3, "mixup": 0.2, "cutout": 0.25, "dropout": 0.1, "optimizer": "muon"}
    params = space.fix(fixed).sample(1, np.random.default_rng(0))[0]
    objective = train_on(make_data(50))
    train_in_parts(
        objective,
        tmp_path,
        {1},
        params=params,
        fidelity=Fidelity(epochs=2),
        build=lambda: space.build(params),
    )


def test_mixed_examples_are_seen_and_counted_by_their_shares(objective: TrainOn) -> None:
    plain, mixed = ({"batch_size": 90, "lr": 1e-9, "mixup": mixup} for mixup in (0.0, 1.0))
    seen: list[torch.Tensor] = []

    def build() -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        model.register_forward_pre_hook(lambda m, args: seen.append(args[0]) if m.training else None)
        return model

    trials = [FakeTrial(params, Fidelity(epochs=1), build=build) for params in (plain, mixed)]
    for trial in trials:
        objective(trial)
    assert seen[1].square().mean() < 0.95 * seen[0].square().mean()  # mixing averages the examples
    assert torch.allclose(seen[1].mean((0, 1)), seen[0].mean((0, 1)), atol=1e-4)
    assert trials[1].reports[1]["train_loss"] != trials[0].reports[1]["train_loss"]


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


def test_a_run_that_is_far_worse_than_guessing_ends(objective: TrainOn) -> None:
    class Sure(nn.Module):
        """Sure of the wrong classes, by finite numbers."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(64, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * (x.flatten(1).cumsum(1) @ self.weight * torch.tensor([1.0, -1, 2]))

    trial = FakeTrial({"lr": 1e-6}, build=Sure)
    with pytest.raises(Diverged, match=r"epoch 2: the loss is \d.* times that of a network that has learned"):
        objective(trial)
    assert list(trial.reports) == [1]


def test_strides_on_single_pixels_train_to_the_same_bits(objective: TrainOn) -> None:
    def build() -> nn.Module:
        shrink = (nn.AdaptiveAvgPool2d(1), nn.Conv2d(1, 16, 3, 2, 1), nn.Conv2d(16, 32, 5, 2, 2))
        return nn.Sequential(*shrink, nn.Flatten(), nn.Linear(32, 3))

    ends = []
    for _ in range(10):  # kernels that read what nobody wrote find something else each time
        used = [torch.full((size,), torch.nan) for size in (256, 4096, 65536) for _ in range(10)]
        del used
        trial = FakeTrial({"optimizer": "sgd", "lr": 0.01}, build=build)
        objective(trial)
        assert trial.checkpoint is not None
        ends.append(trial.checkpoint[1]["model"])
    assert all(torch.equal(end[name], values) for end in ends for name, values in ends[0].items())
    assert not torch.is_autocast_enabled("cpu")


# -- memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [None, MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_goes_on_in_two_micro_batches(
    objective: TrainOn, tmp_path: Path, error: Exception | None
) -> None:
    built: list[Limited] = []

    def build() -> nn.Module:
        built.append(Limited(network(), training=20, error=error))
        return built[-1]

    params = {"batch_size": 30, "mixup": 0.4, "label_smoothing": 0.1}
    trial = train_in_parts(objective, tmp_path, {1, 3}, params=params, build=build)
    assert trial.user_attrs["micro_batches"] == 2
    whole, _, *later = built
    assert whole.seen[True] == [30] + [15] * 24  # 4 epochs of 3 batches
    assert [max(model.seen[True]) for model in later] == [15, 15]  # it need not fail again


def test_micro_batches_add_up_to_the_same_gradients(
    objective: TrainOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fidelity.loop._CPU", {})  # float32 on every CPU: bfloat16 rounds sums differently

    def build() -> nn.Module:
        return Limited(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3), training=most)

    ends = []
    for most in (31, 29):  # 90 examples in batches of 30; two parts of 15
        trial = FakeTrial({"batch_size": 30, "optimizer": "sgd", "lr": 0.05}, build=build)
        objective(trial)
        assert trial.checkpoint is not None
        assert trial.checkpoint[1]["micro_batches"] == (1 if most > 30 else 2)
        ends.append(trial.checkpoint[1]["model"])
    for name, values in ends[0].items():
        assert torch.allclose(values, ends[1][name], atol=1e-5)


@pytest.mark.parametrize(("most", "batch_size"), [(14, 30), (1, 3)])
def test_what_does_not_fit_in_two_parts_either_is_raised(
    objective: TrainOn, most: int, batch_size: int
) -> None:
    trial = FakeTrial({"batch_size": batch_size}, build=lambda: Limited(network(), training=most))
    with pytest.raises(torch.OutOfMemoryError):
        objective(trial)
    assert not trial.reports


def test_other_errors_of_a_step_are_not_tried_again(objective: TrainOn) -> None:
    built = Limited(network(), training=5, error=RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        objective(FakeTrial(build=lambda: built))
    assert len(built.seen[True]) == 1


def test_evaluation_goes_on_in_smaller_batches(objective: TrainOn) -> None:
    plain, limited = FakeTrial(), FakeTrial(build=lambda: Limited(network(), evaluation=10))
    objective(plain)
    objective(limited)
    assert limited.reports.keys() == plain.reports.keys()
    for epoch, report in plain.reports.items():
        assert limited.reports[epoch] == pytest.approx(report, rel=1e-5)
    assert "micro_batches" not in limited.user_attrs
    with pytest.raises(torch.OutOfMemoryError):
        objective(FakeTrial(build=lambda: Limited(network(), evaluation=0)))


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
