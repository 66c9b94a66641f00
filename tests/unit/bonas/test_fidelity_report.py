"""The fidelity report: what it says of rungs that rank, of rungs that mislead, and of few trials."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace

import bonas
from bonas import cli, fidelity, plots, spaces
from bonas.samplers import RandomSampler

AXES = fidelity.Axes(epochs=(1, 9), subset=(0.25, 1.0))


def size(params: Any) -> int:
    """Which tells something of a configuration's quality x, and something else."""
    return round(1e6 * (params["x"] + params["y"]))


def space() -> spaces.Space:
    return spaces.Space(
        ConfigurationSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)}),
        count=lambda params, prune: spaces.Count(size(params), 10 * size(params)),
    )


def searched(
    cheap: Any, budget: float | None = 12.0, counted: bool = True, clock: Any = None, **settings: Any
) -> bonas.Study:
    """A study whose quality is x, and whose value on the lowest rung is what ``cheap`` says."""
    own = ConfigurationSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)})
    study = bonas.create_study(
        **{
            "space": space() if counted else spaces.Space(own),
            "axes": AXES,
            "direction": "maximize",
            "metric_names": ["accuracy"],
            "sampler": RandomSampler(),
            "scheduler": fidelity.SuccessiveHalving(),
            **settings,
        }
    )

    def objective(trial: bonas.Trial) -> None:
        trial.load_checkpoint()
        for epoch in trial.epochs():
            if clock is not None:
                clock.now += 3.0
            value = cheap(trial.params) if trial.fidelity.subset < 0.4 else trial.params["x"]
            reported = {"accuracy": value} | ({"parameters": size(trial.params)} if counted else {})
            trial.report(reported, epoch)
            trial.save_checkpoint({})

    if budget is not None:
        study.optimize(objective, budget=budget)
    return study


@pytest.fixture(scope="module")
def good() -> bonas.Study:
    return searched(lambda params: params["x"])


@pytest.fixture(scope="module")
def bad() -> bonas.Study:
    return searched(lambda params: params["y"], budget=18.0)


class TestReport:
    def test_what_a_users_function_cannot_count_is_not_known(self) -> None:
        own = spaces.Space(
            ConfigurationSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)}),
            count=lambda params, prune: {}["no such network"],
        )
        study = searched(lambda params: params["x"], space=own, counted=False)
        assert all(math.isnan(r.next.parameters.tau) for r in study.fidelity_report().rungs if r.next)
        assert study.plan(budget=20.0).started > 0

    def test_one_row_for_each_rung_up_to_full(self, good: bonas.Study) -> None:
        report = good.fidelity_report()
        ladder = fidelity.SuccessiveHalving().rungs(AXES)
        assert [r.fidelity for r in report.rungs] == ladder
        assert [r.nominal for r in report.rungs] == pytest.approx([AXES.nominal_cost(r) for r in ladder])
        counts = [r.trials for r in report.rungs]
        assert counts[0] == len(good.trials)
        assert counts == sorted(counts, reverse=True)
        assert report.rungs[-1].next is report.rungs[-1].full is None

    def test_only_trials_seen_on_both_rungs_count(self, good: bonas.Study) -> None:
        report = good.fidelity_report()
        for rung, above in zip(report.rungs, report.rungs[1:], strict=False):
            assert rung.next is not None
            assert rung.full is not None
            assert rung.next.all.n == above.trials
            assert rung.full.all.n == report.rungs[-1].trials

    def test_a_rung_that_ranks_perfectly_says_so_and_nothing_is_warned(self, good: bonas.Study) -> None:
        report = good.fidelity_report()
        first = report.rungs[0]
        assert first.next is not None
        assert first.next.all.tau == 1
        assert first.next.best.tau == 1
        assert first.next.best.n == max(5, math.ceil(first.next.all.n / 10))
        assert report.warnings == ()
        assert "WARNING" not in repr(report)

    def test_a_rung_that_ranks_at_random_is_warned_of_and_left_out(self, bad: bonas.Study) -> None:
        report = bad.fidelity_report()
        assert report.rungs[0].comparison is not None
        assert report.rungs[0].comparison.size > report.rungs[0].comparison.tau
        [warning] = [w for w in report.warnings if report.names[0] in w]
        assert "no better" in warning
        assert "leave it out" in warning
        assert warning in repr(report)
        dropped = [t for t in bad.trials if "dropped" in t.record.figures]
        assert dropped
        [why] = [d for d in dropped[-1].record.figures["dropped"] if d["rung"] == 0]
        assert why["tau"] < why["tau_of_parameters"]
        assert dropped[-1].curves[0].observations[0].fidelity != report.rungs[0].fidelity

    def test_few_trials_are_said_to_be_too_few(self) -> None:
        report = searched(lambda params: params["y"], budget=3.0).fidelity_report()
        assert report.warnings == ()
        assert "are needed to judge it" in repr(report)

    def test_nothing_observed_yet(self) -> None:
        report = searched(None, budget=None).fidelity_report()
        assert [r.trials for r in report.rungs] == [0, 0, 0, 0]
        assert "are needed to judge it" in repr(report)

    def test_without_rungs_there_is_nothing_to_judge(self) -> None:
        study = searched(lambda params: params["x"], axes=None, budget=4.0)
        [only] = study.fidelity_report().rungs
        assert (only.trials, only.next, only.nominal) == (4, None, 1.0)
        assert "Every evaluation is a full one" in repr(study.fidelity_report())

    def test_the_same_study_gives_the_same_report(self, good: bonas.Study) -> None:
        assert repr(good.fidelity_report()) == repr(good.fidelity_report())

    def test_where_sizes_are_unknown_they_are_not_compared_with(self) -> None:
        study = searched(lambda params: params["x"], counted=False)
        first = study.fidelity_report().rungs[0]
        assert first.next is not None
        assert not first.next.parameters
        assert first.comparison is not None
        assert first.comparison.size == 0

    def test_costs_are_measured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = SimpleNamespace(now=0.0, time=time.time, monotonic=lambda: clock.now)
        monkeypatch.setattr("bonas.trial.time", clock)
        study = searched(lambda params: params["x"], budget=8.0, clock=clock)
        report = study.fidelity_report()
        # The subset saves nothing here, whatever its nominal cost.
        assert report.rungs[0].nominal < 0.05
        assert report.rungs[0].measured == pytest.approx(1 / 9, rel=0.2)
        assert report.rungs[-1].measured == pytest.approx(1.0)
        assert report.rungs[-1].seconds == pytest.approx(27, rel=0.2)

    def test_an_unknown_metric_is_refused(self, good: bonas.Study) -> None:
        with pytest.raises(ValueError, match="this study has"):
            good.fidelity_report("speed")

    def test_of_several_objectives_the_trained_one_is_judged(self) -> None:
        study = searched(
            lambda params: params["x"],
            budget=5.0,
            direction=None,
            directions=["minimize", "maximize"],
            metric_names=["parameters", "accuracy"],
        )
        report = study.fidelity_report()
        assert report.metric == "accuracy"
        assert study.fidelity_report("parameters").metric == "parameters"


class TestShown:
    def test_as_a_data_frame(self, good: bonas.Study) -> None:
        report = good.fidelity_report()
        frame = report.to_dataframe()
        assert list(frame["rung"]) == list(report.names)
        assert frame["next_all_tau"][0] == 1
        assert frame["full_all_low"][0] <= frame["full_all_tau"][0] <= frame["full_all_high"][0]
        assert not frame["misleading"].any()

    def test_as_html_with_every_number_of_the_text(self, good: bonas.Study) -> None:
        report = good.fidelity_report()
        html = report._repr_html_()
        for rung in report.rungs[:-1]:
            assert rung.next is not None
            assert str(rung.next.all) in html
        assert html.count("<tr") == repr(report).count("\n") - html.count("<div style='opacity")

    def test_names_are_escaped(self) -> None:
        study = searched(None, budget=None, study_name="<b>bold</b>")
        assert "<b>bold" not in study.fidelity_report().to_html()

    def test_as_a_picture(self, good: bonas.Study) -> None:
        figure = plots.plot_fidelities(good)
        [axes] = figure.axes
        taus = [float(y) for line in axes.containers for y in line[0].get_ydata()]
        report = good.fidelity_report()
        shown = [f.tau for r in report.rungs[:-1] for f in (r.next.all, r.full.all) if f]  # type: ignore[union-attr]
        assert set(np.round(shown, 6)) <= set(np.round(taus, 6))
        assert axes.get_xscale() == "log"

    def test_an_empty_picture_says_why(self) -> None:
        figure = plots.plot_fidelities(searched(None, budget=None))
        assert any("no two rungs" in text.get_text() for text in figure.axes[0].texts)

    def test_on_the_command_line(self, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
        searched(
            lambda params: params["x"],
            budget=5.0,
            counted=False,
            storage=tmp_path / "s",
        )
        assert cli.main(["show", str(tmp_path / "s"), "--fidelity"]) == 0
        out = capsys.readouterr().out
        assert "Fidelity report" in out
        page = tmp_path / "page.html"
        assert cli.main(["show", str(tmp_path / "s"), "--html", str(page)]) == 0
        assert "The cheap evaluations" in page.read_text()
