"""Draws up the benchmark with real training: tables in Markdown, and a picture; makes no searches.

    python benchmarks/real_training/report.py

Of the searches in ``results/real_training.jsonl`` those count that were made with the settings and the code
of the latest one of their method, for the seeds that all methods have. The report lies in
``results/real_training.md``, the picture in ``docs/images``.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import _runs
import numpy as np
from search.pictures import Styles

from bonas._picture import Picture
from real_training import outcome, run
from real_training.methods import DEFAULT, METHODS, OPTUNA, RANDOM

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

PARTS = (0.1, 0.25, 0.5, 1.0)
"""Of the seconds, at which methods are compared."""
RULES = {"best": "best trial", "latest": "best latest value"}
REPORT = run.RESULTS.with_suffix(".md")
PICTURE = Path(__file__).parents[2] / "docs" / "images" / "real_training.png"
_DOTS_PER_INCH = 90
_FINE = 400  # points of a line

Runs = dict[str, list[dict[str, Any]]]
"""Searches by method, in the order of their seeds, which are the same for all."""


def collected(path: Path, seconds: float) -> Runs:
    """The searches of so many seconds on the problem of the latest one, for the seeds that every method has.

    Raises:
        ValueError: if there is no such seed.
    """
    there = [record for record in _runs.read(path) if record["seconds"] == seconds]
    by_method: Runs = {}
    for method in METHODS:
        latest = next((r for r in reversed(there) if r["method"] == method), None)
        same = ("settings", "code")
        chosen = [r for r in there if latest and all(r[what] == latest[what] for what in same)]
        by_method[method] = [
            r for r in chosen if r["settings"]["problem"] == there[-1]["settings"]["problem"]
        ]
    common = set.intersection(*({r["seed"] for r in of} for of in by_method.values()))
    if not common:
        raise ValueError(f"{path}: all methods have no seed in common, of {seconds:g} seconds. Run run.py.")
    of_seed = {method: {r["seed"]: r for r in of} for method, of in by_method.items()}
    return {method: [found[seed] for seed in sorted(common)] for method, found in of_seed.items()}


def accuracies(runs: Sequence[Mapping[str, Any]], rule: str, seconds: Sequence[float]) -> NDArray[np.float64]:
    """In percent, (seeds, seconds); that of guessing before an epoch is trained."""
    return 100 * np.array([[outcome.at(r[rule], s, nothing=0.1) for s in seconds] for r in runs])


def tests(runs: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Test accuracy of the network handed back, in percent, (seeds, 1)."""
    return 100 * np.array([[r["kept"]["test"]] for r in runs])


# Tables --------------------------------------------------------------------------------------------


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body)] + [""]


def _cells(values: NDArray[np.float64], sign: str = "") -> list[str]:
    """Mean ± half the width of the interval for each column of (seeds, columns)."""
    return [f"{m:{sign}.2f} ± {half:.2f}" for m, half in zip(*outcome.interval(values), strict=True)]


def over_time(runs: Runs, rule: str, seconds: float) -> list[str]:
    """Validation accuracy after parts of the seconds; the test accuracy beside that of the best trial."""
    at = [part * seconds for part in PARTS]
    head = ["method", *(f"{s:g} s" for s in at)]
    tested = rule == "best"
    body = [
        [method, *_cells(accuracies(of, rule, at)), *(_cells(tests(of)) if tested else [])]
        for method, of in runs.items()
    ]
    return _table(head + (["test"] if tested else []), body)


def differences(runs: Runs, rule: str, seconds: float) -> list[str]:
    """What the default has more than each of the others, seed by seed."""
    at = [part * seconds for part in PARTS]
    mine, mine_tested = accuracies(runs[DEFAULT], rule, at), tests(runs[DEFAULT])
    body = [
        [f"{DEFAULT} − {method}", *_cells(mine - accuracies(of, rule, at), "+")]
        + (_cells(mine_tested - tests(of), "+") if rule == "best" else [])
        for method, of in runs.items()
        if method != DEFAULT
    ]
    return _table(["", *(f"{s:g} s" for s in at)] + (["test"] if rule == "best" else []), body)


def to_random(runs: Runs, rule: str) -> dict[str, list[float]]:
    """Seconds of every search to the mean accuracy that random search ends with; infinity for never."""
    target = float(np.mean([r[rule][-1][1] for r in runs[RANDOM]]))
    return {method: [outcome.seconds_to(r[rule], target) for r in of] for method, of in runs.items()}


def _reached(seconds: Sequence[float]) -> str:
    there = sum(np.isfinite(seconds))
    middle = float(np.median(seconds))
    median = f"{middle:.0f} s" if np.isfinite(middle) else "–"
    return f"{median} ({there} of {len(seconds)})"


def effort(runs: Runs) -> list[str]:
    """What the seconds went into, on average, and how soon a method was as good as random search ends."""
    best, latest = (to_random(runs, rule) for rule in RULES)
    body = []
    for method, of in runs.items():
        mean = {
            what: np.mean([r[what] for r in of]) for what in ("trials", "epochs", "full", "diverged", "wall")
        }
        outside = np.mean([r["used"] - r["training"] for r in of])
        body.append(
            [
                method,
                *(f"{mean[what]:.1f}" for what in ("trials", "full", "diverged")),
                f"{mean['epochs']:.0f}",
                f"{np.mean([1000 * r['training'] / r['epochs'] for r in of]):.0f} ms",
                f"{outside:.1f} s",
                f"{mean['wall']:.0f} s",
                _reached(best[method]),
                _reached(latest[method]),
                *_cells(np.array([[found(r)] for r in of])),
            ]
        )
    head = ["method", "trials", "in full", "diverged", "epochs", "an epoch", "outside training", "wall-clock"]
    return _table([*head, "to random's last", "by latest value", "found"], body)


def found(run: Mapping[str, Any]) -> float:
    """The best of a search's full evaluations beside the hand-written default, in percent; NaN for none."""
    full = run["settings"]["problem"]["epochs"]
    return 100 * max((accuracy for epochs, accuracy in run["ends"][1:] if epochs == full), default=np.nan)


def baseline(runs: Runs) -> float:
    """Mean validation accuracy, in percent, of the hand-written default in full: trial 0 of random."""
    return 100 * float(np.mean([r["ends"][0][1] for r in runs[RANDOM]]))


# The picture ---------------------------------------------------------------------------------------


def picture(runs: Runs, seconds: float, path: Path) -> None:
    """Mean accuracy against processor seconds by both rules, with intervals over seeds."""
    styles = Styles([m for m in runs if m != OPTUNA], [OPTUNA], DEFAULT)
    figure = Picture(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    at = np.linspace(0, seconds, _FINE + 1)[1:]
    lows = []
    for axes, (rule, title) in zip(panels, RULES.items(), strict=True):
        for method, of in runs.items():
            mean, half = outcome.interval(accuracies(of, rule, at))
            style = styles.of(method)
            axes.plot(at, mean, **style)
            axes.fill_between(at, mean - half, mean + half, color=style["color"], alpha=0.12, linewidth=0)
            lows.append(float(mean[_FINE // 10]))
        axes.axhline(baseline(runs), color="black", linestyle=":", linewidth=1, label="hand-written default")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("seconds of processor time", fontsize=9)
        axes.set_xlim(0, seconds)
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)
    highest = max(float(accuracies(of, rule, [seconds]).max()) for of in runs.values() for rule in RULES)
    panels[0].set_ylim(min(lows) - 2, highest + 1)
    panels[0].set_ylabel("validation accuracy, %", fontsize=9)
    panels[0].legend(loc="lower right", fontsize=9, frameon=False)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


# The report ----------------------------------------------------------------------------------------


def report(runs: Runs, seconds: float) -> str:
    """All of it in Markdown."""
    some = runs[DEFAULT][0]
    made = some["settings"]["problem"]
    n = len(runs[DEFAULT])
    versions = ", ".join(f"{name} {number}" for name, number in some["with"].items())
    machines = ", ".join(sorted({r["machine"] for of in runs.values() for r in of}))
    pixels, epochs = "×".join(map(str, made["pixels"])), made["epochs"]
    about = f"""Search with real training on {made["data"]}: {made["train"]:,} images to train on,
        {made["val"]:,} to validate, {pixels} pixels, {epochs} epochs in full. Every search has {seconds:g}
        seconds of processor time on one thread, its own deciding included; {n} seeds. Accuracies in percent,
        means ± half the {100 * outcome.LEVEL:g} % interval by Student's t over seeds."""
    rules = f"""All methods evaluate the space's hand-written default first, with the same weights and batches
        for the same seed and trial number; it ends at {baseline(runs):.2f} % on the validation images. *Best
        trial*: by its last value, among the trials trained furthest, which are full evaluations once there
        is one; its network as it was trained, not trained again, is tested once, when the search is over.
        *Best latest value*: over all trials, at whatever epoch they are."""
    spent = """Means over seeds; seconds to the mean accuracy that random search ends with are medians over
        seeds, with how many seeds reached it. *Found*: the best full evaluation beside the default's."""
    command = f"""`python benchmarks/real_training/run.py --data-dir DIR --seconds {seconds:g}`, one process,
        all methods of a seed one after another, on a machine that had other work as well: hence processor
        time, and wall-clock beside it. {versions}; {machines}."""
    lines = [
        *_paragraph(about),
        *_paragraph(rules),
        "## Best trial",
        "",
        *over_time(runs, "best", seconds),
        "What the default has more, in pairs of the same seed:",
        "",
        *differences(runs, "best", seconds),
        "## Best latest value",
        "",
        *over_time(runs, "latest", seconds),
        *differences(runs, "latest", seconds),
        "## What the seconds went into",
        "",
        *_paragraph(spent),
        *effort(runs),
        "## Conditions",
        "",
        *_paragraph(command)[:-1],
    ]
    return "\n".join(lines) + "\n"


def _paragraph(text: str) -> list[str]:
    return [*textwrap.wrap(" ".join(text.split()), 110, break_long_words=False, break_on_hyphens=False), ""]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=run.SECONDS, help="that the searches had")
    parser.add_argument("--results", type=Path, default=run.RESULTS)
    arguments = parser.parse_args()
    try:
        runs = collected(arguments.results, arguments.seconds)
    except ValueError as error:
        parser.error(str(error))
    text = report(runs, arguments.seconds)
    REPORT.write_text(text)
    picture(runs, arguments.seconds, PICTURE)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
