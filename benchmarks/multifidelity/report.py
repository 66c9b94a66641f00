"""Draws up the multi-fidelity benchmark: tables in Markdown, and pictures; makes no runs.

    BONAS_BENCHMARKS=DIR python benchmarks/multifidelity/report.py

Of the runs in ``results/multifidelity`` those count whose settings are today's, made by the latest code that
is there. The report lies in ``results/multifidelity.md``, the pictures in ``docs/images``. ``--tidy`` takes
all other runs out of the files.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import _runs
import numpy as np
from search import pictures, significance

from multifidelity import methods, run, tasks
from multifidelity.outcome import INCUMBENTS, RECOMMENDED, Results, cost_to, outcomes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from search.significance import Ranking

AT = (5, 10, 20, 50)
"""Full evaluations at which methods are compared."""
FINE = np.geomspace(0.1, 60, 500)
FEWEST_SEEDS = 2  # of a method on a task to be listed
REPORT = run.RESULTS.with_suffix(".md")
PICTURES = Path(__file__).parents[2] / "docs" / "images"
UNIT = "full evaluations"


def collected(names: Sequence[str], shown: Sequence[str]) -> Results:
    """What the methods came to; the tasks are those that the default and the baseline were run on."""
    found = {method: outcomes(run.current(method), names, FEWEST_SEEDS) for method in shown}
    found = {method: by_task for method, by_task in found.items() if by_task}
    needed = [found.get(method, {}) for method in (methods.DEFAULT, methods.BASELINE)]
    return Results(found, [name for name in names if all(name in by_task for by_task in needed)])


def groups(names: Sequence[str]) -> dict[str, list[str]]:
    """The tasks of one table together."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(tasks.GROUPS.get(name.split()[0], name), []).append(name)
    return found


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body)] + [""]


def _name(method: str) -> str:
    return f"**{method}**" if method == methods.DEFAULT else method


def _of(results: Results, names: Sequence[str], pool: str = "") -> list[str]:
    """The methods with runs on all of these tasks, kept to the rows or, without ``pool``, not."""
    found = [method for method, by_task in results.outcomes.items() if set(names) <= set(by_task)]
    return [method for method in found if method.endswith(methods.POOL) == bool(pool)]


# Tables --------------------------------------------------------------------------------------------


def ranks(results: Results, rankings: Mapping[int, Ranking], by_group: Mapping[int, np.ndarray]) -> list[str]:
    """Average ranks over the tasks, and over the groups of tasks."""
    last = AT[-1]
    body = []
    for i in np.argsort(rankings[last].average):
        method = results.ranked[i]
        seeds = sorted({len(outcome.runs) for outcome in results.outcomes[method].values()})
        body.append(
            [
                _name(method),
                *(f"{rankings[n].average[i]:.2f}" for n in AT),
                *(f"{by_group[n][i]:.2f}" for n in AT),
                "–".join(map(str, seeds[:1] + seeds[1:][-1:])),
            ]
        )
    head = [*(f"at {n}" for n in AT), *(f"at {n}, by group" for n in AT)]
    return _table(["method", *head, "seeds"], body)


def regrets(
    results: Results, names: Sequence[str], what: str, costs: Sequence[float], pool: str = ""
) -> list[str]:
    """Mean ± standard error over seeds of every method's mean over tasks, and what random's takes it."""
    shown = _of(results, names, pool)
    body = []
    target, random = None, methods.RANDOM + pool
    if what != "seen" and random in shown:
        target = results.mean(random, names, [run.BUDGETS[random]], what).mean()
    for method in shown:
        found = results.mean(method, names, costs, what)
        cells = [_runs.mean(list(column), 3) for column in found.T]
        if target is not None:
            reached = cost_to(results.mean(method, names, FINE, what).mean(axis=0), FINE, float(target))
            cells.append("–" if np.isinf(reached) else f"{reached:.1f}")
        body.append([_name(method), *cells])
    head = ["method", *(f"at {n:g}" for n in costs)]
    return _table(head + (["to random's at 60"] if target is not None else []), body)


def speed(results: Results, names: Sequence[str], reference: str, at: Sequence[float]) -> list[str]:
    """At what cost each method has the mean regret that ``reference`` has at given costs."""
    shown = _of(results, names)
    targets = results.mean(reference, names, at, INCUMBENTS).mean(axis=0)
    body = []
    for method in shown:
        mean = results.mean(method, names, FINE, INCUMBENTS).mean(axis=0)
        reached = [cost_to(mean, FINE, float(target)) for target in targets]
        body.append([_name(method), *("–" if np.isinf(c) else f"{c:.1f}" for c in reached)])
    return _table(["method", *(f"to {reference}'s at {n:g}" for n in at)], body)


def differences(results: Results, baseline: str) -> tuple[list[str], int, int]:
    """The default's mean regret less the baseline's on every task, with 95 % intervals over paired seeds.

    Returns:
        the table, in how many cells the default is significantly better, and in how many worse.
    """
    body, better, worse = [], 0, 0
    for name in results.tasks:
        cells = []
        for n in AT:
            ours, theirs = (results.outcomes[m][name].regret([n])[:, 0] for m in (methods.DEFAULT, baseline))
            seeds = min(len(ours), len(theirs))
            low, high = significance.paired(ours[:seeds], theirs[:seeds], np.random.default_rng(0))
            better += high < 0
            worse += low > 0
            mark = " (worse)" if low > 0 else ""
            cells.append(f"{np.mean(ours[:seeds] - theirs[:seeds]):+.3f} [{low:+.3f}, {high:+.3f}]{mark}")
        body.append([name, *cells])
    return _table(["task", *(f"at {n}" for n in AT)], body), better, worse


def costs(results: Results) -> list[str]:
    """What deciding cost."""
    body = []
    for method, by_task in results.outcomes.items():
        runs = [one for outcome in by_task.values() for one in outcome.runs]
        trials = np.array([one["trials"] for one in runs])
        ms = np.array([one["ms"] for one in runs])
        each = np.array([one["ms"] / max(1, one["segments"]) for one in runs])
        worst = int(ms.argmax())
        body.append(
            [
                _name(method),
                f"{np.median(each):.2f}",
                f"{ms[worst] / 1e3:.1f} ({trials[worst]})",
            ]
        )
    return _table(["method", "ms per decision, median", "s in the dearest search (trials)"], body)


def conditions(results: Results) -> list[str]:
    """Tasks, settings, versions and the command."""
    described = []
    for name in results.tasks:
        task = tasks.load(name)
        true = np.asarray(task.true)
        axes = ", ".join(axis.name for axis in task.axes.axes)
        best = np.nanmin(true) if task.direction == "minimize" else np.nanmax(true)
        figures = (np.nanmedian(true), best)
        described.append([name, str(len(task)), axes, str(task.epochs), *(f"{f:.4g}" for f in figures)])
    settings, versions = [], set()
    for method, by_task in results.outcomes.items():
        runs = [one for outcome in by_task.values() for one in outcome.runs]
        settings.append([method, _settings(runs[0]["settings"]), _versions(runs[0]["code"])])
        versions |= {_versions(one["with"]) for one in runs}
    return [
        *_table(["task", "rows", "axes", "epochs", "median row", "best row"], described),
        *_table(["method", "settings", "version, or digest of its decisions"], settings),
        f"Runs with {'; or with '.join(sorted(versions))}. Drawn up by {_runs.conditions('numpy', 'scipy')}",
        "Commands: `python benchmarks/multifidelity/run.py`, `python benchmarks/multifidelity/report.py`.",
        "",
    ]


def _settings(settings: Mapping[str, Any]) -> str:
    parts = []
    for name, value in settings.items():
        if isinstance(value, dict):
            parts.append(
                f"{value.get('name', name)}({_settings({k: v for k, v in value.items() if k != 'name'})})"
            )
        elif value is not None:
            parts.append(f"{name}={value}")
    return ", ".join(parts)


def _versions(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


# The report ----------------------------------------------------------------------------------------


def markdown(results: Results, rankings: Mapping[int, Ranking], by_group: Mapping[int, np.ndarray]) -> str:
    """All of it."""
    compared, better, worse = differences(results, methods.BASELINE)
    cells = len(results.tasks) * len(AT)
    lines = [
        "# Multi-fidelity search on tables of learning curves",
        "",
        f"{len(results.ranked)} methods on {len(results.tasks)} tasks. Cost is in full evaluations; a "
        "promoted trial goes on where it stopped, unless its package trains it again. *Regret* is that of "
        "the trial whose latest value is best, by its true final value: 0 is the table's best row, 1 the "
        "median one. Mean ± standard error over searches; the default is in bold.",
        "",
        "## Average ranks",
        "",
        *ranks(results, rankings, by_group),
        "*By group* counts TaskSet's six tasks, and LCBench's, as one table each.",
        "",
        "![average ranks](../../docs/images/multifidelity_ranks.png)",
        "![critical differences](../../docs/images/multifidelity_critical.png)",
        "",
        "## Regret",
        "",
        "![regret over cost](../../docs/images/multifidelity_regret.png)",
        "",
    ]
    for group, names in groups(results.tasks).items():
        number = f"mean of {len(names)} tasks" if len(names) > 1 else "one task"
        lines += [f"### {group}, {number}", ""]
        lines += regrets(results, names, INCUMBENTS, (3, *AT))
        lines += ["By the rule of `study.best_trial`, the best at the highest fidelity reached:", ""]
        lines += regrets(results, names, RECOMMENDED, (3, *AT))
        if group == tasks.GROUPS["lcbench"]:
            lines += ["Best value seen, what it lacks in parts of the table's range of values:", ""]
            lines += regrets(results, names, "seen", AT)
        if _of(results, names, methods.POOL):
            lines += ["Methods of bonas that propose nothing but rows of the table:", ""]
            lines += regrets(results, names, INCUMBENTS, (3, *AT), methods.POOL)
        peers = [m for m in _of(results, names) if m not in methods.own_entries()]
        if peers:
            at20 = {m: results.mean(m, names, [20], INCUMBENTS).mean() for m in peers}
            lines += ["Cost to what the best peer reaches:", ""]
            lines += speed(results, names, min(peers, key=lambda m: at20[m]), (10, 20))
        if methods.SECOND_RUNG in _of(results, names):
            lines += ["Cost to what the default reaches when it starts at its second rung:", ""]
            lines += speed(results, names, methods.SECOND_RUNG, AT)
    lines += [
        f"## {methods.DEFAULT} and {methods.BASELINE}, task by task",
        "",
        f"Mean regret of {methods.DEFAULT} less that of {methods.BASELINE}, 95 % intervals by bootstrap over "
        f"paired seeds. Of {cells} figures {better} are significantly better and {worse} worse; were the two "
        f"equal, about {cells / 40:.0f} would be either by chance.",
        "",
        *compared,
        "## What deciding costs",
        "",
        "Processor time of scheduler and sampler together, one thread.",
        "",
        *costs(results),
        "## Conditions",
        "",
        *conditions(results),
    ]
    return "\n".join(lines)


def draw(results: Results, rankings: Mapping[int, Ranking], folder: Path) -> None:
    """The pictures."""
    ours = methods.own_entries()
    peers = [name for name in methods.entries() if name not in ours]
    drawn = [name for name in (*methods.SHOWN, *peers) if name in results.outcomes]
    # Those drawn come first, so that each of them has a colour of its own.
    styles = pictures.Styles(list(dict.fromkeys([*methods.SHOWN, *ours])), peers, methods.DEFAULT)
    shown = groups(results.tasks)
    grid = np.geomspace(0.5, AT[-1], 120)
    figure, panels = pictures.panels(list(shown))
    for (group, names), axes in zip(shown.items(), panels, strict=True):
        for method in _of(results, names):
            if method not in drawn:
                continue
            pictures.line(axes, grid, results.mean(method, names, grid, INCUMBENTS), 1.0, styles.of(method))
        axes.set_title(f"{group} ({len(names)})" if len(names) > 1 else group, fontsize=9)
        axes.set_xscale("log")
    pictures.finish(figure, panels, UNIT, folder / "multifidelity_regret.png")
    if len(results.ranked) < 3:
        return
    path = folder / "multifidelity_critical.png"
    pictures.critical_differences(rankings, results.ranked, styles, path, UNIT)
    costs = np.unique(np.round(np.geomspace(1, AT[-1], 40), 1))
    average = [
        np.mean([significance.expected_ranks(r) for r in results.regrets(c, results.tasks)], axis=0)
        for c in costs
    ]
    lines = dict(zip(results.ranked, np.transpose(average), strict=True))
    lines = {method: line for method, line in lines.items() if method in drawn}
    pictures.ranks(lines, list(costs), styles, folder / "multifidelity_ranks.png", UNIT)


def main() -> int:
    known = list(methods.entries())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=known, default=known, metavar="METHOD")
    parser.add_argument("--tidy", action="store_true", help="take runs that do not count out of the files")
    parser.add_argument("--to", type=Path, help="a folder for report and pictures instead of the usual ones")
    arguments = parser.parse_args()
    if arguments.tidy:
        _runs.tidy(run, methods.entries(), tasks.TASKS)
    results = collected(_runs.available(tasks.TASKS, tasks.load), arguments.methods)
    if len(results.ranked) < 3 or not results.tasks:
        print(f"runs of {results.ranked} alone: make some of {methods.DEFAULT} and two others with run.py.")
        return 0
    rankings, by_group = {}, {}
    for n in AT:
        rankings[n] = significance.rank(results.regrets(n, results.tasks), np.random.default_rng(0))
        of = dict(zip(results.tasks, rankings[n].by_task, strict=True))
        grouped = [np.mean([of[name] for name in names], axis=0) for names in groups(results.tasks).values()]
        by_group[n] = np.mean(grouped, axis=0)
    report = REPORT if arguments.to is None else arguments.to / "multifidelity.md"
    report.write_text(markdown(results, rankings, by_group))
    draw(results, rankings, arguments.to or PICTURES)
    print(f"{report}: {len(results.ranked)} methods, {len(results.tasks)} tasks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
