"""The look of every picture of a study: colours, an empty canvas and a chart on it; knows no studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# One accent for the winner, one dark line for the hand-written default, the rest recedes. The colours
# keep their contrast on white for the common kinds of colour blindness (blue against orange).
BEST = "#d95f02"
FULL = "#2c6fbb"
PARTIAL = "#a9b4c2"
DEFAULT = "#333333"
GRID = "#e3e6ea"
INK = "#222222"
SOFT = "#5c6670"


def canvas(width: float = 7.2) -> Any:
    """An empty ``Figure``, ``width`` inches wide."""
    from bonas._picture import Picture

    return Picture(figsize=(width, 4.2), dpi=120, layout="constrained", facecolor="white")


def chart(figure: Any, title: str, subtitle: str, x: str) -> Any:
    """Axes with a title, a line below it and the name of what runs along them."""
    axes = figure.add_subplot()
    axes.set_facecolor("white")
    axes.set_title(title, loc="left", fontsize=12, color=INK, fontweight="bold", pad=22)
    axes.text(0, 1.02, subtitle, transform=axes.transAxes, fontsize=9, color=SOFT, va="bottom")
    axes.set_xlabel(x, color=INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=SOFT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#9aa4ae")
    return axes


def legend(figure: Any, axes: Any, order: Sequence[str]) -> None:
    """What the marks mean, below the picture: inside it would cover observations.

    Args:
        figure: the figure.
        axes: whose labels to explain, each once.
        order: the beginnings of the labels, in the order to show them.
    """
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    names = sorted(unique, key=lambda n: [not n.startswith(start) for start in order])
    if names:
        figure.legend(
            [unique[n] for n in names],
            names,
            loc="outside lower center",
            ncols=4,
            fontsize=8.5,
            handlelength=1.6,
            handletextpad=0.6,
            columnspacing=1.4,
            frameon=False,
            labelcolor=INK,
        )


def nothing(axes: Any, text: str) -> None:
    """Say in the middle of an empty picture why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=SOFT)
