"""``bonas space``: what a space holds, its default network, drawings; searches and trains nothing."""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonas.cli.named_spaces import FOR_VECTORS, SPACES, known, macro_of, make

if TYPE_CHECKING:
    from spaces import Space
    from spaces.drawing import Picture

_IMAGE, _VECTOR = (3, 32, 32), (64,)
"""What the inputs are when ``--input-shape`` does not say."""


_TIGHT = "\N{NO-BREAK SPACE}"  # where a line of the table must not be broken


def run(arguments: argparse.Namespace) -> int:
    """Print what the space holds; draw and write as far as asked."""
    if arguments.name is None:
        width = max(map(len, SPACES))
        print("\n".join(f"{name:{width}}  {what}" for name, what in SPACES.items()))
        return 0
    known("bonas space", arguments.name, SPACES)
    if arguments.draw is not None and Path(arguments.draw).suffix.lower() != ".svg":
        raise ValueError(f"--draw {arguments.draw}: must end in .svg, drawings are SVG.")
    if arguments.genotype is not None and arguments.sample is not None:
        raise ValueError("--genotype, --sample: name one network, or draw some at random. Give one of them.")
    if arguments.seed is not None and arguments.sample is None:
        raise ValueError("--seed: is that of --sample. Give both or neither.")
    shape = arguments.input_shape or (_VECTOR if arguments.name == FOR_VECTORS else _IMAGE)
    macro = {} if arguments.genotype is None else _published(arguments)
    macro |= macro_of(arguments)
    architecture = make(arguments.name, shape, arguments.classes, macro)
    whole = architecture.with_hyperparameters()
    networks = dict(_networks(arguments, architecture))
    if arguments.json is not None:
        _write(arguments.json, json.dumps(whole.to_dict(), indent=1) + "\n")
    if arguments.draw is not None:
        from spaces.drawing import svg

        _write(arguments.draw, svg(dict(_pictures(architecture, networks))))
    print("\n".join(_described(arguments.name, architecture, whole)))
    print()
    inputs = f"{'×'.join(map(str, shape))}, {arguments.classes} classes"
    print("\n".join(_counted(architecture, networks, inputs)))
    for path in (arguments.json, arguments.draw):
        if path is not None:
            print(f"Wrote {path}")
    return 0


def _write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


# Networks --------------------------------------------------------------------------------------------


def _networks(arguments: argparse.Namespace, space: Space) -> Iterator[tuple[str, dict[str, Any]]]:
    """The networks asked for by name: the default, some drawn at random, or a published one."""
    import numpy as np

    if arguments.sample is not None:
        rng = np.random.default_rng(arguments.seed or 0)
        for i, params in enumerate(space.sample(arguments.sample, rng), start=1):
            yield f"sample {i}", params
    elif arguments.genotype is not None:
        from spaces.genotypes import GENOTYPES

        yield arguments.genotype, space.validate(GENOTYPES[arguments.genotype].params)
    else:
        yield "default", space.default


def _published(arguments: argparse.Namespace) -> dict[str, Any]:
    """The macro-architecture a genotype was published with.

    Raises:
        ValueError: if there is no such genotype, or it belongs to another space.
    """
    from spaces.genotypes import GENOTYPES

    known("--genotype", arguments.genotype, GENOTYPES)
    genotype = GENOTYPES[arguments.genotype]
    if genotype.preset != arguments.name:
        raise ValueError(
            f"--genotype {arguments.genotype}: is a network of {genotype.preset}, not of {arguments.name}. "
            f"Use bonas space {genotype.preset} --genotype {arguments.genotype}."
        )
    return dict(genotype.macro)


def _pictures(space: Space, networks: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Picture]]:
    for name, params in networks.items():
        for part, picture in space.pictures(params).items():
            yield (part if len(networks) == 1 else f"{name}: {part}"), picture


def _counted(space: Space, networks: Mapping[str, Mapping[str, Any]], inputs: str) -> Iterator[str]:
    """The size of each network, one line each."""
    width = max(map(len, networks)) + 1
    yield f"{'Network':{width}}  {'parameters':>12}  {'multiply-accumulates':>20}  (input {inputs})"
    for name, params in networks.items():
        count = space.count(params)
        yield f"{name:{width}}  {count.parameters:12,}  {count.macs:20,}"


# Hyperparameters -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """One hyperparameter in words, or several that differ in a part of their names alone."""

    name: str
    values: str
    default: str
    when: str
    """When it is active, and what the letters in its name stand for."""


def _described(name: str, architecture: Space, whole: Space) -> Iterator[str]:
    """The space in words: its hyperparameters by what they are of, its clauses and its size."""
    yield f"{name}: {SPACES[name]}"
    description = whole.to_dict()["configuration_space"]
    conditions = {_child(item): _condition(item) for item in description["conditions"]}
    items = description["hyperparameters"]
    own = set(architecture.names)
    for title, chosen, size in (
        ("Architecture", [i for i in items if i["name"] in own], architecture.size),
        ("Training", [i for i in items if i["name"] not in own], math.inf),
    ):
        count = f"{len(chosen)} hyperparameter{'s' * (len(chosen) != 1)}"
        yield ""
        yield f"{title}: {count}" + (f", at most {_large(size)} networks" if math.isfinite(size) else "")
        yield from _table(_grouped(chosen, conditions))
    if description["forbiddens"]:
        yield ""
        yield "Excluded together"
        yield from (f"  {_clause(item)}" for item in description["forbiddens"])


def _large(size: float) -> str:
    return f"{size:,.0f}" if size < 1e9 else f"{size:.1e}"


def _table(rows: Sequence[_Row]) -> Iterator[str]:
    """The rows in columns, long lists of values on several lines."""
    wide = max(80, min(shutil.get_terminal_size((110, 24)).columns, 140))
    name = max(len(row.name) for row in rows)
    default = max(len("default"), *(min(len(row.default), 18) for row in rows))
    values = max(24, min(max(len(row.values) for row in rows), (wide - name - default) // 2))
    when = max(20, wide - name - default - values - 8)
    for row in (_Row("", "values", "default", "active"), *rows):
        cells = [
            [row.name],
            textwrap.wrap(row.values, values),
            textwrap.wrap(row.default, default),
            textwrap.wrap(row.when, when),
        ]
        for i in range(max(map(len, cells))):
            parts = [cell[i] if i < len(cell) else "" for cell in cells]
            yield f"  {parts[0]:{name}}  {parts[1]:{values}}  {parts[2]:{default}}  {parts[3]}".replace(
                _TIGHT, " "
            ).rstrip()


# What may differ in the names of hyperparameters on one row.
_VARIES = re.compile(r"\d+|^(?:normal|reduction)(?=_)")


def _grouped(items: Sequence[Mapping[str, Any]], conditions: Mapping[str, str]) -> list[_Row]:
    """The hyperparameters, those without numbers first, alike ones on one row."""
    groups: dict[tuple[str, str, str], list[tuple[list[str], str, str]]] = {}
    for item in sorted(items, key=lambda item: _natural(item["name"])):
        parts = _VARIES.findall(item["name"])
        condition = conditions.get(item["name"], "")
        name, general = _lettered(item["name"], condition, parts, _letters(parts))
        default = _word(item.get("default_value", item.get("value")))
        groups.setdefault((name, _values(item), general), []).append((parts, default, condition))
    return [_row(values, members, name) for (name, values, _), members in groups.items()]


def _natural(name: str) -> list[tuple[int, str]]:
    """Orders ``n_layers`` before ``layer2``, and that before ``layer10``."""
    numbers = re.findall(r"\d+", name)
    return [(len(numbers) > 0, re.sub(r"\d+", "", name)), *((int(n), "") for n in numbers)]


def _letters(parts: Sequence[str]) -> list[str]:
    left = iter("ijklmn")
    return [next(left, "n") if part.isdecimal() else "cell" for part in parts]


def _lettered(name: str, condition: str, parts: Sequence[str], letters: Sequence[str]) -> tuple[str, str]:
    """Name and condition with letters in place of the parts of the name."""
    for part, letter in zip(parts, letters, strict=True):
        if letter != part:
            name = re.sub(rf"(?<![0-9{{]){part}(?![0-9}}])", f"{{{letter}}}", name, count=1)
            condition = re.sub(rf"(?<=[a-z_]){part}(?!\d)", f"{{{letter}}}", condition)
            condition = re.sub(rf"(?<![\w.{{]){part}(?![\w.])", letter, condition)
    return name, condition


def _row(values: str, members: Sequence[tuple[list[str], str, str]], pattern: str) -> _Row:
    """One row for hyperparameters whose names fit the pattern; letters stand only for what differs."""
    parts, _, condition = members[0]
    differing = [sorted({parts[k] for parts, _, _ in members}, key=_number) for k in range(len(parts))]
    names = _letters(parts)
    letters = [names[k] if len(found) > 1 else parts[k] for k, found in enumerate(differing)]
    name, condition = _lettered(_filled(pattern, parts), condition, parts, letters)
    told = [f"if {condition}"] if condition else []
    told += [
        f"{letter} = {_run(at)}".replace(" ", _TIGHT)
        for letter, at in zip(letters, differing, strict=True)
        if len(at) > 1
    ]
    return _Row(name, values, ", ".join(dict.fromkeys(default for _, default, _ in members)), ", ".join(told))


def _filled(pattern: str, parts: Sequence[str]) -> str:
    left = iter(parts)
    return re.sub(r"\{\w+\}", lambda _: next(left), pattern)


def _number(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdecimal() else (0, part)


def _run(found: Sequence[str]) -> str:
    if found[0].isdecimal() and len(found) > 2 and int(found[-1]) - int(found[0]) == len(found) - 1:
        return f"{found[0]} … {found[-1]}"
    return ", ".join(found)


def _values(item: Mapping[str, Any]) -> str:
    """Choices with their prior where it is not uniform, or a range with its distribution."""
    kind = item["type"]
    if kind == "constant":
        return f"always {_word(item['value'])}"
    if kind == "ordinal":
        return " < ".join(map(_word, item["sequence"]))
    if kind == "categorical":
        weights = item["weights"]
        if not weights or len(set(weights)) == 1:
            words = [_word(choice) for choice in item["choices"]]
            return (" | " if any("," in word for word in words) else ", ").join(words)
        shares = [round(100 * weight / sum(weights)) for weight in weights]
        return ", ".join(f"{_word(c)} ({s} %)" for c, s in zip(item["choices"], shares, strict=True))
    match kind.split("_")[0]:
        case "normal":
            distribution = f", normal around {_word(item['mu'])} ± {_word(item['sigma'])}"
        case "beta":
            distribution = f", beta({_word(item['alpha'])}, {_word(item['beta'])})"
        case _:
            distribution = ""
    logarithmic = ", logarithmic" if item["log"] else ""
    return f"{_word(item['lower'])} to {_word(item['upper'])}{logarithmic}{distribution}"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _child(item: Mapping[str, Any]) -> str:
    return str(item["child"] if "child" in item else _child(item["conditions"][0]))


_SIGNS = {"EQ": "=", "EQUALS": "=", "NEQ": "≠", "LT": "<", "LE": "≤", "GT": ">", "GE": "≥"}


def _condition(item: Mapping[str, Any]) -> str:
    kind = item["type"]
    if kind in ("AND", "OR"):
        return f" {kind.lower()} ".join(_condition(part) for part in item["conditions"])
    return _literal(kind, item["parent"], item)


def _clause(item: Mapping[str, Any]) -> str:
    kind = item["type"]
    if kind in ("AND", "OR"):
        return f" {kind.lower()} ".join(_clause(part) for part in item["clauses"])
    if kind.startswith("RELATION"):
        sign = _SIGNS.get(kind.removeprefix("RELATION_"), str(item.get("lambda", "")))
        return f"{item['left']} {sign} {item['right']}"
    return _literal(kind.removeprefix("CLAUSE_"), item["name"], item)


def _literal(kind: str, name: str, item: Mapping[str, Any]) -> str:
    if kind == "IN":
        return f"{name} in {', '.join(map(_word, item['values']))}"
    return f"{name} {_SIGNS[kind]} {_word(item['value'])}"
