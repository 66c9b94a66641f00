"""The winner of a search: retrained, set beside a hand-written network, exported; knows no searching."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bonas.export import Exported
    from bonas.frozen import FrozenTrial
    from bonas.study import Study
    from fidelity.training import TrainOn


# A search compares short trainings; the one network that is kept can have a longer one.
LONGER = 3


@dataclass(frozen=True, slots=True)
class Winner:
    """The trial to trust, retrained or as the search left it."""

    trial: FrozenTrial
    retrained: bool
    seconds: float = 0.0
    """What retraining took."""

    @property
    def test(self) -> dict[str, float]:
        """The metrics of the test data, which only a retrain touches; empty without one."""
        if not self.retrained:
            return {}
        return {n.removeprefix("test_"): v for n, v in self.trial.user_attrs.items() if n.startswith("test_")}


def find(study: Study, number: int | None = None) -> Winner:
    """The recommended trial, with several objectives that at the knee of the front, or the one numbered.

    Its weights are those that the search left.

    Raises:
        ValueError: if no trial has a value, or the one numbered has none.
    """
    if number is not None:
        return Winner(_numbered(study, number), retrained=False)
    prefer = None if len(study.metric_names) == 1 else "knee"
    with warnings.catch_warnings():
        # That nothing is complete yet is said in print: the fidelity of the winner stands beside it.
        warnings.simplefilter("ignore", UserWarning)
        return Winner(study.recommend(prefer=prefer), retrained=False)


def _numbered(study: Study, number: int) -> FrozenTrial:
    trials = study.trials
    if number >= len(trials):
        raise ValueError(f"--trial {number}: the study has {len(trials)} trials, counted from 0.")
    trial = trials[number]
    if not trial.values or trial.state in ("FAIL", "INFEASIBLE"):
        why = f", {trial.reason}" if trial.reason else ""
        raise ValueError(
            f"--trial {number}: is {trial.state.value}{why}. Name one that `bonas show` lists with a value."
        )
    return trial


def retrain(study: Study, objective: TrainOn, trial: FrozenTrial, epochs: int | None = None) -> Winner:
    """The trial trained from scratch on train and validation data, and tested once.

    Args:
        study: the search it comes from.
        objective: what to train with.
        trial: the winner.
        epochs: None trains ``LONGER`` times as long as a full evaluation.
    """
    epochs = epochs or LONGER * study.axes.full.epochs
    print(f"Retraining trial {trial.number} on train and validation data for {epochs} epochs", flush=True)
    clock = time.monotonic()
    again = study.retrain(objective, trial, epochs)
    # A retrain that was done before is not done again; what it took then is what it costs.
    name = f"retrain_seconds/{trial.number}/{epochs}"
    seconds = max(time.monotonic() - clock, float(study.attrs.get(name, 0.0)))
    study.set_attr(name, seconds)
    return Winner(again, retrained=True, seconds=seconds)


def export(study: Study, winner: Winner, objective: TrainOn, folder: str) -> Exported:
    """Write the winner so that it can be used with torch alone (see :mod:`bonas.export`)."""
    import bonas
    from bonas.export import export as write
    from bonas.leaderboard import last_observation
    from fidelity.tasks import Regression

    trial, data = winner.trial, objective.data
    last = last_observation(trial)
    assert last is not None  # a winner has a value
    at = last.fidelity
    count = study.space.count(trial.params)
    normalisation = {"mean": objective.mean, "std": objective.std}
    configuration = {
        "bonas": bonas.__version__,
        "study": study.study_name,
        "trial": trial.number,
        "params": trial.params,
        "width": at.width,
        "depth": at.depth,
        "parameters": count.parameters,
        "macs": count.macs,
        "data": {"name": data.name, "split_seed": data.seed, "resolution": at.resolution},
        "normalisation": normalisation,
        "trained_on": "train and val" if winner.retrained else "train",
        "epochs": last.epoch,
        "test_accuracy": winner.test.get("accuracy"),
        "test": winner.test or None,
        "validation": None if winner.retrained else dict(last.values),
    }
    preparation: dict[str, Any] = normalisation | {
        "input_shape": data.input_shape,
        "classes": data.class_names,
    }
    if isinstance(objective.task, Regression):
        preparation["labels"] = {"mean": objective.task.mean, "std": objective.task.std}
    source = study.space.source(trial.params, width=at.width, depth=at.depth)
    return write(folder, source, trial.load_model().state_dict(), configuration, preparation)


def score(test: Mapping[str, float], searched: Sequence[str]) -> tuple[str, str]:
    """What the test data say of a network in one figure: its name, and the figure as one reads it.

    Args:
        test: every metric of the test data.
        searched: the metrics of the search; the first that the test data can tell, else accuracy or R².
    """
    name = next((n for n in (*searched, "accuracy") if n in test), "r2")
    if name in ("accuracy", "balanced_accuracy", "error"):
        return name.replace("_", " "), f"{100 * test[name]:.2f} %"
    if name == "r2":
        return "R²", f"{test[name]:.4f}"
    return name, f"{test[name]:.4g}"


def comparison(rows: list[tuple[str, Mapping[str, float], int, str]], searched: Sequence[str]) -> list[str]:
    """Test figures side by side: name, figure, parameters and how it was trained, one line each."""
    width = max(len(name) for name, *_ in rows)
    heading = "test " + score(rows[0][1], searched)[0]
    lines = [f"{'':{width}}  {heading:>13}  parameters"]
    for name, test, parameters, how in rows:
        lines.append(
            f"{name:{width}}  {score(test, searched)[1]:>{max(13, len(heading))}}  {parameters:10,}  {how}"
        )
    return lines


def said(exported: Exported) -> str:
    """Where an export lies."""
    names = ", ".join(p.name for p in (exported.source, exported.weights, exported.configuration))
    return f"{exported.folder} ({names})"


def parameters(study: Study, trial: Any) -> int:
    """How many parameters the trial's network has."""
    return int(study.space.count(trial.params).parameters)
