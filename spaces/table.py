"""A configuration space compiled to columns of numbers, for work in batches; knows no networks.

Glossary. A *code* is a hyperparameter's value as a float: the position among its choices
(categorical, ordinal, constant) or the number itself; NaN where it is inactive. A *table of codes*
has shape (n, p), one row for each configuration, one column for each hyperparameter.
Conditions and forbidden clauses become functions from a table of codes to a mask of shape (n,).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.float64]
Mask = NDArray[np.bool_]
Predicate = Callable[[Codes], Mask]
Kind = Literal["categorical", "ordinal", "constant", "integer", "float"]

_KINDS: Mapping[str, Kind] = {
    "categorical": "categorical",
    "ordinal": "ordinal",
    "constant": "constant",
    "uniform_int": "integer",
    "normal_int": "integer",
    "beta_int": "integer",
    "uniform_float": "float",
    "normal_float": "float",
    "beta_float": "float",
}


@dataclass(frozen=True, slots=True)
class Domain:
    """The values one hyperparameter may take."""

    name: str
    kind: Kind
    choices: tuple[Any, ...]
    """All values, in order; empty for numbers."""
    low: float
    high: float
    log: bool
    default: float
    """Code of the default value."""

    @staticmethod
    def from_description(item: Mapping[str, Any]) -> Domain:
        """The domain of one described hyperparameter."""
        kind = _KINDS[item["type"]]
        if kind in ("integer", "float"):
            default = float(item["default_value"])
            return Domain(item["name"], kind, (), item["lower"], item["upper"], bool(item["log"]), default)
        key = {"categorical": "choices", "ordinal": "sequence"}.get(kind)
        choices = tuple(_hashable(v) for v in (item[key] if key else [item["value"]]))
        position = choices.index(_hashable(item["default_value"])) if key else 0
        return Domain(item["name"], kind, choices, 0, len(choices) - 1, False, float(position))

    @property
    def size(self) -> float:
        """How many values there are; infinite for a float."""
        if self.choices:
            return len(self.choices)
        return self.high - self.low + 1 if self.kind == "integer" else math.inf

    def code(self, value: Any) -> float:
        """The code of a value.

        Raises:
            ValueError: if the value is not one of the domain's.
        """
        if isinstance(value, np.generic):
            value = value.item()
        if self.choices:
            value = _hashable(value)
            for position, choice in enumerate(self.choices):
                # In Python True == 1, but they are different hyperparameter values.
                if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                    return float(position)
            shown = self.choices[0] if self.kind == "constant" else list(self.choices)
            rule = f"is fixed to {shown!r}" if self.kind == "constant" else f"must be one of {shown!r}"
            raise ValueError(f"{self.name}={value!r}: {rule}.")
        rule = f"must lie in [{self.low}, {self.high}]"
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{self.name}={value!r}: must be a number; it {rule}.")
        if not self.low <= value <= self.high:
            raise ValueError(f"{self.name}={value!r}: {rule}.")
        if self.kind == "integer" and value != int(value):
            raise ValueError(f"{self.name}={value!r}: must be a whole number; it {rule}.")
        return float(value)

    def value(self, code: float) -> Any:
        """The value of a code, as a plain Python object."""
        if self.choices:
            return self.choices[int(code)]
        return int(code) if self.kind == "integer" else float(code)

    def unit(self, codes: Codes) -> Codes:
        """Codes scaled to [0, 1], on a logarithmic scale where the hyperparameter has one."""
        if self.high == self.low:
            return np.where(np.isnan(codes), np.nan, 0.0)
        if self.log:
            return np.asarray(np.log(codes / self.low) / math.log(self.high / self.low), dtype=np.float64)
        return (codes - self.low) / (self.high - self.low)

    def from_unit(self, unit: Codes) -> Codes:
        """The inverse of :meth:`unit`, rounded and clipped to the domain."""
        unit = np.clip(unit, 0.0, 1.0)
        if self.log:
            codes = np.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low)))
        else:
            codes = self.low + unit * (self.high - self.low)
        if self.kind != "float":
            codes = np.rint(codes)
        return np.clip(codes, self.low, self.high)

    def mutated(self, code: float, n: int, rng: np.random.Generator) -> Codes:
        """``n`` other codes near ``code``: any other category, a nearby number, never ``code`` itself."""
        if self.kind == "categorical":
            others = (code + rng.integers(1, len(self.choices), size=n)) % len(self.choices)
            return np.asarray(others, dtype=np.float64)
        # A fifth of the range is the step SMAC's local search takes for numbers.
        codes = self.from_unit(self.unit(np.full(n, code)) + rng.normal(0.0, 0.2, size=n))
        same = codes == code
        if self.kind == "float":
            return np.where(same, self.from_unit(rng.random(n)), codes)
        step = rng.choice([-1.0, 1.0], size=n)
        step = np.where((code + step < self.low) | (code + step > self.high), -step, step)
        return np.where(same, code + step, codes)


class Table:
    """All hyperparameters, conditions and forbidden clauses of one described space.

    Args:
        description: as :func:`spaces.configspace.describe` returns it.
    """

    def __init__(self, description: Mapping[str, Any]) -> None:
        self.domains = tuple(Domain.from_description(item) for item in description["hyperparameters"])
        self.names = tuple(d.name for d in self.domains)
        self.column: Mapping[str, int] = {name: i for i, name in enumerate(self.names)}
        parents: dict[int, set[int]] = {i: set() for i in range(len(self.domains))}
        self.conditions: dict[int, Predicate] = {}
        for item in description["conditions"]:
            child = self.column[_child(item)]
            self.conditions[child] = self._condition(item)
            parents[child] = {self.column[name] for name in _parents(item)}
        self.forbidden = [(self._clause(item), _shown(item)) for item in description["forbiddens"]]
        self.order = _topological(parents)
        self._conditional = [i for i in self.order if i in self.conditions]

    # Conditions and clauses ------------------------------------------------------------------

    def _condition(self, item: Mapping[str, Any]) -> Predicate:
        kind = item["type"]
        if kind in ("AND", "OR"):
            return _joined(kind, [self._condition(part) for part in item["conditions"]])
        return self._literal(kind, item["parent"], item)

    def _clause(self, item: Mapping[str, Any]) -> Predicate:
        kind = item["type"]
        if kind in ("AND", "OR"):
            return _joined(kind, [self._clause(part) for part in item["clauses"]])
        if kind.startswith("RELATION"):
            return self._relation(item)
        return self._literal({"EQUALS": "EQ"}.get(kind, kind.removeprefix("CLAUSE_")), item["name"], item)

    def _literal(self, kind: str, name: str, item: Mapping[str, Any]) -> Predicate:
        column = self.column[name]
        domain = self.domains[column]
        if kind == "IN":
            codes = np.array([domain.code(v) for v in item["values"]])
            return lambda table: np.isin(table[:, column], codes)
        code = domain.code(item["value"])
        match kind:
            case "EQ":
                return lambda table: table[:, column] == code
            case "NEQ":
                # NaN is unequal to everything, but an inactive parent satisfies nothing.
                return lambda table: (table[:, column] != code) & ~np.isnan(table[:, column])
            case "LT":
                return lambda table: table[:, column] < code
            case "LE":
                return lambda table: table[:, column] <= code
            case "GT":
                return lambda table: table[:, column] > code
            case "GE":
                return lambda table: table[:, column] >= code
        raise ValueError(f"condition {kind!r} on {name!r}: not known. Was it written by a newer ConfigSpace?")

    def _relation(self, item: Mapping[str, Any]) -> Predicate:
        left, right = self.column[item["left"]], self.column[item["right"]]
        kind = {"RELATION": item.get("lambda")}.get(item["type"], item["type"].removeprefix("RELATION_"))
        compare: Mapping[str, Callable[[Any, Any], bool]] = {
            "LT": lambda a, b: a < b,
            "LE": lambda a, b: a <= b,
            "EQ": lambda a, b: a == b,
            "GT": lambda a, b: a > b,
            "GE": lambda a, b: a >= b,
        }
        holds, a, b = compare[str(kind)], self.domains[left], self.domains[right]

        def predicate(table: Codes) -> Mask:
            # Values are compared, not positions; few spaces have relations, so plainly one by one.
            mask = ~(np.isnan(table[:, left]) | np.isnan(table[:, right]))
            rows = np.flatnonzero(mask)
            mask[rows] = [bool(holds(a.value(x), b.value(y))) for x, y in table[rows][:, [left, right]]]
            return mask

        return predicate

    def deactivate(self, table: Codes) -> Codes:
        """``table``, changed in place: NaN wherever conditions make a hyperparameter inactive."""
        for child in self._conditional:
            table[~self.conditions[child](table), child] = np.nan
        return table

    def allowed(self, table: Codes) -> Mask:
        """Which rows violate no forbidden clause; shape (n,)."""
        allowed = np.ones(len(table), dtype=np.bool_)
        for predicate, _ in self.forbidden:
            allowed &= ~predicate(table)
        return allowed

    # Values and codes ------------------------------------------------------------------------

    def decode(self, table: Codes) -> list[dict[str, Any]]:
        """Rows of codes as params: active hyperparameters only, plain values."""
        rows: list[dict[str, Any]] = [{} for _ in range(len(table))]
        for column, domain in enumerate(self.domains):
            codes = table[:, column]
            for i in np.flatnonzero(~np.isnan(codes)).tolist():
                rows[i][domain.name] = domain.value(codes[i])
        return rows

    def codes(self, configurations: Sequence[Mapping[str, Any]]) -> Codes:
        """Canonical params as a table of codes; the inverse of :meth:`decode`."""
        table = np.full((len(configurations), len(self.domains)), np.nan)
        for column, domain in enumerate(self.domains):
            name = domain.name
            if domain.choices:
                positions = {_tagged(c): float(i) for i, c in enumerate(domain.choices)}
                for i, params in enumerate(configurations):
                    if name in params:
                        table[i, column] = positions[_tagged(params[name])]
            else:
                for i, params in enumerate(configurations):
                    if name in params:
                        table[i, column] = params[name]
        return table

    def validate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Canonical params.

        Raises:
            ValueError: if ``params`` is not a configuration of the space.
        """
        if not isinstance(params, Mapping):
            raise ValueError(f"params={params!r}: must be a dictionary from hyperparameter to value.")
        for name in params:
            if name not in self.column:
                raise ValueError(
                    f"hyperparameter {name!r}: the space has none of that name.{self.near(name)}"
                )
        table = np.full((1, len(self.domains)), np.nan)
        for column in self.order:
            domain = self.domains[column]
            condition = self.conditions.get(column)
            active = condition is None or bool(condition(table)[0])
            if active and domain.name in params:
                table[0, column] = domain.code(params[domain.name])
            elif active and domain.kind == "constant":
                table[0, column] = 0.0
            elif active:
                raise ValueError(
                    f"hyperparameter {domain.name!r} is missing: it is active here. "
                    f"Add it, for example {domain.name}={domain.value(domain.default)!r}."
                )
            elif domain.name in params:
                raise ValueError(
                    f"{domain.name}={params[domain.name]!r}: the hyperparameter is inactive here, "
                    "its condition does not hold. Leave it out."
                )
        for predicate, shown in self.forbidden:
            if predicate(table)[0]:
                raise ValueError(
                    f"params={dict(params)!r}: forbidden by the clause {shown}. Change one value."
                )
        return self.decode(table)[0]

    def near(self, name: object) -> str:
        """A hint at the name probably meant, or nothing."""
        near = difflib.get_close_matches(str(name), self.names, n=1)
        return f" Did you mean {near[0]!r}?" if near else f" It has {', '.join(self.names)}."

    # Sampling, mutation, enumeration ---------------------------------------------------------

    def sample(self, n: int, draw: Callable[[int], Codes]) -> Codes:
        """``n`` allowed rows from ``draw(m)``, a table of m independent draws from all priors.

        Raises:
            ValueError: if the forbidden clauses leave next to nothing.
        """
        found = [np.empty((0, len(self.domains)))]
        missing, tried, size = n, 0, n
        while missing > 0:
            table = self.deactivate(draw(size))
            table = table[self.allowed(table)][:missing]
            tried += size
            missing -= len(table)
            found.append(table)
            accepted = n - missing
            if tried >= 100_000 and accepted / tried < 1e-4:
                raise ValueError(
                    f"the forbidden clauses left {accepted} of {tried} samples: too few to search. "
                    "Say what is allowed with conditions or narrower choices."
                )
            size = min(100_000, max(64, int(1.3 * missing * tried / max(accepted, 1))))
        return np.concatenate(found)

    def neighbours(self, row: Codes, n: int, rng: np.random.Generator, draw: Callable[[int], Codes]) -> Codes:
        """Up to ``n`` allowed rows that differ from ``row`` (shape (p,)) in one active hyperparameter.

        Hyperparameters that become active are drawn from their prior, ones that become inactive are dropped.
        """
        free = [i for i in range(len(row)) if not math.isnan(row[i]) and self.domains[i].size > 1]
        found = np.empty((0, len(row)))
        if not free:
            return found
        for _ in range(20):
            if len(found) >= n:
                break
            table = np.tile(row, (n, 1))
            column = rng.choice(free, size=n)
            for i in np.unique(column).tolist():
                rows = np.flatnonzero(column == i)
                table[rows, i] = self.domains[i].mutated(row[i], len(rows), rng)
            prior = draw(n)
            table = self.deactivate(np.where(np.isnan(table), prior, table))
            found = np.concatenate([found, table[self.allowed(table)]])
        return found[:n]

    def enumerate(self) -> Iterator[dict[str, Any]]:
        """Every configuration of a finite space, in the order of its hyperparameters."""
        table = np.full((1, len(self.domains)), np.nan)

        def below(depth: int) -> Iterator[dict[str, Any]]:
            if depth == len(self.order):
                if self.allowed(table)[0]:
                    yield self.decode(table)[0]
                return
            column = self.order[depth]
            condition = self.conditions.get(column)
            if condition is None or condition(table)[0]:
                domain = self.domains[column]
                for code in np.arange(domain.low, domain.high + 1):
                    table[0, column] = code
                    yield from below(depth + 1)
                table[0, column] = np.nan
            else:
                yield from below(depth + 1)

        yield from below(0)

    def default(self) -> dict[str, Any]:
        """Every active hyperparameter at its default; where that is forbidden, something near and allowed."""
        defaults = np.array([[d.default for d in self.domains]])
        wanted = self.deactivate(defaults.copy())
        if not self.allowed(wanted)[0]:
            rng = np.random.default_rng(0)

            def draw(n: int) -> Codes:
                # Half of the values stay at their defaults, so that what comes out is near them.
                unit = rng.random((n, len(self.domains)))
                drawn = np.stack([d.from_unit(unit[:, i]) for i, d in enumerate(self.domains)], axis=1)
                return np.where(rng.random(drawn.shape) < 0.5, defaults, drawn)

            table = self.sample(256, draw)
            same = (table == wanted) | (np.isnan(table) & np.isnan(wanted))
            wanted = table[[int(same.sum(axis=1).argmax())]]
        return self.decode(wanted)[0]

    @property
    def size(self) -> float:
        """An upper bound of the number of configurations: exact without conditions and forbidden clauses."""
        return math.prod(d.size + (i in self.conditions) for i, d in enumerate(self.domains))

    # Encoding --------------------------------------------------------------------------------

    @property
    def encode_names(self) -> tuple[str, ...]:
        """Names of the columns of :meth:`encode`."""
        names: list[str] = []
        for domain in self.domains:
            if domain.kind == "categorical":
                names += [f"{domain.name}={choice}" for choice in domain.choices]
            elif domain.kind != "constant":
                names.append(domain.name)
        return tuple(names)

    def encode(self, table: Codes) -> Codes:
        """Features for models: categories one-hot, everything else in [0, 1], NaN where inactive.

        Returns:
            array of shape (n, d), d = ``len(encode_names)``; constants have no column.
        """
        columns: list[Codes] = []
        for column, domain in enumerate(self.domains):
            codes = table[:, column]
            if domain.kind == "categorical":
                hot = (codes[:, None] == np.arange(len(domain.choices))).astype(np.float64)
                hot[np.isnan(codes)] = np.nan
                columns.append(hot)
            elif domain.kind != "constant":
                columns.append(domain.unit(codes)[:, None])
        return np.concatenate(columns, axis=1) if columns else np.empty((len(table), 0))


def _joined(kind: str, parts: Sequence[Predicate]) -> Predicate:
    join = np.logical_and if kind == "AND" else np.logical_or

    def predicate(table: Codes) -> Mask:
        mask = parts[0](table)
        for part in parts[1:]:
            mask = join(mask, part(table))
        return mask

    return predicate


def _child(item: Mapping[str, Any]) -> str:
    return str(item["child"]) if "child" in item else _child(item["conditions"][0])


def _parents(item: Mapping[str, Any]) -> set[str]:
    if "conditions" in item:
        return set().union(*(_parents(part) for part in item["conditions"]))
    return {item["parent"]}


def _shown(item: Mapping[str, Any]) -> str:
    signs = {"EQUALS": "=", "IN": "in", "LT": "<", "LE": "<=", "GT": ">", "GE": ">=", "EQ": "="}
    kind = item["type"]
    if kind in ("AND", "OR"):
        return f" {kind.lower()} ".join(_shown(part) for part in item["clauses"])
    sign = signs.get(kind.removeprefix("CLAUSE_").removeprefix("RELATION_"), kind)
    if "left" in item:
        return f"{item['left']} {sign} {item['right']}"
    return f"{item['name']} {sign} {item.get('value', item.get('values'))!r}"


def _topological(parents: Mapping[int, set[int]]) -> tuple[int, ...]:
    """Columns ordered so that parents come before their children, otherwise as given."""
    order: list[int] = []
    placed: set[int] = set()
    while len(order) < len(parents):
        ready = [i for i in parents if i not in placed and parents[i] <= placed]
        # ConfigSpace refuses cycles, so something is always ready.
        assert ready
        order += ready
        placed.update(ready)
    return tuple(order)


def _hashable(value: Any) -> Any:
    return tuple(_hashable(v) for v in value) if isinstance(value, (list, tuple)) else value


def _tagged(value: Any) -> Any:
    value = _hashable(value)
    return (value,) if isinstance(value, bool) else value
