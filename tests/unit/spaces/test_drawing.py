"""Drawings: every box and arrow is there, nothing overlaps, any text is harmless and legible."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.drawing import Arrow, Box, Picture, svg

WORDS = ["conv", "sep_conv_3x3", "+", "average pool 3×3", "inverted_bottleneck", "漢字", "m" * 60, ""]
SVG = "{http://www.w3.org/2000/svg}"


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    n = draw(st.integers(1, 9))
    words = st.sampled_from(WORDS)
    boxes = tuple(Box(draw(words), draw(words)) for _ in range(n))
    pairs = list(itertools.combinations(range(n), 2))
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=14)) if pairs else []
    return Picture(boxes, tuple(Arrow(a, b, draw(words)) for a, b in chosen), draw(words))


def rectangles(root: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) of every box and label."""
    found = []
    for rect in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        found.append((x, y, x + w, y + h))
    return found


def lines(root: ElementTree.Element) -> list[list[list[tuple[float, float]]]]:
    """For every arrow its pieces, each as points along it."""
    return [
        [list(points(piece)) for piece in path.attrib["d"].split("M")[1:]]
        for path in root.iter(f"{SVG}path")
        if path.attrib["fill"] == "none"
    ]


def points(piece: str) -> Iterator[tuple[float, float]]:
    words = re.findall(r"[VC]?[^VC]+", piece)
    x, y = map(float, words[0].split())
    yield x, y
    for word in words[1:]:
        numbers = [float(n) for n in word[1:].split()]
        curve = list(zip(numbers[::2], numbers[1::2], strict=False))
        ways = [(x, y), (x, numbers[0])] if word[0] == "V" else [(x, y), *curve]
        for t in (i / 12 for i in range(1, 13)):
            yield _bezier(ways, t)
        x, y = ways[-1]


def _bezier(ends: list[tuple[float, float]], t: float) -> tuple[float, float]:
    while len(ends) > 1:
        ends = [(a + t * (c - a), b + t * (d - b)) for (a, b), (c, d) in itertools.pairwise(ends)]
    return ends[0]


class TestRandomGraphs:
    @settings(deadline=None, max_examples=80)
    @given(st.lists(pictures(), min_size=1, max_size=3))
    def test_nothing_overlaps_and_nothing_leaves_the_page(self, several: list[Picture]) -> None:
        root = ElementTree.fromstring(svg({str(i): picture for i, picture in enumerate(several)}))
        boxes = rectangles(root)
        assert len(boxes) == sum(len(p.boxes) + sum(bool(a.label) for a in p.arrows) for p in several)
        for a, b in itertools.combinations(boxes, 2):
            assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1], (a, b)
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        places = [point for way in lines(root) for piece in way for point in piece]
        places += [corner for a, b, c, d in boxes for corner in ((a, b), (c, d))]
        assert all(0 < x < width and 0 < y < height for x, y in places)

    @settings(deadline=None, max_examples=80)
    @given(pictures())
    def test_every_arrow_joins_its_boxes_and_crosses_none(self, picture: Picture) -> None:
        root = ElementTree.fromstring(svg({"part": picture}))
        boxes, ways = rectangles(root), lines(root)
        labels = iter(boxes[len(picture.boxes) :])
        assert len(ways) == len(picture.arrows)
        for arrow, way in zip(picture.arrows, ways, strict=True):
            stops = [boxes[arrow.source], *([next(labels)] if arrow.label else []), boxes[arrow.target]]
            assert len(way) == len(stops) - 1
            for piece, (above, below) in zip(way, itertools.pairwise(stops), strict=True):
                assert above[0] <= piece[0][0] <= above[2]
                assert piece[0][1] == pytest.approx(above[3], abs=0.2)
                assert below[0] <= piece[-1][0] <= below[2]
                assert piece[-1][1] == pytest.approx(below[1], abs=0.2)
                for a, b, c, d in boxes:
                    assert not any(a + 0.2 < x < c - 0.2 and b + 0.2 < y < d - 0.2 for x, y in piece)

    @settings(deadline=None, max_examples=50)
    @given(pictures())
    def test_the_same_picture_is_drawn_the_same(self, picture: Picture) -> None:
        assert svg({"part": picture}) == svg({"part": picture})


class TestText:
    @settings(deadline=None, max_examples=100)
    @given(st.text(st.characters(codec=None), max_size=20), st.text(max_size=20))
    def test_no_text_can_break_the_document(self, evil: str, more: str) -> None:
        picture = Picture((Box(evil, more), Box(more, evil)), (Arrow(0, 1, evil),), evil)
        root = ElementTree.fromstring(svg({evil: picture, more + "2": picture}).encode())
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
            "svg", "style", "g", "title", "rect", "text", "path",
        }  # fmt: skip

    def test_text_is_shown_as_it_is(self) -> None:
        picture = Picture((Box("<b>", 'a & "b"'), Box("x", "")), (Arrow(0, 1, "</svg>"),), "<script>")
        root = ElementTree.fromstring(svg({"part": picture}))
        assert {t.text for t in root.iter(f"{SVG}text")} == {"<b>", 'a & "b"', "x", "</svg>", "<script>"}

    def test_a_long_text_is_whole_for_the_pointer(self) -> None:
        long = "w" * 300
        root = ElementTree.fromstring(svg({"part": Picture((Box(long), Box("")), (Arrow(0, 1),))}))
        assert long in {t.text for t in root.iter(f"{SVG}title")}

    def test_text_stays_inside_its_box_in_a_wide_font(self) -> None:
        from matplotlib.font_manager import FontProperties, findfont
        from matplotlib.ft2font import FT2Font

        details = "3×3 · 128 filters · stride 2 · group · leaky_relu"
        boxes = (
            Box("inverted bottleneck", details),
            Box("WWW mmm @@@ MMM", "%" * 90),
            Box("sep_conv_3x3 " * 6, " · ".join(["average pool"] * 9)),
            Box("c_{k-1}"),
        )
        arrows = tuple(Arrow(a, 3, "dilated convolution 5×5, rate 2") for a in range(3))
        for picture in (Picture(boxes, arrows), Picture(boxes, ())):
            for group in ElementTree.fromstring(svg({"part": picture})).iter(f"{SVG}g"):
                rect = group.find(f"{SVG}rect")
                assert rect is not None
                for text in group.iter(f"{SVG}text"):
                    weight = text.attrib.get("font-weight", "normal")
                    font = FT2Font(findfont(FontProperties(family="DejaVu Sans", weight=weight)))
                    font.set_size(float(text.attrib["font-size"]), 72)
                    font.set_text(text.text or "", 0)
                    assert font.get_width_height()[0] / 64 < float(rect.attrib["width"])

    def test_names_of_operations_are_readable(self) -> None:
        root = ElementTree.fromstring(svg({"part": Picture((Box("sep_conv_3x3"), Box("skip_connect")), ())}))
        assert [t.text for t in root.iter(f"{SVG}text")] == ["sep conv 3×3", "skip"]


class TestLightAndDark:
    KINDS = ("conv", "sep_conv", "dil_conv", "max_pool", "skip", "input", "classifier", "+", "linear", "?")

    def test_text_and_lines_have_contrast_on_either_page(self) -> None:
        picture = Picture(
            tuple(Box(kind) for kind in (*self.KINDS, "cell", "reduction cell", "mbconv")), (), "caption"
        )
        root = ElementTree.fromstring(svg({"part": picture}))
        style = root.findtext(f"{SVG}style") or ""
        dark = dict(re.findall(r"\.(bonas-\w+)\{fill:(#\w+)\}", style))
        shown = set()
        for group in root.iter(f"{SVG}g"):
            rect, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
            assert rect is not None
            assert text is not None
            shown.add(rect.attrib["fill"])
            assert contrast(text.attrib["fill"], rect.attrib["fill"]) >= 7
            assert contrast(dark[text.attrib["class"]], dark[rect.attrib["class"]]) >= 5.5
            for page in ("#ffffff", "#0d1117"):
                assert contrast(rect.attrib["stroke"], page) >= 3
        assert len(shown) >= 12  # kinds are told apart by colour
        caption = next(t for t in root.iter(f"{SVG}text") if t.text == "caption")
        assert min(contrast(caption.attrib["fill"], page) for page in ("#ffffff", "#0d1117")) >= 4


def contrast(one: str, other: str) -> float:
    """Of two colours as WCAG 2 defines it, 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


class TestBadInput:
    @pytest.mark.parametrize("arrow", [Arrow(1, 0), Arrow(0, 0), Arrow(0, 2), Arrow(-1, 1)])
    def test_arrows_lead_to_later_boxes(self, arrow: Arrow) -> None:
        with pytest.raises(ValueError, match="to a later one"):
            Picture((Box("a"), Box("b")), (arrow,))

    def test_something_must_be_drawn(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            svg({})


def test_a_large_network_is_drawn_within_a_moment() -> None:
    boxes = tuple(Box(f"cell {i}", "36 filters") for i in range(60))
    arrows = tuple(Arrow(a, b) for b in range(60) for a in (b - 2, b - 1) if a >= 0)
    root = ElementTree.fromstring(svg({"network": Picture(boxes, arrows)}))
    centres = {(a + c) / 2 for a, _, c, _ in rectangles(root)}
    assert max(centres) - min(centres) < 0.2  # one straight column, the skips beside it
