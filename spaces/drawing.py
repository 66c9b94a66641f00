"""Draws boxes and arrows as SVG, legible on light and dark pages; knows no configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, GAP, MARGIN = 260, 44, 26, 14
"""Of a box and the space around it, in pixels."""
_LANE, _LABELLED_LANE = 22, 112  # between arrows that pass boxes at the side, without and with a label
_SMALL, _CHARACTER = 11.0, 0.55  # size of the small font, and an average character's width in it

# Mid-tones with enough contrast to white and to black pages alike; text inside a box is always dark.
_COLOURS: Mapping[str, str] = {
    "conv": "#9ecae9",
    "separable": "#a8ddb5",
    "max_pool": "#fdd0a2",
    "avg_pool": "#fdd0a2",
    "classifier": "#d4c4e8",
}
_LABELS: Mapping[str, str] = {
    "nor_conv_1x1": "conv 1×1",
    "nor_conv_3x3": "conv 3×3",
    "avg_pool_3x3": "average pool 3×3",
    "skip_connect": "skip",
}
_EDGE = "#7f7f7f"


@dataclass(frozen=True, slots=True)
class Box:
    """One step of the network."""

    title: str
    detail: str


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one box to a later one, by their positions."""

    source: int
    target: int
    label: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """Boxes from top to bottom, and what flows between them."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    caption: str = ""


def svg(picture: Picture) -> str:
    """The picture as a stand-alone SVG document; every text in it is escaped."""
    labelled = any(arrow.label for arrow in picture.arrows)
    gap = GAP + 14 if labelled else GAP
    lanes = _lanes(picture.arrows)
    right = max([0, *lanes.values()])
    caption = 24 if picture.caption else 0
    lane = _LABELLED_LANE if labelled else _LANE
    width = MARGIN * 2 + WIDTH + right * lane
    height = MARGIN * 2 + len(picture.boxes) * (HEIGHT + gap) - gap + caption
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" role="img" '
        f'aria-label="{escape(picture.caption or "network")}">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{_EDGE}"/></marker></defs>',
    ]
    tops = [MARGIN + i * (HEIGHT + gap) for i in range(len(picture.boxes))]
    parts += [_arrow(arrow, tops, lanes.get(arrow, 0), lane) for arrow in picture.arrows]
    parts += [_box(box, top) for box, top in zip(picture.boxes, tops, strict=True)]
    if picture.caption:
        middle = MARGIN + WIDTH / 2
        parts.append(_text(middle, height - MARGIN, picture.caption, f'fill="{_EDGE}" text-anchor="middle"'))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _lanes(arrows: tuple[Arrow, ...]) -> dict[Arrow, int]:
    """A lane of its own at the side for each arrow that passes a box, short ones inside."""
    passing = sorted((a for a in arrows if a.target - a.source > 1), key=lambda a: a.target - a.source)
    lanes: dict[Arrow, int] = {}
    for arrow in passing:
        taken = {lanes[o] for o in lanes if o.source < arrow.target and arrow.source < o.target}
        lanes[arrow] = next(n for n in range(1, len(passing) + 1) if n not in taken)
    return lanes


def _box(box: Box, top: float) -> str:
    middle = MARGIN + WIDTH / 2
    fill = _COLOURS.get(box.title, "#d9d9d9")
    area = f'width="{WIDTH}" height="{HEIGHT}" rx="6"'
    shape = f'<rect x="{MARGIN}" y="{top}" {area} fill="{fill}" stroke="{_EDGE}"/>'
    title = box.title.replace("_", " ")
    bold = 'fill="#111" text-anchor="middle" font-weight="bold"'
    if not box.detail:
        return shape + _text(middle, top + HEIGHT / 2 + 4, title, bold)
    size = min(_SMALL, (WIDTH - 16) / (len(box.detail) * _CHARACTER))
    style = f'fill="#222" text-anchor="middle" font-size="{size:.1f}"'
    detail = _text(middle, top + 34, box.detail, style)
    return shape + _text(middle, top + 18, title, bold) + detail


def _arrow(arrow: Arrow, tops: list[int], lane: int, lane_width: int) -> str:
    label = _LABELS.get(arrow.label, arrow.label)
    start, end = tops[arrow.source] + HEIGHT, tops[arrow.target]
    style = f'fill="none" stroke="{_EDGE}" stroke-width="1.5" marker-end="url(#tip)"'
    if lane == 0:
        x = MARGIN + WIDTH / 2
        line = f'<path d="M{x} {start}V{end - 1}" {style}/>'
        return line + (_text(x + 8, (start + end) / 2 + 4, label, f'fill="{_EDGE}"') if label else "")
    edge = MARGIN + WIDTH
    x = edge + 20 + (lane - 1) * lane_width
    # Ends are spread along the box's side so that several arrows stay apart.
    out, into = start - HEIGHT / 2 + min(4 * lane, 16), end + HEIGHT / 2 - min(4 * lane, 16)
    way = f"M{edge} {out}H{x - 6}Q{x} {out} {x} {out + 6}V{into - 6}Q{x} {into} {x - 6} {into}H{edge + 1}"
    line = f'<path d="{way}" {style}/>'
    return line + (_text(x + 5, (out + into) / 2 + 4, label, f'fill="{_EDGE}"') if label else "")


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x}" y="{y}" {style}>{escape(text)}</text>'
