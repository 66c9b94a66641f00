"""The macro-architecture around cells: stem, stages, reductions; knows nothing of what is inside a cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from spaces.checking import is_whole
from spaces.graph import INPUT, Sketch


class State(NamedTuple):
    """What a cell may read: a stem's or a cell's output."""

    node: str
    channels: int
    halvings: int
    """How often the picture has been halved."""


class Shape(NamedTuple):
    """One macro-architecture."""

    filters: int
    cells: int
    reductions: int
    stem: str


@dataclass(frozen=True, slots=True)
class Stem:
    """What comes before the first cell."""

    sketch: Callable[[Sketch, int, int], tuple[State, State]]
    """(sketch, image channels, filters) → inputs 0 and 1 of the first cell."""
    halvings: int
    """Of input 1."""
    label: str
    """How drawings name it."""


def _convolution(stride: int) -> Callable[[Sketch, int, int], tuple[State, State]]:
    def draw(sketch: Sketch, inputs: int, filters: int) -> tuple[State, State]:
        # Three times the filters, as DARTS and NASNet have on CIFAR-10.
        node = sketch.conv("stem_conv", INPUT, (inputs, 3 * filters), 3, stride)
        node = sketch.add("stem_norm", "BatchNorm2d", node, num_features=3 * filters)
        state = State(node, 3 * filters, stride // 2)
        return state, state

    return draw


def _imagenet(sketch: Sketch, inputs: int, filters: int) -> tuple[State, State]:
    half = max(1, filters // 2)
    node = sketch.conv("stem_a_conv", INPUT, (inputs, half), 3, 2)
    node = sketch.add("stem_a_norm", "BatchNorm2d", node, num_features=half)
    node = sketch.add("stem_b_act", "ReLU", node)
    node = sketch.conv("stem_b_conv", node, (half, filters), 3, 2)
    first = sketch.add("stem_b_norm", "BatchNorm2d", node, num_features=filters)
    node = sketch.add("stem_c_act", "ReLU", first)
    node = sketch.conv("stem_c_conv", node, (filters, filters), 3, 2)
    second = sketch.add("stem_c_norm", "BatchNorm2d", node, num_features=filters)
    return State(first, filters, 2), State(second, filters, 3)


STEMS: Mapping[str, Stem] = {
    "conv": Stem(_convolution(1), 0, "conv 3×3"),
    "conv_stride2": Stem(_convolution(2), 1, "conv 3×3, stride 2"),
    # Of DARTS's ImageNet network (quark0/darts, model.py, NetworkImageNet).
    "imagenet": Stem(_imagenet, 3, "three conv 3×3, stride 2"),
}


@dataclass(frozen=True, slots=True)
class Macro:
    """What is fixed (one value) and what is searched (several) of the macro-architecture.

    Raises:
        ValueError: if a value is of the wrong kind, out of range or given twice.
    """

    filters: tuple[int, ...]
    """Channels of a cell's operations in the first stage; each reduction doubles them."""
    cells: tuple[int, ...]
    """Normal cells of a stage."""
    reductions: tuple[int, ...]
    """Reduction cells; one between each two stages."""
    stem: tuple[str, ...]
    """Names of :data:`STEMS`."""

    def __post_init__(self) -> None:
        for name, least in (("filters", 2), ("cells", 1), ("reductions", 0)):
            object.__setattr__(self, name, _whole(name, getattr(self, name), least))
        for filters in self.filters:
            if filters % 2:
                raise ValueError(
                    f"filters={filters}: must be even, reductions join two halves of the channels. "
                    f"Use {filters + 1}."
                )
        stems = _several("stem", self.stem)
        for stem in stems:
            if not isinstance(stem, str) or stem not in STEMS:
                raise ValueError(f"stem={stem!r}: is not known. Use one of {list(STEMS)}.")
        object.__setattr__(self, "stem", stems)

    def fits(self, input_shape: tuple[int, ...]) -> None:
        """Checks that every halving finds at least two pixels a side.

        Raises:
            ValueError: if the picture is too small for one of the macro-architectures.
        """
        halvings = max(self.reductions) + max(STEMS[stem].halvings for stem in self.stem)
        least = 2 ** (min(halvings, 64) - 1) + 1 if halvings else 1
        if min(input_shape[1:]) < least:
            raise ValueError(
                f"input_shape={input_shape}: reductions and stem halve the picture up to {halvings} times, "
                f"so each side must be at least {least} pixels. Use fewer reductions, stem='conv', or larger "
                "images."
            )

    def searched(self) -> list[str]:
        """The settings with several values."""
        return [name for name in Shape._fields if len(getattr(self, name)) > 1]

    def shape(self, params: Mapping[str, Any]) -> Shape:
        """The macro-architecture of a configuration."""
        return Shape(*(params.get(name, getattr(self, name)[0]) for name in Shape._fields))

    def to_dict(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-ready."""
        return {name: list(values) for name, values in asdict(self).items()}


def _several(name: str, given: Any) -> tuple[Any, ...]:
    values = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if not values:
        raise ValueError(f"{name}=[]: must be a value, or a list of the values to search, at least one.")
    if any(values.count(value) > 1 for value in values):
        raise ValueError(f"{name}={given!r}: a value is there twice. Name each once.")
    return values


def _whole(name: str, given: Any, least: int) -> tuple[int, ...]:
    values = _several(name, given)
    for value in values:
        if not is_whole(value, least):
            raise ValueError(
                f"{name}={value!r}: must be a whole number from {least}, or a list of those to search."
            )
    return tuple(sorted(int(value) for value in values))
