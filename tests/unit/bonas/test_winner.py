"""The winner of a search: what its retraining took."""

from __future__ import annotations

import time

import bonas
from bonas import spaces
from bonas.cli import winner


class Slow:
    """An objective whose training takes a while."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, trial: bonas.Trial) -> None:
        self.calls += 1
        time.sleep(0.2)
        for epoch in trial.epochs():
            trial.report(0.5, epoch)
            trial.save_checkpoint({"model": trial.build().state_dict()})


def test_a_retrain_done_before_still_counts_what_it_took() -> None:
    slow = Slow()
    study = bonas.create_study(space=spaces.chain((1, 8, 8), 10))
    study.optimize(slow, n_trials=1)
    first = winner.retrain(study, slow, study.best_trial)  # type: ignore[arg-type]
    calls = slow.calls
    again = winner.retrain(study, slow, study.best_trial)  # type: ignore[arg-type]
    assert slow.calls == calls
    assert again.seconds == first.seconds >= 0.2
