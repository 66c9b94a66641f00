"""An Adam training interrupted in every way ends bit-identical to the uninterrupted one.

A hypothesis state machine trains one small network, one epoch a step, and interrupts wherever it likes:
a pause at a rung, an interruption as by SIGTERM, a worker that is gone between a report and the save after
it. States are saved after every epoch, every third, or never.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ConfigSpace import ConfigurationSpace
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from torch.nn import functional as F

import bonas
from bonas import TrialState, fidelity, spaces
from bonas.samplers import RandomSampler
from fidelity import checkpoints
from fidelity.records import StudyView
from fidelity.schedulers import Done, Resume, Start, Wait

EPOCHS = 9
RUNGS = st.sets(st.integers(1, EPOCHS - 1), max_size=3)
X = torch.randn(24, 5, generator=torch.Generator().manual_seed(0))
Y = X.sin().sum(1, keepdim=True)


class Rungs:
    """One trial that pauses after the given epochs."""

    def __init__(self, *epochs: int) -> None:
        self.epochs = epochs

    def decide(self, view: StudyView, rng: Any) -> Any:
        if not view.trials:
            return Start(view.axes.fidelity({"epochs": self.epochs[0]}))
        trial = view.trials[0]
        if trial.state == TrialState.RUNNING:
            return Wait()
        above = [e for e in self.epochs if e > trial.fidelity.epochs]
        if trial.state != TrialState.PAUSED or not above:
            return Done()
        return Resume(trial, view.axes.fidelity({"epochs": above[0]}))


class Training:
    """Adam, dropout and shuffled batches; everything random is a function of (seed, epoch)."""

    def __init__(self, trial: bonas.Trial | None) -> None:
        assert trial is not None
        torch.manual_seed(trial.seed)
        self.seed = trial.seed
        self.model = torch.nn.Sequential(
            torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01, amsgrad=True)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, trial.horizon)
        state = trial.load_checkpoint()
        if state is not None:
            self.load(state)

    def load(self, state: Any) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])

    def epoch(self, epoch: int) -> float:
        torch.manual_seed(self.seed * 1000 + epoch)
        self.model.train()
        for batch in torch.randperm(len(X)).split(8):
            self.optimizer.zero_grad()
            loss = F.mse_loss(self.model(X[batch]), Y[batch])
            loss.backward()
            self.optimizer.step()
        self.schedule.step()
        self.model.eval()
        with torch.no_grad():
            return float(F.mse_loss(self.model(X), Y))

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def tensors(self) -> list[torch.Tensor]:
        moments = [v for s in self.optimizer.state_dict()["state"].values() for v in s.values()]
        return [*(t.clone() for t in self.model.state_dict().values()), *(t.clone() for t in moments)]


def make(folder: Path | str | None, *rungs: int) -> bonas.Study:
    space = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}))
    return bonas.create_study(
        space=space,
        axes=fidelity.Axes(epochs=(1, EPOCHS)),
        sampler=RandomSampler(),
        scheduler=Rungs(*rungs),
        storage=folder,
        study_name="s",
        load_if_exists=True,
        seed=3,
    )


def uninterrupted() -> tuple[list[float], list[torch.Tensor]]:
    study = make(None, EPOCHS)
    trial = study.ask()
    assert trial is not None
    training = Training(trial)
    for epoch in trial.epochs():
        trial.report(training.epoch(epoch), epoch)
    study.tell(trial)
    return list(study.trials[0].curves[0].values("value")), training.tensors()


class Interrupted(RuleBasedStateMachine):
    """The same training, one epoch at a time, with everything that can come between."""

    expected: tuple[list[float], list[torch.Tensor]]

    @initialize(rungs=RUNGS, every=st.sampled_from([1, 3, None]), early=st.booleans())
    def begin(self, rungs: set[int], every: int | None, early: bool) -> None:
        self.folder = tempfile.mkdtemp()
        self.rungs = (*sorted(rungs), EPOCHS)
        self.every, self.early = every, early  # `early` saves before the report, which then makes it count
        self.study: bonas.Study | None = make(self.folder, *self.rungs)
        self.trial: bonas.Trial | None = None
        self.training: Training | None = None
        self.final: list[torch.Tensor] | None = None

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def save(self, epoch: int) -> None:
        assert self.trial is not None
        assert self.training is not None
        if self.every is not None and epoch % self.every == 0:
            self.trial.save_checkpoint(self.training.state())

    def train(self) -> int | None:
        """One epoch, up to and without the save that follows its report; None at the segment's end."""
        assert self.study is not None
        if self.trial is None:
            self.trial = self.study.ask()
            if self.trial is None:
                self.complete_without_a_tell()
                return None
            self.training = Training(self.trial)
            self.epochs: Iterator[int] = self.trial.epochs()
        assert self.training is not None
        epoch = next(self.epochs, None)
        if epoch is not None:
            value = self.training.epoch(epoch)
            if self.early:
                self.save(epoch)
            self.trial.report(value, epoch)
        return epoch

    def complete_without_a_tell(self) -> None:
        """Killed after the last state was written: nothing is left to train."""
        assert self.study is not None
        record = self.study.trials[0].record
        assert record.state == TrialState.COMPLETE
        assert record.checkpoint is not None
        training = Training(make(None, EPOCHS).ask())
        training.load(checkpoints.read(self.study.artifacts / record.checkpoint.file)[0])
        self.final = training.tensors()
        self.check()

    def drop(self) -> None:
        """What kill -9 leaves: the files."""
        self.trial = self.training = self.study = None
        self.epochs = iter(())
        self.study = make(self.folder, *self.rungs)

    @precondition(lambda self: self.final is None)
    @rule()
    def an_epoch(self) -> None:
        epoch = self.train()
        if epoch is not None:
            if not self.early:
                self.save(epoch)
            return
        if self.final is not None:
            return
        assert self.study is not None
        assert self.trial is not None
        assert self.training is not None
        tensors = self.training.tensors()
        told = self.study.tell(self.trial)
        self.trial = self.training = None
        if told.state == TrialState.COMPLETE:
            self.final = tensors
            self.check()
        else:
            assert told.state == TrialState.PAUSED

    @precondition(lambda self: self.final is None and self.trial is not None)
    @rule(flush=st.booleans())
    def interrupted(self, flush: bool) -> None:
        """SIGTERM: whatever counts is written at once, then the epoch ends and the trial is paused."""
        assert self.study is not None
        assert self.trial is not None
        self.trial.interrupt()
        if flush:
            self.trial.flush()
        left = list(self.epochs)
        assert left == []
        told = self.study.tell(self.trial)
        # Interrupted after the last report, the segment was whole already.
        assert told.state in (TrialState.PAUSED, TrialState.COMPLETE)
        if told.state == TrialState.COMPLETE:
            assert self.training is not None
            self.final = self.training.tensors()
            self.check()
        self.trial = self.training = None

    @precondition(lambda self: self.final is None)
    @rule(flush=st.booleans())
    def killed_between_report_and_save(self, flush: bool) -> None:
        epoch = self.train()
        if flush and self.trial is not None:
            self.trial.flush()  # the once-a-minute write
        if epoch is not None or not flush:
            self.drop()

    @precondition(lambda self: self.final is None)
    @rule()
    def restarted(self) -> None:
        self.drop()

    @precondition(lambda self: self.final is not None)
    @rule(rungs=RUNGS, every=st.sampled_from([1, 3, None]), early=st.booleans())
    def another(self, rungs: set[int], every: int | None, early: bool) -> None:
        self.teardown()
        self.begin(rungs, every, early)

    def check(self) -> None:
        assert self.study is not None
        values, tensors = self.expected
        (curve,) = self.study.trials[0].curves
        assert curve.epochs == tuple(range(1, EPOCHS + 1))
        assert list(curve.values("value")) == values
        assert self.final is not None
        assert len(self.final) == len(tensors)
        for mine, theirs in zip(self.final, tensors, strict=True):
            assert torch.equal(mine, theirs)
        assert self.study.spent >= 1.0 - 1e-9  # repeated epochs are paid again
        assert self.study.done


@pytest.fixture(autouse=True, scope="module")
def reference() -> None:
    torch.set_num_threads(1)
    Interrupted.expected = uninterrupted()


TestInterrupted = Interrupted.TestCase
TestInterrupted.settings = settings(
    max_examples=12,
    stateful_step_count=45,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.parametrize("every", [1, 3, None])
@pytest.mark.parametrize("rungs", [(EPOCHS,), (2, 5, EPOCHS)])
def test_interrupted_after_every_single_epoch(every: int | None, rungs: tuple[int, ...]) -> None:
    values, tensors = Interrupted.expected
    for stop in range(1, EPOCHS):
        study, interrupted = make(None, *rungs), False
        while not study.done:
            trial = study.ask()
            assert trial is not None
            training = Training(trial)
            for epoch in trial.epochs():
                trial.report(training.epoch(epoch), epoch)
                if every is not None and epoch % every == 0:
                    trial.save_checkpoint(training.state())
                if epoch == stop and not interrupted:
                    interrupted = True
                    trial.interrupt()
            study.tell(trial)
        assert list(study.trials[0].curves[0].values("value")) == values
        assert all(torch.equal(a, b) for a, b in zip(training.tensors(), tensors, strict=True))
