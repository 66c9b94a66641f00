"""Pictures of several objectives: what they show, and what they say no to."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure

import bonas
from bonas import fidelity, pareto_plot, plots, spaces
from bonas.samplers import RandomSampler

# Accuracy and parameters: 0, 1 and 3 are the front, 1 its knee.
VALUES = [(0.5, 100.0), (0.8, 300.0), (0.7, 400.0), (0.95, 9000.0)]


def study(values: list[tuple[float, float]] | None = None, **changes: Any) -> bonas.Study:
    made = bonas.create_study(
        **{
            "space": spaces.chain(input_shape=(1, 8, 8), n_classes=10),
            "directions": ["maximize", "minimize"],
            "metric_names": ["accuracy", "parameters"],
            "sampler": RandomSampler(),
        }
        | changes
    )
    values = VALUES if values is None else values
    if values:
        made.optimize(
            lambda t: dict(zip(made.metric_names, values[t.number], strict=True)), n_trials=len(values)
        )
    return made


@pytest.fixture(scope="module")
def finished() -> bonas.Study:
    return study()


def points(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    """The dots of a picture by what the legend calls them."""
    return {
        str(dots.get_label()): [(float(x), float(y)) for x, y in dots.get_offsets()]
        for dots in figure.axes[0].collections
    }


def test_the_front_its_knee_and_the_default_stand_out(finished: bonas.Study) -> None:
    figure = plots.plot_pareto_front(finished)
    shown = points(figure)
    assert shown["Pareto front"] == [(9000.0, 0.95), (300.0, 0.8), (100.0, 0.5)]
    assert shown["full fidelity"] == [(400.0, 0.7)]
    assert shown["knee"] == [(300.0, 0.8)]
    assert shown["hand-written default (trial 0)"] == [(100.0, 0.5)]
    assert [text.get_text() for text in figure.axes[0].texts[1:]] == ["3", "1", "0"]
    assert figure.axes[0].get_xlabel() == "parameters"
    assert figure.axes[0].get_xscale() == "log"


def test_the_border_is_that_of_what_the_front_dominates(finished: bonas.Study) -> None:
    (steps,) = plots.plot_pareto_front(finished).axes[0].lines
    assert steps.get_drawstyle() == "steps-post"  # to the right is worse
    assert list(steps.get_xdata()) == [100.0, 300.0, 9000.0]
    (steps,) = plots.plot_pareto_front(finished, ["parameters", "accuracy"]).axes[0].lines
    assert steps.get_drawstyle() == "steps-pre"  # to the left is worse


def test_trials_below_full_fidelity_are_pale_and_not_on_the_front() -> None:
    made = study(VALUES[:3], axes=fidelity.Axes(epochs=(1, 3)), scheduler=fidelity.SuccessiveHalving())
    shown = points(plots.plot_pareto_front(made))
    assert len(shown["partly trained"]) == 2
    assert shown["Pareto front"] == [(300.0, 0.8)]


def test_of_three_objectives_two_are_drawn(finished: bonas.Study) -> None:
    rows: Any = [(*row, float(i)) for i, row in enumerate(VALUES)]
    made = study(
        rows, directions=["maximize", "minimize", "minimize"], metric_names=["accuracy", "parameters", "macs"]
    )
    figure = plots.plot_pareto_front(made, ["accuracy", "macs"])
    assert points(figure)["Pareto front"] == [(3.0, 0.95), (1.0, 0.8), (0.0, 0.5)]
    assert not figure.axes[0].lines  # its border is no line in two of three
    with pytest.raises(ValueError, match="two of"):
        plots.plot_pareto_front(made, ["accuracy", "latency"])


def test_an_empty_study_can_be_drawn() -> None:
    for figure in (plots.plot_pareto_front(study([])), plots.plot_hypervolume(study([]))):
        assert isinstance(figure, Figure)
        assert any("yet" in text.get_text() for text in figure.axes[0].texts)


def test_one_objective_has_no_front() -> None:
    one = study([], directions=["maximize"], metric_names=["accuracy"])
    for draw in (plots.plot_pareto_front, plots.plot_hypervolume):
        with pytest.raises(ValueError, match="several objectives"):
            draw(one)


def test_the_hypervolume_grows_with_the_cost(finished: bonas.Study) -> None:
    history = pareto_plot.hypervolume_history(finished)
    costs, shares = zip(*history, strict=True)
    assert costs == (1.0, 2.0, 3.0, 4.0)
    assert list(shares) == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1
    assert shares[2] == shares[1]  # what is dominated adds nothing
    (line,) = plots.plot_hypervolume(finished).axes[0].lines
    assert list(line.get_ydata())[-1] == shares[-1]


def test_the_reference_says_what_is_too_bad_to_count(finished: bonas.Study) -> None:
    # Of a box from (0.7, 1,000) to the best (0.95, 100) only trial 1 dominates something: 0.1 · 700.
    history = pareto_plot.hypervolume_history(finished, reference=[0.7, 1000.0])
    assert history[-1][1] == pytest.approx(0.1 * 700 / (0.25 * 900))
    assert pareto_plot.hypervolume_history(finished, reference=[0.99, 50.0])[-1][1] == 0.0
    with pytest.raises(ValueError, match="one value for each"):
        pareto_plot.hypervolume_history(finished, reference=[0.7])
