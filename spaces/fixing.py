"""Narrows the description of a configuration space to fixed values; knows no networks and no ConfigSpace.

A condition is decided where all it asks about is known. A fixed parent that is itself conditional
is known only while it is active, so a condition it meets is kept, as "the parent is active".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spaces.table import Domain

Item = dict[str, Any]
Reduced = Item | bool
"""What is left of a condition or clause: itself, or its value where that is certain."""


def fixed(description: Mapping[str, Any], values: Mapping[str, Any]) -> Item:
    """The description with hyperparameters fixed to values (legal ones; the caller checks).

    Raises:
        ValueError: if the values contradict a condition or a forbidden clause.
    """
    items = {item["name"]: dict(item) for item in description["hyperparameters"]}
    for name, value in values.items():
        items[name] = {"type": "constant", "name": name, "value": value, "meta": items[name].get("meta")}
    constants = {n: item["value"] for n, item in items.items() if item["type"] == "constant"}
    # Needed to compare with values along an ordinal's order; a constant remembers nothing of that.
    domains = {item["name"]: Domain.from_description(item) for item in description["hyperparameters"]}
    conditions = {_child(c): c for c in description["conditions"]}
    gone: set[str] = set()
    kept: dict[str, Item] = {}
    for name in _parents_first(items, conditions):
        if name not in conditions:
            continue
        reduced = _condition(conditions[name], constants, domains, gone, set(kept))
        if reduced is False:
            gone.add(name)
        elif reduced is not True:
            kept[name] = reduced
    for name in values:
        if name in gone:
            raise ValueError(
                f"fix {name}={values[name]!r}: the other fixed values make this hyperparameter inactive for "
                "good. Leave it out, or change the value its condition asks for."
            )
    forbiddens = []
    for clause in description["forbiddens"]:
        reduced = _clause(clause, constants, domains, gone, set(kept))
        if reduced is True:
            raise ValueError(f"fix {dict(values)!r}: a forbidden clause excludes these values. Change one.")
        if reduced is not False:
            forbiddens.append(reduced)
    return {
        "hyperparameters": [item for name, item in items.items() if name not in gone],
        "conditions": list(kept.values()),
        "forbiddens": forbiddens,
    }


def with_defaults(description: Mapping[str, Any], params: Mapping[str, Any]) -> Item:
    """The description with the values of ``params`` as defaults."""
    hyperparameters = [
        item | {"default_value": params[item["name"]]}
        if "default_value" in item and item["name"] in params
        else item
        for item in description["hyperparameters"]
    ]
    return {**description, "hyperparameters": hyperparameters}


def _condition(
    item: Item,
    constants: Mapping[str, Any],
    domains: Mapping[str, Domain],
    gone: set[str],
    conditional: set[str],
) -> Reduced:
    if item["type"] in ("AND", "OR"):
        parts = [_condition(p, constants, domains, gone, conditional) for p in item["conditions"]]
        return _joined(item, "conditions", parts)
    parent = item["parent"]
    if parent in gone:
        return False
    if parent not in constants:
        return item
    if not _holds(item["type"], domains[parent], constants[parent], item):
        return False
    if parent not in conditional:
        return True
    return {"type": "EQ", "child": item["child"], "parent": parent, "value": constants[parent]}


def _clause(
    item: Item,
    constants: Mapping[str, Any],
    domains: Mapping[str, Domain],
    gone: set[str],
    conditional: set[str],
) -> Reduced:
    kind = item["type"]
    if kind in ("AND", "OR"):
        parts = [_clause(p, constants, domains, gone, conditional) for p in item["clauses"]]
        return _joined(item, "clauses", parts)
    if kind.startswith("RELATION"):
        return False if item["left"] in gone or item["right"] in gone else item
    name = item["name"]
    if name in gone:
        return False
    if name not in constants:
        return item
    if not _holds(
        {"EQUALS": "EQ"}.get(kind, kind.removeprefix("CLAUSE_")), domains[name], constants[name], item
    ):
        return False
    return True if name not in conditional else {"type": "EQUALS", "name": name, "value": constants[name]}


def _joined(item: Item, key: str, parts: Iterable[Reduced]) -> Reduced:
    decides = item["type"] == "OR"
    left: list[Item] = []
    for part in parts:
        if isinstance(part, bool):
            if part is decides:
                return decides
        else:
            left.append(part)
    if not left:
        return not decides
    return left[0] if len(left) == 1 else item | {key: left}


def _holds(kind: str, domain: Domain, value: Any, item: Item) -> bool:
    code = domain.code(value)
    if kind == "IN":
        return any(code == domain.code(v) for v in item["values"])
    asked = domain.code(item["value"])
    answers = {
        "EQ": code == asked,
        "NEQ": code != asked,
        "LT": code < asked,
        "LE": code <= asked,
        "GT": code > asked,
        "GE": code >= asked,
    }
    return answers[kind]


def _child(item: Item) -> str:
    return str(item["child"]) if "child" in item else _child(item["conditions"][0])


def _parents(item: Item) -> set[str]:
    if "conditions" in item:
        return set().union(*(_parents(part) for part in item["conditions"]))
    return {item["parent"]}


def _parents_first(items: Mapping[str, Item], conditions: Mapping[str, Item]) -> list[str]:
    order: list[str] = []
    while len(order) < len(items):
        placed = set(order)
        order += [
            n for n in items if n not in placed and (n not in conditions or _parents(conditions[n]) <= placed)
        ]
    return order
