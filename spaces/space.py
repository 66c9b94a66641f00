"""The search space: a configuration space joined with the networks it describes; knows no search."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from spaces.checking import is_whole
from spaces.configspace import Description, describe, draw_column, extended, random_state, restore
from spaces.counting import Count
from spaces.fixing import fixed, with_defaults
from spaces.table import Codes, Table

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from numpy.typing import NDArray
    from torch import nn

    from spaces.architecture import Architecture
    from spaces.drawing import Picture
    from spaces.footprint import Footprint

VERSION = 1
"""Of the JSON that :meth:`Space.to_dict` writes."""

# The only kinds of architecture a file can name, and where each is; imported when one is needed.
ARCHITECTURES: Mapping[str, tuple[str, str]] = {
    "chain": ("spaces.chains", "Chain"),
    "mlp": ("spaces.mlps", "Mlp"),
    "cell": ("spaces.cells", "Cell"),
    "nas_bench_201": ("spaces.nas_bench_201", "NasBench201"),
}


@runtime_checkable
class InBatches(Protocol):
    """An architecture that computes the features of several configurations faster together."""

    def features_many(self, configurations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """As :meth:`Architecture.features` for each, shape (n, k)."""


class Space:
    """What a study searches: configurations, and the network each of them describes.

    ``params`` below is a configuration as a plain dictionary: active hyperparameters only, plain
    values. :func:`spaces.chain`, :func:`spaces.chain_mlp` and :func:`spaces.cell` make spaces of bonas's
    own; this constructor makes one of yours::

        space = Space(ConfigurationSpace({"units": (8, 256)}), build=lambda params, width, depth: MLP(params))

    Args:
        configuration_space: ConfigSpace hyperparameters, conditions and forbidden clauses.
        build: ``build(params, width, depth)`` returns a ``torch.nn.Module``.
        key: ``key(params)`` returns a text, the same for configurations that compute and train the same:
            of those only the first is evaluated.
        count: ``count(params, prune)`` returns a :class:`Count`.
        features: ``features(params)`` returns a 1-D array of finite numbers for the surrogate.

    Raises:
        ValueError: if ``configuration_space`` is not one, or a function cannot be called.
    """

    def __init__(
        self,
        configuration_space: ConfigurationSpace,
        build: Callable[..., Any] | None = None,
        key: Callable[..., Any] | None = None,
        count: Callable[..., Any] | None = None,
        features: Callable[..., Any] | None = None,
    ) -> None:
        functions = {"build": build, "key": key, "count": count, "features": features}
        for name, function in functions.items():
            if function is not None and not callable(function):
                raise ValueError(f"{name}={function!r}: must be a function, or None.")
        # Of "with_features" a tuple of functions.
        self._functions: dict[str, Any] = {n: f for n, f in functions.items() if f is not None}
        self._architecture: Architecture | None = None
        self.missing: tuple[str, ...] = ()
        """Functions the stored space had and that must be passed again; using one of them raises."""
        self._compile(describe(configuration_space), ())

    @staticmethod
    def _of(architecture: Architecture) -> Space:
        """The space of one of bonas's own architectures, without hyperparameters of training."""
        return Space._made({}, architecture, (), describe(architecture.configuration_space()), ())

    @staticmethod
    def _made(
        functions: Mapping[str, Any],
        architecture: Architecture | None,
        missing: tuple[str, ...],
        description: Description,
        hyperparameters: Iterable[str],
    ) -> Space:
        space = object.__new__(Space)
        space._functions, space._architecture, space.missing = dict(functions), architecture, missing
        space._compile(description, hyperparameters)
        return space

    def __reduce__(self) -> tuple[Any, ...]:
        # What is compiled holds closures, and ConfigSpace objects do not survive pickling unharmed.
        parts = (self._functions, self._architecture, self.missing, self._description, self._hyperparameters)
        return Space._made, parts

    def _compile(self, description: Description, hyperparameters: Iterable[str]) -> None:
        self.configuration_space: ConfigurationSpace = restore(description)
        """The real ConfigSpace space; to change it use fix and with_hyperparameters."""
        # ConfigSpace sorts; so the same space has one order of columns, whichever way it came about.
        self._description = describe(self.configuration_space)
        self._table = Table(self._description)
        self._hyperparameters = tuple(n for n in hyperparameters if n in self._table.column)
        self._default: dict[str, Any] | None = None

    def _with(self, description: Description, hyperparameters: Iterable[str]) -> Space:
        return Space._made(self._functions, self._architecture, self.missing, description, hyperparameters)

    def __repr__(self) -> str:
        what = self._architecture.kind if self._architecture else "own"
        size = f"{self.size:.3g}" if math.isfinite(self.size) else "infinitely many"
        return f"<Space {what}: {len(self._table.names)} hyperparameters, {size} configurations>"

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Space) and self.to_dict() == other.to_dict())

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True, default=repr))

    # Configurations --------------------------------------------------------------------------

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """(channels, height, width) of one image, or (features,); None for a space of your own."""
        return self._architecture.input_shape if self._architecture else None

    @property
    def n_classes(self) -> int | None:
        """How many classes the networks tell apart; None for a space of your own."""
        return self._architecture.n_classes if self._architecture else None

    @property
    def names(self) -> tuple[str, ...]:
        """All hyperparameters, active or not."""
        return self._table.names

    @property
    def default(self) -> dict[str, Any]:
        """Params of a sensible hand-written network and training, with everything that is fixed."""
        if self._default is None:
            self._default = self._table.default()
        return dict(self._default)

    @property
    def size(self) -> float:
        """An upper bound of the number of configurations; infinite with a continuous hyperparameter."""
        return self._table.size

    def sample(self, n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
        """``n`` independent params from the priors, conditions and forbidden clauses respected.

        Raises:
            ValueError: if ``n`` is no whole number or negative, ``rng`` is no generator, or the forbidden
                clauses leave next to nothing.
        """
        _check_draws(n, rng)
        return self._table.decode(self._table.sample(n, self._draw(rng), rng))

    def enumerate(self) -> Iterator[dict[str, Any]]:
        """All params of a finite space, one by one.

        Raises:
            ValueError: if the space is infinite.
        """
        if not math.isfinite(self.size):
            raise ValueError("enumerate: the space is infinite. Use sample, or fix the continuous ones.")
        return self._table.enumerate()

    def validate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Canonical params: plain values in the space's order, fixed values filled in.

        Raises:
            ValueError: if ``params`` is not a configuration of the space.
        """
        return self._table.validate(params)

    def has_chance(self, params: Mapping[str, Any]) -> bool:
        """Whether the priors can give canonical params: none of their categories has a weight of zero."""
        return self._table.has_chance(params)

    def neighbours(self, params: Mapping[str, Any], rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
        """``n`` params that differ in one active hyperparameter; fewer where the clauses leave fewer.

        What the change activates is drawn from the prior, what it deactivates is dropped. Repeats occur.

        Raises:
            ValueError: as :meth:`sample`, or if ``params`` is not a configuration of the space.
        """
        _check_draws(n, rng)
        row = self._codes([params])[0]
        return self._table.decode(self._table.neighbours(row, n, rng, self._draw(rng)))

    def encode(self, configurations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Canonical params as numbers: one-hot or in [0, 1], logarithmic where the range is, NaN if inactive.

        Returns:
            array of shape (n, d), its columns named by :attr:`encode_names`.
        """
        return self._table.encode(self._codes(configurations))

    def _codes(self, configurations: Sequence[Mapping[str, Any]]) -> Codes:
        try:
            return self._table.codes(configurations)
        except _MISTAKES as error:
            raise self._explained(configurations, error) from error

    def _explained(self, configurations: Sequence[Mapping[str, Any]], error: Exception) -> ValueError:
        """What is wrong with params that led to an error; checking them beforehand would take longer."""
        if isinstance(configurations, (str, Mapping)) or not isinstance(configurations, Sequence):
            return ValueError(
                f"configurations={configurations!r}: must be a list of params. Write [params] for one."
            )
        for params in configurations:
            try:
                canonical = self.validate(params)
            except ValueError as wrong:
                return wrong
            if len(canonical) > len(params):
                names = [name for name in canonical if name not in params]
                return ValueError(
                    f"params={dict(params)!r}: what is fixed belongs into params, {names[0]!r} is missing. "
                    "Use space.validate(params)."
                )
        return ValueError(
            f"the space does not fit its networks: {error!r}. Was the file it is from edited? Write it anew."
        )

    @property
    def encode_names(self) -> tuple[str, ...]:
        """Names of the columns of :meth:`encode`."""
        return self._table.encode_names

    def _draw(self, rng: np.random.Generator) -> Callable[[int], Codes]:
        parts = [self.configuration_space[name] for name in self._table.names]

        def draw(n: int) -> Codes:
            state = random_state(rng)
            if not n:
                return np.empty((0, len(parts)))
            columns = [draw_column(part, n, state) for part in parts]
            table = np.stack(columns, axis=1) if columns else np.empty((n, 0))
            for i, domain in enumerate(self._table.domains):
                if not domain.choices:  # a logarithm and back may leave the range by a rounding error
                    np.clip(table[:, i], domain.low, domain.high, out=table[:, i])
            return table

        return draw

    # Networks --------------------------------------------------------------------------------

    def key(self, params: Mapping[str, Any]) -> str:
        """A text equal for configurations that compute the same network and train it the same way."""
        network = self.network_key(params)
        training = {n: params[n] for n in params if n in self._hyperparameters}
        return f"{network}|{_text(training)}" if training else network

    def network_key(self, params: Mapping[str, Any]) -> str:
        """A text equal for configurations that compute the same network, however they train it."""
        if not isinstance(params, Mapping):
            raise self._explained([params], TypeError())
        own = {n: params[n] for n in params if n not in self._hyperparameters}
        if self._architecture:
            try:
                return self._architecture.key(own)
            except _MISTAKES as error:
                raise self._explained([params], error) from error
        function = self._function("key")
        network = function(own) if function else _text(own)
        if not isinstance(network, str):
            raise ValueError(
                f"key returned {network!r}: must return a text, the same only for configurations that "
                "compute and train the same."
            )
        return network

    def build(self, params: Mapping[str, Any], width: float = 1.0, depth: float = 1.0) -> nn.Module:
        """The network of a configuration, freshly initialised from torch's generator.

        Args:
            params: canonical params.
            width: fraction of the filters, in (0, 1].
            depth: fraction of the layers or cells, in (0, 1].

        Raises:
            ValueError: if the space cannot build, or its function returns no module.
        """
        from torch import nn

        if self._architecture:
            from spaces.operations import Network

            canonical = self.validate(params)
            try:
                graph = self._architecture.graph(canonical, width, depth)
            except _MISTAKES as error:
                raise self._explained([canonical], error) from error
            return Network(graph)
        function = self._function("build")
        if function is None:
            raise ValueError("build: this space has no such function. Pass Space(..., build=function).")
        module = function(dict(params), width, depth)
        if not isinstance(module, nn.Module):
            raise ValueError(f"build returned {type(module).__name__}: must return a torch.nn.Module.")
        return module

    def count(self, params: Mapping[str, Any], prune: bool = True) -> Count:
        """Exact parameters and MACs of the network at full width and depth, without building it.

        Args:
            params: canonical params.
            prune: whether to leave out what cannot reach the output, as :meth:`build` does; published
                tables keep it.

        Raises:
            ValueError: if the space cannot count.
        """
        if self._architecture:
            canonical = self.validate(params)
            try:
                return self._architecture.count(canonical, prune)
            except _MISTAKES as error:
                raise self._explained([canonical], error) from error
        function = self._function("count")
        if function is not None:
            count = function(dict(params), prune)
            if not isinstance(count, Count):
                raise ValueError(f"count returned {count!r}: must be a spaces.Count(parameters, macs).")
            return count
        raise ValueError(
            "count: this space has no such function. Pass Space(..., count=function), one that returns "
            "spaces.Count(parameters, macs)."
        )

    def footprint(
        self, params: Mapping[str, Any], input_shape: Sequence[int] | None = None, mixed: bool = False
    ) -> Footprint:
        """What training the network at full width and depth keeps in memory, without building it.

        Args:
            params: canonical params.
            input_shape: of the examples; None for those the space is made for.
            mixed: whether it is trained in mixed precision.

        Raises:
            ValueError: if the space is not one of bonas's own.
        """
        from spaces.footprint import footprint

        if not self._architecture:
            raise ValueError("footprint: only of bonas's own networks is it known what they keep in memory.")
        canonical = self.validate(params)
        try:
            graph = self._architecture.graph(canonical, 1.0, 1.0)
        except _MISTAKES as error:
            raise self._explained([canonical], error) from error
        return footprint(graph, tuple(input_shape or self._architecture.input_shape), mixed)

    def features(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """Structural features of the network for a surrogate: finite, shape (k,); empty if none are known."""
        row: NDArray[np.float64] = self.features_many([params])[0]
        return row

    def features_many(self, configurations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """:meth:`features` of several configurations; shape (n, k)."""
        if not configurations:
            return np.empty((0, 0))
        parts = [self._own_features(configurations)]
        for function in self._function("with_features") or ():
            parts.append(_columns("with_features", function, configurations))
        return np.concatenate(parts, axis=1)

    def _own_features(self, configurations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        architecture = self._architecture
        if architecture is None:
            function = self._function("features")
            if function is None:
                return np.empty((len(configurations), 0))
            return _columns("features", function, configurations)
        try:
            if isinstance(architecture, InBatches):
                return architecture.features_many(configurations)
            return np.stack([architecture.features(params) for params in configurations])
        except _MISTAKES as error:
            raise self._explained(configurations, error) from error

    def with_features(self, function: Callable[[Mapping[str, Any]], Any]) -> Space:
        """The space with further columns behind its features, such as a zero-cost proxy's.

        ::

            space = space.with_features(lambda params: [gradient_norm(space.build(params))])

        The function is called for every candidate a surrogate scores, some hundreds at every ask; a slow
        one should remember what it has computed, by ``space.key(params)``.

        Args:
            function: ``function(params)`` returns a 1-D array of finite numbers, always as many.

        Raises:
            ValueError: if the function cannot be called.
        """
        if not callable(function):
            raise ValueError(f"with_features: function={function!r}: must be a function of params.")
        functions = {
            **self._functions,
            "with_features": (*self._functions.get("with_features", ()), function),
        }
        missing = tuple(name for name in self.missing if name != "with_features")
        return Space._made(functions, self._architecture, missing, self._description, self._hyperparameters)

    def pictures(self, params: Mapping[str, Any]) -> dict[str, Picture]:
        """Boxes and arrows of every part of the network worth a drawing, by name: cells, the network.

        A space of your own has one part, the list of its hyperparameters.
        """
        from spaces.drawing import Box, Picture

        if self._architecture:
            return dict(self._architecture.pictures(self.validate(params)))
        boxes = tuple(Box(name, str(value)) for name, value in self.validate(params).items())
        return {"configuration": Picture(boxes, ())}

    def draw(self, params: Mapping[str, Any], part: str | None = None) -> str:
        """A drawing of the network as one SVG document, legible on light and dark pages.

        Args:
            params: canonical params.
            part: what to draw of it, such as ``network``; None for all its parts beside each other.

        Raises:
            ValueError: if the network has no such part.
        """
        from spaces.drawing import svg

        pictures = self.pictures(params)
        if part is None:
            return svg(pictures)
        if not isinstance(part, str) or part not in pictures:
            raise ValueError(f"part={part!r}: this network is drawn in the parts {list(pictures)}. Name one.")
        return svg({part: pictures[part]})

    def source(self, params: Mapping[str, Any], width: float = 1.0, depth: float = 1.0) -> str:
        """One self-contained Python file: plain torch, no bonas.

        Its ``Network()`` has the same state dict keys as ``build(params, width, depth)``.

        Raises:
            ValueError: if the space is not one of bonas's own.
        """
        from spaces.source import source_code

        if not self._architecture:
            raise ValueError(
                "source: only bonas's own networks can be written out as code. "
                "Keep the file of your build function beside the weights."
            )
        params = self.validate(params)
        settings = ", ".join(f"{name}={value!r}" for name, value in params.items())
        title = f"Found by bonas in a {self._architecture.kind} space.\n\nConfiguration: {settings}."
        return source_code(self._architecture.graph(params, width, depth), title)

    def _function(self, name: str) -> Any:
        if name in self.missing:
            raise ValueError(
                f"{name}: this space was restored from a file, and functions are never stored. "
                f"Pass the space with its {name} function again, load_study(..., space=space)."
            )
        return self._functions.get(name)

    # Narrower and wider ----------------------------------------------------------------------

    def fix(self, values: Mapping[str, Any]) -> Space:
        """The space with some hyperparameters fixed.

        They stay in params. What can never be active any more goes; conditions that always hold go too.

        Raises:
            ValueError: on an unknown name, an illegal value, or values that exclude each other.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"fix {values!r}: takes a dict, such as fix({{'lr': 0.01}}).")
        canonical = {}
        for name, value in values.items():
            if name not in self._table.column:
                raise ValueError(
                    f"fix {name!r}: the space has no such hyperparameter.{self._table.near(name)}"
                )
            domain = self._table.domains[self._table.column[name]]
            canonical[name] = domain.value(domain.code(value))
        description = fixed(self._description, canonical)
        # ConfigSpace refuses a space whose default configuration is forbidden.
        description = with_defaults(description, Table(description).default())
        return self._with(description, self._hyperparameters)

    def with_hyperparameters(self, hyperparameters: Iterable[Any] | None = None) -> Space:
        """The space joined with hyperparameters of training.

        Args:
            hyperparameters: ConfigSpace hyperparameters, conditions and forbidden clauses; None for
                :func:`spaces.default_hyperparameters`, with those the networks read and, for images,
                those that need images.

        Raises:
            ValueError: if a name exists already or is one of the networks' settings, or something is not a
                part of a ConfigSpace space.
        """
        from spaces.hyperparameters import default_hyperparameters

        if hyperparameters is not None and (
            isinstance(hyperparameters, (str, Mapping)) or not isinstance(hyperparameters, Iterable)
        ):
            raise ValueError(
                f"hyperparameters={hyperparameters!r}: must be a list of parts of a ConfigSpace. "
                "Use [ConfigSpace.Float('lr', (1e-4, 1e-1), log=True)], say."
            )
        if hyperparameters is not None:
            added = list(hyperparameters)
        elif self._architecture is None:
            added = default_hyperparameters()
        else:
            images = len(self._architecture.input_shape) == 3
            added = default_hyperparameters(self._architecture.reads, images)
        description = extended(self._description, added)
        names = [h["name"] for h in description["hyperparameters"] if h["name"] not in self._table.column]
        for name in names:
            if self._architecture and name in self._architecture.reserved:
                raise ValueError(
                    f"hyperparameter {name!r}: the networks have a setting of that name, which is not "
                    "searched here. Rename it, or give the values to search where the space is made."
                )
        return self._with(description, (*self._hyperparameters, *names))

    # Stored ----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description; functions are named, never stored."""
        architecture = self._architecture
        return {
            "version": VERSION,
            "architecture": {"kind": architecture.kind} | architecture.to_dict() if architecture else None,
            "functions": sorted({*self._functions, *self.missing}),
            "hyperparameters": list(self._hyperparameters),
            "configuration_space": self._json(),
        }

    def _json(self) -> Any:
        try:
            return json.loads(json.dumps(self._description, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"this space cannot be written as JSON: {error}. Let choices be texts, numbers, booleans or "
                "tuples of them, and look the objects they stand for up in build."
            ) from error

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Space:
        """The inverse of :meth:`to_dict`; :attr:`missing` names the functions to be passed again.

        Raises:
            ValueError: if the description is of a newer version, or not one of a space.
        """
        version = data.get("version") if isinstance(data, Mapping) else None
        parts = {"architecture", "functions", "hyperparameters", "configuration_space"}
        if not isinstance(version, int) or (version <= VERSION and not parts <= data.keys()):
            raise ValueError("this is not the description of a space. Use what to_dict returned, unchanged.")
        if version > VERSION:
            raise ValueError(
                f"space of version {version}: this bonas reads versions up to {VERSION}. Upgrade bonas."
            )
        for part in ("functions", "hyperparameters"):
            if not isinstance(data[part], list) or not all(isinstance(name, str) for name in data[part]):
                raise ValueError(f"{part}={data[part]!r}: must be a list of names. Was the file edited?")
        for part in ("architecture", "configuration_space"):
            if not isinstance(data[part], dict) and not (part == "architecture" and data[part] is None):
                raise ValueError(f"{part}={data[part]!r}: must be a dictionary. Was the file edited?")
        architecture = None
        if data["architecture"] is not None:
            settings = dict(data["architecture"])
            kind = settings.pop("kind", None)
            if not isinstance(kind, str) or kind not in ARCHITECTURES:
                raise ValueError(
                    f"architecture {kind!r}: is not known, this bonas has {list(ARCHITECTURES)}. "
                    "Upgrade bonas if a newer one wrote the space."
                )
            module, name = ARCHITECTURES[kind]
            try:
                architecture = getattr(importlib.import_module(module), name)(**settings)
            except _MISTAKES as error:
                raise ValueError(f"{kind} cannot be restored: {error}. Was the file edited?") from error
        description = data["configuration_space"]
        return Space._made({}, architecture, tuple(data["functions"]), description, data["hyperparameters"])


# What work on params that are no configuration ends in.
_MISTAKES = (AttributeError, IndexError, KeyError, TypeError)


def _check_draws(n: int, rng: np.random.Generator) -> None:
    if not is_whole(n, 0):
        raise ValueError(f"n={n!r}: must be a whole number, and must not be negative.")
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng={rng!r}: must be a NumPy generator. Use np.random.default_rng(0).")


def _text(params: Mapping[str, Any]) -> str:
    text = json.dumps(params, sort_keys=True, separators=(",", ":"), default=repr)
    return text if len(text) <= 200 else hashlib.sha256(text.encode()).hexdigest()


def _columns(
    name: str, function: Callable[..., Any], configurations: Sequence[Mapping[str, Any]]
) -> NDArray[np.float64]:
    """What a user's function of params says of each configuration, shape (n, k).

    Raises:
        ValueError: if it is not a 1-D array of finite numbers, of one length.
    """
    rows: list[NDArray[np.float64]] = []
    for params in configurations:
        returned = function(dict(params))
        try:
            row = np.asarray(returned, dtype=np.float64)
        except (TypeError, ValueError):
            row = np.empty(())
        if row.ndim != 1 or not np.isfinite(row).all():
            raise ValueError(f"{name} returned {returned!r}: must be a 1-D array of finite numbers.")
        if rows and len(row) != len(rows[0]):
            raise ValueError(
                f"{name} returned {len(rows[0])} numbers for one configuration and {len(row)} for another: "
                "must be as many for all. Give what is absent a number too, such as 0."
            )
        rows.append(row)
    return np.stack(rows)
