"""A trial as it reads afterwards, its trained network included; knows nothing of how it was searched for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fidelity.records import Curve, Fidelity, TrialRecord, TrialState

if TYPE_CHECKING:
    import torch

    from spaces import Count, Space


class FrozenTrial:
    """One trial of a study as it was when it was read: ``study.trials``, ``study.best_trial``.

    Attributes:
        record: the frozen record with all curves, costs and the reason of its state.
    """

    def __init__(self, record: TrialRecord, space: Space, metric_names: Sequence[str], folder: Path) -> None:
        self.record = record
        self._space = space
        self._metric_names = tuple(metric_names)
        self._folder = folder

    def __repr__(self) -> str:
        return (
            f"FrozenTrial(number={self.number}, state={self.state.value}, values={self.values}, "
            f"fidelity={self.fidelity}, params={self.params})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenTrial) and self.record == other.record

    def __hash__(self) -> int:
        return hash((self.record.number, self.record.watermark))

    def _repr_html_(self) -> str:
        from bonas import report

        return report.trial_html(self)

    @property
    def number(self) -> int:
        """The trial's number in the study, from 0."""
        return self.record.number

    @property
    def params(self) -> dict[str, Any]:
        """The active hyperparameters."""
        return dict(self.record.params)

    @property
    def state(self) -> TrialState:
        """Where the trial stands."""
        return self.record.state

    @property
    def values(self) -> dict[str, float]:
        """The latest report of every metric; empty if there was none."""
        values = self.record.values
        return {name: values[name] for name in self._metric_names if name in values}

    @property
    def value(self) -> float | None:
        """The latest report of the only metric: a trial's value is its last epoch's, never its best one's."""
        if len(self._metric_names) > 1:
            raise ValueError("value: this study has several objectives. Use values.")
        return self.record.values.get(self._metric_names[0])

    @property
    def intermediate_values(self) -> dict[int, float]:
        """The first metric over the epochs of the newest curve."""
        if not self.record.curves:
            return {}
        name = self._metric_names[0]
        return {o.epoch: o.values[name] for o in self.record.curves[-1].observations if name in o.values}

    @property
    def fidelity(self) -> Fidelity:
        """The target of its latest segment."""
        return self.record.fidelity

    @property
    def curves(self) -> tuple[Curve, ...]:
        """Every learning curve of the trial, newest last."""
        return self.record.curves

    @property
    def cost(self) -> float:
        """Everything spent on it, in the unit of ``Axes(cost=...)``."""
        return self.record.cost

    @property
    def retrained(self) -> float:
        """The part of ``cost`` that went into epochs trained before, because their saved state was gone.

        Checkpoints are dropped where ``Artifacts(max_bytes=...)`` has no room for all of them.
        """
        return self.record.retrained

    @property
    def reason(self) -> str | None:
        """Why it failed, was stopped or is infeasible."""
        return self.record.reason

    @property
    def user_attrs(self) -> dict[str, Any]:
        """What the objective kept with the trial."""
        return dict(self.record.user_attrs)

    @property
    def seed(self) -> int:
        """The trial's seed."""
        return self.record.seed

    def build(self, width: float = 1.0, depth: float = 1.0) -> torch.nn.Module:
        """The network of this configuration, newly initialised."""
        return self._space.build(self.params, width=width, depth=depth)

    def count(self) -> Count:
        """Exact parameters and MACs of its network at full width and depth (see ``Space.count``)."""
        return self._space.count(self.params)

    def load_model(self) -> torch.nn.Module:
        """The trained network of this trial, from its newest checkpoint (see :func:`load_model`)."""
        return load_model(self._space, self.params, self._folder)


def load_model(space: Space, params: Mapping[str, Any], folder: Path) -> torch.nn.Module:
    """Build the network of ``params`` and load the newest trained weights found in a trial's folder.

    The checkpoint must hold the network's state under ``"model"``, as ``bonas.train_on`` saves it.

    Raises:
        ValueError: if nothing was saved, or not under that name.
    """
    from fidelity import checkpoints

    curves = sorted(folder.glob("curve-*"), reverse=True) if folder.is_dir() else []
    path = next((p for p in map(checkpoints.newest, curves) if p is not None), None)
    if path is None:
        raise ValueError(
            f"{folder}: has no checkpoint: none was saved with trial.save_checkpoint(...), or it was dropped "
            "where Artifacts(max_bytes=...) had no room for all. Train again: study.retrain(objective), "
            "bonas best STUDY --retrain."
        )
    state, meta = checkpoints.read(path)
    if not isinstance(state, dict) or "model" not in state:
        raise ValueError(
            f"{folder.name}: its checkpoint has no 'model'. "
            'Save trial.save_checkpoint({"model": model.state_dict(), ...}).'
        )
    fidelity = Fidelity.from_dict(meta["fidelity"])
    model = space.build(dict(params), width=fidelity.width, depth=fidelity.depth)
    model.load_state_dict(state["model"])
    model.eval()
    return model
