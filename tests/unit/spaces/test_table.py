"""Conditions, forbidden clauses and priors, compared with ConfigSpace itself and with enumeration."""

from __future__ import annotations

import json
from typing import Any

import ConfigSpace
import numpy as np
import pytest
from ConfigSpace.exceptions import InactiveHyperparameterSetError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spaces import Space


@st.composite
def finite_spaces(draw: st.DrawFn) -> ConfigSpace.ConfigurationSpace:
    """Small spaces with conditions, conjunctions and forbidden clauses."""
    makers = [
        lambda name: ConfigSpace.Categorical(name, ["a", "b", "c"]),
        lambda name: ConfigSpace.OrdinalHyperparameter(name, ["s", "m", "l"]),
        lambda name: ConfigSpace.Integer(name, (1, 3)),
        lambda name: ConfigSpace.Integer(name, (1, 3), log=True),
        lambda name: ConfigSpace.Categorical(name, [True, False]),
    ]
    parts: list[Any] = [draw(st.sampled_from(makers))(f"h{i}") for i in range(draw(st.integers(2, 5)))]
    cs = ConfigSpace.ConfigurationSpace()
    cs.add(parts)

    def literal(child: Any, parent: Any) -> Any:
        values = list(getattr(parent, "choices", getattr(parent, "sequence", [1, 2, 3])))
        kinds = [ConfigSpace.EqualsCondition, ConfigSpace.InCondition]
        if parent.name not in cs.conditional_hyperparameters:
            # ConfigSpace contradicts itself about being unequal to an inactive parent.
            kinds.append(ConfigSpace.NotEqualsCondition)
        if parent.ORDERABLE:
            kinds += [ConfigSpace.LessThanCondition, ConfigSpace.GreaterThanCondition]
        kind, value = draw(st.sampled_from(kinds)), draw(st.sampled_from(values))
        return kind(child, parent, [value] if kind is ConfigSpace.InCondition else value)

    # ConfigSpace mistakes an AND for an OR of the same conditions, so a space has one of them here.
    join = draw(st.sampled_from([ConfigSpace.AndConjunction, ConfigSpace.OrConjunction]))
    for i, child in enumerate(parts):
        how = draw(st.sampled_from(["none", "one", "join"])) if i else "none"
        parents = [draw(st.sampled_from(parts[:i])) for _ in range(2)] if i else []
        if how == "one":
            cs.add(literal(child, parents[0]))
        elif how != "none" and parents[0] is not parents[1]:
            cs.add(join(literal(child, parents[0]), literal(child, parents[1])))
    if draw(st.booleans()):
        one, two = parts[0], parts[-1]
        clauses = [
            ConfigSpace.ForbiddenEqualsClause(h, draw(st.sampled_from(_values(h).tolist())))
            for h in (one, two)
        ]
        clause = ConfigSpace.ForbiddenAndConjunction(*clauses)
        try:
            cs.add(clause)
        except (
            ConfigSpace.ForbiddenValueError
        ):  # it would forbid the default, which ConfigSpace does not allow
            assume(False)
    return cs


def _values(hyperparameter: Any) -> np.ndarray[Any, Any]:
    return np.array(list(getattr(hyperparameter, "choices", getattr(hyperparameter, "sequence", [1, 2, 3]))))


def _texts(configurations: Any) -> set[str]:
    return {json.dumps(c, sort_keys=True) for c in configurations}


@settings(max_examples=60, deadline=None)
@given(finite_spaces())
def test_every_sample_of_configspace_is_enumerated(cs: ConfigSpace.ConfigurationSpace) -> None:
    space = Space(cs)
    everything = _texts(space.enumerate())
    assert len(everything) <= space.size
    for configuration in cs.sample_configuration(30):
        try:
            configuration.check_valid_configuration()
        except InactiveHyperparameterSetError:
            # ConfigSpace 1.2.2 draws these where a condition has two parents, one of them inactive itself.
            continue
        plain = {k: v.item() if hasattr(v, "item") else v for k, v in dict(configuration).items()}
        assert json.dumps(space.validate(plain), sort_keys=True) in everything


@settings(max_examples=60, deadline=None)
@given(finite_spaces())
def test_what_is_enumerated_is_valid_to_configspace(cs: ConfigSpace.ConfigurationSpace) -> None:
    for params in list(Space(cs).enumerate())[:40]:
        ConfigSpace.Configuration(cs, values=params).check_valid_configuration()


@settings(max_examples=100, deadline=None)
@given(finite_spaces(), st.data())
def test_fix_keeps_exactly_the_configurations_that_agree(
    cs: ConfigSpace.ConfigurationSpace, data: st.DataObject
) -> None:
    space = Space(cs)
    everything = list(space.enumerate())
    chosen = data.draw(st.sampled_from(everything))
    names = data.draw(st.lists(st.sampled_from(sorted(chosen)), min_size=1, max_size=2, unique=True))
    values = {name: chosen[name] for name in names}
    narrow = space.fix(values)
    agree = [p for p in everything if all(p.get(n, v) == v for n, v in values.items())]
    assert _texts(narrow.enumerate()) == _texts(agree)
    assert json.dumps(narrow.default, sort_keys=True) in _texts(agree)
    again = Space.from_dict(json.loads(json.dumps(narrow.to_dict())))
    assert _texts(again.enumerate()) == _texts(agree)


@settings(max_examples=40, deadline=None)
@given(finite_spaces(), st.integers(0, 2**31))
def test_encode_and_json_lose_nothing(cs: ConfigSpace.ConfigurationSpace, seed: int) -> None:
    space = Space(cs)
    rng = np.random.default_rng(seed)
    samples = space.sample(20, rng)
    again = Space.from_dict(json.loads(json.dumps(space.to_dict())))
    assert np.array_equal(
        space.encode(samples), again.encode(json.loads(json.dumps(samples))), equal_nan=True
    )


RELATIONS = [
    (ConfigSpace.ForbiddenLessThanRelation, lambda a, b: a < b),
    (ConfigSpace.ForbiddenLessThanEqualsRelation, lambda a, b: a <= b),
    (ConfigSpace.ForbiddenEqualsRelation, lambda a, b: a == b),
    (ConfigSpace.ForbiddenGreaterThanRelation, lambda a, b: a > b),
    (ConfigSpace.ForbiddenGreaterThanEqualsRelation, lambda a, b: a >= b),
]


@pytest.mark.parametrize(("relation", "holds"), RELATIONS, ids=lambda r: getattr(r, "__name__", ""))
def test_forbidden_relations(relation: Any, holds: Any) -> None:
    allowed = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if not holds(a, b)]
    cs = ConfigSpace.ConfigurationSpace()
    a, b = (
        ConfigSpace.Integer(name, (1, 3), default=default)
        for name, default in zip("ab", allowed[0], strict=True)
    )
    cs.add(a, b, relation(a, b))
    space = Space(cs)
    assert {(p["a"], p["b"]) for p in space.enumerate()} == set(allowed)
    assert {(p["a"], p["b"]) for p in space.sample(200, np.random.default_rng(0))} == set(allowed)
    fixed = space.fix({"a": allowed[-1][0]})
    assert {(p["a"], p["b"]) for p in fixed.enumerate()} == {v for v in allowed if v[0] == allowed[-1][0]}


@pytest.mark.parametrize(
    ("clause", "forbidden"),
    [
        (lambda h: ConfigSpace.ForbiddenLessThanClause(h, 3), {1, 2}),
        (lambda h: ConfigSpace.ForbiddenLessThanEqualsClause(h, 3), {1, 2, 3}),
        (lambda h: ConfigSpace.ForbiddenGreaterThanClause(h, 3), {4, 5}),
        (lambda h: ConfigSpace.ForbiddenGreaterThanEqualsClause(h, 4), {4, 5}),
        (lambda h: ConfigSpace.ForbiddenInClause(h, [1, 5]), {1, 5}),
        (
            lambda h: ConfigSpace.ForbiddenOrConjunction(
                ConfigSpace.ForbiddenEqualsClause(h, 1), ConfigSpace.ForbiddenInClause(h, [2])
            ),
            {1, 2},
        ),
    ],
)
def test_forbidden_clauses(clause: Any, forbidden: set[int]) -> None:
    cs = ConfigSpace.ConfigurationSpace()
    n = ConfigSpace.Integer("n", (1, 5), default=min({1, 2, 3, 4, 5} - forbidden))
    cs.add(n, clause(n))
    space = Space.from_dict(json.loads(json.dumps(Space(cs).to_dict())))
    assert {p["n"] for p in space.enumerate()} == {1, 2, 3, 4, 5} - forbidden
    with pytest.raises(ValueError, match="forbidden by the clause"):
        space.validate({"n": min(forbidden)})
    with pytest.raises(ValueError, match="forbidden clause excludes"):
        space.fix({"n": min(forbidden)})


def test_clauses_that_leave_little_are_sampled_in_batches() -> None:
    cs = ConfigSpace.ConfigurationSpace()
    parts = [ConfigSpace.Integer(f"h{i}", (0, 9), default=0) for i in range(3)]
    cs.add(parts, [ConfigSpace.ForbiddenGreaterThanClause(h, 0) for h in parts])
    samples = Space(cs).sample(50, np.random.default_rng(0))  # one draw in a thousand is allowed
    assert samples == [{"h0": 0, "h1": 0, "h2": 0}] * 50


def test_clauses_that_leave_next_to_nothing_say_so() -> None:
    cs = ConfigSpace.ConfigurationSpace()
    x = ConfigSpace.Float("x", (0.0, 1.0), default=0.0)
    cs.add(x, ConfigSpace.ForbiddenGreaterThanClause(x, 1e-7))
    with pytest.raises(ValueError, match=r"x > 1e-07 left 0 of 100000 samples: too few to search"):
        Space(cs).sample(5, np.random.default_rng(0))


def test_a_space_that_nothing_satisfies_says_so_at_once() -> None:
    cs = ConfigSpace.ConfigurationSpace()
    a, b, c = (ConfigSpace.Integer(name, (0, 1), default=0) for name in "abc")
    cs.add(a, b, c)
    for values in [(1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]:
        literals = [ConfigSpace.ForbiddenEqualsClause(h, v) for h, v in zip((a, b, c), values, strict=True)]
        cs.add(ConfigSpace.ForbiddenAndConjunction(*literals))
    assert Space(cs).fix({"a": 0}).default == {"a": 0, "b": 0, "c": 0}
    with pytest.raises(
        ValueError, match=r"no configuration is left: whatever .*Remove a clause, or fix other"
    ):
        Space(cs).fix({"a": 1})


def test_priors_that_exclude_what_clauses_allow_say_so() -> None:
    cs = ConfigSpace.ConfigurationSpace()
    op = ConfigSpace.Categorical("op", ["a", "b"], weights=[0.0, 1.0], default="a")
    cs.add(op, ConfigSpace.ForbiddenEqualsClause(op, "b"))
    with pytest.raises(ValueError, match=r"no chance to what .* leaves allowed. Raise the weights"):
        Space(cs).sample(1, np.random.default_rng(0))


@st.composite
def tied_spaces(draw: st.DrawFn) -> ConfigSpace.ConfigurationSpace:
    """Spaces with several clauses over hyperparameters of all priors, some of them conditional."""
    weights = draw(st.lists(st.integers(1, 9), min_size=3, max_size=3))
    parts: list[Any] = [
        ConfigSpace.Categorical("op", ["a", "b", "c"], weights=weights, default="a"),
        ConfigSpace.Integer("n", (1, 3), default=1),
        ConfigSpace.OrdinalHyperparameter("size", [1, 2, 4]),
        ConfigSpace.Categorical("flag", [False, True], default=False),
        ConfigSpace.Integer("log", (1, 4), log=True, default=1),
        ConfigSpace.Integer("bell", (1, 4), distribution=ConfigSpace.Normal(2, 1), default=1),
    ]
    cs = ConfigSpace.ConfigurationSpace()
    cs.add(parts)
    child = draw(st.sampled_from(parts[1:]))
    if draw(st.booleans()):
        cs.add(ConfigSpace.NotEqualsCondition(child, parts[0], draw(st.sampled_from(["a", "b"]))))
    for _ in range(draw(st.integers(1, 4))):
        some = draw(st.lists(st.sampled_from(parts), min_size=1, max_size=3, unique_by=lambda h: h.name))
        # Never the default value, the first one, which ConfigSpace does not allow to forbid.
        literals = [
            ConfigSpace.ForbiddenInClause(h, draw(st.sampled_from([_all(h)[1:2], _all(h)[1:]]))) for h in some
        ]
        cs.add(literals[0] if len(literals) == 1 else ConfigSpace.ForbiddenAndConjunction(*literals))
    return cs


def _all(hyperparameter: Any) -> list[Any]:
    for name in ("choices", "sequence"):
        if hasattr(hyperparameter, name):
            return list(getattr(hyperparameter, name))
    return list(range(hyperparameter.lower, hyperparameter.upper + 1))


@settings(max_examples=15, deadline=None)
@given(tied_spaces())
def test_samples_follow_the_prior_given_the_clauses(cs: ConfigSpace.ConfigurationSpace) -> None:
    """Against the naive way: draw everything, throw away what is forbidden."""
    space = Space(cs)
    table, rng = space._table, np.random.default_rng(0)
    drawn = table.deactivate(space._draw(rng)(20_000))
    naive = drawn[table.allowed(drawn)]
    rng = np.random.default_rng(1)
    clever = table.sample(len(naive), space._draw(rng), rng)
    assert table.allowed(clever).all()
    counts: dict[bytes, list[int]] = {}
    for which, rows in enumerate((naive, clever)):
        kinds, times = np.unique(np.nan_to_num(rows, nan=-1.0), axis=0, return_counts=True)
        for kind, count in zip(kinds, times.tolist(), strict=True):
            counts.setdefault(kind.tobytes(), [0, 0])[which] = count
    table_of_counts = np.array([c for c in counts.values() if sum(c) >= 10])
    # Each term of the statistic has mean 1 where the distributions are equal (two samples of one size).
    a, b = table_of_counts.T.astype(float)
    statistic, freedom = ((a - b) ** 2 / (a + b)).sum(), len(a)
    assert statistic < freedom + 12 * np.sqrt(2 * freedom)


def test_fifty_clauses_on_pairs_are_sampled_without_rejecting_everything() -> None:
    cs = ConfigSpace.ConfigurationSpace()
    for i in range(50):
        make = ConfigSpace.Float if i % 2 else ConfigSpace.Integer
        a, b = make(f"a{i}", (0, 9)), make(f"b{i}", (0, 9))
        cs.add(a, b, ConfigSpace.ForbiddenGreaterThanRelation(a, b))
    samples = Space(cs).sample(300, np.random.default_rng(0))  # one draw in 10¹⁵ is allowed
    assert all(p[f"a{i}"] <= p[f"b{i}"] for p in samples for i in range(50))
    # Uniform on the triangle below: a third of the range on average.
    assert np.mean([p["a1"] for p in samples]) == pytest.approx(3.0, abs=0.4)


def test_weights_and_priors_are_respected() -> None:
    cs = ConfigSpace.ConfigurationSpace()
    cs.add(
        ConfigSpace.Categorical("op", ["rare", "often"], weights=[0.1, 0.9]),
        ConfigSpace.Float("x", (0.0, 1.0), distribution=ConfigSpace.Normal(0.8, 0.05)),
        ConfigSpace.Float("lr", (1e-5, 1.0), log=True),
    )
    samples = Space(cs).sample(4000, np.random.default_rng(0))
    assert np.mean([p["op"] == "often" for p in samples]) == pytest.approx(0.9, abs=0.02)
    assert np.mean([p["x"] for p in samples]) == pytest.approx(0.8, abs=0.01)
    assert np.mean(np.log10([p["lr"] for p in samples])) == pytest.approx(-2.5, abs=0.1)


def test_neighbours_never_have_a_category_of_weight_zero() -> None:
    cs = ConfigSpace.ConfigurationSpace()
    cs.add(
        ConfigSpace.Categorical("op", ["never", "a", "b"], weights=[0, 1, 1], default="a"),
        ConfigSpace.Categorical("only", ["never", "a"], weights=[0, 1], default="a"),
    )
    neighbours = Space(cs).neighbours({"op": "a", "only": "a"}, np.random.default_rng(0), 50)
    assert neighbours == [{"op": "b", "only": "a"}] * 50


def test_encoding_scales_numbers_and_orders() -> None:
    cs = ConfigSpace.ConfigurationSpace()
    cs.add(
        ConfigSpace.Float("lr", (1e-4, 1e-2), log=True),
        ConfigSpace.Integer("n", (1, 5)),
        ConfigSpace.OrdinalHyperparameter("size", [16, 32, 64]),
        ConfigSpace.Categorical("op", ["a", "b"]),
        ConfigSpace.Constant("c", 1),
    )
    space = Space(cs)
    row = dict(
        zip(
            space.encode_names,
            space.encode([{"lr": 1e-3, "n": 2, "size": 64, "op": "b", "c": 1}])[0],
            strict=True,
        )
    )
    assert row == {"lr": pytest.approx(0.5), "n": 0.25, "size": 1.0, "op=a": 0.0, "op=b": 1.0}


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("value", [1, 5, 64])
def test_a_number_never_mutates_to_itself(log: bool, value: int) -> None:
    space = Space(ConfigSpace.ConfigurationSpace({"n": ConfigSpace.Integer("n", (1, 64), log=log)}))
    values = {p["n"] for p in space.neighbours({"n": value}, np.random.default_rng(0), 300)}
    assert value not in values
    assert values <= set(range(1, 65))
    assert len(values) > 5


def test_true_is_not_one() -> None:
    space = Space(
        ConfigSpace.ConfigurationSpace(
            {"flag": ConfigSpace.Categorical("flag", [True, False]), "n": ConfigSpace.Integer("n", (0, 1))}
        )
    )
    assert space.validate({"flag": np.True_, "n": 1.0}) == {"flag": True, "n": 1}
    with pytest.raises(ValueError, match="flag=1"):
        space.validate({"flag": 1, "n": 1})
    with pytest.raises(ValueError, match="n=True"):
        space.validate({"flag": True, "n": True})


def test_errors_name_value_rule_and_remedy() -> None:
    cs = ConfigSpace.ConfigurationSpace()
    kind, momentum = (
        ConfigSpace.Categorical("optimizer", ["sgd", "adamw"]),
        ConfigSpace.Float("momentum", (0.5, 0.9)),
    )
    cs.add(kind, momentum, ConfigSpace.EqualsCondition(momentum, kind, "sgd"))
    space = Space(cs)
    with pytest.raises(ValueError, match=r"momentum=2\.0: must lie in \[0\.5, 0\.9\]"):
        space.validate({"optimizer": "sgd", "momentum": 2.0})
    with pytest.raises(ValueError, match="inactive here"):
        space.validate({"optimizer": "adamw", "momentum": 0.7})
    with pytest.raises(ValueError, match="Did you mean 'momentum'"):
        space.validate({"optimizer": "sgd", "momentun": 0.7})
    with pytest.raises(ValueError, match="inactive for good"):
        space.fix({"optimizer": "adamw", "momentum": 0.7})
    rng: Any = np.random.default_rng(0)
    for n in (-1, 2.5, "3", True):
        with pytest.raises(ValueError, match=r"n=.*: must be a whole number, and must not be negative"):
            space.sample(n, rng)
    for rng in (0, None, np.random.RandomState(0)):
        with pytest.raises(ValueError, match=r"Use np\.random\.default_rng\(0\)"):
            space.sample(1, rng)
        with pytest.raises(ValueError, match=r"Use np\.random\.default_rng\(0\)"):
            space.neighbours(space.default, rng, 1)
    with pytest.raises(ValueError, match=r"optimizer=\('sgd', 'sgd'\): must be one of"):
        space.fix({"optimizer": np.array(["sgd", "sgd"])})


def test_fix_removes_what_can_never_be_active_and_its_children() -> None:
    cs = ConfigSpace.ConfigurationSpace()
    a, b, c = (ConfigSpace.Categorical(n, ["x", "y"]) for n in "abc")
    cs.add(a, b, c, ConfigSpace.EqualsCondition(b, a, "x"), ConfigSpace.EqualsCondition(c, b, "x"))
    assert Space(cs).fix({"a": "y"}).names == ("a",)
    always = Space(cs).fix({"a": "x", "b": "x"})
    assert len(always.configuration_space.conditions) == 0
    # b is fixed but not always there: c follows it.
    sometimes = Space(cs).fix({"b": "x"})
    assert sorted(map(sorted, sometimes.enumerate())) == [["a"], ["a", "b", "c"], ["a", "b", "c"]]
    assert isinstance(sometimes.configuration_space["b"], ConfigSpace.Constant)


def test_a_space_of_many_hyperparameters_stays_quick_to_build() -> None:
    space = Space(ConfigSpace.ConfigurationSpace({f"h{i}": (0.0, 1.0) for i in range(301)}))
    assert space.encode(space.sample(1000, np.random.default_rng(0))).shape == (1000, 301)


def test_choices_that_are_objects_cannot_be_stored() -> None:
    space = Space(ConfigSpace.ConfigurationSpace({"f": ConfigSpace.Categorical("f", [max, min])}))
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        space.to_dict()


def test_whole_numbers_that_would_lose_digits_are_refused() -> None:
    exact = Space(ConfigSpace.ConfigurationSpace({"n": ConfigSpace.Integer("n", (-(2**53), 2**53))}))
    assert exact.fix({"n": 2**53 - 1}).default == {"n": 2**53 - 1}
    with pytest.raises(ValueError, match=r"n: reaches from 0 to .* would lose digits"):
        Space(ConfigSpace.ConfigurationSpace({"n": ConfigSpace.Integer("n", (0, 2**62))}))


def test_choices_that_cannot_be_looked_up_are_refused() -> None:
    choice = ConfigSpace.Categorical("f", [{"units": 1}, {"units": 2}])
    with pytest.raises(ValueError, match=r"f: \{'units': 1\} cannot be a choice"):
        Space(ConfigSpace.ConfigurationSpace({"f": choice}))


def test_not_a_space() -> None:
    with pytest.raises(ValueError, match=r"must be a ConfigSpace\.ConfigurationSpace"):
        Space({"lr": (0.0, 1.0)})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not the description of a space"):
        Space.from_dict({"lr": 1})
    with pytest.raises(ValueError, match="must be a function"):
        Space(ConfigSpace.ConfigurationSpace({"a": (0, 1)}), build="net")  # type: ignore[arg-type]


def test_no_samples_are_no_samples() -> None:
    cs = ConfigSpace.ConfigurationSpace()
    a, b = ConfigSpace.Float("a", (0, 1)), ConfigSpace.Float("b", (0, 1))
    cs.add(a, b, ConfigSpace.ForbiddenGreaterThanRelation(a, b))
    assert Space(cs).sample(0, np.random.default_rng(0)) == []
