"""How well every cheap evaluation ranks networks, and what it costs, from the recorded table; trains nothing.

    python benchmarks/proxies.py

Writes ``results/proxies.md`` and ``docs/images/proxies.png``. ``python benchmarks/tables/record.py`` records
the table.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tables

from bonas._picture import Picture
from fidelity.axes import Axes
from fidelity.calibration import Reduced, recommended, trusted
from fidelity.proxies import LEVEL, RankCorrelation, rank_correlation, top
from fidelity.records import Fidelity
from fidelity.schedulers import SuccessiveHalving

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "proxies.md"
PICTURE = ROOT / "docs" / "images" / "proxies.png"

# Which epochs of a run are of interest, besides its last.
SHORTER = {"full": (1, 2, 3, 4, 6, 8), "data low": (1, 3, 6), "data middle": (3, 6), "ladder": (3, 6)} | {
    "all low": (1, 3, 6),
    "all middle": (3, 6),
}
SAID = {
    "full": "epochs alone",
    "data low": "subset 0.25, resolution 14",
    "data middle": "subset 0.5, resolution 20",
    "all low": "subset 0.25, resolution 14, width 0.5, depth 0.5",
    "all middle": "subset 0.5, resolution 20, width 0.5, depth 0.5",
    "ladder": "ladder: carried from 0.25 and 14 over 0.5 and 20 to full",
}
BUDGET = 20.0  # full evaluations that a ladder is recommended for


@dataclass(frozen=True)
class Row:
    """One cheap evaluation."""

    run: str
    epochs: int
    nominal: float
    """Cost of one evaluation relative to a full one, by the formula."""
    seconds: float
    """Likewise, measured."""
    over_all: RankCorrelation
    among_top: RankCorrelation


def rows(table: tables.Table) -> list[Row]:
    """Every evaluation of interest beside the full one, dearest first within a run."""
    rng = np.random.default_rng(0)
    loss = 1 - table.accuracy("full")[:, -1]
    best = top(loss)
    full = table.measured("seconds", "full").sum(axis=1)  # NaN for those that diverged
    axes = _axes(table)
    found = []
    for run, fidelities in table.runs.items():
        at = np.arange(len(table))
        if run in table.conditions["of_a_part"]:
            at = np.flatnonzero(table.ended[:, list(table.runs).index(run)] != tables.MISSING)
        mine = 1 - table.accuracy(run)
        seconds = table.measured("seconds", run).cumsum(axis=1)
        for epochs in (*SHORTER.get(run, ()), table.epochs):
            if run == "full" and epochs == table.epochs:
                continue
            k = epochs - 1
            both = at[np.isfinite(seconds[at, -1]) & np.isfinite(full[at])]
            among = np.intersect1d(at, best)
            found.append(
                Row(
                    run,
                    epochs,
                    sum(axes.epoch_cost(f) for f in fidelities[:epochs]),
                    float(seconds[both, k].sum() / full[both].sum()),
                    rank_correlation(mine[at, k], loss[at], rng),
                    rank_correlation(mine[among, k], loss[among], rng),
                )
            )
    return found


def _axes(table: tables.Table) -> Axes:
    """Axes over all that was recorded, for nominal costs."""
    every = [f for run in table.runs.values() for f in run]
    return Axes(
        epochs=(1, table.epochs),
        subset=(min(f.subset for f in every), 1.0),
        resolution=(min(int(f.resolution or 28) for f in every), 28),
        width=(min(f.width for f in every), 1.0),
        depth=(min(f.depth for f in every), 1.0),
    )


def sizes(table: tables.Table) -> dict[str, tuple[RankCorrelation, RankCorrelation]]:
    """What networks' sizes alone rank; larger first."""
    rng = np.random.default_rng(0)
    loss = 1 - table.accuracy("full")[:, -1]
    best = top(loss)
    return {
        name: (rank_correlation(-size, loss, rng), rank_correlation(-size[best], loss[best], rng))
        for name, size in {"parameter count": table.parameters, "MACs": table.macs}.items()
    }


def recommendation(table: tables.Table, found: list[Row]) -> str:
    """The ladder that ``fidelity.calibrate`` would recommend, from the rows that reduce one axis alone."""
    axes = _axes(table)
    data = axes.to_dict()
    reduced = []
    for axis in axes.axes:
        if axis.name not in axes.carry:
            del data["axes"][axis.name]
            continue
        if axis.name == "epochs":
            rows = {float(row.epochs): row for row in found if row.run == "full"}
        else:
            rows = {
                float(row.run.split()[1]): row
                for row in found
                if row.run.split()[0] == axis.name and row.epochs == table.epochs
            }
        reduced += [
            Reduced(axis.name, value, row.nominal, row.seconds, row.over_all, row.among_top)
            for value, row in rows.items()
        ]
        data["axes"][axis.name] = {"values": [min(rows), axis.high], "listed": False}
    size = trusted(sizes(table)["parameter count"][0])
    ladder = recommended(Axes.from_dict(data), reduced, size, BUDGET, np.random.default_rng(0))
    rungs = SuccessiveHalving(n_rungs=len(ladder.costs)).rungs(ladder.axes)
    steps = (
        f"{said(rung, table.epochs)} (cost {cost:.3f})"
        for rung, cost in zip(rungs, ladder.costs, strict=True)
    )
    return (
        f"For {BUDGET:.0f} full evaluations the rule of `fidelity.calibrate`, from the rows of single axes\n"
        f"along which state carries, recommends: {'; '.join(steps)}."
    )


def said(rung: Fidelity, epochs: int) -> str:
    """A rung in words."""
    parts = [f"{rung.epochs} epoch{'s' * (rung.epochs > 1)}"]
    parts += [f"subset {rung.subset:.2g}"] * (rung.subset < 1)
    parts += [f"resolution {rung.resolution}"] * (rung.resolution not in (None, 28))
    parts += [f"{name} {getattr(rung, name):g}" for name in ("width", "depth") if getattr(rung, name) < 1]
    return "everything" if parts == [f"{epochs} epochs"] else ", ".join(parts)


def markdown(table: tables.Table, found: list[Row]) -> str:
    n_top = len(top(table.accuracy("full")[:, -1]))
    lines = [
        f"Kendall's τ_b with the accuracy after the full {table.epochs} epochs, over all {len(table)}",
        f"networks and among the {n_top} best of them, with {LEVEL:.0%} intervals (`fidelity.proxies`).",
        "Cost is relative to a full evaluation: by the formula, and measured, validation included.",
        "",
        "| evaluation | epochs | cost, nominal | cost, measured | τ, all | τ, top tenth |",
        "|---|---|---|---|---|---|",
    ]
    for row in found:
        said = SAID.get(row.run, row.run)
        lines.append(
            f"| {said} | {row.epochs} | {row.nominal:.3f} | {row.seconds:.3f} "
            f"| {row.over_all} | {row.among_top if row.among_top.n >= 5 else '–'} |"
        )
    for name, (over_all, among_top) in sizes(table).items():
        lines.append(f"| {name} | – | 0 | 0 | {over_all} | {among_top} |")
    lines += ["", recommendation(table, found)]
    seconds = sum(float(np.nansum(table.values["seconds"][:, k])) for k in range(len(table.runs)))
    diverged = int((table.ended == tables.DIVERGED).sum())
    c = table.conditions
    lines += [
        "",
        f"{len(table)} networks of the chain space with hyperparameters, at most {c['max_macs']:,} MACs;",
        f"{c['train']:,} images of Fashion-MNIST's training split to train on, {c['val']:,} to evaluate on;",
        f"{seconds / 3600:.1f} hours recorded, {diverged} trainings diverged. {'; '.join(c['machines'])}.",
    ]
    return "\n".join(lines)


def draw(table: tables.Table, measured: list[Row]) -> Any:
    """Rank correlation against measured cost, over all networks and among the best."""
    figure = Picture(figsize=(11, 4.6), dpi=120, layout="constrained", facecolor="white")
    found = [row for row in measured if row.run not in table.conditions["of_a_part"]]
    [again] = [row for row in measured if row.run in table.conditions["of_a_part"]]
    size = sizes(table)["parameter count"]
    groups = {
        "epochs": ["full"],
        "subset": ["subset 0.25", "subset 0.5"],
        "resolution": ["resolution 14", "resolution 20"],
        "width": ["width 0.25", "width 0.5"],
        "depth": ["depth 0.5"],
        "subset and resolution": ["data low", "data middle"],
        "all axes": ["all low", "all middle"],
        "the ladder": ["ladder"],
    }
    colours = ["#2c6fbb", "#7aa6d6", "#1b9e77", "#8c6bb1", "#b39ddb", "#a9b4c2", "#5c6670", "#d95f02"]
    markers = "os^vPDXo"
    panels = figure.subplots(1, 2, sharex=True)
    n_top = len(top(table.accuracy("full")[:, -1]))
    titles = (f"all {len(table)} networks", f"the best {n_top}")
    for panel, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        for (label, runs), colour, marker in zip(groups.items(), colours, markers, strict=True):
            mine = sorted((r for r in found if r.run in runs), key=lambda r: r.seconds)
            taus = [(r.over_all, r.among_top)[panel] for r in mine]
            spread = [[t.tau - t.low for t in taus], [t.high - t.tau for t in taus]]
            axes.errorbar(
                [r.seconds for r in mine],
                [t.tau for t in taus],
                yerr=spread if panel == 0 else None,
                color=colour,
                marker=marker,
                markersize=6,
                linewidth=1.6 if label in ("epochs", "the ladder") else 0,
                elinewidth=0.7,
                label=label,
                zorder=3 if label in ("epochs", "the ladder") else 2,
            )
        axes.axhline(size[panel].tau, color="#5c6670", linestyle=":", linewidth=1.2)
        axes.text(0.01, size[panel].tau, "parameter count", transform=axes.get_yaxis_transform(), va="bottom")
        if panel == 0:
            axes.axhline(again.over_all.tau, color="#9aa4ae", linestyle="--", linewidth=1)
            axes.text(
                0.01, again.over_all.tau, "a second seed", transform=axes.get_yaxis_transform(), va="bottom"
            )
        axes.set_xscale("log")
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color="#222222")
        axes.set_xlabel("measured cost, full evaluation = 1")
        axes.grid(color="#e3e6ea", linewidth=0.8)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0].set_ylabel("Kendall's τ with the full evaluation")
    panels[1].legend(frameon=False, fontsize=8, loc="best")
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=tables.FASHION_MNIST_CHAIN)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    table = tables.read(arguments.table).complete()
    found = rows(table)
    text = markdown(table, found)
    arguments.results.write_text(text + "\n")
    draw(table, found).savefig(arguments.picture, dpi=144)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
