"""Draws boxes and arrows as SVG, legible on light and dark pages; knows no configurations.

What stands on the page itself (lines, captions) has mid-tones that suit light and dark pages alike, so a
dark notebook in a light browser does no harm. Boxes carry their own background; where the browser says that
the page is dark they turn dark too, and a reader of SVG without styles shows the light ones.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations, pairwise

from spaces.layout import Layout, layered

_MARGIN, _BETWEEN = 14.0, 44.0  # around everything, and between parts
_TITLE, _DETAIL, _HEADING, _CAPTION = 12.5, 11.0, 14.0, 11.5  # font sizes
_SMALLEST = 8.0  # font size below which a word is rather cut
_LEADING = 1.3  # line height as a multiple of the font size
_LIMITS = (280.0, 150.0, 84.0)  # what a line of a box may take: the first with which rows are not crowded
_CROWDED = 500.0  # width of a picture
_PAGE = 1000.0  # width that several parts should fit

# Contrast to white and to #0d1117, the darkest page in common use: at least 3 (lines), 4 (text).
_LINE, _TEXT = "#868e98", "#747c86"
_INK, _INK_DARK = "#14181d", "#f2f5f8"

# Kind → how a title of that kind reads, background on light pages and on dark ones.
_KINDS: Mapping[str, tuple[str, str, str]] = {
    "input": (r"^(input|cell input|c_\{?k|.*\binput$)", "#d7dde4", "#3b4552"),
    "output": (r"^(output|cell output|classifier|.*\boutput$)", "#d9c8ec", "#503b70"),
    "reduction": (r"reduction|downsample", "#f6bdb8", "#75312c"),
    "cell": (r"\bcells?\b", "#c6daf7", "#2c4470"),
    "join": (r"^(\+|add|sum|concat|join|×)", "#f3e5a1", "#5e5211"),
    "dilated": (r"dil", "#c9cbf6", "#40438a"),
    "bottleneck": (r"bottleneck|mbconv", "#9adfd6", "#14574f"),
    "separable": (r"sep|depthwise", "#a8ddb5", "#1f573a"),
    "pool": (r"pool", "#fdd0a2", "#74461b"),
    "identity": (r"identity|skip|none", "#e6e6e6", "#3d3d3d"),
    "linear": (r"linear|dense|layer|mlp", "#b5dbe8", "#1d5163"),
    "convolution": (r"conv|stem", "#9ecae9", "#1f4b73"),
    "other": (r"", "#dedede", "#474747"),
}

_NAMES: Mapping[str, str] = {
    "nor_conv_1x1": "conv 1×1",
    "nor_conv_3x3": "conv 3×3",
    "avg_pool": "average pool",
    "avg_pool_3x3": "average pool 3×3",
    "skip_connect": "skip",
    "conv": "convolution",
}


@dataclass(frozen=True, slots=True)
class Box:
    """One step of the network."""

    title: str
    detail: str = ""
    kind: str = ""
    """Its colour: a key of the table of kinds, such as ``pool``; by default the title tells it."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one box to a later one, by their positions."""

    source: int
    target: int
    label: str = ""
    """An operation on the way, drawn as a label with a colour of its own."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Boxes, each after those it reads, and what flows between them; without arrows a list of boxes.

    Raises:
        ValueError: if an arrow does not lead from a box to a later one.
    """

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    caption: str = ""

    def __post_init__(self) -> None:
        for arrow in self.arrows:
            if not 0 <= arrow.source < arrow.target < len(self.boxes):
                raise ValueError(
                    f"{arrow}: must lead from one of the {len(self.boxes)} boxes to a later one. "
                    "Order the boxes so that each comes after those it reads."
                )


def svg(pictures: Mapping[str, Picture]) -> str:
    """The pictures as one stand-alone SVG document; every text in it is escaped.

    Args:
        pictures: name of a part → its picture; with several parts the name stands above each.

    Raises:
        ValueError: if there is no picture.
    """
    if not pictures:
        raise ValueError("pictures={}: there must be at least one. Give a name and a Picture.")
    parts = [_part(name if len(pictures) > 1 else "", picture) for name, picture in pictures.items()]
    places, width, height = _arranged(parts)
    label = ", ".join(p.caption or name for name, p in pictures.items())
    size = f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, sans-serif" '
        f'role="img" aria-label="{_safe(label)}">',
        f"<style>{_style()}</style>",
    ]
    for part, (x, y) in zip(parts, places, strict=True):
        lines += part.drawn(x, y)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _style() -> str:
    rules = [f".bonas-{kind}{{fill:{dark}}}" for kind, (_, _, dark) in _KINDS.items()]
    return f"@media(prefers-color-scheme:dark){{.bonas-ink{{fill:{_INK_DARK}}}{''.join(rules)}}}"


# Text ----------------------------------------------------------------------------------------------


def outputs(n_classes: int) -> str:
    """What the last layer of a network gives, as its label."""
    return f"{n_classes} classes" if n_classes > 1 else "1 number"


def readable(text: str) -> str:
    """A name from a configuration as one reads it: ``sep_conv_3x3`` becomes ``sep conv 3×3``."""
    return _NAMES.get(text) or re.sub(r"(?<=\d)x(?=\d)", "×", re.sub(r"_(?!\{)", " ", text))


@dataclass(frozen=True, slots=True)
class _Text:
    """Lines of one size."""

    lines: tuple[str, ...]
    size: float
    bold: bool

    @property
    def width(self) -> float:
        return max((_length(line, self.size, self.bold) for line in self.lines), default=0.0)

    @property
    def height(self) -> float:
        return len(self.lines) * self.size * _LEADING

    def drawn(self, x: float, top: float, paint: str) -> list[str]:
        """The lines around x, the first one's upper edge at ``top``."""
        weight = ' font-weight="bold"' if self.bold else ""
        style = f'{paint} text-anchor="middle" font-size="{_n(self.size)}"{weight}'
        return [
            f'<text x="{_n(x)}" y="{_n(top + (i + 0.5) * self.size * _LEADING + 0.35 * self.size)}" '
            f"{style}>{_safe(line)}</text>"
            for i, line in enumerate(self.lines)
        ]


def _fitted(text: str, size: float, limit: float, bold: bool = False) -> _Text:
    """``text`` in lines of at most ``limit`` pixels: broken between words, then smaller, then cut."""
    if not text.strip():
        return _Text((), size, bold)
    words = _words(text, size, limit, bold)
    longest = max(_length(word.removesuffix(" ·"), size, bold) for word in words)
    if longest > limit:
        size = max(_SMALLEST, size * limit / longest)
        words = [
            _cut(word.removesuffix(" ·"), size, limit, bold) + " ·" * word.endswith(" ·") for word in words
        ]
    lines = _lines(words, size, bold, limit)
    # As many lines could be shorter: no line with one word left over.
    narrow, step = limit, limit / 2
    while step > 2:
        if len(_lines(words, size, bold, narrow - step)) == len(lines):
            narrow -= step
        step /= 2
    lines = _lines(words, size, bold, narrow)
    return _Text(tuple(line.removesuffix(" ·") for line in lines), size, bold)


def _lines(words: Sequence[str], size: float, bold: bool, limit: float) -> list[str]:
    lines = [words[0]]
    for word in words[1:]:
        if _length(f"{lines[-1]} {word}".removesuffix(" ·"), size, bold) <= limit:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _words(text: str, size: float, limit: float, bold: bool) -> list[str]:
    """What should not be separated: what stands between dots where that fits a line, else its words.

    A dot stays with what is before it.
    """
    items = " ".join(text.split()).split(" · ")
    words: list[str] = []
    for i, item in enumerate(items):
        dot = " ·" if i < len(items) - 1 else ""
        # A line's last dot is left out, so it needs no room.
        parts = [item] if _length(item, size, bold) <= limit else item.split(" ")
        words += [*parts[:-1], parts[-1] + dot]
    return words


def _cut(word: str, size: float, limit: float, bold: bool) -> str:
    if _length(word, size, bold) <= limit:
        return word
    while word and _length(word + "…", size, bold) > limit:
        word = word[:-1]
    return word + "…"


def _length(text: str, size: float, bold: bool) -> float:
    """About how wide a text is, in pixels; no font in common use is wider."""
    return sum(map(_advance, text)) * size * (1.08 if bold else 1.0)


def _advance(character: str) -> float:
    """Width of a character in ems: that of DejaVu Sans, the widest font a page may fall back to."""
    if character in "iIl.,:;|!'·()[] fjrt/-":
        return 0.41
    if character in "mwMW@%—…":
        return 1.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    return 0.75 if character.isupper() else 0.64


def _safe(text: str) -> str:
    """Escaped, and without the characters that no XML document may hold."""
    plain = "".join(c if c.isprintable() or c == " " else "\N{REPLACEMENT CHARACTER}" for c in text)
    return escape(plain)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


# One picture ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shape:
    """A box, or the label on an arrow, with its text."""

    title: _Text
    detail: _Text
    whole: str
    """Everything it says, for the pointer that rests on it."""
    kind: str
    label: bool

    @property
    def size(self) -> tuple[float, float]:
        inner = max(self.title.width, self.detail.width)
        high = self.title.height + self.detail.height
        if self.label:
            return inner + 14, high + 5
        return max(inner + 20, 34.0), max(high + 12, 28.0)

    def drawn(self, x: float, y: float) -> list[str]:
        """Around (x, y)."""
        wide, high = self.size
        _, fill, _ = _KINDS[self.kind]
        round_ = min(wide, high) / 2 if self.label or self.kind == "join" else 6
        area = (
            f'x="{_n(x - wide / 2)}" y="{_n(y - high / 2)}" width="{_n(wide)}" height="{_n(high)}" '
            f'rx="{_n(round_)}"'
        )
        top = y - (self.title.height + self.detail.height) / 2
        ink = f'class="bonas-ink" fill="{_INK}"'
        return [
            f"<g><title>{_safe(self.whole)}</title>"
            f'<rect {area} class="bonas-{self.kind}" fill="{fill}" stroke="{_LINE}"/>',
            *self.title.drawn(x, top, ink),
            *self.detail.drawn(x, top + self.title.height, ink),
            "</g>",
        ]


@dataclass(frozen=True, slots=True)
class _Part:
    """A picture with its heading and caption, laid out."""

    heading: _Text
    caption: _Text
    shapes: tuple[_Shape, ...]
    centres: tuple[tuple[float, float], ...]
    ways: tuple[tuple[tuple[tuple[float, float, float], ...], ...], ...]
    """For every arrow its stretches: one sequence, or two with the label between them."""
    inner: tuple[float, float]

    @property
    def size(self) -> tuple[float, float]:
        width = max(self.inner[0], self.heading.width, self.caption.width)
        return width, self._above + self.inner[1]

    @property
    def _above(self) -> float:
        words = self.heading.height + self.caption.height
        return words + 12 if words else 0.0

    def drawn(self, x: float, y: float) -> list[str]:
        """With the upper left corner at (x, y)."""
        width = self.size[0]
        lines = self.heading.drawn(x + width / 2, y, f'fill="{_TEXT}"')
        lines += self.caption.drawn(x + width / 2, y + self.heading.height, f'fill="{_TEXT}"')
        x, y = x + (width - self.inner[0]) / 2, y + self._above
        for way in self.ways:
            lines.append(_arrow(way, x, y))
        for shape, (a, b) in zip(self.shapes, self.centres, strict=True):
            lines += shape.drawn(x + a, y + b)
        return lines


def _part(name: str, picture: Picture) -> _Part:
    """The picture laid out; where a row would be too wide its texts are broken into more lines."""
    ends: list[tuple[int, int]] = []
    labelled: list[str] = []
    for arrow in picture.arrows:
        if arrow.label:  # a label is a node on the way, so nothing can lie over it
            middle = len(picture.boxes) + len(labelled)
            labelled.append(arrow.label)
            ends += [(arrow.source, middle), (middle, arrow.target)]
        else:
            ends.append((arrow.source, arrow.target))
    order = _sorted(len(picture.boxes) + len(labelled), ends)
    number = {node: i for i, node in enumerate(order)}
    edges = [(number[a], number[b]) for a, b in ends]

    def laid(limit: float) -> tuple[list[_Shape], Layout]:
        found = [_of_box(box, limit) for box in picture.boxes] + [_of_label(text, limit) for text in labelled]
        return found, layered([found[node].size for node in order], edges)

    for limit in _LIMITS:
        found, layout = laid(limit)
        if layout.width <= _CROWDED:
            break
    ways, at = [], 0
    for arrow in picture.arrows:
        pieces = 2 if arrow.label else 1
        ways.append(layout.ways[at : at + pieces])
        at += pieces
    room = max(layout.width, 240.0)
    return _Part(
        heading=_fitted(name, _HEADING, room, bold=True),
        caption=_fitted(picture.caption, _CAPTION, room),
        shapes=tuple(found),
        centres=tuple(layout.centres[number[node]] for node in range(len(found))),
        ways=tuple(ways),
        inner=(layout.width, layout.height),
    )


def _sorted(n: int, edges: Iterable[tuple[int, int]]) -> list[int]:
    """Nodes in an order in which every edge leads to a later one, boxes otherwise as they were given."""
    # A label stands just before the box its arrow leads to.
    before: dict[int, list[int]] = {}
    labels = {source: target for source, target in edges if target < source}
    for label, target in labels.items():
        before.setdefault(target, []).append(label)
    return [node for box in range(n) if box not in labels for node in (*before.get(box, ()), box)]


def _of_box(box: Box, limit: float) -> _Shape:
    title, detail = readable(box.title), box.detail
    kind = box.kind if box.kind in _KINDS else _kind(box.title)
    return _Shape(
        _fitted(title, _TITLE, limit, bold=True),
        _fitted(detail, _DETAIL, limit),
        " ".join(f"{title}: {detail}".split() if detail else title.split()),
        kind,
        label=False,
    )


def _of_label(text: str, limit: float) -> _Shape:
    label = readable(text)
    return _Shape(
        _fitted(label, _DETAIL, limit),
        _fitted("", 1, limit),
        " ".join(label.split()),
        _kind(text),
        label=True,
    )


def _kind(title: str) -> str:
    lower = title.lower().replace("_", " ") if not title.startswith("c_") else title.lower()
    return next(kind for kind, (pattern, _, _) in _KINDS.items() if re.search(pattern, lower))


def _arrow(way: Sequence[Sequence[tuple[float, float, float]]], x: float, y: float) -> str:
    """The line along its stretches, and the tip at its end; a label interrupts it."""
    path = []
    for piece in way:
        a, start, end = piece[0]
        path.append(f"M{_n(x + a)} {_n(y + start)}V{_n(y + end)}")
        for (a, _, above), (b, below, end) in pairwise(piece):
            middle = y + (above + below) / 2
            curve = f"C{_n(x + a)} {_n(middle)} {_n(x + b)} {_n(middle)} {_n(x + b)} {_n(y + below)}"
            path.append(f"{curve}V{_n(y + end)}")
    a, _, end = way[-1][-1]
    tip = f"M{_n(x + a)} {_n(y + end)}l-3.6 -7.2h7.2z"
    return (
        f'<path d="{"".join(path)}" fill="none" stroke="{_LINE}" stroke-width="1.5"/>'
        f'<path d="{tip}" fill="{_LINE}"/>'
    )


# Several pictures -------------------------------------------------------------------------------------


def _arranged(parts: Sequence[_Part]) -> tuple[list[tuple[float, float]], float, float]:
    """The parts in columns, in the order given: their corners, width and height of all."""
    best: tuple[float, list[tuple[float, float]], float, float] | None = None
    for starts in _columns(len(parts)):
        places, x, y, wide, high = [], _MARGIN, _MARGIN, 0.0, 0.0
        for i, part in enumerate(parts):
            width, height = part.size
            if i in starts:
                x, y, wide = x + wide + _BETWEEN, _MARGIN, 0.0
            places.append((x, y))
            wide, high = max(wide, width), max(high, y + height)
            y += height + _BETWEEN
        width, height = x + wide + _MARGIN, high + _MARGIN
        # What is wider than the page is shown smaller; what is higher is scrolled.
        score = 4 * max(width / _PAGE, 1.0) + height / _PAGE
        if best is None or score < best[0]:
            best = score, places, width, height
    assert best is not None
    return best[1:]


def _columns(n: int) -> Iterator[set[int]]:
    """Ways to cut n parts into columns, as the parts that begin one: all of a few, even ones of many."""
    if n <= 7:
        for columns in range(n):
            yield from map(set, combinations(range(1, n), columns))
    else:
        for columns in range(1, n + 1):
            yield {round(i * n / columns) for i in range(1, columns)}
