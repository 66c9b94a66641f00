"""Explanations: a true sentence for every decision, whichever scheduler decided."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace

import bonas
from bonas import TrialState, fidelity, samplers, spaces
from fidelity.schedulers import REGISTRY, Done, Resume, Start, Stop

NINE = fidelity.Axes(epochs=(1, 9))


def study(**settings: Any) -> bonas.Study:
    space = spaces.Space(ConfigurationSpace({"x": (0.0, 1.0)}))
    defaults = {
        "space": space,
        "axes": NINE,
        "sampler": samplers.RandomSampler(),
        "scheduler": fidelity.SuccessiveHalving(),
    }
    return bonas.create_study(**(defaults | settings))


def objective(trial: bonas.Trial) -> None:
    trial.load_checkpoint()
    for epoch in trial.epochs():
        trial.report(trial.params["x"], epoch)
        trial.save_checkpoint({})


def searched(*values: float, **settings: Any) -> bonas.Study:
    """A study of given configurations, whose values they are."""
    s = study(**settings)
    for x in values:
        s.enqueue_trial({"x": x})
    s.optimize(objective, n_trials=len(values))
    return s


@pytest.mark.parametrize("scheduler", sorted(REGISTRY))
def test_every_decision_of_every_scheduler_is_a_sentence(scheduler: str) -> None:
    s = study(scheduler=REGISTRY[scheduler]())
    s.optimize(objective, n_trials=12)
    for trial in s.trials:
        told = s.explain(trial)
        assert told.trial == trial.number
        assert told.decisions == tuple(s.decisions(trial))
        n = len(told.decisions)
        assert n <= len(told.sentences) <= n + 1
        assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in told.sentences)
        assert told.sentences[0].startswith("Started at")
        assert sum(sentence.startswith("Resumed to") for sentence in told.sentences) == sum(
            d["action"] == "resume" for d in told.decisions
        )
        assert "nan" not in repr(told)
        assert "None" not in repr(told)


def test_the_way_of_the_winner_of_a_bracket() -> None:
    s = searched(*(0.5, 0.4, 0.1, 0.8, 0.7, 0.6, 0.3, 0.2, 0.9), scheduler=fidelity.SuccessiveHalving())
    assert repr(s.explain(2)).splitlines() == [
        "Trial 2, COMPLETE: value 0.1 at 9 epochs",
        "  Started at 1 epoch (the lowest of 3 rungs), one of 9 in bracket 1. "
        "Its configuration was put in line by hand.",
        "  Resumed to 3 epochs (rung 2 of 3): the best of the 9 that waited on the rung below; "
        "3 may go on in all.",
        "  Resumed to 9 epochs (rung 3 of 3): the best of the 3 that waited on the rung below; "
        "1 may go on in all.",
        "  Evaluated in full: value 0.1, the only one evaluated there.",
    ]
    assert (
        s.explain(8)
        .sentences[-1]
        .startswith(
            "Paused at 1 epoch (the lowest of 3 rungs): value 0.9, 9th of the 9 evaluated there, "
            "of which 3 went on. By its learning curve it is believed to end at value 0.9"
        )
    )
    assert "<li>Started at 1 epoch" in s.explain(s.trials[8])._repr_html_()


def test_higher_brackets_and_left_out_rungs_are_told() -> None:
    s = study(scheduler=fidelity.Hyperband())
    s.optimize(objective, n_trials=14)
    assert "3 epochs (rung 2 of 3), one of 5 in bracket 2, which begins at that rung" in repr(s.explain(10))
    dropped = {"rung": 0, "tau": 0.04, "tau_of_parameters": 0.3, "n": 40, "why": "it ranks badly"}
    figures = {"bracket": 1, "size": 3, "dropped": [dropped]}
    s = study(scheduler=Once(Start(NINE.full, figures=figures)))
    s.optimize(objective)
    assert (
        "Rung 1 is left out because it ranks badly: Kendall's tau 0.04 against 0.30, 40 trials."
        in s.explain(0).sentences[0]
    )


class Once:
    """Starts one trial, then does with it what is said."""

    def __init__(self, start: Start, then: Any = None) -> None:
        self.start, self.then = start, then

    def decide(self, view: Any, rng: np.random.Generator) -> Any:
        if not view.trials:
            return self.start
        paused = view.trials[0].state == TrialState.PAUSED
        return self.then(view.trials[0]) if paused and self.then else Done()


def test_the_words_that_schedulers_of_ones_own_may_use() -> None:
    end = {"mean": 0.25, "low": 0.1, "high": 0.4}
    start = Start(NINE.lowest, figures={"why": "the lowest rung ranks well", "end": end})
    told = {"rank": 2, "among": 11, "chance": 0.123456}
    s = study(scheduler=Once(start, lambda trial: Resume(trial, NINE.full, told)))
    s.optimize(objective)
    first, second, _ = s.explain(0).sentences
    assert first.startswith("Started at 1 epoch, because the lowest rung ranks well.")
    assert first.endswith("It was believed to end at value 0.25 (90 % interval: 0.1 to 0.4).")
    assert second == "Resumed to 9 epochs: 2nd of 11 (chance 0.1235)."
    s = study(scheduler=Once(start, lambda trial: Stop(trial, "it cannot win", {"chance": 0.01})))
    s.optimize(objective)
    assert s.explain(0).sentences[-1] == "Stopped for good at 1 epoch: it cannot win."
    assert s.explain(0).decisions[-1]["figures"]["chance"] == 0.01


def test_skipped_rungs_are_told() -> None:
    hedge = [{"rung": 0, "share": 0.8, "correlation": 0.12, "n": 21.0}]
    s = study(scheduler=Once(Start(NINE.full, figures={"rung": 2, "of": 3, "hedge": hedge})))
    s.optimize(objective)
    said = "It skips rung 1, as 80 % of new trials do, because its values correlate with later ones by 0.12"
    assert said in s.explain(0).sentences[0]


def test_where_a_paused_trial_would_end_follows_its_curve() -> None:
    def falling(trial: bonas.Trial) -> None:
        trial.load_checkpoint()
        for epoch in trial.epochs():
            trial.report(trial.params["x"] + 1 / epoch, epoch)
            trial.save_checkpoint({})

    s = study()
    s.optimize(falling, n_trials=18)
    paused = next(t for t in s.trials if t.state == TrialState.PAUSED and t.fidelity.epochs == 3)
    found = re.search(
        r"end at value (\S+) \(90 % interval: (\S+) to (\S+)\)", s.explain(paused).sentences[-1]
    )
    assert found is not None
    middle, low, high = map(float, found.groups())
    assert low < middle < high
    assert paused.params["x"] - 0.1 < middle < paused.value - 0.1


def test_a_stopped_trial_says_why() -> None:
    values = (0.5, 0.4, 0.3, 0.2, 0.1, 0.9)
    s = searched(*values, scheduler=fidelity.MedianStopping(eta=3, grace=0.3))
    said = s.explain(5).sentences[-1]
    assert said.startswith(
        "Stopped for good at 3 epochs (the lowest of 2 rungs): by epoch 3 its best was worse"
    )
    assert (
        "than the median of 5 others' averages, value 0.9 against 0.3. By its learning curve it was" in said
    )
    assert "because fewer than 5 others got there" in s.explain(1).sentences[1]


def test_other_ends_and_beginnings() -> None:
    def failing(trial: bonas.Trial) -> None:
        raise TimeoutError("too slow")

    s = study()
    s.optimize(failing, n_trials=1)
    assert "Its configuration is the space's default configuration." in s.explain(0).sentences[0]
    assert s.explain(0).sentences[-1].startswith("It failed: TimeoutError")
    handle = s.ask()
    assert handle is None  # the limit of the call before still holds
    s.limit(2, None)
    handle = s.ask()
    assert handle is not None
    assert s.explain(handle.number).sentences[-1] == "It is being trained to 1 epoch (the lowest of 3 rungs)."
    s.add_trial(searched(0.5).trials[0])
    assert s.explain(2).sentences[0] == "It was added from elsewhere: nothing was decided about it here."


def test_what_a_model_believed_is_of_then_and_not_of_now() -> None:
    s = study(sampler=samplers.ForestSampler(n_initial=5), axes=None)
    s.optimize(objective, n_trials=12)
    before = s.explain(11).sentences[0]
    assert "its model, from the 11 values seen by then, expected" in before
    assert "ForestSampler" in s.explain(2).sentences[0]
    assert "its model" not in s.explain(2).sentences[0]  # drawn before there was one
    s.optimize(objective, n_trials=16)
    assert s.explain(11).sentences[0] == before


def test_several_metrics() -> None:
    s = study(directions=["maximize", "minimize"], metric_names=["accuracy", "size"])

    def both(trial: bonas.Trial) -> None:
        for epoch in trial.epochs():
            trial.report({"accuracy": trial.params["x"], "size": 2.0}, epoch)

    s.optimize(both, n_trials=9)
    assert "accuracy" in s.explain(0).heading
    assert "size 2" in s.explain(0).sentences[-1]


@pytest.mark.parametrize("wrong", [99, -1, "x", True, None])
def test_a_trial_that_is_not_there(wrong: Any) -> None:
    with pytest.raises(ValueError, match="this study has trials 0 to 0"):
        searched(0.5).explain(wrong)
    with pytest.raises(ValueError, match="no trials yet"):
        study().explain(wrong)


class Counting(samplers.ForestSampler):
    """Counts the models that explanations are made from."""

    fits = 0

    def posterior(self, *arguments: Any) -> Any:
        self.fits += 1
        return super().posterior(*arguments)


def test_explaining_every_trial_fits_few_models_and_says_the_same_as_one_alone(tmp_path: Path) -> None:
    sampler = Counting(n_initial=5)
    s = study(sampler=sampler, axes=None, storage=tmp_path)
    s.optimize(objective, n_trials=60)
    told = [repr(s.explain(trial)) for trial in s.trials]
    assert 15 < sampler.fits < 30
    assert "from the first " in told[59]
    assert told == [repr(s.explain(trial)) for trial in s.trials]
    assert sampler.fits < 30
    for number in (7, 33, 59):
        alone = bonas.load_study(storage=tmp_path, sampler=Counting(n_initial=5))
        assert repr(alone.explain(number)) == told[number]
    s.optimize(objective, n_trials=70)
    assert [s.explain(n).sentences[0] for n in range(60)] == [text.split("\n")[1].strip() for text in told]


def test_what_failed_later_does_not_change_what_was_believed_before() -> None:
    def failing(trial: bonas.Trial) -> None:
        objective(trial)
        if trial.fidelity.epochs > 1:
            raise TimeoutError("too slow")

    s = study(sampler=samplers.ForestSampler(n_initial=5), scheduler=fidelity.ASHA(hedge=False))
    told, started = {}, 0
    while not started or s.trials[-1].number < 24:
        s.limit(25, None)
        trial = s.ask()
        assert trial is not None
        try:
            failing(trial)
        except TimeoutError as error:
            s.tell(trial, error=error)
        else:
            s.tell(trial)
        started = len(s.trials)
        told.setdefault(started - 1, s.explain(started - 1).sentences[0])
    assert TrialState.FAIL in [t.state for t in s.trials]
    assert sum("its model" in sentence for sentence in told.values()) > 15
    assert {n: s.explain(n).sentences[0] for n in told} == told


@pytest.mark.parametrize(("scale", "clipped"), [(1.0, True), (100.0, False)])
def test_an_accuracy_is_not_believed_to_pass_one(scale: float, clipped: bool) -> None:
    axes = fidelity.Axes(epochs=(1, 27))
    s = study(
        axes=axes, direction="maximize", metric_names=["accuracy"], scheduler=fidelity.ASHA(hedge=False)
    )

    def nearly_perfect(trial: bonas.Trial) -> None:
        trial.load_checkpoint()
        for epoch in trial.epochs():
            noise = 0.05 * np.random.default_rng([trial.seed, epoch]).random()
            trial.report(scale * (1 - (0.3 / epoch if trial.number % 2 else 0.1 / epoch) * noise * 20), epoch)
            trial.save_checkpoint({})

    s.optimize(nearly_perfect, n_trials=40)
    told = " ".join(repr(s.explain(trial)) for trial in s.trials)
    highs = [float(high) for high in re.findall(r"accuracy \S+ \(90 % interval: \S+ to ([\d.]+)\)", told)]
    assert len(highs) > 20
    assert (max(highs) <= 1.0) is clipped
