"""Ranking, leaderboard, progress and HTML on studies of records; trains nothing."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import pytest
from rich.console import Console

from bonas import leaderboard, report
from fidelity.axes import Axes
from fidelity.records import Curve, Fidelity, Observation, TrialRecord, TrialState

AXES = Axes(epochs=(1, 9))


def record(
    number: int, values: list[float], state: TrialState = TrialState.PAUSED, **changes: Any
) -> TrialRecord:
    at = AXES.fidelity({"epochs": max(1, len(values))})
    observations = tuple(
        Observation(e, {"accuracy": v}, AXES.epoch_cost(at), at) for e, v in enumerate(values, start=1)
    )
    params = {"optimizer": "sgd", "lr": 0.0123, "batch_size": 64}
    curves = (Curve(observations),) if observations else ()
    return TrialRecord(number, params, str(number), state, at, curves=curves, **changes)


@dataclass(frozen=True)
class Shown:
    """The part of a study that pictures and tables read."""

    trials: tuple[TrialRecord, ...] = ()
    directions: tuple[str, ...] = ("maximize",)
    metric_names: tuple[str, ...] = ("accuracy",)
    study_name: str = "digits"
    axes: Axes = AXES
    space: Any = None

    @property
    def spent(self) -> float:
        return sum(t.cost for t in self.trials)


STUDY = Shown(
    (
        record(0, [0.5, 0.9]),
        record(1, [0.4] * 8 + [0.8], TrialState.COMPLETE),
        record(2, [0.7]),
        record(3, [], TrialState.FAIL, reason="ValueError: <no> luck"),
        record(4, [0.3] * 8 + [0.85], TrialState.COMPLETE),
        record(5, [0.5, 0.95]),
    )
)


def test_full_evaluations_outrank_partial_ones_and_better_values_worse_ones() -> None:
    assert [t.number for t in leaderboard.ranking(STUDY)] == [4, 1, 5, 0, 2]


def test_smaller_is_better_when_minimizing() -> None:
    minimizing = Shown(STUDY.trials, directions=("minimize",))
    assert [t.number for t in leaderboard.ranking(minimizing)] == [1, 4, 0, 5, 2]


def test_a_trial_that_reported_nothing_is_not_ranked_but_counted() -> None:
    assert 3 not in [t.number for t in leaderboard.ranking(STUDY)]
    assert leaderboard.states(STUDY) == "6 trials: 3 paused, 2 complete, 1 failed"


def test_rows_stand_under_their_headings() -> None:
    first = dict(zip(leaderboard.columns(STUDY)[1:], leaderboard.rows(STUDY)[0][1:], strict=True))
    assert first["trial"] == "4"
    assert first["accuracy"] == "0.8500"
    assert first["at"] == "9 epochs"
    assert first["state"] == "complete"
    assert first["cost"] == "1.00"
    assert "lr 0.0123" in first["trained with"]


def test_the_table_fits_a_narrow_terminal() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(leaderboard.table(STUDY))
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert "0.8500" in out.getvalue()


@pytest.mark.parametrize(
    ("axes", "fidelity", "words"),
    [
        (Axes(), Fidelity(), "full"),
        (Axes(epochs=(1, 9)), Fidelity(epochs=1), "1 epoch"),
        (
            Axes(epochs=(1, 9), subset=(0.1, 1.0), resolution=(14, 28), width=(0.25, 1.0)),
            Fidelity(epochs=3, subset=0.3, resolution=14, width=0.5),
            "3 epochs, 30 % of the data, 14 px, width 0.5",
        ),
    ],
)
def test_fidelities_in_words(axes: Axes, fidelity: Fidelity, words: str) -> None:
    assert leaderboard.describe_fidelity(axes, fidelity) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(7.24, "7.2 s"), (59.96, "1:00"), (185, "3:05"), (7385, "2:03:05")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert leaderboard.format_seconds(seconds) == words


def test_a_pipe_gets_one_plain_line_a_segment() -> None:
    out = io.StringIO()
    with leaderboard.Leaderboard(STUDY, budget=20, file=out) as board:
        board(STUDY, STUDY.trials[4])
        board(STUDY, STUDY.trials[3])
    first, second = out.getvalue().splitlines()
    assert "trial 4" in first
    assert "accuracy 0.8500 at 9 epochs" in first
    assert "of 20" in first
    assert "ValueError: <no> luck" in second
    assert "\x1b" not in out.getvalue()


def test_trials_beyond_a_smaller_limit_are_only_counted() -> None:
    out = io.StringIO()
    with leaderboard.Leaderboard(STUDY, n_trials=1, file=out) as board:
        board(STUDY, STUDY.trials[4])
    line = out.getvalue().strip()
    assert "of 1 trials" not in line
    assert line.endswith(" trials")


def test_html_escapes_what_came_from_outside() -> None:
    evil = Shown(STUDY.trials, study_name="<script>alert(1)</script>")
    assert "<script>" not in report.study_html(evil)
    assert "&lt;no&gt; luck" in report.trial_html(STUDY.trials[3])
    assert "<script>" not in report.page(evil, {})


def test_html_says_what_is_best() -> None:
    assert "best accuracy 0.8500 (trial 4, 9 epochs)" in report.study_html(STUDY)
    assert "accuracy 0.8500 after 9 epochs" in report.trial_html(STUDY.trials[4])


def test_an_empty_study_can_be_shown() -> None:
    empty = Shown()
    assert leaderboard.summary(empty) == [
        "digits: maximize accuracy",
        "0 trials",
        "spent 0.00 full evaluations",
    ]
    assert "0 trials" in report.page(empty, {})
    assert leaderboard.rows(empty) == []


def test_several_objectives_are_all_shown() -> None:
    at = AXES.full
    trials = tuple(
        TrialRecord(
            i,
            {},
            str(i),
            TrialState.COMPLETE,
            at,
            curves=(Curve((Observation(9, {"accuracy": a, "macs": m}, 1.0, at),)),),
        )
        for i, (a, m) in enumerate([(0.5, 2e6), (0.9, 1e6), (0.4, 3e6)])
    )
    both = Shown(trials, ("maximize", "minimize"), ("accuracy", "macs"))
    assert [t.number for t in leaderboard.ranking(both)] == [1, 0, 2]
    assert leaderboard.rows(both)[0][2:4] == ["0.9000", "1,000,000"]
    assert leaderboard.columns(both)[0] == "front"


def several(*values: tuple[float, float], partial: tuple[tuple[float, float], ...] = ()) -> Shown:
    """Complete trials with these accuracies and parameters, and paused ones after an epoch."""
    trials = []
    for i, (accuracy, parameters) in enumerate((*values, *partial)):
        at = AXES.full if i < len(values) else AXES.lowest
        seen = Observation(at.epochs, {"accuracy": accuracy, "parameters": parameters}, 1.0, at)
        state = TrialState.COMPLETE if i < len(values) else TrialState.PAUSED
        trials.append(TrialRecord(i, {}, str(i), state, at, curves=(Curve((seen,)),)))
    return Shown(tuple(trials), ("maximize", "minimize"), ("accuracy", "parameters"))


FOUR = several((0.5, 100.0), (0.8, 300.0), (0.95, 9000.0), (0.7, 400.0), partial=((0.99, 50.0),))


def test_the_front_stands_first_and_fronts_are_numbered_at_the_highest_fidelity_only() -> None:
    assert [t.number for t in leaderboard.front(FOUR)] == [2, 1, 0]
    assert [t.number for t in leaderboard.ranking(FOUR)] == [2, 1, 0, 3, 4]
    assert [row[0] for row in leaderboard.rows(FOUR)] == ["1", "1", "1", "2", ""]
    assert [row[1] for row in leaderboard.rows(FOUR, top=1)] == ["2", "1", "0"]  # the whole front


def test_an_objective_has_one_column_and_the_line_names_the_ends_of_the_front() -> None:
    assert leaderboard.columns(FOUR).count("parameters") == 1
    assert all(len(row) == len(leaderboard.columns(FOUR)) for row in leaderboard.rows(FOUR))
    line = "front of 3 trials at 9 epochs: best accuracy 0.9500, best parameters 100"
    assert leaderboard.summary(FOUR)[-1] == line
    assert line in report.study_html(FOUR)


def test_the_trial_to_show_is_the_best_or_the_knee() -> None:
    best, balance = leaderboard.leader(STUDY), leaderboard.leader(FOUR)
    assert best is not None
    assert balance is not None
    assert (best.number, balance.number) == (4, 1)
    assert leaderboard.leader(Shown()) is None
    assert leaderboard.leading_line(Shown()) == ""
