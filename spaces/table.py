"""A configuration space compiled to columns of numbers, for work in batches; knows no networks.

Glossary. A *code* is a hyperparameter's value as a float: the position among its choices
(categorical, ordinal, constant) or the number itself; NaN where it is inactive. A *table of codes*
has shape (n, p), one row for each configuration, one column for each hyperparameter.
Conditions and forbidden clauses become functions from a table of codes to a mask of shape (n,).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
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

# Of a component's hyperparameters that are listed rather than drawn until they are allowed.
_MOST_COMBINATIONS = 10_000
# Whole numbers up to this are exact as floats, as which codes are stored.
_MOST_WHOLE = 2**53
# Configurations at once, while looking for allowed ones.
_MOST_DRAWN = 100_000


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
        if kind == "integer" and max(-item["lower"], item["upper"]) > _MOST_WHOLE:
            raise ValueError(
                f"{item['name']}: reaches from {item['lower']} to {item['upper']}, but whole numbers beyond "
                "2**53 would lose digits. Narrow it, or use a float on a logarithmic scale."
            )
        if kind in ("integer", "float"):
            default = float(item["default_value"])
            return Domain(item["name"], kind, (), item["lower"], item["upper"], bool(item["log"]), default)
        key = {"categorical": "choices", "ordinal": "sequence"}.get(kind)
        choices = tuple(_hashable(v) for v in (item[key] if key else [item["value"]]))
        for choice in choices:
            if not isinstance(choice, Hashable):
                raise ValueError(
                    f"{item['name']}: {choice!r} cannot be a choice. Let choices be texts, numbers, booleans "
                    "or tuples of them, and look up in build what they stand for."
                )
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
        if isinstance(value, (np.generic, np.ndarray)):
            value = value.tolist()
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


@dataclass(frozen=True, slots=True)
class Component:
    """Hyperparameters that forbidden clauses tie together, with all that decides whether they are active.

    Under the prior, components are independent of each other and of everything else, so each can be
    drawn again on its own.
    """

    columns: tuple[int, ...]
    clauses: tuple[Predicate, ...]
    shown: str

    def allowed(self, table: Codes) -> Mask:
        """Which rows violate none of the component's clauses; shape (n,)."""
        allowed = np.ones(len(table), dtype=np.bool_)
        for clause in self.clauses:
            allowed &= ~clause(table)
        return allowed


class Table:
    """All hyperparameters, conditions and forbidden clauses of one described space.

    Args:
        description: as :func:`spaces.configspace.describe` returns it.
    """

    def __init__(self, description: Mapping[str, Any]) -> None:
        self.domains = tuple(Domain.from_description(item) for item in description["hyperparameters"])
        self.names = tuple(d.name for d in self.domains)
        self.column: Mapping[str, int] = {name: i for i, name in enumerate(self.names)}
        self._texts = [all(type(choice) is str for choice in d.choices) for d in self.domains]
        self._positions = [{_tagged(choice): i for i, choice in enumerate(d.choices)} for d in self.domains]
        parents: dict[int, set[int]] = {i: set() for i in range(len(self.domains))}
        self.conditions: dict[int, Predicate] = {}
        for item in description["conditions"]:
            child = self.column[_child(item)]
            self.conditions[child] = self._condition(item)
            parents[child] = {self.column[name] for name in _parents(item)}
        self.forbidden = [(self._clause(item), _shown(item)) for item in description["forbiddens"]]
        self.order = _topological(parents)
        self._conditional = [i for i in self.order if i in self.conditions]
        names = [_clause_names(item) for item in description["forbiddens"]]
        self._components = self._tied([{self.column[n] for n in each} for each in names], parents)
        self._weights = [_weights(item) for item in description["hyperparameters"]]
        # Of categories with weights of zero those that can be drawn.
        self._drawable = {
            i: np.flatnonzero(weights).astype(np.float64)
            for i, weights in enumerate(self._weights)
            if weights is not None and not weights.all()
        }
        self._never = {
            self.names[i]: {
                _tagged(self.domains[i].value(c)) for c in np.flatnonzero(self._weights[i] == 0).tolist()
            }
            for i in self._drawable
        }
        self._combinations: dict[Component, Codes | None] = {}

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

    def has_chance(self, params: Mapping[str, Any]) -> bool:
        """Whether canonical params have no category of weight zero."""
        return not any(
            name in params and _tagged(params[name]) in never for name, never in self._never.items()
        )

    def decode(self, table: Codes) -> list[dict[str, Any]]:
        """Rows of codes as params: active hyperparameters only, plain values."""
        columns: list[list[Any]] = []
        for codes, domain in zip(table.T, self.domains, strict=True):
            active = codes[~np.isnan(codes)]
            if domain.choices:
                columns.append([domain.choices[i] for i in active.astype(np.int64).tolist()])
            else:
                columns.append((active.astype(np.int64) if domain.kind == "integer" else active).tolist())
        if all(len(values) == len(table) for values in columns) and columns:
            return [dict(zip(self.names, values, strict=True)) for values in zip(*columns, strict=True)]
        rows: list[dict[str, Any]] = [{} for _ in range(len(table))]
        for name, codes, values in zip(self.names, table.T, columns, strict=True):
            for i, value in zip(np.flatnonzero(~np.isnan(codes)).tolist(), values, strict=True):
                rows[i][name] = value
        return rows

    def codes(self, configurations: Sequence[Mapping[str, Any]]) -> Codes:
        """Canonical params as a table of codes; the inverse of :meth:`decode`."""
        table = np.empty((len(configurations), len(self.domains)))
        nan = math.nan
        for column, domain in enumerate(self.domains):
            name, positions = domain.name, self._positions[column]
            if not domain.choices:
                table[:, column] = [params.get(name, nan) for params in configurations]
            elif self._texts[column]:
                table[:, column] = [positions[p[name]] if name in p else nan for p in configurations]
            else:
                table[:, column] = [positions[_tagged(p[name])] if name in p else nan for p in configurations]
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

    def sample(self, n: int, draw: Callable[[int], Codes], rng: np.random.Generator) -> Codes:
        """``n`` allowed rows; the distribution is exactly the prior, given that no clause is violated.

        Each component of clauses is drawn for itself: from the list of its allowed combinations where
        there are few enough and the prior of each is known, else again until it is allowed.

        Args:
            n: how many.
            draw: ``draw(m)`` is a table of m independent draws from all priors.
            rng: for choices among combinations.

        Raises:
            ValueError: if no configuration, or next to none, satisfies the clauses.
        """
        table = draw(n)
        active = self.deactivate(table.copy())
        left: dict[Component, NDArray[np.intp]] = {}  # rows still to be drawn again
        for component in self._components if n else ():
            combinations = self.combinations(component)
            chances = None if combinations is None else self._chances(component, combinations)
            if combinations is not None and chances is not None:
                chosen = rng.choice(len(combinations), size=n, p=chances)
                table[:, list(component.columns)] = combinations[chosen]
            else:
                left[component] = np.flatnonzero(~component.allowed(active))
        size = max(n, 64)
        while any(len(rows) for rows in left.values()):
            fresh = draw(size)
            active = self.deactivate(fresh.copy())
            size = 64
            for component, rows in left.items():
                allowed = np.flatnonzero(component.allowed(active))
                if len(fresh) >= _MOST_DRAWN and len(allowed) < 5 and len(rows):
                    raise ValueError(
                        f"the forbidden clauses {component.shown} left {len(allowed)} of {len(fresh)} "
                        "samples: too few to search. Say what is allowed with conditions or narrower choices."
                    )
                good, columns = allowed[: len(rows)], np.array(component.columns)
                table[np.ix_(rows[: len(good)], columns)] = fresh[np.ix_(good, columns)]
                left[component] = rows[len(good) :]
                # As many as will do at the rate seen here, and a few more.
                more = 1.3 * len(left[component]) * len(fresh) / max(len(allowed), 1)
                size = min(_MOST_DRAWN, max(size, int(more)))
        return self.deactivate(table)

    def combinations(self, component: Component) -> Codes | None:
        """All allowed values of a component's hyperparameters, inactive ones at every value.

        Returns:
            shape (k, number of columns); None if there are too many to list.

        Raises:
            ValueError: if there are none.
        """
        if component not in self._combinations:
            domains = [self.domains[i] for i in component.columns]
            found = None
            if math.prod(d.size for d in domains) <= _MOST_COMBINATIONS:
                values = [np.arange(d.low, d.high + 1) for d in domains]
                grid = np.stack([g.ravel() for g in np.meshgrid(*values, indexing="ij")], axis=1)
                table = np.full((len(grid), len(self.domains)), np.nan)
                table[:, component.columns] = grid
                found = grid[component.allowed(self._deactivated(table, component))]
                if not len(found):
                    names = ", ".join(d.name for d in domains)
                    raise ValueError(
                        f"no configuration is left: whatever {names} are, they are forbidden by "
                        f"{component.shown}. Remove a clause, or fix other values."
                    )
            self._combinations[component] = found
        return self._combinations[component]

    def _deactivated(self, table: Codes, component: Component) -> Codes:
        """As :meth:`deactivate`, but only the component's columns are known."""
        for child in self._conditional:
            if child in component.columns:
                table[~self.conditions[child](table), child] = np.nan
        return table

    def _chances(self, component: Component, combinations: Codes) -> NDArray[np.float64] | None:
        """The prior of each combination, given the clauses; None where a hyperparameter's is not known."""
        chances = np.ones(len(combinations))
        for i, column in enumerate(component.columns):
            weights = self._weights[column]
            if weights is None:
                return None
            chances *= weights[(combinations[:, i] - self.domains[column].low).astype(np.intp)]
        if not chances.any():
            raise ValueError(
                f"the priors give no chance to what {component.shown} leaves allowed. Raise the weights of "
                "some of it, or remove a clause."
            )
        normalised: NDArray[np.float64] = chances / chances.sum()
        return normalised

    def _tied(self, clauses: Sequence[set[int]], parents: Mapping[int, set[int]]) -> tuple[Component, ...]:
        """The components, from the columns of each clause and the parents of each column."""
        groups: list[tuple[set[int], list[int]]] = []
        for number, named in enumerate(clauses):
            columns, new = set(named), set(named)
            while new := set().union(*(parents[i] for i in new)) - columns:
                columns |= new
            numbers = [number]
            for group in [g for g in groups if g[0] & columns]:
                groups.remove(group)
                columns, numbers = columns | group[0], group[1] + numbers
            groups.append((columns, numbers))
        return tuple(
            Component(
                tuple(sorted(columns)),
                tuple(self.forbidden[i][0] for i in numbers),
                "; ".join(self.forbidden[i][1] for i in numbers),
            )
            for columns, numbers in groups
        )

    def neighbours(self, row: Codes, n: int, rng: np.random.Generator, draw: Callable[[int], Codes]) -> Codes:
        """Up to ``n`` allowed rows that differ from ``row`` (shape (p,)) in one active hyperparameter.

        Hyperparameters that become active are drawn from their prior, ones that become inactive are dropped;
        nothing changes to a category of weight zero.
        """
        others = {i: codes[codes != row[i]] for i, codes in self._drawable.items()}
        free = [
            i
            for i, domain in enumerate(self.domains)
            if not math.isnan(row[i]) and (len(others[i]) if i in others else domain.size > 1)
        ]
        found = np.empty((0, len(row)))
        if not free:
            return found
        inactive = bool(np.isnan(row).any())
        for _ in range(20):
            if len(found) >= n:
                break
            table = np.tile(row, (n, 1))
            column = rng.choice(free, size=n)
            for i in np.unique(column).tolist():
                rows = np.flatnonzero(column == i)
                if i in others:
                    table[rows, i] = rng.choice(others[i], size=len(rows))
                else:
                    table[rows, i] = self.domains[i].mutated(row[i], len(rows), rng)
            # Only what is inactive can become active; drawing takes as much of ``rng`` whatever is drawn.
            prior = draw(n if inactive else 0)
            if inactive:
                table = np.where(np.isnan(table), prior, table)
            table = self.deactivate(table)
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
        """Every active hyperparameter at its default; where that is forbidden, something near and allowed.

        Raises:
            ValueError: if no configuration, or next to none, satisfies the clauses.
        """
        defaults = np.array([[d.default for d in self.domains]])
        for component in self._components:
            if component.allowed(self.deactivate(defaults.copy()))[0]:
                continue
            columns = list(component.columns)
            near = self.combinations(component)
            if near is None:
                near = self._near_default(component, defaults)
            wanted = defaults[0, columns]
            spans = np.array([max(d.high - d.low, 1e-12) for d in (self.domains[i] for i in columns)])
            # As many values as possible at their defaults, then numbers as near to them as possible.
            apart = (near != wanted).sum(axis=1) + 1e-3 * (np.abs(near - wanted) / spans).sum(axis=1)
            defaults[0, columns] = near[int(apart.argmin())]
        return self.decode(self.deactivate(defaults))[0]

    def _near_default(self, component: Component, defaults: Codes) -> Codes:
        """Some allowed values of a component's hyperparameters, shape (k, columns), many of them defaults."""
        rng = np.random.default_rng(0)
        for _ in range(50):
            table = np.repeat(defaults, 4096, axis=0)
            for i in component.columns:
                drawn = self.domains[i].from_unit(rng.random(len(table)))
                table[:, i] = np.where(rng.random(len(table)) < 0.5, table[:, i], drawn)
            good = component.allowed(self.deactivate(table.copy()))
            if good.any():
                return table[good][:, list(component.columns)]
        raise ValueError(
            f"the forbidden clauses {component.shown} leave next to nothing: too few to search. "
            "Say what is allowed with conditions or narrower choices."
        )

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


def _clause_names(item: Mapping[str, Any]) -> set[str]:
    """The hyperparameters a forbidden clause asks about."""
    if "clauses" in item:
        return set().union(*(_clause_names(part) for part in item["clauses"]))
    return {item["left"], item["right"]} if "left" in item else {item["name"]}


def _weights(item: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """The prior of each value, up to a factor; None where it is not one of a few plain numbers."""
    domain = Domain.from_description(item)
    if domain.kind == "categorical" and item.get("weights") is not None:
        return np.asarray(item["weights"], dtype=np.float64)
    plain = bool(domain.choices) or (item["type"] == "uniform_int" and not domain.log)
    return np.ones(int(domain.size)) if plain and domain.size <= _MOST_COMBINATIONS else None


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
    """A dictionary key for a value; True and 1 would be one."""
    value = _hashable(value)
    return (value,) if isinstance(value, bool) else value
