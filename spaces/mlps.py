"""Multilayer perceptrons for feature vectors: a searched number of layers, each with its own choices.

Knows no training. Dropout is a choice of every layer here, so these networks read no ``dropout`` among the
hyperparameters of training.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from spaces.checking import checked_classes, checked_names, checked_numbers, checked_range, is_whole
from spaces.counting import Count
from spaces.graph import INPUT, Graph, Sketch, scaled
from spaces.layers import ACTIVATIONS, first_layers

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from numpy.typing import NDArray

    from spaces.drawing import Picture
    from spaces.space import Space

NORMALISATIONS: Mapping[str, str] = {"batch": "BatchNorm1d", "layer": "LayerNorm", "none": ""}
"""Classes in ``torch.nn`` by the names used in configurations."""

# Of the hand-written default: two layers, regularised a little.
_DEFAULT_LAYERS, _DEFAULT_UNITS, _DEFAULT_DROPOUT = 2, 128, 0.1


def chain_mlp(
    input_shape: int | tuple[int],
    n_classes: int,
    *,
    n_layers: tuple[int, int] = (1, 5),
    units: Sequence[int] = (16, 32, 64, 128, 256, 512),
    activations: Sequence[str] = ("relu", "silu", "gelu"),
    dropout: Sequence[float] = (0.0, 0.1, 0.25, 0.5),
    normalisations: Sequence[str] = ("batch", "layer", "none"),
    residual: Sequence[bool] = (False, True),
) -> Space:
    """A space of multilayer perceptrons that classify vectors of features.

    Hyperparameters: ``n_layers``; for each layer i from 0 ``layer{i}_units``, ``_activation``,
    ``_dropout``, ``_normalisation``, ``_residual``. A layer is linear → normalisation → activation →
    dropout; a residual one adds its input to that, through a linear projection where the sizes differ
    (He et al. 2016, arXiv:1512.03385; for tables of features Gorishniy et al. 2021, arXiv:2106.11959). A
    linear classifier follows. The default is two layers of 128 units with batch normalisation, ReLU and
    a dropout of 0.1. ``width`` scales the units, ``depth`` keeps the first layers.

    Dropout is part of the architecture here, a choice of every layer; the space therefore has no global
    ``dropout`` when :meth:`Space.with_hyperparameters` adds the hyperparameters of training.

    Args:
        input_shape: number of features of one example, plain or as (features,).
        n_classes: how many classes there are; 1 for a number to predict.
        n_layers: fewest and most hidden layers.
        units: numbers of units of a hidden layer.
        activations: some of ``relu``, ``silu``, ``gelu``, ``elu``, ``leaky_relu``, ``tanh``.
        dropout: probabilities to drop a unit, each in [0, 1).
        normalisations: some of ``batch``, ``layer``, ``none``.
        residual: whether layers add their input: ``[False, True]`` to search it for every layer, or one
            of the two for all.

    Raises:
        ValueError: on an empty or inverted range, an unknown name, a choice given twice, a probability
            outside its range, or no classes.
    """
    from spaces.space import Space

    return Space._of(
        Mlp(
            input_shape=input_shape,
            n_classes=n_classes,
            n_layers=n_layers,
            units=units,
            activations=activations,
            dropout=dropout,
            normalisations=normalisations,
            residual=residual,
        )
    )


class _Layer(NamedTuple):
    """The choices of one layer, in the order of their hyperparameters."""

    units: int
    activation: str
    dropout: float
    normalisation: str
    residual: bool


class Mlp:
    """The family of networks behind :func:`chain_mlp`, which documents the arguments."""

    kind = "mlp"
    reads = ()
    reserved: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        input_shape: int | Sequence[int],
        n_classes: int,
        n_layers: Sequence[int],
        units: Sequence[int],
        activations: Sequence[str],
        dropout: Sequence[float],
        normalisations: Sequence[str],
        residual: Sequence[bool],
    ) -> None:
        self.input_shape = _checked_features(input_shape)
        self.n_classes = checked_classes(n_classes)
        self.n_layers = checked_range("n_layers", n_layers)
        self.units = checked_numbers("units", units)
        self.activations = checked_names("activations", activations, tuple(ACTIVATIONS))
        self.dropout = _checked_probabilities("dropout", dropout)
        self.normalisations = checked_names("normalisations", normalisations, tuple(NORMALISATIONS))
        self.residual = _checked_booleans("residual", residual)
        self._names = [[f"layer{i}_{field}" for field in _Layer._fields] for i in range(self.n_layers[1])]

    def to_dict(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-ready."""
        return {
            "input_shape": list(self.input_shape),
            "n_classes": self.n_classes,
            "n_layers": list(self.n_layers),
            "units": list(self.units),
            "activations": list(self.activations),
            "dropout": list(self.dropout),
            "normalisations": list(self.normalisations),
            "residual": list(self.residual),
        }

    def configuration_space(self) -> ConfigurationSpace:
        """Hyperparameters, each active where its layer is there."""
        import ConfigSpace
        from ConfigSpace import CategoricalHyperparameter, OrdinalHyperparameter

        low, high = self.n_layers
        depth: Any = ConfigSpace.Constant("n_layers", low)
        if low < high:
            default = min(max(_DEFAULT_LAYERS, low), high)
            depth = ConfigSpace.UniformIntegerHyperparameter("n_layers", low, high, default_value=default)
        parts: list[Any] = [depth]
        units, dropout = _nearest(self.units, _DEFAULT_UNITS), _nearest(self.dropout, _DEFAULT_DROPOUT)
        activation = "relu" if "relu" in self.activations else self.activations[0]
        normalisation = "batch" if "batch" in self.normalisations else self.normalisations[0]
        for i in range(high):
            at = f"layer{i}_"
            of_layer = [
                OrdinalHyperparameter(f"{at}units", self.units, default_value=units),
                CategoricalHyperparameter(f"{at}activation", self.activations, default_value=activation),
                OrdinalHyperparameter(f"{at}dropout", self.dropout, default_value=dropout),
                CategoricalHyperparameter(
                    f"{at}normalisation", self.normalisations, default_value=normalisation
                ),
                CategoricalHyperparameter(f"{at}residual", self.residual, default_value=self.residual[0]),
            ]
            parts += of_layer
            if i >= low:
                parts += [ConfigSpace.GreaterThanCondition(child, depth, i) for child in of_layer]
        space = ConfigSpace.ConfigurationSpace()
        space.add(parts)
        return space

    def _layers(self, params: Mapping[str, Any], depth: float = 1.0) -> list[_Layer]:
        kept = first_layers(params["n_layers"], depth)
        return [_Layer._make([params[name] for name in names]) for names in self._names[:kept]]

    def graph(self, params: Mapping[str, Any], width: float, depth: float, prune: bool = True) -> Graph:
        """The network; ``depth`` keeps the first ⌈depth · n_layers⌉ layers; everything in it is alive."""
        sketch = Sketch()
        source, features = INPUT, self.input_shape[0]
        for i, layer in enumerate(self._layers(params, depth)):
            layer = layer._replace(units=scaled(layer.units, width))
            source, features = _sketch(sketch, f"layer{i}", source, features, layer), layer.units
        sketch.add("classifier", "Linear", source, in_features=features, out_features=self.n_classes)
        return sketch.graph()

    def count(self, params: Mapping[str, Any], prune: bool) -> Count:
        """Exact size; nothing is ever pruned."""
        return self._count(self._layers(params))

    def _count(self, layers: Sequence[_Layer]) -> Count:
        parameters = macs = 0
        features = self.input_shape[0]
        for units, _, _, normalisation, residual in layers:
            projected = residual and features != units
            weights = features * units * (1 + projected)
            macs += weights
            # A normalisation has a scale and a shift, which does for the bias.
            parameters += weights + units * (1 if normalisation == "none" else 2)
            features = units
        macs += features * self.n_classes
        return Count(parameters + (features + 1) * self.n_classes, macs)

    def key(self, params: Mapping[str, Any]) -> str:
        """Equal for the same layers one after the other; no two sequences compute the same."""
        text = "\n".join(",".join(map(str, layer)) for layer in self._layers(params))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def features(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """Depth, regularisation, shares of each choice, and logs of units, parameters and MACs."""
        features: NDArray[np.float64] = self.features_many([params])[0]
        return features

    def features_many(self, configurations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """:meth:`features` of several configurations, shape (n, k)."""
        return np.array([self._features(params) for params in configurations], dtype=np.float64)

    def _features(self, params: Mapping[str, Any]) -> list[float]:
        layers = self._layers(params)
        n = len(layers)
        units, _, dropout, normalisation, residual = zip(*layers, strict=True)
        count = self._count(layers)
        sizes = (units[0], units[-1], min(units), max(units), count.parameters, count.macs)
        return [
            n,
            sum(dropout) / n,
            max(dropout),
            *(normalisation.count(name) / n for name in NORMALISATIONS),
            sum(residual) / n,
            *map(math.log, sizes),
        ]

    def pictures(self, params: Mapping[str, Any]) -> Mapping[str, Picture]:
        """The network: one box a layer, and a sum behind each residual one."""
        from spaces.drawing import Arrow, Box, Picture, outputs

        boxes = [Box("input", f"{self.input_shape[0]} features")]
        arrows: list[Arrow] = []
        features, last = self.input_shape[0], 0

        def put(box: Box, *sources: int) -> int:
            arrows.extend(Arrow(source, len(boxes)) for source in sources)
            boxes.append(box)
            return len(boxes) - 1

        for layer in self._layers(params):
            details = [f"{layer.units} units"]
            if layer.normalisation != "none":
                details.append(f"{layer.normalisation} norm")
            details.append(layer.activation)
            if layer.dropout:
                details.append(f"dropout {layer.dropout:g}")
            top = put(Box("linear", " · ".join(details)), last)
            if layer.residual:
                top = put(Box("add", "" if features == layer.units else "input projected"), last, top)
            features, last = layer.units, top
        put(Box("classifier", outputs(self.n_classes)), last)
        return {"network": Picture(tuple(boxes), tuple(arrows))}


def _sketch(sketch: Sketch, name: str, source: str, features: int, layer: _Layer) -> str:
    """Adds one layer; returns its output node."""
    change = {"in_features": features, "out_features": layer.units}
    # A normalisation has a bias of its own.
    inner = sketch.add(f"{name}_linear", "Linear", source, **change, bias=layer.normalisation == "none")
    if layer.normalisation == "batch":
        inner = sketch.add(f"{name}_norm", NORMALISATIONS["batch"], inner, num_features=layer.units)
    elif layer.normalisation == "layer":
        inner = sketch.add(f"{name}_norm", NORMALISATIONS["layer"], inner, normalized_shape=layer.units)
    inner = sketch.add(f"{name}_act", ACTIVATIONS[layer.activation], inner)
    if layer.dropout > 0:
        inner = sketch.add(f"{name}_dropout", "Dropout", inner, p=layer.dropout)
    if not layer.residual:
        return inner
    if features != layer.units:
        source = sketch.add(f"{name}_project", "Linear", source, **change, bias=False)
    return sketch.add(f"{name}_sum", "add", source, inner)


def _checked_features(given: int | Sequence[int]) -> tuple[int]:
    values: Any = (given,) if is_whole(given) else given
    if not isinstance(values, (tuple, list)) or len(values) != 1 or not is_whole(values[0]):
        hint = ""
        if isinstance(values, (tuple, list)) and len(values) > 1 and all(map(is_whole, values)):
            hint = f" Flatten the examples to {math.prod(values)} features, or use spaces.chain for images."
        raise ValueError(
            f"input_shape={given!r}: must be the number of features, from 1, such as 64 or (64,).{hint}"
        )
    return (int(values[0]),)


def _checked_probabilities(name: str, given: Sequence[float]) -> tuple[float, ...]:
    numbers = (int, float, np.integer, np.floating)
    fits = isinstance(given, (tuple, list)) and len(given) > 0
    if not fits or not all(isinstance(v, numbers) and not isinstance(v, bool) and 0 <= v < 1 for v in given):
        raise ValueError(
            f"{name}={given!r}: must be a list of probabilities, at least 0 and below 1. Use [0.0, 0.1]."
        )
    values = tuple(sorted({float(v) for v in given}))
    if len(values) < len(given):
        raise ValueError(f"{name}={given!r}: a value is given twice. Name each choice once.")
    return values


def _checked_booleans(name: str, given: Sequence[bool]) -> tuple[bool, ...]:
    if isinstance(given, (tuple, list)) and list(given) in ([False], [True], [False, True], [True, False]):
        return tuple(bool(v) for v in given)
    raise ValueError(f"{name}={given!r}: must be a list of True and False. Use [False, True] to search it.")


def _nearest(values: Sequence[Any], wanted: float) -> Any:
    return min(values, key=lambda value: abs(value - wanted))
