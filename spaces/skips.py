"""How layers that read several earlier ones bring them together; knows not what the layers do.

Skip connections as in Zoph & Le 2017 (arXiv:1611.01578, section 3.3): any layer may read any earlier
one, a layer that reads none reads the image, what no layer reads is joined before the classifier. Shapes
that differ are reconciled, so that everything builds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from spaces.checking import checked_names
from spaces.graph import Sketch

JOINS = ("concat", "add")
RECONCILIATIONS = ("pad", "project")


@dataclass(frozen=True, slots=True)
class Skips:
    """Which ways of bringing several inputs of a layer together are searched; one choice is fixed.

    The first choice of each is the default. ``Skips()`` searches all of them, ``Skips(join=["concat"],
    reconcile=["pad"])`` is the space of Zoph & Le.

    Raises:
        ValueError: on an unknown name, one given twice, or none.
    """

    join: Sequence[str] = JOINS
    """``concat``: channels one after the other. ``add``: the sum. Hyperparameter ``skip_join``."""
    reconcile: Sequence[str] = RECONCILIATIONS
    """What happens to inputs of different shapes. Hyperparameter ``skip_reconcile``.

    ``pad``: smaller images get zeros at the bottom and right up to the largest height and width; where
    inputs are added, missing channels are zeros.

    ``project``: larger images are averaged down to the smallest height and width. Where inputs are added,
    those with fewer channels than the widest get as many by a 1×1 convolution. Where they are
    concatenated, a 1×1 convolution follows that leaves as many channels as the widest input has, so
    that layers with many inputs stay small (as in ENAS, arXiv:1802.03268).
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "join", checked_names("join", self.join, JOINS))
        object.__setattr__(self, "reconcile", checked_names("reconcile", self.reconcile, RECONCILIATIONS))

    def to_dict(self) -> dict[str, Any]:
        """The arguments, JSON-ready."""
        return {"join": list(self.join), "reconcile": list(self.reconcile)}


def checked_skips(given: Any) -> Skips | None:
    """``given``, as a user or a file says it; None for a plain chain.

    Raises:
        ValueError: if it is none of a boolean, a :class:`Skips` and its dictionary.
    """
    if given is None or isinstance(given, Skips):
        return given
    if isinstance(given, bool):
        return Skips() if given else None
    if isinstance(given, Mapping) and given.keys() == {"join", "reconcile"}:
        return Skips(**given)
    raise ValueError(
        f"skip_connections={given!r}: must be True, False, or spaces.Skips(join=[...], reconcile=[...])."
    )


class Shape(NamedTuple):
    """Of a feature map, at every size of the image: a side of n pixels has become ⌈n / stride⌉.

    Padding keeps every step at ⌈size / stride⌉, and such quotients nest, so equal strides mean equal
    sizes, and the larger of two strides the smaller size.
    """

    channels: int
    down: int
    """Total stride down the image."""
    across: int
    """Total stride across it."""


class How(NamedTuple):
    """The way of one network: a choice of each field of :class:`Skips`."""

    join: str
    reconcile: str


def joined(shapes: Sequence[Shape], how: How) -> Shape:
    """Shape of several inputs brought together; a single one stays as it is."""
    if len(shapes) == 1:
        return shapes[0]
    channels, down, across = zip(*shapes, strict=True)
    # Zeros are put around to the largest image, or all is averaged to the smallest.
    stride = max if how.reconcile == "project" else min
    total = sum if how == ("concat", "pad") else max
    return Shape(total(channels), stride(down), stride(across))


def join_weights(shapes: Sequence[Shape], how: How) -> int:
    """Weights of the 1×1 convolutions of a join, each applied once at every pixel of the joined image."""
    if how.reconcile == "pad" or len(shapes) == 1:
        return 0
    widest = max(shape.channels for shape in shapes)
    return widest * sum(s.channels for s in shapes if how.join == "concat" or s.channels < widest)


def described_join(shapes: Sequence[Shape], how: How) -> str:
    """What a drawing says about a join: what it does beside adding or concatenating."""
    resized = len({(shape.down, shape.across) for shape in shapes}) > 1
    wider = how.join == "add" and len({shape.channels for shape in shapes}) > 1
    if how.reconcile == "pad":
        return "zeros where smaller" if resized or wider else ""
    convolved = wider or how.join == "concat"
    return " · ".join(["averaged down"] * resized + ["1×1 convolution"] * convolved)


def sketch_join(
    sketch: Sketch, name: str, sources: Mapping[int, tuple[str, Shape]], how: How
) -> tuple[str, Shape]:
    """Adds the nodes that bring several inputs together.

    Args:
        sketch: what the nodes are added to.
        name: what their names start with.
        sources: number of the layer read → its output node and shape.
        how: the way.

    Returns:
        the node of the joined inputs, and its shape.
    """
    shapes = [shape for _, shape in sources.values()]
    shape = joined(shapes, how)
    if len(sources) == 1:
        return next(iter(sources.values()))
    parts = []
    for i, (source, own) in sources.items():
        others = [other for j, (other, _) in sources.items() if j != i]
        resized = (own.down, own.across) != (shape.down, shape.across)
        wider = how.join == "add" and own.channels < shape.channels
        if how.reconcile == "pad" and (resized or wider):
            channels = {"channels": shape.channels} if wider else {}
            source = sketch.add(f"{name}{i}_pad", "pad", source, *(others if resized else ()), **channels)
        elif how.reconcile == "project":
            if resized:
                source = sketch.add(f"{name}{i}_shrink", "shrink", source, *others)
            if wider:
                source = sketch.conv(f"{name}{i}_project", source, (own.channels, shape.channels), 1)
        parts.append(source)
    if how.join == "add":
        return sketch.sum(f"{name}_sum", parts), shape
    source = sketch.concat(f"{name}_concat", parts)
    if how.reconcile == "project":
        total = sum(s.channels for s in shapes)
        source = sketch.conv(f"{name}_project", source, (total, shape.channels), 1)
    return source, shape
