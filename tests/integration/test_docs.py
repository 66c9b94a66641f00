"""The examples of the documentation run as written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


def run(page: str, *smaller: tuple[str, str]) -> dict[str, Any]:
    """The names that a page's examples leave behind, each text in them replaced by a smaller one."""
    text = (DOCS / page).read_text(encoding="utf-8")
    examples = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    assert examples
    for written, instead in smaller:
        assert written in examples
        examples = examples.replace(written, instead)
    names: dict[str, Any] = {}
    exec(compile(examples, page, "exec"), names)
    return names


def test_the_examples_about_spaces_run() -> None:
    names = run("spaces.md")
    assert names["space"].build({"units": 8, "lr": 0.1})
    genotype = names["genotype"]
    assert genotype.space().count(genotype.params).parameters == 3_349_342


def test_the_examples_about_data_run() -> None:
    assert run("data.md")["objective"].data.name == "digits"


def test_the_examples_about_constraints_run() -> None:
    study = run("constraints.md")["study"]
    assert list(study.constraints) == ["parameters", "macs", "memory", "latency"]
    trial = study.ask()
    assert trial.count().parameters <= 200_000
    assert trial.user_attrs["measured_latency"] <= 0.002


def test_the_examples_about_objectives_run() -> None:
    names = run("objectives.md", ("(1, 9)", "(1, 2)"), ("budget=4", "budget=3"))
    study, chosen = names["study"], names["chosen"]
    assert chosen.number in {trial.number for trial in study.best_trials}
    assert names["final"].user_attrs["test_accuracy"] > 0.1
    assert sum(p.numel() for p in names["network"].parameters()) == chosen.values["parameters"]
    # The objective of one's own reports what its study asks for.
    study.optimize(names["objective"], budget=4)
    assert study.spent > 3


def test_the_examples_about_extrapolation_run() -> None:
    names = run("extrapolation.md")
    truth = [loss[-1] for loss in names["losses"]]
    last = [loss[7] for loss in names["losses"]]
    errors = [abs(a - b) for a, b in zip(names["ends"].median, truth, strict=True)]
    assert sum(errors) < 0.3 * sum(abs(a - b) for a, b in zip(last, truth, strict=True))


def test_the_examples_about_fidelities_run() -> None:
    names = run(
        "fidelity.md",
        ('"digits"', '"wine"'),
        ("spaces.chain(", "spaces.chain_mlp("),
        ("(1, 9)", "(1, 2)"),
        ("(1, 6)", "(1, 2)"),
        ("budget=4", "budget=2"),
        ("n=5, budget=8", "n=3, budget=8"),
    )
    calibration = names["calibration"]
    assert {row.axis for row in calibration.reduced} == {"epochs", "subset", "width"}
    assert names["study"].axes == calibration.axes
    assert names["study"].plan(budget=8).started > 0


def test_the_examples_about_schedulers_run() -> None:
    names = run(
        "schedulers.md",
        ('"digits"', '"wine"'),
        ("spaces.chain(", "spaces.chain_mlp("),
        ("(1, 27)", "(1, 3)"),
        ("budget=6", "budget=2"),
    )
    study, own = names["study"], names["own"]
    assert study.spent > 1
    assert len(study.explain(study.best_trial).sentences) >= 2
    # The schedule of one's own moves the best of ten to the end.
    own.optimize(lambda trial: float(trial.number), n_trials=10)
    assert [t.number for t in own.trials if t.state == "COMPLETE"] == [0]
    assert "because of every ten trials the best goes on" in repr(own.explain(0))
