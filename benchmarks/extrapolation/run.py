"""How well the ends of real learning curves are forecast: makes the runs and writes the report.

    BONAS_BENCHMARKS=DIR python benchmarks/extrapolation/run.py --seeds 10 --processes 2
    BONAS_BENCHMARKS=DIR python benchmarks/extrapolation/run.py --mcmc 2 --processes 2

Results lie in ``results/extrapolation.jsonl``, the grades of one seed a line, and what is there is not made
again; the report is ``results/extrapolation.md``. The MCMC ensemble takes seconds a curve and is made on the
first few of the held-out curves only, beside which all other methods are graded on the same few.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes share the cores already
sys.path.insert(0, str(Path(__file__).parents[1]))

import _runs
import _tables
import numpy as np

from extrapolation import methods
from extrapolation.answer import Answer
from extrapolation.curves import FRACTIONS, studies

RESULTS = Path(__file__).parents[1] / "results"
RUNS, REPORT = RESULTS / "extrapolation.jsonl", RESULTS / "extrapolation.md"
HELD = 300
SETTINGS = {"30 finished, 170 partly": (30, 170), "10 finished": (10, 0)}
TABLES = ("TaskSet", "LCDB")
FEW = {"TaskSet": 2, "LCDB": 12}
"""Curves of each study that MCMC is asked about."""
WHAT = f"""{HELD} curves held out of each study are all cut at the same part of their horizon; methods see
those, the finished curves and, in the first setting, curves cut anywhere. TaskSet: 6 tasks a seed, losses
in units of the loss before training and clipped there, curves without NaN. LCDB: one study a seed from all
curves of at least 10 points, accuracy over numbers of examples. Mean ± standard deviation over studies; the
likelihood is the mean logarithm of the density that was forecast. Methods that give only numbers get
Laplace noise of their error on the finished curves."""


def cheap(table: str, fraction: float, setting: str, seed: int) -> dict[str, Any]:
    """All methods but MCMC on the studies of one seed: their grades, one for each task."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in methods.METHODS}
    few: dict[str, list[list[float]]] = {name: [] for name in methods.METHODS}
    for study in studies(table, seed, fraction, *SETTINGS[setting], HELD):
        for name, answers in methods.METHODS.items():
            began = time.process_time()
            answer = answers(study)
            took = 1e6 * (time.process_time() - began) / len(study.curves)
            found[name].append(answer.grades(study.truth) | {"us_per_curve": took})
            few[name] += _each(answer, study.truth)[: FEW[table]]
    return _key(table, fraction, setting, seed, "cheap") | {"grades": found, "few": few}


def mcmc(table: str, fraction: float, setting: str, seed: int) -> dict[str, Any]:
    """MCMC on the first few curves held out of the studies of one seed."""
    few: list[list[float]] = []
    began = time.process_time()
    for study in studies(table, seed, fraction, *SETTINGS[setting], HELD):
        some = methods.first(study, FEW[table])
        few += _each(methods.mcmc(some, seed), some.truth)
    took = 1e6 * (time.process_time() - began) / len(few)
    return _key(table, fraction, setting, seed, "MCMC") | {"few": {"MCMC": few}, "us_per_curve": took}


def _key(table: str, fraction: float, setting: str, seed: int, what: str) -> dict[str, Any]:
    return {"table": table, "fraction": fraction, "setting": setting, "seed": seed, "what": what}


def _each(answer: Answer, truth: np.ndarray) -> list[list[float]]:
    """Error, whether covered, and log-likelihood of each curve."""
    covered = (truth >= answer.low) & (truth <= answer.high)
    rows = np.stack([np.abs(answer.point - truth), covered, answer.log_density], axis=1)
    found: list[list[float]] = rows.round(6).tolist()
    return found


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *body]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _spread(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation over studies."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else "–"


def _grades(records: list[dict[str, Any]], table: str, setting: str) -> list[str]:
    """One table: methods × fractions."""
    body = []
    for fraction in FRACTIONS:
        mine = [
            r
            for r in records
            if (r["table"], r["setting"], r["fraction"], r["what"]) == (table, setting, fraction, "cheap")
        ]
        base = [g["error"] for r in mine for g in r["grades"]["last value"]]
        for name in methods.METHODS:
            grades = [g for r in mine for g in r["grades"][name]]
            if not grades:
                continue
            errors = [g["error"] for g in grades]
            body.append(
                [
                    f"{100 * fraction:.0f} %",
                    name,
                    _spread(errors, 4),
                    f"{np.mean(errors) / np.mean(base):.2f}",
                    _spread([g["tau"] for g in grades], 3),
                    _spread([g["likelihood"] for g in grades], 2),
                    f"{100 * np.mean([g['covered'] for g in grades]):.0f} %",
                    f"{np.median([g['us_per_curve'] for g in grades]):.0f}",
                    str(len(grades)),
                ]
            )
    head = [
        "cut at",
        "method",
        "absolute error",
        "÷ last value's",
        "Kendall's τ",
        "log-likelihood",
        "90 % covers",
        "µs a curve",
        "studies",
    ]
    return _table(head, body)


def _sampled(records: list[dict[str, Any]]) -> list[str]:
    """MCMC beside the others on the same few curves."""
    body = []
    setting = next(iter(SETTINGS))
    for table in TABLES:
        for fraction in FRACTIONS:
            at = {
                (r["seed"], r["what"]): r
                for r in records
                if (r["table"], r["setting"], r["fraction"]) == (table, setting, fraction)
            }
            seeds = [seed for seed, what in at if what == "MCMC" and (seed, "cheap") in at]
            if not seeds:
                continue
            took = np.mean([at[seed, "MCMC"]["us_per_curve"] for seed in seeds]) / 1e6
            few = {name: [e for s in seeds for e in at[s, "cheap"]["few"][name]] for name in methods.METHODS}
            few["MCMC ensemble"] = [e for s in seeds for e in at[s, "MCMC"]["few"]["MCMC"]]
            for name, each in few.items():
                error, covered, likelihood = np.array(each).T
                body.append(
                    [
                        table,
                        f"{100 * fraction:.0f} %",
                        name,
                        f"{error.mean():.4f} ± {error.std(ddof=1):.4f}",
                        f"{likelihood.mean():.2f} ± {likelihood.std(ddof=1):.2f}",
                        f"{100 * covered.mean():.0f} %",
                        f"{took:.1f}" if name.startswith("MCMC") else "",
                        str(len(each)),
                    ]
                )
    head = [
        "table",
        "cut at",
        "method",
        "absolute error",
        "log-likelihood",
        "90 % covers",
        "s a curve",
        "curves",
    ]
    return _table(head, body)


def markdown(records: list[dict[str, Any]]) -> str:
    """The report."""
    seeds = len({r["seed"] for r in records if r["what"] == "cheap"})
    sampled = {r["seed"] for r in records if r["what"] == "MCMC"}
    lines = [
        "# Where learning curves end",
        "",
        f"`python benchmarks/extrapolation/run.py --seeds {seeds}`, then `--mcmc {len(sampled)}`.",
        "",
        WHAT,
        "",
    ]
    for setting in SETTINGS:
        for table in TABLES:
            lines += [f"## {table}, {setting}", "", *_grades(records, table, setting), ""]
    lines += ["## MCMC, on few curves (30 finished, 170 partly)", "", *_sampled(records), ""]
    lines += [_runs.conditions("numpy", "scipy", "scikit-learn"), ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--mcmc", type=int, default=0, help="seeds of the MCMC ensemble, minutes each")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    try:
        for table in ("taskset_imdb_rnn", "lcdb_accuracy"):
            _tables.folder(table)
    except _tables.SkippedError as skipped:
        print(skipped)
        return 0
    records = list(_runs.read(RUNS))
    there = {
        tuple(_key(*(r[k] for k in ("table", "fraction", "setting", "seed", "what"))).values())
        for r in records
    }
    wanted = [
        (table, fraction, setting, seed)
        for seed in range(arguments.seeds)
        for table in TABLES
        for fraction in FRACTIONS
        for setting in SETTINGS
    ]
    _runs.add(RUNS, records, cheap, [w for w in wanted if (*w, "cheap") not in there], arguments.processes)
    setting = next(iter(SETTINGS))
    sampled = [w for w in wanted if w[2] == setting and w[3] < arguments.mcmc and (*w, "MCMC") not in there]
    _runs.add(RUNS, records, mcmc, sampled, arguments.processes)
    REPORT.write_text(markdown(records))
    print(f"{REPORT} drawn from {len(records)} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
