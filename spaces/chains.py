"""Chain-structured image classifiers: a searched number of layers, each with its own operation.

Knows no training. What a layer may do stands in ``layers``, how several are read at once in ``skips``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from spaces.canonical import canonical
from spaces.checking import (
    checked_classes,
    checked_names,
    checked_numbers,
    checked_range,
    checked_shape,
    checked_sizes,
    probability,
)
from spaces.counting import Count
from spaces.graph import INPUT, Graph, Sketch, scaled
from spaces.layers import (
    ACTIVATIONS,
    NORMALISATIONS,
    NOTHING_CHOSEN,
    OPERATIONS,
    WEIGHTED,
    Layer,
    count_layer,
    extent,
    first_layers,
)
from spaces.skips import How, Shape, Skips, checked_skips, described_join, join_weights, joined, sketch_join

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from numpy.typing import NDArray

    from spaces.drawing import Picture
    from spaces.space import Space

_S = TypeVar("_S", int, int | str)

# Of the hand-written default, whose filters grow as the picture shrinks.
_DEFAULT_FILTERS = (32, 64, 128)
# A layer mostly reads the one before it, and now and then one more.
_PRIOR_PREVIOUS, _PRIOR_EARLIER = (1, 4), (3, 1)  # weights of False and True


def chain(
    input_shape: tuple[int, int, int],
    n_classes: int,
    *,
    n_layers: tuple[int, int] = (2, 6),
    operations: Sequence[str] = ("conv", "separable", "max_pool", "avg_pool"),
    kernels: Sequence[int | tuple[int, int] | str] = (3, 5),
    filters: Sequence[int] = (16, 32, 64, 128),
    strides: Sequence[int | tuple[int, int] | str] = (1, 2),
    activations: Sequence[str] = ("relu", "silu", "gelu"),
    normalisations: Sequence[str] = ("batch", "none"),
    dilations: Sequence[int] = (2, 3),
    expansions: Sequence[int] = (3, 6),
    skip_connections: bool | Skips = False,
) -> Space:
    """A space of chain-structured image classifiers.

    Hyperparameters: ``n_layers``; for each layer i from 0 ``layer{i}_op`` and, where the operation has
    one, ``layer{i}_kernel``, ``_filters``, ``_stride``, ``_activation``, ``_normalisation``,
    ``_dilation``, ``_expansion``; with skip connections ``skip{i}_{j}``, whether layer i reads layer j,
    for all j < i, and ``skip_join`` and ``skip_reconcile``. All layers pad to ceil(size / stride), so
    every configuration builds; global average pooling and a linear classifier follow. The default is
    three convolutions with batch normalisation and ReLU.

    A rectangular kernel or stride is given as (rows, columns) and is a text in configurations:
    ``kernels=(3, 5, (1, 7))`` has the values 3, 5 and ``"1x7"``.

    Args:
        input_shape: (channels, height, width) of one image.
        n_classes: how many classes there are; 1 for a number to predict.
        n_layers: fewest and most layers.
        operations: some of ``conv``; ``separable`` (depthwise, then 1×1); ``dilated`` (a convolution with
            gaps); ``inverted`` (the inverted bottleneck of MobileNetV2, arXiv:1801.04381, residual where
            shapes allow); ``max_pool``, ``avg_pool`` (both 3×3); ``identity``.
        kernels: odd kernel sizes of convolutions, in pixels.
        filters: numbers of output channels of convolutions.
        strides: strides of convolutions and pooling.
        activations: some of ``relu``, ``silu``, ``gelu``, ``elu``, ``leaky_relu``, ``tanh``.
        normalisations: some of ``batch``, ``group``, ``none``.
        dilations: of dilated convolutions, from 2: how many pixels lie between neighbouring weights.
        expansions: of inverted bottlenecks: channels inside relative to the block's input.
        skip_connections: False for a plain chain, True to search which layers read which (Zoph & Le
            2017, arXiv:1611.01578, section 3.3) and how inputs are joined, or a :class:`spaces.Skips`
            with the ways to join them. The default stays the plain chain.

    Raises:
        ValueError: on an empty or inverted range, an unknown name or one given twice, no classes,
            or an input smaller than the largest kernel.
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
            dilations=dilations,
            expansions=expansions,
            skip_connections=checked_skips(skip_connections),
        )
    )


class _Step(NamedTuple):
    """One layer of a network."""

    layer: Layer
    sources: tuple[int, ...]
    """What it reads: 0 is the image, i + 1 is layer i."""
    before: Shape
    """Of what it reads, joined."""


class _Plan(NamedTuple):
    """A network, as its configuration says; graph, count, features and pictures follow from it."""

    steps: list[_Step]
    shapes: list[Shape]
    """Of the image and of every layer's output."""
    ends: tuple[int, ...]
    """Layers no layer reads, numbered as sources are."""
    end: Shape
    """Of these, joined."""
    how: How


class Chain:
    """The family of networks behind :func:`chain`, which documents the arguments.

    ``skip_connections`` is None, a :class:`Skips`, or what its ``to_dict`` returned.
    """

    kind = "chain"
    reads = ("dropout",)

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        n_classes: int,
        n_layers: Sequence[int],
        operations: Sequence[str],
        kernels: Sequence[Any],
        filters: Sequence[int],
        strides: Sequence[Any],
        activations: Sequence[str],
        normalisations: Sequence[str],
        dilations: Sequence[int] = (2, 3),
        expansions: Sequence[int] = (3, 6),
        skip_connections: Skips | Mapping[str, Any] | bool | None,
    ) -> None:
        self.input_shape = checked_shape(input_shape)
        self.n_classes = checked_classes(n_classes)
        self.n_layers = checked_range("n_layers", n_layers)
        self.operations = checked_names("operations", operations, tuple(OPERATIONS))
        self.kernels = checked_sizes("kernels", kernels)
        self.filters = checked_numbers("filters", filters)
        self.strides = checked_sizes("strides", strides)
        self.activations = checked_names("activations", activations, tuple(ACTIVATIONS))
        self.normalisations = checked_names("normalisations", normalisations, tuple(NORMALISATIONS))
        self.dilations = checked_numbers("dilations", dilations)
        self.expansions = checked_numbers("expansions", expansions)
        if skip_connections is True:
            raise ValueError(
                "skip_connections=true: this file is from an earlier bonas, whose skip connections were "
                "others. Make the space anew with spaces.chain(..., skip_connections=True)."
            )
        self.skip_connections = checked_skips(skip_connections)
        self._check_sizes()
        longest = range(self.n_layers[1])
        self._names = [[f"layer{i}_{field}" for field in Layer._fields] for i in longest]
        self._skips = [[f"skip{i}_{j}" for j in range(i)] for i in longest]
        self.reserved = frozenset(name for names in self._names for name in names)

    def _check_sizes(self) -> None:
        if min(self.dilations) < 2:
            raise ValueError(
                f"dilations={list(self.dilations)}: must be at least 2. A convolution without gaps is the "
                "operation 'conv'."
            )
        kernels = [extent(kernel) for kernel in self.kernels]
        if any(side % 2 == 0 for kernel in kernels for side in kernel):
            raise ValueError(
                f"kernels={list(self.kernels)}: must be odd, so that padding is even. Use 3 or 5."
            )
        image = self.input_shape[1:]
        fitting = [k for k, own in zip(self.kernels, kernels, strict=True) if _fits(own, image)]
        if len(fitting) == len(kernels) or not any("kernel" in OPERATIONS[o].has for o in self.operations):
            return
        largest = next(k for k in reversed(self.kernels) if k not in fitting)
        raise ValueError(
            f"input_shape={self.input_shape}: each side must be at least the largest kernel, "
            f"{largest}. Use larger images or kernels={fitting or [1]}."
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
            "dilations": list(self.dilations),
            "expansions": list(self.expansions),
            "skip_connections": self.skip_connections.to_dict() if self.skip_connections else None,
        }

    # The configuration space -----------------------------------------------------------------

    def configuration_space(self) -> ConfigurationSpace:
        """Hyperparameters and conditions; a layer has only what its operation has use for."""
        import ConfigSpace

        low, high = self.n_layers
        depth: Any = ConfigSpace.Constant("n_layers", low)
        if low < high:
            depth = ConfigSpace.UniformIntegerHyperparameter(
                "n_layers", low, high, default_value=min(max(3, low), high)
            )
        parts: list[Any] = [depth]
        side = min(self.input_shape[1:])
        for i in range(high):
            # The default's second and third layer halve the picture, unless less than 4 pixels would
            # be left; every later one repeats the third without halving.
            stride = _nearest(self.strides, 2 if i in (1, 2) and side >= 8 else 1)
            side = -(-side // max(extent(stride)))
            of_layer = self._of_layer(i, stride)
            op = of_layer.pop(0)
            of_depth = [op]
            parts.append(op)
            for child in of_layer:
                field = child.name.removeprefix(f"layer{i}_")
                having = [o for o in self.operations if field in OPERATIONS[o].has]
                if having:
                    # A layer that is not there has an inactive operation, and that satisfies nothing.
                    parts += [child, ConfigSpace.InCondition(child, op, having)]
            for j, name in enumerate(self._skips[i] if self.skip_connections else ()):
                previous = j == i - 1
                prior = _PRIOR_PREVIOUS if previous else _PRIOR_EARLIER
                skip = ConfigSpace.CategoricalHyperparameter(
                    name, [False, True], weights=prior, default_value=previous
                )
                parts.append(skip)
                of_depth.append(skip)
            if i >= low:
                parts += [ConfigSpace.GreaterThanCondition(child, depth, i) for child in of_depth]
        if self.skip_connections and high > 1:
            for name, choices in (
                ("skip_join", self.skip_connections.join),
                ("skip_reconcile", self.skip_connections.reconcile),
            ):
                several = len(choices) > 1
                kind = ConfigSpace.CategoricalHyperparameter if several else ConfigSpace.Constant
                parts.append(kind(name, choices if several else choices[0]))
        space = ConfigSpace.ConfigurationSpace()
        space.add(parts)
        return space

    def _of_layer(self, i: int, stride: int | str) -> list[Any]:
        """All hyperparameters a layer could have, the operation first; ``stride`` is the default."""
        from ConfigSpace import CategoricalHyperparameter, OrdinalHyperparameter

        weights = [OPERATIONS[o].weight for o in self.operations]
        filters = _nearest(self.filters, _DEFAULT_FILTERS[min(i, 2)])
        activation = "relu" if "relu" in self.activations else self.activations[0]
        normalisation = "batch" if "batch" in self.normalisations else self.normalisations[0]
        at = f"layer{i}_"
        return [
            CategoricalHyperparameter(f"{at}op", self.operations, weights=weights),
            OrdinalHyperparameter(f"{at}kernel", self.kernels, default_value=_nearest(self.kernels, 3)),
            OrdinalHyperparameter(f"{at}filters", self.filters, default_value=filters),
            OrdinalHyperparameter(f"{at}stride", self.strides, default_value=stride),
            CategoricalHyperparameter(f"{at}activation", self.activations, default_value=activation),
            CategoricalHyperparameter(
                f"{at}normalisation",
                self.normalisations,
                weights=[NORMALISATIONS[n] for n in self.normalisations],
                default_value=normalisation,
            ),
            OrdinalHyperparameter(f"{at}dilation", self.dilations),
            OrdinalHyperparameter(
                f"{at}expansion", self.expansions, default_value=_nearest(self.expansions, 6)
            ),
        ]

    # Networks --------------------------------------------------------------------------------

    def _plan(self, params: Mapping[str, Any], width: float = 1.0, depth: float = 1.0) -> _Plan:
        shapes = [Shape(self.input_shape[0], 1, 1)]
        steps: list[_Step] = []
        how, unread = How("concat", "pad"), {0}
        if self.skip_connections:
            how = How(params.get("skip_join", "concat"), params.get("skip_reconcile", "pad"))
        for i in range(first_layers(params["n_layers"], depth)):
            layer = Layer._make(map(params.get, self._names[i], NOTHING_CHOSEN))
            if width != 1 and layer.op in WEIGHTED:
                layer = layer._replace(filters=scaled(layer.filters, width))
            sources: tuple[int, ...] = (i,)
            if self.skip_connections:
                sources = tuple(j for j, name in enumerate(self._skips[i], 1) if params[name]) or (0,)
            before = shapes[i] if sources == (i,) else joined([shapes[s] for s in sources], how)
            down, across = extent(layer.stride)
            channels = layer.filters if layer.op in WEIGHTED else before.channels
            shapes.append(Shape(channels, before.down * down, before.across * across))
            steps.append(_Step(layer, sources, before))
            unread.difference_update(sources)
            unread.add(i + 1)
        ends = tuple(sorted(unread - {0}))
        return _Plan(steps, shapes, ends, joined([shapes[s] for s in ends], how), how)

    def graph(self, params: Mapping[str, Any], width: float, depth: float, prune: bool = True) -> Graph:
        """The network; ``depth`` keeps the first ⌈depth · n_layers⌉ layers; all of a chain is alive."""
        plan = self._plan(params, width, depth)
        sketch = Sketch()
        outputs = [INPUT]

        def read(name: str, sources: tuple[int, ...]) -> str:
            wanted = {s - 1: (outputs[s], plan.shapes[s]) for s in sources}
            return sketch_join(sketch, name, wanted, plan.how)[0]

        for i, step in enumerate(plan.steps):
            source = read(f"layer{i}_in", step.sources)
            operation = OPERATIONS[step.layer.op]
            outputs.append(operation.sketch(sketch, f"layer{i}", source, step.before.channels, step.layer))
        source = read("end", plan.ends)
        return sketch.head(source, plan.end.channels, self.n_classes, probability(params, "dropout"))

    def count(self, params: Mapping[str, Any], prune: bool) -> Count:
        """Exact size, added up layer by layer; nothing in a chain is ever pruned."""
        return self._count(self._plan(params))

    def _count(self, plan: _Plan) -> Count:
        parameters = self.n_classes * (plan.end.channels + 1)
        macs = self.n_classes * plan.end.channels
        for layer, sources, before in plan.steps:
            size = self._size(before)
            count = count_layer(layer, before.channels, size)
            parameters += count.parameters
            macs += count.macs
            if len(sources) > 1:
                weights = join_weights([plan.shapes[s] for s in sources], plan.how)
                parameters += weights
                macs += weights * size[0] * size[1]
        if len(plan.ends) > 1:
            size = self._size(plan.end)
            weights = join_weights([plan.shapes[s] for s in plan.ends], plan.how)
            parameters += weights
            macs += weights * size[0] * size[1]
        return Count(parameters, macs)

    def _size(self, shape: Shape) -> tuple[int, int]:
        """(rows, columns) in pixels."""
        _, height, width = self.input_shape
        return -(-height // shape.down), -(-width // shape.across)

    def key(self, params: Mapping[str, Any]) -> str:
        """Equal for configurations that are one network up to the names of its layers; identities vanish."""
        plan = self._plan(params)
        if all(step.sources == (i,) for i, step in enumerate(plan.steps)):
            # A plain chain is what its layers are, one after the other; no other wiring gives one.
            layers = [",".join(map(str, step.layer)) for step in plan.steps if step.layer.op != "identity"]
            return hashlib.sha256("\n".join(layers).encode()).hexdigest()[:32]
        return canonical(self.graph({k: v for k, v in params.items() if k != "dropout"}, 1.0, 1.0))

    # Features --------------------------------------------------------------------------------

    def features(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """Depth, wiring, operations of each kind, and logs of filters, final pixels, parameters and MACs."""
        features: NDArray[np.float64] = self.features_many([params])[0]
        return features

    def features_many(self, configurations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """:meth:`features` of several configurations, shape (n, k)."""
        table = np.array([self._features(params) for params in configurations], dtype=np.float64)
        np.log(table[:, -_LOGARITHMIC:], out=table[:, -_LOGARITHMIC:])
        return table

    def _features(self, params: Mapping[str, Any]) -> list[float]:
        plan = self._plan(params)
        counts = dict.fromkeys(OPERATIONS, 0)
        longest, shortest, joins = [0], [0], 0
        filters: list[int] = []
        reach, normalised = 0, 0
        for layer, sources, _ in plan.steps:
            counts[layer.op] += 1
            learns = layer.op in WEIGHTED
            longest.append(max([longest[s] for s in sources]) + learns)
            shortest.append(min([shortest[s] for s in sources]) + learns)
            joins += len(sources) - 1
            if learns:
                filters.append(layer.filters)
                reach += layer.dilation * (max(extent(layer.kernel)) - 1)
                normalised += layer.normalisation != "none"
        filters = filters or [self.input_shape[0]]
        middle = (len(filters) + 1) // 2
        rows, columns = self._size(plan.end)
        count = self._count(plan)
        return [
            len(plan.steps),
            max([longest[s] for s in plan.ends]),
            min([shortest[s] for s in plan.ends]),
            joins,
            len(plan.ends),
            *counts.values(),
            reach / len(filters),
            normalised / len(filters),
            # From here on as logarithms.
            sum(filters[:middle]) / middle,
            sum(filters[-middle:]) / middle,
            plan.end.channels,
            rows * columns,
            count.parameters,
            count.macs,
        ]

    # Pictures --------------------------------------------------------------------------------

    def pictures(self, params: Mapping[str, Any]) -> Mapping[str, Picture]:
        """The network: a box for every layer, and one wherever several are joined."""
        from spaces.drawing import Arrow, Box, Picture, outputs

        plan = self._plan(params)
        boxes = [Box("input", "×".join(map(str, self.input_shape)))]
        arrows: list[Arrow] = []
        place = [0]  # of the image's and every layer's box

        def put(box: Box, sources: Sequence[int]) -> int:
            arrows.extend(Arrow(source, len(boxes)) for source in sources)
            boxes.append(box)
            return len(boxes) - 1

        def read(sources: tuple[int, ...]) -> int:
            places = [place[s] for s in sources]
            if len(sources) == 1:
                return places[0]
            way = described_join([plan.shapes[s] for s in sources], plan.how)
            return put(Box(plan.how.join, way), places)

        for step in plan.steps:
            label = OPERATIONS[step.layer.op].label
            place.append(put(Box(label, _described(step.layer)), [read(step.sources)]))
        put(Box("classifier", f"average pool · {outputs(self.n_classes)}"), [read(plan.ends)])
        return {"network": Picture(tuple(boxes), tuple(arrows))}


_LOGARITHMIC = 6
"""How many of the features, the last ones, are logarithms."""


def _described(layer: Layer) -> str:
    parts = []
    if layer.op in WEIGHTED:
        rows, columns = extent(layer.kernel)
        parts += [f"{rows}×{columns}", f"{layer.filters} filters"]
    if layer.dilation > 1:
        parts.append(f"dilation {layer.dilation}")
    if layer.op in WEIGHTED and "expansion" in OPERATIONS[layer.op].has:
        parts.append(f"expansion {layer.expansion}")
    if layer.stride != 1:
        parts.append(f"stride {str(layer.stride).replace('x', '×')}")
    if layer.normalisation != "none":
        parts.append(f"{layer.normalisation} norm")
    if layer.activation != "none":
        parts.append(layer.activation)
    return " · ".join(parts)


def _fits(kernel: tuple[int, int], image: Sequence[int]) -> bool:
    return kernel[0] <= image[0] and kernel[1] <= image[1]


def _nearest(values: Sequence[_S], wanted: int) -> _S:
    return min(values, key=lambda value: sum(abs(side - wanted) for side in extent(value)))
