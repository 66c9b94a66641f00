"""Chain-structured networks: a searched number of layers, each with its own operation; knows no training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spaces.counting import Count, count_graph
from spaces.graph import INPUT, Graph, Sketch, digest, scaled

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from numpy.typing import NDArray

    from spaces.drawing import Picture
    from spaces.space import Space

OPERATIONS = ("conv", "separable", "max_pool", "avg_pool", "identity")
# Under a uniform prior every second layer would have no weights to learn.
_PRIOR = {"conv": 4, "separable": 2, "max_pool": 1, "avg_pool": 1, "identity": 1}
_WEIGHTED = ("conv", "separable")
_STRIDED = ("conv", "separable", "max_pool", "avg_pool")
ACTIVATIONS = {
    "relu": "ReLU",
    "silu": "SiLU",
    "gelu": "GELU",
    "elu": "ELU",
    "leaky_relu": "LeakyReLU",
    "tanh": "Tanh",
}
NORMALISATIONS = ("batch", "group", "none")
# Of the hand-written default, whose filters grow as the picture shrinks.
_DEFAULT_FILTERS = (32, 64, 128)


def chain(
    input_shape: tuple[int, int, int],
    n_classes: int,
    *,
    n_layers: tuple[int, int] = (2, 6),
    operations: Sequence[str] = ("conv", "separable", "max_pool", "avg_pool"),
    kernels: Sequence[int] = (3, 5),
    filters: Sequence[int] = (16, 32, 64, 128),
    strides: Sequence[int] = (1, 2),
    activations: Sequence[str] = ("relu", "silu", "gelu"),
    normalisations: Sequence[str] = ("batch", "none"),
    skip_connections: bool = False,
) -> Space:
    """A space of chain-structured image classifiers.

    Hyperparameters: ``n_layers``; for each layer i ``layer{i}_op`` and, where the operation has one,
    ``layer{i}_kernel``, ``_filters``, ``_stride``, ``_activation``, ``_normalisation``; with skip
    connections ``skip{i}_{j}``: whether layer i also reads layer j's output, j < i - 1. What a skip
    carries is averaged down to the size and projected by a 1×1 convolution to the channels of layer
    i's input where they differ, and added to it. All layers pad to ceil(size / stride), so every
    configuration builds; global average pooling and a linear classifier follow. The default is three
    convolutions with batch normalisation and ReLU.

    Args:
        input_shape: (channels, height, width) of one image.
        n_classes: how many classes there are, from 2.
        n_layers: fewest and most layers.
        operations: some of ``conv``, ``separable`` (depthwise, then 1×1), ``max_pool``, ``avg_pool``
            (both 3×3), ``identity``.
        kernels: odd kernel sizes of convolutions, in pixels.
        filters: numbers of output channels of convolutions.
        strides: strides of convolutions and pooling.
        activations: some of ``relu``, ``silu``, ``gelu``, ``elu``, ``leaky_relu``, ``tanh``.
        normalisations: some of ``batch``, ``group``, ``none``.
        skip_connections: whether to search skip connections (Zoph & Le 2017, arXiv:1611.01578).

    Raises:
        ValueError: on an empty or inverted range, an unknown name, fewer than two classes, or an input
            smaller than the largest kernel.
    """
    from spaces.space import Space

    return Space._of(
        Chain(
            input_shape=input_shape,
            n_classes=n_classes,
            n_layers=n_layers,
            operations=operations,
            kernels=kernels,
            filters=filters,
            strides=strides,
            activations=activations,
            normalisations=normalisations,
            skip_connections=skip_connections,
        )
    )


class Chain:
    """The family of networks behind :func:`chain`, which documents the arguments."""

    kind = "chain"
    reads = ("dropout",)

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        n_classes: int,
        n_layers: Sequence[int],
        operations: Sequence[str],
        kernels: Sequence[int],
        filters: Sequence[int],
        strides: Sequence[int],
        activations: Sequence[str],
        normalisations: Sequence[str],
        skip_connections: bool,
    ) -> None:
        self.input_shape = checked_shape(input_shape)
        self.n_classes = checked_classes(n_classes)
        self.n_layers = _range("n_layers", n_layers)
        self.operations = _names("operations", operations, OPERATIONS)
        self.kernels = _whole("kernels", kernels)
        self.filters = _whole("filters", filters)
        self.strides = _whole("strides", strides)
        self.activations = _names("activations", activations, tuple(ACTIVATIONS))
        self.normalisations = _names("normalisations", normalisations, NORMALISATIONS)
        self.skip_connections = bool(skip_connections)
        if any(k % 2 == 0 for k in self.kernels):
            raise ValueError(
                f"kernels={list(self.kernels)}: must be odd, so that padding is even. Use 3 or 5."
            )
        if min(self.input_shape[1:]) < max(self.kernels):
            channels, height, width = self.input_shape
            if width <= 4 < min(channels, height):
                raise ValueError(
                    f"input_shape={self.input_shape}: looks like (height, width, channels); channels come "
                    f"first here. Give input_shape={(width, channels, height)}."
                )
            raise ValueError(
                f"input_shape={self.input_shape}: each side must be at least the largest kernel, "
                f"{max(self.kernels)}. Use larger images or kernels={[min(self.kernels)]}."
            )

    def to_dict(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-ready."""
        return {
            "input_shape": list(self.input_shape),
            "n_classes": self.n_classes,
            "n_layers": list(self.n_layers),
            "operations": list(self.operations),
            "kernels": list(self.kernels),
            "filters": list(self.filters),
            "strides": list(self.strides),
            "activations": list(self.activations),
            "normalisations": list(self.normalisations),
            "skip_connections": self.skip_connections,
        }

    def configuration_space(self) -> ConfigurationSpace:
        """Hyperparameters and conditions; pooling layers have no filters, identities no stride."""
        import ConfigSpace

        low, high = self.n_layers
        parts: list[Any] = []
        depth: Any = ConfigSpace.Constant("n_layers", low)
        if low < high:
            depth = ConfigSpace.UniformIntegerHyperparameter(
                "n_layers", low, high, default_value=min(max(3, low), high)
            )
        parts.append(depth)
        side = min(self.input_shape[1:])
        for i in range(high):
            # The default's second and third layer halve the picture, unless less than 4 pixels would
            # be left; every later one repeats the third without halving.
            size = _nearest(self.filters, _DEFAULT_FILTERS[min(i, 2)])
            stride = _nearest(self.strides, 2 if i in (1, 2) and side >= 8 else 1)
            side = -(-side // stride)
            weights = [_PRIOR[o] for o in self.operations]
            op = ConfigSpace.CategoricalHyperparameter(f"layer{i}_op", self.operations, weights=weights)
            act, norm = _preferred(self.activations, "relu"), _preferred(self.normalisations, "batch")
            at = f"layer{i}_"
            ordinal, choice = ConfigSpace.OrdinalHyperparameter, ConfigSpace.CategoricalHyperparameter
            of_op: list[tuple[tuple[str, ...], Any]] = [
                (_WEIGHTED, ordinal(f"{at}kernel", self.kernels)),
                (_WEIGHTED, ordinal(f"{at}filters", self.filters, default_value=size)),
                (_STRIDED, ordinal(f"{at}stride", self.strides, default_value=stride)),
                (_WEIGHTED, choice(f"{at}activation", self.activations, default_value=act)),
                (_WEIGHTED, choice(f"{at}normalisation", self.normalisations, default_value=norm)),
            ]
            parts.append(op)
            if i >= low:
                parts.append(ConfigSpace.GreaterThanCondition(op, depth, i))
            for wanted, child in of_op:
                having = [o for o in self.operations if o in wanted]
                if having:
                    # A layer that is not there has an inactive operation, and that satisfies nothing.
                    parts += [child, ConfigSpace.InCondition(child, op, having)]
            for j in range(i - 1) if self.skip_connections else ():
                skip = ConfigSpace.CategoricalHyperparameter(f"skip{i}_{j}", [False, True])
                parts.append(skip)
                if i >= low:
                    parts.append(ConfigSpace.GreaterThanCondition(skip, depth, i))
        space = ConfigSpace.ConfigurationSpace()
        space.add(parts)
        return space

    def graph(self, params: Mapping[str, Any], width: float, depth: float, prune: bool = True) -> Graph:
        """The network; ``depth`` keeps the first ceil(depth · n_layers) layers; all of a chain is alive."""
        if not 0 < depth <= 1:
            raise ValueError(f"depth={depth!r}: must be a fraction, greater than 0 and at most 1.")
        sketch = Sketch()
        channels, stride = self.input_shape[0], 1
        source = INPUT
        outputs: list[tuple[str, int, int]] = []  # of every layer: node, channels, total stride
        for i in range(math.ceil(depth * params["n_layers"])):
            for_sum = [source]
            for j in range(i - 1):
                if params.get(f"skip{i}_{j}", False):
                    for_sum.append(_reconciled(sketch, f"skip{i}_{j}", outputs[j], (channels, stride)))
            source = sketch.sum(f"layer{i}_sum", for_sum)
            source, channels = self._layer(sketch, i, params, source, channels, width)
            stride *= params.get(f"layer{i}_stride", 1)
            outputs.append((source, channels, stride))
        return sketch.head(source, channels, self.n_classes, float(params.get("dropout", 0.0)))

    @staticmethod
    def _layer(
        sketch: Sketch, i: int, params: Mapping[str, Any], source: str, channels: int, width: float
    ) -> tuple[str, int]:
        """Adds layer i; returns its output node and channels."""
        name = f"layer{i}"
        op = params[f"{name}_op"]
        if op == "identity":
            return source, channels
        stride = params[f"{name}_stride"]
        if op == "max_pool":
            return sketch.add(name, "MaxPool2d", source, kernel_size=3, stride=stride, padding=1), channels
        if op == "avg_pool":
            window = {"kernel_size": 3, "stride": stride, "padding": 1, "count_include_pad": False}
            return sketch.add(name, "AvgPool2d", source, **window), channels
        kernel, normalisation = params[f"{name}_kernel"], params[f"{name}_normalisation"]
        filters = scaled(params[f"{name}_filters"], width)
        bias = normalisation == "none"  # a normalisation has its own
        if op == "separable":
            both = (channels, channels)
            source = sketch.conv(f"{name}_depthwise", source, both, kernel, stride, groups=channels)
            source = sketch.conv(f"{name}_pointwise", source, (channels, filters), 1, bias=bias)
        else:
            source = sketch.conv(f"{name}_conv", source, (channels, filters), kernel, stride, bias=bias)
        if normalisation == "batch":
            source = sketch.add(f"{name}_norm", "BatchNorm2d", source, num_features=filters)
        elif normalisation == "group":
            groups = math.gcd(filters, 8)
            source = sketch.add(f"{name}_norm", "GroupNorm", source, num_groups=groups, num_channels=filters)
        return sketch.add(f"{name}_act", ACTIVATIONS[params[f"{name}_activation"]], source), filters

    def count(self, params: Mapping[str, Any], prune: bool) -> Count:
        """Exact size; nothing in a chain is ever pruned."""
        return count_graph(self.graph(params, 1.0, 1.0), self.input_shape)

    def key(self, params: Mapping[str, Any]) -> str:
        """Identities vanish, so that the same network written with and without them has one key."""
        return digest(self.graph({k: v for k, v in params.items() if k != "dropout"}, 1.0, 1.0))

    def features(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """Depth, operations of each kind, skips, and logs of parameters, MACs, filters and total stride."""
        layers = range(params["n_layers"])
        ops = [params[f"layer{i}_op"] for i in layers]
        count = self.count(params, True)
        filters = [params[f"layer{i}_filters"] for i in layers if f"layer{i}_filters" in params]
        stride = math.prod(params.get(f"layer{i}_stride", 1) for i in layers)
        skips = sum(value is True for name, value in params.items() if name.startswith("skip"))
        last = filters[-1] if filters else self.input_shape[0]
        logs = [math.log(v) for v in (count.parameters, count.macs, last, stride)]
        return np.array([len(ops), *(ops.count(op) for op in OPERATIONS), skips, *logs], dtype=np.float64)

    def pictures(self, params: Mapping[str, Any]) -> Mapping[str, Picture]:
        """The network: one box a layer, skips at the side."""
        from spaces.drawing import Arrow, Box, Picture

        boxes = [Box("input", "×".join(map(str, self.input_shape)))]
        arrows = []
        for i in range(params["n_layers"]):
            at = f"layer{i}_"
            op = params[f"{at}op"]
            parts = [f"{params[f'{at}kernel']}×{params[f'{at}kernel']}"] if f"{at}kernel" in params else []
            if f"{at}filters" in params:
                parts.append(f"{params[f'{at}filters']} filters")
            if params.get(f"{at}stride", 1) > 1:
                parts.append(f"stride {params[f'{at}stride']}")
            parts += [
                params[n]
                for n in (f"{at}normalisation", f"{at}activation")
                if params.get(n, "none") != "none"
            ]
            boxes.append(Box(op, " · ".join(parts)))
            arrows.append(Arrow(i, i + 1))
            arrows += [Arrow(j + 1, i + 1) for j in range(i - 1) if params.get(f"skip{i}_{j}", False)]
        boxes.append(Box("classifier", f"average pool · {self.n_classes} classes"))
        arrows.append(Arrow(len(boxes) - 2, len(boxes) - 1))
        return {"network": Picture(tuple(boxes), tuple(arrows))}


def _reconciled(sketch: Sketch, name: str, output: tuple[str, int, int], wanted: tuple[int, int]) -> str:
    """The output of an earlier layer, brought to the wanted channels and total stride."""
    source, channels, stride = output
    if stride != wanted[1]:
        # Same padding makes sizes ceil(size / stride), and ceils nest, so the shapes meet exactly.
        ratio = wanted[1] // stride
        source = sketch.add(
            f"{name}_pool", "AvgPool2d", source, kernel_size=ratio, stride=ratio, ceil_mode=True
        )
    if channels != wanted[0]:
        source = sketch.conv(f"{name}_project", source, (channels, wanted[0]), 1)
    return source


def checked_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """``shape`` as (channels, height, width).

    Raises:
        ValueError: if it is not three whole numbers from 1.
    """
    try:
        values = tuple(int(v) for v in shape)
        fits = (
            len(values) == 3 and min(values) >= 1 and all(a == b for a, b in zip(values, shape, strict=True))
        )
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"input_shape={shape!r}: must be (channels, height, width), whole numbers from 1. "
            "Use (1, 28, 28) for grey images of 28 pixels."
        )
    return values[0], values[1], values[2]


def checked_classes(n_classes: int) -> int:
    """``n_classes``, a whole number from 2.

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(n_classes, bool) or not isinstance(n_classes, (int, np.integer)) or n_classes < 2:
        raise ValueError(
            f"n_classes={n_classes!r}: must be a whole number, at least 2. Use 2 for yes and no."
        )
    return int(n_classes)


def _range(name: str, given: Sequence[int]) -> tuple[int, int]:
    if not isinstance(given, (tuple, list)) or len(given) != 2 or not all(_is_whole(v) for v in given):
        raise ValueError(
            f"{name}={given!r}: must be a pair (fewest, most) of whole numbers from 1, as (2, 6)."
        )
    low, high = int(given[0]), int(given[1])
    if low > high:
        raise ValueError(f"{name}={given!r}: the range is inverted. Write {name}={(high, low)}.")
    return low, high


def _whole(name: str, given: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(given, (tuple, list)) or not given or not all(_is_whole(v) for v in given):
        raise ValueError(f"{name}={given!r}: must be a list of whole numbers from 1, at least one.")
    return tuple(sorted({int(v) for v in given}))


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 1)


def _names(name: str, given: Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, (tuple, list)) or not given:
        raise ValueError(f"{name}={given!r}: must be a list of names, at least one of {list(known)}.")
    for value in given:
        if value not in known:
            raise ValueError(f"{name}: {value!r} is not known. Choose from {list(known)}.")
    return tuple(dict.fromkeys(given))


def _nearest(values: Sequence[int], wanted: int) -> int:
    return min(values, key=lambda v: abs(v - wanted))


def _preferred(values: Sequence[str], wanted: str) -> str:
    return wanted if wanted in values else values[0]
