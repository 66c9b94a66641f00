"""Pictures of studies: what they show, and what they leave alone."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from typing import Any

import pytest
from matplotlib.figure import Figure

import bonas
from bonas import fidelity, plots, spaces
from bonas.samplers import RandomSampler


def study(direction: str = "maximize", metric: str = "accuracy", budget: float | None = 4.0) -> bonas.Study:
    made = bonas.create_study(
        space=spaces.chain(input_shape=(1, 8, 8), n_classes=10),
        axes=fidelity.Axes(epochs=(1, 9)),
        direction=direction,
        metric_names=[metric],
        sampler=RandomSampler(),
        scheduler=fidelity.SuccessiveHalving(),
    )

    def objective(trial: bonas.Trial) -> None:
        trial.load_checkpoint()
        quality = 0.9 + 0.09 * (trial.seed % 97) / 97
        for epoch in trial.epochs():
            trial.report(quality * (1 - math.exp(-epoch)), epoch)
            trial.save_checkpoint({})

    if budget is not None:
        made.optimize(objective, budget=budget)
    return made


@pytest.fixture(scope="module")
def searched() -> bonas.Study:
    return study()


def texts(figure: Any) -> str:
    return " | ".join(
        text.get_text()
        for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))
        if text.get_text()
    )


def points(axes: Any, label: str) -> list[list[float]]:
    [collection] = [c for c in axes.collections if c.get_label() == label]
    return [list(map(float, row)) for row in collection.get_offsets()]


def test_history_shows_every_segment_at_the_cost_it_ended(searched: bonas.Study) -> None:
    [axes] = plots.plot_optimization_history(searched).axes
    partial, full = points(axes, "partly trained"), points(axes, "full fidelity")
    decided = [d for t in searched.trials for d in searched.decisions(t.number)]
    assert len(partial) + len(full) == len(decided)
    assert max(x for x, _ in partial + full) == pytest.approx(searched.spent)
    costs = sorted(x for x, _ in partial + full)
    assert all(b > a for a, b in itertools.pairwise(costs))


def test_what_was_added_from_elsewhere_moves_no_point(searched: bonas.Study) -> None:
    more = study()
    more.add_trial(searched.best_trial)
    [axes] = plots.plot_optimization_history(more).axes
    [before] = plots.plot_optimization_history(searched).axes
    added = [0.0, searched.best_value]
    assert points(axes, "full fidelity") == [pytest.approx(added), *points(before, "full fidelity")]
    assert points(axes, "full fidelity")[-1][0] <= axes.get_xlim()[1]


def test_history_ends_at_the_best_value(searched: bonas.Study) -> None:
    [axes] = plots.plot_optimization_history(searched).axes
    [best] = [line for line in axes.lines if line.get_label() == "best at full fidelity"]
    assert list(best.get_ydata())[-1] == pytest.approx(searched.best_value)


def test_the_hand_written_default_becomes_a_level_only_when_fully_evaluated(searched: bonas.Study) -> None:
    def levels(drawn: bonas.Study) -> list[Any]:
        [axes] = plots.plot_optimization_history(drawn).axes
        return [line for line in axes.lines if line.get_linestyle() == "--"]

    full = bonas.create_study(space=searched.space, direction="maximize", metric_names=["accuracy"])
    full.optimize(lambda trial: 0.5, n_trials=2)
    assert len(levels(full)) == 1
    assert full.trials[0].state == "COMPLETE"
    first = study(budget=1 / 9)
    assert first.trials[0].state == "PAUSED"
    assert levels(first) == []


def test_curves_are_those_observed_and_the_best_one_is_named(searched: bonas.Study) -> None:
    figure = plots.plot_learning_curves(searched)
    [axes] = figure.axes
    assert len(axes.lines) == sum(len(t.curves) for t in searched.trials)
    best = searched.best_trial
    [line] = [line for line in axes.lines if line.get_label() == f"best (trial {best.number})"]
    assert list(line.get_xdata()) == list(best.intermediate_values)
    assert list(line.get_ydata()) == list(best.intermediate_values.values())


@pytest.mark.parametrize("plot", [plots.plot_optimization_history, plots.plot_learning_curves])
def test_axes_say_what_they_measure(plot: Any, searched: bonas.Study) -> None:
    [axes] = plot(searched).axes
    assert axes.get_title(loc="left")
    assert "full evaluations" in axes.get_xlabel() or "epochs" in axes.get_xlabel()
    assert "accuracy" in axes.get_ylabel()


def test_both_fit_into_one_picture(searched: bonas.Study) -> None:
    figure = plots.plot_study(searched)
    assert isinstance(figure, Figure)
    assert "Optimization history" in texts(figure)
    assert "Learning curves" in texts(figure)


@pytest.mark.parametrize("plot", [plots.plot_optimization_history, plots.plot_learning_curves])
def test_studies_of_any_size_and_direction_can_be_drawn(plot: Any) -> None:
    assert "nothing observed yet" in texts(plot(study(budget=None)))
    falling = study("minimize", "loss", budget=1 / 9)
    figure = plot(falling)
    png, _ = figure._repr_png_()
    assert png.startswith(b"\x89PNG")
    assert "validation loss" in texts(figure)


def test_the_y_axis_of_an_accuracy_keeps_order_and_holds_a_perfect_one() -> None:
    perfect = study(budget=None)
    for value in (0.1, 0.5, 1.0):
        trial = perfect.ask()
        assert trial is not None
        perfect.tell(trial, value)
    [axes] = plots.plot_optimization_history(perfect).axes
    _, heights = zip(*axes.transData.transform([(0, 0.1), (0, 0.5), (0, 1.0)]), strict=True)
    bottom, top = (axes.transAxes.transform((0, y))[1] for y in (0, 1))
    assert bottom < heights[0] < heights[1] < heights[2] < top


def test_an_unknown_metric_is_named(searched: bonas.Study) -> None:
    with pytest.raises(ValueError, match=r"acuracy.*accuracy"):
        plots.plot_learning_curves(searched, "acuracy")


def test_a_figure_shows_itself_in_a_notebook(searched: bonas.Study) -> None:
    from IPython.core.formatters import DisplayFormatter

    data, _ = DisplayFormatter().format(plots.plot_learning_curves(searched))
    assert data["image/png"]


def test_pyplot_and_its_backend_are_left_alone() -> None:
    code = (
        "import sys, bonas; from bonas import fidelity, plots, spaces; "
        "s = bonas.create_study(space=spaces.chain(input_shape=(1, 8, 8), n_classes=2)); "
        "plots.plot_study(s); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_the_schedule_shows_every_segment_and_who_was_resumed(searched: bonas.Study) -> None:
    [axes] = plots.plot_schedule(searched).axes
    lines = [line for line in axes.lines if len(line.get_xdata())]
    assert len(lines) == len(searched.trials)
    drawn = sorted(point for line in lines for point in zip(*line.get_data(), strict=True))
    decided = [d for t in searched.trials for d in searched.decisions(t)]
    assert len(drawn) == len(decided)
    assert drawn[-1][0] == pytest.approx(searched.spent)
    rungs = searched.scheduler.rungs(searched.axes)
    assert {round(y, 6) for _, y in drawn} == {round(searched.axes.nominal_cost(r), 6) for r in rungs}
    resumed = sum(d["action"] == "resume" for d in decided)
    said = texts(axes.figure)
    assert f"{len(searched.trials)} trials, resumed {resumed} times" in said
    assert "best (trial" in said
    named = list(axes.yaxis.get_major_formatter().seq)
    assert (named[0], named[-1], len(named)) == ("1 epoch", "9 epochs", len(rungs))


def test_the_schedule_marks_what_was_stopped_and_says_when_there_is_nothing() -> None:
    assert "nothing observed yet" in texts(plots.plot_schedule(study(budget=None)))
    stopping = bonas.create_study(
        space=spaces.chain(input_shape=(1, 8, 8), n_classes=10),
        axes=fidelity.Axes(epochs=(1, 9)),
        scheduler=fidelity.MedianStopping(n_startup=1),
        sampler=RandomSampler(),
    )
    stopping.optimize(lambda trial: float(trial.number), n_trials=4)
    [axes] = plots.plot_schedule(stopping).axes
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert len(crosses) == sum(t.state == "PRUNED" for t in stopping.trials) > 0
