"""Draws up the search benchmark: tables in Markdown, and pictures; makes no runs.

    BONAS_BENCHMARKS=DIR python benchmarks/search/report.py

Of the runs in ``results/search`` those count whose settings are today's, made by the latest code that is
there. The report lies in ``results/search.md``, the pictures in ``docs/images``. ``--tidy`` takes all other
runs out of the files.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import _runs
import numpy as np

from search import methods, pictures, recommend, run, significance, tasks
from search.outcome import Outcome, outcomes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from search.significance import Ranking

    Column = Callable[[Outcome], Iterable[float]]

EVALUATIONS = run.EVALUATIONS
RANKED_AT = (20, 50, EVALUATIONS)
LONGER, SHOWN_AT = 300, (30, 50, 100, 300)
FEWEST_SEEDS = 3  # of a method on a task to be listed
NAS_BENCH_201 = tuple(name for name in tasks.TASKS if name.startswith("nasbench201"))
REPORT = run.RESULTS.with_suffix(".md")
PICTURES = Path(__file__).parents[2] / "docs" / "images"


@dataclass(frozen=True)
class Results:
    """Outcomes by method and task."""

    outcomes: Mapping[str, Mapping[str, Outcome]]
    tasks: Sequence[str]

    @property
    def ranked(self) -> list[str]:
        """The methods with runs on every task there is: only they can be ranked over the tasks."""
        return [method for method, by_task in self.outcomes.items() if set(self.tasks) <= set(by_task)]

    def ranking(self, evaluations: int) -> Ranking:
        """Of the ranked methods, after so many evaluations."""
        return significance.rank(self.regrets(evaluations), np.random.default_rng(0))

    def regrets(self, evaluations: int) -> list[list[np.ndarray]]:
        """Visited, for each task and each ranked method, one for each seed."""
        return [
            [self.outcomes[method][task].visited[:, evaluations - 1] for method in self.ranked]
            for task in self.tasks
        ]


def collected(evaluations: int, names: Sequence[str], shown: Sequence[str]) -> Results:
    """What the methods came to in their runs of at least so many evaluations."""
    found = {method: outcomes(run.current(method), names, evaluations, FEWEST_SEEDS) for method in shown}
    found = {method: by_task for method, by_task in found.items() if by_task}
    return Results(found, [name for name in names if name in found.get(methods.DEFAULT, {})])


# Tables --------------------------------------------------------------------------------------------


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body)] + [""]


def _name(method: str) -> str:
    return f"**{method}**" if method == methods.DEFAULT else method


def ranks(results: Results, rankings: Mapping[int, Ranking]) -> list[str]:
    """Average ranks, best first."""
    body = []
    for i in np.argsort(rankings[EVALUATIONS].average):
        method = results.ranked[i]
        found = results.outcomes[method].values()
        seeds = sorted({len(outcome.runs) for outcome in found})
        body.append(
            [
                _name(method),
                *(f"{rankings[n].average[i]:.2f}" for n in RANKED_AT),
                "–".join(map(str, seeds[:1] + seeds[1:][-1:])),
                f"{np.median([outcome.ms_per_ask for outcome in found]):.1f}",
            ]
        )
    return _table(["method", *(f"at {n}" for n in RANKED_AT), "seeds", "ms per ask"], body)


def differences(results: Results, rankings: Mapping[int, Ranking]) -> list[str]:
    """How much later every other method ranks than the default one, with both bootstraps."""
    default = results.ranked.index(methods.DEFAULT)
    body = []
    for i in np.argsort(rankings[EVALUATIONS].average):
        if i == default:
            continue
        cells = []
        for n in RANKED_AT:
            later = rankings[n].average[i] - rankings[n].average[default]
            for other_tasks in (False, True):
                low, high = rankings[n].interval(int(i), default, other_tasks=other_tasks)
                cells.append(f"{later:+.2f} [{low:+.2f}, {high:+.2f}]")
        body.append([results.ranked[i], *cells])
    kinds = ("same tasks", "other tasks")
    return _table(["method", *(f"at {n}, {kind}" for n in RANKED_AT for kind in kinds)], body)


def regrets(results: Results, column: Column) -> list[str]:
    """Mean ± standard error of one regret for each run, for every method and task."""
    body = []
    for method, by_task in results.outcomes.items():
        cells = []
        for name in results.tasks:
            digits = 3 if tasks.load(name).scale < 3 else 2
            cells.append(_runs.mean(list(column(by_task[name])), digits) if name in by_task else "–")
        body.append([_name(method), *cells])
    return _table(["method", *results.tasks], body)


def visited(evaluations: int) -> Column:
    """Regret of the best configuration evaluated."""
    return lambda outcome: outcome.visited[:, evaluations - 1]


def observed(evaluations: int) -> Column:
    """Regret of the configuration with the best value."""
    return lambda outcome: outcome.observed[:, evaluations - 1]


def recommended(found: Mapping[str, Mapping[str, Any]], evaluations: int, how: str) -> Column:
    """Regret of the configuration handed back."""

    def column(outcome: Outcome) -> np.ndarray:
        labels = [recommend.label(one, evaluations) for one in outcome.runs]
        return outcome.task.regret([found[label][how] for label in labels])

    return column


def conditions(results: Results) -> list[str]:
    """Tasks, settings, versions and the command."""
    described = []
    for name in results.tasks:
        task = tasks.load(name)
        rows = f"{len(task)}, a sample" if task.sampled else f"{len(task)}, all"
        described.append([name, rows, str(task.values.shape[1]), task.unit, f"{task.scale:.3g}"])
    settings, versions = [], set()
    for method, by_task in results.outcomes.items():
        runs = [one for outcome in by_task.values() for one in outcome.runs]
        taken = [f"{name}={value}" for name, value in runs[0]["settings"].items() if value is not None]
        settings.append([method, ", ".join(taken), _versions(runs[0]["code"])])
        versions |= {_versions(one["with"]) for one in runs}
    return [
        *_table(["task", "rows", "seeds", "unit of regret", "regret of the median row"], described),
        *_table(["method", "settings", "version, or digest of its decisions"], settings),
        f"Runs with {'; or with '.join(sorted(versions))}. Drawn up by {_runs.conditions('numpy', 'scipy')}",
        "Commands: `python benchmarks/search/run.py`, `python benchmarks/search/report.py`.",
        "",
    ]


def _versions(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


# The report ----------------------------------------------------------------------------------------


def markdown(
    results: Results,
    longer: Results,
    rankings: Mapping[int, Ranking],
    recommendations: Mapping[str, Mapping[str, Any]],
) -> str:
    """All of it."""
    n = EVALUATIONS
    friedman = ", ".join(f"p = {ranking.friedman:.1g} at {n}" for n, ranking in rankings.items())
    lines = [
        "# Search methods on tables",
        "",
        f"{len(results.ranked)} methods, {len(results.tasks)} tasks, {n} evaluations a run, each at full "
        "fidelity with one noisy training seed. Regret is what the best configuration *visited* lacks of the "
        "table's best, by means over training seeds; mean ± standard error over searches. The default "
        "sampler is in bold.",
        "",
        "## Average ranks",
        "",
        *ranks(results, rankings),
        f"All methods are equal (Friedman): {friedman}. Critical difference (Nemenyi, 5 %): "
        f"{rankings[n].critical_difference:.2f}.",
        "",
        "![average ranks](../../docs/images/search_ranks.png)",
        "![critical differences](../../docs/images/search_critical.png)",
        "",
        f"How much later a method ranks than {methods.DEFAULT}, with 95 % intervals by bootstrap: *same "
        "tasks* draws the seeds again, *other tasks* the tasks, too. An interval above 0 is significant.",
        "",
        *differences(results, rankings),
        "## Regret",
        "",
        "![regret over evaluations](../../docs/images/search_evaluations.png)",
        "![regret over seconds](../../docs/images/search_seconds.png)",
        "",
    ]
    for k in RANKED_AT:
        lines += [f"Visited after {k}:", "", *regrets(results, visited(k))]
    lines += [f"Best value observed after {n}, partly the luckiest one:", "", *regrets(results, observed(n))]
    lines += [
        f"Recommended after {n} by the same forest for every method, nothing evaluated again:",
        "",
        *regrets(results, recommended(recommendations, n, "alone")),
        f"Recommended after {n}, {recommend.FINALISTS} finalists evaluated {recommend.REPEATS} times more:",
        "",
        *regrets(results, recommended(recommendations, n, "reevaluated")),
    ]
    if longer.outcomes:
        lines += [f"## NAS-Bench-201, {LONGER} evaluations", ""]
        for k in SHOWN_AT:
            lines += [f"Visited after {k}:", "", *regrets(longer, visited(k))]
        for k in recommend.AFTER:
            lines += [f"Recommended after {k}, finalists evaluated again:", ""]
            lines += regrets(longer, recommended(recommendations, k, "reevaluated"))
    return "\n".join([*lines, "## Conditions", "", *conditions(results)])


def draw(results: Results, rankings: Mapping[int, Ranking], folder: Path) -> None:
    """The pictures."""
    peers = [name for name in methods.entries() if name not in methods.OWN]
    styles = pictures.Styles(list(methods.OWN), peers, methods.DEFAULT)
    pictures.over_evaluations(results.outcomes, results.tasks, styles, folder / "search_evaluations.png")
    pictures.over_seconds(results.outcomes, results.tasks, styles, folder / "search_seconds.png")
    pictures.critical_differences(rankings, results.ranked, styles, folder / "search_critical.png")
    after = range(1, EVALUATIONS + 1)
    average = [np.mean([significance.expected_ranks(r) for r in results.regrets(n)], axis=0) for n in after]
    lines = dict(zip(results.ranked, np.transpose(average), strict=True))
    pictures.ranks(lines, after, styles, folder / "search_ranks.png")


def main() -> int:
    known = list(methods.entries())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=known, default=known, metavar="METHOD")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--tidy", action="store_true", help="take runs that do not count out of the files")
    arguments = parser.parse_args()
    if arguments.tidy:
        _runs.tidy(run, methods.entries(), tasks.TASKS)
    names = _runs.available(tasks.TASKS, tasks.load)
    results = collected(EVALUATIONS, names, arguments.methods)
    if len(results.ranked) < 3 or methods.DEFAULT not in results.ranked:
        print(f"runs of {results.ranked} alone: make some of {methods.DEFAULT} and two others with run.py.")
        return 0
    longer = collected(LONGER, [name for name in NAS_BENCH_201 if name in names], arguments.methods)
    runs = [
        one
        for source in (results, longer)
        for by_task in source.outcomes.values()
        for outcome in by_task.values()
        for one in outcome.runs
    ]
    recommendations = recommend.complete(runs, arguments.processes)
    rankings = {n: results.ranking(n) for n in RANKED_AT}
    REPORT.write_text(markdown(results, longer, rankings, recommendations))
    draw(results, rankings, PICTURES)
    print(f"{REPORT}: {len(results.ranked)} methods, {len(results.tasks)} tasks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
