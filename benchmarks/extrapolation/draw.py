"""Draws forecasts on real curves, and what they say against what happened; makes no measurements that count.

    BONAS_BENCHMARKS=DIR python benchmarks/extrapolation/draw.py

The pictures of ``docs/extrapolation.md``: one study of TaskSet and one of LCDB, as the benchmark draws them.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import _tables
import numpy as np
from matplotlib.ticker import NullLocator, PercentFormatter

from bonas._picture import Picture
from extrapolation.curves import TABLES, Study, studies
from fidelity import CurveExtrapolator

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SEED, TASK, FRACTION = 0, 0, 0.2
FINISHED, PARTLY, HELD = 30, 170, 300
BLUE, BLACK, GREY = "#1f77b4", "#222222", "#999999"
KINDS = (("moves less than 3 in 4", 0.25), ("more than 19 in 20", 0.955), ("the most", 1.0))


def chosen(study: Study, whole: list[np.ndarray]) -> list[int]:
    """Three of the curves held out, by how much they move from the cut to the end."""
    moved = np.array([abs(w[-1] - v[-1]) for w, (_, v) in zip(whole, study.curves[study.held], strict=True)])
    order = np.argsort(moved)
    return [int(order[int(part * (len(order) - 1))]) for _, part in KINDS]


def forecasts(path: Path) -> None:
    """Curves up to the cut, fans of what was forecast for every later epoch, and what happened."""
    study = studies("TaskSet", SEED, FRACTION, FINISHED, PARTLY, HELD)[TASK]
    curves = TABLES["TaskSet"]()[TASK]
    order = np.random.default_rng([SEED, TASK]).permutation(len(curves))[: len(study.curves)]
    whole = [curves[i][1] for i in order][study.held]
    epochs = curves[0][0]
    later = epochs[epochs > FRACTION * epochs[-1]][::2]
    rows = [study.held.start + k for k in chosen(study, whole)]
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    fans = [
        CurveExtrapolator().predict(study.curves, epoch).among(np.array(rows)).quantiles(levels)
        for epoch in later
    ]
    picture = Picture(figsize=(9, 2.9), layout="constrained")
    for k, ax in enumerate(picture.subplots(1, 3, sharey=True)):
        seen, values = study.curves[rows[k]]
        fan = np.stack([f[k] for f in fans])
        ax.fill_between(later, fan[:, 0], fan[:, 4], color=BLUE, alpha=0.2, linewidth=0, label="90 %")
        ax.fill_between(later, fan[:, 1], fan[:, 3], color=BLUE, alpha=0.35, linewidth=0, label="50 %")
        ax.plot(later, fan[:, 2], color=BLUE, linewidth=1.2, label="median")
        after = epochs >= seen[-1]
        ax.plot(epochs[after], whole[rows[k] - study.held.start][after], color=GREY, label="what happened")
        ax.plot(seen, values, color=BLACK, linewidth=2, label="seen")
        ax.set_title(KINDS[k][0], fontsize=10)
        ax.set_xlabel("checkpoint")
        ax.spines[["top", "right"]].set_visible(False)
    picture.axes[0].set_ylabel("loss ÷ loss before training")
    picture.axes[0].legend(frameon=False, fontsize=8, loc="lower left")
    picture.savefig(path, dpi=90)


def calibration(path: Path) -> None:
    """How often the end lay below each forecast quantile, pooled over studies."""
    picture = Picture(figsize=(7, 3.3), layout="constrained")
    levels = np.arange(1, 20) / 20
    for ax, table in zip(picture.subplots(1, 2, sharey=True), TABLES, strict=True):
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
        for fraction, colour in ((0.1, "#9ecae1"), (0.2, "#4292c6"), (0.5, "#08306b")):
            below = []
            for seed in range(1 if table == "TaskSet" else 6):
                for study in studies(table, seed, fraction, FINISHED, PARTLY, HELD):
                    ends = CurveExtrapolator().predict(study.curves, study.horizon).among(study.held)
                    off = study.truth[:, None] - ends.quantiles(levels)
                    # Of curves that do not move at all, half end below the median.
                    below.append(((off < -1e-9).mean(0) + (off <= 1e-9).mean(0)) / 2)
            said = np.mean(below, axis=0)
            ax.plot(levels, said, "o-", color=colour, markersize=3, label=f"cut at {100 * fraction:.0f} %")
        ax.set_title(table, fontsize=10)
        ax.set_xlabel("forecast probability of ending below")
        ax.set_aspect("equal")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
            axis.set_minor_locator(NullLocator())
        ax.spines[["top", "right"]].set_visible(False)
    picture.axes[0].set_ylabel("how often it did")
    picture.axes[0].legend(frameon=False, fontsize=8)
    picture.savefig(path, dpi=90)


def main() -> int:
    try:
        forecasts(IMAGES / "extrapolation.png")
        calibration(IMAGES / "extrapolation_calibration.png")
    except _tables.SkippedError as skipped:
        print(skipped)
    return 0


if __name__ == "__main__":
    sys.exit(main())
