"""Random spaces and configurations through JSON and another process: is anything lost or changed?

    python benchmarks/round_trip.py

Spaces hold every kind of hyperparameter, prior, condition and forbidden clause that ConfigSpace has, odd
names and values, fixed values and hyperparameters of training; some are bonas's own. Each goes as one line
of JSON, with a configuration, down a pipe to another process, which restores both and answers with what it
has. Equal must be: the space, the configuration, its key, its encoding, the default, and what is sampled
with one seed. One core, about two minutes for 10,000; writes ``results/round_trip.md``.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ConfigSpace
import numpy as np
from ConfigSpace.exceptions import ActiveHyperparameterNotSetError, ForbiddenValueError

from bonas import spaces

RESULTS = Path(__file__).parent / "results" / "round_trip.md"

NAMES = ("lr", "a b", "layer0:op", "größe", 'quo"te', "tab\tnew", "x=1", "数", "_", "n")
VALUES: tuple[list[Any], ...] = (
    ["sgd", "adamw", "none"],
    [True, False],
    [1, 2, 8],
    [0.1, 1e-9, 1e300],
    [(1, 2), (3, 4), (5, 6)],
    [("a", (1, 2.5)), ("b", (3, 4.5))],
    ["", " ", "</b>", "ä\n"],
    ["1", "True", "null"],
)
META = (None, {"unit": "px"}, {"tags": ["a", {"deep": 1}], "ok": True})


def random_space(rng: np.random.Generator) -> spaces.Space:
    """A small random space."""
    if rng.random() < 0.03:
        return _family(rng)
    while (cs := _configuration_space(rng)) is None:
        pass
    space = spaces.Space(cs)
    if rng.random() < 0.2:
        space = space.with_hyperparameters()
    if rng.random() < 0.3:
        params = space.sample(1, rng)[0]
        name = list(params)[rng.integers(len(params))]
        space = space.fix({name: params[name]})
    return space


def _configuration_space(rng: np.random.Generator) -> Any:
    """A random ConfigSpace space; None if ConfigSpace refuses it, say because its default is forbidden."""
    parts = [_hyperparameter(f"{NAMES[rng.integers(len(NAMES))]}{i}", rng) for i in range(rng.integers(1, 6))]
    cs = ConfigSpace.ConfigurationSpace()
    cs.add(parts)
    try:
        for i, child in enumerate(parts):
            if i and rng.random() < 0.4:
                # ConfigSpace contradicts itself about being unequal to a parent that is inactive.
                cs.add(_condition(child, parts[:i], set(cs.conditional_hyperparameters), rng))
        clauses = [_clause(parts, rng) for _ in range(rng.integers(3))]
        cs.add([clause for clause in clauses if clause is not None])
    except (ForbiddenValueError, ActiveHyperparameterNotSetError):
        return None
    return cs


def _family(rng: np.random.Generator) -> spaces.Space:
    make: list[Callable[[], spaces.Space]] = [
        lambda: spaces.chain((3, 8, 8), 10, n_layers=(1, 3), skip_connections=bool(rng.random() < 0.5)),
        lambda: spaces.chain_mlp(5, 3, n_layers=(1, 2)),
        lambda: spaces.cell("nas_bench_201", filters=int(rng.integers(1, 20))),
        lambda: spaces.cell("enas", filters=[8, 16]),
    ]
    space = make[rng.integers(len(make))]()
    return space.with_hyperparameters() if rng.random() < 0.5 else space


def _hyperparameter(name: str, rng: np.random.Generator) -> Any:
    meta: Any = META[rng.integers(len(META))]
    low, log = float(rng.choice([1e-9, 1e-4, 0.3, 1.0, 7.0])), bool(rng.random() < 0.5)
    high = low * float(rng.choice([1.5, 10, 1e6]))
    whole, top = int(rng.integers(1, 5)), int(rng.choice([6, 100, 10**6]))
    middle = low + (high - low) * float(rng.random())
    kind = rng.integers(9)
    match kind:
        case 0:
            return ConfigSpace.UniformFloatHyperparameter(name, low, high, log=log, meta=meta)
        case 1:
            return ConfigSpace.UniformIntegerHyperparameter(name, whole, top, log=log, meta=meta)
        case 2:
            return ConfigSpace.NormalFloatHyperparameter(
                name, mu=middle, sigma=(high - low) / 5, lower=low, upper=high, log=log, meta=meta
            )
        case 3:
            return ConfigSpace.NormalIntegerHyperparameter(
                name, mu=4, sigma=3, lower=whole, upper=top, log=log, meta=meta
            )
        case 4:
            return ConfigSpace.BetaFloatHyperparameter(
                name, alpha=2, beta=4, lower=low, upper=high, meta=meta
            )
        case 5:
            return ConfigSpace.BetaIntegerHyperparameter(
                name, alpha=3, beta=2, lower=whole, upper=top, meta=meta
            )
        case 6:
            values = VALUES[rng.integers(len(VALUES))]
            return ConfigSpace.OrdinalHyperparameter(name, values, meta=meta)
        case 7:
            values = VALUES[rng.integers(len(VALUES))]
            weights = rng.random(len(values)).tolist() if rng.random() < 0.5 else None
            return ConfigSpace.CategoricalHyperparameter(name, values, weights=weights, meta=meta)
    return ConfigSpace.Constant(name, VALUES[rng.integers(4)][0], meta=meta)


def _values(hyperparameter: Any, rng: np.random.Generator) -> list[Any]:
    """Three legal values."""
    for name in ("choices", "sequence"):
        if hasattr(hyperparameter, name):
            values = list(getattr(hyperparameter, name))
            return [values[i] for i in rng.integers(len(values), size=3)]
    if isinstance(hyperparameter, ConfigSpace.Constant):
        return [hyperparameter.value] * 3
    values = hyperparameter.sample_value(3, seed=np.random.RandomState(int(rng.integers(2**31))))
    return [min(max(v, hyperparameter.lower), hyperparameter.upper) for v in np.asarray(values).tolist()]


def _condition(child: Any, earlier: list[Any], conditional: set[str], rng: np.random.Generator) -> Any:
    def literal(parent: Any) -> Any:
        values = _values(parent, rng)
        kinds = [ConfigSpace.EqualsCondition, ConfigSpace.InCondition]
        if parent.name not in conditional:
            kinds.append(ConfigSpace.NotEqualsCondition)
        if parent.ORDERABLE:
            kinds += [ConfigSpace.LessThanCondition, ConfigSpace.GreaterThanCondition]
        kind = kinds[rng.integers(len(kinds))]
        return kind(child, parent, values if kind is ConfigSpace.InCondition else values[0])

    parents = [earlier[i] for i in rng.permutation(len(earlier))[:2]]
    if len(parents) < 2 or rng.random() < 0.5:
        return literal(parents[0])
    join = ConfigSpace.AndConjunction if rng.random() < 0.5 else ConfigSpace.OrConjunction
    return join(*(literal(parent) for parent in parents))


def _clause(hyperparameters: list[Any], rng: np.random.Generator) -> Any:
    """A clause that allows the defaults, as ConfigSpace asks; None if this hyperparameter has none."""
    some = [hyperparameters[i] for i in rng.permutation(len(hyperparameters))[:2]]

    def literal(one: Any) -> Any:
        values = [v for v in _values(one, rng) if v != one.default_value]
        if not values:
            return None
        if rng.random() < 0.5:
            return ConfigSpace.ForbiddenInClause(one, values)
        return ConfigSpace.ForbiddenEqualsClause(one, values[0])

    numbers = [one for one in some if hasattr(one, "lower")]
    if len(numbers) == 2 and numbers[0].default_value < numbers[1].default_value and rng.random() < 0.5:
        return ConfigSpace.ForbiddenGreaterThanRelation(*numbers)
    literals = [literal(one) for one in some]
    if None in literals:
        return None
    return literals[0] if len(literals) < 2 else ConfigSpace.ForbiddenAndConjunction(*literals)


def described(space: spaces.Space, params: dict[str, Any]) -> dict[str, Any]:
    """All that must come back."""
    params = space.validate(params)
    return {
        "space": space.to_dict(),
        "params": params,
        "key": space.key(params),
        "encoded": repr(space.encode([params]).tolist()),
        "default": space.default,
        "sampled": space.sample(2, np.random.default_rng(7)),
    }


def answer() -> None:
    """The other process: restores every line and says what it has."""
    for line in sys.stdin:
        sent = json.loads(line)
        try:
            back: Any = described(spaces.Space.from_dict(sent["space"]), sent["params"])
        except Exception as error:
            back = repr(error)
        print(_text(back), flush=True)


def _text(data: Any) -> str:
    return json.dumps(data, sort_keys=True)


def unequal(n: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """What was sent and what came back, where they differ, of ``n`` random spaces."""
    rng = np.random.default_rng(seed)
    command = [sys.executable, __file__, "--answer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for _ in range(n):
            space = random_space(rng)
            sent = _text(described(space, space.sample(1, rng)[0]))
            other.stdin.write(sent + "\n")
            other.stdin.flush()
            back = other.stdout.readline().rstrip("\n")
            if back != sent:
                yield sent, back
        other.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--answer", action="store_true", help="be the other process")
    parser.add_argument("--spaces", type=int, default=10_000)
    arguments = parser.parse_args()
    if arguments.answer:
        answer()
        return
    differing = list(unequal(arguments.spaces))
    for sent, back in differing[:5]:
        print("sent", sent, "\nback", back, "\n")
    lines = [
        f"{arguments.spaces:,} random spaces, each with a configuration, through JSON and another process: "
        f"{len(differing)} unequal.",
        "",
        "Compared: the space's JSON, the configuration, its key and encoding, the default, two samples.",
        f"Python {platform.python_version()}, ConfigSpace {version('ConfigSpace')}, {platform.machine()}.",
    ]
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n")
    if differing:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
